//! What is read of orders and customers.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use domain::{
    ids::{CustomerId, OrderId},
    order::OrderStatus,
    order_view::{CustomerView, OrderView},
};
use serde::{Deserialize, Serialize};

use super::Position;
use crate::event_store::Unavailable;

/// Why a view was not saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    #[error("the stored view is another one")]
    Superseded,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The most views that are read in one call.
pub const VIEWS_MAX: usize = 100;

/// The read model's table.
pub trait OrderViews: Send + Sync {
    /// One read; sees every save that was answered before.
    fn load(&self, id: OrderId) -> impl Future<Output = Result<Option<OrderView>, Unavailable>> + Send;

    /// Those of up to [`VIEWS_MAX`] orders that have a view, in any order. MUST be one remote call.
    fn load_many(&self, ids: &[OrderId]) -> impl Future<Output = Result<Vec<OrderView>, Unavailable>> + Send;

    /// MUST store the view only if what is stored is at the version of `replaces`, or nothing for `None`; else
    /// [`SaveError::Superseded`].
    fn save(
        &self,
        view: &OrderView,
        replaces: Option<&OrderView>,
    ) -> impl Future<Output = Result<(), SaveError>> + Send;

    /// Puts the order among its customer's, standing there as this view says: open, or with the
    /// [status at which it rests](OrderView::status_at_rest). Answers whether that changed anything. MUST list and
    /// [count](Self::count) an order once, however often it is called.
    fn list(&self, view: &OrderView) -> impl Future<Output = Result<bool, Unavailable>> + Send;

    /// [Lists](Self::list) up to [`VIEWS_MAX`] orders that most likely are not there yet, in few calls. Some of them may be listed
    /// when it fails.
    fn list_many(&self, views: &[OrderView]) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// A customer's orders, the newest first, from number `skip` on. Sees everything that was [listed](Self::list) before.
    /// MUST cost the same wherever the part begins.
    fn customer_orders(
        &self,
        customer: &CustomerId,
        skip: usize,
        limit: usize,
    ) -> impl Future<Output = Result<CustomerOrders, Unavailable>> + Send;

    /// The same of those with this status: a read of all of the customer's, and of the views of those that are open.
    fn customer_orders_with_status(
        &self,
        customer: &CustomerId,
        status: OrderStatus,
        skip: usize,
        limit: usize,
    ) -> impl Future<Output = Result<CustomerOrders, Unavailable>> + Send;

    /// Those of up to [`VIEWS_MAX`] customers that are known, in any order. MUST be one remote call.
    fn customers(&self, ids: &[CustomerId]) -> impl Future<Output = Result<Vec<CustomerView>, Unavailable>> + Send;

    /// MUST keep the customer of the greatest version: an older one changes nothing.
    fn save_customer(&self, customer: &CustomerView) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// A page of the orders that [stand](Standing::of) like that, and have [since](Standing::since) before this time: about `limit` of them, from where another page has ended. All pages together MUST have every such order that
    /// stays one meanwhile. May leave out, or still have, what has only just changed. MUST NOT cost more the more orders have
    /// come to rest.
    fn open_orders(
        &self,
        standing: Standing,
        before: DateTime<Utc>,
        after: Option<&str>,
        limit: usize,
    ) -> impl Future<Output = Result<OpenOrders, Unavailable>> + Send;

    /// Of the orders that stand like that, the newest `limit` that have [since](Standing::since) not before the one time and earlier than a
    /// [position](PlacedOrder::position), the newest first. May leave out, or still have, what has only just changed. MUST NOT cost more the
    /// more orders there are besides.
    fn newest_open(
        &self,
        standing: Standing,
        not_before: DateTime<Utc>,
        before: &Position,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<PlacedOrder>, Unavailable>> + Send;

    /// What was [kept](Self::keep_place) last.
    fn place_kept(&self) -> impl Future<Output = Result<Option<String>, Unavailable>> + Send;

    /// Keeps the place at which a walk over the open orders is to go on; none for its start.
    fn keep_place(&self, place: Option<&str>) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// How many orders have each status; of more than a thousand that are under way, about. MUST NOT cost more the more orders
    /// have come to rest.
    fn count(&self) -> impl Future<Output = Result<BTreeMap<OrderStatus, u64>, Unavailable>> + Send;
}

/// A part of a customer's orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomerOrders {
    pub orders: Vec<PlacedOrder>,
    /// How many there are in all.
    pub total: usize,
}

/// Where an order stands in the order in which orders were placed: by the time, in milliseconds since 1970, then by the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlacedOrder {
    pub millis: i64,
    pub id: OrderId,
}

impl PlacedOrder {
    pub fn of(view: &OrderView) -> Self {
        Self { millis: view.created_at.timestamp_millis(), id: view.id }
    }

    pub fn position(self) -> Position {
        Position::at_millis(self.millis, self.id.to_string())
    }
}

/// How an order stands for which something is still to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    UnderWay,
    /// It waits for a person. There may be many of these, for long.
    Waiting,
    /// It is at rest, and its books are to be [compared](crate::compare_books) some time later.
    InDoubt,
}

impl Standing {
    /// How the order stands of this view; `None` when nothing is to be done for it.
    pub fn of(view: &OrderView) -> Option<Self> {
        match (view.is_open(), &view.attention) {
            (true, Some(_)) => Some(Self::Waiting),
            (true, None) => Some(Self::UnderWay),
            (false, _) => view.in_doubt_since.map(|_| Self::InDoubt),
        }
    }

    /// Since when it has stood among those of its kind, as far as these are walked over in that order: an order in doubt since
    /// then, any other since it was placed.
    pub fn since(view: &OrderView) -> DateTime<Utc> {
        if view.is_open() { view.created_at } else { view.in_doubt_since.unwrap_or(view.created_at) }
    }
}

/// A page of orders for which something is still to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenOrders {
    pub ids: Vec<OrderId>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<String>,
}

/// One generation of what is read: the orders' views, and the index that finds orders and events.
#[derive(Debug, Default)]
pub struct ReadModel<V, I> {
    /// Its number.
    pub generation: u32,
    pub views: V,
    pub index: I,
}
