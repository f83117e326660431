//! Keeps the order views up to date, on plumbing that repeats, delays and reorders.

use domain::{
    ids::{CustomerId, OrderId},
    order_view::OrderView,
    stored_event::UnreadableEvent,
};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::{
    event_store::{Commit, EventStore, Unavailable},
    event_stream::{CustomerStream, LoadError},
    ports::{OrderViews, SaveError},
};

/// How often a projection starts over because another one saved first.
const MAX_ATTEMPTS: u32 = 5;

/// How many orders of one customer are brought up to date at the same time.
const AT_ONCE: usize = 16;

/// Why something is not in the views.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    #[error("the event cannot be read")]
    Unreadable(#[from] UnreadableEvent),
    #[error("other projections keep saving first")]
    Contended,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl From<LoadError> for ProjectError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Unavailable(error) => error.into(),
            LoadError::Unreadable(error) => error.into(),
        }
    }
}

/// Brings the view of an order up to these commits at least, which follow one another in its stream.
///
/// What the view already has changes nothing. When the first of them comes too early, what is missing is read from the
/// event table, so the order of delivery does not matter. Another aggregate's stream is none of its business.
pub async fn project(store: &impl EventStore, views: &impl OrderViews, commits: &[Commit]) -> Result<(), ProjectError> {
    let (Some(first), Some(last)) = (commits.first(), commits.last()) else { return Ok(()) };
    let Some(order_id) = first.stream.order_id() else { return Ok(()) };
    let view = bring_up(store, views, order_id, first, last, commits).await?;
    // A profile that changes while the order is placed may miss it: whoever sees the order's first event looks again.
    match view {
        Some(view) if first.version == 1 => {
            let customer = customer_of(store, &view).await?;
            refresh_customer(views, view, &customer).await
        }
        Some(_) | None => Ok(()),
    }
}

async fn bring_up(
    store: &impl EventStore,
    views: &impl OrderViews,
    order_id: OrderId,
    first: &Commit,
    last: &Commit,
    commits: &[Commit],
) -> Result<Option<OrderView>, ProjectError> {
    for _ in 0..MAX_ATTEMPTS {
        let stored = views.load(order_id).await?;
        let have = stored.as_ref().map_or(0, |view| view.version);
        if last.last_version() <= have {
            return Ok(stored);
        }
        let view = if first.version <= have.saturating_add(1) {
            fold(order_id, stored.clone(), commits)?
        } else {
            fold(order_id, stored.clone(), &store.read(&first.stream, have).await?)?
        };
        let Some(view) = view else { return Ok(None) };
        let (view, saved) = if let Some(stored) = &stored {
            let saved = views.save(&view, stored).await;
            (view, saved)
        } else {
            let customer = customer_of(store, &view).await?;
            let view = view.with_customer(customer.customer(), customer.version());
            let saved = views.place(&view).await;
            (view, saved)
        };
        match saved {
            Ok(()) => return Ok(Some(view)),
            Err(SaveError::Superseded) => {}
            Err(SaveError::Unavailable(error)) => return Err(error.into()),
        }
    }
    Err(ProjectError::Contended)
}

fn fold(id: OrderId, view: Option<OrderView>, commits: &[Commit]) -> Result<Option<OrderView>, UnreadableEvent> {
    let mut view = view;
    for commit in commits {
        for (version, event) in commit.numbered() {
            if view.as_ref().map_or(0, |view| view.version) < version {
                view = OrderView::evolve(view, id, &event.read()?, version, commit.metadata.occurred_at);
            }
        }
    }
    Ok(view)
}

async fn customer_of<'s, S: EventStore>(store: &'s S, view: &OrderView) -> Result<CustomerStream<'s, S>, LoadError> {
    CustomerStream::open(store, view.customer.id.clone()).await
}

/// Puts the customer, as loaded, into an order's view, unless that knows the customer better already.
async fn refresh_customer<S: EventStore>(
    views: &impl OrderViews,
    view: OrderView,
    customer: &CustomerStream<'_, S>,
) -> Result<(), ProjectError> {
    let mut view = Some(view);
    for _ in 0..MAX_ATTEMPTS {
        let Some(stored) = view else { return Ok(()) };
        let refreshed = stored.clone().with_customer(customer.customer(), customer.version());
        if refreshed == stored {
            return Ok(());
        }
        match views.save(&refreshed, &stored).await {
            Ok(()) => return Ok(()),
            Err(SaveError::Superseded) => view = views.load(stored.id).await?,
            Err(SaveError::Unavailable(error)) => return Err(error.into()),
        }
    }
    Err(ProjectError::Contended)
}

/// Brings the customer up to date in the views of all their orders, and answers how many these are.
///
/// An order that is placed meanwhile is not among them; [`project`] looks at the customer once more after placing it.
pub async fn project_customer(
    store: &impl EventStore,
    views: &impl OrderViews,
    id: &CustomerId,
) -> Result<usize, ProjectError> {
    let customer = &CustomerStream::open(store, id.clone()).await?;
    let orders = views.customer_orders(id, 0, usize::MAX).await?;
    let refresh = |order| async move {
        match views.load(order).await? {
            Some(view) => refresh_customer(views, view, customer).await,
            None => Ok(()),
        }
    };
    stream::iter(orders.ids).map(refresh).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    Ok(orders.total)
}
