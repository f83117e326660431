//! The payment provider has answered a refund that staff requested: the money has gone back, or does not go.

use super::{CompletedRefund, FailedRefund, Order, OrderEvent, Refund};
use crate::ids::RefundId;

/// Nobody has requested this refund.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("nobody has requested this refund")]
pub struct StaffRefundRejection;

/// `RefundCompleted`, or nothing when the refund's outcome is already recorded.
pub fn record_staff_refund(
    order: &Order,
    refund_id: RefundId,
    refund: &Refund,
) -> Result<Vec<OrderEvent>, StaffRefundRejection> {
    record(order, refund_id, || OrderEvent::RefundCompleted(CompletedRefund { refund_id, refund: refund.clone() }))
}

/// `RefundFailed`, or nothing when the refund's outcome is already recorded.
pub fn record_staff_refund_failure(
    order: &Order,
    failed: &FailedRefund,
) -> Result<Vec<OrderEvent>, StaffRefundRejection> {
    record(order, failed.refund_id, || OrderEvent::RefundFailed(failed.clone()))
}

fn record(
    order: &Order,
    refund_id: RefundId,
    outcome: impl FnOnce() -> OrderEvent,
) -> Result<Vec<OrderEvent>, StaffRefundRejection> {
    if order.open_refunds().any(|open| open.refund_id == refund_id) {
        Ok(vec![outcome()])
    } else if order.refunds.iter().any(|refund| refund.requested.refund_id == refund_id) {
        Ok(vec![])
    } else {
        Err(StaffRefundRejection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{
        cancel_requested, cancelled, created, given, money, paid, refund, refund_completed, refund_failed, refund_id,
        refund_requested, refunded, released, reserved,
    };

    fn completed(order: &Order) -> Result<Vec<OrderEvent>, StaffRefundRejection> {
        record_staff_refund(order, refund_id(), &Refund { amount: money(100), ..refund() })
    }

    fn failed(order: &Order) -> Result<Vec<OrderEvent>, StaffRefundRejection> {
        let reason = "too_much".to_owned();
        record_staff_refund_failure(order, &FailedRefund { refund_id: refund_id(), amount: money(100), reason })
    }

    #[test]
    fn a_requested_refund_is_completed_or_failed_once() {
        given([created(), reserved(), paid(), refund_requested(100)]).when(completed).then([refund_completed(100)]);
        given([created(), reserved(), paid(), refund_requested(100)]).when(failed).then([refund_failed(100)]);
        for settled in [refund_completed(100), refund_failed(100)] {
            given([created(), reserved(), paid(), refund_requested(100), settled.clone()]).when(failed).then_nothing();
            given([created(), reserved(), paid(), refund_requested(100), settled]).when(completed).then_nothing();
        }
    }

    #[test]
    fn the_outcome_of_a_refund_is_recorded_also_after_the_orders_end() {
        let undone = [refund_requested(100), cancel_requested(), refunded(), released(), cancelled()];
        given([[created(), reserved(), paid()].as_slice(), &undone].concat())
            .when(completed)
            .then([refund_completed(100)]);
    }

    #[test]
    fn what_nobody_has_requested_is_not_recorded() {
        given([created(), reserved(), paid()]).when(completed).then_rejected(&StaffRefundRejection);
    }
}
