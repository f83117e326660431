//! The histories of an order with everything in memory, and every single fault of them one by one.
//!
//! What happens in them, and what must hold afterwards, is in [`application::histories`]; the adapters run them too.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

use std::task::{Context, Poll, Waker};

use application::{
    event_stream::{CommandError, OrderStream},
    fulfilment::StepError,
    histories::{self, Memory, history},
    ledger::ledger,
    memory::Fault,
    shop::{FORWARD, Shop, Step, UNDO, cny},
};
use domain::{
    ids::OrderId,
    order::{Course, Ending},
};
use uuid::Uuid;

const HISTORIES: u64 = 120_000;

#[test]
fn in_every_history_the_money_and_the_stock_are_right() {
    histories::explore(HISTORIES, |seed| history(seed, Memory::new));
}

/// Every single fault at every call of every port, with a cancel at every moment and without one, on every way: nothing is
/// left to chance here.
#[test]
fn every_single_fault_with_a_cancel_at_every_moment_leaves_the_money_right() {
    let ways = [
        ("pm_card_visa", "200001"),
        ("pm_card_declined", "200001"),
        ("pm_card_visa", "SANDBOX-REFUSE"),
        ("pm_charged_then_timeout", "SANDBOX-TIMEOUT"),
    ];
    let mut histories = 0_u32;
    for (method, postal_code) in ways {
        for fault in [Fault::BeforeEffect, Fault::AfterEffect] {
            for port in 0..5 {
                for call in 0..6 {
                    for moment in 0..60 {
                        // The last moment is none: the order is not cancelled.
                        let cancelled_at = (moment < 59).then_some(moment);
                        one_fault(method, postal_code, (port, call, fault), cancelled_at);
                        histories += 1;
                    }
                }
            }
        }
    }
    println!("{histories} histories");
}

fn one_fault(method: &str, postal_code: &str, (port, call, fault): (usize, usize, Fault), cancelled_at: Option<u32>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let id = OrderId::new(Uuid::from_u128(7));
    let shop = Shop::default();
    runtime.block_on(async {
        shop.set_stock(10).await;
        shop.place_to(id, method, "body", postal_code).await.unwrap();
    });
    let ports = [
        &shop.store.faults,
        &shop.inventory.faults,
        &shop.payments.faults,
        &shop.shipping.faults,
        &shop.notifications.faults,
    ];
    ports[port].push_after(call, fault);
    let insist = async |step: Step| {
        for _ in 0..5 {
            match shop.run(step, id).await {
                Err(StepError::Unavailable(_)) => {}
                answer => return answer,
            }
        }
        panic!("{step:?} is not done")
    };
    let forward = async {
        for step in FORWARD {
            match insist(step).await {
                Ok(()) => {}
                Err(StepError::NotToBeFulfilled(ending)) => return matches!(ending, Ending::Rejected(_)),
                Err(error) => panic!("{step:?}: {error}"),
            }
        }
        false
    };
    let mut forward = std::pin::pin!(forward);
    let mut context = Context::from_waker(Waker::noop());
    let mut rejected = false;
    for turn in 0.. {
        if Some(turn) == cancelled_at {
            // The call that would lose its answer is the cancel's, then it is sent again.
            let _sent = runtime.block_on(shop.cancel(id));
            rejected |= matches!(
                runtime.block_on(shop.cancel(id)),
                Err(CommandError::Rejected(domain::order::cancel::CancelRejection::Rejected))
            );
        }
        if let Poll::Ready(answer) = forward.as_mut().poll(&mut context) {
            rejected |= answer;
            if cancelled_at.is_some_and(|at| at > turn) {
                runtime.block_on(async {
                    let _sent = shop.cancel(id).await;
                    let _sent_again = shop.cancel(id).await;
                });
            }
            break;
        }
    }
    runtime.block_on(async {
        let stream = OrderStream::open(&shop.store, id).await.unwrap();
        if matches!(stream.order().course, Course::Undoing(..)) {
            for step in UNDO {
                insist(step).await.unwrap();
            }
        }
        let types = shop.event_types(id).await;
        let books = ledger(&shop.store, &shop.payments, &shop.inventory, &shop.shipping, id).await.unwrap();
        assert!(books.order.agrees_with(&books.providers), "{books:?} after {types:?}");
        match shop.order(id).await.course {
            Course::Confirmed(..) => {
                assert_eq!(cancelled_at, None, "{types:?}");
                assert_eq!((shop.balance(id).await, shop.stock().await, shop.shipping.shipments()), (cny(3998), 8, 1));
            }
            Course::Ended(_, ending) => {
                assert_eq!((shop.balance(id).await, shop.stock().await, shop.shipping.shipments()), (cny(0), 10, 0));
                assert_eq!(rejected, matches!(ending, Ending::Rejected(_)), "{types:?}");
            }
            other => panic!("the order has no end: {other:?} after {types:?}"),
        }
    });
}
