//! What goes out once more is what went out the first time.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

use application::{
    event_store::{Commit, EventStore, StreamId},
    memory::{MemoryEventBus, MemoryEventStore},
    ports::{EventBus, PublishedEvent},
    republish_events::{EVENTS_MAX, RepublishError, Republished, republish_events},
    shop::Shop,
};
use domain::ids::OrderId;
use uuid::Uuid;

/// A fulfilled order whose last two commits are one.
async fn history() -> (MemoryEventStore, StreamId, Vec<PublishedEvent>) {
    let (shop, id) = (Shop::with_stock(10).await, OrderId::new(Uuid::new_v4()));
    shop.place(id, "pm_card_visa").await.unwrap();
    shop.fulfil(id, 1).await.unwrap();
    let mut commits = shop.store.all();
    let last = commits.pop().unwrap();
    commits.last_mut().unwrap().events.extend(last.events);
    let store = MemoryEventStore::default();
    for commit in &commits {
        store.append(commit).await.unwrap();
    }
    let bus = MemoryEventBus::default();
    for commit in &commits {
        bus.publish(&PublishedEvent::of(commit).collect::<Vec<_>>()).await.unwrap();
    }
    (store, StreamId::order(id), bus.published())
}

#[tokio::test]
async fn every_event_of_the_stream_goes_out_as_it_did_the_first_time() {
    let (store, stream, first_time) = history().await;
    assert_eq!(first_time.iter().map(|event| event.version).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    // Also those after an event in the middle of a commit, and none after the last.
    for after in 0..=5 {
        let bus = MemoryEventBus::default();
        let wanted = &first_time[after..];
        let done = republish_events(&store, &bus, &stream, after.try_into().unwrap()).await.unwrap();
        assert_eq!((bus.published().as_slice(), done), (wanted, Republished { events: 5 - after, next_after: None }));
    }
}

#[tokio::test]
async fn a_long_stream_goes_out_in_parts() {
    let (short, stream, _) = history().await;
    let first = short.all().remove(0);
    let (store, bus) = (MemoryEventStore::default(), MemoryEventBus::default());
    let many = u64::try_from(EVENTS_MAX).unwrap() * 2 + 1;
    for version in 1..=many {
        store.append(&Commit { version, ..first.clone() }).await.unwrap();
    }
    let (mut after, mut calls) = (Some(0), 0);
    while let Some(number) = after {
        after = republish_events(&store, &bus, &stream, number).await.unwrap().next_after;
        calls += 1;
    }
    assert_eq!(calls, 3);
    let published: Vec<u64> = bus.published().iter().map(|event| event.version).collect();
    assert_eq!(published, (1..=many).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_the_bus_does_not_take_and_what_is_not_there_is_an_error() {
    let (store, stream, first_time) = history().await;
    let bus = MemoryEventBus::default();
    let unknown = StreamId::order(OrderId::new(Uuid::new_v4()));
    let answer = republish_events(&store, &bus, &unknown, 0).await;
    assert!(matches!(answer, Err(RepublishError::NoSuchStream)), "{answer:?}");
    bus.set_down(true);
    let answer = republish_events(&store, &bus, &stream, 0).await;
    assert!(matches!(answer, Err(RepublishError::NotPublished(_))), "{answer:?}");
    bus.set_down(false);
    republish_events(&store, &bus, &stream, 0).await.unwrap();
    assert_eq!(bus.published(), first_time);
}
