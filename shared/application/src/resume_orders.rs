//! Staff let all orders go on that are stuck at one step, once its cause is mended.

use chrono::{DateTime, Utc};
use domain::{
    ids::OrderId,
    order::{
        Order, OrderEvent,
        resume::{ResumeRejection, resume},
    },
    text::Text,
};
use futures_util::{StreamExt, stream};

use crate::{
    event_store::{EventStore, Metadata, Unavailable},
    event_stream::{CommandError, OrderStream},
    ports::{OrderViews, Standing, VIEWS_MAX},
};

/// How many orders one call lets go on at most, so that what has only just come back is not met by all of them at once.
const RESUMED_MAX: usize = 500;

/// How many pages of orders that wait one call looks through.
const PAGES_MAX: usize = 100;

/// How many orders are decided on at the same time.
const AT_ONCE: usize = 8;

/// Which orders are to go on, and why.
#[derive(Debug, Clone)]
pub struct ResumeOrders {
    /// The step at which they are stuck, and the error, as their attention names them; any error without one.
    pub step: String,
    pub error: Option<String>,
    pub reason: Text<500>,
    /// Only says which orders these are.
    pub dry_run: bool,
}

/// What became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The orders that are stuck like that, as far as they were looked through.
    pub matching: Vec<OrderId>,
    /// How many of them go on, now or since the same was asked before.
    pub resumed: usize,
    /// Those that could not be decided on, and are still stuck; and those that another request has let go on under the same key.
    pub failed: usize,
    /// There may be others: the same may be asked again.
    pub more: bool,
}

/// Looks through the views of the orders that wait, and decides on each as its events make it. `metadata` is of the command
/// on one order.
pub async fn resume_orders(
    store: &impl EventStore,
    views: &impl OrderViews,
    command: &ResumeOrders,
    metadata: impl Fn(OrderId) -> Metadata,
    now: DateTime<Utc>,
) -> Result<Outcome, Unavailable> {
    let mut outcome = Outcome { more: true, ..Outcome::default() };
    let mut after = None;
    for _ in 0..PAGES_MAX {
        // No more than may still go on, whichever of them are stuck like that.
        let size = VIEWS_MAX.min(RESUMED_MAX.saturating_sub(outcome.resumed));
        let page = views.open_orders(Standing::Waiting, now, after.as_deref(), size).await?;
        let mut stuck = Vec::new();
        for view in views.load_many(&page.ids).await? {
            if view.attention.is_some_and(|attention| command.is_for(&attention.step, &attention.reason)) {
                stuck.push(view.id);
            }
        }
        outcome.matching.extend_from_slice(&stuck);
        if !command.dry_run {
            let go_on = |id| go_on(store, id, metadata(id), command);
            let answers: Vec<_> = stream::iter(stuck).map(go_on).buffer_unordered(AT_ONCE).collect().await;
            for answer in answers {
                let counted = match answer {
                    Ok(true) => &mut outcome.resumed,
                    // It has gone on, or is stuck elsewhere by now.
                    Ok(false) => continue,
                    Err(_) => &mut outcome.failed,
                };
                *counted = counted.saturating_add(1);
            }
        }
        after = page.next;
        outcome.more = after.is_some();
        if !outcome.more || outcome.resumed >= RESUMED_MAX {
            break;
        }
    }
    Ok(outcome)
}

impl ResumeOrders {
    fn is_for(&self, step: &str, error: &str) -> bool {
        step == self.step && self.error.as_deref().is_none_or(|wanted| wanted == error)
    }

    fn decide(&self, order: &Order) -> Result<Vec<OrderEvent>, ResumeRejection> {
        match &order.attention {
            Some(stuck) if self.is_for(&stuck.step, &stuck.reason) => resume(order, &self.reason),
            _ => Err(ResumeRejection::NotStuck),
        }
    }
}

async fn go_on(
    store: &impl EventStore,
    id: OrderId,
    metadata: Metadata,
    command: &ResumeOrders,
) -> Result<bool, CommandError<ResumeRejection>> {
    let mut stream = OrderStream::open(store, id).await?;
    match stream.commit(&metadata, |order| command.decide(order)).await {
        Ok(_) => Ok(true),
        Err(CommandError::Rejected(_)) => Ok(false),
        Err(error) => Err(error),
    }
}
