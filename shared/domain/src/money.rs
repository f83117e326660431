//! Money in minor units, and how many of a thing.

pub use iso_currency::Currency;
use serde::{Deserialize, Serialize};

use crate::text::Invalid;

/// An amount in the minor unit of its currency, as ISO 4217 defines it: 1999 CNY is ¥19.99, 1999 JPY is ¥1999.
///
/// Never negative and never above [`Money::MAX_AMOUNT`]; amounts of two currencies never mix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    amount: u64,
    currency: Currency,
}

/// Why two amounts cannot be combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    #[error("amounts of {0} and {1} cannot be combined")]
    CurrencyMismatch(Currency, Currency),
    #[error("the amount is out of range")]
    OutOfRange,
}

impl Money {
    /// 2^53 - 1, the largest integer that every JSON reader keeps exactly (RFC 8259, section 6).
    pub const MAX_AMOUNT: u64 = 9_007_199_254_740_991;

    pub fn new(amount: u64, currency: Currency) -> Result<Self, MoneyError> {
        if amount > Self::MAX_AMOUNT { Err(MoneyError::OutOfRange) } else { Ok(Self { amount, currency }) }
    }

    pub fn zero(currency: Currency) -> Self {
        Self { amount: 0, currency }
    }

    /// In minor units.
    pub fn amount(self) -> u64 {
        self.amount
    }

    pub fn currency(self) -> Currency {
        self.currency
    }

    pub fn plus(self, other: Self) -> Result<Self, MoneyError> {
        self.same_currency(other)?;
        let amount = self.amount.checked_add(other.amount).ok_or(MoneyError::OutOfRange)?;
        Self::new(amount, self.currency)
    }

    pub fn minus(self, other: Self) -> Result<Self, MoneyError> {
        self.same_currency(other)?;
        let amount = self.amount.checked_sub(other.amount).ok_or(MoneyError::OutOfRange)?;
        Self::new(amount, self.currency)
    }

    pub fn times(self, quantity: Quantity) -> Result<Self, MoneyError> {
        let amount = self.amount.checked_mul(u64::from(quantity.get())).ok_or(MoneyError::OutOfRange)?;
        Self::new(amount, self.currency)
    }

    fn same_currency(self, other: Self) -> Result<(), MoneyError> {
        if self.currency == other.currency {
            Ok(())
        } else {
            Err(MoneyError::CurrencyMismatch(self.currency, other.currency))
        }
    }
}

/// How many of a product one line orders: 1 to 9,999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Quantity(u32);

impl Quantity {
    pub const MAX: u32 = 9_999;

    pub fn new(quantity: u32) -> Result<Self, Invalid> {
        if (1..=Self::MAX).contains(&quantity) {
            Ok(Self(quantity))
        } else {
            Err(Invalid::new(format!("must be from 1 to {}", Self::MAX)))
        }
    }

    pub fn get(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cny(amount: u64) -> Money {
        Money::new(amount, Currency::CNY).unwrap()
    }

    #[test]
    fn amounts_of_two_currencies_do_not_mix() {
        let mismatch = Err(MoneyError::CurrencyMismatch(Currency::CNY, Currency::USD));
        let dollar = Money::new(1, Currency::USD).unwrap();
        assert_eq!(cny(1).plus(dollar), mismatch);
        assert_eq!(cny(1).minus(dollar), mismatch);
    }

    #[test]
    fn an_amount_leaves_its_range_as_an_error() {
        assert_eq!(cny(Money::MAX_AMOUNT).plus(cny(1)), Err(MoneyError::OutOfRange));
        assert_eq!(cny(1).minus(cny(2)), Err(MoneyError::OutOfRange));
        assert_eq!(cny(Money::MAX_AMOUNT).times(Quantity::new(2).unwrap()), Err(MoneyError::OutOfRange));
        assert_eq!(Money::new(u64::MAX, Currency::CNY), Err(MoneyError::OutOfRange));
    }

    #[test]
    fn a_quantity_is_at_least_one_and_bounded() {
        assert!(Quantity::new(0).is_err());
        assert_eq!(Quantity::new(9_999).unwrap().get(), 9_999);
        assert!(Quantity::new(10_000).is_err());
    }

    proptest! {
        #[test]
        fn what_is_added_can_be_taken_away(a in 0..=Money::MAX_AMOUNT / 2, b in 0..=Money::MAX_AMOUNT / 2) {
            prop_assert_eq!(cny(a).plus(cny(b)).unwrap().minus(cny(b)).unwrap(), cny(a));
        }

        #[test]
        fn times_is_repeated_plus(a in 0..1_000_000_u64, n in 1..50_u32) {
            let sum = (0..n).try_fold(Money::zero(Currency::CNY), |sum, _| sum.plus(cny(a))).unwrap();
            prop_assert_eq!(cny(a).times(Quantity::new(n).unwrap()).unwrap(), sum);
        }
    }
}
