//! The books as an order's events keep them.

use super::{OrderEvent, OrderItem};
use crate::{
    books::{Books, ReservedLine, ShipmentBook},
    money::{Money, MoneyError},
};

impl Books {
    /// `None` before the order is created.
    pub fn of(events: &[OrderEvent]) -> Result<Option<Self>, MoneyError> {
        let Some(OrderEvent::OrderCreated(placed)) = events.first() else { return Ok(None) };
        let zero = Money::zero(placed.total_amount.currency());
        let mut books = Self { charged: zero, refunded: zero, reserved: Vec::new(), shipment: ShipmentBook::None };
        for event in events {
            match event {
                OrderEvent::PaymentCompleted(payment) => books.charged = books.charged.plus(payment.amount)?,
                OrderEvent::PaymentRefunded(refund) => books.refunded = books.refunded.plus(refund.amount)?,
                OrderEvent::RefundCompleted(completed) => {
                    books.refunded = books.refunded.plus(completed.refund.amount)?;
                }
                OrderEvent::InventoryReserved(_) => {
                    let line = |item: &OrderItem| ReservedLine {
                        product_id: item.product_id.clone(),
                        quantity: item.quantity,
                    };
                    books.reserved = placed.items.iter().map(line).collect();
                    books.reserved.sort_unstable();
                }
                OrderEvent::InventoryReleased {} => books.reserved.clear(),
                OrderEvent::ShipmentCreated(_) => books.shipment = ShipmentBook::Created,
                OrderEvent::ShipmentCancelled {} => books.shipment = ShipmentBook::Cancelled,
                OrderEvent::ShipmentDelivered { .. } => books.shipment = ShipmentBook::Delivered,
                OrderEvent::OrderCreated(_)
                | OrderEvent::ValidationFailed { .. }
                | OrderEvent::ReservationFailed { .. }
                | OrderEvent::PaymentFailed { .. }
                | OrderEvent::OrderConfirmed { .. }
                | OrderEvent::OrderRejected { .. }
                | OrderEvent::ShipmentFailed { .. }
                | OrderEvent::OrderCancelRequested { .. }
                | OrderEvent::OrderCancelled { .. }
                | OrderEvent::OrderFlagged(_)
                | OrderEvent::FulfilmentResumed(_)
                | OrderEvent::RefundRequested(_)
                | OrderEvent::RefundFailed(_)
                | OrderEvent::StepSkipped(_)
                | OrderEvent::PaymentNotRequired {}
                | OrderEvent::BooksCompared(_) => {}
            }
        }
        Ok(Some(books))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::Quantity;
    use crate::spec::{
        cancel_requested, confirmed, created, delivered, money, paid, product_id, refund_completed, refund_failed,
        refund_requested, refunded, released, reserved, shipment_cancelled, shipped,
    };

    #[test]
    fn the_books_of_a_confirmed_order_hold_money_stock_and_parcel() {
        let books = Books::of(&[created(), reserved(), paid(), shipped(), confirmed()]).unwrap().unwrap();
        let line = ReservedLine { product_id: product_id("tea"), quantity: Quantity::new(2).unwrap() };
        let expected =
            Books { charged: money(3998), refunded: money(0), reserved: vec![line], shipment: ShipmentBook::Created };
        assert_eq!(books, expected);
    }

    #[test]
    fn the_books_of_an_order_that_is_undone_balance() {
        let undone = [shipment_cancelled(), refunded(), released()];
        let done = [created(), reserved(), paid(), shipped(), cancel_requested()];
        let books = Books::of(&[done.as_slice(), undone.as_slice()].concat()).unwrap().unwrap();
        assert_eq!((books.charged, books.refunded), (money(3998), money(3998)));
        assert_eq!((books.reserved, books.shipment), (vec![], ShipmentBook::Cancelled));
    }

    #[test]
    fn what_staff_give_back_of_a_delivered_order_is_in_its_books() {
        let delivered = [created(), reserved(), paid(), shipped(), confirmed(), delivered()];
        let refunds = [refund_requested(100), refund_completed(100), refund_requested(50), refund_failed(50)];
        let books = Books::of(&[delivered.as_slice(), refunds.as_slice()].concat()).unwrap().unwrap();
        assert_eq!((books.charged, books.refunded), (money(3998), money(100)));
        assert_eq!(books.shipment, ShipmentBook::Delivered);
    }

    #[test]
    fn books_agree_when_money_stock_and_parcel_are_where_both_say() {
        let of = |events: &[OrderEvent]| Books::of(events).unwrap().unwrap();
        let shipped_order = of(&[created(), reserved(), paid(), shipped()]);
        assert!(shipped_order.agrees_with(&shipped_order));
        assert!(!shipped_order.agrees_with(&of(&[created(), reserved(), paid()])));
        assert!(!shipped_order.agrees_with(&of(&[created(), reserved()])));
        let never = of(&[created(), cancel_requested()]);
        assert!(never.agrees_with(&Books { shipment: ShipmentBook::Cancelled, ..never.clone() }));
    }

    #[test]
    fn an_order_that_does_not_exist_has_no_books() {
        assert_eq!(Books::of(&[]), Ok(None));
    }
}
