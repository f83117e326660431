//! The snapshots: one item per stream, replaced only by a newer one.

use std::collections::HashMap;

use application::{
    event_store::{PastCommand, Snapshot},
    event_store::{StreamId, Unavailable},
    ports::Snapshots,
};
use aws_sdk_dynamodb::{Client, operation::put_item::PutItemError};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::warn;

use super::{Table, json_text, number, text};
use crate::lambda;

#[derive(Clone)]
pub struct DynamoSnapshots {
    table: Table,
}

impl DynamoSnapshots {
    pub fn new(client: Client, table: String) -> Self {
        let table = Table { client, name: table, partition_key: "stream", sort_key: None, what: "the snapshot table" };
        Self { table }
    }
}

impl Snapshots for DynamoSnapshots {
    async fn load(&self, stream: &StreamId) -> Option<Snapshot> {
        let key = HashMap::from([("stream".to_owned(), text(stream.as_str()))]);
        let row: Result<Option<SnapshotRow>, Unavailable> = self.table.get(key).await;
        let stream = stream.as_str();
        row.inspect_err(|error| warn!(stream, error = lambda::chain(error), "a stream is read without its snapshot"))
            .unwrap_or_default()
            .map(Snapshot::from)
    }

    async fn save(&self, snapshot: &Snapshot) -> Result<(), Unavailable> {
        let row = SnapshotRow::from(snapshot.clone());
        let put = self
            .table
            .client
            .put_item()
            .table_name(&self.table.name)
            .set_item(Some(self.table.item(&row)?))
            .condition_expression("attribute_not_exists(#version) OR #version < :version")
            .expression_attribute_names("#version", "version")
            .expression_attribute_values(":version", number(snapshot.version))
            .send()
            .await;
        match put {
            Ok(_) => Ok(()),
            Err(error)
                if matches!(error.as_service_error(), Some(PutItemError::ConditionalCheckFailedException(_))) =>
            {
                Ok(())
            }
            Err(error) => Err(self.table.unavailable(error)),
        }
    }
}

/// An item of the snapshot table. The version stands where a condition can see it.
#[derive(Debug, Serialize, Deserialize)]
struct SnapshotRow {
    stream: String,
    version: u64,
    schema: u32,
    #[serde(with = "json_text")]
    state: Value,
    #[serde(with = "json_text")]
    commands: Vec<PastCommand>,
}

impl From<Snapshot> for SnapshotRow {
    fn from(snapshot: Snapshot) -> Self {
        let Snapshot { stream, version, schema, state, commands } = snapshot;
        Self { stream: stream.as_str().to_owned(), version, schema, state, commands }
    }
}

impl From<SnapshotRow> for Snapshot {
    fn from(row: SnapshotRow) -> Self {
        let SnapshotRow { stream, version, schema, state, commands } = row;
        Self { stream: StreamId::new(stream), version, schema, state, commands }
    }
}
