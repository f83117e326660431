//! The counters: one item per function, whose attributes are what it counts, so that handing on is one write unit. Beside them lies
//! what [processes](super::DynamoProcesses) report.
//!
//! An item takes 1,000 writes a second: as many as 5,000 warm processes of a function make, each at work all the time.

use std::collections::BTreeMap;

use application::{event_store::Unavailable, ports::Counters};
use aws_sdk_dynamodb::{Client, operation::scan::builders::ScanFluentBuilder, types::AttributeValue};

use super::{Item, Table, number, text};

const PARTITION_KEY: &str = "name";

/// What the key of a process' item begins with: `process#<function>#<instance>`. No function is called so.
pub(super) const PROCESS: &str = "process#";

pub struct DynamoCounters {
    table: Table,
    function: &'static str,
}

impl DynamoCounters {
    /// What is added goes to the item of this function; what is read is the sum of all of them.
    pub fn new(client: Client, table: String, function: &'static str) -> Self {
        Self { table: self::table(client, table), function }
    }
}

pub(super) fn table(client: Client, name: String) -> Table {
    Table { client, name, partition_key: PARTITION_KEY, sort_key: None, what: "the counters' table" }
}

/// Has the scan know `#key` and `:prefix`, by which it tells processes from counters.
pub(super) fn with_prefix(scan: ScanFluentBuilder, table: &Table) -> ScanFluentBuilder {
    scan.expression_attribute_names("#key", table.partition_key).expression_attribute_values(":prefix", text(PROCESS))
}

impl Counters for DynamoCounters {
    async fn add(&self, amounts: &[(String, u64)]) -> Result<(), Unavailable> {
        if amounts.is_empty() {
            return Ok(());
        }
        let mut update = self
            .table
            .client
            .update_item()
            .table_name(&self.table.name)
            .set_key(Some(Item::from([(PARTITION_KEY.to_owned(), text(self.function))])));
        let mut sums = Vec::with_capacity(amounts.len());
        for (index, (name, amount)) in amounts.iter().enumerate() {
            sums.push(format!("#name{index} :amount{index}"));
            update = update
                .expression_attribute_names(format!("#name{index}"), name)
                .expression_attribute_values(format!(":amount{index}"), number(*amount));
        }
        let update = update.update_expression(format!("ADD {}", sums.join(", ")));
        update.send().await.map_err(|error| self.table.unavailable(error))?;
        Ok(())
    }

    /// Reads the whole table, which has as many items as there are functions that count, and those of processes.
    async fn read(&self) -> Result<BTreeMap<String, u64>, Unavailable> {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        let scan = self.table.client.scan().consistent_read(true).filter_expression("NOT begins_with(#key, :prefix)");
        let items = self.table.scan(with_prefix(scan, &self.table)).await?;
        for (name, value) in items.into_iter().flatten() {
            if let AttributeValue::N(digits) = value {
                let amount = digits.parse().map_err(|error| self.table.unavailable(error))?;
                let count = counts.entry(name).or_default();
                *count = count.saturating_add(amount);
            }
        }
        Ok(counts)
    }
}
