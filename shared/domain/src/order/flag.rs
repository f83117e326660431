//! A step did not get done after all its tries: the order asks for a person.

use super::{Attention, Course, Order, OrderEvent};

/// There is no such order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no such order")]
pub struct FlagRejection;

/// `OrderFlagged`, or nothing when the same is flagged already, or nothing is to be done that the step could have done. A
/// flag may come late: from an execution that did not hear of its step's success, when another one has gone on long since.
pub fn flag(order: &Order, attention: &Attention) -> Result<Vec<OrderEvent>, FlagRejection> {
    let is_needed = match &order.course {
        Course::NotCreated => return Err(FlagRejection),
        Course::Created(_) | Course::Reserved(..) | Course::Paid(..) | Course::Shipped(..) | Course::Undoing(..) => {
            true
        }
        // At rest, only a refund may still be stuck, or the books differ.
        Course::Confirmed(..) | Course::Delivered(..) | Course::Ended(..) if attention.is_of_the_books() => {
            order.in_doubt
        }
        Course::Confirmed(..) | Course::Delivered(..) | Course::Ended(..) => {
            attention.is_of_a_refund() && order.open_refunds().next().is_some()
        }
    };
    let is_new = order.attention.as_ref() != Some(attention);
    Ok(if is_needed && is_new { vec![OrderEvent::OrderFlagged(attention.clone())] } else { vec![] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{
        attention, cancel_requested, cancelled, confirmed, created, flagged, flagged_at, given, paid, refund_completed,
        refund_requested, refunded, rejected, reservation_failed, reserved, resumed, shipped,
    };

    #[test]
    fn an_order_that_is_under_way_can_be_flagged() {
        given([created(), reserved()]).when(|order| flag(order, &attention())).then([flagged()]);
        given([created(), reservation_failed()]).when(|order| flag(order, &attention())).then([flagged()]);
    }

    #[test]
    fn the_same_is_flagged_once_and_again_after_the_order_went_on() {
        given([created(), reserved(), flagged()]).when(|order| flag(order, &attention())).then_nothing();
        given([created(), reserved(), flagged(), resumed(false)])
            .when(|order| flag(order, &attention()))
            .then([flagged()]);
    }

    #[test]
    fn an_order_that_is_at_its_end_needs_nobody() {
        given([created(), reservation_failed(), rejected()]).when(|order| flag(order, &attention())).then_nothing();
        given([created(), reserved(), paid(), shipped(), confirmed()])
            .when(|order| flag(order, &attention()))
            .then_nothing();
        given([]).when(|order| flag(order, &attention())).then_rejected(&FlagRejection);
    }

    #[test]
    fn a_refund_that_is_stuck_is_flagged_whatever_became_of_the_order() {
        let stuck = Attention { step: "issue-refund".to_owned(), ..attention() };
        given([created(), reserved(), paid(), shipped(), confirmed(), refund_requested(100)])
            .when(|order| flag(order, &stuck))
            .then([flagged_at("issue-refund")]);
        given([created(), reserved(), paid(), shipped(), confirmed(), refund_requested(100), refund_completed(100)])
            .when(|order| flag(order, &stuck))
            .then_nothing();
    }

    #[test]
    fn the_late_flag_of_another_step_says_nothing_of_an_order_that_waits_for_a_refund_only() {
        given([created(), reserved(), paid(), shipped(), confirmed(), refund_requested(100)])
            .when(|order| flag(order, &attention()))
            .then_nothing();
        given([created(), reserved(), paid(), refund_requested(100), cancel_requested(), refunded(), cancelled()])
            .when(|order| flag(order, &attention()))
            .then_nothing();
    }
}
