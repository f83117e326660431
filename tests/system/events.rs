//! The audit across orders: events of one type in a window of time.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::service::{DEADLINE, Service};

/// Every event of the list that begins here, over all its pages.
async fn all(service: &Service, path: &str) -> Vec<Value> {
    let mut events = Vec::new();
    let mut next = Some(path.to_owned());
    while let Some(path) = next {
        let page = service.get("staff-1", &path).await.expect(200).body;
        events.extend(page["events"].as_array().unwrap().clone());
        next = page["next"].as_str().map(str::to_owned);
    }
    events
}

#[tokio::test]
async fn an_event_is_found_by_type_and_time_and_told_as_in_its_orders_history() {
    let service = Service::connect().await;
    let product = service.product(10).await;
    let id = service.place_asking(&product, "pm_card_visa", "200001").await;
    service.await_status("customer-1", &id, &["confirmed"]).await;
    let history = service.get("staff-1", &format!("/api/v1/orders/{id}/events")).await.expect(200).body;
    for expected in history["events"].as_array().unwrap() {
        let event_type = expected["type"].as_str().unwrap();
        let at = expected["occurred_at"].as_str().unwrap();
        let (second, day) = (at.get(..19).unwrap(), at.get(..10).unwrap());
        let path = format!("/api/v1/events?type={event_type}&from={second}Z&to={day}T23:59:59.999Z&page_size=100");
        let started = Instant::now();
        // The index follows the events.
        let mut listed = loop {
            let events = all(&service, &path).await;
            assert!(events.iter().all(|event| event["type"] == event_type));
            if let Some(listed) = events.into_iter().find(|event| event["order_id"] == json!(id)) {
                break listed;
            }
            assert!(started.elapsed() < DEADLINE, "{event_type} of {id} is not listed in time");
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        assert_eq!(listed["stream"], json!(format!("order#{id}")));
        let members = listed.as_object_mut().unwrap();
        members.remove("stream");
        members.remove("order_id");
        assert_eq!(listed, *expected);
    }
}

#[tokio::test]
async fn the_list_is_for_staff_and_names_what_is_wrong() {
    let service = Service::connect().await;
    let good = "/api/v1/events?type=OrderCreated&from=2001-01-01T00:00:00Z&to=2001-02-01T00:00:00Z";
    let nothing = service.get("staff-1", good).await.expect(200).body;
    assert_eq!((&nothing["events"], &nothing["next"]), (&json!([]), &Value::Null));
    for stranger in ["customer-1", "carrier-1"] {
        service.get(stranger, good).await.expect(403);
    }
    let missing = service.get("staff-1", "/api/v1/events").await.expect(400);
    assert_eq!(missing.pointers(), ["?from", "?to", "?type"]);
    let wrong = "/api/v1/events?type=OrderTeleported&from=yesterday&to=soon&page_size=0&after=x&order_id=1";
    let wrong = service.get("staff-1", wrong).await.expect(400);
    assert_eq!(wrong.pointers(), ["?after", "?from", "?order_id", "?page_size", "?to", "?type"]);
    let long = service.get("staff-1", &good.replace("to=2001-02-01", "to=2001-02-02")).await.expect(400);
    assert_eq!(long.pointers(), ["?to"]);
}
