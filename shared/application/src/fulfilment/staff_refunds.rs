//! Give back what staff have requested. Each refund ends completed or failed; one that is neither after all its tries is
//! flagged.

use chrono::{DateTime, Utc};
use domain::{
    ids::{OrderId, RefundId},
    money::Money,
    order::{
        FailedRefund, Refund, RefundState, RequestedRefund,
        record_staff_refund::{StaffRefundRejection, record_staff_refund, record_staff_refund_failure},
    },
};

use super::{StepError, charge_key, metadata};
use crate::{
    event_store::{EventStore, Unavailable},
    event_stream::OrderStream,
    ports::{FulfilmentInput, Payments, ProviderError, Providers, RefundError, RefundRequest},
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
    let total = stream.order().course.placed().ok_or(StepError::UnknownOrder)?.total_amount;
    let failed = stream.order().refunds.iter().filter(|refund| refund.state == RefundState::Failed);
    let failed: Vec<RefundId> = failed.map(|refund| refund.requested.refund_id).collect();
    for refund_id in failed {
        if let Some(refund) = made_refund(payments, input.order_id, refund_id, total).await? {
            let metadata = metadata(input, STEP, &format!("{refund_id} completed"), now);
            stream.commit(&metadata, |order| record_staff_refund(order, refund_id, &refund)).await?;
        }
    }
    Ok(())
}

/// What the provider has made of a refund, which need not be what was asked for, but is a part of what the order has cost.
pub async fn made_refund(
    payments: &impl Payments,
    order_id: OrderId,
    refund_id: RefundId,
    total: Money,
) -> Result<Option<Refund>, Unavailable> {
    let refund = payments.refunded(order_id, refund_id.0).await?;
    match refund.as_ref().map(|refund| refund.amount) {
        Some(amount) if amount.amount() == 0 || total.minus(amount).is_err() => {
            let problem = "is not a part of the order's payment".to_owned();
            let source = ProviderError::Misbehaved { field: "refund.amount", problem }.into();
            Err(Unavailable { what: "the payment provider", source })
        }
        Some(_) | None => Ok(refund),
    }
}

/// The key of a refund is its id, so whoever issues it, it is issued once.
pub async fn issue_open_refunds<S: EventStore>(
    stream: &mut OrderStream<'_, S>,
    payments: &impl Payments,
    input: &FulfilmentInput,
    now: DateTime<Utc>,
) -> Result<(), StepError> {
    record_made_refunds(stream, payments, input, now).await?;
    let total = stream.order().course.placed().ok_or(StepError::UnknownOrder)?.total_amount;
    let open: Vec<RequestedRefund> = stream.order().open_refunds().cloned().collect();
    for RequestedRefund { refund_id, amount, .. } in open {
        let request = RefundRequest {
            idempotency_key: refund_id.0,
            order_id: input.order_id,
            charge_key: charge_key(input.order_id),
            amount,
        };
        let metadata = |outcome| metadata(input, STEP, &format!("{refund_id} {outcome}"), now);
        let outcome = match payments.refund(&request).await {
            Ok(refund) => Ok(refund),
            Err(RefundError::NoCharge) => Err("no_charge"),
            // The undoing of a cancelled order has given the rest back first.
            Err(RefundError::TooMuch) => Err("too_much"),
            // Another amount has gone back under this key, and a restore has lost who had asked for it. Were this one a failure, it
            // would be requested once more, and given back besides.
            Err(RefundError::KeyReused) => {
                made_refund(payments, input.order_id, refund_id, total).await?.ok_or("key_reused")
            }
            // It may be made yet, so the refund stays open until a person has decided.
            Err(RefundError::Refused(_)) => return Err(StepError::RequestRefused),
            Err(RefundError::Unavailable(error)) => return Err(error.into()),
        };
        let reason = match outcome {
            Ok(refund) => {
                let metadata = metadata("completed");
                stream.commit(&metadata, |order| record_staff_refund(order, refund_id, &refund)).await?;
                continue;
            }
            Err(reason) => reason,
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

#[cfg(test)]
mod tests {
    use domain::{
        ids::{CustomerId, PaymentMethod},
        money::Currency,
        order::skip::LASTING,
    };
    use uuid::Uuid;

    use super::*;
    use crate::{memory::MemoryPayments, ports::ChargeRequest};

    fn money(amount: u64, currency: &str) -> Money {
        Money::new(amount, Currency::parse(currency).unwrap()).unwrap()
    }

    /// What is recorded of a refund is never taken back, so what makes no sense is not recorded.
    #[tokio::test]
    async fn a_refund_is_a_part_of_what_the_order_has_cost() {
        let (payments, refund_id) = (MemoryPayments::default(), RefundId(Uuid::from_u128(2)));
        let order_id = OrderId::new(Uuid::from_u128(1));
        let charge = ChargeRequest {
            idempotency_key: Uuid::from_u128(1),
            order_id,
            customer_id: CustomerId::parse("anna").unwrap(),
            payment_method: PaymentMethod::default(),
            amount: money(100, "CNY"),
        };
        payments.charge(&charge).await.unwrap();
        assert_eq!(made_refund(&payments, order_id, refund_id, money(100, "CNY")).await.unwrap(), None);
        let request = RefundRequest {
            idempotency_key: refund_id.0,
            order_id,
            charge_key: charge.idempotency_key,
            amount: money(70, "CNY"),
        };
        let made = payments.refund(&request).await.unwrap();
        assert_eq!(made_refund(&payments, order_id, refund_id, money(70, "CNY")).await.unwrap(), Some(made));
        for total in [money(69, "CNY"), money(100, "EUR")] {
            let error = StepError::from(made_refund(&payments, order_id, refund_id, total).await.unwrap_err());
            assert_eq!(error.error_type(), "ProviderMisbehaved");
        }
    }

    #[test]
    fn what_lasts_is_named_as_steps_name_it() {
        let problem = String::new();
        let source = ProviderError::Misbehaved { field: "refund.amount", problem }.into();
        let misbehaved = StepError::from(Unavailable { what: "the payment provider", source });
        let lasting = [misbehaved, StepError::RequestRefused, StepError::StillHeld];
        assert_eq!(lasting.map(|error| error.error_type()), LASTING);
    }
}
