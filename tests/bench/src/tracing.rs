//! What a trace costs a warm call: `get-order` as it is built for AWS, by an order that is there. It is the shortest call that
//! there is, so nowhere is the share of it larger; and a table in the next process answers sooner than one on AWS.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::IntoResponse,
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, UdpSocket},
    sync::{Mutex, mpsc},
    time::timeout,
};
use uuid::Uuid;

use crate::{
    coldstart::{ENVIRONMENT, build},
    contest::{Contest, Outcome, print, ratio},
    database::LocalDynamo,
    orders::{self, Load},
};

const ROUNDS: usize = 100;
const CALLS_PER_ROUND: u32 = 20;

/// How long one call may take before it has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who calls: the order's customer would be another one for each.
const ORDERS: usize = 100;

/// How much of it is switched on.
const WAYS: [(&str, [(&str, &str); 2]); 3] = [
    ("no traces (baseline)", [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_SAMPLER_ARG", "0")]),
    (
        "traces, of which one in twenty is recorded",
        [("OTEL_SDK_DISABLED", "false"), ("OTEL_TRACES_SAMPLER_ARG", "0.05")],
    ),
    ("traces, of which all are recorded", [("OTEL_SDK_DISABLED", "false"), ("OTEL_TRACES_SAMPLER_ARG", "1")]),
];

pub(crate) async fn run() {
    let [binary] = build(["get-order"]);
    let dynamo = LocalDynamo::start().await;
    orders::load(&dynamo, ORDERS, Load::EventsAndReadModel).await;
    let daemon = XRay::start().await;
    let mut processes = Vec::new();
    for (_, ways) in WAYS {
        processes.push(Process::start(&binary, &dynamo, &daemon, &ways).await);
    }
    let mut contest = Contest::default();
    for ((name, _), process) in WAYS.iter().zip(&processes) {
        contest = contest.enter(name, || process.calls(CALLS_PER_ROUND));
    }
    let outcomes = contest.run(ROUNDS).await;
    let row = |outcome: &Outcome| {
        let longer = outcome.longer.map(|seconds| format!("{:.0}", seconds * 1e6));
        [
            outcome.name.to_owned(),
            format!("{:.0}", outcome.time.as_secs_f64() * 1e6),
            ratio(outcome.ratio),
            format!("{} ({} to {})", longer[0], longer[1], longer[2]),
        ]
    };
    print(
        &format!("tracing: a warm call of get-order, {ROUNDS} times {CALLS_PER_ROUND}"),
        ["", "µs", "times the baseline", "µs longer"],
        &outcomes.iter().map(row).collect::<Vec<_>>(),
    );
    assert!(*daemon.received.lock().await > ROUNDS, "the daemon was sent next to nothing");
}

/// Takes what the X-Ray daemon would.
struct XRay {
    address: String,
    received: Arc<Mutex<usize>>,
}

impl XRay {
    async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (address, received) = (socket.local_addr().unwrap().to_string(), Arc::<Mutex<usize>>::default());
        let counted = received.clone();
        tokio::spawn(async move {
            let mut datagram = vec![0; 65_536];
            while socket.recv(&mut datagram).await.is_ok() {
                *counted.lock().await += 1;
            }
        });
        Self { address, received }
    }
}

/// A function that has started, and Lambda's Runtime API for it.
struct Process {
    child: Child,
    events: mpsc::Sender<Value>,
    /// A word for each time that it asks for work, and one before that with each status that it has answered.
    said: Mutex<mpsc::Receiver<Said>>,
}

enum Said {
    Asks,
    Answers(Value),
}

#[derive(Clone)]
struct Lambda {
    events: Arc<Mutex<mpsc::Receiver<Value>>>,
    says: mpsc::Sender<Said>,
}

impl Process {
    async fn start(binary: &Path, dynamo: &LocalDynamo, daemon: &XRay, ways: &[(&str, &str)]) -> Self {
        let ((events, to_come), (says, said)) = (mpsc::channel(1), mpsc::channel(2));
        let lambda = Lambda { events: Arc::new(Mutex::new(to_come)), says };
        let api = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(answered))
            .with_state(lambda);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async { axum::serve(listener, api).await });
        let mut command = Command::new(binary);
        command.env_clear().envs(ENVIRONMENT).envs(ways.iter().copied()).env("AWS_LAMBDA_RUNTIME_API", address);
        command
            .env("CONFIGURATION", "")
            .env("AWS_ENDPOINT_URL", dynamo.endpoint())
            .env("AWS_XRAY_DAEMON_ADDRESS", &daemon.address);
        // Whoever asks this often is refused otherwise.
        command.env("APP__LIMITS__STAFF_READS__PER_MINUTE", "600000").env("APP__LIMITS__STAFF_READS__BURST", "100000");
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        let process = Self { child, events, said: Mutex::new(said) };
        process.until_it_asks().await;
        process
    }

    /// How long one call takes, until it asks for the next, on average over some.
    async fn calls(&self, times: u32) -> Duration {
        let mut took = Duration::ZERO;
        for number in 0..times {
            let event = event(usize::try_from(number).unwrap() % ORDERS);
            let begin = Instant::now();
            self.events.send(event).await.unwrap();
            let answer = self.until_it_asks().await.unwrap();
            took += begin.elapsed();
            assert_eq!(answer["statusCode"], 200, "{answer}");
        }
        took / times
    }

    async fn until_it_asks(&self) -> Option<Value> {
        let (mut said, mut answer) = (self.said.lock().await, None);
        while let Said::Answers(value) = timeout(PATIENCE, said.recv()).await.expect("it hangs").unwrap() {
            answer = Some(value);
        }
        answer
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn next(State(lambda): State<Lambda>) -> impl IntoResponse {
    lambda.says.send(Said::Asks).await.unwrap();
    let event = lambda.events.lock().await.recv().await.unwrap_or_default();
    let id = Uuid::new_v4().to_string();
    ([("lambda-runtime-aws-request-id", id.as_str()), ("lambda-runtime-deadline-ms", "4102444800000")], Json(event))
        .into_response()
}

/// As text, because a function does not say that it is JSON.
async fn answered(State(lambda): State<Lambda>, answer: String) -> StatusCode {
    lambda.says.send(Said::Answers(serde_json::from_str(&answer).unwrap())).await.unwrap();
    StatusCode::ACCEPTED
}

/// A request of staff for this order, in a trace that the function begins.
fn event(number: usize) -> Value {
    let id = orders::order(number, ORDERS).id.to_string();
    let mut event: Value = serde_json::from_str(include_str!("../../../events/get-order.json")).unwrap();
    event["headers"].as_object_mut().unwrap().remove("traceparent");
    event["pathParameters"]["order_id"] = json!(id);
    event["requestContext"]["authorizer"]["jwt"]["claims"]["cognito:groups"] = json!("[staff]");
    event
}
