//! `make poison`: a commit that nobody can read holds up its own order, and no other. Staff have it handled once it can be read, or give
//! it up.
//!
//! What stands in the event table so cannot be read by a rebuild or a replay either, so these tests are alone on the stack, one by one,
//! and leave nothing unreadable behind.

#![allow(clippy::print_stdout, reason = "this test shows how long orders took")]

use std::{
    collections::HashMap,
    env,
    sync::Arc,
    time::{Duration, Instant},
};

use aws_sdk_dynamodb::types::AttributeValue;
use chrono::Utc;
use serde_json::{Value, json};
use tokio::{sync::Mutex, time::sleep};

use crate::{
    redeliver::{Consumer, await_starts},
    service::{Answer, DEADLINE, Service, fresh_key, id_of, order, setting},
};

/// What waits, and what a queue has given up, is listed for all, so whoever has something listed is alone.
static ALONE: Mutex<()> = Mutex::const_new(());

const CLIENTS: usize = 8;
pub(crate) const CONSUMERS: [&str; 2] = ["project-orders", "publish-events"];
const REASON: &str = "it can be read by now";

/// How many events an order has when it is confirmed.
const CONFIRMED: u64 = 5;
/// The first event that nobody can read.
const FIRST: u64 = CONFIRMED + 1;

type Item = HashMap<String, AttributeValue>;

/// An order that is confirmed, and to which more events come.
struct Order {
    id: String,
    product: String,
    /// Its last commit, as it stands in the event table.
    last: Item,
}

impl Order {
    async fn confirmed(service: &Service, product: &str) -> Self {
        let placed = service.place("customer-1", &fresh_key(), &order("customer-1", product)).await.expect(201);
        let id = placed.text("order_id");
        service.await_status("customer-1", &id, &["confirmed"]).await;
        let (_, last) = service.events(&id).await.pop().unwrap();
        assert_eq!(last["version"].as_n().unwrap(), &CONFIRMED.to_string());
        Self { id, product: product.to_owned(), last }
    }

    /// What it is called among the dead letters.
    fn letter_id(&self) -> String {
        format!("order/{}", self.id)
    }

    /// Its commit of this number, as the service would write it: somebody has compared its books, which changes nothing in it.
    fn commit(&self, version: u64) -> Item {
        let money = |amount: u64| json!({"amount": amount, "currency": "CNY"});
        let found = json!({
            "charged": money(3998),
            "refunded": money(0),
            "reserved": [{"product_id": self.product, "quantity": 2}],
            "shipment": "created",
        });
        let events = json!([{"type": "BooksCompared", "schema": 1, "data": {"found": found, "late": []}}]);
        let mut commit = self.last.clone();
        commit.extend(
            [
                ("version", AttributeValue::N(version.to_string())),
                ("command_id", AttributeValue::S(fresh_key())),
                ("occurred_at", AttributeValue::S(Utc::now().to_rfc3339())),
                ("events", AttributeValue::S(events.to_string())),
                ("event_types", AttributeValue::L(vec![AttributeValue::S("BooksCompared".to_owned())])),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        commit
    }

    /// Puts an item in the place of the next commit that is none, as it does not say who has caused it. Answers what it should be.
    async fn poison(&self, service: &Service) -> Item {
        let whole = self.commit(FIRST);
        let mut poison = whole.clone();
        poison.remove("actor").unwrap();
        put(service, poison).await;
        whole
    }

    async fn version(&self, service: &Service) -> Value {
        let view = service.get("customer-1", &format!("/api/v1/orders/{}", self.id)).await.expect(200).body;
        assert_eq!(view["status"], "confirmed", "{view:#}");
        view["version"].clone()
    }

    /// Reads the view until it has this version.
    async fn await_version(&self, service: &Service, version: u64) {
        let path = format!("/api/v1/orders/{}?min_version={version}", self.id);
        let view = service.get_later("customer-1", &path).await.expect(200).body;
        assert_eq!((&view["version"], &view["status"]), (&json!(version), &json!("confirmed")), "{view:#}");
    }
}

async fn put(service: &Service, commit: Item) {
    service.dynamodb.put_item().table_name(setting("EVENTS_TABLE")).set_item(Some(commit)).send().await.unwrap();
}

/// Places so many orders, a few at once, and answers after how long each was seen to be confirmed, the shortest time first.
async fn times_to_confirmed(service: Arc<Service>, product: String, orders: usize) -> Vec<Duration> {
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (service, product) = (Arc::clone(&service), product.clone());
            tokio::spawn(async move {
                let mut times = Vec::new();
                for _ in (client..orders).step_by(CLIENTS) {
                    let started = Instant::now();
                    let body = order("customer-1", &product);
                    let placed = service.place("customer-1", &fresh_key(), &body).await.expect(201);
                    service.await_status("customer-1", &placed.text("order_id"), &["confirmed"]).await;
                    times.push(started.elapsed());
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for client in clients {
        times.extend(client.await.unwrap());
    }
    assert_eq!(times.len(), orders);
    times.sort();
    times
}

fn show(before: &[Duration], meanwhile: &[Duration]) {
    let median = |times: &[Duration]| times[times.len() / 2];
    println!("{} orders of {CLIENTS} clients, from placed to seen to be confirmed:", before.len());
    for (when, times) in [("before", before), ("beside the one that waits", meanwhile)] {
        let (median, longest) = (median(times).as_millis(), times[times.len() - 1].as_millis());
        println!("{when:<26} median {median:>6} ms, longest {longest:>6} ms");
    }
    println!("{:<26} median {:>6.2}", "ratio", median(meanwhile).as_secs_f64() / median(before).as_secs_f64());
}

/// The dead letters of a consumer; behind its name, what else is asked.
pub(crate) async fn dead_letters(service: &Service, query: &str) -> Vec<Value> {
    let answer = service.get("staff-2", &format!("/api/v1/dead-letters?consumer={query}")).await.expect(200);
    answer.body["dead_letters"].as_array().unwrap().clone()
}

/// Waits until this order, and nothing else, waits for the consumer, from the first event that nobody can read to this one.
async fn await_parked(service: &Service, consumer: &str, order: &Order, last: u64) -> Value {
    let started = Instant::now();
    loop {
        let letters = dead_letters(service, consumer).await;
        if let [letter] = letters.as_slice()
            && letter["id"] == order.letter_id()
            && letter["last_sequence"] == last
        {
            assert_eq!((&letter["kind"], &letter["first_sequence"]), (&json!("parked"), &json!(FIRST)), "{letter:#}");
            assert_eq!(letter["error_type"], "NotACommit", "{letter:#}");
            return letter.clone();
        }
        assert!(started.elapsed() < DEADLINE, "{consumer} has not parked {} up to {last}: {letters:#?}", order.id);
        sleep(Duration::from_millis(500)).await;
    }
}

/// Asks for dead letters to be redriven, or discarded.
async fn ask(service: &Service, who: &str, deed: &str, consumer: &str, wanted: &Value) -> Answer {
    let mut body = json!({"consumer": consumer, "reason": REASON});
    body.as_object_mut().unwrap().extend(wanted.as_object().unwrap().clone());
    service.post(who, &format!("/api/v1/dead-letters/{deed}"), &body).await
}

/// Has one dead letter redriven or discarded, and asserts that it is gone, and that it is told who has done it and why.
async fn settle_one(service: &Service, who: &str, deed: &str, consumer: &str, (id, wanted): (&str, &Value)) {
    let done = if deed == "redrive" { "redriven" } else { "discarded" };
    let answer = ask(service, who, deed, consumer, wanted).await.expect(200).body;
    assert_eq!((&answer["matching"], &answer[done]), (&json!(1), &json!(1)), "{answer:#}");
    assert_eq!((&answer["failed"], &answer["more"]), (&json!([]), &json!(false)), "{answer:#}");
    let again = ask(service, who, deed, consumer, wanted).await.expect(200).body;
    assert_eq!((&again["matching"], &again[done]), (&json!(0), &json!(0)), "{again:#}");
    assert!(dead_letters(service, consumer).await.iter().all(|letter| letter["id"] != id));

    let settled = dead_letters(service, &format!("{consumer}&settled=true")).await;
    let letter = settled.iter().find(|letter| letter["id"] == id).unwrap_or_else(|| panic!("{id}: {settled:#?}"));
    let settlement = &letter["settlement"];
    assert_eq!((&settlement["outcome"], &settlement["reason"]), (&json!(done), &json!(REASON)));
    assert_eq!(settlement["by"], format!("staff:{}", id_of(who)));
}

/// Each number once, where it stands first.
fn first_of_each(sequences: Vec<u64>) -> Vec<u64> {
    let mut seen = Vec::new();
    for sequence in sequences {
        if !seen.contains(&sequence) {
            seen.push(sequence);
        }
    }
    seen
}

#[tokio::test]
#[ignore = "puts into the event table what nobody can read: make poison"]
async fn a_commit_that_nobody_can_read_holds_up_its_own_order_and_no_other() {
    let _alone = ALONE.lock().await;
    let service = Arc::new(Service::connect().await);
    let orders: usize = env::var("ORDERS").map_or(20, |orders| orders.parse().unwrap());
    let product = service.product(u32::try_from(4 * orders + 2).unwrap()).await;
    let letters_before = service.dead_letters().await;
    let before = times_to_confirmed(Arc::clone(&service), product.clone(), orders).await;

    let poisoned = Order::confirmed(&service, &product).await;
    let bus = Consumer::of(&service, &poisoned.id).await;
    let others = tokio::spawn(times_to_confirmed(Arc::clone(&service), product, orders));
    // So that the first of them are under way.
    sleep(Duration::from_secs(1)).await;
    let whole = poisoned.poison(&service).await;
    let last = FIRST + 2;
    for version in FIRST + 1..=last {
        put(&service, poisoned.commit(version)).await;
    }
    show(&before, &others.await.unwrap());
    for consumer in CONSUMERS {
        await_parked(&service, consumer, &poisoned, last).await;
    }
    assert_eq!(poisoned.version(&service).await, CONFIRMED);
    let sequences = bus.sequences(0).await;
    assert!(sequences.iter().all(|sequence| *sequence < FIRST), "{sequences:?}");
    assert_eq!(service.dead_letters().await, letters_before, "a batch was given up");

    // As long as nothing is mended, it fails as it did.
    let id = poisoned.letter_id();
    let by_id = json!({"id": id});
    for consumer in CONSUMERS {
        let tries = await_parked(&service, consumer, &poisoned, last).await["tries"].as_u64().unwrap();
        let answer = ask(&service, "staff-2", "redrive", consumer, &by_id).await.expect(200).body;
        assert_eq!((&answer["matching"], &answer["redriven"]), (&json!(1), &json!(0)), "{answer:#}");
        let failed = &answer["failed"][0];
        assert_eq!((&failed["id"], &failed["error_type"]), (&json!(id), &json!("NotACommit")), "{answer:#}");
        let letter = await_parked(&service, consumer, &poisoned, last).await;
        assert_eq!(letter["tries"], tries + 1, "{letter:#}");
    }

    // The item is there as a build would read it that knows such items. To the table's stream that is a change of an item, which the
    // mappings hand to nobody: only a redrive can bring it.
    put(&service, whole).await;
    let dry = json!({"id": id, "dry_run": true});
    for consumer in CONSUMERS {
        let answer = ask(&service, "staff-2", "redrive", consumer, &dry).await.expect(200).body;
        assert_eq!((&answer["matching"], &answer["redriven"]), (&json!(1), &json!(0)), "{answer:#}");
        await_parked(&service, consumer, &poisoned, last).await;
    }
    assert_eq!(poisoned.version(&service).await, CONFIRMED);
    let sequences = bus.sequences(0).await;
    assert!(sequences.is_empty(), "{sequences:?}");

    settle_one(&service, "staff-2", "redrive", "project-orders", (&id, &by_id)).await;
    poisoned.await_version(&service, last).await;
    let by_error = json!({"error_type": "NotACommit"});
    settle_one(&service, "staff-2", "redrive", "publish-events", (&id, &by_error)).await;
    assert_eq!(first_of_each(bus.sequences(3).await), [FIRST, FIRST + 1, last]);

    // It goes on as if nothing had been.
    put(&service, poisoned.commit(last + 1)).await;
    poisoned.await_version(&service, last + 1).await;
    assert_eq!(first_of_each(bus.sequences(1).await), [last + 1]);
    for consumer in CONSUMERS {
        assert_eq!(dead_letters(&service, consumer).await, Vec::<Value>::new());
    }
    assert_eq!(service.dead_letters().await, letters_before);
    bus.leave().await;
}

#[tokio::test]
#[ignore = "puts into the event table what nobody can read: make poison"]
async fn what_a_supervisor_discards_is_never_published_and_what_comes_later_is() {
    let _alone = ALONE.lock().await;
    let service = Service::connect().await;
    let product = service.product(10).await;
    let poisoned = Order::confirmed(&service, &product).await;
    let bus = Consumer::of(&service, &poisoned.id).await;
    let whole = poisoned.poison(&service).await;
    put(&service, poisoned.commit(FIRST + 1)).await;
    await_parked(&service, "publish-events", &poisoned, FIRST + 1).await;
    let sequences = bus.sequences(0).await;
    assert!(sequences.iter().all(|sequence| *sequence < FIRST), "{sequences:?}");

    let id = poisoned.letter_id();
    let by_id = json!({"id": id});
    ask(&service, "staff-2", "discard", "publish-events", &by_id).await.expect(403);
    for deed in ["redrive", "discard"] {
        ask(&service, "customer-1", deed, "publish-events", &by_id).await.expect(403);
        let nothing = ask(&service, "staff-1", deed, "publish-events", &json!({})).await.expect(400);
        assert_eq!(nothing.pointers(), [""], "{:#}", nothing.body);
    }
    let dry = json!({"id": id, "dry_run": true});
    let answer = ask(&service, "staff-1", "discard", "publish-events", &dry).await.expect(200).body;
    assert_eq!((&answer["matching"], &answer["discarded"]), (&json!(1), &json!(0)), "{answer:#}");
    assert!(answer["consequence"].as_str().unwrap().contains("never hear of these events"), "{answer:#}");
    // Somebody has looked before the last of them lined up.
    let early = json!({"id": id, "last_sequence": FIRST});
    let answer = ask(&service, "staff-1", "discard", "publish-events", &early).await.expect(200).body;
    assert_eq!(
        (&answer["discarded"], &answer["failed"][0]["error_type"]),
        (&json!(0), &json!("Contended")),
        "{answer:#}"
    );
    await_parked(&service, "publish-events", &poisoned, FIRST + 1).await;
    let seen = json!({"id": id, "last_sequence": FIRST + 1});
    settle_one(&service, "staff-1", "discard", "publish-events", (&id, &seen)).await;

    put(&service, poisoned.commit(FIRST + 2)).await;
    assert_eq!(first_of_each(bus.sequences(1).await), [FIRST + 2]);
    // Who shows the order has not given anything up.
    await_parked(&service, "project-orders", &poisoned, FIRST + 2).await;
    put(&service, whole).await;
    settle_one(&service, "staff-2", "redrive", "project-orders", (&id, &by_id)).await;
    poisoned.await_version(&service, FIRST + 2).await;
    bus.leave().await;
}

#[tokio::test]
#[ignore = "puts a message among the dead letters: make poison"]
async fn a_message_that_its_queue_has_given_up_goes_through_it_once_more() {
    let _alone = ALONE.lock().await;
    let service = Service::connect().await;
    let product = service.product(10).await;
    let order = Order::confirmed(&service, &product).await;
    let event_types = service.event_types(&order.id).await;
    let letters_before = service.dead_letters().await;
    // What the bus's rule puts into the queue of `OrderCreated`.
    let (event_type, created) = service.events(&order.id).await.remove(0);
    let text = |name: &str| created.get(name).map(|text| text.as_s().unwrap().clone());
    let metadata = json!({
        "event_id": format!("{}/1", order.id),
        "event_type": event_type,
        "schema": 1,
        "aggregate_type": "order",
        "aggregate_id": order.id,
        "sequence": 1,
        "occurred_at": text("occurred_at"),
        "command_id": text("command_id"),
        "correlation_id": text("correlation_id"),
        "causation_id": text("causation_id"),
        "traceparent": text("traceparent"),
        "actor": text("actor"),
    });
    // That of start-fulfilment is the first in the stack's output.
    let queues = setting("DEAD_LETTER_QUEUE_URLS");
    let send = service.sqs.send_message().queue_url(queues.split_whitespace().next().unwrap());
    let sent = send.message_body(json!({"detail": {"metadata": metadata}}).to_string()).send().await.unwrap();
    let id = format!("message/{}", sent.message_id().unwrap());

    let started = Instant::now();
    let letter = loop {
        let letters = dead_letters(&service, "start-fulfilment").await;
        if let Some(letter) = letters.iter().find(|letter| letter["id"] == id) {
            break letter.clone();
        }
        assert!(started.elapsed() < DEADLINE, "{id} is not listed: {letters:#?}");
        sleep(Duration::from_millis(500)).await;
    };
    assert_eq!((&letter["kind"], &letter["error_type"]), (&json!("message"), &json!("GivenUp")), "{letter:#}");
    assert_eq!((&letter["aggregate_id"], &letter["first_sequence"]), (&json!(order.id), &json!(1)), "{letter:#}");
    // Looking at it does not take it away.
    let dry = json!({"id": id, "dry_run": true});
    let answer = ask(&service, "staff-2", "redrive", "start-fulfilment", &dry).await.expect(200).body;
    assert_eq!((&answer["matching"], &answer["redriven"]), (&json!(1), &json!(0)), "{answer:#}");
    settle_one(&service, "staff-2", "redrive", "start-fulfilment", (&id, &json!({"id": id}))).await;

    await_starts(&order.id, 2).await;
    assert_eq!(service.dead_letters().await, letters_before);
    assert_eq!(service.event_types(&order.id).await, event_types, "the order was fulfilled before");
    assert_eq!(service.ledger(&order.id).await.len(), 1);
}
