//! What people say of themselves and of each other is for views and events alone: each field that takes free text gets a word of its
//! own, and none is found in what operators look at.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::service::{Answer, DEADLINE, Service, fresh_key, kept_spans, logs, order, setting, token};

/// Words that nobody else uses, and that all end alike.
struct Words(String);

impl Words {
    fn word(&self, field: &str) -> String {
        format!("{field}{}", self.0)
    }

    fn order(&self, customer: &str, product: &str, payment_method: &str) -> Value {
        let mut body = order("customer-1", product);
        body["customer_id"] = customer.into();
        body["payment_method"] = payment_method.into();
        for field in ["street", "city", "state", "postal_code"] {
            body["shipping_address"][field] = self.word(&field[..2]).into();
        }
        body
    }

    #[track_caller]
    fn are_not_in(&self, told: &str, what: &str) {
        let at = told.find(&self.0).map(|at| &told[at.saturating_sub(200)..at]);
        assert_eq!(at, None, "{what} tell a word");
    }
}

async fn post(service: &Service, id: &str, deed: &str, body: Value) -> Answer {
    service.post("staff-1", &format!("/api/v1/orders/{id}/{deed}"), &body).await
}

/// One order that is refunded, cancelled and undone, one that is stuck until a person helps, one that is declined.
async fn orders(service: &Service, words: &Words, customer: &str, product: &str) -> Vec<String> {
    let mut ids = Vec::new();
    for method in [&words.word("pm_"), "pm_refund_fails", "pm_card_declined"] {
        let placed = service.place("staff-1", &fresh_key(), &words.order(customer, product, method)).await;
        ids.push(placed.expect(201).text("order_id"));
    }
    for id in &ids[..2] {
        service.await_status("staff-1", id, &["confirmed"]).await;
    }
    post(service, &ids[0], "fulfilment/resume", json!({"reason": words.word("resume")})).await.expect(409);
    let refund = json!({"amount": {"amount": 500, "currency": "CNY"}, "reason": words.word("refund")});
    post(service, &ids[0], "refunds", refund).await.expect(202);
    for id in &ids[..2] {
        post(service, id, "cancel", json!({"reason": words.word("cancel")})).await.expect(202);
    }
    service.await_status("staff-1", &ids[1], &["needs_attention"]).await;
    let skip = json!({"step": "refund-payment", "reason": words.word("skip")});
    post(service, &ids[1], "fulfilment/skip", skip).await.expect(202);
    for (id, end) in ids.iter().zip(["cancelled", "cancelled", "rejected"]) {
        service.await_status("staff-1", id, &[end]).await;
    }
    ids
}

/// What is refused is told of in other ways than what is done.
async fn requests_that_are_refused(service: &Service, words: &Words, customer: &str, product: &str) {
    let good = words.order(customer, product, "pm_card_visa");
    let (mut unknown, mut country, mut long) = (good.clone(), good.clone(), good);
    unknown[words.word("field")] = words.word("value").into();
    country["shipping_address"]["country"] = words.word("CN").into();
    long["shipping_address"]["street"] = words.word("street").repeat(20).into();
    for body in [unknown, country, long] {
        service.place("staff-1", &fresh_key(), &body).await.expect(400);
    }
    let broken = service.request(Method::POST, "/api/v1/orders").bearer_auth(token("staff-1").await);
    let broken = broken.header("content-type", "application/json").body(format!("{{\"{}", words.word("broken")));
    service.send(broken).await.expect(400);
    let stranger = service.request(Method::GET, "/api/v1/events").bearer_auth(words.word("eyJ"));
    service.send(stranger).await.expect(401);
    service.get("staff-1", &format!("/api/v1/orders?{}=1", words.word("parameter"))).await;
    service.get("staff-1", &format!("/api/v1/orders/search?q={}", words.word("st"))).await.expect(200);
    service.get("staff-1", &format!("/api/v1/orders/search?q={}@example.com", words.word("mail"))).await.expect(200);
}

/// Inputs, outputs and all that lies between them.
async fn executions(service: &Service, id: &str) -> String {
    let mut told = String::new();
    let both = [service.express_execution(id).await, service.standard_execution(id).await];
    for execution in both.into_iter().flatten() {
        told += &format!("{execution:?}");
        let mut next = None;
        for _page in 0..20 {
            let history = service.sfn.get_execution_history().execution_arn(&execution.execution_arn);
            let history = history.include_execution_data(true).set_next_token(next).send().await.unwrap();
            told += &format!("{:?}", history.events);
            next = history.next_token;
            if next.is_none() {
                break;
            }
        }
    }
    assert!(told.contains(id), "there is no execution of {id} to look at");
    told
}

async fn dead_letters(service: &Service) -> String {
    let mut told = String::new();
    for queue in setting("DEAD_LETTER_QUEUE_URLS").split_whitespace() {
        let receive = service.sqs.receive_message().queue_url(queue).max_number_of_messages(10).visibility_timeout(0);
        told += &format!("{:?}", receive.send().await.unwrap().messages);
    }
    told
}

#[tokio::test]
async fn what_people_say_is_in_no_log_trace_figure_execution_or_dead_letter() {
    let service = Service::connect().await;
    // Of letters alone, so that it may stand wherever a name may.
    let words = Words(fresh_key().replace('-', "")[..12].replace(|digit: char| digit.is_ascii_digit(), "q"));
    let (customer, product) = (fresh_key(), service.product(20).await);
    let profile = json!({"first_name": words.word("first"), "last_name": words.word("last"), "email": format!("{}@example.com", words.word("mail"))});
    service.put("staff-1", &format!("/api/v1/customers/{customer}"), &profile).await.expect(201);
    let ids = orders(&service, &words, &customer, &product).await;
    requests_that_are_refused(&service, &words, &customer, &product).await;

    let started = Instant::now();
    for id in &ids {
        // Both come after the view that was waited for.
        let is_told = async || logs(id).await.contains("close-order") && kept_spans().contains(id.as_str());
        while !is_told().await {
            assert!(started.elapsed() < DEADLINE, "nothing tells of {id}");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        words.are_not_in(&executions(&service, id).await, "executions");
    }
    words.are_not_in(&logs(&words.0).await, "logs");
    words.are_not_in(&kept_spans(), "spans");
    words.are_not_in(service.get("staff-1", "/metrics").await.expect(200).body.as_str().unwrap(), "figures");
    words.are_not_in(&dead_letters(&service).await, "dead letters");
    // Those who may see it do.
    let seen = service.get("staff-1", &format!("/api/v1/orders/{}", ids[0])).await.expect(200).body.to_string();
    for field in ["st", "ci", "po", "refund", "cancel", "first", "mail"] {
        assert!(seen.contains(&words.word(field)), "no {field} in {seen}");
    }
    for who in ["staff-1", "customer-1"] {
        assert_eq!(logs(&token(who).await).await, "", "the logs tell a token");
    }
}
