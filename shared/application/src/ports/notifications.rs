//! Who tells the customer.

use domain::ids::{CustomerId, NotificationId, OrderId};
use uuid::Uuid;

use crate::event_store::Unavailable;

/// Tell the customer, once per key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    pub idempotency_key: Uuid,
    pub order_id: OrderId,
    pub customer_id: CustomerId,
    /// Which message: a template's name such as `order-confirmed`.
    pub template: &'static str,
    /// False when the order asks the sandbox to fail at this ([`deliverable`](crate::sandbox::deliverable)). Worked out by
    /// the step, so that the notification service learns nothing of the address. Not a part of the message.
    pub deliverable: bool,
}

/// The notification service.
pub trait Notifications: Send + Sync {
    /// MUST send one message per key. Where whoever carries messages knows no keys, one MAY be sent twice whose answer or record
    /// is lost, or that is asked for twice at the same moment.
    fn send(&self, notification: &Notification) -> impl Future<Output = Result<NotificationId, Unavailable>> + Send;
}
