//! How many remote calls a piece of work costs, and which. A change of these numbers is a change of price and latency.

use std::{collections::HashMap, sync::Arc, time::Duration};

use adapters::{
    dynamodb::{
        DynamoCounters, DynamoDeadLetters, DynamoEventStore, DynamoIndex, DynamoInventory, DynamoOrderViews,
        DynamoProcesses, DynamoReadModel, DynamoSnapshots,
    },
    lambda::{Unreadable, consume_batch},
    tally::Tally,
};
use application::{
    create_order::{OrderPlaced, create_order},
    dead_letters::NotHandled,
    event_store::{Commit, EventStore, Metadata, RecordedEvent, StreamId, fingerprint},
    event_stream::CustomerStream,
    list_events::{EventsWanted, list_events},
    memory::{MemoryEventBus, MemoryIndex, MemoryOrderViews},
    order_history::{Until, order_history},
    past_commits::PastCommits,
    ports::{
        Catalogue, ChargeCancellation, ChargeRequest, Consumer, Counters, DeadLetters, Failure, Index, Inventory,
        OrderViews, Payments, Posting, Process, Processes, ReadModel, RefundRequest, ShipmentRequest, Shipping,
        Standing, StockAdjustment, StockLine,
    },
    project_orders::{postings_of, project},
    publish_events::{Published, publish_events},
    search_orders::search_orders,
    shop::Shop,
    take_snapshot::{Taken, take_snapshot},
};
use aws_sdk_dynamodb::types::AttributeValue;
use chrono::{DateTime, Utc};
use domain::{
    customer::Customer,
    ids::{AdjustmentId, CustomerId, OrderId, PaymentMethod, ProductId},
    money::{Currency, Money, Quantity},
    order::{
        OrderEvent, OrderStatus,
        create::{CreateOrder, RequestedItem, RequestedItems},
    },
    order_view::{CustomerView, OrderView},
    product::{Product, StockChange},
    search::SearchQuery,
    text::Text,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    COUNTERS, DEAD_LETTERS, EVENTS, Fault, INDEX, INVENTORY, ORDERS, SNAPSHOTS, payments_of, shipping_of, watched,
};

fn order_id() -> OrderId {
    OrderId::new(Uuid::new_v4())
}

fn price() -> Money {
    Money::new(1999, Currency::parse("CNY").unwrap()).unwrap()
}

fn product_ids(count: usize) -> Vec<ProductId> {
    (0..count).map(|number| ProductId::parse(&format!("tea-{number}")).unwrap()).collect()
}

async fn stocked(inventory: &DynamoInventory, count: usize) -> Vec<ProductId> {
    let ids = product_ids(count);
    for id in &ids {
        let product = Product { id: id.clone(), name: Text::parse("Tea").unwrap(), price: price(), stock: 10 };
        inventory.put_product(&product).await.unwrap();
    }
    ids
}

fn lines(ids: &[ProductId]) -> Vec<StockLine> {
    ids.iter().map(|id| StockLine { product_id: id.clone(), quantity: Quantity::new(1).unwrap() }).collect()
}

async fn place(
    store: &impl EventStore,
    catalogue: &impl Catalogue,
    id: OrderId,
    products: &[ProductId],
) -> OrderPlaced {
    let now = DateTime::<Utc>::UNIX_EPOCH;
    let items: Vec<RequestedItem> = products
        .iter()
        .map(|id| RequestedItem { product_id: id.clone(), quantity: Quantity::new(2).unwrap(), unit_price: None })
        .collect();
    let address = json!({"street": "s", "city": "c", "state": "s", "country": "CN", "postal_code": "1"});
    let command = CreateOrder {
        customer_id: CustomerId::parse("anna").unwrap(),
        items: RequestedItems::new(items).unwrap(),
        shipping_address: serde_json::from_value(address).unwrap(),
        payment_method: PaymentMethod::default(),
        catalogue: catalogue.products(products).await.unwrap(),
        providers: domain::provider::OrderProviders::default(),
        now,
    };
    let metadata = Metadata {
        command_id: application::create_order::command_id(id),
        fingerprint: fingerprint(&products).unwrap(),
        actor: "customer:anna".to_owned(),
        correlation_id: "c".to_owned(),
        causation_id: "c".to_owned(),
        traceparent: None,
        occurred_at: now,
    };
    create_order(store, id, &metadata, &command).await.unwrap()
}

#[tokio::test]
async fn an_order_costs_one_read_of_the_catalogue_and_one_write_also_when_it_is_repeated() {
    let (client, wire) = watched();
    let store = DynamoEventStore::new(client.clone(), EVENTS.to_owned());
    let catalogue = DynamoInventory::new(client, INVENTORY.to_owned());
    let products = stocked(&catalogue, 3).await;
    let id = order_id();
    for replayed in [false, true] {
        wire.calls();
        assert_eq!(place(&store, &catalogue, id, &products).await.replayed, replayed);
        assert_eq!(wire.calls(), ["BatchGetItem", "PutItem"]);
    }
}

#[tokio::test]
async fn an_order_view_costs_one_read() {
    let (client, wire) = watched();
    DynamoOrderViews::new(client, ORDERS.to_owned(), 1).load(order_id()).await.unwrap();
    assert_eq!(wire.calls(), ["GetItem"]);
}

#[tokio::test]
async fn an_adjustment_of_a_stock_costs_one_read_and_one_transaction_and_only_the_read_when_it_is_repeated() {
    let (client, wire) = watched();
    let inventory = DynamoInventory::new(client, INVENTORY.to_owned());
    let id = stocked(&inventory, 1).await.remove(0);
    wire.calls();
    inventory.describe_product(&id, &Text::parse("Tea").unwrap(), price()).await.unwrap();
    assert_eq!(wire.calls(), ["UpdateItem"]);
    let adjustment = StockAdjustment {
        id: AdjustmentId(Uuid::new_v4()),
        product_id: id,
        change: StockChange::By(-3),
        reason: Text::parse("damp").unwrap(),
        actor: "staff:anna".to_owned(),
        at: DateTime::UNIX_EPOCH,
    };
    inventory.adjust_stock(&adjustment).await.unwrap();
    assert_eq!(wire.calls(), ["TransactGetItems", "TransactWriteItems"]);
    inventory.adjust_stock(&adjustment).await.unwrap();
    assert_eq!(wire.calls(), ["TransactGetItems"]);
}

#[tokio::test]
async fn a_page_of_products_costs_one_query_and_one_read_however_much_lies_beside_them() {
    let (client, wire) = watched();
    let inventory = DynamoInventory::new(client, INVENTORY.to_owned());
    let ids = stocked(&inventory, 5).await;
    for _ in 0..10 {
        inventory.reserve(order_id(), &lines(&ids)).await.unwrap();
    }
    wire.calls();
    let first = inventory.list_products(None, 3).await.unwrap();
    assert_eq!(wire.calls(), ["Query", "BatchGetItem"]);
    let second = inventory.list_products(first.next.as_ref(), 3).await.unwrap();
    assert_eq!(wire.calls(), ["Query", "BatchGetItem"]);
    let listed: Vec<ProductId> = first.products.into_iter().chain(second.products).map(|product| product.id).collect();
    assert_eq!((listed, second.next), (ids, None));
    inventory.list_products(Some(&ProductId::parse("z").unwrap()), 3).await.unwrap();
    assert_eq!(wire.calls(), ["Query"]);
}

#[tokio::test]
async fn a_reservation_costs_one_transaction() {
    let (client, wire) = watched();
    let inventory = DynamoInventory::new(client, INVENTORY.to_owned());
    for count in [1, 3, 99] {
        let lines = lines(&stocked(&inventory, count).await);
        wire.calls();
        inventory.reserve(order_id(), &lines).await.unwrap();
        assert_eq!(wire.calls(), ["TransactWriteItems"]);
    }
}

#[tokio::test]
async fn a_reservation_of_more_lines_than_a_transaction_holds_costs_two() {
    let (client, wire) = watched();
    let inventory = DynamoInventory::new(client, INVENTORY.to_owned());
    let lines = lines(&stocked(&inventory, 100).await);
    let order = order_id();
    wire.calls();
    inventory.reserve(order, &lines).await.unwrap();
    assert_eq!(wire.calls(), ["TransactWriteItems", "TransactWriteItems"]);
    inventory.release(order).await.unwrap();
    assert_eq!(wire.calls(), ["GetItem", "TransactWriteItems", "TransactWriteItems"]);
}

#[tokio::test]
async fn a_shortage_and_a_repeated_reservation_cost_one_read_more() {
    let (client, wire) = watched();
    let inventory = DynamoInventory::new(client, INVENTORY.to_owned());
    let lines = lines(&stocked(&inventory, 1).await);
    let unknown = [StockLine { product_id: ProductId::parse("unknown").unwrap(), ..lines[0].clone() }];
    let order = order_id();
    inventory.reserve(order, &lines).await.unwrap();
    wire.calls();
    inventory.reserve(order, &lines).await.unwrap();
    assert_eq!(wire.calls(), ["TransactWriteItems", "TransactGetItems"]);
    inventory.reserve(order_id(), &unknown).await.unwrap_err();
    assert_eq!(wire.calls(), ["TransactWriteItems", "TransactGetItems"]);
}

#[tokio::test]
async fn a_charge_costs_one_write_also_when_it_is_repeated() {
    let (client, wire) = watched();
    let payments = payments_of(client);
    let request = charge();
    for _ in 0..2 {
        payments.charge(&request).await.unwrap();
        assert_eq!(wire.calls(), ["PutItem"]);
    }
}

#[tokio::test]
async fn a_slow_charge_takes_two_seconds_and_one_write() {
    let (client, wire) = watched();
    let payments = payments_of(client);
    let started = std::time::Instant::now();
    let request = ChargeRequest { payment_method: PaymentMethod::parse("pm_slow").unwrap(), ..charge() };
    payments.charge(&request).await.unwrap();
    assert_eq!(wire.calls(), ["PutItem"]);
    assert!(started.elapsed().as_secs() >= 2);
}

#[tokio::test]
async fn a_call_that_the_sandbox_was_asked_to_fail_costs_one_write_to_count() {
    let (client, wire) = watched();
    let payments = payments_of(client);
    let request = ChargeRequest { payment_method: PaymentMethod::parse("pm_fails_twice").unwrap(), ..charge() };
    for _ in 0..2 {
        payments.charge(&request).await.unwrap_err();
        assert_eq!(wire.calls(), ["UpdateItem"]);
    }
    payments.charge(&request).await.unwrap();
    assert_eq!(wire.calls(), ["UpdateItem", "PutItem"]);
}

fn charge() -> ChargeRequest {
    ChargeRequest {
        idempotency_key: Uuid::new_v4(),
        order_id: order_id(),
        customer_id: CustomerId::parse("anna").unwrap(),
        payment_method: PaymentMethod::default(),
        amount: price(),
    }
}

#[tokio::test]
async fn a_cancellation_of_a_charge_costs_a_read_and_a_write_and_a_read_when_it_is_repeated() {
    let (client, wire) = watched();
    let payments = payments_of(client);
    let request = charge();
    let cancellation = ChargeCancellation {
        order_id: request.order_id,
        charge_key: request.idempotency_key,
        refund_key: Uuid::new_v4(),
    };
    let barred = ChargeCancellation { charge_key: Uuid::new_v4(), ..cancellation.clone() };
    payments.charge(&request).await.unwrap();
    wire.calls();
    payments.cancel_charge(&cancellation).await.unwrap();
    assert_eq!(wire.calls(), ["TransactGetItems", "TransactWriteItems"]);
    payments.cancel_charge(&cancellation).await.unwrap();
    assert_eq!(wire.calls(), ["TransactGetItems"]);
    payments.cancel_charge(&barred).await.unwrap();
    assert_eq!(wire.calls(), ["TransactGetItems", "PutItem"]);
    payments.cancel_charge(&barred).await.unwrap();
    assert_eq!(wire.calls(), ["TransactGetItems"]);
}

#[tokio::test]
async fn a_refund_costs_a_read_and_a_write() {
    let (client, wire) = watched();
    let payments = payments_of(client);
    let request = charge();
    payments.charge(&request).await.unwrap();
    wire.calls();
    let refund = RefundRequest {
        idempotency_key: Uuid::new_v4(),
        order_id: request.order_id,
        charge_key: request.idempotency_key,
        amount: request.amount,
    };
    payments.refund(&refund).await.unwrap();
    assert_eq!(wire.calls(), ["TransactGetItems", "TransactWriteItems"]);
}

#[tokio::test]
async fn the_open_orders_cost_one_query_for_each_part_of_their_index() {
    let (client, wire) = watched();
    let views = DynamoOrderViews::new(client, ORDERS.to_owned(), 1);
    views.open_orders(Standing::UnderWay, DateTime::UNIX_EPOCH, None, 1_000).await.unwrap();
    assert_eq!(wire.calls(), ["Query"; 16]);
}

#[tokio::test]
async fn a_shipment_costs_one_write_and_its_cancellation_one_or_two() {
    let (client, wire) = watched();
    let shipping = shipping_of(client);
    let address = json!({"street": "s", "city": "c", "state": "s", "country": "CN", "postal_code": "1"});
    let request = ShipmentRequest {
        idempotency_key: Uuid::new_v4(),
        order_id: order_id(),
        address: serde_json::from_value(address).unwrap(),
        lines: Vec::new(),
    };
    for _ in 0..2 {
        shipping.create_shipment(&request).await.unwrap();
        assert_eq!(wire.calls(), ["PutItem"]);
    }
    shipping.cancel_shipment(request.order_id, request.idempotency_key).await.unwrap();
    assert_eq!(wire.calls(), ["PutItem", "UpdateItem"]);
    shipping.cancel_shipment(request.order_id, request.idempotency_key).await.unwrap();
    assert_eq!(wire.calls(), ["PutItem"]);
    shipping.cancel_shipment(request.order_id, Uuid::new_v4()).await.unwrap();
    assert_eq!(wire.calls(), ["PutItem"]);
    let arriving = ShipmentRequest { idempotency_key: Uuid::new_v4(), ..request };
    shipping.create_shipment(&arriving).await.unwrap();
    wire.calls();
    shipping.confirm_delivery(arriving.idempotency_key).await.unwrap();
    assert_eq!(wire.calls(), ["UpdateItem"]);
}

/// A commit of one event.
fn commit(stream: &StreamId, version: u64, event_type: &str, data: Value) -> Commit {
    Commit {
        stream: stream.clone(),
        version,
        events: vec![RecordedEvent { event_type: event_type.to_owned(), schema: 1, data }],
        metadata: Metadata::of_nobody(DateTime::UNIX_EPOCH),
    }
}

#[tokio::test]
async fn a_stream_costs_one_query_per_megabyte() {
    let (client, wire) = watched();
    let store = DynamoEventStore::new(client, EVENTS.to_owned());
    let stream = StreamId::order(order_id());
    for version in 1..=4 {
        let commit = commit(&stream, version, "Large", json!({"padding": "x".repeat(300 * 1024)}));
        store.append(&commit).await.unwrap();
    }
    wire.calls();
    assert_eq!(store.read(&stream, 0).await.unwrap().len(), 4);
    assert_eq!(wire.calls(), ["Query", "Query"]);
    assert_eq!(store.read(&stream, 3).await.unwrap().len(), 1);
    assert_eq!(wire.calls(), ["Query"]);
}

#[tokio::test]
async fn a_short_stream_is_loaded_in_one_call_and_a_long_one_from_its_snapshot_in_three() {
    let (client, wire) = watched();
    let snapshots = DynamoSnapshots::new(client.clone(), SNAPSHOTS.to_owned());
    let store = DynamoEventStore::new(client.clone(), EVENTS.to_owned()).with_snapshots(SNAPSHOTS.to_owned());
    let anna = CustomerId::parse("anna").unwrap();
    let stream = StreamId::customer(&anna);
    let open = async |version: u64| {
        wire.calls();
        assert_eq!(CustomerStream::open(&store, anna.clone()).await.unwrap().version(), version);
        wire.calls()
    };
    let take = async |version: u64| {
        wire.calls();
        let taken = take_snapshot::<Customer>(&store, &snapshots, anna.clone(), version).await.unwrap();
        (taken, wire.calls())
    };
    assert_eq!(open(0).await, ["Query"]);
    for version in 1..=1_000 {
        let data = json!({"first_name": "Anna", "last_name": version.to_string(), "email": "anna@example.com"});
        store.append(&commit(&stream, version, "CustomerProfileUpdated", data)).await.unwrap();
        match version {
            99 => assert_eq!(open(99).await, ["Query"]),
            101 => assert_eq!(open(101).await, ["Query", "GetItem", "Query"]),
            950 => {
                let (taken, calls) = take(950).await;
                assert_eq!(taken, Taken::Now);
                assert_eq!(calls, ["GetItem", "Query", "GetItem", "Query", "PutItem"]);
            }
            _ => {}
        }
    }
    assert_eq!(open(1_000).await, ["Query", "GetItem", "Query"]);
    assert_eq!(take(1_000).await, (Taken::NotDue, vec!["GetItem".to_owned()]));
    let without = DynamoEventStore::new(client, EVENTS.to_owned());
    wire.calls();
    let told = CustomerStream::open(&without, anna.clone()).await.unwrap().snapshot().unwrap();
    assert_eq!(wire.calls(), ["Query", "Query"]);
    assert_eq!(CustomerStream::open(&store, anna).await.unwrap().snapshot().unwrap(), told);
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_had_or_read_costs_a_call_and_nothing_else() {
    let (client, wire) = watched();
    let store = DynamoEventStore::new(client.clone(), EVENTS.to_owned()).with_snapshots(SNAPSHOTS.to_owned());
    let anna = CustomerId::parse("anna").unwrap();
    for version in 1..=101 {
        let data = json!({"first_name": "Anna", "last_name": "Wang", "email": "anna@example.com"});
        let commit = commit(&StreamId::customer(&anna), version, "CustomerProfileUpdated", data);
        store.append(&commit).await.unwrap();
    }
    let put = client.put_item().table_name(SNAPSHOTS).item("stream", AttributeValue::S("customer#anna".to_owned()));
    put.item("version", AttributeValue::N("101".to_owned())).send().await.unwrap();
    for fault in [None, Some(Fault::NotSent)] {
        wire.calls();
        if let Some(fault) = fault {
            wire.fail(1, fault);
        }
        assert_eq!(CustomerStream::open(&store, anna.clone()).await.unwrap().version(), 101);
        assert_eq!(wire.calls(), ["Query", "GetItem", "Query"]);
    }
}

#[tokio::test]
async fn postings_cost_one_write_for_each_twenty_five_and_a_list_of_customers_one_query() {
    let (client, wire) = watched();
    let index = DynamoIndex::new(client, INDEX.to_owned(), 1);
    let posting = |number: usize| Posting {
        term: "tea".to_owned(),
        customer: CustomerId::stored(number.to_string()),
        text: String::new(),
    };
    let postings: Vec<Posting> = (0..51).map(posting).collect();
    index.add(&postings).await.unwrap();
    assert_eq!(wire.calls(), ["BatchWriteItem"; 3]);
    for (limit, calls) in [(0, 0), (1, 1), (51, 1), (1_000, 1)] {
        index.customers("tea", limit).await.unwrap();
        assert_eq!(wire.calls(), vec!["Query"; calls], "{limit}");
    }
    index.remove(&postings).await.unwrap();
    assert_eq!(wire.calls(), ["BatchWriteItem"; 3]);
    index.add(&[]).await.unwrap();
    assert_eq!(wire.calls().len(), 0);
}

fn anna() -> CustomerView {
    let unknown = CustomerView::unknown(CustomerId::stored("anna"));
    let (email, first_name) = (Some("anna.liu@example.com".to_owned()), Some("Anna".to_owned()));
    CustomerView { version: 1, email, first_name, last_name: Some("Liu".to_owned()), ..unknown }
}

#[tokio::test]
async fn a_page_of_a_search_costs_six_reads_at_most_whatever_the_number_of_orders() {
    let (client, wire) = watched();
    let index = DynamoIndex::new(client.clone(), INDEX.to_owned(), 1);
    let views = DynamoOrderViews::new(client, ORDERS.to_owned(), 1);
    index.add(&postings_of(&anna())).await.unwrap();
    views.save_customer(&anna()).await.unwrap();
    let query = SearchQuery::parse("anna").unwrap();
    let mut placed = 0;
    for count in [30, 300] {
        while placed < count {
            let view = view_of_anna(placed);
            views.list(&view).await.unwrap();
            views.save(&view, None).await.unwrap();
            placed += 1;
        }
        wire.calls();
        let found = search_orders(&index, &views, &query, 1, 50).await.unwrap();
        let total = usize::try_from(count).unwrap();
        assert_eq!((found.orders.len(), found.total_count, found.total_is_exact), (total.min(50), total, true));
        // The customers, their newest orders, those that the head has no room for, the views, the customers of the views.
        let older = ["GetItem", "BatchGetItem"].repeat(usize::from(count == 300));
        let calls = [vec!["Query", "GetItem"], older, vec!["BatchGetItem"; 2]].concat();
        assert_eq!(wire.calls(), calls);
    }
    let nobody = SearchQuery::parse("nobody").unwrap();
    search_orders(&index, &views, &nobody, 1, 20).await.unwrap();
    assert_eq!(wire.calls(), ["Query"]);
}

/// The order of this number, by Anna.
fn view_of_anna(number: i64) -> OrderView {
    let created_at = DateTime::from_timestamp_millis(number).unwrap();
    let created = serde_json::from_value(json!({
        "customer_id": "anna",
        "items": [],
        "shipping_address": {"street": "s", "city": "c", "state": "s", "country": "CN", "postal_code": "1"},
        "payment_method": "pm_card_visa",
        "total_amount": {"amount": 1, "currency": "CNY"},
        "created_at": created_at,
    }));
    let created = OrderEvent::OrderCreated(created.unwrap());
    OrderView::evolve(None, order_id(), &created, 1, created_at).unwrap()
}

/// The figures of docs/adr/0032. The customer has an address of 20 characters and two short names.
#[tokio::test]
async fn a_profile_costs_one_write_unit_in_the_index_for_each_of_its_terms() {
    let (client, wire) = watched();
    let index = DynamoIndex::new(client.clone(), INDEX.to_owned(), 1);
    let postings = postings_of(&anna());
    index.add(&postings).await.unwrap();
    assert_eq!((postings.len(), wire.calls()), (24, vec!["BatchWriteItem".into(); 1]));
    // A write unit is a kilobyte, and every item is smaller.
    let scan = client.scan().table_name(INDEX).send().await.unwrap();
    assert_eq!(scan.items().len(), postings.len());
    assert!(scan.items().iter().all(|item| bytes_of(item) <= 128), "{:?}", scan.items());
}

fn bytes_of(item: &HashMap<String, AttributeValue>) -> usize {
    let bytes = |value: &AttributeValue| match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::B(bytes) => bytes.as_ref().len(),
        // No number has more digits here.
        AttributeValue::N(_) => 11,
        other => panic!("{other:?}"),
    };
    item.iter().map(|(name, value)| name.len() + bytes(value)).sum()
}

/// The order of docs/cost.md, with an address and names as people have them, in each of its states; and the list of its
/// customer, at the first order and among ten thousand.
#[tokio::test]
async fn what_a_commit_writes_into_the_read_model_is_a_write_unit_each() {
    let (shop, id) = (Shop::with_stock(10).await, order_id());
    shop.place(id, "pm_card_visa").await.unwrap();
    shop.fulfil(id, 1).await.unwrap();
    let mut commits = shop.store.all();
    let created = &mut commits[0].events[0].data;
    created["customer_id"] = json!("8f4c2b1e-6f0d-4a57-9d52-0c6f5c1f0b7a");
    let line = |name: &str| {
        json!({
            "product_id": "oolong-tea-250g", "name": name, "quantity": 2, "unit_price": {"amount": 1999, "currency": "CNY"}
        })
    };
    created["items"] = json!([line("Oolong tea from Anxi, 250 g"), line("Porcelain cup, blue and white")]);
    created["shipping_address"] = json!({
        "street": "1288 Nanjing West Road, Building 3, Room 1204", "city": "Shanghai", "state": "Shanghai",
        "country": "CN", "postal_code": "200040"
    });
    let customer = CustomerId::stored("8f4c2b1e-6f0d-4a57-9d52-0c6f5c1f0b7a");
    for before in [0, 10_000] {
        let (client, wire) = watched();
        let model = DynamoReadModel::new(client.clone(), ORDERS.to_owned(), INDEX.to_owned()).generation(1);
        for number in 0..before {
            let mut view = view_of_anna(number);
            (view.customer.id, view.status) = (customer.clone(), OrderStatus::Confirmed);
            model.views.list(&view).await.unwrap();
        }
        wire.calls();
        let mut calls = Vec::new();
        for commit in &commits {
            assert!(project(&shop.store, &model, std::slice::from_ref(commit)).await.failed.is_empty());
            let writes = |call: &String| matches!(call.as_str(), "PutItem" | "BatchWriteItem" | "TransactWriteItems");
            calls.push(wire.calls().into_iter().filter(writes).collect::<Vec<_>>());
        }
        let first = vec!["BatchWriteItem", "PutItem", "PutItem"];
        let next = vec!["BatchWriteItem", "PutItem"];
        let last = vec!["BatchWriteItem", "TransactWriteItems", "PutItem"];
        assert_eq!(calls, [first, next.clone(), next.clone(), next, last]);
        let scan = client.scan().table_name(ORDERS).into_paginator().items().send();
        let items: Vec<HashMap<String, AttributeValue>> = scan.try_collect().await.unwrap();
        let large = |item: &&HashMap<String, AttributeValue>| {
            let key = item["key"].as_s().unwrap();
            (key.starts_with("1/order/") || key.starts_with("1/newest/")) && bytes_of(item) > 1_024
        };
        assert_eq!(items.iter().find(large), None);
    }
}

#[tokio::test]
async fn a_page_of_events_costs_one_query_and_one_read_of_commits_whatever_the_window() {
    let (client, wire) = watched();
    let store = DynamoEventStore::new(client.clone(), EVENTS.to_owned());
    let catalogue = DynamoInventory::new(client.clone(), INVENTORY.to_owned());
    let index = DynamoIndex::new(client, INDEX.to_owned(), 1);
    let products = stocked(&catalogue, 1).await;
    let mut commits = Vec::new();
    for _ in 0..30 {
        let id = order_id();
        place(&store, &catalogue, id, &products).await;
        commits.extend(store.read(&StreamId::order(id), 0).await.unwrap());
    }
    wire.calls();
    index.list(&commits[..1]).await.unwrap();
    index.list(&commits).await.unwrap();
    assert_eq!(wire.calls(), ["BatchWriteItem"; 2], "those of one type and minute are one item");
    let from = DateTime::UNIX_EPOCH;
    for days in [1, 30] {
        let (event_type, to) = ("OrderCreated".to_owned(), from + chrono::TimeDelta::days(days));
        let wanted = EventsWanted { event_type, from, to, after: None };
        wire.calls();
        let page = list_events(&index, &store, &wanted, 20).await.unwrap();
        assert_eq!((page.events.len(), page.next.is_some()), (20, true));
        assert_eq!(wire.calls(), ["Query", "BatchGetItem"]);
    }
}

#[tokio::test]
async fn a_past_version_that_was_read_before_costs_no_call_and_anything_newer_one() {
    let (client, wire) = watched();
    let store = DynamoEventStore::new(client.clone(), EVENTS.to_owned());
    let catalogue = DynamoInventory::new(client, INVENTORY.to_owned());
    let (past, id) = (PastCommits::new(100_000), order_id());
    place(&store, &catalogue, id, &stocked(&catalogue, 1).await).await;
    for (until, known) in [(Until::Version(1), false), (Until::Version(1), true), (Until::Now, false)] {
        wire.calls();
        let (history, is_known) = order_history(&past, &store, id, until).await.unwrap();
        assert_eq!((history.unwrap().events.len(), is_known), (1, known));
        assert_eq!(wire.calls().len(), usize::from(!known));
    }
}

#[tokio::test]
async fn the_generations_cost_one_read_for_all_that_ask_in_a_while_and_how_often_is_counted_in_one_write() {
    let (client, wire) = watched();
    let tally = Arc::<Tally>::default();
    let model = DynamoReadModel::new(client.clone(), ORDERS.to_owned(), INDEX.to_owned()).with_tally(tally.clone());
    for _ in 0..3 {
        model.live().await.unwrap();
    }
    assert_eq!(wire.calls(), ["GetItem"]);
    let counters = DynamoCounters::new(client, COUNTERS.to_owned(), "get-order");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(5)).await;
    tokio::time::resume();
    tally.beside(&counters, async {}).await;
    assert_eq!(wire.calls(), ["UpdateItem"]);
    let counts = [("cache_hits_generations".to_owned(), 2), ("cache_misses_generations".to_owned(), 1)];
    assert_eq!(counters.read().await.unwrap(), counts.into());
    assert_eq!(wire.calls(), ["Scan"]);
}

#[tokio::test]
async fn what_a_process_has_used_costs_one_write_and_that_of_all_is_one_read() {
    let (client, wire) = watched();
    let processes = DynamoProcesses::new(client, COUNTERS.to_owned());
    let process = Process {
        function: "create-order".to_owned(),
        instance: Uuid::new_v4(),
        started_at: 0,
        memory_limit_bytes: 256 << 20,
        memory_bytes: 32 << 20,
        cpu_ms: 250,
        tmp_used_bytes: 0,
        tmp_free_bytes: 512 << 20,
    };
    processes.report(&process, Utc::now()).await.unwrap();
    assert_eq!(wire.calls(), ["UpdateItem"]);
    assert_eq!(processes.read(Utc::now()).await.unwrap(), [process]);
    assert_eq!(wire.calls(), ["Scan"]);
}

#[tokio::test]
async fn dead_letters_cost_a_publisher_one_query_for_all_streams_that_it_has_not_followed_from_their_beginning() {
    let (client, wire) = watched();
    let (letters, bus) = (DynamoDeadLetters::new(client, DEAD_LETTERS.to_owned()), MemoryEventBus::default());
    let streams = [order_id(), order_id()].map(StreamId::order);
    let costs = async |process: &Published, version: u64| {
        let commits: Vec<Commit> = streams.iter().map(|stream| commit(stream, version, "Any", json!({}))).collect();
        let outcome = publish_events(&bus, &letters, process, &commits).await;
        assert!(outcome.not_handled.is_empty(), "{outcome:?}");
        wire.calls()
    };
    let process = Published::default();
    for version in 1..=5 {
        assert_eq!(costs(&process, version).await.len(), 0);
    }
    let another = Published::default();
    assert_eq!(costs(&another, 6).await, ["Query"]);
    assert_eq!(costs(&another, 7).await.len(), 0, "it follows them by now");
    let failure = Failure { error_type: "Refused".to_owned(), error: "it was so".to_owned() };
    letters.park(Consumer::PublishEvents, &streams[0], (8, 8), &failure, Utc::now()).await.unwrap();
    assert_eq!(wire.calls(), ["GetItem", "PutItem"]);
    assert_eq!(costs(&Published::default(), 9).await, ["Query", "PutItem"], "one lines up");
}

#[tokio::test]
async fn dead_letters_cost_a_projection_nothing() {
    let (client, wire) = watched();
    let letters = DynamoDeadLetters::new(client, DEAD_LETTERS.to_owned());
    let (shop, id) = (Shop::with_stock(10).await, order_id());
    shop.place(id, "pm_card_visa").await.unwrap();
    shop.fulfil(id, 1).await.unwrap();
    let model = ReadModel::<MemoryOrderViews, MemoryIndex>::default();
    let consume = async |commits: Vec<Commit>| {
        assert!(project(&shop.store, &model, &commits).await.failed.is_empty());
        Vec::<NotHandled>::new()
    };
    for commit in shop.store.all() {
        let batch = (vec![commit], Unreadable::default());
        assert_eq!(consume_batch(Consumer::ProjectOrders, &letters, &consume, batch).await, 0);
    }
    assert!(model.views.load(id).await.unwrap().is_some());
    assert_eq!(wire.calls().len(), 0);
}
