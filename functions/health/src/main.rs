//! `GET /health`: whether each component that the service depends on answers, and how fast; and which providers new orders get.
//!
//! 200 when all components do, 503 when one does not, or there are no settings, without which no order is placed. What is only degraded is
//! 200: orders are taken, and wait for a provider. No token needed, nothing internal told.

use std::{
    error::Error as StdError,
    sync::Arc,
    time::{Duration, Instant},
};

use adapters::{
    app_config, aws, cloud_map,
    http::{self, ApiRequest, Open, Problem},
    lambda,
};
use aws_sdk_sqs::types::QueueAttributeName;
use chrono::{DateTime, Utc};
use lambda_http::{Body, Response};
use serde::Serialize;
use settings::{Discovery, Kind, Live, NoSettings, Settings, Source, Transport};
use sha2::{Digest, Sha256};
use tokio::{task::JoinSet, time::timeout};
use tracing::{Instrument, warn};

/// A component that takes longer counts as down.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long one look for instances may take. Up to four follow one another.
const DISCOVERY_PATIENCE: Duration = Duration::from_millis(1_500);

const TABLES: [(&str, &str); 11] = [
    ("event_store", "EVENTS_TABLE"),
    ("snapshots", "SNAPSHOTS_TABLE"),
    ("order_view", "ORDERS_TABLE"),
    ("index", "INDEX_TABLE"),
    ("counters", "COUNTERS_TABLE"),
    ("limits", "LIMITS_TABLE"),
    ("dead_letters", "DEAD_LETTERS_TABLE"),
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
    let (live, discovery) = (app_config::settings_without_secrets(&config)?, cloud_map::of_process(&config)?);
    http::run(&Open, |request| handle(&components, &live, &discovery, request)).await
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
    providers: Vec<ProviderHealth>,
    configuration: Configuration,
    timestamp: DateTime<Utc>,
}

#[derive(Serialize)]
struct ComponentHealth {
    name: &'static str,
    status: Status,
    response_time_ms: u64,
}

/// The provider that new orders get. One of one's own is up if it is known where it is: nobody is called for this.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct ProviderHealth {
    port: &'static str,
    kind: Kind,
    status: Status,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Configuration {
    status: Status,
    /// The same wherever the same settings are in force; none while there are none.
    digest: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Up,
    /// Something is missing that orders can wait for.
    Degraded,
    Down,
}

async fn handle(
    components: &Components,
    live: &Live<impl Source>,
    discovery: &impl Discovery,
    request: ApiRequest,
) -> Result<Response<Body>, Problem> {
    let ((providers, configuration), components) = tokio::join!(ask_providers(live, discovery), ask_all(components));
    respond(components, providers, configuration, request.now)
}

fn respond(
    components: Vec<ComponentHealth>,
    providers: Vec<ProviderHealth>,
    configuration: Configuration,
    timestamp: DateTime<Utc>,
) -> Result<Response<Body>, Problem> {
    let is_up = |status: Status| status == Status::Up;
    let status = if !is_up(configuration.status) || !components.iter().all(|component| is_up(component.status)) {
        Status::Down
    } else if providers.iter().all(|provider| is_up(provider.status)) {
        Status::Up
    } else {
        Status::Degraded
    };
    let health = Health { status, components, providers, configuration, timestamp };
    http::json(if status == Status::Down { 503 } else { 200 }, &health)
}

async fn ask_providers(live: &Live<impl Source>, discovery: &impl Discovery) -> (Vec<ProviderHealth>, Configuration) {
    let settings: Result<Arc<Settings>, NoSettings> = live.current().await;
    let settings = match settings {
        Ok(settings) => settings,
        Err(error) => {
            warn!(error = lambda::chain(&error), "the configuration cannot be had");
            return (Vec::new(), Configuration { status: Status::Down, digest: None });
        }
    };
    let mut providers = Vec::with_capacity(4);
    for (port, settings::Provider { kind, service, .. }) in settings.providers.each() {
        let is_known = match kind.transport() {
            Some(transport) => is_known(&settings, discovery, service, transport).await,
            None => true,
        };
        let status = if is_known { Status::Up } else { Status::Down };
        providers.push(ProviderHealth { port, kind: *kind, status });
    }
    (providers, Configuration { status: Status::Up, digest: digest(&settings) })
}

/// Whether there is an instance of a service that is spoken to like that.
async fn is_known(settings: &Settings, discovery: &impl Discovery, service: &str, transport: Transport) -> bool {
    if !settings.addresses(service, transport).is_empty() {
        return true;
    }
    let Some(name) = settings.registered_as(service) else { return false };
    match timeout(DISCOVERY_PATIENCE, discovery.instances(name)).await {
        Ok(Ok(instances)) => instances.iter().any(|instance| instance.transport == transport),
        Ok(Err(error)) => {
            warn!(service, %error, "instances cannot be had");
            false
        }
        Err(_) => {
            warn!(service, "instances did not come in time");
            false
        }
    }
}

fn digest(settings: &Settings) -> Option<String> {
    let digest = Sha256::digest(serde_json::to_vec(settings).ok()?);
    Some(format!("{:016x}", u64::from_be_bytes(*digest.first_chunk()?)))
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
    use settings::{Address, Layers, Look};

    use super::*;

    fn component(status: Status) -> ComponentHealth {
        ComponentHealth { name: "event_store", status, response_time_ms: 3 }
    }

    fn provider(status: Status) -> ProviderHealth {
        ProviderHealth { port: "payments", kind: Kind::Sandbox, status }
    }

    fn answer(component_is: Status, provider_is: Status, configuration_is: Status) -> (u16, serde_json::Value) {
        let configuration = Configuration { status: configuration_is, digest: None };
        let answer = respond(vec![component(component_is)], vec![provider(provider_is)], configuration, Utc::now());
        let answer = answer.unwrap();
        (answer.status().as_u16(), serde_json::from_slice(answer.body()).unwrap())
    }

    #[test]
    fn one_component_that_is_down_makes_a_503_and_a_provider_only_degrades() {
        let (up, degraded, down) = (Status::Up, "degraded", Status::Down);
        for (of, status, told) in [
            ((up, up, up), 200, "up"),
            ((down, up, up), 503, "down"),
            ((up, down, up), 200, degraded),
            ((up, up, down), 503, "down"),
            ((down, down, down), 503, "down"),
        ] {
            let (answered, body) = answer(of.0, of.1, of.2);
            assert_eq!((answered, &body["status"]), (status, &told.into()), "{of:?}");
        }
    }

    /// A document of settings, and a registry that knows one service.
    struct Known(&'static str);

    impl Source for Known {
        async fn newer(&self) -> Result<Option<String>, Box<dyn StdError + Send + Sync>> {
            if self.0.is_empty() { Err("unreachable".into()) } else { Ok(Some(self.0.to_owned())) }
        }
    }

    impl Discovery for Known {
        fn instances<'a>(&'a self, service: &'a str) -> Look<'a> {
            let address = Address::parse("grpc://127.0.0.1:50051");
            Box::pin(async move { if service == "pay" { Ok(vec![address?]) } else { Err("unknown".into()) } })
        }
    }

    async fn told(document: &'static str) -> (Vec<ProviderHealth>, Configuration) {
        let live = Live::new(Layers::new("prod".to_owned(), []), Some(Known(document)));
        ask_providers(&live, &Known(document)).await
    }

    #[tokio::test]
    async fn a_provider_of_ones_own_is_up_if_it_is_known_where_it_is() {
        let document = r#"{"providers": {"payments": {"kind": "grpc", "service": "p"}, "shipping": {"kind": "rest", "service": "p"},
            "notifications": {"kind": "rest", "service": "n"}},
            "services": {"p": {"cloud_map": "pay"}, "n": ["http://127.0.0.1:1"]}}"#;
        let (providers, configuration) = told(document).await;
        let of = |port, kind, status| ProviderHealth { port, kind, status };
        let expected = [
            of("inventory", Kind::Sandbox, Status::Up),
            of("payments", Kind::Grpc, Status::Up),
            // The instance that is found speaks gRPC.
            of("shipping", Kind::Rest, Status::Down),
            of("notifications", Kind::Rest, Status::Up),
        ];
        assert_eq!(providers, expected);
        let digest = configuration.digest.unwrap();
        assert_eq!((configuration.status, digest.len()), (Status::Up, 16));
        assert_ne!(Some(digest), told("{}").await.1.digest);
    }

    #[tokio::test]
    async fn without_settings_nothing_is_known_of_providers() {
        assert_eq!(told("").await, (vec![], Configuration { status: Status::Down, digest: None }));
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
