//! Orders as they may come in: the same ones in every run, told apart by their number.
//!
//! One order in ten is the wholesaler's; the others are spread over as many customers as a tenth of the orders. Most go
//! well, some are cancelled, declined, refunded, stuck, or still under way.

use std::sync::Arc;

use adapters::dynamodb::{DynamoEventStore, DynamoOrderViews};
use application::{
    create_order,
    event_store::{Commit, EventStore, Metadata, RecordedEvent, StreamId},
    event_stream::Aggregate,
    memory::MemoryEventStore,
    ports::OrderViews,
    project_orders,
};
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
    text::Text,
};
use dynoxide::{AttributeValue, ImportOptions, Item};
use serde_json::json;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::database::{EVENTS, LocalDynamo, ORDERS};

/// How many tasks load at once.
const LOADERS: usize = 4;

/// How many streams come into the database in one transaction.
const STREAMS_PER_IMPORT: usize = 200;

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

/// The customer with the most orders.
pub(crate) fn wholesaler() -> CustomerId {
    customer_id(0)
}

/// Of this many orders, the one with this number.
pub(crate) fn order(number: usize, of: usize) -> PastOrder {
    let mut dice = Dice::new(number);
    let customer = match number % ORDERS_PER_CUSTOMER {
        0 => wholesaler(),
        _ => customer_id(1 + dice.below(customers(of))),
    };
    let placed_at = first_of_january() + TimeDelta::seconds(i64::try_from(number).unwrap() * 37);
    let id = OrderId::derive(customer.as_str(), &format!("order-{number}"));
    let created = created(&mut dice, &customer, placed_at);
    let events = what_happened(&mut dice, id, created, placed_at);
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

/// A small order as a customer would place it.
pub(crate) fn small_order() -> CreateOrder {
    order_of(&mut Dice::new(0), &wholesaler(), 1, Utc::now())
}

/// The streams of this many orders and of their customers, or one part of so many of them.
pub(crate) fn streams(orders: usize, part: usize, parts: usize) -> impl Iterator<Item = Vec<Commit>> {
    let profiles = (part..=customers(orders)).step_by(parts).map(|number| vec![profile(number)]);
    profiles.chain((part..orders).step_by(parts).map(move |number| order(number, orders).commits))
}

/// What of the orders is to be there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    Events,
    EventsAndViews,
}

/// Brings this many orders and their customers there, and answers how many commits that took.
///
/// Commits go past the SDK, which would take most of the time, and are checked against what it writes. There are fewer
/// views, and more ways to keep them: they are made by the product's own projection.
pub(crate) async fn load(dynamo: &LocalDynamo, orders: usize, what: Load) -> usize {
    check_item(dynamo).await;
    let (client, collected) = dynamo.collecting_client();
    let views = Arc::new(DynamoOrderViews::new(client, ORDERS.to_owned()));
    let mut loaders = JoinSet::new();
    for loader in 0..LOADERS {
        let (database, views, collected) = (dynamo.database.clone(), Arc::clone(&views), collected.clone());
        loaders.spawn(async move {
            let mut count = 0;
            let mut streams = streams(orders, loader, LOADERS);
            loop {
                let streams: Vec<_> = streams.by_ref().take(STREAMS_PER_IMPORT).collect();
                if streams.is_empty() {
                    return count;
                }
                let items: Vec<_> = streams.iter().flatten().map(item).collect();
                count += items.len();
                database.import_items(EVENTS, items, ImportOptions::default()).unwrap();
                for stream in streams.iter().filter(|_| what == Load::EventsAndViews) {
                    project(&*views, stream).await;
                }
                collected.import(&database);
                // An import does not wait for anything, and would let nobody else run.
                tokio::task::yield_now().await;
            }
        });
    }
    loaders.join_all().await.into_iter().sum()
}

/// Makes the view of a stream in one go: the projection is told the last commit, and reads the ones before.
async fn project(views: &impl OrderViews, stream: &[Commit]) {
    let past = MemoryEventStore::default();
    for commit in stream {
        past.append(commit).await.unwrap();
    }
    project_orders::project(&past, views, stream.last().unwrap()).await.unwrap();
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

/// Holds [`item`] to what the product writes, with a commit that is loaded later in any case.
async fn check_item(dynamo: &LocalDynamo) {
    let store = DynamoEventStore::new(dynamo.loading_client(), EVENTS.to_owned());
    let commit = order(0, 1).commits.swap_remove(0);
    store.append(&commit).await.unwrap();
    let ours = item(&commit);
    let key = json!({"stream": ours["stream"], "version": ours["version"]});
    let get = serde_json::from_value(json!({"TableName": EVENTS, "Key": key})).unwrap();
    let theirs = dynamo.database.get_item(get).unwrap().item;
    assert_eq!(Some(ours), theirs, "the product writes its commits in another way than the loader does");
}

fn customers(orders: usize) -> usize {
    orders.div_ceil(ORDERS_PER_CUSTOMER)
}

/// As an issuer of tokens would name them: version 4 UUIDs in text, but the same in every run.
fn customer_id(number: usize) -> CustomerId {
    CustomerId::parse(&Uuid::new_v5(&Uuid::NAMESPACE_OID, &number.to_be_bytes()).to_string()).unwrap()
}

/// How this customer is called.
fn profile(number: usize) -> Commit {
    let mut dice = Dice::new(number);
    let ((family, family_in_ascii), (given, given_in_ascii)) = (dice.pick(&FAMILY_NAMES), dice.pick(&GIVEN_NAMES));
    let domain = dice.pick(&MAIL_DOMAINS);
    let event = CustomerEvent::CustomerProfileUpdated(Profile {
        first_name: text(given),
        last_name: text(family),
        email: Email::parse(&format!("{given_in_ascii}.{family_in_ascii}{number}@{domain}")).unwrap(),
    });
    let id = customer_id(number);
    Commit {
        stream: StreamId::customer(&id),
        version: 1,
        events: vec![<Customer as Aggregate>::record(&event).unwrap()],
        metadata: metadata(dice.uuid(), format!("customer:{id}"), first_of_january()),
    }
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
            city: text(city),
            state: text(state),
            country: CountryCode::parse(country).unwrap(),
            postal_code: text(postal_code),
        },
        payment_method: PaymentMethod::default(),
        catalogue,
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
                RequestedRefund { refund_id, amount: half, reason: text("杯子碎了 / the cup was broken") };
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
            let requested = OrderEvent::OrderCancelRequested { reason: reason.clone() };
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

fn first_of_january() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_454)
}

fn cny(amount: u64) -> Money {
    Money::new(amount, Currency::CNY).unwrap()
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
