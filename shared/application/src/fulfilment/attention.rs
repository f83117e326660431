//! A step did not get done after all its tries: say so on the order, for a person to see.

use chrono::{DateTime, Utc};
use domain::order::{
    Attention, Course, Ending,
    flag::{FlagRejection, flag},
};

use super::{StepError, metadata};
use crate::{event_store::EventStore, event_stream::OrderStream, ports::FulfilmentInput};

/// Answers whether the order waits for a person. It does not when the step had done its work without anybody hearing of it,
/// and the order is where it is to be.
pub async fn flag_order(
    store: &impl EventStore,
    input: &FulfilmentInput,
    failed: &Attention,
    now: DateTime<Utc>,
) -> Result<bool, StepError> {
    let mut stream = OrderStream::open(store, input.order_id).await?;
    // One flag per execution and step: whichever goes on with the order may get stuck again, and an Express execution and the
    // Standard one that follows it have one name.
    let what = format!("of {} at {}", input.execution_name(), failed.step);
    let metadata = metadata(input, "flag-order", &what, now);
    stream
        .commit(&metadata, |order| match &order.course {
            // Its undoing, which is an execution of its own, looks after a cancelled order.
            Course::Undoing(_, _, Ending::Cancelled(_)) if !input.undo => Ok(vec![]),
            _ => flag(order, failed),
        })
        .await?;
    Ok(stream.order().attention.is_some())
}

impl From<FlagRejection> for StepError {
    fn from(FlagRejection: FlagRejection) -> Self {
        Self::UnknownOrder
    }
}
