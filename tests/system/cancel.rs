//! An order can be cancelled at any point, and is undone in whole whatever the moment.

use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Value, json};

use crate::service::{Answer, DEADLINE, Service, fresh_key, order, setting};

const ENDS: [&str; 4] = ["confirmed", "cancelled", "rejected", "needs_attention"];

async fn cancel(service: &Service, who: &str, order_id: &str) -> Answer {
    let body = json!({"reason": "changed my mind"});
    service.post(who, &format!("/api/v1/orders/{order_id}/cancel"), &body).await
}

/// Nothing is left of the order: not in the books, not in the stock.
async fn assert_undone(service: &Service, id: &str, product: &str, stock: u64) {
    let ledger = service.get("staff-1", &format!("/api/v1/orders/{id}/ledger")).await.expect(200).body;
    assert_eq!(ledger["agrees"], true, "{ledger:#}");
    assert_eq!(ledger["providers"]["charged"], ledger["providers"]["refunded"], "{ledger:#}");
    assert_eq!(ledger["providers"]["reserved"], json!([]), "{ledger:#}");
    assert_ne!(ledger["providers"]["shipment"], "created", "{ledger:#}");
    assert_eq!(service.stock(product).await, stock);
}

#[tokio::test]
async fn a_confirmed_order_is_cancelled_refunded_and_put_back() {
    let service = Service::connect().await;
    let product = service.product(10).await;
    let placed = service.place("customer-1", &fresh_key(), &order("customer-1", &product)).await.expect(201);
    let id = placed.text("order_id");
    service.await_status("customer-1", &id, &["confirmed"]).await;

    let ledger = service.get("staff-1", &format!("/api/v1/orders/{id}/ledger")).await.expect(200).body;
    let reserved = json!([{"product_id": product, "quantity": 2}]);
    let books = json!({"charged": 3998, "refunded": 0, "reserved": reserved, "shipment": "created"});
    let expected = json!({"order_id": id, "currency": "CNY", "order": books, "providers": books, "agrees": true});
    assert_eq!(ledger, expected);
    service.get("customer-1", &format!("/api/v1/orders/{id}/ledger")).await.expect(403);

    let answer = cancel(&service, "customer-1", &id).await.expect(202);
    assert_eq!(answer.body, json!({"order_id": id, "status": "cancelling", "version": 6}));
    let done = service.await_status("customer-1", &id, &["cancelled", "needs_attention"]).await.body;
    assert_eq!(done["status"], "cancelled");
    assert_eq!(done["cancellation"]["reason"], "changed my mind");
    assert_eq!(done["payment"]["status"], "refunded");
    assert_eq!(done["shipment"]["status"], "cancelled");
    assert_undone(&service, &id, &product, 10).await;

    let again = cancel(&service, "customer-1", &id).await.expect(202);
    assert_eq!((again.text("status").as_str(), &again.body["version"]), ("cancelled", &done["version"]));
}

/// The cancel comes as early as it can, so it meets the fulfilment wherever that happens to be; by 8 callers at once.
#[tokio::test]
async fn a_cancel_that_meets_the_fulfilment_wins_or_loses_as_a_whole() {
    let service = Service::connect().await;
    let product = service.product(1_000).await;
    for round in 0..10 {
        let placed = service.place("customer-1", &fresh_key(), &order("customer-1", &product)).await.expect(201);
        let id = placed.text("order_id");
        if round % 2 == 1 {
            service.await_status("customer-1", &id, &["reserved", "paid", "shipped", "confirmed"]).await;
        }
        let one = cancel(&service, "customer-1", &id);
        let other = cancel(&service, "staff-1", &id);
        let (one, other) = tokio::join!(one, other);
        one.expect(202);
        other.expect(202);
        let done = service.await_status("customer-1", &id, &ENDS).await;
        if done.text("status") == "confirmed" {
            // The view may still show what the cancel has overtaken.
            service.await_status("customer-1", &id, &["cancelled", "needs_attention"]).await;
        }
        let events = service.event_types(&id).await;
        assert_eq!(events.iter().filter(|event| *event == "OrderCancelRequested").count(), 1, "{events:?}");
        assert_eq!(events.last().map(String::as_str), Some("OrderCancelled"), "{events:?}");
        assert_undone(&service, &id, &product, 1_000).await;
    }
}

#[tokio::test]
async fn a_parcel_that_the_carrier_refuses_gives_the_money_back() {
    let service = Service::connect().await;
    let product = service.product(10).await;
    let mut body = order("customer-1", &product);
    body["shipping_address"]["postal_code"] = json!("SANDBOX-REFUSE");
    let id = service.place("customer-1", &fresh_key(), &body).await.expect(201).text("order_id");
    let done = service.await_status("customer-1", &id, &ENDS).await.body;
    assert_eq!((&done["status"], &done["rejection"]["code"]), (&json!("rejected"), &json!("shipment_refused")));
    assert_eq!((&done["payment"]["status"], &done["shipment"]), (&json!("refunded"), &Value::Null));
    assert_undone(&service, &id, &product, 10).await;
    cancel(&service, "customer-1", &id).await.expect(409);
}

/// Mends what the order asked for: the provider would give the money back now.
async fn mend_refunds(service: &Service, order_id: &str) {
    let charge = service.ledger(order_id).await.remove(0);
    let update = service.dynamodb.update_item().table_name(setting("PAYMENTS_TABLE"));
    let update = update.key("order_id", charge["order_id"].clone()).key("entry", charge["entry"].clone());
    let update = update.update_expression("SET payment_method = :mended");
    let mended = AttributeValue::S("pm_card_visa".to_owned());
    update.expression_attribute_values(":mended", mended).send().await.unwrap();
}

#[tokio::test]
async fn an_undo_that_goes_on_failing_asks_for_a_person_who_lets_it_go_on() {
    let service = Service::connect().await;
    let product = service.product(10).await;
    let mut body = order("customer-1", &product);
    body["payment_method"] = json!("pm_refund_fails");
    let id = service.place("customer-1", &fresh_key(), &body).await.expect(201).text("order_id");
    service.await_status("customer-1", &id, &["confirmed"]).await;
    cancel(&service, "customer-1", &id).await.expect(202);
    let stuck = service.await_status("customer-1", &id, &["cancelled", "needs_attention"]).await.body;
    assert_eq!(stuck["status"], "needs_attention");
    let asked = json!({"step": "refund-payment", "reason": "RequestRefused", "interrupted": "cancelling"});
    assert_eq!(stuck["attention"], asked);
    assert_eq!(stuck["payment"]["status"], "completed");
    let (undo, started) = (format!("{id}-undo"), Instant::now());
    // It ends a moment after it has called for somebody.
    while service.express_execution(&undo).await.unwrap().status.as_str() != "FAILED" {
        assert!(started.elapsed() < DEADLINE, "{undo} has not failed");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    mend_refunds(&service, &id).await;
    let path = format!("/api/v1/orders/{id}/fulfilment/resume");
    let reason = json!({"reason": "the provider is back"});
    service.post("customer-1", &path, &reason).await.expect(403);
    assert_eq!(service.post("staff-1", &path, &json!({})).await.expect(400).pointers(), ["/reason"]);
    service.post("staff-1", &path, &reason).await.expect(202);
    let done = service.await_status("customer-1", &id, &["cancelled"]).await;
    assert_eq!(done.body["attention"], Value::Null);
    assert_undone(&service, &id, &product, 10).await;
    service.post("staff-1", &path, &reason).await.expect(409);
    let unknown = "/api/v1/orders/00000000-0000-4000-8000-000000000000/fulfilment/resume";
    service.post("staff-1", unknown, &reason).await.expect(404);
}

#[tokio::test]
async fn what_cannot_be_cancelled_says_why() {
    let service = Service::connect().await;
    let product = service.product(10).await;
    let placed = service.place("customer-1", &fresh_key(), &order("customer-1", &product)).await.expect(201);
    let id = placed.text("order_id");
    cancel(&service, "customer-2", &id).await.expect(404);
    cancel(&service, "customer-1", "00000000-0000-4000-8000-000000000000").await.expect(404);
    cancel(&service, "customer-1", "x").await.expect(404);
    let path = format!("/api/v1/orders/{id}/cancel");
    for bad in [json!({}), json!({"reason": ""}), json!({"reason": 7}), json!({"reason": "x".repeat(501)})] {
        assert_eq!(service.post("customer-1", &path, &bad).await.expect(400).pointers(), ["/reason"]);
    }
    let unknown = service.post("customer-1", &path, &json!({"reason": "x", "refund": true})).await.expect(400);
    assert_eq!(unknown.pointers(), ["/refund"]);
    let done = service.await_status("customer-1", &id, &ENDS).await;
    assert_eq!(done.text("status"), "confirmed");
}
