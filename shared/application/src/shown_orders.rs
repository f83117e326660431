//! Orders as people see them: each with its customer as they are now, who are kept once, not in each of their orders.

use std::collections::{BTreeMap, BTreeSet};

use domain::{
    ids::{CustomerId, OrderId},
    order_view::OrderView,
};

use crate::{event_store::Unavailable, ports::OrderViews};

/// The customer that an order is shown with: one read.
pub async fn with_customer(views: &impl OrderViews, order: OrderView) -> Result<OrderView, Unavailable> {
    let customers = views.customers(std::slice::from_ref(&order.customer.id)).await?;
    Ok(customers.iter().fold(order.shown(), OrderView::with_customer))
}

/// Those of up to [`VIEWS_MAX`] orders that have a view, in any order, each with its customer: two reads.
pub async fn load_shown(views: &impl OrderViews, ids: &[OrderId]) -> Result<Vec<OrderView>, Unavailable> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let orders: Vec<_> = views.load_many(ids).await?.into_iter().map(OrderView::shown).collect();
    let customers: BTreeSet<&CustomerId> = orders.iter().map(|order| &order.customer.id).collect();
    let customers: Vec<CustomerId> = customers.into_iter().cloned().collect();
    if customers.is_empty() {
        return Ok(orders);
    }
    let customers = views.customers(&customers).await?;
    let customers: BTreeMap<&CustomerId, _> = customers.iter().map(|customer| (&customer.id, customer)).collect();
    let shown = orders.into_iter().map(|order| match customers.get(&order.customer.id) {
        Some(customer) => order.with_customer(customer),
        None => order,
    });
    Ok(shown.collect())
}
