//! Says on the order that a step did not get done after all its tries, for a person to see.
//!
//! A step of the state machine: what it does is [`application::fulfilment::attention::flag_order`].

use adapters::{aws, dynamodb::DynamoEventStore, lambda};
use application::{fulfilment::attention::flag_order, ports::FulfilmentInput};
use aws_sdk_dynamodb::Client;
use domain::order::Attention;
use serde::{Deserialize, Serialize};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let client = Client::new(&aws::config());
    let store = DynamoEventStore::new(client, lambda::variable("EVENTS_TABLE")?)
        .with_snapshots(lambda::variable("SNAPSHOTS_TABLE")?);
    lambda::run_undo(async |Stuck { input, failed }, now| {
        let flagged = flag_order(&store, &input, &failed, now).await?;
        if flagged {
            lambda::order_needs_attention(input.order_id, &failed);
        }
        Ok(Flagged { flagged })
    })
    .await
}

/// What the state machine goes by: an execution fails, and with it the alarm rings, only when somebody is needed.
#[derive(Serialize)]
struct Flagged {
    flagged: bool,
}

/// What the state machine adds to the execution's input when a step is given up.
#[derive(Deserialize)]
struct Stuck {
    #[serde(flatten)]
    input: FulfilmentInput,
    failed: Attention,
}

impl AsMut<FulfilmentInput> for Stuck {
    fn as_mut(&mut self) -> &mut FulfilmentInput {
        &mut self.input
    }
}

impl AsRef<FulfilmentInput> for Stuck {
    fn as_ref(&self) -> &FulfilmentInput {
        &self.input
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_event_names_the_step_and_the_reason() {
        let stuck: Stuck = serde_json::from_str(include_str!("../../../events/flag-order.json")).unwrap();
        assert_eq!((stuck.failed.step.as_str(), stuck.failed.reason.as_str()), ("process-payment", "Unavailable"));
    }
}
