//! What this build makes of all orders that there are, as `make replay` asks it of an export that says nothing of people.

use std::{collections::HashMap, env, fs, path::Path, process::Command};

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::service::{Service, fresh_key, id_of, make, order};

fn dynamodb_json(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::S(text) => json!({"S": text}),
        AttributeValue::N(number) => json!({"N": number}),
        AttributeValue::L(values) => json!({"L": values.iter().map(dynamodb_json).collect::<Vec<_>>()}),
        other => panic!("the event table has no {other:?}"),
    }
}

/// Every commit that there is.
async fn export(service: &Service, folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    let items = service.scan("EVENTS_TABLE").await;
    let line = |item: &HashMap<String, AttributeValue>| {
        let item: serde_json::Map<String, Value> =
            item.iter().map(|(name, value)| (name.clone(), dynamodb_json(value))).collect();
        format!("{}\n", json!({"Item": item}))
    };
    fs::write(folder.join("all.json"), items.iter().map(line).collect::<String>()).unwrap();
    assert!(Command::new("gzip").arg(folder.join("all.json")).status().unwrap().success());
    fs::write(folder.join("manifest.json"), "{}").unwrap();
}

#[tokio::test]
async fn a_build_that_makes_something_else_of_an_order_is_told_which_and_what() {
    let service = Service::connect().await;
    let product = service.product(10).await;
    let id =
        service.place("customer-1", &fresh_key(), &order("customer-1", &product)).await.expect(201).text("order_id");
    service.await_status("customer-1", &id, &["confirmed"]).await;
    let folder = env::temp_dir().join(format!("replay-{}", Uuid::new_v4()));
    let (full, anonymised) = (folder.join("full"), folder.join("anonymised"));
    export(&service, &full).await;

    let replay = async |more: &[&str]| {
        let from = format!("FROM={}", anonymised.display());
        make(&[&["replay", from.as_str()][..], more].concat(), "").await
    };
    let (from, to) = (format!("FROM={}", full.display()), format!("TO={}", anonymised.display()));
    let (done, said) = make(&["replay", &from, "RECORD=1"], "").await;
    assert!(!done && said.contains("make anonymise"), "{said}");
    let (done, said) = make(&["anonymise", &from, &to], "").await;
    assert!(done, "{said}");
    let items = Command::new("gzip").arg("-dc").arg(anonymised.join("items.json.gz")).output().unwrap().stdout;
    let items = String::from_utf8(items).unwrap();
    assert!(items.contains(&id) && !items.contains(&id_of("customer-1")) && !items.contains("Secret Lane"));

    let (done, said) = replay(&["RECORD=1"]).await;
    assert!(done, "{said}");
    let answers = fs::read_to_string(anonymised.join("answers.jsonl")).unwrap();
    let of_it =
        answers.lines().find(|line| line.contains(&format!("\"order#{id}\""))).expect("the order has an answer");
    let answer: Value = serde_json::from_str(of_it).unwrap();
    assert_eq!((&answer["version"], &answer["state"]["course"]), (&json!(5), &json!("confirmed")));
    let (done, said) = replay(&[]).await;
    assert!(done && said.contains(" 0 of them with differences"), "{said}");

    // As if what is deployed had the order for paid only.
    let other = of_it.replace("\"status\":\"confirmed\"", "\"status\":\"paid\"");
    assert_ne!(of_it, other);
    fs::write(anonymised.join("answers.jsonl"), answers.replace(of_it, &other)).unwrap();
    let (done, said) = replay(&[]).await;
    assert!(!done && said.contains(&format!("order#{id} view.status: \"paid\" -> \"confirmed\"")), "{said}");
    let (done, said) = replay(&["ACCEPT=view.status"]).await;
    assert!(done && said.contains("view.status  (accepted)"), "{said}");
    fs::remove_dir_all(folder).unwrap();
}
