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
    list_events,
    ports::{Entry, Index, OrderViews, ReadModel, SaveError},
    search_orders,
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

/// Brings a read model up to these commits at least, which follow one another in their stream.
///
/// What it already has changes nothing. When the first of them comes too early for the order's view, what is missing is read
/// from the event table, so the order of delivery does not matter. Of another aggregate's stream, only the index has
/// something.
pub async fn project(
    store: &impl EventStore,
    model: &ReadModel<impl OrderViews, impl Index>,
    commits: &[Commit],
) -> Result<(), ProjectError> {
    let (Some(first), Some(last)) = (commits.first(), commits.last()) else { return Ok(()) };
    let events: Vec<Entry> = commits.iter().flat_map(list_events::entries_of).collect();
    model.index.add(&events).await?;
    let Some(order_id) = first.stream.order_id() else { return Ok(()) };
    let (view, placed) = bring_up(store, model, order_id, first, last, commits).await?;
    match view {
        // A profile that changes while the order is placed may miss it: whoever sees the order's first event looks again.
        Some(view) if first.version == 1 => {
            let customer = customer_of(store, &view).await?;
            if placed && customer.version() == view.customer.version {
                return Ok(());
            }
            refresh_customer(model, view, &customer).await
        }
        Some(_) | None => Ok(()),
    }
}

/// Answers the view, and whether it was not there before.
async fn bring_up(
    store: &impl EventStore,
    model: &ReadModel<impl OrderViews, impl Index>,
    order_id: OrderId,
    first: &Commit,
    last: &Commit,
    commits: &[Commit],
) -> Result<(Option<OrderView>, bool), ProjectError> {
    for _ in 0..MAX_ATTEMPTS {
        let stored = model.views.load(order_id).await?;
        let have = stored.as_ref().map_or(0, |view| view.version);
        if last.last_version() <= have {
            return Ok((stored, false));
        }
        let view = if first.version <= have.saturating_add(1) {
            fold(order_id, stored.clone(), commits)?
        } else {
            fold(order_id, stored.clone(), &store.read(&first.stream, have).await?)?
        };
        let Some(view) = view else { return Ok((None, false)) };
        let (view, saved) = if let Some(stored) = &stored {
            let saved = model.views.save(&view, stored).await;
            (view, saved)
        } else {
            let customer = customer_of(store, &view).await?;
            let view = view.with_customer(customer.customer(), customer.version());
            // Whatever has a view can be found.
            model.index.add(&search_orders::entries_of(&view)).await?;
            let saved = model.views.place(&view).await;
            (view, saved)
        };
        match saved {
            Ok(()) => return Ok((Some(view), stored.is_none())),
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
///
/// Two of them at the same order may take out of the index what the other needs: so whoever takes something out looks at
/// the view again, and whoever finds nothing to do may come after one that was cut short there.
async fn refresh_customer<S: EventStore>(
    model: &ReadModel<impl OrderViews, impl Index>,
    view: OrderView,
    customer: &CustomerStream<'_, S>,
) -> Result<(), ProjectError> {
    let ReadModel { views, index } = model;
    let mut view = Some(view);
    for _ in 0..MAX_ATTEMPTS {
        let Some(stored) = view else { return Ok(()) };
        let refreshed = stored.clone().with_customer(customer.customer(), customer.version());
        let (before, after) = (search_orders::entries_of(&stored), search_orders::entries_of(&refreshed));
        if refreshed == stored {
            return Ok(index.add(&after).await?);
        }
        index.add(&without(&after, &before)).await?;
        match views.save(&refreshed, &stored).await {
            Ok(()) => {
                let gone = without(&before, &after);
                index.remove(&gone).await?;
                let now = views.load(stored.id).await?.map(|view| search_orders::entries_of(&view));
                let wanted = now.unwrap_or_default().into_iter().filter(|entry| has(&gone, entry));
                return Ok(index.add(&wanted.collect::<Vec<_>>()).await?);
            }
            Err(SaveError::Superseded) => view = views.load(stored.id).await?,
            Err(SaveError::Unavailable(error)) => return Err(error.into()),
        }
    }
    Err(ProjectError::Contended)
}

/// Those entries that are not among the others, or have another text there.
fn without(entries: &[Entry], others: &[Entry]) -> Vec<Entry> {
    entries.iter().filter(|entry| !others.contains(entry)).cloned().collect()
}

/// Whether one of these stands where this one does.
fn has(entries: &[Entry], wanted: &Entry) -> bool {
    entries.iter().any(|entry| entry.term == wanted.term && entry.posting.position() == wanted.posting.position())
}

/// Brings the customer up to date in all their orders, and answers how many these are.
///
/// An order that is placed meanwhile is not among them; [`project`] looks at the customer once more after placing it.
pub async fn project_customer(
    store: &impl EventStore,
    model: &ReadModel<impl OrderViews, impl Index>,
    id: &CustomerId,
) -> Result<usize, ProjectError> {
    let customer = &CustomerStream::open(store, id.clone()).await?;
    let orders = model.views.customer_orders(id, 0, usize::MAX).await?;
    let refresh = |order| async move {
        match model.views.load(order).await? {
            Some(view) => refresh_customer(model, view, customer).await,
            None => Ok(()),
        }
    };
    stream::iter(orders.ids).map(refresh).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    Ok(orders.total)
}
