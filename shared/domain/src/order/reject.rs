//! The end of an order that failed: only when nothing is held for it any more.

use super::{Order, OrderEvent};

/// Why an order may not be rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RejectRejection {
    #[error("there is no such order")]
    UnknownOrder,
    #[error("no step of the order has failed")]
    OrderStands,
    #[error("stock is still reserved for the order")]
    StockStillHeld,
}

/// `OrderRejected` with the reason that the failed step gave, or nothing when that is already recorded.
pub fn reject(order: &Order) -> Result<Vec<OrderEvent>, RejectRejection> {
    match order {
        Order::NotCreated => Err(RejectRejection::UnknownOrder),
        Order::Created(_) | Order::Reserved(..) | Order::Paid(..) | Order::Shipped(..) | Order::Confirmed(..) => {
            Err(RejectRejection::OrderStands)
        }
        Order::Failed(_, Some(_), _) => Err(RejectRejection::StockStillHeld),
        Order::Failed(_, None, reason) => Ok(vec![OrderEvent::OrderRejected { reason: reason.clone() }]),
        Order::Rejected(..) => Ok(vec![]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{created, given, payment_failed, rejected, released, reserved};

    #[test]
    fn a_failed_order_that_holds_nothing_is_rejected_once_with_its_reason() {
        given([created(), reserved(), payment_failed(), released()]).when(reject).then([rejected()]);
        given([created(), reserved(), payment_failed(), released(), rejected()]).when(reject).then_nothing();
    }

    #[test]
    fn an_order_is_not_rejected_while_stock_is_held_or_nothing_has_failed() {
        given([created(), reserved(), payment_failed()]).when(reject).then_rejected(&RejectRejection::StockStillHeld);
        given([created(), reserved()]).when(reject).then_rejected(&RejectRejection::OrderStands);
    }
}
