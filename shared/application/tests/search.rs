//! Search finds what a plain scan finds, at a cost that goes with the page.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

use std::collections::BTreeMap;

use application::{
    event_store::{Commit, Metadata, RecordedEvent, StreamId},
    memory::{MemoryIndex, MemoryOrderViews},
    ports::{Index as _, OrderViews},
    project_orders::postings_of,
    search_orders::{FoundOrders, search_orders},
};
use chrono::{DateTime, TimeDelta};
use domain::{
    ids::{CustomerId, OrderId},
    order::{OrderCreated, OrderEvent},
    order_view::{CustomerView, OrderView},
    search::SearchQuery,
};
use proptest::{collection::vec, option, prelude::*, sample::Index, sample::select};
use serde_json::json;

/// A customer of this number, with an e-mail address, a first name and a last name.
fn customer(number: usize, texts: [Option<&str>; 3]) -> CustomerView {
    let [email, first_name, last_name] = texts.map(|text| text.map(str::to_owned));
    let unknown = CustomerView::unknown(CustomerId::stored(format!("customer-{number}")));
    CustomerView { version: 1, email, first_name, last_name, ..unknown }
}

/// An order of the customer, that was placed so many milliseconds after the others' beginning.
fn view(number: usize, millis: i64, customer: &CustomerView) -> OrderView {
    let created_at = DateTime::UNIX_EPOCH + TimeDelta::milliseconds(millis);
    let created: OrderCreated = serde_json::from_value(json!({
        "customer_id": customer.id,
        "items": [],
        "shipping_address": {"street": "s", "city": "c", "state": "s", "country": "CN", "postal_code": "1"},
        "payment_method": "pm_card_visa",
        "total_amount": {"amount": 1, "currency": "CNY"},
        "created_at": created_at,
    }))
    .unwrap();
    let id = OrderId::derive("anna", &number.to_string());
    OrderView::evolve(None, id, &OrderEvent::OrderCreated(created), 1, created_at).unwrap().with_customer(customer)
}

/// The commit that the order begins with, as far as the index is concerned.
fn placed(view: &OrderView) -> Commit {
    let event = RecordedEvent { event_type: "OrderCreated".to_owned(), schema: 1, data: json!({}) };
    Commit {
        stream: StreamId::order(view.id),
        version: 1,
        events: vec![event],
        metadata: Metadata::of_nobody(view.created_at),
    }
}

/// The index and the views of some orders.
#[derive(Default)]
struct Shop {
    index: MemoryIndex,
    views: MemoryOrderViews,
}

impl Shop {
    /// As projections leave it: the views without their customers, who are kept once.
    async fn with(orders: &[OrderView]) -> Self {
        let shop = Self::default();
        let customers: BTreeMap<&CustomerId, &CustomerView> =
            orders.iter().map(|view| (&view.customer.id, &view.customer)).collect();
        for customer in customers.into_values() {
            shop.views.save_customer(customer).await.unwrap();
            shop.index.add(&postings_of(customer)).await.unwrap();
        }
        for view in orders {
            let stored = OrderView { customer: CustomerView::unknown(view.customer.id.clone()), ..view.clone() };
            shop.views.list(&stored).await.unwrap();
            shop.views.save(&stored, None).await.unwrap();
        }
        shop.index.list(&orders.iter().map(placed).collect::<Vec<_>>()).await.unwrap();
        shop
    }

    async fn page(&self, query: &SearchQuery, page: usize, page_size: usize) -> FoundOrders {
        search_orders(&self.index, &self.views, query, page, page_size).await.unwrap()
    }

    /// All pages, one after the other.
    async fn all(&self, query: &SearchQuery, page_size: usize) -> Vec<OrderView> {
        let mut orders = Vec::new();
        for page in 1.. {
            let found = self.page(query, page, page_size).await;
            orders.extend(found.orders);
            if !found.more {
                break;
            }
            assert!(!found.total_is_exact || found.total_count > orders.len());
            assert_eq!(orders.len(), page * page_size);
        }
        orders
    }
}

fn query(text: &str) -> SearchQuery {
    SearchQuery::parse(text).unwrap()
}

/// What a scan of all orders finds, newest first. For texts whose characters have one lower-case form each.
fn scan(orders: &[OrderView], query: &str) -> Vec<OrderView> {
    let wanted = query.trim().to_lowercase();
    let mut found: Vec<OrderView> = orders.to_vec();
    found.retain(|view| {
        let id = view.id.to_string();
        let customer = &view.customer;
        let texts = [&customer.email, &customer.first_name, &customer.last_name].into_iter().flatten();
        let mut texts = texts.map(|text| text.to_lowercase()).chain([id.replace('-', ""), id]);
        texts.any(|text| text.contains(&wanted))
    });
    found.sort_by_key(|view| (view.created_at, view.id.to_string()));
    found.reverse();
    found
}

fn some_text() -> impl Strategy<Value = String> {
    // Few characters, so that texts have much in common.
    vec(select("aabnAN-.é É王王小明".chars().collect::<Vec<_>>()), 1..14).prop_map(String::from_iter)
}

fn some_orders() -> impl Strategy<Value = Vec<OrderView>> {
    let texts = [option::of(some_text()), option::of(some_text()), option::of(some_text())];
    (vec((0..5_i64, any::<Index>()), 1..40), vec(texts, 1..20)).prop_map(|(orders, customers)| {
        let numbered = customers.iter().enumerate();
        let customers: Vec<CustomerView> =
            numbered.map(|(number, texts)| customer(number, texts.each_ref().map(Option::as_deref))).collect();
        let numbered = orders.into_iter().enumerate();
        numbered.map(|(number, (millis, whose))| view(number, millis, whose.get(&customers))).collect()
    })
}

/// A part of one of the orders' texts, or anything.
fn some_query(orders: &[OrderView]) -> impl Strategy<Value = String> + use<> {
    let texts: Vec<String> = orders
        .iter()
        .flat_map(|view| {
            let customer = view.customer.clone();
            let texts = [customer.email, customer.first_name, customer.last_name].into_iter().flatten();
            texts.chain([view.id.to_string(), view.id.to_string().replace('-', "").to_uppercase()]).collect::<Vec<_>>()
        })
        .collect();
    let part = (select(texts), any::<Index>(), 1..15_usize).prop_map(|(text, from, length)| {
        text.chars().skip(from.index(text.chars().count())).take(length).collect::<String>()
    });
    prop_oneof![3 => part, 1 => some_text()]
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

proptest! {
    #[test]
    fn search_finds_what_a_scan_finds_in_the_same_order(
        (orders, typed) in some_orders().prop_flat_map(|orders| (Just(orders.clone()), some_query(&orders))),
        page_size in 1..7_usize,
    ) {
        let Ok(query) = SearchQuery::parse(&typed) else { return Ok(()) };
        let (found, first) = block_on(async {
            let shop = Shop::with(&orders).await;
            (shop.all(&query, page_size).await, shop.page(&query, 1, 100).await)
        });
        let expected = scan(&orders, &typed);
        prop_assert_eq!((first.total_count, first.total_is_exact, first.more), (expected.len(), true, false));
        prop_assert_eq!(&first.orders, &expected);
        prop_assert_eq!(found, expected);
    }
}

/// Many customers with two orders each, of whom every four hundredth matches `bananas` and all are in its lists; and their
/// later orders come after all the earlier ones.
fn bananas(customers: usize) -> Vec<OrderView> {
    let name = |number: usize| if number.is_multiple_of(400) { "bananas" } else { "banana nas" };
    let one = |number: usize| {
        let whose = customer(number % customers, [None, Some(name(number % customers)), None]);
        view(number, i64::try_from(number).unwrap(), &whose)
    };
    (0..customers * 2).map(one).collect()
}

#[tokio::test]
async fn of_a_crowd_the_newest_orders_are_looked_at() {
    let (orders, rare, common) = (bananas(2_000), query("bananas"), query("banana"));
    let shop = Shop::with(&orders).await;
    let expected = scan(&orders, "bananas");
    assert_eq!(expected.len(), 10);
    assert_eq!(shop.all(&rare, 3).await, expected);
    assert_eq!(shop.page(&rare, 1, 100).await.total_count, 10);
    let first = shop.page(&common, 1, 20).await;
    assert_eq!(first.orders, scan(&orders, "banana")[..20]);
    assert_eq!((first.total_count >= 21, first.total_is_exact, first.more), (true, false, true));
}

#[tokio::test]
async fn a_search_that_has_looked_enough_answers_what_it_has_found() {
    // The newest 5,000 are of others, and every list has more customers than are read.
    let (mut orders, crowd) = (bananas(10_500), query("bananas"));
    for order in &mut orders {
        order.created_at +=
            TimeDelta::milliseconds(if order.customer.first_name.as_deref() == Some("bananas") { 0 } else { 10_000 });
    }
    let shop = Shop::with(&orders).await;
    let found = shop.page(&crowd, 1, 20).await;
    assert_eq!((found.orders.len(), found.total_count, found.total_is_exact, found.more), (0, 0, false, false));
}

#[tokio::test]
async fn a_page_of_a_crowd_costs_the_same_however_many_orders_there_are() {
    let order = |number: usize| {
        let email = format!("anna.{number}@example.com");
        view(number, i64::try_from(number).unwrap(), &customer(number, [Some(&email), Some("Anna"), Some("王")]))
    };
    let id = order(500).id.to_string();
    let queries = ["anna", "ANN", "王", "@example.com", &id, "anna.50", "anna.500@example.com"].map(query);
    let mut costs = Vec::new();
    for count in [12_000, 30_000] {
        let orders: Vec<OrderView> = (0..count).map(order).collect();
        let shop = Shop::with(&orders).await;
        let mut reads = Vec::new();
        for query in &queries[..6] {
            for (page, page_size) in [(1, 20), (2, 100), (9, 100)] {
                shop.page(query, page, page_size).await;
                reads.push((query.as_str(), page * page_size, shop.index.reads().len()));
            }
        }
        costs.push(reads);
        assert_eq!(shop.page(&queries[6], 1, 20).await.orders, [order(500)]);
        assert!(shop.index.reads().len() <= 7);
    }
    // But where the digits of an id are looked for, which end sooner among fewer.
    assert_eq!(costs[0][..12], costs[1][..12]);
    assert!(costs.concat().iter().all(|(_, _, reads)| *reads <= 13), "{costs:?}");
}

#[tokio::test]
async fn a_part_of_an_id_is_found_among_all_of_them_and_a_whole_one_without_looking() {
    let nobody = customer(0, [None, None, None]);
    let orders: Vec<OrderView> =
        (0..30_000).map(|number| view(number, i64::try_from(number).unwrap(), &nobody)).collect();
    let shop = Shop::with(&orders).await;
    let wanted = &orders[700];
    let shown = wanted.id.to_string();
    let part = |text: &str, from: usize, length: usize| text.chars().skip(from).take(length).collect::<String>();
    let dashless = shown.replace('-', "");
    for part in [part(&shown, 0, 8), part(&shown, 9, 9), part(&shown, 20, 16), part(&dashless, 6, 10)] {
        let found = shop.page(&query(&part), 1, 20).await;
        assert_eq!(found.orders, scan(&orders, &part), "{part}");
        assert_eq!((found.total_count, found.total_is_exact), (1, true));
    }
    shop.index.reads();
    let found = shop.page(&query(&shown), 1, 20).await;
    assert_eq!((found.orders, found.total_is_exact), (vec![wanted.clone()], true));
    assert_eq!(shop.index.reads(), [0], "the list of customers, which is empty");
}

#[tokio::test]
async fn an_order_that_is_found_by_its_id_and_by_its_customer_is_found_once() {
    let part: String = OrderId::derive("anna", "7").to_string().chars().take(3).collect();
    for count in [50, 3_000] {
        // Every second order is of a customer who is called as an order's id begins.
        let customers = [customer(0, [None, Some(&part), None]), customer(1, [None, Some("Anna"), None])];
        let orders: Vec<OrderView> =
            (0..count).map(|number| view(number, i64::try_from(number).unwrap(), &customers[number % 2])).collect();
        let shop = Shop::with(&orders).await;
        let (found, expected) = (shop.page(&query(&part), 1, 100).await, scan(&orders, &part));
        assert!(expected.iter().any(|order| order.customer.id == customers[1].id), "nothing is found by its id only");
        assert_eq!(found.orders[..], expected[..expected.len().min(100)]);
        assert!(!found.total_is_exact || found.total_count == expected.len());
        assert_eq!(shop.all(&query(&part), 50).await, expected[..]);
    }
}

#[tokio::test]
async fn a_page_past_the_end_is_empty() {
    let anna = customer(0, [None, Some("Anna"), None]);
    let orders: Vec<OrderView> = (0..3).map(|number| view(number, 1, &anna)).collect();
    let shop = Shop::with(&orders).await;
    let found = shop.page(&query("anna"), 9, 2).await;
    assert_eq!(found, FoundOrders { orders: Vec::new(), total_count: 3, total_is_exact: true, more: false });
    let nothing = shop.page(&query("berta"), 1, 2).await;
    assert_eq!(nothing, FoundOrders { orders: Vec::new(), total_count: 0, total_is_exact: true, more: false });
}

#[tokio::test]
async fn a_row_whose_customer_does_not_match_any_more_is_left_out() {
    let orders: Vec<OrderView> = (0..3)
        .map(|number| view(number, i64::try_from(number).unwrap(), &customer(number, [None, Some("Anna"), None])))
        .collect();
    let shop = Shop::with(&orders).await;
    let renamed = CustomerView { version: 2, first_name: Some("Berta".to_owned()), ..orders[1].customer.clone() };
    shop.views.save_customer(&renamed).await.unwrap();
    let found = shop.page(&query("anna"), 1, 20).await;
    assert_eq!(found.orders, [orders[2].clone(), orders[0].clone()]);
    assert_eq!((found.total_count, found.total_is_exact), (2, false));
    // The index follows: what is not theirs any more goes, what is new comes.
    shop.index.remove(&postings_of(&orders[1].customer)).await.unwrap();
    shop.index.add(&postings_of(&renamed)).await.unwrap();
    let found = shop.page(&query("anna"), 1, 20).await;
    assert_eq!((found.total_count, found.total_is_exact), (2, true));
    assert_eq!(shop.page(&query("bert"), 1, 20).await.orders, [orders[1].clone().with_customer(&renamed)]);
}
