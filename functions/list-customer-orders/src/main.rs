//! `GET /api/v1/orders/customer/{customer_id}`: a customer's orders, the newest first, page by page.
//!
//! `?page=` and `?page_size=` as in every list, `?status=` for the orders of one status. 200, also for a page past the end;
//! 400; 404 for somebody else.

use std::collections::BTreeMap;

use adapters::{
    app_config, aws,
    dynamodb::DynamoReadModel,
    http::{self, ApiRequest, OrderRow, PageLinks, Problem, customer_path},
    lambda,
    limits::Limiter,
};
use application::{
    event_store::Unavailable,
    ports::{CustomerOrders, OrderViews},
};
use aws_sdk_dynamodb::Client;
use domain::{
    ids::{CustomerId, OrderId},
    order::OrderStatus,
    order_view::OrderView,
};
use lambda_http::{Body, Response};
use serde::Serialize;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let config = aws::config();
    let client = Client::new(&config);
    let limiter =
        Limiter::of_process(&client, app_config::settings_without_secrets(&config)?, "list-customer-orders").await?;
    let model = DynamoReadModel::new(client, lambda::variable("ORDERS_TABLE")?, lambda::variable("INDEX_TABLE")?);
    http::run(&limiter, async |request| {
        let live = model.live().await.map_err(|error| Problem::unavailable(&error))?;
        handle(&live.views, request).await
    })
    .await
}

/// Which of a customer's orders are wanted.
struct Wanted {
    status: Option<OrderStatus>,
    page: usize,
    page_size: usize,
}

async fn handle(views: &impl OrderViews, request: ApiRequest) -> Result<Response<Body>, Problem> {
    let customer = request.customer_id()?;
    let wanted = wanted(&request)?;
    let listed = list(views, &customer, &wanted).await.map_err(|error| Problem::unavailable(&error))?;
    respond(&customer, &wanted, &listed)
}

fn wanted(request: &ApiRequest) -> Result<Wanted, Problem> {
    let mut query = request.query(&["page", "page_size", "status"]);
    let page = query.page(usize::MAX);
    let status = query.status();
    let (status, (page, page_size)) = query.finish(status.zip(page))?;
    Ok(Wanted { status, page, page_size })
}

/// The views of a page's orders, and how many orders there are in all.
struct Listed {
    orders: Vec<OrderView>,
    total: usize,
}

async fn list(views: &impl OrderViews, customer: &CustomerId, wanted: &Wanted) -> Result<Listed, Unavailable> {
    let skip = wanted.page.saturating_sub(1).saturating_mul(wanted.page_size);
    let CustomerOrders { orders, total } = match wanted.status {
        Some(status) => views.customer_orders_with_status(customer, status, skip, wanted.page_size).await?,
        None => views.customer_orders(customer, skip, wanted.page_size).await?,
    };
    let ids: Vec<OrderId> = orders.iter().map(|order| order.id).collect();
    let loaded = if ids.is_empty() { Vec::new() } else { views.load_many(&ids).await? };
    // The list may be a moment behind the views.
    let matching = loaded.into_iter().filter(|view| wanted.status.is_none_or(|status| view.status == status));
    let mut by_id: BTreeMap<OrderId, OrderView> = matching.map(|view| (view.id, view)).collect();
    Ok(Listed { orders: ids.iter().filter_map(|id| by_id.remove(id)).collect(), total })
}

fn respond(customer: &CustomerId, wanted: &Wanted, listed: &Listed) -> Result<Response<Body>, Problem> {
    let Wanted { status, page, page_size } = *wanted;
    let total_pages = listed.total.div_ceil(page_size);
    let path = format!("/api/v1/orders/customer/{}", customer_path(customer));
    let chosen: Vec<(&str, &str)> = status.map(|status| ("status", status.name())).into_iter().collect();
    let body = ListBody {
        customer_id: customer,
        orders: listed.orders.iter().map(OrderRow::from).collect(),
        page,
        page_size,
        total_count: listed.total,
        total_pages,
        links: PageLinks::new(&path, &chosen, (page, page_size), page < total_pages),
    };
    http::json(200, &body)
}

#[derive(Serialize)]
struct ListBody<'c> {
    customer_id: &'c CustomerId,
    orders: Vec<OrderRow>,
    page: usize,
    page_size: usize,
    total_count: usize,
    total_pages: usize,
    #[serde(flatten)]
    links: PageLinks,
}

#[cfg(test)]
mod tests {
    use adapters::samples::placed_order;
    use application::{memory::MemoryOrderViews, page::PAGE_BYTES_MAX};
    use chrono::{TimeDelta, Utc};
    use serde_json::{Value, json};

    use super::*;

    const SAMPLE: &str = include_str!("../../../events/list-customer-orders.json");

    /// The order that the sample event of `project-orders` creates, five times over, every second one cancelled.
    async fn shop() -> MemoryOrderViews {
        let views = MemoryOrderViews::default();
        let created = placed_order().events[0].read().unwrap();
        for number in 0..5_u8 {
            let mut view = OrderView::evolve(None, id(number), &created, 1, Utc::now()).unwrap();
            view.created_at = view.created_at.checked_add_signed(TimeDelta::seconds(number.into())).unwrap();
            if number % 2 == 0 {
                view.status = OrderStatus::Cancelled;
            }
            views.list(&view).await.unwrap();
            views.save(&view, None).await.unwrap();
        }
        views
    }

    fn id(number: u8) -> OrderId {
        OrderId::derive("customer-1", &number.to_string())
    }

    async fn send(event: &str) -> Result<Value, Problem> {
        let answer = handle(&shop().await, ApiRequest::from_event(event, Utc::now()).unwrap()).await?;
        assert_eq!(answer.status(), 200);
        Ok(serde_json::from_slice(answer.body()).unwrap())
    }

    async fn ask(query: &str) -> Result<Value, Problem> {
        send(&SAMPLE.replace("page=1&page_size=2", query)).await
    }

    fn ids(body: &Value) -> Vec<&Value> {
        body["orders"].as_array().unwrap().iter().map(|row| &row["id"]).collect()
    }

    #[tokio::test]
    async fn the_pages_lead_from_the_newest_order_to_the_oldest_and_back() {
        let mut body = ask("page=1&page_size=2").await.unwrap();
        let first = body.clone();
        assert_eq!(
            (&body["customer_id"], &body["total_count"], &body["total_pages"]),
            (&json!("customer-1"), &json!(5), &json!(3))
        );
        assert_eq!(ids(&body), [&json!(id(4)), &json!(id(3))]);
        let row = &body["orders"][0];
        assert_eq!(
            (&row["status"], &row["item_count"], &row["total_amount"]["amount"]),
            (&json!("cancelled"), &json!(1), &json!(3998))
        );
        assert_eq!(body["previous"], Value::Null);
        for count in [2, 1] {
            let next = body["next"].as_str().unwrap().to_owned();
            assert!(next.starts_with("/api/v1/orders/customer/customer-1?page="), "{next}");
            body = ask(next.split_once('?').unwrap().1).await.unwrap();
            assert_eq!(ids(&body).len(), count);
        }
        assert_eq!((ids(&body), &body["next"]), (vec![&json!(id(0))], &Value::Null));
        for _ in 0..2 {
            body = ask(body["previous"].as_str().unwrap().split_once('?').unwrap().1).await.unwrap();
        }
        assert_eq!(body, first);
    }

    #[tokio::test]
    async fn a_status_leaves_out_the_other_orders_and_stays_in_the_links() {
        let body = ask("status=cancelled&page_size=2").await.unwrap();
        assert_eq!((ids(&body), &body["total_count"]), (vec![&json!(id(4)), &json!(id(2))], &json!(3)));
        assert_eq!(body["next"], "/api/v1/orders/customer/customer-1?status=cancelled&page=2&page_size=2");
        assert_eq!(ask("status=paid").await.unwrap()["total_count"], 0);
    }

    #[tokio::test]
    async fn the_largest_page_has_room_in_an_answer() {
        let view = shop().await.load(id(0)).await.unwrap().unwrap();
        let row = serde_json::to_vec(&OrderRow::from(&view)).unwrap();
        // A row has no texts; its numbers have ten digits more at most.
        assert!((row.len() + 20) * 100 < PAGE_BYTES_MAX, "{}", row.len());
    }

    #[tokio::test]
    async fn a_page_past_the_end_is_empty() {
        for query in ["page=4&page_size=2", "page=18446744073709551615&page_size=100"] {
            let body = ask(query).await.unwrap();
            assert_eq!((&body["orders"], &body["total_count"], &body["next"]), (&json!([]), &json!(5), &Value::Null));
        }
    }

    #[tokio::test]
    async fn what_cannot_be_listed_is_refused_and_every_wrong_parameter_named() {
        let problem = ask("page=0&page_size=101&status=lost&sort=oldest").await.unwrap_err();
        let mut pointers = problem.pointers();
        pointers.sort_unstable();
        assert_eq!((problem.status, pointers), (400, vec!["?page", "?page_size", "?sort", "?status"]));
    }

    #[tokio::test]
    async fn somebody_else_is_unknown_and_staff_may_see_anyone() {
        let stranger = SAMPLE.replace("\"sub\": \"customer-1\"", "\"sub\": \"customer-2\"");
        assert_eq!(send(&stranger).await.unwrap_err().status, 404);
        let staff = stranger.replace("\"cognito:groups\": \"[]\"", "\"cognito:groups\": \"[staff]\"");
        assert_eq!(send(&staff).await.unwrap()["total_count"], 5);
    }

    #[tokio::test]
    async fn hostile_events_are_answered() {
        let views = shop().await;
        http::hostile::is_answered(SAMPLE, |request| handle(&views, request), || ()).await;
    }
}
