//! The built-in carrier: a shipment per idempotency key. Neither address nor content of the parcel is kept.

use std::collections::HashMap;

use application::{
    event_store::Unavailable,
    ports::{DeliveryError, ShipmentError, ShipmentRequest, Shipping, TakeBackError},
    sandbox::{self, Sandbox},
};
use aws_sdk_dynamodb::{
    Client,
    operation::update_item::{UpdateItemError, builders::UpdateItemFluentBuilder},
    types::{ReturnValue, ReturnValuesOnConditionCheckFailure},
};
use chrono::{DateTime, Utc};
use domain::{books::ShipmentBook, ids::OrderId, order::Shipment};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::dynamodb::{Item, Table, text};
#[derive(Clone)]
pub struct DynamoShipping {
    table: Table,
    sandbox: Sandbox,
}

impl DynamoShipping {
    pub fn new(client: Client, table: String) -> Self {
        let table =
            Table { client, name: table, partition_key: "idempotency_key", sort_key: None, what: "the carrier" };
        Self { table, sandbox: Sandbox::Strict }
    }

    /// Strict without this.
    #[must_use]
    pub fn with_sandbox(self, sandbox: Sandbox) -> Self {
        Self { sandbox, ..self }
    }

    fn key(shipment_key: Uuid) -> Item {
        HashMap::from([("idempotency_key".to_owned(), text(shipment_key.to_string()))])
    }

    /// Of what was created, and of nothing else: that is for the caller's condition to say.
    fn change(&self, shipment_key: Uuid) -> UpdateItemFluentBuilder {
        self.table
            .client
            .update_item()
            .table_name(&self.table.name)
            .set_key(Some(Self::key(shipment_key)))
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":created", text("created"))
    }

    async fn take_back(&self, shipment_key: Uuid) -> Result<(), TakeBackError> {
        let update = self
            .change(shipment_key)
            .update_expression("SET #state = :cancelled")
            .condition_expression("#state = :created")
            .expression_attribute_values(":cancelled", text("cancelled"))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        let Err(error) = update else { return Ok(()) };
        let Some(UpdateItemError::ConditionalCheckFailedException(refusal)) = error.as_service_error() else {
            return Err(self.table.unavailable(error).into());
        };
        match refusal.item.clone().map(|item| self.table.row::<ShipmentRow>(item)).transpose()?.map(|row| row.state) {
            Some(State::Delivered { delivered_at, .. }) => Err(TakeBackError::Delivered(delivered_at)),
            Some(State::Cancelled) => Ok(()),
            Some(State::Created(_) | State::Refused { .. }) | None => Err(self.table.unavailable(error).into()),
        }
    }
}

impl Shipping for DynamoShipping {
    async fn shipment(&self, shipment_key: Uuid) -> Result<ShipmentBook, Unavailable> {
        let row: Option<BookRow> = self.table.get(Self::key(shipment_key)).await?;
        Ok(match row {
            Some(BookRow { state: BookState::Created, .. }) => ShipmentBook::Created,
            Some(BookRow { state: BookState::Delivered, .. }) => ShipmentBook::Delivered,
            Some(BookRow { state: BookState::Cancelled, shipment_id: Some(_) }) => ShipmentBook::Cancelled,
            Some(_) | None => ShipmentBook::None,
        })
    }

    async fn cancel_shipment(&self, order_id: OrderId, shipment_key: Uuid) -> Result<(), TakeBackError> {
        let row = ShipmentRow { idempotency_key: shipment_key, order_id, kept: false, state: State::Cancelled };
        let first = self.table.put_new(&row).await?.unwrap_or(row);
        match first.state {
            State::Created(_) if first.kept && self.sandbox == Sandbox::Misbehaving => {
                Err(TakeBackError::Refused(sandbox::PARCEL_KEPT.to_owned()))
            }
            State::Created(_) => self.take_back(shipment_key).await,
            State::Delivered { delivered_at, .. } => Err(TakeBackError::Delivered(delivered_at)),
            State::Refused { .. } | State::Cancelled => Ok(()),
        }
    }

    async fn confirm_delivery(&self, shipment_key: Uuid) -> Result<DateTime<Utc>, DeliveryError> {
        let update = self
            .change(shipment_key)
            .update_expression("SET #state = :delivered, delivered_at = if_not_exists(delivered_at, :now)")
            .condition_expression("#state IN (:created, :delivered)")
            .expression_attribute_values(":delivered", text("delivered"))
            .expression_attribute_values(":now", self.table.value(&Utc::now())?)
            .return_values(ReturnValue::UpdatedNew)
            .send()
            .await;
        match update {
            Ok(updated) => {
                let Arrival { delivered_at } = self.table.row(updated.attributes.unwrap_or_default())?;
                Ok(delivered_at)
            }
            Err(error)
                if matches!(error.as_service_error(), Some(UpdateItemError::ConditionalCheckFailedException(_))) =>
            {
                Err(DeliveryError::NotUnderWay)
            }
            Err(error) => Err(self.table.unavailable(error).into()),
        }
    }

    async fn create_shipment(&self, request: &ShipmentRequest) -> Result<Shipment, ShipmentError> {
        let state = match self.sandbox.refusal_code(&request.address) {
            Some(code) => State::Refused { refusal_code: code.to_owned() },
            None => State::Created(sandbox::shipment(request.idempotency_key, Utc::now())),
        };
        let kept = self.sandbox.shipment_is_kept(&request.address);
        let row = ShipmentRow { idempotency_key: request.idempotency_key, order_id: request.order_id, kept, state };
        let first = match self.table.put_new(&row).await? {
            Some(first) => first,
            None if self.sandbox.shipment_times_out(&request.address) => {
                return Err(self.table.unavailable(sandbox::ASKED_TO_FAIL).into());
            }
            None => row,
        };
        match first.state {
            State::Created(shipment) | State::Delivered { shipment, .. } => Ok(shipment),
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
    Delivered,
}

/// When a parcel arrived.
#[derive(Debug, Deserialize)]
struct Arrival {
    delivered_at: DateTime<Utc>,
}

/// What became of a shipment. Only one that was created changes, once: to cancelled or to delivered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum State {
    Created(Shipment),
    Delivered {
        #[serde(flatten)]
        shipment: Shipment,
        delivered_at: DateTime<Utc>,
    },
    Refused {
        refusal_code: String,
    },
    /// Taken back, with what was the shipment still in the item; or barred before it came.
    Cancelled,
}
