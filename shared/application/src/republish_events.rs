//! Puts the events of a stream on the bus once more, for consumers that have missed them.
//!
//! Each goes out as it did the first time, under the same id: to a consumer that has had it, it is one that came twice.

use serde::Serialize;

use crate::{
    event_store::{EventStore, StreamId, Unavailable},
    ports::{EventBus, PublishError, PublishedEvent},
};

/// How many events one call publishes.
pub const EVENTS_MAX: usize = 500;

/// How far that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Republished {
    pub events: usize,
    /// The number of the last of them, when others follow: the next call goes on after it.
    pub next_after: Option<u64>,
}

/// Why events may not be on the bus. Some of them may be there; all may come again.
#[derive(Debug, thiserror::Error)]
pub enum RepublishError {
    #[error("the stream has no events")]
    NoSuchStream,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    #[error(transparent)]
    NotPublished(#[from] PublishError),
}

impl RepublishError {
    /// The stable name that operators' scripts know.
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::NoSuchStream => "NoSuchStream",
            Self::Unavailable(error) => error.error_type(),
            Self::NotPublished(error) if error.events.iter().any(|event| event.refused) => "Refused",
            Self::NotPublished(_) => "Unavailable",
        }
    }
}

/// Publishes the stream's events that come after number `after`, [`EVENTS_MAX`] at most, in their order. Where the bus does not take one, those
/// behind it may be there all the same, and come again with it.
pub async fn republish_events(
    store: &impl EventStore,
    bus: &impl EventBus,
    stream: &StreamId,
    after: u64,
) -> Result<Republished, RepublishError> {
    // From the beginning, because the event that comes next may stand in the middle of a commit.
    let commits = store.read(stream, 0).await?;
    if commits.is_empty() {
        return Err(RepublishError::NoSuchStream);
    }
    let mut events: Vec<_> =
        commits.iter().flat_map(PublishedEvent::of).filter(|event| event.version > after).collect();
    let more = events.len() > EVENTS_MAX;
    events.truncate(EVENTS_MAX);
    bus.publish(&events).await?;
    Ok(Republished { events: events.len(), next_after: events.last().filter(|_| more).map(|last| last.version) })
}
