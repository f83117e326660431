//! The events of one type in a window of time, whatever they happened to: the audit across orders.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use crate::{
    event_store::{Commit, EventStore, StreamId, Unavailable},
    event_stream::LoadError,
    order_history::{EventOfAny, PastEvent},
    page::Room,
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

/// How many commits are read in one call: no more than a page that ends early by its bytes makes up for.
const READ_AT_ONCE: usize = 25;

/// At most `limit` events, and no more than a page has room for: a query for each day that is looked into, and a read of the
/// commits for every 25 events.
pub async fn list_events(
    index: &impl Index,
    store: &impl EventStore,
    wanted: &EventsWanted,
    limit: usize,
) -> Result<EventPage, LoadError> {
    let mut postings = postings(index, wanted, limit.saturating_add(1)).await?;
    let more = postings.len() > limit;
    postings.truncate(limit);
    let (mut events, mut end, mut room): (Vec<ListedEvent>, Option<Position>, Room) = Default::default();
    for postings in postings.chunks(READ_AT_ONCE) {
        let places: Vec<(&Posting, Place)> =
            postings.iter().filter_map(|posting| Some((posting, Place::read(posting)?))).collect();
        let mut found = events_at(store, places.iter().map(|(_, place)| place)).await?;
        for (posting, Place { stream, version, .. }) in places {
            // No event is ever deleted, so each of them is there.
            let Some(event) = found.remove(&(stream, version)) else { continue };
            if !room.take(event.event.json_bytes()) {
                return Ok(EventPage { events, next: end });
            }
            events.push(event);
            end = Some(posting.position());
        }
    }
    Ok(EventPage { events, next: postings.last().filter(|_| more).map(Posting::position) })
}

/// The events at these places, by their stream and number.
async fn events_at(
    store: &impl EventStore,
    places: impl Iterator<Item = &Place>,
) -> Result<BTreeMap<(StreamId, u64), ListedEvent>, LoadError> {
    let (mut wanted, mut keys) = (BTreeSet::new(), BTreeSet::new());
    for place in places {
        wanted.insert((place.stream.clone(), place.version));
        keys.insert((place.stream.clone(), place.commit));
    }
    let keys: Vec<(StreamId, u64)> = keys.into_iter().collect();
    let mut found = BTreeMap::new();
    for commit in store.read_each(&keys).await? {
        for (version, event) in commit.numbered() {
            let (stream, key) = (commit.stream.clone(), (commit.stream.clone(), version));
            if wanted.contains(&key) {
                let event = PastEvent { version, event: EventOfAny::read(event)?, metadata: commit.metadata.clone() };
                found.insert(key, ListedEvent { stream, event });
            }
        }
    }
    Ok(found)
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
