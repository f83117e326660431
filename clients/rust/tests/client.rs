//! The client against a server of the test's own, which answers what it was told to, and keeps what it was asked.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

use std::{
    error::Error as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use order_client::{
    At, BoxError, Cancel, Currency, CustomerId, DeadLettersWanted, DiscardDeadLetters, Error, Method, Money,
    OrderClient, OrderId, OrdersWanted, Period, ProductId, RedriveDeadLetters, Refund, Request, Retries, StockChange,
    TokenSource, WhichLetters,
};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const ID: &str = "7e108758-d8c7-5ab4-90d5-4d493c88ba33";

/// What the server does for one connection.
#[derive(Debug, Clone)]
enum Deed {
    Answer {
        status: u16,
        headers: String,
        body: String,
    },
    /// Half of an answer, and then nothing.
    Half,
    /// No word at all, until the client has gone.
    Silence,
}

/// What the server was asked.
#[derive(Debug, Clone)]
struct Asked {
    line: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Asked {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }
}

struct Server {
    client: OrderClient,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// Does one deed for each request, and the last one for all that follow.
    async fn with(deeds: Vec<Deed>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = OrderClient::new(&format!("http://{}/stage/", listener.local_addr().unwrap())).unwrap();
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let kept = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let request = read(&mut stream).await;
                let number = kept.lock().unwrap().len();
                kept.lock().unwrap().push(request);
                let deed = deeds.get(number).or(deeds.last()).unwrap().clone();
                tokio::spawn(do_it(deed, stream));
            }
        });
        let retries = Retries { pause: Duration::from_millis(1), ..Retries::default() };
        Self { client: client.with_retries(retries).with_token(SecretString::from("token-1")), asked }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

async fn read(stream: &mut TcpStream) -> Asked {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8(bytes.clone()).unwrap();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let mut lines = head.lines();
            let line = lines.next().unwrap().to_owned();
            let headers: Vec<(String, String)> = lines
                .map(|line| line.split_once(": ").unwrap())
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                .collect();
            let asked = Asked { line, headers, body: body.to_owned() };
            let length: usize = asked.header("content-length").map_or(0, |length| length.parse().unwrap());
            if body.len() == length {
                return asked;
            }
        }
        assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "the client has gone in the middle of {text:?}");
    }
}

async fn do_it(deed: Deed, mut stream: TcpStream) {
    match deed {
        Deed::Answer { status, headers, body } => {
            let length = body.len();
            let text =
                format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}");
            stream.write_all(text.as_bytes()).await.unwrap();
        }
        Deed::Half => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{").await.unwrap(),
        Deed::Silence => {
            let _ = stream.read_u8().await;
        }
    }
}

fn answer(status: u16, body: &Value) -> Deed {
    Deed::Answer { status, headers: String::new(), body: body.to_string() }
}

fn answer_with(status: u16, header: &str, body: &Value) -> Deed {
    Deed::Answer { status, headers: format!("{header}\r\n"), body: body.to_string() }
}

fn id() -> OrderId {
    OrderId::parse(ID).unwrap()
}

fn cancel() -> Cancel {
    Cancel { reason: "changed my mind".to_owned(), note: None }
}

fn accepted() -> Value {
    json!({"order_id": ID, "status": "cancelling", "version": 6, "told_some_day": true})
}

fn order(version: u64) -> Value {
    json!({
        "id": ID, "status": "hibernating", "version": version,
        "customer": {"id": "auth0|7", "version": 0, "first_name": null, "last_name": null, "email": null, "email_verified": false},
        "items": [{"product_id": "tea", "name": "Tea", "quantity": 2, "unit_price": {"amount": 1999, "currency": "CNY"}}],
        "shipping_address": {"street": "1 Secret Lane", "city": null, "state": null, "country": "HK", "postal_code": null},
        "payment": null, "shipment": null, "refunds": [], "total_amount": {"amount": 3998, "currency": "CNY"},
        "rejection": null, "cancellation": null,
        "attention": {"step": "of-tomorrow", "reason": "Unheard", "interrupted": "shipped"},
        "created_at": "2026-03-01T08:00:00.123456789Z", "updated_at": "2026-03-01T08:00:01Z", "new_member": [1]
    })
}

#[tokio::test]
async fn a_command_is_repeated_under_one_key_and_one_correlation_id() {
    let unavailable = json!({"type": "urn:order-service:problem:unavailable", "status": 503});
    let server = Server::with(vec![
        Deed::Half,
        answer(502, &json!({"message": "Bad Gateway"})),
        answer(503, &unavailable),
        answer(202, &accepted()),
    ])
    .await;
    let accepted = server.client.cancel(id(), &cancel()).await.unwrap();
    assert_eq!((accepted.order_id, accepted.status.as_str(), accepted.version), (id(), "cancelling", 6));

    let asked = server.asked();
    assert_eq!(asked.len(), 4);
    for name in ["idempotency-key", "x-correlation-id"] {
        let sent = asked[0].header(name).unwrap();
        assert_eq!(sent.len(), 36);
        assert!(asked.iter().all(|asked| asked.header(name) == Some(sent)), "another {name} in {asked:#?}");
    }
    assert_eq!(asked[3].line, format!("POST /stage/api/v1/orders/{ID}/cancel HTTP/1.1"));
    assert_eq!(asked[3].header("authorization"), Some("Bearer token-1"));
    assert_eq!(asked[3].body, r#"{"reason":"changed my mind"}"#);

    server.client.cancel(id(), &cancel()).await.unwrap();
    assert_ne!(server.asked()[4].header("idempotency-key"), asked[0].header("idempotency-key"), "a command of its own");
    server.client.send(&Request::new(Method::PUT, "/x").body("{}")).await.unwrap();
    assert_eq!(server.asked()[5].header("idempotency-key"), None);
}

#[tokio::test]
async fn what_is_refused_is_not_repeated_and_says_all_that_the_service_said() {
    let problem = json!({
        "type": "urn:order-service:problem:invalid-refund", "title": "The amount cannot be given back", "status": 422,
        "detail": "the refund is above what is left", "instance": "/x", "correlation_id": "desk-7",
        "errors": [{"pointer": "/amount", "detail": "is too much"}], "refundable": {"amount": 5, "currency": "CNY"}
    });
    let server = Server::with(vec![answer(422, &problem)]).await;
    let amount = Money::new(6, Currency::parse("CNY").unwrap()).unwrap();
    let refund = Refund { amount, reason: "damaged".to_owned(), note: Some("twice".to_owned()) };
    let error = server.client.refund(id(), &refund).await.unwrap_err();
    assert!(error.is("invalid-refund") && !error.is("invalid"));
    assert_eq!((error.status(), error.correlation_id()), (Some(422), Some("desk-7")));
    let said = "422 The amount cannot be given back: the refund is above what is left; /amount is too much";
    assert_eq!(error.to_string(), said);
    let Error::Problem(problem) = error else { panic!("{error:?}") };
    assert_eq!(problem.members["refundable"]["amount"], 5);
    let asked = server.asked();
    assert_eq!(problem.idempotency_key.as_deref(), asked[0].header("idempotency-key"));
    assert_eq!(asked.len(), 1);
    let body = json!({"amount": {"amount": 6, "currency": "CNY"}, "reason": "damaged", "note": "twice"});
    assert_eq!(asked[0].body.parse::<Value>().unwrap(), body);
}

#[tokio::test]
async fn what_api_gateway_refuses_is_a_problem_too() {
    let server = Server::with(vec![answer(401, &json!({"message": "Unauthorized"}))]).await;
    let error = server.client.order(id()).await.unwrap_err();
    assert_eq!(error.to_string(), "401 Unauthorized");
    assert_eq!(error.correlation_id(), server.asked()[0].header("x-correlation-id"));

    let server =
        Server::with(vec![Deed::Answer { status: 500, headers: String::new(), body: "<html>".to_owned() }]).await;
    assert_eq!(server.client.order(id()).await.unwrap_err().to_string(), "500 Internal Server Error");
    assert_eq!(server.asked().len(), 1, "a 500 is a defect, which most often is one again");
}

#[tokio::test]
async fn the_service_says_when_and_is_not_asked_sooner() {
    let server = Server::with(vec![answer_with(429, "retry-after: 1", &json!({})), answer(202, &accepted())]).await;
    let started = Instant::now();
    server.client.deliver(id()).await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn who_is_asked_to_wait_for_longer_than_is_left_is_told_at_once() {
    let busy = json!({"type": "urn:order-service:problem:rate-limited", "title": "Too many requests", "status": 429});
    let server = Server::with(vec![answer_with(429, "retry-after: 3600", &busy)]).await;
    let started = Instant::now();
    let Error::Problem(problem) = server.client.cancel(id(), &cancel()).await.unwrap_err() else { panic!() };
    assert_eq!(problem.retry_after, Some(3600));
    assert!(started.elapsed() < Duration::from_mins(1));
    assert_eq!(server.asked().len(), 1);

    let date = "retry-after: Thu, 01 Jan 2099 00:00:00 GMT";
    let server = Server::with(vec![answer_with(503, date, &json!({}))]).await;
    assert_eq!(server.client.order(id()).await.unwrap_err().status(), Some(503));
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn silence_is_bounded_by_attempts_and_by_time() {
    let server = Server::with(vec![Deed::Silence]).await;
    let client = server.client.clone().with_timeout(Duration::from_millis(50));
    let error = client.cancel(id(), &cancel()).await.unwrap_err();
    let Error::NoAnswer { attempts: 4, timed_out: true, sent, .. } = &error else { panic!("{error:?}") };
    assert_eq!(sent.idempotency_key.as_deref(), server.asked()[0].header("idempotency-key"));
    assert_eq!(error.to_string(), "no answer in time (attempts: 4)");

    let total = Duration::from_millis(300);
    let client = server.client.clone().with_retries(Retries { attempts: u32::MAX, total, ..Retries::default() });
    let started = Instant::now();
    client.order(id()).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(20), "an attempt may take 25 seconds, but not beyond the whole");
}

#[tokio::test]
async fn who_cannot_know_whether_it_is_done_has_the_key_and_who_was_refused_has_not() {
    let busy = || answer_with(429, "retry-after: 3600", &json!({}));
    let (defect, refused, strange) = (answer(500, &json!({})), answer(409, &json!({})), answer(202, &json!({})));
    for (deeds, unsure) in [
        (vec![Deed::Half], true),
        (vec![defect], true),
        (vec![strange], true),
        // The first attempt may have done it, whatever is said to the second.
        (vec![Deed::Half, busy()], true),
        (vec![Deed::Half, refused.clone()], true),
        (vec![busy()], false),
        (vec![refused], false),
    ] {
        let server = Server::with(deeds.clone()).await;
        let client = server.client.clone().with_timeout(Duration::from_secs(1));
        let error = client.cancel(id(), &cancel()).await.unwrap_err();
        let asked = server.asked();
        assert_eq!(error.retry_key(), asked[0].header("idempotency-key").filter(|_| unsure), "{error:?}");
        // Whoever looks at answers by themselves is told the same.
        let server = Server::with(deeds).await;
        let client = server.client.clone().with_timeout(Duration::from_secs(1));
        if let Ok(answer) = client.send(&Request::cancel(id(), &cancel()).unwrap()).await {
            assert_eq!(answer.retry_key().is_some(), unsure && !answer.status.is_success(), "{answer:?}");
        }
    }
    let server = Server::with(vec![answer(503, &json!({}))]).await;
    let client = server.client.clone().with_token(Numbered(AtomicU32::new(0)));
    let error = client.cancel(id(), &cancel()).await.unwrap_err();
    assert!(matches!(error, Error::Token { .. }) && error.retry_key().is_some(), "{error:?}");
    let Err(error) = server.client.order(id()).await else { panic!() };
    assert_eq!(error.retry_key(), None, "a read does nothing");
}

#[tokio::test]
async fn nobody_there_is_no_answer() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let client = OrderClient::new(&format!("http://{free}")).unwrap().with_retries(Retries::NONE);
    let error = client.search("Anna", None).await.unwrap_err();
    assert_eq!(error.to_string(), "the service cannot be reached (attempts: 1)");
    let source = error.source().unwrap();
    assert!(!format!("{source} {source:?}").contains("Anna"), "{source:?}");
}

#[tokio::test]
async fn unknown_members_and_words_are_no_error() {
    let server = Server::with(vec![answer_with(200, "etag: \"5-2-7\"", &order(5))]).await;
    let order = server.client.order(id()).await.unwrap();
    assert_eq!((order.status.as_str(), order.version), ("hibernating", 5));
    assert_eq!(order.attention.as_ref().unwrap().step, "of-tomorrow");
    assert_eq!(order.total_amount.to_string(), "39.98 CNY");
    assert!(!format!("{order:?}").contains("Secret Lane"));

    let server = Server::with(vec![answer(200, &json!({"id": ID}))]).await;
    let error = server.client.order(id()).await.unwrap_err();
    assert!(matches!(error, Error::Unreadable { .. }), "{error:?}");
}

#[tokio::test]
async fn an_order_is_read_again_by_its_etag() {
    let first = answer_with(200, "etag: \"5-2-7\"", &order(5));
    let server =
        Server::with(vec![first, answer(304, &json!("")), answer_with(200, "etag: \"6-2-7\"", &order(6))]).await;
    let known = server.client.order(id()).await.unwrap();
    assert_eq!(server.client.newer(&known).await.unwrap(), None);
    let newer = server.client.newer(&known).await.unwrap().unwrap();
    assert_eq!((newer.version, newer.etag.as_deref()), (6, Some("\"6-2-7\"")));
    assert_eq!(server.asked()[2].header("if-none-match"), Some("\"5-2-7\""));
}

#[tokio::test]
async fn a_version_is_waited_for_until_there_is_no_time() {
    let late = answer_with(503, "retry-after: 0", &json!({"title": "Not available"}));
    let deeds = [vec![late.clone(); 9], vec![answer(200, &order(6))]].concat();
    let server = Server::with(deeds).await;
    assert_eq!(server.client.wait_for_version(id(), 6, Duration::from_secs(30)).await.unwrap().version, 6);
    assert_eq!(server.asked().len(), 10);
    assert_eq!(server.asked()[9].line, format!("GET /stage/api/v1/orders/{ID}?min_version=6 HTTP/1.1"));

    let server = Server::with(vec![late]).await;
    let error = server.client.wait_for_version(id(), 6, Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(error.status(), Some(503));
}

#[tokio::test]
async fn pages_are_followed_to_the_bound_and_no_further() {
    let row = json!({"id": ID, "status": "confirmed", "total_amount": {"amount": 1, "currency": "CNY"}, "item_count": 1,
        "created_at": "2026-03-01T08:00:00Z"});
    let page = |rows: usize, next: Option<&str>| {
        answer(
            200,
            &json!({"customer_id": "me", "orders": vec![row.clone(); rows], "page": 1, "page_size": 2, "total_count": 3,
            "total_pages": 2, "next": next, "previous": null}),
        )
    };
    let next = "/api/v1/orders/customer/me?page=2&page_size=2";
    let me = CustomerId::parse("me").unwrap();
    let server = Server::with(vec![page(2, Some(next)), page(0, Some("/third")), page(1, None)]).await;
    let first = server.client.customer_orders(&me, Some("confirmed"), Some(2)).await.unwrap();
    let all = server.client.all(first, 100).await.unwrap();
    assert_eq!((all.rows.len(), all.more), (3, false));
    let lines: Vec<String> = server.asked().iter().map(|asked| asked.line.clone()).collect();
    let first = "GET /stage/api/v1/orders/customer/me?status=confirmed&page_size=2 HTTP/1.1";
    assert_eq!(lines, [first, &format!("GET /stage{next} HTTP/1.1"), "GET /stage/third HTTP/1.1"]);

    for (rows_max, asked) in [(1, 1), (2, 1), (3, 2)] {
        let server = Server::with(vec![page(2, Some(next))]).await;
        let first = server.client.customer_orders(&me, None, None).await.unwrap();
        let some = server.client.all(first, rows_max).await.unwrap();
        assert_eq!((some.rows.len(), some.more, server.asked().len()), (rows_max, true, asked));
    }

    // Whoever could write a link would otherwise be handed the token.
    let server = Server::with(vec![page(2, Some("http://elsewhere.example/"))]).await;
    let first = server.client.customer_orders(&me, None, None).await.unwrap();
    assert!(matches!(server.client.all(first, 100).await, Err(Error::Request(_))));
}

#[tokio::test]
async fn ids_and_words_go_into_paths_as_the_service_has_them() {
    let server = Server::with(vec![answer(404, &json!({"title": "Not found"}))]).await;
    let customer = |id: &str| CustomerId::parse(id).unwrap();
    for (id, path) in [("auth0|7", "~YXV0aDB8Nw"), ("5f1c-4b", "5f1c-4b"), ("..", "~Li4"), ("ledger", "~bGVkZ2Vy")] {
        server.client.customer(&customer(id)).await.unwrap_err();
        let asked = server.asked().pop().unwrap();
        assert_eq!(asked.line, format!("GET /stage/api/v1/customers/{path} HTTP/1.1"));
    }
    let time = |text: &str| text.parse().unwrap();
    let wanted = OrdersWanted { status: Some("needs_attention".to_owned()), ..OrdersWanted::default() };
    let (from, to) = (time("2026-03-01T00:00:00Z"), time("2026-03-02T00:00:00.5Z"));
    let product = ProductId::parse("tea").unwrap();
    server.client.search("王 & co", Some(5)).await.unwrap_err();
    server.client.orders(&wanted).await.unwrap_err();
    server.client.order_events(id(), Some("2026-03-01T09:00:00.5+01:00".parse().unwrap())).await.unwrap_err();
    server.client.events("OrderCancelled", from, to, None).await.unwrap_err();
    server.client.stats(Period::Hour, Some(from), Some(to)).await.unwrap_err();
    server.client.adjust_stock(&product, StockChange::By(-3), "damp").await.unwrap_err();
    let lines: Vec<String> = server.asked()[4..].iter().map(|asked| asked.line.clone()).collect();
    let expected = [
        "GET /stage/api/v1/orders/search?q=%E7%8E%8B+%26+co&page_size=5 HTTP/1.1".to_owned(),
        "GET /stage/api/v1/orders?status=needs_attention HTTP/1.1".to_owned(),
        format!("GET /stage/api/v1/orders/{ID}/events?at=2026-03-01T08%3A00%3A00.5Z HTTP/1.1"),
        "GET /stage/api/v1/events?type=OrderCancelled&from=2026-03-01T00%3A00%3A00Z&to=2026-03-02T00%3A00%3A00.500Z HTTP/1.1"
            .to_owned(),
        "GET /stage/api/v1/stats?by=hour&from=2026-03-01T00%3A00%3A00Z&to=2026-03-02T00%3A00%3A00.500Z HTTP/1.1".to_owned(),
        "POST /stage/api/v1/products/tea/stock-adjustments HTTP/1.1".to_owned(),
    ];
    assert_eq!(lines, expected);
    assert_eq!(server.asked().pop().unwrap().body.parse::<Value>().unwrap(), json!({"by": -3, "reason": "damp"}));
}

#[tokio::test]
async fn which_dead_letters_are_meant_is_said() {
    let letter = json!({"id": "order/7", "kind": "parked", "aggregate_type": "order", "aggregate_id": "7", "first_sequence": 5,
        "last_sequence": 7, "error_type": "Unreadable", "error": "no", "since": "2026-03-01T08:00:00Z", "tries": 3,
        "last_tried_at": null, "settlement": {"outcome": "redriven", "by": "staff:anna", "reason": "mended", "at": "2026-03-01T09:00:00Z"}});
    let page = json!({"consumer": "project-orders", "dead_letters": [letter], "next": null});
    let redriven = json!({"consumer": "project-orders", "dry_run": false, "matching": 2, "redriven": 1, "more": true, "next": "order/7",
        "failed": [{"id": "order/7", "error_type": "Unreadable", "error": "no"}]});
    let discarded = json!({"consumer": "project-orders", "dry_run": true, "matching": 1, "discarded": 0, "failed": [], "more": false,
        "next": null, "consequence": "reads stay as they are"});
    let server = Server::with(vec![answer(200, &page), answer(200, &redriven), answer(200, &discarded)]).await;
    let consumer = || "project-orders".to_owned();
    let error_type = Some("Unreadable".to_owned());
    let wanted = DeadLettersWanted { consumer: consumer(), error_type, settled: true, page_size: Some(5) };
    let listed = server.client.dead_letters(&wanted).await.unwrap();
    let listed = server.client.all(listed, 10).await.unwrap();
    let settled = listed.rows[0].settlement.as_ref().unwrap();
    assert_eq!((settled.outcome.as_str(), listed.rows[0].last_sequence), ("redriven", Some(7)));

    let (which, reason) = (WhichLetters::with_error("Unreadable"), "mended".to_owned());
    let redrive =
        RedriveDeadLetters { consumer: consumer(), which, reason, dry_run: false, after: None, pace: Some(5) };
    let told = server.client.redrive_dead_letters(&redrive).await.unwrap();
    assert_eq!((told.redriven, told.failed[0].id.as_str(), told.more), (1, "order/7", true));
    let after = told.next;
    let (which, reason) = (WhichLetters::one("order/7"), "nobody wants it".to_owned());
    let discard =
        DiscardDeadLetters { consumer: consumer(), which, last_sequence: Some(7), reason, dry_run: true, after };
    let told = server.client.discard_dead_letters(&discard).await.unwrap();
    assert_eq!(told.consequence, "reads stay as they are");
    let discard = DiscardDeadLetters { which: WhichLetters::all(), last_sequence: None, after: None, ..discard };
    server.client.discard_dead_letters(&discard).await.unwrap();

    let asked = server.asked();
    let query = "consumer=project-orders&error_type=Unreadable&settled=true&page_size=5";
    assert_eq!(asked[0].line, format!("GET /stage/api/v1/dead-letters?{query} HTTP/1.1"));
    assert_eq!(asked[1].line, "POST /stage/api/v1/dead-letters/redrive HTTP/1.1");
    assert_eq!(asked[2].line, "POST /stage/api/v1/dead-letters/discard HTTP/1.1");
    let bodies: Vec<Value> = asked[1..].iter().map(|asked| asked.body.parse().unwrap()).collect();
    let expected = [
        json!({"consumer": "project-orders", "error_type": "Unreadable", "reason": "mended", "dry_run": false, "pace": 5}),
        json!({"consumer": "project-orders", "id": "order/7", "last_sequence": 7, "reason": "nobody wants it", "dry_run": true,
            "after": "order/7"}),
        json!({"consumer": "project-orders", "all": true, "reason": "nobody wants it", "dry_run": true}),
    ];
    assert_eq!(bodies, expected);
}

#[test]
fn a_history_is_told_up_to_a_version_or_a_time() {
    assert_eq!("3".parse(), Ok(At::Version(3)));
    assert!(matches!("2026-03-01T08:00:00Z".parse(), Ok(At::Time(_))));
    assert!("yesterday".parse::<At>().is_err());
}

#[tokio::test]
async fn a_service_that_is_down_has_answered() {
    let down = json!({"status": "down", "components": [{"name": "event_store", "status": "down", "response_time_ms": 3000}],
        "providers": [], "configuration": {"status": "down", "digest": null}, "timestamp": "2026-03-01T08:00:03.124Z"});
    let server = Server::with(vec![answer(503, &down)]).await;
    assert_eq!(server.client.health().await.unwrap().status, "down");
    let server = Server::with(vec![answer(503, &json!({"message": "Service Unavailable"}))]).await;
    assert_eq!(server.client.health().await.unwrap_err().to_string(), "503 Service Unavailable");
    assert_eq!(server.asked().len(), 1);
}

/// Gives another token each time, and none for the third.
struct Numbered(AtomicU32);

impl TokenSource for Numbered {
    fn token(&self) -> BoxFuture<'_, Result<SecretString, BoxError>> {
        Box::pin(async {
            match self.0.fetch_add(1, Ordering::SeqCst) {
                2 => Err("signed out".into()),
                number => Ok(SecretString::from(format!("token-{number}"))),
            }
        })
    }
}

#[tokio::test]
async fn each_attempt_asks_for_a_token_and_each_answer_is_shown() {
    let server = Server::with(vec![answer(503, &json!({})), answer(503, &json!({"n": 2}))]).await;
    let seen = Arc::<Mutex<Vec<String>>>::default();
    let shown = Arc::clone(&seen);
    let client = server.client.clone().with_token(Numbered(AtomicU32::new(0))).watched_by(move |exchange| {
        let line = format!("{} {} {} {}", exchange.method, exchange.path, exchange.status.as_u16(), exchange.body);
        shown.lock().unwrap().push(line);
    });
    let error = client.call(Method::GET, "/metrics", None).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no token to be had");
    assert_eq!(error.source().unwrap().to_string(), "signed out");
    let tokens: Vec<_> = server.asked().iter().map(|asked| asked.header("authorization").unwrap().to_owned()).collect();
    assert_eq!(tokens, ["Bearer token-0", "Bearer token-1"]);
    assert_eq!(*seen.lock().unwrap(), ["GET /metrics 503 {}", r#"GET /metrics 503 {"n":2}"#]);
}

#[tokio::test]
async fn what_is_no_url_and_no_path_is_not_sent() {
    for bad in ["", "api.example.com", "ftp://api.example.com"] {
        assert!(matches!(OrderClient::new(bad), Err(Error::Request(_))), "{bad}");
    }
    let server = Server::with(vec![answer(200, &json!({}))]).await;
    assert!(matches!(server.client.call(Method::GET, "orders", None).await, Err(Error::Request(_))));
    assert!(server.asked().is_empty());
}

#[test]
fn every_operation_of_the_contract_has_its_method() {
    let methods = [
        ("placeOrder", "place"),
        ("listOrders", "orders"),
        ("searchOrders", "search"),
        ("listCustomerOrders", "customer_orders"),
        ("getOrder", "order"),
        ("cancelOrder", "cancel"),
        ("recordDelivery", "deliver"),
        ("requestRefund", "refund"),
        ("resumeFulfilment", "resume"),
        ("skipStep", "skip"),
        ("resumeOrders", "resume_all"),
        ("getLedger", "ledger"),
        ("getOrderEvents", "order_events"),
        ("getTimeline", "timeline"),
        ("listEvents", "events"),
        ("getStats", "stats"),
        ("getCustomer", "customer"),
        ("putCustomer", "put_customer"),
        ("listProducts", "products"),
        ("getProduct", "product"),
        ("putProduct", "put_product"),
        ("adjustStock", "adjust_stock"),
        ("listDeadLetters", "dead_letters"),
        ("redriveDeadLetters", "redrive_dead_letters"),
        ("discardDeadLetters", "discard_dead_letters"),
        ("getHealth", "health"),
        ("getMetrics", "metrics"),
    ];
    let contract = include_str!("../../../api/openapi.yaml");
    let (paths, _webhooks) = contract.split_once("\nwebhooks:").unwrap();
    let operations: Vec<&str> = paths.lines().filter_map(|line| line.trim().strip_prefix("operationId: ")).collect();
    assert_eq!(operations, methods.map(|(operation, _)| operation));
    let client = include_str!("../src/client.rs");
    for (operation, method) in methods {
        assert!(client.contains(&format!("    pub async fn {method}(")), "{operation} has no method {method}");
    }
}
