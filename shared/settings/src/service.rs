//! Where a service is: at URLs that are listed, or wherever a registry says.

use std::{error::Error, fmt, pin::Pin};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{
        MapAccess, SeqAccess, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};

use crate::Address;

/// A service of one's own, as the settings have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Service {
    /// The URLs of its instances.
    Listed(Vec<String>),
    Registered(Registered),
}

/// A service whose instances come and go, and are found in AWS Cloud Map.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registered {
    /// What it is called in the stack's namespace: 1 to 64 letters, digits, - and _. The same as here when empty.
    pub cloud_map: String,
    /// URLs, up to 20, that are called while no instance of it is known.
    pub fallback: Vec<String>,
}

impl Service {
    /// All URLs that the settings name.
    pub(crate) fn urls(&self) -> &[String] {
        match self {
            Self::Listed(urls) | Self::Registered(Registered { fallback: urls, .. }) => urls,
        }
    }
}

/// By hand, because what is derived would say of an unknown field only that it fits neither form.
impl<'de> Deserialize<'de> for Service {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Service;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of URLs, or a table with cloud_map and fallback")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, urls: A) -> Result<Service, A::Error> {
                Deserialize::deserialize(SeqAccessDeserializer::new(urls)).map(Service::Listed)
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Service, A::Error> {
                Deserialize::deserialize(MapAccessDeserializer::new(table)).map(Service::Registered)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// What becomes of a look into a registry.
pub type Look<'a> = Pin<Box<dyn Future<Output = Result<Vec<Address>, Box<dyn Error + Send + Sync>>> + Send + 'a>>;

/// A registry of services.
pub trait Discovery: Send + Sync {
    /// Where the healthy instances of a service are. None is an answer, too. An instance that cannot be called is left out.
    fn instances<'a>(&'a self, service: &'a str) -> Look<'a>;
}
