//! What a warm function counts: in memory, and every few seconds in which it is asked for something it hands that on. `CloudWatch`
//! is told of figures at once.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use application::{
    figures::Figure,
    ports::{Cache, Counter, Counters},
};
use telemetry::{
    figures::{self, Metric},
    process,
};
use tokio::time::{Instant, timeout};
use tracing::debug;

use crate::{
    lambda::{Ending, chain},
    processes,
};

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

    /// Tells these figures, and counts them.
    pub fn record(&self, figures: &[Figure]) {
        figures::write(figures.iter().flat_map(|figure| metrics_of(*figure)));
        for (counter, amount) in figures.iter().flat_map(|figure| figure.counts()) {
            self.count(counter, amount);
        }
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
        if let Some(amounts) = self.due(false) {
            self.hand_on_these(counters, amounts).await;
        }
    }

    /// Hands on what was counted, and reports what was used, when the process is told to end: to be awaited in `main`, last thing
    /// before the first invocation.
    pub async fn hand_on_at_the_end(self: &Arc<Self>, counters: &Arc<impl Counters + 'static>, ending: Ending) {
        let (tally, counters) = (Arc::clone(self), Arc::clone(counters));
        ending
            .with(|| async move {
                let counts = async {
                    if let Some(amounts) = tally.due(true) {
                        tally.hand_on_these(&*counters, amounts).await;
                    }
                };
                tokio::join!(counts, Box::pin(processes::report_in_any_case()));
            })
            .await;
    }

    async fn hand_on_these(&self, counters: &impl Counters, amounts: BTreeMap<Counter, u64>) {
        let named: Vec<(String, u64)> = amounts.iter().map(|(counter, amount)| (counter.name(), *amount)).collect();
        match timeout(PATIENCE, counters.add(&named)).await {
            Ok(Ok(())) => {
                self.change(|counted| counted.take_off(&amounts));
                figures::write(amounts.into_iter().filter_map(|(counter, amount)| added_up(counter, amount)));
                figures::write(process::metrics());
            }
            Ok(Err(error)) => debug!(error = chain(&error), "counts not handed on"),
            Err(_) => debug!("counts not handed on in time"),
        }
    }

    fn due(&self, in_any_case: bool) -> Option<BTreeMap<Counter, u64>> {
        self.change(|counted| {
            let (since, on_the_wall) = counted.handed_on;
            let is_due = in_any_case
                || since.elapsed() >= HAND_ON_AFTER
                || on_the_wall.elapsed().is_ok_and(|elapsed| elapsed >= HAND_ON_AFTER);
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

/// A figure as `CloudWatch` is told it.
fn metrics_of(figure: Figure) -> Vec<Metric> {
    match figure {
        Figure::OrderPlaced => vec![Metric::count("OrdersPlaced", 1)],
        Figure::OrderConfirmed(after) => {
            vec![Metric::count("OrdersConfirmed", 1), Metric::time("TimeToConfirm", after)]
        }
        Figure::OrderRejected(reason) => vec![Metric::count("OrdersRejected", 1).of("Reason", reason)],
        Figure::OrderCancelled => vec![Metric::count("OrdersCancelled", 1)],
        Figure::OrderFlagged(step) => vec![Metric::count("OrdersFlagged", 1).of("Step", step)],
        Figure::Refunded(money) => {
            let currency = money.currency().to_string();
            vec![
                Metric::count("Refunds", 1).of("Currency", currency.clone()),
                Metric::plain("RefundedMinorUnits", money.amount()).of("Currency", currency),
            ]
        }
        Figure::CommitProjected(after) => vec![Metric::time("ProjectionLag", after)],
    }
}

/// What is only added up, as `CloudWatch` is told it when that is handed on; `None` of figures, which it was told at once.
fn added_up(counter: Counter, amount: u64) -> Option<Metric> {
    match counter {
        Counter::Hits(cache) => Some(Metric::count("CacheHits", amount).of("Cache", cache.name())),
        Counter::Misses(cache) => Some(Metric::count("CacheMisses", amount).of("Cache", cache.name())),
        Counter::RateLimited(class) => Some(Metric::count("RequestsRefused", amount).of("Limit", class.name())),
        Counter::RateLimitFailures => Some(Metric::count("LimitsNotAsked", amount)),
        Counter::OrdersPlaced
        | Counter::OrdersRejected(_)
        | Counter::OrdersCancelled
        | Counter::OrdersFlagged(_)
        | Counter::Refunds(_)
        | Counter::RefundedMinorUnits(_)
        | Counter::Count(_)
        | Counter::Sum(_)
        | Counter::Within(..) => None,
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
    use domain::money::{Currency, Money};

    use super::*;

    async fn placed(counters: &MemoryCounters) -> u64 {
        counters.read().await.unwrap().get(&Counter::OrdersPlaced.name()).copied().unwrap_or_default()
    }

    #[tokio::test(start_paused = true)]
    async fn counts_are_handed_on_every_few_seconds_each_once() {
        let (tally, counters) = (Tally::default(), MemoryCounters::default());
        for (second, there) in [(1, 0), (2, 0), (3, 0), (4, 0), (5, 5), (6, 5), (7, 5), (8, 5), (9, 5), (10, 10)] {
            tokio::time::advance(Duration::from_secs(1)).await;
            tally.count(Counter::OrdersPlaced, 1);
            tally.hand_on(&counters).await;
            assert_eq!(placed(&counters).await, there, "after {second} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_stands_still_while_the_function_is_frozen_holds_nothing_up() {
        let (tally, counters) = (Tally::default(), MemoryCounters::default());
        tally.count(Counter::OrdersPlaced, 1);
        let earlier = SystemTime::now().checked_sub(HAND_ON_AFTER).unwrap();
        tally.change(|counted| counted.handed_on.1 = earlier);
        tally.hand_on(&counters).await;
        assert_eq!(placed(&counters).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_get_through_stays_for_the_next_time() {
        let (tally, counters) = (Tally::default(), MemoryCounters::default());
        counters.faults.push(Fault::BeforeEffect);
        for there in [0, 2] {
            tally.count(Counter::OrdersPlaced, 1);
            tokio::time::advance(HAND_ON_AFTER).await;
            tally.hand_on(&counters).await;
            assert_eq!(placed(&counters).await, there);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_into_a_cache_counts_as_a_hit_or_as_a_miss() {
        let (tally, counters) = (Tally::default(), MemoryCounters::default());
        for hit in [true, false, true] {
            tally.look(Cache::Etag, hit);
        }
        tokio::time::advance(HAND_ON_AFTER).await;
        let ((), told) = figures::written(tally.beside(&counters, async {})).await;
        let counts = [(Counter::Hits(Cache::Etag), 2), (Counter::Misses(Cache::Etag), 1)];
        assert_eq!(counters.read().await.unwrap(), counts.map(|(counter, count)| (counter.name(), count)).into());
        let expected = ["CacheHits", "CacheMisses"].into_iter().zip([2, 1]);
        let expected = expected.map(|(name, count)| Metric::count(name, count).of("Cache", "etag"));
        assert_eq!(told[..2], expected.collect::<Vec<_>>());
        assert!(told[2..].iter().any(|figure| figure.name == "MemoryUsed" && figure.value > 0), "{told:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn figures_of_orders_are_told_at_once_and_counted() {
        let (tally, counters) = (Tally::default(), MemoryCounters::default());
        let refund = Money::new(1_999, Currency::parse("CNY").unwrap()).unwrap();
        let figures = [
            Figure::OrderPlaced,
            Figure::OrderConfirmed(Duration::from_millis(1_500)),
            Figure::OrderRejected("expired"),
            Figure::OrderCancelled,
            Figure::OrderFlagged("process-payment"),
            Figure::Refunded(refund),
            Figure::CommitProjected(Duration::from_millis(80)),
        ];
        let ((), told) = figures::written(async { tally.record(&figures) }).await;
        let expected = [
            Metric::count("OrdersPlaced", 1),
            Metric::count("OrdersConfirmed", 1),
            Metric::time("TimeToConfirm", Duration::from_millis(1_500)),
            Metric::count("OrdersRejected", 1).of("Reason", "expired"),
            Metric::count("OrdersCancelled", 1),
            Metric::count("OrdersFlagged", 1).of("Step", "process-payment"),
            Metric::count("Refunds", 1).of("Currency", "CNY"),
            Metric::plain("RefundedMinorUnits", 1_999).of("Currency", "CNY"),
            Metric::time("ProjectionLag", Duration::from_millis(80)),
        ];
        assert_eq!(told, expected);
        tokio::time::advance(HAND_ON_AFTER).await;
        tally.hand_on(&counters).await;
        let counted = [
            ("orders_placed", 1),
            ("confirmed:2000", 1),
            ("orders_confirmed", 1),
            ("confirmation_ms", 1_500),
            ("rejected:expired", 1),
            ("orders_cancelled", 1),
            ("flagged:process-payment", 1),
            ("refunds:CNY", 1),
            ("refunded:CNY", 1_999),
            ("lag:100", 1),
            ("commits_projected", 1),
            ("projection_lag_ms", 80),
        ];
        let counted = counted.map(|(name, amount)| (name.to_owned(), amount));
        assert_eq!(counters.read().await.unwrap(), counted.into());
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
        tally.count(Counter::OrdersPlaced, 1);
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
        assert_eq!(placed(&counters).await, 1);
    }
}
