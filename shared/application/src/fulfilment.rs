//! The steps of an order's fulfilment, each beside its undo. `infra/fulfilment.asl.json` runs them in this order:
//!
//! | step | provider call | fact | undo |
//! |---|---|---|---|
//! | [`validate::validate_order`] | none | none, or `ValidationFailed` | nothing to undo |
//! | [`inventory::reserve_inventory`] | reserve | `InventoryReserved` or `ReservationFailed` | [`inventory::release_inventory`] |
//! | [`payment::process_payment`] | charge | `PaymentCompleted` or `PaymentFailed` | [`payment::refund_payment`] |
//! | [`shipment::create_shipment`] | create shipment | `ShipmentCreated` or `ShipmentFailed` | [`shipment::cancel_shipment`] |
//! | [`confirmation::send_confirmation`] | send | `OrderConfirmed`, sent or not | [`closing::close_order`] tells the customer |
//!
//! The undos run in the opposite order, each also when nothing is recorded to undo; then [`closing::close_order`] ends the
//! order as rejected or cancelled, and says so. What staff want to give back besides goes through
//! [`staff_refunds::issue_refund`]. What does not get done after all its tries ends in [`attention::flag_order`].
//!
//! Each step loads the order, does nothing when its fact is there, calls its provider with a key that depends on order
//! and step only, and appends the fact. So each may run twice or stop at any line, and running it again finishes it.

pub mod attention;
pub mod closing;
pub mod confirmation;
pub mod inventory;
pub mod payment;
pub mod shipment;
pub mod staff_refunds;
pub mod validate;

use chrono::{DateTime, Utc};
use domain::{
    ids::OrderId,
    order::{Course, Ending, Order, OrderCreated, RejectionReason, StepRejection, UndoRejection},
};
use uuid::Uuid;

use crate::{
    event_store::{Metadata, Unavailable},
    event_stream::{CommandError, LoadError},
    ports::{FulfilmentInput, ProviderError, StockLine},
};

/// Why a step did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    #[error("there is no such order")]
    UnknownOrder,
    #[error("an earlier step of the order is not done yet")]
    TooEarly,
    /// A step has refused, this one or an earlier one, or somebody has cancelled: the order has to be undone.
    #[error("the order is not to be fulfilled: {0}")]
    NotToBeFulfilled(Ending),
    /// An undo was asked for, but there is no reason for it.
    #[error("the order stands")]
    OrderStands,
    /// There is nothing to undo any more: the customer has the parcel.
    #[error("the order stands: it is delivered")]
    Delivered,
    #[error("something is still held for the order")]
    StillHeld,
    #[error("the provider refused the request as such")]
    RequestRefused,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    #[error("too many commands change the order at once")]
    Contended,
    #[error("the order's history cannot be read or written")]
    BrokenHistory(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl StepError {
    /// The stable name that the state machine's `Retry` and `Catch` match on.
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::UnknownOrder => "UnknownOrder",
            Self::TooEarly => "TooEarly",
            Self::NotToBeFulfilled(Ending::Rejected(RejectionReason::Expired)) => "OrderInvalid",
            Self::NotToBeFulfilled(Ending::Rejected(RejectionReason::OutOfStock { .. })) => "OutOfStock",
            Self::NotToBeFulfilled(Ending::Rejected(RejectionReason::PaymentDeclined { .. })) => "PaymentDeclined",
            Self::NotToBeFulfilled(Ending::Rejected(RejectionReason::ShipmentRefused { .. })) => "ShipmentRefused",
            Self::NotToBeFulfilled(Ending::Cancelled(_)) => "OrderCancelled",
            Self::OrderStands => "OrderStands",
            Self::Delivered => "OrderDelivered",
            Self::StillHeld => "StillHeld",
            Self::RequestRefused => "RequestRefused",
            Self::Unavailable(error) => match error.source.downcast_ref() {
                Some(ProviderError::Misbehaved { .. }) => "ProviderMisbehaved",
                Some(ProviderError::ShutOff { .. }) => "ProviderUnavailable",
                Some(
                    ProviderError::Failed(_)
                    | ProviderError::Rejected(_)
                    | ProviderError::TimedOut(_)
                    | ProviderError::NoInstance { .. },
                )
                | None => "Unavailable",
            },
            Self::Contended => "Contended",
            Self::BrokenHistory(_) => "BrokenHistory",
        }
    }
}

impl From<LoadError> for StepError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Unavailable(error) => Self::Unavailable(error),
            LoadError::Unreadable(error) => Self::BrokenHistory(error.into()),
        }
    }
}

impl From<StepRejection> for StepError {
    fn from(rejection: StepRejection) -> Self {
        match rejection {
            StepRejection::UnknownOrder => Self::UnknownOrder,
            StepRejection::TooEarly => Self::TooEarly,
            StepRejection::NotToBeFulfilled(ending) => Self::NotToBeFulfilled(ending),
        }
    }
}

impl From<UndoRejection> for StepError {
    fn from(rejection: UndoRejection) -> Self {
        match rejection {
            UndoRejection::UnknownOrder => Self::UnknownOrder,
            UndoRejection::OrderStands => Self::OrderStands,
            UndoRejection::Delivered => Self::Delivered,
        }
    }
}

impl<R: std::error::Error + Into<StepError> + Send + Sync + 'static> From<CommandError<R>> for StepError {
    fn from(error: CommandError<R>) -> Self {
        match error {
            CommandError::Rejected(rejection) => rejection.into(),
            CommandError::Load(error) => error.into(),
            CommandError::Contended => Self::Contended,
            CommandError::CommandReused | CommandError::TooLarge | CommandError::Unwritable(_) => {
                Self::BrokenHistory(error.into())
            }
        }
    }
}

/// The id of a piece of work on an order: the key that a step's provider call carries, or a command id.
fn work_id(order_id: OrderId, step: &str) -> Uuid {
    order_id.work_id(step)
}

const PROCESS_PAYMENT: &str = "process-payment";

/// The key under which the payment provider knows the order's charge.
pub(crate) fn charge_key(order_id: OrderId) -> Uuid {
    work_id(order_id, PROCESS_PAYMENT)
}

/// Of the commit that records what a step has come to.
///
/// Each outcome is a command of its own. Two attempts of one step may come to different ends, and of two commands under one
/// id the second counts as done: what it has to say would be lost.
fn metadata(input: &FulfilmentInput, step: &str, outcome: &str, now: DateTime<Utc>) -> Metadata {
    let command = format!("{step} {outcome}");
    Metadata {
        command_id: work_id(input.order_id, &command),
        fingerprint: command,
        actor: format!("service:{step}"),
        correlation_id: input.correlation_id.clone(),
        causation_id: input.causation_id.clone(),
        traceparent: input.traceparent.clone(),
        occurred_at: now,
    }
}

/// What a forward step that has nothing left to do tells the state machine.
fn outcome(order: &Order) -> Result<(), StepError> {
    match &order.course {
        Course::NotCreated => Err(StepError::UnknownOrder),
        Course::Created(_)
        | Course::Reserved(..)
        | Course::Paid(..)
        | Course::Shipped(..)
        | Course::Confirmed(..)
        | Course::Delivered(..) => Ok(()),
        Course::Undoing(_, _, ending) | Course::Ended(_, ending) => Err(StepError::NotToBeFulfilled(ending.clone())),
    }
}

fn stock_lines(order: &OrderCreated) -> Vec<StockLine> {
    order.items.iter().map(|item| StockLine { product_id: item.product_id.clone(), quantity: item.quantity }).collect()
}
