//! Where Lambda calls in: environment, logs, and the frame around a handler that is not HTTP (for HTTP see [`crate::http`]).

use std::{
    error::Error as StdError,
    io::Write,
    sync::atomic::{AtomicBool, Ordering},
};

use application::{event_store::Commit, fulfilment::StepError, ports::FulfilmentInput, sandbox::Sandbox};
use aws_lambda_events::event::{
    dynamodb::Event as DynamoDbEvent,
    sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent},
};
use chrono::{DateTime, Utc};
use domain::{ids::OrderId, order::Attention};
use lambda_runtime::{Context, Diagnostic, Error, LambdaEvent, service_fn};
use serde::{Serialize, de::DeserializeOwned};
use tracing::{Instrument, Span, error, info, warn};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::{
    dynamodb::commit_from_image,
    event_bridge::{BusEvent, Detail},
    logs::Lines,
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

/// What is kept quiet at every level. The SDK and its HTTP stack trace whole requests, and with them addresses; the
/// runtime's own span would repeat the request's ids on every line under other names.
const QUIET: &str = "lambda_runtime=warn,aws_runtime=info,aws_sigv4=info,aws_smithy_http_client=info,\
    aws_smithy_runtime=info,aws_smithy_runtime_api=info,h2=info,hyper=info,hyper_util=info,rustls=info";

/// JSON lines on standard output, one per event, with the fields of the surrounding spans at the top level.
/// `LOG_LEVEL` is a level, or levels by target (`info,application=debug`); `info` without it.
pub fn init_logs() {
    let wanted = std::env::var("LOG_LEVEL").unwrap_or_else(|_| "info".to_owned());
    let levels = format!("{wanted},{QUIET}").parse().unwrap_or_else(|_| Targets::new().with_default(LevelFilter::INFO));
    let write = |line: &[u8]| {
        // A function that cannot say anything still does its work.
        let _ = std::io::stdout().lock().write_all(line);
    };
    tracing_subscriber::registry().with(levels).with(Lines(write)).init();
}

/// The span of one invocation, with the keys that users of Powertools for AWS know.
/// `correlation_id` is filled in when it is known, `cold_start` is there only when it is true.
pub fn invocation_span(context: &Context) -> Span {
    static WARM: AtomicBool = AtomicBool::new(false);
    tracing::info_span!(
        "invocation",
        service = std::env::var("SERVICE_NAME").unwrap_or_else(|_| "order-service".to_owned()),
        function_name = context.env_config.function_name,
        function_arn = context.invoked_function_arn,
        function_memory_size = context.env_config.memory,
        function_request_id = context.request_id,
        xray_trace_id = context.xray_trace_id.as_deref().unwrap_or_default(),
        cold_start = (!WARM.swap(true, Ordering::Relaxed)).then_some(true),
        correlation_id = tracing::field::Empty,
    )
}

/// An error with everything that caused it, on one line. An SDK error's own text is only "service error".
pub fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // A transparent error repeats its cause; saying it once is enough.
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// Says in the log that an order waits for a person. A metric filter counts these lines, and an alarm rings for them: the
/// wording is the filter's (`infra/alarms.yaml`), and the level one that no setting leaves out.
pub fn order_needs_attention(order_id: OrderId, attention: &Attention) {
    let Attention { step, reason } = attention;
    error!(%order_id, step, reason, "order needs attention");
}

/// Runs a step of the fulfilment: ids in, nothing out, and on failure the stable error type that the state machine knows.
pub async fn run_step<I, O, F>(step: F) -> Result<(), Error>
where
    I: AsRef<FulfilmentInput> + DeserializeOwned,
    O: Serialize,
    F: AsyncFn(I, DateTime<Utc>) -> Result<O, StepError>,
{
    lambda_runtime::run(service_fn(async |event: LambdaEvent<I>| {
        let span = invocation_span(&event.context);
        let input = event.payload;
        span.record("correlation_id", &input.as_ref().correlation_id);
        let order_id = input.as_ref().order_id;
        async {
            // Boxed, because the SDK's futures nest deeper than the compiler lays out in one piece.
            match Box::pin(step(input, Utc::now())).await {
                Ok(answer) => {
                    info!(%order_id, "step done");
                    Ok(answer)
                }
                Err(error) => {
                    warn!(%order_id, error_type = error.error_type(), error = chain(&error), "step not done");
                    Err(Diagnostic { error_type: error.error_type().to_owned(), error_message: error.to_string() })
                }
            }
        }
        .instrument(span)
        .await
    }))
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
        let span = invocation_span(&event.context);
        Box::pin(work(event.payload)).instrument(span.clone()).await.map_err(|error| {
            let error_type = error_type(&error);
            span.in_scope(|| warn!(error_type, error = chain(&error), "not done"));
            Diagnostic { error_type: error_type.to_owned(), error_message: error.to_string() }
        })
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
/// `consume` answers how many commits it could not take in. Then the whole invocation fails, and Lambda sends the batch
/// again, or halves of it: consumers are idempotent, and a batch that is reported as done never comes back.
pub async fn run_stream<F>(consume: F) -> Result<(), Error>
where
    F: AsyncFn(Vec<Commit>) -> usize,
{
    lambda_runtime::run(service_fn(async |event: LambdaEvent<DynamoDbEvent>| {
        let span = invocation_span(&event.context);
        async {
            let total = event.payload.records.len();
            let (commits, unreadable) = read_batch(event.payload);
            let failed = Box::pin(consume(commits)).await.saturating_add(unreadable);
            if failed == 0 {
                return Ok(());
            }
            let error = BatchNotDone { failed, total };
            warn!(total, failed, "batch not consumed");
            Err(error)
        }
        .instrument(span)
        .await
        .map_err(|error| Diagnostic { error_type: "BatchNotDone".to_owned(), error_message: error.to_string() })
    }))
    .await
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
        let span = invocation_span(&event.context);
        Ok::<_, Error>(Box::pin(consume_messages(event.payload, &consume)).instrument(span).await)
    }))
    .await
}

/// Consumes each message, and answers those that have to come again; what goes on failing ends among the dead letters.
pub async fn consume_messages<E: StdError + 'static>(
    batch: SqsEvent,
    consume: impl AsyncFn(Detail) -> Result<(), E>,
) -> SqsBatchResponse {
    let mut response = SqsBatchResponse::default();
    for message in batch.records {
        let read = serde_json::from_str(message.body.as_deref().unwrap_or_default()).map_err(UnreadableMessage);
        let failure = match read {
            Ok(BusEvent { detail }) => consume(detail).await.err().map(|error| chain(&error)),
            Err(error) => Some(chain(&error)),
        };
        if let Some(error) = failure {
            warn!(message_id = message.message_id, error, "message not consumed");
            let mut failure = BatchItemFailure::default();
            failure.item_identifier = message.message_id.unwrap_or_default();
            response.batch_item_failures.push(failure);
        }
    }
    response
}

/// The commits of a batch, and how many records could not be read as one.
///
/// The event table is only ever added to, and the mappings let insertions through only.
pub fn read_batch(batch: DynamoDbEvent) -> (Vec<Commit>, usize) {
    let mut commits = Vec::with_capacity(batch.records.len());
    let mut unreadable: usize = 0;
    for record in batch.records {
        match commit_from_image(record.change.new_image) {
            Ok(commit) => commits.push(commit),
            Err(error) => {
                unreadable = unreadable.saturating_add(1);
                warn!(stream_event_id = record.event_id, error = chain(&error), "unreadable stream record");
            }
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

    #[test]
    fn an_error_is_logged_with_its_causes_each_said_once() {
        let io = std::io::Error::other("connection reset");
        let error = application::event_store::Unavailable { what: "the event store", source: io.into() };
        assert_eq!(chain(&error), "the event store is unavailable: connection reset");
        let error = application::event_store::AppendError::from(error);
        assert_eq!(chain(&error), "the event store is unavailable: connection reset");
    }
}
