//! Search finds what a plain scan finds, at a cost that goes with the page.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

use std::collections::BTreeSet;

use application::{
    memory::{MemoryIndex, MemoryOrderViews},
    ports::{Entry, Index as _, OrderViews},
    search_orders::{FoundOrders, entries_of, search_orders},
};
use chrono::{DateTime, TimeDelta};
use domain::{
    ids::OrderId,
    order::{OrderCreated, OrderEvent},
    order_view::OrderView,
    search::SearchQuery,
};
use proptest::{collection::vec, option, prelude::*, sample::Index, sample::select};
use serde_json::json;

/// An order that was placed so many milliseconds after the others' beginning.
fn view(number: usize, millis: i64, texts: [Option<&str>; 3]) -> OrderView {
    let created_at = DateTime::UNIX_EPOCH + TimeDelta::milliseconds(millis);
    let created: OrderCreated = serde_json::from_value(json!({
        "customer_id": "anna",
        "items": [],
        "shipping_address": {"street": "s", "city": "c", "state": "s", "country": "CN", "postal_code": "1"},
        "payment_method": "pm_card_visa",
        "total_amount": {"amount": 1, "currency": "CNY"},
        "created_at": created_at,
    }))
    .unwrap();
    let id = OrderId::derive("anna", &number.to_string());
    let mut view = OrderView::evolve(None, id, &OrderEvent::OrderCreated(created), 1, created_at).unwrap();
    let [email, first_name, last_name] = texts.map(|text| text.map(str::to_owned));
    (view.customer.email, view.customer.first_name, view.customer.last_name) = (email, first_name, last_name);
    view
}

/// The index and the views of some orders.
#[derive(Default)]
struct Shop {
    index: MemoryIndex,
    views: MemoryOrderViews,
}

impl Shop {
    /// Of the index, only the lists of these queries are filled when there are any: others are not read.
    async fn with(orders: &[OrderView], queries: &[&SearchQuery]) -> Self {
        let shop = Self::default();
        let terms: BTreeSet<String> =
            queries.iter().flat_map(|query| query.terms()).map(|term| format!("search/{term}")).collect();
        for view in orders {
            shop.views.place(view).await.unwrap();
            let mut entries = entries_of(view);
            entries.retain(|entry| terms.is_empty() || terms.contains(&entry.term));
            shop.index.add(&entries).await.unwrap();
        }
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
    vec((0..5_i64, texts), 1..40).prop_map(|orders| {
        let numbered = orders.into_iter().enumerate();
        numbered.map(|(number, (millis, texts))| view(number, millis, texts.each_ref().map(Option::as_deref))).collect()
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
            let shop = Shop::with(&orders, &[]).await;
            (shop.all(&query, page_size).await, shop.page(&query, 1, 100).await)
        });
        let expected = scan(&orders, &typed);
        prop_assert_eq!((first.total_count, first.total_is_exact, first.more), (expected.len(), true, false));
        prop_assert_eq!(&first.orders, &expected);
        prop_assert_eq!(found, expected);
    }
}

/// Nearly all of these orders are in every list of the query, and few match it.
fn bananas(count: usize) -> Vec<OrderView> {
    let name = |number: usize| if number.is_multiple_of(400) { "bananas" } else { "banana nas" };
    (0..count)
        .map(|number| view(number, i64::try_from(number / 3).unwrap(), [None, Some(name(number)), None]))
        .collect()
}

#[tokio::test]
async fn what_is_rare_in_long_lists_is_found() {
    let (orders, query) = (bananas(5_000), query("bananas"));
    let shop = Shop::with(&orders, &[&query]).await;
    let expected = scan(&orders, "bananas");
    assert_eq!(expected.len(), 13);
    assert_eq!(shop.all(&query, 5).await, expected);
    shop.index.reads();
    let all = shop.page(&query, 1, 20).await;
    assert_eq!((all.total_count, all.total_is_exact), (13, true));
    let reads = shop.index.reads();
    assert_eq!(reads[..8], [100, 100, 100, 100, 1_000, 1_000, 1_000, 1_000]);
    // Each page begins with the last posting of the one before.
    assert_eq!((reads.len(), reads[8]), (9, 5_000 - 100 - 4 * 999 + 1));
}

#[tokio::test]
async fn a_search_that_has_read_enough_answers_what_it_has_found() {
    let query = query("bananas");
    let shop = Shop::with(&[view(0, 99_999, [None, Some("bananas"), None])], &[&query]).await;
    // 60,000 orders that are in every list and do not match.
    let model = entries_of(&view(1, 0, [None, Some("banana nas"), None]));
    let model: Vec<&Entry> =
        model.iter().filter(|entry| query.terms().contains(&entry.term.replace("search/", ""))).collect();
    assert_eq!(model.len(), query.terms().len());
    for number in 0..60_000 {
        let mut entries: Vec<Entry> = model.iter().copied().cloned().collect();
        for entry in &mut entries {
            entry.posting.at += TimeDelta::milliseconds(number);
        }
        shop.index.add(&entries).await.unwrap();
    }
    let found = shop.page(&query, 1, 20).await;
    assert_eq!((found.orders.len(), found.total_count, found.total_is_exact, found.more), (1, 1, false, false));
    assert_eq!(shop.index.reads().len(), 50);
}

#[tokio::test]
async fn a_page_costs_the_same_among_a_thousand_orders_and_a_hundred_thousand() {
    let order = |number: usize| {
        let email = format!("anna.{number}@example.com");
        view(number, i64::try_from(number).unwrap(), [Some(&email), Some("Anna"), Some("王")])
    };
    let id = order(500).id.to_string();
    let groups: Vec<&str> = id.split('-').collect();
    let middle = groups[1..3].join("-");
    let queries = ["anna", "ANN", "王", "@example.com", &id, groups[0], &middle, "anna.500@example.com"].map(query);
    let mut costs = Vec::new();
    for count in [1_000, 100_000] {
        let orders: Vec<OrderView> = (0..count).map(order).collect();
        let shop = Shop::with(&orders, &queries.each_ref()).await;
        let mut reads = Vec::new();
        for query in &queries {
            for (page, page_size) in [(1, 20), (2, 100), (10, 100)] {
                let found = shop.page(query, page, page_size).await;
                assert!(page > 1 || !found.orders.is_empty());
                reads.push((query.as_str(), page * page_size, shop.index.reads().len()));
            }
        }
        // The one address among many that differ in their digits only: it takes a look at the other lists as well.
        let alike = reads.split_off(reads.len() - 3);
        assert!(alike.iter().all(|(_, _, reads)| (1..=5).contains(reads)), "{alike:?}");
        costs.push(reads);
    }
    assert_eq!(costs[0], costs[1]);
    assert!(costs[0].iter().all(|(_, _, reads)| *reads == 1), "{costs:?}");
}

#[tokio::test]
async fn a_page_past_the_end_is_empty() {
    let orders: Vec<OrderView> = (0..3).map(|number| view(number, 1, [None, Some("Anna"), None])).collect();
    let shop = Shop::with(&orders, &[]).await;
    let found = shop.page(&query("anna"), 9, 2).await;
    assert_eq!(found, FoundOrders { orders: Vec::new(), total_count: 3, total_is_exact: true, more: false });
    let nothing = shop.page(&query("berta"), 1, 2).await;
    assert_eq!(nothing, FoundOrders { orders: Vec::new(), total_count: 0, total_is_exact: true, more: false });
}

#[tokio::test]
async fn a_row_whose_view_does_not_match_any_more_is_left_out() {
    let orders: Vec<OrderView> =
        (0..3).map(|number| view(number, i64::try_from(number).unwrap(), [None, Some("Anna"), None])).collect();
    let shop = Shop::with(&orders, &[]).await;
    let mut renamed = orders[1].clone();
    (renamed.version, renamed.customer.first_name) = (2, Some("Berta".to_owned()));
    shop.views.save(&renamed, &orders[1]).await.unwrap();
    let found = shop.page(&query("anna"), 1, 20).await;
    assert_eq!(found.orders, [orders[2].clone(), orders[0].clone()]);
    assert_eq!((found.total_count, found.total_is_exact), (2, false));
    // Its entries follow: what is not its any more goes, what is new comes.
    shop.index.remove(&entries_of(&orders[1])).await.unwrap();
    shop.index.add(&entries_of(&renamed)).await.unwrap();
    let found = shop.page(&query("anna"), 1, 20).await;
    assert_eq!((found.total_count, found.total_is_exact), (2, true));
    assert_eq!(shop.page(&query("bert"), 1, 20).await.orders, [renamed]);
}
