//! Every kind of id, each a type of its own, in one list. To clients they are opaque strings.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::text::Invalid;

/// Names an order, and with it the order's event stream, its execution and the keys that its provider calls carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OrderId(Uuid);

impl OrderId {
    /// Separates these version 5 UUIDs (RFC 9562, section 5.5) from everybody else's.
    const NAMESPACE: Uuid = Uuid::from_u128(0x5f0c_2f2e_63d3_4f4e_9b0a_7d1f_6f27_51ce);

    pub fn new(id: Uuid) -> Self {
        Self(id)
    }

    /// The same caller with the same `Idempotency-Key` always means the same order.
    ///
    /// The length goes before the caller, so that no two pairs give the same name.
    pub fn derive(caller: &str, idempotency_key: &str) -> Self {
        let name = format!("{}:{caller}:{idempotency_key}", caller.len());
        Self(Uuid::new_v5(&Self::NAMESPACE, name.as_bytes()))
    }

    /// `None` when the text is not a UUID: then no order has that id.
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text).ok().map(Self)
    }

    pub fn uuid(self) -> Uuid {
        self.0
    }

    /// An id for one piece of work on this order, the same every time: its command id and the provider's idempotency key.
    pub fn work_id(self, work: &str) -> Uuid {
        Uuid::new_v5(&self.0, work.as_bytes())
    }
}

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a refund that staff have requested, and is the key that its provider call carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RefundId(pub Uuid);

impl fmt::Display for RefundId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a change of a product's stock by staff.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AdjustmentId(pub Uuid);

impl AdjustmentId {
    const NAMESPACE: Uuid = Uuid::from_u128(0x8d1f_5c0e_2b77_4d6a_9c33_41e0_a2b9_6f58);

    /// The same caller with the same `Idempotency-Key` always means the same change of this product.
    ///
    /// A product's id has no space in it, so no other three give the same name.
    pub fn derive(product_id: &ProductId, caller: &CustomerId, idempotency_key: &str) -> Self {
        let name = format!("{product_id} {} {idempotency_key}", caller.before_a_space());
        Self(Uuid::new_v5(&Self::NAMESPACE, name.as_bytes()))
    }
}

impl fmt::Display for AdjustmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A text id that clients send: `parse` checks length and alphabet.
macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, max $max:literal, $allowed:expr, $alphabet:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            pub fn parse(text: &str) -> Result<Self, Invalid> {
                let allowed: fn(char) -> bool = $allowed;
                if (1..=$max).contains(&text.len()) && text.chars().all(allowed) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(Invalid::new(concat!("must be 1 to ", $max, " characters long, of ", $alphabet)))
                }
            }

            /// As it was stored once. Not checked again, as deserialising does not: it names what there is.
            pub fn stored(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// Who orders: the `sub` of the customer's token, whatever its issuer makes of that. It has up to 255 ASCII characters
    /// (`OpenID` Connect Core 1.0, section 2).
    CustomerId, max 255, |c| matches!(c, ' '..='~'), "printable ASCII"
);
text_id!(
    /// A thing that can be ordered.
    ProductId, max 64, |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'), "letters, digits and . _ -"
);
text_id!(
    /// What the payment provider knows the customer's means of payment by: a token, never a card number.
    PaymentMethod, max 64, |c| c.is_ascii_alphanumeric() || c == '_', "letters, digits and _"
);

impl CustomerId {
    /// Where a space and more text follow: an id that has a space itself comes after its length, so that no two ids and texts
    /// come to the same. Every other id stays as it is, because retries across deployments rest on the names that it is in.
    pub fn before_a_space(&self) -> Cow<'_, str> {
        if self.0.contains(' ') { format!("{}\n{}", self.0.len(), self.0).into() } else { self.as_str().into() }
    }
}

impl Default for PaymentMethod {
    /// What an order without a `payment_method` is paid with in the sandbox.
    fn default() -> Self {
        Self("pm_card_visa".to_owned())
    }
}

/// An id that a provider gave: kept as it came.
macro_rules! provider_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);
    };
}

provider_id!(
    /// The inventory's id of what it holds for an order.
    ReservationId
);
provider_id!(
    /// The payment provider's id of a charge.
    TransactionId
);
provider_id!(
    /// The carrier's id of a shipment.
    ShipmentId
);
provider_id!(
    /// The notification service's id of a message.
    NotificationId
);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn an_order_id_depends_on_caller_and_key_and_on_nothing_else() {
        assert_eq!(OrderId::derive("anna", "k1"), OrderId::derive("anna", "k1"));
        assert_ne!(OrderId::derive("anna", "k1"), OrderId::derive("anna", "k2"));
        assert_ne!(OrderId::derive("anna", "k1"), OrderId::derive("bert", "k1"));
        assert_ne!(OrderId::derive("a:b", "c"), OrderId::derive("a", "b:c"));
    }

    #[test]
    fn derived_ids_never_change() {
        // Clients and steps retry across deployments: another answer here would place orders, and charge for them, twice.
        assert_eq!(OrderId::derive("anna", "k1").to_string(), "dac27993-4ba5-5817-b562-adb4447e2305");
        let charge = OrderId::derive("anna", "k1").work_id("process-payment");
        assert_eq!(charge.to_string(), "c96b62b0-54d2-54ef-9368-6515dd03bab1");
    }

    #[test]
    fn ids_refuse_what_could_break_a_key() {
        assert!(ProductId::parse("tea-250g").is_ok());
        for bad in ["", "a b", "a#b", "ä", &"x".repeat(65)] {
            assert!(ProductId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn whatever_subject_a_token_has_is_a_customer() {
        for subject in ["auth0|1234", "Anna Wang", " ", "a/b%2F?c#d", "~", "me", &"x".repeat(255)] {
            assert_eq!(CustomerId::parse(subject).unwrap().as_str(), subject);
        }
        for bad in ["", "a\nb", "a\u{7f}", "ä", &"x".repeat(256)] {
            assert!(CustomerId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn no_two_callers_and_keys_name_one_adjustment() {
        let names = ["a", "a b", "3", "3\na", "3\na b", "b c", "b"];
        let keys = ["c", "b c", "a b c", "3\na b c", ""];
        let all = names.iter().flat_map(|name| keys.iter().map(move |key| (CustomerId::stored(*name), key)));
        let ids: BTreeSet<AdjustmentId> = all
            .filter(|(name, _)| !name.as_str().contains('\n'))
            .map(|(name, key)| AdjustmentId::derive(&ProductId::stored("p"), &name, key))
            .collect();
        assert_eq!(ids.len(), 5 * keys.len());
        // As it always was: staff retry across deployments.
        let id = AdjustmentId::derive(&ProductId::stored("p"), &CustomerId::stored("staff-1"), "k");
        assert_eq!(id.0, Uuid::new_v5(&AdjustmentId::NAMESPACE, b"p staff-1 k"));
    }
}
