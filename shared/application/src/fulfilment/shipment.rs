//! Hand the parcel to the carrier.

use chrono::{DateTime, Utc};
use domain::order::{Order, record_shipment::record_shipment};

use super::{StepError, metadata, outcome, stock_lines, work_id};
use crate::{
    event_store::EventStore,
    order_stream::OrderStream,
    ports::{FulfilmentInput, ShipmentRequest, Shipping},
};

const STEP: &str = "create-shipment";

pub async fn create_shipment(
    store: &impl EventStore,
    shipping: &impl Shipping,
    input: &FulfilmentInput,
    now: DateTime<Utc>,
) -> Result<(), StepError> {
    let mut stream = OrderStream::open(store, input.order_id).await?;
    match stream.order() {
        Order::Created(_) | Order::Reserved(..) => return Err(StepError::TooEarly),
        Order::Paid(placed, ..) => {
            let request = ShipmentRequest {
                idempotency_key: work_id(input.order_id, STEP),
                order_id: input.order_id,
                address: placed.shipping_address.clone(),
                lines: stock_lines(placed),
            };
            let shipment = shipping.create_shipment(&request).await?;
            stream.commit(&metadata(input, STEP, now), |order| record_shipment(order, &shipment)).await?;
        }
        _ => {}
    }
    outcome(stream.order())
}
