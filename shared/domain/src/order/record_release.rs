//! The inventory has let go of what it held.

use super::{Order, OrderEvent, UndoRejection};

/// `InventoryReleased`, or nothing when nothing is recorded as held.
pub fn record_release(order: &Order) -> Result<Vec<OrderEvent>, UndoRejection> {
    let held = order.course.held()?.is_some_and(|held| held.reservation.is_some());
    Ok(if held { vec![OrderEvent::InventoryReleased {}] } else { vec![] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{created, given, payment_failed, rejected, released, reservation_failed, reserved};

    #[test]
    fn the_stock_of_an_order_that_is_undone_is_released_once() {
        given([created(), reserved(), payment_failed()]).when(record_release).then([released()]);
        given([created(), reserved(), payment_failed(), released()]).when(record_release).then_nothing();
        given([created(), reserved(), payment_failed(), released(), rejected()]).when(record_release).then_nothing();
        given([created(), reservation_failed()]).when(record_release).then_nothing();
    }

    #[test]
    fn the_stock_of_an_order_that_stands_is_not_released() {
        given([created(), reserved()]).when(record_release).then_rejected(&UndoRejection::OrderStands);
        given([]).when(record_release).then_rejected(&UndoRejection::UnknownOrder);
    }
}
