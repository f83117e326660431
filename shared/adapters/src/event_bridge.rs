//! Publishes events to an `EventBridge` bus, and says what becomes of them there.

use std::time::Duration;

use application::{
    event_store::BoxError,
    ports::{EventBus, NotPublished, PublishError, PublishedEvent},
};
use aws_sdk_eventbridge::{
    Client,
    types::{PutEventsRequestEntry, PutEventsResultEntry},
};
use domain::{customer::CustomerEvent, order::OrderEvent};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// The `Source` of every event of this service.
const SOURCE: &str = "order-service";

/// Limits of one `PutEvents` call: 10 entries, 256 KB in all (`EventBridge` quotas; some regions allow more).
const ENTRIES_MAX: usize = 10;
const REQUEST_BYTES_MAX: usize = 256 * 1024;

/// How often entries that `EventBridge` refused are offered again before the whole batch comes again.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(100);

/// An event as the bus hands it to a rule's targets.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct BusEvent {
    pub detail: Detail,
}

/// The `detail` of an event on the bus.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Detail {
    pub metadata: DetailMetadata,
    /// The event's fields. Null when they would not fit; then `metadata.data_omitted` is true and whoever needs them
    /// reads the event table. The messages of this service's own queues have none.
    #[serde(default)]
    pub data: Value,
}

/// What every consumer may rely on, whatever the event's type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DetailMetadata {
    /// `<order id>/<sequence>`: the same however often the event is delivered.
    pub event_id: String,
    pub event_type: String,
    /// The schema version of `data`, which each type counts for itself. The bus's first messages did not say it.
    #[serde(default = "first_schema")]
    pub schema: u32,
    pub aggregate_type: String,
    pub aggregate_id: String,
    /// The event's number in its stream, from 1.
    pub sequence: u64,
    pub occurred_at: chrono::DateTime<chrono::Utc>,
    pub command_id: Uuid,
    pub correlation_id: String,
    pub causation_id: String,
    pub traceparent: Option<String>,
    pub actor: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub data_omitted: bool,
    /// Which members of `data` are personal. A rule can leave out `data`, or a consumer these, before it keeps anything.
    #[serde(default)]
    pub personal: Vec<String>,
}

fn first_schema() -> u32 {
    1
}

impl Detail {
    pub fn of(published: &PublishedEvent) -> Self {
        let PublishedEvent { stream, version, event, metadata } = published;
        let (aggregate_type, aggregate_id) = stream.as_str().split_once('#').unwrap_or(("", stream.as_str()));
        let fields_of =
            if stream.order_id().is_some() { OrderEvent::personal_fields } else { CustomerEvent::personal_fields };
        let personal = fields_of(&event.event_type).iter().map(|field| (*field).to_owned()).collect();
        Self {
            metadata: DetailMetadata {
                event_id: format!("{aggregate_id}/{version}"),
                event_type: event.event_type.clone(),
                schema: event.schema,
                aggregate_type: aggregate_type.to_owned(),
                aggregate_id: aggregate_id.to_owned(),
                sequence: *version,
                occurred_at: metadata.occurred_at,
                command_id: metadata.command_id,
                correlation_id: metadata.correlation_id.clone(),
                causation_id: metadata.causation_id.clone(),
                traceparent: metadata.traceparent.clone(),
                actor: metadata.actor.clone(),
                data_omitted: false,
                personal,
            },
            data: event.data.clone(),
        }
    }

    fn without_data(mut self) -> Self {
        self.data = Value::Null;
        self.metadata.data_omitted = true;
        self
    }
}

/// A bus of `EventBridge`.
pub struct EventBridgeBus {
    client: Client,
    name: String,
}

impl EventBridgeBus {
    pub fn new(client: Client, name: String) -> Self {
        Self { client, name }
    }

    fn entry(&self, published: &PublishedEvent) -> Result<(PutEventsRequestEntry, usize), serde_json::Error> {
        let detail = Detail::of(published);
        let mut text = serde_json::to_string(&detail)?;
        if entry_bytes(&text, &detail) > REQUEST_BYTES_MAX {
            text = serde_json::to_string(&detail.clone().without_data())?;
        }
        let bytes = entry_bytes(&text, &detail);
        let entry = PutEventsRequestEntry::builder()
            .event_bus_name(&self.name)
            .source(SOURCE)
            .detail_type(&detail.metadata.event_type)
            .detail(text)
            .build();
        Ok((entry, bytes))
    }

    /// Sends up to ten entries; offers again those that were not taken and may be. Answers which were not taken to the end.
    async fn put(&self, entries: Vec<(usize, PutEventsRequestEntry)>) -> Result<Vec<NotPublished>, BoxError> {
        let (mut left, mut not_taken) = (entries, Vec::new());
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(PAUSE.saturating_mul(attempt)).await;
            }
            let sent = left.iter().map(|(_, entry)| entry.clone()).collect();
            let answer = self.client.put_events().set_entries(Some(sent)).send().await?;
            left = not_taken_yet(left, answer.entries(), &mut not_taken);
            if left.is_empty() {
                break;
            }
        }
        not_taken.extend(left.into_iter().map(|(index, _)| NotPublished { index, refused: false }));
        Ok(not_taken)
    }
}

/// As `EventBridge` counts an entry: source, detail type and detail in UTF-8.
fn entry_bytes(text: &str, detail: &Detail) -> usize {
    text.len().saturating_add(SOURCE.len()).saturating_add(detail.metadata.event_type.len())
}

/// What `EventBridge` answers about an entry that it takes at no time. Other errors are about the bus, its load or the caller's rights.
const REFUSALS: [&str; 2] = ["InvalidArgument", "MalformedDetail"];

/// The entries that may be taken another time: those whose answer carries an error code, or that have no answer. Those that are refused
/// as such are noted.
fn not_taken_yet(
    entries: Vec<(usize, PutEventsRequestEntry)>,
    answers: &[PutEventsResultEntry],
    refused: &mut Vec<NotPublished>,
) -> Vec<(usize, PutEventsRequestEntry)> {
    let mut left = Vec::new();
    for (place, (index, entry)) in entries.into_iter().enumerate() {
        match answers.get(place).map(PutEventsResultEntry::error_code) {
            Some(None) => {}
            Some(Some(code)) if REFUSALS.contains(&code) => refused.push(NotPublished { index, refused: true }),
            Some(Some(_)) | None => left.push((index, entry)),
        }
    }
    left
}

/// Splits into requests within the limits, in order; each entry with its place among all.
fn requests(entries: Vec<(PutEventsRequestEntry, usize)>) -> Vec<Vec<(usize, PutEventsRequestEntry)>> {
    let mut requests: Vec<Vec<(usize, PutEventsRequestEntry)>> = Vec::new();
    let mut room = 0_usize;
    for (index, (entry, bytes)) in entries.into_iter().enumerate() {
        match requests.last_mut() {
            Some(request) if request.len() < ENTRIES_MAX && bytes <= room => {
                request.push((index, entry));
                room = room.saturating_sub(bytes);
            }
            _ => {
                requests.push(vec![(index, entry)]);
                room = REQUEST_BYTES_MAX.saturating_sub(bytes);
            }
        }
    }
    requests
}

impl EventBus for EventBridgeBus {
    async fn publish(&self, events: &[PublishedEvent]) -> Result<(), PublishError> {
        let from = |index: usize| (index..events.len()).map(|index| NotPublished { index, refused: false });
        let mut entries = Vec::with_capacity(events.len());
        for event in events {
            let entry = self.entry(event);
            entries.push(entry.map_err(|error| PublishError { events: from(0).collect(), source: error.into() })?);
        }
        let mut not_taken = Vec::new();
        for request in requests(entries) {
            let first = request.first().map_or(events.len(), |(index, _)| *index);
            match self.put(request).await {
                Ok(these) => not_taken.extend(these),
                // Then the bus is not there, and nothing more is tried.
                Err(source) => {
                    not_taken.extend(from(first));
                    return Err(PublishError { events: not_taken, source });
                }
            }
        }
        if not_taken.is_empty() {
            Ok(())
        } else {
            Err(PublishError { events: not_taken, source: "the bus refused entries to the end".into() })
        }
    }
}

#[cfg(test)]
mod tests {
    use application::event_store::{Metadata, RecordedEvent, StreamId};

    use super::*;

    fn entry(id: usize) -> PutEventsRequestEntry {
        PutEventsRequestEntry::builder().detail(id.to_string()).build()
    }

    #[test]
    fn requests_hold_at_most_ten_entries_and_256_kb() {
        let sizes = |sizes: Vec<usize>| -> Vec<usize> {
            let entries = sizes.into_iter().enumerate().map(|(id, bytes)| (entry(id), bytes)).collect();
            requests(entries).iter().map(Vec::len).collect()
        };
        assert_eq!(sizes(vec![]), Vec::<usize>::new());
        assert_eq!(sizes(vec![1; 23]), [10, 10, 3]);
        assert_eq!(sizes(vec![200 * 1024, 56 * 1024, 1]), [2, 1]);
    }

    fn published(data: Value) -> PublishedEvent {
        PublishedEvent {
            stream: StreamId::new("order#1".to_owned()),
            version: 2,
            event: RecordedEvent { event_type: "InventoryReserved".to_owned(), schema: 2, data },
            metadata: Metadata {
                command_id: Uuid::nil(),
                fingerprint: String::new(),
                actor: "service:reserve-inventory".to_owned(),
                correlation_id: "c".to_owned(),
                causation_id: "1/1".to_owned(),
                traceparent: None,
                occurred_at: chrono::DateTime::UNIX_EPOCH,
            },
        }
    }

    #[test]
    fn an_event_that_does_not_fit_goes_out_without_its_data_and_says_so() {
        let config = aws_sdk_eventbridge::Config::builder().behavior_version_latest().build();
        let bus = EventBridgeBus::new(Client::from_conf(config), "bus".to_owned());
        let detail = |data: Value| -> Detail {
            let (entry, bytes) = bus.entry(&published(data)).unwrap();
            assert!(bytes <= REQUEST_BYTES_MAX);
            serde_json::from_str(entry.detail().unwrap()).unwrap()
        };
        let small = detail(Value::String("x".repeat(200 * 1024)));
        assert!(!small.metadata.data_omitted && !small.data.is_null());
        let large = detail(Value::String("x".repeat(300 * 1024)));
        assert!(large.metadata.data_omitted && large.data.is_null());
        assert_eq!((large.metadata.event_type.as_str(), large.metadata.schema), ("InventoryReserved", 2));
        assert_eq!((large.metadata.event_id.as_str(), large.metadata.sequence), ("1/2", 2));
    }

    #[test]
    fn what_may_be_taken_another_time_is_offered_again_and_nothing_else() {
        let answer =
            |code: Option<&str>| PutEventsResultEntry::builder().set_error_code(code.map(str::to_owned)).build();
        let answers = [answer(None), answer(Some("ThrottlingException")), answer(Some("MalformedDetail"))];
        let mut refused = Vec::new();
        let entries = (0..4).map(|id| (id, entry(id))).collect();
        assert_eq!(not_taken_yet(entries, &answers, &mut refused), [(1, entry(1)), (3, entry(3))]);
        assert_eq!(refused, [NotPublished { index: 2, refused: true }]);
    }
}
