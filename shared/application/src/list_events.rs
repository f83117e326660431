//! The events of one type in a window of time, whatever they happened to: the audit across orders.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    event_store::{EventStore, StreamId, Unavailable},
    event_stream::LoadError,
    order_history::{EventOfAny, PastEvent},
    page::Room,
    ports::{EventPlace, Index, Position},
};

/// The longest window.
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

/// How many commits are read in one call: no more than a page that ends early by its bytes makes up for.
const READ_AT_ONCE: usize = 25;

/// At most `limit` events, and no more than a page has room for: a read of the list, and one of the commits for every 25
/// events.
pub async fn list_events(
    index: &impl Index,
    store: &impl EventStore,
    wanted: &EventsWanted,
    limit: usize,
) -> Result<EventPage, LoadError> {
    let mut places = places(index, wanted, limit.saturating_add(1)).await?;
    let more = places.len() > limit;
    places.truncate(limit);
    let (mut events, mut end, mut room): (Vec<ListedEvent>, Option<Position>, Room) = Default::default();
    for places in places.chunks(READ_AT_ONCE) {
        let mut found = events_at(store, places).await?;
        for place in places {
            // No event is ever deleted, so each of them is there.
            let Some(event) = found.remove(&(place.stream.clone(), place.version)) else { continue };
            if !room.take(event.event.json_bytes()) {
                return Ok(EventPage { events, next: end });
            }
            events.push(event);
            end = Some(place.position());
        }
    }
    Ok(EventPage { events, next: places.last().filter(|_| more).map(EventPlace::position) })
}

/// The events at these places, by their stream and number.
async fn events_at(
    store: &impl EventStore,
    places: &[EventPlace],
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

/// The newest `count` places of what is wanted.
pub(crate) async fn places(
    index: &impl Index,
    wanted: &EventsWanted,
    count: usize,
) -> Result<Vec<EventPlace>, Unavailable> {
    let EventsWanted { event_type, from, to, after } = wanted;
    let end = Position::start_of(*to);
    // Whatever is wanted stands before this.
    let end = after.as_ref().filter(|after| **after < end).unwrap_or(&end);
    // One more, because the list goes on at the event that the page before has ended with.
    let mut places = index.newest(event_type, Some(end), Some(*from), count.saturating_add(1)).await?;
    places.retain(|place| place.position() < *end);
    places.truncate(count);
    Ok(places)
}
