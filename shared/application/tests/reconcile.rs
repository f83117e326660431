//! What `reconcile` finds, and does about it.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

use application::{
    memory::{Fault, MemoryFulfilment},
    ports::{DurableFulfilment, FulfilmentInput},
    reconcile::{EXPRESS_LIMIT, Finding, LIMIT},
    shop::{FORWARD, Shop, Step, input},
};
use chrono::TimeDelta;
use domain::{
    ids::OrderId,
    order::{Attention, OrderEvent},
};
use uuid::Uuid;

const LATER: TimeDelta = TimeDelta::minutes(10);

struct Case {
    shop: Shop,
    machine: MemoryFulfilment,
    id: OrderId,
}

impl Case {
    /// An order whose fulfilment has been started.
    async fn started(payment_method: &str) -> Self {
        let case = Self::placed(payment_method).await;
        case.machine.start(&case.main()).await.unwrap();
        case
    }

    async fn placed(payment_method: &str) -> Self {
        let (shop, id) = (Shop::with_stock(10).await, OrderId::new(Uuid::new_v4()));
        shop.place(id, payment_method).await.unwrap();
        Self { shop, machine: MemoryFulfilment::default(), id }
    }

    fn main(&self) -> FulfilmentInput {
        input(self.id)
    }

    async fn reconcile(&self, later: TimeDelta) -> Finding {
        self.shop.reconcile(&self.machine, self.id, later).await.unwrap()
    }

    async fn last_event(&self) -> OrderEvent {
        self.shop.events(self.id).await.pop().unwrap()
    }
}

fn flagged(reason: &str) -> Attention {
    Attention { step: "fulfilment".to_owned(), reason: reason.to_owned() }
}

#[tokio::test]
async fn an_order_that_somebody_works_on_is_left_alone() {
    let case = Case::placed("pm_card_visa").await;
    assert_eq!(case.reconcile(TimeDelta::minutes(1)).await, Finding::Moving);
    case.machine.start(&case.main()).await.unwrap();
    assert_eq!(case.reconcile(LATER).await, Finding::Fine);
    case.shop.fulfil(case.id, 1).await.unwrap();
    case.machine.end(&case.main());
    assert_eq!(case.reconcile(LATER).await, Finding::Fine);
    assert_eq!(case.shop.event_types(case.id).await.len(), 5);
}

/// Whatever may be at work on it, it is not one that nobody can ask for.
#[tokio::test]
async fn an_order_is_left_alone_for_longer_than_an_express_execution_can_last() {
    let case = Case::placed("pm_card_visa").await;
    assert_eq!(case.reconcile(EXPRESS_LIMIT + TimeDelta::seconds(30)).await, Finding::Moving);
    case.shop.run(Step::Reserve, case.id).await.unwrap();
    let execution = case.id.to_string();
    assert_eq!(case.reconcile(EXPRESS_LIMIT + TimeDelta::minutes(1)).await, Finding::Started { execution });
}

#[tokio::test]
async fn an_execution_that_was_never_started_is_started_once() {
    let case = Case::placed("pm_card_visa").await;
    let execution = case.id.to_string();
    assert_eq!(case.reconcile(LATER).await, Finding::Started { execution });
    assert_eq!(case.machine.started(), [case.main()]);
    assert_eq!(case.reconcile(LATER).await, Finding::Fine);
    case.shop.cancel(case.id).await.unwrap();
    let execution = format!("{}-undo", case.id);
    assert_eq!(case.reconcile(LATER).await, Finding::Started { execution });
}

/// As often as it takes, up to a bound; each time it is left alone for longer, and after more than an hour a person is called.
#[tokio::test]
async fn an_order_whose_execution_has_died_goes_on_by_itself_a_few_times() {
    let case = Case::started("pm_card_visa").await;
    case.shop.run(Step::Validate, case.id).await.unwrap();
    case.machine.end(&case.main());
    let mut found = Vec::new();
    for minute in 0..240 {
        let finding = case.reconcile(TimeDelta::minutes(minute)).await;
        match finding {
            Finding::Resumed => found.push((minute, "resumed")),
            Finding::Flagged(attention) => {
                assert_eq!(attention, flagged("ExecutionDied"));
                found.push((minute, "flagged"));
                break;
            }
            Finding::Started { .. } | Finding::Moving | Finding::Fine | Finding::Waiting(_) => {}
        }
        for execution in case.machine.started() {
            case.machine.end(&execution);
        }
    }
    let kinds: Vec<&str> = found.iter().map(|(_, kind)| *kind).collect();
    assert_eq!(kinds, ["resumed", "resumed", "resumed", "flagged"], "{found:?}");
    assert!(found[3].0 >= 60, "{found:?}");
    assert_eq!(case.reconcile(TimeDelta::minutes(300)).await, Finding::Waiting(flagged("ExecutionDied")));
}

#[tokio::test]
async fn an_order_that_goes_on_after_its_execution_died_gets_to_its_end() {
    let case = Case::started("pm_charged_then_timeout").await;
    for step in [Step::Validate, Step::Reserve] {
        case.shop.run(step, case.id).await.unwrap();
    }
    // The charge is made, its answer is lost, and the execution dies: the provider knows, the order does not.
    case.shop.run(Step::Pay, case.id).await.unwrap_err();
    case.machine.end(&case.main());
    assert_eq!(case.reconcile(LATER).await, Finding::Resumed);
    for step in FORWARD {
        case.shop.run(step, case.id).await.unwrap();
    }
    assert_eq!(case.reconcile(LATER * 3).await, Finding::Fine);
    assert!(!case.shop.order(case.id).await.is_open());
}

/// The state machine forgets executions after 90 days. Whatever it says then, nobody is charged by a timer.
#[tokio::test]
async fn what_waits_for_a_person_and_what_is_old_is_never_started() {
    let case = Case::placed("pm_card_visa").await;
    case.shop.flag(case.id, "process-payment", "Unavailable").await.unwrap();
    let stuck = Attention { step: "process-payment".to_owned(), reason: "Unavailable".to_owned() };
    for days in [1, 91, 900] {
        assert_eq!(case.reconcile(TimeDelta::days(days)).await, Finding::Waiting(stuck.clone()));
    }
    assert_eq!(case.machine.started(), []);
    let old = Case::placed("pm_card_visa").await;
    assert_eq!(old.reconcile(TimeDelta::days(91)).await, Finding::Flagged(flagged("ExecutionNeverStarted")));
    assert_eq!(old.machine.started(), []);
}

/// The flag is recorded, and the run ends before it can call anybody.
#[tokio::test]
async fn a_person_who_may_not_have_been_called_is_called_again_by_the_next_run() {
    let case = Case::placed("pm_card_visa").await;
    case.shop.store.faults.push(Fault::AfterEffect);
    let late = LIMIT + LATER;
    case.shop.reconcile(&case.machine, case.id, late).await.unwrap_err();
    let never = flagged("ExecutionNeverStarted");
    assert_eq!(case.reconcile(late + TimeDelta::minutes(10)).await, Finding::Flagged(never.clone()));
    assert_eq!(case.reconcile(late + TimeDelta::minutes(15)).await, Finding::Waiting(never));
    assert_eq!(case.shop.event_types(case.id).await, ["OrderCreated", "OrderFlagged"]);
}

#[tokio::test]
async fn an_execution_that_goes_on_for_more_than_a_day_calls_a_person() {
    let case = Case::started("pm_card_visa").await;
    assert_eq!(case.reconcile(LIMIT).await, Finding::Fine);
    assert_eq!(case.reconcile(LIMIT + LATER).await, Finding::Flagged(flagged("ExecutionTimedOut")));
}

#[tokio::test]
async fn a_refund_that_nobody_issues_is_found_after_the_orders_end() {
    let case = Case::started("pm_card_visa").await;
    case.shop.fulfil(case.id, 1).await.unwrap();
    case.machine.end(&case.main());
    case.shop.request_refund(case.id, "a refund", 1000).await.unwrap();
    let execution = format!("{}-refund-6", case.id);
    assert_eq!(case.reconcile(LATER).await, Finding::Started { execution });
    let started = case.machine.started().into_iter().find(|input| input.refund).unwrap();
    case.machine.end(&started);
    assert_eq!(case.reconcile(LATER).await, Finding::Resumed);
    assert!(
        matches!(case.last_event().await, OrderEvent::FulfilmentResumed(resumed) if resumed.refund && !resumed.undo)
    );
}

#[tokio::test]
async fn what_happens_meanwhile_is_left_to_whoever_did_it() {
    let case = Case::started("pm_card_visa").await;
    case.machine.end(&case.main());
    // The append that lets the order go on finds that it has.
    let (found, ()) = tokio::join!(case.reconcile(LATER), async {
        case.shop.run(Step::Reserve, case.id).await.unwrap();
    });
    let events = case.shop.event_types(case.id).await;
    match found {
        Finding::Fine => assert_eq!(events, ["OrderCreated", "InventoryReserved"]),
        other => assert_eq!(events, ["OrderCreated", "FulfilmentResumed", "InventoryReserved"], "{other:?}"),
    }
    assert_eq!(case.shop.order(case.id).await.attention, None);
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_asked_again_by_the_next_run() {
    let case = Case::started("pm_card_visa").await;
    case.machine.end(&case.main());
    case.shop.store.faults.push(Fault::BeforeEffect);
    case.shop.reconcile(&case.machine, case.id, LATER).await.unwrap_err();
    assert_eq!(case.reconcile(LATER).await, Finding::Resumed);
}
