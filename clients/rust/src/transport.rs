//! What is sent, and sent again.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use reqwest::{Method, StatusCode, header::HeaderMap, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use tokio::time::{sleep, timeout};
use url::{Host, Url};
use uuid::Uuid;

use crate::error::{BoxError, Error, FieldError, Problem, Sent};

/// Worth sending again. What else is below 500 stays as it is, and a 500 is a defect.
const PASSING: [StatusCode; 4] = [
    StatusCode::TOO_MANY_REQUESTS,
    StatusCode::BAD_GATEWAY,
    StatusCode::SERVICE_UNAVAILABLE,
    StatusCode::GATEWAY_TIMEOUT,
];

/// Whoever is there takes a connection sooner.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Some routes take 20 seconds to say that they cannot.
const ATTEMPT_MAX: Duration = Duration::from_secs(25);

/// Gives the access token. It is asked for each attempt, so it keeps one while that is valid, and gets another in time.
pub trait TokenSource: Send + Sync {
    fn token(&self) -> BoxFuture<'_, Result<SecretString, BoxError>>;
}

/// One token, for as long as it is valid.
impl TokenSource for SecretString {
    fn token(&self) -> BoxFuture<'_, Result<SecretString, BoxError>> {
        Box::pin(async { Ok(self.clone()) })
    }
}

/// How often, and for how long, a request is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// How often it is sent at most.
    pub attempts: u32,
    /// For how long at most, with answers and pauses.
    pub total: Duration,
    /// The first pause, about. Each further one is twice as long,
    pub pause: Duration,
    /// but not longer than this, unless the service asks for more.
    pub pause_max: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            attempts: 4,
            total: Duration::from_mins(1),
            pause: Duration::from_millis(200),
            pause_max: Duration::from_secs(5),
        }
    }
}

impl Retries {
    pub const NONE: Self = Self { attempts: 1, total: ATTEMPT_MAX, pause: Duration::ZERO, pause_max: Duration::ZERO };

    /// At least what the service asks for; longer each time, and by chance, so that not all who were refused come back together.
    fn pause_after(&self, attempt: u32, asked: Option<Duration>) -> Duration {
        let doubled = 2_u32.saturating_pow(attempt.saturating_sub(1));
        let half = self.pause.saturating_mul(doubled).min(self.pause_max).div_f64(2.0);
        let chance = f64::from(Uuid::new_v4().as_fields().0) / f64::from(u32::MAX);
        asked.unwrap_or_default().max(half).saturating_add(half.mul_f64(chance))
    }
}

/// What to ask the service. A `POST` has an `Idempotency-Key` of its own, the same for all attempts.
#[derive(Debug, Clone)]
pub struct Request {
    pub(crate) method: Method,
    pub(crate) path: String,
    headers: HeaderMap,
    body: Option<String>,
    sent: Sent,
}

impl Request {
    /// `path` begins with `/`, and has the query, as a link of the service does.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        // A repeated POST without a key would be another command; all else leaves what it leaves however often it comes.
        let idempotency_key = (!method.is_idempotent()).then(|| Uuid::new_v4().to_string());
        let sent = Sent { idempotency_key, correlation_id: Uuid::new_v4().to_string(), unsure: false };
        Self { method, path: path.into(), headers: HeaderMap::new(), body: None, sent }
    }

    /// A body that is sent as it is.
    #[must_use]
    pub fn body(mut self, json: impl Into<String>) -> Self {
        self.body = Some(json.into());
        self
    }

    pub fn json(self, body: &impl Serialize) -> Result<Self, Error> {
        let json = serde_json::to_string(body).map_err(|error| Error::Request(error.to_string()))?;
        Ok(self.body(json))
    }

    /// A key of one's own, stored before the call: for a command that has to outlive the process.
    #[must_use]
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.sent.idempotency_key = Some(key.into());
        self
    }

    /// Names the request in the service's logs, and in all events that it causes.
    #[must_use]
    pub fn correlation_id(mut self, id: impl Into<String>) -> Self {
        self.sent.correlation_id = id.into();
        self
    }

    /// Reads only what is not of this `ETag`; otherwise the answer is 304.
    pub fn if_none_match(mut self, etag: &str) -> Result<Self, Error> {
        let etag = etag.parse().map_err(|_| Error::Request(format!("{etag:?} is no ETag")))?;
        self.headers.insert("if-none-match", etag);
        Ok(self)
    }
}

/// What came back, whatever its status.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
    pub sent: Sent,
}

impl Answer {
    /// The body of a success. What is none fails as the problem that it is.
    pub fn json<T: DeserializeOwned>(self) -> Result<T, Error> {
        let Self { body, sent, .. } = self.success()?;
        serde_json::from_str(&body).map_err(|source| Error::Unreadable { sent, source })
    }

    pub fn success(self) -> Result<Self, Error> {
        if self.status.is_success() { Ok(self) } else { Err(Error::Problem(Box::new(self.problem()))) }
    }

    /// As [`Error::retry_key`].
    pub fn retry_key(&self) -> Option<&str> {
        self.sent.idempotency_key.as_deref().filter(|_| self.sent.unsure && !self.status.is_success())
    }

    /// Of a header that was sent once, as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// A problem of the service, API Gateway's message, or what something between them says.
    fn problem(self) -> Problem {
        let members: Map<String, Value> = serde_json::from_str(&self.body).unwrap_or_default();
        let text = |member: &str| members.get(member).and_then(Value::as_str).map(str::to_owned);
        let (status, reason) = (self.status.as_u16(), self.status.canonical_reason().unwrap_or("HTTP"));
        Problem {
            kind: text("type").unwrap_or_else(|| "about:blank".to_owned()),
            status,
            title: text("title").or_else(|| text("message")).unwrap_or_else(|| reason.to_owned()),
            detail: text("detail").unwrap_or_default(),
            errors: members.get("errors").map(Vec::<FieldError>::deserialize).and_then(Result::ok).unwrap_or_default(),
            correlation_id: text("correlation_id")
                .or_else(|| self.header("x-correlation-id").map(str::to_owned))
                .unwrap_or(self.sent.correlation_id.clone()),
            retry_after: self.retry_after().map(|after| after.as_secs()),
            unsure: self.sent.unsure,
            idempotency_key: self.sent.idempotency_key,
            members,
        }
    }

    /// `Retry-After`, which may also be a date.
    fn retry_after(&self) -> Option<Duration> {
        let value = self.header("retry-after")?.trim();
        let of_date = |date: DateTime<_>| date.signed_duration_since(Utc::now()).to_std().unwrap_or_default();
        let seconds = value.parse().map(Duration::from_secs).ok();
        seconds.or_else(|| DateTime::parse_from_rfc2822(value).ok().map(of_date))
    }
}

/// One attempt and its answer, for whoever watches.
#[derive(Debug)]
pub struct Exchange<'a> {
    pub method: &'a Method,
    pub path: &'a str,
    pub status: StatusCode,
    pub headers: &'a HeaderMap,
    pub body: &'a str,
}

pub(crate) type Watch = Arc<dyn Fn(&Exchange<'_>) + Send + Sync>;

/// The way to the service.
#[derive(Clone)]
pub(crate) struct Transport {
    http: reqwest::Client,
    base_url: String,
    pub(crate) token: Option<Arc<dyn TokenSource>>,
    pub(crate) attempt_max: Duration,
    pub(crate) retries: Retries,
    pub(crate) watch: Option<Watch>,
}

/// Whether a URL leads to this machine. There a token is safe without TLS, and nowhere else.
pub fn is_loopback(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    })
}

/// Why an attempt has no answer.
enum Silence {
    TimedOut,
    Broken(reqwest::Error),
    Token(BoxError),
}

impl Transport {
    pub(crate) fn new(base_url: &str) -> Result<Self, Error> {
        if !Url::parse(base_url).is_ok_and(|url| matches!(url.scheme(), "http" | "https")) {
            return Err(Error::Request(format!("{base_url:?} is no URL of a service")));
        }
        // A redirect would take the token to wherever it leads.
        let http = reqwest::Client::builder().connect_timeout(CONNECT_MAX).redirect(redirect::Policy::none());
        // A proxy is another machine, which would read the token where there is no TLS.
        let http = if is_loopback(base_url) { http.no_proxy() } else { http };
        Ok(Self {
            http: http.build().map_err(Error::Tls)?,
            base_url: base_url.trim_end_matches('/').to_owned(),
            token: None,
            attempt_max: ATTEMPT_MAX,
            retries: Retries::default(),
            watch: None,
        })
    }

    /// Sends a request until there is an answer that stays, or it is not worth it any more. Repeating does no harm: a command has
    /// a key, under which it is done once.
    pub(crate) async fn send(&self, request: &Request, retries: &Retries) -> Result<Answer, Error> {
        if !request.path.starts_with('/') {
            return Err(Error::Request(format!("{} does not begin with /", request.path)));
        }
        let started = Instant::now();
        let left = || retries.total.saturating_sub(started.elapsed());
        let mut attempts: u32 = 1;
        let mut said_before = None;
        let mut unsure = false;
        loop {
            let limit = self.attempt_max.min(left());
            let outcome = timeout(limit, self.attempt(request)).await;
            // Whatever comes later, such as a 429: this attempt may have been the one that did it.
            unsure |= match &outcome {
                Ok(Ok(answer)) => answer.status.is_server_error(),
                Ok(Err(Silence::Token(_))) => false,
                Ok(Err(Silence::TimedOut | Silence::Broken(_))) | Err(_) => true,
            };
            // What the service has said before tells more than that there was no time to ask it again.
            let said = |_| said_before.take().filter(|_| limit < self.attempt_max).ok_or(Silence::TimedOut);
            let outcome = outcome.unwrap_or_else(said);
            let passing = match &outcome {
                Ok(answer) => PASSING.contains(&answer.status).then(|| answer.retry_after()),
                Err(Silence::Token(_)) => None,
                Err(Silence::TimedOut | Silence::Broken(_)) => Some(None),
            };
            let pause = passing.map(|asked| retries.pause_after(attempts, asked));
            let Some(pause) = pause.filter(|pause| attempts < retries.attempts && *pause < left()) else {
                let sent = Sent { unsure, ..request.sent.clone() };
                return outcome.map(|answer| Answer { sent: sent.clone(), ..answer }).map_err(
                    |silence| match silence {
                        Silence::Token(source) => Error::Token { sent, source },
                        Silence::TimedOut => Error::NoAnswer { attempts, timed_out: true, sent, source: None },
                        Silence::Broken(source) => {
                            Error::NoAnswer { attempts, timed_out: source.is_timeout(), sent, source: Some(source) }
                        }
                    },
                );
            };
            said_before = outcome.ok();
            sleep(pause).await;
            attempts = attempts.saturating_add(1);
        }
    }

    /// An answer counts when its body is here: one that stops halfway is silence too.
    async fn attempt(&self, request: &Request) -> Result<Answer, Silence> {
        // The URL may have what somebody has looked for: a name, an address.
        let broken = |error: reqwest::Error| Silence::Broken(error.without_url());
        let Request { method, path, headers, body, sent } = request;
        let mut sending =
            self.http.request(method.clone(), format!("{}{path}", self.base_url)).headers(headers.clone());
        sending = sending.header("x-correlation-id", &sent.correlation_id);
        if let Some(key) = &sent.idempotency_key {
            sending = sending.header("idempotency-key", key);
        }
        if let Some(body) = body {
            sending = sending.header("content-type", "application/json").body(body.clone());
        }
        if let Some(source) = &self.token {
            let token = source.token().await.map_err(Silence::Token)?;
            sending = sending.bearer_auth(token.expose_secret());
        }
        let response = sending.send().await.map_err(broken)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.text().await.map_err(broken)?;
        if let Some(watch) = &self.watch {
            watch(&Exchange { method, path, status, headers: &headers, body: &body });
        }
        Ok(Answer { status, headers, body, sent: sent.clone() })
    }
}
