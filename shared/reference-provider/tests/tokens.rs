//! A provider that asks for a bearer token: it is shown the newest one, and nobody else sees any.

#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

use std::{
    collections::VecDeque,
    error::Error,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use application::ports::{Payments, ProviderError};
use domain::ids::OrderId;
use futures_util::future::BoxFuture;
use providers::{Port, Remote, breaker};
use reference_provider::{Reference, serve};
use secrecy::SecretString;
use settings::{Address, Secrets};
use tokio::net::TcpListener;
use uuid::Uuid;

const SCHEMES: [&str; 2] = ["grpc", "http"];
const OLD: &str = "canary-of-the-old-token";
const NEW: &str = "canary-of-the-new-token";

/// Answers these one after another, and the last of them for ever; counts how often it was asked.
#[derive(Clone)]
struct Script(Arc<Mutex<(VecDeque<&'static str>, usize)>>);

impl Script {
    fn new(answers: &[&'static str]) -> Self {
        Self(Arc::new(Mutex::new((answers.iter().copied().collect(), 0))))
    }

    fn reads(&self) -> usize {
        self.0.lock().unwrap().1
    }
}

impl Secrets for Script {
    fn read<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<SecretString, Box<dyn Error + Send + Sync>>> {
        assert_eq!(name, "stack/pay");
        let mut script = self.0.lock().unwrap();
        script.1 += 1;
        let answer = if script.0.len() > 1 { script.0.pop_front() } else { script.0.front().copied() };
        let answer = answer.map(SecretString::from).ok_or_else(|| "nobody keeps secrets".into());
        Box::pin(async move { answer })
    }
}

/// The way to a provider that asks for the new token.
async fn without_token(scheme: &str) -> Remote {
    let bind = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (grpc, rest) = (bind().await, bind().await);
    let at = if scheme == "grpc" { grpc.local_addr() } else { rest.local_addr() }.unwrap();
    let reference = Reference::default().with_token(NEW.to_owned());
    tokio::spawn(serve(Arc::new(reference), grpc, rest, std::future::pending()));
    let address = Address::parse(&format!("{scheme}://{at}")).unwrap();
    Remote::new(Port::Payments, vec![address], Duration::from_secs(5), breaker::Settings::default())
}

/// With the secrets that the token is taken from.
async fn remote(scheme: &str, answers: &[&'static str]) -> (Remote, Script) {
    let secrets = Script::new(answers);
    let remote = without_token(scheme).await;
    (remote.with_token("stack/pay".to_owned(), Arc::new(secrets.clone())), secrets)
}

/// What an error says, with all that caused it.
fn said(error: &dyn Error) -> String {
    let mut said = format!("{error} {error:?}");
    if let Some(source) = error.source() {
        said += &self::said(source);
    }
    said
}

async fn call(remote: &Remote) -> Result<(), ProviderError> {
    match remote.ledger(OrderId::new(Uuid::new_v4())).await {
        Ok(_) => Ok(()),
        Err(error) => {
            let said = said(&error);
            assert!(!said.contains("canary"), "it shows the token: {said}");
            Err(*error.source.downcast().unwrap())
        }
    }
}

#[tokio::test]
async fn a_token_is_read_once_for_many_calls() {
    for scheme in SCHEMES {
        let (remote, secrets) = remote(scheme, &[NEW]).await;
        for _ in 0..3 {
            call(&remote).await.unwrap();
        }
        assert_eq!(secrets.reads(), 1, "{scheme}");
    }
}

#[tokio::test]
async fn the_line_s_end_of_an_editor_is_no_part_of_a_token() {
    let (remote, _) = remote("http", &["canary-of-the-new-token\r\n"]).await;
    call(&remote).await.unwrap();
}

#[tokio::test]
async fn a_token_that_was_changed_is_read_again_within_the_call_that_was_refused() {
    for scheme in SCHEMES {
        let (remote, secrets) = remote(scheme, &[OLD, NEW]).await;
        call(&remote).await.unwrap();
        call(&remote).await.unwrap();
        assert_eq!(secrets.reads(), 2, "{scheme}");
    }
}

#[tokio::test]
async fn a_wrong_token_stays_a_failure_and_is_tried_once_more_only_where_it_has_changed() {
    for scheme in SCHEMES {
        for answers in [&[OLD][..], &[OLD, "canary-of-another", "canary-of-a-third"]] {
            let (remote, secrets) = remote(scheme, answers).await;
            assert!(matches!(call(&remote).await, Err(ProviderError::Failed(_))), "{scheme}");
            assert_eq!(secrets.reads(), 2, "{scheme}: once for the call, and once because it was refused");
        }
    }
}

#[tokio::test]
async fn without_a_token_nobody_is_called() {
    for answers in [&[][..], &["{\"token\": \"canary\"}"], &["canary of two\nlines"], &[" "]] {
        let (remote, secrets) = remote("http", answers).await;
        let error = call(&remote).await.unwrap_err();
        assert!(said(&error).contains("token"), "{error:?}");
        assert_eq!(secrets.reads(), 1, "a provider that nobody has called has refused nothing");
    }
}

#[tokio::test]
async fn a_provider_that_asks_for_a_token_answers_nobody_without() {
    for scheme in SCHEMES {
        let error = call(&without_token(scheme).await).await.unwrap_err();
        assert!(said(&error).to_ascii_lowercase().contains(if scheme == "grpc" { "unauthenticated" } else { "401" }));
    }
}

/// What is logged while a token is refused, read anew, and refused again.
#[tokio::test(flavor = "current_thread")]
async fn no_log_shows_a_token() {
    let lines = Lines::default();
    let log = lines.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || log.clone()).finish();
    let asked = async {
        for scheme in SCHEMES {
            for answers in [&[OLD, NEW][..], &[OLD], &[OLD, "canary{}"], &["canary{}"]] {
                let (remote, _) = remote(scheme, answers).await;
                for _ in 0..5 {
                    let _ = call(&remote).await;
                }
            }
        }
    };
    telemetry::heard_by(subscriber, asked).await;
    let lines = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(lines.contains("token not read again") && lines.contains("circuit breaker changed"), "{lines}");
    assert_eq!(lines.lines().find(|line| line.contains("canary")), None);
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
