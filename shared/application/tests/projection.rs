//! The order view equals the fold of the order's events, however the stream delivers them.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

mod support;

use application::{
    event_store::{Commit, EventStore},
    memory::{Fault, MemoryEventStore, MemoryOrderViews},
    ports::OrderViews,
    project_orders::project,
};
use domain::{ids::OrderId, order_view::OrderView};
use proptest::{collection::vec, prelude::*, sample::Index};
use support::{Shop, at};
use uuid::Uuid;

/// What the plumbing does with a delivery.
#[derive(Debug, Clone)]
struct Delivery {
    which: Index,
    crash: Option<bool>,
}

fn deliveries() -> impl Strategy<Value = Vec<Delivery>> {
    let delivery = (any::<Index>(), proptest::option::weighted(0.3, any::<bool>()))
        .prop_map(|(which, crash)| Delivery { which, crash });
    vec(delivery, 0..30)
}

/// The commits of a real order, some of them joined into one, as a command with several events would write them.
async fn history(payment_method: &str, joins: &[bool]) -> Vec<Commit> {
    let (shop, id) = (Shop::with_stock(10).await, OrderId::new(Uuid::new_v4()));
    shop.place(id, payment_method).await.unwrap();
    shop.fulfil(id, 1).await.unwrap();
    let mut commits: Vec<Commit> = Vec::new();
    for (commit, join) in shop.store.all().into_iter().zip(joins) {
        match commits.last_mut() {
            Some(last) if *join => last.events.extend(commit.events),
            _ => commits.push(commit),
        }
    }
    commits
}

fn fold(id: OrderId, commits: &[Commit]) -> Option<OrderView> {
    commits
        .iter()
        .flat_map(Commit::numbered)
        .fold(None, |view, (version, event)| OrderView::evolve(view, id, &event.read().unwrap(), version, at()))
}

async fn deliver(commits: &[Commit], deliveries: &[Delivery]) {
    let store = MemoryEventStore::default();
    for commit in commits {
        store.append(commit).await.unwrap();
    }
    let views = MemoryOrderViews::default();
    let id = commits[0].stream.order_id().unwrap();
    for Delivery { which, crash } in deliveries {
        if let Some(after) = crash {
            views.faults.push(if *after { Fault::AfterEffect } else { Fault::BeforeEffect });
        }
        let _comes_again = project(&store, &views, which.get(commits)).await;
        let view = views.load(id).await.unwrap();
        let version = view.as_ref().map_or(0, |view| usize::try_from(view.version).unwrap());
        let done = commits.iter().position(|commit| usize::try_from(commit.last_version()).unwrap() == version);
        assert_eq!(view, done.and_then(|last| fold(id, &commits[..=last])), "a view between two commits");
    }
    // At least once means that the last commit gets through in the end.
    let last = commits.last().unwrap();
    while project(&store, &views, last).await.is_err() {}
    assert_eq!(views.load(id).await.unwrap(), fold(id, commits));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_view_equals_the_fold_whatever_the_delivery(
        declined in any::<bool>(),
        joins in vec(any::<bool>(), 5),
        deliveries in deliveries(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let commits = history(if declined { "pm_card_declined" } else { "pm_card_visa" }, &joins).await;
            deliver(&commits, &deliveries).await;
        });
    }
}

#[tokio::test]
async fn two_projections_at_once_leave_the_view_whole() {
    let commits = history("pm_card_visa", &[false; 5]).await;
    let store = MemoryEventStore::default();
    for commit in &commits {
        store.append(commit).await.unwrap();
    }
    let views = MemoryOrderViews::default();
    let both = tokio::join!(project(&store, &views, &commits[4]), project(&store, &views, &commits[2]));
    assert!(both.0.is_ok() && both.1.is_ok());
    let id = commits[0].stream.order_id().unwrap();
    assert_eq!(views.load(id).await.unwrap(), fold(id, &commits));
}
