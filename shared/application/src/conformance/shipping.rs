//! What every [`Shipping`] must do.

use domain::address::ShippingAddress;
use serde_json::json;
use uuid::Uuid;

use super::{at_once, order_id, product_id, quantity};
use crate::ports::{ShipmentRequest, Shipping, StockLine};

/// One test per law; `make` is a future of the carrier.
#[macro_export]
macro_rules! shipping_conformance {
    ($make:expr) => {
        $crate::conformance_tests! { shipping, $make,
            a_repeated_request_gets_the_first_shipment
            a_request_that_comes_twenty_times_at_once_gets_one_shipment
            two_keys_get_two_shipments
        }
    };
}

fn request() -> ShipmentRequest {
    let address: ShippingAddress = serde_json::from_value(json!({
        "street": "南京路 1 号", "city": "上海", "state": "上海", "country": "CN", "postal_code": "200001"
    }))
    .unwrap();
    ShipmentRequest {
        idempotency_key: Uuid::new_v4(),
        order_id: order_id(),
        address,
        lines: vec![StockLine { product_id: product_id("tea"), quantity: quantity(2) }],
    }
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
