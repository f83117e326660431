//! A provider with a file knows after a kill what it has answered before, refuses a file that it cannot go on with, and says when it
//! cannot go on with one any more.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

use std::{
    env, fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use application::ports::{
    Catalogue, ChargeCancellation, ChargeRequest, Inventory, Notification, Notifications, Payments, RefundRequest,
    ShipmentRequest, Shipping, StockAdjustment, StockLine,
};
use axum::{
    Router,
    body::to_bytes,
    extract::{Request, State},
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use chrono::DateTime;
use domain::{
    ids::{AdjustmentId, CustomerId, OrderId, PaymentMethod, ProductId},
    money::{Currency, Money, Quantity},
    order::Payment,
    product::{Product, StockChange},
    text::Text,
};
use providers::{Port, Remote, breaker};
use reference_provider::Reference;
use serde_json::json;
use settings::Address;
use tokio::{
    net::TcpListener,
    sync::{RwLock, mpsc},
    time::{sleep, timeout},
};
use tonic::transport::Channel;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use uuid::Uuid;

/// A file of books that is gone with its test.
struct Books(PathBuf);

impl Books {
    fn new() -> Self {
        Self(env::temp_dir().join(format!("books-{}.jsonl", Uuid::new_v4())))
    }

    /// Made by somebody who lets everybody read them.
    fn with(bytes: &[u8]) -> Self {
        let books = Self::new();
        fs::write(&books.0, bytes).unwrap();
        fs::set_permissions(&books.0, fs::Permissions::from_mode(0o644)).unwrap();
        books
    }

    fn mode(&self) -> u32 {
        fs::metadata(&self.0).unwrap().permissions().mode() & 0o777
    }

    fn read(&self) -> Vec<u8> {
        fs::read(&self.0).unwrap()
    }

    /// A provider in this process that goes on with them. A second one could meet a lock that a child of this process still has.
    async fn open(&self) -> Result<Reference, String> {
        Reference::default().kept_in(&self.0).await.map_err(|error| error.to_string())
    }

    /// The command that starts a provider with them.
    fn command(&self) -> Command {
        self.with_settings(Command::new(env!("CARGO_BIN_EXE_reference-provider")))
    }

    /// The same where a file has room for a few calls only. What is beyond cannot be written, and kills nobody.
    fn command_without_room(&self) -> Command {
        let mut command = Command::new("sh");
        let limited = "trap '' XFSZ; ulimit -f 4; exec \"$0\"";
        command.args(["-c", limited, env!("CARGO_BIN_EXE_reference-provider")]);
        self.with_settings(command)
    }

    fn with_settings(&self, mut command: Command) -> Command {
        command.env_remove("BREAK").env_remove("TOKEN").env("STATE_FILE", &self.0);
        command.env("GRPC_ADDRESS", "127.0.0.1:0").env("REST_ADDRESS", "127.0.0.1:0");
        command
    }
}

impl Drop for Books {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A provider in a process of its own, which is killed with it.
struct Provider {
    process: Child,
    /// Over gRPC, and over REST.
    urls: [String; 2],
}

impl Provider {
    fn start(books: &Books) -> Self {
        Self::run(books.command())
    }

    fn run(mut command: Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
        let urls = [(), ()].map(|()| said.next().unwrap().unwrap());
        Self { process, urls }
    }

    fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    fn remote(&self) -> Remote {
        remote(&self.urls[0])
    }

    /// What it says of its health over gRPC, and over REST.
    async fn health(&self) -> (ServingStatus, u16) {
        let channel = Channel::from_shared(self.urls[0].replacen("grpc", "http", 1)).unwrap().connect().await.unwrap();
        let said = HealthClient::new(channel).check(HealthCheckRequest::default()).await.unwrap().into_inner();
        let answer = reqwest::get(format!("{}/health", self.urls[1])).await.unwrap();
        (said.status(), answer.status().as_u16())
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The way there. No breaker is to come between.
fn remote(url: &str) -> Remote {
    let breaker = breaker::Settings { failures: u32::MAX.try_into().unwrap(), ..breaker::Settings::default() };
    Remote::new(Port::Payments, vec![Address::parse(url).unwrap()], Duration::from_secs(30), breaker)
}

fn key(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn order(number: u128) -> OrderId {
    OrderId::new(key(number))
}

fn cny(amount: u64) -> Money {
    Money::new(amount, Currency::parse("CNY").unwrap()).unwrap()
}

/// Each under a key of its own, for an order with the same number.
fn charge(number: u128, payment_method: &str) -> ChargeRequest {
    ChargeRequest {
        idempotency_key: key(number),
        order_id: order(number),
        customer_id: CustomerId::parse("anna").unwrap(),
        payment_method: PaymentMethod::parse(payment_method).unwrap(),
        amount: cny(3998),
    }
}

fn cancellation(number: u128) -> ChargeCancellation {
    ChargeCancellation { order_id: order(number), charge_key: key(number), refund_key: key(100 + number) }
}

fn refund(number: u128, charge: u128, amount: u64) -> RefundRequest {
    RefundRequest {
        idempotency_key: key(number),
        order_id: order(charge),
        charge_key: key(charge),
        amount: cny(amount),
    }
}

fn shipment(number: u128, postal_code: &str) -> ShipmentRequest {
    let address = json!({"street": "1 Nanjing Road", "city": "Shanghai", "state": "Shanghai", "country": "CN", "postal_code": postal_code});
    ShipmentRequest {
        idempotency_key: key(number),
        order_id: order(number),
        address: serde_json::from_value(address).unwrap(),
        lines: lines(2).to_vec(),
    }
}

fn tea() -> ProductId {
    ProductId::parse("tea-longjing").unwrap()
}

fn lines(count: u32) -> [StockLine; 1] {
    [StockLine { product_id: tea(), quantity: Quantity::new(count).unwrap() }]
}

/// Asks all four services for what they do and for what they refuse, under the same keys each time. Answers what they answered.
async fn ask_for_everything(remote: &Remote) -> Vec<String> {
    let adjustment = StockAdjustment {
        id: AdjustmentId(key(1)),
        product_id: tea(),
        change: StockChange::By(5),
        reason: Text::parse("found behind the shelf").unwrap(),
        actor: "staff:berta".to_owned(),
        at: DateTime::from_timestamp(1_767_225_600, 123_456_789).unwrap(),
    };
    let other_amount = ChargeRequest { amount: cny(1), ..charge(1, "pm_card_visa") };
    let message = Notification {
        idempotency_key: key(1),
        order_id: order(1),
        customer_id: CustomerId::parse("anna").unwrap(),
        template: "order-confirmed",
        deliverable: true,
    };
    let mut answers = vec![
        format!("{:?}", remote.adjust_stock(&adjustment).await),
        format!("{:?}", remote.reserve(order(1), &lines(2)).await),
        format!("{:?}", remote.reserve(order(2), &lines(100)).await),
        format!("{:?}", remote.release(order(3)).await),
        format!("{:?}", remote.reserve(order(3), &lines(1)).await),
        format!("{:?}", remote.products(&[tea()]).await),
        format!("{:?}", remote.reserved(order(1)).await),
        format!("{:?}", remote.charge(&charge(1, "pm_card_visa")).await),
        format!("{:?}", remote.charge(&other_amount).await),
        format!("{:?}", remote.charge(&charge(2, "pm_card_declined")).await),
        format!("{:?}", remote.cancel_charge(&cancellation(3)).await),
        format!("{:?}", remote.charge(&charge(3, "pm_card_visa")).await),
        format!("{:?}", remote.refund(&refund(11, 1, 1000)).await),
        format!("{:?}", remote.refund(&refund(12, 1, 3000)).await),
        format!("{:?}", remote.refund(&refund(13, 2, 1)).await),
        format!("{:?}", remote.refunded(order(1), key(11)).await),
        format!("{:?}", remote.charge(&charge(4, "pm_card_visa")).await),
        format!("{:?}", remote.cancel_charge(&cancellation(4)).await),
        format!("{:?}", remote.charge(&charge(5, "pm_refund_fails")).await),
        format!("{:?}", remote.cancel_charge(&cancellation(5)).await),
        format!("{:?}", remote.create_shipment(&shipment(1, "200001")).await),
        format!("{:?}", remote.create_shipment(&shipment(2, "SANDBOX-REFUSE")).await),
        format!("{:?}", remote.cancel_shipment(order(3), key(3)).await),
        format!("{:?}", remote.create_shipment(&shipment(3, "200001")).await),
        format!("{:?}", remote.confirm_delivery(key(3)).await),
        format!("{:?}", remote.create_shipment(&shipment(4, "200001")).await),
        format!("{:?}", remote.confirm_delivery(key(4)).await),
        format!("{:?}", remote.cancel_shipment(order(4), key(4)).await),
        format!("{:?}", remote.create_shipment(&shipment(5, "SANDBOX-KEEP")).await),
        format!("{:?}", remote.cancel_shipment(order(5), key(5)).await),
        format!("{:?}", Notifications::send(remote, &message).await),
    ];
    for number in 1..=5 {
        answers.push(format!("{:?}", remote.ledger(order(number)).await));
        answers.push(format!("{:?}", remote.shipment(key(number)).await));
    }
    answers
}

#[tokio::test]
async fn what_was_answered_before_a_kill_is_answered_after_it_and_refused_is_what_was() {
    let books = Books::new();
    let provider = Provider::start(&books);
    let first = provider.remote();
    let product = Product { id: tea(), name: Text::parse("Longjing").unwrap(), price: cny(1999), stock: 10 };
    assert!(first.put_product(&product).await.unwrap());
    ask_for_everything(&first).await;
    let before = ask_for_everything(&first).await;
    for answer in [
        "stock: 13",
        "replayed: true",
        "OutOfStock",
        "Released",
        "KeyReused",
        "Declined",
        "TooMuch",
        "NoCharge",
        "Cancelled",
        "Refused(\"refund_not_possible\")",
        "Refused(\"address_unknown\")",
        "NotUnderWay",
        "Delivered",
        "Refused(\"parcel_kept\")",
        "msg_",
    ] {
        assert!(before.iter().any(|given| given.contains(answer)), "{answer}: {before:#?}");
    }
    assert!(!before.iter().any(|given| given.contains("Unavailable")), "{before:#?}");
    let fails_twice = charge(6, "pm_fails_twice");
    first.charge(&fails_twice).await.unwrap_err();
    drop(provider);

    let provider = Provider::start(&books);
    let second = provider.remote();
    assert_eq!(ask_for_everything(&second).await, before);
    assert!(!second.put_product(&product).await.unwrap());
    second.charge(&fails_twice).await.unwrap_err();
    second.charge(&fails_twice).await.unwrap();
}

async fn assert_known(remote: &Remote, answered: &[(ChargeRequest, Payment)]) {
    for (request, payment) in answered {
        assert_eq!(remote.charge(request).await.unwrap(), *payment);
        assert_eq!(remote.ledger(request.order_id).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_kill_at_any_moment_takes_nothing_back_that_was_answered() {
    let books = Books::new();
    let mut answered = Vec::new();
    for round in 0..4 {
        let provider = Provider::start(&books);
        assert_known(&provider.remote(), &answered).await;
        let (answers, mut told) = mpsc::unbounded_channel();
        for _ in 0..4 {
            let (remote, answers) = (provider.remote(), answers.clone());
            tokio::spawn(async move {
                loop {
                    let request = charge(Uuid::new_v4().as_u128(), "pm_card_visa");
                    let Ok(payment) = remote.charge(&request).await else { return };
                    answers.send((request, payment)).unwrap();
                }
            });
        }
        drop(answers);
        for _ in 0..10 + 7 * round {
            answered.push(told.recv().await.unwrap());
        }
        drop(provider);
        while let Some(answer) = told.recv().await {
            answered.push(answer);
        }
    }
    assert_known(&Provider::start(&books).remote(), &answered).await;
}

/// What the file has after charges for orders with these numbers.
async fn charged(numbers: impl IntoIterator<Item = u128>) -> Vec<u8> {
    let books = Books::new();
    let provider = Provider::start(&books);
    let remote = provider.remote();
    for number in numbers {
        remote.charge(&charge(number, "pm_card_visa")).await.unwrap();
    }
    books.read()
}

#[tokio::test]
async fn a_last_line_that_is_torn_anywhere_is_dropped_and_its_call_can_come_again() {
    let written = charged([1, 2]).await;
    let ends: Vec<usize> = (1..=written.len()).filter(|end| written[end - 1] == b'\n').collect();
    let [head, first, second] = ends[..] else { panic!("{ends:?}") };
    for end in (0..=head).chain(first..=second) {
        let books = Books::with(&written[..end]);
        let reference = books.open().await.unwrap();
        for (number, of) in [(1, first), (2, second)] {
            let entries = reference.payments.ledger(order(number)).await.unwrap();
            assert_eq!(entries.len(), usize::from(end >= of), "{end} of {ends:?}");
        }
        let kept = ends.iter().copied().filter(|kept| *kept <= end).max().unwrap_or(head);
        assert_eq!(books.read(), written[..kept]);
    }

    let books = Books::with(&written[..second - 1]);
    let again = charge(2, "pm_card_visa");
    let payment = Provider::start(&books).remote().charge(&again).await.unwrap();
    assert_known(&Provider::start(&books).remote(), &[(again, payment)]).await;
}

#[tokio::test]
async fn a_file_that_cannot_be_gone_on_with_is_refused_and_stays_as_it_is() {
    let written = String::from_utf8(charged([1, 2, 3]).await).unwrap();
    let lines: Vec<&str> = written.lines().collect();
    let no_object = |line: &str| line.replacen('{', "[", 1);
    let (not_ours, broken, otherwise) = (
        "the file has other things in it than the reference provider's books",
        "line 2 of the books is broken",
        "line 2 of the books says another answer than is given now",
    );
    for (bytes, why) in [
        (written.replacen(":1}", ":2}", 1), "the books are of version 2, and only version 1 can be read"),
        ("what I have to do today\n".to_owned(), not_ours),
        ("and it has no end".to_owned(), not_ours),
        (written.replacen(lines[0], &no_object(lines[0]), 1), not_ours),
        (written.replacen(lines[1], &no_object(lines[1]), 1), broken),
        (written.replacen(lines[1], "", 1), broken),
        (written.replacen(&format!("{}\n", lines[1]), lines[1], 1), broken),
        (written.replacen("payments/charge", "payments/discharge", 1), broken),
        (written.replacen("\"amount\":3998", "\"amount\":3999", 1), otherwise),
        (written.replacen(lines[3], &no_object(lines[3]), 1), "line 4 of the books is broken"),
    ] {
        let books = Books::with(bytes.as_bytes());
        assert_eq!(books.open().await.err().as_deref(), Some(why), "{bytes}");
        assert_eq!((books.read().as_slice(), books.mode()), (bytes.as_bytes(), 0o644));
    }
}

#[tokio::test]
async fn only_its_owner_may_read_the_file_whoever_has_made_it() {
    for books in [Books::new(), Books::with(b""), Books::with(&charged([1]).await)] {
        books.open().await.unwrap();
        assert_eq!(books.mode(), 0o600);
    }
}

#[tokio::test]
async fn of_two_processes_with_one_file_the_second_is_refused_and_the_first_goes_on() {
    let books = Books::new();
    let first = Provider::start(&books);
    let second = books.command().output().unwrap();
    assert_eq!((second.status.code(), &second.stdout[..]), (Some(2), &b""[..]));
    assert_eq!(String::from_utf8(second.stderr).unwrap(), "error: the file of the books is another process's\n");
    let request = charge(1, "pm_card_visa");
    let payment = first.remote().charge(&request).await.unwrap();
    drop(first);
    assert_known(&Provider::start(&books).remote(), &[(request, payment)]).await;
}

#[tokio::test]
async fn a_provider_whose_file_takes_no_call_any_more_says_so_until_it_is_started_anew() {
    let books = Books::new();
    let provider = Provider::run(books.command_without_room());
    let remote = provider.remote();
    assert_eq!(provider.health().await, (ServingStatus::Serving, 200));
    let mut answered = Vec::new();
    for number in 1..=100 {
        let request = charge(number, "pm_card_visa");
        let Ok(payment) = remote.charge(&request).await else { break };
        answered.push((request, payment));
    }
    assert!((1..100).contains(&answered.len()), "{answered:?}");
    assert!(remote.ledger(order(1)).await.is_err());
    let told = async {
        while provider.health().await != (ServingStatus::NotServing, 503) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(30), told).await.unwrap();
    drop(provider);
    let provider = Provider::start(&books);
    assert_eq!(provider.health().await, (ServingStatus::Serving, 200));
    assert_known(&provider.remote(), &answered).await;
}

/// How many calls a provider lives for.
const CALLS: usize = 17;

/// A provider that is killed and started again all the time, and whoever calls it does not notice.
struct Mortal {
    provider: RwLock<Provider>,
    calls: AtomicUsize,
    client: reqwest::Client,
    books: Books,
}

async fn mortal() -> Remote {
    let books = Books::new();
    let provider = RwLock::new(Provider::start(&books));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mortal = Arc::new(Mortal { provider, calls: AtomicUsize::default(), client, books });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let calls = Router::new().fallback(carry).with_state(mortal);
    tokio::spawn(async move { axum::serve(listener, calls).await });
    remote(&url)
}

async fn carry(State(mortal): State<Arc<Mortal>>, request: Request) -> Response {
    if (mortal.calls.fetch_add(1, Ordering::SeqCst) + 1).is_multiple_of(CALLS) {
        let mut provider = mortal.provider.write().await;
        provider.kill();
        *provider = Provider::start(&mortal.books);
    }
    let provider = mortal.provider.read().await;
    let (asked, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let call = mortal.client.request(asked.method, format!("{}{}", provider.urls[1], asked.uri.path()));
    let answer = call.headers(asked.headers).body(body).send().await.unwrap();
    let status = answer.status();
    (status, [(CONTENT_TYPE, "application/json")], answer.bytes().await.unwrap()).into_response()
}

mod laws_over_kills {
    mod inventory {
        application::inventory_conformance!(crate::mortal());
    }
    mod payments {
        application::payments_conformance!(crate::mortal());
    }
    mod shipping {
        application::shipping_conformance!(crate::mortal());
    }
    mod notifications {
        application::notifications_conformance!(crate::mortal());
    }
}
