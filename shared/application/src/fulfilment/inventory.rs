//! Hold the stock; its undo lets it go.

use chrono::{DateTime, Utc};
use domain::order::{
    Course, Held,
    record_release::record_release,
    record_reservation::{record_reservation, record_reservation_failure},
};

use super::{StepError, metadata, outcome, stock_lines};
use crate::{
    event_store::EventStore,
    event_stream::OrderStream,
    ports::{FulfilmentInput, Inventory, Providers, ReserveError},
};

pub async fn reserve_inventory(
    store: &impl EventStore,
    inventories: &impl Providers<Provider: Inventory>,
    input: &FulfilmentInput,
    now: DateTime<Utc>,
) -> Result<(), StepError> {
    let metadata = |outcome| metadata(input, "reserve-inventory", outcome, now);
    let mut stream = OrderStream::open(store, input.order_id).await?;
    if let Course::Created(placed) = &stream.order().course {
        let inventory = inventories.of(&placed.providers.inventory)?;
        match inventory.reserve(input.order_id, &stock_lines(placed)).await {
            Ok(reservation) => {
                stream.commit(&metadata("reserved"), |order| record_reservation(order, &reservation)).await?;
            }
            Err(ReserveError::OutOfStock(unavailable)) => {
                let metadata = metadata("out of stock");
                stream.commit(&metadata, |order| record_reservation_failure(order, &unavailable)).await?;
            }
            // Only an order that is being undone is released; loading it again says why.
            Err(ReserveError::Released) => stream = OrderStream::open(store, input.order_id).await?,
            Err(ReserveError::Unavailable(error)) => return Err(error.into()),
        }
    }
    match &stream.order().course {
        Course::Created(_) => Err(StepError::RequestRefused),
        _ => outcome(stream.order()),
    }
}

/// Undoes [`reserve_inventory`]. Asks the inventory also when no reservation is recorded: one may be there all the same.
pub async fn release_inventory(
    store: &impl EventStore,
    inventories: &impl Providers<Provider: Inventory>,
    input: &FulfilmentInput,
    now: DateTime<Utc>,
) -> Result<(), StepError> {
    let mut stream = OrderStream::open(store, input.order_id).await?;
    if stream.order().course.held()?.is_none_or(Held::stock_is_given_up) {
        return Ok(());
    }
    let Some(placed) = stream.order().course.placed() else { return Ok(()) };
    inventories.of(&placed.providers.inventory)?.release(input.order_id).await?;
    stream.commit(&metadata(input, "release-inventory", "released", now), record_release).await?;
    Ok(())
}
