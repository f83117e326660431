//! `GET /api/v1/orders`: staff see orders of all customers, of one status or of any, the newest first; with
//! `?status=needs_attention`, those that wait for a person.
//!
//! `?status=`, `?from=` and `?to=`, the last with the whole of the unit that it is given in, `?page_size=`; `next` leads on by `?after=`. The
//! times are those of coming to rest for `confirmed`, `cancelled` and `rejected`, and of placing for all else. With `?books=true`, each of those
//! that wait says whether its books agree with its providers', who are asked for it. 200, 400, 403 for customers.

use std::collections::BTreeMap;

use adapters::{
    app_config, aws, cloud_map,
    dynamodb::{DynamoEventStore, DynamoReadModel, bookkeepers},
    http::{self, ApiRequest, OrderRow, Problem, cursor, link},
    lambda,
    limits::Limiter,
};
use application::{
    event_store::Unavailable,
    ledger::{NotCompared, books_agree},
    list_orders::{OrderPage, OrdersWanted, list_orders},
    ports::{Index, OrderViews, Position, ReadModel},
};
use aws_sdk_dynamodb::Client;
use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    ids::OrderId,
    moment::Moment,
    order::OrderStatus,
    order_view::{AttentionView, CustomerView, OrderView},
    text::Invalid,
};
use lambda_http::{Body, Response};
use providers::{Bookkeepers, Registry};
use serde::Serialize;
use tracing::warn;

/// How many orders a page has at most whose providers are asked: as many as are answered for in time.
const BOOKS_PAGE_MAX: usize = 10;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let config = aws::config();
    let settings = app_config::settings(&config)?;
    let registry = Registry::new(cloud_map::of_process(&config)?);
    let client = Client::new(&config);
    let limiter = Limiter::of_process(&client, settings.clone(), "list-orders").await?;
    let model =
        DynamoReadModel::new(client.clone(), lambda::variable("ORDERS_TABLE")?, lambda::variable("INDEX_TABLE")?);
    let store = DynamoEventStore::new(client.clone(), lambda::variable("EVENTS_TABLE")?);
    let books = Bookkeepers::new(bookkeepers(&client)?, &settings, &registry);
    let (store, books) = (&store, &books);
    http::run(&limiter, async |request| {
        let ReadModel { views, index, .. } = model.live().await.map_err(|error| Problem::unavailable(&error))?;
        let compare = |ids: Vec<OrderId>| async move {
            let (payments, inventories, carriers) = books.now().await?;
            Ok::<_, Unavailable>(books_agree(store, &*payments, &*inventories, &*carriers, ids).await)
        };
        handle(&index, &views, compare, request).await
    })
    .await
}

/// `compare` says of these orders whether their books agree.
async fn handle<C>(
    index: &impl Index,
    views: &impl OrderViews,
    compare: impl FnOnce(Vec<OrderId>) -> C,
    request: ApiRequest,
) -> Result<Response<Body>, Problem>
where
    C: Future<Output = Result<Compared, Unavailable>>,
{
    request.staff()?;
    let asked = asked(&request)?;
    let page = list_orders(index, views, &asked.wanted(request.now), asked.page_size).await;
    let page = page.map_err(|error| Problem::unavailable(&error))?;
    let ids: Vec<OrderId> = page.orders.iter().map(|order| order.id).collect();
    let books = if asked.books { known(compare(ids).await) } else { BTreeMap::new() };
    respond(&asked, &page, &books)
}

type Compared = Vec<(OrderId, Result<bool, NotCompared>)>;

/// Whether the books agree, of the orders of which that is known. The list is as true without the others.
fn known(compared: Result<Compared, Unavailable>) -> BTreeMap<OrderId, bool> {
    let compared = compared.unwrap_or_else(|error| {
        warn!(error = lambda::chain(&error), "no books compared");
        Compared::new()
    });
    let known = compared.into_iter().filter_map(|(order_id, agree)| match agree {
        Ok(agree) => Some((order_id, agree)),
        Err(error) => {
            warn!(%order_id, error = lambda::chain(&error), "the order's books are not compared");
            None
        }
    });
    known.collect()
}

/// What is asked for.
struct Asked {
    status: Option<OrderStatus>,
    from: Option<Moment>,
    to: Option<Moment>,
    page_size: usize,
    after: Option<Position>,
    /// Whether each order is to say if its books agree.
    books: bool,
}

fn asked(request: &ApiRequest) -> Result<Asked, Problem> {
    let mut query = request.query(&["status", "from", "to", "page_size", "after", "books"]);
    let status = query.status();
    let (from, to) = (query.optional("from", Moment::parse), query.optional("to", Moment::parse));
    let books = query.optional("books", yes_or_no).map(Option::unwrap_or_default);
    let page_size = if books == Some(true) { query.page_size_up_to(BOOKS_PAGE_MAX) } else { query.page_size() };
    let after = query.after();
    if books == Some(true) && status.is_some_and(|status| status != Some(OrderStatus::NeedsAttention)) {
        query.wrong("books", "can be asked for with status=needs_attention only");
    }
    if let (Some(Some(from)), Some(Some(to))) = (from, to)
        && from.first() >= to.after()
    {
        query.wrong("to", "must not be earlier than from");
    }
    let read = status.zip(from.zip(to)).zip(page_size.zip(after)).zip(books);
    let (((status, (from, to)), (page_size, after)), books) = query.finish(read)?;
    Ok(Asked { status, from, to, page_size, after, books })
}

fn yes_or_no(text: &str) -> Result<bool, Invalid> {
    text.parse().map_err(|_| Invalid::new("must be true or false"))
}

impl Asked {
    fn wanted(&self, now: DateTime<Utc>) -> OrdersWanted {
        // Others' clocks may be ahead of this one's.
        let tomorrow = now.checked_add_signed(TimeDelta::days(1)).unwrap_or(now);
        OrdersWanted {
            status: self.status,
            from: self.from.map_or(DateTime::UNIX_EPOCH, Moment::first),
            to: self.to.map_or(tomorrow, |to| to.in_millis().after()),
            after: self.after.clone(),
        }
    }

    /// The link to the page that begins after this position.
    fn next(&self, end: &Position) -> String {
        let text = |moment: Option<Moment>| moment.map(|moment| moment.to_string());
        let all = [
            ("status", self.status.map(|status| status.name().to_owned())),
            ("from", text(self.from)),
            ("to", text(self.to)),
            ("page_size", Some(self.page_size.to_string())),
            ("books", self.books.then(|| "true".to_owned())),
            ("after", Some(cursor(end))),
        ];
        let given: Vec<(&str, &str)> =
            all.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
        link("/api/v1/orders", &given)
    }
}

fn respond(
    asked: &Asked,
    OrderPage { orders, next }: &OrderPage,
    books: &BTreeMap<OrderId, bool>,
) -> Result<Response<Body>, Problem> {
    let rows = orders.iter().map(|order| ListedRow::new(order, books.get(&order.id).copied()));
    let body = ListBody { orders: rows.collect(), next: next.as_ref().map(|end| asked.next(end)) };
    http::json(200, &body)
}

#[derive(Serialize)]
struct ListBody<'o> {
    orders: Vec<ListedRow<'o>>,
    next: Option<String>,
}

/// A row says also whose order it is, and what keeps it from going on.
#[derive(Serialize)]
struct ListedRow<'o> {
    #[serde(flatten)]
    order: OrderRow,
    customer: &'o CustomerView,
    attention: Option<&'o AttentionView>,
    /// When something last happened to it.
    updated_at: DateTime<Utc>,
    /// Nothing where nobody has asked, or a provider has not answered.
    books_agree: Option<bool>,
}

impl<'o> ListedRow<'o> {
    fn new(order: &'o OrderView, books_agree: Option<bool>) -> Self {
        let OrderView { customer, attention, updated_at, .. } = order;
        Self { order: order.into(), customer, attention: attention.as_ref(), updated_at: *updated_at, books_agree }
    }
}

#[cfg(test)]
mod tests {
    use adapters::samples::placed_order;
    use application::{
        event_store::{Commit, EventStore, RecordedEvent, StreamId},
        memory::{MemoryEventStore, MemoryIndex, MemoryInventory, MemoryOrderViews, MemoryPayments, MemoryShipping},
        page::PAGE_BYTES_MAX,
        ports::{ChargeRequest, Payments},
        project_orders::project,
    };
    use domain::{
        ids::PaymentMethod,
        order::{Attention, OrderEvent, RejectionReason},
    };
    use serde_json::{Value, json};

    use super::*;

    const SAMPLE: &str = include_str!("../../../events/list-orders.json");
    const SAMPLE_QUERY: &str = "status=needs_attention&page_size=2";

    #[derive(Default)]
    struct Shop {
        store: MemoryEventStore,
        model: ReadModel<MemoryOrderViews, MemoryIndex>,
        payments: MemoryPayments,
        inventory: MemoryInventory,
        shipping: MemoryShipping,
    }

    fn order(number: u8) -> OrderId {
        OrderId::derive("customer-1", &number.to_string())
    }

    impl Shop {
        /// The order that the sample event of `project-orders` creates, with this number, placed so many minutes after noon, and what
        /// happened to it half an hour later.
        async fn placed(&self, number: u8, then: Option<OrderEvent>) {
            let mut commit = placed_order();
            let noon: DateTime<Utc> = "2026-01-01T12:00:00Z".parse().unwrap();
            commit.stream = StreamId::order(order(number));
            commit.metadata.occurred_at = noon.checked_add_signed(TimeDelta::minutes(number.into())).unwrap();
            commit.events[0].data["created_at"] = json!(commit.metadata.occurred_at);
            let mut commits = vec![commit];
            if let Some(event) = then {
                let mut next =
                    Commit { version: 2, events: vec![RecordedEvent::record(&event).unwrap()], ..commits[0].clone() };
                next.metadata.occurred_at =
                    next.metadata.occurred_at.checked_add_signed(TimeDelta::minutes(30)).unwrap();
                commits.push(next);
            }
            for commit in &commits {
                self.store.append(commit).await.unwrap();
            }
            assert!(project(&self.store, &self.model, &commits).await.failed.is_empty());
        }

        async fn ask(&self, query: &str) -> Result<Value, Problem> {
            let event = SAMPLE.replace(SAMPLE_QUERY, query);
            let request = ApiRequest::from_event(&event, Utc::now()).unwrap();
            let answer = self.answer(request).await?;
            assert_eq!(answer.status(), 200);
            Ok(serde_json::from_slice(answer.body()).unwrap())
        }

        async fn answer(&self, request: ApiRequest) -> Result<Response<Body>, Problem> {
            let compare = |ids: Vec<OrderId>| async move {
                let compared = books_agree(&self.store, &self.payments, &self.inventory, &self.shipping, ids);
                Ok::<_, Unavailable>(compared.await)
            };
            handle(&self.model.index, &self.model.views, compare, request).await
        }

        /// The ids on all pages.
        async fn all(&self, query: &str) -> Vec<String> {
            let (mut query, mut ids) = (query.to_owned(), Vec::new());
            for _ in 0..100 {
                let page = self.ask(&query).await.unwrap();
                let orders = page["orders"].as_array().unwrap();
                ids.extend(orders.iter().map(|order| order["id"].as_str().unwrap().to_owned()));
                let Some(next) = page["next"].as_str() else { return ids };
                next.split_once('?').unwrap().1.clone_into(&mut query);
            }
            panic!("there is no end")
        }
    }

    fn stuck() -> OrderEvent {
        OrderEvent::OrderFlagged(Attention { step: "process-payment".to_owned(), reason: "Unavailable".to_owned() })
    }

    fn rejected() -> OrderEvent {
        OrderEvent::OrderRejected { reason: RejectionReason::Expired, notification_id: None }
    }

    fn ids(numbers: impl IntoIterator<Item = u8>) -> Vec<String> {
        numbers.into_iter().map(|number| order(number).to_string()).collect()
    }

    /// Twelve orders, of each four one under way, one stuck, one rejected and one that is just placed.
    async fn shop() -> Shop {
        let shop = Shop::default();
        for number in 0..12 {
            let then = match number % 4 {
                1 => Some(stuck()),
                2 => Some(rejected()),
                _ => None,
            };
            shop.placed(number, then).await;
        }
        shop
    }

    #[tokio::test]
    async fn the_pages_lead_from_the_newest_order_to_the_oldest() {
        let shop = shop().await;
        for size in [1, 2, 5, 100] {
            for (status, expected) in [
                ("", ids((0..12).rev())),
                ("status=needs_attention&", ids([9, 5, 1])),
                ("status=rejected&", ids([10, 6, 2])),
                ("status=created&", ids([11, 8, 7, 4, 3, 0])),
                ("status=confirmed&", ids([])),
                ("status=shipped&", ids([])),
            ] {
                assert_eq!(shop.all(&format!("{status}page_size={size}")).await, expected, "{status}");
            }
        }
    }

    #[tokio::test]
    async fn a_stuck_order_says_where_and_why() {
        let shop = shop().await;
        let body = shop.ask(SAMPLE_QUERY).await.unwrap();
        let row = &body["orders"][0];
        let attention = json!({"step": "process-payment", "reason": "Unavailable", "interrupted": "created"});
        assert_eq!((&row["attention"], &row["updated_at"]), (&attention, &json!("2026-01-01T12:39:00Z")));
        assert_eq!((&row["status"], &row["customer"]["id"]), (&json!("needs_attention"), &json!("customer-1")));
        let next = body["next"].as_str().unwrap();
        assert!(next.starts_with(&format!("/api/v1/orders?{SAMPLE_QUERY}&after=")), "{next}");
    }

    #[tokio::test]
    async fn the_window_is_of_coming_to_rest_for_what_rests_and_of_placing_for_all_else() {
        let shop = shop().await;
        let window = |from: &str, to: &str| format!("from=2026-01-01T12:{from}:00Z&to=2026-01-01T12:{to}:00Z");
        assert_eq!(shop.all(&window("03", "05")).await, ids([5, 4, 3]));
        assert_eq!(shop.all(&format!("status=needs_attention&{}", window("01", "06"))).await, ids([5, 1]));
        assert_eq!(shop.all(&format!("status=rejected&{}", window("00", "31"))).await, ids([]));
        assert_eq!(shop.all(&format!("status=rejected&{}", window("32", "36"))).await, ids([6, 2]));
        let body = shop.ask(&format!("page_size=1&{}", window("03", "05"))).await.unwrap();
        let next = body["next"].as_str().unwrap();
        assert!(
            next.contains("from=2026-01-01T12%3A03%3A00Z&to=2026-01-01T12%3A05%3A00Z&page_size=1&after="),
            "{next}"
        );
    }

    /// Of a hundred that were rejected, all but the oldest were something else when they were looked at.
    #[tokio::test]
    async fn where_most_are_something_else_by_now_the_pages_have_fewer_orders_and_lead_on() {
        let shop = Shop::default();
        for number in 0..50 {
            shop.placed(number, Some(rejected())).await;
            if number > 0 {
                let mut view = shop.model.views.load(order(number)).await.unwrap().unwrap();
                let replaces = view.clone();
                (view.status, view.version) = (OrderStatus::Cancelled, 3);
                shop.model.views.save(&view, Some(&replaces)).await.unwrap();
            }
        }
        let first = shop.ask("status=rejected&page_size=2").await.unwrap();
        assert_eq!((&first["orders"], first["next"].is_string()), (&json!([]), true));
        assert_eq!(shop.all("status=rejected&page_size=2").await, ids([0]));
    }

    #[tokio::test]
    async fn a_page_of_the_largest_rows_is_an_answer_that_lambda_can_give() {
        let view = {
            let shop = shop().await;
            let mut view = shop.model.views.load(order(1)).await.unwrap().unwrap();
            view.customer.first_name = Some("\"".repeat(100));
            view.customer.last_name = Some("\"".repeat(100));
            view.customer.email = Some("\"".repeat(254));
            view
        };
        let row = serde_json::to_vec(&ListedRow::new(&view, Some(false))).unwrap().len();
        assert!(row * 100 < PAGE_BYTES_MAX, "{row}");
    }

    #[tokio::test]
    async fn what_is_no_question_is_refused() {
        let shop = shop().await;
        let pointers = async |query: &str| {
            let problem = shop.ask(query).await.unwrap_err();
            assert_eq!(problem.status, 400);
            problem.pointers().into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        let all = "status=lost&from=yesterday&to=2026-01-01&page_size=101&after=x&order=1";
        assert_eq!(pointers(all).await, ["?order", "?status", "?from", "?to", "?page_size", "?after"]);
        assert_eq!(pointers("from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z").await, ["?to"]);
        assert_eq!(pointers("status=needs_attention&books=yes").await, ["?books"]);
        assert_eq!(pointers("status=needs_attention&books=true&page_size=11").await, ["?page_size"]);
        for status in ["", "status=rejected&"] {
            assert_eq!(pointers(&format!("{status}books=true")).await, ["?books"]);
        }
    }

    #[tokio::test]
    async fn stuck_orders_say_whether_their_books_agree_when_that_is_asked_for() {
        let shop = shop().await;
        let view = shop.model.views.load(order(5)).await.unwrap().unwrap();
        let charge = ChargeRequest {
            idempotency_key: view.id.work_id("process-payment"),
            order_id: view.id,
            customer_id: view.customer.id.clone(),
            payment_method: PaymentMethod::default(),
            amount: view.total_amount,
        };
        shop.payments.charge(&charge).await.unwrap();
        // Its events are not to be had, and so are not its books.
        shop.model.views.save(&OrderView { id: order(13), ..view }, None).await.unwrap();
        let told = async |query: &str| {
            let body = shop.ask(query).await.unwrap();
            let rows = body["orders"].as_array().unwrap().iter();
            let mut told: Vec<(String, Value)> =
                rows.map(|row| (row["id"].as_str().unwrap().to_owned(), row["books_agree"].clone())).collect();
            told.sort_by_key(|(id, _)| id.clone());
            (told, body["next"].clone())
        };
        let expected = |books: [Value; 4]| {
            let mut expected: Vec<_> = ids([1, 5, 9, 13]).into_iter().zip(books).collect();
            expected.sort_by_key(|(id, _)| id.clone());
            expected
        };
        let (compared, next) = told("status=needs_attention&books=true").await;
        assert_eq!((compared, next), (expected([json!(true), json!(false), json!(true), Value::Null]), Value::Null));
        for query in ["status=needs_attention", "status=needs_attention&books=false&page_size=11"] {
            assert_eq!(told(query).await.0, expected([const { Value::Null }; 4]), "{query}");
        }
        let (_, next) = told("status=needs_attention&books=true&page_size=3").await;
        assert!(next.as_str().unwrap().contains("&page_size=3&books=true&after="), "{next}");
    }

    #[test]
    fn without_any_answer_nothing_is_known() {
        let gone = Unavailable { what: "the configuration", source: "it is not there".into() };
        assert_eq!(known(Err(gone)), BTreeMap::new());
    }

    #[tokio::test]
    async fn the_list_is_for_staff() {
        let shop = Shop::default();
        let request = ApiRequest::from_event(&SAMPLE.replace("[staff]", "[]"), Utc::now()).unwrap();
        assert_eq!(shop.answer(request).await.unwrap_err().status, 403);
    }

    #[tokio::test]
    async fn hostile_events_are_answered() {
        let shop = shop().await;
        http::hostile::is_answered(SAMPLE, |request| shop.answer(request), || shop.store.count()).await;
    }
}
