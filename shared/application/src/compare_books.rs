//! Compares the books of an order with its providers' once more, when nothing can be on its way any more.
//!
//! An undo asks its provider to bar what has not come yet. Not every provider can bar for ever, and no step can know what becomes
//! of an attempt whose answer it has not heard. So an order that was undone, given up at a step or left by a refund is looked at
//! again [some time](PATIENCE) after it has come to rest. Money, stock or a parcel that came late for an order that has ended
//! goes back, and what else does not agree asks for a person. Either is one event.

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    books::{Books, ShipmentBook},
    ids::OrderId,
    money::{Money, MoneyError},
    order::{
        Attention, Comparison, Course, LateEffect, Order, OrderCreated, OrderEvent, RefundState, SkippableStep,
        SkippedStep,
        compare::{CompareRejection, compare, not_compared},
        flag::flag,
        record_staff_refund::record_staff_refund,
    },
    stored_event::UnreadableEvent,
};

use crate::{
    event_store::{AppendError, Commit, EventStore, Metadata, RecordedEvent, StreamId, Unavailable},
    event_stream::LoadError,
    fulfilment::{StepError, charge_key, shipment::shipment_key, staff_refunds::made_refund},
    ledger::{LedgerError, providers_books},
    ports::{CancelChargeError, ChargeCancellation, Inventory, Payments, Providers, Shipping, TakeBackError},
};

/// How long after the last that happened to an order its books are compared. No attempt is on its way for longer: an execution
/// ends within [a day](crate::reconcile::LIMIT) of its cause, and a call within seconds.
pub const PATIENCE: TimeDelta = TimeDelta::hours(24);

/// How long after it a person is called because the providers' books cannot be had.
pub const GIVE_UP: TimeDelta = TimeDelta::days(4);

const DEED: &str = "compare-books";

/// What was found, and done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The order is not in doubt, or not at rest.
    NotToBeCompared,
    /// Something has happened to the order not long ago, or while its providers were asked.
    Moving,
    /// The books agree, now that these are undone or recorded.
    Agreed(Vec<LateEffect>),
    /// A person is called.
    Flagged(Attention),
    /// They differ still, and a person was called before.
    Waiting,
}

/// Why nothing is known of an order's books. The next run tries again.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("the providers' books cannot be had")]
    Provider(#[source] Unavailable),
    #[error("the amounts cannot be added up")]
    Amounts(#[from] MoneyError),
    #[error("the order's history cannot be read or written")]
    BrokenHistory(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(transparent)]
    Append(#[from] AppendError),
}

impl From<LedgerError> for CompareError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Load(LoadError::Unavailable(error)) => Self::Provider(error),
            LedgerError::Load(error) => error.into(),
            LedgerError::Amounts(error) => error.into(),
            LedgerError::UnknownOrder => Self::BrokenHistory(error.into()),
        }
    }
}

/// Compares the books of one order, if they are to be. `patience` is [`PATIENCE`], but for whoever cannot wait. `doubted` are also
/// orders at rest that none of their events leaves in doubt: after the event table was restored to an earlier time, the providers
/// may know more than any event tells. Whatever it appends comes right after what it has read.
pub async fn compare_books(
    store: &impl EventStore,
    providers: (
        &impl Providers<Provider: Payments>,
        &impl Providers<Provider: Inventory>,
        &impl Providers<Provider: Shipping>,
    ),
    id: OrderId,
    patience: TimeDelta,
    doubted: bool,
    now: DateTime<Utc>,
) -> Result<Finding, CompareError> {
    let commits = store.read(&StreamId::order(id), 0).await.map_err(LoadError::from)?;
    let mut case = Case::of(id, &commits)?;
    let was_in_doubt = case.order.in_doubt;
    case.order.in_doubt |= doubted;
    let (Some(last), true) = (commits.last(), case.order.is_to_be_compared()) else {
        return Ok(Finding::NotToBeCompared);
    };
    let waited = now.signed_duration_since(last.metadata.occurred_at);
    // Whoever lets it go on has looked, and what was on its way before has come by then.
    if waited < patience && !matches!(case.events.last(), Some(OrderEvent::FulfilmentResumed(_))) {
        return Ok(Finding::Moving);
    }
    let mut outcome = match look(providers, &mut case).await {
        Err(CompareError::Provider(error)) if waited > GIVE_UP => {
            let attention = not_compared(StepError::from(error).error_type());
            flag(&case.order, &attention).map_err(|error| CompareError::BrokenHistory(error.into()))?
        }
        outcome => outcome?,
    };
    let finding = match outcome.last() {
        Some(OrderEvent::BooksCompared(Comparison { late, .. })) => Finding::Agreed(late.clone()),
        Some(OrderEvent::OrderFlagged(attention)) => Finding::Flagged(attention.clone()),
        _ => Finding::Waiting,
    };
    let mut events = case.late;
    // That there was no doubt is nothing to record, or a restore would add an event to every order there is.
    if was_in_doubt || finding != Finding::Agreed(Vec::new()) {
        events.append(&mut outcome);
    }
    if events.is_empty() {
        return Ok(finding);
    }
    let metadata = Metadata {
        command_id: id.work_id(&format!("{DEED} {}", last.last_version())),
        fingerprint: DEED.to_owned(),
        actor: format!("service:{DEED}"),
        correlation_id: last.metadata.correlation_id.clone(),
        causation_id: format!("{id}/{}", last.last_version()),
        traceparent: None,
        occurred_at: now,
    };
    let commit = Commit::of_order(id, last.last_version(), &events, metadata);
    match store.append(&commit.map_err(|error| CompareError::BrokenHistory(error.into()))?).await {
        Ok(_) => Ok(finding),
        // Of two at once, the other may have found something else.
        Err(AppendError::Conflict | AppendError::CommandReused) => Ok(Finding::Moving),
        Err(error) => Err(error.into()),
    }
}

/// An order, its events, and what has to be added to them because it came late.
struct Case {
    id: OrderId,
    order: Order,
    events: Vec<OrderEvent>,
    late: Vec<OrderEvent>,
}

impl Case {
    fn of(id: OrderId, commits: &[Commit]) -> Result<Self, LoadError> {
        let recorded = commits.iter().flat_map(|commit| &commit.events);
        let events: Vec<OrderEvent> = recorded.map(RecordedEvent::read).collect::<Result<_, UnreadableEvent>>()?;
        Ok(Self { id, order: Order::from_events(&events), events, late: Vec::new() })
    }

    fn add(&mut self, events: impl IntoIterator<Item = OrderEvent>) {
        for event in events {
            self.order = std::mem::take(&mut self.order).evolve(&event);
            self.events.push(event.clone());
            self.late.push(event);
        }
    }

    fn books(&self) -> Result<Books, CompareError> {
        Ok(Books::of(&self.events)?.ok_or(LedgerError::UnknownOrder)?)
    }

    /// Whether staff answer for what this step would have undone.
    fn is_skipped(&self, step: SkippableStep) -> bool {
        let skips = |event: &OrderEvent| matches!(event, OrderEvent::StepSkipped(SkippedStep { step: skipped, .. }) if *skipped == step);
        self.events.iter().any(skips)
    }
}

async fn look(
    (payments, inventories, carriers): (
        &impl Providers<Provider: Payments>,
        &impl Providers<Provider: Inventory>,
        &impl Providers<Provider: Shipping>,
    ),
    case: &mut Case,
) -> Result<Vec<OrderEvent>, CompareError> {
    let Some(placed) = case.order.course.placed().cloned() else { return Ok(Vec::new()) };
    let used = &placed.providers;
    let of = CompareError::Provider;
    let mut late = record_late_refunds(payments.of(&used.payments).map_err(of)?, case, placed.total_amount).await?;
    let mut found = providers_books(payments, inventories, carriers, case.id, &placed).await?;
    if matches!(case.order.course, Course::Ended(..)) && !case.books()?.agrees_with(&found) {
        let providers = (
            payments.of(&used.payments).map_err(of)?,
            inventories.of(&used.inventory).map_err(of)?,
            carriers.of(&used.shipping).map_err(of)?,
        );
        late.extend(undo_late_effects(providers, case, &placed, &found).await?);
        found = providers_books(payments, inventories, carriers, case.id, &placed).await?;
    }
    compare(&case.order, &case.books()?, &found, &late, case.is_skipped(SkippableStep::RefundPayment))
        .map_err(|error: CompareRejection| CompareError::BrokenHistory(error.into()))
}

/// Refunds that were given up, and that the provider has made all the same.
async fn record_late_refunds(
    payments: &impl Payments,
    case: &mut Case,
    total: Money,
) -> Result<Vec<LateEffect>, CompareError> {
    let failed = case.order.refunds.iter().filter(|refund| refund.state == RefundState::Failed);
    let failed: Vec<_> = failed.map(|refund| refund.requested.refund_id).collect();
    let mut late = Vec::new();
    for refund_id in failed {
        if let Some(refund) = made_refund(payments, case.id, refund_id, total).await.map_err(CompareError::Provider)? {
            let completed = record_staff_refund(&case.order, refund_id, &refund);
            case.add(completed.map_err(|error| CompareError::BrokenHistory(error.into()))?);
            late.push(LateEffect::Refund);
        }
    }
    Ok(late)
}

/// What an order that has ended holds at its providers without knowing of it goes back, in the order in which any order is undone:
/// neither money nor stock while a parcel is under way, or has arrived. What cannot go back is left, so the books differ still.
async fn undo_late_effects(
    (payments, inventory, carrier): (&impl Payments, &impl Inventory, &impl Shipping),
    case: &mut Case,
    placed: &OrderCreated,
    found: &Books,
) -> Result<Vec<LateEffect>, CompareError> {
    let books = case.books()?;
    let mut late = Vec::new();
    let parcel_came = matches!(books.shipment, ShipmentBook::None | ShipmentBook::Cancelled)
        && !matches!(found.shipment, ShipmentBook::None | ShipmentBook::Cancelled);
    if parcel_came {
        match carrier.cancel_shipment(case.id, shipment_key(case.id)).await {
            Ok(()) => late.push(LateEffect::Shipment),
            Err(TakeBackError::Delivered(_) | TakeBackError::Refused(_)) => return Ok(late),
            Err(TakeBackError::Unavailable(error)) => return Err(CompareError::Provider(error)),
        }
    }
    let charge_came = books.charged.amount() == 0 && found.charged == placed.total_amount && !placed.costs_nothing();
    if charge_came && !case.is_skipped(SkippableStep::RefundPayment) {
        let cancellation = ChargeCancellation {
            order_id: case.id,
            charge_key: charge_key(case.id),
            // Under the undo's own key, the answer would be that nothing was left to give back.
            refund_key: case.id.work_id(DEED),
        };
        match payments.cancel_charge(&cancellation).await {
            Ok(Some((payment, refund))) if payment.amount == placed.total_amount => {
                case.add([OrderEvent::PaymentCompleted(payment), OrderEvent::PaymentRefunded(refund)]);
                late.push(LateEffect::Charge);
            }
            Ok(_) | Err(CancelChargeError::Refused(_)) => return Ok(late),
            Err(CancelChargeError::Unavailable(error)) => return Err(CompareError::Provider(error)),
        }
    }
    let reservation_came = books.reserved.is_empty() && !found.reserved.is_empty();
    if reservation_came && !case.is_skipped(SkippableStep::ReleaseInventory) {
        inventory.release(case.id).await.map_err(CompareError::Provider)?;
        late.push(LateEffect::Reservation);
    }
    Ok(late)
}
