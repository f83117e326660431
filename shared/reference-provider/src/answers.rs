//! What is asked is read here and taken to the books, and what they say is written as the contract's answer.

mod inventory;
mod notifications;
mod payments;
mod shipping;

use std::{str::FromStr, time::Duration};

use application::{event_store::Unavailable, ports::StockLine};
use domain::{
    ids::{OrderId, ProductId},
    money::{Currency, Money, Quantity},
};
use providers::contract::{Call, wire};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use uuid::Uuid;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The request is wrong in itself.
    #[error("{0} is not what the contract says")]
    Invalid(&'static str),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Answers one of the contract's calls.
pub(crate) trait Answers<C: Call> {
    /// How long it has whoever asks wait before anything happens, if it does.
    fn delay(_: &C) -> Option<Duration> {
        None
    }

    fn answer(&self, request: C) -> impl Future<Output = Result<C::Answer, Failure>> + Send;
}

fn present<T>(field: &'static str, value: Option<T>) -> Result<T, Failure> {
    value.ok_or(Failure::Invalid(field))
}

fn parse<T: FromStr>(field: &'static str, text: &str) -> Result<T, Failure> {
    text.parse().map_err(|_| Failure::Invalid(field))
}

fn key(field: &'static str, key: &str) -> Result<Uuid, Failure> {
    parse(field, key)
}

fn order_id(order_id: &str) -> Result<OrderId, Failure> {
    OrderId::parse(order_id).ok_or(Failure::Invalid("order_id"))
}

fn product_id(product_id: &str) -> Result<ProductId, Failure> {
    ProductId::parse(product_id).map_err(|_| Failure::Invalid("product_id"))
}

fn money(field: &'static str, money: Option<wire::Money>) -> Result<Money, Failure> {
    let wire::Money { amount, currency } = present(field, money)?;
    let amount = present(field, amount)?;
    let amount = u64::try_from(amount).map_err(|_| Failure::Invalid(field))?;
    let currency = Currency::parse_any(&currency).map_err(|_| Failure::Invalid(field))?;
    Money::new(amount, currency).map_err(|_| Failure::Invalid(field))
}

fn lines(lines: Vec<wire::Line>) -> Result<Vec<StockLine>, Failure> {
    let line = |line: wire::Line| {
        let quantity = Quantity::new(line.quantity).map_err(|_| Failure::Invalid("lines.quantity"))?;
        Ok(StockLine { product_id: product_id(&line.product_id)?, quantity })
    };
    lines.into_iter().map(line).collect()
}

fn refused(reason: String) -> wire::Refused {
    wire::Refused { reason }
}

pub(crate) fn into_json(message: &impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(message).map_err(|_| Failure::Invalid("the message"))
}

pub(crate) fn from_json<M: DeserializeOwned>(message: Value) -> Result<M, Failure> {
    serde_json::from_value(message).map_err(|_| Failure::Invalid("the message"))
}

/// RFC 3339, exactly.
pub(crate) fn written(time: chrono::DateTime<chrono::Utc>) -> String {
    time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}
