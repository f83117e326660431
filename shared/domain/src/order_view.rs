//! The read model behind `GET /api/v1/orders/{id}`: its fields are the answer's fields.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    address::ShippingAddress,
    customer::Customer,
    ids::{CustomerId, OrderId, RefundId, ShipmentId, TransactionId},
    money::Money,
    order::{Attention, CancelReason, OrderEvent, OrderItem, OrderStatus, RefundState, RejectionReason, SkippableStep},
    text::Text,
};

/// An order as its events up to `version` make it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderView {
    pub id: OrderId,
    pub status: OrderStatus,
    /// Number of the last event that is in this view; the first event of an order is number 1.
    pub version: u64,
    /// Of the order's own events, the id; the rest goes [with it](Self::with_customer) where it is shown.
    pub customer: CustomerView,
    pub items: Vec<OrderItem>,
    pub shipping_address: ShippingAddress,
    pub payment: Option<PaymentView>,
    pub shipment: Option<ShipmentView>,
    /// What staff have given back, or tried to; the refund of a cancelled order shows in `payment`.
    #[serde(default)]
    pub refunds: Vec<RefundView>,
    pub total_amount: Money,
    /// Why the order is rejected; known as soon as a step has failed.
    pub rejection: Option<RejectionView>,
    /// Why the order is cancelled, in the words of whoever asked for it.
    pub cancellation: Option<CancellationView>,
    /// What did not get done; set while the status is `needs_attention`.
    pub attention: Option<AttentionView>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    /// Since when something may have come about at a provider without the order knowing. Not for people: see [`Self::shown`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_doubt_since: Option<DateTime<Utc>>,
}

/// Who ordered, as the customer is now. The profile's fields are null while the customer has given none, the last name also for
/// who has only one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomerView {
    pub id: CustomerId,
    /// Number of the customer's last event that is in this view; 0 for none.
    #[serde(default)]
    pub version: u64,
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    pub email: Option<String>,
    /// Whether the identity provider has said that the address is the customer's.
    #[serde(default)]
    pub email_verified: bool,
}

/// A charge, or the attempt at one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentView {
    pub transaction_id: Option<TransactionId>,
    pub status: PaymentStatus,
    pub amount: Money,
    pub processed_at: DateTime<Utc>,
}

/// What became of the charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentStatus {
    Completed,
    Failed,
    Refunded,
    /// The order costs nothing.
    NotRequired,
}

/// Where the parcel is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShipmentView {
    pub shipment_id: ShipmentId,
    pub carrier: String,
    pub tracking_number: String,
    pub status: ShipmentStatus,
    pub estimated_delivery: DateTime<Utc>,
    #[serde(default)]
    pub delivered_at: Option<DateTime<Utc>>,
}

/// What became of the parcel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShipmentStatus {
    Created,
    Cancelled,
    Delivered,
}

/// Money that staff have requested to give back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundView {
    pub refund_id: RefundId,
    /// What was asked for; once it is settled, what the provider says.
    pub amount: Money,
    pub reason: Text<500>,
    pub status: RefundState,
    pub requested_at: DateTime<Utc>,
}

/// Why an order did not come about: a stable code, and words for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectionView {
    pub code: String,
    pub detail: String,
}

/// A step that did not get done, and what the status was then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttentionView {
    pub step: String,
    pub reason: String,
    pub interrupted: OrderStatus,
}

/// Why somebody cancelled an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancellationView {
    pub reason: CancelReason,
}

impl CustomerView {
    /// A customer of whom only this is known.
    pub fn unknown(id: CustomerId) -> Self {
        Self { id, version: 0, first_name: None, last_name: None, email: None, email_verified: false }
    }

    /// The customer as event number `version` has left them.
    pub fn of(id: CustomerId, customer: &Customer, version: u64) -> Self {
        match &customer.profile {
            None => Self { version, ..Self::unknown(id) },
            Some(profile) => Self {
                id,
                version,
                first_name: Some(profile.first_name.as_str().to_owned()),
                last_name: profile.last_name.as_ref().map(|name| name.as_str().to_owned()),
                email: Some(profile.email.as_str().to_owned()),
                email_verified: profile.email_verified,
            },
        }
    }
}

impl From<&RejectionReason> for RejectionView {
    fn from(reason: &RejectionReason) -> Self {
        Self { code: reason.code().to_owned(), detail: reason.to_string() }
    }
}

impl OrderView {
    /// Applies event number `version`, which happened at `at`. `None` stays `None` until the order is created.
    #[must_use]
    pub fn evolve(
        view: Option<Self>,
        id: OrderId,
        event: &OrderEvent,
        version: u64,
        at: DateTime<Utc>,
    ) -> Option<Self> {
        let mut view = match (view, event) {
            (Some(view), _) => view,
            (None, OrderEvent::OrderCreated(created)) => Self {
                id,
                status: OrderStatus::Created,
                version,
                customer: CustomerView::unknown(created.customer_id.clone()),
                items: created.items.clone(),
                shipping_address: created.shipping_address.clone(),
                payment: None,
                shipment: None,
                refunds: Vec::new(),
                total_amount: created.total_amount,
                rejection: None,
                cancellation: None,
                attention: None,
                created_at: created.created_at,
                updated_at: at,
                in_doubt_since: None,
            },
            (None, _) => return None,
        };
        view.version = version;
        view.updated_at = at;
        view.apply(event, at);
        Some(view)
    }

    fn apply(&mut self, event: &OrderEvent, at: DateTime<Utc>) {
        // What is called for a while yet may come late for a while longer.
        let is_under_way = self.is_open() && !self.books_differ();
        let since = |doubted| if is_under_way { at } else { doubted };
        self.in_doubt_since = match self.in_doubt_since.map(since) {
            _ if event.leaves_doubt() => Some(at),
            None if event.finds_that_books_differ() => Some(at),
            doubted => doubted.filter(|_| !event.ends_doubt()),
        };
        // Whatever happens to an order that asked for a person, it is going on; unless it is a refund, which goes on beside it.
        let of_a_refund = |attention: &mut AttentionView| attention.step == SkippableStep::IssueRefund.name();
        if let Some(attention) = self.attention.take_if(|stuck| !event.is_of_a_refund() || of_a_refund(stuck)) {
            self.status = attention.interrupted;
        }
        self.status = self.status_after(event, at);
        // Nobody is needed for an order for which nothing is to be done.
        if !self.is_open()
            && let Some(attention) = self.attention.take()
        {
            self.status = attention.interrupted;
        }
    }

    /// Enters what the event says, and answers where the order stands then.
    fn status_after(&mut self, event: &OrderEvent, at: DateTime<Utc>) -> OrderStatus {
        match event {
            OrderEvent::OrderCreated(_) => OrderStatus::Created,
            OrderEvent::InventoryReserved(_) => OrderStatus::Reserved,
            OrderEvent::PaymentCompleted(payment) => {
                self.payment = Some(PaymentView {
                    transaction_id: Some(payment.transaction_id.clone()),
                    status: PaymentStatus::Completed,
                    amount: payment.amount,
                    processed_at: payment.processed_at,
                });
                // A charge that the undoing has found does not take the order forward.
                if self.status == OrderStatus::Cancelling { self.status } else { self.unless_ended(OrderStatus::Paid) }
            }
            OrderEvent::PaymentNotRequired {} => {
                self.payment = Some(PaymentView {
                    transaction_id: None,
                    status: PaymentStatus::NotRequired,
                    amount: self.total_amount,
                    processed_at: at,
                });
                OrderStatus::Paid
            }
            OrderEvent::ShipmentCreated(shipment) => {
                self.shipment = Some(ShipmentView {
                    shipment_id: shipment.shipment_id.clone(),
                    carrier: shipment.carrier.clone(),
                    tracking_number: shipment.tracking_number.clone(),
                    status: ShipmentStatus::Created,
                    estimated_delivery: shipment.estimated_delivery,
                    delivered_at: None,
                });
                OrderStatus::Shipped
            }
            OrderEvent::OrderConfirmed { .. } => OrderStatus::Confirmed,
            OrderEvent::PaymentFailed { reason } => {
                self.payment = Some(PaymentView {
                    transaction_id: None,
                    status: PaymentStatus::Failed,
                    amount: self.total_amount,
                    processed_at: at,
                });
                self.rejection = Some(reason.into());
                OrderStatus::Cancelling
            }
            OrderEvent::ValidationFailed { reason }
            | OrderEvent::ReservationFailed { reason }
            | OrderEvent::ShipmentFailed { reason } => {
                self.rejection = Some(reason.into());
                OrderStatus::Cancelling
            }
            OrderEvent::OrderCancelRequested { reason, .. } => {
                self.cancellation = Some(CancellationView { reason: reason.clone() });
                OrderStatus::Cancelling
            }
            OrderEvent::ShipmentCancelled {} => {
                if let Some(shipment) = &mut self.shipment {
                    shipment.status = ShipmentStatus::Cancelled;
                }
                OrderStatus::Cancelling
            }
            OrderEvent::PaymentRefunded(_) => {
                if let Some(payment) = &mut self.payment {
                    payment.status = PaymentStatus::Refunded;
                }
                self.unless_ended(OrderStatus::Cancelling)
            }
            OrderEvent::InventoryReleased {} => OrderStatus::Cancelling,
            OrderEvent::OrderRejected { reason, .. } => {
                self.rejection = Some(reason.into());
                OrderStatus::Rejected
            }
            OrderEvent::OrderCancelled { .. } => OrderStatus::Cancelled,
            OrderEvent::ShipmentDelivered { delivered_at } => {
                if let Some(shipment) = &mut self.shipment {
                    shipment.status = ShipmentStatus::Delivered;
                    shipment.delivered_at = Some(*delivered_at);
                }
                // The parcel was faster than a cancel: there is none any more.
                self.cancellation = None;
                OrderStatus::Confirmed
            }
            OrderEvent::RefundRequested(requested) => {
                self.refunds.push(RefundView {
                    refund_id: requested.refund_id,
                    amount: requested.amount,
                    reason: requested.reason.clone(),
                    status: RefundState::Requested,
                    requested_at: at,
                });
                self.status
            }
            OrderEvent::RefundCompleted(completed) => {
                self.settle(completed.refund_id, RefundState::Completed, completed.refund.amount)
            }
            OrderEvent::RefundFailed(failed) => self.settle(failed.refund_id, RefundState::Failed, failed.amount),
            OrderEvent::FulfilmentResumed(_) | OrderEvent::StepSkipped(_) | OrderEvent::BooksCompared(_) => self.status,
            OrderEvent::OrderFlagged(attention) => {
                let Attention { step, reason } = attention.clone();
                self.attention = Some(AttentionView { step, reason, interrupted: self.status });
                OrderStatus::NeedsAttention
            }
        }
    }

    /// What came late, and goes back, does not change how an order has ended.
    fn unless_ended(&self, status: OrderStatus) -> OrderStatus {
        match self.status {
            OrderStatus::Cancelled | OrderStatus::Rejected => self.status,
            _ => status,
        }
    }

    /// The order with its customer as they are now; nothing older than what it has already, and nobody else.
    #[must_use]
    pub fn with_customer(mut self, customer: &CustomerView) -> Self {
        if customer.id == self.customer.id && customer.version > self.customer.version {
            self.customer = customer.clone();
        }
        self
    }

    /// The status of an order that has [come to rest](Self::is_open).
    pub fn status_at_rest(&self) -> Option<OrderStatus> {
        (!self.is_open()).then_some(self.status)
    }

    /// Whether anything is still to be done for the order. One that has come to rest is as it is to be: confirmed, undone,
    /// or only waiting for its parcel to arrive.
    pub fn is_open(&self) -> bool {
        let status = self.attention.as_ref().map_or(self.status, |attention| attention.interrupted);
        let at_rest = match status {
            OrderStatus::Confirmed | OrderStatus::Cancelled | OrderStatus::Rejected => true,
            OrderStatus::Created
            | OrderStatus::Reserved
            | OrderStatus::Paid
            | OrderStatus::Shipped
            | OrderStatus::Cancelling
            | OrderStatus::NeedsAttention => false,
        };
        !at_rest || self.books_differ() || self.refunds.iter().any(|refund| refund.status == RefundState::Requested)
    }

    fn books_differ(&self) -> bool {
        self.attention.as_ref().is_some_and(|attention| attention.step == SkippableStep::CompareBooks.name())
    }

    /// The order without what only we need to know.
    #[must_use]
    pub fn shown(self) -> Self {
        Self { in_doubt_since: None, ..self }
    }

    fn settle(&mut self, refund_id: RefundId, status: RefundState, amount: Money) -> OrderStatus {
        if let Some(refund) = self.refunds.iter_mut().find(|refund| refund.refund_id == refund_id) {
            refund.status = status;
            refund.amount = amount;
        }
        self.status
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::{Order, RequestedRefund};
    use crate::spec::{
        any_history, at, attention, cancel_reason, cancel_requested, cancelled, compared, confirmed, created,
        delivered, flagged, flagged_at, money, order_id, paid, payment_failed, refund_completed, refund_id,
        refund_reason, refund_requested, refunded, rejected, released, reservation_failed, reserved, resumed,
        shipment_cancelled, shipped, skipped,
    };
    use proptest::prelude::*;

    fn view_of(events: &[OrderEvent]) -> Option<OrderView> {
        (1..).zip(events).fold(None, |view, (version, event)| {
            OrderView::evolve(view, order_id(), event, version, at(i64::try_from(version).unwrap()))
        })
    }

    #[test]
    fn a_note_of_staff_is_in_no_view() {
        let note = || Some(Text::parse("suspected of fraud").unwrap());
        let refund =
            RequestedRefund { refund_id: refund_id(), amount: money(100), reason: refund_reason(), note: note() };
        let cancelled = OrderEvent::OrderCancelRequested { reason: cancel_reason(), note: note() };
        let history =
            [created(), reserved(), paid(), shipped(), confirmed(), OrderEvent::RefundRequested(refund), cancelled];
        let told = serde_json::to_string(&view_of(&history).unwrap()).unwrap();
        assert!(told.contains(cancel_reason().as_str()) && told.contains(refund_reason().as_str()), "{told}");
        assert!(!told.contains("fraud"), "{told}");
    }

    #[test]
    fn the_view_follows_an_order_to_its_confirmation() {
        let view = view_of(&[created(), reserved(), paid(), shipped(), confirmed()]).unwrap();
        assert_eq!(view.status, OrderStatus::Confirmed);
        assert_eq!(view.version, 5);
        assert_eq!(view.payment.unwrap().status, PaymentStatus::Completed);
        assert!(view.shipment.is_some());
        assert_eq!(view.rejection, None);
        assert_eq!((view.created_at, view.updated_at), (at(0), at(5)));
    }

    #[test]
    fn the_view_of_a_declined_order_says_why() {
        let view = view_of(&[created(), reserved(), payment_failed(), released(), rejected()]).unwrap();
        assert_eq!(view.status, OrderStatus::Rejected);
        assert_eq!(view.payment.unwrap().status, PaymentStatus::Failed);
        assert_eq!(view.rejection.unwrap().code, "payment_declined");
    }

    #[test]
    fn the_view_of_a_cancelled_order_says_what_became_of_money_and_parcel() {
        let undoing = [created(), reserved(), paid(), shipped(), cancel_requested(), shipment_cancelled(), refunded()];
        let view = view_of(&undoing).unwrap();
        assert_eq!(view.status, OrderStatus::Cancelling);
        assert_eq!(view.shipment.unwrap().status, ShipmentStatus::Cancelled);
        assert_eq!(view.payment.unwrap().status, PaymentStatus::Refunded);
        assert_eq!(view.cancellation.unwrap().reason, cancel_reason());
        assert_eq!(view_of(&[created(), cancel_requested(), cancelled()]).unwrap().status, OrderStatus::Cancelled);
    }

    #[test]
    fn an_order_that_needs_attention_says_so_until_it_goes_on() {
        let view = view_of(&[created(), reserved(), flagged()]).unwrap();
        let asked = view.attention.unwrap();
        assert_eq!((view.status, asked.interrupted), (OrderStatus::NeedsAttention, OrderStatus::Reserved));
        assert_eq!(Attention { step: asked.step, reason: asked.reason }, attention());
        let view = view_of(&[created(), reserved(), flagged(), flagged(), resumed(false)]).unwrap();
        assert_eq!((view.status, view.attention), (OrderStatus::Reserved, None));
        let view = view_of(&[created(), reserved(), flagged(), paid()]).unwrap();
        assert_eq!((view.status, view.attention), (OrderStatus::Paid, None));
    }

    #[test]
    fn an_order_at_rest_asks_for_nobody_whoever_flagged_it() {
        let confirmed = [created(), reserved(), paid(), shipped(), confirmed(), refund_requested(100)];
        let late = [flagged_at("send-confirmation"), refund_completed(100)];
        let view = view_of(&[confirmed.as_slice(), late.as_slice()].concat()).unwrap();
        assert_eq!((view.status, view.is_open(), view.attention), (OrderStatus::Confirmed, false, None));
    }

    #[test]
    fn an_order_is_in_doubt_from_the_last_that_was_done_for_it_until_its_books_are_compared() {
        let since = |events: &[OrderEvent]| view_of(events).unwrap().in_doubt_since;
        let undone = [created(), reserved(), paid(), cancel_requested(), refunded(), released(), cancelled()];
        assert_eq!(since(&undone[..3]), None);
        assert_eq!((since(&undone[..4]), since(&undone)), (Some(at(4)), Some(at(7))));
        let and = |more: &[OrderEvent]| [&undone[..], more].concat();
        let differ = flagged_at("compare-books");
        assert_eq!(since(&and(&[compared()])), None);
        // Whoever lets it go on has waited long enough.
        assert_eq!(since(&and(&[differ.clone(), resumed(false)])), Some(at(7)));
        assert_eq!(since(&and(&[differ.clone(), skipped(SkippableStep::CompareBooks)])), None);
        // An order that went well is, when somebody has had it compared and its books differ.
        let happy = [created(), reserved(), paid(), shipped(), confirmed(), differ.clone()];
        assert_eq!((since(&happy[..5]), since(&happy)), (None, Some(at(6))));
        let waiting = view_of(&and(&[differ])).unwrap();
        assert_eq!((waiting.status, waiting.is_open()), (OrderStatus::NeedsAttention, true));
        assert_eq!(waiting.shown().in_doubt_since, None);
    }

    #[test]
    fn a_charge_that_came_late_and_went_back_leaves_the_order_where_it_ended() {
        for (undo, end) in [(cancel_requested(), cancelled()), (reservation_failed(), rejected())] {
            let ended = view_of(&[created(), undo.clone(), end.clone()]).unwrap().status;
            let view = view_of(&[created(), undo, end, paid(), refunded(), compared()]).unwrap();
            assert_eq!((view.status, view.is_open()), (ended, false));
            assert_eq!(view.payment.unwrap().status, PaymentStatus::Refunded);
        }
    }

    proptest! {
        /// What is found by the view is what the order itself says is to be done.
        #[test]
        fn view_and_order_agree_on_what_is_to_be_done(history in any_history()) {
            let events: Vec<OrderEvent> = std::iter::once(created()).chain(history).collect();
            let (view, order) = (view_of(&events).unwrap(), Order::from_events(&events));
            prop_assert_eq!(view.in_doubt_since.is_some(), order.in_doubt);
        }
    }

    #[test]
    fn the_view_of_a_delivered_order_shows_its_refunds() {
        let confirmed = [created(), reserved(), paid(), shipped(), confirmed()];
        let since = [delivered(), refund_requested(100), refund_completed(100)];
        let view = view_of(&[confirmed.as_slice(), since.as_slice()].concat()).unwrap();
        assert_eq!(view.status, OrderStatus::Confirmed);
        let shipment = view.shipment.unwrap();
        assert_eq!((shipment.status, shipment.delivered_at), (ShipmentStatus::Delivered, Some(at(90))));
        let refunds: Vec<_> = view.refunds.iter().map(|refund| (refund.amount, refund.status)).collect();
        assert_eq!(refunds, [(money(100), RefundState::Completed)]);
    }

    /// As after a restore that has lost the first request, when the next one is made under its key.
    #[test]
    fn a_completed_refund_shows_what_the_provider_has_given_back() {
        let confirmed = [created(), reserved(), paid(), shipped(), confirmed()];
        let since = [delivered(), refund_requested(100), refund_completed(70)];
        let view = view_of(&[confirmed.as_slice(), since.as_slice()].concat()).unwrap();
        let refunds: Vec<_> = view.refunds.iter().map(|refund| (refund.amount, refund.status)).collect();
        assert_eq!(refunds, [(money(70), RefundState::Completed)]);
    }

    #[test]
    fn an_order_is_open_until_nothing_is_to_be_done_for_it() {
        let mut history = vec![created(), reserved(), paid(), shipped()];
        let is_open = |history: &[OrderEvent]| view_of(history).unwrap().is_open();
        for (next, open) in [
            (confirmed(), false),
            (refund_requested(100), true),
            (flagged_at("issue-refund"), true),
            (refund_completed(100), false),
            (cancel_requested(), true),
            (shipment_cancelled(), true),
            (refunded(), true),
            (cancelled(), false),
        ] {
            history.push(next);
            assert_eq!(is_open(&history), open, "{:?}", history.last());
        }
    }

    #[test]
    fn a_parcel_that_was_faster_than_the_cancel_leaves_no_cancellation() {
        let confirmed = [created(), reserved(), paid(), shipped(), confirmed()];
        let since = [cancel_requested(), flagged(), delivered()];
        let view = view_of(&[confirmed.as_slice(), since.as_slice()].concat()).unwrap();
        assert_eq!((view.status, view.cancellation, view.attention), (OrderStatus::Confirmed, None, None));
    }

    #[test]
    fn there_is_no_view_before_the_order_is_created() {
        assert_eq!(view_of(&[reserved(), paid()]), None);
    }

    #[test]
    fn a_stored_view_is_read_whatever_the_rules_have_become() {
        let stored = include_str!("order/events.kept.golden.jsonl").lines().next().unwrap();
        let stored: serde_json::Value = serde_json::from_str(stored).unwrap();
        let event = OrderEvent::read("OrderCreated", 1, &stored["data"]).unwrap();
        let view = serde_json::to_value(view_of(&[event, shipped(), refund_requested(100)])).unwrap();
        assert_eq!(view["total_amount"]["currency"], "ZZZ");
        assert_eq!(serde_json::to_value(serde_json::from_value::<OrderView>(view.clone()).unwrap()).unwrap(), view);
        // What the first views lack.
        let mut first = view.clone();
        first.as_object_mut().unwrap().remove("refunds");
        first["customer"].as_object_mut().unwrap().remove("version");
        first["shipment"].as_object_mut().unwrap().remove("delivered_at");
        assert_eq!(serde_json::from_value::<OrderView>(first).unwrap().refunds, []);
    }

    /// A view as a version has stored it, and what it was made of.
    #[derive(Deserialize)]
    struct Stored {
        format: u32,
        id: OrderId,
        events: Vec<StoredEvent>,
        view: serde_json::Value,
    }

    #[derive(Deserialize)]
    struct StoredEvent {
        at: DateTime<Utc>,
        #[serde(rename = "type")]
        event_type: String,
        schema: u32,
        data: serde_json::Value,
    }

    /// While two versions run, and until a rebuild has switched, each reads what the other has stored.
    #[test]
    fn views_of_every_format_are_read_and_the_newest_is_what_events_make() {
        let lines = include_str!("order_view.golden.jsonl").lines();
        let stored: Vec<Stored> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
        let newest = stored.iter().map(|stored| stored.format).max().unwrap();
        for Stored { format, id, events, view: stored } in stored {
            let read: OrderView = serde_json::from_value(stored.clone()).unwrap();
            if format == newest {
                let made = events.iter().zip(1..).fold(None, |view, (event, version)| {
                    let known = OrderEvent::read(&event.event_type, event.schema, &event.data).unwrap();
                    OrderView::evolve(view, id, &known, version, event.at)
                });
                assert_eq!(made.as_ref(), Some(&read), "it is made otherwise: raise FORMAT, and add lines of it");
                assert_eq!(serde_json::to_value(&read).unwrap(), stored, "it is stored otherwise: the same");
            }
        }
    }

    #[test]
    fn the_words_that_views_are_stored_with_do_not_change() {
        let statuses = [
            "created",
            "reserved",
            "paid",
            "shipped",
            "confirmed",
            "cancelling",
            "cancelled",
            "rejected",
            "needs_attention",
        ];
        assert_eq!(serde_json::to_value(OrderStatus::ALL).unwrap(), serde_json::json!(statuses));
        let payments = [PaymentStatus::Completed, PaymentStatus::Failed, PaymentStatus::Refunded];
        assert_eq!(serde_json::to_value(payments).unwrap(), serde_json::json!(["completed", "failed", "refunded"]));
        let shipments = [ShipmentStatus::Created, ShipmentStatus::Cancelled, ShipmentStatus::Delivered];
        assert_eq!(serde_json::to_value(shipments).unwrap(), serde_json::json!(["created", "cancelled", "delivered"]));
        let refunds = [RefundState::Requested, RefundState::Completed, RefundState::Failed];
        assert_eq!(serde_json::to_value(refunds).unwrap(), serde_json::json!(["requested", "completed", "failed"]));
    }

    #[test]
    fn the_answer_has_the_fields_of_the_contract() {
        let answer = serde_json::to_value(view_of(&[created(), reserved(), paid(), shipped()])).unwrap();
        let expected = serde_json::json!({
            "id": order_id().to_string(), "status": "shipped", "version": 4,
            "customer": {"id": "customer-1", "version": 0, "first_name": null, "last_name": null, "email": null, "email_verified": false},
            "items": [{"product_id": "tea", "name": "tea", "quantity": 2, "unit_price": {"amount": 1999, "currency": "CNY"}}],
            "shipping_address": {"street": "1 Nanjing Road", "city": "Shanghai", "state": "Shanghai", "country": "CN", "postal_code": "200001"},
            "payment": {"transaction_id": "tx-1", "status": "completed", "amount": {"amount": 3998, "currency": "CNY"}, "processed_at": "2026-01-01T00:00:00Z"},
            "shipment": {"shipment_id": "s-1", "carrier": "sandbox", "tracking_number": "t-1", "status": "created", "estimated_delivery": "2026-01-01T00:01:00Z", "delivered_at": null},
            "refunds": [],
            "total_amount": {"amount": 3998, "currency": "CNY"},
            "rejection": null, "cancellation": null, "attention": null,
            "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:04Z"
        });
        assert_eq!(answer, expected);
    }
}
