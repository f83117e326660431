//! `POST /api/v1/dead-letters/redrive`: staff have what a consumer or a queue could not handle tried again, from the event table.
//!
//! 200 with what became of it, also for a dry run; 400 for invalid input, 403 for customers.

use adapters::{
    app_config, aws,
    dynamodb::{DynamoDeadLetters, DynamoEventStore, DynamoReadModel},
    event_bridge::EventBridgeBus,
    http::{
        self, ApiRequest, FieldErrors, Problem,
        dead_letters::{Consumers, NotSettledBody, consumer, optional_error_type, optional_id, wanted},
    },
    lambda,
    limits::Limiter,
    sqs::SqsDeadLetters,
};
use application::{
    dead_letters::{Pace, Reprojection, Republication, Settle, Settled, redrive_messages, redrive_streams},
    event_store::{EventStore, Unavailable},
    ports::{Consumer, DeadLetterQueue, DeadLetters, EventBus, Index, OrderViews, ReadModel, SettledAs, Settlement},
};
use deserr::Deserr;
use domain::text::{Invalid, Text};
use lambda_http::{Body, Response};
use serde::Serialize;
use tracing::info;

/// How many are begun in a second, if nothing is said, and at most.
const PACE: u32 = 10;
const PACE_MAX: u32 = 50;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let config = aws::config();
    let client = aws_sdk_dynamodb::Client::new(&config);
    let settings = app_config::settings_without_secrets(&config)?;
    let limiter = Limiter::of_process(&client, settings, "redrive-dead-letters").await?;
    let store = DynamoEventStore::new(client.clone(), lambda::variable("EVENTS_TABLE")?);
    let bus = EventBridgeBus::new(aws_sdk_eventbridge::Client::new(&config), lambda::variable("EVENT_BUS")?);
    let letters = DynamoDeadLetters::new(client.clone(), lambda::variable("DEAD_LETTERS_TABLE")?);
    let model = DynamoReadModel::new(client, lambda::variable("ORDERS_TABLE")?, lambda::variable("INDEX_TABLE")?);
    let consumers = Consumers::new(SqsDeadLetters::of_process(&aws_sdk_sqs::Client::new(&config))?);
    http::run(&limiter, async |request| {
        let generations = model.written().await.map_err(|error| Problem::unavailable(&error))?;
        Box::pin(handle(&Shop { store: &store, bus: &bus, generations: &generations }, &letters, &consumers, request))
            .await
    })
    .await
}

/// What a stream is handled with.
struct Shop<'a, S, B, V, I> {
    store: &'a S,
    bus: &'a B,
    generations: &'a [ReadModel<V, I>],
}

async fn handle<Q: DeadLetterQueue>(
    shop: &Shop<'_, impl EventStore, impl EventBus, impl OrderViews, impl Index>,
    letters: &impl DeadLetters,
    consumers: &Consumers<Q>,
    request: ApiRequest,
) -> Result<Response<Body>, Problem> {
    let caller = request.staff()?;
    let RedriveDeadLettersBody { consumer: name, id, error_type, all, reason, dry_run, after, pace } =
        request.json()?;
    let named = consumer(consumers, &name)?;
    let pace = pace.unwrap_or(PACE);
    if !(1..=PACE_MAX).contains(&pace) {
        return Err(Problem::invalid_field("/pace", format!("must be from 1 to {PACE_MAX}")));
    }
    let (by, reason, at) = (caller.actor(), reason.as_str().to_owned(), request.now);
    let command = Settle {
        wanted: wanted(id, error_type, all.unwrap_or_default())?,
        settlement: Settlement { settled_as: SettledAs::Redriven, by, reason, at },
        dry_run: dry_run.unwrap_or_default(),
        after,
        pace: Pace::new(pace),
    };
    let Shop { store, bus, generations } = *shop;
    let streams = match named.stream_consumer.filter(|_| command.means_streams()) {
        Some(Consumer::ProjectOrders) => {
            redrive_streams(&Reprojection { store, generations }, letters, &command, at).await
        }
        Some(Consumer::PublishEvents) => redrive_streams(&Republication { store, bus }, letters, &command, at).await,
        None => Ok(Settled::default()),
    };
    let streams = streams.map_err(|error| Problem::unavailable(&error))?;
    let messages = match named.queue {
        Some(queue) if streams.next.is_none() && command.means_messages() => {
            redrive_messages(queue, letters, &name, &command).await
        }
        _ => Ok(Settled::default()),
    };
    respond(&name, &command, messages.map(|messages| streams.and(messages)))
}

fn respond(name: &str, command: &Settle, settled: Result<Settled, Unavailable>) -> Result<Response<Body>, Problem> {
    let settled = settled.map_err(|error| Problem::unavailable(&error))?;
    let (by, done, failed) = (&command.settlement.by, settled.done, settled.failed.len());
    info!(
        consumer = name,
        by,
        dry_run = command.dry_run,
        matching = settled.matching,
        done,
        failed,
        "dead letters redriven"
    );
    let Settled { matching, done: redriven, failed, next } = settled;
    let failed = failed.into_iter().map(NotSettledBody::from).collect();
    http::json(
        200,
        &RedrivenBody {
            consumer: name,
            dry_run: command.dry_run,
            matching,
            redriven,
            failed,
            more: next.is_some(),
            next,
        },
    )
}

#[derive(Serialize)]
struct RedrivenBody<'a> {
    consumer: &'a str,
    dry_run: bool,
    matching: usize,
    redriven: usize,
    failed: Vec<NotSettledBody>,
    more: bool,
    next: Option<String>,
}

#[derive(Deserr)]
#[deserr(error = FieldErrors, deny_unknown_fields)]
struct RedriveDeadLettersBody {
    consumer: String,
    #[deserr(default, try_from(Option<String>) = optional_id -> Invalid)]
    id: Option<String>,
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
    #[deserr(default)]
    pace: Option<u32>,
}

#[cfg(test)]
mod tests {
    use adapters::samples::placed_order;
    use application::{
        event_store::{Commit, StreamId},
        memory::{
            MemoryDeadLetterQueue, MemoryDeadLetters, MemoryEventBus, MemoryEventStore, MemoryIndex, MemoryOrderViews,
        },
        ports::{DeadMessage, Failure, MessageKind},
    };
    use chrono::Utc;
    use domain::ids::OrderId;
    use serde_json::{Value, json};

    use super::*;

    const SAMPLE: &str = include_str!("../../../events/redrive-dead-letters.json");
    const ORDER: &str = "0197a3c2-7b1e-5c44-9d55-3f1f5c0c9a10";

    struct Fixture {
        store: MemoryEventStore,
        bus: MemoryEventBus,
        generations: Vec<ReadModel<MemoryOrderViews, MemoryIndex>>,
        letters: MemoryDeadLetters,
        consumers: Consumers<MemoryDeadLetterQueue>,
    }

    fn failure(error_type: &str) -> Failure {
        Failure { error_type: error_type.to_owned(), error: "it was so".to_owned() }
    }

    fn order() -> OrderId {
        OrderId::parse(ORDER).unwrap()
    }

    impl Fixture {
        /// The sample's order is stored, and waits for both consumers from its first event on.
        async fn new() -> Self {
            let fixture = Self {
                store: MemoryEventStore::default(),
                bus: MemoryEventBus::default(),
                generations: vec![ReadModel::default(), ReadModel::default()],
                letters: MemoryDeadLetters::default(),
                consumers: Consumers::new(vec![("start-fulfilment".to_owned(), MemoryDeadLetterQueue::default())]),
            };
            fixture.store.append(&placed_order()).await.unwrap();
            for consumer in Consumer::ALL {
                let stream = StreamId::order(order());
                fixture.letters.park(consumer, &stream, (1, 1), &failure("Unreadable"), Utc::now()).await.unwrap();
            }
            fixture
        }

        async fn send(&self, body: Value) -> Result<Value, Problem> {
            let mut event: Value = serde_json::from_str(SAMPLE).unwrap();
            event["body"] = body.to_string().into();
            self.send_event(&event.to_string()).await
        }

        async fn send_event(&self, event: &str) -> Result<Value, Problem> {
            let shop = Shop { store: &self.store, bus: &self.bus, generations: &self.generations };
            let request = ApiRequest::from_event(event, Utc::now()).unwrap();
            let answer = handle(&shop, &self.letters, &self.consumers, request).await?;
            assert_eq!(answer.status(), 200);
            Ok(serde_json::from_slice(answer.body()).unwrap())
        }

        async fn waits(&self, consumer: Consumer) -> bool {
            self.letters.parked(consumer, &StreamId::order(order())).await.unwrap().is_some()
        }
    }

    #[tokio::test]
    async fn the_sample_brings_the_order_into_every_generation_and_once_only() {
        let fixture = Fixture::new().await;
        let answer = fixture.send_event(SAMPLE).await.unwrap();
        assert_eq!((&answer["matching"], &answer["redriven"], &answer["failed"]), (&json!(1), &json!(1), &json!([])));
        for model in &fixture.generations {
            assert_eq!(model.views.load(order()).await.unwrap().unwrap().version, 1);
        }
        assert!(!fixture.waits(Consumer::ProjectOrders).await && fixture.waits(Consumer::PublishEvents).await);
        assert_eq!(fixture.send_event(SAMPLE).await.unwrap()["matching"], 0);
        let settled = fixture.letters.settled("project-orders", None, 10).await.unwrap();
        assert_eq!(
            (settled[0].2.by.as_str(), settled[0].2.reason.as_str()),
            ("staff:staff-1", "the new version knows it")
        );
    }

    #[tokio::test]
    async fn a_dry_run_only_counts_and_another_error_is_not_meant() {
        let fixture = Fixture::new().await;
        let ask =
            |error: &str| json!({"consumer": "publish-events", "error_type": error, "reason": "x", "dry_run": true});
        assert_eq!(fixture.send(ask("Unreadable")).await.unwrap()["matching"], 1);
        assert_eq!(fixture.send(ask("Refused")).await.unwrap()["matching"], 0);
        assert!(fixture.waits(Consumer::PublishEvents).await && fixture.bus.published().is_empty());
    }

    #[tokio::test]
    async fn one_order_is_published_from_where_it_waits_through_what_lines_up() {
        let fixture = Fixture::new().await;
        let first = fixture.store.all().pop().unwrap();
        for version in 2..4 {
            let mut commit = Commit { version, ..first.clone() };
            commit.metadata.command_id = uuid::Uuid::new_v4();
            fixture.store.append(&commit).await.unwrap();
        }
        let stream = StreamId::order(order());
        let waits = fixture.letters.line_up(Consumer::PublishEvents, &[(stream.clone(), (2, 2))]).await.unwrap();
        assert_eq!(waits, [stream]);
        let id = format!("order/{ORDER}");
        let ask = json!({"consumer": "publish-events", "id": id, "reason": "the bus takes it now"});
        assert_eq!(fixture.send(ask).await.unwrap()["redriven"], 1);
        let published: Vec<u64> = fixture.bus.published().iter().map(|event| event.version).collect();
        assert_eq!(published, [1, 2, 3]);
        assert!(!fixture.waits(Consumer::PublishEvents).await);
    }

    #[tokio::test]
    async fn what_fails_again_waits_on_with_its_new_error() {
        let fixture = Fixture::new().await;
        fixture.bus.set_down(true);
        let answer = fixture.send(json!({"consumer": "publish-events", "all": true, "reason": "try"})).await.unwrap();
        assert_eq!((&answer["redriven"], &answer["failed"][0]["error_type"]), (&json!(0), &json!("Unavailable")));
        let stream = StreamId::order(order());
        let parked = fixture.letters.parked(Consumer::PublishEvents, &stream).await.unwrap().unwrap();
        assert_eq!((parked.tries, parked.failure.error_type.as_str(), parked.first_version), (2, "Unavailable", 1));
        fixture.bus.set_down(false);
        fixture.bus.refuse("OrderCreated", true);
        let answer = fixture.send(json!({"consumer": "publish-events", "all": true, "reason": "try"})).await.unwrap();
        assert_eq!((&answer["redriven"], &answer["failed"][0]["error_type"]), (&json!(0), &json!("Refused")));
    }

    fn message(id: &str, kind: MessageKind) -> DeadMessage {
        DeadMessage { id: id.to_owned(), kind, failure: failure("GivenUp"), since: Utc::now(), tries: 51 }
    }

    #[tokio::test]
    async fn what_somebody_else_is_looking_at_is_for_another_call() {
        let fixture = Fixture::new().await;
        let queue = fixture.consumers.find("start-fulfilment").unwrap().queue.unwrap();
        queue.put(message("m-1", MessageKind::Event(None)), "one");
        let looked_at = queue.receive().await.unwrap();
        let ask = |more: Value| {
            let mut body = json!({"consumer": "start-fulfilment", "reason": "the state machine is back"});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            body
        };
        for which in [json!({"all": true}), json!({"all": true, "dry_run": true}), json!({"id": "message/m-1"})] {
            let answer = fixture.send(ask(which)).await.unwrap();
            assert_eq!((&answer["matching"], &answer["more"]), (&json!(0), &json!(true)), "{answer}");
            assert_eq!(answer["next"], "message/");
        }
        // Of one that is named and is there, what others look at is no more.
        queue.put(message("m-2", MessageKind::Event(None)), "two");
        let answer = fixture.send(ask(json!({"id": "message/m-2"}))).await.unwrap();
        assert_eq!((&answer["redriven"], &answer["more"]), (&json!(1), &json!(false)));
        queue.release(&looked_at).await.unwrap();
        // What a dry run has looked at itself is no more either.
        let dry = fixture.send(ask(json!({"all": true, "dry_run": true, "after": "message/"}))).await.unwrap();
        assert_eq!((&dry["matching"], &dry["more"]), (&json!(1), &json!(false)));
        let answer = fixture.send(ask(json!({"all": true, "after": "message/"}))).await.unwrap();
        assert_eq!((&answer["redriven"], &answer["more"]), (&json!(1), &json!(false)));
        assert_eq!((queue.sent(), queue.count()), (vec!["two".to_owned(), "one".to_owned()], 0));
    }

    #[tokio::test]
    async fn messages_go_through_their_queue_once_more() {
        let queue = MemoryDeadLetterQueue::default();
        queue.put(message("m-1", MessageKind::Event(None)), "one");
        queue.put(message("m-2", MessageKind::Batch), "a place in a stream");
        let fixture =
            Fixture { consumers: Consumers::new(vec![("start-fulfilment".to_owned(), queue)]), ..Fixture::new().await };
        let ask = json!({"consumer": "start-fulfilment", "all": true, "reason": "the state machine is back"});
        let answer = fixture.send(ask).await.unwrap();
        assert_eq!((&answer["matching"], &answer["redriven"], &answer["more"]), (&json!(2), &json!(1), &json!(false)));
        assert_eq!(
            answer["failed"],
            json!([{
                "id": "message/m-2",
                "error_type": "NoContent",
                "error": "it names a place in a stream, and nothing that could be handled again",
            }])
        );
        let queue = fixture.consumers.find("start-fulfilment").unwrap().queue.unwrap();
        assert_eq!((queue.sent(), queue.count()), (vec!["one".to_owned()], 1));
    }

    #[tokio::test]
    async fn wrong_input_is_named_and_a_customer_is_refused() {
        let fixture = Fixture::new().await;
        for (pointer, body) in [
            ("", json!({"consumer": "project-orders", "reason": "x"})),
            ("/consumer", json!({"consumer": "nobody", "reason": "x", "all": true})),
            ("/pace", json!({"consumer": "project-orders", "reason": "x", "all": true, "pace": 51})),
            ("/id", json!({"consumer": "project-orders", "reason": "x", "id": ""})),
            ("/after", json!({"consumer": "project-orders", "reason": "x", "all": true, "after": "x".repeat(301)})),
            ("/error_type", json!({"consumer": "project-orders", "reason": "x", "error_type": "no name"})),
        ] {
            let problem = fixture.send(body).await.unwrap_err();
            assert_eq!(problem.status, 400);
            assert_eq!(problem.body("", "")["errors"][0]["pointer"], pointer);
        }
        assert_eq!(fixture.send_event(&SAMPLE.replace("[staff]", "[]")).await.unwrap_err().status, 403);
    }

    #[tokio::test]
    async fn hostile_events_are_answered() {
        let fixture = Fixture::new().await;
        fixture.bus.set_down(true);
        let shop = Shop {
            store: &fixture.store,
            bus: &fixture.bus,
            generations: &[ReadModel::<MemoryOrderViews, MemoryIndex>::default()],
        };
        http::hostile::is_answered(
            SAMPLE,
            |request| handle(&shop, &fixture.letters, &fixture.consumers, request),
            || fixture.store.count(),
        )
        .await;
    }
}
