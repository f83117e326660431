//! What every [`Notifications`] must do.

use domain::ids::CustomerId;
use uuid::Uuid;

use super::{at_once, order_id};
use crate::ports::{Notification, Notifications};

/// One test per law; `make` is a future of the notification service. Or the laws as data, each with the capability that it needs.
#[macro_export]
macro_rules! notifications_conformance {
    ($make:expr) => {
        $crate::notifications_conformance! { conformance_tests, $make }
    };
    ($each:ident, $of:tt) => {
        $crate::$each! { notifications, $of,
            a_repeated_notification_gets_the_first_id
            a_notification_that_comes_twenty_times_at_once_is_sent_once
            two_keys_send_two_messages
        }
    };
}

fn notification() -> Notification {
    Notification {
        idempotency_key: Uuid::new_v4(),
        order_id: order_id(),
        customer_id: CustomerId::parse("auth0|anna").unwrap(),
        template: "order-confirmed",
        deliverable: true,
    }
}

pub async fn a_repeated_notification_gets_the_first_id(notifications: &impl Notifications) {
    let notification = notification();
    let first = notifications.send(&notification).await.unwrap();
    for _ in 0..3 {
        assert_eq!(notifications.send(&notification).await.unwrap(), first);
    }
}

pub async fn a_notification_that_comes_twenty_times_at_once_is_sent_once(notifications: &impl Notifications) {
    let notification = notification();
    let answers = at_once((0..20).map(|_| notifications.send(&notification))).await;
    let first = notifications.send(&notification).await.unwrap();
    for answer in answers {
        assert_eq!(answer.unwrap(), first);
    }
}

pub async fn two_keys_send_two_messages(notifications: &impl Notifications) {
    let notification = notification();
    let other = Notification { idempotency_key: Uuid::new_v4(), ..notification.clone() };
    let first = notifications.send(&notification).await.unwrap();
    assert_ne!(notifications.send(&other).await.unwrap(), first);
}
