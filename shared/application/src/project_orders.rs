//! Keeps the order views up to date, on plumbing that repeats, delays and reorders.

use std::collections::BTreeSet;

use domain::{
    ids::{CustomerId, OrderId},
    order_view::OrderView,
    stored_event::UnreadableEvent,
};
use futures_util::{StreamExt, stream};

use crate::{
    event_store::{Commit, EventStore, StreamId, Unavailable},
    event_stream::{CustomerStream, LoadError},
    list_events,
    ports::{Entry, Index, OrderViews, ReadModel, SaveError},
    search_orders,
};

/// How often a projection starts over because another one saved first.
const MAX_ATTEMPTS: u32 = 5;

/// How many orders of one customer are brought up to date at the same time.
const AT_ONCE: usize = 16;

/// How many orders of one customer are brought up to date before a look whether their profile has changed once more.
const BETWEEN_LOOKS: usize = 16;

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

impl ProjectError {
    /// The stable name that operators' scripts know.
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "Unreadable",
            Self::Contended => "Contended",
            Self::Unavailable(_) => "Unavailable",
        }
    }
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

/// Projects what an order's view has missed, and says whether that was anything: two reads when it was not.
///
/// For an order whose last event is long enough ago: the view of one that moves is behind for a moment, and all is well.
pub async fn catch_up(
    store: &impl EventStore,
    model: &ReadModel<impl OrderViews, impl Index>,
    id: OrderId,
) -> Result<bool, ProjectError> {
    let have = model.views.load(id).await?.map_or(0, |view| view.version);
    let missed = store.read(&StreamId::order(id), have).await?;
    project(store, model, &missed).await?;
    Ok(!missed.is_empty())
}

/// Makes a read model say of an order what its events say, whatever it says now: nothing, something old, or something wrong.
/// Answers the number of the last event; `None`, and does nothing, when there is no such order.
///
/// All entries of the index are written, not only what has changed: for one order at a time, as a person asks for it.
pub async fn reproject_order(
    store: &impl EventStore,
    model: &ReadModel<impl OrderViews, impl Index>,
    id: OrderId,
) -> Result<Option<u64>, ProjectError> {
    let ReadModel { views, index, .. } = model;
    for _ in 0..MAX_ATTEMPTS {
        // In this order, so that the events are not older than the view.
        let stored = views.load(id).await?;
        let commits = store.read(&StreamId::order(id), 0).await?;
        let Some(view) = fold(id, None, &commits)? else { return Ok(None) };
        let customer = customer_of(store, &view).await?;
        let view = view.with_customer(customer.customer(), customer.version());
        let events = commits.iter().flat_map(list_events::entries_of);
        let entries: Vec<Entry> = events.chain(search_orders::entries_of(&view)).collect();
        let saved = if let Some(stored) = &stored {
            views.save(&view, stored).await
        } else {
            // Whatever has a view can be found.
            index.add(&entries).await?;
            views.place(&view).await
        };
        match saved {
            Ok(()) => {}
            Err(SaveError::Superseded) => continue,
            Err(SaveError::Unavailable(error)) => return Err(error.into()),
        }
        // In the order in which everybody changes the index of what has a view: see `refresh_customer`.
        if let Some(stored) = &stored {
            index.add(&entries).await?;
            index.remove(&gone(stored, &view)).await?;
        }
        if views.load(id).await?.is_some_and(|now| now.customer == view.customer) {
            return Ok(Some(view.version));
        }
    }
    Err(ProjectError::Contended)
}

/// The same of a customer: what the index has of their events, and the customer in all their orders that have a view.
/// Answers how many orders these are.
pub async fn reproject_customer(
    store: &impl EventStore,
    model: &ReadModel<impl OrderViews, impl Index>,
    id: &CustomerId,
) -> Result<usize, ProjectError> {
    project(store, model, &store.read(&StreamId::customer(id), 0).await?).await?;
    project_customer(store, model, id).await
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

/// Puts the customer, as loaded, into an order's view, unless that knows the customer better already, and into the index.
///
/// Two of them at the same order may take out of the index what the other needs, or put back what the other has replaced. So
/// each saves the view first, then adds, then removes, and then looks at the view again, until that is what the index was
/// changed for: whoever removes what a later view needs either sees that view, or is done before its entries are added. One
/// that was cut short comes again, and does not rely on what it finds.
async fn refresh_customer<S: EventStore>(
    model: &ReadModel<impl OrderViews, impl Index>,
    view: OrderView,
    customer: &CustomerStream<'_, S>,
) -> Result<(), ProjectError> {
    let ReadModel { views, index, .. } = model;
    let mut stored = view;
    for _ in 0..MAX_ATTEMPTS {
        let refreshed = stored.clone().with_customer(customer.customer(), customer.version());
        let saved = if refreshed == stored { Ok(()) } else { views.save(&refreshed, &stored).await };
        let is_saved = saved.is_ok();
        match saved {
            Ok(()) => {
                index.add(&entries_touched(&refreshed, &stored)).await?;
                index.remove(&gone(&stored, &refreshed)).await?;
            }
            Err(SaveError::Superseded) => {}
            Err(SaveError::Unavailable(error)) => return Err(error.into()),
        }
        let Some(now) = views.load(stored.id).await? else { return Ok(()) };
        // Whoever has saved this very profile first may have been cut short before its entries were added.
        if is_saved && now.customer == refreshed.customer {
            return Ok(());
        }
        stored = now;
    }
    Err(ProjectError::Contended)
}

/// What the index has of an order wherever its customer's profile, or the one before, makes a difference.
fn entries_touched(view: &OrderView, before: &OrderView) -> Vec<Entry> {
    let of_profile = |view: &OrderView| {
        let mut without_profile = view.clone();
        let customer = &mut without_profile.customer;
        (customer.first_name, customer.last_name, customer.email) = (None, None, None);
        let others = search_orders::entries_of(&without_profile);
        search_orders::entries_of(view).into_iter().filter(move |entry| !others.contains(entry))
    };
    let terms: BTreeSet<String> = of_profile(view).chain(of_profile(before)).map(|entry| entry.term).collect();
    search_orders::entries_of(view).into_iter().filter(|entry| terms.contains(&entry.term)).collect()
}

/// What the index has of the one and not of the other.
fn gone(before: &OrderView, after: &OrderView) -> Vec<Entry> {
    let after = search_orders::entries_of(after);
    let stays = |entry: &Entry| after.iter().any(|there| there.term == entry.term);
    search_orders::entries_of(before).into_iter().filter(|entry| !stays(entry)).collect()
}

/// A message that says that a customer's profile has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProfileChanged {
    /// Number of the event.
    pub version: u64,
    /// Whether it was delivered before: what was begun then may have been cut short.
    pub is_repeated: bool,
}

/// Brings the customer up to date in all their orders, as this message asks for, and answers how many these are; `None`
/// when a newer one is left to do it.
///
/// Of many changes at the same time only the newest counts, and each has its own message: an older one does nothing, and
/// stops when it is overtaken. But one that comes again does its work whatever has come since: before it was cut short, it
/// may have removed from the index what a newer one had added. See [`refresh_customer`].
pub async fn project_profile(
    store: &impl EventStore,
    model: &ReadModel<impl OrderViews, impl Index>,
    id: &CustomerId,
    message: ProfileChanged,
) -> Result<Option<usize>, ProjectError> {
    let customer = CustomerStream::open(store, id.clone()).await?;
    if customer.version() > message.version && !message.is_repeated {
        return Ok(None);
    }
    let orders = model.views.customer_orders(id, 0, usize::MAX).await?;
    let mut outcome = Ok(Some(orders.total));
    for some in orders.ids.chunks(BETWEEN_LOOKS) {
        // The others, also after some that failed.
        if let Err(error) = refresh_orders(model, some, &customer).await {
            outcome = Err(error);
        }
        // The message of whatever has come since the stream was loaded is not done yet, and goes through all orders.
        if !store.read(&StreamId::customer(id), customer.version()).await?.is_empty() {
            return outcome.map(|_| None);
        }
    }
    outcome
}

/// Brings the customer up to date in all their orders, and answers how many these are.
///
/// An order that is placed meanwhile is not among them; [`project`] looks at the customer once more after placing it.
pub async fn project_customer(
    store: &impl EventStore,
    model: &ReadModel<impl OrderViews, impl Index>,
    id: &CustomerId,
) -> Result<usize, ProjectError> {
    let customer = CustomerStream::open(store, id.clone()).await?;
    let orders = model.views.customer_orders(id, 0, usize::MAX).await?;
    refresh_orders(model, &orders.ids, &customer).await?;
    Ok(orders.total)
}

async fn refresh_orders<S: EventStore>(
    model: &ReadModel<impl OrderViews, impl Index>,
    orders: &[OrderId],
    customer: &CustomerStream<'_, S>,
) -> Result<(), ProjectError> {
    let refresh = |order: &OrderId| {
        let order = *order;
        async move {
            match model.views.load(order).await? {
                Some(view) => refresh_customer(model, view, customer).await,
                None => Ok(()),
            }
        }
    };
    // All of them, also after one that failed: none is to be left half done.
    let outcomes: Vec<_> = stream::iter(orders).map(refresh).buffer_unordered(AT_ONCE).collect().await;
    outcomes.into_iter().collect()
}
