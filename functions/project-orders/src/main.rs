//! Event table's stream → the order view behind `GET /api/v1/orders/{order_id}`.
//!
//! What it does with a commit is [`application::project_orders::project`].

use adapters::{
    aws,
    dynamodb::{DynamoEventStore, DynamoOrderViews},
    lambda,
};
use application::{
    event_store::{Commit, EventStore},
    ports::OrderViews,
    project_orders::project,
};
use aws_sdk_dynamodb::Client;
use tracing::{info, warn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init_logs();
    let client = Client::new(&aws::config().await);
    let store = DynamoEventStore::new(client.clone(), lambda::variable("EVENTS_TABLE")?);
    let views = DynamoOrderViews::new(client, lambda::variable("ORDERS_TABLE")?);
    lambda::run_stream(async |commits| handle(&store, &views, commits).await).await
}

/// Projects each commit, also after one that failed, and answers how many failed.
async fn handle(store: &impl EventStore, views: &impl OrderViews, commits: Vec<Commit>) -> usize {
    let mut failed: usize = 0;
    for commit in commits {
        let stream = commit.stream.as_str();
        let (version, correlation_id) = (commit.last_version(), &commit.metadata.correlation_id);
        match project(store, views, &commit).await {
            Ok(()) => info!(stream, version, correlation_id, "commit projected"),
            Err(error) => {
                failed = failed.saturating_add(1);
                warn!(stream, version, correlation_id, error = lambda::chain(&error), "commit not projected");
            }
        }
    }
    failed
}

#[cfg(test)]
mod tests {
    use adapters::lambda::read_batch;
    use application::memory::{Fault, MemoryEventStore, MemoryOrderViews};

    use super::*;

    const SAMPLE: &str = include_str!("../../../events/project-orders.json");

    #[tokio::test]
    async fn the_sample_commit_is_projected_and_a_repeated_one_ignored() {
        let (store, views) = (MemoryEventStore::default(), MemoryOrderViews::default());
        for _ in 0..2 {
            let (commits, unreadable) = read_batch(serde_json::from_str(SAMPLE).unwrap());
            let id = commits[0].stream.order_id().unwrap();
            assert_eq!((handle(&store, &views, commits).await, unreadable), (0, 0));
            assert_eq!(views.load(id).await.unwrap().unwrap().version, 1);
        }
    }

    #[tokio::test]
    async fn a_commit_that_cannot_be_projected_now_fails_the_batch() {
        let (store, views) = (MemoryEventStore::default(), MemoryOrderViews::default());
        views.faults.push(Fault::BeforeEffect);
        let (commits, _) = read_batch(serde_json::from_str(SAMPLE).unwrap());
        assert_eq!(handle(&store, &views, commits.clone()).await, 1);
        assert_eq!(handle(&store, &views, commits).await, 0);
    }

    #[tokio::test]
    async fn an_event_that_nobody_knows_fails_the_batch_and_is_not_skipped() {
        let (store, views) = (MemoryEventStore::default(), MemoryOrderViews::default());
        let (commits, _) =
            read_batch(serde_json::from_str(&SAMPLE.replace("OrderCreated", "OrderTeleported")).unwrap());
        assert_eq!(handle(&store, &views, commits).await, 1);
    }
}
