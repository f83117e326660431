//! The payment provider has given the money back, or never took it.

use super::{Order, OrderEvent, Payment, Refund, UndoRejection};

/// `PaymentRefunded`; before it `PaymentCompleted`, when the charge had gone through and nobody had recorded it.
/// Nothing when there was no charge, when staff's refunds had left nothing of it, or when its refund is already recorded.
pub fn record_refund(order: &Order, refunded: Option<&(Payment, Refund)>) -> Result<Vec<OrderEvent>, UndoRejection> {
    let (Some(held), Some((payment, refund))) = (order.course.held()?, refunded) else { return Ok(vec![]) };
    if held.refund.is_some() {
        return Ok(vec![]);
    }
    let refunded = OrderEvent::PaymentRefunded(refund.clone());
    Ok(match held.payment {
        Some(_) => vec![refunded],
        None => vec![OrderEvent::PaymentCompleted(payment.clone()), refunded],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{cancel_requested, created, given, paid, payment, refund, refunded, reserved};

    fn record(order: &Order) -> Result<Vec<OrderEvent>, UndoRejection> {
        record_refund(order, Some(&(payment(), refund())))
    }

    #[test]
    fn a_refund_is_recorded_once() {
        given([created(), reserved(), paid(), cancel_requested()]).when(record).then([refunded()]);
        given([created(), reserved(), paid(), cancel_requested(), refunded()]).when(record).then_nothing();
    }

    #[test]
    fn a_charge_that_nobody_had_recorded_is_recorded_with_its_refund() {
        given([created(), reserved(), cancel_requested()]).when(record).then([paid(), refunded()]);
        given([created(), reserved(), cancel_requested(), paid(), refunded()]).when(record).then_nothing();
    }

    #[test]
    fn where_nothing_was_charged_nothing_is_recorded() {
        given([created(), reserved(), cancel_requested()]).when(|order| record_refund(order, None)).then_nothing();
    }

    #[test]
    fn the_payment_of_an_order_that_stands_is_not_refunded() {
        given([created(), reserved(), paid()]).when(record).then_rejected(&UndoRejection::OrderStands);
    }
}
