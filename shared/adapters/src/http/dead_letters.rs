//! Dead letters, as clients name them and see what became of them.

use application::{
    dead_letters::{NotSettled, Wanted},
    event_store::StreamId,
    ports::{Consumer, DeadLetter, DeadLetterQueue, DeadMessage, Failure, MessageKind, ParkedStream, Settlement},
};
use chrono::{DateTime, Utc};
use domain::text::Invalid;
use serde::Serialize;

use super::Problem;

/// Whose dead letters there are: those of consumers of the event table's stream, and those of queues, which are called after the
/// function whose work lies there.
pub struct Consumers<Q> {
    queues: Vec<(String, Q)>,
}

/// One of them. A consumer of the stream has both: what it has parked, and the batches that its mapping has given up.
pub struct Named<'q, Q> {
    pub name: String,
    pub stream_consumer: Option<Consumer>,
    pub queue: Option<&'q Q>,
}

impl<Q: DeadLetterQueue> Consumers<Q> {
    pub fn new(queues: Vec<(String, Q)>) -> Self {
        Self { queues }
    }

    pub fn find(&self, name: &str) -> Result<Named<'_, Q>, Invalid> {
        let stream_consumer = Consumer::parse(name);
        let queue = self.queues.iter().find(|(queue, _)| queue == name).map(|(_, queue)| queue);
        if stream_consumer.is_none() && queue.is_none() {
            let mut known: Vec<&str> = Consumer::ALL.map(Consumer::name).to_vec();
            known.extend(self.queues.iter().map(|(name, _)| name.as_str()));
            known.sort_unstable();
            known.dedup();
            return Err(Invalid::new(format!("must be one of {}", known.join(", "))));
        }
        Ok(Named { name: name.to_owned(), stream_consumer, queue })
    }
}

/// What is asked for, which has to be said: a call that names nothing must not mean everything.
pub fn wanted(id: Option<String>, error_type: Option<String>, all: bool) -> Result<Wanted, Problem> {
    if id.is_none() && error_type.is_none() && !all {
        return Err(Problem::invalid_field("", "must have id, error_type or all"));
    }
    Ok(Wanted { id, error_type })
}

/// A consumer's name in a body, if there is such a consumer.
pub fn consumer<'q, Q: DeadLetterQueue>(consumers: &'q Consumers<Q>, name: &str) -> Result<Named<'q, Q>, Problem> {
    consumers.find(name).map_err(|invalid| Problem::invalid_field("/consumer", invalid.to_string()))
}

/// The id of a dead letter in a body, or the place of one, where another call has ended.
pub fn optional_id(text: Option<String>) -> Result<Option<String>, Invalid> {
    let is_id = |text: &String| (1..=300).contains(&text.len()) && !text.chars().any(char::is_control);
    match text {
        Some(text) if !is_id(&text) => Err(Invalid::new("must be as it came")),
        other => Ok(other),
    }
}

/// The name of an error, by which dead letters are chosen.
pub fn error_type(name: &str) -> Result<String, Invalid> {
    let is_name =
        (1..=100).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'));
    if is_name { Ok(name.to_owned()) } else { Err(Invalid::new("must be 1 to 100 letters, digits and . -")) }
}

/// The same in a body.
pub fn optional_error_type(name: Option<String>) -> Result<Option<String>, Invalid> {
    name.map(|name| error_type(&name)).transpose()
}

/// A dead letter with which it was not done, and why.
#[derive(Serialize)]
pub struct NotSettledBody {
    id: String,
    error_type: String,
    error: String,
}

impl From<NotSettled> for NotSettledBody {
    fn from(NotSettled { id, failure: Failure { error_type, error } }: NotSettled) -> Self {
        Self { id, error_type, error }
    }
}

/// A dead letter in a list.
#[derive(Serialize)]
pub struct LetterBody {
    id: String,
    kind: &'static str,
    aggregate_type: Option<String>,
    aggregate_id: Option<String>,
    first_sequence: Option<u64>,
    last_sequence: Option<u64>,
    error_type: String,
    error: String,
    since: DateTime<Utc>,
    tries: u32,
    last_tried_at: Option<DateTime<Utc>>,
    settlement: Option<SettlementBody>,
}

/// What became of it.
#[derive(Serialize)]
struct SettlementBody {
    outcome: &'static str,
    by: String,
    reason: String,
    at: DateTime<Utc>,
}

impl LetterBody {
    pub fn new(letter: DeadLetter, settlement: Option<Settlement>) -> Self {
        let id = letter.id();
        let settlement = settlement.map(|Settlement { settled_as, by, reason, at }| SettlementBody {
            outcome: settled_as.name(),
            by,
            reason,
            at,
        });
        match letter {
            DeadLetter::Parked(ParkedStream {
                stream,
                first_version,
                last_version,
                failure: Failure { error_type, error },
                since,
                tries,
                last_tried_at,
            }) => {
                let (aggregate_type, aggregate_id) = aggregate(&stream);
                Self {
                    id,
                    kind: "parked",
                    aggregate_type,
                    aggregate_id,
                    first_sequence: Some(first_version),
                    last_sequence: Some(last_version),
                    error_type,
                    error,
                    since,
                    tries,
                    last_tried_at: Some(last_tried_at),
                    settlement,
                }
            }
            DeadLetter::Message(DeadMessage { kind, failure: Failure { error_type, error }, since, tries, .. }) => {
                let about = match &kind {
                    MessageKind::Event(event) => event.as_ref(),
                    MessageKind::Batch => None,
                };
                let (aggregate_type, aggregate_id) = about.map(|(stream, _)| aggregate(stream)).unwrap_or_default();
                let sequence = about.map(|(_, version)| *version);
                Self {
                    id,
                    kind: if kind == MessageKind::Batch { "batch" } else { "message" },
                    aggregate_type,
                    aggregate_id,
                    first_sequence: sequence,
                    last_sequence: sequence,
                    error_type,
                    error,
                    since,
                    tries,
                    last_tried_at: None,
                    settlement,
                }
            }
        }
    }
}

fn aggregate(stream: &StreamId) -> (Option<String>, Option<String>) {
    stream.as_str().split_once('#').map(|(kind, id)| (kind.to_owned(), id.to_owned())).unzip()
}
