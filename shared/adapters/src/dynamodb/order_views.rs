//! The read model's table: one item per order, the view as JSON, replaced only by the version that follows it.

use std::collections::HashMap;

use application::{
    event_store::Unavailable,
    ports::{OpenOrders, OrderViews, SaveError},
};
use aws_sdk_dynamodb::{Client, operation::put_item::PutItemError, types::AttributeValue};
use chrono::{DateTime, Timelike, Utc};
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
            open: view.is_open().then(|| part(view)),
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

    /// One query for each part of the index, so that a part full of orders does not hide the others. Each time another
    /// part is the first, so that none is always the one that is not reached.
    async fn open_orders(&self, placed_before: DateTime<Utc>, limit: usize) -> Result<OpenOrders, Unavailable> {
        let before = placed_before.timestamp_millis();
        let minute = usize::try_from(placed_before.minute()).unwrap_or_default();
        let first = minute.checked_rem(SHARDS.len()).unwrap_or_default();
        let (late, early) = SHARDS.split_at(first);
        let part = i32::try_from(limit.div_ceil(SHARDS.len())).unwrap_or(i32::MAX);
        let mut open = OpenOrders { ids: Vec::new(), more: false };
        for waits in [false, true] {
            for shard in early.iter().chain(late) {
                let query = self.table.client.query().table_name(&self.table.name).index_name(OPEN_ORDERS);
                let page = query
                    .key_condition_expression("#open = :part AND placed_at < :before")
                    .expression_attribute_names("#open", "open")
                    .expression_attribute_values(":part", text(part_of(shard, waits)))
                    .expression_attribute_values(":before", AttributeValue::N(before.to_string()))
                    .limit(part)
                    .send()
                    .await
                    .map_err(|error| self.table.unavailable(error))?;
                open.more |= page.last_evaluated_key.is_some();
                for item in page.items.unwrap_or_default() {
                    let OpenRow { order_id } = self.table.row(item)?;
                    open.ids.push(order_id);
                }
            }
        }
        Ok(open)
    }
}

/// The index of the orders that are open, by the time at which they were placed: an order enters it once and leaves it once,
/// unless it waits for a person meanwhile.
const OPEN_ORDERS: &str = "open-orders";

/// The first digit of an order's id: all open orders under one key would be more than a partition takes.
const SHARDS: [&str; 16] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "a", "b", "c", "d", "e", "f"];

/// The orders that wait for a person have parts of their own: there may be many of them, for long.
fn part_of(shard: &str, waits: bool) -> String {
    format!("{}{shard}", if waits { "w" } else { "" })
}

fn part(view: &OrderView) -> String {
    let id = view.id.to_string();
    part_of(id.get(..1).unwrap_or_default(), view.attention.is_some())
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
