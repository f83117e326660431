//! The carrier has answered: the parcel is taken on, or refused.

use super::{Course, Order, OrderEvent, RejectionReason, Shipment, StepRejection};

/// `ShipmentCreated`, or nothing when that is already recorded.
pub fn record_shipment(order: &Order, shipment: &Shipment) -> Result<Vec<OrderEvent>, StepRejection> {
    record(order, || OrderEvent::ShipmentCreated(shipment.clone()))
}

/// `ShipmentFailed`, or nothing when the parcel is already taken on.
pub fn record_shipment_failure(order: &Order, refusal_code: &str) -> Result<Vec<OrderEvent>, StepRejection> {
    let reason = RejectionReason::ShipmentRefused { refusal_code: refusal_code.to_owned() };
    record(order, || OrderEvent::ShipmentFailed { reason })
}

fn record(order: &Order, outcome: impl FnOnce() -> OrderEvent) -> Result<Vec<OrderEvent>, StepRejection> {
    match &order.course {
        Course::NotCreated => Err(StepRejection::UnknownOrder),
        Course::Created(_) | Course::Reserved(..) => Err(StepRejection::TooEarly),
        Course::Paid(..) => Ok(vec![outcome()]),
        Course::Shipped(..) | Course::Confirmed(..) | Course::Delivered(..) => Ok(vec![]),
        Course::Undoing(_, _, ending) | Course::Ended(_, ending) => {
            Err(StepRejection::NotToBeFulfilled(ending.clone()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{created, given, paid, reserved, shipment, shipment_failed, shipped};

    #[test]
    fn a_shipment_is_recorded_once() {
        given([created(), reserved(), paid()]).when(|order| record_shipment(order, &shipment())).then([shipped()]);
        given([created(), reserved(), paid(), shipped()])
            .when(|order| record_shipment(order, &shipment()))
            .then_nothing();
    }

    #[test]
    fn nothing_is_shipped_before_it_is_paid() {
        given([created(), reserved()])
            .when(|order| record_shipment(order, &shipment()))
            .then_rejected(&StepRejection::TooEarly);
    }

    #[test]
    fn a_refusal_is_recorded_unless_the_parcel_is_under_way() {
        given([created(), reserved(), paid()])
            .when(|order| record_shipment_failure(order, "address_unknown"))
            .then([shipment_failed()]);
        given([created(), reserved(), paid(), shipped()])
            .when(|order| record_shipment_failure(order, "address_unknown"))
            .then_nothing();
    }
}
