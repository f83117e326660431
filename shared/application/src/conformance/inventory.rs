//! What everything that is both [`Catalogue`] and [`Inventory`] must do.

use domain::{
    ids::{OrderId, ProductId},
    order::Shortage,
    product::Product,
    text::Text,
};

use super::{at_once, money, order_id, product_id, quantity};
use crate::ports::{Catalogue, Inventory, ReserveError, StockLine};

/// One test per law; `make` is a future of the inventory.
#[macro_export]
macro_rules! inventory_conformance {
    ($make:expr) => {
        $crate::conformance_tests! { inventory, $make,
            products_come_back_as_they_were_put
            products_that_do_not_exist_are_left_out
            a_product_that_is_asked_for_twice_comes_once
            no_products_are_asked_for_and_none_come
            a_hundred_products_come_at_once
            a_product_that_is_put_again_is_replaced
            prices_of_every_currency_come_back_as_they_were
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
        Err(ReserveError::OutOfStock(shortages)) => shortages,
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
    let expected = [
        Shortage { product_id: ids[0].clone(), requested: 6, available: 5 },
        Shortage { product_id: ids[2].clone(), requested: 9_999, available: 5 },
    ];
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
    assert_eq!(inventory.reserved(order).await.unwrap(), lines);
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
