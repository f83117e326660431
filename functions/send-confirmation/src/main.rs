//! Tells the customer, and closes the order.
//!
//! A step of the state machine: what it does is [`application::fulfilment::confirmation::send_confirmation`].

use adapters::{
    aws,
    dynamodb::{DynamoEventStore, DynamoNotifications},
    lambda,
};
use application::fulfilment::confirmation::send_confirmation;
use aws_sdk_dynamodb::Client;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init_logs();
    let client = Client::new(&aws::config());
    let store = DynamoEventStore::new(client.clone(), lambda::variable("EVENTS_TABLE")?)
        .with_snapshots(lambda::variable("SNAPSHOTS_TABLE")?);
    let notifications =
        DynamoNotifications::new(client, lambda::variable("NOTIFICATIONS_TABLE")?).with_sandbox(lambda::sandbox()?);
    lambda::run_step(async |input, now| send_confirmation(&store, &notifications, &input, now).await).await
}
