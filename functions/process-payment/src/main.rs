//! Charges the customer for an order.
//!
//! A step of the state machine: what it does is [`application::fulfilment::payment::process_payment`].

use adapters::{
    aws,
    dynamodb::{DynamoEventStore, DynamoPayments},
    lambda,
};
use application::fulfilment::payment::process_payment;
use aws_sdk_dynamodb::Client;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init_logs();
    let client = Client::new(&aws::config());
    let store = DynamoEventStore::new(client.clone(), lambda::variable("EVENTS_TABLE")?)
        .with_snapshots(lambda::variable("SNAPSHOTS_TABLE")?);
    let payments = DynamoPayments::new(client, lambda::variable("PAYMENTS_TABLE")?).with_sandbox(lambda::sandbox()?);
    lambda::run_step(async |input, now| process_payment(&store, &payments, &input, now).await).await
}
