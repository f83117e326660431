//! Every port in memory, for tests. What they lose is only what the conformance suites do not ask for.

#![expect(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::missing_panics_doc,
    reason = "test equipment: a poisoned lock or an overflow is a failed test"
)]

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Bound,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use chrono::{DateTime, Utc};
use domain::{
    books::ShipmentBook,
    ids::{AdjustmentId, CustomerId, NotificationId, OrderId, ProductId, ReservationId, TransactionId},
    money::Money,
    order::{OrderStatus, Payment, Refund, Reservation, Shipment, Shortage},
    order_view::{CustomerView, OrderView},
    product::Product,
    text::Text,
};
use tokio::task::yield_now;
use uuid::Uuid;

use crate::{
    event_store::{
        AppendError, Appended, Beginning, Commit, EventLog, EventStore, Lasting, LogPage, Segment, Snapshot, StreamId,
        Unavailable,
    },
    limits::Micros,
    ports::{
        AdjustError, Adjusted, Backlog, CancelChargeError, Catalogue, ChargeCancellation, ChargeError, ChargeRequest,
        Consumer, Counters, CustomerOrders, DeadLetter, DeadLetterQueue, DeadLetters, DeadMessage, Declines,
        DeliveryError, Draw, Drawn, DurableFulfilment, EventBus, EventPlace, ExecutionState, Failure, Fulfilment,
        FulfilmentInput, FulfilmentTries, IdentityProvider, Index, Inventory, LedgerEntry, Limits, ListProductsError,
        NotPublished, Notification, Notifications, OpenOrders, OrderViews, ParkedStream, Payments, PlacedOrder,
        Position, Posting, Process, Processes, ProductPage, PublishError, PublishedEvent, REPORT_KEPT, ReceivedMessage,
        RefundError, RefundRequest, ReserveError, SaveError, Settlement, ShipmentError, ShipmentRequest, Shipping,
        Snapshots, Standing, StockAdjustment, StockLine, TakeBackError, Tries,
    },
    sandbox::{self, Sandbox},
    stats::{Hour, Stats},
};

/// What is in memory misbehaves on request.
const SANDBOX: Sandbox = Sandbox::Misbehaving;

tokio::task_local! {
    /// When something is done that was done before.
    static THEN: DateTime<Utc>;
}

/// Does this as it was done then: by the ports' clock it is that time.
pub async fn at<T>(then: DateTime<Utc>, work: impl Future<Output = T>) -> T {
    THEN.scope(then, work).await
}

fn now() -> DateTime<Utc> {
    THEN.try_with(|then| *then).unwrap_or_else(|_| Utc::now())
}

/// What the next call to a port does instead of answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happens, and nobody knows.
    BeforeEffect,
    /// It happens, and nobody knows.
    AfterEffect,
    /// It happens, and is answered, when others have had time for so many calls.
    Late(usize),
}

/// What the next calls to a port meet, in order; and a moment before and after each effect in which others may act.
#[derive(Default)]
pub struct Faults(Mutex<VecDeque<Option<Fault>>>);

impl Faults {
    /// The next call that changes something meets this fault.
    pub fn push(&self, fault: Fault) {
        self.0.lock().unwrap().push_back(Some(fault));
    }

    /// The call that changes something after `calls` others meets this fault.
    pub fn push_after(&self, calls: usize, fault: Fault) {
        let mut faults = self.0.lock().unwrap();
        faults.extend(std::iter::repeat_n(None, calls));
        faults.push_back(Some(fault));
    }

    /// What has not been met yet will not be.
    pub fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    async fn around<T>(&self, what: &'static str, effect: impl FnOnce() -> T) -> Result<T, Unavailable> {
        yield_now().await;
        let fault = self.0.lock().unwrap().pop_front().flatten();
        match fault {
            Some(Fault::BeforeEffect) => return Err(unavailable(what)),
            Some(Fault::Late(calls)) => {
                for _ in 0..calls {
                    yield_now().await;
                }
            }
            Some(Fault::AfterEffect) | None => {}
        }
        let outcome = effect();
        yield_now().await;
        if fault == Some(Fault::AfterEffect) { Err(unavailable(what)) } else { Ok(outcome) }
    }
}

fn unavailable(what: &'static str) -> Unavailable {
    Unavailable { what, source: "a fault that the test asked for".into() }
}

fn asked_to_fail(what: &'static str) -> Unavailable {
    Unavailable { what, source: sandbox::ASKED_TO_FAIL.into() }
}

/// The same size as `DynamoDB`'s limit for an item.
const COMMIT_BYTES_MAX: usize = 400 * 1024;

#[derive(Default)]
pub struct MemoryEventStore {
    streams: Mutex<BTreeMap<StreamId, Vec<Commit>>>,
    spoiled: Mutex<BTreeSet<(StreamId, u64)>>,
    /// How often a stream was read.
    pub reads: AtomicU32,
    pub snapshots: MemorySnapshots,
    pub faults: Faults,
}

impl MemoryEventStore {
    /// How many commits there are in all streams.
    pub fn count(&self) -> usize {
        self.streams.lock().unwrap().values().map(Vec::len).sum()
    }

    /// Every commit of every stream.
    pub fn all(&self) -> Vec<Commit> {
        self.streams.lock().unwrap().values().flatten().cloned().collect()
    }

    /// From now on, what is stored there is no commit.
    pub fn spoil(&self, stream: &StreamId, version: u64) {
        self.spoiled.lock().unwrap().insert((stream.clone(), version));
    }

    fn is_spoiled(&self, commit: &Commit) -> bool {
        self.spoiled.lock().unwrap().contains(&(commit.stream.clone(), commit.version))
    }

    fn readable(&self, commits: Vec<Commit>) -> Result<Vec<Commit>, Unavailable> {
        if commits.iter().any(|commit| self.is_spoiled(commit)) {
            let source = Lasting::NotACommit("the test has spoiled a commit".into()).into();
            return Err(Unavailable { what: "the event store", source });
        }
        Ok(commits)
    }

    fn try_append(&self, commit: &Commit) -> Result<Appended, AppendError> {
        let mut streams = self.streams.lock().unwrap();
        let stream = streams.entry(commit.stream.clone()).or_default();
        if let Some(there) = stream.iter().find(|there| there.version == commit.version) {
            return if there.metadata.command_id != commit.metadata.command_id {
                Err(AppendError::Conflict)
            } else if there.metadata.fingerprint == commit.metadata.fingerprint {
                Ok(Appended::Before(there.clone()))
            } else {
                Err(AppendError::CommandReused)
            };
        }
        if serde_json::to_vec(&commit.events).unwrap().len() > COMMIT_BYTES_MAX {
            return Err(AppendError::TooLarge);
        }
        stream.push(commit.clone());
        Ok(Appended::Now)
    }
}

impl EventStore for MemoryEventStore {
    async fn read_first(&self, stream: &StreamId, limit: u32) -> Result<Beginning, Unavailable> {
        let mut commits = self.read(stream, 0).await?;
        let limit = usize::try_from(limit).unwrap();
        let more = commits.len() > limit;
        commits.truncate(limit);
        Ok(Beginning { commits, more })
    }

    async fn read(&self, stream: &StreamId, after: u64) -> Result<Vec<Commit>, Unavailable> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        yield_now().await;
        let streams = self.streams.lock().unwrap();
        let commits = streams.get(stream).into_iter().flatten();
        self.readable(commits.filter(|commit| commit.version > after).cloned().collect())
    }

    async fn read_each(&self, commits: &[(StreamId, u64)]) -> Result<Vec<Commit>, Unavailable> {
        let streams = self.streams.lock().unwrap();
        let distinct: BTreeSet<&(StreamId, u64)> = commits.iter().collect();
        let find = |(stream, version): &(StreamId, u64)| {
            streams.get(stream).and_then(|commits| commits.iter().find(|commit| commit.version == *version)).cloned()
        };
        self.readable(distinct.into_iter().filter_map(find).collect())
    }

    async fn append(&self, commit: &Commit) -> Result<Appended, AppendError> {
        self.faults.around("the event store", || self.try_append(commit)).await?
    }

    async fn pause(&self, _: u32) {
        yield_now().await;
    }

    async fn snapshot(&self, stream: &StreamId) -> Option<Snapshot> {
        self.snapshots.load(stream).await
    }
}

#[derive(Default)]
pub struct MemorySnapshots(Mutex<BTreeMap<StreamId, Snapshot>>);

impl Snapshots for MemorySnapshots {
    async fn load(&self, stream: &StreamId) -> Option<Snapshot> {
        yield_now().await;
        self.0.lock().unwrap().get(stream).cloned()
    }

    async fn save(&self, snapshot: &Snapshot) -> Result<(), Unavailable> {
        yield_now().await;
        let mut snapshots = self.0.lock().unwrap();
        if snapshots.get(&snapshot.stream).is_none_or(|there| there.version < snapshot.version) {
            snapshots.insert(snapshot.stream.clone(), snapshot.clone());
        }
        Ok(())
    }
}

impl EventLog for MemoryEventStore {
    async fn page(&self, segment: Segment, after: Option<&str>, limit: usize) -> Result<LogPage, Unavailable> {
        yield_now().await;
        let of_segment = |stream: &StreamId| {
            let bytes = stream.as_str().bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
            bytes % segment.of == segment.number
        };
        let place = |commit: &Commit| format!("{} {:020}", commit.stream.as_str(), commit.version);
        let mut commits = self.all();
        commits.retain(|commit| of_segment(&commit.stream) && after.is_none_or(|after| place(commit).as_str() > after));
        commits.sort_unstable_by_key(place);
        let more = commits.len() > limit;
        commits.truncate(limit);
        let next = commits.last().filter(|_| more).map(place);
        let (unreadable, commits): (Vec<Commit>, Vec<Commit>) =
            commits.into_iter().partition(|commit| self.is_spoiled(commit));
        let unreadable = unreadable.into_iter().map(|commit| (commit.stream, commit.version)).collect();
        Ok(LogPage { commits, unreadable, next, read_units: 1.0 })
    }
}

/// Users, their verified addresses, and who of them has a second factor.
#[derive(Default)]
pub struct MemoryIdentityProvider {
    verified: Mutex<BTreeMap<String, String>>,
    second_factors: Mutex<BTreeSet<String>>,
    pub faults: Faults,
}

impl MemoryIdentityProvider {
    pub fn verify(&self, username: &str, email: &str) {
        self.verified.lock().unwrap().insert(username.to_owned(), email.to_owned());
    }

    pub fn set_second_factor(&self, username: &str) {
        self.second_factors.lock().unwrap().insert(username.to_owned());
    }
}

impl IdentityProvider for MemoryIdentityProvider {
    async fn verified_email(&self, username: &str) -> Result<Option<String>, Unavailable> {
        self.faults.around("the user pool", || self.verified.lock().unwrap().get(username).cloned()).await
    }

    async fn has_second_factor(&self, username: &str) -> Result<bool, Unavailable> {
        self.faults.around("the user pool", || self.second_factors.lock().unwrap().contains(username)).await
    }
}

/// Catalogue and stock.
#[derive(Default)]
pub struct MemoryInventory {
    products: Mutex<BTreeMap<ProductId, Stocked>>,
    reservations: Mutex<BTreeMap<OrderId, Held>>,
    adjustments: Mutex<BTreeMap<AdjustmentId, (StockAdjustment, Adjusted)>>,
    pub faults: Faults,
}

enum Held {
    Lines(Vec<StockLine>),
    Released,
}

/// A product as it is kept: there may be more of it than a client can be told.
struct Stocked {
    name: Text<200>,
    price: Money,
    stock: u64,
}

impl Stocked {
    fn product(&self, id: &ProductId) -> Product {
        let Self { name, price, stock } = self;
        Product { id: id.clone(), name: name.clone(), price: *price, stock: sandbox::orderable(*stock) }
    }
}

impl MemoryInventory {
    /// Every product as it is now.
    pub fn all(&self) -> Vec<Product> {
        self.products.lock().unwrap().iter().map(|(id, stocked)| stocked.product(id)).collect()
    }

    /// As an inventory does that keeps what it has barred for some time only.
    pub fn forget_what_is_barred(&self) {
        self.reservations.lock().unwrap().retain(|_, held| matches!(held, Held::Lines(_)));
    }
}

impl Catalogue for MemoryInventory {
    async fn products(&self, ids: &[ProductId]) -> Result<Vec<Product>, Unavailable> {
        let products = self.products.lock().unwrap();
        let distinct: BTreeSet<&ProductId> = ids.iter().collect();
        Ok(distinct.into_iter().filter_map(|id| products.get(id).map(|stocked| stocked.product(id))).collect())
    }

    async fn list_products(&self, after: Option<&ProductId>, limit: usize) -> Result<ProductPage, ListProductsError> {
        let all = self.products.lock().unwrap();
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut behind = all.range::<ProductId, _>((after, Bound::Unbounded)).map(|(id, stocked)| stocked.product(id));
        let products: Vec<Product> = behind.by_ref().take(limit).collect();
        let last = products.last().map(|last| last.id.clone());
        Ok(ProductPage { products, next: behind.next().and(last) })
    }

    async fn put_product(&self, product: &Product) -> Result<bool, Unavailable> {
        let Product { id, name, price, stock } = product.clone();
        let stocked = Stocked { name, price, stock: stock.into() };
        Ok(self.products.lock().unwrap().insert(id, stocked).is_none())
    }

    async fn describe_product(
        &self,
        id: &ProductId,
        name: &Text<200>,
        price: Money,
    ) -> Result<(Product, bool), Unavailable> {
        let mut products = self.products.lock().unwrap();
        let stock = products.get(id).map_or(0, |stocked| stocked.stock);
        let described = Stocked { name: name.clone(), price, stock };
        let product = described.product(id);
        let new = products.insert(id.clone(), described).is_none();
        Ok((product, new))
    }

    async fn adjust_stock(&self, adjustment: &StockAdjustment) -> Result<Adjusted, AdjustError> {
        self.faults.around("the inventory", || self.try_adjust(adjustment)).await?
    }
}

impl Inventory for MemoryInventory {
    async fn reserve(&self, order_id: OrderId, lines: &[StockLine]) -> Result<Reservation, ReserveError> {
        self.faults.around("the inventory", || self.try_reserve(order_id, lines)).await?
    }

    async fn reserved(&self, order_id: OrderId) -> Result<Vec<StockLine>, Unavailable> {
        match self.reservations.lock().unwrap().get(&order_id) {
            Some(Held::Lines(lines)) => Ok(lines.clone()),
            Some(Held::Released) | None => Ok(Vec::new()),
        }
    }

    async fn release(&self, order_id: OrderId) -> Result<(), Unavailable> {
        self.faults.around("the inventory", || self.give_back(order_id)).await
    }
}

impl MemoryInventory {
    fn try_reserve(&self, order_id: OrderId, lines: &[StockLine]) -> Result<Reservation, ReserveError> {
        let mut reservations = self.reservations.lock().unwrap();
        let mut products = self.products.lock().unwrap();
        match reservations.get(&order_id) {
            Some(Held::Lines(_)) => return Ok(reservation(order_id)),
            Some(Held::Released) => return Err(ReserveError::Released),
            None => {}
        }
        // As a transaction of DynamoDB does, which takes each item once.
        let distinct: BTreeSet<&ProductId> = lines.iter().map(|line| &line.product_id).collect();
        if distinct.len() < lines.len() {
            return Err(Unavailable { what: "the inventory", source: "a product stands in two lines".into() }.into());
        }
        let available = |line: &StockLine| products.get(&line.product_id).map_or(0, |stocked| stocked.stock);
        let shortages: Vec<Shortage> = lines
            .iter()
            .filter(|line| u64::from(line.quantity.get()) > available(line))
            .map(|line| Shortage {
                product_id: line.product_id.clone(),
                requested: line.quantity.get(),
                available: sandbox::orderable(available(line)),
            })
            .collect();
        if !shortages.is_empty() {
            return Err(ReserveError::OutOfStock(shortages));
        }
        for line in lines {
            products.get_mut(&line.product_id).unwrap().stock -= u64::from(line.quantity.get());
        }
        reservations.insert(order_id, Held::Lines(lines.to_vec()));
        Ok(reservation(order_id))
    }

    fn try_adjust(&self, adjustment: &StockAdjustment) -> Result<Adjusted, AdjustError> {
        let mut adjustments = self.adjustments.lock().unwrap();
        let asked = |of: &StockAdjustment| (of.product_id.clone(), of.change, of.reason.clone());
        if let Some((first, adjusted)) = adjustments.get(&adjustment.id) {
            let same = asked(first) == asked(adjustment);
            return if same { Ok(Adjusted { replayed: true, ..*adjusted }) } else { Err(AdjustError::KeyReused) };
        }
        let mut products = self.products.lock().unwrap();
        let stocked = products.get_mut(&adjustment.product_id).ok_or(AdjustError::UnknownProduct)?;
        let changed = adjustment.change.applied_to(stocked.stock);
        let (by, stock) = changed.ok_or(AdjustError::OutOfRange { stock: sandbox::orderable(stocked.stock) })?;
        stocked.stock = stock.into();
        let adjusted = Adjusted { by, stock, replayed: false };
        adjustments.insert(adjustment.id, (adjustment.clone(), adjusted));
        Ok(adjusted)
    }

    fn give_back(&self, order_id: OrderId) {
        if let Some(Held::Lines(lines)) = self.reservations.lock().unwrap().insert(order_id, Held::Released) {
            let mut products = self.products.lock().unwrap();
            for line in lines {
                products.get_mut(&line.product_id).unwrap().stock += u64::from(line.quantity.get());
            }
        }
    }
}

fn reservation(order_id: OrderId) -> Reservation {
    Reservation { reservation_id: ReservationId(format!("res_{order_id}")) }
}

/// What was asked, and the payment or the decline's code.
type Charge = (ChargeRequest, Result<Payment, String>);

/// As many as the provider contract lets a ledger have.
const LEDGER_ENTRIES_MAX: usize = 1_000;

/// The code of what would be one entry more.
const LEDGER_FULL: &str = "ledger_full";

#[derive(Default)]
pub struct MemoryPayments {
    books: Mutex<PaymentBooks>,
    /// How often the sandbox was asked under a key to fail a few times.
    attempts: Mutex<BTreeMap<Uuid, u64>>,
    pub faults: Faults,
}

/// Under one lock, so that what is left of a charge is still left when it is given back.
#[derive(Default)]
struct PaymentBooks {
    charges: BTreeMap<Uuid, Charge>,
    cancelled: BTreeMap<Uuid, OrderId>,
    refunds: BTreeMap<Uuid, (RefundRequest, Refund)>,
    /// How many entries were made for each order.
    entries: BTreeMap<OrderId, usize>,
}

impl PaymentBooks {
    /// Whether the order's ledger takes one more entry, which is counted then.
    fn enter(&mut self, order_id: OrderId) -> bool {
        let entries = self.entries.entry(order_id).or_default();
        let room = *entries < LEDGER_ENTRIES_MAX;
        *entries += usize::from(room);
        room
    }

    /// Bars a charge that has not come. Where the ledger is full none is made anyway.
    fn bar(&mut self, charge_key: Uuid, order_id: OrderId) {
        if !self.cancelled.contains_key(&charge_key) && self.enter(order_id) {
            self.cancelled.insert(charge_key, order_id);
        }
    }

    /// What refunds have left of a charge of this amount.
    fn left_of(&self, charge_key: Uuid, charged: Money) -> Money {
        let of_charge = self.refunds.values().filter(|(refund, _)| refund.charge_key == charge_key);
        of_charge.fold(charged, |left, (refund, _)| left.minus(refund.amount).unwrap())
    }
}

impl MemoryPayments {
    /// As a payment provider does that keeps what it has barred for some time only.
    pub fn forget_what_is_barred(&self) {
        self.books.lock().unwrap().cancelled.clear();
    }

    /// Fails as often as this under the key, then never again.
    fn fail_first(&self, key: Uuid, failures: u64) -> Result<(), Unavailable> {
        if failures == 0 {
            return Ok(());
        }
        let mut attempts = self.attempts.lock().unwrap();
        let attempt = attempts.entry(key).or_default();
        *attempt += 1;
        if *attempt > failures { Ok(()) } else { Err(asked_to_fail("the payment provider")) }
    }

    fn try_charge(&self, request: &ChargeRequest) -> Result<Payment, ChargeError> {
        self.fail_first(request.idempotency_key, SANDBOX.charge_failures(&request.payment_method))?;
        let mut books = self.books.lock().unwrap();
        if books.cancelled.contains_key(&request.idempotency_key) {
            return Err(ChargeError::Cancelled);
        }
        if let Some((first, answer)) = books.charges.get(&request.idempotency_key) {
            let same = first == request;
            return if same { answer.clone().map_err(ChargeError::Declined) } else { Err(ChargeError::KeyReused) };
        }
        // Without an entry of its own, and yet for good: no ledger becomes shorter.
        if !books.enter(request.order_id) {
            return Err(ChargeError::Declined(LEDGER_FULL.to_owned()));
        }
        let answer = match SANDBOX.decline_code(&request.payment_method) {
            Some(code) => Err(code.to_owned()),
            None => Ok(Payment {
                transaction_id: TransactionId(format!("ch_{}", request.idempotency_key.simple())),
                amount: request.amount,
                processed_at: now(),
            }),
        };
        books.charges.insert(request.idempotency_key, (request.clone(), answer.clone()));
        if SANDBOX.charge_times_out(&request.payment_method) {
            return Err(asked_to_fail("the payment provider").into());
        }
        answer.map_err(ChargeError::Declined)
    }

    fn try_cancel(&self, cancellation: &ChargeCancellation) -> Result<Option<(Payment, Refund)>, CancelChargeError> {
        let ChargeCancellation { order_id, charge_key, refund_key } = *cancellation;
        let mut books = self.books.lock().unwrap();
        let payment = match books.charges.get(&charge_key) {
            // Under another order's key this one has no charge, and can have none.
            Some((charge, _)) if charge.order_id != order_id => return Ok(None),
            Some((_, Ok(payment))) => payment.clone(),
            Some((_, Err(_))) => return Ok(None),
            None => {
                books.bar(charge_key, order_id);
                return Ok(None);
            }
        };
        let earlier = books.refunds.get(&refund_key).map(|(request, _)| request.amount);
        let amount = earlier.unwrap_or_else(|| books.left_of(charge_key, payment.amount));
        if amount.amount() == 0 {
            return Ok(None);
        }
        let request = RefundRequest { idempotency_key: refund_key, order_id, charge_key, amount };
        match self.refund_in(&mut books, &request) {
            Ok(refund) => Ok(Some((payment, refund))),
            Err(RefundError::Refused(code)) => Err(CancelChargeError::Refused(code)),
            Err(RefundError::Unavailable(error)) => Err(error.into()),
            Err(_) => Err(unavailable("the payment provider").into()),
        }
    }

    fn try_refund(&self, request: &RefundRequest) -> Result<Refund, RefundError> {
        self.refund_in(&mut self.books.lock().unwrap(), request)
    }

    fn refund_in(&self, books: &mut PaymentBooks, request: &RefundRequest) -> Result<Refund, RefundError> {
        if let Some((first, refund)) = books.refunds.get(&request.idempotency_key) {
            return if first == request { Ok(refund.clone()) } else { Err(RefundError::KeyReused) };
        }
        let of_order = |(charge, _): &&Charge| charge.order_id == request.order_id;
        let Some((charge, Ok(payment))) = books.charges.get(&request.charge_key).filter(of_order) else {
            return Err(RefundError::NoCharge);
        };
        let left = books.left_of(request.charge_key, payment.amount);
        left.minus(request.amount).map_err(|_| RefundError::TooMuch)?;
        if let Some(code) = SANDBOX.refund_refusal(&charge.payment_method) {
            return Err(RefundError::Refused(code.to_owned()));
        }
        self.fail_first(request.idempotency_key, SANDBOX.refund_failures(&charge.payment_method))?;
        if !books.enter(request.order_id) {
            return Err(RefundError::Refused(LEDGER_FULL.to_owned()));
        }
        let refund = Refund {
            transaction_id: TransactionId(format!("re_{}", request.idempotency_key.simple())),
            amount: request.amount,
            processed_at: now(),
        };
        books.refunds.insert(request.idempotency_key, (request.clone(), refund.clone()));
        Ok(refund)
    }
}

crate::only_providers!(MemoryInventory, MemoryPayments, MemoryShipping, MemoryNotifications);

impl Payments for MemoryPayments {
    async fn charge(&self, request: &ChargeRequest) -> Result<Payment, ChargeError> {
        self.faults.around("the payment provider", || self.try_charge(request)).await?
    }

    async fn cancel_charge(
        &self,
        cancellation: &ChargeCancellation,
    ) -> Result<Option<(Payment, Refund)>, CancelChargeError> {
        self.faults.around("the payment provider", || self.try_cancel(cancellation)).await?
    }

    async fn refund(&self, request: &RefundRequest) -> Result<Refund, RefundError> {
        self.faults.around("the payment provider", || self.try_refund(request)).await?
    }

    async fn refunded(&self, _order_id: OrderId, refund_key: Uuid) -> Result<Option<Refund>, Unavailable> {
        Ok(self.books.lock().unwrap().refunds.get(&refund_key).map(|(_, refund)| refund.clone()))
    }

    async fn ledger(&self, order_id: OrderId) -> Result<Vec<LedgerEntry>, Unavailable> {
        let books = self.books.lock().unwrap();
        let charge_entries = books.charges.values().filter(|(request, _)| request.order_id == order_id).map(
            |(_, answer)| match answer {
                Ok(payment) => LedgerEntry::Charged(payment.transaction_id.clone(), payment.amount),
                Err(code) => LedgerEntry::Declined(code.clone()),
            },
        );
        let refund_entries = books
            .refunds
            .values()
            .filter(|(request, _)| request.order_id == order_id)
            .map(|(_, refund)| LedgerEntry::Refunded(refund.transaction_id.clone(), refund.amount));
        let cancel_entries = books.cancelled.values().filter(|id| **id == order_id).map(|_| LedgerEntry::Cancelled);
        Ok(charge_entries.chain(refund_entries).chain(cancel_entries).collect())
    }
}

#[derive(Default)]
pub struct MemoryShipping {
    shipments: Mutex<BTreeMap<Uuid, Result<Shipment, String>>>,
    cancelled: Mutex<BTreeSet<Uuid>>,
    /// Those that the carrier does not give back.
    kept: Mutex<BTreeSet<Uuid>>,
    delivered: Mutex<BTreeMap<Uuid, DateTime<Utc>>>,
    pub faults: Faults,
}

impl MemoryShipping {
    /// How many parcels are under way or have arrived.
    pub fn shipments(&self) -> usize {
        let shipments = self.shipments.lock().unwrap();
        let cancelled = self.cancelled.lock().unwrap();
        shipments.iter().filter(|(key, shipment)| shipment.is_ok() && !cancelled.contains(key)).count()
    }

    /// As a carrier does that keeps what it has barred for some time only.
    pub fn forget_what_is_barred(&self) {
        let shipments = self.shipments.lock().unwrap();
        self.cancelled.lock().unwrap().retain(|key| shipments.contains_key(key));
    }
}

impl MemoryShipping {
    fn try_create(&self, request: &ShipmentRequest) -> Result<Shipment, ShipmentError> {
        let key = request.idempotency_key;
        let mut shipments = self.shipments.lock().unwrap();
        if self.cancelled.lock().unwrap().contains(&key) {
            return Err(ShipmentError::Cancelled);
        }
        let comes_first = !shipments.contains_key(&key);
        let answer = shipments.entry(key).or_insert_with(|| match SANDBOX.refusal_code(&request.address) {
            Some(code) => Err(code.to_owned()),
            None => Ok(sandbox::shipment(key, now())),
        });
        if comes_first && SANDBOX.shipment_is_kept(&request.address) {
            self.kept.lock().unwrap().insert(key);
        }
        if comes_first && SANDBOX.shipment_times_out(&request.address) {
            return Err(asked_to_fail("the carrier").into());
        }
        answer.clone().map_err(ShipmentError::Refused)
    }

    fn cancel(&self, shipment_key: Uuid) -> Result<(), TakeBackError> {
        let shipments = self.shipments.lock().unwrap();
        if let Some(at) = self.delivered.lock().unwrap().get(&shipment_key) {
            return Err(TakeBackError::Delivered(*at));
        }
        if self.kept.lock().unwrap().contains(&shipment_key) {
            return Err(TakeBackError::Refused(sandbox::PARCEL_KEPT.to_owned()));
        }
        // What was refused stays refused.
        if !matches!(shipments.get(&shipment_key), Some(Err(_))) {
            self.cancelled.lock().unwrap().insert(shipment_key);
        }
        Ok(())
    }

    fn deliver(&self, shipment_key: Uuid) -> Result<DateTime<Utc>, DeliveryError> {
        let shipments = self.shipments.lock().unwrap();
        let cancelled = self.cancelled.lock().unwrap().contains(&shipment_key);
        match shipments.get(&shipment_key) {
            Some(Ok(_)) if !cancelled => Ok(*self.delivered.lock().unwrap().entry(shipment_key).or_insert_with(now)),
            _ => Err(DeliveryError::NotUnderWay),
        }
    }
}

impl Shipping for MemoryShipping {
    async fn shipment(&self, shipment_key: Uuid) -> Result<ShipmentBook, Unavailable> {
        let shipments = self.shipments.lock().unwrap();
        Ok(match shipments.get(&shipment_key) {
            Some(Ok(_)) if self.cancelled.lock().unwrap().contains(&shipment_key) => ShipmentBook::Cancelled,
            Some(Ok(_)) if self.delivered.lock().unwrap().contains_key(&shipment_key) => ShipmentBook::Delivered,
            Some(Ok(_)) => ShipmentBook::Created,
            Some(Err(_)) | None => ShipmentBook::None,
        })
    }

    async fn cancel_shipment(&self, _order_id: OrderId, shipment_key: Uuid) -> Result<(), TakeBackError> {
        self.faults.around("the carrier", || self.cancel(shipment_key)).await?
    }

    async fn confirm_delivery(&self, shipment_key: Uuid) -> Result<DateTime<Utc>, DeliveryError> {
        self.faults.around("the carrier", || self.deliver(shipment_key)).await?
    }

    async fn create_shipment(&self, request: &ShipmentRequest) -> Result<Shipment, ShipmentError> {
        self.faults.around("the carrier", || self.try_create(request)).await?
    }
}

#[derive(Default)]
pub struct MemoryNotifications {
    sent: Mutex<BTreeMap<Uuid, Notification>>,
    pub faults: Faults,
}

impl MemoryNotifications {
    pub fn sent(&self) -> Vec<Notification> {
        self.sent.lock().unwrap().values().cloned().collect()
    }
}

impl Notifications for MemoryNotifications {
    async fn send(&self, notification: &Notification) -> Result<NotificationId, Unavailable> {
        let key = notification.idempotency_key;
        let send = || {
            if !notification.deliverable {
                return Err(asked_to_fail("the notification service"));
            }
            self.sent.lock().unwrap().entry(key).or_insert_with(|| notification.clone());
            Ok(())
        };
        self.faults.around("the notification service", send).await??;
        Ok(NotificationId(format!("msg_{}", key.simple())))
    }
}

#[derive(Default)]
pub struct MemoryOrderViews {
    views: Mutex<BTreeMap<OrderId, OrderView>>,
    /// The orders of each customer, and at which status each of them rests, if it does.
    lists: Mutex<BTreeMap<CustomerId, BTreeMap<PlacedOrder, Option<OrderStatus>>>>,
    customers: Mutex<BTreeMap<CustomerId, CustomerView>>,
    /// How often a view was loaded, whether it was there or not.
    pub loads: AtomicU32,
    place: Mutex<Option<String>>,
    pub faults: Faults,
}

impl MemoryOrderViews {
    fn part(
        &self,
        customer: &CustomerId,
        wanted: impl Fn(OrderId) -> bool,
        skip: usize,
        limit: usize,
    ) -> CustomerOrders {
        let lists = self.lists.lock().unwrap();
        let list = lists.get(customer).into_iter().flat_map(|list| list.keys().rev()).copied();
        let orders: Vec<PlacedOrder> = list.filter(|order| wanted(order.id)).collect();
        let total = orders.len();
        CustomerOrders { orders: orders.into_iter().skip(skip).take(limit).collect(), total }
    }
}

impl OrderViews for MemoryOrderViews {
    async fn load(&self, id: OrderId) -> Result<Option<OrderView>, Unavailable> {
        self.loads.fetch_add(1, Ordering::Relaxed);
        yield_now().await;
        Ok(self.views.lock().unwrap().get(&id).cloned())
    }

    async fn load_many(&self, ids: &[OrderId]) -> Result<Vec<OrderView>, Unavailable> {
        let views = self.views.lock().unwrap();
        let distinct: BTreeSet<&OrderId> = ids.iter().collect();
        Ok(distinct.into_iter().filter_map(|id| views.get(id).cloned()).collect())
    }

    async fn save(&self, view: &OrderView, replaces: Option<&OrderView>) -> Result<(), SaveError> {
        let save = || {
            let mut views = self.views.lock().unwrap();
            if views.get(&view.id).map(|view| view.version) != replaces.map(|view| view.version) {
                return Err(SaveError::Superseded);
            }
            views.insert(view.id, view.clone());
            Ok(())
        };
        self.faults.around("the order view", save).await?
    }

    async fn list(&self, view: &OrderView) -> Result<bool, Unavailable> {
        let list = || {
            let mut lists = self.lists.lock().unwrap();
            let list = lists.entry(view.customer.id.clone()).or_default();
            list.insert(PlacedOrder::of(view), view.status_at_rest()) != Some(view.status_at_rest())
        };
        self.faults.around("the customers' orders", list).await
    }

    async fn list_many(&self, views: &[OrderView]) -> Result<(), Unavailable> {
        for view in views {
            self.list(view).await?;
        }
        Ok(())
    }

    async fn customer_orders(
        &self,
        customer: &CustomerId,
        skip: usize,
        limit: usize,
    ) -> Result<CustomerOrders, Unavailable> {
        yield_now().await;
        Ok(self.part(customer, |_| true, skip, limit))
    }

    async fn customer_orders_with_status(
        &self,
        customer: &CustomerId,
        status: OrderStatus,
        skip: usize,
        limit: usize,
    ) -> Result<CustomerOrders, Unavailable> {
        let has = |id| self.views.lock().unwrap().get(&id).is_some_and(|view| view.status == status);
        Ok(self.part(customer, has, skip, limit))
    }

    async fn customers(&self, ids: &[CustomerId]) -> Result<Vec<CustomerView>, Unavailable> {
        yield_now().await;
        let customers = self.customers.lock().unwrap();
        Ok(ids.iter().filter_map(|id| customers.get(id).cloned()).collect())
    }

    async fn save_customer(&self, customer: &CustomerView) -> Result<(), Unavailable> {
        let save = || {
            let mut customers = self.customers.lock().unwrap();
            let known = customers.entry(customer.id.clone()).or_insert_with(|| customer.clone());
            if known.version < customer.version {
                *known = customer.clone();
            }
        };
        self.faults.around("the customer", save).await
    }

    async fn count(&self) -> Result<BTreeMap<OrderStatus, u64>, Unavailable> {
        let mut counts = BTreeMap::new();
        let lists = self.lists.lock().unwrap();
        let at_rest = lists.values().flat_map(BTreeMap::values).copied().flatten();
        let views = self.views.lock().unwrap();
        let open = views.values().filter(|view| view.is_open()).map(|view| view.status);
        for status in at_rest.chain(open) {
            *counts.entry(status).or_default() += 1;
        }
        Ok(counts)
    }

    async fn open_orders(
        &self,
        standing: Standing,
        before: DateTime<Utc>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<OpenOrders, Unavailable> {
        let views = self.views.lock().unwrap();
        let place = |view: &OrderView| format!("{:020} {}", Standing::since(view).timestamp_millis(), view.id);
        let mut open: Vec<(String, OrderId)> = views
            .values()
            .filter(|view| Standing::of(view) == Some(standing) && Standing::since(view) < before)
            .map(|view| (place(view), view.id))
            .filter(|(place, _)| after.is_none_or(|after| place.as_str() > after))
            .collect();
        open.sort();
        let next = (open.len() > limit).then(|| open.get(limit - 1).map(|(place, _)| place.clone())).flatten();
        Ok(OpenOrders { ids: open.into_iter().take(limit).map(|(_, id)| id).collect(), next })
    }

    async fn newest_open(
        &self,
        standing: Standing,
        not_before: DateTime<Utc>,
        before: &Position,
        limit: usize,
    ) -> Result<Vec<PlacedOrder>, Unavailable> {
        let views = self.views.lock().unwrap();
        let standing = views.values().filter(|view| Standing::of(view) == Some(standing));
        let since = standing.map(|view| PlacedOrder { millis: Standing::since(view).timestamp_millis(), id: view.id });
        let in_window =
            |order: &PlacedOrder| order.millis >= not_before.timestamp_millis() && order.position() < *before;
        let mut open: Vec<PlacedOrder> = since.filter(in_window).collect();
        open.sort_by(|one, other| other.cmp(one));
        open.truncate(limit);
        Ok(open)
    }

    async fn place_kept(&self) -> Result<Option<String>, Unavailable> {
        Ok(self.place.lock().unwrap().clone())
    }

    async fn keep_place(&self, place: Option<&str>) -> Result<(), Unavailable> {
        *self.place.lock().unwrap() = place.map(str::to_owned);
        Ok(())
    }
}

/// The places of one type's events, in their order.
type Places = BTreeMap<Position, EventPlace>;

#[derive(Default)]
pub struct MemoryIndex {
    customers: Mutex<BTreeMap<(String, CustomerId), String>>,
    events: Mutex<BTreeMap<String, Places>>,
    stats: Mutex<Stats>,
    /// How much each read has answered since this was last asked for.
    reads: Mutex<Vec<usize>>,
    pub faults: Faults,
}

impl MemoryIndex {
    /// How many customers or events each read has answered since this was last asked.
    pub fn reads(&self) -> Vec<usize> {
        std::mem::take(&mut *self.reads.lock().unwrap())
    }
}

impl Index for MemoryIndex {
    async fn add(&self, postings: &[Posting]) -> Result<(), Unavailable> {
        // Each for itself: others may act in between.
        for Posting { term, customer, text } in postings {
            let add = || {
                self.customers.lock().unwrap().insert((term.clone(), customer.clone()), text.clone());
            };
            self.faults.around("the index", add).await?;
        }
        Ok(())
    }

    async fn remove(&self, postings: &[Posting]) -> Result<(), Unavailable> {
        for Posting { term, customer, .. } in postings {
            let remove = || {
                self.customers.lock().unwrap().remove(&(term.clone(), customer.clone()));
            };
            self.faults.around("the index", remove).await?;
        }
        Ok(())
    }

    async fn customers(&self, term: &str, limit: usize) -> Result<Vec<Posting>, Unavailable> {
        let customers = self.customers.lock().unwrap();
        let list = customers.iter().filter(|((listed, _), _)| listed == term).take(limit);
        let list: Vec<Posting> = list
            .map(|((term, customer), text)| Posting {
                term: term.clone(),
                customer: customer.clone(),
                text: text.clone(),
            })
            .collect();
        self.reads.lock().unwrap().push(list.len());
        Ok(list)
    }

    async fn list(&self, commits: &[Commit]) -> Result<(), Unavailable> {
        for commit in commits {
            let list = || {
                let mut events = self.events.lock().unwrap();
                for (event_type, place) in EventPlace::of(commit) {
                    events.entry(event_type.to_owned()).or_default().insert(place.position(), place);
                }
            };
            self.faults.around("the index", list).await?;
        }
        Ok(())
    }

    async fn newest(
        &self,
        event_type: &str,
        not_after: Option<&Position>,
        not_before: Option<DateTime<Utc>>,
        limit: usize,
    ) -> Result<Vec<EventPlace>, Unavailable> {
        let events = self.events.lock().unwrap();
        let up_to = not_after.map_or(Bound::Unbounded, Bound::Included);
        let from = not_before.map(Position::start_of);
        let list = events.get(event_type).into_iter().flat_map(|list| list.range((Bound::Unbounded, up_to)).rev());
        let wanted = list.take_while(|(position, _)| from.as_ref().is_none_or(|from| *position >= from)).take(limit);
        let places: Vec<EventPlace> = wanted.map(|(_, place)| place.clone()).collect();
        self.reads.lock().unwrap().push(places.len());
        Ok(places)
    }

    async fn count(&self, stats: &Stats) -> Result<(), Unavailable> {
        if stats.is_empty() {
            return Ok(());
        }
        self.faults.around("the index", || self.stats.lock().unwrap().add_all(stats)).await
    }

    async fn stats(&self, from: Hour, to: Hour) -> Result<Stats, Unavailable> {
        let mut wanted = Stats::default();
        for (hour, sums) in self.stats.lock().unwrap().by_hour().filter(|(hour, _)| (from..to).contains(hour)) {
            for (stat, sum) in sums {
                wanted.add(hour, *stat, sum);
            }
        }
        Ok(wanted)
    }
}

#[derive(Default)]
pub struct MemoryCounters {
    counts: Mutex<BTreeMap<String, u64>>,
    pub faults: Faults,
}

impl Counters for MemoryCounters {
    async fn add(&self, amounts: &[(String, u64)]) -> Result<(), Unavailable> {
        let add = || {
            let mut counts = self.counts.lock().unwrap();
            for (name, amount) in amounts {
                *counts.entry(name.clone()).or_default() += amount;
            }
        };
        self.faults.around("the counters", add).await
    }

    async fn read(&self) -> Result<BTreeMap<String, u64>, Unavailable> {
        yield_now().await;
        Ok(self.counts.lock().unwrap().clone())
    }
}

/// What processes have reported, and when.
#[derive(Default)]
pub struct MemoryProcesses {
    reports: Mutex<BTreeMap<Uuid, (DateTime<Utc>, Process)>>,
    pub faults: Faults,
}

impl Processes for MemoryProcesses {
    async fn report(&self, process: &Process, now: DateTime<Utc>) -> Result<(), Unavailable> {
        let report = || drop(self.reports.lock().unwrap().insert(process.instance, (now, process.clone())));
        self.faults.around("the processes", report).await
    }

    async fn read(&self, now: DateTime<Utc>) -> Result<Vec<Process>, Unavailable> {
        yield_now().await;
        let reports = self.reports.lock().unwrap();
        let fresh = reports.values().filter(|(at, _)| now < *at + REPORT_KEPT);
        Ok(fresh.map(|(_, process)| process.clone()).collect())
    }
}

/// Also an order service without limits: whoever is told of declined orders only notes them.
#[derive(Default)]
pub struct MemoryLimits {
    buckets: Mutex<BTreeMap<String, Micros>>,
    draws: AtomicU32,
    declined: Mutex<Vec<CustomerId>>,
    pub faults: Faults,
}

impl MemoryLimits {
    /// How often a bucket was drawn from.
    pub fn draws(&self) -> u32 {
        self.draws.load(Ordering::Relaxed)
    }

    /// Whose orders were declined.
    pub fn declined(&self) -> Vec<CustomerId> {
        self.declined.lock().unwrap().clone()
    }
}

impl Limits for MemoryLimits {
    async fn draw(&self, draw: &Draw<'_>) -> Result<Drawn, Unavailable> {
        self.draws.fetch_add(1, Ordering::Relaxed);
        let take = || {
            let mut buckets = self.buckets.lock().unwrap();
            let full_at = buckets.entry(draw.name.to_owned()).or_default();
            match draw.bucket.draw(*full_at, draw.tokens, draw.now) {
                Ok(after) => {
                    *full_at = after;
                    Drawn::Taken { full_at: after }
                }
                Err(_) => Drawn::Refused { full_at: *full_at },
            }
        };
        self.faults.around("the limits", take).await
    }
}

/// Several processes share them.
impl Limits for &MemoryLimits {
    async fn draw(&self, draw: &Draw<'_>) -> Result<Drawn, Unavailable> {
        MemoryLimits::draw(self, draw).await
    }
}

impl Declines for MemoryLimits {
    async fn declined(&self, customer: &CustomerId, _: DateTime<Utc>) {
        self.declined.lock().unwrap().push(customer.clone());
    }
}

#[derive(Default)]
pub struct MemoryEventBus {
    published: Mutex<Vec<PublishedEvent>>,
    down: Mutex<bool>,
    refused: Mutex<BTreeSet<String>>,
}

impl MemoryEventBus {
    pub fn published(&self) -> Vec<PublishedEvent> {
        self.published.lock().unwrap().clone()
    }

    pub fn set_down(&self, down: bool) {
        *self.down.lock().unwrap() = down;
    }

    /// From now on the bus refuses events of this type, or takes them again.
    pub fn refuse(&self, event_type: &str, yes: bool) {
        let mut refused = self.refused.lock().unwrap();
        if yes {
            refused.insert(event_type.to_owned());
        } else {
            refused.remove(event_type);
        }
    }
}

impl EventBus for MemoryEventBus {
    async fn publish(&self, events: &[PublishedEvent]) -> Result<(), PublishError> {
        if *self.down.lock().unwrap() {
            let events = (0..events.len()).map(|index| NotPublished { index, refused: false }).collect();
            return Err(PublishError { events, source: "the bus is down".into() });
        }
        let refused = self.refused.lock().unwrap();
        let mut not_taken = Vec::new();
        for (index, event) in events.iter().enumerate() {
            if refused.contains(&event.event.event_type) {
                not_taken.push(NotPublished { index, refused: true });
            } else {
                self.published.lock().unwrap().push(event.clone());
            }
        }
        if not_taken.is_empty() {
            Ok(())
        } else {
            Err(PublishError { events: not_taken, source: "the bus does not take these".into() })
        }
    }
}

#[derive(Default)]
pub struct MemoryFulfilment {
    started: Mutex<BTreeMap<String, FulfilmentInput>>,
    ended: Mutex<BTreeSet<String>>,
    tries: Mutex<BTreeMap<String, Tries>>,
    down: Mutex<bool>,
}

impl MemoryFulfilment {
    pub fn started(&self) -> Vec<FulfilmentInput> {
        self.started.lock().unwrap().values().cloned().collect()
    }

    /// The execution has come to an end, good or bad.
    pub fn end(&self, input: &FulfilmentInput) {
        self.ended.lock().unwrap().insert(input.execution_name());
    }

    /// The execution has come so far.
    pub fn has_come_to(&self, input: &FulfilmentInput, tries: Tries) {
        self.tries.lock().unwrap().insert(input.execution_name(), tries);
    }

    pub fn set_down(&self, down: bool) {
        *self.down.lock().unwrap() = down;
    }
}

/// One that takes a name once, as it may.
impl Fulfilment for MemoryFulfilment {
    async fn start(&self, input: &FulfilmentInput) -> Result<(), Unavailable> {
        DurableFulfilment::start(self, input).await.map(drop)
    }
}

impl DurableFulfilment for MemoryFulfilment {
    async fn start(&self, input: &FulfilmentInput) -> Result<bool, Unavailable> {
        if *self.down.lock().unwrap() {
            return Err(unavailable("the state machine"));
        }
        let mut started = self.started.lock().unwrap();
        let name = input.execution_name();
        if started.contains_key(&name) {
            return Ok(false);
        }
        started.insert(name, input.clone());
        Ok(true)
    }

    async fn state(&self, input: &FulfilmentInput) -> Result<ExecutionState, Unavailable> {
        if *self.down.lock().unwrap() {
            return Err(unavailable("the state machine"));
        }
        let name = input.execution_name();
        Ok(match self.started.lock().unwrap().contains_key(&name) {
            false => ExecutionState::NeverStarted,
            true if self.ended.lock().unwrap().contains(&name) => ExecutionState::Ended,
            true => ExecutionState::Running,
        })
    }
}

impl FulfilmentTries for MemoryFulfilment {
    async fn tries(&self, input: &FulfilmentInput) -> Result<Option<Tries>, Unavailable> {
        let is_running = self.state(input).await? == ExecutionState::Running;
        let tries = self.tries.lock().unwrap().get(&input.execution_name()).cloned();
        Ok(tries.filter(|_| is_running))
    }
}

/// What an order has cost its customer: charges less refunds.
pub async fn balance(payments: &impl Payments, order_id: OrderId, zero: Money) -> Money {
    payments.ledger(order_id).await.unwrap().iter().fold(zero, |balance, entry| match entry {
        LedgerEntry::Charged(_, amount) => balance.plus(*amount).unwrap(),
        LedgerEntry::Refunded(_, amount) => balance.minus(*amount).unwrap(),
        LedgerEntry::Declined(_) | LedgerEntry::Cancelled => balance,
    })
}

#[cfg(test)]
mod tests {
    use std::{sync::Barrier, thread};

    use domain::{
        ids::PaymentMethod,
        money::{Currency, Quantity},
    };

    use super::*;

    fn cny(amount: u64) -> Money {
        Money::new(amount, Currency::parse("CNY").unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_product_in_two_lines_is_refused_and_nothing_is_held() {
        let (inventory, order_id) = (MemoryInventory::default(), OrderId::new(Uuid::from_u128(1)));
        let id = ProductId::parse("tea").unwrap();
        let tea = Product { id: id.clone(), name: Text::parse("Longjing tea").unwrap(), price: cny(1999), stock: 10 };
        inventory.put_product(&tea).await.unwrap();
        let line = |count| StockLine { product_id: id.clone(), quantity: Quantity::new(count).unwrap() };
        // Two of 6 are more than there is, and two of 5 are not.
        for count in [6, 5] {
            let answer = inventory.reserve(order_id, &[line(count), line(count)]).await;
            assert!(matches!(answer, Err(ReserveError::Unavailable(_))), "{answer:?}");
            assert_eq!(inventory.all(), std::slice::from_ref(&tea));
        }
        inventory.reserve(order_id, &[line(10)]).await.unwrap();
    }

    fn charge(number: u128) -> ChargeRequest {
        ChargeRequest {
            idempotency_key: Uuid::from_u128(number),
            order_id: OrderId::new(Uuid::from_u128(number)),
            customer_id: CustomerId::parse("anna").unwrap(),
            payment_method: PaymentMethod::default(),
            amount: cny(100),
        }
    }

    fn refund(number: u128, charge: &ChargeRequest) -> RefundRequest {
        RefundRequest {
            idempotency_key: Uuid::from_u128(number),
            order_id: charge.order_id,
            charge_key: charge.idempotency_key,
            amount: cny(1),
        }
    }

    #[test]
    fn a_charge_of_another_order_is_neither_refunded_nor_given_back() {
        let (payments, charge) = (MemoryPayments::default(), charge(1));
        payments.try_charge(&charge).unwrap();
        let order_id = OrderId::new(Uuid::from_u128(2));
        let answer = payments.try_refund(&RefundRequest { order_id, ..refund(2, &charge) });
        assert!(matches!(answer, Err(RefundError::NoCharge)), "{answer:?}");
        let cancellation =
            ChargeCancellation { order_id, charge_key: charge.idempotency_key, refund_key: Uuid::from_u128(2) };
        assert!(payments.try_cancel(&cancellation).unwrap().is_none());
        payments.try_refund(&RefundRequest { amount: charge.amount, ..refund(2, &charge) }).unwrap();
    }

    /// Whoever calls over a network does so from another thread, where no call waits until another one yields.
    #[test]
    fn a_cancellation_among_refunds_gives_back_what_they_have_left() {
        let charge = charge(1);
        let ChargeRequest { order_id, idempotency_key: charge_key, .. } = charge;
        let cancellation = ChargeCancellation { order_id, charge_key, refund_key: Uuid::from_u128(1) };
        for _ in 0..200 {
            let (payments, start) = (MemoryPayments::default(), Barrier::new(2));
            payments.try_charge(&charge).unwrap();
            let given_back = thread::scope(|scope| {
                scope.spawn(|| {
                    start.wait();
                    for number in 2..=100 {
                        let answer = payments.try_refund(&refund(number, &charge));
                        assert!(matches!(answer, Ok(_) | Err(RefundError::TooMuch)), "{answer:?}");
                    }
                });
                start.wait();
                payments.try_cancel(&cancellation)
            });
            assert!(given_back.unwrap().is_some());
            assert_eq!(payments.books.lock().unwrap().left_of(charge_key, charge.amount), cny(0));
        }
    }
}

type ParkedStreams = BTreeMap<(&'static str, StreamId), ParkedStream>;

#[derive(Default)]
pub struct MemoryDeadLetters {
    parked: Mutex<ParkedStreams>,
    /// By consumer and place.
    settled: Mutex<BTreeMap<(String, String), (DeadLetter, Settlement)>>,
    /// How often anything was asked.
    asked: AtomicU32,
    pub faults: Faults,
}

impl MemoryDeadLetters {
    /// How often anything was asked or done.
    pub fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }

    async fn change<T>(&self, change: impl FnOnce(&mut ParkedStreams) -> T) -> Result<T, Unavailable> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.faults.around("the dead letters", || change(&mut self.parked.lock().unwrap())).await
    }
}

impl DeadLetters for MemoryDeadLetters {
    async fn park(
        &self,
        consumer: Consumer,
        stream: &StreamId,
        versions: (u64, u64),
        failure: &Failure,
        now: DateTime<Utc>,
    ) -> Result<(), Unavailable> {
        self.change(|parked| {
            let key = (consumer.name(), stream.clone());
            let there = parked.remove(&key);
            parked.insert(key, ParkedStream::after(there, stream, versions, failure, now));
        })
        .await
    }

    async fn line_up(
        &self,
        consumer: Consumer,
        streams: &[(StreamId, (u64, u64))],
    ) -> Result<Vec<StreamId>, Unavailable> {
        self.change(|parked| {
            let mut waiting = Vec::new();
            for (stream, versions) in streams {
                if let Some(parked) = parked.get_mut(&(consumer.name(), stream.clone())) {
                    *parked = parked.clone().with(*versions);
                    waiting.push(stream.clone());
                }
            }
            waiting
        })
        .await
    }

    async fn note_try(
        &self,
        consumer: Consumer,
        stream: &StreamId,
        done: u64,
        failure: &Failure,
        now: DateTime<Utc>,
    ) -> Result<(), Unavailable> {
        self.change(|parked| {
            if let Some(parked) = parked.get_mut(&(consumer.name(), stream.clone())) {
                *parked = parked.clone().tried(done, failure, now);
            }
        })
        .await
    }

    async fn parked(&self, consumer: Consumer, stream: &StreamId) -> Result<Option<ParkedStream>, Unavailable> {
        self.change(|parked| parked.get(&(consumer.name(), stream.clone())).cloned()).await
    }

    async fn list(
        &self,
        consumer: Consumer,
        after: Option<&StreamId>,
        limit: usize,
    ) -> Result<Vec<ParkedStream>, Unavailable> {
        self.change(|parked| {
            let of =
                parked.iter().filter(|((of, stream), _)| *of == consumer.name() && after.is_none_or(|a| stream > a));
            of.map(|(_, parked)| parked.clone()).take(limit).collect()
        })
        .await
    }

    async fn settle(
        &self,
        consumer: Consumer,
        stream: &StreamId,
        done: u64,
        settlement: &Settlement,
    ) -> Result<bool, Unavailable> {
        self.change(|parked| {
            let key = (consumer.name(), stream.clone());
            let Some(there) = parked.get(&key) else { return true };
            if there.last_version > done {
                return false;
            }
            let place = format!("{:020}#{}", settlement.at.timestamp_micros(), stream.as_str());
            let settled = (DeadLetter::Parked(there.clone()), settlement.clone());
            self.settled.lock().unwrap().insert((consumer.name().to_owned(), place), settled);
            parked.remove(&key);
            true
        })
        .await
    }

    async fn keep(&self, consumer: &str, message: &DeadMessage, settlement: &Settlement) -> Result<(), Unavailable> {
        let place = format!("{:020}#message#{}", settlement.at.timestamp_micros(), message.id);
        let settled = (DeadLetter::Message(message.clone()), settlement.clone());
        self.settled.lock().unwrap().insert((consumer.to_owned(), place), settled);
        Ok(())
    }

    async fn settled(
        &self,
        consumer: &str,
        before: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, DeadLetter, Settlement)>, Unavailable> {
        let settled = self.settled.lock().unwrap();
        let of =
            settled.iter().rev().filter(|((of, place), _)| of == consumer && before.is_none_or(|b| place.as_str() < b));
        Ok(of.map(|((_, place), (letter, how))| (place.clone(), letter.clone(), how.clone())).take(limit).collect())
    }

    async fn backlog(&self, consumer: Consumer) -> Result<Backlog, Unavailable> {
        self.change(|parked| {
            let of: Vec<_> = parked.iter().filter(|((of, _), _)| *of == consumer.name()).collect();
            Backlog { number: of.len() as u64, oldest: of.iter().map(|(_, parked)| parked.since).min() }
        })
        .await
    }
}

/// A dead-letter queue: what lies in it, and what was sent again.
#[derive(Default)]
pub struct MemoryDeadLetterQueue {
    lying: Mutex<VecDeque<ReceivedMessage>>,
    received: Mutex<BTreeMap<String, ReceivedMessage>>,
    sent: Mutex<Vec<String>>,
    /// Nothing has given these messages up that takes them again.
    pub leads_nowhere: bool,
}

impl MemoryDeadLetterQueue {
    pub fn put(&self, message: DeadMessage, body: &str) {
        let receipt = format!("receipt-{}", message.id);
        self.lying.lock().unwrap().push_back(ReceivedMessage { message, receipt, body: body.to_owned() });
    }

    /// How many messages there are, whether anybody looks at them or not.
    pub fn count(&self) -> usize {
        self.lying.lock().unwrap().len() + self.received.lock().unwrap().len()
    }

    /// The bodies that were sent again.
    pub fn sent(&self) -> Vec<String> {
        self.sent.lock().unwrap().clone()
    }
}

impl DeadLetterQueue for MemoryDeadLetterQueue {
    async fn receive(&self) -> Result<Vec<ReceivedMessage>, Unavailable> {
        yield_now().await;
        let mut lying = self.lying.lock().unwrap();
        let count = lying.len().min(10);
        let messages: Vec<_> = lying.drain(..count).collect();
        let mut received = self.received.lock().unwrap();
        received.extend(messages.iter().map(|message| (message.receipt.clone(), message.clone())));
        Ok(messages)
    }

    async fn hidden(&self) -> Result<usize, Unavailable> {
        Ok(self.received.lock().unwrap().len())
    }

    async fn release(&self, messages: &[ReceivedMessage]) -> Result<(), Unavailable> {
        let mut received = self.received.lock().unwrap();
        self.lying.lock().unwrap().extend(messages.iter().filter_map(|message| received.remove(&message.receipt)));
        Ok(())
    }

    async fn send_again(&self, message: &ReceivedMessage) -> Result<bool, Unavailable> {
        if self.leads_nowhere {
            return Ok(false);
        }
        self.sent.lock().unwrap().push(message.body.clone());
        Ok(true)
    }

    async fn delete(&self, message: &ReceivedMessage) -> Result<(), Unavailable> {
        self.received.lock().unwrap().remove(&message.receipt);
        Ok(())
    }
}
