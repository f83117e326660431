//! May the fulfilment begin?

use chrono::{DateTime, Utc};
use domain::order::validate::validate;

use super::{StepError, metadata, outcome};
use crate::{event_store::EventStore, event_stream::OrderStream, ports::FulfilmentInput};

pub async fn validate_order(
    store: &impl EventStore,
    input: &FulfilmentInput,
    now: DateTime<Utc>,
) -> Result<(), StepError> {
    let mut stream = OrderStream::open(store, input.order_id).await?;
    stream.commit(&metadata(input, "validate-order", "invalid", now), |order| validate(order, now)).await?;
    outcome(stream.order())
}
