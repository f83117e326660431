//! The service under test, with the API's verbs as methods, and a look behind it where a test needs one.

use std::{
    collections::HashMap,
    env,
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Mutex, OnceLock},
    time::{Duration, Instant},
};

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_sfn::operation::describe_execution::DescribeExecutionOutput;
use futures_util::future::BoxFuture;
use order_client::{BoxError, OrderClient, ProductId, Retries, TokenSource};
use reqwest::{Client, Method, RequestBuilder, header::HeaderMap};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, process::Command};
use uuid::Uuid;

/// How long an order may take to reach its end, or a message its queue.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);

/// One deployed service.
pub(crate) struct Service {
    http: Client,
    /// Sends once, because what is repeated would hide what a test is there to find. Its answers are kept like all others.
    api: OrderClient,
    pub(crate) dynamodb: aws_sdk_dynamodb::Client,
    pub(crate) sfn: aws_sdk_sfn::Client,
    pub(crate) sqs: aws_sdk_sqs::Client,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:#}", self.body);
        self
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self, field: &str) -> String {
        self.body[field].as_str().unwrap_or_else(|| panic!("no {field} in {:#}", self.body)).to_owned()
    }

    /// The pointers of a problem's `errors`, sorted.
    pub(crate) fn pointers(&self) -> Vec<String> {
        let errors = self.body["errors"].as_array().into_iter().flatten();
        let mut pointers: Vec<String> = errors.map(|error| error["pointer"].as_str().unwrap().to_owned()).collect();
        pointers.sort();
        pointers
    }
}

/// A setting of the stack under test, from its `stack.env`.
pub(crate) fn setting(name: &str) -> String {
    env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: it stands in the stack's stack.env, see docs/extend.md"))
}

fn execution_arn(machine: &str, name: &str) -> String {
    format!("{}:{name}", setting(machine).replace(":stateMachine:", ":execution:"))
}

/// A file of the stack under test, which is the developer's unless `LOCAL_STACK` names another (`infra/local/stack.py`).
pub(crate) fn stack_file(name: &str) -> PathBuf {
    let stack = env::var("LOCAL_STACK").unwrap_or_default();
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(".local").join(stack).join(name)
}

/// The id (`sub`) of a user of the local pool.
pub(crate) fn id_of(who: &str) -> String {
    setting(&format!("{}_ID", who.to_uppercase().replace('-', "_")))
}

/// An access token, as `make token` prints it. Asked for once per user and run.
pub(crate) async fn token(who: &str) -> String {
    static TOKENS: OnceLock<Mutex<HashMap<String, String>>> = OnceLock::new();
    let tokens = TOKENS.get_or_init(Mutex::default);
    if let Some(token) = tokens.lock().unwrap().get(who) {
        return token.clone();
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let who_is = format!("WHO={who}");
    let made = Command::new("make").args(["-s", "token", &who_is]).current_dir(root).output().await.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let token = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    tokens.lock().unwrap().insert(who.to_owned(), token.clone());
    token
}

/// The user of this name, to the client for Rust.
struct User(String);

impl TokenSource for User {
    fn token(&self) -> BoxFuture<'_, Result<SecretString, BoxError>> {
        Box::pin(async { Ok(SecretString::from(token(&self.0).await)) })
    }
}

/// Runs `make` with these words, and this on its standard input; answers whether it succeeded, and what it said.
pub(crate) async fn make(words: &[&str], input: &str) -> (bool, String) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut make = Command::new("make");
    make.arg("-s").args(words).current_dir(root);
    let mut make = make.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    make.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
    let done = make.wait_with_output().await.unwrap();
    (done.status.success(), String::from_utf8([done.stdout, done.stderr].concat()).unwrap())
}

/// Runs `reconcile` now, for every order without an event in so many seconds, and answers what it said. It fails where it
/// could not look after every order, which on a stack that is used may be of others.
pub(crate) async fn reconcile(patience: u32) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let patience = format!("PATIENCE={patience}");
    let run = Command::new("make").args(["-s", "reconcile", &patience]).current_dir(root).output().await.unwrap();
    format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr))
}

/// The functions' log lines of the last minutes that contain this text.
pub(crate) async fn logs(containing: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut logs = Command::new("python3");
    logs.args(["infra/local/stack.py", "logs", "--once", "--containing", containing]).current_dir(root);
    let logs = logs.output().await.unwrap();
    assert!(logs.status.success(), "{}", String::from_utf8_lossy(&logs.stderr));
    String::from_utf8(logs.stdout).unwrap()
}

/// All spans that the local stack keeps (`infra/local/spans.py`), a line each: first those that it has put aside.
pub(crate) fn kept_spans() -> String {
    let newest = PathBuf::from(setting("SPANS"));
    let aside = newest.with_extension("before.jsonl");
    [aside, newest].into_iter().filter_map(|file| fs::read_to_string(file).ok()).collect()
}

/// Keeps an answer for `tests/answers_suite.py`, where `ANSWERS` names a file.
fn keep(method: &Method, url: &str, status: u16, headers: &HeaderMap, body: &str) {
    let Ok(file) = env::var("ANSWERS") else { return };
    let headers: HashMap<&str, &str> =
        headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap_or_default())).collect();
    let url = url.strip_prefix(&setting("API_URL")).unwrap_or(url);
    let line = json!({"method": method.as_str(), "url": url, "status": status, "headers": headers, "body": body});
    // In one write: others write as well.
    let mut file = OpenOptions::new().create(true).append(true).open(file).unwrap();
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
}

impl Service {
    pub(crate) async fn connect() -> Self {
        let aws = aws_config::defaults(aws_config::BehaviorVersion::v2026_01_12()).load().await;
        let api = OrderClient::new(&setting("API_URL")).unwrap().with_retries(Retries::NONE);
        Self {
            api: api.watched_by(|answer| {
                keep(answer.method, answer.path, answer.status.as_u16(), answer.headers, answer.body);
            }),
            http: Client::builder().timeout(Duration::from_secs(30)).build().unwrap(),
            dynamodb: aws_sdk_dynamodb::Client::new(&aws),
            sfn: aws_sdk_sfn::Client::new(&aws),
            sqs: aws_sdk_sqs::Client::new(&aws),
        }
    }

    /// The API as this user sees it, through the client for Rust. Requests that no client would send go by [`Self::request`].
    pub(crate) fn client(&self, who: &str) -> OrderClient {
        self.api.clone().with_token(User(who.to_owned()))
    }

    /// A request without a token; `path` begins with `/`.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", setting("API_URL")))
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> Answer {
        let (client, request) = request.build_split();
        let request = request.unwrap();
        let (method, url) = (request.method().clone(), request.url().clone());
        let response = client.execute(request).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        keep(&method, url.as_str(), status, &headers, &text);
        Answer { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
    }

    pub(crate) async fn get(&self, who: &str, path: &str) -> Answer {
        self.send(self.request(Method::GET, path).bearer_auth(token(who).await)).await
    }

    /// Asks again, as a 503 says, for as long as there is time.
    pub(crate) async fn get_later(&self, who: &str, path: &str) -> Answer {
        let started = Instant::now();
        loop {
            let answer = self.get(who, path).await;
            if answer.status != 503 || started.elapsed() > DEADLINE {
                return answer;
            }
            tokio::time::sleep(Duration::from_secs(answer.header("retry-after").parse().unwrap())).await;
        }
    }

    pub(crate) async fn post(&self, who: &str, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).bearer_auth(token(who).await).json(body)).await
    }

    pub(crate) async fn put(&self, who: &str, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::PUT, path).bearer_auth(token(who).await).json(body)).await
    }

    /// Places an order under an idempotency key.
    pub(crate) async fn place(&self, who: &str, key: &str, body: &Value) -> Answer {
        let request = self.request(Method::POST, "/api/v1/orders").bearer_auth(token(who).await);
        self.send(request.header("idempotency-key", key).json(body)).await
    }

    /// Places an order of two pieces of this product, as the sandbox is asked for, and answers its id.
    pub(crate) async fn place_asking(&self, product: &str, payment_method: &str, postal_code: &str) -> String {
        let mut body = order("customer-1", product);
        body["payment_method"] = json!(payment_method);
        body["shipping_address"]["postal_code"] = json!(postal_code);
        self.place("customer-1", &fresh_key(), &body).await.expect(201).text("order_id")
    }

    /// The order's books and the providers', which must agree.
    pub(crate) async fn agreed_books(&self, order_id: &str) -> Value {
        let ledger = self.get_later("staff-1", &format!("/api/v1/orders/{order_id}/ledger")).await.expect(200).body;
        assert_eq!(ledger["agrees"], true, "{ledger:#}");
        ledger["order"].clone()
    }

    /// A product of the test's own, so that tests can run side by side.
    pub(crate) async fn product(&self, stock: u32) -> String {
        let id = format!("test-{}", Uuid::new_v4());
        self.set_product(&id, 1999, stock).await.expect(201);
        id
    }

    pub(crate) async fn set_product(&self, id: &str, price: u64, stock: u32) -> Answer {
        let body = json!({"name": "Test tea", "price": {"amount": price, "currency": "CNY"}, "stock": stock});
        self.put("staff-1", &format!("/api/v1/products/{id}"), &body).await
    }

    pub(crate) async fn stock(&self, product: &str) -> u64 {
        self.client("staff-1").product(&ProductId::stored(product)).await.unwrap().stock
    }

    /// Reads the order until it has one of these statuses.
    pub(crate) async fn await_status(&self, who: &str, order_id: &str, wanted: &[&str]) -> Answer {
        let started = Instant::now();
        let mut last = Value::Null;
        while started.elapsed() < DEADLINE {
            let answer = self.get(who, &format!("/api/v1/orders/{order_id}")).await;
            if answer.status == 200 && wanted.contains(&answer.text("status").as_str()) {
                return answer;
            }
            last = answer.body;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("order {order_id} did not become {wanted:?} in time; last seen: {last:#}")
    }

    /// Reads the order until it shows its customer as of this version of the profile.
    pub(crate) async fn await_customer(&self, who: &str, order_id: &str, version: u64) -> Value {
        let started = Instant::now();
        while started.elapsed() < DEADLINE {
            let answer = self.get(who, &format!("/api/v1/orders/{order_id}")).await;
            if answer.status == 200 && answer.body["customer"]["version"] == version {
                return answer.body;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("order {order_id} did not show version {version} of its customer in time")
    }

    /// Every item of a table. Bounded: a test's table is small.
    pub(crate) async fn scan(&self, table: &str) -> Vec<HashMap<String, AttributeValue>> {
        let mut pages = self.dynamodb.scan().table_name(setting(table)).consistent_read(true).into_paginator().send();
        let mut items = Vec::new();
        while let Some(page) = pages.next().await {
            items.extend(page.unwrap().items.unwrap_or_default());
            assert!(items.len() < 100_000);
        }
        items
    }

    /// The order's lines in the payment provider's books: outcome and amount.
    pub(crate) async fn ledger(&self, order_id: &str) -> Vec<HashMap<String, AttributeValue>> {
        let query = self.dynamodb.query().table_name(setting("PAYMENTS_TABLE")).consistent_read(true);
        let query = query.key_condition_expression("order_id = :id");
        let query = query.expression_attribute_values(":id", AttributeValue::S(order_id.to_owned()));
        let mut lines = query.send().await.unwrap().items.unwrap_or_default();
        // What the sandbox counts beside the books.
        lines.retain(|line| !line["entry"].as_s().unwrap().starts_with("attempts#"));
        lines
    }

    /// The types of the order's events, in order, each with its commit's item.
    pub(crate) async fn events(&self, order_id: &str) -> Vec<(String, HashMap<String, AttributeValue>)> {
        let query = self.dynamodb.query().table_name(setting("EVENTS_TABLE")).consistent_read(true);
        let query = query.key_condition_expression("#s = :s").expression_attribute_names("#s", "stream");
        let query = query.expression_attribute_values(":s", AttributeValue::S(format!("order#{order_id}")));
        let commits = query.send().await.unwrap().items.unwrap_or_default();
        let mut events = Vec::new();
        for commit in commits {
            for event_type in commit["event_types"].as_l().unwrap() {
                events.push((event_type.as_s().unwrap().clone(), commit.clone()));
            }
        }
        events
    }

    pub(crate) async fn event_types(&self, order_id: &str) -> Vec<String> {
        self.events(order_id).await.into_iter().map(|(event_type, _)| event_type).collect()
    }

    /// The Express execution of this name. AWS would not let anybody ask for it; the emulator does.
    pub(crate) async fn express_execution(&self, name: &str) -> Option<DescribeExecutionOutput> {
        self.execution(&execution_arn("FULFILMENT_EXPRESS_ARN", name)).await
    }

    /// The Standard one that goes on where that ends, if it has come to that.
    pub(crate) async fn standard_execution(&self, name: &str) -> Option<DescribeExecutionOutput> {
        self.execution(&execution_arn("FULFILMENT_ARN", name)).await
    }

    async fn execution(&self, arn: &str) -> Option<DescribeExecutionOutput> {
        self.sfn.describe_execution().execution_arn(arn).send().await.ok()
    }

    /// Ends it at the next border of its states, without a word.
    pub(crate) async fn abort(&self, machine: &str, name: &str) {
        self.sfn.stop_execution().execution_arn(execution_arn(machine, name)).send().await.unwrap();
    }

    /// How many messages lie in all dead-letter queues together.
    pub(crate) async fn dead_letters(&self) -> u64 {
        use aws_sdk_sqs::types::QueueAttributeName::{
            ApproximateNumberOfMessages, ApproximateNumberOfMessagesNotVisible,
        };
        let mut letters = 0;
        for queue in setting("DEAD_LETTER_QUEUE_URLS").split_whitespace() {
            let ask = self.sqs.get_queue_attributes().queue_url(queue);
            let ask =
                ask.attribute_names(ApproximateNumberOfMessages).attribute_names(ApproximateNumberOfMessagesNotVisible);
            let counts = ask.send().await.unwrap().attributes.unwrap_or_default();
            letters += counts.values().map(|count| count.parse::<u64>().unwrap()).sum::<u64>();
        }
        letters
    }

    /// Orders and customers that a consumer of the event table's stream has set aside, 100 at most of each.
    pub(crate) async fn parked(&self) -> u64 {
        let mut parked = 0;
        for consumer in ["project-orders", "publish-events"] {
            let path = format!("/api/v1/dead-letters?consumer={consumer}&page_size=100");
            let letters = self.get("staff-2", &path).await.expect(200).body;
            let letters = letters["dead_letters"].as_array().unwrap();
            parked += letters.iter().filter(|letter| letter["kind"] == "parked").count() as u64;
        }
        parked
    }
}

/// An order of two pieces that is as it should be.
pub(crate) fn order(who: &str, product: &str) -> Value {
    json!({
        "customer_id": id_of(who),
        "items": [{"product_id": product, "quantity": 2, "unit_price": {"amount": 1999, "currency": "CNY"}}],
        "shipping_address": {
            "street": "1 Secret Lane", "city": "Shanghai", "state": "Shanghai", "country": "CN", "postal_code": "200001"
        }
    })
}

/// A key that nobody has used.
pub(crate) fn fresh_key() -> String {
    Uuid::new_v4().to_string()
}
