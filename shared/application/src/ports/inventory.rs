//! The catalogue, and the stock.

use chrono::{DateTime, Utc};
use domain::{
    ids::{AdjustmentId, OrderId, ProductId},
    money::{Money, Quantity},
    order::{Reservation, Shortage},
    product::{Product, StockChange},
    text::Text,
};
use serde::{Deserialize, Serialize};

use crate::event_store::Unavailable;

/// What can be ordered, at what price, and how much of it is left.
pub trait Catalogue: Send + Sync {
    /// Those of up to 100 products that exist, in any order, as they are now. MUST be one remote call.
    fn products(&self, ids: &[ProductId]) -> impl Future<Output = Result<Vec<Product>, Unavailable>> + Send;

    /// Up to `limit` products, of 100 at most, in the order of their ids, byte by byte, each as it is now: those behind `after`, or the
    /// first ones.
    ///
    /// MUST cost the same wherever the page is, and however many reservations and adjustments there are. MAY miss for some seconds
    /// a product that has just been set for the first time, and MUST miss no other. Where there is no such list, MUST answer
    /// [`ListProductsError::NotSupported`].
    fn list_products(
        &self,
        after: Option<&ProductId>,
        limit: usize,
    ) -> impl Future<Output = Result<ProductPage, ListProductsError>> + Send;

    /// Sets name, price and orderable stock. Answers whether the product is new.
    fn put_product(&self, product: &Product) -> impl Future<Output = Result<bool, Unavailable>> + Send;

    /// Sets name and price. MUST leave the stock as it is; a new product has none. Answers the product as it is now, and
    /// whether it is new.
    fn describe_product(
        &self,
        id: &ProductId,
        name: &Text<200>,
        price: Money,
    ) -> impl Future<Output = Result<(Product, bool), Unavailable>> + Send;

    /// Changes the orderable stock, which a reservation may be changing at the same time. MUST change it once per id: the same
    /// adjustment again gets the first answer, another one under the same id gets [`AdjustError::KeyReused`]. MUST keep who
    /// made it, why and when.
    ///
    /// MUST derive what it refuses from one moment: an adjustment that has been made is never refused for what it has left.
    fn adjust_stock(&self, adjustment: &StockAdjustment) -> impl Future<Output = Result<Adjusted, AdjustError>> + Send;
}

/// Some of the products.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductPage {
    pub products: Vec<Product>,
    /// Behind which product the list goes on, when others may follow. The page may have fewer than were asked for all the same.
    pub next: Option<ProductId>,
}

/// Why products were not listed.
#[derive(Debug, thiserror::Error)]
pub enum ListProductsError {
    #[error("the inventory does not list its products")]
    NotSupported,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Change what can still be ordered of a product, once per id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StockAdjustment {
    pub id: AdjustmentId,
    pub product_id: ProductId,
    pub change: StockChange,
    pub reason: Text<500>,
    /// Who makes it, as in [`Metadata`].
    pub actor: String,
    pub at: DateTime<Utc>,
}

/// What an adjustment has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Adjusted {
    pub by: i64,
    /// What the stock was then.
    pub stock: u32,
    /// An earlier attempt had made it.
    pub replayed: bool,
}

/// Why a stock was not adjusted.
#[derive(Debug, thiserror::Error)]
pub enum AdjustError {
    #[error("there is no such product")]
    UnknownProduct,
    #[error("the stock is {stock}, and has to stay from 0 to {}", u32::MAX)]
    OutOfRange { stock: u32 },
    #[error("the id was used before, for another adjustment")]
    KeyReused,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// One line of what is to be held for an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockLine {
    pub product_id: ProductId,
    pub quantity: Quantity,
}

/// Why nothing is reserved.
#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    #[error("not enough in stock")]
    OutOfStock(Vec<Shortage>),
    #[error("the order's stock was released before")]
    Released,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The stock, held per order: at most one reservation for each.
pub trait Inventory: Send + Sync {
    /// Holds all lines or none; no product may stand in two lines. MUST never hold more than there is, and MUST hold an order's lines once however often
    /// it is asked. MUST answer [`ReserveError::Released`] after a release, also when the release came first.
    fn reserve(
        &self,
        order_id: OrderId,
        lines: &[StockLine],
    ) -> impl Future<Output = Result<Reservation, ReserveError>> + Send;

    /// What is held for the order now; nothing when there is no reservation.
    fn reserved(&self, order_id: OrderId) -> impl Future<Output = Result<Vec<StockLine>, Unavailable>> + Send;

    /// Gives back what is held for the order, once. MUST also be an answer when nothing is held, and then bar a
    /// reservation that comes late.
    fn release(&self, order_id: OrderId) -> impl Future<Output = Result<(), Unavailable>> + Send;
}
