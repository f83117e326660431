//! `DynamoDB` in the test's own process, with the tables of `template.yaml`, reached by the real SDK.

use std::{
    collections::BTreeMap,
    fmt, mem,
    pin::Pin,
    sync::{Arc, Mutex},
};

use adapters::dynamodb::{DynamoNotifications, DynamoPayments, DynamoShipping};
use application::sandbox::Sandbox;
use aws_sdk_dynamodb::{
    Client,
    config::{
        BehaviorVersion, Builder, Config, ConfigBag, Credentials, Intercept, Region, RuntimeComponents,
        http::{HttpRequest, HttpResponse},
        interceptors::BeforeTransmitInterceptorContextRef,
        retry::RetryConfig,
    },
    error::BoxError,
};
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn};
use dynoxide::{Database, DynoxideError};
use tokio::{net::TcpListener, task::yield_now};

pub(crate) const EVENTS: &str = "events";
pub(crate) const ORDERS: &str = "orders";
pub(crate) const INVENTORY: &str = "inventory";
pub(crate) const PAYMENTS: &str = "payments";
pub(crate) const SHIPMENTS: &str = "shipments";
pub(crate) const NOTIFICATIONS: &str = "notifications";
pub(crate) const SNAPSHOTS: &str = "snapshots";
pub(crate) const INDEX: &str = "index";
pub(crate) const COUNTERS: &str = "counters";
pub(crate) const LIMITS: &str = "limits";
pub(crate) const DEAD_LETTERS: &str = "dead-letters";

/// A database that lives as long as the test, and the settings of a client for it.
pub(crate) async fn database() -> Config {
    let database = Database::memory().unwrap();
    create_tables(&database);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(dynoxide::server::serve_on(listener, database));
    config().endpoint_url(endpoint).build()
}

pub(crate) fn config() -> Builder {
    Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::from_static("us-east-1"))
        .credentials_provider(Credentials::for_tests())
        // A call that fails is to be seen, not hidden by a second one.
        .retry_config(RetryConfig::disabled())
        .interceptor(ConsistentReads)
}

/// Answers the SDK's requests from the database itself, without HTTP.
///
/// Also the benchmark's (`tests/bench`), which includes this file.
#[derive(Clone)]
pub(crate) struct InProcess(pub(crate) Database);

impl InProcess {
    /// The status and the body that this call is answered with.
    pub(crate) fn answer(&self, request: &HttpRequest) -> (u16, Vec<u8>) {
        let body = request.body().bytes().unwrap_or_default();
        match self.dispatch(operation(request), body) {
            Ok(answer) => (200, answer),
            Err(error) => (error.status_code(), error.to_json().into_bytes()),
        }
    }

    pub(crate) fn dispatch(&self, operation: &str, body: &[u8]) -> Result<Vec<u8>, DynoxideError> {
        macro_rules! answer {
            ($method:ident) => {
                serde_json::to_vec(&self.0.$method(serde_json::from_slice(body).unwrap())?).unwrap()
            };
        }
        Ok(match operation {
            "BatchGetItem" => answer!(batch_get_item),
            "BatchWriteItem" => answer!(batch_write_item),
            "DeleteItem" => answer!(delete_item),
            "GetItem" => answer!(get_item),
            "PutItem" => answer!(put_item),
            "Query" => answer!(query),
            "Scan" => answer!(scan),
            "TransactGetItems" => answer!(transact_get_items),
            "TransactWriteItems" => answer!(transact_write_items),
            "UpdateItem" => answer!(update_item),
            _ => panic!("no table's user calls {operation}"),
        })
    }
}

impl fmt::Debug for InProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InProcess")
    }
}

impl HttpConnector for InProcess {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::ready(Ok(response(self.answer(&request))))
    }
}

pub(crate) fn operation(request: &HttpRequest) -> &str {
    request.headers().get("x-amz-target").and_then(|target| target.rsplit('.').next()).unwrap_or_default()
}

pub(crate) fn response((status, body): (u16, Vec<u8>)) -> HttpResponse {
    HttpResponse::new(status.try_into().unwrap(), body.into())
}

/// A client whose calls go this way.
pub(crate) fn client_over(config: Builder, connector: impl HttpConnector + 'static) -> Client {
    let connector = SharedHttpConnector::new(connector);
    Client::from_conf(config.http_client(http_client_fn(move |_, _| connector.clone())).build())
}

pub(crate) fn create_tables(database: &Database) {
    create_table(database, EVENTS, "stream", Some(("version", "N")));
    create_orders_table(database);
    create_inventory_table(database);
    create_table(database, PAYMENTS, "order_id", Some(("entry", "S")));
    create_table(database, SHIPMENTS, "idempotency_key", None);
    create_table(database, NOTIFICATIONS, "idempotency_key", None);
    create_table(database, SNAPSHOTS, "stream", None);
    create_table(database, INDEX, "term", Some(("place", "S")));
    create_table(database, COUNTERS, "name", None);
    create_table(database, LIMITS, "bucket", None);
    create_table(database, DEAD_LETTERS, "consumer", Some(("place", "S")));
}

pub(crate) fn create_table(database: &Database, name: &str, partition_key: &str, sort_key: Option<(&str, &str)>) {
    let mut keys = vec![serde_json::json!({"AttributeName": partition_key, "KeyType": "HASH"})];
    let mut attributes = vec![serde_json::json!({"AttributeName": partition_key, "AttributeType": "S"})];
    if let Some((sort_key, attribute_type)) = sort_key {
        keys.push(serde_json::json!({"AttributeName": sort_key, "KeyType": "RANGE"}));
        attributes.push(serde_json::json!({"AttributeName": sort_key, "AttributeType": attribute_type}));
    }
    let request = serde_json::json!({
        "TableName": name, "KeySchema": keys, "AttributeDefinitions": attributes, "BillingMode": "PAY_PER_REQUEST"
    });
    database.create_table(serde_json::from_value(request).unwrap()).unwrap();
}

/// The orders table with its two indexes.
pub(crate) fn create_orders_table(database: &Database) {
    let request = serde_json::json!({
        "TableName": ORDERS,
        "KeySchema": [{"AttributeName": "key", "KeyType": "HASH"}],
        "AttributeDefinitions": [
            {"AttributeName": "key", "AttributeType": "S"},
            {"AttributeName": "open", "AttributeType": "S"},
            {"AttributeName": "placed_at", "AttributeType": "N"}
        ],
        "GlobalSecondaryIndexes": [{
            "IndexName": "open-orders",
            "KeySchema": [
                {"AttributeName": "open", "KeyType": "HASH"}, {"AttributeName": "placed_at", "KeyType": "RANGE"}
            ],
            "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["status"]}
        }],
        "BillingMode": "PAY_PER_REQUEST"
    });
    database.create_table(serde_json::from_value(request).unwrap()).unwrap();
}

/// The inventory's table with its index of products.
fn create_inventory_table(database: &Database) {
    let request = serde_json::json!({
        "TableName": INVENTORY,
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "AttributeDefinitions": [
            {"AttributeName": "id", "AttributeType": "S"}, {"AttributeName": "listed", "AttributeType": "S"}
        ],
        "GlobalSecondaryIndexes": [{
            "IndexName": "products",
            "KeySchema": [{"AttributeName": "listed", "KeyType": "HASH"}, {"AttributeName": "id", "KeyType": "RANGE"}],
            "Projection": {"ProjectionType": "KEYS_ONLY"}
        }],
        "BillingMode": "PAY_PER_REQUEST"
    });
    database.create_table(serde_json::from_value(request).unwrap()).unwrap();
}

/// Lets no read pass that may miss what was written before: the database in memory would never show it.
#[derive(Debug)]
struct ConsistentReads;

impl Intercept for ConsistentReads {
    fn name(&self) -> &'static str {
        "ConsistentReads"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let target = context.request().headers().get("x-amz-target").unwrap_or_default();
        let body = String::from_utf8_lossy(context.request().body().bytes().unwrap_or_default());
        let is_read = target.ends_with("GetItem") || target.ends_with("Query");
        // An index knows no other reads.
        let of_index = body.contains("\"IndexName\"");
        if is_read && !of_index && !body.contains("\"ConsistentRead\":true") {
            return Err(format!("{target} without ConsistentRead").into());
        }
        Ok(())
    }
}

/// The built-in providers as they are where orders may ask them to misbehave.
pub(crate) fn payments_of(client: Client) -> DynamoPayments {
    DynamoPayments::new(client, PAYMENTS.to_owned()).with_sandbox(Sandbox::Misbehaving)
}

pub(crate) fn shipping_of(client: Client) -> DynamoShipping {
    DynamoShipping::new(client, SHIPMENTS.to_owned()).with_sandbox(Sandbox::Misbehaving)
}

pub(crate) fn notifications_of(client: Client) -> DynamoNotifications {
    DynamoNotifications::new(client, NOTIFICATIONS.to_owned()).with_sandbox(Sandbox::Misbehaving)
}

/// What happens to a call on its way.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// It does not arrive, and nobody knows.
    NotSent,
    /// It arrives and takes effect, and nobody knows.
    AnswerLost,
    /// It does not arrive, and somebody else answers with this status and body.
    Instead(u16, String),
}

/// What others do meanwhile.
type Others = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Sees each call between a client and its database, can make it fail, and can let others act before it.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    database: InProcess,
    state: Arc<Mutex<WireState>>,
}

#[derive(Default)]
struct WireState {
    /// The operations' names since they were last asked for.
    calls: Vec<String>,
    /// By the number of the call, counted from the last time that calls were asked for.
    faults: BTreeMap<usize, Fault>,
    /// By the number of the call that they come before.
    others: BTreeMap<usize, Others>,
}

impl fmt::Debug for WireState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WireState").field("calls", &self.calls).finish_non_exhaustive()
    }
}

/// A database of its own, a client that never repeats a call by itself, and what is between them.
pub(crate) fn watched() -> (Client, Wire) {
    watched_with(RetryConfig::disabled())
}

pub(crate) fn watched_with(retries: RetryConfig) -> (Client, Wire) {
    let database = Database::memory().unwrap();
    create_tables(&database);
    let wire = Wire { database: InProcess(database), state: Arc::default() };
    (client_over(config().retry_config(retries), wire.clone()), wire)
}

impl Wire {
    /// The calls since this was last asked, attempts by the SDK included. Forgets what did not come to pass.
    pub(crate) fn calls(&self) -> Vec<String> {
        mem::take(&mut *self.state.lock().unwrap()).calls
    }

    /// Whether every call that was to meet a fault has come.
    pub(crate) fn met_all_faults(&self) -> bool {
        self.state.lock().unwrap().faults.is_empty()
    }

    /// The call of this number from now, 0 for the next one, meets this fault.
    pub(crate) fn fail(&self, number: usize, fault: Fault) {
        let mut state = self.state.lock().unwrap();
        let number = state.calls.len() + number;
        state.faults.insert(number, fault);
    }

    /// Does this, of which the call of this number meets the fault; no call before or after it does.
    pub(crate) fn during<'w, T: 'w>(
        &'w self,
        number: usize,
        fault: Fault,
        work: impl Future<Output = T> + 'w,
    ) -> Pin<Box<dyn Future<Output = T> + 'w>> {
        // Boxed, as in `http::run`.
        let work = Box::pin(work);
        Box::pin(async move {
            self.calls();
            self.fail(number, fault);
            let outcome = work.await;
            self.calls();
            outcome
        })
    }

    /// Just before the call of this number from now, this happens.
    pub(crate) fn before<T>(&self, number: usize, others: impl Future<Output = T> + Send + 'static) {
        let mut state = self.state.lock().unwrap();
        let number = state.calls.len() + number;
        state.others.insert(number, Box::pin(async move { drop(others.await) }));
    }

    /// A client to the same database whose calls nobody sees.
    pub(crate) fn unwatched(&self) -> Client {
        client_over(config(), self.database.clone())
    }

    async fn pass(self, request: HttpRequest) -> HttpResponse {
        let (others, fault) = {
            let mut state = self.state.lock().unwrap();
            let number = state.calls.len();
            state.calls.push(operation(&request).to_owned());
            (state.others.remove(&number), state.faults.remove(&number))
        };
        if let Some(others) = others {
            others.await;
        }
        // Who calls at the same time goes on by turns.
        yield_now().await;
        let nobody_knows = (500, br#"{"__type":"InternalServerError"}"#.to_vec());
        response(match fault {
            None => self.database.answer(&request),
            Some(Fault::NotSent) => nobody_knows,
            Some(Fault::AnswerLost) => {
                self.database.answer(&request);
                nobody_knows
            }
            Some(Fault::Instead(status, body)) => (status, body.into_bytes()),
        })
    }
}

impl HttpConnector for Wire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let wire = self.clone();
        HttpConnectorFuture::new(async move { Ok(wire.pass(request).await) })
    }
}
