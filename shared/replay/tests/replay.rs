//! The program as `make replay` and `make anonymise` run it, on the events that the domain's golden files hold.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

use std::{
    collections::BTreeMap,
    io::Write,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

const GOLDEN: [&str; 2] = [
    include_str!("../../domain/src/order/events.golden.jsonl"),
    include_str!("../../domain/src/customer/events.golden.jsonl"),
];

const CONFIRMED: &str = "order#11111111-1111-4111-8111-111111111111";
const REFUNDED: &str = "order#22222222-2222-4222-8222-222222222222";
const CANCELLED: &str = "order#33333333-3333-4333-8333-333333333333";
const DECLINED: &str = "order#44444444-4444-4444-8444-444444444444";
const CUSTOMER: &str = "customer#customer-1";

const PLACED_TO_CONFIRMED: [&str; 5] =
    ["OrderCreated", "InventoryReserved", "PaymentCompleted", "ShipmentCreated", "OrderConfirmed"];

/// The event of this type, as the newest version stores it.
fn golden(event_type: &str) -> Value {
    let lines = GOLDEN.iter().flat_map(|lines| lines.lines());
    let mut events = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.rfind(|event| event["type"] == event_type).expect("every type has a line")
}

fn item(stream: &str, version: usize, events: &Value) -> Value {
    json!({
        "stream": {"S": stream},
        "version": {"N": version.to_string()},
        "events": {"S": events.to_string()},
        "command_id": {"S": "7d444840-9dc0-41d1-b245-5ffdce74fad2"},
        "fingerprint": {"S": "e3b0c44298fc1c149afbf4c8996fb924"},
        "actor": {"S": "customer:customer-1"},
        "correlation_id": {"S": "checkout-of-anna"},
        "causation_id": {"S": "request-of-anna"},
        "traceparent": {"S": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
        "occurred_at": {"S": format!("2026-01-01T00:00:{version:02}Z")},
        "event_types": {"L": [{"S": "not looked at"}]},
        "note_of_staff": {"S": "an attribute that nobody knows, about Anna"},
    })
}

/// A commit for each event.
fn stream(name: &str, types: &[&str]) -> Vec<Value> {
    (1..).zip(types).map(|(version, event_type)| item(name, version, &json!([golden(event_type)]))).collect()
}

/// Sorted, as `answers` wants them.
fn export() -> Vec<Value> {
    let refunded = [&PLACED_TO_CONFIRMED[..], &["RefundRequested", "RefundCompleted"]].concat();
    let undone =
        ["OrderCancelRequested", "ShipmentCancelled", "PaymentRefunded", "InventoryReleased", "OrderCancelled"];
    let cancelled = [&PLACED_TO_CONFIRMED[..4], &undone].concat();
    [
        stream(CUSTOMER, &["CustomerProfileUpdated"]),
        stream(CONFIRMED, &PLACED_TO_CONFIRMED),
        stream(REFUNDED, &refunded),
        stream(CANCELLED, &cancelled),
        stream(DECLINED, &["OrderCreated", "InventoryReserved", "PaymentFailed"]),
    ]
    .concat()
}

fn lines(items: &[Value]) -> String {
    let lines: Vec<String> = items.iter().map(|item| json!({"Item": item}).to_string() + "\n").collect();
    lines.concat()
}

/// What it said, and how it ended.
fn run(action: &str, input: &str) -> (String, Option<i32>) {
    let mut replay = Command::new(env!("CARGO_BIN_EXE_replay"));
    let replay = replay.arg(action).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut replay = replay.spawn().unwrap();
    // It may have ended before it has read all.
    let _ = replay.stdin.take().unwrap().write_all(input.as_bytes());
    let done = replay.wait_with_output().unwrap();
    (String::from_utf8([done.stdout, done.stderr].concat()).unwrap(), done.status.code())
}

fn answers(input: &str) -> BTreeMap<String, Value> {
    let (said, code) = run("answers", input);
    assert_eq!(code, Some(0), "{said}");
    let answers = said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    answers.map(|answer| (answer["stream"].as_str().unwrap().to_owned(), answer)).collect()
}

#[test]
fn it_says_where_an_order_stands_what_would_come_next_and_what_it_costs() {
    let answers = answers(&lines(&export()));
    assert_eq!(answers.len(), 5);

    let confirmed = &answers[CONFIRMED];
    assert_eq!(confirmed["version"], 5);
    assert_eq!(confirmed["state"]["course"], "confirmed");
    assert_eq!(confirmed["view"]["status"], "confirmed");
    assert_eq!(confirmed["view"]["updated_at"], "2026-01-01T00:00:05Z");
    assert_eq!(confirmed["next"]["cancel"], "OrderCancelRequested");
    assert_eq!(confirmed["next"]["refund-all"], "RefundRequested");
    assert_eq!(confirmed["next"]["pay"], "nothing");
    assert_eq!(confirmed["next"]["resume"], "refused: the order is not stuck");
    assert_eq!(confirmed["starts"], json!(["11111111-1111-4111-8111-111111111111"]));
    assert_eq!(confirmed["books"]["kept"]["charged"]["amount"], 3998);
    assert_eq!(confirmed["books"]["refundable"]["amount"], 3998);

    let refunded = &answers[REFUNDED];
    assert_eq!(refunded["state"]["refunds"][0]["state"], "completed");
    assert_eq!(refunded["books"]["kept"]["refunded"]["amount"], 100);
    assert_eq!(refunded["books"]["refundable"]["amount"], 3898);
    assert_eq!(refunded["next"]["refund-all"], "refused: the refund is above what is left of the payment");

    let cancelled = &answers[CANCELLED];
    assert_eq!(cancelled["view"]["status"], "cancelled");
    assert_eq!(cancelled["state"]["is_open"], false);
    assert_eq!(cancelled["books"]["owed"]["amount"], 0);

    let declined = &answers[DECLINED];
    assert_eq!(declined["state"]["course"], "undoing");
    assert_eq!(declined["books"]["held"]["stock"], true);
    assert_eq!(declined["next"]["undo-reservation"], "InventoryReleased");
    assert_eq!(declined["next"]["close"], "refused: something is still held for the order");

    assert_eq!(answers[CUSTOMER]["state"]["profile"]["email"], "anna@example.com");
}

#[test]
fn the_same_events_give_the_same_answers_to_the_letter() {
    let export = lines(&export());
    assert_eq!(run("answers", &export), run("answers", &export));
}

#[test]
fn a_stream_that_cannot_be_read_says_so_and_keeps_no_other_from_its_answer() {
    let mut export = export();
    let of = |stream: &str| format!("order#{stream}");
    let (hole, poison, overlap) = (
        of("66666666-6666-4666-8666-666666666666"),
        of("77777777-7777-4777-8777-777777777777"),
        of("88888888-8888-4888-8888-888888888888"),
    );
    let mut with_a_hole = stream(&hole, &PLACED_TO_CONFIRMED);
    with_a_hole.remove(2);
    let mut poisoned = stream(&poison, &PLACED_TO_CONFIRMED);
    poisoned[3] = item(&poison, 4, &json!([{"type": "ParcelEaten", "schema": 1, "data": {"by": "Anna's dog"}}]));
    let mut overlapping = stream(&overlap, &["OrderCreated", "InventoryReserved"]);
    overlapping.push(overlapping[1].clone());
    let no_commit = json!({"stream": {"S": of("99999999-9999-4999-8999-999999999999")}, "version": {"N": "1"}});
    export.extend([with_a_hole, poisoned, overlapping, vec![no_commit, item("parcel#1", 1, &json!([]))]].concat());
    let answers = answers(&lines(&export));

    assert_eq!(answers[&hole]["error"], "there is a commit of event 4 where event 3 is due");
    assert_eq!(answers[&hole]["version"], 2);
    assert_eq!(answers[&poison]["error"], "unknown event type \"ParcelEaten\"");
    assert_eq!(answers[&poison]["version"], 3);
    assert_eq!(answers[&overlap]["error"], "there is a commit of event 2 where event 3 is due");
    assert_eq!(
        answers[&of("99999999-9999-4999-8999-999999999999")]["error"],
        "the item is not a commit of the event table"
    );
    assert_eq!(answers["parcel#1"]["error"], "no stream of this service has such a name");
    assert_eq!(answers[CONFIRMED]["state"]["course"], "confirmed");
    assert_eq!(answers.len(), 10);
}

#[test]
fn what_is_no_sorted_export_is_not_taken_in() {
    let mut export = export();
    export.reverse();
    let (said, code) = run("answers", &lines(&export));
    assert_eq!(code, Some(2));
    assert!(said.contains("line 4 is not sorted"), "{said}");
    let (said, code) = run("anonymise", "{\"Item\": {\"email\": {\"S\": \"anna@example.com\"}}}\n");
    assert_eq!((said.as_str(), code), ("error: line 1 has no item of the event table\n", Some(2)));
    assert_eq!(run("forget", "").1, Some(2));
}

/// All texts in a value.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(values) => values.iter().flat_map(texts).collect(),
        Value::Object(fields) => fields.values().flat_map(texts).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => vec![],
    }
}

#[test]
fn an_anonymised_export_says_nothing_of_anybody() {
    let mut export = export();
    let poison =
        json!([{"type": "ParcelEaten", "schema": 1, "data": {"by": ["Anna's dog"], "loud": true}, "more": "of Anna"}]);
    export.push(item("order#55555555-5555-4555-8555-555555555555", 1, &poison));
    let mut unreadable = item("order#66666666-6666-4666-8666-666666666666", 1, &json!([]));
    unreadable["events"] = json!({"S": "{\"to\": \"Anna\""});
    export.push(unreadable);
    let (anonymised, code) = run("anonymise", &lines(&export));
    assert_eq!(code, Some(0), "{anonymised}");
    assert_eq!(anonymised.lines().count(), export.len());

    let of_orders =
        domain::order::OrderEvent::TYPES.iter().map(|name| (name, domain::order::OrderEvent::personal_fields(name)));
    let personal: Vec<(&str, Value)> = of_orders
        .map(|(name, fields)| (*name, fields))
        .chain([("CustomerProfileUpdated", domain::customer::CustomerEvent::personal_fields("CustomerProfileUpdated"))])
        .flat_map(|(name, fields)| fields.iter().map(move |field| (name, golden(name)["data"][*field].clone())))
        .collect();
    let told = personal.iter().flat_map(|(_, value)| texts(value));
    let others = ["Anna", "anna", "checkout", "0af7651916", "e3b0c442", "7d444840", "nobody knows"];
    // Two letters are in any text by chance, and those of a country are among them.
    let all: Vec<&str> = told.chain(others).filter(|text| text.chars().count() > 2).collect();
    assert!(all.len() > 15);
    for text in all {
        assert!(!anonymised.contains(text), "{text} is still there");
    }
    assert!(!anonymised.contains("\\\"CN\\\""), "the country is still there");
}

#[test]
fn an_anonymised_export_gives_the_answers_of_the_export_but_for_what_it_says_of_people() {
    let export = lines(&export());
    let (anonymised, _) = run("anonymise", &export);
    let before = answers(&export);
    let mut sorted: Vec<&str> = anonymised.lines().collect();
    sorted.sort_by_key(|line| {
        serde_json::from_str::<Value>(line).unwrap()["Item"]["stream"]["S"].as_str().unwrap().to_owned()
    });
    let after = answers(&sorted.join("\n"));
    for (stream, answer) in before.iter().filter(|(stream, _)| stream.starts_with("order#")) {
        let other = &after[stream];
        for field in ["version", "state", "next", "starts", "books"] {
            assert_eq!(answer[field], other[field], "{stream} {field}");
        }
        for field in ["status", "items", "payment", "total_amount", "rejection", "updated_at"] {
            assert_eq!(answer["view"][field], other["view"][field], "{stream} {field}");
        }
        assert_ne!(answer["view"]["customer"]["id"], other["view"]["customer"]["id"]);
        // The same customer has the same id, wherever it stands.
        let customer = format!("customer#{}", other["view"]["customer"]["id"].as_str().unwrap());
        let profile = &after[&customer]["state"]["profile"];
        assert_eq!(profile["email"].as_str().unwrap().len(), "anna@example.com".len());
        assert_eq!(profile["email"].as_str().unwrap().matches('@').count(), 1);
        assert!(anonymised.contains(&format!("customer:{}", other["view"]["customer"]["id"].as_str().unwrap())));
    }
    // Whoever has two of them cannot tell who is who.
    assert_ne!(run("anonymise", &export).0, anonymised);
}
