//! `POST /api/v1/orders` → `OrderCreated`.
//!
//! 201, or the first answer again for a repeated `Idempotency-Key`; 400 for invalid input and unknown products, 403 for
//! somebody else's order, 409 when prices have changed or the stock does not suffice, 422 for a reused key.

use std::convert::Infallible;

use adapters::{
    app_config, aws, cloud_map,
    dynamodb::{DynamoEventStore, DynamoInventory},
    http::{self, ApiRequest, FieldError, FieldErrors, MoneyBody, Problem},
    lambda,
    limits::Limiter,
};
use application::{
    create_order::{CreateOrderError, OrderPlaced, command_id, create_order},
    event_store::{EventStore, fingerprint},
    ports::Catalogue,
};
use aws_sdk_dynamodb::Client;
use deserr::{DeserializeError, Deserr, ErrorKind, IntoValue, ValuePointerRef, take_cf_content};
use domain::{
    address::{AddressPart, CountryCode, ShippingAddress},
    ids::{CustomerId, OrderId, PaymentMethod, ProductId},
    money::{Money, Quantity},
    order::create::{CreateOrder, CreateRejection, RequestedItem, RequestedItems},
    provider::OrderProviders,
    text::{Invalid, Text, is_blank},
};
use lambda_http::{Body, Response};
use providers::{Choice, Port, Registry, of_new_orders};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let config = aws::config();
    let client = Client::new(&config);
    let settings = app_config::settings(&config)?;
    let limiter = Limiter::of_process(&client, settings.clone(), "create-order").await?;
    let store = DynamoEventStore::new(client.clone(), lambda::variable("EVENTS_TABLE")?);
    let inventory = Choice::new(
        Port::Inventory,
        DynamoInventory::new(client, lambda::variable("INVENTORY_TABLE")?),
        settings,
        Registry::new(cloud_map::of_process(&config)?),
    );
    http::run(&limiter, |request| async {
        let inventory = inventory.now().await?;
        let providers = of_new_orders(inventory.settings());
        handle(&store, inventory.of_new_orders()?, providers, request).await
    })
    .await
}

async fn handle(
    store: &impl EventStore,
    catalogue: &impl Catalogue,
    providers: OrderProviders,
    request: ApiRequest,
) -> Result<Response<Body>, Problem> {
    let caller = request.caller()?;
    let order_id = match request.idempotency_key()? {
        Some(key) => OrderId::derive(caller.id.as_str(), key),
        None => OrderId::new(Uuid::now_v7()),
    };
    request.is_about(order_id);
    let body: CreateOrderBody = request.json()?;
    if !caller.may_act_for(&body.customer_id) {
        return Err(Problem::forbidden("customer_id must be your own"));
    }
    let payment_method = body.payment_method.unwrap_or_default();
    let fingerprint = fingerprint(&(&body.customer_id, &body.items, &body.shipping_address, &payment_method))
        .map_err(|error| Problem::internal(&error))?;
    let ids: Vec<ProductId> = body.items.product_ids().cloned().collect();
    let command = CreateOrder {
        customer_id: body.customer_id,
        items: body.items,
        shipping_address: body.shipping_address.address(),
        payment_method,
        catalogue: catalogue.products(&ids).await.map_err(|error| Problem::unavailable(&error))?,
        providers,
        now: request.now,
    };
    let metadata = request.metadata(&caller, command_id(order_id), fingerprint);
    respond(create_order(store, order_id, &metadata, &command).await)
}

fn respond(outcome: Result<OrderPlaced, CreateOrderError>) -> Result<Response<Body>, Problem> {
    match outcome {
        Ok(OrderPlaced { order_id, version, replayed }) => {
            let body =
                json!({"order_id": order_id, "status": "created", "version": version, "message": "order created"});
            let answer = http::with_header(http::json(201, &body)?, "location", &format!("/api/v1/orders/{order_id}"));
            Ok(if replayed { http::with_header(answer, "idempotent-replayed", "true") } else { answer })
        }
        Err(CreateOrderError::Rejected(rejection)) => Err(rejected(&rejection)),
        Err(CreateOrderError::KeyReused) => Err(Problem::key_reused()),
        Err(CreateOrderError::TooLarge) => Err(Problem::new(413, "order-too-large", "The order is too large", "")),
        Err(CreateOrderError::Unavailable(error)) => Err(Problem::unavailable(&error)),
        Err(error @ CreateOrderError::Unwritable(_)) => Err(Problem::internal(&error)),
    }
}

fn rejected(rejection: &CreateRejection) -> Problem {
    let lines = |lines: &[usize], field: &str, detail: &str| {
        let error = |line| FieldError { pointer: format!("/items/{line}/{field}"), detail: detail.to_owned() };
        Problem::invalid(lines.iter().map(error).collect())
    };
    match rejection {
        CreateRejection::UnknownProducts(unknown) => lines(unknown, "product_id", "there is no such product"),
        CreateRejection::MixedCurrencies(foreign) => {
            lines(foreign, "product_id", "is priced in another currency than the first item")
        }
        CreateRejection::TotalOutOfRange => {
            Problem::invalid_field("/items", format!("the order's total must not be above {}", Money::MAX_AMOUNT))
        }
        CreateRejection::PricesChanged(changes) => {
            let prices: Vec<_> = changes
                .iter()
                .map(|change| json!({"pointer": format!("/items/{}/unit_price", change.line), "product_id": change.product_id, "current_price": change.current}))
                .collect();
            Problem::new(409, "price-changed", "Prices have changed", "see items for the current prices")
                .with("items", json!(prices))
        }
        CreateRejection::OutOfStock(shortages) => {
            let items: Vec<_> = shortages
                .iter()
                .map(|short| json!({"product_id": short.product_id, "requested_quantity": short.requested, "available_quantity": short.available}))
                .collect();
            Problem::new(409, "out-of-stock", "Not enough in stock", "see items for what is available")
                .with("items", json!(items))
        }
    }
}

#[derive(Deserr)]
#[deserr(error = FieldErrors, deny_unknown_fields)]
struct CreateOrderBody {
    #[deserr(try_from(&String) = CustomerId::parse -> Invalid)]
    customer_id: CustomerId,
    #[deserr(try_from(Vec<ItemBody>) = parse_items -> Invalid)]
    items: RequestedItems,
    shipping_address: AddressBody,
    #[deserr(default, try_from(Option<String>) = parse_payment_method -> Invalid)]
    payment_method: Option<PaymentMethod>,
}

#[derive(Deserr)]
#[deserr(error = FieldErrors, deny_unknown_fields)]
struct ItemBody {
    #[deserr(try_from(&String) = ProductId::parse -> Invalid)]
    product_id: ProductId,
    #[deserr(try_from(u64) = parse_quantity -> Invalid)]
    quantity: Quantity,
    #[deserr(default, try_from(Option<MoneyBody>) = optional_money -> Invalid)]
    unit_price: Option<Money>,
}

/// Has all that its country demands.
#[derive(Serialize)]
#[serde(transparent)]
struct AddressBody(AddressFields);

#[derive(Deserr, Serialize)]
#[deserr(error = FieldErrors, deny_unknown_fields)]
struct AddressFields {
    #[deserr(try_from(&String) = Text::parse -> Invalid)]
    street: Text<200>,
    #[deserr(default, try_from(Option<String>) = Text::parse_optional -> Invalid)]
    city: Option<Text<100>>,
    #[deserr(default, try_from(Option<String>) = Text::parse_optional -> Invalid)]
    state: Option<Text<100>>,
    #[deserr(try_from(&String) = CountryCode::parse -> Invalid)]
    country: CountryCode,
    #[deserr(default, try_from(Option<String>) = Text::parse_optional -> Invalid)]
    postal_code: Option<Text<20>>,
}

impl Deserr<FieldErrors> for AddressBody {
    fn deserialize_from_value<V: IntoValue>(
        value: deserr::Value<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, FieldErrors> {
        // What is lacking is looked for before the fields are parsed, so that it is named beside what is wrong with them.
        let value = Value::from(value);
        let lacking = lacking(&value);
        let (fields, wrong) = match AddressFields::deserialize_from_value(value.into_value(), location) {
            Ok(fields) => (Some(fields), None),
            Err(wrong) => (None, Some(wrong)),
        };
        let wrong = lacking.into_iter().fold(wrong, |so_far, (part, detail)| {
            let error = ErrorKind::Unexpected { msg: detail };
            Some(take_cf_content(FieldErrors::error::<Infallible>(so_far, error, location.push_key(part.name()))))
        });
        match (fields, wrong) {
            (Some(fields), None) => Ok(Self(fields)),
            (_, wrong) => Err(wrong.unwrap_or_default()),
        }
    }
}

/// The parts that the address has not, though its country demands them, with what is to be said about it.
fn lacking(address: &Value) -> Vec<(AddressPart, String)> {
    let country = address.get("country").and_then(Value::as_str).and_then(|code| CountryCode::parse(code).ok());
    let has = |part: AddressPart| match address.get(part.name()) {
        None | Some(Value::Null) => false,
        Some(Value::String(text)) => !is_blank(text),
        Some(_) => true,
    };
    let told = |country: CountryCode| {
        let detail = format!("is required in {}", country.as_str());
        country.lacks(has).into_iter().map(move |part| (part, detail.clone()))
    };
    country.into_iter().flat_map(told).collect()
}

fn parse_items(items: Vec<ItemBody>) -> Result<RequestedItems, Invalid> {
    let requested = |ItemBody { product_id, quantity, unit_price }| RequestedItem { product_id, quantity, unit_price };
    RequestedItems::new(items.into_iter().map(requested).collect())
}

impl AddressBody {
    fn address(self) -> ShippingAddress {
        let Self(AddressFields { street, city, state, country, postal_code }) = self;
        ShippingAddress { street, city, state, country, postal_code }
    }
}

/// Takes any number, so that one that is far too large is told the same limit as one that is a little.
fn parse_quantity(quantity: u64) -> Result<Quantity, Invalid> {
    Quantity::new(u32::try_from(quantity).unwrap_or(u32::MAX))
}

fn parse_payment_method(token: Option<String>) -> Result<Option<PaymentMethod>, Invalid> {
    token.map(|token| PaymentMethod::parse(&token)).transpose()
}

fn optional_money(body: Option<MoneyBody>) -> Result<Option<Money>, Invalid> {
    body.map(MoneyBody::money).transpose()
}

#[cfg(test)]
mod tests {
    use application::memory::{Fault, MemoryEventStore, MemoryInventory};
    use domain::{money::Currency, product::Product};

    use super::*;

    const SAMPLE: &str = include_str!("../../../events/create-order.json");

    struct Shop {
        store: MemoryEventStore,
        catalogue: MemoryInventory,
    }

    impl Shop {
        async fn with_tea(stock: u32) -> Self {
            let shop = Self { store: MemoryEventStore::default(), catalogue: MemoryInventory::default() };
            let price = Money::new(1999, Currency::parse("CNY").unwrap()).unwrap();
            let tea = Product { id: ProductId::parse("tea").unwrap(), name: Text::parse("Tea").unwrap(), price, stock };
            shop.catalogue.put_product(&tea).await.unwrap();
            shop
        }

        /// The sample event after a change to its body and headers.
        async fn send(&self, change: impl FnOnce(&mut Value, &mut Value)) -> Result<Response<Body>, Problem> {
            let mut event: Value = serde_json::from_str(SAMPLE).unwrap();
            let mut body: Value = serde_json::from_str(event["body"].as_str().unwrap()).unwrap();
            change(&mut body, &mut event);
            event["body"] = Value::String(body.to_string());
            let request = ApiRequest::from_event(&event.to_string(), chrono::Utc::now()).unwrap();
            handle(&self.store, &self.catalogue, OrderProviders::default(), request).await
        }
    }

    fn body(answer: &Response<Body>) -> Value {
        serde_json::from_slice(answer.body()).unwrap()
    }

    #[tokio::test]
    async fn the_sample_order_is_placed() {
        let shop = Shop::with_tea(2).await;
        let answer = shop.send(|_, _| {}).await.unwrap();
        assert_eq!(answer.status(), 201);
        let id = body(&answer)["order_id"].as_str().unwrap().to_owned();
        assert_eq!(answer.headers()["location"], format!("/api/v1/orders/{id}"));
        assert_eq!(body(&answer)["version"], 1);
        let commit = shop.store.all().remove(0);
        assert_eq!(commit.metadata.actor, "customer:customer-1");
        assert_eq!(commit.metadata.correlation_id, "sample-1");
        assert_eq!(commit.metadata.causation_id, "sample-request");
    }

    #[tokio::test]
    async fn the_same_request_again_is_replayed_whatever_its_field_order_and_defaults() {
        let shop = Shop::with_tea(2).await;
        let first = shop.send(|_, _| {}).await.unwrap();
        let again = shop
            .send(|body, _| {
                body.as_object_mut().unwrap().remove("payment_method");
            })
            .await
            .unwrap();
        assert_eq!(again.headers()["idempotent-replayed"], "true");
        assert_eq!(body(&again), body(&first));
        assert_eq!(shop.store.all().len(), 1);
    }

    #[tokio::test]
    async fn a_retry_is_found_again_whatever_the_version() {
        let with_all = "83a53596df5cbd7e16da1538ce31d07fc42a33405ac29e62871b74f4e9768343";
        let with_the_least = "e65a8837ea58c3c7ad065ed92463c41441591aa45fbd4a5c6afd329a64e02363";
        for (full, fingerprint) in [(true, with_all), (false, with_the_least)] {
            let shop = Shop::with_tea(2).await;
            let without = |body: &mut Value, _: &mut Value| {
                if !full {
                    body.as_object_mut().unwrap().remove("payment_method");
                    body["items"][0].as_object_mut().unwrap().remove("unit_price");
                }
            };
            let answer = shop.send(without).await.unwrap();
            assert_eq!(body(&answer)["order_id"], "7e108758-d8c7-5ab4-90d5-4d493c88ba33");
            let metadata = shop.store.all().remove(0).metadata;
            let known = ("ee204615-b55e-58db-aec3-95d6df16f43f", fingerprint);
            assert_eq!((metadata.command_id.to_string().as_str(), metadata.fingerprint.as_str()), known);
        }
    }

    /// Sends the sample to this address; answers the pointers and details of what is wrong with it.
    async fn wrong_with(address: Value) -> Vec<(String, String)> {
        let shop = Shop::with_tea(2).await;
        let Err(problem) = shop.send(|body, _| body["shipping_address"] = address).await else { return vec![] };
        assert_eq!(problem.status, 400);
        let told = problem.body("/", "c");
        let text = |error: &Value, field: &str| error[field].as_str().unwrap().to_owned();
        told["errors"].as_array().unwrap().iter().map(|e| (text(e, "pointer"), text(e, "detail"))).collect()
    }

    #[tokio::test]
    async fn an_address_has_what_its_country_has() {
        for (country, city, state, postal_code) in [
            ("HK", "", "Kowloon", ""),
            ("HK", "Kowloon", "", ""),
            ("AE", "Dubai", "", ""),
            ("AE", "", "Dubai", ""),
            ("JP", "千代田区", "", "100-0001"),
            ("PA", "Panamá", "", ""),
            ("KW", "Al Asimah", "", ""),
            ("GI", "", "", ""),
            ("SG", "", "", "546080"),
            ("DK", "Aarhus", "", "8000"),
            ("XK", "Prishtina", "", ""),
            ("US", "Springfield", "IL", "62701"),
        ] {
            let without = |nothing: &Value| {
                let part = |text: &str| if text.is_empty() { nothing.clone() } else { json!(text) };
                json!({"street": "1", "country": country, "city": part(city), "state": part(state), "postal_code": part(postal_code)})
            };
            for nothing in [json!(null), json!(""), json!(" \t\u{3000}")] {
                assert_eq!(wrong_with(without(&nothing)).await, [], "{country} {nothing}");
            }
            let mut absent = without(&json!(null));
            absent.as_object_mut().unwrap().retain(|_, part| !part.is_null());
            assert_eq!(wrong_with(absent).await, [], "{country}");
        }
    }

    #[tokio::test]
    async fn what_an_address_lacks_is_named_beside_what_is_wrong() {
        let pointers = async |address| -> Vec<String> {
            let mut wrong = wrong_with(address).await;
            wrong.sort();
            wrong.into_iter().map(|(pointer, _)| pointer.replace("/shipping_address/", "")).collect()
        };
        assert_eq!(pointers(json!({"street": "1", "country": "US"})).await, ["city", "postal_code", "state"]);
        assert_eq!(pointers(json!({"street": "1", "country": "HK", "city": " "})).await, ["state"]);
        assert_eq!(
            pointers(json!({"street": "", "country": "DK", "postal_code": 7})).await,
            ["city", "postal_code", "street"]
        );
        assert_eq!(pointers(json!({"country": "SG"})).await, ["postal_code", "street"]);
        // Nobody knows what a country that is none would need.
        assert_eq!(pointers(json!({"street": "1", "country": "XX"})).await, ["country"]);
        assert_eq!(pointers(json!({"street": "1"})).await, ["country"]);
        let us = wrong_with(json!({"street": "1", "country": "US", "city": "Springfield", "state": "IL"})).await;
        assert_eq!(us, [("/shipping_address/postal_code".to_owned(), "is required in US".to_owned())]);
    }

    #[tokio::test]
    async fn the_same_address_is_the_same_request_however_a_part_is_left_out() {
        let shop = Shop::with_tea(2).await;
        let to = |state: Value| json!({"street": "1", "country": "DK", "city": "Aarhus", "state": state, "postal_code": "8000"});
        shop.send(|body, _| body["shipping_address"] = to(json!(null))).await.unwrap();
        let again = shop.send(|body, _| body["shipping_address"] = to(json!(" "))).await.unwrap();
        assert_eq!(again.headers()["idempotent-replayed"], "true");
        let stored = &shop.store.all()[0].events[0].data["shipping_address"];
        assert_eq!((&stored["state"], &stored["city"]), (&Value::Null, &json!("Aarhus")));
        let other = shop.send(|body, _| body["shipping_address"] = to(json!("Jylland"))).await.unwrap_err();
        assert_eq!(other.status, 422);
    }

    #[tokio::test]
    async fn another_body_under_the_same_key_is_a_422() {
        let shop = Shop::with_tea(9).await;
        shop.send(|_, _| {}).await.unwrap();
        let problem = shop.send(|body, _| body["items"][0]["quantity"] = json!(3)).await.unwrap_err();
        assert_eq!((problem.status, problem.kind), (422, "idempotency-key-reused"));
    }

    #[tokio::test]
    async fn each_rejection_has_its_status() {
        let shop = Shop::with_tea(1).await;
        assert_eq!(shop.send(|_, _| {}).await.unwrap_err().kind, "out-of-stock");
        let changed = shop.send(|body, _| body["items"][0]["unit_price"]["amount"] = json!(1)).await.unwrap_err();
        assert_eq!((changed.status, changed.kind), (409, "price-changed"));
        let unknown = shop.send(|body, _| body["items"][0]["product_id"] = json!("cup")).await.unwrap_err();
        assert_eq!((unknown.status, unknown.kind), (400, "invalid-request"));
        let foreign = shop.send(|body, _| body["customer_id"] = json!("customer-2")).await.unwrap_err();
        assert_eq!(foreign.status, 403);
        let nobody = shop.send(|_, event| event["requestContext"]["authorizer"] = Value::Null).await.unwrap_err();
        assert_eq!(nobody.status, 401);
        assert!(shop.store.all().is_empty());
    }

    #[tokio::test]
    async fn a_key_that_cannot_be_read_is_refused_and_not_ignored() {
        let shop = Shop::with_tea(9).await;
        for key in ["", "a\tb", "bestellung-ä1", &"k".repeat(256)] {
            let problem = shop.send(|_, event| event["headers"]["idempotency-key"] = json!(key)).await.unwrap_err();
            assert_eq!((problem.status, problem.kind), (400, "invalid-idempotency-key"), "{key:.20}");
        }
        assert!(shop.store.all().is_empty());
    }

    #[tokio::test]
    async fn a_store_that_does_not_answer_is_a_503_that_may_be_repeated() {
        let shop = Shop::with_tea(2).await;
        shop.store.faults.push(Fault::AfterEffect);
        assert_eq!(shop.send(|_, _| {}).await.unwrap_err().status, 503);
        let again = shop.send(|_, _| {}).await.unwrap();
        assert_eq!(again.headers()["idempotent-replayed"], "true");
        assert_eq!(shop.store.all().len(), 1);
    }

    #[tokio::test]
    async fn hostile_events_are_answered() {
        let shop = Shop::with_tea(9_999).await;
        http::hostile::is_answered(
            SAMPLE,
            |request| handle(&shop.store, &shop.catalogue, OrderProviders::default(), request),
            || shop.store.count(),
        )
        .await;
    }
}
