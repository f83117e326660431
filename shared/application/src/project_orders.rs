//! Keeps the order views up to date, on plumbing that repeats, delays and reorders.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use domain::{
    customer::Customer,
    ids::{CustomerId, OrderId},
    order_view::{CustomerView, OrderView},
    search::terms_of,
    stored_event::UnreadableEvent,
};
use futures_util::{StreamExt, future::join, stream};

use crate::{
    event_store::{Commit, EventStore, StreamId, Unavailable},
    event_stream::{Aggregate, LoadError},
    figures::Figure,
    ports::{Index, OrderViews, Posting, ReadModel, SaveError, VIEWS_MAX},
    stats::Stats,
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
            Self::Unavailable(error) => error.error_type(),
        }
    }

    /// Whether it is this stream's own trouble, and comes again however often it is tried.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Unreadable(_) => true,
            Self::Contended => false,
            Self::Unavailable(error) => error.is_lasting(),
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

/// What became of commits that were to be brought into a read model.
#[derive(Debug, Default)]
pub struct Projected<'c> {
    pub failed: Vec<NotProjected<'c>>,
    pub taken_in: TakenIn,
    /// Why what was taken in does not count in the hours in which it happened, or not all of it. Nothing makes up for that but a rebuild.
    pub uncounted: Option<Unavailable>,
}

/// What has come into a read model that was not in it. A view is saved only in place of the one that it was made of, so however
/// often a commit of an order comes, and with whichever others, it is here once; unless the answer to the saving is lost.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct TakenIn {
    pub figures: Vec<Figure>,
    pub stats: Stats,
    /// When each commit occurred. Those of a customer are here whenever they come.
    pub occurred: Vec<DateTime<Utc>>,
}

impl TakenIn {
    fn add(&mut self, other: Self) {
        self.figures.extend(other.figures);
        self.stats.add_all(&other.stats);
        self.occurred.extend(other.occurred);
    }
}

/// Brings a read model up to these commits at least, which may be of many streams: of each stream they stand beside one
/// another, the oldest first. Goes on after what fails, and answers it: that has to come again, also where others have projected it
/// meanwhile, because whoever is cut short may leave an order listed as it was before.
///
/// What the read model already has changes nothing, and what is missing before a commit is read from the event table, so
/// neither repetition nor the order of delivery matters. The commits of one order are one save of its view.
pub async fn project<'c>(
    store: &impl EventStore,
    model: &ReadModel<impl OrderViews, impl Index>,
    commits: &'c [Commit],
) -> Projected<'c> {
    // Beside one another, because neither needs the other: what could not be listed comes again, also where the views have it by then.
    let (listed, mut all) = join(model.index.list(commits), project_streams(store, model, commits)).await;
    if let Err(error) = listed {
        all.failed = vec![NotProjected { commits, error: error.into() }];
    }
    all.uncounted = model.index.count(&all.taken_in.stats).await.err();
    all
}

async fn project_streams<'c>(
    store: &impl EventStore,
    model: &ReadModel<impl OrderViews, impl Index>,
    commits: &'c [Commit],
) -> Projected<'c> {
    let streams: Vec<&[Commit]> = commits.chunk_by(|one, next| one.stream == next.stream).collect();
    let mut all = Projected::default();
    for streams in streams.chunks(VIEWS_MAX) {
        let ahead = Ahead::of(&model.views, streams).await.unwrap_or_default();
        let projected: Vec<_> = streams.iter().map(|commits| project_stream(store, model, commits, &ahead)).collect();
        let mut projected = stream::iter(projected).buffer_unordered(AT_ONCE);
        while let Some((taken_in, projected)) = projected.next().await {
            all.taken_in.add(taken_in);
            all.failed.extend(projected.err());
        }
    }
    all
}

/// What is done for the orders of many streams together, in few calls, before each of them is projected. Where it cannot be done,
/// nothing is known, and whatever stands in the way meets each of them by itself.
#[derive(Default)]
struct Ahead {
    /// The views that were there.
    stored: BTreeMap<OrderId, OrderView>,
    /// The views of new orders, which stand among their customers' already: two orders of one customer would be in each other's
    /// way there.
    listed: BTreeMap<OrderId, Folded>,
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
        let folded: Vec<Folded> = new.filter_map(|(id, commits)| fold(*id, None, commits).ok()?).collect();
        let new: Vec<OrderView> = folded.iter().map(|folded| folded.view.clone()).collect();
        if views.list_many(&new).await.is_ok() {
            ahead.listed.extend(folded.into_iter().map(|folded| (folded.view.id, folded)));
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
) -> (TakenIn, Result<(), NotProjected<'c>>) {
    let mut taken_in = TakenIn::default();
    let Some(first) = commits.first() else { return (taken_in, Ok(())) };
    let projected = if let Some(id) = first.stream.order_id() {
        match ahead
            .listed
            .get(&id)
            .filter(|folded| commits.last().is_some_and(|last| last.last_version() <= folded.view.version))
        {
            Some(folded) => save_listed(store, &model.views, folded, commits, &mut taken_in).await,
            None if ahead.unsure.contains(&id) => project_unsure(store, &model.views, id, commits, &mut taken_in).await,
            None => {
                let known = ahead.stored.get(&id).cloned();
                project_order(store, &model.views, id, commits, known, &mut taken_in).await
            }
        }
    } else if let Some(id) = first.stream.customer_id() {
        let projected = project_customer(store, model, &id, first.version).await;
        if projected.is_ok() {
            taken_in.occurred.extend(commits.iter().map(|commit| commit.metadata.occurred_at));
        }
        projected
    } else {
        Ok(())
    };
    (taken_in, projected.map_err(|error| NotProjected { commits, error }))
}

/// Projects what an order's view has missed, and says whether that was anything: two reads when it was not. Whoever is told that it
/// failed has to ask again: cut short where others have come in between, it may leave the order listed as it was before them.
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
    let mut taken_in = TakenIn::default();
    let projected = project_order(store, &model.views, id, &missed, None, &mut taken_in).await;
    model.index.count(&taken_in.stats).await?;
    projected.map(|()| true)
}

/// Makes a read model say of an order what its events say, whatever it says now: nothing, something old, or something wrong.
/// Answers the number of the last event; `None`, and does nothing, when there is no such order. Whoever is told that it failed has to ask
/// again, as for [`catch_up`].
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
            let have = stored.map_or(0, |view| view.version);
            model.index.count(&stats_after(have, &view, &commits)?).await?;
            // Also where the view was right: its place in the lists may not have been.
            settle(&model.views, view).await?;
            return Ok(Some(version));
        }
    }
    Err(ProjectError::Contended)
}

/// What the events after this one count as.
fn stats_after(have: u64, view: &OrderView, commits: &[Commit]) -> Result<Stats, UnreadableEvent> {
    let mut stats = Stats::default();
    for commit in commits {
        for (_, event) in commit.numbered().filter(|(version, _)| *version > have) {
            stats.count(&event.read()?, commit.metadata.occurred_at, view.total_amount);
        }
    }
    Ok(stats)
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
    Folded { view, taken_in: new, .. }: &Folded,
    commits: &[Commit],
    taken_in: &mut TakenIn,
) -> Result<(), ProjectError> {
    match views.save(view, None).await {
        Ok(()) => {
            taken_in.add(new.clone());
            Ok(())
        }
        Err(SaveError::Unavailable(error)) => Err(error.into()),
        Err(SaveError::Superseded) => {
            project_order(store, views, view.id, commits, None, taken_in).await?;
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
    taken_in: &mut TakenIn,
) -> Result<(), ProjectError> {
    if views.load(id).await?.is_some() {
        return Err(
            Unavailable { what: "the customers' orders", source: "a write may still be on its way".into() }.into()
        );
    }
    project_order(store, views, id, commits, None, taken_in).await
}

/// With the view that was there a moment ago, if that is known.
async fn project_order(
    store: &impl EventStore,
    views: &impl OrderViews,
    id: OrderId,
    commits: &[Commit],
    mut known: Option<OrderView>,
    taken_in: &mut TakenIn,
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
            Saved::Here { settled } => {
                taken_in.add(folded.taken_in);
                return if settled && !listed_in_vain { Ok(()) } else { settle(views, folded.view).await };
            }
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
    taken_in: TakenIn,
}

fn fold(id: OrderId, view: Option<OrderView>, commits: &[Commit]) -> Result<Option<Folded>, UnreadableEvent> {
    let (mut view, mut rests_anew, mut taken_in) = (view, false, TakenIn::default());
    for commit in commits {
        let occurred_at = commit.metadata.occurred_at;
        if view.as_ref().map_or(0, |view| view.version) < commit.last_version() {
            taken_in.occurred.push(occurred_at);
        }
        for (version, event) in commit.numbered() {
            if view.as_ref().map_or(0, |view| view.version) < version {
                let before = view.as_ref().and_then(OrderView::status_at_rest);
                let event = event.read()?;
                view = OrderView::evolve(view, id, &event, version, occurred_at);
                rests_anew |= view.as_ref().and_then(OrderView::status_at_rest) != before;
                if let Some(view) = &view {
                    taken_in.figures.extend(Figure::of(&event, occurred_at, view.created_at));
                    taken_in.stats.count(&event, occurred_at, view.total_amount);
                }
            }
        }
    }
    Ok(view.map(|view| Folded { view, rests_anew, taken_in }))
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
    let Folded { view, rests_anew, .. } = folded;
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
