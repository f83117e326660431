//! `GET /api/v1/orders/{order_id}`: the order as its view has it.
//!
//! 200 with an `ETag`, 304 for `If-None-Match`, 404 also for somebody else's order. `?min_version=N` waits a little for
//! the view to have event N, when the order has it, then answers 503 with `Retry-After`.

use std::time::Duration;

use adapters::{
    app_config, aws,
    dynamodb::{DynamoEventStore, DynamoReadModel},
    http::{self, ApiRequest, Problem},
    lambda,
    limits::Limiter,
    tally::Tally,
};
use application::{
    event_store::{Commit, EventStore, RecordedEvent, StreamId},
    event_stream::LoadError,
    ports::{Cache, OrderViews},
    shown_orders::with_customer,
};
use aws_sdk_dynamodb::Client;
use domain::{
    ids::{CustomerId, OrderId},
    order::OrderEvent,
    order_view::OrderView,
    text::Invalid,
};
use lambda_http::{Body, Response};

/// How long a view that is late is waited for before each time that it is read again: about as long as a projection takes.
const PAUSES_MS: [u64; 4] = [50, 100, 200, 400];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let ending = lambda::Ending::begin();
    let config = aws::config();
    let client = Client::new(&config);
    let limiter = Limiter::of_process(&client, app_config::settings_without_secrets(&config)?, "get-order").await?;
    let store = DynamoEventStore::new(client.clone(), lambda::variable("EVENTS_TABLE")?);
    let model = DynamoReadModel::new(client, lambda::variable("ORDERS_TABLE")?, lambda::variable("INDEX_TABLE")?)
        .with_tally(limiter.tally().clone());
    limiter.hand_on_at_the_end(ending).await;
    http::run(&limiter, async |request| {
        // Boxed, as in `http::run`.
        Box::pin(async {
            let live = model.live().await.map_err(|error| Problem::unavailable(&error))?;
            handle(&live.views, &store, live.generation, limiter.tally(), request).await
        })
        .await
    })
    .await
}

async fn handle(
    views: &impl OrderViews,
    store: &impl EventStore,
    generation: u32,
    tally: &Tally,
    request: ApiRequest,
) -> Result<Response<Body>, Problem> {
    let caller = request.caller()?;
    let min_version = min_version(&request)?;
    let id = request.order_id()?;
    // Whatever may not be seen is not there, and takes as many reads to be not there.
    let load = || async {
        let view = views.load(id).await.map_err(|error| Problem::unavailable(&error))?;
        Ok::<_, Problem>(view.filter(|view| caller.may_act_for(&view.customer.id)))
    };
    let shown = |view| async { with_customer(views, view).await.map_err(|error| Problem::unavailable(&error)) };
    let mut view = load().await?;
    if has(view.as_ref(), min_version) {
        let view = shown(view.ok_or_else(|| Problem::not_found("order"))?).await?;
        return respond(&view, generation, tally, request.header("if-none-match"));
    }
    // Only what the order's events have is worth waiting for.
    let events = newer_events(store, id, view.as_ref()).await.map_err(|error| Problem::not_loaded(&error))?;
    let Some((_, version)) = events.filter(|(customer, _)| caller.may_act_for(customer)) else {
        return Err(Problem::not_found("order"));
    };
    if version < min_version {
        return Err(later(version, min_version));
    }
    for pause in PAUSES_MS {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        view = load().await?;
        if let Some(view) = view.take_if(|view| view.version >= min_version) {
            return respond(&shown(view).await?, generation, tally, request.header("if-none-match"));
        }
    }
    Err(later(view.map_or(0, |view| view.version), min_version))
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
    Ok(http::with_header(answer, "etag", &etag))
}

fn not_modified() -> Result<Response<Body>, Problem> {
    Response::builder().status(304).body(Body::Empty).map_err(|error| Problem::internal(&error))
}

/// Whether the view needs no waiting for: without a version that is wanted, none ever does.
fn has(view: Option<&OrderView>, min_version: u64) -> bool {
    view.map_or(0, |view| view.version) >= min_version
}

/// Whose order this is, and the number of its last event: one read of what the view does not have. `None` when there is no
/// such order.
async fn newer_events(
    store: &impl EventStore,
    id: OrderId,
    view: Option<&OrderView>,
) -> Result<Option<(CustomerId, u64)>, LoadError> {
    let have = view.map_or(0, |view| view.version);
    let commits = store.read(&StreamId::order(id), have).await?;
    let version = commits.last().map_or(have, Commit::last_version);
    if let Some(view) = view {
        return Ok(Some((view.customer.id.clone(), version)));
    }
    let first = commits.first().and_then(|commit| commit.events.first());
    Ok(match first.map(RecordedEvent::read).transpose()? {
        Some(OrderEvent::OrderCreated(created)) => Some((created.customer_id, version)),
        Some(_) | None => None,
    })
}

fn later(version: u64, min_version: u64) -> Problem {
    Problem::retry_later(format!("the order is at version {version}; version {min_version} is not there yet"))
}

fn min_version(request: &ApiRequest) -> Result<u64, Problem> {
    let mut query = request.query(&["min_version"]);
    let version = query
        .optional("min_version", |text| text.parse().map_err(|_| Invalid::new("must be a whole number, not negative")));
    Ok(query.finish(version)?.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use adapters::{samples::placed_order, tally::HAND_ON_AFTER};
    use application::{
        memory::{MemoryCounters, MemoryEventStore, MemoryOrderViews},
        ports::{Counter, Counters},
    };
    use serde_json::{Value, json};
    use tokio::time::Instant;

    use super::*;

    const SAMPLE: &str = include_str!("../../../events/get-order.json");

    /// The order whose creation is the sample event of `project-orders`: its only commit, and its view.
    fn sample() -> (Commit, OrderView) {
        let commit = placed_order();
        let (version, event) = commit.numbered().next().unwrap();
        let id = commit.stream.order_id().unwrap();
        let view = OrderView::evolve(None, id, &event.read().unwrap(), version, commit.metadata.occurred_at).unwrap();
        (commit, view)
    }

    /// The event store with the sample order, and the order's view.
    async fn placed() -> (MemoryEventStore, MemoryOrderViews) {
        let (commit, view) = sample();
        let (store, views) = unprojected().await;
        views.save(&view, None).await.unwrap();
        assert_eq!(store.all(), [commit]);
        (store, views)
    }

    /// The same before it is projected.
    async fn unprojected() -> (MemoryEventStore, MemoryOrderViews) {
        let (store, views) = (MemoryEventStore::default(), MemoryOrderViews::default());
        store.append(&sample().0).await.unwrap();
        (store, views)
    }

    async fn send(change: impl FnOnce(&mut Value)) -> Result<Response<Body>, Problem> {
        send_counting(&Tally::default(), change).await
    }

    async fn send_counting(tally: &Tally, change: impl FnOnce(&mut Value)) -> Result<Response<Body>, Problem> {
        let (store, views) = placed().await;
        handle(&views, &store, 7, tally, request(change)).await
    }

    fn request(change: impl FnOnce(&mut Value)) -> ApiRequest {
        let mut event: Value = serde_json::from_str(SAMPLE).unwrap();
        change(&mut event);
        ApiRequest::from_event(&event.to_string(), chrono::Utc::now()).unwrap()
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
        let foreign = send(by_somebody_else).await;
        let unknown = send(|event| event["pathParameters"]["order_id"] = json!(uuid::Uuid::nil())).await;
        let no_id = send(|event| event["pathParameters"]["order_id"] = json!("42")).await;
        assert_eq!(foreign.as_ref().unwrap_err().status, 404);
        assert_eq!(foreign.as_ref().unwrap_err(), unknown.as_ref().unwrap_err());
        assert_eq!(foreign.unwrap_err(), no_id.unwrap_err());
    }

    fn wanting(version: &str) -> impl Fn(&mut Value) + use<> {
        let query = json!(format!("min_version={version}"));
        move |event| event["rawQueryString"] = query.clone()
    }

    fn by_somebody_else(event: &mut Value) {
        event["requestContext"]["authorizer"]["jwt"]["claims"]["sub"] = json!("x");
    }

    /// The answer's status, how often the view and the events were read for it, and how long it took.
    async fn cost(
        (store, views): &(MemoryEventStore, MemoryOrderViews),
        change: impl FnOnce(&mut Value),
    ) -> (u16, [u32; 2], Duration) {
        let reads = || [views.loads.load(Ordering::Relaxed), store.reads.load(Ordering::Relaxed)];
        let ([loads, events], started) = (reads(), Instant::now());
        let answer = handle(views, store, 7, &Tally::default(), request(change)).await;
        let status = answer.map_or_else(|problem| problem.status, |answer| answer.status().as_u16());
        (status, [reads()[0].abs_diff(loads), reads()[1].abs_diff(events)], started.elapsed())
    }

    const AT_ONCE: Duration = Duration::ZERO;

    #[tokio::test(start_paused = true)]
    async fn what_is_there_costs_one_read() {
        let placed = placed().await;
        for version in ["0", "1"] {
            assert_eq!(cost(&placed, wanting(version)).await, (200, [1, 0], AT_ONCE));
        }
        assert_eq!(cost(&placed, |_| {}).await, (200, [1, 0], AT_ONCE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_version_that_the_order_does_not_have_is_a_503_at_once() {
        for version in ["2", "999", "18446744073709551615"] {
            assert_eq!(cost(&placed().await, wanting(version)).await, (503, [1, 1], AT_ONCE), "{version}");
            assert_eq!(cost(&unprojected().await, wanting(version)).await, (503, [1, 1], AT_ONCE), "{version}");
        }
        let problem = send(wanting("9")).await.unwrap_err();
        assert_eq!(problem.body("/", "c")["detail"], "the order is at version 1; version 9 is not there yet");
        assert_eq!(send(wanting("soon")).await.unwrap_err().status, 400);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_an_unknown_order_or_for_somebody_elses() {
        let nothing = (MemoryEventStore::default(), MemoryOrderViews::default());
        for there in [placed().await, unprojected().await] {
            for version in ["1", "9"] {
                let foreign = |event: &mut Value| {
                    by_somebody_else(event);
                    wanting(version)(event);
                };
                assert_eq!(cost(&there, foreign).await, (404, [1, 1], AT_ONCE));
                assert_eq!(cost(&nothing, wanting(version)).await, (404, [1, 1], AT_ONCE));
                let unknown = handle(&nothing.1, &nothing.0, 7, &Tally::default(), request(wanting(version))).await;
                let foreign = handle(&there.1, &there.0, 7, &Tally::default(), request(foreign)).await;
                assert_eq!(foreign.unwrap_err(), unknown.unwrap_err());
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_view_that_is_late_is_waited_for() {
        let there = unprojected().await;
        let projection = async {
            tokio::time::sleep(Duration::from_millis(120)).await;
            there.1.save(&sample().1, None).await.unwrap();
        };
        let (cost, ()) = tokio::join!(cost(&there, wanting("1")), projection);
        assert_eq!(cost, (200, [3, 1], Duration::from_millis(150)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_view_that_does_not_come_is_a_503_after_a_bounded_wait() {
        let there = unprojected().await;
        assert_eq!(cost(&there, wanting("1")).await, (503, [5, 1], Duration::from_millis(750)));
        there.1.save(&sample().1, None).await.unwrap();
        let mut flagged = there.0.all().remove(0);
        flagged.version = 2;
        flagged.events[0].event_type = "OrderFlagged".to_owned();
        flagged.events[0].data = json!({"step": "process-payment", "reason": "Unavailable"});
        flagged.metadata.command_id = uuid::Uuid::from_u128(2);
        there.0.append(&flagged).await.unwrap();
        assert_eq!(cost(&there, wanting("2")).await, (503, [5, 1], Duration::from_millis(750)));
        assert_eq!(cost(&there, wanting("3")).await, (503, [1, 1], AT_ONCE));
    }

    #[tokio::test]
    async fn hostile_events_are_answered() {
        let ((store, views), tally) = (placed().await, Tally::default());
        http::hostile::is_answered(SAMPLE, |request| handle(&views, &store, 7, &tally, request), || ()).await;
    }
}
