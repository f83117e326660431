//! Times as clients give them: with as many digits as they keep.

use std::fmt;

use chrono::{DateTime, SecondsFormat, SubsecRound, TimeDelta, Utc};

use crate::text::Invalid;

/// How many digits of a second are known anywhere.
const DIGITS_MAX: u16 = 9;

/// A time, and the unit in which it was given: a second, or as small a part of one as it has digits for.
///
/// Times are stored to the nanosecond, and many clients keep milliseconds. So a time that is given means the whole of its
/// unit, and whoever gives back an event's own time means that event too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    first: DateTime<Utc>,
    digits: u16,
}

impl Moment {
    /// A time as RFC 3339 has it.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let first = text.parse().map_err(|_| Invalid::new("must be a time such as 2026-01-01T00:00:00Z"))?;
        let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
        let digits = fraction.chars().take_while(char::is_ascii_digit).count();
        Ok(Self { first, digits: u16::try_from(digits).unwrap_or(DIGITS_MAX).min(DIGITS_MAX) })
    }

    /// In milliseconds, for what is known no closer.
    #[must_use]
    pub fn in_millis(self) -> Self {
        let digits = self.digits.min(3);
        Self { first: self.first.trunc_subsecs(digits), digits }
    }

    /// The first time of the unit.
    pub fn first(self) -> DateTime<Utc> {
        self.first
    }

    /// The first time after the unit.
    pub fn after(self) -> DateTime<Utc> {
        let nanoseconds = 10_i64.saturating_pow(DIGITS_MAX.saturating_sub(self.digits).into());
        self.first.checked_add_signed(TimeDelta::nanoseconds(nanoseconds)).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}

/// With the digits that it was given with, in UTC.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.first.to_rfc3339_opts(SecondsFormat::Nanos, true);
        let (seconds, fraction) = whole.split_once('.').unwrap_or((&whole, ""));
        let digits = fraction.get(..self.digits.into()).unwrap_or_default();
        let point = if digits.is_empty() { "" } else { "." };
        write!(f, "{seconds}{point}{digits}Z")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_time_is_the_whole_of_the_unit_that_it_was_given_in() {
        for (given, first, after) in [
            ("2026-01-01T00:00:05Z", "2026-01-01T00:00:05Z", "2026-01-01T00:00:06Z"),
            ("2026-01-01T01:00:05.1+01:00", "2026-01-01T00:00:05.1Z", "2026-01-01T00:00:05.2Z"),
            ("2026-01-01T00:00:05.999Z", "2026-01-01T00:00:05.999Z", "2026-01-01T00:00:06Z"),
            ("2026-01-01T00:00:05.123000Z", "2026-01-01T00:00:05.123Z", "2026-01-01T00:00:05.123001Z"),
            ("2026-01-01T00:00:05.12345678987Z", "2026-01-01T00:00:05.123456789Z", "2026-01-01T00:00:05.12345679Z"),
        ] {
            let moment = Moment::parse(given).unwrap();
            let expected: [DateTime<Utc>; 2] = [first.parse().unwrap(), after.parse().unwrap()];
            assert_eq!([moment.first(), moment.after()], expected, "{given}");
        }
        for bad in ["", "yesterday", "2026-01-01", "2026-13-01T00:00:00Z", "2026-01-01T00:00:00", "1.5"] {
            assert!(Moment::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_time_that_is_cut_anywhere_has_itself_in_it(
            second in 0..4_102_444_800_i64, nanosecond in 0..1_000_000_000_u32, digits in 0..=9_usize
        ) {
            let time = DateTime::from_timestamp(second, nanosecond).unwrap();
            let whole = time.to_rfc3339_opts(SecondsFormat::Nanos, false);
            let (seconds, rest) = whole.split_once('.').unwrap();
            let point = if digits == 0 { "" } else { "." };
            let (fraction, zone) = rest.split_at(9);
            let kept = fraction.get(..digits).unwrap();
            let cut = format!("{seconds}{point}{kept}{zone}");
            let moment = Moment::parse(&cut).unwrap();
            for moment in [moment, moment.in_millis(), Moment::parse(&moment.to_string()).unwrap()] {
                prop_assert!(moment.first() <= time && time < moment.after(), "{} has no {}", moment, whole);
            }
            prop_assert_eq!(Moment::parse(&moment.to_string()).unwrap(), moment);
            prop_assert_eq!(moment.to_string(), cut.replace("+00:00", "Z"));
        }

        #[test]
        fn no_text_is_a_panic(text in "\\PC*") {
            let _ = Moment::parse(&text);
        }
    }
}
