//! What every [`DeadLetters`] must do.

use chrono::TimeDelta;
use uuid::Uuid;

use super::{at_once, moment};
use crate::{
    event_store::StreamId,
    ports::{
        Consumer::{self, ProjectOrders, PublishEvents},
        DeadLetter, DeadLetters, DeadMessage, Failure, MessageKind, ParkedStream, SettledAs, Settlement,
    },
};

/// One test per law; `make` is a future of the dead letters.
#[macro_export]
macro_rules! dead_letters_conformance {
    ($make:expr) => {
        $crate::conformance_tests! { dead_letters, $make,
            a_stream_that_is_parked_waits_for_its_consumer_only
            what_is_parked_again_waits_from_the_first_to_the_last
            of_those_who_park_at_once_each_counts
            what_comes_later_lines_up_behind
            what_comes_before_is_waited_for_as_well
            a_try_in_vain_is_noted_of_what_waits_and_of_nothing_else
            what_does_not_wait_does_not_line_up
            among_many_that_wait_each_lines_up
            a_stream_is_settled_when_all_that_waits_is_done
            a_stream_is_not_settled_while_more_waits
            whoever_lines_up_while_it_is_settled_waits_or_is_told_that_it_does_not
            what_was_settled_can_wait_again
            the_streams_that_wait_are_listed_in_pages
            what_became_of_dead_letters_is_told_newest_first
            how_much_waits_is_counted
        }
    };
}

fn failure() -> Failure {
    Failure { error_type: "Unreadable".to_owned(), error: "the event cannot be read".to_owned() }
}

fn settlement() -> Settlement {
    let (by, reason) = ("staff:anna".to_owned(), "mended".to_owned());
    Settlement { settled_as: SettledAs::Redriven, by, reason, at: moment() }
}

fn stream() -> StreamId {
    StreamId::new(format!("order#{}", Uuid::new_v4()))
}

async fn park(letters: &impl DeadLetters, consumer: Consumer, stream: &StreamId, versions: (u64, u64)) {
    letters.park(consumer, stream, versions, &failure(), moment()).await.unwrap();
}

async fn versions(letters: &impl DeadLetters, stream: &StreamId) -> Option<(u64, u64)> {
    let parked = letters.parked(ProjectOrders, stream).await.unwrap();
    parked.map(|parked| (parked.first_version, parked.last_version))
}

pub async fn a_stream_that_is_parked_waits_for_its_consumer_only(letters: &impl DeadLetters) {
    let stream = stream();
    assert_eq!(letters.parked(ProjectOrders, &stream).await.unwrap(), None);
    park(letters, ProjectOrders, &stream, (5, 7)).await;
    let expected = ParkedStream::after(None, &stream, (5, 7), &failure(), moment());
    assert_eq!(letters.parked(ProjectOrders, &stream).await.unwrap(), Some(expected));
    assert_eq!(letters.parked(PublishEvents, &stream).await.unwrap(), None);
}

pub async fn what_is_parked_again_waits_from_the_first_to_the_last(letters: &impl DeadLetters) {
    let (stream, later) = (stream(), moment() + TimeDelta::minutes(5));
    park(letters, ProjectOrders, &stream, (5, 7)).await;
    let other = Failure { error_type: "Unavailable".to_owned(), error: "it is down".to_owned() };
    letters.park(ProjectOrders, &stream, (7, 9), &other, later).await.unwrap();
    letters.park(ProjectOrders, &stream, (6, 6), &other, later).await.unwrap();
    let parked = letters.parked(ProjectOrders, &stream).await.unwrap().unwrap();
    let expected = ParkedStream {
        stream,
        first_version: 5,
        last_version: 9,
        failure: other,
        since: moment(),
        tries: 3,
        last_tried_at: later,
    };
    assert_eq!(parked, expected);
}

pub async fn of_those_who_park_at_once_each_counts(letters: &impl DeadLetters) {
    let stream = stream();
    let (stream, failure) = (&stream, &failure());
    let parks = (1..=5).map(|version| letters.park(ProjectOrders, stream, (version, version), failure, moment()));
    for parked in at_once(parks).await {
        parked.unwrap();
    }
    let parked = letters.parked(ProjectOrders, stream).await.unwrap().unwrap();
    assert_eq!((parked.first_version, parked.last_version, parked.tries), (1, 5, 5));
}

pub async fn what_comes_later_lines_up_behind(letters: &impl DeadLetters) {
    let (waiting, other) = (stream(), stream());
    park(letters, ProjectOrders, &waiting, (5, 7)).await;
    for (version, last) in [(9, 9), (8, 9), (10, 10)] {
        let streams = [(other.clone(), (3, 3)), (waiting.clone(), (version, version))];
        assert_eq!(letters.line_up(ProjectOrders, &streams).await.unwrap(), std::slice::from_ref(&waiting));
        assert_eq!(versions(letters, &waiting).await, Some((5, last)));
    }
    let parked = letters.parked(ProjectOrders, &waiting).await.unwrap().unwrap();
    assert_eq!((parked.tries, parked.failure), (1, failure()), "it was not tried");
}

pub async fn what_comes_before_is_waited_for_as_well(letters: &impl DeadLetters) {
    let stream = stream();
    park(letters, ProjectOrders, &stream, (5, 7)).await;
    letters.line_up(ProjectOrders, &[(stream.clone(), (4, 6))]).await.unwrap();
    assert_eq!(versions(letters, &stream).await, Some((4, 7)));
}

pub async fn a_try_in_vain_is_noted_of_what_waits_and_of_nothing_else(letters: &impl DeadLetters) {
    let (waiting, settled, later) = (stream(), stream(), moment() + TimeDelta::minutes(5));
    for stream in [&waiting, &settled] {
        park(letters, ProjectOrders, stream, (5, 7)).await;
    }
    letters.settle(ProjectOrders, &settled, 7, &settlement()).await.unwrap();
    let other = Failure::new("Unavailable", "it is down");
    for (stream, done) in [(&waiting, 5), (&waiting, 3), (&settled, 5)] {
        letters.note_try(ProjectOrders, stream, done, &other, later).await.unwrap();
    }
    let parked = letters.parked(ProjectOrders, &waiting).await.unwrap().unwrap();
    let before = ParkedStream::after(None, &waiting, (5, 7), &failure(), moment());
    assert_eq!(parked, ParkedStream { first_version: 6, failure: other, tries: 3, last_tried_at: later, ..before });
    assert_eq!(versions(letters, &settled).await, None);
}

pub async fn what_does_not_wait_does_not_line_up(letters: &impl DeadLetters) {
    let stream = stream();
    assert!(letters.line_up(ProjectOrders, &[(stream.clone(), (3, 3))]).await.unwrap().is_empty());
    park(letters, PublishEvents, &stream, (1, 1)).await;
    assert!(letters.line_up(ProjectOrders, &[(stream.clone(), (3, 3))]).await.unwrap().is_empty());
    assert_eq!(versions(letters, &stream).await, None);
}

pub async fn among_many_that_wait_each_lines_up(letters: &impl DeadLetters) {
    let streams: Vec<(StreamId, (u64, u64))> = (0..130).map(|_| (stream(), (2, 2))).collect();
    for (stream, _) in &streams {
        park(letters, ProjectOrders, stream, (1, 1)).await;
    }
    let mut asked = streams.clone();
    asked.push((stream(), (2, 2)));
    let mut waiting = letters.line_up(ProjectOrders, &asked).await.unwrap();
    waiting.sort();
    let mut expected: Vec<StreamId> = streams.into_iter().map(|(stream, _)| stream).collect();
    expected.sort();
    assert_eq!(waiting, expected);
    assert_eq!(versions(letters, &expected[0]).await, Some((1, 2)));
}

pub async fn a_stream_is_settled_when_all_that_waits_is_done(letters: &impl DeadLetters) {
    let stream = stream();
    park(letters, ProjectOrders, &stream, (5, 7)).await;
    for _ in 0..2 {
        assert!(letters.settle(ProjectOrders, &stream, 7, &settlement()).await.unwrap());
        assert_eq!(versions(letters, &stream).await, None);
    }
}

pub async fn a_stream_is_not_settled_while_more_waits(letters: &impl DeadLetters) {
    let stream = stream();
    park(letters, ProjectOrders, &stream, (5, 7)).await;
    assert!(!letters.settle(ProjectOrders, &stream, 6, &settlement()).await.unwrap());
    letters.line_up(ProjectOrders, &[(stream.clone(), (8, 8))]).await.unwrap();
    assert!(!letters.settle(ProjectOrders, &stream, 7, &settlement()).await.unwrap());
    assert_eq!(versions(letters, &stream).await, Some((5, 8)));
    assert!(letters.settle(ProjectOrders, &stream, 8, &settlement()).await.unwrap());
}

pub async fn whoever_lines_up_while_it_is_settled_waits_or_is_told_that_it_does_not(letters: &impl DeadLetters) {
    for _ in 0..10 {
        let stream = stream();
        park(letters, ProjectOrders, &stream, (5, 7)).await;
        let (streams, settlement) = ([(stream.clone(), (8, 8))], settlement());
        let (lined_up, settled) = futures_util::future::join(
            letters.line_up(ProjectOrders, &streams),
            letters.settle(ProjectOrders, &stream, 7, &settlement),
        )
        .await;
        let (lined_up, settled) = (!lined_up.unwrap().is_empty(), settled.unwrap());
        assert_ne!(lined_up, settled, "one of them was first");
        assert_eq!(versions(letters, &stream).await, lined_up.then_some((5, 8)));
    }
}

pub async fn what_was_settled_can_wait_again(letters: &impl DeadLetters) {
    let stream = stream();
    park(letters, ProjectOrders, &stream, (5, 7)).await;
    letters.settle(ProjectOrders, &stream, 7, &settlement()).await.unwrap();
    park(letters, ProjectOrders, &stream, (9, 9)).await;
    let parked = letters.parked(ProjectOrders, &stream).await.unwrap().unwrap();
    assert_eq!((parked.first_version, parked.last_version, parked.tries), (9, 9, 1));
}

pub async fn the_streams_that_wait_are_listed_in_pages(letters: &impl DeadLetters) {
    // What another law has parked stands before or behind these.
    let prefix = format!("customer#{}", Uuid::new_v4());
    let streams: Vec<StreamId> = (0..5).map(|number| StreamId::new(format!("{prefix}{number}"))).collect();
    for stream in &streams {
        park(letters, ProjectOrders, stream, (1, 1)).await;
    }
    let (mut after, mut listed) = (StreamId::new(prefix.clone()), Vec::new());
    loop {
        let page = letters.list(ProjectOrders, Some(&after), 2).await.unwrap();
        let names = page.iter().map(|parked| parked.stream.clone());
        let of_this_test: Vec<StreamId> = names.filter(|stream| stream.as_str().starts_with(&prefix)).collect();
        let Some(last) = of_this_test.last() else { break };
        after = last.clone();
        listed.extend(of_this_test);
    }
    assert_eq!(listed, streams);
}

pub async fn what_became_of_dead_letters_is_told_newest_first(letters: &impl DeadLetters) {
    let consumer = format!("queue-{}", Uuid::new_v4());
    let message = |number: u32, kind| DeadMessage {
        id: format!("m-{number}"),
        kind,
        failure: failure(),
        since: moment(),
        tries: number,
    };
    let kinds = [MessageKind::Batch, MessageKind::Event(None), MessageKind::Event(Some((stream(), 7)))];
    let messages: Vec<DeadMessage> = (1..).zip(kinds).map(|(number, kind)| message(number, kind)).collect();
    for message in &messages {
        let at = moment() + TimeDelta::seconds(message.tries.into());
        let settlement = Settlement { settled_as: SettledAs::Discarded, at, ..settlement() };
        for _ in 0..2 {
            letters.keep(&consumer, message, &settlement).await.unwrap();
        }
    }
    let (mut before, mut told) = (None, Vec::new());
    loop {
        let page = letters.settled(&consumer, before.as_deref(), 2).await.unwrap();
        let Some((place, ..)) = page.last() else { break };
        before = Some(place.clone());
        assert!(page.iter().all(|(.., settlement)| settlement.settled_as == SettledAs::Discarded));
        told.extend(page.into_iter().map(|(_, letter, _)| letter));
    }
    let expected: Vec<DeadLetter> = messages.into_iter().rev().map(DeadLetter::Message).collect();
    assert_eq!(told, expected);
    let stream = stream();
    park(letters, PublishEvents, &stream, (5, 7)).await;
    let settlement = Settlement { at: moment() + TimeDelta::days(1), ..settlement() };
    letters.settle(PublishEvents, &stream, 7, &settlement).await.unwrap();
    let parked = ParkedStream::after(None, &stream, (5, 7), &failure(), moment());
    let told = letters.settled(PublishEvents.name(), None, 100).await.unwrap();
    assert!(told.iter().any(|(_, letter, how)| *letter == DeadLetter::Parked(parked.clone()) && *how == settlement));
}

pub async fn how_much_waits_is_counted(letters: &impl DeadLetters) {
    let oldest = moment() - TimeDelta::days(400);
    let streams = [stream(), stream()];
    for (stream, since) in streams.iter().zip([oldest, moment()]) {
        letters.park(ProjectOrders, stream, (1, 1), &failure(), since).await.unwrap();
    }
    let backlog = letters.backlog(ProjectOrders).await.unwrap();
    assert!(backlog.number >= 2, "and what others have parked");
    assert_eq!(backlog.oldest, Some(oldest));
}
