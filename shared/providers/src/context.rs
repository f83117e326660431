//! What every call to a provider takes along from the request or the step that it is made for.

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

/// Has all calls that this future makes take the context along.
pub async fn within<F: Future>(context: Context, work: F) -> F::Output {
    CONTEXT.scope(context, work).await
}

pub(crate) fn current() -> Context {
    CONTEXT.try_with(Clone::clone).unwrap_or_default()
}
