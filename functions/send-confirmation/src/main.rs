//! Tells the customer, and closes the order.
//!
//! A step of the state machine: what it does is [`application::fulfilment::confirmation::send_confirmation`].

use adapters::{
    app_config, aws, cloud_map,
    dynamodb::{DynamoEventStore, DynamoNotifications},
    lambda,
    ses::{BuiltInNotifications, SesNotifications},
};
use application::fulfilment::confirmation::send_confirmation;
use aws_sdk_dynamodb::Client;
use domain::provider::Provider;
use providers::{Choice, Port, Registry};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let config = aws::config();
    let client = Client::new(&config);
    let store = DynamoEventStore::new(client.clone(), lambda::variable("EVENTS_TABLE")?)
        .with_snapshots(lambda::variable("SNAPSHOTS_TABLE")?);
    let (settings, registry) = (app_config::settings(&config)?, Registry::new(cloud_map::of_process(&config)?));
    let sandbox =
        DynamoNotifications::new(client, lambda::variable("NOTIFICATIONS_TABLE")?).with_sandbox(lambda::sandbox()?);
    let ses = SesNotifications::new(&config, store.clone(), sandbox.clone(), settings.clone());
    let notifications = Choice::new(Port::Notifications, BuiltInNotifications::Sandbox(sandbox), settings, registry)
        .with(Provider::Ses, BuiltInNotifications::Ses(ses));
    lambda::run_step(async |input, now| {
        let notifications = notifications.now().await?;
        send_confirmation(&store, &*notifications, &input, now).await
    })
    .await
}
