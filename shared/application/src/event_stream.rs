//! The loop behind every command: load, fold, decide, append; again when somebody else was faster.
//!
//! A long stream is loaded from its newest snapshot on. Nothing but the number of events to read rests on that.

use std::time::Duration;

use domain::{
    customer::{Customer, CustomerEvent},
    ids::{CustomerId, OrderId},
    order::{Order, OrderEvent},
    stored_event::UnreadableEvent,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use crate::{
    event_store::{AppendError, Appended, Commit, EventStore, Metadata, RecordedEvent, StreamId, Unavailable},
    event_store::{PastCommand, Snapshot},
};

/// A stream of this many commits or fewer is loaded in one call. One of more is worth asking for a snapshot.
const SHORT: u32 = 100;

/// How often a command is decided at most, because other commits came first.
///
/// Each conflict is another command's commit, so of this many commands at the same moment each is decided, however they meet.
const MAX_ATTEMPTS: u32 = 40;

/// For how long a command is decided anew. The shortest timeout of a caller is 10 s, and what is under way may take a while.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why an aggregate could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    #[error("the history cannot be read")]
    Unreadable(#[from] UnreadableEvent),
}

/// Why a command changed nothing. `R` is the decision's own word for it.
#[derive(Debug, thiserror::Error)]
pub enum CommandError<R: std::error::Error + 'static> {
    #[error(transparent)]
    Rejected(R),
    #[error("the command id was used before, for another command")]
    CommandReused,
    #[error("too many commands change the same thing at once")]
    Contended,
    #[error("the commit is larger than the event table can hold")]
    TooLarge,
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("the events cannot be written as JSON")]
    Unwritable(#[from] serde_json::Error),
}

/// A command has been carried out, now or before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Number of the last event that the command caused; of the stream's last when it caused none.
    pub version: u64,
    /// The same command came before, and this is what it did then.
    pub replayed: bool,
}

/// What has a stream of events of its own: how its events make its state, and how they are stored.
pub trait Aggregate: Default + Serialize + DeserializeOwned {
    type Id;
    type Event;

    /// Snapshots with another number are not read.
    const SNAPSHOT_SCHEMA: u32;

    fn stream_id(id: &Self::Id) -> StreamId;

    /// MUST accept every event that was ever stored.
    #[must_use]
    fn evolve(self, event: &Self::Event) -> Self;

    fn record(event: &Self::Event) -> Result<RecordedEvent, serde_json::Error>;

    fn read(recorded: &RecordedEvent) -> Result<Self::Event, UnreadableEvent>;
}

impl Aggregate for Order {
    type Id = OrderId;
    type Event = OrderEvent;

    const SNAPSHOT_SCHEMA: u32 = Self::SNAPSHOT_SCHEMA;

    fn stream_id(id: &OrderId) -> StreamId {
        StreamId::order(*id)
    }

    fn evolve(self, event: &OrderEvent) -> Self {
        Self::evolve(self, event)
    }

    fn record(event: &OrderEvent) -> Result<RecordedEvent, serde_json::Error> {
        RecordedEvent::record(event)
    }

    fn read(recorded: &RecordedEvent) -> Result<OrderEvent, UnreadableEvent> {
        recorded.read()
    }
}

impl Aggregate for Customer {
    type Id = CustomerId;
    type Event = CustomerEvent;

    const SNAPSHOT_SCHEMA: u32 = Self::SNAPSHOT_SCHEMA;

    fn stream_id(id: &CustomerId) -> StreamId {
        StreamId::customer(id)
    }

    fn evolve(self, event: &CustomerEvent) -> Self {
        Self::evolve(self, event)
    }

    fn record(event: &CustomerEvent) -> Result<RecordedEvent, serde_json::Error> {
        let (schema, data) = event.written()?;
        Ok(RecordedEvent { event_type: event.event_type().to_owned(), schema, data })
    }

    fn read(recorded: &RecordedEvent) -> Result<CustomerEvent, UnreadableEvent> {
        CustomerEvent::read(&recorded.event_type, recorded.schema, &recorded.data)
    }
}

/// One aggregate as loaded, ready to be decided on. A step that calls a provider in between loads only once.
pub struct EventStream<'s, S, A: Aggregate> {
    store: &'s S,
    id: StreamId,
    state: A,
    version: u64,
    commands: Vec<PastCommand>,
}

impl PastCommand {
    fn of(commit: &Commit) -> Self {
        let Metadata { command_id: id, fingerprint, .. } = commit.metadata.clone();
        Self { id, fingerprint, version: commit.last_version() }
    }
}

pub type OrderStream<'s, S> = EventStream<'s, S, Order>;
pub type CustomerStream<'s, S> = EventStream<'s, S, Customer>;

impl<S> OrderStream<'_, S> {
    pub fn order(&self) -> &Order {
        &self.state
    }
}

impl<S> CustomerStream<'_, S> {
    pub fn customer(&self) -> &Customer {
        &self.state
    }
}

impl Snapshot {
    /// The state; `None` when it was written under another schema, or cannot be read: both are as good as no snapshot.
    pub(crate) fn state<A: Aggregate>(&self) -> Option<A> {
        if self.schema == A::SNAPSHOT_SCHEMA { A::deserialize(&self.state).ok() } else { None }
    }
}

impl<'s, S: EventStore, A: Aggregate> EventStream<'s, S, A> {
    /// One read, unless the stream is long.
    pub async fn open(store: &'s S, id: A::Id) -> Result<Self, LoadError> {
        let id = A::stream_id(&id);
        let beginning = store.read_first(&id, SHORT).await?;
        if beginning.more
            && let Some(snapshot) = store.snapshot(&id).await
            && let Some(stream) = Self::open_from(store, snapshot).await?
        {
            return Ok(stream);
        }
        let mut stream = Self { store, id, state: A::default(), version: 0, commands: Vec::new() };
        for commit in &beginning.commits {
            stream.apply(commit)?;
        }
        if beginning.more {
            stream.catch_up().await?;
        }
        Ok(stream)
    }

    /// `None` when the snapshot is not of this stream as it is stored now.
    ///
    /// Its last commit is read once more, because the event table may have been restored to a time before it.
    async fn open_from(store: &'s S, snapshot: Snapshot) -> Result<Option<Self>, LoadError> {
        let Some(state) = snapshot.state() else { return Ok(None) };
        let Some((last, earlier)) = snapshot.commands.split_last() else { return Ok(None) };
        let before = earlier.last().map_or(0, |command| command.version);
        let commits = store.read(&snapshot.stream, before).await?;
        let Some((first, newer)) = commits.split_first() else { return Ok(None) };
        if PastCommand::of(first) != *last || last.version != snapshot.version {
            return Ok(None);
        }
        let Snapshot { stream: id, version, commands, .. } = snapshot;
        let mut stream = Self { store, id, state, version, commands };
        for commit in newer {
            stream.apply(commit)?;
        }
        Ok(Some(stream))
    }

    /// The stream as it is loaded.
    pub fn snapshot(&self) -> Result<Snapshot, serde_json::Error> {
        Ok(Snapshot {
            stream: self.id.clone(),
            version: self.version,
            schema: A::SNAPSHOT_SCHEMA,
            state: serde_json::to_value(&self.state)?,
            commands: self.commands.clone(),
        })
    }

    /// Number of the last event; 0 when there is none.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Decides and appends. A command that is already in the stream is not decided again.
    ///
    /// On a conflict it reads what came in between and decides anew, so a decision may run several times. It gives up only
    /// when that has gone on for longer, or more often, than a few dozen commands at the same moment explain.
    pub async fn commit<R: std::error::Error + 'static>(
        &mut self,
        metadata: &Metadata,
        decide: impl Fn(&A) -> Result<Vec<A::Event>, R>,
    ) -> Result<Committed, CommandError<R>> {
        let started = Instant::now();
        for conflicts in 1..=MAX_ATTEMPTS {
            if let Some(past) = self.commands.iter().find(|past| past.id == metadata.command_id) {
                let same = past.fingerprint == metadata.fingerprint;
                let committed = Committed { version: past.version, replayed: true };
                return if same { Ok(committed) } else { Err(CommandError::CommandReused) };
            }
            let events = decide(&self.state).map_err(CommandError::Rejected)?;
            if events.is_empty() {
                return Ok(Committed { version: self.version, replayed: false });
            }
            let commit = Commit {
                stream: self.id.clone(),
                version: self.version.saturating_add(1),
                events: events.iter().map(A::record).collect::<Result<_, _>>()?,
                metadata: metadata.clone(),
            };
            match self.store.append(&commit).await {
                Ok(Appended::Now) => {
                    self.apply(&commit)?;
                    return Ok(Committed { version: self.version, replayed: false });
                }
                Ok(Appended::Before(earlier)) => {
                    self.apply(&earlier)?;
                    return Ok(Committed { version: self.version, replayed: true });
                }
                Err(AppendError::Conflict) if started.elapsed() >= PATIENCE => return Err(CommandError::Contended),
                Err(AppendError::Conflict) => {
                    self.store.pause(conflicts).await;
                    self.catch_up().await?;
                }
                Err(AppendError::CommandReused) => return Err(CommandError::CommandReused),
                Err(AppendError::TooLarge) => return Err(CommandError::TooLarge),
                Err(AppendError::Unavailable(error)) => return Err(LoadError::from(error).into()),
            }
        }
        Err(CommandError::Contended)
    }

    async fn catch_up(&mut self) -> Result<(), LoadError> {
        for commit in self.store.read(&self.id, self.version).await? {
            self.apply(&commit)?;
        }
        Ok(())
    }

    fn apply(&mut self, commit: &Commit) -> Result<(), LoadError> {
        for event in &commit.events {
            self.state = std::mem::take(&mut self.state).evolve(&A::read(event)?);
        }
        self.version = commit.last_version();
        self.commands.push(PastCommand::of(commit));
        Ok(())
    }
}
