//! A step did not get done after all its tries: say so on the order, for a person to see.

use chrono::{DateTime, Utc};
use domain::order::{
    Attention,
    flag::{FlagRejection, flag},
};

use super::{StepError, metadata};
use crate::{event_store::EventStore, order_stream::OrderStream, ports::FulfilmentInput};

pub async fn flag_order(
    store: &impl EventStore,
    input: &FulfilmentInput,
    failed: &Attention,
    now: DateTime<Utc>,
) -> Result<(), StepError> {
    let mut stream = OrderStream::open(store, input.order_id).await?;
    // One flag per execution: an order's fulfilment and its undoing may each get stuck.
    let deed = if input.undo { "flag-undoing" } else { "flag-fulfilment" };
    stream.commit(&metadata(input, deed, now), |order| flag(order, failed)).await?;
    Ok(())
}

impl From<FlagRejection> for StepError {
    fn from(FlagRejection: FlagRejection) -> Self {
        Self::UnknownOrder
    }
}
