//! The `DynamoDB` adapters obey the laws of their ports.

use adapters::dynamodb::{
    DynamoCounters, DynamoDeadLetters, DynamoEventStore, DynamoIndex, DynamoInventory, DynamoLimits, DynamoOrderViews,
    DynamoProcesses, DynamoSnapshots,
};
use aws_sdk_dynamodb::Client;

use crate::support;

async fn adapter<A>(new: fn(Client, String) -> A, table: &str) -> A {
    new(client().await, table.to_owned())
}

async fn client() -> Client {
    Client::from_conf(support::database().await)
}

mod event_store {
    use application::{
        conformance::event_store::what_is_no_commit_is_named_by_the_log_and_hides_no_other, event_store::StreamId,
    };
    use aws_sdk_dynamodb::types::AttributeValue;

    use super::{DynamoEventStore, adapter, client, support::EVENTS};

    application::event_store_conformance!(adapter(DynamoEventStore::new, EVENTS));

    #[tokio::test]
    async fn what_is_no_commit_is_named_and_hides_no_other() {
        let client = client().await;
        let store = DynamoEventStore::new(client.clone(), EVENTS.to_owned());
        let spoil = async |stream: &StreamId, version: u64| {
            let put = client
                .put_item()
                .table_name(EVENTS)
                .item("stream", AttributeValue::S(stream.as_str().to_owned()))
                .item("version", AttributeValue::N(version.to_string()))
                .item("note", AttributeValue::S("by hand".to_owned()));
            put.send().await.unwrap();
        };
        what_is_no_commit_is_named_by_the_log_and_hides_no_other(&store, spoil).await;
    }
}

mod inventory {
    use super::{DynamoInventory, adapter, support::INVENTORY};
    application::inventory_conformance!(adapter(DynamoInventory::new, INVENTORY));
}

mod payments {
    use super::{client, support::payments_of};
    application::payments_conformance!(async { payments_of(client().await) });
}

mod shipping {
    use super::{client, support::shipping_of};
    application::shipping_conformance!(async { shipping_of(client().await) });
}

mod notifications {
    use super::{client, support::notifications_of};
    application::notifications_conformance!(async { notifications_of(client().await) });
}

mod order_views {
    use super::{DynamoOrderViews, adapter, support::ORDERS};
    application::order_views_conformance!(adapter(|client, table| DynamoOrderViews::new(client, table, 1), ORDERS));
}

mod snapshots {
    use super::{DynamoSnapshots, adapter, support::SNAPSHOTS};
    application::snapshots_conformance!(adapter(DynamoSnapshots::new, SNAPSHOTS));
}

mod index {
    use super::{DynamoIndex, client, support::INDEX};

    async fn index() -> DynamoIndex {
        DynamoIndex::new(client().await, INDEX.to_owned(), 1)
    }

    application::index_conformance!(index());
}

mod counters {
    use super::{DynamoCounters, adapter, support::COUNTERS};
    application::counters_conformance!(adapter(
        |client, table| DynamoCounters::new(client, table, "get-order"),
        COUNTERS
    ));
}

mod dead_letters {
    use super::{DynamoDeadLetters, adapter, support::DEAD_LETTERS};
    application::dead_letters_conformance!(adapter(DynamoDeadLetters::new, DEAD_LETTERS));
}

mod processes {
    use super::{DynamoProcesses, adapter, support::COUNTERS};
    application::processes_conformance!(adapter(DynamoProcesses::new, COUNTERS));
}

mod limits {
    use super::{DynamoLimits, adapter, support::LIMITS};
    application::limits_conformance!(adapter(DynamoLimits::new, LIMITS));
}
