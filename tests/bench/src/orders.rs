//! Orders as they may come in: the same ones in every run, told apart by their number.
//!
//! One order in ten is the wholesaler's; the others are spread over as many customers as a tenth of the orders. Most go
//! well, some are cancelled, declined, refunded, stuck, or still under way.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use adapters::dynamodb::{DynamoEventStore, DynamoReadModel, Generation};
use application::{
    create_order,
    event_store::{Commit, EventStore, Metadata, RecordedEvent, StreamId},
    event_stream::Aggregate,
    memory::MemoryEventStore,
    project_orders::project,
};
use aws_sdk_dynamodb::Client;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use domain::{
    address::{CountryCode, ShippingAddress},
    customer::{Customer, CustomerEvent, Email, Profile},
    ids::{
        CustomerId, NotificationId, OrderId, PaymentMethod, ProductId, RefundId, ReservationId, ShipmentId,
        TransactionId,
    },
    money::{Currency, Money, Quantity},
    order::{
        Attention, CompletedRefund, OrderCreated, OrderEvent, Payment, Refund, RejectionReason, RequestedRefund,
        Reservation, Shipment,
        create::{CreateOrder, RequestedItem, RequestedItems, create},
    },
    product::Product,
    provider::OrderProviders,
    text::Text,
};
use dynoxide::{AttributeValue, ImportOptions, Item};
use serde_json::json;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::database::{EVENTS, INDEX, LocalDynamo, ORDERS};

/// How many tasks load at once.
const LOADERS: usize = 4;

/// The time from one order to the next.
const APART: TimeDelta = TimeDelta::seconds(37);

/// How many streams come into the database in one transaction.
const STREAMS_PER_IMPORT: usize = 1_000;

/// Every so many orders one is the wholesaler's, and every so many orders there is one more customer.
const ORDERS_PER_CUSTOMER: usize = 10;

const FAMILY_NAMES: [(&str, &str); 8] = [
    ("王", "wang"),
    ("李", "li"),
    ("张", "zhang"),
    ("欧阳", "ouyang"),
    ("Müller", "mueller"),
    ("Smith", "smith"),
    ("García", "garcia"),
    ("Nguyễn", "nguyen"),
];
const GIVEN_NAMES: [(&str, &str); 8] = [
    ("伟", "wei"),
    ("芳", "fang"),
    ("秀英", "xiuying"),
    ("子涵", "zihan"),
    ("Anna", "anna"),
    ("John", "john"),
    ("José", "jose"),
    ("Linh", "linh"),
];
const MAIL_DOMAINS: [&str; 4] = ["example.com", "example.org", "mail.example.cn", "post.example.de"];
const ADDRESSES: [[&str; 5]; 4] = [
    ["南京东路 100 号", "上海", "上海", "CN", "200001"],
    ["中关村大街 27 号", "北京", "北京", "CN", "100080"],
    ["Torstraße 12", "Berlin", "Berlin", "DE", "10119"],
    ["350 Fifth Avenue", "New York", "NY", "US", "10118"],
];
const PRODUCTS: [(&str, &str, u64); 8] = [
    ("tea-longjing-250", "龙井茶 250 克", 12_800),
    ("tea-puer-357", "普洱茶饼 357 克", 26_800),
    ("cup-celadon", "青瓷茶杯", 5_900),
    ("kettle-iron", "Cast iron kettle, 1.2 l", 45_900),
    ("tray-bamboo", "Bamboo tea tray", 19_900),
    ("scoop-brass", "Brass tea scoop", 3_500),
    ("caddy-tin", "Tin caddy for 500 g of tea", 7_900),
    ("scale-pocket", "Pocket scale, 0.1 g", 9_900),
];

/// An order, and everything that has happened to it.
pub(crate) struct PastOrder {
    pub(crate) id: OrderId,
    pub(crate) commits: Vec<Commit>,
}

/// The generation of the read model that is loaded.
pub(crate) const GENERATION: u32 = 1;

/// The customer with the most orders.
pub(crate) fn wholesaler() -> CustomerId {
    customer_id(0)
}

/// How many orders the wholesaler has of this many.
pub(crate) fn orders_of_wholesaler(of: usize) -> usize {
    of.div_ceil(ORDERS_PER_CUSTOMER)
}

/// Of this many orders, a customer who has exactly so many, and their e-mail address.
pub(crate) fn customer_with(wanted: usize, of: usize) -> (CustomerId, String) {
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for number in 0..of {
        *counts.entry(customer_of(&mut Dice::new(number), number, of)).or_default() += 1;
    }
    let customer = counts.into_iter().find(|(customer, count)| *customer > 0 && *count == wanted);
    let (number, _) = customer.expect("no customer has so many orders");
    (customer_id(number), email(number))
}

/// Of this many orders, the one with this number.
pub(crate) fn order(number: usize, of: usize) -> PastOrder {
    let mut dice = Dice::new(number);
    let customer = customer_id(customer_of(&mut dice, number, of));
    past_order(&mut dice, number, &customer)
}

/// The order with this number, as if this customer had placed it.
pub(crate) fn order_of_customer(number: usize, customer: usize) -> PastOrder {
    past_order(&mut Dice::new(number), number, &customer_id(customer))
}

/// The customer who places an order, as their number.
fn customer_of(dice: &mut Dice, order: usize, of: usize) -> usize {
    match order % ORDERS_PER_CUSTOMER {
        0 => 0,
        _ => 1 + dice.below(customers(of)),
    }
}

fn past_order(dice: &mut Dice, number: usize, customer: &CustomerId) -> PastOrder {
    let placed_at = first_of_january() + APART * i32::try_from(number).unwrap();
    let id = OrderId::derive(customer.as_str(), &format!("order-{number}"));
    let created = created(dice, customer, placed_at);
    let events = what_happened(dice, id, created, placed_at);
    let commits = (1..).zip(&events).map(|(version, event)| {
        let work = event.event_type();
        let command_id = if version == 1 { create_order::command_id(id) } else { id.work_id(work) };
        let actor = if version == 1 { format!("customer:{customer}") } else { format!("service:{work}") };
        Commit {
            stream: StreamId::order(id),
            version,
            events: vec![RecordedEvent::record(event).unwrap()],
            metadata: metadata(command_id, actor, placed_at + TimeDelta::seconds(i64::try_from(version).unwrap())),
        }
    });
    PastOrder { id, commits: commits.collect() }
}

/// A small order as a customer would place it, once what they have sent is read and the catalogue has been asked.
pub(crate) fn small_order() -> CreateOrder {
    static ORDER: LazyLock<CreateOrder> =
        LazyLock::new(|| order_of(&mut Dice::new(0), &wholesaler(), 1, first_of_january()));
    CreateOrder { now: Utc::now(), ..ORDER.clone() }
}

/// What of the orders is to be there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    Events,
    EventsAndReadModel,
}

/// Brings this many orders and their customers there, and answers how many commits that took.
///
/// The read model is made by the product's own projection, from whole streams: views, lists, counts and the index are those
/// that it writes. Only the way into the database is shorter, because ours to it would take most of the time: everything is
/// imported in batches, commits past the SDK, after they were checked against what the product writes.
pub(crate) async fn load(dynamo: &LocalDynamo, orders: usize, what: Load) -> usize {
    check_items(dynamo).await;
    // All that the projection reads of other streams.
    let profiles = MemoryEventStore::default();
    for number in 0..=customers(orders) {
        profiles.append(&profile(number)).await.unwrap();
    }
    let (profiles, (client, collected)) = (Arc::new(profiles), dynamo.collecting_client());
    let mut loaders = JoinSet::new();
    for loader in 0..LOADERS {
        let (database, profiles) = (dynamo.database.clone(), Arc::clone(&profiles));
        let (model, collected) = (read_model(client.clone()), collected.clone());
        loaders.spawn(async move {
            let mut count = 0;
            let mut streams = streams(orders, loader);
            loop {
                let commits: Vec<Commit> = streams.by_ref().take(STREAMS_PER_IMPORT).flatten().collect();
                if commits.is_empty() {
                    return count;
                }
                count += commits.len();
                database.import_items(EVENTS, commits.iter().map(item).collect(), ImportOptions::default()).unwrap();
                if what == Load::EventsAndReadModel {
                    let failed = project(&*profiles, &model, &commits).await.failed;
                    assert!(failed.is_empty(), "{failed:?}");
                    // More will be added to the hours.
                    collected.import(&database, INDEX, |key| !key.contains("/hours\n"));
                }
                // An import does not wait for anything, and would let nobody else run.
                tokio::task::yield_now().await;
            }
        });
    }
    let count = loaders.join_all().await.into_iter().sum();
    for table in [ORDERS, INDEX] {
        collected.import(&dynamo.database, table, |_| true);
    }
    count
}

/// The generation that is loaded, as the product reaches it.
pub(crate) fn read_model(client: Client) -> Generation {
    DynamoReadModel::new(client, ORDERS.to_owned(), INDEX.to_owned()).generation(GENERATION)
}

/// What one loader loads: all that there is of some of the customers, because a customer's orders must not be placed by two.
fn streams(orders: usize, loader: usize) -> impl Iterator<Item = Vec<Commit>> {
    let profiles = (loader..=customers(orders)).step_by(LOADERS).map(|number| vec![profile(number)]);
    let is_mine = move |number: &usize| customer_of(&mut Dice::new(*number), *number, orders) % LOADERS == loader;
    profiles.chain((0..orders).filter(is_mine).map(move |number| order(number, orders).commits))
}

/// A commit as an item of the event table.
fn item(commit: &Commit) -> Item {
    let Metadata { command_id, fingerprint, actor, correlation_id, causation_id, traceparent, occurred_at } =
        &commit.metadata;
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let types = commit.events.iter().map(|event| text(&event.event_type));
    let mut item = Item::from([
        ("stream".to_owned(), text(commit.stream.as_str())),
        ("version".to_owned(), AttributeValue::N(commit.version.to_string())),
        ("events".to_owned(), AttributeValue::S(serde_json::to_string(&commit.events).unwrap())),
        ("event_types".to_owned(), AttributeValue::L(types.collect())),
        ("command_id".to_owned(), text(&command_id.to_string())),
        ("fingerprint".to_owned(), text(fingerprint)),
        ("actor".to_owned(), text(actor)),
        ("correlation_id".to_owned(), text(correlation_id)),
        ("causation_id".to_owned(), text(causation_id)),
        ("occurred_at".to_owned(), text(&occurred_at.to_rfc3339_opts(SecondsFormat::AutoSi, true))),
    ]);
    item.extend(traceparent.iter().map(|traceparent| ("traceparent".to_owned(), text(traceparent))));
    item
}

/// Holds [`item`] to what the product writes, with an order that is loaded later in any case.
async fn check_items(dynamo: &LocalDynamo) {
    let stored = |ours: &Item| {
        let key: Item = ["stream", "version"].iter().map(|key| ((*key).to_owned(), ours[*key].clone())).collect();
        let get = serde_json::from_value(json!({"TableName": EVENTS, "Key": key})).unwrap();
        dynamo.database.get_item(get).unwrap().item
    };
    let store = DynamoEventStore::new(dynamo.loading_client(), EVENTS.to_owned());
    for commit in order(0, 1).commits.iter().chain([&profile(0)]) {
        store.append(commit).await.unwrap();
        let ours = item(commit);
        let theirs = stored(&ours);
        assert_eq!(Some(ours), theirs, "the product writes its commits in another way than the loader does");
    }
}

/// How many orders are placed in so long a time.
pub(crate) fn placed_within(time: TimeDelta) -> usize {
    usize::try_from(time.num_seconds()).unwrap().div_ceil(usize::try_from(APART.num_seconds()).unwrap())
}

/// How many customers have placed so many orders, beside the wholesaler.
pub(crate) fn customers(orders: usize) -> usize {
    orders.div_ceil(ORDERS_PER_CUSTOMER)
}

/// As an issuer of tokens would name them: version 4 UUIDs in text, but the same in every run.
fn customer_id(number: usize) -> CustomerId {
    CustomerId::parse(&Uuid::new_v5(&Uuid::NAMESPACE_OID, &number.to_be_bytes()).to_string()).unwrap()
}

/// How this customer is called.
pub(crate) fn profile(number: usize) -> Commit {
    let mut dice = Dice::new(number);
    let ((family, _), (given, _)) = names(&mut dice);
    let event = CustomerEvent::CustomerProfileUpdated(Profile {
        first_name: text(given),
        last_name: Some(text(family)),
        email: Email::parse(&email(number)).unwrap(),
        email_verified: false,
    });
    let id = customer_id(number);
    Commit {
        stream: StreamId::customer(&id),
        version: 1,
        events: vec![<Customer as Aggregate>::record(&event).unwrap()],
        metadata: metadata(dice.uuid(), format!("customer:{id}"), first_of_january()),
    }
}

type Name = (&'static str, &'static str);

fn names(dice: &mut Dice) -> (Name, Name) {
    (dice.pick(&FAMILY_NAMES), dice.pick(&GIVEN_NAMES))
}

fn email(number: usize) -> String {
    let mut dice = Dice::new(number);
    let ((_, family), (_, given)) = names(&mut dice);
    format!("{given}.{family}{number}@{}", dice.pick(&MAIL_DOMAINS))
}

fn metadata(command_id: Uuid, actor: String, occurred_at: DateTime<Utc>) -> Metadata {
    Metadata {
        command_id,
        fingerprint: format!("{0}{0}", command_id.simple()),
        actor,
        correlation_id: Uuid::new_v5(&command_id, b"correlation").to_string(),
        causation_id: Uuid::new_v5(&command_id, b"causation").to_string(),
        traceparent: None,
        occurred_at,
    }
}

fn created(dice: &mut Dice, customer: &CustomerId, placed_at: DateTime<Utc>) -> OrderCreated {
    let lines = 1 + dice.below(4);
    match create(&order_of(dice, customer, lines, placed_at)) {
        Ok(OrderEvent::OrderCreated(created)) => created,
        other => panic!("the order was not placed: {other:?}"),
    }
}

fn order_of(dice: &mut Dice, customer: &CustomerId, lines: usize, now: DateTime<Utc>) -> CreateOrder {
    let first = dice.below(PRODUCTS.len());
    let products = PRODUCTS.iter().cycle().skip(first).take(lines);
    let catalogue: Vec<Product> = products
        .map(|(id, name, price)| Product {
            id: ProductId::parse(id).unwrap(),
            name: text(name),
            price: cny(*price),
            stock: 1_000,
        })
        .collect();
    let items = catalogue.iter().map(|product| RequestedItem {
        product_id: product.id.clone(),
        quantity: Quantity::new(u32::try_from(1 + dice.below(3)).unwrap()).unwrap(),
        unit_price: None,
    });
    let items = RequestedItems::new(items.collect()).unwrap();
    let [street, city, state, country, postal_code] = dice.pick(&ADDRESSES);
    CreateOrder {
        customer_id: customer.clone(),
        items,
        shipping_address: ShippingAddress {
            street: text(street),
            city: Some(text(city)),
            state: Some(text(state)),
            country: CountryCode::parse(country).unwrap(),
            postal_code: Some(text(postal_code)),
        },
        payment_method: PaymentMethod::default(),
        catalogue,
        providers: OrderProviders::default(),
        now,
    }
}

/// How it went on with the order, beginning with its creation.
fn what_happened(dice: &mut Dice, id: OrderId, created: OrderCreated, placed_at: DateTime<Utc>) -> Vec<OrderEvent> {
    let total = created.total_amount;
    let transaction = |prefix: &str, work| TransactionId(format!("{prefix}_{}", id.work_id(work).simple()));
    let notification = || Some(NotificationId(format!("ntf_{}", id.work_id("send-confirmation").simple())));
    let refund = |work, amount| Refund { transaction_id: transaction("re", work), amount, processed_at: placed_at };

    let created = OrderEvent::OrderCreated(created);
    let reserved =
        OrderEvent::InventoryReserved(Reservation { reservation_id: ReservationId(format!("rsv_{}", dice.uuid())) });
    let paid = OrderEvent::PaymentCompleted(Payment {
        transaction_id: transaction("ch", "process-payment"),
        amount: total,
        processed_at: placed_at,
    });
    let shipped = OrderEvent::ShipmentCreated(Shipment {
        shipment_id: ShipmentId(format!("shp_{}", dice.uuid())),
        carrier: "sandbox".to_owned(),
        tracking_number: format!("SBX{:012}", dice.below(1_000_000_000_000)),
        estimated_delivery: placed_at + TimeDelta::days(3),
    });
    let confirmed = OrderEvent::OrderConfirmed { notification_id: notification() };
    let delivered = OrderEvent::ShipmentDelivered { delivered_at: placed_at + TimeDelta::days(2) };

    match dice.below(100) {
        0..40 => vec![created, reserved, paid, shipped, confirmed, delivered],
        40..80 => vec![created, reserved, paid, shipped, confirmed],
        80..84 => {
            let half = Money::new(total.amount() / 2, total.currency()).unwrap();
            let refund_id = RefundId(id.work_id("request-refund"));
            let requested =
                RequestedRefund {
                    refund_id, amount: half, reason: text("杯子碎了 / the cup was broken"), note: None
                };
            let completed = CompletedRefund { refund_id, refund: refund("issue-refund", half) };
            let [requested, completed] =
                [OrderEvent::RefundRequested(requested), OrderEvent::RefundCompleted(completed)];
            vec![created, reserved, paid, shipped, confirmed, delivered, requested, completed]
        }
        84..89 => {
            let reason = RejectionReason::PaymentDeclined { decline_code: "card_declined".to_owned() };
            let failed = OrderEvent::PaymentFailed { reason: reason.clone() };
            let rejected = OrderEvent::OrderRejected { reason, notification_id: notification() };
            vec![created, reserved, failed, OrderEvent::InventoryReleased {}, rejected]
        }
        89..95 => {
            let reason = text("不想要了 / changed my mind");
            let requested = OrderEvent::OrderCancelRequested { reason: reason.clone(), note: None };
            let refunded = OrderEvent::PaymentRefunded(refund("refund-payment", total));
            let cancelled = OrderEvent::OrderCancelled { reason, notification_id: notification() };
            vec![created, reserved, paid, requested, refunded, OrderEvent::InventoryReleased {}, cancelled]
        }
        95 => {
            let attention = Attention { step: "create-shipment".to_owned(), reason: "Unavailable".to_owned() };
            vec![created, reserved, paid, OrderEvent::OrderFlagged(attention)]
        }
        96 => vec![created, reserved, paid],
        97 => vec![created, reserved],
        _ => vec![created],
    }
}

pub(crate) fn first_of_january() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_454)
}

fn cny(amount: u64) -> Money {
    Money::new(amount, Currency::parse("CNY").unwrap()).unwrap()
}

fn text<const MAX: usize>(text: &str) -> Text<MAX> {
    Text::parse(text).unwrap()
}

/// Numbers without a pattern, the same for the same seed: the generator `SplitMix64`.
struct Dice(u64);

impl Dice {
    fn new(seed: usize) -> Self {
        Self(u64::try_from(seed).unwrap())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn uuid(&mut self) -> Uuid {
        Uuid::from_u64_pair(self.next(), self.next())
    }
}
