//! Where API Gateway calls in: who is asking, what the body says, and how an answer or a problem looks.

mod body;
mod problem;
mod query;

use std::time::Instant;

use application::{
    event_store::Metadata,
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
use lambda_http::{Body, Error, Request, RequestExt, Response, request::RequestContext, service_fn};
use serde::Serialize;
use tracing::{Instrument, info, warn};
use uuid::Uuid;

pub use body::{FieldErrors, MoneyBody};
pub use problem::{FieldError, Problem};
pub use query::{PageLinks, Query, encoded, link};

use crate::lambda::invocation_span;

/// The largest body that is read. An order of 100 lines is about 12 KB.
const BODY_BYTES_MAX: usize = 128 * 1024;

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
    request: Request,
}

/// Who is asking, as the authorizer has verified it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The token's `sub`, which is the customer's id.
    pub id: CustomerId,
    /// In the group `staff`.
    pub staff: bool,
    /// In the group `carrier`, or a machine with its scope: may say that a parcel has arrived.
    pub carrier: bool,
    /// A machine that may read the service's figures.
    pub metrics: bool,
}

impl Caller {
    /// Customers act for themselves, staff for anyone.
    pub fn may_act_for(&self, customer: &CustomerId) -> bool {
        self.staff || self.id == *customer
    }

    /// As the audit trail names the caller.
    pub fn actor(&self) -> String {
        let role = match (self.staff, self.carrier) {
            (true, _) => "staff",
            (false, true) => "carrier",
            (false, false) => "customer",
        };
        format!("{role}:{}", self.id)
    }
}

impl ApiRequest {
    pub fn new(request: Request, now: DateTime<Utc>) -> Self {
        let request_id = match request.request_context_ref() {
            Some(RequestContext::ApiGatewayV2(context)) => context.request_id.clone(),
            _ => None,
        }
        .unwrap_or_else(|| Uuid::new_v4().to_string());
        let correlation_id = header(&request, "x-correlation-id")
            .filter(|id| is_safe_id(id))
            .map_or_else(|| request_id.clone(), str::to_owned);
        let traceparent = header(&request, "traceparent").filter(|value| is_traceparent(value)).map(str::to_owned);
        Self { correlation_id, request_id, traceparent, now, request }
    }

    /// A request as API Gateway sends it; for tests, which feed the samples of `events/` to handlers.
    pub fn from_event(event: &str, now: DateTime<Utc>) -> Result<Self, Error> {
        Ok(Self::new(lambda_http::request::from_str(event)?, now))
    }

    /// Who the authorizer says is asking. Routes without an authorizer must not ask.
    ///
    /// A scope gives a right only to a machine that has signed in by itself: the token's subject is the client then
    /// (RFC 9068, section 2.2). In a person's token it says what the client may do, not what the person may.
    pub fn caller(&self) -> Result<Caller, Problem> {
        let claims = match self.request.request_context_ref() {
            Some(RequestContext::ApiGatewayV2(context)) => {
                context.authorizer.as_ref().and_then(|authorizer| authorizer.jwt.as_ref()).map(|jwt| &jwt.claims)
            }
            _ => None,
        };
        let claim = |name| claims.and_then(|claims| claims.get(name)).map_or("", String::as_str);
        // Cognito's ID tokens tell a client who has signed in. API Gateway takes them, because their audience is right.
        let is_for_access = matches!(claim("token_use"), "" | "access");
        match CustomerId::parse(claim("sub")) {
            Ok(id) if is_for_access => {
                let is_in = |group| is_in(group, claim("cognito:groups"), claim("groups"));
                let is_machine = claim("client_id") == id.as_str();
                let has = |scope| is_machine && claim("scope").split(' ').any(|one| one == scope);
                Ok(Caller {
                    staff: is_in("staff"),
                    carrier: is_in("carrier") || has(CARRIER_SCOPE),
                    metrics: has(METRICS_SCOPE),
                    id,
                })
            }
            _ => Err(Problem::unauthorized()),
        }
    }

    /// The caller, if it is somebody of staff.
    pub fn staff(&self) -> Result<Caller, Problem> {
        let caller = self.caller()?;
        if caller.staff { Ok(caller) } else { Err(Problem::forbidden("this route is for staff only")) }
    }

    /// The caller, if it is somebody of staff or the carrier.
    pub fn staff_or_carrier(&self) -> Result<Caller, Problem> {
        let caller = self.caller()?;
        if caller.staff || caller.carrier {
            Ok(caller)
        } else {
            Err(Problem::forbidden("this route is for staff and carriers only"))
        }
    }

    /// The caller, if it is somebody of staff or a machine that watches the service.
    pub fn staff_or_metrics(&self) -> Result<Caller, Problem> {
        let caller = self.caller()?;
        if caller.staff || caller.metrics {
            Ok(caller)
        } else {
            Err(Problem::forbidden("this route is for staff and for machines that watch the service"))
        }
    }

    /// The order that the path names. What is no order's id names none.
    pub fn order_id(&self) -> Result<OrderId, Problem> {
        OrderId::parse(&self.path_parameter("order_id")).ok_or_else(|| Problem::not_found("order"))
    }

    /// The customer whom the path names, if the caller may act for them. Somebody else is as unknown as nobody.
    pub fn customer_id(&self) -> Result<CustomerId, Problem> {
        let caller = self.caller()?;
        let named = CustomerId::parse(&self.path_parameter("customer_id")).ok();
        named.filter(|customer| caller.may_act_for(customer)).ok_or_else(|| Problem::not_found("customer"))
    }

    /// The id of a command on an order: the same whenever this caller sends this deed under the same `Idempotency-Key`.
    pub fn command_id(&self, order_id: OrderId, deed: &str, caller: &Caller) -> Result<Uuid, Problem> {
        Ok(match self.idempotency_key()? {
            Some(key) => order_id.work_id(&format!("{deed} {} {key}", caller.id)),
            None => Uuid::now_v7(),
        })
    }

    /// A parameter of the path as the route names it; empty when there is none.
    pub fn path_parameter(&self, name: &str) -> String {
        self.request.path_parameters_ref().and_then(|parameters| parameters.first(name)).unwrap_or_default().to_owned()
    }

    /// The parameters of the query, which may have these names and no others.
    pub fn query(&self, names: &[&str]) -> Query {
        let parameters = self.request.query_string_parameters_ref();
        let pairs = parameters.into_iter().flat_map(|parameters| parameters.iter());
        Query::new(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())), names)
    }

    /// The value of a header; `None` when it is absent, or not text in visible ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.request, name)
    }

    /// The value of `Idempotency-Key`. Absent means that the client wants no protection against sending twice.
    pub fn idempotency_key(&self) -> Result<Option<&str>, Problem> {
        const NAME: &str = "idempotency-key";
        match self.header(NAME) {
            None if !self.request.headers().contains_key(NAME) => Ok(None),
            Some(key) if (1..=255).contains(&key.len()) && key.bytes().all(|byte| matches!(byte, b' '..=b'~')) => {
                Ok(Some(key))
            }
            // To go on without the protection that the client asked for would be to risk a second charge.
            Some(_) | None => Err(Problem::invalid_idempotency_key()),
        }
    }

    /// The body as `T`, or a problem that names every field that is wrong.
    pub fn json<T: deserr::Deserr<FieldErrors>>(&self) -> Result<T, Problem> {
        let bytes: &[u8] = self.request.body();
        if bytes.len() > BODY_BYTES_MAX {
            return Err(Problem::too_large(BODY_BYTES_MAX));
        }
        body::parse(bytes)
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

fn header<'r>(request: &'r Request, name: &str) -> Option<&'r str> {
    request.headers().get(name).and_then(|value| value.to_str().ok())
}

/// Fit to be logged and stored as it is.
fn is_safe_id(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':'))
}

/// `version-trace_id-parent_id-flags` in lower-case hexadecimal (W3C Trace Context, section 3.2).
fn is_traceparent(value: &str) -> bool {
    let hex = |part: &str, length| part.len() == length && part.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
    let set = |part: &str| part.chars().any(|c| c != '0');
    match value.split('-').collect::<Vec<_>>().as_slice() {
        [version, trace_id, parent_id, flags] => {
            hex(version, 2)
                && *version != "ff"
                && hex(trace_id, 32)
                && hex(parent_id, 16)
                && hex(flags, 2)
                && set(trace_id)
                && set(parent_id)
        }
        _ => false,
    }
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

/// Adds a header to an answer; one whose value cannot stand in a header is left out.
#[must_use]
pub fn with_header(mut response: Response<Body>, name: &'static str, value: &str) -> Response<Body> {
    if let Ok(value) = value.parse() {
        response.headers_mut().insert(name, value);
    }
    response
}

/// Runs an HTTP function: each request gets its span, its one log line, and its correlation id back.
pub async fn run<F, A>(handle: F) -> Result<(), Error>
where
    F: Fn(ApiRequest) -> A + Sync,
    A: Future<Output = Result<Response<Body>, Problem>> + Send,
{
    lambda_http::run(service_fn(|request: Request| {
        let span = invocation_span(&request.lambda_context());
        let path = request.raw_http_path().to_owned();
        let method = request.method().clone();
        let request = ApiRequest::new(request, Utc::now());
        span.record("correlation_id", &request.correlation_id);
        let correlation_id = request.correlation_id.clone();
        let started = Instant::now();
        // Boxed, because the SDK's futures nest deeper than the compiler lays out in one piece.
        let answer = Box::pin(handle(request));
        async move {
            let answer = answer.await.unwrap_or_else(|problem| {
                if let Some(cause) = &problem.cause {
                    warn!(cause, problem = problem.kind, "request failed");
                }
                problem.respond(&path, &correlation_id)
            });
            info!(
                method = %method,
                status = answer.status().as_u16(),
                duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
                "request answered"
            );
            Ok::<_, Error>(with_header(answer, "x-correlation-id", &correlation_id))
        }
        .instrument(span)
    }))
    .await
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A request of whoever has a token with these claims.
    fn request_with(claims: serde_json::Value) -> ApiRequest {
        let mut event: serde_json::Value =
            serde_json::from_str(include_str!("../../../events/record-delivery.json")).unwrap();
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
        assert_eq!((carrier.actor().as_str(), carrier.staff), ("carrier:m-1", false));
        for other in ["", "orders/metrics", "orders/carriers", "carrier", "other/carrier"] {
            assert_eq!(request_with(machine(other)).staff_or_carrier().unwrap_err().status, 403, "{other}");
        }
        assert!(!request_with(machine("orders/metrics")).staff_or_metrics().unwrap().staff);
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

    #[test]
    fn a_traceparent_is_taken_on_only_when_it_is_one() {
        assert!(is_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        for bad in [
            "",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-x-y-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        ] {
            assert!(!is_traceparent(bad), "{bad}");
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
