//! Over either transport, the reference provider takes what the contract allows up to each of its limits, and refuses what is beyond
//! with the name of the field.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

use std::{sync::Arc, time::Duration};

use application::ports::{
    CancelChargeError, ChargeCancellation, ChargeError, ChargeRequest, Payments, RefundError, RefundRequest,
};
use domain::{
    ids::{CustomerId, OrderId, PaymentMethod},
    money::{Currency, Money},
};
use providers::{Port, Remote, breaker};
use reference_provider::{Reference, serve};
use settings::Address;
use tokio::net::TcpListener;
use uuid::Uuid;

/// A provider of its own.
struct Provider {
    reference: Arc<Reference>,
    /// Where it is over gRPC, and over REST.
    at: [String; 2],
}

impl Provider {
    async fn start() -> Self {
        let bind = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (grpc, rest) = (bind().await, bind().await);
        let at = [&grpc, &rest].map(|listener| listener.local_addr().unwrap().to_string());
        let reference = Arc::new(Reference::default());
        tokio::spawn(serve(Arc::clone(&reference), grpc, rest, std::future::pending()));
        Self { reference, at }
    }
}

fn cny(amount: u64) -> Money {
    Money::new(amount, Currency::parse("CNY").unwrap()).unwrap()
}

/// A charge for an order that is always the same.
fn charge() -> ChargeRequest {
    ChargeRequest {
        idempotency_key: Uuid::new_v4(),
        order_id: OrderId::new(Uuid::from_u128(1)),
        customer_id: CustomerId::parse("anna").unwrap(),
        payment_method: PaymentMethod::default(),
        amount: cny(1_000),
    }
}

fn refund(charge: &ChargeRequest) -> RefundRequest {
    RefundRequest {
        idempotency_key: Uuid::new_v4(),
        order_id: charge.order_id,
        charge_key: charge.idempotency_key,
        amount: cny(1),
    }
}

fn cancellation(charge: &ChargeRequest) -> ChargeCancellation {
    ChargeCancellation { order_id: charge.order_id, charge_key: charge.idempotency_key, refund_key: Uuid::new_v4() }
}

#[tokio::test]
async fn a_ledger_has_a_thousand_entries_and_what_would_be_one_more_is_declined_or_refused() {
    let provider = Provider::start().await;
    let (books, charged, barred) = (&provider.reference.payments, charge(), charge());
    let payment = books.charge(&charged).await.unwrap();
    assert_eq!(books.cancel_charge(&cancellation(&barred)).await.unwrap(), None);
    let first = refund(&charged);
    let refunded = books.refund(&first).await.unwrap();
    for _ in 3..999 {
        books.refund(&refund(&charged)).await.unwrap();
    }
    // A thousandth one, which is no other for coming again.
    let another = ChargeRequest { amount: cny(0), ..charge() };
    for _ in 0..2 {
        books.charge(&another).await.unwrap();
        assert_eq!(books.cancel_charge(&cancellation(&barred)).await.unwrap(), None);
    }

    let [grpc, rest] = &provider.at;
    for address in [format!("grpc://{grpc}"), format!("http://{rest}")] {
        let address = Address::parse(&address).unwrap();
        let deadline = Duration::from_secs(30);
        let remote = Remote::new(Port::Payments, vec![address], deadline, breaker::Settings::default());
        let late = charge();
        for _ in 0..2 {
            let answer = remote.charge(&late).await;
            assert!(matches!(&answer, Err(ChargeError::Declined(why)) if why == "ledger_full"), "{answer:?}");
            // It never comes any more, so that nothing has to bar it.
            assert_eq!(remote.cancel_charge(&cancellation(&late)).await.unwrap(), None);
        }
        let answer = remote.refund(&refund(&charged)).await;
        assert!(matches!(&answer, Err(RefundError::Refused(why)) if why == "ledger_full"), "{answer:?}");
        let answer = remote.cancel_charge(&cancellation(&charged)).await;
        assert!(matches!(&answer, Err(CancelChargeError::Refused(why)) if why == "ledger_full"), "{answer:?}");
        // What was answered before is answered as it was.
        assert_eq!(remote.charge(&charged).await.unwrap(), payment);
        assert_eq!(remote.refund(&first).await.unwrap(), refunded);
        assert!(matches!(remote.charge(&barred).await, Err(ChargeError::Cancelled)));
        assert_eq!(remote.ledger(charged.order_id).await.unwrap().len(), 1_000);
        let other = ChargeRequest { order_id: OrderId::new(Uuid::new_v4()), ..charge() };
        remote.charge(&other).await.unwrap();
    }
}
