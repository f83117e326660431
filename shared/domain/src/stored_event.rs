//! How the events of every aggregate are stored and read back: a type, the type's schema version, and the fields as JSON.

use serde::{Serialize, de::DeserializeOwned, ser::Error as _};
use serde_json::{Map, Value, error::Category};

/// An event whose type this version does not know, or whose data it cannot read.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableEvent {
    #[error("unknown event type {0:?}")]
    UnknownType(String),
    #[error("event of type {event_type} was written by a newer version, with schema {schema}")]
    NewerSchema { event_type: String, schema: u32 },
    /// Without the JSON error's own words: they may quote the data, and this is logged.
    #[error("event of type {event_type} and schema {schema} has unreadable data ({category:?} error)")]
    BadData { event_type: String, schema: u32, category: Category },
}

/// Lifts the data of one type of event from one schema version to the next. It knows JSON only, because the types of the
/// code are those of the newest version; and what it does not understand it leaves, for the types to refuse.
pub(crate) type Upcaster = fn(Value) -> Value;

/// The schema version that a type of event has by now. Its upcasters say so: one lies between every two versions.
pub(crate) fn newest_schema(upcasters: &[Upcaster]) -> u32 {
    u32::try_from(upcasters.len()).map_or(u32::MAX, |lifts| lifts.saturating_add(1))
}

/// An upcaster's work where a version has added a field: events that were stored before it have this value.
pub(crate) fn with_field(mut data: Value, name: &str, value: impl Into<Value>) -> Value {
    if let Some(fields) = data.as_object_mut() {
        fields.entry(name).or_insert_with(|| value.into());
    }
    data
}

/// What this version reads and does not write yet: types of events, each from a schema version on. The last release reads none of
/// them, and it still runs while a deployment is under way: it would stop at what has them. `tests/release_suite.py` says what
/// has to stand here, and what no longer has to.
pub(crate) const HELD_BACK: &[(&str, u32)] = &[];

/// What is stored of an event: the schema version that it is written with, and its fields. That is the newest version that is not
/// held back; fields that only later ones have are left out, which is refused where they say something.
pub(crate) fn written(
    event_type: &str,
    upcasters: &[Upcaster],
    held_back: &[(&str, u32)],
    data: Value,
) -> Result<(u32, Value), serde_json::Error> {
    let newest = newest_schema(upcasters);
    let held = held_back.iter().find(|(held, _)| *held == event_type);
    let schema = held.map_or(newest, |(_, first)| newest.min(first.saturating_sub(1)));
    let Some(kept) = schema.checked_sub(1) else {
        return Err(serde_json::Error::custom(format!("events of type {event_type} are not written yet")));
    };
    let later = upcasters.iter().copied().skip(usize::try_from(kept).unwrap_or(usize::MAX));
    Ok((schema, later.rev().try_fold(data, without_what_it_adds)?))
}

/// The data of the version before: an upcaster tells what it adds by what it makes of nothing.
fn without_what_it_adds(mut data: Value, upcast: Upcaster) -> Result<Value, serde_json::Error> {
    let added = upcast(Value::Object(Map::new()));
    for (name, of_old_events) in added.as_object().into_iter().flatten() {
        let told = data.as_object_mut().and_then(|fields| fields.remove(name));
        if told.as_ref() != Some(of_old_events) {
            return Err(serde_json::Error::custom(format!("nothing is written yet of what {name} says")));
        }
    }
    Ok(data)
}

/// The fields of an event that is tagged with `type` and `data`, without its type.
pub(crate) fn data(event: &impl Serialize) -> Result<Value, serde_json::Error> {
    let mut tagged = serde_json::to_value(event)?;
    Ok(tagged.get_mut("data").map(Value::take).unwrap_or_default())
}

/// Reads an event of one of these types back, lifted from the schema that it was stored with to the newest.
pub(crate) fn read<E: DeserializeOwned>(
    types: &[&str],
    upcasters: &[Upcaster],
    event_type: &str,
    schema: u32,
    data: &Value,
) -> Result<E, UnreadableEvent> {
    if !types.contains(&event_type) {
        return Err(UnreadableEvent::UnknownType(event_type.to_owned()));
    }
    let lifted_before = usize::try_from(schema.saturating_sub(1)).unwrap_or(usize::MAX);
    let Some(upcasters) = upcasters.get(lifted_before..) else {
        return Err(UnreadableEvent::NewerSchema { event_type: event_type.to_owned(), schema });
    };
    let data = upcasters.iter().fold(data.clone(), |data, upcast| upcast(data));
    let tagged = Map::from_iter([("type".to_owned(), event_type.into()), ("data".to_owned(), data)]);
    serde_json::from_value(tagged.into()).map_err(|error| UnreadableEvent::BadData {
        event_type: event_type.to_owned(),
        schema,
        category: error.classify(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const UPCASTERS: [Upcaster; 2] =
        [|data| with_field(data, "note", Value::Null), |data| with_field(data, "found", false)];

    #[test]
    fn what_is_held_back_is_written_as_the_version_before_would_write_it() {
        let data = json!({"reason": "r", "note": null, "found": false});
        let write = |held_back: &[(&str, u32)], data: &Value| written("Told", &UPCASTERS, held_back, data.clone()).ok();
        assert_eq!(write(&[], &data), Some((3, data.clone())));
        assert_eq!(write(&[("Other", 1)], &data), Some((3, data.clone())));
        assert_eq!(write(&[("Told", 3)], &data), Some((2, json!({"reason": "r", "note": null}))));
        assert_eq!(write(&[("Told", 2)], &data), Some((1, json!({"reason": "r"}))));
        assert_eq!(write(&[("Told", 1)], &data), None, "a type that nobody else knows");
        let more = json!({"reason": "r", "note": null, "found": true});
        assert_eq!(write(&[("Told", 3)], &more), None, "what the version before cannot say");
        assert_eq!(write(&[], &more), Some((3, more.clone())));
    }

    #[test]
    fn what_is_written_in_an_earlier_version_is_read_as_what_was_to_be_said() {
        #[derive(Debug, PartialEq, serde::Deserialize)]
        #[serde(tag = "type", content = "data")]
        enum Event {
            Told { reason: String, note: Option<String>, found: bool },
        }
        let data = json!({"reason": "r", "note": null, "found": false});
        for (held_back, in_version) in [(2, 1), (3, 2), (4, 3)] {
            let (schema, stored) = written("Told", &UPCASTERS, &[("Told", held_back)], data.clone()).unwrap();
            assert_eq!(schema, in_version);
            let read: Event = read(&["Told"], &UPCASTERS, "Told", schema, &stored).unwrap();
            assert_eq!(read, Event::Told { reason: "r".to_owned(), note: None, found: false });
        }
    }
}

#[cfg(test)]
pub(crate) mod golden {
    use std::{collections::BTreeMap, fmt::Debug};

    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Stored {
        #[serde(rename = "type")]
        event_type: String,
        schema: u32,
        data: Value,
    }

    /// Holds the storage format still: `lines` has one event of each type as each schema version has stored it, and all
    /// lines of a type mean the one event of that type in `known`.
    pub(crate) fn assert_readable<E: Serialize + PartialEq + Debug>(
        lines: &str,
        known: &[E],
        type_and_schema: impl Fn(&E) -> (&'static str, u32),
        read: impl Fn(&str, u32, &Value) -> Result<E, UnreadableEvent>,
    ) {
        let mut types: BTreeMap<String, Vec<(&str, Stored)>> = BTreeMap::new();
        for line in lines.lines() {
            let stored: Stored = serde_json::from_str(line).unwrap();
            types.entry(stored.event_type.clone()).or_default().push((line, stored));
        }
        for event in known {
            let (event_type, newest) = type_and_schema(event);
            let stored = types.remove(event_type).unwrap_or_default();
            let versions: Vec<u32> = stored.iter().map(|(_, stored)| stored.schema).collect();
            assert_eq!(versions, (1..=newest).collect::<Vec<_>>(), "the versions of {event_type} that have a line");
            for (line, Stored { schema, data, .. }) in &stored {
                let read = read(event_type, *schema, data).unwrap();
                assert_eq!(read, *event, "this line no longer means what it did: {line}");
            }
            for pair in stored.windows(2) {
                assert_ne!(pair[0].1.data, pair[1].1.data, "a version of {event_type} that changes nothing");
            }
            let written = written(event, newest);
            assert_eq!(stored.last().map(|(line, _)| *line), Some(written.as_str()), "what is written has changed");
        }
        assert!(types.is_empty(), "these types have lines, but no event: {:?}", types.keys());
    }

    fn written(event: &impl Serialize, schema: u32) -> String {
        let written = serde_json::to_string(event).unwrap();
        written.replacen(",\"data\":", &format!(",\"schema\":{schema},\"data\":"), 1)
    }

    /// Holds that reading applies no rule: `lines` has events with values that no command may have now, and that a command may
    /// have had once. Each is read, and those of the newest schema versions would be written as they were.
    pub(crate) fn assert_kept<E: Serialize>(
        lines: &str,
        type_and_schema: impl Fn(&E) -> (&'static str, u32),
        read: impl Fn(&str, u32, &Value) -> Result<E, UnreadableEvent>,
    ) {
        for line in lines.lines() {
            let Stored { event_type, schema, data } = serde_json::from_str(line).unwrap();
            let event = read(&event_type, schema, &data).unwrap_or_else(|error| panic!("{error}: {line}"));
            let newest = type_and_schema(&event).1;
            assert!(
                schema < newest || written(&event, newest) == line,
                "this line no longer means what it did: {line}"
            );
        }
    }

    /// Holds what a snapshot's schema number stands for: what these states are written as, and read back from.
    pub(crate) fn assert_snapshots<S>(lines: &str, schema: u32, states: &[S])
    where
        S: Serialize + DeserializeOwned + PartialEq + Debug,
    {
        let written = states.iter().map(|state| {
            let state = serde_json::to_string(state).unwrap();
            format!("{{\"schema\":{schema},\"state\":{state}}}")
        });
        let golden: Vec<&str> = lines.lines().collect();
        assert_eq!(written.collect::<Vec<_>>(), golden, "raise SNAPSHOT_SCHEMA, then write the golden file anew");
        for (line, state) in golden.iter().zip(states) {
            let stored: Value = serde_json::from_str(line).unwrap();
            assert_eq!(&serde_json::from_value::<S>(stored["state"].clone()).unwrap(), state);
        }
    }
}
