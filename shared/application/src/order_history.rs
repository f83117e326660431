//! An order's audit trail, and the order as it was at any point of it.

use chrono::{DateTime, Utc};
use domain::{
    customer::{Customer, CustomerEvent},
    ids::OrderId,
    order::{Order, OrderEvent},
    order_view::OrderView,
    stored_event::UnreadableEvent,
};
use serde::Serialize;

use crate::{
    event_store::{Commit, EventStore, Metadata, RecordedEvent, StreamId},
    event_stream::{Aggregate, LoadError},
    page::{PAGE_BYTES_MAX, Room},
    past_commits::PastCommits,
};

/// Up to where the history is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// This event included.
    Version(u64),
    /// Whatever had happened before this time.
    Before(DateTime<Utc>),
    Now,
}

/// What has happened to an order, and what that made of it.
#[derive(Debug, Clone, PartialEq)]
pub struct OrderHistory {
    pub events: Vec<PastEvent>,
    /// The order as it was after the last of these events.
    pub order: OrderView,
}

/// One event, with who, why and when.
#[derive(Debug, Clone, PartialEq)]
pub struct PastEvent {
    pub version: u64,
    pub event: EventOfAny,
    pub metadata: Metadata,
}

/// An event of whichever aggregate, in the newest schema of its type.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum EventOfAny {
    Order(OrderEvent),
    Customer(CustomerEvent),
}

impl EventOfAny {
    pub fn read(recorded: &RecordedEvent) -> Result<Self, UnreadableEvent> {
        if CustomerEvent::TYPES.contains(&recorded.event_type.as_str()) {
            Customer::read(recorded).map(Self::Customer)
        } else {
            Order::read(recorded).map(Self::Order)
        }
    }

    pub fn event_type(&self) -> &'static str {
        match self {
            Self::Order(event) => event.event_type(),
            Self::Customer(event) => event.event_type(),
        }
    }
}

/// About what an event takes in an answer beside the JSON of its data.
const EVENT_BYTES: usize = 1024;

impl PastEvent {
    /// About how many bytes an answer needs to tell it.
    pub fn json_bytes(&self) -> usize {
        // Whatever was read from JSON can be written as such; what could not would have a page of its own.
        serde_json::to_vec(&self.event).map_or(PAGE_BYTES_MAX, |json| json.len().saturating_add(EVENT_BYTES))
    }
}

impl OrderHistory {
    /// Of the events after this one, as many as one page has; and the last of them, when others follow.
    pub fn page_after(&self, version: u64) -> (&[PastEvent], Option<u64>) {
        let rest = self.events.get(self.events.partition_point(|event| event.version <= version)..).unwrap_or_default();
        let mut room = Room::default();
        let count = rest.iter().take_while(|event| room.take(event.json_bytes())).count();
        let page = rest.get(..count).unwrap_or(rest);
        (page, page.last().filter(|_| count < rest.len()).map(|event| event.version))
    }
}

impl Until {
    /// Whether what is told up to there is all in these commits, the first ones of a stream.
    fn is_told_by(self, commits: &[Commit]) -> bool {
        match self {
            Self::Version(last) => commits.last().is_some_and(|commit| commit.last_version() >= last),
            Self::Before(time) => commits.iter().any(|commit| commit.metadata.occurred_at >= time),
            Self::Now => false,
        }
    }
}

/// `None` when there was no such order by then. What `past` has of its stream is not read again; answers also whether that
/// was all.
pub async fn order_history(
    past: &PastCommits,
    store: &impl EventStore,
    id: OrderId,
    until: Until,
) -> Result<(Option<OrderHistory>, bool), LoadError> {
    let stream = StreamId::order(id);
    let mut commits = past.of(&stream);
    let is_known = until.is_told_by(&commits);
    if !is_known {
        let newer = store.read(&stream, commits.last().map_or(0, Commit::last_version)).await?;
        if !newer.is_empty() {
            commits = [commits.as_ref(), newer.as_slice()].concat().into();
            past.keep(stream, &commits);
        }
    }
    Ok((told(&commits, id, until)?, is_known))
}

fn told(commits: &[Commit], id: OrderId, until: Until) -> Result<Option<OrderHistory>, UnreadableEvent> {
    let mut events = Vec::new();
    let mut view = None;
    // The events of two commits may bear times in the wrong order; what was there is what came before the first too late.
    let told =
        commits.iter().flat_map(|commit| commit.numbered().map(move |(version, event)| (commit, version, event)));
    let told = told.take_while(|(commit, version, _)| match until {
        Until::Version(last) => *version <= last,
        Until::Before(time) => commit.metadata.occurred_at < time,
        Until::Now => true,
    });
    for (commit, version, event) in told {
        let event = event.read()?;
        view = OrderView::evolve(view, id, &event, version, commit.metadata.occurred_at);
        events.push(PastEvent { version, event: EventOfAny::Order(event), metadata: commit.metadata.clone() });
    }
    Ok(view.map(|order| OrderHistory { events, order: order.shown() }))
}
