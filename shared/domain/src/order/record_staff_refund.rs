//! The payment provider has answered a refund that staff requested: the money has gone back, or does not go.

use super::{CompletedRefund, FailedRefund, Order, OrderEvent, Refund, RefundState};
use crate::ids::RefundId;

/// Nobody has requested this refund.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("nobody has requested this refund")]
pub struct StaffRefundRejection;

/// `RefundCompleted`, or nothing when that is already recorded. The provider's word stands also against a refund that was
/// given up while it was on its way.
pub fn record_staff_refund(
    order: &Order,
    refund_id: RefundId,
    refund: &Refund,
) -> Result<Vec<OrderEvent>, StaffRefundRejection> {
    let completed = OrderEvent::RefundCompleted(CompletedRefund { refund_id, refund: refund.clone() });
    match state_of(order, refund_id)? {
        RefundState::Requested | RefundState::Failed => Ok(vec![completed]),
        RefundState::Completed => Ok(vec![]),
    }
}

/// `RefundFailed`, or nothing when the refund's outcome is already recorded.
pub fn record_staff_refund_failure(
    order: &Order,
    failed: &FailedRefund,
) -> Result<Vec<OrderEvent>, StaffRefundRejection> {
    match state_of(order, failed.refund_id)? {
        RefundState::Requested => Ok(vec![OrderEvent::RefundFailed(failed.clone())]),
        RefundState::Completed | RefundState::Failed => Ok(vec![]),
    }
}

fn state_of(order: &Order, refund_id: RefundId) -> Result<RefundState, StaffRefundRejection> {
    let refund = order.refunds.iter().find(|refund| refund.requested.refund_id == refund_id);
    refund.map(|refund| refund.state).ok_or(StaffRefundRejection)
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
            given([created(), reserved(), paid(), refund_requested(100), settled]).when(failed).then_nothing();
        }
        given([created(), reserved(), paid(), refund_requested(100), refund_completed(100)])
            .when(completed)
            .then_nothing();
    }

    #[test]
    fn a_refund_that_was_given_up_on_its_way_is_recorded_when_it_arrives() {
        given([created(), reserved(), paid(), refund_requested(100), refund_failed(100)])
            .when(completed)
            .then([refund_completed(100)]);
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
