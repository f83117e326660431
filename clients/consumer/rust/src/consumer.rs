//! Handles each event of an order once, and in its order, whatever the bus does. Nothing here knows what for.

use std::{collections::BTreeSet, error::Error, time::Duration};

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent};
use serde::Deserialize;
use serde_json::Value;

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// An event as the bus hands it to a rule's targets, as far as a consumer goes by it.
#[derive(Debug, Deserialize)]
pub(crate) struct BusEvent {
    #[serde(rename = "detail-type")]
    pub(crate) event_type: String,
    pub(crate) detail: Detail,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Detail {
    pub(crate) metadata: Metadata,
    /// Null when the bus had no room for it.
    #[serde(default)]
    pub(crate) data: Value,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) aggregate_type: String,
    pub(crate) aggregate_id: String,
    /// The event's number in its order, from 1 and without gaps.
    pub(crate) sequence: u64,
}

/// How far an order's events have been handled.
pub(crate) struct Progress<S> {
    /// The number of the last one; 0 before the first.
    pub(crate) last: u64,
    /// What was kept then.
    pub(crate) state: Option<S>,
}

/// What an event comes to: what is kept of its order for the events that follow, and what is written besides.
pub(crate) struct Outcome<S, W> {
    pub(crate) state: S,
    pub(crate) write: Option<W>,
}

pub(crate) trait Ledger {
    type State;
    type Write;

    async fn read(&self, order: &str) -> Result<Progress<Self::State>, BoxError>;

    /// Writes all of it, or nothing; and only if the order's last event is still the one before this.
    async fn commit(
        &self,
        order: &str,
        sequence: u64,
        outcome: Outcome<Self::State, Self::Write>,
    ) -> Result<(), BoxError>;
}

/// How long until an event is looked at again whose predecessor has not come: mostly that is being handled at the same time.
const PAUSES: [Duration; 3] = [Duration::ZERO, Duration::from_millis(100), Duration::from_millis(400)];

/// Answers which messages have to come again.
///
/// `effect` is a pure function, so that what is done can be written together with the fact that it was done. It fails at
/// what it cannot handle.
pub(crate) async fn consume<L: Ledger>(
    ledger: &L,
    effect: &impl Fn(Option<L::State>, &BusEvent) -> Result<Outcome<L::State, L::Write>, BoxError>,
    batch: SqsEvent,
) -> SqsBatchResponse {
    let mut failed = SqsBatchResponse::default();
    let mut stuck = BTreeSet::new();
    let mut left = Vec::new();
    for message in batch.records {
        let id = message.message_id.unwrap_or_default();
        match serde_json::from_str::<BusEvent>(message.body.as_deref().unwrap_or_default()) {
            Ok(event) if event.detail.metadata.aggregate_type == "order" => left.push((id, event)),
            _ => fail(&mut failed, id, "no event of an order"),
        }
    }
    left.sort_by_key(|(_, event)| event.detail.metadata.sequence);
    for pause in PAUSES {
        if left.is_empty() {
            break;
        }
        tokio::time::sleep(pause).await;
        let mut early = Vec::new();
        for (id, event) in left {
            let Metadata { aggregate_id, sequence, .. } = &event.detail.metadata;
            let handled = Box::pin(handle(ledger, effect, &event)).await;
            match handled {
                Ok(Handled::Now) => {}
                Ok(Handled::TooEarly) => early.push((id, event)),
                Err(error) => {
                    fail(&mut failed, id, &format!("{aggregate_id}/{sequence}: {error}"));
                    stuck.insert(aggregate_id.clone());
                }
            }
        }
        left = Vec::new();
        for (id, event) in early {
            if stuck.contains(&event.detail.metadata.aggregate_id) {
                fail(&mut failed, id, &format!("{} is stuck", event.detail.metadata.aggregate_id));
            } else {
                left.push((id, event));
            }
        }
    }
    for (id, event) in left {
        let Metadata { aggregate_id, sequence, .. } = event.detail.metadata;
        fail(&mut failed, id, &format!("{aggregate_id}/{sequence} came before its predecessor"));
    }
    failed
}

enum Handled {
    /// Or before, because it has come again.
    Now,
    /// The event before this one has not been handled yet.
    TooEarly,
}

async fn handle<L: Ledger>(
    ledger: &L,
    effect: &impl Fn(Option<L::State>, &BusEvent) -> Result<Outcome<L::State, L::Write>, BoxError>,
    event: &BusEvent,
) -> Result<Handled, BoxError> {
    let Metadata { aggregate_id: order, sequence, .. } = &event.detail.metadata;
    let Progress { last, state } = ledger.read(order).await?;
    if *sequence <= last {
        return Ok(Handled::Now);
    }
    if *sequence > last.saturating_add(1) {
        return Ok(Handled::TooEarly);
    }
    ledger.commit(order, *sequence, effect(state, event)?).await?;
    Ok(Handled::Now)
}

#[expect(clippy::print_stderr, reason = "Lambda takes it for the log")]
fn fail(failed: &mut SqsBatchResponse, id: String, reason: &str) {
    eprintln!("{}", serde_json::json!({ "message": id, "reason": reason }));
    failed.add_failure(id);
}

#[cfg(test)]
mod tests {
    use std::{
        cell::{Cell, RefCell},
        collections::{BTreeMap, VecDeque},
    };

    use serde_json::json;

    use super::*;
    use crate::points::{Order, Points, points};

    #[derive(Clone, Copy, PartialEq)]
    enum Crash {
        BeforeTheWrite,
        AfterTheWrite,
    }

    /// Keeps what a table would, and fails as often as it is told to.
    #[derive(Default)]
    struct Memory {
        orders: RefCell<BTreeMap<String, (u64, Order)>>,
        points: Cell<i64>,
        reads: Cell<u32>,
        crashes: RefCell<VecDeque<Crash>>,
    }

    impl Ledger for Memory {
        type State = Order;
        type Write = Points;

        async fn read(&self, order: &str) -> Result<Progress<Order>, BoxError> {
            self.reads.set(self.reads.get().saturating_add(1));
            let found = self.orders.borrow().get(order).cloned();
            Ok(found.map_or(Progress { last: 0, state: None }, |(last, state)| Progress { last, state: Some(state) }))
        }

        async fn commit(&self, order: &str, sequence: u64, outcome: Outcome<Order, Points>) -> Result<(), BoxError> {
            let crash = self.crashes.borrow_mut().pop_front();
            if crash == Some(Crash::BeforeTheWrite) {
                return Err("crashed".into());
            }
            let before = self.orders.borrow_mut().insert(order.to_owned(), (sequence, outcome.state));
            assert_eq!(before.map_or(0, |(last, _)| last).checked_add(1), Some(sequence));
            let points = outcome.write.map_or(0, |write| write.points);
            self.points.set(self.points.get().checked_add(points).unwrap());
            if crash == Some(Crash::AfterTheWrite) { Err("crashed".into()) } else { Ok(()) }
        }
    }

    type Message = (String, String);

    /// What happens to an order whose payment is in this currency: three points less a fraction, one and a fraction given back.
    fn story(order: &str, currency: &str) -> Vec<Message> {
        let amount = |amount: i64| json!({ "amount": { "amount": amount, "currency": currency } });
        let events = [
            ("OrderCreated", json!({ "customer_id": "anna" })),
            ("InventoryReserved", json!({})),
            ("PaymentCompleted", amount(250)),
            ("OrderConfirmed", json!({})),
            ("RefundCompleted", amount(120)),
        ];
        let numbered = (1..).zip(events);
        numbered.map(|(sequence, (event_type, data))| message(order, sequence, event_type, &data)).collect()
    }

    fn message(order: &str, sequence: u64, event_type: &str, data: &Value) -> Message {
        let metadata = json!({ "aggregate_type": "order", "aggregate_id": order, "sequence": sequence });
        let event = json!({ "detail-type": event_type, "detail": { "metadata": metadata, "data": data } });
        (format!("{order}/{sequence}"), event.to_string())
    }

    fn table_of(rates: &[(&str, i64)]) -> BTreeMap<String, i64> {
        rates.iter().map(|(currency, rate)| ((*currency).to_owned(), *rate)).collect()
    }

    /// Sends what failed again, as the queue does, up to so many times in all. Answers what has failed to the end.
    async fn deliver(ledger: &Memory, mut messages: Vec<Message>, rates: &[(&str, i64)], times: u32) -> Vec<String> {
        let rates = table_of(rates);
        let effect = |order: Option<Order>, event: &BusEvent| points(&rates, order, event).map_err(BoxError::from);
        for _ in 0..times {
            let records: Vec<_> = messages.iter().map(|(id, body)| json!({ "messageId": id, "body": body })).collect();
            let batch: SqsEvent = serde_json::from_value(json!({ "Records": records })).unwrap();
            let answer = consume(ledger, &effect, batch).await;
            messages.retain(|(id, _)| answer.batch_item_failures.iter().any(|failure| failure.item_identifier == *id));
        }
        let mut failed: Vec<String> = messages.into_iter().map(|(id, _)| id).collect();
        failed.sort();
        failed
    }

    const CNY: [(&str, i64); 1] = [("CNY", 100)];
    const NOTHING: [&str; 0] = [];

    #[tokio::test]
    async fn each_event_is_handled_once_however_often_it_comes() {
        let ledger = Memory::default();
        for _ in 0..3 {
            let twice = [story("a", "CNY"), story("a", "CNY")].concat();
            assert_eq!(deliver(&ledger, twice, &CNY, 1).await, NOTHING);
        }
        assert_eq!(ledger.points.get(), 1);
    }

    #[tokio::test]
    async fn they_are_handled_in_order_in_whichever_they_come() {
        let together = Memory::default();
        let backwards = story("a", "CNY").into_iter().rev().collect();
        assert_eq!(deliver(&together, backwards, &CNY, 1).await, NOTHING);
        let (apart, story) = (Memory::default(), story("a", "CNY"));
        assert_eq!(deliver(&apart, story[2..].to_vec(), &CNY, 1).await, ["a/3", "a/4", "a/5"]);
        assert_eq!(deliver(&apart, story[1..2].to_vec(), &CNY, 1).await, ["a/2"]);
        assert_eq!(deliver(&apart, story.into_iter().rev().collect(), &CNY, 1).await, NOTHING);
        assert_eq!((together.points.get(), apart.points.get()), (1, 1));
    }

    #[tokio::test]
    async fn an_event_waits_for_its_predecessor_that_is_being_handled_beside_it() {
        let (ledger, story) = (Memory::default(), story("a", "CNY"));
        let first = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            deliver(&ledger, story[..1].to_vec(), &CNY, 1).await
        };
        let (late, first) = tokio::join!(deliver(&ledger, story[1..].to_vec(), &CNY, 1), first);
        assert_eq!(first, NOTHING);
        assert_eq!(late, NOTHING);
        assert_eq!(ledger.points.get(), 1);
    }

    #[tokio::test]
    async fn what_was_done_before_a_crash_is_not_done_twice_and_nothing_is_left_out() {
        for crash in [Crash::BeforeTheWrite, Crash::AfterTheWrite] {
            let ledger = Memory { crashes: RefCell::new([crash; 5].into()), ..Memory::default() };
            assert_eq!(deliver(&ledger, story("a", "CNY"), &CNY, 6).await, NOTHING);
            assert_eq!(ledger.points.get(), 1);
        }
    }

    #[tokio::test]
    async fn an_order_that_cannot_be_handled_is_parked_and_no_other_and_taken_up_in_any_order_once_mended() {
        let (ledger, poison) = (Memory::default(), story("b", "EUR"));
        let all = [story("c", "CNY"), poison.clone(), story("a", "CNY")].concat();
        let parked = deliver(&ledger, all, &CNY, 3).await;
        assert_eq!(parked, ["b/3", "b/4", "b/5"]);
        assert_eq!(ledger.points.get(), 2);
        assert_eq!(ledger.reads.get(), 21, "15, 3 and 3: nobody waits within a batch for what has failed there");
        let redriven = poison.into_iter().rev().filter(|(id, _)| parked.contains(id)).collect();
        assert_eq!(deliver(&ledger, redriven, &[("CNY", 100), ("EUR", 10)], 1).await, NOTHING);
        assert_eq!(ledger.points.get(), 15, "13 for 1.30 EUR");
        assert_eq!(ledger.orders.borrow()["b"].0, 5);
    }

    #[tokio::test]
    async fn what_is_no_orders_event_or_has_no_data_is_handed_back_and_the_rest_done() {
        let ledger = Memory::default();
        let strange = ["", "{}", "null", r#"{"detail": {"metadata": {"aggregate_type": "customer"}}}"#];
        let mut messages: Vec<Message> =
            strange.iter().enumerate().map(|(index, body)| (index.to_string(), (*body).to_owned())).collect();
        messages.push(message("d", 1, "OrderCreated", &Value::Null));
        messages.extend(story("a", "CNY"));
        assert_eq!(deliver(&ledger, messages, &CNY, 2).await, ["0", "1", "2", "3", "d/1"]);
        assert_eq!(ledger.points.get(), 1);
    }
}
