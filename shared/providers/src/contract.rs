//! The messages of the contract, and its calls: which message asks, which one answers, and where.

/// As the proto files have them. In JSON they are proto's own mapping with the fields' names as they are, and integers as numbers.
#[expect(clippy::pedantic, unused_qualifications, reason = "what is generated is not ours to mend")]
pub mod wire {
    include!(concat!(env!("OUT_DIR"), "/orders.providers.v1.rs"));
}

use application::ports::StockLine;
use domain::money::Money;
use prost::Message;
use serde::{Serialize, de::DeserializeOwned};

/// The largest answer that is read: a ledger of a thousand entries has some 200 KB.
pub const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// A call of the contract, by its request.
pub trait Call: Message + Serialize + Clone + Default + 'static {
    type Answer: Message + Serialize + DeserializeOwned + Default + 'static;

    const GRPC_PATH: &str;
    const REST_PATH: &str;

    /// The key under which a repeated call gets the first answer; `None` for one that changes nothing, or sets what it says.
    fn idempotency_key(&self) -> Option<&str>;
}

macro_rules! calls {
    ($($service:literal { $($grpc:literal $rest:literal $request:ident -> $answer:ident $(by $key:ident)?;)+ })+) => {$($(
        impl Call for wire::$request {
            type Answer = wire::$answer;

            const GRPC_PATH: &str = concat!("/orders.providers.v1.", $service, "/", $grpc);
            const REST_PATH: &str = concat!("/v1/", $rest);

            fn idempotency_key(&self) -> Option<&str> {
                None$(.or(Some(self.$key.as_str())))?
            }
        }
    )+)+};
}

calls! {
    "Inventory" {
        "GetProducts"      "inventory/get-products"      GetProductsRequest -> GetProductsResponse;
        "ListProducts"     "inventory/list-products"     ListProductsRequest -> ListProductsResponse;
        "PutProduct"       "inventory/put-product"       PutProductRequest -> PutProductResponse;
        "DescribeProduct"  "inventory/describe-product"  DescribeProductRequest -> DescribeProductResponse;
        "AdjustStock"      "inventory/adjust-stock"      AdjustStockRequest -> AdjustStockResponse by adjustment_id;
        "Reserve"          "inventory/reserve"           ReserveRequest -> ReserveResponse by order_id;
        "GetReservation"   "inventory/get-reservation"   GetReservationRequest -> GetReservationResponse;
        "Release"          "inventory/release"           ReleaseRequest -> ReleaseResponse by order_id;
    }
    "Payments" {
        "Charge"           "payments/charge"             ChargeRequest -> ChargeResponse by idempotency_key;
        "CancelCharge"     "payments/cancel-charge"      CancelChargeRequest -> CancelChargeResponse by refund_key;
        "Refund"           "payments/refund"             RefundRequest -> RefundResponse by idempotency_key;
        "GetRefund"        "payments/get-refund"         GetRefundRequest -> GetRefundResponse;
        "GetLedger"        "payments/get-ledger"         GetLedgerRequest -> GetLedgerResponse;
    }
    "Shipping" {
        "CreateShipment"   "shipping/create-shipment"    CreateShipmentRequest -> CreateShipmentResponse by idempotency_key;
        "GetShipment"      "shipping/get-shipment"       GetShipmentRequest -> GetShipmentResponse;
        "CancelShipment"   "shipping/cancel-shipment"    CancelShipmentRequest -> CancelShipmentResponse by shipment_key;
        "ConfirmDelivery"  "shipping/confirm-delivery"   ConfirmDeliveryRequest -> ConfirmDeliveryResponse by shipment_key;
    }
    "Notifications" {
        "Send"             "notifications/send"          SendRequest -> SendResponse by idempotency_key;
    }
}

/// `GetCapabilities` is one message for all services, and a call has one place: so each service has a request of its own, as empty
/// as that one.
macro_rules! capabilities {
    ($($service:literal $rest:literal $request:ident;)+) => {$(
        #[derive(Clone, PartialEq, Eq, Message, Serialize)]
        pub struct $request {}

        impl Call for $request {
            type Answer = wire::GetCapabilitiesResponse;

            const GRPC_PATH: &str = concat!("/orders.providers.v1.", $service, "/GetCapabilities");
            const REST_PATH: &str = concat!("/v1/", $rest);

            fn idempotency_key(&self) -> Option<&str> {
                None
            }
        }
    )+};
}

capabilities! {
    "Inventory"      "inventory/get-capabilities"      InventoryCapabilities;
    "Payments"       "payments/get-capabilities"       PaymentsCapabilities;
    "Shipping"       "shipping/get-capabilities"       ShippingCapabilities;
    "Notifications"  "notifications/get-capabilities"  NotificationsCapabilities;
}

impl From<Money> for wire::Money {
    fn from(money: Money) -> Self {
        // Never the greatest: no amount of money is above 2^53.
        let amount = i64::try_from(money.amount()).unwrap_or(i64::MAX);
        Self { amount: Some(amount), currency: money.currency().code().to_owned() }
    }
}

impl From<&StockLine> for wire::Line {
    fn from(line: &StockLine) -> Self {
        Self { product_id: line.product_id.to_string(), quantity: line.quantity.get() }
    }
}
