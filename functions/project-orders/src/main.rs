//! Event table's stream → the order views, in every generation of the read model.
//!
//! What it does with a commit is [`application::project_orders::project`].

use std::{collections::BTreeMap, sync::Arc};

use adapters::{
    aws,
    dynamodb::{DynamoCounters, DynamoDeadLetters, DynamoEventStore, DynamoReadModel},
    lambda,
    tally::Tally,
};
use application::{
    dead_letters::NotHandled,
    event_store::{Commit, EventStore, StreamId, Unavailable},
    figures::Figure,
    ports::{Consumer, Failure, Index, OrderViews, ReadModel},
    project_orders::{NotProjected, ProjectError, TakenIn, project},
};
use aws_sdk_dynamodb::Client;
use chrono::Utc;
use tracing::{info, warn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let ending = lambda::Ending::begin();
    let client = Client::new(&aws::config());
    let store = DynamoEventStore::new(client.clone(), lambda::variable("EVENTS_TABLE")?);
    let counters = DynamoCounters::new(client.clone(), lambda::variable("COUNTERS_TABLE")?, "project-orders");
    let (counters, tally) = (Arc::new(counters), Arc::<Tally>::default());
    let letters = DynamoDeadLetters::new(client.clone(), lambda::variable("DEAD_LETTERS_TABLE")?);
    let model = DynamoReadModel::new(client, lambda::variable("ORDERS_TABLE")?, lambda::variable("INDEX_TABLE")?)
        .with_tally(tally.clone());
    tally.hand_on_at_the_end(&counters, ending).await;
    lambda::run_stream(Consumer::ProjectOrders, &letters, async |commits| {
        let not_handled = match model.written().await {
            Ok(generations) => handle(&store, &generations, &tally, commits).await,
            Err(error) => unknown_generations(&error, commits),
        };
        // Nobody waits for the answer, so the lag of these commits goes along.
        tally.hand_on(&*counters).await;
        not_handled
    })
    .await
}

/// Nothing can be projected where nobody says into what.
fn unknown_generations(error: &Unavailable, mut commits: Vec<Commit>) -> Vec<NotHandled> {
    commits.sort_by(|one, other| (&one.stream, one.version).cmp(&(&other.stream, other.version)));
    let failure = Failure::new("Unavailable", &lambda::chain(error));
    let streams = commits.chunk_by(|one, next| one.stream == next.stream);
    let not_handled = streams.filter_map(|commits| {
        let Commit { stream, metadata, .. } = commits.first()?;
        let (stream, correlation_id) = (stream.as_str(), &metadata.correlation_id);
        warn!(stream, correlation_id, error = failure.error, "commits not projected");
        NotHandled::of(commits.iter(), failure.clone(), false)
    });
    not_handled.collect()
}

/// Projects what of the batch can be, and answers what cannot.
async fn handle(
    store: &impl EventStore,
    generations: &[ReadModel<impl OrderViews, impl Index>],
    tally: &Tally,
    mut commits: Vec<Commit>,
) -> Vec<NotHandled> {
    commits.sort_by(|one, other| (&one.stream, one.version).cmp(&(&other.stream, other.version)));
    let mut failed: BTreeMap<&StreamId, NotHandled> = BTreeMap::new();
    // The generation that is read comes last: what has come into that one counts.
    let mut read = TakenIn::default();
    for model in generations {
        let projected = project(store, model, &commits).await;
        read = projected.taken_in;
        if let Some(error) = projected.uncounted {
            warn!(generation = model.generation, error = lambda::chain(&error), "orders not counted by the hour");
        }
        for NotProjected { commits, error } in projected.failed {
            for stream in commits.chunk_by(|one, next| one.stream == next.stream) {
                let Some(not_handled) = not_projected(model.generation, stream, &error) else { continue };
                let Some(Commit { stream, .. }) = stream.first() else { continue };
                // What is lasting in one generation is not mended by coming again for another.
                if not_handled.is_lasting || !failed.contains_key(stream) {
                    failed.insert(stream, not_handled);
                }
            }
        }
    }
    let now = Utc::now();
    let TakenIn { mut figures, occurred, .. } = read;
    figures.extend(occurred.into_iter().map(|occurred_at| Figure::of_commit(occurred_at, now)));
    tally.record(&figures);
    for stream in commits.chunk_by(|one, next| one.stream == next.stream) {
        let (Some(first), Some(last)) = (stream.first(), stream.last()) else { continue };
        if failed.contains_key(&first.stream) {
            continue;
        }
        let lag_ms = now.signed_duration_since(first.metadata.occurred_at).num_milliseconds();
        let (stream_id, version, correlation_id) =
            (first.stream.as_str(), last.last_version(), &last.metadata.correlation_id);
        info!(stream = stream_id, version, correlation_id, lag_ms, "commit projected");
    }
    failed.into_values().collect()
}

/// Says of some commits of one stream why they are not in a generation.
fn not_projected(generation: u32, commits: &[Commit], error: &ProjectError) -> Option<NotHandled> {
    let failure = Failure::new(error.error_type(), &lambda::chain(error));
    let Commit { stream, metadata, .. } = commits.first()?;
    let (stream, correlation_id) = (stream.as_str(), &metadata.correlation_id);
    warn!(stream, generation, correlation_id, error = failure.error, "commits not projected");
    NotHandled::of(commits.iter(), failure, error.is_lasting())
}

#[cfg(test)]
mod tests {
    use adapters::{
        lambda::{Unreadable, read_batch},
        tally::HAND_ON_AFTER,
    };
    use application::{
        memory::{Fault, MemoryCounters, MemoryDeadLetters, MemoryEventStore, MemoryIndex, MemoryOrderViews},
        ports::{Counter, Counters, DeadLetters, Histogram},
    };
    use chrono::TimeDelta;
    use domain::ids::OrderId;
    use uuid::Uuid;

    use super::*;

    type Model = ReadModel<MemoryOrderViews, MemoryIndex>;

    const SAMPLE: &str = include_str!("../../../events/project-orders.json");

    #[tokio::test]
    async fn the_sample_commit_is_projected_and_a_repeated_one_ignored() {
        let (store, models) = (MemoryEventStore::default(), [Model::default(), Model::default()]);
        for _ in 0..2 {
            let (commits, unreadable) = read_batch(serde_json::from_str(SAMPLE).unwrap());
            let id = commits[0].stream.order_id().unwrap();
            assert_eq!(handle(&store, &models, &Tally::default(), commits.clone()).await, []);
            assert_eq!(unreadable, Unreadable::default());
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
        let not_handled = handle(&store, &models, &Tally::default(), commits.clone()).await;
        assert_eq!((not_handled.len(), not_handled[0].is_lasting), (1, false));
        assert!(handle(&store, &models, &Tally::default(), commits.clone()).await.is_empty());
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
            assert_eq!(not_done.len(), failed);
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

    /// A batch in which one order has an event that this version does not know, and a later one.
    fn poisoned() -> (Vec<Commit>, StreamId) {
        let (commits, _) = read_batch(serde_json::from_str(SAMPLE).unwrap());
        let of = |number: u128, version: u64, event_type: &str| {
            let mut commit = commits[0].clone();
            commit.stream = StreamId::order(OrderId::new(Uuid::from_u128(number)));
            commit.version = version;
            event_type.clone_into(&mut commit.events[0].event_type);
            commit
        };
        let poison = of(2, 1, "OrderTeleported");
        let stream = poison.stream.clone();
        (vec![of(1, 1, "OrderCreated"), poison, of(2, 2, "OrderConfirmed"), of(3, 1, "OrderCreated")], stream)
    }

    #[tokio::test]
    async fn an_event_that_nobody_knows_has_its_order_wait_and_no_other() {
        let (store, models, letters) =
            (MemoryEventStore::default(), [Model::default(), Model::default()], MemoryDeadLetters::default());
        let (batch, poisoned) = poisoned();
        for commit in &batch {
            store.append(commit).await.unwrap();
        }
        let consume = async |commits| handle(&store, &models, &Tally::default(), commits).await;
        for tries in 1..=2 {
            let again = (batch.clone(), Unreadable::default());
            assert_eq!(lambda::consume_batch(Consumer::ProjectOrders, &letters, &consume, again).await, 0);
            let parked = letters.parked(Consumer::ProjectOrders, &poisoned).await.unwrap().unwrap();
            assert_eq!((parked.first_version, parked.last_version, parked.tries), (1, 2, tries));
            assert_eq!(parked.failure.error_type, "Unreadable");
        }
        for number in [1, 3] {
            let id = OrderId::new(Uuid::from_u128(number));
            assert_eq!(models[1].views.load(id).await.unwrap().unwrap().version, 1);
        }
        assert_eq!(letters.backlog(Consumer::ProjectOrders).await.unwrap().number, 1);
    }

    #[tokio::test]
    async fn what_comes_later_of_an_order_that_waits_waits_behind_it() {
        let (store, models, letters) =
            (MemoryEventStore::default(), [Model::default(), Model::default()], MemoryDeadLetters::default());
        let (batch, poisoned) = poisoned();
        let consume = async |commits| handle(&store, &models, &Tally::default(), commits).await;
        for commit in &batch {
            store.append(commit).await.unwrap();
            let one = (vec![commit.clone()], Unreadable::default());
            assert_eq!(lambda::consume_batch(Consumer::ProjectOrders, &letters, &consume, one).await, 0);
        }
        let parked = letters.parked(Consumer::ProjectOrders, &poisoned).await.unwrap().unwrap();
        assert_eq!((parked.first_version, parked.last_version), (1, 2));
    }

    #[tokio::test]
    async fn a_commit_that_cannot_be_parked_comes_again() {
        let (store, models, letters) =
            (MemoryEventStore::default(), [Model::default(), Model::default()], MemoryDeadLetters::default());
        let (batch, _) = poisoned();
        for commit in &batch {
            store.append(commit).await.unwrap();
        }
        letters.faults.push(Fault::BeforeEffect);
        let consume = async |commits| handle(&store, &models, &Tally::default(), commits).await;
        for failed in [2, 0] {
            let again = (batch.clone(), Unreadable::default());
            assert_eq!(lambda::consume_batch(Consumer::ProjectOrders, &letters, &consume, again).await, failed);
        }
    }

    #[tokio::test]
    async fn a_record_that_is_no_commit_has_its_stream_wait() {
        let (store, models, letters) =
            (MemoryEventStore::default(), [Model::default(), Model::default()], MemoryDeadLetters::default());
        let batch = read_batch(serde_json::from_str(&SAMPLE.replace("\"actor\"", "\"player\"")).unwrap());
        assert_eq!((batch.0.len(), batch.1.streams.len(), batch.1.nameless), (0, 1, 0));
        let stream = batch.1.streams[0].stream.clone();
        let consume = async |commits| handle(&store, &models, &Tally::default(), commits).await;
        assert_eq!(lambda::consume_batch(Consumer::ProjectOrders, &letters, &consume, batch).await, 0);
        let parked = letters.parked(Consumer::ProjectOrders, &stream).await.unwrap().unwrap();
        assert_eq!(parked.failure.error_type, "NotACommit");
    }

    /// Nothing of it is handed on, and nothing of it is lost.
    #[tokio::test]
    async fn what_stands_in_one_batch_with_a_record_that_is_no_commit_waits_behind_it() {
        let (store, models, letters) =
            (MemoryEventStore::default(), [Model::default(), Model::default()], MemoryDeadLetters::default());
        let (commits, _) = read_batch(serde_json::from_str(SAMPLE).unwrap());
        let (first, stream) = (commits[0].clone(), commits[0].stream.clone());
        let mut third = first.clone();
        third.version = 3;
        store.append(&first).await.unwrap();
        let second = NotHandled {
            stream: stream.clone(),
            versions: (2, 2),
            commits: 1,
            failure: Failure::new("NotACommit", ""),
            is_lasting: true,
        };
        let consume = async |commits| handle(&store, &models, &Tally::default(), commits).await;
        let batch = (vec![first, third], Unreadable { streams: vec![second], nameless: 0 });
        assert_eq!(lambda::consume_batch(Consumer::ProjectOrders, &letters, &consume, batch).await, 0);
        let parked = letters.parked(Consumer::ProjectOrders, &stream).await.unwrap().unwrap();
        assert_eq!((parked.first_version, parked.last_version), (2, 3));
        let view = models[0].views.load(stream.order_id().unwrap()).await.unwrap();
        assert_eq!(view.unwrap().version, 1);
    }

    #[tokio::test]
    async fn a_commit_at_which_the_function_dies_waits_once_it_stands_alone() {
        let letters = MemoryDeadLetters::default();
        let (commits, _) = read_batch(serde_json::from_str(SAMPLE).unwrap());
        let stream = commits[0].stream.clone();
        let consume = async |_| -> Vec<NotHandled> { panic!("as a test wants it") };
        let batch = (commits, Unreadable::default());
        assert_eq!(lambda::consume_batch(Consumer::ProjectOrders, &letters, &consume, batch).await, 0);
        let parked = letters.parked(Consumer::ProjectOrders, &stream).await.unwrap().unwrap();
        assert_eq!(parked.failure.error_type, "Panicked");
    }
}
