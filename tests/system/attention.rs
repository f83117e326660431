//! Orders that nobody can help but a person: how they are found, and the ways out.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::service::{Answer, DEADLINE, Service, logs, reconcile, setting};

async fn post(service: &Service, id: &str, deed: &str, body: &Value) -> Answer {
    service.post("staff-1", &format!("/api/v1/orders/{id}/{deed}"), body).await
}

#[tokio::test]
async fn a_refund_that_cannot_be_made_is_skipped_by_a_person_who_answers_for_it() {
    let service = Service::connect().await;
    let product = service.product(10).await;
    let id = service.place_asking(&product, "pm_refund_fails", "200001").await;
    service.await_status("customer-1", &id, &["confirmed"]).await;
    let skip = |step: &str| json!({"step": step, "reason": "paid back by bank transfer"});
    post(&service, &id, "fulfilment/skip", &skip("refund-payment")).await.expect(409);
    post(&service, &id, "cancel", &json!({"reason": "out of season"})).await.expect(202);
    service.await_status("customer-1", &id, &["needs_attention"]).await;

    let path = format!("/api/v1/orders/{id}/fulfilment/skip");
    service.post("customer-1", &path, &skip("refund-payment")).await.expect(403);
    assert_eq!(post(&service, &id, "fulfilment/skip", &json!({})).await.expect(400).pointers(), ["/reason", "/step"]);
    let forward = post(&service, &id, "fulfilment/skip", &skip("process-payment")).await.expect(400);
    assert_eq!(forward.pointers(), ["/step"]);
    let elsewhere = post(&service, &id, "fulfilment/skip", &skip("cancel-shipment")).await.expect(409);
    assert!(elsewhere.text("detail").contains("refund-payment"), "{:#}", elsewhere.body);
    post(&service, &id, "fulfilment/skip", &skip("refund-payment")).await.expect(202);
    let done = service.await_status("customer-1", &id, &["cancelled"]).await.body;
    assert_eq!(done["payment"]["status"], "completed", "the order does not claim a refund that nobody has seen");
    assert_eq!(service.stock(&product).await, 10);
    let books = service.agreed_books(&id).await;
    assert_eq!((&books["charged"], &books["refunded"], &books["reserved"]), (&json!(3998), &json!(0), &json!([])));
    assert!(logs("order needs attention").await.contains(&id), "the alarm counts these lines");
}

#[tokio::test]
async fn a_requested_refund_that_is_stuck_is_given_up_and_the_order_stands() {
    let service = Service::connect().await;
    let product = service.product(10).await;
    let id = service.place_asking(&product, "pm_refund_fails", "200001").await;
    service.await_status("customer-1", &id, &["confirmed"]).await;
    let refund = json!({"amount": {"amount": 500, "currency": "CNY"}, "reason": "a gesture"});
    post(&service, &id, "refunds", &refund).await.expect(202);
    let stuck = service.await_status("customer-1", &id, &["needs_attention"]).await.body;
    assert_eq!(stuck["attention"]["step"], "issue-refund");
    assert_eq!(stuck["attention"]["reason"], "RequestRefused");

    // All that are stuck like that go on together, and this one gets stuck again.
    let mut all = json!({"step": "issue-refund", "error": "RequestRefused", "reason": "once more", "dry_run": true});
    service.post("customer-1", "/api/v1/fulfilment/resume", &all).await.expect(403);
    let dry = service.post("staff-1", "/api/v1/fulfilment/resume", &all).await.expect(200).body;
    assert!(dry["order_ids"].as_array().unwrap().contains(&json!(id)) && dry["resumed"] == 0, "{dry:#}");
    assert_eq!(service.event_types(&id).await.last().unwrap(), "OrderFlagged");
    all["dry_run"] = json!(false);
    let answer = service.post("staff-1", "/api/v1/fulfilment/resume", &all).await.expect(202).body;
    assert!(answer["resumed"].as_u64().unwrap() >= 1 && answer["failed"] == 0, "{answer:#}");
    let order = format!("/api/v1/orders/{id}?min_version=9");
    let again = service.get_later("customer-1", &order).await;
    assert_eq!(again.expect(200).body["status"], "needs_attention");
    let types = service.event_types(&id).await;
    assert_eq!(types[5..], ["RefundRequested", "OrderFlagged", "FulfilmentResumed", "OrderFlagged"]);

    let skip = json!({"step": "issue-refund", "reason": "a voucher instead"});
    post(&service, &id, "fulfilment/skip", &skip).await.expect(202);
    let order = service.await_status("customer-1", &id, &["confirmed"]).await.body;
    assert_eq!(order["refunds"][0]["status"], "failed");
    assert_eq!(service.agreed_books(&id).await["refunded"], 0);
}

/// Somebody has aborted the executions: no step says so, and no catch sees it. A Standard execution that has not been there yet
/// is started; where that has ended too, the order goes on by an event.
#[tokio::test]
async fn an_order_whose_executions_died_goes_on_by_itself() {
    let service = Service::connect().await;
    for both in [false, true] {
        let product = service.product(10).await;
        let id = service.place_asking(&product, "pm_slow", "200001").await;
        let started = Instant::now();
        // The view may show that only when the slow charge is over.
        while service.event_types(&id).await.last().is_none_or(|event| event != "InventoryReserved") {
            assert!(started.elapsed() < DEADLINE, "{id} is not at its charge");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        service.abort("FULFILMENT_EXPRESS_ARN", &id).await;
        if both {
            let start = service.sfn.start_execution().state_machine_arn(setting("FULFILMENT_ARN"));
            start.name(&id).input("{}").send().await.unwrap();
            service.abort("FULFILMENT_ARN", &id).await;
        }
        let started = Instant::now();
        let mut order = Value::Null;
        while started.elapsed() < DEADLINE && order["status"] != "confirmed" {
            // With less patience, others' orders that are under way would be given a Standard execution, too.
            reconcile(10).await;
            order = service.get("customer-1", &format!("/api/v1/orders/{id}")).await.expect(200).body;
        }
        assert_eq!(order["status"], "confirmed", "{order:#}");
        assert_eq!(service.event_types(&id).await.contains(&"FulfilmentResumed".to_owned()), both);
        assert!(service.standard_execution(&id).await.is_some());
        let books = service.agreed_books(&id).await;
        assert_eq!(
            (&books["charged"], &books["refunded"], &books["shipment"]),
            (&json!(3998), &json!(0), &json!("created"))
        );
        assert_eq!(service.ledger(&id).await.len(), 1);
    }
}
