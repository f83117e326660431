//! How the built-in providers behave. Like a payment provider's test mode, the order's own data say what goes wrong.

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    address::ShippingAddress,
    ids::{PaymentMethod, ShipmentId},
    order::Shipment,
};
use uuid::Uuid;

/// The code of the decline that this payment method asks for; `None` when the charge goes through.
pub fn decline_code(payment_method: &PaymentMethod) -> Option<&'static str> {
    match payment_method.as_str() {
        "pm_card_declined" => Some("card_declined"),
        "pm_card_insufficient_funds" => Some("insufficient_funds"),
        _ => None,
    }
}

/// Whether this payment method asks for refunds that fail.
pub fn refund_fails(payment_method: &PaymentMethod) -> bool {
    payment_method.as_str() == "pm_refund_fails"
}

/// The code of the refusal that this address asks for by its postal code; `None` when the carrier takes the parcel.
pub fn refusal_code(address: &ShippingAddress) -> Option<&'static str> {
    (address.postal_code.as_str() == "SANDBOX-REFUSE").then_some("address_unknown")
}

/// The shipment that a key stands for.
pub fn shipment(idempotency_key: Uuid, now: DateTime<Utc>) -> Shipment {
    let number = idempotency_key.simple().to_string().to_uppercase();
    Shipment {
        shipment_id: ShipmentId(format!("shp_{}", idempotency_key.simple())),
        carrier: "sandbox".to_owned(),
        tracking_number: format!("SB{}", number.get(..12).unwrap_or(&number)),
        estimated_delivery: now.checked_add_signed(TimeDelta::days(3)).unwrap_or(now),
    }
}
