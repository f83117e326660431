//! Reads JSON bodies so that one answer names every field that is wrong.

use std::{fmt, ops::ControlFlow};

use deserr::{DeserializeError, Deserr, ErrorKind, IntoValue, MergeWithError, ValueKind, ValuePointerRef};
use domain::{
    money::{Currency, Money},
    text::Invalid,
};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

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

    /// A member that stands in its object more than once.
    fn note(&mut self, pointer: String) {
        let error = FieldError { pointer, detail: "stands there more than once".to_owned() };
        if self.0.len() < ERRORS_MAX && !self.0.contains(&error) {
            self.0.push(error);
        }
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
    let malformed = |error: serde_json::Error| Problem::malformed(format!("the body is not JSON: {error}"));
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let mut twice = FieldErrors::default();
    let value = Members { here: &|| String::new(), twice: &mut twice }.deserialize(&mut reader).map_err(malformed)?;
    reader.end().map_err(malformed)?;
    if !twice.0.is_empty() {
        return Err(Problem::invalid(twice.0));
    }
    deserr::deserialize::<T, _, FieldErrors>(value).map_err(|errors| Problem::invalid(errors.0))
}

/// Whether a `Content-Type` means JSON, which is always UTF-8 (RFC 8259, section 8.1).
pub(super) fn is_json(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
    let structured = essence
        .strip_prefix("application/")
        .is_some_and(|subtype| subtype == "json" || subtype.strip_suffix("+json").is_some_and(|name| !name.is_empty()));
    structured
        && parts.all(|parameter| match parameter.split_once('=') {
            Some((name, value)) if name.eq_ignore_ascii_case("charset") => {
                let value = value.trim_matches('"');
                value.eq_ignore_ascii_case("utf-8") || value.eq_ignore_ascii_case("utf8")
            }
            _ => true,
        })
}

/// Reads JSON as [`Value`] does, and notes every member that stands in its object twice. `Value` alone would keep the last
/// of them, and its reader might have meant the first.
struct Members<'p> {
    here: &'p dyn Fn() -> String,
    twice: &'p mut FieldErrors,
}

impl<'de> DeserializeSeed<'de> for Members<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        loop {
            let here = || format!("{}/{}", (self.here)(), values.len());
            let Some(value) = elements.next_element_seed(Members { here: &here, twice: &mut *self.twice })? else {
                return Ok(Value::Array(values));
            };
            values.push(value);
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            let here = || child(&(self.here)(), &key);
            let value = members.next_value_seed(Members { here: &here, twice: &mut *self.twice })?;
            if object.contains_key(&key) {
                self.twice.note(here());
            }
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
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
