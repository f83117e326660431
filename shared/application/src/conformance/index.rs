//! What every [`Index`] must do.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{at_once, moment};
use crate::ports::{Entry, Index, Position, Posting};

/// One test per law; `make` is a future of the index.
#[macro_export]
macro_rules! index_conformance {
    ($make:expr) => {
        $crate::conformance_tests! { index, $make,
            an_unknown_term_has_no_postings
            a_posting_comes_back_with_its_time_in_milliseconds
            postings_come_newest_first_and_by_id_where_the_times_are_equal
            postings_of_two_terms_do_not_mix
            what_is_added_again_is_there_once_with_its_last_text
            what_is_removed_is_gone_and_what_is_not_there_may_be_removed
            a_list_is_read_from_any_position_on_including_it
            a_list_is_read_back_to_a_time_and_no_further
            a_list_in_pages_is_the_whole_list
            any_number_of_entries_is_added_and_removed_at_once
            entries_added_from_many_sides_at_once_are_all_there
        }
    };
}

/// A term that no other law uses.
fn term() -> String {
    format!("安-{}", Uuid::new_v4())
}

/// So many milliseconds after a whole one.
fn after(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(moment().timestamp_millis()).unwrap() + TimeDelta::milliseconds(millis)
}

fn posting(millis: i64, id: &str) -> Posting {
    Posting { at: after(millis), id: id.to_owned(), text: format!("{id} \"龙井\"") }
}

fn entries(term: &str, postings: &[Posting]) -> Vec<Entry> {
    postings.iter().map(|posting| Entry { term: term.to_owned(), posting: posting.clone() }).collect()
}

async fn all(index: &impl Index, term: &str) -> Vec<Posting> {
    index.newest(term, None, None, 10_000).await.unwrap()
}

pub async fn an_unknown_term_has_no_postings(index: &impl Index) {
    assert_eq!(all(index, &term()).await, []);
    index.add(&[]).await.unwrap();
    index.remove(&[]).await.unwrap();
}

pub async fn a_posting_comes_back_with_its_time_in_milliseconds(index: &impl Index) {
    let term = term();
    let exact = Posting { at: moment(), id: "a/b#c".to_owned(), text: String::new() };
    assert_ne!(exact.at, after(0));
    index.add(&entries(&term, std::slice::from_ref(&exact))).await.unwrap();
    assert_eq!(all(index, &term).await, [Posting { at: after(0), ..exact }]);
}

pub async fn postings_come_newest_first_and_by_id_where_the_times_are_equal(index: &impl Index) {
    let term = term();
    let newest_first = [posting(1_000, "a"), posting(2, "b"), posting(2, "aa"), posting(2, "a"), posting(-9, "z")];
    let mut mixed = newest_first.clone();
    mixed.rotate_left(2);
    index.add(&entries(&term, &mixed)).await.unwrap();
    assert_eq!(all(index, &term).await, newest_first);
    assert_eq!(index.newest(&term, None, None, 2).await.unwrap(), newest_first[..2]);
    assert_eq!(index.newest(&term, None, None, 0).await.unwrap(), []);
}

pub async fn postings_of_two_terms_do_not_mix(index: &impl Index) {
    let (one, other) = (term(), term());
    index.add(&[entries(&one, &[posting(1, "a")]), entries(&other, &[posting(1, "b")])].concat()).await.unwrap();
    assert_eq!(all(index, &one).await, [posting(1, "a")]);
    index.remove(&entries(&one, &[posting(1, "b")])).await.unwrap();
    assert_eq!(all(index, &other).await, [posting(1, "b")]);
}

pub async fn what_is_added_again_is_there_once_with_its_last_text(index: &impl Index) {
    let term = term();
    let first = posting(1, "a");
    let changed = Posting { text: "changed".to_owned(), ..first.clone() };
    for _ in 0..2 {
        index.add(&entries(&term, std::slice::from_ref(&first))).await.unwrap();
        assert_eq!(all(index, &term).await, std::slice::from_ref(&first));
    }
    index.add(&entries(&term, &[first.clone(), changed.clone()])).await.unwrap();
    assert_eq!(all(index, &term).await, std::slice::from_ref(&changed));
    let silent = Posting { text: String::new(), ..first };
    index.add(&entries(&term, std::slice::from_ref(&silent))).await.unwrap();
    assert_eq!(all(index, &term).await, [silent]);
}

pub async fn what_is_removed_is_gone_and_what_is_not_there_may_be_removed(index: &impl Index) {
    let term = term();
    index.add(&entries(&term, &[posting(1, "a"), posting(2, "a")])).await.unwrap();
    let gone = Posting { text: "another".to_owned(), ..posting(1, "a") };
    for _ in 0..2 {
        index.remove(&entries(&term, &[gone.clone(), posting(3, "a"), gone.clone()])).await.unwrap();
        assert_eq!(all(index, &term).await, [posting(2, "a")]);
    }
}

pub async fn a_list_is_read_from_any_position_on_including_it(index: &impl Index) {
    let term = term();
    let list = [posting(3, "c"), posting(2, "b"), posting(2, "a"), posting(1, "d")];
    index.add(&entries(&term, &list)).await.unwrap();
    let at_or_before = async |position: Position| index.newest(&term, Some(&position), None, 10).await.unwrap();
    for (first, posting) in list.iter().enumerate() {
        assert_eq!(at_or_before(posting.position()).await, list[first..]);
    }
    assert_eq!(at_or_before(Position::new(after(2), "ab")).await, list[2..]);
    assert_eq!(at_or_before(Position::start_of(after(2))).await, list[3..]);
    assert_eq!(at_or_before(Position::start_of(after(1))).await, []);
}

pub async fn a_list_is_read_back_to_a_time_and_no_further(index: &impl Index) {
    let term = term();
    let list = [posting(3, "c"), posting(2, "b"), posting(2, "a"), posting(1, "d")];
    index.add(&entries(&term, &list)).await.unwrap();
    for (time, count) in [(0, 4), (1, 4), (2, 3), (3, 1), (4, 0)] {
        assert_eq!(index.newest(&term, None, Some(after(time)), 10).await.unwrap(), list[..count], "{time}");
    }
    let (middle, second) = (list[1].position(), after(2));
    assert_eq!(index.newest(&term, Some(&middle), Some(second), 10).await.unwrap(), list[1..3]);
    assert_eq!(index.newest(&term, Some(&middle), Some(after(4)), 10).await.unwrap(), []);
}

pub async fn a_list_in_pages_is_the_whole_list(index: &impl Index) {
    let term = term();
    // About two megabytes, which no store answers at once.
    let text = "茶".repeat(2_000);
    let mut list: Vec<Posting> =
        (0..330).map(|n| Posting { text: text.clone(), ..posting(n / 3, &format!("{:03}", n % 3)) }).collect();
    index.add(&entries(&term, &list)).await.unwrap();
    list.reverse();
    assert!(all(index, &term).await == list);
    let mut told: Vec<Posting> = Vec::new();
    loop {
        let from = told.last().map(Posting::position);
        let page = index.newest(&term, from.as_ref(), None, 100).await.unwrap();
        let count = page.len();
        told.extend(page.into_iter().filter(|posting| from.as_ref() != Some(&posting.position())));
        if count < 100 {
            break;
        }
    }
    assert!(told == list);
}

pub async fn any_number_of_entries_is_added_and_removed_at_once(index: &impl Index) {
    let term = term();
    let mut list: Vec<Posting> = (0..130).map(|n| posting(n, "a")).collect();
    index.add(&entries(&term, &list)).await.unwrap();
    list.reverse();
    assert_eq!(all(index, &term).await, list);
    index.remove(&entries(&term, &list[..115])).await.unwrap();
    assert_eq!(all(index, &term).await, list[115..]);
}

pub async fn entries_added_from_many_sides_at_once_are_all_there(index: &impl Index) {
    let term = term();
    let sides: Vec<Vec<Entry>> =
        (0..20).map(|side| entries(&term, &[posting(side, "a"), posting(side, "b"), posting(0, "shared")])).collect();
    for answer in at_once(sides.iter().map(|side| index.add(side))).await {
        answer.unwrap();
    }
    assert_eq!(all(index, &term).await.len(), 41);
}
