//! The generations of the read model lie side by side in the same tables.

use adapters::dynamodb::{Building, DynamoEventStore, DynamoReadModel, Generations};
use application::{
    event_store::{Commit, EventStore, Metadata, RecordedEvent, StreamId},
    ports::{Index, OrderViews, PlacedOrder, Posting},
    project_orders::{catch_up, reproject_order},
    rebuild_orders::Progress,
};
use aws_sdk_dynamodb::{Client, types::AttributeValue};
use chrono::{DateTime, TimeDelta};
use domain::{
    ids::{CustomerId, OrderId},
    order::{OrderEvent, OrderStatus},
    order_view::OrderView,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{self, EVENTS, INDEX, ORDERS, watched};

async fn model() -> (Client, DynamoReadModel) {
    let client = Client::from_conf(support::database().await);
    (client.clone(), DynamoReadModel::new(client, ORDERS.to_owned(), INDEX.to_owned()))
}

fn created() -> Value {
    let address = json!({"street": "s", "city": "c", "state": "s", "country": "CN", "postal_code": "1"});
    json!({
        "customer_id": "anna", "items": [], "shipping_address": address, "payment_method": "pm_card_visa",
        "total_amount": {"amount": 1, "currency": "CNY"}, "created_at": DateTime::UNIX_EPOCH,
    })
}

fn event(event_type: &str, data: Value) -> RecordedEvent {
    RecordedEvent { event_type: event_type.to_owned(), schema: 1, data }
}

/// Of a command of its own.
fn metadata() -> Metadata {
    Metadata {
        command_id: Uuid::new_v4(),
        fingerprint: String::new(),
        actor: String::new(),
        correlation_id: String::new(),
        causation_id: String::new(),
        traceparent: None,
        occurred_at: DateTime::UNIX_EPOCH,
    }
}

fn view(id: OrderId) -> OrderView {
    let created = OrderEvent::OrderCreated(serde_json::from_value(created()).unwrap());
    OrderView::evolve(None, id, &created, 1, DateTime::UNIX_EPOCH).unwrap()
}

#[tokio::test]
async fn a_change_of_the_generations_is_made_once_and_known_to_whoever_asks_now() {
    let (_, model) = model().await;
    assert_eq!(model.generations_now().await.unwrap(), Generations::FIRST);
    let building = Some(Building { generation: 2, segments: 3 });
    let began =
        Generations { building, changed_at: DateTime::UNIX_EPOCH + TimeDelta::seconds(1), ..Generations::FIRST };
    assert!(model.change(Generations::FIRST, began).await.unwrap());
    assert!(model.change(Generations::FIRST, began).await.unwrap(), "the same again is the same");
    let other = Generations { changed_at: DateTime::UNIX_EPOCH + TimeDelta::seconds(9), ..began };
    assert!(!model.change(Generations::FIRST, other).await.unwrap(), "somebody else was faster");
    assert_eq!(model.generations_now().await.unwrap(), began);
    assert_eq!(began.written().collect::<Vec<_>>(), [2, 1]);
    let switched = Generations {
        live: 2,
        building: None,
        outgoing: Some(1),
        clearing: None,
        last: 2,
        changed_at: DateTime::UNIX_EPOCH + TimeDelta::seconds(2),
    };
    assert!(model.change(began, switched).await.unwrap());
    assert_eq!(model.generations_now().await.unwrap(), switched);
    assert_eq!(switched.written().collect::<Vec<_>>(), [1, 2]);
}

/// The customer's list and the counts still have the order: they must not have it twice.
#[tokio::test]
async fn an_order_whose_view_is_lost_is_projected_again_and_is_listed_and_counted_once() {
    let (client, model) = model().await;
    let store = DynamoEventStore::new(client.clone(), EVENTS.to_owned());
    let id = OrderId::new(Uuid::new_v4());
    for (version, event) in [(1, event("OrderCreated", created())), (2, event("OrderConfirmed", json!({})))] {
        let commit = Commit { stream: StreamId::order(id), version, events: vec![event], metadata: metadata() };
        store.append(&commit).await.unwrap();
    }
    let model = model.generation(1);
    let there = async || {
        let orders = model.views.customer_orders(&CustomerId::parse("anna").unwrap(), 0, 9).await.unwrap();
        (model.views.load(id).await.unwrap(), orders, model.views.count().await.unwrap())
    };
    assert_eq!(reproject_order(&store, &model, id).await.unwrap(), Some(2));
    let before = there().await;
    assert_eq!(before.1.orders, before.0.iter().map(PlacedOrder::of).collect::<Vec<_>>());
    assert_eq!(before.2[&OrderStatus::Confirmed], 1);
    client
        .delete_item()
        .table_name(ORDERS)
        .key("key", AttributeValue::S(format!("1/order/{id}")))
        .send()
        .await
        .unwrap();
    assert_eq!(model.views.load(id).await.unwrap(), None);
    for _ in 0..2 {
        reproject_order(&store, &model, id).await.unwrap();
        assert_eq!(there().await, before);
    }
}

#[tokio::test]
async fn a_view_that_is_behind_is_brought_up_and_one_that_is_not_costs_two_reads() {
    let (client, wire) = watched();
    let store = DynamoEventStore::new(client.clone(), EVENTS.to_owned());
    let model = DynamoReadModel::new(client, ORDERS.to_owned(), INDEX.to_owned()).generation(1);
    let id = OrderId::new(Uuid::new_v4());
    for (version, event) in [(1, event("OrderCreated", created())), (2, event("OrderConfirmed", json!({})))] {
        let commit = Commit { stream: StreamId::order(id), version, events: vec![event], metadata: metadata() };
        store.append(&commit).await.unwrap();
        assert!(catch_up(&store, &model, id).await.unwrap());
        assert_eq!(model.views.load(id).await.unwrap().unwrap().version, version);
        wire.calls();
        assert!(!catch_up(&store, &model, id).await.unwrap());
        assert_eq!(wire.calls(), ["GetItem", "Query"]);
    }
}

#[tokio::test]
async fn a_generation_is_cleared_to_its_last_item_and_no_other_loses_any() {
    let (client, model) = model().await;
    let building = Building { generation: 1, segments: 2 };
    let progress = Progress { events: 7, ..Progress::default() };
    model.save_progress(building, 1, &progress).await.unwrap();
    assert_eq!(model.progress(building).await.unwrap(), [Progress::default(), progress]);
    let ids: Vec<OrderId> = (0..30).map(|_| OrderId::new(Uuid::new_v4())).collect();
    // Number 11 begins as number 1 does.
    for generation in [1, 2, 11] {
        let generation = model.generation(generation);
        for id in &ids {
            generation.views.list(&view(*id)).await.unwrap();
            generation.views.save(&view(*id), None).await.unwrap();
            let (term, customer) = ("tea".to_owned(), CustomerId::stored(id.to_string()));
            generation.index.add(&[Posting { term, customer, text: String::new() }]).await.unwrap();
        }
    }
    let (mut cleared, mut after) = (0, None);
    for _ in 0..100 {
        let (count, next) = model.clear(1, after, 20).await.unwrap();
        (cleared, after) = (cleared + count, next);
        if after.is_none() {
            break;
        }
    }
    // The views, the list of the customer's orders, the progress, and the postings; the counts have nothing yet.
    assert_eq!((cleared, after), (30 + 1 + 1 + 30, None));
    for (generation, there) in [(1, 0), (2, 30), (11, 30)] {
        let generation = model.generation(generation);
        assert_eq!(generation.views.load_many(&ids).await.unwrap().len(), there);
        assert_eq!(generation.index.customers("tea", 100).await.unwrap().len(), there);
    }
    let left = client.scan().table_name(ORDERS).consistent_read(true).send().await.unwrap().items.unwrap();
    assert!(left.iter().all(|item| !item["key"].as_s().unwrap().starts_with("1/")));
}
