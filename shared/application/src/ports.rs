//! The ports to everything else that is outside. Each says what its implementations MUST do;
//! `conformance` holds the in-memory ones and the adapters to it.
//!
//! [`Unavailable`] always means: it may have happened or not. Calling again with the same key MUST be safe.
//!
//! Any other error is a refusal, and people and events rest on it. It MUST be true of one moment, in which the call had had no
//! effect under its key: what another attempt of the same call brings about meanwhile is never refused.

use std::{collections::BTreeMap, future::Future, time::Duration};

use chrono::{DateTime, Utc};
use domain::{
    address::ShippingAddress,
    books::ShipmentBook,
    ids::{AdjustmentId, CustomerId, NotificationId, OrderId, PaymentMethod, ProductId, TransactionId},
    money::{Money, Quantity},
    order::{OrderEvent, OrderStatus, Payment, Refund, Reservation, Resumption, Shipment, Shortage, SkippedStep},
    order_view::{CustomerView, OrderView},
    product::{Product, StockChange},
    provider::Provider,
    stored_event::UnreadableEvent,
    text::Text,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    event_store::{BoxError, Commit, Metadata, RecordedEvent, StreamId, Unavailable},
    reconcile::LIMIT,
};

/// What a provider did instead of answering: the source of its [`Unavailable`]. Nothing in it comes from the answer.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    #[error("the call failed")]
    Failed(#[source] BoxError),
    #[error("no answer came within {0:?}")]
    TimedOut(Duration),
    /// What came back breaks the contract, and is not believed.
    #[error("the provider misbehaved: {field} {problem}")]
    Misbehaved { field: &'static str, problem: String },
    /// It failed too often, and is left alone for a while.
    #[error("the provider is not called for another {for_another:?}")]
    ShutOff { for_another: Duration },
}

/// The providers behind one port. Who has an order's money, stock or parcel is asked for it, whatever new orders use by now.
pub trait Providers: Send + Sync {
    type Provider: Send + Sync;

    /// Fails when there is no such provider any more, or not yet: a person has to see to it.
    fn of<'p>(&'p self, provider: &Provider) -> Result<&'p Self::Provider, Unavailable>;
}

/// Has each of these be the only provider behind its port.
#[macro_export]
macro_rules! only_providers {
    ($($provider:ty),+ $(,)?) => {$(
        impl $crate::ports::Providers for $provider {
            type Provider = Self;

            fn of<'p>(
                &'p self,
                _: &domain::provider::Provider,
            ) -> Result<&'p Self, $crate::event_store::Unavailable> {
                Ok(self)
            }
        }
    )+};
}

/// What can be ordered, at what price, and how much of it is left.
pub trait Catalogue: Send + Sync {
    /// Those of up to 100 products that exist, in any order, as they are now. MUST be one remote call.
    fn products(&self, ids: &[ProductId]) -> impl Future<Output = Result<Vec<Product>, Unavailable>> + Send;

    /// Sets name, price and orderable stock. Answers whether the product is new.
    fn put_product(&self, product: &Product) -> impl Future<Output = Result<bool, Unavailable>> + Send;

    /// Sets name and price. MUST leave the stock as it is; a new product has none. Answers the product as it is now, and
    /// whether it is new.
    fn describe_product(
        &self,
        id: &ProductId,
        name: &Text<200>,
        price: Money,
    ) -> impl Future<Output = Result<(Product, bool), Unavailable>> + Send;

    /// Changes the orderable stock, which a reservation may be changing at the same time. MUST change it once per id: the same
    /// adjustment again gets the first answer, another one under the same id gets [`AdjustError::KeyReused`]. MUST keep who
    /// made it, why and when.
    ///
    /// MUST derive what it refuses from one moment: an adjustment that has been made is never refused for what it has left.
    fn adjust_stock(&self, adjustment: &StockAdjustment) -> impl Future<Output = Result<Adjusted, AdjustError>> + Send;
}

/// Change what can still be ordered of a product, once per id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StockAdjustment {
    pub id: AdjustmentId,
    pub product_id: ProductId,
    pub change: StockChange,
    pub reason: Text<500>,
    /// Who makes it, as in [`Metadata`].
    pub actor: String,
    pub at: DateTime<Utc>,
}

/// What an adjustment has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Adjusted {
    pub by: i64,
    /// What the stock was then.
    pub stock: u32,
    /// An earlier attempt had made it.
    pub replayed: bool,
}

/// Why a stock was not adjusted.
#[derive(Debug, thiserror::Error)]
pub enum AdjustError {
    #[error("there is no such product")]
    UnknownProduct,
    #[error("the stock is {stock}, and has to stay from 0 to {}", u32::MAX)]
    OutOfRange { stock: u32 },
    #[error("the id was used before, for another adjustment")]
    KeyReused,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// One line of what is to be held for an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockLine {
    pub product_id: ProductId,
    pub quantity: Quantity,
}

/// Why nothing is reserved.
#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    #[error("not enough in stock")]
    OutOfStock(Vec<Shortage>),
    #[error("the order's stock was released before")]
    Released,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The stock, held per order: at most one reservation for each.
pub trait Inventory: Send + Sync {
    /// Holds all lines or none; no product may stand in two lines. MUST never hold more than there is, and MUST hold an order's lines once however often
    /// it is asked. MUST answer [`ReserveError::Released`] after a release, also when the release came first.
    fn reserve(
        &self,
        order_id: OrderId,
        lines: &[StockLine],
    ) -> impl Future<Output = Result<Reservation, ReserveError>> + Send;

    /// What is held for the order now; nothing when there is no reservation.
    fn reserved(&self, order_id: OrderId) -> impl Future<Output = Result<Vec<StockLine>, Unavailable>> + Send;

    /// Gives back what is held for the order, once. MUST also be an answer when nothing is held, and then bar a
    /// reservation that comes late.
    fn release(&self, order_id: OrderId) -> impl Future<Output = Result<(), Unavailable>> + Send;
}

/// Ask for this much money, once per key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChargeRequest {
    pub idempotency_key: Uuid,
    pub order_id: OrderId,
    /// So that a provider can check that the means of payment is this customer's.
    pub customer_id: CustomerId,
    pub payment_method: PaymentMethod,
    pub amount: Money,
}

/// Why there is no charge.
#[derive(Debug, thiserror::Error)]
pub enum ChargeError {
    #[error("the payment was declined: {0}")]
    Declined(String),
    #[error("the idempotency key was used before, for another charge")]
    KeyReused,
    #[error("the charge was cancelled before it came")]
    Cancelled,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// See to it that a charge costs the customer nothing, whatever became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChargeCancellation {
    pub order_id: OrderId,
    /// The key of the charge.
    pub charge_key: Uuid,
    /// The key of the refund, should the charge have gone through.
    pub refund_key: Uuid,
}

/// Why a charge is neither given back nor barred.
#[derive(Debug, thiserror::Error)]
pub enum CancelChargeError {
    /// What refunds have left of the charge stays with the provider, and asking again is no use until somebody has acted:
    /// only a person can decide what becomes of it.
    #[error("the payment provider refused to give the charge back: {0}")]
    Refused(String),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Give this much of an order's charges back, once per key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundRequest {
    pub idempotency_key: Uuid,
    pub order_id: OrderId,
    /// The key of the charge that is refunded.
    pub charge_key: Uuid,
    pub amount: Money,
}

/// Why nothing is refunded.
#[derive(Debug, thiserror::Error)]
pub enum RefundError {
    #[error("no such charge went through")]
    NoCharge,
    #[error("more than what is left of the charge")]
    TooMuch,
    #[error("the idempotency key was used before, for another refund")]
    KeyReused,
    /// Asking again is no use until somebody has acted: only a person can decide what becomes of the refund.
    #[error("the payment provider refused the refund: {0}")]
    Refused(String),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// One line of an order's books as the payment provider keeps them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerEntry {
    Charged(TransactionId, Money),
    Declined(String),
    Cancelled,
    Refunded(TransactionId, Money),
}

/// The payment provider.
pub trait Payments: Send + Sync {
    /// MUST charge once per order and key: the same request again gets the first answer, a decline included; another request
    /// under the same key gets [`ChargeError::KeyReused`].
    fn charge(&self, request: &ChargeRequest) -> impl Future<Output = Result<Payment, ChargeError>> + Send;

    /// Gives back what refunds have left of the charge if it went through, and bars it if it has not come yet: a charge
    /// that comes late MUST then get [`ChargeError::Cancelled`]. Answers the charge and this refund; `None` when there was
    /// no charge, or nothing left of it. MUST have the same effect and answer however often it is asked.
    fn cancel_charge(
        &self,
        cancellation: &ChargeCancellation,
    ) -> impl Future<Output = Result<Option<(Payment, Refund)>, CancelChargeError>> + Send;

    /// MUST refund once per key, and never more in all than was charged. What is [`RefundError::TooMuch`] once MUST stay so:
    /// the same call again never refunds after all.
    fn refund(&self, request: &RefundRequest) -> impl Future<Output = Result<Refund, RefundError>> + Send;

    /// The refund under this key, if it was made.
    fn refunded(
        &self,
        order_id: OrderId,
        refund_key: Uuid,
    ) -> impl Future<Output = Result<Option<Refund>, Unavailable>> + Send;

    /// Every charge, decline and refund of the order, in any order.
    fn ledger(&self, order_id: OrderId) -> impl Future<Output = Result<Vec<LedgerEntry>, Unavailable>> + Send;
}

/// Send this, once per key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShipmentRequest {
    pub idempotency_key: Uuid,
    pub order_id: OrderId,
    pub address: ShippingAddress,
    pub lines: Vec<StockLine>,
}

/// Why there is no shipment.
#[derive(Debug, thiserror::Error)]
pub enum ShipmentError {
    #[error("the carrier refused the shipment: {0}")]
    Refused(String),
    #[error("the shipment was cancelled before it came")]
    Cancelled,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a shipment does not come back.
#[derive(Debug, thiserror::Error)]
pub enum TakeBackError {
    #[error("the parcel has arrived")]
    Delivered(DateTime<Utc>),
    /// The parcel stays under way, and asking again is no use until somebody has acted: only a person can decide what
    /// becomes of it.
    #[error("the carrier refused to give the parcel back: {0}")]
    Refused(String),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a parcel has not arrived.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    #[error("no such parcel is under way")]
    NotUnderWay,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The carrier.
pub trait Shipping: Send + Sync {
    /// What became of the shipment under this key. One that was barred before it came is none.
    fn shipment(&self, shipment_key: Uuid) -> impl Future<Output = Result<ShipmentBook, Unavailable>> + Send;

    /// Takes the shipment back if there is one, and bars it if it has not come yet: a request that comes late MUST then
    /// get [`ShipmentError::Cancelled`]. MUST have the same effect however often it is asked. MUST refuse with
    /// [`TakeBackError::Delivered`] what has arrived: of a delivery and a cancellation, exactly one comes about.
    fn cancel_shipment(
        &self,
        order_id: OrderId,
        shipment_key: Uuid,
    ) -> impl Future<Output = Result<(), TakeBackError>> + Send;

    /// When the parcel arrived. The sandbox delivers nothing by itself: there, whoever asks first is believed, and the
    /// parcel has arrived. MUST answer the same ever after, and MUST refuse a shipment that is cancelled or was never made.
    fn confirm_delivery(&self, shipment_key: Uuid)
    -> impl Future<Output = Result<DateTime<Utc>, DeliveryError>> + Send;

    /// MUST create one shipment per key, and answer a repeated request with it, or with the same refusal.
    fn create_shipment(
        &self,
        request: &ShipmentRequest,
    ) -> impl Future<Output = Result<Shipment, ShipmentError>> + Send;
}

/// Tell the customer, once per key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    pub idempotency_key: Uuid,
    pub order_id: OrderId,
    pub customer_id: CustomerId,
    /// Which message: a template's name such as `order-confirmed`.
    pub template: &'static str,
    /// False when the order asks the sandbox to fail at this ([`deliverable`](crate::sandbox::deliverable)). Worked out by
    /// the step, so that the notification service learns nothing of the address. Not a part of the message.
    pub deliverable: bool,
}

/// The notification service.
pub trait Notifications: Send + Sync {
    /// MUST send one message per key.
    fn send(&self, notification: &Notification) -> impl Future<Output = Result<NotificationId, Unavailable>> + Send;
}

/// Why a view was not saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    #[error("the stored view is another one")]
    Superseded,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The most views that are read in one call.
pub const VIEWS_MAX: usize = 100;

/// The read model's table.
pub trait OrderViews: Send + Sync {
    /// One read; sees every save that was answered before.
    fn load(&self, id: OrderId) -> impl Future<Output = Result<Option<OrderView>, Unavailable>> + Send;

    /// Those of up to [`VIEWS_MAX`] orders that have a view, in any order. MUST be one remote call.
    fn load_many(&self, ids: &[OrderId]) -> impl Future<Output = Result<Vec<OrderView>, Unavailable>> + Send;

    /// MUST store the view only if what is stored is at the version of `replaces`, or nothing for `None`; else
    /// [`SaveError::Superseded`].
    fn save(
        &self,
        view: &OrderView,
        replaces: Option<&OrderView>,
    ) -> impl Future<Output = Result<(), SaveError>> + Send;

    /// Puts the order among its customer's, standing there as this view says: open, or with the
    /// [status at which it rests](OrderView::status_at_rest). Answers whether that changed anything. MUST list and
    /// [count](Self::count) an order once, however often it is called.
    fn list(&self, view: &OrderView) -> impl Future<Output = Result<bool, Unavailable>> + Send;

    /// [Lists](Self::list) up to [`VIEWS_MAX`] orders that most likely are not there yet, in few calls. Some of them may be listed
    /// when it fails.
    fn list_many(&self, views: &[OrderView]) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// A customer's orders, the newest first, from number `skip` on. Sees everything that was [listed](Self::list) before.
    /// MUST cost the same wherever the part begins.
    fn customer_orders(
        &self,
        customer: &CustomerId,
        skip: usize,
        limit: usize,
    ) -> impl Future<Output = Result<CustomerOrders, Unavailable>> + Send;

    /// The same of those with this status: a read of all of the customer's, and of the views of those that are open.
    fn customer_orders_with_status(
        &self,
        customer: &CustomerId,
        status: OrderStatus,
        skip: usize,
        limit: usize,
    ) -> impl Future<Output = Result<CustomerOrders, Unavailable>> + Send;

    /// Those of up to [`VIEWS_MAX`] customers that are known, in any order. MUST be one remote call.
    fn customers(&self, ids: &[CustomerId]) -> impl Future<Output = Result<Vec<CustomerView>, Unavailable>> + Send;

    /// MUST keep the customer of the greatest version: an older one changes nothing.
    fn save_customer(&self, customer: &CustomerView) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// A page of the orders that were placed before this time, have not [come to rest](OrderView::is_open), and stand like
    /// that: about `limit` of them, from where another page has ended. All pages together MUST have every such order that
    /// stays one meanwhile. May leave out, or still have, what has only just changed. MUST NOT cost more the more orders have
    /// come to rest.
    fn open_orders(
        &self,
        standing: Standing,
        placed_before: DateTime<Utc>,
        after: Option<&str>,
        limit: usize,
    ) -> impl Future<Output = Result<OpenOrders, Unavailable>> + Send;

    /// What was [kept](Self::keep_place) last.
    fn place_kept(&self) -> impl Future<Output = Result<Option<String>, Unavailable>> + Send;

    /// Keeps the place at which a walk over the open orders is to go on; none for its start.
    fn keep_place(&self, place: Option<&str>) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// How many orders have each status; of more than a thousand that are under way, about. MUST NOT cost more the more orders
    /// have come to rest.
    fn count(&self) -> impl Future<Output = Result<BTreeMap<OrderStatus, u64>, Unavailable>> + Send;
}

/// A part of a customer's orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomerOrders {
    pub orders: Vec<PlacedOrder>,
    /// How many there are in all.
    pub total: usize,
}

/// Where an order stands in the order in which orders were placed: by the time, in milliseconds since 1970, then by the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlacedOrder {
    pub millis: i64,
    pub id: OrderId,
}

impl PlacedOrder {
    pub fn of(view: &OrderView) -> Self {
        Self { millis: view.created_at.timestamp_millis(), id: view.id }
    }
}

/// How an order stands for which something is still to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    UnderWay,
    /// It waits for a person. There may be many of these, for long.
    Waiting,
}

/// A page of orders for which something is still to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenOrders {
    pub ids: Vec<OrderId>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<String>,
}

/// What a stream had come to after one of its commits, so that a long stream need not be read from its start. The events say
/// all of it once more.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    pub stream: StreamId,
    /// Number of the last event that is in it.
    pub version: u64,
    /// What the state's JSON is to be read as; see [`Aggregate::SNAPSHOT_SCHEMA`](crate::event_stream::Aggregate).
    pub schema: u32,
    pub state: Value,
    /// Every command up to it, in order, because a repeated one has to be recognised however old it is.
    pub commands: Vec<PastCommand>,
}

/// A command that is in a stream. Written as an array: a snapshot has thousands of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(Uuid, String, u64)", into = "(Uuid, String, u64)")]
pub struct PastCommand {
    pub id: Uuid,
    pub fingerprint: String,
    /// Number of the last event that it caused.
    pub version: u64,
}

impl From<(Uuid, String, u64)> for PastCommand {
    fn from((id, fingerprint, version): (Uuid, String, u64)) -> Self {
        Self { id, fingerprint, version }
    }
}

impl From<PastCommand> for (Uuid, String, u64) {
    fn from(PastCommand { id, fingerprint, version }: PastCommand) -> Self {
        (id, fingerprint, version)
    }
}

/// The most that a snapshot's state and commands may be as JSON: an item of 400 KB, less its keys. About 3,500 commands.
pub const SNAPSHOT_BYTES_MAX: usize = 390 * 1024;

/// The newest snapshot of each stream. Nothing may depend on one being there, or on how new it is.
pub trait Snapshots: Send + Sync {
    /// MUST answer `None` when the snapshot cannot be had, for whatever reason: the events are read instead.
    fn load(&self, stream: &StreamId) -> impl Future<Output = Option<Snapshot>> + Send;

    /// MUST take what is not larger than [`SNAPSHOT_BYTES_MAX`], in place of an older snapshot and never of a newer one; that
    /// one stays, and all is well.
    fn save(&self, snapshot: &Snapshot) -> impl Future<Output = Result<(), Unavailable>> + Send;
}

/// Where an event stands among those of its type: by time, in milliseconds, then by the text that names it. The newest is the
/// greatest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    millis: i64,
    id: String,
}

impl Position {
    pub fn new(at: DateTime<Utc>, id: impl Into<String>) -> Self {
        Self { millis: at.timestamp_millis(), id: id.into() }
    }

    /// Before everything that happened at this time, and after whatever happened earlier: no event has an empty name.
    pub fn start_of(at: DateTime<Utc>) -> Self {
        Self::new(at, "")
    }

    pub fn millis(&self) -> i64 {
        self.millis
    }

    pub fn id(&self) -> &str {
        &self.id
    }
}

/// Where an event is in the event table, and when it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPlace {
    /// In milliseconds since 1970.
    pub millis: i64,
    pub stream: StreamId,
    /// The event's number in its stream.
    pub version: u64,
    /// The number of its commit's first event.
    pub commit: u64,
}

impl EventPlace {
    /// The type of each event of a commit, and where it is.
    pub fn of(commit: &Commit) -> impl Iterator<Item = (&str, Self)> {
        let millis = commit.metadata.occurred_at.timestamp_millis();
        commit.numbered().map(move |(version, event)| {
            let place = Self { millis, stream: commit.stream.clone(), version, commit: commit.version };
            (event.event_type.as_str(), place)
        })
    }

    /// The number with leading zeros, so that the events of one commit are listed in their order.
    pub fn position(&self) -> Position {
        Position { millis: self.millis, id: format!("{}/{:010}", self.stream.as_str(), self.version) }
    }
}

/// A customer who is found under a term.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Posting {
    pub term: String,
    pub customer: CustomerId,
    /// What the reader of a list has to know of the customer without reading more.
    pub text: String,
}

/// What finds customers by terms, and events by their type and time.
pub trait Index: Send + Sync {
    /// Any number of postings, no two of one term and customer; each replaces what is there of these. Some may be there also
    /// after an error.
    fn add(&self, postings: &[Posting]) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// Takes out what stands there of these terms and customers, whatever its text. MUST also be an answer where nothing
    /// stands. Some may be gone also after an error.
    fn remove(&self, postings: &[Posting]) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// The customers under a term, up to `limit` of them. MUST see every call that was answered before. MUST NOT cost more the
    /// more postings there are besides.
    fn customers(&self, term: &str, limit: usize) -> impl Future<Output = Result<Vec<Posting>, Unavailable>> + Send;

    /// Lists the events of any number of commits, each event once however often it comes, and in whatever company. SHOULD
    /// cost less for many commits at once. Some may be there also after an error.
    fn list(&self, commits: &[Commit]) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// The events of a type at or before `not_after` and not earlier than `not_before`, newest first: all of them, or the
    /// newest `limit`. MUST see every call that was answered before. MUST NOT cost more the more events of other times or
    /// types there are.
    fn newest(
        &self,
        event_type: &str,
        not_after: Option<&Position>,
        not_before: Option<DateTime<Utc>>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<EventPlace>, Unavailable>> + Send;
}

/// One event on its way to whoever subscribed.
#[derive(Debug, Clone, PartialEq)]
pub struct PublishedEvent {
    pub stream: StreamId,
    /// The event's number in its stream.
    pub version: u64,
    pub event: RecordedEvent,
    pub metadata: Metadata,
}

impl PublishedEvent {
    /// The events of a commit: the same however often they go out.
    pub fn of(commit: &Commit) -> impl Iterator<Item = Self> + '_ {
        commit.numbered().map(|(version, event)| Self {
            stream: commit.stream.clone(),
            version,
            event: event.clone(),
            metadata: commit.metadata.clone(),
        })
    }
}

/// Some events did not get through.
#[derive(Debug, thiserror::Error)]
#[error("{undelivered} events were not published")]
pub struct PublishError {
    pub undelivered: usize,
    #[source]
    pub source: BoxError,
}

/// The event bus.
pub trait EventBus: Send + Sync {
    /// MUST answer with success only if the bus has taken every event. Some may be there also after an error.
    fn publish(&self, events: &[PublishedEvent]) -> impl Future<Output = Result<(), PublishError>> + Send;
}

/// What an execution of the fulfilment, and each of its steps, is told: ids only, because the history of executions is
/// kept for months and is readable by operators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FulfilmentInput {
    pub order_id: OrderId,
    pub correlation_id: String,
    /// The id of the event that started the fulfilment.
    pub causation_id: String,
    pub traceparent: Option<String>,
    /// True for the execution that undoes a cancelled order.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undo: bool,
    /// True for an execution that gives back what staff have requested.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refund: bool,
    /// The number of the event that started it, where an order may have several of that kind.
    #[serde(default, alias = "resumed_by", skip_serializing_if = "Option::is_none")]
    pub started_by: Option<u64>,
}

impl AsRef<Self> for FulfilmentInput {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// What the event that may start an execution brings along, on whatever way it comes.
#[derive(Debug, Clone, Copy)]
pub struct Cause<'c> {
    pub order_id: OrderId,
    /// The event's number in its stream.
    pub version: u64,
    pub event: &'c RecordedEvent,
    pub correlation_id: &'c str,
    pub traceparent: Option<&'c str>,
}

impl FulfilmentInput {
    /// Whether an event of this type says in its data what it starts.
    pub fn depends_on_data_of(event_type: &str) -> bool {
        matches!(event_type, "FulfilmentResumed" | "StepSkipped")
    }

    /// The execution that this event starts; `None` for an event that starts none. Its data are read only where
    /// [they say which](Self::depends_on_data_of): a message has none.
    pub fn started_by(cause: Cause<'_>) -> Result<Option<Self>, UnreadableEvent> {
        let version = Some(cause.version);
        let (undo, refund, started_by) = match cause.event.event_type.as_str() {
            "OrderCreated" => (false, false, None),
            "OrderCancelRequested" => (true, false, None),
            "RefundRequested" => (false, true, version),
            event_type if Self::depends_on_data_of(event_type) => match cause.event.read()? {
                OrderEvent::FulfilmentResumed(Resumption { undo, refund, .. }) => (undo && !refund, refund, version),
                OrderEvent::StepSkipped(SkippedStep { step, .. }) if step.is_undo() => (true, false, version),
                // A refund or a message that is skipped leaves nothing to go on with.
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        Ok(Some(Self {
            order_id: cause.order_id,
            correlation_id: cause.correlation_id.to_owned(),
            causation_id: format!("{}/{}", cause.order_id, cause.version),
            traceparent: cause.traceparent.map(str::to_owned),
            undo,
            refund,
            started_by,
        }))
    }

    /// Whether it is too late for an event of this time to start anything without a person. A day after the event, whatever
    /// it calls for has been started, or a person has been called; and no name of an execution is known for ever: Step
    /// Functions forgets them after 90 days, and what comes again then would be done once more.
    pub fn too_late(occurred_at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        now.signed_duration_since(occurred_at) > LIMIT
    }

    /// The name of the execution, and of the durable one that goes on where it ends: an order is fulfilled once, undone once,
    /// and goes on once for each event that lets it.
    pub fn execution_name(&self) -> String {
        match (self.started_by, self.refund, self.undo) {
            (Some(event), true, _) => format!("{}-refund-{event}", self.order_id),
            (Some(event), false, _) => format!("{}-resumed-{event}", self.order_id),
            (None, _, true) => format!("{}-undo", self.order_id),
            (None, _, false) => self.order_id.to_string(),
        }
    }
}

/// Whoever signs people in, and may know which e-mail address is theirs.
pub trait IdentityProvider: Send + Sync {
    /// The e-mail address of this user, if they have shown that they read what is sent there; `None` also for an unknown user.
    fn verified_email(&self, username: &str) -> impl Future<Output = Result<Option<String>, Unavailable>> + Send;
}

/// What is known of an execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecutionState {
    NeverStarted,
    Running,
    /// It has come to an end, good or bad.
    Ended,
}

/// What starts an order's fulfilment: an execution that is over within [`EXPRESS_LIMIT`](crate::reconcile::EXPRESS_LIMIT), and
/// leaves what does not get done by then to [another](DurableFulfilment).
pub trait Fulfilment: Send + Sync {
    /// MAY start it more than once, whether or not its [name](FulfilmentInput::execution_name) was used before: its steps find
    /// the order where it is. What has become of it, the order says and nobody else.
    fn start(&self, input: &FulfilmentInput) -> impl Future<Output = Result<(), Unavailable>> + Send;
}

/// What goes on with the order where that ends, for as long as it takes.
pub trait DurableFulfilment: Send + Sync {
    /// Answers whether it started now. MUST start nothing under an [execution name](FulfilmentInput::execution_name)
    /// that was used before.
    fn start(&self, input: &FulfilmentInput) -> impl Future<Output = Result<bool, Unavailable>> + Send;

    /// What has become of the execution under this input's name.
    fn state(&self, input: &FulfilmentInput) -> impl Future<Output = Result<ExecutionState, Unavailable>> + Send;
}

/// What keeps something so that it need not be read, or sent, once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cache {
    /// Commits that were read before ([`PastCommits`](crate::past_commits::PastCommits)).
    Events,
    /// Which generations of the read model there are.
    Generations,
    /// The client's own copy, for which it sends the `ETag`.
    Etag,
}

impl Cache {
    pub const ALL: [Self; 3] = [Self::Events, Self::Generations, Self::Etag];

    /// The word that operators see.
    pub fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Generations => "generations",
            Self::Etag => "etag",
        }
    }
}

/// What the functions count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counter {
    Hits(Cache),
    Misses(Cache),
    CommitsProjected,
    /// The time between the moment in which each of these commits occurred and the one in which it was in the views, in
    /// milliseconds, added up.
    ProjectionLag,
}

impl Counter {
    /// As it is stored.
    pub fn name(self) -> String {
        match self {
            Self::Hits(cache) => format!("cache_hits_{}", cache.name()),
            Self::Misses(cache) => format!("cache_misses_{}", cache.name()),
            Self::CommitsProjected => "commits_projected".to_owned(),
            Self::ProjectionLag => "projection_lag_ms".to_owned(),
        }
    }
}

/// Figures that only grow, of all functions together. They are for operators to look at: nothing may depend on them.
pub trait Counters: Send + Sync {
    /// Adds to each of these counters, none of which may be named twice. MUST be one remote call at most, and MUST add
    /// everything or nothing. Whoever adds once more after an error may have added twice.
    fn add(&self, amounts: &[(String, u64)]) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// What every counter has come to that was ever added to. MUST see every call that was answered before.
    fn read(&self) -> impl Future<Output = Result<BTreeMap<String, u64>, Unavailable>> + Send;
}

/// One generation of what is read: the orders' views, and the index that finds orders and events.
#[derive(Debug, Default)]
pub struct ReadModel<V, I> {
    /// Its number.
    pub generation: u32,
    pub views: V,
    pub index: I,
}
