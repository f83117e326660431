//! What everything that is both [`Catalogue`] and [`Inventory`] must do.

use std::time::{Duration, Instant};

use domain::{
    ids::{AdjustmentId, OrderId, ProductId},
    order::Shortage,
    product::{Product, StockChange},
    text::Text,
};
use tokio::time::sleep;
use uuid::Uuid;

use super::{at_once, moment, money, order_id, product_id, quantity};
use crate::ports::{
    AdjustError, Adjusted, Catalogue, Inventory, ProductPage, ReserveError, StockAdjustment, StockLine,
};

/// One test per law; `make` is a future of the inventory. Or the laws as data, each with the capability that it needs.
#[macro_export]
macro_rules! inventory_conformance {
    ($make:expr) => {
        $crate::inventory_conformance! { conformance_tests, $make }
    };
    ($each:ident, $of:tt) => {
        $crate::$each! { inventory, $of,
            products_come_back_as_they_were_put
            products_that_do_not_exist_are_left_out
            a_product_that_is_asked_for_twice_comes_once
            no_products_are_asked_for_and_none_come
            a_hundred_products_come_at_once
            a_product_that_is_put_again_is_replaced
            prices_of_every_currency_come_back_as_they_were
            the_pages_of_a_list_lead_through_all_products_in_the_order_of_their_ids: lists_products
            a_product_that_is_sold_out_is_listed_as_well: lists_products
            a_product_that_is_set_again_is_listed_once_and_as_it_is_now: lists_products
            products_that_come_between_two_pages_move_no_other: lists_products
            what_is_held_and_adjusted_is_out_of_the_listed_stock_and_no_product_itself: lists_products
            behind_the_last_product_there_is_none: lists_products
            a_reservation_takes_its_lines_out_of_the_stock
            a_reservation_holds_all_lines_or_none
            a_shortage_names_each_line_with_what_is_asked_for_and_what_there_is
            a_product_that_does_not_exist_is_a_shortage_with_nothing_available
            the_last_piece_can_be_reserved
            a_refused_order_may_reserve_when_there_is_enough
            an_order_that_reserves_again_holds_its_lines_once
            an_order_that_reserves_again_keeps_its_first_lines
            an_order_that_reserves_many_times_at_once_holds_its_lines_once
            of_two_orders_for_the_last_piece_one_gets_it
            orders_at_the_same_time_never_hold_more_than_there_is
            orders_at_the_same_time_are_answered_alike_at_every_attempt
            orders_that_want_the_same_products_in_another_order_do_not_share_them
            the_books_say_what_is_held_for_an_order
            a_release_gives_back_what_is_held
            a_repeated_release_gives_back_once
            many_releases_at_once_give_back_once
            a_released_order_cannot_reserve_again
            a_release_that_comes_first_bars_the_reservation
            a_release_while_reserving_leaves_nothing_held
            a_hundred_lines_are_reserved_and_released
            a_hundred_lines_are_held_once_by_many_attempts_at_once
            a_hundred_lines_of_which_the_last_is_short_hold_nothing
            a_hundred_lines_that_many_attempts_find_short_hold_nothing
            a_hundred_lines_that_were_refused_may_be_released
            a_release_while_reserving_a_hundred_lines_leaves_nothing_held
            a_release_while_refused_lines_are_reserved_again_leaves_nothing_held
            a_description_leaves_the_stock_and_a_new_product_has_none
            a_description_loses_nothing_that_is_reserved_meanwhile
            a_stock_is_adjusted_by_a_difference_or_to_a_count
            a_count_is_of_what_no_order_holds
            a_release_on_top_of_the_largest_stock_is_a_release
            a_stock_is_never_adjusted_out_of_its_range
            a_product_that_does_not_exist_is_not_adjusted
            an_adjustment_under_one_id_is_made_once
            an_adjustment_that_comes_many_times_at_once_is_made_once
            an_adjustment_that_leaves_too_little_for_itself_is_not_refused_when_it_comes_again
            reservations_and_adjustments_at_the_same_time_lose_nothing
        }
    };
}

fn product(id: &ProductId, stock: u32) -> Product {
    Product { id: id.clone(), name: Text::parse("龙井茶 Longjing 250 g").unwrap(), price: money(1999, "CNY"), stock }
}

fn line(id: &ProductId, count: u32) -> StockLine {
    StockLine { product_id: id.clone(), quantity: quantity(count) }
}

/// Puts this many new products, each with this stock.
async fn stocked(inventory: &impl Catalogue, count: usize, stock: u32) -> Vec<ProductId> {
    let ids: Vec<ProductId> = (0..count).map(|_| product_id("tea")).collect();
    let products: Vec<Product> = ids.iter().map(|id| product(id, stock)).collect();
    for put in at_once(products.iter().map(|product| inventory.put_product(product))).await {
        assert!(put.unwrap());
    }
    ids
}

async fn stock(inventory: &impl Catalogue, ids: &[ProductId]) -> Vec<u32> {
    let products = inventory.products(ids).await.unwrap();
    ids.iter().map(|id| products.iter().find(|product| product.id == *id).unwrap().stock).collect()
}

fn one_of_each(ids: &[ProductId]) -> Vec<StockLine> {
    ids.iter().map(|id| line(id, 1)).collect()
}

fn shortages<T: std::fmt::Debug>(answer: Result<T, ReserveError>) -> Vec<Shortage> {
    match answer {
        Err(ReserveError::OutOfStock(mut shortages)) => {
            // They come in any order.
            shortages.sort_unstable_by(|a, b| a.product_id.cmp(&b.product_id));
            shortages
        }
        other => {
            assert!(matches!(other, Err(ReserveError::OutOfStock(_))), "{other:?}");
            Vec::new()
        }
    }
}

pub async fn products_come_back_as_they_were_put(inventory: &impl Catalogue) {
    let products = [product(&product_id("a"), 7), product(&product_id("b"), 0), product(&product_id("c"), u32::MAX)];
    for product in &products {
        assert!(inventory.put_product(product).await.unwrap(), "it is new");
    }
    let ids: Vec<ProductId> = products.iter().map(|product| product.id.clone()).collect();
    let mut stored = inventory.products(&ids).await.unwrap();
    stored.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(stored, products);
}

pub async fn products_that_do_not_exist_are_left_out(inventory: &impl Catalogue) {
    let there = stocked(inventory, 1, 3).await;
    let stored = inventory.products(&[product_id("none"), there[0].clone(), product_id("none")]).await.unwrap();
    assert_eq!(stored, [product(&there[0], 3)]);
    assert_eq!(inventory.products(&[product_id("none")]).await.unwrap(), []);
}

pub async fn a_product_that_is_asked_for_twice_comes_once(inventory: &impl Catalogue) {
    let id = stocked(inventory, 1, 3).await.remove(0);
    assert_eq!(inventory.products(&[id.clone(), id.clone()]).await.unwrap(), [product(&id, 3)]);
}

pub async fn no_products_are_asked_for_and_none_come(inventory: &impl Catalogue) {
    assert_eq!(inventory.products(&[]).await.unwrap(), []);
}

pub async fn a_hundred_products_come_at_once(inventory: &impl Catalogue) {
    let ids = stocked(inventory, 100, 3).await;
    assert_eq!(inventory.products(&ids).await.unwrap().len(), 100);
}

pub async fn a_product_that_is_put_again_is_replaced(inventory: &impl Catalogue) {
    let id = stocked(inventory, 1, 3).await.remove(0);
    let replacement =
        Product { id: id.clone(), name: Text::parse("Biluochun").unwrap(), price: money(5, "EUR"), stock: 9 };
    assert!(!inventory.put_product(&replacement).await.unwrap(), "it is not new");
    assert_eq!(inventory.products(&[id]).await.unwrap(), [replacement]);
}

pub async fn prices_of_every_currency_come_back_as_they_were(inventory: &impl Catalogue) {
    for (amount, currency) in [(0, "EUR"), (1, "JPY"), (1_234_567, "KWD"), (9_007_199_254_740_991, "USD")] {
        let priced = Product { price: money(amount, currency), ..product(&product_id("tea"), 1) };
        inventory.put_product(&priced).await.unwrap();
        assert_eq!(inventory.products(std::slice::from_ref(&priced.id)).await.unwrap(), [priced]);
    }
}

/// How long a product may be missing from the list that has just been set.
const LISTED_WITHIN: Duration = Duration::from_secs(5);

/// Puts products whose ids begin alike, so that in a list they stand together whatever else there is. Answers them in their order.
async fn put_each(inventory: &impl Catalogue, beginning: &ProductId, names: &[&str], stock: u32) -> Vec<Product> {
    let mut products = Vec::new();
    for name in names {
        let product = product(&ProductId::parse(&format!("{beginning}-{name}")).unwrap(), stock);
        inventory.put_product(&product).await.unwrap();
        products.push(product);
    }
    products.sort_unstable_by(|one, other| one.id.cmp(&other.id));
    products
}

/// The products that stand behind this one and begin alike, by pages of this size.
async fn walked(
    inventory: &impl Catalogue,
    beginning: &ProductId,
    mut after: ProductId,
    page_size: usize,
) -> Vec<Product> {
    let is_own = |id: &ProductId| id.as_str().starts_with(beginning.as_str());
    let mut walked = Vec::new();
    loop {
        let page = inventory.list_products(Some(&after), page_size).await.unwrap();
        assert!(page.products.len() <= page_size, "a page has more than were asked for");
        walked.extend(page.products.into_iter().filter(|product| is_own(&product.id)));
        match page.next {
            Some(next) if is_own(&next) => {
                assert!(next > after, "the list goes back");
                after = next;
            }
            _ => return walked,
        }
    }
}

/// As soon as there are so many of them, or when that takes too long.
async fn listed(inventory: &impl Catalogue, beginning: &ProductId, count: usize) -> Vec<Product> {
    let began = Instant::now();
    loop {
        let listed = walked(inventory, beginning, beginning.clone(), 100).await;
        if listed.len() >= count || began.elapsed() > LISTED_WITHIN {
            return listed;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

pub async fn the_pages_of_a_list_lead_through_all_products_in_the_order_of_their_ids(inventory: &impl Catalogue) {
    let beginning = product_id("list");
    let products = put_each(inventory, &beginning, &["b", "a.1", "a", "A", "_", "10", "9", "a-1"], 3).await;
    assert_eq!(listed(inventory, &beginning, products.len()).await, products);
    for page_size in [1, 2, 3, 8] {
        assert_eq!(walked(inventory, &beginning, beginning.clone(), page_size).await, products, "{page_size} a page");
    }
}

pub async fn a_product_that_is_sold_out_is_listed_as_well(inventory: &impl Catalogue) {
    let beginning = product_id("list");
    let products = put_each(inventory, &beginning, &["tea"], 0).await;
    assert_eq!(listed(inventory, &beginning, 1).await, products);
}

pub async fn a_product_that_is_set_again_is_listed_once_and_as_it_is_now(inventory: &impl Catalogue) {
    let beginning = product_id("list");
    let products = put_each(inventory, &beginning, &["a", "b"], 3).await;
    listed(inventory, &beginning, 2).await;
    put_each(inventory, &beginning, &["a", "a"], 4).await;
    let (name, price) = (Text::parse("Biluochun").unwrap(), money(5, "EUR"));
    inventory.describe_product(&products[1].id, &name, price).await.unwrap();
    let now = [Product { stock: 4, ..products[0].clone() }, Product { name, price, ..products[1].clone() }];
    assert_eq!(walked(inventory, &beginning, beginning.clone(), 1).await, now);
}

pub async fn products_that_come_between_two_pages_move_no_other(inventory: &impl Catalogue) {
    let beginning = product_id("list");
    let products = put_each(inventory, &beginning, &["b", "d", "f", "h"], 3).await;
    listed(inventory, &beginning, 4).await;
    let first = inventory.list_products(Some(&beginning), 2).await.unwrap();
    assert_eq!(first.products, products[..2]);
    let new = put_each(inventory, &beginning, &["a", "c", "g"], 3).await;
    listed(inventory, &beginning, 7).await;
    let rest = walked(inventory, &beginning, first.next.unwrap(), 2).await;
    assert_eq!(rest, [products[2].clone(), new[2].clone(), products[3].clone()]);
}

pub async fn what_is_held_and_adjusted_is_out_of_the_listed_stock_and_no_product_itself(
    inventory: &(impl Catalogue + Inventory),
) {
    let beginning = product_id("list");
    let products = put_each(inventory, &beginning, &["a", "b"], 10).await;
    listed(inventory, &beginning, 2).await;
    inventory.reserve(order_id(), &[line(&products[0].id, 2), line(&products[1].id, 3)]).await.unwrap();
    inventory.adjust_stock(&adjustment(&products[1].id, StockChange::By(-1))).await.unwrap();
    let now = [Product { stock: 8, ..products[0].clone() }, Product { stock: 6, ..products[1].clone() }];
    assert_eq!(walked(inventory, &beginning, beginning.clone(), 100).await, now);
}

pub async fn behind_the_last_product_there_is_none(inventory: &impl Catalogue) {
    stocked(inventory, 1, 3).await;
    let last = ProductId::parse(&"z".repeat(64)).unwrap();
    assert_eq!(inventory.list_products(Some(&last), 100).await.unwrap(), ProductPage { products: vec![], next: None });
}

pub async fn a_reservation_takes_its_lines_out_of_the_stock(inventory: &(impl Catalogue + Inventory)) {
    let ids = stocked(inventory, 3, 10).await;
    inventory.reserve(order_id(), &[line(&ids[0], 1), line(&ids[1], 4)]).await.unwrap();
    assert_eq!(stock(inventory, &ids).await, [9, 6, 10]);
}

pub async fn a_reservation_holds_all_lines_or_none(inventory: &(impl Catalogue + Inventory)) {
    let ids = stocked(inventory, 3, 10).await;
    let lines = [line(&ids[0], 10), line(&ids[1], 11), line(&ids[2], 1)];
    shortages(inventory.reserve(order_id(), &lines).await);
    assert_eq!(stock(inventory, &ids).await, [10, 10, 10]);
}

pub async fn a_shortage_names_each_line_with_what_is_asked_for_and_what_there_is(
    inventory: &(impl Catalogue + Inventory),
) {
    let ids = stocked(inventory, 3, 5).await;
    let lines = [line(&ids[0], 6), line(&ids[1], 5), line(&ids[2], 9_999)];
    let mut expected = [
        Shortage { product_id: ids[0].clone(), requested: 6, available: 5 },
        Shortage { product_id: ids[2].clone(), requested: 9_999, available: 5 },
    ];
    expected.sort_unstable_by(|a, b| a.product_id.cmp(&b.product_id));
    assert_eq!(shortages(inventory.reserve(order_id(), &lines).await), expected);
}

pub async fn a_product_that_does_not_exist_is_a_shortage_with_nothing_available(
    inventory: &(impl Catalogue + Inventory),
) {
    let ids = stocked(inventory, 1, 5).await;
    let none = product_id("none");
    let answer = inventory.reserve(order_id(), &[line(&ids[0], 1), line(&none, 2)]).await;
    assert_eq!(shortages(answer), [Shortage { product_id: none.clone(), requested: 2, available: 0 }]);
    assert_eq!(stock(inventory, &ids).await, [5]);
    assert_eq!(inventory.products(&[none]).await.unwrap(), [], "asking for a product does not make it");
}

pub async fn the_last_piece_can_be_reserved(inventory: &(impl Catalogue + Inventory)) {
    let ids = stocked(inventory, 1, 2).await;
    inventory.reserve(order_id(), &[line(&ids[0], 2)]).await.unwrap();
    assert_eq!(stock(inventory, &ids).await, [0]);
    let short = shortages(inventory.reserve(order_id(), &[line(&ids[0], 1)]).await);
    assert_eq!(short, [Shortage { product_id: ids[0].clone(), requested: 1, available: 0 }]);
}

pub async fn a_refused_order_may_reserve_when_there_is_enough(inventory: &(impl Catalogue + Inventory)) {
    let order = order_id();
    let ids = stocked(inventory, 1, 1).await;
    shortages(inventory.reserve(order, &[line(&ids[0], 2)]).await);
    inventory.put_product(&product(&ids[0], 2)).await.unwrap();
    inventory.reserve(order, &[line(&ids[0], 2)]).await.unwrap();
    assert_eq!(stock(inventory, &ids).await, [0]);
}

pub async fn an_order_that_reserves_again_holds_its_lines_once(inventory: &(impl Catalogue + Inventory)) {
    let order = order_id();
    // The second time there is not enough for another one, and still it is no shortage.
    let ids = stocked(inventory, 2, 5).await;
    let lines = [line(&ids[0], 5), line(&ids[1], 1)];
    let first = inventory.reserve(order, &lines).await.unwrap();
    assert_eq!(inventory.reserve(order, &lines).await.unwrap(), first);
    assert_eq!(stock(inventory, &ids).await, [0, 4]);
}

pub async fn an_order_that_reserves_again_keeps_its_first_lines(inventory: &(impl Catalogue + Inventory)) {
    let order = order_id();
    let ids = stocked(inventory, 2, 5).await;
    inventory.reserve(order, &[line(&ids[0], 2)]).await.unwrap();
    inventory.reserve(order, &[line(&ids[1], 3)]).await.unwrap();
    assert_eq!(stock(inventory, &ids).await, [3, 5]);
    inventory.release(order).await.unwrap();
    assert_eq!(stock(inventory, &ids).await, [5, 5]);
}

pub async fn an_order_that_reserves_many_times_at_once_holds_its_lines_once(inventory: &(impl Catalogue + Inventory)) {
    let order = order_id();
    let ids = stocked(inventory, 3, 2).await;
    let lines: Vec<StockLine> = ids.iter().map(|id| line(id, 2)).collect();
    for answer in at_once((0..20).map(|_| inventory.reserve(order, &lines))).await {
        answer.unwrap();
    }
    assert_eq!(stock(inventory, &ids).await, [0, 0, 0]);
}

pub async fn of_two_orders_for_the_last_piece_one_gets_it(inventory: &(impl Catalogue + Inventory)) {
    for _ in 0..20 {
        let ids = stocked(inventory, 1, 1).await;
        let lines = one_of_each(&ids);
        let answers = at_once([order_id(), order_id()].map(|order| inventory.reserve(order, &lines))).await;
        let (held, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
        assert_eq!((held.len(), refused.len()), (1, 1));
        for answer in refused {
            shortages(answer);
        }
        assert_eq!(stock(inventory, &ids).await, [0]);
    }
}

pub async fn orders_at_the_same_time_never_hold_more_than_there_is(inventory: &(impl Catalogue + Inventory)) {
    let ids = stocked(inventory, 2, 10).await;
    let lines = [line(&ids[0], 2), line(&ids[1], 1)];
    let orders: Vec<OrderId> = (0..30).map(|_| order_id()).collect();
    let answers = at_once(orders.iter().map(|order| inventory.reserve(*order, &lines))).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 5);
    assert_eq!(stock(inventory, &ids).await, [0, 5]);
    for refused in answers.into_iter().filter(Result::is_err) {
        shortages(refused);
    }
}

/// What one attempt has taken is no shortage for another of the same order.
pub async fn orders_at_the_same_time_are_answered_alike_at_every_attempt(inventory: &(impl Catalogue + Inventory)) {
    for _ in 0..10 {
        let ids = stocked(inventory, 2, 7).await;
        let lines = [line(&ids[0], 2), line(&ids[1], 1)];
        let orders: Vec<OrderId> = (0..6).map(|_| order_id()).collect();
        let attempts = orders.iter().chain(&orders).chain(&orders).map(|order| inventory.reserve(*order, &lines));
        let attempts: Vec<bool> = at_once(attempts).await.into_iter().map(|answer| answer.is_ok()).collect();
        assert_eq!(attempts[..6], attempts[6..12]);
        assert_eq!(attempts[..6], attempts[12..]);
        assert_eq!(stock(inventory, &ids).await, [1, 4]);
    }
}

pub async fn orders_that_want_the_same_products_in_another_order_do_not_share_them(
    inventory: &(impl Catalogue + Inventory),
) {
    for _ in 0..10 {
        let ids = stocked(inventory, 3, 1).await;
        let (forth, mut back) = (one_of_each(&ids), one_of_each(&ids));
        back.reverse();
        let answers = at_once([&forth, &back, &forth, &back].map(|lines| inventory.reserve(order_id(), lines))).await;
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
        assert_eq!(stock(inventory, &ids).await, [0, 0, 0]);
    }
}

pub async fn the_books_say_what_is_held_for_an_order(inventory: &(impl Catalogue + Inventory)) {
    let order = order_id();
    let ids = stocked(inventory, 2, 10).await;
    let lines = [line(&ids[0], 3), line(&ids[1], 4)];
    assert_eq!(inventory.reserved(order).await.unwrap(), []);
    inventory.reserve(order, &lines).await.unwrap();
    let held = inventory.reserved(order).await.unwrap();
    assert!(held.len() == lines.len() && held.iter().all(|line| lines.contains(line)), "{held:?}");
    inventory.release(order).await.unwrap();
    assert_eq!(inventory.reserved(order).await.unwrap(), []);
}

pub async fn a_release_gives_back_what_is_held(inventory: &(impl Catalogue + Inventory)) {
    let (order, other) = (order_id(), order_id());
    let ids = stocked(inventory, 2, 10).await;
    inventory.reserve(order, &[line(&ids[0], 3), line(&ids[1], 4)]).await.unwrap();
    inventory.reserve(other, &[line(&ids[0], 1)]).await.unwrap();
    inventory.release(order).await.unwrap();
    assert_eq!(stock(inventory, &ids).await, [9, 10]);
}

pub async fn a_repeated_release_gives_back_once(inventory: &(impl Catalogue + Inventory)) {
    let order = order_id();
    let ids = stocked(inventory, 1, 10).await;
    inventory.reserve(order, &[line(&ids[0], 3)]).await.unwrap();
    for _ in 0..3 {
        inventory.release(order).await.unwrap();
        assert_eq!(stock(inventory, &ids).await, [10]);
    }
}

pub async fn many_releases_at_once_give_back_once(inventory: &(impl Catalogue + Inventory)) {
    let order = order_id();
    let ids = stocked(inventory, 2, 10).await;
    inventory.reserve(order, &[line(&ids[0], 3), line(&ids[1], 10)]).await.unwrap();
    for answer in at_once((0..20).map(|_| inventory.release(order))).await {
        answer.unwrap();
    }
    assert_eq!(stock(inventory, &ids).await, [10, 10]);
}

pub async fn a_released_order_cannot_reserve_again(inventory: &(impl Catalogue + Inventory)) {
    let order = order_id();
    let ids = stocked(inventory, 1, 10).await;
    inventory.reserve(order, &[line(&ids[0], 3)]).await.unwrap();
    inventory.release(order).await.unwrap();
    let answer = inventory.reserve(order, &[line(&ids[0], 3)]).await;
    assert!(matches!(answer, Err(ReserveError::Released)), "{answer:?}");
    assert_eq!(stock(inventory, &ids).await, [10]);
}

pub async fn a_release_that_comes_first_bars_the_reservation(inventory: &(impl Catalogue + Inventory)) {
    let order = order_id();
    let ids = stocked(inventory, 1, 10).await;
    inventory.release(order).await.unwrap();
    let answer = inventory.reserve(order, &[line(&ids[0], 3)]).await;
    assert!(matches!(answer, Err(ReserveError::Released)), "{answer:?}");
    inventory.release(order).await.unwrap();
    assert_eq!(stock(inventory, &ids).await, [10]);
}

async fn reserve_and_release_at_once(inventory: &(impl Catalogue + Inventory), order: OrderId, ids: &[ProductId]) {
    let lines = one_of_each(ids);
    let before = stock(inventory, ids).await;
    let reserve = async {
        let answer = inventory.reserve(order, &lines).await;
        assert!(matches!(answer, Ok(_) | Err(ReserveError::Released)), "{answer:?}");
    };
    let release = async { inventory.release(order).await.unwrap() };
    let calls: [std::pin::Pin<Box<dyn Future<Output = ()>>>; 2] = [Box::pin(reserve), Box::pin(release)];
    at_once(calls).await;
    assert_eq!(stock(inventory, ids).await, before);
    let late = inventory.reserve(order, &lines).await;
    assert!(matches!(late, Err(ReserveError::Released)), "{late:?}");
}

pub async fn a_release_while_reserving_leaves_nothing_held(inventory: &(impl Catalogue + Inventory)) {
    let ids = stocked(inventory, 3, 5).await;
    for _ in 0..20 {
        reserve_and_release_at_once(inventory, order_id(), &ids).await;
    }
}

pub async fn a_hundred_lines_are_reserved_and_released(inventory: &(impl Catalogue + Inventory)) {
    let order = order_id();
    let ids = stocked(inventory, 100, 5).await;
    let lines: Vec<StockLine> = ids.iter().map(|id| line(id, 2)).collect();
    for _ in 0..2 {
        inventory.reserve(order, &lines).await.unwrap();
        assert_eq!(stock(inventory, &ids).await, [3; 100]);
    }
    for _ in 0..2 {
        inventory.release(order).await.unwrap();
        assert_eq!(stock(inventory, &ids).await, [5; 100]);
    }
    let late = inventory.reserve(order, &lines).await;
    assert!(matches!(late, Err(ReserveError::Released)), "{late:?}");
}

pub async fn a_hundred_lines_are_held_once_by_many_attempts_at_once(inventory: &(impl Catalogue + Inventory)) {
    let order = order_id();
    let ids = stocked(inventory, 100, 1).await;
    let lines = one_of_each(&ids);
    for answer in at_once((0..5).map(|_| inventory.reserve(order, &lines))).await {
        answer.unwrap();
    }
    assert_eq!(stock(inventory, &ids).await, [0; 100]);
    for answer in at_once((0..5).map(|_| inventory.release(order))).await {
        answer.unwrap();
    }
    assert_eq!(stock(inventory, &ids).await, [1; 100]);
}

pub async fn a_hundred_lines_of_which_the_last_is_short_hold_nothing(inventory: &(impl Catalogue + Inventory)) {
    let order = order_id();
    let ids = stocked(inventory, 100, 5).await;
    let mut lines = one_of_each(&ids);
    lines[99].quantity = quantity(6);
    let short = [Shortage { product_id: ids[99].clone(), requested: 6, available: 5 }];
    for _ in 0..2 {
        assert_eq!(shortages(inventory.reserve(order, &lines).await), short);
        assert_eq!(stock(inventory, &ids).await, [5; 100]);
    }
    inventory.put_product(&product(&ids[99], 6)).await.unwrap();
    inventory.reserve(order, &lines).await.unwrap();
    let mut left = [4; 100];
    left[99] = 0;
    assert_eq!(stock(inventory, &ids).await, left);
}

pub async fn a_hundred_lines_that_many_attempts_find_short_hold_nothing(inventory: &(impl Catalogue + Inventory)) {
    let ids = stocked(inventory, 100, 5).await;
    let mut lines = one_of_each(&ids);
    lines[99].quantity = quantity(6);
    for _ in 0..5 {
        let order = order_id();
        for answer in at_once((0..5).map(|_| inventory.reserve(order, &lines))).await {
            shortages(answer);
        }
        assert_eq!(stock(inventory, &ids).await, [5; 100]);
    }
}

pub async fn a_hundred_lines_that_were_refused_may_be_released(inventory: &(impl Catalogue + Inventory)) {
    let order = order_id();
    let ids = stocked(inventory, 100, 5).await;
    let mut lines = one_of_each(&ids);
    lines[99].quantity = quantity(6);
    shortages(inventory.reserve(order, &lines).await);
    inventory.release(order).await.unwrap();
    assert_eq!(stock(inventory, &ids).await, [5; 100]);
    let late = inventory.reserve(order, &lines).await;
    assert!(matches!(late, Err(ReserveError::Released)), "{late:?}");
}

pub async fn a_release_while_reserving_a_hundred_lines_leaves_nothing_held(inventory: &(impl Catalogue + Inventory)) {
    let ids = stocked(inventory, 100, 5).await;
    for _ in 0..5 {
        reserve_and_release_at_once(inventory, order_id(), &ids).await;
    }
}

pub async fn a_release_while_refused_lines_are_reserved_again_leaves_nothing_held(
    inventory: &(impl Catalogue + Inventory),
) {
    let ids = stocked(inventory, 100, 5).await;
    for _ in 0..5 {
        let order = order_id();
        inventory.put_product(&product(&ids[99], 0)).await.unwrap();
        shortages(inventory.reserve(order, &one_of_each(&ids)).await);
        inventory.put_product(&product(&ids[99], 5)).await.unwrap();
        reserve_and_release_at_once(inventory, order, &ids).await;
    }
}

pub async fn a_description_leaves_the_stock_and_a_new_product_has_none(inventory: &impl Catalogue) {
    let (name, price) = (Text::parse("Biluochun").unwrap(), money(5, "EUR"));
    for (id, stock, new) in [(stocked(inventory, 1, 3).await.remove(0), 3, false), (product_id("new"), 0, true)] {
        let described = Product { id: id.clone(), name: name.clone(), price, stock };
        assert_eq!(inventory.describe_product(&id, &name, price).await.unwrap(), (described.clone(), new));
        assert_eq!(inventory.products(&[id]).await.unwrap(), [described]);
    }
}

pub async fn a_description_loses_nothing_that_is_reserved_meanwhile(inventory: &(impl Catalogue + Inventory)) {
    let ids = stocked(inventory, 1, 20).await;
    let name = Text::parse("Biluochun").unwrap();
    let answers = at_once((0..20).map(async |number: u64| {
        if number.is_multiple_of(2) {
            inventory.reserve(order_id(), &[line(&ids[0], 2)]).await.is_ok()
        } else {
            inventory.describe_product(&ids[0], &name, money(number, "EUR")).await.is_ok()
        }
    }));
    assert_eq!(answers.await, [true; 20]);
    assert_eq!(stock(inventory, &ids).await, [0]);
}

fn adjustment(id: &ProductId, change: StockChange) -> StockAdjustment {
    StockAdjustment {
        id: AdjustmentId(Uuid::new_v4()),
        product_id: id.clone(),
        change,
        reason: Text::parse("stocktaking").unwrap(),
        actor: "staff:anna".to_owned(),
        at: moment(),
    }
}

pub async fn a_stock_is_adjusted_by_a_difference_or_to_a_count(inventory: &impl Catalogue) {
    let ids = stocked(inventory, 1, 10).await;
    for (change, by, becomes) in [
        (StockChange::By(-10), -10, 0),
        (StockChange::By(7), 7, 7),
        (StockChange::Counted(5), -2, 5),
        (StockChange::Counted(5), 0, 5),
        (StockChange::Counted(u32::MAX), i64::from(u32::MAX) - 5, u32::MAX),
    ] {
        let adjusted = inventory.adjust_stock(&adjustment(&ids[0], change)).await.unwrap();
        assert_eq!(adjusted, Adjusted { by, stock: becomes, replayed: false });
        assert_eq!(stock(inventory, &ids).await, [becomes]);
    }
}

pub async fn a_count_is_of_what_no_order_holds(inventory: &(impl Catalogue + Inventory)) {
    let order = order_id();
    let ids = stocked(inventory, 1, 10).await;
    inventory.reserve(order, &[line(&ids[0], 4)]).await.unwrap();
    let counted = inventory.adjust_stock(&adjustment(&ids[0], StockChange::Counted(5))).await.unwrap();
    assert_eq!((counted.by, counted.stock), (-1, 5));
    inventory.release(order).await.unwrap();
    assert_eq!(stock(inventory, &ids).await, [9]);
}

pub async fn a_release_on_top_of_the_largest_stock_is_a_release(inventory: &(impl Catalogue + Inventory)) {
    let order = order_id();
    let ids = stocked(inventory, 1, 10).await;
    inventory.reserve(order, &[line(&ids[0], 4)]).await.unwrap();
    inventory.adjust_stock(&adjustment(&ids[0], StockChange::Counted(u32::MAX))).await.unwrap();
    for _ in 0..2 {
        inventory.release(order).await.unwrap();
        assert_eq!(stock(inventory, &ids).await, [u32::MAX]);
    }
    assert_eq!(inventory.reserved(order).await.unwrap(), []);
    let counted = inventory.adjust_stock(&adjustment(&ids[0], StockChange::Counted(7))).await.unwrap();
    assert_eq!(counted.stock, 7);
    assert_eq!(stock(inventory, &ids).await, [7]);
}

pub async fn a_stock_is_never_adjusted_out_of_its_range(inventory: &impl Catalogue) {
    let ids = stocked(inventory, 1, 2).await;
    let too_much = adjustment(&ids[0], StockChange::By(-3));
    for refused in [&too_much, &adjustment(&ids[0], StockChange::By(i64::from(u32::MAX) - 1))] {
        let answer = inventory.adjust_stock(refused).await;
        assert!(matches!(answer, Err(AdjustError::OutOfRange { stock: 2 })), "{answer:?}");
    }
    assert_eq!(stock(inventory, &ids).await, [2]);
    // Nothing stands under its id.
    inventory.adjust_stock(&adjustment(&ids[0], StockChange::By(1))).await.unwrap();
    assert_eq!(inventory.adjust_stock(&too_much).await.unwrap(), Adjusted { by: -3, stock: 0, replayed: false });
}

pub async fn a_product_that_does_not_exist_is_not_adjusted(inventory: &impl Catalogue) {
    let none = product_id("none");
    for change in [StockChange::By(1), StockChange::Counted(1)] {
        let answer = inventory.adjust_stock(&adjustment(&none, change)).await;
        assert!(matches!(answer, Err(AdjustError::UnknownProduct)), "{answer:?}");
    }
    assert_eq!(inventory.products(&[none]).await.unwrap(), [], "adjusting a product does not make it");
}

pub async fn an_adjustment_under_one_id_is_made_once(inventory: &impl Catalogue) {
    let ids = stocked(inventory, 2, 10).await;
    for change in [StockChange::By(-3), StockChange::Counted(4)] {
        let first = adjustment(&ids[0], change);
        let adjusted = inventory.adjust_stock(&first).await.unwrap();
        inventory.adjust_stock(&adjustment(&ids[0], StockChange::By(90))).await.unwrap();
        let later = StockAdjustment { at: moment() + chrono::TimeDelta::days(1), ..first.clone() };
        assert_eq!(inventory.adjust_stock(&later).await.unwrap(), Adjusted { replayed: true, ..adjusted });
        let others = [
            StockAdjustment { change: StockChange::By(adjusted.by - 1), ..first.clone() },
            StockAdjustment { change: StockChange::Counted(adjusted.stock + 1), ..first.clone() },
            StockAdjustment { product_id: ids[1].clone(), ..first.clone() },
            StockAdjustment { reason: Text::parse("another").unwrap(), ..first },
        ];
        for other in others {
            let answer = inventory.adjust_stock(&other).await;
            assert!(matches!(answer, Err(AdjustError::KeyReused)), "{answer:?}");
        }
        assert_eq!(stock(inventory, &ids).await, [adjusted.stock + 90, 10]);
    }
}

pub async fn an_adjustment_that_comes_many_times_at_once_is_made_once(inventory: &impl Catalogue) {
    let ids = stocked(inventory, 1, 10).await;
    for (change, becomes) in [(StockChange::By(-3), 7), (StockChange::Counted(20), 20)] {
        let adjustment = adjustment(&ids[0], change);
        let answers = at_once((0..20).map(|_| inventory.adjust_stock(&adjustment))).await;
        let answers: Vec<Adjusted> = answers.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
        assert!(answers.iter().all(|answer| answer.stock == becomes), "{answers:?}");
        assert_eq!(stock(inventory, &ids).await, [becomes]);
    }
}

pub async fn an_adjustment_that_leaves_too_little_for_itself_is_not_refused_when_it_comes_again(
    inventory: &impl Catalogue,
) {
    for _ in 0..10 {
        let ids = stocked(inventory, 1, 5).await;
        let adjustment = adjustment(&ids[0], StockChange::By(-3));
        for answer in at_once([(); 4].map(|()| inventory.adjust_stock(&adjustment))).await {
            assert_eq!(answer.unwrap().stock, 2);
        }
    }
}

pub async fn reservations_and_adjustments_at_the_same_time_lose_nothing(inventory: &(impl Catalogue + Inventory)) {
    let ids = stocked(inventory, 1, 100).await;
    let orders: Vec<OrderId> = (0..30).map(|_| order_id()).collect();
    let changes = at_once((0..30).map(async |number: usize| {
        if number.is_multiple_of(3) {
            i64::from(inventory.adjust_stock(&adjustment(&ids[0], StockChange::By(5))).await.is_ok()) * 5
        } else {
            i64::from(inventory.reserve(orders[number], &[line(&ids[0], 2)]).await.is_ok()) * -2
        }
    }))
    .await;
    assert_eq!(changes.iter().sum::<i64>(), 10);
    assert_eq!(stock(inventory, &ids).await, [110]);
}
