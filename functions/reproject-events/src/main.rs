//! An operator's tool → an order's events, or a customer's, in the views once more, in every generation of the read model.
//!
//! `make reproject ORDER=<id>` calls it. What it does is [`application::project_orders::reproject_order`].

use adapters::{
    aws,
    dynamodb::{DynamoEventStore, DynamoReadModel},
    lambda,
};
use application::{
    event_store::{AggregateId, EventStore, StreamId, Unavailable},
    ports::{Index, OrderViews, ReadModel},
    project_orders::{ProjectError, reproject_customer, reproject_order},
};
use aws_sdk_dynamodb::Client;
use serde::Serialize;
use tracing::info;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let client = Client::new(&aws::config());
    let store = DynamoEventStore::new(client.clone(), lambda::variable("EVENTS_TABLE")?);
    let model = DynamoReadModel::new(client, lambda::variable("ORDERS_TABLE")?, lambda::variable("INDEX_TABLE")?);
    lambda::run_tool(ReprojectError::error_type, async |of| handle(&store, &model.written().await?, of).await).await
}

/// How much was brought to what the events say.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Reprojected {
    /// How many orders; of a customer, all that have a view.
    orders: usize,
    /// In how many generations of the read model.
    generations: usize,
}

#[derive(Debug, thiserror::Error)]
enum ReprojectError {
    #[error("there is no such order")]
    NoSuchStream,
    #[error(transparent)]
    Project(#[from] ProjectError),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl ReprojectError {
    fn error_type(&self) -> &'static str {
        match self {
            Self::NoSuchStream => "NoSuchStream",
            Self::Project(error) => error.error_type(),
            Self::Unavailable(_) => "Unavailable",
        }
    }
}

async fn handle(
    store: &impl EventStore,
    generations: &[ReadModel<impl OrderViews, impl Index>],
    of: AggregateId,
) -> Result<Reprojected, ReprojectError> {
    let mut reprojected = Ok(Reprojected { orders: 0, generations: generations.len() });
    for model in generations {
        let done = match &of {
            AggregateId::Order(id) => reproject_order(store, model, *id).await.map(|version| version.map(|_| 1)),
            AggregateId::Customer(id) => reproject_customer(store, model, id).await.map(Some),
        };
        match done {
            Ok(None) => return Err(ReprojectError::NoSuchStream),
            Ok(Some(orders)) => {
                info!(stream = StreamId::from(&of).as_str(), model.generation, orders, "events projected again");
                reprojected = reprojected.map(|reprojected| Reprojected { orders, ..reprojected });
            }
            // One generation that fails keeps nothing from the others.
            Err(error) => reprojected = Err(error.into()),
        }
    }
    reprojected
}

#[cfg(test)]
mod tests {
    use adapters::samples::placed_order;
    use application::memory::{Fault, MemoryEventStore, MemoryIndex, MemoryOrderViews};

    use super::*;

    type Model = ReadModel<MemoryOrderViews, MemoryIndex>;

    #[tokio::test]
    async fn the_sample_order_gets_into_every_generation_whatever_becomes_of_the_others() {
        let placed = placed_order();
        let (store, models) = (MemoryEventStore::default(), [Model::default(), Model::default()]);
        store.append(&placed).await.unwrap();
        let sample: AggregateId = serde_json::from_str(include_str!("../../../events/reproject-events.json")).unwrap();
        models[0].views.faults.push(Fault::BeforeEffect);
        let error = handle(&store, &models, sample.clone()).await.unwrap_err();
        assert_eq!(error.error_type(), "Unavailable");
        let id = placed.stream.order_id().unwrap();
        let view = models[1].views.load(id).await.unwrap();
        assert_eq!(view.as_ref().unwrap().version, 1);
        let done = handle(&store, &models, sample).await.unwrap();
        assert_eq!(done, Reprojected { orders: 1, generations: 2 });
        assert_eq!(models[0].views.load(id).await.unwrap(), view);
        let customer = view.unwrap().customer.id;
        let done = handle(&store, &models, AggregateId::Customer(customer)).await.unwrap();
        assert_eq!(done, Reprojected { orders: 1, generations: 2 });
    }

    #[tokio::test]
    async fn an_order_that_is_not_there_is_refused() {
        let (store, models) = (MemoryEventStore::default(), [Model::default()]);
        let sample = serde_json::from_str(include_str!("../../../events/reproject-events.json")).unwrap();
        assert_eq!(handle(&store, &models, sample).await.unwrap_err().error_type(), "NoSuchStream");
    }
}
