//! Event table's stream → the order views, in every generation of the read model.
//!
//! What it does with a commit is [`application::project_orders::project`].

use std::{slice, sync::Arc};

use adapters::{
    aws,
    dynamodb::{DynamoCounters, DynamoEventStore, DynamoReadModel},
    lambda,
    tally::Tally,
};
use application::{
    event_store::{Commit, EventStore},
    ports::{Counter, Index, OrderViews, ReadModel},
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
    let counters = DynamoCounters::new(client.clone(), lambda::variable("COUNTERS_TABLE")?, "project-orders");
    let tally = Arc::<Tally>::default();
    let model = DynamoReadModel::new(client, lambda::variable("ORDERS_TABLE")?, lambda::variable("INDEX_TABLE")?)
        .with_tally(tally.clone());
    lambda::run_stream(async |commits| {
        let failed = match model.written().await {
            Ok(generations) => handle(&store, &generations, &tally, &commits).await,
            Err(error) => {
                warn!(error = lambda::chain(&error), "the generations of the read model are unknown");
                commits.len()
            }
        };
        // Nobody waits for the answer, so the lag of these commits goes along.
        tally.hand_on(&counters).await;
        failed
    })
    .await
}

/// Projects each commit, also after one that failed, and answers how many failed.
async fn handle(
    store: &impl EventStore,
    generations: &[ReadModel<impl OrderViews, impl Index>],
    tally: &Tally,
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
            tally.count(Counter::CommitsProjected, 1);
            // Clocks differ: what seems to come from the future has come at once.
            tally.count(Counter::ProjectionLag, u64::try_from(lag_ms).unwrap_or_default());
        } else {
            failed = failed.saturating_add(1);
        }
    }
    failed
}

#[cfg(test)]
mod tests {
    use adapters::{lambda::read_batch, tally::HAND_ON_AFTER};
    use application::{
        memory::{Fault, MemoryCounters, MemoryEventStore, MemoryIndex, MemoryOrderViews},
        ports::Counters,
    };

    use super::*;

    type Model = ReadModel<MemoryOrderViews, MemoryIndex>;

    const SAMPLE: &str = include_str!("../../../events/project-orders.json");

    #[tokio::test]
    async fn the_sample_commit_is_projected_and_a_repeated_one_ignored() {
        let (store, models) = (MemoryEventStore::default(), [Model::default(), Model::default()]);
        for _ in 0..2 {
            let (commits, unreadable) = read_batch(serde_json::from_str(SAMPLE).unwrap());
            let id = commits[0].stream.order_id().unwrap();
            assert_eq!((handle(&store, &models, &Tally::default(), &commits).await, unreadable), (0, 0));
            assert_eq!(models[0].views.load(id).await.unwrap().unwrap().version, 1);
            assert_eq!(models[1].views.load(id).await.unwrap(), models[0].views.load(id).await.unwrap());
        }
    }

    #[tokio::test]
    async fn a_commit_that_cannot_be_projected_now_fails_the_batch() {
        let (store, models) = (MemoryEventStore::default(), [Model::default(), Model::default()]);
        models[0].views.faults.push(Fault::BeforeEffect);
        let (commits, _) = read_batch(serde_json::from_str(SAMPLE).unwrap());
        assert_eq!(handle(&store, &models, &Tally::default(), &commits).await, 1);
        assert_eq!(handle(&store, &models, &Tally::default(), &commits).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_lag_of_what_is_projected_is_counted_and_of_nothing_else() {
        let (store, models, tally) =
            (MemoryEventStore::default(), [Model::default(), Model::default()], Tally::default());
        models[1].views.faults.push(Fault::BeforeEffect);
        let (mut commits, _) = read_batch(serde_json::from_str(SAMPLE).unwrap());
        let a_minute = chrono::TimeDelta::minutes(1);
        commits[0].metadata.occurred_at = Utc::now().checked_sub_signed(a_minute).unwrap();
        for failed in [1, 0] {
            assert_eq!(handle(&store, &models, &tally, &commits).await, failed);
        }
        let counters = MemoryCounters::default();
        tokio::time::advance(HAND_ON_AFTER).await;
        tally.hand_on(&counters).await;
        let counts = counters.read().await.unwrap();
        assert_eq!(counts[&Counter::CommitsProjected.name()], 1);
        assert!((60_000..120_000).contains(&counts[&Counter::ProjectionLag.name()]), "{counts:?}");
    }

    #[tokio::test]
    async fn an_event_that_nobody_knows_fails_the_batch_and_is_not_skipped() {
        let (store, models) = (MemoryEventStore::default(), [Model::default(), Model::default()]);
        let (commits, _) =
            read_batch(serde_json::from_str(&SAMPLE.replace("OrderCreated", "OrderTeleported")).unwrap());
        assert_eq!(handle(&store, &models, &Tally::default(), &commits).await, 1);
    }
}
