//! The way that spans take from a function: to a collector by OTLP over HTTP, or to the daemon that Lambda runs beside each
//! function that is traced, which hands them on to X-Ray.

use std::{
    error::Error,
    io,
    net::UdpSocket,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use http_body_util::Full;
use hyper::{Request, StatusCode, Uri, body::Bytes, header::CONTENT_TYPE};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy::{Client, ResponseFuture, connect::HttpConnector},
    rt::TokioExecutor,
};
use opentelemetry_proto::{
    tonic::collector::trace::v1::ExportTraceServiceRequest,
    transform::{common::tonic::ResourceAttributesWithSchema, trace::tonic::group_spans_by_resource_and_scope},
};
use opentelemetry_sdk::{Resource, trace::SpanData};
use prost::Message;
use tokio::time::{Instant, timeout};
use tracing::warn;

use crate::variable;

/// How long a collector may take. Whoever asked the function waits for it, too.
const PATIENCE: Duration = Duration::from_millis(250);

/// How long a collector that failed is left alone. Its spans are lost meanwhile.
const LEFT_ALONE: Duration = Duration::from_secs(30);

/// The most spans in one datagram: with all that they say, they are some 500 bytes each, and 64 KB is the most that fits.
const SPANS_PER_DATAGRAM: usize = 50;

/// What the daemon knows a document by, and that it is of spans that are sampled. As the ADOT layers send it.
const DATAGRAM: &str = "{\"format\":\"json\",\"version\":1}\nT1S";

type Sender = Box<dyn Fn(Request<Full<Bytes>>) -> ResponseFuture + Send + Sync>;

enum Way {
    Collector { url: Uri, send: Sender },
    Daemon(UdpSocket),
}

pub(crate) struct Exporter {
    way: Way,
    resource: ResourceAttributesWithSchema,
    failed_at: Mutex<Option<Instant>>,
}

#[derive(Debug, thiserror::Error)]
enum NotHandedOn {
    #[error("the endpoint is no URL")]
    NoUrl(#[source] hyper::http::Error),
    #[error("the roots of this system cannot be read")]
    NoRoots(#[source] io::Error),
    #[error("the collector cannot be reached")]
    Unreachable(#[source] Box<dyn Error + Send + Sync>),
    #[error("the collector answers {0}")]
    Refused(StatusCode),
    #[error("the collector does not answer in time")]
    TimedOut,
    #[error("the daemon cannot be reached")]
    NoDaemon(#[source] io::Error),
}

impl Exporter {
    /// The way that the environment names, by OpenTelemetry's and Lambda's variables; `None` when it names none.
    pub(crate) fn of_environment(resource: &Resource) -> Option<Self> {
        let way = match (variable("OTEL_EXPORTER_OTLP_ENDPOINT"), variable("AWS_XRAY_DAEMON_ADDRESS")) {
            (Some(endpoint), _) => collector(&endpoint),
            (None, Some(address)) => daemon(&address),
            (None, None) => return None,
        };
        let way = way.inspect_err(|error| warn!(error = told(error), "spans are not handed on")).ok()?;
        Some(Self { way, resource: resource.into(), failed_at: Mutex::default() })
    }

    pub(crate) fn is_to_xray(&self) -> bool {
        matches!(self.way, Way::Daemon(_))
    }

    pub(crate) async fn export(&self, spans: Vec<SpanData>) {
        let failed_at = || self.failed_at.lock().unwrap_or_else(PoisonError::into_inner);
        if failed_at().is_some_and(|failed_at| failed_at.elapsed() < LEFT_ALONE) {
            return;
        }
        let outcome = match &self.way {
            Way::Collector { url, send } => post(url, send, self.encode(spans)).await,
            Way::Daemon(socket) => spans.chunks(SPANS_PER_DATAGRAM).try_for_each(|spans| {
                let document = format!("{DATAGRAM}{}", BASE64_STANDARD.encode(self.encode(spans.to_vec())));
                socket.send(document.as_bytes()).map(drop).map_err(NotHandedOn::NoDaemon)
            }),
        };
        *failed_at() = match outcome {
            Ok(()) => None,
            Err(error) => {
                warn!(error = told(&error), "spans not handed on");
                Some(Instant::now())
            }
        };
    }

    fn encode(&self, spans: Vec<SpanData>) -> Vec<u8> {
        let resource_spans = group_spans_by_resource_and_scope(spans, &self.resource);
        ExportTraceServiceRequest { resource_spans }.encode_to_vec()
    }
}

fn collector(endpoint: &str) -> Result<Way, NotHandedOn> {
    let url: Uri = format!("{}/v1/traces", endpoint.trim_end_matches('/'))
        .parse()
        .map_err(|error: hyper::http::uri::InvalidUri| NotHandedOn::NoUrl(error.into()))?;
    let builder = Client::builder(TokioExecutor::new());
    let send: Sender = if url.scheme_str() == Some("https") {
        let tls = HttpsConnectorBuilder::new().with_native_roots().map_err(NotHandedOn::NoRoots)?;
        let client = builder.build(tls.https_only().enable_http1().build());
        Box::new(move |request| client.request(request))
    } else {
        let client = builder.build(HttpConnector::new());
        Box::new(move |request| client.request(request))
    };
    Ok(Way::Collector { url, send })
}

fn daemon(address: &str) -> Result<Way, NotHandedOn> {
    let socket = UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.connect(address).map(|()| socket));
    socket.map(Way::Daemon).map_err(NotHandedOn::NoDaemon)
}

async fn post(url: &Uri, send: &Sender, document: Vec<u8>) -> Result<(), NotHandedOn> {
    let request = Request::post(url.clone()).header(CONTENT_TYPE, "application/x-protobuf");
    let request = request.body(Full::from(document)).map_err(NotHandedOn::NoUrl)?;
    match timeout(PATIENCE, send(request)).await {
        Ok(Ok(answer)) if answer.status().is_success() => Ok(()),
        Ok(Ok(answer)) => Err(NotHandedOn::Refused(answer.status())),
        Ok(Err(error)) => Err(NotHandedOn::Unreachable(error.into())),
        Err(_) => Err(NotHandedOn::TimedOut),
    }
}

/// With what it comes from.
fn told(error: &NotHandedOn) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use opentelemetry::{
        SpanId, TraceFlags, TraceId,
        trace::{SpanContext, SpanKind, TraceState},
    };
    use opentelemetry_sdk::trace::{SpanEvents, SpanLinks};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    fn spans(count: u64) -> Vec<SpanData> {
        let span = |id: u64| SpanData {
            span_context: SpanContext::new(
                TraceId::from(7),
                SpanId::from(id),
                TraceFlags::SAMPLED,
                false,
                TraceState::NONE,
            ),
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: SpanKind::Server,
            name: "POST /api/v1/orders".into(),
            start_time: std::time::UNIX_EPOCH,
            end_time: std::time::UNIX_EPOCH,
            attributes: vec![opentelemetry::KeyValue::new("order.id", "0197a3c2-7b1e-5c44-9d55-3f1f5c0c9a10")],
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: opentelemetry::trace::Status::Unset,
            instrumentation_scope: opentelemetry::InstrumentationScope::builder("create-order").build(),
        };
        (1..=count).map(span).collect()
    }

    fn exporter(way: Way) -> Exporter {
        let resource =
            Resource::builder_empty().with_attribute(opentelemetry::KeyValue::new("service.name", "orders")).build();
        Exporter { way, resource: (&resource).into(), failed_at: Mutex::default() }
    }

    fn count(document: &[u8]) -> usize {
        let request = ExportTraceServiceRequest::decode(document).unwrap();
        request.resource_spans.iter().flat_map(|resource| &resource.scope_spans).map(|scope| scope.spans.len()).sum()
    }

    #[tokio::test]
    async fn the_daemon_gets_documents_that_fit_into_a_datagram() {
        let daemon = UdpSocket::bind("127.0.0.1:0").unwrap();
        daemon.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let exporter = exporter(super::daemon(&daemon.local_addr().unwrap().to_string()).unwrap());
        exporter.export(spans(120)).await;
        let mut counts = Vec::new();
        while counts.iter().sum::<usize>() < 120 {
            let mut datagram = vec![0; 65_536];
            let length = daemon.recv(&mut datagram).unwrap();
            let text = std::str::from_utf8(&datagram[..length]).unwrap();
            let document = text.strip_prefix("{\"format\":\"json\",\"version\":1}\nT1S").unwrap();
            counts.push(count(&BASE64_STANDARD.decode(document).unwrap()));
        }
        assert_eq!(counts, [50, 50, 20]);
    }

    /// Answers each request that comes on its first connection with this status, and tells the bodies.
    async fn server(status: &'static str) -> (SocketAddr, tokio::task::JoinHandle<(String, Vec<u8>)>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answered = tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut read = Vec::new();
            loop {
                let mut part = [0; 4_096];
                let length = connection.read(&mut part).await.unwrap();
                read.extend_from_slice(&part[..length]);
                let Some(head) = read.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
                let text = String::from_utf8_lossy(&read[..head]).to_ascii_lowercase();
                let wanted = text
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: "))
                    .unwrap()
                    .parse::<usize>()
                    .unwrap();
                let body = &read[head..][4..];
                if body.len() == wanted {
                    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                    connection.write_all(answer.as_bytes()).await.unwrap();
                    return (text, body.to_vec());
                }
            }
        });
        (address, answered)
    }

    #[tokio::test]
    async fn a_collector_gets_them_as_its_protocol_says() {
        let (address, answered) = server("200 OK").await;
        let exporter = exporter(collector(&format!("http://{address}/")).unwrap());
        exporter.export(spans(3)).await;
        let (head, body) = answered.await.unwrap();
        assert!(
            head.starts_with("post /v1/traces http/1.1") && head.contains("content-type: application/x-protobuf"),
            "{head}"
        );
        assert_eq!(count(&body), 3);
        assert!(exporter.failed_at.lock().unwrap().is_none());
    }

    #[tokio::test]
    async fn a_collector_that_is_down_or_refuses_costs_its_spans_and_is_left_alone() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let (refusing, _answered) = server("503 Service Unavailable").await;
        for address in [gone, refusing] {
            let exporter = exporter(collector(&format!("http://{address}")).unwrap());
            let ((), lines) = crate::logs::logged(async {
                for _ in 0..3 {
                    exporter.export(spans(1)).await;
                }
            })
            .await;
            assert_eq!(lines.iter().filter(|line| line.contains("spans not handed on")).count(), 1, "{lines:?}");
        }
    }

    #[tokio::test]
    async fn a_collector_that_says_nothing_keeps_nobody_waiting_for_long() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let exporter = exporter(collector(&format!("http://{}", silent.local_addr().unwrap())).unwrap());
        let started = Instant::now();
        exporter.export(spans(1)).await;
        assert!((PATIENCE..PATIENCE * 10).contains(&started.elapsed()), "{:?}", started.elapsed());
        assert!(exporter.failed_at.lock().unwrap().is_some());
    }
}
