//! The spans that a trace is made of, and what one hop tells the next: `traceparent` (W3C Trace Context).
//!
//! `tracestate` and baggage end where they come in, as the standard allows: they are a stranger's free text, which would be
//! stored with every event for ever, and be told to providers.

use std::sync::OnceLock;

use opentelemetry::{
    Context, KeyValue, SpanId, TraceFlags, TraceId, Value,
    trace::{SpanContext, Status, TraceContextExt, TraceState},
};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};
use tracing::{Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::{
    EXPORTER,
    keep::{Share, is_wanted, want},
};

/// By this target the layers know the spans that are made here.
pub(crate) const TARGET: &str = "telemetry::trace";

/// Which share of the traces that begin here is recorded.
static SHARE: OnceLock<Share> = OnceLock::new();

static FUNCTION: OnceLock<&str> = OnceLock::new();

pub(crate) fn begin(function: &'static str, share: Share) {
    let _ = FUNCTION.set(function);
    let _ = SHARE.set(share);
}

/// What the function of this process is called in the source, once [`crate::init`] was told.
pub fn function() -> &'static str {
    FUNCTION.get().copied().unwrap_or("function")
}

tokio::task_local! {
    static CORRELATION_ID: String;
}

/// Does the work with everything that it calls being told this id.
pub fn correlating<F: Future>(id: impl Into<Option<String>>, work: F) -> impl Future<Output = F::Output> {
    CORRELATION_ID.scope(id.into().unwrap_or_default(), work)
}

/// Whose doing the work is: the id that goes from a request, or from a step's input, to all that comes of it.
pub fn correlation_id() -> Option<String> {
    CORRELATION_ID.try_with(Clone::clone).ok().filter(|id| !id.is_empty())
}

/// A place in a trace, as somebody else tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace(SpanContext);

impl Trace {
    /// `version-trace_id-parent_id-flags` in lower-case hexadecimal (W3C Trace Context, section 3.2); `None` for anything else.
    pub fn parse(traceparent: &str) -> Option<Self> {
        let parts: Vec<&str> = traceparent.split('-').collect();
        let [version, trace_id, parent_id, flags] = parts.as_slice() else { return None };
        let hex =
            |text: &str, length| text.len() == length && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        if !(hex(version, 2) && *version != "ff" && hex(trace_id, 32) && hex(parent_id, 16) && hex(flags, 2)) {
            return None;
        }
        let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
        let (trace_id, parent_id) = (TraceId::from_hex(trace_id).ok()?, SpanId::from_hex(parent_id).ok()?);
        Some(SpanContext::new(trace_id, parent_id, flags, true, TraceState::NONE))
            .filter(SpanContext::is_valid)
            .map(Self)
    }

    /// What Lambda tells of its own trace: `Root=1-<8 hex>-<24 hex>;Parent=<16 hex>;Sampled=1`; `None` when that is not recorded,
    /// or where nobody sees it.
    pub fn of_lambda(header: &str) -> Option<Self> {
        EXPORTER.get().filter(|exporter| exporter.is_to_xray()).and_then(|_| Self::parse_xray(header))
    }

    fn parse_xray(header: &str) -> Option<Self> {
        let field = |name: &str| header.split(';').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        let trace_id = field("Root")?.strip_prefix("1-")?.replace('-', "");
        let parent_id = field("Parent")?;
        let is_recorded = field("Sampled")? == "1";
        is_recorded.then(|| Self::parse(&format!("00-{trace_id}-{parent_id}-01"))).flatten()
    }

    pub fn id(&self) -> String {
        self.0.trace_id().to_string()
    }

    pub fn is_recorded(&self) -> bool {
        self.0.is_sampled()
    }

    /// Has the rest of it recorded, whatever was decided where it began.
    pub fn keep(&self) {
        if self.0.is_valid() && !self.0.is_sampled() {
            want(self.0.trace_id());
        }
    }

    /// What a stranger tells: the trace is theirs, but whether it is recorded here is decided here. Their flag would be an order
    /// to record everything, and so would be an id of their choice.
    pub fn of_stranger(traceparent: &str) -> Option<Self> {
        Self::told_to(SHARE.get().copied().unwrap_or(Share::ALL), traceparent)
    }

    fn told_to(share: Share, traceparent: &str) -> Option<Self> {
        let Self(told) = Self::parse(traceparent)?;
        let flags = TraceFlags::default().with_sampled(share.has(RandomIdGenerator::default().new_trace_id()));
        Some(Self(SpanContext::new(told.trace_id(), told.span_id(), flags, true, TraceState::NONE)))
    }
}

/// What a span is about, to whom it belongs.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Answers somebody who waits.
    Server,
    /// Takes what somebody has sent.
    Consumer,
    /// Waits for somebody else's answer.
    Client,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Consumer => "consumer",
            Self::Client => "client",
        }
    }
}

/// One span.
pub struct Hop(Span);

impl Hop {
    /// A call of this process's function.
    pub fn of_function(kind: Kind, trace: Option<Trace>) -> Self {
        Self::new(function(), kind, trace)
    }

    /// Goes on with a trace, or begins one.
    pub fn new(name: &str, kind: Kind, trace: Option<Trace>) -> Self {
        let span = info_span!(target: TARGET, parent: None, "hop", otel.name = name, otel.kind = kind.name());
        if let Some(Trace(parent)) = trace {
            // It fails only where no spans are made.
            let _ = span.set_parent(Context::new().with_remote_span_context(parent));
        }
        Self(span)
    }

    /// Part of what is at work.
    pub fn within(name: &str, kind: Kind) -> Self {
        Self(info_span!(target: TARGET, "hop", otel.name = name, otel.kind = kind.name()))
    }

    /// Carries what is part of another trace.
    pub fn link(&self, Trace(other): &Trace) {
        self.0.add_link(other.clone());
    }

    #[must_use]
    pub fn with(self, key: &'static str, value: impl Into<Value>) -> Self {
        self.0.set_attribute(key, value);
        self
    }

    /// Where it is; `None` where no spans are made.
    pub fn trace(&self) -> Option<Trace> {
        Some(self.0.context().span().span_context().clone()).filter(SpanContext::is_valid).map(Trace)
    }

    pub fn trace_id(&self) -> Option<String> {
        self.trace().map(|trace| trace.id())
    }

    /// For [`tracing::Instrument`]. What is at work within it are the functions below about.
    pub fn span(&self) -> Span {
        self.0.clone()
    }
}

/// What is to be told of the span that is at work, so that what comes of this is part of its trace; `None` outside of all.
pub fn traceparent() -> Option<String> {
    let context = Context::current();
    let span = context.span();
    let at = span.span_context();
    at.is_valid().then(|| {
        let is_recorded = at.is_sampled() || is_wanted(at.trace_id());
        format!("00-{}-{}-{:02x}", at.trace_id(), at.span_id(), u8::from(is_recorded))
    })
}

/// Says something of the span that is at work.
pub fn set(key: &'static str, value: impl Into<Value>) {
    Context::current().span().set_attribute(KeyValue::new(key, value));
}

/// Says which order the span that is at work is about.
pub fn has_order(order_id: &impl ToString) {
    set("order.id", order_id.to_string());
}

/// Says that the span that is at work has failed, and why in one word. Its trace is recorded from here on.
pub fn failed(error_type: &'static str) {
    let context = Context::current();
    let span = context.span();
    span.set_attribute(KeyValue::new("error.type", error_type));
    span.set_status(Status::error(error_type));
    keep();
}

/// Has the trace that is at work recorded from here on, whatever was decided where it began.
pub fn keep() {
    Trace(Context::current().span().span_context().clone()).keep();
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::SpanKind;
    use opentelemetry_sdk::trace::SpanData;
    use tracing::Instrument;

    use super::*;
    use crate::recorded;

    const CLIENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn unsampled() -> Option<Trace> {
        Trace::parse(&CLIENT.replace("-01", "-00"))
    }

    async fn call(kind: Kind, trace: Option<Trace>, work: impl FnOnce() -> Option<String>) -> Option<String> {
        async { work() }.instrument(Hop::new("a call", kind, trace).span()).await
    }

    fn told(spans: &[SpanData]) -> Vec<(String, String)> {
        spans.iter().map(|span| (span.parent_span_id.to_string(), span.span_context.span_id().to_string())).collect()
    }

    #[tokio::test]
    async fn a_trace_goes_on_from_hop_to_hop() {
        let (at, spans) = recorded(0.0, call(Kind::Server, Trace::parse(CLIENT), traceparent)).await;
        let at = Trace::parse(&at.unwrap()).unwrap();
        assert_eq!((at.id(), at.is_recorded()), ("4bf92f3577b34da6a3ce929d0e0e4736".to_owned(), true));
        assert_eq!(told(&spans), [("00f067aa0ba902b7".to_owned(), at.0.span_id().to_string())]);
        let (next, spans) = recorded(0.0, call(Kind::Consumer, Some(at.clone()), traceparent)).await;
        assert_eq!(Trace::parse(&next.unwrap()).unwrap().id(), at.id());
        assert_eq!((spans[0].parent_span_id, &spans[0].span_kind), (at.0.span_id(), &SpanKind::Consumer));
    }

    #[tokio::test]
    async fn what_no_share_has_is_not_recorded_and_the_next_hop_is_told_so() {
        let (at, spans) = recorded(0.0, call(Kind::Server, None, traceparent)).await;
        assert!(at.unwrap().ends_with("-00") && spans.is_empty(), "{spans:?}");
        let (at, spans) = recorded(1.0, call(Kind::Server, None, traceparent)).await;
        assert!(at.unwrap().ends_with("-01") && spans.len() == 1, "{spans:?}");
        let (at, _) = recorded(1.0, call(Kind::Server, unsampled(), traceparent)).await;
        assert!(at.unwrap().ends_with("-00"), "what was decided where it began, counts");
    }

    #[tokio::test]
    async fn what_fails_is_recorded_from_there_on_and_names_where_it_came_from() {
        let fail = || {
            let inner = Hop::within("a provider", Kind::Client).with("server.address", "127.0.0.1");
            inner.span().in_scope(|| failed("timed_out"));
            traceparent()
        };
        let (at, spans) = recorded(0.0, call(Kind::Server, unsampled(), fail)).await;
        assert!(at.unwrap().ends_with("-01"));
        let [inner, outer] = spans.as_slice() else { panic!("{spans:?}") };
        assert_eq!((inner.status.clone(), &inner.span_kind), (Status::error("timed_out"), &SpanKind::Client));
        assert_eq!(inner.parent_span_id, outer.span_context.span_id());
        assert_eq!((outer.parent_span_id, outer.span_context.is_sampled()), (SpanId::INVALID, true));
        let from = &outer.links[0].span_context;
        assert_eq!(
            (from.trace_id(), from.span_id().to_string().as_str()),
            (outer.span_context.trace_id(), "00f067aa0ba902b7")
        );
        // And what comes after it in this process is what it was.
        let (_, spans) = recorded(0.0, call(Kind::Server, unsampled(), traceparent)).await;
        assert!(spans.is_empty(), "{spans:?}");
    }

    #[tokio::test]
    async fn spans_around_that_are_for_lines_are_no_part_of_a_trace() {
        let work = async {
            let lines = tracing::info_span!("invocation", correlation_id = "c-1", secret = "no");
            call(Kind::Server, None, || Span::current().in_scope(|| Hop::within("inner", Kind::Client).trace_id()))
                .instrument(lines)
                .await
        };
        let (_, spans) = recorded(1.0, work).await;
        assert_eq!(told(&spans)[0].0, told(&spans)[1].1, "one is the other's parent");
        assert!(spans.iter().all(|span| span.attributes.is_empty()), "{spans:?}");
    }

    #[tokio::test]
    async fn a_call_of_the_sdk_is_a_part_and_says_which() {
        let work = call(Kind::Server, None, || {
            tracing::debug_span!(target: "aws_sdk_dynamodb::operation::put_item", "DynamoDB.PutItem", "rpc.system" = "aws-api",
                "rpc.service" = "DynamoDB", "rpc.method" = "PutItem", "sdk_invocation_id" = 7)
            .in_scope(|| None)
        });
        let (_, spans) = recorded(1.0, work).await;
        assert_eq!((spans[0].name.as_ref(), &spans[0].span_kind), ("DynamoDB.PutItem", &SpanKind::Client));
        let keys: Vec<&str> = spans[0].attributes.iter().map(|attribute| attribute.key.as_str()).collect();
        assert_eq!(keys, ["rpc.system", "rpc.service", "rpc.method"]);
    }

    #[test]
    fn who_chooses_a_traces_id_does_not_choose_whether_it_is_recorded() {
        for id in ["00000000000000000000000000000001", "ffffffffffffffffffffffffffffffff"] {
            let told = format!("00-{id}-00f067aa0ba902b7-01");
            let of_200 = |share| {
                let traces = (0..200).filter_map(|_| Trace::told_to(Share::new(share), &told));
                traces.filter(|trace| trace.id() == id && trace.is_recorded()).count()
            };
            assert_eq!((of_200(0.0), of_200(1.0)), (0, 200), "{id}");
            assert!((1..200).contains(&of_200(0.5)), "{id}");
        }
    }

    #[test]
    fn lambdas_own_trace_is_known_where_it_is_recorded() {
        let header = "Root=1-6925b1ec-2a259fef4fb05181a79a65e2;Parent=0b1f3e5a7c9d2e4f;Sampled=1;Lineage=1:a87bd80c:0";
        assert_eq!(Trace::parse_xray(header).unwrap().id(), "6925b1ec2a259fef4fb05181a79a65e2");
        for none in [header.replace("Sampled=1", "Sampled=0"), "Root=1-2;Parent=3;Sampled=1".to_owned(), String::new()]
        {
            assert_eq!(Trace::parse_xray(&none), None, "{none}");
        }
    }

    #[test]
    fn a_traceparent_is_taken_on_only_when_it_is_one() {
        let told = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let Trace(at) = Trace::parse(told).unwrap();
        assert_eq!(format!("00-{}-{}-0{}", at.trace_id(), at.span_id(), at.trace_flags().to_u8()), told);
        assert!(!Trace::parse(&told.replace("-01", "-00")).unwrap().0.is_sampled());
        for bad in [
            "",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-00",
            "00-x-y-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        ] {
            assert_eq!(Trace::parse(bad), None, "{bad}");
        }
    }
}
