//! Where Lambda calls in: environment, logs, and the frame around a handler that is not HTTP (for HTTP see [`crate::http`]).

use std::{
    collections::BTreeMap,
    error::Error as StdError,
    panic::AssertUnwindSafe,
    sync::atomic::{AtomicBool, Ordering},
};

use application::{
    dead_letters::NotHandled,
    event_store::{Commit, StreamId},
    fulfilment::StepError,
    ports::{Consumer, DeadLetters, Failure, FulfilmentInput},
    sandbox::Sandbox,
};
use aws_lambda_events::event::{
    dynamodb::Event as DynamoDbEvent,
    sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent},
};
use chrono::{DateTime, Utc};
use domain::{
    ids::OrderId,
    order::{Attention, OrderEvent},
};
use futures_util::FutureExt;
use lambda_runtime::{Context, Diagnostic, Error, LambdaEvent, service_fn};
use serde::{Serialize, de::DeserializeOwned};
pub use telemetry::{Ending, Kind, chain, correlating, init};
use telemetry::{
    Hop, Trace,
    figures::{self, Metric},
};
use tracing::{Instrument, Span, error, info, warn};

use crate::{
    dynamodb::{Place, commit_from_image, key_from_image},
    event_bridge::{BusEvent, Detail},
    processes,
};

/// A setting that the template should have made is not there.
#[derive(Debug, thiserror::Error)]
#[error("the environment variable {0} is not set")]
pub struct MissingVariable(&'static str);

/// The value of an environment variable. Called in `main` only, so that a wrong deployment fails at its start.
pub fn variable(name: &'static str) -> Result<String, MissingVariable> {
    std::env::var(name).map_err(|_| MissingVariable(name))
}

/// Whether the built-in providers misbehave on request: only where `SANDBOX_TRIGGERS` is `true`.
pub fn sandbox() -> Result<Sandbox, MissingVariable> {
    Ok(if variable("SANDBOX_TRIGGERS")? == "true" { Sandbox::Misbehaving } else { Sandbox::Strict })
}

/// One call of a function: what its lines and its spans have in common.
pub struct Invocation {
    lines: Span,
    hop: Hop,
    correlation_id: Option<String>,
    cold_start: bool,
}

impl Invocation {
    /// As part of the trace that this `traceparent` tells; without one it begins a trace.
    pub fn new(context: &Context, kind: Kind, traceparent: Option<&str>) -> Self {
        Self::of(context, Hop::of_function(kind, traceparent.and_then(Trace::parse)))
    }

    /// With the keys on its lines that users of Powertools for AWS know. `correlation_id` and `order_id` are filled in when
    /// they are known, `cold_start` is there only when it is true.
    pub(crate) fn of(context: &Context, hop: Hop) -> Self {
        static WARM: AtomicBool = AtomicBool::new(false);
        let cold_start = !WARM.swap(true, Ordering::Relaxed);
        if cold_start {
            figures::write([Metric::count("ColdStarts", 1)]);
        }
        let lines = tracing::info_span!(
            "invocation",
            service = std::env::var("SERVICE_NAME").unwrap_or_else(|_| "order-service".to_owned()),
            function_name = context.env_config.function_name,
            function_arn = context.invoked_function_arn,
            function_memory_size = context.env_config.memory,
            function_request_id = context.request_id,
            xray_trace_id = context.xray_trace_id.as_deref().unwrap_or_default(),
            trace_id = hop.trace_id(),
            cold_start = cold_start.then_some(true),
            correlation_id = tracing::field::Empty,
            order_id = tracing::field::Empty,
        );
        let hop = hop.with("faas.invocation_id", context.request_id.clone()).with("faas.coldstart", cold_start);
        // What Lambda itself records of this invocation lies in a trace of its own.
        if let Some(of_lambda) = context.xray_trace_id.as_deref().and_then(Trace::of_lambda) {
            hop.link(&of_lambda);
        }
        Self { lines, hop, correlation_id: None, cold_start }
    }

    #[must_use]
    pub fn correlated(mut self, id: &str) -> Self {
        self.lines.record("correlation_id", id);
        self.correlation_id = Some(id.to_owned());
        self
    }

    /// Is about this order, and says so on its lines and on its span.
    #[must_use]
    pub(crate) fn about(self, order_id: OrderId) -> Self {
        self.lines.record("order_id", tracing::field::display(order_id));
        Self { hop: self.hop.with("order.id", order_id.to_string()), ..self }
    }

    /// What is to be filled in as soon as it is known.
    pub(crate) fn lines(&self) -> Span {
        self.lines.clone()
    }

    /// Does the work as this invocation's, and hands on what was recorded of it: afterwards Lambda freezes the process. Beside the
    /// work, the process reports what it has used, if that is due; but not while its first caller waits for it to start.
    pub async fn run<T>(self, work: impl Future<Output = T>) -> T {
        let Self { lines, hop, correlation_id, cold_start } = self;
        let work = async {
            let report = async {
                if !cold_start {
                    Box::pin(processes::report()).await;
                }
            };
            tokio::join!(work, report).0
        };
        // In a box, as below, because the SDK's futures nest deeper than the compiler lays out in one piece.
        let work = Box::pin(work).instrument(hop.span());
        let answer = correlating(correlation_id, work).instrument(lines).await;
        drop(hop);
        telemetry::hand_on().await;
        answer
    }
}

/// Says in the log that an order waits for a person. A metric filter counts these lines, and an alarm rings for them: the
/// wording is the filter's (`infra/alarms.yaml`), and the level one that no setting leaves out.
pub fn order_needs_attention(order_id: OrderId, attention: &Attention) {
    let Attention { step, reason } = attention;
    error!(%order_id, step, reason, "order needs attention");
    telemetry::failed("order_needs_attention");
}

/// Runs a step of the fulfilment: ids in, nothing out, and on failure the stable error type that the state machine knows.
pub async fn run_step<I, O, F>(step: F) -> Result<(), Error>
where
    I: AsRef<FulfilmentInput> + AsMut<FulfilmentInput> + DeserializeOwned,
    O: Serialize,
    F: AsyncFn(I, DateTime<Utc>) -> Result<O, StepError>,
{
    lambda_runtime::run(service_fn(async |event: LambdaEvent<I>| {
        let FulfilmentInput { order_id, correlation_id, traceparent, .. } = event.payload.as_ref();
        let invocation = Invocation::new(&event.context, Kind::Server, traceparent.as_deref());
        let invocation = invocation.correlated(correlation_id).about(*order_id);
        let mut input = event.payload;
        invocation
            .run(async {
                // What the step records, and whom it calls, goes on from here.
                if let Some(here) = telemetry::traceparent() {
                    input.as_mut().traceparent = Some(here);
                }
                match Box::pin(step(input, Utc::now())).await {
                    Ok(answer) => {
                        info!("step done");
                        Ok(answer)
                    }
                    Err(error) => {
                        warn!(error_type = error.error_type(), error = chain(&error), "step not done");
                        telemetry::failed(error.error_type());
                        Err(Diagnostic { error_type: error.error_type().to_owned(), error_message: error.to_string() })
                    }
                }
            })
            .await
    }))
    .await
}

/// Runs a step that undoes another one, or closes or flags the order. Unless the customer asked for it, something has gone wrong
/// before, so it is recorded whether or not the order's trace is.
pub async fn run_undo<I, O, F>(step: F) -> Result<(), Error>
where
    I: AsRef<FulfilmentInput> + AsMut<FulfilmentInput> + DeserializeOwned,
    O: Serialize,
    F: AsyncFn(I, DateTime<Utc>) -> Result<O, StepError>,
{
    run_step(async |input: I, now| {
        if !input.as_ref().undo {
            telemetry::keep();
        }
        Box::pin(step(input, now)).await
    })
    .await
}

/// Runs a tool that an operator's script calls. When it fails, the script is told the stable name that `error_type` gives.
pub async fn run_tool<I, O, E, F>(error_type: fn(&E) -> &'static str, work: F) -> Result<(), Error>
where
    I: DeserializeOwned,
    O: Serialize,
    E: StdError + 'static,
    F: AsyncFn(I) -> Result<O, E>,
{
    lambda_runtime::run(service_fn(async |event: LambdaEvent<I>| {
        let work = async {
            Box::pin(work(event.payload)).await.map_err(|error| {
                let error_type = error_type(&error);
                warn!(error_type, error = chain(&error), "not done");
                telemetry::failed(error_type);
                Diagnostic { error_type: error_type.to_owned(), error_message: error.to_string() }
            })
        };
        Invocation::new(&event.context, Kind::Server, None).run(work).await
    }))
    .await
}

/// A batch from the event table's stream was not taken in whole.
#[derive(Debug, thiserror::Error)]
#[error("{failed} of {total} commits are not done; the batch has to come again")]
pub struct BatchNotDone {
    pub failed: usize,
    pub total: usize,
}

/// Runs a consumer of the event table's stream on each batch of commits.
///
/// `consume` answers what it could not handle. Where that is a stream's own trouble, the stream is parked, and only this one waits. What
/// may be everybody's trouble fails the whole invocation, and Lambda sends the batch again, or halves of it: consumers are
/// idempotent, and a batch that is reported as done never comes back.
pub async fn run_stream<F>(consumer: Consumer, letters: &impl DeadLetters, consume: F) -> Result<(), Error>
where
    F: AsyncFn(Vec<Commit>) -> Vec<NotHandled>,
{
    lambda_runtime::run(service_fn(async |event: LambdaEvent<DynamoDbEvent>| {
        let total = event.payload.records.len();
        let batch = read_batch(event.payload);
        let (hop, parts) = hops(batch.0.iter().map(|commit| commit.metadata.traceparent.as_deref()));
        let work = async {
            let _parts = parts;
            for commit in &batch.0 {
                keep_trouble(commit);
            }
            let failed = Box::pin(consume_batch(consumer, letters, &consume, batch)).await;
            if failed == 0 {
                return Ok(());
            }
            let error = BatchNotDone { failed, total };
            warn!(total, failed, "batch not consumed");
            telemetry::failed("BatchNotDone");
            Err(Diagnostic { error_type: "BatchNotDone".to_owned(), error_message: error.to_string() })
        };
        Invocation::of(&event.context, hop).run(work).await
    }))
    .await
}

/// Answers how many records of the batch have to come again.
pub async fn consume_batch(
    consumer: Consumer,
    letters: &impl DeadLetters,
    consume: &impl AsyncFn(Vec<Commit>) -> Vec<NotHandled>,
    (mut commits, Unreadable { mut streams, nameless }): (Vec<Commit>, Unreadable),
) -> usize {
    let now = Utc::now();
    // What comes later of a stream than a record that is none waits with it.
    commits.retain(|commit| {
        let before =
            |unreadable: &&mut NotHandled| unreadable.stream == commit.stream && unreadable.versions.0 < commit.version;
        let Some(unreadable) = streams.iter_mut().find(before) else { return true };
        unreadable.versions.1 = unreadable.versions.1.max(commit.last_version());
        unreadable.commits = unreadable.commits.saturating_add(1);
        false
    });
    let not_handled = match commits.as_slice() {
        [] => Vec::new(),
        [commit] => {
            let died = || {
                let failure = Failure::new("Panicked", "the function has panicked; its log says where");
                NotHandled::of([commit].into_iter(), failure, true).into_iter().collect()
            };
            let outcome = AssertUnwindSafe(consume(vec![commit.clone()])).catch_unwind().await;
            outcome.unwrap_or_else(|_| died())
        }
        // A batch that fails is halved, until the commit that it is about stands alone.
        _ => consume(commits).await,
    };
    let failed = park(consumer, letters, not_handled, now).await;
    // Not before all else is handled, or what comes before such a record would line up behind it, where it is in the way of any redrive.
    let unreadable = if failed == 0 {
        park(consumer, letters, streams, now).await
    } else {
        streams.iter().fold(0, |count: usize, unreadable| count.saturating_add(unreadable.commits))
    };
    nameless.saturating_add(unreadable).saturating_add(failed)
}

/// Has streams wait that are in trouble of their own. Answers how many commits have to come again instead.
async fn park(
    consumer: Consumer,
    letters: &impl DeadLetters,
    not_handled: Vec<NotHandled>,
    now: DateTime<Utc>,
) -> usize {
    let mut come_again: usize = 0;
    for NotHandled { stream, versions, commits, failure, is_lasting } in not_handled {
        let (name, version) = (stream.as_str(), versions.0);
        if !is_lasting {
            come_again = come_again.saturating_add(commits);
            continue;
        }
        match letters.park(consumer, &stream, versions, &failure, now).await {
            Ok(()) => {
                let Failure { error_type, error } = failure;
                error!(stream = name, version, error_type, error, "stream parked");
                telemetry::failed("stream_parked");
                figures::write([Metric::count("StreamsParked", 1)]);
            }
            Err(error) => {
                warn!(stream = name, version, error = chain(&error), "stream not parked");
                come_again = come_again.saturating_add(commits);
            }
        }
    }
    come_again
}

/// An event of the bus that a queue cannot hand on.
#[derive(Debug, thiserror::Error)]
#[error("the message is not an event of this service")]
struct UnreadableMessage(#[from] serde_json::Error);

/// Runs a consumer of a queue that rules of the bus feed.
pub async fn run_queue<F, E>(consume: F) -> Result<(), Error>
where
    F: AsyncFn(Detail) -> Result<(), E>,
    E: StdError + 'static,
{
    lambda_runtime::run(service_fn(async |event: LambdaEvent<SqsEvent>| {
        let messages = read_messages(event.payload);
        let traceparents = messages.iter().map(|message| message.detail.as_ref().ok()?.metadata.traceparent.as_deref());
        let (hop, parts) = hops(traceparents);
        let work = async {
            let _parts = parts;
            consume_each(messages, &consume).await
        };
        Ok::<_, Error>(Invocation::of(&event.context, hop).run(work).await)
    }))
    .await
}

/// Consumes each message, and answers those that have to come again; what goes on failing ends among the dead letters.
pub async fn consume_messages<E: StdError + 'static>(
    batch: SqsEvent,
    consume: impl AsyncFn(Detail) -> Result<(), E>,
) -> SqsBatchResponse {
    consume_each(read_messages(batch), consume).await
}

struct Message {
    id: String,
    detail: Result<Detail, UnreadableMessage>,
}

fn read_messages(batch: SqsEvent) -> Vec<Message> {
    let read = |body: Option<String>| serde_json::from_str(body.as_deref().unwrap_or_default());
    let messages = batch.records.into_iter().map(|message| Message {
        id: message.message_id.unwrap_or_default(),
        detail: read(message.body).map(|BusEvent { detail }| detail).map_err(UnreadableMessage),
    });
    messages.collect()
}

async fn consume_each<E: StdError + 'static>(
    messages: Vec<Message>,
    consume: impl AsyncFn(Detail) -> Result<(), E>,
) -> SqsBatchResponse {
    let mut response = SqsBatchResponse::default();
    for Message { id, detail } in messages {
        let failure = match detail {
            Ok(detail) => Box::pin(consume(detail)).await.err().map(|error| chain(&error)),
            Err(error) => Some(chain(&error)),
        };
        if let Some(error) = failure {
            warn!(message_id = id, error, "message not consumed");
            telemetry::failed("MessageNotConsumed");
            let mut failure = BatchItemFailure::default();
            failure.item_identifier = id;
            response.batch_item_failures.push(failure);
        }
    }
    response
}

/// The most traces that one batch names as its parts; a batch has 100 records at most.
const LINKS_MAX: usize = 100;

/// The span of a batch. What belongs to one trace goes on with it, from the first and with links to the others. What belongs
/// to several is a trace of its own, which names them all, and in each of these there is a part that names the batch, so
/// that none of them breaks off here.
fn hops<'t>(traceparents: impl Iterator<Item = Option<&'t str>>) -> (Hop, Vec<Hop>) {
    let mut traces = BTreeMap::<String, Vec<Trace>>::new();
    for trace in traceparents.flatten().filter_map(Trace::parse).take(LINKS_MAX) {
        let places = traces.entry(trace.id()).or_default();
        if !places.contains(&trace) {
            places.push(trace);
        }
    }
    if traces.len() <= 1 {
        let mut places = traces.into_values().flatten();
        let batch = Hop::of_function(Kind::Consumer, places.next());
        places.for_each(|other| batch.link(&other));
        return (batch, Vec::new());
    }
    let batch = Hop::of_function(Kind::Consumer, None);
    let parts = traces.into_values().filter_map(|places| places.into_iter().next()).map(|trace| {
        batch.link(&trace);
        let part = Hop::of_function(Kind::Consumer, Some(trace));
        batch.trace().iter().for_each(|batch| part.link(batch));
        part
    });
    let parts = parts.collect();
    (batch, parts)
}

/// Has what follows from a commit recorded, if it says that something has gone wrong, or if its trace is recorded anyhow.
fn keep_trouble(commit: &Commit) {
    let Some(trace) = commit.metadata.traceparent.as_deref().and_then(Trace::parse) else { return };
    let is_trouble = commit.events.iter().any(|event| OrderEvent::is_trouble(&event.event_type));
    if is_trouble {
        trace.keep();
    }
    if is_trouble || trace.is_recorded() {
        telemetry::keep();
    }
}

/// Records of a batch that are not commits.
#[derive(Debug, Default, PartialEq)]
pub struct Unreadable {
    pub streams: Vec<NotHandled>,
    /// How many do not even say of which stream they are.
    pub nameless: usize,
}

/// The commits of a batch, and what could not be read as one.
///
/// The event table is only ever added to, and the mappings let insertions through only.
pub fn read_batch(batch: DynamoDbEvent) -> (Vec<Commit>, Unreadable) {
    let mut commits = Vec::with_capacity(batch.records.len());
    let mut unreadable = Unreadable::default();
    for record in batch.records {
        let error = match commit_from_image(record.change.new_image) {
            Ok(commit) => {
                commits.push(commit);
                continue;
            }
            Err(error) => error,
        };
        warn!(stream_event_id = record.event_id, error = chain(&error), "unreadable stream record");
        if let Some(Place { stream, version }) = key_from_image(record.change.keys) {
            unreadable.streams.push(NotHandled {
                stream: StreamId::new(stream),
                versions: (version, version),
                commits: 1,
                failure: Failure::new("NotACommit", &error.to_string()),
                is_lasting: true,
            });
        } else {
            unreadable.nameless = unreadable.nameless.saturating_add(1);
        }
    }
    (commits, unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_event_of_every_step_is_a_fulfilment_input() {
        let samples = [
            include_str!("../../../events/validate-order.json"),
            include_str!("../../../events/reserve-inventory.json"),
            include_str!("../../../events/release-inventory.json"),
            include_str!("../../../events/process-payment.json"),
            include_str!("../../../events/create-shipment.json"),
            include_str!("../../../events/send-confirmation.json"),
            include_str!("../../../events/cancel-shipment.json"),
            include_str!("../../../events/refund-payment.json"),
            include_str!("../../../events/close-order.json"),
            include_str!("../../../events/issue-refund.json"),
            include_str!("../../../events/flag-order.json"),
        ];
        for sample in samples {
            let input: FulfilmentInput = serde_json::from_str(sample).unwrap();
            assert_eq!(input.causation_id, format!("{}/1", input.order_id));
        }
    }

    const ONE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const ONE_LATER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b8-01";
    const OTHER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[tokio::test]
    async fn a_batch_of_one_trace_is_part_of_it() {
        let batch = async {
            let (batch, parts) = hops([None, Some(ONE), Some(ONE_LATER), Some(ONE)].into_iter());
            assert!(parts.is_empty());
            batch.trace_id()
        };
        let (trace_id, spans) = telemetry::recorded(1.0, batch).await;
        assert_eq!(trace_id.as_deref(), ONE.split('-').nth(1));
        assert_eq!(spans[0].parent_span_id.to_string(), "00f067aa0ba902b7");
        let links: Vec<String> = spans[0].links.iter().map(|link| link.span_context.span_id().to_string()).collect();
        assert_eq!(links, ["00f067aa0ba902b8"]);
    }

    #[tokio::test]
    async fn a_batch_of_several_traces_is_one_of_its_own_and_a_part_of_each() {
        let (batch, spans) = telemetry::recorded(1.0, async {
            let (batch, _parts) = hops([ONE, OTHER, ONE_LATER].map(Some).into_iter());
            batch.trace_id().unwrap()
        })
        .await;
        let traces: Vec<String> = spans.iter().map(|span| span.span_context.trace_id().to_string()).collect();
        let links: Vec<Vec<String>> = spans
            .iter()
            .map(|span| span.links.iter().map(|link| link.span_context.trace_id().to_string()).collect())
            .collect();
        let own = traces.iter().position(|trace| *trace == batch).unwrap();
        assert_eq!(links[own].len(), 2, "{links:?}");
        for part in (0..3).filter(|part| *part != own) {
            assert!(ONE.contains(&traces[part]) || OTHER.contains(&traces[part]), "{traces:?}");
            assert_eq!(links[part], std::slice::from_ref(&batch));
        }
    }
}
