//! `GET /api/v1/orders/{order_id}`: the order as its view has it.
//!
//! 200 with an `ETag`, 304 for `If-None-Match`, 404 also for somebody else's order. `?min_version=N` waits a little for
//! the view to have event N, then answers 503 with `Retry-After`.

use std::{sync::Arc, time::Duration};

use adapters::{
    aws,
    dynamodb::{DynamoCounters, DynamoReadModel},
    http::{self, ApiRequest, Problem},
    lambda,
    tally::Tally,
};
use application::ports::{Cache, OrderViews};
use aws_sdk_dynamodb::Client;
use domain::{order_view::OrderView, text::Invalid};
use lambda_http::{Body, Response};
use tokio::time::Instant;

/// How long `min_version` waits before its last read, and how long between two reads.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(100);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init_logs();
    let client = Client::new(&aws::config().await);
    let counters = DynamoCounters::new(client.clone(), lambda::variable("COUNTERS_TABLE")?, "get-order");
    let tally = Arc::<Tally>::default();
    let model = DynamoReadModel::new(client, lambda::variable("ORDERS_TABLE")?, lambda::variable("INDEX_TABLE")?)
        .with_tally(tally.clone());
    http::run(async |request| {
        // Boxed, as in `http::run`.
        let answer = Box::pin(async {
            let live = model.live().await.map_err(|error| Problem::unavailable(&error))?;
            handle(&live.views, live.generation, &tally, request).await
        });
        tally.beside(&counters, answer).await
    })
    .await
}

async fn handle(
    views: &impl OrderViews,
    generation: u32,
    tally: &Tally,
    request: ApiRequest,
) -> Result<Response<Body>, Problem> {
    let caller = request.caller()?;
    let min_version = min_version(&request)?;
    let id = request.order_id()?;
    // Whatever may not be seen is not there, and takes as long to be not there.
    let load = || async {
        let view = views.load(id).await.map_err(|error| Problem::unavailable(&error))?;
        Ok(view.filter(|view| caller.may_act_for(&view.customer.id)))
    };
    match wait_for(min_version, load).await? {
        Some(view) if view.version < min_version => Err(Problem::retry_later(format!(
            "the order is at version {}; version {min_version} is not there yet",
            view.version
        ))),
        Some(view) => respond(&view, generation, tally, request.header("if-none-match")),
        // The order may have been placed a moment ago: whoever knows a version of it is told to come back.
        None if min_version > 0 => Err(Problem::retry_later("the order is not there yet")),
        None => Err(Problem::not_found("order")),
    }
}

fn respond(
    view: &OrderView,
    generation: u32,
    tally: &Tally,
    if_none_match: Option<&str>,
) -> Result<Response<Body>, Problem> {
    // The customer changes without an event of the order, and what is shown of either changes with a rebuild.
    let etag = format!("\"{}-{}-{generation}\"", view.version, view.customer.version);
    let known = if_none_match
        .map(|tags| tags.split(',').map(str::trim).any(|tag| tag == "*" || tag.trim_start_matches("W/") == etag));
    // Without the header, the client has no copy that could be looked at.
    if let Some(known) = known {
        tally.look(Cache::Etag, known);
    }
    let answer = if known == Some(true) { not_modified()? } else { http::json(200, view)? };
    Ok(http::with_header(http::with_header(answer, "etag", &etag), "cache-control", "private, no-cache"))
}

fn not_modified() -> Result<Response<Body>, Problem> {
    Response::builder().status(304).body(Body::Empty).map_err(|error| Problem::internal(&error))
}

/// One read; more only while a wanted version is not there.
async fn wait_for<F>(min_version: u64, load: impl Fn() -> F) -> Result<Option<OrderView>, Problem>
where
    F: Future<Output = Result<Option<OrderView>, Problem>>,
{
    let started = Instant::now();
    loop {
        let view = load().await?;
        if view.as_ref().map_or(0, |view| view.version) >= min_version || started.elapsed() >= PATIENCE {
            return Ok(view);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn min_version(request: &ApiRequest) -> Result<u64, Problem> {
    let mut query = request.query(&["min_version"]);
    let version = query
        .optional("min_version", |text| text.parse().map_err(|_| Invalid::new("must be a whole number, not negative")));
    Ok(query.finish(version)?.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use adapters::{lambda::read_batch, tally::HAND_ON_AFTER};
    use application::{
        event_store::Commit,
        memory::{MemoryCounters, MemoryOrderViews},
        ports::{Counter, Counters},
    };
    use serde_json::{Value, json};

    use super::*;

    const SAMPLE: &str = include_str!("../../../events/get-order.json");

    /// The view of the order whose creation is the sample event of `project-orders`.
    async fn views() -> MemoryOrderViews {
        let batch = serde_json::from_str(include_str!("../../../events/project-orders.json")).unwrap();
        let (commits, _) = read_batch(batch);
        let commit: &Commit = &commits[0];
        let (version, event) = commit.numbered().next().unwrap();
        let id = commit.stream.order_id().unwrap();
        let view = OrderView::evolve(None, id, &event.read().unwrap(), version, commit.metadata.occurred_at).unwrap();
        let views = MemoryOrderViews::default();
        views.place(&view).await.unwrap();
        views
    }

    async fn send(change: impl FnOnce(&mut Value)) -> Result<Response<Body>, Problem> {
        send_counting(&Tally::default(), change).await
    }

    async fn send_counting(tally: &Tally, change: impl FnOnce(&mut Value)) -> Result<Response<Body>, Problem> {
        let mut event: Value = serde_json::from_str(SAMPLE).unwrap();
        change(&mut event);
        handle(&views().await, 7, tally, ApiRequest::from_event(&event.to_string(), chrono::Utc::now()).unwrap()).await
    }

    #[tokio::test]
    async fn the_sample_reads_the_order() {
        let answer = send(|_| {}).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers()["etag"].to_str().unwrap()), (200, "\"1-0-7\""));
        let body: Value = serde_json::from_slice(answer.body()).unwrap();
        assert_eq!(body["status"], "created");
        assert_eq!(body["total_amount"]["amount"], 3998);
    }

    #[tokio::test]
    async fn what_the_client_has_is_not_sent_again() {
        let answer = send(|event| event["headers"]["if-none-match"] = json!("\"1-0-6\", W/\"1-0-7\"")).await.unwrap();
        assert_eq!(answer.status(), 304);
        assert!(answer.body().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_copy_that_the_client_has_is_a_hit_or_a_miss() {
        let (tally, counters) = (Tally::default(), MemoryCounters::default());
        for tag in ["\"1-0-7\"", "\"0-0\"", "*"] {
            send_counting(&tally, |event| event["headers"]["if-none-match"] = json!(tag)).await.unwrap();
        }
        send_counting(&tally, |_| {}).await.unwrap();
        tokio::time::advance(HAND_ON_AFTER).await;
        tally.hand_on(&counters).await;
        let counts = [(Counter::Hits(Cache::Etag), 2), (Counter::Misses(Cache::Etag), 1)];
        assert_eq!(counters.read().await.unwrap(), counts.map(|(counter, count)| (counter.name(), count)).into());
    }

    #[tokio::test]
    async fn an_unknown_a_foreign_and_an_impossible_order_look_the_same() {
        let foreign = send(|event| event["requestContext"]["authorizer"]["jwt"]["claims"]["sub"] = json!("x")).await;
        let unknown = send(|event| event["pathParameters"]["order_id"] = json!(uuid::Uuid::nil())).await;
        let no_id = send(|event| event["pathParameters"]["order_id"] = json!("42")).await;
        assert_eq!(foreign.as_ref().unwrap_err().status, 404);
        assert_eq!(foreign.as_ref().unwrap_err(), unknown.as_ref().unwrap_err());
        assert_eq!(foreign.unwrap_err(), no_id.unwrap_err());
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_a_foreign_order_is_like_waiting_for_an_unknown_one() {
        let foreign = send(|event| {
            event["requestContext"]["authorizer"]["jwt"]["claims"]["sub"] = json!("x");
            event["rawQueryString"] = json!("min_version=1");
        });
        let unknown = send(|event| {
            event["pathParameters"]["order_id"] = json!(uuid::Uuid::nil());
            event["rawQueryString"] = json!("min_version=1");
        });
        assert_eq!(foreign.await.unwrap_err(), unknown.await.unwrap_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_version_that_does_not_come_is_a_503_after_a_bounded_wait() {
        let ask = |version: &str| {
            let query = json!(format!("min_version={version}"));
            move |event: &mut Value| event["rawQueryString"] = query
        };
        assert_eq!(send(ask("1")).await.unwrap().status(), 200);
        assert_eq!(send(ask("2")).await.unwrap_err().status, 503);
        assert_eq!(send(ask("soon")).await.unwrap_err().status, 400);
    }

    #[tokio::test]
    async fn hostile_events_are_answered() {
        let (views, tally) = (views().await, Tally::default());
        http::hostile::is_answered(SAMPLE, |request| handle(&views, 7, &tally, request), || ()).await;
    }
}
