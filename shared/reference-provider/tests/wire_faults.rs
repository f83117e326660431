//! Faults of the wire at every provider call of an order: the try that meets one ends as `docs/failure-matrix.md` says, the next
//! one finishes it or the order is cancelled, and the books agree.
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
    sync::{Arc, Mutex},
    time::Duration,
};

use application::{
    compare_books::{CompareError, Finding},
    create_order::CreateOrderError,
    event_store::Unavailable,
    event_stream::{CommandError, LoadError},
    fulfilment::StepError,
    ledger::{Ledger, ledger},
    memory::MemoryEventStore,
    ports::{AdjustError, LedgerEntry, Payments},
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
    ids::{AdjustmentId, OrderId},
    money::Money,
    order::{CompletedRefund, Course, LateEffect, OrderEvent, SkippableStep},
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
const MORE_STOCK: u32 = 5;

const TOTAL: u64 = 2 * 1999;
/// What staff give back of it, and what they had given up before and is given back all the same.
const REFUND: u64 = 500;
const GIVEN_UP: u64 = 1000;

/// As long as the books are left alone, and a moment.
const A_DAY_LATER: TimeDelta = TimeDelta::hours(25);

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

/// What else calls a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Other {
    CreateOrder,
    IssueRefund,
    /// When one that staff had given up was made all the same.
    IssueAnotherRefund,
    /// Of an order that has ended, and that was charged after that.
    CompareBooks,
    RecordDelivery,
    AdjustStock,
}

impl Other {
    /// The name of its function.
    fn name(self) -> &'static str {
        match self {
            Self::CreateOrder => "create-order",
            Self::IssueRefund | Self::IssueAnotherRefund => Step::IssueRefund.name(),
            Self::CompareBooks => SkippableStep::CompareBooks.name(),
            Self::RecordDelivery => "record-delivery",
            Self::AdjustStock => "adjust-stock",
        }
    }

    /// What goes back to the customer, each time.
    fn refunds(self) -> Vec<u64> {
        match self {
            Self::IssueRefund => vec![REFUND],
            Self::IssueAnotherRefund => vec![GIVEN_UP, REFUND],
            Self::CompareBooks => vec![TOTAL],
            Self::CreateOrder | Self::RecordDelivery | Self::AdjustStock => vec![],
        }
    }
}

const OTHERS: [(Other, [&str; 2]); 8] = [
    (Other::CreateOrder, paths::<wire::GetProductsRequest>()),
    (Other::IssueRefund, paths::<wire::RefundRequest>()),
    (Other::IssueAnotherRefund, paths::<wire::GetRefundRequest>()),
    (Other::CompareBooks, paths::<wire::GetLedgerRequest>()),
    (Other::CompareBooks, paths::<wire::GetReservationRequest>()),
    (Other::CompareBooks, paths::<wire::GetShipmentRequest>()),
    (Other::RecordDelivery, paths::<wire::ConfirmDeliveryRequest>()),
    (Other::AdjustStock, paths::<wire::AdjustStockRequest>()),
];

/// What a step's call brings about when it comes after its undo was answered.
struct Late {
    called: Called,
    effect: LateEffect,
    /// The call that takes it back.
    undo: [&'static str; 2],
    /// How often the customer is charged in the end.
    charged: usize,
}

const LATE: [Late; 3] = [
    Late { called: CALLS[0], effect: LateEffect::Reservation, undo: paths::<wire::ReleaseRequest>(), charged: 0 },
    Late { called: CALLS[1], effect: LateEffect::Charge, undo: paths::<wire::CancelChargeRequest>(), charged: 1 },
    Late { called: CALLS[2], effect: LateEffect::Shipment, undo: paths::<wire::CancelShipmentRequest>(), charged: 1 },
];

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
fn remote(address: Address, deadline: Duration) -> Remote {
    let breaker = breaker::Settings { failures: u32::MAX.try_into().unwrap(), ..breaker::Settings::default() };
    Remote::new(Port::Payments, vec![address], deadline, breaker)
}

fn shop(address: &Address) -> Shop<Wired> {
    let well = || remote(address.clone(), MORE_THAN_ENOUGH);
    Shop {
        store: MemoryEventStore::default(),
        inventory: well(),
        payments: well(),
        shipping: well(),
        notifications: well(),
    }
}

/// The provider that takes this call.
fn provider<'s>(shop: &'s mut Shop<Wired>, [_, rest]: [&'static str; 2]) -> &'s mut Remote {
    match rest.split('/').nth(2) {
        Some("inventory") => &mut shop.inventory,
        Some("payments") => &mut shop.payments,
        Some("shipping") => &mut shop.shipping,
        Some("notifications") => &mut shop.notifications,
        _ => panic!("nobody takes {rest}"),
    }
}

/// The bad wire: takes calls to the provider, of either transport, and does to them what its fault is.
struct Wire {
    fault: Fault,
    over: Over,
    to: SocketAddr,
    client: reqwest::Client,
    /// Which calls meet the fault, and how many more of them.
    bad_for: Mutex<(&'static str, usize)>,
    /// Where the calls went.
    came: Mutex<Vec<String>>,
    /// What is slower than the deadline.
    held: Mutex<Vec<reqwest::Request>>,
    connections: Mutex<JoinSet<()>>,
    /// Bound, so that nobody else is there, and listening to nobody.
    _deaf: TcpSocket,
}

impl Wire {
    async fn open(over: Over, fault: Fault, to: SocketAddr) -> (Arc<Self>, SocketAddr) {
        let client = reqwest::Client::builder().no_proxy();
        let client = if over == Over::Grpc { client.http2_prior_knowledge() } else { client };
        let deaf = TcpSocket::new_v4().unwrap();
        deaf.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let (outer, inner) = (listener().await, listener().await);
        let (at, behind) = (outer.local_addr().unwrap(), inner.local_addr().unwrap());
        let at = if fault == Fault::Refused { deaf.local_addr().unwrap() } else { at };
        let wire = Arc::new(Self {
            fault,
            over,
            to,
            client: client.build().unwrap(),
            bad_for: Mutex::default(),
            came: Mutex::default(),
            held: Mutex::default(),
            connections: Mutex::default(),
            _deaf: deaf,
        });
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

    /// Whether this call meets the fault.
    fn is_bad_for(&self, path: &str) -> bool {
        let mut bad_for = self.bad_for.lock().unwrap();
        let meets = bad_for.0 == path && bad_for.1 > 0;
        bad_for.1 -= usize::from(meets);
        meets
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
        for mut request in held {
            // Whoever had set this time has gone.
            request.headers_mut().remove("grpc-timeout");
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
    let meets = wire.is_bad_for(path);
    wire.came.lock().unwrap().push(path.to_owned());
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let request = wire.client.request(asked.method.clone(), format!("http://{}{path}", wire.to));
    let request = request.headers(asked.headers).body(body).build().unwrap();
    if !meets {
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
    well: Shop<Wired>,
    wire: Arc<Wire>,
    /// Takes the place of one provider for one try.
    badly: Remote,
}

impl Lines {
    async fn open(over: Over, fault: Fault) -> Self {
        let reference = Arc::new(Reference::default());
        let (grpc, rest) = (listener().await, listener().await);
        let at = if over == Over::Grpc { grpc.local_addr() } else { rest.local_addr() }.unwrap();
        tokio::spawn(serve(Arc::clone(&reference), grpc, rest, pending()));
        let (wire, badly) = Self::bad_wire(over, fault, at).await;
        Self { reference, well: shop(&over.address(at)), wire, badly }
    }

    async fn bad_wire(over: Over, fault: Fault, to: SocketAddr) -> (Arc<Wire>, Remote) {
        let (wire, at) = Wire::open(over, fault, to).await;
        let deadline = if fault == Fault::Late { DEADLINE } else { MORE_THAN_ENOUGH };
        (wire, remote(over.address(at), deadline))
    }

    /// From now on the provider that takes this call is called over the bad wire, where so many of them meet the fault.
    fn worsen(&mut self, paths: [&'static str; 2], bad_for: usize) {
        *self.wire.bad_for.lock().unwrap() = (self.wire.over.path(paths), bad_for);
        mem::swap(provider(&mut self.well, paths), &mut self.badly);
    }

    /// Nothing goes over the bad wire any more. Says what has.
    fn mend(&mut self, paths: [&'static str; 2]) -> Vec<String> {
        mem::swap(provider(&mut self.well, paths), &mut self.badly);
        mem::take(&mut *self.wire.came.lock().unwrap())
    }

    async fn place(&self) -> OrderId {
        let id = OrderId::new(Uuid::new_v4());
        self.well.set_stock(STOCK).await;
        self.well.place(id, "pm_card_visa").await.unwrap();
        id
    }

    /// One order, of which one step meets the fault in so many calls. Says how that try of the step ended.
    async fn order(&mut self, called: Called, then: Then, bad_for: usize) -> String {
        let id = self.place().await;
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
        self.worsen(paths, bad_for);
        let ended = self.well.run(step, id).await;
        let arrived = self.mend(paths);
        let calls = if self.wire.fault == Fault::Refused { 0 } else { calls_of(step) };
        assert_eq!(arrived, vec![self.wire.over.path(paths); calls]);
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

    async fn books(&self, id: OrderId) -> Ledger {
        let Shop { store, inventory, payments, shipping, .. } = &self.well;
        ledger(store, payments, inventory, shipping, id).await.unwrap()
    }

    /// Money, stock and parcel are where they belong at this end, and both books say so.
    async fn assert_right(&self, id: OrderId, undone: bool, charged: usize, case: &str) {
        let books = self.books(id).await;
        assert!(books.order.agrees_with(&books.providers), "{case}: {books:#?}");
        let entries = self.well.payments.ledger(id).await.unwrap();
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

    /// A try of a step over another wire, which is late. What was asked for comes when that lets it go.
    async fn ask_late(&mut self, called: Called, id: OrderId) -> Arc<Wire> {
        let (wire, badly) = Self::bad_wire(self.wire.over, Fault::Late, self.wire.to).await;
        let (wire, badly) = (mem::replace(&mut self.wire, wire), mem::replace(&mut self.badly, badly));
        assert_eq!(self.meet(called, id, 1).await, "`Unavailable`");
        self.badly = badly;
        mem::replace(&mut self.wire, wire)
    }

    /// An order that was cancelled while this call was on its way: it comes when all is undone, and no provider bars it any more.
    async fn late(&mut self, called: Called) -> OrderId {
        let id = self.place().await;
        for step in FORWARD.into_iter().take_while(|step| *step != called.0) {
            self.well.run(step, id).await.unwrap();
        }
        let wire = self.ask_late(called, id).await;
        self.well.cancel(id).await.unwrap();
        self.well.undo(id, 1).await.unwrap();
        self.reference.inventory.forget_what_is_barred();
        self.reference.payments.forget_what_is_barred();
        self.reference.shipping.forget_what_is_barred();
        wire.let_go().await;
        let books = self.books(id).await;
        assert!(!books.order.agrees_with(&books.providers), "{called:?}: {books:?}");
        id
    }

    /// One order for which this is done, and the call meets the fault. Says how that try ended.
    async fn other_order(&mut self, other: Other, paths: [&'static str; 2], then: Then) -> String {
        let case = format!("{other:?} {paths:?} {:?} {:?} {then:?}", self.wire.fault, self.wire.over);
        let id = self.prepare(other).await;
        let events = self.well.event_types(id).await;
        self.worsen(paths, 1);
        let error = self.run(other, id).await.unwrap_err();
        let arrived = self.mend(paths);
        let calls = usize::from(self.wire.fault != Fault::Refused);
        assert_eq!(arrived, vec![self.wire.over.path(paths); calls], "{case}");
        assert_eq!(self.well.event_types(id).await, events, "{case}");
        if then == Then::Cancelled {
            self.well.cancel(id).await.unwrap();
            self.well.undo(id, 1).await.unwrap();
        } else {
            self.run(other, id).await.unwrap();
        }
        self.wire.let_go().await;
        self.assert_done(other, then, id, &case).await;
        format!("`{}`", StepError::from(error).error_type())
    }

    /// Brings an order to where this is to be done.
    async fn prepare(&mut self, other: Other) -> OrderId {
        match other {
            Other::CreateOrder | Other::AdjustStock => {
                self.well.set_stock(STOCK).await;
                OrderId::new(Uuid::new_v4())
            }
            Other::CompareBooks => self.late(CALLS[1]).await,
            Other::RecordDelivery | Other::IssueRefund | Other::IssueAnotherRefund => {
                let id = self.place().await;
                self.well.fulfil(id, 1).await.unwrap();
                if other == Other::IssueAnotherRefund {
                    self.well.request_refund(id, "given up", GIVEN_UP).await.unwrap();
                    let wire = self.ask_late((Step::IssueRefund, paths::<wire::RefundRequest>()), id).await;
                    self.well.flag(id, other.name(), "Unavailable").await.unwrap();
                    self.well.skip(id, SkippableStep::IssueRefund).await.unwrap();
                    wire.let_go().await;
                }
                if other != Other::RecordDelivery {
                    self.well.request_refund(id, "a refund", REFUND).await.unwrap();
                }
                id
            }
        }
    }

    async fn run(&self, other: Other, id: OrderId) -> Result<(), Unavailable> {
        match other {
            Other::CreateOrder => self.well.place(id, "pm_card_visa").await.map(|_| ()).map_err(|error| match error {
                CreateOrderError::Unavailable(error) => error,
                unexpected => panic!("{unexpected}"),
            }),
            Other::IssueRefund | Other::IssueAnotherRefund => {
                self.well.run(Step::IssueRefund, id).await.map_err(|error| match error {
                    StepError::Unavailable(error) => error,
                    unexpected => panic!("{unexpected}"),
                })
            }
            Other::CompareBooks => match self.well.compare_books(id, A_DAY_LATER).await {
                Ok(finding) => {
                    assert_eq!(finding, Finding::Agreed(vec![LateEffect::Charge]));
                    Ok(())
                }
                Err(CompareError::Provider(error)) => Err(error),
                Err(unexpected) => panic!("{unexpected}"),
            },
            Other::RecordDelivery => self.well.deliver(id).await.map_err(|error| match error {
                CommandError::Load(LoadError::Unavailable(error)) => error,
                unexpected => panic!("{unexpected}"),
            }),
            Other::AdjustStock => {
                let adjustment = AdjustmentId(id.work_id(other.name()));
                let adjusted = self.well.adjust_stock(adjustment, MORE_STOCK.into()).await;
                adjusted.map(|_| ()).map_err(|error| match error {
                    AdjustError::Unavailable(error) => error,
                    unexpected => panic!("{unexpected}"),
                })
            }
        }
    }

    /// It is done, and once.
    async fn assert_done(&self, other: Other, then: Then, id: OrderId, case: &str) {
        let mut refunds = other.refunds();
        if then == Then::Cancelled {
            refunds.push(TOTAL - refunds.iter().sum::<u64>());
        }
        refunds.sort_unstable();
        assert_eq!(self.refunds(id).await, [refunds.clone(), refunds], "{case}");
        let stock = match (other, then) {
            (Other::AdjustStock, _) => STOCK + MORE_STOCK,
            (Other::CreateOrder | Other::CompareBooks, _) | (_, Then::Cancelled) => STOCK,
            (Other::RecordDelivery | Other::IssueRefund | Other::IssueAnotherRefund, Then::TriedAgain) => STOCK - 2,
        };
        assert_eq!(self.well.stock().await, stock, "{case}");
        if other == Other::AdjustStock {
            return;
        }
        let books = self.books(id).await;
        assert!(books.order.agrees_with(&books.providers), "{case}: {books:#?}");
        let events = self.well.event_types(id).await;
        match other {
            Other::CreateOrder => assert_eq!(events, ["OrderCreated"], "{case}"),
            Other::RecordDelivery => assert_eq!(events[5..], ["ShipmentDelivered"], "{case}"),
            _ => {}
        }
    }

    /// What went back to the customer each time, by the order's events and by the payment provider's ledger.
    async fn refunds(&self, id: OrderId) -> [Vec<u64>; 2] {
        let events = self.well.events(id).await.into_iter().filter_map(|event| match event {
            OrderEvent::RefundCompleted(CompletedRefund { refund, .. }) | OrderEvent::PaymentRefunded(refund) => {
                Some(refund.amount)
            }
            _ => None,
        });
        let entries = self.well.payments.ledger(id).await.unwrap().into_iter().filter_map(|entry| match entry {
            LedgerEntry::Refunded(_, amount) => Some(amount),
            _ => None,
        });
        [events.collect::<Vec<_>>(), entries.collect()].map(|amounts| {
            let mut amounts: Vec<u64> = amounts.into_iter().map(Money::amount).collect();
            amounts.sort_unstable();
            amounts
        })
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

/// What a fault has every other call end with.
async fn other_row(over: Over, fault: Fault) -> Vec<String> {
    let mut lines = Lines::open(over, fault).await;
    let mut cells = Vec::new();
    for (other, paths) in OTHERS {
        let ended = lines.other_order(other, paths, Then::TriedAgain).await;
        if matches!(other, Other::IssueRefund | Other::IssueAnotherRefund) {
            assert_eq!(lines.other_order(other, paths, Then::Cancelled).await, ended);
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

const ABOUT_OTHERS: &str = "
What else calls a provider for an order or for the stock meets each fault once, and nothing is recorded then. After that it is done
again over a good wire; a second order whose refund has met the fault is cancelled instead. `GetRefund` is called before a refund
when an earlier one was given up, which here was made all the same. The books are compared a day after the end of an order that was
charged late. In the end there is one order; each refund was made once and exactly as it was requested; the late charge went back,
and so did what was left of a cancelled order's; the parcel has arrived; the stock was changed once; and both books agree. The API
answers either error with 503, and the next comparison comes an hour later.
";

/// A fault, over which transport, and how each call of the first and of the second table ends under it.
type Row = (&'static str, Over, [Vec<String>; 2]);

fn table(calls: &[(&str, [&str; 2])], rows: &[Row], which: usize) -> String {
    let mut heads = String::new();
    for (name, [grpc, _]) in calls {
        write!(heads, " `{name}`: `{}` |", grpc.rsplit('/').next().unwrap()).unwrap();
    }
    let mut table = format!("\n| the provider | over |{heads}\n|---|---{}|\n", "|---".repeat(calls.len()));
    for (name, _) in FAULTS {
        let of = |over: Over| &rows.iter().find(|row| (row.0, row.1) == (name, over)).unwrap().2[which];
        let (grpc, rest) = (of(Over::Grpc), of(Over::Rest));
        let both: &[_] = if grpc == rest { &[("both", grpc)] } else { &[("gRPC", grpc), ("REST", rest)] };
        for (over, cells) in both {
            writeln!(table, "| {name} | {over} | {} |", cells.join(" | ")).unwrap();
        }
    }
    table
}

fn render(rows: &[Row]) -> String {
    let steps = table(&CALLS.map(|(step, paths)| (step.name(), paths)), rows, 0);
    let others = table(&OTHERS.map(|(other, paths)| (other.name(), paths)), rows, 1);
    format!("{HEADING}{ABOUT}{steps}{ABOUT_OTHERS}{others}")
}

#[tokio::test]
async fn every_call_under_every_fault_of_the_wire_comes_to_its_right_end() {
    let mut running = JoinSet::new();
    for over in TRANSPORTS {
        for (name, fault) in FAULTS {
            running.spawn(async move {
                let (steps, others) = tokio::join!(row(over, fault), other_row(over, fault));
                (name, over, [steps, others])
            });
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
async fn what_comes_after_its_undo_was_answered_goes_back_a_day_later() {
    for over in TRANSPORTS {
        let mut lines = Lines::open(over, Fault::Late).await;
        for Late { called, effect, charged, .. } in LATE {
            let id = lines.late(called).await;
            let finding = lines.well.compare_books(id, A_DAY_LATER).await.unwrap();
            assert_eq!(finding, Finding::Agreed(vec![effect]), "{over:?}");
            lines.assert_right(id, true, charged, &format!("{effect:?} late over {over:?}")).await;
            let finding = lines.well.compare_books(id, A_DAY_LATER * 2).await.unwrap();
            assert_eq!(finding, Finding::NotToBeCompared, "{effect:?} {over:?}");
        }
    }
}

/// But for the two faults that whatever the comparison asks the same provider before would meet as well.
#[tokio::test]
async fn what_came_late_goes_back_once_when_its_undo_meets_a_fault() {
    let mut running = JoinSet::new();
    for over in TRANSPORTS {
        for fault in [Fault::AnswerLost, Fault::TooManyRequests, Fault::Broken, Fault::Garbage] {
            running.spawn(async move {
                let mut lines = Lines::open(over, fault).await;
                for Late { called, effect, undo, charged } in LATE {
                    let case = format!("{effect:?} {fault:?} {over:?}");
                    let id = lines.late(called).await;
                    let events = lines.well.event_types(id).await;
                    lines.worsen(undo, 1);
                    let ended = lines.well.compare_books(id, A_DAY_LATER).await;
                    let arrived = lines.mend(undo);
                    assert!(matches!(ended, Err(CompareError::Provider(_))), "{case}: {ended:?}");
                    assert_eq!(arrived.last().map(String::as_str), Some(over.path(undo)), "{case}");
                    assert_eq!(lines.well.event_types(id).await, events, "{case}");

                    // Only of money is there more to say when it is back already.
                    let is_back = fault.has_effect() && effect != LateEffect::Charge;
                    let late = if is_back { vec![] } else { vec![effect] };
                    let finding = lines.well.compare_books(id, A_DAY_LATER).await.unwrap();
                    assert_eq!(finding, Finding::Agreed(late), "{case}");
                    lines.assert_right(id, true, charged, &case).await;
                }
            });
        }
    }
    running.join_all().await;
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
