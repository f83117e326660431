//! What operators are told of orders: figures, each made of one event, or of one commit that has come into the views.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    money::Money,
    order::{OrderEvent, SkippableStep},
};

use crate::ports::{Counter, Histogram};

/// Something to be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    OrderPlaced,
    /// So long after it was placed.
    OrderConfirmed(Duration),
    /// By the code of the reason.
    OrderRejected(&'static str),
    OrderCancelled,
    /// By the step that was given up, which is one of [`STEPS`].
    OrderFlagged(&'static str),
    /// Money that went back to a customer, whoever wanted it to.
    Refunded(Money),
    /// A commit is in the views, so long after it was made.
    CommitProjected(Duration),
}

/// What steps are called that may be given up; all others together are the last.
pub const STEPS: [&str; 13] = [
    "validate-order",
    "reserve-inventory",
    "process-payment",
    "create-shipment",
    SkippableStep::SendConfirmation.name(),
    SkippableStep::CancelShipment.name(),
    SkippableStep::RefundPayment.name(),
    SkippableStep::ReleaseInventory.name(),
    "close-order",
    SkippableStep::IssueRefund.name(),
    SkippableStep::CompareBooks.name(),
    // `reconcile` flags an order whose execution has died.
    "fulfilment",
    OTHER,
];

const OTHER: &str = "other";

impl Figure {
    /// What an event counts as, of an order that was placed at that time.
    pub fn of(event: &OrderEvent, occurred_at: DateTime<Utc>, placed_at: DateTime<Utc>) -> Option<Self> {
        match event {
            OrderEvent::OrderCreated(_) => Some(Self::OrderPlaced),
            OrderEvent::OrderConfirmed { .. } => Some(Self::OrderConfirmed(between(placed_at, occurred_at))),
            OrderEvent::OrderRejected { reason, .. } => Some(Self::OrderRejected(reason.code())),
            OrderEvent::OrderCancelled { .. } => Some(Self::OrderCancelled),
            OrderEvent::OrderFlagged(attention) => {
                let known = STEPS.into_iter().find(|step| *step == attention.step);
                Some(Self::OrderFlagged(known.unwrap_or(OTHER)))
            }
            OrderEvent::PaymentRefunded(refund) => Some(Self::Refunded(refund.amount)),
            OrderEvent::RefundCompleted(completed) => Some(Self::Refunded(completed.refund.amount)),
            OrderEvent::ValidationFailed { .. }
            | OrderEvent::InventoryReserved(_)
            | OrderEvent::ReservationFailed { .. }
            | OrderEvent::PaymentCompleted(_)
            | OrderEvent::PaymentFailed { .. }
            | OrderEvent::PaymentNotRequired {}
            | OrderEvent::InventoryReleased {}
            | OrderEvent::ShipmentCreated(_)
            | OrderEvent::ShipmentFailed { .. }
            | OrderEvent::ShipmentCancelled {}
            | OrderEvent::ShipmentDelivered { .. }
            | OrderEvent::OrderCancelRequested { .. }
            | OrderEvent::FulfilmentResumed(_)
            | OrderEvent::StepSkipped(_)
            | OrderEvent::RefundRequested(_)
            | OrderEvent::RefundFailed(_)
            | OrderEvent::BooksCompared(_) => None,
        }
    }

    pub fn of_commit(occurred_at: DateTime<Utc>, now: DateTime<Utc>) -> Self {
        Self::CommitProjected(between(occurred_at, now))
    }

    /// What it adds to which counter.
    pub fn counts(self) -> Vec<(Counter, u64)> {
        match self {
            Self::OrderPlaced => vec![(Counter::OrdersPlaced, 1)],
            Self::OrderConfirmed(after) => Histogram::OrderConfirmation.observe(after),
            Self::OrderRejected(reason) => vec![(Counter::OrdersRejected(reason), 1)],
            Self::OrderCancelled => vec![(Counter::OrdersCancelled, 1)],
            Self::OrderFlagged(step) => vec![(Counter::OrdersFlagged(step), 1)],
            Self::Refunded(money) => {
                let currency = money.currency();
                vec![(Counter::Refunds(currency), 1), (Counter::RefundedMinorUnits(currency), money.amount())]
            }
            Self::CommitProjected(after) => Histogram::ProjectionLag.observe(after),
        }
    }
}

/// Nothing, if the clocks that were asked differ so that the later one comes first.
fn between(from: DateTime<Utc>, to: DateTime<Utc>) -> Duration {
    to.signed_duration_since(from).max(TimeDelta::zero()).to_std().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use domain::{money::Currency, order::RejectionReason};
    use serde_json::Value;

    use super::*;
    use crate::event_store::RecordedEvent;

    fn cny(amount: u64) -> Money {
        Money::new(amount, Currency::parse("CNY").unwrap()).unwrap()
    }

    #[test]
    fn every_event_counts_as_what_it_is() {
        let placed_at: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
        let occurred_at = placed_at.checked_add_signed(TimeDelta::milliseconds(1_234)).unwrap();
        let mut counted = BTreeMap::new();
        for line in include_str!("../../domain/src/order/events.golden.jsonl").lines() {
            let recorded: RecordedEvent = serde_json::from_str(line).unwrap();
            let figure = Figure::of(&recorded.read().unwrap(), occurred_at, placed_at);
            counted.insert(recorded.event_type, figure);
        }
        assert_eq!(counted.len(), OrderEvent::TYPES.len(), "the golden file has every type");
        counted.retain(|_, figure| figure.is_some());
        let expected = [
            ("OrderCancelled", Figure::OrderCancelled),
            ("OrderConfirmed", Figure::OrderConfirmed(Duration::from_millis(1_234))),
            ("OrderCreated", Figure::OrderPlaced),
            ("OrderFlagged", Figure::OrderFlagged("process-payment")),
            ("OrderRejected", Figure::OrderRejected("payment_declined")),
            ("PaymentRefunded", Figure::Refunded(cny(3_998))),
            ("RefundCompleted", Figure::Refunded(cny(100))),
        ];
        let expected = expected.map(|(event_type, figure)| (event_type.to_owned(), Some(figure)));
        assert_eq!(counted, expected.into());
    }

    #[test]
    fn reasons_and_steps_are_few() {
        let now = Utc::now();
        let figure = |event_type: &str, data: Value| {
            Figure::of(&OrderEvent::read(event_type, 1, &data).unwrap(), now, now).unwrap()
        };
        for code in RejectionReason::CODES {
            let reason = serde_json::json!({"code": code, "unavailable": [], "decline_code": "x", "refusal_code": "x"});
            let data = serde_json::json!({"reason": reason});
            assert_eq!(figure("OrderRejected", data), Figure::OrderRejected(code));
        }
        let machine = include_str!("../../../infra/fulfilment.asl.json");
        let steps = machine.split("'step': '").skip(1).map(|rest| rest.split('\'').next().unwrap());
        let steps: Vec<&str> = steps.chain(["fulfilment", "compare-books"]).collect();
        assert!(steps.len() > 10);
        for step in steps {
            let flagged = figure("OrderFlagged", serde_json::json!({"step": step, "reason": "x"}));
            assert!(matches!(flagged, Figure::OrderFlagged(known) if known == step), "{step}");
        }
        let strange = serde_json::json!({"step": "whatever", "reason": "x"});
        assert_eq!(figure("OrderFlagged", strange), Figure::OrderFlagged("other"));
    }

    #[test]
    fn clocks_that_differ_make_no_time_negative() {
        let now = Utc::now();
        let later = now.checked_add_signed(TimeDelta::seconds(5)).unwrap();
        assert_eq!(Figure::of_commit(later, now), Figure::CommitProjected(Duration::ZERO));
    }

    #[test]
    fn a_time_is_in_the_first_part_that_has_room_for_it() {
        for (ms, part) in [(0, Some(100)), (100, Some(100)), (101, Some(250)), (60_000, Some(60_000)), (60_001, None)] {
            let counts = Figure::CommitProjected(Duration::from_millis(ms)).counts();
            let lag = Histogram::ProjectionLag;
            let within: Vec<_> = part.map(|bound| (Counter::Within(lag, bound), 1)).into_iter().collect();
            assert_eq!(counts, [within, vec![(Counter::Count(lag), 1), (Counter::Sum(lag), ms)]].concat());
        }
    }
}
