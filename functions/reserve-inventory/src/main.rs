//! Holds the stock of an order. Its undo is `release-inventory`.
//!
//! A step of the state machine: what it does is [`application::fulfilment::inventory::reserve_inventory`].

use adapters::{
    aws,
    dynamodb::{DynamoEventStore, DynamoInventory},
    lambda,
};
use application::fulfilment::inventory::reserve_inventory;
use aws_sdk_dynamodb::Client;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init_logs();
    let client = Client::new(&aws::config());
    let store = DynamoEventStore::new(client.clone(), lambda::variable("EVENTS_TABLE")?)
        .with_snapshots(lambda::variable("SNAPSHOTS_TABLE")?);
    let inventory = DynamoInventory::new(client, lambda::variable("INVENTORY_TABLE")?);
    lambda::run_step(async |input, now| reserve_inventory(&store, &inventory, &input, now).await).await
}
