//! How this crate's tests speak: `given(events).when(decision).then(events)`, and one well-known order to speak of.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::needless_pass_by_value,
    reason = "small literal numbers, and sentences that read better without `&`"
)]

use std::fmt::Debug;

use chrono::{DateTime, TimeDelta, Utc};
use proptest::{collection::vec, prelude::Strategy, sample::select};

use crate::{
    address::{CountryCode, ShippingAddress},
    books::{Books, ShipmentBook},
    ids::{
        CustomerId, NotificationId, OrderId, PaymentMethod, ProductId, RefundId, ReservationId, ShipmentId,
        TransactionId,
    },
    money::{Currency, Money, Quantity},
    order::{
        Attention, CancelReason, Comparison, CompletedRefund, FailedRefund, Order, OrderCreated, OrderEvent, OrderItem,
        Payment, Refund, RejectionReason, RequestedRefund, Reservation, Resumption, Shipment, Shortage, SkippableStep,
        SkippedStep,
    },
    product::Product,
    text::Text,
};

pub(crate) struct Given(Order);

pub(crate) struct When<R>(Result<Vec<OrderEvent>, R>);

pub(crate) fn given(events: impl AsRef<[OrderEvent]>) -> Given {
    Given(Order::from_events(events.as_ref()))
}

impl Given {
    pub(crate) fn when<R>(self, decide: impl FnOnce(&Order) -> Result<Vec<OrderEvent>, R>) -> When<R> {
        When(decide(&self.0))
    }
}

impl<R: Debug + PartialEq> When<R> {
    #[track_caller]
    pub(crate) fn then<const N: usize>(self, events: [OrderEvent; N]) {
        assert_eq!(self.0, Ok(events.to_vec()));
    }

    #[track_caller]
    pub(crate) fn then_nothing(self) {
        assert_eq!(self.0, Ok(vec![]));
    }

    #[track_caller]
    pub(crate) fn then_rejected(self, rejection: &R) {
        assert_eq!(self.0.as_ref().err(), Some(rejection));
    }
}

/// Seconds after the start of 2026.
pub(crate) fn at(seconds: i64) -> DateTime<Utc> {
    "2026-01-01T00:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::seconds(seconds)
}

pub(crate) fn money(amount: u64) -> Money {
    Money::new(amount, Currency::parse("CNY").unwrap()).unwrap()
}

pub(crate) fn order_id() -> OrderId {
    OrderId::derive("customer-1", "first")
}

pub(crate) fn customer() -> CustomerId {
    CustomerId::parse("customer-1").unwrap()
}

pub(crate) fn product_id(id: &str) -> ProductId {
    ProductId::parse(id).unwrap()
}

pub(crate) fn product(id: &str, price: u64, stock: u32) -> Product {
    Product { id: product_id(id), name: Text::parse(id).unwrap(), price: money(price), stock }
}

pub(crate) fn address() -> ShippingAddress {
    ShippingAddress {
        street: Text::parse("1 Nanjing Road").unwrap(),
        city: Text::parse("Shanghai").ok(),
        state: Text::parse("Shanghai").ok(),
        country: CountryCode::parse("CN").unwrap(),
        postal_code: Text::parse("200001").ok(),
    }
}

pub(crate) fn reservation() -> Reservation {
    Reservation { reservation_id: ReservationId("r-1".to_owned()) }
}

pub(crate) fn payment() -> Payment {
    Payment { transaction_id: TransactionId("tx-1".to_owned()), amount: money(3998), processed_at: at(0) }
}

pub(crate) fn shipment() -> Shipment {
    Shipment {
        shipment_id: ShipmentId("s-1".to_owned()),
        carrier: "sandbox".to_owned(),
        tracking_number: "t-1".to_owned(),
        estimated_delivery: at(60),
    }
}

pub(crate) fn shortage() -> Shortage {
    Shortage { product_id: product_id("tea"), requested: 2, available: 1 }
}

pub(crate) fn declined() -> RejectionReason {
    RejectionReason::PaymentDeclined { decline_code: "card_declined".to_owned() }
}

pub(crate) fn created() -> OrderEvent {
    OrderEvent::OrderCreated(OrderCreated {
        customer_id: customer(),
        items: vec![OrderItem {
            product_id: product_id("tea"),
            name: Text::parse("tea").unwrap(),
            quantity: Quantity::new(2).unwrap(),
            unit_price: money(1999),
        }],
        shipping_address: address(),
        payment_method: PaymentMethod::default(),
        total_amount: money(3998),
        created_at: at(0),
        providers: Box::default(),
    })
}

pub(crate) fn validation_failed() -> OrderEvent {
    OrderEvent::ValidationFailed { reason: RejectionReason::Expired }
}

pub(crate) fn reserved() -> OrderEvent {
    OrderEvent::InventoryReserved(reservation())
}

pub(crate) fn reservation_failed() -> OrderEvent {
    OrderEvent::ReservationFailed { reason: RejectionReason::OutOfStock { unavailable: vec![shortage()] } }
}

pub(crate) fn paid() -> OrderEvent {
    OrderEvent::PaymentCompleted(payment())
}

pub(crate) fn payment_failed() -> OrderEvent {
    OrderEvent::PaymentFailed { reason: declined() }
}

pub(crate) fn released() -> OrderEvent {
    OrderEvent::InventoryReleased {}
}

pub(crate) fn shipped() -> OrderEvent {
    OrderEvent::ShipmentCreated(shipment())
}

pub(crate) fn confirmed() -> OrderEvent {
    OrderEvent::OrderConfirmed { notification_id: Some(NotificationId("n-1".to_owned())) }
}

pub(crate) fn rejected() -> OrderEvent {
    OrderEvent::OrderRejected { reason: declined(), notification_id: None }
}

pub(crate) fn shipment_failed() -> OrderEvent {
    let reason = RejectionReason::ShipmentRefused { refusal_code: "address_unknown".to_owned() };
    OrderEvent::ShipmentFailed { reason }
}

pub(crate) fn cancel_reason() -> CancelReason {
    Text::parse("changed my mind").unwrap()
}

pub(crate) fn cancel_requested() -> OrderEvent {
    OrderEvent::OrderCancelRequested { reason: cancel_reason(), note: None }
}

pub(crate) fn shipment_cancelled() -> OrderEvent {
    OrderEvent::ShipmentCancelled {}
}

pub(crate) fn refund() -> Refund {
    Refund { transaction_id: TransactionId("re-1".to_owned()), amount: money(3998), processed_at: at(0) }
}

pub(crate) fn refunded() -> OrderEvent {
    OrderEvent::PaymentRefunded(refund())
}

pub(crate) fn cancelled() -> OrderEvent {
    OrderEvent::OrderCancelled { reason: cancel_reason(), notification_id: None }
}

pub(crate) fn attention() -> Attention {
    Attention { step: "process-payment".to_owned(), reason: "Unavailable".to_owned() }
}

pub(crate) fn flagged() -> OrderEvent {
    OrderEvent::OrderFlagged(attention())
}

pub(crate) fn resume_reason() -> Text<500> {
    Text::parse("the provider is back").unwrap()
}

pub(crate) fn resumed(undo: bool) -> OrderEvent {
    OrderEvent::FulfilmentResumed(Resumption { reason: resume_reason(), undo, refund: false })
}

pub(crate) fn delivered() -> OrderEvent {
    OrderEvent::ShipmentDelivered { delivered_at: at(90) }
}

pub(crate) fn refund_id() -> RefundId {
    RefundId(order_id().work_id("a refund"))
}

pub(crate) fn refund_reason() -> Text<500> {
    Text::parse("one packet was damaged").unwrap()
}

pub(crate) fn refund_requested(amount: u64) -> OrderEvent {
    let (refund_id, reason) = (refund_id(), refund_reason());
    OrderEvent::RefundRequested(RequestedRefund { refund_id, amount: money(amount), reason, note: None })
}

pub(crate) fn refund_completed(amount: u64) -> OrderEvent {
    let refund = Refund { amount: money(amount), ..refund() };
    OrderEvent::RefundCompleted(CompletedRefund { refund_id: refund_id(), refund })
}

pub(crate) fn refund_failed(amount: u64) -> OrderEvent {
    let (refund_id, reason) = (refund_id(), "too_much".to_owned());
    OrderEvent::RefundFailed(FailedRefund { refund_id, amount: money(amount), reason })
}

pub(crate) fn skip_reason() -> Text<500> {
    Text::parse("paid back by bank transfer").unwrap()
}

pub(crate) fn skipped(step: SkippableStep) -> OrderEvent {
    OrderEvent::StepSkipped(SkippedStep { step, reason: skip_reason(), found: None })
}

/// The books of a cancelled order were compared, and nothing had come late.
pub(crate) fn compared() -> OrderEvent {
    let found = Books { charged: money(3998), refunded: money(3998), reserved: vec![], shipment: ShipmentBook::None };
    OrderEvent::BooksCompared(Comparison { found, late: vec![] })
}

/// An order that was asked for a person at this step.
pub(crate) fn flagged_at(step: &str) -> OrderEvent {
    OrderEvent::OrderFlagged(Attention { step: step.to_owned(), ..attention() })
}

pub(crate) fn one_event_of_each_type() -> Vec<OrderEvent> {
    vec![
        created(),
        validation_failed(),
        reserved(),
        reservation_failed(),
        paid(),
        payment_failed(),
        released(),
        shipped(),
        confirmed(),
        rejected(),
        shipment_failed(),
        cancel_requested(),
        shipment_cancelled(),
        refunded(),
        cancelled(),
        flagged(),
        resumed(true),
        delivered(),
        refund_requested(100),
        refund_completed(100),
        refund_failed(50),
        skipped(SkippableStep::RefundPayment),
        OrderEvent::PaymentNotRequired {},
        compared(),
    ]
}

/// Any events in any order, sensible or not.
pub(crate) fn any_history() -> impl Strategy<Value = Vec<OrderEvent>> {
    vec(select(one_event_of_each_type()), 0..20)
}
