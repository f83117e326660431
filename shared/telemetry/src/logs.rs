//! Lines of JSON on standard output: a short one for what went well, and one that tells everything for what did not.

use std::{error::Error, fmt::Debug};

use chrono::{SecondsFormat, Utc};
use serde::Serializer;
use serde_json::Value;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    layer::{Context, Layer},
    registry::LookupSpan,
};

/// An error with everything that caused it, on one line. An SDK error's own text is only "service error".
pub fn chain(error: &dyn Error) -> String {
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

/// What every line has of the invocation around it, where it is known: who says so, and about whose request. A line that
/// warns has all the rest as well, and its place in the source.
const ALWAYS: [&str; 5] = ["function_name", "correlation_id", "trace_id", "order_id", "cold_start"];

/// Writes each event as one line, with the fields of the spans around it at the top level.
///
/// Lambda reads `timestamp` and `level` by these names, and Powertools for AWS has the others.
pub(crate) struct Lines<W>(pub(crate) W);

impl<S, W> Layer<S> for Lines<W>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    W: Fn(&[u8]) + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        let warns = *metadata.level() <= Level::WARN;
        let mut fields = Fields::default();
        fields.set("timestamp", Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true));
        fields.set("level", metadata.level().as_str());
        event.record(&mut fields);
        for span in context.event_scope(event).into_iter().flatten() {
            for (name, value) in span.extensions().get::<Fields>().iter().flat_map(|of_span| &of_span.0) {
                if (warns || ALWAYS.contains(name)) && !fields.has(name) {
                    fields.set(name, value.clone());
                }
            }
        }
        if warns {
            fields.set("code.file.path", metadata.file());
            fields.set("code.line.number", metadata.line());
        }
        let mut line = Vec::with_capacity(512);
        // Texts, numbers and truth values can always be written into memory.
        if serde_json::Serializer::new(&mut line).collect_map(fields.0).is_ok() {
            line.push(b'\n');
            (self.0)(&line);
        }
    }
}

/// In the order in which they were set.
#[derive(Default)]
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(there, _)| *there == name)
    }

    fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        self.0.retain(|(there, _)| *there != name);
        self.0.push((name, value.into()));
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.set(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field.name(), value);
    }
}

/// What some work logs, line by line; for tests.
#[cfg(any(test, feature = "testing"))]
pub async fn logged<T>(work: impl Future<Output = T>) -> (T, Vec<String>) {
    use std::sync::{Arc, Mutex, PoisonError};

    use tracing_subscriber::layer::SubscriberExt;

    let lines = Arc::<Mutex<Vec<String>>>::default();
    let written = lines.clone();
    let write = move |line: &[u8]| {
        written.lock().unwrap_or_else(PoisonError::into_inner).push(String::from_utf8_lossy(line).into_owned());
    };
    let subscriber = tracing_subscriber::registry().with(crate::lines("info", write));
    let answer = crate::heard_by(subscriber, work).await;
    let lines = lines.lock().unwrap_or_else(PoisonError::into_inner).clone();
    (answer, lines)
}

#[cfg(test)]
mod tests {
    use tracing::{Instrument, info, info_span, warn};

    use super::*;

    async fn lines(say: impl FnOnce()) -> Vec<Value> {
        let ((), lines) = logged(async {
            let span = info_span!("s", function_name = "f", service = "orders", correlation_id = tracing::field::Empty);
            span.record("correlation_id", "c-1");
            async { say() }.instrument(span).await;
        })
        .await;
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[derive(Debug, thiserror::Error)]
    enum Failed {
        #[error("the table is unavailable")]
        Unavailable(#[source] std::io::Error),
        #[error(transparent)]
        Same(#[from] Box<Self>),
    }

    #[test]
    fn an_error_is_logged_with_its_causes_each_said_once() {
        let error = Failed::Unavailable(std::io::Error::other("connection reset"));
        assert_eq!(chain(&error), "the table is unavailable: connection reset");
        assert_eq!(chain(&Failed::Same(Box::new(error))), "the table is unavailable: connection reset");
    }

    #[tokio::test]
    async fn what_went_well_is_said_with_what_finds_it_again_and_no_more() {
        let said = lines(|| info!(version = 3, done = true, id = %7, "all \"well\"\n")).await;
        let [line] = said.as_slice() else { panic!("{said:?}") };
        let mut line = line.clone();
        let timestamp = line.as_object_mut().unwrap().remove("timestamp").unwrap();
        assert!(timestamp.as_str().unwrap().ends_with('Z'));
        let wanted = serde_json::json!({"level": "INFO", "message": "all \"well\"\n", "version": 3, "done": true, "id": "7",
            "function_name": "f", "correlation_id": "c-1"});
        assert_eq!(line, wanted);
    }

    #[tokio::test]
    async fn a_line_is_heard_though_another_thread_said_it_first_to_nobody() {
        let say = || info!("said by two");
        let said = lines(|| {
            std::thread::spawn(say).join().unwrap();
            say();
        });
        assert_eq!(said.await.len(), 1);
    }

    #[tokio::test]
    async fn what_did_not_go_well_is_told_with_everything() {
        let said = lines(|| warn!(correlation_id = "c-2", "not so well")).await;
        assert_eq!((&said[0]["service"], &said[0]["correlation_id"]), (&"orders".into(), &"c-2".into()));
        assert_eq!(said[0]["code.file.path"], file!());
        assert!(said[0]["code.line.number"].is_u64());
    }
}
