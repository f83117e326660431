//! The port to the event table, and what is stored there.

use std::{error::Error, fmt::Write, future::Future};

use chrono::{DateTime, Utc};
use domain::{
    ids::{CustomerId, OrderId},
    order::OrderEvent,
    stored_event::UnreadableEvent,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The cause of a failure at a port, of whatever type the thing behind it has.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// What is behind a port did not answer, or not in a way that can be read. Whether it acted is unknown.
#[derive(Debug, thiserror::Error)]
#[error("{what} is unavailable")]
pub struct Unavailable {
    pub what: &'static str,
    #[source]
    pub source: BoxError,
}

/// The cause of an [`Unavailable`] that no waiting mends.
#[derive(Debug, thiserror::Error)]
pub enum Lasting {
    /// What is stored there is not what this version reads.
    #[error(transparent)]
    NotACommit(BoxError),
    /// What is to be stored there is larger than it holds.
    #[error(transparent)]
    Unstorable(BoxError),
}

impl Unavailable {
    /// The stable name that operators' scripts know.
    pub fn error_type(&self) -> &'static str {
        match self.source.downcast_ref::<Lasting>() {
            Some(Lasting::NotACommit(_)) => "NotACommit",
            Some(Lasting::Unstorable(_)) => "Unstorable",
            None => "Unavailable",
        }
    }

    /// Whether the same call fails whenever it comes, until the code or what is stored has changed.
    pub fn is_lasting(&self) -> bool {
        self.source.is::<Lasting>()
    }
}

/// The name of an aggregate's stream of events: `order#<order id>` or `customer#<customer id>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(String);

impl StreamId {
    const ORDER: &str = "order#";
    const CUSTOMER: &str = "customer#";

    pub fn order(id: OrderId) -> Self {
        Self(format!("{}{id}", Self::ORDER))
    }

    pub fn customer(id: &CustomerId) -> Self {
        Self(format!("{}{id}", Self::CUSTOMER))
    }

    /// As it is stored.
    pub fn new(stored: String) -> Self {
        Self(stored)
    }

    /// `None` when the stream is not an order's.
    pub fn order_id(&self) -> Option<OrderId> {
        self.0.strip_prefix(Self::ORDER).and_then(OrderId::parse)
    }

    /// `None` when the stream is not a customer's.
    pub fn customer_id(&self) -> Option<CustomerId> {
        self.0.strip_prefix(Self::CUSTOMER).map(CustomerId::stored)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What has a stream of its own, as operators name it: `{"order_id": "..."}` or `{"customer_id": "..."}`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub enum AggregateId {
    #[serde(rename = "order_id")]
    Order(OrderId),
    #[serde(rename = "customer_id")]
    Customer(CustomerId),
}

impl From<&AggregateId> for StreamId {
    fn from(id: &AggregateId) -> Self {
        match id {
            AggregateId::Order(id) => Self::order(*id),
            AggregateId::Customer(id) => Self::customer(id),
        }
    }
}

/// The events that one command caused: stored as one item, so that they are there together or not at all.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit {
    pub stream: StreamId,
    /// Number of the first event; a stream's first event is number 1.
    pub version: u64,
    pub events: Vec<RecordedEvent>,
    pub metadata: Metadata,
}

/// One event as it is stored: its data are read only when somebody asks what they mean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordedEvent {
    #[serde(rename = "type")]
    pub event_type: String,
    pub schema: u32,
    pub data: Value,
}

/// Who caused a commit, why and when. Travels with the events to every consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// The same for every attempt at the same command: the commit is its own idempotency record.
    pub command_id: Uuid,
    /// Tells a repeated command from another one under the same id; see [`fingerprint`].
    pub fingerprint: String,
    /// `customer:<id>`, `staff:<id>`, `carrier:<id>` or `service:<function>`.
    pub actor: String,
    pub correlation_id: String,
    /// What set the command off: a request's id, or the id of the event that started the execution.
    pub causation_id: String,
    /// W3C Trace Context, as it came.
    pub traceparent: Option<String>,
    pub occurred_at: DateTime<Utc>,
}

/// Equal for equal requests, whatever version of this service is asked: SHA-256 in hexadecimal of the fields as JSON, in their
/// declared order.
///
/// Clients send again across deployments, and what is stored is compared for ever. So a request that is possible today MUST
/// come to the same as when it was first possible:
/// - The fields are what the client has sent, never those of an event, which grow with its schema.
/// - A field that is added to a request is optional, stands behind the others, and is left out while it is not used
///   (`skip_serializing_if`; a tuple becomes a tuple struct, which is written the same way).
///
/// Each function whose command a retry has to find again holds its own still, with values in its tests.
pub fn fingerprint(command: &impl Serialize) -> Result<String, serde_json::Error> {
    let digest = Sha256::digest(serde_json::to_vec(command)?);
    Ok(digest.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

#[cfg(feature = "testing")]
impl Metadata {
    /// Of a command of its own that nobody has given, for tests in which it does not matter.
    pub fn of_nobody(occurred_at: DateTime<Utc>) -> Self {
        Self {
            command_id: Uuid::new_v4(),
            fingerprint: String::new(),
            actor: String::new(),
            correlation_id: String::new(),
            causation_id: String::new(),
            traceparent: None,
            occurred_at,
        }
    }
}

impl Commit {
    /// What comes right after event number `after` of an order, if nothing else has.
    pub fn of_order(
        id: OrderId,
        after: u64,
        events: &[OrderEvent],
        metadata: Metadata,
    ) -> Result<Self, serde_json::Error> {
        let events = events.iter().map(RecordedEvent::record).collect::<Result<_, _>>()?;
        Ok(Self { stream: StreamId::order(id), version: after.saturating_add(1), events, metadata })
    }

    /// Number of the last event in this commit.
    pub fn last_version(&self) -> u64 {
        let count = u64::try_from(self.events.len()).unwrap_or(u64::MAX);
        self.version.saturating_add(count).saturating_sub(1)
    }

    /// Each event with its number.
    pub fn numbered(&self) -> impl Iterator<Item = (u64, &RecordedEvent)> {
        (self.version..).zip(&self.events)
    }
}

impl RecordedEvent {
    pub fn record(event: &OrderEvent) -> Result<Self, serde_json::Error> {
        let (schema, data) = event.written()?;
        Ok(Self { event_type: event.event_type().to_owned(), schema, data })
    }

    pub fn read(&self) -> Result<OrderEvent, UnreadableEvent> {
        OrderEvent::read(&self.event_type, self.schema, &self.data)
    }
}

/// What an append came to.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "lives for one match, never in a collection")]
pub enum Appended {
    Now,
    /// The same command did it before; this is its commit.
    Before(Commit),
}

/// Why nothing was appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    #[error("the stream has gone on: another command has taken this version")]
    Conflict,
    #[error("the command id was used before, for another command")]
    CommandReused,
    #[error("the commit is larger than the event table can hold")]
    TooLarge,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// How a stream begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Beginning {
    pub commits: Vec<Commit>,
    /// Whether there may be more.
    pub more: bool,
}

/// The event table.
pub trait EventStore: Send + Sync {
    /// The stream's first commits in order, `limit` of them at most. MUST be one remote call, and MUST see every append that
    /// was answered before it.
    ///
    /// May leave out some of those when they are large. MUST say that there is more when there is, and MUST NOT say so of a
    /// stream of a few small commits.
    fn read_first(&self, stream: &StreamId, limit: u32) -> impl Future<Output = Result<Beginning, Unavailable>> + Send;

    /// Commits whose events come after number `after`, in order; all of them for 0; none for an unknown stream.
    ///
    /// MUST see every append that was answered before the call, and MUST return the whole rest of the stream,
    /// however many pages that takes.
    fn read(&self, stream: &StreamId, after: u64) -> impl Future<Output = Result<Vec<Commit>, Unavailable>> + Send;

    /// Those of up to 100 commits that exist, each named by its stream and the number of its first event, in any order.
    ///
    /// MUST see every append that was answered before the call, and MUST be one remote call.
    fn read_each(&self, commits: &[(StreamId, u64)]) -> impl Future<Output = Result<Vec<Commit>, Unavailable>> + Send;

    /// Writes the commit as one whole.
    ///
    /// Callers MUST append right after the last commit that they have read; then commits never overlap.
    ///
    /// MUST refuse with [`AppendError::Conflict`] when the stream already has a commit at that version, unless the same
    /// command wrote it: then it answers [`Appended::Before`], or [`AppendError::CommandReused`] when the fingerprint
    /// differs. MUST write nothing whenever it answers with an error other than [`AppendError::Unavailable`].
    fn append(&self, commit: &Commit) -> impl Future<Output = Result<Appended, AppendError>> + Send;

    /// What a command waits, that has met this many conflicts, before it reads what came first.
    ///
    /// SHOULD be of random length, so that those who were in each other's way do not meet again, and longer for more conflicts.
    /// MUST be short: 40 of them have room in 5 s.
    fn pause(&self, conflicts: u32) -> impl Future<Output = ()> + Send;

    /// What the [`Snapshots`](crate::ports::Snapshots) that the store goes with have of the stream; `None` when it goes with
    /// none. Whoever loads long streams asks for it, and needs nothing beside the store.
    fn snapshot(&self, stream: &StreamId) -> impl Future<Output = Option<Snapshot>> + Send;
}

/// A part of the event table, as it is read from one end to the other.
#[derive(Debug, Clone, PartialEq)]
pub struct LogPage {
    /// Those of one stream follow one another.
    pub commits: Vec<Commit>,
    /// What is stored there and is no commit that this version reads: its stream, and the number of its first event.
    pub unreadable: Vec<(StreamId, u64)>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<String>,
    /// What reading it has cost.
    pub read_units: f64,
}

/// The event table as a whole, in segments that can be read at the same time.
pub trait EventLog: Send + Sync {
    /// The page of up to `limit` commits that begins `after` another one of this segment; the first for `None`.
    ///
    /// All pages of all segments together MUST have every commit whose append was answered before the first was asked for, and MUST name
    /// what is no commit instead of failing for it.
    fn page(
        &self,
        segment: Segment,
        after: Option<&str>,
        limit: usize,
    ) -> impl Future<Output = Result<LogPage, Unavailable>> + Send;
}

/// One of `of` parts, which all have about as many streams; counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    pub number: u32,
    pub of: u32,
}

/// What a stream had come to after one of its commits, so that a long stream need not be read from its start. The events say
/// all of it once more.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    pub stream: StreamId,
    /// Number of the last event that is in it.
    pub version: u64,
    /// What the state's JSON is to be read as; see [`Aggregate::SNAPSHOT_SCHEMA`](crate::event_stream::Aggregate).
    pub schema: u32,
    pub state: Value,
    /// Every command up to it, in order, because a repeated one has to be recognised however old it is.
    pub commands: Vec<PastCommand>,
}

/// A command that is in a stream. Written as an array: a snapshot has thousands of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(Uuid, String, u64)", into = "(Uuid, String, u64)")]
pub struct PastCommand {
    pub id: Uuid,
    pub fingerprint: String,
    /// Number of the last event that it caused.
    pub version: u64,
}

impl From<(Uuid, String, u64)> for PastCommand {
    fn from((id, fingerprint, version): (Uuid, String, u64)) -> Self {
        Self { id, fingerprint, version }
    }
}

impl From<PastCommand> for (Uuid, String, u64) {
    fn from(PastCommand { id, fingerprint, version }: PastCommand) -> Self {
        (id, fingerprint, version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_waiting_mends_says_so_and_which_of_the_two_it_is() {
        let cause = || BoxError::from("it was so");
        let told = [cause(), Lasting::NotACommit(cause()).into(), Lasting::Unstorable(cause()).into()]
            .map(|source| Unavailable { what: "the event table", source })
            .map(|error| (error.error_type(), error.is_lasting(), error.source.to_string()));
        let so = || "it was so".to_owned();
        assert_eq!(told, [("Unavailable", false, so()), ("NotACommit", true, so()), ("Unstorable", true, so())]);
    }

    #[derive(Serialize)]
    struct Wrapping {
        colour: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        ribbon: Option<&'static str>,
    }

    #[derive(Serialize)]
    struct Gift(&'static str, u32, Wrapping, #[serde(skip_serializing_if = "Option::is_none")] Option<&'static str>);

    #[test]
    fn a_field_that_was_added_counts_only_where_it_is_used() {
        #[derive(Serialize)]
        struct PlainWrapping {
            colour: &'static str,
        }
        let plain = fingerprint(&("tea", 2, PlainWrapping { colour: "red" })).unwrap();
        assert_eq!(plain, "c1a62fa057594daaa80ee9157df2accbaee79fc31d7965bcacde0be4d62f7468");
        let gift = |ribbon, card| fingerprint(&Gift("tea", 2, Wrapping { colour: "red", ribbon }, card)).unwrap();
        assert_eq!(gift(None, None), plain);
        assert_ne!(gift(Some("gold"), None), plain);
        assert_ne!(gift(None, Some("Dear Anna")), plain);
    }
}
