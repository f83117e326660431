//! The built-in providers, each with its books in a table.

mod inventory;
mod notifications;
mod payments;
mod shipping;

use aws_sdk_dynamodb::Client;

use crate::lambda::{MissingVariable, variable};

pub use inventory::DynamoInventory;
pub use notifications::DynamoNotifications;
pub use payments::DynamoPayments;
pub use shipping::DynamoShipping;

/// Those whose books an order is compared with, on the tables that the template names.
pub fn bookkeepers(client: &Client) -> Result<(DynamoPayments, DynamoInventory, DynamoShipping), MissingVariable> {
    Ok((
        DynamoPayments::new(client.clone(), variable("PAYMENTS_TABLE")?),
        DynamoInventory::new(client.clone(), variable("INVENTORY_TABLE")?),
        DynamoShipping::new(client.clone(), variable("SHIPMENTS_TABLE")?),
    ))
}

application::only_providers!(DynamoInventory, DynamoPayments, DynamoShipping, DynamoNotifications);
