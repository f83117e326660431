//! What every call to a provider takes along from the request or the step that it is made for.

use application::ports::FulfilmentInput;

tokio::task_local! {
    static CONTEXT: Context;
}

/// Whose doing the calls are.
#[derive(Debug, Clone, Default)]
pub struct Context {
    pub correlation_id: Option<String>,
    /// W3C Trace Context.
    pub traceparent: Option<String>,
}

impl From<&FulfilmentInput> for Context {
    fn from(input: &FulfilmentInput) -> Self {
        Self::new(&input.correlation_id, input.traceparent.as_deref())
    }
}

impl Context {
    pub fn new(correlation_id: &str, traceparent: Option<&str>) -> Self {
        Self { correlation_id: Some(correlation_id.to_owned()), traceparent: traceparent.map(str::to_owned) }
    }
}

/// Has all calls that this future makes take the context along.
pub fn within<F: Future>(context: impl Into<Context>, work: F) -> impl Future<Output = F::Output> {
    // In a box, because the SDK's futures are large.
    CONTEXT.scope(context.into(), Box::pin(work))
}

pub(crate) fn current() -> Context {
    CONTEXT.try_with(Clone::clone).unwrap_or_default()
}
