//! A stream that is loaded from a snapshot is the stream that is loaded from its start.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

use application::{
    event_store::Snapshot,
    event_store::{Commit, EventStore, Metadata, RecordedEvent, StreamId},
    event_stream::{CommandError, Committed, OrderStream},
    memory::MemoryEventStore,
    ports::Snapshots,
    take_snapshot::{EVERY, Taken, take_snapshot},
};
use chrono::DateTime;
use domain::{
    ids::OrderId,
    order::{Order, OrderEvent},
};
use proptest::{collection::vec, prelude::*, sample::Index};
use serde_json::json;
use uuid::Uuid;

/// One event of each type, in each schema that it was ever stored with.
const EVENTS: &str = include_str!("../../domain/src/order/events.golden.jsonl");

fn id() -> OrderId {
    OrderId::derive("anna", "a long story")
}

fn events() -> Vec<RecordedEvent> {
    EVENTS.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn metadata(command: u64, fingerprint: &str) -> Metadata {
    Metadata {
        command_id: Uuid::from_u64_pair(1, command),
        fingerprint: fingerprint.to_owned(),
        actor: String::new(),
        correlation_id: String::new(),
        causation_id: String::new(),
        traceparent: None,
        occurred_at: DateTime::UNIX_EPOCH,
    }
}

/// Commits of these events, one after the other; each of a command of its own.
fn commits(events: impl IntoIterator<Item = Vec<RecordedEvent>>) -> Vec<Commit> {
    let mut version = 1;
    let commit = |events: Vec<RecordedEvent>| {
        let first = version;
        version += u64::try_from(events.len()).unwrap();
        Commit { stream: StreamId::order(id()), version: first, events, metadata: metadata(first, &"f".repeat(64)) }
    };
    events.into_iter().map(commit).collect()
}

async fn store(commits: &[Commit]) -> MemoryEventStore {
    let store = MemoryEventStore::default();
    for commit in commits {
        store.append(commit).await.unwrap();
    }
    store
}

async fn snapshot_of(store: &MemoryEventStore) -> Snapshot {
    OrderStream::open(store, id()).await.unwrap().snapshot().unwrap()
}

/// What is wrong with a snapshot.
#[derive(Debug, Clone, Copy)]
enum Flaw {
    None,
    OtherSchema,
    UnreadableState,
    NoCommands,
    /// The event table has been restored to a time before it, and has gone on in another way.
    OtherHistory,
    /// It does not say of which event it is.
    OtherVersion,
}

/// Every flawed snapshot also has the state of another order, so that whoever uses it is found out.
fn flawed(mut snapshot: Snapshot, flaw: Flaw) -> Snapshot {
    let other = serde_json::to_value(Order::default()).unwrap();
    match flaw {
        Flaw::None => return snapshot,
        Flaw::OtherSchema => snapshot.schema += 1,
        Flaw::UnreadableState => {
            snapshot.state = json!({"course": "Teleported"});
            return snapshot;
        }
        Flaw::NoCommands => snapshot.commands.clear(),
        Flaw::OtherHistory => {
            if let Some(last) = snapshot.commands.last_mut() {
                last.id = Uuid::from_u64_pair(2, 0);
            }
        }
        Flaw::OtherVersion => snapshot.version += 1,
    }
    snapshot.state = other;
    snapshot
}

fn flaws() -> impl Strategy<Value = Flaw> {
    prop_oneof![
        3 => Just(Flaw::None),
        1 => Just(Flaw::OtherSchema),
        1 => Just(Flaw::UnreadableState),
        1 => Just(Flaw::NoCommands),
        1 => Just(Flaw::OtherHistory),
        1 => Just(Flaw::OtherVersion),
    ]
}

async fn compare(commits: &[Commit], snapshots: &[(Index, Flaw)], stored: Index, repeated: Index) {
    let stored = &commits[..stored.index(commits.len() + 1)];
    let (with, without) = (store(stored).await, store(stored).await);
    for (moment, flaw) in snapshots {
        // Now and then of a later moment than the event table knows.
        let taken = snapshot_of(&store(&commits[..moment.index(commits.len() + 1)]).await).await;
        with.snapshots.save(&flawed(taken, *flaw)).await.unwrap();
    }
    let told = snapshot_of(&without).await;
    let order = stored.iter().flat_map(|commit| &commit.events).map(|event| event.read().unwrap());
    assert_eq!(told.state, serde_json::to_value(Order::from_events(&order.collect::<Vec<_>>())).unwrap());
    assert!(snapshot_of(&with).await == told, "another state, version or past");
    if !stored.is_empty() {
        let earlier = repeated.get(stored);
        let never = |_: &Order| -> Result<Vec<OrderEvent>, std::fmt::Error> { panic!("it is decided anew") };
        let mut stream = OrderStream::open(&with, id()).await.unwrap();
        let replayed = Committed { version: earlier.last_version(), replayed: true };
        assert_eq!(stream.commit(&earlier.metadata, never).await.unwrap(), replayed);
        let reused = Metadata { fingerprint: "other".to_owned(), ..earlier.metadata.clone() };
        assert!(matches!(stream.commit(&reused, never).await, Err(CommandError::CommandReused)));
    }
    for store in [&with, &without] {
        let mut stream = OrderStream::open(store, id()).await.unwrap();
        let decide = |_: &Order| Ok::<_, std::fmt::Error>(vec![OrderEvent::InventoryReleased {}]);
        let committed = stream.commit(&metadata(0, "new"), decide).await.unwrap();
        assert_eq!(committed, Committed { version: told.version + 1, replayed: false });
    }
    assert!(with.all() == without.all(), "what is appended is not the same");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_stream_is_the_same_with_and_without_snapshots(
        history in vec(vec(any::<Index>(), 1..4), 0..300),
        snapshots in vec((any::<Index>(), flaws()), 0..4),
        stored in any::<Index>(),
        repeated in any::<Index>(),
    ) {
        let events = events();
        let commits = commits(history.iter().map(|commit| commit.iter().map(|event| event.get(&events).clone()).collect()));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(compare(&commits, &snapshots, stored, repeated));
    }
}

/// Commits of one event each, all of which an order takes.
fn long(count: usize) -> Vec<Commit> {
    commits(std::iter::repeat_n(vec![events().remove(0)], count))
}

async fn take(store: &MemoryEventStore, version: u64) -> Taken {
    take_snapshot::<Order>(store, &store.snapshots, id(), version).await.unwrap()
}

#[tokio::test]
async fn a_snapshot_that_can_be_used_is_used() {
    let store = store(&long(150)).await;
    let mut told = snapshot_of(&store).await;
    told.state = serde_json::to_value(Order::default()).unwrap();
    store.snapshots.save(&told).await.unwrap();
    assert_eq!(snapshot_of(&store).await, told);
}

#[tokio::test]
async fn a_snapshot_is_taken_whenever_a_stream_has_gone_on_far_enough() {
    let store = MemoryEventStore::default();
    let mut taken = Vec::new();
    for commit in long(350) {
        store.append(&commit).await.unwrap();
        if take(&store, commit.version).await == Taken::Now {
            taken.push(commit.version);
        }
    }
    assert_eq!(taken, [EVERY, 2 * EVERY, 3 * EVERY]);
    assert_eq!(take(&store, 120).await, Taken::NotDue, "an event that comes late, or again");
    assert_eq!(store.snapshots.load(&StreamId::order(id())).await.map(|last| last.version), Some(300));
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_used_is_replaced_at_once() {
    for flaw in [Flaw::OtherSchema, Flaw::UnreadableState] {
        let store = store(&long(151)).await;
        let mut unusable = flawed(snapshot_of(&store).await, flaw);
        unusable.version = 150;
        store.snapshots.save(&unusable).await.unwrap();
        assert_eq!(take(&store, 151).await, Taken::Now);
        assert_eq!(store.snapshots.load(&unusable.stream).await, Some(snapshot_of(&store).await));
    }
}

#[tokio::test]
async fn a_stream_of_too_many_commands_keeps_the_last_snapshot_that_fitted() {
    let commits = long(3_700);
    let store = store(&commits).await;
    assert_eq!(take(&store, 3_700).await, Taken::TooLarge);
    assert_eq!(store.snapshots.load(&StreamId::order(id())).await, None);
    let early = snapshot_of(&self::store(&commits[..3_400]).await).await;
    store.snapshots.save(&early).await.unwrap();
    assert_eq!(take(&store, 3_700).await, Taken::TooLarge);
    let stream = snapshot_of(&store).await;
    assert_eq!((stream.version, stream.commands.len()), (3_700, 3_700));
}
