//! `CustomerProfileUpdated` from the bus, through a queue → the customer in the views of all their orders.
//!
//! Not a reader of the stream as `project-orders` is: a customer may have ten thousand orders, and whoever places an order
//! meanwhile must not wait for them.

use adapters::{
    aws,
    dynamodb::{DynamoEventStore, DynamoReadModel},
    event_bridge::Detail,
    lambda,
};
use application::{
    event_store::{EventStore, Unavailable},
    ports::{Index, OrderViews, ReadModel},
    project_orders::{ProjectError, project_customer},
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
    lambda::run_queue(async |event| handle(&store, &model.written().await?, event).await).await
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
    Detail { metadata, .. }: Detail,
) -> Result<(), HandleError> {
    let customer = Some(&metadata.aggregate_id).filter(|_| metadata.aggregate_type == "customer");
    let customer = customer.map(CustomerId::stored).ok_or(HandleError::NotACustomer)?;
    let mut outcome = Ok(());
    for model in generations {
        match project_customer(store, model, &customer).await {
            Ok(orders) => info!(orders, correlation_id = metadata.correlation_id, "customer projected"),
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

    use super::*;

    type Model = ReadModel<MemoryOrderViews, MemoryIndex>;

    const SAMPLE: &str = include_str!("../../../events/project-customers.json");

    async fn consume(store: &MemoryEventStore, models: &[Model; 1], text: &str) -> usize {
        let batch: SqsEvent = serde_json::from_str(text).unwrap();
        let response = consume_messages(batch, async |event| handle(store, models, event).await).await;
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
