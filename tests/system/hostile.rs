//! Requests that nobody means well with, over HTTP: byte for byte, because no client library would send them.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};
use uuid::Uuid;

use crate::{
    chaos::Random,
    service::{Service, id_of, setting, token},
};

const REQUESTS: u64 = 3_000;
const CONNECTIONS: u64 = 8;

/// Bytes that stand for themselves: what a gateway or a library would never let a well-behaved client send is among them.
const NASTY: [&[u8]; 22] = [
    b"",
    b"<b>",
    b"\"",
    b"%",
    b"%zz",
    b"%00",
    b"%2F..%2F",
    b"%3Fa=b",
    b"\xff\xfe",
    b"\xc3\x28",
    b"\x01",
    b"\x7f",
    b"\t",
    b"{}",
    b"[[[[",
    b"null",
    b"18446744073709551616",
    b"-1",
    "\u{202e}\u{200b}".as_bytes(),
    "\u{fdfa}".as_bytes(),
    b"a,b",
    b"'; --",
];

const ROUTES: [(&str, &str); 22] = [
    ("POST", "/api/v1/orders"),
    ("GET", "/api/v1/orders/{}"),
    ("GET", "/api/v1/orders/customer/{}"),
    ("GET", "/api/v1/orders/search"),
    ("POST", "/api/v1/orders/{}/cancel"),
    ("POST", "/api/v1/orders/{}/delivery"),
    ("POST", "/api/v1/orders/{}/refunds"),
    ("POST", "/api/v1/orders/{}/fulfilment/resume"),
    ("POST", "/api/v1/orders/{}/fulfilment/skip"),
    ("POST", "/api/v1/fulfilment/resume"),
    ("GET", "/api/v1/orders/{}/ledger"),
    ("GET", "/api/v1/orders/{}/events"),
    ("GET", "/api/v1/events"),
    ("GET", "/api/v1/orders"),
    ("GET", "/api/v1/orders/{}/timeline"),
    ("PUT", "/api/v1/customers/{}"),
    ("GET", "/api/v1/customers/{}"),
    ("PUT", "/api/v1/products/{}"),
    ("GET", "/api/v1/products/{}"),
    ("POST", "/api/v1/products/{}/stock-adjustments"),
    ("GET", "/metrics"),
    ("TRACE", "/api/v1/orders"),
];

const PARAMETERS: [&str; 9] = ["page", "page_size", "status", "q", "at", "min_version", "from", "type", "after"];
const HEADERS: [&str; 9] = [
    "Idempotency-Key",
    "X-Correlation-Id",
    "traceparent",
    "Content-Type",
    "If-None-Match",
    "X-Forwarded-Proto",
    "Cookie",
    "X-Forwarded-For",
    "Accept",
];

/// A request that is no good, and what it would have been a request for.
struct Hostile {
    bytes: Vec<u8>,
    route: String,
}

impl Hostile {
    fn new(random: &mut Random, tokens: &[String], order: Uuid, customer: &str) -> Self {
        let (method, template) = pick(random, &ROUTES);
        let (before, after) = template.split_once("{}").unwrap_or((template, ""));
        let mut path = before.as_bytes().to_vec();
        if template.contains("{}") {
            let named = if template.contains("customer") { customer.to_owned() } else { order.to_string() };
            // Half of them are right, so that what is wrong is met behind the first check.
            path.extend_from_slice(if random.below(2) == 0 { named.as_bytes() } else { pick(random, &NASTY) });
            path.extend_from_slice(after.as_bytes());
        }
        if random.below(3) == 0 {
            path.push(b'?');
            path.extend_from_slice(pick(random, &PARAMETERS).as_bytes());
            path.push(b'=');
            path.extend_from_slice(pick(random, &NASTY));
        }
        // A blank would end the target, and a line break the request line: that is another request, not a hostile one.
        path.retain(|byte| !b" \r\n".contains(byte));
        let mut bytes = [
            method.as_bytes(),
            b" ",
            setting_path().as_bytes(),
            &path,
            b" HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n",
        ]
        .concat();
        if let Some(token) = tokens.get(usize::try_from(random.below(tokens.len() as u64 + 1)).unwrap()) {
            bytes.extend_from_slice(format!("Authorization: Bearer {token}\r\n").as_bytes());
        }
        for _ in 0..random.below(4) {
            let value = pick(random, &NASTY);
            bytes.extend_from_slice(&[pick(random, &HEADERS).as_bytes(), b": ", value, b"\r\n"].concat());
        }
        if method == "POST" || method == "PUT" {
            let body = body(random, customer);
            let media = if random.below(8) == 0 { "text/plain" } else { "application/json" };
            bytes.extend_from_slice(
                format!("Content-Type: {media}\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(),
            );
            bytes.extend_from_slice(&body);
        } else {
            bytes.extend_from_slice(b"\r\n");
        }
        Self { bytes, route: format!("{method} {template}") }
    }

    fn asks_for_a_version(&self) -> bool {
        self.bytes.windows(11).any(|bytes| bytes == b"min_version")
    }

    /// The status; `None` when the gateway hangs up without a word, which is no function's doing.
    async fn send(&self) -> Option<u16> {
        let mut stream = TcpStream::connect(authority()).await.unwrap();
        stream.write_all(&self.bytes).await.ok()?;
        let mut answer = Vec::new();
        let read = timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await;
        read.unwrap_or_else(|_| panic!("no answer to {self:?}")).ok()?;
        let line = String::from_utf8_lossy(&answer).lines().next()?.to_owned();
        line.split(' ').nth(1)?.parse().ok()
    }
}

impl std::fmt::Debug for Hostile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown: String =
            String::from_utf8_lossy(&self.bytes).lines().filter(|line| !line.starts_with("Authorization")).collect();
        write!(f, "{}: {}", self.route, shown.escape_debug())
    }
}

fn pick<T: Copy>(random: &mut Random, of: &[T]) -> T {
    of[usize::try_from(random.below(of.len() as u64)).unwrap()]
}

/// A body that one route or another takes, with something nasty in it.
fn body(random: &mut Random, customer: &str) -> Vec<u8> {
    let whole: [&str; 6] = [
        &format!(
            r#"{{"customer_id":"{customer}","items":[{{"product_id":"NASTY","quantity":1}}],"shipping_address":{{"street":"NASTY","city":"NASTY","country":"DE","postal_code":"10115"}}}}"#
        ),
        r#"{"reason":"NASTY"}"#,
        r#"{"amount":{"amount":1,"currency":"NASTY"},"reason":"NASTY","reason":"x"}"#,
        r#"{"first_name":"NASTY","last_name":"NASTY","email":"NASTY@example.com"}"#,
        r#"{"step":"NASTY","error":"NASTY","reason":"NASTY","dry_run":true}"#,
        "NASTY",
    ];
    let template = pick(random, &whole);
    let mut parts = template.split("NASTY");
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.extend_from_slice(pick(random, &NASTY));
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes
}

/// Where the API listens, and what stands before its paths.
fn authority() -> String {
    let url = setting("API_URL");
    url.split('/').nth(2).unwrap().to_owned()
}

fn setting_path() -> String {
    let url = setting("API_URL");
    url.splitn(4, '/').nth(3).map_or(String::new(), |path| format!("/{path}"))
}

#[tokio::test]
async fn no_request_makes_a_function_fail() {
    let service = Service::connect().await;
    let tea = service.product(1_000).await;
    let order: Uuid = service.place_asking(&tea, "pm_card_visa", "200001").await.parse().unwrap();
    service.await_status("customer-1", &order.to_string(), &["confirmed"]).await;
    let customer = id_of("customer-1");
    let tokens = Arc::new(vec![token("customer-1").await, token("staff-1").await, "e30.e30.x".to_owned()]);
    let mut clients = JoinSet::new();
    for seed in 1..=CONNECTIONS {
        let (tokens, customer) = (tokens.clone(), customer.clone());
        clients.spawn(async move {
            let mut random = Random(seed);
            let mut answered = 0;
            for _ in 0..REQUESTS / CONNECTIONS {
                let hostile = Hostile::new(&mut random, &tokens, order, &customer);
                if let Some(status) = hostile.send().await {
                    // 503 is the answer to a version that the order does not have yet, and to nothing else.
                    let documented = status == 503 && hostile.asks_for_a_version();
                    assert!((200..500).contains(&status) || documented, "{status} for {hostile:?}");
                    answered += 1;
                }
            }
            answered
        });
    }
    let answered: u64 = clients.join_all().await.into_iter().sum();
    assert!(answered > REQUESTS / 2, "only {answered} were answered");
    // The books of the one order that all of them could reach are right still, also if one of them has cancelled it.
    service.await_status("customer-1", &order.to_string(), &["confirmed", "cancelled"]).await;
    service.agreed_books(&order.to_string()).await;
}
