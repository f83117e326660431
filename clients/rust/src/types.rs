//! What is sent and what comes back, as the contract names it.
//!
//! Members that are not known here are left out. Words of which there may be more some day, such as a status or a step, are text.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use domain::{
    ids::{AdjustmentId, CustomerId, OrderId, ProductId, RefundId},
    moment::Moment,
    money::{Currency, Money},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

// What is sent. A field that is nothing is left out.

/// An order: 1 to 100 items, all priced in one currency. Without a `payment_method` it is `pm_card_visa`, which the
/// sandbox charges.
#[derive(Debug, Clone, Serialize)]
pub struct PlaceOrder {
    pub customer_id: CustomerId,
    pub items: Vec<RequestedItem>,
    pub shipping_address: Address,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payment_method: Option<String>,
}

/// A product, and how many of it: 1 to 9,999.
#[derive(Debug, Clone, Serialize)]
pub struct RequestedItem {
    pub product_id: ProductId,
    pub quantity: u32,
    /// What you believe the price to be. If it is another one by now, nothing is ordered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit_price: Option<Money>,
}

/// Personal data: its `Debug` shows nothing, so that no log line can.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    pub street: String,
    pub city: Option<String>,
    pub state: Option<String>,
    pub country: String,
    pub postal_code: Option<String>,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Address(..)")
    }
}

/// The customer reads the `reason`, only staff the `note`.
#[derive(Debug, Clone, Serialize)]
pub struct Cancel {
    pub reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// The customer reads the `reason`, only staff the `note`.
#[derive(Debug, Clone, Serialize)]
pub struct Refund {
    pub amount: Money,
    pub reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// All orders that are stuck at this step, with this error if there is one.
#[derive(Debug, Clone, Serialize)]
pub struct ResumeOrders {
    pub step: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub reason: String,
    pub dry_run: bool,
}

/// A customer's profile, as it is to be.
#[derive(Debug, Clone, Serialize)]
pub struct PutCustomer {
    pub first_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_name: Option<String>,
    pub email: String,
}

/// A product, with the price of one piece.
#[derive(Debug, Clone, Serialize)]
pub struct PutProduct {
    pub name: String,
    pub price: Money,
    /// Without it the stock stays as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stock: Option<u32>,
}

/// How a stock is put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StockChange {
    /// So many more, or fewer.
    By(i64),
    /// So many there are that no order holds.
    Counted(u32),
}

/// Up to which version, or which time, a history is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    Version(u64),
    Time(Moment),
}

impl FromStr for At {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time =
            || Moment::parse(text).map(Self::Time).map_err(|_| "a version, or a time such as 2026-01-01T00:00:00Z");
        Ok(text.parse().map(Self::Version).or_else(|_| time())?)
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => version.fmt(f),
            Self::Time(moment) => moment.fmt(f),
        }
    }
}

/// Which orders of all customers. Times are of coming to rest for `confirmed`, `cancelled` and `rejected`, of placing for all else.
#[derive(Debug, Clone, Default)]
pub struct OrdersWanted {
    pub status: Option<String>,
    pub from: Option<DateTime<Utc>>,
    pub to: Option<DateTime<Utc>>,
    pub page_size: Option<u32>,
}

/// Which dead letters of a consumer are listed.
#[derive(Debug, Clone, Default)]
pub struct DeadLettersWanted {
    pub consumer: String,
    pub error_type: Option<String>,
    /// Those that were redriven or discarded, instead of those that wait.
    pub settled: bool,
    pub page_size: Option<u32>,
}

/// Which dead letters of a consumer something is done with. Somebody has to say it, so nobody means all by accident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WhichLetters {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    all: Option<bool>,
}

impl WhichLetters {
    /// This one, as it is listed.
    pub fn one(id: impl Into<String>) -> Self {
        Self { id: Some(id.into()), error_type: None, all: None }
    }

    /// Those with this error.
    pub fn with_error(error_type: impl Into<String>) -> Self {
        Self { id: None, error_type: Some(error_type.into()), all: None }
    }

    /// All that there are.
    pub fn all() -> Self {
        Self { id: None, error_type: None, all: Some(true) }
    }
}

/// Which dead letters of a consumer are handled after all, and why. A dry run only says how many.
#[derive(Debug, Clone, Serialize)]
pub struct RedriveDeadLetters {
    pub consumer: String,
    #[serde(flatten)]
    pub which: WhichLetters,
    pub reason: String,
    pub dry_run: bool,
    /// Only what comes after this place, where another call has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// So many are begun in a second, from 1 to 50; 10 without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pace: Option<u32>,
}

/// Which dead letters of a consumer are given up, and why. A dry run only says how many. For supervisors.
#[derive(Debug, Clone, Serialize)]
pub struct DiscardDeadLetters {
    pub consumer: String,
    #[serde(flatten)]
    pub which: WhichLetters,
    /// Of [one](WhichLetters::one), its [`last_sequence`](DeadLetter::last_sequence) as it was listed: it is not discarded if more waits by
    /// now, and is among those that failed, with `Contended`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sequence: Option<u64>,
    pub reason: String,
    pub dry_run: bool,
    /// Only what comes after this place, where another call has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// How long a period of the statistics is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    Hour,
    Day,
}

impl Period {
    /// As a query has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }
}

// What commands answer.

/// A new order, whose `status` is `created`. [`OrderClient::wait_for_version`](crate::OrderClient::wait_for_version)
/// waits until it can be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderPlaced {
    pub order_id: OrderId,
    pub status: String,
    pub version: u64,
}

/// Of a cancellation, a delivery, a resumption or a skip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    pub order_id: OrderId,
    pub status: String,
    pub version: u64,
}

/// A refund that is `requested`. What becomes of it is in the [`refunds`](Order::refunds) of its order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundAccepted {
    pub order_id: OrderId,
    pub refund_id: RefundId,
    pub status: String,
    pub version: u64,
}

/// What became of [`ResumeOrders`]. Of a dry run, none is `resumed` and none has `failed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrdersResumed {
    pub dry_run: bool,
    /// So many are stuck like that, as far as was looked.
    pub matching: u64,
    pub resumed: u64,
    pub failed: u64,
    /// There may be others: ask again.
    pub more: bool,
    pub order_ids: Vec<OrderId>,
}

/// By how much a stock has changed, and what it was then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockAdjusted {
    pub product_id: ProductId,
    pub adjustment_id: AdjustmentId,
    pub by: i64,
    pub stock: u64,
}

/// What became of [`RedriveDeadLetters`], as far as one call has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLettersRedriven {
    pub consumer: String,
    pub dry_run: bool,
    /// So many are like that, as far as was looked.
    pub matching: u64,
    pub redriven: u64,
    /// Those that are dead letters still, the first 100 of them.
    pub failed: Vec<FailedLetter>,
    /// There may be others.
    pub more: bool,
    /// Where they are: ask again with this as `after`. Nothing just when there is no more.
    pub next: Option<String>,
}

/// What became of [`DiscardDeadLetters`], as far as one call has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLettersDiscarded {
    pub consumer: String,
    pub dry_run: bool,
    /// So many are like that, as far as was looked.
    pub matching: u64,
    pub discarded: u64,
    /// Those that are dead letters still, the first 100 of them.
    pub failed: Vec<FailedLetter>,
    /// There may be others.
    pub more: bool,
    /// Where they are: ask again with this as `after`. Nothing just when there is no more.
    pub next: Option<String>,
    /// What it means that this consumer does not handle them.
    pub consequence: String,
}

/// One that is a dead letter still: `error_type` is the stable name of the error, `error` says it for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedLetter {
    pub id: String,
    pub error_type: String,
    pub error: String,
}

// What is read.

/// An order as it is read: `payment`, `shipment`, `rejection`, `cancellation` and `attention` are there once there is
/// something to tell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    pub id: OrderId,
    pub status: String,
    pub version: u64,
    pub customer: Customer,
    pub items: Vec<OrderItem>,
    pub shipping_address: Address,
    pub payment: Option<Payment>,
    pub shipment: Option<Shipment>,
    pub refunds: Vec<OrderRefund>,
    pub total_amount: Money,
    pub rejection: Option<Rejection>,
    pub cancellation: Option<Cancellation>,
    pub attention: Option<Attention>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    /// Of the answer that it came in; see [`OrderClient::newer`](crate::OrderClient::newer).
    #[serde(skip)]
    pub etag: Option<String>,
}

/// Who ordered, as the customer is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Customer {
    pub id: CustomerId,
    pub version: u64,
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    pub email: Option<String>,
    pub email_verified: bool,
}

/// A line of an order. Name and price are those of when it was placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderItem {
    pub product_id: ProductId,
    pub name: String,
    pub quantity: u32,
    pub unit_price: Money,
}

/// The charge, or the attempt at one: `completed`, `failed`, `refunded` or `not_required`. Without a `transaction_id`,
/// nothing was charged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    pub transaction_id: Option<String>,
    pub status: String,
    pub amount: Money,
    pub processed_at: DateTime<Utc>,
}

/// The parcel: `created`, `cancelled` or `delivered`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shipment {
    pub shipment_id: String,
    pub carrier: String,
    pub tracking_number: String,
    pub status: String,
    pub estimated_delivery: DateTime<Utc>,
    pub delivered_at: Option<DateTime<Utc>>,
}

/// What staff give back: `requested`, `completed`, or `failed`, in which case nothing of it has moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRefund {
    pub refund_id: RefundId,
    pub amount: Money,
    pub reason: String,
    pub status: String,
    pub requested_at: DateTime<Utc>,
}

/// Why an order does not come about: a code that stays, and words for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    pub code: String,
    pub detail: String,
}

/// Why an order was cancelled, in the words of whoever did it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancellation {
    pub reason: String,
}

/// What did not get done, and what the status was then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attention {
    pub step: String,
    pub reason: String,
    pub interrupted: String,
}

/// An order of a customer's list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRow {
    pub id: OrderId,
    pub status: String,
    pub total_amount: Money,
    pub item_count: u64,
    pub created_at: DateTime<Utc>,
}

/// An order that a search has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundOrder {
    pub id: OrderId,
    pub status: String,
    pub total_amount: Money,
    pub item_count: u64,
    pub created_at: DateTime<Utc>,
    pub customer: Customer,
}

/// An order of the list of all customers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedOrder {
    pub id: OrderId,
    pub status: String,
    pub total_amount: Money,
    pub item_count: u64,
    pub created_at: DateTime<Utc>,
    pub customer: Customer,
    pub attention: Option<Attention>,
    /// When its last event happened. An order that needs attention has needed it since then.
    pub updated_at: DateTime<Utc>,
}

/// A page of a customer's orders, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomerOrders {
    pub customer_id: CustomerId,
    pub orders: Vec<OrderRow>,
    pub page: u64,
    pub page_size: u64,
    pub total_count: u64,
    pub total_pages: u64,
    pub next: Option<String>,
    pub previous: Option<String>,
}

/// A page of what a search has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundOrders {
    /// What was looked for, as it was understood.
    pub query: String,
    pub orders: Vec<FoundOrder>,
    pub page: u64,
    pub page_size: u64,
    pub total_count: u64,
    pub total_pages: u64,
    /// False: there are at least `total_count`.
    pub total_is_exact: bool,
    pub next: Option<String>,
    pub previous: Option<String>,
}

/// A page of the orders of all customers, the newest first. It may have fewer rows than were asked for, or none, and
/// lead on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedOrders {
    pub orders: Vec<ListedOrder>,
    pub next: Option<String>,
}

/// What has happened to an order and what comes next, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    pub order_id: OrderId,
    pub status: String,
    pub version: u64,
    /// Oldest first; of a history that has more, the newest 500.
    pub entries: Vec<TimelineEntry>,
    pub next: TimelineNext,
}

/// Something that has happened. Not every event is for every reader, so some numbers are missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineEntry {
    pub version: u64,
    pub at: DateTime<Utc>,
    pub who: String,
    pub what: String,
    pub why: Option<String>,
}

/// What comes next, and who has to do it: `service`, `person`, `carrier` or `nobody`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineNext {
    pub what: String,
    /// What it says by a name that stays, such as `take_payment`; what stands in its words comes after.
    pub code: String,
    pub carrier: Option<String>,
    pub step: Option<String>,
    pub reason: Option<String>,
    pub waits_for: String,
    pub by: Option<DateTime<Utc>>,
}

/// The order's books beside the providers'.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    pub order_id: OrderId,
    pub currency: Currency,
    pub order: LedgerBooks,
    pub providers: LedgerBooks,
    pub agrees: bool,
}

/// Amounts are in minor units of the ledger's currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerBooks {
    pub charged: u64,
    pub refunded: u64,
    pub reserved: Vec<ReservedLine>,
    pub shipment: String,
}

/// How many of a product are held for the order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservedLine {
    pub product_id: ProductId,
    pub quantity: u64,
}

/// A page of what has happened to an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct History {
    pub order_id: OrderId,
    /// Up to where it is told.
    pub version: u64,
    pub events: Vec<PastEvent>,
    pub next: Option<String>,
    /// As it was then.
    pub order: Order,
}

/// An event in the newest version of its type, whenever it was stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PastEvent {
    pub version: u64,
    #[serde(rename = "type")]
    pub event_type: String,
    pub data: Value,
    pub occurred_at: DateTime<Utc>,
    /// A role and the token's `sub`, or `service` and the function.
    pub actor: String,
    pub command_id: Uuid,
    pub correlation_id: String,
    pub causation_id: String,
    pub traceparent: Option<String>,
}

/// A page of events of one type, over all orders.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventList {
    #[serde(rename = "type")]
    pub event_type: String,
    pub events: Vec<ListedEvent>,
    pub next: Option<String>,
}

/// An event, and what it happened to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListedEvent {
    pub stream: String,
    /// Nothing when it did not happen to an order.
    pub order_id: Option<OrderId>,
    #[serde(flatten)]
    pub event: PastEvent,
}

/// A customer's profile. The address is verified if whoever signs the customer in knew it for theirs when it was put.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    pub id: CustomerId,
    pub first_name: String,
    pub last_name: Option<String>,
    pub email: String,
    pub email_verified: bool,
    pub version: u64,
}

/// A product, with the price of one piece.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    pub id: ProductId,
    pub name: String,
    pub price: Money,
    /// What can still be ordered.
    pub stock: u64,
}

/// A page of products.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Products {
    pub products: Vec<Product>,
    pub next: Option<String>,
}

/// How many orders there were, by `hour` or `day`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    pub by: String,
    pub periods: Vec<StatsPeriod>,
}

/// How many orders had what happen to them from one time to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatsPeriod {
    pub from: DateTime<Utc>,
    pub to: DateTime<Utc>,
    pub placed: u64,
    pub confirmed: u64,
    pub rejected: u64,
    pub cancelled: u64,
    /// How often money went back.
    pub refunded: u64,
    pub amounts: Vec<StatsAmounts>,
}

/// What these orders come to, in minor units; of `refunded`, what went back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatsAmounts {
    pub currency: Currency,
    pub placed: u64,
    pub confirmed: u64,
    pub rejected: u64,
    pub cancelled: u64,
    pub refunded: u64,
}

/// A page of what a consumer has not been able to handle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetters {
    pub consumer: String,
    pub dead_letters: Vec<DeadLetter>,
    pub next: Option<String>,
}

/// What a consumer has not been able to handle: a parked stream, a message that its queue has given up, or a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    pub id: String,
    pub kind: String,
    /// Nothing of a batch, and of a message that cannot be read, as are the next three.
    pub aggregate_type: Option<String>,
    pub aggregate_id: Option<String>,
    pub first_sequence: Option<u64>,
    /// The last event that is known to wait behind it.
    pub last_sequence: Option<u64>,
    pub error_type: String,
    pub error: String,
    pub since: DateTime<Utc>,
    pub tries: u64,
    /// Being parked is the first try; nothing of a message and a batch.
    pub last_tried_at: Option<DateTime<Utc>>,
    /// What became of it; nothing while it waits.
    pub settlement: Option<Settlement>,
}

/// What became of a dead letter, `redriven` or `discarded`, and who did it, when and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    pub outcome: String,
    pub by: String,
    pub reason: String,
    pub at: DateTime<Utc>,
}

/// Whether the service is `up`, `degraded` (orders are taken, and wait for a provider) or `down`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    pub status: String,
    pub components: Vec<ComponentHealth>,
    pub providers: Vec<ProviderHealth>,
    pub configuration: ConfigurationHealth,
    pub timestamp: DateTime<Utc>,
}

/// Whether what the service stands on answers: `up` or `down`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentHealth {
    pub name: String,
    pub status: String,
    pub response_time_ms: u64,
}

/// The provider of new orders at one port. One of your own is `up` if it is known where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderHealth {
    pub port: String,
    pub kind: String,
    pub status: String,
}

/// The digest is the same wherever the same settings are in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigurationHealth {
    pub status: String,
    pub digest: Option<String>,
}
