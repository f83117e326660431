//! The read model is rebuilt while orders go on.

use std::{collections::BTreeSet, path::Path, time::Duration};

use tokio::process::Command;

use crate::service::{Service, fresh_key, id_of, order};

#[tokio::test]
async fn a_rebuild_switches_to_new_views_and_no_read_is_wrong_meanwhile() {
    let service = Service::connect().await;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let product = service.product(1_000).await;
    let profile = serde_json::json!({"first_name": "Re", "last_name": "Builder", "email": "re@example.com"});
    let put = service.put("staff-1", &format!("/api/v1/customers/{}", id_of("customer-1")), &profile).await;
    let profile_version = put.body["version"].as_u64().unwrap();
    let mut rebuild = Command::new("make").args(["-s", "rebuild", "VIEW=orders"]).current_dir(root).spawn().unwrap();
    let mut seen: Vec<(String, u64)> = Vec::new();
    let finished = loop {
        let placed = service.place("customer-1", &fresh_key(), &order("customer-1", &product)).await.expect(201);
        seen.push((placed.text("order_id"), 1));
        // What was seen once is there, and is not older than it was: some of them, and the newest, each time.
        for number in [seen.len() - 1, seen.len() / 2, 0] {
            let (id, version) = seen[number].clone();
            let path = format!("/api/v1/orders/{id}?min_version={version}");
            // The views are late while the machine is busy with the rebuild, and say so.
            let read = service.get_later("customer-1", &path).await;
            seen[number].1 = read.expect(200).body["version"].as_u64().unwrap();
        }
        if let Some(finished) = rebuild.try_wait().unwrap() {
            break finished;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    assert!(finished.success(), "the rebuild failed");
    for (id, _) in &seen {
        let read = service.await_status("customer-1", id, &["confirmed"]).await;
        // Others may have changed it since.
        assert!(read.body["customer"]["version"].as_u64().unwrap() >= profile_version);
        assert_eq!(read.body["version"], 5);
    }
    // The list, the index and the counts were rebuilt too.
    let newest = seen.last().unwrap().0.as_str();
    let mut next = Some(format!("/api/v1/orders/customer/{}?page_size=100", id_of("customer-1")));
    loop {
        // Others may have placed more than a page of orders since.
        let path = next.unwrap_or_else(|| panic!("{newest} is not listed"));
        let listed = service.get("customer-1", &path).await.expect(200).body;
        if listed["orders"].as_array().unwrap().iter().any(|row| row["id"] == newest) {
            break;
        }
        next = listed["next"].as_str().map(str::to_owned);
    }
    let oldest = &seen[0].0;
    let found = service.get("staff-1", &format!("/api/v1/orders/search?q={oldest}")).await.expect(200).body;
    assert_eq!(found["total_count"], 1);
    // Nothing is left of the generation before.
    let keys = service.scan("ORDERS_TABLE").await;
    let generations: BTreeSet<&str> = keys
        .iter()
        .filter_map(|item| item["key"].as_s().unwrap().split_once('/'))
        .map(|(generation, _)| generation)
        .collect();
    assert_eq!(generations.len(), 1, "{generations:?}");
}
