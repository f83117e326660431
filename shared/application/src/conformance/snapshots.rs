//! What every [`Snapshots`] must do.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{at_once, order_id};
use crate::{
    event_store::StreamId,
    event_store::{PastCommand, Snapshot},
    ports::{SNAPSHOT_BYTES_MAX, Snapshots},
};

/// One test per law; `make` is a future of the snapshots.
#[macro_export]
macro_rules! snapshots_conformance {
    ($make:expr) => {
        $crate::conformance_tests! { snapshots, $make,
            a_stream_without_a_snapshot_has_none
            a_snapshot_comes_back_as_it_was
            a_newer_snapshot_takes_the_place_of_an_older_one
            an_older_snapshot_takes_nobodys_place
            of_snapshots_that_come_at_once_the_newest_stays
            a_snapshot_of_one_stream_is_none_of_another
            a_snapshot_of_the_largest_size_is_taken
        }
    };
}

fn snapshot(stream: &StreamId, version: u64) -> Snapshot {
    let command = |version| PastCommand { id: Uuid::new_v4(), fingerprint: "f".repeat(64), version };
    Snapshot {
        stream: stream.clone(),
        version,
        schema: 3,
        state: json!({"name": "龙井茶 🍵 \"best\"", "null": null, "nested": [{"deep": [[], {}, 0.1]}]}),
        commands: vec![command(1), command(version)],
    }
}

fn stream() -> StreamId {
    StreamId::order(order_id())
}

pub async fn a_stream_without_a_snapshot_has_none(snapshots: &impl Snapshots) {
    assert_eq!(snapshots.load(&stream()).await, None);
}

pub async fn a_snapshot_comes_back_as_it_was(snapshots: &impl Snapshots) {
    let snapshot = snapshot(&stream(), 100);
    snapshots.save(&snapshot).await.unwrap();
    assert_eq!(snapshots.load(&snapshot.stream).await, Some(snapshot));
}

pub async fn a_newer_snapshot_takes_the_place_of_an_older_one(snapshots: &impl Snapshots) {
    let stream = stream();
    // Past a power of ten, so that an order of texts is not taken for an order of numbers.
    for version in [99, 100, 1_000] {
        let snapshot = snapshot(&stream, version);
        snapshots.save(&snapshot).await.unwrap();
        assert_eq!(snapshots.load(&stream).await, Some(snapshot));
    }
}

pub async fn an_older_snapshot_takes_nobodys_place(snapshots: &impl Snapshots) {
    let newest = snapshot(&stream(), 100);
    snapshots.save(&newest).await.unwrap();
    for version in [99, 100] {
        snapshots.save(&snapshot(&newest.stream, version)).await.unwrap();
        assert_eq!(snapshots.load(&newest.stream).await, Some(newest.clone()));
    }
}

pub async fn of_snapshots_that_come_at_once_the_newest_stays(snapshots: &impl Snapshots) {
    let stream = stream();
    let all: Vec<Snapshot> = [103, 101, 120, 105, 102].map(|version| snapshot(&stream, version)).into();
    for saved in at_once(all.iter().map(|snapshot| snapshots.save(snapshot))).await {
        saved.unwrap();
    }
    assert_eq!(snapshots.load(&stream).await.as_ref(), all.get(2));
}

pub async fn a_snapshot_of_one_stream_is_none_of_another(snapshots: &impl Snapshots) {
    snapshots.save(&snapshot(&stream(), 100)).await.unwrap();
    assert_eq!(snapshots.load(&stream()).await, None);
}

pub async fn a_snapshot_of_the_largest_size_is_taken(snapshots: &impl Snapshots) {
    let mut large = snapshot(&stream(), 100);
    let commands = serde_json::to_string(&large.commands).unwrap().len();
    large.state = Value::String("x".repeat(SNAPSHOT_BYTES_MAX - commands - "\"\"".len()));
    snapshots.save(&large).await.unwrap();
    assert!(snapshots.load(&large.stream).await == Some(large), "not what was saved");
}
