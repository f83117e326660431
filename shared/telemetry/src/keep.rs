//! Which spans are recorded. All are made, so that one that fails can be recorded where its trace is not; at the end of an
//! invocation those are let go of whose trace nobody wants.

use std::{
    collections::HashSet,
    mem,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use opentelemetry::{
    Context, KeyValue, SpanId, TraceFlags, TraceId, Value,
    trace::{Link, SpanContext, SpanKind, TraceContextExt, TraceState},
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{Sampler, SamplingDecision, SamplingResult, ShouldSample, Span, SpanData, SpanProcessor},
};

/// The most spans that are kept until they are handed on. An invocation makes some dozens; what is beyond is lost.
const SPANS_MAX: usize = 1_000;

/// The traces of this invocation that are recorded whatever was decided where they began.
static WANTED: LazyLock<Mutex<HashSet<TraceId>>> = LazyLock::new(Mutex::default);

fn wanted() -> MutexGuard<'static, HashSet<TraceId>> {
    WANTED.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn want(trace_id: TraceId) {
    let mut wanted = wanted();
    if wanted.len() < SPANS_MAX {
        wanted.insert(trace_id);
    }
}

pub(crate) fn is_wanted(trace_id: TraceId) -> bool {
    wanted().contains(&trace_id)
}

/// The spans that have ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept(Arc<Mutex<Vec<SpanData>>>);

impl Kept {
    fn ended(&self) -> MutexGuard<'_, Vec<SpanData>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be recorded of what has ended since the last time.
    pub(crate) fn take(&self) -> Vec<SpanData> {
        let (ended, traces) = (mem::take(&mut *self.ended()), mem::take(&mut *wanted()));
        let recorded = |mut span: SpanData| {
            let at = &span.span_context;
            if at.is_sampled() {
                return Some(span);
            }
            if !traces.contains(&at.trace_id()) {
                return None;
            }
            // Nobody has recorded where it comes from, so it begins what is recorded, and only names that place.
            if span.parent_span_is_remote {
                let (trace_id, came_from) = (at.trace_id(), span.parent_span_id);
                let before = SpanContext::new(trace_id, came_from, TraceFlags::default(), true, TraceState::NONE);
                span.links.links.push(Link::new(before, Vec::new(), 0));
                span.parent_span_id = SpanId::INVALID;
                span.parent_span_is_remote = false;
            }
            let at = &span.span_context;
            span.span_context =
                SpanContext::new(at.trace_id(), at.span_id(), TraceFlags::SAMPLED, false, at.trace_state().clone());
            Some(span)
        };
        ended.into_iter().filter_map(recorded).collect()
    }
}

impl SpanProcessor for Kept {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, mut span: SpanData) {
        // The SDK's spans do not say that they are calls, and number their calls for the SDK's own lines.
        let is_call =
            |attribute: &KeyValue| attribute.key.as_str() == "rpc.system" && attribute.value == Value::from("aws-api");
        if span.attributes.iter().any(is_call) {
            span.span_kind = SpanKind::Client;
            span.attributes.retain(|attribute| attribute.key.as_str() != "sdk_invocation_id");
        }
        let mut ended = self.ended();
        if ended.len() < SPANS_MAX {
            ended.push(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Which share of the traces that begin here is recorded, chosen by their ids, so that all who choose like this choose the same.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share(f64);

impl Share {
    pub(crate) const ALL: Self = Self(1.0);

    pub(crate) fn new(share: f64) -> Self {
        Self(if share.is_nan() { 1.0 } else { share.clamp(0.0, 1.0) })
    }

    pub(crate) fn has(self, trace_id: TraceId) -> bool {
        let chosen =
            Sampler::TraceIdRatioBased(self.0).should_sample(None, trace_id, "", &SpanKind::Server, &[], &[]).decision;
        chosen == SamplingDecision::RecordAndSample
    }
}

impl ShouldSample for Share {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        _: &str,
        _: &SpanKind,
        _: &[KeyValue],
        _: &[Link],
    ) -> SamplingResult {
        let parent = parent.map(|context| context.span().span_context().clone()).filter(SpanContext::is_valid);
        let is_recorded = parent.map_or_else(|| self.has(trace_id), |parent| parent.is_sampled());
        SamplingResult {
            decision: if is_recorded { SamplingDecision::RecordAndSample } else { SamplingDecision::RecordOnly },
            attributes: Vec::new(),
            trace_state: TraceState::NONE,
        }
    }
}
