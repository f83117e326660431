//! Faults of the wire at every provider call of an order: the step's try ends as `docs/failure-matrix.md` says, the next one
//! finishes it or the order is cancelled, and the books agree.
//!
//! With `UPDATE=1` that section is written anew.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

use std::{
    env,
    fmt::Write as _,
    fs,
    future::pending,
    mem,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use application::{
    compare_books::Finding,
    ledger::ledger,
    memory::MemoryEventStore,
    ports::{LedgerEntry, Payments},
    shop::{FORWARD, Outside, Shop, Step, UNDO, cny},
};
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{
        HeaderValue, StatusCode,
        header::{CONTENT_LENGTH, RETRY_AFTER},
    },
    response::{IntoResponse, Response},
};
use chrono::TimeDelta;
use domain::{
    books::ShipmentBook,
    ids::OrderId,
    order::{Course, LateEffect, OrderEvent},
};
use providers::{
    Port, Remote, breaker,
    contract::{Call, wire},
};
use reference_provider::{Reference, serve};
use settings::Address;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
};
use tonic::{Code, Status};
use uuid::Uuid;

const STOCK: u32 = 10;

/// What a call over a bad wire may take. One over a good wire has more than it ever needs, however busy the machine is.
const DEADLINE: Duration = Duration::from_millis(300);
const MORE_THAN_ENOUGH: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Refused,
    Late,
    AnswerLost,
    TooManyRequests,
    Broken,
    Garbage,
}

const FAULTS: [(&str, Fault); 6] = [
    ("refuses the connection", Fault::Refused),
    ("is slower than the deadline, and does it in the end", Fault::Late),
    ("does it, and the connection breaks before the answer", Fault::AnswerLost),
    ("answers 429 or `RESOURCE_EXHAUSTED`, with `Retry-After`", Fault::TooManyRequests),
    ("answers 500 or `INTERNAL`", Fault::Broken),
    ("does it, and answers garbage", Fault::Garbage),
];

impl Fault {
    /// Whether what was asked for is done before the try of the step is over.
    fn has_effect(self) -> bool {
        matches!(self, Self::AnswerLost | Self::Garbage)
    }

    /// Whether it is never done for what was asked over the bad wire.
    fn has_none(self) -> bool {
        matches!(self, Self::Refused | Self::TooManyRequests | Self::Broken)
    }
}

/// A step, and the call that it makes: where that goes, over gRPC and over REST.
type Called = (Step, [&'static str; 2]);

const CALLS: [Called; 8] = [
    (Step::Reserve, paths::<wire::ReserveRequest>()),
    (Step::Pay, paths::<wire::ChargeRequest>()),
    (Step::Ship, paths::<wire::CreateShipmentRequest>()),
    (Step::Confirm, paths::<wire::SendRequest>()),
    (Step::CancelShipment, paths::<wire::CancelShipmentRequest>()),
    (Step::Refund, paths::<wire::CancelChargeRequest>()),
    (Step::Release, paths::<wire::ReleaseRequest>()),
    (Step::Close, paths::<wire::SendRequest>()),
];

const fn paths<C: Call>() -> [&'static str; 2] {
    [C::GRPC_PATH, C::REST_PATH]
}

/// How often a try of the step makes its call: a message is asked for once more.
fn calls_of(step: Step) -> usize {
    if matches!(step, Step::Confirm | Step::Close) { 2 } else { 1 }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    Grpc,
    Rest,
}

const TRANSPORTS: [Over; 2] = [Over::Grpc, Over::Rest];

impl Over {
    fn address(self, at: SocketAddr) -> Address {
        let scheme = match self {
            Self::Grpc => "grpc",
            Self::Rest => "http",
        };
        Address::parse(&format!("{scheme}://{at}")).unwrap()
    }

    fn path(self, [grpc, rest]: [&'static str; 2]) -> &'static str {
        match self {
            Self::Grpc => grpc,
            Self::Rest => rest,
        }
    }
}

/// Whose four providers are all called over a wire.
struct Wired;

impl Outside for Wired {
    type Store = MemoryEventStore;
    type Inventory = Remote;
    type Payments = Remote;
    type Shipping = Remote;
    type Notifications = Remote;
}

/// No breaker is to come between.
fn shop(address: &Address, deadline: Duration) -> Shop<Wired> {
    let breaker = breaker::Settings { failures: u32::MAX.try_into().unwrap(), ..breaker::Settings::default() };
    let remote = || Remote::new(Port::Payments, vec![address.clone()], deadline, breaker);
    Shop {
        store: MemoryEventStore::default(),
        inventory: remote(),
        payments: remote(),
        shipping: remote(),
        notifications: remote(),
    }
}

/// The bad wire: takes calls to the provider, of either transport, and does to them what its fault is.
struct Wire {
    fault: Fault,
    over: Over,
    to: SocketAddr,
    client: reqwest::Client,
    /// How many of the next calls meet the fault.
    bad_for: AtomicUsize,
    /// Where the calls went.
    came: Mutex<Vec<String>>,
    /// What is slower than the deadline.
    held: Mutex<Vec<reqwest::Request>>,
    connections: Mutex<JoinSet<()>>,
}

impl Wire {
    async fn open(over: Over, fault: Fault, to: SocketAddr) -> (Arc<Self>, SocketAddr) {
        let client = reqwest::Client::builder().no_proxy();
        let client = if over == Over::Grpc { client.http2_prior_knowledge() } else { client };
        let wire = Arc::new(Self {
            fault,
            over,
            to,
            client: client.build().unwrap(),
            bad_for: AtomicUsize::default(),
            came: Mutex::default(),
            held: Mutex::default(),
            connections: Mutex::default(),
        });
        let (outer, inner) = (listener().await, listener().await);
        let (at, behind) = (outer.local_addr().unwrap(), inner.local_addr().unwrap());
        let calls = Router::new().fallback(carry).with_state(Arc::clone(&wire));
        tokio::spawn(async move { axum::serve(inner, calls).await });
        tokio::spawn(Arc::clone(&wire).connect(outer, behind));
        (wire, at)
    }

    /// Has all that comes here go there, over connections that can be broken.
    async fn connect(self: Arc<Self>, here: TcpListener, there: SocketAddr) {
        loop {
            let (mut near, _) = here.accept().await.unwrap();
            self.connections.lock().unwrap().spawn(async move {
                let mut far = TcpStream::connect(there).await.unwrap();
                near.set_nodelay(true).and(far.set_nodelay(true)).unwrap();
                drop(copy_bidirectional(&mut near, &mut far).await);
            });
        }
    }

    async fn forward(&self, request: reqwest::Request) -> Response {
        let answer: axum::http::Response<reqwest::Body> = self.client.execute(request).await.unwrap().into();
        answer.map(Body::new)
    }

    fn fails(&self, status: StatusCode, code: Code) -> Response {
        let mut answer = match self.over {
            Over::Grpc => Status::new(code, "come back later").into_http(),
            Over::Rest => (status, "come back later").into_response(),
        };
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        answer
    }

    /// What was held comes after all.
    async fn let_go(&self) {
        let held = mem::take(&mut *self.held.lock().unwrap());
        for request in held {
            assert_eq!(self.forward(request).await.status(), 200);
        }
    }
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

async fn carry(State(wire): State<Arc<Wire>>, request: Request) -> Response {
    let (asked, body) = request.into_parts();
    let path = asked.uri.path();
    wire.came.lock().unwrap().push(path.to_owned());
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let request = wire.client.request(asked.method.clone(), format!("http://{}{path}", wire.to));
    let request = request.headers(asked.headers).body(body).build().unwrap();
    let left = wire.bad_for.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
    if left.is_err() {
        return wire.forward(request).await;
    }
    match wire.fault {
        Fault::Refused => panic!("nobody listens"),
        Fault::Late => {
            wire.held.lock().unwrap().push(request);
            pending().await
        }
        Fault::AnswerLost => {
            wire.forward(request).await;
            wire.connections.lock().unwrap().abort_all();
            pending().await
        }
        Fault::TooManyRequests => wire.fails(StatusCode::TOO_MANY_REQUESTS, Code::ResourceExhausted),
        Fault::Broken => wire.fails(StatusCode::INTERNAL_SERVER_ERROR, Code::Internal),
        Fault::Garbage => {
            let mut answer = wire.forward(request).await;
            answer.headers_mut().remove(CONTENT_LENGTH);
            answer.map(|_| Body::from("no message"))
        }
    }
}

/// What becomes of an order after a step has met the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    TriedAgain,
    Cancelled,
}

/// A provider with two wires to it, a good one and a bad one.
struct Lines {
    reference: Arc<Reference>,
    wire: Arc<Wire>,
    well: Shop<Wired>,
    /// Works on the same orders for one try of a step.
    badly: Shop<Wired>,
    /// Bound, so that nobody else is there, and listening to nobody.
    _deaf: TcpSocket,
}

impl Lines {
    async fn open(over: Over, fault: Fault) -> Self {
        let reference = Arc::new(Reference::default());
        let (grpc, rest) = (listener().await, listener().await);
        let at = if over == Over::Grpc { grpc.local_addr() } else { rest.local_addr() }.unwrap();
        tokio::spawn(serve(Arc::clone(&reference), grpc, rest, pending()));
        let (wire, bad) = Wire::open(over, fault, at).await;
        let deaf = TcpSocket::new_v4().unwrap();
        deaf.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let bad = if fault == Fault::Refused { deaf.local_addr().unwrap() } else { bad };
        let deadline = if fault == Fault::Late { DEADLINE } else { MORE_THAN_ENOUGH };
        let well = shop(&over.address(at), MORE_THAN_ENOUGH);
        Self { reference, wire, well, badly: shop(&over.address(bad), deadline), _deaf: deaf }
    }

    /// One order, of which one step meets the fault in so many calls. Says how that try of the step ended.
    async fn order(&mut self, called: Called, then: Then, bad_for: usize) -> String {
        let id = OrderId::new(Uuid::new_v4());
        self.well.set_stock(STOCK).await;
        self.well.place(id, "pm_card_visa").await.unwrap();
        let mut ended = None;
        for step in FORWARD {
            if step == called.0 {
                ended = Some(self.meet(called, id, bad_for).await);
                if then == Then::Cancelled {
                    break;
                }
            }
            self.well.run(step, id).await.unwrap();
        }
        let undone = then == Then::Cancelled || UNDO.contains(&called.0);
        if undone {
            self.well.cancel(id).await.unwrap();
            for step in UNDO {
                if step == called.0 {
                    ended = Some(self.meet(called, id, bad_for).await);
                }
                self.well.run(step, id).await.unwrap();
            }
        }
        self.wire.let_go().await;
        let case = format!("{called:?} {:?} {:?} {then:?}", self.wire.fault, self.wire.over);
        self.assert_right(id, undone, self.charged(called.0, then), &case).await;
        assert_eq!(self.told(id), self.to_be_told(called.0, then, undone, bad_for), "{case}");
        ended.unwrap()
    }

    async fn meet(&mut self, (step, paths): Called, id: OrderId, bad_for: usize) -> String {
        self.wire.bad_for.store(bad_for, Ordering::SeqCst);
        mem::swap(&mut self.well.store, &mut self.badly.store);
        let ended = self.badly.run(step, id).await;
        mem::swap(&mut self.well.store, &mut self.badly.store);
        self.wire.bad_for.store(0, Ordering::SeqCst);

        let calls = if self.wire.fault == Fault::Refused { 0 } else { calls_of(step) };
        let came = mem::take(&mut *self.wire.came.lock().unwrap());
        assert_eq!(came, vec![self.wire.over.path(paths); calls]);
        if let Err(error) = ended {
            return format!("`{}`", error.error_type());
        }
        let known = match self.well.events(id).await.pop() {
            Some(
                OrderEvent::OrderConfirmed { notification_id } | OrderEvent::OrderCancelled { notification_id, .. },
            ) => notification_id.is_some(),
            other => panic!("{step:?} goes on: {other:?}"),
        };
        let message = if step == Step::Close { "order-cancelled" } else { "order-confirmed" };
        match (self.told(id).contains(&message), known) {
            (false, false) => "goes on, not told".to_owned(),
            (true, false) => "goes on, told without knowing".to_owned(),
            (true, true) => "goes on, told".to_owned(),
            (false, true) => panic!("{step:?} knows a message that was not sent"),
        }
    }

    fn told(&self, id: OrderId) -> Vec<&'static str> {
        let sent = self.reference.notifications.sent();
        let mut told: Vec<&str> = sent.iter().filter(|sent| sent.order_id == id).map(|sent| sent.template).collect();
        told.sort_unstable();
        told
    }

    fn to_be_told(&self, met: Step, then: Then, undone: bool, bad_for: usize) -> Vec<&'static str> {
        let lost = |step: Step| met == step && self.wire.fault.has_none() && bad_for >= calls_of(step);
        let confirmed = then == Then::TriedAgain || met == Step::Confirm;
        [("order-cancelled", undone, Step::Close), ("order-confirmed", confirmed, Step::Confirm)]
            .into_iter()
            .filter(|(_, sent, step)| *sent && !lost(*step))
            .map(|(message, ..)| message)
            .collect()
    }

    /// How often the customer is charged in the end.
    fn charged(&self, met: Step, then: Then) -> usize {
        let never = match (then, met) {
            (Then::Cancelled, Step::Reserve) => true,
            (Then::Cancelled, Step::Pay) => !self.wire.fault.has_effect(),
            _ => false,
        };
        usize::from(!never)
    }

    /// Money, stock and parcel are where they belong at this end, and both books say so.
    async fn assert_right(&self, id: OrderId, undone: bool, charged: usize, case: &str) {
        let Shop { store, inventory, payments, shipping, .. } = &self.well;
        let books = ledger(store, payments, inventory, shipping, id).await.unwrap();
        assert!(books.order.agrees_with(&books.providers), "{case}: {books:#?}");
        let entries = payments.ledger(id).await.unwrap();
        let taken = entries.iter().filter(|entry| matches!(entry, LedgerEntry::Charged(..))).count();
        let given_back = entries.iter().filter(|entry| matches!(entry, LedgerEntry::Refunded(..))).count();
        let (books, course) = (books.providers, self.well.order(id).await.course);
        if undone {
            assert!(matches!(course, Course::Ended(..)), "{case}: {course:?}");
            assert_eq!((taken, given_back, books.charged), (charged, charged, books.refunded), "{case}");
            assert_eq!((&books.reserved[..], self.well.stock().await), (&[][..], STOCK), "{case}");
            assert_ne!(books.shipment, ShipmentBook::Created, "{case}");
        } else {
            assert!(matches!(course, Course::Confirmed(..)), "{case}: {course:?}");
            assert_eq!((taken, given_back, books.charged), (charged, 0, cny(3998)), "{case}");
            assert_eq!((books.reserved.len(), self.well.stock().await), (1, STOCK - 2), "{case}");
            assert_eq!(books.shipment, ShipmentBook::Created, "{case}");
        }
        let mut events = self.well.event_types(id).await;
        let all = events.len();
        events.sort_unstable();
        events.dedup();
        assert_eq!(events.len(), all, "{case}: a fact is recorded twice: {events:?}");
    }
}

/// What a fault has every call's step end with.
async fn row(over: Over, fault: Fault) -> Vec<String> {
    let mut lines = Lines::open(over, fault).await;
    let mut cells = Vec::new();
    for called in CALLS {
        let ended = lines.order(called, Then::TriedAgain, calls_of(called.0)).await;
        if FORWARD.contains(&called.0) {
            assert_eq!(lines.order(called, Then::Cancelled, calls_of(called.0)).await, ended);
        }
        cells.push(ended);
    }
    cells
}

const HEADING: &str = "\n## Faults of the wire\n";

const ABOUT: &str = "
Written by `shared/reference-provider/tests/wire_faults.rs`, which holds steps and clients to it in one process. All four providers are
the reference provider over real sockets, and the wire is bad for one try of one step. The cell is how that try ends: with an
error that the state machine tries again, or well, because an order goes on without its message.

Each cell is two orders over each transport. Of one the step is tried again over a good wire; the other is cancelled instead,
unless the step is an undo. What is slower than the deadline is done last of all. Then each order has come to its end, charged
once or not at all; both books agree, the stock is exact, and no event or message is there twice. A try asks twice for its
message, here both times over the bad wire; when the second is answered, the order knows that it was told. Nobody goes by
`Retry-After`: the state machine has pauses of its own.
";

fn render(rows: &[(&str, Over, Vec<String>)]) -> String {
    let mut heads = String::new();
    for (step, [grpc, _]) in CALLS {
        write!(heads, " `{}`: `{}` |", step.name(), grpc.rsplit('/').next().unwrap()).unwrap();
    }
    let mut table = format!("\n| the provider | over |{heads}\n|---|---{}|\n", "|---".repeat(CALLS.len()));
    for (name, _) in FAULTS {
        let of = |over: Over| &rows.iter().find(|row| (row.0, row.1) == (name, over)).unwrap().2;
        let (grpc, rest) = (of(Over::Grpc), of(Over::Rest));
        let both: &[_] = if grpc == rest { &[("both", grpc)] } else { &[("gRPC", grpc), ("REST", rest)] };
        for (over, cells) in both {
            writeln!(table, "| {name} | {over} | {} |", cells.join(" | ")).unwrap();
        }
    }
    format!("{HEADING}{ABOUT}{table}")
}

#[tokio::test]
async fn every_call_under_every_fault_of_the_wire_comes_to_its_right_end() {
    let mut running = JoinSet::new();
    for over in TRANSPORTS {
        for (name, fault) in FAULTS {
            running.spawn(async move { (name, over, row(over, fault).await) });
        }
    }
    let section = render(&running.join_all().await);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/failure-matrix.md");
    let written = fs::read_to_string(&file).unwrap();
    let (before, mut there) = written.split_at(written.find(HEADING).unwrap_or(written.len()));
    if env::var_os("UPDATE").is_some() {
        fs::write(&file, format!("{before}{section}")).unwrap();
        there = &section;
    }
    assert!(there == section, "docs/failure-matrix.md says otherwise (UPDATE=1 rewrites it):\n{section}");
}

/// No provider bars a key for ever, and no wire says how long it may hold what was asked over it.
#[tokio::test]
async fn a_charge_that_comes_after_its_cancellation_was_answered_goes_back_a_day_later() {
    for over in TRANSPORTS {
        let mut lines = Lines::open(over, Fault::Late).await;
        let (id, pay) = (OrderId::new(Uuid::new_v4()), CALLS[1]);
        lines.well.set_stock(STOCK).await;
        lines.well.place(id, "pm_card_visa").await.unwrap();
        lines.well.run(Step::Reserve, id).await.unwrap();
        assert_eq!(lines.meet(pay, id, 1).await, "`Unavailable`");
        lines.well.cancel(id).await.unwrap();
        for step in UNDO {
            lines.well.run(step, id).await.unwrap();
        }
        lines.reference.payments.forget_what_is_barred();
        lines.wire.let_go().await;
        let entries = lines.well.payments.ledger(id).await.unwrap();
        assert!(matches!(entries.as_slice(), [.., LedgerEntry::Charged(..)]), "{over:?}: {entries:?}");

        let finding = lines.well.compare_books(id, TimeDelta::hours(25)).await.unwrap();
        assert!(matches!(&finding, Finding::Agreed(late) if late[..] == [LateEffect::Charge]), "{finding:?}");
        lines.assert_right(id, true, 1, &format!("a late charge over {over:?}")).await;
        let finding = lines.well.compare_books(id, TimeDelta::hours(50)).await.unwrap();
        assert!(matches!(finding, Finding::NotToBeCompared), "{finding:?}");
    }
}

#[tokio::test]
async fn a_message_whose_first_call_is_not_answered_is_sent_by_the_second_and_once() {
    let mut running = JoinSet::new();
    for over in TRANSPORTS {
        for (_, fault) in FAULTS.into_iter().filter(|(_, fault)| *fault != Fault::Refused) {
            running.spawn(async move {
                let mut lines = Lines::open(over, fault).await;
                for called in CALLS.into_iter().filter(|(step, _)| calls_of(*step) > 1) {
                    assert_eq!(lines.order(called, Then::TriedAgain, 1).await, "goes on, told", "{over:?} {fault:?}");
                }
            });
        }
    }
    running.join_all().await;
}
