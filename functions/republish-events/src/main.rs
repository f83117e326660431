//! An operator's tool → an order's events, or a customer's, on the bus once more.
//!
//! `make republish ORDER=<id>` calls it, until there is no `next_after` any more. What it does is
//! [`application::republish_events::republish_events`].

use adapters::{aws, dynamodb::DynamoEventStore, event_bridge::EventBridgeBus, lambda};
use application::{
    event_store::{AggregateId, EventStore, StreamId},
    ports::EventBus,
    republish_events::{RepublishError, Republished, republish_events},
};
use serde::Deserialize;
use tracing::info;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let config = aws::config();
    let store = DynamoEventStore::new(aws_sdk_dynamodb::Client::new(&config), lambda::variable("EVENTS_TABLE")?);
    let bus = EventBridgeBus::new(aws_sdk_eventbridge::Client::new(&config), lambda::variable("EVENT_BUS")?);
    lambda::run_tool(RepublishError::error_type, async |events| handle(&store, &bus, events).await).await
}

#[derive(Debug, Deserialize)]
struct Republish {
    #[serde(flatten)]
    of: AggregateId,
    /// Only events that come after this number.
    #[serde(default)]
    after: u64,
}

async fn handle(
    store: &impl EventStore,
    bus: &impl EventBus,
    Republish { of, after }: Republish,
) -> Result<Republished, RepublishError> {
    let stream = StreamId::from(&of);
    let republished = republish_events(store, bus, &stream, after).await?;
    info!(stream = stream.as_str(), after, events = republished.events, "events published again");
    Ok(republished)
}

#[cfg(test)]
mod tests {
    use adapters::{event_bridge::Detail, lambda::read_batch};
    use application::{
        memory::{MemoryEventBus, MemoryEventStore},
        ports::PublishedEvent,
    };

    use super::*;

    const SAMPLE: &str = include_str!("../../../events/republish-events.json");

    #[tokio::test]
    async fn the_sample_publishes_an_orders_events_as_publish_events_did() {
        let (commits, _) =
            read_batch(serde_json::from_str(include_str!("../../../events/publish-events.json")).unwrap());
        let (store, bus) = (MemoryEventStore::default(), MemoryEventBus::default());
        store.append(&commits[0]).await.unwrap();
        let sample = || serde_json::from_str::<Republish>(SAMPLE).unwrap();
        assert_eq!(handle(&store, &bus, sample()).await.unwrap(), Republished { events: 1, next_after: None });
        let details: Vec<Detail> = bus.published().iter().map(Detail::of).collect();
        assert_eq!(details, PublishedEvent::of(&commits[0]).map(|event| Detail::of(&event)).collect::<Vec<_>>());
        let later = Republish { after: 1, ..sample() };
        assert_eq!(handle(&store, &bus, later).await.unwrap().events, 0);
    }

    #[tokio::test]
    async fn a_customers_events_are_published_too_and_nobodys_are_refused() {
        let (store, bus) = (MemoryEventStore::default(), MemoryEventBus::default());
        let ask: Republish = serde_json::from_str(r#"{"customer_id": "auth0|anna"}"#).unwrap();
        assert_eq!(StreamId::from(&ask.of).as_str(), "customer#auth0|anna");
        let error = handle(&store, &bus, ask).await.unwrap_err();
        assert_eq!(error.error_type(), "NoSuchStream");
        assert!(serde_json::from_str::<Republish>(r#"{"after": 3}"#).is_err());
    }
}
