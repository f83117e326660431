//! What became of an order is one trace, from the request to the parcel, whichever way it went.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use reqwest::{Method, RequestBuilder};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::service::{DEADLINE, Service, fresh_key, kept_spans, order, token};

/// As the local stack's receiver keeps it (infra/local/spans.py).
#[derive(Debug, Clone, Deserialize)]
struct Span {
    trace: String,
    span: String,
    parent: String,
    name: String,
    function: String,
    failed: bool,
    attributes: Map<String, Value>,
    links: Vec<Link>,
}

#[derive(Debug, Clone, Deserialize)]
struct Link {
    trace: String,
}

/// Those in whose lines this stands.
fn kept(text: &str) -> Vec<Span> {
    let all = kept_spans();
    // The last line may be being written.
    all.lines().filter(|line| line.contains(text)).filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// A trace that a client has begun.
struct Client {
    trace: String,
    span: String,
}

impl Client {
    fn new() -> Self {
        let id = || fresh_key().replace('-', "");
        Self { trace: id(), span: id()[..16].to_owned() }
    }

    /// A request of the client's, with a flag that asks for nothing to be recorded.
    async fn request(&self, service: &Service, path: &str) -> RequestBuilder {
        let request = service.request(Method::POST, path).bearer_auth(token("customer-1").await);
        request.header("traceparent", format!("00-{}-{}-00", self.trace, self.span))
    }

    async fn place(&self, service: &Service, payment_method: &str) -> String {
        let mut body = order("customer-1", &service.product(10).await);
        body["payment_method"] = json!(payment_method);
        let request = self.request(service, "/api/v1/orders").await;
        service.send(request.json(&body)).await.expect(201).text("order_id")
    }

    async fn cancel(&self, service: &Service, order_id: &str) {
        let request = self.request(service, &format!("/api/v1/orders/{order_id}/cancel")).await;
        service.send(request.json(&json!({"reason": "changed my mind"}))).await.expect(202);
    }

    /// The spans of the trace, once each of these functions is in it, and everything's parent: all tell when they end, and what
    /// follows may end first.
    async fn spans(&self, wanted: &[&str]) -> Vec<Span> {
        let started = Instant::now();
        loop {
            let spans: Vec<Span> = kept(&self.trace).into_iter().filter(|span| span.trace == self.trace).collect();
            let is_there = |name: &&&str| spans.iter().any(|span| span.function == **name);
            let lacking: Vec<&&str> = wanted.iter().filter(|name| !is_there(name)).collect();
            let ids: BTreeSet<&str> = spans.iter().map(|span| span.span.as_str()).collect();
            let has_parent = |span: &&Span| span.parent == self.span || ids.contains(span.parent.as_str());
            let lost: Vec<&Span> = spans.iter().filter(|span| !has_parent(span)).collect();
            if lacking.is_empty() && lost.is_empty() {
                return spans;
            }
            assert!(started.elapsed() < DEADLINE, "the trace lacks {lacking:?}, and the parents of {lost:#?}");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    /// Of the order's spans none lies elsewhere, and all that the trace names is there.
    fn is_whole(&self, spans: &[Span], order_id: &str) {
        let all = kept("");
        for span in all.iter().filter(|span| span.attributes.get("order.id") == Some(&json!(order_id))) {
            // Reads, and what a test asks as staff, are traces of their own.
            let is_ours = span.trace == self.trace || span.name.starts_with("GET ");
            assert!(is_ours, "{span:#?} is elsewhere");
        }
        for other in spans.iter().flat_map(|span| &span.links).filter(|link| link.trace != self.trace) {
            let roots = all.iter().filter(|span| span.trace == other.trace && span.parent.is_empty()).count();
            assert_eq!(roots, 1, "the batch {} is nowhere", other.trace);
        }
    }
}

/// What every order that is placed passes through.
const PLACED: [&str; 6] =
    ["create-order", "project-orders", "publish-events", "start-fulfilment", "validate-order", "reserve-inventory"];

const UNDONE: [&str; 4] = ["cancel-shipment", "refund-payment", "release-inventory", "close-order"];

#[tokio::test]
async fn a_happy_order_is_one_trace_from_the_request_to_the_parcel() {
    let (service, client) = (Service::connect().await, Client::new());
    let order_id = client.place(&service, "pm_card_visa").await;
    let spans =
        client.spans(&[&PLACED[..], &["process-payment", "create-shipment", "send-confirmation"]].concat()).await;
    client.is_whole(&spans, &order_id);
    assert!(spans.iter().all(|span| !span.failed), "{spans:#?}");
    let root: Vec<&Span> = spans.iter().filter(|span| span.parent == client.span).collect();
    let [root] = root.as_slice() else { panic!("{root:#?}") };
    assert_eq!(
        (root.name.as_str(), &root.attributes["http.response.status_code"]),
        ("POST /api/v1/orders", &json!(201))
    );
    for (function, call) in [
        ("create-order", "DynamoDB.PutItem"),
        ("publish-events", "EventBridge.PutEvents"),
        ("start-fulfilment", "SFN.StartExecution"),
        ("reserve-inventory", "DynamoDB.TransactWriteItems"),
    ] {
        // What was done for several orders at once is in a trace of its own.
        let batches: BTreeSet<&str> =
            spans.iter().flat_map(|span| &span.links).map(|link| link.trace.as_str()).collect();
        let all = kept("");
        let mut theirs = all.iter().filter(|span| span.trace == client.trace || batches.contains(span.trace.as_str()));
        assert!(theirs.any(|span| span.function == function && span.name == call), "{function} shows no {call}");
    }
    let (_, told) = crate::service::make(&["trace", &format!("ORDER={order_id}")], "").await;
    for part in ["create-order: POST /api/v1/orders", "process-payment", "for the state machine", "answered 201"] {
        assert!(told.contains(part), "no {part} in {told}");
    }
}

#[tokio::test]
async fn a_declined_order_is_one_trace_that_says_where_it_failed() {
    let (service, client) = (Service::connect().await, Client::new());
    let order_id = client.place(&service, "pm_card_declined").await;
    let spans = client.spans(&[&PLACED[..], &["process-payment"], &UNDONE].concat()).await;
    client.is_whole(&spans, &order_id);
    let failed: Vec<&str> = spans.iter().filter(|span| span.failed).map(|span| span.function.as_str()).collect();
    assert_eq!(failed, ["process-payment"]);
}

#[tokio::test]
async fn a_cancelled_order_is_one_trace_with_what_was_undone() {
    let (service, client) = (Service::connect().await, Client::new());
    let order_id = client.place(&service, "pm_card_visa").await;
    service.await_status("customer-1", &order_id, &["confirmed"]).await;
    client.cancel(&service, &order_id).await;
    let spans = client.spans(&[&PLACED[..], &["send-confirmation", "cancel-order"], &UNDONE].concat()).await;
    client.is_whole(&spans, &order_id);
}

#[tokio::test]
async fn a_stuck_order_is_one_trace_with_every_try() {
    let (service, client) = (Service::connect().await, Client::new());
    let order_id = client.place(&service, "pm_refund_fails").await;
    service.await_status("customer-1", &order_id, &["confirmed"]).await;
    client.cancel(&service, &order_id).await;
    service.await_status("customer-1", &order_id, &["needs_attention"]).await;
    let spans = client.spans(&["refund-payment", "flag-order"]).await;
    client.is_whole(&spans, &order_id);
    let failed = |function: &str| spans.iter().any(|span| span.function == function && span.failed);
    assert!(failed("refund-payment") && failed("flag-order"), "{spans:#?}");
}

#[tokio::test]
async fn no_span_says_anything_about_a_person() {
    let (service, client) = (Service::connect().await, Client::new());
    let order_id = client.place(&service, "pm_card_visa").await;
    service.await_status("customer-1", &order_id, &["confirmed"]).await;
    client.cancel(&service, &order_id).await;
    client.spans(&UNDONE).await;
    let told = kept_spans();
    for personal in ["Secret Lane", "changed my mind", "pm_card", "example.com", &token("customer-1").await] {
        assert!(!told.contains(personal), "spans tell {personal}");
    }
}
