//! `POST /api/v1/orders/{order_id}/fulfilment/skip` → `StepSkipped`: a supervisor lets a stuck order go on without a step, and
//! answers for it.
//!
//! 202, or the same again for a repeated `Idempotency-Key`; 400 for invalid input, also for a step that cannot be skipped,
//! 403 for all others, 404, 409 when the order is not stuck at that step, or the provider has done it, 503 while the
//! providers' books cannot be had.

use adapters::{
    app_config, aws, cloud_map,
    dynamodb::{DynamoEventStore, bookkeepers},
    http::{self, ApiRequest, FieldErrors, Problem},
    lambda,
    limits::Limiter,
};
use application::{
    event_store::{EventStore, fingerprint},
    event_stream::Committed,
    ledger::LedgerError,
    ports::{Inventory, Payments, Providers, Shipping},
    skip_step::{SkipError, skip_step},
};
use aws_sdk_dynamodb::Client;
use deserr::Deserr;
use domain::{
    ids::OrderId,
    order::{SkippableStep, skip::SkipRejection},
    text::{Invalid, Text},
};
use lambda_http::{Body, Response};
use providers::{Bookkeepers, Registry};
use serde::Serialize;
use serde_json::json;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let config = aws::config();
    let settings = app_config::settings(&config)?;
    let registry = Registry::new(cloud_map::of_process(&config)?);
    let client = Client::new(&config);
    let limiter = Limiter::of_process(&client, settings.clone(), "skip-step").await?;
    let store = DynamoEventStore::new(client.clone(), lambda::variable("EVENTS_TABLE")?)
        .with_snapshots(lambda::variable("SNAPSHOTS_TABLE")?);
    let books = Bookkeepers::new(bookkeepers(&client)?, &settings, &registry);
    http::run(&limiter, |request| async {
        let (payments, inventories, carriers) = books.now().await?;
        handle(&store, (&*payments, &*inventories, &*carriers), request).await
    })
    .await
}

async fn handle(
    store: &impl EventStore,
    providers: (
        &impl Providers<Provider: Payments>,
        &impl Providers<Provider: Inventory>,
        &impl Providers<Provider: Shipping>,
    ),
    request: ApiRequest,
) -> Result<Response<Body>, Problem> {
    let caller = request.supervisor()?;
    let body: SkipStepBody = request.json()?;
    let id = request.order_id()?;
    let fingerprint = fingerprint(&body).map_err(|error| Problem::internal(&error))?;
    let metadata = request.metadata(&caller, request.command_id(id, "skip-step", &caller)?, fingerprint);
    respond(id, skip_step(store, providers, id, &metadata, body.step, &body.reason).await)
}

fn respond(id: OrderId, outcome: Result<Committed, SkipError>) -> Result<Response<Body>, Problem> {
    let committed = outcome.map_err(|error| match error {
        SkipError::Books(LedgerError::UnknownOrder) => Problem::not_found("order"),
        SkipError::Books(LedgerError::Load(error)) => Problem::not_loaded(&error),
        SkipError::Books(error @ LedgerError::Amounts(_)) => Problem::internal(&error),
        SkipError::Command(error) => Problem::not_done(error, |rejection| match rejection {
            SkipRejection::UnknownOrder => Problem::not_found("order"),
            SkipRejection::NotStuck | SkipRejection::StuckElsewhere { .. } => {
                Problem::new(409, "not-stuck", "There is nothing to skip", rejection.to_string())
            }
            SkipRejection::DoneAlready { found } => {
                let detail = "the provider has done it, and only its record is missing; let the order go on instead";
                Problem::new(409, "already-made", "There is nothing to skip", detail).with("found", json!(found))
            }
        }),
    })?;
    http::accepted(committed, &json!({"order_id": id, "status": "skipped", "version": committed.version}))
}

#[derive(Deserr, Serialize)]
#[deserr(error = FieldErrors, deny_unknown_fields)]
struct SkipStepBody {
    #[deserr(try_from(&String) = parse_step -> Invalid)]
    step: SkippableStep,
    #[deserr(try_from(&String) = Text::parse -> Invalid)]
    reason: Text<500>,
}

fn parse_step(name: &str) -> Result<SkippableStep, Invalid> {
    SkippableStep::ALL.into_iter().find(|step| step.name() == name).ok_or_else(|| {
        let names = SkippableStep::ALL.map(SkippableStep::name).join(", ");
        Invalid::new(format!("must be one of {names}: an order without any other step is to be cancelled"))
    })
}

#[cfg(test)]
mod tests {
    use adapters::samples::placed_order;
    use application::{
        event_stream::OrderStream,
        fulfilment::attention::flag_order,
        memory::{MemoryEventStore, MemoryInventory, MemoryPayments, MemoryShipping},
        ports::FulfilmentInput,
    };
    use domain::order::{
        Attention,
        cancel::{CancelRejection, cancel},
    };

    use super::*;

    const SAMPLE: &str = include_str!("../../../events/skip-step.json");

    /// A store with the order that the sample event of `project-orders` creates, cancelled.
    async fn cancelled() -> MemoryEventStore {
        let store = MemoryEventStore::default();
        store.append(&placed_order()).await.unwrap();
        let request = ApiRequest::from_event(SAMPLE, chrono::Utc::now()).unwrap();
        let id = request.order_id().unwrap();
        let metadata = request.metadata(&request.staff().unwrap(), id.work_id("cancel-order"), String::new());
        let mut stream = OrderStream::open(&store, id).await.unwrap();
        let reason = Text::parse("changed my mind").unwrap();
        stream.commit::<CancelRejection>(&metadata, |order| cancel(order, &reason, None)).await.unwrap();
        store
    }

    async fn stuck() -> MemoryEventStore {
        let store = cancelled().await;
        let mut input: FulfilmentInput = serde_json::from_str(include_str!("../../../events/flag-order.json")).unwrap();
        input.undo = true;
        let failed = Attention { step: "refund-payment".to_owned(), reason: "Unavailable".to_owned() };
        flag_order(&store, &input, &failed, chrono::Utc::now()).await.unwrap();
        store
    }

    async fn send(store: &MemoryEventStore, event: &str) -> Result<Response<Body>, Problem> {
        let (payments, inventory, shipping) =
            (MemoryPayments::default(), MemoryInventory::default(), MemoryShipping::default());
        let request = ApiRequest::from_event(event, chrono::Utc::now()).unwrap();
        handle(store, (&payments, &inventory, &shipping), request).await
    }

    #[tokio::test]
    async fn the_step_that_is_stuck_is_skipped_once_for_a_key_however_often_it_comes() {
        let store = stuck().await;
        for _ in 0..2 {
            assert_eq!(send(&store, SAMPLE).await.unwrap().status(), 202);
        }
        assert_eq!(store.all().len(), 4);
        let other = send(&store, &SAMPLE.replace("sample-key", "another-key")).await.unwrap_err();
        assert_eq!((other.status, other.kind), (409, "not-stuck"));
    }

    #[tokio::test]
    async fn a_retry_is_found_again_whatever_the_version() {
        let store = stuck().await;
        send(&store, SAMPLE).await.unwrap();
        let metadata = store.all().pop().unwrap().metadata;
        let known = (
            "f3125bce-b102-5494-88ac-052380c92102",
            "0005c62d161449f62d85967f10b3ff45eb8b6aa83ef8f2a910a4ed4e9b2dc107",
        );
        assert_eq!((metadata.command_id.to_string().as_str(), metadata.fingerprint.as_str()), known);
    }

    #[tokio::test]
    async fn what_is_not_stuck_or_stuck_elsewhere_is_not_skipped() {
        assert_eq!(send(&cancelled().await, SAMPLE).await.unwrap_err().status, 409);
        let store = stuck().await;
        let elsewhere = send(&store, &SAMPLE.replace("refund-payment", "cancel-shipment")).await.unwrap_err();
        assert_eq!((elsewhere.status, elsewhere.kind), (409, "not-stuck"));
        let forward = send(&store, &SAMPLE.replace("refund-payment", "process-payment")).await.unwrap_err();
        assert_eq!(forward.status, 400);
        for others in ["[]", "[staff]", "[carrier]"] {
            let event = SAMPLE.replace("[staff supervisor]", others);
            assert_eq!(send(&store, &event).await.unwrap_err().status, 403, "{others}");
        }
        assert_eq!(store.all().len(), 3);
    }

    #[tokio::test]
    async fn hostile_events_are_answered() {
        let store = stuck().await;
        let (payments, inventory, shipping) =
            (MemoryPayments::default(), MemoryInventory::default(), MemoryShipping::default());
        http::hostile::is_answered(
            SAMPLE,
            |request| handle(&store, (&payments, &inventory, &shipping), request),
            || store.count(),
        )
        .await;
    }
}
