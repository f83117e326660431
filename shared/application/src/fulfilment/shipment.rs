//! Hand the parcel to the carrier; its undo takes it back.

use chrono::{DateTime, Utc};
use domain::{
    ids::OrderId,
    order::{
        Course, SkippableStep,
        record_delivery::{DeliveryRejection, record_delivery},
        record_shipment::{record_shipment, record_shipment_failure},
        record_shipment_cancellation::record_shipment_cancellation,
    },
};
use uuid::Uuid;

use super::{StepError, metadata, outcome, stock_lines, work_id};
use crate::{
    event_store::EventStore,
    event_stream::OrderStream,
    ports::{FulfilmentInput, Providers, ShipmentError, ShipmentRequest, Shipping, TakeBackError},
};

const STEP: &str = "create-shipment";
const UNDO: &str = "cancel-shipment";

/// The key under which the carrier knows the order's shipment.
pub fn shipment_key(order_id: OrderId) -> Uuid {
    work_id(order_id, STEP)
}

pub async fn create_shipment(
    store: &impl EventStore,
    carriers: &impl Providers<Provider: Shipping>,
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
            let metadata = |outcome| metadata(input, STEP, outcome, now);
            match carriers.of(&placed.providers.shipping)?.create_shipment(&request).await {
                Ok(shipment) => {
                    stream.commit(&metadata("shipped"), |order| record_shipment(order, &shipment)).await?;
                }
                Err(ShipmentError::Refused(code)) => {
                    stream.commit(&metadata("refused"), |order| record_shipment_failure(order, &code)).await?;
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

/// Undoes [`create_shipment`]. Asks the carrier also when no shipment is recorded: one may be there all the same. A parcel
/// that has arrived does not come back: then that is recorded, and the order stands.
pub async fn cancel_shipment(
    store: &impl EventStore,
    carriers: &impl Providers<Provider: Shipping>,
    input: &FulfilmentInput,
    now: DateTime<Utc>,
) -> Result<(), StepError> {
    let mut stream = OrderStream::open(store, input.order_id).await?;
    if stream.order().course.held()?.is_none_or(|held| held.is_skipped(SkippableStep::CancelShipment)) {
        return Ok(());
    }
    let Some(placed) = stream.order().course.placed() else { return Ok(()) };
    let carrier = carriers.of(&placed.providers.shipping)?;
    let metadata = |outcome| metadata(input, UNDO, outcome, now);
    match carrier.cancel_shipment(input.order_id, shipment_key(input.order_id)).await {
        Ok(()) => {
            stream.commit(&metadata("cancelled"), record_shipment_cancellation).await?;
            Ok(())
        }
        Err(TakeBackError::Delivered(at)) => {
            stream.commit(&metadata("delivered"), |order| record_delivery(order, at)).await?;
            Err(StepError::Delivered)
        }
        Err(TakeBackError::Refused(_)) => Err(StepError::RequestRefused),
        Err(TakeBackError::Unavailable(error)) => Err(error.into()),
    }
}

impl From<DeliveryRejection> for StepError {
    fn from(rejection: DeliveryRejection) -> Self {
        match rejection {
            DeliveryRejection::UnknownOrder => Self::UnknownOrder,
            // The carrier has delivered what the order has not shipped: a person has to look.
            DeliveryRejection::NotUnderWay => Self::BrokenHistory(rejection.into()),
        }
    }
}
