//! The example's effect: customers get a point for so much that they have paid, and lose it with what they get back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::consumer::{BusEvent, Outcome};

/// An order, as far as its points go.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    customer: String,
    paid: i64,
    points: i64,
}

/// What a customer's points go up by, or down.
pub(crate) struct Points {
    pub(crate) customer: String,
    pub(crate) points: i64,
}

/// Why an event cannot be handled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the bus had no room for the event's data")]
    NoData,
    #[error("the event's data is not what its type has")]
    Unreadable(#[from] serde_json::Error),
    #[error("the order began without OrderCreated")]
    NotCreated,
    #[error("no rate for {0}")]
    NoRate(String),
}

#[derive(Deserialize)]
struct Created {
    customer_id: String,
}

#[derive(Deserialize)]
struct Moved {
    amount: Money,
}

#[derive(Deserialize)]
struct Money {
    amount: i64,
    currency: String,
}

/// `rates` says for each currency how many of its minor units are a point. One that is missing there is refused, not guessed.
pub(crate) fn points(
    rates: &BTreeMap<String, i64>,
    order: Option<Order>,
    event: &BusEvent,
) -> Result<Outcome<Order, Points>, Refused> {
    let data = &event.detail.data;
    if event.event_type == "OrderCreated" {
        let Created { customer_id } = read(data)?;
        return Ok(Outcome { state: Order { customer: customer_id, paid: 0, points: 0 }, write: None });
    }
    let order = order.ok_or(Refused::NotCreated)?;
    let is_payment = match event.event_type.as_str() {
        "PaymentCompleted" => true,
        "RefundCompleted" | "PaymentRefunded" => false,
        _ => return Ok(Outcome { state: order, write: None }),
    };
    let Moved { amount: Money { amount, currency } } = read(data)?;
    let paid = if is_payment { order.paid.saturating_add(amount) } else { order.paid.saturating_sub(amount) };
    let now = rates.get(&currency).and_then(|rate| paid.checked_div_euclid(*rate)).ok_or(Refused::NoRate(currency))?;
    let write = Points { customer: order.customer.clone(), points: now.saturating_sub(order.points) };
    Ok(Outcome { state: Order { paid, points: now, ..order }, write: Some(write) })
}

fn read<T: DeserializeOwned>(data: &Value) -> Result<T, Refused> {
    if data.is_null() { Err(Refused::NoData) } else { Ok(T::deserialize(data)?) }
}
