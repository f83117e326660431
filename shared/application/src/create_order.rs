//! Placing an order: one catalogue read, one write.

use domain::{
    ids::OrderId,
    order::create::{CreateOrder, CreateRejection, create},
};
use uuid::Uuid;

use crate::event_store::{AppendError, Appended, Commit, EventStore, Metadata, RecordedEvent, StreamId, Unavailable};

/// Why no order was placed.
#[derive(Debug, thiserror::Error)]
pub enum CreateOrderError {
    #[error(transparent)]
    Rejected(CreateRejection),
    #[error("the idempotency key was used before, for another order")]
    KeyReused,
    #[error("the order is larger than the event table can hold")]
    TooLarge,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    #[error("the event cannot be written as JSON")]
    Unwritable(#[from] serde_json::Error),
}

/// The order is placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderPlaced {
    pub order_id: OrderId,
    pub version: u64,
    /// An earlier attempt at the same command had placed it.
    pub replayed: bool,
}

/// The command id of an order's creation: a second create under the same order id is the same command or a mistake.
pub fn command_id(order_id: OrderId) -> Uuid {
    order_id.work_id("create-order")
}

/// Places the order. No stream is read first: a repeated create meets its own first commit in the append.
///
/// Only when the order cannot be placed now is the stream read, because an earlier attempt may have placed it while the
/// stock still sufficed.
pub async fn create_order(
    store: &impl EventStore,
    order_id: OrderId,
    metadata: &Metadata,
    command: &CreateOrder,
) -> Result<OrderPlaced, CreateOrderError> {
    let stream = StreamId::order(order_id);
    let event = match create(command) {
        Ok(event) => event,
        Err(rejection) => {
            return match store.read_first(&stream, 1).await?.commits.first() {
                Some(earlier) => replay(order_id, earlier, metadata),
                None => Err(CreateOrderError::Rejected(rejection)),
            };
        }
    };
    let commit =
        Commit { stream, version: 1, events: vec![RecordedEvent::record(&event)?], metadata: metadata.clone() };
    match store.append(&commit).await {
        Ok(Appended::Now) => Ok(OrderPlaced { order_id, version: commit.version, replayed: false }),
        Ok(Appended::Before(earlier)) => replay(order_id, &earlier, metadata),
        Err(AppendError::Conflict | AppendError::CommandReused) => Err(CreateOrderError::KeyReused),
        Err(AppendError::TooLarge) => Err(CreateOrderError::TooLarge),
        Err(AppendError::Unavailable(error)) => Err(error.into()),
    }
}

fn replay(order_id: OrderId, earlier: &Commit, metadata: &Metadata) -> Result<OrderPlaced, CreateOrderError> {
    let same =
        (earlier.metadata.command_id, &earlier.metadata.fingerprint) == (metadata.command_id, &metadata.fingerprint);
    if same {
        Ok(OrderPlaced { order_id, version: earlier.last_version(), replayed: true })
    } else {
        Err(CreateOrderError::KeyReused)
    }
}
