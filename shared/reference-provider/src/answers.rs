//! What is asked is read here and taken to the books, and what they say is written as the contract's answer.

mod inventory;
mod notifications;
mod payments;
mod shipping;

use std::time::Duration;

use application::{event_store::Unavailable, ports::StockLine};
use chrono::{DateTime, SecondsFormat, Utc};
use domain::{
    ids::{OrderId, ProductId},
    money::{Currency, Money, Quantity},
};
use providers::contract::{Call, wire};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use uuid::Uuid;

/// The most lines of a reservation or a parcel.
const LINES_MAX: usize = 100;

/// The most digits of a second's fraction.
const FRACTION_DIGITS_MAX: usize = 9;

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

/// A UUID as the contract has them: in lower case, with hyphens.
fn key(field: &'static str, key: &str) -> Result<Uuid, Failure> {
    Uuid::try_parse(key).ok().filter(|uuid| uuid.to_string() == key).ok_or(Failure::Invalid(field))
}

fn order_id(order_id: &str) -> Result<OrderId, Failure> {
    key("order_id", order_id).map(OrderId::new)
}

fn product_id(field: &'static str, product_id: &str) -> Result<ProductId, Failure> {
    ProductId::parse(product_id).map_err(|_| Failure::Invalid(field))
}

fn time(field: &'static str, time: &str) -> Result<DateTime<Utc>, Failure> {
    let fraction = time.split_once('.').map_or("", |(_, rest)| rest);
    let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
    let parsed = DateTime::parse_from_rfc3339(time).ok().filter(|_| digits <= FRACTION_DIGITS_MAX);
    parsed.map(|time| time.to_utc()).ok_or(Failure::Invalid(field))
}

fn money(field: &'static str, money: Option<wire::Money>) -> Result<Money, Failure> {
    let wire::Money { amount, currency } = present(field, money)?;
    let amount = present(field, amount)?;
    let amount = u64::try_from(amount).map_err(|_| Failure::Invalid(field))?;
    let currency = Currency::parse_any(&currency).map_err(|_| Failure::Invalid(field))?;
    Money::new(amount, currency).map_err(|_| Failure::Invalid(field))
}

fn lines(lines: Vec<wire::Line>) -> Result<Vec<StockLine>, Failure> {
    if !(1..=LINES_MAX).contains(&lines.len()) {
        return Err(Failure::Invalid("lines"));
    }
    let line = |line: wire::Line| {
        let quantity = Quantity::new(line.quantity).map_err(|_| Failure::Invalid("lines.quantity"))?;
        Ok(StockLine { product_id: product_id("lines.product_id", &line.product_id)?, quantity })
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
pub(crate) fn written(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}
