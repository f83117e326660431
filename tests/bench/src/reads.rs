//! What each endpoint's reads consume, and whether that grows with the number of orders.

use std::time::Instant;

use adapters::dynamodb::{DynamoEventStore, DynamoInventory, Generation};
use application::{
    event_stream::CustomerStream,
    list_events::{EventsWanted, WINDOW_MAX, list_events},
    list_orders::{OrdersWanted, list_orders},
    order_history::{Until, order_history},
    past_commits::PastCommits,
    ports::{Catalogue, CustomerOrders, OrderViews, Position, Standing},
    search_orders::{FoundOrders, search_orders},
    shown_orders::with_customer,
    stats::{By, Stat, Window, get_stats},
};
use aws_sdk_dynamodb::{Client, types::AttributeValue};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    ids::{CustomerId, OrderId, ProductId},
    money::{Currency, Money},
    order::OrderStatus,
    product::Product,
    search::SearchQuery,
    text::Text,
};

use crate::{
    contest::{Contest, Outcome, print, ratio},
    database::{EVENTS, INVENTORY, LocalDynamo, ORDERS, Usage},
    orders::{self, GENERATION, Load, PastOrder},
};

const ROUNDS: usize = 15;
const READS_PER_ROUND: u32 = 4;

/// How many rows a page of a list has, when the request does not say.
const PAGE: usize = 20;

/// How many orders a small customer has.
const FEW: usize = 10;

/// The service's ports as an endpoint has them, and what it may be asked for.
struct Service {
    client: Client,
    store: DynamoEventStore,
    model: Generation,
    inventory: DynamoInventory,
    orders: usize,
    /// An order in the middle of all.
    order: PastOrder,
    small_customer: CustomerId,
    /// The small customer's.
    email: String,
}

impl Service {
    fn new(client: Client, orders: usize) -> Self {
        let (small_customer, email) = orders::customer_with(FEW, orders);
        Self {
            store: DynamoEventStore::new(client.clone(), EVENTS.to_owned()),
            model: orders::read_model(client.clone()),
            inventory: DynamoInventory::new(client.clone(), INVENTORY.to_owned()),
            client,
            orders,
            order: orders::order(orders / 2, orders),
            small_customer,
            email,
        }
    }

    // To measure another use case, write it here as one method that fails when it does not find what it should, and add it
    // to the list below.

    async fn bare_get(&self) {
        let key = AttributeValue::S(format!("{GENERATION}/order/{}", self.order.id));
        let get = self.client.get_item().table_name(ORDERS).key("key", key).consistent_read(true);
        assert!(get.send().await.unwrap().item.is_some());
    }

    async fn order_details(&self) {
        let view = self.model.views.load(self.order.id).await.unwrap().unwrap();
        let view = with_customer(&self.model.views, view).await.unwrap();
        assert_eq!(view.version, self.order.commits.last().unwrap().last_version());
        assert!(view.customer.email.is_some());
    }

    async fn order_events(&self) {
        let past = PastCommits::new(0);
        let (history, _) = order_history(&past, &self.store, self.order.id, Until::Now).await.unwrap();
        let history = history.unwrap();
        assert_eq!(history.events.len(), self.order.commits.len());
    }

    async fn customer_profile(&self) {
        let stream = CustomerStream::open(&self.store, orders::wholesaler()).await.unwrap();
        assert!(stream.customer().profile.is_some());
    }

    async fn small_customers_orders(&self) {
        let orders = self.model.views.customer_orders(&self.small_customer, 0, PAGE).await.unwrap();
        assert_eq!(orders.total, FEW);
        self.load_views(orders, FEW).await;
    }

    async fn first_of_wholesaler(&self) {
        self.page_of_wholesaler(0).await;
    }

    async fn last_of_wholesaler(&self) {
        self.page_of_wholesaler(orders::orders_of_wholesaler(self.orders) - PAGE).await;
    }

    async fn page_of_wholesaler(&self, skip: usize) {
        let orders = self.model.views.customer_orders(&orders::wholesaler(), skip, PAGE).await.unwrap();
        assert_eq!(orders.total, orders::orders_of_wholesaler(self.orders));
        self.load_views(orders, PAGE).await;
    }

    async fn confirmed_of_wholesaler(&self) {
        let (wholesaler, confirmed) = (orders::wholesaler(), OrderStatus::Confirmed);
        let views = &self.model.views;
        let orders = views.customer_orders_with_status(&wholesaler, confirmed, 0, PAGE).await.unwrap();
        assert!(orders.total > orders::orders_of_wholesaler(self.orders) / 2);
        self.load_views(orders, PAGE).await;
    }

    async fn load_views(&self, orders: CustomerOrders, expected: usize) {
        let ids: Vec<OrderId> = orders.orders.iter().map(|order| order.id).collect();
        let views = self.model.views.load_many(&ids).await.unwrap();
        assert_eq!(views.len(), expected);
    }

    async fn all_orders_first(&self) {
        self.list(None, None).await;
    }

    /// The page that begins with the orders that were placed before the one in the middle.
    async fn all_orders_middle(&self) {
        let placed_at = self.order.commits[0].metadata.occurred_at;
        self.list(None, Some(Position::start_of(placed_at))).await;
    }

    async fn confirmed_orders(&self) {
        self.list(Some(OrderStatus::Confirmed), None).await;
    }

    async fn orders_that_wait(&self) {
        self.list(Some(OrderStatus::NeedsAttention), None).await;
    }

    async fn list(&self, status: Option<OrderStatus>, after: Option<Position>) {
        let wanted = OrdersWanted { status, from: DateTime::UNIX_EPOCH, to: Utc::now(), after };
        let page = list_orders(&self.model.index, &self.model.views, &wanted, PAGE).await.unwrap();
        // Of a thousand orders, fewer than a page wait for a person.
        let is_whole = page.orders.len() == PAGE || page.next.is_none() && !page.orders.is_empty();
        assert!(is_whole, "{status:?}: {}", page.orders.len());
    }

    /// Three letters that are in everybody's address.
    async fn search_frequent_first(&self) {
        self.search("exa", 1, |found| found.orders.len() == PAGE && found.more).await;
    }

    async fn search_frequent_fifth(&self) {
        self.search("exa", 5, |found| found.orders.len() == PAGE && found.more).await;
    }

    async fn search_email(&self) {
        self.search(&self.email, 1, |found| found.orders.len() == FEW && found.total_is_exact).await;
    }

    async fn search_order_id(&self) {
        self.search(&self.order.id.to_string(), 1, |found| found.orders.len() == 1 && found.total_is_exact).await;
    }

    async fn search_part_of_id(&self) {
        let part: String = self.order.id.to_string().chars().skip(9).take(14).collect();
        self.search(&part, 1, |found| found.orders.len() == 1 && found.total_is_exact).await;
    }

    async fn search_chinese(&self) {
        self.search("王", 1, |found| found.orders.len() == PAGE && found.more).await;
    }

    async fn search_nothing(&self) {
        self.search("nobody", 1, |found| found.orders.is_empty() && found.total_is_exact).await;
    }

    /// Digits of which each three are in the ids of many orders, and all of them in none.
    async fn search_digits_in_vain(&self) {
        self.search("facadedc0", 1, |found| found.orders.is_empty() && found.total_is_exact).await;
    }

    async fn search(&self, query: &str, page: usize, is_right: impl Fn(&FoundOrders) -> bool) {
        let query = SearchQuery::parse(query).unwrap();
        let found = search_orders(&self.model.index, &self.model.views, &query, page, PAGE).await.unwrap();
        assert!(is_right(&found), "{query:?}: {found:?}");
    }

    async fn events_of_a_day(&self) {
        let first = orders::first_of_january();
        assert_eq!(self.events(first, first + TimeDelta::days(1)).await, PAGE);
    }

    async fn no_events_of_a_month(&self) {
        let first = orders::first_of_january();
        assert_eq!(self.events(first - WINDOW_MAX, first).await, 0);
    }

    async fn events(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> usize {
        let wanted = EventsWanted { event_type: "OrderCreated".to_owned(), from, to, after: None };
        list_events(&self.model.index, &self.store, &wanted, PAGE).await.unwrap().events.len()
    }

    /// The hours of the day on which the first orders were placed.
    async fn stats_of_a_day(&self) {
        assert!(self.placed(By::Hour, 1).await > 0);
    }

    async fn stats_of_a_year(&self) {
        let placed = self.orders.min(orders::placed_within(TimeDelta::days(366)));
        assert_eq!(self.placed(By::Day, 366).await, u64::try_from(placed).unwrap());
    }

    async fn placed(&self, by: By, days: i64) -> u64 {
        let first = orders::first_of_january();
        let periods =
            get_stats(&self.model.index, Window::new(by, first, first + TimeDelta::days(days))).await.unwrap();
        periods.iter().filter_map(|period| period.sums.get(&Stat::Placed)).map(|sum| sum.count).sum()
    }

    async fn products_first(&self) {
        self.products(None).await;
    }

    async fn products_middle(&self) {
        self.products(Some(product_id(products(self.orders) / 2))).await;
    }

    async fn products(&self, after: Option<ProductId>) {
        let page = self.inventory.list_products(after.as_ref(), PAGE).await.unwrap();
        assert_eq!(page.products.len(), PAGE);
    }

    async fn open_orders(&self) {
        let open = self.model.views.open_orders(Standing::UnderWay, Utc::now(), None, 100).await.unwrap();
        assert!(!open.ids.is_empty());
    }

    async fn count(&self) {
        let counts = self.model.views.count().await.unwrap();
        let orders = u64::try_from(self.orders).unwrap();
        // Of more than a thousand that are under way some stand for the others.
        assert!(counts.values().sum::<u64>().abs_diff(orders) < 10.max(orders / 10_000), "{counts:?}");
    }
}

/// A tenth as many as orders.
fn products(orders: usize) -> usize {
    orders / 10
}

fn product_id(number: usize) -> ProductId {
    ProductId::parse(&format!("product-{number:06}")).unwrap()
}

/// Calls `$with` with the name and the method of each use case; the first is the baseline.
macro_rules! for_each_use_case {
    ($with:ident) => {
        $with!("one GetItem of a view (baseline)", bare_get);
        $with!("order details", order_details);
        $with!("order's events", order_events);
        $with!("customer's profile", customer_profile);
        $with!("orders of a customer with 10", small_customers_orders);
        $with!("wholesaler's orders, first page", first_of_wholesaler);
        $with!("wholesaler's orders, last page", last_of_wholesaler);
        $with!("wholesaler's confirmed orders, first page", confirmed_of_wholesaler);
        $with!("all orders, first page", all_orders_first);
        $with!("all orders, a page in the middle", all_orders_middle);
        $with!("all confirmed orders, first page", confirmed_orders);
        $with!("all orders that wait for a person, first page", orders_that_wait);
        $with!("orders counted by the hour, one day", stats_of_a_day);
        $with!("orders counted by the day, a year", stats_of_a_year);
        $with!("all products, first page", products_first);
        $with!("all products, a page in the middle", products_middle);
        $with!("search: in every address, page 1", search_frequent_first);
        $with!("search: in every address, page 5", search_frequent_fifth);
        $with!("search: one Chinese character, page 1", search_chinese);
        $with!("search: an e-mail address", search_email);
        $with!("search: an order's id", search_order_id);
        $with!("search: a part of an order's id", search_part_of_id);
        $with!("search: a word that nobody has", search_nothing);
        $with!("search: nine digits that no id has", search_digits_in_vain);
        $with!("events of one type on one day", events_of_a_day);
        $with!("events of one type, 31 days without any", no_events_of_a_month);
        $with!("100 open orders, for reconcile", open_orders);
        $with!("how many orders have each status", count);
    };
}

pub(crate) async fn run(sizes: &[usize]) {
    let mut rows = Vec::new();
    for &orders in sizes {
        rows.extend(measure(orders).await);
    }
    // The sizes of one use case stand below each other, because what matters is how they differ.
    rows.sort_by_key(|(use_case, _)| *use_case);
    print(
        "reads: what an endpoint's use case consumes",
        ["", "orders", "calls", "read units", "time / baseline's"],
        &rows.into_iter().map(|(_, row)| row).collect::<Vec<_>>(),
    );
}

/// A row for each use case, with its place in the list.
async fn measure(orders: usize) -> Vec<(usize, [String; 5])> {
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
            ratio(outcome.ratio),
        ]
    };
    outcomes.iter().zip(&usages).map(row).enumerate().collect()
}

async fn load(dynamo: &LocalDynamo, orders: usize) {
    let begin = Instant::now();
    let commits = orders::load(dynamo, orders, Load::EventsAndReadModel).await;
    let taken = begin.elapsed().as_secs_f64();
    let rate = f64::from(u32::try_from(orders).unwrap()) / taken;
    println!("loaded {orders} orders, {commits} commits, in {taken:.1} s: {rate:.0} orders/s");
    let inventory = DynamoInventory::new(dynamo.loading_client(), INVENTORY.to_owned());
    let price = Money::new(1_999, Currency::parse("CNY").unwrap()).unwrap();
    for number in 0..products(orders) {
        let name = Text::parse("Tea").unwrap();
        inventory.put_product(&Product { id: product_id(number), name, price, stock: 5 }).await.unwrap();
    }
}
