//! What a function still does when its process is ended.

use std::{process, time::Duration};

use http_body_util::Full;
use hyper::{Request, StatusCode, body::Bytes};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    time::timeout,
};
use tracing::debug;

use crate::variable;

/// How long that may take. After `SIGTERM`, Lambda waits for 500 ms before it kills a function with an extension of its own.
const LEFT: Duration = Duration::from_millis(300);

/// How long a start waits for it to be registered.
const PATIENCE: Duration = Duration::from_millis(200);

const EXTENSIONS: &str = "2020-01-01/extension";

/// Has this done when the process is told to end, as far as 300 ms suffice. To be awaited in `main`, before the first invocation.
///
/// Lambda sends `SIGTERM` only to functions that have an extension, so this registers one that listens to nothing. Where there are no
/// extensions, as in the emulator, nothing is registered and the signal is waited for all the same. (The handler that `lambda_runtime`
/// has for this ends the process there, because it takes the registration for granted, and it writes lines that are no JSON.)
pub async fn at_the_end(work: impl Future<Output = ()> + Send + 'static) {
    let Ok(mut told) = signal(SignalKind::terminate()) else { return };
    if let Some(api) = variable("AWS_LAMBDA_RUNTIME_API") {
        // Never cut short: for what is registered Lambda waits until it has asked, before it begins with invocations. What it asks is
        // never answered.
        let (registers, registered) = oneshot::channel();
        tokio::spawn(async move {
            let listening = register(&api).await;
            let _ = registers.send(listening.is_some());
            if let Some(listening) = listening {
                listening.await;
            }
        });
        if !matches!(timeout(PATIENCE, registered).await, Ok(Ok(true))) {
            debug!("no extension is registered so far: counts of the last seconds may be lost");
        }
    }
    tokio::spawn(async move {
        if told.recv().await.is_some() {
            let _ = timeout(LEFT, work).await;
            process::exit(0);
        }
    });
}

/// Answers what is to go on for as long as the process does; `None` where there are no extensions.
async fn register(api: &str) -> Option<impl Future<Output = ()> + Send + 'static> {
    let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let register = Request::post(format!("http://{api}/{EXTENSIONS}/register"));
    let register = register.header("Lambda-Extension-Name", "end").body(Full::from(r#"{"events":[]}"#)).ok()?;
    let registered = client.request(register).await.ok().filter(|answer| answer.status() == StatusCode::OK)?;
    let id = registered.headers().get("Lambda-Extension-Identifier")?;
    let next = Request::get(format!("http://{api}/{EXTENSIONS}/event/next"));
    let next = next.header("Lambda-Extension-Identifier", id).body(Full::default()).ok()?;
    Some(async move { drop(client.request(next).await) })
}
