//! Event table's stream → every event on the `EventBridge` bus, at least once.
//!
//! What it does with a batch is [`application::publish_events::publish_events`].

use adapters::{aws, dynamodb::DynamoDeadLetters, event_bridge::EventBridgeBus, lambda};
use application::{
    dead_letters::NotHandled,
    event_store::Commit,
    ports::{Consumer, DeadLetters, EventBus},
    publish_events::{Outcome, Published, publish_events},
};
use tracing::{info, warn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let config = aws::config();
    let bus = EventBridgeBus::new(aws_sdk_eventbridge::Client::new(&config), lambda::variable("EVENT_BUS")?);
    let table = lambda::variable("DEAD_LETTERS_TABLE")?;
    let letters = DynamoDeadLetters::new(aws_sdk_dynamodb::Client::new(&config), table);
    let published = Published::default();
    lambda::run_stream(Consumer::PublishEvents, &letters, async |commits| {
        handle(&bus, &letters, &published, commits).await
    })
    .await
}

/// Publishes what of the batch can be, and answers what cannot.
async fn handle(
    bus: &impl EventBus,
    letters: &impl DeadLetters,
    published: &Published,
    commits: Vec<Commit>,
) -> Vec<NotHandled> {
    let Outcome { published, waiting, not_handled } = publish_events(bus, letters, published, &commits).await;
    for commit in published {
        let (stream, version, correlation_id) =
            (commit.stream.as_str(), commit.last_version(), &commit.metadata.correlation_id);
        info!(stream, version, correlation_id, "events published");
    }
    for stream in waiting {
        warn!(stream = stream.as_str(), "events line up behind what waits");
    }
    for NotHandled { stream, versions: (version, _), failure, .. } in &not_handled {
        warn!(stream = stream.as_str(), version, error = failure.error, "events not published");
    }
    not_handled
}

#[cfg(test)]
mod tests {
    use adapters::{
        event_bridge::Detail,
        lambda::{Unreadable, read_batch},
    };
    use application::{
        dead_letters::{Pace, Republication, Settle, Wanted, redrive_streams},
        event_store::{EventStore, StreamId},
        memory::{MemoryDeadLetters, MemoryEventBus, MemoryEventStore},
        ports::{Failure, SettledAs, Settlement},
    };
    use domain::ids::OrderId;
    use telemetry::logs::logged;
    use uuid::Uuid;

    use super::*;

    const SAMPLE: &str = include_str!("../../../events/publish-events.json");

    #[derive(Default)]
    struct Shop {
        bus: MemoryEventBus,
        letters: MemoryDeadLetters,
        published: Published,
    }

    impl Shop {
        /// How many commits have to come again.
        async fn consume(&self, commits: &[Commit]) -> usize {
            let consume = async |commits| handle(&self.bus, &self.letters, &self.published, commits).await;
            let batch = (commits.to_vec(), Unreadable::default());
            lambda::consume_batch(Consumer::PublishEvents, &self.letters, &consume, batch).await
        }

        /// The same service in another process.
        fn elsewhere(self) -> Self {
            Self { published: Published::default(), ..self }
        }

        fn versions_of(&self, stream: &StreamId) -> Vec<u64> {
            let published = self.bus.published();
            published.iter().filter(|event| event.stream == *stream).map(|event| event.version).collect()
        }
    }

    fn sample() -> Vec<Commit> {
        read_batch(serde_json::from_str(SAMPLE).unwrap()).0
    }

    fn commit(order: u128, version: u64, event_type: &str) -> Commit {
        let mut commit = sample().remove(0);
        commit.stream = StreamId::order(OrderId::new(Uuid::from_u128(order)));
        commit.version = version;
        event_type.clone_into(&mut commit.events[0].event_type);
        commit
    }

    #[tokio::test]
    async fn the_sample_commit_is_published_with_its_metadata() {
        let shop = Shop::default();
        let (failed, lines) = logged(handle(&shop.bus, &shop.letters, &shop.published, sample())).await;
        assert!(failed.is_empty());
        let [line] = lines.as_slice() else { panic!("{lines:?}") };
        assert!(line.contains("sample-1") && line.len() <= 200, "{line}");
        let detail = Detail::of(&shop.bus.published()[0]);
        assert_eq!(detail.metadata.event_type, "OrderCreated");
        assert_eq!(detail.metadata.event_id, format!("{}/1", detail.metadata.aggregate_id));
        assert_eq!(detail.metadata.correlation_id, "sample-1");
        assert_eq!(detail.data["total_amount"]["amount"], 3998);
    }

    #[tokio::test]
    async fn events_that_the_bus_does_not_take_fail_the_batch() {
        let shop = Shop::default();
        shop.bus.set_down(true);
        let (failed, lines) = logged(handle(&shop.bus, &shop.letters, &shop.published, sample())).await;
        assert_eq!((failed.len(), failed[0].is_lasting), (1, false));
        let says =
            ["order#0197a3c2-7b1e-5c44-9d55-3f1f5c0c9a10", "\"version\":1", "\"error\":", "events not published"];
        assert!(says.iter().all(|part| lines[0].contains(part)), "{lines:?}");
        shop.bus.set_down(false);
        assert_eq!(shop.consume(&sample()).await, 0);
    }

    #[tokio::test]
    async fn an_event_that_the_bus_refuses_has_its_order_wait_and_no_other_and_comes_with_all_behind_it() {
        let shop = Shop::default();
        shop.bus.refuse("InventoryReserved", true);
        let batch = [
            commit(1, 1, "OrderCreated"),
            commit(2, 1, "OrderCreated"),
            commit(1, 2, "InventoryReserved"),
            commit(1, 3, "PaymentCompleted"),
            commit(3, 1, "OrderCreated"),
        ];
        assert_eq!(shop.consume(&batch).await, 0);
        let waits = shop.letters.parked(Consumer::PublishEvents, &batch[0].stream).await.unwrap().unwrap();
        assert_eq!((waits.first_version, waits.last_version, waits.failure.error_type.as_str()), (2, 3, "Refused"));
        for order in [2, 3] {
            assert_eq!(shop.versions_of(&commit(order, 1, "").stream), [1]);
        }
        // What stood behind it in its batch is there before it: the bus takes each by itself.
        assert_eq!(shop.versions_of(&batch[0].stream), [1, 3]);
        // Another process is given what comes later, and the bus would take it.
        shop.bus.refuse("InventoryReserved", false);
        let shop = shop.elsewhere();
        let later = [commit(1, 4, "ShipmentCreated"), commit(2, 2, "InventoryReserved")];
        assert_eq!(shop.consume(&later).await, 0);
        assert_eq!(shop.versions_of(&batch[0].stream), [1, 3]);
        assert_eq!(shop.versions_of(&batch[1].stream), [1, 2]);
        let waits = shop.letters.parked(Consumer::PublishEvents, &batch[0].stream).await.unwrap().unwrap();
        assert_eq!((waits.first_version, waits.last_version), (2, 4));
        // None is lost: from that event on, all of its order go out, also the one that was there before it.
        let store = MemoryEventStore::default();
        for commit in batch.iter().chain(&later).filter(|commit| commit.stream == batch[0].stream) {
            store.append(commit).await.unwrap();
        }
        let at = batch[0].metadata.occurred_at;
        let settlement = Settlement {
            settled_as: SettledAs::Redriven,
            by: "staff:anna".to_owned(),
            reason: "mended".to_owned(),
            at,
        };
        let (wanted, pace) = (Wanted::default(), Pace::new(50));
        let redrive = Settle { wanted, settlement, dry_run: false, after: None, pace };
        let redelivery = Republication { store: &store, bus: &shop.bus };
        let redriven = redrive_streams(&redelivery, &shop.letters, &redrive, at).await.unwrap();
        assert_eq!((redriven.matching, redriven.done), (1, 1));
        assert_eq!(shop.versions_of(&batch[0].stream), [1, 3, 2, 3, 4]);
        assert_eq!(shop.versions_of(&batch[1].stream), [1, 2]);
    }

    #[tokio::test]
    async fn nobody_is_asked_about_streams_that_a_process_has_followed_from_their_beginning() {
        let shop = Shop::default();
        for version in 1..=5 {
            assert_eq!(
                shop.consume(&[commit(1, version, "OrderCreated"), commit(2, version, "OrderCreated")]).await,
                0
            );
        }
        assert_eq!(shop.letters.asked(), 0);
        let shop = shop.elsewhere();
        for version in 6..=8 {
            assert_eq!(
                shop.consume(&[commit(1, version, "OrderCreated"), commit(2, version, "OrderCreated")]).await,
                0
            );
        }
        assert_eq!(shop.letters.asked(), 1, "and once about those that it has not");
        // Here a commit is missing that another process was given.
        assert_eq!(shop.consume(&[commit(1, 10, "OrderCreated")]).await, 0);
        assert_eq!(shop.letters.asked(), 2);
    }

    #[tokio::test]
    async fn where_nobody_says_whether_an_order_waits_it_comes_again() {
        let shop = Shop::default();
        shop.letters.faults.push(application::memory::Fault::BeforeEffect);
        let batch = [commit(1, 5, "ShipmentCreated"), commit(2, 1, "OrderCreated")];
        assert_eq!(shop.consume(&batch).await, 1);
        assert_eq!(shop.versions_of(&batch[0].stream), Vec::<u64>::new());
        assert_eq!(shop.consume(&batch).await, 0);
        assert_eq!(shop.versions_of(&batch[0].stream), [5]);
    }

    /// In a process that has just begun, as in one that has followed the order so far: what comes before the record is published, and what
    /// comes after it does not overtake it.
    #[tokio::test]
    async fn what_stands_in_one_batch_with_a_record_that_is_no_commit_is_published_before_it_and_waits_behind_it() {
        for has_followed in [true, false] {
            let mut shop = Shop::default();
            for version in 1..=3 {
                assert_eq!(shop.consume(&[commit(1, version, "OrderCreated")]).await, 0);
            }
            if !has_followed {
                shop = shop.elsewhere();
            }
            let stream = commit(1, 1, "").stream;
            let unreadable = NotHandled {
                stream: stream.clone(),
                versions: (5, 5),
                commits: 1,
                failure: Failure::new("NotACommit", ""),
                is_lasting: true,
            };
            let consume = async |commits| handle(&shop.bus, &shop.letters, &shop.published, commits).await;
            let commits = vec![commit(1, 4, "OrderCreated"), commit(1, 6, "OrderCreated")];
            // The first time, the bus is down.
            for come_again in [3, 0] {
                shop.bus.set_down(come_again > 0);
                let unreadable = Unreadable { streams: vec![unreadable.clone()], nameless: 0 };
                let batch = (commits.clone(), unreadable);
                let failed = lambda::consume_batch(Consumer::PublishEvents, &shop.letters, &consume, batch).await;
                assert_eq!(failed, come_again);
            }
            assert_eq!(shop.consume(&[commit(1, 7, "OrderCreated")]).await, 0);
            let waits = shop.letters.parked(Consumer::PublishEvents, &stream).await.unwrap().unwrap();
            assert_eq!((waits.first_version, waits.last_version), (5, 7));
            assert_eq!(shop.versions_of(&stream), [1, 2, 3, 4]);
        }
    }
}
