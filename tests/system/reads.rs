//! Reading an order, and asking whether the service is well.

use std::time::Instant;

use reqwest::Method;
use serde_json::json;

use crate::service::{DEADLINE, Service, fresh_key, order, token};

#[tokio::test]
async fn an_order_that_is_known_is_not_sent_again() {
    let service = Service::connect().await;
    let product = service.product(10).await;
    // A customer whom no other test knows: the tag changes with the profile.
    let mut body = order("customer-1", &product);
    body["customer_id"] = json!(fresh_key());
    let id = service.place("staff-1", &fresh_key(), &body).await.expect(201).text("order_id");
    let mut read = service.await_status("staff-1", &id, &["confirmed"]).await;
    let path = format!("/api/v1/orders/{id}");
    let deadline = Instant::now() + DEADLINE;
    // The order's version, its customer's, and the generation of views, which a rebuild at the same time makes another one.
    'generation: while Instant::now() < deadline {
        let etag = read.header("etag").to_owned();
        assert!(etag.starts_with("\"5-") && etag.ends_with('"'), "{etag}");
        for (tag, status) in [(&*etag, 304), (&format!("W/{etag}, \"x\""), 304), ("*", 304), ("\"4-0\"", 200)] {
            let request = service.request(Method::GET, &path).bearer_auth(token("staff-1").await);
            let answer = service.send(request.header("if-none-match", tag)).await;
            if answer.header("etag") != etag {
                read = answer;
                continue 'generation;
            }
            answer.expect(status);
        }
        return;
    }
    panic!("the tag was another one each time: {}", read.header("etag"));
}

#[tokio::test]
async fn a_read_can_wait_for_ones_own_write() {
    let service = Service::connect().await;
    let product = service.product(10).await;
    let placed = service.place("customer-1", &fresh_key(), &order("customer-1", &product)).await.expect(201);
    let id = placed.text("order_id");
    let read = service.get_later("customer-1", &format!("/api/v1/orders/{id}?min_version=1")).await.expect(200);
    assert!(read.body["version"].as_u64().unwrap() >= 1);

    let never = service.get("customer-1", &format!("/api/v1/orders/{id}?min_version=999")).await.expect(503);
    assert_eq!(never.header("retry-after"), "1");
    let unknown = format!("/api/v1/orders/{}?min_version=1", uuid::Uuid::new_v4());
    service.get("customer-1", &unknown).await.expect(404);
    let bad = service.get("customer-1", &format!("/api/v1/orders/{id}?min_version=soon")).await.expect(400);
    assert_eq!(bad.pointers(), ["?min_version"]);
    let unknown = service.get("customer-1", &format!("/api/v1/orders/{id}?minversion=1")).await.expect(400);
    assert_eq!(unknown.pointers(), ["?minversion"]);
}

#[tokio::test]
async fn an_id_that_is_no_id_names_no_order() {
    let service = Service::connect().await;
    for id in ["x", "00000000-0000-4000-8000-000000000000", "..%2f..", "%00", &"9".repeat(2_000)] {
        service.get("customer-1", &format!("/api/v1/orders/{id}")).await.expect(404);
    }
}

#[tokio::test]
async fn health_tells_of_every_component() {
    let service = Service::connect().await;
    let health = service.send(service.request(Method::GET, "/health")).await.expect(200);
    assert_eq!(health.body["status"], "up");
    assert_eq!(health.headers.get_all("cache-control").iter().collect::<Vec<_>>(), ["no-store"]);
    let components = health.body["components"].as_array().unwrap();
    let mut names: Vec<_> = components.iter().map(|component| component["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    let expected = [
        "counters",
        "dead_letters",
        "event_bus",
        "event_store",
        "fulfilment",
        "fulfilment_express",
        "fulfilment_queue",
        "index",
        "inventory",
        "limits",
        "notifications",
        "order_view",
        "payments",
        "shipping",
        "snapshots",
    ];
    assert_eq!(names, expected);
    assert!(components.iter().all(|component| component["status"] == "up" && component["response_time_ms"].is_u64()));
    let providers = health.body["providers"].as_array().unwrap();
    let ports: Vec<_> = providers.iter().map(|provider| provider["port"].as_str().unwrap()).collect();
    assert_eq!(ports, ["inventory", "payments", "shipping", "notifications"]);
    assert!(providers.iter().all(|provider| provider["kind"].is_string() && provider["status"] == "up"));
    assert_eq!(health.body["configuration"]["digest"].as_str().unwrap().len(), 16);
}
