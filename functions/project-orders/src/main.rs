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
    figures::Figure,
    ports::{Index, OrderViews, ReadModel},
    project_orders::{NotProjected, TakenIn, project},
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
    let (counters, tally) = (Arc::new(counters), Arc::<Tally>::default());
    tally.hand_on_at_the_end(&counters).await;
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
        tally.hand_on(&*counters).await;
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
    // The generation that is read comes last: what has come into that one counts.
    let mut read = TakenIn::default();
    for model in generations {
        let projected = project(store, model, &commits).await;
        read = projected.taken_in;
        if let Some(error) = projected.uncounted {
            warn!(generation = model.generation, error = lambda::chain(&error), "orders not counted by the hour");
        }
        for NotProjected { commits, error } in projected.failed {
            failed.extend(commits.iter().map(|commit| &commit.stream));
            let generation = model.generation;
            for stream in commits.chunk_by(|one, next| one.stream == next.stream) {
                let Some(Commit { stream, metadata, .. }) = stream.first() else { continue };
                let (stream, correlation_id) = (stream.as_str(), &metadata.correlation_id);
                warn!(stream, generation, correlation_id, error = lambda::chain(&error), "commits not projected");
            }
        }
    }
    let now = Utc::now();
    let TakenIn { mut figures, occurred, .. } = read;
    figures.extend(occurred.into_iter().map(|occurred_at| Figure::of_commit(occurred_at, now)));
    tally.record(&figures);
    let mut not_done: usize = 0;
    for stream in commits.chunk_by(|one, next| one.stream == next.stream) {
        let (Some(first), Some(last)) = (stream.first(), stream.last()) else { continue };
        if failed.contains(&first.stream) {
            not_done = not_done.saturating_add(stream.len());
            continue;
        }
        let lag_ms = now.signed_duration_since(first.metadata.occurred_at).num_milliseconds();
        let (stream_id, version, correlation_id) =
            (first.stream.as_str(), last.last_version(), &last.metadata.correlation_id);
        info!(stream = stream_id, version, correlation_id, lag_ms, "commit projected");
    }
    not_done
}

#[cfg(test)]
mod tests {
    use adapters::{lambda::read_batch, tally::HAND_ON_AFTER};
    use application::{
        memory::{Fault, MemoryCounters, MemoryEventStore, MemoryIndex, MemoryOrderViews},
        ports::{Counter, Counters, Histogram},
    };
    use chrono::TimeDelta;

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
    async fn what_has_come_into_the_views_that_are_read_counts_once_however_often_it_comes() {
        let (store, tally) = (MemoryEventStore::default(), Tally::default());
        let (being_built, read) = (Model::default(), Model::default());
        fail_twice(&being_built);
        fail_twice(&read);
        let models = [being_built, read];
        let (mut commits, _) = read_batch(serde_json::from_str(SAMPLE).unwrap());
        commits[0].metadata.occurred_at = Utc::now().checked_sub_signed(TimeDelta::minutes(1)).unwrap();
        let mut told = Vec::new();
        for failed in [1, 0, 0] {
            let batch = handle(&store, &models, &tally, commits.clone());
            let (not_done, metrics) = telemetry::figures::written(batch).await;
            assert_eq!(not_done, failed);
            told.push(metrics.iter().map(|metric| metric.name).collect::<Vec<_>>());
        }
        assert_eq!(told, [vec![], vec!["OrdersPlaced", "ProjectionLag"], vec![]]);
        let counters = MemoryCounters::default();
        tokio::time::advance(HAND_ON_AFTER).await;
        tally.hand_on(&counters).await;
        let (counts, lag) = (counters.read().await.unwrap(), Histogram::ProjectionLag);
        assert_eq!((counts[&Counter::OrdersPlaced.name()], counts[&Counter::Count(lag).name()]), (1, 1));
        assert!((60_000..120_000).contains(&counts[&Counter::Sum(lag).name()]), "{counts:?}");
    }

    #[tokio::test]
    async fn an_event_that_nobody_knows_fails_the_batch_and_is_not_skipped() {
        let (store, models) = (MemoryEventStore::default(), [Model::default(), Model::default()]);
        let (commits, _) =
            read_batch(serde_json::from_str(&SAMPLE.replace("OrderCreated", "OrderTeleported")).unwrap());
        assert_eq!(handle(&store, &models, &Tally::default(), commits.clone()).await, 1);
    }
}
