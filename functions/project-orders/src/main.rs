//! Event table's stream → the order views, in every generation of the read model.
//!
//! What it does with a commit is [`application::project_orders::project`].

use std::{collections::BTreeSet, sync::Arc};

use adapters::{
    aws,
    dynamodb::{DynamoCounters, DynamoEventStore, DynamoReadModel},
    lambda,
    tally::Tally,
};
use application::{
    event_store::{Commit, EventStore, StreamId},
    ports::{Counter, Index, OrderViews, ReadModel},
    project_orders::{NotProjected, project},
};
use aws_sdk_dynamodb::Client;
use chrono::Utc;
use tracing::{info, warn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let client = Client::new(&aws::config());
    let store = DynamoEventStore::new(client.clone(), lambda::variable("EVENTS_TABLE")?);
    let counters = DynamoCounters::new(client.clone(), lambda::variable("COUNTERS_TABLE")?, "project-orders");
    let tally = Arc::<Tally>::default();
    let model = DynamoReadModel::new(client, lambda::variable("ORDERS_TABLE")?, lambda::variable("INDEX_TABLE")?)
        .with_tally(tally.clone());
    lambda::run_stream(async |commits| {
        let failed = match model.written().await {
            Ok(generations) => handle(&store, &generations, &tally, commits).await,
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

/// Projects what of the batch can be, and answers how many commits cannot.
async fn handle(
    store: &impl EventStore,
    generations: &[ReadModel<impl OrderViews, impl Index>],
    tally: &Tally,
    mut commits: Vec<Commit>,
) -> usize {
    commits.sort_by(|one, other| (&one.stream, one.version).cmp(&(&other.stream, other.version)));
    let mut failed: BTreeSet<&StreamId> = BTreeSet::new();
    for model in generations {
        for NotProjected { commits, error } in project(store, model, &commits).await {
            failed.extend(commits.iter().map(|commit| &commit.stream));
            let generation = model.generation;
            for stream in commits.chunk_by(|one, next| one.stream == next.stream) {
                let Some(Commit { stream, metadata, .. }) = stream.first() else { continue };
                let (stream, correlation_id) = (stream.as_str(), &metadata.correlation_id);
                warn!(stream, generation, correlation_id, error = lambda::chain(&error), "commits not projected");
            }
        }
    }
    let mut not_done: usize = 0;
    for stream in commits.chunk_by(|one, next| one.stream == next.stream) {
        let (Some(first), Some(last)) = (stream.first(), stream.last()) else { continue };
        if failed.contains(&first.stream) {
            not_done = not_done.saturating_add(stream.len());
            continue;
        }
        // A metric filter takes the lag from this line: the wording is the filter's (infra/alarms.yaml).
        let lag = |commit: &Commit| Utc::now().signed_duration_since(commit.metadata.occurred_at).num_milliseconds();
        let (stream_id, version, correlation_id) =
            (first.stream.as_str(), last.last_version(), &last.metadata.correlation_id);
        info!(stream = stream_id, version, correlation_id, lag_ms = lag(first), "commit projected");
        for commit in stream {
            tally.count(Counter::CommitsProjected, 1);
            // Clocks differ: what seems to come from the future has come at once.
            tally.count(Counter::ProjectionLag, u64::try_from(lag(commit)).unwrap_or_default());
        }
    }
    not_done
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
            assert_eq!((handle(&store, &models, &Tally::default(), commits.clone()).await, unreadable), (0, 0));
            assert_eq!(models[0].views.load(id).await.unwrap().unwrap().version, 1);
            assert_eq!(models[1].views.load(id).await.unwrap(), models[0].views.load(id).await.unwrap());
        }
    }

    /// What is tried for all new orders of a batch is tried for each of them after that.
    fn fail_twice(model: &Model) {
        for _ in 0..2 {
            model.views.faults.push(Fault::BeforeEffect);
        }
    }

    #[tokio::test]
    async fn a_commit_that_cannot_be_projected_now_fails_the_batch() {
        let (store, models) = (MemoryEventStore::default(), [Model::default(), Model::default()]);
        fail_twice(&models[0]);
        let (commits, _) = read_batch(serde_json::from_str(SAMPLE).unwrap());
        assert_eq!(handle(&store, &models, &Tally::default(), commits.clone()).await, 1);
        assert_eq!(handle(&store, &models, &Tally::default(), commits.clone()).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_lag_of_what_is_projected_is_counted_and_of_nothing_else() {
        let (store, models, tally) =
            (MemoryEventStore::default(), [Model::default(), Model::default()], Tally::default());
        fail_twice(&models[1]);
        let (mut commits, _) = read_batch(serde_json::from_str(SAMPLE).unwrap());
        let a_minute = chrono::TimeDelta::minutes(1);
        commits[0].metadata.occurred_at = Utc::now().checked_sub_signed(a_minute).unwrap();
        for failed in [1, 0] {
            assert_eq!(handle(&store, &models, &tally, commits.clone()).await, failed);
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
        assert_eq!(handle(&store, &models, &Tally::default(), commits.clone()).await, 1);
    }
}
