//! Builds a generation of the order views from the whole event table, beside those that are read, while orders go on.
//!
//! Whatever is committed from the beginning of a rebuild on is projected into the new generation as into the others; what
//! was committed before is found here. A commit may be met both ways, at the same time: projections know what they have.

use std::{collections::BTreeMap, time::Duration};

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use crate::{
    event_store::{Commit, EventLog, EventStore, LogPage, Segment},
    ports::{Index, OrderViews, ReadModel},
    project_orders::{ProjectError, project},
};

/// The streams of how many customers are projected at the same time.
const AT_ONCE: usize = 16;

/// How long it takes, after a change of the generations, until no projection is at work any more that knows nothing of it:
/// the time for which functions rely on what they know of the generations (5 s), and the longest that a projection takes
/// (30 s). Before that, a rebuild neither reads its first page nor removes anything.
pub const UNTIL_WRITERS_KNOW: Duration = Duration::from_secs(40);

/// The same until nobody reads any more what is read no longer: a read takes 10 s at most.
pub const UNTIL_READERS_KNOW: Duration = Duration::from_secs(20);

/// How far one segment has come.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Where the next page begins.
    pub next: Option<String>,
    pub done: bool,
    pub events: u64,
    /// Streams, counted once for each page on which they are.
    pub streams: u64,
    pub read_units: f64,
}

/// Takes the next page of a segment, up to `limit` commits, into the read model, and answers how far that is.
pub async fn rebuild_page<S: EventStore + EventLog>(
    store: &S,
    model: &ReadModel<impl OrderViews, impl Index>,
    segment: Segment,
    progress: Progress,
    limit: usize,
) -> Result<Progress, ProjectError> {
    if progress.done {
        return Ok(progress);
    }
    let LogPage { commits, next, read_units } = store.page(segment, progress.next.as_deref(), limit).await?;
    let streams: Vec<&[Commit]> = commits.chunk_by(|one, next| one.stream == next.stream).collect();
    let count = u64::try_from(streams.len()).unwrap_or(u64::MAX);
    let mut by_customer: BTreeMap<&str, Vec<&[Commit]>> = BTreeMap::new();
    for commits in streams {
        by_customer.entry(customer_or_stream(commits)).or_default().push(commits);
    }
    let projected = by_customer.into_values().map(|streams| project_each(store, model, streams));
    stream::iter(projected).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    let events: usize = commits.iter().map(|commit| commit.events.len()).sum();
    Ok(Progress {
        done: next.is_none(),
        next,
        events: progress.events.saturating_add(u64::try_from(events).unwrap_or(u64::MAX)),
        streams: progress.streams.saturating_add(count),
        read_units: progress.read_units + read_units,
    })
}

/// One stream after the other.
async fn project_each(
    store: &impl EventStore,
    model: &ReadModel<impl OrderViews, impl Index>,
    streams: Vec<&[Commit]>,
) -> Result<(), ProjectError> {
    for commits in streams {
        project(store, model, commits).await?;
    }
    Ok(())
}

/// The customer of an order that begins here, else the stream's own name. Two orders of one customer that are placed at the
/// same time are in each other's way.
fn customer_or_stream(commits: &[Commit]) -> &str {
    let Some(first) = commits.first() else { return "" };
    let created = first.events.first().and_then(|event| event.data.get("customer_id"));
    created.and_then(|customer| customer.as_str()).unwrap_or(first.stream.as_str())
}
