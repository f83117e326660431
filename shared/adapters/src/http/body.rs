//! Reads JSON bodies so that one answer names every field that is wrong.

use std::ops::ControlFlow;

use deserr::{DeserializeError, Deserr, ErrorKind, IntoValue, MergeWithError, ValueKind, ValuePointerRef};
use domain::{
    money::{Currency, Money},
    text::Invalid,
};

use super::{FieldError, Problem};

/// The answer names at most so many fields.
const ERRORS_MAX: usize = 100;

/// Every field that is wrong, in the order in which they were met.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldErrors(Vec<FieldError>);

impl FieldErrors {
    fn push(mut self, pointer: String, detail: String) -> ControlFlow<Self, Self> {
        self.0.push(FieldError { pointer, detail });
        if self.0.len() < ERRORS_MAX { ControlFlow::Continue(self) } else { ControlFlow::Break(self) }
    }
}

/// `/items/0/quantity`.
fn pointer(location: ValuePointerRef<'_>) -> String {
    match location {
        ValuePointerRef::Origin => String::new(),
        ValuePointerRef::Key { key, prev } => child(&pointer(*prev), key),
        ValuePointerRef::Index { index, prev } => format!("{}/{index}", pointer(*prev)),
    }
}

fn child(parent: &str, key: &str) -> String {
    let key: String = key.chars().take(64).collect();
    format!("{parent}/{}", key.replace('~', "~0").replace('/', "~1"))
}

fn kinds(accepted: &[ValueKind]) -> String {
    let mut names: Vec<&str> = accepted
        .iter()
        .filter_map(|kind| match kind {
            // An optional field may also be null, but nobody needs telling.
            ValueKind::Null => None,
            ValueKind::Boolean => Some("true or false"),
            ValueKind::Integer => Some("a whole number, not negative"),
            ValueKind::NegativeInteger => Some("a whole number"),
            ValueKind::Float => Some("a number"),
            ValueKind::String => Some("a string"),
            ValueKind::Sequence => Some("an array"),
            ValueKind::Map => Some("an object"),
        })
        .collect();
    names.dedup();
    format!("must be {}", names.join(" or "))
}

impl DeserializeError for FieldErrors {
    fn error<V: IntoValue>(
        so_far: Option<Self>,
        error: ErrorKind<'_, V>,
        location: ValuePointerRef<'_>,
    ) -> ControlFlow<Self, Self> {
        let here = pointer(location);
        let errors = so_far.unwrap_or_default();
        match error {
            ErrorKind::IncorrectValueKind { accepted, .. } => errors.push(here, kinds(accepted)),
            ErrorKind::MissingField { field } => errors.push(child(&here, field), "is required".to_owned()),
            ErrorKind::UnknownKey { key, accepted } => {
                errors.push(child(&here, key), format!("is not a known field; known are {}", accepted.join(", ")))
            }
            ErrorKind::UnknownValue { accepted, .. } => {
                errors.push(here, format!("must be one of {}", accepted.join(", ")))
            }
            ErrorKind::BadSequenceLen { expected, .. } => errors.push(here, format!("must have {expected} elements")),
            // The library words numbers out of range itself, naming the value and what it would have to be.
            ErrorKind::Unexpected { msg } => errors.push(here, msg),
        }
    }
}

impl MergeWithError<Self> for FieldErrors {
    fn merge(so_far: Option<Self>, other: Self, _: ValuePointerRef<'_>) -> ControlFlow<Self, Self> {
        let mut errors = so_far.unwrap_or_default();
        for FieldError { pointer, detail } in other.0 {
            errors = match errors.push(pointer, detail) {
                ControlFlow::Continue(errors) => errors,
                full @ ControlFlow::Break(_) => return full,
            };
        }
        ControlFlow::Continue(errors)
    }
}

impl MergeWithError<Invalid> for FieldErrors {
    fn merge(so_far: Option<Self>, invalid: Invalid, location: ValuePointerRef<'_>) -> ControlFlow<Self, Self> {
        so_far.unwrap_or_default().push(pointer(location), invalid.to_string())
    }
}

/// Reads a body. Field order and white space do not matter; a field that is not known does.
pub(super) fn parse<T: Deserr<FieldErrors>>(bytes: &[u8]) -> Result<T, Problem> {
    if bytes.is_empty() {
        return Err(Problem::malformed("the body is empty; a JSON object is expected"));
    }
    let value: serde_json::Value =
        serde_json::from_slice(bytes).map_err(|error| Problem::malformed(format!("the body is not JSON: {error}")))?;
    deserr::deserialize::<T, _, FieldErrors>(value).map_err(|errors| Problem::invalid(errors.0))
}

/// A price as clients write it: `{"amount": 1999, "currency": "CNY"}`.
#[derive(Debug, Clone, Copy, Deserr)]
#[deserr(error = FieldErrors, deny_unknown_fields)]
pub struct MoneyBody {
    amount: u64,
    #[deserr(try_from(&String) = Currency::parse -> Invalid)]
    currency: Currency,
}

impl MoneyBody {
    pub fn money(self) -> Result<Money, Invalid> {
        Money::new(self.amount, self.currency)
            .map_err(|_| Invalid::new(format!("amount must be at most {}", Money::MAX_AMOUNT)))
    }
}
