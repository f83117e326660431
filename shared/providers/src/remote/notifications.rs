use application::{
    event_store::Unavailable,
    ports::{Notification, Notifications},
};
use domain::ids::NotificationId;
use tracing::warn;

use super::Remote;
use crate::{
    checks::id,
    contract::wire::{SendRequest, SendResponse},
};

impl Notifications for Remote {
    async fn send(&self, notification: &Notification) -> Result<NotificationId, Unavailable> {
        let asked = SendRequest {
            idempotency_key: notification.idempotency_key.to_string(),
            order_id: notification.order_id.to_string(),
            customer_id: notification.customer_id.to_string(),
            template: notification.template.to_owned(),
        };
        let sent =
            self.call(asked, |answer: SendResponse| Ok(NotificationId(id("message_id", answer.message_id)?))).await;
        // Said here: the step goes on without.
        sent.inspect_err(
            |error| warn!(order_id = %notification.order_id, error = %error.source, "notification not sent"),
        )
    }
}
