//! `POST /api/v1/orders/{order_id}/fulfilment/resume` → `FulfilmentResumed`: staff let a stuck order go on.
//!
//! 202, or the same again for a repeated `Idempotency-Key`; 400 for invalid input, 403 for customers, 404, 409 when the
//! order is not stuck.

use adapters::{
    app_config, aws,
    dynamodb::DynamoEventStore,
    http::{self, ApiRequest, FieldErrors, Problem},
    lambda,
    limits::Limiter,
};
use application::{
    event_store::{EventStore, fingerprint},
    event_stream::{CommandError, Committed, OrderStream},
};
use aws_sdk_dynamodb::Client;
use deserr::Deserr;
use domain::{
    ids::OrderId,
    order::resume::{ResumeRejection, resume},
    text::{Invalid, Text},
};
use lambda_http::{Body, Response};
use serde_json::json;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let config = aws::config();
    let client = Client::new(&config);
    let limiter =
        Limiter::of_process(&client, app_config::settings_without_secrets(&config)?, "resume-fulfilment").await?;
    let store = DynamoEventStore::new(client, lambda::variable("EVENTS_TABLE")?)
        .with_snapshots(lambda::variable("SNAPSHOTS_TABLE")?);
    http::run(&limiter, |request| handle(&store, request)).await
}

async fn handle(store: &impl EventStore, request: ApiRequest) -> Result<Response<Body>, Problem> {
    let caller = request.staff()?;
    let ResumeFulfilmentBody { reason } = request.json()?;
    let id = request.order_id()?;
    let fingerprint = fingerprint(&reason).map_err(|error| Problem::internal(&error))?;
    let metadata = request.metadata(&caller, request.command_id(id, "resume-fulfilment", &caller)?, fingerprint);
    let mut stream = OrderStream::open(store, id).await.map_err(|error| Problem::not_loaded(&error))?;
    let outcome = stream.commit(&metadata, |order| resume(order, &reason)).await;
    respond(id, outcome)
}

fn respond(id: OrderId, outcome: Result<Committed, CommandError<ResumeRejection>>) -> Result<Response<Body>, Problem> {
    let committed = outcome.map_err(|error| {
        Problem::not_done(error, |rejection| match rejection {
            ResumeRejection::UnknownOrder => Problem::not_found("order"),
            ResumeRejection::NotStuck => {
                Problem::new(409, "not-stuck", "There is nothing to resume", rejection.to_string())
            }
        })
    })?;
    http::accepted(committed, &json!({"order_id": id, "status": "resumed", "version": committed.version}))
}

#[derive(Deserr)]
#[deserr(error = FieldErrors, deny_unknown_fields)]
struct ResumeFulfilmentBody {
    #[deserr(try_from(&String) = Text::parse -> Invalid)]
    reason: Text<500>,
}

#[cfg(test)]
mod tests {
    use adapters::samples::placed_order;
    use application::{fulfilment::attention::flag_order, memory::MemoryEventStore, ports::FulfilmentInput};
    use domain::order::Attention;

    use super::*;

    const SAMPLE: &str = include_str!("../../../events/resume-fulfilment.json");

    /// A store with the order that the sample event of `project-orders` creates.
    async fn store() -> MemoryEventStore {
        let store = MemoryEventStore::default();
        store.append(&placed_order()).await.unwrap();
        store
    }

    async fn flagged() -> MemoryEventStore {
        let store = store().await;
        let input: FulfilmentInput = serde_json::from_str(include_str!("../../../events/flag-order.json")).unwrap();
        let failed = Attention { step: "process-payment".to_owned(), reason: "Unavailable".to_owned() };
        flag_order(&store, &input, &failed, chrono::Utc::now()).await.unwrap();
        store
    }

    async fn send(store: &MemoryEventStore, event: &str) -> Result<Response<Body>, Problem> {
        handle(store, ApiRequest::from_event(event, chrono::Utc::now()).unwrap()).await
    }

    #[tokio::test]
    async fn a_stuck_order_goes_on_once_for_a_key_however_often_it_comes() {
        let store = flagged().await;
        for _ in 0..2 {
            assert_eq!(send(&store, SAMPLE).await.unwrap().status(), 202);
        }
        assert_eq!(store.all().len(), 3);
        let other = send(&store, &SAMPLE.replace("sample-key", "another-key")).await.unwrap_err();
        assert_eq!((other.status, other.kind), (409, "not-stuck"));
        let reused = send(&store, &SAMPLE.replace("the provider is back", "another reason")).await.unwrap_err();
        assert_eq!(reused.status, 422);
    }

    #[tokio::test]
    async fn a_retry_is_found_again_whatever_the_version() {
        let store = flagged().await;
        send(&store, SAMPLE).await.unwrap();
        let metadata = store.all().pop().unwrap().metadata;
        let known = (
            "40433d69-cb1a-5b6a-82f4-832d470b8a7e",
            "59c2198dd17f30752f863c9e181a58fe49c9c7618685046075560be8eb72babb",
        );
        assert_eq!((metadata.command_id.to_string().as_str(), metadata.fingerprint.as_str()), known);
    }

    #[tokio::test]
    async fn an_order_that_is_not_stuck_is_a_409_and_a_customer_a_403() {
        let store = store().await;
        assert_eq!(send(&store, SAMPLE).await.unwrap_err().status, 409);
        assert_eq!(send(&store, &SAMPLE.replace("[staff]", "[]")).await.unwrap_err().status, 403);
        assert_eq!(store.all().len(), 1);
    }

    #[tokio::test]
    async fn hostile_events_are_answered() {
        let store = flagged().await;
        http::hostile::is_answered(SAMPLE, |request| handle(&store, request), || store.count()).await;
    }
}
