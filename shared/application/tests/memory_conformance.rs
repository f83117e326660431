//! The in-memory ports obey the laws of their ports, so what is tested with them holds for the adapters.

use std::future::ready;

use application::memory::{
    MemoryCounters, MemoryDeadLetters, MemoryEventStore, MemoryIndex, MemoryInventory, MemoryLimits,
    MemoryNotifications, MemoryOrderViews, MemoryPayments, MemoryProcesses, MemoryShipping, MemorySnapshots,
};

mod event_store {
    use application::{
        conformance::event_store::what_is_no_commit_is_named_by_the_log_and_hides_no_other, event_store::StreamId,
    };

    use super::MemoryEventStore;

    application::event_store_conformance!(super::ready(MemoryEventStore::default()));

    #[tokio::test]
    async fn what_is_no_commit_is_named_and_hides_no_other() {
        let store = MemoryEventStore::default();
        let spoil = async |stream: &StreamId, version| store.spoil(stream, version);
        what_is_no_commit_is_named_by_the_log_and_hides_no_other(&store, spoil).await;
    }
}

mod inventory {
    application::inventory_conformance!(super::ready(super::MemoryInventory::default()));
}

mod payments {
    application::payments_conformance!(super::ready(super::MemoryPayments::default()));
}

mod shipping {
    application::shipping_conformance!(super::ready(super::MemoryShipping::default()));
}

mod notifications {
    application::notifications_conformance!(super::ready(super::MemoryNotifications::default()));
}

mod order_views {
    application::order_views_conformance!(super::ready(super::MemoryOrderViews::default()));
}

mod snapshots {
    application::snapshots_conformance!(super::ready(super::MemorySnapshots::default()));
}

mod index {
    application::index_conformance!(super::ready(super::MemoryIndex::default()));
}

mod counters {
    application::counters_conformance!(super::ready(super::MemoryCounters::default()));
}

mod dead_letters {
    application::dead_letters_conformance!(super::ready(super::MemoryDeadLetters::default()));
}

mod processes {
    application::processes_conformance!(super::ready(super::MemoryProcesses::default()));
}

mod limits {
    application::limits_conformance!(super::ready(super::MemoryLimits::default()));
}

#[test]
fn every_law_has_its_test() {
    let suites = [
        include_str!("../src/conformance/event_store.rs"),
        include_str!("../src/conformance/inventory.rs"),
        include_str!("../src/conformance/payments.rs"),
        include_str!("../src/conformance/shipping.rs"),
        include_str!("../src/conformance/notifications.rs"),
        include_str!("../src/conformance/order_views.rs"),
        include_str!("../src/conformance/snapshots.rs"),
        include_str!("../src/conformance/index.rs"),
        include_str!("../src/conformance/counters.rs"),
        include_str!("../src/conformance/limits.rs"),
        include_str!("../src/conformance/processes.rs"),
        include_str!("../src/conformance/dead_letters.rs"),
    ];
    for suite in suites {
        let laws: Vec<&str> = suite
            .lines()
            .filter_map(|line| line.strip_prefix("pub async fn "))
            .filter_map(|law| law.split('(').next())
            // One that is told how to spoil something has a test of its own.
            .filter(|law| !law.contains('<'))
            .collect();
        let listed: Vec<&str> = suite
            .lines()
            .skip_while(|line| !(line.contains("$crate::conformance_tests!") || line.contains("$crate::$each!")))
            .skip(1)
            .map(str::trim)
            .take_while(|line| *line != "}")
            .map(|line| line.split_once(':').map_or(line, |(law, _)| law))
            .collect();
        assert!(!laws.is_empty());
        assert_eq!(laws, listed);
    }
}
