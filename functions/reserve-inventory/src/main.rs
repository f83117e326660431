//! Holds the stock of an order. Its undo is `release-inventory`.
//!
//! A step of the state machine: what it does is [`application::fulfilment::inventory::reserve_inventory`].

use adapters::{
    app_config, aws, cloud_map,
    dynamodb::{DynamoEventStore, DynamoInventory},
    lambda,
};
use application::fulfilment::inventory::reserve_inventory;
use aws_sdk_dynamodb::Client;
use providers::{Choice, Port, Registry};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let config = aws::config();
    let client = Client::new(&config);
    let store = DynamoEventStore::new(client.clone(), lambda::variable("EVENTS_TABLE")?)
        .with_snapshots(lambda::variable("SNAPSHOTS_TABLE")?);
    let inventory = Choice::new(
        Port::Inventory,
        DynamoInventory::new(client, lambda::variable("INVENTORY_TABLE")?),
        app_config::settings(&config)?,
        Registry::new(cloud_map::of_process(&config)?),
    );
    lambda::run_step(async |input, now| {
        let inventory = inventory.now().await?;
        reserve_inventory(&store, &*inventory, &input, now).await
    })
    .await
}
