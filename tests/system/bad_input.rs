//! Bad input gets its status and a problem that names every wrong field at once; nothing is written.

use reqwest::Method;
use serde_json::{Value, json};

use crate::service::{Answer, Service, fresh_key, order, token};

async fn place_raw(service: &Service, key: &str, body: impl Into<reqwest::Body>) -> Answer {
    let request = service.request(Method::POST, "/api/v1/orders").bearer_auth(token("customer-1").await);
    let request = request.header("idempotency-key", key).header("content-type", "application/json");
    service.send(request.body(body)).await
}

/// Sends it, and sends a good order under the same key afterwards: that key must be as good as new.
async fn refused(service: &Service, product: &str, bad: &Value, status: u16) -> Answer {
    let key = fresh_key();
    let answer = service.place("customer-1", &key, bad).await.expect(status);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(answer.body["status"], status);
    assert_eq!(answer.body["instance"], "/api/v1/orders");
    for member in ["type", "title", "detail", "correlation_id"] {
        assert!(answer.body[member].is_string(), "{member} is missing in {:#}", answer.body);
    }
    let good = service.place("customer-1", &key, &order("customer-1", product)).await.expect(201);
    assert_eq!(good.header("idempotent-replayed"), "", "the bad request has left something under its key");
    answer
}

#[tokio::test]
async fn bodies_that_cannot_be_read_are_refused() {
    let service = Service::connect().await;
    for body in ["", "{", "null", "[]", "\"order\"", "{}{}", "\u{0}", &"[".repeat(100_000)] {
        let answer = place_raw(&service, &fresh_key(), body.to_owned()).await;
        assert_eq!(answer.status, 400, "{body:.20}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
    let huge = order("customer-1", &"x".repeat(200_000)).to_string();
    place_raw(&service, &fresh_key(), huge).await.expect(413);
    place_raw(&service, &fresh_key(), vec![0xff, 0xfe, 0x00]).await.expect(400);
}

#[tokio::test]
async fn every_wrong_field_is_named_at_once() {
    let service = Service::connect().await;
    let product = service.product(1_000).await;
    let bad = json!({
        "customer_id": 7,
        "items": [
            {"product_id": product, "quantity": 0},
            {"product_id": "no spaces please", "quantity": -1},
            {"product_id": "x", "quantity": 1.5, "unit_price": {"amount": "19.99", "currency": "cny"}},
            {"quantity": 4_294_967_296_u64, "colour": "red"}
        ],
        "shipping_address": {"street": "", "city": "x".repeat(101), "country": "US", "postal_code": 1},
        "payment_method": "drop table",
        "discount": 100
    });
    let answer = refused(&service, &product, &bad, 400).await;
    let expected = [
        "/customer_id",
        "/discount",
        "/items/0/quantity",
        "/items/1/product_id",
        "/items/1/quantity",
        "/items/2/quantity",
        "/items/2/unit_price/amount",
        "/items/2/unit_price/currency",
        "/items/3/colour",
        "/items/3/product_id",
        "/items/3/quantity",
        "/payment_method",
        "/shipping_address/city",
        "/shipping_address/postal_code",
        "/shipping_address/state",
        "/shipping_address/street",
    ];
    assert_eq!(answer.pointers(), expected, "{:#}", answer.body);
}

#[tokio::test]
async fn the_number_of_items_is_bounded() {
    let service = Service::connect().await;
    let product = service.product(1_000).await;
    for count in [0, 101] {
        let mut bad = order("customer-1", &product);
        bad["items"] = (0..count).map(|i| json!({"product_id": format!("p{i}"), "quantity": 1})).collect();
        assert_eq!(refused(&service, &product, &bad, 400).await.pointers(), ["/items"]);
    }
    let mut twice = order("customer-1", &product);
    twice["items"] = json!([{"product_id": product, "quantity": 1}, {"product_id": product, "quantity": 2}]);
    assert_eq!(refused(&service, &product, &twice, 400).await.pointers(), ["/items"]);
}

#[tokio::test]
async fn unknown_products_and_mixed_currencies_are_refused() {
    let service = Service::connect().await;
    let product = service.product(1_000).await;
    let mut unknown = order("customer-1", &product);
    unknown["items"][0]["product_id"] = json!("never-heard-of");
    assert_eq!(refused(&service, &product, &unknown, 400).await.pointers(), ["/items/0/product_id"]);

    let euros = service.product(5).await;
    let priced = json!({"name": "Euro tea", "price": {"amount": 5, "currency": "EUR"}, "stock": 5});
    service.put("staff-1", &format!("/api/v1/products/{euros}"), &priced).await.expect(200);
    let mut mixed = order("customer-1", &product);
    mixed["items"] = json!([{"product_id": product, "quantity": 1}, {"product_id": euros, "quantity": 1}]);
    assert_eq!(refused(&service, &product, &mixed, 400).await.pointers(), ["/items/1/product_id"]);
}

#[tokio::test]
async fn a_price_that_changed_is_told_with_the_current_one() {
    let service = Service::connect().await;
    let product = service.product(1_000).await;
    let mut stale = order("customer-1", &product);
    stale["items"][0]["unit_price"]["amount"] = json!(1);
    let answer = refused(&service, &product, &stale, 409).await;
    assert_eq!(answer.body["items"][0]["current_price"], json!({"amount": 1999, "currency": "CNY"}));
}

#[tokio::test]
async fn what_is_not_in_stock_is_told_with_both_quantities() {
    let service = Service::connect().await;
    let (product, rare) = (service.product(1_000).await, service.product(1).await);
    let answer = refused(&service, &product, &order("customer-1", &rare), 409).await;
    let expected = json!([{"product_id": rare, "requested_quantity": 2, "available_quantity": 1}]);
    assert_eq!(answer.body["items"], expected);
}

#[tokio::test]
async fn an_idempotency_key_is_bounded() {
    let service = Service::connect().await;
    let product = service.product(10).await;
    service.place("customer-1", &"k".repeat(256), &order("customer-1", &product)).await.expect(400);
    service.place("customer-1", &format!("{:k>255}", fresh_key()), &order("customer-1", &product)).await.expect(201);
}

#[tokio::test]
async fn a_header_that_has_to_be_single_is_refused_when_it_comes_twice() {
    let service = Service::connect().await;
    let tea = service.product(10).await;
    let body = order("customer-1", &tea);
    let placing = async || {
        let request = service.request(Method::POST, "/api/v1/orders").bearer_auth(token("customer-1").await);
        request.json(&body)
    };
    // As a proxy sends it that adds what is there already.
    let key = fresh_key();
    let twice = placing().await.header("idempotency-key", &key).header("Idempotency-Key", &key);
    let answer = service.send(twice).await.expect(400);
    assert_eq!(answer.text("type"), "urn:order-service:problem:invalid-idempotency-key");
    let twice = placing().await.header("x-correlation-id", "one").header("x-correlation-id", "one");
    let answer = service.send(twice).await.expect(400);
    assert_eq!(answer.text("type"), "urn:order-service:problem:header-sent-twice");
    let request = service.request(Method::POST, "/api/v1/orders").bearer_auth(token("customer-1").await);
    let form = request.header("content-type", "application/x-www-form-urlencoded").body(body.to_string());
    service.send(form).await.expect(415);
    assert_eq!(service.stock(&tea).await, 10, "something was ordered");
    let good = service.place("customer-1", &key, &body).await.expect(201);
    assert_eq!(good.header("cache-control"), "no-store");
}
