//! What every [`Limits`] must do.

use std::num::NonZeroU32;

use uuid::Uuid;

use super::{at_once, moment};
use crate::{
    limits::{Bucket, Micros, micros},
    ports::{Draw, Drawn, Limits},
};

/// One test per law; `make` is a future of the limits.
#[macro_export]
macro_rules! limits_conformance {
    ($make:expr) => {
        $crate::conformance_tests! { limits, $make,
            a_bucket_that_nobody_has_drawn_from_is_full
            tokens_come_back_with_time
            each_bucket_is_for_itself
            many_tokens_are_taken_all_or_none
            a_refused_draw_takes_nothing
            of_draws_that_come_at_once_no_more_are_granted_than_there_are_tokens
            what_was_seen_before_changes_no_answer
            what_was_lost_is_full_again_whatever_was_seen
            a_bucket_of_another_size_goes_by_the_same_time
        }
    };
}

const SECOND: Micros = 1_000_000;

fn name() -> String {
    format!("bucket#{}", Uuid::new_v4())
}

/// Holds so many tokens, of which one comes back in a second.
fn bucket(burst: u32) -> Bucket {
    Bucket::new(NonZeroU32::new(burst).unwrap(), NonZeroU32::new(60).unwrap())
}

/// So many seconds after the moment in which a law begins.
fn at(seconds: u64) -> Micros {
    micros(moment()) + seconds * SECOND
}

fn draw(name: &str, tokens: u32, now: Micros) -> Draw<'_> {
    Draw { name, bucket: bucket(3), tokens, now, seen: 0 }
}

async fn granted(limits: &impl Limits, draw: Draw<'_>) -> bool {
    matches!(limits.draw(&draw).await.unwrap(), Drawn::Taken { .. })
}

pub async fn a_bucket_that_nobody_has_drawn_from_is_full(limits: &impl Limits) {
    let name = name();
    for taken in 1..=3 {
        let drawn = limits.draw(&draw(&name, 1, at(0))).await.unwrap();
        assert_eq!(drawn, Drawn::Taken { full_at: at(taken) });
    }
    assert_eq!(limits.draw(&draw(&name, 1, at(0))).await.unwrap(), Drawn::Refused { full_at: at(3) });
}

pub async fn tokens_come_back_with_time(limits: &impl Limits) {
    let name = name();
    assert!(granted(limits, draw(&name, 3, at(0))).await);
    assert!(!granted(limits, draw(&name, 1, at(1) - 1)).await);
    assert!(granted(limits, draw(&name, 1, at(1))).await);
    assert!(!granted(limits, draw(&name, 3, at(3))).await);
    assert_eq!(limits.draw(&draw(&name, 3, at(100))).await.unwrap(), Drawn::Taken { full_at: at(103) });
}

pub async fn each_bucket_is_for_itself(limits: &impl Limits) {
    let (one, other) = (name(), name());
    assert!(granted(limits, draw(&one, 3, at(0))).await);
    assert!(granted(limits, draw(&other, 3, at(0))).await);
    assert!(!granted(limits, draw(&one, 1, at(0))).await);
}

pub async fn many_tokens_are_taken_all_or_none(limits: &impl Limits) {
    let name = name();
    assert!(granted(limits, draw(&name, 2, at(0))).await);
    assert!(!granted(limits, draw(&name, 2, at(0))).await);
    assert!(granted(limits, draw(&name, 1, at(0))).await);
    assert!(!granted(limits, draw(&name, 4, at(1_000))).await, "more than it holds");
}

pub async fn a_refused_draw_takes_nothing(limits: &impl Limits) {
    let name = name();
    assert!(granted(limits, draw(&name, 3, at(0))).await);
    for _ in 0..5 {
        assert_eq!(limits.draw(&draw(&name, 1, at(0))).await.unwrap(), Drawn::Refused { full_at: at(3) });
    }
    assert!(granted(limits, draw(&name, 1, at(1))).await);
}

pub async fn of_draws_that_come_at_once_no_more_are_granted_than_there_are_tokens(limits: &impl Limits) {
    let name = name();
    let draw = Draw { bucket: bucket(4), ..draw(&name, 1, at(0)) };
    let drawn = at_once((0..10).map(|_| limits.draw(&draw))).await;
    let granted = drawn.into_iter().filter(|drawn| matches!(drawn.as_ref().unwrap(), Drawn::Taken { .. })).count();
    assert_eq!(granted, 4);
}

pub async fn what_was_seen_before_changes_no_answer(limits: &impl Limits) {
    for seen in [0, at(1), at(2), at(3)] {
        let name = name();
        for _ in 0..3 {
            assert!(granted(limits, draw(&name, 1, at(0))).await);
        }
        let refused = limits.draw(&Draw { seen, ..draw(&name, 1, at(0)) }).await.unwrap();
        assert_eq!(refused, Drawn::Refused { full_at: at(3) });
        let taken = limits.draw(&Draw { seen, ..draw(&name, 1, at(2)) }).await.unwrap();
        assert_eq!(taken, Drawn::Taken { full_at: at(4) });
    }
}

pub async fn what_was_lost_is_full_again_whatever_was_seen(limits: &impl Limits) {
    let drawn = limits.draw(&Draw { seen: at(2), ..draw(&name(), 1, at(0)) }).await.unwrap();
    assert_eq!(drawn, Drawn::Taken { full_at: at(1) });
}

/// Whoever changes the numbers begins no new count.
pub async fn a_bucket_of_another_size_goes_by_the_same_time(limits: &impl Limits) {
    let name = name();
    assert!(granted(limits, draw(&name, 3, at(0))).await);
    assert!(granted(limits, Draw { bucket: bucket(10), ..draw(&name, 5, at(0)) }).await);
    assert_eq!(limits.draw(&draw(&name, 1, at(0))).await.unwrap(), Drawn::Refused { full_at: at(8) });
    assert!(granted(limits, draw(&name, 1, at(6))).await);
}
