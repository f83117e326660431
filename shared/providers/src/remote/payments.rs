use application::{
    event_store::Unavailable,
    ports::{
        CancelChargeError, ChargeCancellation, ChargeError, ChargeRequest, LedgerEntry, Payments, ProviderError,
        RefundError, RefundRequest,
    },
};
use domain::{
    ids::{OrderId, TransactionId},
    money::Money,
    order::{Payment, Refund},
};
use uuid::Uuid;

use super::Remote;
use crate::{
    checks::{at_most, id, misbehaved, money, present, same_money, time, word},
    contract::wire::{self, cancel_charge_response, charge_response, ledger_entry, refund_response},
};

const ENTRIES_MAX: usize = 1_000;

impl Payments for Remote {
    async fn charge(&self, request: &ChargeRequest) -> Result<Payment, ChargeError> {
        let asked = wire::ChargeRequest {
            idempotency_key: request.idempotency_key.to_string(),
            order_id: request.order_id.to_string(),
            customer_id: request.customer_id.to_string(),
            payment_method: request.payment_method.to_string(),
            amount: Some(request.amount.into()),
        };
        let read = |answer: wire::ChargeResponse| {
            Ok(match present("outcome", answer.outcome)? {
                charge_response::Outcome::Charged(payment) => {
                    same_money("charged.amount", payment.amount.clone(), request.amount)?;
                    Ok(charged(payment)?)
                }
                charge_response::Outcome::Declined(declined) => {
                    Err(ChargeError::Declined(word("declined.reason", declined.reason)?))
                }
                charge_response::Outcome::KeyReused(_) => Err(ChargeError::KeyReused),
                charge_response::Outcome::Cancelled(_) => Err(ChargeError::Cancelled),
            })
        };
        self.call(asked, read).await?
    }

    async fn cancel_charge(
        &self,
        cancellation: &ChargeCancellation,
    ) -> Result<Option<(Payment, Refund)>, CancelChargeError> {
        let asked = wire::CancelChargeRequest {
            order_id: cancellation.order_id.to_string(),
            charge_key: cancellation.charge_key.to_string(),
            refund_key: cancellation.refund_key.to_string(),
        };
        let read = |answer: wire::CancelChargeResponse| {
            Ok(match present("outcome", answer.outcome)? {
                cancel_charge_response::Outcome::GivenBack(wire::GivenBack { charge, refund }) => {
                    let charge = charged(present("given_back.charge", charge)?)?;
                    let refund = refunded(present("given_back.refund", refund)?)?;
                    if charge.amount.minus(refund.amount).is_err() || refund.amount.amount() == 0 {
                        return Err(misbehaved("given_back.refund.amount", "is not a part of the charge"));
                    }
                    Ok(Some((charge, refund)))
                }
                cancel_charge_response::Outcome::NothingLeft(_) => Ok(None),
                cancel_charge_response::Outcome::Refused(refused) => {
                    Err(CancelChargeError::Refused(word("refused.reason", refused.reason)?))
                }
            })
        };
        self.call(asked, read).await?
    }

    async fn refund(&self, request: &RefundRequest) -> Result<Refund, RefundError> {
        let asked = wire::RefundRequest {
            idempotency_key: request.idempotency_key.to_string(),
            order_id: request.order_id.to_string(),
            charge_key: request.charge_key.to_string(),
            amount: Some(request.amount.into()),
        };
        let read = |answer: wire::RefundResponse| {
            Ok(match present("outcome", answer.outcome)? {
                refund_response::Outcome::Refunded(refund) => {
                    same_money("refunded.amount", refund.amount.clone(), request.amount)?;
                    Ok(refunded(refund)?)
                }
                refund_response::Outcome::NoCharge(_) => Err(RefundError::NoCharge),
                refund_response::Outcome::TooMuch(_) => Err(RefundError::TooMuch),
                refund_response::Outcome::KeyReused(_) => Err(RefundError::KeyReused),
                refund_response::Outcome::Refused(refused) => {
                    Err(RefundError::Refused(word("refused.reason", refused.reason)?))
                }
            })
        };
        self.call(asked, read).await?
    }

    async fn refunded(&self, order_id: OrderId, refund_key: Uuid) -> Result<Option<Refund>, Unavailable> {
        let asked = wire::GetRefundRequest { order_id: order_id.to_string(), refund_key: refund_key.to_string() };
        self.call(asked, |answer| answer.refund.map(refunded).transpose()).await
    }

    async fn ledger(&self, order_id: OrderId) -> Result<Vec<LedgerEntry>, Unavailable> {
        let asked = wire::GetLedgerRequest { order_id: order_id.to_string() };
        let read = |answer: wire::GetLedgerResponse| {
            at_most("entries", answer.entries, ENTRIES_MAX)?.into_iter().map(entry).collect()
        };
        self.call(asked, read).await
    }
}

fn charged(wire::Payment { transaction_id, amount, processed_at }: wire::Payment) -> Result<Payment, ProviderError> {
    Ok(Payment {
        transaction_id: TransactionId(id("charge.transaction_id", transaction_id)?),
        amount: money("charge.amount", amount)?,
        processed_at: time("charge.processed_at", &processed_at)?,
    })
}

fn refunded(
    wire::IssuedRefund { transaction_id, amount, processed_at }: wire::IssuedRefund,
) -> Result<Refund, ProviderError> {
    Ok(Refund {
        transaction_id: TransactionId(id("refund.transaction_id", transaction_id)?),
        amount: money("refund.amount", amount)?,
        processed_at: time("refund.processed_at", &processed_at)?,
    })
}

fn entry(wire::LedgerEntry { entry }: wire::LedgerEntry) -> Result<LedgerEntry, ProviderError> {
    let booking = |wire::Booking { transaction_id, amount }| -> Result<(TransactionId, Money), ProviderError> {
        Ok((TransactionId(id("entries.transaction_id", transaction_id)?), money("entries.amount", amount)?))
    };
    Ok(match present("entries.entry", entry)? {
        ledger_entry::Entry::Charged(of) => booking(of).map(|(id, amount)| LedgerEntry::Charged(id, amount))?,
        ledger_entry::Entry::Declined(declined) => LedgerEntry::Declined(word("entries.reason", declined.reason)?),
        ledger_entry::Entry::Cancelled(_) => LedgerEntry::Cancelled,
        ledger_entry::Entry::Refunded(of) => booking(of).map(|(id, amount)| LedgerEntry::Refunded(id, amount))?,
    })
}
