//! The steps of the fulfilment on the real domain and application code: each run twice, each failed at its append.
//! Whatever happens, the money and the stock must be right afterwards.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

mod support;

use application::{create_order::CreateOrderError, fulfilment::StepError, memory::Fault};
use domain::{ids::OrderId, order::Order};
use support::{STEPS, Shop, Step, cny};
use uuid::Uuid;

const HAPPY: [&str; 5] = ["OrderCreated", "InventoryReserved", "PaymentCompleted", "ShipmentCreated", "OrderConfirmed"];
const DECLINED: [&str; 5] =
    ["OrderCreated", "InventoryReserved", "PaymentFailed", "InventoryReleased", "OrderRejected"];

fn order_id() -> OrderId {
    OrderId::new(Uuid::new_v4())
}

async fn assert_fulfilled(shop: &Shop, id: OrderId) {
    assert_eq!(shop.event_types(id).await, HAPPY);
    assert!(matches!(shop.order(id).await, Order::Confirmed(..)));
    assert_eq!(shop.balance(id).await, cny(3998));
    assert_eq!(shop.stock().await, 8);
    assert_eq!(shop.shipping.shipments(), 1);
    assert_eq!(shop.notifications.sent().len(), 1);
}

async fn assert_undone(shop: &Shop, id: OrderId) {
    assert!(matches!(shop.order(id).await, Order::Rejected(..)));
    assert_eq!(shop.balance(id).await, cny(0));
    assert_eq!(shop.stock().await, 10);
    assert_eq!(shop.shipping.shipments(), 0);
    assert_eq!(shop.notifications.sent().len(), 0);
}

#[tokio::test]
async fn an_order_is_reserved_paid_shipped_and_confirmed() {
    let (shop, id) = (Shop::with_stock(10).await, order_id());
    shop.place(id, "pm_card_visa").await.unwrap();
    shop.fulfil(id, 1).await.unwrap();
    assert_fulfilled(&shop, id).await;
}

#[tokio::test]
async fn a_declined_order_gets_its_stock_released_and_is_rejected() {
    let (shop, id) = (Shop::with_stock(10).await, order_id());
    shop.place(id, "pm_card_declined").await.unwrap();
    shop.fulfil(id, 1).await.unwrap();
    assert_eq!(shop.event_types(id).await, DECLINED);
    assert_undone(&shop, id).await;
}

#[tokio::test]
async fn an_order_whose_stock_went_to_others_is_rejected() {
    let (shop, id) = (Shop::with_stock(10).await, order_id());
    shop.place(id, "pm_card_visa").await.unwrap();
    shop.set_stock(1).await;
    shop.fulfil(id, 1).await.unwrap();
    assert_eq!(shop.event_types(id).await, ["OrderCreated", "ReservationFailed", "OrderRejected"]);
    assert_eq!(shop.stock().await, 1);
}

#[tokio::test]
async fn running_every_step_twice_changes_nothing() {
    let (shop, good, bad) = (Shop::with_stock(10).await, order_id(), order_id());
    shop.place(bad, "pm_card_declined").await.unwrap();
    shop.fulfil(bad, 2).await.unwrap();
    assert_eq!(shop.event_types(bad).await, DECLINED);
    assert_undone(&shop, bad).await;
    shop.place(good, "pm_card_visa").await.unwrap();
    shop.fulfil(good, 2).await.unwrap();
    assert_fulfilled(&shop, good).await;
}

#[tokio::test]
async fn a_second_execution_for_the_same_order_does_no_harm() {
    let (shop, id) = (Shop::with_stock(10).await, order_id());
    shop.place(id, "pm_card_visa").await.unwrap();
    let (first, second) = tokio::join!(shop.fulfil(id, 1), shop.fulfil(id, 1));
    assert!(first.is_ok() && second.is_ok());
    assert_fulfilled(&shop, id).await;
}

/// The crash between the provider's answer and the append, and the append whose answer is lost.
#[tokio::test]
async fn a_step_that_stops_at_its_append_is_finished_by_running_it_again() {
    for fault in [Fault::BeforeEffect, Fault::AfterEffect] {
        for (method, forward) in [("pm_card_visa", true), ("pm_card_declined", false)] {
            for stopped in STEPS {
                let (shop, id) = (Shop::with_stock(10).await, order_id());
                shop.place(id, method).await.unwrap();
                let walk = if forward {
                    vec![Step::Validate, Step::Reserve, Step::Pay, Step::Ship, Step::Confirm]
                } else {
                    vec![Step::Validate, Step::Reserve, Step::Pay, Step::Release, Step::Reject]
                };
                for step in walk {
                    if step == stopped && step != Step::Validate {
                        shop.store.fail_next_append(fault);
                        let stopped = shop.run(step, id).await;
                        assert!(matches!(stopped, Err(StepError::Unavailable(_))), "{step:?} {fault:?}");
                    }
                    match shop.run(step, id).await {
                        Ok(()) => {}
                        Err(StepError::OrderFailed(_)) if step == Step::Pay && !forward => {}
                        Err(error) => panic!("{step:?} after {fault:?} at {stopped:?}: {error}"),
                    }
                }
                if forward {
                    assert_fulfilled(&shop, id).await;
                } else {
                    assert_eq!(shop.event_types(id).await, DECLINED);
                    assert_undone(&shop, id).await;
                }
            }
        }
    }
}

#[tokio::test]
async fn steps_out_of_turn_do_nothing() {
    let (shop, id) = (Shop::with_stock(10).await, order_id());
    for step in STEPS {
        let error = shop.run(step, id).await.unwrap_err();
        assert_eq!(error.error_type(), "UnknownOrder", "{step:?}");
    }
    shop.place(id, "pm_card_visa").await.unwrap();
    for step in [Step::Pay, Step::Ship, Step::Confirm] {
        assert_eq!(shop.run(step, id).await.unwrap_err().error_type(), "TooEarly", "{step:?}");
    }
    for step in [Step::Release, Step::Reject] {
        assert_eq!(shop.run(step, id).await.unwrap_err().error_type(), "OrderStands", "{step:?}");
    }
    assert_eq!(shop.event_types(id).await, ["OrderCreated"]);
    assert_eq!((shop.stock().await, shop.balance(id).await), (10, cny(0)));
}

#[tokio::test]
async fn the_same_create_again_gets_the_first_answer_even_when_the_stock_is_gone() {
    let (shop, id) = (Shop::with_stock(2).await, order_id());
    let first = shop.place(id, "pm_card_visa").await.unwrap();
    assert!(!first.replayed);
    shop.fulfil(id, 1).await.unwrap();
    assert_eq!(shop.stock().await, 0);
    let again = shop.place(id, "pm_card_visa").await.unwrap();
    assert!(again.replayed);
    assert_eq!((again.order_id, again.version), (first.order_id, first.version));
}

#[tokio::test]
async fn another_create_under_the_same_key_is_refused_whether_it_could_be_placed_or_not() {
    let (shop, id) = (Shop::with_stock(10).await, order_id());
    shop.place_as(id, "pm_card_visa", "one body").await.unwrap();
    for stock in [10, 0] {
        shop.set_stock(stock).await;
        let other = shop.place_as(id, "pm_card_visa", "another body").await;
        assert!(matches!(other, Err(CreateOrderError::KeyReused)));
    }
}

#[tokio::test]
async fn a_create_whose_answer_was_lost_is_not_placed_twice() {
    let (shop, id) = (Shop::with_stock(10).await, order_id());
    shop.store.fail_next_append(Fault::AfterEffect);
    assert!(matches!(shop.place(id, "pm_card_visa").await, Err(CreateOrderError::Unavailable(_))));
    assert!(shop.place(id, "pm_card_visa").await.unwrap().replayed);
    assert_eq!(shop.store.all().len(), 1);
}
