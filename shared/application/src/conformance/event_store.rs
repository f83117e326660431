//! What every [`EventStore`] must do.

use domain::stored_event::UnreadableEvent;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{at_once, moment, order_id};
use crate::event_store::{
    AppendError, Appended, Beginning, Commit, EventLog, EventStore, LogPage, Metadata, RecordedEvent, Segment, StreamId,
};

/// One test per law; `make` is a future of the store.
#[macro_export]
macro_rules! event_store_conformance {
    ($make:expr) => {
        $crate::conformance_tests! { event_store, $make,
            an_unknown_stream_has_no_commits
            commits_come_back_in_order
            a_commit_of_several_events_takes_as_many_numbers
            a_read_sees_every_append_before_it
            reading_after_an_event_leaves_out_what_came_before
            the_first_commits_are_as_many_as_asked_for_and_tell_whether_there_are_more
            the_beginning_of_a_stream_of_several_megabytes_tells_that_there_is_more
            streams_do_not_see_each_other
            of_many_commits_those_that_exist_are_read_at_once
            of_twenty_commands_at_one_version_exactly_one_wins
            a_repeated_command_is_answered_with_its_first_commit
            a_command_that_comes_twenty_times_at_once_is_appended_once
            a_command_id_with_another_fingerprint_is_refused
            a_stream_of_several_megabytes_is_read_to_its_end
            a_commit_just_under_the_limit_is_stored
            a_commit_just_over_the_limit_writes_nothing
            an_event_of_unknown_type_is_an_error_that_names_it
            metadata_come_back_as_they_were
            event_data_come_back_as_they_were
            the_log_has_every_commit_once_and_those_of_a_stream_together
        }
    };
}

fn stream() -> StreamId {
    StreamId::order(order_id())
}

fn event(data: Value) -> RecordedEvent {
    RecordedEvent { event_type: "OrderConfirmed".to_owned(), schema: 1, data }
}

/// A new command's commit of one small event.
fn commit(stream: &StreamId, version: u64) -> Commit {
    Commit {
        stream: stream.clone(),
        version,
        events: vec![event(json!({"notification_id": format!("n-{version}")}))],
        metadata: Metadata {
            command_id: Uuid::new_v4(),
            fingerprint: "f".repeat(64),
            actor: "customer:anna".to_owned(),
            correlation_id: "correlation-1".to_owned(),
            causation_id: "request-1".to_owned(),
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
            occurred_at: moment(),
        },
    }
}

/// A commit whose events are this many bytes of JSON.
fn commit_of_bytes(stream: &StreamId, version: u64, bytes: usize) -> Commit {
    let mut commit = commit(stream, version);
    commit.events = vec![event(json!({"padding": ""}))];
    let frame = serde_json::to_string(&commit.events).unwrap().len();
    commit.events = vec![event(json!({"padding": "x".repeat(bytes - frame)}))];
    commit
}

async fn append_new(store: &impl EventStore, commit: &Commit) {
    assert_eq!(store.append(commit).await.unwrap(), Appended::Now);
}

pub async fn an_unknown_stream_has_no_commits(store: &impl EventStore) {
    assert_eq!(store.read(&stream(), 0).await.unwrap(), []);
}

pub async fn commits_come_back_in_order(store: &impl EventStore) {
    let stream = stream();
    // Past 9, so that an order of texts is not taken for an order of numbers.
    let commits: Vec<Commit> = (1..=12).map(|version| commit(&stream, version)).collect();
    for commit in &commits {
        append_new(store, commit).await;
    }
    assert_eq!(store.read(&stream, 0).await.unwrap(), commits);
}

pub async fn a_commit_of_several_events_takes_as_many_numbers(store: &impl EventStore) {
    let stream = stream();
    let mut first = commit(&stream, 1);
    first.events = (1..=3).map(|n| event(json!({"notification_id": n}))).collect();
    let second = commit(&stream, first.last_version() + 1);
    append_new(store, &first).await;
    append_new(store, &second).await;
    let stored = store.read(&stream, 0).await.unwrap();
    let numbers: Vec<u64> = stored.iter().flat_map(|commit| commit.numbered().map(|(number, _)| number)).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    assert_eq!(stored, [first, second]);
}

pub async fn a_read_sees_every_append_before_it(store: &impl EventStore) {
    let stream = stream();
    for version in 1..=10 {
        append_new(store, &commit(&stream, version)).await;
        let last = store.read(&stream, 0).await.unwrap().last().map(Commit::last_version);
        assert_eq!(last, Some(version));
    }
}

pub async fn reading_after_an_event_leaves_out_what_came_before(store: &impl EventStore) {
    let stream = stream();
    let mut first = commit(&stream, 1);
    first.events.push(event(json!({})));
    let rest = [commit(&stream, 3), commit(&stream, 4)];
    append_new(store, &first).await;
    append_new(store, &rest[0]).await;
    append_new(store, &rest[1]).await;
    assert_eq!(store.read(&stream, 2).await.unwrap(), rest);
    assert_eq!(store.read(&stream, 3).await.unwrap(), rest[1..]);
    assert_eq!(store.read(&stream, 4).await.unwrap(), []);
}

pub async fn the_first_commits_are_as_many_as_asked_for_and_tell_whether_there_are_more(store: &impl EventStore) {
    let stream = stream();
    assert_eq!(store.read_first(&stream, 5).await.unwrap(), Beginning { commits: vec![], more: false });
    let commits: Vec<Commit> = (1..=12).map(|version| commit(&stream, version)).collect();
    for commit in &commits {
        append_new(store, commit).await;
    }
    let beginning = store.read_first(&stream, 5).await.unwrap();
    assert_eq!(beginning, Beginning { commits: commits[..5].to_vec(), more: true });
    assert_eq!(store.read_first(&stream, 100).await.unwrap(), Beginning { commits, more: false });
}

pub async fn the_beginning_of_a_stream_of_several_megabytes_tells_that_there_is_more(store: &impl EventStore) {
    let stream = stream();
    let commits: Vec<Commit> = (1..=12).map(|version| commit_of_bytes(&stream, version, 150 * 1024)).collect();
    for commit in &commits {
        append_new(store, commit).await;
    }
    let beginning = store.read_first(&stream, 100).await.unwrap();
    let (first, rest) = commits.split_at(beginning.commits.len());
    assert!(!first.is_empty() && beginning.commits == first, "not what was appended first");
    assert_eq!(beginning.more, !rest.is_empty());
}

pub async fn streams_do_not_see_each_other(store: &impl EventStore) {
    let (one, other) = (stream(), stream());
    append_new(store, &commit(&one, 1)).await;
    assert_eq!(store.read(&other, 0).await.unwrap(), []);
    append_new(store, &commit(&other, 1)).await;
}

pub async fn of_many_commits_those_that_exist_are_read_at_once(store: &impl EventStore) {
    let mut appended = Vec::new();
    for _ in 0..20 {
        let stream = stream();
        let mut first = commit(&stream, 1);
        first.events.push(event(json!({})));
        for commit in [first, commit(&stream, 3)] {
            append_new(store, &commit).await;
            appended.push(commit);
        }
    }
    let there = appended.iter().map(|commit| (commit.stream.clone(), commit.version));
    // The number of an event that is not its commit's first names nothing.
    let not_there = appended.iter().map(|commit| (commit.stream.clone(), 2)).chain([(stream(), 1)]);
    let asked: Vec<(StreamId, u64)> = there.clone().take(3).chain(not_there).chain(there).collect();
    let mut read = store.read_each(&asked).await.unwrap();
    let by_place = |commit: &Commit| (commit.stream.clone(), commit.version);
    read.sort_by_key(by_place);
    appended.sort_by_key(by_place);
    assert_eq!(read, appended);
    assert_eq!(store.read_each(&[]).await.unwrap(), []);
}

pub async fn of_twenty_commands_at_one_version_exactly_one_wins(store: &impl EventStore) {
    let stream = stream();
    let commits: Vec<Commit> = (0..20).map(|_| commit(&stream, 1)).collect();
    let answers = at_once(commits.iter().map(|commit| store.append(commit))).await;
    let won: Vec<&Commit> =
        commits.iter().zip(&answers).filter(|(_, answer)| answer.is_ok()).map(|(commit, _)| commit).collect();
    assert_eq!(won.len(), 1);
    for answer in &answers {
        assert!(matches!(answer, Ok(Appended::Now) | Err(AppendError::Conflict)), "{answer:?}");
    }
    assert_eq!(store.read(&stream, 0).await.unwrap().iter().collect::<Vec<_>>(), won);
}

pub async fn a_repeated_command_is_answered_with_its_first_commit(store: &impl EventStore) {
    let first = commit(&stream(), 1);
    append_new(store, &first).await;
    // A retry may come with other circumstances; what it says is not stored.
    let again = Commit {
        events: vec![event(json!({"notification_id": "another"}))],
        metadata: Metadata { correlation_id: "correlation-2".to_owned(), ..first.metadata.clone() },
        ..first.clone()
    };
    assert_eq!(store.append(&again).await.unwrap(), Appended::Before(first.clone()));
    assert_eq!(store.read(&first.stream, 0).await.unwrap(), [first]);
}

pub async fn a_command_that_comes_twenty_times_at_once_is_appended_once(store: &impl EventStore) {
    let commit = commit(&stream(), 1);
    let answers = at_once((0..20).map(|_| store.append(&commit))).await;
    let answers: Vec<Appended> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers.iter().filter(|answer| **answer == Appended::Now).count(), 1);
    assert_eq!(answers.iter().filter(|answer| **answer == Appended::Before(commit.clone())).count(), 19);
    assert_eq!(store.read(&commit.stream, 0).await.unwrap(), [commit]);
}

pub async fn a_command_id_with_another_fingerprint_is_refused(store: &impl EventStore) {
    let first = commit(&stream(), 1);
    append_new(store, &first).await;
    let mut other = first.clone();
    other.metadata.fingerprint = "0".repeat(64);
    assert!(matches!(store.append(&other).await, Err(AppendError::CommandReused)));
    assert_eq!(store.read(&first.stream, 0).await.unwrap(), [first]);
}

pub async fn a_stream_of_several_megabytes_is_read_to_its_end(store: &impl EventStore) {
    let stream = stream();
    let commits: Vec<Commit> = (1..=12).map(|version| commit_of_bytes(&stream, version, 150 * 1024)).collect();
    for commit in &commits {
        append_new(store, commit).await;
    }
    assert!(store.read(&stream, 0).await.unwrap() == commits, "not what was appended");
    assert!(store.read(&stream, 2).await.unwrap() == commits[2..], "not what was appended after 2");
}

pub async fn a_commit_just_under_the_limit_is_stored(store: &impl EventStore) {
    // The limit of 400 KB is for the whole item; 1 KB is enough for everything but the events.
    let large = commit_of_bytes(&stream(), 1, 399 * 1024);
    append_new(store, &large).await;
    assert!(store.read(&large.stream, 0).await.unwrap() == [large], "not what was appended");
}

pub async fn a_commit_just_over_the_limit_writes_nothing(store: &impl EventStore) {
    let mut commit = commit_of_bytes(&stream(), 1, 400 * 1024 + 1);
    assert!(matches!(store.append(&commit).await, Err(AppendError::TooLarge)));
    assert_eq!(store.read(&commit.stream, 0).await.unwrap(), []);
    commit.events = vec![event(json!({}))];
    append_new(store, &commit).await;
}

pub async fn an_event_of_unknown_type_is_an_error_that_names_it(store: &impl EventStore) {
    let mut later = commit(&stream(), 1);
    let known = event(json!({"notification_id": null}));
    later.events = vec![RecordedEvent { event_type: "OrderTeleported".to_owned(), ..known.clone() }, known];
    append_new(store, &later).await;
    let stored = store.read(&later.stream, 0).await.unwrap();
    assert_eq!(stored, [later], "an event that nobody knows yet is kept like any other");
    let error = stored[0].events[0].read().unwrap_err();
    assert!(matches!(&error, UnreadableEvent::UnknownType(name) if name == "OrderTeleported"), "{error:?}");
    assert!(stored[0].events[1].read().is_ok());
}

pub async fn metadata_come_back_as_they_were(store: &impl EventStore) {
    let with_trace = commit(&stream(), 1);
    let mut without_trace = commit(&with_trace.stream, 2);
    without_trace.metadata = Metadata {
        traceparent: None,
        actor: "customer:auth0|安娜".to_owned(),
        causation_id: String::new(),
        ..without_trace.metadata
    };
    append_new(store, &with_trace).await;
    append_new(store, &without_trace).await;
    let stored = store.read(&with_trace.stream, 0).await.unwrap();
    assert_eq!(stored[0].metadata, with_trace.metadata);
    assert_eq!(stored[1].metadata, without_trace.metadata);
}

pub async fn event_data_come_back_as_they_were(store: &impl EventStore) {
    let mut commit = commit(&stream(), 1);
    commit.events = vec![event(json!({
        "name": "龙井茶 🍵 \"best\" \\ \u{7} line\nbreak",
        "empty": "",
        "null": null,
        "amount": 9_007_199_254_740_991_u64,
        "negative": -1,
        "fraction": 0.1,
        "nested": [{"deep": [[], {}, true]}],
    }))];
    append_new(store, &commit).await;
    assert_eq!(store.read(&commit.stream, 0).await.unwrap(), [commit]);
}

pub async fn the_log_has_every_commit_once_and_those_of_a_stream_together(store: &(impl EventStore + EventLog)) {
    let mut appended = Vec::new();
    for _ in 0..20 {
        let stream = stream();
        for version in 1..=3 {
            append_new(store, &commit(&stream, version)).await;
            appended.push((stream.clone(), version));
        }
    }
    for of in [1, 3] {
        let mut read = Vec::new();
        for number in 0..of {
            let mut after = None;
            loop {
                let page = store.page(Segment { number, of }, after.as_deref(), 7).await.unwrap();
                let LogPage { commits, next, read_units, .. } = page;
                assert!(commits.len() <= 7 && read_units >= 0.0);
                read.extend(commits.into_iter().map(|commit| (commit.stream, commit.version)));
                after = next;
                if after.is_none() {
                    break;
                }
            }
        }
        // Others may work in the same store.
        read.retain(|commit| appended.contains(commit));
        let streams = read.chunk_by(|one, next| one.0 == next.0);
        assert!(streams.into_iter().all(|commits| commits.is_sorted() && commits.len() == 3), "{read:?}");
        read.sort_unstable();
        appended.sort_unstable();
        assert_eq!(read, appended);
    }
}

/// Not among the laws of the macro, because it has to be told how to `spoil` a commit of this stream, at this version: what is stored there
/// then is something else.
pub async fn what_is_no_commit_is_named_by_the_log_and_hides_no_other<S: EventStore + EventLog>(
    store: &S,
    spoil: impl AsyncFnOnce(&StreamId, u64),
) {
    let stream = stream();
    for version in 1..=3 {
        append_new(store, &commit(&stream, version)).await;
    }
    spoil(&stream, 2).await;
    let error = store.read(&stream, 0).await.unwrap_err();
    assert!(error.is_lasting(), "{error:?}");
    let (mut read, mut unreadable, mut after) = (Vec::new(), Vec::new(), None);
    loop {
        let page = store.page(Segment { number: 0, of: 1 }, after.as_deref(), 2).await.unwrap();
        read.extend(page.commits.into_iter().map(|commit| (commit.stream, commit.version)));
        unreadable.extend(page.unreadable);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    // Others may work in the same store.
    read.retain(|(of, _)| *of == stream);
    unreadable.retain(|(of, _)| *of == stream);
    assert_eq!(read, [(stream.clone(), 1), (stream.clone(), 3)]);
    assert_eq!(unreadable, [(stream, 2)]);
}
