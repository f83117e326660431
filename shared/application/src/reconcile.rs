//! Looks after the orders that nobody works on any more: whose execution never started, or died without a word.
//!
//! An order is begun by an [execution](crate::ports::Fulfilment) of which nobody can say what has become. So the order itself
//! says whether one may be at work: not when it has been silent for longer than such an execution can last. Then a
//! [durable](DurableFulfilment) one has to be there, which can be asked for.
//!
//! What is certain is repaired: an execution that is missing is started, and an order whose execution died goes on, because
//! its steps find what was done and do the rest. What does not get anywhere, and what is old, is raised: the order asks for a
//! person. An order that waits for a person is left to them: no timer starts anything for it.

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    ids::OrderId,
    order::{
        Attention, Course, Order, OrderEvent, SkippableStep,
        flag::flag,
        resume::{ResumeRejection, go_on},
    },
    stored_event::UnreadableEvent,
    text::{Invalid, Text},
};

use crate::{
    event_store::{AppendError, Commit, EventStore, Metadata, RecordedEvent, StreamId, Unavailable},
    event_stream::LoadError,
    ports::{Cause, DurableFulfilment, ExecutionState, FulfilmentInput},
};

/// How long an execution that begins with an order may last (`infra/fulfilment.asl.json` as it is deployed for these).
pub const EXPRESS_LIMIT: TimeDelta = TimeDelta::minutes(5);

/// How long after its last event an order is left to whoever works on it: longer than [`EXPRESS_LIMIT`], with a minute for the
/// message that starts it. With less, a second execution may be at work on the order, which does no harm and is not needed.
pub const PATIENCE: TimeDelta = TimeDelta::minutes(6);

/// How long a durable execution may work on an order, and how long after its cause one may still be started by itself. The state
/// machine has the same limit for its executions; this one holds also where that does not. It forgets them after 90 days:
/// then one that has ended looks as if it had never started.
pub const LIMIT: TimeDelta = TimeDelta::hours(24);

/// How often in a row an order goes on after its execution died, each time after a patience four times as long: for more
/// than an hour and a half in all.
const RESUMES_MAX: u32 = 3;

const DEED: &str = "reconcile";

/// What was found, and done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Something has happened to the order a moment ago.
    Moving,
    /// Somebody works on the order, or nothing is to be done for it.
    Fine,
    /// It waits for a person who has been called already.
    Waiting(Attention),
    /// An execution was missing, and is started.
    Started { execution: String },
    /// Its execution had died, and the order goes on.
    Resumed,
    /// A person is called.
    Flagged(Attention),
}

/// Why an order could not be looked after. The next run tries again.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("the order's history cannot be read or written")]
    BrokenHistory(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(transparent)]
    Append(#[from] AppendError),
}

impl From<Unavailable> for ReconcileError {
    fn from(error: Unavailable) -> Self {
        Self::Load(error.into())
    }
}

impl From<UnreadableEvent> for ReconcileError {
    fn from(error: UnreadableEvent) -> Self {
        Self::Load(error.into())
    }
}

impl From<serde_json::Error> for ReconcileError {
    fn from(error: serde_json::Error) -> Self {
        Self::BrokenHistory(error.into())
    }
}

impl From<Invalid> for ReconcileError {
    fn from(error: Invalid) -> Self {
        Self::BrokenHistory(error.into())
    }
}

/// Looks after one order. `patience` is [`PATIENCE`], but for whoever cannot wait.
///
/// Whatever it appends comes right after what it has read: if anything happens to the order meanwhile, somebody works on it.
pub async fn reconcile(
    store: &impl EventStore,
    fulfilment: &impl DurableFulfilment,
    id: OrderId,
    patience: TimeDelta,
    now: DateTime<Utc>,
) -> Result<Finding, ReconcileError> {
    let history = History::of(id, &store.read(&StreamId::order(id), 0).await?)?;
    let waited = history.last.map(|last| now.signed_duration_since(last)).unwrap_or_default();
    if waited < patience {
        return Ok(Finding::Moving);
    }
    if !history.order.is_open() {
        return Ok(Finding::Fine);
    }
    if let Some(attention) = history.order.attention.clone() {
        // Whoever was to be called may not have been: the run that flagged the order may have ended before it could.
        let just_flagged = history.flagged_by_itself && waited <= patience.checked_mul(2).unwrap_or(patience);
        return Ok(if just_flagged { Finding::Flagged(attention) } else { Finding::Waiting(attention) });
    }
    for (execution, since) in history.due() {
        let is_old = FulfilmentInput::too_late(since, now);
        let reason = match fulfilment.state(execution).await? {
            ExecutionState::Running if is_old => "ExecutionTimedOut",
            ExecutionState::Running => continue,
            ExecutionState::NeverStarted if is_old => "ExecutionNeverStarted",
            ExecutionState::NeverStarted => {
                fulfilment.start(execution).await?;
                return Ok(Finding::Started { execution: execution.execution_name() });
            }
            ExecutionState::Ended if history.resumes >= RESUMES_MAX => "ExecutionDied",
            ExecutionState::Ended if waited < pause(patience, history.resumes) => continue,
            ExecutionState::Ended => return resume(store, &history, execution, now).await,
        };
        return raise(store, &history, execution, reason, now).await;
    }
    Ok(Finding::Fine)
}

fn pause(patience: TimeDelta, resumes: u32) -> TimeDelta {
    4_i32.checked_pow(resumes).and_then(|times| patience.checked_mul(times)).unwrap_or(LIMIT)
}

async fn resume(
    store: &impl EventStore,
    history: &History,
    execution: &FulfilmentInput,
    now: DateTime<Utc>,
) -> Result<Finding, ReconcileError> {
    let reason = Text::parse("the execution has ended, and the order has not")?;
    match go_on(&history.order, execution.refund, &reason) {
        Ok(events) if append(store, history, "resumed", &events, now).await? => Ok(Finding::Resumed),
        Ok(_) | Err(ResumeRejection::UnknownOrder | ResumeRejection::NotStuck) => Ok(Finding::Fine),
    }
}

async fn raise(
    store: &impl EventStore,
    history: &History,
    execution: &FulfilmentInput,
    reason: &str,
    now: DateTime<Utc>,
) -> Result<Finding, ReconcileError> {
    let step = if execution.refund { SkippableStep::IssueRefund.name() } else { "fulfilment" };
    let attention = Attention { step: step.to_owned(), reason: reason.to_owned() };
    match flag(&history.order, &attention) {
        Ok(events) if append(store, history, "flagged", &events, now).await? => Ok(Finding::Flagged(attention)),
        Ok(_) | Err(_) => Ok(Finding::Fine),
    }
}

/// Answers whether the events are appended; they are not when there are none, or the order has gone on. Each outcome is a
/// command of its own, as it is of the fulfilment's steps.
async fn append(
    store: &impl EventStore,
    history: &History,
    outcome: &str,
    events: &[OrderEvent],
    now: DateTime<Utc>,
) -> Result<bool, ReconcileError> {
    if events.is_empty() {
        return Ok(false);
    }
    let metadata = Metadata {
        command_id: history.id.work_id(&format!("{DEED} {} {outcome}", history.version)),
        fingerprint: DEED.to_owned(),
        actor: format!("service:{DEED}"),
        correlation_id: history.correlation_id.clone(),
        causation_id: format!("{}/{}", history.id, history.version),
        traceparent: None,
        occurred_at: now,
    };
    let commit = Commit::of_order(history.id, history.version, events, metadata)?;
    match store.append(&commit).await {
        Ok(_) => Ok(true),
        Err(AppendError::Conflict | AppendError::CommandReused) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// An order's events, and which executions they have started.
struct History {
    id: OrderId,
    order: Order,
    version: u64,
    /// When the last event happened.
    last: Option<DateTime<Utc>>,
    correlation_id: String,
    /// The latest execution that fulfils or undoes the order, and since when.
    fulfilment_or_undo: Option<(FulfilmentInput, DateTime<Utc>)>,
    /// The latest that gives back what staff have requested.
    refund: Option<(FulfilmentInput, DateTime<Utc>)>,
    /// How often this use case has let the order go on, one after the other, without anything else having happened to it.
    resumes: u32,
    /// The last event is a flag that this use case has raised.
    flagged_by_itself: bool,
}

impl History {
    fn of(id: OrderId, commits: &[Commit]) -> Result<Self, ReconcileError> {
        let mut history = Self {
            id,
            order: Order::default(),
            version: 0,
            last: None,
            correlation_id: commits.first().map(|first| first.metadata.correlation_id.clone()).unwrap_or_default(),
            fulfilment_or_undo: None,
            refund: None,
            resumes: 0,
            flagged_by_itself: false,
        };
        for commit in commits {
            for (version, recorded) in commit.numbered() {
                history.take(commit, version, recorded)?;
            }
            history.last = Some(commit.metadata.occurred_at);
        }
        Ok(history)
    }

    fn take(&mut self, commit: &Commit, version: u64, recorded: &RecordedEvent) -> Result<(), ReconcileError> {
        let event = recorded.read()?;
        let cause = Cause {
            order_id: self.id,
            version,
            event: recorded,
            correlation_id: &commit.metadata.correlation_id,
            traceparent: commit.metadata.traceparent.as_deref(),
        };
        if let Some(input) = FulfilmentInput::started_by(cause)? {
            let of_its_kind = if input.refund { &mut self.refund } else { &mut self.fulfilment_or_undo };
            *of_its_kind = Some((input, commit.metadata.occurred_at));
        }
        let by_itself = commit.metadata.actor == format!("service:{DEED}");
        let resumed = by_itself && matches!(event, OrderEvent::FulfilmentResumed(_));
        self.resumes = if resumed { self.resumes.saturating_add(1) } else { 0 };
        self.flagged_by_itself = by_itself && matches!(event, OrderEvent::OrderFlagged(_));
        self.order = std::mem::take(&mut self.order).evolve(&event);
        self.version = version;
        Ok(())
    }

    /// The executions that have to be at work, or to have called a person.
    fn due(&self) -> impl Iterator<Item = (&FulfilmentInput, DateTime<Utc>)> {
        let at_rest = matches!(self.order.course, Course::Confirmed(..) | Course::Delivered(..) | Course::Ended(..));
        let course = self.fulfilment_or_undo.iter().filter(move |_| !at_rest);
        let refund = self.refund.iter().filter(|_| self.order.open_refunds().next().is_some());
        course.chain(refund).map(|(input, since)| (input, *since))
    }
}
