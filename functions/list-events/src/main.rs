//! `GET /api/v1/events`: staff see the events of one type in a window of time, whatever order they happened to.
//!
//! `?type=`, `?from=` and `?to=`, the last with the whole of the unit that it is given in, `?page_size=`; `next` leads on by `?after=`. 200, 400, 403 for customers.

use adapters::{
    app_config, aws,
    dynamodb::{DynamoEventStore, DynamoReadModel},
    http::{self, ApiRequest, Problem, cursor, link},
    lambda,
    limits::Limiter,
};
use application::{
    event_store::EventStore,
    event_stream::LoadError,
    list_events::{EventPage, EventsWanted, ListedEvent, WINDOW_MAX, list_events},
    ports::{Index, Position},
};
use aws_sdk_dynamodb::Client;
use domain::{customer::CustomerEvent, ids::OrderId, moment::Moment, order::OrderEvent, text::Invalid};
use lambda_http::{Body, Response};
use serde::Serialize;
use serde_json::json;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let config = aws::config();
    let client = Client::new(&config);
    let limiter = Limiter::of_process(&client, app_config::settings_without_secrets(&config)?, "list-events").await?;
    let store = DynamoEventStore::new(client.clone(), lambda::variable("EVENTS_TABLE")?);
    let model = DynamoReadModel::new(client, lambda::variable("ORDERS_TABLE")?, lambda::variable("INDEX_TABLE")?);
    http::run(&limiter, async |request| {
        let live = model.live().await.map_err(|error| Problem::unavailable(&error))?;
        handle(&live.index, &store, request).await
    })
    .await
}

async fn handle(index: &impl Index, store: &impl EventStore, request: ApiRequest) -> Result<Response<Body>, Problem> {
    request.staff()?;
    let asked = asked(&request)?;
    respond(&asked, list_events(index, store, &asked.wanted(), asked.page_size).await)
}

/// What is asked for.
struct Asked {
    event_type: String,
    from: Moment,
    to: Moment,
    page_size: usize,
    after: Option<Position>,
}

fn asked(request: &ApiRequest) -> Result<Asked, Problem> {
    let mut query = request.query(&["type", "from", "to", "page_size", "after"]);
    let event_type = query.required("type", event_type);
    let window = query.required("from", Moment::parse).zip(query.required("to", Moment::parse));
    let page_size = query.page_size();
    let after = query.after();
    if let Some((from, to)) = window {
        let length = to.first().signed_duration_since(from.first());
        if from.first() >= to.after() {
            query.wrong("to", "must not be earlier than from");
        } else if length > WINDOW_MAX {
            query.wrong("to", format!("must be at most {} days later than from", WINDOW_MAX.num_days()));
        }
    }
    let read = event_type.zip(window).zip(page_size.zip(after));
    let ((event_type, (from, to)), (page_size, after)) = query.finish(read)?;
    Ok(Asked { event_type, from, to, page_size, after })
}

impl Asked {
    fn wanted(&self) -> EventsWanted {
        let (from, to) = (self.from.first(), self.to.in_millis().after());
        EventsWanted { event_type: self.event_type.clone(), from, to, after: self.after.clone() }
    }

    /// The link to the page that begins after this position.
    fn next(&self, end: &Position) -> String {
        let (from, to, page_size) = (self.from.to_string(), self.to.to_string(), self.page_size.to_string());
        let after = cursor(end);
        let parameters = [
            ("type", self.event_type.as_str()),
            ("from", &from),
            ("to", &to),
            ("page_size", &page_size),
            ("after", &after),
        ];
        link("/api/v1/events", &parameters)
    }
}

fn event_type(text: &str) -> Result<String, Invalid> {
    let mut known = OrderEvent::TYPES.into_iter().chain(CustomerEvent::TYPES);
    if known.any(|known| known == text) {
        return Ok(text.to_owned());
    }
    let known: Vec<&str> = OrderEvent::TYPES.into_iter().chain(CustomerEvent::TYPES).collect();
    Err(Invalid::new(format!("must be one of {}", known.join(", "))))
}

fn respond(asked: &Asked, page: Result<EventPage, LoadError>) -> Result<Response<Body>, Problem> {
    let EventPage { events, next } = page.map_err(|error| Problem::not_loaded(&error))?;
    let (from, to) = (asked.from.to_string(), asked.to.to_string());
    let next = next.map(|end| asked.next(&end));
    let events: Vec<ToldEvent> = events.iter().map(ToldEvent::from).collect();
    http::json(200, &json!({"type": asked.event_type, "from": from, "to": to, "events": events, "next": next}))
}

/// As in the history of an order, and beside it what it happened to.
#[derive(Serialize)]
struct ToldEvent<'e> {
    stream: &'e str,
    order_id: Option<OrderId>,
    #[serde(flatten)]
    event: http::PastEventBody<'e>,
}

impl<'e> From<&'e ListedEvent> for ToldEvent<'e> {
    fn from(ListedEvent { stream, event }: &'e ListedEvent) -> Self {
        Self { stream: stream.as_str(), order_id: stream.order_id(), event: event.into() }
    }
}

#[cfg(test)]
mod tests {
    use adapters::samples::placed_order;
    use application::{
        event_store::StreamId,
        memory::{MemoryEventStore, MemoryIndex},
    };
    use chrono::{DateTime, TimeDelta, Utc};
    use domain::ids::OrderId;

    use serde_json::Value;

    use super::*;

    const SAMPLE: &str = include_str!("../../../events/list-events.json");
    const SAMPLE_QUERY: &str = "type=OrderCreated&from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z&page_size=2";

    /// The order that the sample event of `project-orders` creates, five times over, one each minute from the first on.
    async fn stored() -> (MemoryIndex, MemoryEventStore) {
        let (index, store) = (MemoryIndex::default(), MemoryEventStore::default());
        for number in 0..5_u8 {
            let mut commit = placed_order();
            commit.stream = StreamId::order(order(number));
            let noon: DateTime<Utc> = "2026-01-01T12:00:00Z".parse().unwrap();
            commit.metadata.occurred_at = noon.checked_add_signed(TimeDelta::minutes(number.into())).unwrap();
            store.append(&commit).await.unwrap();
            index.list(std::slice::from_ref(&commit)).await.unwrap();
        }
        (index, store)
    }

    fn order(number: u8) -> OrderId {
        OrderId::derive("customer-1", &number.to_string())
    }

    async fn ask(query: &str) -> Result<Value, Problem> {
        let event = SAMPLE.replace(SAMPLE_QUERY, query);
        let (index, store) = stored().await;
        let answer = handle(&index, &store, ApiRequest::from_event(&event, Utc::now()).unwrap()).await?;
        assert_eq!(answer.status(), 200);
        Ok(serde_json::from_slice(answer.body()).unwrap())
    }

    async fn pointers(query: &str) -> Vec<String> {
        let problem = ask(query).await.unwrap_err();
        assert_eq!(problem.status, 400);
        problem.pointers().into_iter().map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn the_pages_lead_from_the_newest_event_to_the_oldest() {
        let mut body = ask(SAMPLE_QUERY).await.unwrap();
        let mut told = Vec::new();
        for count in [2, 2, 1] {
            let events = body["events"].as_array().unwrap().clone();
            assert_eq!(events.len(), count);
            told.extend(events.iter().map(|event| event["order_id"].clone()));
            let Some(next) = body["next"].as_str().map(str::to_owned) else { break };
            assert!(next.starts_with(&format!("/api/v1/events?{}", SAMPLE_QUERY.replace(':', "%3A"))), "{next}");
            body = ask(next.split_once('?').unwrap().1).await.unwrap();
        }
        assert_eq!((told, &body["next"]), ((0..5).rev().map(|n| json!(order(n))).collect(), &Value::Null));
    }

    #[tokio::test]
    async fn an_event_is_told_as_in_its_orders_history() {
        let body = ask(SAMPLE_QUERY).await.unwrap();
        let event = &body["events"][0];
        assert_eq!((&event["type"], &event["version"]), (&json!("OrderCreated"), &json!(1)));
        assert_eq!(
            (&event["actor"], &event["data"]["customer_id"]),
            (&json!("customer:customer-1"), &json!("customer-1"))
        );
        assert_eq!(event["occurred_at"], "2026-01-01T12:04:00Z");
        assert_eq!(event["stream"], json!(format!("order#{}", order(4))));
        assert_eq!((&body["type"], &body["from"]), (&json!("OrderCreated"), &json!("2026-01-01T00:00:00Z")));
    }

    #[tokio::test]
    async fn the_window_has_its_first_moment_and_its_last() {
        let window = "type=OrderCreated&from=2026-01-01T12:01:00Z&to=2026-01-01T14:02:00%2B02:00";
        let body = ask(window).await.unwrap();
        let told: Vec<&Value> = body["events"].as_array().unwrap().iter().map(|event| &event["order_id"]).collect();
        assert_eq!(told, [&json!(order(2)), &json!(order(1))]);
        let others = ask(&window.replace("OrderCreated", "CustomerProfileUpdated")).await.unwrap();
        assert_eq!((&others["events"], &others["next"]), (&json!([]), &Value::Null));
    }

    #[tokio::test]
    async fn a_window_has_the_whole_of_the_unit_that_its_last_time_is_given_in() {
        let (index, store) = stored().await;
        let mut commit = store.all().remove(0);
        commit.stream = StreamId::order(order(9));
        commit.metadata.occurred_at = "2026-01-01T18:00:05.123456789Z".parse().unwrap();
        store.append(&commit).await.unwrap();
        index.list(std::slice::from_ref(&commit)).await.unwrap();
        let count = async |from: &str, to: &str| {
            let query = format!("type=OrderCreated&from=2026-01-01T18:00:{from}&to=2026-01-01T18:00:{to}");
            let event = SAMPLE.replace(SAMPLE_QUERY, &query);
            let answer = handle(&index, &store, ApiRequest::from_event(&event, Utc::now()).unwrap()).await.unwrap();
            let body: Value = serde_json::from_slice(answer.body()).unwrap();
            body["events"].as_array().unwrap().len()
        };
        for time in ["05Z", "05.1Z", "05.123Z", "05.123456Z", "05.123456789Z"] {
            assert_eq!((count("00Z", time).await, count(time, "09Z").await), (1, 1), "{time}");
            assert_eq!(count(time, time).await, 1, "{time}");
        }
        assert_eq!((count("00Z", "05.122Z").await, count("05.124Z", "09Z").await), (0, 0));
    }

    #[tokio::test]
    async fn a_link_keeps_the_times_as_they_were_given() {
        let window = "type=OrderCreated&from=2026-01-01T12:00:00.000Z&to=2026-01-01T12:03:00.000Z&page_size=1";
        let body = ask(window).await.unwrap();
        assert_eq!(
            (&body["from"], &body["to"]),
            (&json!("2026-01-01T12:00:00.000Z"), &json!("2026-01-01T12:03:00.000Z"))
        );
        let next = body["next"].as_str().unwrap();
        assert!(next.starts_with(&format!("/api/v1/events?{}&after=", window.replace(':', "%3A"))), "{next}");
    }

    /// What Lambda can answer: 6 MB, with the body as a JSON string in it.
    const ANSWER_BYTES_MAX: usize = 6_000_000;

    #[tokio::test]
    async fn a_page_of_the_largest_events_is_an_answer_that_lambda_can_give() {
        let (index, store) = (MemoryIndex::default(), MemoryEventStore::default());
        let mut commit = stored().await.1.all().remove(0);
        // A quote is two bytes in the event, and four in the body that stands in Lambda's answer.
        commit.events[0].data["shipping_address"]["street"] = json!("\"".repeat(200_000));
        for number in 0..100 {
            commit.stream = StreamId::order(order(number));
            store.append(&commit).await.unwrap();
            index.list(std::slice::from_ref(&commit)).await.unwrap();
        }
        let mut query = SAMPLE_QUERY.replace("page_size=2", "page_size=100");
        let mut told = std::collections::BTreeSet::new();
        let mut pages = 0;
        loop {
            let event = SAMPLE.replace(SAMPLE_QUERY, &query);
            let answer = handle(&index, &store, ApiRequest::from_event(&event, Utc::now()).unwrap()).await.unwrap();
            let body = std::str::from_utf8(answer.body()).unwrap();
            let bytes = serde_json::to_string(body).unwrap().len();
            assert!(bytes < ANSWER_BYTES_MAX, "{bytes}");
            let body: Value = serde_json::from_str(body).unwrap();
            let events = body["events"].as_array().unwrap();
            assert!(!events.is_empty() && pages < 100, "no end after {pages} pages");
            told.extend(events.iter().map(|event| event["order_id"].as_str().unwrap().to_owned()));
            pages += 1;
            let Some(next) = body["next"].as_str() else { break };
            query = next.split_once('?').unwrap().1.to_owned();
        }
        assert_eq!(told.len(), 100);
    }

    #[tokio::test]
    async fn what_is_no_question_is_refused() {
        assert_eq!(pointers("").await, ["?type", "?from", "?to"]);
        let all = "type=OrderTeleported&from=yesterday&to=2026-01-01&page_size=101&after=x&order=1";
        assert_eq!(pointers(all).await, ["?order", "?type", "?from", "?to", "?page_size", "?after"]);
        let window = |from: &str, to: &str| format!("type=OrderCreated&from={from}T00:00:00Z&to={to}T00:00:00Z");
        assert!(ask(&window("2026-01-01", "2026-02-01")).await.is_ok());
        for (from, to) in [("2026-01-02", "2026-01-01"), ("2026-01-01", "2026-02-02")] {
            assert_eq!(pointers(&window(from, to)).await, ["?to"], "{from} {to}");
        }
        for after in ["/", "1/", "x/y", "99999999999999999999/y", &format!("1/{}", "y".repeat(301))] {
            let query = format!("{}&after={after}", window("2026-01-01", "2026-01-02"));
            assert_eq!(pointers(&query).await, ["?after"], "{after}");
        }
        let unknown = ask("type=Nothing&from=x&to=y").await.unwrap_err().body("/", "c");
        let detail = unknown["errors"][0]["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("OrderCreated") && detail.contains("CustomerProfileUpdated"), "{detail}");
    }

    #[tokio::test]
    async fn the_audit_is_for_staff() {
        let (index, store) = stored().await;
        let customer = SAMPLE.replace("[staff]", "[]");
        let answer = handle(&index, &store, ApiRequest::from_event(&customer, Utc::now()).unwrap()).await;
        assert_eq!(answer.unwrap_err().status, 403);
    }

    #[tokio::test]
    async fn hostile_events_are_answered() {
        let (index, store) = stored().await;
        http::hostile::is_answered(SAMPLE, |request| handle(&index, &store, request), || store.count()).await;
    }
}
