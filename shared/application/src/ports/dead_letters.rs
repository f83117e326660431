//! What consumers could not handle, and what waits behind it.

use chrono::{DateTime, TimeDelta, Utc};

use crate::event_store::{StreamId, Unavailable};

/// For how long it is told what became of a dead letter.
pub const SETTLED_KEPT: TimeDelta = TimeDelta::days(365);

/// A consumer of the event table's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consumer {
    ProjectOrders,
    PublishEvents,
}

impl Consumer {
    pub const ALL: [Self; 2] = [Self::ProjectOrders, Self::PublishEvents];

    /// That of its function.
    pub fn name(self) -> &'static str {
        match self {
            Self::ProjectOrders => "project-orders",
            Self::PublishEvents => "publish-events",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|consumer| consumer.name() == name)
    }
}

/// Why something is not handled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// A stable name.
    pub error_type: String,
    /// For people; without anything that is personal.
    pub error: String,
}

/// A stream that a consumer does not go on with, before somebody has it try again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedStream {
    pub stream: StreamId,
    /// Number of the first event of the commit that was not handled.
    pub first_version: u64,
    /// Number of the last event that is known to wait, the same or a later one.
    pub last_version: u64,
    pub failure: Failure,
    pub since: DateTime<Utc>,
    pub tries: u32,
    pub last_tried_at: DateTime<Utc>,
}

/// As much of an error as is kept, and told.
const ERROR_CHARACTERS_MAX: usize = 500;

impl Failure {
    pub fn new(error_type: &str, error: &str) -> Self {
        Self { error_type: error_type.to_owned(), error: error.chars().take(ERROR_CHARACTERS_MAX).collect() }
    }
}

impl ParkedStream {
    /// The same, when it waits for these as well.
    #[must_use]
    pub fn with(self, (first, last): (u64, u64)) -> Self {
        Self { first_version: self.first_version.min(first), last_version: self.last_version.max(last), ..self }
    }

    /// The same, when it was tried once more and failed after version `done`.
    #[must_use]
    pub fn tried(self, done: u64, failure: &Failure, now: DateTime<Utc>) -> Self {
        Self {
            first_version: self.first_version.max(done.saturating_add(1)),
            failure: failure.clone(),
            tries: self.tries.saturating_add(1),
            last_tried_at: now,
            ..self
        }
    }

    /// What a stream waits for that could not be handled now, and may have waited before.
    pub fn after(
        there: Option<Self>,
        stream: &StreamId,
        (first, last): (u64, u64),
        failure: &Failure,
        now: DateTime<Utc>,
    ) -> Self {
        let (stream, failure) = (stream.clone(), failure.clone());
        let new = Self {
            stream,
            first_version: first,
            last_version: last,
            failure,
            since: now,
            tries: 1,
            last_tried_at: now,
        };
        match there {
            None => new,
            Some(there) => Self { since: there.since, tries: there.tries.saturating_add(1), ..new }
                .with((there.first_version, there.last_version)),
        }
    }
}

/// A message that a queue has given up: it says no more than ids, so it is told whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadMessage {
    pub id: String,
    pub kind: MessageKind,
    pub failure: Failure,
    pub since: DateTime<Utc>,
    /// How often it was received.
    pub tries: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageKind {
    /// About this event, if it can be read.
    Event(Option<(StreamId, u64)>),
    /// A place in the event table's stream: what it was about, it does not say.
    Batch,
}

/// Something that was not handled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeadLetter {
    Parked(ParkedStream),
    Message(DeadMessage),
}

impl DeadLetter {
    /// Unique at its consumer: `order/<id>`, `customer/<id>` or `message/<id>`.
    pub fn id(&self) -> String {
        match self {
            Self::Parked(parked) => letter_id(&parked.stream),
            Self::Message(message) => format!("message/{}", message.id),
        }
    }

    pub fn failure(&self) -> &Failure {
        match self {
            Self::Parked(parked) => &parked.failure,
            Self::Message(message) => &message.failure,
        }
    }
}

/// What a stream is called among the dead letters.
pub fn letter_id(stream: &StreamId) -> String {
    stream.as_str().replacen('#', "/", 1)
}

/// The stream that is called so among the dead letters.
pub fn letter_stream(id: &str) -> StreamId {
    StreamId::new(id.replacen('/', "#", 1))
}

/// How a dead letter was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettledAs {
    Redriven,
    Discarded,
}

impl SettledAs {
    pub fn name(self) -> &'static str {
        match self {
            Self::Redriven => "redriven",
            Self::Discarded => "discarded",
        }
    }
}

/// Who had a dead letter settled, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    pub settled_as: SettledAs,
    pub by: String,
    pub reason: String,
    pub at: DateTime<Utc>,
}

/// How much waits for a consumer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    pub number: u64,
    /// Since when the one waits that waits the longest.
    pub oldest: Option<DateTime<Utc>>,
}

/// The streams that wait for a consumer, and what became of dead letters.
pub trait DeadLetters: Send + Sync {
    /// Has a stream wait from this commit to that one. One that waits already waits for these as well, for this reason now, and was tried
    /// once more. MUST be one change, so that of two that come at once none is lost.
    fn park(
        &self,
        consumer: Consumer,
        stream: &StreamId,
        versions: (u64, u64),
        failure: &Failure,
        now: DateTime<Utc>,
    ) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// Which of these streams wait, and has each of them wait for what is from this version to that one as well. MUST see everything that was
    /// answered before the call. A stream that is among the answers MUST NOT be settled any more by whoever has handled less than this.
    fn line_up(
        &self,
        consumer: Consumer,
        streams: &[(StreamId, (u64, u64))],
    ) -> impl Future<Output = Result<Vec<StreamId>, Unavailable>> + Send;

    /// Notes that a stream that waits was tried in vain, once everything up to version `done` was handled. MUST do nothing to one that does
    /// not wait any more.
    fn note_try(
        &self,
        consumer: Consumer,
        stream: &StreamId,
        done: u64,
        failure: &Failure,
        now: DateTime<Utc>,
    ) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// A stream that waits; `None` when it does not.
    fn parked(
        &self,
        consumer: Consumer,
        stream: &StreamId,
    ) -> impl Future<Output = Result<Option<ParkedStream>, Unavailable>> + Send;

    /// The streams that wait, in the order of their names, that come after this one.
    fn list(
        &self,
        consumer: Consumer,
        after: Option<&StreamId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<ParkedStream>, Unavailable>> + Send;

    /// Ends the waiting of a stream of which everything up to version `done` is handled, and keeps what became of it. MUST do nothing, and
    /// answer `false`, when more waits by now. A stream that does not wait any more is `true`.
    fn settle(
        &self,
        consumer: Consumer,
        stream: &StreamId,
        done: u64,
        settlement: &Settlement,
    ) -> impl Future<Output = Result<bool, Unavailable>> + Send;

    /// Keeps what became of a message. The same once more changes nothing.
    fn keep(
        &self,
        consumer: &str,
        message: &DeadMessage,
        settlement: &Settlement,
    ) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// What became of dead letters of a consumer, the newest first, that was settled before `before`: a place as it comes with each.
    fn settled(
        &self,
        consumer: &str,
        before: Option<&str>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(String, DeadLetter, Settlement)>, Unavailable>> + Send;

    fn backlog(&self, consumer: Consumer) -> impl Future<Output = Result<Backlog, Unavailable>> + Send;
}

/// A message that was received, and is given to nobody else for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedMessage {
    pub message: DeadMessage,
    pub receipt: String,
    pub body: String,
}

/// A queue's dead letters.
pub trait DeadLetterQueue: Send + Sync {
    /// Some messages that nobody is looking at; none when there seem to be none.
    fn receive(&self) -> impl Future<Output = Result<Vec<ReceivedMessage>, Unavailable>> + Send;

    /// How many messages are given to somebody now, whoever asks among them. About so many, which tells whether others are looking.
    fn hidden(&self) -> impl Future<Output = Result<usize, Unavailable>> + Send;

    /// Others may receive these again.
    fn release(&self, messages: &[ReceivedMessage]) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// Puts it into the queue once more that has given it up. `false` where there is no such queue.
    fn send_again(&self, message: &ReceivedMessage) -> impl Future<Output = Result<bool, Unavailable>> + Send;

    /// There is no such message any more, also when there was none.
    fn delete(&self, message: &ReceivedMessage) -> impl Future<Output = Result<(), Unavailable>> + Send;
}
