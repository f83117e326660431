//! The laws of each port, as tests that any implementation can be held to: the in-memory ports here, the adapters in
//! their own crate. `event_store_conformance!(make)` and its like make one test per law.
//!
//! Every law works under ids of its own, so all of them may run against one store, also at the same time.
//!
//! The laws of providers are also there as data (`payments_conformance!(conformance_laws, Remote)`), each with the capability that
//! it needs, for whoever holds somebody else's provider to them. They ask for nothing that the contract does not promise.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::missing_panics_doc,
    reason = "test equipment: a panic is how a broken law is told"
)]

pub mod counters;
pub mod dead_letters;
pub mod event_store;
pub mod index;
pub mod inventory;
pub mod limits;
pub mod notifications;
pub mod order_views;
pub mod payments;
pub mod processes;
pub mod shipping;
pub mod snapshots;

use std::{
    future::{Future, poll_fn},
    task::Poll,
};

use chrono::{DateTime, Utc};
use domain::{
    ids::{OrderId, ProductId},
    money::{Money, Quantity},
};
use futures_util::future::LocalBoxFuture;
use serde_json::json;
use uuid::Uuid;

/// A law of a provider, as data.
pub struct Law<P> {
    pub name: &'static str,
    /// The capability without which a provider is not held to it.
    pub needs: Option<&'static str>,
    /// Panics when the law is broken.
    pub hold: for<'p> fn(&'p P) -> LocalBoxFuture<'p, ()>,
}

/// Makes a [`Law`] of each, for a provider of this type.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_laws {
    ($suite:ident, $provider:ty, $($law:ident $(: $capability:ident)?)+) => {
        vec![$($crate::conformance::Law::<$provider> {
            name: stringify!($law),
            needs: None$(.or(Some(stringify!($capability))))?,
            hold: |provider| Box::pin($crate::conformance::$suite::$law(provider)),
        }),+]
    };
}

/// Makes a `#[tokio::test]` of each law: what the macros of the suites expand to.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_tests {
    ($suite:ident, $make:expr, $($law:ident $(: $capability:ident)?)+) => {$(
        #[tokio::test]
        async fn $law() {
            $crate::conformance::$suite::$law(&$make.await).await;
        }
    )+};
}

fn order_id() -> OrderId {
    OrderId::new(Uuid::new_v4())
}

fn product_id(name: &str) -> ProductId {
    ProductId::parse(&format!("{name}-{}", Uuid::new_v4().simple())).unwrap()
}

fn quantity(quantity: u32) -> Quantity {
    Quantity::new(quantity).unwrap()
}

/// Read as clients send it, so that a suite needs no crate for currencies.
fn money(amount: u64, currency: &str) -> Money {
    serde_json::from_value(json!({"amount": amount, "currency": currency})).unwrap()
}

/// With every digit of the second that a clock can give.
fn moment() -> DateTime<Utc> {
    DateTime::from_timestamp(1_767_225_600, 123_456_789).unwrap()
}

/// Runs all calls at the same time and answers what they answered, in their order.
async fn at_once<F: Future>(calls: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut calls: Vec<_> = calls.into_iter().map(|call| (Box::pin(call), None)).collect();
    poll_fn(|context| {
        for (call, answer) in &mut calls {
            if answer.is_none()
                && let Poll::Ready(value) = call.as_mut().poll(context)
            {
                *answer = Some(value);
            }
        }
        if calls.iter().all(|(_, answer)| answer.is_some()) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    calls.into_iter().filter_map(|(_, answer)| answer).collect()
}
