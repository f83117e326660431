//! The end of an order that failed.

use chrono::{DateTime, Utc};
use domain::order::reject::{RejectRejection, reject};

use super::{StepError, metadata};
use crate::{event_store::EventStore, order_stream::OrderStream, ports::FulfilmentInput};

pub async fn reject_order(
    store: &impl EventStore,
    input: &FulfilmentInput,
    now: DateTime<Utc>,
) -> Result<(), StepError> {
    let mut stream = OrderStream::open(store, input.order_id).await?;
    stream.commit(&metadata(input, "reject-order", now), reject).await?;
    Ok(())
}

impl From<RejectRejection> for StepError {
    fn from(rejection: RejectRejection) -> Self {
        match rejection {
            RejectRejection::UnknownOrder => Self::UnknownOrder,
            RejectRejection::OrderStands => Self::OrderStands,
            RejectRejection::StockStillHeld => Self::StockStillHeld,
        }
    }
}
