//! The read model's table: one item per order, the view as JSON, replaced only by the version that follows it.

use std::collections::HashMap;

use application::{
    event_store::Unavailable,
    ports::{OrderViews, SaveError},
};
use aws_sdk_dynamodb::{Client, operation::put_item::PutItemError};
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
        let row = ViewRow { order_id: view.id, version: view.version, view: view.clone() };
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
}

/// An item of the orders table. The version stands beside the view, where a condition can see it.
#[derive(Debug, Serialize, Deserialize)]
struct ViewRow {
    order_id: OrderId,
    version: u64,
    #[serde(with = "json_text")]
    view: OrderView,
}
