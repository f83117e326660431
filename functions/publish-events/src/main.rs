//! Event table's stream → every event on the `EventBridge` bus, at least once.

use adapters::{aws, event_bridge::EventBridgeBus, lambda};
use application::{
    event_store::Commit,
    ports::{EventBus, PublishedEvent},
};
use aws_sdk_eventbridge::Client;
use tracing::{info, warn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let bus = EventBridgeBus::new(Client::new(&aws::config()), lambda::variable("EVENT_BUS")?);
    lambda::run_stream(async |commits| handle(&bus, commits).await).await
}

/// Publishes the batch as a whole and answers how many events did not get through.
async fn handle(bus: &impl EventBus, commits: Vec<Commit>) -> usize {
    let events: Vec<PublishedEvent> = commits.iter().flat_map(PublishedEvent::of).collect();
    let failure = bus.publish(&events).await.err();
    let error = failure.as_ref().map(|failure| lambda::chain(failure));
    for commit in &commits {
        let (stream, version, correlation_id) =
            (commit.stream.as_str(), commit.last_version(), &commit.metadata.correlation_id);
        match &error {
            None => info!(stream, version, correlation_id, "events published"),
            // When the batch is given up, this is what says what to publish again.
            Some(error) => warn!(stream, version, correlation_id, error, "events not published"),
        }
    }
    failure.map_or(0, |failure| failure.undelivered)
}

#[cfg(test)]
mod tests {
    use adapters::{event_bridge::Detail, lambda::read_batch};
    use application::memory::MemoryEventBus;
    use telemetry::logs::logged;

    use super::*;

    const SAMPLE: &str = include_str!("../../../events/publish-events.json");

    #[tokio::test]
    async fn the_sample_commit_is_published_with_its_metadata() {
        let bus = MemoryEventBus::default();
        let (commits, _) = read_batch(serde_json::from_str(SAMPLE).unwrap());
        let (failed, lines) = logged(handle(&bus, commits)).await;
        assert_eq!(failed, 0);
        let [line] = lines.as_slice() else { panic!("{lines:?}") };
        assert!(line.contains("sample-1") && line.len() <= 200, "{line}");
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
        let (failed, lines) = logged(handle(&bus, commits.clone())).await;
        assert_eq!(failed, 1);
        let says = [
            "order#0197a3c2-7b1e-5c44-9d55-3f1f5c0c9a10",
            "sample-1",
            "\"version\":1",
            "\"error\":",
            "events not published",
        ];
        assert!(says.iter().all(|part| lines[0].contains(part)), "{lines:?}");
        bus.set_down(false);
        assert_eq!(handle(&bus, commits).await, 0);
    }
}
