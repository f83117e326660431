//! The loop behind every command: load, fold, decide, append; again when somebody else was faster.

use domain::{
    ids::OrderId,
    order::{Order, OrderEvent, UnreadableEvent},
};
use uuid::Uuid;

use crate::event_store::{AppendError, Appended, Commit, EventStore, Metadata, RecordedEvent, StreamId, Unavailable};

/// How often a command decides anew because other commits came first.
const MAX_ATTEMPTS: u32 = 5;

/// Why an order could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    #[error("the order's history cannot be read")]
    Unreadable(#[from] UnreadableEvent),
}

/// Why a command changed nothing. `R` is the decision's own word for it.
#[derive(Debug, thiserror::Error)]
pub enum CommandError<R: std::error::Error + 'static> {
    #[error(transparent)]
    Rejected(R),
    #[error("the command id was used before, for another command")]
    CommandReused,
    #[error("too many commands change the order at once")]
    Contended,
    #[error("the commit is larger than the event table can hold")]
    TooLarge,
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("the events cannot be written as JSON")]
    Unwritable(#[from] serde_json::Error),
}

/// One order as loaded, ready to be decided on. A step that calls a provider in between loads only once.
pub struct OrderStream<'s, S> {
    store: &'s S,
    id: OrderId,
    order: Order,
    version: u64,
    commands: Vec<(Uuid, String)>,
}

impl<'s, S: EventStore> OrderStream<'s, S> {
    /// One read.
    pub async fn open(store: &'s S, id: OrderId) -> Result<Self, LoadError> {
        let mut stream = Self { store, id, order: Order::default(), version: 0, commands: Vec::new() };
        stream.catch_up().await?;
        Ok(stream)
    }

    pub fn order(&self) -> &Order {
        &self.order
    }

    /// Number of the last event; 0 when there is none.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Decides and appends. A command that is already in the stream is not decided again.
    ///
    /// On a conflict it reads what came in between and decides anew, so a decision may run several times.
    pub async fn commit<R: std::error::Error + 'static>(
        &mut self,
        metadata: &Metadata,
        decide: impl Fn(&Order) -> Result<Vec<OrderEvent>, R>,
    ) -> Result<(), CommandError<R>> {
        for _ in 0..MAX_ATTEMPTS {
            if let Some((_, fingerprint)) = self.commands.iter().find(|(id, _)| *id == metadata.command_id) {
                let same = *fingerprint == metadata.fingerprint;
                return if same { Ok(()) } else { Err(CommandError::CommandReused) };
            }
            let events = decide(&self.order).map_err(CommandError::Rejected)?;
            if events.is_empty() {
                return Ok(());
            }
            let commit = Commit {
                stream: StreamId::order(self.id),
                version: self.version.saturating_add(1),
                events: events.iter().map(RecordedEvent::record).collect::<Result<_, _>>()?,
                metadata: metadata.clone(),
            };
            match self.store.append(&commit).await {
                Ok(Appended::Now) => return Ok(self.apply(&commit)?),
                Ok(Appended::Before(earlier)) => return Ok(self.apply(&earlier)?),
                Err(AppendError::Conflict) => self.catch_up().await?,
                Err(AppendError::CommandReused) => return Err(CommandError::CommandReused),
                Err(AppendError::TooLarge) => return Err(CommandError::TooLarge),
                Err(AppendError::Unavailable(error)) => return Err(LoadError::from(error).into()),
            }
        }
        Err(CommandError::Contended)
    }

    async fn catch_up(&mut self) -> Result<(), LoadError> {
        for commit in self.store.read(&StreamId::order(self.id), self.version).await? {
            self.apply(&commit)?;
        }
        Ok(())
    }

    fn apply(&mut self, commit: &Commit) -> Result<(), LoadError> {
        for event in &commit.events {
            self.order = std::mem::take(&mut self.order).evolve(&event.read()?);
        }
        self.version = commit.last_version();
        self.commands.push((commit.metadata.command_id, commit.metadata.fingerprint.clone()));
        Ok(())
    }
}
