//! A step did not get done after all its tries: the order asks for a person.

use super::{Attention, Course, Order, OrderEvent};

/// There is no such order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no such order")]
pub struct FlagRejection;

/// `OrderFlagged`, or nothing when the same is flagged already, or the order has come to its end all the same.
pub fn flag(order: &Order, attention: &Attention) -> Result<Vec<OrderEvent>, FlagRejection> {
    if order.attention.as_ref() == Some(attention) {
        return Ok(vec![]);
    }
    match &order.course {
        Course::NotCreated => Err(FlagRejection),
        Course::Created(_) | Course::Reserved(..) | Course::Paid(..) | Course::Shipped(..) | Course::Undoing(..) => {
            Ok(vec![OrderEvent::OrderFlagged(attention.clone())])
        }
        // A refund may be stuck long after the order itself has come to its end.
        Course::Confirmed(..) | Course::Delivered(..) | Course::Ended(..) if order.open_refunds().next().is_some() => {
            Ok(vec![OrderEvent::OrderFlagged(attention.clone())])
        }
        Course::Confirmed(..) | Course::Delivered(..) | Course::Ended(..) => Ok(vec![]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{
        attention, confirmed, created, flagged, given, paid, refund_completed, refund_requested, rejected,
        reservation_failed, reserved, resumed, shipped,
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
        given([created(), reserved(), paid(), shipped(), confirmed(), refund_requested(100)])
            .when(|order| flag(order, &attention()))
            .then([flagged()]);
        given([created(), reserved(), paid(), shipped(), confirmed(), refund_requested(100), refund_completed(100)])
            .when(|order| flag(order, &attention()))
            .then_nothing();
    }
}
