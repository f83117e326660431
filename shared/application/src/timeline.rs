//! What has happened to an order and what comes next, in words that can be read out. Customers are told nothing of the house: no
//! steps, no errors, nobody's name, no books.

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::{
    order::{Attention, OrderEvent, OrderStatus, RefundState, RequestedRefund},
    order_view::{AttentionView, OrderView, ShipmentStatus},
};
use serde::Serialize;
use tokio::time::timeout;

use crate::{
    event_store::{BoxError, RecordedEvent, Unavailable},
    order_history::{EventOfAny, OrderHistory, PastEvent},
    ports::{Cause, FulfilmentInput, FulfilmentTries, Tries},
    reconcile::LIMIT,
};

/// How many entries are told, of orders to which more has happened the newest.
pub const ENTRIES_MAX: usize = 500;

/// How long a timeline waits for what is being tried.
const TRIES_WITHIN: Duration = Duration::from_secs(2);

/// Who is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    Customer,
    Staff,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Timeline {
    pub entries: Vec<Entry>,
    pub next: Next,
    /// What is being tried, for staff, as far as that is known.
    pub tries: Option<Tries>,
}

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The number of its event.
    pub version: u64,
    pub at: DateTime<Utc>,
    pub who: Who,
    pub what: String,
    /// In the words of whoever did it, or of whoever refused.
    pub why: Option<String>,
}

/// Who did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    Customer,
    Staff,
    Carrier,
    Service,
}

/// What comes next: in words, and as a code with what stands in its words, for whoever says it in words of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Next {
    pub what: String,
    pub code: Coming,
    pub carrier: Option<String>,
    /// What was given up, for staff.
    pub step: Option<String>,
    /// Why it was, for staff.
    pub reason: Option<String>,
    pub waits_for: WaitsFor,
    /// When it is done, or a person is called, at the latest; nothing where nobody can say.
    pub by: Option<DateTime<Utc>>,
}

/// What comes next, by a name that stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Coming {
    ReserveGoods,
    TakePayment,
    HandOverParcel,
    SendConfirmation,
    UndoOrder,
    ResumeOrSkip,
    LookAfterOrder,
    GiveMoneyBack,
    BringParcel,
    Nothing,
}

/// Who has to do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitsFor {
    Service,
    /// Somebody of staff.
    Person,
    Carrier,
    Nobody,
}

/// Why nobody knows what is being tried. The rest of the timeline is as true without it.
#[derive(Debug, thiserror::Error)]
pub enum TriesError {
    #[error("the order's history cannot be read")]
    BrokenHistory(#[source] BoxError),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    #[error("no answer came within {0:?}")]
    TimedOut(Duration),
}

/// What the durable execution tries that works on the order, if there is one. Of an order at rest, nobody is asked.
pub async fn tries(fulfilment: &impl FulfilmentTries, history: &OrderHistory) -> Result<Option<Tries>, TriesError> {
    let Some(execution) = at_work(history)? else { return Ok(None) };
    match timeout(TRIES_WITHIN, fulfilment.tries(&execution)).await {
        Ok(tries) => tries.map_err(TriesError::from),
        Err(_) => Err(TriesError::TimedOut(TRIES_WITHIN)),
    }
}

/// The execution that has to be at work on the order: the last that its events call for, which is of a refund where that is all
/// there is to be done.
fn at_work(history: &OrderHistory) -> Result<Option<FulfilmentInput>, TriesError> {
    let order = &history.order;
    let is_refund = match order.status {
        OrderStatus::Created
        | OrderStatus::Reserved
        | OrderStatus::Paid
        | OrderStatus::Shipped
        | OrderStatus::Cancelling => false,
        OrderStatus::Confirmed if owes_a_refund(order) => true,
        OrderStatus::Confirmed | OrderStatus::Cancelled | OrderStatus::Rejected | OrderStatus::NeedsAttention => {
            return Ok(None);
        }
    };
    for PastEvent { version, event, metadata } in history.events.iter().rev() {
        let EventOfAny::Order(event) = event else { continue };
        let event = RecordedEvent::record(event).map_err(|error| TriesError::BrokenHistory(error.into()))?;
        let cause = Cause {
            order_id: order.id,
            version: *version,
            event: &event,
            correlation_id: &metadata.correlation_id,
            traceparent: metadata.traceparent.as_deref(),
        };
        let started = FulfilmentInput::started_by(cause).map_err(|error| TriesError::BrokenHistory(error.into()))?;
        if let Some(input) = started.filter(|input| input.refund == is_refund) {
            return Ok(Some(input));
        }
    }
    Ok(None)
}

fn owes_a_refund(order: &OrderView) -> bool {
    order.refunds.iter().any(|refund| refund.status == RefundState::Requested)
}

/// The order's story, with what is being [tried](tries()) as far as that is known.
pub fn timeline(history: &OrderHistory, reader: Reader, tries: Option<Tries>) -> Timeline {
    let entries = history.events.iter().filter_map(|past| entry(past, reader));
    let mut entries: Vec<Entry> = entries.collect();
    entries.drain(..entries.len().saturating_sub(ENTRIES_MAX));
    let tries = tries.filter(|_| reader == Reader::Staff);
    let mut next = next(&history.order, reader);
    if let Some(Tries { step, error: Some(error), .. }) = &tries {
        next.what = format!("{} The step {step} has failed with {error}, and is tried again.", next.what);
    }
    Timeline { entries, next, tries }
}

fn entry(past: &PastEvent, reader: Reader) -> Option<Entry> {
    let PastEvent { version, event: EventOfAny::Order(event), metadata } = past else { return None };
    let who = match metadata.actor.split(':').next() {
        Some("customer") => Who::Customer,
        Some("staff") => Who::Staff,
        Some("carrier") => Who::Carrier,
        _ => Who::Service,
    };
    let (what, why) = told(event, reader)?;
    Some(Entry { version: *version, at: metadata.occurred_at, who, what, why })
}

/// What an event is called, and why it happened; `None` of what is not for this reader.
fn told(event: &OrderEvent, reader: Reader) -> Option<(String, Option<String>)> {
    let is_staff = reader == Reader::Staff;
    let for_staff = |text: String| is_staff.then_some(text);
    let (what, why) = match event {
        OrderEvent::OrderCreated(placed) => (format!("The order was placed, for {}.", placed.total_amount), None),
        OrderEvent::ValidationFailed { reason } => {
            ("The order cannot be carried out.".into(), Some(reason.to_string()))
        }
        OrderEvent::InventoryReserved(_) => ("The goods are reserved.".into(), None),
        OrderEvent::ReservationFailed { reason } => ("The goods cannot be reserved.".into(), Some(reason.to_string())),
        OrderEvent::PaymentCompleted(payment) => (format!("{} were paid.", payment.amount), None),
        OrderEvent::PaymentFailed { reason } => ("The payment did not go through.".into(), Some(reason.to_string())),
        OrderEvent::PaymentNotRequired {} => ("There is nothing to pay.".into(), None),
        OrderEvent::ShipmentCreated(shipment) => {
            (format!("{} takes the parcel, under the number {}.", shipment.carrier, shipment.tracking_number), None)
        }
        OrderEvent::ShipmentFailed { reason } => ("The parcel cannot be sent.".into(), Some(reason.to_string())),
        OrderEvent::OrderConfirmed { .. } => ("The order is confirmed.".into(), None),
        OrderEvent::ShipmentDelivered { .. } => ("The parcel has arrived.".into(), None),
        OrderEvent::OrderCancelRequested { reason, note } => {
            let note = note.as_ref().and_then(|note| for_staff(format!(" (to staff: {})", note.as_str())));
            let why = format!("{}{}", reason.as_str(), note.unwrap_or_default());
            ("The order is to be cancelled.".into(), Some(why))
        }
        OrderEvent::ShipmentCancelled {} => ("The parcel was called back.".into(), None),
        OrderEvent::PaymentRefunded(refund) => (format!("{} went back.", refund.amount), None),
        OrderEvent::InventoryReleased {} => ("The goods are no longer reserved.".into(), None),
        OrderEvent::OrderRejected { reason, .. } => ("The order was rejected.".into(), Some(reason.to_string())),
        OrderEvent::OrderCancelled { .. } => ("The order is cancelled.".into(), None),
        OrderEvent::RefundRequested(RequestedRefund { amount, reason, note, .. }) => {
            let note = note.as_ref().and_then(|note| for_staff(format!(" (to staff: {})", note.as_str())));
            let why = format!("{}{}", reason.as_str(), note.unwrap_or_default());
            (format!("{amount} are to be given back."), Some(why))
        }
        OrderEvent::RefundCompleted(completed) => (format!("{} went back.", completed.refund.amount), None),
        OrderEvent::RefundFailed(failed) => {
            (format!("{} did not go back.", failed.amount), for_staff(failed.reason.clone()))
        }
        OrderEvent::OrderFlagged(Attention { step, reason }) => match reader {
            Reader::Staff => (format!("The step {step} was given up: a person has to help."), Some(reason.clone())),
            Reader::Customer => ("Something takes longer than it should. We are looking after it.".into(), None),
        },
        OrderEvent::FulfilmentResumed(resumed) => {
            ("The order goes on.".into(), for_staff(resumed.reason.as_str().to_owned()))
        }
        OrderEvent::StepSkipped(skipped) => {
            let what = for_staff(format!("The order goes on without the step {}.", skipped.step.name()))?;
            (what, Some(skipped.reason.as_str().to_owned()))
        }
        OrderEvent::BooksCompared(compared) => {
            let late = if compared.late.is_empty() { "they agree" } else { "what had come late is put right" };
            (for_staff(format!("The providers' books were compared with the order: {late}."))?, None)
        }
    };
    Some((what, why))
}

/// What comes next for an order that stands like that.
fn next(order: &OrderView, reader: Reader) -> Next {
    let coming = |code, what: &str, waits_for| Next {
        what: what.to_owned(),
        code,
        carrier: None,
        step: None,
        reason: None,
        waits_for,
        by: None,
    };
    let by = order.updated_at.checked_add_signed(LIMIT);
    let service = |code, what| Next { by, ..coming(code, what, WaitsFor::Service) };
    let nothing = || coming(Coming::Nothing, "Nothing more.", WaitsFor::Nobody);
    match order.status {
        OrderStatus::Created => service(Coming::ReserveGoods, "The goods are being reserved."),
        OrderStatus::Reserved => service(Coming::TakePayment, "The payment is being taken."),
        OrderStatus::Paid => service(Coming::HandOverParcel, "The parcel is being given to the carrier."),
        OrderStatus::Shipped => service(Coming::SendConfirmation, "The confirmation is on its way."),
        OrderStatus::Cancelling => {
            service(Coming::UndoOrder, "What was done for the order is being undone: parcel, money, goods.")
        }
        OrderStatus::NeedsAttention => match (&order.attention, reader) {
            (Some(stuck), Reader::Staff) => {
                let AttentionView { step, reason, .. } = stuck;
                let what = format!("Once the cause of {reason} is mended, {step} is to be resumed, or skipped.");
                Next {
                    step: Some(step.clone()),
                    reason: Some(reason.clone()),
                    ..coming(Coming::ResumeOrSkip, &what, WaitsFor::Person)
                }
            }
            _ => coming(Coming::LookAfterOrder, "Somebody of ours is looking after the order.", WaitsFor::Person),
        },
        OrderStatus::Confirmed if owes_a_refund(order) => {
            service(Coming::GiveMoneyBack, "The money is being given back.")
        }
        OrderStatus::Confirmed => match &order.shipment {
            Some(shipment) if shipment.status == ShipmentStatus::Created => Next {
                carrier: Some(shipment.carrier.clone()),
                by: Some(shipment.estimated_delivery),
                ..coming(Coming::BringParcel, &format!("{} brings the parcel.", shipment.carrier), WaitsFor::Carrier)
            },
            _ => nothing(),
        },
        OrderStatus::Cancelled | OrderStatus::Rejected => nothing(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{event_store::Metadata, memory::MemoryFulfilment, ports::DurableFulfilment};

    /// One event of each type.
    fn events() -> Vec<OrderEvent> {
        let golden = include_str!("../../domain/src/order/events.golden.jsonl").lines();
        golden.map(|line| serde_json::from_str::<RecordedEvent>(line).unwrap().read().unwrap()).collect()
    }

    fn event(event_type: &str) -> OrderEvent {
        events().into_iter().find(|event| event.event_type() == event_type).unwrap()
    }

    fn metadata(actor: &str, second: i64) -> Metadata {
        Metadata { actor: actor.to_owned(), ..Metadata::of_nobody(DateTime::from_timestamp(second, 0).unwrap()) }
    }

    fn history(events: Vec<OrderEvent>) -> OrderHistory {
        let id = domain::ids::OrderId::derive("anna", "1");
        let (mut view, mut past) = (None, Vec::new());
        for (version, event) in (1..).zip(events) {
            let metadata = metadata("service:x", version);
            view = OrderView::evolve(view, id, &event, version.unsigned_abs(), metadata.occurred_at);
            past.push(PastEvent { version: version.unsigned_abs(), event: EventOfAny::Order(event), metadata });
        }
        OrderHistory { events: past, order: view.unwrap() }
    }

    fn happened(types: &[&str]) -> OrderHistory {
        history(types.iter().map(|event_type| event(event_type)).collect())
    }

    #[test]
    fn every_event_has_words_for_staff_and_customers_hear_nothing_of_the_house() {
        let all = events();
        assert_eq!(all.iter().filter(|event| told(event, Reader::Staff).is_some()).count(), all.len());
        let kept: Vec<&str> =
            all.iter().filter(|event| told(event, Reader::Customer).is_none()).map(OrderEvent::event_type).collect();
        assert_eq!(
            kept.into_iter().collect::<std::collections::BTreeSet<_>>(),
            ["BooksCompared", "StepSkipped"].into()
        );
        for event in &all {
            let Some((what, why)) = told(event, Reader::Customer) else { continue };
            let said = format!("{what} {}", why.unwrap_or_default());
            for internal in ["process-payment", "Unavailable", "States.", "to staff", "skipped"] {
                assert!(!said.contains(internal), "{said}");
            }
        }
    }

    #[test]
    fn an_order_says_what_comes_next_and_by_when() {
        let next = |types: &[&str]| timeline(&happened(types), Reader::Customer, None).next;
        let placed = ["OrderCreated", "InventoryReserved", "PaymentCompleted", "ShipmentCreated", "OrderConfirmed"];
        for (events, what, code) in [
            (1, "reserved", Coming::ReserveGoods),
            (2, "payment", Coming::TakePayment),
            (3, "parcel", Coming::HandOverParcel),
            (4, "confirmation", Coming::SendConfirmation),
        ] {
            let next = next(&placed[..events]);
            assert!(next.what.contains(what) && next.waits_for == WaitsFor::Service, "{next:?}");
            assert_eq!((next.code, &next.carrier), (code, &None));
            let last = i64::try_from(events).unwrap();
            assert_eq!(next.by, DateTime::from_timestamp(last + LIMIT.num_seconds(), 0));
        }
        let next_of_confirmed = next(&placed);
        assert!(next_of_confirmed.waits_for == WaitsFor::Carrier && next_of_confirmed.by.is_some());
        let carrier = next_of_confirmed.carrier.unwrap();
        assert_eq!(
            (next_of_confirmed.code, next_of_confirmed.what),
            (Coming::BringParcel, format!("{carrier} brings the parcel."))
        );
        let delivered = next(&[&placed[..], &["ShipmentDelivered"]].concat());
        assert_eq!((delivered.code, delivered.waits_for, delivered.by), (Coming::Nothing, WaitsFor::Nobody, None));
        let refunding = next(&[&placed[..], &["RefundRequested"]].concat());
        assert_eq!((refunding.code, refunding.waits_for), (Coming::GiveMoneyBack, WaitsFor::Service));
        let undoing = next(&[&placed[..3], &["OrderCancelRequested"]].concat());
        assert!(undoing.what.contains("undone") && undoing.code == Coming::UndoOrder, "{undoing:?}");
    }

    #[test]
    fn a_stuck_order_tells_staff_what_to_mend_and_customers_that_somebody_looks_after_it() {
        let history = happened(&["OrderCreated", "OrderFlagged"]);
        let staff = timeline(&history, Reader::Staff, None);
        assert!(staff.next.what.contains("process-payment") && staff.next.waits_for == WaitsFor::Person);
        assert_eq!((staff.next.code, staff.next.step.as_deref()), (Coming::ResumeOrSkip, Some("process-payment")));
        assert_eq!(staff.next.reason, staff.entries[1].why);
        assert!(staff.entries[1].what.contains("process-payment") && staff.entries[1].why.is_some());
        let customer = timeline(&history, Reader::Customer, None);
        assert!(!format!("{customer:?}").contains("process-payment"), "{customer:?}");
        assert_eq!(
            (customer.next.code, &customer.next.step, &customer.next.reason),
            (Coming::LookAfterOrder, &None, &None)
        );
        assert_eq!((customer.entries.len(), customer.next.waits_for), (2, WaitsFor::Person));
    }

    #[test]
    fn who_did_it_is_told_without_their_name() {
        let mut history = happened(&["OrderCreated", "InventoryReserved", "PaymentCompleted", "ShipmentCreated"]);
        for (past, actor) in history.events.iter_mut().zip(["customer:anna", "staff:ben", "carrier:c", "service:x"]) {
            actor.clone_into(&mut past.metadata.actor);
        }
        let told = timeline(&history, Reader::Staff, None);
        let who: Vec<Who> = told.entries.iter().map(|entry| entry.who).collect();
        assert_eq!(who, [Who::Customer, Who::Staff, Who::Carrier, Who::Service]);
        assert!(!serde_json::to_string(&told).unwrap().contains("anna"));
        assert_eq!(serde_json::to_value(&told.entries[0]).unwrap()["who"], json!("customer"));
    }

    #[test]
    fn of_a_long_history_the_newest_is_told() {
        let mut all = vec![event("OrderCreated")];
        for _ in 0..ENTRIES_MAX {
            all.extend([event("OrderFlagged"), event("FulfilmentResumed")]);
        }
        let told = timeline(&history(all), Reader::Customer, None);
        assert_eq!((told.entries.len(), told.entries[ENTRIES_MAX - 1].version), (ENTRIES_MAX, 1_001));
    }

    fn third_try() -> Tries {
        Tries {
            step: "process-payment".to_owned(),
            attempt: 3,
            attempts: 5,
            round: 1,
            rounds: 9,
            since: DateTime::UNIX_EPOCH,
            error: Some("Unavailable".to_owned()),
            next_by: None,
        }
    }

    #[test]
    fn staff_hear_that_a_step_is_tried_again_and_customers_do_not() {
        let history = happened(&["OrderCreated", "InventoryReserved"]);
        let staff = timeline(&history, Reader::Staff, Some(third_try()));
        assert!(staff.next.what.contains("process-payment has failed with Unavailable"), "{staff:?}");
        assert_eq!(staff.tries, Some(third_try()));
        let at_its_first = Tries { error: None, ..third_try() };
        let untroubled = timeline(&history, Reader::Staff, Some(at_its_first));
        assert_eq!(untroubled.next, timeline(&history, Reader::Staff, None).next);
        let customer = timeline(&history, Reader::Customer, Some(third_try()));
        assert_eq!(customer, timeline(&history, Reader::Customer, None));
    }

    /// The name of the execution that is asked what it tries.
    fn asked(types: &[&str]) -> Option<String> {
        at_work(&happened(types)).unwrap().map(|execution| execution.execution_name())
    }

    #[test]
    fn the_execution_is_asked_that_the_order_has_called_for_last() {
        let id = domain::ids::OrderId::derive("anna", "1");
        let paid = ["OrderCreated", "InventoryReserved", "PaymentCompleted"];
        let confirmed = [&paid[..], &["ShipmentCreated", "OrderConfirmed"]].concat();
        assert_eq!(asked(&paid), Some(id.to_string()));
        assert_eq!(asked(&[&paid[..], &["OrderCancelRequested"]].concat()), Some(format!("{id}-undo")));
        assert_eq!(asked(&["OrderCreated", "OrderFlagged"]), None, "it waits for a person");
        assert_eq!(asked(&["OrderCreated", "OrderFlagged", "FulfilmentResumed"]), Some(format!("{id}-resumed-3")));
        assert_eq!(asked(&confirmed), None, "it is at rest");
        assert_eq!(asked(&[&confirmed[..], &["RefundRequested"]].concat()), Some(format!("{id}-refund-6")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeline_waits_for_no_more_than_what_it_can_do_without() {
        struct Silent;
        impl FulfilmentTries for Silent {
            async fn tries(&self, _: &FulfilmentInput) -> Result<Option<Tries>, Unavailable> {
                std::future::pending().await
            }
        }
        let history = happened(&["OrderCreated"]);
        assert!(matches!(tries(&Silent, &history).await, Err(TriesError::TimedOut(_))));
        assert_eq!(tries(&Silent, &happened(&["OrderCreated", "OrderFlagged"])).await.unwrap(), None);

        let (machine, execution) = (MemoryFulfilment::default(), at_work(&history).unwrap().unwrap());
        machine.has_come_to(&execution, third_try());
        assert_eq!(tries(&machine, &history).await.unwrap(), None, "the Express one is at work");
        assert!(DurableFulfilment::start(&machine, &execution).await.unwrap());
        assert_eq!(tries(&machine, &history).await.unwrap(), Some(third_try()));
        machine.end(&execution);
        assert_eq!(tries(&machine, &history).await.unwrap(), None);
        machine.set_down(true);
        assert!(matches!(tries(&machine, &history).await, Err(TriesError::Unavailable(_))));
    }
}
