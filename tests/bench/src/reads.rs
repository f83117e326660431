//! What each endpoint's reads consume, and whether that grows with the number of orders.

use std::time::Instant;

use adapters::dynamodb::{DynamoEventStore, DynamoOrderViews};
use application::{
    event_stream::CustomerStream,
    order_history::{Until, order_history},
    ports::OrderViews,
};
use aws_sdk_dynamodb::{Client, types::AttributeValue};
use chrono::Utc;

use crate::{
    contest::{Contest, Outcome, print, ratio},
    database::{EVENTS, LocalDynamo, ORDERS, Usage},
    orders::{self, Load, PastOrder},
};

const ROUNDS: usize = 25;
const READS_PER_ROUND: u32 = 10;

/// The service's ports as an endpoint has them, and what it may be asked for.
struct Service {
    client: Client,
    store: DynamoEventStore,
    views: DynamoOrderViews,
    /// An order in the middle of all.
    order: PastOrder,
}

impl Service {
    fn new(client: Client, orders: usize) -> Self {
        Self {
            store: DynamoEventStore::new(client.clone(), EVENTS.to_owned()),
            views: DynamoOrderViews::new(client.clone(), ORDERS.to_owned()),
            client,
            order: orders::order(orders / 2, orders),
        }
    }

    // To measure another use case, write it here as one method that fails when it does not find what it should, and add it
    // to the list below. A page further on needs the cursor of the page before it: find that in `measure`, where nobody
    // counts, and keep it in a field.

    async fn bare_get(&self) {
        let id = AttributeValue::S(self.order.id.to_string());
        let get = self.client.get_item().table_name(ORDERS).key("order_id", id).consistent_read(true);
        assert!(get.send().await.unwrap().item.is_some());
    }

    async fn order_details(&self) {
        let view = self.views.load(self.order.id).await.unwrap().unwrap();
        assert_eq!(view.version, self.order.commits.last().unwrap().last_version());
    }

    async fn order_events(&self) {
        let history = order_history(&self.store, self.order.id, Until::Now).await.unwrap().unwrap();
        assert_eq!(history.events.len(), self.order.commits.len());
    }

    async fn customer_profile(&self) {
        let stream = CustomerStream::open(&self.store, orders::wholesaler()).await.unwrap();
        assert!(stream.customer().profile.is_some());
    }

    async fn open_orders(&self) {
        let open = self.views.open_orders(Utc::now(), 100).await.unwrap();
        assert!(!open.ids.is_empty());
    }
}

/// Calls `$with` with the name and the method of each use case; the first is the baseline.
macro_rules! for_each_use_case {
    ($with:ident) => {
        $with!("one GetItem of a view (baseline)", bare_get);
        $with!("order details", order_details);
        $with!("order's events", order_events);
        $with!("customer's profile", customer_profile);
        $with!("100 open orders, for reconcile", open_orders);
    };
}

pub(crate) async fn run(sizes: &[usize]) {
    let mut rows = Vec::new();
    for &orders in sizes {
        rows.extend(measure(orders).await);
    }
    print(
        "reads: what an endpoint's use case consumes",
        ["", "orders", "calls", "read units", "units / baseline's", "time / baseline's"],
        &rows,
    );
}

async fn measure(orders: usize) -> Vec<[String; 6]> {
    let dynamo = LocalDynamo::start().await;
    load(&dynamo, orders).await;

    let service = Service::new(dynamo.client(), orders);
    let mut contest = Contest::default();
    macro_rules! enter {
        ($name:literal, $use_case:ident) => {
            contest = contest.enter($name, || async {
                let begin = Instant::now();
                for _ in 0..READS_PER_ROUND {
                    service.$use_case().await;
                }
                begin.elapsed() / READS_PER_ROUND
            });
        };
    }
    for_each_use_case!(enter);
    let outcomes = contest.run(ROUNDS).await;

    let (metered, meter) = dynamo.metered_client();
    let service = Service::new(metered, orders);
    meter.read();
    let mut usages = Vec::new();
    macro_rules! weigh {
        ($name:literal, $use_case:ident) => {
            service.$use_case().await;
            usages.push(meter.read());
        };
    }
    for_each_use_case!(weigh);

    let row = |(outcome, usage): (&Outcome, &Usage)| {
        [
            outcome.name.to_owned(),
            orders.to_string(),
            usage.calls.to_string(),
            usage.read_units.to_string(),
            format!("{:.1}", usage.read_units / usages[0].read_units),
            ratio(outcome.ratio),
        ]
    };
    outcomes.iter().zip(&usages).map(row).collect()
}

async fn load(dynamo: &LocalDynamo, orders: usize) {
    let begin = Instant::now();
    let commits = orders::load(dynamo, orders, Load::EventsAndViews).await;
    let taken = begin.elapsed().as_secs_f64();
    let rate = f64::from(u32::try_from(orders).unwrap()) / taken;
    println!("loaded {orders} orders, {commits} commits, in {taken:.1} s: {rate:.0} orders/s");
}
