//! Where an order goes.

use std::{fmt, str::FromStr};

use iso_currency::Country;
use serde::{Deserialize, Serialize};

use crate::text::{Invalid, Text};

/// A postal address. Personal data: its `Debug` shows nothing, so that no log line can.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShippingAddress {
    pub street: Text<200>,
    pub city: Text<100>,
    pub state: Text<100>,
    pub country: CountryCode,
    pub postal_code: Text<20>,
}

impl fmt::Debug for ShippingAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ShippingAddress(not shown)")
    }
}

/// An ISO 3166-1 alpha-2 code, upper case.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CountryCode(String);

impl CountryCode {
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        match Country::from_str(text) {
            // The library also knows one value for "no country", which is nowhere to ship to.
            Ok(country) if country != Country::Unspecified => Ok(Self(text.to_owned())),
            _ => Err(Invalid::new("must be an ISO 3166-1 alpha-2 country code such as CN or DE")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_country_is_an_upper_case_iso_3166_code() {
        for good in ["CN", "DE", "US", "SS"] {
            assert!(CountryCode::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "cn", "CHN", "XX", "ZZ"] {
            assert!(CountryCode::parse(bad).is_err(), "{bad}");
        }
    }
}
