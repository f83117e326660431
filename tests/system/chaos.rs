//! `make chaos`: clients place, cancel and retry while the functions' processes are killed at random. When the killing has
//! stopped, every order comes to its right end and the books agree to the last piece.

#![allow(clippy::print_stdout, reason = "this test shows its books")]

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    env, fs,
    panic::resume_unwind,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use aws_sdk_sqs::types::QueueAttributeName::VisibilityTimeout;
use serde_json::{Value, json};
use tokio::{process::Command, time::sleep};
use uuid::Uuid;

use crate::service::{Service, fresh_key, order, reconcile, setting, stack_file, token};

const ORDERS: usize = 200;
const CLIENTS: usize = 8;
const PRICE: u64 = 1999;
const STOCK: u64 = 1_000;
/// Fewer kills than this, or fewer in the middle of work, would show little.
const KILLS: usize = 300;
const KILLS_AT_WORK: usize = 50;
const KILLING: Duration = Duration::from_secs(90);
const SETTLING: Duration = Duration::from_secs(120);

/// `SplitMix64`: the same seed asks for the same orders and the same pauses.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % limit
    }

    async fn pause(&mut self, at_most: u64) {
        sleep(Duration::from_millis(self.below(at_most))).await;
    }
}

#[derive(Clone)]
struct Placed {
    id: String,
    pieces: u64,
    end: &'static str,
}

/// Sends until there is an answer that is not the server's failure, as a client does that has a key for its request.
async fn insist(service: &Service, who: &str, path: &str, key: &str, body: &Value) -> (u16, Value) {
    let mut last = String::new();
    for _ in 0..100 {
        let request = service.request(reqwest::Method::POST, path).bearer_auth(token(who).await);
        match request.header("idempotency-key", key).json(body).send().await {
            Ok(answer) if answer.status().is_server_error() => last = answer.status().to_string(),
            Ok(answer) => {
                let status = answer.status().as_u16();
                return (status, answer.json().await.unwrap_or_default());
            }
            Err(error) => last = error.to_string(),
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("POST {path} has failed 100 times, at last with {last}")
}

async fn client(service: Arc<Service>, product: String, mut random: Random) -> Vec<Placed> {
    let mut orders = Vec::new();
    for _ in 0..ORDERS / CLIENTS {
        let (payment_method, postal_code, mut end) = match random.below(10) {
            0 => ("pm_card_declined", "200001", "rejected"),
            1 => ("pm_card_visa", "SANDBOX-REFUSE", "rejected"),
            2 => ("pm_charged_then_timeout", "200001", "confirmed"),
            3 => ("pm_card_visa", "SANDBOX-TIMEOUT", "confirmed"),
            _ => ("pm_card_visa", "200001", "confirmed"),
        };
        let pieces = 1 + random.below(3);
        let mut body = order("customer-1", &product);
        body["items"][0]["quantity"] = json!(pieces);
        body["payment_method"] = json!(payment_method);
        body["shipping_address"]["postal_code"] = json!(postal_code);
        let (status, placed) = insist(&service, "customer-1", "/api/v1/orders", &fresh_key(), &body).await;
        assert_eq!(status, 201, "{placed:#}");
        let id = placed["order_id"].as_str().unwrap().to_owned();
        random.pause(1_000).await;
        if random.below(4) == 0 {
            let (path, reason) = (format!("/api/v1/orders/{id}/cancel"), json!({"reason": "changed my mind"}));
            let (status, answer) = insist(&service, "customer-1", &path, &fresh_key(), &reason).await;
            assert!([202, 409].contains(&status), "{status}: {answer:#}");
            if status == 202 {
                end = "cancelled";
            }
        }
        orders.push(Placed { id, pieces, end });
    }
    orders
}

/// The processes of the functions: children of our emulator that run a binary which it has unpacked.
fn functions(emulator: u64) -> Vec<String> {
    let unpacked = stack_file("tmp/ministack-provided-code");
    let of_ours = |pid: &String| {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let parent = read("stat").rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
        parent == Some(emulator) && read("cmdline").starts_with(unpacked.to_str().unwrap())
    };
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    pids.filter(|name| name.parse::<u32>().is_ok()).filter(of_ours).collect()
}

async fn kill_at_random(kills: Arc<AtomicUsize>, stop: Arc<AtomicBool>, mut random: Random) {
    let emulator: Value = serde_json::from_str(&fs::read_to_string(stack_file("ministack.json")).unwrap()).unwrap();
    let emulator = emulator["pid"].as_u64().unwrap();
    let started = Instant::now();
    while !stop.load(Ordering::Relaxed) && started.elapsed() < KILLING {
        let victims = functions(emulator);
        if !victims.is_empty() {
            let victim = &victims[usize::try_from(random.below(victims.len() as u64)).unwrap()];
            if Command::new("kill").args(["-KILL", victim]).stderr(Stdio::null()).status().await.unwrap().success() {
                kills.fetch_add(1, Ordering::Relaxed);
            }
        }
        random.pause(40).await;
    }
}

/// How many invocations have lost their process, as the emulator's log has it.
fn killed_at_work() -> usize {
    fs::read_to_string(stack_file("ministack.log")).unwrap().matches("Runtime exited before returning").count()
}

/// What has become of the orders, the money, the stock and the parcels.
#[derive(Default)]
struct Books {
    ends: BTreeMap<String, usize>,
    charged: u64,
    refunded: u64,
    confirmed_value: u64,
    missing: u64,
    confirmed_pieces: u64,
    parcels: usize,
    confirmed: usize,
    letters: u64,
}

impl Books {
    async fn read(service: &Arc<Service>, product: &str, orders: &[Placed]) -> Self {
        let mut books = Self { letters: service.dead_letters().await + service.parked().await, ..Self::default() };
        let status = |service: Arc<Service>, order: Placed| async move {
            let view = service.get("customer-1", &format!("/api/v1/orders/{}", order.id)).await;
            view.body["status"].as_str().unwrap_or("not yet in the view").to_owned()
        };
        for (order, status) in orders.iter().zip(of_each(service, orders, status).await) {
            if status == "confirmed" {
                books.confirmed += 1;
                books.confirmed_pieces += order.pieces;
                books.confirmed_value += order.pieces * PRICE;
            }
            *books.ends.entry(status).or_default() += 1;
        }
        books.missing = STOCK - service.stock(product).await;
        let ours: HashSet<&String> = orders.iter().map(|order| &order.id).collect();
        for line in service.scan("PAYMENTS_TABLE").await {
            let entry = line["entry"].as_s().unwrap();
            let amount = || line["amount"].as_n().unwrap().parse::<u64>().unwrap();
            let completed = line.get("outcome").is_some_and(|outcome| outcome.as_s().unwrap() == "completed");
            if !ours.contains(line["order_id"].as_s().unwrap()) {
            } else if entry.starts_with("charge#") && completed {
                books.charged += amount();
            } else if entry.starts_with("refund#") {
                books.refunded += amount();
            }
        }
        let shipments = service.scan("SHIPMENTS_TABLE").await;
        let under_way = shipments.iter().filter(|parcel| ours.contains(parcel["order_id"].as_s().unwrap()));
        books.parcels = under_way.filter(|parcel| parcel["state"].as_s().unwrap() == "created").count();
        books
    }

    fn line(&self, name: &str) -> u64 {
        match name {
            "charged" => self.charged,
            "refunded" => self.refunded,
            "kept: charged - refunded" => self.charged - self.refunded,
            "value of the confirmed orders" => self.confirmed_value,
            "pieces missing in stock" => self.missing,
            "pieces of the confirmed orders" => self.confirmed_pieces,
            "parcels under way" => self.parcels as u64,
            "dead letters" => self.letters,
            status => self.ends.get(status).copied().unwrap_or_default() as u64,
        }
    }
}

fn show(columns: [(&str, &Books); 3]) {
    let statuses: BTreeSet<&str> =
        columns.iter().flat_map(|(_, books)| books.ends.keys().map(String::as_str)).collect();
    let lines = [
        "charged",
        "refunded",
        "kept: charged - refunded",
        "value of the confirmed orders",
        "pieces missing in stock",
        "pieces of the confirmed orders",
        "parcels under way",
        "dead letters",
    ];
    println!("{:<32}{:>10}{:>18}{:>10}", "", columns[0].0, columns[1].0, columns[2].0);
    for line in statuses.into_iter().chain(lines) {
        let [before, then, after] = columns.map(|(_, books)| books.line(line));
        println!("{line:<32}{before:>10}{then:>18}{after:>10}");
    }
}

/// Does it for every order, eight at a time, and answers in their order.
async fn of_each<T, F>(service: &Arc<Service>, orders: &[Placed], deed: impl Fn(Arc<Service>, Placed) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let mut done = Vec::new();
    for eight in orders.chunks(8) {
        let tasks: Vec<_> = eight.iter().map(|order| tokio::spawn(deed(Arc::clone(service), order.clone()))).collect();
        for task in tasks {
            done.push(task.await.unwrap());
        }
    }
    done
}

/// Waits for the order's right end, and lets it go on as often as it is stuck. Answers how often that was.
async fn settle(service: Arc<Service>, order: Placed, deadline: Instant) -> Result<usize, String> {
    let path = format!("/api/v1/orders/{}", order.id);
    let mut resumed = 0;
    loop {
        let view = service.get("staff-1", &path).await.body;
        if view["status"] == order.end {
            return Ok(resumed);
        }
        if Instant::now() > deadline {
            let (status, should) = (&view["status"], order.end);
            let express = service.express_execution(&order.id).await.map(|execution| execution.status);
            let standard = service.standard_execution(&order.id).await.map(|execution| execution.status);
            let events = service.event_types(&order.id).await;
            return Err(format!("{} is {status}, should be {should}; {express:?}, {standard:?}, {events:?}", order.id));
        }
        if view["status"] == "needs_attention" {
            let (path, reason) = (format!("{path}/fulfilment/resume"), json!({"reason": "nothing is killed any more"}));
            // 409 when it has gone on meanwhile.
            let (status, _) = insist(&service, "staff-1", &path, &fresh_key(), &reason).await;
            resumed += usize::from(status == 202);
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// No fact stands twice in the order's stream, and its books agree with the providers'.
async fn check(service: Arc<Service>, order: Placed) {
    let mut facts = service.event_types(&order.id).await;
    facts.retain(|event| !["OrderFlagged", "FulfilmentResumed"].contains(&event.as_str()));
    let once: HashSet<&String> = facts.iter().collect();
    assert_eq!(once.len(), facts.len(), "{}: {facts:?}", order.id);
    let ledger = service.get("staff-1", &format!("/api/v1/orders/{}/ledger", order.id)).await.expect(200).body;
    assert_eq!(ledger["agrees"], true, "{ledger:#}");
}

/// The orders that hold this product, whoever knows of them.
async fn stored(service: &Service, product: &str) -> HashSet<String> {
    let mut ids = HashSet::new();
    for commit in service.scan("EVENTS_TABLE").await {
        let created = commit["event_types"].as_l().unwrap()[0].as_s().unwrap() == "OrderCreated";
        if created && commit["events"].as_s().unwrap().contains(product) {
            ids.insert(commit["stream"].as_s().unwrap().trim_start_matches("order#").to_owned());
        }
    }
    ids
}

/// How long a message that was not dealt with stays away; answers how long that was before.
async fn set_visibility(service: &Service, seconds: &str) -> String {
    let queue = setting("FULFILMENT_QUEUE_URL");
    let get = service.sqs.get_queue_attributes().queue_url(&queue).attribute_names(VisibilityTimeout);
    let before = get.send().await.unwrap().attributes.unwrap().remove(&VisibilityTimeout).unwrap();
    let set = service.sqs.set_queue_attributes().queue_url(&queue).attributes(VisibilityTimeout, seconds);
    set.send().await.unwrap();
    before
}

async fn chaos(service: Arc<Service>, seed: u64) {
    let mut random = Random(seed);
    let product = service.product(u32::try_from(STOCK).unwrap()).await;
    let before = Books::read(&service, &product, &[]).await;
    let at_work_before = killed_at_work();

    let (kills, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let seeds: Vec<u64> = (0..=CLIENTS).map(|_| random.below(u64::MAX)).collect();
    let killer = tokio::spawn(kill_at_random(Arc::clone(&kills), Arc::clone(&stop), Random(seeds[CLIENTS])));
    let clients: Vec<_> = seeds[..CLIENTS]
        .iter()
        .map(|seed| tokio::spawn(client(Arc::clone(&service), product.clone(), Random(*seed))))
        .collect();
    let mut orders = Vec::new();
    for client in clients {
        orders.extend(client.await.unwrap());
    }
    // The last orders are still being worked on.
    let enough = || kills.load(Ordering::Relaxed) >= KILLS && killed_at_work() - at_work_before >= KILLS_AT_WORK;
    while !killer.is_finished() && !enough() {
        sleep(Duration::from_millis(100)).await;
    }
    stop.store(true, Ordering::Relaxed);
    killer.await.unwrap();
    let (kills, at_work) = (kills.load(Ordering::Relaxed), killed_at_work() - at_work_before);
    println!("{} orders placed; {kills} processes killed, {at_work} of them at work\n", orders.len());
    let then = Books::read(&service, &product, &orders).await;

    let deadline = Instant::now() + SETTLING;
    let looked_after = tokio::spawn(async {
        for _ in 0..200 {
            reconcile(5).await;
            sleep(Duration::from_secs(2)).await;
        }
    });
    let settled = of_each(&service, &orders, |service, order| settle(service, order, deadline)).await;
    looked_after.abort();
    let after = Books::read(&service, &product, &orders).await;
    show([("before", &before), ("killing stopped", &then), ("settled", &after)]);
    let stuck: Vec<&String> = settled.iter().filter_map(|order| order.as_ref().err()).collect();
    assert!(stuck.is_empty(), "{stuck:#?}");
    println!("\nlet go on by staff: {}", settled.iter().flatten().sum::<usize>());

    let placed: HashSet<String> = orders.iter().map(|order| order.id.clone()).collect();
    assert_eq!(placed.len(), ORDERS);
    assert_eq!(stored(&service, &product).await, placed);
    assert_eq!(after.charged - after.refunded, after.confirmed_value);
    assert_eq!(after.missing, after.confirmed_pieces);
    assert_eq!(after.parcels, after.confirmed);
    assert_eq!(after.letters, before.letters);
    of_each(&service, &orders, check).await;
    assert!(kills >= KILLS && at_work >= KILLS_AT_WORK, "{kills} kills, {at_work} at work");
}

#[tokio::test]
#[ignore = "kills the stack's functions: make chaos"]
async fn what_is_killed_at_random_comes_to_its_right_end() {
    let seed = env::var("SEED").map_or_else(|_| Uuid::new_v4().as_u64_pair().0 >> 32, |seed| seed.parse().unwrap());
    println!("SEED={seed}");
    let service = Arc::new(Service::connect().await);
    // What a killed start-fulfilment had in its hands comes again after minutes otherwise.
    let visibility = set_visibility(&service, "5").await;
    let result = tokio::spawn(chaos(Arc::clone(&service), seed)).await;
    set_visibility(&service, &visibility).await;
    if let Err(error) = result {
        resume_unwind(error.into_panic());
    }
}
