use chrono::Utc;
use serde_json::{Value, json};

use super::{
    Break, Now, again_when_at_once, again_without_answer, another_key, answers, asks, bar_nothing, in_32_bits, list,
    list_mut, lose_unanswered, once_per_order, swap, swap_for_code, undo_the_first_of_the_order,
};
use crate::answers::written;

/// Takes a field for what it was when the same key came first.
fn as_first_asked(now: &Now<'_>, asked: &mut Value, field: &str) {
    asked[field] = now.first()[field].clone();
}

/// Calls what the ledger has of this kind otherwise than whoever asked was told.
fn call_otherwise(answer: &mut Value, kind: &str) {
    for entry in list_mut(answer, "entries") {
        if let Some(id) = entry[kind]["transaction_id"].as_str() {
            entry[kind]["transaction_id"] = format!("book_{id}").into();
        }
    }
}

/// What the charge was answered, if it was made.
fn charged<'n>(now: &Now<'n>, charge_key: &Value) -> Option<&'n Value> {
    now.known("charge", charge_key).map(|charge| &charge.told["charged"]).filter(|charged| charged.is_object())
}

/// Says of a charge of which nothing is left that it is given back once more.
fn give_back_again(now: &Now<'_>, asked: &Value, answer: &mut Value, of: fn(&Value) -> bool) {
    if answer["nothing_left"].is_object()
        && let Some(charge) = charged(now, &asked["charge_key"]).filter(|charge| of(&charge["amount"]["amount"]))
    {
        let mut refund = charge.clone();
        refund["transaction_id"] = another_key();
        *answer = json!({"given_back": {"charge": charge, "refund": refund}});
    }
}

/// Takes a key for used up when it has come so often.
fn tire(now: &Now<'_>, answer: &mut Value, times: u32) {
    if now.times > times {
        *answer = json!({"declined": {"reason": "too_many_requests"}});
    }
}

pub(super) const BREAKS: &[Break] = &[
    answers(
        "get-ledger",
        "a_charge_is_answered_with_its_amount_and_entered",
        "the ledger calls a charge otherwise than whoever asked for it was told",
        &[
            "a_charge_that_comes_twenty_times_at_once_is_made_once",
            "a_charge_that_is_cancelled_is_given_back_in_whole",
            "a_charge_without_an_answer_is_made_and_answered_when_it_is_asked_again",
            "a_charge_that_fails_twice_is_made_by_the_third_call",
            "a_charge_that_is_cancelled_meanwhile_costs_nothing",
            "a_charge_and_its_cancellation_many_times_at_once_cost_nothing",
        ],
        |_, _, answer| call_otherwise(answer, "charged"),
    ),
    answers(
        "get-ledger",
        "an_amount_of_any_size_is_charged_and_given_back_to_the_last_digit",
        "the ledger keeps amounts in 32 bits",
        &[],
        |_, _, answer| {
            for entry in list_mut(answer, "entries") {
                for kind in ["charged", "refunded"] {
                    if entry[kind].is_object() {
                        in_32_bits(&mut entry[kind]["amount"]);
                    }
                }
            }
        },
    ),
    answers(
        "charge",
        "a_repeated_charge_gets_the_first_answer",
        "the time of a charge is that of the answer",
        &[
            "a_charge_that_comes_twenty_times_at_once_is_made_once",
            "a_charge_that_is_cancelled_is_given_back_in_whole",
            "a_cancellation_gives_back_what_refunds_have_left",
            "a_charge_that_was_cancelled_keeps_its_answer",
            "a_cancellation_that_only_a_person_can_decide_on_changes_nothing",
            "a_charge_without_an_answer_is_made_and_answered_when_it_is_asked_again",
            "a_charge_without_an_answer_can_be_cancelled",
            "a_charge_that_fails_twice_is_made_by_the_third_call",
            "a_slow_charge_is_a_charge_like_any_other",
            "a_charge_that_is_cancelled_meanwhile_costs_nothing",
            "a_charge_and_its_cancellation_many_times_at_once_cost_nothing",
        ],
        |_, _, answer| {
            if answer["charged"].is_object() {
                answer["charged"]["processed_at"] = written(Utc::now()).into();
            }
        },
    ),
    asks(
        "charge",
        "a_charge_that_comes_twenty_times_at_once_is_made_once",
        "a charge that comes again while the first is under way is charged again",
        &[
            "a_charge_that_fails_twice_and_comes_at_once_is_made_once",
            "a_slow_charge_is_a_charge_like_any_other",
            "a_charge_and_its_cancellation_many_times_at_once_cost_nothing",
        ],
        again_when_at_once,
    ),
    asks(
        "charge",
        "a_decline_is_remembered",
        "a charge that was declined is tried anew when it comes again",
        &["a_key_that_was_declined_is_refused_to_another_charge", "a_declined_charge_that_is_cancelled_stays_declined"],
        |now, asked| {
            if now.told()["declined"].is_object() {
                asked["idempotency_key"] = another_key();
            }
        },
    ),
    asks(
        "charge",
        "a_key_that_charged_another_amount_is_refused",
        "a charge of another amount under a known key is answered with the first amount",
        &["a_charge_that_was_cancelled_keeps_its_answer"],
        |now, asked| as_first_asked(now, asked, "amount"),
    ),
    asks(
        "charge",
        "a_key_that_charged_another_customer_is_refused",
        "whose means of payment it is, is not compared",
        &["a_key_that_was_declined_is_refused_to_another_charge"],
        |now, asked| as_first_asked(now, asked, "customer_id"),
    ),
    asks(
        "charge",
        "a_key_that_charged_another_means_of_payment_is_refused",
        "the means of payment is not compared",
        &["a_key_that_was_declined_is_refused_to_another_charge"],
        |now, asked| as_first_asked(now, asked, "payment_method"),
    ),
    answers(
        "charge",
        "a_key_that_was_declined_is_refused_to_another_charge",
        "whatever comes under a key that was declined is declined",
        &[],
        |now, _, answer| {
            if answer["key_reused"].is_object() && now.told()["declined"].is_object() {
                answer.clone_from(now.told());
            }
        },
    ),
    asks(
        "charge",
        "two_keys_make_two_charges",
        "an order is charged once, whatever the key",
        &["a_key_that_refunded_something_else_is_refused", "a_cancellation_leaves_the_orders_other_charges_alone"],
        once_per_order,
    ),
    answers(
        "get-ledger",
        "a_whole_charge_can_be_refunded",
        "the ledger calls a refund otherwise than whoever asked for it was told",
        &[
            "a_charge_that_is_cancelled_is_given_back_in_whole",
            "a_charge_that_is_cancelled_meanwhile_costs_nothing",
            "a_charge_and_its_cancellation_many_times_at_once_cost_nothing",
        ],
        |_, _, answer| call_otherwise(answer, "refunded"),
    ),
    answers(
        "charge",
        "a_charge_can_be_refunded_in_parts_up_to_its_amount",
        "a charge of which something was refunded is answered as cancelled when it comes again",
        &[],
        |now, _, answer| {
            if now.any("refund", "charge_key", now.key) {
                swap(answer, "charged", "cancelled");
            }
        },
    ),
    asks(
        "refund",
        "a_refund_in_another_currency_is_too_much",
        "a refund is compared with the charge by its number, whatever the currency",
        &[],
        |now, asked| {
            if let Some(charge) = now.known("charge", &asked["charge_key"]) {
                asked["amount"]["currency"] = charge.asked["amount"]["currency"].clone();
            }
        },
    )
    .and_answers(|_, asked, answer| {
        if answer["refunded"].is_object() {
            answer["refunded"]["amount"] = asked["amount"].clone();
        }
    }),
    answers(
        "refund",
        "a_repeated_refund_is_made_once",
        "what is left of the charge is looked at before the key, so that a whole refund is too much when it comes again",
        &[
            "a_refund_that_comes_twenty_times_at_once_is_made_once",
            "a_cancellation_answers_with_a_refund_that_was_made_under_its_key",
        ],
        |now, asked, answer| {
            let charge = now.known("charge", &asked["charge_key"]);
            if now.times > 1 && charge.is_some_and(|charge| charge.asked["amount"] == asked["amount"]) {
                swap(answer, "refunded", "too_much");
            }
        },
    ),
    answers(
        "get-refund",
        "a_refund_is_told_with_the_amount_that_went_back",
        "whoever asks for a refund is told the amount of the charge",
        &[],
        |now, asked, answer| {
            let key = &asked["refund_key"];
            let made = now.known("refund", key).or_else(|| now.known("cancel-charge", key));
            let charge = made.and_then(|made| now.known("charge", &made.asked["charge_key"]));
            if let Some(charge) = charge.filter(|_| answer["refund"].is_object()) {
                answer["refund"]["amount"] = charge.asked["amount"].clone();
            }
        },
    ),
    asks(
        "refund",
        "a_refund_that_comes_twenty_times_at_once_is_made_once",
        "a refund that comes again while the first is under way is made again",
        &["refunds_at_the_same_time_are_answered_alike_at_every_attempt"],
        again_when_at_once,
    ),
    answers(
        "refund",
        "refunds_at_the_same_time_never_give_back_more_than_was_charged",
        "refunds at the same time look at what is left before the others have taken theirs",
        &["refunds_at_the_same_time_are_answered_alike_at_every_attempt"],
        |now, asked, answer| {
            if now.met && answer["too_much"].is_object() {
                let (id, at) = (another_key(), written(Utc::now()));
                *answer = json!({"refunded": {"transaction_id": id, "amount": asked["amount"], "processed_at": at}});
            }
        },
    ),
    answers(
        "refund",
        "refunds_at_the_same_time_are_answered_alike_at_every_attempt",
        "at the third attempt, a refund that was made is too much",
        &[
            "a_refund_that_comes_twenty_times_at_once_is_made_once",
            "a_refund_that_fails_twice_is_made_by_the_third_call",
        ],
        |now, _, answer| {
            if now.times > 2 {
                swap(answer, "refunded", "too_much");
            }
        },
    ),
    answers(
        "refund",
        "a_key_that_refunded_something_else_is_refused",
        "another refund under a known key is answered with the first",
        &[],
        |now, _, answer| {
            if answer["key_reused"].is_object() && now.told()["refunded"].is_object() {
                answer.clone_from(now.told());
            }
        },
    ),
    answers(
        "refund",
        "an_unknown_charge_cannot_be_refunded",
        "a refund of a charge that never came is too much, as if there were one",
        &["a_declined_charge_cannot_be_refunded", "a_barred_charge_cannot_be_refunded"],
        |now, asked, answer| {
            if now.known("charge", &asked["charge_key"]).is_none() {
                swap(answer, "no_charge", "too_much");
            }
        },
    ),
    answers(
        "refund",
        "a_declined_charge_cannot_be_refunded",
        "a refund of a charge that was declined is too much, as if there were one",
        &[],
        |now, asked, answer| {
            let charge = now.known("charge", &asked["charge_key"]);
            if charge.is_some_and(|charge| charge.told["declined"].is_object()) {
                swap(answer, "no_charge", "too_much");
            }
        },
    ),
    asks(
        "cancel-charge",
        "a_charge_that_is_cancelled_first_is_barred",
        "a cancellation of what has not come is forgotten, and the late charge is made",
        &[
            "a_declined_charge_that_is_cancelled_stays_declined",
            "a_barred_charge_cannot_be_refunded",
            "a_charge_without_an_answer_can_be_cancelled",
            "a_charge_that_is_cancelled_meanwhile_costs_nothing",
            "a_charge_and_its_cancellation_many_times_at_once_cost_nothing",
        ],
        |now, asked| bar_nothing(now, "charge", &mut asked["charge_key"]),
    ),
    answers(
        "cancel-charge",
        "a_charge_that_is_cancelled_is_given_back_in_whole",
        "something is kept of what a cancellation gives back",
        &[
            "an_amount_of_any_size_is_charged_and_given_back_to_the_last_digit",
            "a_refund_is_told_with_the_amount_that_went_back",
            "a_cancellation_answers_with_a_refund_that_was_made_under_its_key",
            "a_cancellation_gives_back_what_refunds_have_left",
        ],
        |_, _, answer| {
            if let Some(Value::Number(amount)) = answer.pointer("/given_back/refund/amount/amount") {
                let less = amount.as_i64().map(|amount| amount.saturating_sub(1));
                answer["given_back"]["refund"]["amount"]["amount"] = less.into();
            }
        },
    ),
    answers(
        "cancel-charge",
        "a_cancellation_answers_the_same_however_often_it_is_asked",
        "a cancellation that comes again finds nothing left, and says no more of what it gave back",
        &[
            "cancellations_at_the_same_time_give_back_once",
            "a_cancellation_gives_back_what_refunds_have_left",
            "refunds_and_a_cancellation_at_once_give_back_the_charge_and_no_more",
            "a_cancellation_whose_refund_fails_twice_gives_back_at_the_third_call",
            "a_charge_that_is_cancelled_meanwhile_costs_nothing",
            "a_charge_and_its_cancellation_many_times_at_once_cost_nothing",
        ],
        |now, _, answer| {
            if now.times > 1 {
                swap(answer, "given_back", "nothing_left");
            }
        },
    ),
    answers(
        "cancel-charge",
        "cancellations_at_the_same_time_give_back_once",
        "of cancellations at the same time, only one says what it gave back",
        &["refunds_and_a_cancellation_at_once_give_back_the_charge_and_no_more"],
        |now, _, answer| {
            if now.met && now.told().is_object() {
                swap(answer, "given_back", "nothing_left");
            }
        },
    ),
    answers(
        "cancel-charge",
        "a_cancellation_answers_with_a_refund_that_was_made_under_its_key",
        "a cancellation does not know the refunds that were made by themselves",
        &[],
        |now, asked, answer| {
            if now.known("refund", &asked["refund_key"]).is_some() {
                *answer = json!({"nothing_left": {}});
            }
        },
    ),
    answers(
        "cancel-charge",
        "a_cancellation_gives_back_what_refunds_have_left",
        "a charge of which something was refunded is taken for one of which nothing is left",
        &[
            "a_refund_is_told_with_the_amount_that_went_back",
            "a_cancellation_answers_with_a_refund_that_was_made_under_its_key",
            "refunds_and_a_cancellation_at_once_give_back_the_charge_and_no_more",
        ],
        |now, asked, answer| {
            if now.any("refund", "charge_key", &asked["charge_key"]) {
                swap(answer, "given_back", "nothing_left");
            }
        },
    ),
    answers(
        "cancel-charge",
        "a_cancellation_of_what_is_refunded_in_whole_gives_nothing_back",
        "what was refunded in whole is said to be given back once more",
        &[],
        |now, asked, answer| give_back_again(now, asked, answer, |charged| *charged != 0),
    ),
    answers(
        "cancel-charge",
        "a_cancellation_of_a_charge_of_nothing_gives_nothing_back",
        "a charge of nothing is said to be given back",
        &[],
        |now, asked, answer| give_back_again(now, asked, answer, |charged| *charged == 0),
    ),
    answers(
        "cancel-charge",
        "refunds_and_a_cancellation_at_once_give_back_the_charge_and_no_more",
        "where there are refunds, what a cancellation gives back gets another id at each answer",
        &[
            "a_refund_is_told_with_the_amount_that_went_back",
            "a_cancellation_answers_with_a_refund_that_was_made_under_its_key",
        ],
        |now, asked, answer| {
            if answer["given_back"].is_object() && now.any("refund", "charge_key", &asked["charge_key"]) {
                answer["given_back"]["refund"]["transaction_id"] = another_key();
            }
        },
    ),
    answers(
        "refund",
        "a_refund_that_only_a_person_can_decide_on_moves_nothing",
        "a refund that cannot be made is too much",
        &[],
        |_, _, answer| swap(answer, "refused", "too_much"),
    ),
    answers(
        "refund",
        "a_refund_that_fails_twice_is_made_by_the_third_call",
        "the time of a refund is that of the answer",
        &[
            "a_repeated_refund_is_made_once",
            "a_refund_is_told_with_the_amount_that_went_back",
            "refunds_at_the_same_time_are_answered_alike_at_every_attempt",
            "a_cancellation_answers_with_a_refund_that_was_made_under_its_key",
        ],
        |_, _, answer| {
            if answer["refunded"].is_object() {
                answer["refunded"]["processed_at"] = written(Utc::now()).into();
            }
        },
    ),
    answers(
        "charge",
        "a_charge_that_was_cancelled_keeps_its_answer",
        "a charge that was made and is cancelled is answered as one that never was",
        &[
            "a_cancellation_that_only_a_person_can_decide_on_changes_nothing",
            "a_charge_without_an_answer_can_be_cancelled",
            "a_charge_that_is_cancelled_meanwhile_costs_nothing",
            "a_charge_and_its_cancellation_many_times_at_once_cost_nothing",
        ],
        |now, _, answer| {
            if now.any("cancel-charge", "charge_key", now.key) {
                swap(answer, "charged", "cancelled");
            }
        },
    ),
    answers(
        "charge",
        "a_declined_charge_that_is_cancelled_stays_declined",
        "a charge that was declined and is cancelled is answered as cancelled",
        &[],
        |now, _, answer| {
            if now.any("cancel-charge", "charge_key", now.key) {
                swap(answer, "declined", "cancelled");
            }
        },
    ),
    answers(
        "refund",
        "a_barred_charge_cannot_be_refunded",
        "a refund of a charge that was cancelled before it came is too much, as if there were one",
        &["a_declined_charge_cannot_be_refunded"],
        |now, asked, answer| {
            if now.any("cancel-charge", "charge_key", &asked["charge_key"]) {
                swap(answer, "no_charge", "too_much");
            }
        },
    ),
    asks(
        "cancel-charge",
        "a_cancellation_leaves_the_orders_other_charges_alone",
        "the first charge of the order is given back, whatever the key",
        &["a_cancellation_that_only_a_person_can_decide_on_changes_nothing"],
        |now, asked| undo_the_first_of_the_order(now, "charge", asked, "charge_key"),
    ),
    answers(
        "cancel-charge",
        "a_cancellation_that_only_a_person_can_decide_on_changes_nothing",
        "a charge that cannot be given back is taken for one of which nothing is left",
        &[],
        |_, _, answer| swap(answer, "refused", "nothing_left"),
    ),
    asks(
        "charge",
        "a_charge_without_an_answer_is_made_and_answered_when_it_is_asked_again",
        "a charge that nobody was told of is charged again",
        &[
            "a_charge_that_comes_twenty_times_at_once_is_made_once",
            "a_charge_without_an_answer_can_be_cancelled",
            "a_charge_that_fails_twice_is_made_by_the_third_call",
            "a_charge_that_fails_twice_and_comes_at_once_is_made_once",
            "a_charge_that_fails_twice_can_be_barred_before_it_is_heard",
            "a_slow_charge_is_a_charge_like_any_other",
            "a_charge_and_its_cancellation_many_times_at_once_cost_nothing",
        ],
        again_without_answer,
    ),
    asks(
        "cancel-charge",
        "a_charge_without_an_answer_can_be_cancelled",
        "a cancellation of a charge that nobody was told of is forgotten",
        &[
            "a_charge_that_fails_twice_can_be_barred_before_it_is_heard",
            "a_charge_that_is_cancelled_meanwhile_costs_nothing",
            "a_charge_and_its_cancellation_many_times_at_once_cost_nothing",
        ],
        |now, asked| lose_unanswered(now, "charge", &mut asked["charge_key"]),
    ),
    answers(
        "get-ledger",
        "a_charge_that_fails_twice_is_made_by_the_third_call",
        "a charge without effect is entered as declined",
        &[],
        |now, asked, answer| {
            if list(answer, "entries").is_empty() && now.any("charge", "order_id", &asked["order_id"]) {
                *answer = json!({"entries": [{"declined": {"reason": "failed"}}]});
            }
        },
    ),
    answers(
        "charge",
        "a_charge_that_fails_twice_and_comes_at_once_is_made_once",
        "a charge that has come fifteen times is declined from then on",
        &["a_charge_that_comes_twenty_times_at_once_is_made_once"],
        |now, _, answer| tire(now, answer, 15),
    ),
    answers(
        "charge",
        "a_charge_that_fails_twice_can_be_barred_before_it_is_heard",
        "a charge that was not heard before its cancellation is answered as declined",
        &["a_charge_and_its_cancellation_many_times_at_once_cost_nothing"],
        |now, _, answer| {
            let was_heard = now.times == 1 || now.told()["charged"].is_object() || now.told()["cancelled"].is_object();
            if !was_heard {
                swap_for_code(answer, "cancelled", "declined", "cancelled");
            }
        },
    ),
    answers(
        "charge",
        "a_slow_charge_is_a_charge_like_any_other",
        "a charge that comes for the second time while others are under way is declined",
        &[
            "a_charge_that_comes_twenty_times_at_once_is_made_once",
            "a_charge_that_fails_twice_and_comes_at_once_is_made_once",
            "a_charge_and_its_cancellation_many_times_at_once_cost_nothing",
        ],
        |now, _, answer| {
            if now.times == 2 && now.met {
                swap_for_code(answer, "charged", "declined", "in_progress");
            }
        },
    ),
    answers(
        "cancel-charge",
        "a_cancellation_whose_refund_fails_twice_gives_back_at_the_third_call",
        "a cancellation that has failed before finds nothing left",
        &[
            "cancellations_at_the_same_time_give_back_once",
            "refunds_and_a_cancellation_at_once_give_back_the_charge_and_no_more",
        ],
        |now, _, answer| {
            if now.times > 1 && now.told().is_null() {
                swap(answer, "given_back", "nothing_left");
            }
        },
    ),
    answers(
        "charge",
        "a_charge_that_is_cancelled_meanwhile_costs_nothing",
        "a charge that comes again after its cancellation is declined",
        &[
            "a_charge_that_is_cancelled_first_is_barred",
            "a_charge_that_was_cancelled_keeps_its_answer",
            "a_cancellation_that_only_a_person_can_decide_on_changes_nothing",
            "a_charge_without_an_answer_can_be_cancelled",
            "a_charge_that_fails_twice_can_be_barred_before_it_is_heard",
            "a_charge_and_its_cancellation_many_times_at_once_cost_nothing",
        ],
        |now, _, answer| {
            if now.times > 1 && now.any("cancel-charge", "charge_key", now.key) {
                for outcome in ["charged", "cancelled"] {
                    swap_for_code(answer, outcome, "declined", "cancelled");
                }
            }
        },
    ),
    answers(
        "charge",
        "a_charge_and_its_cancellation_many_times_at_once_cost_nothing",
        "a charge that has come five times is declined from then on",
        &[
            "a_charge_that_comes_twenty_times_at_once_is_made_once",
            "a_charge_that_is_cancelled_first_is_barred",
            "a_charge_that_fails_twice_and_comes_at_once_is_made_once",
        ],
        |now, _, answer| tire(now, answer, 5),
    ),
    answers(
        "get-ledger",
        "an_order_without_entries_has_an_empty_ledger",
        "an order of which there is nothing is entered as declined",
        &["an_unknown_charge_cannot_be_refunded"],
        |now, asked, answer| {
            if list(answer, "entries").is_empty() && !now.any("charge", "order_id", &asked["order_id"]) {
                *answer = json!({"entries": [{"declined": {"reason": "unknown_order"}}]});
            }
        },
    ),
    asks(
        "get-ledger",
        "ledgers_of_two_orders_do_not_mix",
        "whoever has ordered before is told the ledger of the last order",
        &[],
        |now, asked| {
            if now.any("charge", "order_id", &asked["order_id"])
                && let Some(last) = now.all("charge").last()
            {
                asked["order_id"] = last.asked["order_id"].clone();
            }
        },
    ),
];
