//! `OrderCreated` from the bus, through a queue → one execution that fulfils the order; `OrderCancelRequested` → one that
//! undoes it; `FulfilmentResumed` and `StepSkipped` → one that goes on with whichever was stuck; `RefundRequested` → one
//! that gives the money back.
//!
//! A message that comes twice may start the same execution twice, which finds the order where it is; one that comes a day late
//! starts nothing: the order is `reconcile`'s then, which calls a person if anything is still to be done for it. A message that cannot be handled comes
//! again, and at last goes to the dead-letter queue.

use adapters::{
    aws,
    dynamodb::DynamoEventStore,
    event_bridge::{Detail, DetailMetadata},
    lambda,
    step_functions::ExpressStateMachine,
};
use application::{
    event_store::{Commit, EventStore, RecordedEvent, StreamId, Unavailable},
    ports::{Cause, Fulfilment, FulfilmentInput},
};
use chrono::{DateTime, Utc};
use domain::{ids::OrderId, stored_event::UnreadableEvent};
use serde_json::Value;
use tracing::{info, warn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let config = aws::config();
    let store = DynamoEventStore::new(aws_sdk_dynamodb::Client::new(&config), lambda::variable("EVENTS_TABLE")?);
    let fulfilment =
        ExpressStateMachine::new(aws_sdk_sfn::Client::new(&config), lambda::variable("FULFILMENT_EXPRESS_ARN")?);
    lambda::run_queue(async |detail| start(&store, &fulfilment, detail, Utc::now()).await).await
}

/// Why a message did not start anything.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("the event cannot be read")]
    Unreadable(#[from] UnreadableEvent),
    #[error("the event is not an order's")]
    NotAnOrder,
    #[error("the order has no such event")]
    NoSuchEvent,
    #[error("nothing starts on an event of type {0}")]
    UnexpectedType(String),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

async fn start(
    store: &impl EventStore,
    fulfilment: &impl Fulfilment,
    Detail { metadata, .. }: Detail,
    now: DateTime<Utc>,
) -> Result<(), StartError> {
    let order_id = OrderId::parse(&metadata.aggregate_id).ok_or(StartError::NotAnOrder)?;
    let event = event(store, order_id, &metadata).await?;
    let cause = Cause {
        order_id,
        version: metadata.sequence,
        event: &event,
        correlation_id: &metadata.correlation_id,
        traceparent: metadata.traceparent.as_deref(),
    };
    let input = match FulfilmentInput::started_by(cause)? {
        Some(input) => input,
        // Not every step that is skipped leaves something to go on with, and the bus's rule cannot tell.
        None if event.event_type == "StepSkipped" => return Ok(()),
        None => return Err(StartError::UnexpectedType(event.event_type)),
    };
    let (correlation_id, execution) = (&input.correlation_id, input.execution_name());
    if FulfilmentInput::too_late(metadata.occurred_at, now) {
        warn!(%order_id, correlation_id, execution, occurred_at = %metadata.occurred_at, "the event is too old to start anything");
        return Ok(());
    }
    fulfilment
        .start(&input)
        .await
        .inspect_err(|_| warn!(%order_id, correlation_id, "the state machine does not answer"))?;
    info!(%order_id, correlation_id, execution, "execution started");
    Ok(())
}

/// The event that a message is about. The message has only its type; what else it says is read where it decides what starts.
async fn event(
    store: &impl EventStore,
    order_id: OrderId,
    metadata: &DetailMetadata,
) -> Result<RecordedEvent, StartError> {
    if !FulfilmentInput::depends_on_data_of(&metadata.event_type) {
        let (event_type, schema) = (metadata.event_type.clone(), metadata.schema);
        return Ok(RecordedEvent { event_type, schema, data: Value::Null });
    }
    // From the start, because it may be the second event of its commit.
    let commits = store.read(&StreamId::order(order_id), 0).await?;
    let mut events = commits.iter().flat_map(Commit::numbered);
    let event =
        events.find(|(version, event)| *version == metadata.sequence && event.event_type == metadata.event_type);
    event.map(|(_, event)| event.clone()).ok_or(StartError::NoSuchEvent)
}

#[cfg(test)]
mod tests {
    use application::{
        event_store::Metadata,
        memory::{MemoryEventStore, MemoryFulfilment},
        reconcile::LIMIT,
    };
    use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent};
    use chrono::TimeDelta;
    use serde_json::json;

    use super::*;

    const SAMPLE: &str = include_str!("../../../events/start-fulfilment.json");

    #[derive(Default)]
    struct Shop {
        store: MemoryEventStore,
        fulfilment: MemoryFulfilment,
    }

    impl Shop {
        /// A shop in which the sample's order has these events, each of a type and a schema.
        async fn with(events: &[(&str, u32, Value)]) -> Self {
            let shop = Self::default();
            for (version, (event_type, schema, data)) in (1..).zip(events) {
                let event = RecordedEvent { event_type: (*event_type).to_owned(), schema: *schema, data: data.clone() };
                let metadata = Metadata::of_nobody(at());
                let stream = StreamId::order(OrderId::parse("0197a3c2-7b1e-5c44-9d55-3f1f5c0c9a10").unwrap());
                shop.store.append(&Commit { stream, version, events: vec![event], metadata }).await.unwrap();
            }
            shop
        }

        /// As long after the sample's event as a message may come late.
        async fn send(&self, message: &str) -> SqsBatchResponse {
            self.send_after(serde_json::from_str(message).unwrap(), LIMIT).await
        }

        async fn send_after(&self, batch: SqsEvent, late: TimeDelta) -> SqsBatchResponse {
            let now = at().checked_add_signed(late).unwrap();
            lambda::consume_messages(batch, async |detail| start(&self.store, &self.fulfilment, detail, now).await)
                .await
        }

        fn started(&self) -> Vec<String> {
            self.fulfilment.started().iter().map(FulfilmentInput::execution_name).collect()
        }
    }

    fn at() -> DateTime<Utc> {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    /// The sample message, about another event of the order.
    fn about(event_type: &str, sequence: u64) -> String {
        SAMPLE.replace("OrderCreated", event_type).replace(r#"\"sequence\":1"#, &format!(r#"\"sequence\":{sequence}"#))
    }

    #[tokio::test]
    async fn the_sample_message_starts_the_same_fulfilment_however_often_it_comes() {
        let shop = Shop::default();
        for _ in 0..2 {
            assert!(shop.send(SAMPLE).await.batch_item_failures.is_empty());
        }
        let started = shop.fulfilment.started();
        assert_eq!(started.len(), 1);
        assert_eq!(started[0].correlation_id, "sample-1");
        assert_eq!(started[0].causation_id, format!("{}/1", started[0].order_id));
    }

    #[tokio::test]
    async fn a_cancel_starts_an_execution_of_its_own() {
        let shop = Shop::default();
        shop.send(SAMPLE).await;
        shop.send(&about("OrderCancelRequested", 1)).await;
        let undo: Vec<bool> = shop.fulfilment.started().iter().map(|input| input.undo).collect();
        assert_eq!(undo, [false, true]);
        assert!(shop.send(&about("RefundRequested", 7)).await.batch_item_failures.is_empty());
        assert!(shop.started().iter().any(|name| name.ends_with("-refund-7")));
        assert_eq!(shop.send(&about("OrderRejected", 8)).await.batch_item_failures.len(), 1);
    }

    /// The message has no more than ids and the type; which execution goes on is what the event says, whatever its schema.
    #[tokio::test]
    async fn what_goes_on_stands_in_the_event_table() {
        let events = [
            ("FulfilmentResumed", 1, json!({"reason": "mended", "undo": true})),
            ("FulfilmentResumed", 2, json!({"reason": "mended", "undo": true, "refund": true})),
            ("StepSkipped", 1, json!({"reason": "paid back", "step": "refund-payment"})),
            ("StepSkipped", 1, json!({"reason": "told by phone", "step": "send-confirmation"})),
            ("FulfilmentResumed", 3, json!({"reason": "mended", "undo": true, "refund": true, "newer": 1})),
        ];
        let shop = Shop::with(&events).await;
        for (sequence, (event_type, ..)) in (1..).zip(&events[..4]) {
            assert!(shop.send(&about(event_type, sequence)).await.batch_item_failures.is_empty(), "{sequence}");
        }
        let started = shop.started();
        assert_eq!(started.len(), 3, "{started:?}");
        for end in ["-resumed-1", "-refund-2", "-resumed-3"] {
            assert!(started.iter().any(|name| name.ends_with(end)), "{started:?}");
        }
        assert_eq!(shop.send(&about("FulfilmentResumed", 5)).await.batch_item_failures.len(), 1, "a newer schema");
        for (event_type, sequence) in [("FulfilmentResumed", 6), ("FulfilmentResumed", 3)] {
            assert_eq!(shop.send(&about(event_type, sequence)).await.batch_item_failures.len(), 1, "no such event");
        }
    }

    /// As they were before they lost their data: some may still be in the queue when a new version is deployed.
    #[tokio::test]
    async fn a_message_that_says_more_is_read_too() {
        let shop = Shop::default();
        let whole = SAMPLE.replace(r#"{\"detail\""#, r#"{\"version\":\"0\",\"source\":\"order-service\",\"detail\""#);
        let whole =
            whole.replace(r#"\"actor\":\"customer:customer-1\"}"#, r#"\"actor\":\"c\"},\"data\":{\"items\":[]}"#);
        assert!(whole.contains("source") && whole.contains("items"));
        assert!(shop.send(&whole).await.batch_item_failures.is_empty());
        assert_eq!(shop.started().len(), 1);
    }

    /// What an old order calls for has been done, or a person looks after it: no message is to come between.
    #[tokio::test]
    async fn an_event_that_is_published_again_after_a_day_starts_nothing_and_is_done() {
        let shop = Shop::default();
        for event in ["OrderCreated", "OrderCancelRequested", "RefundRequested"] {
            for late in [TimeDelta::days(100), LIMIT.checked_add(&TimeDelta::seconds(1)).unwrap()] {
                let answer = shop.send_after(serde_json::from_str(&about(event, 1)).unwrap(), late).await;
                assert_eq!((answer.batch_item_failures.len(), shop.started()), (0, vec![]), "{event}");
            }
        }
    }

    #[tokio::test]
    async fn only_the_message_that_failed_comes_again() {
        let shop = Shop::default();
        let mut mixed: SqsEvent = serde_json::from_str(SAMPLE).unwrap();
        let mut poison = mixed.records[0].clone();
        poison.message_id = Some("poison".to_owned());
        poison.body = Some("{}".to_owned());
        mixed.records.push(poison);
        let failures = shop.send_after(mixed, LIMIT).await.batch_item_failures;
        assert_eq!(failures.len(), 1);
        assert_eq!(failures[0].item_identifier, "poison");
        assert_eq!(shop.started().len(), 1);
    }

    #[tokio::test]
    async fn a_state_machine_that_is_down_loses_nothing() {
        let shop = Shop::default();
        shop.fulfilment.set_down(true);
        assert_eq!(shop.send(SAMPLE).await.batch_item_failures.len(), 1);
        shop.fulfilment.set_down(false);
        assert!(shop.send(SAMPLE).await.batch_item_failures.is_empty());
        assert_eq!(shop.started().len(), 1);
    }
}
