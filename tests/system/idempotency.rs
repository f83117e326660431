//! The same create, once more and many times at once: one order, one charge, one execution.

use std::sync::Arc;

use serde_json::json;

use crate::service::{Service, fresh_key, order};

#[tokio::test]
async fn the_same_create_twice_in_a_row_gets_the_first_answer() {
    let service = Service::connect().await;
    let product = service.product(2).await;
    let (key, body) = (fresh_key(), order("customer-1", &product));
    let first = service.place("customer-1", &key, &body).await.expect(201);
    assert_eq!(first.header("idempotent-replayed"), "");
    let id = first.text("order_id");
    service.await_status("customer-1", &id, &["confirmed"]).await;

    // By now the stock is gone: only the replay can still answer.
    let again = service.place("customer-1", &key, &body).await.expect(201);
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert_eq!(again.body, first.body);
    assert_eq!(service.ledger(&id).await.len(), 1);
}

#[tokio::test]
async fn the_same_create_20_times_at_once_is_one_order_one_charge_one_execution() {
    let service = Arc::new(Service::connect().await);
    let product = service.product(100).await;
    let (key, body) = (fresh_key(), order("customer-2", &product));
    let attempts: Vec<_> = (0..20)
        .map(|_| {
            let (service, key, body) = (Arc::clone(&service), key.clone(), body.clone());
            tokio::spawn(async move { service.place("customer-2", &key, &body).await })
        })
        .collect();
    let mut ids = Vec::new();
    let mut first_answers = 0;
    for attempt in attempts {
        let answer = attempt.await.unwrap().expect(201);
        first_answers += u32::from(answer.header("idempotent-replayed").is_empty());
        ids.push(answer.text("order_id"));
    }
    ids.dedup();
    assert_eq!((ids.len(), first_answers), (1, 1));

    let id = &ids[0];
    service.await_status("customer-2", id, &["confirmed"]).await;
    assert_eq!(service.ledger(id).await.len(), 1);
    assert_eq!(service.stock(&product).await, 98);
    assert_eq!(service.express_execution(id).await.unwrap().name.as_deref(), Some(id.as_str()));
    assert!(service.standard_execution(id).await.is_none(), "nothing was left to hand over");
    assert_eq!(service.event_types(id).await.len(), 5);
}

#[tokio::test]
async fn the_same_key_with_another_body_is_refused_and_changes_nothing() {
    let service = Service::connect().await;
    let product = service.product(10).await;
    let (key, mut body) = (fresh_key(), order("customer-1", &product));
    let id = service.place("customer-1", &key, &body).await.expect(201).text("order_id");
    body["items"][0]["quantity"] = json!(3);
    service.place("customer-1", &key, &body).await.expect(422);
    service.await_status("customer-1", &id, &["confirmed"]).await;
    assert_eq!(service.stock(&product).await, 8);
}

#[tokio::test]
async fn a_key_belongs_to_its_caller() {
    let service = Service::connect().await;
    let product = service.product(10).await;
    let key = fresh_key();
    let one = service.place("customer-1", &key, &order("customer-1", &product)).await.expect(201);
    let other = service.place("customer-2", &key, &order("customer-2", &product)).await.expect(201);
    assert_ne!(one.text("order_id"), other.text("order_id"));
}

#[tokio::test]
async fn without_a_key_every_create_is_a_new_order() {
    let service = Service::connect().await;
    let product = service.product(10).await;
    let body = order("customer-1", &product);
    let one = service.post("customer-1", "/api/v1/orders", &body).await.expect(201);
    let other = service.post("customer-1", "/api/v1/orders", &body).await.expect(201);
    assert_ne!(one.text("order_id"), other.text("order_id"));
}
