//! One shop in memory, and the fulfilment walked step by step as the state machine walks it.

#![allow(dead_code, reason = "each test binary uses its own part")]

use application::{
    create_order::{CreateOrderError, OrderPlaced, command_id, create_order},
    event_store::{EventStore, Metadata, StreamId},
    fulfilment::{
        StepError,
        attention::flag_order,
        closing::close_order,
        confirmation::send_confirmation,
        inventory::{release_inventory, reserve_inventory},
        payment::{process_payment, refund_payment},
        shipment::{cancel_shipment, create_shipment},
        validate::validate_order,
    },
    memory::{Faults, MemoryEventStore, MemoryInventory, MemoryNotifications, MemoryPayments, MemoryShipping, balance},
    order_stream::{CommandError, OrderStream},
    ports::{Catalogue, FulfilmentInput},
};
use chrono::{DateTime, Utc};
use domain::{
    address::{CountryCode, ShippingAddress},
    ids::{CustomerId, OrderId, PaymentMethod, ProductId},
    money::{Money, Quantity},
    order::{
        Attention, Ending, Order,
        cancel::{CancelRejection, cancel},
        create::{CreateOrder, RequestedItem, RequestedItems},
    },
    product::Product,
    text::Text,
};

pub(crate) const STEPS: [Step; 9] = [
    Step::Validate,
    Step::Reserve,
    Step::Pay,
    Step::Ship,
    Step::Confirm,
    Step::CancelShipment,
    Step::Refund,
    Step::Release,
    Step::Close,
];

pub(crate) const FORWARD: [Step; 5] = [Step::Validate, Step::Reserve, Step::Pay, Step::Ship, Step::Confirm];

pub(crate) const UNDO: [Step; 4] = [Step::CancelShipment, Step::Refund, Step::Release, Step::Close];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Validate,
    Reserve,
    Pay,
    Ship,
    Confirm,
    CancelShipment,
    Refund,
    Release,
    Close,
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

fn input(order_id: OrderId) -> FulfilmentInput {
    FulfilmentInput {
        order_id,
        correlation_id: "correlation".to_owned(),
        causation_id: format!("{order_id}/1"),
        traceparent: None,
        undo: false,
        resumed_by: None,
    }
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
        self.place_to(order_id, payment_method, fingerprint, "200001").await
    }

    pub(crate) async fn place_to(
        &self,
        order_id: OrderId,
        payment_method: &str,
        fingerprint: &str,
        postal_code: &str,
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
                postal_code: Text::parse(postal_code).unwrap(),
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
        let input = input(order_id);
        match step {
            Step::Validate => validate_order(&self.store, &input, at()).await,
            Step::Reserve => reserve_inventory(&self.store, &self.inventory, &input, at()).await,
            Step::Pay => process_payment(&self.store, &self.payments, &input, at()).await,
            Step::Ship => create_shipment(&self.store, &self.shipping, &input, at()).await,
            Step::Confirm => send_confirmation(&self.store, &self.notifications, &input, at()).await,
            Step::CancelShipment => cancel_shipment(&self.store, &self.shipping, &input, at()).await,
            Step::Refund => refund_payment(&self.store, &self.payments, &input, at()).await,
            Step::Release => release_inventory(&self.store, &self.inventory, &input, at()).await,
            Step::Close => close_order(&self.store, &input, at()).await,
        }
    }

    /// As the state machine does: forward until a step says that the order has failed, then undo and reject.
    /// Each step runs `times` times, as after a lost answer.
    pub(crate) async fn fulfil(&self, order_id: OrderId, times: usize) -> Result<(), StepError> {
        for step in FORWARD {
            for _ in 0..times {
                match self.run(step, order_id).await {
                    Err(StepError::NotToBeFulfilled(Ending::Rejected(_))) => return self.undo(order_id, times).await,
                    // Whoever cancelled has the order undone by an execution of its own.
                    Err(StepError::NotToBeFulfilled(Ending::Cancelled(_))) => return Ok(()),
                    done => done?,
                }
            }
        }
        Ok(())
    }

    /// As the execution that undoes a cancelled order does, and the end of one that failed.
    pub(crate) async fn undo(&self, order_id: OrderId, times: usize) -> Result<(), StepError> {
        for step in UNDO {
            for _ in 0..times {
                self.run(step, order_id).await?;
            }
        }
        Ok(())
    }

    /// The faults of the provider that this step calls.
    pub(crate) fn faults_of(&self, step: Step) -> Option<&Faults> {
        match step {
            Step::Validate | Step::Close => None,
            Step::Reserve | Step::Release => Some(&self.inventory.faults),
            Step::Pay | Step::Refund => Some(&self.payments.faults),
            Step::Ship | Step::CancelShipment => Some(&self.shipping.faults),
            Step::Confirm => Some(&self.notifications.faults),
        }
    }

    pub(crate) async fn flag(&self, order_id: OrderId, step: &str, reason: &str) -> Result<(), StepError> {
        let failed = Attention { step: step.to_owned(), reason: reason.to_owned() };
        flag_order(&self.store, &input(order_id), &failed, at()).await
    }

    pub(crate) async fn cancel(&self, order_id: OrderId) -> Result<(), CommandError<CancelRejection>> {
        let reason = Text::parse("changed my mind").unwrap();
        let mut stream = OrderStream::open(&self.store, order_id).await?;
        let metadata = Metadata {
            command_id: order_id.work_id("cancel-order"),
            fingerprint: "cancel-order".to_owned(),
            actor: "customer:customer-1".to_owned(),
            correlation_id: "correlation".to_owned(),
            causation_id: "request".to_owned(),
            traceparent: None,
            occurred_at: at(),
        };
        stream.commit(&metadata, |order| cancel(order, &reason)).await
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
