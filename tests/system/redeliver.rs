//! What was lost on its way is given once more, from the event table.

use std::time::{Duration, Instant};

use aws_sdk_eventbridge::types::Target;
use serde_json::{Value, json};

use crate::service::{DEADLINE, Service, fresh_key, id_of, logs, make, order, setting};

async fn confirmed_order(service: &Service, who: &str) -> String {
    let product = service.product(10).await;
    let id = service.place(who, &fresh_key(), &order(who, &product)).await.expect(201).text("order_id");
    service.await_status(who, &id, &["confirmed"]).await;
    id
}

#[tokio::test]
async fn an_order_whose_view_is_lost_is_brought_back_by_reproject_and_listed_once() {
    let service = Service::connect().await;
    let id = confirmed_order(&service, "customer-2").await;
    let path = format!("/api/v1/orders/{id}");
    let before = service.get("customer-2", &path).await.expect(200).body;
    let views = service.scan("ORDERS_TABLE").await;
    for view in views.iter().filter(|item| item["key"].as_s().unwrap().ends_with(&format!("/order/{id}"))) {
        let delete = service.dynamodb.delete_item().table_name(setting("ORDERS_TABLE"));
        delete.key("key", view["key"].clone()).send().await.unwrap();
    }
    service.get("customer-2", &path).await.expect(404);

    // Beside others, of which one is not there.
    let (other, unknown) = (confirmed_order(&service, "customer-2").await, fresh_key());
    let (done, said) = make(&["reproject", "ORDERS=-"], &format!("{unknown}\n{id}\n{other}\n{id}\n")).await;
    assert!(!done && said.contains(&format!("{unknown}: there is no such order")), "{said}");
    assert!(said.contains("2 of 3 done, 1 failed; orders projected: 2"), "{said}");
    let (done, said) = make(&["reproject", &format!("ORDER={id}")], "").await;
    assert!(done, "{said}");

    let mut after = service.get("customer-2", &path).await.expect(200).body;
    // Others may have changed the profile since.
    after["customer"] = before["customer"].clone();
    assert_eq!(after, before);
    let list = format!("/api/v1/orders/customer/{}?page_size=100", id_of("customer-2"));
    let listed = service.get("customer-2", &list).await.expect(200).body;
    let rows = listed["orders"].as_array().unwrap().iter().filter(|row| row["id"] == json!(id));
    assert_eq!(rows.count(), 1);
    let found = service.get("staff-1", &format!("/api/v1/orders/search?q={id}")).await.expect(200).body;
    assert_eq!(found["total_count"], 1);

    let (done, said) = make(&["reproject", "ORDERS=-", "LIMIT=1"], &format!("{id}\n{other}\n")).await;
    assert!(!done && said.contains("2 orders are named"), "{said}");
    let (done, said) = make(&["reproject", "ORDER=not-an-id"], "").await;
    assert!(!done && said.contains("nothing was done"), "{said}");
    let (done, said) = make(&["reproject", &format!("CUSTOMER={}", id_of("customer-2"))], "").await;
    assert!(done, "{said}");
}

/// A consumer that has missed an order, and all the service's own consumers, which have not.
#[tokio::test]
async fn events_that_are_published_again_come_under_their_ids_and_nothing_is_done_twice() {
    let service = Service::connect().await;
    let id = confirmed_order(&service, "customer-1").await;
    let books = service.agreed_books(&id).await;
    let event_types = service.event_types(&id).await;
    let consumer = Consumer::of(&service, &id).await;
    // The order may be shown as confirmed before that is published for the first time.
    consumer.sequences(0).await;

    let (done, said) = make(&["republish", &format!("ORDER={id}")], "").await;
    assert!(done && said.contains("1 of 1 done, 0 failed; events published: 5"), "{said}");
    let mut events = consumer.receive(5).await;
    events.sort_by_key(|event| event["metadata"]["sequence"].as_u64());
    let stored = service.events(&id).await;
    for (number, (event, (event_type, commit))) in (1..).zip(events.iter().zip(&stored)) {
        let metadata = &event["metadata"];
        assert_eq!(metadata["event_id"], json!(format!("{id}/{number}")));
        assert_eq!(metadata["event_type"], json!(event_type));
        assert_eq!(metadata["occurred_at"], json!(commit["occurred_at"].as_s().unwrap()));
        let recorded: Value = serde_json::from_str(commit["events"].as_s().unwrap()).unwrap();
        assert_eq!(event["data"], recorded[0]["data"]);
    }
    let (done, said) = make(&["republish", &format!("ORDER={id}"), "AFTER=3"], "").await;
    assert!(done && said.contains("events published: 2"), "{said}");
    let late: Vec<u64> =
        consumer.receive(2).await.iter().map(|event| event["metadata"]["sequence"].as_u64().unwrap()).collect();
    assert!(late.iter().all(|sequence| [4, 5].contains(sequence)), "{late:?}");
    consumer.leave().await;

    await_starts(&id, 2).await;
    assert!(service.standard_execution(&id).await.is_none());
    assert_eq!(service.event_types(&id).await, event_types);
    assert_eq!(service.agreed_books(&id).await, books);
    assert_eq!(service.ledger(&id).await.len(), 1);
}

/// Waits until start-fulfilment has been given the order's `OrderCreated` so many times.
pub(crate) async fn await_starts(order_id: &str, times: usize) {
    let started = Instant::now();
    let told = |lines: &str| lines.matches("\"execution started\"").count();
    while told(&logs(order_id).await) < times {
        assert!(started.elapsed() < DEADLINE, "the repeated OrderCreated has not come to start-fulfilment");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// A queue that a rule of the bus feeds with one order's events.
pub(crate) struct Consumer {
    bus: aws_sdk_eventbridge::Client,
    sqs: aws_sdk_sqs::Client,
    name: String,
    queue: String,
}

impl Consumer {
    pub(crate) async fn of(service: &Service, order_id: &str) -> Self {
        let aws = aws_config::defaults(aws_config::BehaviorVersion::v2026_01_12()).load().await;
        let (bus, sqs, name) =
            (aws_sdk_eventbridge::Client::new(&aws), service.sqs.clone(), format!("test-{order_id}"));
        let queue = sqs.create_queue().queue_name(&name).send().await.unwrap().queue_url.unwrap();
        let arn = aws_sdk_sqs::types::QueueAttributeName::QueueArn;
        let attributes =
            sqs.get_queue_attributes().queue_url(&queue).attribute_names(arn.clone()).send().await.unwrap();
        let arn = attributes.attributes.unwrap().remove(&arn).unwrap();
        let pattern = json!({"source": ["order-service"], "detail": {"metadata": {"aggregate_id": [order_id]}}});
        let event_bus = setting("EVENT_BUS");
        let rule = bus.put_rule().name(&name).event_bus_name(&event_bus).event_pattern(pattern.to_string());
        let rule = rule.send().await.unwrap().rule_arn.unwrap();
        let policy = json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage",
            "Resource": arn, "Condition": {"ArnEquals": {"aws:SourceArn": rule}}
        }]});
        let allow = sqs.set_queue_attributes().queue_url(&queue);
        let allow = allow.attributes(aws_sdk_sqs::types::QueueAttributeName::Policy, policy.to_string());
        allow.send().await.unwrap();
        let target = Target::builder().id("queue").arn(arn).build().unwrap();
        bus.put_targets().rule(&name).event_bus_name(&event_bus).targets(target).send().await.unwrap();
        Self { bus, sqs, name, queue }
    }

    /// The details of so many events; of no more, as far as can be seen.
    async fn receive(&self, count: usize) -> Vec<Value> {
        let events = self.receive_at_least(count).await;
        assert_eq!(events.len(), count);
        events
    }

    /// The numbers of so many events at least, and of what else comes until nothing has come for a while, in the order of their coming.
    pub(crate) async fn sequences(&self, at_least: usize) -> Vec<u64> {
        let (started, mut events) = (Instant::now(), self.receive_at_least(at_least).await);
        loop {
            let more = self.receive_some().await;
            if more.is_empty() {
                return events.iter().map(|event| event["metadata"]["sequence"].as_u64().unwrap()).collect();
            }
            assert!(started.elapsed() < DEADLINE, "events go on coming");
            events.extend(more);
        }
    }

    async fn receive_at_least(&self, count: usize) -> Vec<Value> {
        let (started, mut events) = (Instant::now(), Vec::new());
        while events.len() < count {
            assert!(started.elapsed() < DEADLINE, "only {} of {count} events have come", events.len());
            events.extend(self.receive_some().await);
        }
        events
    }

    /// The details of what has come, if anything comes in a while.
    async fn receive_some(&self) -> Vec<Value> {
        let mut events = Vec::new();
        let receive = self.sqs.receive_message().queue_url(&self.queue).max_number_of_messages(10);
        for message in receive.wait_time_seconds(5).send().await.unwrap().messages.unwrap_or_default() {
            let event: Value = serde_json::from_str(message.body().unwrap()).unwrap();
            events.push(event["detail"].clone());
            let delete = self.sqs.delete_message().queue_url(&self.queue);
            delete.receipt_handle(message.receipt_handle.unwrap()).send().await.unwrap();
        }
        events
    }

    pub(crate) async fn leave(self) {
        let event_bus = setting("EVENT_BUS");
        self.bus.remove_targets().rule(&self.name).event_bus_name(&event_bus).ids("queue").send().await.unwrap();
        self.bus.delete_rule().name(&self.name).event_bus_name(&event_bus).send().await.unwrap();
        self.sqs.delete_queue().queue_url(&self.queue).send().await.unwrap();
    }
}
