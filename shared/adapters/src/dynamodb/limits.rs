//! The buckets: one item each, which says when the bucket is full again, and goes by itself some time after that.

use application::{
    event_store::Unavailable,
    limits::Micros,
    ports::{Draw, Drawn, Limits},
};
use aws_sdk_dynamodb::{
    Client,
    operation::update_item::UpdateItemError,
    types::{ReturnValue, ReturnValuesOnConditionCheckFailure},
};
use serde::Deserialize;

use super::{Item, Table, number, text};

const PARTITION_KEY: &str = "bucket";

/// One with what was known, one with what was there instead, one more where that was gone by then.
const TRIES: u32 = 3;

/// For how long an item stays that says nothing any more, so that no clock that is a little late misses it.
const KEPT_SECONDS: u64 = 3_600;

pub struct DynamoLimits {
    table: Table,
}

/// What is read of an item.
#[derive(Deserialize)]
struct Row {
    full_at: Micros,
}

impl DynamoLimits {
    pub fn new(client: Client, table: String) -> Self {
        let table =
            Table { client, name: table, partition_key: PARTITION_KEY, sort_key: None, what: "the limits' table" };
        Self { table }
    }

    /// Takes the tokens if the bucket is as it was last seen: full, or being filled and not too empty. Answers when it is full
    /// after that, or else when it was.
    async fn take(&self, draw: &Draw<'_>, seen: Micros) -> Result<Result<Micros, Micros>, Unavailable> {
        let &Draw { name, bucket, tokens, now, .. } = draw;
        let taken = bucket.time_of(tokens);
        let long = bucket.with_debts().time_of(bucket.with_debts().burst());
        let expires_at = (now.saturating_add(long) / 1_000_000).saturating_add(KEPT_SECONDS);
        let update = self
            .table
            .client
            .update_item()
            .table_name(&self.table.name)
            .set_key(Some(Item::from([(PARTITION_KEY.to_owned(), text(name))])))
            .expression_attribute_values(":now", number(now))
            .expression_attribute_values(":expires_at", number(expires_at))
            .return_values(ReturnValue::UpdatedNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let update = if seen <= now {
            update
                .condition_expression("attribute_not_exists(full_at) OR full_at <= :now")
                .update_expression("SET full_at = :full_at, expires_at = :expires_at")
                .expression_attribute_values(":full_at", number(now.saturating_add(taken)))
        } else {
            // By how much, not to which time: of those who come at once, none undoes what another has taken.
            update
                .condition_expression("full_at > :now AND full_at <= :latest")
                .update_expression("SET full_at = full_at + :taken, expires_at = :expires_at")
                .expression_attribute_values(":latest", number(bucket.latest(tokens, now)))
                .expression_attribute_values(":taken", number(taken))
        };
        let error = match update.send().await {
            Ok(answer) => {
                let Row { full_at } = self.table.row(answer.attributes.unwrap_or_default())?;
                return Ok(Ok(full_at));
            }
            Err(error) => error,
        };
        match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(refusal)) => match &refusal.item {
                Some(item) => self.table.row(item.clone()).map(|Row { full_at }| Err(full_at)),
                None => Ok(Err(0)),
            },
            _ => Err(self.table.unavailable(error)),
        }
    }
}

impl Limits for DynamoLimits {
    async fn draw(&self, draw: &Draw<'_>) -> Result<Drawn, Unavailable> {
        let is_enough = |full_at| draw.bucket.draw(full_at, draw.tokens, draw.now).is_ok();
        if !is_enough(0) {
            return Ok(Drawn::Refused { full_at: draw.seen });
        }
        // Whoever is refused is told by the table until when.
        let mut seen = if is_enough(draw.seen) { draw.seen } else { 0 };
        for _ in 0..TRIES {
            match self.take(draw, seen).await? {
                Ok(full_at) => return Ok(Drawn::Taken { full_at }),
                Err(full_at) if !is_enough(full_at) => return Ok(Drawn::Refused { full_at }),
                Err(there) => seen = there,
            }
        }
        Err(self.table.unavailable(format!("the bucket was another one each of {TRIES} times")))
    }
}
