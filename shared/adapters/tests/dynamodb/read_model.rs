//! The generations of the read model lie side by side in the same tables.

use std::collections::HashMap;

use adapters::dynamodb::{Building, DynamoEventStore, DynamoOrderViews, DynamoReadModel, Generations};
use application::{
    event_store::{Commit, EventStore, Metadata, RecordedEvent, Segment, StreamId},
    ports::{Index, OrderViews, PlacedOrder, Posting},
    project_orders::{catch_up, project, reproject_order},
    rebuild_orders::{Progress, rebuild_page},
    search_orders::search_orders,
};
use aws_sdk_dynamodb::{Client, types::AttributeValue};
use chrono::{DateTime, TimeDelta};
use domain::{
    ids::{CustomerId, OrderId},
    order::{OrderEvent, OrderStatus},
    order_view::{CustomerView, OrderView},
    search::SearchQuery,
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
    Metadata::of_nobody(DateTime::UNIX_EPOCH)
}

fn view(id: OrderId) -> OrderView {
    let created = OrderEvent::OrderCreated(serde_json::from_value(created()).unwrap());
    OrderView::evolve(None, id, &created, 1, DateTime::UNIX_EPOCH).unwrap()
}

#[tokio::test]
async fn a_change_of_the_generations_is_made_once_and_known_to_whoever_asks_now() {
    let (_, model) = model().await;
    assert_eq!(model.generations_now().await.unwrap(), Generations::FIRST);
    let building = Some(Building { generation: 2, segments: 3, format: Building::FORMAT });
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
        format: 4,
        changed_at: DateTime::UNIX_EPOCH + TimeDelta::seconds(2),
    };
    assert!(model.change(began, switched).await.unwrap());
    assert_eq!(model.generations_now().await.unwrap(), switched);
    assert_eq!(switched.written().collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test]
async fn a_generation_that_does_not_say_what_it_was_built_as_is_of_the_last_version_that_did_not_say_it() {
    let (client, model) = model().await;
    let item = [("key", "generations"), ("changed_at", "2026-11-26T00:00:00Z")];
    let item = item.map(|(name, value)| (name.to_owned(), AttributeValue::S(value.to_owned())));
    let numbers = ["live", "last"].map(|name| (name.to_owned(), AttributeValue::N("2".to_owned())));
    let item = item.into_iter().chain(numbers).collect();
    client.put_item().table_name(ORDERS).set_item(Some(item)).send().await.unwrap();
    let generations = model.generations_now().await.unwrap();
    assert_eq!((generations.live, generations.format), (2, 3));
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
async fn a_generation_is_cleared_to_its_last_item_by_whoever_goes_on_and_no_other_loses_any() {
    let (client, model) = model().await;
    let building = Building { generation: 1, segments: 2, format: Building::FORMAT };
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
    // As far as another one was cleared does not count.
    model.clear(7, 20).await.unwrap();
    let (mut cleared, mut pages, mut done) = (0, 0, false);
    while !done {
        // Nobody hands on to the next one where that has to go on.
        let next = DynamoReadModel::new(client.clone(), ORDERS.to_owned(), INDEX.to_owned());
        let (count, is_last) = next.clear(1, 20).await.unwrap();
        (cleared, pages, done) = (cleared + count, pages + 1, is_last);
        assert!(pages < 100, "it does not get further");
    }
    // The views, the list of the customer's orders, the progress, and the postings; the counts have nothing yet.
    assert_eq!(cleared, 30 + 1 + 1 + 30);
    // Whoever has not heard that it is done looks at the last page once more.
    assert_eq!(model.clear(1, 20).await.unwrap(), (0, true));
    for (generation, there) in [(1, 0), (2, 30), (11, 30)] {
        let generation = model.generation(generation);
        assert_eq!(generation.views.load_many(&ids).await.unwrap().len(), there);
        assert_eq!(generation.index.customers("tea", 100).await.unwrap().len(), there);
    }
    let left = client.scan().table_name(ORDERS).consistent_read(true).send().await.unwrap().items.unwrap();
    assert!(left.iter().all(|item| !item["key"].as_s().unwrap().starts_with("1/")));
}

/// The items of generation 1 as versions before 2026-11-26 wrote them: of two orders of one customer, who was in their views.
async fn put_old_items(client: &Client, orders: &[OrderView]) {
    let put = async |table: &str, item: HashMap<String, AttributeValue>| {
        client.put_item().table_name(table).set_item(Some(item)).send().await.unwrap();
    };
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let number = |number: i64| AttributeValue::N(number.to_string());
    let mut places = Vec::new();
    for view in orders {
        let millis = view.created_at.timestamp_millis();
        places.extend([&millis.to_be_bytes()[..], view.id.uuid().as_bytes()].concat());
        let mut item = HashMap::from([
            ("key".to_owned(), text(&format!("1/order/{}", view.id))),
            ("version".to_owned(), number(view.version.try_into().unwrap())),
            ("customer_version".to_owned(), number(1)),
            ("customer".to_owned(), text("1/customer/anna")),
            ("status".to_owned(), text(view.status.name())),
            ("placed_at".to_owned(), number(millis)),
            ("view".to_owned(), text(&serde_json::to_string(view).unwrap())),
        ]);
        if view.is_open() {
            item.insert("open".to_owned(), text(&format!("1/{}", view.id.to_string().chars().last().unwrap())));
        }
        put(ORDERS, item).await;
        // Under each piece of the texts of an order, and one event among those of a day.
        let place = format!("{millis:016}/{}", view.id);
        let posting = [("term".to_owned(), text("1/search/ann")), ("place".to_owned(), text(&place))];
        put(INDEX, HashMap::from(posting)).await;
        let event = format!("{millis:016}/order#{}/0000000001", view.id);
        let event = [("term".to_owned(), text("1/event/OrderCreated/1970-01-01")), ("place".to_owned(), text(&event))];
        put(INDEX, HashMap::from(event)).await;
    }
    let bytes = |bytes: Vec<u8>| AttributeValue::B(bytes.into());
    let leaf = [("key".to_owned(), text("1/customer-orders/0/anna")), ("places".to_owned(), bytes(places.clone()))];
    put(ORDERS, HashMap::from(leaf)).await;
    let branch = [&0_u32.to_be_bytes()[..], &2_u32.to_be_bytes(), &places[..24]].concat();
    let root = [
        ("key".to_owned(), text("1/customer/anna")),
        ("version".to_owned(), number(2)),
        ("branches".to_owned(), bytes(branch)),
    ];
    put(ORDERS, HashMap::from(root)).await;
    let at_rest = orders.iter().find(|view| !view.is_open()).unwrap().id.to_string();
    let shard = at_rest.chars().last().unwrap();
    let count = [("key".to_owned(), text(&format!("1/count/{shard}"))), ("confirmed".to_owned(), number(1))];
    put(ORDERS, HashMap::from(count)).await;
}

/// Orders go on from the first moment of the new version to the last of the rebuild.
#[tokio::test]
async fn a_read_model_of_an_earlier_version_is_read_and_is_brought_over_by_a_rebuild() {
    let (client, model) = model().await;
    let store = DynamoEventStore::new(client.clone(), EVENTS.to_owned());
    let commit = async |id, version, event_type: &str, data: Value| {
        let events = vec![event(event_type, data)];
        let commit = Commit { stream: StreamId::order(id), version, events, metadata: metadata() };
        store.append(&commit).await.unwrap();
        commit
    };
    let anna = CustomerId::stored("anna");
    let profile = json!({"first_name": "Anna", "last_name": "Liu", "email": "anna@example.com"});
    let profile = event("CustomerProfileUpdated", profile);
    let (stream, events) = (StreamId::customer(&anna), vec![profile]);
    store.append(&Commit { stream, version: 1, events, metadata: metadata() }).await.unwrap();

    // The ids in their order, because all of these orders are of one time.
    let [confirmed, under_way, later] = [1, 2, 3].map(|id| OrderId::new(Uuid::from_u128(id)));
    let named = CustomerView { version: 1, first_name: Some("Anna".to_owned()), ..CustomerView::unknown(anna.clone()) };
    let mut old = Vec::new();
    for (id, status) in [(confirmed, OrderStatus::Confirmed), (under_way, OrderStatus::Created)] {
        commit(id, 1, "OrderCreated", created()).await;
        let mut view = view(id).with_customer(&named);
        if status == OrderStatus::Confirmed {
            commit(id, 2, "OrderConfirmed", json!({})).await;
            (view.status, view.version) = (status, 2);
        }
        old.push(view);
    }
    put_old_items(&client, &old).await;

    // Whatever was there is still read, and what is new comes beside it.
    let live = model.generation(1);
    for view in &old {
        assert_eq!(live.views.load(view.id).await.unwrap().as_ref(), Some(view));
    }
    let ids = async |views: &DynamoOrderViews| {
        let orders = views.customer_orders(&anna, 0, 9).await.unwrap();
        assert_eq!(orders.total, orders.orders.len());
        orders.orders.into_iter().map(|order| order.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(&live.views).await, [under_way, confirmed]);
    let with = async |views: &DynamoOrderViews, status| {
        let orders = views.customer_orders_with_status(&anna, status, 0, 9).await.unwrap().orders;
        orders.into_iter().map(|order| order.id).collect::<Vec<_>>()
    };
    assert_eq!(with(&live.views, OrderStatus::Confirmed).await, [confirmed]);
    let goes_on = commit(under_way, 2, "OrderConfirmed", json!({})).await;
    assert!(project(&store, &live, std::slice::from_ref(&goes_on)).await.failed.is_empty());
    let placed = commit(later, 1, "OrderCreated", created()).await;
    assert!(project(&store, &live, std::slice::from_ref(&placed)).await.failed.is_empty());
    assert_eq!(ids(&live.views).await, [later, under_way, confirmed]);
    assert_eq!(with(&live.views, OrderStatus::Confirmed).await, [under_way, confirmed]);
    assert_eq!(live.views.load(under_way).await.unwrap().unwrap().customer.first_name.as_deref(), Some("Anna"));

    // One order more while the rebuild is half done; it comes both ways, as it does from the stream.
    let next = model.generation(2);
    let mut progress = Progress::default();
    let segment = Segment { number: 0, of: 1 };
    let mut last = None;
    while !progress.done {
        progress = rebuild_page(&store, &next, segment, progress, 2).await.unwrap();
        if last.is_none() {
            let id = OrderId::new(Uuid::from_u128(4));
            let placed = commit(id, 1, "OrderCreated", created()).await;
            for generation in [&next, &live] {
                assert!(project(&store, generation, std::slice::from_ref(&placed)).await.failed.is_empty());
            }
            last = Some(id);
        }
    }
    let all = [last.unwrap(), later, under_way, confirmed];
    for views in [&live.views, &next.views] {
        assert_eq!(ids(views).await, all);
    }
    assert_eq!(with(&next.views, OrderStatus::Confirmed).await, [under_way, confirmed]);
    let counts = next.views.count().await.unwrap();
    assert_eq!((counts[&OrderStatus::Confirmed], counts[&OrderStatus::Created]), (2, 2));
    let found = search_orders(&next.index, &next.views, &SearchQuery::parse("anna").unwrap(), 1, 20).await.unwrap();
    assert_eq!(
        (found.orders.iter().map(|order| order.id).collect::<Vec<_>>(), found.total_is_exact),
        (all.to_vec(), true)
    );
    assert!(found.orders.iter().all(|order| order.customer.last_name.as_deref() == Some("Liu")));
    assert_eq!(next.index.newest("OrderCreated", None, None, 9).await.unwrap().len(), 4);
    assert_eq!(next.index.newest("OrderConfirmed", None, None, 9).await.unwrap().len(), 2);
}
