//! What API Gateway sends (payload format 2.0), read so that nothing in it can stop a function: every text in it may be a
//! stranger's.

use std::{borrow::Cow, collections::BTreeMap};

use base64::{DecodeError, Engine, prelude::BASE64_STANDARD};
use lambda_http::aws_lambda_events::query_map::QueryMap;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A request, as far as anybody here asks for it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct HttpEvent {
    raw_path: Option<String>,
    raw_query_string: Option<String>,
    #[serde(deserialize_with = "headers")]
    headers: BTreeMap<String, String>,
    path_parameters: Option<BTreeMap<String, String>>,
    body: Option<String>,
    is_base64_encoded: bool,
    request_context: RequestContext,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RequestContext {
    http: Http,
    route_key: Option<String>,
    request_id: Option<String>,
    authorizer: Option<Authorizer>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Http {
    method: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Authorizer {
    jwt: Option<Jwt>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Jwt {
    claims: BTreeMap<String, Value>,
}

/// Under names in lower case. Names that are one then are joined as API Gateway joins them: with a comma.
fn headers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let sent = Option::<BTreeMap<String, String>>::deserialize(deserializer)?.unwrap_or_default();
    Ok(sent.into_iter().fold(BTreeMap::new(), |mut headers: BTreeMap<String, String>, (name, value)| {
        headers
            .entry(name.to_ascii_lowercase())
            .and_modify(|earlier| {
                earlier.push(',');
                earlier.push_str(&value);
            })
            .or_insert(value);
        headers
    }))
}

impl HttpEvent {
    pub(super) fn method(&self) -> &str {
        &self.request_context.http.method
    }

    /// The method and the path as the API declares them: `GET /api/v1/orders/{order_id}`.
    pub(super) fn route(&self) -> &str {
        self.request_context.route_key.as_deref().unwrap_or("request")
    }

    /// As API Gateway hands it on: decoded.
    pub(super) fn path(&self) -> &str {
        self.raw_path.as_deref().unwrap_or_default()
    }

    pub(super) fn path_parameter(&self, name: &str) -> Option<&str> {
        self.path_parameters.as_ref()?.get(name).map(String::as_str)
    }

    /// Names and values, decoded, each as often as it stands there.
    pub(super) fn query(&self) -> impl Iterator<Item = (String, String)> {
        // Any text is a query; what cannot be decoded stays as it is.
        let parameters: QueryMap = self.raw_query_string.as_deref().unwrap_or_default().parse().unwrap_or_default();
        let pairs: Vec<_> = parameters.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        pairs.into_iter()
    }

    /// The value of a header, by its name in lower case, whatever it is.
    pub(super) fn raw_header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The value of a header if it is text in visible ASCII.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.raw_header(name).filter(|value| value.bytes().all(|byte| matches!(byte, b' '..=b'~')))
    }

    pub(super) fn body(&self) -> Result<Cow<'_, [u8]>, DecodeError> {
        let text = self.body.as_deref().unwrap_or_default();
        Ok(if self.is_base64_encoded { BASE64_STANDARD.decode(text)?.into() } else { text.as_bytes().into() })
    }

    pub(super) fn request_id(&self) -> Option<&str> {
        self.request_context.request_id.as_deref()
    }

    /// What the authorizer has read from the token. It hands lists on as texts.
    pub(super) fn claim(&self, name: &str) -> Option<&str> {
        self.request_context.authorizer.as_ref()?.jwt.as_ref()?.claims.get(name)?.as_str()
    }
}
