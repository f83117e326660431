//! The payment provider has answered: the charge went through, or it was declined.

use super::{Course, Order, OrderEvent, Payment, RejectionReason, StepRejection};

/// `PaymentCompleted`, or nothing when that is already recorded.
pub fn record_payment(order: &Order, payment: &Payment) -> Result<Vec<OrderEvent>, StepRejection> {
    record(order, || OrderEvent::PaymentCompleted(payment.clone()))
}

/// `PaymentNotRequired` for an order that costs nothing, or nothing when that is already recorded.
pub fn record_no_payment(order: &Order) -> Result<Vec<OrderEvent>, StepRejection> {
    record(order, || OrderEvent::PaymentNotRequired {})
}

/// `PaymentFailed`, or nothing when the order is already paid.
pub fn record_payment_failure(order: &Order, decline_code: &str) -> Result<Vec<OrderEvent>, StepRejection> {
    let reason = RejectionReason::PaymentDeclined { decline_code: decline_code.to_owned() };
    record(order, || OrderEvent::PaymentFailed { reason })
}

fn record(order: &Order, outcome: impl FnOnce() -> OrderEvent) -> Result<Vec<OrderEvent>, StepRejection> {
    match &order.course {
        Course::NotCreated => Err(StepRejection::UnknownOrder),
        Course::Created(_) => Err(StepRejection::TooEarly),
        Course::Reserved(..) => Ok(vec![outcome()]),
        Course::Paid(..) | Course::Shipped(..) | Course::Confirmed(..) | Course::Delivered(..) => Ok(vec![]),
        Course::Undoing(_, _, ending) | Course::Ended(_, ending) => {
            Err(StepRejection::NotToBeFulfilled(ending.clone()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::Ending;
    use crate::spec::{created, declined, given, paid, payment, payment_failed, reserved, shipped};

    #[test]
    fn a_payment_is_recorded_once() {
        given([created(), reserved()]).when(|order| record_payment(order, &payment())).then([paid()]);
        given([created(), reserved(), paid()]).when(|order| record_payment(order, &payment())).then_nothing();
        given([created(), reserved(), paid(), shipped()])
            .when(|order| record_payment(order, &payment()))
            .then_nothing();
    }

    #[test]
    fn an_order_that_costs_nothing_is_as_good_as_paid() {
        let free = OrderEvent::PaymentNotRequired {};
        given([created(), reserved()]).when(record_no_payment).then([free.clone()]);
        given([created(), reserved(), free.clone()]).when(record_no_payment).then_nothing();
        given([created()]).when(record_no_payment).then_rejected(&StepRejection::TooEarly);
        let order = Order::from_events(&[created(), reserved(), free, shipped()]);
        assert!(matches!(order.course, Course::Shipped(_, _, None, _)));
    }

    #[test]
    fn a_decline_is_recorded_unless_the_order_is_paid() {
        given([created(), reserved()])
            .when(|order| record_payment_failure(order, "card_declined"))
            .then([payment_failed()]);
        given([created(), reserved(), paid()])
            .when(|order| record_payment_failure(order, "card_declined"))
            .then_nothing();
    }

    #[test]
    fn nothing_is_paid_before_the_stock_is_held_or_after_the_order_has_failed() {
        given([created()]).when(|order| record_payment(order, &payment())).then_rejected(&StepRejection::TooEarly);
        given([created(), reserved(), payment_failed()])
            .when(|order| record_payment(order, &payment()))
            .then_rejected(&StepRejection::NotToBeFulfilled(Ending::Rejected(declined())));
    }
}
