//! What becomes of money, stock and parcels that come about after an order has ended, at providers that cannot bar for ever.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

use application::{
    compare_books::{CompareError, Finding, GIVE_UP, PATIENCE, compare_books},
    event_store::Unavailable,
    fulfilment::shipment::shipment_key,
    ledger::ledger,
    memory::{Fault, MemoryPayments},
    ports::{
        CancelChargeError, ChargeCancellation, ChargeError, ChargeRequest, Inventory, LedgerEntry, Payments,
        RefundError, RefundRequest, ShipmentRequest, Shipping, StockLine,
    },
    shop::{FORWARD, Shop, Step, at, cny, tea},
};
use chrono::TimeDelta;
use domain::{
    address::{CountryCode, ShippingAddress},
    books::ShipmentBook,
    ids::{CustomerId, OrderId, PaymentMethod},
    money::{Currency, Money, Quantity},
    order::{Attention, LateEffect, OrderEvent, Payment, Refund, SkippableStep},
    text::Text,
};
use uuid::Uuid;

/// As long as the books are left alone, and a moment.
const LATER: TimeDelta = TimeDelta::hours(25);

const TOTAL: u64 = 2 * 1999;

struct Case {
    shop: Shop,
    id: OrderId,
}

impl Case {
    async fn placed(payment_method: &str) -> Self {
        let (shop, id) = (Shop::with_stock(10).await, OrderId::new(Uuid::new_v4()));
        shop.place(id, payment_method).await.unwrap();
        Self { shop, id }
    }

    /// Cancelled after so many steps, and undone; and no provider knows any more what it has barred.
    async fn cancelled_after(steps: usize) -> Self {
        let case = Self::placed("pm_card_visa").await;
        for step in &FORWARD[..steps] {
            case.shop.run(*step, case.id).await.unwrap();
        }
        case.shop.cancel(case.id).await.unwrap();
        case.shop.undo(case.id, 1).await.unwrap();
        case.shop.payments.forget_what_is_barred();
        case.shop.inventory.forget_what_is_barred();
        case.shop.shipping.forget_what_is_barred();
        case
    }

    async fn compare(&self, later: TimeDelta) -> Finding {
        self.shop.compare_books(self.id, later).await.unwrap()
    }

    /// The attempt at the charge that was on its way when the order was cancelled.
    async fn a_charge_comes(&self) {
        self.a_charge_comes_of(cny(TOTAL)).await;
    }

    async fn a_charge_comes_of(&self, amount: Money) {
        let request = ChargeRequest {
            idempotency_key: self.id.work_id("process-payment"),
            order_id: self.id,
            customer_id: CustomerId::parse("customer-1").unwrap(),
            payment_method: PaymentMethod::default(),
            amount,
        };
        self.shop.payments.charge(&request).await.unwrap();
    }

    fn lines() -> Vec<StockLine> {
        vec![StockLine { product_id: tea(), quantity: Quantity::new(2).unwrap() }]
    }

    async fn a_reservation_comes(&self) {
        self.shop.inventory.reserve(self.id, &Self::lines()).await.unwrap();
    }

    async fn a_parcel_comes(&self) {
        let text = |text| Text::parse(text).unwrap();
        let address = ShippingAddress {
            street: text("1 Nanjing Road"),
            city: Text::parse("Shanghai").ok(),
            state: Text::parse("Shanghai").ok(),
            country: CountryCode::parse("CN").unwrap(),
            postal_code: Text::parse("200001").ok(),
        };
        let request = ShipmentRequest {
            idempotency_key: shipment_key(self.id),
            order_id: self.id,
            address,
            lines: Self::lines(),
        };
        self.shop.shipping.create_shipment(&request).await.unwrap();
    }

    async fn last_event(&self) -> OrderEvent {
        self.shop.events(self.id).await.pop().unwrap()
    }

    /// Nothing is paid or held, and both books say so.
    async fn assert_right(&self) {
        let Shop { store, payments, inventory, shipping, .. } = &self.shop;
        let books = ledger(store, payments, inventory, shipping, self.id).await.unwrap();
        assert!(books.order.agrees_with(&books.providers), "{books:?}");
        assert_eq!(self.shop.balance(self.id).await, cny(0));
        assert_eq!(self.shop.stock().await, 10);
        assert_ne!(books.providers.shipment, ShipmentBook::Created);
    }
}

fn differ() -> Finding {
    Finding::Flagged(Attention { step: "compare-books".to_owned(), reason: "BooksDiffer".to_owned() })
}

#[tokio::test]
async fn a_charge_that_comes_after_its_cancellation_was_answered_goes_back_once() {
    let case = Case::cancelled_after(1).await;
    case.a_charge_comes().await;
    assert_eq!(case.shop.balance(case.id).await, cny(TOTAL));
    assert_eq!(case.compare(LATER).await, Finding::Agreed(vec![LateEffect::Charge]));
    case.assert_right().await;
    let events = case.shop.event_types(case.id).await;
    assert_eq!(events[events.len() - 4..], ["OrderCancelled", "PaymentCompleted", "PaymentRefunded", "BooksCompared"]);
    assert_eq!(case.compare(LATER * 2).await, Finding::NotToBeCompared);
    assert_eq!(case.shop.event_types(case.id).await, events);
}

#[tokio::test]
async fn all_that_can_come_late_goes_back() {
    let case = Case::cancelled_after(0).await;
    case.a_reservation_comes().await;
    case.a_charge_comes().await;
    case.a_parcel_comes().await;
    let all = vec![LateEffect::Shipment, LateEffect::Charge, LateEffect::Reservation];
    assert_eq!(case.compare(LATER).await, Finding::Agreed(all));
    case.assert_right().await;
}

#[tokio::test]
async fn who_dies_between_giving_back_and_saying_so_is_followed_by_one_who_says_it() {
    let case = Case::cancelled_after(1).await;
    case.a_charge_comes().await;
    case.a_reservation_comes().await;
    // The first gives the money back, and does not get to its record.
    case.shop.inventory.faults.push(Fault::AfterEffect);
    assert!(case.shop.compare_books(case.id, LATER).await.is_err());
    assert_eq!(case.shop.balance(case.id).await, cny(0));
    assert_eq!(case.compare(LATER).await, Finding::Agreed(vec![LateEffect::Charge]));
    case.assert_right().await;
}

/// Of whatever is to go back, it gives back this much.
struct GivesBackTooLittle<'p>(&'p MemoryPayments, u64);

application::only_providers!(GivesBackTooLittle<'_>);

impl Payments for GivesBackTooLittle<'_> {
    async fn charge(&self, request: &ChargeRequest) -> Result<Payment, ChargeError> {
        self.0.charge(request).await
    }

    async fn cancel_charge(
        &self,
        cancellation: &ChargeCancellation,
    ) -> Result<Option<(Payment, Refund)>, CancelChargeError> {
        let ChargeCancellation { order_id, charge_key, refund_key: idempotency_key } = *cancellation;
        let request = RefundRequest { idempotency_key, order_id, charge_key, amount: cny(self.1) };
        let refund = self.0.refund(&request).await.unwrap();
        let charged = self.0.ledger(order_id).await?.into_iter().find_map(|entry| match entry {
            LedgerEntry::Charged(transaction_id, amount) => Some((transaction_id, amount)),
            _ => None,
        });
        let payment = |(transaction_id, amount)| Payment { transaction_id, amount, processed_at: refund.processed_at };
        Ok(charged.map(payment).map(|payment| (payment, refund.clone())))
    }

    async fn refund(&self, request: &RefundRequest) -> Result<Refund, RefundError> {
        self.0.refund(request).await
    }

    async fn refunded(&self, order_id: OrderId, refund_key: Uuid) -> Result<Option<Refund>, Unavailable> {
        self.0.refunded(order_id, refund_key).await
    }

    async fn ledger(&self, order_id: OrderId) -> Result<Vec<LedgerEntry>, Unavailable> {
        self.0.ledger(order_id).await
    }
}

#[tokio::test]
async fn who_gives_back_too_little_still_owes_the_rest_though_both_books_say_so() {
    let case = Case::cancelled_after(1).await;
    case.a_charge_comes().await;
    let Shop { store, payments, inventory, shipping, .. } = &case.shop;
    let payments = GivesBackTooLittle(payments, 1000);
    let found = compare_books(store, (&payments, inventory, shipping), case.id, PATIENCE, false, at() + LATER).await;
    assert_eq!(found.unwrap(), differ());
    assert_eq!(case.shop.balance(case.id).await, cny(TOTAL - 1000));
    // What has gone back is recorded all the same, and the order waits for whoever sees to the rest.
    let events = case.shop.event_types(case.id).await;
    assert_eq!(events[events.len() - 3..], ["PaymentCompleted", "PaymentRefunded", "OrderFlagged"]);
    let again =
        compare_books(store, (&payments, inventory, shipping), case.id, PATIENCE, false, at() + LATER * 2).await;
    assert_eq!(again.unwrap(), Finding::Waiting);
    assert_eq!(case.shop.balance(case.id).await, cny(TOTAL - 1000));
}

#[tokio::test]
async fn an_order_that_was_undone_is_left_alone_for_a_day_and_then_compared_once() {
    let case = Case::cancelled_after(4).await;
    assert_eq!(case.compare(PATIENCE - TimeDelta::seconds(1)).await, Finding::Moving);
    assert_eq!(case.compare(PATIENCE).await, Finding::Agreed(vec![]));
    assert!(matches!(case.last_event().await, OrderEvent::BooksCompared(_)));
    assert_eq!(case.compare(LATER).await, Finding::NotToBeCompared);
    case.assert_right().await;
}

#[tokio::test]
async fn an_order_that_went_well_is_not_compared() {
    let case = Case::placed("pm_card_visa").await;
    case.shop.fulfil(case.id, 1).await.unwrap();
    assert_eq!(case.compare(LATER).await, Finding::NotToBeCompared);
}

/// As after a restore to an earlier time: what has happened since then only the providers know.
#[tokio::test]
async fn an_order_that_went_well_is_compared_when_somebody_doubts_it() {
    let case = Case::placed("pm_card_visa").await;
    case.shop.fulfil(case.id, 1).await.unwrap();
    let doubted = async |later| case.shop.compare_books_of(case.id, later, true).await.unwrap();
    let events = case.shop.event_types(case.id).await;
    assert_eq!(doubted(PATIENCE - TimeDelta::seconds(1)).await, Finding::Moving);
    assert_eq!(doubted(LATER).await, Finding::Agreed(vec![]));
    assert_eq!(case.shop.event_types(case.id).await, events, "there was no doubt, and there is nothing to say");

    let (idempotency_key, charge_key) = (Uuid::new_v4(), case.id.work_id("process-payment"));
    let refund = RefundRequest { idempotency_key, order_id: case.id, charge_key, amount: cny(100) };
    case.shop.payments.refund(&refund).await.unwrap();
    assert_eq!(case.compare(LATER).await, Finding::NotToBeCompared);
    assert_eq!(doubted(LATER).await, differ());
    assert_eq!(doubted(LATER * 2).await, Finding::Waiting);
    // From then on it is in doubt like any other, until somebody answers for it.
    case.shop.resume(case.id).await.unwrap();
    assert_eq!(case.compare(LATER * 3).await, differ());
    case.shop.skip(case.id, SkippableStep::CompareBooks).await.unwrap();
    assert_eq!(case.compare(LATER * 4).await, Finding::NotToBeCompared);
    assert_eq!(case.shop.balance(case.id).await, cny(TOTAL - 100));
}

/// Nothing is compared while an execution may be at work.
#[tokio::test]
async fn an_order_that_is_under_way_is_not_compared_whoever_doubts_it() {
    let case = Case::placed("pm_card_visa").await;
    for step in &FORWARD[..3] {
        case.shop.run(*step, case.id).await.unwrap();
    }
    assert_eq!(case.shop.compare_books_of(case.id, LATER, true).await.unwrap(), Finding::NotToBeCompared);
}

#[tokio::test]
async fn a_parcel_that_has_arrived_is_for_a_person_and_no_money_moves_before() {
    let case = Case::cancelled_after(1).await;
    case.a_charge_comes().await;
    case.a_parcel_comes().await;
    case.shop.shipping.confirm_delivery(shipment_key(case.id)).await.unwrap();
    assert_eq!(case.compare(LATER).await, differ());
    assert_eq!(case.shop.balance(case.id).await, cny(TOTAL));
    // Nothing is said twice, and whoever lets it go on has it looked at again.
    assert_eq!(case.compare(LATER * 2).await, Finding::Waiting);
    case.shop.resume(case.id).await.unwrap();
    assert_eq!(case.compare(LATER * 3).await, differ());
    case.shop.skip(case.id, SkippableStep::CompareBooks).await.unwrap();
    assert_eq!(case.compare(LATER * 4).await, Finding::NotToBeCompared);
    assert_eq!(case.shop.order(case.id).await.attention, None);
}

#[tokio::test]
async fn an_execution_that_a_resumption_starts_finds_nothing_to_do() {
    let case = Case::cancelled_after(1).await;
    case.a_charge_comes().await;
    case.a_parcel_comes().await;
    case.shop.shipping.confirm_delivery(shipment_key(case.id)).await.unwrap();
    assert_eq!(case.compare(LATER).await, differ());
    case.shop.resume(case.id).await.unwrap();
    let before = case.shop.event_types(case.id).await;
    for step in FORWARD {
        assert!(case.shop.run(step, case.id).await.is_err());
    }
    case.shop.undo(case.id, 1).await.unwrap();
    assert_eq!(case.shop.event_types(case.id).await, before);
    assert_eq!(case.shop.balance(case.id).await, cny(TOTAL));
}

#[tokio::test]
async fn money_that_staff_answer_for_does_not_move() {
    let case = Case::placed("pm_refund_fails").await;
    for step in &FORWARD[..3] {
        case.shop.run(*step, case.id).await.unwrap();
    }
    case.shop.cancel(case.id).await.unwrap();
    case.shop.run(Step::CancelShipment, case.id).await.unwrap();
    assert!(case.shop.run(Step::Refund, case.id).await.is_err());
    case.shop.flag(case.id, "refund-payment", "RequestRefused").await.unwrap();
    case.shop.skip(case.id, SkippableStep::RefundPayment).await.unwrap();
    case.shop.undo(case.id, 1).await.unwrap();
    assert_eq!(case.compare(LATER).await, Finding::Agreed(vec![]));
    assert_eq!(case.shop.balance(case.id).await, cny(TOTAL));
}

#[tokio::test]
async fn providers_that_cannot_be_asked_for_days_are_for_a_person() {
    let case = Case::cancelled_after(1).await;
    case.a_charge_comes().await;
    let down = || case.shop.payments.faults.push(Fault::BeforeEffect);
    down();
    assert!(matches!(case.shop.compare_books(case.id, LATER).await, Err(CompareError::Provider(_))));
    down();
    let found = case.compare(GIVE_UP + LATER).await;
    let unavailable = Attention { step: "compare-books".to_owned(), reason: "Unavailable".to_owned() };
    assert_eq!(found, Finding::Flagged(unavailable));
    // The provider is back, and somebody has it asked again.
    assert_eq!(case.compare(GIVE_UP * 2 + LATER).await, Finding::Agreed(vec![LateEffect::Charge]));
    case.assert_right().await;
}

/// Nobody can add it up or say what of it is to go back, and it does not pass by itself.
#[tokio::test]
async fn a_charge_in_another_currency_is_for_a_person() {
    let case = Case::cancelled_after(1).await;
    case.a_charge_comes_of(Money::new(TOTAL, Currency::parse("USD").unwrap()).unwrap()).await;
    assert!(matches!(case.shop.compare_books(case.id, LATER).await, Err(CompareError::Provider(_))));
    let misbehaves = Attention { step: "compare-books".to_owned(), reason: "ProviderMisbehaved".to_owned() };
    assert_eq!(case.compare(GIVE_UP + LATER).await, Finding::Flagged(misbehaves));
}
