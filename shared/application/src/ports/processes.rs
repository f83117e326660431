//! What each process of each function has used.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::event_store::Unavailable;

/// For how long a report is told after it was made. Nobody says when Lambda has ended a process.
pub const REPORT_KEPT: TimeDelta = TimeDelta::days(1);

/// A process, and what it has used so far: the most of each, and of what is free the least.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// What its function is called in the source.
    pub function: String,
    /// No other process has it.
    pub instance: Uuid,
    /// When it began, in seconds since 1970.
    pub started_at: u64,
    /// As much memory as its function may have.
    pub memory_limit_bytes: u64,
    pub memory_bytes: u64,
    pub cpu_ms: u64,
    pub tmp_used_bytes: u64,
    pub tmp_free_bytes: u64,
}

/// What processes report of themselves, now and then. It is for operators to look at: nothing may depend on it.
pub trait Processes: Send + Sync {
    /// Puts this in the place of what the process has reported before. MUST be one remote call, and MUST change no counter.
    fn report(&self, process: &Process, now: DateTime<Utc>) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// What every process has reported last that has reported anything in the [time before](REPORT_KEPT), in any order. MUST leave
    /// out what is older, and MAY miss what was reported within the last seconds.
    fn read(&self, now: DateTime<Utc>) -> impl Future<Output = Result<Vec<Process>, Unavailable>> + Send;
}
