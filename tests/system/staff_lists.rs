//! What staff look at when nobody has called: orders by their status, and one order's story.

use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Value, json};

use crate::service::{DEADLINE, Service, fresh_key, order, setting};

/// The rows of all pages of the newest orders of this status, up to a bound.
async fn listed(service: &Service, query: &str, pages: usize) -> Vec<Value> {
    let (mut path, mut rows) = (format!("/api/v1/orders?{query}"), Vec::new());
    for _ in 0..pages {
        let page = service.get_later("staff-2", &path).await.expect(200).body;
        rows.extend(page["orders"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next"].as_str() else { break };
        next.clone_into(&mut path);
    }
    rows
}

#[tokio::test]
async fn orders_are_listed_by_their_status_the_newest_first() {
    let service = Service::connect().await;
    let began = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let product = service.product(10).await;
    let stuck = service.place_asking(&product, "pm_refund_fails", "200001").await;
    let declined = service.place_asking(&product, "pm_card_declined", "200001").await;
    service.await_status("customer-1", &stuck, &["confirmed"]).await;
    service.await_status("customer-1", &declined, &["rejected"]).await;
    let has = |rows: &[Value], id: &str| rows.iter().filter(|row| row["id"] == id).count();
    // Others come meanwhile, so that these may be on later pages.
    let from = format!("page_size=7&from={began}");
    for (query, id) in [("status=confirmed", &stuck), ("status=rejected", &declined), (from.as_str(), &declined)] {
        let rows = listed(&service, query, 40).await;
        assert_eq!(has(&rows, id), 1, "{query}");
        let status = query.strip_prefix("status=");
        assert!(rows.iter().all(|row| status.is_none_or(|status| row["status"] == status)), "{query}");
    }
    let all = listed(&service, "page_size=100", 1).await;
    let placed: Vec<&str> = all.iter().map(|row| row["created_at"].as_str().unwrap()).collect();
    assert!(placed.is_sorted_by(|one, next| one[..19] >= next[..19]), "{placed:?}");

    service
        .post("customer-1", &format!("/api/v1/orders/{stuck}/cancel"), &json!({"reason": "too late"}))
        .await
        .expect(202);
    service.await_status("customer-1", &stuck, &["needs_attention"]).await;
    let started = Instant::now();
    // The index of open orders is a moment behind.
    let row = loop {
        let rows = listed(&service, "status=needs_attention&page_size=50", 10).await;
        if let Some(row) = rows.into_iter().find(|row| row["id"] == stuck) {
            break row;
        }
        assert!(started.elapsed() < DEADLINE, "{stuck} is not listed");
    };
    assert_eq!(
        row["attention"],
        json!({"step": "refund-payment", "reason": "RequestRefused", "interrupted": "cancelling"})
    );
    assert!(row["updated_at"].is_string() && row["customer"]["id"].is_string(), "{row:#}");
    assert_eq!(row["books_agree"], Value::Null, "nobody has asked");
    let compared = listed(&service, &format!("status=needs_attention&books=true&from={began}"), 20).await;
    let row = compared.iter().find(|row| row["id"] == stuck).unwrap();
    assert_eq!(row["books_agree"], true, "the refund is in neither of the books: {row:#}");
    assert_eq!(has(&listed(&service, "status=confirmed", 20).await, &stuck), 0, "it is confirmed no more");

    service.get("customer-1", "/api/v1/orders").await.expect(403);
    let wrong = service.get("staff-2", "/api/v1/orders?status=lost&page_size=0&after=x").await.expect(400);
    assert_eq!(wrong.pointers(), ["?after", "?page_size", "?status"]);
    let wide = "/api/v1/orders?status=needs_attention&books=true&page_size=11";
    assert_eq!(service.get("staff-2", wide).await.expect(400).pointers(), ["?page_size"]);
    assert_eq!(service.get("staff-2", "/api/v1/orders?books=true").await.expect(400).pointers(), ["?books"]);
    // Whoever looks after the stack has no stuck order to find.
    let skip = json!({"step": "refund-payment", "reason": "paid back by bank transfer"});
    service.post("staff-1", &format!("/api/v1/orders/{stuck}/fulfilment/skip"), &skip).await.expect(202);
    service.await_status("customer-1", &stuck, &["cancelled"]).await;
}

#[tokio::test]
async fn an_order_tells_its_story_to_its_customer_and_more_of_it_to_staff() {
    let service = Service::connect().await;
    let product = service.product(10).await;
    let id =
        service.place("customer-1", &fresh_key(), &order("customer-1", &product)).await.expect(201).text("order_id");
    service.await_status("customer-1", &id, &["confirmed"]).await;
    let path = format!("/api/v1/orders/{id}/timeline");
    let told = service.get("customer-1", &path).await.expect(200).body;
    let what: Vec<&str> =
        told["entries"].as_array().unwrap().iter().map(|entry| entry["what"].as_str().unwrap()).collect();
    assert_eq!(what.len(), 5);
    assert_eq!(
        (what[0], what[1], what[2]),
        ("The order was placed, for 39.98 CNY.", "The goods are reserved.", "39.98 CNY were paid.")
    );
    assert_eq!((&told["next"]["waits_for"], &told["status"]), (&json!("carrier"), &json!("confirmed")));
    assert!(told["next"]["by"].is_string(), "{told:#}");
    service.get("customer-2", &path).await.expect(404);
    assert_eq!(service.get("staff-2", &path).await.expect(200).body["version"], 5);
}

/// What the inventory has noted of the order's goods.
async fn set_reservation(service: &Service, order_id: &str, state: &str) {
    let set = service.dynamodb.update_item().table_name(setting("INVENTORY_TABLE"));
    let set = set.key("id", AttributeValue::S(format!("reservation#{order_id}")));
    let set = set.update_expression("SET #state = :state").expression_attribute_names("#state", "state");
    set.expression_attribute_values(":state", AttributeValue::S(state.to_owned())).send().await.unwrap();
}

/// A note that the inventory cannot read keeps it from releasing the goods, on every try.
#[tokio::test]
async fn staff_are_told_what_is_tried_again_and_how_often_it_was() {
    let service = Service::connect().await;
    let product = service.product(10).await;
    let id = service.place_asking(&product, "pm_card_visa", "200001").await;
    service.await_status("customer-1", &id, &["confirmed"]).await;
    set_reservation(&service, &id, "unreadable").await;
    let post = async |deed: &str| {
        let path = format!("/api/v1/orders/{id}/{deed}");
        service.post("staff-2", &path, &json!({"reason": "out of season"})).await
    };
    post("cancel").await.expect(202);
    let path = format!("/api/v1/orders/{id}/timeline");
    let started = Instant::now();
    // Where there are next to no pauses, all tries are over soon, and are asked for again.
    let told = loop {
        let told = service.get_later("staff-2", &path).await.expect(200).body;
        if told["tries"]["error"].is_string() {
            break told;
        }
        if told["status"] == "needs_attention" {
            post("fulfilment/resume").await.expect(202);
        }
        assert!(started.elapsed() < DEADLINE, "nobody has tried: {told:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let tries = &told["tries"];
    assert_eq!((&tries["step"], &tries["error"]), (&json!("release-inventory"), &json!("Unavailable")));
    assert_eq!((&tries["attempts"], &tries["rounds"]), (&json!(5), &json!(3)));
    assert!((1..=5).contains(&tries["attempt"].as_u64().unwrap()), "{tries:#}");
    assert!((1..=3).contains(&tries["round"].as_u64().unwrap()), "{tries:#}");
    assert!(
        told["next"]["what"].as_str().unwrap().contains("release-inventory has failed with Unavailable"),
        "{told:#}"
    );
    let customers = service.get_later("customer-1", &path).await.expect(200).body;
    assert_eq!(customers["tries"], Value::Null);
    assert!(!customers.to_string().contains("release-inventory"), "{customers:#}");

    set_reservation(&service, &id, "reserved").await;
    let mended = Instant::now();
    while service.await_status("customer-1", &id, &["needs_attention", "cancelled"]).await.text("status") != "cancelled"
    {
        assert!(mended.elapsed() < DEADLINE, "{id} does not go on");
        // The last try may have come before the mending; 409 where the view is behind.
        assert!([202, 409].contains(&post("fulfilment/resume").await.status));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(service.get_later("staff-2", &path).await.expect(200).body["tries"], Value::Null);
    assert_eq!(service.stock(&product).await, 10);
}
