//! Builds a generation of the order views from the whole event table, beside those that are read, while orders go on.
//!
//! Whatever is committed from the beginning of a rebuild on is projected into the new generation as into the others; what
//! was committed before is found here. A commit may be met both ways, at the same time: projections know what they have.

use std::{num::NonZeroU32, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    event_store::{Commit, EventLog, EventStore, LogPage, Segment},
    ports::{Index, OrderViews, ReadModel},
    project_orders::{NotProjected, ProjectError, project},
};

/// How long it takes, after a change of the generations, until no projection is at work any more that knows nothing of it:
/// the time for which functions rely on what they know of the generations (5 s), and the longest that a projection takes
/// (30 s). Before that, a rebuild neither reads its first page nor removes anything. `tests/template_suite.py` holds this and the next to
/// the time limits of the functions.
pub const UNTIL_WRITERS_KNOW: Duration = Duration::from_secs(40);

/// The same until nobody reads any more what is read no longer: a request that reads takes 20 s at most.
pub const UNTIL_READERS_KNOW: Duration = Duration::from_secs(30);

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
    /// About, as it is not measured.
    #[serde(default)]
    pub write_units: u64,
    /// A page is in hand.
    #[serde(default)]
    pub begun: bool,
    /// Of how many pages it is not known whether all that they have is counted by the hour: views are saved first, and what is in them is
    /// not counted once more.
    #[serde(default)]
    pub uncounted: u64,
}

/// About how many write units of `DynamoDB` an order takes in a read model that is built anew, and each of its events besides; and
/// a profile, whose pieces are postings. `make bench` measures all together.
const WRITES_PER_ORDER: u64 = 7;
const WRITES_PER_EVENT: u64 = 1;
const WRITES_PER_PROFILE: u64 = 26;

fn write_units(commits: &[Commit]) -> u64 {
    let events: usize = commits.iter().map(|commit| commit.events.len()).sum();
    let events = u64::try_from(events).unwrap_or(u64::MAX).saturating_mul(WRITES_PER_EVENT);
    let stream = commits.first().map(|commit| &commit.stream);
    let more =
        stream.map_or(0, |stream| if stream.order_id().is_some() { WRITES_PER_ORDER } else { WRITES_PER_PROFILE });
    events.saturating_add(more)
}

impl Progress {
    /// To be saved before a page is taken in: where the last one was begun and never ended, somebody was cut short.
    #[must_use]
    pub fn begin(self) -> Self {
        let uncounted = self.uncounted.saturating_add(u64::from(self.begun));
        Self { begun: true, uncounted, ..self }
    }

    /// To be saved after a page that has failed, and is to be begun again: where what was taken in of it is counted, nothing is missing.
    #[must_use]
    pub fn give_back(self, failed: &PageFailed) -> Self {
        Self { begun: !failed.is_counted, ..self }
    }

    /// How long it takes to come from `before` to here, at so many write units a second.
    pub fn takes(&self, before: &Self, units_per_second: NonZeroU32) -> Duration {
        let units = self.write_units.saturating_sub(before.write_units);
        Duration::from_secs(units).checked_div(units_per_second.get()).unwrap_or_default()
    }
}

/// Why a page is not in the read model as a whole.
#[derive(Debug, thiserror::Error)]
#[error("the page is not there as a whole")]
pub struct PageFailed {
    #[source]
    pub error: ProjectError,
    /// Whether what of it is there is counted by the hour.
    pub is_counted: bool,
}

/// Takes the next page of a segment, up to `limit` commits, into the read model, and answers how far that is.
pub async fn rebuild_page<S: EventStore + EventLog>(
    store: &S,
    model: &ReadModel<impl OrderViews, impl Index>,
    segment: Segment,
    progress: Progress,
    limit: usize,
) -> Result<Progress, PageFailed> {
    if progress.done {
        return Ok(progress);
    }
    let page = store.page(segment, progress.next.as_deref(), limit).await;
    let LogPage { commits, next, read_units } =
        page.map_err(|error| PageFailed { error: error.into(), is_counted: true })?;
    let streams = commits.chunk_by(|one, next| one.stream == next.stream);
    let (streams, units) = streams.fold((0_u64, 0_u64), |(count, units), stream| {
        (count.saturating_add(1), units.saturating_add(write_units(stream)))
    });
    let projected = project(store, model, &commits).await;
    if let Some(NotProjected { error, .. }) = projected.failed.into_iter().next() {
        return Err(PageFailed { error, is_counted: projected.uncounted.is_none() });
    }
    let events: usize = commits.iter().map(|commit| commit.events.len()).sum();
    Ok(Progress {
        done: next.is_none(),
        next,
        events: progress.events.saturating_add(u64::try_from(events).unwrap_or(u64::MAX)),
        streams: progress.streams.saturating_add(streams),
        read_units: progress.read_units + read_units,
        write_units: progress.write_units.saturating_add(units),
        begun: false,
        uncounted: progress.uncounted.saturating_add(u64::from(projected.uncounted.is_some())),
    })
}
