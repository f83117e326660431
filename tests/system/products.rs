//! Staff keep the products of the built-in inventory.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::service::{Answer, DEADLINE, Service, fresh_key, order, token};

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

/// The products on up to so many pages, from this one on.
async fn listed(service: &Service, first: &str, pages: usize) -> Vec<Value> {
    let (mut path, mut products) = (first.to_owned(), Vec::new());
    for _ in 0..pages {
        let page = service.get_later("staff-2", &path).await.expect(200).body;
        products.extend(page["products"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next"].as_str() else { break };
        next.clone_into(&mut path);
    }
    products
}

#[tokio::test]
async fn all_products_are_listed_page_by_page_each_once_and_as_it_is_read() {
    let service = Service::connect().await;
    // No other product's id begins so.
    let beginning = format!("test-{}", fresh_key());
    let mut own = Vec::new();
    for name in ["a", "b", "c"] {
        let id = format!("{beginning}-{name}");
        service.set_product(&id, 1999, 7).await.expect(201);
        own.push(service.get("staff-1", &format!("/api/v1/products/{id}")).await.expect(200).body);
    }
    let id = |product: &Value| product["id"].as_str().unwrap().to_owned();
    let is_own = |product: &&Value| id(product).starts_with(&beginning);

    let started = Instant::now();
    // The index of products is a moment behind.
    let ids = loop {
        let all = listed(&service, "/api/v1/products?page_size=100", 100).await;
        if all.iter().filter(is_own).eq(&own) {
            break all.iter().map(id).collect::<Vec<String>>();
        }
        assert!(started.elapsed() < DEADLINE, "of {} products, not all of {own:#?} are listed", all.len());
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert!(ids.is_sorted_by(|one, next| one < next), "{ids:?}");
    for (page_size, pages) in [(1, 3), (2, 2)] {
        let few = listed(&service, &format!("/api/v1/products?page_size={page_size}&after={beginning}"), pages).await;
        assert!(few.iter().filter(is_own).eq(&own), "{page_size} a page: {few:#?}");
    }

    service.get("customer-1", "/api/v1/products").await.expect(403);
    let wrong = service.get("staff-2", "/api/v1/products?page_size=0&after=a%20b&sort=price").await.expect(400);
    assert_eq!(wrong.pointers(), ["?after", "?page_size", "?sort"]);
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
