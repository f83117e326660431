//! The parcel has arrived: the carrier confirms it, and the order says so.

use chrono::{DateTime, Utc};
use domain::{
    ids::OrderId,
    order::{
        Order,
        record_delivery::{DeliveryRejection, record_delivery},
    },
};

use crate::{
    event_store::{EventStore, Metadata},
    event_stream::{CommandError, LoadError, OrderStream},
    fulfilment::shipment::shipment_key,
    ports::{DeliveryError, Providers, Shipping},
};

/// Asks the carrier first, because it is the carrier that decides between a delivery and a cancellation. If the event is
/// then not appended, asking again finds the delivery, and so does the undoing of a cancel that comes meanwhile.
pub async fn deliver<S: EventStore>(
    stream: &mut OrderStream<'_, S>,
    carriers: &impl Providers<Provider: Shipping>,
    id: OrderId,
    metadata: &Metadata,
    now: DateTime<Utc>,
) -> Result<(), CommandError<DeliveryRejection>> {
    let arrives = |order: &Order| record_delivery(order, now);
    if arrives(stream.order()).map_err(CommandError::Rejected)?.is_empty() {
        return Ok(());
    }
    let Some(placed) = stream.order().course.placed() else {
        return Err(CommandError::Rejected(DeliveryRejection::UnknownOrder));
    };
    let carrier = carriers.of(&placed.providers.shipping).map_err(LoadError::from)?;
    match carrier.confirm_delivery(shipment_key(id)).await {
        Ok(at) => stream.commit(metadata, |order| record_delivery(order, at)).await.map(|_| ()),
        Err(DeliveryError::NotUnderWay) => Err(CommandError::Rejected(DeliveryRejection::NotUnderWay)),
        Err(DeliveryError::Unavailable(error)) => Err(LoadError::from(error).into()),
    }
}
