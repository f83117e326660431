//! Who a customer is, and what only the customer and staff may know.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::Mutex;

use crate::service::{DEADLINE, Service, fresh_key, id_of, order};

/// The profile of customer-2, so whoever changes it is alone.
pub(crate) static PROFILE: Mutex<()> = Mutex::const_new(());

#[tokio::test]
async fn a_customer_keeps_a_profile_that_others_do_not_see() {
    let _alone = PROFILE.lock().await;
    let service = Service::connect().await;
    let path = format!("/api/v1/customers/{}", id_of("customer-2"));
    let profile = json!({"first_name": "小明", "last_name": "王", "email": "ming@example.com"});
    let put = service.put("customer-2", &path, &profile).await;
    assert!([200, 201].contains(&put.status), "{:#}", put.body);
    let version = put.body["version"].as_u64().unwrap();
    assert_eq!(service.put("customer-2", &path, &profile).await.expect(200).body["version"], version);
    for who in ["customer-2", "staff-1"] {
        let seen = service.get(who, &path).await.expect(200).body;
        assert_eq!((&seen["first_name"], &seen["email"]), (&profile["first_name"], &profile["email"]));
    }
    for stranger in ["customer-1", "carrier-1"] {
        service.get(stranger, &path).await.expect(404);
        service.put(stranger, &path, &profile).await.expect(404);
    }
    let renamed = json!({"first_name": "小明", "email": "ming@example.com"});
    // The order placed before shows the customer as they are now, and the address as it was ordered.
    let product = service.product(10).await;
    let placed = service.place("customer-2", &fresh_key(), &order("customer-2", &product)).await.expect(201);
    let order_id = placed.text("order_id");
    let read = service.await_customer("customer-2", &order_id, version).await;
    assert_eq!(
        (&read["customer"]["last_name"], &read["customer"]["email"]),
        (&profile["last_name"], &profile["email"])
    );
    assert_eq!(service.put("staff-1", &path, &renamed).await.expect(200).body["version"], version + 1);
    let read = service.await_customer("customer-2", &order_id, version + 1).await;
    assert_eq!((&read["customer"]["first_name"], &read["customer"]["last_name"]), (&json!("小明"), &json!(null)));
    assert_eq!(read["shipping_address"]["street"], "1 Secret Lane");
    service.get("staff-1", "/api/v1/customers/nobody-at-all").await.expect(404);
    let wrong = json!({"first_name": "", "last_name": 7, "email": "nowhere", "nickname": "x"});
    let answer = service.put("customer-2", &path, &wrong).await.expect(400);
    assert_eq!(answer.pointers(), ["/email", "/first_name", "/last_name", "/nickname"]);
}

#[tokio::test]
async fn a_profile_that_changes_often_gets_a_snapshot_and_stays_right() {
    let service = Service::connect().await;
    let id = fresh_key();
    let path = format!("/api/v1/customers/{id}");
    for version in 1..=105 {
        let profile = json!({"first_name": "Anna", "last_name": version.to_string(), "email": "anna@example.com"});
        assert_eq!(service.put("staff-1", &path, &profile).await.body["version"], version);
    }
    let stream = format!("customer#{id}");
    let started = Instant::now();
    while !service.scan("SNAPSHOTS_TABLE").await.iter().any(|item| item["stream"].as_s() == Ok(&stream)) {
        assert!(started.elapsed() < DEADLINE, "there is no snapshot of {stream}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let seen = service.get("staff-1", &path).await.expect(200).body;
    assert_eq!((&seen["last_name"], &seen["version"]), (&json!("105"), &json!(105)));
}
