//! Everything that may act on one order, at once and in any order: its fulfilment, a duplicate of it, a cancel with its
//! undoing, on plumbing that loses calls before and after their effect. Whatever the interleaving, the money is right.
//!
//! Each history comes from one seed. A failure prints it; `HISTORY=<seed>` runs that one alone and prints its events.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

mod support;

use std::{
    cell::RefCell,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use application::{fulfilment::StepError, ledger::ledger, memory::Fault, order_stream::CommandError};
use domain::{
    ids::OrderId,
    order::{Course, Ending},
};
use support::{FORWARD, Shop, Step, UNDO, cny};
use uuid::Uuid;

const HISTORIES: u64 = 100_000;

/// What the sandbox is asked for, as long as it is overcome by trying again.
const METHODS: [&str; 8] = [
    "pm_card_visa",
    "pm_card_visa",
    "pm_card_visa",
    "pm_card_declined",
    "pm_card_declined",
    "pm_charged_then_timeout",
    "pm_fails_twice",
    "pm_refund_fails_twice",
];
const POSTAL_CODES: [&str; 5] = ["200001", "200001", "SANDBOX-REFUSE", "SANDBOX-TIMEOUT", "SANDBOX-MUTE"];

/// How often a step is tried before its execution would give up; faults are rarer than that.
const TRIES: u32 = 50;

/// `SplitMix64` (Steele, Lea, Flood 2014): the same numbers for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// Polls the actors in a random order, one turn at a time, until all are done.
fn interleave(mut actors: Vec<Pin<Box<dyn Future<Output = ()> + '_>>>, random: &RefCell<Random>) {
    let mut context = Context::from_waker(Waker::noop());
    let mut turns = 0;
    while !actors.is_empty() {
        let next = random.borrow_mut().below(actors.len());
        if actors[next].as_mut().poll(&mut context) == Poll::Ready(()) {
            drop(actors.swap_remove(next));
        }
        turns += 1;
        assert!(turns < 100_000, "the history does not end");
    }
}

/// Runs a step until it is done or says that the order is not to be fulfilled.
async fn insist(shop: &Shop, id: OrderId, step: Step, random: &RefCell<Random>) -> Result<(), Ending> {
    for _ in 0..TRIES {
        if random.borrow_mut().one_in(4) {
            let fault = if random.borrow_mut().one_in(2) { Fault::BeforeEffect } else { Fault::AfterEffect };
            let at_provider = random.borrow_mut().one_in(2);
            match shop.faults_of(step).filter(|_| at_provider) {
                Some(faults) => faults.push(fault),
                None => shop.store.faults.push(fault),
            }
        }
        match shop.run(step, id).await {
            Ok(()) => return Ok(()),
            Err(StepError::NotToBeFulfilled(ending)) => return Err(ending),
            Err(StepError::Unavailable(_) | StepError::Contended) => {}
            Err(error) => panic!("{step:?}: {error}"),
        }
    }
    panic!("{step:?} was not done in {TRIES} tries");
}

async fn fulfil(shop: &Shop, id: OrderId, random: &RefCell<Random>) {
    for step in FORWARD {
        match insist(shop, id, step, random).await {
            Ok(()) => {}
            Err(Ending::Rejected(_)) => return undo(shop, id, random).await,
            Err(Ending::Cancelled(_)) => return,
        }
    }
}

async fn undo(shop: &Shop, id: OrderId, random: &RefCell<Random>) {
    for step in UNDO {
        insist(shop, id, step, random).await.expect("an undo is not refused");
    }
}

/// Cancels at some time; once that is recorded, an execution of its own undoes the order.
async fn cancel(shop: &Shop, id: OrderId, random: &RefCell<Random>, accepted: &RefCell<bool>) {
    let patience = random.borrow_mut().below(80);
    for _ in 0..patience {
        tokio::task::yield_now().await;
    }
    for _ in 0..TRIES {
        match shop.cancel(id).await {
            Ok(()) => {
                *accepted.borrow_mut() = true;
                return undo(shop, id, random).await;
            }
            Err(CommandError::Rejected(_)) => return,
            Err(_) => {}
        }
    }
    panic!("the cancel was not answered in {TRIES} tries");
}

/// One history; answers how the order ended.
fn history(seed: u64) -> (&'static str, Vec<String>) {
    let random = RefCell::new(Random(seed));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let id = OrderId::new(Uuid::from_u128(u128::from(seed)));
    let shop = runtime.block_on(async {
        let shop = Shop::with_stock(10).await;
        let method = METHODS[random.borrow_mut().below(METHODS.len())];
        let postal_code = POSTAL_CODES[random.borrow_mut().below(POSTAL_CODES.len())];
        shop.place_to(id, method, "body", postal_code).await.unwrap();
        if random.borrow_mut().one_in(8) {
            shop.set_stock(1).await;
        }
        shop
    });
    let stock_before = runtime.block_on(shop.stock());
    let accepted = RefCell::new(false);
    let mut actors: Vec<Pin<Box<dyn Future<Output = ()> + '_>>> = vec![Box::pin(fulfil(&shop, id, &random))];
    if random.borrow_mut().one_in(3) {
        actors.push(Box::pin(fulfil(&shop, id, &random)));
    }
    let cancels = random.borrow_mut().below(3);
    for _ in 0..cancels {
        actors.push(Box::pin(cancel(&shop, id, &random, &accepted)));
    }
    interleave(actors, &random);
    runtime.block_on(check(&shop, id, stock_before, *accepted.borrow()))
}

async fn check(shop: &Shop, id: OrderId, stock_before: u32, accepted: bool) -> (&'static str, Vec<String>) {
    let events = shop.event_types(id).await;
    let books = (shop.balance(id).await, shop.stock().await, shop.shipping.shipments());
    let ended = match shop.order(id).await.course {
        Course::Confirmed(..) => {
            assert_eq!(books, (cny(3998), stock_before - 2, 1), "{events:?}");
            assert!(!accepted, "cancelled, and confirmed all the same: {events:?}");
            "confirmed"
        }
        Course::Ended(_, ending) => {
            assert_eq!(books, (cny(0), stock_before, 0), "{events:?}");
            assert_eq!(accepted, matches!(ending, Ending::Cancelled(_)), "{events:?}");
            if accepted { "cancelled" } else { "rejected" }
        }
        other => panic!("the order has no end: {other:?} after {events:?}"),
    };
    let books = ledger(&shop.store, &shop.payments, &shop.inventory, &shop.shipping, id).await.unwrap();
    assert!(books.order.agrees_with(&books.providers), "{books:?} after {events:?}");
    let last = events.last().unwrap();
    assert!(["OrderConfirmed", "OrderRejected", "OrderCancelled"].contains(&last.as_str()), "{events:?}");
    for event in &events {
        assert_eq!(events.iter().filter(|other| *other == event).count(), 1, "{event} stands twice in {events:?}");
    }
    (ended, events)
}

#[test]
fn in_every_history_the_money_and_the_stock_are_right() {
    if let Ok(seed) = std::env::var("HISTORY") {
        println!("{:?}", history(seed.parse().unwrap()));
        return;
    }
    let mut ends: Vec<&str> = Vec::new();
    let mut count = [0_u64; 3];
    for seed in 0..HISTORIES {
        let outcome = std::panic::catch_unwind(|| history(seed).0);
        let ended = outcome.unwrap_or_else(|_| panic!("history {seed} is wrong; HISTORY={seed} runs it alone"));
        let kind = ends.iter().position(|end| *end == ended).unwrap_or_else(|| {
            ends.push(ended);
            ends.len() - 1
        });
        count[kind] += 1;
    }
    println!("{HISTORIES} histories: {ends:?} {count:?}");
    assert_eq!(ends.len(), 3, "an exploration that never sees an end has explored nothing: {ends:?}");
}
