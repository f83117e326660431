//! When may staff give money back, and how much?

use super::{Course, Order, OrderEvent, RefundState, RequestedRefund};
use crate::money::Money;

/// How many refunds one order may have, failed ones included: its stream must stay short enough to be read at once.
const REFUNDS_MAX: usize = 50;

/// Why no refund is requested.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefundRejection {
    #[error("there is no such order")]
    UnknownOrder,
    #[error("nothing has been paid for the order")]
    NotPaid,
    #[error("the order is being undone or has been: what is left of its payment goes back with it")]
    Undone,
    #[error("a refund of nothing")]
    Nothing,
    #[error("the order was paid in {}", .refundable.currency().code())]
    OtherCurrency { charged: Money, refundable: Money },
    #[error("the refund is above what is left of the payment")]
    TooMuch { charged: Money, refundable: Money },
    #[error("an order may have at most {REFUNDS_MAX} refunds")]
    TooMany,
    #[error("more than {bound} minor units of one order are for supervisors to give back")]
    AboveBound { bound: u64 },
}

/// The same, for whoever may give back so many minor units of an order in all, other people's refunds included.
pub fn request_refund_up_to(
    bound: u64,
    order: &Order,
    refund: &RequestedRefund,
) -> Result<Vec<OrderEvent>, RefundRejection> {
    let events = request_refund(order, refund)?;
    let earlier = order.refunds.iter().filter(|earlier| earlier.state != RefundState::Failed);
    let in_all =
        earlier.fold(refund.amount.amount(), |sum, earlier| sum.saturating_add(earlier.requested.amount.amount()));
    if !events.is_empty() && in_all > bound { Err(RefundRejection::AboveBound { bound }) } else { Ok(events) }
}

/// `RefundRequested`, or nothing when that very refund is already requested. Never more in all than was paid.
pub fn request_refund(order: &Order, refund: &RequestedRefund) -> Result<Vec<OrderEvent>, RefundRejection> {
    if order.refunds.iter().any(|earlier| earlier.requested.refund_id == refund.refund_id) {
        return Ok(vec![]);
    }
    let payment = match (&order.course, order.course.payment()) {
        (_, Some(payment)) => payment,
        (Course::NotCreated, None) => return Err(RefundRejection::UnknownOrder),
        (Course::Undoing(..) | Course::Ended(..), None) => return Err(RefundRejection::Undone),
        (_, None) => return Err(RefundRejection::NotPaid),
    };
    let charged = payment.amount;
    // Refunds that together exceed the payment leave nothing of it; the decisions below never write such a history.
    let refundable = order.left_of(payment).unwrap_or(Money::zero(charged.currency()));
    if refund.amount.amount() == 0 {
        Err(RefundRejection::Nothing)
    } else if refund.amount.currency() != charged.currency() {
        Err(RefundRejection::OtherCurrency { charged, refundable })
    } else if refundable.minus(refund.amount).is_err() {
        Err(RefundRejection::TooMuch { charged, refundable })
    } else if order.refunds.len() >= REFUNDS_MAX {
        Err(RefundRejection::TooMany)
    } else {
        Ok(vec![OrderEvent::RefundRequested(refund.clone())])
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{
        ids::RefundId,
        money::Currency,
        order::{CompletedRefund, FailedRefund, Refund},
        spec::{
            cancel_requested, cancelled, confirmed, created, delivered, given, money, order_id, paid, refund,
            refund_completed, refund_failed, refund_id, refund_reason, refund_requested, reserved, shipped,
        },
    };

    fn another(amount: u64) -> RequestedRefund {
        let refund_id = RefundId(order_id().work_id("another refund"));
        RequestedRefund { refund_id, amount: money(amount), reason: refund_reason(), note: None }
    }

    fn of(amount: u64) -> impl Fn(&Order) -> Result<Vec<OrderEvent>, RefundRejection> {
        move |order| request_refund(order, &another(amount))
    }

    #[test]
    fn who_has_a_bound_gives_back_no_more_of_an_order_in_all() {
        let up_to = |bound: u64, amount: u64| move |order: &Order| request_refund_up_to(bound, order, &another(amount));
        let standing = vec![created(), reserved(), paid(), shipped(), confirmed()];
        let above = |bound| RefundRejection::AboveBound { bound };
        given(standing.clone()).when(up_to(100, 100)).then([OrderEvent::RefundRequested(another(100))]);
        given(standing.clone()).when(up_to(100, 101)).then_rejected(&above(100));
        let refunded = [standing.as_slice(), &[refund_requested(100)]].concat();
        given(refunded.clone()).when(up_to(150, 50)).then([OrderEvent::RefundRequested(another(50))]);
        given(refunded.clone()).when(up_to(150, 51)).then_rejected(&above(150));
        let failed = [refunded.as_slice(), &[refund_failed(100)]].concat();
        given(failed).when(up_to(150, 150)).then([OrderEvent::RefundRequested(another(150))]);
        // What is requested already is not requested again, by whoever.
        let again = [standing.as_slice(), &[OrderEvent::RefundRequested(another(100))]].concat();
        given(again).when(up_to(1, 100)).then_nothing();
    }

    #[test]
    fn what_is_paid_can_be_given_back_in_whole_or_in_part() {
        let requested = |amount| OrderEvent::RefundRequested(another(amount));
        given([created(), reserved(), paid()]).when(of(1)).then([requested(1)]);
        given([created(), reserved(), paid(), shipped(), confirmed(), delivered()])
            .when(of(3998))
            .then([requested(3998)]);
        given([created(), reserved(), paid(), refund_requested(1000), refund_failed(1000)])
            .when(of(3998))
            .then([requested(3998)]);
    }

    #[test]
    fn the_same_refund_is_requested_once() {
        let first = RequestedRefund { refund_id: refund_id(), ..another(1000) };
        given([created(), reserved(), paid(), refund_requested(1000)])
            .when(|order| request_refund(order, &first))
            .then_nothing();
        given([created(), reserved(), paid(), refund_requested(1000), cancel_requested()])
            .when(|order| request_refund(order, &first))
            .then_nothing();
    }

    #[test]
    fn never_more_is_given_back_than_was_paid() {
        let rejection = |refundable| RefundRejection::TooMuch { charged: money(3998), refundable: money(refundable) };
        given([created(), reserved(), paid()]).when(of(3999)).then_rejected(&rejection(3998));
        given([created(), reserved(), paid(), refund_requested(1000)]).when(of(2999)).then_rejected(&rejection(2998));
        given([created(), reserved(), paid(), refund_requested(1000), refund_completed(1000)])
            .when(of(2999))
            .then_rejected(&rejection(2998));
    }

    #[test]
    fn a_refund_has_an_amount_in_the_payments_currency() {
        given([created(), reserved(), paid()]).when(of(0)).then_rejected(&RefundRejection::Nothing);
        let dollars = RequestedRefund { amount: Money::new(1, Currency::parse("USD").unwrap()).unwrap(), ..another(1) };
        let other = RefundRejection::OtherCurrency { charged: money(3998), refundable: money(3998) };
        given([created(), reserved(), paid()]).when(|order| request_refund(order, &dollars)).then_rejected(&other);
    }

    #[test]
    fn what_is_not_paid_or_goes_back_anyway_is_not_refunded() {
        given([]).when(of(1)).then_rejected(&RefundRejection::UnknownOrder);
        given([created(), reserved()]).when(of(1)).then_rejected(&RefundRejection::NotPaid);
        given([created(), reserved(), paid(), cancel_requested()]).when(of(1)).then_rejected(&RefundRejection::Undone);
        given([created(), cancel_requested(), cancelled()]).when(of(1)).then_rejected(&RefundRejection::Undone);
    }

    #[test]
    fn an_order_has_a_bounded_number_of_refunds() {
        let mut order = Order::from_events(&[created(), reserved(), paid()]);
        for n in 0..REFUNDS_MAX {
            let refund = RequestedRefund { refund_id: RefundId(order_id().work_id(&n.to_string())), ..another(1) };
            let events = request_refund(&order, &refund).unwrap();
            order = events.iter().fold(order, Order::evolve);
        }
        assert_eq!(request_refund(&order, &another(1)), Err(RefundRejection::TooMany));
    }

    proptest! {
        #[test]
        fn however_refunds_end_their_sum_stays_within_the_payment(asked in vec((1..3998_u64, 0..3_u8), 0..40)) {
            let mut order = Order::from_events(&[created(), reserved(), paid()]);
            let mut given_back = money(0);
            for (n, (amount, end)) in asked.into_iter().enumerate() {
                let requested = RequestedRefund { refund_id: RefundId(order_id().work_id(&n.to_string())), ..another(amount) };
                let Ok(mut events) = request_refund(&order, &requested) else { continue };
                let refund_id = requested.refund_id;
                match end {
                    0 => {}
                    1 => {
                        given_back = given_back.plus(money(amount)).unwrap();
                        let refund = Refund { amount: money(amount), ..refund() };
                        events.push(OrderEvent::RefundCompleted(CompletedRefund { refund_id, refund }));
                    }
                    _ => events.push(OrderEvent::RefundFailed(FailedRefund { refund_id, amount: money(amount), reason: "too_much".to_owned() })),
                }
                order = events.iter().fold(order, Order::evolve);
            }
            prop_assert!(given_back.amount() <= 3998);
        }
    }
}
