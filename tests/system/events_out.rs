//! What goes out with the events: who, why and when, to the last consumer; and what must not go out.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::Value;

use crate::service::{DEADLINE, Service, fresh_key, id_of, logs, order, token};

#[tokio::test]
async fn the_correlation_id_goes_with_every_event_and_comes_back() {
    let service = Service::connect().await;
    let product = service.product(10).await;
    let correlation_id = format!("test-{}", fresh_key());
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = service.request(Method::POST, "/api/v1/orders").bearer_auth(token("customer-1").await);
    let request = request.header("x-correlation-id", &correlation_id).header("traceparent", traceparent);
    let placed = service.send(request.json(&order("customer-1", &product))).await.expect(201);
    assert_eq!(placed.header("x-correlation-id"), correlation_id);

    let id = placed.text("order_id");
    service.await_status("customer-1", &id, &["confirmed"]).await;
    let events = service.events(&id).await;
    assert_eq!(events.len(), 5);
    for (event_type, commit) in &events {
        assert_eq!(commit["correlation_id"].as_s().unwrap(), &correlation_id, "{event_type}");
        let told = commit["traceparent"].as_s().unwrap();
        assert_eq!(told.split('-').nth(1), traceparent.split('-').nth(1), "{event_type} is in another trace");
    }
    let actors: Vec<_> = events.iter().map(|(_, commit)| commit["actor"].as_s().unwrap().as_str()).collect();
    let customer = format!("customer:{}", id_of("customer-1"));
    let expected = [
        customer.as_str(),
        "service:reserve-inventory",
        "service:process-payment",
        "service:create-shipment",
        "service:send-confirmation",
    ];
    assert_eq!(actors, expected);
    let cause = format!("{id}/1");
    assert!(events[1..].iter().all(|(_, commit)| commit["causation_id"].as_s().unwrap() == &cause));
}

#[tokio::test]
async fn an_execution_is_told_ids_only() {
    let service = Service::connect().await;
    let product = service.product(10).await;
    let id =
        service.place("customer-1", &fresh_key(), &order("customer-1", &product)).await.expect(201).text("order_id");
    service.await_status("customer-1", &id, &["confirmed"]).await;
    let input = service.express_execution(&id).await.unwrap().input.unwrap();
    let input: Value = serde_json::from_str(&input).unwrap();
    let mut keys: Vec<_> = input.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["causation_id", "correlation_id", "order_id", "traceparent"]);
}

/// Every function that an order passes through logs it under its correlation id, and none logs anything about a person.
#[tokio::test]
async fn the_logs_follow_an_order_and_say_nothing_about_its_customer() {
    const PASSED: [&str; 9] = [
        "create-order",
        "project-orders",
        "publish-events",
        "start-fulfilment",
        "validate-order",
        "reserve-inventory",
        "process-payment",
        "create-shipment",
        "send-confirmation",
    ];
    let service = Service::connect().await;
    let product = service.product(10).await;
    let correlation_id = format!("test-{}", fresh_key());
    let request = service.request(Method::POST, "/api/v1/orders").bearer_auth(token("customer-1").await);
    let request = request.header("x-correlation-id", &correlation_id);
    let placed = service.send(request.json(&order("customer-1", &product))).await.expect(201);
    service.await_status("customer-1", &placed.text("order_id"), &["confirmed"]).await;

    let started = Instant::now();
    loop {
        let lines = logs(&correlation_id).await;
        let lines: Vec<Value> = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let ours: Vec<&Value> = lines.iter().filter(|line| line["correlation_id"] == correlation_id).collect();
        let silent: Vec<&str> = PASSED
            .into_iter()
            .filter(|function| {
                !ours.iter().any(|line| line["function_name"].as_str().unwrap_or("").ends_with(function))
            })
            .collect();
        if silent.is_empty() {
            assert_eq!(logs("Secret Lane").await, "", "the logs tell where somebody lives");
            for key in ["timestamp", "level", "message", "function_name"] {
                assert!(ours.iter().all(|line| !line[key].is_null()), "{key} is missing");
            }
            return;
        }
        assert!(started.elapsed() < DEADLINE, "no log line with the correlation id from {silent:?}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
