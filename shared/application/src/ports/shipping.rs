//! The carrier.

use chrono::{DateTime, Utc};
use domain::{address::ShippingAddress, books::ShipmentBook, ids::OrderId, order::Shipment};
use uuid::Uuid;

use super::StockLine;
use crate::event_store::Unavailable;

/// Send this, once per key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShipmentRequest {
    pub idempotency_key: Uuid,
    pub order_id: OrderId,
    pub address: ShippingAddress,
    pub lines: Vec<StockLine>,
}

/// Why there is no shipment.
#[derive(Debug, thiserror::Error)]
pub enum ShipmentError {
    #[error("the carrier refused the shipment: {0}")]
    Refused(String),
    #[error("the shipment was cancelled before it came")]
    Cancelled,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a shipment does not come back.
#[derive(Debug, thiserror::Error)]
pub enum TakeBackError {
    #[error("the parcel has arrived")]
    Delivered(DateTime<Utc>),
    /// The parcel stays under way, and asking again is no use until somebody has acted: only a person can decide what
    /// becomes of it.
    #[error("the carrier refused to give the parcel back: {0}")]
    Refused(String),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a parcel has not arrived.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    #[error("no such parcel is under way")]
    NotUnderWay,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The carrier.
pub trait Shipping: Send + Sync {
    /// What became of the shipment under this key. One that was barred before it came is none.
    fn shipment(&self, shipment_key: Uuid) -> impl Future<Output = Result<ShipmentBook, Unavailable>> + Send;

    /// Takes the shipment back if there is one, and bars it if it has not come yet: a request that comes late MUST then
    /// get [`ShipmentError::Cancelled`]. MUST have the same effect however often it is asked. MUST refuse with
    /// [`TakeBackError::Delivered`] what has arrived: of a delivery and a cancellation, exactly one comes about.
    fn cancel_shipment(
        &self,
        order_id: OrderId,
        shipment_key: Uuid,
    ) -> impl Future<Output = Result<(), TakeBackError>> + Send;

    /// When the parcel arrived. The sandbox delivers nothing by itself: there, whoever asks first is believed, and the
    /// parcel has arrived. MUST answer the same ever after, and MUST refuse a shipment that is cancelled or was never made.
    fn confirm_delivery(&self, shipment_key: Uuid)
    -> impl Future<Output = Result<DateTime<Utc>, DeliveryError>> + Send;

    /// MUST create one shipment per key, and answer a repeated request with it, or with the same refusal.
    fn create_shipment(
        &self,
        request: &ShipmentRequest,
    ) -> impl Future<Output = Result<Shipment, ShipmentError>> + Send;
}
