//! What customers read, to the letter, and that nothing typed by anybody becomes more than text.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

use application::{
    event_store::{Commit, EventStore, Metadata, RecordedEvent, StreamId},
    mail::{Mail, NoMail, compose},
    memory::MemoryEventStore,
    ports::Notification,
    shop::{FORWARD, Shop, Step, UNDO},
};
use chrono::{DateTime, Utc};
use domain::{
    ids::{CustomerId, OrderId},
    order::Course,
};
use serde_json::{Value, json};
use uuid::Uuid;

fn order_id() -> OrderId {
    OrderId::parse("0190b5e2-7b1c-7000-8000-000000000001").unwrap()
}

fn notification(template: &'static str) -> Notification {
    Notification {
        idempotency_key: Uuid::new_v4(),
        order_id: order_id(),
        customer_id: CustomerId::parse("customer-1").unwrap(),
        template,
        deliverable: true,
    }
}

/// Appends the first event of a stream, whatever is in it: what was stored once is read for ever.
async fn stored(store: &MemoryEventStore, stream: StreamId, event_type: &str, schema: u32, data: Value) {
    let metadata = Metadata {
        command_id: Uuid::new_v4(),
        fingerprint: String::new(),
        actor: String::new(),
        correlation_id: String::new(),
        causation_id: String::new(),
        traceparent: None,
        occurred_at: DateTime::<Utc>::UNIX_EPOCH,
    };
    let events = vec![RecordedEvent { event_type: event_type.to_owned(), schema, data }];
    store.append(&Commit { stream, version: 1, events, metadata }).await.unwrap();
}

async fn has_profile(store: &MemoryEventStore, first_name: &str, email: &str, email_verified: bool) {
    let profile =
        json!({"first_name": first_name, "last_name": null, "email": email, "email_verified": email_verified});
    let stream = StreamId::customer(&CustomerId::parse("customer-1").unwrap());
    stored(store, stream, "CustomerProfileUpdated", 2, profile).await;
}

/// A shop in which Anna has ordered two packets of tea.
async fn ordered(payment_method: &str) -> Shop {
    let shop = Shop::with_stock(10).await;
    has_profile(&shop.store, "Anna", "anna@example.com", true).await;
    shop.place(order_id(), payment_method).await.unwrap();
    shop
}

async fn shipped() -> Shop {
    let shop = ordered("pm_card_visa").await;
    for step in FORWARD.into_iter().filter(|&step| step != Step::Confirm) {
        shop.run(step, order_id()).await.unwrap();
    }
    shop
}

async fn undo_but_close(shop: &Shop) {
    for step in UNDO.into_iter().filter(|&step| step != Step::Close) {
        shop.run(step, order_id()).await.unwrap();
    }
}

async fn mail(shop: &Shop, template: &'static str) -> Mail {
    compose(&shop.store, &notification(template)).await.unwrap()
}

#[tokio::test]
async fn a_confirmation_says_what_is_on_its_way_to_whom_and_until_when() {
    let shop = shipped().await;
    let mail = mail(&shop, "order-confirmed").await;
    assert_eq!(mail.to, "anna@example.com");
    assert_eq!(mail.subject, "Your order is confirmed (0190b5e2-7b1c-7000-8000-000000000001)");
    let Course::Shipped(.., shipment) = shop.order(order_id()).await.course else { panic!("it is shipped") };
    let day = shipment.estimated_delivery.format("%-d %B %Y").to_string();
    assert_eq!(mail.text, include_str!("mail/confirmed.txt").replace("{day}", &day));
    assert_eq!(mail.html, include_str!("mail/confirmed.html").replace("{day}", &day));
}

#[tokio::test]
async fn a_declined_order_says_why_and_that_nothing_was_charged() {
    let shop = ordered("pm_card_declined").await;
    for step in [Step::Validate, Step::Reserve] {
        shop.run(step, order_id()).await.unwrap();
    }
    shop.run(Step::Pay, order_id()).await.unwrap_err();
    undo_but_close(&shop).await;
    let mail = mail(&shop, "order-rejected").await;
    assert_eq!(mail.subject, "Your order could not be fulfilled (0190b5e2-7b1c-7000-8000-000000000001)");
    for part in [&mail.text, &mail.html] {
        assert!(part.contains("we could not fulfil your order: your payment was declined."), "{part}");
        assert!(part.contains("You have not been charged."), "{part}");
    }
}

#[tokio::test]
async fn a_cancelled_order_says_why_and_where_the_money_goes() {
    let shop = shipped().await;
    shop.cancel(order_id()).await.unwrap();
    undo_but_close(&shop).await;
    let mail = mail(&shop, "order-cancelled").await;
    assert_eq!(mail.subject, "Your order is cancelled (0190b5e2-7b1c-7000-8000-000000000001)");
    for part in [&mail.text, &mail.html] {
        assert!(part.contains("your order is cancelled. The reason: changed my mind"), "{part}");
        assert!(part.contains("What you have paid goes back the way it came."), "{part}");
    }
}

#[tokio::test]
async fn what_has_changed_since_is_not_told() {
    let shop = shipped().await;
    for template in ["order-rejected", "order-cancelled", "order-delivered"] {
        let no_mail = compose(&shop.store, &notification(template)).await.unwrap_err();
        assert!(matches!(no_mail, NoMail::Outdated), "{template}: {no_mail}");
    }
    shop.cancel(order_id()).await.unwrap();
    let no_mail = compose(&shop.store, &notification("order-confirmed")).await.unwrap_err();
    assert!(matches!(no_mail, NoMail::Outdated), "{no_mail}");
}

#[tokio::test]
async fn only_a_verified_address_that_needs_no_quotes_is_written_to() {
    for (email, verified, is_written_to) in [
        ("anna@example.com", true, true),
        ("Anna.O'Neil+tea@mail.example.com", true, true),
        ("anna@example.com", false, false),
        ("anna,eve@example.com", true, false),
        ("<eve@example.com>", true, false),
        ("anna@example.com,eve", true, false),
        ("\"anna\"@example.com", true, false),
        ("anna\r\nbcc:eve@example.com", true, false),
        ("安娜@example.com", true, false),
        ("anna@例子.中国", true, false),
        ("anna", true, false),
    ] {
        let shop = Shop::with_stock(10).await;
        has_profile(&shop.store, "Anna", email, verified).await;
        let no_mail = compose(&shop.store, &notification("order-confirmed")).await.unwrap_err();
        // There is no order, which is found out only after somebody to write to.
        assert_eq!(matches!(no_mail, NoMail::Outdated), is_written_to, "{email}: {no_mail}");
        assert_eq!(matches!(no_mail, NoMail::NoAddress), !is_written_to, "{email}: {no_mail}");
    }
    let nobody = compose(&MemoryEventStore::default(), &notification("order-confirmed")).await.unwrap_err();
    assert!(matches!(nobody, NoMail::NoAddress), "{nobody}");
}

/// Of five hundred lines, each as long as one can be, in characters that take the most room.
#[tokio::test]
async fn whatever_was_typed_is_text_and_the_message_is_bounded() {
    let shop = Shop::with_stock(10).await;
    let hostile = "<script>alert(\"1\")</script>\r\nBcc: eve@example.com\u{2028}&'";
    has_profile(&shop.store, hostile, "anna@example.com", true).await;
    let item = |name: &str| json!({"product_id": "tea", "name": name, "quantity": 2, "unit_price": {"amount": 1999, "currency": "JPY"}});
    let mut items = vec![item(hostile)];
    items.resize(500, item(&"\"".repeat(200)));
    let address = json!({"street": hostile, "city": hostile, "state": null, "country": "CN", "postal_code": hostile});
    let created = json!({
        "customer_id": "customer-1", "items": items, "shipping_address": address, "payment_method": "pm_card_visa",
        "total_amount": {"amount": 3998, "currency": "JPY"}, "created_at": "2026-01-01T00:00:00Z"
    });
    stored(&shop.store, StreamId::order(order_id()), "OrderCreated", 1, created).await;
    shop.cancel(order_id()).await.unwrap();
    let mail = mail(&shop, "order-cancelled").await;

    let shown = "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;  Bcc: eve@example.com &amp;&#39;";
    assert!(mail.html.contains(&format!("<p>Hello {shown},</p>")), "{}", mail.html);
    assert!(mail.html.contains(&format!("<li>2 &times; {shown}, 1999 JPY each</li>")));
    assert!(mail.html.contains(&format!("<address>{shown}<br>\n{shown}, {shown}<br>\nCN</address>")));
    assert!(!mail.html.contains("<script"));
    for part in [&mail.text, &mail.html] {
        assert!(part.lines().all(|line| !line.starts_with("Bcc")), "{part}");
        assert!(part.contains("and 400 more"));
        assert!(part.len() < 150_000, "{}", part.len());
    }
    assert!(mail.subject.is_ascii() && !mail.subject.chars().any(char::is_control));
    assert_eq!(format!("{mail:?}"), "Mail(not shown)");
}
