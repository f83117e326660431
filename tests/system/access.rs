//! Who may do what. Identity comes from the token alone.

use reqwest::Method;
use serde_json::json;

use crate::service::{Service, fresh_key, id_of, order, setting, token};

#[tokio::test]
async fn every_route_but_health_needs_a_token() {
    let service = Service::connect().await;
    let routes = [
        (Method::POST, "/api/v1/orders"),
        (Method::GET, "/api/v1/orders"),
        (Method::GET, "/api/v1/orders/x"),
        (Method::GET, "/api/v1/orders/x/timeline"),
        (Method::GET, "/api/v1/orders/customer/customer-1"),
        (Method::GET, "/api/v1/orders/search"),
        (Method::POST, "/api/v1/orders/x/cancel"),
        (Method::GET, "/api/v1/orders/x/ledger"),
        (Method::POST, "/api/v1/orders/x/fulfilment/resume"),
        (Method::POST, "/api/v1/orders/x/fulfilment/skip"),
        (Method::POST, "/api/v1/orders/x/delivery"),
        (Method::POST, "/api/v1/orders/x/refunds"),
        (Method::GET, "/api/v1/orders/x/events"),
        (Method::GET, "/api/v1/events"),
        (Method::GET, "/api/v1/customers/x"),
        (Method::PUT, "/api/v1/customers/x"),
        (Method::GET, "/api/v1/products/x"),
        (Method::PUT, "/api/v1/products/x"),
        (Method::POST, "/api/v1/products/x/stock-adjustments"),
        (Method::GET, "/metrics"),
    ];
    let good = token("customer-1").await;
    let (head, tail) = good.rsplit_once('.').unwrap();
    let forged = format!("{head}.{}", tail.chars().rev().collect::<String>());
    for (method, path) in routes {
        let none = service.send(service.request(method.clone(), path)).await;
        assert_eq!(none.status, 401, "{method} {path}");
        for bad in ["nonsense", forged.as_str(), "a.b.c"] {
            let answer = service.send(service.request(method.clone(), path).bearer_auth(bad)).await;
            assert_eq!(answer.status, 401, "{method} {path} {bad:.10}");
        }
    }
    service.send(service.request(Method::GET, "/health")).await.expect(200);
}

#[tokio::test]
async fn a_token_of_another_issuer_is_refused() {
    let service = Service::connect().await;
    let good = token("customer-1").await;
    let [head, _, tail] = good.split('.').collect::<Vec<_>>()[..] else { panic!("not a JWT") };
    // Base64 of {"iss":"https://evil.example","sub":"x","exp":4102444800} and of one that expired in 2001.
    let claims = [
        "eyJpc3MiOiJodHRwczovL2V2aWwuZXhhbXBsZSIsInN1YiI6IngiLCJleHAiOjQxMDI0NDQ4MDB9",
        "eyJpc3MiOiJodHRwczovL2V2aWwuZXhhbXBsZSIsInN1YiI6IngiLCJleHAiOjEwMDAwMDAwMDB9",
    ];
    for claims in claims {
        let bad = format!("{head}.{claims}.{tail}");
        service.send(service.request(Method::GET, "/api/v1/orders/x").bearer_auth(bad)).await.expect(401);
    }
}

#[tokio::test]
async fn credentials_that_nobody_gave_out_open_nothing_behind_the_api() {
    let service = Service::connect().await;
    let stranger = aws_sdk_dynamodb::config::Credentials::for_tests();
    let config = service.dynamodb.config().to_builder().credentials_provider(stranger).build();
    let denied = aws_sdk_dynamodb::Client::from_conf(config).scan().table_name(setting("PAYMENTS_TABLE")).send().await;
    assert!(denied.is_err(), "a stranger can read the ledger");
}

#[tokio::test]
async fn customers_order_for_themselves_only_and_staff_for_anyone() {
    let service = Service::connect().await;
    let product = service.product(10).await;
    service.place("customer-2", &fresh_key(), &order("customer-1", &product)).await.expect(403);
    let placed = service.place("staff-1", &fresh_key(), &order("customer-1", &product)).await.expect(201);
    let id = placed.text("order_id");
    let seen = service.await_status("customer-1", &id, &["created", "reserved", "paid", "shipped", "confirmed"]).await;
    assert_eq!(seen.body["customer"]["id"], json!(id_of("customer-1")));
}

#[tokio::test]
async fn somebody_elses_order_is_not_there() {
    let service = Service::connect().await;
    let product = service.product(10).await;
    let id =
        service.place("customer-1", &fresh_key(), &order("customer-1", &product)).await.expect(201).text("order_id");
    service.await_status("customer-1", &id, &["confirmed"]).await;
    let path = format!("/api/v1/orders/{id}");
    let foreign = service.get("customer-2", &path).await.expect(404);
    let unknown = service.get("customer-2", "/api/v1/orders/00000000-0000-4000-8000-000000000000").await.expect(404);
    assert_eq!(foreign.body["detail"], unknown.body["detail"]);
    service.get("staff-1", &path).await.expect(200);
}

#[tokio::test]
async fn staff_routes_refuse_customers() {
    let service = Service::connect().await;
    let product = service.product(10).await;
    let path = format!("/api/v1/products/{product}");
    service.get("customer-1", &path).await.expect(403);
    let free = json!({"name": "Free tea", "price": {"amount": 0, "currency": "CNY"}, "stock": 9});
    service.put("customer-1", &path, &free).await.expect(403);
    let more = json!({"by": 1, "reason": "found some"});
    service.post("customer-1", &format!("{path}/stock-adjustments"), &more).await.expect(403);
    let untouched = service.get("staff-1", &path).await.expect(200).body;
    assert_eq!((&untouched["price"]["amount"], &untouched["stock"]), (&json!(1999), &json!(10)));
}

#[tokio::test]
async fn what_costs_money_that_nobody_has_agreed_to_is_for_supervisors() {
    let service = Service::connect().await;
    let id = fresh_key();
    let skip = json!({"step": "refund-payment", "reason": "paid back"});
    let path = format!("/api/v1/orders/{id}/fulfilment/skip");
    for (who, status) in [("customer-1", 403), ("carrier-1", 403), ("staff-2", 403), ("staff-1", 404)] {
        assert_eq!(service.post(who, &path, &skip).await.status, status, "{who}");
    }
    let product = format!("test-{}", fresh_key());
    service.set_product(&product, 60_000, 10).await.expect(201);
    let mut dear = order("customer-1", &product);
    dear["items"][0]["unit_price"]["amount"] = json!(60_000);
    let id = service.place("customer-1", &fresh_key(), &dear).await.expect(201).text("order_id");
    service.await_status("customer-1", &id, &["confirmed"]).await;
    let path = format!("/api/v1/orders/{id}/refunds");
    let refund = |amount: u64| json!({"amount": {"amount": amount, "currency": "CNY"}, "reason": "a gesture"});
    // The setting `limits.staff_refund` says 100,000 for one order in all.
    for (who, amount, status) in [
        ("customer-1", 1, 403),
        ("staff-2", 100_001, 403),
        ("staff-2", 60_000, 202),
        ("staff-2", 40_001, 403),
        ("staff-1", 40_001, 202),
    ] {
        assert_eq!(service.post(who, &path, &refund(amount)).await.status, status, "{amount} by {who}");
    }
}
