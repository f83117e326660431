//! What processes have used: one item each beside the counters, which goes by itself a day after its last report.

use application::{
    event_store::Unavailable,
    ports::{Process, Processes, REPORT_KEPT},
};
use aws_sdk_dynamodb::Client;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use uuid::Uuid;

use super::{
    Item, Table,
    counters::{self, PROCESS, with_prefix},
    number, text,
};

pub struct DynamoProcesses {
    table: Table,
}

/// What is read of an item.
#[derive(Deserialize)]
struct Row {
    name: String,
    started_at: u64,
    memory_limit_bytes: u64,
    memory_bytes: u64,
    cpu_ms: u64,
    tmp_used_bytes: u64,
    tmp_free_bytes: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not the key of a process")]
struct NoProcess(String);

impl DynamoProcesses {
    /// The table is that of the counters.
    pub fn new(client: Client, table: String) -> Self {
        Self { table: counters::table(client, table) }
    }

    fn process(&self, item: Item) -> Result<Process, Unavailable> {
        let Row { name, started_at, memory_limit_bytes, memory_bytes, cpu_ms, tmp_used_bytes, tmp_free_bytes } =
            self.table.row(item)?;
        let key = name.strip_prefix(PROCESS).and_then(|key| key.split_once('#'));
        let of = key.and_then(|(function, instance)| Some((function.to_owned(), Uuid::parse_str(instance).ok()?)));
        let (function, instance) = of.ok_or_else(|| self.table.unavailable(NoProcess(name)))?;
        Ok(Process {
            function,
            instance,
            started_at,
            memory_limit_bytes,
            memory_bytes,
            cpu_ms,
            tmp_used_bytes,
            tmp_free_bytes,
        })
    }
}

impl Processes for DynamoProcesses {
    async fn report(&self, process: &Process, now: DateTime<Utc>) -> Result<(), Unavailable> {
        let figures = [
            ("started_at", process.started_at),
            ("memory_limit_bytes", process.memory_limit_bytes),
            ("memory_bytes", process.memory_bytes),
            ("cpu_ms", process.cpu_ms),
            ("tmp_used_bytes", process.tmp_used_bytes),
            ("tmp_free_bytes", process.tmp_free_bytes),
            ("expires_at", seconds(now).saturating_add(u64::try_from(REPORT_KEPT.num_seconds()).unwrap_or_default())),
        ];
        let key = format!("{PROCESS}{}#{}", process.function, process.instance);
        let mut update = self
            .table
            .client
            .update_item()
            .table_name(&self.table.name)
            .set_key(Some(Item::from([(self.table.partition_key.to_owned(), text(key))])));
        for (name, figure) in figures {
            update = update.expression_attribute_values(format!(":{name}"), number(figure));
        }
        let sets = figures.map(|(name, _)| format!("{name} = :{name}"));
        let update = update.update_expression(format!("SET {}", sets.join(", ")));
        update.send().await.map_err(|error| self.table.unavailable(error))?;
        Ok(())
    }

    /// Reads the whole table, for half of what it costs to see every report. `DynamoDB` removes an item up to days after it has
    /// expired, so what has is left out here.
    async fn read(&self, now: DateTime<Utc>) -> Result<Vec<Process>, Unavailable> {
        let scan = self.table.client.scan().filter_expression("begins_with(#key, :prefix) AND expires_at > :now");
        let scan = scan.expression_attribute_values(":now", number(seconds(now)));
        let items = self.table.scan(with_prefix(scan, &self.table)).await?;
        items.into_iter().map(|item| self.process(item)).collect()
    }
}

fn seconds(at: DateTime<Utc>) -> u64 {
    at.timestamp().try_into().unwrap_or_default()
}
