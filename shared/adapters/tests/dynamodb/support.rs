//! `DynamoDB` in the test's own process, with the tables of `template.yaml`, reached by the real SDK.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex},
};

use aws_sdk_dynamodb::{
    Client,
    config::{
        BehaviorVersion, Config, ConfigBag, Credentials, Intercept, Region, RuntimeComponents,
        interceptors::{
            BeforeDeserializationInterceptorContextMut, BeforeTransmitInterceptorContextMut,
            BeforeTransmitInterceptorContextRef,
        },
        retry::RetryConfig,
    },
    error::BoxError,
};
use dynoxide::Database;
use tokio::net::TcpListener;

pub(crate) const EVENTS: &str = "events";
pub(crate) const ORDERS: &str = "orders";
pub(crate) const INVENTORY: &str = "inventory";
pub(crate) const PAYMENTS: &str = "payments";
pub(crate) const SHIPMENTS: &str = "shipments";
pub(crate) const NOTIFICATIONS: &str = "notifications";
pub(crate) const SNAPSHOTS: &str = "snapshots";
pub(crate) const INDEX: &str = "index";
pub(crate) const COUNTERS: &str = "counters";

/// A database that lives as long as the test, and the settings of a client for it.
pub(crate) async fn database() -> Config {
    let database = Database::memory().unwrap();
    create_tables(&database);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(dynoxide::server::serve_on(listener, database));
    Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .endpoint_url(endpoint)
        .region(Region::from_static("us-east-1"))
        .credentials_provider(Credentials::for_tests())
        // A call that fails is to be seen, not hidden by a second one.
        .retry_config(RetryConfig::disabled())
        .interceptor(ConsistentReads)
        .build()
}

/// Also the benchmark's (`tests/bench`), which includes this file.
pub(crate) fn create_tables(database: &Database) {
    create_table(database, EVENTS, "stream", Some(("version", "N")));
    create_orders_table(database);
    create_table(database, INVENTORY, "id", None);
    create_table(database, PAYMENTS, "order_id", Some(("entry", "S")));
    create_table(database, SHIPMENTS, "idempotency_key", None);
    create_table(database, NOTIFICATIONS, "idempotency_key", None);
    create_table(database, SNAPSHOTS, "stream", None);
    create_table(database, INDEX, "term", Some(("place", "S")));
    create_table(database, COUNTERS, "name", None);
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
    let index = |name: &str| {
        let partition_key = name.split('-').next().unwrap();
        serde_json::json!({
            "IndexName": name,
            "KeySchema": [
                {"AttributeName": partition_key, "KeyType": "HASH"}, {"AttributeName": "placed_at", "KeyType": "RANGE"}
            ],
            "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["status"]}
        })
    };
    let request = serde_json::json!({
        "TableName": ORDERS,
        "KeySchema": [{"AttributeName": "key", "KeyType": "HASH"}],
        "AttributeDefinitions": [
            {"AttributeName": "key", "AttributeType": "S"},
            {"AttributeName": "open", "AttributeType": "S"},
            {"AttributeName": "customer", "AttributeType": "S"},
            {"AttributeName": "placed_at", "AttributeType": "N"}
        ],
        "GlobalSecondaryIndexes": [index("open-orders"), index("customer-orders")],
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

/// Sees each call between a client and its database, and can make it fail.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wire(Arc<Mutex<WireState>>);

#[derive(Debug, Default)]
struct WireState {
    /// The operations' names since they were last asked for.
    calls: Vec<String>,
    /// By the number of the call, counted from the last time that calls were asked for.
    faults: BTreeMap<usize, Fault>,
    /// What happens to the call that is on its way.
    current: Option<Fault>,
}

/// A database of its own, a client that never repeats a call by itself, and what is between them.
pub(crate) async fn watched() -> (Client, Wire) {
    watched_with(RetryConfig::disabled()).await
}

pub(crate) async fn watched_with(retries: RetryConfig) -> (Client, Wire) {
    let wire = Wire::default();
    let config = database().await.to_builder().retry_config(retries).interceptor(wire.clone()).build();
    (Client::from_conf(config), wire)
}

impl Wire {
    /// The calls since this was last asked, attempts by the SDK included. Forgets the faults that did not come to pass.
    pub(crate) fn calls(&self) -> Vec<String> {
        let mut state = self.0.lock().unwrap();
        state.faults.clear();
        mem::take(&mut state.calls)
    }

    /// The call of this number from now, 0 for the next one, meets this fault.
    pub(crate) fn fail(&self, number: usize, fault: Fault) {
        let mut state = self.0.lock().unwrap();
        let number = state.calls.len() + number;
        state.faults.insert(number, fault);
    }
}

impl Intercept for Wire {
    fn name(&self) -> &'static str {
        "Wire"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let mut state = self.0.lock().unwrap();
        let headers = context.request_mut().headers_mut();
        let target = headers.get("x-amz-target").unwrap_or_default().to_owned();
        let number = state.calls.len();
        state.current = state.faults.remove(&number);
        state.calls.push(target.rsplit('.').next().unwrap_or_default().to_owned());
        if matches!(state.current, Some(Fault::NotSent | Fault::Instead(..))) {
            headers.insert("x-amz-target", "DynamoDB_20120810.Nothing");
        }
        Ok(())
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let (status, body) = match self.0.lock().unwrap().current.take() {
            None => return Ok(()),
            Some(Fault::NotSent | Fault::AnswerLost) => (500, r#"{"__type":"InternalServerError"}"#.to_owned()),
            Some(Fault::Instead(status, body)) => (status, body),
        };
        let response = context.response_mut();
        *response.status_mut() = status.try_into()?;
        *response.body_mut() = body.into();
        for header in ["x-amz-crc32", "x-amzn-errortype", "content-length"] {
            response.headers_mut().remove(header);
        }
        Ok(())
    }
}
