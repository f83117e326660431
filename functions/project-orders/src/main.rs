//! Event table's stream → the order views, in every generation of the read model.
//!
//! What it does with a commit is [`application::project_orders::project`].

use std::slice;

use adapters::{
    aws,
    dynamodb::{DynamoEventStore, DynamoReadModel},
    lambda,
};
use application::{
    event_store::{Commit, EventStore},
    ports::{Index, OrderViews, ReadModel},
    project_orders::project,
};
use aws_sdk_dynamodb::Client;
use chrono::Utc;
use tracing::{info, warn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init_logs();
    let client = Client::new(&aws::config().await);
    let store = DynamoEventStore::new(client.clone(), lambda::variable("EVENTS_TABLE")?)
        .with_snapshots(lambda::variable("SNAPSHOTS_TABLE")?);
    let model = DynamoReadModel::new(client, lambda::variable("ORDERS_TABLE")?, lambda::variable("INDEX_TABLE")?);
    lambda::run_stream(async |commits| match model.written().await {
        Ok(generations) => handle(&store, &generations, &commits).await,
        Err(error) => {
            warn!(error = lambda::chain(&error), "the generations of the read model are unknown");
            commits.len()
        }
    })
    .await
}

/// Projects each commit, also after one that failed, and answers how many failed.
async fn handle(
    store: &impl EventStore,
    generations: &[ReadModel<impl OrderViews, impl Index>],
    commits: &[Commit],
) -> usize {
    let mut failed: usize = 0;
    for commit in commits {
        let stream = commit.stream.as_str();
        let (version, correlation_id) = (commit.last_version(), &commit.metadata.correlation_id);
        let mut done = true;
        for model in generations {
            if let Err(error) = project(store, model, slice::from_ref(commit)).await {
                done = false;
                warn!(stream, version, correlation_id, error = lambda::chain(&error), "commit not projected");
            }
        }
        if done {
            // A metric filter takes the lag from this line: the wording is the filter's (infra/alarms.yaml).
            let lag_ms = Utc::now().signed_duration_since(commit.metadata.occurred_at).num_milliseconds();
            info!(stream, version, correlation_id, lag_ms, "commit projected");
        } else {
            failed = failed.saturating_add(1);
        }
    }
    failed
}

#[cfg(test)]
mod tests {
    use adapters::lambda::read_batch;
    use application::memory::{Fault, MemoryEventStore, MemoryIndex, MemoryOrderViews};

    use super::*;

    type Model = ReadModel<MemoryOrderViews, MemoryIndex>;

    const SAMPLE: &str = include_str!("../../../events/project-orders.json");

    #[tokio::test]
    async fn the_sample_commit_is_projected_and_a_repeated_one_ignored() {
        let (store, models) = (MemoryEventStore::default(), [Model::default(), Model::default()]);
        for _ in 0..2 {
            let (commits, unreadable) = read_batch(serde_json::from_str(SAMPLE).unwrap());
            let id = commits[0].stream.order_id().unwrap();
            assert_eq!((handle(&store, &models, &commits).await, unreadable), (0, 0));
            assert_eq!(models[0].views.load(id).await.unwrap().unwrap().version, 1);
            assert_eq!(models[1].views.load(id).await.unwrap(), models[0].views.load(id).await.unwrap());
        }
    }

    #[tokio::test]
    async fn a_commit_that_cannot_be_projected_now_fails_the_batch() {
        let (store, models) = (MemoryEventStore::default(), [Model::default(), Model::default()]);
        models[0].views.faults.push(Fault::BeforeEffect);
        let (commits, _) = read_batch(serde_json::from_str(SAMPLE).unwrap());
        assert_eq!(handle(&store, &models, &commits).await, 1);
        assert_eq!(handle(&store, &models, &commits).await, 0);
    }

    #[tokio::test]
    async fn an_event_that_nobody_knows_fails_the_batch_and_is_not_skipped() {
        let (store, models) = (MemoryEventStore::default(), [Model::default(), Model::default()]);
        let (commits, _) =
            read_batch(serde_json::from_str(&SAMPLE.replace("OrderCreated", "OrderTeleported")).unwrap());
        assert_eq!(handle(&store, &models, &commits).await, 1);
    }
}
