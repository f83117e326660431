//! Ways to break a law, for whoever wants to see the certification kit find it: `BREAK=<law>` has one of these go wrong.
//!
//! Each is a mistake that a provider can make. It is made around the answers, by changing what is asked or what is answered, so
//! that the provider itself stays as integrators should read it. The lists stand in a file for each port: a line says of which
//! law, in which call, and what is done wrong.

#![expect(clippy::indexing_slicing, reason = "what a JSON object lacks is null, and is there once it is set")]

mod inventory;
mod notifications;
mod payments;
mod shipping;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use providers::contract::Call;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::sleep;
use uuid::Uuid;

use crate::{
    Reference,
    answers::{Answers, Failure, from_json, into_json},
    journal,
};

/// A way to break a law.
pub struct Break {
    pub law: &'static str,
    /// What is done wrong.
    pub wrong: &'static str,
    /// The laws that may not hold either when this is done wrong.
    pub also: &'static [&'static str],
    /// The call in which it is done, by the last part of its path, such as `charge`.
    call: &'static str,
    asked: Asked,
    answered: Answered,
}

/// Changes what is asked.
type Asked = fn(&Now<'_>, &mut Value);

/// Changes what is answered; it knows what was asked before that was changed. Nothing is answered to a failure.
type Answered = fn(&Now<'_>, &Value, &mut Value);

/// What can be done wrong.
pub fn known_breaks() -> impl Iterator<Item = &'static Break> {
    [inventory::BREAKS, payments::BREAKS, shipping::BREAKS, notifications::BREAKS].into_iter().flatten()
}

/// No law that can be broken has this name.
#[derive(Debug, thiserror::Error)]
#[error("BREAK has to be one of {}", names())]
pub struct UnknownLaw;

fn names() -> String {
    known_breaks().map(|of| of.law).collect::<Vec<_>>().join(", ")
}

/// A break by something else being asked than came.
const fn asks(
    call: &'static str,
    law: &'static str,
    wrong: &'static str,
    also: &'static [&'static str],
    asked: Asked,
) -> Break {
    Break { law, wrong, also, call, asked, answered: |_, _, _| {} }
}

/// A break by something else being answered than is so.
const fn answers(
    call: &'static str,
    law: &'static str,
    wrong: &'static str,
    also: &'static [&'static str],
    answered: Answered,
) -> Break {
    Break { law, wrong, also, call, asked: |_, _| {}, answered }
}

impl Break {
    /// What is answered is changed as well.
    const fn and_answers(self, answered: Answered) -> Self {
        let Self { law, wrong, also, call, asked, .. } = self;
        Self { law, wrong, also, call, asked, answered }
    }
}

/// What came under one key.
struct Record {
    key: Value,
    /// What was asked first.
    asked: Value,
    /// How often it was asked.
    times: u32,
    /// What was answered first; null until then.
    told: Value,
}

/// What the one who breaks a law knows of the calls.
#[derive(Default)]
struct Notes {
    /// By call, in the order in which they came.
    records: BTreeMap<&'static str, Vec<Record>>,
    /// By call and key, and by call and null, how many are under way, and whether they have met.
    under_way: BTreeMap<(&'static str, String), (u32, bool)>,
}

impl Notes {
    /// One more call is there. Answers how often it was asked by now, and whether others are under way under its key.
    fn enter(&mut self, call: &'static str, asked: &Value) -> (u32, bool) {
        let key = key(call, asked);
        if key.is_null() {
            return (1, false);
        }
        let mut others = false;
        for of in [key, &Value::Null] {
            let (count, met) = self.under_way.entry((call, of.to_string())).or_default();
            *count = count.saturating_add(1);
            *met |= *count > 1;
            others |= *count > 1 && !of.is_null();
        }
        let records = self.records.entry(call).or_default();
        if let Some(record) = records.iter_mut().find(|record| record.key == *key) {
            record.times = record.times.saturating_add(1);
            return (record.times, others);
        }
        records.push(Record { key: key.clone(), asked: asked.clone(), times: 1, told: Value::Null });
        (1, others)
    }

    /// One less is. Answers whether there was another one of its kind meanwhile.
    fn leave(&mut self, call: &'static str, asked: &Value) -> bool {
        let key = key(call, asked);
        let mut others = false;
        for of in [key, &Value::Null] {
            let place = (call, of.to_string());
            let (count, met) = self.under_way.remove(&place).unwrap_or_default();
            if count > 1 {
                self.under_way.insert(place, (count.saturating_sub(1), met));
            }
            others |= met;
        }
        others
    }

    fn tell(&mut self, call: &'static str, asked: &Value, told: &Value) {
        let key = key(call, asked);
        let mut records = self.records.get_mut(call).into_iter().flatten();
        if let Some(record) = records.find(|record| record.key == *key && record.told.is_null()) {
            record.told = told.clone();
        }
    }
}

/// The key of what is noted; null of a call that is not.
fn key<'a>(call: &str, asked: &'a Value) -> &'a Value {
    match call {
        "put-product" => &asked["product"]["product_id"],
        "describe-product" => &asked["product_id"],
        "adjust-stock" => &asked["adjustment_id"],
        "reserve" | "release" => &asked["order_id"],
        "cancel-charge" => &asked["refund_key"],
        "cancel-shipment" | "confirm-delivery" => &asked["shipment_key"],
        _ => &asked["idempotency_key"],
    }
}

static NULL: Value = Value::Null;

/// A call, and what is known of others.
struct Now<'n> {
    notes: &'n Notes,
    call: &'static str,
    key: &'n Value,
    /// How often it has come, this time included.
    times: u32,
    /// When it comes, whether others are under way under its key; when it is answered, whether others of its kind were meanwhile.
    met: bool,
}

impl<'n> Now<'n> {
    /// What came by this call under this key.
    fn known(&self, call: &str, key: &Value) -> Option<&'n Record> {
        self.all(call).find(|record| record.key == *key)
    }

    fn all(&self, call: &str) -> impl Iterator<Item = &'n Record> + use<'n> {
        self.notes.records.get(call).into_iter().flatten()
    }

    fn any(&self, call: &str, field: &str, value: &Value) -> bool {
        self.all(call).any(|record| record.asked[field] == *value)
    }

    /// What was asked first under the key; that may be this call.
    fn first(&self) -> &'n Value {
        self.known(self.call, self.key).map_or(&NULL, |record| &record.asked)
    }

    /// What was answered first under the key; null before that.
    fn told(&self) -> &'n Value {
        self.known(self.call, self.key).map_or(&NULL, |record| &record.told)
    }
}

/// A law that is being broken.
pub(crate) struct Broken {
    how: &'static Break,
    notes: Mutex<Notes>,
}

impl Broken {
    pub(crate) fn parse(law: &str) -> Result<Self, UnknownLaw> {
        let how = known_breaks().find(|of| of.law == law).ok_or(UnknownLaw)?;
        Ok(Self { how, notes: Mutex::default() })
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer<C: Call + DeserializeOwned>(
        &self,
        reference: &Arc<Reference>,
        request: C,
    ) -> Result<C::Answer, Failure>
    where
        Reference: Answers<C>,
    {
        let call = C::REST_PATH.rsplit('/').next().unwrap_or_default();
        let as_it_came = into_json(&request)?;
        let (asked, times) = self.ask(call, &as_it_came);
        // Long enough for calls that come at the same time to meet.
        sleep(Duration::from_millis(2)).await;
        let answer = journal::answer(reference, from_json::<C>(asked)?).await;
        let told = answer.as_ref().map_or(Ok(Value::Null), into_json)?;
        let told = self.tell(call, &as_it_came, times, told);
        answer.and_then(|_| from_json(told))
    }

    /// What is asked in place of what came, and how often it has come.
    fn ask(&self, call: &'static str, as_it_came: &Value) -> (Value, u32) {
        let mut notes = self.notes();
        let (times, met) = notes.enter(call, as_it_came);
        let mut asked = as_it_came.clone();
        if call == self.how.call {
            let now = Now { notes: &notes, call, key: key(call, as_it_came), times, met };
            (self.how.asked)(&now, &mut asked);
        }
        (asked, times)
    }

    /// What is told in place of the answer, which is null if there is none.
    fn tell(&self, call: &'static str, as_it_came: &Value, times: u32, mut told: Value) -> Value {
        let mut notes = self.notes();
        let met = notes.leave(call, as_it_came);
        if call == self.how.call && !told.is_null() {
            let now = Now { notes: &notes, call, key: key(call, as_it_came), times, met };
            (self.how.answered)(&now, as_it_came, &mut told);
        }
        notes.tell(call, as_it_came, &told);
        told
    }
}

/// The reference's answer, or a wrong one.
pub(crate) async fn answer<C: Call + DeserializeOwned>(
    reference: &Arc<Reference>,
    request: C,
) -> Result<C::Answer, Failure>
where
    Reference: Answers<C>,
{
    match &reference.broken {
        None => journal::answer(reference, request).await,
        Some(broken) => broken.answer(reference, request).await,
    }
}

fn another_key() -> Value {
    Uuid::new_v4().to_string().into()
}

/// Writes down nothing of a call that undoes what has not come.
fn bar_nothing(now: &Now<'_>, doing: &str, undone: &mut Value) {
    if now.known(doing, undone).is_none() {
        *undone = another_key();
    }
}

/// Undoes nothing of what has come and was not answered yet.
fn lose_unanswered(now: &Now<'_>, doing: &str, undone: &mut Value) {
    if now.known(doing, undone).is_some_and(|record| record.told.is_null()) {
        *undone = another_key();
    }
}

/// Takes the order for the key.
fn once_per_order(now: &Now<'_>, asked: &mut Value) {
    if let Some(first) = now.all(now.call).find(|record| record.asked["order_id"] == asked["order_id"]) {
        asked["idempotency_key"] = first.key.clone();
    }
}

/// Undoes what the order has done first, whatever the key.
fn undo_the_first_of_the_order(now: &Now<'_>, doing: &str, asked: &mut Value, field: &str) {
    if let Some(first) = now.all(doing).find(|record| record.asked["order_id"] == asked["order_id"]) {
        asked[field] = first.key.clone();
    }
}

/// Looks for the key before another call under it has written it down.
fn again_when_at_once(now: &Now<'_>, asked: &mut Value) {
    if now.met {
        asked["idempotency_key"] = another_key();
    }
}

/// Does again what is asked again because nobody was answered.
fn again_without_answer(now: &Now<'_>, asked: &mut Value) {
    if now.times > 1 && now.told().is_null() {
        asked["idempotency_key"] = another_key();
    }
}

/// Tells one outcome for another.
fn swap(answer: &mut Value, outcome: &str, other: &str) {
    if answer[outcome].is_object() {
        *answer = json!({other: {}});
    }
}

/// Tells a declined or refused outcome for another.
fn swap_for_code(answer: &mut Value, outcome: &str, other: &str, code: &str) {
    if answer[outcome].is_object() {
        *answer = json!({other: {"reason": code}});
    }
}

/// Keeps an amount in 32 bits.
fn in_32_bits(money: &mut Value) {
    if let Some(amount) = money["amount"].as_i64() {
        money["amount"] = amount.min(i32::MAX.into()).into();
    }
}

/// The entries of a list.
fn list<'a>(of: &'a Value, field: &str) -> &'a [Value] {
    of[field].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn list_mut<'a>(of: &'a mut Value, field: &str) -> &'a mut [Value] {
    of[field].as_array_mut().map(Vec::as_mut_slice).unwrap_or_default()
}
