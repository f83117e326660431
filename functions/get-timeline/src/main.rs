//! `GET /api/v1/orders/{order_id}/timeline`: what has happened to an order and what comes next, in words that can be read out.
//!
//! 200, the customer's own in other words than for staff, who also hear what a Standard execution is trying, if that is known; 404 also for
//! somebody else's order.

use adapters::{
    app_config, aws,
    dynamodb::DynamoEventStore,
    http::{self, ApiRequest, Problem},
    lambda,
    limits::Limiter,
    step_functions::StandardExecutions,
};
use application::{
    event_store::EventStore,
    order_history::{OrderHistory, Until, order_history},
    past_commits::PastCommits,
    ports::FulfilmentTries,
    timeline::{Reader, Timeline, timeline, tries},
};
use aws_sdk_dynamodb::Client;
use domain::{ids::OrderId, order::OrderStatus};
use lambda_http::{Body, Response};
use serde::Serialize;
use tracing::warn;

/// How much is kept of orders that were asked for, so that of one that is followed only what is new is read.
const PAST_BYTES_MAX: usize = 8 * 1024 * 1024;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let config = aws::config();
    let client = Client::new(&config);
    let limiter = Limiter::of_process(&client, app_config::settings_without_secrets(&config)?, "get-timeline").await?;
    let store = DynamoEventStore::new(client, lambda::variable("EVENTS_TABLE")?);
    let executions = StandardExecutions::new(
        aws_sdk_sfn::Client::new(&config),
        lambda::variable("FULFILMENT_ARN")?,
        &lambda::variable("PAUSES_IN_SECONDS")?,
    )?;
    let past = PastCommits::new(PAST_BYTES_MAX);
    http::run(&limiter, |request| handle(&store, &executions, &past, request)).await
}

async fn handle(
    store: &impl EventStore,
    fulfilment: &impl FulfilmentTries,
    past: &PastCommits,
    request: ApiRequest,
) -> Result<Response<Body>, Problem> {
    let caller = request.caller()?;
    request.query(&[]).finish(Some(()))?;
    let id = request.order_id()?;
    let (history, _) = order_history(past, store, id, Until::Now).await.map_err(|error| Problem::not_loaded(&error))?;
    let history = history
        .filter(|history| caller.may_act_for(&history.order.customer.id))
        .ok_or_else(|| Problem::not_found("order"))?;
    let (reader, tries) = if caller.staff.is_some() {
        let tries = tries(fulfilment, &history).await.unwrap_or_else(|error| {
            warn!(error = lambda::chain(&error), "what is being tried is not known");
            None
        });
        (Reader::Staff, tries)
    } else {
        (Reader::Customer, None)
    };
    respond(id, &history, timeline(&history, reader, tries))
}

fn respond(order_id: OrderId, history: &OrderHistory, timeline: Timeline) -> Result<Response<Body>, Problem> {
    let (status, version) = (history.order.status, history.order.version);
    http::json(200, &TimelineBody { order_id, status, version, timeline })
}

#[derive(Serialize)]
struct TimelineBody {
    order_id: OrderId,
    status: OrderStatus,
    version: u64,
    #[serde(flatten)]
    timeline: Timeline,
}

#[cfg(test)]
mod tests {
    use adapters::samples::placed_order;
    use application::{
        memory::{MemoryEventStore, MemoryFulfilment},
        ports::{Cause, DurableFulfilment, FulfilmentInput, Tries},
    };
    use chrono::{DateTime, Utc};
    use serde_json::{Value, json};

    use super::*;

    const SAMPLE: &str = include_str!("../../../events/get-timeline.json");

    /// A store with this order, which is stuck.
    async fn store() -> MemoryEventStore {
        let store = MemoryEventStore::default();
        store.append(&placed_order()).await.unwrap();
        let mut flagged = placed_order();
        flagged.version = 2;
        flagged.events[0].event_type = "OrderFlagged".to_owned();
        flagged.events[0].data = json!({"step": "process-payment", "reason": "Unavailable"});
        flagged.metadata.actor = "service:flag-order".to_owned();
        store.append(&flagged).await.unwrap();
        store
    }

    async fn ask_of(store: &MemoryEventStore, machine: &MemoryFulfilment, event: &str) -> Result<Value, Problem> {
        let past = PastCommits::new(PAST_BYTES_MAX);
        let answer = handle(store, machine, &past, ApiRequest::from_event(event, Utc::now()).unwrap()).await?;
        assert_eq!(answer.status(), 200);
        Ok(serde_json::from_slice(answer.body()).unwrap())
    }

    async fn ask(event: &str) -> Result<Value, Problem> {
        ask_of(&store().await, &MemoryFulfilment::default(), event).await
    }

    #[tokio::test]
    async fn the_customer_of_the_sample_is_told_that_somebody_looks_after_the_order() {
        let body = ask(SAMPLE).await.unwrap();
        assert_eq!((&body["status"], &body["version"]), (&json!("needs_attention"), &json!(2)));
        let entries = body["entries"].as_array().unwrap();
        assert_eq!((entries.len(), &entries[0]["who"]), (2, &json!("customer")));
        let next = json!({
            "what": "Somebody of ours is looking after the order.", "code": "look_after_order", "carrier": null, "step": null, "reason": null,
            "waits_for": "person", "by": null
        });
        assert_eq!(body["next"], next);
        assert!(!body.to_string().contains("process-payment"), "{body}");
    }

    #[tokio::test]
    async fn staff_are_told_which_step_was_given_up() {
        let body = ask(&staff()).await.unwrap();
        assert!(body["next"]["what"].as_str().unwrap().contains("process-payment"), "{body}");
    }

    fn staff() -> String {
        SAMPLE.replace(r#""username": "customer-1""#, r#""username": "staff-1", "cognito:groups": "[staff]""#)
    }

    #[tokio::test]
    async fn staff_are_told_what_is_being_tried_and_have_a_timeline_also_where_that_is_not_known() {
        let (store, machine, placed) = (MemoryEventStore::default(), MemoryFulfilment::default(), placed_order());
        store.append(&placed).await.unwrap();
        let cause = Cause {
            order_id: placed.stream.order_id().unwrap(),
            version: 1,
            event: &placed.events[0],
            correlation_id: "sample-1",
            traceparent: None,
        };
        let execution = FulfilmentInput::started_by(cause).unwrap().unwrap();
        let tries = Tries {
            step: "reserve-inventory".to_owned(),
            attempt: 2,
            attempts: 5,
            round: 1,
            rounds: 3,
            since: DateTime::UNIX_EPOCH,
            error: Some("Unavailable".to_owned()),
            next_by: None,
        };
        machine.has_come_to(&execution, tries);
        assert_eq!(ask_of(&store, &machine, &staff()).await.unwrap()["tries"], Value::Null);
        assert!(DurableFulfilment::start(&machine, &execution).await.unwrap());
        let body = ask_of(&store, &machine, &staff()).await.unwrap();
        assert_eq!((&body["tries"]["step"], &body["tries"]["attempt"]), (&json!("reserve-inventory"), &json!(2)));
        let customers = ask_of(&store, &machine, SAMPLE).await.unwrap();
        assert_eq!(customers["tries"], Value::Null);
        assert!(!customers.to_string().contains("Unavailable"), "{customers}");
        machine.set_down(true);
        let without = ask_of(&store, &machine, &staff()).await.unwrap();
        assert_eq!((&without["tries"], &without["entries"]), (&Value::Null, &body["entries"]));
    }

    #[tokio::test]
    async fn somebody_elses_order_is_not_there() {
        for stranger in
            [SAMPLE.replace(r#""sub": "customer-1""#, r#""sub": "customer-2""#), SAMPLE.replace("5c44", "5c45")]
        {
            assert_eq!(ask(&stranger).await.unwrap_err().status, 404);
        }
        assert_eq!(
            ask(&SAMPLE.replace(r#""rawQueryString": """#, r#""rawQueryString": "at=1""#)).await.unwrap_err().status,
            400
        );
    }

    #[tokio::test]
    async fn hostile_events_are_answered() {
        let (store, machine, past) = (store().await, MemoryFulfilment::default(), PastCommits::new(PAST_BYTES_MAX));
        let handle = |request| handle(&store, &machine, &past, request);
        http::hostile::is_answered(SAMPLE, handle, || store.count()).await;
    }
}
