//! Which step may an order go on without, when somebody of staff answers for it?

use super::{Course, FailedRefund, Order, OrderEvent, SkippableStep, SkippedStep};
use crate::{
    books::{Books, ShipmentBook},
    money::Money,
    text::Text,
};

/// The error of a step, by name, whose request the provider has refused for good: so it has not done this.
pub const REFUSED: &str = "RequestRefused";

/// Errors of an undo, by name, that going on does not mend: whoever asks the provider again hears the same. Then money that the order
/// does not know of, as after a refund at the provider's own desk, is for a person to answer for.
pub const LASTING: [&str; 3] = ["ProviderMisbehaved", REFUSED, "StillHeld"];

/// Why a step is not skipped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SkipRejection {
    #[error("there is no such order")]
    UnknownOrder,
    #[error("the order is not stuck")]
    NotStuck,
    #[error("the order is stuck at another step: {step}")]
    StuckElsewhere { step: String },
    #[error("the provider has done it, and only its record is missing")]
    DoneAlready { found: Books },
}

/// `StepSkipped`, for the step at which the order is stuck and for no other, and what follows from it at once. Never for
/// what the providers' books say is done, where going on records it: giving that up would make the order's own books lie.
pub fn skip(
    order: &Order,
    step: SkippableStep,
    reason: &Text<500>,
    found: &Books,
) -> Result<Vec<OrderEvent>, SkipRejection> {
    if order.course == Course::NotCreated {
        return Err(SkipRejection::UnknownOrder);
    }
    let Some(stuck) = &order.attention else { return Err(SkipRejection::NotStuck) };
    if stuck.step != step.name() {
        return Err(SkipRejection::StuckElsewhere { step: stuck.step.clone() });
    }
    if is_done(order, step, &stuck.reason, found) {
        return Err(SkipRejection::DoneAlready { found: found.clone() });
    }
    let skipped = SkippedStep { step, reason: reason.clone(), found: Some(found.clone()) };
    let mut events = vec![OrderEvent::StepSkipped(skipped)];
    match step {
        SkippableStep::SendConfirmation => {
            if matches!(order.course, Course::Shipped(..)) {
                events.push(OrderEvent::OrderConfirmed { notification_id: None });
            }
        }
        // Whatever was requested is a part of what is given up.
        SkippableStep::IssueRefund | SkippableStep::RefundPayment => events.extend(order.open_refunds().map(|open| {
            OrderEvent::RefundFailed(FailedRefund {
                refund_id: open.refund_id,
                amount: open.amount,
                reason: "skipped".to_owned(),
            })
        })),
        SkippableStep::CancelShipment | SkippableStep::ReleaseInventory | SkippableStep::CompareBooks => {}
    }
    Ok(events)
}

/// Whether the providers have done what the step is to do, or a part of it that the order does not know of and that going on records.
fn is_done(order: &Order, step: SkippableStep, reason: &str, found: &Books) -> bool {
    match step {
        // One that the provider has made and answered badly would have failed, and could be requested once more: twice the money.
        SkippableStep::IssueRefund => has_refunded_more(order, found) && reason != REFUSED,
        // Of an order that is undone, nothing more can be requested.
        SkippableStep::RefundPayment => has_refunded_more(order, found) && !LASTING.contains(&reason),
        SkippableStep::ReleaseInventory => found.reserved.is_empty(),
        SkippableStep::CancelShipment => match found.shipment {
            ShipmentBook::Cancelled => true,
            // The arrival of a parcel that the order does not know of, or has not paid for, cannot be recorded.
            ShipmentBook::Delivered => {
                matches!(&order.course, Course::Undoing(_, held, _) if held.is_paid() && held.shipment.is_some())
            }
            ShipmentBook::None | ShipmentBook::Created => false,
        },
        // A message leaves nothing in the books, and whether these agree is for who takes them as they are to see.
        SkippableStep::SendConfirmation | SkippableStep::CompareBooks => false,
    }
}

fn has_refunded_more(order: &Order, found: &Books) -> bool {
    found.refunded.amount() > order.refunded().ok().flatten().map_or(0, Money::amount)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::Attention;
    use crate::spec::{
        cancel_requested, confirmed, created, flagged_at, given, money, paid, refund_completed, refund_id,
        refund_requested, reserved, shipped, skip_reason,
    };

    /// What the providers say of an order that is paid and shipped.
    fn books() -> Books {
        Books::of(&[created(), reserved(), paid(), shipped()]).unwrap().unwrap()
    }

    fn skipped(step: SkippableStep) -> OrderEvent {
        OrderEvent::StepSkipped(SkippedStep { step, reason: skip_reason(), found: Some(books()) })
    }

    fn without(step: SkippableStep) -> impl Fn(&Order) -> Result<Vec<OrderEvent>, SkipRejection> {
        move |order| skip(order, step, &skip_reason(), &books())
    }

    fn found(step: SkippableStep, found: Books) -> impl Fn(&Order) -> Result<Vec<OrderEvent>, SkipRejection> {
        move |order| skip(order, step, &skip_reason(), &found)
    }

    #[test]
    fn what_the_provider_has_done_is_not_skipped() {
        let undoing = [created(), reserved(), paid(), shipped(), refund_requested(100), cancel_requested()];
        let part_of_it = Books { refunded: money(100), ..books() };
        let cases = [
            (SkippableStep::RefundPayment, part_of_it.clone()),
            (SkippableStep::ReleaseInventory, Books { reserved: vec![], ..books() }),
            (SkippableStep::CancelShipment, Books { shipment: ShipmentBook::Cancelled, ..books() }),
            (SkippableStep::CancelShipment, Books { shipment: ShipmentBook::Delivered, ..books() }),
            (SkippableStep::IssueRefund, part_of_it.clone()),
        ];
        for (step, books) in cases {
            given([undoing.as_slice(), &[flagged_at(step.name())]].concat())
                .when(found(step, books.clone()))
                .then_rejected(&SkipRejection::DoneAlready { found: books });
        }
        // What the order knows of is not in the way.
        let known = [refund_completed(100), flagged_at("refund-payment")];
        let step = SkippableStep::RefundPayment;
        let skipped = SkippedStep { step, reason: skip_reason(), found: Some(part_of_it.clone()) };
        given([undoing.as_slice(), &known].concat())
            .when(found(step, part_of_it))
            .then([OrderEvent::StepSkipped(skipped)]);
    }

    /// As after a refund at the provider's own desk: every try hears that not all of the payment is left.
    #[test]
    fn money_that_no_try_can_record_is_not_in_the_way() {
        let part_of_it = Books { refunded: money(100), ..books() };
        for reason in LASTING {
            let flagged =
                OrderEvent::OrderFlagged(Attention { step: "refund-payment".to_owned(), reason: reason.to_owned() });
            let step = SkippableStep::RefundPayment;
            let skipped = SkippedStep { step, reason: skip_reason(), found: Some(part_of_it.clone()) };
            given([created(), reserved(), paid(), cancel_requested(), flagged])
                .when(found(step, part_of_it.clone()))
                .then([OrderEvent::StepSkipped(skipped)]);
        }
    }

    /// What a refund by staff may have done is given up only where the provider has refused it, and somebody has paid by another way.
    #[test]
    fn a_refund_that_may_have_been_made_is_not_skipped_whatever_else_lasts() {
        let part_of_it = Books { refunded: money(100), ..books() };
        let step = SkippableStep::IssueRefund;
        let stuck = |reason: &str| {
            let flagged = Attention { step: step.name().to_owned(), reason: reason.to_owned() };
            let history = [created(), reserved(), paid(), shipped(), confirmed(), refund_requested(100)];
            given([history.as_slice(), &[OrderEvent::OrderFlagged(flagged)]].concat())
        };
        for reason in ["ProviderMisbehaved", "StillHeld", "Unavailable"] {
            stuck(reason)
                .when(found(step, part_of_it.clone()))
                .then_rejected(&SkipRejection::DoneAlready { found: part_of_it.clone() });
        }
        let failed = FailedRefund { refund_id: refund_id(), amount: money(100), reason: "skipped".to_owned() };
        let skipped = SkippedStep { step, reason: skip_reason(), found: Some(part_of_it.clone()) };
        stuck(REFUSED)
            .when(found(step, part_of_it))
            .then([OrderEvent::StepSkipped(skipped), OrderEvent::RefundFailed(failed)]);
    }

    /// The order was cancelled before the shipment was recorded, and the carrier did not take the parcel back.
    #[test]
    fn a_parcel_that_the_order_does_not_know_of_is_not_in_the_way() {
        let arrived = Books { shipment: ShipmentBook::Delivered, ..books() };
        let step = SkippableStep::CancelShipment;
        let skipped = SkippedStep { step, reason: skip_reason(), found: Some(arrived.clone()) };
        given([created(), reserved(), paid(), cancel_requested(), flagged_at("cancel-shipment")])
            .when(found(step, arrived))
            .then([OrderEvent::StepSkipped(skipped)]);
    }

    #[test]
    fn an_undo_that_is_stuck_can_be_skipped() {
        for step in [SkippableStep::CancelShipment, SkippableStep::RefundPayment, SkippableStep::ReleaseInventory] {
            given([created(), reserved(), paid(), shipped(), cancel_requested(), flagged_at(step.name())])
                .when(without(step))
                .then([skipped(step)]);
        }
    }

    #[test]
    fn an_order_whose_customer_cannot_be_told_is_confirmed_without() {
        given([created(), reserved(), paid(), shipped(), flagged_at("send-confirmation")])
            .when(without(SkippableStep::SendConfirmation))
            .then([skipped(SkippableStep::SendConfirmation), OrderEvent::OrderConfirmed { notification_id: None }]);
    }

    #[test]
    fn a_refund_that_is_given_up_has_failed() {
        let failed = FailedRefund { refund_id: refund_id(), amount: money(100), reason: "skipped".to_owned() };
        given([
            created(),
            reserved(),
            paid(),
            shipped(),
            confirmed(),
            refund_requested(100),
            flagged_at("issue-refund"),
        ])
        .when(without(SkippableStep::IssueRefund))
        .then([skipped(SkippableStep::IssueRefund), OrderEvent::RefundFailed(failed)]);
    }

    #[test]
    fn a_refund_that_was_requested_is_given_up_with_the_undo_that_would_have_issued_it() {
        let failed = FailedRefund { refund_id: refund_id(), amount: money(100), reason: "skipped".to_owned() };
        let undoing = [created(), reserved(), paid(), refund_requested(100), cancel_requested()];
        given([undoing.as_slice(), &[flagged_at("refund-payment")]].concat())
            .when(without(SkippableStep::RefundPayment))
            .then([skipped(SkippableStep::RefundPayment), OrderEvent::RefundFailed(failed)]);
    }

    #[test]
    fn only_the_step_that_is_stuck_can_be_skipped() {
        let elsewhere = SkipRejection::StuckElsewhere { step: "cancel-shipment".to_owned() };
        given([created(), reserved(), paid(), shipped(), cancel_requested(), flagged_at("cancel-shipment")])
            .when(without(SkippableStep::RefundPayment))
            .then_rejected(&elsewhere);
        given([created(), reserved()])
            .when(without(SkippableStep::RefundPayment))
            .then_rejected(&SkipRejection::NotStuck);
        given([]).when(without(SkippableStep::RefundPayment)).then_rejected(&SkipRejection::UnknownOrder);
    }

    #[test]
    fn every_skippable_step_is_stored_under_the_name_of_its_function() {
        for step in SkippableStep::ALL {
            assert_eq!(serde_json::to_value(step).unwrap(), step.name());
        }
    }
}
