//! What stands between a step and a provider of one's own: what it adds to a call while nothing changes, and what the breaker
//! is worth while the provider is down.

use std::{
    error::Error,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use ::providers::{
    Choice, Port, Registry, Remote, breaker,
    contract::{
        Call,
        wire::{
            ChargeRequest, ChargeResponse, GetLedgerRequest, GetLedgerResponse, Payment, charge_response,
            payments_client::PaymentsClient,
        },
    },
};
use adapters::dynamodb::DynamoPayments;
use application::{
    fulfilment::payment::process_payment,
    memory::MemoryLimits,
    ports::Payments,
    shop::{Shop, Step, at, input},
};
use axum::{Json, Router, http::StatusCode, routing::post};
use domain::ids::OrderId;
use reference_provider::{Reference, serve};
use settings::{Address, Discovery, Layers, Live, Look, Source};
use tokio::{net::TcpListener, task::JoinSet, time::sleep};
use tonic::transport::Endpoint;
use uuid::Uuid;

use crate::{
    contest::{Contest, print, quantile, ratio, sorted},
    database::LocalDynamo,
};

pub(crate) async fn run() {
    what_is_added().await;
    what_the_breaker_is_worth().await;
}

/// Many short turns, as for creates; all of them are over before an answer of the registry is old.
const ROUNDS: usize = 300;
const CALLS_PER_ROUND: u32 = 10;

/// A registry, and a source of settings, that count how often they are asked.
#[derive(Clone)]
struct Counted {
    asked: Arc<AtomicUsize>,
    address: Address,
    document: Arc<Mutex<Option<String>>>,
}

impl Source for Counted {
    async fn newer(&self) -> Result<Option<String>, Box<dyn Error + Send + Sync>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Ok(self.document.lock().unwrap().take())
    }
}

impl Discovery for Counted {
    fn instances<'a>(&'a self, _: &'a str) -> Look<'a> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Ok(vec![self.address.clone()]) })
    }
}

impl Counted {
    fn new(kind: &str, address: Address) -> Self {
        let document = format!(
            r#"{{"services": {{"own": {{}}}}, "providers": {{"payments": {{"kind": "{kind}", "service": "own"}}}}}}"#
        );
        Self { asked: Arc::default(), address, document: Arc::new(Mutex::new(Some(document))) }
    }

    /// As `process-payment` makes it.
    fn choice(&self, built_in: DynamoPayments) -> Choice<DynamoPayments, Self> {
        let settings = Live::new(Layers::new(String::new(), []), Some(self.clone()));
        Choice::new(Port::Payments, built_in, Arc::new(settings), Registry::new(self.clone()))
    }
}

/// The call is `GetLedger` of an order that was never charged, so that there is little else to take time.
async fn what_is_added() {
    let (grpc, rest) = (listener().await, listener().await);
    let (grpc_at, rest_at) = (grpc.local_addr().unwrap(), rest.local_addr().unwrap());
    let provider = tokio::spawn(serve(Arc::new(Reference::default()), grpc, rest, std::future::pending()));
    // Never called.
    let dynamo = LocalDynamo::start().await;
    let built_in = DynamoPayments::new(dynamo.client(), "payments".to_owned());
    let id = OrderId::new(Uuid::new_v4());
    let request = || GetLedgerRequest { order_id: id.to_string() };

    let channel = Endpoint::from_shared(format!("http://{grpc_at}")).unwrap().connect().await.unwrap();
    let tonic = PaymentsClient::new(channel);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{rest_at}{}", GetLedgerRequest::REST_PATH);
    let mut rows = Vec::new();
    for (kind, scheme, at) in [("grpc", "grpc", grpc_at), ("rest", "http", rest_at)] {
        let address = Address::parse(&format!("{scheme}://{at}")).unwrap();
        let breaker = breaker::Settings::default();
        let listed = Remote::new(Port::Payments, vec![address.clone()], Duration::from_secs(5), breaker);
        let counted = Counted::new(kind, address);
        let choice = counted.choice(built_in.clone());
        let contest = match kind {
            "grpc" => Contest::default().enter("gRPC: tonic's client (baseline)", || {
                repeat(|| async {
                    tonic.clone().get_ledger(request()).await.unwrap();
                })
            }),
            _ => Contest::default().enter("REST: reqwest (baseline)", || {
                repeat(|| async {
                    let answer = client.post(&url).json(&request()).send().await.unwrap().error_for_status().unwrap();
                    answer.json::<GetLedgerResponse>().await.unwrap();
                })
            }),
        };
        let outcomes = contest
            .enter("ours: deadline, breaker, checks", || {
                repeat(|| async {
                    listed.ledger(id).await.unwrap();
                })
            })
            .enter("ours: with settings and discovery", || {
                repeat(|| async {
                    choice.now().await.unwrap().of_new_orders().unwrap().ledger(id).await.unwrap();
                })
            })
            .run(ROUNDS)
            .await;
        // One document and one look into the registry, in the round that does not count.
        assert_eq!(counted.asked.load(Ordering::Relaxed), 2, "something was asked for once more");
        let micros = |seconds: f64| format!("{:.0}", seconds * 1e6);
        rows.extend(outcomes.iter().map(|outcome| {
            let [median, lower, upper] = outcome.longer.map(micros);
            let time = micros(outcome.time.as_secs_f64());
            [outcome.name.to_owned(), time, ratio(outcome.ratio), format!("{median} ({lower} to {upper})")]
        }));
    }
    provider.abort();
    print(
        "providers: one call of a provider on this machine, while nothing changes",
        ["", "µs", "times the baseline", "µs more"],
        &rows,
    );
    println!("calls of AppConfig and Cloud Map for these: none");
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

async fn repeat<F: Future<Output = ()>>(call: impl Fn() -> F) -> Duration {
    let begin = Instant::now();
    for _ in 0..CALLS_PER_ROUND {
        call().await;
    }
    begin.elapsed() / CALLS_PER_ROUND
}

const ORDERS: usize = 50;

/// A second of the state machine's and of the breaker's is so long here.
const SECOND: Duration = Duration::from_millis(20);
const OUTAGES: [u32; 2] = [60, 300];
const OUTAGE_ROUNDS: usize = 5;

/// `infra/fulfilment.asl.json`: how often a step is tried before the Express execution hands over, and then in each round of
/// the Standard one, with template.yaml's pauses between these.
const EXPRESS_TRIES: u32 = 3;
const STANDARD_TRIES: u32 = 5;
const PAUSES: [f64; 8] = [30.0, 60.0, 120.0, 240.0, 480.0, 900.0, 900.0, 900.0];

/// A payment provider that is down at first: it answers 503 at once.
#[derive(Default)]
struct Provider {
    up: AtomicBool,
    calls_while_down: AtomicUsize,
}

impl Provider {
    fn charge(&self, request: ChargeRequest) -> Result<Json<ChargeResponse>, StatusCode> {
        if !self.up.load(Ordering::SeqCst) {
            self.calls_while_down.fetch_add(1, Ordering::SeqCst);
            return Err(StatusCode::SERVICE_UNAVAILABLE);
        }
        let charged = Payment {
            transaction_id: request.idempotency_key,
            amount: request.amount,
            processed_at: "2026-01-01T00:00:00Z".to_owned(),
        };
        Ok(Json(ChargeResponse { outcome: Some(charge_response::Outcome::Charged(charged)) }))
    }
}

/// The warm functions: each has a breaker of its own and serves one step at a time. Whoever was idle last is called next.
struct Functions {
    idle: Mutex<Vec<Remote>>,
    address: Address,
    breaker: breaker::Settings,
}

impl Functions {
    async fn process_payment(&self, shop: &Shop, id: OrderId) -> bool {
        let idle = self.idle.lock().unwrap().pop();
        let payments = idle.unwrap_or_else(|| {
            Remote::new(Port::Payments, vec![self.address.clone()], Duration::from_secs(5), self.breaker)
        });
        let charged = process_payment(&shop.store, &payments, &MemoryLimits::default(), &input(id), at()).await.is_ok();
        self.idle.lock().unwrap().push(payments);
        charged
    }
}

/// What came of the orders: calls while the provider was down, and for each order when it was charged after that.
struct Worth {
    calls: usize,
    charged_after: Vec<f64>,
}

async fn outage(seconds: u32, breaker: breaker::Settings) -> Worth {
    let provider = Arc::new(Provider::default());
    let listener = listener().await;
    let address = Address::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let called = Arc::clone(&provider);
    let charge = async move |Json(request): Json<ChargeRequest>| called.charge(request);
    let routes = Router::new().route(ChargeRequest::REST_PATH, post(charge));
    let server = tokio::spawn(async move { axum::serve(listener, routes).await });
    let shop = Arc::new(Shop::with_stock(u32::try_from(ORDERS * 2).unwrap()).await);
    let functions = Arc::new(Functions { idle: Mutex::default(), address, breaker });

    let mut orders = JoinSet::new();
    for _ in 0..ORDERS {
        let id = OrderId::new(Uuid::new_v4());
        shop.place(id, "pm_card_visa").await.unwrap();
        shop.run(Step::Reserve, id).await.unwrap();
        let (shop, functions) = (Arc::clone(&shop), Arc::clone(&functions));
        orders.spawn(async move {
            until_charged(&shop, &functions, id).await;
            Instant::now()
        });
    }
    sleep(SECOND * seconds).await;
    provider.up.store(true, Ordering::SeqCst);
    let back = Instant::now();
    let charged = orders.join_all().await;
    server.abort();
    let after = charged.iter().map(|at| at.duration_since(back).as_secs_f64() / SECOND.as_secs_f64());
    Worth { calls: provider.calls_while_down.load(Ordering::SeqCst), charged_after: sorted(after) }
}

/// As the state machine tries the step.
async fn until_charged(shop: &Shop, functions: &Functions, id: OrderId) {
    let pauses = PAUSES.map(|pause| (STANDARD_TRIES, pause * (1.0 + chance() / 2.0)));
    // The Standard execution begins at once, and a round comes after its last pause.
    for (tries, pause) in [(EXPRESS_TRIES, 0.0)].into_iter().chain(pauses).chain([(STANDARD_TRIES, 0.0)]) {
        for retry in 0..tries {
            if functions.process_payment(shop, id).await {
                return;
            }
            if retry + 1 < tries {
                sleep(SECOND.mul_f64(f64::from(1 << retry) * chance())).await;
            }
        }
        sleep(SECOND.mul_f64(pause)).await;
    }
    panic!("a person would have been called");
}

/// From 0 to 1.
fn chance() -> f64 {
    f64::from(Uuid::new_v4().as_fields().0) / f64::from(u32::MAX)
}

async fn what_the_breaker_is_worth() {
    let deployed = breaker::Settings::default();
    let never = breaker::Settings { failures: u32::MAX.try_into().unwrap(), ..deployed };
    let scaled = breaker::Settings { open_for: SECOND.mul_f64(deployed.open_for.as_secs_f64()), ..deployed };
    let mut rows = Vec::new();
    for seconds in OUTAGES {
        let mut worths = [Vec::new(), Vec::new()];
        for _ in 0..OUTAGE_ROUNDS {
            let (without, with) = tokio::join!(outage(seconds, never), outage(seconds, scaled));
            worths[0].push(without);
            worths[1].push(with);
        }
        #[expect(clippy::cast_precision_loss, reason = "there are not so many calls")]
        let calls = |worths: &[Worth]| quantile(&sorted(worths.iter().map(|worth| worth.calls as f64)), 2);
        let baseline = calls(&worths[0]);
        for (name, worths) in ["no breaker (baseline)", "a breaker in each function"].into_iter().zip(&worths) {
            let after = |quarters| {
                let rounds = worths.iter().map(|worth| quantile(&worth.charged_after, quarters));
                format!("{:.0}", quantile(&sorted(rounds), 2))
            };
            let calls = calls(worths);
            let share = format!("{:.2}", calls / baseline);
            rows.push([name.to_owned(), seconds.to_string(), format!("{calls:.0}"), share, after(2), after(4)]);
        }
    }
    print(
        &format!("providers: {ORDERS} orders' payment steps while the provider answers 503, fifty times as fast"),
        ["", "s down", "calls while down", "of the baseline", "half charged after s", "all after s"],
        &rows,
    );
}
