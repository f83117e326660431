//! The order: its events, its state, and how events make the state. Nothing is decided here; each decision has a file.

mod books;
pub mod cancel;
pub mod close;
pub mod compare;
pub mod confirm;
pub mod create;
pub mod flag;
pub mod record_delivery;
pub mod record_payment;
pub mod record_refund;
pub mod record_release;
pub mod record_reservation;
pub mod record_shipment;
pub mod record_shipment_cancellation;
pub mod record_staff_refund;
pub mod request_refund;
pub mod resume;
pub mod skip;
pub mod validate;

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    address::ShippingAddress,
    books::Books,
    ids::{CustomerId, NotificationId, PaymentMethod, ProductId, RefundId, ReservationId, ShipmentId, TransactionId},
    money::{Money, MoneyError, Quantity},
    provider::OrderProviders,
    stored_event::{self, HELD_BACK, UnreadableEvent, Upcaster, with_field},
    text::Text,
};

/// What has happened to an order.
///
/// Names and fields are the storage format: what was written once is read for ever. A variant may be added. One whose
/// fields change gets a new schema version and an [upcaster](OrderEvent::upcasters) from the one before; its name stays.
/// The golden file `order/events.golden.jsonl` holds this still: it is added to, and no line of it ever changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum OrderEvent {
    OrderCreated(OrderCreated),
    ValidationFailed {
        reason: RejectionReason,
    },
    InventoryReserved(Reservation),
    ReservationFailed {
        reason: RejectionReason,
    },
    PaymentCompleted(Payment),
    PaymentFailed {
        reason: RejectionReason,
    },
    InventoryReleased {},
    ShipmentCreated(Shipment),
    OrderConfirmed {
        notification_id: Option<NotificationId>,
    },
    OrderRejected {
        reason: RejectionReason,
        // Named, because serde takes an option that is missing for one that is null.
        #[serde(deserialize_with = "Option::deserialize")]
        notification_id: Option<NotificationId>,
    },
    ShipmentFailed {
        reason: RejectionReason,
    },
    OrderCancelRequested {
        /// The customer reads it.
        reason: CancelReason,
        #[serde(deserialize_with = "Option::deserialize")]
        note: Option<StaffNote>,
    },
    ShipmentCancelled {},
    PaymentRefunded(Refund),
    OrderCancelled {
        reason: CancelReason,
        #[serde(deserialize_with = "Option::deserialize")]
        notification_id: Option<NotificationId>,
    },
    OrderFlagged(Attention),
    FulfilmentResumed(Resumption),
    ShipmentDelivered {
        delivered_at: DateTime<Utc>,
    },
    RefundRequested(RequestedRefund),
    RefundCompleted(CompletedRefund),
    RefundFailed(FailedRefund),
    StepSkipped(SkippedStep),
    /// The order costs nothing, so nobody is charged.
    PaymentNotRequired {},
    BooksCompared(Comparison),
}

impl OrderEvent {
    /// Whether an event of this type says that something has not gone as it should.
    pub fn is_trouble(event_type: &str) -> bool {
        let trouble = [
            "ValidationFailed",
            "ReservationFailed",
            "PaymentFailed",
            "ShipmentFailed",
            "OrderRejected",
            "OrderFlagged",
            "RefundFailed",
        ];
        trouble.contains(&event_type)
    }
}

/// An order as it was placed. It never changes afterwards. One whose total is 0 is a gift, a sample, or discounted in full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderCreated {
    pub customer_id: CustomerId,
    pub items: Vec<OrderItem>,
    pub shipping_address: ShippingAddress,
    pub payment_method: PaymentMethod,
    pub total_amount: Money,
    pub created_at: DateTime<Utc>,
    #[serde(default, skip_serializing_if = "OrderProviders::are_built_in")]
    pub providers: Box<OrderProviders>,
}

impl OrderCreated {
    pub fn costs_nothing(&self) -> bool {
        self.total_amount.amount() == 0
    }
}

/// One line of an order, with name and price as they were when it was placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderItem {
    pub product_id: ProductId,
    pub name: Text<200>,
    pub quantity: Quantity,
    pub unit_price: Money,
}

/// What the inventory holds for an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    pub reservation_id: ReservationId,
}

/// A charge that went through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    pub transaction_id: TransactionId,
    pub amount: Money,
    pub processed_at: DateTime<Utc>,
}

/// A parcel that the carrier has taken on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shipment {
    pub shipment_id: ShipmentId,
    pub carrier: String,
    pub tracking_number: String,
    pub estimated_delivery: DateTime<Utc>,
}

/// Why an order is cancelled, in the words of whoever asked for it.
pub type CancelReason = Text<500>;

/// What staff write for each other. It stands in the history, which only they read, and in nothing that customers see.
pub type StaffNote = Text<500>;

/// Money that went back to the customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refund {
    pub transaction_id: TransactionId,
    pub amount: Money,
    pub processed_at: DateTime<Utc>,
}

/// Part of a payment, or all of it, that somebody of staff wants to give back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestedRefund {
    pub refund_id: RefundId,
    pub amount: Money,
    /// The customer reads it.
    pub reason: Text<500>,
    #[serde(deserialize_with = "Option::deserialize")]
    pub note: Option<StaffNote>,
}

/// A requested refund that has gone back to the customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletedRefund {
    pub refund_id: RefundId,
    #[serde(flatten)]
    pub refund: Refund,
}

/// A requested refund that does not come about: nothing of it has moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedRefund {
    pub refund_id: RefundId,
    pub amount: Money,
    /// A stable word, such as `too_much` or `skipped`.
    pub reason: String,
}

/// A step that did not get done after all its tries: a person has to look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attention {
    /// The function that did not get it done, such as `process-payment`.
    pub step: String,
    /// The error's stable name, such as `Unavailable` or `States.Timeout`.
    pub reason: String,
}

impl Attention {
    /// Whether it is a refund by staff that is stuck, beside the order itself.
    pub fn is_of_a_refund(&self) -> bool {
        self.step == SkippableStep::IssueRefund.name()
    }

    /// Whether the order's books and its providers' do not agree, however the order stands.
    pub fn is_of_the_books(&self) -> bool {
        self.step == SkippableStep::CompareBooks.name()
    }
}

/// Somebody of staff lets an order go on that asked for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumption {
    pub reason: Text<500>,
    /// The order was being undone, so it goes on with the undoing.
    pub undo: bool,
    /// It was a refund that was stuck, and that goes on.
    pub refund: bool,
}

/// Somebody of staff answers for a step that cannot be done: the order goes on without it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedStep {
    pub step: SkippableStep,
    pub reason: Text<500>,
    /// What the providers' books said of the order; not known of what was skipped before they were asked.
    #[serde(deserialize_with = "Option::deserialize")]
    pub found: Option<Books>,
}

/// The steps that an order can go on without. What goes forward cannot be skipped, but for the message: an order that is
/// not reserved, paid or shipped is to be cancelled instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SkippableStep {
    SendConfirmation,
    /// The parcel does not come back, and with it neither does the stock.
    CancelShipment,
    /// The money has gone back by another way, or does not go back.
    RefundPayment,
    /// The stock is put right by a count.
    ReleaseInventory,
    /// What is still requested of refunds is given up.
    IssueRefund,
    /// The books differ, and somebody has put right what has to be, or takes it as it is.
    CompareBooks,
}

impl SkippableStep {
    pub const ALL: [Self; 6] = [
        Self::SendConfirmation,
        Self::CancelShipment,
        Self::RefundPayment,
        Self::ReleaseInventory,
        Self::IssueRefund,
        Self::CompareBooks,
    ];

    /// The name of the step's function.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SendConfirmation => "send-confirmation",
            Self::CancelShipment => "cancel-shipment",
            Self::RefundPayment => "refund-payment",
            Self::ReleaseInventory => "release-inventory",
            Self::IssueRefund => "issue-refund",
            Self::CompareBooks => "compare-books",
        }
    }

    /// Whether the order goes on with its undoing afterwards.
    pub fn is_undo(self) -> bool {
        match self {
            Self::CancelShipment | Self::RefundPayment | Self::ReleaseInventory => true,
            Self::SendConfirmation | Self::IssueRefund | Self::CompareBooks => false,
        }
    }
}

/// Some time after something may have come about late, the providers' books were compared with the order's, and agree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// What the providers' books say, with what had come late undone again.
    pub found: Books,
    /// What had come about at a provider without the order knowing of it, and is undone or recorded now.
    pub late: Vec<LateEffect>,
}

/// What may come about at a provider after nobody waits for it any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LateEffect {
    Reservation,
    Charge,
    Shipment,
    /// One that staff had requested, and that was given up.
    Refund,
}

/// A line that the stock does not cover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shortage {
    pub product_id: ProductId,
    pub requested: u32,
    pub available: u32,
}

/// Why an order did not come about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum RejectionReason {
    /// Fulfilment began too long after the order was placed for its prices to bind the seller.
    Expired,
    OutOfStock {
        unavailable: Vec<Shortage>,
    },
    /// `decline_code` is the payment provider's own word for it, such as `card_declined`.
    PaymentDeclined {
        decline_code: String,
    },
    /// `refusal_code` is the carrier's own word for it.
    ShipmentRefused {
        refusal_code: String,
    },
}

impl RejectionReason {
    /// All that [`Self::code`] may be.
    pub const CODES: [&'static str; 4] = ["expired", "out_of_stock", "payment_declined", "shipment_refused"];

    /// The stable word that clients match on.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::OutOfStock { .. } => "out_of_stock",
            Self::PaymentDeclined { .. } => "payment_declined",
            Self::ShipmentRefused { .. } => "shipment_refused",
        }
    }
}

impl fmt::Display for RejectionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired => f.write_str("fulfilment began too long after the order was placed"),
            Self::OutOfStock { unavailable } => {
                f.write_str("not enough in stock:")?;
                for Shortage { product_id, requested, available } in unavailable {
                    write!(f, " {product_id} ({requested} requested, {available} available)")?;
                }
                Ok(())
            }
            Self::PaymentDeclined { decline_code } => write!(f, "the payment was declined: {decline_code}"),
            Self::ShipmentRefused { refusal_code } => write!(f, "the carrier refused the shipment: {refusal_code}"),
        }
    }
}

/// Where an order stands, in the words that clients see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderStatus {
    Created,
    Reserved,
    Paid,
    Shipped,
    Confirmed,
    /// What was done for the order is being undone; it ends `Cancelled` or `Rejected`.
    Cancelling,
    Cancelled,
    Rejected,
    /// A step did not get done; the order waits for a person.
    NeedsAttention,
}

impl OrderStatus {
    pub const ALL: [Self; 9] = [
        Self::Created,
        Self::Reserved,
        Self::Paid,
        Self::Shipped,
        Self::Confirmed,
        Self::Cancelling,
        Self::Cancelled,
        Self::Rejected,
        Self::NeedsAttention,
    ];

    /// The word that clients see and send.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Reserved => "reserved",
            Self::Paid => "paid",
            Self::Shipped => "shipped",
            Self::Confirmed => "confirmed",
            Self::Cancelling => "cancelling",
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
            Self::NeedsAttention => "needs_attention",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}

impl OrderEvent {
    pub const TYPES: [&str; 24] = [
        "OrderCreated",
        "ValidationFailed",
        "InventoryReserved",
        "ReservationFailed",
        "PaymentCompleted",
        "PaymentFailed",
        "InventoryReleased",
        "ShipmentCreated",
        "OrderConfirmed",
        "OrderRejected",
        "ShipmentFailed",
        "OrderCancelRequested",
        "ShipmentCancelled",
        "PaymentRefunded",
        "OrderCancelled",
        "OrderFlagged",
        "FulfilmentResumed",
        "ShipmentDelivered",
        "RefundRequested",
        "RefundCompleted",
        "RefundFailed",
        "StepSkipped",
        "PaymentNotRequired",
        "BooksCompared",
    ];

    pub fn event_type(&self) -> &'static str {
        match self {
            Self::OrderCreated(_) => "OrderCreated",
            Self::ValidationFailed { .. } => "ValidationFailed",
            Self::InventoryReserved(_) => "InventoryReserved",
            Self::ReservationFailed { .. } => "ReservationFailed",
            Self::PaymentCompleted(_) => "PaymentCompleted",
            Self::PaymentFailed { .. } => "PaymentFailed",
            Self::InventoryReleased {} => "InventoryReleased",
            Self::ShipmentCreated(_) => "ShipmentCreated",
            Self::OrderConfirmed { .. } => "OrderConfirmed",
            Self::OrderRejected { .. } => "OrderRejected",
            Self::ShipmentFailed { .. } => "ShipmentFailed",
            Self::OrderCancelRequested { .. } => "OrderCancelRequested",
            Self::ShipmentCancelled {} => "ShipmentCancelled",
            Self::PaymentRefunded(_) => "PaymentRefunded",
            Self::OrderCancelled { .. } => "OrderCancelled",
            Self::OrderFlagged(_) => "OrderFlagged",
            Self::FulfilmentResumed(_) => "FulfilmentResumed",
            Self::ShipmentDelivered { .. } => "ShipmentDelivered",
            Self::RefundRequested(_) => "RefundRequested",
            Self::RefundCompleted(_) => "RefundCompleted",
            Self::RefundFailed(_) => "RefundFailed",
            Self::StepSkipped(_) => "StepSkipped",
            Self::PaymentNotRequired {} => "PaymentNotRequired",
            Self::BooksCompared(_) => "BooksCompared",
        }
    }

    /// From each schema version of a type to the next; none for a type whose fields have never changed.
    fn upcasters(event_type: &str) -> &'static [Upcaster] {
        match event_type {
            // Customers were not told of these ends before.
            "OrderRejected" | "OrderCancelled" => &[|data| with_field(data, "notification_id", Value::Null)],
            // Only an order as a whole could be stuck before.
            "FulfilmentResumed" => &[|data| with_field(data, "refund", false)],
            // All that staff said was for customers before.
            "OrderCancelRequested" | "RefundRequested" => &[|data| with_field(data, "note", Value::Null)],
            // The providers were not asked before.
            "StepSkipped" => &[|data| with_field(data, "found", Value::Null)],
            _ => &[],
        }
    }

    /// The fields of an event of this type that say something about a person: who or where somebody is, how they pay, or what
    /// somebody has written. Consumers that need none of it can do without.
    pub fn personal_fields(event_type: &str) -> &'static [&'static str] {
        match event_type {
            "OrderCreated" => &["customer_id", "shipping_address", "payment_method"],
            "ShipmentCreated" => &["tracking_number"],
            "OrderCancelRequested" | "RefundRequested" => &["reason", "note"],
            "OrderCancelled" | "FulfilmentResumed" | "StepSkipped" => &["reason"],
            _ => &[],
        }
    }

    /// The newest schema version of events of this type.
    pub fn schema(&self) -> u32 {
        stored_event::newest_schema(Self::upcasters(self.event_type()))
    }

    /// What is stored of the event: the schema version that it is written with, and its fields.
    pub fn written(&self) -> Result<(u32, Value), serde_json::Error> {
        let event_type = self.event_type();
        stored_event::written(event_type, Self::upcasters(event_type), HELD_BACK, self.data()?)
    }

    /// Whether something may come about at a provider after this, without anybody waiting for it: an attempt at what is undone
    /// or given up, or one whose answer nobody has heard.
    pub fn leaves_doubt(&self) -> bool {
        match self {
            Self::ValidationFailed { .. }
            | Self::ReservationFailed { .. }
            | Self::PaymentFailed { .. }
            | Self::ShipmentFailed { .. }
            | Self::OrderCancelRequested { .. }
            | Self::RefundFailed(_) => true,
            Self::OrderFlagged(attention) => !attention.is_of_the_books(),
            Self::StepSkipped(skipped) => skipped.step != SkippableStep::CompareBooks,
            Self::OrderCreated(_)
            | Self::InventoryReserved(_)
            | Self::PaymentCompleted(_)
            | Self::PaymentNotRequired {}
            | Self::InventoryReleased {}
            | Self::ShipmentCreated(_)
            | Self::OrderConfirmed { .. }
            | Self::OrderRejected { .. }
            | Self::ShipmentCancelled {}
            | Self::PaymentRefunded(_)
            | Self::OrderCancelled { .. }
            | Self::FulfilmentResumed(_)
            | Self::ShipmentDelivered { .. }
            | Self::RefundRequested(_)
            | Self::RefundCompleted(_)
            | Self::BooksCompared(_) => false,
        }
    }

    /// Whether a comparison has ended with this, and not well. It may have been of an order that nothing else had left in doubt.
    pub fn finds_that_books_differ(&self) -> bool {
        matches!(self, Self::OrderFlagged(attention) if attention.is_of_the_books())
    }

    /// Whether all doubt is over with this: the books agree, or somebody answers for them.
    pub fn ends_doubt(&self) -> bool {
        match self {
            Self::BooksCompared(_) => true,
            Self::StepSkipped(skipped) => skipped.step == SkippableStep::CompareBooks,
            _ => false,
        }
    }

    /// Whether this is what becomes of a refund that staff have requested.
    pub fn is_of_a_refund(&self) -> bool {
        matches!(self, Self::RefundRequested(_) | Self::RefundCompleted(_) | Self::RefundFailed(_))
    }

    /// The fields of the event, without its type.
    pub fn data(&self) -> Result<Value, serde_json::Error> {
        stored_event::data(self)
    }

    /// Reads an event back. Fails rather than skip one: a history with a hole in it is not the order's history.
    pub fn read(event_type: &str, schema: u32, data: &Value) -> Result<Self, UnreadableEvent> {
        stored_event::read(&Self::TYPES, Self::upcasters(event_type), event_type, schema, data)
    }
}

/// The state of an order: where it stands, whether it asks for a person there, and what staff have given back of it.
///
/// It is stored only in snapshots, which are thrown away when it changes: see [`Order::SNAPSHOT_SCHEMA`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Order {
    pub course: Course,
    /// What did not get done; until anything else happens to the order.
    pub attention: Option<Attention>,
    /// The refunds that staff have requested, in their order. The undoing's own is not among them.
    pub refunds: Vec<StaffRefund>,
    /// Something may have come about at a provider without the order knowing: once it is at rest, and some time has passed, the
    /// books are to be [compared](compare).
    pub in_doubt: bool,
}

/// A refund that staff have requested, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaffRefund {
    pub requested: RequestedRefund,
    pub state: RefundState,
}

/// What became of a requested refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundState {
    Requested,
    Completed,
    Failed,
}

/// Where an order stands. Each variant holds only what is true in it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Course {
    /// No event yet.
    #[default]
    NotCreated,
    Created(OrderCreated),
    Reserved(OrderCreated, Reservation),
    /// Without a payment when the order costs nothing, here and further on.
    Paid(OrderCreated, Reservation, Option<Payment>),
    Shipped(OrderCreated, Reservation, Option<Payment>, Shipment),
    Confirmed(OrderCreated, Reservation, Option<Payment>, Shipment),
    /// The customer has the parcel. Nothing can be undone any more; money goes back by refunds only.
    Delivered(OrderCreated, Option<Payment>),
    /// A step has refused for good, or somebody has cancelled. What is still held is being undone.
    Undoing(OrderCreated, Held, Ending),
    /// Undone: nothing is held any more.
    Ended(OrderCreated, Ending),
}

/// What is recorded as done for an order and not yet as undone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Held {
    pub reservation: Option<Reservation>,
    pub payment: Option<Payment>,
    /// The order had got as far as one that is paid, and there was nothing to pay.
    pub is_free: bool,
    pub shipment: Option<Shipment>,
    /// What has been given back of a payment that is no longer held.
    pub refund: Option<Refund>,
    /// The undos that staff answer for, and that are not to be done any more.
    pub skipped: Vec<SkippableStep>,
}

impl Held {
    pub fn is_skipped(&self, step: SkippableStep) -> bool {
        self.skipped.contains(&step)
    }

    /// Whether the seller has what the order costs: none of it has gone back.
    pub fn is_paid(&self) -> bool {
        self.payment.is_some() || self.is_free
    }

    /// Whether the stock is out of the undoing's hands: somebody counts it, or it is in a parcel that does not come back.
    pub fn stock_is_given_up(&self) -> bool {
        // Only what was paid may have been handed to the carrier, whatever is recorded of the parcel.
        let was_paid = self.is_paid() || self.refund.is_some();
        let may_be_in_a_parcel = self.shipment.is_some() || was_paid;
        self.is_skipped(SkippableStep::ReleaseInventory)
            || (may_be_in_a_parcel && self.is_skipped(SkippableStep::CancelShipment))
    }
}

/// How an order ends that is not to be delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    Rejected(RejectionReason),
    Cancelled(CancelReason),
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(reason) => reason.fmt(f),
            // The reason is free text of a person, which has no business in a log.
            Self::Cancelled(_) => f.write_str("it was cancelled"),
        }
    }
}

impl Order {
    /// To be raised whenever the same events make another state than before, or the state is written in another way.
    /// Snapshots of another number are then as good as none, so nothing has to be migrated.
    pub const SNAPSHOT_SCHEMA: u32 = 5;

    pub fn from_events<'e>(events: impl IntoIterator<Item = &'e OrderEvent>) -> Self {
        events.into_iter().fold(Self::default(), Self::evolve)
    }

    /// Applies one event. Accepts every history, also one that today's decisions would not write:
    /// an event that means nothing in a state leaves it as it is.
    #[must_use]
    pub fn evolve(self, event: &OrderEvent) -> Self {
        let mut order = self;
        order.attention = match (event, order.attention) {
            (OrderEvent::OrderFlagged(attention), _) => Some(attention.clone()),
            // A refund goes on beside the order: it helps nobody who waits for something else.
            (event, Some(attention)) if event.is_of_a_refund() && !attention.is_of_a_refund() => Some(attention),
            _ => None,
        };
        order.in_doubt =
            event.leaves_doubt() || event.finds_that_books_differ() || (order.in_doubt && !event.ends_doubt());
        match event {
            OrderEvent::RefundRequested(requested) => {
                order.refunds.push(StaffRefund { requested: requested.clone(), state: RefundState::Requested });
            }
            OrderEvent::RefundCompleted(completed) => {
                order.settle(completed.refund_id, RefundState::Completed, completed.refund.amount);
            }
            OrderEvent::RefundFailed(failed) => order.settle(failed.refund_id, RefundState::Failed, failed.amount),
            event => order.course = order.course.evolve(event),
        }
        // Nobody is needed for an order for which nothing is to be done.
        if !order.is_open() {
            order.attention = None;
        }
        order
    }

    /// The amount is the provider's. It is another one where events were lost, and the refund was requested anew under its old key.
    fn settle(&mut self, refund_id: RefundId, state: RefundState, amount: Money) {
        if let Some(refund) = self.refunds.iter_mut().find(|refund| refund.requested.refund_id == refund_id) {
            refund.state = state;
            refund.requested.amount = amount;
        }
    }

    /// The requested refunds whose outcome is not recorded yet.
    pub fn open_refunds(&self) -> impl Iterator<Item = &RequestedRefund> {
        self.refunds.iter().filter(|refund| refund.state == RefundState::Requested).map(|refund| &refund.requested)
    }

    /// What has gone back of the order's payment, as far as its events say; `None` when no refund is recorded.
    pub fn refunded(&self) -> Result<Option<Money>, MoneyError> {
        let completed = self.refunds.iter().filter(|refund| refund.state == RefundState::Completed);
        let of_the_undo = match &self.course {
            Course::Undoing(_, held, _) => held.refund.as_ref().map(|refund| refund.amount),
            _ => None,
        };
        let mut amounts = completed.map(|refund| refund.requested.amount).chain(of_the_undo);
        let Some(first) = amounts.next() else { return Ok(None) };
        amounts.try_fold(first, Money::plus).map(Some)
    }

    /// What staff's refunds leave of this payment; those that are still open count as if they had gone through.
    pub fn left_of(&self, payment: &Payment) -> Result<Money, MoneyError> {
        self.left_after(payment, |state| state != RefundState::Failed)
    }

    fn left_after(&self, payment: &Payment, counts: impl Fn(RefundState) -> bool) -> Result<Money, MoneyError> {
        let refunds = self.refunds.iter().filter(|refund| counts(refund.state));
        refunds.map(|refund| refund.requested.amount).try_fold(payment.amount, Money::minus)
    }

    /// Whether anything is still to be done for the order, beside delivering it.
    pub fn is_open(&self) -> bool {
        match self.course {
            Course::NotCreated => false,
            Course::Confirmed(..) | Course::Delivered(..) | Course::Ended(..) => {
                let books_differ = self.attention.as_ref().is_some_and(Attention::is_of_the_books);
                books_differ || self.open_refunds().next().is_some()
            }
            Course::Created(_)
            | Course::Reserved(..)
            | Course::Paid(..)
            | Course::Shipped(..)
            | Course::Undoing(..) => true,
        }
    }

    /// Whether the books are to be compared: something may have come late, and nothing is under way that would change them.
    pub fn is_to_be_compared(&self) -> bool {
        let at_rest = matches!(self.course, Course::Confirmed(..) | Course::Delivered(..) | Course::Ended(..));
        self.in_doubt && at_rest && self.open_refunds().next().is_none()
    }

    /// Whether an order that is being undone still holds money that its undo has to give back.
    pub fn holds_payment(&self) -> bool {
        let Course::Undoing(_, held, _) = &self.course else { return false };
        let given_back = |payment| {
            let left = self.left_after(payment, |state| state == RefundState::Completed);
            left.is_ok_and(|left| left.amount() == 0)
        };
        let payment = held.payment.as_ref().is_some_and(|payment| !given_back(payment));
        payment && !held.is_skipped(SkippableStep::RefundPayment)
    }

    /// Whether an order that is being undone still holds anything that its undos have to give back.
    pub fn holds_anything(&self) -> bool {
        let Course::Undoing(_, held, _) = &self.course else { return false };
        self.holds_payment()
            || (held.shipment.is_some() && !held.is_skipped(SkippableStep::CancelShipment))
            || (held.reservation.is_some() && !held.stock_is_given_up())
    }
}

impl Course {
    fn evolve(self, event: &OrderEvent) -> Self {
        match event {
            OrderEvent::OrderCreated(created) => match self {
                Self::NotCreated => Self::Created(created.clone()),
                unchanged => unchanged,
            },
            OrderEvent::InventoryReserved(reservation) => match self {
                Self::Created(order) => Self::Reserved(order, reservation.clone()),
                unchanged => unchanged,
            },
            OrderEvent::PaymentCompleted(payment) => match self {
                Self::Reserved(order, reservation) => Self::Paid(order, reservation, Some(payment.clone())),
                // The undoing has found a charge that nobody had recorded.
                unchanged => unchanged.with_held(|held| held.payment = Some(payment.clone())),
            },
            OrderEvent::PaymentNotRequired {} => match self {
                Self::Reserved(order, reservation) => Self::Paid(order, reservation, None),
                unchanged => unchanged,
            },
            OrderEvent::ShipmentCreated(shipment) => match self {
                Self::Paid(order, reservation, payment) => Self::Shipped(order, reservation, payment, shipment.clone()),
                unchanged => unchanged,
            },
            OrderEvent::OrderConfirmed { .. } => match self {
                Self::Shipped(order, reservation, payment, shipment) => {
                    Self::Confirmed(order, reservation, payment, shipment)
                }
                unchanged => unchanged,
            },
            OrderEvent::ValidationFailed { reason }
            | OrderEvent::ReservationFailed { reason }
            | OrderEvent::PaymentFailed { reason }
            | OrderEvent::ShipmentFailed { reason } => self.undo(Ending::Rejected(reason.clone())),
            OrderEvent::OrderCancelRequested { reason, .. } => self.undo(Ending::Cancelled(reason.clone())),
            OrderEvent::ShipmentCancelled {} => self.with_held(|held| held.shipment = None),
            OrderEvent::PaymentRefunded(refund) => self.with_held(|held| {
                held.payment = None;
                held.refund = Some(refund.clone());
            }),
            OrderEvent::InventoryReleased {} => self.with_held(|held| held.reservation = None),
            OrderEvent::OrderRejected { reason, .. } => self.end(Ending::Rejected(reason.clone())),
            OrderEvent::OrderCancelled { reason, .. } => self.end(Ending::Cancelled(reason.clone())),
            OrderEvent::ShipmentDelivered { .. } => match self {
                Self::Shipped(order, _, payment, _) | Self::Confirmed(order, _, payment, _) => {
                    Self::Delivered(order, payment)
                }
                // The parcel was faster than the cancel: the order stands.
                Self::Undoing(order, held, _) if held.shipment.is_some() && held.is_paid() => {
                    Self::Delivered(order, held.payment)
                }
                unchanged => unchanged,
            },
            OrderEvent::StepSkipped(SkippedStep { step, .. }) => self.with_held(|held| held.skipped.push(*step)),
            // Neither who looks after an order nor what goes back of its payment changes where it stands.
            OrderEvent::OrderFlagged(_)
            | OrderEvent::FulfilmentResumed(_)
            | OrderEvent::RefundRequested(_)
            | OrderEvent::RefundCompleted(_)
            | OrderEvent::RefundFailed(_)
            | OrderEvent::BooksCompared(_) => self,
        }
    }

    fn undo(self, ending: Ending) -> Self {
        let is_free =
            matches!(self, Self::Paid(_, _, None) | Self::Shipped(_, _, None, _) | Self::Confirmed(_, _, None, _));
        let (order, reservation, payment, shipment) = match self {
            Self::Created(order) => (order, None, None, None),
            Self::Reserved(order, reservation) => (order, Some(reservation), None, None),
            Self::Paid(order, reservation, payment) => (order, Some(reservation), payment, None),
            Self::Shipped(order, reservation, payment, shipment)
            | Self::Confirmed(order, reservation, payment, shipment) => {
                (order, Some(reservation), payment, Some(shipment))
            }
            unchanged @ (Self::NotCreated | Self::Delivered(..) | Self::Undoing(..) | Self::Ended(..)) => {
                return unchanged;
            }
        };
        Self::Undoing(order, Held { reservation, payment, is_free, shipment, ..Held::default() }, ending)
    }

    fn with_held(self, change: impl FnOnce(&mut Held)) -> Self {
        match self {
            Self::Undoing(order, mut held, ending) => {
                change(&mut held);
                Self::Undoing(order, held, ending)
            }
            unchanged => unchanged,
        }
    }

    fn end(self, ending: Ending) -> Self {
        match self {
            Self::Undoing(order, ..) => Self::Ended(order, ending),
            unchanged => unchanged,
        }
    }

    /// The order as placed; `None` before it is.
    pub fn placed(&self) -> Option<&OrderCreated> {
        match self {
            Self::NotCreated => None,
            Self::Created(order)
            | Self::Reserved(order, _)
            | Self::Paid(order, ..)
            | Self::Shipped(order, ..)
            | Self::Confirmed(order, ..)
            | Self::Delivered(order, _)
            | Self::Undoing(order, ..)
            | Self::Ended(order, _) => Some(order),
        }
    }

    /// What was paid, while the order stands; nothing of one that costs nothing.
    pub fn payment(&self) -> Option<&Payment> {
        match self {
            Self::Paid(_, _, payment)
            | Self::Shipped(_, _, payment, _)
            | Self::Confirmed(_, _, payment, _)
            | Self::Delivered(_, payment) => payment.as_ref(),
            Self::NotCreated | Self::Created(_) | Self::Reserved(..) | Self::Undoing(..) | Self::Ended(..) => None,
        }
    }

    /// What is still to be undone; `None` when the order has ended. To be asked before a provider is.
    pub fn held(&self) -> Result<Option<&Held>, UndoRejection> {
        match self {
            Self::NotCreated => Err(UndoRejection::UnknownOrder),
            Self::Created(_) | Self::Reserved(..) | Self::Paid(..) | Self::Shipped(..) | Self::Confirmed(..) => {
                Err(UndoRejection::OrderStands)
            }
            Self::Delivered(..) => Err(UndoRejection::Delivered),
            Self::Undoing(_, held, _) => Ok(Some(held)),
            Self::Ended(..) => Ok(None),
        }
    }
}

/// Why a step of the fulfilment may not record what it has to say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepRejection {
    #[error("there is no such order")]
    UnknownOrder,
    #[error("an earlier step of the order is not done yet")]
    TooEarly,
    #[error("the order is not to be fulfilled: {0}")]
    NotToBeFulfilled(Ending),
}

/// Why an undo may not be recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UndoRejection {
    #[error("there is no such order")]
    UnknownOrder,
    #[error("the order stands: nobody has cancelled it, and no step has refused")]
    OrderStands,
    #[error("the order stands: the customer has the parcel")]
    Delivered,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{
        any_history, cancel_requested, cancelled, confirmed, created, delivered, flagged_at, one_event_of_each_type,
        paid, refund_completed, refund_failed, refund_requested, refunded, rejected, reservation_failed, reserved,
        shipped, skipped,
    };
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn stored_events_stay_readable() {
        stored_event::golden::assert_readable(
            include_str!("order/events.golden.jsonl"),
            &one_event_of_each_type(),
            |event| (event.event_type(), event.schema()),
            OrderEvent::read,
        );
    }

    #[test]
    fn stored_events_stay_readable_whatever_the_rules_have_become() {
        stored_event::golden::assert_kept(
            include_str!("order/events.kept.golden.jsonl"),
            |event: &OrderEvent| (event.event_type(), event.schema()),
            OrderEvent::read,
        );
    }

    #[test]
    fn an_event_that_had_a_field_before_its_schema_said_so_keeps_it() {
        let told = json!({"reason": "changed my mind", "notification_id": "n-1"});
        let read = OrderEvent::read("OrderCancelled", 1, &told).unwrap();
        assert_eq!(read.data().unwrap(), told);
        let resumed = json!({"reason": "the provider is back", "undo": false, "refund": true});
        let read = OrderEvent::read("FulfilmentResumed", 1, &resumed).unwrap();
        assert_eq!(read.data().unwrap(), resumed);
    }

    #[test]
    fn snapshots_are_what_their_schema_says() {
        let shipped = [created(), reserved(), paid(), shipped()];
        let undone = [cancel_requested(), skipped(SkippableStep::CancelShipment)];
        let confirmed = [&shipped[..], &[confirmed(), refund_requested(100)]].concat();
        let free = [created(), reserved(), OrderEvent::PaymentNotRequired {}];
        let histories = [
            vec![],
            vec![created(), flagged_at("validate-order")],
            shipped[..2].to_vec(),
            shipped[..3].to_vec(),
            shipped.to_vec(),
            confirmed.clone(),
            [&confirmed[..], &[refund_completed(100), delivered()]].concat(),
            [&confirmed[..], &[refund_failed(100)], &undone[..]].concat(),
            [&shipped[..], &undone[..], &[refunded()]].concat(),
            vec![created(), cancel_requested(), cancelled()],
            vec![created(), reservation_failed(), rejected()],
            free.to_vec(),
            [&free[..], &undone[..1]].concat(),
        ];
        let states = histories.iter().map(Order::from_events);
        stored_event::golden::assert_snapshots(
            include_str!("order/snapshots.golden.jsonl"),
            Order::SNAPSHOT_SCHEMA,
            &states.collect::<Vec<_>>(),
        );
    }

    /// A field that is new has to be thought about: it stands in one of the two lists.
    #[test]
    fn every_field_is_personal_or_is_not() {
        let harmless = [
            "amount",
            "carrier",
            "created_at",
            "delivered_at",
            "estimated_delivery",
            "found",
            "items",
            "late",
            "notification_id",
            "processed_at",
            "refund",
            "refund_id",
            "reservation_id",
            "shipment_id",
            "step",
            "total_amount",
            "transaction_id",
            "undo",
        ];
        for event in one_event_of_each_type() {
            let personal = OrderEvent::personal_fields(event.event_type());
            let data = event.data().unwrap();
            let fields = data.as_object().unwrap();
            for field in fields.keys().map(String::as_str) {
                // A reason is a code of ours or of a provider's, or else what somebody has written.
                let coded = field == "reason"
                    && matches!(event.event_type(), "OrderFlagged" | "RefundFailed" | "OrderRejected")
                    || event.event_type().ends_with("Failed");
                assert!(personal.contains(&field) != (coded || harmless.contains(&field)), "{event:?}: {field}");
            }
            assert!(personal.iter().all(|field| fields.contains_key(*field)), "{event:?}");
        }
    }

    #[test]
    fn every_event_type_is_listed() {
        let types: Vec<&str> = one_event_of_each_type().iter().map(OrderEvent::event_type).collect();
        assert_eq!(types, OrderEvent::TYPES);
    }

    #[test]
    fn an_unknown_event_type_is_named_not_skipped() {
        let error = OrderEvent::read("OrderTeleported", 1, &Value::Null).unwrap_err();
        assert_eq!(error.to_string(), "unknown event type \"OrderTeleported\"");
    }

    #[test]
    fn an_event_of_a_newer_schema_is_not_read_with_an_older_meaning() {
        let error = OrderEvent::read("InventoryReleased", 2, &json!({})).unwrap_err();
        assert_eq!(error.to_string(), "event of type InventoryReleased was written by a newer version, with schema 2");
        let error = OrderEvent::read("OrderRejected", 3, &json!({})).unwrap_err();
        assert_eq!(error.to_string(), "event of type OrderRejected was written by a newer version, with schema 3");
    }

    #[test]
    fn data_of_the_wrong_shape_is_an_error() {
        // An error of JSON may quote the data, and errors are logged.
        for (event_type, data) in
            [("PaymentCompleted", json!({"amount": "secret"})), ("OrderRejected", json!("secret"))]
        {
            let error = OrderEvent::read(event_type, 1, &data).unwrap_err();
            let expected = format!("event of type {event_type} and schema 1 has unreadable data (Data error)");
            assert_eq!(error.to_string(), expected);
            assert!(std::error::Error::source(&error).is_none());
        }
        // What the first schema lacks, the second has to bring along.
        for (event_type, data) in [
            ("OrderRejected", json!({"reason": {"code": "expired"}})),
            ("OrderCancelled", json!({"reason": "changed my mind"})),
            ("FulfilmentResumed", json!({"reason": "the provider is back", "undo": true})),
        ] {
            assert!(OrderEvent::read(event_type, 1, &data).is_ok(), "{event_type}");
            assert!(OrderEvent::read(event_type, 2, &data).is_err(), "{event_type}");
        }
    }

    #[test]
    fn what_has_gone_back_is_what_the_provider_says() {
        let order = Order::from_events(&[created(), reserved(), paid(), refund_requested(100), refund_completed(300)]);
        let Course::Paid(_, _, Some(payment)) = &order.course else { panic!("{:?}", order.course) };
        assert_eq!(order.refunded().unwrap().map(Money::amount), Some(300));
        assert_eq!(order.left_of(payment).unwrap(), payment.amount.minus(crate::spec::money(300)).unwrap());
    }

    #[test]
    fn a_refund_does_not_lift_a_flag_that_something_else_has_raised() {
        let undoing = [created(), reserved(), paid(), refund_requested(100), cancel_requested()];
        for (step, stays) in [("cancel-shipment", true), ("issue-refund", false)] {
            let flagged = [flagged_at(step), refund_completed(100)];
            let order = Order::from_events(&[undoing.as_slice(), &flagged].concat());
            assert_eq!(order.attention.is_some(), stays, "{step}");
        }
    }

    #[test]
    fn an_order_that_costs_nothing_goes_the_same_way_without_a_payment() {
        let way = [created(), reserved(), OrderEvent::PaymentNotRequired {}, shipped(), confirmed()];
        let order = Order::from_events(&way);
        assert_eq!(order.course.payment(), None);
        // The parcel that is faster than the cancel arrives here too; and stock that may be in it is not put back.
        let undone = Order::from_events(&[&way[..], &[cancel_requested()]].concat());
        assert!(matches!(undone.evolve(&delivered()).course, Course::Delivered(_, None)));
        let kept = [cancel_requested(), skipped(SkippableStep::CancelShipment)];
        assert!(!Order::from_events(&[&way[..3], &kept].concat()).holds_anything());
    }

    #[test]
    fn an_order_for_which_nothing_is_to_be_done_asks_for_nobody() {
        // As it was stored before flags were held back at rest.
        let confirmed = [created(), reserved(), paid(), shipped(), confirmed(), refund_requested(100)];
        let late = [flagged_at("send-confirmation"), refund_completed(100)];
        assert_eq!(Order::from_events(&[confirmed.as_slice(), &late].concat()).attention, None);
    }

    proptest! {
        #[test]
        fn whoever_asks_for_a_person_is_open(history in any_history()) {
            let order = Order::from_events(&history);
            prop_assert!(order.is_open() || order.attention.is_none());
        }

        #[test]
        fn any_history_folds_and_terminal_states_stay(history in any_history(), late in any_history()) {
            let state = Order::from_events(&history);
            if matches!(state.course, Course::Ended(..) | Course::Delivered(..)) {
                prop_assert_eq!(late.iter().fold(state.clone(), Order::evolve).course, state.course);
            }
        }
    }
}
