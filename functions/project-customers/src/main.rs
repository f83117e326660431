//! `CustomerProfileUpdated` from the bus, through a queue → the customer in the views of all their orders.
//!
//! Of several changes, only the newest is brought in. Not a reader of the stream as `project-orders` is: a customer may have ten thousand orders, and whoever places an order
//! meanwhile must not wait for them.

use adapters::{
    aws,
    dynamodb::{DynamoEventStore, DynamoReadModel},
    event_bridge::Detail,
    lambda::{self, Message},
};
use application::{
    event_store::{EventStore, Unavailable},
    ports::{Index, OrderViews, ReadModel},
    project_orders::{ProfileChanged, ProjectError, project_profile},
};
use aws_sdk_dynamodb::Client;
use domain::ids::CustomerId;
use tracing::info;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init_logs();
    let client = Client::new(&aws::config().await);
    let store = DynamoEventStore::new(client.clone(), lambda::variable("EVENTS_TABLE")?)
        .with_snapshots(lambda::variable("SNAPSHOTS_TABLE")?);
    let model = DynamoReadModel::new(client, lambda::variable("ORDERS_TABLE")?, lambda::variable("INDEX_TABLE")?);
    lambda::run_queue(async |message| handle(&store, &model.written().await?, message).await).await
}

/// Why a message is not in the views.
#[derive(Debug, thiserror::Error)]
enum HandleError {
    #[error("the event is not a customer's")]
    NotACustomer,
    #[error(transparent)]
    Project(#[from] ProjectError),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

async fn handle(
    store: &impl EventStore,
    generations: &[ReadModel<impl OrderViews, impl Index>],
    Message { detail: Detail { metadata, .. }, is_repeated }: Message,
) -> Result<(), HandleError> {
    let customer = Some(&metadata.aggregate_id).filter(|_| metadata.aggregate_type == "customer");
    let customer = customer.map(CustomerId::stored).ok_or(HandleError::NotACustomer)?;
    let message = ProfileChanged { version: metadata.sequence, is_repeated };
    let mut outcome = Ok(());
    for model in generations {
        match project_profile(store, model, &customer, message).await {
            Ok(Some(orders)) => info!(orders, correlation_id = metadata.correlation_id, "customer projected"),
            Ok(None) => info!(correlation_id = metadata.correlation_id, "a newer profile is projected instead"),
            // One generation that fails keeps nothing from the others.
            Err(error) => outcome = Err(error.into()),
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use adapters::lambda::{consume_messages, read_batch};
    use application::{
        event_store::{Commit, Metadata, RecordedEvent, StreamId},
        memory::{Fault, MemoryEventStore, MemoryIndex, MemoryOrderViews},
        project_orders::project,
    };
    use aws_lambda_events::event::sqs::SqsEvent;
    use domain::order_view::OrderView;

    use super::*;

    type Model = ReadModel<MemoryOrderViews, MemoryIndex>;

    const SAMPLE: &str = include_str!("../../../events/project-customers.json");

    async fn consume(store: &MemoryEventStore, models: &[Model; 1], text: &str) -> usize {
        let batch: SqsEvent = serde_json::from_str(text).unwrap();
        let response = consume_messages(batch, async |message| handle(store, models, message).await).await;
        response.batch_item_failures.len()
    }

    #[tokio::test]
    async fn a_changed_profile_reaches_the_orders_of_the_customer() {
        let (store, models) = (MemoryEventStore::default(), [Model::default()]);
        let (commits, _) =
            read_batch(serde_json::from_str(include_str!("../../../events/project-orders.json")).unwrap());
        project(&store, &models[0], &commits).await.unwrap();
        let id = commits[0].stream.order_id().unwrap();
        let data = serde_json::json!({"first_name": "Anna", "last_name": "Wang", "email": "anna@example.com"});
        let event = RecordedEvent { event_type: "CustomerProfileUpdated".to_owned(), schema: 1, data };
        let commit = Commit {
            stream: StreamId::new("customer#customer-1".to_owned()),
            version: 1,
            events: vec![event],
            metadata: Metadata { ..commits[0].metadata.clone() },
        };
        store.append(&commit).await.unwrap();
        models[0].views.faults.push(Fault::BeforeEffect);
        assert_eq!(consume(&store, &models, SAMPLE).await, 1, "what did not get done comes again");
        assert_eq!(consume(&store, &models, SAMPLE).await, 0);
        let customer = models[0].views.load(id).await.unwrap().unwrap().customer;
        assert_eq!((customer.first_name.as_deref(), customer.version), (Some("Anna"), 1));
    }

    #[tokio::test]
    async fn of_many_changes_the_newest_is_brought_in_and_an_older_one_only_when_it_comes_again() {
        let (store, models) = (MemoryEventStore::default(), [Model::default()]);
        let (commits, _) =
            read_batch(serde_json::from_str(include_str!("../../../events/project-orders.json")).unwrap());
        project(&store, &models[0], &commits).await.unwrap();
        let id = commits[0].stream.order_id().unwrap();
        let change = |version: u64| {
            let data = serde_json::json!({"first_name": "Anna", "last_name": "Wang", "email": "anna@example.com"});
            let event = RecordedEvent { event_type: "CustomerProfileUpdated".to_owned(), schema: 1, data };
            let metadata =
                Metadata { command_id: uuid::Uuid::from_u128(version.into()), ..commits[0].metadata.clone() };
            Commit { stream: StreamId::new("customer#customer-1".to_owned()), version, events: vec![event], metadata }
        };
        for version in 1..=6 {
            store.append(&change(version)).await.unwrap();
        }
        let message = |version: u64| SAMPLE.replace(r#"sequence\":1"#, &format!(r#"sequence\":{version}"#));
        let seen = async || models[0].views.load(id).await.unwrap().unwrap().customer.version;
        for version in 1..=5 {
            assert_eq!(consume(&store, &models, &message(version)).await, 0);
            assert_eq!(seen().await, 0, "{version}");
        }
        // The newest is not lost when it fails.
        models[0].views.faults.push(Fault::BeforeEffect);
        assert_eq!(consume(&store, &models, &message(6)).await, 1);
        assert_eq!((consume(&store, &models, &message(6)).await, seen().await), (0, 6));

        let models = [Model::default()];
        let view =
            OrderView::evolve(None, id, &commits[0].events[0].read().unwrap(), 1, commits[0].metadata.occurred_at);
        models[0].views.place(&view.unwrap()).await.unwrap();
        let again = message(3).replace(r#""ApproximateReceiveCount": "1""#, r#""ApproximateReceiveCount": "2""#);
        assert_eq!(consume(&store, &models, &again).await, 0);
        assert_eq!(models[0].views.load(id).await.unwrap().unwrap().customer.version, 6);
    }

    #[tokio::test]
    async fn a_customer_whose_id_no_rule_lets_in_any_more_is_still_one() {
        let (store, models) = (MemoryEventStore::default(), [Model::default()]);
        assert_eq!(consume(&store, &models, &SAMPLE.replace("customer-1", "Anna König")).await, 0);
    }

    #[tokio::test]
    async fn an_event_that_is_not_a_customers_is_not_consumed() {
        let (store, models) = (MemoryEventStore::default(), [Model::default()]);
        let order = SAMPLE.replace(r#"aggregate_type\":\"customer"#, r#"aggregate_type\":\"order"#);
        assert_eq!(consume(&store, &models, &order).await, 1);
    }
}
