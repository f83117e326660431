//! Providers that fail, or answer what the contract does not have: nothing of it is believed, and nothing panics.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that panics has failed, as it should"
)]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use application::ports::{Catalogue, ChargeError, ChargeRequest, ListProductsError, Payments, ProviderError};
use axum::{
    Router,
    http::{HeaderMap, HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
};
use domain::{
    ids::{CustomerId, OrderId, PaymentMethod},
    money::{Currency, Money},
};
use providers::{Port, Remote, breaker};
use settings::Address;
use telemetry::{Hop, Kind, Trace};
use tokio::net::TcpListener;
use tracing::Instrument;
use uuid::Uuid;

const JSON: &str = "application/json";
/// More than an answer takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(5);

/// The headers of each call that came.
type Calls = Arc<Mutex<Vec<HeaderMap>>>;

/// A server that answers every call like this, after a while.
async fn server(status: u16, media_type: &'static str, body: String, after: Duration) -> (String, Calls) {
    let calls = Calls::default();
    let seen = Arc::clone(&calls);
    let answer = async move |headers: HeaderMap| {
        seen.lock().unwrap().push(headers);
        tokio::time::sleep(after).await;
        (StatusCode::from_u16(status).unwrap(), [(CONTENT_TYPE, media_type)], body.clone()).into_response()
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    (address, calls)
}

fn remote(url: &str) -> Remote {
    Remote::new(Port::Payments, vec![Address::parse(url).unwrap()], DEADLINE, breaker::Settings::default())
}

fn request() -> ChargeRequest {
    ChargeRequest {
        idempotency_key: Uuid::new_v4(),
        order_id: OrderId::new(Uuid::new_v4()),
        customer_id: CustomerId::parse("anna").unwrap(),
        payment_method: PaymentMethod::parse("pm_card_visa").unwrap(),
        amount: Money::new(1999, Currency::parse("CNY").unwrap()).unwrap(),
    }
}

/// What became of one charge there.
async fn charge(remote: &Remote) -> ProviderError {
    let unavailable = match remote.charge(&request()).await {
        Err(ChargeError::Unavailable(error)) => error,
        other => panic!("{other:?} was believed"),
    };
    *unavailable.source.downcast().expect("the source says what happened")
}

#[tokio::test]
async fn who_claims_no_list_of_products_is_not_asked_for_one() {
    let (address, calls) = server(200, JSON, r#"{"capabilities": ["bars_keys"]}"#.to_owned(), Duration::ZERO).await;
    let listed = remote(&format!("http://{address}")).list_products(None, 2).await;
    assert!(matches!(listed, Err(ListProductsError::NotSupported)), "{listed:?}");
    assert_eq!(calls.lock().unwrap().len(), 1);
}

/// Two fields of one name, and a number that is a text: neither can be asked for over gRPC.
#[tokio::test]
async fn what_only_json_can_have_wrong_is_not_believed_and_not_repeated() {
    let twice = r#"{"declined": {"reason": "one"}, "declined": {"reason": "other"}}"#;
    let text = r#"{"charged": {"transaction_id": "yesterday", "amount": {"amount": "1999", "currency": "CNY"}}}"#;
    for (body, named) in [(twice, "outcome"), (text, "outcome"), (r#"{"declined": {"reason": "yester"#, "the answer")] {
        let (address, _) = server(200, JSON, body.to_owned(), Duration::ZERO).await;
        match charge(&remote(&format!("http://{address}"))).await {
            ProviderError::Misbehaved { field, problem } => {
                assert_eq!(field, named, "{body}");
                assert!(!problem.contains("yester"), "it repeats the answer: {problem}");
            }
            other => panic!("{body}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn any_other_status_nobody_and_nothing_in_time_are_failures() {
    for status in [204, 302, 401, 429, 500, 503] {
        let (address, _) = server(status, JSON, "{}".to_owned(), Duration::ZERO).await;
        let error = charge(&remote(&format!("http://{address}"))).await;
        assert!(matches!(error, ProviderError::Failed(_)), "{status}: {error:?}");
    }
    let (slow, _) = server(200, JSON, "{}".to_owned(), DEADLINE * 4).await;
    assert!(matches!(
        charge(&remote(&format!("http://{slow}"))).await,
        ProviderError::TimedOut(_) | ProviderError::Failed(_)
    ));
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for scheme in ["http", "grpc"] {
        assert!(matches!(charge(&remote(&format!("{scheme}://{unused}"))).await, ProviderError::Failed(_)), "{scheme}");
    }
    // Somebody is there, and speaks another language.
    let (other, _) = server(200, JSON, "{}".to_owned(), Duration::ZERO).await;
    let error = charge(&remote(&format!("grpc://{other}"))).await;
    assert!(matches!(error, ProviderError::Failed(_) | ProviderError::Misbehaved { .. }), "{error:?}");
}

/// A gRPC server that answers every call with these headers, and nothing else.
async fn grpc_server(headers: &'static [(&'static str, &'static str)]) -> Remote {
    let answer = async move || {
        let mut answer = StatusCode::OK.into_response();
        for (name, value) in [("content-type", "application/grpc")].iter().chain(headers) {
            answer.headers_mut().insert(*name, HeaderValue::from_static(value));
        }
        answer
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    remote(&format!("grpc://{address}"))
}

/// The library has the first two for what it cannot decode, too. At the details of the last it panics: in a run that looks at many
/// orders, that would be the end of the others as well.
#[tokio::test]
async fn a_grpc_status_that_the_provider_has_said_is_a_failure() {
    for headers in [
        [("grpc-status", "13")].as_slice(),
        &[("grpc-status", "11")],
        &[("grpc-status", "14")],
        &[("grpc-status", "14"), ("grpc-status-details-bin", "!")],
    ] {
        let error = charge(&grpc_server(headers).await).await;
        assert!(matches!(error, ProviderError::Failed(_)), "{headers:?}: {error:?}");
    }
    let error = charge(&grpc_server(&[]).await).await;
    assert!(matches!(error, ProviderError::Failed(_) | ProviderError::Misbehaved { .. }), "{error:?}");
}

#[tokio::test]
async fn a_provider_that_fails_five_times_is_left_alone() {
    let (address, calls) = server(500, JSON, "{}".to_owned(), Duration::ZERO).await;
    let remote = remote(&format!("http://{address}"));
    for _ in 0..5 {
        assert!(matches!(charge(&remote).await, ProviderError::Failed(_)));
    }
    for _ in 0..20 {
        assert!(matches!(charge(&remote).await, ProviderError::ShutOff { .. }));
    }
    assert_eq!(calls.lock().unwrap().len(), 5);
}

/// Whoever orders something odd must not stop everybody else's orders.
#[tokio::test]
async fn an_answer_that_is_not_believed_opens_no_breaker() {
    let (address, calls) = server(200, JSON, r#"{"charged": {}}"#.to_owned(), Duration::ZERO).await;
    let remote = remote(&format!("http://{address}"));
    for _ in 0..20 {
        assert!(matches!(charge(&remote).await, ProviderError::Misbehaved { .. }));
    }
    assert_eq!(calls.lock().unwrap().len(), 20);
}

#[tokio::test]
async fn a_page_instead_of_a_message_opens_the_breaker() {
    let (address, calls) = server(200, "text/html", "<html>".to_owned(), Duration::ZERO).await;
    let remote = remote(&format!("http://{address}"));
    for _ in 0..20 {
        charge(&remote).await;
    }
    assert_eq!(calls.lock().unwrap().len(), 5);
}

#[tokio::test]
async fn a_request_that_is_refused_opens_no_breaker() {
    for status in [400, 404, 422] {
        let (address, calls) = server(status, JSON, "{}".to_owned(), Duration::ZERO).await;
        let remote = remote(&format!("http://{address}"));
        for _ in 0..20 {
            assert!(matches!(charge(&remote).await, ProviderError::Rejected(_)), "{status}");
        }
        assert_eq!(calls.lock().unwrap().len(), 20);
    }
}

#[tokio::test]
async fn of_two_instances_the_other_one_is_called_after_a_failure() {
    let declined = r#"{"declined": {"reason": "card_declined"}}"#;
    let (good, _) = server(200, JSON, declined.to_owned(), Duration::ZERO).await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    for _ in 0..8 {
        let addresses = [&good, &gone].map(|at| Address::parse(&format!("http://{at}")).unwrap());
        let remote = Remote::new(Port::Payments, addresses.to_vec(), DEADLINE, breaker::Settings::default());
        let mut answers = Vec::new();
        for _ in 0..2 {
            answers.push(remote.charge(&request()).await);
        }
        let declined = |answer: &Result<_, _>| matches!(answer, Err(ChargeError::Declined(_)));
        assert!(answers.iter().any(declined), "{answers:?}");
    }
}

#[tokio::test]
async fn key_correlation_and_trace_go_along() {
    // Over gRPC it is no message, and has been asked for like one.
    let declined = r#"{"declined": {"reason": "card_declined"}}"#;
    let (address, calls) = server(200, JSON, declined.to_owned(), Duration::ZERO).await;
    for scheme in ["http", "grpc"] {
        let (remote, request) = (remote(&format!("{scheme}://{address}")), request());
        let trace = Trace::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        let step = async {
            let step = Hop::new("process-payment", Kind::Server, trace);
            let charge = remote.charge(&request).instrument(step.span());
            Box::pin(telemetry::correlating("correlation".to_owned(), charge)).await.unwrap_err();
        };
        let ((), spans) = telemetry::recorded(1.0, step).await;
        let call = calls.lock().unwrap().pop().unwrap();
        let header = |name: &str| call.get(name).unwrap().to_str().unwrap();
        assert_eq!(header("content-type").starts_with("application/grpc"), scheme == "grpc");
        assert_eq!(header("idempotency-key"), request.idempotency_key.to_string(), "{scheme}");
        assert_eq!(header("x-correlation-id"), "correlation", "{scheme}");
        let call = spans.iter().find(|span| span.name == "orders.providers.v1.Payments/Charge").unwrap();
        let (trace, span) = (call.span_context.trace_id(), call.span_context.span_id());
        let expected = format!("00-{trace}-{span}-01");
        assert_eq!(header("traceparent"), expected, "{scheme}: whoever is called goes on from the call");
        assert_eq!(trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
    }
}
