//! Orders with providers of one's own: the reference provider, as a process beside the stack, AppConfig to choose it, and Cloud
//! Map to find it.

use std::{
    env,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use aws_sdk_servicediscovery::Client;
use aws_sdk_ssm::types::ParameterType;
use reqwest::Client as HttpClient;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    sync::Mutex,
    task::{AbortHandle, JoinSet},
};

use crate::service::{DEADLINE, Service, fresh_key, logs, order, setting};

/// What all orders are placed with is one setting, so whoever changes it is alone.
static ALONE: Mutex<()> = Mutex::const_new(());

const PORTS: [&str; 4] = ["inventory", "payments", "shipping", "notifications"];

/// Twice as long as a function relies on the settings that it has.
pub(crate) const UNTIL_ALL_KNOW: Duration = Duration::from_secs(60);

/// What a token's name begins with that the stack's functions may read (samconfig.toml).
const SECRET: &str = "order-service-local/own";

/// The reference provider, which answers whoever shows the secret. It ends with this.
struct Provider {
    _process: Child,
    grpc: String,
    rest: String,
    token: String,
}

impl Provider {
    async fn start() -> Self {
        let token = fresh_key();
        keep(&token).await;
        let test = env::current_exe().unwrap();
        let binary = test.parent().and_then(|deps| deps.parent()).unwrap().join("reference-provider");
        let environment = [("GRPC_ADDRESS", "127.0.0.1:0"), ("REST_ADDRESS", "127.0.0.1:0"), ("TOKEN", &token)];
        let mut process =
            Command::new(binary).envs(environment).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut url = async || lines.next_line().await.unwrap().expect("it says where it is");
        let (grpc, rest) = (url().await, url().await);
        Self { _process: process, grpc, rest, token }
    }

    /// What it has in its ledger of an order, asked by a way of its own.
    async fn ledger(&self, order_id: &str) -> Vec<Value> {
        let ask = HttpClient::new().post(format!("{}/v1/payments/get-ledger", self.rest)).bearer_auth(&self.token);
        let ask = ask.header("content-type", "application/json").body(json!({"order_id": order_id}).to_string());
        let answer = ask.send().await.unwrap().error_for_status().unwrap().text().await.unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        answer["entries"].as_array().cloned().unwrap_or_default()
    }
}

/// Keeps the token where functions may read it: in Secrets Manager, and as a parameter.
async fn keep(token: &str) {
    let aws = aws_config::defaults(aws_config::BehaviorVersion::v2026_01_12()).load().await;
    let secrets = aws_sdk_secretsmanager::Client::new(&aws);
    let known = secrets.put_secret_value().secret_id(SECRET).secret_string(token).send().await;
    if known.is_err() {
        secrets.create_secret().name(SECRET).secret_string(token).send().await.unwrap();
    }
    let parameter = aws_sdk_ssm::Client::new(&aws).put_parameter().name(format!("/{SECRET}")).value(token);
    parameter.r#type(ParameterType::SecureString).overwrite(true).send().await.unwrap();
}

/// As an operator does.
pub(crate) async fn config(arguments: &[String]) {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut config = Command::new("make");
    let run = config.args(["-s", "config"]).args(arguments).current_dir(root).output().await.unwrap();
    assert!(run.status.success(), "{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
}

pub(crate) async fn set(changes: &[String]) {
    config(&[format!("SET={}", changes.join("; "))]).await;
}

/// What an order says of its providers: nothing where all are built in, as all were before there was a choice.
fn kinds(kinds: [&str; 4]) -> Value {
    if kinds == ["sandbox"; 4] {
        return Value::Null;
    }
    let kind = |kind: &str| match kind {
        "sandbox" => json!({"kind": kind}),
        _ => json!({"kind": kind, "service": "own"}),
    };
    PORTS.iter().zip(kinds).map(|(port, of)| ((*port).to_owned(), kind(of))).collect::<serde_json::Map<_, _>>().into()
}

/// Switches, and answers an order that has these providers.
async fn placed_with(service: &Service, of_ports: [&str; 4]) -> String {
    let change = |(port, kind): (&&str, &str)| {
        let name = if kind == "sandbox" { "" } else { "own" };
        [format!("providers.{port}.kind={kind}"), format!("providers.{port}.service=\"{name}\"")]
    };
    set(&PORTS.iter().zip(of_ports).flat_map(change).collect::<Vec<_>>()).await;
    placed(service, of_ports).await
}

/// Places orders until one has these providers: functions that run learn of them one by one.
async fn placed(service: &Service, of_ports: [&str; 4]) -> String {
    let product = format!("test-{}", fresh_key());
    let started = Instant::now();
    while started.elapsed() < UNTIL_ALL_KNOW {
        // Wherever the catalogue is by now.
        service.set_product(&product, 1999, 10).await;
        let placed = service.place("customer-1", &fresh_key(), &order("customer-1", &product)).await;
        if placed.status == 201 {
            let order_id = placed.text("order_id");
            let history = service.get("staff-1", &format!("/api/v1/orders/{order_id}/events")).await.expect(200);
            if history.body["events"][0]["data"]["providers"] == kinds(of_ports) {
                return order_id;
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("no order was placed with {of_ports:?}")
}

#[tokio::test]
#[ignore = "changes who all orders are placed with: `make test` runs it by itself"]
async fn providers_are_switched_while_orders_are_under_way_and_each_order_keeps_its_own() {
    let _alone = ALONE.lock().await;
    let (service, provider) = (Service::connect().await, Provider::start().await);
    set(&[format!(r#"services.own=["{}", "{}"]"#, provider.grpc, provider.rest)]).await;

    let mut placed = Vec::new();
    let parameter = format!("ssm:/{SECRET}");
    for (of_ports, secret) in
        [(["grpc"; 4], SECRET), (["rest"; 4], &parameter), (["rest", "grpc", "rest", "sandbox"], SECRET)]
    {
        set(&[format!("secrets.own={secret}")]).await;
        let order_id = placed_with(&service, of_ports).await;
        let confirmed = service.await_status("customer-1", &order_id, &["confirmed"]).await;
        assert_eq!(confirmed.body["payment"]["status"], "completed");
        let books = service.agreed_books(&order_id).await;
        assert_eq!((&books["charged"], &books["shipment"]), (&json!(3998), &json!("created")));
        assert!(service.ledger(&order_id).await.is_empty(), "the sandbox has charged, too");
        placed.push(order_id);
    }

    // Whoever is chosen by now: what was charged comes back from where it was charged.
    let with_sandbox = placed_with(&service, ["sandbox"; 4]).await;
    for order_id in &placed {
        let cancel = format!("/api/v1/orders/{order_id}/cancel");
        service.post("customer-1", &cancel, &json!({"reason": "changed my mind"})).await.expect(202);
        service.await_status("customer-1", order_id, &["cancelled"]).await;
        let books = service.agreed_books(order_id).await;
        assert_eq!((&books["charged"], &books["refunded"]), (&json!(3998), &json!(3998)));
        assert_eq!(books["reserved"], json!([]));
        assert!(service.ledger(order_id).await.is_empty());
    }
    service.await_status("customer-1", &with_sandbox, &["confirmed"]).await;
    service.agreed_books(&with_sandbox).await;
    assert_eq!(service.ledger(&with_sandbox).await.len(), 1);
    config(&["RESET=1".to_owned()]).await;
}

#[tokio::test]
#[ignore = "changes who all orders are placed with: `make test` runs it by itself"]
async fn a_charge_that_nobody_heard_of_is_asked_for_again_where_it_was_made() {
    let _alone = ALONE.lock().await;
    let (service, provider) = (Service::connect().await, Provider::start().await);
    let wire = Instance::of(&provider).await;
    set(&[format!(r#"services.own=["grpc://127.0.0.1:{}"]"#, wire.port), format!("secrets.own={SECRET}")]).await;
    let only_payments = ["sandbox", "grpc", "sandbox", "sandbox"];
    let before = placed_with(&service, only_payments).await;
    service.await_status("customer-1", &before, &["confirmed"]).await;

    wire.answers_get_lost.store(true, Ordering::SeqCst);
    let order_id = placed(&service, only_payments).await;
    let started = Instant::now();
    while provider.ledger(&order_id).await.is_empty() {
        assert!(started.elapsed() < DEADLINE, "nobody has charged the order");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let with_sandbox = placed_with(&service, ["sandbox"; 4]).await;
    service.await_status("customer-1", &with_sandbox, &["confirmed"]).await;
    assert_eq!(service.event_types(&order_id).await[..2], ["OrderCreated", "InventoryReserved"]);
    assert!(!service.event_types(&order_id).await.contains(&"PaymentCompleted".to_owned()), "an answer came through");

    wire.answers_get_lost.store(false, Ordering::SeqCst);
    let order = service.await_status("customer-1", &order_id, &["confirmed", "needs_attention"]).await;
    if order.text("status") == "needs_attention" {
        // The switch took longer than the step is tried by itself.
        let resume = format!("/api/v1/orders/{order_id}/fulfilment/resume");
        service.post("staff-1", &resume, &json!({"reason": "the provider is back"})).await.expect(202);
        service.await_status("customer-1", &order_id, &["confirmed"]).await;
    }
    assert_eq!(service.agreed_books(&order_id).await["charged"], 3998);
    let ledger = provider.ledger(&order_id).await;
    assert!(ledger.len() == 1 && ledger[0]["charged"].is_object(), "charged otherwise than once: {ledger:?}");
    assert!(service.ledger(&order_id).await.is_empty(), "the sandbox has charged, too");
    config(&["RESET=1".to_owned()]).await;
}

/// The service `own` in the stack's namespace of Cloud Map, as whoever runs a provider keeps it.
struct Registered {
    map: Client,
    id: String,
}

impl Registered {
    async fn new() -> Self {
        let map = Client::new(&aws_config::defaults(aws_config::BehaviorVersion::v2026_01_12()).load().await);
        let namespaces = map.list_namespaces().send().await.unwrap();
        let name = setting("DISCOVERY_NAMESPACE");
        let namespace = namespaces.namespaces().iter().find(|namespace| namespace.name() == Some(&name)).unwrap();
        // What a run has left that failed halfway.
        for left in map.list_services().send().await.unwrap().services() {
            if left.name() == Some("own") {
                map.delete_service().id(left.id().unwrap()).send().await.unwrap();
            }
        }
        let new = map.create_service().name("own").set_namespace_id(namespace.id().map(str::to_owned));
        let id = new.send().await.unwrap().service.unwrap().id.unwrap();
        Self { map, id }
    }

    async fn register(&self, instance: &Instance) {
        let attributes = [
            ("AWS_INSTANCE_IPV4", "127.0.0.1"),
            ("AWS_INSTANCE_PORT", instance.port.as_str()),
            ("transport", "grpc"),
            ("secure", "false"),
        ];
        let new = self.map.register_instance().service_id(&self.id).instance_id(&instance.port);
        let new = attributes.into_iter().fold(new, |new, (name, value)| new.attributes(name, value));
        new.send().await.unwrap();
    }

    async fn delete(&self) {
        self.map.delete_service().id(&self.id).send().await.unwrap();
    }

    async fn deregister(&self, instance: &Instance) {
        let gone = self.map.deregister_instance().service_id(&self.id).instance_id(&instance.port);
        gone.send().await.unwrap();
    }
}

/// A way of its own to the one provider, whose books are the same whichever way they are asked for.
struct Instance {
    port: String,
    /// Whether what is asked for goes through, and no answer comes back.
    answers_get_lost: Arc<AtomicBool>,
    listening: AbortHandle,
}

impl Instance {
    async fn of(provider: &Provider) -> Self {
        let provider = provider.grpc.strip_prefix("grpc://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let answers_get_lost = Arc::new(AtomicBool::new(false));
        let lost = Arc::clone(&answers_get_lost);
        let listening = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((caller, _)) = listener.accept().await {
                let called = TcpStream::connect(&provider).await.unwrap();
                connections.spawn(carry(caller, called, Arc::clone(&lost)));
            }
        });
        Self { port, answers_get_lost, listening: listening.abort_handle() }
    }

    /// With all its connections.
    fn kill(&self) {
        self.listening.abort();
    }
}

/// Carries what is said from one to the other and back. Where answers get lost, the caller hears the first of them no more, and the
/// connection breaks a moment later: by then the provider has done what it was asked for.
async fn carry(mut caller: TcpStream, mut called: TcpStream, answers_get_lost: Arc<AtomicBool>) {
    let (mut from_caller, mut to_caller) = caller.split();
    let (mut from_called, mut to_called) = called.split();
    let back = async {
        let mut answer = vec![0; 65_536];
        while let Ok(length @ 1..) = from_called.read(&mut answer).await {
            if answers_get_lost.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(500)).await;
                return;
            }
            if to_caller.write_all(&answer[..length]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = copy(&mut from_caller, &mut to_called) => {}
        () = back => {}
    }
}

async fn an_order_goes_through(service: &Service) {
    let order_id = placed(service, ["grpc"; 4]).await;
    service.await_status("customer-1", &order_id, &["confirmed"]).await;
    let books = service.agreed_books(&order_id).await;
    assert_eq!((&books["charged"], &books["shipment"]), (&json!(3998), &json!("created")));
    assert!(service.ledger(&order_id).await.is_empty(), "the sandbox has charged, too");
}

#[tokio::test]
#[ignore = "changes who all orders are placed with: `make test` runs it by itself"]
async fn instances_come_and_go_and_the_registry_fails_while_orders_go_on() {
    let _alone = ALONE.lock().await;
    let (service, provider, own) = (Service::connect().await, Provider::start().await, Registered::new().await);
    let (first, second) = (Instance::of(&provider).await, Instance::of(&provider).await);
    own.register(&first).await;
    own.register(&second).await;
    // Without a fallback: whatever goes through was found.
    set(&[r#"services.own={"cloud_map": "own"}"#.to_owned(), format!("secrets.own={SECRET}")]).await;
    placed_with(&service, ["grpc"; 4]).await;
    an_order_goes_through(&service).await;

    first.kill();
    an_order_goes_through(&service).await;

    let third = Instance::of(&provider).await;
    own.register(&third).await;
    second.kill();
    own.deregister(&first).await;
    own.deregister(&second).await;
    an_order_goes_through(&service).await;

    // What nobody knows by its name cannot be looked for. All functions look again in the meantime.
    own.delete().await;
    tokio::time::sleep(Duration::from_secs(31)).await;
    an_order_goes_through(&service).await;
    assert!(!logs("instances not found: the last known ones stay").await.is_empty());

    let own = Registered::new().await;
    third.kill();
    // Nobody is registered any more.
    let fallback = format!(r#"services.own={{"cloud_map": "own", "fallback": ["{}"]}}"#, provider.grpc);
    set(&[fallback]).await;
    an_order_goes_through(&service).await;
    config(&["RESET=1".to_owned()]).await;
    own.delete().await;
}
