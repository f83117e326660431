//! What this build makes of a stream: where an order stands, what is shown of it, what would be decided next, and its books. The same
//! events give the same answer, whenever that is: what is asked at a time is asked at the time of the last event.

use std::{
    collections::BTreeMap,
    fmt::Display,
    io::{BufRead, Write},
    mem,
};

use adapters::dynamodb::{UnreadableCommit, commit_from_image};
use application::{
    event_store::{Commit, RecordedEvent, StreamId},
    ports::{Cause, FulfilmentInput},
};
use chrono::{DateTime, Utc};
use domain::{
    books::Books,
    customer::{Customer, CustomerEvent},
    ids::{OrderId, RefundId, ReservationId, ShipmentId, TransactionId},
    money::Money,
    order::{
        Attention, Course, FailedRefund, Order, OrderEvent, Payment, Refund, RequestedRefund, Reservation, Shipment,
        SkippableStep,
        cancel::cancel,
        close::close,
        compare::compare,
        confirm::confirm,
        flag::flag,
        record_delivery::record_delivery,
        record_payment::{record_no_payment, record_payment, record_payment_failure},
        record_refund::record_refund,
        record_release::record_release,
        record_reservation::{record_reservation, record_reservation_failure},
        record_shipment::{record_shipment, record_shipment_failure},
        record_shipment_cancellation::record_shipment_cancellation,
        record_staff_refund::{record_staff_refund, record_staff_refund_failure},
        request_refund::request_refund,
        resume::{go_on, resume},
        skip::skip,
        validate::validate,
    },
    order_view::OrderView,
    stored_event::UnreadableEvent,
    text::Text,
};
use serde::Serialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{Failed, Row, rows};

/// Writes a line for each stream, in the order of their names. One stream at a time is in memory, so they have to come sorted.
pub(crate) fn answer(input: impl BufRead, mut output: impl Write) -> Result<(), Failed> {
    let reason = Text::<500>::parse("asked at a replay")?;
    let mut tell = |stream: &Stream| -> Result<(), Failed> {
        serde_json::to_writer(&mut output, &stream.answer(&reason)?)?;
        Ok(output.write_all(b"\n")?)
    };
    let mut at_hand: Option<Stream> = None;
    for row in rows(input) {
        let Row { number, stream: name, item } = row?;
        let mut stream = match at_hand.take() {
            Some(stream) if stream.id.as_str() == name => stream,
            Some(before) if before.id.as_str() > name.as_str() => return Err(Failed::Unsorted { number }),
            before => {
                before.iter().try_for_each(&mut tell)?;
                Stream::new(name)
            }
        };
        stream.take_in(item);
        at_hand = Some(stream);
    }
    at_hand.iter().try_for_each(&mut tell)?;
    Ok(output.flush()?)
}

/// Why a stream has no answer.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("no stream of this service has such a name")]
    UnknownStream,
    #[error("an item is not a commit of the event table")]
    NoCommit,
    #[error(transparent)]
    Commit(#[from] UnreadableCommit),
    #[error(transparent)]
    Event(#[from] UnreadableEvent),
    #[error("there is a commit of event {found} where event {due} is due")]
    Hole { due: u64, found: u64 },
}

#[derive(Serialize)]
struct Answer<'s> {
    stream: &'s str,
    /// Number of the last event that could be taken in.
    version: u64,
    #[serde(flatten)]
    said: Said,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Said {
    Broken {
        error: String,
    },
    Customer {
        state: Value,
    },
    Order {
        state: Value,
        /// As the API shows it, but for the customer's profile, which has a stream of its own.
        view: Value,
        /// Each decision with the events that it would make, or its refusal.
        next: BTreeMap<String, String>,
        /// The names of all executions that its events start.
        starts: Vec<String>,
        books: Value,
    },
}

/// A stream, as far as it is read.
struct Stream {
    id: StreamId,
    version: u64,
    newest: DateTime<Utc>,
    folded: Result<Folded, Broken>,
}

enum Folded {
    Order(Box<FoldedOrder>),
    Customer(Customer),
}

struct FoldedOrder {
    id: OrderId,
    order: Order,
    view: Option<OrderView>,
    events: Vec<OrderEvent>,
    starts: Vec<String>,
}

impl Stream {
    fn new(name: String) -> Self {
        let id = StreamId::new(name);
        let folded = match (id.order_id(), id.customer_id()) {
            (Some(id), _) => Ok(Folded::Order(Box::new(FoldedOrder::new(id)))),
            (None, Some(_)) => Ok(Folded::Customer(Customer::default())),
            (None, None) => Err(Broken::UnknownStream),
        };
        Self { id, version: 0, newest: DateTime::UNIX_EPOCH, folded }
    }

    /// What comes after something that could not be taken in cannot be, either.
    fn take_in(&mut self, item: Map<String, Value>) {
        if let Ok(folded) = &mut self.folded {
            let taken_in = take_in(folded, item, &mut self.version, &mut self.newest);
            if let Err(broken) = taken_in {
                self.folded = Err(broken);
            }
        }
    }

    fn answer(&self, reason: &Text<500>) -> Result<Answer<'_>, serde_json::Error> {
        let said = match &self.folded {
            Err(broken) => Said::Broken { error: broken.to_string() },
            Ok(Folded::Customer(customer)) => Said::Customer { state: serde_json::to_value(customer)? },
            Ok(Folded::Order(order)) => order.said(reason, self.newest)?,
        };
        Ok(Answer { stream: self.id.as_str(), version: self.version, said })
    }
}

fn take_in(
    folded: &mut Folded,
    item: Map<String, Value>,
    version: &mut u64,
    newest: &mut DateTime<Utc>,
) -> Result<(), Broken> {
    let item: serde_dynamo::Item = serde_json::from_value(item.into()).map_err(|_| Broken::NoCommit)?;
    let commit = commit_from_image(item)?;
    let due = version.saturating_add(1);
    if commit.version != due {
        return Err(Broken::Hole { due, found: commit.version });
    }
    for (number, event) in commit.numbered() {
        match folded {
            Folded::Order(order) => order.take_in(number, event, &commit)?,
            Folded::Customer(customer) => {
                let event = CustomerEvent::read(&event.event_type, event.schema, &event.data)?;
                *customer = mem::take(customer).evolve(&event);
            }
        }
        *version = number;
    }
    *newest = commit.metadata.occurred_at.max(*newest);
    Ok(())
}

impl FoldedOrder {
    fn new(id: OrderId) -> Self {
        Self { id, order: Order::default(), view: None, events: Vec::new(), starts: Vec::new() }
    }

    fn take_in(&mut self, version: u64, recorded: &RecordedEvent, commit: &Commit) -> Result<(), UnreadableEvent> {
        let event = recorded.read()?;
        let correlation_id = &commit.metadata.correlation_id;
        let cause = Cause { order_id: self.id, version, event: recorded, correlation_id, traceparent: None };
        self.starts.extend(FulfilmentInput::started_by(cause)?.map(|started| started.execution_name()));
        self.view = OrderView::evolve(self.view.take(), self.id, &event, version, commit.metadata.occurred_at);
        self.order = mem::take(&mut self.order).evolve(&event);
        self.events.push(event);
        Ok(())
    }

    fn said(&self, reason: &Text<500>, now: DateTime<Utc>) -> Result<Said, serde_json::Error> {
        let books = Books::of(&self.events);
        let next = match (self.order.course.placed(), &books) {
            (Some(placed), Ok(Some(books))) => next(&self.order, placed.total_amount, books, reason, now),
            // Before it is placed, and where amounts cannot be added up, there is nothing to decide on.
            _ => BTreeMap::new(),
        };
        Ok(Said::Order {
            state: self.state(),
            view: serde_json::to_value(self.view.clone().map(OrderView::shown))?,
            next,
            starts: self.starts.clone(),
            books: match &books {
                Ok(books) => self.books(books.as_ref()),
                Err(error) => json!({"error": error.to_string()}),
            },
        })
    }

    /// In words of its own: what the state is stored as may be another in every version.
    fn state(&self) -> Value {
        let Order { course, attention, refunds, in_doubt } = &self.order;
        let refunds: Vec<Value> = refunds
            .iter()
            .map(|refund| json!({"id": refund.requested.refund_id, "amount": refund.requested.amount, "state": refund.state}))
            .collect();
        json!({
            "course": name_of(course),
            "attention": attention,
            "refunds": refunds,
            "in_doubt": in_doubt,
            "is_open": self.order.is_open(),
            "is_to_be_compared": self.order.is_to_be_compared(),
            "holds_payment": self.order.holds_payment(),
            "holds_anything": self.order.holds_anything(),
        })
    }

    /// What the order has cost and holds, what could still be refunded of it, and what is owed to who gets nothing for it.
    fn books(&self, books: Option<&Books>) -> Value {
        let course = &self.order.course;
        let held = course.held().ok().flatten().map(|held| {
            json!({
                "payment": held.payment.as_ref().map(|payment| payment.amount),
                "stock": held.reservation.is_some(),
                "parcel": held.shipment.is_some(),
                "given_back": held.refund.as_ref().map(|refund| refund.amount),
                "skipped": held.skipped,
            })
        });
        let refundable = course.payment().and_then(|payment| self.order.left_of(payment).ok());
        let owed = books.filter(|_| matches!(course, Course::Ended(..)));
        let owed = owed.and_then(|books| books.charged.minus(books.refunded).ok());
        let refunded = self.order.refunded().ok().flatten();
        json!({"kept": books, "held": held, "refundable": refundable, "refunded": refunded, "owed": owed})
    }
}

fn name_of(course: &Course) -> &'static str {
    match course {
        Course::NotCreated => "not_created",
        Course::Created(_) => "created",
        Course::Reserved(..) => "reserved",
        Course::Paid(..) => "paid",
        Course::Shipped(..) => "shipped",
        Course::Confirmed(..) => "confirmed",
        Course::Delivered(..) => "delivered",
        Course::Undoing(..) => "undoing",
        Course::Ended(..) => "ended",
    }
}

/// Asks every decision, each with what would come if all went as it should.
fn next(
    order: &Order,
    total: Money,
    books: &Books,
    reason: &Text<500>,
    now: DateTime<Utc>,
) -> BTreeMap<String, String> {
    let asked = || "asked".to_owned();
    let reservation = Reservation { reservation_id: ReservationId(asked()) };
    let payment = Payment { transaction_id: TransactionId(asked()), amount: total, processed_at: now };
    let back = Refund { transaction_id: TransactionId(asked()), amount: total, processed_at: now };
    let shipment = Shipment {
        shipment_id: ShipmentId(asked()),
        carrier: asked(),
        tracking_number: asked(),
        estimated_delivery: now,
    };
    let requested =
        |amount| RequestedRefund { refund_id: RefundId(Uuid::nil()), amount, reason: reason.clone(), note: None };
    // The smallest amount that there is.
    let little = Money::new(1, total.currency()).unwrap_or(total);
    let open = order.open_refunds().next();
    let (open_id, open_amount) =
        open.map_or((RefundId(Uuid::nil()), total), |refund| (refund.refund_id, refund.amount));
    let staff_refund = Refund { amount: open_amount, ..back.clone() };
    let failed_refund = FailedRefund { refund_id: open_id, amount: open_amount, reason: asked() };
    let undone = Some((payment.clone(), back));
    let stuck_at = |step: &str| Attention { step: step.to_owned(), reason: asked() };

    let decided = [
        ("validate", said(&validate(order, now))),
        ("reserve", said(&record_reservation(order, &reservation))),
        ("reserve-refused", said(&record_reservation_failure(order, &[]))),
        ("pay", said(&record_payment(order, &payment))),
        ("pay-nothing", said(&record_no_payment(order))),
        ("pay-refused", said(&record_payment_failure(order, "asked"))),
        ("ship", said(&record_shipment(order, &shipment))),
        ("ship-refused", said(&record_shipment_failure(order, "asked"))),
        ("confirm", said(&confirm(order, None))),
        ("deliver", said(&record_delivery(order, now))),
        ("cancel", said(&cancel(order, reason, None))),
        ("undo-shipment", said(&record_shipment_cancellation(order))),
        ("undo-payment", said(&record_refund(order, undone.as_ref()))),
        ("undo-payment-uncharged", said(&record_refund(order, None))),
        ("undo-reservation", said(&record_release(order))),
        ("close", said(&close(order, None))),
        ("refund-a-little", said(&request_refund(order, &requested(little)))),
        ("refund-all", said(&request_refund(order, &requested(total)))),
        ("refund-done", said(&record_staff_refund(order, open_id, &staff_refund))),
        ("refund-failed", said(&record_staff_refund_failure(order, &failed_refund))),
        ("resume", said(&resume(order, reason))),
        ("go-on", said(&go_on(order, false, reason))),
        ("go-on-with-refund", said(&go_on(order, true, reason))),
        ("compare-books", said(&compare(order, books, books, &[], false))),
        ("flag-a-step", said(&flag(order, &stuck_at("process-payment")))),
        ("flag-a-refund", said(&flag(order, &stuck_at(SkippableStep::IssueRefund.name())))),
        ("flag-the-books", said(&flag(order, &stuck_at(SkippableStep::CompareBooks.name())))),
    ];
    let skipped =
        SkippableStep::ALL.map(|step| (format!("skip-{}", step.name()), said(&skip(order, step, reason, books))));
    decided.map(|(name, said)| (name.to_owned(), said)).into_iter().chain(skipped).collect()
}

fn said(decided: &Result<Vec<OrderEvent>, impl Display>) -> String {
    match decided {
        Ok(events) if events.is_empty() => "nothing".to_owned(),
        Ok(events) => events.iter().map(OrderEvent::event_type).collect::<Vec<_>>().join(" + "),
        Err(refusal) => format!("refused: {refusal}"),
    }
}
