//! The process as Lambda runs it: told to end, it hands on what it has counted, and what it has used.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(30);

/// A request: its line, the action of `DynamoDB` that it asks for, and its body.
struct Request {
    line: String,
    target: String,
    body: String,
}

/// How Lambda answers who wants to register an extension: not at all where there are none, or yes after so long.
type Registers = Option<Duration>;

/// Lambda's Runtime API and `DynamoDB` in one. One invocation, and then none any more.
fn serve(registers: Registers) -> (String, Receiver<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (seen, requests) = channel();
    let invocations = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(1));
    thread::spawn(move || {
        for connection in listener.incoming() {
            let (seen, invocations) = (seen.clone(), invocations.clone());
            thread::spawn(move || answer(connection.unwrap(), &seen, &invocations, registers));
        }
    });
    (address, requests)
}

fn answer(
    connection: TcpStream,
    seen: &Sender<Request>,
    invocations: &std::sync::atomic::AtomicUsize,
    registers: Registers,
) {
    let mut reader = BufReader::new(connection.try_clone().unwrap());
    let mut writer = connection;
    loop {
        let mut request = Request { line: String::new(), target: String::new(), body: String::new() };
        if reader.read_line(&mut request.line).unwrap_or(0) == 0 {
            return;
        }
        let mut length = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).unwrap();
            let header = header.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            length = header.strip_prefix("content-length: ").map_or(length, |length| length.parse().unwrap());
            request.target = header.strip_prefix("x-amz-target: ").map_or(request.target, str::to_owned);
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        request.body = String::from_utf8(body).unwrap();
        let line = request.line.clone();
        let (status, headers, body) = if line.contains("/extension/register") {
            // Seen when it is answered: what is seen before has not waited for that.
            thread::park_timeout(registers.unwrap_or_default());
            (if registers.is_some() { 200 } else { 404 }, "lambda-extension-identifier: 7\r\n", String::new())
        } else if line.contains("/invocation/next")
            && invocations.fetch_update(SEEN, SEEN, |left| left.checked_sub(1)).is_ok()
        {
            let event = include_str!("../../../events/project-orders.json").to_owned();
            (200, "lambda-runtime-aws-request-id: r-1\r\nlambda-runtime-deadline-ms: 4102444800000\r\n", event)
        } else if line.contains("/next") {
            // Nothing comes any more.
            seen.send(request).unwrap();
            let _ = reader.read(&mut [0; 1]);
            return;
        } else if request.target.is_empty() {
            (202, "", String::new())
        } else if request.target.ends_with(".updateitem") {
            (200, "", "{}".to_owned())
        } else {
            // So the generations of the read model are not known, and that is counted.
            (400, "", r#"{"__type":"com.amazonaws.dynamodb.v20120810#ResourceNotFoundException"}"#.to_owned())
        };
        seen.send(request).unwrap();
        let answer = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n{body}", body.len());
        writer.write_all(answer.as_bytes()).unwrap();
    }
}

const SEEN: std::sync::atomic::Ordering = std::sync::atomic::Ordering::SeqCst;

fn start(address: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_project-orders"));
    let endpoint = format!("http://{address}");
    command.env_clear().stdout(Stdio::piped()).envs([
        ("AWS_LAMBDA_RUNTIME_API", address),
        ("AWS_LAMBDA_FUNCTION_NAME", "orders-project-orders"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_ENDPOINT_URL", &endpoint),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("LOG_LEVEL", "error"),
        ("METRIC_NAMESPACE", "orders"),
        ("EVENTS_TABLE", "events"),
        ("COUNTERS_TABLE", "counters"),
        ("DEAD_LETTERS_TABLE", "dead-letters"),
        ("ORDERS_TABLE", "orders"),
        ("INDEX_TABLE", "index"),
    ]);
    command.spawn().unwrap()
}

fn wait_for(requests: &Receiver<Request>, what: &str) -> Request {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let request = requests.recv_timeout(left).unwrap_or_else(|_| panic!("no {what}"));
        if request.line.contains(what) || request.target.ends_with(what) {
            return request;
        }
    }
}

fn is_told_to_end(registers: Registers) {
    let (address, requests) = serve(registers);
    let mut child = start(&address);
    if registers.is_some() {
        wait_for(&requests, "/extension/event/next");
    }
    wait_for(&requests, "/r-1/error");
    let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let at = Instant::now();
    // Both at once, so either may come first.
    let told = [wait_for(&requests, ".updateitem").body, wait_for(&requests, ".updateitem").body];
    for what in ["cache_misses_generations", "process#project-orders#", r#"":memory_limit_bytes":{"N":"268435456"}"#] {
        assert!(told.iter().any(|body| body.contains(what)), "no {what} in {told:?}");
    }
    let ended = child.wait().unwrap();
    assert!(ended.success() && at.elapsed() < Duration::from_secs(5), "{ended}");
    let mut told = String::new();
    child.stdout.take().unwrap().read_to_string(&mut told).unwrap();
    for line in [r#""ColdStarts":1"#, r#""CacheMisses":1"#, r#""Namespace":"orders""#] {
        assert!(told.contains(line), "no {line} in {told}");
    }
}

#[test]
fn what_is_counted_is_handed_on_when_lambda_ends_the_process() {
    is_told_to_end(Some(Duration::ZERO));
}

#[test]
fn where_there_are_no_extensions_it_starts_and_ends_all_the_same() {
    is_told_to_end(None);
}

/// What it asks for until it has asked for an invocation and for what its extension listens to.
fn asked_at_the_start(registers: Duration) -> Vec<&'static str> {
    let (address, requests) = serve(Some(registers));
    let mut child = start(&address);
    let asked = |request: Request| {
        ["/extension/register", "/extension/event/next", "/invocation/next"]
            .into_iter()
            .find(|what| request.line.contains(what))
    };
    let deadline = Instant::now() + PATIENCE;
    let mut seen = Vec::new();
    while !["/extension/event/next", "/invocation/next"].iter().all(|what| seen.contains(what)) {
        let left = deadline.saturating_duration_since(Instant::now());
        seen.extend(requests.recv_timeout(left).ok().and_then(asked));
        assert!(Instant::now() < deadline, "{seen:?}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    seen
}

/// Lambda registers nothing any more once it was asked for an invocation.
#[test]
fn no_invocation_is_asked_for_before_the_extension_is_registered() {
    let seen = asked_at_the_start(Duration::from_millis(100));
    assert_eq!(seen[0], "/extension/register", "{seen:?}");
}

/// And waits for what it has registered, however late that was.
#[test]
fn an_extension_that_is_registered_late_holds_nothing_up_and_listens_all_the_same() {
    let seen = asked_at_the_start(Duration::from_secs(1));
    let at = |what| seen.iter().position(|seen| *seen == what).unwrap();
    assert!(at("/invocation/next") < at("/extension/event/next"), "{seen:?}");
}
