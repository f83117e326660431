//! Whoever parks a stream, lines up behind it or settles it, and stops at any call, leaves one that waits or one of which all is done.

use std::sync::Arc;

use adapters::dynamodb::{DynamoDeadLetters, DynamoEventStore, DynamoReadModel};
use application::{
    dead_letters::{Pace, Reprojection, Republication, Settle, Settled, Wanted, redrive_streams},
    event_store::{Commit, EventStore, Metadata, RecordedEvent, StreamId},
    memory::MemoryEventBus,
    ports::{
        Consumer::{self, ProjectOrders, PublishEvents},
        DeadLetters, EventBus, Failure, OrderViews, PublishedEvent, SettledAs, Settlement, letter_id,
    },
    shop::Shop,
};
use aws_sdk_dynamodb::Client;
use chrono::{DateTime, Utc};
use domain::ids::OrderId;
use serde_json::json;
use uuid::Uuid;

use crate::{
    faults::at_each_call,
    support::{DEAD_LETTERS, EVENTS, INDEX, ORDERS, Wire, watched},
};

fn stream() -> StreamId {
    StreamId::order(OrderId::new(Uuid::new_v4()))
}

fn settlement(at: DateTime<Utc>) -> Settlement {
    Settlement { settled_as: SettledAs::Redriven, by: "staff:anna".to_owned(), reason: "mended".to_owned(), at }
}

fn watched_letters() -> (DynamoDeadLetters, Client, Wire) {
    let (client, wire) = watched();
    (DynamoDeadLetters::new(client.clone(), DEAD_LETTERS.to_owned()), client, wire)
}

async fn park(letters: &DynamoDeadLetters, consumer: Consumer, stream: &StreamId, versions: (u64, u64)) -> bool {
    let failure = Failure { error_type: "Refused".to_owned(), error: "it was so".to_owned() };
    letters.park(consumer, stream, versions, &failure, Utc::now()).await.is_ok()
}

/// From where to where a stream waits.
async fn waits(letters: &DynamoDeadLetters, consumer: Consumer, stream: &StreamId) -> Option<(u64, u64)> {
    let parked = letters.parked(consumer, stream).await.unwrap();
    parked.map(|parked| (parked.first_version, parked.last_version))
}

/// How often it is told that a stream was settled.
async fn times_settled(letters: &DynamoDeadLetters, consumer: Consumer, stream: &StreamId) -> usize {
    let settled = letters.settled(consumer.name(), None, 1_000).await.unwrap();
    settled.iter().filter(|(_, letter, _)| letter.id() == letter_id(stream)).count()
}

#[tokio::test]
async fn a_stream_whose_parking_stopped_anywhere_waits_when_it_comes_again() {
    let (letters, _, wire) = watched_letters();
    // The second time, it waits for something already.
    for before in [None, Some((3, 4))] {
        at_each_call(async |number, fault| {
            let stream = stream();
            if let Some(before) = before {
                assert!(park(&letters, ProjectOrders, &stream, before).await);
            }
            let done = wire.during(number, fault, park(&letters, ProjectOrders, &stream, (5, 7))).await;
            let after = Some((before.map_or(5, |(first, _)| first), 7));
            let left = waits(&letters, ProjectOrders, &stream).await;
            assert!(left == after || (!done && left == before), "{left:?}");
            assert!(park(&letters, ProjectOrders, &stream, (5, 7)).await);
            assert_eq!(waits(&letters, ProjectOrders, &stream).await, after);
            !done
        })
        .await;
    }
}

#[tokio::test]
async fn what_stopped_anywhere_as_it_lined_up_waits_when_it_comes_again() {
    let (letters, _, wire) = watched_letters();
    // All that wait are found by one look, or each is asked for by its name.
    for others in [0, 150] {
        for _ in 0..others {
            assert!(park(&letters, PublishEvents, &stream(), (1, 1)).await);
        }
        at_each_call(async |number, fault| {
            let (waiting, free) = (stream(), stream());
            assert!(park(&letters, PublishEvents, &waiting, (5, 5)).await);
            let both = [(waiting.clone(), (6, 7)), (free.clone(), (9, 9))];
            let stopped = wire.during(number, fault, letters.line_up(PublishEvents, &both)).await.is_err();
            for _ in 0..2 {
                assert_eq!(letters.line_up(PublishEvents, &both).await.unwrap(), std::slice::from_ref(&waiting));
                assert_eq!(waits(&letters, PublishEvents, &waiting).await, Some((5, 7)));
                assert_eq!(waits(&letters, PublishEvents, &free).await, None);
            }
            stopped
        })
        .await;
    }
}

#[tokio::test]
async fn a_stream_whose_settling_stopped_anywhere_waits_as_it_did_or_is_settled_once() {
    let (letters, _, wire) = watched_letters();
    // The first time, not all that waits is done.
    for (done, is_all) in [(6, false), (7, true)] {
        at_each_call(async |number, fault| {
            let (stream, settlement) = (stream(), settlement(Utc::now()));
            assert!(park(&letters, PublishEvents, &stream, (5, 7)).await);
            let stopped =
                wire.during(number, fault, letters.settle(PublishEvents, &stream, done, &settlement)).await.is_err();
            match waits(&letters, PublishEvents, &stream).await {
                Some(left) => {
                    assert_eq!(left, (5, 7));
                    assert_eq!(times_settled(&letters, PublishEvents, &stream).await, 0);
                }
                None => assert_eq!(times_settled(&letters, PublishEvents, &stream).await, 1),
            }
            for _ in 0..2 {
                assert_eq!(letters.settle(PublishEvents, &stream, done, &settlement).await.unwrap(), is_all);
                assert_eq!(waits(&letters, PublishEvents, &stream).await.is_none(), is_all);
                assert_eq!(times_settled(&letters, PublishEvents, &stream).await, usize::from(is_all));
            }
            stopped
        })
        .await;
    }
}

fn commit(stream: &StreamId, version: u64) -> Commit {
    let event = RecordedEvent { event_type: "Any".to_owned(), schema: 1, data: json!({}) };
    let metadata = Metadata::of_nobody(DateTime::UNIX_EPOCH);
    Commit { stream: stream.clone(), version, events: vec![event], metadata }
}

fn only(stream: &StreamId) -> Settle {
    let wanted = Wanted { id: Some(letter_id(stream)), error_type: None };
    Settle { wanted, settlement: settlement(Utc::now()), dry_run: false, after: None, pace: Pace::new(50) }
}

/// A commit is appended, and another process of the publisher is given it.
async fn comes(client: Client, commit: Commit, bus: Arc<MemoryEventBus>) {
    let store = DynamoEventStore::new(client.clone(), EVENTS.to_owned());
    let letters = DynamoDeadLetters::new(client, DEAD_LETTERS.to_owned());
    store.append(&commit).await.unwrap();
    let streams = [(commit.stream.clone(), (commit.version, commit.last_version()))];
    if letters.line_up(PublishEvents, &streams).await.unwrap().is_empty() {
        let events: Vec<PublishedEvent> = PublishedEvent::of(&commit).collect();
        bus.publish(&events).await.unwrap();
    }
}

/// The numbers of the published events, each where it stands first.
fn published(bus: &MemoryEventBus) -> Vec<u64> {
    let mut versions = Vec::new();
    for event in bus.published() {
        if !versions.contains(&event.version) {
            versions.push(event.version);
        }
    }
    versions
}

/// Before any of its calls, a later commit may come to another process.
#[tokio::test]
async fn a_redrive_that_stopped_anywhere_loses_no_event_and_lets_none_overtake_another() {
    let (letters, client, wire) = watched_letters();
    let store = DynamoEventStore::new(client, EVENTS.to_owned());
    for moment in 0..10 {
        at_each_call(async |number, fault| {
            let (stream, bus) = (stream(), Arc::<MemoryEventBus>::default());
            for version in 1..=3 {
                store.append(&commit(&stream, version)).await.unwrap();
            }
            assert!(park(&letters, PublishEvents, &stream, (2, 3)).await);
            wire.calls();
            wire.before(moment, comes(wire.unwatched(), commit(&stream, 4), Arc::clone(&bus)));
            wire.fail(number, fault);
            let redelivery = Republication { store: &store, bus: &*bus };
            let first = redrive_streams(&redelivery, &letters, &only(&stream), Utc::now()).await;
            let met = wire.met_all_faults();
            wire.calls();
            assert!(met || first.is_ok_and(|first| first.done == 1), "it has stopped at nothing");

            let second = redrive_streams(&redelivery, &letters, &only(&stream), Utc::now()).await.unwrap();
            assert!(second.failed.is_empty(), "{second:?}");
            let third = redrive_streams(&redelivery, &letters, &only(&stream), Utc::now()).await.unwrap();
            assert_eq!(third, Settled::default());
            assert_eq!(waits(&letters, PublishEvents, &stream).await, None);
            assert_eq!(times_settled(&letters, PublishEvents, &stream).await, 1);
            let has_come = !store.read(&stream, 3).await.unwrap().is_empty();
            let expected = if has_come { vec![2, 3, 4] } else { vec![2, 3] };
            assert_eq!(published(&bus), expected, "call {number} lost, another commit before call {moment}");
            met
        })
        .await;
    }
}

#[tokio::test]
async fn an_order_whose_redrive_stopped_anywhere_is_shown_and_listed_once_when_it_is_asked_for_again() {
    let (shop, id) = (Shop::with_stock(10).await, OrderId::new(Uuid::new_v4()));
    shop.place(id, "pm_card_visa").await.unwrap();
    shop.fulfil(id, 1).await.unwrap();
    let (stream, last) = (StreamId::order(id), shop.store.all().last().unwrap().last_version());
    at_each_call(async |number, fault| {
        let (letters, client, wire) = watched_letters();
        let generations = [DynamoReadModel::new(client, ORDERS.to_owned(), INDEX.to_owned()).generation(1)];
        assert!(park(&letters, ProjectOrders, &stream, (1, last)).await);
        wire.calls();
        wire.fail(number, fault);
        let redelivery = Reprojection { store: &shop.store, generations: generations.as_slice() };
        let first = redrive_streams(&redelivery, &letters, &only(&stream), Utc::now()).await;
        let met = wire.met_all_faults();
        wire.calls();
        assert!(met || first.is_ok_and(|first| first.done == 1), "it has stopped at nothing");

        let second = redrive_streams(&redelivery, &letters, &only(&stream), Utc::now()).await.unwrap();
        assert!(second.failed.is_empty(), "{second:?}");
        assert_eq!(waits(&letters, ProjectOrders, &stream).await, None);
        assert_eq!(times_settled(&letters, ProjectOrders, &stream).await, 1);
        let views = &generations[0].views;
        let view = views.load(id).await.unwrap().unwrap();
        assert_eq!(view.version, last);
        let listed = views.customer_orders(&view.customer.id, 0, 10).await.unwrap();
        assert_eq!((listed.total, listed.orders.len()), (1, 1));
        met
    })
    .await;
}
