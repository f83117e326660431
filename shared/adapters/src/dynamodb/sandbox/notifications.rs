//! The built-in notification service: a message per idempotency key, kept as ids and the template's name only.

use std::collections::HashMap;

use application::{
    event_store::Unavailable,
    ports::{Notification, Notifications},
    sandbox::{self, Sandbox},
};
use aws_sdk_dynamodb::Client;
use chrono::{DateTime, Utc};
use domain::ids::{CustomerId, NotificationId, OrderId};
use serde::{Deserialize, Serialize};
use tracing::warn;
use uuid::Uuid;

use crate::dynamodb::Table;
use crate::lambda::chain;
#[derive(Clone)]
pub struct DynamoNotifications {
    table: Table,
    sandbox: Sandbox,
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
        Self { table, sandbox: Sandbox::Strict }
    }

    /// Strict without this.
    #[must_use]
    pub fn with_sandbox(self, sandbox: Sandbox) -> Self {
        Self { sandbox, ..self }
    }

    /// The id of the message that is recorded as sent under this key.
    pub(crate) async fn sent(&self, idempotency_key: Uuid) -> Result<Option<NotificationId>, Unavailable> {
        let key = HashMap::from([("idempotency_key".to_owned(), self.table.value(&idempotency_key)?)]);
        let row: Option<NotificationRow> = self.table.get(key).await?;
        Ok(row.map(|row| row.notification_id))
    }

    /// Records a message as sent, unless one is under its key; answers the id of the one that is.
    pub(crate) async fn record(
        &self,
        notification: &Notification,
        notification_id: NotificationId,
    ) -> Result<NotificationId, Unavailable> {
        let row = NotificationRow {
            idempotency_key: notification.idempotency_key,
            notification_id,
            order_id: notification.order_id,
            customer_id: notification.customer_id.clone(),
            template: notification.template.to_owned(),
            sent_at: Utc::now(),
        };
        Ok(self.table.put_new(&row).await?.unwrap_or(row).notification_id)
    }

    /// Says in the log what the step goes on without.
    fn not_sent(notification: &Notification, error: Unavailable) -> Unavailable {
        warn!(order_id = %notification.order_id, error = chain(&error), "notification not sent");
        error
    }
}

impl Notifications for DynamoNotifications {
    async fn send(&self, notification: &Notification) -> Result<NotificationId, Unavailable> {
        if !notification.deliverable && self.sandbox == Sandbox::Misbehaving {
            return Err(Self::not_sent(notification, self.table.unavailable(sandbox::ASKED_TO_FAIL)));
        }
        let id = NotificationId(format!("msg_{}", notification.idempotency_key.simple()));
        self.record(notification, id).await.map_err(|error| Self::not_sent(notification, error))
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
