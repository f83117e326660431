//! When may an order be placed, and at what price?

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{OrderCreated, OrderEvent, OrderItem, Shortage};
use crate::{
    address::ShippingAddress,
    ids::{CustomerId, PaymentMethod, ProductId},
    money::{Money, Quantity},
    product::Product,
    provider::OrderProviders,
    text::Invalid,
};

/// Place this order. The catalogue's products come with it, so that deciding needs no call.
#[derive(Debug, Clone)]
pub struct CreateOrder {
    pub customer_id: CustomerId,
    pub items: RequestedItems,
    pub shipping_address: ShippingAddress,
    pub payment_method: PaymentMethod,
    /// What the catalogue says of the requested products; one that is missing here does not exist.
    pub catalogue: Vec<Product>,
    /// Those of new orders at this moment.
    pub providers: OrderProviders,
    pub now: DateTime<Utc>,
}

/// 1 to 100 lines, each of another product.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct RequestedItems(Vec<RequestedItem>);

/// One line as the client asks for it.
#[derive(Debug, Clone, Serialize)]
pub struct RequestedItem {
    pub product_id: ProductId,
    pub quantity: Quantity,
    /// What the client believes the price to be: a check, never the price.
    pub unit_price: Option<Money>,
}

impl RequestedItems {
    pub const MAX: usize = 100;

    pub fn new(items: Vec<RequestedItem>) -> Result<Self, Invalid> {
        if items.is_empty() || items.len() > Self::MAX {
            return Err(Invalid::new(format!("must hold 1 to {} items", Self::MAX)));
        }
        let mut ids: Vec<&ProductId> = items.iter().map(|item| &item.product_id).collect();
        ids.sort_unstable();
        match ids.windows(2).find(|pair| pair.first() == pair.last()) {
            Some(pair) => Err(Invalid::new(format!(
                "must name each product once; {} stands twice",
                pair.first().map_or("one", |id| id.as_str())
            ))),
            None => Ok(Self(items)),
        }
    }

    pub fn product_ids(&self) -> impl Iterator<Item = &ProductId> {
        self.0.iter().map(|item| &item.product_id)
    }
}

/// Why the order is not placed. Lines are counted from 0, as in the request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateRejection {
    #[error("the order names products that do not exist")]
    UnknownProducts(Vec<usize>),
    #[error("the order mixes currencies")]
    MixedCurrencies(Vec<usize>),
    #[error("the order's total is out of range")]
    TotalOutOfRange,
    #[error("prices have changed")]
    PricesChanged(Vec<PriceChange>),
    #[error("not everything is in stock")]
    OutOfStock(Vec<Shortage>),
}

/// A line whose price is not what the client believes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceChange {
    pub line: usize,
    pub product_id: ProductId,
    pub current: Money,
}

/// The one event of a new order's stream. Prices are the catalogue's at this moment.
pub fn create(command: &CreateOrder) -> Result<OrderEvent, CreateRejection> {
    let items = priced(command)?;
    let total_amount = total(&items)?;
    let changes = price_changes(&command.items.0, &items);
    if !changes.is_empty() {
        return Err(CreateRejection::PricesChanged(changes));
    }
    let shortages = shortages(command);
    if !shortages.is_empty() {
        return Err(CreateRejection::OutOfStock(shortages));
    }
    Ok(OrderEvent::OrderCreated(OrderCreated {
        customer_id: command.customer_id.clone(),
        items,
        shipping_address: command.shipping_address.clone(),
        payment_method: command.payment_method.clone(),
        total_amount,
        created_at: command.now,
        providers: Box::new(command.providers.clone()),
    }))
}

fn offer<'c>(command: &'c CreateOrder, id: &ProductId) -> Option<&'c Product> {
    command.catalogue.iter().find(|product| product.id == *id)
}

fn priced(command: &CreateOrder) -> Result<Vec<OrderItem>, CreateRejection> {
    let mut items = Vec::with_capacity(command.items.0.len());
    let mut unknown = Vec::new();
    for (line, requested) in command.items.0.iter().enumerate() {
        match offer(command, &requested.product_id) {
            Some(product) => items.push(OrderItem {
                product_id: product.id.clone(),
                name: product.name.clone(),
                quantity: requested.quantity,
                unit_price: product.price,
            }),
            None => unknown.push(line),
        }
    }
    if unknown.is_empty() { Ok(items) } else { Err(CreateRejection::UnknownProducts(unknown)) }
}

fn total(items: &[OrderItem]) -> Result<Money, CreateRejection> {
    // `RequestedItems` holds at least one line; without one there would be no currency to count in.
    let Some(currency) = items.first().map(|item| item.unit_price.currency()) else {
        return Err(CreateRejection::TotalOutOfRange);
    };
    let foreign: Vec<usize> = items
        .iter()
        .enumerate()
        .filter(|(_, item)| item.unit_price.currency() != currency)
        .map(|(line, _)| line)
        .collect();
    if !foreign.is_empty() {
        return Err(CreateRejection::MixedCurrencies(foreign));
    }
    items
        .iter()
        .try_fold(Money::zero(currency), |sum, item| sum.plus(item.unit_price.times(item.quantity)?))
        .map_err(|_| CreateRejection::TotalOutOfRange)
}

fn price_changes(requested: &[RequestedItem], items: &[OrderItem]) -> Vec<PriceChange> {
    requested
        .iter()
        .zip(items)
        .enumerate()
        .filter(|(_, (requested, item))| requested.unit_price.is_some_and(|believed| believed != item.unit_price))
        .map(|(line, (_, item))| PriceChange { line, product_id: item.product_id.clone(), current: item.unit_price })
        .collect()
}

fn shortages(command: &CreateOrder) -> Vec<Shortage> {
    command
        .items
        .0
        .iter()
        .filter_map(|item| {
            let available = offer(command, &item.product_id).map_or(0, |product| product.stock);
            let requested = item.quantity.get();
            (requested > available).then(|| Shortage { product_id: item.product_id.clone(), requested, available })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        money::Currency,
        spec::{address, at, customer, money, product, product_id},
    };

    fn item(id: &str, quantity: u32) -> RequestedItem {
        RequestedItem { product_id: product_id(id), quantity: Quantity::new(quantity).unwrap(), unit_price: None }
    }

    fn order(items: Vec<RequestedItem>, catalogue: Vec<Product>) -> CreateOrder {
        CreateOrder {
            customer_id: customer(),
            items: RequestedItems::new(items).unwrap(),
            shipping_address: address(),
            payment_method: PaymentMethod::default(),
            catalogue,
            providers: OrderProviders::default(),
            now: at(0),
        }
    }

    #[test]
    fn an_order_takes_names_and_prices_from_the_catalogue_and_adds_them_up() {
        let command =
            order(vec![item("tea", 2), item("cup", 1)], vec![product("cup", 500, 9), product("tea", 1999, 9)]);
        let OrderEvent::OrderCreated(created) = create(&command).unwrap() else { panic!("another event") };
        assert_eq!(created.total_amount, money(2 * 1999 + 500));
        assert_eq!(created.items[0].unit_price, money(1999));
        assert_eq!(created.items[0].name.as_str(), "tea");
        assert_eq!(created.created_at, at(0));
    }

    #[test]
    fn unknown_products_are_all_named() {
        let command = order(vec![item("x", 1), item("tea", 1), item("y", 1)], vec![product("tea", 1, 1)]);
        assert_eq!(create(&command), Err(CreateRejection::UnknownProducts(vec![0, 2])));
    }

    #[test]
    fn currencies_are_not_mixed() {
        let mut dollars = product("cup", 5, 9);
        dollars.price = Money::new(5, Currency::parse("USD").unwrap()).unwrap();
        let command = order(vec![item("tea", 1), item("cup", 1)], vec![product("tea", 1, 9), dollars]);
        assert_eq!(create(&command), Err(CreateRejection::MixedCurrencies(vec![1])));
    }

    #[test]
    fn a_total_cannot_overflow() {
        let command = order(vec![item("gold", 2)], vec![product("gold", Money::MAX_AMOUNT, 9)]);
        assert_eq!(create(&command), Err(CreateRejection::TotalOutOfRange));
    }

    #[test]
    fn a_gift_or_a_sample_costs_nothing() {
        let command = order(vec![item("sample", 1)], vec![product("sample", 0, 9)]);
        let OrderEvent::OrderCreated(created) = create(&command).unwrap() else { panic!("another event") };
        assert!(created.costs_nothing());
    }

    #[test]
    fn a_price_that_the_client_did_not_expect_is_named_with_the_current_one() {
        let mut line = item("tea", 1);
        line.unit_price = Some(money(1999));
        let current = |amount| order(vec![line.clone()], vec![product("tea", amount, 9)]);
        assert!(create(&current(1999)).is_ok());
        let change = PriceChange { line: 0, product_id: product_id("tea"), current: money(2099) };
        assert_eq!(create(&current(2099)), Err(CreateRejection::PricesChanged(vec![change])));
    }

    #[test]
    fn every_line_that_the_stock_does_not_cover_is_named() {
        let command = order(
            vec![item("tea", 3), item("cup", 1), item("pot", 1)],
            vec![product("tea", 1, 2), product("cup", 1, 1), product("pot", 1, 0)],
        );
        let short = |id, requested, available| Shortage { product_id: product_id(id), requested, available };
        assert_eq!(create(&command), Err(CreateRejection::OutOfStock(vec![short("tea", 3, 2), short("pot", 1, 0)])));
    }

    #[test]
    fn an_order_has_1_to_100_lines_each_of_another_product() {
        let lines = |n: usize| RequestedItems::new((0..n).map(|i| item(&format!("p{i}"), 1)).collect());
        assert!(lines(0).is_err());
        assert!(lines(1).is_ok());
        assert!(lines(100).is_ok());
        assert!(lines(101).is_err());
        let twice = RequestedItems::new(vec![item("tea", 1), item("cup", 1), item("tea", 2)]).unwrap_err();
        assert_eq!(twice.to_string(), "must name each product once; tea stands twice");
    }
}
