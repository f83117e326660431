//! The inventory has let go of what it held for an order that failed.

use super::{Order, OrderEvent};

/// Why a release may not be recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseRejection {
    #[error("there is no such order")]
    UnknownOrder,
    #[error("the order has not failed, so its stock stays reserved")]
    OrderStands,
}

/// May the stock be given back? To be asked before the inventory is.
pub fn may_release(order: &Order) -> Result<(), ReleaseRejection> {
    match order {
        Order::NotCreated => Err(ReleaseRejection::UnknownOrder),
        Order::Created(_) | Order::Reserved(..) | Order::Paid(..) | Order::Shipped(..) | Order::Confirmed(..) => {
            Err(ReleaseRejection::OrderStands)
        }
        Order::Failed(..) | Order::Rejected(..) => Ok(()),
    }
}

/// `InventoryReleased`, or nothing when nothing is held any more.
pub fn record_release(order: &Order) -> Result<Vec<OrderEvent>, ReleaseRejection> {
    may_release(order)?;
    match order {
        Order::Failed(_, Some(_), _) => Ok(vec![OrderEvent::InventoryReleased {}]),
        _ => Ok(vec![]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{created, given, payment_failed, rejected, released, reservation_failed, reserved};

    #[test]
    fn the_stock_of_a_failed_order_is_released_once() {
        given([created(), reserved(), payment_failed()]).when(record_release).then([released()]);
        given([created(), reserved(), payment_failed(), released()]).when(record_release).then_nothing();
        given([created(), reserved(), payment_failed(), released(), rejected()]).when(record_release).then_nothing();
        given([created(), reservation_failed()]).when(record_release).then_nothing();
    }

    #[test]
    fn the_stock_of_an_order_that_stands_is_not_released() {
        given([created(), reserved()]).when(record_release).then_rejected(&ReleaseRejection::OrderStands);
        given([]).when(record_release).then_rejected(&ReleaseRejection::UnknownOrder);
    }
}
