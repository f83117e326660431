//! What this process reports of itself, for `metrics` to tell.
//!
//! A report is one write, so there is one only when much has changed since the last: as many as the logarithm of what a process
//! uses, however many invocations it has. None is in anybody's way: the first comes with the second invocation, beside its work.

use std::{
    env,
    sync::{LazyLock, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use application::ports::{Process, Processes};
use aws_sdk_dynamodb::Client;
use chrono::{DateTime, TimeDelta, Utc};
use telemetry::{
    chain,
    process::{self, Usage},
};
use tokio::time::timeout;
use tracing::debug;
use uuid::Uuid;

use crate::{aws, dynamodb::DynamoProcesses};

/// How long a report may take, which somebody may wait for: as long as counts may.
const PATIENCE: Duration = Duration::from_millis(250);

/// How often a process looks at itself at most. By the clock on the wall, as all here, because Lambda freezes the other.
const PAUSE: TimeDelta = TimeDelta::minutes(1);

/// The same after a report that did not get through: nobody knows of a process whose first report is lost. As often as counts are handed on.
const PAUSE_AFTER_FAILURE: TimeDelta = TimeDelta::seconds(5);

/// After how long it reports again, though little has changed: well before its last report is forgotten.
const REPEAT_AFTER: TimeDelta = TimeDelta::hours(12);

/// That of this process; `None` where Lambda does not run it.
static REPORTER: LazyLock<Option<Reporter<DynamoProcesses>>> = LazyLock::new(|| {
    let megabytes: u64 = env::var("AWS_LAMBDA_FUNCTION_MEMORY_SIZE").ok()?.parse().ok()?;
    let processes = DynamoProcesses::new(Client::new(&aws::config()), env::var("COUNTERS_TABLE").ok()?);
    let began = process::began().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let unused = Process {
        function: telemetry::function().to_owned(),
        instance: Uuid::new_v4(),
        started_at: began.as_secs(),
        memory_limit_bytes: megabytes.checked_mul(1 << 20)?,
        memory_bytes: 0,
        cpu_ms: 0,
        tmp_used_bytes: 0,
        tmp_free_bytes: u64::MAX,
    };
    Some(Reporter::new(processes, unused))
});

/// Reports what this process has used, if much has changed.
pub(crate) async fn report() {
    if let Some(reporter) = &*REPORTER {
        reporter.report(process::usage, Utc::now()).await;
    }
}

/// Reports what this process has used: it ends.
pub(crate) async fn report_in_any_case() {
    if let Some(reporter) = &*REPORTER
        && let Some(usage) = process::usage()
    {
        reporter.report_usage(usage, Utc::now()).await;
    }
}

struct Reporter<P> {
    processes: P,
    reported: Mutex<Reported>,
}

struct Reported {
    /// What was reported last.
    last: Process,
    /// When that was.
    at: Option<DateTime<Utc>>,
    looked_at: Option<DateTime<Utc>>,
    /// How long it does not look again.
    pause: TimeDelta,
}

impl<P: Processes> Reporter<P> {
    fn new(processes: P, unused: Process) -> Self {
        let reported = Reported { last: unused, at: None, looked_at: None, pause: PAUSE };
        Self { processes, reported: Mutex::new(reported) }
    }

    async fn report(&self, usage: impl FnOnce() -> Option<Usage>, now: DateTime<Utc>) {
        let is_time = self.change(|reported| {
            let is_time = has_passed(reported.pause, reported.looked_at, now);
            if is_time {
                reported.looked_at = Some(now);
                reported.pause = PAUSE;
            }
            is_time
        });
        if is_time
            && let Some(usage) = usage()
            && self.change(|reported| reported.is_old(&usage, now))
        {
            self.report_usage(usage, now).await;
        }
    }

    /// What does not get through is reported with the next look, which comes soon.
    async fn report_usage(&self, usage: Usage, now: DateTime<Utc>) {
        let process = self.change(|reported| with(&reported.last, &usage));
        match timeout(PATIENCE, self.processes.report(&process, now)).await {
            Ok(Ok(())) => {
                return self.change(|reported| {
                    reported.last = process;
                    reported.at = Some(now);
                });
            }
            Ok(Err(error)) => debug!(error = chain(&error), "what the process has used is not reported"),
            Err(_) => debug!("what the process has used is not reported in time"),
        }
        self.change(|reported| reported.pause = PAUSE_AFTER_FAILURE);
    }

    fn change<T>(&self, change: impl FnOnce(&mut Reported) -> T) -> T {
        change(&mut self.reported.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Reported {
    /// Whether what was reported says too little: by a tenth of the memory, half of the time or a tenth of the space; or
    /// whether it is soon to be forgotten.
    fn is_old(&self, usage: &Usage, now: DateTime<Utc>) -> bool {
        let (last, most) = (&self.last, with(&self.last, usage));
        let space = most.tmp_used_bytes.saturating_add(most.tmp_free_bytes);
        most.memory_bytes > last.memory_bytes.saturating_add(last.memory_bytes / 10)
            || most.cpu_ms > last.cpu_ms.saturating_mul(2)
            || most.tmp_used_bytes > last.tmp_used_bytes.saturating_add(space / 10)
            || has_passed(REPEAT_AFTER, self.at, now)
    }
}

/// What the process has used at most, this time or before.
fn with(process: &Process, usage: &Usage) -> Process {
    let cpu_ms = u64::try_from(usage.cpu.as_millis()).unwrap_or(u64::MAX);
    Process {
        memory_bytes: process.memory_bytes.max(usage.memory_bytes),
        cpu_ms: process.cpu_ms.max(cpu_ms),
        tmp_used_bytes: process.tmp_used_bytes.max(usage.tmp_used_bytes),
        tmp_free_bytes: process.tmp_free_bytes.min(usage.tmp_free_bytes),
        ..process.clone()
    }
}

/// Whether it is so long ago, or by a clock that was set back since.
fn has_passed(time: TimeDelta, since: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
    since.is_none_or(|since| !(TimeDelta::zero()..time).contains(&now.signed_duration_since(since)))
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use application::{
        event_store::Unavailable,
        memory::{Fault, MemoryProcesses},
    };
    use tokio::time::Instant;

    use super::*;

    const MB: u64 = 1 << 20;

    fn unused() -> Process {
        Process {
            function: "create-order".to_owned(),
            instance: Uuid::new_v4(),
            started_at: 1_767_225_600,
            memory_limit_bytes: 256 * MB,
            memory_bytes: 0,
            cpu_ms: 0,
            tmp_used_bytes: 0,
            tmp_free_bytes: u64::MAX,
        }
    }

    fn usage(memory_mb: u64, cpu_ms: u64, tmp_used_mb: u64) -> Usage {
        Usage {
            memory_bytes: memory_mb.saturating_mul(MB),
            cpu: Duration::from_millis(cpu_ms),
            tmp_used_bytes: tmp_used_mb.saturating_mul(MB),
            tmp_free_bytes: 500_u64.saturating_sub(tmp_used_mb).saturating_mul(MB),
        }
    }

    fn at(minute: i64) -> DateTime<Utc> {
        "2026-01-01T00:00:00Z".parse::<DateTime<Utc>>().unwrap().checked_add_signed(TimeDelta::minutes(minute)).unwrap()
    }

    /// What the process is known to have used: its memory, its time, and what it has used of the space.
    async fn told(reporter: &Reporter<MemoryProcesses>, now: DateTime<Utc>) -> Option<(u64, u64, u64)> {
        let mut told = reporter.processes.read(now).await.unwrap();
        assert!(told.len() <= 1);
        told.pop().map(|process| (process.memory_bytes / MB, process.cpu_ms, process.tmp_used_bytes / MB))
    }

    #[tokio::test]
    async fn a_process_reports_when_much_has_changed_and_tells_the_most_there_was() {
        let reporter = Reporter::new(MemoryProcesses::default(), unused());
        let minutes = [
            (usage(20, 100, 0), (20, 100, 0)),
            (usage(22, 200, 50), (20, 100, 0)),
            (usage(23, 120, 0), (23, 120, 0)),
            (usage(10, 241, 0), (23, 241, 0)),
            (usage(10, 300, 51), (23, 300, 51)),
            (usage(10, 310, 0), (23, 300, 51)),
        ];
        for (minute, (usage, expected)) in (0..).zip(minutes) {
            reporter.report(|| Some(usage), at(minute)).await;
            assert_eq!(told(&reporter, at(minute)).await, Some(expected), "minute {minute}");
        }
        let process = reporter.processes.read(at(5)).await.unwrap().remove(0);
        assert_eq!((process.tmp_free_bytes, process.memory_limit_bytes), (449 * MB, 256 * MB));
    }

    #[tokio::test]
    async fn however_much_changes_it_reports_once_a_minute_and_looks_no_more_often() {
        let reporter = Reporter::new(MemoryProcesses::default(), unused());
        reporter.report(|| Some(usage(20, 100, 0)), at(0)).await;
        let a_moment_later = at(1).checked_sub_signed(TimeDelta::milliseconds(1)).unwrap();
        reporter.report(|| panic!("it looks"), a_moment_later).await;
        reporter.report(|| Some(usage(40, 900, 0)), at(1)).await;
        assert_eq!(told(&reporter, at(1)).await, Some((40, 900, 0)));
        // Nor does a clock that is set back keep it from that.
        reporter.report(|| Some(usage(80, 900, 0)), at(-60)).await;
        assert_eq!(told(&reporter, at(1)).await, Some((80, 900, 0)));
    }

    #[tokio::test]
    async fn a_process_that_was_frozen_for_long_says_that_it_is_still_there() {
        let reporter = Reporter::new(MemoryProcesses::default(), unused());
        for hour in [0, 11, 23, 46] {
            reporter.report(|| Some(usage(20, 100, 0)), at(60 * hour)).await;
            assert!(told(&reporter, at(60 * hour)).await.is_some(), "hour {hour}");
        }
        assert_eq!(told(&reporter, at(60 * (46 + 24))).await, None);
    }

    #[tokio::test]
    async fn at_its_end_a_process_reports_whatever_has_changed() {
        let reporter = Reporter::new(MemoryProcesses::default(), unused());
        reporter.report(|| Some(usage(20, 100, 0)), at(0)).await;
        reporter.report_usage(usage(21, 101, 1), at(0)).await;
        assert_eq!(told(&reporter, at(0)).await, Some((21, 101, 1)));
    }

    #[tokio::test]
    async fn what_does_not_get_through_is_reported_within_seconds_and_then_it_looks_as_often_as_ever() {
        let reporter = Reporter::new(MemoryProcesses::default(), unused());
        let second = |second| at(0) + TimeDelta::seconds(second);
        for _ in 0..2 {
            reporter.processes.faults.push(Fault::BeforeEffect);
        }
        for (now, there) in [(0, None), (5, None), (10, Some((20, 100, 0)))] {
            reporter.report(|| Some(usage(20, 100, 0)), second(now)).await;
            assert_eq!(told(&reporter, second(now)).await, there, "second {now}");
            reporter.report(|| panic!("it looks"), second(now + 4)).await;
        }
        reporter.report(|| panic!("it looks"), second(69)).await;
        reporter.report(|| Some(usage(40, 900, 0)), second(70)).await;
        assert_eq!(told(&reporter, second(70)).await, Some((40, 900, 0)));
    }

    /// Never answers.
    struct Silent;

    impl Processes for Silent {
        async fn report(&self, _: &Process, _: DateTime<Utc>) -> Result<(), Unavailable> {
            pending().await
        }

        async fn read(&self, _: DateTime<Utc>) -> Result<Vec<Process>, Unavailable> {
            pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_table_that_does_not_answer_keeps_nobody_waiting_for_long() {
        let reporter = Reporter::new(Silent, unused());
        for waited in [PATIENCE, Duration::ZERO] {
            let started = Instant::now();
            reporter.report(|| Some(usage(20, 100, 0)), at(0)).await;
            let elapsed = started.elapsed();
            assert!((waited..=waited + Duration::from_millis(50)).contains(&elapsed), "{elapsed:?}");
        }
    }
}
