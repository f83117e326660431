//! What can be ordered, as the catalogue describes it.

use serde::{Deserialize, Serialize};

use crate::{ids::ProductId, money::Money, text::Text};

/// A product of the built-in inventory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    pub id: ProductId,
    pub name: Text<200>,
    pub price: Money,
    /// What can still be ordered: what a reservation holds is not in it.
    pub stock: u32,
}

/// What staff do to the stock of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StockChange {
    /// So many more, or fewer.
    By(i64),
    /// So many were counted that no order holds, and that is what there is.
    Counted(u32),
}

impl StockChange {
    /// By how much the stock changes and what it comes to; `None` when that would be below zero, or more than a stock can be.
    pub fn applied_to(self, stock: u64) -> Option<(i64, u32)> {
        let stock = i64::try_from(stock).ok()?;
        let becomes = match self {
            Self::By(by) => stock.checked_add(by)?,
            Self::Counted(counted) => i64::from(counted),
        };
        Some((becomes.checked_sub(stock)?, u32::try_from(becomes).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stock_changes_by_a_difference_or_to_a_count_and_stays_what_a_stock_can_be() {
        let max = u64::from(u32::MAX);
        for (stock, change, expected) in [
            (5, StockChange::By(-5), Some((-5, 0))),
            (5, StockChange::By(-6), None),
            (5, StockChange::By(i64::MIN), None),
            (0, StockChange::By(i64::from(u32::MAX)), Some((i64::from(u32::MAX), u32::MAX))),
            (1, StockChange::By(i64::from(u32::MAX)), None),
            (max, StockChange::By(i64::MAX), None),
            (5, StockChange::Counted(7), Some((2, 7))),
            (5, StockChange::Counted(0), Some((-5, 0))),
            // What came back on top of the largest stock is above it until somebody counts.
            (max + 2, StockChange::By(-1), None),
            (max + 2, StockChange::Counted(7), Some((5 - i64::from(u32::MAX), 7))),
            (u64::MAX, StockChange::Counted(7), None),
        ] {
            assert_eq!(change.applied_to(stock), expected, "{change:?} of {stock}");
        }
    }
}
