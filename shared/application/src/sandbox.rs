//! How the built-in providers behave. Like a payment provider's test mode, the order's own data say what goes wrong, where
//! that is allowed.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    address::ShippingAddress,
    ids::{PaymentMethod, ShipmentId},
    order::Shipment,
    text::Text,
};
use uuid::Uuid;

/// What a provider says that fails because the order asked for it.
pub const ASKED_TO_FAIL: &str = "the sandbox was asked to fail";

/// The code of the refusal to give a parcel back that the carrier keeps.
pub const PARCEL_KEPT: &str = "parcel_kept";

/// Whether the built-in providers do what goes wrong when an order asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sandbox {
    /// No: whatever an order says, they do their work. Who can place an order could else have refunds refused.
    Strict,
    Misbehaving,
}

impl Sandbox {
    fn asks(self, word: &str, trigger: &str) -> bool {
        self == Self::Misbehaving && word == trigger
    }

    /// The code of the decline that this payment method asks for; `None` when the charge goes through.
    pub fn decline_code(self, payment_method: &PaymentMethod) -> Option<&'static str> {
        [("pm_card_declined", "card_declined"), ("pm_card_insufficient_funds", "insufficient_funds")]
            .into_iter()
            .find_map(|(trigger, code)| self.asks(payment_method.as_str(), trigger).then_some(code))
    }

    /// The code of the refusal of every refund that this payment method asks for; `None` when refunds go through.
    pub fn refund_refusal(self, payment_method: &PaymentMethod) -> Option<&'static str> {
        self.asks(payment_method.as_str(), "pm_refund_fails").then_some("refund_not_possible")
    }

    /// How many calls for a charge fail without effect before one is heard.
    pub fn charge_failures(self, payment_method: &PaymentMethod) -> u64 {
        if self.asks(payment_method.as_str(), "pm_fails_twice") { 2 } else { 0 }
    }

    /// Whether the call that makes the charge gets no answer. Later calls under its key do.
    pub fn charge_times_out(self, payment_method: &PaymentMethod) -> bool {
        self.asks(payment_method.as_str(), "pm_charged_then_timeout")
    }

    /// How long a charge takes, where time passes: not in memory.
    pub fn charge_delay(self, payment_method: &PaymentMethod) -> Option<Duration> {
        self.asks(payment_method.as_str(), "pm_slow").then_some(Duration::from_secs(2))
    }

    /// How many calls for a refund under one key fail without effect before one is heard.
    pub fn refund_failures(self, payment_method: &PaymentMethod) -> u64 {
        if self.asks(payment_method.as_str(), "pm_refund_fails_twice") { 2 } else { 0 }
    }

    /// The code of the refusal that this address asks for by its postal code; `None` when the carrier takes the parcel.
    pub fn refusal_code(self, address: &ShippingAddress) -> Option<&'static str> {
        self.asks(postal_code(address), "SANDBOX-REFUSE").then_some("address_unknown")
    }

    /// Whether the call that creates the shipment gets no answer. Later calls under its key do.
    pub fn shipment_times_out(self, address: &ShippingAddress) -> bool {
        self.asks(postal_code(address), "SANDBOX-TIMEOUT")
    }

    /// Whether the carrier keeps the parcel, so that it refuses to give it back.
    pub fn shipment_is_kept(self, address: &ShippingAddress) -> bool {
        self.asks(postal_code(address), "SANDBOX-KEEP")
    }
}

/// Whether whoever lives here can be told anything. If not, every notification fails where that is allowed.
pub fn deliverable(address: &ShippingAddress) -> bool {
    postal_code(address) != "SANDBOX-MUTE"
}

fn postal_code(address: &ShippingAddress) -> &str {
    address.postal_code.as_ref().map_or("", Text::as_str)
}

/// What a client is told of a stock. What comes back on top of a count that staff have just set may pass what one can be told.
pub fn orderable(stock: u64) -> u32 {
    u32::try_from(stock).unwrap_or(u32::MAX)
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
