//! Staff keep the products of the built-in inventory.

use serde_json::json;

use crate::service::{Service, fresh_key};

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
    let bad = json!({"name": " ", "price": {"amount": -1, "currency": "EURO"}, "stock": 1.5, "id": "x"});
    let answer = service.put("staff-1", &path, &bad).await.expect(400);
    assert_eq!(answer.pointers(), ["/id", "/name", "/price/amount", "/price/currency", "/stock"]);
    service.get("staff-1", &path).await.expect(404);
    let good = json!({"name": "x", "price": {"amount": 1, "currency": "CNY"}, "stock": 1});
    service.put("staff-1", "/api/v1/products/no%20spaces", &good).await.expect(400);
    service.get("staff-1", "/api/v1/products/no%20spaces").await.expect(404);
}
