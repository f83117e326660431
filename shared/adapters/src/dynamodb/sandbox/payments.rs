//! The built-in payment provider: a ledger of charges and refunds per order.

use std::collections::HashMap;

use application::{
    event_store::Unavailable,
    ports::{
        CancelChargeError, ChargeCancellation, ChargeError, ChargeRequest, LedgerEntry, Payments, RefundError,
        RefundRequest,
    },
    sandbox::{self, Sandbox},
};
use aws_sdk_dynamodb::{
    Client,
    types::{Put, ReturnValue, TransactWriteItem, Update},
};
use chrono::{DateTime, Utc};
use domain::{
    ids::{CustomerId, OrderId, PaymentMethod, TransactionId},
    money::{Currency, Money},
    order::{Payment, Refund},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::dynamodb::{Backoff, Item, Table, Transacted, number, text};
#[derive(Clone)]
pub struct DynamoPayments {
    table: Table,
    sandbox: Sandbox,
}

impl DynamoPayments {
    pub fn new(client: Client, table: String) -> Self {
        let table = Table {
            client,
            name: table,
            partition_key: "order_id",
            sort_key: Some("entry"),
            what: "the payment provider",
        };
        Self { table, sandbox: Sandbox::Strict }
    }

    /// Strict without this.
    #[must_use]
    pub fn with_sandbox(self, sandbox: Sandbox) -> Self {
        Self { sandbox, ..self }
    }

    fn money(&self, amount: u64, currency: Currency) -> Result<Money, Unavailable> {
        Money::new(amount, currency).map_err(|error| self.table.unavailable(error))
    }
}

impl Payments for DynamoPayments {
    async fn charge(&self, request: &ChargeRequest) -> Result<Payment, ChargeError> {
        if let Some(delay) = self.sandbox.charge_delay(&request.payment_method) {
            tokio::time::sleep(delay).await;
        }
        let failures = self.sandbox.charge_failures(&request.payment_method);
        self.fail_first(request.order_id, request.idempotency_key, failures).await?;
        let row = ChargeRow::new(request, self.sandbox.decline_code(&request.payment_method), Utc::now());
        let first = match self.table.put_new(&row).await? {
            Some(first) => first,
            None if self.sandbox.charge_times_out(&request.payment_method) => {
                return Err(self.table.unavailable(sandbox::ASKED_TO_FAIL).into());
            }
            None => row,
        };
        match first.outcome {
            Outcome::Cancelled => Err(ChargeError::Cancelled),
            Outcome::Completed { asked, .. } | Outcome::Declined { asked, .. } if !asked.is(request) => {
                Err(ChargeError::KeyReused)
            }
            Outcome::Declined { decline_code, .. } => Err(ChargeError::Declined(decline_code)),
            Outcome::Completed { asked, transaction_id, .. } => Ok(Payment {
                transaction_id,
                amount: self.money(asked.amount, asked.currency)?,
                processed_at: first.processed_at,
            }),
        }
    }

    async fn cancel_charge(
        &self,
        cancellation: &ChargeCancellation,
    ) -> Result<Option<(Payment, Refund)>, CancelChargeError> {
        let ChargeCancellation { order_id, charge_key, refund_key } = *cancellation;
        let mut backoff = Backoff::new();
        loop {
            let (charge, refund) = self.entries(order_id, charge_key, refund_key).await?;
            let Some(ChargeRow { processed_at, outcome, .. }) = charge else {
                let barred = ChargeRow::cancelled(order_id, charge_key, Utc::now());
                if self.table.put_new(&barred).await?.is_none() {
                    return Ok(None);
                }
                // It has come meanwhile, and stays.
                backoff.pause().await.map_err(|error| self.table.unavailable(error))?;
                continue;
            };
            let Outcome::Completed { asked, transaction_id, refundable } = outcome else { return Ok(None) };
            let payment = Payment { transaction_id, amount: self.money(asked.amount, asked.currency)?, processed_at };
            if let Some(refund) = refund {
                return Ok(Some((payment, self.refund_of(refund)?)));
            }
            let amount = self.money(refundable, asked.currency)?;
            if amount.amount() == 0 {
                return Ok(None);
            }
            if let Some(code) = self.sandbox.refund_refusal(&asked.payment_method) {
                return Err(CancelChargeError::Refused(code.to_owned()));
            }
            self.fail_first(order_id, refund_key, self.sandbox.refund_failures(&asked.payment_method)).await?;
            let request = RefundRequest { idempotency_key: refund_key, order_id, charge_key, amount };
            if let Some(refund) = self.make(&request).await? {
                return Ok(Some((payment, refund)));
            }
            backoff.pause().await.map_err(|error| self.table.unavailable(error))?;
        }
    }

    async fn refund(&self, request: &RefundRequest) -> Result<Refund, RefundError> {
        let mut backoff = Backoff::new();
        loop {
            let (charge, earlier) = self.entries(request.order_id, request.charge_key, request.idempotency_key).await?;
            if let Some(earlier) = earlier {
                return if earlier.is_for(request) {
                    Ok(self.refund_of(earlier)?)
                } else {
                    Err(RefundError::KeyReused)
                };
            }
            let Some(ChargeRow { outcome: Outcome::Completed { asked, refundable, .. }, .. }) = charge else {
                return Err(RefundError::NoCharge);
            };
            if asked.currency != request.amount.currency() || refundable < request.amount.amount() {
                return Err(RefundError::TooMuch);
            }
            if let Some(code) = self.sandbox.refund_refusal(&asked.payment_method) {
                return Err(RefundError::Refused(code.to_owned()));
            }
            let failures = self.sandbox.refund_failures(&asked.payment_method);
            self.fail_first(request.order_id, request.idempotency_key, failures).await?;
            if let Some(refund) = self.make(request).await? {
                return Ok(refund);
            }
            backoff.pause().await.map_err(|error| self.table.unavailable(error))?;
        }
    }

    async fn refunded(&self, order_id: OrderId, refund_key: Uuid) -> Result<Option<Refund>, Unavailable> {
        let row: Option<RefundRow> = self.table.get(key(order_id, &refund_entry(refund_key))).await?;
        row.map(|row| self.refund_of(row)).transpose()
    }

    async fn ledger(&self, order_id: OrderId) -> Result<Vec<LedgerEntry>, Unavailable> {
        let items: Vec<EntryRow> = self.table.rows(&order_id.to_string(), None).await?;
        items
            .into_iter()
            .filter_map(|entry| match entry {
                EntryRow::Refund(refund) => {
                    let amount = self.money(refund.amount, refund.currency);
                    Some(amount.map(|amount| LedgerEntry::Refunded(refund.transaction_id, amount)))
                }
                EntryRow::Charge(charge) => Some(match charge.outcome {
                    Outcome::Completed { asked, transaction_id, .. } => {
                        let amount = self.money(asked.amount, asked.currency);
                        amount.map(|amount| LedgerEntry::Charged(transaction_id, amount))
                    }
                    Outcome::Declined { decline_code, .. } => Ok(LedgerEntry::Declined(decline_code)),
                    Outcome::Cancelled => Ok(LedgerEntry::Cancelled),
                }),
                EntryRow::Attempts(_) => None,
            })
            .collect()
    }
}

impl DynamoPayments {
    fn refund_of(&self, row: RefundRow) -> Result<Refund, Unavailable> {
        let amount = self.money(row.amount, row.currency)?;
        Ok(Refund { transaction_id: row.transaction_id, amount, processed_at: row.processed_at })
    }

    /// Fails as often as this under the key, then never again. The calls are counted where every caller sees them.
    async fn fail_first(&self, order_id: OrderId, asked_under: Uuid, failures: u64) -> Result<(), Unavailable> {
        if failures == 0 {
            return Ok(());
        }
        let counted = self
            .table
            .client
            .update_item()
            .table_name(&self.table.name)
            .set_key(Some(key(order_id, &format!("attempts#{asked_under}"))))
            .update_expression("ADD attempts :one")
            .expression_attribute_values(":one", number(1_u64))
            .return_values(ReturnValue::UpdatedNew)
            .send()
            .await
            .map_err(|error| self.table.unavailable(error))?;
        let Attempts { attempts } = self.table.row(counted.attributes.unwrap_or_default())?;
        if attempts > failures { Ok(()) } else { Err(self.table.unavailable(sandbox::ASKED_TO_FAIL)) }
    }

    /// A charge and a refund of it at one moment: what is missing in the one may have gone to the other.
    async fn entries(
        &self,
        order_id: OrderId,
        charge_key: Uuid,
        refund_key: Uuid,
    ) -> Result<(Option<ChargeRow>, Option<RefundRow>), Unavailable> {
        let keys = vec![key(order_id, &charge_entry(charge_key)), key(order_id, &refund_entry(refund_key))];
        let mut items = self.table.at_one_moment(keys).await?.into_iter();
        let charge = items.next().flatten().map(|item| self.table.row(item)).transpose()?;
        let refund = items.next().flatten().map(|item| self.table.row(item)).transpose()?;
        Ok((charge, refund))
    }

    /// Makes the refund; `None` when the entries are not what they were any more, or others are at them.
    async fn make(&self, request: &RefundRequest) -> Result<Option<Refund>, Unavailable> {
        let row = RefundRow::new(request, Utc::now());
        match self.table.transact(self.refund_actions(request, &row)?).await? {
            Transacted::Done => Ok(Some(self.refund_of(row)?)),
            Transacted::Cancelled => Ok(None),
        }
    }

    /// Takes the amount from what is left of the charge and enters the refund, both or neither.
    fn refund_actions(&self, request: &RefundRequest, row: &RefundRow) -> Result<Vec<TransactWriteItem>, Unavailable> {
        let charge = Update::builder()
            .table_name(&self.table.name)
            .set_key(Some(key(request.order_id, &charge_entry(request.charge_key))))
            .update_expression("SET refundable = refundable - :amount")
            // A charge that did not go through has nothing that could be compared, and so nothing refundable.
            .condition_expression("currency = :currency AND refundable >= :amount")
            .expression_attribute_values(":amount", number(request.amount.amount()))
            .expression_attribute_values(":currency", text(request.amount.currency().code()))
            .build()
            .map_err(|error| self.table.unavailable(error))?;
        let refund = Put::builder()
            .table_name(&self.table.name)
            .set_item(Some(self.table.item(row)?))
            .condition_expression("attribute_not_exists(order_id)")
            .build()
            .map_err(|error| self.table.unavailable(error))?;
        Ok(vec![TransactWriteItem::builder().update(charge).build(), TransactWriteItem::builder().put(refund).build()])
    }
}

fn key(order_id: OrderId, entry: &str) -> Item {
    HashMap::from([("order_id".to_owned(), text(order_id.to_string())), ("entry".to_owned(), text(entry))])
}

fn charge_entry(idempotency_key: Uuid) -> String {
    format!("charge#{idempotency_key}")
}

fn refund_entry(idempotency_key: Uuid) -> String {
    format!("refund#{idempotency_key}")
}

/// What became of a charge; written once, before anything else is known under its key.
#[derive(Debug, Serialize, Deserialize)]
struct ChargeRow {
    order_id: OrderId,
    entry: String,
    processed_at: DateTime<Utc>,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
enum Outcome {
    Completed {
        #[serde(flatten)]
        asked: Asked,
        transaction_id: TransactionId,
        /// What refunds have left of the amount: a condition can compare it, where it could not add refunds up.
        refundable: u64,
    },
    Declined {
        #[serde(flatten)]
        asked: Asked,
        decline_code: String,
    },
    /// Barred before it came: nobody knows what it would have asked for.
    Cancelled,
}

/// What a charge asks for: the same key may not ask for anything else.
#[derive(Debug, Serialize, Deserialize)]
struct Asked {
    amount: u64,
    currency: Currency,
    payment_method: PaymentMethod,
    /// Absent from the first charges, which were not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    customer_id: Option<CustomerId>,
}

impl Asked {
    fn of(request: &ChargeRequest) -> Self {
        Self {
            amount: request.amount.amount(),
            currency: request.amount.currency(),
            payment_method: request.payment_method.clone(),
            customer_id: Some(request.customer_id.clone()),
        }
    }

    fn is(&self, request: &ChargeRequest) -> bool {
        let Self { amount, currency, payment_method, customer_id } = self;
        (*amount, *currency) == (request.amount.amount(), request.amount.currency())
            && *payment_method == request.payment_method
            && customer_id.as_ref().is_none_or(|customer| *customer == request.customer_id)
    }
}

impl ChargeRow {
    fn new(request: &ChargeRequest, decline_code: Option<&str>, now: DateTime<Utc>) -> Self {
        let asked = Asked::of(request);
        Self {
            order_id: request.order_id,
            entry: charge_entry(request.idempotency_key),
            processed_at: now,
            outcome: match decline_code {
                Some(code) => Outcome::Declined { asked, decline_code: code.to_owned() },
                None => Outcome::Completed {
                    transaction_id: TransactionId(format!("ch_{}", request.idempotency_key.simple())),
                    refundable: asked.amount,
                    asked,
                },
            },
        }
    }

    fn cancelled(order_id: OrderId, charge_key: Uuid, now: DateTime<Utc>) -> Self {
        Self { order_id, entry: charge_entry(charge_key), processed_at: now, outcome: Outcome::Cancelled }
    }
}

/// Money that went back to the customer.
#[derive(Debug, Serialize, Deserialize)]
struct RefundRow {
    order_id: OrderId,
    entry: String,
    charge_key: Uuid,
    transaction_id: TransactionId,
    amount: u64,
    currency: Currency,
    processed_at: DateTime<Utc>,
}

impl RefundRow {
    fn new(request: &RefundRequest, now: DateTime<Utc>) -> Self {
        Self {
            order_id: request.order_id,
            entry: refund_entry(request.idempotency_key),
            charge_key: request.charge_key,
            transaction_id: TransactionId(format!("re_{}", request.idempotency_key.simple())),
            amount: request.amount.amount(),
            currency: request.amount.currency(),
            processed_at: now,
        }
    }

    fn is_for(&self, request: &RefundRequest) -> bool {
        (self.charge_key, self.amount, self.currency)
            == (request.charge_key, request.amount.amount(), request.amount.currency())
    }
}

/// An item of the payments table. Only refunds have a `charge_key`, only the sandbox's counts have `attempts`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum EntryRow {
    Refund(RefundRow),
    Charge(ChargeRow),
    Attempts(#[expect(dead_code, reason = "it tells the item from a line of the books")] Attempts),
}

/// How often the sandbox was asked under a key to fail a few times: no line of the books.
#[derive(Debug, Deserialize)]
struct Attempts {
    attempts: u64,
}
