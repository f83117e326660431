//! What every [`Counters`] must do.

use uuid::Uuid;

use super::at_once;
use crate::ports::Counters;

/// One test per law; `make` is a future of the counters.
#[macro_export]
macro_rules! counters_conformance {
    ($make:expr) => {
        $crate::conformance_tests! { counters, $make,
            a_counter_that_was_never_added_to_is_not_there
            amounts_add_up
            each_counter_counts_for_itself
            to_add_nothing_is_an_answer
            of_amounts_that_come_at_once_none_is_lost
            a_large_amount_comes_back_to_the_last_digit
        }
    };
}

fn counter() -> String {
    format!("counter_{}", Uuid::new_v4().simple())
}

async fn count(counters: &impl Counters, name: &str) -> Option<u64> {
    counters.read().await.unwrap().get(name).copied()
}

pub async fn a_counter_that_was_never_added_to_is_not_there(counters: &impl Counters) {
    counters.add(&[(counter(), 1)]).await.unwrap();
    assert_eq!(count(counters, &counter()).await, None);
}

pub async fn amounts_add_up(counters: &impl Counters) {
    let name = counter();
    for (amount, sum) in [(1, 1), (41, 42), (0, 42), (1_000, 1_042)] {
        counters.add(&[(name.clone(), amount)]).await.unwrap();
        assert_eq!(count(counters, &name).await, Some(sum));
    }
}

pub async fn each_counter_counts_for_itself(counters: &impl Counters) {
    let names = [counter(), counter(), counter()];
    let [one, other, third] = names.clone();
    counters.add(&[(one.clone(), 1), (other, 20)]).await.unwrap();
    counters.add(&[(third, 300), (one, 4_000)]).await.unwrap();
    let read = counters.read().await.unwrap();
    assert_eq!(names.map(|name| read[&name]), [4_001, 20, 300]);
}

pub async fn to_add_nothing_is_an_answer(counters: &impl Counters) {
    counters.add(&[]).await.unwrap();
}

pub async fn of_amounts_that_come_at_once_none_is_lost(counters: &impl Counters) {
    let amounts = [(counter(), 3), (counter(), 5)];
    for added in at_once((0..10).map(|_| counters.add(&amounts))).await {
        added.unwrap();
    }
    let read = counters.read().await.unwrap();
    assert_eq!((read[&amounts[0].0], read[&amounts[1].0]), (30, 50));
}

pub async fn a_large_amount_comes_back_to_the_last_digit(counters: &impl Counters) {
    let name = counter();
    // One more than what a floating-point number tells apart.
    let large = (1 << 53) + 1;
    counters.add(&[(name.clone(), large)]).await.unwrap();
    counters.add(&[(name.clone(), 1)]).await.unwrap();
    assert_eq!(count(counters, &name).await, Some(large + 1));
}
