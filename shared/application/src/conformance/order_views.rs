//! What every [`OrderViews`] must do.

use domain::{
    ids::{OrderId, ShipmentId, TransactionId},
    order::{OrderCreated, OrderEvent, OrderStatus},
    order_view::{AttentionView, OrderView, PaymentStatus, PaymentView, RejectionView, ShipmentStatus, ShipmentView},
};
use serde_json::json;

use super::{at_once, moment, money, order_id};
use crate::ports::{OrderViews, SaveError};

/// One test per law; `make` is a future of the read model.
#[macro_export]
macro_rules! order_views_conformance {
    ($make:expr) => {
        $crate::conformance_tests! { order_views, $make,
            an_unknown_order_has_no_view
            a_first_view_is_saved_where_there_is_none
            a_first_view_does_not_replace_another
            a_view_replaces_the_version_that_it_names_only
            of_many_saves_at_once_exactly_one_replaces
            a_view_comes_back_as_it_was_saved
            views_of_two_orders_do_not_mix
            an_order_is_among_the_open_ones_until_it_has_come_to_rest
            of_the_open_orders_only_a_part_is_answered_and_that_there_are_more
            the_open_orders_that_wait_for_a_person_come_last
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

async fn assert_superseded(views: &impl OrderViews, view: &OrderView, replaces: u64) {
    let before = views.load(view.id).await.unwrap();
    let answer = views.save(view, replaces).await;
    assert!(matches!(answer, Err(SaveError::Superseded)), "{answer:?}");
    assert_eq!(views.load(view.id).await.unwrap(), before);
}

pub async fn an_unknown_order_has_no_view(views: &impl OrderViews) {
    assert_eq!(views.load(order_id()).await.unwrap(), None);
}

pub async fn a_first_view_is_saved_where_there_is_none(views: &impl OrderViews) {
    let first = view(order_id(), 1);
    assert_superseded(views, &first, 1).await;
    views.save(&first, 0).await.unwrap();
    assert_eq!(views.load(first.id).await.unwrap(), Some(first));
}

pub async fn a_first_view_does_not_replace_another(views: &impl OrderViews) {
    let id = order_id();
    views.save(&view(id, 1), 0).await.unwrap();
    assert_superseded(views, &view(id, 2), 0).await;
}

pub async fn a_view_replaces_the_version_that_it_names_only(views: &impl OrderViews) {
    let id = order_id();
    views.save(&view(id, 1), 0).await.unwrap();
    views.save(&view(id, 3), 1).await.unwrap();
    for stale in [0, 1, 2, 4] {
        assert_superseded(views, &view(id, 5), stale).await;
    }
    views.save(&view(id, 5), 3).await.unwrap();
    assert_eq!(views.load(id).await.unwrap(), Some(view(id, 5)));
}

pub async fn of_many_saves_at_once_exactly_one_replaces(views: &impl OrderViews) {
    let id = order_id();
    for (replaces, version) in [(0, 1), (1, 2)] {
        let candidate = view(id, version);
        let answers = at_once((0..20).map(|_| views.save(&candidate, replaces))).await;
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
        assert!(answers.iter().all(|answer| matches!(answer, Ok(()) | Err(SaveError::Superseded))), "{answers:?}");
    }
}

pub async fn a_view_comes_back_as_it_was_saved(views: &impl OrderViews) {
    for view in [view(order_id(), 1), full_view(order_id())] {
        views.save(&view, 0).await.unwrap();
        assert_eq!(views.load(view.id).await.unwrap(), Some(view));
    }
}

pub async fn views_of_two_orders_do_not_mix(views: &impl OrderViews) {
    let one = view(order_id(), 1);
    views.save(&one, 0).await.unwrap();
    assert_eq!(views.load(order_id()).await.unwrap(), None);
    views.save(&view(order_id(), 7), 0).await.unwrap();
    assert_eq!(views.load(one.id).await.unwrap(), Some(one));
}

pub async fn an_order_is_among_the_open_ones_until_it_has_come_to_rest(views: &impl OrderViews) {
    let later = moment() + chrono::TimeDelta::seconds(1);
    let mut open = view(order_id(), 1);
    views.save(&open, 0).await.unwrap();
    assert_eq!(open_ids(views, later).await, [open.id]);
    assert_eq!(open_ids(views, moment()).await, [], "it was not placed before that time");
    for (version, status) in [(2, OrderStatus::Cancelling), (3, OrderStatus::NeedsAttention)] {
        (open.version, open.status) = (version, status);
        views.save(&open, version - 1).await.unwrap();
        assert_eq!(open_ids(views, later).await, [open.id]);
    }
    (open.version, open.status) = (4, OrderStatus::Cancelled);
    views.save(&open, 3).await.unwrap();
    assert_eq!(open_ids(views, later).await, []);
}

pub async fn of_the_open_orders_only_a_part_is_answered_and_that_there_are_more(views: &impl OrderViews) {
    for _ in 0..100 {
        views.save(&view(order_id(), 1), 0).await.unwrap();
    }
    let later = moment() + chrono::TimeDelta::seconds(1);
    let some = views.open_orders(later, 16).await.unwrap();
    assert!((1..=32).contains(&some.ids.len()) && some.more, "{some:?}");
    let all = views.open_orders(later, 10_000).await.unwrap();
    assert_eq!((all.ids.len(), all.more), (100, false));
}

pub async fn the_open_orders_that_wait_for_a_person_come_last(views: &impl OrderViews) {
    let mut waiting = Vec::new();
    for number in 0..40 {
        let mut open = view(order_id(), 1);
        if number % 2 == 0 {
            let (step, reason) = ("process-payment".to_owned(), "Unavailable".to_owned());
            open.attention = Some(AttentionView { step, reason, interrupted: open.status });
            open.status = OrderStatus::NeedsAttention;
            waiting.push(open.id);
        }
        views.save(&open, 0).await.unwrap();
    }
    let later = moment() + chrono::TimeDelta::seconds(1);
    let all = views.open_orders(later, 10_000).await.unwrap().ids;
    let mut last = all[20..].to_vec();
    last.sort_unstable();
    waiting.sort_unstable();
    assert_eq!(last, waiting);
}

async fn open_ids(views: &impl OrderViews, placed_before: chrono::DateTime<chrono::Utc>) -> Vec<OrderId> {
    views.open_orders(placed_before, 100).await.unwrap().ids
}
