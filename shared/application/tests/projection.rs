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
    collections::{BTreeMap, BTreeSet},
};

use application::{
    event_store::{Commit, EventStore, Metadata, RecordedEvent, Segment, StreamId},
    event_stream::Aggregate,
    figures::Figure,
    memory::{Fault, MemoryEventStore, MemoryIndex, MemoryOrderViews},
    ports::{EventPlace, Index as _, OrderViews, PlacedOrder, Posting, ReadModel},
    project_orders::{Projected, TakenIn, catch_up, postings_of, project, reproject_customer, reproject_order},
    rebuild_orders::{Comparison, Differences, Progress, compare_hours, compare_page, rebuild_page},
    shop::{Shop, at},
    shown_orders::load_shown,
    stats::{Hour, Stats},
};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    customer::Customer,
    ids::{CustomerId, OrderId},
    order::OrderStatus,
    order_view::{CustomerView, OrderView},
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
    /// The rebuild reads on, once it has begun.
    Rebuild { pages: usize },
    /// Somebody asks for an order, or for the customer, to be projected once more.
    Reproject { stream: Index },
}

/// How long each happening waits for others, and what the next write of a view meets.
type Moment = Vec<(Happening, usize, Option<Fault>)>;

fn moments() -> impl Strategy<Value = Vec<Moment>> {
    let happening = prop_oneof![
        3 => any::<Index>().prop_map(|stream| Happening::Commit { stream }),
        4 => vec(any::<Index>(), 1..5).prop_map(|commits| Happening::Batch { commits }),
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
    /// What was not taken in by somebody to whom it had come, whoever else has taken it in.
    failed: RefCell<Vec<Commit>>,
    /// What somebody has asked for in vain.
    to_reproject: RefCell<Vec<StreamId>>,
    /// What has counted, as far as it has come into the generation that is read.
    figures: RefCell<Vec<Figure>>,
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
    async fn deliver(&self, mut batch: Vec<Commit>) {
        batch.sort_by(|one, other| (&one.stream, one.version).cmp(&(&other.stream, other.version)));
        let (mut failed, mut read) = (BTreeSet::new(), TakenIn::default());
        for model in [&self.next, &self.live].into_iter().skip(usize::from(!self.building.get())) {
            let projected = project(&self.store, model, &batch).await;
            read = projected.taken_in;
            for not_projected in projected.failed {
                failed.extend(not_projected.commits.iter().map(|commit| commit.stream.clone()));
            }
        }
        self.figures.borrow_mut().extend(read.figures);
        for commit in batch {
            if failed.contains(&commit.stream) {
                self.failed.borrow_mut().push(commit);
            } else {
                self.taken_in.borrow_mut().insert((commit.stream, commit.version));
            }
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
                let committed = self.committed.borrow().clone();
                if !committed.is_empty() {
                    self.deliver(commits.iter().map(|which| which.get(&committed).clone()).collect()).await;
                }
            }
            Happening::Rebuild { pages } => {
                if self.building.get() {
                    self.rebuild(*pages).await;
                }
            }
            Happening::Reproject { stream } => {
                let stream = &stream.get(streams)[0].stream;
                if !self.reproject(stream, customer).await {
                    self.to_reproject.borrow_mut().push(stream.clone());
                }
            }
        }
    }

    /// Answers whether it got done.
    async fn reproject(&self, stream: &StreamId, customer: &CustomerId) -> bool {
        let mut done = true;
        for model in [&self.next, &self.live].into_iter().skip(usize::from(!self.building.get())) {
            done &= match stream.order_id() {
                Some(id) => reproject_order(&self.store, model, id).await.is_ok(),
                None => reproject_customer(&self.store, model, customer).await.is_ok(),
            };
        }
        done
    }

    /// At least once means that what nobody has taken in comes until somebody does, and that what somebody has failed to take in comes to
    /// them again: they may have been cut short where others had come in between. Nothing else has to come.
    ///
    /// Who has asked for something once more and was told that it did not get done asks again: it may have been cut short where
    /// others had come in between, and nothing else would bring them there again.
    async fn settle(&self, customer: &CustomerId) {
        let committed = self.committed.borrow().clone();
        for commit in committed {
            for _ in 0..50 {
                if self.taken_in.borrow().contains(&(commit.stream.clone(), commit.version)) {
                    break;
                }
                self.deliver(vec![commit.clone()]).await;
            }
        }
        for _ in 0..50 {
            for commit in self.failed.take() {
                self.deliver(vec![commit]).await;
            }
        }
        assert!(self.failed.borrow().is_empty(), "something cannot be projected");
        for stream in self.to_reproject.take() {
            let mut tries = 0;
            while !self.reproject(&stream, customer).await {
                tries += 1;
                assert!(tries < 50, "{stream:?} cannot be projected");
            }
        }
    }
}

/// That the index has of a customer what the newest of these profiles says, and nothing that another one said.
async fn assert_found(index: &MemoryIndex, profiles: &[CustomerView]) {
    let newest = profiles.last().map(postings_of).unwrap_or_default();
    for Posting { term, .. } in profiles.iter().flat_map(postings_of) {
        let expected: Vec<Posting> = newest.iter().filter(|posting| posting.term == term).cloned().collect();
        assert_eq!(index.customers(&term, 9).await.unwrap(), expected, "{term}");
    }
}

async fn profiles_in(store: &MemoryEventStore, customer: &CustomerId) -> Vec<CustomerView> {
    let commits = store.read(&StreamId::customer(customer), 0).await.unwrap();
    let events = commits.iter().flat_map(Commit::numbered);
    events
        .map(|(version, event)| {
            let state = Customer::default().evolve(&<Customer as Aggregate>::read(event).unwrap());
            CustomerView::of(customer.clone(), &state, version)
        })
        .collect()
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
            let Some(view) = plumbing.live.views.load(id).await.unwrap() else { continue };
            let version = view.version;
            let done = commits.iter().position(|commit| commit.last_version() == version);
            assert_eq!(Some(view), fold(id, &commits[..=done.expect("a view between two commits")]));
        }
    }
    plumbing.building.set(true);
    plumbing.rebuild(50).await;
    assert!(plumbing.progress.borrow().iter().all(|segment| segment.done));
    plumbing.settle(&customer).await;
    let figures = plumbing.figures.borrow().clone();
    let counted = |kind: fn(&Figure) -> bool| figures.iter().filter(|figure| kind(figure)).count();
    let orders = streams.iter().filter(|commits| commits[0].stream.order_id().is_some()).count();
    assert!(counted(|figure| *figure == Figure::OrderPlaced) <= orders, "an order was placed twice: {figures:?}");
    let ended = |figure: &Figure| matches!(figure, Figure::OrderConfirmed(_) | Figure::OrderRejected(_));
    assert!(counted(ended) <= orders, "an order has ended twice: {figures:?}");
    let profiles = profiles_in(&plumbing.store, &customer).await;
    let faultless = moments.iter().flatten().all(|(_, _, fault)| fault.is_none());
    for (which, model) in [("live", &plumbing.live), ("next", &plumbing.next)] {
        assert_eq!(
            model.views.customers(std::slice::from_ref(&customer)).await.unwrap(),
            profiles.last().into_iter().cloned().collect::<Vec<_>>(),
            "{which}"
        );
        assert_found(&model.index, &profiles).await;
        let (mut placed, mut counts): (Vec<PlacedOrder>, BTreeMap<OrderStatus, u64>) = Default::default();
        let mut stats = Stats::default();
        for commits in streams {
            let stored = plumbing.store.read(&commits[0].stream, 0).await.unwrap();
            for (event_type, place) in stored.iter().flat_map(EventPlace::of) {
                let listed = model.index.newest(event_type, Some(&place.position()), None, 1).await.unwrap();
                assert_eq!(listed, [place], "{event_type} in {which}");
            }
            let Some(id) = commits[0].stream.order_id() else { continue };
            let expected = fold(id, &stored);
            assert_eq!(model.views.load(id).await.unwrap(), expected, "{which}");
            placed.extend(expected.iter().map(PlacedOrder::of));
            if let Some(view) = expected {
                *counts.entry(view.status).or_default() += 1;
                stats.add_all(&stats_of(&stored, &view));
            }
        }
        let counted = model.index.stats(Hour::new(0), Hour::new(i64::MAX)).await.unwrap();
        if faultless {
            assert_eq!(counted, stats, "{which}");
        }
        assert_no_more(&counted, &stats);
        placed.sort_unstable_by(|one, other| other.cmp(one));
        assert_eq!(model.views.customer_orders(&customer, 0, 9).await.unwrap().orders, placed, "{which}");
        assert_eq!(model.views.count().await.unwrap(), counts, "{which}");
    }
}

fn stats_of(commits: &[Commit], view: &OrderView) -> Stats {
    let mut stats = Stats::default();
    for commit in commits {
        for event in &commit.events {
            stats.count(&event.read().unwrap(), commit.metadata.occurred_at, view.total_amount);
        }
    }
    stats
}

/// What is cut short may not count; nothing counts twice.
fn assert_no_more(counted: &Stats, happened: &Stats) {
    let happened: BTreeMap<_, _> = happened.by_hour().collect();
    for (hour, sums) in counted.by_hour() {
        for (stat, sum) in sums {
            let most = &happened[&hour][stat];
            assert!(sum.count <= most.count, "{stat:?}: {sum:?}, and there were {most:?}");
            assert!(
                sum.amounts.iter().all(|(currency, amount)| *amount <= most.amounts[currency]),
                "{stat:?}: {sum:?}"
            );
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
        assert!(project(&store, &model, &commits[..have]).await.failed.is_empty());
        model.views.faults.push(Fault::BeforeEffect);
        catch_up(&store, &model, id).await.unwrap_err();
        assert!(catch_up(&store, &model, id).await.unwrap(), "it has {have} of {}", commits.len());
        assert_eq!(model.views.load(id).await.unwrap(), fold(id, &commits));
        let (confirmed, place) = EventPlace::of(commits.last().unwrap()).next().unwrap();
        assert_eq!(model.index.newest(confirmed, None, None, 9).await.unwrap(), [place]);
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
    let (old, wrong): (Model, Model) = Default::default();
    assert!(project(&store, &old, &commits[..2]).await.failed.is_empty());
    let mut damaged = expected.clone();
    (damaged.status, damaged.items) = (OrderStatus::Rejected, vec![]);
    wrong.views.list(&damaged).await.unwrap();
    wrong.views.save(&damaged, None).await.unwrap();
    for model in [lost, old, wrong] {
        for _ in 0..2 {
            assert_eq!(reproject_order(&store, &model, id).await.unwrap(), Some(expected.version));
            assert_eq!(model.views.load(id).await.unwrap().as_ref(), Some(&expected));
            for (event_type, place) in commits.iter().flat_map(EventPlace::of) {
                assert_eq!(model.index.newest(event_type, None, None, 9).await.unwrap(), [place], "{event_type}");
            }
            assert_eq!(model.views.count().await.unwrap(), BTreeMap::from([(OrderStatus::Confirmed, 1)]));
            let listed = model.views.customer_orders(&expected.customer.id, 0, 9).await.unwrap().orders;
            assert_eq!(listed, [PlacedOrder::of(&expected)]);
        }
        let unknown = OrderId::new(Uuid::new_v4());
        assert_eq!(reproject_order(&store, &model, unknown).await.unwrap(), None);
        assert_eq!(model.views.load(unknown).await.unwrap(), None);
    }
}

/// Somebody who brings up what is behind stops between the list and the view; and the batch that comes then has more than they
/// saw, after which the order rests as it did before.
#[tokio::test]
async fn an_order_that_leaves_its_rest_and_comes_back_in_one_batch_is_listed_as_it_rests() {
    let (shop, id) = (Shop::with_stock(10).await, OrderId::new(Uuid::new_v4()));
    shop.place(id, PAYMENT_METHODS[0]).await.unwrap();
    shop.fulfil(id, 1).await.unwrap();
    let (rested, model) = (shop.store.all().len(), Model::default());
    assert!(project(&shop.store, &model, &shop.store.all()).await.failed.is_empty());
    shop.cancel(id).await.unwrap();
    let cancelling = fold(id, &shop.store.all()).unwrap();
    shop.deliver(id).await.unwrap();
    let commits = shop.store.all();
    let delivered = fold(id, &commits).unwrap();
    assert!(cancelling.is_open() && !delivered.is_open());
    model.views.list(&cancelling).await.unwrap();

    assert!(project(&shop.store, &model, &commits[rested..]).await.failed.is_empty());
    assert_eq!(model.views.load(id).await.unwrap(), Some(delivered.clone()));
    assert_eq!(model.views.count().await.unwrap(), BTreeMap::from([(delivered.status, 1)]));
}

#[tokio::test]
async fn a_profile_that_was_lost_on_its_way_is_shown_and_found() {
    let commits = history(PAYMENT_METHODS[0], &[false; 5]).await;
    let id = commits[0].stream.order_id().unwrap();
    let (store, model) = lost(&commits).await;
    assert!(project(&store, &model, &commits).await.failed.is_empty());
    let customer = fold(id, &commits).unwrap().customer.id;
    for profile in profiles(&customer, &commits[0].metadata) {
        store.append(&profile).await.unwrap();
    }
    assert_eq!(reproject_customer(&store, &model, &customer).await.unwrap(), 1);
    let shown = load_shown(&model.views, &[id]).await.unwrap();
    assert_eq!(shown[0].customer, profiles_in(&store, &customer).await[5]);
    assert_found(&model.index, &profiles_in(&store, &customer).await).await;
    assert_eq!(model.index.newest("CustomerProfileUpdated", None, None, 9).await.unwrap().len(), 6);
    let nobody = CustomerId::parse("nobody").unwrap();
    assert_eq!(reproject_customer(&store, &model, &nobody).await.unwrap(), 0);
}

#[tokio::test]
async fn the_commits_of_an_order_that_come_together_are_one_save_of_its_view() {
    let commits = history(PAYMENT_METHODS[0], &[false; 5]).await;
    let (store, model) = lost(&commits).await;
    // Whatever is written besides the list of the customer's orders and the view would meet this.
    model.views.faults.push_after(2, Fault::BeforeEffect);
    assert!(project(&store, &model, &commits).await.failed.is_empty());
    assert_eq!(model.views.load(commits[0].stream.order_id().unwrap()).await.unwrap().unwrap().version, 5);
}

/// Also what was read because it was missing, and nothing for coming again.
#[tokio::test]
async fn what_has_come_into_a_view_counts_once_in_whichever_order_it_comes() {
    let commits = history(PAYMENT_METHODS[0], &[false; 5]).await;
    let (store, model) = lost(&commits).await;
    let mut told = Vec::new();
    for batch in [&commits[..1], &commits[3..4], &commits[1..3], &commits[..], &commits[4..]] {
        let Projected { failed, taken_in, .. } = project(&store, &model, batch).await;
        assert!(failed.is_empty());
        told.push((taken_in.figures, taken_in.occurred.len()));
    }
    let (placed_at, confirmed_at) = (commits[0].metadata.occurred_at, commits[4].metadata.occurred_at);
    let took = confirmed_at.signed_duration_since(placed_at).to_std().unwrap();
    let (placed, confirmed) = (vec![Figure::OrderPlaced], vec![Figure::OrderConfirmed(took)]);
    assert_eq!(told, [(placed, 1), (confirmed, 4), (vec![], 0), (vec![], 0), (vec![], 0)]);
}

/// A view that is saved counts, though something after it fails, and the batch comes again.
#[tokio::test]
async fn what_is_saved_counts_whatever_fails_afterwards() {
    let commits = history(PAYMENT_METHODS[0], &[false; 5]).await;
    let (store, model) = lost(&commits).await;
    let mut figures = Vec::new();
    for calls in 0..6 {
        model.views.faults.push_after(calls, Fault::BeforeEffect);
        figures.extend(project(&store, &model, &commits).await.taken_in.figures);
    }
    assert!(matches!(figures.as_slice(), [Figure::OrderPlaced, Figure::OrderConfirmed(_)]), "{figures:?}");
}

/// Of the commits between these, nothing is in the batch: they are read.
#[tokio::test]
async fn a_batch_with_a_gap_skips_nothing() {
    let commits = history(PAYMENT_METHODS[0], &[false; 5]).await;
    let id = commits[0].stream.order_id().unwrap();
    let (store, model) = lost(&commits).await;
    assert!(project(&store, &model, &[commits[0].clone(), commits[3].clone()]).await.failed.is_empty());
    assert_eq!(model.views.load(id).await.unwrap(), fold(id, &commits));
}

/// Two changes of the profile, projected at the same time at every moment of either, while some write takes longer or is cut
/// short; what was cut short comes again.
#[tokio::test]
async fn a_name_that_comes_back_while_another_is_projected_is_found_again() {
    let commits = history(PAYMENT_METHODS[0], &[false; 5]).await;
    let customer = fold(commits[0].stream.order_id().unwrap(), &commits).unwrap().customer.id;
    let profiles = profiles(&customer, &commits[0].metadata);
    let faults = [Fault::Late(4), Fault::Late(30), Fault::Late(90), Fault::BeforeEffect, Fault::AfterEffect];
    for second_waits in [0, 1, 2, 3, 5, 8, 13, 21, 34, 55] {
        for (slow, fault) in (0..12).flat_map(|slow| faults.map(|fault| (slow, fault))) {
            let (store, model) = lost(&profiles[..1]).await;
            assert!(project(&store, &model, &profiles[..1]).await.failed.is_empty());
            store.append(&profiles[1]).await.unwrap();
            model.index.faults.push_after(slow, fault);
            let bring_in = async |change: &[Commit]| {
                while !project(&store, &model, change).await.failed.is_empty() {}
            };
            let back = async {
                for _ in 0..second_waits {
                    yield_now().await;
                }
                store.append(&profiles[2]).await.unwrap();
                bring_in(&profiles[2..3]).await;
            };
            tokio::join!(bring_in(&profiles[1..2]), back);
            let now = model.views.customers(std::slice::from_ref(&customer)).await.unwrap();
            assert_eq!((now[0].first_name.as_deref(), now[0].version), (Some("Anna"), 3));
            assert_found(&model.index, &profiles_in(&store, &customer).await).await;
        }
    }
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

/// A page whose views are saved cannot be counted any more, whoever is cut short: so it is told.
#[tokio::test]
async fn a_rebuild_knows_of_pages_that_it_may_not_have_counted() {
    let commits = history(PAYMENT_METHODS[0], &[false; 5]).await;
    let whole = Segment { number: 0, of: 1 };
    for (faults_after, uncounted) in [(None, 0), (Some(commits.len()), 1)] {
        let (store, model) = lost(&commits).await;
        if let Some(calls) = faults_after {
            model.index.faults.push_after(calls, Fault::BeforeEffect);
        }
        let done = rebuild_page(&store, &model, whole, Progress::default().begin(), 9).await.unwrap();
        assert_eq!((done.done, done.begun, done.uncounted), (true, false, uncounted));
    }
    let (store, model) = lost(&commits).await;
    let killed = Progress::default().begin();
    // Whoever was killed has done it all, but for saving how far it is.
    rebuild_page(&store, &model, whole, killed.clone(), 9).await.unwrap();
    let done = rebuild_page(&store, &model, whole, killed.begin(), 9).await.unwrap();
    assert_eq!((done.begun, done.uncounted), (false, 1));
    // What has failed is begun again, and counted once.
    let (store, model) = lost(&commits).await;
    model.views.faults.push_after(1, Fault::BeforeEffect);
    let begun = Progress::default().begin();
    let failed = rebuild_page(&store, &model, whole, begun.clone(), 9).await.unwrap_err();
    let done = rebuild_page(&store, &model, whole, begun.give_back(&failed).begin(), 9).await.unwrap();
    let view = model.views.load(commits[0].stream.order_id().unwrap()).await.unwrap().unwrap();
    let counted = model.index.stats(Hour::new(0), Hour::new(i64::MAX)).await.unwrap();
    assert_eq!((done.uncounted, counted), (0, stats_of(&commits, &view)));
    // Unless it was not counted either, for what of it is there: that is told when it is begun again.
    let (store, model) = lost(&commits).await;
    let other = history(PAYMENT_METHODS[0], &[false; 5]).await;
    for commit in &other {
        store.append(commit).await.unwrap();
    }
    // Both are listed, then each is saved.
    model.views.faults.push_after(2, Fault::BeforeEffect);
    model.index.faults.push_after(commits.len() + other.len(), Fault::BeforeEffect);
    let failed = rebuild_page(&store, &model, whole, Progress::default().begin(), 20).await.unwrap_err();
    assert!(!failed.is_counted, "{failed:?}");
    let again = Progress::default().begin().give_back(&failed).begin();
    assert_eq!(again.uncounted, 1);
}

/// What two generations have otherwise, by pages of so many commits.
async fn compared(store: &MemoryEventStore, models: (&Model, &Model), limit: usize) -> Differences {
    compared_when(store, models, limit, DateTime::<Utc>::MAX_UTC).await
}

async fn compared_when(
    store: &MemoryEventStore,
    models: (&Model, &Model),
    limit: usize,
    now: DateTime<Utc>,
) -> Differences {
    let (whole, mut comparison) = (Segment { number: 0, of: 1 }, Comparison::default());
    while !comparison.done {
        (comparison, _) = compare_page(store, models, whole, comparison, limit, now).await.unwrap();
    }
    let mut differences = comparison.differences;
    differences.hours = compare_hours(&models.0.index, &models.1.index, Hour::new(i64::MAX)).await.unwrap();
    differences
}

#[tokio::test]
async fn what_a_new_generation_has_otherwise_is_counted_before_it_is_read() {
    let (store, read) = (MemoryEventStore::default(), Model::default());
    let mut orders = Vec::new();
    for _ in 0..5 {
        orders.push(history(PAYMENT_METHODS[0], &[false; 5]).await);
    }
    let id_of = |order: &[Commit]| order[0].stream.order_id().unwrap();
    let customer = fold(id_of(&orders[0]), &orders[0]).unwrap().customer.id;
    let profiles = profiles(&customer, &orders[0][0].metadata);
    for commit in orders.iter().flatten().chain(&profiles) {
        store.append(commit).await.unwrap();
    }
    let all = store.all();
    assert!(project(&store, &read, &all).await.failed.is_empty());

    let new = Model::default();
    assert!(project(&store, &new, &all).await.failed.is_empty());
    let same = Differences { orders: 5, ..Differences::default() };
    for limit in [3, 100] {
        assert_eq!(compared(&store, (&read, &new), limit).await, same);
    }

    // One that lacks an order, the end of another and the profile, and has made something else of a third.
    let new = Model::default();
    let taken_in = [&orders[0][..], &orders[1][..2], &orders[3], &orders[4]].concat();
    assert!(project(&store, &new, &taken_in).await.failed.is_empty());
    let view = new.views.load(id_of(&orders[3])).await.unwrap().unwrap();
    let other = OrderView { status: OrderStatus::Paid, ..view.clone() };
    new.views.save(&other, Some(&view)).await.unwrap();
    let mut differences = compared(&store, (&read, &new), 100).await;
    differences.sample.sort();
    let mut sample =
        [1, 2, 3].map(|number: usize| StreamId::order(id_of(&orders[number])).as_str().to_owned()).to_vec();
    sample.extend([&customer, &customer].map(|customer| StreamId::customer(customer).as_str().to_owned()));
    sample.sort();
    let wanted = Differences {
        orders: 5,
        missing: 1,
        behind: 1,
        added: 0,
        changed: 1,
        fields: BTreeMap::from([("status".to_owned(), 1)]),
        profiles: 1,
        lists: 1,
        hours: 1,
        sample,
    };
    assert_eq!(differences, wanted);
    assert!(wanted.is_lost(0) && !same.is_lost(9));
    // A profile is, where something could not be read.
    let profile = Differences { profiles: 1, ..same.clone() };
    assert_eq!([0, 1].map(|unreadable| profile.is_lost(unreadable)), [false, true]);
    // A customer's list is counted on each page, and nothing else is.
    let by_three = compared(&store, (&read, &new), 3).await;
    let rest = Differences { lists: 1, sample: wanted.sample.clone(), ..by_three.clone() };
    assert_eq!((rest, by_three.lists), (wanted, 5));
    // What lacks only what has just happened has nothing lost.
    let on_its_way = compared_when(&store, (&read, &new), 100, DateTime::UNIX_EPOCH).await;
    assert_eq!((on_its_way.missing, on_its_way.behind, on_its_way.changed), (0, 0, 1));
    // The other way round, what lacks is more.
    let more = compared(&store, (&new, &read), 100).await;
    assert_eq!((more.missing, more.behind, more.added, more.changed), (0, 0, 1, 1));
}

/// Read by the version that built what is read, and by this one no more: an event in the middle of one order and at the beginning of
/// another, and the items of a third and of the beginning of a fourth.
#[tokio::test]
async fn what_cannot_be_read_is_counted_and_named_and_stops_no_other_order() {
    let mut orders = Vec::new();
    for _ in 0..6 {
        orders.push(history(PAYMENT_METHODS[0], &[false; 5]).await);
    }
    let read = Model::default();
    let (readable, _) = lost(&orders.concat()).await;
    assert!(project(&readable, &read, &orders.concat()).await.failed.is_empty());
    for (order, version) in [(0, 2), (1, 0)] {
        "OrderTeleported".clone_into(&mut orders[order][version].events[0].event_type);
    }
    let (store, _) = lost(&orders.concat()).await;
    for (order, version) in [(2, 2), (3, 0)] {
        store.spoil(&orders[order][version].stream, orders[order][version].version);
    }
    let unreadable: BTreeSet<String> = orders[..4].iter().map(|order| order[0].stream.as_str().to_owned()).collect();

    let (whole, count) = (Segment { number: 0, of: 1 }, u64::try_from(unreadable.len()).unwrap());
    for limit in [3, 100] {
        let (new, mut progress) = (Model::default(), Progress::default());
        while !progress.done {
            progress = rebuild_page(&store, &new, whole, progress.begin(), limit).await.unwrap();
        }
        // Once on each page on which they are.
        assert!(progress.unreadable == count || (limit == 3 && progress.unreadable > count), "{progress:?}");
        assert_eq!(progress.unreadable_sample.iter().cloned().collect::<BTreeSet<_>>(), unreadable);
        assert_eq!(progress.unreadable_sample.len(), unreadable.len(), "each is named once");
        for order in &orders[4..] {
            let id = order[0].stream.order_id().unwrap();
            assert_eq!(new.views.load(id).await.unwrap(), fold(id, order));
        }
        let differences = compared(&store, (&read, &new), limit).await;
        assert_eq!((differences.orders, differences.missing + differences.behind), (6, count), "{differences:?}");
        assert!(differences.is_lost(progress.unreadable));
    }
}

/// That would be there at the next try, which takes in what is only in want of one.
#[tokio::test]
async fn a_page_that_may_yet_be_taken_in_is_not_gone_by_because_of_what_cannot_be_read() {
    let mut orders = [history(PAYMENT_METHODS[0], &[false; 5]).await, history(PAYMENT_METHODS[0], &[false; 5]).await];
    "OrderTeleported".clone_into(&mut orders[0][0].events[0].event_type);
    let (store, model) = lost(&orders.concat()).await;
    // The other one is listed, then saved.
    model.views.faults.push_after(1, Fault::BeforeEffect);
    let whole = Segment { number: 0, of: 1 };
    let failed = rebuild_page(&store, &model, whole, Progress::default(), 100).await.unwrap_err();
    assert!(!failed.error.is_lasting(), "{failed:?}");
    let done = rebuild_page(&store, &model, whole, Progress::default(), 100).await.unwrap();
    assert_eq!((done.done, done.unreadable), (true, 1));
    let id = orders[1][0].stream.order_id().unwrap();
    assert_eq!(model.views.load(id).await.unwrap(), fold(id, &orders[1]));
}

#[tokio::test]
async fn what_was_compared_holds_for_an_hour_from_its_last_page_on() {
    let (store, model) = lost(&history(PAYMENT_METHODS[0], &[false; 5]).await).await;
    let (whole, now) = (Segment { number: 0, of: 1 }, at());
    let compare =
        async |comparison, then| compare_page(&store, (&model, &model), whole, comparison, 3, then).await.unwrap().0;
    let begun = compare(Comparison::default(), now).await;
    assert!(begun.next.is_some() && !begun.done);
    let later = now + TimeDelta::minutes(59);
    assert_eq!(begun.clone().go_on(later), begun);
    let done = compare(begun, later).await;
    assert!(done.done);
    assert_eq!(done.clone().go_on(later + TimeDelta::minutes(59)), done);
    assert_eq!(done.clone().go_on(later + TimeDelta::hours(1)), Comparison::default());
    // An earlier version has not said when.
    assert_eq!(Comparison { compared_at: None, ..done }.go_on(now), Comparison::default());
}
