//! Give back what staff have requested. Each refund ends completed or failed; one that is neither after all its tries is
//! flagged.

use chrono::{DateTime, Utc};
use domain::{
    ids::RefundId,
    order::{
        FailedRefund, RefundState, RequestedRefund,
        record_staff_refund::{StaffRefundRejection, record_staff_refund, record_staff_refund_failure},
    },
};

use super::{StepError, charge_key, metadata};
use crate::{
    event_store::EventStore,
    event_stream::OrderStream,
    ports::{FulfilmentInput, Payments, Providers, RefundError, RefundRequest},
};

const STEP: &str = "issue-refund";

/// Issues every refund of the order that is still open, in the order in which they were requested.
pub async fn issue_refund(
    store: &impl EventStore,
    payments: &impl Providers<Provider: Payments>,
    input: &FulfilmentInput,
    now: DateTime<Utc>,
) -> Result<(), StepError> {
    let mut stream = OrderStream::open(store, input.order_id).await?;
    let placed = stream.order().course.placed().ok_or(StepError::UnknownOrder)?;
    let payments = payments.of(&placed.providers.payments)?;
    issue_open_refunds(&mut stream, payments, input, now).await
}

/// Records refunds that were given up, and that the provider has made all the same: their attempts were still on their way,
/// or nobody had heard of them.
async fn record_made_refunds<S: EventStore>(
    stream: &mut OrderStream<'_, S>,
    payments: &impl Payments,
    input: &FulfilmentInput,
    now: DateTime<Utc>,
) -> Result<(), StepError> {
    let failed = stream.order().refunds.iter().filter(|refund| refund.state == RefundState::Failed);
    let failed: Vec<RefundId> = failed.map(|refund| refund.requested.refund_id).collect();
    for refund_id in failed {
        if let Some(refund) = payments.refunded(input.order_id, refund_id.0).await? {
            let metadata = metadata(input, STEP, &format!("{refund_id} completed"), now);
            stream.commit(&metadata, |order| record_staff_refund(order, refund_id, &refund)).await?;
        }
    }
    Ok(())
}

/// The key of a refund is its id, so whoever issues it, it is issued once.
pub async fn issue_open_refunds<S: EventStore>(
    stream: &mut OrderStream<'_, S>,
    payments: &impl Payments,
    input: &FulfilmentInput,
    now: DateTime<Utc>,
) -> Result<(), StepError> {
    record_made_refunds(stream, payments, input, now).await?;
    let open: Vec<RequestedRefund> = stream.order().open_refunds().cloned().collect();
    for RequestedRefund { refund_id, amount, .. } in open {
        let request = RefundRequest {
            idempotency_key: refund_id.0,
            order_id: input.order_id,
            charge_key: charge_key(input.order_id),
            amount,
        };
        let metadata = |outcome| metadata(input, STEP, &format!("{refund_id} {outcome}"), now);
        let reason = match payments.refund(&request).await {
            Ok(refund) => {
                let metadata = metadata("completed");
                stream.commit(&metadata, |order| record_staff_refund(order, refund_id, &refund)).await?;
                continue;
            }
            Err(RefundError::NoCharge) => "no_charge",
            // The undoing of a cancelled order has given the rest back first.
            Err(RefundError::TooMuch) => "too_much",
            Err(RefundError::KeyReused) => "key_reused",
            // It may be made yet, so the refund stays open until a person has decided.
            Err(RefundError::Refused(_)) => return Err(StepError::RequestRefused),
            Err(RefundError::Unavailable(error)) => return Err(error.into()),
        };
        let failed = FailedRefund { refund_id, amount, reason: reason.to_owned() };
        stream.commit(&metadata("failed"), |order| record_staff_refund_failure(order, &failed)).await?;
    }
    Ok(())
}

impl From<StaffRefundRejection> for StepError {
    fn from(rejection: StaffRefundRejection) -> Self {
        Self::BrokenHistory(rejection.into())
    }
}
