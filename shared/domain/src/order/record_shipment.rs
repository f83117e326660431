//! The carrier has taken the parcel on.

use super::{Order, OrderEvent, Shipment, StepRejection};

/// `ShipmentCreated`, or nothing when that is already recorded.
pub fn record_shipment(order: &Order, shipment: &Shipment) -> Result<Vec<OrderEvent>, StepRejection> {
    match order {
        Order::NotCreated => Err(StepRejection::UnknownOrder),
        Order::Created(_) | Order::Reserved(..) => Err(StepRejection::TooEarly),
        Order::Paid(..) => Ok(vec![OrderEvent::ShipmentCreated(shipment.clone())]),
        Order::Shipped(..) | Order::Confirmed(..) => Ok(vec![]),
        Order::Failed(_, _, reason) | Order::Rejected(_, reason) => Err(StepRejection::OrderFailed(reason.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{created, given, paid, reserved, shipment, shipped};

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
}
