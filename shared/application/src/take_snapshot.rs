//! Keeps long streams quick to load, off the way of any command.

use crate::{
    event_store::{EventStore, Unavailable},
    event_stream::{Aggregate, EventStream, LoadError},
    ports::{SNAPSHOT_BYTES_MAX, Snapshots},
};

/// By how many events a stream goes on from one snapshot to the next.
pub const EVERY: u64 = 100;

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    Now,
    /// The stream has not gone on far enough since the last snapshot.
    NotDue,
    /// The stream has more commands than fit. It is loaded from the last snapshot that did, or from its start.
    TooLarge,
}

/// Why no snapshot was taken. The stream's next event is the next try.
#[derive(Debug, thiserror::Error)]
pub enum TakeSnapshotError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    #[error("the snapshot cannot be written as JSON")]
    Unwritable(#[from] serde_json::Error),
}

/// Takes a snapshot of a stream that is known to have an event of this number, if one is due.
pub async fn take_snapshot<A: Aggregate>(
    store: &impl EventStore,
    snapshots: &impl Snapshots,
    id: A::Id,
    version: u64,
) -> Result<Taken, TakeSnapshotError> {
    let last = snapshots.load(&A::stream_id(&id)).await.filter(|last| last.state::<A>().is_some());
    if version.saturating_sub(last.map_or(0, |last| last.version)) < EVERY {
        return Ok(Taken::NotDue);
    }
    let snapshot = EventStream::<_, A>::open(store, id).await?.snapshot()?;
    let state = serde_json::to_vec(&snapshot.state)?.len();
    let commands = serde_json::to_vec(&snapshot.commands)?.len();
    if state.saturating_add(commands) > SNAPSHOT_BYTES_MAX {
        return Ok(Taken::TooLarge);
    }
    snapshots.save(&snapshot).await?;
    Ok(Taken::Now)
}
