//! Staff keep the products of the built-in inventory.

use reqwest::Method;
use serde_json::{Value, json};

use crate::service::{Answer, Service, fresh_key, order, token};

async fn adjust(service: &Service, product: &str, key: &str, body: &Value) -> Answer {
    let path = format!("/api/v1/products/{product}/stock-adjustments");
    let request = service.request(Method::POST, &path).bearer_auth(token("staff-1").await);
    service.send(request.header("idempotency-key", key).json(body)).await
}

#[tokio::test]
async fn a_product_is_created_replaced_and_read_back() {
    let service = Service::connect().await;
    let id = service.product(7).await;
    let path = format!("/api/v1/products/{id}");
    let read = service.get("staff-1", &path).await.expect(200);
    let expected = json!({"id": id, "name": "Test tea", "price": {"amount": 1999, "currency": "CNY"}, "stock": 7});
    assert_eq!(read.body, expected);
    service.set_product(&id, 2099, 9).await.expect(200);
    let read = service.get("staff-1", &path).await.expect(200);
    assert_eq!((&read.body["price"]["amount"], &read.body["stock"]), (&json!(2099), &json!(9)));
}

#[tokio::test]
async fn what_a_product_cannot_be_is_named() {
    let service = Service::connect().await;
    let path = format!("/api/v1/products/test-{}", fresh_key());
    let bad = json!({"name": " ", "price": {"amount": -1, "currency": "XXX"}, "stock": 1.5, "id": "x"});
    let answer = service.put("staff-1", &path, &bad).await.expect(400);
    assert_eq!(answer.pointers(), ["/id", "/name", "/price/amount", "/price/currency", "/stock"]);
    service.get("staff-1", &path).await.expect(404);
    let good = json!({"name": "x", "price": {"amount": 1, "currency": "CNY"}, "stock": 1});
    service.put("staff-1", "/api/v1/products/no%20spaces", &good).await.expect(400);
    service.get("staff-1", "/api/v1/products/no%20spaces").await.expect(404);
}

#[tokio::test]
async fn a_product_keeps_its_stock_when_only_its_price_is_put() {
    let service = Service::connect().await;
    let id = service.product(7).await;
    let path = format!("/api/v1/products/{id}");
    let priced = json!({"name": "Test tea", "price": {"amount": 2099, "currency": "CNY"}});
    assert_eq!(service.put("staff-1", &path, &priced).await.expect(200).body["stock"], 7);
    assert_eq!(service.stock(&id).await, 7);
    let new = format!("/api/v1/products/test-{}", fresh_key());
    assert_eq!(service.put("staff-1", &new, &priced).await.expect(201).body["stock"], 0);
}

#[tokio::test]
async fn the_stock_of_a_product_that_is_being_sold_is_adjusted_and_nothing_is_lost() {
    let service = Service::connect().await;
    let id = service.product(10).await;
    let placed = service.place("customer-1", &fresh_key(), &order("customer-1", &id)).await.expect(201);
    let (key, damp) = (fresh_key(), json!({"by": -3, "reason": "three packets were damp"}));
    let first = adjust(&service, &id, &key, &damp).await.expect(201);
    service.await_status("customer-1", &placed.text("order_id"), &["confirmed"]).await;
    assert_eq!(service.stock(&id).await, 5);

    let again = adjust(&service, &id, &key, &damp).await.expect(201);
    assert_eq!((again.header("idempotent-replayed"), &again.body), ("true", &first.body));
    adjust(&service, &id, &key, &json!({"by": -2, "reason": "three packets were damp"})).await.expect(422);
    let refused = adjust(&service, &id, &fresh_key(), &json!({"by": -6, "reason": "a thief"})).await.expect(409);
    assert_eq!(refused.body["stock"], 5);
    assert_eq!(service.stock(&id).await, 5);

    let counted =
        adjust(&service, &id, &fresh_key(), &json!({"counted": 4, "reason": "stocktaking"})).await.expect(201);
    assert_eq!((&counted.body["by"], &counted.body["stock"]), (&json!(-1), &json!(4)));
    assert_eq!(service.stock(&id).await, 4);
}

#[tokio::test]
async fn what_an_adjustment_cannot_be_is_named() {
    let service = Service::connect().await;
    let id = service.product(10).await;
    for (bad, pointers) in [
        (
            json!({"by": 1.5, "counted": -1, "reason": " ", "colour": "red"}),
            &["/by", "/colour", "/counted", "/reason"][..],
        ),
        (json!({"reason": "neither"}), &["/by"]),
        (json!({"by": 1, "counted": 1, "reason": "both"}), &["/by"]),
        (json!({"by": 0, "reason": "nothing"}), &["/by"]),
    ] {
        assert_eq!(adjust(&service, &id, &fresh_key(), &bad).await.expect(400).pointers(), pointers);
    }
    let one = json!({"by": 1, "reason": "found one"});
    adjust(&service, &format!("test-{}", fresh_key()), &fresh_key(), &one).await.expect(404);
    assert_eq!(service.stock(&id).await, 10);
}
