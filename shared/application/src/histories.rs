//! Everything that may act on one order, at once and in any order: its executions and duplicates of them, cancels, a
//! delivery, refunds by staff, `reconcile`, on plumbing that loses calls before and after their effect, loses the messages
//! that start executions, and lets executions die without a word, also on their way from an Express to a Standard one.
//! Whatever the interleaving, the money is right.
//!
//! Each history comes from one seed. A failure prints the shortest one that fails near by; `HISTORY=<seed>` runs that one
//! alone and prints its events, and `HISTORIES=<count>` asks for more of them.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::print_stdout,
    reason = "test equipment: a panic is how a wrong history is told"
)]

use std::{
    cell::Cell,
    collections::{BTreeMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Instant,
};

use chrono::TimeDelta;
use domain::{
    books::{Books, ShipmentBook},
    ids::OrderId,
    order::{Attention, Course, Ending, Order, OrderEvent, OrderStatus, SkippableStep},
    order_view::OrderView,
};
use uuid::Uuid;

use crate::{
    compare_books,
    event_store::{EventStore, StreamId, Unavailable},
    event_stream::CommandError,
    fulfilment::{StepError, attention::flag_order, shipment::shipment_key},
    ledger::ledger,
    memory::{Fault, MemoryFulfilment},
    ports::{Cause, DurableFulfilment, ExecutionState, Fulfilment, FulfilmentInput, LedgerEntry, Payments, Shipping},
    reconcile::Finding,
    shop::{FORWARD, InMemory, Outside, Shop, Step, UNDO, at, cny},
};

/// What histories run on.
pub trait Plumbing {
    type Outside: Outside;

    /// How many turns pass, about, until an order is fulfilled while others act: what comes, comes within so many.
    const TURNS: usize;

    /// The shop whose calls may fail, and meet those of others.
    fn shop(&self) -> &Shop<Self::Outside>;

    /// The same, for whoever only looks at it: nothing fails, and nothing else happens meanwhile.
    fn calm_shop(&self) -> &Shop<Self::Outside>;

    /// How many commits there are.
    fn commits(&self) -> usize;

    /// Somebody is about to run this step, and something may go wrong with it.
    fn trouble(&self, step: Step);

    /// From now on nothing goes wrong any more.
    fn calm_down(&self);

    /// The actors have taken so many turns.
    fn turn(&self, _turns: u32) {}
}

/// Everything in memory, where each call has its effect in one moment.
pub struct Memory {
    shop: Shop,
    random: Arc<Random>,
}

impl Memory {
    pub fn new(random: Arc<Random>) -> Self {
        Self { shop: Shop::default(), random }
    }
}

impl Plumbing for Memory {
    type Outside = InMemory;

    const TURNS: usize = 120;

    fn shop(&self) -> &Shop {
        &self.shop
    }

    fn calm_shop(&self) -> &Shop {
        &self.shop
    }

    fn commits(&self) -> usize {
        self.shop.store.count()
    }

    fn trouble(&self, step: Step) {
        if self.random.one_in(4) {
            let fault = if self.random.one_in(2) { Fault::BeforeEffect } else { Fault::AfterEffect };
            match self.shop.faults_of(step).filter(|_| self.random.one_in(2)) {
                Some(faults) => faults.push(fault),
                None => self.shop.store.faults.push(fault),
            }
        }
    }

    fn calm_down(&self) {
        let Shop { store, inventory, payments, shipping, notifications } = &self.shop;
        for faults in [&store.faults, &inventory.faults, &payments.faults, &shipping.faults, &notifications.faults] {
            faults.clear();
        }
    }
}

/// What the sandbox is asked for.
const METHODS: [&str; 10] = [
    "pm_card_visa",
    "pm_card_visa",
    "pm_card_visa",
    "pm_card_visa",
    "pm_card_declined",
    "pm_card_declined",
    "pm_charged_then_timeout",
    "pm_fails_twice",
    "pm_refund_fails_twice",
    "pm_refund_fails",
];
const POSTAL_CODES: [&str; 7] =
    ["200001", "200001", "200001", "SANDBOX-REFUSE", "SANDBOX-TIMEOUT", "SANDBOX-MUTE", "SANDBOX-KEEP"];

const TOTAL: u64 = 3998;

/// How often a step is tried before its execution gives it up: never again, once more, or so often that what passes is over.
const TRIES: [u32; 3] = [1, 2, 12];

/// How often an Express execution that cannot hand over begins again.
const PAUSES: u32 = 2;

/// `SplitMix64` (Steele, Lea, Flood 2014): the same numbers for the same seed.
#[derive(Debug)]
pub struct Random(AtomicU64);

impl Random {
    fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn one_in(&self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn of<T: Copy>(&self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// The two state machines that are made of one definition.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Express,
    Standard,
}

/// The state machines: an execution that is started is put into a queue, from which the world takes it.
#[derive(Default)]
struct Machine {
    known: MemoryFulfilment,
    queue: Mutex<VecDeque<(Kind, FulfilmentInput)>>,
    started: Mutex<BTreeMap<String, u32>>,
}

impl Fulfilment for Machine {
    async fn start(&self, input: &FulfilmentInput) -> Result<(), Unavailable> {
        self.queue.lock().unwrap().push_back((Kind::Express, input.clone()));
        Ok(())
    }
}

impl DurableFulfilment for Machine {
    async fn start(&self, input: &FulfilmentInput) -> Result<bool, Unavailable> {
        let now = DurableFulfilment::start(&self.known, input).await?;
        if now {
            *self.started.lock().unwrap().entry(input.execution_name()).or_default() += 1;
            self.queue.lock().unwrap().push_back((Kind::Standard, input.clone()));
        }
        Ok(now)
    }

    async fn state(&self, input: &FulfilmentInput) -> Result<ExecutionState, Unavailable> {
        self.known.state(input).await
    }
}

type Actor<'w> = Pin<Box<dyn Future<Output = ()> + 'w>>;

/// One order, and everything that may happen to it.
struct World<'p, P: Plumbing> {
    plumbing: &'p P,
    id: OrderId,
    random: &'p Random,
    tries: u32,
    machine: Machine,
    /// How many commits have been handed on.
    handed_on: Cell<usize>,
    cancel_accepted: Cell<bool>,
    delivery_accepted: Cell<bool>,
    /// Whether faults and deaths still happen.
    rough: Cell<bool>,
    turns: Cell<u32>,
}

thread_local! {
    /// How long the history was that ran last, also when it has failed.
    static LENGTH: Cell<u32> = const { Cell::new(0) };
}

impl<'p, P: Plumbing> World<'p, P> {
    fn shop(&self) -> &'p Shop<P::Outside> {
        self.plumbing.shop()
    }

    fn calm_shop(&self) -> &'p Shop<P::Outside> {
        self.plumbing.calm_shop()
    }

    /// Hands new events on to the state machine, as stream, bus and queue do. Now and then a message is lost.
    async fn hand_on(&self) {
        let commits = self.calm_shop().store.read(&StreamId::order(self.id), 0).await.unwrap();
        for commit in commits.iter().skip(self.handed_on.replace(commits.len())) {
            for (version, event) in commit.numbered() {
                let cause = Cause {
                    order_id: self.id,
                    version,
                    event,
                    correlation_id: &commit.metadata.correlation_id,
                    traceparent: None,
                };
                let Some(input) = FulfilmentInput::started_by(cause).unwrap() else { continue };
                if !(self.rough.get() && self.random.one_in(25)) {
                    Fulfilment::start(&self.machine, &input).await.unwrap();
                }
            }
        }
    }

    /// Polls the actors in a random order, one turn at a time, until all are done and nothing more is started.
    fn interleave<'w>(&'w self, mut actors: Vec<Actor<'w>>) {
        let mut context = Context::from_waker(Waker::noop());
        loop {
            if self.plumbing.commits() > self.handed_on.get() {
                now(self.hand_on());
            }
            while let Some((kind, input)) = self.machine.queue.lock().unwrap().pop_front() {
                if self.rough.get() && self.random.one_in(6) {
                    actors.push(Box::pin(self.execute(kind, input.clone())));
                }
                actors.push(Box::pin(self.execute(kind, input)));
            }
            if actors.is_empty() {
                return;
            }
            let next = self.random.below(actors.len());
            if actors[next].as_mut().poll(&mut context) == Poll::Ready(()) {
                drop(actors.swap_remove(next));
            }
            self.turns.set(self.turns.get() + 1);
            LENGTH.set(self.turns.get());
            self.plumbing.turn(self.turns.get());
            assert!(self.turns.get() < 20_000, "the history does not end");
        }
    }

    /// One execution, as infra/fulfilment.asl.json runs it. It may die at any step, without a word.
    async fn execute(&self, kind: Kind, input: FulfilmentInput) {
        let dies_at = if self.rough.get() && self.random.one_in(8) { self.random.below(6) } else { usize::MAX };
        let start = || -> VecDeque<Step> {
            match (input.refund, input.undo) {
                (true, _) => VecDeque::from([Step::IssueRefund]),
                (false, true) => UNDO.into(),
                (false, false) => FORWARD.into(),
            }
        };
        let (mut way, mut pauses) = (start(), 0);
        for done in 0.. {
            let Some(step) = way.pop_front() else { break };
            if done == dies_at {
                break;
            }
            match self.insist(kind, &input, step).await {
                Ok(()) => {}
                Err(StepError::NotToBeFulfilled(Ending::Rejected(_))) => way = UNDO.into(),
                Err(StepError::NotToBeFulfilled(Ending::Cancelled(_)) | StepError::Delivered) => break,
                Err(error) => {
                    let may_pass = matches!(error, StepError::Unavailable(_) | StepError::Contended);
                    let failed = Attention { step: step.name().to_owned(), reason: error.error_type().to_owned() };
                    let hands_over = kind == Kind::Express;
                    let is_left = (hands_over && may_pass) || !self.flag(kind, &input, &failed).await;
                    if !(hands_over && is_left) || pauses == PAUSES || self.hand_over(&input).await {
                        break;
                    }
                    pauses += 1;
                    way = start();
                }
            }
        }
        if kind == Kind::Standard {
            self.machine.known.end(&input);
        }
    }

    /// Answers whether the order is flagged, or need not be.
    async fn flag(&self, kind: Kind, input: &FulfilmentInput, failed: &Attention) -> bool {
        for _ in 0..self.tries_of(kind) {
            if flag_order(&self.shop().store, input, failed, at()).await.is_ok() {
                return true;
            }
        }
        false
    }

    /// Leaves the rest to a Standard execution, but for one that was started before. It may not come to that.
    async fn hand_over(&self, input: &FulfilmentInput) -> bool {
        let dies = self.rough.get() && self.random.one_in(8);
        dies || DurableFulfilment::start(&self.machine, input).await.unwrap()
    }

    fn tries_of(&self, kind: Kind) -> u32 {
        if kind == Kind::Express { self.tries.min(2) } else { self.tries }
    }

    /// Runs a step until it is done, answers for good, or is given up.
    async fn insist(&self, kind: Kind, input: &FulfilmentInput, step: Step) -> Result<(), StepError> {
        let mut last = None;
        for _ in 0..self.tries_of(kind) {
            if self.rough.get() {
                self.plumbing.trouble(step);
            }
            match self.shop().run_in(step, input).await {
                Err(error @ (StepError::Unavailable(_) | StepError::Contended | StepError::StillHeld)) => {
                    last = Some(error);
                }
                // A forward execution may be started, or go on, after the order has gone another way.
                answer => return answer,
            }
        }
        Err(last.unwrap())
    }

    async fn wait_a_while(&self) {
        for _ in 0..self.random.below(P::TURNS) {
            tokio::task::yield_now().await;
        }
    }

    /// Sends a command until it is answered; says whether it was accepted.
    async fn ask<R: std::error::Error + 'static, F>(&self, command: impl Fn() -> F) -> bool
    where
        F: Future<Output = Result<(), CommandError<R>>>,
    {
        for _ in 0..50 {
            match command().await {
                Ok(()) => return true,
                Err(CommandError::Rejected(_)) => return false,
                Err(_) => {}
            }
        }
        panic!("the command was not answered in 50 tries")
    }

    async fn cancel(&self) {
        self.wait_a_while().await;
        if self.ask(|| self.shop().cancel(self.id)).await {
            self.cancel_accepted.set(true);
        }
    }

    async fn deliver(&self) {
        self.wait_a_while().await;
        for _ in 0..self.random.below(4) {
            if self.ask(|| self.shop().deliver(self.id)).await {
                self.delivery_accepted.set(true);
            }
            self.wait_a_while().await;
        }
    }

    async fn refund(&self) {
        self.wait_a_while().await;
        let amount = self.random.of(&[1, 1000, 2000, 2998, TOTAL]);
        let name = format!("a refund of {amount} in turn {}", self.turns.get());
        for _ in 0..=self.random.below(2) {
            self.ask(|| self.shop().request_refund(self.id, &name, amount)).await;
        }
    }

    /// Staff look after the order as soon as it asks for a person, while everything else goes on.
    async fn staff(&self) {
        for _ in 0..3 {
            self.wait_a_while().await;
            let step = self.calm_shop().order(self.id).await.attention.and_then(|stuck| skippable(&stuck));
            self.go_on(step.filter(|_| self.random.one_in(2))).await;
        }
    }

    async fn reconcile(&self) {
        self.wait_a_while().await;
        // It may be kept from appending; then the next run does.
        let _found = self.shop().reconcile(&self.machine, self.id, TimeDelta::hours(1)).await;
    }

    /// What happens at last: the providers work, `reconcile` runs every few minutes, and staff look after what is stuck.
    fn settle(&self) {
        self.rough.set(false);
        self.plumbing.calm_down();
        for round in 0.. {
            if !now(self.calm_shop().order(self.id)).is_open() {
                return;
            }
            assert!(round < 20, "the order is not settled: {:?}", now(self.calm_shop().event_types(self.id)));
            let found = now(self.calm_shop().reconcile(&self.machine, self.id, TimeDelta::hours(2 + round))).unwrap();
            if matches!(found, Finding::Waiting(_)) {
                now(self.look_after());
            }
            self.interleave(Vec::new());
        }
    }

    /// Somebody of staff: once more, or without the step that goes on failing.
    async fn look_after(&self) {
        let stuck = self.calm_shop().order(self.id).await.attention.expect("who waits for a person says so");
        assert!(self.go_on(skippable(&stuck).filter(|_| self.random.one_in(2))).await);
    }

    /// Without this step, unless the provider has done it; else with all of them.
    async fn go_on(&self, without: Option<SkippableStep>) -> bool {
        match without {
            Some(step) if self.ask(|| self.shop().skip(self.id, step)).await => true,
            _ => self.ask(|| self.shop().resume(self.id)).await,
        }
    }
}

fn skippable(stuck: &Attention) -> Option<SkippableStep> {
    SkippableStep::ALL.into_iter().find(|step| step.name() == stuck.step)
}

/// Runs what nothing else is at work beside.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..100_000 {
        if let Poll::Ready(outcome) = future.as_mut().poll(&mut context) {
            return outcome;
        }
    }
    panic!("it does not end")
}

/// The history of this seed, on the plumbing that is made for it. Panics where something is wrong.
pub fn history<P: Plumbing>(seed: u64, plumbing: impl FnOnce(Arc<Random>) -> P) -> History {
    let random = Arc::new(Random(AtomicU64::new(seed)));
    let plumbing = plumbing(Arc::clone(&random));
    let world = World {
        plumbing: &plumbing,
        id: OrderId::new(Uuid::from_u128(u128::from(seed))),
        random: &random,
        tries: TRIES[(seed % TRIES.len() as u64) as usize],
        machine: Machine::default(),
        handed_on: Cell::new(0),
        cancel_accepted: Cell::new(false),
        delivery_accepted: Cell::new(false),
        rough: Cell::new(true),
        turns: Cell::new(0),
    };
    let stock_before = now(async {
        let shop = world.calm_shop();
        shop.set_stock(10).await;
        shop.place_to(world.id, random.of(&METHODS), "body", random.of(&POSTAL_CODES)).await.unwrap();
        if random.one_in(8) {
            shop.set_stock(1).await;
        }
        shop.stock().await
    });
    let mut actors: Vec<Actor<'_>> = Vec::new();
    for _ in 0..random.below(3) {
        actors.push(Box::pin(world.cancel()));
    }
    for _ in 0..random.below(3) {
        actors.push(Box::pin(world.refund()));
    }
    if random.one_in(2) {
        actors.push(Box::pin(world.deliver()));
    }
    for _ in 0..random.below(3) {
        actors.push(Box::pin(world.reconcile()));
    }
    if random.one_in(2) {
        actors.push(Box::pin(world.staff()));
    }
    world.interleave(actors);
    world.settle();
    let (end, events) = now(check(&world, stock_before));
    History { tries: world.tries, end, events }
}

/// How an order has ended, and which events it has.
#[derive(Debug)]
pub struct History {
    pub tries: u32,
    pub end: &'static str,
    pub events: Vec<String>,
}

/// What must hold when nothing is to be done any more.
async fn check<P: Plumbing>(world: &World<'_, P>, stock_before: u32) -> (&'static str, Vec<String>) {
    let (shop, id) = (world.calm_shop(), &world.id);
    let types = shop.event_types(*id).await;
    let events = shop.events(*id).await;
    let order = Order::from_events(&events);
    let books = ledger(&shop.store, &shop.payments, &shop.inventory, &shop.shipping, *id).await.unwrap();
    let given_back = given_back_by_staff(&events);
    let skipped = |step| types.contains(&"StepSkipped".to_owned()) && was_skipped(&events, step);
    let stock = shop.stock().await;
    let ended = match &order.course {
        Course::Confirmed(..) | Course::Delivered(..) => {
            assert_eq!(shop.balance(*id).await, cny(TOTAL - given_back), "{types:?}");
            assert_eq!(stock, stock_before - 2, "{types:?}");
            let delivered = matches!(order.course, Course::Delivered(..));
            let parcel = if delivered { ShipmentBook::Delivered } else { ShipmentBook::Created };
            assert_eq!(books.providers.shipment, parcel, "{types:?}");
            assert!(delivered || !world.cancel_accepted.get(), "cancelled, and confirmed all the same: {types:?}");
            if delivered { "delivered" } else { "confirmed" }
        }
        Course::Ended(_, ending) => {
            let kept = skipped(SkippableStep::CancelShipment);
            if !skipped(SkippableStep::RefundPayment) {
                assert_eq!(shop.balance(*id).await, cny(0), "{types:?}");
            }
            assert!(stock <= stock_before, "stock was put back twice: {types:?}");
            if !skipped(SkippableStep::ReleaseInventory) && !kept {
                assert_eq!(stock, stock_before, "{types:?}");
            }
            assert!(books.providers.shipment != ShipmentBook::Created || kept, "{types:?}");
            assert!(!world.delivery_accepted.get(), "delivered, and undone all the same: {types:?}");
            let cancelled = matches!(ending, Ending::Cancelled(_));
            assert_eq!(world.cancel_accepted.get(), cancelled, "{types:?}");
            if cancelled { "cancelled" } else { "rejected" }
        }
        other => panic!("the order has no end: {other:?} after {types:?}"),
    };
    // A person who lets an order go on without an undo answers also for what is held and no event tells of.
    let undos = [SkippableStep::RefundPayment, SkippableStep::CancelShipment, SkippableStep::ReleaseInventory];
    if !undos.into_iter().any(skipped) {
        assert!(books.order.agrees_with(&books.providers), "{books:?} after {types:?}");
    }
    assert_charged_once(world, &books.providers).await;
    assert_nothing_moves_any_more(world).await;
    assert_compared(world, order.in_doubt, undos.into_iter().any(skipped)).await;
    assert_honest(*id, &events, &order);
    assert_events_in_order(&types);
    assert!(world.machine.started.lock().unwrap().values().all(|times| *times == 1), "an execution was started twice");
    (ended, types)
}

fn given_back_by_staff(events: &[OrderEvent]) -> u64 {
    let completed = events.iter().filter_map(|event| match event {
        OrderEvent::RefundCompleted(completed) => Some(completed.refund.amount.amount()),
        _ => None,
    });
    completed.sum()
}

fn was_skipped(events: &[OrderEvent], wanted: SkippableStep) -> bool {
    events.iter().any(|event| matches!(event, OrderEvent::StepSkipped(skipped) if skipped.step == wanted))
}

async fn assert_charged_once<P: Plumbing>(world: &World<'_, P>, books: &Books) {
    let ledger = world.calm_shop().payments.ledger(world.id).await.unwrap();
    let charges = ledger.iter().filter(|entry| matches!(entry, LedgerEntry::Charged(..))).count();
    assert!(charges <= 1, "{ledger:?}");
    assert!(books.refunded.amount() <= books.charged.amount(), "more went back than was paid: {ledger:?}");
}

/// An execution that still walks all its steps, as one may that has slept for long, finds nothing to do.
async fn assert_nothing_moves_any_more<P: Plumbing>(world: &World<'_, P>) {
    let (shop, id) = (world.calm_shop(), &world.id);
    let standing = async || {
        let parcel = shop.shipping.shipment(shipment_key(*id)).await.unwrap();
        (shop.balance(*id).await, shop.stock().await, parcel, shop.event_types(*id).await)
    };
    let before = standing().await;
    for step in FORWARD.into_iter().chain(UNDO).chain([Step::IssueRefund]) {
        let _refused_or_done = shop.run(step, *id).await;
    }
    assert_eq!(before, standing().await);
}

/// A day later, an order that was in doubt is compared with its providers once. These bar for ever, so nothing has come late; and
/// a person is called only for what somebody has answered for before.
async fn assert_compared<P: Plumbing>(world: &World<'_, P>, in_doubt: bool, answered_for: bool) {
    let (shop, later) = (world.calm_shop(), TimeDelta::days(2));
    let found = shop.compare_books(world.id, later).await.unwrap();
    let expected = match &found {
        compare_books::Finding::NotToBeCompared => !in_doubt,
        compare_books::Finding::Agreed(late) => in_doubt && (late.is_empty() || answered_for),
        compare_books::Finding::Flagged(_) => in_doubt && answered_for,
        compare_books::Finding::Moving | compare_books::Finding::Waiting => false,
    };
    assert!(expected, "{found:?} after {:?}", shop.event_types(world.id).await);
    let events = shop.event_types(world.id).await;
    shop.compare_books(world.id, TimeDelta::days(4)).await.unwrap();
    assert_eq!(shop.event_types(world.id).await, events, "nothing is said twice");
}

/// What the customer reads is where the order stands.
fn assert_honest(id: OrderId, events: &[OrderEvent], order: &Order) {
    let view = (1..).zip(events).fold(None, |view, (version, event)| OrderView::evolve(view, id, event, version, at()));
    let view = view.unwrap();
    let status = match &order.course {
        Course::Confirmed(..) | Course::Delivered(..) => OrderStatus::Confirmed,
        Course::Ended(_, Ending::Rejected(_)) => OrderStatus::Rejected,
        Course::Ended(_, Ending::Cancelled(_)) => OrderStatus::Cancelled,
        other => panic!("{other:?} is no end"),
    };
    assert_eq!((view.status, view.is_open()), (status, order.is_open()));
}

/// What may happen more than once, and what may still happen after the order's end: refunds, and who looks after them.
const REPEATED: [&str; 6] =
    ["RefundRequested", "RefundCompleted", "RefundFailed", "OrderFlagged", "FulfilmentResumed", "StepSkipped"];

fn assert_events_in_order(types: &[String]) {
    for event in types.iter().filter(|event| !REPEATED.contains(&event.as_str())) {
        assert_eq!(types.iter().filter(|other| *other == event).count(), 1, "{event} stands twice in {types:?}");
    }
    let is_final = |event: &String| ["OrderRejected", "OrderCancelled", "ShipmentDelivered"].contains(&event.as_str());
    if let Some(end) = types.iter().position(is_final) {
        let late: Vec<&String> = types[end + 1..].iter().filter(|event| !REPEATED.contains(&event.as_str())).collect();
        assert!(late.is_empty(), "{late:?} after the end in {types:?}");
    }
}

/// Explores the histories of as many seeds as this, or as the environment asks for, on all cores.
pub fn explore(count: u64, history: impl Fn(u64) -> History + Sync) {
    let number = |name: &str| std::env::var(name).ok().map(|number| number.parse::<u64>().unwrap());
    if let Some(seed) = number("HISTORY") {
        println!("{:?}", history(seed));
        return;
    }
    let count = number("HISTORIES").unwrap_or(count);
    let history = &history;
    let started = Instant::now();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let explored: Vec<Explored> = std::thread::scope(|scope| {
        let explore = |worker| scope.spawn(move || explore_each((worker as u64..count).step_by(workers), history));
        let running: Vec<_> = (0..workers).map(explore).collect();
        running.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let mut all = Explored::default();
    for explored in explored {
        for (end, count) in explored.ends {
            *all.ends.entry(end).or_default() += count;
        }
        for (event, count) in explored.events {
            *all.events.entry(event).or_default() += count;
        }
    }
    let minutes = started.elapsed().as_secs_f64() / 60.0;
    println!("{count} histories, {:.0} a minute, by tries and ends: {:?}", count as f64 / minutes, all.ends);
    println!("{:?}", all.events);
    assert_eq!(all.ends.len(), 4 * TRIES.len(), "an exploration that never sees an end has explored nothing");
    for event in REPEATED {
        assert!(all.events.contains_key(event), "no history has seen {event}");
    }
}

/// How often each end was seen after so many tries of each step, and each event.
#[derive(Default)]
struct Explored {
    ends: BTreeMap<(u32, &'static str), u64>,
    events: BTreeMap<String, u64>,
}

fn explore_each(seeds: impl Iterator<Item = u64>, history: &impl Fn(u64) -> History) -> Explored {
    let mut explored = Explored::default();
    for seed in seeds {
        let Ok(told) = catch_unwind(AssertUnwindSafe(|| history(seed))) else {
            panic!("history {} is wrong; HISTORY={0} runs it alone", shortest_from(seed, history));
        };
        *explored.ends.entry((told.tries, told.end)).or_default() += 1;
        for event in told.events {
            *explored.events.entry(event).or_default() += 1;
        }
    }
    explored
}

/// How many histories more are looked at for a shorter one that fails.
const NEAR_BY: u64 = 300;

/// The seed of the shortest history that fails among this one and those that follow it.
fn shortest_from(first: u64, history: &impl Fn(u64) -> History) -> u64 {
    let silent = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let failing = (first..first + NEAR_BY).filter_map(|seed| {
        let failed = catch_unwind(AssertUnwindSafe(|| history(seed))).is_err();
        failed.then(|| (LENGTH.get(), seed))
    });
    let shortest = failing.min().map_or(first, |(_, seed)| seed);
    std::panic::set_hook(silent);
    shortest
}
