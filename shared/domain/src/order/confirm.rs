//! The last step: everything is done, and the customer has been told.

use super::{Course, Order, OrderEvent, StepRejection};
use crate::ids::NotificationId;

/// `OrderConfirmed`, or nothing when that is already recorded.
pub fn confirm(order: &Order, notification_id: Option<&NotificationId>) -> Result<Vec<OrderEvent>, StepRejection> {
    match &order.course {
        Course::NotCreated => Err(StepRejection::UnknownOrder),
        Course::Created(_) | Course::Reserved(..) | Course::Paid(..) => Err(StepRejection::TooEarly),
        Course::Shipped(..) => Ok(vec![OrderEvent::OrderConfirmed { notification_id: notification_id.cloned() }]),
        Course::Confirmed(..) | Course::Delivered(..) => Ok(vec![]),
        Course::Undoing(_, _, ending) | Course::Ended(_, ending) => {
            Err(StepRejection::NotToBeFulfilled(ending.clone()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{confirmed, created, given, paid, reserved, shipped};

    #[test]
    fn a_shipped_order_is_confirmed_once() {
        let told = NotificationId("n-1".to_owned());
        given([created(), reserved(), paid(), shipped()]).when(|order| confirm(order, Some(&told))).then([confirmed()]);
        given([created(), reserved(), paid(), shipped(), confirmed()])
            .when(|order| confirm(order, None))
            .then_nothing();
    }

    #[test]
    fn an_order_is_not_confirmed_before_it_is_shipped() {
        given([created(), reserved(), paid()])
            .when(|order| confirm(order, None))
            .then_rejected(&StepRejection::TooEarly);
    }
}
