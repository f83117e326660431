//! Requests that nobody means well with. The tests of every HTTP function feed them to its handler, as whole events of API
//! Gateway, and hold what must be true of any answer (feature `testing`).

#![expect(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "this is a test that the functions share, and a test fails by panicking"
)]

use lambda_http::{Body, Context, Response};
use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::{Value, json};

use super::{ApiRequest, Open, Problem, answer};

/// Each function gets so many, or as many as `HOSTILE` says: close to 200,000 in all.
const EVENTS: usize = 10_000;

/// What one event has that the sample has not.
#[derive(Debug, Clone)]
enum Change {
    Query(String),
    Parameter(&'static str, String),
    Path(String),
    Header(&'static str, String),
    OddHeader(String, String),
    Claim(&'static str, String),
    Method(String),
    Body(String),
    /// A value somewhere in the body becomes another one.
    Field(usize, Value),
    /// A member of the body stands there twice.
    Twice,
    Base64(bool),
    /// A part of the event is not what it should be.
    Broken(&'static str, Value),
}

const NASTY: [&str; 35] = [
    "",
    "*",
    " ",
    "<script>",
    "\"",
    "'",
    ">",
    "a>b<c",
    "%",
    "%zz",
    "%00",
    "%F0%28",
    "+",
    "&=&=",
    "?",
    "#",
    "//",
    "..",
    "\\",
    "\r\n\r\n",
    "\u{0}",
    "\u{1}\u{8}\u{e}\u{1f}\u{7f}",
    "\u{feff}",
    "\u{202e}abc",
    "\u{fffd}",
    "\u{fdfa}\u{fdfa}",
    "ﬃ",
    "ß",
    "😀",
    "null",
    "18446744073709551616",
    "-1",
    "1e999",
    "9999-12-31T23:59:60Z",
    "{\"a\":1,\"a\":2}",
];

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => select(&NASTY[..]).prop_map(str::to_owned),
        2 => any::<String>(),
        1 => vec(select(&NASTY[..]), 1..8).prop_map(|parts| parts.concat()),
        1 => ("[a-z\u{0}-\u{ff}]", 1..5_000_usize).prop_map(|(part, times)| part.repeat(times)),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => text().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        1 => select(vec![
            Value::Null, json!(true), json!(u64::MAX), json!([]), json!({}), json!([[[[]]]]), json!({"": {"": null}}), json!(vec![0; 300]),
        ]),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    let parameters = [
        "page",
        "page_size",
        "status",
        "q",
        "at",
        "min_version",
        "cursor",
        "from",
        "to",
        "after",
        "type",
        "limit",
        "zzz",
    ];
    let headers = [
        "idempotency-key",
        "x-correlation-id",
        "traceparent",
        "content-type",
        "if-none-match",
        "host",
        "x-forwarded-proto",
        "x-forwarded-port",
        "content-length",
        "authorization",
        "IDEMPOTENCY-KEY",
        "cookie",
        "accept",
    ];
    let claims = ["sub", "token_use", "cognito:groups", "groups", "scope", "client_id", "username"];
    let parts = [
        "/headers",
        "/rawQueryString",
        "/rawPath",
        "/pathParameters",
        "/body",
        "/isBase64Encoded",
        "/requestContext",
        "/requestContext/http",
        "/requestContext/http/method",
        "/requestContext/authorizer",
        "/requestContext/authorizer/jwt/claims",
    ];
    prop_oneof![
        2 => text().prop_map(Change::Query),
        3 => (select(parameters.to_vec()).prop_map(str::to_owned), text())
            .prop_map(|(name, value)| Change::Query(format!("{name}={value}"))),
        3 => (select(&["order_id", "customer_id", "product_id"][..]), text()).prop_map(|(name, value)| Change::Parameter(name, value)),
        1 => text().prop_map(Change::Path),
        4 => (select(headers.to_vec()), text()).prop_map(|(name, value)| Change::Header(name, value)),
        1 => (text(), text()).prop_map(|(name, value)| Change::OddHeader(name, value)),
        2 => (select(claims.to_vec()), text()).prop_map(|(name, value)| Change::Claim(name, value)),
        1 => text().prop_map(Change::Method),
        1 => text().prop_map(Change::Body),
        6 => (any::<usize>(), value()).prop_map(|(which, value)| Change::Field(which, value)),
        1 => Just(Change::Twice),
        1 => any::<bool>().prop_map(Change::Base64),
        1 => (select(parts.to_vec()), value()).prop_map(|(part, value)| Change::Broken(part, value)),
    ]
}

fn set(event: &mut Value, part: &str, name: &str, value: &str) {
    if let Some(members) = event.pointer_mut(part).and_then(Value::as_object_mut) {
        members.insert(name.to_owned(), value.into());
    }
}

/// Every place in a value that can be replaced.
fn places(value: &Value, here: String, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                places(member, format!("{here}/{}", name.replace('~', "~0").replace('/', "~1")), found);
            }
        }
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                places(element, format!("{here}/{index}"), found);
            }
        }
        _ => {}
    }
    found.push(here);
}

impl Change {
    fn make(self, event: &mut Value) {
        match self {
            Self::Query(query) => event["rawQueryString"] = query.into(),
            Self::Parameter(name, value) => set(event, "/pathParameters", name, &value),
            Self::Path(path) => event["rawPath"] = path.into(),
            Self::Header(name, value) => set(event, "/headers", name, &value),
            Self::OddHeader(name, value) => set(event, "/headers", &name, &value),
            Self::Claim(name, value) => set(event, "/requestContext/authorizer/jwt/claims", name, &value),
            Self::Method(method) => event["requestContext"]["http"]["method"] = method.into(),
            Self::Body(body) => event["body"] = body.into(),
            Self::Field(which, value) => {
                let body = event["body"].as_str().and_then(|body| serde_json::from_str::<Value>(body).ok());
                let Some(mut body) = body else { return };
                let mut found = Vec::new();
                places(&body, String::new(), &mut found);
                if let Some(place) = body.pointer_mut(&found[which % found.len()]) {
                    *place = value;
                }
                event["body"] = body.to_string().into();
            }
            Self::Twice => {
                let Some(body) = event["body"].as_str().filter(|body| body.contains('{')) else { return };
                event["body"] = body.replacen('{', "{\"reason\": 1, \"reason\": 1, ", 1).into();
            }
            Self::Base64(is_base64) => event["isBase64Encoded"] = is_base64.into(),
            Self::Broken(part, value) => {
                if let Some(place) = event.pointer_mut(part) {
                    *place = value;
                }
            }
        }
    }
}

/// Sends thousands of hostile events, made from a function's sample, to its handler.
///
/// # Panics
///
/// When one is answered with a 5xx or with something that is not whole, or is refused but has changed `state`.
pub async fn is_answered<F, A, S>(sample: &str, handle: F, state: impl Fn() -> S)
where
    F: Fn(ApiRequest) -> A + Sync,
    A: Future<Output = Result<Response<Body>, Problem>> + Send,
    S: PartialEq + std::fmt::Debug,
{
    let sample: Value = serde_json::from_str(sample).expect("the sample is JSON");
    let count = std::env::var("HOSTILE").ok().and_then(|count| count.parse().ok()).unwrap_or(EVENTS);
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[11; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let changes = vec(change(), 1..4);
    let (mut before, mut taken, mut refused) = (state(), 0_usize, 0_usize);
    for number in 0..count {
        let changes = changes.new_tree(&mut runner).expect("there is a next value").current();
        let said = format!("event {number}, {changes:?}");
        let mut event = sample.clone();
        for change in changes {
            // A part that an earlier change has broken cannot be changed once more.
            if event.is_object() && event["requestContext"]["http"].is_object() {
                change.make(&mut event);
            }
        }
        let answer = answer(event, &Context::default(), &Open, &handle).await;
        assert!((200..500).contains(&answer.status_code), "{} for {said}", answer.status_code);
        for header in ["x-correlation-id", "cache-control"] {
            assert_eq!(answer.headers.get_all(header).iter().count(), 1, "{header} for {said}");
        }
        if answer.status_code >= 400 {
            let body: Value =
                serde_json::from_slice(answer.body.as_deref().unwrap_or_default()).expect("a problem is JSON");
            assert_eq!(body["status"], answer.status_code, "{said}");
            assert_eq!(state(), before, "refused, but something has changed: {said}");
            refused += 1;
        } else {
            before = state();
            taken += 1;
        }
        let sent = serde_json::to_value(&answer).expect("an answer can be sent");
        assert!(sent.get("body").is_none_or(Value::is_string), "{sent} for {said}");
    }
    // Or else the handler was never asked, or never refused anything.
    assert!(taken > 0 && refused > 0, "{taken} taken, {refused} refused");
}
