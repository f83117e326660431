//! The end of an order that is not to be delivered, told to the customer. It ends also when the customer cannot be told.

use chrono::{DateTime, Utc};
use domain::order::{
    Course, Ending,
    close::{CloseRejection, close},
};

use super::{StepError, confirmation::tell, metadata, work_id};
use crate::{
    event_store::EventStore,
    event_stream::OrderStream,
    ports::{FulfilmentInput, Notification, Notifications, Providers},
    sandbox,
};

const STEP: &str = "close-order";

pub async fn close_order(
    store: &impl EventStore,
    notifications: &impl Providers<Provider: Notifications>,
    input: &FulfilmentInput,
    now: DateTime<Utc>,
) -> Result<(), StepError> {
    let mut stream = OrderStream::open(store, input.order_id).await?;
    let (mut sent, mut outcome) = (None, "");
    if let Course::Undoing(placed, _, ending) = &stream.order().course
        && !stream.order().holds_anything()
    {
        outcome = match ending {
            Ending::Rejected(_) => "order-rejected",
            Ending::Cancelled(_) => "order-cancelled",
        };
        let notification = Notification {
            idempotency_key: work_id(input.order_id, STEP),
            order_id: input.order_id,
            customer_id: placed.customer_id.clone(),
            template: outcome,
            deliverable: sandbox::deliverable(&placed.shipping_address),
        };
        sent = tell(notifications.of(&placed.providers.notifications)?, &notification).await;
    }
    stream.commit(&metadata(input, STEP, outcome, now), |order| close(order, sent.as_ref())).await?;
    Ok(())
}

impl From<CloseRejection> for StepError {
    fn from(rejection: CloseRejection) -> Self {
        match rejection {
            CloseRejection::NotUndone(rejection) => rejection.into(),
            CloseRejection::StillHeld => Self::StillHeld,
        }
    }
}
