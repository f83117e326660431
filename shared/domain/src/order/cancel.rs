//! When may an order be cancelled?

use super::{CancelReason, Course, Ending, Order, OrderEvent, StaffNote};

/// Why an order is not cancelled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CancelRejection {
    #[error("there is no such order")]
    UnknownOrder,
    #[error("a step has refused the order, which is being rejected or already is")]
    Rejected,
    #[error("the customer has the parcel; a refund can still be requested")]
    Delivered,
}

/// `OrderCancelRequested`, or nothing when somebody has cancelled before. From then on no step goes forward.
pub fn cancel(
    order: &Order,
    reason: &CancelReason,
    note: Option<&StaffNote>,
) -> Result<Vec<OrderEvent>, CancelRejection> {
    match &order.course {
        Course::NotCreated => Err(CancelRejection::UnknownOrder),
        Course::Created(_) | Course::Reserved(..) | Course::Paid(..) | Course::Shipped(..) | Course::Confirmed(..) => {
            Ok(vec![OrderEvent::OrderCancelRequested { reason: reason.clone(), note: note.cloned() }])
        }
        Course::Delivered(..) => Err(CancelRejection::Delivered),
        Course::Undoing(_, _, Ending::Cancelled(_)) | Course::Ended(_, Ending::Cancelled(_)) => Ok(vec![]),
        Course::Undoing(_, _, Ending::Rejected(_)) | Course::Ended(_, Ending::Rejected(_)) => {
            Err(CancelRejection::Rejected)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{
        cancel_reason, cancel_requested, cancelled, confirmed, created, delivered, given, paid, payment_failed,
        reserved, shipped,
    };

    fn by_customer(order: &Order) -> Result<Vec<OrderEvent>, CancelRejection> {
        cancel(order, &cancel_reason(), None)
    }

    #[test]
    fn an_order_can_be_cancelled_at_every_point() {
        given([created()]).when(by_customer).then([cancel_requested()]);
        given([created(), reserved()]).when(by_customer).then([cancel_requested()]);
        given([created(), reserved(), paid()]).when(by_customer).then([cancel_requested()]);
        given([created(), reserved(), paid(), shipped()]).when(by_customer).then([cancel_requested()]);
        given([created(), reserved(), paid(), shipped(), confirmed()]).when(by_customer).then([cancel_requested()]);
    }

    #[test]
    fn cancelling_again_changes_nothing() {
        given([created(), cancel_requested()]).when(by_customer).then_nothing();
        given([created(), cancel_requested(), cancelled()]).when(by_customer).then_nothing();
    }

    #[test]
    fn an_order_that_is_rejected_or_unknown_cannot_be_cancelled() {
        given([created(), reserved(), payment_failed()]).when(by_customer).then_rejected(&CancelRejection::Rejected);
        given([]).when(by_customer).then_rejected(&CancelRejection::UnknownOrder);
    }

    #[test]
    fn an_order_that_is_delivered_is_not_cancelled_any_more() {
        given([created(), reserved(), paid(), shipped(), confirmed(), delivered()])
            .when(by_customer)
            .then_rejected(&CancelRejection::Delivered);
    }
}
