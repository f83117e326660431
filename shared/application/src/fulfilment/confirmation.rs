//! Tell the customer, and close the order.

use chrono::{DateTime, Utc};
use domain::order::{Course, confirm::confirm};

use super::{StepError, metadata, outcome, work_id};
use crate::{
    event_store::EventStore,
    order_stream::OrderStream,
    ports::{FulfilmentInput, Notification, Notifications},
};

const STEP: &str = "send-confirmation";

pub async fn send_confirmation(
    store: &impl EventStore,
    notifications: &impl Notifications,
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
            };
            let sent = notifications.send(&notification).await?;
            stream.commit(&metadata(input, STEP, now), |order| confirm(order, Some(&sent))).await?;
        }
        _ => {}
    }
    outcome(stream.order())
}
