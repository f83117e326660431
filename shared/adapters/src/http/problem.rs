//! What a client sees when something is wrong: problem details (RFC 9457), never an internal.

use lambda_http::{Body, Response};
use serde::Serialize;
use serde_json::{Map, Value, json};

use application::{
    event_store::Unavailable,
    event_stream::{CommandError, LoadError},
};

use super::{response, with_header};
use crate::lambda::chain;

/// One wrong field: where it is (JSON Pointer, RFC 6901) and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    pub pointer: String,
    pub detail: String,
}

/// A problem, on its way to the client.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    pub status: u16,
    /// The stable part of `type`, such as `out-of-stock`.
    pub kind: &'static str,
    title: &'static str,
    detail: String,
    errors: Vec<FieldError>,
    more: Map<String, Value>,
    retry_after_seconds: Option<u32>,
    /// For the log, not for the client.
    pub(super) cause: Option<String>,
}

impl Problem {
    pub fn new(status: u16, kind: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            title,
            detail: detail.into(),
            errors: Vec::new(),
            more: Map::new(),
            retry_after_seconds: None,
            cause: None,
        }
    }

    /// 400: these fields are wrong.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let mut problem =
            Self::new(400, "invalid-request", "The request is invalid", "see errors for each field that is wrong");
        problem.errors = errors;
        problem
    }

    /// 400: one field is wrong.
    pub fn invalid_field(pointer: &str, detail: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError { pointer: pointer.to_owned(), detail: detail.into() }])
    }

    /// 400: there is no reading the body at all.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(400, "malformed-body", "The body cannot be read", detail)
    }

    pub fn unauthorized() -> Self {
        Self::new(401, "unauthorized", "Who is asking?", "a valid bearer token is required")
    }

    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(403, "forbidden", "Not allowed", detail)
    }

    pub fn not_found(what: &str) -> Self {
        Self::new(404, "not-found", "Not found", format!("there is no such {what}"))
    }

    pub fn too_large(limit_bytes: usize) -> Self {
        let detail = format!("the body may have at most {limit_bytes} bytes");
        Self::new(413, "body-too-large", "The body is too large", detail)
    }

    /// 415: the body is said to be something else than JSON.
    pub(super) fn unsupported_media_type() -> Self {
        let detail = "the header Content-Type must be application/json, in UTF-8";
        Self::new(415, "unsupported-media-type", "The body has the wrong type", detail)
    }

    pub(super) fn invalid_idempotency_key() -> Self {
        let detail =
            "the header Idempotency-Key must be sent once, and be 1 to 255 visible ASCII characters without a comma";
        Self::new(400, "invalid-idempotency-key", "The idempotency key is invalid", detail)
    }

    /// 400: a header that says one thing came more than once.
    pub(super) fn header_sent_twice(name: &str) -> Self {
        Self::new(400, "header-sent-twice", "A header came twice", format!("the header {name} must be sent once"))
    }

    /// 422: the key stands for another request.
    pub fn key_reused() -> Self {
        let detail = "the same Idempotency-Key came earlier with another body; a new request needs a new key";
        Self::new(422, "idempotency-key-reused", "The idempotency key was used before", detail)
    }

    /// The problem of an order that could not be loaded.
    pub fn not_loaded(error: &LoadError) -> Self {
        match error {
            LoadError::Unavailable(error) => Self::unavailable(error),
            LoadError::Unreadable(_) => Self::internal(error),
        }
    }

    /// The problem of a command that changed nothing; `rejected` says what the decision's own word for it means.
    pub fn not_done<R: std::error::Error + 'static>(error: CommandError<R>, rejected: impl FnOnce(&R) -> Self) -> Self {
        match error {
            CommandError::Rejected(rejection) => rejected(&rejection),
            CommandError::CommandReused => Self::key_reused(),
            CommandError::Contended => Self::retry_later("the order is changing; the request may be sent again"),
            CommandError::Load(error) => Self::not_loaded(&error),
            error @ (CommandError::TooLarge | CommandError::Unwritable(_)) => Self::internal(&error),
        }
    }

    /// 429: the caller has sent more than so many at once, and as many again in each window.
    pub(super) fn rate_limited(limit: &str, burst: u32, window_seconds: u32, retry_after_seconds: u32) -> Self {
        let detail = format!(
            "the limit is {burst} requests at once and as many again in {window_seconds} s; \
             send the same request again after the seconds in Retry-After, under the same Idempotency-Key"
        );
        let mut problem = Self::new(429, "rate-limited", "Too many requests", detail).with("limit", json!(limit));
        problem.retry_after_seconds = Some(retry_after_seconds);
        problem
    }

    /// 503: try again, the same request does no harm.
    pub fn unavailable(error: &Unavailable) -> Self {
        let mut problem = Self::retry_later(
            "the service cannot answer at the moment; send the same request again, under the same Idempotency-Key",
        );
        problem.cause = Some(chain(error));
        problem
    }

    /// 503: there was no time to finish. What was asked for may have been done.
    pub(super) fn out_of_time(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut problem = Self::retry_later(
            "there was no time to finish, and it may have been done; send it again under the same Idempotency-Key",
        );
        problem.cause = Some(chain(error));
        problem
    }

    /// Whether somebody has to look: not when a client is only told to come back.
    pub(super) fn is_failure(&self) -> bool {
        self.status >= 500 && (self.cause.is_some() || self.retry_after_seconds.is_none())
    }

    /// 503 with `Retry-After`.
    pub fn retry_later(detail: impl Into<String>) -> Self {
        let mut problem = Self::new(503, "unavailable", "Not available", detail);
        problem.retry_after_seconds = Some(1);
        problem
    }

    /// 500: a defect of this service. The client learns only that.
    pub fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut problem = Self::new(500, "internal", "Internal error", "the request could not be handled");
        problem.cause = Some(chain(error));
        problem
    }

    /// Adds a member of its own, for what a client's code may want to act on.
    #[must_use]
    pub fn with(mut self, member: &str, value: Value) -> Self {
        self.more.insert(member.to_owned(), value);
        self
    }

    /// Where each wrong field is: what most tests ask of a problem.
    #[cfg(any(test, feature = "testing"))]
    pub fn pointers(&self) -> Vec<&str> {
        self.errors.iter().map(|error| error.pointer.as_str()).collect()
    }

    /// The answer's body.
    pub fn body(&self, instance: &str, correlation_id: &str) -> Value {
        let mut body = self.more.clone();
        body.insert("type".to_owned(), json!(format!("urn:order-service:problem:{}", self.kind)));
        body.insert("title".to_owned(), json!(self.title));
        body.insert("status".to_owned(), json!(self.status));
        body.insert("detail".to_owned(), json!(self.detail));
        body.insert("instance".to_owned(), json!(instance));
        body.insert("correlation_id".to_owned(), json!(correlation_id));
        if !self.errors.is_empty() {
            body.insert("errors".to_owned(), json!(self.errors));
        }
        Value::Object(body)
    }

    pub(super) fn respond(&self, instance: &str, correlation_id: &str) -> Response<Body> {
        let text = self.body(instance, correlation_id).to_string();
        let answer =
            response(self.status, "application/problem+json", text).unwrap_or_else(|_| Response::new(Body::Empty));
        match self.retry_after_seconds {
            Some(seconds) => with_header(answer, "retry-after", &seconds.to_string()),
            None => answer,
        }
    }
}
