//! Event table's stream → every event on the `EventBridge` bus, at least once.

use std::collections::BTreeSet;

use adapters::{aws, event_bridge::EventBridgeBus, lambda};
use application::{
    event_store::Commit,
    ports::{EventBus, PublishedEvent},
};
use aws_sdk_eventbridge::Client;
use tracing::{info, warn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init_logs();
    let bus = EventBridgeBus::new(Client::new(&aws::config().await), lambda::variable("EVENT_BUS")?);
    lambda::run_stream(async |commits| handle(&bus, commits).await).await
}

/// Publishes the batch as a whole and answers how many events did not get through.
async fn handle(bus: &impl EventBus, commits: Vec<Commit>) -> usize {
    let events: Vec<PublishedEvent> = commits.iter().flat_map(PublishedEvent::of).collect();
    for event in &events {
        info!(
            stream = event.stream.as_str(),
            version = event.version,
            event_type = event.event.event_type,
            correlation_id = event.metadata.correlation_id,
            "publishing event"
        );
    }
    match bus.publish(&events).await {
        Ok(()) => 0,
        Err(error) => {
            let streams: BTreeSet<&str> = events.iter().map(|event| event.stream.as_str()).collect();
            let streams = streams.into_iter().collect::<Vec<_>>().join(" ");
            // When the batch is given up, this is what says what to publish again.
            warn!(streams, error = lambda::chain(&error), "events not published");
            error.undelivered
        }
    }
}

#[cfg(test)]
mod tests {
    use adapters::{event_bridge::Detail, lambda::read_batch};
    use application::memory::MemoryEventBus;

    use super::*;

    const SAMPLE: &str = include_str!("../../../events/publish-events.json");

    #[tokio::test]
    async fn the_sample_commit_is_published_with_its_metadata() {
        let bus = MemoryEventBus::default();
        let (commits, _) = read_batch(serde_json::from_str(SAMPLE).unwrap());
        assert_eq!(handle(&bus, commits).await, 0);
        let detail = Detail::of(&bus.published()[0]);
        assert_eq!(detail.metadata.event_type, "OrderCreated");
        assert_eq!(detail.metadata.event_id, format!("{}/1", detail.metadata.aggregate_id));
        assert_eq!(detail.metadata.correlation_id, "sample-1");
        assert_eq!(detail.data["total_amount"]["amount"], 3998);
    }

    #[tokio::test]
    async fn events_that_the_bus_does_not_take_fail_the_batch() {
        let bus = MemoryEventBus::default();
        bus.set_down(true);
        let (commits, _) = read_batch(serde_json::from_str(SAMPLE).unwrap());
        assert_eq!(handle(&bus, commits.clone()).await, 1);
        bus.set_down(false);
        assert_eq!(handle(&bus, commits).await, 0);
    }
}
