//! `GET /api/v1/customers/{customer_id}`: a customer's profile.
//!
//! 200, 404 for somebody else, and while there is no profile. It reads the customer's own stream, so it shows every update
//! that was answered before.

use adapters::{
    app_config, aws,
    dynamodb::DynamoEventStore,
    http::{self, ApiRequest, Problem, ProfileBody},
    lambda,
    limits::Limiter,
};
use application::{event_store::EventStore, event_stream::CustomerStream};
use aws_sdk_dynamodb::Client;
use lambda_http::{Body, Response};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let config = aws::config();
    let client = Client::new(&config);
    let limiter = Limiter::of_process(&client, app_config::settings_without_secrets(&config)?, "get-customer").await?;
    let store = DynamoEventStore::new(client, lambda::variable("EVENTS_TABLE")?)
        .with_snapshots(lambda::variable("SNAPSHOTS_TABLE")?);
    http::run(&limiter, |request| handle(&store, request)).await
}

async fn handle(store: &impl EventStore, request: ApiRequest) -> Result<Response<Body>, Problem> {
    let id = request.customer_id()?;
    let stream = CustomerStream::open(store, id.clone()).await.map_err(|error| Problem::not_loaded(&error))?;
    let profile = stream.customer().profile.as_ref().ok_or_else(|| Problem::not_found("customer"))?;
    http::json(200, &ProfileBody { id: &id, profile, version: stream.version() })
}

#[cfg(test)]
mod tests {
    use application::{
        event_store::{Commit, Metadata, RecordedEvent, StreamId},
        memory::MemoryEventStore,
    };
    use serde_json::{Value, json};

    use super::*;

    const SAMPLE: &str = include_str!("../../../events/get-customer.json");

    async fn send(store: &MemoryEventStore, event: &str) -> Result<Response<Body>, Problem> {
        handle(store, ApiRequest::from_event(event, chrono::Utc::now()).unwrap()).await
    }

    /// A store in which the sample's customer has had these profiles.
    async fn with(first_names: &[&str]) -> MemoryEventStore {
        let store = MemoryEventStore::default();
        for (version, first_name) in (1..).zip(first_names) {
            let data = json!({"first_name": first_name, "last_name": "Wang", "email": "anna@example.com"});
            let metadata = Metadata {
                command_id: "00000000-0000-4000-8000-000000000000".parse().unwrap(),
                fingerprint: String::new(),
                actor: String::new(),
                correlation_id: String::new(),
                causation_id: String::new(),
                traceparent: None,
                occurred_at: chrono::Utc::now(),
            };
            let event_type = "CustomerProfileUpdated".to_owned();
            let stream = StreamId::new("customer#customer-1".to_owned());
            let events = vec![RecordedEvent { event_type, schema: 1, data }];
            store.append(&Commit { stream, version, events, metadata }).await.unwrap();
        }
        store
    }

    #[tokio::test]
    async fn a_customer_has_the_profile_that_was_stored_last() {
        assert_eq!(send(&MemoryEventStore::default(), SAMPLE).await.unwrap_err().status, 404);
        let store = with(&["Anna", "安娜"]).await;
        let oneself = SAMPLE.replace("\"customer_id\": \"customer-1\"", "\"customer_id\": \"me\"");
        assert_ne!(oneself, SAMPLE);
        for event in [SAMPLE, &oneself] {
            let answer = send(&store, event).await.unwrap();
            let body: Value = serde_json::from_slice(answer.body()).unwrap();
            assert_eq!(
                (&body["id"], &body["first_name"], &body["version"]),
                (&json!("customer-1"), &json!("安娜"), &json!(2))
            );
        }
        let stranger = SAMPLE.replace("\"sub\": \"customer-1\"", "\"sub\": \"customer-2\"");
        assert_eq!(send(&store, &stranger).await.unwrap_err().status, 404);
        // A subject that cannot stand in a path.
        let odd = SAMPLE.replace("\"sub\": \"customer-1\"", "\"sub\": \"a/b %\"");
        assert_eq!(
            send(&store, &odd.replace("\"customer_id\": \"customer-1\"", "\"customer_id\": \"me\""))
                .await
                .unwrap_err()
                .status,
            404
        );
    }

    #[tokio::test]
    async fn hostile_events_are_answered() {
        let store = with(&["Anna"]).await;
        http::hostile::is_answered(SAMPLE, |request| handle(&store, request), || store.count()).await;
    }
}
