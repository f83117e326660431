//! What the items look like. They outlive every version of the code, and operators read them.

use std::collections::{BTreeMap, HashMap};

use adapters::dynamodb::{
    DynamoCounters, DynamoEventStore, DynamoIndex, DynamoInventory, DynamoProcesses, DynamoSnapshots, commit_from_image,
};
use application::{
    event_store::{Commit, EventStore, Metadata, RecordedEvent, StreamId},
    event_store::{PastCommand, Snapshot},
    ports::{
        Catalogue, ChargeCancellation, ChargeRequest, Counters, Index, Inventory, Notification, Notifications,
        Payments, Posting, Process, Processes, ProductPage, RefundRequest, ShipmentRequest, Shipping, Snapshots,
        StockAdjustment, StockLine,
    },
};
use aws_lambda_events::event::dynamodb::Event;
use aws_sdk_dynamodb::{
    Client,
    types::{AttributeValue, ReturnValue},
};
use domain::{
    ids::{AdjustmentId, CustomerId, OrderId, PaymentMethod, ProductId},
    money::{Currency, Money, Quantity},
    product::{Product, StockChange},
    text::Text,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    self, COUNTERS, EVENTS, INDEX, INVENTORY, NOTIFICATIONS, PAYMENTS, SHIPMENTS, SNAPSHOTS, notifications_of,
    payments_of, shipping_of,
};

const ORDER: &str = "5ec7b1f6-7d5e-4c6f-9f1b-0e6b5f6d7a10";
const COMMAND: &str = "0a4c4b2e-52a5-4d0c-8b83-7d7d3c3f3c11";
const KEY: &str = "11111111-2222-3333-4444-555555555555";
const REFUND_KEY: &str = "66666666-7777-8888-9999-aaaaaaaaaaaa";
const BARRED_KEY: &str = "bbbbbbbb-cccc-dddd-eeee-ffffffffffff";

fn order() -> OrderId {
    OrderId::parse(ORDER).unwrap()
}

fn key() -> Uuid {
    KEY.parse().unwrap()
}

fn cny(amount: u64) -> Money {
    Money::new(amount, Currency::parse("CNY").unwrap()).unwrap()
}

fn commit() -> Commit {
    Commit {
        stream: StreamId::order(order()),
        version: 7,
        events: vec![
            RecordedEvent {
                event_type: "InventoryReserved".to_owned(),
                schema: 1,
                data: json!({"reservation_id": "res_1"}),
            },
            RecordedEvent { event_type: "InventoryReleased".to_owned(), schema: 2, data: json!({}) },
        ],
        metadata: Metadata {
            command_id: COMMAND.parse().unwrap(),
            fingerprint: "f00".to_owned(),
            actor: "service:reserve-inventory".to_owned(),
            correlation_id: "correlation-1".to_owned(),
            causation_id: "event-1".to_owned(),
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
            occurred_at: "2026-01-02T03:04:05.678901234Z".parse().unwrap(),
        },
    }
}

/// The commit as `DynamoDB` JSON.
fn commit_item() -> Value {
    json!({
        "stream": {"S": format!("order#{ORDER}")},
        "version": {"N": "7"},
        "events": {"S": "[{\"type\":\"InventoryReserved\",\"schema\":1,\"data\":{\"reservation_id\":\"res_1\"}},{\"type\":\"InventoryReleased\",\"schema\":2,\"data\":{}}]"},
        "command_id": {"S": COMMAND},
        "fingerprint": {"S": "f00"},
        "actor": {"S": "service:reserve-inventory"},
        "correlation_id": {"S": "correlation-1"},
        "causation_id": {"S": "event-1"},
        "traceparent": {"S": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
        "occurred_at": {"S": "2026-01-02T03:04:05.678901234Z"},
        "event_types": {"L": [{"S": "InventoryReserved"}, {"S": "InventoryReleased"}]},
    })
}

/// Every item of a table as `DynamoDB` JSON, but for bytes, which are hexadecimal; in no order.
async fn items(client: &Client, table: &str) -> Vec<Value> {
    let scan = client.scan().table_name(table).send().await.unwrap();
    assert!(scan.last_evaluated_key.is_none());
    scan.items().iter().map(dynamodb_json).collect()
}

async fn item(client: &Client, table: &str) -> Value {
    let mut items = items(client, table).await;
    assert_eq!(items.len(), 1);
    items.remove(0)
}

fn dynamodb_json(item: &HashMap<String, AttributeValue>) -> Value {
    let value = |value: &AttributeValue| -> Value {
        match value {
            AttributeValue::S(text) => json!({"S": text}),
            AttributeValue::N(number) => json!({"N": number}),
            AttributeValue::B(bytes) => {
                json!({"B": bytes.as_ref().iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from_digit(digit.into(), 16).unwrap()).collect::<String>()})
            }
            AttributeValue::L(list) => {
                json!({"L": list.iter().map(|text| json!({"S": text.as_s().unwrap()})).collect::<Vec<_>>()})
            }
            other => panic!("an attribute of a type that is not in use: {other:?}"),
        }
    };
    item.iter().map(|(name, attribute)| (name.clone(), value(attribute))).collect()
}

/// Takes out an attribute that holds the time of the test.
fn without_time(mut item: Value, name: &str) -> Value {
    let time = item.as_object_mut().unwrap().remove(name).unwrap();
    let text = time["S"].as_str().unwrap();
    assert!(text.ends_with('Z') && text.parse::<chrono::DateTime<chrono::Utc>>().is_ok(), "{text}");
    item
}

#[tokio::test]
async fn a_commit_is_one_item() {
    let client = Client::from_conf(support::database().await);
    DynamoEventStore::new(client.clone(), EVENTS.to_owned()).append(&commit()).await.unwrap();
    assert_eq!(item(&client, EVENTS).await, commit_item());
}

#[tokio::test]
async fn an_attribute_without_a_value_is_left_out() {
    let client = Client::from_conf(support::database().await);
    let mut commit = commit();
    commit.metadata.traceparent = None;
    DynamoEventStore::new(client.clone(), EVENTS.to_owned()).append(&commit).await.unwrap();
    assert_eq!(item(&client, EVENTS).await.get("traceparent"), None);
}

#[tokio::test]
async fn a_snapshot_is_one_item() {
    let client = Client::from_conf(support::database().await);
    let command = PastCommand { id: COMMAND.parse().unwrap(), fingerprint: "f00".to_owned(), version: 100 };
    let (stream, state) = (StreamId::order(order()), json!({"course": "NotCreated"}));
    let snapshot = Snapshot { stream, version: 100, schema: 1, state, commands: vec![command] };
    DynamoSnapshots::new(client.clone(), SNAPSHOTS.to_owned()).save(&snapshot).await.unwrap();
    let expected = json!({
        "stream": {"S": format!("order#{ORDER}")},
        "version": {"N": "100"},
        "schema": {"N": "1"},
        "state": {"S": "{\"course\":\"NotCreated\"}"},
        "commands": {"S": format!("[[\"{COMMAND}\",\"f00\",100]]")},
    });
    assert_eq!(item(&client, SNAPSHOTS).await, expected);
}

fn stream_record(image: &Value) -> serde_dynamo::Item {
    let event = json!({"Records": [{
        "eventID": "c4ca4238a0b923820dcc509a6f75849b",
        "eventName": "INSERT",
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": "eu-central-1",
        "dynamodb": {
            "ApproximateCreationDateTime": 1_767_323_045,
            "Keys": {"stream": image["stream"], "version": image["version"]},
            "NewImage": image,
            "SequenceNumber": "4421584500000000017450439091",
            "SizeBytes": 512,
            "StreamViewType": "NEW_IMAGE"
        },
        "eventSourceARN": "arn:aws:dynamodb:eu-central-1:123456789012:table/events/stream/2026-01-01T00:00:00.000"
    }]});
    let event: Event = serde_json::from_value(event).unwrap();
    event.records.into_iter().next().unwrap().change.new_image
}

#[test]
fn the_streams_image_of_a_commit_is_that_commit() {
    assert_eq!(commit_from_image(stream_record(&commit_item())).unwrap(), commit());
}

/// `infra/backup.py` marks what it brings back, and the mark stays.
#[test]
fn a_commit_that_was_imported_is_read_like_any_other() {
    let mut item = commit_item();
    item["imported"] = json!({"S": "3f0c8a52-6d0e-4a5f-9c55-0d6a3f1f7b11"});
    assert_eq!(commit_from_image(stream_record(&item)).unwrap(), commit());
}

#[test]
fn an_image_that_is_not_a_commit_is_an_error_that_says_why() {
    let mut image = commit_item();
    image.as_object_mut().unwrap().remove("events");
    let error = commit_from_image(stream_record(&image)).unwrap_err();
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "missing field `events`");
}

/// What is there in the place of the events may be somebody's address, and the error is logged.
#[test]
fn an_image_that_is_not_a_commit_is_not_quoted() {
    let mut image = commit_item();
    image["events"] = json!({"S": "\"Hangzhou, Tea Road 1\""});
    let error = commit_from_image(stream_record(&image)).unwrap_err();
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "invalid type: string ");
}

#[tokio::test]
async fn products_and_reservations_are_items_of_one_table() {
    let client = Client::from_conf(support::database().await);
    let inventory = DynamoInventory::new(client.clone(), INVENTORY.to_owned());
    let tea = Product {
        id: ProductId::parse("tea").unwrap(),
        name: Text::parse("龙井茶").unwrap(),
        price: cny(1999),
        stock: 10,
    };
    inventory.put_product(&tea).await.unwrap();
    let line = StockLine { product_id: tea.id, quantity: Quantity::new(3).unwrap() };
    inventory.reserve(order(), &[line]).await.unwrap();
    let reservation = |held: &str, state: &str| {
        json!({
            "id": {"S": format!("reservation#{ORDER}")},
            "lines": {"S": "[{\"product_id\":\"tea\",\"quantity\":3}]"},
            "held": {"N": held},
            "state": {"S": state},
        })
    };
    let product = |stock: &str| {
        json!({
            "id": {"S": "product#tea"},
            "name": {"S": "龙井茶"},
            "price_amount": {"N": "1999"},
            "price_currency": {"S": "CNY"},
            "stock": {"N": stock},
            "listed": {"S": "yes"},
        })
    };
    let stored = async || {
        let mut items = items(&client, INVENTORY).await;
        items.sort_by_key(|item| item["id"].to_string());
        items
    };
    assert_eq!(stored().await, [product("7"), reservation("1", "reserved")]);
    inventory.release(order()).await.unwrap();
    assert_eq!(stored().await, [product("10"), reservation("0", "released")]);
}

#[tokio::test]
async fn an_adjustment_is_an_item_beside_the_product() {
    let client = Client::from_conf(support::database().await);
    let inventory = DynamoInventory::new(client.clone(), INVENTORY.to_owned());
    let id = ProductId::parse("tea").unwrap();
    inventory.describe_product(&id, &Text::parse("龙井茶").unwrap(), cny(1999)).await.unwrap();
    let adjustment = |change, id| StockAdjustment {
        id: AdjustmentId(id),
        product_id: ProductId::parse("tea").unwrap(),
        change,
        reason: Text::parse("stocktaking").unwrap(),
        actor: "staff:anna".to_owned(),
        at: "2026-01-02T03:04:05.678901234Z".parse().unwrap(),
    };
    inventory.adjust_stock(&adjustment(StockChange::Counted(10), key())).await.unwrap();
    inventory.adjust_stock(&adjustment(StockChange::By(-3), REFUND_KEY.parse().unwrap())).await.unwrap();
    let mut stored = items(&client, INVENTORY).await;
    stored.sort_by_key(|item| item["id"].to_string());
    let expected = [
        json!({
            "id": {"S": format!("adjustment#{KEY}")},
            "product_id": {"S": "tea"},
            "by": {"N": "10"},
            "counted": {"N": "10"},
            "stock": {"N": "10"},
            "reason": {"S": "stocktaking"},
            "actor": {"S": "staff:anna"},
            "adjusted_at": {"S": "2026-01-02T03:04:05.678901234Z"},
        }),
        json!({
            "id": {"S": format!("adjustment#{REFUND_KEY}")},
            "product_id": {"S": "tea"},
            "by": {"N": "-3"},
            "stock": {"N": "7"},
            "reason": {"S": "stocktaking"},
            "actor": {"S": "staff:anna"},
            "adjusted_at": {"S": "2026-01-02T03:04:05.678901234Z"},
        }),
        json!({
            "id": {"S": "product#tea"},
            "name": {"S": "龙井茶"},
            "price_amount": {"N": "1999"},
            "price_currency": {"S": "CNY"},
            "stock": {"N": "7"},
            "listed": {"S": "yes"},
        }),
    ];
    assert_eq!(stored, expected);
}

#[tokio::test]
async fn a_product_from_before_there_was_a_list_is_listed_once_it_is_set_again() {
    let client = Client::from_conf(support::database().await);
    let put = client.put_item().table_name(INVENTORY).item("id", AttributeValue::S("product#tea".to_owned()));
    let put = put.item("name", AttributeValue::S("龙井茶".to_owned()));
    let put = put.item("price_amount", AttributeValue::N("1999".to_owned()));
    let put = put.item("price_currency", AttributeValue::S("CNY".to_owned()));
    put.item("stock", AttributeValue::N("7".to_owned())).send().await.unwrap();
    let inventory = DynamoInventory::new(client, INVENTORY.to_owned());
    let nothing = ProductPage { products: Vec::new(), next: None };
    assert_eq!(inventory.list_products(None, 100).await.unwrap(), nothing);
    let tea = ProductId::parse("tea").unwrap();
    let (tea, new) = inventory.describe_product(&tea, &Text::parse("龙井茶").unwrap(), cny(2099)).await.unwrap();
    assert_eq!((tea.stock, new), (7, false));
    assert_eq!(inventory.list_products(None, 100).await.unwrap().products, [tea]);
}

#[tokio::test]
async fn a_product_with_values_that_no_rule_lets_in_any_more_is_still_read() {
    let client = Client::from_conf(support::database().await);
    let put = client.put_item().table_name(INVENTORY).item("id", AttributeValue::S("product#tea / 茶".to_owned()));
    let put = put.item("name", AttributeValue::S(String::new()));
    let put = put.item("price_amount", AttributeValue::N("1999".to_owned()));
    let put = put.item("price_currency", AttributeValue::S("ANG".to_owned()));
    put.item("stock", AttributeValue::N("7".to_owned())).send().await.unwrap();
    let id = ProductId::stored("tea / 茶");
    let stored = DynamoInventory::new(client, INVENTORY.to_owned()).products(std::slice::from_ref(&id)).await.unwrap();
    assert_eq!((&stored[0].id, stored[0].price.currency().code()), (&id, "ANG"));
}

#[tokio::test]
async fn a_charge_in_a_currency_that_is_withdrawn_since_is_refunded_in_it() {
    let client = Client::from_conf(support::database().await);
    let put = client.put_item().table_name(PAYMENTS).item("order_id", AttributeValue::S(ORDER.to_owned()));
    let put = put.item("entry", AttributeValue::S(format!("charge#{KEY}")));
    let put = put.item("outcome", AttributeValue::S("completed".to_owned()));
    let put = put.item("transaction_id", AttributeValue::S("ch_1".to_owned()));
    let put = put.item("amount", AttributeValue::N("3998".to_owned()));
    let put = put.item("refundable", AttributeValue::N("3998".to_owned()));
    let put = put.item("currency", AttributeValue::S("ANG".to_owned()));
    let put = put.item("payment_method", AttributeValue::S("pm-1".to_owned()));
    let put = put.item("processed_at", AttributeValue::S("2024-01-02T03:04:05.678901234Z".to_owned()));
    put.send().await.unwrap();
    let payments = payments_of(client);
    let cancellation =
        ChargeCancellation { order_id: order(), charge_key: key(), refund_key: REFUND_KEY.parse().unwrap() };
    let (payment, refund) = payments.cancel_charge(&cancellation).await.unwrap().unwrap();
    assert_eq!((payment.amount, refund.amount.currency().code()), (refund.amount, "ANG"));
    assert_eq!(payments.ledger(order()).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_charge_that_was_made_before_customers_were_kept_is_answered_as_it_was() {
    let client = Client::from_conf(support::database().await);
    let charge = ChargeRequest {
        idempotency_key: key(),
        order_id: order(),
        customer_id: CustomerId::parse("anna").unwrap(),
        payment_method: PaymentMethod::parse("pm_card_visa").unwrap(),
        amount: cny(3998),
    };
    let payments = payments_of(client.clone());
    let first = payments.charge(&charge).await.unwrap();
    let row = client.update_item().table_name(PAYMENTS).update_expression("REMOVE customer_id");
    let row = row.key("order_id", AttributeValue::S(ORDER.to_owned()));
    let row = row.key("entry", AttributeValue::S(format!("charge#{KEY}"))).return_values(ReturnValue::AllOld);
    let before = row.send().await.unwrap().attributes.unwrap();
    assert_eq!(before["customer_id"], AttributeValue::S("anna".to_owned()));
    assert_eq!(payments.charge(&charge).await.unwrap(), first);
}

#[tokio::test]
async fn charges_declines_cancellations_and_refunds_are_entries_of_an_order() {
    let client = Client::from_conf(support::database().await);
    let payments = payments_of(client.clone());
    let charge = ChargeRequest {
        idempotency_key: key(),
        order_id: order(),
        customer_id: CustomerId::parse("anna").unwrap(),
        payment_method: PaymentMethod::default(),
        amount: cny(3998),
    };
    payments.charge(&charge).await.unwrap();
    let refund = RefundRequest {
        idempotency_key: REFUND_KEY.parse().unwrap(),
        order_id: order(),
        charge_key: key(),
        amount: cny(1000),
    };
    payments.refund(&refund).await.unwrap();
    let declined = ChargeRequest {
        idempotency_key: Uuid::max(),
        payment_method: PaymentMethod::parse("pm_card_declined").unwrap(),
        ..charge
    };
    payments.charge(&declined).await.unwrap_err();
    let barred = ChargeCancellation {
        order_id: order(),
        charge_key: BARRED_KEY.parse().unwrap(),
        refund_key: REFUND_KEY.parse().unwrap(),
    };
    payments.cancel_charge(&barred).await.unwrap();
    let mut stored: Vec<Value> = Vec::new();
    for item in items(&client, PAYMENTS).await {
        stored.push(without_time(item, "processed_at"));
    }
    stored.sort_by_key(|item| item["entry"].to_string());
    let expected = [
        json!({
            "order_id": {"S": ORDER},
            "entry": {"S": format!("charge#{KEY}")},
            "outcome": {"S": "completed"},
            "transaction_id": {"S": "ch_11111111222233334444555555555555"},
            "amount": {"N": "3998"},
            "currency": {"S": "CNY"},
            "payment_method": {"S": "pm_card_visa"},
            "customer_id": {"S": "anna"},
            "refundable": {"N": "2998"},
        }),
        json!({
            "order_id": {"S": ORDER},
            "entry": {"S": format!("charge#{BARRED_KEY}")},
            "outcome": {"S": "cancelled"},
        }),
        json!({
            "order_id": {"S": ORDER},
            "entry": {"S": "charge#ffffffff-ffff-ffff-ffff-ffffffffffff"},
            "outcome": {"S": "declined"},
            "decline_code": {"S": "card_declined"},
            "amount": {"N": "3998"},
            "currency": {"S": "CNY"},
            "payment_method": {"S": "pm_card_declined"},
            "customer_id": {"S": "anna"},
        }),
        json!({
            "order_id": {"S": ORDER},
            "entry": {"S": format!("refund#{REFUND_KEY}")},
            "charge_key": {"S": KEY},
            "transaction_id": {"S": "re_66666666777788889999aaaaaaaaaaaa"},
            "amount": {"N": "1000"},
            "currency": {"S": "CNY"},
        }),
    ];
    assert_eq!(stored, expected);
}

#[tokio::test]
async fn calls_that_the_sandbox_was_asked_to_fail_are_counted_beside_the_books() {
    let client = Client::from_conf(support::database().await);
    let payments = payments_of(client.clone());
    let charge = ChargeRequest {
        idempotency_key: key(),
        order_id: order(),
        customer_id: CustomerId::parse("anna").unwrap(),
        payment_method: PaymentMethod::parse("pm_fails_twice").unwrap(),
        amount: cny(3998),
    };
    for attempts in ["1", "2"] {
        payments.charge(&charge).await.unwrap_err();
        let counted = json!({
            "order_id": {"S": ORDER}, "entry": {"S": format!("attempts#{KEY}")}, "attempts": {"N": attempts}
        });
        assert_eq!(item(&client, PAYMENTS).await, counted);
    }
    payments.charge(&charge).await.unwrap();
    assert_eq!(items(&client, PAYMENTS).await.len(), 2);
    assert_eq!(payments.ledger(order()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_shipment_that_the_carrier_keeps_says_so_and_can_be_mended() {
    let client = Client::from_conf(support::database().await);
    let shipping = shipping_of(client.clone());
    shipping.create_shipment(&shipment_request("SANDBOX-KEEP")).await.unwrap();
    shipping.cancel_shipment(order(), key()).await.unwrap_err();
    let mend = client.update_item().table_name(SHIPMENTS).key("idempotency_key", AttributeValue::S(KEY.to_owned()));
    let mend = mend.update_expression("REMOVE kept").return_values(ReturnValue::AllOld).send().await.unwrap();
    assert_eq!(mend.attributes.unwrap()["kept"], AttributeValue::Bool(true));
    shipping.cancel_shipment(order(), key()).await.unwrap();
    assert_eq!(item(&client, SHIPMENTS).await["state"], json!({"S": "cancelled"}));
}

fn shipment_request(postal_code: &str) -> ShipmentRequest {
    let address = json!({"street": "s", "city": "c", "state": "s", "country": "CN", "postal_code": postal_code});
    ShipmentRequest {
        idempotency_key: key(),
        order_id: order(),
        address: serde_json::from_value(address).unwrap(),
        lines: Vec::new(),
    }
}

#[tokio::test]
async fn a_shipment_says_nothing_about_the_customer() {
    let client = Client::from_conf(support::database().await);
    let shipping = shipping_of(client.clone());
    let expected = |state: &str| {
        json!({
            "idempotency_key": {"S": KEY},
            "order_id": {"S": ORDER},
            "state": {"S": state},
            "shipment_id": {"S": "shp_11111111222233334444555555555555"},
            "carrier": {"S": "sandbox"},
            "tracking_number": {"S": "SB111111112222"},
        })
    };
    shipping.create_shipment(&shipment_request("1")).await.unwrap();
    assert_eq!(without_time(item(&client, SHIPMENTS).await, "estimated_delivery"), expected("created"));
    shipping.cancel_shipment(order(), key()).await.unwrap();
    assert_eq!(without_time(item(&client, SHIPMENTS).await, "estimated_delivery"), expected("cancelled"));
}

#[tokio::test]
async fn a_shipment_that_was_refused_says_why() {
    let client = Client::from_conf(support::database().await);
    let shipping = shipping_of(client.clone());
    let expected = json!({
        "idempotency_key": {"S": KEY},
        "order_id": {"S": ORDER},
        "state": {"S": "refused"},
        "refusal_code": {"S": "address_unknown"},
    });
    shipping.create_shipment(&shipment_request("SANDBOX-REFUSE")).await.unwrap_err();
    assert_eq!(item(&client, SHIPMENTS).await, expected);
    shipping.cancel_shipment(order(), key()).await.unwrap();
    assert_eq!(item(&client, SHIPMENTS).await, expected);
}

#[tokio::test]
async fn a_shipment_that_is_barred_says_for_which_order() {
    let client = Client::from_conf(support::database().await);
    shipping_of(client.clone()).cancel_shipment(order(), key()).await.unwrap();
    let expected = json!({"idempotency_key": {"S": KEY}, "order_id": {"S": ORDER}, "state": {"S": "cancelled"}});
    assert_eq!(item(&client, SHIPMENTS).await, expected);
}

#[tokio::test]
async fn a_notification_says_no_more_of_the_customer_than_the_id() {
    let client = Client::from_conf(support::database().await);
    let notification = Notification {
        idempotency_key: key(),
        order_id: order(),
        customer_id: CustomerId::parse("anna").unwrap(),
        template: "order-confirmed",
        deliverable: true,
    };
    notifications_of(client.clone()).send(&notification).await.unwrap();
    let expected = json!({
        "idempotency_key": {"S": KEY},
        "notification_id": {"S": "msg_11111111222233334444555555555555"},
        "order_id": {"S": ORDER},
        "customer_id": {"S": "anna"},
        "template": {"S": "order-confirmed"},
    });
    assert_eq!(without_time(item(&client, NOTIFICATIONS).await, "sent_at"), expected);
}

#[tokio::test]
async fn a_posting_is_an_item_in_its_terms_list() {
    let client = Client::from_conf(support::database().await);
    let index = DynamoIndex::new(client.clone(), INDEX.to_owned(), 2);
    let mut posting =
        Posting { term: "王".to_owned(), customer: CustomerId::stored("auth0|anna"), text: "王".to_owned() };
    index.add(std::slice::from_ref(&posting)).await.unwrap();
    let stored = json!({"term": {"S": "2/customer/王"}, "place": {"S": "auth0|anna"}, "text": {"S": "王"}});
    assert_eq!(item(&client, INDEX).await, stored);
    posting.text.clear();
    index.add(std::slice::from_ref(&posting)).await.unwrap();
    assert_eq!(item(&client, INDEX).await, json!({"term": {"S": "2/customer/王"}, "place": {"S": "auth0|anna"}}));
    let other = DynamoIndex::new(client, INDEX.to_owned(), 3);
    assert_eq!(other.customers(&posting.term, 1).await.unwrap(), []);
}

/// 32 bytes for an order's: the time, the number, how many come before it in its commit, no length, and the id.
#[tokio::test]
async fn the_events_of_a_type_and_a_minute_are_one_item() {
    let client = Client::from_conf(support::database().await);
    let index = DynamoIndex::new(client.clone(), INDEX.to_owned(), 2);
    let mut commit = commit();
    commit.metadata.occurred_at = "2026-01-02T03:04:05.678901234Z".parse().unwrap();
    commit.events.truncate(1);
    index.list(std::slice::from_ref(&commit)).await.unwrap();
    let stored = item(&client, INDEX).await;
    assert_eq!(stored["term"], json!({"S": "2/event/InventoryReserved"}));
    assert!(stored["place"]["S"].as_str().unwrap().starts_with("0029455384/"), "{stored}");
    let id = order().uuid().simple().to_string();
    assert_eq!(stored["events"]["B"], json!(format!("0000019b7ca98f2e0000000700000000{id}")));
}

#[tokio::test]
async fn the_counts_of_a_function_are_one_item_and_those_of_several_add_up() {
    let client = Client::from_conf(support::database().await);
    let of = |function| DynamoCounters::new(client.clone(), COUNTERS.to_owned(), function);
    let amounts = [("cache_hits_etag".to_owned(), 2), ("cache_misses_etag".to_owned(), 3)];
    of("get-order").add(&amounts).await.unwrap();
    assert_eq!(
        item(&client, COUNTERS).await,
        json!({"name": {"S": "get-order"}, "cache_hits_etag": {"N": "2"}, "cache_misses_etag": {"N": "3"}})
    );
    of("project-orders").add(&[("commits_projected".to_owned(), 5), ("cache_hits_etag".to_owned(), 7)]).await.unwrap();
    assert_eq!(items(&client, COUNTERS).await.len(), 2);
    let sums = [("cache_hits_etag", 9), ("cache_misses_etag", 3), ("commits_projected", 5)];
    let sums: BTreeMap<String, u64> = sums.map(|(name, sum)| (name.to_owned(), sum)).into();
    assert_eq!(of("metrics").read().await.unwrap(), sums);
}

#[tokio::test]
async fn what_a_process_has_used_is_an_item_that_says_when_it_may_go_and_counts_nothing() {
    let client = Client::from_conf(support::database().await);
    let process = Process {
        function: "create-order".to_owned(),
        instance: key(),
        started_at: 1_767_225_000,
        memory_limit_bytes: 256 << 20,
        memory_bytes: 32 << 20,
        cpu_ms: 250,
        tmp_used_bytes: 0,
        tmp_free_bytes: 512 << 20,
    };
    let now = "2026-01-01T00:00:00.5Z".parse().unwrap();
    DynamoProcesses::new(client.clone(), COUNTERS.to_owned()).report(&process, now).await.unwrap();
    assert_eq!(
        item(&client, COUNTERS).await,
        json!({
            "name": {"S": format!("process#create-order#{KEY}")},
            "started_at": {"N": "1767225000"},
            "memory_limit_bytes": {"N": "268435456"},
            "memory_bytes": {"N": "33554432"},
            "cpu_ms": {"N": "250"},
            "tmp_used_bytes": {"N": "0"},
            "tmp_free_bytes": {"N": "536870912"},
            "expires_at": {"N": "1767312000"}
        })
    );
    let counters = DynamoCounters::new(client, COUNTERS.to_owned(), "create-order");
    assert_eq!(counters.read().await.unwrap(), BTreeMap::new());
    counters.add(&[("cpu_ms".to_owned(), 7)]).await.unwrap();
    assert_eq!(counters.read().await.unwrap(), [("cpu_ms".to_owned(), 7)].into());
}
