//! Where an order goes, and what an address has to have in which country.

use std::{fmt, str::FromStr};

use iso_currency::Country;
use serde::{Deserialize, Serialize};

use crate::text::{Invalid, Text};

/// A postal address. Personal data: its `Debug` shows nothing, so that no log line can.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShippingAddress {
    pub street: Text<200>,
    pub city: Option<Text<100>>,
    pub state: Option<Text<100>>,
    pub country: CountryCode,
    pub postal_code: Option<Text<20>>,
}

/// What some countries' addresses have, and others' do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressPart {
    City,
    State,
    PostalCode,
}

impl AddressPart {
    pub const ALL: [Self; 3] = [Self::City, Self::State, Self::PostalCode];

    /// The name of its field.
    pub fn name(self) -> &'static str {
        match self {
            Self::City => "city",
            Self::State => "state",
            Self::PostalCode => "postal_code",
        }
    }
}

impl fmt::Debug for ShippingAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ShippingAddress(not shown)")
    }
}

/// A line has the name of a part, then countries that demand it.
const DEMANDED: &str = include_str!("address/demanded.txt");

/// An ISO 3166-1 alpha-2 code, upper case.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CountryCode(String);

impl CountryCode {
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        match Country::from_str(text) {
            // The library also knows one value for "no country", which is nowhere to ship to.
            Ok(country) if country != Country::Unspecified => Ok(Self(text.to_owned())),
            // Kosovo has no code of ISO's own; this one, of those left to users, is what posts and carriers use.
            _ if text == "XK" => Ok(Self(text.to_owned())),
            _ => Err(Invalid::new("must be an ISO 3166-1 alpha-2 country code such as CN or DE")),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What an address in this country lacks that has the given parts. Nothing is asked of a country that the table does not
    /// know: an order that is taken can still be mended, one that is refused is lost.
    pub fn lacks(&self, has: impl Fn(AddressPart) -> bool) -> Vec<AddressPart> {
        let lacks = |&part: &AddressPart| {
            // Where no city is asked for, people write their emirate, area or prefecture into either field.
            let either = part == AddressPart::State && !self.demands(AddressPart::City);
            self.demands(part) && !has(part) && !(either && has(AddressPart::City))
        };
        AddressPart::ALL.into_iter().filter(lacks).collect()
    }

    fn demands(&self, part: AddressPart) -> bool {
        let mut lists = DEMANDED.lines().filter_map(|line| line.strip_prefix(part.name()));
        lists.any(|countries| countries.split(' ').any(|country| country == self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_country_is_an_upper_case_iso_3166_code() {
        for good in ["CN", "DE", "US", "SS", "XK"] {
            assert!(CountryCode::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "cn", "CHN", "XX", "ZZ"] {
            assert!(CountryCode::parse(bad).is_err(), "{bad}");
        }
    }

    /// Each line of the table is read, and names countries that an order can go to.
    #[test]
    fn the_table_is_of_parts_and_countries() {
        let mut read = 0;
        for line in DEMANDED.lines().filter(|line| !line.starts_with('#')) {
            let (part, countries) = line.split_once(' ').unwrap();
            let part = AddressPart::ALL.into_iter().find(|known| known.name() == part).unwrap();
            // Two islands have codes that are reserved, and none of ISO's.
            for country in countries.split(' ').filter(|country| !["AC", "TA"].contains(country)) {
                assert!(CountryCode::parse(country).unwrap().demands(part), "{line}");
                read += 1;
            }
        }
        assert!(read > 300, "{read}");
    }

    #[test]
    fn what_is_lacking_follows_the_country() {
        use AddressPart::{City, PostalCode, State};
        let lacks =
            |country: &str, has: &[AddressPart]| CountryCode(country.to_owned()).lacks(|part| has.contains(&part));
        for (country, needed) in [
            ("US", &[City, State, PostalCode][..]),
            ("DK", &[City, PostalCode]),
            ("PA", &[City]),
            ("SG", &[PostalCode]),
            ("HK", &[State]),
            ("JP", &[State, PostalCode]),
            ("GI", &[]),
            ("QQ", &[]),
        ] {
            assert_eq!(lacks(country, &[]), needed, "{country}");
            assert_eq!(lacks(country, needed), [], "{country}");
        }
        assert_eq!(lacks("HK", &[City]), []);
        assert_eq!(lacks("JP", &[City]), [PostalCode]);
        // A state is nowhere a city, and where both are needed neither is the other.
        assert_eq!((lacks("DK", &[State, PostalCode]), lacks("US", &[City, PostalCode])), (vec![City], vec![State]));
    }

    /// Whatever its country, an address that has everything lacks nothing, and what is given is never lacking.
    #[test]
    fn more_is_never_less() {
        let letters = || 'A'..='Z';
        for country in letters().flat_map(|a| letters().map(move |b| CountryCode(format!("{a}{b}")))) {
            assert_eq!(country.lacks(|_| true), []);
            for given in AddressPart::ALL {
                let (without, with) = (country.lacks(|_| false), country.lacks(|part| part == given));
                assert!(
                    with.iter().all(|part| without.contains(part) && *part != given),
                    "{} {given:?}",
                    country.as_str()
                );
            }
        }
    }
}
