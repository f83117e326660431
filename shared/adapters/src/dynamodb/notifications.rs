//! The built-in notification service: a message per idempotency key, kept as ids and the template's name only.

use application::{
    event_store::Unavailable,
    ports::{Notification, Notifications},
};
use aws_sdk_dynamodb::Client;
use chrono::{DateTime, Utc};
use domain::ids::{CustomerId, NotificationId, OrderId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Table;

pub struct DynamoNotifications {
    table: Table,
}

impl DynamoNotifications {
    pub fn new(client: Client, table: String) -> Self {
        let table = Table {
            client,
            name: table,
            partition_key: "idempotency_key",
            sort_key: None,
            what: "the notification service",
        };
        Self { table }
    }
}

impl Notifications for DynamoNotifications {
    async fn send(&self, notification: &Notification) -> Result<NotificationId, Unavailable> {
        let row = NotificationRow {
            idempotency_key: notification.idempotency_key,
            notification_id: NotificationId(format!("msg_{}", notification.idempotency_key.simple())),
            order_id: notification.order_id,
            customer_id: notification.customer_id.clone(),
            template: notification.template.to_owned(),
            sent_at: Utc::now(),
        };
        let first = self.table.put_new(&row).await?.unwrap_or(row);
        Ok(first.notification_id)
    }
}

/// An item of the notifications table.
#[derive(Debug, Serialize, Deserialize)]
struct NotificationRow {
    idempotency_key: Uuid,
    notification_id: NotificationId,
    order_id: OrderId,
    customer_id: CustomerId,
    template: String,
    sent_at: DateTime<Utc>,
}
