//! The inventory has answered: the stock is held, or it does not suffice.

use super::{Course, Order, OrderEvent, RejectionReason, Reservation, Shortage, StepRejection};

/// `InventoryReserved`, or nothing when that is already recorded.
pub fn record_reservation(order: &Order, reservation: &Reservation) -> Result<Vec<OrderEvent>, StepRejection> {
    record(order, || OrderEvent::InventoryReserved(reservation.clone()))
}

/// `ReservationFailed`, or nothing when the stock is already held.
pub fn record_reservation_failure(order: &Order, unavailable: &[Shortage]) -> Result<Vec<OrderEvent>, StepRejection> {
    let reason = RejectionReason::OutOfStock { unavailable: unavailable.to_vec() };
    record(order, || OrderEvent::ReservationFailed { reason })
}

fn record(order: &Order, outcome: impl FnOnce() -> OrderEvent) -> Result<Vec<OrderEvent>, StepRejection> {
    match &order.course {
        Course::NotCreated => Err(StepRejection::UnknownOrder),
        Course::Created(_) => Ok(vec![outcome()]),
        Course::Reserved(..)
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
    use crate::spec::{
        created, declined, given, paid, payment_failed, reservation, reservation_failed, reserved, shortage,
    };

    #[test]
    fn a_reservation_is_recorded_once() {
        given([created()]).when(|order| record_reservation(order, &reservation())).then([reserved()]);
        given([created(), reserved()]).when(|order| record_reservation(order, &reservation())).then_nothing();
        given([created(), reserved(), paid()]).when(|order| record_reservation(order, &reservation())).then_nothing();
    }

    #[test]
    fn a_shortage_is_recorded_unless_the_stock_is_held() {
        given([created()]).when(|order| record_reservation_failure(order, &[shortage()])).then([reservation_failed()]);
        given([created(), reserved()]).when(|order| record_reservation_failure(order, &[shortage()])).then_nothing();
    }

    #[test]
    fn an_order_that_has_failed_reserves_nothing() {
        given([created(), reserved(), payment_failed()])
            .when(|order| record_reservation(order, &reservation()))
            .then_rejected(&StepRejection::NotToBeFulfilled(Ending::Rejected(declined())));
        given([]).when(|order| record_reservation(order, &reservation())).then_rejected(&StepRejection::UnknownOrder);
    }
}
