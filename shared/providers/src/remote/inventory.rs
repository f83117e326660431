use std::collections::BTreeSet;

use application::{
    event_store::Unavailable,
    ports::{
        AdjustError, Adjusted, Catalogue, Inventory, ListProductsError, ProductPage, ProviderError, ReserveError,
        StockAdjustment, StockLine,
    },
};
use chrono::SecondsFormat;
use domain::{
    ids::{OrderId, ProductId, ReservationId},
    money::{Money, Quantity},
    order::{Reservation, Shortage},
    product::{Product, StockChange},
    text::Text,
};

use super::Remote;
use crate::{
    checks::{at_most, id, misbehaved, present, price, product_id},
    contract::wire::{self, adjust_stock_request, adjust_stock_response, reserve_response},
    port::Port,
};

/// As many as an order has lines.
const LINES_MAX: usize = 100;

/// The capability of an inventory that lists its products. The contract was there before the call.
const LISTS_PRODUCTS: &str = "lists_products";

impl Catalogue for Remote {
    async fn products(&self, ids: &[ProductId]) -> Result<Vec<Product>, Unavailable> {
        let distinct: BTreeSet<&ProductId> = ids.iter().collect();
        let asked = wire::GetProductsRequest { product_ids: distinct.iter().map(ToString::to_string).collect() };
        let read = |answer: wire::GetProductsResponse| {
            let mut missing = distinct.clone();
            let products = at_most("products", answer.products, distinct.len())?.into_iter().map(product);
            let products = products.collect::<Result<Vec<_>, _>>()?;
            if products.iter().all(|product| missing.remove(&product.id)) {
                Ok(products)
            } else {
                Err(misbehaved("products.product_id", "is not one that was asked for"))
            }
        };
        self.call(asked, read).await
    }

    async fn list_products(&self, after: Option<&ProductId>, limit: usize) -> Result<ProductPage, ListProductsError> {
        let capabilities = self.capabilities(Port::Inventory).await?;
        if !capabilities.iter().any(|capability| capability == LISTS_PRODUCTS) {
            return Err(ListProductsError::NotSupported);
        }
        let asked = wire::ListProductsRequest {
            after: after.map(ToString::to_string).unwrap_or_default(),
            limit: u32::try_from(limit).unwrap_or(u32::MAX),
        };
        let read = |answer: wire::ListProductsResponse| {
            let products = at_most("products", answer.products, limit)?.into_iter().map(product);
            let products = products.collect::<Result<Vec<_>, _>>()?;
            let ids = after.into_iter().chain(products.iter().map(|product| &product.id));
            if !ids.is_sorted_by(|one, next| one < next) {
                return Err(misbehaved("products.product_id", "is not behind the one before"));
            }
            let last = products.last().map(|last| last.id.clone());
            let next = if answer.more { Some(present("products", last)?) } else { None };
            Ok(ProductPage { products, next })
        };
        Ok(self.call(asked, read).await?)
    }

    async fn put_product(&self, product: &Product) -> Result<bool, Unavailable> {
        let asked = wire::PutProductRequest {
            product: Some(wire::Product {
                product_id: product.id.to_string(),
                name: product.name.as_str().to_owned(),
                price: Some(product.price.into()),
                stock: product.stock,
            }),
        };
        self.call(asked, |answer: wire::PutProductResponse| Ok(answer.created)).await
    }

    async fn describe_product(
        &self,
        id: &ProductId,
        name: &Text<200>,
        price: Money,
    ) -> Result<(Product, bool), Unavailable> {
        let asked = wire::DescribeProductRequest {
            product_id: id.to_string(),
            name: name.as_str().to_owned(),
            price: Some(price.into()),
        };
        let read = |answer: wire::DescribeProductResponse| {
            let product = product(present("product", answer.product)?)?;
            if product.id == *id {
                Ok((product, answer.created))
            } else {
                Err(misbehaved("product.product_id", "is not the one that was asked for"))
            }
        };
        self.call(asked, read).await
    }

    async fn adjust_stock(&self, adjustment: &StockAdjustment) -> Result<Adjusted, AdjustError> {
        let asked = wire::AdjustStockRequest {
            adjustment_id: adjustment.id.to_string(),
            product_id: adjustment.product_id.to_string(),
            change: Some(match adjustment.change {
                StockChange::By(by) => adjust_stock_request::Change::By(by),
                StockChange::Counted(to) => adjust_stock_request::Change::To(to),
            }),
            reason: adjustment.reason.as_str().to_owned(),
            actor: adjustment.actor.clone(),
            at: adjustment.at.to_rfc3339_opts(SecondsFormat::AutoSi, true),
        };
        let read = |answer: wire::AdjustStockResponse| {
            Ok(match present("outcome", answer.outcome)? {
                adjust_stock_response::Outcome::Adjusted(wire::Adjusted { by, stock, replayed }) => {
                    let (field, as_asked) = match adjustment.change {
                        StockChange::By(asked) => ("adjusted.by", by == asked),
                        StockChange::Counted(asked) => ("adjusted.stock", stock == asked),
                    };
                    if !as_asked {
                        return Err(misbehaved(field, "is not what was asked for"));
                    }
                    Ok(Adjusted { by, stock, replayed })
                }
                adjust_stock_response::Outcome::UnknownProduct(_) => Err(AdjustError::UnknownProduct),
                adjust_stock_response::Outcome::OutOfRange(of) => Err(AdjustError::OutOfRange { stock: of.stock }),
                adjust_stock_response::Outcome::KeyReused(_) => Err(AdjustError::KeyReused),
            })
        };
        self.call(asked, read).await?
    }
}

impl Inventory for Remote {
    async fn reserve(&self, order_id: OrderId, lines: &[StockLine]) -> Result<Reservation, ReserveError> {
        let asked =
            wire::ReserveRequest { order_id: order_id.to_string(), lines: lines.iter().map(Into::into).collect() };
        let read = |answer: wire::ReserveResponse| {
            Ok(match present("outcome", answer.outcome)? {
                reserve_response::Outcome::Reserved(of) => {
                    Ok(Reservation { reservation_id: ReservationId(id("reserved.reservation_id", of.reservation_id)?) })
                }
                reserve_response::Outcome::OutOfStock(wire::OutOfStock { shortages }) => {
                    let shortages = at_most("out_of_stock.shortages", shortages, lines.len())?;
                    let shortages = shortages.into_iter().map(|of| shortage(&of, lines));
                    let shortages = shortages.collect::<Result<Vec<_>, _>>()?;
                    present("out_of_stock.shortages", shortages.first())?;
                    let distinct: BTreeSet<&ProductId> = shortages.iter().map(|of| &of.product_id).collect();
                    if distinct.len() < shortages.len() {
                        return Err(misbehaved("out_of_stock.shortages.product_id", "is there twice"));
                    }
                    Err(ReserveError::OutOfStock(shortages))
                }
                reserve_response::Outcome::Released(_) => Err(ReserveError::Released),
            })
        };
        self.call(asked, read).await?
    }

    async fn reserved(&self, order_id: OrderId) -> Result<Vec<StockLine>, Unavailable> {
        let asked = wire::GetReservationRequest { order_id: order_id.to_string() };
        let read = |answer: wire::GetReservationResponse| {
            at_most("lines", answer.lines, LINES_MAX)?.iter().map(line).collect()
        };
        self.call(asked, read).await
    }

    async fn release(&self, order_id: OrderId) -> Result<(), Unavailable> {
        let asked = wire::ReleaseRequest { order_id: order_id.to_string() };
        self.call(asked, |answer| present("released", answer.released).map(drop)).await
    }
}

fn product(of: wire::Product) -> Result<Product, ProviderError> {
    Ok(Product {
        id: product_id("products.product_id", &of.product_id)?,
        name: Text::parse(&of.name).map_err(|problem| misbehaved("products.name", problem.to_string()))?,
        price: price("products.price", of.price)?,
        stock: of.stock,
    })
}

fn line(of: &wire::Line) -> Result<StockLine, ProviderError> {
    Ok(StockLine {
        product_id: product_id("lines.product_id", &of.product_id)?,
        quantity: Quantity::new(of.quantity).map_err(|problem| misbehaved("lines.quantity", problem.to_string()))?,
    })
}

/// Of a line that was asked for, and that there is too little for.
fn shortage(of: &wire::Shortage, lines: &[StockLine]) -> Result<Shortage, ProviderError> {
    let product_id = product_id("out_of_stock.shortages.product_id", &of.product_id)?;
    let asked = lines.iter().find(|line| line.product_id == product_id).map(|line| line.quantity.get());
    match asked {
        Some(requested) if of.available < requested => Ok(Shortage { product_id, requested, available: of.available }),
        Some(_) => Err(misbehaved("out_of_stock.shortages.available", "is as much as was asked for")),
        None => Err(misbehaved("out_of_stock.shortages.product_id", "is not one that was asked for")),
    }
}
