//! `GET /api/v1/orders`: staff see orders of all customers, of one status or of any, the newest first; with
//! `?status=needs_attention`, those that wait for a person.
//!
//! `?status=`, `?from=` and `?to=`, the last with the whole of the unit that it is given in, `?page_size=`; `next` leads on by `?after=`. The
//! times are those of coming to rest for `confirmed`, `cancelled` and `rejected`, and of placing for all else. 200, 400, 403 for customers.

use adapters::{
    app_config, aws,
    dynamodb::DynamoReadModel,
    http::{self, ApiRequest, OrderRow, Problem, cursor, link},
    lambda,
    limits::Limiter,
};
use application::{
    event_store::Unavailable,
    list_orders::{OrderPage, OrdersWanted, list_orders},
    ports::{Index, OrderViews, Position, ReadModel},
};
use aws_sdk_dynamodb::Client;
use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    moment::Moment,
    order::OrderStatus,
    order_view::{AttentionView, CustomerView, OrderView},
};
use lambda_http::{Body, Response};
use serde::Serialize;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let config = aws::config();
    let client = Client::new(&config);
    let limiter = Limiter::of_process(&client, app_config::settings_without_secrets(&config)?, "list-orders").await?;
    let model = DynamoReadModel::new(client, lambda::variable("ORDERS_TABLE")?, lambda::variable("INDEX_TABLE")?);
    http::run(&limiter, async |request| {
        let ReadModel { views, index, .. } = model.live().await.map_err(|error| Problem::unavailable(&error))?;
        handle(&index, &views, request).await
    })
    .await
}

async fn handle(index: &impl Index, views: &impl OrderViews, request: ApiRequest) -> Result<Response<Body>, Problem> {
    request.staff()?;
    let asked = asked(&request)?;
    respond(&asked, list_orders(index, views, &asked.wanted(request.now), asked.page_size).await)
}

/// What is asked for.
struct Asked {
    status: Option<OrderStatus>,
    from: Option<Moment>,
    to: Option<Moment>,
    page_size: usize,
    after: Option<Position>,
}

fn asked(request: &ApiRequest) -> Result<Asked, Problem> {
    let mut query = request.query(&["status", "from", "to", "page_size", "after"]);
    let status = query.status();
    let (from, to) = (query.optional("from", Moment::parse), query.optional("to", Moment::parse));
    let (page_size, after) = (query.page_size(), query.after());
    if let (Some(Some(from)), Some(Some(to))) = (from, to)
        && from.first() >= to.after()
    {
        query.wrong("to", "must not be earlier than from");
    }
    let read = status.zip(from.zip(to)).zip(page_size.zip(after));
    let ((status, (from, to)), (page_size, after)) = query.finish(read)?;
    Ok(Asked { status, from, to, page_size, after })
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
            ("after", Some(cursor(end))),
        ];
        let given: Vec<(&str, &str)> =
            all.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
        link("/api/v1/orders", &given)
    }
}

fn respond(asked: &Asked, page: Result<OrderPage, Unavailable>) -> Result<Response<Body>, Problem> {
    let OrderPage { orders, next } = page.map_err(|error| Problem::unavailable(&error))?;
    let body =
        ListBody { orders: orders.iter().map(ListedRow::from).collect(), next: next.map(|end| asked.next(&end)) };
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
}

impl<'o> From<&'o OrderView> for ListedRow<'o> {
    fn from(order: &'o OrderView) -> Self {
        let OrderView { customer, attention, updated_at, .. } = order;
        Self { order: order.into(), customer, attention: attention.as_ref(), updated_at: *updated_at }
    }
}

#[cfg(test)]
mod tests {
    use adapters::lambda::read_batch;
    use application::{
        event_store::{Commit, EventStore, RecordedEvent, StreamId},
        memory::{MemoryEventStore, MemoryIndex, MemoryOrderViews},
        page::PAGE_BYTES_MAX,
        project_orders::project,
    };
    use domain::{
        ids::OrderId,
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
    }

    fn order(number: u8) -> OrderId {
        OrderId::derive("customer-1", &number.to_string())
    }

    impl Shop {
        /// The order that the sample event of `project-orders` creates, with this number, placed so many minutes after noon, and what
        /// happened to it half an hour later.
        async fn placed(&self, number: u8, then: Option<OrderEvent>) {
            let (commits, _) =
                read_batch(serde_json::from_str(include_str!("../../../events/project-orders.json")).unwrap());
            let mut commit = commits[0].clone();
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
            let answer = handle(&self.model.index, &self.model.views, request).await?;
            assert_eq!(answer.status(), 200);
            Ok(serde_json::from_slice(answer.body()).unwrap())
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
        let row = serde_json::to_vec(&ListedRow::from(&view)).unwrap().len();
        assert!(row * 100 < PAGE_BYTES_MAX, "{row}");
    }

    #[tokio::test]
    async fn what_is_no_question_is_refused() {
        let shop = shop().await;
        let pointers = async |query: &str| {
            let problem = shop.ask(query).await.unwrap_err();
            assert_eq!(problem.status, 400);
            let body = problem.body("/", "c");
            let errors = body["errors"].as_array().unwrap();
            errors.iter().map(|error| error["pointer"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let all = "status=lost&from=yesterday&to=2026-01-01&page_size=101&after=x&order=1";
        assert_eq!(pointers(all).await, ["?order", "?status", "?from", "?to", "?page_size", "?after"]);
        assert_eq!(pointers("from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z").await, ["?to"]);
    }

    #[tokio::test]
    async fn the_list_is_for_staff() {
        let shop = Shop::default();
        let request = ApiRequest::from_event(&SAMPLE.replace("[staff]", "[]"), Utc::now()).unwrap();
        assert_eq!(handle(&shop.model.index, &shop.model.views, request).await.unwrap_err().status, 403);
    }

    #[tokio::test]
    async fn hostile_events_are_answered() {
        let shop = shop().await;
        let handle = |request| handle(&shop.model.index, &shop.model.views, request);
        http::hostile::is_answered(SAMPLE, handle, || shop.store.count()).await;
    }
}
