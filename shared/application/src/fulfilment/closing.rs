//! The end of an order that is not to be delivered.

use chrono::{DateTime, Utc};
use domain::order::close::{CloseRejection, close};

use super::{StepError, metadata};
use crate::{event_store::EventStore, order_stream::OrderStream, ports::FulfilmentInput};

pub async fn close_order(
    store: &impl EventStore,
    input: &FulfilmentInput,
    now: DateTime<Utc>,
) -> Result<(), StepError> {
    let mut stream = OrderStream::open(store, input.order_id).await?;
    stream.commit(&metadata(input, "close-order", now), close).await?;
    Ok(())
}

impl From<CloseRejection> for StepError {
    fn from(rejection: CloseRejection) -> Self {
        match rejection {
            CloseRejection::NotUndone(rejection) => rejection.into(),
            CloseRejection::StillHeld => Self::StillHeld,
        }
    }
}
