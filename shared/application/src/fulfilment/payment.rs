//! Charge the customer; its undo gives the money back.

use chrono::{DateTime, Utc};
use domain::order::{
    Course, SkippableStep,
    record_payment::{record_no_payment, record_payment, record_payment_failure},
    record_refund::record_refund,
};

use super::{PROCESS_PAYMENT, StepError, charge_key, metadata, outcome, staff_refunds::issue_open_refunds, work_id};
use crate::{
    event_store::{EventStore, Unavailable},
    event_stream::OrderStream,
    ports::{
        CancelChargeError, ChargeCancellation, ChargeError, ChargeRequest, Declines, FulfilmentInput, Payments,
        ProviderError, Providers,
    },
};

const UNDO: &str = "refund-payment";

pub async fn process_payment(
    store: &impl EventStore,
    payments: &impl Providers<Provider: Payments>,
    declines: &impl Declines,
    input: &FulfilmentInput,
    now: DateTime<Utc>,
) -> Result<(), StepError> {
    let metadata = |outcome| metadata(input, PROCESS_PAYMENT, outcome, now);
    let mut stream = OrderStream::open(store, input.order_id).await?;
    match &stream.order().course {
        Course::Created(_) => return Err(StepError::TooEarly),
        Course::Reserved(placed, _) if placed.costs_nothing() => {
            stream.commit(&metadata("not required"), record_no_payment).await?;
        }
        Course::Reserved(placed, _) => {
            let request = ChargeRequest {
                idempotency_key: charge_key(input.order_id),
                order_id: input.order_id,
                customer_id: placed.customer_id.clone(),
                payment_method: placed.payment_method.clone(),
                amount: placed.total_amount,
            };
            match payments.of(&placed.providers.payments)?.charge(&request).await {
                Ok(payment) => {
                    stream.commit(&metadata("paid"), |order| record_payment(order, &payment)).await?;
                }
                Err(ChargeError::Declined(code)) => {
                    let metadata = metadata("declined");
                    let recorded = stream.commit(&metadata, |order| record_payment_failure(order, &code)).await?;
                    // Once for an order, however often the step runs.
                    if !recorded.replayed {
                        declines.declined(&request.customer_id, now).await;
                    }
                }
                // Only the undoing cancels a charge; loading the order again says why it is undone.
                Err(ChargeError::Cancelled) => stream = OrderStream::open(store, input.order_id).await?,
                Err(ChargeError::KeyReused) => return Err(StepError::RequestRefused),
                Err(ChargeError::Unavailable(error)) => return Err(error.into()),
            }
        }
        _ => {}
    }
    match &stream.order().course {
        Course::Reserved(..) => Err(StepError::RequestRefused),
        _ => outcome(stream.order()),
    }
}

/// Undoes [`process_payment`]. Asks the provider also when no payment is recorded: a call that timed out may have
/// charged all the same, or may still be on its way. What staff had requested before goes first, so that what is left is
/// known.
pub async fn refund_payment(
    store: &impl EventStore,
    payments: &impl Providers<Provider: Payments>,
    input: &FulfilmentInput,
    now: DateTime<Utc>,
) -> Result<(), StepError> {
    let mut stream = OrderStream::open(store, input.order_id).await?;
    // An order that has ended is not undone again: by then every undo is done, or somebody answers for it.
    if stream.order().course.held()?.is_none_or(|held| held.is_skipped(SkippableStep::RefundPayment)) {
        return Ok(());
    }
    let Some(placed) = stream.order().course.placed().filter(|placed| !placed.costs_nothing()) else { return Ok(()) };
    let payments = payments.of(&placed.providers.payments)?;
    let total = placed.total_amount;
    issue_open_refunds(&mut stream, payments, input, now).await?;
    let cancellation = ChargeCancellation {
        order_id: input.order_id,
        charge_key: charge_key(input.order_id),
        refund_key: work_id(input.order_id, UNDO),
    };
    let refunded = payments.cancel_charge(&cancellation).await?;
    if let Some((payment, refund)) = &refunded {
        // With less, the order would close as if all had come back.
        let left = stream.order().left_of(payment).ok();
        if payment.amount != total || left != Some(refund.amount) {
            let problem = "is not what is left of the order's payment".to_owned();
            let source = ProviderError::Misbehaved { field: "given_back", problem }.into();
            return Err(Unavailable { what: "the payment provider", source }.into());
        }
    }
    stream.commit(&metadata(input, UNDO, "refunded", now), |order| record_refund(order, refunded.as_ref())).await?;
    // The provider says that nothing is left, and the order does not know where it went: a person has to look.
    if stream.order().holds_payment() { Err(StepError::StillHeld) } else { Ok(()) }
}

impl From<CancelChargeError> for StepError {
    fn from(error: CancelChargeError) -> Self {
        match error {
            CancelChargeError::Refused(_) => Self::RequestRefused,
            CancelChargeError::Unavailable(error) => error.into(),
        }
    }
}
