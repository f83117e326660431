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

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

use application::{
    create_order::CreateOrderError,
    event_store::Unavailable,
    event_stream::{CommandError, OrderStream},
    fulfilment::{
        StepError,
        attention::flag_order,
        payment::{process_payment, refund_payment},
        staff_refunds::{issue_open_refunds, issue_refund},
    },
    ledger::ledger,
    memory::{Fault, MemoryLimits, MemoryPayments},
    ports::{
        CancelChargeError, Catalogue, ChargeCancellation, ChargeError, ChargeRequest, FulfilmentInput, LedgerEntry,
        Payments, RefundError, RefundRequest,
    },
    shop::{FORWARD, STEPS, Shop, Step, UNDO, at, cny, input, tea},
};
use domain::{
    ids::{CustomerId, OrderId, PaymentMethod},
    order::{
        Attention, Course, OrderEvent, Payment, Refund, SkippableStep, cancel::CancelRejection,
        record_delivery::DeliveryRejection, request_refund::RefundRejection, skip::SkipRejection,
    },
    product::Product,
    text::Text,
};
use uuid::Uuid;

const HAPPY: [&str; 5] = ["OrderCreated", "InventoryReserved", "PaymentCompleted", "ShipmentCreated", "OrderConfirmed"];
const DECLINED: [&str; 5] =
    ["OrderCreated", "InventoryReserved", "PaymentFailed", "InventoryReleased", "OrderRejected"];

fn order_id() -> OrderId {
    OrderId::new(Uuid::new_v4())
}

async fn assert_fulfilled(shop: &Shop, id: OrderId) {
    assert_eq!(shop.event_types(id).await, HAPPY);
    assert!(matches!(shop.order(id).await.course, Course::Confirmed(..)));
    assert_eq!(shop.balance(id).await, cny(3998));
    assert_eq!(shop.stock().await, 8);
    assert_eq!(shop.shipping.shipments(), 1);
    let told: Vec<&str> = shop.told(id);
    assert_eq!(told, ["order-confirmed"]);
}

async fn assert_undone(shop: &Shop, id: OrderId) {
    assert!(matches!(shop.order(id).await.course, Course::Ended(..)));
    assert_eq!(shop.balance(id).await, cny(0));
    assert_eq!(shop.stock().await, 10);
    assert_eq!(shop.shipping.shipments(), 0);
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
    assert_eq!(shop.told(id), ["order-rejected"]);
}

/// Before the order is closed, and before anybody looks after it: others may want to buy what it held.
#[tokio::test]
async fn what_a_declined_order_held_is_released_as_soon_as_the_payment_has_failed() {
    let (shop, id) = (Shop::with_stock(10).await, order_id());
    shop.place(id, "pm_card_declined").await.unwrap();
    for step in [Step::Validate, Step::Reserve] {
        shop.run(step, id).await.unwrap();
    }
    assert_eq!(shop.stock().await, 8);
    assert_eq!(shop.run(Step::Pay, id).await.unwrap_err().error_type(), "PaymentDeclined");
    for (step, types, stock) in [
        (Step::CancelShipment, &DECLINED[..3], 8),
        (Step::Refund, &DECLINED[..3], 8),
        (Step::Release, &DECLINED[..4], 10),
    ] {
        shop.run(step, id).await.unwrap();
        assert_eq!(shop.event_types(id).await, types);
        assert_eq!(shop.stock().await, stock);
    }
}

#[tokio::test]
async fn a_declined_order_counts_against_its_customer_once_and_a_paid_one_not_at_all() {
    for (payment_method, declined) in [("pm_card_declined", &["customer-1"][..]), ("pm_card_visa", &[])] {
        let (shop, id, limits) = (Shop::with_stock(10).await, order_id(), MemoryLimits::default());
        shop.place(id, payment_method).await.unwrap();
        shop.run(Step::Reserve, id).await.unwrap();
        for _ in 0..3 {
            let paid = process_payment(&shop.store, &shop.payments, &limits, &input(id), at()).await;
            assert_eq!(paid.is_err(), !declined.is_empty());
        }
        assert_eq!(limits.declined().iter().map(CustomerId::as_str).collect::<Vec<_>>(), declined);
    }
}

#[tokio::test]
async fn a_charge_says_whose_order_it_is_for() {
    let (shop, id) = (Shop::with_stock(10).await, order_id());
    shop.place(id, "pm_card_visa").await.unwrap();
    for step in [Step::Validate, Step::Reserve, Step::Pay] {
        shop.run(step, id).await.unwrap();
    }
    let charge = |customer: &str| ChargeRequest {
        idempotency_key: id.work_id("process-payment"),
        order_id: id,
        customer_id: CustomerId::parse(customer).unwrap(),
        payment_method: PaymentMethod::parse("pm_card_visa").unwrap(),
        amount: cny(3998),
    };
    shop.payments.charge(&charge("customer-1")).await.unwrap();
    let other = shop.payments.charge(&charge("customer-2")).await;
    assert!(matches!(other, Err(ChargeError::KeyReused)), "{other:?}");
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

/// One way through the fulfilment: what is ordered, when it is cancelled, and how it must end.
#[derive(Debug, Clone, Copy)]
struct Walk {
    payment_method: &'static str,
    postal_code: &'static str,
    cancelled: bool,
}

const WALKS: [Walk; 4] = [
    Walk { payment_method: "pm_card_visa", postal_code: "200001", cancelled: false },
    Walk { payment_method: "pm_card_declined", postal_code: "200001", cancelled: false },
    Walk { payment_method: "pm_card_visa", postal_code: "SANDBOX-REFUSE", cancelled: false },
    Walk { payment_method: "pm_card_visa", postal_code: "200001", cancelled: true },
];

/// The crash between the provider's answer and the append, the append whose answer is lost, and the provider's call whose
/// outcome is unknown: whichever call of a step is hit, running the step again finishes it.
#[tokio::test]
async fn a_step_that_stops_anywhere_is_finished_by_running_it_again() {
    for walk in WALKS {
        for stopped in STEPS {
            for fault in [Fault::BeforeEffect, Fault::AfterEffect] {
                for at_provider in [false, true] {
                    stop_and_go_on(walk, stopped, fault, at_provider).await;
                }
            }
        }
    }
}

async fn stop_and_go_on(walk: Walk, stopped: Step, fault: Fault, at_provider: bool) {
    let (shop, id) = (Shop::with_stock(10).await, order_id());
    shop.place_to(id, walk.payment_method, "body", walk.postal_code).await.unwrap();
    let mut undoing = false;
    for step in FORWARD {
        match stop_once(&shop, id, step, stopped, fault, at_provider).await {
            Ok(()) => {}
            Err(StepError::NotToBeFulfilled(_)) => {
                undoing = true;
                break;
            }
            Err(error) => panic!("{walk:?} {stopped:?} {fault:?}: {step:?}: {error}"),
        }
    }
    if walk.cancelled {
        shop.cancel(id).await.unwrap();
        undoing = true;
    }
    if undoing {
        for step in UNDO {
            stop_once(&shop, id, step, stopped, fault, at_provider).await.unwrap();
        }
        assert_undone(&shop, id).await;
    } else {
        assert_fulfilled(&shop, id).await;
    }
}

/// Runs a step; if it is the one to be stopped, a first time with a fault at its provider or at its append.
async fn stop_once(
    shop: &Shop,
    id: OrderId,
    step: Step,
    stopped: Step,
    fault: Fault,
    at_provider: bool,
) -> Result<(), StepError> {
    if step == stopped {
        match (at_provider, shop.faults_of(step)) {
            (true, Some(faults)) => faults.push(fault),
            _ => shop.store.faults.push(fault),
        }
        // A step that has nothing to append does not meet the fault of an append.
        let _stopped_or_done = shop.run(step, id).await;
        shop.store.faults.clear();
    }
    shop.run(step, id).await
}

#[tokio::test]
async fn an_undo_that_is_refused_leaves_a_flag_and_not_a_lie() {
    let (shop, id) = (Shop::with_stock(10).await, order_id());
    shop.place(id, "pm_refund_fails").await.unwrap();
    shop.fulfil(id, 1).await.unwrap();
    shop.cancel(id).await.unwrap();
    let refused = shop.undo(id, 1).await.unwrap_err();
    assert_eq!(refused.error_type(), "RequestRefused");
    for _ in 0..2 {
        shop.flag(id, "refund-payment", refused.error_type()).await.unwrap();
    }
    assert_eq!(shop.run(Step::Close, id).await.unwrap_err().error_type(), "StillHeld");
    let events = shop.event_types(id).await;
    assert_eq!(events[5..], ["OrderCancelRequested", "ShipmentCancelled", "OrderFlagged"]);
    assert_eq!(shop.balance(id).await, cny(3998), "the customer has not got the money back, and the order says so");
}

/// As often as the state machine tries a step; answers how many tries it took, or the error of the last.
async fn insist(shop: &Shop, id: OrderId, step: Step) -> Result<usize, StepError> {
    for tries in 1..5 {
        if shop.run(step, id).await.is_ok() {
            return Ok(tries);
        }
    }
    shop.run(step, id).await.map(|()| 5)
}

/// What the order asks the sandbox for is overcome by the tries of the steps: it is fulfilled, then undone in whole.
#[tokio::test]
async fn what_passes_is_overcome_by_trying_again() {
    let as_ordered = "200001";
    for (payment_method, postal_code, tried_again, tries) in [
        ("pm_charged_then_timeout", as_ordered, Step::Pay, 2),
        ("pm_fails_twice", as_ordered, Step::Pay, 3),
        ("pm_slow", as_ordered, Step::Pay, 1),
        ("pm_refund_fails_twice", as_ordered, Step::Refund, 3),
        ("pm_card_visa", "SANDBOX-TIMEOUT", Step::Ship, 2),
    ] {
        let (shop, id) = (Shop::with_stock(10).await, order_id());
        shop.place_to(id, payment_method, "body", postal_code).await.unwrap();
        let wanted = |step: Step| if step == tried_again { tries } else { 1 };
        for step in FORWARD {
            assert_eq!(insist(&shop, id, step).await.unwrap(), wanted(step), "{payment_method} {postal_code} {step:?}");
        }
        assert_fulfilled(&shop, id).await;
        assert_eq!(shop.payments.ledger(id).await.unwrap().len(), 1, "{payment_method}");
        shop.cancel(id).await.unwrap();
        for step in UNDO {
            assert_eq!(insist(&shop, id, step).await.unwrap(), wanted(step), "{payment_method} {postal_code} {step:?}");
        }
        assert_undone(&shop, id).await;
        assert_eq!(shop.payments.ledger(id).await.unwrap().len(), 2, "{payment_method}");
    }
}

/// The charge is there, and no event says so; the parcel is under way, and no event says so.
#[tokio::test]
async fn what_nobody_knows_of_is_undone_all_the_same() {
    for (payment_method, postal_code, stopped) in
        [("pm_charged_then_timeout", "200001", Step::Pay), ("pm_card_visa", "SANDBOX-TIMEOUT", Step::Ship)]
    {
        let (shop, id) = (Shop::with_stock(10).await, order_id());
        shop.place_to(id, payment_method, "body", postal_code).await.unwrap();
        for step in FORWARD.into_iter().take_while(|step| *step != stopped) {
            shop.run(step, id).await.unwrap();
        }
        assert_eq!(shop.run(stopped, id).await.unwrap_err().error_type(), "Unavailable");
        assert_eq!(shop.balance(id).await, cny(3998));
        assert_eq!(shop.shipping.shipments(), usize::from(stopped == Step::Ship));
        shop.cancel(id).await.unwrap();
        shop.undo(id, 1).await.unwrap();
        assert_undone(&shop, id).await;
        assert_eq!(shop.event_types(id).await.last().map(String::as_str), Some("OrderCancelled"));
    }
}

#[tokio::test]
async fn a_parcel_that_the_carrier_keeps_asks_for_a_person_before_any_money_goes_back() {
    let (shop, id) = (Shop::with_stock(10).await, order_id());
    shop.place_to(id, "pm_card_visa", "body", "SANDBOX-KEEP").await.unwrap();
    shop.fulfil(id, 1).await.unwrap();
    assert_fulfilled(&shop, id).await;
    shop.cancel(id).await.unwrap();
    let refused = shop.run(Step::CancelShipment, id).await.unwrap_err();
    assert_eq!(refused.error_type(), "RequestRefused");
    shop.flag(id, "cancel-shipment", refused.error_type()).await.unwrap();
    assert!(matches!(shop.order(id).await.course, Course::Undoing(..)));
    assert_eq!(shop.event_types(id).await[5..], ["OrderCancelRequested", "OrderFlagged"]);
    assert_eq!((shop.balance(id).await, shop.stock().await, shop.shipping.shipments()), (cny(3998), 8, 1));
}

#[tokio::test]
async fn a_customer_who_cannot_be_told_does_not_lose_the_order() {
    let (shop, id) = (Shop::with_stock(10).await, order_id());
    shop.place_to(id, "pm_card_visa", "body", "SANDBOX-MUTE").await.unwrap();
    shop.fulfil(id, 2).await.unwrap();
    assert_eq!(shop.event_types(id).await, HAPPY);
    assert!(matches!(shop.order(id).await.course, Course::Confirmed(..)));
    assert_eq!((shop.balance(id).await, shop.stock().await, shop.shipping.shipments()), (cny(3998), 8, 1));
    assert_eq!(shop.notifications.sent(), []);
    let commits = shop.store.all();
    assert_eq!(commits.last().unwrap().events[0].data["notification_id"], serde_json::Value::Null);
}

#[tokio::test]
async fn a_confirmed_order_that_is_cancelled_is_undone_in_whole() {
    let (shop, id) = (Shop::with_stock(10).await, order_id());
    shop.place(id, "pm_card_visa").await.unwrap();
    shop.fulfil(id, 1).await.unwrap();
    shop.cancel(id).await.unwrap();
    shop.undo(id, 2).await.unwrap();
    let undone =
        ["OrderCancelRequested", "ShipmentCancelled", "PaymentRefunded", "InventoryReleased", "OrderCancelled"];
    assert_eq!(shop.event_types(id).await[5..], undone);
    assert_eq!((shop.balance(id).await, shop.stock().await, shop.shipping.shipments()), (cny(0), 10, 0));
    assert_eq!(shop.told(id), ["order-cancelled", "order-confirmed"]);
}

async fn confirmed(payment_method: &str, postal_code: &str) -> (Shop, OrderId) {
    let (shop, id) = (Shop::with_stock(10).await, order_id());
    shop.place_to(id, payment_method, "body", postal_code).await.unwrap();
    for step in FORWARD {
        insist(&shop, id, step).await.unwrap();
    }
    (shop, id)
}

#[tokio::test]
async fn a_delivered_order_is_not_cancelled_and_refunded_up_to_its_payment() {
    let (shop, id) = confirmed("pm_card_visa", "200001").await;
    shop.deliver(id).await.unwrap();
    assert!(matches!(shop.cancel(id).await, Err(CommandError::Rejected(CancelRejection::Delivered))));
    shop.request_refund(id, "first", 1000).await.unwrap();
    shop.request_refund(id, "second", 2998).await.unwrap();
    let too_much = shop.request_refund(id, "third", 1).await;
    assert!(matches!(too_much, Err(CommandError::Rejected(RefundRejection::TooMuch { .. }))));
    for _ in 0..2 {
        shop.run(Step::IssueRefund, id).await.unwrap();
    }
    assert_eq!(shop.balance(id).await, cny(0));
    let since = ["ShipmentDelivered", "RefundRequested", "RefundRequested", "RefundCompleted", "RefundCompleted"];
    assert_eq!(shop.event_types(id).await[5..], since);
    assert_eq!((shop.stock().await, shop.shipping.shipments()), (8, 1));
}

/// Whichever comes first at the carrier, the other sees it.
#[tokio::test]
async fn a_cancel_that_comes_after_the_parcel_has_arrived_leaves_the_order_as_it_is() {
    for lost in [false, true] {
        let (shop, id) = confirmed("pm_card_visa", "200001").await;
        if lost {
            // The carrier has delivered; nobody has recorded it when the cancel comes.
            shop.store.faults.push(Fault::BeforeEffect);
            shop.deliver(id).await.unwrap_err();
            shop.cancel(id).await.unwrap();
        } else {
            shop.cancel(id).await.unwrap();
            shop.deliver(id).await.unwrap();
        }
        for step in UNDO {
            assert_eq!(shop.run(step, id).await.unwrap_err().error_type(), "OrderDelivered", "{step:?}");
        }
        assert_eq!(shop.event_types(id).await[5..], ["OrderCancelRequested", "ShipmentDelivered"]);
        assert_eq!((shop.balance(id).await, shop.stock().await), (cny(3998), 8));
    }
    let (shop, id) = confirmed("pm_card_visa", "200001").await;
    shop.cancel(id).await.unwrap();
    shop.run(Step::CancelShipment, id).await.unwrap();
    assert!(matches!(shop.deliver(id).await, Err(CommandError::Rejected(DeliveryRejection::NotUnderWay))));
    shop.undo(id, 1).await.unwrap();
    assert_undone(&shop, id).await;
}

/// A refund that was requested, and perhaps issued without anybody having recorded it, when the order is cancelled.
#[tokio::test]
async fn a_cancel_gives_back_what_refunds_have_left() {
    for (issued, amount) in [
        (None, 1000),
        (Some(Fault::AfterEffect), 1000),
        (Some(Fault::BeforeEffect), 3998),
        (Some(Fault::AfterEffect), 3998),
    ] {
        let (shop, id) = confirmed("pm_card_visa", "200001").await;
        shop.request_refund(id, "a refund", amount).await.unwrap();
        if let Some(fault) = issued {
            shop.payments.faults.push(fault);
            shop.run(Step::IssueRefund, id).await.unwrap_err();
        }
        shop.cancel(id).await.unwrap();
        assert!(matches!(
            shop.request_refund(id, "too late", 1).await,
            Err(CommandError::Rejected(RefundRejection::Undone))
        ));
        shop.undo(id, 2).await.unwrap();
        assert_undone(&shop, id).await;
        shop.run(Step::IssueRefund, id).await.unwrap();
        let books = ledger(&shop.store, &shop.payments, &shop.inventory, &shop.shipping, id).await.unwrap();
        assert_eq!((books.order.refunded, books.order.agrees_with(&books.providers)), (cny(3998), true));
    }
}

#[tokio::test]
async fn a_refund_that_only_a_person_can_decide_on_stays_open_until_one_has() {
    let (shop, id) = confirmed("pm_refund_fails", "200001").await;
    shop.request_refund(id, "a refund", 1000).await.unwrap();
    let stuck = shop.run(Step::IssueRefund, id).await.unwrap_err();
    assert_eq!(stuck.error_type(), "RequestRefused");
    assert_eq!(shop.event_types(id).await.last().map(String::as_str), Some("RefundRequested"));
    shop.flag(id, "issue-refund", stuck.error_type()).await.unwrap();
    shop.resume(id).await.unwrap();
    assert!(matches!(shop.events(id).await.last(), Some(OrderEvent::FulfilmentResumed(resumed)) if resumed.refund));
    shop.flag_again(id, "issue-refund").await;
    shop.skip(id, SkippableStep::IssueRefund).await.unwrap();
    assert_eq!(shop.event_types(id).await.last().map(String::as_str), Some("RefundFailed"));
    assert_eq!(shop.balance(id).await, cny(3998));
    assert!(!shop.order(id).await.is_open());
}

/// An execution that still walks the undos when the order has ended moves nothing: what was skipped stays skipped.
#[tokio::test]
async fn an_undo_that_comes_after_the_end_moves_nothing() {
    for (step, payment_method, postal_code) in [
        (Step::CancelShipment, "pm_card_visa", "SANDBOX-KEEP"),
        (Step::Refund, "pm_refund_fails_twice", "200001"),
        (Step::Release, "pm_card_visa", "200001"),
    ] {
        let (shop, id) = confirmed(payment_method, postal_code).await;
        shop.cancel(id).await.unwrap();
        for undo in UNDO.into_iter().take_while(|undo| *undo != step) {
            shop.run(undo, id).await.unwrap();
        }
        shop.flag(id, step.name(), "Unavailable").await.unwrap();
        let skippable = SkippableStep::ALL.into_iter().find(|skippable| skippable.name() == step.name()).unwrap();
        shop.skip(id, skippable).await.unwrap();
        for undo in UNDO {
            insist(&shop, id, undo).await.unwrap();
        }
        let books = (shop.balance(id).await, shop.stock().await, shop.shipping.shipments());
        for _ in 0..3 {
            shop.undo(id, 1).await.unwrap();
        }
        assert_eq!((shop.balance(id).await, shop.stock().await, shop.shipping.shipments()), books, "{step:?}");
    }
}

#[tokio::test]
async fn a_skipped_undo_gives_up_the_refunds_that_it_would_have_issued() {
    let (shop, id) = confirmed("pm_card_visa", "200001").await;
    shop.request_refund(id, "a refund", 1000).await.unwrap();
    shop.cancel(id).await.unwrap();
    shop.run(Step::CancelShipment, id).await.unwrap();
    shop.flag(id, "refund-payment", "Unavailable").await.unwrap();
    shop.skip(id, SkippableStep::RefundPayment).await.unwrap();
    shop.undo(id, 1).await.unwrap();
    assert!(!shop.order(id).await.is_open(), "nothing is left that anybody would issue later");
    shop.run(Step::IssueRefund, id).await.unwrap();
    assert_eq!(shop.balance(id).await, cny(3998));
}

/// A part has gone back already, and only its record is missing: giving all of it up would make the books lie.
#[tokio::test]
async fn an_undo_is_not_skipped_while_the_provider_has_done_a_part_of_it() {
    let (shop, id) = confirmed("pm_card_visa", "200001").await;
    shop.request_refund(id, "a refund", 1000).await.unwrap();
    shop.payments.faults.push(Fault::AfterEffect);
    shop.run(Step::IssueRefund, id).await.unwrap_err();
    shop.cancel(id).await.unwrap();
    shop.run(Step::CancelShipment, id).await.unwrap();
    shop.flag(id, "refund-payment", "Unavailable").await.unwrap();
    let refused = shop.skip(id, SkippableStep::RefundPayment).await.unwrap_err();
    assert!(matches!(refused, CommandError::Rejected(SkipRejection::DoneAlready { .. })), "{refused}");
    shop.resume(id).await.unwrap();
    shop.undo(id, 1).await.unwrap();
    assert_undone(&shop, id).await;
    // The same of the stock.
    let (shop, id) = confirmed("pm_card_visa", "200001").await;
    shop.cancel(id).await.unwrap();
    for step in [Step::CancelShipment, Step::Refund] {
        shop.run(step, id).await.unwrap();
    }
    shop.inventory.faults.push(Fault::AfterEffect);
    shop.run(Step::Release, id).await.unwrap_err();
    shop.flag(id, "release-inventory", "Unavailable").await.unwrap();
    let refused = shop.skip(id, SkippableStep::ReleaseInventory).await.unwrap_err();
    assert!(matches!(refused, CommandError::Rejected(SkipRejection::DoneAlready { .. })), "{refused}");
}

/// The last step of each way has done its work, and its answer was lost on every try.
#[tokio::test]
async fn nobody_is_called_for_an_order_that_is_where_it_is_to_be() {
    let (shop, id) = confirmed("pm_card_visa", "200001").await;
    assert!(!shop.flag(id, "send-confirmation", "Runtime.ExitError").await.unwrap());
    shop.request_refund(id, "a refund", 1000).await.unwrap();
    shop.run(Step::IssueRefund, id).await.unwrap();
    assert!(!shop.flag(id, "issue-refund", "Runtime.ExitError").await.unwrap());
    shop.cancel(id).await.unwrap();
    shop.undo(id, 1).await.unwrap();
    assert!(!shop.flag(id, "close-order", "Runtime.ExitError").await.unwrap());
    assert!(!shop.event_types(id).await.contains(&"OrderFlagged".to_owned()));
    let (shop, id) = (Shop::with_stock(10).await, order_id());
    shop.place(id, "pm_card_visa").await.unwrap();
    assert!(shop.flag(id, "validate-order", "Unavailable").await.unwrap());
}

#[tokio::test]
async fn stock_that_never_left_the_house_comes_back_when_the_parcel_is_skipped() {
    let (shop, id) = (Shop::with_stock(10).await, order_id());
    shop.place(id, "pm_card_visa").await.unwrap();
    for step in [Step::Validate, Step::Reserve] {
        shop.run(step, id).await.unwrap();
    }
    shop.cancel(id).await.unwrap();
    shop.flag(id, "cancel-shipment", "Unavailable").await.unwrap();
    shop.skip(id, SkippableStep::CancelShipment).await.unwrap();
    shop.undo(id, 1).await.unwrap();
    assert_undone(&shop, id).await;
}

#[tokio::test]
async fn the_fulfilment_of_an_order_that_was_cancelled_calls_nobody() {
    let (shop, id) = (Shop::with_stock(10).await, order_id());
    shop.place(id, "pm_card_visa").await.unwrap();
    shop.cancel(id).await.unwrap();
    let failed = Attention { step: "validate-order".to_owned(), reason: "States.Timeout".to_owned() };
    flag_order(&shop.store, &input(id), &failed, at()).await.unwrap();
    assert_eq!(shop.event_types(id).await, ["OrderCreated", "OrderCancelRequested"]);
    shop.flag(id, "refund-payment", "Unavailable").await.unwrap();
    assert_eq!(shop.event_types(id).await, ["OrderCreated", "OrderCancelRequested", "OrderFlagged"]);
}

/// What staff answer for is not done any more, and the rest is.
#[tokio::test]
async fn an_undo_that_is_skipped_is_left_out_and_the_others_are_done() {
    for (step, payment_method, postal_code, balance, stock, parcels) in [
        (Step::CancelShipment, "pm_card_visa", "SANDBOX-KEEP", 0, 8, 1),
        (Step::Refund, "pm_refund_fails", "200001", 3998, 10, 0),
    ] {
        let (shop, id) = confirmed(payment_method, postal_code).await;
        shop.cancel(id).await.unwrap();
        for undo in UNDO.into_iter().take_while(|undo| *undo != step) {
            shop.run(undo, id).await.unwrap();
        }
        let stuck = insist(&shop, id, step).await.unwrap_err();
        shop.flag(id, step.name(), stuck.error_type()).await.unwrap();
        let skippable = SkippableStep::ALL.into_iter().find(|skippable| skippable.name() == step.name()).unwrap();
        shop.skip(id, skippable).await.unwrap();
        shop.undo(id, 2).await.unwrap();
        assert_eq!(shop.event_types(id).await.last().map(String::as_str), Some("OrderCancelled"));
        let books = (shop.balance(id).await, shop.stock().await, shop.shipping.shipments());
        assert_eq!(books, (cny(balance), stock, parcels), "{step:?}");
    }
}

application::only_providers!(Mistaken<'_>);

/// A provider that says wrongly, once, that too little is left: another attempt's refund had landed between two of its reads.
struct Mistaken<'p> {
    payments: &'p MemoryPayments,
    answered: AtomicBool,
    /// Whether it gives nothing back any more.
    refuses: AtomicBool,
    /// Whether it says that it has given less back than it has.
    says_less: AtomicBool,
}

impl<'p> Mistaken<'p> {
    fn new(payments: &'p MemoryPayments, answered: bool) -> Self {
        Self { payments, answered: answered.into(), refuses: false.into(), says_less: false.into() }
    }
}

impl Payments for Mistaken<'_> {
    async fn charge(&self, request: &ChargeRequest) -> Result<Payment, ChargeError> {
        self.payments.charge(request).await
    }

    async fn cancel_charge(
        &self,
        cancellation: &ChargeCancellation,
    ) -> Result<Option<(Payment, Refund)>, CancelChargeError> {
        if self.refuses.load(Ordering::Relaxed) {
            return Err(CancelChargeError::Refused("account_closed".to_owned()));
        }
        let given_back = self.payments.cancel_charge(cancellation).await?;
        let less = |refund: Refund| Refund { amount: cny(1), ..refund };
        let says_less = self.says_less.load(Ordering::Relaxed);
        Ok(given_back.map(|(charge, refund)| (charge, if says_less { less(refund) } else { refund })))
    }

    async fn refund(&self, request: &RefundRequest) -> Result<Refund, RefundError> {
        let refund = self.payments.refund(request).await?;
        if self.answered.swap(true, Ordering::Relaxed) { Ok(refund) } else { Err(RefundError::TooMuch) }
    }

    async fn refunded(&self, order_id: OrderId, refund_key: Uuid) -> Result<Option<Refund>, Unavailable> {
        self.payments.refunded(order_id, refund_key).await
    }

    async fn ledger(&self, order_id: OrderId) -> Result<Vec<LedgerEntry>, Unavailable> {
        self.payments.ledger(order_id).await
    }
}

/// One minor unit of 39.98: with that, the order would close and the rest would be nobody's.
#[tokio::test]
async fn a_charge_that_is_not_given_back_in_whole_is_not_believed_to_be() {
    let (shop, id) = confirmed("pm_card_visa", "200001").await;
    shop.cancel(id).await.unwrap();
    let mistaken = Mistaken::new(&shop.payments, true);
    mistaken.says_less.store(true, Ordering::Relaxed);
    let undo = FulfilmentInput { undo: true, ..input(id) };
    let error = refund_payment(&shop.store, &mistaken, &undo, at()).await.unwrap_err();
    assert_eq!(error.error_type(), "ProviderMisbehaved");
    assert!(shop.order(id).await.holds_payment());
    mistaken.says_less.store(false, Ordering::Relaxed);
    refund_payment(&shop.store, &mistaken, &undo, at()).await.unwrap();
    assert!(!shop.order(id).await.holds_payment());
}

/// The attempt that made the refund is slower than the one that was told that it cannot be made.
#[tokio::test]
async fn a_refund_that_was_made_is_recorded_also_after_another_attempt_has_recorded_its_failure() {
    let (shop, id) = confirmed("pm_card_visa", "200001").await;
    shop.request_refund(id, "a refund", 3998).await.unwrap();
    let mistaken = Mistaken::new(&shop.payments, false);
    let input = FulfilmentInput { refund: true, ..input(id) };
    let mut slow = OrderStream::open(&shop.store, id).await.unwrap();
    issue_refund(&shop.store, &mistaken, &input, at()).await.unwrap();
    assert_eq!(shop.event_types(id).await.last().map(String::as_str), Some("RefundFailed"));
    issue_open_refunds(&mut slow, &mistaken, &input, at()).await.unwrap();
    assert_eq!(shop.event_types(id).await.last().map(String::as_str), Some("RefundCompleted"));
    let books = ledger(&shop.store, &shop.payments, &shop.inventory, &shop.shipping, id).await.unwrap();
    assert!(books.order.agrees_with(&books.providers), "{books:?}");
}

/// Orders to which that has happened before it was mended, or whose attempt died before it could say what it had done.
#[tokio::test]
async fn an_undo_records_the_refund_that_was_given_up_and_made_all_the_same() {
    let (shop, id) = confirmed("pm_card_visa", "200001").await;
    shop.request_refund(id, "a refund", 3998).await.unwrap();
    let mistaken = Mistaken::new(&shop.payments, false);
    issue_refund(&shop.store, &mistaken, &FulfilmentInput { refund: true, ..input(id) }, at()).await.unwrap();
    assert_eq!(shop.event_types(id).await.last().map(String::as_str), Some("RefundFailed"));
    shop.cancel(id).await.unwrap();
    shop.undo(id, 1).await.unwrap();
    assert_undone(&shop, id).await;
    let books = ledger(&shop.store, &shop.payments, &shop.inventory, &shop.shipping, id).await.unwrap();
    assert!(books.order.agrees_with(&books.providers), "{books:?}");
}

/// What has gone back already is recorded also when the rest does not; only then can the rest be skipped.
#[tokio::test]
async fn an_undo_that_is_refused_records_what_had_gone_back_before() {
    let (shop, id) = confirmed("pm_card_visa", "200001").await;
    shop.request_refund(id, "a refund", 1000).await.unwrap();
    let mistaken = Mistaken::new(&shop.payments, false);
    issue_refund(&shop.store, &mistaken, &FulfilmentInput { refund: true, ..input(id) }, at()).await.unwrap();
    shop.cancel(id).await.unwrap();
    shop.run(Step::CancelShipment, id).await.unwrap();
    mistaken.refuses.store(true, Ordering::Relaxed);
    let refused = refund_payment(&shop.store, &mistaken, &input(id), at()).await.unwrap_err();
    shop.flag(id, "refund-payment", refused.error_type()).await.unwrap();
    shop.skip(id, SkippableStep::RefundPayment).await.unwrap();
    shop.undo(id, 1).await.unwrap();
    let books = ledger(&shop.store, &shop.payments, &shop.inventory, &shop.shipping, id).await.unwrap();
    assert!(books.order.agrees_with(&books.providers), "{books:?}");
    assert_eq!(books.order.refunded, cny(1000));
}

/// As after a restore to an earlier time: that it was requested and made is lost, and it is requested anew with another amount.
#[tokio::test]
async fn a_refund_that_was_made_under_its_key_with_another_amount_is_recorded_as_it_was_made() {
    let (shop, id) = confirmed("pm_card_visa", "200001").await;
    shop.request_refund(id, "a refund", 300).await.unwrap();
    let refund_id = shop.order(id).await.refunds[0].requested.refund_id;
    let (idempotency_key, charge_key) = (refund_id.0, id.work_id("process-payment"));
    let lost = RefundRequest { idempotency_key, order_id: id, charge_key, amount: cny(1000) };
    shop.payments.refund(&lost).await.unwrap();
    shop.run(Step::IssueRefund, id).await.unwrap();
    assert_eq!(shop.event_types(id).await.last().map(String::as_str), Some("RefundCompleted"));
    let books = ledger(&shop.store, &shop.payments, &shop.inventory, &shop.shipping, id).await.unwrap();
    assert_eq!((books.order.refunded, books.order.agrees_with(&books.providers)), (cny(1000), true));
    let more_than_is_left = shop.request_refund(id, "another refund", 2999).await;
    assert!(matches!(more_than_is_left, Err(CommandError::Rejected(RefundRejection::TooMuch { .. }))));
}

/// Whatever a step comes to, it never counts as done because of what another attempt came to.
#[tokio::test]
async fn two_outcomes_of_one_step_never_share_a_command_id() {
    let mut commands: BTreeMap<Uuid, Vec<String>> = BTreeMap::new();
    let id = OrderId::new(Uuid::from_u128(9));
    let ways = [
        ("pm_card_visa", "200001", 10),
        ("pm_card_declined", "200001", 10),
        ("pm_card_visa", "SANDBOX-REFUSE", 10),
        ("pm_card_visa", "200001", 1),
    ];
    for (payment_method, postal_code, stock) in ways {
        for undone in [false, true] {
            let shop = Shop::with_stock(10).await;
            shop.place_to(id, payment_method, "the same body", postal_code).await.unwrap();
            shop.set_stock(stock).await;
            shop.fulfil(id, 1).await.unwrap();
            for amount in [100, 200] {
                let _refused = shop.request_refund(id, &format!("a refund of {amount}"), amount).await;
            }
            let mistaken = Mistaken::new(&shop.payments, undone);
            issue_refund(&shop.store, &mistaken, &FulfilmentInput { refund: true, ..input(id) }, at()).await.unwrap();
            if undone && shop.cancel(id).await.is_ok() {
                let _delivered = shop.undo(id, 1).await;
            }
            for commit in shop.store.all() {
                let types: Vec<String> = commit.events.iter().map(|event| event.event_type.clone()).collect();
                let before = commands.entry(commit.metadata.command_id).or_insert_with(|| types.clone());
                assert_eq!(*before, types);
            }
        }
    }
}

/// A gift, a sample, an order that is discounted in full.
#[tokio::test]
async fn an_order_that_costs_nothing_goes_through_without_a_charge() {
    let sample = Product { id: tea(), name: Text::parse("Sample").unwrap(), price: cny(0), stock: 10 };
    for cancelled in [false, true] {
        let (shop, id) = (Shop::default(), order_id());
        shop.inventory.put_product(&sample).await.unwrap();
        shop.place(id, "pm_card_declined").await.unwrap();
        shop.fulfil(id, 2).await.unwrap();
        let way = ["OrderCreated", "InventoryReserved", "PaymentNotRequired", "ShipmentCreated", "OrderConfirmed"];
        assert_eq!(shop.event_types(id).await, way);
        assert_eq!(shop.payments.ledger(id).await.unwrap(), []);
        let nothing = shop.request_refund(id, "a refund", 1).await.unwrap_err();
        assert!(matches!(nothing, CommandError::Rejected(RefundRejection::NotPaid)), "{nothing}");
        if cancelled {
            shop.cancel(id).await.unwrap();
            shop.undo(id, 2).await.unwrap();
            assert_undone(&shop, id).await;
            assert_eq!(shop.payments.ledger(id).await.unwrap(), []);
        }
    }
}

#[tokio::test]
async fn a_parcel_that_the_carrier_refuses_gives_the_money_back() {
    let (shop, id) = (Shop::with_stock(10).await, order_id());
    shop.place_to(id, "pm_card_visa", "body", "SANDBOX-REFUSE").await.unwrap();
    shop.fulfil(id, 2).await.unwrap();
    let events = shop.event_types(id).await;
    assert_eq!(events[3..], ["ShipmentFailed", "PaymentRefunded", "InventoryReleased", "OrderRejected"]);
    assert_undone(&shop, id).await;
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
    for step in UNDO {
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
    shop.store.faults.push(Fault::AfterEffect);
    assert!(matches!(shop.place(id, "pm_card_visa").await, Err(CreateOrderError::Unavailable(_))));
    assert!(shop.place(id, "pm_card_visa").await.unwrap().replayed);
    assert_eq!(shop.store.all().len(), 1);
}
