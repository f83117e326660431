//! The ports to everything else that is outside. Each says what its implementations MUST do;
//! `conformance` holds the in-memory ones and the adapters to it.
//!
//! [`Unavailable`] always means: it may have happened or not. Calling again with the same key MUST be safe.
//!
//! Any other error is a refusal, and people and events rest on it. It MUST be true of one moment, in which the call had had no
//! effect under its key: what another attempt of the same call brings about meanwhile is never refused.

mod counters;
mod dead_letters;
mod event_bus;
mod fulfilment;
mod identity_provider;
mod index;
mod inventory;
mod limits;
mod notifications;
mod order_views;
mod payments;
mod processes;
mod providers;
mod shipping;
mod snapshots;

pub use counters::{Cache, Counter, Counters, Histogram};
pub use dead_letters::{
    Backlog, Consumer, DeadLetter, DeadLetterQueue, DeadLetters, DeadMessage, Failure, MessageKind, ParkedStream,
    ReceivedMessage, SETTLED_KEPT, SettledAs, Settlement, letter_id, letter_stream,
};
pub use event_bus::{EventBus, NotPublished, PublishError, PublishedEvent};
pub use fulfilment::{Cause, DurableFulfilment, ExecutionState, Fulfilment, FulfilmentInput, FulfilmentTries, Tries};
pub use identity_provider::IdentityProvider;
pub use index::{EventPlace, Index, Position, Posting};
pub use inventory::{
    AdjustError, Adjusted, Catalogue, Inventory, ListProductsError, ProductPage, ReserveError, StockAdjustment,
    StockLine,
};
pub use limits::{Declines, Draw, Drawn, Limits};
pub use notifications::{Notification, Notifications};
pub use order_views::{CustomerOrders, OpenOrders, OrderViews, PlacedOrder, ReadModel, SaveError, Standing, VIEWS_MAX};
pub use payments::{
    CancelChargeError, ChargeCancellation, ChargeError, ChargeRequest, LedgerEntry, Payments, RefundError,
    RefundRequest,
};
pub use processes::{Process, Processes, REPORT_KEPT};
pub use providers::{ProviderError, Providers};
pub use shipping::{DeliveryError, ShipmentError, ShipmentRequest, Shipping, TakeBackError};
pub use snapshots::{SNAPSHOT_BYTES_MAX, Snapshots};
