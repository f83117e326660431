//! `DynamoDB` in this process, and the ways to it: over HTTP as on AWS, with or without a meter, and straight into it to
//! bring much data there.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex},
};

use aws_sdk_dynamodb::{
    Client,
    config::{
        BehaviorVersion, Builder, Config, ConfigBag, Credentials, Intercept, Region, RuntimeComponents,
        http::{HttpRequest, HttpResponse},
        interceptors::{AfterDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextMut},
        retry::RetryConfig,
    },
    error::BoxError,
};
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture};
use aws_smithy_types::{
    body::SdkBody,
    config_bag::{Storable, StoreReplace},
};
use dynoxide::{
    AttributeValue, Database, ImportOptions, Item,
    types::{TRANSACTIONAL_CAPACITY_FACTOR, item_size, write_capacity_units},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

/// The tables are those of the adapters' tests, so that there is one list of them beside the template.
#[path = "../../../shared/adapters/tests/dynamodb/support.rs"]
#[expect(dead_code, reason = "the adapters' tests need more of it")]
mod support;

pub(crate) use support::{EVENTS, INDEX, INVENTORY, ORDERS, SNAPSHOTS, create_orders_table, create_table};
use support::{InProcess, client_over, operation};

/// A database with the service's tables, and its server.
pub(crate) struct LocalDynamo {
    pub(crate) database: Database,
    endpoint: String,
    server: JoinHandle<()>,
}

impl LocalDynamo {
    pub(crate) async fn start() -> Self {
        let database = Database::memory().unwrap();
        support::create_tables(&database);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(dynoxide::server::serve_on(listener, database.clone()));
        Self { database, endpoint, server }
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    fn config(&self) -> Builder {
        Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .endpoint_url(&self.endpoint)
            .region(Region::from_static("us-east-1"))
            .credentials_provider(Credentials::for_tests())
            // A repeated call would be counted as two, and take the time of two.
            .retry_config(RetryConfig::disabled())
    }

    /// The SDK over HTTP: what is timed.
    pub(crate) fn client(&self) -> Client {
        Client::from_conf(self.config().build())
    }

    /// The same, and what its calls consume.
    pub(crate) fn metered_client(&self) -> (Client, Meter) {
        let meter = Meter::default();
        (Client::from_conf(self.config().interceptor(meter.clone()).build()), meter)
    }

    /// The SDK without HTTP, for loading: the product's own code writes the items, whatever they look like this week, and
    /// only the way is shorter.
    pub(crate) fn loading_client(&self) -> Client {
        client_over(self.config(), InProcess(self.database.clone()))
    }

    /// The SDK without HTTP and without the database, for loading the read model: a write costs the database the more, the more
    /// it has.
    pub(crate) fn collecting_client(&self) -> (Client, Collected) {
        let collected = Collected::default();
        (client_over(self.config(), collected.clone()), collected)
    }
}

impl Drop for LocalDynamo {
    fn drop(&mut self) {
        // Else the server would keep the data of every database until the end.
        self.server.abort();
    }
}

/// Calls, and what they consumed.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Usage {
    pub(crate) calls: u32,
    /// Those among the calls that were refused: a condition did not hold. What they consume on AWS nobody says here.
    pub(crate) refused: u32,
    pub(crate) read_units: f64,
    pub(crate) write_units: f64,
    /// The write units of each table, and of each of its indexes as `table/index`.
    written: BTreeMap<String, f64>,
    /// Those among the orders table's that were for lists of customers' orders, for customers, and for counts, by the items as
    /// they were written: answers do not say.
    pub(crate) lists: f64,
    pub(crate) customers: f64,
    pub(crate) counts: f64,
}

impl Usage {
    /// The write units of a table without its indexes, or of one index.
    pub(crate) fn written(&self, what: &str) -> f64 {
        self.written.get(what).copied().unwrap_or_default()
    }
}

/// Has every call say what it consumes, and adds that up.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meter(Arc<Mutex<Usage>>);

impl Meter {
    /// Since this was last asked.
    pub(crate) fn read(&self) -> Usage {
        mem::take(&mut self.0.lock().unwrap())
    }
}

/// What a call is about: kept with the call, because answers do not say.
#[derive(Debug)]
enum Kind {
    Read,
    Write { lists: f64, customers: f64, counts: f64 },
}

impl Kind {
    fn of_write(request: &Value) -> Result<Self, BoxError> {
        let (mut lists, mut customers, mut counts) = (0.0, 0.0, 0.0);
        let actions = request["TransactItems"].as_array().into_iter().flatten();
        let puts = actions.clone().map(|action| (&action["Put"]["Item"], TRANSACTIONAL_CAPACITY_FACTOR));
        for (item, factor) in puts.chain([(&request["Item"], 1.0)]) {
            let Some(key) = item["key"]["S"].as_str() else { continue };
            let units = write_capacity_units(item_size(&Item::deserialize(item)?)) * factor;
            if key.contains("/newest/") || key.contains("/customer") {
                lists += units;
            } else if key.contains("/profile/") {
                customers += units;
            }
        }
        for _ in actions.filter(|action| action["Update"].is_object()) {
            counts += TRANSACTIONAL_CAPACITY_FACTOR;
        }
        Ok(Self::Write { lists, customers, counts })
    }
}

impl Storable for Kind {
    type Storer = StoreReplace<Self>;
}

impl Intercept for Meter {
    fn name(&self) -> &'static str {
        "Meter"
    }

    /// Before the signature, which covers the body and its length.
    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        call: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let is_read = ["Get", "Query", "Scan"].iter().any(|read| target.contains(read));
        let mut body: Value = serde_json::from_slice(request.body().bytes().unwrap_or_default())?;
        call.interceptor_state().store_put(if is_read { Kind::Read } else { Kind::of_write(&body)? });
        body["ReturnConsumedCapacity"] = json!("INDEXES");
        let body = serde_json::to_vec(&body)?;
        request.headers_mut().insert("content-length", body.len().to_string());
        *request.body_mut() = SdkBody::from(body);
        Ok(())
    }

    /// Only here has the whole answer been read.
    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        call: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let answer: Value = serde_json::from_slice(context.response().body().bytes().unwrap_or_default())?;
        // One per table for the operations on several items, else one.
        let tables: Vec<Consumed> = match &answer["ConsumedCapacity"] {
            Value::Null => Vec::new(),
            Value::Array(tables) => tables.iter().map(Consumed::deserialize).collect::<Result<_, _>>()?,
            one => vec![Consumed::deserialize(one)?],
        };
        let consumed: f64 = tables.iter().map(|table| table.units).sum();
        let mut usage = self.0.lock().unwrap();
        usage.calls += 1;
        usage.refused += u32::from(!context.response().status().is_success());
        let (lists, customers, counts) = match call.load::<Kind>() {
            Some(Kind::Write { lists, customers, counts }) => (*lists, *customers, *counts),
            Some(Kind::Read) | None => {
                usage.read_units += consumed;
                return Ok(());
            }
        };
        usage.write_units += consumed;
        if !tables.is_empty() {
            usage.lists += lists;
            usage.customers += customers;
            usage.counts += counts;
        }
        for Consumed { name, units, indexes } in tables {
            let of_indexes: f64 = indexes.values().map(|index| index.units).sum();
            for (index, Part { units }) in indexes {
                *usage.written.entry(format!("{name}/{index}")).or_default() += units;
            }
            *usage.written.entry(name).or_default() += units - of_indexes;
        }
        Ok(())
    }
}

/// What one call consumed of one table, its indexes included.
#[derive(Deserialize)]
struct Consumed {
    #[serde(rename = "TableName")]
    name: String,
    #[serde(rename = "CapacityUnits")]
    units: f64,
    #[serde(rename = "GlobalSecondaryIndexes", default)]
    indexes: BTreeMap<String, Part>,
}

#[derive(Deserialize)]
struct Part {
    #[serde(rename = "CapacityUnits")]
    units: f64,
}

/// The items of the read model before they are in the database, by table and key.
///
/// Knows what the projection of new orders asks for, and no more. Looks at no condition: nothing of what is loaded may be
/// there already, and nobody else may write the same customer's orders.
#[derive(Debug, Clone, Default)]
pub(crate) struct Collected(Arc<Mutex<BTreeMap<(String, String), Item>>>);

/// How many items come into the database in one transaction.
const ITEMS_PER_IMPORT: usize = 10_000;

impl Collected {
    /// Those that are wanted by their key, in the order of their keys: the database finds a place faster when the next one is near.
    pub(crate) fn import(&self, database: &Database, table: &str, is_wanted: impl Fn(&str) -> bool) {
        let mut items = self.0.lock().unwrap();
        let is_wanted = |(name, key): &(String, String)| name == table && is_wanted(key);
        let of_table: Vec<_> = items.extract_if(.., |key, _| is_wanted(key)).map(|(_, item)| item).collect();
        drop(items);
        for some in of_table.chunks(ITEMS_PER_IMPORT) {
            database.import_items(table, some.to_vec(), ImportOptions::default()).unwrap();
        }
    }

    fn answer(&self, operation: &str, request: &Value) -> Value {
        let mut items = self.0.lock().unwrap();
        let mut put = |table: &Value, item: &Value| {
            items.insert(key_of(table.as_str().unwrap(), item), Item::deserialize(item).unwrap());
        };
        match operation {
            "GetItem" => {
                let key = key_of(request["TableName"].as_str().unwrap(), &request["Key"]);
                return items.get(&key).map_or_else(|| json!({}), |item| json!({"Item": item}));
            }
            "BatchGetItem" => {
                let (table, wanted) = request["RequestItems"].as_object().unwrap().iter().next().unwrap();
                let keys = wanted["Keys"].as_array().unwrap().iter().map(|key| key_of(table, key));
                let found: Vec<&Item> = keys.filter_map(|key| items.get(&key)).collect();
                return json!({"Responses": {table: found}});
            }
            "PutItem" => put(&request["TableName"], &request["Item"]),
            "BatchWriteItem" => {
                for (table, writes) in request["RequestItems"].as_object().unwrap() {
                    for write in writes.as_array().unwrap() {
                        put(&json!(table), &write["PutRequest"]["Item"]);
                    }
                }
            }
            "UpdateItem" => {
                let key = key_of(request["TableName"].as_str().unwrap(), &request["Key"]);
                add(items.entry(key).or_insert_with(|| Item::deserialize(&request["Key"]).unwrap()), request);
            }
            "TransactWriteItems" => {
                for action in request["TransactItems"].as_array().unwrap() {
                    let (one, update) = (&action["Put"], &action["Update"]);
                    if one.is_object() {
                        items.insert(
                            key_of(one["TableName"].as_str().unwrap(), &one["Item"]),
                            Item::deserialize(&one["Item"]).unwrap(),
                        );
                    } else {
                        let key = key_of(update["TableName"].as_str().unwrap(), &update["Key"]);
                        add(items.entry(key).or_insert_with(|| Item::deserialize(&update["Key"]).unwrap()), update);
                    }
                }
            }
            _ => panic!("{operation} is not needed for the read model of new orders"),
        }
        json!({})
    }
}

fn key_of(table: &str, item: &Value) -> (String, String) {
    let part = |name: &str| item[name]["S"].as_str().unwrap_or_default();
    (table.to_owned(), format!("{}{}\n{}", part("key"), part("term"), part("place")))
}

/// Does what `ADD #name :value, #other :more` says.
fn add(item: &mut Item, update: &Value) {
    let number = |number: &str| number.parse::<i64>().unwrap();
    for added in update["UpdateExpression"].as_str().unwrap().strip_prefix("ADD ").unwrap().split(", ") {
        let (name, value) = added.split_once(' ').unwrap();
        let more = number(update["ExpressionAttributeValues"][value]["N"].as_str().unwrap());
        let name = update["ExpressionAttributeNames"][name].as_str().unwrap();
        let so_far = match item.get(name) {
            Some(AttributeValue::N(so_far)) => number(so_far),
            _ => 0,
        };
        item.insert(name.to_owned(), AttributeValue::N((so_far + more).to_string()));
    }
}

impl HttpConnector for Collected {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let body = serde_json::from_slice(request.body().bytes().unwrap_or_default()).unwrap();
        let answer = self.answer(operation(&request), &body).to_string().into_bytes();
        HttpConnectorFuture::ready(Ok(HttpResponse::new(200.try_into().unwrap(), SdkBody::from(answer))))
    }
}
