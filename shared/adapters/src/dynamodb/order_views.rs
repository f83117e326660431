//! The read model's table: one item per order, the view as JSON, replaced only by the version that follows it.

use std::collections::HashMap;

use application::{
    event_store::Unavailable,
    ports::{OrderViews, SaveError},
};
use aws_sdk_dynamodb::{Client, operation::put_item::PutItemError, types::AttributeValue};
use chrono::{DateTime, Utc};
use domain::{ids::OrderId, order_view::OrderView};
use serde::{Deserialize, Serialize};

use super::{Table, json_text, number, text};

pub struct DynamoOrderViews {
    table: Table,
}

impl DynamoOrderViews {
    pub fn new(client: Client, table: String) -> Self {
        let table = Table { client, name: table, partition_key: "order_id", sort_key: None, what: "the order view" };
        Self { table }
    }
}

impl OrderViews for DynamoOrderViews {
    async fn load(&self, id: OrderId) -> Result<Option<OrderView>, Unavailable> {
        let key = HashMap::from([("order_id".to_owned(), text(id.to_string()))]);
        let row: Option<ViewRow> = self.table.get(key).await?;
        Ok(row.map(|row| row.view))
    }

    async fn save(&self, view: &OrderView, replaces: u64) -> Result<(), SaveError> {
        let row = ViewRow {
            order_id: view.id,
            version: view.version,
            open: view.is_open().then(|| shard(view.id)),
            placed_at: view.created_at.timestamp_millis(),
            view: view.clone(),
        };
        let put = self.table.client.put_item().table_name(&self.table.name).set_item(Some(self.table.item(&row)?));
        let put = if replaces == 0 {
            put.condition_expression("attribute_not_exists(order_id)")
        } else {
            put.condition_expression("#version = :replaces")
                .expression_attribute_names("#version", "version")
                .expression_attribute_values(":replaces", number(replaces))
        };
        match put.send().await {
            Ok(_) => Ok(()),
            Err(error)
                if matches!(error.as_service_error(), Some(PutItemError::ConditionalCheckFailedException(_))) =>
            {
                Err(SaveError::Superseded)
            }
            Err(error) => Err(self.table.unavailable(error).into()),
        }
    }

    /// One query for each part of the index, so that a part full of orders that wait does not hide the others.
    async fn open_orders(&self, placed_before: DateTime<Utc>, limit: usize) -> Result<Vec<OrderId>, Unavailable> {
        let part = i32::try_from(limit.div_ceil(SHARDS.len())).unwrap_or(i32::MAX);
        let mut open = Vec::new();
        for shard in SHARDS {
            let query = self.table.client.query().table_name(&self.table.name).index_name(OPEN_ORDERS);
            let page = query
                .key_condition_expression("#open = :shard AND placed_at < :before")
                .expression_attribute_names("#open", "open")
                .expression_attribute_values(":shard", text(shard))
                .expression_attribute_values(":before", AttributeValue::N(placed_before.timestamp_millis().to_string()))
                .limit(part)
                .send()
                .await
                .map_err(|error| self.table.unavailable(error))?;
            for item in page.items.unwrap_or_default() {
                let OpenRow { order_id } = self.table.row(item)?;
                open.push(order_id);
            }
        }
        open.truncate(limit);
        Ok(open)
    }
}

/// The index of the orders that are open, by the time at which they were placed: an order enters it once and leaves it once.
const OPEN_ORDERS: &str = "open-orders";

/// The first digit of an order's id: all open orders under one key would be more than a partition takes.
const SHARDS: [&str; 16] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "a", "b", "c", "d", "e", "f"];

fn shard(id: OrderId) -> String {
    id.to_string().chars().take(1).collect()
}

/// An item of the index.
#[derive(Debug, Deserialize)]
struct OpenRow {
    order_id: OrderId,
}

/// An item of the orders table. The version stands beside the view, where a condition can see it.
#[derive(Debug, Serialize, Deserialize)]
struct ViewRow {
    order_id: OrderId,
    version: u64,
    /// Absent when the order has come to rest, and with it its entry in the index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    open: Option<String>,
    #[serde(default)]
    placed_at: i64,
    #[serde(with = "json_text")]
    view: OrderView,
}
