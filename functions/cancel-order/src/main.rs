//! `POST /api/v1/orders/{order_id}/cancel` → `OrderCancelRequested`.
//!
//! 202, also when the order was cancelled before; 400 for invalid input, 404 also for somebody else's order, 409 when the
//! order cannot be cancelled any more: it is rejected, or delivered, and then only staff can give money back; or when it was cancelled before and a note comes too late.

use adapters::{
    app_config, aws,
    dynamodb::DynamoEventStore,
    http::{self, ApiRequest, FieldErrors, Problem},
    lambda,
    limits::Limiter,
};
use application::{
    event_store::{EventStore, fingerprint},
    event_stream::{CommandError, OrderStream},
};
use aws_sdk_dynamodb::Client;
use deserr::Deserr;
use domain::{
    ids::OrderId,
    order::{
        CancelReason, Course, Ending, OrderStatus, StaffNote,
        cancel::{CancelRejection, cancel},
    },
    text::{Invalid, Text},
};
use lambda_http::{Body, Response};
use serde_json::json;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let config = aws::config();
    let client = Client::new(&config);
    let limiter = Limiter::of_process(&client, app_config::settings_without_secrets(&config)?, "cancel-order").await?;
    let store = DynamoEventStore::new(client, lambda::variable("EVENTS_TABLE")?)
        .with_snapshots(lambda::variable("SNAPSHOTS_TABLE")?);
    http::run(&limiter, |request| handle(&store, request)).await
}

async fn handle(store: &impl EventStore, request: ApiRequest) -> Result<Response<Body>, Problem> {
    let caller = request.caller()?;
    let CancelOrderBody { reason, note } = request.json()?;
    if note.is_some() && caller.staff.is_none() {
        return Err(Problem::invalid_field("/note", "is for staff only"));
    }
    let id = request.order_id()?;
    let mut stream = OrderStream::open(store, id).await.map_err(|error| Problem::not_loaded(&error))?;
    match stream.order().course.placed() {
        Some(placed) if caller.may_act_for(&placed.customer_id) => {}
        Some(_) | None => return Err(Problem::not_found("order")),
    }
    // An order is cancelled at most once, so the order alone makes the command's id. Whoever repeats it without a note asks for
    // what is done; a note that came too late would be lost.
    let fingerprint = match &note {
        Some(note) => fingerprint(&("cancel-order", note)),
        None => fingerprint(&"cancel-order"),
    };
    let fingerprint = fingerprint.map_err(|error| Problem::internal(&error))?;
    let metadata = request.metadata(&caller, id.work_id("cancel-order"), fingerprint);
    let outcome = stream.commit(&metadata, |order| cancel(order, &reason, note.as_ref())).await;
    match outcome {
        Err(CommandError::CommandReused) if note.is_some() => Err(Problem::new(
            409,
            "already-cancelled",
            "The order was cancelled before",
            "the order was cancelled before, without this note, which is not kept",
        )),
        Err(CommandError::CommandReused) => respond(id, &stream),
        outcome => {
            outcome.map_err(|error| Problem::not_done(error, not_cancelled))?;
            respond(id, &stream)
        }
    }
}

fn respond<S: EventStore>(id: OrderId, stream: &OrderStream<'_, S>) -> Result<Response<Body>, Problem> {
    let status = match (&stream.order().course, &stream.order().attention) {
        (Course::Ended(_, Ending::Cancelled(_)), _) => OrderStatus::Cancelled,
        // An earlier cancel came too late: the parcel had arrived.
        (Course::Delivered(..), _) => return Err(not_cancelled(&CancelRejection::Delivered)),
        (_, Some(_)) => OrderStatus::NeedsAttention,
        (_, None) => OrderStatus::Cancelling,
    };
    http::json(202, &json!({"order_id": id, "status": status, "version": stream.version()}))
}

fn not_cancelled(rejection: &CancelRejection) -> Problem {
    match rejection {
        CancelRejection::UnknownOrder => Problem::not_found("order"),
        CancelRejection::Rejected | CancelRejection::Delivered => {
            Problem::new(409, "not-cancellable", "The order cannot be cancelled", rejection.to_string())
        }
    }
}

#[derive(Deserr)]
#[deserr(error = FieldErrors, deny_unknown_fields)]
struct CancelOrderBody {
    #[deserr(try_from(&String) = Text::parse -> Invalid)]
    reason: CancelReason,
    /// For staff only; the customer reads the reason.
    #[deserr(default, try_from(Option<String>) = Text::parse_optional -> Invalid)]
    note: Option<StaffNote>,
}

#[cfg(test)]
mod tests {
    use adapters::samples::placed_order;
    use application::{
        fulfilment::attention::flag_order,
        memory::{Fault, MemoryEventStore},
        ports::FulfilmentInput,
    };
    use domain::order::{Attention, OrderEvent};
    use serde_json::Value;

    use super::*;

    const SAMPLE: &str = include_str!("../../../events/cancel-order.json");

    /// A store with the order that the sample event of `project-orders` creates.
    async fn store() -> MemoryEventStore {
        let store = MemoryEventStore::default();
        store.append(&placed_order()).await.unwrap();
        store
    }

    async fn send(store: &MemoryEventStore, event: &str) -> Result<Response<Body>, Problem> {
        handle(store, ApiRequest::from_event(event, chrono::Utc::now()).unwrap()).await
    }

    #[tokio::test]
    async fn the_sample_cancels_the_order_once_however_often_it_comes() {
        let store = store().await;
        for _ in 0..3 {
            let answer = send(&store, SAMPLE).await.unwrap();
            assert_eq!(answer.status(), 202);
            let body: Value = serde_json::from_slice(answer.body()).unwrap();
            assert_eq!((&body["status"], &body["version"]), (&json!("cancelling"), &json!(2)));
        }
        assert_eq!(store.all().len(), 2);
    }

    #[tokio::test]
    async fn a_retry_is_found_again_whatever_the_version() {
        let store = store().await;
        send(&store, SAMPLE).await.unwrap();
        let metadata = store.all().pop().unwrap().metadata;
        let known = (
            "c6030632-588a-5646-b14e-1ed84c3d8dd5",
            "1c987ca00e0733b49bc872e26af2c8b7686189cc26e2d62d5ea8d8ce98d4b281",
        );
        assert_eq!((metadata.command_id.to_string().as_str(), metadata.fingerprint.as_str()), known);
    }

    #[tokio::test]
    async fn a_cancel_that_is_stuck_says_so() {
        let store = store().await;
        send(&store, SAMPLE).await.unwrap();
        let mut input: FulfilmentInput = serde_json::from_str(include_str!("../../../events/flag-order.json")).unwrap();
        input.undo = true;
        let failed = Attention { step: "refund-payment".to_owned(), reason: "Unavailable".to_owned() };
        flag_order(&store, &input, &failed, chrono::Utc::now()).await.unwrap();
        let answer = send(&store, SAMPLE).await.unwrap();
        let body: Value = serde_json::from_slice(answer.body()).unwrap();
        assert_eq!(body["status"], "needs_attention");
    }

    #[tokio::test]
    async fn what_is_delivered_is_not_cancelled_also_when_it_was_cancelled_too_late() {
        let store = store().await;
        let id = OrderId::parse("0197a3c2-7b1e-5c44-9d55-3f1f5c0c9a10").unwrap();
        let events: Vec<OrderEvent> = serde_json::from_value(json!([
            {"type": "InventoryReserved", "data": {"reservation_id": "r"}},
            {"type": "PaymentCompleted", "data": {
                "transaction_id": "t", "amount": {"amount": 3998, "currency": "CNY"}, "processed_at": "2026-01-01T00:00:00Z"
            }},
            {"type": "ShipmentCreated", "data": {
                "shipment_id": "s", "carrier": "c", "tracking_number": "n", "estimated_delivery": "2026-01-01T00:00:00Z"
            }}
        ]))
        .unwrap();
        let append = async |events: Vec<OrderEvent>| {
            let mut stream = OrderStream::open(&store, id).await.unwrap();
            let request = ApiRequest::from_event(SAMPLE, chrono::Utc::now()).unwrap();
            let version = stream.version().to_string();
            let metadata = request.metadata(&request.caller().unwrap(), id.work_id(&version), version);
            stream.commit(&metadata, |_| Ok::<_, CancelRejection>(events.clone())).await.unwrap();
        };
        append(events).await;
        send(&store, SAMPLE).await.unwrap();
        append(vec![OrderEvent::ShipmentDelivered { delivered_at: chrono::Utc::now() }]).await;
        let answer = send(&store, SAMPLE).await.unwrap_err();
        assert_eq!((answer.status, answer.kind), (409, "not-cancellable"));
    }

    #[tokio::test]
    async fn a_foreign_an_unknown_and_an_impossible_order_look_the_same() {
        let store = store().await;
        let foreign = send(&store, &SAMPLE.replace("\"sub\": \"customer-1\"", "\"sub\": \"customer-2\"")).await;
        let mut event: Value = serde_json::from_str(SAMPLE).unwrap();
        event["pathParameters"]["order_id"] = json!("42");
        let no_id = send(&store, &event.to_string()).await;
        assert_eq!(foreign.as_ref().unwrap_err().status, 404);
        assert_eq!(foreign.unwrap_err(), no_id.unwrap_err());
        assert_eq!(store.all().len(), 1);
    }

    #[tokio::test]
    async fn a_cancel_without_a_reason_is_invalid() {
        let store = store().await;
        for body in ["{}", r#"{"reason": " "}"#, r#"{"reason": 1}"#, r#"{"reason": "x", "refund": true}"#] {
            let mut event: Value = serde_json::from_str(SAMPLE).unwrap();
            event["body"] = json!(body);
            assert_eq!(send(&store, &event.to_string()).await.unwrap_err().status, 400, "{body}");
        }
        assert_eq!(store.all().len(), 1);
    }

    #[tokio::test]
    async fn a_cancel_whose_answer_was_lost_may_be_sent_again() {
        let store = store().await;
        store.faults.push(Fault::AfterEffect);
        assert_eq!(send(&store, SAMPLE).await.unwrap_err().status, 503);
        assert_eq!(send(&store, SAMPLE).await.unwrap().status(), 202);
        assert_eq!(store.all().len(), 2);
    }

    #[tokio::test]
    async fn what_staff_write_for_each_other_stands_in_the_history_alone() {
        let store = store().await;
        let with_note = SAMPLE.replace(r#"{\"reason\""#, r#"{\"note\": \"third time\", \"reason\""#);
        assert_ne!(with_note, SAMPLE);
        let refused = send(&store, &with_note).await.unwrap_err();
        assert_eq!((refused.status, &refused.body("/", "c")["errors"][0]["pointer"]), (400, &json!("/note")));
        let staff = with_note.replace("\"token_use\"", "\"cognito:groups\": \"[staff]\", \"token_use\"");
        assert_eq!(send(&store, &staff).await.unwrap().status(), 202);
        assert_eq!(store.all().pop().unwrap().events[0].data["note"], "third time");
        // Sent again, with it and without; another one comes too late.
        for again in [staff.as_str(), SAMPLE] {
            assert_eq!(send(&store, again).await.unwrap().status(), 202);
        }
        let other = send(&store, &staff.replace("third time", "fourth time")).await.unwrap_err();
        assert_eq!((other.status, other.kind), (409, "already-cancelled"));
    }

    #[tokio::test]
    async fn hostile_events_are_answered() {
        let store = store().await;
        http::hostile::is_answered(SAMPLE, |request| handle(&store, request), || store.count()).await;
    }
}
