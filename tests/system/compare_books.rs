//! What a provider may have done late is looked for when an order has been at rest for a while.

use serde_json::{Value, json};

use crate::service::{Service, fresh_key, make, order};

async fn history(service: &Service, id: &str) -> Vec<Value> {
    let told = service.get("staff-1", &format!("/api/v1/orders/{id}/events")).await.expect(200).body;
    told["events"].as_array().unwrap().clone()
}

#[tokio::test]
async fn the_books_of_a_cancelled_order_are_compared_once() {
    let service = Service::connect().await;
    let product = service.product(10).await;
    let placed = service.place("customer-1", &fresh_key(), &order("customer-1", &product)).await.expect(201);
    let id = placed.text("order_id");
    service.await_status("customer-1", &id, &["confirmed"]).await;
    let path = format!("/api/v1/orders/{id}/cancel");
    service.post("customer-1", &path, &json!({"reason": "changed my mind"})).await.expect(202);
    let seen = service.await_status("customer-1", &id, &["cancelled"]).await.body;
    assert_eq!(seen.get("in_doubt_since"), None, "what only we need to know is not shown");

    // Not yet: it has only just come to rest.
    let (done, said) = make(&["compare-books", &format!("ORDER={id}")], "").await;
    assert!(done && said.contains(r#""looked_at": 1, "agreed": 0"#), "{said}");
    for agreed in [1, 0] {
        let (done, said) = make(&["compare-books", &format!("ORDER={id}"), "PATIENCE=0"], "").await;
        assert!(
            done && said.contains(&format!(r#""looked_at": 1, "agreed": {agreed}, "late": 0, "flagged": 0"#)),
            "{said}"
        );
    }
    let events = history(&service, &id).await;
    let compared = events.last().unwrap();
    assert_eq!(compared["type"], "BooksCompared");
    assert_eq!(compared["data"]["found"]["refunded"]["amount"], 3998);
    let path = format!("/api/v1/orders/{id}?min_version={}", events.len());
    assert_eq!(service.get_later("customer-1", &path).await.expect(200).body["status"], "cancelled");
    service.agreed_books(&id).await;
}
