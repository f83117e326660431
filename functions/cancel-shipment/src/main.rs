//! Takes an order's parcel back, or bars the shipment. Undoes `create-shipment`.
//!
//! A step of the state machine: what it does is [`application::fulfilment::shipment::cancel_shipment`].

use adapters::{
    aws,
    dynamodb::{DynamoEventStore, DynamoShipping},
    lambda,
};
use application::fulfilment::shipment::cancel_shipment;
use aws_sdk_dynamodb::Client;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init_logs();
    let client = Client::new(&aws::config());
    let store = DynamoEventStore::new(client.clone(), lambda::variable("EVENTS_TABLE")?)
        .with_snapshots(lambda::variable("SNAPSHOTS_TABLE")?);
    let shipping = DynamoShipping::new(client, lambda::variable("SHIPMENTS_TABLE")?).with_sandbox(lambda::sandbox()?);
    lambda::run_step(async |input, now| cancel_shipment(&store, &shipping, &input, now).await).await
}
