//! Over either transport, the reference provider takes what the contract allows up to each of its limits, and refuses what is beyond
//! with the name of the field.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

use std::{sync::Arc, time::Duration};

use application::ports::{
    CancelChargeError, ChargeCancellation, ChargeError, ChargeRequest, Inventory, Payments, RefundError, RefundRequest,
};
use domain::{
    ids::{CustomerId, OrderId, PaymentMethod},
    money::{Currency, Money},
};
use providers::{
    Port, Remote, breaker,
    contract::{
        Call, InventoryCapabilities, NotificationsCapabilities, PaymentsCapabilities, ShippingCapabilities, wire,
    },
};
use reference_provider::{Reference, serve};
use reqwest::{Client, header::CONTENT_TYPE};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use settings::Address;
use tokio::net::TcpListener;
use tonic::{Code, Status};
use uuid::Uuid;

/// A provider of its own.
struct Provider {
    reference: Arc<Reference>,
    /// Where it is over gRPC, and over REST.
    at: [String; 2],
    /// Over HTTP/2, as gRPC is, and over HTTP/1.1.
    clients: [Client; 2],
}

impl Provider {
    async fn start() -> Self {
        let bind = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (grpc, rest) = (bind().await, bind().await);
        let at = [&grpc, &rest].map(|listener| listener.local_addr().unwrap().to_string());
        let reference = Arc::new(Reference::default());
        tokio::spawn(serve(Arc::clone(&reference), grpc, rest, std::future::pending()));
        let client = || Client::builder().no_proxy();
        let clients = [client().http2_prior_knowledge(), client()].map(|client| client.build().unwrap());
        Self { reference, at, clients }
    }

    async fn over_grpc<C: Call>(&self, request: &C) -> (Code, String) {
        let message = request.encode_to_vec();
        let mut body = vec![0];
        body.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        body.extend(message);
        let call = self.clients[0].post(format!("http://{}{}", self.at[0], C::GRPC_PATH));
        let call = call.header(CONTENT_TYPE, "application/grpc").body(body);
        let answer = call.send().await.unwrap();
        // Whoever refuses says so in place of an answer.
        Status::from_header_map(answer.headers())
            .map_or((Code::Ok, String::new()), |status| (status.code(), status.message().to_owned()))
    }

    async fn over_rest(&self, path: &str, request: &Value) -> (u16, String) {
        let answer = self.clients[1].post(format!("http://{}{path}", self.at[1])).json(request).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// The request as it is, and with other values where the pointers say: those that are allowed, and those that are not, with the
    /// name of the field that is refused.
    async fn holds<C: Call + DeserializeOwned>(&self, good: &Value, limits: &[Limit]) {
        self.takes::<C>(good).await;
        for Limit(pointer, named, allowed, refused) in limits {
            let with = |value: &Value| {
                let mut request = good.clone();
                *request.pointer_mut(pointer).unwrap() = value.clone();
                request
            };
            for value in allowed {
                self.takes::<C>(&with(value)).await;
            }
            assert!(!refused.is_empty());
            for value in refused {
                let (request, why) = (with(value), format!("{named} is not what the contract says"));
                let case = format!("{} {pointer}: {value}", C::REST_PATH);
                assert_eq!(self.over_rest(C::REST_PATH, &request).await, (400, why.clone()), "{case}");
                let message: C = serde_json::from_value(request).unwrap();
                assert_eq!(self.over_grpc(&message).await, (Code::InvalidArgument, why), "{case}");
            }
        }
    }

    async fn takes<C: Call + DeserializeOwned>(&self, request: &Value) {
        let (status, said) = self.over_rest(C::REST_PATH, request).await;
        assert_eq!(status, 200, "{} {request}: {said}", C::REST_PATH);
        let message: C = serde_json::from_value(request.clone()).unwrap();
        assert_eq!(self.over_grpc(&message).await, (Code::Ok, String::new()), "{} {request}", C::REST_PATH);
    }
}

/// Where in a request, the name of what is refused, what is still allowed there, and what is not.
struct Limit(&'static str, &'static str, Vec<Value>, Vec<Value>);

/// A text of so many characters.
fn long(characters: usize) -> Value {
    "x".repeat(characters).into()
}

/// So many lines, each of another product.
fn lines(count: usize) -> Value {
    (0..count).map(|number| json!({"product_id": format!("tea-{number}"), "quantity": 1})).collect()
}

/// A field that has a UUID.
fn uuid(pointer: &'static str, named: &'static str) -> Limit {
    let id = "6f0ca1f0-3c5e-5111-8222-0a58a9feac02";
    let others =
        [id.to_uppercase(), id.replace('-', ""), format!("urn:uuid:{id}"), format!("{{{id}}}"), format!("{id} ")];
    let refused = others.into_iter().chain([String::new(), "1".to_owned()]).map(Value::from);
    Limit(pointer, named, vec![id.into()], refused.collect())
}

/// A field that has a product's id, whatever comes before it.
fn product_id(pointer: &'static str, named: &'static str) -> Limit {
    let refused = vec![json!(""), long(65), json!("a b"), json!("a/b"), json!("ä")];
    Limit(pointer, named, vec![long(64), json!("aZ9._-")], refused)
}

fn customer_id() -> Limit {
    let refused = vec![json!(""), long(256), json!("ä"), json!("a\tb")];
    Limit("/customer_id", "customer_id", vec![long(255), json!(" a~")], refused)
}

/// A field that has money, in any currency or only in one that people pay with now.
fn money(pointer: &'static str, named: &'static str, in_any_currency: bool) -> Limit {
    let of = |amount: Value, currency: &str| json!({"amount": amount, "currency": currency});
    let mut allowed = vec![of(json!(0), "CNY"), of(json!(9_007_199_254_740_991_u64), "JPY")];
    let mut refused = vec![Value::Null, of(Value::Null, "CNY"), of(json!(-1), "CNY")];
    refused.push(of(json!(9_007_199_254_740_992_u64), "CNY"));
    refused.extend(["", "CN", "cny", "EURO", "C1Y"].map(|currency| of(json!(1), currency)));
    let of_others = if in_any_currency { &mut allowed } else { &mut refused };
    of_others.extend(["HRK", "XAU"].map(|currency| of(json!(1), currency)));
    Limit(pointer, named, allowed, refused)
}

fn name(pointer: &'static str) -> Limit {
    Limit(
        pointer,
        "name",
        vec![json!("茶".repeat(200)), json!("t")],
        vec![json!(""), json!(" "), json!("茶".repeat(201))],
    )
}

/// Of how many lines there are, and of what one of them has.
fn of_lines() -> [Limit; 3] {
    [
        Limit("/lines", "lines", vec![lines(100)], vec![json!([]), lines(101)]),
        product_id("/lines/0/product_id", "lines.product_id"),
        Limit("/lines/0/quantity", "lines.quantity", vec![json!(9_999)], vec![json!(0), json!(10_000)]),
    ]
}

fn id() -> String {
    Uuid::new_v4().to_string()
}

/// A product in two lines.
fn twice() -> Value {
    json!([{"product_id": "tea", "quantity": 6}, {"product_id": "coffee", "quantity": 1}, {"product_id": "tea", "quantity": 6}])
}

#[tokio::test]
async fn what_an_inventory_is_asked_has_the_contract_s_limits() {
    let provider = Provider::start().await;
    let ids = |count| (0..count).map(|number| json!(format!("tea-{number}"))).collect::<Value>();
    let good = json!({"product_ids": ["tea"]});
    let limits = [
        Limit("/product_ids", "product_ids", vec![json!([]), ids(100)], vec![ids(101)]),
        product_id("/product_ids/0", "product_ids"),
    ];
    provider.holds::<wire::GetProductsRequest>(&good, &limits).await;

    let Limit(_, _, allowed, refused) = product_id("/after", "after");
    // Without it, the list begins.
    let refused = refused.into_iter().filter(|after| *after != json!("")).collect();
    let limits = [
        Limit("/after", "after", allowed.into_iter().chain([json!("")]).collect(), refused),
        Limit("/limit", "limit", vec![json!(1), json!(100)], vec![json!(0), json!(101)]),
    ];
    provider.holds::<wire::ListProductsRequest>(&json!({"after": "tea", "limit": 20}), &limits).await;

    let described = json!({"product_id": "tea", "name": "Longjing", "price": {"amount": 1999, "currency": "CNY"}});
    let limits = [product_id("/product_id", "product_id"), name("/name"), money("/price", "price", false)];
    provider.holds::<wire::DescribeProductRequest>(&described, &limits).await;
    for product in [Value::Null, json!({})] {
        let named = if product.is_null() { "product" } else { "product_id" };
        let limits = [Limit("/product", named, vec![], vec![product])];
        provider.holds::<wire::PutProductRequest>(&json!({"product": described}), &limits).await;
    }
    let limits = [
        product_id("/product/product_id", "product_id"),
        name("/product/name"),
        money("/product/price", "price", false),
    ];
    provider.holds::<wire::PutProductRequest>(&json!({"product": described}), &limits).await;

    let good = json!({
        "adjustment_id": id(), "product_id": "tea", "by": 1, "reason": "found", "actor": "staff:anna", "at": "2026-03-01T08:00:00Z",
    });
    let times = ["2026-03-01T08:00:00.123456789Z", "2026-03-01T16:00:00+08:00"].map(Value::from).to_vec();
    let no_times = ["", "yesterday", "2026-03-01", "2026-03-01T08:00:00", "2026-03-01T08:00:00.1234567890Z"];
    let limits = [
        uuid("/adjustment_id", "adjustment_id"),
        product_id("/product_id", "product_id"),
        Limit("/by", "change", vec![json!(i64::MIN), json!(i64::MAX)], vec![Value::Null]),
        Limit("/reason", "reason", vec![long(500)], vec![json!(""), long(501)]),
        Limit("/actor", "actor", vec![long(300)], vec![json!(""), long(301), json!("staff:ä"), json!("staff:\n")]),
        Limit("/at", "at", times, no_times.map(Value::from).to_vec()),
    ];
    provider.holds::<wire::AdjustStockRequest>(&good, &limits).await;

    let good = json!({"order_id": id(), "lines": lines(1)});
    provider.holds::<wire::ReserveRequest>(&good, &of_lines()).await;
    let limits = [uuid("/order_id", "order_id"), Limit("/lines", "lines.product_id", vec![], vec![twice()])];
    provider.holds::<wire::ReserveRequest>(&good, &limits).await;
    let order = json!({"order_id": id()});
    provider.holds::<wire::GetReservationRequest>(&order, &[uuid("/order_id", "order_id")]).await;
    provider.holds::<wire::ReleaseRequest>(&order, &[uuid("/order_id", "order_id")]).await;
}

#[tokio::test]
async fn what_a_payment_provider_is_asked_has_the_contract_s_limits() {
    let provider = Provider::start().await;
    let amount = json!({"amount": 1999, "currency": "CNY"});
    let good = json!({
        "idempotency_key": id(), "order_id": id(), "customer_id": "anna", "payment_method": "pm_card_visa", "amount": amount,
    });
    let limits = [
        uuid("/idempotency_key", "idempotency_key"),
        uuid("/order_id", "order_id"),
        customer_id(),
        Limit(
            "/payment_method",
            "payment_method",
            vec![long(64)],
            vec![json!(""), long(65), json!("pm-1"), json!("ä")],
        ),
        money("/amount", "amount", true),
    ];
    provider.holds::<wire::ChargeRequest>(&good, &limits).await;

    let good = json!({"order_id": id(), "charge_key": id(), "refund_key": id()});
    let limits = [uuid("/order_id", "order_id"), uuid("/charge_key", "charge_key"), uuid("/refund_key", "refund_key")];
    provider.holds::<wire::CancelChargeRequest>(&good, &limits).await;

    let good = json!({"idempotency_key": id(), "order_id": id(), "charge_key": id(), "amount": amount});
    let limits = [
        uuid("/idempotency_key", "idempotency_key"),
        uuid("/order_id", "order_id"),
        uuid("/charge_key", "charge_key"),
        money("/amount", "amount", true),
    ];
    provider.holds::<wire::RefundRequest>(&good, &limits).await;

    let limits = [uuid("/order_id", "order_id"), uuid("/refund_key", "refund_key")];
    provider.holds::<wire::GetRefundRequest>(&json!({"order_id": id(), "refund_key": id()}), &limits).await;
    provider.holds::<wire::GetLedgerRequest>(&json!({"order_id": id()}), &[uuid("/order_id", "order_id")]).await;
}

#[tokio::test]
async fn what_a_carrier_is_asked_has_the_contract_s_limits() {
    let provider = Provider::start().await;
    let address =
        json!({"street": "1 Nanjing Road", "city": "Shanghai", "state": "", "postal_code": "200001", "country": "CN"});
    let good = json!({"idempotency_key": id(), "order_id": id(), "address": address, "lines": lines(1)});
    let part = |pointer, max| Limit(pointer, "address", vec![json!(""), long(max)], vec![long(max + 1)]);
    let limits = [
        uuid("/idempotency_key", "idempotency_key"),
        uuid("/order_id", "order_id"),
        Limit("/address", "address", vec![], vec![Value::Null]),
        Limit("/address/street", "address", vec![long(200)], vec![json!(""), long(201)]),
        part("/address/city", 100),
        part("/address/state", 100),
        part("/address/postal_code", 20),
        Limit(
            "/address/country",
            "address",
            vec![json!("DE")],
            vec![json!(""), json!("cn"), json!("CHN"), json!("ZZ")],
        ),
        // A parcel may have a product in two lines.
        Limit("/lines", "lines", vec![twice()], vec![json!([])]),
    ];
    provider.holds::<wire::CreateShipmentRequest>(&good, &limits).await;
    provider.holds::<wire::CreateShipmentRequest>(&good, &of_lines()).await;

    let shipment = [uuid("/shipment_key", "shipment_key")];
    provider.holds::<wire::GetShipmentRequest>(&json!({"shipment_key": id()}), &shipment).await;
    provider.holds::<wire::ConfirmDeliveryRequest>(&json!({"shipment_key": id()}), &shipment).await;
    let limits = [uuid("/order_id", "order_id"), uuid("/shipment_key", "shipment_key")];
    provider.holds::<wire::CancelShipmentRequest>(&json!({"order_id": id(), "shipment_key": id()}), &limits).await;
}

#[tokio::test]
async fn what_a_notification_service_is_asked_has_the_contract_s_limits() {
    let provider = Provider::start().await;
    let good = json!({"idempotency_key": id(), "order_id": id(), "customer_id": "anna", "template": "order-confirmed"});
    let known = ["order-cancelled", "order-rejected"].map(Value::from).to_vec();
    let limits = [
        uuid("/idempotency_key", "idempotency_key"),
        uuid("/order_id", "order_id"),
        customer_id(),
        Limit("/template", "template", known, vec![json!(""), json!("order-lost")]),
    ];
    provider.holds::<wire::SendRequest>(&good, &limits).await;
}

/// Over gRPC nobody can say such a number.
#[tokio::test]
async fn in_json_a_number_that_its_field_cannot_have_is_refused_too() {
    let provider = Provider::start().await;
    let line = |quantity: Value| json!({"order_id": id(), "lines": [{"product_id": "tea", "quantity": quantity}]});
    let of_amount = |amount: Value| json!({"order_id": id(), "amount": {"amount": amount, "currency": "CNY"}});
    for (path, request) in [
        (wire::ReserveRequest::REST_PATH, line(json!(-1))),
        (wire::ReserveRequest::REST_PATH, line(json!(4_294_967_297_u64))),
        (wire::ReserveRequest::REST_PATH, line(json!(1.5))),
        (wire::ChargeRequest::REST_PATH, of_amount(json!("1999"))),
        (wire::ChargeRequest::REST_PATH, of_amount(json!(u64::MAX))),
        (wire::PutProductRequest::REST_PATH, json!({"product": {"product_id": "tea", "stock": 4_294_967_296_u64}})),
        (wire::GetLedgerRequest::REST_PATH, json!(7)),
    ] {
        let refused = (400, "the message is not what the contract says".to_owned());
        assert_eq!(provider.over_rest(path, &request).await, refused, "{path} {request}");
    }
}

#[tokio::test]
async fn of_a_product_in_two_lines_nothing_is_held_and_others_are_served_on() {
    let provider = Provider::start().await;
    let books = &provider.reference.inventory;
    let stocked =
        json!({"product_id": "tea", "name": "Longjing", "price": {"amount": 1999, "currency": "CNY"}, "stock": 10});
    provider.takes::<wire::PutProductRequest>(&json!({"product": stocked})).await;
    let order_id = OrderId::new(Uuid::new_v4());
    let lines = json!([{"product_id": "tea", "quantity": 6}, {"product_id": "tea", "quantity": 6}]);
    let asked = json!({"order_id": order_id.to_string(), "lines": lines});
    let (status, said) = provider.over_rest(wire::ReserveRequest::REST_PATH, &asked).await;
    assert_eq!((status, said.as_str()), (400, "lines.product_id is not what the contract says"));
    assert_eq!(books.all()[0].stock, 10);
    assert_eq!(books.reserved(order_id).await.unwrap(), []);
    let asked = json!({"order_id": order_id.to_string(), "lines": [{"product_id": "tea", "quantity": 10}]});
    provider.takes::<wire::ReserveRequest>(&asked).await;
    assert_eq!(books.all()[0].stock, 0);
}

fn cny(amount: u64) -> Money {
    Money::new(amount, Currency::parse("CNY").unwrap()).unwrap()
}

/// A charge for an order that is always the same.
fn charge() -> ChargeRequest {
    ChargeRequest {
        idempotency_key: Uuid::new_v4(),
        order_id: OrderId::new(Uuid::from_u128(1)),
        customer_id: CustomerId::parse("anna").unwrap(),
        payment_method: PaymentMethod::default(),
        amount: cny(1_000),
    }
}

fn refund(charge: &ChargeRequest) -> RefundRequest {
    RefundRequest {
        idempotency_key: Uuid::new_v4(),
        order_id: charge.order_id,
        charge_key: charge.idempotency_key,
        amount: cny(1),
    }
}

fn cancellation(charge: &ChargeRequest) -> ChargeCancellation {
    ChargeCancellation { order_id: charge.order_id, charge_key: charge.idempotency_key, refund_key: Uuid::new_v4() }
}

#[tokio::test]
async fn a_ledger_has_a_thousand_entries_and_what_would_be_one_more_is_declined_or_refused() {
    let provider = Provider::start().await;
    let (books, charged, barred) = (&provider.reference.payments, charge(), charge());
    let payment = books.charge(&charged).await.unwrap();
    assert_eq!(books.cancel_charge(&cancellation(&barred)).await.unwrap(), None);
    let first = refund(&charged);
    let refunded = books.refund(&first).await.unwrap();
    for _ in 3..999 {
        books.refund(&refund(&charged)).await.unwrap();
    }
    // A thousandth one, which is no other for coming again.
    let another = ChargeRequest { amount: cny(0), ..charge() };
    for _ in 0..2 {
        books.charge(&another).await.unwrap();
        assert_eq!(books.cancel_charge(&cancellation(&barred)).await.unwrap(), None);
    }

    let [grpc, rest] = &provider.at;
    for address in [format!("grpc://{grpc}"), format!("http://{rest}")] {
        let address = Address::parse(&address).unwrap();
        let deadline = Duration::from_secs(30);
        let remote = Remote::new(Port::Payments, vec![address], deadline, breaker::Settings::default());
        let late = charge();
        for _ in 0..2 {
            let answer = remote.charge(&late).await;
            assert!(matches!(&answer, Err(ChargeError::Declined(why)) if why == "ledger_full"), "{answer:?}");
            // It never comes any more, so that nothing has to bar it.
            assert_eq!(remote.cancel_charge(&cancellation(&late)).await.unwrap(), None);
        }
        let answer = remote.refund(&refund(&charged)).await;
        assert!(matches!(&answer, Err(RefundError::Refused(why)) if why == "ledger_full"), "{answer:?}");
        let answer = remote.cancel_charge(&cancellation(&charged)).await;
        assert!(matches!(&answer, Err(CancelChargeError::Refused(why)) if why == "ledger_full"), "{answer:?}");
        // What was answered before is answered as it was.
        assert_eq!(remote.charge(&charged).await.unwrap(), payment);
        assert_eq!(remote.refund(&first).await.unwrap(), refunded);
        assert!(matches!(remote.charge(&barred).await, Err(ChargeError::Cancelled)));
        assert_eq!(remote.ledger(charged.order_id).await.unwrap().len(), 1_000);
        let other = ChargeRequest { order_id: OrderId::new(Uuid::new_v4()), ..charge() };
        remote.charge(&other).await.unwrap();
    }
}

#[tokio::test]
async fn a_request_that_is_too_large_is_not_read_over_either_transport() {
    let provider = Provider::start().await;
    let template = |bytes| wire::SendRequest {
        idempotency_key: id(),
        order_id: id(),
        customer_id: "anna".to_owned(),
        template: "x".repeat(bytes),
    };
    for (bytes, status, code) in [(255 * 1024, 400, Code::InvalidArgument), (256 * 1024, 413, Code::OutOfRange)] {
        let request = template(bytes);
        assert_eq!(provider.over_grpc(&request).await.0, code, "{bytes}");
        let request = serde_json::to_value(request).unwrap();
        assert_eq!(provider.over_rest(wire::SendRequest::REST_PATH, &request).await.0, status, "{bytes}");
    }
}

#[tokio::test]
async fn only_services_that_there_are_have_capabilities() {
    let provider = Provider::start().await;
    for path in [
        InventoryCapabilities::REST_PATH,
        PaymentsCapabilities::REST_PATH,
        ShippingCapabilities::REST_PATH,
        NotificationsCapabilities::REST_PATH,
    ] {
        let (status, said) = provider.over_rest(path, &json!({})).await;
        assert_eq!((status, said.contains("bars_keys")), (200, true), "{path}: {said}");
    }
    for path in ["/v1/insurance/get-capabilities", "/v1/get-capabilities", "/v1/payments/get-capability"] {
        assert_eq!(provider.over_rest(path, &json!({})).await.0, 404, "{path}");
    }
}
