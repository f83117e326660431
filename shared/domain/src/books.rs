//! What an order has cost and holds: by its own events, or by what the providers say. The two are compared.

use serde::{Deserialize, Serialize};

use crate::{
    ids::ProductId,
    money::{Money, Quantity},
};

/// The books of one order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Books {
    pub charged: Money,
    pub refunded: Money,
    /// What is held of the stock, by product.
    pub reserved: Vec<ReservedLine>,
    pub shipment: ShipmentBook,
}

/// So much of a product is held for the order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ReservedLine {
    pub product_id: ProductId,
    pub quantity: Quantity,
}

/// What became of the parcel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShipmentBook {
    None,
    Created,
    Cancelled,
    Delivered,
}

impl Books {
    /// Whether both say that the same money, stock and parcel are where they are. A parcel that nobody had recorded and
    /// that was taken back is as good as none.
    pub fn agrees_with(&self, other: &Self) -> bool {
        let parcel = |books: &Self| match books.shipment {
            ShipmentBook::Cancelled => ShipmentBook::None,
            shipment => shipment,
        };
        (self.charged, self.refunded, &self.reserved) == (other.charged, other.refunded, &other.reserved)
            && parcel(self) == parcel(other)
    }
}
