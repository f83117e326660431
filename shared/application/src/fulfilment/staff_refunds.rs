//! Give back what staff have requested. Each refund ends completed or failed; one that is neither after all its tries is
//! flagged.

use chrono::{DateTime, Utc};
use domain::{
    ids::OrderId,
    order::{
        FailedRefund, Order, RequestedRefund,
        record_staff_refund::{StaffRefundRejection, record_staff_refund, record_staff_refund_failure},
    },
};

use super::{StepError, metadata, payment::charge_key, work_id};
use crate::{
    event_store::{EventStore, Metadata, Unavailable},
    event_stream::OrderStream,
    ports::{FulfilmentInput, Payments, RefundError, RefundRequest},
};

const STEP: &str = "issue-refund";

/// Issues every refund of the order that is still open, in the order in which they were requested.
pub async fn issue_refund(
    store: &impl EventStore,
    payments: &impl Payments,
    input: &FulfilmentInput,
    now: DateTime<Utc>,
) -> Result<(), StepError> {
    let mut stream = OrderStream::open(store, input.order_id).await?;
    if stream.version() == 0 {
        return Err(StepError::UnknownOrder);
    }
    issue_open_refunds(&mut stream, payments, input, now).await
}

/// Whether the provider has made one of the order's open refunds, which then only has to be recorded.
pub async fn is_any_made(payments: &impl Payments, order_id: OrderId, order: &Order) -> Result<bool, Unavailable> {
    for open in order.open_refunds() {
        if payments.refunded(order_id, open.refund_id.0).await?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The key of a refund is its id, so whoever issues it, it is issued once.
pub(super) async fn issue_open_refunds<S: EventStore>(
    stream: &mut OrderStream<'_, S>,
    payments: &impl Payments,
    input: &FulfilmentInput,
    now: DateTime<Utc>,
) -> Result<(), StepError> {
    let open: Vec<RequestedRefund> = stream.order().open_refunds().cloned().collect();
    for RequestedRefund { refund_id, amount, .. } in open {
        let request = RefundRequest {
            idempotency_key: refund_id.0,
            order_id: input.order_id,
            charge_key: charge_key(input.order_id),
            amount,
        };
        let reason = match payments.refund(&request).await {
            Ok(refund) => {
                let metadata = settlement(input, &request, now);
                stream.commit(&metadata, |order| record_staff_refund(order, refund_id, &refund)).await?;
                continue;
            }
            Err(RefundError::NoCharge) => "no_charge",
            // The undoing of a cancelled order has given the rest back first.
            Err(RefundError::TooMuch) => "too_much",
            Err(RefundError::KeyReused) => "key_reused",
            Err(RefundError::Unavailable(error)) => return Err(error.into()),
        };
        let failed = FailedRefund { refund_id, amount, reason: reason.to_owned() };
        let metadata = settlement(input, &request, now);
        stream.commit(&metadata, |order| record_staff_refund_failure(order, &failed)).await?;
    }
    Ok(())
}

/// One command for each refund, whichever execution issues it.
fn settlement(input: &FulfilmentInput, request: &RefundRequest, now: DateTime<Utc>) -> Metadata {
    let mut metadata = metadata(input, STEP, now);
    metadata.command_id = work_id(input.order_id, &format!("{STEP} {}", request.idempotency_key));
    metadata
}

impl From<StaffRefundRejection> for StepError {
    fn from(rejection: StaffRefundRejection) -> Self {
        Self::BrokenHistory(rejection.into())
    }
}
