//! What in JSON is one of several fields of a message.

use std::{
    fmt::{self, Display, Formatter},
    marker::PhantomData,
};

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned, IgnoredAny, IntoDeserializer, MapAccess, Visitor, value::StrDeserializer},
};
use serde_json::{Map, Value};

/// The one that is there. Two are none, since nobody can say which of them is meant, and so is one that cannot be read.
pub(crate) fn one_of<'de, D: Deserializer<'de>, T: DeserializeOwned>(message: D) -> Result<Option<T>, D::Error> {
    message.deserialize_map(OneOf(PhantomData))
}

struct OneOf<T>(PhantomData<T>);

impl<'de, T: DeserializeOwned> Visitor<'de> for OneOf<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("a message")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Option<T>, A::Error> {
        let mut one = None;
        while let Some(name) = fields.next_key::<String>()? {
            if !is_of::<T>(&name) {
                fields.next_value::<IgnoredAny>()?;
            } else if one.replace((name, fields.next_value::<Value>()?)).is_some() {
                return Ok(None);
            }
        }
        Ok(one.and_then(|field| serde_json::from_value(Value::Object(Map::from_iter([field]))).ok()))
    }
}

/// Whether a field of this name is one of them. Without a value none can be read, and one that is not known fails by that.
fn is_of<T: DeserializeOwned>(name: &str) -> bool {
    let name: StrDeserializer<'_, NotRead> = name.into_deserializer();
    !matches!(<T as Deserialize<'_>>::deserialize(name), Err(NotRead::UnknownName))
}

#[derive(Debug, thiserror::Error)]
enum NotRead {
    #[error("no field has this name")]
    UnknownName,
    #[error("there is no value")]
    NoValue,
}

impl de::Error for NotRead {
    fn custom<M: Display>(_: M) -> Self {
        Self::NoValue
    }

    fn unknown_variant(_: &str, _: &'static [&'static str]) -> Self {
        Self::UnknownName
    }
}
