//! Where nobody may ask the built-in providers to misbehave, the words that would ask for it are words like any other.

use std::time::{Duration, Instant};

use adapters::dynamodb::{DynamoNotifications, DynamoPayments, DynamoShipping};
use application::ports::{
    ChargeRequest, Notification, Notifications, Payments, RefundRequest, ShipmentRequest, Shipping,
};
use domain::{
    ids::{CustomerId, OrderId, PaymentMethod},
    money::{Currency, Money},
};
use serde_json::json;
use uuid::Uuid;

use crate::support::{NOTIFICATIONS, PAYMENTS, SHIPMENTS, notifications_of, shipping_of, watched};

/// Every word with this beginning that the sandbox listens to.
fn triggers(beginning: &str) -> Vec<&'static str> {
    let words = include_str!("../../../application/src/sandbox.rs").split('"').skip(1).step_by(2);
    let triggers: Vec<&str> = words.filter(|word| word.starts_with(beginning)).collect();
    assert!(triggers.len() > 3, "{triggers:?}");
    triggers
}

#[tokio::test]
async fn no_payment_method_asks_a_strict_provider_for_anything() {
    let payments = DynamoPayments::new(watched().0, PAYMENTS.to_owned());
    for name in triggers("pm_") {
        let amount = Money::new(100, Currency::parse("CNY").unwrap()).unwrap();
        let charge = ChargeRequest {
            idempotency_key: Uuid::new_v4(),
            order_id: OrderId::new(Uuid::new_v4()),
            customer_id: CustomerId::parse("anna").unwrap(),
            payment_method: PaymentMethod::parse(name).unwrap(),
            amount,
        };
        let (order_id, charge_key) = (charge.order_id, charge.idempotency_key);
        let started = Instant::now();
        payments.charge(&charge).await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(2));
        payments
            .refund(&RefundRequest { idempotency_key: Uuid::new_v4(), order_id, charge_key, amount })
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn no_postal_code_asks_a_strict_carrier_for_anything() {
    let (client, _) = watched();
    let strict = DynamoShipping::new(client.clone(), SHIPMENTS.to_owned());
    let misbehaving = shipping_of(client);
    let request = |postal_code: &str| {
        let address = json!({"street": "s", "city": "c", "state": "s", "country": "CN", "postal_code": postal_code});
        ShipmentRequest {
            idempotency_key: Uuid::new_v4(),
            order_id: OrderId::new(Uuid::new_v4()),
            address: serde_json::from_value(address).unwrap(),
            lines: Vec::new(),
        }
    };
    for postal_code in triggers("SANDBOX-") {
        let request = request(postal_code);
        strict.create_shipment(&request).await.unwrap();
        strict.cancel_shipment(request.order_id, request.idempotency_key).await.unwrap();
    }
    // Nor does a parcel that was to be kept when that could still be asked for.
    let kept = request("SANDBOX-KEEP");
    misbehaving.create_shipment(&kept).await.unwrap();
    misbehaving.cancel_shipment(kept.order_id, kept.idempotency_key).await.unwrap_err();
    strict.cancel_shipment(kept.order_id, kept.idempotency_key).await.unwrap();
}

#[tokio::test]
async fn nobody_asks_a_strict_notification_service_to_be_left_untold() {
    let notifications = DynamoNotifications::new(watched().0, NOTIFICATIONS.to_owned());
    let notification = Notification {
        idempotency_key: Uuid::new_v4(),
        order_id: OrderId::new(Uuid::new_v4()),
        customer_id: CustomerId::parse("anna").unwrap(),
        template: "order-confirmed",
        deliverable: false,
    };
    notifications.send(&notification).await.unwrap();
}

#[tokio::test]
async fn a_message_that_the_order_asks_to_fail_is_not_sent() {
    let notifications = notifications_of(watched().0);
    let mute = Notification {
        idempotency_key: Uuid::new_v4(),
        order_id: OrderId::new(Uuid::new_v4()),
        customer_id: CustomerId::parse("anna").unwrap(),
        template: "order-confirmed",
        deliverable: false,
    };
    for _ in 0..2 {
        notifications.send(&mute).await.unwrap_err();
    }
    // Nothing was sent under the key, so it is as if it had never been asked.
    notifications.send(&Notification { deliverable: true, ..mute }).await.unwrap();
}
