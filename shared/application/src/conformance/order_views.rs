//! What every [`OrderViews`] must do.

use std::collections::BTreeMap;

use domain::{
    ids::{CustomerId, OrderId, ShipmentId, TransactionId},
    order::{OrderCreated, OrderEvent, OrderStatus},
    order_view::{
        AttentionView, CustomerView, OrderView, PaymentStatus, PaymentView, RejectionView, ShipmentStatus, ShipmentView,
    },
};
use serde_json::json;
use uuid::Uuid;

use super::{at_once, moment, money, order_id};
use crate::ports::{CustomerOrders, OrderViews, PlacedOrder, Position, SaveError, Standing, VIEWS_MAX};

/// One test per law; `make` is a future of the read model.
#[macro_export]
macro_rules! order_views_conformance {
    ($make:expr) => {
        $crate::conformance_tests! { order_views, $make,
            an_unknown_order_has_no_view
            a_view_replaces_only_the_one_that_it_names
            of_many_saves_at_once_exactly_one_replaces
            many_views_are_read_at_once
            a_view_comes_back_as_it_was_saved
            views_of_two_orders_do_not_mix
            an_order_is_among_the_open_ones_until_it_has_come_to_rest
            a_walk_over_the_open_orders_meets_each_of_them_once
            open_orders_are_listed_the_newest_first
            the_place_of_a_walk_is_kept
            a_customers_orders_come_the_newest_first_whenever_they_are_listed
            a_customers_orders_are_listed_also_all_at_once
            many_orders_are_listed_and_counted_once
            a_customers_orders_can_be_those_of_one_status
            an_order_is_listed_once_as_it_stood_last
            an_order_changes_among_thousands_of_its_customers
            orders_are_counted_by_their_status
            of_a_customer_the_newest_is_kept
        }
    };
}

fn view(id: OrderId, version: u64) -> OrderView {
    let created: OrderCreated = serde_json::from_value(json!({
        "customer_id": "auth0|anna",
        "items": [{
            "product_id": "tea", "name": "龙井茶 \"best\" 🍵", "quantity": 2,
            "unit_price": {"amount": 1999, "currency": "CNY"}
        }],
        "shipping_address": {
            "street": "南京路 1 号", "city": "上海", "state": "上海", "country": "CN", "postal_code": "200001"
        },
        "payment_method": "pm_card_visa",
        "total_amount": {"amount": 3998, "currency": "CNY"},
        "created_at": moment(),
    }))
    .unwrap();
    OrderView::evolve(None, id, &OrderEvent::OrderCreated(created), version, moment()).unwrap()
}

/// A view in which nothing is left out.
fn full_view(id: OrderId) -> OrderView {
    let mut view = view(id, 1);
    view.status = OrderStatus::Shipped;
    view.customer.first_name = Some("安娜".to_owned());
    view.payment = Some(PaymentView {
        transaction_id: Some(TransactionId("ch_1".to_owned())),
        status: PaymentStatus::Completed,
        amount: money(3998, "CNY"),
        processed_at: moment(),
    });
    view.shipment = Some(ShipmentView {
        shipment_id: ShipmentId("shp_1".to_owned()),
        carrier: "sandbox".to_owned(),
        tracking_number: "SB1".to_owned(),
        status: ShipmentStatus::Created,
        estimated_delivery: moment(),
        delivered_at: Some(moment()),
    });
    view.rejection = Some(RejectionView { code: "expired".to_owned(), detail: String::new() });
    view
}

pub async fn an_unknown_order_has_no_view(views: &impl OrderViews) {
    assert_eq!(views.load(order_id()).await.unwrap(), None);
}

/// Lists and saves the first view of an order, as a projection does.
async fn place(views: &impl OrderViews, view: &OrderView) {
    views.list(view).await.unwrap();
    views.save(view, None).await.unwrap();
}

pub async fn a_view_replaces_only_the_one_that_it_names(views: &impl OrderViews) {
    let id = order_id();
    let superseded =
        |answer: Result<(), SaveError>| assert!(matches!(answer, Err(SaveError::Superseded)), "{answer:?}");
    superseded(views.save(&view(id, 2), Some(&view(id, 1))).await);
    views.save(&view(id, 1), None).await.unwrap();
    superseded(views.save(&view(id, 2), None).await);
    assert_eq!(views.load(id).await.unwrap(), Some(view(id, 1)));
    views.save(&view(id, 3), Some(&view(id, 1))).await.unwrap();
    for stale in [view(id, 1), view(id, 2), view(id, 4)] {
        superseded(views.save(&view(id, 5), Some(&stale)).await);
        assert_eq!(views.load(id).await.unwrap(), Some(view(id, 3)));
    }
    // What is wrong is replaced by what is as old.
    let same = OrderView { status: OrderStatus::Paid, ..view(id, 3) };
    views.save(&same, Some(&view(id, 3))).await.unwrap();
    assert_eq!(views.load(id).await.unwrap(), Some(same));
}

pub async fn of_many_saves_at_once_exactly_one_replaces(views: &impl OrderViews) {
    let (first, second) = (view(order_id(), 1), view(order_id(), 2));
    let second = OrderView { id: first.id, ..second };
    let exactly_one = |answers: Vec<Result<(), SaveError>>| {
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
        assert!(answers.iter().all(|answer| matches!(answer, Ok(()) | Err(SaveError::Superseded))), "{answers:?}");
    };
    exactly_one(at_once((0..20).map(|_| views.save(&first, None))).await);
    exactly_one(at_once((0..20).map(|_| views.save(&second, Some(&first)))).await);
}

pub async fn many_views_are_read_at_once(views: &impl OrderViews) {
    let mut stored: Vec<OrderView> = (0..VIEWS_MAX - 1).map(|_| view(order_id(), 1)).collect();
    for view in &stored {
        place(views, view).await;
    }
    let mut ids: Vec<OrderId> = stored.iter().map(|view| view.id).collect();
    ids.push(order_id());
    let mut read = views.load_many(&ids).await.unwrap();
    stored.sort_unstable_by_key(|view| view.id);
    read.sort_unstable_by_key(|view| view.id);
    assert_eq!(read, stored);
    assert_eq!(views.load_many(&[]).await.unwrap(), []);
}

pub async fn a_view_comes_back_as_it_was_saved(views: &impl OrderViews) {
    for view in [view(order_id(), 1), full_view(order_id())] {
        place(views, &view).await;
        assert_eq!(views.load(view.id).await.unwrap(), Some(view));
    }
}

pub async fn views_of_two_orders_do_not_mix(views: &impl OrderViews) {
    let one = view(order_id(), 1);
    place(views, &one).await;
    assert_eq!(views.load(order_id()).await.unwrap(), None);
    place(views, &view(order_id(), 7)).await;
    assert_eq!(views.load(one.id).await.unwrap(), Some(one));
}

pub async fn an_order_is_among_the_open_ones_until_it_has_come_to_rest(views: &impl OrderViews) {
    let later = moment() + chrono::TimeDelta::seconds(1);
    let mut open = view(order_id(), 1);
    place(views, &open).await;
    assert_eq!(open_ids(views, later).await, [open.id]);
    assert_eq!(open_ids(views, moment()).await, [], "it was not placed before that time");
    for (version, status) in [(2, OrderStatus::Cancelling), (3, OrderStatus::NeedsAttention)] {
        let before = open.clone();
        (open.version, open.status) = (version, status);
        views.save(&open, Some(&before)).await.unwrap();
        assert_eq!(open_ids(views, later).await, [open.id]);
    }
    let before = open.clone();
    (open.version, open.status) = (4, OrderStatus::Cancelled);
    views.save(&open, Some(&before)).await.unwrap();
    assert_eq!(open_ids(views, later).await, []);
}

/// As reconcile and whoever resumes many orders at once walk over them, page by page.
async fn walk(
    views: &impl OrderViews,
    standing: Standing,
    placed_before: chrono::DateTime<chrono::Utc>,
) -> Vec<OrderId> {
    let (mut ids, mut after) = (Vec::new(), None);
    loop {
        let page = views.open_orders(standing, placed_before, after.as_deref(), 7).await.unwrap();
        assert!(page.ids.len() <= 7, "{page:?}");
        ids.extend(page.ids);
        let Some(next) = page.next else { return ids };
        assert_ne!(after.as_ref(), Some(&next), "the walk over the open orders does not end");
        after = Some(next);
    }
}

pub async fn a_walk_over_the_open_orders_meets_each_of_them_once(views: &impl OrderViews) {
    let (mut under_way, mut waiting, mut in_doubt) = (Vec::new(), Vec::new(), Vec::new());
    // Some of them under ids like those that orders without an `Idempotency-Key` have.
    for number in 0..100 {
        let id = if number % 3 == 0 { OrderId::new(Uuid::now_v7()) } else { order_id() };
        let mut open = view(id, 1);
        if number % 5 == 0 {
            let (step, reason) = ("process-payment".to_owned(), "Unavailable".to_owned());
            open.attention = Some(AttentionView { step, reason, interrupted: open.status });
            open.status = OrderStatus::NeedsAttention;
            waiting.push(open.id);
        } else if number % 5 == 1 {
            // In doubt as long as the others have been placed.
            open.created_at -= chrono::TimeDelta::days(1);
            (open.status, open.in_doubt_since) = (OrderStatus::Cancelled, Some(moment()));
            in_doubt.push(open.id);
        } else {
            under_way.push(open.id);
        }
        place(views, &open).await;
    }
    let later = moment() + chrono::TimeDelta::seconds(1);
    let all = [(Standing::UnderWay, under_way), (Standing::Waiting, waiting), (Standing::InDoubt, in_doubt)];
    for (standing, mut expected) in all {
        let mut met = walk(views, standing, later).await;
        met.sort_unstable();
        expected.sort_unstable();
        assert_eq!(met, expected, "{standing:?}");
        assert_eq!(walk(views, standing, moment()).await, [], "they did not stand like that before that time");
    }
}

pub async fn open_orders_are_listed_the_newest_first(views: &impl OrderViews) {
    let start = moment();
    let at = |second: i64| start + chrono::TimeDelta::seconds(second);
    let mut waiting = Vec::new();
    for second in 0..40 {
        let mut open = view(order_id(), 1);
        // Two in each moment, of which one is still under way every now and then.
        open.created_at = at(second / 2);
        if second % 5 > 0 {
            let (step, reason) = ("process-payment".to_owned(), "Unavailable".to_owned());
            open.attention = Some(AttentionView { step, reason, interrupted: open.status });
            open.status = OrderStatus::NeedsAttention;
            waiting.push(PlacedOrder::of(&open));
        }
        place(views, &open).await;
    }
    waiting.sort_by(|one, other| other.cmp(one));
    let list =
        async |from, before: &Position, limit| views.newest_open(Standing::Waiting, from, before, limit).await.unwrap();
    let (mut listed, mut end) = (Vec::new(), Position::start_of(at(1_000)));
    loop {
        let page = list(start, &end, 7).await;
        let Some(oldest) = page.last() else { break };
        assert!(page.len() <= 7 && listed.len() < waiting.len(), "it does not end");
        end = oldest.position();
        listed.extend(page);
    }
    assert_eq!(listed, waiting);
    let in_window: Vec<PlacedOrder> = waiting
        .into_iter()
        .filter(|order| (at(5).timestamp_millis()..at(9).timestamp_millis()).contains(&order.millis))
        .collect();
    assert_eq!(list(at(5), &Position::start_of(at(9)), 100).await, in_window);
    assert_eq!(list(at(9), &Position::start_of(at(5)), 100).await, [], "a window that ends before it begins");
}

pub async fn the_place_of_a_walk_is_kept(views: &impl OrderViews) {
    assert_eq!(views.place_kept().await.unwrap(), None);
    for place in [Some("here"), Some("there"), None] {
        views.keep_place(place).await.unwrap();
        assert_eq!(views.place_kept().await.unwrap().as_deref(), place);
    }
}

async fn open_ids(views: &impl OrderViews, placed_before: chrono::DateTime<chrono::Utc>) -> Vec<OrderId> {
    walk(views, Standing::UnderWay, placed_before).await
}

/// A view of an order by this customer, placed so many milliseconds later than others.
fn placed_by(customer: &CustomerId, later: i64) -> OrderView {
    let mut view = view(order_id(), 1);
    view.customer.id = customer.clone();
    view.created_at += chrono::TimeDelta::milliseconds(later);
    view
}

fn customer_id() -> CustomerId {
    CustomerId::parse(&format!("auth0|{}", order_id())).unwrap()
}

fn listed(views: &[OrderView]) -> Vec<PlacedOrder> {
    let mut orders: Vec<_> = views.iter().map(PlacedOrder::of).collect();
    orders.sort_unstable_by(|one, other| other.cmp(one));
    orders
}

/// Enough of them to fill several parts of whatever they are kept in, not placed in the order of their times.
pub async fn a_customers_orders_come_the_newest_first_whenever_they_are_listed(views: &impl OrderViews) {
    let (anna, bert) = (customer_id(), customer_id());
    place(views, &placed_by(&bert, 7)).await;
    let mut placed = Vec::new();
    for number in 0..500_i64 {
        // Every second one comes late, and some come at the same moment.
        let view = placed_by(&anna, if number % 2 == 0 { number } else { 500 - number } / 3);
        assert!(views.list(&view).await.unwrap());
        placed.push(view);
    }
    let expected = listed(&placed);
    for (skip, limit) in [(0, 20), (480, 20), (130, 100), (490, 20), (500, 20), (9_999, 20), (0, usize::MAX)] {
        let part = views.customer_orders(&anna, skip, limit).await.unwrap();
        let orders: Vec<PlacedOrder> = expected.iter().copied().skip(skip).take(limit).collect();
        assert_eq!(part, CustomerOrders { orders, total: 500 }, "from {skip}");
    }
    assert_eq!(views.customer_orders(&bert, 0, 20).await.unwrap().total, 1);
    let none = CustomerOrders { orders: vec![], total: 0 };
    assert_eq!(views.customer_orders(&customer_id(), 0, 20).await.unwrap(), none);
}

pub async fn a_customers_orders_are_listed_also_all_at_once(views: &impl OrderViews) {
    let anna = customer_id();
    let placed: Vec<OrderView> = (0..20).map(|later| placed_by(&anna, later)).collect();
    for answer in at_once(placed.iter().map(|view| views.list(view))).await {
        answer.unwrap();
    }
    let all = views.customer_orders(&anna, 0, 100).await.unwrap();
    assert_eq!(all, CustomerOrders { orders: listed(&placed), total: 20 });
}

/// Of customers with one order and of one with many, some at rest and some listed before, in overlapping parts at the same time.
pub async fn many_orders_are_listed_and_counted_once(views: &impl OrderViews) {
    let (anna, others) = (customer_id(), (0..60).map(|_| customer_id()).collect::<Vec<_>>());
    let before = views.count().await.unwrap();
    let rests = |view: OrderView, number: i64| match number % 3 {
        0 => at_rest(&view, OrderStatus::Confirmed),
        1 => at_rest(&view, OrderStatus::Rejected),
        _ => view,
    };
    let of_anna = (0..60).map(|number| rests(placed_by(&anna, number), number));
    let of_others = (0..).zip(&others).map(|(number, customer)| rests(placed_by(customer, number), number));
    let placed: Vec<OrderView> = of_anna.zip(of_others).flat_map(|(one, other)| [one, other]).collect();
    views.list(&placed[7]).await.unwrap();
    let parts = placed.chunks(30).chain([&placed[10..90]]);
    for answer in at_once(parts.map(|part| views.list_many(part))).await {
        answer.unwrap();
    }
    views.list_many(&placed[20..100]).await.unwrap();

    let by = |customer: &CustomerId| {
        let orders: Vec<_> = placed.iter().filter(|view| view.customer.id == *customer).cloned().collect();
        CustomerOrders { total: orders.len(), orders: listed(&orders) }
    };
    for customer in others.iter().chain([&anna]) {
        assert_eq!(views.customer_orders(customer, 0, usize::MAX).await.unwrap(), by(customer));
    }
    let now = views.count().await.unwrap();
    for status in [OrderStatus::Confirmed, OrderStatus::Rejected] {
        let count = |counts: &BTreeMap<OrderStatus, u64>| counts.get(&status).copied().unwrap_or_default();
        assert_eq!(count(&now), count(&before) + 40, "{status:?}");
    }
}

fn at_rest(view: &OrderView, status: OrderStatus) -> OrderView {
    OrderView { version: view.version + 1, status, ..view.clone() }
}

pub async fn a_customers_orders_can_be_those_of_one_status(views: &impl OrderViews) {
    let anna = customer_id();
    let (mut cancelled, mut shipped) = (Vec::new(), Vec::new());
    for later in 0..60 {
        let first = placed_by(&anna, later);
        place(views, &first).await;
        let (status, list) = match later % 3 {
            0 => (OrderStatus::Cancelled, &mut cancelled),
            1 => (OrderStatus::Shipped, &mut shipped),
            _ => continue,
        };
        let view = at_rest(&first, status);
        views.save(&view, Some(&first)).await.unwrap();
        views.list(&view).await.unwrap();
        list.push(view);
    }
    for (status, list) in [(OrderStatus::Cancelled, &cancelled), (OrderStatus::Shipped, &shipped)] {
        let part = views.customer_orders_with_status(&anna, status, 4, 5).await.unwrap();
        assert_eq!(part, CustomerOrders { orders: listed(list)[4..9].to_vec(), total: 20 }, "{status:?}");
    }
    let none = views.customer_orders_with_status(&anna, OrderStatus::Paid, 0, 5).await.unwrap();
    assert_eq!(none, CustomerOrders { orders: vec![], total: 0 });
}

pub async fn an_order_is_listed_once_as_it_stood_last(views: &impl OrderViews) {
    let anna = customer_id();
    let first = placed_by(&anna, 0);
    let before = views.count().await.unwrap();
    let confirmed = at_rest(&first, OrderStatus::Confirmed);
    let reopened = at_rest(&confirmed, OrderStatus::Cancelling);
    let cancelled = at_rest(&reopened, OrderStatus::Cancelled);
    for view in [&first, &confirmed, &first, &confirmed, &reopened, &cancelled] {
        assert!(views.list(view).await.unwrap(), "{:?}", view.status);
        assert!(!views.list(view).await.unwrap(), "{:?}", view.status);
        let now = views.count().await.unwrap();
        for status in OrderStatus::ALL {
            let more = u64::from(view.status_at_rest() == Some(status));
            let count = |counts: &BTreeMap<_, u64>| counts.get(&status).copied().unwrap_or_default();
            assert_eq!(count(&now), count(&before) + more, "{status:?}");
        }
    }
    assert_eq!(views.customer_orders(&anna, 0, 9).await.unwrap().orders, [PlacedOrder::of(&first)]);
}

/// Wherever it stands among them, and without disturbing the others.
pub async fn an_order_changes_among_thousands_of_its_customers(views: &impl OrderViews) {
    let anna = customer_id();
    let placed: Vec<OrderView> = (0..400).map(|later| placed_by(&anna, later)).collect();
    for view in &placed {
        views.list(view).await.unwrap();
    }
    let mut cancelled = Vec::new();
    for number in [0, 7, 150, 399, 380, 7] {
        let view = at_rest(&placed[number], OrderStatus::Cancelled);
        views.list(&view).await.unwrap();
        cancelled.push(view);
    }
    cancelled.pop();
    let all = views.customer_orders(&anna, 0, usize::MAX).await.unwrap();
    assert_eq!(all, CustomerOrders { orders: listed(&placed), total: 400 });
    for view in &cancelled {
        views.save(view, None).await.unwrap();
    }
    let part = views.customer_orders_with_status(&anna, OrderStatus::Cancelled, 0, 10).await.unwrap();
    assert_eq!(part, CustomerOrders { orders: listed(&cancelled), total: 5 });
}

pub async fn orders_are_counted_by_their_status(views: &impl OrderViews) {
    let before = views.count().await.unwrap();
    let mut changing = view(order_id(), 1);
    place(views, &changing).await;
    let rejected = OrderView { status: OrderStatus::Rejected, ..view(order_id(), 1) };
    place(views, &rejected).await;
    let counted = async |status| {
        let now = views.count().await.unwrap();
        now.get(&status).copied().unwrap_or_default() - before.get(&status).copied().unwrap_or_default()
    };
    assert_eq!((counted(OrderStatus::Created).await, counted(OrderStatus::Rejected).await), (1, 1));
    for status in [OrderStatus::Paid, OrderStatus::Confirmed, OrderStatus::Cancelling, OrderStatus::Cancelled] {
        let before = changing.clone();
        changing = at_rest(&before, status);
        for _ in 0..2 {
            let _ = views.save(&changing, Some(&before)).await;
            views.list(&changing).await.unwrap();
            assert_eq!((counted(before.status).await, counted(status).await), (0, 1));
        }
    }
}

pub async fn of_a_customer_the_newest_is_kept(views: &impl OrderViews) {
    let (anna, bert) = (customer_id(), customer_id());
    let named = |version, name: &str| CustomerView {
        version,
        first_name: Some(name.to_owned()),
        email_verified: true,
        ..CustomerView::unknown(anna.clone())
    };
    let known = async || views.customers(&[bert.clone(), anna.clone()]).await.unwrap();
    assert_eq!(known().await, []);
    for (version, name, kept) in
        [(2, "安娜", "安娜"), (1, "Anna", "安娜"), (3, "Berta", "Berta"), (3, "Berta", "Berta")]
    {
        views.save_customer(&named(version, name)).await.unwrap();
        let [customer] = known().await.try_into().unwrap();
        assert_eq!(customer.first_name.as_deref(), Some(kept));
    }
    assert_eq!(known().await, [named(3, "Berta")]);
}
