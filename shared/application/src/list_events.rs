//! The events of one type in a window of time, whatever they happened to: the audit across orders.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use crate::{
    event_store::{Commit, EventStore, StreamId, Unavailable},
    event_stream::LoadError,
    order_history::{EventOfAny, PastEvent},
    ports::{Entry, Index, Position, Posting},
};

/// The longest window. Each of its days is a list of its own, and has to be looked into when it has no such event.
pub const WINDOW_MAX: TimeDelta = TimeDelta::days(31);

/// Which events are wanted. Of times, milliseconds count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventsWanted {
    pub event_type: String,
    /// The first moment of the window.
    pub from: DateTime<Utc>,
    /// The first moment after it.
    pub to: DateTime<Utc>,
    /// Only what comes after the event at this position, newest first: where another page has ended.
    pub after: Option<Position>,
}

/// Some of these events, newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct EventPage {
    pub events: Vec<ListedEvent>,
    /// Where this page has ended, when another follows.
    pub next: Option<Position>,
}

/// An event, and what it happened to.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedEvent {
    pub stream: StreamId,
    pub event: PastEvent,
}

/// What the index has to have of a commit: where each of its events is, nothing of what is in it.
pub fn entries_of(commit: &Commit) -> Vec<Entry> {
    let at = commit.metadata.occurred_at;
    let entries = commit.numbered().map(|(version, event)| {
        let place = Place { stream: commit.stream.clone(), version, commit: commit.version };
        Entry { term: term(&event.event_type, at.date_naive()), posting: place.posting(at) }
    });
    entries.collect()
}

/// A list for each day: one that grows for ever would be one partition for ever.
fn term(event_type: &str, day: NaiveDate) -> String {
    format!("event/{event_type}/{day}")
}

/// Where an event is in the event table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    stream: StreamId,
    version: u64,
    /// The number of its commit's first event.
    commit: u64,
}

impl Place {
    /// The number with leading zeros, so that the events of one commit are listed in their order.
    fn posting(&self, at: DateTime<Utc>) -> Posting {
        let id = format!("{}/{:010}", self.stream.as_str(), self.version);
        let text = if self.commit == self.version { String::new() } else { self.commit.to_string() };
        Posting { at, id, text }
    }

    fn read(posting: &Posting) -> Option<Self> {
        let (stream, version) = posting.id.rsplit_once('/')?;
        let version = version.parse().ok()?;
        let commit = if posting.text.is_empty() { version } else { posting.text.parse().ok()? };
        Some(Self { stream: StreamId::new(stream.to_owned()), version, commit })
    }
}

/// At most `limit` events, which is 100 at most: a query for each day that is looked into, and one read of the commits.
pub async fn list_events(
    index: &impl Index,
    store: &impl EventStore,
    wanted: &EventsWanted,
    limit: usize,
) -> Result<EventPage, LoadError> {
    let mut postings = postings(index, wanted, limit.saturating_add(1)).await?;
    let more = postings.len() > limit;
    postings.truncate(limit);
    let places: Vec<Place> = postings.iter().filter_map(Place::read).collect();
    let keys: BTreeSet<(StreamId, u64)> = places.iter().map(|place| (place.stream.clone(), place.commit)).collect();
    let keys: Vec<(StreamId, u64)> = keys.into_iter().collect();
    let commits = if keys.is_empty() { Vec::new() } else { store.read_each(&keys).await? };
    let mut events: BTreeMap<(&StreamId, u64), ListedEvent> = BTreeMap::new();
    for commit in &commits {
        let listed = |version| places.iter().any(|place| place.stream == commit.stream && place.version == version);
        for (version, event) in commit.numbered().filter(|(version, _)| listed(*version)) {
            let event = EventOfAny::read(event)?;
            let event = PastEvent { version, event, metadata: commit.metadata.clone() };
            events.insert((&commit.stream, version), ListedEvent { stream: commit.stream.clone(), event });
        }
    }
    Ok(EventPage {
        // No event is ever deleted, so each of them is there.
        events: places.iter().filter_map(|place| events.remove(&(&place.stream, place.version))).collect(),
        next: postings.last().filter(|_| more).map(Posting::position),
    })
}

/// The newest `count` postings that are wanted, from one day's list after another.
async fn postings(index: &impl Index, wanted: &EventsWanted, count: usize) -> Result<Vec<Posting>, Unavailable> {
    let EventsWanted { event_type, from, to, after } = wanted;
    let end = Position::start_of(*to);
    // Whatever is wanted stands before this.
    let (end, newest) = match after {
        Some(after) if *after < end => (after, after.millis()),
        _ => (&end, end.millis().saturating_sub(1)),
    };
    let mut postings: Vec<Posting> = Vec::new();
    let mut day = DateTime::from_timestamp_millis(newest).unwrap_or_default().date_naive();
    while postings.len() < count && day >= from.date_naive() {
        // One more, because the list goes on at the event that the page before has ended with.
        let limit = count.saturating_sub(postings.len()).saturating_add(1);
        let list = index.newest(&term(event_type, day), Some(end), Some(*from), limit).await?;
        postings.extend(list.into_iter().filter(|posting| posting.position() < *end));
        let Some(yesterday) = day.pred_opt() else { break };
        day = yesterday;
    }
    postings.truncate(count);
    Ok(postings)
}
