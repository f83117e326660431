//! Hands an order that is paid to the carrier.
//!
//! A step of the state machine: what it does is [`application::fulfilment::shipment::create_shipment`].

use adapters::{
    app_config, aws, cloud_map,
    dynamodb::{DynamoEventStore, DynamoShipping},
    lambda,
};
use application::fulfilment::shipment::create_shipment;
use aws_sdk_dynamodb::Client;
use providers::{Choice, Port, Registry};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let config = aws::config();
    let client = Client::new(&config);
    let store = DynamoEventStore::new(client.clone(), lambda::variable("EVENTS_TABLE")?)
        .with_snapshots(lambda::variable("SNAPSHOTS_TABLE")?);
    let shipping = Choice::new(
        Port::Shipping,
        DynamoShipping::new(client, lambda::variable("SHIPMENTS_TABLE")?).with_sandbox(lambda::sandbox()?),
        app_config::settings(&config)?,
        Registry::new(cloud_map::of_process(&config)?),
    );
    lambda::run_step(async |input, now| {
        let shipping = shipping.now().await?;
        create_shipment(&store, &*shipping, &input, now).await
    })
    .await
}
