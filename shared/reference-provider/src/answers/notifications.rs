use application::ports::{Notification, Notifications};
use domain::ids::CustomerId;
use providers::contract::wire::{SendRequest, SendResponse};

use super::{Answers, Failure, key, order_id};
use crate::Reference;

/// The messages that this provider has a text for.
const TEMPLATES: [&str; 3] = ["order-confirmed", "order-cancelled", "order-rejected"];

impl Answers<SendRequest> for Reference {
    async fn answer(&self, asked: SendRequest) -> Result<SendResponse, Failure> {
        let template = TEMPLATES.into_iter().find(|template| *template == asked.template);
        let notification = Notification {
            idempotency_key: key("idempotency_key", &asked.idempotency_key)?,
            order_id: order_id(&asked.order_id)?,
            customer_id: CustomerId::parse(&asked.customer_id).map_err(|_| Failure::Invalid("customer_id"))?,
            template: template.ok_or(Failure::Invalid("template"))?,
            deliverable: true,
        };
        Ok(SendResponse { message_id: self.notifications.send(&notification).await?.0 })
    }
}
