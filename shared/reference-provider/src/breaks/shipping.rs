use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};

use super::{
    Break, Now, again_when_at_once, again_without_answer, another_key, answers, asks, bar_nothing, lose_unanswered,
    once_per_order, swap, swap_for_code, undo_the_first_of_the_order,
};
use crate::answers::written;

fn arrives_now() -> Value {
    json!({"delivered": {"delivered_at": written(Utc::now())}})
}

/// Answers as the first time what was cancelled since.
fn as_if_not_cancelled(now: &Now<'_>, answer: &mut Value) {
    if answer["cancelled"].is_object() && now.told()["created"].is_object() {
        answer.clone_from(now.told());
    }
}

pub(super) const BREAKS: &[Break] = &[
    answers(
        "create-shipment",
        "a_repeated_request_gets_the_first_shipment",
        "the day of arrival is reckoned anew at each call",
        &[
            "a_request_that_comes_twenty_times_at_once_gets_one_shipment",
            "a_cancellation_leaves_other_shipments_alone",
            "a_shipment_without_an_answer_is_created_and_answered_when_it_is_asked_again",
            "a_shipment_that_the_carrier_keeps_is_never_given_back",
            "a_parcel_arrives_once_and_for_good",
        ],
        |_, _, answer| {
            if answer["created"].is_object() {
                let arrives = Utc::now().checked_add_signed(TimeDelta::days(3)).map(written);
                answer["created"]["estimated_delivery"] = arrives.into();
            }
        },
    ),
    asks(
        "create-shipment",
        "a_request_that_comes_twenty_times_at_once_gets_one_shipment",
        "a parcel that is asked for again while the first is under way is sent again",
        &[
            "a_shipment_that_is_cancelled_meanwhile_is_not_under_way",
            "a_refusal_that_is_cancelled_meanwhile_is_no_shipment",
        ],
        again_when_at_once,
    ),
    asks(
        "create-shipment",
        "two_keys_get_two_shipments",
        "an order gets one shipment, whatever the key",
        &["a_cancellation_leaves_other_shipments_alone", "a_shipment_that_the_carrier_keeps_is_never_given_back"],
        once_per_order,
    ),
    answers(
        "get-shipment",
        "the_books_say_what_became_of_a_shipment",
        "of a parcel that was taken back the books know nothing",
        &["of_a_delivery_and_a_cancellation_at_once_exactly_one_comes_about"],
        |_, _, answer| swap(answer, "cancelled", "none"),
    ),
    asks(
        "create-shipment",
        "a_refusal_is_remembered",
        "a refused parcel is taken after all when it comes again with another address",
        &[],
        |now, asked| {
            if now.first()["address"] != asked["address"] {
                asked["idempotency_key"] = another_key();
            }
        },
    ),
    answers(
        "create-shipment",
        "a_refusal_stays_a_refusal_when_the_shipment_is_cancelled",
        "a refused parcel that is cancelled is answered as cancelled from then on",
        &["a_refusal_that_is_cancelled_meanwhile_is_no_shipment"],
        |now, _, answer| {
            if now.known("cancel-shipment", now.key).is_some() {
                swap(answer, "refused", "cancelled");
            }
        },
    ),
    asks(
        "cancel-shipment",
        "a_shipment_that_is_cancelled_first_is_barred",
        "a cancellation of what has not come is forgotten, and the late parcel is sent",
        &[
            "a_refusal_stays_a_refusal_when_the_shipment_is_cancelled",
            "a_shipment_that_is_cancelled_meanwhile_is_not_under_way",
            "a_refusal_that_is_cancelled_meanwhile_is_no_shipment",
            "a_shipment_without_an_answer_can_be_cancelled",
            "a_shipment_that_the_carrier_keeps_is_never_given_back",
        ],
        |now, asked| bar_nothing(now, "create-shipment", &mut asked["shipment_key"]),
    ),
    answers(
        "create-shipment",
        "a_shipment_that_is_cancelled_is_taken_back_for_good",
        "a parcel that was taken back is under way again when it is asked for again",
        &[
            "cancellations_at_the_same_time_take_the_shipment_back",
            "a_shipment_that_is_cancelled_meanwhile_is_not_under_way",
        ],
        |now, _, answer| as_if_not_cancelled(now, answer),
    ),
    answers(
        "create-shipment",
        "cancellations_at_the_same_time_take_the_shipment_back",
        "after many cancellations, the parcel is under way again",
        &[],
        |now, _, answer| {
            if now.known("cancel-shipment", now.key).is_some_and(|record| record.times > 10) {
                as_if_not_cancelled(now, answer);
            }
        },
    ),
    asks(
        "cancel-shipment",
        "a_cancellation_leaves_other_shipments_alone",
        "the first parcel of the order is taken back, whatever the key",
        &["a_shipment_that_the_carrier_keeps_is_never_given_back"],
        |now, asked| undo_the_first_of_the_order(now, "create-shipment", asked, "shipment_key"),
    ),
    answers(
        "create-shipment",
        "a_shipment_that_is_cancelled_meanwhile_is_not_under_way",
        "after five calls, a parcel that was cancelled is answered as refused",
        &["a_refusal_that_is_cancelled_meanwhile_is_no_shipment"],
        |now, _, answer| {
            if now.times > 5 {
                swap_for_code(answer, "cancelled", "refused", "address_unknown");
            }
        },
    ),
    answers(
        "create-shipment",
        "a_refusal_that_is_cancelled_meanwhile_is_no_shipment",
        "after five calls, what is refused and what is cancelled are taken for each other",
        &[],
        |now, asked, answer| {
            if now.times > 5 && asked["address"]["postal_code"] == "SANDBOX-REFUSE" {
                if answer["refused"].is_object() {
                    swap(answer, "refused", "cancelled");
                } else {
                    swap_for_code(answer, "cancelled", "refused", "address_unknown");
                }
            }
        },
    ),
    asks(
        "create-shipment",
        "a_shipment_without_an_answer_is_created_and_answered_when_it_is_asked_again",
        "a parcel that nobody was told of is sent again",
        &[
            "a_request_that_comes_twenty_times_at_once_gets_one_shipment",
            "a_shipment_that_is_cancelled_meanwhile_is_not_under_way",
            "a_refusal_that_is_cancelled_meanwhile_is_no_shipment",
            "a_shipment_without_an_answer_can_be_cancelled",
        ],
        again_without_answer,
    ),
    asks(
        "cancel-shipment",
        "a_shipment_without_an_answer_can_be_cancelled",
        "a cancellation of a parcel that nobody was told of is forgotten",
        &[
            "a_shipment_that_is_cancelled_meanwhile_is_not_under_way",
            "a_refusal_that_is_cancelled_meanwhile_is_no_shipment",
        ],
        |now, asked| lose_unanswered(now, "create-shipment", &mut asked["shipment_key"]),
    ),
    answers(
        "cancel-shipment",
        "a_shipment_that_the_carrier_keeps_is_never_given_back",
        "a parcel that the carrier keeps is said to be taken back",
        &[],
        |_, _, answer| swap(answer, "refused", "cancelled"),
    ),
    answers(
        "confirm-delivery",
        "a_parcel_arrives_once_and_for_good",
        "a parcel arrives anew at each call",
        &[],
        |now, _, answer| {
            if now.times > 1 && answer["delivered"].is_object() {
                *answer = arrives_now();
            }
        },
    ),
    answers(
        "cancel-shipment",
        "a_parcel_that_has_arrived_is_not_taken_back",
        "a parcel that has arrived is said to be taken back",
        &["of_a_delivery_and_a_cancellation_at_once_exactly_one_comes_about"],
        |_, _, answer| swap(answer, "delivered", "cancelled"),
    ),
    answers(
        "confirm-delivery",
        "what_is_not_under_way_does_not_arrive",
        "a cancelled parcel is delivered",
        &["a_refusal_is_remembered", "of_a_delivery_and_a_cancellation_at_once_exactly_one_comes_about"],
        |now, _, answer| {
            if answer["not_under_way"].is_object() && now.known("create-shipment", now.key).is_some() {
                *answer = arrives_now();
            }
        },
    ),
    answers(
        "get-shipment",
        "of_a_delivery_and_a_cancellation_at_once_exactly_one_comes_about",
        "a parcel that is delivered and cancelled is still under way by the books",
        &["a_parcel_that_has_arrived_is_not_taken_back"],
        |now, asked, answer| {
            let has_come = |call| now.known(call, &asked["shipment_key"]).is_some();
            if has_come("confirm-delivery") && has_come("cancel-shipment") {
                *answer = json!({"under_way": {}});
            }
        },
    ),
];
