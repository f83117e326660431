//! What every [`Shipping`] must do.

use domain::{address::ShippingAddress, books::ShipmentBook, order::Shipment};
use serde_json::json;
use uuid::Uuid;

use super::{at_once, order_id, product_id, quantity};
use crate::ports::{DeliveryError, ShipmentError, ShipmentRequest, Shipping, StockLine, TakeBackError};

/// One test per law; `make` is a future of the carrier. Or the laws as data, each with the capability that it needs.
#[macro_export]
macro_rules! shipping_conformance {
    ($make:expr) => {
        $crate::shipping_conformance! { conformance_tests, $make }
    };
    ($each:ident, $of:tt) => {
        $crate::$each! { shipping, $of,
            a_repeated_request_gets_the_first_shipment
            a_request_that_comes_twenty_times_at_once_gets_one_shipment
            two_keys_get_two_shipments
            the_books_say_what_became_of_a_shipment
            a_refusal_is_remembered: sandbox
            a_refusal_stays_a_refusal_when_the_shipment_is_cancelled: sandbox
            a_shipment_that_is_cancelled_first_is_barred
            a_shipment_that_is_cancelled_is_taken_back_for_good
            cancellations_at_the_same_time_take_the_shipment_back
            a_cancellation_leaves_other_shipments_alone
            a_shipment_that_is_cancelled_meanwhile_is_not_under_way
            a_refusal_that_is_cancelled_meanwhile_is_no_shipment: sandbox
            a_shipment_without_an_answer_is_created_and_answered_when_it_is_asked_again: sandbox
            a_shipment_without_an_answer_can_be_cancelled: sandbox
            a_shipment_that_the_carrier_keeps_is_never_given_back: sandbox
            a_parcel_arrives_once_and_for_good: sandbox
            a_parcel_that_has_arrived_is_not_taken_back: sandbox
            what_is_not_under_way_does_not_arrive
            of_a_delivery_and_a_cancellation_at_once_exactly_one_comes_about
        }
    };
}

fn address(postal_code: &str) -> ShippingAddress {
    serde_json::from_value(json!({
        "street": "南京路 1 号", "city": "上海", "state": "上海", "country": "CN", "postal_code": postal_code
    }))
    .unwrap()
}

fn request() -> ShipmentRequest {
    ShipmentRequest {
        idempotency_key: Uuid::new_v4(),
        order_id: order_id(),
        address: address("200001"),
        lines: vec![StockLine { product_id: product_id("tea"), quantity: quantity(2) }],
    }
}

/// A request that the carrier refuses.
fn refused() -> ShipmentRequest {
    ShipmentRequest { address: address("SANDBOX-REFUSE"), ..request() }
}

async fn cancel(shipping: &impl Shipping, request: &ShipmentRequest) {
    shipping.cancel_shipment(request.order_id, request.idempotency_key).await.unwrap();
}

async fn assert_refused(shipping: &impl Shipping, request: &ShipmentRequest) {
    let answer = shipping.create_shipment(request).await;
    assert!(matches!(&answer, Err(ShipmentError::Refused(code)) if code == "address_unknown"), "{answer:?}");
}

async fn assert_cancelled(shipping: &impl Shipping, request: &ShipmentRequest) {
    let answer = shipping.create_shipment(request).await;
    assert!(matches!(answer, Err(ShipmentError::Cancelled)), "{answer:?}");
}

pub async fn a_repeated_request_gets_the_first_shipment(shipping: &impl Shipping) {
    let request = request();
    let first = shipping.create_shipment(&request).await.unwrap();
    for _ in 0..3 {
        // The carrier's dates are those of the first request, whenever the repetition comes.
        assert_eq!(shipping.create_shipment(&request).await.unwrap(), first);
    }
}

pub async fn a_request_that_comes_twenty_times_at_once_gets_one_shipment(shipping: &impl Shipping) {
    let request = request();
    let answers = at_once((0..20).map(|_| shipping.create_shipment(&request))).await;
    let first = shipping.create_shipment(&request).await.unwrap();
    for answer in answers {
        assert_eq!(answer.unwrap(), first);
    }
}

pub async fn two_keys_get_two_shipments(shipping: &impl Shipping) {
    let request = request();
    let other = ShipmentRequest { idempotency_key: Uuid::new_v4(), ..request.clone() };
    let first = shipping.create_shipment(&request).await.unwrap();
    let second = shipping.create_shipment(&other).await.unwrap();
    assert_ne!(first.shipment_id, second.shipment_id);
    assert_ne!(first.tracking_number, second.tracking_number);
}

pub async fn the_books_say_what_became_of_a_shipment(shipping: &impl Shipping) {
    let (request, barred) = (request(), request());
    assert_eq!(shipping.shipment(request.idempotency_key).await.unwrap(), ShipmentBook::None);
    shipping.create_shipment(&request).await.unwrap();
    assert_eq!(shipping.shipment(request.idempotency_key).await.unwrap(), ShipmentBook::Created);
    cancel(shipping, &request).await;
    assert_eq!(shipping.shipment(request.idempotency_key).await.unwrap(), ShipmentBook::Cancelled);
    cancel(shipping, &barred).await;
    assert_eq!(shipping.shipment(barred.idempotency_key).await.unwrap(), ShipmentBook::None);
}

pub async fn a_refusal_is_remembered(shipping: &impl Shipping) {
    let request = refused();
    // It is the key that was refused, also when the address is another one by now.
    let corrected = ShipmentRequest { address: address("200001"), ..request.clone() };
    for _ in 0..2 {
        assert_refused(shipping, &request).await;
        assert_refused(shipping, &corrected).await;
        assert_eq!(shipping.shipment(request.idempotency_key).await.unwrap(), ShipmentBook::None);
    }
    let answer = shipping.confirm_delivery(request.idempotency_key).await;
    assert!(matches!(answer, Err(DeliveryError::NotUnderWay)), "{answer:?}");
}

pub async fn a_refusal_stays_a_refusal_when_the_shipment_is_cancelled(shipping: &impl Shipping) {
    let request = refused();
    assert_refused(shipping, &request).await;
    for _ in 0..2 {
        cancel(shipping, &request).await;
        assert_refused(shipping, &request).await;
    }
    // Nobody knows of one that has not come what would become of it.
    let barred = refused();
    cancel(shipping, &barred).await;
    assert_cancelled(shipping, &barred).await;
}

pub async fn a_shipment_that_is_cancelled_first_is_barred(shipping: &impl Shipping) {
    let request = request();
    for _ in 0..2 {
        cancel(shipping, &request).await;
        assert_cancelled(shipping, &request).await;
    }
}

pub async fn a_shipment_that_is_cancelled_is_taken_back_for_good(shipping: &impl Shipping) {
    let request = request();
    shipping.create_shipment(&request).await.unwrap();
    for _ in 0..2 {
        cancel(shipping, &request).await;
        assert_cancelled(shipping, &request).await;
    }
}

pub async fn cancellations_at_the_same_time_take_the_shipment_back(shipping: &impl Shipping) {
    let request = request();
    shipping.create_shipment(&request).await.unwrap();
    at_once((0..20).map(|_| cancel(shipping, &request))).await;
    assert_cancelled(shipping, &request).await;
}

pub async fn a_cancellation_leaves_other_shipments_alone(shipping: &impl Shipping) {
    let request = request();
    let kept = ShipmentRequest { idempotency_key: Uuid::new_v4(), ..request.clone() };
    let first = shipping.create_shipment(&kept).await.unwrap();
    shipping.create_shipment(&request).await.unwrap();
    cancel(shipping, &request).await;
    assert_eq!(shipping.create_shipment(&kept).await.unwrap(), first);
}

/// Asks for the shipment and cancels it, five times each at the same time, and answers what the requests got.
async fn create_and_cancel_at_once(
    shipping: &impl Shipping,
    request: &ShipmentRequest,
    cancel_first: bool,
) -> Vec<Result<Shipment, ShipmentError>> {
    let call = async |number: usize| {
        if number.is_multiple_of(2) == cancel_first {
            cancel(shipping, request).await;
            None
        } else {
            Some(shipping.create_shipment(request).await)
        }
    };
    at_once((0..10).map(call)).await.into_iter().flatten().collect()
}

pub async fn a_shipment_that_is_cancelled_meanwhile_is_not_under_way(shipping: &impl Shipping) {
    for round in 0..20 {
        let request = request();
        let answers = create_and_cancel_at_once(shipping, &request, round % 2 == 0).await;
        assert!(answers.iter().all(|answer| matches!(answer, Ok(_) | Err(ShipmentError::Cancelled))), "{answers:?}");
        assert_cancelled(shipping, &request).await;
    }
}

pub async fn a_refusal_that_is_cancelled_meanwhile_is_no_shipment(shipping: &impl Shipping) {
    for round in 0..20 {
        let request = refused();
        let answers = create_and_cancel_at_once(shipping, &request, round % 2 == 0).await;
        assert!(answers.iter().all(Result::is_err), "{answers:?}");
        // Whichever came first is what it stays.
        let was_refused = |answer: &Result<_, _>| matches!(answer, Err(ShipmentError::Refused(_)));
        let stays_refused = was_refused(&shipping.create_shipment(&request).await);
        assert!(answers.iter().all(|answer| was_refused(answer) == stays_refused), "{answers:?}");
    }
}

async fn assert_unavailable(shipping: &impl Shipping, request: &ShipmentRequest) {
    let answer = shipping.create_shipment(request).await;
    assert!(matches!(answer, Err(ShipmentError::Unavailable(_))), "{answer:?}");
}

pub async fn a_shipment_without_an_answer_is_created_and_answered_when_it_is_asked_again(shipping: &impl Shipping) {
    // Each key has its first call.
    for _ in 0..2 {
        let request = ShipmentRequest { address: address("SANDBOX-TIMEOUT"), ..request() };
        assert_unavailable(shipping, &request).await;
        let first = shipping.create_shipment(&request).await.unwrap();
        assert_eq!(shipping.create_shipment(&request).await.unwrap(), first);
    }
}

pub async fn a_shipment_without_an_answer_can_be_cancelled(shipping: &impl Shipping) {
    let created = ShipmentRequest { address: address("SANDBOX-TIMEOUT"), ..request() };
    assert_unavailable(shipping, &created).await;
    let barred = ShipmentRequest { address: address("SANDBOX-TIMEOUT"), ..request() };
    for request in [created, barred] {
        cancel(shipping, &request).await;
        assert_cancelled(shipping, &request).await;
    }
}

pub async fn a_shipment_that_the_carrier_keeps_is_never_given_back(shipping: &impl Shipping) {
    let request = ShipmentRequest { address: address("SANDBOX-KEEP"), ..request() };
    let first = shipping.create_shipment(&request).await.unwrap();
    for _ in 0..3 {
        let answer = shipping.cancel_shipment(request.order_id, request.idempotency_key).await;
        assert!(matches!(&answer, Err(TakeBackError::Refused(code)) if code == "parcel_kept"), "{answer:?}");
        assert_eq!(shipping.create_shipment(&request).await.unwrap(), first);
    }
    // One that has not come yet is no shipment to keep.
    let barred = ShipmentRequest { idempotency_key: Uuid::new_v4(), ..request };
    cancel(shipping, &barred).await;
    assert_cancelled(shipping, &barred).await;
}

pub async fn a_parcel_arrives_once_and_for_good(shipping: &impl Shipping) {
    let request = request();
    let first = shipping.create_shipment(&request).await.unwrap();
    let arrived = shipping.confirm_delivery(request.idempotency_key).await.unwrap();
    for _ in 0..2 {
        assert_eq!(shipping.confirm_delivery(request.idempotency_key).await.unwrap(), arrived);
        assert_eq!(shipping.shipment(request.idempotency_key).await.unwrap(), ShipmentBook::Delivered);
        assert_eq!(shipping.create_shipment(&request).await.unwrap(), first);
    }
}

pub async fn a_parcel_that_has_arrived_is_not_taken_back(shipping: &impl Shipping) {
    for postal_code in ["200001", "SANDBOX-KEEP"] {
        let request = ShipmentRequest { address: address(postal_code), ..request() };
        shipping.create_shipment(&request).await.unwrap();
        let arrived = shipping.confirm_delivery(request.idempotency_key).await.unwrap();
        let answer = shipping.cancel_shipment(request.order_id, request.idempotency_key).await;
        assert!(matches!(answer, Err(TakeBackError::Delivered(at)) if at == arrived), "{answer:?}");
        assert_eq!(shipping.shipment(request.idempotency_key).await.unwrap(), ShipmentBook::Delivered);
    }
}

pub async fn what_is_not_under_way_does_not_arrive(shipping: &impl Shipping) {
    let (unknown, barred, taken_back) = (request(), request(), request());
    cancel(shipping, &barred).await;
    shipping.create_shipment(&taken_back).await.unwrap();
    cancel(shipping, &taken_back).await;
    for request in [unknown, barred, taken_back] {
        let answer = shipping.confirm_delivery(request.idempotency_key).await;
        assert!(matches!(answer, Err(DeliveryError::NotUnderWay)), "{answer:?}");
    }
}

pub async fn of_a_delivery_and_a_cancellation_at_once_exactly_one_comes_about(shipping: &impl Shipping) {
    for _ in 0..10 {
        let request = request();
        shipping.create_shipment(&request).await.unwrap();
        let (arrived, taken_back) = tokio::join!(
            shipping.confirm_delivery(request.idempotency_key),
            shipping.cancel_shipment(request.order_id, request.idempotency_key)
        );
        let book = shipping.shipment(request.idempotency_key).await.unwrap();
        match (arrived, taken_back) {
            (Ok(_), Err(TakeBackError::Delivered(_))) => assert_eq!(book, ShipmentBook::Delivered),
            (Err(DeliveryError::NotUnderWay), Ok(())) => assert_eq!(book, ShipmentBook::Cancelled),
            other => assert_eq!(format!("{other:?}"), "exactly one comes about"),
        }
    }
}
