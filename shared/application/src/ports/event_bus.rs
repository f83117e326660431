//! The event bus.

use crate::event_store::{BoxError, Commit, Metadata, RecordedEvent, StreamId};

/// One event on its way to whoever subscribed.
#[derive(Debug, Clone, PartialEq)]
pub struct PublishedEvent {
    pub stream: StreamId,
    /// The event's number in its stream.
    pub version: u64,
    pub event: RecordedEvent,
    pub metadata: Metadata,
}

impl PublishedEvent {
    /// The events of a commit: the same however often they go out.
    pub fn of(commit: &Commit) -> impl Iterator<Item = Self> + '_ {
        commit.numbered().map(|(version, event)| Self {
            stream: commit.stream.clone(),
            version,
            event: event.clone(),
            metadata: commit.metadata.clone(),
        })
    }
}

/// An event that the bus has not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotPublished {
    /// Its place among those that were to be published.
    pub index: usize,
    /// The bus refuses this one, whenever it comes.
    pub refused: bool,
}

/// Some events did not get through.
#[derive(Debug, thiserror::Error)]
#[error("{} events were not published", .events.len())]
pub struct PublishError {
    pub events: Vec<NotPublished>,
    #[source]
    pub source: BoxError,
}

/// The event bus.
pub trait EventBus: Send + Sync {
    /// MUST answer with success only if the bus has taken every event, and MUST name each that it may not have taken. Some of those may
    /// be there also after an error, and so may events that stand behind one that it has not taken: each is taken by itself.
    fn publish(&self, events: &[PublishedEvent]) -> impl Future<Output = Result<(), PublishError>> + Send;
}
