//! Gives back what staff have requested: `RefundCompleted` or `RefundFailed` for each refund that is still open.
//!
//! A step of the state machine: what it does is [`application::fulfilment::staff_refunds::issue_refund`].

use adapters::{
    aws,
    dynamodb::{DynamoEventStore, DynamoPayments},
    lambda,
};
use application::fulfilment::staff_refunds::issue_refund;
use aws_sdk_dynamodb::Client;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init_logs();
    let client = Client::new(&aws::config());
    let store = DynamoEventStore::new(client.clone(), lambda::variable("EVENTS_TABLE")?)
        .with_snapshots(lambda::variable("SNAPSHOTS_TABLE")?);
    let payments = DynamoPayments::new(client, lambda::variable("PAYMENTS_TABLE")?).with_sandbox(lambda::sandbox()?);
    lambda::run_step(async |input, now| issue_refund(&store, &payments, &input, now).await).await
}
