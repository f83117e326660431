//! An order's books beside the providers'.

use domain::{
    books::{Books, ReservedLine},
    ids::OrderId,
    money::{Money, MoneyError},
    order::{OrderCreated, OrderEvent},
    provider::OrderProviders,
};

use crate::{
    event_store::{EventStore, RecordedEvent, StreamId, Unavailable},
    event_stream::LoadError,
    fulfilment::shipment::shipment_key,
    ports::{Inventory, LedgerEntry, Payments, Providers, Shipping},
};

/// Both books of one order. While an order is under way they may differ for the length of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    pub order: Books,
    pub providers: Books,
}

/// Why there are no books to show.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("there is no such order")]
    UnknownOrder,
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("the amounts cannot be added up")]
    Amounts(#[from] MoneyError),
}

impl From<Unavailable> for LedgerError {
    fn from(error: Unavailable) -> Self {
        Self::Load(error.into())
    }
}

/// Reads the order's events, then asks each provider once.
pub async fn ledger(
    store: &impl EventStore,
    payments: &impl Providers<Provider: Payments>,
    inventories: &impl Providers<Provider: Inventory>,
    carriers: &impl Providers<Provider: Shipping>,
    id: OrderId,
) -> Result<Ledger, LedgerError> {
    let commits = store.read(&StreamId::order(id), 0).await?;
    let events = commits.iter().flat_map(|commit| &commit.events);
    let events: Vec<OrderEvent> = events.map(RecordedEvent::read).collect::<Result<_, _>>().map_err(LoadError::from)?;
    let order = Books::of(&events)?.ok_or(LedgerError::UnknownOrder)?;
    let created = events.iter().find_map(|event| match event {
        OrderEvent::OrderCreated(created) => Some(created),
        _ => None,
    });
    let placed = created.ok_or(LedgerError::UnknownOrder)?;
    let providers = providers_books(payments, inventories, carriers, id, placed).await?;
    Ok(Ledger { order, providers })
}

/// The order's books as its providers keep them, asked now.
pub async fn providers_books(
    payments: &impl Providers<Provider: Payments>,
    inventories: &impl Providers<Provider: Inventory>,
    carriers: &impl Providers<Provider: Shipping>,
    id: OrderId,
    placed: &OrderCreated,
) -> Result<Books, LedgerError> {
    let OrderProviders { payments: paid, inventory: held, shipping: shipped, .. } = &*placed.providers;
    let (payments, inventory, carrier) = (payments.of(paid)?, inventories.of(held)?, carriers.of(shipped)?);
    let currency = placed.total_amount.currency();
    let (mut charged, mut refunded) = (Money::zero(currency), Money::zero(currency));
    for entry in payments.ledger(id).await? {
        match entry {
            LedgerEntry::Charged(_, amount) => charged = charged.plus(amount)?,
            LedgerEntry::Refunded(_, amount) => refunded = refunded.plus(amount)?,
            LedgerEntry::Declined(_) | LedgerEntry::Cancelled => {}
        }
    }
    let held = inventory.reserved(id).await?.into_iter();
    let mut reserved: Vec<ReservedLine> =
        held.map(|line| ReservedLine { product_id: line.product_id, quantity: line.quantity }).collect();
    reserved.sort_unstable();
    let shipment = carrier.shipment(shipment_key(id)).await?;
    Ok(Books { charged, refunded, reserved, shipment })
}
