//! An order's books beside the providers'.

use std::time::Duration;

use domain::{
    books::{Books, ReservedLine},
    ids::OrderId,
    money::{Money, MoneyError},
    order::{OrderCreated, OrderEvent},
    provider::OrderProviders,
};
use futures_util::{StreamExt, stream};
use tokio::time::timeout;

use crate::{
    event_store::{EventStore, RecordedEvent, StreamId, Unavailable},
    event_stream::LoadError,
    fulfilment::shipment::shipment_key,
    ports::{Inventory, LedgerEntry, Payments, ProviderError, Providers, Shipping},
};

/// How many orders' books are compared at the same time. Providers have other things to do.
const AT_ONCE: usize = 5;

/// How long those of one order may take, so that ten orders have their answers within ten seconds.
const COMPARED_WITHIN: Duration = Duration::from_secs(5);

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

/// Why nobody knows whether an order's books agree.
#[derive(Debug, thiserror::Error)]
pub enum NotCompared {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("the books were not there within {0:?}")]
    TimedOut(Duration),
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

/// Whether the books agree, of each of these orders, in whichever order the answers come. What keeps one from its answer keeps no
/// other.
pub async fn books_agree(
    store: &impl EventStore,
    payments: &impl Providers<Provider: Payments>,
    inventories: &impl Providers<Provider: Inventory>,
    carriers: &impl Providers<Provider: Shipping>,
    ids: Vec<OrderId>,
) -> Vec<(OrderId, Result<bool, NotCompared>)> {
    let compare = |id: OrderId| async move { (id, agree(ledger(store, payments, inventories, carriers, id)).await) };
    stream::iter(ids).map(compare).buffer_unordered(AT_ONCE).collect().await
}

async fn agree(books: impl Future<Output = Result<Ledger, LedgerError>>) -> Result<bool, NotCompared> {
    match timeout(COMPARED_WITHIN, books).await {
        Ok(ledger) => {
            let Ledger { order, providers } = ledger?;
            Ok(order.agrees_with(&providers))
        }
        Err(_) => Err(NotCompared::TimedOut(COMPARED_WITHIN)),
    }
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
            LedgerEntry::Charged(_, amount) => charged = charged.plus(amount).map_err(not_of_the_order)?,
            LedgerEntry::Refunded(_, amount) => refunded = refunded.plus(amount).map_err(not_of_the_order)?,
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

/// What a provider has in its ledger that cannot be added up is a failure of the provider's: a person is called when it lasts.
fn not_of_the_order(_: MoneyError) -> Unavailable {
    let problem = "is in another currency than the order's, or comes to more than there is".to_owned();
    let source = ProviderError::Misbehaved { field: "entries.amount", problem }.into();
    Unavailable { what: "the payment provider", source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn books_that_nobody_answers_for_are_waited_for_no_longer_than_that() {
        let started = tokio::time::Instant::now();
        let compared = agree(std::future::pending()).await;
        assert!(matches!(compared, Err(NotCompared::TimedOut(_))), "{compared:?}");
        assert_eq!(started.elapsed().as_secs(), COMPARED_WITHIN.as_secs());
        assert!(matches!(
            agree(async { Err(LedgerError::UnknownOrder) }).await,
            Err(NotCompared::Ledger(LedgerError::UnknownOrder))
        ));
    }
}
