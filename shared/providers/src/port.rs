//! The four ports that a provider can stand behind.

use domain::provider::Provider;
use settings::{Kind, Settings};

/// What a provider is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    Inventory,
    Payments,
    Shipping,
    Notifications,
}

impl Port {
    /// In one word, for figures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inventory => "inventory",
            Self::Payments => "payments",
            Self::Shipping => "shipping",
            Self::Notifications => "notifications",
        }
    }

    /// In words, for errors.
    pub fn what(self) -> &'static str {
        match self {
            Self::Inventory => "the inventory",
            Self::Payments => "the payment provider",
            Self::Shipping => "the carrier",
            Self::Notifications => "the notification service",
        }
    }

    pub(crate) fn settings(self, settings: &Settings) -> &settings::Provider {
        match self {
            Self::Inventory => &settings.providers.inventory,
            Self::Payments => &settings.providers.payments,
            Self::Shipping => &settings.providers.shipping,
            Self::Notifications => &settings.providers.notifications,
        }
    }

    pub(crate) fn of_new_orders(self, settings: &Settings) -> Provider {
        let settings::Provider { kind, service, .. } = self.settings(settings);
        match kind {
            Kind::Sandbox => Provider::Sandbox,
            Kind::Grpc => Provider::Grpc { service: service.clone() },
            Kind::Rest => Provider::Rest { service: service.clone() },
            Kind::Ses => Provider::Ses,
        }
    }
}
