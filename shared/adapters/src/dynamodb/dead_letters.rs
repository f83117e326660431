//! Streams that wait for a consumer: an item each. What became of dead letters stands beside them for a year.

use std::collections::BTreeMap;

use application::{
    event_store::{StreamId, Unavailable},
    ports::{
        Backlog, Consumer, DeadLetter, DeadLetters, DeadMessage, Failure, MessageKind, ParkedStream, SETTLED_KEPT,
        SettledAs, Settlement,
    },
};
use aws_sdk_dynamodb::{
    Client,
    operation::put_item::PutItemError,
    types::{Delete, Put, TransactWriteItem},
};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use super::{Backoff, Item, PAGES_MAX, Table, Transacted, number, text};

/// How many streams one look finds at least, before each is asked for by its name.
const LOOK: i32 = 100;

/// What the partition of settled letters is called, beside the consumer.
const SETTLED: &str = "settled#";

#[derive(Clone)]
pub struct DynamoDeadLetters {
    table: Table,
}

impl DynamoDeadLetters {
    pub fn new(client: Client, table: String) -> Self {
        let table = Table {
            client,
            name: table,
            partition_key: "consumer",
            sort_key: Some("place"),
            what: "the table of dead letters",
        };
        Self { table }
    }

    fn key(consumer: &str, place: &str) -> Item {
        Item::from([("consumer".to_owned(), text(consumer)), ("place".to_owned(), text(place))])
    }

    async fn row(&self, consumer: Consumer, stream: &StreamId) -> Result<Option<ParkedRow>, Unavailable> {
        self.table.get(Self::key(consumer.name(), stream.as_str())).await
    }

    /// Puts this in the place of what was read there. `false` when somebody else was faster.
    async fn replace(&self, there: Option<&ParkedRow>, row: &ParkedRow) -> Result<bool, Unavailable> {
        let put = self.table.client.put_item().table_name(&self.table.name).set_item(Some(self.table.item(row)?));
        let put = match there {
            None => put.condition_expression("attribute_not_exists(consumer)"),
            Some(there) => put
                .condition_expression("revision = :revision")
                .expression_attribute_values(":revision", number(there.revision)),
        };
        match put.send().await {
            Ok(_) => Ok(true),
            Err(error)
                if matches!(error.as_service_error(), Some(PutItemError::ConditionalCheckFailedException(_))) =>
            {
                Ok(false)
            }
            Err(error) => Err(self.table.unavailable(error)),
        }
    }

    /// Makes another of a stream that waits, if it does. `None` says that it is as it is to be.
    async fn change(
        &self,
        consumer: Consumer,
        stream: &StreamId,
        mut there: Option<ParkedRow>,
        change: impl Fn(ParkedStream) -> Option<ParkedStream> + Send,
    ) -> Result<bool, Unavailable> {
        let mut backoff = Backoff::new();
        while let Some(row) = there {
            let Some(changed) = change(row.clone().into()) else { return Ok(true) };
            if self.replace(Some(&row), &ParkedRow::new(consumer, &changed, Some(&row))).await? {
                return Ok(true);
            }
            backoff.pause().await.map_err(|error| self.table.unavailable(error))?;
            there = self.row(consumer, stream).await?;
        }
        Ok(false)
    }

    async fn put_settled(&self, row: &SettledRow) -> Result<(), Unavailable> {
        let item = Some(self.table.item(row)?);
        let put = self.table.client.put_item().table_name(&self.table.name).set_item(item).send().await;
        put.map(drop).map_err(|error| self.table.unavailable(error))
    }
}

impl DeadLetters for DynamoDeadLetters {
    async fn park(
        &self,
        consumer: Consumer,
        stream: &StreamId,
        versions: (u64, u64),
        failure: &Failure,
        now: DateTime<Utc>,
    ) -> Result<(), Unavailable> {
        let mut backoff = Backoff::new();
        loop {
            let there = self.row(consumer, stream).await?;
            let before = there.clone().map(ParkedStream::from);
            let parked = ParkedStream::after(before, stream, versions, failure, now);
            if self.replace(there.as_ref(), &ParkedRow::new(consumer, &parked, there.as_ref())).await? {
                return Ok(());
            }
            backoff.pause().await.map_err(|error| self.table.unavailable(error))?;
        }
    }

    /// One call where none of them waits, because few streams do.
    async fn line_up(
        &self,
        consumer: Consumer,
        streams: &[(StreamId, (u64, u64))],
    ) -> Result<Vec<StreamId>, Unavailable> {
        let some = self.table.partition(consumer.name()).limit(LOOK).send().await;
        let some = some.map_err(|error| self.table.unavailable(error))?;
        let are_all = some.last_evaluated_key.is_none();
        let mut rows = BTreeMap::new();
        for item in some.items.unwrap_or_default() {
            let row: ParkedRow = self.table.row(item)?;
            rows.insert(row.place.clone(), row);
        }
        let mut waiting = Vec::new();
        for (stream, versions) in streams {
            let row = match rows.remove(stream.as_str()) {
                Some(row) => Some(row),
                None if are_all => None,
                None => self.row(consumer, stream).await?,
            };
            let longer = |parked: ParkedStream| {
                let longer = parked.clone().with(*versions);
                (longer != parked).then_some(longer)
            };
            if self.change(consumer, stream, row, longer).await? {
                waiting.push(stream.clone());
            }
        }
        Ok(waiting)
    }

    async fn note_try(
        &self,
        consumer: Consumer,
        stream: &StreamId,
        done: u64,
        failure: &Failure,
        now: DateTime<Utc>,
    ) -> Result<(), Unavailable> {
        let there = self.row(consumer, stream).await?;
        self.change(consumer, stream, there, |parked| Some(parked.tried(done, failure, now))).await.map(drop)
    }

    async fn parked(&self, consumer: Consumer, stream: &StreamId) -> Result<Option<ParkedStream>, Unavailable> {
        Ok(self.row(consumer, stream).await?.map(ParkedStream::from))
    }

    async fn list(
        &self,
        consumer: Consumer,
        after: Option<&StreamId>,
        limit: usize,
    ) -> Result<Vec<ParkedStream>, Unavailable> {
        let mut query = self.table.partition(consumer.name()).limit(i32::try_from(limit).unwrap_or(i32::MAX));
        if let Some(after) = after {
            query = query
                .key_condition_expression("#partition = :partition AND place > :after")
                .expression_attribute_values(":after", text(after.as_str()));
        }
        let page = query.send().await.map_err(|error| self.table.unavailable(error))?;
        let rows = page.items.unwrap_or_default().into_iter().map(|item| self.table.row(item));
        rows.map(|row| row.map(|row: ParkedRow| row.into())).collect()
    }

    async fn settle(
        &self,
        consumer: Consumer,
        stream: &StreamId,
        done: u64,
        settlement: &Settlement,
    ) -> Result<bool, Unavailable> {
        let mut backoff = Backoff::new();
        loop {
            let Some(there) = self.row(consumer, stream).await? else { return Ok(true) };
            if there.last_version > done {
                return Ok(false);
            }
            let revision = there.revision;
            let letter = DeadLetter::Parked(there.into());
            let settled = self.table.item(&SettledRow::new(consumer.name(), &letter, settlement))?;
            let put = Put::builder().table_name(&self.table.name).set_item(Some(settled)).build();
            let delete = Delete::builder()
                .table_name(&self.table.name)
                .set_key(Some(Self::key(consumer.name(), stream.as_str())))
                .condition_expression("revision = :revision")
                .expression_attribute_values(":revision", number(revision))
                .build();
            let actions = vec![
                TransactWriteItem::builder().delete(delete.map_err(|error| self.table.unavailable(error))?).build(),
                TransactWriteItem::builder().put(put.map_err(|error| self.table.unavailable(error))?).build(),
            ];
            if matches!(self.table.transact(actions).await?, Transacted::Done) {
                return Ok(true);
            }
            backoff.pause().await.map_err(|error| self.table.unavailable(error))?;
        }
    }

    async fn keep(&self, consumer: &str, message: &DeadMessage, settlement: &Settlement) -> Result<(), Unavailable> {
        self.put_settled(&SettledRow::new(consumer, &DeadLetter::Message(message.clone()), settlement)).await
    }

    async fn settled(
        &self,
        consumer: &str,
        before: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, DeadLetter, Settlement)>, Unavailable> {
        let partition = format!("{SETTLED}{consumer}");
        let query = self.table.partition(&partition).limit(i32::try_from(limit).unwrap_or(i32::MAX));
        let mut query = query.scan_index_forward(false);
        if let Some(before) = before {
            query = query
                .key_condition_expression("#partition = :partition AND place < :before")
                .expression_attribute_values(":before", text(before));
        }
        let page = query.send().await.map_err(|error| self.table.unavailable(error))?;
        let rows = page.items.unwrap_or_default().into_iter().map(|item| self.table.row(item));
        rows.map(|row| row.map(|row: SettledRow| row.told())).collect()
    }

    async fn backlog(&self, consumer: Consumer) -> Result<Backlog, Unavailable> {
        let query = self.table.partition(consumer.name()).projection_expression("since");
        let (mut backlog, mut from) = (Backlog::default(), None);
        for _ in 0..PAGES_MAX {
            let page = query.clone().set_exclusive_start_key(from).send().await;
            let page = page.map_err(|error| self.table.unavailable(error))?;
            for item in page.items.unwrap_or_default() {
                let Since { since } = self.table.row(item)?;
                backlog.number = backlog.number.saturating_add(1);
                backlog.oldest = Some(backlog.oldest.map_or(since, |oldest| oldest.min(since)));
            }
            from = page.last_evaluated_key;
            if from.is_none() {
                break;
            }
        }
        Ok(backlog)
    }
}

/// What is read of an item to tell how much waits.
#[derive(Deserialize)]
struct Since {
    since: DateTime<Utc>,
}

/// A stream that waits.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct ParkedRow {
    consumer: String,
    /// The stream.
    place: String,
    first_version: u64,
    last_version: u64,
    error_type: String,
    error: String,
    since: DateTime<Utc>,
    tries: u32,
    last_tried_at: DateTime<Utc>,
    /// Another one with each change.
    revision: u64,
}

impl ParkedRow {
    fn new(consumer: Consumer, parked: &ParkedStream, there: Option<&Self>) -> Self {
        let ParkedStream { stream, first_version, last_version, failure, since, tries, last_tried_at } = parked.clone();
        Self {
            consumer: consumer.name().to_owned(),
            place: stream.as_str().to_owned(),
            first_version,
            last_version,
            error_type: failure.error_type,
            error: failure.error,
            since,
            tries,
            last_tried_at,
            // Never that of a row which stood there before and was settled meanwhile.
            revision: there
                .map_or_else(|| Utc::now().timestamp_micros().unsigned_abs(), |there| there.revision)
                .saturating_add(1),
        }
    }
}

impl From<ParkedRow> for ParkedStream {
    fn from(row: ParkedRow) -> Self {
        Self {
            stream: StreamId::new(row.place),
            first_version: row.first_version,
            last_version: row.last_version,
            failure: Failure { error_type: row.error_type, error: row.error },
            since: row.since,
            tries: row.tries,
            last_tried_at: row.last_tried_at,
        }
    }
}

/// What became of a dead letter.
#[derive(Debug, Serialize, Deserialize)]
struct SettledRow {
    consumer: String,
    /// When it was settled, and what.
    place: String,
    letter: Letter,
    settled_as: String,
    by: String,
    reason: String,
    at: DateTime<Utc>,
    expires_at: i64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Letter {
    Parked {
        stream: String,
        first_version: u64,
        last_version: u64,
        error_type: String,
        error: String,
        since: DateTime<Utc>,
        tries: u32,
        last_tried_at: DateTime<Utc>,
    },
    Message {
        id: String,
        stream: Option<String>,
        version: Option<u64>,
        is_batch: bool,
        error_type: String,
        error: String,
        since: DateTime<Utc>,
        tries: u32,
    },
}

impl SettledRow {
    fn new(consumer: &str, letter: &DeadLetter, settlement: &Settlement) -> Self {
        let Settlement { settled_as, by, reason, at } = settlement.clone();
        let time = at.to_rfc3339_opts(SecondsFormat::Micros, true);
        Self {
            consumer: format!("{SETTLED}{consumer}"),
            place: format!("{time}#{}", letter.id()),
            letter: Letter::from(letter.clone()),
            settled_as: settled_as.name().to_owned(),
            by,
            reason,
            at,
            expires_at: at.checked_add_signed(SETTLED_KEPT).unwrap_or(at).timestamp(),
        }
    }

    fn told(self) -> (String, DeadLetter, Settlement) {
        let Self { place, letter, settled_as, by, reason, at, .. } = self;
        let settled_as =
            if settled_as == SettledAs::Discarded.name() { SettledAs::Discarded } else { SettledAs::Redriven };
        (place, letter.into(), Settlement { settled_as, by, reason, at })
    }
}

impl From<DeadLetter> for Letter {
    fn from(letter: DeadLetter) -> Self {
        match letter {
            DeadLetter::Parked(ParkedStream {
                stream,
                first_version,
                last_version,
                failure: Failure { error_type, error },
                since,
                tries,
                last_tried_at,
            }) => Self::Parked {
                stream: stream.as_str().to_owned(),
                first_version,
                last_version,
                error_type,
                error,
                since,
                tries,
                last_tried_at,
            },
            DeadLetter::Message(DeadMessage { id, kind, failure: Failure { error_type, error }, since, tries }) => {
                let is_batch = kind == MessageKind::Batch;
                let (stream, version) = match kind {
                    MessageKind::Event(Some((stream, version))) => (Some(stream.as_str().to_owned()), Some(version)),
                    MessageKind::Event(None) | MessageKind::Batch => (None, None),
                };
                Self::Message { id, stream, version, is_batch, error_type, error, since, tries }
            }
        }
    }
}

impl From<Letter> for DeadLetter {
    fn from(letter: Letter) -> Self {
        match letter {
            Letter::Parked { stream, first_version, last_version, error_type, error, since, tries, last_tried_at } => {
                Self::Parked(ParkedStream {
                    stream: StreamId::new(stream),
                    first_version,
                    last_version,
                    failure: Failure { error_type, error },
                    since,
                    tries,
                    last_tried_at,
                })
            }
            Letter::Message { id, stream, version, is_batch, error_type, error, since, tries } => {
                let kind = if is_batch {
                    MessageKind::Batch
                } else {
                    MessageKind::Event(stream.map(StreamId::new).zip(version))
                };
                Self::Message(DeadMessage { id, kind, failure: Failure { error_type, error }, since, tries })
            }
        }
    }
}
