//! Do the providers' books say what the order's do, now that nothing can be under way any more?

use super::{Attention, Comparison, Course, LateEffect, Order, OrderEvent, SkippableStep, flag::flag};
use crate::books::Books;

/// Why nothing is recorded of a comparison.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the order's books are not to be compared")]
pub struct CompareRejection;

/// `BooksCompared` when what the providers have `found` is what the order has in `books`, and nobody is owed anything; otherwise
/// `OrderFlagged`, for a person to see, or nothing when the order is flagged for it already. An order that has ended keeps money
/// only when staff answer for it.
pub fn compare(
    order: &Order,
    books: &Books,
    found: &Books,
    late: &[LateEffect],
    staff_answer_for_money: bool,
) -> Result<Vec<OrderEvent>, CompareRejection> {
    if !order.is_to_be_compared() {
        return Err(CompareRejection);
    }
    let ended = matches!(order.course, Course::Ended(..));
    let owed = ended && books.charged != books.refunded && !staff_answer_for_money;
    if books.agrees_with(found) && !owed {
        return Ok(vec![OrderEvent::BooksCompared(Comparison { found: found.clone(), late: late.to_vec() })]);
    }
    flag(order, &not_compared("BooksDiffer")).map_err(|_| CompareRejection)
}

/// What a person is told when the books differ, or cannot be had.
pub fn not_compared(reason: &str) -> Attention {
    Attention { step: SkippableStep::CompareBooks.name().to_owned(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::books::ShipmentBook;
    use crate::spec::{
        cancel_requested, cancelled, compared, confirmed, created, flagged_at, given, money, paid, refund_failed,
        refund_requested, refunded, reserved, resumed, shipped, skipped,
    };

    fn undone() -> Vec<OrderEvent> {
        vec![
            created(),
            reserved(),
            paid(),
            cancel_requested(),
            refunded(),
            OrderEvent::InventoryReleased {},
            cancelled(),
        ]
    }

    fn books(events: &[OrderEvent]) -> Books {
        Books::of(events).unwrap().unwrap()
    }

    fn charged_once_more(books: &Books) -> Books {
        Books { charged: money(2 * 3998), ..books.clone() }
    }

    fn differ() -> OrderEvent {
        OrderEvent::OrderFlagged(not_compared("BooksDiffer"))
    }

    #[test]
    fn an_order_that_was_undone_is_compared_once() {
        let books = books(&undone());
        given(undone()).when(|order| compare(order, &books, &books, &[], false)).then([compared()]);
        given([undone(), vec![compared()]].concat())
            .when(|order| compare(order, &books, &books, &[], false))
            .then_rejected(&CompareRejection);
    }

    #[test]
    fn what_had_come_late_is_named() {
        let (books, late) = (books(&undone()), [LateEffect::Charge]);
        let comparison = Comparison { found: books.clone(), late: late.to_vec() };
        given(undone())
            .when(|order| compare(order, &books, &books, &late, false))
            .then([OrderEvent::BooksCompared(comparison)]);
    }

    #[test]
    fn books_that_differ_ask_for_a_person_once() {
        let books = books(&undone());
        let found = charged_once_more(&books);
        let differing = |order: &Order| compare(order, &books, &found, &[], false);
        given(undone()).when(differing).then([differ()]);
        given([undone(), vec![differ()]].concat()).when(differing).then_nothing();
        given([undone(), vec![differ(), resumed(false)]].concat()).when(differing).then([differ()]);
        // Put right at the provider, they agree.
        given([undone(), vec![differ()]].concat())
            .when(|order| compare(order, &books, &books, &[], false))
            .then([compared()]);
    }

    #[test]
    fn who_answers_for_books_that_differ_ends_all_doubt() {
        let books = books(&undone());
        let answered_for = [undone(), vec![differ(), skipped(SkippableStep::CompareBooks)]].concat();
        let order = Order::from_events(&answered_for);
        assert_eq!((order.is_open(), order.attention), (false, None));
        given(answered_for)
            .when(|order| compare(order, &books, &charged_once_more(&books), &[], false))
            .then_rejected(&CompareRejection);
    }

    #[test]
    fn an_order_waits_for_a_person_also_at_rest_while_its_books_differ() {
        let order = Order::from_events(&[undone(), vec![differ()]].concat());
        assert!(order.is_open() && order.attention.is_some_and(|attention| attention.is_of_the_books()));
    }

    #[test]
    fn an_order_that_has_ended_owes_what_it_keeps_unless_staff_answer_for_it() {
        let books = Books { refunded: money(1000), ..books(&undone()) };
        given(undone()).when(|order| compare(order, &books, &books, &[], false)).then([differ()]);
        let agreed = OrderEvent::BooksCompared(Comparison { found: books.clone(), late: vec![] });
        given(undone()).when(|order| compare(order, &books, &books, &[], true)).then([agreed]);
    }

    #[test]
    fn what_is_under_way_or_went_well_is_not_compared() {
        let happy = [created(), reserved(), paid(), shipped(), confirmed()];
        let of_happy = books(&happy);
        let compared = |order: &Order| compare(order, &of_happy, &of_happy, &[], false);
        given(happy.clone()).when(compared).then_rejected(&CompareRejection);
        given([created(), reserved(), cancel_requested()]).when(compared).then_rejected(&CompareRejection);
        given([happy.as_slice(), &[refund_requested(100), refund_failed(100), refund_requested(50)]].concat())
            .when(compared)
            .then_rejected(&CompareRejection);
        given([]).when(compared).then_rejected(&CompareRejection);
    }

    #[test]
    fn an_order_that_stands_is_compared_after_an_answer_that_nobody_heard() {
        let unheard =
            [created(), reserved(), flagged_at("process-payment"), resumed(false), paid(), shipped(), confirmed()];
        let books = books(&unheard);
        let agreed = OrderEvent::BooksCompared(Comparison { found: books.clone(), late: vec![] });
        given(unheard).when(|order| compare(order, &books, &books, &[], false)).then([agreed]);
        assert_eq!(books.shipment, ShipmentBook::Created);
    }
}
