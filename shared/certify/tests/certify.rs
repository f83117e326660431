//! The kit says of a provider that keeps the laws that it does, and names the law that another one breaks.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

use std::{collections::BTreeSet, future::pending, sync::Arc};

use axum::{Json, Router, http::StatusCode, routing::post};
use futures_util::{StreamExt, stream};
use providers::Remote;
use reference_provider::{Break, Reference, known_breaks, serve};
use serde_json::json;
use tokio::{net::TcpListener, process::Command};

/// What `certify` printed, and how it ended.
struct Certified {
    text: String,
    status: Option<i32>,
}

impl Certified {
    /// The laws of which this is said.
    fn laws(&self, said: &str) -> BTreeSet<&str> {
        let laws = self.text.lines().filter_map(|line| line.strip_prefix(said)).map(str::trim);
        laws.map(|law| law.split(':').next().unwrap()).collect()
    }
}

async fn certify(arguments: &[&str]) -> Certified {
    certify_with(arguments, &[]).await
}

async fn certify_with(arguments: &[&str], variables: &[(&str, &str)]) -> Certified {
    let mut run = Command::new(env!("CARGO_BIN_EXE_certify"));
    for other in ["VERBOSE", "TOKEN", "CA"] {
        run.env_remove(other);
    }
    let run = run.args(arguments).envs(variables.iter().copied()).output().await.unwrap();
    let text = [run.stdout, run.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    Certified { text, status: run.status.code() }
}

/// Where a provider is, over gRPC and over REST.
async fn start(reference: Reference) -> [String; 2] {
    let bind = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (grpc, rest) = (bind().await, bind().await);
    let urls = [format!("grpc://{}", grpc.local_addr().unwrap()), format!("http://{}", rest.local_addr().unwrap())];
    tokio::spawn(serve(Arc::new(reference), grpc, rest, pending()));
    urls
}

/// The laws of each port.
fn laws() -> [(&'static str, BTreeSet<&'static str>); 4] {
    [
        ("inventory", application::inventory_conformance!(conformance_laws, Remote)),
        ("payments", application::payments_conformance!(conformance_laws, Remote)),
        ("shipping", application::shipping_conformance!(conformance_laws, Remote)),
        ("notifications", application::notifications_conformance!(conformance_laws, Remote)),
    ]
    .map(|(port, laws)| (port, laws.iter().map(|law| law.name).collect()))
}

#[tokio::test]
async fn the_reference_provider_keeps_every_law_and_none_is_left_out() {
    for url in start(Reference::default()).await {
        for (port, laws) in laws() {
            let certified = certify(&[port, &url]).await;
            assert_eq!(certified.status, Some(0), "{url}: {}", certified.text);
            assert_eq!(certified.laws("holds "), laws);
        }
    }
}

#[tokio::test]
async fn a_provider_that_asks_for_a_token_is_shown_it_and_nobody_else_sees_it() {
    const TOKEN: &str = "canary-of-the-token";
    for url in start(Reference::default().with_token(TOKEN.to_owned())).await {
        let nobody = certify(&["notifications", &url]).await;
        assert_eq!(nobody.status, Some(2), "{}", nobody.text);
        let somebody = certify_with(&["notifications", &url], &[("TOKEN", TOKEN), ("VERBOSE", "1")]).await;
        assert_eq!(somebody.status, Some(0), "{}", somebody.text);
        assert!(!somebody.text.contains(TOKEN));
    }
}

#[tokio::test]
async fn roots_that_cannot_be_read_are_said() {
    let certified = certify_with(&["payments", "https://127.0.0.1:1"], &[("CA", "nowhere.pem")]).await;
    assert_eq!(certified.status, Some(2));
    assert!(certified.text.starts_with("nowhere.pem cannot be read: "), "{}", certified.text);
}

/// Who claims nothing is not held to the sandbox's laws; to all others, and so to those about keys that are barred.
#[tokio::test]
async fn a_law_is_skipped_that_needs_what_is_not_claimed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let claims_nothing = post(|| async { Json(json!({"capabilities": []})) });
    let routes = Router::new()
        .route("/v1/shipping/get-capabilities", claims_nothing)
        .fallback(|| async { StatusCode::SERVICE_UNAVAILABLE });
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let certified = certify(&["shipping", &url]).await;
    assert_eq!(certified.status, Some(1), "{}", certified.text);
    let laws = application::shipping_conformance!(conformance_laws, Remote);
    let of = |needs: Option<&str>| laws.iter().filter(|law| law.needs == needs).map(|law| law.name).collect();
    let (skipped, held): (BTreeSet<&str>, BTreeSet<&str>) = (of(Some("sandbox")), of(None));
    assert!(held.contains("a_shipment_that_is_cancelled_first_is_barred"));
    assert_eq!(certified.laws("skipped "), skipped, "{}", certified.text);
    assert_eq!(certified.laws("BROKEN "), held, "{}", certified.text);
    assert!(certified.text.contains("only for who claims `sandbox`") && certified.text.contains("HTTP status 503"));
}

/// The only law that no provider can break by itself: whoever asks for a product twice, the client asks for it once.
const KEPT_BY_THE_CLIENT: &str = "a_product_that_is_asked_for_twice_comes_once";

/// How many providers of a port are certified at a time. One run is mostly a wait: for a slow charge, for calls to meet.
const AT_A_TIME: usize = 6;

/// Each law that can be broken, by a provider that breaks it. They take turns with the transports: breaks are made above those.
async fn each_break_is_named(port: &str) {
    let (_, laws) = laws().into_iter().find(|(of, _)| *of == port).unwrap();
    let breaks: Vec<_> = known_breaks().filter(|of| laws.contains(of.law)).collect();
    let names: BTreeSet<&str> = breaks.iter().map(|of| of.law).collect();
    assert_eq!(names.len(), breaks.len(), "a law is broken by one break");
    let unbroken = laws.difference(&names).filter(|law| **law != KEPT_BY_THE_CLIENT);
    assert_eq!(unbroken.collect::<Vec<_>>(), Vec::<&&str>::new(), "nothing shows that the kit finds who breaks these");
    let each = stream::iter(breaks.into_iter().enumerate());
    each.for_each_concurrent(AT_A_TIME, async |(number, of)| {
        let [grpc, rest] = start(Reference::breaking(of.law).unwrap()).await;
        is_named(port, &laws, of, if number.is_multiple_of(2) { &grpc } else { &rest }).await;
    })
    .await;
}

async fn is_named(port: &str, laws: &BTreeSet<&str>, of: &Break, url: &str) {
    let may_break: BTreeSet<&str> = [of.law].into_iter().chain(of.also.iter().copied()).collect();
    assert!(may_break.is_subset(laws), "{}: no such law in {may_break:?}", of.law);
    let certified = certify(&[port, url]).await;
    assert_eq!(certified.status, Some(1), "{} at {url}: {}", of.law, certified.text);
    let broken = certified.laws("BROKEN ");
    assert!(broken.contains(of.law) && broken.is_subset(&may_break), "{} at {url}: {broken:#?}", of.law);
    let rest: BTreeSet<&str> = laws.difference(&broken).copied().collect();
    assert_eq!(certified.laws("holds "), rest, "{} at {url}: {}", of.law, certified.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_break_of_an_inventory_is_named() {
    each_break_is_named("inventory").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_break_of_payments_is_named() {
    each_break_is_named("payments").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_break_of_shipping_is_named() {
    each_break_is_named("shipping").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_break_of_notifications_is_named() {
    each_break_is_named("notifications").await;
}

#[tokio::test]
async fn wrong_usage_and_nobody_there_are_no_verdict() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for scheme in ["grpc", "http"] {
        let certified = certify(&["payments", &format!("{scheme}://{unused}")]).await;
        assert_eq!(certified.status, Some(2), "{}", certified.text);
        assert!(certified.text.contains("does not answer GetCapabilities"), "{}", certified.text);
    }
    for wrong in [&[][..], &["payments"], &["payment", "http://127.0.0.1:1"], &["payments", "http://a.example"]] {
        let certified = certify(wrong).await;
        assert_eq!(certified.status, Some(2), "{wrong:?}: {}", certified.text);
    }
}
