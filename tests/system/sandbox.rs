//! What an order can ask the built-in providers for goes wrong, and the order comes to its right end all the same.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Value, json};

use crate::service::{Service, fresh_key, order, setting};

const FULFILLED: [&str; 5] =
    ["OrderCreated", "InventoryReserved", "PaymentCompleted", "ShipmentCreated", "OrderConfirmed"];

/// An order of the test's own product, of which there are ten.
struct Asked {
    service: Service,
    product: String,
    id: String,
}

impl Asked {
    async fn with(payment_method: &str, postal_code: &str) -> Self {
        let service = Service::connect().await;
        let product = service.product(10).await;
        let mut body = order("customer-1", &product);
        body["payment_method"] = json!(payment_method);
        body["shipping_address"]["postal_code"] = json!(postal_code);
        let id = service.place("customer-1", &fresh_key(), &body).await.expect(201).text("order_id");
        Self { service, product, id }
    }

    async fn end(&self) -> Value {
        let ends = ["confirmed", "rejected", "needs_attention"];
        self.service.await_status("customer-1", &self.id, &ends).await.body
    }

    async fn cancel(&self) -> Value {
        let path = format!("/api/v1/orders/{}/cancel", self.id);
        self.service.post("customer-1", &path, &json!({"reason": "changed my mind"})).await.expect(202);
        self.service.await_status("customer-1", &self.id, &["cancelled", "needs_attention"]).await.body
    }

    /// The kind of each line in the books with its amount, in the order of their names.
    async fn books(&self) -> Vec<(String, u64)> {
        let line = |line: &HashMap<String, AttributeValue>| {
            let kind = line["entry"].as_s().unwrap().split('#').next().unwrap().to_owned();
            (kind, line["amount"].as_n().unwrap().parse().unwrap())
        };
        self.service.ledger(&self.id).await.iter().map(line).collect()
    }

    /// The order is confirmed after one charge and holds its two pieces.
    async fn assert_fulfilled(&self) {
        let done = self.end().await;
        assert_eq!(done["status"], "confirmed", "{done:#}");
        assert_eq!((&done["payment"]["status"], &done["shipment"]["status"]), (&json!("completed"), &json!("created")));
        assert_eq!(self.service.event_types(&self.id).await, FULFILLED);
        assert_eq!(self.books().await, [("charge".to_owned(), 3998)]);
        assert_eq!(self.service.stock(&self.product).await, 8);
    }

    /// The one charge has gone back, and so have the pieces.
    async fn assert_cancelled(&self, done: &Value) {
        assert_eq!(done["status"], "cancelled", "{done:#}");
        assert_eq!(self.books().await, [("charge".to_owned(), 3998), ("refund".to_owned(), 3998)]);
        assert_eq!(self.service.stock(&self.product).await, 10);
    }
}

#[tokio::test]
async fn a_charge_whose_answer_is_lost_is_made_once() {
    let asked = Asked::with("pm_charged_then_timeout", "200001").await;
    asked.assert_fulfilled().await;
    let done = asked.cancel().await;
    asked.assert_cancelled(&done).await;
}

#[tokio::test]
async fn a_charge_that_fails_twice_is_made_at_the_third_try() {
    let asked = Asked::with("pm_fails_twice", "200001").await;
    asked.assert_fulfilled().await;
}

#[tokio::test]
async fn a_slow_charge_is_waited_for() {
    let started = Instant::now();
    let asked = Asked::with("pm_slow", "200001").await;
    asked.assert_fulfilled().await;
    assert!(started.elapsed() >= Duration::from_secs(2));
}

#[tokio::test]
async fn a_refund_that_fails_twice_is_made_once_at_the_third_try() {
    let asked = Asked::with("pm_refund_fails_twice", "200001").await;
    asked.assert_fulfilled().await;
    let done = asked.cancel().await;
    asked.assert_cancelled(&done).await;
}

/// The shipments of the order in the carrier's table.
async fn shipments(asked: &Asked) -> Vec<HashMap<String, AttributeValue>> {
    let mut shipments = asked.service.scan("SHIPMENTS_TABLE").await;
    shipments.retain(|shipment| shipment["order_id"].as_s().unwrap() == &asked.id);
    shipments
}

#[tokio::test]
async fn a_shipment_whose_answer_is_lost_is_created_once() {
    let asked = Asked::with("pm_card_visa", "SANDBOX-TIMEOUT").await;
    asked.assert_fulfilled().await;
    assert_eq!(shipments(&asked).await.len(), 1);
    let done = asked.cancel().await;
    asked.assert_cancelled(&done).await;
}

#[tokio::test]
async fn a_parcel_that_the_carrier_keeps_asks_for_a_person_before_any_money_goes_back() {
    let asked = Asked::with("pm_card_visa", "SANDBOX-KEEP").await;
    asked.assert_fulfilled().await;
    let stuck = asked.cancel().await;
    assert_eq!(stuck["status"], "needs_attention");
    let attention = json!({"step": "cancel-shipment", "reason": "RequestRefused", "interrupted": "cancelling"});
    assert_eq!(stuck["attention"], attention);
    assert_eq!(stuck["shipment"]["status"], "created");
    assert_eq!(asked.books().await, [("charge".to_owned(), 3998)]);
    assert_eq!(asked.service.stock(&asked.product).await, 8);

    // Mends what the order asked for: the carrier would give the parcel back now.
    let kept = shipments(&asked).await.remove(0);
    let mend = asked.service.dynamodb.update_item().table_name(setting("SHIPMENTS_TABLE"));
    let mend = mend.key("idempotency_key", kept["idempotency_key"].clone()).update_expression("REMOVE kept");
    mend.send().await.unwrap();
    let path = format!("/api/v1/orders/{}/fulfilment/resume", asked.id);
    asked.service.post("staff-1", &path, &json!({"reason": "the carrier gives it back"})).await.expect(202);
    let done = asked.service.await_status("customer-1", &asked.id, &["cancelled"]).await.body;
    asked.assert_cancelled(&done).await;
}

#[tokio::test]
async fn a_customer_who_cannot_be_told_does_not_lose_the_order() {
    let asked = Asked::with("pm_card_visa", "SANDBOX-MUTE").await;
    asked.assert_fulfilled().await;
    let notifications = asked.service.scan("NOTIFICATIONS_TABLE").await;
    assert!(notifications.iter().all(|sent| sent["order_id"].as_s().unwrap() != &asked.id));
    let (_, commit) = asked.service.events(&asked.id).await.remove(4);
    let events: Value = serde_json::from_str(commit["events"].as_s().unwrap()).unwrap();
    assert_eq!(events[0]["data"], json!({"notification_id": null}));
}
