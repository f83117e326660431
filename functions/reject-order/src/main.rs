//! Ends an order that failed, once nothing is held for it any more.
//!
//! A step of the state machine: what it does is [`application::fulfilment::rejection::reject_order`].

use adapters::{aws, dynamodb::DynamoEventStore, lambda};
use application::fulfilment::rejection::reject_order;
use aws_sdk_dynamodb::Client;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init_logs();
    let client = Client::new(&aws::config().await);
    let store = DynamoEventStore::new(client, lambda::variable("EVENTS_TABLE")?);
    lambda::run_step(async |input, now| reject_order(&store, &input, now).await).await
}
