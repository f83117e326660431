//! When may an order go on that asked for a person?

use super::{Course, Order, OrderEvent, Resumption};
use crate::text::Text;

/// Why an order does not go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResumeRejection {
    #[error("there is no such order")]
    UnknownOrder,
    #[error("the order is not stuck")]
    NotStuck,
}

/// `FulfilmentResumed`: an execution of its own goes on where the order stands, forward or with its undoing.
pub fn resume(order: &Order, reason: &Text<500>) -> Result<Vec<OrderEvent>, ResumeRejection> {
    match &order.attention {
        Some(stuck) => go_on(order, stuck.is_of_a_refund(), reason),
        None if order.course == Course::NotCreated => Err(ResumeRejection::UnknownOrder),
        None => Err(ResumeRejection::NotStuck),
    }
}

/// The same of an order that has not asked for a person, because whoever worked on it, or on its `refund`, has died.
pub fn go_on(order: &Order, refund: bool, reason: &Text<500>) -> Result<Vec<OrderEvent>, ResumeRejection> {
    match &order.course {
        Course::NotCreated => Err(ResumeRejection::UnknownOrder),
        _ if !order.is_open() => Err(ResumeRejection::NotStuck),
        course => {
            let (reason, undo) = (reason.clone(), matches!(course, Course::Undoing(..)));
            Ok(vec![OrderEvent::FulfilmentResumed(Resumption { reason, undo, refund })])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{
        cancel_requested, confirmed, created, flagged, flagged_at, given, paid, refund_requested, reserved,
        resume_reason, resumed, shipped,
    };

    fn by_staff(order: &Order) -> Result<Vec<OrderEvent>, ResumeRejection> {
        resume(order, &resume_reason())
    }

    #[test]
    fn a_stuck_order_goes_on_where_it_stands() {
        given([created(), reserved(), flagged()]).when(by_staff).then([resumed(false)]);
        given([created(), reserved(), paid(), cancel_requested(), flagged()]).when(by_staff).then([resumed(true)]);
    }

    #[test]
    fn a_refund_that_is_stuck_goes_on_as_one() {
        let resumption = Resumption { reason: resume_reason(), undo: false, refund: true };
        given([created(), reserved(), paid(), refund_requested(100), flagged_at("issue-refund")])
            .when(by_staff)
            .then([OrderEvent::FulfilmentResumed(resumption)]);
    }

    #[test]
    fn an_order_that_nobody_works_on_goes_on_unless_it_is_where_it_is_to_be() {
        let by_itself = |refund| move |order: &Order| go_on(order, refund, &resume_reason());
        given([created(), reserved()]).when(by_itself(false)).then([resumed(false)]);
        given([created(), reserved(), paid(), cancel_requested()]).when(by_itself(false)).then([resumed(true)]);
        let confirmed = [created(), reserved(), paid(), shipped(), confirmed()];
        given(confirmed.clone()).when(by_itself(false)).then_rejected(&ResumeRejection::NotStuck);
        let resumption = Resumption { reason: resume_reason(), undo: false, refund: true };
        given([confirmed.as_slice(), &[refund_requested(100)]].concat())
            .when(by_itself(true))
            .then([OrderEvent::FulfilmentResumed(resumption)]);
        given([]).when(by_itself(false)).then_rejected(&ResumeRejection::UnknownOrder);
    }

    #[test]
    fn an_order_that_is_not_stuck_is_not_resumed() {
        given([created(), reserved()]).when(by_staff).then_rejected(&ResumeRejection::NotStuck);
        given([created(), reserved(), flagged(), resumed(false)])
            .when(by_staff)
            .then_rejected(&ResumeRejection::NotStuck);
        given([created(), reserved(), flagged(), paid()]).when(by_staff).then_rejected(&ResumeRejection::NotStuck);
        given([]).when(by_staff).then_rejected(&ResumeRejection::UnknownOrder);
    }
}
