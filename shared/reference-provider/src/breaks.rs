//! Ways to break a law, for whoever wants to see the certification kit find it: `BREAK=<law>` has one of these go wrong.
//!
//! Each is a mistake that real providers make. It is made around the answers, by changing what is asked or what is answered, so
//! that the provider itself stays as integrators should read it.

#![expect(clippy::indexing_slicing, reason = "what a JSON object lacks is null, and is there once it is set")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{TimeDelta, Utc};
use providers::contract::Call;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::sleep;
use uuid::Uuid;

use crate::{
    Reference,
    answers::{Answers, Failure, from_json, into_json, written},
    journal,
};

/// A way to break a law.
pub struct Break {
    pub law: &'static str,
    /// What is done wrong.
    pub wrong: &'static str,
    /// The laws that may not hold either when this is done wrong.
    pub also: &'static [&'static str],
    asked: Asked,
    answered: Answered,
}

/// Changes what is asked; the call is the last part of its path, such as `charge`.
type Asked = fn(&mut Notes, &str, &mut Value);

/// Changes what is answered; it knows the call, and what was asked before that was changed. Nothing is answered to a failure.
type Answered = fn(&mut Notes, &str, &Value, &mut Value);

/// No law that can be broken has this name.
#[derive(Debug, thiserror::Error)]
#[error("BREAK has to be one of {}", names())]
pub struct UnknownLaw;

fn names() -> String {
    BREAKS.each_ref().map(|of| of.law).join(", ")
}

/// What the one who breaks a law knows of earlier calls.
#[derive(Default)]
pub(crate) struct Notes {
    /// What was asked first, by call and key.
    first: BTreeMap<(String, String), Value>,
    /// By key, how many calls are under way, and whether they have met.
    under_way: BTreeMap<String, (u32, bool)>,
}

impl Notes {
    /// The first request of this call with the same value in the field, which may be this one; and whether it is.
    fn first(&mut self, call: &str, field: &str, asked: &Value) -> (Value, bool) {
        let place = (call.to_owned(), asked[field].to_string());
        let new = !self.first.contains_key(&place);
        (self.first.entry(place).or_insert_with(|| asked.clone()).clone(), new)
    }

    fn known(&self, call: &str, key: &Value) -> Option<&Value> {
        self.first.get(&(call.to_owned(), key.to_string()))
    }

    /// One more call is under way under the key. Answers whether there are others.
    fn enters(&mut self, key: &Value) -> bool {
        let (count, met) = self.under_way.entry(key.to_string()).or_default();
        *count = count.saturating_add(1);
        *met |= *count > 1;
        *count > 1
    }

    /// One less is. Answers whether there were others meanwhile.
    fn leaves(&mut self, key: &Value) -> bool {
        let (count, met) = self.under_way.remove(&key.to_string()).unwrap_or_default();
        if count > 1 {
            self.under_way.insert(key.to_string(), (count.saturating_sub(1), met));
        }
        met
    }
}

/// A law that is being broken.
pub(crate) struct Broken {
    how: &'static Break,
    notes: Mutex<Notes>,
}

impl Broken {
    pub(crate) fn parse(law: &str) -> Result<Self, UnknownLaw> {
        let how = BREAKS.iter().find(|of| of.law == law).ok_or(UnknownLaw)?;
        Ok(Self { how, notes: Mutex::default() })
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
        let mut asked = as_it_came.clone();
        (self.how.asked)(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner), call, &mut asked);
        // Long enough for calls that come at the same time to meet.
        sleep(Duration::from_millis(2)).await;
        let answer = journal::answer(reference, from_json::<C>(asked)?).await;
        let mut told = answer.as_ref().map_or(Ok(Value::Null), into_json)?;
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        (self.how.answered)(&mut notes, call, &as_it_came, &mut told);
        answer.and_then(|_| from_json(told))
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

fn as_asked(_: &mut Notes, _: &str, _: &mut Value) {}

fn as_answered(_: &mut Notes, _: &str, _: &Value, _: &mut Value) {}

fn another_key() -> Value {
    Uuid::new_v4().to_string().into()
}

/// Takes a field for what it was when the same key came first.
fn as_first_asked(notes: &mut Notes, call: &str, asked: &mut Value, field: &str) {
    let (first, _) = notes.first(call, "idempotency_key", asked);
    asked[field] = first[field].clone();
}

/// Does again what is asked again, when the key in the field is known.
fn again(notes: &mut Notes, call: &str, asked: &mut Value, field: &str) {
    let (_, new) = notes.first(call, field, asked);
    if !new {
        asked[field] = another_key();
    }
}

/// Looks for the key before another call under it has written it down.
fn again_when_at_once(notes: &mut Notes, asked: &mut Value) {
    if notes.enters(&asked["idempotency_key"]) {
        asked["idempotency_key"] = another_key();
    }
}

/// Takes the order for the key.
fn once_per_order(notes: &mut Notes, call: &str, asked: &mut Value) {
    let (first, _) = notes.first(call, "order_id", asked);
    asked["idempotency_key"] = first["idempotency_key"].clone();
}

/// Writes down nothing of a call that undoes what has not come.
fn bar_nothing(notes: &mut Notes, doing: &str, undone: &mut Value) {
    if notes.known(doing, undone).is_none() {
        *undone = another_key();
    }
}

/// What can be done wrong.
pub const BREAKS: [Break; 27] = [
    // Inventory.
    Break {
        law: "products_that_do_not_exist_are_left_out",
        wrong: "a product that does not exist is answered as one that is sold out",
        also: &[
            "a_product_that_does_not_exist_is_a_shortage_with_nothing_available",
            "a_product_that_does_not_exist_is_not_adjusted",
        ],
        asked: as_asked,
        answered: |_, call, asked, answer| {
            if call == "get-products"
                && let Some(ids) = asked["product_ids"].as_array()
                && let Some(products) = answer["products"].as_array_mut()
            {
                for id in ids {
                    if !products.iter().any(|product| product["product_id"] == *id) {
                        let price = json!({"amount": 0, "currency": "CNY"});
                        products.push(json!({"product_id": id, "name": "?", "price": price, "stock": 0}));
                    }
                }
            }
        },
    },
    Break {
        law: "a_product_that_is_sold_out_is_listed_as_well",
        wrong: "the list has only what can be ordered, so that a page may be empty in the midst of it",
        also: &[
            "the_pages_of_a_list_lead_through_all_products_in_the_order_of_their_ids",
            "a_product_that_is_set_again_is_listed_once_and_as_it_is_now",
            "products_that_come_between_two_pages_move_no_other",
            "what_is_held_and_adjusted_is_out_of_the_listed_stock_and_no_product_itself",
        ],
        asked: as_asked,
        answered: |_, call, _, answer| {
            if call == "list-products"
                && let Some(products) = answer["products"].as_array_mut()
            {
                products.retain(|product| product["stock"] != 0);
            }
        },
    },
    Break {
        law: "a_shortage_names_each_line_with_what_is_asked_for_and_what_there_is",
        wrong: "the first line that there is too little for is named, and the others are not looked at",
        also: &[],
        asked: as_asked,
        answered: |_, _, _, answer| {
            if let Some(Value::Array(shortages)) = answer.pointer_mut("/out_of_stock/shortages") {
                shortages.truncate(1);
            }
        },
    },
    Break {
        law: "of_two_orders_for_the_last_piece_one_gets_it",
        wrong: "reservations at the same time look at the stock before the others have taken theirs",
        also: &[
            "orders_at_the_same_time_never_hold_more_than_there_is",
            "orders_at_the_same_time_are_answered_alike_at_every_attempt",
            "orders_that_want_the_same_products_in_another_order_do_not_share_them",
            "a_hundred_lines_that_many_attempts_find_short_hold_nothing",
        ],
        asked: |notes, call, _| {
            if call == "reserve" {
                notes.enters(&Value::Null);
            }
        },
        answered: |notes, call, asked, answer| {
            if call == "reserve" {
                let met = notes.leaves(&Value::Null);
                if met && answer["out_of_stock"].is_object() {
                    *answer = json!({"reserved": {"reservation_id": asked["order_id"]}});
                }
            }
        },
    },
    Break {
        law: "an_order_that_reserves_again_keeps_its_first_lines",
        wrong: "the lines of a second reservation are held beside those of the first",
        also: &[],
        asked: |notes, call, asked| {
            if call == "reserve" {
                let (first, _) = notes.first(call, "order_id", asked);
                if first["lines"] != asked["lines"] {
                    asked["order_id"] = another_key();
                }
            }
        },
        answered: as_answered,
    },
    Break {
        law: "a_release_that_comes_first_bars_the_reservation",
        wrong: "a release of what is not reserved is forgotten, and the late reservation is made",
        also: &[
            "a_release_while_reserving_leaves_nothing_held",
            "a_release_while_reserving_a_hundred_lines_leaves_nothing_held",
        ],
        asked: |notes, call, asked| match call {
            "reserve" => drop(notes.first(call, "order_id", asked)),
            "release" => bar_nothing(notes, "reserve", &mut asked["order_id"]),
            _ => {}
        },
        answered: as_answered,
    },
    Break {
        law: "a_description_leaves_the_stock_and_a_new_product_has_none",
        wrong: "a product that is described anew is answered as sold out",
        also: &[],
        asked: as_asked,
        answered: |_, call, _, answer| {
            if call == "describe-product" {
                answer["product"]["stock"] = json!(0);
            }
        },
    },
    Break {
        law: "an_adjustment_under_one_id_is_made_once",
        wrong: "an adjustment that comes again is made again",
        also: &[
            "an_adjustment_that_comes_many_times_at_once_is_made_once",
            "an_adjustment_that_leaves_too_little_for_itself_is_not_refused_when_it_comes_again",
        ],
        asked: |notes, call, asked| {
            if call == "adjust-stock" {
                again(notes, call, asked, "adjustment_id");
            }
        },
        answered: as_answered,
    },
    // Payments.
    Break {
        law: "a_charge_that_comes_twenty_times_at_once_is_made_once",
        wrong: "a charge that comes again while the first is under way is charged again",
        also: &[
            "a_charge_that_fails_twice_and_comes_at_once_is_made_once",
            "a_slow_charge_is_a_charge_like_any_other",
            "a_charge_and_its_cancellation_many_times_at_once_cost_nothing",
        ],
        asked: |notes, call, asked| {
            if call == "charge" {
                again_when_at_once(notes, asked);
            }
        },
        answered: |notes, call, asked, _| {
            if call == "charge" {
                notes.leaves(&asked["idempotency_key"]);
            }
        },
    },
    Break {
        law: "a_key_that_charged_another_amount_is_refused",
        wrong: "a charge of another amount under a known key is answered with the first amount",
        also: &["a_charge_that_was_cancelled_keeps_its_answer"],
        asked: |notes, call, asked| {
            if call == "charge" {
                as_first_asked(notes, call, asked, "amount");
            }
        },
        answered: as_answered,
    },
    Break {
        law: "a_key_that_charged_another_customer_is_refused",
        wrong: "whose means of payment it is, is not compared",
        also: &["a_key_that_was_declined_is_refused_to_another_charge"],
        asked: |notes, call, asked| {
            if call == "charge" {
                as_first_asked(notes, call, asked, "customer_id");
            }
        },
        answered: as_answered,
    },
    Break {
        law: "a_key_that_charged_another_means_of_payment_is_refused",
        wrong: "the means of payment is not compared",
        also: &["a_key_that_was_declined_is_refused_to_another_charge"],
        asked: |notes, call, asked| {
            if call == "charge" {
                as_first_asked(notes, call, asked, "payment_method");
            }
        },
        answered: as_answered,
    },
    Break {
        law: "two_keys_make_two_charges",
        wrong: "an order is charged once, whatever the key",
        also: &[
            "a_key_that_refunded_something_else_is_refused",
            "a_cancellation_leaves_the_orders_other_charges_alone",
        ],
        asked: |notes, call, asked| {
            if call == "charge" {
                once_per_order(notes, call, asked);
            }
        },
        answered: as_answered,
    },
    Break {
        law: "a_refund_in_another_currency_is_too_much",
        wrong: "a refund is compared with the charge by its number, whatever the currency",
        also: &[],
        asked: |notes, call, asked| match call {
            "charge" => drop(notes.first(call, "idempotency_key", asked)),
            "refund" => {
                if let Some(charge) = notes.known("charge", &asked["charge_key"]) {
                    asked["amount"]["currency"] = charge["amount"]["currency"].clone();
                }
            }
            _ => {}
        },
        answered: |_, call, asked, answer| {
            if call == "refund" && answer["refunded"].is_object() {
                answer["refunded"]["amount"] = asked["amount"].clone();
            }
        },
    },
    Break {
        law: "a_repeated_refund_is_made_once",
        wrong: "what is left of the charge is looked at before the key, so that a whole refund is too much when it comes again",
        also: &[
            "a_refund_that_comes_twenty_times_at_once_is_made_once",
            "a_cancellation_answers_with_a_refund_that_was_made_under_its_key",
        ],
        asked: |notes, call, asked| {
            if call == "charge" {
                notes.first(call, "idempotency_key", asked);
            }
        },
        answered: |notes, call, asked, answer| {
            if call == "refund" && answer["refunded"].is_object() {
                let (_, new) = notes.first(call, "idempotency_key", asked);
                let charge = notes.known("charge", &asked["charge_key"]);
                if !new && charge.is_some_and(|charge| charge["amount"] == asked["amount"]) {
                    *answer = json!({"too_much": {}});
                }
            }
        },
    },
    Break {
        law: "a_refund_is_told_with_the_amount_that_went_back",
        wrong: "whoever asks for a refund is told the amount of the charge",
        also: &[],
        asked: |notes, call, asked| match call {
            "charge" | "refund" => drop(notes.first(call, "idempotency_key", asked)),
            "cancel-charge" => drop(notes.first(call, "refund_key", asked)),
            _ => {}
        },
        answered: |notes, call, asked, answer| {
            if call == "get-refund" && answer["refund"].is_object() {
                let key = &asked["refund_key"];
                let made = notes.known("refund", key).or_else(|| notes.known("cancel-charge", key));
                let charge = made.and_then(|made| notes.known("charge", &made["charge_key"]));
                if let Some(charge) = charge {
                    answer["refund"]["amount"] = charge["amount"].clone();
                }
            }
        },
    },
    Break {
        law: "a_charge_that_is_cancelled_first_is_barred",
        wrong: "a cancellation of what has not come is forgotten, and the late charge is made",
        also: &[
            "a_declined_charge_that_is_cancelled_stays_declined",
            "a_barred_charge_cannot_be_refunded",
            "a_charge_without_an_answer_can_be_cancelled",
            "a_charge_that_is_cancelled_meanwhile_costs_nothing",
            "a_charge_and_its_cancellation_many_times_at_once_cost_nothing",
        ],
        asked: |notes, call, asked| match call {
            "charge" => drop(notes.first(call, "idempotency_key", asked)),
            "cancel-charge" => bar_nothing(notes, "charge", &mut asked["charge_key"]),
            _ => {}
        },
        answered: as_answered,
    },
    Break {
        law: "a_cancellation_answers_the_same_however_often_it_is_asked",
        wrong: "a cancellation that comes again finds nothing left, and says no more of what it gave back",
        also: &[
            "cancellations_at_the_same_time_give_back_once",
            "a_cancellation_gives_back_what_refunds_have_left",
            "refunds_and_a_cancellation_at_once_give_back_the_charge_and_no_more",
            "a_cancellation_whose_refund_fails_twice_gives_back_at_the_third_call",
            "a_charge_that_is_cancelled_meanwhile_costs_nothing",
            "a_charge_and_its_cancellation_many_times_at_once_cost_nothing",
        ],
        asked: as_asked,
        answered: |notes, call, asked, answer| {
            if call == "cancel-charge" && answer["given_back"].is_object() {
                let (_, new) = notes.first(call, "refund_key", asked);
                if !new {
                    *answer = json!({"nothing_left": {}});
                }
            }
        },
    },
    Break {
        law: "a_cancellation_answers_with_a_refund_that_was_made_under_its_key",
        wrong: "a cancellation does not know the refunds that were made by themselves",
        also: &[],
        asked: |notes, call, asked| {
            if call == "refund" {
                notes.first(call, "idempotency_key", asked);
            }
        },
        answered: |notes, call, asked, answer| {
            if call == "cancel-charge" && notes.known("refund", &asked["refund_key"]).is_some() {
                *answer = json!({"nothing_left": {}});
            }
        },
    },
    // Shipping.
    Break {
        law: "a_repeated_request_gets_the_first_shipment",
        wrong: "the day of arrival is reckoned anew at each call",
        also: &[
            "a_request_that_comes_twenty_times_at_once_gets_one_shipment",
            "a_cancellation_leaves_other_shipments_alone",
            "a_shipment_without_an_answer_is_created_and_answered_when_it_is_asked_again",
            "a_shipment_that_the_carrier_keeps_is_never_given_back",
            "a_parcel_arrives_once_and_for_good",
        ],
        asked: as_asked,
        answered: |_, _, _, answer| {
            if answer["created"].is_object() {
                let arrives = Utc::now().checked_add_signed(TimeDelta::days(3)).map(written);
                answer["created"]["estimated_delivery"] = arrives.into();
            }
        },
    },
    Break {
        law: "two_keys_get_two_shipments",
        wrong: "an order gets one shipment, whatever the key",
        also: &["a_cancellation_leaves_other_shipments_alone", "a_shipment_that_the_carrier_keeps_is_never_given_back"],
        asked: |notes, call, asked| {
            if call == "create-shipment" {
                once_per_order(notes, call, asked);
            }
        },
        answered: as_answered,
    },
    Break {
        law: "a_refusal_is_remembered",
        wrong: "a refused parcel is taken after all when it comes again with another address",
        also: &[],
        asked: |notes, call, asked| {
            if call == "create-shipment" {
                let (first, _) = notes.first(call, "idempotency_key", asked);
                if first["address"] != asked["address"] {
                    asked["idempotency_key"] = another_key();
                }
            }
        },
        answered: as_answered,
    },
    Break {
        law: "a_shipment_that_is_cancelled_first_is_barred",
        wrong: "a cancellation of what has not come is forgotten, and the late parcel is sent",
        also: &[
            "a_refusal_stays_a_refusal_when_the_shipment_is_cancelled",
            "a_shipment_that_is_cancelled_meanwhile_is_not_under_way",
            "a_refusal_that_is_cancelled_meanwhile_is_no_shipment",
            "a_shipment_without_an_answer_can_be_cancelled",
            "a_shipment_that_the_carrier_keeps_is_never_given_back",
        ],
        asked: |notes, call, asked| match call {
            "create-shipment" => drop(notes.first(call, "idempotency_key", asked)),
            "cancel-shipment" => bar_nothing(notes, "create-shipment", &mut asked["shipment_key"]),
            _ => {}
        },
        answered: as_answered,
    },
    Break {
        law: "what_is_not_under_way_does_not_arrive",
        wrong: "a cancelled parcel is delivered",
        also: &["a_refusal_is_remembered", "of_a_delivery_and_a_cancellation_at_once_exactly_one_comes_about"],
        asked: |notes, call, asked| {
            if call == "create-shipment" {
                notes.first(call, "idempotency_key", asked);
            }
        },
        answered: |notes, call, asked, answer| {
            if call == "confirm-delivery"
                && answer["not_under_way"].is_object()
                && notes.known("create-shipment", &asked["shipment_key"]).is_some()
            {
                *answer = json!({"delivered": {"delivered_at": written(Utc::now())}});
            }
        },
    },
    // Notifications.
    Break {
        law: "a_repeated_notification_gets_the_first_id",
        wrong: "a message that is asked for again is sent again",
        also: &["a_notification_that_comes_twenty_times_at_once_is_sent_once"],
        asked: |notes, call, asked| again(notes, call, asked, "idempotency_key"),
        answered: as_answered,
    },
    Break {
        law: "a_notification_that_comes_twenty_times_at_once_is_sent_once",
        wrong: "a message that is asked for again while the first is under way is sent again",
        also: &[],
        asked: |notes, _, asked| again_when_at_once(notes, asked),
        answered: |notes, _, asked, _| {
            notes.leaves(&asked["idempotency_key"]);
        },
    },
    Break {
        law: "two_keys_send_two_messages",
        wrong: "an order gets one message, whatever the key",
        also: &[],
        asked: once_per_order,
        answered: as_answered,
    },
];
