//! The payment provider.

use domain::{
    ids::{CustomerId, OrderId, PaymentMethod, TransactionId},
    money::Money,
    order::{Payment, Refund},
};
use uuid::Uuid;

use crate::event_store::Unavailable;

/// Ask for this much money, once per key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChargeRequest {
    pub idempotency_key: Uuid,
    pub order_id: OrderId,
    /// So that a provider can check that the means of payment is this customer's.
    pub customer_id: CustomerId,
    pub payment_method: PaymentMethod,
    pub amount: Money,
}

/// Why there is no charge.
#[derive(Debug, thiserror::Error)]
pub enum ChargeError {
    #[error("the payment was declined: {0}")]
    Declined(String),
    #[error("the idempotency key was used before, for another charge")]
    KeyReused,
    #[error("the charge was cancelled before it came")]
    Cancelled,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// See to it that a charge costs the customer nothing, whatever became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChargeCancellation {
    pub order_id: OrderId,
    /// The key of the charge.
    pub charge_key: Uuid,
    /// The key of the refund, should the charge have gone through.
    pub refund_key: Uuid,
}

/// Why a charge is neither given back nor barred.
#[derive(Debug, thiserror::Error)]
pub enum CancelChargeError {
    /// What refunds have left of the charge stays with the provider, and asking again is no use until somebody has acted:
    /// only a person can decide what becomes of it.
    #[error("the payment provider refused to give the charge back: {0}")]
    Refused(String),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Give this much of an order's charges back, once per key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundRequest {
    pub idempotency_key: Uuid,
    pub order_id: OrderId,
    /// The key of the charge that is refunded.
    pub charge_key: Uuid,
    pub amount: Money,
}

/// Why nothing is refunded.
#[derive(Debug, thiserror::Error)]
pub enum RefundError {
    #[error("no such charge went through")]
    NoCharge,
    #[error("more than what is left of the charge")]
    TooMuch,
    #[error("the idempotency key was used before, for another refund")]
    KeyReused,
    /// Asking again is no use until somebody has acted: only a person can decide what becomes of the refund.
    #[error("the payment provider refused the refund: {0}")]
    Refused(String),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// One line of an order's books as the payment provider keeps them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerEntry {
    Charged(TransactionId, Money),
    Declined(String),
    Cancelled,
    Refunded(TransactionId, Money),
}

/// The payment provider.
pub trait Payments: Send + Sync {
    /// MUST charge once per order and key: the same request again gets the first answer, a decline included; another request
    /// under the same key gets [`ChargeError::KeyReused`].
    fn charge(&self, request: &ChargeRequest) -> impl Future<Output = Result<Payment, ChargeError>> + Send;

    /// Gives back what refunds have left of the charge if it went through, and bars it if it has not come yet: a charge
    /// that comes late MUST then get [`ChargeError::Cancelled`]. Answers the charge and this refund; `None` when there was
    /// no charge, or nothing left of it. MUST have the same effect and answer however often it is asked.
    fn cancel_charge(
        &self,
        cancellation: &ChargeCancellation,
    ) -> impl Future<Output = Result<Option<(Payment, Refund)>, CancelChargeError>> + Send;

    /// MUST refund once per key, and never more in all than was charged. What is [`RefundError::TooMuch`] once MUST stay so:
    /// the same call again never refunds after all.
    fn refund(&self, request: &RefundRequest) -> impl Future<Output = Result<Refund, RefundError>> + Send;

    /// The refund under this key, if it was made: MUST be as it was answered then, with the amount that went back.
    fn refunded(
        &self,
        order_id: OrderId,
        refund_key: Uuid,
    ) -> impl Future<Output = Result<Option<Refund>, Unavailable>> + Send;

    /// Every charge, decline and refund of the order, in any order.
    fn ledger(&self, order_id: OrderId) -> impl Future<Output = Result<Vec<LedgerEntry>, Unavailable>> + Send;
}
