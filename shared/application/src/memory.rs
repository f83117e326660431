//! Every port in memory, for tests. What they lose is only what the conformance suites do not ask for.

#![expect(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::missing_panics_doc,
    reason = "test equipment: a poisoned lock or an overflow is a failed test"
)]

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Mutex,
};

use chrono::Utc;
use domain::{
    ids::{NotificationId, OrderId, ProductId, ReservationId, TransactionId},
    money::Money,
    order::{Payment, Reservation, Shipment, Shortage},
    order_view::OrderView,
    product::Product,
};
use uuid::Uuid;

use crate::{
    event_store::{AppendError, Appended, Commit, EventStore, StreamId, Unavailable},
    ports::{
        Catalogue, ChargeError, ChargeRequest, EventBus, Fulfilment, FulfilmentInput, Inventory, LedgerEntry,
        Notification, Notifications, OrderViews, Payments, PublishError, PublishedEvent, RefundError, RefundRequest,
        ReserveError, SaveError, ShipmentRequest, Shipping, StockLine,
    },
    sandbox,
};

/// What the next call to a port does instead of answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happens, and nobody knows.
    BeforeEffect,
    /// It happens, and nobody knows.
    AfterEffect,
}

fn unavailable(what: &'static str) -> Unavailable {
    Unavailable { what, source: "a fault that the test asked for".into() }
}

/// The same size as `DynamoDB`'s limit for an item.
const COMMIT_BYTES_MAX: usize = 400 * 1024;

#[derive(Default)]
pub struct MemoryEventStore {
    streams: Mutex<BTreeMap<StreamId, Vec<Commit>>>,
    faults: Mutex<VecDeque<Fault>>,
}

impl MemoryEventStore {
    /// The next append meets this fault.
    pub fn fail_next_append(&self, fault: Fault) {
        self.faults.lock().unwrap().push_back(fault);
    }

    /// Every commit of every stream.
    pub fn all(&self) -> Vec<Commit> {
        self.streams.lock().unwrap().values().flatten().cloned().collect()
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
    async fn read(&self, stream: &StreamId, after: u64) -> Result<Vec<Commit>, Unavailable> {
        let streams = self.streams.lock().unwrap();
        let commits = streams.get(stream).into_iter().flatten();
        Ok(commits.filter(|commit| commit.version > after).cloned().collect())
    }

    async fn append(&self, commit: &Commit) -> Result<Appended, AppendError> {
        let fault = self.faults.lock().unwrap().pop_front();
        if fault != Some(Fault::BeforeEffect) {
            let appended = self.try_append(commit);
            if fault.is_none() {
                return appended;
            }
        }
        Err(unavailable("the event store").into())
    }
}

/// Catalogue and stock.
#[derive(Default)]
pub struct MemoryInventory {
    products: Mutex<BTreeMap<ProductId, Product>>,
    reservations: Mutex<BTreeMap<OrderId, Held>>,
}

enum Held {
    Lines(Vec<StockLine>),
    Released,
}

impl Catalogue for MemoryInventory {
    async fn products(&self, ids: &[ProductId]) -> Result<Vec<Product>, Unavailable> {
        let products = self.products.lock().unwrap();
        let distinct: BTreeSet<&ProductId> = ids.iter().collect();
        Ok(distinct.into_iter().filter_map(|id| products.get(id).cloned()).collect())
    }

    async fn put_product(&self, product: &Product) -> Result<bool, Unavailable> {
        Ok(self.products.lock().unwrap().insert(product.id.clone(), product.clone()).is_none())
    }
}

impl Inventory for MemoryInventory {
    async fn reserve(&self, order_id: OrderId, lines: &[StockLine]) -> Result<Reservation, ReserveError> {
        let mut reservations = self.reservations.lock().unwrap();
        let mut products = self.products.lock().unwrap();
        match reservations.get(&order_id) {
            Some(Held::Lines(_)) => return Ok(reservation(order_id)),
            Some(Held::Released) => return Err(ReserveError::Released),
            None => {}
        }
        let available = |line: &StockLine| products.get(&line.product_id).map_or(0, |product| product.stock);
        let shortages: Vec<Shortage> = lines
            .iter()
            .filter(|line| line.quantity.get() > available(line))
            .map(|line| Shortage {
                product_id: line.product_id.clone(),
                requested: line.quantity.get(),
                available: available(line),
            })
            .collect();
        if !shortages.is_empty() {
            return Err(ReserveError::OutOfStock(shortages));
        }
        for line in lines {
            products.get_mut(&line.product_id).unwrap().stock -= line.quantity.get();
        }
        reservations.insert(order_id, Held::Lines(lines.to_vec()));
        Ok(reservation(order_id))
    }

    async fn release(&self, order_id: OrderId) -> Result<(), Unavailable> {
        if let Some(Held::Lines(lines)) = self.reservations.lock().unwrap().insert(order_id, Held::Released) {
            let mut products = self.products.lock().unwrap();
            for line in lines {
                products.get_mut(&line.product_id).unwrap().stock += line.quantity.get();
            }
        }
        Ok(())
    }
}

fn reservation(order_id: OrderId) -> Reservation {
    Reservation { reservation_id: ReservationId(format!("res_{order_id}")) }
}

/// What was asked, and the payment or the decline's code.
type Charge = (ChargeRequest, Result<Payment, String>);

#[derive(Default)]
pub struct MemoryPayments {
    charges: Mutex<BTreeMap<Uuid, Charge>>,
    refunds: Mutex<BTreeMap<Uuid, RefundRequest>>,
}

impl Payments for MemoryPayments {
    async fn charge(&self, request: &ChargeRequest) -> Result<Payment, ChargeError> {
        let mut charges = self.charges.lock().unwrap();
        let (first, answer) = charges.entry(request.idempotency_key).or_insert_with(|| {
            let answer = match sandbox::decline_code(&request.payment_method) {
                Some(code) => Err(code.to_owned()),
                None => Ok(Payment {
                    transaction_id: TransactionId(format!("ch_{}", request.idempotency_key.simple())),
                    amount: request.amount,
                    processed_at: Utc::now(),
                }),
            };
            (request.clone(), answer)
        });
        if first == request { answer.clone().map_err(ChargeError::Declined) } else { Err(ChargeError::KeyReused) }
    }

    async fn refund(&self, request: &RefundRequest) -> Result<TransactionId, RefundError> {
        let mut refunds = self.refunds.lock().unwrap();
        let id = TransactionId(format!("re_{}", request.idempotency_key.simple()));
        if let Some(first) = refunds.get(&request.idempotency_key) {
            return if first == request { Ok(id) } else { Err(RefundError::KeyReused) };
        }
        let charges = self.charges.lock().unwrap();
        let Some((_, Ok(payment))) = charges.get(&request.charge_key) else {
            return Err(RefundError::NoCharge);
        };
        refunds
            .values()
            .filter(|refund| refund.charge_key == request.charge_key)
            .try_fold(payment.amount, |left, refund| left.minus(refund.amount))
            .and_then(|left| left.minus(request.amount))
            .map_err(|_| RefundError::TooMuch)?;
        refunds.insert(request.idempotency_key, request.clone());
        Ok(id)
    }

    async fn ledger(&self, order_id: OrderId) -> Result<Vec<LedgerEntry>, Unavailable> {
        let charges = self.charges.lock().unwrap();
        let refunds = self.refunds.lock().unwrap();
        let charge_entries =
            charges.values().filter(|(request, _)| request.order_id == order_id).map(|(_, answer)| match answer {
                Ok(payment) => LedgerEntry::Charged(payment.transaction_id.clone(), payment.amount),
                Err(code) => LedgerEntry::Declined(code.clone()),
            });
        let refund_entries = refunds.values().filter(|refund| refund.order_id == order_id).map(|refund| {
            let id = TransactionId(format!("re_{}", refund.idempotency_key.simple()));
            LedgerEntry::Refunded(id, refund.amount)
        });
        Ok(charge_entries.chain(refund_entries).collect())
    }
}

#[derive(Default)]
pub struct MemoryShipping {
    shipments: Mutex<BTreeMap<Uuid, Shipment>>,
}

impl MemoryShipping {
    pub fn shipments(&self) -> usize {
        self.shipments.lock().unwrap().len()
    }
}

impl Shipping for MemoryShipping {
    async fn create_shipment(&self, request: &ShipmentRequest) -> Result<Shipment, Unavailable> {
        let mut shipments = self.shipments.lock().unwrap();
        let key = request.idempotency_key;
        Ok(shipments.entry(key).or_insert_with(|| sandbox::shipment(key, Utc::now())).clone())
    }
}

#[derive(Default)]
pub struct MemoryNotifications {
    sent: Mutex<BTreeMap<Uuid, Notification>>,
}

impl MemoryNotifications {
    pub fn sent(&self) -> Vec<Notification> {
        self.sent.lock().unwrap().values().cloned().collect()
    }
}

impl Notifications for MemoryNotifications {
    async fn send(&self, notification: &Notification) -> Result<NotificationId, Unavailable> {
        let key = notification.idempotency_key;
        self.sent.lock().unwrap().entry(key).or_insert_with(|| notification.clone());
        Ok(NotificationId(format!("msg_{}", key.simple())))
    }
}

#[derive(Default)]
pub struct MemoryOrderViews {
    views: Mutex<BTreeMap<OrderId, OrderView>>,
    faults: Mutex<VecDeque<Fault>>,
}

impl MemoryOrderViews {
    /// The next save meets this fault.
    pub fn fail_next_save(&self, fault: Fault) {
        self.faults.lock().unwrap().push_back(fault);
    }
}

impl OrderViews for MemoryOrderViews {
    async fn load(&self, id: OrderId) -> Result<Option<OrderView>, Unavailable> {
        Ok(self.views.lock().unwrap().get(&id).cloned())
    }

    async fn save(&self, view: &OrderView, replaces: u64) -> Result<(), SaveError> {
        let fault = self.faults.lock().unwrap().pop_front();
        let mut views = self.views.lock().unwrap();
        if views.get(&view.id).map_or(0, |there| there.version) != replaces {
            return Err(SaveError::Superseded);
        }
        if fault != Some(Fault::BeforeEffect) {
            views.insert(view.id, view.clone());
        }
        if fault.is_some() { Err(unavailable("the order view").into()) } else { Ok(()) }
    }
}

#[derive(Default)]
pub struct MemoryEventBus {
    published: Mutex<Vec<PublishedEvent>>,
    down: Mutex<bool>,
}

impl MemoryEventBus {
    pub fn published(&self) -> Vec<PublishedEvent> {
        self.published.lock().unwrap().clone()
    }

    pub fn set_down(&self, down: bool) {
        *self.down.lock().unwrap() = down;
    }
}

impl EventBus for MemoryEventBus {
    async fn publish(&self, events: &[PublishedEvent]) -> Result<(), PublishError> {
        if *self.down.lock().unwrap() {
            return Err(PublishError { undelivered: events.len(), source: "the bus is down".into() });
        }
        self.published.lock().unwrap().extend_from_slice(events);
        Ok(())
    }
}

#[derive(Default)]
pub struct MemoryFulfilment {
    started: Mutex<BTreeMap<OrderId, FulfilmentInput>>,
    down: Mutex<bool>,
}

impl MemoryFulfilment {
    pub fn started(&self) -> Vec<FulfilmentInput> {
        self.started.lock().unwrap().values().cloned().collect()
    }

    pub fn set_down(&self, down: bool) {
        *self.down.lock().unwrap() = down;
    }
}

impl Fulfilment for MemoryFulfilment {
    async fn start(&self, input: &FulfilmentInput) -> Result<bool, Unavailable> {
        if *self.down.lock().unwrap() {
            return Err(unavailable("the state machine"));
        }
        Ok(self.started.lock().unwrap().insert(input.order_id, input.clone()).is_none())
    }
}

/// What an order has cost its customer: charges less refunds.
pub async fn balance(payments: &impl Payments, order_id: OrderId, zero: Money) -> Money {
    payments.ledger(order_id).await.unwrap().iter().fold(zero, |balance, entry| match entry {
        LedgerEntry::Charged(_, amount) => balance.plus(*amount).unwrap(),
        LedgerEntry::Refunded(_, amount) => balance.minus(*amount).unwrap(),
        LedgerEntry::Declined(_) => balance,
    })
}
