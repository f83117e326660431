//! May fulfilment begin? A valid order needs no event: nothing about it has changed.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Course, Order, OrderEvent, RejectionReason, StepRejection};

/// How long an order's prices bind the seller: as long as its whole fulfilment may take.
const VALID_FOR: TimeDelta = TimeDelta::hours(24);

/// `ValidationFailed` when the order came too late to be begun; nothing when it may go on or already has.
pub fn validate(order: &Order, now: DateTime<Utc>) -> Result<Vec<OrderEvent>, StepRejection> {
    match &order.course {
        Course::NotCreated => Err(StepRejection::UnknownOrder),
        Course::Created(placed) if now.signed_duration_since(placed.created_at) > VALID_FOR => {
            Ok(vec![OrderEvent::ValidationFailed { reason: RejectionReason::Expired }])
        }
        Course::Created(_)
        | Course::Reserved(..)
        | Course::Paid(..)
        | Course::Shipped(..)
        | Course::Confirmed(..)
        | Course::Delivered(..) => Ok(vec![]),
        Course::Undoing(_, _, ending) | Course::Ended(_, ending) => {
            Err(StepRejection::NotToBeFulfilled(ending.clone()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::Ending;
    use crate::spec::{at, created, declined, given, payment_failed, reserved};

    #[test]
    fn a_fresh_order_is_valid_and_records_nothing() {
        given([created()]).when(|order| validate(order, at(60))).then_nothing();
    }

    #[test]
    fn an_order_that_waited_for_more_than_a_day_has_expired() {
        let day = 24 * 60 * 60;
        given([created()]).when(|order| validate(order, at(day))).then_nothing();
        given([created()])
            .when(|order| validate(order, at(day + 1)))
            .then([OrderEvent::ValidationFailed { reason: RejectionReason::Expired }]);
    }

    #[test]
    fn an_order_under_way_does_not_expire() {
        given([created(), reserved()]).when(|order| validate(order, at(999_999))).then_nothing();
    }

    #[test]
    fn a_failed_or_unknown_order_is_not_valid() {
        given([]).when(|order| validate(order, at(0))).then_rejected(&StepRejection::UnknownOrder);
        given([created(), reserved(), payment_failed()])
            .when(|order| validate(order, at(0)))
            .then_rejected(&StepRejection::NotToBeFulfilled(Ending::Rejected(declined())));
    }
}
