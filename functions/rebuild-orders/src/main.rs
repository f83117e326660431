//! An operator's tool → builds the read model anew from the event table, beside the one that is read, and switches.
//!
//! `make rebuild VIEW=orders` calls it, action after action; what each of them answers is where the rebuild stands. Every
//! action may be called again, and a rebuild that was left goes on where it was. What is done with a page of events is
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
    rebuild_orders::{Progress, UNTIL_READERS_KNOW, UNTIL_WRITERS_KNOW, rebuild_page},
};
use aws_sdk_dynamodb::Client;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tracing::info;

/// How long one call works on a segment before it says how far it has come.
const SLICE: Duration = Duration::from_secs(10);

/// How many commits are read at once.
const PAGE: usize = 200;

/// How many items of the table one call looks through for what is to be cleared.
const CLEAR_PAGE: usize = 2_000;

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
    /// The new generation is complete: from now on it is the one that is read.
    Switch {},
    /// The new generation is given up.
    Abandon {},
    /// From now on, projections leave the outgoing generation as it is.
    Retire {},
    /// Removes what there is of that generation on one page of a table; after the last page there is none.
    Clear { after: Option<String> },
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
    /// Of [`Action::Clear`]: how many items are gone, and where the next page begins.
    cleared: usize,
    clear_after: Option<String>,
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
    #[error("not every function knows of the last change yet")]
    TooEarly,
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
            Self::TooEarly => "TooEarly",
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
        let (mut cleared, mut clear_after) = (0, None);
        match action {
            Action::Status {} => {}
            Action::Adopt {} if generations != Generations::FIRST => return Err(RebuildError::NotNew),
            Action::Adopt {} => {
                self.change(generations, Generations { format: Building::FORMAT, ..generations }).await?;
            }
            Action::Begin { segments } => self.begin(generations, segments).await?,
            Action::Work { segment, units_per_second } => {
                self.work(generations, segment, units_per_second, now).await?;
            }
            Action::Switch {} => {
                let building = building(generations)?;
                if !self.model.progress(building).await?.iter().all(|segment| segment.done) {
                    return Err(RebuildError::NotDone);
                }
                let (live, outgoing) = (building.generation, Some(generations.live));
                let format = building.format;
                self.change(generations, Generations { live, building: None, outgoing, format, ..generations }).await?;
                info!(live, "switched to a new generation of the read model");
            }
            Action::Abandon {} => {
                let building = generations.building.ok_or(RebuildError::NotBuilding)?;
                let clearing = Some(building.generation);
                self.change(generations, Generations { building: None, clearing, ..generations }).await?;
            }
            Action::Retire {} if generations.outgoing.is_none() => {}
            Action::Retire {} => {
                due(generations, now)?;
                let clearing = generations.outgoing;
                self.change(generations, Generations { outgoing: None, clearing, ..generations }).await?;
            }
            Action::Clear { after } => {
                if let Some(clearing) = generations.clearing {
                    due(generations, now)?;
                    (cleared, clear_after) = self.model.clear(clearing, after, CLEAR_PAGE).await?;
                    if clear_after.is_none() {
                        self.change(generations, Generations { clearing: None, ..generations }).await?;
                    }
                }
            }
        }
        let generations = self.model.generations_now().await?;
        let segments = match generations.building {
            Some(building) => self.model.progress(building).await?,
            None => Vec::new(),
        };
        let (commits, bytes) = self.model.size(&self.events_table).await?;
        Ok(Standing {
            live: generations.live,
            format: generations.format,
            builds_format: Building::FORMAT,
            building: generations.building.map(|building| building.generation),
            outgoing: generations.outgoing,
            clearing: generations.clearing,
            // Rounded up: a second too early is too early.
            wait_seconds: wait(generations, Utc::now()).as_secs().saturating_add(1),
            segments,
            commits,
            bytes,
            cleared,
            clear_after,
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
        now: DateTime<Utc>,
    ) -> Result<(), RebuildError> {
        let building = building(generations)?;
        due(generations, now)?;
        let index = usize::try_from(number).map_err(|_| RebuildError::BadSegments)?;
        let progress = self.model.progress(building).await?;
        let mut progress = progress.into_iter().nth(index).ok_or(RebuildError::BadSegments)?;
        let model = self.model.generation(building.generation);
        let segment = Segment { number, of: building.segments };
        let (started, before) = (Instant::now(), progress.clone());
        let limit = units_per_second.map_or(PAGE, page_at);
        while !progress.done && started.elapsed() < SLICE {
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

/// A page that takes a few seconds at this pace: a slice is to end in time.
fn page_at(units_per_second: NonZeroU32) -> usize {
    usize::try_from(units_per_second.get()).map_or(PAGE, |units| units.clamp(1, PAGE))
}

fn due(generations: Generations, now: DateTime<Utc>) -> Result<(), RebuildError> {
    if wait(generations, now) > Duration::ZERO { Err(RebuildError::TooEarly) } else { Ok(()) }
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
            assert!(SLICE + takes < Duration::from_secs(45), "{pace}: {takes:?}");
            assert!(pace.get() > 100 || takes == Duration::from_secs(27));
        }
    }

    #[test]
    fn what_another_version_has_begun_is_not_gone_on_with() {
        let begun = Building { generation: 2, segments: 4, format: 1 };
        let of = |building| Generations { building: Some(building), ..Generations::FIRST };
        assert!(matches!(building(of(begun)), Err(RebuildError::OtherFormat)));
        assert!(building(of(Building { format: Building::FORMAT, ..begun })).is_ok());
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
