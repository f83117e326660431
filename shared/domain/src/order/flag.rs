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
        Course::Confirmed(..) | Course::Ended(..) => Ok(vec![]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{
        attention, confirmed, created, flagged, given, paid, rejected, reservation_failed, reserved, resumed, shipped,
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
}
