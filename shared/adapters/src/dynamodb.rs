//! The ports on `DynamoDB`, one file per table, and what these files share.

mod counters;
mod customer_orders;
mod dead_letters;
mod event_store;
mod index;
mod limits;
mod order_views;
mod processes;
mod read_model;
mod sandbox;
mod snapshots;

pub use counters::DynamoCounters;
pub use dead_letters::DynamoDeadLetters;
pub use event_store::{DynamoEventStore, Place, UnreadableCommit, commit_from_image, key_from_image};
pub use index::DynamoIndex;
pub use limits::DynamoLimits;
pub use order_views::DynamoOrderViews;
pub use processes::DynamoProcesses;
pub use read_model::{Building, DynamoReadModel, Generation, Generations};
pub use sandbox::{DynamoInventory, DynamoNotifications, DynamoPayments, DynamoShipping, bookkeepers};
pub use snapshots::DynamoSnapshots;

use std::{collections::HashMap, time::Duration};

use application::event_store::{BoxError, Lasting, Unavailable};
use aws_sdk_dynamodb::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    operation::{
        batch_write_item::BatchWriteItemError, put_item::PutItemError, query::builders::QueryFluentBuilder,
        scan::builders::ScanFluentBuilder, transact_get_items::TransactGetItemsError,
        transact_write_items::TransactWriteItemsError, update_item::UpdateItemError,
    },
    types::{
        AttributeValue, CancellationReason, DeleteRequest, Get, KeysAndAttributes, ReturnValuesOnConditionCheckFailure,
        TransactGetItem, TransactWriteItem, WriteRequest,
    },
};
use futures_util::{StreamExt, stream};
use serde::{Serialize, de::DeserializeOwned};
use serde_dynamo::{from_item, to_attribute_value, to_item};
use uuid::Uuid;

type Item = HashMap<String, AttributeValue>;

/// More pages of 1 MB than any partition of this service can fill.
const PAGES_MAX: u32 = 1_000;

/// How many calls are under way at the same time where there may be many.
const AT_ONCE: usize = 16;

/// A table, and how its items are read and written as rows.
#[derive(Clone)]
struct Table {
    client: Client,
    name: String,
    partition_key: &'static str,
    sort_key: Option<&'static str>,
    /// The table in words, for errors.
    what: &'static str,
}

/// What became of a transaction.
enum Transacted {
    Done,
    /// Nothing was written: a condition did not hold, or others were writing the same items. Nothing promises that every
    /// condition that does not hold is among the reasons; what holds of several items, [`Table::at_one_moment`] says.
    Cancelled,
}

impl Table {
    fn unavailable(&self, source: impl Into<BoxError>) -> Unavailable {
        let source = source.into();
        let source = if is_too_large(&source) { Lasting::Unstorable(source).into() } else { source };
        Unavailable { what: self.what, source }
    }

    fn item(&self, row: &impl Serialize) -> Result<Item, Unavailable> {
        to_item(row).map_err(|error| self.unavailable(error))
    }

    fn value(&self, value: &impl Serialize) -> Result<AttributeValue, Unavailable> {
        to_attribute_value(value).map_err(|error| self.unavailable(error))
    }

    fn row<R: DeserializeOwned>(&self, item: Item) -> Result<R, Unavailable> {
        from_item(item).map_err(|error| self.unavailable(Lasting::NotACommit(without_values(&error).into())))
    }

    /// One strongly consistent read.
    async fn get<R: DeserializeOwned>(&self, key: Item) -> Result<Option<R>, Unavailable> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.name)
            .set_key(Some(key))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| self.unavailable(error))?;
        answer.item.map(|item| self.row(item)).transpose()
    }

    /// The rows of up to 100 distinct keys that there are, in any order: one strongly consistent read.
    async fn get_many<R: DeserializeOwned>(&self, mut keys: Vec<Item>) -> Result<Vec<R>, Unavailable> {
        let mut rows = Vec::with_capacity(keys.len());
        let mut backoff = Backoff::new();
        while !keys.is_empty() {
            let wanted = KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(true).build();
            let wanted = wanted.map_err(|error| self.unavailable(error))?;
            let answer = self.client.batch_get_item().request_items(&self.name, wanted).send().await;
            let answer = answer.map_err(|error| self.unavailable(error))?;
            for item in answer.responses.into_iter().flat_map(HashMap::into_values).flatten() {
                rows.push(self.row(item)?);
            }
            let unprocessed = answer.unprocessed_keys.into_iter().flat_map(HashMap::into_values);
            keys = unprocessed.flat_map(|unprocessed| unprocessed.keys).collect();
            if !keys.is_empty() {
                backoff.pause().await.map_err(|error| self.unavailable(error))?;
            }
        }
        Ok(rows)
    }

    /// The items under up to 100 distinct keys as they were at one moment, in the order of the keys.
    ///
    /// Of a transaction, this sees everything or nothing. Any other reads, one after the other or many in one call, may see
    /// the one half of it and not the other.
    async fn at_one_moment(&self, keys: Vec<Item>) -> Result<Vec<Option<Item>>, Unavailable> {
        let count = keys.len();
        let get = |key| {
            let get = Get::builder().table_name(&self.name).set_key(Some(key)).build();
            Ok(TransactGetItem::builder().get(get.map_err(|error| self.unavailable(error))?).build())
        };
        let gets = keys.into_iter().map(get).collect::<Result<Vec<_>, Unavailable>>()?;
        let mut backoff = Backoff::new();
        loop {
            let error = match self.client.transact_get_items().set_transact_items(Some(gets.clone())).send().await {
                Ok(answer) => {
                    let answers = answer.responses.unwrap_or_default();
                    if answers.len() != count {
                        return Err(self.unavailable(format!("{} answers for {count} keys", answers.len())));
                    }
                    return Ok(answers.into_iter().map(|answer| answer.item.filter(|item| !item.is_empty())).collect());
                }
                Err(error) => error,
            };
            match error.as_service_error() {
                Some(TransactGetItemsError::TransactionCanceledException(cancelled))
                    if cancelled.cancellation_reasons().iter().all(may_pass) =>
                {
                    backoff.pause().await.map_err(|error| self.unavailable(error))?;
                }
                _ => return Err(self.unavailable(error)),
            }
        }
    }

    /// A strongly consistent query for a partition, in the order of its sort keys.
    fn partition(&self, partition: &str) -> QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.name)
            .consistent_read(true)
            .key_condition_expression("#partition = :partition")
            .expression_attribute_names("#partition", self.partition_key)
            .expression_attribute_values(":partition", text(partition))
    }

    /// The first rows of a partition, in one call: up to `limit` of them, and whether there may be more.
    async fn first_rows<R: DeserializeOwned>(
        &self,
        partition: &str,
        limit: u32,
    ) -> Result<(Vec<R>, bool), Unavailable> {
        let limit = i32::try_from(limit).unwrap_or(i32::MAX);
        let page = self.partition(partition).limit(limit).send().await.map_err(|error| self.unavailable(error))?;
        let rows = page.items.unwrap_or_default().into_iter().map(|item| self.row(item)).collect::<Result<_, _>>()?;
        Ok((rows, page.last_evaluated_key.is_some()))
    }

    /// The rows of a partition whose sort key comes after `after`, in the order of their sort keys, all of them.
    async fn rows<R: DeserializeOwned>(
        &self,
        partition: &str,
        after: Option<AttributeValue>,
    ) -> Result<Vec<R>, Unavailable> {
        let mut query = self.partition(partition);
        if let (Some(after), Some(sort_key)) = (after, self.sort_key) {
            query = query
                .key_condition_expression("#partition = :partition AND #sort > :after")
                .expression_attribute_names("#sort", sort_key)
                .expression_attribute_values(":after", after);
        }
        let mut rows = Vec::new();
        let mut from = None;
        for _ in 0..PAGES_MAX {
            let page =
                query.clone().set_exclusive_start_key(from).send().await.map_err(|error| self.unavailable(error))?;
            for item in page.items.unwrap_or_default() {
                rows.push(self.row(item)?);
            }
            from = page.last_evaluated_key;
            if from.is_none() {
                return Ok(rows);
            }
        }
        Err(self.unavailable(format!("{partition} fills more than {PAGES_MAX} pages")))
    }

    /// What a scan of the whole table finds.
    async fn scan(&self, scan: ScanFluentBuilder) -> Result<Vec<Item>, Unavailable> {
        let scan = scan.table_name(&self.name);
        let mut items = Vec::new();
        let mut from = None;
        for _ in 0..PAGES_MAX {
            let page = scan.clone().set_exclusive_start_key(from).send().await;
            let page = page.map_err(|error| self.unavailable(error))?;
            items.extend(page.items.unwrap_or_default());
            from = page.last_evaluated_key;
            if from.is_none() {
                return Ok(items);
            }
        }
        Err(self.unavailable(format!("the table fills more than {PAGES_MAX} pages")))
    }

    /// Writes the row, unless one is there under its key: then answers that one.
    async fn put_new<R: Serialize + DeserializeOwned>(&self, row: &R) -> Result<Option<R>, Unavailable> {
        let item = self.item(row)?;
        let put = self
            .client
            .put_item()
            .table_name(&self.name)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(#partition)")
            .expression_attribute_names("#partition", self.partition_key)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        let Err(error) = put else { return Ok(None) };
        let Some(PutItemError::ConditionalCheckFailedException(refusal)) = error.as_service_error() else {
            return Err(self.unavailable(error));
        };
        match &refusal.item {
            Some(item) => Ok(Some(self.row(item.clone())?)),
            None => Err(self.unavailable(error)),
        }
    }

    /// Removes the items under any number of distinct keys.
    async fn delete(&self, keys: Vec<Item>) -> Result<(), Unavailable> {
        let delete = |key| {
            let delete = DeleteRequest::builder().set_key(Some(key)).build();
            Ok(WriteRequest::builder().delete_request(delete.map_err(|error| self.unavailable(error))?).build())
        };
        self.write(keys.into_iter().map(delete).collect::<Result<_, Unavailable>>()?).await
    }

    /// Writes any number of items under distinct keys, each for itself.
    async fn write(&self, requests: Vec<WriteRequest>) -> Result<(), Unavailable> {
        let batches = requests.chunks(BATCH_MAX).map(|batch| self.write_batch(batch.to_vec()));
        all_ended(batches.collect()).await.map(drop)
    }

    async fn write_batch(&self, mut batch: Vec<WriteRequest>) -> Result<(), Unavailable> {
        let mut backoff = Backoff::new();
        while !batch.is_empty() {
            let answer = self.client.batch_write_item().request_items(&self.name, batch).send().await;
            let unprocessed = answer.map_err(|error| self.unavailable(error))?.unprocessed_items;
            batch = unprocessed.into_iter().flat_map(HashMap::into_values).flatten().collect();
            if !batch.is_empty() {
                backoff.pause().await.map_err(|error| self.unavailable(error))?;
            }
        }
        Ok(())
    }

    /// Writes everything or nothing. The SDK's own retries carry one request token, so a transaction that went through
    /// without an answer is not repeated.
    async fn transact(&self, actions: Vec<TransactWriteItem>) -> Result<Transacted, Unavailable> {
        let sent = self.client.transact_write_items().set_transact_items(Some(actions)).send().await;
        let Err(error) = sent else { return Ok(Transacted::Done) };
        match error.as_service_error() {
            Some(TransactWriteItemsError::TransactionCanceledException(cancelled))
                if cancelled.cancellation_reasons().iter().all(may_pass) =>
            {
                Ok(Transacted::Cancelled)
            }
            _ => Err(self.unavailable(error)),
        }
    }
}

/// Several at a time, and none is left half done because another one has failed: what was sent may still come through after
/// whoever gave it up.
async fn all_ended<T>(calls: Vec<impl Future<Output = Result<T, Unavailable>>>) -> Result<Vec<T>, Unavailable> {
    let ended: Vec<Result<T, Unavailable>> = stream::iter(calls).buffer_unordered(AT_ONCE).collect().await;
    ended.into_iter().collect()
}

/// Whether an item is larger than a table holds. Only the message tells this refusal from the other validation errors.
fn is_too_large(error: &BoxError) -> bool {
    fn message<E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static>(error: &BoxError) -> Option<&str> {
        error.downcast_ref::<SdkError<E>>()?.message()
    }
    let message = message::<PutItemError>(error)
        .or_else(|| message::<UpdateItemError>(error))
        .or_else(|| message::<BatchWriteItemError>(error));
    message.is_some_and(|message| message.starts_with("Item size "))
}

/// What an error of serde says, up to the first text that it quotes: that may be personal, and errors are logged and told.
fn without_values(error: &serde_dynamo::Error) -> String {
    let text = error.to_string();
    text.split_once('"').map_or(text.as_str(), |(before, _)| before).to_owned()
}

/// Whether the same transaction may go through at another time. One that is wrong in itself never does.
fn may_pass(reason: &CancellationReason) -> bool {
    matches!(
        reason.code(),
        None | Some(
            "None" | CONDITION_FAILED | "TransactionConflict" | "ThrottlingError" | "ProvisionedThroughputExceeded"
        )
    )
}

/// The most items that one call writes.
const BATCH_MAX: usize = 25;

const CONDITION_FAILED: &str = "ConditionalCheckFailed";

fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

fn number(value: impl Into<u64>) -> AttributeValue {
    AttributeValue::N(value.into().to_string())
}

/// Growing pauses of random length, so that those who were in each other's way do not meet again; up to a bound.
///
/// The SDK retries failed calls by itself. This is for calls that worked and found others at the same items.
struct Backoff {
    pauses_left: u32,
    longest: Duration,
}

#[derive(Debug, thiserror::Error)]
#[error("others were at the same items each of {} times", Backoff::PAUSES)]
struct Contended;

impl Backoff {
    const PAUSES: u32 = 16;
    const FIRST: Duration = Duration::from_millis(20);
    const LONGEST: Duration = Duration::from_millis(500);

    fn new() -> Self {
        Self { pauses_left: Self::PAUSES, longest: Self::FIRST }
    }

    async fn pause(&mut self) -> Result<(), Contended> {
        self.pauses_left = self.pauses_left.checked_sub(1).ok_or(Contended)?;
        tokio::time::sleep(random_part_of(self.longest)).await;
        self.longest = self.longest.saturating_mul(2).min(Self::LONGEST);
        Ok(())
    }
}

fn random_part_of(longest: Duration) -> Duration {
    longest.mul_f64(f64::from(Uuid::new_v4().as_fields().0) / f64::from(u32::MAX))
}

/// A field that is stored as JSON text, for `#[serde(with)]`: one attribute, however deep the value.
mod json_text {
    use serde::{
        Deserialize, Deserializer, Serialize, Serializer,
        de::{DeserializeOwned, Error as _},
        ser::Error as _,
    };

    pub(super) fn serialize<T: Serialize, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&serde_json::to_string(value).map_err(S::Error::custom)?)
    }

    pub(super) fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        serde_json::from_str(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// A field that is stored as JSON made small, for `#[serde(with)]`: what is written again and again is paid by the kilobyte. Read
/// also where it was stored as [text](json_text).
mod packed_json {
    use std::fmt;

    use miniz_oxide::{deflate::compress_to_vec, inflate::decompress_to_vec_with_limit};
    use serde::{
        Deserializer, Serialize, Serializer,
        de::{DeserializeOwned, Error, Visitor},
        ser::Error as _,
    };

    /// As in zlib; more takes longer and saves a few bytes.
    const LEVEL: u8 = 6;

    /// More than any item holds, however well it is packed.
    const BYTES_MAX: usize = 8 * 1024 * 1024;

    pub(super) fn serialize<T: Serialize, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        let json = serde_json::to_vec(value).map_err(S::Error::custom)?;
        serializer.serialize_bytes(&compress_to_vec(&json, LEVEL))
    }

    pub(super) fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_any(Packed(std::marker::PhantomData))
    }

    struct Packed<T>(std::marker::PhantomData<T>);

    impl<T: DeserializeOwned> Visitor<'_> for Packed<T> {
        type Value = T;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("JSON, packed or as text")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            serde_json::from_str(text).map_err(E::custom)
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<T, E> {
            // Its own message may have what is in the view.
            let json =
                decompress_to_vec_with_limit(bytes, BYTES_MAX).map_err(|error| E::custom(error.status as i32))?;
            serde_json::from_slice(&json).map_err(E::custom)
        }
    }
}
