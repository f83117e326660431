//! E-mails by SES, over the real SDK, with the real tables beside it. Only SES itself is played: it takes every message, or says
//! what a test wants it to say.
//!
//! Of the laws of notifications, one cannot be held: that a message which comes twenty times at once is sent once. SES has no
//! key for that, and a record that were written before the message would lose messages instead.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use adapters::{
    app_config::AppConfig,
    dynamodb::{DynamoEventStore, DynamoInventory, DynamoPayments, DynamoShipping},
    lambda::chain,
    ses::SesNotifications,
};
use application::{
    event_store::{Commit, EventStore, Metadata, RecordedEvent, StreamId},
    ports::{Notification, Notifications, ProviderError},
    shop::{FORWARD, Outside, Shop, Step, UNDO},
};
use aws_sdk_dynamodb::{
    Client,
    config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider, http::HttpRequest, retry::RetryConfig},
};
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn};
use aws_types::SdkConfig;
use chrono::{DateTime, Utc};
use domain::{
    ids::{CustomerId, OrderId},
    order::OrderEvent,
};
use serde_json::{Value, json};
use settings::{Layers, Live};
use tokio::time::sleep;
use uuid::Uuid;

use crate::support::{EVENTS, Fault, INVENTORY, Wire, notifications_of, payments_of, response, shipping_of, watched};

struct ByMail;

impl Outside for ByMail {
    type Store = DynamoEventStore;
    type Inventory = DynamoInventory;
    type Payments = DynamoPayments;
    type Shipping = DynamoShipping;
    type Notifications = SesNotifications;
}

/// Keeps what it is asked to send, and answers what it was told to, or that it is done.
#[derive(Debug, Clone, Default)]
struct Ses(Arc<Mutex<SesState>>);

#[derive(Debug, Default)]
struct SesState {
    asked: Vec<Value>,
    answers: VecDeque<Answer>,
}

#[derive(Debug)]
enum Answer {
    /// With this code, and in its message the customer's address, as SES does.
    Error(u16, &'static str),
    /// None, for as long as anybody waits.
    Never,
}

impl Ses {
    fn will(&self, answer: Answer) {
        self.0.lock().unwrap().answers.push_back(answer);
    }

    fn asked(&self) -> Vec<Value> {
        self.0.lock().unwrap().asked.clone()
    }
}

impl HttpConnector for Ses {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let mut state = self.0.lock().unwrap();
        state.asked.push(serde_json::from_slice(request.body().bytes().unwrap()).unwrap());
        let answer = match state.answers.pop_front() {
            Some(Answer::Never) => {
                return HttpConnectorFuture::new(async {
                    sleep(Duration::from_hours(1)).await;
                    panic!("somebody has waited for an hour")
                });
            }
            Some(Answer::Error(status, code)) => {
                let message = "Email address is not verified: anna@example.com";
                (status, json!({"__type": code, "message": message}))
            }
            None => (200, json!({"MessageId": format!("mail-{}", state.asked.len())})),
        };
        HttpConnectorFuture::ready(Ok(response((answer.0, answer.1.to_string().into_bytes()))))
    }
}

fn by_mail(client: &Client, ses: &Ses, sender: &str) -> SesNotifications {
    let connector = SharedHttpConnector::new(ses.clone());
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::from_static("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(Credentials::for_tests()))
        .retry_config(RetryConfig::disabled())
        .http_client(http_client_fn(move |_, _| connector.clone()))
        .build();
    let environment = [("SENDER", sender), ("DEADLINE_MS", "3000")];
    let environment =
        environment.map(|(field, value)| (format!("APP__PROVIDERS__NOTIFICATIONS__{field}"), value.to_owned()));
    let settings: Live<AppConfig> = Live::new(Layers::new("local".to_owned(), environment), None);
    let store = DynamoEventStore::new(client.clone(), EVENTS.to_owned());
    SesNotifications::new(&config, store, notifications_of(client.clone()), Arc::new(settings))
}

/// A shop in which an order of Anna's is shipped, and nobody has told her.
struct Shipped {
    shop: Shop<ByMail>,
    ses: Ses,
    wire: Wire,
    order_id: OrderId,
}

impl Shipped {
    async fn new() -> Self {
        Self::with("orders@example.com", true).await
    }

    async fn with(sender: &str, email_verified: bool) -> Self {
        let ((client, wire), ses) = (watched(), Ses::default());
        let shop = Shop {
            store: DynamoEventStore::new(client.clone(), EVENTS.to_owned()),
            inventory: DynamoInventory::new(client.clone(), INVENTORY.to_owned()),
            payments: payments_of(client.clone()),
            shipping: shipping_of(client.clone()),
            notifications: by_mail(&client, &ses, sender),
        };
        let order_id = OrderId::new(Uuid::new_v4());
        has_profile(&shop.store, email_verified).await;
        shop.set_stock(10).await;
        shop.place(order_id, "pm_card_visa").await.unwrap();
        for step in FORWARD.into_iter().filter(|&step| step != Step::Confirm) {
            shop.run(step, order_id).await.unwrap();
        }
        wire.calls();
        Self { shop, ses, wire, order_id }
    }

    fn notification(&self) -> Notification {
        Notification {
            idempotency_key: Uuid::new_v4(),
            order_id: self.order_id,
            customer_id: CustomerId::parse("customer-1").unwrap(),
            template: "order-confirmed",
            deliverable: true,
        }
    }

    /// The id of the message that the confirmation has.
    async fn confirmed_with(&self) -> Option<String> {
        self.shop.run(Step::Confirm, self.order_id).await.unwrap();
        match self.shop.events(self.order_id).await.pop() {
            Some(OrderEvent::OrderConfirmed { notification_id }) => notification_id.map(|id| id.0),
            other => panic!("it is not confirmed: {other:?}"),
        }
    }

    /// What is said when the message is not sent.
    async fn refusal(&self) -> (ProviderError, String) {
        let error = self.shop.notifications.send(&self.notification()).await.unwrap_err();
        let said = chain(&error);
        (*error.source.downcast().unwrap(), said)
    }
}

async fn has_profile(store: &DynamoEventStore, email_verified: bool) {
    let customer = CustomerId::parse("customer-1").unwrap();
    let data =
        json!({"first_name": "Anna", "last_name": "王", "email": "anna@example.com", "email_verified": email_verified});
    let metadata = Metadata {
        command_id: Uuid::new_v4(),
        fingerprint: String::new(),
        actor: String::new(),
        correlation_id: String::new(),
        causation_id: String::new(),
        traceparent: None,
        occurred_at: DateTime::<Utc>::UNIX_EPOCH,
    };
    let events = vec![RecordedEvent { event_type: "CustomerProfileUpdated".to_owned(), schema: 2, data }];
    store.append(&Commit { stream: StreamId::customer(&customer), version: 1, events, metadata }).await.unwrap();
}

#[tokio::test]
async fn an_order_is_told_of_once_at_each_end_whatever_is_repeated() {
    let shipped = Shipped::new().await;
    assert_eq!(shipped.confirmed_with().await.as_deref(), Some("mail-1"));
    shipped.shop.run(Step::Confirm, shipped.order_id).await.unwrap();
    let asked = shipped.ses.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0]["FromEmailAddress"], "orders@example.com");
    assert_eq!(asked[0]["Destination"], json!({"ToAddresses": ["anna@example.com"]}));
    let simple = &asked[0]["Content"]["Simple"];
    let subject = format!("Your order is confirmed ({})", shipped.order_id);
    assert_eq!(simple["Subject"], json!({"Data": subject, "Charset": "UTF-8"}));
    for (part, says) in [("Text", "- 2 x Longjing tea"), ("Html", "<li>2 &times; Longjing tea")] {
        assert_eq!(simple["Body"][part]["Charset"], "UTF-8");
        assert!(simple["Body"][part]["Data"].as_str().unwrap().contains(says), "{simple:#}");
    }

    shipped.shop.cancel(shipped.order_id).await.unwrap();
    for step in UNDO {
        shipped.shop.run(step, shipped.order_id).await.unwrap();
        shipped.shop.run(step, shipped.order_id).await.unwrap();
    }
    let asked = shipped.ses.asked();
    assert_eq!(asked.len(), 2);
    let subject = format!("Your order is cancelled ({})", shipped.order_id);
    assert_eq!(asked[1]["Content"]["Simple"]["Subject"]["Data"], subject);
}

#[tokio::test]
async fn a_repeated_notification_gets_the_first_id_and_another_key_sends_another_message() {
    let shipped = Shipped::new().await;
    let notification = shipped.notification();
    for _ in 0..3 {
        assert_eq!(shipped.shop.notifications.send(&notification).await.unwrap().0, "mail-1");
    }
    assert_eq!(shipped.wire.calls(), ["GetItem", "Query", "Query", "PutItem", "GetItem", "GetItem"]);
    assert_eq!(shipped.shop.notifications.send(&shipped.notification()).await.unwrap().0, "mail-2");
    assert_eq!(shipped.ses.asked().len(), 2);
}

#[tokio::test]
async fn a_message_whose_record_is_lost_counts_as_sent_and_is_sent_again_when_it_is_asked_for_again() {
    let shipped = Shipped::new().await;
    let notification = shipped.notification();
    shipped.wire.fail(3, Fault::NotSent);
    assert_eq!(shipped.shop.notifications.send(&notification).await.unwrap().0, "mail-1");
    assert!(shipped.wire.met_all_faults());
    assert_eq!(shipped.shop.notifications.send(&notification).await.unwrap().0, "mail-2");
}

#[tokio::test]
async fn what_ses_refuses_is_not_asked_again_and_says_nothing_of_the_customer() {
    let refusals = [
        (400, "MessageRejected"),
        (400, "MailFromDomainNotVerifiedException"),
        (400, "BadRequestException"),
        (403, "AccessDeniedException"),
    ];
    for (status, code) in refusals {
        let shipped = Shipped::new().await;
        shipped.ses.will(Answer::Error(status, code));
        let (error, said) = shipped.refusal().await;
        assert!(matches!(&error, ProviderError::Rejected(refusal) if refusal == code), "{error:?}");
        assert!(!said.contains("anna"), "{said}");
        shipped.ses.will(Answer::Error(status, code));
        assert_eq!(shipped.confirmed_with().await, None);
        assert_eq!(shipped.ses.asked().len(), 2);
    }
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_says_nothing_of_the_customer() {
    for (status, code) in [(429, "TooManyRequestsException"), (400, "SendingPausedException"), (500, "InternalFailure")]
    {
        let shipped = Shipped::new().await;
        shipped.ses.will(Answer::Error(status, code));
        let (error, said) = shipped.refusal().await;
        assert!(matches!(error, ProviderError::Failed(_)), "{error:?}");
        assert!(said.contains(code) && !said.contains("anna"), "{said}");
        shipped.ses.will(Answer::Error(status, code));
        assert_eq!(shipped.confirmed_with().await.as_deref(), Some("mail-3"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_waited_for_no_longer_than_the_settings_say() {
    let shipped = Shipped::new().await;
    shipped.ses.will(Answer::Never);
    let (error, _) = shipped.refusal().await;
    assert!(matches!(error, ProviderError::TimedOut(within) if within == Duration::from_secs(3)), "{error:?}");
    for _ in 0..2 {
        shipped.ses.will(Answer::Never);
    }
    assert_eq!(shipped.confirmed_with().await, None);
    assert_eq!(shipped.ses.asked().len(), 3);
}

#[tokio::test]
async fn without_a_verified_address_or_a_sender_ses_is_not_asked_and_the_order_is_confirmed() {
    for (sender, email_verified) in [("orders@example.com", false), ("", true)] {
        let shipped = Shipped::with(sender, email_verified).await;
        assert_eq!(shipped.confirmed_with().await, None);
        assert_eq!(shipped.ses.asked(), Vec::<Value>::new());
    }
}
