//! Text that somebody typed: trimmed, not empty, bounded, without control characters.

use serde::{Deserialize, Serialize};

/// Why a value is not what its type asks for, in words for whoever sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(String);

impl Invalid {
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// 1 to `MAX` characters.
///
/// Deserialising does not check again: what was stored once must stay readable when the rules change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Text<const MAX: usize>(String);

impl<const MAX: usize> Text<MAX> {
    pub fn parse(input: &str) -> Result<Self, Invalid> {
        let text = input.trim();
        if text.is_empty() {
            Err(Invalid::new("must not be empty"))
        } else if text.chars().count() > MAX {
            Err(Invalid::new(format!("must be at most {MAX} characters long")))
        } else if text.chars().any(char::is_control) {
            Err(Invalid::new("must not contain control characters"))
        } else {
            Ok(Self(text.to_owned()))
        }
    }

    /// For what may be left out: `null`, the empty text and a blank one are nothing, as no field at all is.
    pub fn parse_optional(input: Option<String>) -> Result<Option<Self>, Invalid> {
        input.filter(|text| !is_blank(text)).map(|text| Self::parse(&text)).transpose()
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether nothing was typed.
pub fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_trimmed_and_bounded_in_characters_not_bytes() {
        assert_eq!(Text::<3>::parse(" 订单号 ").unwrap().as_str(), "订单号");
        assert!(Text::<2>::parse("订单号").is_err());
        assert!(Text::<9>::parse(" \t ").is_err());
        assert!(Text::<9>::parse("a\u{0}b").is_err());
    }
}
