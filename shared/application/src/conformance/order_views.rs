//! What every [`OrderViews`] must do.

use domain::{
    ids::{CustomerId, OrderId, ShipmentId, TransactionId},
    order::{OrderCreated, OrderEvent, OrderStatus},
    order_view::{AttentionView, OrderView, PaymentStatus, PaymentView, RejectionView, ShipmentStatus, ShipmentView},
};
use serde_json::json;
use uuid::Uuid;

use super::{at_once, moment, money, order_id};
use crate::ports::{CustomerOrders, OrderViews, SaveError, Standing, VIEWS_MAX};

/// One test per law; `make` is a future of the read model.
#[macro_export]
macro_rules! order_views_conformance {
    ($make:expr) => {
        $crate::conformance_tests! { order_views, $make,
            an_unknown_order_has_no_view
            an_order_is_placed_once
            a_view_replaces_only_the_one_that_it_names
            of_many_saves_at_once_exactly_one_replaces
            many_views_are_read_at_once
            a_view_comes_back_as_it_was_saved
            views_of_two_orders_do_not_mix
            an_order_is_among_the_open_ones_until_it_has_come_to_rest
            a_walk_over_the_open_orders_meets_each_of_them_once
            the_place_of_a_walk_is_kept
            a_customers_orders_come_the_newest_first_whenever_they_are_placed
            a_customers_orders_are_placed_also_all_at_once
            a_customers_orders_can_be_those_of_one_status
            orders_are_counted_by_their_status
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

pub async fn an_order_is_placed_once(views: &impl OrderViews) {
    let id = order_id();
    views.place(&view(id, 1)).await.unwrap();
    let again = views.place(&view(id, 2)).await;
    assert!(matches!(again, Err(SaveError::Superseded)), "{again:?}");
    assert_eq!(views.load(id).await.unwrap(), Some(view(id, 1)));
}

pub async fn a_view_replaces_only_the_one_that_it_names(views: &impl OrderViews) {
    let id = order_id();
    let never_placed = views.save(&view(id, 2), &view(id, 1)).await;
    assert!(matches!(never_placed, Err(SaveError::Superseded)), "{never_placed:?}");
    views.place(&view(id, 1)).await.unwrap();
    views.save(&view(id, 3), &view(id, 1)).await.unwrap();
    let mut renamed = view(id, 3);
    renamed.customer.version = 1;
    for stale in [view(id, 1), view(id, 2), view(id, 4), renamed.clone()] {
        let answer = views.save(&view(id, 5), &stale).await;
        assert!(matches!(answer, Err(SaveError::Superseded)), "{answer:?}");
        assert_eq!(views.load(id).await.unwrap(), Some(view(id, 3)));
    }
    views.save(&renamed, &view(id, 3)).await.unwrap();
    views.save(&view(id, 5), &renamed).await.unwrap();
    assert_eq!(views.load(id).await.unwrap(), Some(view(id, 5)));
}

pub async fn of_many_saves_at_once_exactly_one_replaces(views: &impl OrderViews) {
    let (first, second) = (view(order_id(), 1), view(order_id(), 2));
    let second = OrderView { id: first.id, ..second };
    let exactly_one = |answers: Vec<Result<(), SaveError>>| {
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
        assert!(answers.iter().all(|answer| matches!(answer, Ok(()) | Err(SaveError::Superseded))), "{answers:?}");
    };
    exactly_one(at_once((0..20).map(|_| views.place(&first))).await);
    exactly_one(at_once((0..20).map(|_| views.save(&second, &first))).await);
}

pub async fn many_views_are_read_at_once(views: &impl OrderViews) {
    let mut stored: Vec<OrderView> = (0..VIEWS_MAX - 1).map(|_| view(order_id(), 1)).collect();
    for view in &stored {
        views.place(view).await.unwrap();
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
        views.place(&view).await.unwrap();
        assert_eq!(views.load(view.id).await.unwrap(), Some(view));
    }
}

pub async fn views_of_two_orders_do_not_mix(views: &impl OrderViews) {
    let one = view(order_id(), 1);
    views.place(&one).await.unwrap();
    assert_eq!(views.load(order_id()).await.unwrap(), None);
    views.place(&view(order_id(), 7)).await.unwrap();
    assert_eq!(views.load(one.id).await.unwrap(), Some(one));
}

pub async fn an_order_is_among_the_open_ones_until_it_has_come_to_rest(views: &impl OrderViews) {
    let later = moment() + chrono::TimeDelta::seconds(1);
    let mut open = view(order_id(), 1);
    views.place(&open).await.unwrap();
    assert_eq!(open_ids(views, later).await, [open.id]);
    assert_eq!(open_ids(views, moment()).await, [], "it was not placed before that time");
    for (version, status) in [(2, OrderStatus::Cancelling), (3, OrderStatus::NeedsAttention)] {
        let before = open.clone();
        (open.version, open.status) = (version, status);
        views.save(&open, &before).await.unwrap();
        assert_eq!(open_ids(views, later).await, [open.id]);
    }
    let before = open.clone();
    (open.version, open.status) = (4, OrderStatus::Cancelled);
    views.save(&open, &before).await.unwrap();
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
    let (mut under_way, mut waiting) = (Vec::new(), Vec::new());
    // Some of them under ids like those that orders without an `Idempotency-Key` have.
    for number in 0..100 {
        let id = if number % 3 == 0 { OrderId::new(Uuid::now_v7()) } else { order_id() };
        let mut open = view(id, 1);
        if number % 5 == 0 {
            let (step, reason) = ("process-payment".to_owned(), "Unavailable".to_owned());
            open.attention = Some(AttentionView { step, reason, interrupted: open.status });
            open.status = OrderStatus::NeedsAttention;
            waiting.push(open.id);
        } else {
            under_way.push(open.id);
        }
        views.place(&open).await.unwrap();
    }
    let later = moment() + chrono::TimeDelta::seconds(1);
    for (standing, mut expected) in [(Standing::UnderWay, under_way), (Standing::Waiting, waiting)] {
        let mut met = walk(views, standing, later).await;
        met.sort_unstable();
        expected.sort_unstable();
        assert_eq!(met, expected, "{standing:?}");
        assert_eq!(walk(views, standing, moment()).await, [], "they were not placed before that time");
    }
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

fn newest_first(views: &[OrderView]) -> Vec<OrderId> {
    let mut places: Vec<_> = views.iter().map(|view| (view.created_at, view.id)).collect();
    places.sort_unstable_by(|one, other| other.cmp(one));
    places.into_iter().map(|(_, id)| id).collect()
}

/// Enough of them to fill several parts of whatever they are kept in, not placed in the order of their times.
pub async fn a_customers_orders_come_the_newest_first_whenever_they_are_placed(views: &impl OrderViews) {
    let (anna, bert) = (customer_id(), customer_id());
    views.place(&placed_by(&bert, 7)).await.unwrap();
    let mut placed = Vec::new();
    for number in 0..500_i64 {
        // Every second one comes late, and some come at the same moment.
        let view = placed_by(&anna, if number % 2 == 0 { number } else { 500 - number } / 3);
        views.place(&view).await.unwrap();
        placed.push(view);
    }
    let expected = newest_first(&placed);
    for (skip, limit) in [(0, 20), (480, 20), (130, 100), (490, 20), (500, 20), (9_999, 20), (0, usize::MAX)] {
        let part = views.customer_orders(&anna, skip, limit).await.unwrap();
        let ids: Vec<OrderId> = expected.iter().copied().skip(skip).take(limit).collect();
        assert_eq!(part, CustomerOrders { ids, total: 500 }, "from {skip}");
    }
    assert_eq!(views.customer_orders(&bert, 0, 20).await.unwrap().total, 1);
    let none = CustomerOrders { ids: vec![], total: 0 };
    assert_eq!(views.customer_orders(&customer_id(), 0, 20).await.unwrap(), none);
}

pub async fn a_customers_orders_are_placed_also_all_at_once(views: &impl OrderViews) {
    let anna = customer_id();
    let placed: Vec<OrderView> = (0..20).map(|later| placed_by(&anna, later)).collect();
    for answer in at_once(placed.iter().map(|view| views.place(view))).await {
        answer.unwrap();
    }
    let all = views.customer_orders(&anna, 0, 100).await.unwrap();
    assert_eq!(all, CustomerOrders { ids: newest_first(&placed), total: 20 });
}

pub async fn a_customers_orders_can_be_those_of_one_status(views: &impl OrderViews) {
    let anna = customer_id();
    let mut placed = Vec::new();
    for later in 0..30 {
        let mut view = placed_by(&anna, later);
        views.place(&view).await.unwrap();
        if later % 3 == 0 {
            let before = view.clone();
            (view.version, view.status) = (2, OrderStatus::Cancelled);
            views.save(&view, &before).await.unwrap();
            placed.push(view);
        }
    }
    let part = views.customer_orders_with_status(&anna, OrderStatus::Cancelled, 4, 5).await.unwrap();
    assert_eq!(part, CustomerOrders { ids: newest_first(&placed)[4..9].to_vec(), total: 10 });
    let none = views.customer_orders_with_status(&anna, OrderStatus::Shipped, 0, 5).await.unwrap();
    assert_eq!(none, CustomerOrders { ids: vec![], total: 0 });
}

pub async fn orders_are_counted_by_their_status(views: &impl OrderViews) {
    let before = views.count().await.unwrap();
    let mut changing = view(order_id(), 1);
    views.place(&changing).await.unwrap();
    let mut at_rest = view(order_id(), 1);
    at_rest.status = OrderStatus::Rejected;
    views.place(&at_rest).await.unwrap();
    let counted = async |status| {
        let now = views.count().await.unwrap();
        now.get(&status).copied().unwrap_or_default() - before.get(&status).copied().unwrap_or_default()
    };
    assert_eq!((counted(OrderStatus::Created).await, counted(OrderStatus::Rejected).await), (1, 1));
    for status in [OrderStatus::Paid, OrderStatus::Confirmed, OrderStatus::Cancelling, OrderStatus::Cancelled] {
        let before = changing.clone();
        (changing.version, changing.status) = (changing.version + 1, status);
        views.save(&changing, &before).await.unwrap();
        assert_eq!((counted(before.status).await, counted(status).await), (0, 1));
        let stale = views.save(&changing, &before).await;
        assert!(matches!(stale, Err(SaveError::Superseded)));
        assert_eq!(counted(status).await, 1);
    }
}
