//! `GET /api/v1/orders/search`: staff find orders by any part of the id, the customer's e-mail address or a name.
//!
//! `?q=`, and `?page=` and `?page_size=` as in every list. 200, also for a page past the end; 400; 403 for customers.

use adapters::{
    app_config, aws,
    dynamodb::DynamoReadModel,
    http::{self, ApiRequest, OrderRow, PageLinks, Problem},
    lambda,
    limits::Limiter,
};
use application::{
    event_store::Unavailable,
    ports::{Index, OrderViews, ReadModel},
    search_orders::{FoundOrders, ROWS_MAX, search_orders},
};
use aws_sdk_dynamodb::Client;
use domain::{
    order_view::{CustomerView, OrderView},
    search::SearchQuery,
};
use lambda_http::{Body, Response};
use serde::Serialize;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let config = aws::config();
    let client = Client::new(&config);
    let limiter = Limiter::of_process(&client, app_config::settings_without_secrets(&config)?, "search-orders").await?;
    let model = DynamoReadModel::new(client, lambda::variable("ORDERS_TABLE")?, lambda::variable("INDEX_TABLE")?);
    http::run(&limiter, async |request| {
        let ReadModel { views, index, .. } = model.live().await.map_err(|error| Problem::unavailable(&error))?;
        handle(&index, &views, request).await
    })
    .await
}

async fn handle(index: &impl Index, views: &impl OrderViews, request: ApiRequest) -> Result<Response<Body>, Problem> {
    request.staff()?;
    let mut parameters = request.query(&["q", "page", "page_size"]);
    let query = parameters.required("q", SearchQuery::parse);
    let page = parameters.page(ROWS_MAX);
    let (query, (page, page_size)) = parameters.finish(query.zip(page))?;
    respond(&query, page, page_size, search_orders(index, views, &query, page, page_size).await)
}

fn respond(
    query: &SearchQuery,
    page: usize,
    page_size: usize,
    found: Result<FoundOrders, Unavailable>,
) -> Result<Response<Body>, Problem> {
    let found = found.map_err(|error| Problem::unavailable(&error))?;
    let has_next = found.more && page.saturating_add(1).saturating_mul(page_size) <= ROWS_MAX;
    let body = SearchBody {
        query: query.as_str(),
        orders: found.orders.iter().map(FoundRow::from).collect(),
        page,
        page_size,
        total_count: found.total_count,
        total_pages: found.total_count.div_ceil(page_size),
        total_is_exact: found.total_is_exact,
        links: PageLinks::new("/api/v1/orders/search", &[("q", query.as_str())], (page, page_size), has_next),
    };
    http::json(200, &body)
}

#[derive(Serialize)]
struct SearchBody<'f> {
    query: &'f str,
    orders: Vec<FoundRow<'f>>,
    page: usize,
    page_size: usize,
    total_count: usize,
    total_pages: usize,
    total_is_exact: bool,
    #[serde(flatten)]
    links: PageLinks,
}

/// A row says also by which customer it was found.
#[derive(Serialize)]
struct FoundRow<'f> {
    #[serde(flatten)]
    order: OrderRow,
    customer: &'f CustomerView,
}

impl<'f> From<&'f OrderView> for FoundRow<'f> {
    fn from(order: &'f OrderView) -> Self {
        Self { order: order.into(), customer: &order.customer }
    }
}

#[cfg(test)]
mod tests {
    use adapters::samples::placed_order;
    use application::{
        memory::{MemoryIndex, MemoryOrderViews},
        page::PAGE_BYTES_MAX,
        project_orders::postings_of,
    };
    use chrono::{TimeDelta, Utc};
    use domain::ids::{CustomerId, OrderId};
    use serde_json::{Value, json};

    use super::*;

    const SAMPLE: &str = include_str!("../../../events/search-orders.json");

    /// The order that the sample event of `project-orders` creates, five times over, with names.
    async fn shop() -> (MemoryIndex, MemoryOrderViews) {
        let (index, views) = (MemoryIndex::default(), MemoryOrderViews::default());
        let created = placed_order().events[0].read().unwrap();
        for number in 0..5_u8 {
            let id = OrderId::derive("customer-1", &number.to_string());
            let mut view = OrderView::evolve(None, id, &created, 1, Utc::now()).unwrap();
            view.created_at = view.created_at.checked_add_signed(TimeDelta::seconds(number.into())).unwrap();
            views.list(&view).await.unwrap();
            views.save(&view, None).await.unwrap();
        }
        let customer = CustomerView {
            version: 1,
            last_name: Some("Wang & 王".to_owned()),
            ..CustomerView::unknown(CustomerId::stored("customer-1"))
        };
        views.save_customer(&customer).await.unwrap();
        index.add(&postings_of(&customer)).await.unwrap();
        (index, views)
    }

    async fn ask(query: &str) -> Result<Value, Problem> {
        let event = SAMPLE.replace("q=Wang&page=1&page_size=2", query);
        let (index, views) = shop().await;
        let answer = handle(&index, &views, ApiRequest::from_event(&event, Utc::now()).unwrap()).await?;
        assert_eq!(answer.status(), 200);
        Ok(serde_json::from_slice(answer.body()).unwrap())
    }

    async fn pointers(query: &str) -> Vec<String> {
        let problem = ask(query).await.unwrap_err();
        assert_eq!(problem.status, 400);
        problem.pointers().into_iter().map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn the_pages_lead_from_one_to_the_next_and_back() {
        let id = |number: u8| json!(OrderId::derive("customer-1", &number.to_string()));
        let mut body = ask("q=WANG+%26&page=1&page_size=2").await.unwrap();
        let first = body.clone();
        assert_eq!((&body["query"], &body["orders"][0]["id"]), (&json!("WANG &"), &id(4)));
        assert_eq!(
            (&body["total_count"], &body["total_pages"], &body["total_is_exact"]),
            (&json!(5), &json!(3), &json!(true))
        );
        assert_eq!(body["previous"], Value::Null);
        for (page, count) in [(2, 2), (3, 1)] {
            let next = body["next"].as_str().unwrap().to_owned();
            assert_eq!(next, format!("/api/v1/orders/search?q=WANG%20%26&page={page}&page_size=2"));
            body = ask(next.split_once('?').unwrap().1).await.unwrap();
            assert_eq!((&body["page"], body["orders"].as_array().unwrap().len()), (&json!(page), count));
        }
        assert_eq!((&body["orders"][0]["id"], &body["next"]), (&id(0), &Value::Null));
        for _ in 0..2 {
            body = ask(body["previous"].as_str().unwrap().split_once('?').unwrap().1).await.unwrap();
        }
        assert_eq!(body, first);
    }

    #[tokio::test]
    async fn a_row_shows_the_order_and_its_customer() {
        let body = ask("q=王").await.unwrap();
        let row = &body["orders"][0];
        assert_eq!(
            (&row["status"], &row["item_count"], &row["total_amount"]["amount"]),
            (&json!("created"), &json!(1), &json!(3998))
        );
        let customer = json!({"id": "customer-1", "version": 1, "first_name": null, "last_name": "Wang & 王", "email": null, "email_verified": false});
        assert_eq!(row["customer"], customer);
        assert_eq!((&body["page"], &body["page_size"]), (&json!(1), &json!(20)));
    }

    #[tokio::test]
    async fn the_largest_page_has_room_in_an_answer() {
        let (_, views) = shop().await;
        let mut view = views.load(OrderId::derive("customer-1", "0")).await.unwrap().unwrap();
        let longest = "\"".repeat(320);
        view.customer.id = serde_json::from_value(json!("\"".repeat(128))).unwrap();
        view.customer.first_name = Some(longest.clone());
        view.customer.last_name = Some(longest.clone());
        view.customer.email = Some(longest);
        let row = serde_json::to_vec(&FoundRow::from(&view)).unwrap();
        assert!(row.len() * 100 < PAGE_BYTES_MAX, "{}", row.len());
    }

    #[tokio::test]
    async fn a_page_past_the_end_is_empty() {
        let body = ask("q=Wang&page=9").await.unwrap();
        assert_eq!((&body["orders"], &body["total_count"], &body["next"]), (&json!([]), &json!(5), &Value::Null));
        let nobody = ask("q=Nobody").await.unwrap();
        assert_eq!((&nobody["total_count"], &nobody["total_pages"]), (&json!(0), &json!(0)));
    }

    #[tokio::test]
    async fn the_last_page_that_can_be_asked_for_leads_no_further() {
        let body = ask("q=Wang&page=1000&page_size=1").await.unwrap();
        assert_eq!((&body["orders"], &body["next"]), (&json!([]), &Value::Null));
        assert_eq!(pointers("q=Wang&page=1001&page_size=1").await, ["?page"]);
    }

    #[tokio::test]
    async fn what_cannot_be_searched_for_is_refused() {
        for bad in ["", "q=", "q=wa", "q=%20wa%20", "page=1"] {
            assert_eq!(pointers(bad).await, ["?q"], "{bad}");
        }
        let all = pointers("q=x&page=0&page_size=101&sort=newest").await;
        assert_eq!(all, ["?sort", "?q", "?page", "?page_size"]);
        assert_eq!(pointers("q=Wang&page=two&page_size=-1").await, ["?page", "?page_size"]);
    }

    #[tokio::test]
    async fn search_is_for_staff() {
        let (index, views) = shop().await;
        let customer = SAMPLE.replace("[staff]", "[]");
        let answer = handle(&index, &views, ApiRequest::from_event(&customer, Utc::now()).unwrap()).await;
        assert_eq!(answer.unwrap_err().status, 403);
    }

    #[tokio::test]
    async fn hostile_events_are_answered() {
        let (index, views) = shop().await;
        http::hostile::is_answered(SAMPLE, |request| handle(&index, &views, request), || ()).await;
    }
}
