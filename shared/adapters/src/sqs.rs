//! Messages that a queue has given up.
//!
//! They are moved by receiving, sending and deleting: what SQS itself offers moves all of a queue, and knows no single one.

use application::{
    event_store::{BoxError, StreamId, Unavailable},
    ports::{DeadLetterQueue, DeadMessage, Failure, MessageKind, ReceivedMessage},
};
use aws_sdk_sqs::{
    Client,
    types::{Message, MessageSystemAttributeName, QueueAttributeName::ApproximateNumberOfMessagesNotVisible},
};
use chrono::DateTime;
use futures_util::future::try_join_all;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{event_bridge::BusEvent, lambda};

/// For how many seconds nobody else receives a message: longer than a function works on all that it has received.
const HIDDEN_SECONDS: i32 = 60;

/// Who does not wait asks some of SQS's servers only, and may find nothing though there is something.
const WAIT_SECONDS: i32 = 1;

/// The most messages that one call receives or gives back.
const BATCH_MAX: usize = 10;

/// A dead-letter queue, and the queue that it belongs to.
pub struct SqsDeadLetters {
    client: Client,
    url: String,
    /// Where its messages come from; none where they are places in a stream.
    source_url: Option<String>,
}

/// A setting that is not a list of `name=URL`.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a name=URL")]
pub struct NotAQueue(String);

/// The names and URLs of queues in a setting, with spaces between.
pub fn named_urls(setting: &str) -> Result<Vec<(String, String)>, NotAQueue> {
    let named = |one: &str| one.split_once('=').map(|(name, url)| (name.to_owned(), url.to_owned()));
    setting.split_whitespace().map(|one| named(one).ok_or_else(|| NotAQueue(one.to_owned()))).collect()
}

impl SqsDeadLetters {
    /// The dead-letter queues that the environment names, and the queues that they belong to.
    pub fn of_process(client: &Client) -> Result<Vec<(String, Self)>, lambda_runtime::Error> {
        let sources = named_urls(&lambda::variable("SOURCE_QUEUES")?)?;
        let queues = named_urls(&lambda::variable("DEAD_LETTER_QUEUES")?)?.into_iter().map(|(name, url)| {
            let source_url = sources.iter().find(|(source, _)| *source == name).map(|(_, url)| url.clone());
            (name, Self { client: client.clone(), url, source_url })
        });
        Ok(queues.collect())
    }
}

/// What a stream mapping says of a batch that it has given up.
#[derive(Deserialize)]
struct GivenUpBatch {
    #[serde(rename = "DDBStreamBatchInfo")]
    _batch: Value,
}

fn unavailable(source: impl Into<BoxError>) -> Unavailable {
    Unavailable { what: "a dead-letter queue", source: source.into() }
}

/// What a rule hands on of an event. What it could not hand on at all, it gives up as it came, with all that is personal in it,
/// and this is not to go into a queue again.
fn as_handed_on(body: String) -> String {
    let event = serde_json::from_str::<Value>(&body).ok();
    match event.as_ref().and_then(|event| event.pointer("/detail/metadata")) {
        Some(metadata) => json!({"detail": {"metadata": metadata}}).to_string(),
        None => body,
    }
}

fn received(message: Message) -> Option<ReceivedMessage> {
    let attribute = |name| message.attributes.as_ref()?.get(&name)?.parse::<i64>().ok();
    let sent = attribute(MessageSystemAttributeName::SentTimestamp).and_then(DateTime::from_timestamp_millis);
    let tries = attribute(MessageSystemAttributeName::ApproximateReceiveCount);
    let body = message.body.unwrap_or_default();
    let (kind, error_type) = match serde_json::from_str::<BusEvent>(&body) {
        Ok(BusEvent { detail }) => {
            let stream = format!("{}#{}", detail.metadata.aggregate_type, detail.metadata.aggregate_id);
            (MessageKind::Event(Some((StreamId::new(stream), detail.metadata.sequence))), "GivenUp")
        }
        Err(_) if serde_json::from_str::<GivenUpBatch>(&body).is_ok() => (MessageKind::Batch, "BatchGivenUp"),
        Err(_) => (MessageKind::Event(None), "GivenUp"),
    };
    let error = match kind {
        MessageKind::Batch => "a batch of the stream was given up; the functions' log has why",
        MessageKind::Event(_) => "the queue has given it up; the functions' log has why",
    };
    let failure = Failure::new(error_type, error);
    let dead = DeadMessage {
        id: message.message_id?,
        kind,
        failure,
        since: sent.unwrap_or_default(),
        tries: tries.and_then(|tries| u32::try_from(tries).ok()).unwrap_or_default(),
    };
    Some(ReceivedMessage { message: dead, receipt: message.receipt_handle?, body: as_handed_on(body) })
}

impl DeadLetterQueue for SqsDeadLetters {
    async fn receive(&self) -> Result<Vec<ReceivedMessage>, Unavailable> {
        let answer = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(i32::try_from(BATCH_MAX).unwrap_or(i32::MAX))
            .visibility_timeout(HIDDEN_SECONDS)
            .wait_time_seconds(WAIT_SECONDS)
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .send()
            .await
            .map_err(unavailable)?;
        Ok(answer.messages.unwrap_or_default().into_iter().filter_map(received).collect())
    }

    async fn hidden(&self) -> Result<usize, Unavailable> {
        let ask = self.client.get_queue_attributes().queue_url(&self.url);
        let answer = ask.attribute_names(ApproximateNumberOfMessagesNotVisible).send().await.map_err(unavailable)?;
        let attributes = answer.attributes.unwrap_or_default();
        let count = attributes.get(&ApproximateNumberOfMessagesNotVisible).and_then(|count| count.parse().ok());
        count.ok_or_else(|| unavailable("it does not say how much of it is hidden"))
    }

    async fn release(&self, messages: &[ReceivedMessage]) -> Result<(), Unavailable> {
        // One by one, because the emulator asks for a right to give back many that AWS does not know.
        for batch in messages.chunks(BATCH_MAX) {
            let release = |message: &ReceivedMessage| {
                let change = self.client.change_message_visibility().queue_url(&self.url);
                // One that is not given back comes back by itself.
                change.receipt_handle(&message.receipt).visibility_timeout(0).send()
            };
            try_join_all(batch.iter().map(release)).await.map_err(unavailable)?;
        }
        Ok(())
    }

    async fn send_again(&self, message: &ReceivedMessage) -> Result<bool, Unavailable> {
        let Some(source) = &self.source_url else { return Ok(false) };
        self.client.send_message().queue_url(source).message_body(&message.body).send().await.map_err(unavailable)?;
        Ok(true)
    }

    async fn delete(&self, message: &ReceivedMessage) -> Result<(), Unavailable> {
        let delete = self.client.delete_message().queue_url(&self.url).receipt_handle(&message.receipt);
        delete.send().await.map(drop).map_err(unavailable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: &str) -> Message {
        Message::builder()
            .message_id("m-1")
            .receipt_handle("r-1")
            .body(body)
            .attributes(MessageSystemAttributeName::SentTimestamp, "1767225600000")
            .attributes(MessageSystemAttributeName::ApproximateReceiveCount, "51")
            .build()
    }

    #[test]
    fn a_message_about_an_event_says_which_and_no_more() {
        let sample: Value = serde_json::from_str(include_str!("../../../events/start-fulfilment.json")).unwrap();
        let mut body: Value = serde_json::from_str(sample["Records"][0]["body"].as_str().unwrap()).unwrap();
        let metadata = body["detail"]["metadata"].clone();
        // As the bus has it, which is what a rule gives up that cannot reach its queue.
        body["detail"]["data"] = json!({"shipping_address": {"street": "1 Nanjing Road"}});
        body["detail-type"] = json!("OrderCreated");
        let received = received(message(&body.to_string())).unwrap();
        let goes_again: Value = serde_json::from_str(&received.body).unwrap();
        assert_eq!(goes_again, json!({"detail": {"metadata": metadata}}));
        let stream = StreamId::new("order#0197a3c2-7b1e-5c44-9d55-3f1f5c0c9a10".to_owned());
        assert_eq!(received.message.kind, MessageKind::Event(Some((stream, 1))));
        assert_eq!((received.message.tries, received.message.failure.error_type.as_str()), (51, "GivenUp"));
        assert_eq!(received.message.since.to_rfc3339(), "2026-01-01T00:00:00+00:00");
    }

    #[test]
    fn a_batch_is_known_and_anything_else_is_a_message() {
        let batch = r#"{"DDBStreamBatchInfo": {"shardId": "shardId-1", "batchSize": 3}}"#;
        assert_eq!(received(message(batch)).unwrap().message.kind, MessageKind::Batch);
        for other in ["", "{}", "[", r#"{"detail": 1}"#] {
            let received = received(message(other)).unwrap();
            assert_eq!((received.message.kind, received.body.as_str()), (MessageKind::Event(None), other));
        }
    }

    #[test]
    fn queues_are_named_with_their_urls() {
        let queues = named_urls("start-fulfilment=http://a/b  other=c").unwrap();
        assert_eq!(queues[1], ("other".to_owned(), "c".to_owned()));
        assert!(named_urls("start-fulfilment").is_err());
    }
}
