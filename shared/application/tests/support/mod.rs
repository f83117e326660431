//! One shop in memory, and the fulfilment walked step by step as the state machine walks it.

#![allow(dead_code, reason = "each test binary uses its own part")]

use application::{
    create_order::{CreateOrderError, OrderPlaced, command_id, create_order},
    event_store::{EventStore, Metadata, StreamId},
    fulfilment::{
        StepError, confirmation::send_confirmation, inventory::release_inventory, inventory::reserve_inventory,
        payment::process_payment, rejection::reject_order, shipment::create_shipment, validate::validate_order,
    },
    memory::{MemoryEventStore, MemoryInventory, MemoryNotifications, MemoryPayments, MemoryShipping, balance},
    order_stream::OrderStream,
    ports::{Catalogue, FulfilmentInput},
};
use chrono::{DateTime, Utc};
use domain::{
    address::{CountryCode, ShippingAddress},
    ids::{CustomerId, OrderId, PaymentMethod, ProductId},
    money::{Money, Quantity},
    order::{
        Order,
        create::{CreateOrder, RequestedItem, RequestedItems},
    },
    product::Product,
    text::Text,
};

pub(crate) const STEPS: [Step; 7] =
    [Step::Validate, Step::Reserve, Step::Pay, Step::Ship, Step::Confirm, Step::Release, Step::Reject];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Validate,
    Reserve,
    Pay,
    Ship,
    Confirm,
    Release,
    Reject,
}

#[derive(Default)]
pub(crate) struct Shop {
    pub(crate) store: MemoryEventStore,
    pub(crate) inventory: MemoryInventory,
    pub(crate) payments: MemoryPayments,
    pub(crate) shipping: MemoryShipping,
    pub(crate) notifications: MemoryNotifications,
}

pub(crate) fn at() -> DateTime<Utc> {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

pub(crate) fn tea() -> ProductId {
    ProductId::parse("tea").unwrap()
}

pub(crate) fn cny(amount: u64) -> Money {
    Money::new(amount, "CNY".parse().unwrap()).unwrap()
}

impl Shop {
    /// A shop that sells tea at 19.99.
    pub(crate) async fn with_stock(stock: u32) -> Self {
        let shop = Self::default();
        shop.set_stock(stock).await;
        shop
    }

    pub(crate) async fn set_stock(&self, stock: u32) {
        let product = Product { id: tea(), name: Text::parse("Longjing tea").unwrap(), price: cny(1999), stock };
        self.inventory.put_product(&product).await.unwrap();
    }

    pub(crate) async fn stock(&self) -> u32 {
        self.inventory.products(&[tea()]).await.unwrap()[0].stock
    }

    /// Orders two packets of tea.
    pub(crate) async fn place(&self, order_id: OrderId, payment_method: &str) -> Result<OrderPlaced, CreateOrderError> {
        self.place_as(order_id, payment_method, "the same body").await
    }

    pub(crate) async fn place_as(
        &self,
        order_id: OrderId,
        payment_method: &str,
        fingerprint: &str,
    ) -> Result<OrderPlaced, CreateOrderError> {
        let item = RequestedItem { product_id: tea(), quantity: Quantity::new(2).unwrap(), unit_price: None };
        let command = CreateOrder {
            customer_id: CustomerId::parse("customer-1").unwrap(),
            items: RequestedItems::new(vec![item]).unwrap(),
            shipping_address: ShippingAddress {
                street: Text::parse("1 Nanjing Road").unwrap(),
                city: Text::parse("Shanghai").unwrap(),
                state: Text::parse("Shanghai").unwrap(),
                country: CountryCode::parse("CN").unwrap(),
                postal_code: Text::parse("200001").unwrap(),
            },
            payment_method: PaymentMethod::parse(payment_method).unwrap(),
            catalogue: self.inventory.products(&[tea()]).await.unwrap(),
            now: at(),
        };
        let metadata = Metadata {
            command_id: command_id(order_id),
            fingerprint: fingerprint.to_owned(),
            actor: "customer:customer-1".to_owned(),
            correlation_id: "correlation".to_owned(),
            causation_id: "request".to_owned(),
            traceparent: None,
            occurred_at: at(),
        };
        create_order(&self.store, order_id, &metadata, &command).await
    }

    pub(crate) async fn run(&self, step: Step, order_id: OrderId) -> Result<(), StepError> {
        let input = FulfilmentInput {
            order_id,
            correlation_id: "correlation".to_owned(),
            causation_id: format!("{order_id}/1"),
            traceparent: None,
        };
        match step {
            Step::Validate => validate_order(&self.store, &input, at()).await,
            Step::Reserve => reserve_inventory(&self.store, &self.inventory, &input, at()).await,
            Step::Pay => process_payment(&self.store, &self.payments, &input, at()).await,
            Step::Ship => create_shipment(&self.store, &self.shipping, &input, at()).await,
            Step::Confirm => send_confirmation(&self.store, &self.notifications, &input, at()).await,
            Step::Release => release_inventory(&self.store, &self.inventory, &input, at()).await,
            Step::Reject => reject_order(&self.store, &input, at()).await,
        }
    }

    /// As the state machine does: forward until a step says that the order has failed, then undo and reject.
    /// Each step runs `times` times, as after a lost answer.
    pub(crate) async fn fulfil(&self, order_id: OrderId, times: usize) -> Result<(), StepError> {
        for step in [Step::Validate, Step::Reserve, Step::Pay, Step::Ship, Step::Confirm] {
            for _ in 0..times {
                match self.run(step, order_id).await {
                    Err(StepError::OrderFailed(_)) => return self.undo(order_id, times).await,
                    done => done?,
                }
            }
        }
        Ok(())
    }

    async fn undo(&self, order_id: OrderId, times: usize) -> Result<(), StepError> {
        for step in [Step::Release, Step::Reject] {
            for _ in 0..times {
                self.run(step, order_id).await?;
            }
        }
        Ok(())
    }

    pub(crate) async fn order(&self, order_id: OrderId) -> Order {
        OrderStream::open(&self.store, order_id).await.unwrap().order().clone()
    }

    pub(crate) async fn event_types(&self, order_id: OrderId) -> Vec<String> {
        let commits = self.store.read(&StreamId::order(order_id), 0).await.unwrap();
        commits.iter().flat_map(|commit| commit.events.iter().map(|event| event.event_type.clone())).collect()
    }

    pub(crate) async fn balance(&self, order_id: OrderId) -> Money {
        balance(&self.payments, order_id, cny(0)).await
    }
}
