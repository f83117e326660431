//! How the events of every aggregate are stored and read back: a type, the schema version, and the fields as JSON.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// An event whose type this version does not know, or whose data it cannot read.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableEvent {
    #[error("unknown event type {0:?}")]
    UnknownType(String),
    #[error("event of type {event_type} was written by a newer version, with schema {schema}")]
    NewerSchema { event_type: String, schema: u32 },
    #[error("event of type {event_type} and schema {schema} has unreadable data")]
    BadData {
        event_type: String,
        schema: u32,
        #[source]
        source: serde_json::Error,
    },
}

/// The fields of an event that is tagged with `type` and `data`, without its type.
pub(crate) fn data(event: &impl Serialize) -> Result<Value, serde_json::Error> {
    let mut tagged = serde_json::to_value(event)?;
    Ok(tagged.get_mut("data").map(Value::take).unwrap_or_default())
}

/// Reads an event of one of these types back, with the newest schema that is known.
pub(crate) fn read<E: DeserializeOwned>(
    types: &[&str],
    newest: u32,
    event_type: &str,
    schema: u32,
    data: &Value,
) -> Result<E, UnreadableEvent> {
    if !types.contains(&event_type) {
        return Err(UnreadableEvent::UnknownType(event_type.to_owned()));
    }
    if schema > newest {
        return Err(UnreadableEvent::NewerSchema { event_type: event_type.to_owned(), schema });
    }
    serde_json::from_value(json!({"type": event_type, "data": data})).map_err(|source| UnreadableEvent::BadData {
        event_type: event_type.to_owned(),
        schema,
        source,
    })
}
