//! The reference provider, as a process, is found in Cloud Map from when it answers until before it stops answering; and whatever
//! Cloud Map does, it starts or says why not, and stops. A stand-in answers the SDK for Cloud Map.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

use std::{
    env, fs,
    future::pending,
    io::{BufRead, BufReader, Read},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    time::{sleep, timeout},
};
use uuid::Uuid;

/// Far longer than anything here may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// What Cloud Map makes of a call.
#[derive(Clone, Copy)]
enum Answer {
    Done,
    Broken,
    Unknown,
    Never,
}

/// A call of Cloud Map: its name, what it says, and what `GET /health` of its instance said when it came, over REST.
struct Asked {
    call: String,
    body: Value,
    health: Option<u16>,
}

/// Cloud Map, which answers one thing when an instance comes, and another when it goes.
#[derive(Clone)]
struct CloudMap {
    endpoint: String,
    /// How many of the first calls break, whatever comes then.
    broken: usize,
    comes: Answer,
    goes: Answer,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl CloudMap {
    async fn start(broken: usize, comes: Answer, goes: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let map = Self { endpoint, broken, comes, goes, asked: Arc::default() };
        let calls = Router::new().fallback(answer).with_state(map.clone());
        tokio::spawn(async move { axum::serve(listener, calls).await });
        map
    }

    /// The bodies of all calls with this name, in the order of their instances.
    fn bodies(&self, call: &str) -> Vec<Value> {
        let asked = self.asked.lock().unwrap();
        let bodies = asked.iter().filter(|asked| asked.call == call).map(|asked| asked.body.clone());
        let mut bodies: Vec<_> = bodies.collect();
        bodies.sort_by_key(|body| body["InstanceId"].to_string());
        bodies
    }

    /// How often it was asked this.
    fn count(&self, call: &str) -> usize {
        self.bodies(call).len()
    }

    async fn until_asked(&self, call: &str, count: usize) {
        let asked = async {
            while self.count(call) < count {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, asked).await.unwrap();
    }
}

async fn health(url: &str) -> Option<u16> {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    Some(client.get(format!("{url}/health")).send().await.ok()?.status().as_u16())
}

async fn answer(State(map): State<CloudMap>, headers: HeaderMap, body: String) -> Response {
    let target = headers["x-amz-target"].to_str().unwrap();
    let call = target.strip_prefix("Route53AutoNaming_v20170314.").unwrap().to_owned();
    let body: Value = serde_json::from_str(&body).unwrap();
    let (transport, address) = body["InstanceId"].as_str().unwrap().split_once('-').unwrap();
    let health =
        if transport == "rest" { health(&format!("http://{}", address.replace('-', ":"))).await } else { None };
    let wanted = if call == "RegisterInstance" { map.comes } else { map.goes };
    let count = {
        let mut asked = map.asked.lock().unwrap();
        asked.push(Asked { call, body, health });
        asked.len()
    };
    let answer = if count <= map.broken { Answer::Broken } else { wanted };
    let (status, body) = match answer {
        Answer::Done => (StatusCode::OK, json!({"OperationId": "an-operation"})),
        Answer::Broken => (StatusCode::INTERNAL_SERVER_ERROR, json!({"__type": "InternalFailure"})),
        Answer::Unknown => (StatusCode::BAD_REQUEST, json!({"__type": "InstanceNotFound", "Message": "so"})),
        Answer::Never => pending().await,
    };
    (status, [(CONTENT_TYPE, "application/x-amz-json-1.1")], body.to_string()).into_response()
}

/// A provider in a process of its own, which is killed with it.
struct Provider {
    process: Child,
    said: BufReader<ChildStdout>,
}

impl Provider {
    fn command(map: &CloudMap) -> Command {
        with_settings(Command::new(env!("CARGO_BIN_EXE_reference-provider")), map)
    }

    fn start(mut command: Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(process.stdout.take().unwrap());
        Self { process, said }
    }

    /// A line of those that say where it is, and the empty text when it ends without.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn urls(&mut self) -> [String; 2] {
        [self.line(), self.line()]
    }

    fn tell_to_stop(&self) {
        let told = Command::new("sh").args(["-c", &format!("kill {}", self.process.id())]).status().unwrap();
        assert!(told.success());
    }

    /// What it ends with, and what it has said of failures.
    async fn ended(&mut self) -> (Option<i32>, String) {
        let ended = async {
            loop {
                if let Some(status) = self.process.try_wait().unwrap() {
                    return status.code();
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        let code = timeout(PATIENCE, ended).await.unwrap();
        let mut failures = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut failures).unwrap();
        (code, failures)
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn with_settings(mut command: Command, map: &CloudMap) -> Command {
    for name in ["BREAK", "TOKEN", "STATE_FILE", "AWS_SESSION_TOKEN"] {
        command.env_remove(name);
    }
    command.envs([
        ("GRPC_ADDRESS", "127.0.0.1:0"),
        ("REST_ADDRESS", "127.0.0.1:0"),
        ("REGISTER_IN", "srv-own"),
        ("LINGER_SECONDS", "0"),
        ("AWS_ENDPOINT_URL", &map.endpoint),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
    ]);
    command
}

fn port(url: &str) -> &str {
    url.rsplit_once(':').unwrap().1
}

/// What registers instances at these ports, without what the SDK tells repeated calls by.
fn registered(urls: &[String; 2]) -> Vec<Value> {
    let instance = |transport: &str, port: &str| {
        json!({"ServiceId": "srv-own", "InstanceId": format!("{transport}-127.0.0.1-{port}"), "Attributes": {
            "AWS_INSTANCE_IPV4": "127.0.0.1", "AWS_INSTANCE_PORT": port, "transport": transport, "secure": "false"}})
    };
    vec![instance("grpc", port(&urls[0])), instance("rest", port(&urls[1]))]
}

fn deregistered(urls: &[String; 2]) -> Vec<Value> {
    registered(urls).iter().map(|of| json!({"ServiceId": of["ServiceId"], "InstanceId": of["InstanceId"]})).collect()
}

fn without_request_ids(mut bodies: Vec<Value>) -> Vec<Value> {
    for body in &mut bodies {
        body.as_object_mut().unwrap().remove("CreatorRequestId");
    }
    bodies
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_registered_once_it_answers_and_deregistered_before_it_drains() {
    let map = CloudMap::start(0, Answer::Done, Answer::Done).await;
    let mut command = Provider::command(&map);
    command.env_remove("LINGER_SECONDS");
    let mut provider = Provider::start(command);
    let urls = provider.urls();
    assert_eq!(without_request_ids(map.bodies("RegisterInstance")), registered(&urls));
    assert_eq!(map.count("DeregisterInstance"), 0);

    provider.tell_to_stop();
    map.until_asked("DeregisterInstance", 2).await;
    assert_eq!(map.bodies("DeregisterInstance"), deregistered(&urls));
    let healthy: Vec<_> = map.asked.lock().unwrap().iter().filter_map(|asked| asked.health).collect();
    assert_eq!(healthy, [200, 200], "when it came, and when it went");

    // Who has found it before still calls, for a minute, or until it is told a second time.
    sleep(Duration::from_secs(2)).await;
    assert_eq!(health(&urls[1]).await, Some(200));
    provider.tell_to_stop();
    assert_eq!(provider.ended().await, (Some(0), String::new()));
    assert_eq!(map.asked.lock().unwrap().len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_is_down_at_the_start_is_tried_again() {
    let map = CloudMap::start(3, Answer::Done, Answer::Done).await;
    let mut provider = Provider::start(Provider::command(&map));
    let urls = provider.urls();
    assert_eq!(map.count("RegisterInstance"), 5);
    provider.tell_to_stop();
    let (code, failures) = provider.ended().await;
    assert_eq!((code, failures.lines().count()), (Some(0), 3), "{failures}");
    assert!(failures.starts_with("warning: registering "), "{failures}");
    assert!(failures.contains("InternalFailure"), "{failures}");
    assert_eq!(map.bodies("DeregisterInstance"), deregistered(&urls));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_never_answers_ends_it_with_an_error() {
    let map = CloudMap::start(0, Answer::Never, Answer::Never).await;
    let mut provider = Provider::start(Provider::command(&map));
    assert_eq!(provider.line(), "", "it does not say that it is ready");
    let (code, failures) = provider.ended().await;
    assert_eq!(code, Some(2));
    let last = failures.lines().last().unwrap();
    assert!(last.starts_with("error: the instance ") && last.ends_with(" in 4 tries"), "{failures}");
    // Its answers may have been lost, and no more.
    assert_eq!(map.count("DeregisterInstance"), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_is_down_at_the_end_does_not_hold_the_stop_up() {
    let map = CloudMap::start(0, Answer::Done, Answer::Never).await;
    let mut provider = Provider::start(Provider::command(&map));
    provider.urls();
    provider.tell_to_stop();
    // As long as `make down` waits.
    let (code, failures) = timeout(Duration::from_secs(15), provider.ended()).await.unwrap();
    assert_eq!((code, failures.lines().count()), (Some(0), 4), "{failures}");
    assert!(failures.lines().all(|line| line.starts_with("warning: deregistering ")), "{failures}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_somebody_else_has_deregistered_is_gone() {
    let map = CloudMap::start(0, Answer::Done, Answer::Unknown).await;
    let mut provider = Provider::start(Provider::command(&map));
    provider.urls();
    provider.tell_to_stop();
    assert_eq!(provider.ended().await, (Some(0), String::new()));
    assert_eq!(map.count("DeregisterInstance"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_told_to_stop_before_it_is_registered_stops() {
    let map = CloudMap::start(0, Answer::Never, Answer::Done).await;
    let mut provider = Provider::start(Provider::command(&map));
    map.until_asked("RegisterInstance", 2).await;
    provider.tell_to_stop();
    assert_eq!(provider.ended().await.0, Some(0));
    assert_eq!(map.count("DeregisterInstance"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_whose_books_cannot_be_kept_any_more_is_not_found() {
    let map = CloudMap::start(0, Answer::Done, Answer::Done).await;
    let books = env::temp_dir().join(format!("books-{}.jsonl", Uuid::new_v4()));
    let mut command = Command::new("sh");
    // A file has room for a few calls only, and who writes beyond is not killed.
    command.args(["-c", "trap '' XFSZ; ulimit -f 4; exec \"$0\"", env!("CARGO_BIN_EXE_reference-provider")]);
    let mut command = with_settings(command, &map);
    command.env("STATE_FILE", &books);
    let mut provider = Provider::start(command);
    let [_, rest] = provider.urls();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut statuses = Vec::new();
    while statuses.last().is_none_or(|status| *status == 200) && statuses.len() < 100 {
        let charge = json!({
            "idempotency_key": Uuid::new_v4(), "order_id": Uuid::new_v4(), "customer_id": "anna",
            "payment_method": "pm_card_visa", "amount": {"amount": 3998, "currency": "CNY"}});
        let answer = client.post(format!("{rest}/v1/payments/charge")).json(&charge).send().await.unwrap();
        statuses.push(answer.status().as_u16());
    }
    assert_eq!(statuses.last(), Some(&503), "{statuses:?}");
    map.until_asked("DeregisterInstance", 2).await;
    // It waits for somebody to look after it.
    assert_eq!(provider.process.try_wait().unwrap(), None);
    drop(provider);
    fs::remove_file(books).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_callers_cannot_be_told_is_refused() {
    let map = CloudMap::start(0, Answer::Done, Answer::Done).await;
    for (name, value, why) in [
        ("REST_ADDRESS", "0.0.0.0:0", "stands for every address of this machine"),
        ("LINGER_SECONDS", "a while", "LINGER_SECONDS must be a whole number of seconds"),
    ] {
        let mut command = Provider::command(&map);
        command.env(name, value);
        let (code, failures) = Provider::start(command).ended().await;
        assert_eq!(code, Some(2));
        assert!(failures.starts_with("error: ") && failures.contains(why), "{failures}");
    }
    assert_eq!(map.asked.lock().unwrap().len(), 0);
}
