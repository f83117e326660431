//! The built-in carrier: a shipment per idempotency key. Neither address nor content of the parcel is kept.

use application::{
    event_store::Unavailable,
    ports::{ShipmentRequest, Shipping},
    sandbox,
};
use aws_sdk_dynamodb::Client;
use chrono::{DateTime, Utc};
use domain::{
    ids::{OrderId, ShipmentId},
    order::Shipment,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Table;

pub struct DynamoShipping {
    table: Table,
}

impl DynamoShipping {
    pub fn new(client: Client, table: String) -> Self {
        let table =
            Table { client, name: table, partition_key: "idempotency_key", sort_key: None, what: "the carrier" };
        Self { table }
    }
}

impl Shipping for DynamoShipping {
    async fn create_shipment(&self, request: &ShipmentRequest) -> Result<Shipment, Unavailable> {
        let shipment = sandbox::shipment(request.idempotency_key, Utc::now());
        let row = ShipmentRow {
            idempotency_key: request.idempotency_key,
            order_id: request.order_id,
            shipment_id: shipment.shipment_id,
            carrier: shipment.carrier,
            tracking_number: shipment.tracking_number,
            estimated_delivery: shipment.estimated_delivery,
        };
        let first = self.table.put_new(&row).await?.unwrap_or(row);
        Ok(Shipment {
            shipment_id: first.shipment_id,
            carrier: first.carrier,
            tracking_number: first.tracking_number,
            estimated_delivery: first.estimated_delivery,
        })
    }
}

/// An item of the shipments table.
#[derive(Debug, Serialize, Deserialize)]
struct ShipmentRow {
    idempotency_key: Uuid,
    order_id: OrderId,
    shipment_id: ShipmentId,
    carrier: String,
    tracking_number: String,
    estimated_delivery: DateTime<Utc>,
}
