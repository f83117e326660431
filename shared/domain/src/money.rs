//! Money in minor units, and how many of a thing.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::text::Invalid;

/// A currency by its ISO 4217 code: three upper-case ASCII letters.
///
/// Deserialising asks for no more than that. What was stored once must stay readable when the currency is withdrawn, and the
/// list of those that there are has forgotten it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency([u8; 3]);

impl Currency {
    /// A currency that something may be priced in: money that people pay with now, counted in a minor unit. That is neither
    /// one that is withdrawn (`HRK`), nor a metal, a unit of account or a code for none at all (`XAU`, `CLF`, `XXX`).
    pub fn parse(code: &str) -> Result<Self, Invalid> {
        // The library takes the bolívar for replaced by `VED`; the standard has both, and people pay with this one.
        let in_use = |known: &iso_currency::Currency| {
            known.exponent().is_some() && (known.flags().is_empty() || *known == iso_currency::Currency::VES)
        };
        if iso_currency::Currency::from_code(code).as_ref().is_some_and(in_use) {
            Self::parse_any(code)
        } else {
            Err(Invalid::new("must be the ISO 4217 code of a currency in use, such as CNY"))
        }
    }

    /// Any code, in use or not: what was paid in a currency goes back in it, also when that is withdrawn by then.
    pub fn parse_any(code: &str) -> Result<Self, Invalid> {
        match code.as_bytes() {
            &[a, b, c] if code.chars().all(|letter| letter.is_ascii_uppercase()) => Ok(Self([a, b, c])),
            _ => Err(Invalid::new("must be an ISO 4217 currency code such as CNY")),
        }
    }

    /// Its three letters.
    pub fn code(&self) -> &str {
        // Never the default: the letters are ASCII.
        str::from_utf8(&self.0).unwrap_or_default()
    }

    /// How many digits its minor unit takes after the point. Of a currency that the library has forgotten, nobody can say.
    pub fn decimals(&self) -> Option<u16> {
        iso_currency::Currency::from_code(self.code()).and_then(iso_currency::Currency::exponent)
    }
}

impl TryFrom<String> for Currency {
    type Error = Invalid;

    fn try_from(code: String) -> Result<Self, Invalid> {
        Self::parse_any(&code)
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> Self {
        currency.code().to_owned()
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// An amount in the minor unit of its currency, as ISO 4217 defines it: 1999 CNY is ¥19.99, 1999 JPY is ¥1999.
///
/// Never negative and never above [`Money::MAX_AMOUNT`]; amounts of two currencies never mix.
///
/// Deserialising does not check the amount: what was stored once must stay readable when the bound changes.
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
    /// 2^53 - 1, the largest integer that every JSON reader keeps exactly (RFC 8259, section 6). Never to be lowered: what
    /// is in the providers' books is held to it.
    pub const MAX_AMOUNT: u64 = 9_007_199_254_740_991;

    /// So many minor units; [`MoneyError::OutOfRange`] above [`Self::MAX_AMOUNT`].
    pub fn new(amount: u64, currency: Currency) -> Result<Self, MoneyError> {
        if amount > Self::MAX_AMOUNT { Err(MoneyError::OutOfRange) } else { Ok(Self { amount, currency }) }
    }

    /// No money, in this currency.
    pub fn zero(currency: Currency) -> Self {
        Self { amount: 0, currency }
    }

    /// In minor units.
    pub fn amount(self) -> u64 {
        self.amount
    }

    /// The currency in whose minor unit the amount is counted.
    pub fn currency(self) -> Currency {
        self.currency
    }

    /// The sum, exactly. [`MoneyError::CurrencyMismatch`] of two currencies, [`MoneyError::OutOfRange`] above [`Self::MAX_AMOUNT`].
    pub fn plus(self, other: Self) -> Result<Self, MoneyError> {
        self.same_currency(other)?;
        let amount = self.amount.checked_add(other.amount).ok_or(MoneyError::OutOfRange)?;
        Self::new(amount, self.currency)
    }

    /// What is left, exactly. [`MoneyError::CurrencyMismatch`] of two currencies, [`MoneyError::OutOfRange`] below zero.
    pub fn minus(self, other: Self) -> Result<Self, MoneyError> {
        self.same_currency(other)?;
        let amount = self.amount.checked_sub(other.amount).ok_or(MoneyError::OutOfRange)?;
        Self::new(amount, self.currency)
    }

    /// The price of so many, exactly. [`MoneyError::OutOfRange`] above [`Self::MAX_AMOUNT`].
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

/// For people, in the currency's own unit: `19.99 CNY`, `1999 JPY`.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { amount, currency } = self;
        let Some(decimals) = currency.decimals() else { return write!(f, "{amount} minor units of {currency}") };
        let unit = 10_u64.saturating_pow(decimals.into());
        match (amount.checked_div(unit), amount.checked_rem(unit)) {
            (Some(whole), Some(part)) if decimals > 0 => {
                write!(f, "{whole}.{part:0width$} {currency}", width = usize::from(decimals))
            }
            _ => write!(f, "{amount} {currency}"),
        }
    }
}

/// How many of a product one line orders: 1 to 9,999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Quantity(u32);

impl Quantity {
    /// Of one line of an order.
    pub const MAX: u32 = 9_999;

    /// Invalid at 0, and above [`Self::MAX`].
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

    fn currency(code: &str) -> Currency {
        Currency::parse(code).unwrap()
    }

    #[test]
    fn the_largest_amount_is_never_lowered() {
        assert_eq!(Money::MAX_AMOUNT, (1 << 53) - 1);
    }

    fn cny(amount: u64) -> Money {
        Money::new(amount, currency("CNY")).unwrap()
    }

    #[test]
    fn prices_are_in_money_that_people_pay_with() {
        // Of no minor unit, of two and of three decimals; and what one library takes for withdrawn.
        for good in ["JPY", "CNY", "KWD", "VES", "XAF", "XCD", "XOF", "XPF"] {
            assert_eq!(Currency::parse(good).unwrap().code(), good);
        }
        let none = ["XXX", "XTS"];
        let no_money = ["XAU", "XAG", "XPT", "XPD", "XDR", "XSU", "XUA", "XAD", "XBA", "XBB", "XBC", "XBD"];
        let units_of_account = ["BOV", "CHE", "CHW", "CLF", "COU", "MXV", "USN", "UYI", "UYW"];
        let withdrawn = ["HRK", "BGN", "ZWL", "SLL", "CUC", "ANG", "DEM"];
        let malformed = ["", "cny", "EURO", "CN", " CNY", "C1Y", "€", "ÄÖ"];
        for bad in none.iter().chain(&no_money).chain(&units_of_account).chain(&withdrawn).chain(&malformed) {
            assert!(Currency::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_stored_amount_is_read_in_whatever_currency_it_is() {
        for code in ["CNY", "HRK", "ANG", "DEM", "XXX", "ZZZ"] {
            let stored = format!("{{\"amount\":1,\"currency\":\"{code}\"}}");
            let money: Money = serde_json::from_str(&stored).unwrap();
            assert_eq!(money.currency().to_string(), code);
            assert_eq!(serde_json::to_string(&money).unwrap(), stored);
        }
        for bad in ["cny", "EURO", "CN", "€", ""] {
            assert!(serde_json::from_str::<Currency>(&format!("\"{bad}\"")).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_amount_is_told_in_the_currencys_own_unit() {
        for (amount, code, told) in [
            (1999, "CNY", "19.99 CNY"),
            (5, "CNY", "0.05 CNY"),
            (0, "USD", "0.00 USD"),
            (1999, "JPY", "1999 JPY"),
            (12_345, "KWD", "12.345 KWD"),
            (Money::MAX_AMOUNT, "CNY", "90071992547409.91 CNY"),
            (1999, "ZZZ", "1999 minor units of ZZZ"),
        ] {
            assert_eq!(Money::new(amount, Currency::parse_any(code).unwrap()).unwrap().to_string(), told);
        }
    }

    #[test]
    fn amounts_of_two_currencies_do_not_mix() {
        let mismatch = Err(MoneyError::CurrencyMismatch(currency("CNY"), currency("USD")));
        let dollar = Money::new(1, currency("USD")).unwrap();
        assert_eq!(cny(1).plus(dollar), mismatch);
        assert_eq!(cny(1).minus(dollar), mismatch);
    }

    #[test]
    fn an_amount_leaves_its_range_as_an_error() {
        assert_eq!(cny(Money::MAX_AMOUNT).plus(cny(1)), Err(MoneyError::OutOfRange));
        assert_eq!(cny(1).minus(cny(2)), Err(MoneyError::OutOfRange));
        assert_eq!(cny(Money::MAX_AMOUNT).times(Quantity::new(2).unwrap()), Err(MoneyError::OutOfRange));
        assert_eq!(Money::new(u64::MAX, currency("CNY")), Err(MoneyError::OutOfRange));
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
            let sum = (0..n).try_fold(Money::zero(currency("CNY")), |sum, _| sum.plus(cny(a))).unwrap();
            prop_assert_eq!(cny(a).times(Quantity::new(n).unwrap()).unwrap(), sum);
        }
    }
}
