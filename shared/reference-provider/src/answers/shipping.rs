use application::ports::{DeliveryError, ShipmentError, ShipmentRequest, Shipping, TakeBackError};
use chrono::{DateTime, Utc};
use domain::{
    address::{CountryCode, ShippingAddress},
    books::ShipmentBook,
    text::Text,
};
use providers::contract::wire::{
    self, cancel_shipment_response, confirm_delivery_response, create_shipment_response, get_shipment_response,
};

use super::{Answers, Failure, key, lines, order_id, present, refused, written};
use crate::Reference;

impl Answers<wire::CreateShipmentRequest> for Reference {
    async fn answer(&self, asked: wire::CreateShipmentRequest) -> Result<wire::CreateShipmentResponse, Failure> {
        let request = ShipmentRequest {
            idempotency_key: key("idempotency_key", &asked.idempotency_key)?,
            order_id: order_id(&asked.order_id)?,
            address: address(present("address", asked.address)?)?,
            lines: lines(asked.lines)?,
        };
        let outcome = match self.shipping.create_shipment(&request).await {
            Ok(shipment) => create_shipment_response::Outcome::Created(wire::Shipment {
                shipment_id: shipment.shipment_id.0,
                carrier: shipment.carrier,
                tracking_number: shipment.tracking_number,
                estimated_delivery: written(shipment.estimated_delivery),
            }),
            Err(ShipmentError::Refused(reason)) => create_shipment_response::Outcome::Refused(refused(reason)),
            Err(ShipmentError::Cancelled) => create_shipment_response::Outcome::Cancelled(wire::ShipmentCancelled {}),
            Err(ShipmentError::Unavailable(error)) => return Err(error.into()),
        };
        Ok(wire::CreateShipmentResponse { outcome: Some(outcome) })
    }
}

impl Answers<wire::GetShipmentRequest> for Reference {
    async fn answer(&self, asked: wire::GetShipmentRequest) -> Result<wire::GetShipmentResponse, Failure> {
        let state = match self.shipping.shipment(key("shipment_key", &asked.shipment_key)?).await? {
            ShipmentBook::None => get_shipment_response::State::None(wire::NoShipment {}),
            ShipmentBook::Created => get_shipment_response::State::UnderWay(wire::UnderWay {}),
            ShipmentBook::Cancelled => get_shipment_response::State::Cancelled(wire::ShipmentCancelled {}),
            ShipmentBook::Delivered => get_shipment_response::State::Delivered(wire::HasArrived {}),
        };
        Ok(wire::GetShipmentResponse { state: Some(state) })
    }
}

impl Answers<wire::CancelShipmentRequest> for Reference {
    async fn answer(&self, asked: wire::CancelShipmentRequest) -> Result<wire::CancelShipmentResponse, Failure> {
        let shipment_key = key("shipment_key", &asked.shipment_key)?;
        let outcome = match self.shipping.cancel_shipment(order_id(&asked.order_id)?, shipment_key).await {
            Ok(()) => cancel_shipment_response::Outcome::Cancelled(wire::ShipmentCancelled {}),
            Err(TakeBackError::Delivered(at)) => cancel_shipment_response::Outcome::Delivered(delivered(at)),
            Err(TakeBackError::Refused(reason)) => cancel_shipment_response::Outcome::Refused(refused(reason)),
            Err(TakeBackError::Unavailable(error)) => return Err(error.into()),
        };
        Ok(wire::CancelShipmentResponse { outcome: Some(outcome) })
    }
}

impl Answers<wire::ConfirmDeliveryRequest> for Reference {
    async fn answer(&self, asked: wire::ConfirmDeliveryRequest) -> Result<wire::ConfirmDeliveryResponse, Failure> {
        let outcome = match self.shipping.confirm_delivery(key("shipment_key", &asked.shipment_key)?).await {
            Ok(at) => confirm_delivery_response::Outcome::Delivered(delivered(at)),
            Err(DeliveryError::NotUnderWay) => confirm_delivery_response::Outcome::NotUnderWay(wire::NotUnderWay {}),
            Err(DeliveryError::Unavailable(error)) => return Err(error.into()),
        };
        Ok(wire::ConfirmDeliveryResponse { outcome: Some(outcome) })
    }
}

fn delivered(at: DateTime<Utc>) -> wire::Delivered {
    wire::Delivered { delivered_at: written(at) }
}

fn address(asked: wire::Address) -> Result<ShippingAddress, Failure> {
    let invalid = |_| Failure::Invalid("address");
    Ok(ShippingAddress {
        street: Text::parse(&asked.street).map_err(invalid)?,
        city: Text::parse_optional(Some(asked.city)).map_err(invalid)?,
        state: Text::parse_optional(Some(asked.state)).map_err(invalid)?,
        country: CountryCode::parse(&asked.country).map_err(invalid)?,
        postal_code: Text::parse_optional(Some(asked.postal_code)).map_err(invalid)?,
    })
}
