//! A customer's orders, page by page.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::service::{DEADLINE, Service, fresh_key, id_of, order};

#[tokio::test]
async fn a_customers_orders_are_listed_the_newest_first_and_lead_from_page_to_page() {
    let service = Service::connect().await;
    // Nobody else orders as the carrier.
    let product = service.product(100).await;
    let mut placed = Vec::new();
    for _ in 0..5 {
        let order = service.place("carrier-1", &fresh_key(), &order("carrier-1", &product)).await.expect(201);
        placed.insert(0, order.body["order_id"].clone());
        service.await_status("carrier-1", &order.text("order_id"), &["confirmed"]).await;
    }
    let path = format!("/api/v1/orders/customer/{}", id_of("carrier-1"));
    let newest = service.get("carrier-1", &format!("{path}?page_size=2")).await.expect(200).body;
    let total = newest["total_count"].as_u64().unwrap();
    assert!(total >= 5);
    assert_eq!(newest["total_pages"].as_u64().unwrap(), total.div_ceil(2));
    assert_eq!((&newest["customer_id"], &newest["previous"]), (&json!(id_of("carrier-1")), &Value::Null));
    let row = &newest["orders"][0];
    assert_eq!((&row["status"], &row["item_count"]), (&json!("confirmed"), &json!(1)));
    let members: Vec<&String> = row.as_object().unwrap().keys().collect();
    assert_eq!(members, ["created_at", "id", "item_count", "status", "total_amount"]);

    let (mut page, mut seen) = (newest.clone(), Vec::new());
    loop {
        seen.extend(page["orders"].as_array().unwrap().iter().map(|row| row["id"].clone()));
        let Some(next) = page["next"].as_str() else { break };
        page = service.get("staff-1", next).await.expect(200).body;
    }
    assert_eq!((seen.len() as u64, &seen[..5]), (total, &placed[..]));
    let previous = page["previous"].as_str().unwrap().to_owned();
    let before = service.get("carrier-1", &previous).await.expect(200).body;
    assert_eq!(before["page"].as_u64().unwrap(), page["page"].as_u64().unwrap() - 1);
    let past = service.get("carrier-1", &format!("{path}?page=1000&page_size=100")).await.expect(200).body;
    assert_eq!((&past["orders"], &past["total_count"], &past["next"]), (&json!([]), &json!(total), &Value::Null));
}

#[tokio::test]
async fn a_list_can_be_of_one_status() {
    let service = Service::connect().await;
    let product = service.product(10).await;
    let id = service.place_asking(&product, "pm_card_declined", "200001").await;
    service.await_status("customer-1", &id, &["rejected"]).await;
    let path = format!("/api/v1/orders/customer/{}?status=rejected&page_size=100", id_of("customer-1"));
    let started = Instant::now();
    loop {
        let listed = service.get("customer-1", &path).await.expect(200).body;
        let rows = listed["orders"].as_array().unwrap();
        assert!(rows.iter().all(|row| row["status"] == "rejected"), "{listed:#}");
        if rows.iter().any(|row| row["id"] == json!(id)) {
            break;
        }
        assert!(started.elapsed() < DEADLINE, "{id} is not listed in time");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn a_list_says_what_is_wrong_with_its_parameters_and_is_for_the_customer_only() {
    let service = Service::connect().await;
    let path = format!("/api/v1/orders/customer/{}", id_of("customer-1"));
    for (query, pointer) in [
        ("page=0", "?page"),
        ("page=x", "?page"),
        ("page_size=0", "?page_size"),
        ("page_size=101", "?page_size"),
        ("status=lost", "?status"),
        ("sort=oldest", "?sort"),
    ] {
        let answer = service.get("customer-1", &format!("{path}?{query}")).await.expect(400);
        assert_eq!(answer.pointers(), [pointer], "{query}");
    }
    service.get("customer-2", &path).await.expect(404);
    service.get("customer-1", "/api/v1/orders/customer/nobody-at-all").await.expect(404);
    let nobody = service.get("staff-1", "/api/v1/orders/customer/nobody-at-all").await.expect(200).body;
    assert_eq!((&nobody["orders"], &nobody["total_count"], &nobody["total_pages"]), (&json!([]), &json!(0), &json!(0)));
}
