//! Checks that an order may be fulfilled; refuses one that came too late.
//!
//! A step of the state machine: what it does is [`application::fulfilment::validate::validate_order`].

use adapters::{aws, dynamodb::DynamoEventStore, lambda};
use application::fulfilment::validate::validate_order;
use aws_sdk_dynamodb::Client;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let client = Client::new(&aws::config());
    let store = DynamoEventStore::new(client, lambda::variable("EVENTS_TABLE")?)
        .with_snapshots(lambda::variable("SNAPSHOTS_TABLE")?);
    lambda::run_step(async |input, now| validate_order(&store, &input, now).await).await
}
