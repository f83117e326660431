//! Builds a generation of the order views from the whole event table, beside those that are read, while orders go on, and compares
//! the two before the new one is read.
//!
//! Whatever is committed from the beginning of a rebuild on is projected into the new generation as into the others; what
//! was committed before is found here. A commit may be met both ways, at the same time: projections know what they have.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    ids::{CustomerId, OrderId},
    order_view::{CustomerView, OrderView},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    event_store::{Commit, EventLog, EventStore, LogPage, Segment, StreamId, Unavailable},
    ports::{Index, OrderViews, ReadModel, VIEWS_MAX},
    project_orders::{NotProjected, ProjectError, project},
    stats::{Hour, Stat, Sum},
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
    /// Streams with something that this version cannot read, or that is no commit, counted once for each page on which that stands in
    /// the way. What comes behind it is not taken in.
    #[serde(default)]
    pub unreadable: u64,
    /// Some of them.
    #[serde(default)]
    pub unreadable_sample: Vec<String>,
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
        time_for(self.write_units.saturating_sub(before.write_units), units_per_second)
    }
}

/// How long so many units take at this pace.
pub fn time_for(units: u64, units_per_second: NonZeroU32) -> Duration {
    Duration::from_secs(units).checked_div(units_per_second.get()).unwrap_or_default()
}

/// Why a page is not in the read model as a whole, and may yet be.
#[derive(Debug, thiserror::Error)]
#[error("the page is not there as a whole")]
pub struct PageFailed {
    #[source]
    pub error: ProjectError,
    /// Whether what of it is there is counted by the hour.
    pub is_counted: bool,
}

/// Takes the next page of a segment, up to `limit` commits, into the read model, and answers how far that is. What is a stream's own
/// trouble, and would be there again at the next try, is counted and stops no other stream.
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
    let LogPage { commits, unreadable, next, read_units } =
        page.map_err(|error| PageFailed { error: error.into(), is_counted: true })?;
    let streams = commits.chunk_by(|one, next| one.stream == next.stream);
    let (streams, units) = streams.fold((0_u64, 0_u64), |(count, units), stream| {
        (count.saturating_add(1), units.saturating_add(write_units(stream)))
    });
    let projected = project(store, model, &commits).await;
    let mut unread: BTreeSet<StreamId> = unreadable.into_iter().map(|(stream, _)| stream).collect();
    for NotProjected { commits, error } in projected.failed {
        if !error.is_lasting() {
            return Err(PageFailed { error, is_counted: projected.uncounted.is_none() });
        }
        unread.extend(commits.iter().map(|commit| commit.stream.clone()));
    }
    let mut unreadable_sample = progress.unreadable_sample;
    for stream in &unread {
        if unreadable_sample.len() < SAMPLE_MAX && !unreadable_sample.iter().any(|named| named == stream.as_str()) {
            unreadable_sample.push(stream.as_str().to_owned());
        }
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
        unreadable: progress.unreadable.saturating_add(u64::try_from(unread.len()).unwrap_or(u64::MAX)),
        unreadable_sample,
    })
}

/// How long it may take until an event is in a generation that is being built: some tries of a batch. What is missing only for so long is on its way.
const SETTLES_WITHIN: TimeDelta = TimeDelta::minutes(5);

/// For how long it is relied on what was compared: orders go on.
const HOLDS_FOR: TimeDelta = TimeDelta::hours(1);

/// How many streams are named of all that differ on some pages, or cannot be read.
const SAMPLE_MAX: usize = 10;

/// How many customers' lists are looked at at the same time.
const LISTS_AT_ONCE: usize = 16;

/// How often two lists are looked at that orders are being put into.
const LOOKS: usize = 2;

/// About how many read units of `DynamoDB` the comparison of one stream takes beside its events: two views, and two lists.
const READS_PER_COMPARED: f64 = 4.0;

/// What two generations have otherwise, as far as they were compared. What has only just happened, and is on its way into both, is not
/// among it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Differences {
    /// How many orders were compared.
    pub orders: u64,
    /// Orders that only the generation that is read has.
    pub missing: u64,
    /// Orders of which the new one has fewer events.
    pub behind: u64,
    /// Orders that only the new one has.
    pub added: u64,
    /// Orders with another view of the same events.
    pub changed: u64,
    /// In how many of these which field is another.
    pub fields: BTreeMap<String, u64>,
    /// Customers whose profile is another, or missing.
    pub profiles: u64,
    /// Customers of whom another number of orders is listed; counted once for each page on which orders of theirs begin.
    pub lists: u64,
    /// Hours with other sums.
    pub hours: u64,
    /// Some of the streams that differ.
    pub sample: Vec<String>,
}

impl Differences {
    /// Whether the new generation lacks what the other has, when there were so many streams in it that could not be read. That is never
    /// meant, as all else may be; where all was read, another profile is one that is meant, or on its way.
    pub fn is_lost(&self, unreadable: u64) -> bool {
        self.missing > 0 || self.behind > 0 || (unreadable > 0 && self.profiles > 0)
    }

    fn name(&mut self, stream: &StreamId) {
        if self.sample.len() < SAMPLE_MAX {
            self.sample.push(stream.as_str().to_owned());
        }
    }
}

/// How far the comparison of one segment has come.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Comparison {
    /// Where the next page begins.
    pub next: Option<String>,
    pub done: bool,
    pub differences: Differences,
    /// When the last page was.
    #[serde(default)]
    pub compared_at: Option<DateTime<Utc>>,
}

impl Comparison {
    /// From where it is to go on: where it is, or from the beginning when that was too long ago.
    #[must_use]
    pub fn go_on(self, now: DateTime<Utc>) -> Self {
        let holds = self.compared_at.is_some_and(|at| now.signed_duration_since(at) < HOLDS_FOR);
        if holds { self } else { Self::default() }
    }
}

/// Compares what the generation that is `read` and the `new` one have of the streams that begin on the next page of a segment, of up to
/// `limit` commits, and answers how far that is, and about how many read units it has taken. What has happened to an order just before `now`
/// the new one may still lack.
pub async fn compare_page<V: OrderViews, I: Index>(
    store: &impl EventLog,
    (read, new): (&ReadModel<V, I>, &ReadModel<V, I>),
    segment: Segment,
    comparison: Comparison,
    limit: usize,
    now: DateTime<Utc>,
) -> Result<(Comparison, f64), Unavailable> {
    let LogPage { commits, unreadable, next, read_units } =
        store.page(segment, comparison.next.as_deref(), limit).await?;
    let (mut differences, settled) = (comparison.differences, now.checked_sub_signed(SETTLES_WITHIN).unwrap_or(now));
    // Each stream once, on however many pages it is, and whether its beginning can be read or not.
    let versions = commits.iter().map(|commit| (&commit.stream, commit.version));
    let versions = versions.chain(unreadable.iter().map(|(stream, version)| (stream, *version)));
    let begun: Vec<&StreamId> = versions.filter(|(_, version)| *version == 1).map(|(stream, _)| stream).collect();
    let orders: Vec<OrderId> = begun.iter().filter_map(|stream| stream.order_id()).collect();
    for ids in orders.chunks(VIEWS_MAX) {
        compare_orders(&read.views, &new.views, ids, settled, &mut differences).await?;
    }
    let customers: Vec<CustomerId> = begun.iter().filter_map(|stream| stream.customer_id()).collect();
    for ids in customers.chunks(VIEWS_MAX) {
        compare_profiles(&read.views, &new.views, ids, &mut differences).await?;
    }
    let compared = u32::try_from(begun.len()).map_or(f64::MAX, f64::from);
    let (done, compared_at) = (next.is_none(), Some(now));
    Ok((Comparison { next, done, differences, compared_at }, read_units + compared * READS_PER_COMPARED))
}

async fn compare_orders(
    read: &impl OrderViews,
    new: &impl OrderViews,
    ids: &[OrderId],
    settled: DateTime<Utc>,
    differences: &mut Differences,
) -> Result<(), Unavailable> {
    // The new one is written before the one that is read, and so read after it.
    let (mut before, mut after) = (views_of(read, ids).await?, views_of(new, ids).await?);
    let unlike: Vec<OrderId> = ids.iter().copied().filter(|id| before.get(id) != after.get(id)).collect();
    if !unlike.is_empty() {
        before.extend(views_of(read, &unlike).await?);
        after.extend(views_of(new, &unlike).await?);
    }
    for id in ids {
        let count = match (before.get(id), after.get(id)) {
            (None, None) => continue,
            (Some(one), other) if one.updated_at > settled && other.is_none_or(|other| other.version < one.version) => {
                continue;
            }
            (Some(_), None) => &mut differences.missing,
            (None, Some(_)) => &mut differences.added,
            (Some(one), Some(other)) if one.version > other.version => &mut differences.behind,
            (Some(one), Some(other)) if one.version == other.version && one != other => {
                for field in fields_that_differ(one, other) {
                    add_one(differences.fields.entry(field).or_default());
                }
                &mut differences.changed
            }
            // The same; or something has happened just now, and the new one knows it already.
            (Some(_), Some(_)) => {
                add_one(&mut differences.orders);
                continue;
            }
        };
        add_one(count);
        add_one(&mut differences.orders);
        differences.name(&StreamId::order(*id));
    }
    let customers: BTreeSet<CustomerId> = before.values().map(|view| view.customer.id.clone()).collect();
    let differ = |customer: CustomerId| async move {
        lists_differ(read, new, &customer).await.map(|differ| differ.then_some(customer))
    };
    let differ: Vec<Option<CustomerId>> =
        stream::iter(customers).map(differ).buffered(LISTS_AT_ONCE).try_collect().await?;
    for customer in differ.iter().flatten() {
        add_one(&mut differences.lists);
        differences.name(&StreamId::customer(customer));
    }
    Ok(())
}

async fn compare_profiles(
    read: &impl OrderViews,
    new: &impl OrderViews,
    ids: &[CustomerId],
    differences: &mut Differences,
) -> Result<(), Unavailable> {
    let (before, after) = (customers_of(read, ids).await?, customers_of(new, ids).await?);
    for id in ids {
        let differ = match (before.get(id), after.get(id)) {
            (Some(one), Some(other)) => one.version > other.version || (one.version == other.version && one != other),
            (Some(_), None) => true,
            (None, _) => false,
        };
        if differ {
            add_one(&mut differences.profiles);
            differences.name(&StreamId::customer(id));
        }
    }
    Ok(())
}

/// In how many hours up to this one, without it, the two have other sums.
pub async fn compare_hours(read: &impl Index, new: &impl Index, until: Hour) -> Result<u64, Unavailable> {
    let (before, after) = (read.stats(Hour::new(0), until).await?, new.stats(Hour::new(0), until).await?);
    let before: BTreeMap<Hour, &BTreeMap<Stat, Sum>> = before.by_hour().collect();
    let after: BTreeMap<Hour, &BTreeMap<Stat, Sum>> = after.by_hour().collect();
    let hours: BTreeSet<&Hour> = before.keys().chain(after.keys()).collect();
    let differ = hours.into_iter().filter(|hour| before.get(*hour) != after.get(*hour)).count();
    Ok(u64::try_from(differ).unwrap_or(u64::MAX))
}

/// Whether another number of a customer's orders is listed. While orders are placed, the first look may be between two writes.
async fn lists_differ(
    read: &impl OrderViews,
    new: &impl OrderViews,
    customer: &CustomerId,
) -> Result<bool, Unavailable> {
    for _ in 0..LOOKS {
        let before = read.customer_orders(customer, 0, 1).await?;
        if before.total == new.customer_orders(customer, 0, 1).await?.total {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn views_of(views: &impl OrderViews, ids: &[OrderId]) -> Result<BTreeMap<OrderId, OrderView>, Unavailable> {
    Ok(views.load_many(ids).await?.into_iter().map(|view| (view.id, view)).collect())
}

async fn customers_of(
    views: &impl OrderViews,
    ids: &[CustomerId],
) -> Result<BTreeMap<CustomerId, CustomerView>, Unavailable> {
    Ok(views.customers(ids).await?.into_iter().map(|customer| (customer.id.clone(), customer)).collect())
}

fn fields_that_differ(one: &OrderView, other: &OrderView) -> BTreeSet<String> {
    let fields = |view: &OrderView| match serde_json::to_value(view) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    let (one, other) = (fields(one), fields(other));
    one.keys().chain(other.keys()).filter(|name| one.get(*name) != other.get(*name)).cloned().collect()
}

fn add_one(count: &mut u64) {
    *count = count.saturating_add(1);
}
