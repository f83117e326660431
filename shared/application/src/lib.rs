//! What the service does with an order: load, decide, append; call a provider in between; fold events into views.
//!
//! Everything outside is a port, a narrow trait that says what its implementations MUST do.

pub mod compare_books;
pub mod create_order;
pub mod dead_letters;
pub mod event_store;
pub mod event_stream;
pub mod figures;
pub mod fulfilment;
pub mod ledger;
pub mod limits;
pub mod list_events;
pub mod list_orders;
pub mod mail;
pub mod order_history;
pub mod page;
pub mod past_commits;
pub mod ports;
pub mod project_orders;
pub mod publish_events;
pub mod rebuild_orders;
pub mod reconcile;
pub mod record_delivery;
pub mod republish_events;
pub mod resume_orders;
pub mod sandbox;
pub mod search_orders;
pub mod shown_orders;
pub mod skip_step;
pub mod stats;
pub mod take_snapshot;
pub mod timeline;

#[cfg(feature = "testing")]
pub mod conformance;
#[cfg(feature = "testing")]
pub mod histories;
#[cfg(feature = "testing")]
pub mod memory;
#[cfg(feature = "testing")]
pub mod shop;
