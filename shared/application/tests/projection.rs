//! The order views equal the fold of the events, however these are delivered, and in whichever generation.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
};

use application::{
    event_store::{Commit, EventStore, Metadata, RecordedEvent, Segment, StreamId},
    event_stream::CustomerStream,
    list_events,
    memory::{Fault, MemoryEventStore, MemoryIndex, MemoryOrderViews},
    ports::{Entry, Index as _, OrderViews, ReadModel},
    project_orders::{
        ProfileChanged, catch_up, project, project_customer, project_profile, reproject_customer, reproject_order,
    },
    rebuild_orders::{Progress, rebuild_page},
    search_orders,
    shop::{Shop, at},
};
use domain::{
    ids::{CustomerId, OrderId},
    order::OrderStatus,
    order_view::OrderView,
};
use futures_util::future::join_all;
use proptest::{collection::vec, prelude::*, sample::Index};
use tokio::task::yield_now;
use uuid::Uuid;

const SEGMENTS: u32 = 2;

const PAYMENT_METHODS: [&str; 3] = ["pm_card_visa", "pm_card_declined", "pm_card_visa"];

/// What may happen at one moment, several of them at the same time.
#[derive(Debug, Clone)]
enum Happening {
    /// Another command has come through: this stream goes on.
    Commit { stream: Index },
    /// The stream delivers some commits, in any order, some of them again.
    Batch { commits: Vec<Index> },
    /// The queue delivers one change of a customer's profile.
    Profile { which: Index },
    /// The rebuild reads on, once it has begun.
    Rebuild { pages: usize },
    /// Somebody asks for an order to be projected once more.
    Reproject { stream: Index },
}

/// How long each happening waits for others, and what the next write of a view meets.
type Moment = Vec<(Happening, usize, Option<Fault>)>;

fn moments() -> impl Strategy<Value = Vec<Moment>> {
    let happening = prop_oneof![
        3 => any::<Index>().prop_map(|stream| Happening::Commit { stream }),
        4 => vec(any::<Index>(), 1..5).prop_map(|commits| Happening::Batch { commits }),
        2 => any::<Index>().prop_map(|which| Happening::Profile { which }),
        2 => (1..4_usize).prop_map(|pages| Happening::Rebuild { pages }),
        1 => any::<Index>().prop_map(|stream| Happening::Reproject { stream }),
    ];
    let fault = prop_oneof![
        1 => Just(Fault::BeforeEffect),
        1 => Just(Fault::AfterEffect),
        2 => (0..20_usize).prop_map(Fault::Late)
    ];
    vec(vec((happening, 0..12_usize, proptest::option::weighted(0.3, fault)), 1..6), 1..20)
}

/// The commits of a real order, some of them joined into one, as a command with several events would write them.
async fn history(payment_method: &str, joins: &[bool]) -> Vec<Commit> {
    let (shop, id) = (Shop::with_stock(10).await, OrderId::new(Uuid::new_v4()));
    shop.place(id, payment_method).await.unwrap();
    shop.fulfil(id, 1).await.unwrap();
    let mut commits: Vec<Commit> = Vec::new();
    for (commit, join) in shop.store.all().into_iter().zip(joins) {
        match commits.last_mut() {
            Some(last) if *join => last.events.extend(commit.events),
            _ => commits.push(commit),
        }
    }
    commits
}

/// The profile of the one customer of all these orders, changed six times, and each other time back to what it was.
fn profiles(customer: &CustomerId, metadata: &Metadata) -> Vec<Commit> {
    let commit = |version: u64| {
        let first_name = if version.is_multiple_of(2) { "Berta" } else { "Anna" };
        // In between she has one name.
        let last_name = (version != 2).then_some("王");
        let data = serde_json::json!({"first_name": first_name, "last_name": last_name, "email": "a@b"});
        let event = RecordedEvent { event_type: "CustomerProfileUpdated".to_owned(), schema: 1, data };
        let metadata = Metadata { command_id: Uuid::new_v4(), ..metadata.clone() };
        Commit { stream: StreamId::customer(customer), version, events: vec![event], metadata }
    };
    (1..=6).map(commit).collect()
}

fn fold(id: OrderId, commits: &[Commit]) -> Option<OrderView> {
    commits
        .iter()
        .flat_map(Commit::numbered)
        .fold(None, |view, (version, event)| OrderView::evolve(view, id, &event.read().unwrap(), version, at()))
}

type Model = ReadModel<MemoryOrderViews, MemoryIndex>;

/// What has been committed, and of that, what has been taken in by somebody who said so.
#[derive(Default)]
struct Plumbing {
    store: MemoryEventStore,
    /// The generation that is read, and one that is being built at some time.
    live: Model,
    next: Model,
    /// Whether projections know of the one that is being built.
    building: Cell<bool>,
    committed: RefCell<Vec<Commit>>,
    taken_in: RefCell<BTreeSet<(StreamId, u64)>>,
    /// The changes of the profile that the queue has delivered once.
    handed_on: RefCell<BTreeSet<u64>>,
    progress: RefCell<[Progress; SEGMENTS as usize]>,
}

impl Plumbing {
    async fn commit(&self, streams: &[Vec<Commit>], stream: &Index) {
        let stream = stream.get(streams);
        let there = self.store.read(&stream[0].stream, 0).await.unwrap().len();
        if let Some(next) = stream.get(there)
            && self.store.append(next).await.is_ok()
        {
            self.committed.borrow_mut().push(next.clone());
        }
    }

    /// As `project-orders` does: all generations that it knows of when it begins, the one that is read last.
    async fn deliver(&self, commit: &Commit) {
        let commits = std::slice::from_ref(commit);
        let next = !self.building.get() || project(&self.store, &self.next, commits).await.is_ok();
        let live = project(&self.store, &self.live, commits).await.is_ok();
        if next && live && commit.stream.order_id().is_some() {
            self.taken_in.borrow_mut().insert((commit.stream.clone(), commit.version));
        }
    }

    async fn deliver_profile(&self, customer: &CustomerId, commit: &Commit) {
        let is_repeated = !self.handed_on.borrow_mut().insert(commit.version);
        let message = ProfileChanged { version: commit.version, is_repeated };
        let next = !self.building.get() || project_profile(&self.store, &self.next, customer, message).await.is_ok();
        let live = project_profile(&self.store, &self.live, customer, message).await.is_ok();
        if next && live {
            self.taken_in.borrow_mut().insert((commit.stream.clone(), commit.version));
        }
    }

    /// Takes in some pages of the event table; a page that fails is begun again.
    async fn rebuild(&self, pages: usize) {
        for number in 0..SEGMENTS {
            for _ in 0..pages {
                let progress = self.progress.borrow()[number as usize].clone();
                let segment = Segment { number, of: SEGMENTS };
                if let Ok(progress) = rebuild_page(&self.store, &self.next, segment, progress, 3).await {
                    self.progress.borrow_mut()[number as usize] = progress;
                }
            }
        }
    }

    async fn happen(&self, streams: &[Vec<Commit>], customer: &CustomerId, happening: &Happening) {
        match happening {
            Happening::Commit { stream } => self.commit(streams, stream).await,
            Happening::Batch { commits } => {
                for which in commits {
                    let committed = self.committed.borrow().clone();
                    if !committed.is_empty() {
                        self.deliver(which.get(&committed)).await;
                    }
                }
            }
            Happening::Rebuild { pages } => {
                if self.building.get() {
                    self.rebuild(*pages).await;
                }
            }
            Happening::Reproject { stream } => {
                if let Some(id) = stream.get(streams)[0].stream.order_id() {
                    for model in [&self.next, &self.live].into_iter().skip(usize::from(!self.building.get())) {
                        // What does not get done is asked for again, or not: the stream does without.
                        let _ = reproject_order(&self.store, model, id).await;
                    }
                }
            }
            Happening::Profile { which } => {
                let changes: Vec<Commit> = self
                    .committed
                    .borrow()
                    .iter()
                    .filter(|commit| commit.stream.order_id().is_none())
                    .cloned()
                    .collect();
                if !changes.is_empty() {
                    self.deliver_profile(customer, which.get(&changes)).await;
                }
            }
        }
    }

    /// At least once means that what nobody has taken in comes until somebody does, and nothing else has to come.
    async fn settle(&self, customer: &CustomerId) {
        let committed = self.committed.borrow().clone();
        for commit in committed {
            for _ in 0..50 {
                if self.taken_in.borrow().contains(&(commit.stream.clone(), commit.version)) {
                    break;
                }
                if commit.stream.order_id().is_some() {
                    self.deliver(&commit).await;
                } else {
                    self.deliver_profile(customer, &commit).await;
                }
            }
        }
    }
}

async fn run(streams: &[Vec<Commit>], moments: &[Moment], rebuild_from: usize) {
    let plumbing = Plumbing::default();
    let customer = CustomerId::parse("customer-1").unwrap();
    for (number, moment) in moments.iter().enumerate() {
        // All that began before has ended: for that a rebuild waits.
        plumbing.building.set(number >= rebuild_from);
        join_all(moment.iter().map(async |(happening, wait, fault)| {
            for _ in 0..*wait {
                yield_now().await;
            }
            if let Some(fault) = fault {
                for model in [&plumbing.live, &plumbing.next] {
                    model.views.faults.push(*fault);
                    model.index.faults.push(*fault);
                }
            }
            plumbing.happen(streams, &customer, happening).await;
        }))
        .await;
        for commits in streams.iter().filter(|commits| commits[0].stream.order_id().is_some()) {
            let id = commits[0].stream.order_id().unwrap();
            let Some(mut view) = plumbing.live.views.load(id).await.unwrap() else { continue };
            view.customer = fold(id, commits).unwrap().customer;
            let version = view.version;
            let done = commits.iter().position(|commit| commit.last_version() == version);
            assert_eq!(Some(view), fold(id, &commits[..=done.expect("a view between two commits")]));
        }
    }
    plumbing.building.set(true);
    plumbing.rebuild(50).await;
    assert!(plumbing.progress.borrow().iter().all(|segment| segment.done));
    plumbing.settle(&customer).await;
    let profile = CustomerStream::open(&plumbing.store, customer.clone()).await.unwrap();
    for commits in streams {
        let Some(id) = commits[0].stream.order_id() else { continue };
        let stored = plumbing.store.read(&commits[0].stream, 0).await.unwrap();
        let expected = fold(id, &stored).map(|view| view.with_customer(profile.customer(), profile.version()));
        assert_eq!(plumbing.live.views.load(id).await.unwrap(), expected);
        assert_eq!(plumbing.next.views.load(id).await.unwrap(), expected, "in the generation that was built");
        let Some(view) = expected else { continue };
        for index in [&plumbing.live.index, &plumbing.next.index] {
            let events = stored.iter().flat_map(list_events::entries_of);
            for entry in search_orders::entries_of(&view).into_iter().chain(events) {
                let list = index.newest(&entry.term, Some(&entry.posting.position()), None, 1).await.unwrap();
                assert_eq!(list, [entry.posting], "{}", entry.term);
            }
        }
    }
}

/// A shop's orders with all their events, and a read model that has nothing of them.
async fn lost(commits: &[Commit]) -> (MemoryEventStore, Model) {
    let store = MemoryEventStore::default();
    for commit in commits {
        store.append(commit).await.unwrap();
    }
    (store, ReadModel::default())
}

#[tokio::test]
async fn a_view_that_is_behind_is_brought_up_wherever_it_stands() {
    let commits = history(PAYMENT_METHODS[0], &[false; 5]).await;
    let id = commits[0].stream.order_id().unwrap();
    for have in 0..commits.len() {
        let (store, model) = lost(&commits).await;
        project(&store, &model, &commits[..have]).await.unwrap();
        model.views.faults.push(Fault::BeforeEffect);
        catch_up(&store, &model, id).await.unwrap_err();
        assert!(catch_up(&store, &model, id).await.unwrap(), "it has {have} of {}", commits.len());
        assert_eq!(model.views.load(id).await.unwrap(), fold(id, &commits));
        let confirmed = list_events::entries_of(commits.last().unwrap()).remove(0);
        assert_eq!(model.index.newest(&confirmed.term, None, None, 9).await.unwrap(), [confirmed.posting]);
        // Not a write for what is as it should be.
        model.views.faults.push(Fault::BeforeEffect);
        assert!(!catch_up(&store, &model, id).await.unwrap());
        assert!(!catch_up(&store, &model, OrderId::new(Uuid::new_v4())).await.unwrap(), "there is no such order");
    }
}

#[tokio::test]
async fn what_is_lost_old_or_wrong_in_the_views_becomes_what_the_events_say() {
    let commits = history(PAYMENT_METHODS[0], &[false; 5]).await;
    let id = commits[0].stream.order_id().unwrap();
    let expected = fold(id, &commits).unwrap();
    let (store, lost) = lost(&commits).await;
    store.append(&profiles(&expected.customer.id, &commits[0].metadata)[0]).await.unwrap();
    let (old, wrong): (Model, Model) = Default::default();
    project(&store, &old, &commits[..2]).await.unwrap();
    let mut damaged = expected.clone();
    (damaged.status, damaged.items) = (OrderStatus::Rejected, vec![]);
    wrong.views.place(&damaged).await.unwrap();
    let profile = CustomerStream::open(&store, expected.customer.id.clone()).await.unwrap();
    let expected = expected.with_customer(profile.customer(), profile.version());
    for model in [lost, old, wrong] {
        for _ in 0..2 {
            assert_eq!(reproject_order(&store, &model, id).await.unwrap(), Some(expected.version));
            assert_eq!(model.views.load(id).await.unwrap().as_ref(), Some(&expected));
            let entries = commits.iter().flat_map(list_events::entries_of).chain(search_orders::entries_of(&expected));
            for Entry { term, posting } in entries {
                assert_eq!(model.index.newest(&term, None, None, 9).await.unwrap(), [posting], "{term}");
            }
        }
        let unknown = OrderId::new(Uuid::new_v4());
        assert_eq!(reproject_order(&store, &model, unknown).await.unwrap(), None);
        assert_eq!(model.views.load(unknown).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_profile_that_was_lost_on_its_way_gets_into_the_orders() {
    let commits = history(PAYMENT_METHODS[0], &[false; 5]).await;
    let id = commits[0].stream.order_id().unwrap();
    let (store, model) = lost(&commits).await;
    project(&store, &model, &commits).await.unwrap();
    let customer = fold(id, &commits).unwrap().customer.id;
    for profile in profiles(&customer, &commits[0].metadata) {
        store.append(&profile).await.unwrap();
    }
    assert_eq!(reproject_customer(&store, &model, &customer).await.unwrap(), 1);
    assert_eq!(model.views.load(id).await.unwrap().unwrap().customer.version, 6);
    let changes = list_events::entries_of(&profiles(&customer, &commits[0].metadata)[0]);
    assert_eq!(model.index.newest(&changes[0].term, None, None, 9).await.unwrap().len(), 6);
    let nobody = CustomerId::parse("nobody").unwrap();
    assert_eq!(reproject_customer(&store, &model, &nobody).await.unwrap(), 0);
}

/// Which write of the index takes longer, how much, and which of two projections is of the order: the second one or the first.
fn slow_indexes() -> impl Iterator<Item = (usize, usize, Option<bool>)> {
    (0..4).flat_map(|call| {
        let late =
            [0, 1, 2, 4, 8].into_iter().flat_map(move |late| [None, Some(true), Some(false)].map(|by| (late, by)));
        late.map(move |(late, by_order)| (call, late, by_order))
    })
}

/// Two projections, each of one change of the profile, at every moment of either, while one write of each kind takes longer.
#[tokio::test]
async fn a_name_that_comes_back_while_another_is_projected_is_found_again() {
    let commits = history(PAYMENT_METHODS[0], &[false; 5]).await;
    let id = commits[0].stream.order_id().unwrap();
    let customer = fold(id, &commits).unwrap().customer.id;
    let profiles = profiles(&customer, &commits[0].metadata);
    for second_waits in 0..16 {
        for (slow_view, view_late) in [(0, 0), (0, 4), (1, 2), (1, 4), (1, 8), (1, 16)] {
            for (slow_index, index_late, by_order) in slow_indexes() {
                let (store, model) = lost(&commits).await;
                project(&store, &model, &commits).await.unwrap();
                store.append(&profiles[0]).await.unwrap();
                project_customer(&store, &model, &customer).await.unwrap();
                store.append(&profiles[1]).await.unwrap();
                model.views.faults.push_after(slow_view, Fault::Late(view_late));
                model.index.faults.push_after(slow_index, Fault::Late(index_late));
                // The one or the other may be of the order, as a person asks for it.
                let bring_in = async |by_order: bool| {
                    if by_order {
                        reproject_order(&store, &model, id).await.unwrap();
                    } else {
                        project_customer(&store, &model, &customer).await.unwrap();
                    }
                };
                let back = async {
                    for _ in 0..second_waits {
                        yield_now().await;
                    }
                    store.append(&profiles[2]).await.unwrap();
                    bring_in(by_order == Some(true)).await;
                };
                tokio::join!(bring_in(by_order == Some(false)), back);
                let view = model.views.load(id).await.unwrap().unwrap();
                assert_eq!((view.customer.first_name.as_deref(), view.customer.version), (Some("Anna"), 3));
                for Entry { term, posting } in search_orders::entries_of(&view) {
                    let list = model.index.newest(&term, None, None, 9).await.unwrap();
                    let moment = (second_waits, slow_view, view_late, slow_index, index_late, by_order);
                    assert_eq!(list, [posting], "{term} at {moment:?}");
                }
            }
        }
    }
}

/// It is cut short after it took out of the index what the newer one had just added: nobody else knows.
#[tokio::test]
async fn a_change_that_was_cut_short_mends_what_it_took_from_a_newer_one() {
    let commits = history(PAYMENT_METHODS[0], &[false; 5]).await;
    let id = commits[0].stream.order_id().unwrap();
    let customer = fold(id, &commits).unwrap().customer.id;
    let profiles = profiles(&customer, &commits[0].metadata);
    let (store, model) = lost(&commits).await;
    project(&store, &model, &commits).await.unwrap();
    store.append(&profiles[0]).await.unwrap();
    project_customer(&store, &model, &customer).await.unwrap();
    store.append(&profiles[1]).await.unwrap();
    // The older one adds when the newer one, with its two calls, is done; and then removes without an answer.
    model.index.faults.push(Fault::Late(60));
    model.index.faults.push_after(2, Fault::AfterEffect);
    let message = |version, is_repeated| ProfileChanged { version, is_repeated };
    let newer = async {
        while model.views.load(id).await.unwrap().unwrap().customer.version < 2 {}
        store.append(&profiles[2]).await.unwrap();
        project_profile(&store, &model, &customer, message(3, false)).await.unwrap();
    };
    let (older, ()) = tokio::join!(project_profile(&store, &model, &customer, message(2, false)), newer);
    older.unwrap_err();
    let view = model.views.load(id).await.unwrap().unwrap();
    assert_eq!(view.customer.version, 3);
    let entries = search_orders::entries_of(&view);
    let is_found = async || {
        let lists = entries.iter().map(async |entry| model.index.newest(&entry.term, None, None, 9).await.unwrap());
        join_all(lists).await.iter().zip(&entries).all(|(list, entry)| *list == [entry.posting.clone()])
    };
    assert!(!is_found().await, "nothing was taken: this test tests nothing");
    assert_eq!(project_profile(&store, &model, &customer, message(2, true)).await.unwrap(), Some(1));
    assert!(is_found().await);
}

#[tokio::test]
async fn a_profile_that_is_overtaken_stops_between_a_customers_orders() {
    let store = MemoryEventStore::default();
    let model = Model::default();
    let created = history(PAYMENT_METHODS[0], &[false; 5]).await.remove(0);
    let customer = fold(created.stream.order_id().unwrap(), std::slice::from_ref(&created)).unwrap().customer.id;
    for _ in 0..300 {
        let stream = StreamId::order(OrderId::new(Uuid::new_v4()));
        project(&store, &model, &[Commit { stream, ..created.clone() }]).await.unwrap();
    }
    let profiles = profiles(&customer, &created.metadata);
    store.append(&profiles[0]).await.unwrap();
    let first = ProfileChanged { version: 1, is_repeated: false };
    let overtake = async {
        for _ in 0..4 {
            yield_now().await;
        }
        store.append(&profiles[1]).await.unwrap();
    };
    let (outcome, ()) = tokio::join!(project_profile(&store, &model, &customer, first), overtake);
    assert_eq!(outcome.unwrap(), None);
    let ids = model.views.customer_orders(&customer, 0, 300).await.unwrap().ids;
    let views = model.views.load_many(&ids).await.unwrap();
    let at_first = views.iter().filter(|view| view.customer.version == 1).count();
    assert!((1..300).contains(&at_first), "{at_first}");
    let second = ProfileChanged { version: 2, is_repeated: false };
    assert_eq!(project_profile(&store, &model, &customer, second).await.unwrap(), Some(300));
    let views = model.views.load_many(&ids).await.unwrap();
    assert!(views.iter().all(|view| view.customer.version == 2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn the_views_equal_the_fold_whatever_the_delivery_and_whenever_they_are_rebuilt(
        joins in vec(any::<bool>(), 5),
        moments in moments(),
        rebuild_from in 0..20_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut streams = Vec::new();
            for payment_method in PAYMENT_METHODS {
                streams.push(history(payment_method, &joins).await);
            }
            let customer = fold(streams[0][0].stream.order_id().unwrap(), &streams[0]).unwrap().customer.id;
            streams.push(profiles(&customer, &streams[0][0].metadata));
            run(&streams, &moments, rebuild_from).await;
        });
    }
}
