//! The histories of an order over the adapters, on a wire that is as cruel as the real one: others act between any two calls
//! of one operation, calls are throttled, get lost on either way, and meet each other's transactions, which become visible
//! one item after the other.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use adapters::dynamodb::{DynamoEventStore, DynamoInventory, DynamoNotifications, DynamoPayments, DynamoShipping};
use application::{
    histories::{Plumbing, Random, explore, history},
    shop::{Outside, Shop, Step},
};
use aws_sdk_dynamodb::{
    Client,
    config::{
        AsyncSleep, SharedAsyncSleep, Sleep, StalledStreamProtectionConfig,
        http::{HttpRequest, HttpResponse},
        retry::{RetryConfig, RetryPartition, TokenBucket},
    },
};
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture};
use dynoxide::Database;
use serde_json::{Value, json};
use tokio::{
    runtime::{Builder, Runtime},
    task::yield_now,
};

use crate::support::{
    EVENTS, INVENTORY, InProcess, PAYMENTS, client_over, config, create_tables, notifications_of, operation,
    payments_of, response, shipping_of,
};

/// About as many as there is time for whenever everything is tested.
const HISTORIES: u64 = 4_000;

#[test]
fn in_every_history_over_the_adapters_the_money_and_the_stock_are_right() {
    explore(HISTORIES, |seed| {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let _entered = runtime.enter();
        history(seed, |random| Rough::new(&runtime, random))
    });
}

pub(crate) struct OnDynamo;

impl Outside for OnDynamo {
    type Store = DynamoEventStore;
    type Inventory = DynamoInventory;
    type Payments = DynamoPayments;
    type Shipping = DynamoShipping;
    type Notifications = DynamoNotifications;
}

fn shop(client: &Client) -> Shop<OnDynamo> {
    Shop {
        store: DynamoEventStore::new(client.clone(), EVENTS.to_owned()),
        inventory: DynamoInventory::new(client.clone(), INVENTORY.to_owned()),
        payments: payments_of(client.clone()),
        shipping: shipping_of(client.clone()),
        notifications: notifications_of(client.clone()),
    }
}

struct Rough<'r> {
    /// Its clock stands still but for what turns let pass.
    runtime: &'r Runtime,
    shop: Shop<OnDynamo>,
    calm_shop: Shop<OnDynamo>,
    wire: RoughWire,
}

impl<'r> Rough<'r> {
    fn new(runtime: &'r Runtime, random: Arc<Random>) -> Self {
        let database = Database::memory().unwrap();
        create_tables(&database);
        // In half of the histories the SDK repeats calls by itself, as it does on AWS; what it hides shows in the others.
        let retries = if random.one_in(2) { RetryConfig::standard() } else { RetryConfig::disabled() };
        let wire = RoughWire(Arc::new(RoughState {
            database: InProcess(database),
            random,
            is_rough: AtomicBool::new(true),
            commits: AtomicUsize::new(0),
            committing: Mutex::default(),
        }));
        let rough = config()
            .retry_config(retries)
            // The bucket of the default partition is shared with whatever else runs in this process.
            .retry_partition(RetryPartition::custom("history").token_bucket(TokenBucket::unlimited()).build())
            .sleep_impl(SharedAsyncSleep::new(AtOnce))
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        let calm = client_over(config(), CalmWire(Arc::clone(&wire.0)));
        Self { runtime, shop: shop(&client_over(rough, wire.clone())), calm_shop: shop(&calm), wire }
    }
}

impl Plumbing for Rough<'_> {
    type Outside = OnDynamo;

    const TURNS: usize = 400;

    fn shop(&self) -> &Shop<OnDynamo> {
        &self.shop
    }

    fn calm_shop(&self) -> &Shop<OnDynamo> {
        &self.calm_shop
    }

    fn commits(&self) -> usize {
        self.wire.0.commits.load(Ordering::Relaxed)
    }

    /// Any call may meet trouble.
    fn trouble(&self, _: Step) {}

    fn calm_down(&self) {
        self.wire.0.is_rough.store(false, Ordering::Relaxed);
    }

    /// Whoever pauses goes on at a turn of this kind, however long the pause was to be: its length is not the seed's.
    fn turn(&self, turns: u32) {
        if turns.is_multiple_of(4) {
            self.runtime.block_on(tokio::time::advance(Duration::from_secs(1)));
        }
    }
}

/// The SDK's own pauses.
#[derive(Debug)]
struct AtOnce;

impl AsyncSleep for AtOnce {
    fn sleep(&self, _: Duration) -> Sleep {
        Sleep::new(yield_now())
    }
}

#[derive(Debug, Clone)]
struct RoughWire(Arc<RoughState>);

#[derive(Debug)]
struct RoughState {
    database: InProcess,
    random: Arc<Random>,
    is_rough: AtomicBool,
    /// How many commits there are in the event table.
    commits: AtomicUsize,
    /// The items that a transaction has written without anybody seeing it yet, as they were before.
    committing: Mutex<BTreeMap<String, Option<Value>>>,
}

/// A status and a body.
type Answer = (u16, Vec<u8>);

impl HttpConnector for RoughWire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let state = Arc::clone(&self.0);
        HttpConnectorFuture::new(async move { Ok(state.pass(request).await) })
    }
}

/// To the same database, for whoever only looks on.
#[derive(Debug)]
struct CalmWire(Arc<RoughState>);

impl HttpConnector for CalmWire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::ready(Ok(response(self.0.answer(&request))))
    }
}

impl RoughState {
    async fn pass(&self, request: HttpRequest) -> HttpResponse {
        self.others_act().await;
        let (name, body) = (operation(&request), body(&request));
        let nobody_knows = (500, br#"{"__type":"InternalServerError"}"#.to_vec());
        let goes_wrong = self.is_rough.load(Ordering::Relaxed) && self.random.one_in(16);
        let fate = if goes_wrong { self.random.below(4) } else { usize::MAX };
        let items = items_of(name, &body);
        if let Some(conflict) = self.conflict(name, &items, fate == 0) {
            return response(conflict);
        }
        match fate {
            0 | 1 => return response(self.throttled(name, items.len())),
            2 => return response(nobody_knows),
            _ => {}
        }
        let answer = match name {
            "TransactWriteItems" => self.transact(&request, &items).await,
            _ => self.as_seen(name, &body, self.answer(&request)),
        };
        self.others_act().await;
        response(if fate == 3 { nobody_knows } else { answer })
    }

    fn answer(&self, request: &HttpRequest) -> Answer {
        let answer = self.database.answer(request);
        if operation(request) == "PutItem" && body(request)["TableName"] == EVENTS && answer.0 == 200 {
            self.commits.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    async fn others_act(&self) {
        for _ in 0..=self.random.below(3) {
            yield_now().await;
        }
    }

    /// What is refused because a transaction is at the same items, or as if one was.
    fn conflict(&self, name: &str, items: &[Touched], as_if: bool) -> Option<Answer> {
        let committing = self.committing.lock().unwrap();
        let mut conflicts: Vec<bool> = items.iter().map(|item| committing.contains_key(&item.key)).collect();
        if as_if && !items.is_empty() {
            conflicts[self.random.below(items.len())] = true;
        }
        if !conflicts.contains(&true) {
            return None;
        }
        let codes: Vec<&str> = conflicts.iter().map(|met| if *met { "TransactionConflict" } else { "None" }).collect();
        match name {
            "TransactWriteItems" | "TransactGetItems" => Some(cancelled(&codes)),
            "PutItem" | "UpdateItem" => Some(error("TransactionConflictException")),
            // A plain read sees what was there before.
            _ => None,
        }
    }

    fn throttled(&self, name: &str, items: usize) -> Answer {
        if name.starts_with("Transact") && self.random.one_in(2) {
            let mut codes = vec!["None"; items];
            codes[self.random.below(items)] = self.random.of(&["ThrottlingError", "ProvisionedThroughputExceeded"]);
            return cancelled(&codes);
        }
        error(self.random.of(&["ThrottlingException", "ProvisionedThroughputExceededException"]))
    }

    /// Writes everything or nothing at once, and lets it be seen one item after the other before it answers.
    async fn transact(&self, request: &HttpRequest, items: &[Touched]) -> Answer {
        let before: Vec<_> = items.iter().map(|item| (item.key.clone(), self.item(item))).collect();
        let answer = self.database.answer(request);
        if answer.0 == 200 {
            let mut unseen: Vec<String> = items.iter().map(|item| item.key.clone()).collect();
            self.committing.lock().unwrap().extend(before);
            while !unseen.is_empty() {
                self.others_act().await;
                let seen = unseen.swap_remove(self.random.below(unseen.len()));
                self.committing.lock().unwrap().remove(&seen);
            }
        }
        answer
    }

    fn item(&self, Touched { table, item, .. }: &Touched) -> Option<Value> {
        let key: Value = key_attributes(table).iter().map(|name| ((*name).to_owned(), item[*name].clone())).collect();
        let request = json!({"TableName": table, "Key": key, "ConsistentRead": true}).to_string();
        let answer: Value =
            serde_json::from_slice(&self.database.dispatch("GetItem", request.as_bytes()).unwrap()).unwrap();
        answer.get("Item").cloned()
    }

    /// The answer to a read without what transactions have not shown yet.
    fn as_seen(&self, name: &str, request: &Value, (status, answer): Answer) -> Answer {
        let committing = self.committing.lock().unwrap();
        if committing.is_empty() || status != 200 || !["GetItem", "BatchGetItem", "Query"].contains(&name) {
            return (status, answer);
        }
        let mut answer: Value = serde_json::from_slice(&answer).unwrap();
        let seen = |table: &str, item: Value| match committing.get(&key_of(table, &item)) {
            Some(before) => before.clone(),
            None => Some(item),
        };
        let table = request["TableName"].as_str().unwrap_or_default();
        if let Some(item) = answer.get("Item").cloned() {
            answer = seen(table, item).map_or_else(|| json!({}), |item| json!({"Item": item}));
        }
        let lists = match &mut answer {
            Value::Object(answer) => answer.iter_mut(),
            other => panic!("{other} is no answer"),
        };
        for (name, part) in lists {
            match (name.as_str(), part) {
                ("Items", Value::Array(items)) => {
                    *items = std::mem::take(items).into_iter().filter_map(|item| seen(table, item)).collect();
                }
                ("Responses", Value::Object(tables)) => {
                    for (table, items) in tables {
                        let all = items.as_array().unwrap().clone();
                        *items = all.into_iter().filter_map(|item| seen(table, item)).collect();
                    }
                }
                _ => {}
            }
        }
        (status, serde_json::to_vec(&answer).unwrap())
    }
}

fn body(request: &HttpRequest) -> Value {
    serde_json::from_slice(request.body().bytes().unwrap_or_default()).unwrap()
}

/// `DynamoDB`'s own error.
fn error(name: &str) -> Answer {
    let body = json!({"__type": format!("com.amazonaws.dynamodb.v20120810#{name}"), "message": "injected"});
    (400, body.to_string().into_bytes())
}

fn cancelled(codes: &[&str]) -> Answer {
    let reasons: Vec<Value> = codes.iter().map(|code| json!({"Code": code})).collect();
    let name = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException";
    let body = json!({"__type": name, "message": "injected", "CancellationReasons": reasons});
    (400, body.to_string().into_bytes())
}

/// An item that a call is about to write, or to read in a transaction.
struct Touched {
    table: String,
    /// The item, or its key.
    item: Value,
    key: String,
}

impl Touched {
    fn by(action: &Value) -> Self {
        let table = action["TableName"].as_str().unwrap().to_owned();
        let item = action.get("Item").unwrap_or(&action["Key"]).clone();
        let key = key_of(&table, &item);
        Self { table, item, key }
    }
}

fn items_of(name: &str, body: &Value) -> Vec<Touched> {
    match name {
        "PutItem" | "UpdateItem" => vec![Touched::by(body)],
        "TransactWriteItems" | "TransactGetItems" => {
            let actions = body["TransactItems"].as_array().unwrap().iter();
            actions.map(|action| Touched::by(action.as_object().unwrap().values().next().unwrap())).collect()
        }
        _ => Vec::new(),
    }
}

fn key_attributes(table: &str) -> &'static [&'static str] {
    match table {
        EVENTS => &["stream", "version"],
        PAYMENTS => &["order_id", "entry"],
        INVENTORY => &["id"],
        _ => &["idempotency_key"],
    }
}

fn key_of(table: &str, item: &Value) -> String {
    let values = key_attributes(table).iter().map(|name| item[*name].to_string());
    std::iter::once(table.to_owned()).chain(values).collect::<Vec<_>>().join(" ")
}
