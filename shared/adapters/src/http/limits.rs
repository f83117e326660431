//! Which limit a request counts towards, and what its client is told of it.

use std::time::Duration;

use application::{
    limits::Class,
    ports::{Counters, Limits},
};
use lambda_http::{Body, Response};
use settings::Source;

use self::Counts::{Command, Own, Read};
use super::{ApiRequest, Caller, Problem, with_header};
use crate::limits::{Admission, Limiter, Quota};

/// Towards which limit a route's requests count.
#[derive(Debug, Clone, Copy)]
enum Counts {
    /// That of its caller's commands.
    Command,
    /// That of its caller's reads.
    Read,
    /// One of its own, because it is dear or denies others, whoever calls.
    Own(Class),
}

/// Every route that asks for a token; `GET /health` asks for none, and is limited by the gateway alone.
const ROUTES: [(&str, Counts); 26] = [
    ("POST /api/v1/orders", Command),
    ("POST /api/v1/orders/{order_id}/cancel", Command),
    ("POST /api/v1/orders/{order_id}/delivery", Command),
    ("POST /api/v1/orders/{order_id}/refunds", Command),
    ("POST /api/v1/orders/{order_id}/fulfilment/resume", Command),
    ("POST /api/v1/orders/{order_id}/fulfilment/skip", Command),
    ("POST /api/v1/fulfilment/resume", Command),
    ("PUT /api/v1/products/{product_id}", Command),
    ("POST /api/v1/products/{product_id}/stock-adjustments", Command),
    ("PUT /api/v1/customers/{customer_id}", Own(Class::ProfileChanges)),
    ("GET /api/v1/orders", Own(Class::Searches)),
    ("GET /api/v1/orders/{order_id}/timeline", Read),
    ("GET /api/v1/orders/{order_id}", Read), // with `min_version`: Own(Class::WaitingReads)
    ("GET /api/v1/orders/customer/{customer_id}", Read), // with `status`: Own(Class::Searches), because it reads the whole list
    ("GET /api/v1/customers/{customer_id}", Read),
    ("GET /api/v1/products", Own(Class::Searches)),
    ("GET /api/v1/products/{product_id}", Read),
    ("GET /api/v1/orders/{order_id}/ledger", Read),
    ("GET /api/v1/orders/search", Own(Class::Searches)),
    ("GET /api/v1/dead-letters", Own(Class::Searches)),
    ("POST /api/v1/dead-letters/redrive", Command),
    ("POST /api/v1/dead-letters/discard", Command),
    ("GET /api/v1/stats", Own(Class::Searches)),
    ("GET /api/v1/orders/{order_id}/events", Own(Class::EventLists)),
    ("GET /api/v1/events", Own(Class::EventLists)),
    ("GET /metrics", Own(Class::Scrapes)),
];

/// A route that is not in the table counts as a command, which is the strictest.
fn class_of(request: &ApiRequest, caller: &Caller) -> Class {
    let route = request.event.route();
    let counts = ROUTES.iter().find(|(key, _)| *key == route).map_or(Command, |(_, counts)| *counts);
    match counts {
        Own(class) => class,
        Read if request.event.query().any(|(name, _)| name == "min_version") => Class::WaitingReads,
        Read if request.event.query().any(|(name, _)| name == "status") => Class::Searches,
        Read if caller.staff.is_some() => Class::StaffReads,
        Read => Class::CustomerReads,
        Command if caller.staff.is_some() => Class::StaffCommands,
        Command if caller.carrier => Class::CarrierCommands,
        Command => Class::CustomerCommands,
    }
}

/// What stands before a handler, and beside it.
pub trait Gate: Sync {
    fn admit(&self, request: &ApiRequest) -> impl Future<Output = Admission> + Send;

    /// Does the work, and at the same time what is due besides.
    fn beside<T: Send>(&self, work: impl Future<Output = T> + Send) -> impl Future<Output = T> + Send;
}

/// Before a route that anybody may call without a token: nobody is known there, so nobody is limited.
pub struct Open;

impl Gate for Open {
    async fn admit(&self, _: &ApiRequest) -> Admission {
        Admission::Free
    }

    async fn beside<T: Send>(&self, work: impl Future<Output = T> + Send) -> T {
        work.await
    }
}

impl<L: Limits, S: Source, C: Counters> Gate for Limiter<L, S, C> {
    /// Whoever is unknown draws from nobody's bucket; the handler refuses them.
    async fn admit(&self, request: &ApiRequest) -> Admission {
        match request.caller() {
            Ok(caller) => self.ask(class_of(request, &caller), &caller.id, request.now).await,
            Err(_) => Admission::Free,
        }
    }

    async fn beside<T: Send>(&self, work: impl Future<Output = T> + Send) -> T {
        Self::beside(self, work).await
    }
}

impl Admission {
    pub(super) fn quota(&self) -> Option<&Quota> {
        match self {
            Self::Free => None,
            Self::Granted(quota) | Self::Refused(quota) => Some(quota),
        }
    }
}

impl Quota {
    pub(super) fn exceeded(&self) -> Problem {
        let (window, next) = (whole_seconds(self.bucket.window()), whole_seconds(self.next));
        Problem::rate_limited(self.class.name(), self.bucket.burst(), window, next)
    }

    /// With the fields of draft-ietf-httpapi-ratelimit-headers-10: `q` requests at once, as many again in `w` seconds, `r` of them
    /// left, and one more in `t` seconds.
    pub(super) fn tell(&self, answer: Response<Body>) -> Response<Body> {
        let Self { class, bucket, left, next } = self;
        let (name, window, next) = (class.name(), whole_seconds(bucket.window()), whole_seconds(*next));
        let policy = format!("\"{name}\";q={};w={window}", bucket.burst());
        let answer = with_header(answer, "ratelimit-policy", &policy);
        with_header(answer, "ratelimit", &format!("\"{name}\";r={left};t={next}"))
    }
}

/// Rounded up: who comes a part of a second too early is refused again.
fn whole_seconds(time: Duration) -> u32 {
    let seconds = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::{error::Error, sync::Arc};

    use application::memory::{Fault, MemoryCounters, MemoryLimits};
    use lambda_http::{Context, aws_lambda_events::apigw::ApiGatewayV2httpResponse};
    use serde_json::{Value, json};
    use settings::{Layers, Live};

    use super::*;
    use crate::http::answer;

    const ORDER: &str = include_str!("../../../../events/create-order.json");

    fn event(sample: &str) -> Value {
        serde_json::from_str(sample).unwrap()
    }

    fn request(event: &Value) -> ApiRequest {
        ApiRequest::from_event(&event.to_string(), chrono::Utc::now()).unwrap()
    }

    #[test]
    fn every_route_and_caller_has_its_class() {
        let claims = |caller: &str| match caller {
            "staff" => json!({"sub": "s-1", "cognito:groups": "[staff carrier]"}),
            "carrier" => json!({"sub": "c-1", "cognito:groups": "[carrier]"}),
            "machine" => json!({"sub": "m-1", "client_id": "m-1", "scope": "orders/carrier"}),
            "scraper" => json!({"sub": "m-2", "client_id": "m-2", "scope": "orders/metrics"}),
            _ => json!({"sub": "anna"}),
        };
        for (route, query, caller, class) in [
            ("POST /api/v1/orders", "", "customer", Class::CustomerCommands),
            ("POST /api/v1/orders", "", "staff", Class::StaffCommands),
            ("POST /api/v1/orders/{order_id}/delivery", "", "carrier", Class::CarrierCommands),
            ("POST /api/v1/orders/{order_id}/delivery", "", "machine", Class::CarrierCommands),
            ("POST /api/v1/orders/{order_id}/delivery", "", "staff", Class::StaffCommands),
            ("PUT /api/v1/customers/{customer_id}", "", "customer", Class::ProfileChanges),
            ("PUT /api/v1/customers/{customer_id}", "", "staff", Class::ProfileChanges),
            ("GET /api/v1/orders/{order_id}", "", "customer", Class::CustomerReads),
            ("GET /api/v1/orders/{order_id}", "", "carrier", Class::CustomerReads),
            ("GET /api/v1/orders/{order_id}", "", "staff", Class::StaffReads),
            ("GET /api/v1/orders/{order_id}", "min_version=5", "customer", Class::WaitingReads),
            ("GET /api/v1/orders/{order_id}", "a=1&min_version", "staff", Class::WaitingReads),
            ("GET /api/v1/orders/customer/{customer_id}", "page=2", "customer", Class::CustomerReads),
            ("GET /api/v1/orders/customer/{customer_id}", "page=2&status=created", "customer", Class::Searches),
            ("GET /api/v1/orders/search", "q=min_version", "staff", Class::Searches),
            ("GET /api/v1/events", "", "staff", Class::EventLists),
            ("GET /metrics", "", "scraper", Class::Scrapes),
            ("GET /metrics", "", "staff", Class::Scrapes),
            ("GET /nobody/knows", "", "customer", Class::CustomerCommands),
        ] {
            let mut event = event(ORDER);
            event["requestContext"]["routeKey"] = route.into();
            event["requestContext"]["authorizer"]["jwt"]["claims"] = claims(caller);
            event["rawQueryString"] = query.into();
            let request = request(&event);
            assert_eq!(class_of(&request, &request.caller().unwrap()), class, "{route}?{query} by {caller}");
        }
    }

    struct Nothing;

    impl Source for Nothing {
        async fn newer(&self) -> Result<Option<String>, Box<dyn Error + Send + Sync>> {
            Ok(None)
        }
    }

    type Process<'l> = Limiter<&'l MemoryLimits, Nothing, MemoryCounters>;

    /// One in which customers may send two commands at once, and one a minute; reads as in production.
    fn process(limits: &MemoryLimits) -> Process<'_> {
        let numbers =
            [("CUSTOMER_COMMANDS__PER_MINUTE", "1"), ("CUSTOMER_COMMANDS__BURST", "2"), ("DECLINE_COSTS", "1")];
        let environment = numbers.map(|(name, number)| (format!("APP__LIMITS__{name}"), number.to_owned()));
        let live = Live::new(Layers::new("prod".to_owned(), environment), Some(Nothing));
        Limiter::new(limits, Arc::new(live), MemoryCounters::default())
    }

    /// The answer of a function that says yes to whatever gets so far.
    async fn send(process: &Process<'_>, event: Value) -> ApiGatewayV2httpResponse {
        answer(event, &Context::default(), process, &async |_: ApiRequest| super::super::json(200, &())).await
    }

    #[tokio::test]
    async fn a_command_is_told_what_is_left_and_one_too_many_when_to_come_again() {
        let limits = MemoryLimits::default();
        let process = process(&limits);
        for left in [1, 0] {
            let granted = send(&process, event(ORDER)).await;
            assert_eq!(granted.status_code, 200);
            assert_eq!(granted.headers["ratelimit-policy"], "\"customer_commands\";q=2;w=120");
            assert_eq!(granted.headers["ratelimit"], format!("\"customer_commands\";r={left};t=60"));
            assert!(!granted.headers.contains_key("retry-after"));
        }
        let refused = send(&process, event(ORDER)).await;
        assert_eq!((refused.status_code, &refused.headers["retry-after"]), (429, &"60".parse().unwrap()));
        assert_eq!(refused.headers["ratelimit-policy"], "\"customer_commands\";q=2;w=120");
        assert_eq!(refused.headers["ratelimit"], "\"customer_commands\";r=0;t=60");
        assert_eq!(refused.headers["content-type"], "application/problem+json");
        assert_eq!(refused.headers["x-correlation-id"], "sample-1");
        let body: Value = serde_json::from_slice(refused.body.as_deref().unwrap()).unwrap();
        assert_eq!(body["type"], "urn:order-service:problem:rate-limited");
        assert_eq!((&body["status"], &body["limit"]), (&json!(429), &json!("customer_commands")));
        assert!(body["detail"].as_str().unwrap().contains("2 requests at once and as many again in 120 s"), "{body}");
    }

    #[tokio::test]
    async fn a_read_far_below_its_limit_is_told_nothing() {
        let limits = MemoryLimits::default();
        let read = send(&process(&limits), event(include_str!("../../../../events/get-order.json"))).await;
        assert_eq!((read.status_code, read.headers.get("ratelimit"), limits.draws()), (200, None, 0));
    }

    #[tokio::test]
    async fn who_is_unknown_or_sends_what_no_function_reads_draws_nothing() {
        let limits = MemoryLimits::default();
        let process = process(&limits);
        let mut unknown = event(ORDER);
        unknown["requestContext"].as_object_mut().unwrap().remove("authorizer");
        let mut twice = event(ORDER);
        twice["headers"]["content-type"] = "application/json,text/plain".into();
        let mut broken = event(ORDER);
        broken["headers"] = 7.into();
        for (event, status) in [(unknown, 200), (twice, 400), (broken, 400), (Value::Null, 400)] {
            let answer = send(&process, event).await;
            assert_eq!((answer.status_code, answer.headers.get("ratelimit")), (status, None));
        }
        assert_eq!(limits.draws(), 0);
    }

    #[tokio::test]
    async fn a_handler_that_refuses_or_panics_has_cost_a_token_and_one_that_is_refused_is_never_asked() {
        let limits = MemoryLimits::default();
        let process = process(&limits);
        let says_no = async |_: ApiRequest| Err(Problem::forbidden("not you"));
        let panics = async |_: ApiRequest| -> Result<Response<Body>, Problem> { panic!("a defect") };
        let context = Context::default();
        let refused = answer(event(ORDER), &context, &process, &says_no).await;
        assert_eq!(
            (refused.status_code, &refused.headers["ratelimit"]),
            (403, &"\"customer_commands\";r=1;t=60".parse().unwrap())
        );
        assert_eq!(answer(event(ORDER), &context, &process, &panics).await.status_code, 500);
        assert_eq!(answer(event(ORDER), &context, &process, &panics).await.status_code, 429);
    }

    #[tokio::test]
    async fn a_bucket_that_cannot_be_asked_lets_the_request_through_without_a_word() {
        let limits = MemoryLimits::default();
        limits.faults.push(Fault::AfterEffect);
        let process = process(&limits);
        let answer = send(&process, event(ORDER)).await;
        assert_eq!((answer.status_code, answer.headers.get("ratelimit")), (200, None));
        let answer = send(&process, event(ORDER)).await;
        assert_eq!(answer.headers["ratelimit"], "\"customer_commands\";r=0;t=60");
    }

    #[test]
    fn seconds_are_rounded_up() {
        for (milliseconds, seconds) in [(0, 0), (1, 1), (999, 1), (1_000, 1), (1_001, 2)] {
            assert_eq!(whole_seconds(Duration::from_millis(milliseconds)), seconds);
        }
    }
}
