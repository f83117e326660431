//! Hand the parcel to the carrier; its undo takes it back.

use chrono::{DateTime, Utc};
use domain::{
    ids::OrderId,
    order::{
        Course,
        record_shipment::{record_shipment, record_shipment_failure},
        record_shipment_cancellation::record_shipment_cancellation,
    },
};
use uuid::Uuid;

use super::{StepError, metadata, outcome, stock_lines, work_id};
use crate::{
    event_store::EventStore,
    order_stream::OrderStream,
    ports::{FulfilmentInput, ShipmentError, ShipmentRequest, Shipping},
};

const STEP: &str = "create-shipment";

/// The key under which the carrier knows the order's shipment.
pub fn shipment_key(order_id: OrderId) -> Uuid {
    work_id(order_id, STEP)
}

pub async fn create_shipment(
    store: &impl EventStore,
    shipping: &impl Shipping,
    input: &FulfilmentInput,
    now: DateTime<Utc>,
) -> Result<(), StepError> {
    let mut stream = OrderStream::open(store, input.order_id).await?;
    match &stream.order().course {
        Course::Created(_) | Course::Reserved(..) => return Err(StepError::TooEarly),
        Course::Paid(placed, ..) => {
            let request = ShipmentRequest {
                idempotency_key: shipment_key(input.order_id),
                order_id: input.order_id,
                address: placed.shipping_address.clone(),
                lines: stock_lines(placed),
            };
            let metadata = metadata(input, STEP, now);
            match shipping.create_shipment(&request).await {
                Ok(shipment) => stream.commit(&metadata, |order| record_shipment(order, &shipment)).await?,
                Err(ShipmentError::Refused(code)) => {
                    stream.commit(&metadata, |order| record_shipment_failure(order, &code)).await?;
                }
                // Only the undoing cancels a shipment; loading the order again says why it is undone.
                Err(ShipmentError::Cancelled) => stream = OrderStream::open(store, input.order_id).await?,
                Err(ShipmentError::Unavailable(error)) => return Err(error.into()),
            }
        }
        _ => {}
    }
    match &stream.order().course {
        Course::Paid(..) => Err(StepError::RequestRefused),
        _ => outcome(stream.order()),
    }
}

/// Undoes [`create_shipment`]. Asks the carrier also when no shipment is recorded: one may be there all the same.
pub async fn cancel_shipment(
    store: &impl EventStore,
    shipping: &impl Shipping,
    input: &FulfilmentInput,
    now: DateTime<Utc>,
) -> Result<(), StepError> {
    let mut stream = OrderStream::open(store, input.order_id).await?;
    stream.order().course.held()?;
    shipping.cancel_shipment(input.order_id, shipment_key(input.order_id)).await?;
    stream.commit(&metadata(input, "cancel-shipment", now), record_shipment_cancellation).await?;
    Ok(())
}
