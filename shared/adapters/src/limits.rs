//! Whether a caller may go on: what each process remembers of their buckets, and the buckets that all processes share.
//!
//! Who was refused and told until when is refused again without asking. A read asks nothing either, while its caller is far below the
//! limit: each process lets an eighth of it through by itself. So a caller whom `n` processes serve may have `n` eighths
//! more, and of those who keep their limit hardly any costs a call.
//!
//! Whatever cannot be asked in time lets the request through.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use application::{
    limits::{Bucket, Class, Micros, micros},
    ports::{Counter, Counters, Declines, Draw, Drawn, Limits},
};
use aws_sdk_dynamodb::Client;
use chrono::{DateTime, Utc};
use domain::ids::CustomerId;
use lru::LruCache;
use settings::{Live, Rate, Settings, Source};
use tokio::time::timeout;
use tracing::warn;

use crate::{
    app_config::AppConfig,
    dynamodb::{DynamoCounters, DynamoLimits},
    lambda::{self, Ending, chain},
    tally::Tally,
};

/// How long a bucket is waited for. A client waits as well.
const PATIENCE: Duration = Duration::from_millis(250);

/// How long newer settings are waited for when the work beside which they are looked for is done.
const PATIENCE_FOR_SETTINGS: Duration = Duration::from_millis(500);

/// Of how many buckets a process remembers something: about 2 MB, with names as long as they can be.
const REMEMBERED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4_095);

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Nothing was asked, or nothing could be.
    Free,
    Granted(Quota),
    Refused(Quota),
}

/// How a bucket stands, for its caller to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    pub class: Class,
    pub bucket: Bucket,
    pub left: u32,
    /// How long it takes until one more is left.
    pub next: Duration,
}

/// When a bucket is full again.
#[derive(Debug, Clone, Copy, Default)]
struct Remembered {
    /// That which all share, at least.
    shared: Micros,
    /// Whether the caller was refused then, and told until when.
    refused: bool,
    /// The eighth of it that this process lets through by itself.
    own: Micros,
}

pub struct Limiter<L, S, C> {
    limits: L,
    settings: Arc<Live<S>>,
    counters: Arc<C>,
    tally: Arc<Tally>,
    remembered: Mutex<LruCache<String, Remembered>>,
}

impl Limiter<DynamoLimits, AppConfig, DynamoCounters> {
    /// That of this process, with the tables that the template names. What it counts stands under the function's name.
    pub async fn of_process(
        client: &Client,
        settings: Arc<Live<AppConfig>>,
        function: &'static str,
    ) -> Result<Self, lambda_runtime::Error> {
        let limits = DynamoLimits::new(client.clone(), lambda::variable("LIMITS_TABLE")?);
        let counters = DynamoCounters::new(client.clone(), lambda::variable("COUNTERS_TABLE")?, function);
        // Read while the process starts, when Lambda gives it more of a processor.
        settings.known().await?;
        Ok(Self::new(limits, settings, counters))
    }
}

impl<L: Limits, S: Source, C: Counters> Limiter<L, S, C> {
    pub fn new(limits: L, settings: Arc<Live<S>>, counters: C) -> Self {
        let remembered = Mutex::new(LruCache::sparse(REMEMBERED));
        Self { limits, settings, counters: Arc::new(counters), tally: Arc::default(), remembered }
    }

    /// Hands on what was counted also when the process is told to end: to be awaited in `main`, last thing before the first
    /// invocation.
    pub async fn hand_on_at_the_end(&self, ending: Ending)
    where
        C: 'static,
    {
        self.tally.hand_on_at_the_end(&self.counters, ending).await;
    }

    /// What this process counts, for whatever else it has to count.
    pub fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// Does the work, and at the same time hands on what was counted and looks for newer settings, as far as either is due.
    pub async fn beside<T>(&self, work: impl Future<Output = T>) -> T {
        let keep_up = async {
            // Nothing waits for them: what is known stays.
            let _ = timeout(PATIENCE_FOR_SETTINGS, self.settings.keep_up()).await;
        };
        let (answer, ()) = tokio::join!(self.tally.beside(&*self.counters, work), keep_up);
        answer
    }

    /// Takes one of the caller's tokens for a request of this class.
    pub async fn ask(&self, class: Class, caller: &CustomerId, now: DateTime<Utc>) -> Admission {
        let Some(settings) = self.settings().await else { return Admission::Free };
        let ((bucket, name), now) = (bucket(&settings, class, caller), micros(now));
        let quota = |full_at| Quota { class, bucket, left: bucket.left(full_at, now), next: bucket.next(full_at, now) };
        let Remembered { shared, refused, own } = self.remembered(&name);
        if class.is_read()
            && bucket.left(shared, now) > bucket.burst() / 2
            && let Ok(own) = bucket.eighth().draw(own, 1, now)
        {
            self.remember(name, Remembered { shared, refused, own });
            return Admission::Free;
        }
        // Who was told until when, and comes all the same, is refused for nothing.
        let drawn = match bucket.draw(shared, 1, now) {
            Err(_) if refused => Some(Drawn::Refused { full_at: shared }),
            _ => self.draw(Draw { name: &name, bucket, tokens: 1, now, seen: shared }).await,
        };
        match drawn {
            Some(Drawn::Taken { full_at }) => {
                self.remember(name, Remembered { shared: full_at, refused: false, own });
                Admission::Granted(quota(full_at))
            }
            Some(Drawn::Refused { full_at }) => {
                self.remember(name, Remembered { shared: full_at, refused: true, own });
                self.tally.count(Counter::RateLimited(class), 1);
                Admission::Refused(quota(full_at))
            }
            None => Admission::Free,
        }
    }

    /// `None` when it could not be asked in time.
    async fn draw(&self, draw: Draw<'_>) -> Option<Drawn> {
        let error = match timeout(PATIENCE, self.limits.draw(&draw)).await {
            Ok(Ok(drawn)) => return Some(drawn),
            Ok(Err(error)) => chain(&error),
            Err(elapsed) => elapsed.to_string(),
        };
        self.failed(&error);
        None
    }

    async fn settings(&self) -> Option<Arc<Settings>> {
        self.settings.known().await.inspect_err(|error| self.failed(&error.to_string())).ok()
    }

    fn failed(&self, error: &str) {
        self.tally.count(Counter::RateLimitFailures, 1);
        warn!(error, "a limit could not be asked, what it limits goes on");
    }

    fn remembered(&self, name: &str) -> Remembered {
        let mut all = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(name).copied().unwrap_or_default()
    }

    fn remember(&self, name: String, remembered: Remembered) {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner).put(name, remembered);
    }
}

impl<L: Limits, S: Source, C: Counters> Declines for Limiter<L, S, C> {
    /// Takes what a decline costs from what the customer may send, also when that is not there: then they wait for longer.
    async fn declined(&self, customer: &CustomerId, now: DateTime<Utc>) {
        let Some(settings) = self.settings().await else { return };
        let (class, tokens) = (Class::CustomerCommands, settings.limits.decline_costs);
        if tokens == 0 {
            return;
        }
        let (bucket, name) = bucket(&settings, class, customer);
        let Remembered { shared: seen, own, .. } = self.remembered(&name);
        let draw = Draw { name: &name, bucket: bucket.with_debts(), tokens, now: micros(now), seen };
        let drawn = self.draw(draw).await;
        if let Some(Drawn::Taken { full_at } | Drawn::Refused { full_at }) = drawn {
            self.remember(name, Remembered { shared: full_at, refused: false, own });
        }
    }
}

/// A caller's bucket, and what it is called where all share it. Its limit is part of its name: by another limit, the time at which it is
/// full may be far away, and while a limit is changed some processes go by the new one and some by the old one.
fn bucket(Settings { limits, .. }: &Settings, class: Class, caller: &CustomerId) -> (Bucket, String) {
    let rate = match class {
        Class::CustomerCommands => limits.customer_commands,
        Class::CustomerReads => limits.customer_reads,
        Class::StaffCommands => limits.staff_commands,
        Class::StaffReads => limits.staff_reads,
        Class::CarrierCommands => limits.carrier_commands,
        Class::Scrapes => limits.scrapes,
        Class::ProfileChanges => limits.profile_changes,
        Class::Searches => limits.searches,
        Class::EventLists => limits.event_lists,
        Class::WaitingReads => limits.waiting_reads,
    };
    let Rate { per_minute, burst } = rate;
    (Bucket::new(burst, per_minute), format!("{}#{caller}#{per_minute}/{burst}", class.name()))
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "in a test, an overflow is a failure")]
mod tests {
    use std::{error::Error, future::pending};

    use application::{
        event_store::Unavailable,
        memory::{Fault, MemoryCounters, MemoryLimits},
    };
    use chrono::TimeDelta;
    use settings::Layers;

    use super::*;
    use telemetry::logs::logged;

    /// No document: what a process goes by that has none yet.
    struct Nothing;

    impl Source for Nothing {
        async fn newer(&self) -> Result<Option<String>, Box<dyn Error + Send + Sync>> {
            Ok(None)
        }
    }

    type Process<L> = Limiter<L, Nothing, MemoryCounters>;

    /// A process with these limits, such as `("SEARCHES__BURST", 3)`.
    fn process<L: Limits>(limits: L, numbers: &[(&str, u32)]) -> Process<L> {
        let environment = numbers.iter().map(|(name, number)| (format!("APP__LIMITS__{name}"), number.to_string()));
        let live = Live::new(Layers::new("prod".to_owned(), environment), Some(Nothing));
        Limiter::new(limits, Arc::new(live), MemoryCounters::default())
    }

    fn caller(id: &str) -> CustomerId {
        CustomerId::parse(id).unwrap()
    }

    /// So many milliseconds after the beginning of a test.
    fn at(milliseconds: i64) -> DateTime<Utc> {
        let begin: DateTime<Utc> = "2026-01-01T00:00:00.123456Z".parse().unwrap();
        begin + TimeDelta::milliseconds(milliseconds)
    }

    async fn count(process: &Process<impl Limits>, counter: Counter) -> u64 {
        tokio::time::advance(Duration::from_secs(10)).await;
        process.tally.hand_on(&*process.counters).await;
        process.counters.read().await.unwrap().get(&counter.name()).copied().unwrap_or_default()
    }

    const THREE_COMMANDS: [(&str, u32); 3] =
        [("CUSTOMER_COMMANDS__PER_MINUTE", 60), ("CUSTOMER_COMMANDS__BURST", 3), ("DECLINE_COSTS", 2)];

    #[tokio::test(start_paused = true)]
    async fn a_command_takes_a_token_until_there_is_none_and_then_nothing_is_asked() {
        let limits = MemoryLimits::default();
        let process = process(&limits, &THREE_COMMANDS);
        let anna = caller("anna");
        for left in [2, 1, 0] {
            let Admission::Granted(quota) = process.ask(Class::CustomerCommands, &anna, at(0)).await else { panic!() };
            assert_eq!((quota.left, quota.next), (left, Duration::from_secs(1)));
        }
        for _ in 0..5 {
            let Admission::Refused(quota) = process.ask(Class::CustomerCommands, &anna, at(400)).await else {
                panic!()
            };
            assert_eq!((quota.left, quota.next), (0, Duration::from_millis(600)));
        }
        assert_eq!(limits.draws(), 4);
        for (class, who) in [(Class::CustomerCommands, "ben"), (Class::StaffCommands, "anna")] {
            let admission = process.ask(class, &caller(who), at(400)).await;
            assert!(matches!(admission, Admission::Granted(_)), "{class:?} of {who}");
        }
        assert!(matches!(process.ask(Class::CustomerCommands, &anna, at(1_000)).await, Admission::Granted(_)));
        assert_eq!(count(&process, Counter::RateLimited(Class::CustomerCommands)).await, 5);
        assert_eq!(count(&process, Counter::RateLimitFailures).await, 0);
    }

    #[tokio::test]
    async fn what_one_process_has_taken_another_finds_taken() {
        let limits = MemoryLimits::default();
        let (one, other) = (process(&limits, &THREE_COMMANDS), process(&limits, &THREE_COMMANDS));
        let anna = caller("anna");
        for process in [&one, &other, &one] {
            assert!(matches!(process.ask(Class::CustomerCommands, &anna, at(0)).await, Admission::Granted(_)));
        }
        assert!(matches!(other.ask(Class::CustomerCommands, &anna, at(0)).await, Admission::Refused(_)));
        assert_eq!(limits.draws(), 4);
        // Now it knows.
        assert!(matches!(other.ask(Class::CustomerCommands, &anna, at(999)).await, Admission::Refused(_)));
        assert_eq!(limits.draws(), 4);
    }

    #[tokio::test]
    async fn who_used_up_a_lower_limit_has_all_of_a_higher_one_as_soon_as_that_is_known() {
        let limits = MemoryLimits::default();
        let lower = process(&limits, &[("CUSTOMER_COMMANDS__PER_MINUTE", 1), ("CUSTOMER_COMMANDS__BURST", 20)]);
        let higher = process(&limits, &[("CUSTOMER_COMMANDS__PER_MINUTE", 6_000), ("CUSTOMER_COMMANDS__BURST", 100)]);
        let anna = caller("anna");
        for _ in 0..20 {
            assert!(matches!(lower.ask(Class::CustomerCommands, &anna, at(0)).await, Admission::Granted(_)));
        }
        assert!(matches!(lower.ask(Class::CustomerCommands, &anna, at(0)).await, Admission::Refused(_)));
        let Admission::Granted(quota) = higher.ask(Class::CustomerCommands, &anna, at(0)).await else {
            panic!("the time at which the lower one is full counts for the higher one")
        };
        assert_eq!(quota.left, 99);
    }

    #[tokio::test]
    async fn a_declined_order_takes_what_the_customer_may_send_down_to_debts_of_a_burst() {
        let limits = MemoryLimits::default();
        let (step, command) = (process(&limits, &THREE_COMMANDS), process(&limits, &THREE_COMMANDS));
        let anna = caller("anna");
        step.declined(&anna, at(0)).await;
        let Admission::Granted(quota) = command.ask(Class::CustomerCommands, &anna, at(0)).await else { panic!() };
        assert_eq!(quota.left, 0);
        // One more decline is owed; another one would be more than a burst.
        for _ in 0..2 {
            step.declined(&anna, at(0)).await;
            let Admission::Refused(quota) = command.ask(Class::CustomerCommands, &anna, at(1)).await else { panic!() };
            assert_eq!(quota.next, Duration::from_millis(2_999));
        }
        let nobody = process(&limits, &[("DECLINE_COSTS", 0)]);
        let before = limits.draws();
        nobody.declined(&anna, at(0)).await;
        assert_eq!(limits.draws(), before);
    }

    const READS: [(&str, u32); 2] = [("CUSTOMER_READS__PER_MINUTE", 6_000), ("CUSTOMER_READS__BURST", 80)];

    #[tokio::test]
    async fn a_read_asks_nothing_while_its_caller_is_far_below_the_limit() {
        let limits = MemoryLimits::default();
        let process = process(&limits, &READS);
        let anna = caller("anna");
        for _ in 0..10 {
            assert_eq!(process.ask(Class::CustomerReads, &anna, at(0)).await, Admission::Free);
        }
        assert_eq!(limits.draws(), 0);
        assert!(matches!(process.ask(Class::CustomerReads, &anna, at(79)).await, Admission::Granted(_)));
        assert_eq!(limits.draws(), 1);
        // At an eighth of the limit, one in 80 ms, for as long as may be.
        for read in 1..1_000 {
            assert_eq!(process.ask(Class::CustomerReads, &anna, at(80 * read)).await, Admission::Free, "{read}");
        }
        assert_eq!(limits.draws(), 1);
    }

    #[tokio::test]
    async fn a_read_whose_bucket_is_half_empty_is_always_asked_for() {
        let limits = MemoryLimits::default();
        let (one, other) = (process(&limits, &READS), process(&limits, &READS));
        let anna = caller("anna");
        while limits.draws() < 40 {
            one.ask(Class::CustomerReads, &anna, at(0)).await;
        }
        // One knows that, the other finds out when it has let through an eighth.
        for (process, asked) in [(&one, 20), (&other, 10)] {
            let before = limits.draws();
            for read in 0..20 {
                process.ask(Class::CustomerReads, &anna, at(read / 10)).await;
            }
            assert_eq!(limits.draws() - before, asked);
        }
    }

    /// How many of a caller's reads go through who sends one every so many milliseconds, to one of these processes after the
    /// other; and how often that asks.
    async fn sends(processes: &[Process<&MemoryLimits>], limits: &MemoryLimits, id: &str, every: i64) -> (u32, u32) {
        let (who, mut passed, before) = (caller(id), 0, limits.draws());
        for (read, process) in (0..60_000 / every).zip(processes.iter().cycle()) {
            let admission = process.ask(Class::CustomerReads, &who, at(read * every)).await;
            passed += u32::from(!matches!(admission, Admission::Refused(_)));
        }
        (passed, limits.draws() - before)
    }

    #[tokio::test]
    async fn who_sends_twenty_times_the_limit_gets_little_more_than_it_and_most_refusals_cost_no_call() {
        let limits = MemoryLimits::default();
        let numbers = [("CUSTOMER_READS__PER_MINUTE", 600), ("CUSTOMER_READS__BURST", 80)];
        let processes: Vec<_> = (0..4).map(|_| process(&limits, &numbers)).collect();
        let (passed, asked) = sends(&processes, &limits, "anna", 5).await;
        // In a minute: the limit with its burst, and an eighth of both for each of four processes, of which what is known to be
        // half empty lets through only the burst.
        assert!((680..=680 + 4 * 10 + 5).contains(&passed), "{passed} of 12,000");
        // For each token that comes back, its own and one by which each process learns that it is gone.
        assert!(asked <= 5 * passed, "{asked} calls for {passed}");
        let (passed, asked) = sends(&processes, &limits, "ben", 200).await;
        assert_eq!((passed, asked), (300, 0), "who sends half of the limit to four processes, an eighth to each");
        let (passed, _) = sends(&processes, &limits, "cleo", 100).await;
        assert_eq!(passed, 600, "who keeps the limit");
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_asked_goes_on_and_that_is_said_and_counted() {
        let limits = MemoryLimits::default();
        limits.faults.push(Fault::BeforeEffect);
        let process = process(&limits, &THREE_COMMANDS);
        let anna = caller("anna");
        let (admission, lines) = logged(process.ask(Class::CustomerCommands, &anna, at(0))).await;
        assert_eq!(admission, Admission::Free);
        let [line] = lines.as_slice() else { panic!("{lines:?}") };
        assert!(line.contains("a limit could not be asked") && !line.contains("anna"), "{line}");
        assert!(matches!(process.ask(Class::CustomerCommands, &anna, at(0)).await, Admission::Granted(_)));
        assert_eq!(count(&process, Counter::RateLimitFailures).await, 1);
    }

    /// Never answers.
    struct Silent;

    impl Limits for Silent {
        async fn draw(&self, _: &Draw<'_>) -> Result<Drawn, Unavailable> {
            pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn limits_that_do_not_answer_keep_nobody_waiting_for_long() {
        let process = process(Silent, &THREE_COMMANDS);
        let started = tokio::time::Instant::now();
        assert_eq!(process.ask(Class::CustomerCommands, &caller("anna"), at(0)).await, Admission::Free);
        process.declined(&caller("anna"), at(0)).await;
        assert!(started.elapsed() <= 2 * PATIENCE + Duration::from_millis(5), "{:?}", started.elapsed());
        assert_eq!(count(&process, Counter::RateLimitFailures).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn settings_that_are_wrong_limit_nobody() {
        let limits = MemoryLimits::default();
        let process = process(&limits, &[("DECLINE_COSTS", 1_000_000)]);
        assert_eq!(process.ask(Class::CustomerCommands, &caller("anna"), at(0)).await, Admission::Free);
        assert_eq!((limits.draws(), count(&process, Counter::RateLimitFailures).await), (0, 1));
    }

    #[tokio::test]
    async fn work_waits_for_no_settings_that_do_not_come() {
        struct Never;
        impl Source for Never {
            async fn newer(&self) -> Result<Option<String>, Box<dyn Error + Send + Sync>> {
                pending().await
            }
        }
        tokio::time::pause();
        let live = Live::new(Layers::new("prod".to_owned(), []), Some(Never));
        let limiter = Limiter::new(MemoryLimits::default(), Arc::new(live), MemoryCounters::default());
        limiter.settings().await.unwrap();
        for longest in [Duration::ZERO, PATIENCE_FOR_SETTINGS, Duration::ZERO] {
            let started = tokio::time::Instant::now();
            assert_eq!(limiter.beside(async { "answer" }).await, "answer");
            assert!(started.elapsed() <= longest + Duration::from_millis(5), "{:?}", started.elapsed());
        }
    }
}
