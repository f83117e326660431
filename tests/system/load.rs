//! Many orders at once: nothing lost, nothing doubled, the books agree.

use std::{collections::HashMap, sync::Arc};

use serde_json::json;

use crate::service::{Service, fresh_key, order};

const ORDERS: usize = 200;
const CLIENTS: usize = 8;

#[tokio::test]
async fn two_hundred_orders_of_eight_clients_are_all_confirmed_and_the_books_agree() {
    let service = Arc::new(Service::connect().await);
    let product = service.product(1_000).await;
    let letters_before = service.dead_letters().await;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (service, product) = (Arc::clone(&service), product.clone());
            tokio::spawn(async move {
                let mut totals = HashMap::new();
                for number in 0..ORDERS / CLIENTS {
                    let mut body = order("customer-1", &product);
                    let quantity = 1 + (client + number) % 3;
                    body["items"][0]["quantity"] = json!(quantity);
                    let placed = service.place("customer-1", &fresh_key(), &body).await.expect(201);
                    totals.insert(placed.text("order_id"), quantity as u64 * 1999);
                }
                totals
            })
        })
        .collect();
    let mut totals = HashMap::new();
    for client in clients {
        totals.extend(client.await.unwrap());
    }
    assert_eq!(totals.len(), ORDERS);

    for id in totals.keys() {
        let done = service.await_status("customer-1", id, &["confirmed", "rejected"]).await;
        assert_eq!(done.text("status"), "confirmed");
        assert_eq!(done.body["total_amount"]["amount"], totals[id]);
    }
    let pieces: u64 = totals.values().map(|total| total / 1999).sum();
    assert_eq!(service.stock(&product).await, 1_000 - pieces);
    let mut charged: HashMap<String, u64> = HashMap::new();
    for line in service.scan("PAYMENTS_TABLE").await {
        let id = line["order_id"].as_s().unwrap();
        if totals.contains_key(id) {
            assert_eq!(line["outcome"].as_s().unwrap(), "completed");
            *charged.entry(id.clone()).or_default() += line["amount"].as_n().unwrap().parse::<u64>().unwrap();
        }
    }
    assert_eq!(charged, totals);
    assert_eq!(service.dead_letters().await, letters_before);
}
