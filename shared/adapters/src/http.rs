//! Where API Gateway calls in: who is asking, what the body says, and how an answer or a problem looks.

mod body;
pub mod dead_letters;
mod event;
#[cfg(any(test, feature = "testing"))]
pub mod hostile;
mod limits;
mod problem;
mod query;

use std::{
    borrow::Cow,
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use application::{
    event_store::{Metadata, Unavailable},
    event_stream::Committed,
    order_history::{EventOfAny, PastEvent},
};
use chrono::{DateTime, Utc};
use domain::{
    customer::Profile,
    ids::{CustomerId, OrderId},
    money::Money,
    order::OrderStatus,
    order_view::OrderView,
};
use futures_util::{FutureExt, future::BoxFuture};
use lambda_http::{
    Body, Context, Error, LambdaEvent, Response, aws_lambda_events::apigw::ApiGatewayV2httpResponse, http::HeaderValue,
    service_fn,
};
use serde::Serialize;
use serde_json::Value;
use tokio::time::timeout;
use tracing::{Span, error, info};
use uuid::Uuid;

pub use body::{FieldErrors, MoneyBody};
pub use limits::{Gate, Open};
pub use problem::{FieldError, Problem};
pub use query::{PageLinks, Query, cursor, customer_path, link};

use self::event::HttpEvent;
use telemetry::{Hop, Kind, Trace};

use crate::{lambda::Invocation, limits::Admission};

/// The largest body that is read. An order of 100 lines is about 12 KB.
const BODY_BYTES_MAX: usize = 128 * 1024;

/// What is left of a function's time when its handler is given up, so that the client still gets an answer.
const TIME_TO_ANSWER: Duration = Duration::from_millis(500);

/// The scope of a machine that may say that a parcel has arrived.
const CARRIER_SCOPE: &str = "orders/carrier";
/// The scope of a machine that may read the service's figures.
const METRICS_SCOPE: &str = "orders/metrics";

/// A request, with what every handler asks of it.
pub struct ApiRequest {
    /// From `X-Correlation-Id`, else API Gateway's request id. Goes back in the answer and on with every event.
    pub correlation_id: String,
    /// API Gateway's id of this request.
    pub request_id: String,
    pub traceparent: Option<String>,
    pub now: DateTime<Utc>,
    event: HttpEvent,
    /// What all lines about this request have in common.
    lines: Span,
}

/// Who is asking, as the authorizer has verified it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The token's `sub`, which is the customer's id.
    pub id: CustomerId,
    pub staff: Option<Staff>,
    /// In the group `carrier`, or a machine with its scope: may say that a parcel has arrived.
    pub carrier: bool,
    /// A machine that may read the service's figures.
    pub metrics: bool,
}

/// Somebody of staff, by their groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Staff {
    Member,
    /// May also do what costs money that nobody has agreed to.
    Supervisor,
}

impl Caller {
    pub fn is_supervisor(&self) -> bool {
        self.staff == Some(Staff::Supervisor)
    }

    /// Customers act for themselves, staff for anyone.
    pub fn may_act_for(&self, customer: &CustomerId) -> bool {
        self.staff.is_some() || self.id == *customer
    }

    /// As the audit trail names the caller.
    pub fn actor(&self) -> String {
        let role = match (self.staff.is_some(), self.carrier) {
            (true, _) => "staff",
            (false, true) => "carrier",
            (false, false) => "customer",
        };
        format!("{role}:{}", self.id)
    }
}

impl ApiRequest {
    fn new(event: HttpEvent, now: DateTime<Utc>) -> Self {
        let request_id = event.request_id().map_or_else(|| Uuid::new_v4().to_string(), str::to_owned);
        let correlation_id =
            event.header("x-correlation-id").filter(|id| is_safe_id(id)).unwrap_or(&request_id).to_owned();
        let traceparent = event.header("traceparent").filter(|told| Trace::parse(told).is_some()).map(str::to_owned);
        Self { correlation_id, request_id, traceparent, now, event, lines: Span::none() }
    }

    /// A request as API Gateway sends it; for tests, which feed the samples of `events/` to handlers.
    pub fn from_event(event: &str, now: DateTime<Utc>) -> Result<Self, Error> {
        Ok(Self::new(serde_json::from_str(event)?, now))
    }

    /// Who the authorizer says is asking. Routes without an authorizer must not ask.
    ///
    /// A scope gives a right only to a machine that has signed in by itself: the token's subject is the client then
    /// (RFC 9068, section 2.2). In a person's token it says what the client may do, not what the person may.
    pub fn caller(&self) -> Result<Caller, Problem> {
        let claim = |name| self.event.claim(name).unwrap_or_default();
        // Cognito's ID tokens tell a client who has signed in. API Gateway takes them, because their audience is right.
        let is_for_access = matches!(claim("token_use"), "" | "access");
        match CustomerId::parse(claim("sub")) {
            Ok(id) if is_for_access => {
                let is_in = |group| is_in(group, claim("cognito:groups"), claim("groups"));
                let is_machine = claim("client_id") == id.as_str();
                let has = |scope| is_machine && claim("scope").split(' ').any(|one| one == scope);
                Ok(Caller {
                    staff: match (is_in("supervisor"), is_in("staff")) {
                        (true, _) => Some(Staff::Supervisor),
                        (false, true) => Some(Staff::Member),
                        (false, false) => None,
                    },
                    carrier: is_in("carrier") || has(CARRIER_SCOPE),
                    metrics: has(METRICS_SCOPE),
                    id,
                })
            }
            _ => Err(Problem::unauthorized()),
        }
    }

    /// What whoever issued the token calls the caller, who is to be asked for by that name.
    pub fn username(&self) -> &str {
        self.event.claim("username").or_else(|| self.event.claim("sub")).unwrap_or_default()
    }

    /// The caller's e-mail address, where the token says that it is verified. Cognito's access tokens say nothing of it.
    pub fn verified_email(&self) -> Option<&str> {
        let is_verified = self.event.claim("email_verified") == Some("true");
        self.event.claim("email").filter(|_| is_verified)
    }

    /// The caller, if it is somebody of staff.
    pub fn staff(&self) -> Result<Caller, Problem> {
        let caller = self.caller()?;
        if caller.staff.is_some() { Ok(caller) } else { Err(Problem::forbidden("this route is for staff only")) }
    }

    /// The caller, if it is a supervisor.
    pub fn supervisor(&self) -> Result<Caller, Problem> {
        let caller = self.caller()?;
        if caller.is_supervisor() { Ok(caller) } else { Err(Problem::forbidden("this route is for supervisors only")) }
    }

    /// The caller, if it is somebody of staff or the carrier.
    pub fn staff_or_carrier(&self) -> Result<Caller, Problem> {
        let caller = self.caller()?;
        if caller.staff.is_some() || caller.carrier {
            Ok(caller)
        } else {
            Err(Problem::forbidden("this route is for staff and carriers only"))
        }
    }

    /// The caller, if it is somebody of staff or a machine that watches the service.
    pub fn staff_or_metrics(&self) -> Result<Caller, Problem> {
        let caller = self.caller()?;
        if caller.staff.is_some() || caller.metrics {
            Ok(caller)
        } else {
            Err(Problem::forbidden("this route is for staff and for machines that watch the service"))
        }
    }

    /// The order that the path names. What is no order's id names none.
    pub fn order_id(&self) -> Result<OrderId, Problem> {
        let order_id = OrderId::parse(&self.path_parameter("order_id")).ok_or_else(|| Problem::not_found("order"))?;
        self.is_about(order_id);
        Ok(order_id)
    }

    /// Has its lines and its span name the order.
    pub fn is_about(&self, order_id: OrderId) {
        self.lines.record("order_id", tracing::field::display(order_id));
        telemetry::has_order(&order_id);
    }

    /// The customer whom the path names ([`customer_path`]), if the caller may act for them. Somebody else is as unknown as
    /// nobody.
    pub fn customer_id(&self) -> Result<CustomerId, Problem> {
        let caller = self.caller()?;
        let named = query::named_customer(&caller, &self.path_parameter("customer_id"));
        named.filter(|customer| caller.may_act_for(customer)).ok_or_else(|| Problem::not_found("customer"))
    }

    /// The id of a command on an order: the same whenever this caller sends this deed under the same `Idempotency-Key`.
    pub fn command_id(&self, order_id: OrderId, deed: &str, caller: &Caller) -> Result<Uuid, Problem> {
        Ok(match self.idempotency_key()? {
            Some(key) => order_id.work_id(&format!("{deed} {} {key}", caller.id.before_a_space())),
            None => Uuid::now_v7(),
        })
    }

    /// A parameter of the path as the route names it; empty when there is none.
    pub fn path_parameter(&self, name: &str) -> String {
        self.event.path_parameter(name).unwrap_or_default().to_owned()
    }

    /// The parameters of the query, which may have these names and no others.
    pub fn query(&self, names: &[&str]) -> Query {
        Query::new(self.event.query(), names)
    }

    /// The value of a header; `None` when it is absent, or not text in visible ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.event.header(name)
    }

    /// The value of `Idempotency-Key`. Absent means that the client wants no protection against sending twice.
    ///
    /// API Gateway makes one value of a header that comes twice, with a comma between them. Two keys are no key, and a key
    /// with a comma in it could not be told from two.
    pub fn idempotency_key(&self) -> Result<Option<&str>, Problem> {
        match self.event.raw_header("idempotency-key") {
            None => Ok(None),
            Some(key)
                if (1..=255).contains(&key.len())
                    && key.bytes().all(|byte| matches!(byte, b' '..=b'~' if byte != b',')) =>
            {
                Ok(Some(key))
            }
            // To go on without the protection that the client asked for would be to risk a second charge.
            Some(_) => Err(Problem::invalid_idempotency_key()),
        }
    }

    /// The body as `T`, or a problem that names every field that is wrong.
    pub fn json<T: deserr::Deserr<FieldErrors>>(&self) -> Result<T, Problem> {
        let bytes: Cow<'_, [u8]> =
            self.event.body().map_err(|_| Problem::malformed("the body is said to be base64, and is not"))?;
        if bytes.len() > BODY_BYTES_MAX {
            return Err(Problem::too_large(BODY_BYTES_MAX));
        }
        if !bytes.is_empty() && !self.event.raw_header("content-type").is_none_or(body::is_json) {
            return Err(Problem::unsupported_media_type());
        }
        body::parse(&bytes)
    }

    /// What is wrong with the request for whatever function it is: that it says two things where one is meant.
    fn check(&self) -> Result<(), Problem> {
        const SINGLE: [&str; 3] = ["Content-Type", "X-Correlation-Id", "traceparent"];
        let twice =
            |name: &&str| self.event.raw_header(&name.to_ascii_lowercase()).is_some_and(|value| value.contains(','));
        SINGLE.into_iter().find(twice).map_or(Ok(()), |name| Err(Problem::header_sent_twice(name)))
    }

    /// Who, why and when, for a commit that this request causes.
    pub fn metadata(&self, caller: &Caller, command_id: Uuid, fingerprint: String) -> Metadata {
        Metadata {
            command_id,
            fingerprint,
            actor: caller.actor(),
            correlation_id: self.correlation_id.clone(),
            causation_id: self.request_id.clone(),
            traceparent: self.traceparent.clone(),
            occurred_at: self.now,
        }
    }
}

impl From<Unavailable> for Problem {
    fn from(error: Unavailable) -> Self {
        Self::unavailable(&error)
    }
}

/// Fit to be logged and stored as it is.
fn is_safe_id(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':'))
}

/// API Gateway hands a list claim on as text without quotes: `[staff admin]`.
///
/// The names of Cognito's groups hold no spaces, so its list can be taken apart. Another issuer's can hold some, and
/// `[Warehouse staff]` is one group or two: there, only a list of nothing but the group counts.
fn is_in(group: &str, cognito_groups: &str, groups: &str) -> bool {
    let bare = |list: &str| list.strip_prefix('[').and_then(|list| list.strip_suffix(']')).unwrap_or(list).to_owned();
    bare(cognito_groups).split_whitespace().any(|one| one == group) || bare(groups) == group
}

/// An answer with a JSON body.
pub fn json(status: u16, body: &impl Serialize) -> Result<Response<Body>, Problem> {
    let text = serde_json::to_string(body).map_err(|error| Problem::internal(&error))?;
    response(status, "application/json", text)
}

/// An event as every answer tells it: what happened, in the newest schema of its type, and who did it, why and when.
#[derive(Serialize)]
pub struct PastEventBody<'e> {
    version: u64,
    #[serde(flatten)]
    event: &'e EventOfAny,
    occurred_at: DateTime<Utc>,
    actor: &'e str,
    command_id: Uuid,
    correlation_id: &'e str,
    causation_id: &'e str,
    traceparent: Option<&'e str>,
}

impl<'e> From<&'e PastEvent> for PastEventBody<'e> {
    fn from(PastEvent { version, event, metadata }: &'e PastEvent) -> Self {
        Self {
            version: *version,
            event,
            occurred_at: metadata.occurred_at,
            actor: &metadata.actor,
            command_id: metadata.command_id,
            correlation_id: &metadata.correlation_id,
            causation_id: &metadata.causation_id,
            traceparent: metadata.traceparent.as_deref(),
        }
    }
}

/// An order as a row of a list.
#[derive(Serialize)]
pub struct OrderRow {
    id: OrderId,
    status: OrderStatus,
    total_amount: Money,
    item_count: usize,
    created_at: DateTime<Utc>,
}

impl From<&OrderView> for OrderRow {
    fn from(order: &OrderView) -> Self {
        Self {
            id: order.id,
            status: order.status,
            total_amount: order.total_amount,
            item_count: order.items.len(),
            created_at: order.created_at,
        }
    }
}

/// A customer's profile, as its reads and its updates answer it.
#[derive(Serialize)]
pub struct ProfileBody<'c> {
    pub id: &'c CustomerId,
    #[serde(flatten)]
    pub profile: &'c Profile,
    pub version: u64,
}

/// The answer to a command that others finish: 202. A replayed one says so.
pub fn accepted(committed: Committed, body: &impl Serialize) -> Result<Response<Body>, Problem> {
    let answer = json(202, body)?;
    Ok(if committed.replayed { with_header(answer, "idempotent-replayed", "true") } else { answer })
}

/// An answer with a body of this type.
pub fn response(status: u16, content_type: &str, text: String) -> Result<Response<Body>, Problem> {
    Response::builder()
        .status(status)
        .header("content-type", content_type)
        .body(Body::Text(text))
        .map_err(|error| Problem::internal(&error))
}

/// An answer with a body that need not be text. API Gateway gets it in base64, and hands it on as it is.
pub fn bytes(status: u16, content_type: &str, bytes: &[u8]) -> Result<Response<Body>, Problem> {
    Response::builder()
        .status(status)
        .header("content-type", content_type)
        .body(if bytes.is_empty() { Body::Empty } else { Body::Binary(bytes.to_vec()) })
        .map_err(|error| Problem::internal(&error))
}

/// Adds a header to an answer; one whose value cannot stand in a header is left out.
#[must_use]
pub fn with_header(mut response: Response<Body>, name: &'static str, value: &str) -> Response<Body> {
    if let Ok(value) = value.parse() {
        response.headers_mut().insert(name, value);
    }
    response
}

/// Runs an HTTP function: each request gets its span, its one log line, and its correlation id back. The gate says which
/// go on to the handler.
///
/// What API Gateway sends is not read by `lambda_http`, which panics where a client's text makes no URL (ADR 27).
pub async fn run<G, F, A>(gate: &G, handle: F) -> Result<(), Error>
where
    G: Gate,
    F: Fn(ApiRequest) -> A + Sync,
    A: Future<Output = Result<Response<Body>, Problem>> + Send,
{
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Value>| {
        Ok::<_, Error>(answer(event.payload, &event.context, gate, &handle).await)
    }))
    .await
}

/// The answer to whatever API Gateway, or anybody in its place, sends. There always is one.
async fn answer<G, F, A>(event: Value, context: &Context, gate: &G, handle: &F) -> ApiGatewayV2httpResponse
where
    G: Gate,
    F: Fn(ApiRequest) -> A + Sync,
    A: Future<Output = Result<Response<Body>, Problem>> + Send,
{
    let started = Instant::now();
    let (event, checked) = match serde_json::from_value::<HttpEvent>(event) {
        Ok(event) => (event, Ok(())),
        Err(_) => (HttpEvent::default(), Err(Problem::malformed("this is no request of an HTTP API"))),
    };
    let (method, path) = (event.method().to_owned(), event.path().to_owned());
    let route = event.route().to_owned();
    let mut request = ApiRequest::new(event, Utc::now());
    let checked = checked.and_then(|()| request.check());
    let correlation_id = request.correlation_id.clone();
    let hop = Hop::new(&route, Kind::Server, request.traceparent.as_deref().and_then(Trace::of_stranger))
        .with("http.request.method", method.clone())
        .with("http.route", route.split_once(' ').map_or("", |(_, path)| path).to_owned());
    let invocation = Invocation::of(context, hop).correlated(&correlation_id);
    request.lines = invocation.lines();
    let work = async {
        // What the request causes goes on from here, and not from where the client is.
        request.traceparent = telemetry::traceparent().or(request.traceparent.take());
        let admission = match &checked {
            // Boxed, as the handler below, because the SDK's futures nest deeper than the compiler lays out in one piece.
            Ok(()) => gate.admit(&request).boxed().await,
            Err(_) => Admission::Free,
        };
        let outcome = match (checked, &admission) {
            (Err(problem), _) => Err(problem),
            (Ok(()), Admission::Refused(quota)) => Err(quota.exceeded()),
            (Ok(()), _) => in_time(context, handle(request).boxed()).await,
        };
        let (answer, failed) = match outcome {
            Ok(answer) => {
                let failed = answer.status().is_server_error();
                (answer, failed.then_some(("answer", String::new())))
            }
            Err(problem) => {
                let failed = problem.is_failure().then(|| (problem.kind, problem.cause.clone().unwrap_or_default()));
                (problem.respond(&path, &correlation_id), failed)
            }
        };
        if let Some((problem, cause)) = failed {
            // An alarm counts these lines (`infra/alarms.yaml`), which no log level silences.
            error!(cause, problem, "request failed");
            telemetry::failed(problem);
        }
        telemetry::set("http.response.status_code", i64::from(answer.status().as_u16()));
        info!(
            method,
            status = answer.status().as_u16(),
            duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "request answered"
        );
        let answer = match admission.quota() {
            Some(quota) => quota.tell(answer),
            None => answer,
        };
        into_event(with_header(answer, "x-correlation-id", &correlation_id))
    };
    invocation.run(gate.beside(work.boxed()).boxed()).await
}

/// What a handler answers; a problem when it panics or has no time left. API Gateway would make both a 5xx of its own, which
/// tells neither the client nor the log what it was about.
async fn in_time(
    context: &Context,
    answer: BoxFuture<'_, Result<Response<Body>, Problem>>,
) -> Result<Response<Body>, Problem> {
    let now = u64::try_from(Utc::now().timestamp_millis()).unwrap_or_default();
    let left = match context.deadline {
        // Without a deadline nobody waits: that is a test.
        0 => Duration::MAX,
        deadline => Duration::from_millis(deadline.saturating_sub(now)),
    };
    match timeout(left.saturating_sub(TIME_TO_ANSWER), AssertUnwindSafe(answer).catch_unwind()).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(Problem::internal(&Stopped::Panicked)),
        Err(_) => Err(Problem::out_of_time(&Stopped::OutOfTime)),
    }
}

/// Why a handler gave no answer.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    #[error("the handler panicked")]
    Panicked,
    #[error("the handler ran out of time")]
    OutOfTime,
}

/// An answer as API Gateway takes it. Nearly all of them are about people, so none is kept by anybody on its way unless it
/// says that it may be.
fn into_event(answer: Response<Body>) -> ApiGatewayV2httpResponse {
    let (parts, body) = answer.into_parts();
    let mut event = ApiGatewayV2httpResponse::default();
    event.status_code = parts.status.as_u16().into();
    event.headers = parts.headers;
    event.headers.entry("cache-control").or_insert(HeaderValue::from_static("no-store"));
    event.is_base64_encoded = matches!(body, Body::Binary(_));
    // API Gateway takes no null for a body that is not there.
    event.body = Some(body).filter(|body| !matches!(body, Body::Empty));
    event
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{json, *};
    use telemetry::logs::logged;

    /// A request of whoever has a token with these claims.
    fn request_with(claims: Value) -> ApiRequest {
        let mut event: Value = serde_json::from_str(include_str!("../../../events/record-delivery.json")).unwrap();
        event["requestContext"]["authorizer"]["jwt"]["claims"] = claims;
        ApiRequest::from_event(&event.to_string(), Utc::now()).unwrap()
    }

    #[test]
    fn a_token_that_only_says_who_has_signed_in_gives_access_to_nothing() {
        // What API Gateway takes for an access token, because its audience is right.
        let id_token = json!({"sub": "staff-1", "aud": "client-1", "token_use": "id", "cognito:groups": "[staff]"});
        assert_eq!(request_with(id_token).caller().unwrap_err().status, 401);
        for access in [json!({"sub": "c-1", "token_use": "access"}), json!({"sub": "c-1", "aud": "orders"})] {
            assert!(request_with(access.clone()).caller().is_ok(), "{access}");
        }
    }

    #[test]
    fn a_machine_may_do_what_its_scope_says() {
        let machine = |scope| json!({"sub": "m-1", "client_id": "m-1", "token_use": "access", "scope": scope});
        let carrier = request_with(machine("orders/metrics orders/carrier")).staff_or_carrier().unwrap();
        assert_eq!((carrier.actor().as_str(), carrier.staff), ("carrier:m-1", None));
        for other in ["", "orders/metrics", "orders/carriers", "carrier", "other/carrier"] {
            assert_eq!(request_with(machine(other)).staff_or_carrier().unwrap_err().status, 403, "{other}");
        }
        assert_eq!(request_with(machine("orders/metrics")).staff_or_metrics().unwrap().staff, None);
        assert_eq!(request_with(machine("orders/carrier")).staff_or_metrics().unwrap_err().status, 403);
    }

    #[test]
    fn a_scope_of_the_client_gives_nothing_to_the_person_who_uses_it() {
        let person = json!({"sub": "c-1", "client_id": "m-1", "token_use": "access", "scope": "orders/carrier"});
        assert_eq!(request_with(person).staff_or_carrier().unwrap_err().status, 403);
        let nobody = json!({"sub": "c-1", "token_use": "access", "scope": "orders/carrier"});
        assert_eq!(request_with(nobody).staff_or_carrier().unwrap_err().status, 403);
    }

    #[test]
    fn a_supervisor_is_somebody_of_staff_and_not_the_other_way_round() {
        let of = |groups: &str| request_with(json!({"sub": "p-1", "token_use": "access", "cognito:groups": groups}));
        for groups in ["[supervisor]", "[staff supervisor]"] {
            let caller = of(groups).supervisor().unwrap();
            assert_eq!((caller.staff, caller.actor().as_str()), (Some(Staff::Supervisor), "staff:p-1"), "{groups}");
        }
        for groups in ["[staff]", "[carrier]", "[]", "[supervisors]"] {
            assert_eq!(of(groups).supervisor().unwrap_err().status, 403, "{groups}");
        }
    }

    #[test]
    fn only_who_is_in_the_group_staff_without_a_doubt_is_staff() {
        for cognito_groups in ["[staff]", "[admin staff]"] {
            assert!(is_in("staff", cognito_groups, ""), "{cognito_groups}");
        }
        for groups in ["staff", "[staff]"] {
            assert!(is_in("staff", "", groups), "{groups}");
        }
        for other in ["", "[]", "[staffing]", "not-staff", "[Warehouse staff]"] {
            assert!(!is_in("staff", "", other), "{other}");
        }
        assert!(!is_in("staff", "[staffing]", "") && !is_in("staff", "", ""));
    }

    const ORDER: &str = include_str!("../../../events/create-order.json");

    /// A sample with this header.
    fn with_header(name: &str, value: &str) -> ApiRequest {
        let mut event: Value = serde_json::from_str(ORDER).unwrap();
        event["headers"][name] = value.into();
        ApiRequest::from_event(&event.to_string(), Utc::now()).unwrap()
    }

    /// The answer of a function that reads its body and says no more than that.
    async fn ask(event: Value) -> ApiGatewayV2httpResponse {
        let handle = async |request: ApiRequest| {
            request.json::<AnyBody>()?;
            json(200, &request.query(&["q"]).finish(Some(()))?)
        };
        answer(event, &Context::default(), &Open, &handle).await
    }

    #[derive(deserr::Deserr)]
    #[deserr(error = FieldErrors)]
    struct AnyBody {}

    #[test]
    fn a_key_that_came_twice_is_no_key() {
        for (name, key) in
            [("idempotency-key", "a"), ("Idempotency-Key", "a b~"), ("idempotency-key", &"x".repeat(255))]
        {
            assert_eq!(
                with_header(name, key).idempotency_key(),
                if name == "idempotency-key" { Ok(Some(key)) } else { Err(Problem::invalid_idempotency_key()) }
            );
        }
        // As API Gateway joins them, and as a header that holds both.
        for bad in ["a,a", "a, b", ",", "", "ä", "a\u{1}", &"x".repeat(256)] {
            assert_eq!(
                with_header("idempotency-key", bad).idempotency_key(),
                Err(Problem::invalid_idempotency_key()),
                "{bad}"
            );
        }
    }

    /// For `health`, which asks nothing of its request but that there is one.
    #[tokio::test]
    async fn hostile_events_are_answered() {
        let handle = async |_: ApiRequest| json(200, &());
        hostile::is_answered(include_str!("../../../events/health.json"), handle, || ()).await;
    }

    #[tokio::test]
    async fn what_has_to_be_single_is_refused_when_it_comes_twice() {
        for (name, value, status) in [
            ("x-correlation-id", "checkout-42", 200),
            ("x-correlation-id", "checkout-42,checkout-42", 400),
            ("content-type", "application/json, application/json", 400),
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", 200),
            ("traceparent", "not one", 200),
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01,00-1", 400),
        ] {
            let mut event: Value = serde_json::from_str(ORDER).unwrap();
            event["headers"][name] = value.into();
            assert_eq!(ask(event).await.status_code, status, "{name}: {value}");
        }
    }

    /// Each of them once stopped a function before its own code ran (ADR 27).
    #[tokio::test]
    async fn no_text_stops_a_function() {
        for (part, value, status) in [
            ("/rawQueryString", json!("q=<b>"), 200),
            ("/rawQueryString", json!("q=\"\u{0}%zz%"), 200),
            ("/rawPath", json!("/api/<>\u{1}?#%"), 200),
            ("/headers/host", json!("a b<"), 200),
            ("/headers/x-forwarded-proto", json!("ht tp://"), 200),
            ("/headers/x-custom", json!("\u{1}\u{7f}"), 200),
            ("/isBase64Encoded", json!(true), 400),
            ("/requestContext/http/method", json!("GE T"), 200),
            ("/headers", json!(7), 400),
        ] {
            let mut event: Value = serde_json::from_str(ORDER).unwrap();
            event["headers"]["x-forwarded-proto"] = json!("https");
            event["headers"]["x-custom"] = json!("");
            *event.pointer_mut(part).unwrap() = value;
            assert_eq!(ask(event).await.status_code, status, "{part}");
        }
        for event in [Value::Null, json!([]), json!("GET /")] {
            assert_eq!(ask(event).await.status_code, 400);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_that_panics_or_hangs_is_answered_for() {
        let event: Value = serde_json::from_str(ORDER).unwrap();
        let mut context = Context::default();
        context.deadline = u64::try_from(Utc::now().timestamp_millis()).unwrap() + 10_000;
        let panics = async |_: ApiRequest| -> Result<Response<Body>, Problem> { panic!("a defect") };
        let hangs = async |_: ApiRequest| std::future::pending().await;
        let panicked = answer(event.clone(), &context, &Open, &panics).await;
        let hung = answer(event, &context, &Open, &hangs).await;
        assert_eq!((panicked.status_code, hung.status_code), (500, 503));
        assert!(!String::from_utf8_lossy(panicked.body.as_deref().unwrap()).contains("defect"));
        assert_eq!(hung.headers["retry-after"], "1");
    }

    #[tokio::test]
    async fn a_request_is_one_line_of_the_log_and_a_failed_one_says_why() {
        let event: Value = serde_json::from_str(ORDER).unwrap();
        let mut context = Context::default();
        let name = "order-service-prod-create-order".to_owned();
        context.env_config = lambda_runtime::Config { function_name: name, ..Default::default() }.into();
        let (_, lines) = logged(answer(event.clone(), &context, &Open, &async |_| super::json(200, &()))).await;
        let [line] = lines.as_slice() else { panic!("{lines:?}") };
        assert!(line.contains("order-service-prod-create-order") && line.len() <= 250, "{line}");
        let fails = async |_: ApiRequest| Err(Problem::internal(&Stopped::Panicked));
        let (_, lines) = logged(answer(event, &context, &Open, &fails)).await;
        for part in
            ["request failed", "the handler panicked", "function_request_id", "xray_trace_id", "code.line.number"]
        {
            assert!(lines[0].contains(part), "{part}: {lines:?}");
        }
    }

    #[tokio::test]
    async fn what_is_answered_is_kept_by_nobody_unless_it_says_so() {
        let event: Value = serde_json::from_str(ORDER).unwrap();
        assert_eq!(ask(event.clone()).await.headers["cache-control"], "no-store");
        let handle = async |_: ApiRequest| Ok(super::with_header(json(200, &())?, "cache-control", "no-cache"));
        assert_eq!(answer(event, &Context::default(), &Open, &handle).await.headers["cache-control"], "no-cache");
    }

    #[tokio::test]
    async fn an_answer_without_a_body_has_none() {
        let handle = async |_: ApiRequest| Ok(Response::builder().status(304).body(Body::Empty).unwrap());
        let answer = answer(serde_json::from_str(ORDER).unwrap(), &Context::default(), &Open, &handle).await;
        assert_eq!(serde_json::to_value(&answer).unwrap().get("body"), None);
    }

    #[tokio::test]
    async fn a_body_is_json_or_nothing() {
        for (content_type, status) in [
            (Some("application/json"), 200),
            (Some("Application/JSON; Charset=\"UTF-8\""), 200),
            (Some("application/merge-patch+json;v=1"), 200),
            (None, 200),
            (Some("application/json; charset=gbk"), 415),
            (Some("application/x-www-form-urlencoded"), 415),
            (Some("text/plain"), 415),
            (Some("application/xml"), 415),
            (Some("application/+json"), 415),
            (Some(""), 415),
        ] {
            let mut event: Value = serde_json::from_str(ORDER).unwrap();
            let headers = event["headers"].as_object_mut().unwrap();
            headers.remove("content-type");
            if let Some(content_type) = content_type {
                headers.insert("content-type".to_owned(), content_type.into());
            }
            let answer = ask(event).await;
            assert_eq!(answer.status_code, status, "{content_type:?}");
        }
    }

    #[tokio::test]
    async fn a_member_that_stands_there_twice_is_named() {
        let ask_with = async |body: &str| {
            let mut event: Value = serde_json::from_str(ORDER).unwrap();
            event["body"] = body.into();
            let answer = ask(event).await;
            let body: Value = serde_json::from_slice(answer.body.as_deref().unwrap()).unwrap();
            (answer.status_code, body["errors"].as_array().cloned().unwrap_or_default())
        };
        let (status, errors) =
            ask_with(r#"{"a": 1, "b": [{"c": 1}, {"c": 1, "c": {"d/~": 1, "d/~": 1}}], "a": 2, "a": 2}"#).await;
        let pointers: Vec<&Value> = errors.iter().map(|error| &error["pointer"]).collect();
        assert_eq!((status, pointers), (400, vec![&json!("/b/1/c/d~1~0"), &json!("/b/1/c"), &json!("/a")]));
        assert_eq!(ask_with(r#"{"a": {"a": [1, "a", {"a": null}]}}"#).await, (200, vec![]));
        // The same member, written in two ways.
        assert_eq!(ask_with(r#"{"a": 1, "\u0061": 2}"#).await.0, 400);
        for bad in ["{", "{} {}", "{\"a\": 1,}", &"[".repeat(200)] {
            assert_eq!(ask_with(bad).await, (400, vec![]), "{bad}");
        }
    }

    #[test]
    fn a_correlation_id_cannot_forge_a_log_line() {
        assert!(is_safe_id("checkout-42"));
        for bad in ["", "a b", "a\nb", "ä", &"x".repeat(129)] {
            assert!(!is_safe_id(bad), "{bad}");
        }
    }
}
