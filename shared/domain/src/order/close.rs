//! The end of an order that is not to be delivered: only when everything is undone.

use super::{Course, Ending, Order, OrderEvent, UndoRejection};

/// Why an order may not be closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloseRejection {
    #[error(transparent)]
    NotUndone(#[from] UndoRejection),
    #[error("something is still held for the order")]
    StillHeld,
}

/// `OrderRejected` or `OrderCancelled` with the reason, or nothing when that is already recorded.
pub fn close(order: &Order) -> Result<Vec<OrderEvent>, CloseRejection> {
    if order.course.held()?.is_some_and(|held| !held.is_nothing()) {
        return Err(CloseRejection::StillHeld);
    }
    Ok(match &order.course {
        Course::Undoing(_, _, Ending::Rejected(reason)) => vec![OrderEvent::OrderRejected { reason: reason.clone() }],
        Course::Undoing(_, _, Ending::Cancelled(reason)) => vec![OrderEvent::OrderCancelled { reason: reason.clone() }],
        _ => vec![],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{
        cancel_requested, cancelled, created, given, paid, payment_failed, refunded, rejected, released, reserved,
    };

    #[test]
    fn an_order_that_is_undone_ends_once_as_it_was_bound_to() {
        given([created(), reserved(), payment_failed(), released()]).when(close).then([rejected()]);
        given([created(), reserved(), payment_failed(), released(), rejected()]).when(close).then_nothing();
        given([created(), cancel_requested()]).when(close).then([cancelled()]);
        given([created(), cancel_requested(), cancelled()]).when(close).then_nothing();
    }

    #[test]
    fn an_order_does_not_end_while_anything_is_held() {
        given([created(), reserved(), payment_failed()]).when(close).then_rejected(&CloseRejection::StillHeld);
        given([created(), reserved(), paid(), cancel_requested(), released()])
            .when(close)
            .then_rejected(&CloseRejection::StillHeld);
        given([created(), reserved(), paid(), cancel_requested(), released(), refunded()])
            .when(close)
            .then([cancelled()]);
    }

    #[test]
    fn an_order_that_stands_does_not_end() {
        given([created(), reserved()])
            .when(close)
            .then_rejected(&CloseRejection::NotUndone(UndoRejection::OrderStands));
    }
}
