//! The built-in inventory: products with what can still be ordered of them, and one reservation per order.
//!
//! A reservation says how many of its lines have their stock taken. Every transaction that moves stock also moves that
//! number, on condition that it is where it was read. So whoever comes next, after a crash at any point or at the same
//! time, knows exactly what is held, and carries on from there.

use std::collections::{BTreeSet, HashMap};

use application::{
    event_store::{BoxError, Unavailable},
    ports::{
        AdjustError, Adjusted, Catalogue, Inventory, ListProductsError, ProductPage, ReserveError, StockAdjustment,
        StockLine,
    },
    sandbox::orderable,
};
use aws_sdk_dynamodb::{
    Client,
    operation::update_item::UpdateItemError,
    types::{Put, ReturnValue, TransactWriteItem, Update},
};
use chrono::{DateTime, Utc};
use domain::{
    ids::{AdjustmentId, OrderId, ProductId, ReservationId},
    money::{Currency, Money},
    order::{Reservation, Shortage},
    product::{Product, StockChange},
    text::Text,
};
use serde::{Deserialize, Serialize};

use crate::dynamodb::{Backoff, Item, Table, Transacted, json_text, number, text};

/// A transaction holds 100 actions, and one of them is the reservation's.
const LINES_PER_TRANSACTION: usize = 99;

/// The index of products by their ids. A product alone has the attribute that makes an entry, and nothing that an order or a change
/// of stock writes is in one: so these neither grow it nor pay for it.
const PRODUCTS: &str = "products";
/// What that attribute says, in every product: one partition, because only a new product writes it.
const LISTED: &str = "yes";

#[derive(Clone)]
pub struct DynamoInventory {
    table: Table,
}

impl DynamoInventory {
    pub fn new(client: Client, table: String) -> Self {
        let table = Table { client, name: table, partition_key: "id", sort_key: None, what: "the inventory" };
        Self { table }
    }
}

impl Catalogue for DynamoInventory {
    async fn products(&self, ids: &[ProductId]) -> Result<Vec<Product>, Unavailable> {
        // The same product twice in one request is an error to DynamoDB.
        let distinct: BTreeSet<&ProductId> = ids.iter().collect();
        let rows: Vec<ProductRow> = self.table.get_many(distinct.into_iter().map(product_key).collect()).await?;
        rows.into_iter().map(|row| row.product().map_err(|error| self.table.unavailable(error))).collect()
    }

    async fn list_products(&self, after: Option<&ProductId>, limit: usize) -> Result<ProductPage, ListProductsError> {
        let after = after.map_or_else(|| PRODUCT.to_owned(), product_id);
        let query = self.table.client.query().table_name(&self.table.name).index_name(PRODUCTS);
        let query = query
            .key_condition_expression("listed = :listed AND id > :after")
            .expression_attribute_values(":listed", text(LISTED))
            .expression_attribute_values(":after", text(after))
            // An entry has some 200 bytes, so that no page ends by its size.
            .limit(i32::try_from(limit.saturating_add(1)).unwrap_or(i32::MAX));
        let page = query.send().await.map_err(|error| self.table.unavailable(error))?;
        let entries = page.items.unwrap_or_default().into_iter().map(|entry| self.table.row(entry));
        let entries = entries.collect::<Result<Vec<IndexRow>, _>>()?;
        let ids: Vec<ProductId> = entries.iter().take(limit).map(|entry| stored_id(&entry.id)).collect();
        let next = ids.last().filter(|_| entries.len() > limit).cloned();
        // What the index says of a moment ago is asked of the table as it is now.
        let mut products = self.products(&ids).await?;
        products.sort_unstable_by(|one, other| one.id.cmp(&other.id));
        Ok(ProductPage { products, next })
    }

    async fn put_product(&self, product: &Product) -> Result<bool, Unavailable> {
        let Product { id, name, price, stock } = product;
        Ok(self.put(id, name, *price, ":stock", *stock).await?.is_none())
    }

    async fn describe_product(
        &self,
        id: &ProductId,
        name: &Text<200>,
        price: Money,
    ) -> Result<(Product, bool), Unavailable> {
        let earlier = self.put(id, name, price, "if_not_exists(stock, :stock)", 0).await?;
        let stock = earlier.as_ref().map_or(0, |earlier| orderable(earlier.stock));
        Ok((Product { id: id.clone(), name: name.clone(), price, stock }, earlier.is_none()))
    }

    async fn adjust_stock(&self, adjustment: &StockAdjustment) -> Result<Adjusted, AdjustError> {
        let mut backoff = Backoff::new();
        loop {
            let keys = vec![adjustment_key(adjustment.id), product_key(&adjustment.product_id)];
            let mut items = self.table.at_one_moment(keys).await?.into_iter();
            let (earlier, product) = (items.next().flatten(), items.next().flatten());
            if let Some(earlier) = earlier {
                let first: AdjustmentRow = self.table.row(earlier)?;
                return if first.is_for(adjustment) { Ok(first.adjusted(true)) } else { Err(AdjustError::KeyReused) };
            }
            let StockRow { stock } = self.table.row(product.ok_or(AdjustError::UnknownProduct)?)?;
            let Some((by, becomes)) = adjustment.change.applied_to(stock) else {
                return Err(AdjustError::OutOfRange { stock: orderable(stock) });
            };
            let row = AdjustmentRow::new(adjustment, by, becomes);
            if let Transacted::Done = self.table.transact(self.adjustment_actions(&row, stock)?).await? {
                return Ok(row.adjusted(false));
            }
            // The stock has just changed, or another attempt has been faster.
            backoff.pause().await.map_err(|error| self.table.unavailable(error))?;
        }
    }
}

impl Inventory for DynamoInventory {
    async fn reserve(&self, order_id: OrderId, lines: &[StockLine]) -> Result<Reservation, ReserveError> {
        let mut backoff = Backoff::new();
        // Nothing is read first: the first transaction finds out whether there is a reservation.
        let mut stored: Option<ReservationRow> = None;
        // Once known, what is held already is given back.
        let mut shortages: Vec<Shortage> = Vec::new();
        loop {
            if !shortages.is_empty() && stored.as_ref().is_none_or(|row| row.held == 0) {
                return Err(ReserveError::OutOfStock(shortages));
            }
            let next = match &stored {
                None => ReservationRow::new(order_id, lines.to_vec(), State::Reserving).with_more_held(),
                Some(row) => match row.state {
                    State::Reserved => return Ok(reservation(order_id)),
                    State::Releasing | State::Released => return Err(ReserveError::Released),
                    State::Reserving if shortages.is_empty() => row.with_more_held(),
                    State::Reserving => row.with_less_held(State::Reserving, State::Reserving),
                },
            };
            if self.step(stored.as_ref(), &next).await? {
                stored = Some(next);
                continue;
            }
            // What the refusal says of the stock may be what another attempt of this very order has taken.
            let taken = next.moved_since(stored.as_ref()).filter(|_| shortages.is_empty()).unwrap_or_default();
            let (now, short) = self.standing(order_id, taken).await?;
            if now != stored {
                stored = now;
                shortages.clear();
            } else if !short.is_empty() {
                shortages = short;
                continue;
            }
            backoff.pause().await.map_err(|error| self.table.unavailable(error))?;
        }
    }

    async fn reserved(&self, order_id: OrderId) -> Result<Vec<StockLine>, Unavailable> {
        let held = |row: ReservationRow| row.lines.into_iter().take(row.held).collect();
        Ok(self.reservation(order_id).await?.map(held).unwrap_or_default())
    }

    async fn release(&self, order_id: OrderId) -> Result<(), Unavailable> {
        let mut backoff = Backoff::new();
        let mut stored = self.reservation(order_id).await?;
        loop {
            let next = match &stored {
                Some(row) if row.state == State::Released => return Ok(()),
                Some(row) => row.with_less_held(State::Releasing, State::Released),
                None => ReservationRow::new(order_id, Vec::new(), State::Released),
            };
            if self.step(stored.as_ref(), &next).await? {
                stored = Some(next);
            } else {
                backoff.pause().await.map_err(|error| self.table.unavailable(error))?;
                stored = self.reservation(order_id).await?;
            }
        }
    }
}

impl DynamoInventory {
    /// Sets name and price, and the stock to what this expression makes of `:stock`; lists the product, also one from before there was a
    /// list. Answers what the stock was before; `None` for a new product.
    async fn put(
        &self,
        id: &ProductId,
        name: &Text<200>,
        price: Money,
        becomes: &str,
        stock: u32,
    ) -> Result<Option<StockRow>, Unavailable> {
        let set = format!(
            "SET #name = :name, price_amount = :amount, price_currency = :currency, stock = {becomes}, listed = :listed"
        );
        let update = self
            .table
            .client
            .update_item()
            .table_name(&self.table.name)
            .set_key(Some(product_key(id)))
            .update_expression(set)
            .expression_attribute_names("#name", "name")
            .expression_attribute_values(":name", text(name.as_str()))
            .expression_attribute_values(":amount", number(price.amount()))
            .expression_attribute_values(":currency", text(price.currency().code()))
            .expression_attribute_values(":stock", number(stock))
            .expression_attribute_values(":listed", text(LISTED))
            .return_values(ReturnValue::UpdatedOld);
        let mut backoff = Backoff::new();
        loop {
            match update.clone().send().await {
                Ok(answer) => {
                    let earlier = answer.attributes.filter(|old| !old.is_empty());
                    return earlier.map(|item| self.table.row(item)).transpose();
                }
                // A reservation of this product is just being made.
                Err(error)
                    if matches!(error.as_service_error(), Some(UpdateItemError::TransactionConflictException(_))) =>
                {
                    backoff.pause().await.map_err(|_| self.table.unavailable(error))?;
                }
                Err(error) => return Err(self.table.unavailable(error)),
            }
        }
    }

    /// Enters the adjustment and moves the stock, both or neither, if the stock is still this one.
    fn adjustment_actions(&self, row: &AdjustmentRow, stock: u64) -> Result<Vec<TransactWriteItem>, Unavailable> {
        let adjustment = Put::builder()
            .table_name(&self.table.name)
            .set_item(Some(self.table.item(row)?))
            .condition_expression("attribute_not_exists(id)")
            .build()
            .map_err(|error| self.table.unavailable(error))?;
        let product = Update::builder()
            .table_name(&self.table.name)
            .set_key(Some(product_key(&row.product_id)))
            .update_expression("SET stock = :becomes")
            .condition_expression("stock = :stock")
            .expression_attribute_values(":becomes", number(row.stock))
            .expression_attribute_values(":stock", number(stock))
            .build()
            .map_err(|error| self.table.unavailable(error))?;
        Ok(vec![
            TransactWriteItem::builder().put(adjustment).build(),
            TransactWriteItem::builder().update(product).build(),
        ])
    }

    async fn reservation(&self, order_id: OrderId) -> Result<Option<ReservationRow>, Unavailable> {
        self.table.get(reservation_key(order_id)).await
    }

    /// The order's reservation and the shortages in these lines, at one moment. A product that is not there has nothing
    /// available.
    async fn standing(
        &self,
        order_id: OrderId,
        lines: &[StockLine],
    ) -> Result<(Option<ReservationRow>, Vec<Shortage>), Unavailable> {
        let products = lines.iter().map(|line| product_key(&line.product_id));
        let keys = std::iter::once(reservation_key(order_id)).chain(products).collect();
        let mut items = self.table.at_one_moment(keys).await?.into_iter();
        let reservation = items.next().flatten().map(|item| self.table.row(item)).transpose()?;
        let mut short = Vec::new();
        for (line, product) in lines.iter().zip(items) {
            let stock = product.map(|item| self.table.row::<StockRow>(item)).transpose()?.map_or(0, |row| row.stock);
            if stock < line.quantity.get().into() {
                short.push(Shortage {
                    product_id: line.product_id.clone(),
                    requested: line.quantity.get(),
                    available: orderable(stock),
                });
            }
        }
        Ok((reservation, short))
    }

    /// Replaces the reservation `from` by `to`, and moves the stock of the lines in which their `held` differ. Answers
    /// whether it did: nothing is written when somebody was faster, was in the way, or too little is there.
    async fn step(&self, from: Option<&ReservationRow>, to: &ReservationRow) -> Result<bool, Unavailable> {
        let taking = to.held > from.map_or(0, |row| row.held);
        let moved = to
            .moved_since(from)
            .ok_or_else(|| self.table.unavailable(format!("{} holds more lines than it has", to.id)))?;
        let mut actions = vec![self.replace(from, to)?];
        for line in moved {
            actions.push(if taking { self.take(line)? } else { self.give_back(line)? });
        }
        Ok(matches!(self.table.transact(actions).await?, Transacted::Done))
    }

    fn replace(&self, from: Option<&ReservationRow>, to: &ReservationRow) -> Result<TransactWriteItem, Unavailable> {
        let put = Put::builder().table_name(&self.table.name).set_item(Some(self.table.item(to)?));
        let put = match from {
            None => put.condition_expression("attribute_not_exists(id)"),
            Some(from) => put
                .condition_expression("#state = :state AND held = :held")
                .expression_attribute_names("#state", "state")
                .expression_attribute_values(":state", self.table.value(&from.state)?)
                .expression_attribute_values(":held", self.table.value(&from.held)?),
        };
        Ok(TransactWriteItem::builder().put(put.build().map_err(|error| self.table.unavailable(error))?).build())
    }

    fn take(&self, line: &StockLine) -> Result<TransactWriteItem, Unavailable> {
        let update = Update::builder()
            .table_name(&self.table.name)
            .set_key(Some(product_key(&line.product_id)))
            .update_expression("SET stock = stock - :quantity")
            .condition_expression("stock >= :quantity")
            .expression_attribute_values(":quantity", number(line.quantity.get()))
            .build()
            .map_err(|error| self.table.unavailable(error))?;
        Ok(TransactWriteItem::builder().update(update).build())
    }

    fn give_back(&self, line: &StockLine) -> Result<TransactWriteItem, Unavailable> {
        let update = Update::builder()
            .table_name(&self.table.name)
            .set_key(Some(product_key(&line.product_id)))
            .update_expression("SET stock = stock + :quantity")
            .expression_attribute_values(":quantity", number(line.quantity.get()))
            .build()
            .map_err(|error| self.table.unavailable(error))?;
        Ok(TransactWriteItem::builder().update(update).build())
    }
}

fn reservation(order_id: OrderId) -> Reservation {
    Reservation { reservation_id: ReservationId(format!("res_{order_id}")) }
}

fn reservation_id(order_id: OrderId) -> String {
    format!("reservation#{order_id}")
}

fn reservation_key(order_id: OrderId) -> Item {
    HashMap::from([("id".to_owned(), text(reservation_id(order_id)))])
}

const PRODUCT: &str = "product#";

fn product_id(id: &ProductId) -> String {
    format!("{PRODUCT}{id}")
}

fn product_key(id: &ProductId) -> Item {
    HashMap::from([("id".to_owned(), text(product_id(id)))])
}

/// The product that an item or an entry of the index is about.
fn stored_id(id: &str) -> ProductId {
    ProductId::stored(id.strip_prefix(PRODUCT).unwrap_or_default())
}

/// What is held for an order, or was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ReservationRow {
    id: String,
    #[serde(with = "json_text")]
    lines: Vec<StockLine>,
    /// How many of the lines, from the first, have their stock taken.
    held: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// Not all lines are held; an attempt may be on its way, or may have stopped.
    Reserving,
    Reserved,
    /// Bound to be released, but some lines are held still.
    Releasing,
    Released,
}

impl ReservationRow {
    fn new(order_id: OrderId, lines: Vec<StockLine>, state: State) -> Self {
        Self { id: reservation_id(order_id), lines, held: 0, state }
    }

    fn with_more_held(&self) -> Self {
        let held = self.lines.len().min(self.held.saturating_add(LINES_PER_TRANSACTION));
        let state = if held == self.lines.len() { State::Reserved } else { State::Reserving };
        Self { held, state, ..self.clone() }
    }

    /// The lines that one of both holds and the other does not; `None` when one holds more lines than there are.
    fn moved_since(&self, from: Option<&Self>) -> Option<&[StockLine]> {
        let held = from.map_or(0, |row| row.held);
        self.lines.get(held.min(self.held)..held.max(self.held))
    }

    fn with_less_held(&self, until_then: State, at_last: State) -> Self {
        let held = self.held.saturating_sub(LINES_PER_TRANSACTION);
        let state = if held == 0 { at_last } else { until_then };
        Self { held, state, ..self.clone() }
    }
}

fn adjustment_id(id: AdjustmentId) -> String {
    format!("adjustment#{id}")
}

fn adjustment_key(id: AdjustmentId) -> Item {
    HashMap::from([("id".to_owned(), text(adjustment_id(id)))])
}

/// What staff have done to the stock of a product. It stays.
#[derive(Debug, Serialize, Deserialize)]
struct AdjustmentRow {
    id: String,
    product_id: ProductId,
    by: i64,
    /// Absent where the difference was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    counted: Option<u32>,
    /// What it came to.
    stock: u32,
    reason: Text<500>,
    actor: String,
    adjusted_at: DateTime<Utc>,
}

impl AdjustmentRow {
    fn new(adjustment: &StockAdjustment, by: i64, stock: u32) -> Self {
        let StockAdjustment { id, product_id, change, reason, actor, at } = adjustment.clone();
        let counted = match change {
            StockChange::By(_) => None,
            StockChange::Counted(counted) => Some(counted),
        };
        Self { id: adjustment_id(id), product_id, by, counted, stock, reason, actor, adjusted_at: at }
    }

    fn is_for(&self, adjustment: &StockAdjustment) -> bool {
        let change = self.counted.map_or(StockChange::By(self.by), StockChange::Counted);
        (&self.product_id, change, &self.reason) == (&adjustment.product_id, adjustment.change, &adjustment.reason)
    }

    fn adjusted(&self, replayed: bool) -> Adjusted {
        Adjusted { by: self.by, stock: self.stock, replayed }
    }
}

/// The item of a product.
#[derive(Debug, Deserialize)]
struct ProductRow {
    id: String,
    name: Text<200>,
    price_amount: u64,
    price_currency: Currency,
    stock: u64,
}

impl ProductRow {
    fn product(self) -> Result<Product, BoxError> {
        Ok(Product {
            id: stored_id(&self.id),
            name: self.name,
            price: Money::new(self.price_amount, self.price_currency)?,
            stock: orderable(self.stock),
        })
    }
}

/// An entry of the index of products.
#[derive(Debug, Deserialize)]
struct IndexRow {
    id: String,
}

/// What a shortage is about.
#[derive(Debug, Deserialize)]
struct StockRow {
    stock: u64,
}
