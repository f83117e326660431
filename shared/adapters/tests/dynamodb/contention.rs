//! Whoever comes to the same item at the same moment as a few dozen others gets a decision.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use adapters::dynamodb::{DynamoEventStore, DynamoIndex, DynamoInventory, DynamoOrderViews};
use application::{
    event_stream::CommandError,
    ports::{
        AdjustError, Catalogue, ChargeRequest, Inventory, OrderViews, Payments, ReadModel, RefundError, RefundRequest,
        ReserveError, StockAdjustment, StockLine,
    },
    project_orders::catch_up,
    shop::{FORWARD, Shop, cny, tea},
};
use aws_sdk_dynamodb::{Client, config::http::HttpRequest};
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture};
use chrono::DateTime;
use domain::{
    ids::{AdjustmentId, CustomerId, OrderId, PaymentMethod},
    money::Quantity,
    order::request_refund::RefundRejection,
    product::StockChange,
    text::Text,
};
use dynoxide::Database;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::{
    histories::OnDynamo,
    support::{
        EVENTS, INDEX, INVENTORY, InProcess, ORDERS, client_over, config, create_tables, notifications_of, operation,
        payments_of, response, shipping_of,
    },
};

const AT_ONCE: usize = 30;

/// Well below the 10 s that an HTTP function has, with room for what it does besides.
const WITHIN: Duration = Duration::from_secs(6);

/// How long a call takes on its way there, and as long back.
const WAY: Duration = Duration::from_millis(4);

/// A database at a distance that refuses transactions and updates while it writes another transaction.
#[derive(Clone)]
struct Busy {
    database: InProcess,
    writing: Arc<AtomicUsize>,
}

impl fmt::Debug for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Busy")
    }
}

impl HttpConnector for Busy {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let Self { database, writing } = self.clone();
        HttpConnectorFuture::new(async move {
            sleep(WAY).await;
            let operation = operation(&request);
            let meets_another = writing.load(Ordering::Relaxed) > 0;
            let is_written = operation == "TransactWriteItems" && !meets_another;
            writing.fetch_add(usize::from(is_written), Ordering::Relaxed);
            let answer = match operation {
                "TransactWriteItems" | "TransactGetItems" if meets_another => {
                    refusal("TransactionCanceledException", &json!([{"Code": "TransactionConflict"}]))
                }
                "UpdateItem" if meets_another => refusal("TransactionConflictException", &json!(null)),
                _ => database.answer(&request),
            };
            sleep(WAY).await;
            writing.fetch_sub(usize::from(is_written), Ordering::Relaxed);
            Ok(response(answer))
        })
    }
}

fn refusal(name: &str, reasons: &Value) -> (u16, Vec<u8>) {
    let name = format!("com.amazonaws.dynamodb.v20120810#{name}");
    (400, json!({"__type": name, "message": "injected", "CancellationReasons": reasons}).to_string().into_bytes())
}

fn client() -> Client {
    let database = Database::memory().unwrap();
    create_tables(&database);
    client_over(config(), Busy { database: InProcess(database), writing: Arc::default() })
}

async fn shop() -> Shop<OnDynamo> {
    shop_over(client()).await
}

async fn shop_over(client: Client) -> Shop<OnDynamo> {
    let shop = Shop {
        store: DynamoEventStore::new(client.clone(), EVENTS.to_owned()),
        inventory: DynamoInventory::new(client.clone(), INVENTORY.to_owned()),
        payments: payments_of(client.clone()),
        shipping: shipping_of(client.clone()),
        notifications: notifications_of(client),
    };
    shop.set_stock(1_000).await;
    shop
}

fn order_id() -> OrderId {
    OrderId::new(Uuid::new_v4())
}

#[tokio::test(start_paused = true)]
async fn refunds_at_the_same_moment_are_all_decided() {
    let (shop, id) = (shop().await, order_id());
    shop.place(id, "pm_card_visa").await.unwrap();
    for step in FORWARD {
        shop.run(step, id).await.unwrap();
    }
    let names: Vec<String> = (0..AT_ONCE).map(|number| format!("refund {number}")).collect();
    let started = Instant::now();
    let outcomes = join_all(names.iter().map(|name| shop.request_refund(id, name, 260))).await;
    let took = started.elapsed();
    let accepted = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let refused = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Err(CommandError::Rejected(RefundRejection::TooMuch { .. }))))
        .count();
    assert_eq!((accepted, refused), (15, AT_ONCE - 15), "{outcomes:?}");
    assert!(took < WITHIN, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn adjustments_of_one_stock_at_the_same_moment_are_all_made() {
    let shop = shop().await;
    let adjustment = |_| StockAdjustment {
        id: AdjustmentId(Uuid::new_v4()),
        product_id: tea(),
        change: StockChange::By(-1),
        reason: Text::parse("damp").unwrap(),
        actor: "staff:staff-1".to_owned(),
        at: DateTime::UNIX_EPOCH,
    };
    let adjustments: Vec<StockAdjustment> = (0..AT_ONCE).map(adjustment).collect();
    let started = Instant::now();
    let outcomes = join_all(adjustments.iter().map(|adjustment| shop.inventory.adjust_stock(adjustment))).await;
    let took = started.elapsed();
    let failed: Vec<&AdjustError> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(shop.stock().await, 970);
    assert!(took < WITHIN, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn reservations_of_one_product_at_the_same_moment_are_all_made_and_released() {
    let shop = shop().await;
    let lines = [StockLine { product_id: tea(), quantity: Quantity::new(1).unwrap() }];
    let orders: Vec<OrderId> = (0..AT_ONCE).map(|_| order_id()).collect();
    let started = Instant::now();
    let outcomes = join_all(orders.iter().map(|order| shop.inventory.reserve(*order, &lines))).await;
    let took = started.elapsed();
    let failed: Vec<&ReserveError> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(shop.stock().await, 970);
    assert!(took < WITHIN, "{took:?}");
    for outcome in join_all(orders.iter().map(|order| shop.inventory.release(*order))).await {
        outcome.unwrap();
    }
    assert_eq!(shop.stock().await, 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_product_can_be_described_while_it_is_being_sold() {
    let shop = shop().await;
    let lines = [StockLine { product_id: tea(), quantity: Quantity::new(1).unwrap() }];
    let orders: Vec<OrderId> = (0..AT_ONCE).map(|_| order_id()).collect();
    let names: Vec<Text<200>> = (0..AT_ONCE).map(|number| Text::parse(&format!("Tea {number}")).unwrap()).collect();
    let tea = tea();
    let reserve = join_all(orders.iter().map(|order| shop.inventory.reserve(*order, &lines)));
    let describe = join_all(names.iter().map(|name| shop.inventory.describe_product(&tea, name, cny(1))));
    let (reserved, described) = futures_util::join!(reserve, describe);
    assert!(reserved.iter().all(Result::is_ok), "{reserved:?}");
    assert!(described.iter().all(Result::is_ok), "{described:?}");
    assert_eq!(shop.stock().await, 970);
}

#[tokio::test(start_paused = true)]
async fn refunds_of_one_charge_at_the_same_moment_are_all_made() {
    let (shop, order_id) = (shop().await, order_id());
    let charge = ChargeRequest {
        idempotency_key: Uuid::new_v4(),
        order_id,
        customer_id: CustomerId::parse("customer-1").unwrap(),
        amount: cny(3_000),
        payment_method: PaymentMethod::default(),
    };
    shop.payments.charge(&charge).await.unwrap();
    let refund = |_| RefundRequest {
        idempotency_key: Uuid::new_v4(),
        order_id,
        charge_key: charge.idempotency_key,
        amount: cny(100),
    };
    let refunds: Vec<RefundRequest> = (0..AT_ONCE).map(refund).collect();
    let outcomes = join_all(refunds.iter().map(|refund| shop.payments.refund(refund))).await;
    let failed: Vec<&RefundError> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(shop.balance(order_id).await, cny(0));
}

#[tokio::test(start_paused = true)]
async fn orders_of_one_customer_at_the_same_moment_all_get_their_views() {
    let client = client();
    let views = DynamoOrderViews::new(client.clone(), ORDERS.to_owned(), 1);
    let index = DynamoIndex::new(client.clone(), INDEX.to_owned(), 1);
    let model = ReadModel { generation: 1, views, index };
    let store = shop_over(client).await;
    let orders: Vec<OrderId> = (0..AT_ONCE).map(|_| order_id()).collect();
    for order in &orders {
        store.place(*order, "pm_card_visa").await.unwrap();
    }
    let (store, model) = (&store.store, &model);
    let outcomes = join_all(orders.iter().map(|order| catch_up(store, model, *order))).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let customer = CustomerId::parse("customer-1").unwrap();
    assert_eq!(model.views.customer_orders(&customer, 0, 100).await.unwrap().total, AT_ONCE);
}
