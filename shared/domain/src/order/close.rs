//! The end of an order that is not to be delivered: only when everything is undone.

use super::{Course, Ending, Order, OrderEvent, UndoRejection};
use crate::ids::NotificationId;

/// Why an order may not be closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloseRejection {
    #[error(transparent)]
    NotUndone(#[from] UndoRejection),
    #[error("something is still held for the order")]
    StillHeld,
}

/// `OrderRejected` or `OrderCancelled` with the reason, or nothing when that is already recorded. The message that told the
/// customer has an id, unless it could not be sent.
pub fn close(order: &Order, notification_id: Option<&NotificationId>) -> Result<Vec<OrderEvent>, CloseRejection> {
    order.course.held()?;
    if order.holds_anything() {
        return Err(CloseRejection::StillHeld);
    }
    let Course::Undoing(_, _, ending) = &order.course else { return Ok(vec![]) };
    let notification_id = notification_id.cloned();
    Ok(vec![match ending.clone() {
        Ending::Rejected(reason) => OrderEvent::OrderRejected { reason, notification_id },
        Ending::Cancelled(reason) => OrderEvent::OrderCancelled { reason, notification_id },
    }])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::SkippableStep;
    use crate::spec::{
        cancel_reason, cancel_requested, cancelled, created, given, paid, payment_failed, refund_completed,
        refund_requested, refunded, rejected, released, reserved, shipment_cancelled, shipped, skipped,
    };

    fn untold(order: &Order) -> Result<Vec<OrderEvent>, CloseRejection> {
        close(order, None)
    }

    #[test]
    fn the_end_names_the_message_that_told_the_customer() {
        let told = NotificationId("n-2".to_owned());
        given([created(), cancel_requested()])
            .when(|order| close(order, Some(&told)))
            .then([OrderEvent::OrderCancelled { reason: cancel_reason(), notification_id: Some(told.clone()) }]);
    }

    #[test]
    fn an_order_that_is_undone_ends_once_as_it_was_bound_to() {
        given([created(), reserved(), payment_failed(), released()]).when(untold).then([rejected()]);
        given([created(), reserved(), payment_failed(), released(), rejected()]).when(untold).then_nothing();
        given([created(), cancel_requested()]).when(untold).then([cancelled()]);
        given([created(), cancel_requested(), cancelled()]).when(untold).then_nothing();
    }

    #[test]
    fn an_order_does_not_end_while_anything_is_held() {
        given([created(), reserved(), payment_failed()]).when(untold).then_rejected(&CloseRejection::StillHeld);
        given([created(), reserved(), paid(), cancel_requested(), released()])
            .when(untold)
            .then_rejected(&CloseRejection::StillHeld);
        given([created(), reserved(), paid(), cancel_requested(), released(), refunded()])
            .when(untold)
            .then([cancelled()]);
    }

    #[test]
    fn what_staff_have_given_back_in_whole_is_not_held_any_more() {
        let (requested, completed) = (refund_requested(3998), refund_completed(3998));
        given([created(), reserved(), paid(), requested.clone(), cancel_requested(), released()])
            .when(untold)
            .then_rejected(&CloseRejection::StillHeld);
        given([created(), reserved(), paid(), requested, cancel_requested(), completed, released()])
            .when(untold)
            .then([cancelled()]);
    }

    #[test]
    fn what_staff_answer_for_does_not_keep_an_order_from_its_end() {
        let undoing = [created(), reserved(), paid(), shipped(), cancel_requested()];
        let kept = [skipped(SkippableStep::CancelShipment), refunded()];
        given([undoing.as_slice(), &kept].concat()).when(untold).then([cancelled()]);
        let unpaid =
            [shipment_cancelled(), skipped(SkippableStep::RefundPayment), skipped(SkippableStep::ReleaseInventory)];
        given([undoing.as_slice(), &unpaid].concat()).when(untold).then([cancelled()]);
    }

    #[test]
    fn stock_that_cannot_have_left_the_house_is_held_also_when_the_parcel_is_skipped() {
        let unpaid = [created(), reserved(), cancel_requested(), skipped(SkippableStep::CancelShipment)];
        given(unpaid.clone()).when(untold).then_rejected(&CloseRejection::StillHeld);
        given([unpaid.as_slice(), &[released()]].concat()).when(untold).then([cancelled()]);
    }

    #[test]
    fn an_order_that_stands_does_not_end() {
        given([created(), reserved()])
            .when(untold)
            .then_rejected(&CloseRejection::NotUndone(UndoRejection::OrderStands));
    }
}
