//! A shop that sells tea, and the fulfilment walked step by step as the state machine walks it; in memory, or on whatever
//! event store and providers there are.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::missing_panics_doc,
    clippy::panic,
    reason = "test equipment: a panic is how a failure is told"
)]

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    address::{CountryCode, ShippingAddress},
    ids::{AdjustmentId, CustomerId, OrderId, PaymentMethod, ProductId, RefundId},
    money::{Currency, Money, Quantity},
    order::{
        Attention, Course, Ending, Order, OrderEvent, RequestedRefund, SkippableStep,
        cancel::{CancelRejection, cancel},
        create::{CreateOrder, RequestedItem, RequestedItems},
        record_delivery::DeliveryRejection,
        request_refund::{RefundRejection, request_refund},
        resume::{ResumeRejection, resume},
        skip::SkipRejection,
    },
    product::{Product, StockChange},
    provider::OrderProviders,
    text::Text,
};

use crate::{
    compare_books,
    create_order::{CreateOrderError, OrderPlaced, command_id, create_order},
    event_store::{EventStore, Metadata, StreamId},
    event_stream::{CommandError, OrderStream},
    fulfilment::{
        StepError,
        attention::flag_order,
        closing::close_order,
        confirmation::send_confirmation,
        inventory::{release_inventory, reserve_inventory},
        payment::{process_payment, refund_payment},
        shipment::{cancel_shipment, create_shipment},
        staff_refunds::issue_refund,
        validate::validate_order,
    },
    ledger::LedgerError,
    memory::{
        Faults, MemoryEventStore, MemoryInventory, MemoryLimits, MemoryNotifications, MemoryPayments, MemoryShipping,
        balance,
    },
    ports::{
        AdjustError, Adjusted, Catalogue, DurableFulfilment, FulfilmentInput, Inventory, Notifications, Payments,
        Providers, Shipping, StockAdjustment,
    },
    reconcile::{Finding, PATIENCE, ReconcileError, reconcile},
    record_delivery::deliver,
    skip_step::{SkipError, skip_step},
};

pub const STEPS: [Step; 9] = [
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

pub const FORWARD: [Step; 5] = [Step::Validate, Step::Reserve, Step::Pay, Step::Ship, Step::Confirm];

pub const UNDO: [Step; 4] = [Step::CancelShipment, Step::Refund, Step::Release, Step::Close];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Validate,
    Reserve,
    Pay,
    Ship,
    Confirm,
    CancelShipment,
    Refund,
    Release,
    Close,
    IssueRefund,
}

impl Step {
    /// The name of the step's function.
    pub fn name(self) -> &'static str {
        match self {
            Self::Validate => "validate-order",
            Self::Reserve => "reserve-inventory",
            Self::Pay => "process-payment",
            Self::Ship => "create-shipment",
            Self::Confirm => "send-confirmation",
            Self::CancelShipment => "cancel-shipment",
            Self::Refund => "refund-payment",
            Self::Release => "release-inventory",
            Self::Close => "close-order",
            Self::IssueRefund => "issue-refund",
        }
    }
}

/// What a shop calls.
pub trait Outside {
    type Store: EventStore;
    type Inventory: Catalogue + Inventory + Providers<Provider = Self::Inventory>;
    type Payments: Payments + Providers<Provider = Self::Payments>;
    type Shipping: Shipping + Providers<Provider = Self::Shipping>;
    type Notifications: Notifications + Providers<Provider = Self::Notifications>;
}

pub struct InMemory;

impl Outside for InMemory {
    type Store = MemoryEventStore;
    type Inventory = MemoryInventory;
    type Payments = MemoryPayments;
    type Shipping = MemoryShipping;
    type Notifications = MemoryNotifications;
}

pub struct Shop<O: Outside = InMemory> {
    pub store: O::Store,
    pub inventory: O::Inventory,
    pub payments: O::Payments,
    pub shipping: O::Shipping,
    pub notifications: O::Notifications,
}

impl Default for Shop {
    fn default() -> Self {
        Self {
            store: MemoryEventStore::default(),
            inventory: MemoryInventory::default(),
            payments: MemoryPayments::default(),
            shipping: MemoryShipping::default(),
            notifications: MemoryNotifications::default(),
        }
    }
}

pub fn at() -> DateTime<Utc> {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

pub fn tea() -> ProductId {
    ProductId::parse("tea").unwrap()
}

pub fn cny(amount: u64) -> Money {
    Money::new(amount, Currency::parse("CNY").unwrap()).unwrap()
}

/// Of a command that somebody sends; the same for each name.
fn metadata(order_id: OrderId, name: &str) -> Metadata {
    Metadata {
        command_id: order_id.work_id(name),
        fingerprint: name.to_owned(),
        actor: "staff:staff-1".to_owned(),
        correlation_id: "correlation".to_owned(),
        causation_id: "request".to_owned(),
        traceparent: None,
        occurred_at: at(),
    }
}

pub fn input(order_id: OrderId) -> FulfilmentInput {
    FulfilmentInput {
        order_id,
        correlation_id: "correlation".to_owned(),
        causation_id: format!("{order_id}/1"),
        traceparent: None,
        undo: false,
        refund: false,
        started_by: None,
    }
}

impl Shop {
    /// A shop that sells tea at 19.99.
    pub async fn with_stock(stock: u32) -> Self {
        let shop = Self::default();
        shop.set_stock(stock).await;
        shop
    }

    /// The faults of the provider that this step calls.
    pub fn faults_of(&self, step: Step) -> Option<&Faults> {
        match step {
            Step::Validate => None,
            Step::Reserve | Step::Release => Some(&self.inventory.faults),
            Step::Pay | Step::Refund | Step::IssueRefund => Some(&self.payments.faults),
            Step::Ship | Step::CancelShipment => Some(&self.shipping.faults),
            Step::Confirm | Step::Close => Some(&self.notifications.faults),
        }
    }

    /// Which messages the customer got about the order, sorted.
    pub fn told(&self, order_id: OrderId) -> Vec<&'static str> {
        let mut told: Vec<&str> = self
            .notifications
            .sent()
            .iter()
            .filter(|sent| sent.order_id == order_id)
            .map(|sent| sent.template)
            .collect();
        told.sort_unstable();
        told
    }
}

impl<O: Outside> Shop<O> {
    /// Of tea at 19.99.
    pub async fn set_stock(&self, stock: u32) {
        let product = Product { id: tea(), name: Text::parse("Longjing tea").unwrap(), price: cny(1999), stock };
        self.inventory.put_product(&product).await.unwrap();
    }

    pub async fn stock(&self) -> u32 {
        self.inventory.products(&[tea()]).await.unwrap()[0].stock
    }

    /// Staff add this much tea to the stock, or take it away; once for each id.
    pub async fn adjust_stock(&self, id: AdjustmentId, by: i64) -> Result<Adjusted, AdjustError> {
        let adjustment = StockAdjustment {
            id,
            product_id: tea(),
            change: StockChange::By(by),
            reason: Text::parse("some more was found").unwrap(),
            actor: "staff:staff-1".to_owned(),
            at: at(),
        };
        self.inventory.adjust_stock(&adjustment).await
    }

    /// Orders two packets of tea.
    pub async fn place(&self, order_id: OrderId, payment_method: &str) -> Result<OrderPlaced, CreateOrderError> {
        self.place_as(order_id, payment_method, "the same body").await
    }

    pub async fn place_as(
        &self,
        order_id: OrderId,
        payment_method: &str,
        fingerprint: &str,
    ) -> Result<OrderPlaced, CreateOrderError> {
        self.place_to(order_id, payment_method, fingerprint, "200001").await
    }

    pub async fn place_to(
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
                city: Text::parse("Shanghai").ok(),
                state: Text::parse("Shanghai").ok(),
                country: CountryCode::parse("CN").unwrap(),
                postal_code: Text::parse(postal_code).ok(),
            },
            payment_method: PaymentMethod::parse(payment_method).unwrap(),
            catalogue: self.inventory.products(&[tea()]).await?,
            providers: OrderProviders::default(),
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

    pub async fn run(&self, step: Step, order_id: OrderId) -> Result<(), StepError> {
        self.run_in(step, &input(order_id)).await
    }

    /// Runs a step as this execution does.
    pub async fn run_in(&self, step: Step, input: &FulfilmentInput) -> Result<(), StepError> {
        match step {
            Step::Validate => validate_order(&self.store, input, at()).await,
            Step::Reserve => reserve_inventory(&self.store, &self.inventory, input, at()).await,
            Step::Pay => process_payment(&self.store, &self.payments, &MemoryLimits::default(), input, at()).await,
            Step::Ship => create_shipment(&self.store, &self.shipping, input, at()).await,
            Step::Confirm => send_confirmation(&self.store, &self.notifications, input, at()).await,
            Step::CancelShipment => cancel_shipment(&self.store, &self.shipping, input, at()).await,
            Step::Refund => refund_payment(&self.store, &self.payments, input, at()).await,
            Step::Release => release_inventory(&self.store, &self.inventory, input, at()).await,
            Step::Close => close_order(&self.store, &self.notifications, input, at()).await,
            Step::IssueRefund => issue_refund(&self.store, &self.payments, input, at()).await,
        }
    }

    /// As the state machine does: forward until a step says that the order has failed, then undo and reject.
    /// Each step runs `times` times, as after a lost answer.
    pub async fn fulfil(&self, order_id: OrderId, times: usize) -> Result<(), StepError> {
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
    pub async fn undo(&self, order_id: OrderId, times: usize) -> Result<(), StepError> {
        for step in UNDO {
            for _ in 0..times {
                self.run(step, order_id).await?;
            }
        }
        Ok(())
    }

    /// As whichever execution has the order in hand does when it gives a step up; says whether the order waits for a person.
    pub async fn flag(&self, order_id: OrderId, step: &str, reason: &str) -> Result<bool, StepError> {
        let failed = Attention { step: step.to_owned(), reason: reason.to_owned() };
        let undo = matches!(self.order(order_id).await.course, Course::Undoing(..));
        flag_order(&self.store, &FulfilmentInput { undo, ..input(order_id) }, &failed, at()).await
    }

    /// As an execution does that went on after the first had been given up.
    pub async fn flag_again(&self, order_id: OrderId, step: &str) {
        let failed = Attention { step: step.to_owned(), reason: "Unavailable".to_owned() };
        let input = FulfilmentInput { started_by: Some(99), ..input(order_id) };
        flag_order(&self.store, &input, &failed, at()).await.unwrap();
    }

    pub async fn cancel(&self, order_id: OrderId) -> Result<(), CommandError<CancelRejection>> {
        let reason = Text::parse("changed my mind").unwrap();
        let mut stream = OrderStream::open(&self.store, order_id).await?;
        stream.commit(&metadata(order_id, "cancel-order"), |order| cancel(order, &reason, None)).await.map(|_| ())
    }

    pub async fn deliver(&self, order_id: OrderId) -> Result<(), CommandError<DeliveryRejection>> {
        let mut stream = OrderStream::open(&self.store, order_id).await?;
        deliver(&mut stream, &self.shipping, order_id, &metadata(order_id, "record-delivery"), at()).await
    }

    /// Staff request to give this much back; once for each name.
    pub async fn request_refund(
        &self,
        order_id: OrderId,
        name: &str,
        amount: u64,
    ) -> Result<(), CommandError<RefundRejection>> {
        let metadata = metadata(order_id, name);
        let reason = Text::parse("one packet was damaged").unwrap();
        let refund =
            RequestedRefund { refund_id: RefundId(metadata.command_id), amount: cny(amount), reason, note: None };
        let mut stream = OrderStream::open(&self.store, order_id).await?;
        stream.commit(&metadata, |order| request_refund(order, &refund)).await.map(|_| ())
    }

    /// Staff let the order go on where it is stuck.
    pub async fn resume(&self, order_id: OrderId) -> Result<(), CommandError<ResumeRejection>> {
        let reason = Text::parse("the provider is back").unwrap();
        let mut stream = OrderStream::open(&self.store, order_id).await?;
        let name = format!("resume at {}", stream.version());
        stream.commit(&metadata(order_id, &name), |order| resume(order, &reason)).await.map(|_| ())
    }

    /// Staff let the order go on without this step.
    pub async fn skip(&self, order_id: OrderId, step: SkippableStep) -> Result<(), CommandError<SkipRejection>> {
        let reason = Text::parse("paid back by bank transfer").unwrap();
        let name = format!("skip at {}", OrderStream::open(&self.store, order_id).await?.version());
        let providers = (&self.payments, &self.inventory, &self.shipping);
        match skip_step(&self.store, providers, order_id, &metadata(order_id, &name), step, &reason).await {
            Ok(_) => Ok(()),
            Err(SkipError::Command(error)) => Err(error),
            Err(SkipError::Books(LedgerError::Load(error))) => Err(error.into()),
            Err(SkipError::Books(error)) => panic!("{error}"),
        }
    }

    /// What `reconcile` finds some time after everything else.
    pub async fn reconcile(
        &self,
        fulfilment: &impl DurableFulfilment,
        order_id: OrderId,
        later: TimeDelta,
    ) -> Result<Finding, ReconcileError> {
        reconcile(&self.store, fulfilment, order_id, PATIENCE, at() + later).await
    }

    /// What `compare-books` finds some time after everything else.
    pub async fn compare_books(
        &self,
        order_id: OrderId,
        later: TimeDelta,
    ) -> Result<compare_books::Finding, compare_books::CompareError> {
        self.compare_books_of(order_id, later, false).await
    }

    /// The same of an order that somebody doubts, if they do.
    pub async fn compare_books_of(
        &self,
        order_id: OrderId,
        later: TimeDelta,
        doubted: bool,
    ) -> Result<compare_books::Finding, compare_books::CompareError> {
        let providers = (&self.payments, &self.inventory, &self.shipping);
        let (patience, now) = (compare_books::PATIENCE, at() + later);
        compare_books::compare_books(&self.store, providers, order_id, patience, doubted, now).await
    }

    pub async fn order(&self, order_id: OrderId) -> Order {
        OrderStream::open(&self.store, order_id).await.unwrap().order().clone()
    }

    pub async fn events(&self, order_id: OrderId) -> Vec<OrderEvent> {
        let commits = self.store.read(&StreamId::order(order_id), 0).await.unwrap();
        commits.iter().flat_map(|commit| &commit.events).map(|event| event.read().unwrap()).collect()
    }

    pub async fn event_types(&self, order_id: OrderId) -> Vec<String> {
        let commits = self.store.read(&StreamId::order(order_id), 0).await.unwrap();
        commits.iter().flat_map(|commit| commit.events.iter().map(|event| event.event_type.clone())).collect()
    }

    pub async fn balance(&self, order_id: OrderId) -> Money {
        balance(&self.payments, order_id, cny(0)).await
    }
}
