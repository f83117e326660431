//! `POST /api/v1/dead-letters/discard`: supervisors have what a consumer or a queue could not handle never be handled.
//!
//! 200 with what became of it and what that means, also for a dry run; 400 for invalid input, 403 for anybody else. With `last_sequence`, a
//! stream of which more waits by now is not discarded, and named as failed.

use adapters::{
    app_config, aws,
    dynamodb::DynamoDeadLetters,
    http::{
        self, ApiRequest, FieldErrors, Problem,
        dead_letters::{Consumers, NotSettledBody, consumer, optional_error_type, optional_id, wanted},
    },
    lambda,
    limits::Limiter,
    sqs::SqsDeadLetters,
};
use application::{
    dead_letters::{Pace, Settle, Settled, discard_messages, discard_streams},
    event_store::Unavailable,
    ports::{Consumer, DeadLetterQueue, DeadLetters, SettledAs, Settlement},
};
use deserr::Deserr;
use domain::text::{Invalid, Text};
use lambda_http::{Body, Response};
use serde::Serialize;
use tracing::info;

/// How many are begun in a second.
const PACE: u32 = 50;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let config = aws::config();
    let client = aws_sdk_dynamodb::Client::new(&config);
    let settings = app_config::settings_without_secrets(&config)?;
    let limiter = Limiter::of_process(&client, settings, "discard-dead-letters").await?;
    let letters = DynamoDeadLetters::new(client, lambda::variable("DEAD_LETTERS_TABLE")?);
    let consumers = Consumers::new(SqsDeadLetters::of_process(&aws_sdk_sqs::Client::new(&config))?);
    http::run(&limiter, async |request| handle(&letters, &consumers, request).await).await
}

async fn handle<Q: DeadLetterQueue>(
    letters: &impl DeadLetters,
    consumers: &Consumers<Q>,
    request: ApiRequest,
) -> Result<Response<Body>, Problem> {
    let caller = request.supervisor()?;
    let DiscardDeadLettersBody { consumer: name, id, last_sequence, error_type, all, reason, dry_run, after } =
        request.json()?;
    let named = consumer(consumers, &name)?;
    if last_sequence == Some(0) {
        return Err(Problem::invalid_field("/last_sequence", "must be at least 1"));
    }
    let (by, reason, at) = (caller.actor(), reason.as_str().to_owned(), request.now);
    let command = Settle {
        wanted: wanted(id, error_type, all.unwrap_or_default())?,
        settlement: Settlement { settled_as: SettledAs::Discarded, by, reason, at },
        dry_run: dry_run.unwrap_or_default(),
        after,
        pace: Pace::new(PACE),
    };
    let streams = match named.stream_consumer.filter(|_| command.means_streams()) {
        Some(consumer) => discard_streams(letters, consumer, &command, last_sequence).await,
        None => Ok(Settled::default()),
    };
    let streams = streams.map_err(|error| Problem::unavailable(&error))?;
    let messages = match named.queue {
        Some(queue) if streams.next.is_none() && command.means_messages() => {
            discard_messages(queue, letters, &name, &command).await
        }
        _ => Ok(Settled::default()),
    };
    respond(&name, named.stream_consumer, &command, messages.map(|messages| streams.and(messages)))
}

fn respond(
    name: &str,
    stream_consumer: Option<Consumer>,
    command: &Settle,
    settled: Result<Settled, Unavailable>,
) -> Result<Response<Body>, Problem> {
    let settled = settled.map_err(|error| Problem::unavailable(&error))?;
    let (by, done, failed) = (&command.settlement.by, settled.done, settled.failed.len());
    info!(
        consumer = name,
        by,
        dry_run = command.dry_run,
        matching = settled.matching,
        done,
        failed,
        "dead letters discarded"
    );
    let Settled { matching, done: discarded, failed, next } = settled;
    let body = DiscardedBody {
        consumer: name,
        dry_run: command.dry_run,
        matching,
        discarded,
        failed: failed.into_iter().map(NotSettledBody::from).collect(),
        more: next.is_some(),
        next,
        consequence: consequence(stream_consumer),
    };
    http::json(200, &body)
}

#[derive(Serialize)]
struct DiscardedBody<'a> {
    consumer: &'a str,
    dry_run: bool,
    matching: usize,
    discarded: usize,
    failed: Vec<NotSettledBody>,
    more: bool,
    next: Option<String>,
    consequence: &'static str,
}

/// What it means that they are never handled.
fn consequence(stream_consumer: Option<Consumer>) -> &'static str {
    match stream_consumer {
        Some(Consumer::ProjectOrders) => {
            "reads show these as they were before; once all of their events can be read, the next one or a rebuild brings them up, \
             and until then the next one waits here again, and a rebuild leaves them out"
        }
        Some(Consumer::PublishEvents) => "consumers of the bus never hear of these events, unless they are republished",
        None => {
            "the work that these messages ask for is not begun; reconcile looks after the orders that are left open by that"
        }
    }
}

#[derive(Deserr)]
#[deserr(error = FieldErrors, deny_unknown_fields)]
struct DiscardDeadLettersBody {
    consumer: String,
    #[deserr(default, try_from(Option<String>) = optional_id -> Invalid)]
    id: Option<String>,
    /// That of the dead letter when it was looked at.
    #[deserr(default)]
    last_sequence: Option<u64>,
    #[deserr(default, try_from(Option<String>) = optional_error_type -> Invalid)]
    error_type: Option<String>,
    #[deserr(default)]
    all: Option<bool>,
    #[deserr(try_from(&String) = Text::parse -> Invalid)]
    reason: Text<500>,
    #[deserr(default)]
    dry_run: Option<bool>,
    #[deserr(default, try_from(Option<String>) = optional_id -> Invalid)]
    after: Option<String>,
}

#[cfg(test)]
mod tests {
    use application::{
        event_store::StreamId,
        memory::{MemoryDeadLetterQueue, MemoryDeadLetters},
        ports::{DeadMessage, Failure, MessageKind},
    };
    use chrono::Utc;
    use serde_json::{Value, json};

    use super::*;

    const SAMPLE: &str = include_str!("../../../events/discard-dead-letters.json");

    fn failure() -> Failure {
        Failure { error_type: "Unreadable".to_owned(), error: "it was so".to_owned() }
    }

    /// The sample's order waits, and a batch that was given up lies in the queue.
    async fn fixture() -> (MemoryDeadLetters, Consumers<MemoryDeadLetterQueue>) {
        let (letters, queue) = (MemoryDeadLetters::default(), MemoryDeadLetterQueue::default());
        let stream = StreamId::new("order#0197a3c2-7b1e-5c44-9d55-3f1f5c0c9a10".to_owned());
        letters.park(Consumer::ProjectOrders, &stream, (5, 7), &failure(), Utc::now()).await.unwrap();
        let message = DeadMessage {
            id: "m-1".to_owned(),
            kind: MessageKind::Batch,
            failure: failure(),
            since: Utc::now(),
            tries: 3,
        };
        queue.put(message, "{}");
        (letters, Consumers::new(vec![("project-orders".to_owned(), queue)]))
    }

    async fn send(
        (letters, consumers): &(MemoryDeadLetters, Consumers<MemoryDeadLetterQueue>),
        event: &str,
    ) -> Result<Value, Problem> {
        let answer = handle(letters, consumers, ApiRequest::from_event(event, Utc::now()).unwrap()).await?;
        assert_eq!(answer.status(), 200);
        Ok(serde_json::from_slice(answer.body()).unwrap())
    }

    #[tokio::test]
    async fn the_sample_discards_one_order_and_says_what_that_means() {
        let fixture = fixture().await;
        let dry = SAMPLE.replace(r#"\"reason\""#, r#"\"dry_run\": true, \"reason\""#);
        assert_eq!(send(&fixture, &dry).await.unwrap()["matching"], 1);
        assert_eq!(fixture.0.backlog(Consumer::ProjectOrders).await.unwrap().number, 1);
        let answer = send(&fixture, SAMPLE).await.unwrap();
        assert_eq!((&answer["discarded"], &answer["failed"]), (&json!(1), &json!([])));
        assert!(answer["consequence"].as_str().unwrap().contains("the next one waits here again"), "{answer}");
        assert_eq!(fixture.0.backlog(Consumer::ProjectOrders).await.unwrap().number, 0);
        let settled = fixture.0.settled("project-orders", None, 10).await.unwrap();
        assert_eq!((settled[0].2.settled_as, settled[0].2.reason.as_str()), (SettledAs::Discarded, "a test order"));
        assert_eq!(fixture.1.find("project-orders").unwrap().queue.unwrap().count(), 1);
    }

    #[tokio::test]
    async fn all_means_messages_as_well() {
        let fixture = fixture().await;
        let mut event: Value = serde_json::from_str(SAMPLE).unwrap();
        event["body"] = json!({"consumer": "project-orders", "all": true, "reason": "rebuilt"}).to_string().into();
        assert_eq!(send(&fixture, &event.to_string()).await.unwrap()["discarded"], 2);
        assert_eq!(fixture.1.find("project-orders").unwrap().queue.unwrap().count(), 0);
    }

    /// The sample with this in its body as well.
    fn with(more: &Value) -> String {
        let mut event: Value = serde_json::from_str(SAMPLE).unwrap();
        let mut body: Value = serde_json::from_str(event["body"].as_str().unwrap()).unwrap();
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        event["body"] = body.to_string().into();
        event.to_string()
    }

    #[tokio::test]
    async fn what_has_lined_up_since_somebody_looked_is_not_discarded() {
        let fixture = fixture().await;
        let stream = StreamId::new("order#0197a3c2-7b1e-5c44-9d55-3f1f5c0c9a10".to_owned());
        fixture.0.line_up(Consumer::ProjectOrders, &[(stream.clone(), (8, 8))]).await.unwrap();
        let answer = send(&fixture, &with(&json!({"last_sequence": 7}))).await.unwrap();
        let failed = json!([{
            "id": "order/0197a3c2-7b1e-5c44-9d55-3f1f5c0c9a10",
            "error_type": "Contended",
            "error": "more waits by now; look at it again",
        }]);
        assert_eq!((&answer["matching"], &answer["discarded"], &answer["failed"]), (&json!(1), &json!(0), &failed));
        let parked = fixture.0.parked(Consumer::ProjectOrders, &stream).await.unwrap().unwrap();
        assert_eq!((parked.first_version, parked.last_version), (5, 8));
        assert!(fixture.0.settled("project-orders", None, 10).await.unwrap().is_empty());

        let answer = send(&fixture, &with(&json!({"last_sequence": 8}))).await.unwrap();
        assert_eq!((&answer["discarded"], &answer["failed"]), (&json!(1), &json!([])));
        assert_eq!(fixture.0.parked(Consumer::ProjectOrders, &stream).await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_was_seen_is_the_number_of_an_event() {
        let fixture = fixture().await;
        let problem = send(&fixture, &with(&json!({"last_sequence": 0}))).await.unwrap_err();
        assert_eq!((problem.status, &problem.body("", "")["errors"][0]["pointer"]), (400, &json!("/last_sequence")));
        // A message is as it was seen: nothing lines up behind it.
        let answer = send(&fixture, &with(&json!({"last_sequence": 7, "id": "message/m-1"}))).await.unwrap();
        assert_eq!(answer["discarded"], 1);
        let answer = send(&fixture, &with(&json!({"last_sequence": 6, "id": null, "error_type": "Unreadable"}))).await;
        assert_eq!(answer.unwrap()["failed"][0]["error_type"], "Contended");
        assert_eq!(fixture.0.backlog(Consumer::ProjectOrders).await.unwrap().number, 1);
    }

    #[tokio::test]
    async fn only_a_supervisor_may() {
        let fixture = fixture().await;
        for groups in ["[]", "[staff]"] {
            let event = SAMPLE.replace("[staff supervisor]", groups);
            assert_eq!(send(&fixture, &event).await.unwrap_err().status, 403, "{groups}");
        }
    }

    #[tokio::test]
    async fn hostile_events_are_answered() {
        let (letters, consumers) = fixture().await;
        http::hostile::is_answered(SAMPLE, |request| handle(&letters, &consumers, request), || 0).await;
    }
}
