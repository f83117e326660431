//! What a command costs: on a new stream, and on a stream of 1,000 events.
//!
//! Both frameworks keep the same aggregate with the same events, which costs next to nothing by itself.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use adapters::dynamodb::{DynamoEventStore, DynamoSnapshots};
use application::{
    create_order,
    event_store::{Metadata, RecordedEvent, StreamId},
    event_stream::{self, EventStream},
    take_snapshot::{self, take_snapshot},
};
use aws_sdk_dynamodb::{Client, types::AttributeValue};
use chrono::Utc;
use cqrs_es::{event_sink::EventSink, persist::PersistedEventStore};
use domain::{ids::OrderId, order::create::CreateOrder, stored_event::UnreadableEvent};
use dynamo_es::{DynamoCqrs, DynamoEventRepository};
use dynoxide::Database;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::{
    contest::{Contest, Outcome, print, ratio},
    database::{EVENTS, LocalDynamo, Meter, SNAPSHOTS, Usage, create_table},
    orders,
};

/// Many short turns: what else the machine does then meets all of a round alike.
const CREATE_ROUNDS: usize = 300;
const CREATES_PER_ROUND: u32 = 10;
const COMMAND_ROUNDS: usize = 15;
const COMMANDS_PER_ROUND: u32 = 10;

/// How long the long streams are.
const LONG: usize = 1_000;

/// Half as many events as are between two of our snapshots come after the last one of a long stream.
#[expect(clippy::cast_possible_truncation, reason = "it is small")]
const OUR_SNAPSHOT_EVERY: usize = take_snapshot::EVERY as usize;
const OUR_FIRST_SNAPSHOT: usize = OUR_SNAPSHOT_EVERY + (LONG - OUR_SNAPSHOT_EVERY / 2) % OUR_SNAPSHOT_EVERY;

/// The same for dynamo-es, which takes a snapshot whenever the stream's length is a multiple of this.
const SNAPSHOT_EVERY: usize = 80;
const _: () = assert!(LONG % SNAPSHOT_EVERY == SNAPSHOT_EVERY / 2);

const BARE: &str = "bare-items";
const CQRS_EVENTS: &str = "cqrs-events";
const CQRS_SNAPSHOTS: &str = "cqrs-snapshots";

pub(crate) async fn run() {
    let dynamo = LocalDynamo::start().await;
    create_table(&dynamo.database, BARE, "stream", Some(("version", "N")));
    create_table(&dynamo.database, CQRS_EVENTS, "AggregateTypeAndId", Some(("AggregateIdSequence", "N")));
    create_table(&dynamo.database, CQRS_SNAPSHOTS, "AggregateTypeAndId", None);
    creates(&dynamo).await;
    long_streams(&dynamo).await;
}

async fn creates(dynamo: &LocalDynamo) {
    let (client, (metered, meter)) = (dynamo.client(), dynamo.metered_client());
    let (ours, theirs) = (Ours::new(&client), Theirs::new(&client));
    let item = order_item(dynamo).await;
    let outcomes = Contest::default()
        .enter("one conditional PutItem (baseline)", || repeat(CREATES_PER_ROUND, || bare_put(&client)))
        .enter("one conditional PutItem of an order's item", || repeat(CREATES_PER_ROUND, || put_again(&client, &item)))
        .enter("ours: create_order", || repeat(CREATES_PER_ROUND, || ours.create_order()))
        .enter("ours: open an EventStream, commit", || repeat(CREATES_PER_ROUND, || ours.note(new_id(), 0)))
        .enter("cqrs-es + dynamo-es", || repeat(CREATES_PER_ROUND, || theirs.note(new_id(), 0)))
        .run(CREATE_ROUNDS)
        .await;

    let (ours, theirs) = (Ours::new(&metered), Theirs::new(&metered));
    let usages = [
        usage(&meter, bare_put(&metered)).await,
        usage(&meter, put_again(&metered, &item)).await,
        usage(&meter, ours.create_order()).await,
        usage(&meter, ours.note(new_id(), 0)).await,
        usage(&meter, theirs.note(new_id(), 0)).await,
    ];
    let row = |(outcome, usage): (&Outcome, &Usage)| {
        let [calls, read_units, write_units] = cells(usage);
        let rate = format!("{:.0}", outcome.per_second());
        [outcome.name.to_owned(), rate, ratio(outcome.ratio_of_rates()), calls, read_units, write_units]
    };
    print(
        "commands: creates, one after the other",
        ["", "creates/s", "of the baseline", "calls", "read units", "write units"],
        &outcomes.iter().zip(&usages).map(row).collect::<Vec<_>>(),
    );
}

async fn long_streams(dynamo: &LocalDynamo) {
    let id = new_id();
    let loading = dynamo.loading_client();
    for so_far in 0..LONG {
        Ours::new(&loading).note(id, so_far).await;
        let length = so_far + 1;
        if length >= OUR_FIRST_SNAPSHOT && (length - OUR_FIRST_SNAPSHOT).is_multiple_of(OUR_SNAPSHOT_EVERY) {
            Ours::with_snapshots(&loading).take_snapshot(&loading, id, length).await;
        }
        Theirs::new(&loading).note(id, so_far).await;
        Theirs::with_snapshots(&loading).note(in_snapshots(id), so_far).await;
    }

    let (client, (metered, meter)) = (dynamo.client(), dynamo.metered_client());
    let (ours, ours_with_snapshots) = (Ours::new(&client), Ours::with_snapshots(&client));
    let (theirs, theirs_with_snapshots) = (Theirs::new(&client), Theirs::with_snapshots(&client));
    // Each command leaves the streams as they were, so that the last meets as many events as the first.
    let shorten = || shorten(&dynamo.database, id);
    let outcomes = Contest::default()
        .enter("one paged Query of the stream (baseline)", || repeat(COMMANDS_PER_ROUND, || bare_query(&client, id)))
        .enter("ours, no snapshot", || repeat_with(COMMANDS_PER_ROUND, || ours.note(id, LONG), shorten))
        .enter("ours, snapshots", || repeat_with(COMMANDS_PER_ROUND, || ours_with_snapshots.note(id, LONG), shorten))
        .enter("cqrs-es + dynamo-es, no snapshot", || {
            repeat_with(COMMANDS_PER_ROUND, || theirs.note(id, LONG), shorten)
        })
        .enter("cqrs-es + dynamo-es, snapshots", || {
            repeat_with(COMMANDS_PER_ROUND, || theirs_with_snapshots.note(in_snapshots(id), LONG), shorten)
        })
        .run(COMMAND_ROUNDS)
        .await;

    let (ours, ours_with_snapshots) = (Ours::new(&metered), Ours::with_snapshots(&metered));
    let (theirs, theirs_with_snapshots) = (Theirs::new(&metered), Theirs::with_snapshots(&metered));
    let mut usages = vec![usage(&meter, bare_query(&metered, id)).await];
    usages.push(usage(&meter, ours.note(id, LONG)).await);
    shorten();
    usages.push(usage(&meter, ours_with_snapshots.note(id, LONG)).await);
    shorten();
    usages.push(usage(&meter, theirs.note(id, LONG)).await);
    usages.push(usage(&meter, theirs_with_snapshots.note(in_snapshots(id), LONG)).await);
    let row = |(outcome, usage): (&Outcome, &Usage)| {
        let [calls, read_units, write_units] = cells(usage);
        let time = format!("{:.1}", outcome.time.as_secs_f64() * 1_000.0);
        [outcome.name.to_owned(), time, ratio(outcome.ratio), calls, read_units, write_units]
    };
    print(
        &format!("commands: one command on a stream of {LONG} events"),
        ["", "ms", "times the baseline", "calls", "read units", "write units"],
        &outcomes.iter().zip(&usages).map(row).collect::<Vec<_>>(),
    );
}

fn new_id() -> Uuid {
    Uuid::new_v4()
}

/// The stream that is kept with snapshots, beside the one that is kept without.
fn in_snapshots(id: Uuid) -> Uuid {
    Uuid::new_v5(&id, b"in snapshots")
}

/// What one operation takes, when it is done this often.
async fn repeat<F: Future<Output = ()>>(times: u32, operation: impl Fn() -> F) -> Duration {
    repeat_with(times, operation, || ()).await
}

/// The same; what is done after each operation does not count.
async fn repeat_with<F: Future<Output = ()>>(times: u32, operation: impl Fn() -> F, afterwards: impl Fn()) -> Duration {
    let mut taken = Duration::ZERO;
    for _ in 0..times {
        let begin = Instant::now();
        operation().await;
        taken += begin.elapsed();
        afterwards();
    }
    taken / times
}

async fn usage(meter: &Meter, operation: impl Future<Output = ()>) -> Usage {
    meter.read();
    operation.await;
    meter.read()
}

fn cells(usage: &Usage) -> [String; 3] {
    [usage.calls.to_string(), usage.read_units.to_string(), usage.write_units.to_string()]
}

/// The event on a new stream, and nothing beside it.
async fn bare_put(client: &Client) {
    let event = serde_json::to_string(&Noted::new(1)).unwrap();
    client
        .put_item()
        .table_name(BARE)
        .item("stream", AttributeValue::S(stream_name(new_id())))
        .item("version", AttributeValue::N("1".to_owned()))
        .item("event", AttributeValue::S(event))
        .condition_expression("attribute_not_exists(version)")
        .send()
        .await
        .unwrap();
}

/// What [`Ours::create_order`] writes.
async fn order_item(dynamo: &LocalDynamo) -> HashMap<String, AttributeValue> {
    let client = dynamo.loading_client();
    let id = Ours::new(&client).place().await;
    let get =
        client.get_item().table_name(EVENTS).key("stream", AttributeValue::S(StreamId::order(id).as_str().to_owned()));
    get.key("version", AttributeValue::N("1".to_owned())).send().await.unwrap().item.unwrap()
}

/// The same item under another id.
async fn put_again(client: &Client, item: &HashMap<String, AttributeValue>) {
    let stream = StreamId::order(OrderId::new(new_id()));
    client
        .put_item()
        .table_name(EVENTS)
        .set_item(Some(item.clone()))
        .item("stream", AttributeValue::S(stream.as_str().to_owned()))
        .condition_expression("attribute_not_exists(version)")
        .send()
        .await
        .unwrap();
}

/// The whole of our stream, read and not looked at.
async fn bare_query(client: &Client, id: Uuid) {
    let pages = client
        .query()
        .table_name(EVENTS)
        .consistent_read(true)
        .key_condition_expression("#stream = :stream")
        .expression_attribute_names("#stream", "stream")
        .expression_attribute_values(":stream", AttributeValue::S(stream_name(id)));
    let mut pages = pages.into_paginator().send();
    let mut items = 0;
    while let Some(page) = pages.next().await {
        items += page.unwrap().count;
    }
    assert_eq!(usize::try_from(items).unwrap(), LONG);
}

/// Takes event number `LONG + 1` back from every stream.
fn shorten(database: &Database, id: Uuid) {
    let version = json!({"N": (LONG + 1).to_string()});
    let theirs = |id| format!("{}:{id}", <Notes as cqrs_es::Aggregate>::TYPE);
    for (table, [partition_key, sort_key], partition) in [
        (EVENTS, ["stream", "version"], stream_name(id)),
        (CQRS_EVENTS, ["AggregateTypeAndId", "AggregateIdSequence"], theirs(id)),
        (CQRS_EVENTS, ["AggregateTypeAndId", "AggregateIdSequence"], theirs(in_snapshots(id))),
    ] {
        let key = json!({partition_key: {"S": partition}, sort_key: version});
        let request = serde_json::from_value(json!({"TableName": table, "Key": key})).unwrap();
        database.delete_item(request).unwrap();
    }
}

fn stream_name(id: Uuid) -> String {
    format!("notes#{id}")
}

/// An aggregate that knows how many notes it has.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Notes {
    count: usize,
}

/// Its event: about 250 bytes of JSON. It has its number because cqrs-es 0.5 applies the event that comes with a snapshot
/// twice before it stores the snapshot, and the aggregate must bear that.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Noted {
    number: usize,
    text: String,
}

impl Noted {
    fn new(number: usize) -> Self {
        Self { number, text: "Leave it with the neighbour. ".repeat(8) }
    }
}

/// A stream that is not as long as was expected has been read in part, and then nothing here means anything.
#[derive(Debug, thiserror::Error)]
#[error("{0} events instead of {1}")]
struct WrongLength(usize, usize);

impl Notes {
    fn note(&self, expected: usize) -> Result<Noted, WrongLength> {
        if self.count == expected { Ok(Noted::new(expected + 1)) } else { Err(WrongLength(self.count, expected)) }
    }
}

impl event_stream::Aggregate for Notes {
    type Id = Uuid;
    type Event = Noted;

    const SNAPSHOT_SCHEMA: u32 = 1;

    fn stream_id(id: &Uuid) -> StreamId {
        StreamId::new(stream_name(*id))
    }

    fn evolve(self, event: &Noted) -> Self {
        Self { count: event.number }
    }

    fn record(event: &Noted) -> Result<RecordedEvent, serde_json::Error> {
        Ok(RecordedEvent { event_type: "Noted".to_owned(), schema: 1, data: serde_json::to_value(event)? })
    }

    fn read(recorded: &RecordedEvent) -> Result<Noted, UnreadableEvent> {
        let RecordedEvent { event_type, schema, data } = recorded;
        Noted::deserialize(data).map_err(|error| UnreadableEvent::BadData {
            event_type: event_type.clone(),
            schema: *schema,
            category: error.classify(),
        })
    }
}

impl cqrs_es::DomainEvent for Noted {
    fn event_type(&self) -> String {
        "Noted".to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

impl cqrs_es::Aggregate for Notes {
    const TYPE: &'static str = "notes";
    /// How many notes there are to be before.
    type Command = usize;
    type Event = Noted;
    type Error = WrongLength;
    type Services = ();

    async fn handle(&mut self, expected: usize, (): &(), sink: &EventSink<Self>) -> Result<(), WrongLength> {
        let event = self.note(expected)?;
        sink.write(event, self).await;
        Ok(())
    }

    fn apply(&mut self, event: Noted) {
        self.count = event.number;
    }
}

struct Ours(DynamoEventStore);

impl Ours {
    fn new(client: &Client) -> Self {
        Self(DynamoEventStore::new(client.clone(), EVENTS.to_owned()))
    }

    fn with_snapshots(client: &Client) -> Self {
        Self(Self::new(client).0.with_snapshots(SNAPSHOTS.to_owned()))
    }

    /// As the function of that name does, when it hears of this event.
    async fn take_snapshot(&self, client: &Client, id: Uuid, version: usize) {
        let snapshots = DynamoSnapshots::new(client.clone(), SNAPSHOTS.to_owned());
        let version = u64::try_from(version).unwrap();
        let taken = take_snapshot::<Notes>(&self.0, &snapshots, id, version).await.unwrap();
        assert_eq!(taken, take_snapshot::Taken::Now);
    }

    async fn note(&self, id: Uuid, so_far: usize) {
        let mut stream: EventStream<'_, _, Notes> = EventStream::open(&self.0, id).await.unwrap();
        let metadata = metadata(new_id());
        stream.commit(&metadata, |notes| notes.note(so_far).map(|event| vec![event])).await.unwrap();
    }

    /// As `create-order` calls it, once it has read the catalogue.
    async fn create_order(&self) {
        self.place().await;
    }

    async fn place(&self) -> OrderId {
        let order_id = OrderId::new(new_id());
        let command: CreateOrder = orders::small_order();
        let metadata = metadata(create_order::command_id(order_id));
        create_order::create_order(&self.0, order_id, &metadata, &command).await.unwrap();
        order_id
    }
}

/// As long as the product's.
fn metadata(command_id: Uuid) -> Metadata {
    Metadata {
        command_id,
        fingerprint: format!("{0}{0}", command_id.simple()),
        actor: format!("customer:{command_id}"),
        correlation_id: command_id.to_string(),
        causation_id: command_id.to_string(),
        traceparent: None,
        occurred_at: Utc::now(),
    }
}

struct Theirs(DynamoCqrs<Notes>);

impl Theirs {
    fn new(client: &Client) -> Self {
        Self(DynamoCqrs::new(PersistedEventStore::new_event_store(Self::repository(client)), vec![], ()))
    }

    fn with_snapshots(client: &Client) -> Self {
        let store = PersistedEventStore::new_snapshot_store(Self::repository(client), SNAPSHOT_EVERY);
        Self(DynamoCqrs::new(store, vec![], ()))
    }

    fn repository(client: &Client) -> DynamoEventRepository {
        DynamoEventRepository::new(client.clone()).with_tables(CQRS_EVENTS, CQRS_SNAPSHOTS)
    }

    async fn note(&self, id: Uuid, so_far: usize) {
        self.0.execute(&id.to_string(), so_far).await.unwrap();
    }
}
