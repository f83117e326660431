//! What is left of a piece of work that stops at any of its calls, and what becomes of it when it runs again.

use std::time::Duration;

use adapters::dynamodb::{DynamoEventStore, DynamoIndex, DynamoInventory, DynamoPayments, DynamoReadModel, Generation};
use application::{
    event_store::{AppendError, Appended, Commit, EventStore, Metadata, RecordedEvent, StreamId},
    memory::{MemoryEventStore, MemoryIndex, MemoryOrderViews},
    ports::{
        Adjusted, CancelChargeError, Catalogue, ChargeCancellation, ChargeError, ChargeRequest, EventPlace, Index,
        Inventory, LedgerEntry, OrderViews, Payments, Posting, ReadModel, RefundError, RefundRequest, ReserveError,
        ShipmentError, ShipmentRequest, Shipping, StockAdjustment, StockLine, TakeBackError,
    },
    project_orders::project,
    shop::Shop,
};
use aws_sdk_dynamodb::config::retry::RetryConfig;
use chrono::{DateTime, TimeDelta};
use domain::{
    ids::{AdjustmentId, CustomerId, OrderId, PaymentMethod, ProductId},
    money::{Currency, Money, Quantity},
    order::OrderStatus,
    order_view::OrderView,
    product::{Product, StockChange},
    text::Text,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{EVENTS, Fault, INDEX, INVENTORY, ORDERS, Wire, payments_of, shipping_of, watched, watched_with};

/// Runs `round` once for each way a call can be lost and each call that may be: until a round says that none was.
pub(crate) async fn at_each_call(mut round: impl AsyncFnMut(usize, Fault) -> bool) {
    for fault in [Fault::NotSent, Fault::AnswerLost] {
        let mut number = 0;
        while round(number, fault.clone()).await {
            number += 1;
        }
        assert!(number > 0, "no call was lost");
    }
}

/// `DynamoDB`'s own error, instead of whatever the call would have done.
fn error(name: &str, more: &Value) -> Fault {
    let mut body = json!({"__type": format!("com.amazonaws.dynamodb.v20120810#{name}"), "message": "injected"});
    for (key, value) in more.as_object().into_iter().flatten() {
        body[key] = value.clone();
    }
    Fault::Instead(400, body.to_string())
}

fn cancelled(codes: &[&str]) -> Fault {
    let reasons: Vec<Value> = codes.iter().map(|code| json!({"Code": code})).collect();
    error("TransactionCanceledException", &json!({"CancellationReasons": reasons}))
}

/// Calls that failed for a while: the SDK tries again, at once.
fn quick_retries() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(3).with_initial_backoff(Duration::from_millis(1))
}

fn order_id() -> OrderId {
    OrderId::new(Uuid::new_v4())
}

fn cny(amount: u64) -> Money {
    Money::new(amount, Currency::parse("CNY").unwrap()).unwrap()
}

fn product(id: &ProductId, stock: u32) -> Product {
    Product { id: id.clone(), name: Text::parse("Tea").unwrap(), price: cny(1999), stock }
}

/// Two each of this many new products, of which there are five.
async fn stocked(inventory: &DynamoInventory, count: usize) -> Vec<StockLine> {
    let mut lines = Vec::new();
    for _ in 0..count {
        let id = ProductId::parse(&Uuid::new_v4().to_string()).unwrap();
        inventory.put_product(&product(&id, 5)).await.unwrap();
        lines.push(StockLine { product_id: id, quantity: Quantity::new(2).unwrap() });
    }
    lines
}

/// Asserts how much each of these lines' products has left.
async fn assert_stock(inventory: &DynamoInventory, lines: &[StockLine], left: u32) {
    let ids: Vec<ProductId> = lines.iter().map(|line| line.product_id.clone()).collect();
    let stocks: Vec<u32> = inventory.products(&ids).await.unwrap().iter().map(|product| product.stock).collect();
    assert_eq!(stocks, vec![left; lines.len()]);
}

#[tokio::test]
async fn a_reservation_that_stopped_anywhere_is_finished_by_running_it_again() {
    let (client, wire) = watched();
    let inventory = DynamoInventory::new(client, INVENTORY.to_owned());
    for count in [1, 3, 100] {
        at_each_call(async |number, fault| {
            let (order, lines) = (order_id(), stocked(&inventory, count).await);
            let stopped = wire.during(number, fault, inventory.reserve(order, &lines)).await.is_err();
            inventory.reserve(order, &lines).await.unwrap();
            assert_stock(&inventory, &lines, 3).await;
            stopped
        })
        .await;
    }
}

#[tokio::test]
async fn a_reservation_that_stopped_anywhere_can_be_released() {
    let (client, wire) = watched();
    let inventory = DynamoInventory::new(client, INVENTORY.to_owned());
    for count in [3, 100] {
        at_each_call(async |number, fault| {
            let (order, lines) = (order_id(), stocked(&inventory, count).await);
            let stopped = wire.during(number, fault, inventory.reserve(order, &lines)).await.is_err();
            inventory.release(order).await.unwrap();
            assert_stock(&inventory, &lines, 5).await;
            assert!(matches!(inventory.reserve(order, &lines).await, Err(ReserveError::Released)));
            stopped
        })
        .await;
    }
}

#[tokio::test]
async fn a_release_that_stopped_anywhere_is_finished_by_running_it_again() {
    let (client, wire) = watched();
    let inventory = DynamoInventory::new(client, INVENTORY.to_owned());
    for count in [0, 3, 100] {
        at_each_call(async |number, fault| {
            let (order, lines) = (order_id(), stocked(&inventory, count.max(1)).await);
            if count > 0 {
                inventory.reserve(order, &lines).await.unwrap();
            }
            let stopped = wire.during(number, fault, inventory.release(order)).await.is_err();
            // From the first line that was given back on, the order cannot reserve any more.
            let last = &lines[lines.len() - 1].product_id;
            let given_back = inventory.products(std::slice::from_ref(last)).await.unwrap()[0].stock == 5;
            match inventory.reserve(order, &lines).await {
                Ok(_) => assert!(count == 0 || !given_back),
                Err(error) => assert!(matches!(error, ReserveError::Released), "{error:?}"),
            }
            inventory.release(order).await.unwrap();
            assert_stock(&inventory, &lines, 5).await;
            assert!(matches!(inventory.reserve(order, &lines).await, Err(ReserveError::Released)));
            stopped
        })
        .await;
    }
}

#[tokio::test]
async fn a_refusal_that_stopped_anywhere_is_finished_by_running_it_again() {
    let (client, wire) = watched();
    let inventory = DynamoInventory::new(client, INVENTORY.to_owned());
    for count in [3, 100] {
        at_each_call(async |number, fault| {
            let (order, lines) = (order_id(), stocked(&inventory, count).await);
            let (last, others) = lines.split_last().unwrap();
            inventory.put_product(&product(&last.product_id, 1)).await.unwrap();
            let answer = wire.during(number, fault, inventory.reserve(order, &lines)).await;
            let again = inventory.reserve(order, &lines).await;
            assert!(matches!(again, Err(ReserveError::OutOfStock(_))), "{again:?}");
            assert_stock(&inventory, others, 5).await;
            assert_stock(&inventory, std::slice::from_ref(last), 1).await;
            inventory.put_product(&product(&last.product_id, 5)).await.unwrap();
            inventory.reserve(order, &lines).await.unwrap();
            assert_stock(&inventory, &lines, 3).await;
            matches!(answer, Err(ReserveError::Unavailable(_)))
        })
        .await;
    }
}

#[tokio::test]
async fn transactions_in_each_others_way_are_tried_again() {
    let (client, wire) = watched();
    let inventory = DynamoInventory::new(client, INVENTORY.to_owned());
    for codes in [["TransactionConflict", "None"], ["None", "TransactionConflict"], ["None", "ThrottlingError"]] {
        let (order, lines) = (order_id(), stocked(&inventory, 100).await);
        wire.calls();
        wire.fail(0, cancelled(&codes));
        wire.fail(2, cancelled(&codes));
        wire.fail(5, cancelled(&codes));
        inventory.reserve(order, &lines).await.unwrap();
        let (transaction, read) = ("TransactWriteItems", "TransactGetItems");
        assert_eq!(wire.calls(), [transaction, read, transaction, read, transaction, transaction, read, transaction]);
        assert_stock(&inventory, &lines, 3).await;
        wire.calls();
        wire.fail(1, cancelled(&codes));
        wire.fail(4, cancelled(&codes));
        inventory.release(order).await.unwrap();
        assert_stock(&inventory, &lines, 5).await;
    }
}

#[tokio::test]
async fn a_reservation_that_is_always_in_the_way_of_others_gives_up_and_holds_nothing() {
    let (client, wire) = watched();
    let inventory = DynamoInventory::new(client, INVENTORY.to_owned());
    let lines = stocked(&inventory, 1).await;
    wire.calls();
    for number in (0..100).step_by(2) {
        wire.fail(number, cancelled(&["None", "TransactionConflict"]));
    }
    let answer = inventory.reserve(order_id(), &lines).await;
    assert!(matches!(answer, Err(ReserveError::Unavailable(_))), "{answer:?}");
    assert!(wire.calls().len() < 50);
    assert_stock(&inventory, &lines, 5).await;
}

#[tokio::test]
async fn a_transaction_that_can_never_go_through_is_not_tried_again() {
    let (client, wire) = watched();
    let inventory = DynamoInventory::new(client, INVENTORY.to_owned());
    let lines = stocked(&inventory, 1).await;
    wire.calls();
    wire.fail(0, cancelled(&["None", "ValidationError"]));
    let answer = inventory.reserve(order_id(), &lines).await;
    assert!(matches!(answer, Err(ReserveError::Unavailable(_))), "{answer:?}");
    assert_eq!(wire.calls(), ["TransactWriteItems"]);
}

#[tokio::test]
async fn what_an_order_holds_itself_is_no_shortage_whatever_the_refusal_names() {
    let (client, wire) = watched();
    let inventory = DynamoInventory::new(client, INVENTORY.to_owned());
    for codes in [["None", "ConditionalCheckFailed"], ["TransactionConflict", "ConditionalCheckFailed"]] {
        let (order, lines) = (order_id(), stocked(&inventory, 1).await);
        inventory.reserve(order, &lines).await.unwrap();
        wire.calls();
        wire.fail(0, cancelled(&codes));
        inventory.reserve(order, &lines).await.unwrap();
        assert_stock(&inventory, &lines, 3).await;
    }
    // Another attempt of the same order is just taking the stock; its reservation is not to be read yet.
    let (order, lines) = (order_id(), stocked(&inventory, 1).await);
    wire.calls();
    wire.fail(0, cancelled(&["TransactionConflict", "ConditionalCheckFailed"]));
    inventory.reserve(order, &lines).await.unwrap();
}

#[tokio::test]
async fn a_product_that_is_being_reserved_can_be_put() {
    let (client, wire) = watched();
    let inventory = DynamoInventory::new(client, INVENTORY.to_owned());
    let lines = stocked(&inventory, 1).await;
    wire.calls();
    wire.fail(0, error("TransactionConflictException", &json!({})));
    assert!(!inventory.put_product(&product(&lines[0].product_id, 9)).await.unwrap());
    assert_stock(&inventory, &lines, 9).await;
}

fn three_fewer(line: &StockLine) -> StockAdjustment {
    StockAdjustment {
        id: AdjustmentId(Uuid::new_v4()),
        product_id: line.product_id.clone(),
        change: StockChange::By(-3),
        reason: Text::parse("damp").unwrap(),
        actor: "staff:anna".to_owned(),
        at: DateTime::UNIX_EPOCH,
    }
}

#[tokio::test]
async fn an_adjustment_that_stopped_anywhere_is_finished_by_running_it_again() {
    let (client, wire) = watched();
    let inventory = DynamoInventory::new(client, INVENTORY.to_owned());
    at_each_call(async |number, fault| {
        let lines = stocked(&inventory, 1).await;
        let adjustment = three_fewer(&lines[0]);
        let stopped = wire.during(number, fault, inventory.adjust_stock(&adjustment)).await.is_err();
        assert_eq!(inventory.adjust_stock(&adjustment).await.unwrap().stock, 2);
        assert_stock(&inventory, &lines, 2).await;
        stopped
    })
    .await;
}

#[tokio::test]
async fn a_product_that_is_being_reserved_can_be_adjusted() {
    let (client, wire) = watched();
    let inventory = DynamoInventory::new(client, INVENTORY.to_owned());
    // The first call reads, the second writes; the stock is what a reservation is at.
    for (call, code) in [(0, "TransactionConflict"), (1, "TransactionConflict"), (1, "ConditionalCheckFailed")] {
        let lines = stocked(&inventory, 1).await;
        wire.calls();
        wire.fail(call, cancelled(&["None", code]));
        let adjusted = inventory.adjust_stock(&three_fewer(&lines[0])).await.unwrap();
        assert_eq!(adjusted, Adjusted { by: -3, stock: 2, replayed: false });
        assert_stock(&inventory, &lines, 2).await;
    }
}

#[tokio::test]
async fn products_that_a_batch_left_out_are_asked_for_again() {
    let (client, wire) = watched();
    let inventory = DynamoInventory::new(client, INVENTORY.to_owned());
    let lines = stocked(&inventory, 2).await;
    let ids: Vec<ProductId> = lines.iter().map(|line| line.product_id.clone()).collect();
    let keys: Vec<Value> = ids.iter().map(|id| json!({"id": {"S": format!("product#{id}")}})).collect();
    let nothing = json!({"Responses": {}, "UnprocessedKeys": {INVENTORY: {"Keys": keys, "ConsistentRead": true}}});
    wire.calls();
    wire.fail(0, Fault::Instead(200, nothing.to_string()));
    assert_eq!(inventory.products(&ids).await.unwrap().len(), 2);
    assert_eq!(wire.calls(), ["BatchGetItem", "BatchGetItem"]);
}

/// An answer of `BatchWriteItem` that has written nothing.
fn nothing_written(posting: &Posting) -> Fault {
    let Posting { term, customer, text } = posting;
    let item = json!({
        "term": {"S": format!("1/customer/{term}")}, "place": {"S": customer}, "text": {"S": text}
    });
    let unprocessed = json!({"UnprocessedItems": {INDEX: [{"PutRequest": {"Item": item}}]}});
    Fault::Instead(200, unprocessed.to_string())
}

fn posting() -> Posting {
    Posting { term: "tea".to_owned(), customer: CustomerId::stored("anna"), text: "x".to_owned() }
}

#[tokio::test]
async fn postings_that_a_batch_left_out_are_written_again() {
    let (client, wire) = watched();
    let index = DynamoIndex::new(client, INDEX.to_owned(), 1);
    wire.fail(0, nothing_written(&posting()));
    wire.fail(1, nothing_written(&posting()));
    index.add(&[posting()]).await.unwrap();
    assert_eq!(wire.calls(), ["BatchWriteItem"; 3]);
    assert_eq!(index.customers("tea", 2).await.unwrap(), [posting()]);
}

#[tokio::test]
async fn postings_that_every_batch_leaves_out_are_given_up() {
    let (client, wire) = watched();
    let index = DynamoIndex::new(client, INDEX.to_owned(), 1);
    for number in 0..50 {
        wire.fail(number, nothing_written(&posting()));
    }
    index.add(&[posting()]).await.unwrap_err();
    assert!(wire.calls().len() < 50);
}

fn charge() -> ChargeRequest {
    ChargeRequest {
        idempotency_key: Uuid::new_v4(),
        order_id: order_id(),
        customer_id: CustomerId::parse("anna").unwrap(),
        payment_method: PaymentMethod::default(),
        amount: cny(100),
    }
}

fn refund(charge: &ChargeRequest, amount: u64) -> RefundRequest {
    RefundRequest {
        idempotency_key: Uuid::new_v4(),
        order_id: charge.order_id,
        charge_key: charge.idempotency_key,
        amount: cny(amount),
    }
}

/// Every amount that was charged, and every one that was refunded.
async fn books(payments: &DynamoPayments, order_id: OrderId) -> (Vec<u64>, Vec<u64>) {
    let (mut charged, mut refunded) = (Vec::new(), Vec::new());
    for entry in payments.ledger(order_id).await.unwrap() {
        match entry {
            LedgerEntry::Charged(_, amount) => charged.push(amount.amount()),
            LedgerEntry::Refunded(_, amount) => refunded.push(amount.amount()),
            LedgerEntry::Declined(_) | LedgerEntry::Cancelled => {}
        }
    }
    (charged, refunded)
}

#[tokio::test]
async fn a_charge_that_stopped_is_made_once_by_asking_again() {
    let (client, wire) = watched();
    let payments = payments_of(client);
    at_each_call(async |number, fault| {
        let request = charge();
        let stopped = wire.during(number, fault, payments.charge(&request)).await.is_err();
        payments.charge(&request).await.unwrap();
        assert_eq!(books(&payments, request.order_id).await, (vec![100], vec![]));
        stopped
    })
    .await;
}

#[tokio::test]
async fn a_refund_that_stopped_anywhere_is_made_once_by_asking_again() {
    let (client, wire) = watched();
    let payments = payments_of(client);
    at_each_call(async |number, fault| {
        let request = charge();
        payments.charge(&request).await.unwrap();
        let whole = refund(&request, 100);
        let stopped = wire.during(number, fault, payments.refund(&whole)).await.is_err();
        payments.refund(&whole).await.unwrap();
        assert_eq!(books(&payments, request.order_id).await, (vec![100], vec![100]));
        stopped
    })
    .await;
}

#[tokio::test]
async fn a_refund_in_the_way_of_others_is_tried_again() {
    let (client, wire) = watched();
    let payments = payments_of(client);
    let request = charge();
    payments.charge(&request).await.unwrap();
    wire.calls();
    wire.fail(1, cancelled(&["TransactionConflict", "None"]));
    payments.refund(&refund(&request, 60)).await.unwrap();
    wire.calls();
    wire.fail(0, cancelled(&["TransactionConflict", "None"]));
    let answer = payments.refund(&refund(&request, 60)).await;
    assert!(matches!(answer, Err(RefundError::TooMuch)), "{answer:?}");
    assert_eq!(books(&payments, request.order_id).await, (vec![100], vec![60]));
}

fn cancellation(charge: &ChargeRequest) -> ChargeCancellation {
    ChargeCancellation { order_id: charge.order_id, charge_key: charge.idempotency_key, refund_key: Uuid::new_v4() }
}

#[tokio::test]
async fn a_cancellation_of_a_charge_that_stopped_anywhere_is_finished_by_running_it_again() {
    let (client, wire) = watched();
    let payments = payments_of(client);
    // The second time, the refund was made before, and is found.
    for cancelled_before in [false, true] {
        at_each_call(async |number, fault| {
            let request = charge();
            let payment = payments.charge(&request).await.unwrap();
            let cancellation = cancellation(&request);
            let before = if cancelled_before { payments.cancel_charge(&cancellation).await.unwrap() } else { None };
            let stopped = wire.during(number, fault, payments.cancel_charge(&cancellation)).await.is_err();
            let answer = payments.cancel_charge(&cancellation).await.unwrap();
            assert!(before.is_none() || answer == before, "{answer:?}");
            assert_eq!(payments.cancel_charge(&cancellation).await.unwrap(), answer);
            assert_eq!(answer.unwrap().0, payment);
            assert_eq!(books(&payments, request.order_id).await, (vec![100], vec![100]));
            stopped
        })
        .await;
    }
}

#[tokio::test]
async fn a_cancellation_of_no_charge_that_stopped_anywhere_is_finished_by_running_it_again() {
    let (client, wire) = watched();
    let payments = payments_of(client);
    // The second time, the charge comes between the attempt that stopped and the next one.
    for charge_comes in [false, true] {
        at_each_call(async |number, fault| {
            let request = charge();
            let cancellation = cancellation(&request);
            let stopped = wire.during(number, fault, payments.cancel_charge(&cancellation)).await.is_err();
            let charged = charge_comes && payments.charge(&request).await.is_ok();
            assert!(stopped || !charged, "the cancellation was answered, and the charge came through");
            assert_eq!(payments.cancel_charge(&cancellation).await.unwrap().is_some(), charged);
            let amounts = if charged { vec![100] } else { vec![] };
            assert_eq!(books(&payments, request.order_id).await, (amounts.clone(), amounts));
            let late = payments.charge(&request).await;
            assert!(charged == late.is_ok() && matches!(late, Ok(_) | Err(ChargeError::Cancelled)), "{late:?}");
            stopped
        })
        .await;
    }
}

#[tokio::test]
async fn a_charge_that_comes_while_it_is_being_cancelled_is_given_back() {
    let (client, wire) = watched();
    let payments = payments_of(client);
    let request = charge();
    let (other, late) = (payments_of(wire.unwatched()), request.clone());
    wire.before(1, async move { other.charge(&late).await.unwrap() });
    assert!(payments.cancel_charge(&cancellation(&request)).await.unwrap().is_some());
    assert_eq!(wire.calls(), ["TransactGetItems", "PutItem", "TransactGetItems", "TransactWriteItems"]);
    assert_eq!(books(&payments, request.order_id).await, (vec![100], vec![100]));
}

#[tokio::test]
async fn a_cancellation_in_the_way_of_others_is_tried_again() {
    let (client, wire) = watched();
    let payments = payments_of(client);
    let request = charge();
    payments.charge(&request).await.unwrap();
    wire.calls();
    wire.fail(1, cancelled(&["TransactionConflict", "None"]));
    assert!(payments.cancel_charge(&cancellation(&request)).await.unwrap().is_some());
    assert_eq!(books(&payments, request.order_id).await, (vec![100], vec![100]));
}

#[tokio::test]
async fn a_cancellation_that_meets_a_refund_between_its_read_and_its_write_gives_back_the_rest() {
    let (client, wire) = watched();
    let payments = payments_of(client);
    let request = charge();
    payments.charge(&request).await.unwrap();
    wire.calls();
    let (other, part) = (payments_of(wire.unwatched()), refund(&request, 1));
    wire.before(1, async move { other.refund(&part).await.unwrap() });
    let (_, rest) = payments.cancel_charge(&cancellation(&request)).await.unwrap().unwrap();
    assert_eq!(rest.amount.amount(), 99);
    assert_eq!(books(&payments, request.order_id).await.0, vec![100]);
    assert_eq!(books(&payments, request.order_id).await.1.iter().sum::<u64>(), 100);
}

#[tokio::test]
async fn a_refund_that_the_sandbox_was_asked_to_fail_says_so() {
    let (client, _) = watched();
    let payments = payments_of(client);
    let request = ChargeRequest { payment_method: PaymentMethod::parse("pm_refund_fails_twice").unwrap(), ..charge() };
    payments.charge(&request).await.unwrap();
    let answer = payments.cancel_charge(&cancellation(&request)).await;
    let Err(CancelChargeError::Unavailable(error)) = answer else { panic!("{answer:?}") };
    assert_eq!(error.source.to_string(), "the sandbox was asked to fail");
}

fn shipment() -> ShipmentRequest {
    let address = json!({"street": "s", "city": "c", "state": "s", "country": "CN", "postal_code": "1"});
    ShipmentRequest {
        idempotency_key: Uuid::new_v4(),
        order_id: order_id(),
        address: serde_json::from_value(address).unwrap(),
        lines: Vec::new(),
    }
}

/// One whose postal code makes the carrier refuse it.
fn refused_shipment() -> ShipmentRequest {
    let address = json!({"street": "s", "city": "c", "state": "s", "country": "CN", "postal_code": "SANDBOX-REFUSE"});
    ShipmentRequest { address: serde_json::from_value(address).unwrap(), ..shipment() }
}

#[tokio::test]
async fn a_shipment_that_stopped_is_created_or_refused_once_by_asking_again() {
    let (client, wire) = watched();
    let shipping = shipping_of(client);
    for refuses in [false, true] {
        at_each_call(async |number, fault| {
            let request = if refuses { refused_shipment() } else { shipment() };
            let stopped = matches!(
                wire.during(number, fault, shipping.create_shipment(&request)).await,
                Err(ShipmentError::Unavailable(_))
            );
            match shipping.create_shipment(&request).await {
                Ok(first) => assert_eq!(shipping.create_shipment(&request).await.unwrap(), first),
                Err(error) => assert!(refuses && matches!(error, ShipmentError::Refused(_)), "{error:?}"),
            }
            stopped
        })
        .await;
    }
}

#[tokio::test]
async fn a_cancellation_of_a_shipment_that_stopped_anywhere_is_finished_by_running_it_again() {
    let (client, wire) = watched();
    let shipping = shipping_of(client);
    // A shipment may be there before, come in between, or come late.
    for (comes_before, comes_between) in [(true, true), (false, true), (false, false)] {
        at_each_call(async |number, fault| {
            let request = shipment();
            if comes_before {
                shipping.create_shipment(&request).await.unwrap();
            }
            let stopped = wire
                .during(number, fault, shipping.cancel_shipment(request.order_id, request.idempotency_key))
                .await
                .is_err();
            if comes_between {
                let created = shipping.create_shipment(&request).await.is_ok();
                assert!(stopped || !created, "the cancellation was answered, and the shipment is under way");
            }
            shipping.cancel_shipment(request.order_id, request.idempotency_key).await.unwrap();
            let late = shipping.create_shipment(&request).await;
            assert!(matches!(late, Err(ShipmentError::Cancelled)), "{late:?}");
            stopped
        })
        .await;
    }
}

#[tokio::test]
async fn a_shipment_that_another_has_just_taken_back_is_taken_back() {
    let (client, wire) = watched();
    let shipping = shipping_of(client);
    let request = shipment();
    shipping.create_shipment(&request).await.unwrap();
    wire.calls();
    let (other, same) = (shipping_of(wire.unwatched()), request.clone());
    wire.before(1, async move { other.cancel_shipment(same.order_id, same.idempotency_key).await.unwrap() });
    shipping.cancel_shipment(request.order_id, request.idempotency_key).await.unwrap();
    assert_eq!(wire.calls(), ["PutItem", "UpdateItem"]);
}

fn commit(stream: &StreamId) -> Commit {
    Commit {
        stream: stream.clone(),
        version: 1,
        events: vec![RecordedEvent { event_type: "Any".to_owned(), schema: 1, data: json!({}) }],
        metadata: Metadata {
            command_id: Uuid::new_v4(),
            fingerprint: "f".to_owned(),
            actor: String::new(),
            correlation_id: String::new(),
            causation_id: String::new(),
            traceparent: None,
            occurred_at: DateTime::UNIX_EPOCH,
        },
    }
}

#[tokio::test]
async fn an_append_that_stopped_is_made_once_by_asking_again() {
    let (client, wire) = watched();
    let store = DynamoEventStore::new(client, EVENTS.to_owned());
    at_each_call(async |number, fault| {
        let commit = commit(&StreamId::order(order_id()));
        let stopped = wire.during(number, fault, store.append(&commit)).await.is_err();
        store.append(&commit).await.unwrap();
        assert_eq!(store.read(&commit.stream, 0).await.unwrap(), [commit]);
        stopped
    })
    .await;
}

/// `DynamoDB` says what is there when it is asked to; to guess without would be to call a repeated command a conflict.
#[tokio::test]
async fn a_refusal_that_does_not_say_what_is_there_decides_nothing() {
    let (client, wire) = watched();
    let store = DynamoEventStore::new(client, EVENTS.to_owned());
    let first = commit(&StreamId::order(order_id()));
    store.append(&first).await.unwrap();
    wire.fail(0, error("ConditionalCheckFailedException", &json!({})));
    assert!(matches!(store.append(&first).await, Err(AppendError::Unavailable(_))));
}

#[tokio::test]
async fn only_the_size_of_the_item_makes_a_commit_too_large() {
    let (client, wire) = watched();
    let store = DynamoEventStore::new(client, EVENTS.to_owned());
    wire.fail(0, error("ValidationException", &json!({"message": "One or more parameter values were invalid"})));
    let answer = store.append(&commit(&StreamId::order(order_id()))).await;
    assert!(matches!(answer, Err(AppendError::Unavailable(_))), "{answer:?}");
    wire.fail(0, error("ValidationException", &json!({"message": "Item size has exceeded the maximum allowed size"})));
    let answer = store.append(&commit(&StreamId::order(order_id()))).await;
    assert!(matches!(answer, Err(AppendError::TooLarge)), "{answer:?}");
}

#[tokio::test]
async fn a_stream_without_end_is_an_error_and_not_cut() {
    let (client, wire) = watched();
    let store = DynamoEventStore::new(client, EVENTS.to_owned());
    let page = json!({"Items": [], "Count": 0, "LastEvaluatedKey": {"stream": {"S": "s"}, "version": {"N": "1"}}});
    for number in 0..1_001 {
        wire.fail(number, Fault::Instead(200, page.to_string()));
    }
    store.read(&StreamId::order(order_id()), 0).await.unwrap_err();
    assert_eq!(wire.calls().len(), 1_000);
}

/// Runs the work with its first call's answer lost, which the SDK then sends again.
async fn repeated<T>(wire: &Wire, work: impl Future<Output = T>) -> T {
    wire.calls();
    wire.fail(0, Fault::AnswerLost);
    let answer = work.await;
    let calls = wire.calls();
    assert!(calls.len() > 1 && calls[0] == calls[1], "{calls:?}");
    answer
}

#[tokio::test]
async fn a_call_that_the_sdk_repeats_takes_effect_once() {
    let (client, wire) = watched_with(quick_retries());
    let inventory = DynamoInventory::new(client.clone(), INVENTORY.to_owned());
    let lines = stocked(&inventory, 3).await;
    let order = order_id();
    repeated(&wire, inventory.reserve(order, &lines)).await.unwrap();
    assert_stock(&inventory, &lines, 3).await;
    repeated(&wire, inventory.release(order)).await.unwrap();
    assert_stock(&inventory, &lines, 5).await;

    let payments = payments_of(client.clone());
    let request = charge();
    repeated(&wire, payments.charge(&request)).await.unwrap();
    repeated(&wire, payments.refund(&refund(&request, 60))).await.unwrap();
    assert_eq!(books(&payments, request.order_id).await, (vec![100], vec![60]));

    let whole = charge();
    payments.charge(&whole).await.unwrap();
    let cancellation = cancellation(&whole);
    let answer = repeated(&wire, payments.cancel_charge(&cancellation)).await.unwrap();
    assert_eq!(payments.cancel_charge(&cancellation).await.unwrap(), answer);
    assert_eq!(books(&payments, whole.order_id).await, (vec![100], vec![100]));

    let shipping = shipping_of(client.clone());
    let request = shipment();
    repeated(&wire, shipping.create_shipment(&request)).await.unwrap();
    repeated(&wire, shipping.cancel_shipment(request.order_id, request.idempotency_key)).await.unwrap();
    let late = shipping.create_shipment(&request).await;
    assert!(matches!(late, Err(ShipmentError::Cancelled)), "{late:?}");

    let store = DynamoEventStore::new(client, EVENTS.to_owned());
    let commit = commit(&StreamId::order(order_id()));
    assert_eq!(repeated(&wire, store.append(&commit)).await.unwrap(), Appended::Before(commit));
}

/// Runs `round` with each way in which a transaction of two actions may be refused, at each of its calls, and with others
/// acting just before each of its calls.
async fn refused_while_others_act(mut round: impl AsyncFnMut(Fault, usize, usize)) {
    for codes in [["TransactionConflict", "None"], ["None", "TransactionConflict"], ["None", "ConditionalCheckFailed"]]
    {
        for refused in 0..8 {
            for moment in 0..8 {
                round(cancelled(&codes), refused, moment).await;
            }
        }
    }
}

/// A refusal is for good, so none may come of a state that never was: the refund's entry read before another attempt made
/// it, the charge's after.
#[tokio::test]
async fn a_refund_that_another_attempt_makes_meanwhile_is_answered_as_it_was_made() {
    let (client, wire) = watched();
    let payments = payments_of(client);
    refused_while_others_act(async |refusal, refused, moment| {
        let request = charge();
        payments.charge(&request).await.unwrap();
        let whole = refund(&request, 100);
        wire.calls();
        wire.fail(refused, refusal);
        let (other, same) = (payments_of(wire.unwatched()), whole.clone());
        wire.before(moment, async move { other.refund(&same).await.unwrap() });
        let answer = payments.refund(&whole).await;
        assert!(matches!(answer, Ok(_) | Err(RefundError::Unavailable(_))), "{refused} {moment}: {answer:?}");
        wire.calls();
        payments.refund(&whole).await.unwrap();
        assert_eq!(books(&payments, request.order_id).await, (vec![100], vec![100]));
    })
    .await;
}

#[tokio::test]
async fn a_cancellation_that_another_attempt_finishes_meanwhile_is_answered_as_it_was_done() {
    let (client, wire) = watched();
    let payments = payments_of(client);
    refused_while_others_act(async |refusal, refused, moment| {
        let request = charge();
        payments.charge(&request).await.unwrap();
        let cancellation = cancellation(&request);
        wire.calls();
        wire.fail(refused, refusal);
        let (other, same) = (payments_of(wire.unwatched()), cancellation.clone());
        wire.before(moment, async move { other.cancel_charge(&same).await.unwrap() });
        let answer = payments.cancel_charge(&cancellation).await;
        assert!(matches!(answer, Ok(Some(_)) | Err(_)), "{refused} {moment}: {answer:?}");
        wire.calls();
        assert!(payments.cancel_charge(&cancellation).await.unwrap().is_some());
        assert_eq!(books(&payments, request.order_id).await, (vec![100], vec![100]));
    })
    .await;
}

#[tokio::test]
async fn a_reservation_that_another_attempt_makes_meanwhile_is_no_shortage() {
    let (client, wire) = watched();
    let inventory = DynamoInventory::new(client, INVENTORY.to_owned());
    refused_while_others_act(async |refusal, refused, moment| {
        let (order, lines) = (order_id(), stocked(&inventory, 1).await);
        // What one attempt takes is all there is.
        inventory.put_product(&product(&lines[0].product_id, 2)).await.unwrap();
        wire.calls();
        wire.fail(refused, refusal);
        let (other, same) = (DynamoInventory::new(wire.unwatched(), INVENTORY.to_owned()), lines.clone());
        wire.before(moment, async move { other.reserve(order, &same).await.unwrap() });
        let answer = inventory.reserve(order, &lines).await;
        assert!(matches!(answer, Ok(_) | Err(ReserveError::Unavailable(_))), "{refused} {moment}: {answer:?}");
        wire.calls();
        inventory.reserve(order, &lines).await.unwrap();
        assert_stock(&inventory, &lines, 0).await;
    })
    .await;
}

/// The shipment's item is one, so what it says when it refuses decides; to guess without would be to call a parcel that has
/// arrived taken back.
#[tokio::test]
async fn a_parcel_that_cannot_be_taken_back_for_no_known_reason_is_not_taken_back() {
    let (client, wire) = watched();
    let shipping = shipping_of(client);
    let request = shipment();
    shipping.create_shipment(&request).await.unwrap();
    wire.calls();
    wire.fail(1, error("ConditionalCheckFailedException", &json!({})));
    let answer = shipping.cancel_shipment(request.order_id, request.idempotency_key).await;
    assert!(matches!(answer, Err(TakeBackError::Unavailable(_))), "{answer:?}");
    assert_eq!(wire.calls(), ["PutItem", "UpdateItem"]);
}

#[tokio::test]
async fn a_parcel_that_arrives_while_it_is_taken_back_has_arrived() {
    let (client, wire) = watched();
    let shipping = shipping_of(client);
    let request = shipment();
    shipping.create_shipment(&request).await.unwrap();
    let (other, key) = (shipping_of(wire.unwatched()), request.idempotency_key);
    wire.calls();
    wire.before(1, async move { other.confirm_delivery(key).await.unwrap() });
    let answer = shipping.cancel_shipment(request.order_id, request.idempotency_key).await;
    assert!(matches!(answer, Err(TakeBackError::Delivered(_))), "{answer:?}");
}

/// As `project-orders` does: until it is taken in, with a limit.
async fn deliver(store: &impl EventStore, model: &Generation, commits: &[Commit]) {
    for _ in 0..3 {
        if project(store, model, commits).await.failed.is_empty() {
            return;
        }
    }
    panic!("not taken in");
}

/// An order that is confirmed and then cancelled, so that it comes to rest twice; of a customer whose list is empty, whose newest
/// orders fill their item, or who has a tree already: and as the newest of them, or older than all.
#[tokio::test]
async fn an_order_whose_projection_stopped_anywhere_is_shown_listed_and_counted_once() {
    let (shop, id) = (Shop::with_stock(10).await, order_id());
    shop.place(id, "pm_card_visa").await.unwrap();
    shop.fulfil(id, 1).await.unwrap();
    shop.cancel(id).await.unwrap();
    shop.undo(id, 1).await.unwrap();
    let commits = shop.store.all();
    let views = project_all(&shop.store, &commits).await;
    let last = views.load(id).await.unwrap().unwrap();
    let customer = last.customer.id.clone();
    for (before, others_at) in [(0, 0), (32, -1), (40, -1), (40, 1), (200, 1)] {
        at_each_call(async |number, fault| {
            let (client, wire) = watched();
            let unwatched = DynamoReadModel::new(wire.unwatched(), ORDERS.to_owned(), INDEX.to_owned()).generation(1);
            for other in 0..before {
                let created_at = last.created_at + TimeDelta::milliseconds(others_at * (other + 1));
                let open = OrderView { id: order_id(), status: OrderStatus::Created, created_at, ..last.clone() };
                unwatched.views.list(&open).await.unwrap();
            }
            let model = DynamoReadModel::new(client, ORDERS.to_owned(), INDEX.to_owned()).generation(1);
            wire.fail(number, fault);
            for commit in &commits {
                deliver(&shop.store, &model, std::slice::from_ref(commit)).await;
            }
            let met = wire.met_all_faults();
            assert_eq!(unwatched.views.load(id).await.unwrap().as_ref(), Some(&last));
            let listed = unwatched.views.customer_orders(&customer, 0, 1_000).await.unwrap();
            assert_eq!(listed.total, listed.orders.len());
            assert_eq!(i64::try_from(listed.total).unwrap(), before + 1);
            assert_eq!(listed.orders.iter().filter(|order| order.id == id).count(), 1);
            let counts = unwatched.views.count().await.unwrap();
            let count = |status| counts.get(&status).copied().unwrap_or_default();
            assert_eq!((count(OrderStatus::Confirmed), count(OrderStatus::Cancelled)), (0, 1), "{counts:?}");
            for commit in &commits {
                for (event_type, place) in EventPlace::of(commit) {
                    let found = unwatched.index.newest(event_type, None, None, 99).await.unwrap();
                    assert_eq!(found.iter().filter(|found| **found == place).count(), 1, "{event_type}");
                }
            }
            met
        })
        .await;
    }
}

/// As a rebuild does: new orders of customers who have one, several, and many already, in one batch.
#[tokio::test]
async fn orders_whose_projection_stopped_anywhere_are_listed_and_counted_once() {
    let shop = Shop::with_stock(10).await;
    let [anna, bert, chen] = ["anna", "bert", "chen"].map(CustomerId::stored);
    let store = MemoryEventStore::default();
    let mut commits = Vec::new();
    for (customer, goes_well) in [(&anna, true), (&bert, true), (&bert, false), (&chen, true), (&chen, false)] {
        let (id, mut number) = (order_id(), commits.len());
        shop.place(id, if goes_well { "pm_card_visa" } else { "pm_card_declined" }).await.unwrap();
        shop.fulfil(id, 1).await.unwrap();
        commits.extend(shop.store.all().into_iter().filter(|commit| commit.stream == StreamId::order(id)));
        commits[number].events[0].data["customer_id"] = json!(customer);
        while let Some(commit) = commits.get(number) {
            store.append(commit).await.unwrap();
            number += 1;
        }
    }
    let ids: Vec<OrderId> =
        commits.chunk_by(|one, next| one.stream == next.stream).filter_map(|of| of[0].stream.order_id()).collect();
    let last = project_all(&store, &commits).await.load_many(&ids).await.unwrap();
    assert_eq!(last.len(), 5);
    at_each_call(async |number, fault| {
        let (client, wire) = watched();
        let unwatched = DynamoReadModel::new(wire.unwatched(), ORDERS.to_owned(), INDEX.to_owned()).generation(1);
        for other in 0..31 {
            let of_chen = last.iter().find(|view| view.customer.id == chen).unwrap();
            let created_at = of_chen.created_at - TimeDelta::milliseconds(other + 1);
            let open = OrderView { id: order_id(), status: OrderStatus::Created, created_at, ..of_chen.clone() };
            unwatched.views.list(&open).await.unwrap();
        }
        let model = DynamoReadModel::new(client, ORDERS.to_owned(), INDEX.to_owned()).generation(1);
        wire.fail(number, fault);
        deliver(&store, &model, &commits).await;
        let met = wire.met_all_faults();
        for view in &last {
            assert_eq!(unwatched.views.load(view.id).await.unwrap().as_ref(), Some(view));
        }
        for (customer, orders) in [(&anna, 1), (&bert, 2), (&chen, 33)] {
            let listed = unwatched.views.customer_orders(customer, 0, 1_000).await.unwrap();
            assert_eq!((listed.orders.len(), listed.total), (orders, orders), "{customer}");
        }
        let counts = unwatched.views.count().await.unwrap();
        let count = |status| counts.get(&status).copied().unwrap_or_default();
        assert_eq!((count(OrderStatus::Confirmed), count(OrderStatus::Rejected)), (3, 2), "{counts:?}");
        met
    })
    .await;
}

async fn project_all(store: &impl EventStore, commits: &[Commit]) -> MemoryOrderViews {
    let model = ReadModel::<MemoryOrderViews, MemoryIndex>::default();
    assert!(project(store, &model, commits).await.failed.is_empty());
    model.views
}

#[tokio::test]
async fn a_profile_whose_projection_stopped_anywhere_is_shown_and_found() {
    let anna = CustomerId::stored("anna");
    let store = MemoryEventStore::default();
    let mut commits = Vec::new();
    for (version, name) in [(1, "Anna"), (2, "Berta"), (3, "Anna")] {
        let data = json!({"first_name": name, "last_name": "Liu", "email": "a.liu@example.com"});
        let event = RecordedEvent { event_type: "CustomerProfileUpdated".to_owned(), schema: 1, data };
        let metadata = Metadata::of_nobody(DateTime::UNIX_EPOCH);
        let commit = Commit { stream: StreamId::customer(&anna), version, events: vec![event], metadata };
        store.append(&commit).await.unwrap();
        commits.push(commit);
    }
    at_each_call(async |number, fault| {
        let (client, wire) = watched();
        let model = DynamoReadModel::new(client, ORDERS.to_owned(), INDEX.to_owned()).generation(1);
        wire.fail(number, fault);
        for commit in &commits {
            deliver(&store, &model, std::slice::from_ref(commit)).await;
        }
        let met = wire.met_all_faults();
        wire.calls();
        let known = model.views.customers(std::slice::from_ref(&anna)).await.unwrap();
        assert_eq!((known[0].version, known[0].first_name.as_deref()), (3, Some("Anna")));
        for (term, listed) in [("ann", 1), ("nna", 1), ("liu", 1), ("ber", 0), ("rta", 0)] {
            assert_eq!(model.index.customers(term, 9).await.unwrap().len(), listed, "{term}");
        }
        met
    })
    .await;
}
