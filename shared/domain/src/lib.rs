//! What an order is and what may happen to it. Pure: no async, no clock, no randomness, no AWS.
//!
//! Times, ids and prices come in as data. Decisions return events; [`order::Order::evolve`] folds them and never fails.

pub mod address;
pub mod books;
pub mod customer;
pub mod ids;
pub mod moment;
pub mod money;
pub mod order;
pub mod order_view;
pub mod product;
pub mod provider;
pub mod search;
pub mod stored_event;
pub mod text;

#[cfg(test)]
mod spec;
