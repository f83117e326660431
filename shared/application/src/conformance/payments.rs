//! What every [`Payments`] must do, with the sandbox's payment methods.

use domain::{
    ids::{CustomerId, PaymentMethod},
    money::Money,
    order::{Payment, Refund},
};
use uuid::Uuid;

use super::{at_once, money, order_id};
use crate::ports::{
    CancelChargeError, ChargeCancellation, ChargeError, ChargeRequest, LedgerEntry, Payments, RefundError,
    RefundRequest,
};

/// One test per law; `make` is a future of the payment provider. Or the laws as data, each with the capability that it needs.
#[macro_export]
macro_rules! payments_conformance {
    ($make:expr) => {
        $crate::payments_conformance! { conformance_tests, $make }
    };
    ($each:ident, $of:tt) => {
        $crate::$each! { payments, $of,
            a_charge_is_answered_with_its_amount_and_entered
            an_amount_of_any_size_is_charged_and_given_back_to_the_last_digit: sandbox
            a_repeated_charge_gets_the_first_answer
            a_charge_that_comes_twenty_times_at_once_is_made_once
            a_decline_is_remembered: sandbox
            a_key_that_charged_another_amount_is_refused
            a_key_that_charged_another_customer_is_refused
            a_key_that_charged_another_means_of_payment_is_refused
            a_key_that_was_declined_is_refused_to_another_charge: sandbox
            two_keys_make_two_charges
            a_whole_charge_can_be_refunded
            a_charge_can_be_refunded_in_parts_up_to_its_amount
            a_refund_in_another_currency_is_too_much
            a_repeated_refund_is_made_once
            a_refund_is_told_with_the_amount_that_went_back
            a_refund_that_comes_twenty_times_at_once_is_made_once
            refunds_at_the_same_time_never_give_back_more_than_was_charged
            refunds_at_the_same_time_are_answered_alike_at_every_attempt
            a_key_that_refunded_something_else_is_refused
            an_unknown_charge_cannot_be_refunded
            a_declined_charge_cannot_be_refunded: sandbox
            a_charge_that_is_cancelled_first_is_barred
            a_charge_that_is_cancelled_is_given_back_in_whole
            a_cancellation_answers_the_same_however_often_it_is_asked
            cancellations_at_the_same_time_give_back_once
            a_cancellation_answers_with_a_refund_that_was_made_under_its_key
            a_cancellation_gives_back_what_refunds_have_left
            a_cancellation_of_what_is_refunded_in_whole_gives_nothing_back
            a_cancellation_of_a_charge_of_nothing_gives_nothing_back: sandbox
            refunds_and_a_cancellation_at_once_give_back_the_charge_and_no_more
            a_refund_that_only_a_person_can_decide_on_moves_nothing: sandbox
            a_refund_that_fails_twice_is_made_by_the_third_call: sandbox
            a_charge_that_was_cancelled_keeps_its_answer
            a_declined_charge_that_is_cancelled_stays_declined: sandbox
            a_barred_charge_cannot_be_refunded
            a_cancellation_leaves_the_orders_other_charges_alone
            a_cancellation_that_only_a_person_can_decide_on_changes_nothing: sandbox
            a_charge_without_an_answer_is_made_and_answered_when_it_is_asked_again: sandbox
            a_charge_without_an_answer_can_be_cancelled: sandbox
            a_charge_that_fails_twice_is_made_by_the_third_call: sandbox
            a_charge_that_fails_twice_and_comes_at_once_is_made_once: sandbox
            a_charge_that_fails_twice_can_be_barred_before_it_is_heard: sandbox
            a_slow_charge_is_a_charge_like_any_other: sandbox
            a_cancellation_whose_refund_fails_twice_gives_back_at_the_third_call: sandbox
            a_charge_that_is_cancelled_meanwhile_costs_nothing
            a_charge_and_its_cancellation_many_times_at_once_cost_nothing
            an_order_without_entries_has_an_empty_ledger
            ledgers_of_two_orders_do_not_mix
        }
    };
}

fn method(name: &str) -> PaymentMethod {
    PaymentMethod::parse(name).unwrap()
}

fn charge(amount: Money) -> ChargeRequest {
    ChargeRequest {
        idempotency_key: Uuid::new_v4(),
        order_id: order_id(),
        customer_id: CustomerId::parse("anna").unwrap(),
        payment_method: method("pm_card_visa"),
        amount,
    }
}

fn declined(amount: Money) -> ChargeRequest {
    ChargeRequest { payment_method: method("pm_card_declined"), ..charge(amount) }
}

fn refund(charge: &ChargeRequest, amount: Money) -> RefundRequest {
    RefundRequest {
        idempotency_key: Uuid::new_v4(),
        order_id: charge.order_id,
        charge_key: charge.idempotency_key,
        amount,
    }
}

fn cancellation(charge: &ChargeRequest) -> ChargeCancellation {
    ChargeCancellation { order_id: charge.order_id, charge_key: charge.idempotency_key, refund_key: Uuid::new_v4() }
}

/// Charged and refunded so far.
async fn books(payments: &impl Payments, request: &ChargeRequest) -> (Money, Money) {
    let nothing = Money::zero(request.amount.currency());
    payments.ledger(request.order_id).await.unwrap().iter().fold((nothing, nothing), |(charged, refunded), entry| {
        match entry {
            LedgerEntry::Charged(_, amount) => (charged.plus(*amount).unwrap(), refunded),
            LedgerEntry::Refunded(_, amount) => (charged, refunded.plus(*amount).unwrap()),
            LedgerEntry::Declined(_) | LedgerEntry::Cancelled => (charged, refunded),
        }
    })
}

pub async fn a_charge_is_answered_with_its_amount_and_entered(payments: &impl Payments) {
    let request = charge(money(3998, "CNY"));
    let payment = payments.charge(&request).await.unwrap();
    assert_eq!(payment.amount, request.amount);
    let ledger = payments.ledger(request.order_id).await.unwrap();
    assert_eq!(ledger, [LedgerEntry::Charged(payment.transaction_id, request.amount)]);
}

/// Who knows no triggers may decline what nobody pays.
pub async fn an_amount_of_any_size_is_charged_and_given_back_to_the_last_digit(payments: &impl Payments) {
    for amount in [money(1, "JPY"), money(1_234_567, "KWD"), money(Money::MAX_AMOUNT, "KWD")] {
        let request = charge(amount);
        let payment = payments.charge(&request).await.unwrap();
        let (charged, refund) = payments.cancel_charge(&cancellation(&request)).await.unwrap().unwrap();
        assert_eq!((payment.amount, charged.amount, refund.amount), (amount, amount, amount));
        assert_eq!(books(payments, &request).await, (amount, amount));
    }
}

pub async fn a_repeated_charge_gets_the_first_answer(payments: &impl Payments) {
    let request = charge(money(3998, "CNY"));
    let first = payments.charge(&request).await.unwrap();
    for _ in 0..3 {
        assert_eq!(payments.charge(&request).await.unwrap(), first);
    }
    assert_eq!(payments.ledger(request.order_id).await.unwrap().len(), 1);
}

pub async fn a_charge_that_comes_twenty_times_at_once_is_made_once(payments: &impl Payments) {
    let request = charge(money(3998, "CNY"));
    let answers = at_once((0..20).map(|_| payments.charge(&request))).await;
    let answers: Vec<Payment> = answers.into_iter().map(Result::unwrap).collect();
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    let entry = LedgerEntry::Charged(answers[0].transaction_id.clone(), request.amount);
    assert_eq!(payments.ledger(request.order_id).await.unwrap(), [entry]);
}

pub async fn a_decline_is_remembered(payments: &impl Payments) {
    for (name, code) in [("pm_card_declined", "card_declined"), ("pm_card_insufficient_funds", "insufficient_funds")] {
        let request = ChargeRequest { payment_method: method(name), ..charge(money(100, "EUR")) };
        for _ in 0..2 {
            let answer = payments.charge(&request).await;
            assert!(matches!(&answer, Err(ChargeError::Declined(why)) if why == code), "{answer:?}");
        }
        assert_eq!(payments.ledger(request.order_id).await.unwrap(), [LedgerEntry::Declined(code.to_owned())]);
    }
}

async fn assert_key_reused(payments: &impl Payments, first: &ChargeRequest, other: &ChargeRequest) {
    let _ = payments.charge(first).await;
    let ledger = payments.ledger(first.order_id).await.unwrap();
    let answer = payments.charge(other).await;
    assert!(matches!(answer, Err(ChargeError::KeyReused)), "{answer:?}");
    // The entries come in any order.
    let after = payments.ledger(first.order_id).await.unwrap();
    assert!(after.len() == ledger.len() && after.iter().all(|entry| ledger.contains(entry)), "{ledger:?}, {after:?}");
}

pub async fn a_key_that_charged_another_amount_is_refused(payments: &impl Payments) {
    let first = charge(money(3998, "CNY"));
    assert_key_reused(payments, &first, &ChargeRequest { amount: money(3999, "CNY"), ..first.clone() }).await;
    assert_key_reused(payments, &first, &ChargeRequest { amount: money(3998, "USD"), ..first.clone() }).await;
}

pub async fn a_key_that_charged_another_customer_is_refused(payments: &impl Payments) {
    let first = charge(money(3998, "CNY"));
    assert_key_reused(payments, &first, &of_another_customer(&first)).await;
}

fn of_another_customer(charge: &ChargeRequest) -> ChargeRequest {
    ChargeRequest { customer_id: CustomerId::parse("berta").unwrap(), ..charge.clone() }
}

pub async fn a_key_that_charged_another_means_of_payment_is_refused(payments: &impl Payments) {
    let first = charge(money(3998, "CNY"));
    assert_key_reused(payments, &first, &by_another_card(&first)).await;
}

pub async fn a_key_that_was_declined_is_refused_to_another_charge(payments: &impl Payments) {
    let first = declined(money(3998, "CNY"));
    let other = ChargeRequest { payment_method: method("pm_card_visa"), ..first.clone() };
    for other in [other, of_another_customer(&first)] {
        assert_key_reused(payments, &first, &other).await;
    }
}

pub async fn two_keys_make_two_charges(payments: &impl Payments) {
    let first = charge(money(3998, "CNY"));
    let second = ChargeRequest { idempotency_key: Uuid::new_v4(), ..first.clone() };
    payments.charge(&first).await.unwrap();
    payments.charge(&second).await.unwrap();
    assert_eq!(books(payments, &first).await, (money(7996, "CNY"), money(0, "CNY")));
}

pub async fn a_whole_charge_can_be_refunded(payments: &impl Payments) {
    let request = charge(money(3998, "CNY"));
    payments.charge(&request).await.unwrap();
    let refunded = payments.refund(&refund(&request, request.amount)).await.unwrap();
    assert_eq!(refunded.amount, request.amount);
    assert_eq!(books(payments, &request).await, (request.amount, request.amount));
    let ledger = payments.ledger(request.order_id).await.unwrap();
    assert!(ledger.contains(&LedgerEntry::Refunded(refunded.transaction_id, request.amount)), "{ledger:?}");
    let answer = payments.refund(&refund(&request, money(1, "CNY"))).await;
    assert!(matches!(answer, Err(RefundError::TooMuch)), "{answer:?}");
}

pub async fn a_charge_can_be_refunded_in_parts_up_to_its_amount(payments: &impl Payments) {
    let request = charge(money(100, "CNY"));
    payments.charge(&request).await.unwrap();
    let too_much = payments.refund(&refund(&request, money(101, "CNY"))).await;
    assert!(matches!(too_much, Err(RefundError::TooMuch)), "{too_much:?}");
    payments.refund(&refund(&request, money(60, "CNY"))).await.unwrap();
    let too_much = payments.refund(&refund(&request, money(41, "CNY"))).await;
    assert!(matches!(too_much, Err(RefundError::TooMuch)), "{too_much:?}");
    payments.refund(&refund(&request, money(40, "CNY"))).await.unwrap();
    assert_eq!(books(payments, &request).await, (request.amount, request.amount));
    assert!(payments.charge(&request).await.is_ok(), "a refund does not undo that it was charged");
}

pub async fn a_refund_in_another_currency_is_too_much(payments: &impl Payments) {
    let request = charge(money(100, "CNY"));
    payments.charge(&request).await.unwrap();
    let answer = payments.refund(&refund(&request, money(1, "USD"))).await;
    assert!(matches!(answer, Err(RefundError::TooMuch)), "{answer:?}");
    assert_eq!(payments.ledger(request.order_id).await.unwrap().len(), 1);
}

pub async fn a_repeated_refund_is_made_once(payments: &impl Payments) {
    let request = charge(money(100, "CNY"));
    payments.charge(&request).await.unwrap();
    // The second time there is nothing left, and still it is not too much.
    let whole = refund(&request, request.amount);
    assert_eq!(payments.refunded(whole.order_id, whole.idempotency_key).await.unwrap(), None);
    let first = payments.refund(&whole).await.unwrap();
    assert_eq!(payments.refunded(whole.order_id, whole.idempotency_key).await.unwrap().as_ref(), Some(&first));
    assert_eq!(payments.refund(&whole).await.unwrap(), first);
    assert_eq!(books(payments, &request).await, (request.amount, request.amount));
}

/// Neither that of the charge, nor what has gone back of it so far.
pub async fn a_refund_is_told_with_the_amount_that_went_back(payments: &impl Payments) {
    let request = charge(money(3998, "CNY"));
    payments.charge(&request).await.unwrap();
    let (part, cancellation) = (refund(&request, money(1000, "CNY")), cancellation(&request));
    let first = payments.refund(&part).await.unwrap();
    let (_, rest) = payments.cancel_charge(&cancellation).await.unwrap().unwrap();
    assert_eq!((first.amount, rest.amount), (money(1000, "CNY"), money(2998, "CNY")));
    for (key, made) in [(part.idempotency_key, first), (cancellation.refund_key, rest)] {
        assert_eq!(payments.refunded(request.order_id, key).await.unwrap(), Some(made));
    }
}

pub async fn a_refund_that_comes_twenty_times_at_once_is_made_once(payments: &impl Payments) {
    let request = charge(money(100, "CNY"));
    payments.charge(&request).await.unwrap();
    let whole = refund(&request, request.amount);
    for answer in at_once((0..20).map(|_| payments.refund(&whole))).await {
        answer.unwrap();
    }
    assert_eq!(books(payments, &request).await, (request.amount, request.amount));
}

pub async fn refunds_at_the_same_time_never_give_back_more_than_was_charged(payments: &impl Payments) {
    let request = charge(money(100, "CNY"));
    payments.charge(&request).await.unwrap();
    let refunds: Vec<RefundRequest> = (0..20).map(|_| refund(&request, money(30, "CNY"))).collect();
    let answers = at_once(refunds.iter().map(|refund| payments.refund(refund))).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 3);
    assert!(answers.iter().all(|answer| matches!(answer, Ok(_) | Err(RefundError::TooMuch))), "{answers:?}");
    assert_eq!(books(payments, &request).await, (request.amount, money(90, "CNY")));
}

/// A refund that one attempt has made is not too much for another.
pub async fn refunds_at_the_same_time_are_answered_alike_at_every_attempt(payments: &impl Payments) {
    for _ in 0..10 {
        let request = charge(money(100, "CNY"));
        payments.charge(&request).await.unwrap();
        let refunds: Vec<RefundRequest> = (0..6).map(|_| refund(&request, money(30, "CNY"))).collect();
        let attempts = at_once(refunds.iter().chain(&refunds).chain(&refunds).map(|refund| payments.refund(refund)));
        let attempts: Vec<Option<Refund>> = attempts.await.into_iter().map(Result::ok).collect();
        assert_eq!(attempts[..6], attempts[6..12]);
        assert_eq!(attempts[..6], attempts[12..]);
        assert_eq!(attempts[..6].iter().flatten().count(), 3);
        assert_eq!(books(payments, &request).await, (request.amount, money(90, "CNY")));
    }
}

pub async fn a_key_that_refunded_something_else_is_refused(payments: &impl Payments) {
    let request = charge(money(100, "CNY"));
    let second = ChargeRequest { idempotency_key: Uuid::new_v4(), ..request.clone() };
    payments.charge(&request).await.unwrap();
    payments.charge(&second).await.unwrap();
    let first = refund(&request, money(10, "CNY"));
    payments.refund(&first).await.unwrap();
    let another_amount = RefundRequest { amount: money(11, "CNY"), ..first.clone() };
    let another_charge = RefundRequest { charge_key: second.idempotency_key, ..first.clone() };
    for other in [another_amount, another_charge] {
        let answer = payments.refund(&other).await;
        assert!(matches!(answer, Err(RefundError::KeyReused)), "{answer:?}");
    }
    assert_eq!(books(payments, &request).await, (money(200, "CNY"), money(10, "CNY")));
}

pub async fn an_unknown_charge_cannot_be_refunded(payments: &impl Payments) {
    let request = charge(money(100, "CNY"));
    let answer = payments.refund(&refund(&request, request.amount)).await;
    assert!(matches!(answer, Err(RefundError::NoCharge)), "{answer:?}");
    assert_eq!(payments.ledger(request.order_id).await.unwrap(), []);
}

pub async fn a_declined_charge_cannot_be_refunded(payments: &impl Payments) {
    let (request, barred) = (declined(money(100, "CNY")), declined(money(100, "CNY")));
    let _ = payments.charge(&request).await;
    payments.cancel_charge(&cancellation(&barred)).await.unwrap();
    for request in [request, barred] {
        for amount in [request.amount, money(0, "CNY")] {
            let answer = payments.refund(&refund(&request, amount)).await;
            assert!(matches!(answer, Err(RefundError::NoCharge)), "{answer:?}");
        }
        assert_eq!(books(payments, &request).await, (money(0, "CNY"), money(0, "CNY")));
    }
}

pub async fn a_charge_that_is_cancelled_first_is_barred(payments: &impl Payments) {
    let request = charge(money(3998, "CNY"));
    let another = ChargeRequest { amount: money(1, "CNY"), ..request.clone() };
    let cancellation = cancellation(&request);
    for _ in 0..3 {
        assert_eq!(payments.cancel_charge(&cancellation).await.unwrap(), None);
        // Nobody knows what the charge would have been, so no charge is another one.
        for late in [&request, &another, &by_another_card(&request)] {
            let answer = payments.charge(late).await;
            assert!(matches!(answer, Err(ChargeError::Cancelled)), "{answer:?}");
        }
        assert_eq!(payments.ledger(request.order_id).await.unwrap(), [LedgerEntry::Cancelled]);
    }
}

fn by_another_card(charge: &ChargeRequest) -> ChargeRequest {
    ChargeRequest { payment_method: method("pm_card_mastercard"), ..charge.clone() }
}

pub async fn a_charge_that_is_cancelled_is_given_back_in_whole(payments: &impl Payments) {
    let request = charge(money(3998, "CNY"));
    let payment = payments.charge(&request).await.unwrap();
    let answer = payments.cancel_charge(&cancellation(&request)).await.unwrap();
    let (charged, refund) = answer.unwrap();
    assert_eq!(charged, payment);
    assert_eq!(refund.amount, request.amount);
    let ledger = payments.ledger(request.order_id).await.unwrap();
    assert_eq!(ledger.len(), 2);
    assert!(ledger.contains(&LedgerEntry::Charged(payment.transaction_id, request.amount)), "{ledger:?}");
    assert!(ledger.contains(&LedgerEntry::Refunded(refund.transaction_id, request.amount)), "{ledger:?}");
}

pub async fn a_cancellation_answers_the_same_however_often_it_is_asked(payments: &impl Payments) {
    let request = charge(money(3998, "CNY"));
    payments.charge(&request).await.unwrap();
    let cancellation = cancellation(&request);
    let first = payments.cancel_charge(&cancellation).await.unwrap();
    for _ in 0..3 {
        assert_eq!(payments.cancel_charge(&cancellation).await.unwrap(), first);
    }
    assert_eq!(books(payments, &request).await, (request.amount, request.amount));
}

pub async fn cancellations_at_the_same_time_give_back_once(payments: &impl Payments) {
    let request = charge(money(3998, "CNY"));
    payments.charge(&request).await.unwrap();
    let cancellation = cancellation(&request);
    let answers = at_once((0..20).map(|_| payments.cancel_charge(&cancellation))).await;
    let answers: Vec<Option<(Payment, Refund)>> = answers.into_iter().map(Result::unwrap).collect();
    assert!(answers[0].is_some());
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(books(payments, &request).await, (request.amount, request.amount));
}

pub async fn a_cancellation_answers_with_a_refund_that_was_made_under_its_key(payments: &impl Payments) {
    let request = charge(money(3998, "CNY"));
    payments.charge(&request).await.unwrap();
    let cancellation = cancellation(&request);
    let whole = RefundRequest { idempotency_key: cancellation.refund_key, ..refund(&request, request.amount) };
    let refunded = payments.refund(&whole).await.unwrap();
    let (_, first) = payments.cancel_charge(&cancellation).await.unwrap().unwrap();
    assert_eq!(first, refunded);
    assert_eq!(payments.refund(&whole).await.unwrap(), refunded);
    assert_eq!(books(payments, &request).await, (request.amount, request.amount));
}

pub async fn a_cancellation_gives_back_what_refunds_have_left(payments: &impl Payments) {
    let request = charge(money(3998, "CNY"));
    let payment = payments.charge(&request).await.unwrap();
    payments.refund(&refund(&request, money(1000, "CNY"))).await.unwrap();
    let cancellation = cancellation(&request);
    for _ in 0..2 {
        let (charged, rest) = payments.cancel_charge(&cancellation).await.unwrap().unwrap();
        assert_eq!((&charged, rest.amount), (&payment, money(2998, "CNY")));
    }
    assert_eq!(books(payments, &request).await, (request.amount, request.amount));
    let late = payments.refund(&refund(&request, money(1, "CNY"))).await;
    assert!(matches!(late, Err(RefundError::TooMuch)), "{late:?}");
}

pub async fn a_cancellation_of_what_is_refunded_in_whole_gives_nothing_back(payments: &impl Payments) {
    let request = charge(money(3998, "CNY"));
    payments.charge(&request).await.unwrap();
    payments.refund(&refund(&request, request.amount)).await.unwrap();
    assert_eq!(payments.cancel_charge(&cancellation(&request)).await.unwrap(), None);
    assert_eq!(books(payments, &request).await, (request.amount, request.amount));
}

pub async fn a_cancellation_of_a_charge_of_nothing_gives_nothing_back(payments: &impl Payments) {
    let free = charge(money(0, "EUR"));
    payments.charge(&free).await.unwrap();
    assert_eq!(payments.cancel_charge(&cancellation(&free)).await.unwrap(), None);
}

pub async fn refunds_and_a_cancellation_at_once_give_back_the_charge_and_no_more(payments: &impl Payments) {
    let request = charge(money(100, "CNY"));
    payments.charge(&request).await.unwrap();
    let parts: Vec<RefundRequest> = (0..6).map(|_| refund(&request, money(30, "CNY"))).collect();
    let cancellation = cancellation(&request);
    let refunds = at_once(parts.iter().map(|part| payments.refund(part)));
    let cancellations = at_once((0..4).map(|_| payments.cancel_charge(&cancellation)));
    let (refunds, cancellations) = tokio::join!(refunds, cancellations);
    assert!(refunds.iter().all(|answer| matches!(answer, Ok(_) | Err(RefundError::TooMuch))), "{refunds:?}");
    let answers: Vec<Option<(Payment, Refund)>> = cancellations.into_iter().map(Result::unwrap).collect();
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(books(payments, &request).await, (request.amount, request.amount));
}

pub async fn a_refund_that_only_a_person_can_decide_on_moves_nothing(payments: &impl Payments) {
    let request = ChargeRequest { payment_method: method("pm_refund_fails"), ..charge(money(100, "CNY")) };
    payments.charge(&request).await.unwrap();
    for _ in 0..2 {
        let answer = payments.refund(&refund(&request, money(10, "CNY"))).await;
        assert!(matches!(&answer, Err(RefundError::Refused(code)) if code == "refund_not_possible"), "{answer:?}");
    }
    let too_much = payments.refund(&refund(&request, money(101, "CNY"))).await;
    assert!(matches!(too_much, Err(RefundError::TooMuch)), "no person need decide on that: {too_much:?}");
    assert_eq!(books(payments, &request).await, (request.amount, money(0, "CNY")));
}

pub async fn a_refund_that_fails_twice_is_made_by_the_third_call(payments: &impl Payments) {
    let request = ChargeRequest { payment_method: method("pm_refund_fails_twice"), ..charge(money(100, "CNY")) };
    payments.charge(&request).await.unwrap();
    let part = refund(&request, money(10, "CNY"));
    for _ in 0..2 {
        payments.refund(&part).await.unwrap_err();
    }
    let first = payments.refund(&part).await.unwrap();
    assert_eq!(payments.refund(&part).await.unwrap(), first);
    assert_eq!(books(payments, &request).await, (request.amount, money(10, "CNY")));
}

pub async fn a_charge_that_was_cancelled_keeps_its_answer(payments: &impl Payments) {
    let request = charge(money(3998, "CNY"));
    let first = payments.charge(&request).await.unwrap();
    payments.cancel_charge(&cancellation(&request)).await.unwrap();
    assert_eq!(payments.charge(&request).await.unwrap(), first);
    assert_key_reused(payments, &request, &ChargeRequest { amount: money(1, "CNY"), ..request.clone() }).await;
    assert_eq!(books(payments, &request).await, (request.amount, request.amount));
}

pub async fn a_declined_charge_that_is_cancelled_stays_declined(payments: &impl Payments) {
    let request = declined(money(3998, "CNY"));
    let _ = payments.charge(&request).await;
    let ledger = payments.ledger(request.order_id).await.unwrap();
    for _ in 0..2 {
        assert_eq!(payments.cancel_charge(&cancellation(&request)).await.unwrap(), None);
        let answer = payments.charge(&request).await;
        assert!(matches!(answer, Err(ChargeError::Declined(_))), "{answer:?}");
        assert_eq!(payments.ledger(request.order_id).await.unwrap(), ledger);
    }
    // Nobody knows of one that has not come what would become of it.
    let barred = declined(money(3998, "CNY"));
    payments.cancel_charge(&cancellation(&barred)).await.unwrap();
    let answer = payments.charge(&barred).await;
    assert!(matches!(answer, Err(ChargeError::Cancelled)), "{answer:?}");
}

pub async fn a_barred_charge_cannot_be_refunded(payments: &impl Payments) {
    let request = charge(money(100, "CNY"));
    payments.cancel_charge(&cancellation(&request)).await.unwrap();
    let answer = payments.refund(&refund(&request, request.amount)).await;
    assert!(matches!(answer, Err(RefundError::NoCharge)), "{answer:?}");
    assert_eq!(payments.ledger(request.order_id).await.unwrap(), [LedgerEntry::Cancelled]);
}

pub async fn a_cancellation_leaves_the_orders_other_charges_alone(payments: &impl Payments) {
    let kept = charge(money(3998, "CNY"));
    let undone = ChargeRequest { idempotency_key: Uuid::new_v4(), amount: money(100, "CNY"), ..kept.clone() };
    let barred = ChargeRequest { idempotency_key: Uuid::new_v4(), ..kept.clone() };
    payments.charge(&kept).await.unwrap();
    payments.charge(&undone).await.unwrap();
    for request in [&undone, &barred] {
        payments.cancel_charge(&cancellation(request)).await.unwrap();
    }
    assert_eq!(books(payments, &kept).await, (money(4098, "CNY"), money(100, "CNY")));
    payments.refund(&refund(&kept, kept.amount)).await.unwrap();
}

pub async fn a_cancellation_that_only_a_person_can_decide_on_changes_nothing(payments: &impl Payments) {
    let request = ChargeRequest { payment_method: method("pm_refund_fails"), ..charge(money(3998, "CNY")) };
    let first = payments.charge(&request).await.unwrap();
    for _ in 0..2 {
        let answer = payments.cancel_charge(&cancellation(&request)).await;
        assert!(
            matches!(&answer, Err(CancelChargeError::Refused(code)) if code == "refund_not_possible"),
            "{answer:?}"
        );
    }
    assert_eq!(books(payments, &request).await, (request.amount, money(0, "CNY")));
    assert_eq!(payments.charge(&request).await.unwrap(), first);
    // Without a charge there is nothing to refund, and nothing to decide on.
    let barred = ChargeRequest { idempotency_key: Uuid::new_v4(), ..request };
    assert_eq!(payments.cancel_charge(&cancellation(&barred)).await.unwrap(), None);
}

async fn assert_unavailable(payments: &impl Payments, request: &ChargeRequest) {
    let answer = payments.charge(request).await;
    assert!(matches!(answer, Err(ChargeError::Unavailable(_))), "{answer:?}");
}

fn charge_by(payment_method: &str) -> ChargeRequest {
    ChargeRequest { payment_method: method(payment_method), ..charge(money(3998, "CNY")) }
}

pub async fn a_charge_without_an_answer_is_made_and_answered_when_it_is_asked_again(payments: &impl Payments) {
    // Each key has its first call.
    for _ in 0..2 {
        let request = charge_by("pm_charged_then_timeout");
        assert_unavailable(payments, &request).await;
        let ledger = payments.ledger(request.order_id).await.unwrap();
        let payment = payments.charge(&request).await.unwrap();
        assert_eq!(payments.charge(&request).await.unwrap(), payment);
        assert_eq!(ledger, [LedgerEntry::Charged(payment.transaction_id, request.amount)]);
        assert_eq!(payments.ledger(request.order_id).await.unwrap(), ledger);
    }
}

pub async fn a_charge_without_an_answer_can_be_cancelled(payments: &impl Payments) {
    let request = charge_by("pm_charged_then_timeout");
    assert_unavailable(payments, &request).await;
    let (charged, _) = payments.cancel_charge(&cancellation(&request)).await.unwrap().unwrap();
    assert_eq!(payments.charge(&request).await.unwrap(), charged);
    assert_eq!(books(payments, &request).await, (request.amount, request.amount));
    // One that is barred is not made at all, so its answer is not withheld either.
    let barred = charge_by("pm_charged_then_timeout");
    assert_eq!(payments.cancel_charge(&cancellation(&barred)).await.unwrap(), None);
    let answer = payments.charge(&barred).await;
    assert!(matches!(answer, Err(ChargeError::Cancelled)), "{answer:?}");
}

pub async fn a_charge_that_fails_twice_is_made_by_the_third_call(payments: &impl Payments) {
    for _ in 0..2 {
        let request = charge_by("pm_fails_twice");
        for _ in 0..2 {
            assert_unavailable(payments, &request).await;
            assert_eq!(payments.ledger(request.order_id).await.unwrap(), []);
        }
        let payment = payments.charge(&request).await.unwrap();
        assert_eq!(payments.charge(&request).await.unwrap(), payment);
        let entry = LedgerEntry::Charged(payment.transaction_id, request.amount);
        assert_eq!(payments.ledger(request.order_id).await.unwrap(), [entry]);
        payments.cancel_charge(&cancellation(&request)).await.unwrap().unwrap();
        assert_eq!(books(payments, &request).await, (request.amount, request.amount));
    }
}

pub async fn a_charge_that_fails_twice_and_comes_at_once_is_made_once(payments: &impl Payments) {
    let request = charge_by("pm_fails_twice");
    let answers = at_once((0..20).map(|_| payments.charge(&request))).await;
    assert_eq!(answers.iter().filter(|answer| matches!(answer, Err(ChargeError::Unavailable(_)))).count(), 2);
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 18);
    assert_eq!(payments.ledger(request.order_id).await.unwrap().len(), 1);
}

pub async fn a_charge_that_fails_twice_can_be_barred_before_it_is_heard(payments: &impl Payments) {
    let request = charge_by("pm_fails_twice");
    assert_unavailable(payments, &request).await;
    assert_eq!(payments.cancel_charge(&cancellation(&request)).await.unwrap(), None);
    for _ in 0..3 {
        payments.charge(&request).await.unwrap_err();
    }
    let answer = payments.charge(&request).await;
    assert!(matches!(answer, Err(ChargeError::Cancelled)), "{answer:?}");
    assert_eq!(payments.ledger(request.order_id).await.unwrap(), [LedgerEntry::Cancelled]);
}

pub async fn a_slow_charge_is_a_charge_like_any_other(payments: &impl Payments) {
    let request = charge_by("pm_slow");
    let answers = at_once((0..2).map(|_| payments.charge(&request))).await;
    let answers: Vec<Payment> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers[0], answers[1]);
    assert_eq!(books(payments, &request).await, (request.amount, money(0, "CNY")));
}

pub async fn a_cancellation_whose_refund_fails_twice_gives_back_at_the_third_call(payments: &impl Payments) {
    let request = charge_by("pm_refund_fails_twice");
    payments.charge(&request).await.unwrap();
    let undo = cancellation(&request);
    for _ in 0..2 {
        payments.cancel_charge(&undo).await.unwrap_err();
        assert_eq!(books(payments, &request).await, (request.amount, money(0, "CNY")));
    }
    let first = payments.cancel_charge(&undo).await.unwrap();
    assert!(first.is_some());
    assert_eq!(payments.cancel_charge(&undo).await.unwrap(), first);
    assert_eq!(books(payments, &request).await, (request.amount, request.amount));
    assert_eq!(payments.ledger(request.order_id).await.unwrap().len(), 2);
    // Without a charge there is nothing to refund, and nothing that fails.
    let barred = charge_by("pm_refund_fails_twice");
    assert_eq!(payments.cancel_charge(&cancellation(&barred)).await.unwrap(), None);
}

/// Charges and cancels as often as this at the same time, and asserts that it has cost nothing and says so.
async fn charge_and_cancel_at_once(payments: &impl Payments, times: usize, cancel_first: bool) {
    let request = charge(money(3998, "CNY"));
    let cancellation = cancellation(&request);
    let call = async |number: usize| {
        if number.is_multiple_of(2) == cancel_first {
            payments.cancel_charge(&cancellation).await.unwrap();
        } else {
            let answer = payments.charge(&request).await;
            assert!(matches!(answer, Ok(_) | Err(ChargeError::Cancelled)), "{answer:?}");
        }
    };
    at_once((0..2 * times).map(call)).await;
    let ledger = payments.ledger(request.order_id).await.unwrap();
    let answer = payments.charge(&request).await;
    if let Some((charged, refund)) = payments.cancel_charge(&cancellation).await.unwrap() {
        assert_eq!(answer.unwrap(), charged);
        assert_eq!(ledger.len(), 2);
        assert!(ledger.contains(&LedgerEntry::Charged(charged.transaction_id, request.amount)), "{ledger:?}");
        assert!(ledger.contains(&LedgerEntry::Refunded(refund.transaction_id, request.amount)), "{ledger:?}");
    } else {
        assert!(matches!(answer, Err(ChargeError::Cancelled)), "{answer:?}");
        assert_eq!(ledger, [LedgerEntry::Cancelled]);
    }
    assert_eq!(payments.ledger(request.order_id).await.unwrap().len(), ledger.len());
}

pub async fn a_charge_that_is_cancelled_meanwhile_costs_nothing(payments: &impl Payments) {
    for round in 0..20 {
        charge_and_cancel_at_once(payments, 1, round % 2 == 0).await;
    }
}

pub async fn a_charge_and_its_cancellation_many_times_at_once_cost_nothing(payments: &impl Payments) {
    for round in 0..20 {
        charge_and_cancel_at_once(payments, 5, round % 2 == 0).await;
    }
}

pub async fn an_order_without_entries_has_an_empty_ledger(payments: &impl Payments) {
    assert_eq!(payments.ledger(order_id()).await.unwrap(), []);
}

pub async fn ledgers_of_two_orders_do_not_mix(payments: &impl Payments) {
    let (one, other) = (charge(money(1, "CNY")), charge(money(2, "CNY")));
    payments.charge(&one).await.unwrap();
    payments.charge(&other).await.unwrap();
    assert_eq!(books(payments, &one).await.0, one.amount);
    assert_eq!(books(payments, &other).await.0, other.amount);
}
