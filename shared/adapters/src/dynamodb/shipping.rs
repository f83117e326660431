//! The built-in carrier: a shipment per idempotency key. Neither address nor content of the parcel is kept.

use std::collections::HashMap;

use application::{
    event_store::Unavailable,
    ports::{ShipmentError, ShipmentRequest, Shipping},
    sandbox,
};
use aws_sdk_dynamodb::{Client, operation::update_item::UpdateItemError};
use chrono::Utc;
use domain::{books::ShipmentBook, ids::OrderId, order::Shipment};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Table, text};

pub struct DynamoShipping {
    table: Table,
}

impl DynamoShipping {
    pub fn new(client: Client, table: String) -> Self {
        let table =
            Table { client, name: table, partition_key: "idempotency_key", sort_key: None, what: "the carrier" };
        Self { table }
    }

    async fn take_back(&self, shipment_key: Uuid) -> Result<(), Unavailable> {
        let update = self
            .table
            .client
            .update_item()
            .table_name(&self.table.name)
            .set_key(Some(HashMap::from([("idempotency_key".to_owned(), text(shipment_key.to_string()))])))
            .update_expression("SET #state = :cancelled")
            .condition_expression("#state = :created")
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":created", text("created"))
            .expression_attribute_values(":cancelled", text("cancelled"))
            .send()
            .await;
        match update {
            Ok(_) => Ok(()),
            // A shipment that was created once, and is not any more, has been cancelled.
            Err(error)
                if matches!(error.as_service_error(), Some(UpdateItemError::ConditionalCheckFailedException(_))) =>
            {
                Ok(())
            }
            Err(error) => Err(self.table.unavailable(error)),
        }
    }
}

impl Shipping for DynamoShipping {
    async fn shipment(&self, shipment_key: Uuid) -> Result<ShipmentBook, Unavailable> {
        let key = HashMap::from([("idempotency_key".to_owned(), text(shipment_key.to_string()))]);
        let row: Option<BookRow> = self.table.get(key).await?;
        Ok(match row {
            Some(BookRow { state: BookState::Created, .. }) => ShipmentBook::Created,
            Some(BookRow { state: BookState::Cancelled, shipment_id: Some(_) }) => ShipmentBook::Cancelled,
            Some(_) | None => ShipmentBook::None,
        })
    }

    async fn cancel_shipment(&self, order_id: OrderId, shipment_key: Uuid) -> Result<(), Unavailable> {
        let row = ShipmentRow { idempotency_key: shipment_key, order_id, kept: false, state: State::Cancelled };
        let first = self.table.put_new(&row).await?.unwrap_or(row);
        match first.state {
            State::Created(_) if first.kept => Err(self.table.unavailable(sandbox::ASKED_TO_FAIL)),
            State::Created(_) => self.take_back(shipment_key).await,
            State::Refused { .. } | State::Cancelled => Ok(()),
        }
    }

    async fn create_shipment(&self, request: &ShipmentRequest) -> Result<Shipment, ShipmentError> {
        let state = match sandbox::refusal_code(&request.address) {
            Some(code) => State::Refused { refusal_code: code.to_owned() },
            None => State::Created(sandbox::shipment(request.idempotency_key, Utc::now())),
        };
        let kept = sandbox::shipment_is_kept(&request.address);
        let row = ShipmentRow { idempotency_key: request.idempotency_key, order_id: request.order_id, kept, state };
        let first = match self.table.put_new(&row).await? {
            Some(first) => first,
            None if sandbox::shipment_times_out(&request.address) => {
                return Err(self.table.unavailable(sandbox::ASKED_TO_FAIL).into());
            }
            None => row,
        };
        match first.state {
            State::Created(shipment) => Ok(shipment),
            State::Refused { refusal_code } => Err(ShipmentError::Refused(refusal_code)),
            State::Cancelled => Err(ShipmentError::Cancelled),
        }
    }
}

/// An item of the shipments table.
#[derive(Debug, Serialize, Deserialize)]
struct ShipmentRow {
    idempotency_key: Uuid,
    order_id: OrderId,
    /// The sandbox was asked not to give it back. The address says so, and is not kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    kept: bool,
    #[serde(flatten)]
    state: State,
}

/// What the books ask of an item: only what was a shipment before it was cancelled has an id.
#[derive(Debug, Deserialize)]
struct BookRow {
    state: BookState,
    shipment_id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum BookState {
    Created,
    Refused,
    Cancelled,
}

/// What became of a shipment. Only one that was created changes, and only to cancelled.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum State {
    Created(Shipment),
    Refused {
        refusal_code: String,
    },
    /// Taken back, with what was the shipment still in the item; or barred before it came.
    Cancelled,
}
