//! Gives back what staff have requested: `RefundCompleted` or `RefundFailed` for each refund that is still open.
//!
//! A step of the state machine: what it does is [`application::fulfilment::staff_refunds::issue_refund`].

use adapters::{
    app_config, aws, cloud_map,
    dynamodb::{DynamoEventStore, DynamoPayments},
    lambda,
};
use application::fulfilment::staff_refunds::issue_refund;
use aws_sdk_dynamodb::Client;
use providers::{Choice, Port, Registry};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let config = aws::config();
    let client = Client::new(&config);
    let store = DynamoEventStore::new(client.clone(), lambda::variable("EVENTS_TABLE")?)
        .with_snapshots(lambda::variable("SNAPSHOTS_TABLE")?);
    let payments = Choice::new(
        Port::Payments,
        DynamoPayments::new(client, lambda::variable("PAYMENTS_TABLE")?).with_sandbox(lambda::sandbox()?),
        app_config::settings(&config)?,
        Registry::new(cloud_map::of_process(&config)?),
    );
    lambda::run_step(async |input, now| {
        let payments = payments.now().await?;
        issue_refund(&store, &*payments, &input, now).await
    })
    .await
}
