//! What has happened to an order, told afterwards.

use serde_json::{Value, json};

use crate::service::{Service, id_of};

#[tokio::test]
async fn the_history_tells_who_did_what_and_the_order_as_it_was() {
    let service = Service::connect().await;
    let product = service.product(10).await;
    let id = service.place_asking(&product, "pm_card_visa", "200001").await;
    service.await_status("customer-1", &id, &["confirmed"]).await;
    let path = format!("/api/v1/orders/{id}/events");
    let history = service.get("staff-1", &path).await.expect(200).body;
    let events = history["events"].as_array().unwrap();
    let told: Vec<(&Value, &Value)> = events.iter().map(|event| (&event["type"], &event["actor"])).collect();
    let by_customer = json!(format!("customer:{}", id_of("customer-1")));
    assert_eq!(told[0], (&json!("OrderCreated"), &by_customer));
    assert_eq!(told[2], (&json!("PaymentCompleted"), &json!("service:process-payment")));
    assert_eq!((events.len(), &history["version"], &history["order"]["status"]), (5, &json!(5), &json!("confirmed")));

    let paid = service.get("staff-1", &format!("{path}?at=3")).await.expect(200).body;
    assert_eq!((&paid["order"]["status"], &paid["order"]["shipment"]), (&json!("paid"), &Value::Null));
    let at = events[2]["occurred_at"].as_str().unwrap();
    let then = service.get("staff-1", &format!("{path}?at={at}")).await.expect(200).body;
    assert_eq!(then, paid);
    // What JavaScript keeps of the time.
    let millis: String = at.trim_end_matches('Z').chars().take("2001-01-01T00:00:00.000".len()).collect();
    service.get("staff-1", &format!("{path}?at={millis}Z")).await.expect(200);
    service.get("staff-1", &format!("{path}?at=2001-01-01T00:00:00Z")).await.expect(404);
    assert_eq!(service.get("staff-1", &format!("{path}?at=soon")).await.expect(400).pointers(), ["?at"]);
    service.get("customer-1", &path).await.expect(403);
    service.get("staff-1", "/api/v1/orders/00000000-0000-4000-8000-000000000000/events").await.expect(404);
}
