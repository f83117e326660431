//! The built-in providers, each with its books in a table.

mod inventory;
mod notifications;
mod payments;
mod shipping;

pub use inventory::DynamoInventory;
pub use notifications::DynamoNotifications;
pub use payments::DynamoPayments;
pub use shipping::DynamoShipping;

application::only_providers!(DynamoInventory, DynamoPayments, DynamoShipping, DynamoNotifications);
