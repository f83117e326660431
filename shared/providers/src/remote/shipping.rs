use application::{
    event_store::Unavailable,
    ports::{DeliveryError, ProviderError, ShipmentError, ShipmentRequest, Shipping, TakeBackError},
};
use chrono::{DateTime, Utc};
use domain::{
    books::ShipmentBook,
    ids::{OrderId, ShipmentId},
    order::Shipment,
    text::Text,
};
use uuid::Uuid;

use super::Remote;
use crate::{
    checks::{id, present, time, word},
    contract::wire::{
        self, cancel_shipment_response, confirm_delivery_response, create_shipment_response, get_shipment_response,
    },
};

impl Shipping for Remote {
    async fn shipment(&self, shipment_key: Uuid) -> Result<ShipmentBook, Unavailable> {
        let asked = wire::GetShipmentRequest { shipment_key: shipment_key.to_string() };
        let read = |answer: wire::GetShipmentResponse| {
            Ok(match present("state", answer.state)? {
                get_shipment_response::State::None(_) => ShipmentBook::None,
                get_shipment_response::State::UnderWay(_) => ShipmentBook::Created,
                get_shipment_response::State::Cancelled(_) => ShipmentBook::Cancelled,
                get_shipment_response::State::Delivered(_) => ShipmentBook::Delivered,
            })
        };
        self.call(asked, read).await
    }

    async fn cancel_shipment(&self, order_id: OrderId, shipment_key: Uuid) -> Result<(), TakeBackError> {
        let asked =
            wire::CancelShipmentRequest { order_id: order_id.to_string(), shipment_key: shipment_key.to_string() };
        let read = |answer: wire::CancelShipmentResponse| {
            Ok(match present("outcome", answer.outcome)? {
                cancel_shipment_response::Outcome::Cancelled(_) => Ok(()),
                cancel_shipment_response::Outcome::Delivered(of) => Err(TakeBackError::Delivered(arrival(&of)?)),
                cancel_shipment_response::Outcome::Refused(refused) => {
                    Err(TakeBackError::Refused(word("refused.reason", refused.reason)?))
                }
            })
        };
        self.call(asked, read).await?
    }

    async fn confirm_delivery(&self, shipment_key: Uuid) -> Result<DateTime<Utc>, DeliveryError> {
        let asked = wire::ConfirmDeliveryRequest { shipment_key: shipment_key.to_string() };
        let read = |answer: wire::ConfirmDeliveryResponse| {
            Ok(match present("outcome", answer.outcome)? {
                confirm_delivery_response::Outcome::Delivered(of) => Ok(arrival(&of)?),
                confirm_delivery_response::Outcome::NotUnderWay(_) => Err(DeliveryError::NotUnderWay),
            })
        };
        self.call(asked, read).await?
    }

    async fn create_shipment(&self, request: &ShipmentRequest) -> Result<Shipment, ShipmentError> {
        let address = &request.address;
        let part = |part: Option<&str>| part.unwrap_or_default().to_owned();
        let asked = wire::CreateShipmentRequest {
            idempotency_key: request.idempotency_key.to_string(),
            order_id: request.order_id.to_string(),
            address: Some(wire::Address {
                street: address.street.as_str().to_owned(),
                city: part(address.city.as_ref().map(Text::as_str)),
                state: part(address.state.as_ref().map(Text::as_str)),
                postal_code: part(address.postal_code.as_ref().map(Text::as_str)),
                country: address.country.as_str().to_owned(),
            }),
            lines: request.lines.iter().map(Into::into).collect(),
        };
        let read = |answer: wire::CreateShipmentResponse| {
            Ok(match present("outcome", answer.outcome)? {
                create_shipment_response::Outcome::Created(shipment) => Ok(created(shipment)?),
                create_shipment_response::Outcome::Refused(refused) => {
                    Err(ShipmentError::Refused(word("refused.reason", refused.reason)?))
                }
                create_shipment_response::Outcome::Cancelled(_) => Err(ShipmentError::Cancelled),
            })
        };
        self.call(asked, read).await?
    }
}

fn arrival(delivered: &wire::Delivered) -> Result<DateTime<Utc>, ProviderError> {
    time("delivered.delivered_at", &delivered.delivered_at)
}

fn created(shipment: wire::Shipment) -> Result<Shipment, ProviderError> {
    Ok(Shipment {
        shipment_id: ShipmentId(id("created.shipment_id", shipment.shipment_id)?),
        carrier: word("created.carrier", shipment.carrier)?,
        tracking_number: word("created.tracking_number", shipment.tracking_number)?,
        estimated_delivery: time("created.estimated_delivery", &shipment.estimated_delivery)?,
    })
}
