//! The counters: one item per function, whose attributes are what it counts, so that handing on is one write unit.
//!
//! An item takes 1,000 writes a second: as many as 5,000 warm processes of a function make, each at work all the time.

use std::collections::BTreeMap;

use application::{event_store::Unavailable, ports::Counters};
use aws_sdk_dynamodb::{Client, types::AttributeValue};

use super::{Item, PAGES_MAX, Table, number, text};

const PARTITION_KEY: &str = "name";

pub struct DynamoCounters {
    table: Table,
    function: &'static str,
}

impl DynamoCounters {
    /// What is added goes to the item of this function; what is read is the sum of all of them.
    pub fn new(client: Client, table: String, function: &'static str) -> Self {
        let table =
            Table { client, name: table, partition_key: PARTITION_KEY, sort_key: None, what: "the counters' table" };
        Self { table, function }
    }
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

    /// Reads the whole table, which has as many items as there are functions that count.
    async fn read(&self) -> Result<BTreeMap<String, u64>, Unavailable> {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        let mut from = None;
        for _ in 0..PAGES_MAX {
            let scan = self.table.client.scan().table_name(&self.table.name).consistent_read(true);
            let page =
                scan.set_exclusive_start_key(from).send().await.map_err(|error| self.table.unavailable(error))?;
            for (name, value) in page.items.unwrap_or_default().into_iter().flatten() {
                if let AttributeValue::N(digits) = value {
                    let amount = digits.parse().map_err(|error| self.table.unavailable(error))?;
                    let count = counts.entry(name).or_default();
                    *count = count.saturating_add(amount);
                }
            }
            from = page.last_evaluated_key;
            if from.is_none() {
                return Ok(counts);
            }
        }
        Err(self.table.unavailable(format!("the table fills more than {PAGES_MAX} pages")))
    }
}
