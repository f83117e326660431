//! The event table. One item is one commit, so that many events are atomic and one conditional write is an append.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use application::{
    event_store::Snapshot,
    event_store::{
        AppendError, Appended, Beginning, BoxError, Commit, EventLog, EventStore, Lasting, LogPage, Metadata,
        RecordedEvent, Segment, StreamId, Unavailable,
    },
    ports::Snapshots,
};
use aws_sdk_dynamodb::{Client, types::ReturnConsumedCapacity};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{DynamoSnapshots, Item, Table, json_text, number, random_part_of, text, without_values};

/// About half of what an append and a read take: who comes second waits for about as long as the first one needs.
const CONFLICT_PAUSE: Duration = Duration::from_millis(10);
const CONFLICT_PAUSE_LONGEST: Duration = Duration::from_millis(120);

#[derive(Clone)]
pub struct DynamoEventStore {
    table: Table,
    snapshots: Option<DynamoSnapshots>,
}

impl DynamoEventStore {
    pub fn new(client: Client, table: String) -> Self {
        let table =
            Table { client, name: table, partition_key: "stream", sort_key: Some("version"), what: "the event table" };
        Self { table, snapshots: None }
    }

    /// For whoever loads streams that may be long.
    #[must_use]
    pub fn with_snapshots(self, table: String) -> Self {
        let snapshots = Some(DynamoSnapshots::new(self.table.client.clone(), table));
        Self { snapshots, ..self }
    }
}

impl EventStore for DynamoEventStore {
    async fn read_first(&self, stream: &StreamId, limit: u32) -> Result<Beginning, Unavailable> {
        let (rows, more): (Vec<CommitRow>, bool) = self.table.first_rows(stream.as_str(), limit).await?;
        Ok(Beginning { commits: rows.into_iter().map(Commit::from).collect(), more })
    }

    async fn read(&self, stream: &StreamId, after: u64) -> Result<Vec<Commit>, Unavailable> {
        let rows: Vec<CommitRow> = self.table.rows(stream.as_str(), Some(number(after))).await?;
        Ok(rows.into_iter().map(Commit::from).collect())
    }

    async fn read_each(&self, commits: &[(StreamId, u64)]) -> Result<Vec<Commit>, Unavailable> {
        // The same commit twice in one request is an error to DynamoDB.
        let distinct: BTreeSet<&(StreamId, u64)> = commits.iter().collect();
        let key = |(stream, version): &(StreamId, u64)| {
            HashMap::from([("stream".to_owned(), text(stream.as_str())), ("version".to_owned(), number(*version))])
        };
        let rows: Vec<CommitRow> = self.table.get_many(distinct.into_iter().map(key).collect()).await?;
        Ok(rows.into_iter().map(Commit::from).collect())
    }

    async fn append(&self, commit: &Commit) -> Result<Appended, AppendError> {
        let there = match self.table.put_new(&CommitRow::from(commit)).await {
            Ok(None) => return Ok(Appended::Now),
            Ok(Some(there)) => Commit::from(there),
            Err(Unavailable { source, .. }) if matches!(source.downcast_ref(), Some(Lasting::Unstorable(_))) => {
                return Err(AppendError::TooLarge);
            }
            Err(error) => return Err(error.into()),
        };
        if there.metadata.command_id != commit.metadata.command_id {
            Err(AppendError::Conflict)
        } else if there.metadata.fingerprint != commit.metadata.fingerprint {
            Err(AppendError::CommandReused)
        } else {
            Ok(Appended::Before(there))
        }
    }

    async fn pause(&self, conflicts: u32) {
        let doubled = CONFLICT_PAUSE.saturating_mul(2_u32.saturating_pow(conflicts));
        tokio::time::sleep(random_part_of(doubled.min(CONFLICT_PAUSE_LONGEST))).await;
    }

    async fn snapshot(&self, stream: &StreamId) -> Option<Snapshot> {
        self.snapshots.as_ref()?.load(stream).await
    }
}

impl EventLog for DynamoEventStore {
    async fn page(&self, segment: Segment, after: Option<&str>, limit: usize) -> Result<LogPage, Unavailable> {
        let after: Option<Place> =
            after.map(serde_json::from_str).transpose().map_err(|error| self.table.unavailable(error))?;
        let after = after.map(|place| self.table.item(&place)).transpose()?;
        let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        let page = self
            .table
            .client
            .scan()
            .table_name(&self.table.name)
            .consistent_read(true)
            .segment(number(segment.number))
            .total_segments(number(segment.of))
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .set_exclusive_start_key(after)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| self.table.unavailable(error))?;
        let (mut commits, mut unreadable) = (Vec::new(), Vec::new());
        for item in page.items.unwrap_or_default() {
            let key: Item = ["stream", "version"]
                .into_iter()
                .filter_map(|name| Some((name.to_owned(), item.get(name)?.clone())))
                .collect();
            if let Ok(row) = self.table.row::<CommitRow<'_>>(item) {
                commits.push(row.into());
            } else {
                let Place { stream, version } = self.table.row(key)?;
                unreadable.push((StreamId::new(stream), version));
            }
        }
        let next: Option<Place> = page.last_evaluated_key.map(|key| self.table.row(key)).transpose()?;
        let next = next.map(|place| serde_json::to_string(&place)).transpose();
        Ok(LogPage {
            commits,
            unreadable,
            next: next.map_err(|error| self.table.unavailable(error))?,
            read_units: page.consumed_capacity.and_then(|consumed| consumed.capacity_units).unwrap_or_default(),
        })
    }
}

/// The key of an item: where a page of the event table ends.
#[derive(Debug, Serialize, Deserialize)]
pub struct Place {
    pub stream: String,
    pub version: u64,
}

/// An item of the event table. It borrows what it is made of, and owns what is read.
#[derive(Debug, Serialize, Deserialize)]
struct CommitRow<'a> {
    stream: Cow<'a, str>,
    version: u64,
    #[serde(with = "json_text")]
    events: Cow<'a, [RecordedEvent]>,
    command_id: Uuid,
    fingerprint: Cow<'a, str>,
    actor: Cow<'a, str>,
    correlation_id: Cow<'a, str>,
    causation_id: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<Cow<'a, str>>,
    occurred_at: DateTime<Utc>,
    /// The events' types once more, for filters that cannot look into the JSON.
    event_types: Vec<Cow<'a, str>>,
}

impl<'a> From<&'a Commit> for CommitRow<'a> {
    fn from(Commit { stream, version, events, metadata }: &'a Commit) -> Self {
        Self {
            stream: stream.as_str().into(),
            version: *version,
            events: events.into(),
            command_id: metadata.command_id,
            fingerprint: metadata.fingerprint.as_str().into(),
            actor: metadata.actor.as_str().into(),
            correlation_id: metadata.correlation_id.as_str().into(),
            causation_id: metadata.causation_id.as_str().into(),
            traceparent: metadata.traceparent.as_deref().map(Cow::from),
            occurred_at: metadata.occurred_at,
            event_types: events.iter().map(|event| event.event_type.as_str().into()).collect(),
        }
    }
}

impl From<CommitRow<'_>> for Commit {
    fn from(row: CommitRow<'_>) -> Self {
        Self {
            stream: StreamId::new(row.stream.into_owned()),
            version: row.version,
            events: row.events.into_owned(),
            metadata: Metadata {
                command_id: row.command_id,
                fingerprint: row.fingerprint.into_owned(),
                actor: row.actor.into_owned(),
                correlation_id: row.correlation_id.into_owned(),
                causation_id: row.causation_id.into_owned(),
                traceparent: row.traceparent.map(Cow::into_owned),
                occurred_at: row.occurred_at,
            },
        }
    }
}

/// An item of the event table, or of its stream, is not a commit. Why, it says without quoting the item: it is logged.
#[derive(Debug, thiserror::Error)]
#[error("the item is not a commit of the event table")]
pub struct UnreadableCommit(#[source] BoxError);

/// The commit whose item the event table's stream delivers as a record's `NewImage`.
pub fn commit_from_image(image: serde_dynamo::Item) -> Result<Commit, UnreadableCommit> {
    let row: Result<CommitRow<'_>, serde_dynamo::Error> = serde_dynamo::from_item(image);
    row.map(Commit::from).map_err(|error| UnreadableCommit(without_values(&error).into()))
}

/// The key of an item, also of one that is not a commit; `None` when it has none.
pub fn key_from_image(keys: serde_dynamo::Item) -> Option<Place> {
    serde_dynamo::from_item(keys).ok()
}
