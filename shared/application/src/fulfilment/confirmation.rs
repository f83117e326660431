//! Tell the customer, and close the order. What is paid and under way is confirmed also when the customer cannot be told:
//! the event then has no notification id.

use chrono::{DateTime, Utc};
use domain::{
    ids::NotificationId,
    order::{Course, confirm::confirm},
};

use super::{StepError, metadata, outcome, work_id};
use crate::{
    event_store::EventStore,
    event_stream::OrderStream,
    ports::{FulfilmentInput, Notification, Notifications, ProviderError, Providers},
    sandbox,
};

const STEP: &str = "send-confirmation";

/// How often the message is tried, all under one key. The built-in service is asked again within each try, another one is not.
/// The function's timeout must leave room for all of them.
const TRIES: u32 = 2;

pub async fn send_confirmation(
    store: &impl EventStore,
    notifications: &impl Providers<Provider: Notifications>,
    input: &FulfilmentInput,
    now: DateTime<Utc>,
) -> Result<(), StepError> {
    let mut stream = OrderStream::open(store, input.order_id).await?;
    match &stream.order().course {
        Course::Created(_) | Course::Reserved(..) | Course::Paid(..) => return Err(StepError::TooEarly),
        Course::Shipped(placed, ..) => {
            let notification = Notification {
                idempotency_key: work_id(input.order_id, STEP),
                order_id: input.order_id,
                customer_id: placed.customer_id.clone(),
                template: "order-confirmed",
                deliverable: sandbox::deliverable(&placed.shipping_address),
            };
            let sent = tell(notifications.of(&placed.providers.notifications)?, &notification).await;
            stream.commit(&metadata(input, STEP, "confirmed", now), |order| confirm(order, sent.as_ref())).await?;
        }
        _ => {}
    }
    outcome(stream.order())
}

/// `None` when it was not sent, or nobody knows.
pub(super) async fn tell(notifications: &impl Notifications, notification: &Notification) -> Option<NotificationId> {
    for _ in 0..TRIES {
        match notifications.send(notification).await {
            Ok(sent) => return Some(sent),
            // It would be refused again.
            Err(error) if matches!(error.source.downcast_ref(), Some(ProviderError::Rejected(_))) => return None,
            Err(_) => {}
        }
    }
    None
}
