//! The carrier has given the parcel back, or never had it.

use super::{Order, OrderEvent, UndoRejection};

/// `ShipmentCancelled`, or nothing when no parcel is recorded as under way.
pub fn record_shipment_cancellation(order: &Order) -> Result<Vec<OrderEvent>, UndoRejection> {
    let under_way = order.course.held()?.is_some_and(|held| held.shipment.is_some());
    Ok(if under_way { vec![OrderEvent::ShipmentCancelled {}] } else { vec![] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{cancel_requested, created, given, paid, reserved, shipment_cancelled, shipped};

    #[test]
    fn the_shipment_of_a_cancelled_order_is_cancelled_once() {
        given([created(), reserved(), paid(), shipped(), cancel_requested()])
            .when(record_shipment_cancellation)
            .then([shipment_cancelled()]);
        given([created(), reserved(), paid(), shipped(), cancel_requested(), shipment_cancelled()])
            .when(record_shipment_cancellation)
            .then_nothing();
        given([created(), cancel_requested()]).when(record_shipment_cancellation).then_nothing();
    }

    #[test]
    fn the_shipment_of_an_order_that_stands_is_not_cancelled() {
        given([created(), reserved(), paid(), shipped()])
            .when(record_shipment_cancellation)
            .then_rejected(&UndoRejection::OrderStands);
    }
}
