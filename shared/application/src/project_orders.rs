//! Keeps the order views up to date, on plumbing that repeats, delays and reorders.

use std::collections::{BTreeMap, BTreeSet};

use domain::{
    customer::Customer,
    ids::{CustomerId, OrderId},
    order_view::{CustomerView, OrderView},
    search::terms_of,
    stored_event::UnreadableEvent,
};
use futures_util::{StreamExt, stream};

use crate::{
    event_store::{Commit, EventStore, StreamId, Unavailable},
    event_stream::{Aggregate, LoadError},
    ports::{Index, OrderViews, Posting, ReadModel, SaveError, VIEWS_MAX},
};

/// How often a projection starts over because another one saved first.
const MAX_ATTEMPTS: u32 = 5;

/// How many streams are projected at the same time.
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

/// Some commits of one stream that are not in a read model now.
#[derive(Debug)]
pub struct NotProjected<'c> {
    pub commits: &'c [Commit],
    pub error: ProjectError,
}

/// Brings a read model up to these commits at least, which may be of many streams: of each stream they stand beside one
/// another, the oldest first. Goes on after what fails, and answers it.
///
/// What the read model already has changes nothing, and what is missing before a commit is read from the event table, so
/// neither repetition nor the order of delivery matters. The commits of one order are one save of its view.
pub async fn project<'c>(
    store: &impl EventStore,
    model: &ReadModel<impl OrderViews, impl Index>,
    commits: &'c [Commit],
) -> Vec<NotProjected<'c>> {
    if let Err(error) = model.index.list(commits).await {
        return vec![NotProjected { commits, error: error.into() }];
    }
    let streams: Vec<&[Commit]> = commits.chunk_by(|one, next| one.stream == next.stream).collect();
    let mut failed = Vec::new();
    for streams in streams.chunks(VIEWS_MAX) {
        let ahead = Ahead::of(&model.views, streams).await.unwrap_or_default();
        let projected: Vec<_> = streams.iter().map(|commits| project_stream(store, model, commits, &ahead)).collect();
        let mut projected = stream::iter(projected).buffer_unordered(AT_ONCE);
        while let Some(projected) = projected.next().await {
            failed.extend(projected.err());
        }
    }
    failed
}

/// What is done for the orders of many streams together, in few calls, before each of them is projected. Where it cannot be done,
/// nothing is known, and whatever stands in the way meets each of them by itself.
#[derive(Default)]
struct Ahead {
    /// The views that were there.
    stored: BTreeMap<OrderId, OrderView>,
    /// The views of new orders, which stand among their customers' already: two orders of one customer would be in each other's
    /// way there.
    listed: BTreeMap<OrderId, OrderView>,
    /// New orders of which that is not known: what was written for them may come through later.
    unsure: BTreeSet<OrderId>,
}

impl Ahead {
    async fn of(views: &impl OrderViews, streams: &[&[Commit]]) -> Result<Self, Unavailable> {
        let orders = streams.iter().filter_map(|commits| Some((commits.first()?.stream.order_id()?, *commits)));
        let orders: BTreeMap<OrderId, &[Commit]> = orders.collect();
        if orders.is_empty() {
            return Ok(Self::default());
        }
        let ids: Vec<OrderId> = orders.keys().copied().collect();
        let stored = views.load_many(&ids).await?.into_iter().map(|view| (view.id, view));
        let mut ahead = Self { stored: stored.collect(), ..Self::default() };
        let new = orders.iter().filter(|(id, commits)| !ahead.stored.contains_key(id) && are_all_so_far(commits));
        // An event that cannot be read is its own order's trouble.
        let folded = new.filter_map(|(id, commits)| fold(*id, None, commits).ok()?);
        let new: Vec<OrderView> = folded.map(|folded| folded.view).collect();
        if views.list_many(&new).await.is_ok() {
            ahead.listed.extend(new.into_iter().map(|view| (view.id, view)));
        } else {
            ahead.unsure.extend(new.iter().map(|view| view.id));
        }
        Ok(ahead)
    }
}

async fn project_stream<'c>(
    store: &impl EventStore,
    model: &ReadModel<impl OrderViews, impl Index>,
    commits: &'c [Commit],
    ahead: &Ahead,
) -> Result<(), NotProjected<'c>> {
    let Some(first) = commits.first() else { return Ok(()) };
    let projected = if let Some(id) = first.stream.order_id() {
        match ahead
            .listed
            .get(&id)
            .filter(|view| commits.last().is_some_and(|last| last.last_version() <= view.version))
        {
            Some(view) => save_listed(store, &model.views, view, commits).await,
            None if ahead.unsure.contains(&id) => project_unsure(store, &model.views, id, commits).await,
            None => project_order(store, &model.views, id, commits, ahead.stored.get(&id).cloned()).await,
        }
    } else if let Some(id) = first.stream.customer_id() {
        project_customer(store, model, &id, first.version).await
    } else {
        Ok(())
    };
    projected.map_err(|error| NotProjected { commits, error })
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
    if missed.is_empty() {
        return Ok(false);
    }
    model.index.list(&missed).await?;
    project_order(store, &model.views, id, &missed, None).await?;
    Ok(true)
}

/// Makes a read model say of an order what its events say, whatever it says now: nothing, something old, or something wrong.
/// Answers the number of the last event; `None`, and does nothing, when there is no such order.
pub async fn reproject_order(
    store: &impl EventStore,
    model: &ReadModel<impl OrderViews, impl Index>,
    id: OrderId,
) -> Result<Option<u64>, ProjectError> {
    for _ in 0..MAX_ATTEMPTS {
        // In this order, so that the events are not older than the view.
        let stored = model.views.load(id).await?;
        let commits = store.read(&StreamId::order(id), 0).await?;
        let Some(folded) = fold(id, None, &commits)? else { return Ok(None) };
        model.index.list(&commits).await?;
        let (version, view) = (folded.view.version, folded.view.clone());
        if matches!(save(&model.views, &folded, stored.as_ref()).await?, Saved::Here { .. }) {
            // Also where the view was right: its place in the lists may not have been.
            settle(&model.views, view).await?;
            return Ok(Some(version));
        }
    }
    Err(ProjectError::Contended)
}

/// The same of a customer. Answers how many orders show them.
pub async fn reproject_customer(
    store: &impl EventStore,
    model: &ReadModel<impl OrderViews, impl Index>,
    id: &CustomerId,
) -> Result<usize, ProjectError> {
    model.index.list(&store.read(&StreamId::customer(id), 0).await?).await?;
    project_customer(store, model, id, 1).await?;
    Ok(model.views.customer_orders(id, 0, 0).await?.total)
}

/// Saves the view of a new order that [stands](OrderViews::list_many) among its customer's already.
async fn save_listed(
    store: &impl EventStore,
    views: &impl OrderViews,
    view: &OrderView,
    commits: &[Commit],
) -> Result<(), ProjectError> {
    match views.save(view, None).await {
        Ok(()) => Ok(()),
        Err(SaveError::Unavailable(error)) => Err(error.into()),
        Err(SaveError::Superseded) => {
            project_order(store, views, view.id, commits, None).await?;
            let Some(now) = views.load(view.id).await? else { return Ok(()) };
            settle(views, now).await
        }
    }
}

/// Projects an order that may or may not stand among its customer's, and may yet come to stand there as it did. That is no harm
/// where this saves the first view, which it does after listing the order once more. Where somebody else has saved one
/// meanwhile, nobody would look again: so this comes again.
async fn project_unsure(
    store: &impl EventStore,
    views: &impl OrderViews,
    id: OrderId,
    commits: &[Commit],
) -> Result<(), ProjectError> {
    if views.load(id).await?.is_some() {
        return Err(
            Unavailable { what: "the customers' orders", source: "a write may still be on its way".into() }.into()
        );
    }
    project_order(store, views, id, commits, None).await
}

/// With the view that was there a moment ago, if that is known.
async fn project_order(
    store: &impl EventStore,
    views: &impl OrderViews,
    id: OrderId,
    commits: &[Commit],
    mut known: Option<OrderView>,
) -> Result<(), ProjectError> {
    let (Some(first), Some(last)) = (commits.first(), commits.last()) else { return Ok(()) };
    let mut listed_in_vain = false;
    for _ in 0..MAX_ATTEMPTS {
        let stored = match known.take() {
            Some(view) => Some(view),
            None => views.load(id).await?,
        };
        let have = stored.as_ref().map_or(0, |view| view.version);
        if let Some(view) = &stored
            && last.last_version() <= have
        {
            // Whoever saved it may have been cut short before the order was listed.
            return settle(views, view.clone()).await;
        }
        let folded = if first.version <= have.saturating_add(1) && follow_one_another(commits) {
            fold(id, stored.clone(), commits)?
        } else {
            fold(id, stored.clone(), &store.read(&first.stream, have).await?)?
        };
        let Some(folded) = folded else { return Ok(()) };
        match save(views, &folded, stored.as_ref()).await? {
            Saved::Here { settled: true } if !listed_in_vain => return Ok(()),
            Saved::Here { .. } => return settle(views, folded.view).await,
            Saved::Superseded => listed_in_vain = true,
        }
    }
    Err(ProjectError::Contended)
}

fn are_all_so_far(commits: &[Commit]) -> bool {
    commits.first().is_some_and(|first| first.version == 1) && follow_one_another(commits)
}

fn follow_one_another(commits: &[Commit]) -> bool {
    let next = |commit: &Commit| commit.last_version().saturating_add(1);
    commits.iter().zip(commits.iter().skip(1)).all(|(one, other)| next(one) == other.version)
}

/// A view that has taken in some events.
struct Folded {
    view: OrderView,
    /// Whether the order has come to rest on the way, or has left it, whatever it does at the end: with any of these events another
    /// projection may have listed it.
    rests_anew: bool,
}

fn fold(id: OrderId, view: Option<OrderView>, commits: &[Commit]) -> Result<Option<Folded>, UnreadableEvent> {
    let (mut view, mut rests_anew) = (view, false);
    for commit in commits {
        for (version, event) in commit.numbered() {
            if view.as_ref().map_or(0, |view| view.version) < version {
                let before = view.as_ref().and_then(OrderView::status_at_rest);
                view = OrderView::evolve(view, id, &event.read()?, version, commit.metadata.occurred_at);
                rests_anew |= view.as_ref().and_then(OrderView::status_at_rest) != before;
            }
        }
    }
    Ok(view.map(|view| Folded { view, rests_anew }))
}

/// What became of a view that was to be saved.
enum Saved {
    /// It is there; and how the order stands among its customer's is settled, unless another projection may have touched it.
    Here { settled: bool },
    /// Another one was there.
    Superseded,
}

/// Saves a view in place of another one, and puts the order among its customer's as it stands with it.
///
/// These are two writes, not one transaction, which would cost twice as much; putting an order among its customer's once more
/// changes nothing. The list comes first: so whatever has a view is listed, and an order that is not listed as it rests is
/// still among the open ones, where it is looked after. Whoever is cut short in between comes again.
async fn save(views: &impl OrderViews, folded: &Folded, replaces: Option<&OrderView>) -> Result<Saved, ProjectError> {
    let Folded { view, rests_anew } = folded;
    let rests_anew = replaces.is_some() && *rests_anew;
    if replaces.is_none() || rests_anew {
        views.list(view).await?;
    }
    match views.save(view, replaces).await {
        Ok(()) => Ok(Saved::Here { settled: !rests_anew }),
        Err(SaveError::Superseded) => Ok(Saved::Superseded),
        Err(SaveError::Unavailable(error)) => Err(error.into()),
    }
}

/// Sees to it that an order stands among its customer's as its view says, whatever others do to either meanwhile: whoever has
/// changed the list looks whether the view is still the one that it was changed for.
async fn settle(views: &impl OrderViews, mut view: OrderView) -> Result<(), ProjectError> {
    for _ in 0..MAX_ATTEMPTS {
        if !views.list(&view).await? {
            return Ok(());
        }
        let Some(now) = views.load(view.id).await? else { return Ok(()) };
        view = now;
    }
    Err(ProjectError::Contended)
}

/// Brings a customer up to what their stream says, as event number `from` of it asks for.
///
/// Two of them at the same customer may take out of the index what the other needs, or put back what the other has replaced.
/// So each adds first, then removes, and then looks into the stream again, until that has nothing new: whoever removes what a
/// later profile needs either sees that profile, or is done before it is added. One that was cut short comes again, and does
/// not rely on what it finds.
async fn project_customer(
    store: &impl EventStore,
    model: &ReadModel<impl OrderViews, impl Index>,
    id: &CustomerId,
    from: u64,
) -> Result<(), ProjectError> {
    let stream = StreamId::customer(id);
    for _ in 0..MAX_ATTEMPTS {
        // With the profile that event number `from` has replaced.
        let profiles = profiles_of(id, &store.read(&stream, from.saturating_sub(2)).await?)?;
        let Some((newest, replaced)) = profiles.split_last() else { return Ok(()) };
        let postings = postings_of(newest);
        model.index.add(&postings).await?;
        model.views.save_customer(newest).await?;
        let stays = |gone: &Posting| postings.iter().any(|there| there.term == gone.term);
        let mut gone: Vec<Posting> = replaced.iter().flat_map(postings_of).filter(|posting| !stays(posting)).collect();
        gone.sort_unstable();
        gone.dedup_by(|one, other| one.term == other.term);
        model.index.remove(&gone).await?;
        if store.read(&stream, newest.version).await?.is_empty() {
            return Ok(());
        }
    }
    Err(ProjectError::Contended)
}

/// The customer after each of these events, whichever the first of them is: each of them says all of the profile.
fn profiles_of(id: &CustomerId, commits: &[Commit]) -> Result<Vec<CustomerView>, UnreadableEvent> {
    let mut customer = Customer::default();
    let mut profiles = Vec::new();
    for (version, event) in commits.iter().flat_map(Commit::numbered) {
        customer = customer.evolve(&Customer::read(event)?);
        profiles.push(CustomerView::of(id.clone(), &customer, version));
    }
    Ok(profiles)
}

/// What the index has to have of a customer.
pub fn postings_of(customer: &CustomerView) -> Vec<Posting> {
    let terms = terms_of(customer).into_iter();
    terms.map(|(term, text)| Posting { term, customer: customer.id.clone(), text }).collect()
}
