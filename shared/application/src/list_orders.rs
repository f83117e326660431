//! Orders of all customers by their status, the newest first: what staff look at when nobody has called.
//!
//! Nothing is written for it. Orders at rest are found by the event that brought them there, those for which something is still to
//! be done in the index of these; and what is found counts if its view says so.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use domain::{ids::OrderId, order::OrderStatus, order_view::OrderView};

use crate::{
    event_store::Unavailable,
    list_events::{EventsWanted, places},
    ports::{Index, OrderViews, Position, Standing},
    shown_orders::load_shown,
};

/// How often a page is looked for where most of what is found is something else by now.
const ROUNDS_MAX: usize = 5;

/// Which orders are wanted. Of times, milliseconds count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrdersWanted {
    /// All orders, without it.
    pub status: Option<OrderStatus>,
    /// The first moment of the window: in which an order came to rest that is wanted at rest, in which any other was placed.
    pub from: DateTime<Utc>,
    /// The first moment after it.
    pub to: DateTime<Utc>,
    /// Only what comes after the order at this position, newest first: where another page has ended.
    pub after: Option<Position>,
}

/// Some of these orders, newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct OrderPage {
    /// Each with its customer.
    pub orders: Vec<OrderView>,
    /// Where this page has ended, when others may follow. It may have fewer orders than were asked for all the same.
    pub next: Option<Position>,
}

/// Where orders of a status are found.
enum Found {
    /// Among all events of this type.
    ByEvent(&'static str),
    /// In the index of orders for which something is still to be done.
    Open(Standing),
}

fn found(status: Option<OrderStatus>) -> Found {
    match status {
        None => Found::ByEvent("OrderCreated"),
        Some(OrderStatus::Confirmed) => Found::ByEvent("OrderConfirmed"),
        Some(OrderStatus::Rejected) => Found::ByEvent("OrderRejected"),
        Some(OrderStatus::Cancelled) => Found::ByEvent("OrderCancelled"),
        Some(OrderStatus::NeedsAttention) => Found::Open(Standing::Waiting),
        Some(
            OrderStatus::Created
            | OrderStatus::Reserved
            | OrderStatus::Paid
            | OrderStatus::Shipped
            | OrderStatus::Cancelling,
        ) => Found::Open(Standing::UnderWay),
    }
}

/// At most `limit` orders, of up to [`VIEWS_MAX`](crate::ports::VIEWS_MAX). Each of up to five rounds is a read of the list, or one of each part of the
/// index of open orders, and two of views.
pub async fn list_orders(
    index: &impl Index,
    views: &impl OrderViews,
    wanted: &OrdersWanted,
    limit: usize,
) -> Result<OrderPage, Unavailable> {
    let (mut orders, mut wanted) = (Vec::new(), wanted.clone());
    for _ in 0..ROUNDS_MAX {
        let room = limit.saturating_sub(orders.len());
        let mut found = find(index, views, &wanted, room.saturating_add(1)).await?;
        let more = found.len() > room;
        found.truncate(room);
        let ids: Vec<OrderId> = found.iter().map(|(_, id)| *id).collect();
        let shown = load_shown(views, &ids).await?.into_iter().map(|view| (view.id, view));
        let mut shown: BTreeMap<OrderId, OrderView> = shown.collect();
        let in_turn = ids.iter().filter_map(|id| shown.remove(id));
        orders.extend(in_turn.filter(|view| wanted.status.is_none_or(|status| view.status == status)));
        wanted.after = found.pop().map(|(position, _)| position).or(wanted.after);
        if !more {
            return Ok(OrderPage { orders, next: None });
        }
        if orders.len() >= limit {
            break;
        }
    }
    Ok(OrderPage { orders, next: wanted.after })
}

/// The newest `count` of what may be wanted, each with where it stands.
async fn find(
    index: &impl Index,
    views: &impl OrderViews,
    wanted: &OrdersWanted,
    count: usize,
) -> Result<Vec<(Position, OrderId)>, Unavailable> {
    let OrdersWanted { status, from, to, after } = wanted;
    match found(*status) {
        Found::ByEvent(event_type) => {
            let (event_type, after) = (event_type.to_owned(), after.clone());
            let places = places(index, &EventsWanted { event_type, from: *from, to: *to, after }, count).await?;
            let orders = places.iter().filter_map(|place| Some((place.position(), place.stream.order_id()?)));
            Ok(orders.collect())
        }
        Found::Open(standing) => {
            let end = Position::start_of(*to);
            // Whatever is wanted stands before this.
            let end = after.as_ref().filter(|after| **after < end).unwrap_or(&end);
            let open = views.newest_open(standing, *from, end, count).await?;
            Ok(open.into_iter().map(|order| (order.position(), order.id)).collect())
        }
    }
}
