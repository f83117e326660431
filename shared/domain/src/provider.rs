//! Who does for an order what is not done here: which inventory, which payment provider, which carrier, and who tells the customer.

use serde::{Deserialize, Serialize};

/// A provider, and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Provider {
    /// The built-in one.
    #[default]
    Sandbox,
    Grpc {
        /// The name under which it is found, wherever it is by then.
        service: String,
    },
    Rest {
        service: String,
    },
    /// Amazon SES, which sends e-mails: for notifications only.
    Ses,
}

/// The providers of an order. They are those that it was placed with, whatever new orders use by now: what is charged at one is
/// refunded there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct OrderProviders {
    pub inventory: Provider,
    pub payments: Provider,
    pub shipping: Provider,
    pub notifications: Provider,
}

impl OrderProviders {
    /// All of them are built in: so it was for every order before there was a choice, and such an order does not say it.
    pub fn are_built_in(&self) -> bool {
        *self == Self::default()
    }
}
