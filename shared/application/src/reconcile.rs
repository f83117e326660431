//! Looks after the orders that nobody works on any more: whose execution never started, died, or was given up.
//!
//! What is certain is repaired: an execution that is missing is started, and an order that was given up while the providers
//! know more than it does goes on once more, because its steps then find what they had not heard of. What is not certain is
//! raised: the order asks for a person.

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    books::Books,
    ids::OrderId,
    money::MoneyError,
    order::{Attention, Course, Order, OrderEvent, SkippableStep, flag::flag, resume::resume},
    stored_event::UnreadableEvent,
    text::{Invalid, Text},
};

use crate::{
    event_store::{AppendError, Commit, EventStore, Metadata, RecordedEvent, StreamId, Unavailable},
    event_stream::LoadError,
    ledger::{LedgerError, providers_books},
    ports::{Cause, ExecutionState, Fulfilment, FulfilmentInput, Inventory, Payments, Shipping},
};

/// How long after its last event an order is left to whoever works on it: longer than the longest pause between two tries
/// of a step.
pub const PATIENCE: TimeDelta = TimeDelta::minutes(5);

/// How long an execution may work on an order. The state machine has the same limit; this one holds also where that does
/// not.
pub const LIMIT: TimeDelta = TimeDelta::hours(24);

/// How often an order goes on without a person having looked at it.
const RESUMES_MAX: usize = 3;

const DEED: &str = "reconcile";

/// What was found, and done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Somebody works on the order, or nothing is to be done for it.
    Fine,
    /// It waits for a person who has been called already.
    Waiting,
    /// An execution was missing, and is started.
    Started { execution: String },
    /// The providers know more than the order, which goes on once more.
    Resumed,
    /// A person is called.
    Flagged(Attention),
}

/// Why an order could not be looked after. The next run tries again.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    #[error(transparent)]
    Books(#[from] LedgerError),
    #[error("the order's history cannot be read or written")]
    BrokenHistory(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(transparent)]
    Append(#[from] AppendError),
}

impl From<Unavailable> for ReconcileError {
    fn from(error: Unavailable) -> Self {
        Self::Books(error.into())
    }
}

impl From<UnreadableEvent> for ReconcileError {
    fn from(error: UnreadableEvent) -> Self {
        Self::Books(LoadError::from(error).into())
    }
}

impl From<MoneyError> for ReconcileError {
    fn from(error: MoneyError) -> Self {
        Self::Books(error.into())
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
    (payments, inventory, shipping): (&impl Payments, &impl Inventory, &impl Shipping),
    fulfilment: &impl Fulfilment,
    id: OrderId,
    patience: TimeDelta,
    now: DateTime<Utc>,
) -> Result<Finding, ReconcileError> {
    let history = History::of(id, &store.read(&StreamId::order(id), 0).await?)?;
    let waited = history.last.map(|last| now.signed_duration_since(last));
    if !history.order.is_open() || waited.is_none_or(|waited| waited < patience) {
        return Ok(Finding::Fine);
    }
    for (execution, since) in history.due() {
        match fulfilment.state(execution).await? {
            ExecutionState::NeverStarted => {
                fulfilment.start(execution).await?;
                return Ok(Finding::Started { execution: execution.execution_name() });
            }
            ExecutionState::Running if now.signed_duration_since(since) > LIMIT => {
                return raise(store, &history, execution, "ExecutionTimedOut", now).await;
            }
            ExecutionState::Running => return Ok(Finding::Fine),
            ExecutionState::Ended if history.order.attention.is_none() => {
                return raise(store, &history, execution, "ExecutionDied", now).await;
            }
            ExecutionState::Ended => {}
        }
    }
    if let (Some(attention), true) = (&history.order.attention, history.flagged_a_moment_ago(now)) {
        // Whoever was to be called may not have been: the run that flagged the order may have ended before it could.
        return Ok(Finding::Flagged(attention.clone()));
    }
    let Some(books) = Books::of(&history.events)? else { return Ok(Finding::Fine) };
    let providers = providers_books(payments, inventory, shipping, id, books.charged.currency()).await?;
    if history.resumes >= RESUMES_MAX || books.agrees_with(&providers) {
        return Ok(Finding::Waiting);
    }
    let reason = Text::parse("the providers know more of the order than it does")?;
    match resume(&history.order, &reason) {
        Ok(events) if append(store, &history, &events, now).await? => Ok(Finding::Resumed),
        Ok(_) | Err(_) => Ok(Finding::Fine),
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
        Ok(events) if events.is_empty() => Ok(Finding::Waiting),
        Ok(events) if append(store, history, &events, now).await? => Ok(Finding::Flagged(attention)),
        Ok(_) | Err(_) => Ok(Finding::Fine),
    }
}

/// Answers whether the events are appended; they are not when the order has gone on.
async fn append(
    store: &impl EventStore,
    history: &History,
    events: &[OrderEvent],
    now: DateTime<Utc>,
) -> Result<bool, ReconcileError> {
    let commit = Commit {
        stream: StreamId::order(history.id),
        version: history.version.saturating_add(1),
        events: events.iter().map(RecordedEvent::record).collect::<Result<_, _>>()?,
        metadata: Metadata {
            command_id: history.id.work_id(&format!("{DEED} {}", history.version)),
            fingerprint: DEED.to_owned(),
            actor: format!("service:{DEED}"),
            correlation_id: history.correlation_id.clone(),
            causation_id: format!("{}/{}", history.id, history.version),
            traceparent: None,
            occurred_at: now,
        },
    };
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
    events: Vec<OrderEvent>,
    version: u64,
    /// When the last event happened.
    last: Option<DateTime<Utc>>,
    correlation_id: String,
    /// The latest execution that fulfils or undoes the order, and since when.
    fulfilment_or_undo: Option<(FulfilmentInput, DateTime<Utc>)>,
    /// The latest that gives back what staff have requested.
    refund: Option<(FulfilmentInput, DateTime<Utc>)>,
    /// How often the order went on without a person.
    resumes: usize,
    /// The last event is a flag that this use case has raised.
    flagged_by_itself: bool,
}

impl History {
    fn of(id: OrderId, commits: &[Commit]) -> Result<Self, ReconcileError> {
        let mut history = Self {
            id,
            order: Order::default(),
            events: Vec::new(),
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
        if by_itself && matches!(event, OrderEvent::FulfilmentResumed(_)) {
            self.resumes = self.resumes.saturating_add(1);
        }
        self.flagged_by_itself = by_itself && matches!(event, OrderEvent::OrderFlagged(_));
        self.order = std::mem::take(&mut self.order).evolve(&event);
        self.events.push(event);
        self.version = version;
        Ok(())
    }

    fn flagged_a_moment_ago(&self, now: DateTime<Utc>) -> bool {
        let patience = PATIENCE.checked_mul(2).unwrap_or(PATIENCE);
        self.flagged_by_itself && self.last.is_some_and(|last| now.signed_duration_since(last) <= patience)
    }

    /// The executions that have to be at work, or to have called a person.
    fn due(&self) -> impl Iterator<Item = (&FulfilmentInput, DateTime<Utc>)> {
        let at_rest = matches!(self.order.course, Course::Confirmed(..) | Course::Delivered(..) | Course::Ended(..));
        let course = self.fulfilment_or_undo.iter().filter(move |_| !at_rest);
        let refund = self.refund.iter().filter(|_| self.order.open_refunds().next().is_some());
        course.chain(refund).map(|(input, since)| (input, *since))
    }
}
