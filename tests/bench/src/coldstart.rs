//! What a function needs before it asks for its first request, as it is built for AWS: time, memory and size.

use std::{
    cell::RefCell,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::contest::{Contest, Outcome, print, ratio};

const ROUNDS: usize = 20;

const BARE: &str = "bare";

/// The runtime alone first, as the baseline; then a command, reads, a step, and a reader of the stream.
const FUNCTIONS: [&str; 6] = [BARE, "create-order", "get-order", "search-orders", "process-payment", "project-orders"];

/// How long a start may take before it has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// What Lambda and the template would say; nobody is called.
pub(crate) const ENVIRONMENT: [(&str, &str); 23] = [
    ("CONFIGURATION", "application/environment/profile"),
    ("DISCOVERY_NAMESPACE", "order-service"),
    ("STAGE", "prod"),
    ("AWS_LAMBDA_FUNCTION_NAME", "measured"),
    ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
    ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
    ("AWS_REGION", "us-east-1"),
    ("AWS_ACCESS_KEY_ID", "test"),
    ("AWS_SECRET_ACCESS_KEY", "test"),
    ("AWS_SESSION_TOKEN", "test"),
    ("SERVICE_NAME", "order-service"),
    ("LOG_LEVEL", "INFO"),
    ("SANDBOX_TRIGGERS", "false"),
    ("COUNTERS_TABLE", "counters"),
    ("DEAD_LETTERS_TABLE", "dead-letters"),
    ("EVENTS_TABLE", "events"),
    ("INDEX_TABLE", "index"),
    ("INVENTORY_TABLE", "inventory"),
    ("LIMITS_TABLE", "limits"),
    ("ORDERS_TABLE", "orders"),
    ("PAYMENTS_TABLE", "payments"),
    ("SNAPSHOTS_TABLE", "snapshots"),
    ("PATH", "/usr/bin:/bin"),
];

pub(crate) async fn run() {
    let binaries = build(FUNCTIONS);
    let runtime_api = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peaks: [RefCell<Vec<u64>>; FUNCTIONS.len()] = Default::default();
    let mut contest = Contest::default();
    for (name, (binary, peaks)) in FUNCTIONS.into_iter().zip(binaries.iter().zip(&peaks)) {
        let runtime_api = &runtime_api;
        contest = contest.enter(name, move || async move {
            let (time, peak) = start(binary, runtime_api).await;
            peaks.borrow_mut().push(peak);
            time
        });
    }
    let outcomes = contest.run(ROUNDS).await;
    let row = |((outcome, binary), peaks): ((&Outcome, &PathBuf), &RefCell<Vec<u64>>)| {
        let mut peaks = peaks.borrow_mut();
        peaks.sort_unstable();
        [
            if outcome.name == BARE { "the runtime alone (baseline)" } else { outcome.name }.to_owned(),
            format!("{:.1}", outcome.time.as_secs_f64() * 1e3),
            ratio(outcome.ratio),
            megabytes(peaks[peaks.len() / 2]),
            megabytes(fs::metadata(binary).unwrap().len()),
        ]
    };
    let rows: Vec<_> = outcomes.iter().zip(&binaries).zip(&peaks).map(row).collect();
    let title =
        format!("coldstart: from the start of the process to its first call of the Runtime API, {ROUNDS} starts");
    print(&title, ["", "ms", "times the baseline", "MB of memory", "MB of binary"], &rows);
}

/// Builds functions as they are built for AWS, but for this machine, and the baseline, if it is among them, with the same settings.
pub(crate) fn build<const N: usize>(names: [&'static str; N]) -> [PathBuf; N] {
    let bench = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = bench.ancestors().nth(2).unwrap();
    let cargo = |folder: &Path, arguments: &[&str]| {
        let status = Command::new("cargo").args(["build", "--locked"]).args(arguments).current_dir(folder).status();
        assert!(status.unwrap().success(), "the build failed, see above");
    };
    if names.contains(&BARE) {
        cargo(bench, &["--package=bare", "--profile=function", "--target-dir=../../target/bench"]);
    }
    let bins = names.iter().filter(|name| **name != BARE).map(|name| format!("--bin={name}"));
    let arguments: Vec<String> =
        ["--release", "--target-dir=target"].map(str::to_owned).into_iter().chain(bins).collect();
    cargo(root, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    names.map(|name| root.join(if name == BARE { "target/bench/function" } else { "target/release" }).join(name))
}

/// Starts a function, and answers how long it took until it asked for work and how much memory it had at most.
async fn start(binary: &Path, runtime_api: &TcpListener) -> (Duration, u64) {
    let address = runtime_api.local_addr().unwrap().to_string();
    let mut command = Command::new(binary);
    command.env_clear().envs(ENVIRONMENT).env("AWS_LAMBDA_RUNTIME_API", address).stdout(Stdio::null());
    let begin = Instant::now();
    let mut process = command.spawn().unwrap();
    // Connections are kept: without them the process would end before it is looked at.
    let mut connections = Vec::new();
    let asks = async {
        loop {
            let (connection, _) = runtime_api.accept().await.unwrap();
            let (mut connection, mut line) = (BufReader::new(connection), String::new());
            connection.read_line(&mut line).await.unwrap();
            let asked_after = begin.elapsed();
            if line.starts_with("POST /2020-01-01/extension/register ") {
                register(&mut connection).await;
            } else if !line.starts_with("GET /2020-01-01/extension/event/next ") {
                return (asked_after, line, connection);
            }
            connections.push(connection);
        }
    };
    let (time, line, _connection) =
        timeout(PATIENCE, asks).await.unwrap_or_else(|_| panic!("{} does not start", binary.display()));
    assert!(line.starts_with("GET /2018-06-01/runtime/invocation/next "), "{}: {line}", binary.display());
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    process.kill().unwrap();
    process.wait().unwrap();
    (time, peak * 1024)
}

/// Answers a function that registers an extension of its own, which those do that hand something on when they end.
async fn register(connection: &mut BufReader<TcpStream>) {
    let mut length = 0;
    loop {
        let mut header = String::new();
        connection.read_line(&mut header).await.unwrap();
        let Some((name, value)) = header.split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap();
        }
    }
    connection.read_exact(&mut vec![0; length]).await.unwrap();
    let answer = b"HTTP/1.1 200 OK\r\nlambda-extension-identifier: bench\r\ncontent-length: 2\r\n\r\n{}";
    connection.get_mut().write_all(answer).await.unwrap();
}

#[expect(clippy::cast_precision_loss, reason = "a tenth of a megabyte is as much as is shown")]
fn megabytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}
