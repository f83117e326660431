//! The client for Rust, verb by verb, on the service that is there: what it reads is what the service answers.

use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use order_client::{
    Address, Cancel, Currency, CustomerId, Money, OrderClient, OrderId, OrdersWanted, Period, PlaceOrder, ProductId,
    PutCustomer, PutProduct, Refund, RequestedItem, ResumeOrders, Retries, StockChange,
};

use crate::{
    customers::PROFILE,
    service::{DEADLINE, Service, id_of},
};

fn cny(amount: u64) -> Money {
    Money::new(amount, Currency::parse("CNY").unwrap()).unwrap()
}

fn order(who: &str, product: &str) -> PlaceOrder {
    PlaceOrder {
        customer_id: CustomerId::stored(id_of(who)),
        items: vec![RequestedItem { product_id: ProductId::stored(product), quantity: 2, unit_price: Some(cny(1999)) }],
        shipping_address: Address {
            street: "1 Secret Lane".to_owned(),
            city: Some("Shanghai".to_owned()),
            state: Some("Shanghai".to_owned()),
            country: "CN".to_owned(),
            postal_code: Some("200001".to_owned()),
        },
        payment_method: None,
    }
}

fn me() -> CustomerId {
    CustomerId::stored("me")
}

/// An order that is confirmed.
async fn confirmed(client: &OrderClient, who: &str, product: &str) -> OrderId {
    let id = client.place(&order(who, product)).await.unwrap().order_id;
    assert_eq!(client.wait_for_version(id, 5, DEADLINE).await.unwrap().status, "confirmed");
    id
}

#[tokio::test]
async fn an_order_is_placed_followed_and_found() {
    let service = Service::connect().await;
    let product = service.product(10).await;
    let customer = service.client("customer-2").with_retries(Retries::default());
    let staff = service.client("staff-1").with_retries(Retries::default());
    let id = confirmed(&customer, "customer-2", &product).await;

    let read = customer.order(id).await.unwrap();
    assert_eq!((read.total_amount, read.items[0].quantity), (cny(3998), 2));
    // Another test may change the profile meanwhile, which shows in the order, and nothing else may.
    if let Some(newer) = customer.newer(&read).await.unwrap() {
        assert!(newer.customer.version > read.customer.version && newer.version == read.version, "{newer:?}");
        assert_eq!(customer.newer(&newer).await.unwrap(), None);
    }
    let timeline = customer.timeline(id).await.unwrap();
    assert_eq!((timeline.status.as_str(), timeline.next.waits_for.as_str()), ("confirmed", "carrier"));
    let history = staff.order_events(id, Some("2".parse().unwrap())).await.unwrap();
    assert_eq!((history.order.status.as_str(), history.events.len(), history.next.as_deref()), ("reserved", 2, None));
    let ledger = staff.ledger(id).await.unwrap();
    assert!(ledger.agrees && ledger.order.charged == 3998, "{ledger:?}");

    let own = customer.customer_orders(&me(), Some("confirmed"), Some(1)).await.unwrap();
    let own = customer.all(own, 100).await.unwrap();
    assert!(own.rows.iter().any(|row| row.id == id), "{own:?}");
    let (from, to) = (read.created_at - TimeDelta::minutes(1), Utc::now() + TimeDelta::minutes(1));
    let started = Instant::now();
    // Lists follow the events.
    loop {
        let found = staff.search(&id.to_string(), None).await.unwrap();
        let wanted =
            OrdersWanted { status: Some("confirmed".to_owned()), from: Some(from), to: Some(to), page_size: Some(100) };
        let listed = staff.orders(&wanted).await.unwrap();
        let listed = staff.all(listed, 10_000).await.unwrap();
        let events = staff.events("OrderConfirmed", from, to, Some(100)).await.unwrap();
        let events = staff.all(events, 10_000).await.unwrap();
        let stats = staff.stats(Period::Hour, Some(from), Some(to)).await.unwrap();
        let counted: u64 = stats.periods.iter().map(|period| period.confirmed).sum();
        let seen = [
            found.orders.iter().any(|row| row.id == id),
            listed.rows.iter().any(|row| row.id == id),
            events.rows.iter().any(|row| row.order_id == Some(id)),
            counted > 0,
        ];
        if seen == [true; 4] {
            break;
        }
        assert!(started.elapsed() < DEADLINE, "{seen:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(staff.health().await.unwrap().status, "up");
    assert!(staff.metrics().await.unwrap().contains("order_service_orders{status="));
}

#[tokio::test]
async fn an_order_is_delivered_refunded_and_cancelled() {
    let service = Service::connect().await;
    let product = service.product(10).await;
    let (customer, staff) = (service.client("customer-1"), service.client("staff-1"));
    let id = confirmed(&customer, "customer-1", &product).await;
    let cancel = Cancel { reason: "changed my mind".to_owned(), note: None };

    assert!(staff.resume(id, "why not").await.unwrap_err().is("not-stuck"));
    assert!(staff.skip(id, "refund-payment", "why not").await.unwrap_err().is("not-stuck"));
    let nobody = ResumeOrders {
        step: "validate-order".to_owned(),
        error: Some("NobodyHasThis".to_owned()),
        reason: "none".to_owned(),
        dry_run: true,
    };
    assert_eq!(staff.resume_all(&nobody).await.unwrap().matching, 0);
    assert_eq!(staff.deliver(id).await.unwrap().status, "confirmed");
    let refused = customer.cancel(id, &cancel).await.unwrap_err();
    assert!(refused.is("not-cancellable") && refused.correlation_id().is_some(), "{refused}");
    let refund = Refund { amount: cny(500), reason: "damp".to_owned(), note: None };
    let refunded = staff.refund(id, &refund).await.unwrap();
    let read = customer.wait_for_version(id, refunded.version + 1, DEADLINE).await.unwrap();
    assert_eq!((read.refunds[0].refund_id, read.refunds[0].status.as_str()), (refunded.refund_id, "completed"));

    let id = confirmed(&customer, "customer-1", &product).await;
    let cancelled = customer.cancel(id, &cancel).await.unwrap();
    let read = customer.wait_for_version(id, cancelled.version + 4, DEADLINE).await.unwrap();
    assert_eq!(read.status, "cancelled");
}

#[tokio::test]
async fn profiles_and_products_are_kept() {
    let service = Service::connect().await;
    let (customer, staff) = (service.client("customer-2"), service.client("staff-1"));
    let profile = PutCustomer {
        first_name: "Bert".to_owned(),
        last_name: Some("王".to_owned()),
        email: "bert@example.com".to_owned(),
    };
    let alone = PROFILE.lock().await;
    let put = customer.put_customer(&me(), &profile).await.unwrap();
    assert_eq!(put.email, "bert@example.com");
    assert_eq!(customer.customer(&me()).await.unwrap().version, put.version);
    drop(alone);

    let id = ProductId::stored(service.product(10).await);
    let product = PutProduct { name: "Test tea".to_owned(), price: cny(2500), stock: None };
    let put = staff.put_product(&id, &product).await.unwrap();
    assert_eq!((put.price, put.stock), (cny(2500), 10));
    assert_eq!(staff.adjust_stock(&id, StockChange::By(-3), "damp").await.unwrap().stock, 7);
    assert_eq!(staff.adjust_stock(&id, StockChange::Counted(8), "counted").await.unwrap().by, 1);
    assert_eq!(staff.product(&id).await.unwrap().stock, 8);
    // The list follows the catalogue.
    let started = Instant::now();
    loop {
        let products = staff.products(Some(100)).await.unwrap();
        let products = staff.all(products, 10_000).await.unwrap();
        if products.rows.iter().any(|product| product.id == id) {
            break;
        }
        assert!(started.elapsed() < DEADLINE, "{id} is not among {} products", products.rows.len());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
