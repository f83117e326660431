//! An event of a long stream, from the bus → a snapshot of the stream, when it has gone on far enough since the last one.
//!
//! What fails is not tried again: without the snapshot more events are read, and the stream's next event comes here too.

use adapters::{
    aws,
    dynamodb::{DynamoEventStore, DynamoSnapshots},
    event_bridge::{BusEvent, DetailMetadata},
    lambda::{self, Invocation, Kind},
};
use application::{
    event_store::EventStore,
    ports::Snapshots,
    take_snapshot::{TakeSnapshotError, Taken, take_snapshot},
};
use aws_sdk_dynamodb::Client;
use domain::{
    customer::Customer,
    ids::{CustomerId, OrderId},
    order::Order,
};
use lambda_runtime::{LambdaEvent, service_fn};
use tracing::{info, warn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let client = Client::new(&aws::config());
    let table = lambda::variable("SNAPSHOTS_TABLE")?;
    let store = DynamoEventStore::new(client.clone(), lambda::variable("EVENTS_TABLE")?).with_snapshots(table.clone());
    let snapshots = DynamoSnapshots::new(client, table);
    lambda_runtime::run(service_fn(async |event: LambdaEvent<BusEvent>| {
        let metadata = event.payload.detail.metadata;
        let invocation = Invocation::new(&event.context, Kind::Consumer, metadata.traceparent.as_deref());
        let invocation = invocation.correlated(&metadata.correlation_id);
        invocation.run(handle(&store, &snapshots, metadata)).await.map_err(lambda_runtime::Error::from)
    }))
    .await
}

/// Why no snapshot was taken.
#[derive(Debug, thiserror::Error)]
enum HandleError {
    #[error("nothing is known of a stream of this kind")]
    UnknownAggregate,
    #[error(transparent)]
    NotTaken(#[from] TakeSnapshotError),
}

async fn handle(
    store: &impl EventStore,
    snapshots: &impl Snapshots,
    metadata: DetailMetadata,
) -> Result<(), HandleError> {
    let DetailMetadata { event_id, sequence, .. } = &metadata;
    match take(store, snapshots, &metadata).await {
        Ok(Taken::Now) => info!(event_id, sequence, "snapshot taken"),
        Ok(Taken::NotDue) => {}
        Ok(Taken::TooLarge) => warn!(event_id, sequence, "the stream has more commands than a snapshot can hold"),
        Err(error) => {
            warn!(event_id, sequence, error = lambda::chain(&error), "no snapshot taken");
            return Err(error);
        }
    }
    Ok(())
}

async fn take(
    store: &impl EventStore,
    snapshots: &impl Snapshots,
    DetailMetadata { aggregate_type, aggregate_id, sequence, .. }: &DetailMetadata,
) -> Result<Taken, HandleError> {
    let taken = match aggregate_type.as_str() {
        "order" => {
            let id = OrderId::parse(aggregate_id).ok_or(HandleError::UnknownAggregate)?;
            take_snapshot::<Order>(store, snapshots, id, *sequence).await?
        }
        "customer" => take_snapshot::<Customer>(store, snapshots, CustomerId::stored(aggregate_id), *sequence).await?,
        _ => return Err(HandleError::UnknownAggregate),
    };
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use application::{
        event_store::{Commit, Metadata, RecordedEvent, Snapshot, StreamId},
        memory::MemoryEventStore,
        take_snapshot::EVERY,
    };
    use serde_json::json;

    use super::*;

    const SAMPLE: &str = include_str!("../../../events/take-snapshot.json");

    /// A store in which the stream has as many events as the sample event says, each like that one.
    async fn store(stream: &StreamId, sample: &str) -> MemoryEventStore {
        let BusEvent { detail } = serde_json::from_str(sample).unwrap();
        let data = json!({"first_name": "Anna", "last_name": "Wang", "email": "anna@example.com"});
        let store = MemoryEventStore::default();
        for version in 1..=detail.metadata.sequence {
            let event_type = detail.metadata.event_type.clone();
            let metadata = Metadata {
                command_id: detail.metadata.command_id,
                fingerprint: version.to_string(),
                actor: String::new(),
                correlation_id: String::new(),
                causation_id: String::new(),
                traceparent: None,
                occurred_at: detail.metadata.occurred_at,
            };
            let events = vec![RecordedEvent { event_type, schema: 1, data: data.clone() }];
            store.append(&Commit { stream: stream.clone(), version, events, metadata }).await.unwrap();
        }
        store
    }

    /// What the sample, or what was made of it, leaves of a stream that has all its events.
    async fn taken(stream: &str, sample: &str) -> Result<Option<Snapshot>, HandleError> {
        let stream = StreamId::new(stream.to_owned());
        let store = store(&stream, sample).await;
        let BusEvent { detail } = serde_json::from_str(sample).unwrap();
        handle(&store, &store.snapshots, detail.metadata).await?;
        Ok(store.snapshots.load(&stream).await)
    }

    #[tokio::test]
    async fn the_hundredth_event_leaves_a_snapshot_of_its_stream() {
        let snapshot = taken("customer#customer-1", SAMPLE).await.unwrap().unwrap();
        assert_eq!((snapshot.version, snapshot.commands.len()), (100, 100));
        assert_eq!(snapshot.state["profile"]["first_name"], "Anna");
        let id = "0197a3c2-7b1e-5c44-9d55-3f1f5c0c9a10";
        let of_order = SAMPLE
            .replace("customer-1", id)
            .replace(r#""customer""#, r#""order""#)
            .replace("CustomerProfileUpdated", "InventoryReleased");
        let snapshot = taken(&format!("order#{id}"), &of_order).await.unwrap().unwrap();
        assert_eq!((snapshot.version, &snapshot.state["course"]), (100, &"NotCreated".into()));
        let early = SAMPLE.replace("\"sequence\": 100", "\"sequence\": 99");
        assert_eq!(taken("customer#customer-1", &early).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_customer_whose_id_no_rule_lets_in_any_more_has_a_snapshot_too() {
        let stored = SAMPLE.replace("customer-1", "Anna König");
        assert_eq!(taken("customer#Anna König", &stored).await.unwrap().unwrap().version, 100);
    }

    #[tokio::test]
    async fn a_stream_of_an_unknown_kind_is_an_error() {
        let strange = SAMPLE.replace(r#""customer""#, r#""parcel""#);
        assert!(matches!(taken("parcel#1", &strange).await, Err(HandleError::UnknownAggregate)));
    }

    #[test]
    fn the_rule_lets_through_what_may_be_due() {
        let rule = format!("sequence: [{{ numeric: [\">=\", {EVERY}] }}]");
        assert!(include_str!("../../../template.yaml").contains(&rule), "no rule with {rule}");
    }
}
