//! `OrderCreated` from the bus, through a queue → one execution that fulfils the order; `OrderCancelRequested` → one that
//! undoes it; `FulfilmentResumed` and `StepSkipped` → one that goes on with whichever was stuck; `RefundRequested` → one
//! that gives the money back.
//!
//! A message that comes twice starts nothing the second time, and one that comes a day late starts nothing at all: the order
//! is `reconcile`'s then, which calls a person if anything is still to be done for it. A message that cannot be handled comes
//! again, and at last goes to the dead-letter queue.

use adapters::{aws, event_bridge::Detail, lambda, step_functions::StateMachine};
use application::{
    event_store::{RecordedEvent, Unavailable},
    ports::{Cause, Fulfilment, FulfilmentInput},
};
use aws_sdk_sfn::Client;
use chrono::{DateTime, Utc};
use domain::{ids::OrderId, stored_event::UnreadableEvent};
use tracing::{info, warn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init_logs();
    let fulfilment = StateMachine::new(Client::new(&aws::config().await), lambda::variable("FULFILMENT_ARN")?);
    lambda::run_queue(async |message| start(&fulfilment, message.detail, Utc::now()).await).await
}

/// Why a message did not start anything.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("the event cannot be read")]
    Unreadable(#[from] UnreadableEvent),
    #[error("the event is not an order's")]
    NotAnOrder,
    #[error("nothing starts on an event of type {0}")]
    UnexpectedType(String),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

async fn start(
    fulfilment: &impl Fulfilment,
    Detail { metadata, data }: Detail,
    now: DateTime<Utc>,
) -> Result<(), StartError> {
    let order_id = OrderId::parse(&metadata.aggregate_id).ok_or(StartError::NotAnOrder)?;
    let event = RecordedEvent { event_type: metadata.event_type, schema: metadata.schema, data };
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
    let started = fulfilment
        .start(&input)
        .await
        .inspect_err(|_| warn!(%order_id, correlation_id, "the state machine does not answer"))?;
    info!(%order_id, correlation_id, execution, started, "execution started, now or before");
    Ok(())
}

#[cfg(test)]
mod tests {
    use application::{memory::MemoryFulfilment, reconcile::LIMIT};
    use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent};
    use chrono::TimeDelta;

    use super::*;

    const SAMPLE: &str = include_str!("../../../events/start-fulfilment.json");

    /// As long after the sample's event as a message may come late.
    async fn handle(fulfilment: &MemoryFulfilment, batch: SqsEvent) -> SqsBatchResponse {
        handle_after(fulfilment, batch, LIMIT).await
    }

    async fn handle_after(fulfilment: &MemoryFulfilment, batch: SqsEvent, late: TimeDelta) -> SqsBatchResponse {
        let now = "2026-01-01T00:00:00Z".parse::<DateTime<Utc>>().unwrap().checked_add_signed(late).unwrap();
        lambda::consume_messages(batch, async |message| start(fulfilment, message.detail, now).await).await
    }

    fn batch(text: &str) -> SqsEvent {
        serde_json::from_str(text).unwrap()
    }

    #[tokio::test]
    async fn the_sample_message_starts_one_fulfilment_however_often_it_comes() {
        let fulfilment = MemoryFulfilment::default();
        for _ in 0..2 {
            assert!(handle(&fulfilment, batch(SAMPLE)).await.batch_item_failures.is_empty());
        }
        let started = fulfilment.started();
        assert_eq!(started.len(), 1);
        assert_eq!(started[0].correlation_id, "sample-1");
        assert_eq!(started[0].causation_id, format!("{}/1", started[0].order_id));
    }

    #[tokio::test]
    async fn a_cancel_starts_an_execution_of_its_own() {
        let fulfilment = MemoryFulfilment::default();
        handle(&fulfilment, batch(SAMPLE)).await;
        handle(&fulfilment, batch(&SAMPLE.replace("OrderCreated", "OrderCancelRequested"))).await;
        let undo: Vec<bool> = fulfilment.started().iter().map(|input| input.undo).collect();
        assert_eq!(undo, [false, true]);
        let resumed = SAMPLE
            .replace("OrderCreated", "FulfilmentResumed")
            .replace(r#"\"data\":{"#, r#"\"data\":{\"reason\":\"the provider is back\",\"undo\":true,"#);
        assert!(handle(&fulfilment, batch(&resumed)).await.batch_item_failures.is_empty());
        let skipped = SAMPLE
            .replace("OrderCreated", "StepSkipped")
            .replace(r#"\"sequence\":1"#, r#"\"sequence\":9"#)
            .replace(r#"\"data\":{"#, r#"\"data\":{\"reason\":\"paid back\",\"step\":\"refund-payment\","#);
        let refund =
            SAMPLE.replace("OrderCreated", "RefundRequested").replace(r#"\"sequence\":1"#, r#"\"sequence\":7"#);
        let message =
            skipped.replace("refund-payment", "send-confirmation").replace(r#"\"sequence\":9"#, r#"\"sequence\":11"#);
        for message in [skipped, refund, message] {
            assert!(handle(&fulfilment, batch(&message)).await.batch_item_failures.is_empty());
        }
        let names: Vec<String> = fulfilment.started().iter().map(FulfilmentInput::execution_name).collect();
        assert!(!names.iter().any(|name| name.ends_with("-11")), "{names:?}");
        for end in ["-resumed-1", "-resumed-9", "-refund-7"] {
            assert!(names.iter().any(|name| name.ends_with(end)), "{names:?}");
        }
        let other = handle(&fulfilment, batch(&SAMPLE.replace("OrderCreated", "OrderRejected"))).await;
        assert_eq!(other.batch_item_failures.len(), 1);
    }

    /// Step Functions forgets an execution after 90 days: its name would not keep an old order from being charged once more.
    #[tokio::test]
    async fn an_event_that_is_published_again_after_a_day_starts_nothing_and_is_done() {
        let fulfilment = MemoryFulfilment::default();
        for event in ["OrderCreated", "OrderCancelRequested", "RefundRequested"] {
            let message = SAMPLE.replace("OrderCreated", event);
            for late in [TimeDelta::days(100), LIMIT.checked_add(&TimeDelta::seconds(1)).unwrap()] {
                let answer = handle_after(&fulfilment, batch(&message), late).await;
                assert_eq!((answer.batch_item_failures.len(), fulfilment.started()), (0, vec![]), "{event}");
            }
        }
    }

    #[tokio::test]
    async fn a_message_is_read_by_the_schema_that_it_says() {
        let fulfilment = MemoryFulfilment::default();
        let resumed = |event: u64, schema: &str, data: &str| {
            SAMPLE
                .replace("OrderCreated", "FulfilmentResumed")
                .replace(r#"\"sequence\":1"#, &format!(r#"\"sequence\":{event}"#))
                .replace(r#"\"schema\":1,"#, schema)
                .replace(r#"\"data\":{"#, &format!(r#"\"data\":{{\"reason\":\"mended\",\"undo\":true,{data}"#))
        };
        let messages = [
            // As the bus's first messages were.
            resumed(2, "", ""),
            resumed(3, r#"\"schema\":1,"#, ""),
            resumed(4, r#"\"schema\":2,"#, r#"\"refund\":true,"#),
        ];
        for message in messages {
            assert!(handle(&fulfilment, batch(&message)).await.batch_item_failures.is_empty(), "{message}");
        }
        let names: Vec<String> = fulfilment.started().iter().map(FulfilmentInput::execution_name).collect();
        assert_eq!(names.len(), 3);
        for end in ["-resumed-2", "-resumed-3", "-refund-4"] {
            assert!(names.iter().any(|name| name.ends_with(end)), "{names:?}");
        }
        let newer = resumed(5, r#"\"schema\":3,"#, "");
        assert_eq!(handle(&fulfilment, batch(&newer)).await.batch_item_failures.len(), 1);
    }

    #[tokio::test]
    async fn only_the_message_that_failed_comes_again() {
        let fulfilment = MemoryFulfilment::default();
        let mut mixed = batch(SAMPLE);
        let mut poison = mixed.records[0].clone();
        poison.message_id = Some("poison".to_owned());
        poison.body = Some("{}".to_owned());
        mixed.records.push(poison);
        let failures = handle(&fulfilment, mixed).await.batch_item_failures;
        assert_eq!(failures.len(), 1);
        assert_eq!(failures[0].item_identifier, "poison");
        assert_eq!(fulfilment.started().len(), 1);
    }

    #[tokio::test]
    async fn a_state_machine_that_is_down_loses_nothing() {
        let fulfilment = MemoryFulfilment::default();
        fulfilment.set_down(true);
        assert_eq!(handle(&fulfilment, batch(SAMPLE)).await.batch_item_failures.len(), 1);
        fulfilment.set_down(false);
        assert!(handle(&fulfilment, batch(SAMPLE)).await.batch_item_failures.is_empty());
        assert_eq!(fulfilment.started().len(), 1);
    }
}
