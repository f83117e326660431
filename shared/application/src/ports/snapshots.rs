//! Where snapshots of long streams are kept.

use crate::event_store::{Snapshot, StreamId, Unavailable};

/// The most that a snapshot's state and commands may be as JSON: an item of 400 KB, less its keys. About 3,500 commands.
pub const SNAPSHOT_BYTES_MAX: usize = 390 * 1024;

/// The newest snapshot of each stream. Nothing may depend on one being there, or on how new it is.
pub trait Snapshots: Send + Sync {
    /// MUST answer `None` when the snapshot cannot be had, for whatever reason: the events are read instead.
    fn load(&self, stream: &StreamId) -> impl Future<Output = Option<Snapshot>> + Send;

    /// MUST take what is not larger than [`SNAPSHOT_BYTES_MAX`], in place of an older snapshot and never of a newer one; that
    /// one stays, and all is well.
    fn save(&self, snapshot: &Snapshot) -> impl Future<Output = Result<(), Unavailable>> + Send;
}
