//! Charges the customer for an order.
//!
//! A step of the state machine: what it does is [`application::fulfilment::payment::process_payment`].

use adapters::{
    app_config, aws, cloud_map,
    dynamodb::{DynamoEventStore, DynamoPayments},
    lambda,
    limits::Limiter,
};
use application::fulfilment::payment::process_payment;
use aws_sdk_dynamodb::Client;
use providers::{Choice, Port, Registry};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let config = aws::config();
    let client = Client::new(&config);
    let settings = app_config::settings(&config)?;
    let limiter = Limiter::of_process(&client, settings.clone(), "process-payment").await?;
    let store = DynamoEventStore::new(client.clone(), lambda::variable("EVENTS_TABLE")?)
        .with_snapshots(lambda::variable("SNAPSHOTS_TABLE")?);
    let payments = Choice::new(
        Port::Payments,
        DynamoPayments::new(client, lambda::variable("PAYMENTS_TABLE")?).with_sandbox(lambda::sandbox()?),
        settings,
        Registry::new(cloud_map::of_process(&config)?),
    );
    lambda::run_step(async |input, now| {
        // Boxed, as in `lambda::run_step`.
        let step = Box::pin(async {
            let payments = payments.now().await?;
            process_payment(&store, &*payments, &limiter, &input, now).await
        });
        limiter.beside(step).await
    })
    .await
}
