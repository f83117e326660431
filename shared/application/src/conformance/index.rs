//! What every [`Index`] must do.

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    ids::{CustomerId, OrderId},
    money::{Currency, Money},
};
use serde_json::json;
use uuid::Uuid;

use super::{at_once, moment};
use crate::{
    event_store::{Commit, Metadata, RecordedEvent, StreamId},
    ports::{EventPlace, Index, Position, Posting},
    stats::{Hour, Stat, Stats, Sum},
};

/// One test per law; `make` is a future of the index.
#[macro_export]
macro_rules! index_conformance {
    ($make:expr) => {
        $crate::conformance_tests! { index, $make,
            an_unknown_term_has_no_customers
            customers_under_two_terms_do_not_mix
            what_is_added_again_is_there_once_with_its_last_text
            what_is_removed_is_gone_and_what_is_not_there_may_be_removed
            a_long_list_is_read_as_far_as_wanted
            postings_added_from_many_sides_at_once_are_all_there
            an_unknown_type_has_no_events
            events_come_newest_first_and_by_stream_and_number_where_the_times_are_equal
            an_event_comes_back_with_its_place_in_its_commit_and_its_time_in_milliseconds
            an_event_is_listed_once_in_whatever_company_it_comes
            a_list_is_read_from_any_position_on_including_it
            a_list_is_read_back_to_a_time_and_no_further
            a_list_in_pages_is_the_whole_list
            commits_listed_from_many_sides_at_once_are_all_there
            what_is_counted_adds_up_hour_by_hour
            hours_are_read_from_the_first_up_to_the_last_without_it
            what_is_counted_from_many_sides_at_once_all_counts
        }
    };
}

/// A term, or a type, that no other law uses.
fn term() -> String {
    format!("安-{}", Uuid::new_v4())
}

fn posting(term: &str, customer: &str, text: &str) -> Posting {
    Posting { term: term.to_owned(), customer: CustomerId::stored(customer), text: text.to_owned() }
}

async fn under(index: &impl Index, term: &str) -> Vec<Posting> {
    let mut postings = index.customers(term, 10_000).await.unwrap();
    postings.sort_unstable();
    postings
}

pub async fn an_unknown_term_has_no_customers(index: &impl Index) {
    assert_eq!(under(index, &term()).await, []);
    index.add(&[]).await.unwrap();
    index.remove(&[]).await.unwrap();
}

pub async fn customers_under_two_terms_do_not_mix(index: &impl Index) {
    let (one, other) = (term(), term());
    let postings = [posting(&one, "auth0|anna/b#c", "龙井 \"茶\"\nb"), posting(&other, "bert", "")];
    index.add(&postings).await.unwrap();
    assert_eq!(under(index, &one).await, postings[..1]);
    index.remove(&[posting(&one, "bert", "")]).await.unwrap();
    assert_eq!(under(index, &other).await, postings[1..]);
}

pub async fn what_is_added_again_is_there_once_with_its_last_text(index: &impl Index) {
    let term = term();
    for text in ["first", "first", "changed", ""] {
        index.add(&[posting(&term, "anna", text)]).await.unwrap();
        assert_eq!(under(index, &term).await, [posting(&term, "anna", text)]);
    }
}

pub async fn what_is_removed_is_gone_and_what_is_not_there_may_be_removed(index: &impl Index) {
    let term = term();
    index.add(&[posting(&term, "anna", "a"), posting(&term, "bert", "b")]).await.unwrap();
    for _ in 0..2 {
        index.remove(&[posting(&term, "anna", "another"), posting(&term, "carl", "c")]).await.unwrap();
        assert_eq!(under(index, &term).await, [posting(&term, "bert", "b")]);
    }
}

pub async fn a_long_list_is_read_as_far_as_wanted(index: &impl Index) {
    let term = term();
    // About two megabytes, which no store answers at once.
    let text = "茶".repeat(2_000);
    let all: Vec<Posting> = (0..330).map(|number| posting(&term, &format!("{number:03}"), &text)).collect();
    index.add(&all).await.unwrap();
    assert!(under(index, &term).await == all);
    for limit in [0, 1, 329, 330] {
        assert_eq!(index.customers(&term, limit).await.unwrap().len(), limit);
    }
    index.remove(&all[..300]).await.unwrap();
    assert!(under(index, &term).await == all[300..]);
}

pub async fn postings_added_from_many_sides_at_once_are_all_there(index: &impl Index) {
    let term = term();
    let sides: Vec<Vec<Posting>> =
        (0..20).map(|side| vec![posting(&term, &format!("{side}"), ""), posting(&term, "shared", "")]).collect();
    for answer in at_once(sides.iter().map(|side| index.add(side))).await {
        answer.unwrap();
    }
    assert_eq!(under(index, &term).await.len(), 21);
}

/// So many milliseconds after a whole one.
fn after(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(moment().timestamp_millis()).unwrap() + TimeDelta::milliseconds(millis)
}

fn commit(stream: &StreamId, version: u64, types: &[&str], at: DateTime<Utc>) -> Commit {
    let event = |event_type: &&str| RecordedEvent { event_type: (*event_type).to_owned(), schema: 1, data: json!({}) };
    Commit {
        stream: stream.clone(),
        version,
        events: types.iter().map(event).collect(),
        metadata: Metadata::of_nobody(at),
    }
}

/// A stream that comes after others by its number.
fn stream(number: u128) -> StreamId {
    StreamId::order(OrderId::new(Uuid::from_u128(number)))
}

/// Some commits with one event of this type each, the newest first, as the list has them.
fn newest_first(event_type: &str) -> Vec<Commit> {
    let streams = [(3, 1), (2, 2), (2, 1), (1, 4)];
    let later_ones = [(after(200_000), 1, 7), (after(3), 3, 1)].into_iter();
    let same_time = streams.into_iter().map(|(number, version)| (after(2), number, version));
    let all = later_ones.chain(same_time).chain([(after(-90_000_000), 9, 1)]);
    all.map(|(at, number, version)| commit(&stream(number), version, &[event_type], at)).collect()
}

fn places(commits: &[Commit]) -> Vec<EventPlace> {
    commits.iter().flat_map(EventPlace::of).map(|(_, place)| place).collect()
}

async fn all(index: &impl Index, event_type: &str) -> Vec<EventPlace> {
    index.newest(event_type, None, None, 10_000).await.unwrap()
}

pub async fn an_unknown_type_has_no_events(index: &impl Index) {
    index.list(&[]).await.unwrap();
    assert_eq!(all(index, &term()).await, []);
}

pub async fn events_come_newest_first_and_by_stream_and_number_where_the_times_are_equal(index: &impl Index) {
    let event_type = term();
    let commits = newest_first(&event_type);
    let mut mixed = commits.clone();
    mixed.rotate_left(2);
    index.list(&mixed).await.unwrap();
    assert_eq!(all(index, &event_type).await, places(&commits));
    assert_eq!(index.newest(&event_type, None, None, 2).await.unwrap(), places(&commits[..2]));
    assert_eq!(index.newest(&event_type, None, None, 0).await.unwrap(), []);
}

pub async fn an_event_comes_back_with_its_place_in_its_commit_and_its_time_in_milliseconds(index: &impl Index) {
    let (one, other) = (term(), term());
    let customer = StreamId::customer(&CustomerId::stored("auth0|安娜/b#c"));
    assert_ne!(moment(), after(0));
    let commits = [
        commit(&customer, 7, &[&one, &other, &one], moment()),
        commit(&StreamId::new("something else".to_owned()), 1, &[&other], after(-1)),
    ];
    index.list(&commits).await.unwrap();
    let place =
        |version| EventPlace { millis: after(0).timestamp_millis(), stream: customer.clone(), version, commit: 7 };
    assert_eq!(all(index, &one).await, [place(9), place(7)]);
    assert_eq!(all(index, &other).await[0], place(8));
    assert_eq!(all(index, &other).await[1].stream, commits[1].stream);
}

/// A batch comes again in other batches, or a stream by itself.
pub async fn an_event_is_listed_once_in_whatever_company_it_comes(index: &impl Index) {
    let event_type = term();
    let commits = newest_first(&event_type);
    for some in [&commits[1..5], &commits[1..2], &commits[3..5], &commits[..], &commits[4..5], &commits[1..5]] {
        index.list(some).await.unwrap();
    }
    assert_eq!(all(index, &event_type).await, places(&commits));
}

pub async fn a_list_is_read_from_any_position_on_including_it(index: &impl Index) {
    let event_type = term();
    let commits = newest_first(&event_type);
    index.list(&commits).await.unwrap();
    let list = places(&commits);
    let at_or_before = async |position: Position| index.newest(&event_type, Some(&position), None, 10).await.unwrap();
    for (first, place) in list.iter().enumerate() {
        assert_eq!(at_or_before(place.position()).await, list[first..]);
    }
    let between = Position::new(after(2), format!("{}/5", stream(2).as_str()));
    assert_eq!(at_or_before(between).await, list[3..]);
    assert_eq!(at_or_before(Position::start_of(after(2))).await, list[6..]);
    assert_eq!(at_or_before(Position::start_of(after(-90_000_000))).await, []);
}

pub async fn a_list_is_read_back_to_a_time_and_no_further(index: &impl Index) {
    let event_type = term();
    let commits = newest_first(&event_type);
    index.list(&commits).await.unwrap();
    let list = places(&commits);
    for (time, count) in [(-90_000_001, 7), (-90_000_000, 7), (2, 6), (3, 2), (4, 1), (300_000, 0)] {
        assert_eq!(index.newest(&event_type, None, Some(after(time)), 10).await.unwrap(), list[..count], "{time}");
    }
    let (middle, second) = (list[1].position(), after(2));
    assert_eq!(index.newest(&event_type, Some(&middle), Some(second), 10).await.unwrap(), list[1..6]);
    assert_eq!(index.newest(&event_type, Some(&middle), Some(after(4)), 10).await.unwrap(), []);
}

/// Several of a second, over some minutes, in batches as they come.
pub async fn a_list_in_pages_is_the_whole_list(index: &impl Index) {
    let event_type = term();
    let commits: Vec<Commit> = (0..400_i64)
        .map(|number| commit(&stream(u128::from(number.unsigned_abs())), 1, &[&event_type], after(number / 3 * 1_000)))
        .collect();
    for batch in commits.chunks(7) {
        index.list(batch).await.unwrap();
    }
    let mut expected = places(&commits);
    expected.sort_unstable_by_key(|place| std::cmp::Reverse(place.position()));
    assert_eq!(all(index, &event_type).await, expected);
    let mut told: Vec<EventPlace> = Vec::new();
    loop {
        let from = told.last().map(EventPlace::position);
        let page = index.newest(&event_type, from.as_ref(), None, 100).await.unwrap();
        let count = page.len();
        told.extend(page.into_iter().filter(|place| from.as_ref() != Some(&place.position())));
        if count < 100 {
            break;
        }
    }
    assert_eq!(told, expected);
}

pub async fn commits_listed_from_many_sides_at_once_are_all_there(index: &impl Index) {
    let event_type = term();
    let shared = commit(&stream(99), 1, &[&event_type], after(0));
    let sides: Vec<Vec<Commit>> =
        (0..20).map(|side| vec![commit(&stream(side), 1, &[&event_type], after(1)), shared.clone()]).collect();
    for answer in at_once(sides.iter().map(|side| index.list(side))).await {
        answer.unwrap();
    }
    assert_eq!(all(index, &event_type).await.len(), 21);
}

/// An hour that no other law uses, nor the ten after it.
fn hour() -> Hour {
    let (number, ..) = Uuid::new_v4().as_u64_pair();
    Hour::new(i64::try_from(number % 100_000_000).unwrap() * 10)
}

fn sum(count: u64, amounts: &[(&str, u64)]) -> Sum {
    Sum { count, amounts: amounts.iter().map(|(code, amount)| (Currency::parse(code).unwrap(), *amount)).collect() }
}

fn stats(counted: &[(Hour, Stat, Sum)]) -> Stats {
    let mut stats = Stats::default();
    for (hour, stat, sum) in counted {
        stats.add(*hour, *stat, sum);
    }
    stats
}

fn later(hour: Hour, hours: i64) -> Hour {
    Hour::new(hour.number() + hours)
}

pub async fn what_is_counted_adds_up_hour_by_hour(index: &impl Index) {
    let first = hour();
    let all = |cny, usd| {
        Stat::ALL.into_iter().map(move |stat| (first, stat, sum(1, &[("CNY", cny), ("USD", usd)]))).collect::<Vec<_>>()
    };
    index.count(&Stats::default()).await.unwrap();
    assert_eq!(index.stats(first, later(first, 10)).await.unwrap(), Stats::default());
    index.count(&stats(&all(1, 2))).await.unwrap();
    index.count(&stats(&all(Money::MAX_AMOUNT, 0))).await.unwrap();
    index.count(&stats(&[(later(first, 1), Stat::Placed, sum(7, &[("JPY", 5)]))])).await.unwrap();
    let expected =
        Stat::ALL.into_iter().map(|stat| (first, stat, sum(2, &[("CNY", Money::MAX_AMOUNT + 1), ("USD", 2)])));
    let expected: Vec<_> = expected.chain([(later(first, 1), Stat::Placed, sum(7, &[("JPY", 5)]))]).collect();
    assert_eq!(index.stats(first, later(first, 10)).await.unwrap(), stats(&expected));
}

pub async fn hours_are_read_from_the_first_up_to_the_last_without_it(index: &impl Index) {
    let first = hour();
    let counted: Vec<_> = (0..10).map(|hours| (later(first, hours), Stat::Placed, sum(1, &[("CNY", 5)]))).collect();
    index.count(&stats(&counted)).await.unwrap();
    for (from, to) in [(0, 10), (3, 4), (3, 9), (5, 5), (7, 3)] {
        let wanted = counted.get(from..to).unwrap_or_default();
        let (from, to) = (i64::try_from(from).unwrap(), i64::try_from(to).unwrap());
        let read = index.stats(later(first, from), later(first, to)).await.unwrap();
        assert_eq!(read, stats(wanted), "{from} to {to}");
    }
}

pub async fn what_is_counted_from_many_sides_at_once_all_counts(index: &impl Index) {
    let first = hour();
    let counted = stats(&[(first, Stat::Confirmed, sum(1, &[("CNY", 3)]))]);
    for answer in at_once((0..20).map(|_| index.count(&counted))).await {
        answer.unwrap();
    }
    let read = index.stats(first, later(first, 1)).await.unwrap();
    assert_eq!(read, stats(&[(first, Stat::Confirmed, sum(20, &[("CNY", 60)]))]));
}
