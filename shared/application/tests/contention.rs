//! Commands that come to one order at the same moment are all decided.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that panics has failed, as it should")]

use std::time::Duration;

use application::{
    event_store::{AppendError, Appended, Beginning, Commit, EventStore, Metadata, Snapshot, StreamId, Unavailable},
    event_stream::{CommandError, OrderStream},
    memory::MemoryEventStore,
    shop::{FORWARD, Shop},
};
use domain::{
    ids::OrderId,
    order::{OrderEvent, cancel::CancelRejection, request_refund::RefundRejection},
    text::Text,
};
use futures_util::future::join_all;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// Twice as many as the order's payment has room for.
const AT_ONCE: usize = 30;

#[tokio::test]
async fn refunds_at_the_same_moment_are_all_decided() {
    let (shop, id) = (Shop::with_stock(10).await, OrderId::derive("anna", "contention"));
    shop.place(id, "pm_card_visa").await.unwrap();
    for step in FORWARD {
        shop.run(step, id).await.unwrap();
    }
    let names: Vec<String> = (0..AT_ONCE).map(|number| format!("refund {number}")).collect();
    let outcomes = join_all(names.iter().map(|name| shop.request_refund(id, name, 260))).await;
    let accepted = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let refused = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Err(CommandError::Rejected(RefundRejection::TooMuch { .. }))))
        .count();
    assert_eq!((accepted, refused), (15, AT_ONCE - 15), "{outcomes:?}");
}

/// A store in which others are always first, and every pause takes this long.
struct Overrun(MemoryEventStore, Duration);

impl EventStore for Overrun {
    async fn read_first(&self, stream: &StreamId, limit: u32) -> Result<Beginning, Unavailable> {
        self.0.read_first(stream, limit).await
    }

    async fn read(&self, stream: &StreamId, after: u64) -> Result<Vec<Commit>, Unavailable> {
        self.0.read(stream, after).await
    }

    async fn read_each(&self, commits: &[(StreamId, u64)]) -> Result<Vec<Commit>, Unavailable> {
        self.0.read_each(commits).await
    }

    async fn append(&self, _: &Commit) -> Result<Appended, AppendError> {
        Err(AppendError::Conflict)
    }

    async fn pause(&self, _: u32) {
        sleep(self.1).await;
    }

    async fn snapshot(&self, stream: &StreamId) -> Option<Snapshot> {
        self.0.snapshot(stream).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_that_is_never_first_is_given_up_while_its_caller_waits() {
    for pause in [0, 100, 1_000, 3_000] {
        let store = Overrun(MemoryEventStore::default(), Duration::from_millis(pause));
        let id = OrderId::derive("anna", "contention");
        let metadata = Metadata {
            command_id: Uuid::from_u128(1),
            fingerprint: String::new(),
            actor: String::new(),
            correlation_id: String::new(),
            causation_id: String::new(),
            traceparent: None,
            occurred_at: chrono::DateTime::UNIX_EPOCH,
        };
        let event = OrderEvent::OrderCancelRequested { reason: Text::parse("late").unwrap(), note: None };
        let mut stream = OrderStream::open(&store, id).await.unwrap();
        let started = Instant::now();
        let outcome = stream.commit(&metadata, |_| Ok::<_, CancelRejection>(vec![event.clone()])).await;
        assert!(matches!(outcome, Err(CommandError::Contended)), "{outcome:?}");
        assert!(started.elapsed() <= Duration::from_secs(8), "{:?}", started.elapsed());
    }
}
