//! The `DynamoDB` adapters obey the laws of their ports.

use adapters::dynamodb::{
    DynamoCounters, DynamoEventStore, DynamoIndex, DynamoInventory, DynamoNotifications, DynamoOrderViews,
    DynamoPayments, DynamoShipping, DynamoSnapshots,
};
use aws_sdk_dynamodb::Client;

use crate::support;

async fn adapter<A>(new: fn(Client, String) -> A, table: &str) -> A {
    new(Client::from_conf(support::database().await), table.to_owned())
}

mod event_store {
    use super::{DynamoEventStore, adapter, support::EVENTS};
    application::event_store_conformance!(adapter(DynamoEventStore::new, EVENTS));
}

mod inventory {
    use super::{DynamoInventory, adapter, support::INVENTORY};
    application::inventory_conformance!(adapter(DynamoInventory::new, INVENTORY));
}

mod payments {
    use super::{DynamoPayments, adapter, support::PAYMENTS};
    application::payments_conformance!(adapter(DynamoPayments::new, PAYMENTS));
}

mod shipping {
    use super::{DynamoShipping, adapter, support::SHIPMENTS};
    application::shipping_conformance!(adapter(DynamoShipping::new, SHIPMENTS));
}

mod notifications {
    use super::{DynamoNotifications, adapter, support::NOTIFICATIONS};
    application::notifications_conformance!(adapter(DynamoNotifications::new, NOTIFICATIONS));
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
    use super::{Client, DynamoIndex, support};
    use crate::support::INDEX;

    async fn index() -> DynamoIndex {
        DynamoIndex::new(Client::from_conf(support::database().await), INDEX.to_owned(), "1/".to_owned())
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
