//! Staff find orders by what they remember of them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::service::{Answer, DEADLINE, Service, fresh_key, id_of, order};

/// Searches until the first row is this order, which has only just been placed.
async fn await_first(service: &Service, path: &str, order_id: &str) -> Answer {
    let started = Instant::now();
    loop {
        let found = service.get("staff-1", path).await.expect(200);
        if found.body["orders"][0]["id"] == order_id {
            return found;
        }
        assert!(started.elapsed() < DEADLINE, "{order_id} is not found in time; last seen: {:#}", found.body);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn an_order_is_found_by_any_part_of_its_id() {
    let service = Service::connect().await;
    let product = service.product(10).await;
    let placed = service.place("customer-1", &fresh_key(), &order("customer-1", &product)).await.expect(201);
    let id = placed.text("order_id");
    let dashless = id.replace('-', "");
    let parts = [id.get(..8), id.get(4..13), dashless.get(6..16)].map(Option::unwrap);
    for part in [&id, &id.to_uppercase(), &dashless].map(String::as_str).into_iter().chain(parts) {
        let found = await_first(&service, &format!("/api/v1/orders/search?q={part}"), &id).await;
        assert_eq!(found.body["query"], part);
        let row = &found.body["orders"][0];
        assert_eq!((&row["item_count"], &row["total_amount"]["amount"]), (&json!(1), &json!(3998)));
        assert_eq!(row["customer"]["id"], json!(id_of("customer-1")));
        assert!(row["status"].is_string() && row["created_at"].is_string(), "{row:#}");
    }
    let exact = service.get("staff-1", &format!("/api/v1/orders/search?q={id}")).await.expect(200).body;
    assert_eq!(
        (&exact["total_count"], &exact["total_is_exact"], &exact["next"]),
        (&json!(1), &json!(true), &Value::Null)
    );
}

#[tokio::test]
async fn pages_of_a_search_lead_from_one_to_the_next() {
    let service = Service::connect().await;
    let product = service.product(10).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let placed = service.place("customer-1", &fresh_key(), &order("customer-1", &product)).await.expect(201);
        ids.push(placed.text("order_id"));
    }
    for id in &ids {
        await_first(&service, &format!("/api/v1/orders/search?q={id}"), id).await;
    }
    // A sixteenth of all orders have these three in the middle of their ids.
    let middle = ids[0].get(13..16).unwrap();
    let mut page = service.get("staff-1", &format!("/api/v1/orders/search?q={middle}&page_size=1")).await.expect(200);
    let mut seen = vec![page.body["orders"][0]["id"].clone()];
    for number in 2..=100 {
        let Some(next) = page.body["next"].as_str().map(str::to_owned) else { break };
        page = service.get("staff-1", &next).await.expect(200);
        assert_eq!((&page.body["page"], page.body["orders"].as_array().unwrap().len()), (&json!(number), 1));
        seen.push(page.body["orders"][0]["id"].clone());
        if seen.contains(&json!(ids[0])) {
            break;
        }
    }
    assert!(seen.contains(&json!(ids[0])), "not found on any page");
    let past = service.get("staff-1", "/api/v1/orders/search?q=no-such-order-at-all&page=50").await.expect(200).body;
    assert_eq!((&past["orders"], &past["total_count"], &past["total_pages"]), (&json!([]), &json!(0), &json!(0)));
}

#[tokio::test]
async fn a_customer_is_found_by_names_and_address() {
    let service = Service::connect().await;
    // Nobody else orders as this customer, or has this name.
    let profile = json!({"first_name": "曉明", "last_name": "王", "email": "Xiao.Ming@example.com"});
    let put = service.put("staff-1", &format!("/api/v1/customers/{}", id_of("staff-1")), &profile).await;
    assert!([200, 201].contains(&put.status), "{:#}", put.body);
    let product = service.product(10).await;
    let placed = service.place("staff-1", &fresh_key(), &order("staff-1", &product)).await.expect(201);
    let id = placed.text("order_id");
    for part in ["xiao.MING@EXAMPLE", "曉", "曉明", "ｘｉａｏ.ｍｉｎｇ@"] {
        await_first(&service, &format!("/api/v1/orders/search?q={part}"), &id).await;
    }
}

#[tokio::test]
async fn what_cannot_be_searched_for_is_refused() {
    let service = Service::connect().await;
    let search = async |query: &str| service.get("staff-1", &format!("/api/v1/orders/search{query}")).await;
    for bad in ["", "?q=", "?q=ab", "?q=%20ab%20", "?page=1"] {
        assert_eq!(search(bad).await.expect(400).pointers(), ["?q"], "{bad}");
    }
    for bad in ["page=0", "page=x", "page=-1", "page=51", "page=1001&page_size=1", "page=1&page=2"] {
        assert_eq!(search(&format!("?q=tea&{bad}")).await.expect(400).pointers(), ["?page"], "{bad}");
    }
    for bad in ["page_size=0", "page_size=101", "page_size=ten"] {
        assert_eq!(search(&format!("?q=tea&{bad}")).await.expect(400).pointers(), ["?page_size"], "{bad}");
    }
    let all = search("?q=x&page=0&page_size=0&sort=newest").await.expect(400);
    assert_eq!(all.pointers(), ["?page", "?page_size", "?q", "?sort"]);
    for stranger in ["customer-1", "carrier-1"] {
        service.get(stranger, "/api/v1/orders/search?q=anna").await.expect(403);
    }
}
