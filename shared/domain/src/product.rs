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
