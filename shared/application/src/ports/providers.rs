//! Who does for an order what is not done here, and what becomes of a call that is not answered.

use std::time::Duration;

use domain::provider::Provider;

use crate::event_store::{BoxError, Unavailable};

/// What a provider did instead of answering: the source of its [`Unavailable`]. Nothing in it comes from the answer.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    #[error("the call failed")]
    Failed(#[source] BoxError),
    /// It does not take this request: no fault of the connection, and no reason to leave the provider alone.
    #[error("the provider refused the request: {0}")]
    Rejected(String),
    #[error("no answer came within {0:?}")]
    TimedOut(Duration),
    /// What came back breaks the contract, and is not believed.
    #[error("the provider misbehaved: {field} {problem}")]
    Misbehaved { field: &'static str, problem: String },
    /// Nobody knows where it is now.
    #[error("no instance of the service {service} is known")]
    NoInstance { service: String },
    /// It failed too often, and is left alone for a while.
    #[error("the provider is not called for another {for_another:?}")]
    ShutOff { for_another: Duration },
}

impl ProviderError {
    /// In one word, for figures and traces.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Failed(_) => "failed",
            Self::Rejected(_) => "rejected",
            Self::TimedOut(_) => "timed_out",
            Self::Misbehaved { .. } => "misbehaved",
            Self::NoInstance { .. } => "no_instance",
            Self::ShutOff { .. } => "shut_off",
        }
    }
}

/// The providers behind one port. Who has an order's money, stock or parcel is asked for it, whatever new orders use by now.
pub trait Providers: Send + Sync {
    type Provider: Send + Sync;

    /// Fails when there is no such provider any more, or not yet: a person has to see to it.
    fn of<'p>(&'p self, provider: &Provider) -> Result<&'p Self::Provider, Unavailable>;
}

/// Has each of these be the only provider behind its port.
#[macro_export]
macro_rules! only_providers {
    ($($provider:ty),+ $(,)?) => {$(
        impl $crate::ports::Providers for $provider {
            type Provider = Self;

            fn of<'p>(
                &'p self,
                _: &domain::provider::Provider,
            ) -> Result<&'p Self, $crate::event_store::Unavailable> {
                Ok(self)
            }
        }
    )+};
}
