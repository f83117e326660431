//! Every hour → `BooksCompared` for each order in doubt that has been at rest for a day: its books are compared with its providers'.
//!
//! What it does with one order is [`application::compare_books`]. An operator may call it with a shorter patience, or for one
//! order, also one that waits for a person, or that only the operator doubts.

use std::time::{Duration, SystemTime};

use adapters::{
    app_config, aws, cloud_map,
    dynamodb::{DynamoEventStore, DynamoReadModel, bookkeepers},
    lambda::{self, Invocation, Kind},
};
use application::{
    compare_books::{CompareError, Finding, PATIENCE, compare_books},
    event_store::Unavailable,
    ports::{OpenOrders, OrderViews, Standing},
    project_orders::{ProjectError, catch_up},
};
use aws_sdk_dynamodb::Client;
use chrono::{TimeDelta, Utc};
use domain::ids::OrderId;
use futures_util::{StreamExt, stream};
use lambda_runtime::{Context, LambdaEvent, service_fn};
use providers::{Bookkeepers, Registry};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

/// How many orders are looked at between two looks at the clock.
const PAGE: usize = 16;

/// How many of them at the same time. Providers have other things to do.
const AT_ONCE: usize = 4;

/// No page is begun when less time than this is left, so that none ends half looked at: each of its orders may wait a minute and a
/// half for all the answers of providers that are slow.
const MARGIN: Duration = Duration::from_mins(7);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let config = aws::config();
    let settings = app_config::settings(&config)?;
    let registry = Registry::new(cloud_map::of_process(&config)?);
    let client = Client::new(&config);
    let store = DynamoEventStore::new(client.clone(), lambda::variable("EVENTS_TABLE")?);
    let model =
        DynamoReadModel::new(client.clone(), lambda::variable("ORDERS_TABLE")?, lambda::variable("INDEX_TABLE")?);
    let books = Bookkeepers::new(bookkeepers(&client)?, &settings, &registry);
    let compare = async |id, patience, doubted| {
        let (payments, inventories, carriers) = books.now().await?;
        let providers = (&*payments, &*inventories, &*carriers);
        let compared = compare_books(&store, providers, id, patience, doubted, Utc::now());
        let finding = lambda::correlating(format!("compare-books {id}"), compared).await?;
        // Its view is behind, or it would not have been among those to be compared.
        if finding == Finding::NotToBeCompared {
            for generation in model.written().await? {
                catch_up(&store, &generation, id).await?;
            }
        }
        Ok::<_, LookError>(finding)
    };
    lambda_runtime::run(service_fn(async |event: LambdaEvent<CompareBooks>| {
        let LambdaEvent { payload, context } = event;
        let work = async {
            let live = model.live().await?;
            Box::pin(handle(&live.views, compare, payload, &context)).await
        };
        Invocation::new(&context, Kind::Consumer, None).run(work).await
    }))
    .await
}

/// Why an order could not be compared.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Compare(#[from] CompareError),
    #[error("its view cannot be brought up")]
    Project(#[from] ProjectError),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The schedule sends an event of its own, of which nothing is needed.
#[derive(Debug, Default, Deserialize)]
struct CompareBooks {
    patience_seconds: Option<u32>,
    order_id: Option<OrderId>,
    /// Compares that order also if none of its events leaves it in doubt: after a restore to an earlier time.
    #[serde(default)]
    doubted: bool,
}

/// How many orders were looked at, and what was found.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Summary {
    looked_at: usize,
    agreed: usize,
    /// Of those that agree, how many had something that came late.
    late: usize,
    flagged: usize,
    failed: usize,
    /// There was no time for all; the next run goes on with the oldest.
    more: bool,
}

async fn handle<E: std::error::Error + 'static>(
    views: &impl OrderViews,
    compare: impl AsyncFn(OrderId, TimeDelta, bool) -> Result<Finding, E>,
    CompareBooks { patience_seconds, order_id, doubted }: CompareBooks,
    context: &Context,
) -> Result<Summary, lambda_runtime::Error> {
    let patience = patience_seconds.map_or(PATIENCE, |seconds| TimeDelta::seconds(seconds.into()));
    let now = Utc::now();
    let before = now.checked_sub_signed(patience).unwrap_or(now);
    let mut summary = Summary::default();
    if let Some(id) = order_id {
        summary.take(id, compare(id, patience, doubted).await);
        return summary.end();
    }
    let mut after = None;
    loop {
        if time_left(context) <= MARGIN {
            summary.more = true;
            break;
        }
        let OpenOrders { ids, next } = views.open_orders(Standing::InDoubt, before, after.as_deref(), PAGE).await?;
        let look = |id| {
            let compared = compare(id, patience, false);
            async move { (id, compared.await) }
        };
        let compared: Vec<_> = stream::iter(ids).map(look).buffer_unordered(AT_ONCE).collect().await;
        for (id, outcome) in compared {
            summary.take(id, outcome);
        }
        let Some(next) = next else { break };
        after = Some(next);
    }
    summary.end()
}

impl Summary {
    fn take<E: std::error::Error + 'static>(&mut self, order_id: OrderId, outcome: Result<Finding, E>) {
        self.looked_at = self.looked_at.saturating_add(1);
        let counted = match outcome {
            Ok(Finding::Moving | Finding::NotToBeCompared | Finding::Waiting) => return,
            Ok(Finding::Agreed(late)) => {
                if !late.is_empty() {
                    self.late = self.late.saturating_add(1);
                    warn!(%order_id, ?late, "what had come late is undone or recorded");
                }
                &mut self.agreed
            }
            Ok(Finding::Flagged(attention)) => {
                lambda::order_needs_attention(order_id, &attention);
                &mut self.flagged
            }
            Err(error) => {
                warn!(%order_id, error = lambda::chain(&error), "books not compared");
                &mut self.failed
            }
        };
        *counted = counted.saturating_add(1);
    }

    /// The next run tries again; the alarm on this function's errors rings if there is no end to it.
    fn end(self) -> Result<Self, lambda_runtime::Error> {
        let Self { looked_at, agreed, late, flagged, failed, more } = self;
        info!(looked_at, agreed, late, flagged, failed, more, "books compared");
        if failed == 0 { Ok(self) } else { Err(format!("{failed} of {looked_at} orders could not be compared").into()) }
    }
}

fn time_left(context: &Context) -> Duration {
    context.deadline().duration_since(SystemTime::now()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::{sync::Mutex, time::UNIX_EPOCH};

    use adapters::samples::placed_order;
    use application::memory::MemoryOrderViews;
    use domain::{
        order::{LateEffect, OrderStatus},
        order_view::OrderView,
    };
    use uuid::Uuid;

    use super::*;

    fn context() -> Context {
        let deadline = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().saturating_add(MARGIN.saturating_mul(2));
        let mut context = Context::default();
        context.deadline = u64::try_from(deadline.as_millis()).unwrap();
        context
    }

    /// The view of a cancelled order that has been in doubt for so long.
    async fn in_doubt(views: &MemoryOrderViews, hours: i64) -> OrderId {
        let placed = placed_order();
        let (event, at) = (placed.events[0].read().unwrap(), placed.metadata.occurred_at);
        let mut view = OrderView::evolve(None, OrderId::new(Uuid::new_v4()), &event, 1, at).unwrap();
        view.status = OrderStatus::Cancelled;
        view.in_doubt_since = Utc::now().checked_sub_signed(TimeDelta::hours(hours));
        views.save(&view, None).await.unwrap();
        view.id
    }

    #[tokio::test]
    async fn those_are_compared_that_have_been_in_doubt_for_a_day() {
        let views = MemoryOrderViews::default();
        let mut due: Vec<OrderId> = Vec::new();
        for number in 0..120 {
            let id = in_doubt(&views, if number % 2 == 0 { 25 } else { 23 }).await;
            due.extend((number % 2 == 0).then_some(id));
        }
        let seen = Mutex::new(Vec::new());
        let compare = async |id, _, _| {
            seen.lock().unwrap().push(id);
            Ok::<_, LookError>(Finding::Agreed(vec![LateEffect::Charge]))
        };
        let summary = handle(&views, compare, CompareBooks::default(), &context()).await.unwrap();
        assert_eq!((summary.looked_at, summary.agreed, summary.late, summary.more), (60, 60, 60, false));
        let mut seen = seen.into_inner().unwrap();
        seen.sort_unstable();
        due.sort_unstable();
        assert_eq!(seen, due);
    }

    #[tokio::test]
    async fn one_that_fails_keeps_nobody_else_from_being_compared() {
        let views = MemoryOrderViews::default();
        for _ in 0..3 {
            in_doubt(&views, 25).await;
        }
        let calls = Mutex::new(0);
        let compare = async |_, _, _| {
            *calls.lock().unwrap() += 1;
            let down = Unavailable { what: "the payment provider", source: "down".into() };
            if *calls.lock().unwrap() == 1 { Err(LookError::from(down)) } else { Ok(Finding::Agreed(vec![])) }
        };
        let error = handle(&views, compare, CompareBooks::default(), &context()).await.unwrap_err();
        assert_eq!(error.to_string(), "1 of 3 orders could not be compared");
        assert_eq!(*calls.lock().unwrap(), 3);
    }

    #[tokio::test]
    async fn the_sample_event_asks_for_one_order_without_patience() {
        let event: CompareBooks = serde_json::from_str(include_str!("../../../events/compare-books.json")).unwrap();
        let id = event.order_id.unwrap();
        let compare = async |asked, patience, doubted| {
            assert_eq!((asked, patience, doubted), (id, TimeDelta::zero(), false));
            Ok::<_, LookError>(Finding::Agreed(vec![]))
        };
        let summary = handle(&MemoryOrderViews::default(), compare, event, &context()).await.unwrap();
        assert_eq!((summary.looked_at, summary.agreed), (1, 1));
    }

    #[tokio::test]
    async fn only_the_order_that_is_named_is_doubted() {
        let views = MemoryOrderViews::default();
        let id = in_doubt(&views, 25).await;
        for (order_id, agreed) in [(Some(id), 1), (None, 0)] {
            let compare = async |_, _, doubted| {
                Ok::<_, LookError>(if doubted { Finding::Agreed(vec![]) } else { Finding::NotToBeCompared })
            };
            let event = CompareBooks { order_id, doubted: true, ..CompareBooks::default() };
            let summary = handle(&views, compare, event, &context()).await.unwrap();
            assert_eq!((summary.looked_at, summary.agreed), (1, agreed));
        }
    }
}
