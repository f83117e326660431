use serde_json::{Value, json};

use super::{Break, Now, another_key, answers, asks, bar_nothing, in_32_bits, list, list_mut, swap};

/// As many lines as a reservation may have.
const MANY_LINES: usize = 100;

fn reserved(asked: &Value) -> Value {
    json!({"reserved": {"reservation_id": asked["order_id"]}})
}

/// Reserves for another order, beside what the order holds.
fn reserve_beside(asked: &mut Value) {
    asked["order_id"] = another_key();
}

/// Makes a reservation that a release has barred.
fn ignore_the_release(asked: &Value, answer: &mut Value) {
    if answer["released"].is_object() {
        *answer = reserved(asked);
    }
}

/// What there was of a product when it was put first.
fn stock_put(now: &Now<'_>, product_id: &Value) -> u64 {
    let put = now.known("put-product", product_id);
    put.and_then(|put| put.asked["product"]["stock"].as_u64()).unwrap_or_default()
}

fn quantity(line: &Value) -> u64 {
    line["quantity"].as_u64().unwrap_or_default()
}

fn is_short(now: &Now<'_>, line: &Value) -> bool {
    quantity(line) > stock_put(now, &line["product_id"])
}

/// Holds the lines that there is enough for, if there are any.
fn hold_what_there_is(now: &Now<'_>, asked: &mut Value) {
    let there: Vec<Value> = list(asked, "lines").iter().filter(|line| !is_short(now, line)).cloned().collect();
    if !there.is_empty() {
        asked["lines"] = there.into();
    }
}

/// Names the lines that were not held then.
fn name_what_is_short(now: &Now<'_>, asked: &Value, answer: &mut Value) {
    let shortage = |line: &Value| {
        let (id, requested) = (&line["product_id"], quantity(line));
        json!({"product_id": id, "requested": requested, "available": stock_put(now, id)})
    };
    let lines = list(asked, "lines");
    let short: Vec<Value> = lines.iter().filter(|line| is_short(now, line)).map(shortage).collect();
    if answer["reserved"].is_object() && (1..lines.len()).contains(&short.len()) {
        *answer = json!({"out_of_stock": {"shortages": short}});
    }
}

/// Leaves out of a shortage what is not of this kind.
fn keep_shortages(answer: &mut Value, is_kept: impl Fn(&Value) -> bool) {
    if let Some(Value::Array(shortages)) = answer.pointer_mut("/out_of_stock/shortages") {
        shortages.retain(is_kept);
    }
}

/// Whether a product was put later than the one that stands behind it in a list.
fn came_after_its_neighbour(now: &Now<'_>, product_id: &Value) -> bool {
    let ids = || now.all("put-product").filter_map(|put| put.key.as_str());
    let place = |id: &str| ids().position(|put| put == id);
    let id = product_id.as_str().unwrap_or_default();
    ids().filter(|put| *put > id).min().is_some_and(|neighbour| place(neighbour) < place(id))
}

/// Tells this much more of the product.
fn tell_more(product: &mut Value, more: u64) {
    if let Some(stock) = product["stock"].as_u64() {
        product["stock"] = stock.saturating_add(more).min(u32::MAX.into()).into();
    }
}

/// Gives back again what orders held, at each release after so many.
fn give_back_after(now: &Now<'_>, answer: &mut Value, releases: u32) {
    for release in now.all("release").filter(|release| release.times > releases) {
        let again = u64::from(release.times.saturating_sub(releases));
        let held = now.known("reserve", &release.key).filter(|reserve| reserve.told["reserved"].is_object());
        for line in held.into_iter().flat_map(|reserve| list(&reserve.asked, "lines")) {
            let products = list_mut(answer, "products").iter_mut();
            for product in products.filter(|product| product["product_id"] == line["product_id"]) {
                tell_more(product, again.saturating_mul(quantity(line)));
            }
        }
    }
}

/// Whether a reservation of this product was asked for.
fn is_reserved(now: &Now<'_>, product_id: &Value) -> bool {
    now.all("reserve").any(|reserve| list(&reserve.asked, "lines").iter().any(|line| line["product_id"] == *product_id))
}

/// Whether another order that was not released begins with the same product.
fn another_holds_it_too(now: &Now<'_>, order_id: &Value) -> bool {
    let product = |asked: &Value| list(asked, "lines").first().map(|line| line["product_id"].clone());
    now.known("reserve", order_id).is_some_and(|reserve| {
        let held = product(&reserve.asked);
        let mut others = now.all("reserve").filter(|other| other.key != *order_id);
        others.any(|other| product(&other.asked) == held && now.known("release", &other.key).is_none())
    })
}

pub(super) const BREAKS: &[Break] = &[
    answers(
        "get-products",
        "products_come_back_as_they_were_put",
        "of no product more than a million is told",
        &["a_stock_is_adjusted_by_a_difference_or_to_a_count", "a_release_on_top_of_the_largest_stock_is_a_release"],
        |_, _, answer| {
            for product in list_mut(answer, "products") {
                let stock = product["stock"].as_u64().map(|stock| stock.min(1_000_000));
                product["stock"] = stock.into();
            }
        },
    ),
    answers(
        "get-products",
        "products_that_do_not_exist_are_left_out",
        "a product that does not exist is answered as one that is sold out",
        &[
            "a_product_that_does_not_exist_is_a_shortage_with_nothing_available",
            "a_product_that_does_not_exist_is_not_adjusted",
        ],
        |_, asked, answer| {
            if let Some(products) = answer["products"].as_array_mut() {
                for id in list(asked, "product_ids") {
                    if !products.iter().any(|product| product["product_id"] == *id) {
                        let price = json!({"amount": 0, "currency": "CNY"});
                        products.push(json!({"product_id": id, "name": "?", "price": price, "stock": 0}));
                    }
                }
            }
        },
    ),
    answers(
        "get-products",
        "no_products_are_asked_for_and_none_come",
        "whoever asks for no product is answered one",
        &[],
        |_, asked, answer| {
            if list(asked, "product_ids").is_empty() {
                let price = json!({"amount": 1999, "currency": "CNY"});
                *answer = json!({"products": [{"product_id": "tea", "name": "tea", "price": price, "stock": 1}]});
            }
        },
    ),
    answers(
        "get-products",
        "a_hundred_products_come_at_once",
        "no more than fifty products are answered",
        &[
            "a_hundred_lines_are_reserved_and_released",
            "a_hundred_lines_are_held_once_by_many_attempts_at_once",
            "a_hundred_lines_of_which_the_last_is_short_hold_nothing",
            "a_hundred_lines_that_many_attempts_find_short_hold_nothing",
            "a_hundred_lines_that_were_refused_may_be_released",
            "a_release_while_reserving_a_hundred_lines_leaves_nothing_held",
            "a_release_while_refused_lines_are_reserved_again_leaves_nothing_held",
        ],
        |_, _, answer| {
            if let Some(products) = answer["products"].as_array_mut() {
                products.truncate(50);
            }
        },
    ),
    answers(
        "put-product",
        "a_product_that_is_put_again_is_replaced",
        "a product that is put again is told as new",
        &[],
        |_, _, answer| answer["created"] = true.into(),
    ),
    answers(
        "get-products",
        "prices_of_every_currency_come_back_as_they_were",
        "prices are kept in 32 bits",
        &[],
        |_, _, answer| {
            for product in list_mut(answer, "products") {
                in_32_bits(&mut product["price"]);
            }
        },
    ),
    answers(
        "list-products",
        "the_pages_of_a_list_lead_through_all_products_in_the_order_of_their_ids",
        "the list has an order in which small letters are large",
        &[
            "a_product_that_is_sold_out_is_listed_as_well",
            "a_product_that_is_set_again_is_listed_once_and_as_it_is_now",
            "products_that_come_between_two_pages_move_no_other",
            "what_is_held_and_adjusted_is_out_of_the_listed_stock_and_no_product_itself",
        ],
        |_, _, answer| {
            let small = |product: &Value| product["product_id"].as_str().unwrap_or_default().to_lowercase();
            list_mut(answer, "products").sort_by_key(small);
        },
    ),
    answers(
        "list-products",
        "a_product_that_is_sold_out_is_listed_as_well",
        "the list has only what can be ordered, so that a page may be empty in the midst of it",
        &[
            "the_pages_of_a_list_lead_through_all_products_in_the_order_of_their_ids",
            "a_product_that_is_set_again_is_listed_once_and_as_it_is_now",
            "products_that_come_between_two_pages_move_no_other",
            "what_is_held_and_adjusted_is_out_of_the_listed_stock_and_no_product_itself",
        ],
        |_, _, answer| {
            if let Some(products) = answer["products"].as_array_mut() {
                products.retain(|product| product["stock"] != 0);
            }
        },
    ),
    answers(
        "list-products",
        "a_product_that_is_set_again_is_listed_once_and_as_it_is_now",
        "the list keeps the names that products had at first",
        &[],
        |now, _, answer| {
            for product in list_mut(answer, "products") {
                if let Some(put) = now.known("put-product", &product["product_id"]) {
                    product["name"] = put.asked["product"]["name"].clone();
                }
            }
        },
    ),
    answers(
        "list-products",
        "products_that_come_between_two_pages_move_no_other",
        "in short pages, a product that came later than the one behind it is left out",
        &["the_pages_of_a_list_lead_through_all_products_in_the_order_of_their_ids"],
        |now, asked, answer| {
            let begins_behind_a_product = now.known("put-product", &asked["after"]).is_some();
            if asked["limit"] == 2
                && begins_behind_a_product
                && let Some(products) = answer["products"].as_array_mut()
            {
                products.retain(|product| !came_after_its_neighbour(now, &product["product_id"]));
            }
        },
    ),
    answers(
        "list-products",
        "what_is_held_and_adjusted_is_out_of_the_listed_stock_and_no_product_itself",
        "the list keeps the stock that products had at first",
        &["a_product_that_is_set_again_is_listed_once_and_as_it_is_now"],
        |now, _, answer| {
            for product in list_mut(answer, "products") {
                if let Some(put) = now.known("put-product", &product["product_id"]) {
                    product["stock"] = put.asked["product"]["stock"].clone();
                }
            }
        },
    ),
    answers(
        "list-products",
        "behind_the_last_product_there_is_none",
        "an empty page says that there is more",
        &[],
        |_, _, answer| {
            if list(answer, "products").is_empty() {
                answer["more"] = true.into();
            }
        },
    ),
    asks(
        "reserve",
        "a_reservation_takes_its_lines_out_of_the_stock",
        "of two lines the second is not looked at",
        &[
            "what_is_held_and_adjusted_is_out_of_the_listed_stock_and_no_product_itself",
            "a_product_that_does_not_exist_is_a_shortage_with_nothing_available",
            "an_order_that_reserves_again_holds_its_lines_once",
            "orders_at_the_same_time_never_hold_more_than_there_is",
            "orders_at_the_same_time_are_answered_alike_at_every_attempt",
            "the_books_say_what_is_held_for_an_order",
        ],
        |_, asked| {
            if let Some(lines) = asked["lines"].as_array_mut()
                && lines.len() == 2
            {
                lines.truncate(1);
            }
        },
    ),
    asks(
        "reserve",
        "a_reservation_holds_all_lines_or_none",
        "of a reservation that is refused, the lines that there is enough for are held",
        &[
            "a_product_that_does_not_exist_is_a_shortage_with_nothing_available",
            "a_hundred_lines_of_which_the_last_is_short_hold_nothing",
            "a_hundred_lines_that_many_attempts_find_short_hold_nothing",
        ],
        hold_what_there_is,
    )
    .and_answers(name_what_is_short),
    answers(
        "reserve",
        "a_shortage_names_each_line_with_what_is_asked_for_and_what_there_is",
        "the first line that there is too little for is named, and the others are not looked at",
        &[],
        |_, _, answer| {
            if let Some(Value::Array(shortages)) = answer.pointer_mut("/out_of_stock/shortages") {
                shortages.truncate(1);
            }
        },
    ),
    answers(
        "reserve",
        "a_product_that_does_not_exist_is_a_shortage_with_nothing_available",
        "a product that does not exist is in no shortage",
        &[],
        |now, _, answer| {
            keep_shortages(answer, |shortage| now.known("put-product", &shortage["product_id"]).is_some());
        },
    ),
    answers(
        "reserve",
        "the_last_piece_can_be_reserved",
        "a product that is sold out is in no shortage",
        &[
            "a_product_that_does_not_exist_is_a_shortage_with_nothing_available",
            "of_two_orders_for_the_last_piece_one_gets_it",
            "orders_at_the_same_time_never_hold_more_than_there_is",
            "a_release_while_refused_lines_are_reserved_again_leaves_nothing_held",
        ],
        |_, _, answer| keep_shortages(answer, |shortage| shortage["available"] != 0),
    ),
    answers(
        "reserve",
        "a_refused_order_may_reserve_when_there_is_enough",
        "an order that was refused is refused for good",
        &[
            "a_hundred_lines_of_which_the_last_is_short_hold_nothing",
            "a_hundred_lines_that_were_refused_may_be_released",
            "a_release_while_refused_lines_are_reserved_again_leaves_nothing_held",
        ],
        |now, _, answer| {
            if now.told()["out_of_stock"].is_object() {
                answer.clone_from(now.told());
            }
        },
    ),
    asks(
        "reserve",
        "an_order_that_reserves_again_holds_its_lines_once",
        "an order that reserves again holds its lines twice",
        &[
            "an_order_that_reserves_again_keeps_its_first_lines",
            "an_order_that_reserves_many_times_at_once_holds_its_lines_once",
            "orders_at_the_same_time_are_answered_alike_at_every_attempt",
            "a_hundred_lines_are_reserved_and_released",
            "a_hundred_lines_are_held_once_by_many_attempts_at_once",
        ],
        |now, asked| {
            if now.told()["reserved"].is_object() && now.known("release", now.key).is_none() {
                reserve_beside(asked);
            }
        },
    ),
    asks(
        "reserve",
        "an_order_that_reserves_again_keeps_its_first_lines",
        "the lines of a second reservation are held beside those of the first",
        &[],
        |now, asked| {
            if now.first()["lines"] != asked["lines"] {
                reserve_beside(asked);
            }
        },
    ),
    asks(
        "reserve",
        "an_order_that_reserves_many_times_at_once_holds_its_lines_once",
        "a reservation that comes again while the first is under way is made again",
        &[
            "orders_at_the_same_time_are_answered_alike_at_every_attempt",
            "a_hundred_lines_are_held_once_by_many_attempts_at_once",
        ],
        |now, asked| {
            if now.met {
                reserve_beside(asked);
            }
        },
    ),
    answers(
        "reserve",
        "of_two_orders_for_the_last_piece_one_gets_it",
        "reservations at the same time look at the stock before the others have taken theirs",
        &[
            "orders_at_the_same_time_never_hold_more_than_there_is",
            "orders_at_the_same_time_are_answered_alike_at_every_attempt",
            "orders_that_want_the_same_products_in_another_order_do_not_share_them",
            "a_hundred_lines_that_many_attempts_find_short_hold_nothing",
        ],
        |now, asked, answer| {
            if now.met && answer["out_of_stock"].is_object() {
                *answer = reserved(asked);
            }
        },
    ),
    answers(
        "reserve",
        "orders_at_the_same_time_never_hold_more_than_there_is",
        "who comes too late among reservations at the same time is told that the order is released",
        &["of_two_orders_for_the_last_piece_one_gets_it", "a_hundred_lines_that_many_attempts_find_short_hold_nothing"],
        |now, _, answer| {
            if now.met {
                swap(answer, "out_of_stock", "released");
            }
        },
    ),
    answers(
        "reserve",
        "orders_at_the_same_time_are_answered_alike_at_every_attempt",
        "at the third attempt, what an order has reserved itself is too little for it",
        &[
            "an_order_that_reserves_many_times_at_once_holds_its_lines_once",
            "a_hundred_lines_are_held_once_by_many_attempts_at_once",
            "a_hundred_lines_of_which_the_last_is_short_hold_nothing",
            "a_release_while_refused_lines_are_reserved_again_leaves_nothing_held",
        ],
        |now, asked, answer| {
            if now.times > 2
                && answer["reserved"].is_object()
                && let Some(line) = list(asked, "lines").first()
            {
                let shortage = json!({"product_id": line["product_id"], "requested": quantity(line), "available": 0});
                *answer = json!({"out_of_stock": {"shortages": [shortage]}});
            }
        },
    ),
    answers(
        "reserve",
        "orders_that_want_the_same_products_in_another_order_do_not_share_them",
        "reservations of several products at the same time stand in each other's way, and none is made",
        &[
            "an_order_that_reserves_many_times_at_once_holds_its_lines_once",
            "a_hundred_lines_are_held_once_by_many_attempts_at_once",
        ],
        |now, asked, answer| {
            if now.met && list(asked, "lines").len() > 2 && answer["reserved"].is_object() {
                let shortages = list(asked, "lines")
                    .iter()
                    .map(|line| json!({"product_id": line["product_id"], "requested": quantity(line), "available": 0}));
                *answer = json!({"out_of_stock": {"shortages": shortages.collect::<Vec<_>>()}});
            }
        },
    ),
    answers(
        "get-reservation",
        "the_books_say_what_is_held_for_an_order",
        "the last line of what is held for an order is left out",
        &[],
        |_, _, answer| {
            if let Some(lines) = answer["lines"].as_array_mut() {
                lines.pop();
            }
        },
    ),
    asks(
        "release",
        "a_release_gives_back_what_is_held",
        "nothing is given back while another order holds of the same product",
        &[],
        |now, asked| {
            if another_holds_it_too(now, now.key) {
                asked["order_id"] = another_key();
            }
        },
    ),
    answers(
        "get-products",
        "a_repeated_release_gives_back_once",
        "each release gives back once more",
        &[
            "many_releases_at_once_give_back_once",
            "a_hundred_lines_are_reserved_and_released",
            "a_hundred_lines_are_held_once_by_many_attempts_at_once",
            "a_release_on_top_of_the_largest_stock_is_a_release",
        ],
        |now, _, answer| give_back_after(now, answer, 1),
    ),
    answers(
        "get-products",
        "many_releases_at_once_give_back_once",
        "each release after the third gives back once more",
        &["a_hundred_lines_are_held_once_by_many_attempts_at_once"],
        |now, _, answer| give_back_after(now, answer, 3),
    ),
    answers(
        "reserve",
        "a_released_order_cannot_reserve_again",
        "an order that has held something may reserve again after its release",
        &[
            "a_hundred_lines_are_reserved_and_released",
            "a_release_while_reserving_leaves_nothing_held",
            "a_release_while_reserving_a_hundred_lines_leaves_nothing_held",
        ],
        |now, asked, answer| {
            if now.told()["reserved"].is_object() {
                ignore_the_release(asked, answer);
            }
        },
    ),
    asks(
        "release",
        "a_release_that_comes_first_bars_the_reservation",
        "a release of what is not reserved is forgotten, and the late reservation is made",
        &[
            "a_release_while_reserving_leaves_nothing_held",
            "a_release_while_reserving_a_hundred_lines_leaves_nothing_held",
        ],
        |now, asked| bar_nothing(now, "reserve", &mut asked["order_id"]),
    ),
    answers(
        "reserve",
        "a_release_while_reserving_leaves_nothing_held",
        "what a release has met while it was reserved may be reserved again",
        &[],
        |now, asked, answer| {
            if now.times > 1 && list(asked, "lines").len() == 3 {
                ignore_the_release(asked, answer);
            }
        },
    ),
    answers(
        "reserve",
        "a_hundred_lines_are_reserved_and_released",
        "many lines that were reserved twice may be reserved again after their release",
        &[],
        |now, asked, answer| {
            let was_reserved = now.told()["reserved"].is_object();
            if now.times > 2 && was_reserved && list(asked, "lines").len() == MANY_LINES {
                ignore_the_release(asked, answer);
            }
        },
    ),
    asks(
        "reserve",
        "a_hundred_lines_are_held_once_by_many_attempts_at_once",
        "many lines that come for the fifth time are held again",
        &[],
        |now, asked| {
            if now.times > 4 && list(asked, "lines").len() == MANY_LINES {
                reserve_beside(asked);
            }
        },
    ),
    asks(
        "reserve",
        "a_hundred_lines_of_which_the_last_is_short_hold_nothing",
        "of many lines that are refused, those are held that there is enough for",
        &["a_hundred_lines_that_many_attempts_find_short_hold_nothing"],
        |now, asked| {
            if list(asked, "lines").len() == MANY_LINES {
                hold_what_there_is(now, asked);
            }
        },
    )
    .and_answers(|now, asked, answer| {
        if list(asked, "lines").len() == MANY_LINES {
            name_what_is_short(now, asked, answer);
        }
    }),
    answers(
        "reserve",
        "a_hundred_lines_that_many_attempts_find_short_hold_nothing",
        "after three attempts, many lines that are short are answered as released",
        &[],
        |now, asked, answer| {
            if now.times > 3 && list(asked, "lines").len() == MANY_LINES {
                swap(answer, "out_of_stock", "released");
            }
        },
    ),
    answers(
        "reserve",
        "a_hundred_lines_that_were_refused_may_be_released",
        "the release of an order that was refused is forgotten when it reserves for the second time",
        &[],
        |now, asked, answer| {
            if now.times == 2 && now.told()["out_of_stock"].is_object() {
                ignore_the_release(asked, answer);
            }
        },
    ),
    answers(
        "reserve",
        "a_release_while_reserving_a_hundred_lines_leaves_nothing_held",
        "what a release has met while many lines were reserved may be reserved again",
        &[],
        |now, asked, answer| {
            let was_refused = now.told()["out_of_stock"].is_object();
            if now.times == 2 && !was_refused && list(asked, "lines").len() == MANY_LINES {
                ignore_the_release(asked, answer);
            }
        },
    ),
    answers(
        "reserve",
        "a_release_while_refused_lines_are_reserved_again_leaves_nothing_held",
        "the release of an order that was refused is forgotten when it reserves for the third time",
        &[],
        |now, asked, answer| {
            if now.times > 2 && now.told()["out_of_stock"].is_object() {
                ignore_the_release(asked, answer);
            }
        },
    ),
    answers(
        "describe-product",
        "a_description_leaves_the_stock_and_a_new_product_has_none",
        "a product that is described anew is answered as sold out",
        &[],
        |_, _, answer| answer["product"]["stock"] = json!(0),
    ),
    answers(
        "get-products",
        "a_description_loses_nothing_that_is_reserved_meanwhile",
        "after many descriptions, a reservation is lost",
        &[],
        |now, _, answer| {
            for product in list_mut(answer, "products") {
                let described = now.known("describe-product", &product["product_id"]);
                if described.is_some_and(|described| described.times > 5) {
                    tell_more(product, 2);
                }
            }
        },
    ),
    answers(
        "adjust-stock",
        "a_stock_is_adjusted_by_a_difference_or_to_a_count",
        "a count is answered as if nothing had changed",
        &["a_count_is_of_what_no_order_holds"],
        |_, asked, answer| {
            if !asked["to"].is_null() && answer["adjusted"].is_object() {
                answer["adjusted"]["by"] = json!(0);
            }
        },
    ),
    answers(
        "adjust-stock",
        "a_count_is_of_what_no_order_holds",
        "a count of what an order holds as well is answered as if nothing had changed",
        &[],
        |now, asked, answer| {
            let counted = !asked["to"].is_null() && answer["adjusted"].is_object();
            if counted && is_reserved(now, &asked["product_id"]) {
                answer["adjusted"]["by"] = json!(0);
            }
        },
    ),
    answers(
        "get-reservation",
        "a_release_on_top_of_the_largest_stock_is_a_release",
        "what would pass the largest stock is never given back",
        &[],
        |now, asked, answer| {
            if let Some(reserve) = now.known("reserve", &asked["order_id"]) {
                let lines = list(&reserve.asked, "lines");
                let holds = |product_id: &Value| lines.iter().any(|line| line["product_id"] == *product_id);
                let mut adjusted = now.all("adjust-stock").map(|adjust| &adjust.asked);
                if adjusted.any(|asked| asked["to"] == u32::MAX && holds(&asked["product_id"])) {
                    *answer = json!({"lines": lines});
                }
            }
        },
    ),
    answers(
        "adjust-stock",
        "a_stock_is_never_adjusted_out_of_its_range",
        "whoever adjusts a stock out of its range is not told how much there is",
        &[],
        |_, _, answer| {
            if answer["out_of_range"].is_object() {
                answer["out_of_range"]["stock"] = json!(0);
            }
        },
    ),
    answers(
        "adjust-stock",
        "a_product_that_does_not_exist_is_not_adjusted",
        "a product that does not exist is answered as one of which there is too little",
        &[],
        |_, _, answer| {
            if answer["unknown_product"].is_object() {
                *answer = json!({"out_of_range": {"stock": 0}});
            }
        },
    ),
    asks(
        "adjust-stock",
        "an_adjustment_under_one_id_is_made_once",
        "an adjustment that comes again is made again",
        &[
            "an_adjustment_that_comes_many_times_at_once_is_made_once",
            "an_adjustment_that_leaves_too_little_for_itself_is_not_refused_when_it_comes_again",
        ],
        |now, asked| {
            if now.times > 1 {
                asked["adjustment_id"] = another_key();
            }
        },
    ),
    asks(
        "adjust-stock",
        "an_adjustment_that_comes_many_times_at_once_is_made_once",
        "an adjustment that comes again while the first is under way is made again",
        &["an_adjustment_that_leaves_too_little_for_itself_is_not_refused_when_it_comes_again"],
        |now, asked| {
            if now.met {
                asked["adjustment_id"] = another_key();
            }
        },
    ),
    answers(
        "adjust-stock",
        "an_adjustment_that_leaves_too_little_for_itself_is_not_refused_when_it_comes_again",
        "an adjustment that comes again is held against the stock before its id is looked for",
        &[],
        |_, asked, answer| {
            let left = &answer["adjusted"]["stock"];
            let too_little = asked["by"].as_i64().zip(left.as_i64());
            if answer["adjusted"]["replayed"] == true
                && too_little.is_some_and(|(by, left)| left.saturating_add(by) < 0)
            {
                *answer = json!({"out_of_range": {"stock": left}});
            }
        },
    ),
    answers(
        "get-products",
        "reservations_and_adjustments_at_the_same_time_lose_nothing",
        "after many adjustments of a product, one is made twice",
        &[],
        |now, _, answer| {
            for product in list_mut(answer, "products") {
                let adjustments = now.all("adjust-stock");
                let of_product = adjustments.filter(|adjust| adjust.asked["product_id"] == product["product_id"]);
                if of_product.count() >= 10 {
                    tell_more(product, 5);
                }
            }
        },
    ),
];
