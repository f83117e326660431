//! What starts and goes on with an order's fulfilment.

use chrono::{DateTime, Utc};
use domain::{
    ids::OrderId,
    order::{OrderEvent, Resumption, SkippedStep},
    stored_event::UnreadableEvent,
};
use serde::{Deserialize, Serialize};

use crate::{
    event_store::{RecordedEvent, Unavailable},
    reconcile::LIMIT,
};

/// What an execution of the fulfilment, and each of its steps, is told: ids only, because the history of executions is
/// kept for months and is readable by operators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FulfilmentInput {
    pub order_id: OrderId,
    pub correlation_id: String,
    /// The id of the event that started the fulfilment.
    pub causation_id: String,
    pub traceparent: Option<String>,
    /// True for the execution that undoes a cancelled order.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undo: bool,
    /// True for an execution that gives back what staff have requested.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refund: bool,
    /// The number of the event that started it, where an order may have several of that kind.
    #[serde(default, alias = "resumed_by", skip_serializing_if = "Option::is_none")]
    pub started_by: Option<u64>,
}

impl AsRef<Self> for FulfilmentInput {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl AsMut<Self> for FulfilmentInput {
    fn as_mut(&mut self) -> &mut Self {
        self
    }
}

impl FulfilmentInput {
    /// Whether an event of this type says in its data what it starts.
    pub fn depends_on_data_of(event_type: &str) -> bool {
        matches!(event_type, "FulfilmentResumed" | "StepSkipped")
    }

    /// The execution that this event starts; `None` for an event that starts none. Its data are read only where
    /// [they say which](Self::depends_on_data_of): a message has none.
    pub fn started_by(cause: Cause<'_>) -> Result<Option<Self>, UnreadableEvent> {
        let version = Some(cause.version);
        let (undo, refund, started_by) = match cause.event.event_type.as_str() {
            "OrderCreated" => (false, false, None),
            "OrderCancelRequested" => (true, false, None),
            "RefundRequested" => (false, true, version),
            event_type if Self::depends_on_data_of(event_type) => match cause.event.read()? {
                OrderEvent::FulfilmentResumed(Resumption { undo, refund, .. }) => (undo && !refund, refund, version),
                OrderEvent::StepSkipped(SkippedStep { step, .. }) if step.is_undo() => (true, false, version),
                // A refund or a message that is skipped leaves nothing to go on with.
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        Ok(Some(Self {
            order_id: cause.order_id,
            correlation_id: cause.correlation_id.to_owned(),
            causation_id: format!("{}/{}", cause.order_id, cause.version),
            traceparent: cause.traceparent.map(str::to_owned),
            undo,
            refund,
            started_by,
        }))
    }

    /// Whether it is too late for an event of this time to start anything without a person. A day after the event, whatever
    /// it calls for has been started, or a person has been called; and no name of an execution is known for ever: Step
    /// Functions forgets them after 90 days, and what comes again then would be done once more.
    pub fn too_late(occurred_at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        now.signed_duration_since(occurred_at) > LIMIT
    }

    /// The name of the execution, and of the durable one that goes on where it ends: an order is fulfilled once, undone once,
    /// and goes on once for each event that lets it.
    pub fn execution_name(&self) -> String {
        match (self.started_by, self.refund, self.undo) {
            (Some(event), true, _) => format!("{}-refund-{event}", self.order_id),
            (Some(event), false, _) => format!("{}-resumed-{event}", self.order_id),
            (None, _, true) => format!("{}-undo", self.order_id),
            (None, _, false) => self.order_id.to_string(),
        }
    }
}

/// What the event that may start an execution brings along, on whatever way it comes.
#[derive(Debug, Clone, Copy)]
pub struct Cause<'c> {
    pub order_id: OrderId,
    /// The event's number in its stream.
    pub version: u64,
    pub event: &'c RecordedEvent,
    pub correlation_id: &'c str,
    pub traceparent: Option<&'c str>,
}

/// What is known of an execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecutionState {
    NeverStarted,
    Running,
    /// It has come to an end, good or bad.
    Ended,
}

/// How far a durable execution has come with a step. A round is some tries one after the other; then it pauses, and begins the next
/// from the top.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tries {
    pub step: String,
    /// Which try of this round is at work, or was the last.
    pub attempt: usize,
    /// How many a round has.
    pub attempts: usize,
    pub round: usize,
    pub rounds: usize,
    /// When this round came to the step.
    pub since: DateTime<Utc>,
    /// The name of the error with which the step has failed last.
    pub error: Option<String>,
    /// When the next round begins at the latest, during a pause.
    pub next_by: Option<DateTime<Utc>>,
}

/// What starts an order's fulfilment: an execution that is over within [`EXPRESS_LIMIT`](crate::reconcile::EXPRESS_LIMIT), and
/// leaves what does not get done by then to [another](DurableFulfilment).
pub trait Fulfilment: Send + Sync {
    /// MAY start it more than once, whether or not its [name](FulfilmentInput::execution_name) was used before: its steps find
    /// the order where it is. What has become of it, the order says and nobody else.
    fn start(&self, input: &FulfilmentInput) -> impl Future<Output = Result<(), Unavailable>> + Send;
}

/// What goes on with the order where that ends, for as long as it takes.
pub trait DurableFulfilment: Send + Sync {
    /// Answers whether it started now. MUST start nothing under an [execution name](FulfilmentInput::execution_name)
    /// that was used before.
    fn start(&self, input: &FulfilmentInput) -> impl Future<Output = Result<bool, Unavailable>> + Send;

    /// What has become of the execution under this input's name.
    fn state(&self, input: &FulfilmentInput) -> impl Future<Output = Result<ExecutionState, Unavailable>> + Send;
}

/// What tells how far durable executions have come.
pub trait FulfilmentTries: Send + Sync {
    /// Nothing where no execution is at work under this input's name, or it has not come to a step. MUST be one remote call, and
    /// MUST tell names and times only: nothing that a step was given, or has said of its error.
    fn tries(&self, input: &FulfilmentInput) -> impl Future<Output = Result<Option<Tries>, Unavailable>> + Send;
}
