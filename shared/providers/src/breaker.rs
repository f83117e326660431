//! A circuit breaker for calls to one provider.
//!
//! While the provider answers, the breaker is closed and lets every call through. After several failures in a row it
//! opens, and calls fail at once instead of waiting for a provider that is down. After a while it is half-open: one
//! call at a time, a probe, finds out whether the provider is back.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// The numbers that a [`Breaker`] works with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// This many failures in a row open the breaker.
    pub failures: NonZeroU32,
    /// This many probes in a row must succeed before the breaker closes again.
    pub successes: NonZeroU32,
    /// The breaker stays open for this long before it lets a probe through.
    pub open_for: Duration,
}

impl Default for Settings {
    /// Five failures open the breaker for 30 seconds, and two successful probes close it.
    fn default() -> Self {
        Self {
            failures: NonZeroU32::MIN.saturating_add(4),
            successes: NonZeroU32::MIN.saturating_add(1),
            open_for: Duration::from_secs(30),
        }
    }
}

/// Where the time comes from, so that a test need not wait.
pub trait Clock {
    /// The time since some fixed moment. The breaker calls it while it holds its lock, so it must not use the breaker.
    fn now(&self) -> Duration;
}

/// The default [`Clock`], which counts from the moment it was made and which no change of the wall clock disturbs.
#[derive(Debug, Clone, Copy)]
pub struct Monotonic(Instant);

impl Default for Monotonic {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for Monotonic {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// The [`Clock`] that goes on while a function is frozen.
#[derive(Debug, Clone, Copy)]
pub struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> Duration {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }
}

/// The state of a [`Breaker`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Every call is let through.
    Closed,
    /// Every call fails at once.
    Open,
    /// One probe at a time is let through.
    HalfOpen,
}

/// A change of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The state before.
    pub from: State,
    /// The state after.
    pub to: State,
    /// The number of changes up to and with this one. Two threads may tell of their changes in the wrong order, and the
    /// number puts them right.
    pub generation: u64,
}

/// The breaker let no call through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the circuit breaker is open for at least another {for_another:?}")]
pub struct Open {
    /// No call is let through for at least this long. It is zero while a probe is out, because nobody knows how long
    /// the probe will take.
    pub for_another: Duration,
}

/// A [`State`] with what must be remembered in it.
#[derive(Debug)]
enum Phase {
    Closed { failures: u32 },
    Open { since: Duration },
    HalfOpen { successes: u32, probe_out: bool },
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    phase: Phase,
    generation: u64,
}

impl Inner {
    fn state(&self) -> State {
        match self.phase {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { .. } => State::Open,
            Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    fn enter(&mut self, phase: Phase) -> Change {
        let from = self.state();
        self.phase = phase;
        self.generation = self.generation.wrapping_add(1);
        Change { from, to: self.state(), generation: self.generation }
    }
}

/// A circuit breaker. Share it by reference, because it changes itself behind a lock.
pub struct Breaker<C: Clock = Monotonic> {
    clock: C,
    on_change: Box<dyn Fn(Change) + Send + Sync>,
    inner: Mutex<Inner>,
}

impl Breaker {
    /// A closed breaker that uses the [`Monotonic`] clock.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self::with_clock(settings, Monotonic::default())
    }
}

impl<C: Clock> Breaker<C> {
    /// A closed breaker that uses the given clock.
    #[must_use]
    pub fn with_clock(settings: Settings, clock: C) -> Self {
        let inner = Inner { settings, phase: Phase::Closed { failures: 0 }, generation: 0 };
        Self { clock, on_change: Box::new(|_| ()), inner: Mutex::new(inner) }
    }

    /// Has `tell` called exactly once for each change of state, for instance to log it. It is a callback and not a
    /// return value because a dropped [`Permit`] can change the state too, and a drop returns nothing. It is called
    /// after the lock is released, so it may use the breaker; it must not panic, because it may run during a drop.
    #[must_use]
    pub fn on_change(mut self, tell: impl Fn(Change) + Send + Sync + 'static) -> Self {
        self.on_change = Box::new(tell);
        self
    }

    /// Asks to make one call. Keep the permit for as long as the call runs, then give it the verdict.
    ///
    /// # Errors
    ///
    /// Fails with [`Open`] while the breaker is open, and while it is half-open and another probe is out.
    pub fn permit(&self) -> Result<Permit<'_, C>, Open> {
        let mut inner = self.lock();
        let open_for = inner.settings.open_for;
        let mut change = None;
        match &mut inner.phase {
            Phase::Closed { .. } => {}
            Phase::Open { since } => {
                let now = self.clock.now();
                // If the clock went back, the time is counted anew from here. Otherwise the breaker would also stay
                // open for as long as the clock takes to catch up.
                *since = now.min(*since);
                let for_another = open_for.saturating_sub(now.saturating_sub(*since));
                if !for_another.is_zero() {
                    return Err(Open { for_another });
                }
                change = Some(inner.enter(Phase::HalfOpen { successes: 0, probe_out: true }));
            }
            Phase::HalfOpen { probe_out: true, .. } => return Err(Open { for_another: Duration::ZERO }),
            Phase::HalfOpen { probe_out, .. } => *probe_out = true,
        }
        let permit = Permit { breaker: self, generation: inner.generation, success: false };
        drop(inner);
        self.tell(change);
        Ok(permit)
    }

    /// The state as the last call left it. An open breaker becomes half-open only when the next call asks for a
    /// permit, so until then this is [`State::Open`] even if the time is over.
    pub fn state(&self) -> State {
        self.lock().state()
    }

    /// Changes the numbers and keeps the state and what was counted so far. The new numbers of failures and successes
    /// are compared at the next verdict; the new `open_for` also holds for a breaker that is open now.
    pub fn set(&self, settings: Settings) {
        self.lock().settings = settings;
    }

    fn settle(&self, generation: u64, success: bool) {
        let mut inner = self.lock();
        // A call that began in an earlier phase says nothing about how the provider is now.
        if inner.generation != generation {
            return;
        }
        let settings = inner.settings;
        let next = match (&mut inner.phase, success) {
            (Phase::Closed { failures }, true) => {
                *failures = 0;
                None
            }
            (Phase::Closed { failures }, false) => {
                *failures = failures.saturating_add(1);
                (*failures >= settings.failures.get()).then(|| Phase::Open { since: self.clock.now() })
            }
            (Phase::HalfOpen { successes, probe_out }, true) => {
                *probe_out = false;
                *successes = successes.saturating_add(1);
                (*successes >= settings.successes.get()).then_some(Phase::Closed { failures: 0 })
            }
            (Phase::HalfOpen { .. }, false) => Some(Phase::Open { since: self.clock.now() }),
            // No permit is given out while the breaker is open, so none can have this generation.
            (Phase::Open { .. }, _) => None,
        };
        let change = next.map(|phase| inner.enter(phase));
        drop(inner);
        self.tell(change);
    }

    fn tell(&self, change: Option<Change>) {
        if let Some(change) = change {
            (self.on_change)(change);
        }
    }

    /// A poisoned lock is taken all the same, because what it guards is whole after every single step.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Clock> fmt::Debug for Breaker<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker").field("inner", &self.inner).finish_non_exhaustive()
    }
}

/// The right to make one call.
///
/// Dropping it without a verdict counts as a failure. The caller gave up on the call, and that is what a time-out
/// looks like from here: the future that holds the permit is dropped. It also frees the place of a probe, so that a
/// cancelled probe cannot keep the breaker half-open for ever.
#[must_use = "a permit that is dropped without a verdict counts as a failure"]
#[derive(Debug)]
pub struct Permit<'a, C: Clock = Monotonic> {
    breaker: &'a Breaker<C>,
    generation: u64,
    success: bool,
}

impl<C: Clock> Permit<'_, C> {
    /// The provider answered. An answer that only says that this one request was wrong belongs here too.
    pub fn succeeded(mut self) {
        self.success = true;
    }

    /// The provider did not answer, or it answered that it cannot serve anybody now.
    pub fn failed(self) {
        drop(self);
    }
}

impl<C: Clock> Drop for Permit<'_, C> {
    fn drop(&mut self) {
        self.breaker.settle(self.generation, self.success);
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "A test may panic, because that is how it fails.")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
    use std::task::{Context, Waker};

    /// A clock that the test sets by hand, in milliseconds.
    #[derive(Debug, Default, Clone)]
    struct Hand(Arc<AtomicU64>);

    impl Hand {
        fn set(&self, millis: u64) {
            self.0.store(millis, Ordering::SeqCst);
        }

        fn forward(&self, millis: u64) {
            self.0.fetch_add(millis, Ordering::SeqCst);
        }

        fn back(&self, millis: u64) {
            self.set(self.0.load(Ordering::SeqCst).saturating_sub(millis));
        }
    }

    impl Clock for Hand {
        fn now(&self) -> Duration {
            Duration::from_millis(self.0.load(Ordering::SeqCst))
        }
    }

    type Told = Arc<Mutex<Vec<Change>>>;

    fn with(settings: Settings) -> (Breaker<Hand>, Hand, Told) {
        let (hand, told) = (Hand::default(), Told::default());
        hand.set(1_000_000);
        let log = Arc::clone(&told);
        let breaker = Breaker::with_clock(settings, hand.clone());
        (breaker.on_change(move |change| log.lock().unwrap().push(change)), hand, told)
    }

    fn closed() -> (Breaker<Hand>, Hand, Told) {
        with(Settings::default())
    }

    fn open() -> (Breaker<Hand>, Hand, Told) {
        let (breaker, hand, told) = closed();
        fail(&breaker, 5);
        assert_eq!(breaker.state(), State::Open);
        (breaker, hand, told)
    }

    fn fail(breaker: &Breaker<Hand>, times: u32) {
        for _ in 0..times {
            breaker.permit().unwrap().failed();
        }
    }

    fn refused(breaker: &Breaker<Hand>) -> u128 {
        breaker.permit().unwrap_err().for_another.as_millis()
    }

    fn settings(failures: u32, successes: u32, millis: u64) -> Settings {
        let number = |n| NonZeroU32::new(n).unwrap();
        Settings { failures: number(failures), successes: number(successes), open_for: Duration::from_millis(millis) }
    }

    #[test]
    fn the_default_is_five_failures_two_successes_and_thirty_seconds() {
        assert_eq!(Settings::default(), settings(5, 2, 30_000));
    }

    #[test]
    fn five_failures_in_a_row_open_it() {
        let (breaker, _, told) = closed();
        fail(&breaker, 4);
        assert_eq!(breaker.state(), State::Closed);
        fail(&breaker, 1);
        assert_eq!(breaker.state(), State::Open);
        assert_eq!(*told.lock().unwrap(), [Change { from: State::Closed, to: State::Open, generation: 1 }]);
    }

    #[test]
    fn a_success_in_between_starts_the_count_anew() {
        let (breaker, _, _) = closed();
        fail(&breaker, 4);
        breaker.permit().unwrap().succeeded();
        fail(&breaker, 4);
        assert_eq!(breaker.state(), State::Closed);
    }

    #[test]
    fn an_open_breaker_says_for_how_much_longer() {
        let (breaker, hand, _) = open();
        assert_eq!(refused(&breaker), 30_000);
        hand.forward(29_999);
        assert_eq!(refused(&breaker), 1);
        let message = breaker.permit().unwrap_err().to_string();
        assert_eq!(message, "the circuit breaker is open for at least another 1ms");
        hand.forward(1);
        assert!(breaker.permit().is_ok());
    }

    #[test]
    fn only_one_probe_is_out_at_a_time() {
        let (breaker, hand, _) = open();
        hand.forward(30_000);
        let probe = breaker.permit().unwrap();
        assert_eq!(breaker.state(), State::HalfOpen);
        assert_eq!(refused(&breaker), 0);
        probe.succeeded();
        let _second_probe = breaker.permit().unwrap();
        assert_eq!(refused(&breaker), 0);
    }

    #[test]
    fn two_probes_that_succeed_close_it_with_a_fresh_count() {
        let (breaker, hand, told) = open();
        hand.forward(30_000);
        breaker.permit().unwrap().succeeded();
        assert_eq!(breaker.state(), State::HalfOpen);
        breaker.permit().unwrap().succeeded();
        assert_eq!(breaker.state(), State::Closed);
        fail(&breaker, 4);
        assert_eq!(breaker.state(), State::Closed);
        let states: Vec<State> = told.lock().unwrap().iter().map(|change| change.to).collect();
        assert_eq!(states, [State::Open, State::HalfOpen, State::Closed]);
    }

    #[test]
    fn a_probe_that_fails_opens_it_for_the_full_time_and_forgets_earlier_successes() {
        let (breaker, hand, _) = open();
        hand.forward(45_000);
        breaker.permit().unwrap().succeeded();
        breaker.permit().unwrap().failed();
        assert_eq!(refused(&breaker), 30_000);
        hand.forward(30_000);
        breaker.permit().unwrap().succeeded();
        assert_eq!(breaker.state(), State::HalfOpen);
    }

    #[test]
    fn a_probe_whose_future_is_dropped_frees_its_place_and_counts_as_a_failure() {
        let (breaker, hand, _) = open();
        hand.forward(30_000);
        {
            let mut probe = pin!(async {
                let permit = breaker.permit().unwrap();
                std::future::pending::<()>().await;
                permit.succeeded();
            });
            assert!(probe.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            assert_eq!(breaker.state(), State::HalfOpen);
        }
        assert_eq!(refused(&breaker), 30_000);
        hand.forward(30_000);
        assert!(breaker.permit().is_ok());
    }

    #[test]
    fn dropped_permits_open_a_closed_breaker() {
        let (breaker, _, _) = closed();
        for _ in 0..5 {
            drop(breaker.permit().unwrap());
        }
        assert_eq!(breaker.state(), State::Open);
    }

    #[test]
    fn a_late_verdict_from_an_earlier_phase_changes_nothing() {
        let (breaker, hand, told) = closed();
        let mut late: Vec<_> = (0..8).map(|_| breaker.permit().unwrap()).collect();
        fail(&breaker, 5);
        late.pop().unwrap().succeeded();
        hand.forward(10_000);
        late.pop().unwrap().failed();
        assert_eq!(refused(&breaker), 20_000);
        hand.forward(20_000);
        let probe = breaker.permit().unwrap();
        late.pop().unwrap().succeeded();
        assert!(breaker.permit().is_err(), "The late success must not free the probe's place.");
        late.pop().unwrap().failed();
        assert_eq!(breaker.state(), State::HalfOpen);
        probe.succeeded();
        breaker.permit().unwrap().succeeded();
        fail(&breaker, 4);
        late.pop().unwrap().failed();
        assert_eq!(breaker.state(), State::Closed);
        late.pop().unwrap().succeeded();
        fail(&breaker, 1);
        assert_eq!(breaker.state(), State::Open);
        assert_eq!(told.lock().unwrap().len(), 4);
    }

    #[test]
    fn new_settings_keep_the_state_and_the_count() {
        let (breaker, hand, _) = closed();
        fail(&breaker, 4);
        breaker.set(settings(2, 1, 5_000));
        assert_eq!(breaker.state(), State::Closed);
        fail(&breaker, 1);
        assert_eq!(refused(&breaker), 5_000);
        hand.forward(4_000);
        breaker.set(settings(2, 1, 10_000));
        assert_eq!(refused(&breaker), 6_000);
        breaker.set(settings(2, 1, 4_000));
        breaker.permit().unwrap().succeeded();
        assert_eq!(breaker.state(), State::Closed);
    }

    #[test]
    fn a_clock_that_goes_back_keeps_it_open_for_the_full_time_at_most() {
        let (breaker, hand, _) = open();
        hand.set(7);
        assert_eq!(refused(&breaker), 30_000);
        hand.forward(29_999);
        assert_eq!(refused(&breaker), 1);
        hand.forward(1);
        assert!(breaker.permit().is_ok());
    }

    #[test]
    fn extreme_times_do_not_panic() {
        let (breaker, hand, _) = with(Settings { open_for: Duration::MAX, ..settings(1, 1, 0) });
        fail(&breaker, 1);
        hand.set(u64::MAX);
        assert!(breaker.permit().is_err());
        breaker.set(settings(1, 1, 0));
        hand.set(0);
        breaker.permit().unwrap().succeeded();
        assert_eq!(breaker.state(), State::Closed);
    }

    #[test]
    fn whoever_is_told_of_a_change_may_use_the_breaker() {
        static BREAKER: std::sync::OnceLock<Breaker> = std::sync::OnceLock::new();
        static SEEN: Mutex<Option<State>> = Mutex::new(None);
        let breaker = BREAKER.get_or_init(|| {
            Breaker::new(settings(1, 1, 60_000))
                .on_change(|_| *SEEN.lock().unwrap() = BREAKER.get().map(Breaker::state))
        });
        breaker.permit().unwrap().failed();
        assert_eq!(*SEEN.lock().unwrap(), Some(State::Open));
    }

    #[test]
    fn a_permit_may_be_held_across_an_await_of_a_future_that_is_sent() {
        fn sent<T: Send>(_: &T) {}
        let breaker = Breaker::new(Settings::default());
        sent(&breaker.permit().unwrap());
    }

    /// Whether one change may follow from one state to the next.
    fn legal(change: &Change) -> bool {
        matches!(
            (change.from, change.to),
            (State::Closed | State::HalfOpen, State::Open)
                | (State::Open, State::HalfOpen)
                | (State::HalfOpen, State::Closed)
        )
    }

    fn assert_a_legal_chain(changes: &[Change]) {
        let mut state = State::Closed;
        for (generation, change) in (1..).zip(changes) {
            assert_eq!((change.from, change.generation), (state, generation));
            assert!(legal(change), "{change:?}");
            state = change.to;
        }
    }

    #[test]
    fn threads_never_have_two_probes_out_and_miss_no_change() {
        // With an open time of zero and one failure, every call that is let through after the first is a probe.
        let (breaker, _, told) = with(settings(1, 1_000_000, 0));
        fail(&breaker, 1);
        let out = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (breaker, out) = (&breaker, &out);
                scope.spawn(move || {
                    for turn in 0..2_000 {
                        let Ok(probe) = breaker.permit() else { continue };
                        assert_eq!(out.fetch_add(1, Ordering::SeqCst), 0);
                        out.fetch_sub(1, Ordering::SeqCst);
                        if (thread + turn) % 3 == 0 { probe.failed() } else { probe.succeeded() }
                    }
                });
            }
        });
        let mut told = told.lock().unwrap().clone();
        told.sort_by_key(|change| change.generation);
        assert_a_legal_chain(&told);
        assert_eq!(told.last().unwrap().to, breaker.state());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Forward(u64),
        Back(u64),
        Begin,
        Finish(usize, Verdict),
        Set(Settings),
    }

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Verdict {
        Success,
        Failure,
        Dropped,
    }

    fn any_settings() -> impl Strategy<Value = Settings> {
        (1..5_u32, 1..4_u32, 0..40_u64).prop_map(|(failures, successes, millis)| settings(failures, successes, millis))
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let verdict =
            prop_oneof![4 => Just(Verdict::Success), 4 => Just(Verdict::Failure), 1 => Just(Verdict::Dropped)];
        prop_oneof![
            6 => (0..30_u64).prop_map(Step::Forward),
            1 => (1..60_u64).prop_map(Step::Back),
            16 => Just(Step::Begin),
            16 => (any::<usize>(), verdict).prop_map(|(which, verdict)| Step::Finish(which, verdict)),
            1 => any_settings().prop_map(Step::Set),
        ]
    }

    /// What should happen, told by a history and not by counters: the model remembers every verdict of its present
    /// phase and in which phase each running call began.
    struct Model {
        settings: Settings,
        phases: Vec<State>,
        verdicts: Vec<bool>,
        opened: Duration,
        running: Vec<usize>,
    }

    impl Model {
        fn state(&self) -> State {
            *self.phases.last().unwrap()
        }

        fn go(&mut self, to: State, now: Duration) {
            self.phases.push(to);
            self.verdicts.clear();
            self.opened = now;
        }

        fn probes_out(&self) -> usize {
            self.running.iter().filter(|&&phase| phase == self.phases.len()).count()
        }

        fn in_a_row(&self, verdict: bool) -> usize {
            self.verdicts.iter().rev().take_while(|&&each| each == verdict).count()
        }

        /// Lets the next call begin, or says for how much longer none may.
        fn begin(&mut self, now: Duration) -> Result<(), Duration> {
            if self.state() == State::Open {
                if now < self.opened {
                    self.opened = now;
                }
                let until = self.opened + self.settings.open_for;
                if now < until {
                    return Err(until.saturating_sub(now));
                }
                self.go(State::HalfOpen, now);
            }
            if self.state() == State::HalfOpen && self.probes_out() > 0 {
                return Err(Duration::ZERO);
            }
            self.running.push(self.phases.len());
            Ok(())
        }

        fn finish(&mut self, which: usize, success: bool, now: Duration) {
            if self.running.remove(which) != self.phases.len() {
                return;
            }
            self.verdicts.push(success);
            let enough = |count: usize, limit: NonZeroU32| count >= limit.get() as usize;
            match self.state() {
                State::Closed if !success && enough(self.in_a_row(false), self.settings.failures) => {
                    self.go(State::Open, now);
                }
                State::HalfOpen if !success => self.go(State::Open, now),
                State::HalfOpen if enough(self.in_a_row(true), self.settings.successes) => {
                    self.go(State::Closed, now);
                }
                _ => {}
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_does_what_the_model_does(first in any_settings(), steps in prop::collection::vec(any_step(), 1..200)) {
            let (breaker, hand, told) = with(first);
            let mut permits = Vec::new();
            let mut model = Model {
                settings: first,
                phases: vec![State::Closed],
                verdicts: Vec::new(),
                opened: Duration::ZERO,
                running: Vec::new(),
            };
            for step in steps {
                match step {
                    Step::Forward(millis) => hand.forward(millis),
                    Step::Back(millis) => hand.back(millis),
                    Step::Set(settings) => {
                        breaker.set(settings);
                        model.settings = settings;
                    }
                    Step::Begin => {
                        let before = breaker.state();
                        let permit = breaker.permit();
                        let answer = permit.as_ref().map(|_| ()).map_err(|open| open.for_another);
                        prop_assert_eq!(answer, model.begin(hand.now()));
                        prop_assert!(answer.is_ok() || before != State::Closed);
                        prop_assert!(answer.is_ok() || answer.unwrap_err() <= model.settings.open_for);
                        permits.extend(permit);
                    }
                    Step::Finish(which, verdict) if !permits.is_empty() => {
                        let which = which % permits.len();
                        let permit = permits.remove(which);
                        match verdict {
                            Verdict::Success => permit.succeeded(),
                            Verdict::Failure => permit.failed(),
                            Verdict::Dropped => drop(permit),
                        }
                        model.finish(which, verdict == Verdict::Success, hand.now());
                    }
                    Step::Finish(..) => {}
                }
                prop_assert_eq!(breaker.state(), model.state());
                prop_assert!(model.state() != State::HalfOpen || model.probes_out() <= 1);
                let told = told.lock().unwrap();
                assert_a_legal_chain(&told);
                let states: Vec<State> = told.iter().map(|change| change.to).collect();
                prop_assert_eq!(&states[..], &model.phases[1..]);
            }
            // Whatever happened, a breaker whose calls are all over lets a call through once the time is over.
            permits.clear();
            hand.forward(1_000);
            prop_assert!(breaker.permit().is_ok());
        }
    }
}
