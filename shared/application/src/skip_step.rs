//! Staff let a stuck order go on without a step, after its books were compared with the providers'.

use domain::{
    ids::OrderId,
    order::{
        SkippableStep,
        skip::{SkipRejection, skip},
    },
    text::Text,
};

use crate::{
    event_store::{EventStore, Metadata},
    event_stream::{CommandError, Committed, OrderStream},
    ledger::{LedgerError, providers_books},
    ports::{Inventory, Payments, Providers, Shipping},
};

/// Why a step was not skipped.
#[derive(Debug, thiserror::Error)]
pub enum SkipError {
    /// Nobody knows what the providers have done, so nobody can answer for it.
    #[error("the providers' books cannot be had")]
    Books(#[source] LedgerError),
    #[error(transparent)]
    Command(#[from] CommandError<SkipRejection>),
}

/// Loads the order, asks each provider once, and decides. What a provider does after that, as a call may that has been on
/// its way for long, is recorded when it is heard of, skipped or not.
pub async fn skip_step(
    store: &impl EventStore,
    (payments, inventories, carriers): (
        &impl Providers<Provider: Payments>,
        &impl Providers<Provider: Inventory>,
        &impl Providers<Provider: Shipping>,
    ),
    id: OrderId,
    metadata: &Metadata,
    step: SkippableStep,
    reason: &Text<500>,
) -> Result<Committed, SkipError> {
    let mut stream = OrderStream::open(store, id).await.map_err(CommandError::from)?;
    let Some(placed) = stream.order().course.placed() else {
        return Err(CommandError::Rejected(SkipRejection::UnknownOrder).into());
    };
    let found = providers_books(payments, inventories, carriers, id, placed).await.map_err(SkipError::Books)?;
    Ok(stream.commit(metadata, |order| skip(order, step, reason, &found)).await?)
}
