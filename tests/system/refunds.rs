//! What arrives cannot be cancelled any more; staff give money back, and never more than was paid.

use serde_json::{Value, json};

use crate::service::{Answer, Service, fresh_key, token};

async fn post(service: &Service, who: &str, id: &str, deed: &str, body: &Value) -> Answer {
    service.post(who, &format!("/api/v1/orders/{id}/{deed}"), body).await
}

async fn refund(service: &Service, id: &str, key: &str, amount: u64, currency: &str) -> Answer {
    let body = json!({"amount": {"amount": amount, "currency": currency}, "reason": "one packet was damaged"});
    let path = format!("/api/v1/orders/{id}/refunds");
    let request = service.request(reqwest::Method::POST, &path).bearer_auth(token("staff-1").await);
    service.send(request.header("idempotency-key", key).json(&body)).await
}

/// Reads the order until its refunds have come to these ends.
async fn await_refunds(service: &Service, id: &str, wanted: &[&str]) -> Value {
    for _ in 0..150 {
        let order = service.get("customer-1", &format!("/api/v1/orders/{id}")).await.expect(200).body;
        let states: Vec<&str> =
            order["refunds"].as_array().unwrap().iter().map(|refund| refund["status"].as_str().unwrap()).collect();
        if states == wanted {
            return order;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    panic!("the refunds of {id} did not become {wanted:?} in time")
}

#[tokio::test]
async fn a_delivered_order_is_refunded_in_parts_and_not_cancelled() {
    let service = Service::connect().await;
    let product = service.product(10).await;
    let id = service.place_asking(&product, "pm_card_visa", "200001").await;
    service.await_status("customer-1", &id, &["confirmed"]).await;

    post(&service, "customer-1", &id, "delivery", &json!({})).await.expect(403);
    for who in ["carrier-1", "carrier-1", "staff-1"] {
        let answer = post(&service, who, &id, "delivery", &json!({})).await.expect(200).body;
        let expected =
            json!({"order_id": id, "status": "confirmed", "shipment": {"status": "delivered"}, "version": 6});
        assert_eq!(answer, expected);
    }
    let cancel = post(&service, "customer-1", &id, "cancel", &json!({"reason": "changed my mind"})).await.expect(409);
    assert_eq!(cancel.text("type"), "urn:order-service:problem:not-cancellable");
    assert!(cancel.text("detail").contains("refund"), "{:#}", cancel.body);

    let key = fresh_key();
    let first = refund(&service, &id, &key, 1000, "CNY").await.expect(202).body;
    assert_eq!((&first["status"], &first["version"]), (&json!("requested"), &json!(7)));
    let again = refund(&service, &id, &key, 1000, "CNY").await.expect(202);
    assert_eq!((&again.body, again.header("idempotent-replayed")), (&first, "true"));
    assert_eq!(
        refund(&service, &id, &key, 999, "CNY").await.expect(422).text("type"),
        "urn:order-service:problem:idempotency-key-reused"
    );
    let order = await_refunds(&service, &id, &["completed"]).await;
    assert_eq!((&order["status"], &order["shipment"]["status"]), (&json!("confirmed"), &json!("delivered")));
    assert_eq!(order["refunds"][0]["amount"], json!({"amount": 1000, "currency": "CNY"}));

    let too_much = refund(&service, &id, &fresh_key(), 2999, "CNY").await.expect(422);
    assert_eq!(too_much.body["charged"], json!({"amount": 3998, "currency": "CNY"}));
    assert_eq!(too_much.body["refundable"], json!({"amount": 2998, "currency": "CNY"}));
    refund(&service, &id, &fresh_key(), 0, "CNY").await.expect(422);
    assert_eq!(refund(&service, &id, &fresh_key(), 1, "USD").await.expect(422).body["refundable"]["currency"], "CNY");
    refund(&service, &id, &fresh_key(), 2998, "CNY").await.expect(202);
    await_refunds(&service, &id, &["completed", "completed"]).await;
    let books = service.agreed_books(&id).await;
    assert_eq!((&books["charged"], &books["refunded"]), (&json!(3998), &json!(3998)));
    assert_eq!(books["shipment"], "delivered");
    assert_eq!(service.stock(&product).await, 8);
}

#[tokio::test]
async fn twenty_refunds_at_once_never_exceed_the_payment() {
    let service = Service::connect().await;
    let product = service.product(10).await;
    let id = service.place_asking(&product, "pm_card_visa", "200001").await;
    service.await_status("customer-1", &id, &["confirmed"]).await;
    let keys: Vec<String> = (0..20).map(|_| fresh_key()).collect();
    let mut asked = tokio::task::JoinSet::new();
    for key in keys {
        let (service, id) = (Service::connect().await, id.clone());
        asked.spawn(async move {
            // Who comes too often at once is asked to come again.
            for _ in 0..20 {
                let answer = refund(&service, &id, &key, 1000, "CNY").await;
                if answer.status != 503 {
                    return answer.status;
                }
            }
            503
        });
    }
    let answers = asked.join_all().await;
    assert_eq!(answers.iter().filter(|status| **status == 202).count(), 3, "{answers:?}");
    assert!(answers.iter().all(|status| [202, 422].contains(status)), "{answers:?}");
    await_refunds(&service, &id, &["completed", "completed", "completed"]).await;
    assert_eq!(service.agreed_books(&id).await["refunded"], 3000);
}

#[tokio::test]
async fn a_cancel_gives_back_what_refunds_have_left() {
    let service = Service::connect().await;
    let product = service.product(10).await;
    let id = service.place_asking(&product, "pm_refund_fails_twice", "200001").await;
    service.await_status("customer-1", &id, &["confirmed"]).await;
    refund(&service, &id, &fresh_key(), 1000, "CNY").await.expect(202);
    post(&service, "customer-1", &id, "cancel", &json!({"reason": "changed my mind"})).await.expect(202);
    refund(&service, &id, &fresh_key(), 1, "CNY").await.expect(409);
    service.await_status("customer-1", &id, &["cancelled"]).await;
    await_refunds(&service, &id, &["completed"]).await;
    let books = service.agreed_books(&id).await;
    assert_eq!((&books["charged"], &books["refunded"]), (&json!(3998), &json!(3998)));
    assert_eq!(service.stock(&product).await, 10);
    refund(&service, &id, &fresh_key(), 1, "CNY").await.expect(409);
}

#[tokio::test]
async fn a_parcel_that_is_faster_than_the_cancel_makes_the_order_stand() {
    let service = Service::connect().await;
    let product = service.product(10).await;
    let id = service.place_asking(&product, "pm_card_visa", "SANDBOX-KEEP").await;
    service.await_status("customer-1", &id, &["confirmed"]).await;
    post(&service, "customer-1", &id, "cancel", &json!({"reason": "changed my mind"})).await.expect(202);
    service.await_status("customer-1", &id, &["needs_attention"]).await;
    post(&service, "carrier-1", &id, "delivery", &json!({})).await.expect(200);
    let order = service.await_status("customer-1", &id, &["confirmed"]).await.body;
    assert_eq!((&order["shipment"]["status"], &order["cancellation"]), (&json!("delivered"), &Value::Null));
    post(&service, "customer-1", &id, "cancel", &json!({"reason": "again"})).await.expect(409);
    let books = service.agreed_books(&id).await;
    assert_eq!((&books["refunded"], &books["shipment"]), (&json!(0), &json!("delivered")));
}

#[tokio::test]
async fn what_is_unknown_unpaid_or_malformed_is_not_refunded_and_does_not_arrive() {
    let service = Service::connect().await;
    let nobody = "00000000-0000-4000-8000-000000000000";
    refund(&service, nobody, &fresh_key(), 1, "CNY").await.expect(404);
    post(&service, "staff-1", nobody, "delivery", &json!({})).await.expect(404);
    post(&service, "carrier-1", "x", "delivery", &json!({})).await.expect(404);
    let product = service.product(10).await;
    let id = service.place_asking(&product, "pm_card_declined", "200001").await;
    service.await_status("customer-1", &id, &["rejected"]).await;
    refund(&service, &id, &fresh_key(), 1, "CNY").await.expect(409);
    post(&service, "staff-1", &id, "delivery", &json!({})).await.expect(409);
    for who in ["customer-1", "carrier-1"] {
        post(&service, who, &id, "refunds", &json!({})).await.expect(403);
    }
    let wrong = json!({"amount": {"amount": -1, "currency": "XXXX"}, "reason": "", "to": "somebody else"});
    let answer = post(&service, "staff-1", &id, "refunds", &wrong).await.expect(400);
    assert_eq!(answer.pointers(), ["/amount/amount", "/amount/currency", "/reason", "/to"]);
    let answer = post(&service, "staff-1", &id, "refunds", &json!({})).await.expect(400);
    assert_eq!(answer.pointers(), ["/amount", "/reason"]);
}
