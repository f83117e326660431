use std::time::Duration;

use application::{
    ports::{
        CancelChargeError, ChargeCancellation, ChargeError, ChargeRequest, LedgerEntry, Payments, RefundError,
        RefundRequest,
    },
    sandbox::Sandbox,
};
use domain::{
    ids::{CustomerId, PaymentMethod, TransactionId},
    money::Money,
    order::{Payment, Refund},
};
use providers::contract::wire::{self, cancel_charge_response, charge_response, ledger_entry, refund_response};

use super::{Answers, Failure, key, money, order_id, refused, written};
use crate::Reference;

impl Answers<wire::ChargeRequest> for Reference {
    fn delay(asked: &wire::ChargeRequest) -> Option<Duration> {
        let payment_method = PaymentMethod::parse(&asked.payment_method).ok()?;
        Sandbox::Misbehaving.charge_delay(&payment_method)
    }

    async fn answer(&self, asked: wire::ChargeRequest) -> Result<wire::ChargeResponse, Failure> {
        let request = ChargeRequest {
            idempotency_key: key("idempotency_key", &asked.idempotency_key)?,
            order_id: order_id(&asked.order_id)?,
            customer_id: CustomerId::parse(&asked.customer_id).map_err(|_| Failure::Invalid("customer_id"))?,
            payment_method: PaymentMethod::parse(&asked.payment_method)
                .map_err(|_| Failure::Invalid("payment_method"))?,
            amount: money("amount", asked.amount)?,
        };
        let outcome = match self.payments.charge(&request).await {
            Ok(payment) => charge_response::Outcome::Charged(charged(payment)),
            Err(ChargeError::Declined(reason)) => charge_response::Outcome::Declined(wire::Declined { reason }),
            Err(ChargeError::KeyReused) => charge_response::Outcome::KeyReused(wire::KeyReused {}),
            Err(ChargeError::Cancelled) => charge_response::Outcome::Cancelled(wire::ChargeCancelled {}),
            Err(ChargeError::Unavailable(error)) => return Err(error.into()),
        };
        Ok(wire::ChargeResponse { outcome: Some(outcome) })
    }
}

impl Answers<wire::CancelChargeRequest> for Reference {
    async fn answer(&self, asked: wire::CancelChargeRequest) -> Result<wire::CancelChargeResponse, Failure> {
        let cancellation = ChargeCancellation {
            order_id: order_id(&asked.order_id)?,
            charge_key: key("charge_key", &asked.charge_key)?,
            refund_key: key("refund_key", &asked.refund_key)?,
        };
        let outcome = match self.payments.cancel_charge(&cancellation).await {
            Ok(Some((charge, refund))) => cancel_charge_response::Outcome::GivenBack(wire::GivenBack {
                charge: Some(charged(charge)),
                refund: Some(refunded(refund)),
            }),
            Ok(None) => cancel_charge_response::Outcome::NothingLeft(wire::NothingLeft {}),
            Err(CancelChargeError::Refused(reason)) => cancel_charge_response::Outcome::Refused(refused(reason)),
            Err(CancelChargeError::Unavailable(error)) => return Err(error.into()),
        };
        Ok(wire::CancelChargeResponse { outcome: Some(outcome) })
    }
}

impl Answers<wire::RefundRequest> for Reference {
    async fn answer(&self, asked: wire::RefundRequest) -> Result<wire::RefundResponse, Failure> {
        let request = RefundRequest {
            idempotency_key: key("idempotency_key", &asked.idempotency_key)?,
            order_id: order_id(&asked.order_id)?,
            charge_key: key("charge_key", &asked.charge_key)?,
            amount: money("amount", asked.amount)?,
        };
        let outcome = match self.payments.refund(&request).await {
            Ok(refund) => refund_response::Outcome::Refunded(refunded(refund)),
            Err(RefundError::NoCharge) => refund_response::Outcome::NoCharge(wire::NoCharge {}),
            Err(RefundError::TooMuch) => refund_response::Outcome::TooMuch(wire::TooMuch {}),
            Err(RefundError::KeyReused) => refund_response::Outcome::KeyReused(wire::KeyReused {}),
            Err(RefundError::Refused(reason)) => refund_response::Outcome::Refused(refused(reason)),
            Err(RefundError::Unavailable(error)) => return Err(error.into()),
        };
        Ok(wire::RefundResponse { outcome: Some(outcome) })
    }
}

impl Answers<wire::GetRefundRequest> for Reference {
    async fn answer(&self, asked: wire::GetRefundRequest) -> Result<wire::GetRefundResponse, Failure> {
        let refund_key = key("refund_key", &asked.refund_key)?;
        let refund = self.payments.refunded(order_id(&asked.order_id)?, refund_key).await?;
        Ok(wire::GetRefundResponse { refund: refund.map(refunded) })
    }
}

impl Answers<wire::GetLedgerRequest> for Reference {
    async fn answer(&self, asked: wire::GetLedgerRequest) -> Result<wire::GetLedgerResponse, Failure> {
        let ledger = self.payments.ledger(order_id(&asked.order_id)?).await?;
        let entry = |entry| wire::LedgerEntry {
            entry: Some(match entry {
                LedgerEntry::Charged(id, amount) => ledger_entry::Entry::Charged(booking(id, amount)),
                LedgerEntry::Declined(reason) => ledger_entry::Entry::Declined(wire::Declined { reason }),
                LedgerEntry::Cancelled => ledger_entry::Entry::Cancelled(wire::ChargeCancelled {}),
                LedgerEntry::Refunded(id, amount) => ledger_entry::Entry::Refunded(booking(id, amount)),
            }),
        };
        Ok(wire::GetLedgerResponse { entries: ledger.into_iter().map(entry).collect() })
    }
}

fn charged(payment: Payment) -> wire::Payment {
    wire::Payment {
        transaction_id: payment.transaction_id.0,
        amount: Some(payment.amount.into()),
        processed_at: written(payment.processed_at),
    }
}

fn refunded(refund: Refund) -> wire::IssuedRefund {
    wire::IssuedRefund {
        transaction_id: refund.transaction_id.0,
        amount: Some(refund.amount.into()),
        processed_at: written(refund.processed_at),
    }
}

fn booking(TransactionId(transaction_id): TransactionId, amount: Money) -> wire::Booking {
    wire::Booking { transaction_id, amount: Some(amount.into()) }
}
