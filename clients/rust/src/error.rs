//! What went wrong, with what to name when asking about it.

use std::{error::Error as StdError, fmt};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a [`TokenSource`](crate::TokenSource) may fail with.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// What was sent, for whoever asks what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Of a command: who sends the same again sends it under this key.
    pub idempotency_key: Option<String>,
    pub correlation_id: String,
    /// An attempt had no answer, or a 5xx: it may have been done.
    pub unsure: bool,
}

/// Why there is no answer, or not the one that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The service has refused, or failed. Its `docs/errors.md` says what to do about each.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// A command may have been done: the same again under its key finds out.
    #[error("{} (attempts: {attempts})", if *.timed_out { "no answer in time" } else { "the service cannot be reached" })]
    NoAnswer { attempts: u32, timed_out: bool, sent: Sent, source: Option<reqwest::Error> },
    #[error("there is no token to be had")]
    Token { sent: Sent, source: BoxError },
    #[error("the answer is not as the contract has it")]
    Unreadable { sent: Sent, source: serde_json::Error },
    /// Also a link that leads away from the service: its token is for nobody else.
    #[error("this is no request: {0}")]
    Request(String),
    #[error("there are no roots to trust a certificate by")]
    Tls(#[source] reqwest::Error),
}

impl Error {
    /// The HTTP status, if there was an answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Problem(problem) => Some(problem.status),
            Self::NoAnswer { .. } | Self::Token { .. } | Self::Unreadable { .. } | Self::Request(_) | Self::Tls(_) => {
                None
            }
        }
    }

    /// What to name when asking about the request.
    pub fn correlation_id(&self) -> Option<&str> {
        match self {
            Self::Problem(problem) => Some(&problem.correlation_id),
            Self::NoAnswer { sent, .. } | Self::Unreadable { sent, .. } => Some(&sent.correlation_id),
            Self::Token { .. } | Self::Request(_) | Self::Tls(_) => None,
        }
    }

    /// The key of a command that may have been done all the same: sent again under it, it is done once.
    pub fn retry_key(&self) -> Option<&str> {
        match self {
            Self::Problem(problem) => problem.idempotency_key.as_deref().filter(|_| problem.unsure),
            Self::NoAnswer { sent, .. } | Self::Unreadable { sent, .. } => sent.idempotency_key.as_deref(),
            Self::Token { sent, .. } => sent.idempotency_key.as_deref().filter(|_| sent.unsure),
            Self::Request(_) | Self::Tls(_) => None,
        }
    }

    /// Whether it is this problem: `out-of-stock`, `rate-limited`, ...
    pub fn is(&self, word: &str) -> bool {
        matches!(self, Self::Problem(problem) if problem.kind.strip_prefix(Problem::URN) == Some(word))
    }
}

/// What a refusal says (RFC 9457).
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// The member `type`: what programs go by.
    pub kind: String,
    pub status: u16,
    pub title: String,
    pub detail: String,
    pub errors: Vec<FieldError>,
    /// The whole body, with the members that a problem has of its own.
    pub members: Map<String, Value>,
    pub correlation_id: String,
    pub idempotency_key: Option<String>,
    /// This or an earlier attempt may have done it: a 5xx says so, and so does silence before a refusal.
    pub unsure: bool,
    /// In how many seconds the same request is worth sending again.
    pub retry_after: Option<u64>,
}

/// What is wrong with one field: by JSON Pointer for the body, by `?name` for the query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldError {
    pub pointer: String,
    pub detail: String,
}

impl Problem {
    const URN: &str = "urn:order-service:problem:";
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.title)?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        for FieldError { pointer, detail } in &self.errors {
            write!(f, "; {} {detail}", if pointer.is_empty() { "the whole" } else { pointer })?;
        }
        Ok(())
    }
}
