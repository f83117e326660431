//! What a function tells about itself: lines, figures, and the spans of traces.
//!
//! Lines and spans are made of `tracing`'s spans and events, and each sees its own: lines have the events and the fields of the spans
//! around them, traces the spans that this crate makes and those of the AWS SDK.

mod end;
mod export;
pub mod figures;
mod keep;
pub mod logs;
pub mod process;
mod trace;

use std::{
    env,
    io::Write,
    sync::{LazyLock, OnceLock},
};

use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tracing::{Level, Metadata};
use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, Targets, filter_fn},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

pub use end::Ending;
pub use logs::chain;
pub use trace::{Hop, Kind, Trace, correlating, correlation_id, failed, function, has_order, keep, set, traceparent};

use crate::{
    export::Exporter,
    keep::{Kept, Share},
    logs::Lines,
};

/// What is kept quiet at every level. The SDK and its HTTP stack trace whole requests, and with them addresses; the
/// runtime's own span would repeat the request's ids on every line under other names.
const QUIET: &str = "lambda_runtime=warn,aws_runtime=info,aws_sdk=info,aws_sigv4=info,aws_smithy_http_client=info,\
    aws_smithy_runtime=info,aws_smithy_runtime_api=info,h2=info,hyper=info,hyper_util=info,opentelemetry=warn,\
    opentelemetry_sdk=warn,rustls=info";

/// The spans of this process that have ended.
static KEPT: LazyLock<Kept> = LazyLock::new(Kept::default);

/// The way they take, if they take any.
static EXPORTER: OnceLock<Exporter> = OnceLock::new();

/// Begins to write lines on standard output, and to make spans, for the function of this name. To be called once, in `main`.
///
/// `LOG_LEVEL` is a level, or levels by target (`info,application=debug`); `info` without it, and nothing below `debug` in what is built
/// for AWS. `OTEL_TRACES_SAMPLER_ARG` says which share of traces is recorded, from 0 to 1; all without it. Spans go to
/// `OTEL_EXPORTER_OTLP_ENDPOINT`, or else to the X-Ray daemon that Lambda runs beside a function, or nowhere. `OTEL_SDK_DISABLED=true` has
/// no spans made at all, and no trace handed on.
pub fn init(function: &'static str) {
    LazyLock::force(&process::BEGAN);
    let share = variable("OTEL_TRACES_SAMPLER_ARG").and_then(|share| share.parse().ok()).map_or(Share::ALL, Share::new);
    let write = |line: &[u8]| {
        // A function that cannot say anything still does its work.
        let _ = std::io::stdout().lock().write_all(line);
    };
    let wanted = variable("LOG_LEVEL").unwrap_or_else(|| "info".to_owned());
    let makes_spans = variable("OTEL_SDK_DISABLED").is_none_or(|disabled| disabled != "true");
    let spans = makes_spans.then(|| spans(function, share, &KEPT));
    tracing_subscriber::registry().with(lines(&wanted, write)).with(spans).init();
    trace::begin(function, share);
    if makes_spans && let Some(exporter) = Exporter::of_environment(&resource()) {
        let _ = EXPORTER.set(exporter);
    }
}

/// Hands on the spans that have ended. To be awaited at the end of each invocation, because Lambda freezes the process after
/// that. It takes a quarter of a second at most, and nothing while nobody takes spans.
pub async fn hand_on() {
    let spans = KEPT.take();
    if let Some(exporter) = EXPORTER.get()
        && !spans.is_empty()
    {
        exporter.export(spans).await;
    }
}

/// The layer that writes lines. Which events are told is a matter of levels; the fields of the spans around them are told whatever
/// the level.
fn lines<S>(wanted: &str, write: impl Fn(&[u8]) + Send + Sync + 'static) -> impl Layer<S>
where
    S: tracing::Subscriber + for<'s> tracing_subscriber::registry::LookupSpan<'s>,
{
    let levels = |wanted: &str| -> Option<Targets> { format!("{wanted},{QUIET}").parse().ok() };
    let all = || Targets::new().with_default(LevelFilter::INFO);
    let events = levels(wanted).unwrap_or_else(all);
    let spans = levels("info").unwrap_or_else(all);
    Lines(write).with_filter(filter_fn(move |metadata| {
        let (target, level) = (metadata.target(), metadata.level());
        if metadata.is_span() {
            !is_of_a_trace(metadata) && spans.would_enable(target, level)
        } else {
            events.would_enable(target, level)
        }
    }))
}

/// The layer that makes spans, of which this share of traces is recorded.
fn spans<S>(function: &'static str, share: Share, kept: &Kept) -> impl Layer<S> + use<S>
where
    S: tracing::Subscriber + for<'s> tracing_subscriber::registry::LookupSpan<'s>,
{
    let provider = SdkTracerProvider::builder().with_span_processor(kept.clone()).with_sampler(share).build();
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(function))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_filter(filter_fn(is_of_a_trace).with_max_level_hint(LevelFilter::DEBUG))
}

/// Does some work while this subscriber hears what it says; for tests.
///
/// While a process has one subscriber, whoever comes first to a line, span or event asks only the subscriber of its own thread
/// whether that is wanted, and the answer "no" of a thread that has none is kept for all (`tracing-core`, `callsite.rs`,
/// `Rebuilder::JustOne`). So there is always another one, which hears nothing.
#[cfg(any(test, feature = "testing"))]
pub async fn heard_by<T>(subscriber: impl Into<tracing::Dispatch>, work: impl Future<Output = T>) -> T {
    use tracing::{Dispatch, instrument::WithSubscriber, subscriber::NoSubscriber};

    static NEVER_JUST_ONE: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::new()));
    LazyLock::force(&NEVER_JUST_ONE);
    work.with_subscriber(subscriber).await
}

/// What some work records of itself where this share of traces is recorded, in the order in which it ended; for tests.
#[cfg(any(test, feature = "testing"))]
pub async fn recorded<T>(share: f64, work: impl Future<Output = T>) -> (T, Vec<opentelemetry_sdk::trace::SpanData>) {
    static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _alone = ALONE.lock().await;
    let kept = Kept::default();
    let subscriber = tracing_subscriber::registry().with(spans("test", Share::new(share), &kept));
    let answer = heard_by(subscriber, work).await;
    (answer, kept.take())
}

/// Ours, and one for each call of the AWS SDK, which names its service and its operation as OpenTelemetry does.
fn is_of_a_trace(metadata: &Metadata<'_>) -> bool {
    metadata.is_span()
        && (metadata.target() == trace::TARGET
            || metadata.target().starts_with("aws_sdk_") && *metadata.level() <= Level::DEBUG)
}

/// What all spans of the process have in common, by the names of OpenTelemetry's semantic conventions 1.39 (cloud, faas).
fn resource() -> Resource {
    let of_lambda = [
        ("service.name", "SERVICE_NAME"),
        ("cloud.region", "AWS_REGION"),
        ("faas.name", "AWS_LAMBDA_FUNCTION_NAME"),
        ("faas.version", "AWS_LAMBDA_FUNCTION_VERSION"),
        ("faas.instance", "AWS_LAMBDA_LOG_STREAM_NAME"),
    ];
    let known = of_lambda.into_iter().filter_map(|(key, name)| Some(KeyValue::new(key, variable(name)?)));
    let is_aws = [KeyValue::new("cloud.provider", "aws"), KeyValue::new("cloud.platform", "aws_lambda")];
    Resource::builder_empty().with_attributes(known.chain(is_aws)).build()
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}
