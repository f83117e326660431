//! `GET /api/v1/orders/{order_id}/events`: staff see what has happened to an order, who did it, why and when, and the order
//! as it was then.
//!
//! `?at=` tells it up to a version or a time, the whole of the second or the part of it that is given; a long one page by
//! page, of which `next` leads on by `?after=`. 200, 400 for an `at` that is neither, 403 for customers, 404 also when there
//! was no such order yet.
//!
//! The events that it has read it keeps for the next time: they do not change.

use adapters::{
    app_config, aws,
    dynamodb::DynamoEventStore,
    http::{self, ApiRequest, Problem, link},
    lambda,
    limits::Limiter,
    tally::Tally,
};
use application::{
    event_store::EventStore,
    event_stream::LoadError,
    order_history::{OrderHistory, Until, order_history},
    past_commits::PastCommits,
    ports::Cache,
};
use aws_sdk_dynamodb::Client;
use domain::{ids::OrderId, moment::Moment, text::Invalid};
use lambda_http::{Body, Response};
use serde_json::json;

/// About five hundred orders. What it takes in memory is a few times as much at most, of the 256 MB that the function has.
const PAST_BYTES_MAX: usize = 8 * 1024 * 1024;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let ending = lambda::Ending::begin();
    let config = aws::config();
    let client = Client::new(&config);
    let limiter =
        Limiter::of_process(&client, app_config::settings_without_secrets(&config)?, "get-order-events").await?;
    let store = DynamoEventStore::new(client, lambda::variable("EVENTS_TABLE")?);
    let past = PastCommits::new(PAST_BYTES_MAX);
    limiter.hand_on_at_the_end(ending).await;
    http::run(&limiter, |request| handle(&store, &past, limiter.tally(), request)).await
}

async fn handle(
    store: &impl EventStore,
    past: &PastCommits,
    tally: &Tally,
    request: ApiRequest,
) -> Result<Response<Body>, Problem> {
    request.staff()?;
    let (until, after) = asked(&request)?;
    let id = request.order_id()?;
    let history = order_history(past, store, id, until).await;
    // What has happened up to now is always asked for.
    if let Ok((_, is_known)) = history
        && until != Until::Now
    {
        tally.look(Cache::Events, is_known);
    }
    respond(id, after, history.map(|(history, _)| history))
}

/// Up to where the history is told, and after which event this page of it begins.
fn asked(request: &ApiRequest) -> Result<(Until, u64), Problem> {
    let mut query = request.query(&["at", "after"]);
    let until = query.optional("at", |at| match at.parse::<u64>() {
        Ok(version @ 1..) => Ok(Until::Version(version)),
        _ => Moment::parse(at)
            .map(|moment| Until::Before(moment.after()))
            .map_err(|_| Invalid::new("must be a version from 1, or a time such as 2026-01-01T00:00:00Z")),
    });
    let after = query.optional("after", |after| {
        after.parse().map_err(|_| Invalid::new("must be as it came in the link to this page"))
    });
    let (until, after) = query.finish(until.zip(after))?;
    Ok((until.unwrap_or(Until::Now), after.unwrap_or(0)))
}

fn respond(
    id: OrderId,
    after: u64,
    history: Result<Option<OrderHistory>, LoadError>,
) -> Result<Response<Body>, Problem> {
    let history = history.map_err(|error| Problem::not_loaded(&error))?.ok_or_else(|| Problem::not_found("order"))?;
    let (events, end) = history.page_after(after);
    let events: Vec<http::PastEventBody> = events.iter().map(Into::into).collect();
    let order = &history.order;
    // The pages that follow tell the same history, whatever happens meanwhile.
    let next = end.map(|end| {
        let (at, after) = (order.version.to_string(), end.to_string());
        link(&format!("/api/v1/orders/{id}/events"), &[("at", &at), ("after", &after)])
    });
    let body = json!({"order_id": id, "version": order.version, "events": events, "next": next, "order": order});
    http::json(200, &body)
}

#[cfg(test)]
mod tests {
    use adapters::{samples::placed_order, tally::HAND_ON_AFTER};
    use application::{
        memory::{MemoryCounters, MemoryEventStore},
        ports::{Counter, Counters},
    };
    use chrono::{DateTime, Utc};
    use serde_json::Value;

    use super::*;

    const SAMPLE: &str = include_str!("../../../events/get-order-events.json");

    /// A store with the order that the sample event of `project-orders` creates, flagged two hours later.
    async fn store() -> MemoryEventStore {
        let placed = placed_order();
        let store = MemoryEventStore::default();
        store.append(&placed).await.unwrap();
        let mut flagged = placed;
        flagged.version = 2;
        flagged.events[0].event_type = "OrderFlagged".to_owned();
        flagged.events[0].data = json!({"step": "process-payment", "reason": "Unavailable"});
        let two_hours = chrono::TimeDelta::hours(2);
        flagged.metadata.occurred_at = flagged.metadata.occurred_at.checked_add_signed(two_hours).unwrap();
        flagged.metadata.actor = "service:flag-order".to_owned();
        store.append(&flagged).await.unwrap();
        store
    }

    async fn ask(store: &MemoryEventStore, at: &str) -> Result<Value, Problem> {
        let event = SAMPLE.replace("\"at=1\"", &format!("\"at={}\"", at.replace('+', "%2B")));
        send(store, &PastCommits::new(PAST_BYTES_MAX), &Tally::default(), &event).await
    }

    async fn send(store: &MemoryEventStore, past: &PastCommits, tally: &Tally, event: &str) -> Result<Value, Problem> {
        let answer = handle(store, past, tally, ApiRequest::from_event(event, Utc::now()).unwrap()).await?;
        Ok(serde_json::from_slice(answer.body()).unwrap())
    }

    #[tokio::test]
    async fn each_event_says_who_did_it_and_when() {
        let body = ask(&store().await, "2").await.unwrap();
        let [created, flagged] = body["events"].as_array().unwrap().as_slice() else { panic!("{body:#}") };
        assert_eq!((&created["type"], &created["actor"]), (&json!("OrderCreated"), &json!("customer:customer-1")));
        assert_eq!((&flagged["type"], &flagged["version"]), (&json!("OrderFlagged"), &json!(2)));
        assert_eq!((&body["version"], &body["order"]["status"]), (&json!(2), &json!("needs_attention")));
    }

    #[tokio::test]
    async fn an_event_is_told_in_the_newest_schema_of_its_type() {
        let store = store().await;
        let mut resumed = store.all()[1].clone();
        resumed.version = 3;
        resumed.events[0].event_type = "FulfilmentResumed".to_owned();
        resumed.events[0].data = json!({"reason": "the provider is back", "undo": false});
        store.append(&resumed).await.unwrap();
        let body = ask(&store, "3").await.unwrap();
        assert_eq!(
            body["events"][2]["data"],
            json!({"reason": "the provider is back", "undo": false, "refund": false})
        );
    }

    #[tokio::test]
    async fn the_order_is_told_as_it_was_at_a_version_or_a_time() {
        let store = store().await;
        let placed: DateTime<Utc> =
            ask(&store, "1").await.unwrap()["order"]["created_at"].as_str().unwrap().parse().unwrap();
        let hour = chrono::TimeDelta::hours(1);
        let (later, earlier) = (placed.checked_add_signed(hour).unwrap(), placed.checked_sub_signed(hour).unwrap());
        for at in ["1".to_owned(), placed.to_rfc3339(), later.to_rfc3339()] {
            let body = ask(&store, &at).await.unwrap();
            assert_eq!((&body["version"], &body["order"]["status"]), (&json!(1), &json!("created")), "{at}");
        }
        assert_eq!(ask(&store, "99").await.unwrap()["version"], 2);
        assert_eq!(ask(&store, &earlier.to_rfc3339()).await.unwrap_err().status, 404);
    }

    #[tokio::test]
    async fn the_orders_own_time_is_a_time_of_the_order_however_much_of_it_a_client_keeps() {
        let store = MemoryEventStore::default();
        let mut created = created_at("2026-01-01T00:00:05.123456789Z").await;
        store.append(&created).await.unwrap();
        for at in ["05Z", "05.1Z", "05.12Z", "05.123Z", "05.123456Z", "05.123456789Z", "05.123456789+00:00"] {
            let told = ask(&store, &format!("2026-01-01T00:00:{at}")).await.unwrap();
            assert_eq!(told["version"], 1, "{at}");
        }
        for at in ["04Z", "04.999999999Z", "05.0Z", "05.122Z", "05.123000Z", "05.123456788Z"] {
            let none = ask(&store, &format!("2026-01-01T00:00:{at}")).await;
            assert_eq!(none.unwrap_err().status, 404, "{at}");
        }
        // What comes in the next millisecond is not told.
        created.version = 2;
        created.metadata.command_id = uuid::Uuid::from_u128(2);
        created.metadata.occurred_at = "2026-01-01T00:00:05.124Z".parse().unwrap();
        store.append(&created).await.unwrap();
        assert_eq!(ask(&store, "2026-01-01T00:00:05.123Z").await.unwrap()["version"], 1);
    }

    /// The creation of the order, at this time.
    async fn created_at(at: &str) -> application::event_store::Commit {
        let mut created = store().await.all().remove(0);
        created.metadata.occurred_at = at.parse().unwrap();
        created
    }

    /// What Lambda can answer: 6 MB, with the body as a JSON string in it.
    const ANSWER_BYTES_MAX: usize = 6_000_000;

    #[tokio::test]
    async fn a_history_of_the_largest_events_is_told_in_answers_that_lambda_can_give() {
        let store = MemoryEventStore::default();
        let quotes = "\"".repeat(200_000);
        let mut commit = created_at("2026-01-01T00:00:00Z").await;
        commit.events[0].data["shipping_address"]["street"] = json!(quotes);
        store.append(&commit).await.unwrap();
        commit.events[0].event_type = "FulfilmentResumed".to_owned();
        commit.events[0].schema = 1;
        commit.events[0].data = json!({"reason": quotes, "undo": false});
        for version in 2..=100_u128 {
            commit.version = version.try_into().unwrap();
            commit.metadata.command_id = uuid::Uuid::from_u128(version);
            store.append(&commit).await.unwrap();
        }
        let past = PastCommits::new(PAST_BYTES_MAX);
        let mut event = SAMPLE.replace("\"at=1\"", "\"\"");
        let mut told = Vec::new();
        let mut pages = 0;
        loop {
            let request = ApiRequest::from_event(&event, Utc::now()).unwrap();
            let answer = handle(&store, &past, &Tally::default(), request).await.unwrap();
            let body = std::str::from_utf8(answer.body()).unwrap();
            let bytes = serde_json::to_string(body).unwrap().len();
            assert!(bytes < ANSWER_BYTES_MAX, "{bytes}");
            let body: Value = serde_json::from_str(body).unwrap();
            assert_eq!((&body["version"], &body["order"]["version"]), (&json!(100), &json!(100)));
            told.extend(body["events"].as_array().unwrap().iter().map(|event| event["version"].as_u64().unwrap()));
            pages += 1;
            assert!(pages < 100, "no end after {pages} pages");
            let Some(next) = body["next"].as_str() else { break };
            let (path, query) = next.split_once('?').unwrap();
            assert!(SAMPLE.contains(&format!("\"{path}\"")), "{path}");
            event = SAMPLE.replace("\"at=1\"", &format!("\"{query}\""));
            // What happens meanwhile is not of these pages.
            commit.version += 1;
            commit.metadata.command_id = uuid::Uuid::from_u128(commit.version.into());
            store.append(&commit).await.unwrap();
        }
        assert_eq!(told, (1..=100).collect::<Vec<u64>>());
    }

    #[tokio::test]
    async fn a_history_goes_on_after_an_event() {
        let store = store().await;
        let all = ask(&store, "2").await.unwrap();
        assert_eq!(all["next"], Value::Null);
        let rest = ask(&store, "2&after=1").await.unwrap();
        assert_eq!((&rest["events"], &rest["order"]), (&json!([all["events"][1]]), &all["order"]));
        assert_eq!(ask(&store, "2&after=2").await.unwrap()["events"], json!([]));
        assert_eq!(ask(&store, "2&after=x").await.unwrap_err().status, 400);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_read_once_is_told_without_a_read_and_to_staff_only() {
        let (store, past, tally) = (store().await, PastCommits::new(PAST_BYTES_MAX), Tally::default());
        let told = send(&store, &past, &tally, SAMPLE).await.unwrap();
        let empty = MemoryEventStore::default();
        assert_eq!(send(&empty, &past, &tally, SAMPLE).await.unwrap(), told);
        let customer = SAMPLE.replace("[staff]", "[]");
        assert_eq!(send(&empty, &past, &tally, &customer).await.unwrap_err().status, 403);

        let counters = MemoryCounters::default();
        tokio::time::advance(HAND_ON_AFTER).await;
        tally.hand_on(&counters).await;
        let counts = [(Counter::Hits(Cache::Events), 1), (Counter::Misses(Cache::Events), 1)];
        assert_eq!(counters.read().await.unwrap(), counts.map(|(counter, count)| (counter.name(), count)).into());
    }

    #[tokio::test]
    async fn what_has_happened_since_is_always_told() {
        let (all, past) = (store().await, PastCommits::new(PAST_BYTES_MAX));
        let (first, now) = (MemoryEventStore::default(), SAMPLE.replace("\"at=1\"", "\"\""));
        first.append(&all.all()[0]).await.unwrap();
        for (store, version) in [(&first, 1), (&all, 2)] {
            let told = send(store, &past, &Tally::default(), &now).await.unwrap();
            assert_eq!((&told["version"], told["events"].as_array().unwrap().len()), (&json!(version), version));
        }
    }

    #[tokio::test]
    async fn what_is_neither_a_version_nor_a_time_is_invalid() {
        let store = store().await;
        for bad in ["0", "-1", "yesterday", "2026-13-01T00:00:00Z", ""] {
            assert_eq!(ask(&store, bad).await.unwrap_err().status, 400, "{bad}");
        }
        let customer = SAMPLE.replace("[staff]", "[]");
        let answer = send(&store, &PastCommits::new(PAST_BYTES_MAX), &Tally::default(), &customer).await;
        assert_eq!(answer.unwrap_err().status, 403);
        assert_eq!(ask(&MemoryEventStore::default(), "1").await.unwrap_err().status, 404);
    }

    #[tokio::test]
    async fn hostile_events_are_answered() {
        let (store, past, tally) = (store().await, PastCommits::new(1_000_000), Tally::default());
        http::hostile::is_answered(SAMPLE, |request| handle(&store, &past, &tally, request), || store.count()).await;
    }
}
