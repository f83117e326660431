//! An export without what it says about people: each of their texts is replaced by a made-up one, the same by the same wherever it
//! stands, so that a replay of it is as good as one of the export itself.

use std::io::{BufRead, Write};

use application::event_store::StreamId;
use domain::{customer::CustomerEvent, ids::CustomerId, order::OrderEvent};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{Failed, Row, rows, text};

/// What texts are replaced by. Each is a hash of the text under a key that is random, secret and of 122 bits, and that nobody has any
/// more once the process has ended: whoever guesses a text cannot try whether it was that.
pub(crate) struct Pseudonyms {
    key: Uuid,
}

/// How an attribute's text is replaced.
type Replace = fn(&Pseudonyms, &str) -> String;

impl Pseudonyms {
    pub(crate) fn random() -> Self {
        Self { key: Uuid::new_v4() }
    }

    /// Item by item, in whichever order they come.
    pub(crate) fn anonymise(&self, input: impl BufRead, mut output: impl Write) -> Result<(), Failed> {
        for row in rows(input) {
            let Row { stream, item, .. } = row?;
            serde_json::to_writer(&mut output, &json!({"Item": self.item(&stream, &item)}))?;
            output.write_all(b"\n")?;
        }
        Ok(output.flush()?)
    }

    /// An attribute that nobody has said to be harmless is left out.
    fn item(&self, stream: &str, item: &Map<String, Value>) -> Map<String, Value> {
        let mut replaced = Map::from_iter([("stream".to_owned(), json!({"S": self.stream(stream)}))]);
        for name in ["version", "occurred_at", "event_types"] {
            replaced.extend(item.get(name).map(|value| (name.to_owned(), value.clone())));
        }
        let texts: [(&str, Replace); 6] = [
            ("events", Self::events),
            ("actor", Self::actor),
            ("command_id", Self::id),
            // It is a hash of the request, and a short text can be guessed from its hash.
            ("fingerprint", Self::text),
            // Clients may choose it.
            ("correlation_id", Self::text),
            ("causation_id", Self::text),
        ];
        for (name, replace) in texts {
            replaced.extend(text(item, name).map(|text| (name.to_owned(), json!({"S": replace(self, text)}))));
        }
        replaced
    }

    /// An order keeps its id, which staff have to find it by.
    fn stream(&self, name: &str) -> String {
        let stream = StreamId::new(name.to_owned());
        match (stream.order_id(), stream.customer_id()) {
            (Some(_), _) => name.to_owned(),
            (None, Some(id)) => StreamId::customer(&CustomerId::stored(self.id(id.as_str()))).as_str().to_owned(),
            (None, None) => self.text(name),
        }
    }

    fn actor(&self, actor: &str) -> String {
        match actor.split_once(':') {
            Some(("service", _)) => actor.to_owned(),
            Some((role @ ("customer" | "staff" | "carrier"), id)) => format!("{role}:{}", self.id(id)),
            _ => self.text(actor),
        }
    }

    /// What cannot be read stays unreadable, and says nothing.
    fn events(&self, events: &str) -> String {
        let Ok(mut events) = serde_json::from_str::<Vec<Map<String, Value>>>(events) else {
            return "unreadable".to_owned();
        };
        for event in &mut events {
            event.retain(|name, _| matches!(name.as_str(), "type" | "schema" | "data"));
            let event_type = event.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
            if let Some(data) = event.get_mut("data") {
                self.data(&event_type, data);
            }
        }
        json!(events).to_string()
    }

    fn data(&self, event_type: &str, data: &mut Value) {
        let personal = match event_type {
            known if OrderEvent::TYPES.contains(&known) => OrderEvent::personal_fields(known),
            known if CustomerEvent::TYPES.contains(&known) => CustomerEvent::personal_fields(known),
            // Nobody knows which fields of it are about people.
            _ => return self.value(data),
        };
        let Some(fields) = data.as_object_mut() else { return self.value(data) };
        for (name, value) in fields.iter_mut().filter(|(name, _)| personal.contains(&name.as_str())) {
            match value {
                Value::String(id) if name == "customer_id" => *id = self.id(id),
                value => self.value(value),
            }
        }
    }

    fn value(&self, value: &mut Value) {
        match value {
            Value::Null => {}
            Value::Bool(said) => *said = false,
            Value::Number(number) => *number = 0.into(),
            Value::String(text) => *text = self.text(text),
            Value::Array(values) => values.iter_mut().for_each(|value| self.value(value)),
            Value::Object(fields) => fields.values_mut().for_each(|value| self.value(value)),
        }
    }

    /// Long enough that no two ids become one.
    fn id(&self, id: &str) -> String {
        self.hash(0, id).to_string()
    }

    /// As many characters, and an `@` where there was one.
    fn text(&self, text: &str) -> String {
        let blocks = (1..).map(|block| self.hash(block, text).simple().to_string());
        let mut made_up = blocks.flat_map(String::into_bytes).map(char::from);
        text.chars().filter_map(|c| if c == '@' { Some(c) } else { made_up.next() }).collect()
    }

    fn hash(&self, block: u32, text: &str) -> Uuid {
        Uuid::new_v5(&self.key, format!("{block}:{text}").as_bytes())
    }
}
