//! How many orders there were, and what they come to, while others place theirs: told apart by a currency that nobody else pays with.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::service::{DEADLINE, Service, fresh_key, order};

const CURRENCY: &str = "ISK";

async fn place(service: &Service, product: &str, payment_method: &str) -> String {
    let mut body = order("customer-1", product);
    body["items"][0]["unit_price"] = json!({"amount": 500, "currency": CURRENCY});
    body["payment_method"] = json!(payment_method);
    service.place("customer-1", &fresh_key(), &body).await.expect(201).text("order_id")
}

/// What orders in this currency came to in these periods: placed, confirmed, rejected, cancelled and refunded.
async fn amounts(service: &Service, query: &str) -> [u64; 5] {
    let body = service.get_later("staff-2", &format!("/api/v1/stats?{query}")).await.expect(200).body;
    let periods = body["periods"].as_array().unwrap().iter();
    let amounts: Vec<&Value> = periods
        .flat_map(|period| period["amounts"].as_array().unwrap())
        .filter(|amounts| amounts["currency"] == CURRENCY)
        .collect();
    ["placed", "confirmed", "rejected", "cancelled", "refunded"]
        .map(|name| amounts.iter().map(|amounts| amounts[name].as_u64().unwrap()).sum())
}

#[tokio::test]
async fn orders_are_counted_by_the_hour_and_the_day() {
    let service = Service::connect().await;
    let product = format!("test-{}", fresh_key());
    let body = json!({"name": "Test tea", "price": {"amount": 500, "currency": CURRENCY}, "stock": 10});
    service.put("staff-1", &format!("/api/v1/products/{product}"), &body).await.expect(201);
    let before = [amounts(&service, "by=day").await, amounts(&service, "by=hour").await];

    let (happy, cancelled) =
        (place(&service, &product, "pm_card_visa").await, place(&service, &product, "pm_card_visa").await);
    let declined = place(&service, &product, "pm_card_declined").await;
    service.await_status("customer-1", &declined, &["rejected"]).await;
    for id in [&happy, &cancelled] {
        service.await_status("customer-1", id, &["confirmed"]).await;
    }
    let cancel = format!("/api/v1/orders/{cancelled}/cancel");
    service.post("customer-1", &cancel, &json!({"reason": "too many"})).await.expect(202);
    service.await_status("customer-1", &cancelled, &["cancelled"]).await;

    // Of two pieces each; three orders, of which two were confirmed, and one of these was cancelled and paid back.
    let more = [3_000, 2_000, 1_000, 1_000, 1_000];
    let started = Instant::now();
    for (query, before) in ["by=day", "by=hour"].into_iter().zip(before) {
        let expected: Vec<u64> = before.iter().zip(more).map(|(before, more)| before + more).collect();
        loop {
            let counted = amounts(&service, query).await;
            if counted.as_slice() == expected {
                break;
            }
            assert!(started.elapsed() < DEADLINE, "{counted:?} {query}, and it should be {expected:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

#[tokio::test]
async fn only_staff_see_figures_and_only_of_a_window_that_is_one() {
    let service = Service::connect().await;
    service.get("customer-1", "/api/v1/stats?by=day").await.expect(403);
    let wrong = service.get("staff-1", "/api/v1/stats?by=week&from=2026-01-01&until=now").await.expect(400);
    assert_eq!(wrong.pointers(), ["?by", "?from", "?until"]);
    let empty = service.get("staff-1", "/api/v1/stats?by=day&from=2001-01-01T00:00:00Z&to=2001-01-03T00:00:00Z").await;
    let empty = empty.expect(200).body;
    let periods = empty["periods"].as_array().unwrap();
    assert_eq!((periods.len(), &periods[1]["placed"], &periods[1]["amounts"]), (2, &json!(0), &json!([])));
}
