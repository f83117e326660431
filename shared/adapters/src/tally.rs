//! What a warm function counts: in memory, and every few seconds in which it is asked for something it hands that on.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use application::ports::{Cache, Counter, Counters};
use tokio::time::{Instant, timeout};
use tracing::debug;

use crate::lambda::chain;

/// How long is counted before it is handed on. What a process has counted since is lost when Lambda ends it.
pub const HAND_ON_AFTER: Duration = Duration::from_secs(5);

/// How long handing on may take. `DynamoDB` takes a few milliseconds; who waits longer would keep a client waiting.
const PATIENCE: Duration = Duration::from_millis(250);

/// Figures that are lost, or counted twice, at times: an operator sees no difference, and a client must not wait for them.
pub struct Tally(Mutex<Counted>);

struct Counted {
    amounts: BTreeMap<Counter, u64>,
    /// When it was last tried, by either clock: one may stand still while Lambda keeps the function frozen, the other is set.
    handed_on: (Instant, SystemTime),
}

impl Default for Tally {
    fn default() -> Self {
        Self(Mutex::new(Counted { amounts: BTreeMap::new(), handed_on: now() }))
    }
}

impl Tally {
    pub fn count(&self, counter: Counter, amount: u64) {
        self.change(|counted| {
            let count = counted.amounts.entry(counter).or_default();
            *count = count.saturating_add(amount);
        });
    }

    /// Counts a look into a cache.
    pub fn look(&self, cache: Cache, hit: bool) {
        self.count(if hit { Counter::Hits(cache) } else { Counter::Misses(cache) }, 1);
    }

    /// Does the work, and at the same time hands on what was counted so far, if that is due.
    ///
    /// The answer waits for whichever takes longer. Were it not to wait, Lambda would stop the process with a call under way,
    /// and nobody would ever know whether that had counted.
    pub async fn beside<T>(&self, counters: &impl Counters, work: impl Future<Output = T>) -> T {
        let (answer, ()) = tokio::join!(work, self.hand_on(counters));
        answer
    }

    /// Hands on what was counted, if that is due. What does not get through in time stays for the next time.
    pub async fn hand_on(&self, counters: &impl Counters) {
        let Some(amounts) = self.due() else { return };
        let named: Vec<(String, u64)> = amounts.iter().map(|(counter, amount)| (counter.name(), *amount)).collect();
        match timeout(PATIENCE, counters.add(&named)).await {
            Ok(Ok(())) => self.change(|counted| counted.take_off(&amounts)),
            Ok(Err(error)) => debug!(error = chain(&error), "counts not handed on"),
            Err(_) => debug!("counts not handed on in time"),
        }
    }

    fn due(&self) -> Option<BTreeMap<Counter, u64>> {
        self.change(|counted| {
            let (since, on_the_wall) = counted.handed_on;
            let is_due =
                since.elapsed() >= HAND_ON_AFTER || on_the_wall.elapsed().is_ok_and(|elapsed| elapsed >= HAND_ON_AFTER);
            if counted.amounts.is_empty() || !is_due {
                return None;
            }
            counted.handed_on = now();
            Some(counted.amounts.clone())
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut Counted) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn now() -> (Instant, SystemTime) {
    (Instant::now(), SystemTime::now())
}

impl Counted {
    /// Leaves what was counted meanwhile.
    fn take_off(&mut self, handed_on: &BTreeMap<Counter, u64>) {
        for (counter, amount) in handed_on {
            if let Some(count) = self.amounts.get_mut(counter) {
                *count = count.saturating_sub(*amount);
            }
        }
        self.amounts.retain(|_, count| *count > 0);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use application::{
        event_store::Unavailable,
        memory::{Fault, MemoryCounters},
    };

    use super::*;

    async fn commits(counters: &MemoryCounters) -> u64 {
        counters.read().await.unwrap().get(&Counter::CommitsProjected.name()).copied().unwrap_or_default()
    }

    #[tokio::test(start_paused = true)]
    async fn counts_are_handed_on_every_few_seconds_each_once() {
        let (tally, counters) = (Tally::default(), MemoryCounters::default());
        for (second, there) in [(1, 0), (2, 0), (3, 0), (4, 0), (5, 5), (6, 5), (7, 5), (8, 5), (9, 5), (10, 10)] {
            tokio::time::advance(Duration::from_secs(1)).await;
            tally.count(Counter::CommitsProjected, 1);
            tally.hand_on(&counters).await;
            assert_eq!(commits(&counters).await, there, "after {second} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_stands_still_while_the_function_is_frozen_holds_nothing_up() {
        let (tally, counters) = (Tally::default(), MemoryCounters::default());
        tally.count(Counter::CommitsProjected, 1);
        let earlier = SystemTime::now().checked_sub(HAND_ON_AFTER).unwrap();
        tally.change(|counted| counted.handed_on.1 = earlier);
        tally.hand_on(&counters).await;
        assert_eq!(commits(&counters).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_get_through_stays_for_the_next_time() {
        let (tally, counters) = (Tally::default(), MemoryCounters::default());
        counters.faults.push(Fault::BeforeEffect);
        for there in [0, 2] {
            tally.count(Counter::CommitsProjected, 1);
            tokio::time::advance(HAND_ON_AFTER).await;
            tally.hand_on(&counters).await;
            assert_eq!(commits(&counters).await, there);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_into_a_cache_counts_as_a_hit_or_as_a_miss() {
        let (tally, counters) = (Tally::default(), MemoryCounters::default());
        for hit in [true, false, true] {
            tally.look(Cache::Etag, hit);
        }
        tokio::time::advance(HAND_ON_AFTER).await;
        tally.beside(&counters, async {}).await;
        let counts = [(Counter::Hits(Cache::Etag), 2), (Counter::Misses(Cache::Etag), 1)];
        assert_eq!(counters.read().await.unwrap(), counts.map(|(counter, count)| (counter.name(), count)).into());
    }

    /// Never answers.
    struct Silent;

    impl Counters for Silent {
        async fn add(&self, _: &[(String, u64)]) -> Result<(), Unavailable> {
            pending().await
        }

        async fn read(&self) -> Result<BTreeMap<String, u64>, Unavailable> {
            pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn counters_that_do_not_answer_keep_nobody_waiting_for_long() {
        let tally = Tally::default();
        tally.count(Counter::CommitsProjected, 1);
        tokio::time::advance(HAND_ON_AFTER).await;
        let started = Instant::now();
        assert_eq!(tally.beside(&Silent, async { "answer" }).await, "answer");
        assert!((PATIENCE..HAND_ON_AFTER).contains(&started.elapsed()));
        // Nor the next one at all.
        let started = Instant::now();
        tally.beside(&Silent, async {}).await;
        assert!(started.elapsed().is_zero());
        let counters = MemoryCounters::default();
        tokio::time::advance(HAND_ON_AFTER).await;
        tally.hand_on(&counters).await;
        assert_eq!(commits(&counters).await, 1);
    }
}
