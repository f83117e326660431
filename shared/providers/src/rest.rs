//! The contract as JSON over HTTP: each call is a POST.

use std::time::Duration;

use application::ports::ProviderError;
use reqwest::{
    Certificate, Client, StatusCode,
    header::{CONTENT_TYPE, HeaderMap},
    redirect::Policy,
};

use crate::{
    checks::misbehaved,
    contract::{ANSWER_BYTES_MAX, Call},
    token::Unauthenticated,
};

pub(crate) struct Rest {
    client: Client,
    url: String,
}

impl Rest {
    pub(crate) fn new(
        url: &str,
        secure: bool,
        ca_bundle: Option<&str>,
        connect_within: Duration,
    ) -> Result<Self, ProviderError> {
        let failed = |error: reqwest::Error| ProviderError::Failed(error.into());
        let roots = Certificate::from_pem_bundle(ca_bundle.unwrap_or_default().as_bytes()).map_err(failed)?;
        // Nobody who answers may send money's requests elsewhere.
        let client =
            Client::builder().connect_timeout(connect_within).redirect(Policy::none()).no_proxy().https_only(secure);
        let client = client.tls_certs_merge(roots).build().map_err(failed)?;
        Ok(Self { client, url: url.trim_end_matches('/').to_owned() })
    }

    pub(crate) async fn call<C: Call>(
        &self,
        request: C,
        headers: HeaderMap,
        deadline: Duration,
    ) -> Result<C::Answer, ProviderError> {
        let post = self.client.post(format!("{}{}", self.url, C::REST_PATH)).json(&request);
        let post = post.headers(headers).timeout(deadline);
        let failed = |error: reqwest::Error| ProviderError::Failed(error.without_url().into());
        let mut answer = post.send().await.map_err(failed)?;
        if answer.status() != StatusCode::OK {
            let status = format!("HTTP status {}", answer.status().as_u16());
            return Err(match answer.status() {
                StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::UNPROCESSABLE_ENTITY => {
                    ProviderError::Rejected(status)
                }
                StatusCode::UNAUTHORIZED => ProviderError::Failed(Unauthenticated("HTTP status 401").into()),
                _ => ProviderError::Failed(status.into()),
            });
        }
        let media_type = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !media_type.to_ascii_lowercase().starts_with("application/json") {
            return Err(misbehaved("the answer", "is not application/json"));
        }
        let mut body = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(failed)? {
            if body.len().saturating_add(part.len()) > ANSWER_BYTES_MAX {
                return Err(misbehaved("the answer", format!("is larger than {ANSWER_BYTES_MAX} bytes")));
            }
            body.extend_from_slice(&part);
        }
        // A list would be taken for a message's fields in their order, and an empty one for a message that has none.
        let message = Some(&body).filter(|body| body.trim_ascii_start().starts_with(b"{"));
        // What a parser quotes may be anything, so it is left out.
        let answer = message.and_then(|body| serde_json::from_slice(body).ok());
        answer.ok_or_else(|| misbehaved("the answer", "is no message of the contract"))
    }
}
