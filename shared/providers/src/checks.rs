//! What comes back from a provider is believed no more than what comes from a client.

use application::ports::ProviderError;
use chrono::{DateTime, Datelike, Utc};
use domain::{
    ids::ProductId,
    money::{Currency, Money},
    text::has_unseen,
};

use crate::contract::wire;

/// Long enough for anybody's ids, and short enough for an event.
const ID_MAX: usize = 200;
const WORD_MAX: usize = 100;

pub(crate) fn misbehaved(field: &'static str, problem: impl Into<String>) -> ProviderError {
    ProviderError::Misbehaved { field, problem: problem.into() }
}

pub(crate) fn present<T>(field: &'static str, value: Option<T>) -> Result<T, ProviderError> {
    value.ok_or_else(|| misbehaved(field, "is missing"))
}

pub(crate) fn money(field: &'static str, money: Option<wire::Money>) -> Result<Money, ProviderError> {
    let wire::Money { amount, currency } = present(field, money)?;
    let amount = present(field, amount)?;
    let amount = u64::try_from(amount).map_err(|_| misbehaved(field, "is negative"))?;
    // Any code: what was paid in a currency that is withdrawn by now still stands in the books.
    let currency = Currency::parse_any(&currency).map_err(|problem| misbehaved(field, problem.to_string()))?;
    Money::new(amount, currency).map_err(|problem| misbehaved(field, problem.to_string()))
}

/// What something costs that can be ordered now.
pub(crate) fn price(field: &'static str, price: Option<wire::Money>) -> Result<Money, ProviderError> {
    let price = money(field, price)?;
    Currency::parse(price.currency().code()).map_err(|problem| misbehaved(field, problem.to_string()))?;
    Ok(price)
}

/// An amount that has to be the one that was asked for.
pub(crate) fn same_money(
    field: &'static str,
    money: Option<wire::Money>,
    asked: Money,
) -> Result<Money, ProviderError> {
    let answered = self::money(field, money)?;
    if answered == asked { Ok(answered) } else { Err(misbehaved(field, "is not what was asked for")) }
}

pub(crate) fn id(field: &'static str, id: String) -> Result<String, ProviderError> {
    visible(field, id, ID_MAX)
}

/// A code, or another short word.
pub(crate) fn word(field: &'static str, word: String) -> Result<String, ProviderError> {
    visible(field, word, WORD_MAX)
}

fn visible(field: &'static str, text: String, max: usize) -> Result<String, ProviderError> {
    if text.is_empty() {
        Err(misbehaved(field, "is missing"))
    } else if text.chars().count() > max {
        Err(misbehaved(field, format!("is longer than {max} characters")))
    } else if text.chars().any(|c| c.is_control() || c.is_whitespace() && c != ' ')
        || has_unseen(&text)
        || text.trim() != text
    {
        Err(misbehaved(field, "has characters that cannot be seen"))
    } else {
        Ok(text)
    }
}

pub(crate) fn time(field: &'static str, time: &str) -> Result<DateTime<Utc>, ProviderError> {
    // In UTC, what is near the first or the last of RFC 3339's years may be outside of them: an event would have what no consumer reads.
    let parsed = DateTime::parse_from_rfc3339(time).ok().map(|time| time.to_utc());
    let parsed = parsed.filter(|time| (0..=9_999).contains(&time.year()));
    parsed.ok_or_else(|| misbehaved(field, "is not a time in RFC 3339"))
}

pub(crate) fn product_id(field: &'static str, id: &str) -> Result<ProductId, ProviderError> {
    ProductId::parse(id).map_err(|problem| misbehaved(field, problem.to_string()))
}

/// A list that has no more entries than anybody asked for.
pub(crate) fn at_most<T>(field: &'static str, list: Vec<T>, max: usize) -> Result<Vec<T>, ProviderError> {
    if list.len() <= max { Ok(list) } else { Err(misbehaved(field, format!("has more than {max} entries"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_can_be_written_as_it_was_read() {
        for good in ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.123456789+08:00", "9999-12-31T23:59:59Z"] {
            let read = time("time", good).unwrap();
            assert_eq!(time("time", &read.to_rfc3339()).unwrap(), read);
        }
        for bad in ["", "yesterday", "2026-01-01", "9999-12-31T23:59:59-00:01", "0000-01-01T00:00:00+00:01"] {
            assert!(time("time", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_a_provider_calls_something_is_seen_as_it_is() {
        for good in ["trk_1", "顺丰速运", "پست\u{200c}ایران", "SF Express"] {
            assert_eq!(id("id", good.to_owned()).unwrap(), good);
            assert_eq!(word("word", good.to_owned()).unwrap(), good);
        }
        // The last four would turn what stands behind them round, or make two ids look like one.
        for bad in ["", " a", "a\n", "a\u{2028}b", "a\u{202e}b", "a\u{2066}b", "a\u{200b}b", "a\u{e0041}b"] {
            assert!(id("id", bad.to_owned()).is_err(), "{bad:?}");
            assert!(word("word", bad.to_owned()).is_err(), "{bad:?}");
        }
    }
}
