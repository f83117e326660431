//! An example of a consumer of the order service's events: a Lambda function that counts customers' points, and a table
//! that has the ledger's items and the points.

mod consumer;
mod points;

use std::{collections::BTreeMap, env, time::Duration};

use aws_config::{BehaviorVersion, timeout::TimeoutConfig};
use aws_lambda_events::event::sqs::SqsEvent;
use aws_sdk_dynamodb::{
    Client,
    error::DisplayErrorContext,
    types::{AttributeValue, Put, TransactWriteItem, Update},
};
use chrono::{SecondsFormat, Utc};
use consumer::{BoxError, BusEvent, Ledger, Outcome, Progress, consume};
use lambda_runtime::{LambdaEvent, service_fn};
use points::{Order, Points, points};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let timeouts = TimeoutConfig::builder().operation_timeout(Duration::from_secs(3)).build();
    let config = aws_config::defaults(BehaviorVersion::v2026_01_12()).timeout_config(timeouts).load().await;
    let table = Table { client: Client::new(&config), name: env::var("TABLE")? };
    let rates: BTreeMap<String, i64> = serde_json::from_str(&env::var("RATES")?)?;
    let effect = |order: Option<Order>, event: &BusEvent| points(&rates, order, event).map_err(BoxError::from);
    lambda_runtime::run(service_fn(async |batch: LambdaEvent<SqsEvent>| {
        Ok::<_, lambda_runtime::Error>(Box::pin(consume(&table, &effect, batch.payload)).await)
    }))
    .await
}

struct Table {
    client: Client,
    name: String,
}

impl Ledger for Table {
    type State = Order;
    type Write = Points;

    async fn read(&self, order: &str) -> Result<Progress<Order>, BoxError> {
        let get = self.client.get_item().table_name(&self.name).key("id", order_key(order)).consistent_read(true);
        let answer = get.send().await.map_err(|error| DisplayErrorContext(error).to_string())?;
        let Some(item) = answer.item else { return Ok(Progress { last: 0, state: None }) };
        let last = item.get("last").and_then(|value| value.as_n().ok()).ok_or("the order has no number")?;
        let state = item.get("state").and_then(|value| value.as_s().ok()).ok_or("the order has no state")?;
        Ok(Progress { last: last.parse()?, state: Some(serde_json::from_str(state)?) })
    }

    async fn commit(&self, order: &str, sequence: u64, outcome: Outcome<Order, Points>) -> Result<(), BoxError> {
        let record = Put::builder()
            .table_name(&self.name)
            .item("id", order_key(order))
            .item("last", AttributeValue::N(sequence.to_string()))
            .item("state", AttributeValue::S(serde_json::to_string(&outcome.state)?))
            .item("at", AttributeValue::S(Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true)));
        let record = match sequence.saturating_sub(1) {
            0 => record.condition_expression("attribute_not_exists(id)"),
            before => record
                .condition_expression("#last = :before")
                .expression_attribute_names("#last", "last")
                .expression_attribute_values(":before", AttributeValue::N(before.to_string())),
        };
        let record = TransactWriteItem::builder().put(record.build()?).build();
        let mut transaction = self.client.transact_write_items().transact_items(record);
        if let Some(Points { customer, points }) = outcome.write {
            let add = Update::builder()
                .table_name(&self.name)
                .key("id", AttributeValue::S(format!("customer#{customer}")))
                .update_expression("ADD points :points")
                .expression_attribute_values(":points", AttributeValue::N(points.to_string()));
            transaction = transaction.transact_items(TransactWriteItem::builder().update(add.build()?).build());
        }
        transaction.send().await.map_err(|error| DisplayErrorContext(error).to_string())?;
        Ok(())
    }
}

fn order_key(order: &str) -> AttributeValue {
    AttributeValue::S(format!("order#{order}"))
}
