//! `GET /health`: whether each component that the service depends on answers, and how fast.
//!
//! 200 when all do, 503 when one does not. No token needed, nothing internal told.

use std::{
    error::Error as StdError,
    time::{Duration, Instant},
};

use adapters::{
    aws,
    http::{self, ApiRequest, Open, Problem},
    lambda,
};
use aws_sdk_sqs::types::QueueAttributeName;
use chrono::{DateTime, Utc};
use lambda_http::{Body, Response};
use serde::Serialize;
use tokio::{task::JoinSet, time::timeout};
use tracing::{Instrument, warn};

/// A component that takes longer counts as down.
const PATIENCE: Duration = Duration::from_secs(3);

const TABLES: [(&str, &str); 10] = [
    ("event_store", "EVENTS_TABLE"),
    ("snapshots", "SNAPSHOTS_TABLE"),
    ("order_view", "ORDERS_TABLE"),
    ("index", "INDEX_TABLE"),
    ("counters", "COUNTERS_TABLE"),
    ("limits", "LIMITS_TABLE"),
    ("inventory", "INVENTORY_TABLE"),
    ("payments", "PAYMENTS_TABLE"),
    ("shipping", "SHIPMENTS_TABLE"),
    ("notifications", "NOTIFICATIONS_TABLE"),
];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let config = aws::config();
    let components = Components {
        dynamodb: aws_sdk_dynamodb::Client::new(&config),
        tables: TABLES
            .map(|(name, variable)| lambda::variable(variable).map(|table| (name, table)))
            .into_iter()
            .collect::<Result<_, _>>()?,
        events: aws_sdk_eventbridge::Client::new(&config),
        bus: lambda::variable("EVENT_BUS")?,
        sqs: aws_sdk_sqs::Client::new(&config),
        queue_url: lambda::variable("FULFILMENT_QUEUE_URL")?,
        sfn: aws_sdk_sfn::Client::new(&config),
        state_machines: [
            ("fulfilment", lambda::variable("FULFILMENT_ARN")?),
            ("fulfilment_express", lambda::variable("FULFILMENT_EXPRESS_ARN")?),
        ],
    };
    http::run(&Open, |request| handle(&components, request)).await
}

struct Components {
    dynamodb: aws_sdk_dynamodb::Client,
    tables: Vec<(&'static str, String)>,
    events: aws_sdk_eventbridge::Client,
    bus: String,
    sqs: aws_sdk_sqs::Client,
    queue_url: String,
    sfn: aws_sdk_sfn::Client,
    state_machines: [(&'static str, String); 2],
}

#[derive(Serialize)]
struct Health {
    status: Status,
    components: Vec<ComponentHealth>,
    timestamp: DateTime<Utc>,
}

#[derive(Serialize)]
struct ComponentHealth {
    name: &'static str,
    status: Status,
    response_time_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Up,
    Down,
}

async fn handle(components: &Components, request: ApiRequest) -> Result<Response<Body>, Problem> {
    respond(ask_all(components).await, request.now)
}

fn respond(components: Vec<ComponentHealth>, timestamp: DateTime<Utc>) -> Result<Response<Body>, Problem> {
    let all_up = components.iter().all(|component| component.status == Status::Up);
    let status = if all_up { Status::Up } else { Status::Down };
    let answer = http::json(if all_up { 200 } else { 503 }, &Health { status, components, timestamp })?;
    Ok(http::with_header(answer, "cache-control", "no-store"))
}

/// Asks every component at once, so that the slowest alone sets the time.
async fn ask_all(components: &Components) -> Vec<ComponentHealth> {
    let Components { dynamodb, tables, events, bus, sqs, queue_url, sfn, state_machines } = components;
    let mut asked = JoinSet::new();
    for (name, table) in tables {
        asked.spawn(ask(name, dynamodb.describe_table().table_name(table).send()).in_current_span());
    }
    asked.spawn(ask("event_bus", events.describe_event_bus().name(bus).send()).in_current_span());
    let queue = sqs.get_queue_attributes().queue_url(queue_url).attribute_names(QueueAttributeName::QueueArn);
    asked.spawn(ask("fulfilment_queue", queue.send()).in_current_span());
    for (name, arn) in state_machines {
        asked.spawn(ask(name, sfn.describe_state_machine().state_machine_arn(arn).send()).in_current_span());
    }
    let mut answers = asked.join_all().await;
    answers.sort_unstable_by_key(|component| component.name);
    answers
}

async fn ask<T, E: StdError>(name: &'static str, question: impl Future<Output = Result<T, E>>) -> ComponentHealth {
    let started = Instant::now();
    let status = match timeout(PATIENCE, question).await {
        Ok(Ok(_)) => Status::Up,
        Ok(Err(error)) => {
            warn!(component = name, error = lambda::chain(&error), "component is down");
            Status::Down
        }
        Err(_) => {
            warn!(component = name, "component did not answer in time");
            Status::Down
        }
    };
    let response_time_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    ComponentHealth { name, status, response_time_ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component(status: Status) -> ComponentHealth {
        ComponentHealth { name: "event_store", status, response_time_ms: 3 }
    }

    #[test]
    fn one_component_that_is_down_makes_a_503() {
        let up = respond(vec![component(Status::Up)], Utc::now()).unwrap();
        assert_eq!(up.status(), 200);
        let down = respond(vec![component(Status::Up), component(Status::Down)], Utc::now()).unwrap();
        assert_eq!(down.status(), 503);
        let body: serde_json::Value = serde_json::from_slice(down.body()).unwrap();
        assert_eq!((&body["status"], &body["components"][1]["status"]), (&"down".into(), &"down".into()));
    }

    #[test]
    fn the_sample_event_is_read() {
        let sample = include_str!("../../../events/health.json");
        assert_eq!(ApiRequest::from_event(sample, Utc::now()).unwrap().correlation_id, "sample-1");
    }

    #[tokio::test]
    async fn a_component_that_answers_with_an_error_is_down() {
        let error = async { Err::<(), _>(std::io::Error::other("no")) };
        assert_eq!(ask("event_bus", error).await.status, Status::Down);
        let silent = std::future::pending::<Result<(), std::io::Error>>();
        tokio::time::pause();
        assert_eq!(ask("event_bus", silent).await.status, Status::Down);
    }
}
