//! Every call of the contract is answered wrongly, over both transports: whatever is not as it should be is named by its field and
//! not believed. An answer is written once, as JSON, and goes over gRPC as the same message.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

use std::{
    convert::Infallible,
    error::Error,
    future::ready,
    iter::{once, repeat_n, successors},
    num::NonZeroU32,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use application::ports::{
    Catalogue, ChargeCancellation, ChargeRequest, Inventory, Notification, Notifications, Payments, ProviderError,
    RefundRequest, ShipmentRequest, Shipping, StockAdjustment, StockLine,
};
use axum::{
    Router,
    body::{Body, Bytes},
    http::{HeaderMap, HeaderName, HeaderValue, Uri, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use chrono::DateTime;
use domain::{
    address::{CountryCode, ShippingAddress},
    ids::{AdjustmentId, CustomerId, OrderId, PaymentMethod, ProductId},
    money::{Currency, Money, Quantity},
    product::{Product, StockChange},
    text::Text,
};
use futures_util::{future::LocalBoxFuture, stream};
use http_body_util::BodyExt;
use prost::Message;
use providers::{
    Port, Remote, breaker,
    contract::{ANSWER_BYTES_MAX, Call, InventoryCapabilities, PaymentsCapabilities, wire},
};
use serde_json::{Value, json};
use settings::Address;
use tokio::net::TcpListener;
use uuid::Uuid;

/// More than any of these calls takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

const TIME: &str = "2026-01-01T00:00:00Z";

const PAGE: &str = "<!doctype html><title>Sign in</title>";

const HUGE: usize = 50_000_000;
const PART: usize = 50_000;

#[derive(Clone)]
enum Answer {
    /// As it is over either transport.
    Message { json: String, wire: Vec<u8> },
    /// With a status that says that all is well.
    Page,
    /// A message of 50 MB of which all is well but its length, and how much of it has been asked for.
    Huge(Arc<AtomicUsize>),
}

/// A server that answers every call with what it was told last.
struct Provider {
    address: String,
    answer: Arc<Mutex<Answer>>,
}

impl Provider {
    async fn open() -> Self {
        let answer = Arc::new(Mutex::new(Answer::Page));
        let told = Arc::clone(&answer);
        let respond = async move |uri: Uri| respond(told.lock().unwrap().clone(), uri.path());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(respond)).await });
        Self { address, answer }
    }

    fn over(&self, scheme: &str) -> Remote {
        let address = Address::parse(&format!("{scheme}://{}", self.address)).unwrap();
        // No page and no message that is too large keeps the next call from coming.
        let breaker = breaker::Settings { failures: NonZeroU32::MAX, ..breaker::Settings::default() };
        Remote::new(Port::Payments, vec![address], DEADLINE, breaker)
    }

    /// The field for which this answer to the call is not believed; `None` if it is.
    async fn refused(&self, case: &Case, remote: &Remote, answer: Answer) -> Option<&'static str> {
        *self.answer.lock().unwrap() = answer;
        let error = (case.ask)(remote).await.err()?;
        let error: &(dyn Error + 'static) = &*error;
        let mut causes = successors(Some(error), |&error| error.source());
        match causes.find_map(|error| error.downcast_ref::<ProviderError>())? {
            ProviderError::Misbehaved { field, problem } => {
                let repeated = ["yesterday", "yuan", "none_such", "Sign in"].iter().any(|told| problem.contains(told));
                assert!(!repeated, "{}: it repeats the answer: {problem}", case.name);
                Some(*field)
            }
            other => panic!("{}: {other:?}", case.name),
        }
    }
}

fn respond(answer: Answer, path: &str) -> Response {
    let rest = path.starts_with("/v1/");
    let asks_what_it_can = [InventoryCapabilities::GRPC_PATH, InventoryCapabilities::REST_PATH].contains(&path);
    let answer = if asks_what_it_can {
        message::<InventoryCapabilities>(&json!({"capabilities": ["lists_products"]}))
    } else {
        answer
    };
    match answer {
        Answer::Page => ([(CONTENT_TYPE, "text/html")], PAGE).into_response(),
        Answer::Message { json, .. } if rest => as_json(Body::from(json)),
        Answer::Message { wire, .. } => as_grpc(Body::from(frame(wire.len(), &wire))),
        Answer::Huge(taken) if rest => as_json(huge(br#"{"x":""#.to_vec(), br#""}"#, taken)),
        Answer::Huge(taken) => {
            let field = unknown_field(HUGE);
            as_grpc(huge(frame(field.len() + HUGE, &field), b"", taken))
        }
    }
}

fn message<C: Call>(answer: &Value) -> Answer {
    let message: C::Answer = serde_json::from_value(answer.clone()).unwrap();
    Answer::Message { json: answer.to_string(), wire: Message::encode_to_vec(&message) }
}

/// A message of this length, as far as it is here, behind the five bytes that gRPC puts before it.
fn frame(length: usize, message: &[u8]) -> Vec<u8> {
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
    frame.extend_from_slice(message);
    frame
}

/// What stands before the so many bytes of a text in a field that no message has.
fn unknown_field(length: usize) -> Vec<u8> {
    let mut head = vec![0xc2, 0x3e];
    prost::encode_length_delimiter(length, &mut head).unwrap();
    head
}

fn huge(head: Vec<u8>, tail: &'static [u8], taken: Arc<AtomicUsize>) -> Body {
    let filling = repeat_n(Bytes::from(vec![b'x'; PART]), HUGE / PART);
    let parts = once(Bytes::from(head)).chain(filling).chain(once(Bytes::from_static(tail)));
    Body::from_stream(stream::iter(parts.map(move |part| {
        taken.fetch_add(part.len(), Ordering::SeqCst);
        Ok::<_, Infallible>(part)
    })))
}

fn as_json(body: Body) -> Response {
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

fn as_grpc(body: Body) -> Response {
    let mut trailers = HeaderMap::new();
    trailers.insert(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
    let body = Body::new(body.with_trailers(ready(Some(Ok(trailers)))));
    ([(CONTENT_TYPE, "application/grpc")], body).into_response()
}

type Ask = for<'a> fn(&'a Remote) -> LocalBoxFuture<'a, Result<(), BoxError>>;
type BoxError = Box<dyn Error + Send + Sync>;

/// An answer, and the field for which it is refused; `None` if it is believed.
type Row = (Option<&'static str>, Value);

struct Case {
    name: &'static str,
    ask: Ask,
    message: fn(&Value) -> Answer,
    rows: Vec<Row>,
}

fn case<C: Call>(ask: Ask, rows: &[Vec<Row>]) -> Case {
    Case { name: C::GRPC_PATH, ask, message: message::<C>, rows: rows.concat() }
}

fn asked<'a, T: 'a, E: Into<BoxError> + 'a>(
    call: impl Future<Output = Result<T, E>> + 'a,
) -> LocalBoxFuture<'a, Result<(), BoxError>> {
    Box::pin(async move { call.await.map(drop).map_err(Into::into) })
}

fn believed<const N: usize>(answers: [Value; N]) -> Vec<Row> {
    answers.map(|answer| (None, answer)).into()
}

fn refused<const N: usize>(field: &'static str, answers: [Value; N]) -> Vec<Row> {
    answers.map(|answer| (Some(field), answer)).into()
}

/// The answer with something else in this place.
fn with(answer: &Value, at: &str, value: impl Into<Value>) -> Value {
    let mut answer = answer.clone();
    *answer.pointer_mut(at).unwrap() = value.into();
    answer
}

fn without(answer: &Value, at: &str) -> Value {
    let mut answer = answer.clone();
    let (message, field) = at.rsplit_once('/').unwrap();
    answer.pointer_mut(message).unwrap().as_object_mut().unwrap().remove(field).unwrap();
    answer
}

/// Whatever can be wrong with an amount that may be any.
fn amounts(field: &'static str, answer: &Value, at: &str) -> Vec<Row> {
    let (amount, currency) = (format!("{at}/amount"), format!("{at}/currency"));
    let wrong = [
        without(answer, at),
        without(answer, &amount),
        without(answer, &currency),
        with(answer, &amount, -1),
        with(answer, &amount, 9_007_199_254_740_992_i64),
        with(answer, &currency, "yuan"),
        with(answer, &currency, "cny"),
    ];
    refused(field, wrong)
}

/// Whatever can be wrong with one that has to be what was asked for, 1999 CNY.
fn amounts_as_asked(field: &'static str, answer: &Value, at: &str) -> Vec<Row> {
    let others = [with(answer, &format!("{at}/amount"), 1998), with(answer, &format!("{at}/currency"), "USD")];
    [amounts(field, answer, at), refused(field, others)].concat()
}

/// Whatever can be wrong with what a provider calls something, in so many characters at most.
fn texts(field: &'static str, answer: &Value, at: &str, max: usize) -> Vec<Row> {
    let wrong = ["", " a", "a ", "a\u{0}b", "a\nb", "a\u{202e}b"].map(|text| with(answer, at, text));
    let too_long = [without(answer, at), with(answer, at, "顺".repeat(max + 1))];
    [refused(field, wrong), refused(field, too_long), believed([with(answer, at, "顺".repeat(max))])].concat()
}

fn ids(field: &'static str, answer: &Value, at: &str) -> Vec<Row> {
    texts(field, answer, at, 200)
}

fn words(field: &'static str, answer: &Value, at: &str) -> Vec<Row> {
    texts(field, answer, at, 100)
}

fn times(field: &'static str, answer: &Value, at: &str) -> Vec<Row> {
    let wrong = ["", "yesterday", "2026-01-01", "9999-12-31T23:59:59-00:01"].map(|time| with(answer, at, time));
    [refused(field, wrong), refused(field, [without(answer, at)])].concat()
}

fn product_ids(field: &'static str, answer: &Value, at: &str) -> Vec<Row> {
    refused(
        field,
        [without(answer, at), with(answer, at, ""), with(answer, at, "a b"), with(answer, at, "x".repeat(65))],
    )
}

/// Neither of two things that only one can be, both, or something else; and one that is no message of its kind.
fn outcomes(field: &'static str, one: &Value, other: &Value) -> Vec<Row> {
    let (name, value) = other.as_object().unwrap().iter().next().unwrap();
    let (mut both, mut beside, mut unreadable) = (one.clone(), one.clone(), json!({}));
    both[name] = value.clone();
    beside[name] = json!(5);
    unreadable[name] = json!(5);
    let mut more = one.clone();
    more["none_such"] = json!({});
    [
        believed([one.clone(), other.clone(), more]),
        refused(field, [json!({}), json!({"none_such": {}}), both, beside, unreadable]),
    ]
    .concat()
}

fn key() -> Uuid {
    Uuid::from_u128(7)
}

fn order() -> OrderId {
    OrderId::new(key())
}

fn customer() -> CustomerId {
    CustomerId::parse("anna").unwrap()
}

fn cny() -> Money {
    Money::new(1999, Currency::parse("CNY").unwrap()).unwrap()
}

fn id(product: &str) -> ProductId {
    ProductId::parse(product).unwrap()
}

fn lines() -> [StockLine; 2] {
    let line = |product, quantity| StockLine { product_id: id(product), quantity: Quantity::new(quantity).unwrap() };
    [line("tea", 2), line("coffee", 1)]
}

fn tea() -> Product {
    Product { id: id("tea"), name: Text::parse("Tea").unwrap(), price: cny(), stock: 5 }
}

fn adjustment(change: StockChange) -> StockAdjustment {
    StockAdjustment {
        id: AdjustmentId(key()),
        product_id: id("tea"),
        change,
        reason: Text::parse("stocktaking").unwrap(),
        actor: "staff:anna".to_owned(),
        at: DateTime::UNIX_EPOCH,
    }
}

fn charge() -> ChargeRequest {
    ChargeRequest {
        idempotency_key: key(),
        order_id: order(),
        customer_id: customer(),
        payment_method: PaymentMethod::parse("pm_card_visa").unwrap(),
        amount: cny(),
    }
}

fn shipment() -> ShipmentRequest {
    let address = ShippingAddress {
        street: Text::parse("1 Nanjing Road").unwrap(),
        city: None,
        state: None,
        country: CountryCode::parse("CN").unwrap(),
        postal_code: None,
    };
    ShipmentRequest { idempotency_key: key(), order_id: order(), address, lines: lines().to_vec() }
}

fn notification() -> Notification {
    Notification {
        idempotency_key: key(),
        order_id: order(),
        customer_id: customer(),
        template: "order-confirmed",
        deliverable: true,
    }
}

fn product(id: &str) -> Value {
    json!({"product_id": id, "name": "Tea", "price": {"amount": 1999, "currency": "CNY"}, "stock": 5})
}

fn products(ids: &[&str]) -> Value {
    json!({"products": ids.iter().map(|id| product(id)).collect::<Vec<_>>()})
}

/// Whatever is wrong with a product, whichever was asked for.
fn descriptions(answer: &Value, at: &str) -> Vec<Row> {
    let [id, name, price] = ["product_id", "name", "price"].map(|field| format!("{at}/{field}"));
    let no_names = [
        without(answer, &name),
        with(answer, &name, ""),
        with(answer, &name, " "),
        with(answer, &name, "x".repeat(201)),
    ];
    [
        product_ids("products.product_id", answer, &id),
        refused("products.name", no_names),
        amounts("products.price", answer, &price),
        // Nobody pays with it any more.
        refused("products.price", [with(answer, &format!("{price}/currency"), "HRK")]),
    ]
    .concat()
}

fn catalogue() -> Vec<Case> {
    let page = |ids: &[&str], more: bool| {
        let mut page = products(ids);
        page["more"] = json!(more);
        page
    };
    let described = json!({"product": product("tea"), "created": true});
    vec![
        case::<wire::GetProductsRequest>(
            |remote| asked(async move { remote.products(&[id("tea"), id("coffee")]).await }),
            &[
                believed([json!({}), products(&["coffee"]), products(&["tea", "coffee"])]),
                believed([with(&products(&["tea"]), "/products/0/name", "x".repeat(200))]),
                refused("products.product_id", [products(&["milk"]), products(&["tea", "tea"])]),
                refused("products", [products(&["tea", "coffee", "milk"])]),
                descriptions(&products(&["coffee", "tea"]), "/products/1"),
            ],
        ),
        case::<wire::ListProductsRequest>(
            |remote| asked(async move { remote.list_products(Some(&id("a")), 2).await }),
            &[
                believed([json!({}), page(&["b"], false), page(&["b", "c"], true)]),
                refused(
                    "products.product_id",
                    [page(&["c", "b"], false), page(&["b", "b"], false), page(&["a"], true)],
                ),
                refused("products", [page(&["b", "c", "d"], false), page(&[], true)]),
                descriptions(&page(&["b", "c"], false), "/products/1"),
            ],
        ),
        // What is left out is the default, which here says that the product was there before.
        case::<wire::PutProductRequest>(
            |remote| asked(async move { remote.put_product(&tea()).await }),
            &[believed([json!({}), json!({"created": true})])],
        ),
        case::<wire::DescribeProductRequest>(
            |remote| {
                let tea = tea();
                asked(async move { remote.describe_product(&tea.id, &tea.name, tea.price).await })
            },
            &[
                // As it is now, by whoever has described it last.
                believed([
                    described.clone(),
                    without(&described, "/created"),
                    with(&described, "/product/stock", 6),
                    with(&described, "/product/name", "Coffee"),
                    with(&described, "/product/price/amount", 1998),
                ]),
                refused("product", [json!({}), without(&described, "/product")]),
                refused("product.product_id", [with(&described, "/product/product_id", "coffee")]),
                descriptions(&described, "/product"),
            ],
        ),
    ]
}

fn stock() -> Vec<Case> {
    let adjusted = |by: i64, stock: u32| json!({"adjusted": {"by": by, "stock": stock}});
    let unknown = json!({"unknown_product": {}});
    let reserved = json!({"reserved": {"reservation_id": "res_1"}});
    let shortage = |id: &str| json!({"product_id": id, "requested": 1, "available": 0});
    let out_of_stock =
        |ids: &[&str]| json!({"out_of_stock": {"shortages": ids.iter().map(|id| shortage(id)).collect::<Vec<_>>()}});
    let short = out_of_stock(&["coffee", "tea"]);
    let held = |lines: usize| json!({"lines": vec![json!({"product_id": "tea", "quantity": 9_999}); lines]});
    vec![
        case::<wire::AdjustStockRequest>(
            |remote| asked(async move { remote.adjust_stock(&adjustment(StockChange::By(1))).await }),
            &[
                believed([json!({"out_of_range": {"stock": 3}}), json!({"key_reused": {}})]),
                refused("adjusted.by", [adjusted(10, 12), adjusted(-1, 12), json!({"adjusted": {}})]),
                outcomes("outcome", &adjusted(1, 12), &unknown),
            ],
        ),
        case::<wire::AdjustStockRequest>(
            |remote| asked(async move { remote.adjust_stock(&adjustment(StockChange::Counted(10))).await }),
            &[
                believed([adjusted(-2, 10), adjusted(0, 10)]),
                refused("adjusted.stock", [adjusted(10, 12), json!({"adjusted": {}})]),
            ],
        ),
        case::<wire::ReserveRequest>(
            |remote| asked(async move { remote.reserve(order(), &lines()).await }),
            &[
                believed([short.clone(), json!({"released": {}})]),
                ids("reserved.reservation_id", &reserved, "/reserved/reservation_id"),
                refused(
                    "out_of_stock.shortages",
                    [json!({"out_of_stock": {}}), out_of_stock(&[]), out_of_stock(&["tea", "coffee", "tea"])],
                ),
                refused("out_of_stock.shortages.product_id", [out_of_stock(&["milk"]), out_of_stock(&["tea", "tea"])]),
                product_ids("out_of_stock.shortages.product_id", &short, "/out_of_stock/shortages/1/product_id"),
                refused(
                    "out_of_stock.shortages.available",
                    [
                        with(&short, "/out_of_stock/shortages/1/available", 2),
                        with(&short, "/out_of_stock/shortages/0/available", 1),
                    ],
                ),
                outcomes("outcome", &reserved, &short),
            ],
        ),
        case::<wire::GetReservationRequest>(
            |remote| asked(async move { remote.reserved(order()).await }),
            &[
                believed([json!({}), held(1), held(100)]),
                refused("lines", [held(101)]),
                product_ids("lines.product_id", &held(2), "/lines/1/product_id"),
                refused(
                    "lines.quantity",
                    [
                        without(&held(1), "/lines/0/quantity"),
                        with(&held(2), "/lines/1/quantity", 0),
                        with(&held(2), "/lines/1/quantity", 10_000),
                    ],
                ),
            ],
        ),
        case::<wire::ReleaseRequest>(
            |remote| asked(async move { remote.release(order()).await }),
            &[believed([json!({"released": {}})]), refused("released", [json!({}), json!({"none_such": {}})])],
        ),
    ]
}

fn booked(transaction_id: &str) -> Value {
    json!({"transaction_id": transaction_id, "amount": {"amount": 1999, "currency": "CNY"}, "processed_at": TIME})
}

fn charges() -> Vec<Case> {
    let (charged, declined) = (json!({"charged": booked("ch_1")}), json!({"declined": {"reason": "card_declined"}}));
    let given_back = json!({"given_back": {"charge": booked("ch_1"), "refund": booked("re_1")}});
    let refused_to = json!({"refused": {"reason": "closed"}});
    let refund = "/given_back/refund/amount";
    vec![
        case::<wire::ChargeRequest>(
            |remote| asked(async move { remote.charge(&charge()).await }),
            &[
                believed([json!({"key_reused": {}}), json!({"cancelled": {}})]),
                amounts_as_asked("charged.amount", &charged, "/charged/amount"),
                ids("charge.transaction_id", &charged, "/charged/transaction_id"),
                times("charge.processed_at", &charged, "/charged/processed_at"),
                words("declined.reason", &declined, "/declined/reason"),
                outcomes("outcome", &charged, &declined),
            ],
        ),
        case::<wire::CancelChargeRequest>(
            |remote| {
                let both = ChargeCancellation { order_id: order(), charge_key: key(), refund_key: key() };
                asked(async move { remote.cancel_charge(&both).await })
            },
            &[
                believed([json!({"nothing_left": {}}), with(&given_back, &format!("{refund}/amount"), 1)]),
                refused("given_back.charge", [json!({"given_back": {}}), without(&given_back, "/given_back/charge")]),
                refused("given_back.refund", [without(&given_back, "/given_back/refund")]),
                amounts("charge.amount", &given_back, "/given_back/charge/amount"),
                ids("charge.transaction_id", &given_back, "/given_back/charge/transaction_id"),
                times("charge.processed_at", &given_back, "/given_back/charge/processed_at"),
                amounts("refund.amount", &given_back, refund),
                ids("refund.transaction_id", &given_back, "/given_back/refund/transaction_id"),
                times("refund.processed_at", &given_back, "/given_back/refund/processed_at"),
                refused(
                    "given_back.refund.amount",
                    [
                        with(&given_back, &format!("{refund}/amount"), 0),
                        with(&given_back, &format!("{refund}/amount"), 2000),
                        with(&given_back, &format!("{refund}/currency"), "USD"),
                    ],
                ),
                words("refused.reason", &refused_to, "/refused/reason"),
                outcomes("outcome", &given_back, &refused_to),
            ],
        ),
    ]
}

fn refunds() -> Vec<Case> {
    let refunded = json!({"refunded": booked("re_1")});
    let refused_to = json!({"refused": {"reason": "closed"}});
    let found = json!({"refund": booked("re_1")});
    let booking = |id: &str| json!({"transaction_id": id, "amount": {"amount": 1999, "currency": "CNY"}});
    let (charged, declined) = (json!({"charged": booking("ch_1")}), json!({"declined": {"reason": "card_declined"}}));
    let ledger = |entries: &[&Value]| json!({"entries": entries});
    let barred = json!({"cancelled": {}});
    let all = ledger(&[&charged, &json!({"refunded": booking("re_1")}), &declined, &barred]);
    let of_an_entry = outcomes("entries.entry", &charged, &declined);
    let of_an_entry = of_an_entry.into_iter().map(|(field, entry)| (field, ledger(&[&barred, &entry]))).collect();
    vec![
        case::<wire::RefundRequest>(
            |remote| {
                let request =
                    RefundRequest { idempotency_key: key(), order_id: order(), charge_key: key(), amount: cny() };
                asked(async move { remote.refund(&request).await })
            },
            &[
                believed([json!({"no_charge": {}}), json!({"too_much": {}}), json!({"key_reused": {}})]),
                amounts_as_asked("refunded.amount", &refunded, "/refunded/amount"),
                ids("refund.transaction_id", &refunded, "/refunded/transaction_id"),
                times("refund.processed_at", &refunded, "/refunded/processed_at"),
                words("refused.reason", &refused_to, "/refused/reason"),
                outcomes("outcome", &refunded, &refused_to),
            ],
        ),
        case::<wire::GetRefundRequest>(
            |remote| asked(async move { remote.refunded(order(), key()).await }),
            &[
                believed([json!({}), found.clone()]),
                amounts("refund.amount", &found, "/refund/amount"),
                ids("refund.transaction_id", &found, "/refund/transaction_id"),
                times("refund.processed_at", &found, "/refund/processed_at"),
            ],
        ),
        case::<wire::GetLedgerRequest>(
            |remote| asked(async move { remote.ledger(order()).await }),
            &[
                believed([json!({}), all.clone(), ledger(&[&barred; 1_000])]),
                refused("entries", [ledger(&[&barred; 1_001])]),
                amounts("entries.amount", &all, "/entries/0/charged/amount"),
                ids("entries.transaction_id", &all, "/entries/0/charged/transaction_id"),
                amounts("entries.amount", &all, "/entries/1/refunded/amount"),
                ids("entries.transaction_id", &all, "/entries/1/refunded/transaction_id"),
                words("entries.reason", &all, "/entries/2/declined/reason"),
                of_an_entry,
            ],
        ),
    ]
}

fn shipping() -> Vec<Case> {
    let created = json!({"created": {
        "shipment_id": "shp_1", "carrier": "SF Express", "tracking_number": "SF1", "estimated_delivery": TIME}});
    let refused_to = json!({"refused": {"reason": "no_such_address"}});
    let delivered = json!({"delivered": {"delivered_at": TIME}});
    let (cancelled, under_way) = (json!({"cancelled": {}}), json!({"under_way": {}}));
    vec![
        case::<wire::CreateShipmentRequest>(
            |remote| asked(async move { remote.create_shipment(&shipment()).await }),
            &[
                believed([cancelled.clone()]),
                ids("created.shipment_id", &created, "/created/shipment_id"),
                words("created.carrier", &created, "/created/carrier"),
                words("created.tracking_number", &created, "/created/tracking_number"),
                times("created.estimated_delivery", &created, "/created/estimated_delivery"),
                words("refused.reason", &refused_to, "/refused/reason"),
                outcomes("outcome", &created, &refused_to),
            ],
        ),
        case::<wire::GetShipmentRequest>(
            |remote| asked(async move { remote.shipment(key()).await }),
            &[believed([json!({"none": {}}), cancelled.clone()]), outcomes("state", &delivered, &under_way)],
        ),
        case::<wire::CancelShipmentRequest>(
            |remote| asked(async move { remote.cancel_shipment(order(), key()).await }),
            &[
                times("delivered.delivered_at", &delivered, "/delivered/delivered_at"),
                words("refused.reason", &refused_to, "/refused/reason"),
                outcomes("outcome", &delivered, &cancelled),
            ],
        ),
        case::<wire::ConfirmDeliveryRequest>(
            |remote| asked(async move { remote.confirm_delivery(key()).await }),
            &[
                times("delivered.delivered_at", &delivered, "/delivered/delivered_at"),
                outcomes("outcome", &delivered, &json!({"not_under_way": {}})),
            ],
        ),
    ]
}

fn notifications() -> Case {
    case::<wire::SendRequest>(
        |remote| asked(async move { Notifications::send(remote, &notification()).await }),
        &[ids("message_id", &json!({"message_id": "msg_1"}), "/message_id")],
    )
}

fn capabilities() -> Case {
    let can = |names: usize| json!({"capabilities": vec!["bars_keys"; names]});
    let one = can(1);
    let names = ["", " a", "a\nb", "a\u{202e}b"].map(|name| with(&one, "/capabilities/0", name));
    case::<PaymentsCapabilities>(
        |remote| asked(async move { remote.capabilities(Port::Payments).await }),
        &[
            believed([json!({}), one.clone(), can(100), with(&one, "/capabilities/0", "x".repeat(100))]),
            refused("capabilities", [can(101), with(&one, "/capabilities/0", "x".repeat(101))]),
            refused("capabilities", names),
        ],
    )
}

fn cases() -> Vec<Case> {
    let services = [catalogue(), stock(), charges(), refunds(), shipping(), vec![notifications(), capabilities()]];
    services.into_iter().flatten().collect()
}

#[tokio::test]
async fn what_is_wrong_in_an_answer_is_named_by_its_field_and_not_believed() {
    let provider = Provider::open().await;
    for case in cases() {
        for scheme in ["http", "grpc"] {
            let remote = provider.over(scheme);
            for (field, answer) in &case.rows {
                let refused = provider.refused(&case, &remote, (case.message)(answer)).await;
                assert_eq!(refused, *field, "{} over {scheme}: {answer}", case.name);
            }
        }
    }
}

/// A list is none either, though it could be taken for the fields of a message in their order.
#[tokio::test]
async fn what_is_no_message_is_not_believed_whichever_call_it_answers() {
    let provider = Provider::open().await;
    for case in cases() {
        for scheme in ["http", "grpc"] {
            let remote = provider.over(scheme);
            for json in ["", "null", "[]", " []", "[1", "5", r#""x""#] {
                let answer = Answer::Message { json: json.to_owned(), wire: vec![0xff] };
                let refused = provider.refused(&case, &remote, answer).await;
                assert_eq!(refused, Some("the answer"), "{} over {scheme}: {json}", case.name);
            }
            let refused = provider.refused(&case, &remote, Answer::Page).await;
            assert_eq!(refused, Some("the answer"), "{} over {scheme}: a page", case.name);
        }
    }
}

#[tokio::test]
async fn an_answer_of_a_mebibyte_is_read_and_one_that_is_a_byte_longer_is_not() {
    let provider = Provider::open().await;
    for (length, expected) in [(ANSWER_BYTES_MAX, None), (ANSWER_BYTES_MAX + 1, Some("the answer"))] {
        let json = r#"{"message_id": "msg_1"}"#;
        let json = format!("{json}{}", " ".repeat(length - json.len()));
        let sent = Message::encode_to_vec(&wire::SendResponse { message_id: "msg_1".to_owned() });
        // The length of the text that fills it up takes three bytes.
        let mut wire = [sent.clone(), unknown_field(length - sent.len() - 5)].concat();
        wire.resize(length, b'x');
        for scheme in ["http", "grpc"] {
            let answer = Answer::Message { json: json.clone(), wire: wire.clone() };
            let refused = provider.refused(&notifications(), &provider.over(scheme), answer).await;
            assert_eq!(refused, expected, "{length} bytes over {scheme}");
        }
    }
}

/// What lies between the two is on its way when the client gives up: a few megabytes, and never all.
#[tokio::test]
async fn an_answer_of_50_megabytes_is_given_up_before_it_has_come() {
    let provider = Provider::open().await;
    for case in cases() {
        for scheme in ["http", "grpc"] {
            let taken = Arc::new(AtomicUsize::default());
            let refused = provider.refused(&case, &provider.over(scheme), Answer::Huge(Arc::clone(&taken))).await;
            assert_eq!(refused, Some("the answer"), "{} over {scheme}", case.name);
            let taken = taken.load(Ordering::SeqCst);
            assert!(taken > 0 && taken < HUGE, "{} over {scheme}: {taken} bytes", case.name);
        }
    }
}
