//! The generations of the read model: one that is read, and others beside it while it is being rebuilt.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use application::{
    event_store::Unavailable,
    ports::{Cache, ReadModel},
    rebuild_orders::{Comparison, Progress},
};
use aws_sdk_dynamodb::{Client, operation::put_item::PutItemError};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{DynamoIndex, DynamoOrderViews, Item, Table, json_text, text};
use crate::tally::Tally;

pub type Generation = ReadModel<DynamoOrderViews, DynamoIndex>;

/// How long a function goes on with what it knows of the generations. A rebuild waits for longer after each change.
const KNOWN_FOR: Duration = Duration::from_secs(5);

/// Which generations there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generations {
    /// The one that is read.
    pub live: u32,
    /// The one that is being built, and kept up to date from its first moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub building: Option<Building>,
    /// One that is not to be read any more, kept up to date until every reader knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outgoing: Option<u32>,
    /// One that nobody reads, and that is to be removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clearing: Option<u32>,
    /// The highest number that was ever given: none is given twice, because somebody may still write under an old one.
    pub last: u32,
    /// What the one that is read was built as. One that does not say so is of the version that was the last not to.
    #[serde(default = "format_before_it_was_kept")]
    pub format: u32,
    pub changed_at: DateTime<Utc>,
}

/// A generation that is being built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Building {
    pub generation: u32,
    /// In how many parts the event table is read.
    pub segments: u32,
    /// What it is built as.
    #[serde(default)]
    pub format: u32,
}

impl Building {
    /// What this version builds: one more whenever what is written of the same events changes. Until a rebuild, a generation is
    /// half of the one and half of the other, and `make deploy` says that it is needed.
    pub const FORMAT: u32 = 3;
}

const FORMAT_BEFORE_IT_WAS_KEPT: u32 = 3;

fn format_before_it_was_kept() -> u32 {
    FORMAT_BEFORE_IT_WAS_KEPT
}

impl Generations {
    /// What holds for a table in which nothing was ever rebuilt.
    pub const FIRST: Self = Self {
        live: 1,
        building: None,
        outgoing: None,
        clearing: None,
        last: 1,
        format: FORMAT_BEFORE_IT_WAS_KEPT,
        changed_at: DateTime::UNIX_EPOCH,
    };

    /// All that are to be kept up to date. The one that is read comes last: what is in it is in the others too.
    pub fn written(self) -> impl Iterator<Item = u32> {
        [self.building.map(|building| building.generation), self.outgoing, Some(self.live)].into_iter().flatten()
    }
}

/// The read model, whichever of its generations is read at the moment.
pub struct DynamoReadModel {
    client: Client,
    orders_table: String,
    index_table: String,
    known: Mutex<Option<(SystemTime, Generations)>>,
    tally: Arc<Tally>,
}

impl DynamoReadModel {
    pub fn new(client: Client, orders_table: String, index_table: String) -> Self {
        Self { client, orders_table, index_table, known: Mutex::default(), tally: Arc::default() }
    }

    /// For whoever hands on how often what is known of the generations has been enough.
    #[must_use]
    pub fn with_tally(self, tally: Arc<Tally>) -> Self {
        Self { tally, ..self }
    }

    /// To read from.
    pub async fn live(&self) -> Result<Generation, Unavailable> {
        Ok(self.generation(self.generations().await?.live))
    }

    /// To keep up to date.
    pub async fn written(&self) -> Result<Vec<Generation>, Unavailable> {
        Ok(self.generations().await?.written().map(|generation| self.generation(generation)).collect())
    }

    pub fn generation(&self, generation: u32) -> Generation {
        ReadModel {
            generation,
            views: DynamoOrderViews::new(self.client.clone(), self.orders_table.clone(), generation),
            index: DynamoIndex::new(self.client.clone(), self.index_table.clone(), generation),
        }
    }

    async fn generations(&self) -> Result<Generations, Unavailable> {
        let known = *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // By the clock on the wall: the other one may stand still while Lambda keeps the function frozen.
        let known = known.filter(|(since, _)| since.elapsed().is_ok_and(|age| age < KNOWN_FOR));
        self.tally.look(Cache::Generations, known.is_some());
        if let Some((_, generations)) = known {
            return Ok(generations);
        }
        // Old from the moment of asking, not of the answer.
        let asked = SystemTime::now();
        let generations = self.generations_now().await?;
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((asked, generations));
        Ok(generations)
    }

    /// One read that sees every change that was answered before.
    pub async fn generations_now(&self) -> Result<Generations, Unavailable> {
        let row: Option<GenerationsRow> = self.table().get(key(KEY.to_owned())).await?;
        Ok(row.map_or(Generations::FIRST, |row| row.generations))
    }

    /// Answers false, and changes nothing, when the generations are not `from` any more, unless they are `to` already: then
    /// it was this very change, whose answer was lost.
    pub async fn change(&self, from: Generations, to: Generations) -> Result<bool, Unavailable> {
        let table = self.table();
        let row = GenerationsRow { key: KEY.to_owned(), generations: to };
        let put = self.client.put_item().table_name(&self.orders_table).set_item(Some(table.item(&row)?));
        let put = if from == Generations::FIRST {
            put.condition_expression("attribute_not_exists(changed_at)")
        } else {
            put.condition_expression("changed_at = :from")
                .expression_attribute_values(":from", table.value(&from.changed_at)?)
        };
        match put.send().await {
            Ok(_) => Ok(true),
            Err(error)
                if matches!(error.as_service_error(), Some(PutItemError::ConditionalCheckFailedException(_))) =>
            {
                Ok(self.generations_now().await? == to)
            }
            Err(error) => Err(table.unavailable(error)),
        }
    }

    /// How far each segment of a rebuild has come, in the order of their numbers.
    pub async fn progress(&self, building: Building) -> Result<Vec<Progress>, Unavailable> {
        let keys: Vec<Item> = (0..building.segments).map(|number| key(progress_key(building, number))).collect();
        let mut rows: Vec<ProgressRow> = Vec::new();
        for keys in keys.chunks(KEYS_MAX) {
            rows.extend(self.table().get_many::<ProgressRow>(keys.to_vec()).await?);
        }
        let of = |number| {
            let row = rows.iter().find(|row| row.key == progress_key(building, number));
            row.map(|row| row.progress.clone()).unwrap_or_default()
        };
        Ok((0..building.segments).map(of).collect())
    }

    pub async fn save_progress(&self, building: Building, number: u32, progress: &Progress) -> Result<(), Unavailable> {
        let table = self.table();
        let row = ProgressRow { key: progress_key(building, number), progress: progress.clone() };
        let put = self.client.put_item().table_name(&self.orders_table).set_item(Some(table.item(&row)?));
        put.send().await.map_err(|error| table.unavailable(error))?;
        Ok(())
    }

    /// How far the comparison of each segment has come, in the order of their numbers.
    pub async fn comparisons(&self, building: Building) -> Result<Vec<Comparison>, Unavailable> {
        let numbers = 0..building.segments;
        let mut rows: Vec<ComparisonRow> = Vec::new();
        let keys: Vec<Item> = numbers.clone().map(|number| key(comparison_key(building, number))).collect();
        for keys in keys.chunks(KEYS_MAX) {
            rows.extend(self.table().get_many::<ComparisonRow>(keys.to_vec()).await?);
        }
        let of = |number| {
            let row = rows.iter().find(|row| row.key == comparison_key(building, number));
            row.map(|row| row.comparison.clone()).unwrap_or_default()
        };
        Ok(numbers.map(of).collect())
    }

    pub async fn save_comparison(
        &self,
        building: Building,
        number: u32,
        comparison: &Comparison,
    ) -> Result<(), Unavailable> {
        let table = self.table();
        let row = ComparisonRow { key: comparison_key(building, number), comparison: comparison.clone() };
        let put = self.client.put_item().table_name(&self.orders_table).set_item(Some(table.item(&row)?));
        put.send().await.map_err(|error| table.unavailable(error))?;
        Ok(())
    }

    /// Removes what there is of a generation on the next page of up to `limit` items, first of the views' table, then of the index's;
    /// answers how much that was, and whether it was the last page. How far it is is kept, so whoever calls next goes on there.
    pub async fn clear(&self, generation: u32, limit: usize) -> Result<(usize, bool), Unavailable> {
        let row: Option<ClearingRow> = self.table().get(key(CLEARING_KEY.to_owned())).await?;
        let row = row.filter(|row| row.generation == generation);
        let after = row.map_or(ClearedUpTo::Views(None), |row| row.after);
        let (table, from) = match after.clone() {
            ClearedUpTo::Views(place) => (self.table(), place.map(|place| self.table().item(&place)).transpose()?),
            ClearedUpTo::Index(place) => {
                (self.index_table(), place.map(|place| self.table().item(&place)).transpose()?)
            }
        };
        let mut scan = self.client.scan().projection_expression("#partition");
        if let Some(sort_key) = table.sort_key {
            scan = scan.projection_expression("#partition, #sort").expression_attribute_names("#sort", sort_key);
        }
        let page = scan
            .table_name(&table.name)
            .consistent_read(true)
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .set_exclusive_start_key(from)
            .filter_expression("begins_with(#partition, :generation)")
            .expression_attribute_names("#partition", table.partition_key)
            .expression_attribute_values(":generation", text(format!("{generation}/")))
            .send()
            .await
            .map_err(|error| table.unavailable(error))?;
        let keys = page.items.unwrap_or_default();
        let count = keys.len();
        table.delete(keys).await?;
        let next = match (after, page.last_evaluated_key) {
            (ClearedUpTo::Views(_), Some(key)) => Some(ClearedUpTo::Views(Some(table.row(key)?))),
            (ClearedUpTo::Views(_), None) => Some(ClearedUpTo::Index(None)),
            (ClearedUpTo::Index(_), Some(key)) => Some(ClearedUpTo::Index(Some(table.row(key)?))),
            (ClearedUpTo::Index(_), None) => None,
        };
        let Some(after) = next else { return Ok((count, true)) };
        let (table, row) = (self.table(), ClearingRow { key: CLEARING_KEY.to_owned(), generation, after });
        let put = self.client.put_item().table_name(&self.orders_table).set_item(Some(table.item(&row)?));
        put.send().await.map_err(|error| table.unavailable(error))?;
        Ok((count, false))
    }

    /// How many items, and bytes, the table of events has: what a rebuild has to read. About, and hours old.
    pub async fn size(&self, events_table: &str) -> Result<(u64, u64), Unavailable> {
        self.size_of(events_table).await
    }

    /// The same of the read model itself, with all its generations.
    pub async fn own_size(&self) -> Result<(u64, u64), Unavailable> {
        let (views, index) = (self.size_of(&self.orders_table).await?, self.size_of(&self.index_table).await?);
        Ok((views.0.saturating_add(index.0), views.1.saturating_add(index.1)))
    }

    async fn size_of(&self, name: &str) -> Result<(u64, u64), Unavailable> {
        let table = self.table();
        let answer = self.client.describe_table().table_name(name).send().await;
        let described = answer.map_err(|error| table.unavailable(error))?.table;
        let count = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok()).unwrap_or_default();
        let described = described.as_ref();
        Ok((
            count(described.and_then(|table| table.item_count)),
            count(described.and_then(|table| table.table_size_bytes)),
        ))
    }

    fn index_table(&self) -> Table {
        let (client, name) = (self.client.clone(), self.index_table.clone());
        Table { client, name, partition_key: "term", sort_key: Some("place"), what: "the read model" }
    }

    fn table(&self) -> Table {
        let (client, name) = (self.client.clone(), self.orders_table.clone());
        Table { client, name, partition_key: "key", sort_key: None, what: "the read model" }
    }
}

const KEY: &str = "generations";

/// In no generation, so that it is not cleared itself.
const CLEARING_KEY: &str = "clearing";

/// The most keys that are read in one call.
const KEYS_MAX: usize = 100;

fn key(key: String) -> Item {
    Item::from([("key".to_owned(), text(key))])
}

/// Goes with its generation when that is cleared.
fn progress_key(Building { generation, .. }: Building, number: u32) -> String {
    format!("{generation}/rebuild/{number}")
}

/// Goes with its generation, too.
fn comparison_key(Building { generation, .. }: Building, number: u32) -> String {
    format!("{generation}/comparison/{number}")
}

/// The item that says which generations there are.
#[derive(Debug, Serialize, Deserialize)]
struct GenerationsRow {
    key: String,
    #[serde(flatten)]
    generations: Generations,
}

/// The item that says how far a segment of a rebuild has come.
#[derive(Debug, Serialize, Deserialize)]
struct ProgressRow {
    key: String,
    #[serde(with = "json_text")]
    progress: Progress,
}

/// The item that says how far the comparison of a segment has come, and what it has found.
#[derive(Debug, Serialize, Deserialize)]
struct ComparisonRow {
    key: String,
    #[serde(with = "json_text")]
    comparison: Comparison,
}

/// The item that says how far the clearing of a generation has come. It stays until another one is cleared: no number is given twice.
#[derive(Debug, Serialize, Deserialize)]
struct ClearingRow {
    key: String,
    generation: u32,
    #[serde(with = "json_text")]
    after: ClearedUpTo,
}

/// Where the clearing of a generation goes on.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ClearedUpTo {
    Views(Option<ViewsKey>),
    Index(Option<IndexKey>),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct ViewsKey {
    key: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct IndexKey {
    term: String,
    place: String,
}
