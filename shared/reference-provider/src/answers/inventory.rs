use std::collections::BTreeSet;

use application::{
    event_store::Unavailable,
    ports::{AdjustError, Catalogue, Inventory, ListProductsError, ReserveError, StockAdjustment},
};
use domain::{
    ids::{AdjustmentId, ProductId},
    money::{Currency, Money},
    product::{Product, StockChange},
    text::Text,
};
use providers::contract::wire::{self, adjust_stock_request, adjust_stock_response, reserve_response};

use super::{Answers, Failure, key, lines, money, order_id, present, product_id, time};
use crate::Reference;

/// The most products that are asked for at once.
const PRODUCTS_MAX: usize = 100;

/// The longest name of whoever adjusts a stock.
const ACTOR_MAX: usize = 300;

impl Answers<wire::GetProductsRequest> for Reference {
    async fn answer(&self, asked: wire::GetProductsRequest) -> Result<wire::GetProductsResponse, Failure> {
        if asked.product_ids.len() > PRODUCTS_MAX {
            return Err(Failure::Invalid("product_ids"));
        }
        let ids = asked.product_ids.iter().map(|id| product_id("product_ids", id)).collect::<Result<Vec<_>, _>>()?;
        let products = self.inventory.products(&ids).await?;
        Ok(wire::GetProductsResponse { products: products.iter().map(written_product).collect() })
    }
}

impl Answers<wire::ListProductsRequest> for Reference {
    async fn answer(&self, asked: wire::ListProductsRequest) -> Result<wire::ListProductsResponse, Failure> {
        let limit = usize::try_from(asked.limit).ok().filter(|limit| (1..=PRODUCTS_MAX).contains(limit));
        let limit = present("limit", limit)?;
        let after =
            Some(asked.after).filter(|after| !after.is_empty()).map(|after| product_id("after", &after)).transpose()?;
        let page = self.inventory.list_products(after.as_ref(), limit).await;
        let page = page.map_err(|error| match error {
            ListProductsError::Unavailable(error) => error,
            // Who claims `lists_products` has a list.
            ListProductsError::NotSupported => Unavailable { what: "the list of products", source: error.into() },
        })?;
        let products = page.products.iter().map(written_product).collect();
        Ok(wire::ListProductsResponse { products, more: page.next.is_some() })
    }
}

impl Answers<wire::PutProductRequest> for Reference {
    async fn answer(&self, asked: wire::PutProductRequest) -> Result<wire::PutProductResponse, Failure> {
        let asked = present("product", asked.product)?;
        let product = Product {
            id: product_id("product_id", &asked.product_id)?,
            name: name(&asked.name)?,
            price: price(asked.price)?,
            stock: asked.stock,
        };
        Ok(wire::PutProductResponse { created: self.inventory.put_product(&product).await? })
    }
}

impl Answers<wire::DescribeProductRequest> for Reference {
    async fn answer(&self, asked: wire::DescribeProductRequest) -> Result<wire::DescribeProductResponse, Failure> {
        let (id, price) = (product_id("product_id", &asked.product_id)?, price(asked.price)?);
        let (product, created) = self.inventory.describe_product(&id, &name(&asked.name)?, price).await?;
        Ok(wire::DescribeProductResponse { product: Some(written_product(&product)), created })
    }
}

impl Answers<wire::AdjustStockRequest> for Reference {
    async fn answer(&self, asked: wire::AdjustStockRequest) -> Result<wire::AdjustStockResponse, Failure> {
        let adjustment = StockAdjustment {
            id: AdjustmentId(key("adjustment_id", &asked.adjustment_id)?),
            product_id: product_id("product_id", &asked.product_id)?,
            change: match present("change", asked.change)? {
                adjust_stock_request::Change::By(by) => StockChange::By(by),
                adjust_stock_request::Change::To(to) => StockChange::Counted(to),
            },
            reason: Text::parse(&asked.reason).map_err(|_| Failure::Invalid("reason"))?,
            actor: actor(asked.actor)?,
            at: time("at", &asked.at)?,
        };
        let outcome = match self.inventory.adjust_stock(&adjustment).await {
            Ok(adjusted) => adjust_stock_response::Outcome::Adjusted(wire::Adjusted {
                by: adjusted.by,
                stock: adjusted.stock,
                replayed: adjusted.replayed,
            }),
            Err(AdjustError::UnknownProduct) => adjust_stock_response::Outcome::UnknownProduct(wire::UnknownProduct {}),
            Err(AdjustError::OutOfRange { stock }) => {
                adjust_stock_response::Outcome::OutOfRange(wire::OutOfRange { stock })
            }
            Err(AdjustError::KeyReused) => adjust_stock_response::Outcome::KeyReused(wire::KeyReused {}),
            Err(AdjustError::Unavailable(error)) => return Err(error.into()),
        };
        Ok(wire::AdjustStockResponse { outcome: Some(outcome) })
    }
}

impl Answers<wire::ReserveRequest> for Reference {
    async fn answer(&self, asked: wire::ReserveRequest) -> Result<wire::ReserveResponse, Failure> {
        let (order_id, lines) = (order_id(&asked.order_id)?, lines(asked.lines)?);
        let distinct: BTreeSet<&ProductId> = lines.iter().map(|line| &line.product_id).collect();
        if distinct.len() < lines.len() {
            return Err(Failure::Invalid("lines.product_id"));
        }
        let outcome = match self.inventory.reserve(order_id, &lines).await {
            Ok(reservation) => {
                reserve_response::Outcome::Reserved(wire::Reserved { reservation_id: reservation.reservation_id.0 })
            }
            Err(ReserveError::OutOfStock(shortages)) => {
                let shortages = shortages.into_iter().map(|shortage| wire::Shortage {
                    product_id: shortage.product_id.to_string(),
                    requested: shortage.requested,
                    available: shortage.available,
                });
                reserve_response::Outcome::OutOfStock(wire::OutOfStock { shortages: shortages.collect() })
            }
            Err(ReserveError::Released) => reserve_response::Outcome::Released(wire::Released {}),
            Err(ReserveError::Unavailable(error)) => return Err(error.into()),
        };
        Ok(wire::ReserveResponse { outcome: Some(outcome) })
    }
}

impl Answers<wire::GetReservationRequest> for Reference {
    async fn answer(&self, asked: wire::GetReservationRequest) -> Result<wire::GetReservationResponse, Failure> {
        let lines = self.inventory.reserved(order_id(&asked.order_id)?).await?;
        Ok(wire::GetReservationResponse { lines: lines.iter().map(Into::into).collect() })
    }
}

impl Answers<wire::ReleaseRequest> for Reference {
    async fn answer(&self, asked: wire::ReleaseRequest) -> Result<wire::ReleaseResponse, Failure> {
        self.inventory.release(order_id(&asked.order_id)?).await?;
        Ok(wire::ReleaseResponse { released: Some(wire::Released {}) })
    }
}

fn name(name: &str) -> Result<Text<200>, Failure> {
    Text::parse(name).map_err(|_| Failure::Invalid("name"))
}

/// What something costs that can be ordered now: in a currency that people pay with now.
fn price(price: Option<wire::Money>) -> Result<Money, Failure> {
    let price = money("price", price)?;
    Currency::parse(price.currency().code()).map_err(|_| Failure::Invalid("price"))?;
    Ok(price)
}

fn actor(actor: String) -> Result<String, Failure> {
    let printable = actor.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if printable && (1..=ACTOR_MAX).contains(&actor.len()) { Ok(actor) } else { Err(Failure::Invalid("actor")) }
}

fn written_product(product: &Product) -> wire::Product {
    wire::Product {
        product_id: product.id.to_string(),
        name: product.name.as_str().to_owned(),
        price: Some(product.price.into()),
        stock: product.stock,
    }
}
