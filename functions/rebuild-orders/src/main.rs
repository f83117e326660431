//! An operator's tool → builds the read model anew from the event table, beside the one that is read, compares the two, and switches.
//!
//! The state machine `infra/rebuild.asl.json` calls it, action after action, for `make rebuild VIEW=orders`; what each of them answers is
//! where the rebuild stands. Every action may be called again, and a rebuild that was left goes on where it was. What is done with a page of events is
//! [`application::rebuild_orders::rebuild_page`].

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use adapters::{
    aws,
    dynamodb::{Building, DynamoEventStore, DynamoReadModel, Generations},
    lambda,
};
use application::{
    event_store::{Segment, Unavailable},
    project_orders::ProjectError,
    rebuild_orders::{
        Comparison, Progress, UNTIL_READERS_KNOW, UNTIL_WRITERS_KNOW, compare_hours, compare_page, rebuild_page,
        time_for,
    },
    stats::Hour,
};
use aws_sdk_dynamodb::Client;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tracing::info;

/// How long one call works on a segment, or clears. Long, because the history of an execution has room for some thousands of calls.
const SLICE: Duration = Duration::from_mins(4);

/// How many commits are read at once: the more, the fewer writes count the orders of an hour or list those of a customer. One page is what
/// may not be counted after a call was cut short.
const PAGE: usize = 500;

/// How many items of a table are looked through at once for what is to be cleared. Few, because those of a page that is begun at the end of
/// a slice have a minute.
const CLEAR_PAGE: usize = 500;

/// More would only be in each other's way at the counts and at the customers' lists.
const SEGMENTS_MAX: u32 = 16;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let client = Client::new(&aws::config());
    let events_table = lambda::variable("EVENTS_TABLE")?;
    let store = DynamoEventStore::new(client.clone(), events_table.clone());
    let model = DynamoReadModel::new(client, lambda::variable("ORDERS_TABLE")?, lambda::variable("INDEX_TABLE")?);
    let rebuild = Rebuild { store, model, events_table };
    lambda::run_tool(RebuildError::error_type, async |action| rebuild.handle(action, Utc::now()).await).await
}

#[derive(Debug, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
enum Action {
    /// Only says where things stand.
    Status {},
    /// No other version has written the read model: the stack is new.
    Adopt {},
    /// From now on, projections keep another generation up to date too.
    Begin { segments: u32 },
    /// Reads on in one segment of the event table, and writes no more than so many write units a second, about.
    Work { segment: u32, units_per_second: Option<NonZeroU32> },
    /// Reads on in one segment once more, and counts what the new generation has otherwise than the one that is read.
    Compare { segment: u32, units_per_second: Option<NonZeroU32> },
    /// What was compared is to be compared anew.
    Forget {},
    /// The new generation is complete: from now on it is the one that is read. One that lacks orders or events only if that is accepted.
    Switch {
        #[serde(default)]
        accept: bool,
    },
    /// The new generation is given up.
    Abandon {},
    /// From now on, projections leave the outgoing generation as it is.
    Retire {},
    /// Removes what there is of that generation, page by page, at no more than so many write units a second, about; after the last page
    /// there is none.
    Clear { units_per_second: Option<NonZeroU32> },
}

/// Where the rebuild stands.
#[derive(Debug, Serialize)]
struct Standing {
    live: u32,
    /// What the one that is read was built as, and what this version builds. A rebuild is needed where they differ.
    format: u32,
    builds_format: u32,
    building: Option<u32>,
    outgoing: Option<u32>,
    clearing: Option<u32>,
    /// How long the next action has to wait, so that every function knows of the last change.
    wait_seconds: u64,
    segments: Vec<Progress>,
    /// About how many commits, and bytes, the event table has.
    commits: u64,
    bytes: u64,
    /// The same of what is read, with all generations that there are.
    view_items: u64,
    view_bytes: u64,
    /// How far each segment of what is being built is compared, and what differs; or was, of what is read.
    comparisons: Vec<Comparison>,
    /// Of how many pages, of the same, it is not known whether all is counted by the hour.
    uncounted: u64,
    /// How many streams, of the same, could not be read to their end, and some of them.
    unreadable: u64,
    unreadable_sample: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
enum RebuildError {
    #[error("there must be 1 to {SEGMENTS_MAX} segments")]
    BadSegments,
    #[error("nothing is being built")]
    NotBuilding,
    #[error(
        "what is being built was begun by a version that writes something else: give it up (ABANDON=1), and begin again"
    )]
    OtherFormat,
    #[error("there was another version before this one")]
    NotNew,
    #[error("another generation is still there to be cleared")]
    NotCleared,
    #[error("not every segment is done")]
    NotDone,
    #[error("not every segment is compared")]
    NotCompared,
    #[error("orders or events are missing in the new generation")]
    Lost,
    #[error("somebody else has just done something else")]
    Overtaken,
    #[error(transparent)]
    Project(#[from] ProjectError),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl RebuildError {
    fn error_type(&self) -> &'static str {
        match self {
            Self::BadSegments => "BadSegments",
            Self::NotBuilding => "NotBuilding",
            Self::OtherFormat => "OtherFormat",
            Self::NotNew => "NotNew",
            Self::NotCleared => "NotCleared",
            Self::NotDone => "NotDone",
            Self::NotCompared => "NotCompared",
            Self::Lost => "Lost",
            Self::Overtaken => "Overtaken",
            Self::Project(error) => error.error_type(),
            Self::Unavailable(_) => "Unavailable",
        }
    }
}

struct Rebuild {
    store: DynamoEventStore,
    model: DynamoReadModel,
    events_table: String,
}

impl Rebuild {
    async fn handle(&self, action: Action, now: DateTime<Utc>) -> Result<Standing, RebuildError> {
        let generations = self.model.generations_now().await?;
        match action {
            Action::Status {} => {}
            Action::Adopt {} if generations != Generations::FIRST => return Err(RebuildError::NotNew),
            Action::Adopt {} => {
                self.change(generations, Generations { format: Building::FORMAT, ..generations }).await?;
            }
            Action::Begin { segments } => self.begin(generations, segments).await?,
            Action::Work { segment, units_per_second } => {
                self.work(generations, segment, units_per_second).await?;
            }
            Action::Compare { segment, units_per_second } => {
                self.compare(generations, segment, units_per_second, now).await?;
            }
            Action::Forget {} => {
                let building = building(generations)?;
                for number in 0..building.segments {
                    self.model.save_comparison(building, number, &Comparison::default()).await?;
                }
            }
            // Whoever has not heard that it is done asks again.
            Action::Switch { .. } if has_switched(generations) => {}
            Action::Switch { accept } => self.switch(generations, accept).await?,
            Action::Abandon {} => {
                let building = generations.building.ok_or(RebuildError::NotBuilding)?;
                let clearing = Some(building.generation);
                self.change(generations, Generations { building: None, clearing, ..generations }).await?;
            }
            Action::Retire {} if generations.outgoing.is_none() => {}
            Action::Retire {} => {
                until_due(generations).await;
                let clearing = generations.outgoing;
                self.change(generations, Generations { outgoing: None, clearing, ..generations }).await?;
            }
            Action::Clear { units_per_second } => self.clear(generations, units_per_second).await?,
        }
        self.standing().await
    }

    async fn standing(&self) -> Result<Standing, RebuildError> {
        let generations = self.model.generations_now().await?;
        // What is kept of the generation that is read tells of the rebuild that it came from.
        let last = Building { generation: generations.live, segments: SEGMENTS_MAX, format: Building::FORMAT };
        let latest = generations.building.unwrap_or(last);
        let (mut segments, mut comparisons) =
            (self.model.progress(latest).await?, self.model.comparisons(latest).await?);
        let uncounted = sum(&segments, |segment| segment.uncounted);
        let unreadable = sum(&segments, |segment| segment.unreadable);
        let unreadable_sample = segments.iter().flat_map(|segment| segment.unreadable_sample.clone()).collect();
        segments.retain(|_| generations.building.is_some());
        comparisons.retain(|comparison| generations.building.is_some() || comparison.done);
        let (commits, bytes) = self.model.size(&self.events_table).await?;
        let (view_items, view_bytes) = self.model.own_size().await?;
        Ok(Standing {
            live: generations.live,
            format: generations.format,
            builds_format: Building::FORMAT,
            building: generations.building.map(|building| building.generation),
            outgoing: generations.outgoing,
            clearing: generations.clearing,
            // Rounded up.
            wait_seconds: wait(generations, Utc::now()).as_secs().saturating_add(1),
            segments,
            commits,
            bytes,
            view_items,
            view_bytes,
            comparisons,
            uncounted,
            unreadable,
            unreadable_sample,
        })
    }

    /// One that is under way goes on.
    async fn begin(&self, generations: Generations, segments: u32) -> Result<(), RebuildError> {
        match (generations.building, generations.outgoing.or(generations.clearing)) {
            (Some(_), _) => Ok(()),
            (None, Some(_)) => Err(RebuildError::NotCleared),
            (None, None) if !(1..=SEGMENTS_MAX).contains(&segments) => Err(RebuildError::BadSegments),
            (None, None) => {
                let last = generations.last.saturating_add(1);
                let building = Some(Building { generation: last, segments, format: Building::FORMAT });
                self.change(generations, Generations { building, last, ..generations }).await
            }
        }
    }

    async fn work(
        &self,
        generations: Generations,
        number: u32,
        units_per_second: Option<NonZeroU32>,
    ) -> Result<(), RebuildError> {
        let (building, asked) = (building(generations)?, Instant::now());
        until_due(generations).await;
        let index = usize::try_from(number).map_err(|_| RebuildError::BadSegments)?;
        let progress = self.model.progress(building).await?;
        let mut progress = progress.into_iter().nth(index).ok_or(RebuildError::BadSegments)?;
        let model = self.model.generation(building.generation);
        let segment = Segment { number, of: building.segments };
        let (started, before) = (Instant::now(), progress.clone());
        let limit = units_per_second.map_or(PAGE, page_at);
        while !progress.done && asked.elapsed() < SLICE {
            // Somebody may have given the rebuild up.
            if self.model.generations_now().await?.building != Some(building) {
                return Err(RebuildError::NotBuilding);
            }
            progress = progress.begin();
            self.model.save_progress(building, number, &progress).await?;
            let page = rebuild_page(&self.store, &model, segment, progress.clone(), limit).await;
            progress = page.as_ref().map_or_else(|failed| progress.give_back(failed), Clone::clone);
            self.model.save_progress(building, number, &progress).await?;
            page.map_err(|failed| failed.error)?;
            if let Some(pace) = units_per_second {
                tokio::time::sleep(progress.takes(&before, pace).saturating_sub(started.elapsed())).await;
            }
        }
        info!(number, events = progress.events, done = progress.done, "segment read on");
        Ok(())
    }

    async fn compare(
        &self,
        generations: Generations,
        number: u32,
        units_per_second: Option<NonZeroU32>,
        now: DateTime<Utc>,
    ) -> Result<(), RebuildError> {
        let building = self.built(generations).await?;
        let index = usize::try_from(number).map_err(|_| RebuildError::BadSegments)?;
        let comparisons = self.model.comparisons(building).await?;
        let mut comparison = comparisons.into_iter().nth(index).ok_or(RebuildError::BadSegments)?.go_on(now);
        let models = (&self.model.generation(generations.live), &self.model.generation(building.generation));
        let segment = Segment { number, of: building.segments };
        let limit = units_per_second.map_or(PAGE, page_at);
        let (started, mut read_units) = (Instant::now(), 0.0);
        while !comparison.done && started.elapsed() < SLICE {
            // Somebody may have given the rebuild up.
            if self.model.generations_now().await?.building != Some(building) {
                return Err(RebuildError::NotBuilding);
            }
            let (compared, units) = compare_page(&self.store, models, segment, comparison, limit, now).await?;
            (comparison, read_units) = (compared, read_units + units);
            // What is counted by the hour is in no segment. What happens now is on its way into both.
            if comparison.done && number == 0 {
                let until = Hour::of(now).previous();
                comparison.differences.hours = compare_hours(&models.0.index, &models.1.index, until).await?;
            }
            self.model.save_comparison(building, number, &comparison).await?;
            if let Some(pace) = units_per_second {
                let takes = Duration::try_from_secs_f64(read_units / f64::from(pace.get())).unwrap_or_default();
                tokio::time::sleep(takes.saturating_sub(started.elapsed())).await;
            }
        }
        info!(number, done = comparison.done, "segment compared");
        Ok(())
    }

    async fn switch(&self, generations: Generations, accept: bool) -> Result<(), RebuildError> {
        let building = self.built(generations).await?;
        let unreadable = sum(&self.model.progress(building).await?, |segment| segment.unreadable);
        let comparisons = self.model.comparisons(building).await?;
        if !accept && !comparisons.iter().all(|comparison| comparison.done) {
            return Err(RebuildError::NotCompared);
        }
        if !accept && comparisons.iter().any(|comparison| comparison.differences.is_lost(unreadable)) {
            return Err(RebuildError::Lost);
        }
        let (live, outgoing, format) = (building.generation, Some(generations.live), building.format);
        self.change(generations, Generations { live, building: None, outgoing, format, ..generations }).await?;
        info!(live, "switched to a new generation of the read model");
        Ok(())
    }

    async fn clear(&self, generations: Generations, units_per_second: Option<NonZeroU32>) -> Result<(), RebuildError> {
        let Some(clearing) = generations.clearing else { return Ok(()) };
        let (asked, mut cleared, mut done) = (Instant::now(), 0_usize, false);
        until_due(generations).await;
        let limit = units_per_second.map_or(CLEAR_PAGE, page_at);
        while !done && asked.elapsed() < SLICE {
            let begun = Instant::now();
            let (count, is_last) = self.model.clear(clearing, limit).await?;
            (cleared, done) = (cleared.saturating_add(count), is_last);
            // Each page for itself: one with little to delete gives the next no right to hurry.
            if let Some(pace) = units_per_second {
                tokio::time::sleep(time_for(clear_units(count), pace).saturating_sub(begun.elapsed())).await;
            }
        }
        info!(clearing, cleared, done, "generation cleared on");
        if done { self.change(generations, Generations { clearing: None, ..generations }).await } else { Ok(()) }
    }

    /// What is built, once all of it is there.
    async fn built(&self, generations: Generations) -> Result<Building, RebuildError> {
        let building = building(generations)?;
        let done = self.model.progress(building).await?.iter().all(|segment| segment.done);
        if done { Ok(building) } else { Err(RebuildError::NotDone) }
    }

    async fn change(&self, from: Generations, to: Generations) -> Result<(), RebuildError> {
        // As late as can be, because others wait from then on. Equal to no other change's.
        let to = Generations { changed_at: Utc::now(), ..to };
        if self.model.change(from, to).await? { Ok(()) } else { Err(RebuildError::Overtaken) }
    }
}

/// What is being built, if it is what this version builds.
fn building(generations: Generations) -> Result<Building, RebuildError> {
    let building = generations.building.ok_or(RebuildError::NotBuilding)?;
    if building.format == Building::FORMAT { Ok(building) } else { Err(RebuildError::OtherFormat) }
}

fn sum(segments: &[Progress], of: impl Fn(&Progress) -> u64) -> u64 {
    segments.iter().map(of).fold(0, u64::saturating_add)
}

/// Nothing else leaves an outgoing generation, and nothing is begun while there is one.
fn has_switched(generations: Generations) -> bool {
    generations.building.is_none() && generations.outgoing.is_some()
}

/// A page that takes a few seconds at this pace: a slice is to end in time.
fn page_at(units_per_second: NonZeroU32) -> usize {
    usize::try_from(units_per_second.get()).map_or(PAGE, |units| units.clamp(1, PAGE))
}

/// About how many write units the clearing of a page takes: one for each item that is deleted, as nearly all have less than a KB, and one
/// for the place that is kept.
fn clear_units(deleted: usize) -> u64 {
    u64::try_from(deleted).unwrap_or(u64::MAX).saturating_add(1)
}

/// Before that, nothing is read or cleared.
async fn until_due(generations: Generations) {
    tokio::time::sleep(wait(generations, Utc::now())).await;
}

/// How long it takes until nobody acts on what was before the last change.
fn wait(generations: Generations, now: DateTime<Utc>) -> Duration {
    let since = now.signed_duration_since(generations.changed_at).to_std().unwrap_or_default();
    let until = if generations.outgoing.is_some() { UNTIL_READERS_KNOW } else { UNTIL_WRITERS_KNOW };
    until.saturating_sub(since)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_an_action() {
        let action: Action = serde_json::from_str(include_str!("../../../events/rebuild-orders.json")).unwrap();
        assert!(matches!(action, Action::Status {}));
        assert!(serde_json::from_str::<Action>(r#"{"action":"work"}"#).is_err());
    }

    /// A page of nothing but profiles, which take the most.
    #[test]
    fn a_slice_ends_in_time_at_whatever_pace() {
        for pace in [1, 7, 100, 1_000_000] {
            let pace = NonZeroU32::new(pace).unwrap();
            let done = Progress { write_units: u64::try_from(page_at(pace)).unwrap() * 27, ..Progress::default() };
            let takes = done.takes(&Progress::default(), pace);
            assert!(SLICE + takes < Duration::from_secs(275), "{pace}: {takes:?}");
            assert!(pace.get() > 100 || takes == Duration::from_secs(27));
        }
    }

    /// A page of nothing but what is to be deleted.
    #[test]
    fn clearing_keeps_its_pace_and_a_slice_of_it_ends_in_time() {
        for pace in [1, 7, 100, 1_000_000] {
            let pace = NonZeroU32::new(pace).unwrap();
            let takes = time_for(clear_units(page_at(pace)), pace);
            assert!(SLICE + takes < Duration::from_secs(275), "{pace}: {takes:?}");
            assert!(pace.get() > 100 || takes > Duration::from_secs(1));
        }
    }

    #[test]
    fn whoever_names_no_pace_has_none() {
        for text in [r#"{"action":"clear"}"#, r#"{"action":"clear","units_per_second":null}"#] {
            let action: Action = serde_json::from_str(text).unwrap();
            assert!(matches!(action, Action::Clear { units_per_second: None }), "{text}");
        }
        let paced: Action = serde_json::from_str(r#"{"action":"clear","units_per_second":500}"#).unwrap();
        assert!(matches!(paced, Action::Clear { units_per_second: Some(pace) } if pace.get() == 500));
    }

    #[test]
    fn what_another_version_has_begun_is_not_gone_on_with() {
        let begun = Building { generation: 2, segments: 4, format: 1 };
        let of = |building| Generations { building: Some(building), ..Generations::FIRST };
        assert!(matches!(building(of(begun)), Err(RebuildError::OtherFormat)));
        assert!(building(of(Building { format: Building::FORMAT, ..begun })).is_ok());
    }

    /// The answer to the first time may be lost.
    #[test]
    fn whoever_asks_once_more_to_switch_is_told_that_it_is_done() {
        let building = Some(Building { generation: 2, segments: 4, format: Building::FORMAT });
        let switched = Generations { live: 2, outgoing: Some(1), ..Generations::FIRST };
        assert!(has_switched(switched));
        for otherwise in [
            Generations::FIRST,
            Generations { building, ..Generations::FIRST },
            Generations { outgoing: None, clearing: Some(1), ..switched },
        ] {
            assert!(!has_switched(otherwise), "{otherwise:?}");
        }
    }

    #[test]
    fn nothing_is_read_or_cleared_before_everybody_knows_of_the_last_change() {
        let now = DateTime::UNIX_EPOCH;
        let after = |seconds| now + chrono::TimeDelta::seconds(seconds);
        let changed = Generations { changed_at: now, ..Generations::FIRST };
        assert_eq!(wait(changed, now), UNTIL_WRITERS_KNOW);
        assert_eq!(wait(changed, after(39)), Duration::from_secs(1));
        assert_eq!(wait(changed, after(40)), Duration::ZERO);
        assert_eq!(wait(Generations { outgoing: Some(1), ..changed }, after(29)), Duration::from_secs(1));
    }
}
