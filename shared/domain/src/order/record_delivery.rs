//! The parcel has arrived.

use chrono::{DateTime, Utc};

use super::{Course, Order, OrderEvent, SkippableStep};

/// Why a delivery is not recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryRejection {
    #[error("there is no such order")]
    UnknownOrder,
    #[error("no parcel of the order is under way")]
    NotUnderWay,
}

/// `ShipmentDelivered`, or nothing when that is already recorded. It ends a cancel that has not got the parcel back: the
/// order stands. A customer who has the parcel needs no more telling, so it confirms an order that was not confirmed yet.
pub fn record_delivery(order: &Order, delivered_at: DateTime<Utc>) -> Result<Vec<OrderEvent>, DeliveryRejection> {
    let delivered = OrderEvent::ShipmentDelivered { delivered_at };
    match &order.course {
        Course::NotCreated => Err(DeliveryRejection::UnknownOrder),
        Course::Shipped(..) => Ok(vec![OrderEvent::OrderConfirmed { notification_id: None }, delivered]),
        Course::Confirmed(..) => Ok(vec![delivered]),
        // Unless staff have given the parcel up, and the money goes back all the same.
        Course::Undoing(_, held, _)
            if held.is_paid() && held.shipment.is_some() && !held.is_skipped(SkippableStep::CancelShipment) =>
        {
            Ok(vec![delivered])
        }
        Course::Delivered(..) => Ok(vec![]),
        Course::Created(_) | Course::Reserved(..) | Course::Paid(..) | Course::Undoing(..) | Course::Ended(..) => {
            Err(DeliveryRejection::NotUnderWay)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{
        at, cancel_requested, cancelled, confirmed, created, delivered, given, paid, refunded, released, reserved,
        shipment_cancelled, shipped, skipped,
    };

    fn arrive(order: &Order) -> Result<Vec<OrderEvent>, DeliveryRejection> {
        record_delivery(order, at(90))
    }

    #[test]
    fn a_parcel_arrives_once() {
        given([created(), reserved(), paid(), shipped(), confirmed()]).when(arrive).then([delivered()]);
        given([created(), reserved(), paid(), shipped(), confirmed(), delivered()]).when(arrive).then_nothing();
    }

    #[test]
    fn a_parcel_that_arrives_before_the_confirmation_confirms_the_order() {
        let untold = OrderEvent::OrderConfirmed { notification_id: None };
        given([created(), reserved(), paid(), shipped()]).when(arrive).then([untold, delivered()]);
    }

    #[test]
    fn a_parcel_that_was_faster_than_the_cancel_makes_the_order_stand() {
        given([created(), reserved(), paid(), shipped(), confirmed(), cancel_requested()])
            .when(arrive)
            .then([delivered()]);
        given([created(), reserved(), paid(), shipped(), confirmed(), cancel_requested(), delivered()])
            .when(arrive)
            .then_nothing();
    }

    #[test]
    fn the_parcel_of_an_order_that_costs_nothing_is_as_fast_as_any_other() {
        let free = OrderEvent::PaymentNotRequired {};
        let undoing = [created(), reserved(), free, shipped(), confirmed(), cancel_requested()];
        given(undoing.clone()).when(arrive).then([delivered()]);
        given([undoing.as_slice(), &[delivered()]].concat()).when(arrive).then_nothing();
    }

    #[test]
    fn a_parcel_that_staff_have_given_up_does_not_stop_the_undoing() {
        let undoing = [created(), reserved(), paid(), shipped(), confirmed(), cancel_requested()];
        given([undoing.as_slice(), &[skipped(SkippableStep::CancelShipment)]].concat())
            .when(arrive)
            .then_rejected(&DeliveryRejection::NotUnderWay);
    }

    #[test]
    fn what_is_not_under_way_does_not_arrive() {
        given([created(), reserved(), paid()]).when(arrive).then_rejected(&DeliveryRejection::NotUnderWay);
        given([created(), reserved(), paid(), shipped(), cancel_requested(), shipment_cancelled()])
            .when(arrive)
            .then_rejected(&DeliveryRejection::NotUnderWay);
        given([created(), reserved(), paid(), cancel_requested(), refunded(), released(), cancelled()])
            .when(arrive)
            .then_rejected(&DeliveryRejection::NotUnderWay);
        given([]).when(arrive).then_rejected(&DeliveryRejection::UnknownOrder);
    }
}
