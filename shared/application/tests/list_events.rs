//! The list of events is what a scan of all commits gives, at a cost that goes with the page and the window.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

use application::{
    event_store::{Commit, EventStore, Metadata, RecordedEvent, StreamId},
    list_events::{EventsWanted, ListedEvent, list_events},
    memory::{MemoryEventStore, MemoryIndex},
    ports::Index,
};
use chrono::{DateTime, TimeDelta, Utc};
use domain::ids::{CustomerId, OrderId};
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::json;
use uuid::Uuid;

const TYPES: [&str; 3] = ["OrderFlagged", "InventoryReserved", "CustomerProfileUpdated"];

/// So many milliseconds after an hour before midnight.
fn time(millis: i64) -> DateTime<Utc> {
    "2026-03-31T23:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::milliseconds(millis)
}

fn commit(stream: StreamId, version: u64, types: &[&str], at: DateTime<Utc>) -> Commit {
    // What any of the types needs: none minds the fields of another.
    let data = json!({
        "step": "process-payment", "reason": "Unavailable",
        "reservation_id": "res_1",
        "first_name": "Anna", "last_name": "Li", "email": "anna@example.com"
    });
    let event =
        |event_type: &&str| RecordedEvent { event_type: (*event_type).to_owned(), schema: 1, data: data.clone() };
    Commit {
        stream,
        version,
        events: types.iter().map(event).collect(),
        metadata: Metadata {
            command_id: Uuid::new_v4(),
            fingerprint: String::new(),
            actor: "service:test".to_owned(),
            correlation_id: "c".to_owned(),
            causation_id: "c".to_owned(),
            traceparent: None,
            occurred_at: at,
        },
    }
}

async fn stored(commits: &[Commit]) -> (MemoryIndex, MemoryEventStore) {
    let (index, store) = (MemoryIndex::default(), MemoryEventStore::default());
    for commit in commits {
        store.append(commit).await.unwrap();
        index.list(std::slice::from_ref(commit)).await.unwrap();
    }
    (index, store)
}

/// All pages, one after the other.
async fn all(index: &MemoryIndex, store: &MemoryEventStore, wanted: &EventsWanted, limit: usize) -> Vec<ListedEvent> {
    let mut wanted = wanted.clone();
    let mut events = Vec::new();
    loop {
        let page = list_events(index, store, &wanted, limit).await.unwrap();
        events.extend(page.events);
        let Some(next) = page.next else { return events };
        assert!(events.len().is_multiple_of(limit));
        wanted.after = Some(next);
    }
}

/// Each event by stream and number, as a scan finds it: the newest first.
fn scan(commits: &[Commit], wanted: &EventsWanted) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for commit in commits {
        let at = commit.metadata.occurred_at;
        for (version, event) in commit.numbered() {
            if event.event_type == wanted.event_type && (wanted.from..wanted.to).contains(&at) {
                found.push((at, commit.stream.as_str().to_owned(), version));
            }
        }
    }
    found.sort();
    found.into_iter().rev().map(|(_, stream, version)| (stream, version)).collect()
}

/// Some streams, each with a few commits, over two hours around a midnight; some at the same moment.
fn some_commits() -> impl Strategy<Value = Vec<Commit>> {
    let types = vec(select(&TYPES[..]), 1..4);
    let stream = vec((types, 0..12_i64), 1..5);
    vec(stream, 0..8).prop_map(|streams| {
        let mut commits = Vec::new();
        for (number, stream) in streams.into_iter().enumerate() {
            let id = match number % 3 {
                0 => StreamId::customer(&CustomerId::parse(&format!("auth0|a/{number}")).unwrap()),
                _ => StreamId::order(OrderId::derive("anna", &number.to_string())),
            };
            let mut version = 1;
            for (types, step) in stream {
                commits.push(commit(id.clone(), version, &types, time(step * 600_000)));
                version += u64::try_from(types.len()).unwrap();
            }
        }
        commits
    })
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

proptest! {
    #[test]
    fn the_pages_tell_what_a_scan_finds_in_the_same_order(
        commits in some_commits(), event_type in select(&TYPES[..]), from in 0..12_i64, length in 1..12_i64, limit in 1..5_usize,
    ) {
        let (from, to) = (time(from * 600_000), time((from + length) * 600_000));
        let wanted = EventsWanted { event_type: event_type.to_owned(), from, to, after: None };
        let told = block_on(async {
            let (index, store) = stored(&commits).await;
            all(&index, &store, &wanted, limit).await
        });
        for ListedEvent { stream, event } in &told {
            let commit = commits.iter().find(|commit| commit.metadata == event.metadata).unwrap();
            prop_assert_eq!((stream, event_type), (&commit.stream, event.event.event_type()));
        }
        let told: Vec<(String, u64)> =
            told.into_iter().map(|listed| (listed.stream.as_str().to_owned(), listed.event.version)).collect();
        prop_assert_eq!(told, scan(&commits, &wanted));
    }
}

#[tokio::test]
async fn a_page_costs_one_read_of_the_list_however_many_events_and_days_there_are() {
    let start = time(3_600_000);
    let wanted = |days: i64| EventsWanted {
        event_type: TYPES[0].to_owned(),
        from: start,
        to: start + TimeDelta::days(days),
        after: None,
    };
    for count in [100, 10_000] {
        let stream = |number: i64| StreamId::order(OrderId::derive("anna", &number.to_string()));
        let at = |number: i64| start + TimeDelta::days(3) + TimeDelta::milliseconds(number);
        let commits: Vec<Commit> =
            (0..count).map(|number| commit(stream(number), 1, &TYPES[..1], at(number))).collect();
        let (index, store) = stored(&commits).await;
        let page = list_events(&index, &store, &wanted(4), 20).await.unwrap();
        assert_eq!((page.events.len(), index.reads()), (20, vec![22]));
        let second = EventsWanted { after: page.next, ..wanted(4) };
        let page = list_events(&index, &store, &second, 20).await.unwrap();
        assert_eq!((page.events.len(), index.reads()), (20, vec![22]));
    }
    let (index, store) = stored(&[]).await;
    list_events(&index, &store, &wanted(31), 20).await.unwrap();
    assert_eq!(index.reads().len(), 1);
}
