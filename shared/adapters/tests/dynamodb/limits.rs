//! What the limits cost, and what becomes of a request when they cannot be asked.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use adapters::{
    dynamodb::DynamoLimits,
    limits::{Admission, Limiter},
};
use application::{
    event_store::BoxError,
    limits::{Bucket, Class, Micros, micros},
    memory::MemoryCounters,
    ports::{Counter, Counters, Declines, Draw, Drawn, Limits},
};
use aws_sdk_dynamodb::types::AttributeValue;
use chrono::{DateTime, Utc};
use domain::ids::CustomerId;
use serde_json::json;
use settings::{Layers, Live, Source};
use tokio::time::Instant;

use crate::support::{Fault, LIMITS, watched};

const NAME: &str = "customer_commands#anna#60/3";

fn now() -> DateTime<Utc> {
    "2026-01-01T00:00:00.123456Z".parse().unwrap()
}

fn anna() -> CustomerId {
    CustomerId::parse("anna").unwrap()
}

/// Holds three tokens, of which one comes back in a second.
fn draw(seen: Micros) -> Draw<'static> {
    let bucket = Bucket::new(NonZeroU32::new(3).unwrap(), NonZeroU32::new(60).unwrap());
    Draw { name: NAME, bucket, tokens: 1, now: micros(now()), seen }
}

fn full_at(drawn: Drawn) -> Micros {
    let (Drawn::Taken { full_at } | Drawn::Refused { full_at }) = drawn;
    full_at
}

#[tokio::test]
async fn a_token_is_one_write_where_what_is_known_is_right_and_a_refusal_is_one_always() {
    let (client, wire) = watched();
    let limits = DynamoLimits::new(client, LIMITS.to_owned());
    let first = full_at(limits.draw(&draw(0)).await.unwrap());
    assert_eq!(wire.calls(), ["UpdateItem"], "full");
    let second = full_at(limits.draw(&draw(first)).await.unwrap());
    assert_eq!(wire.calls(), ["UpdateItem"], "known");
    let third = full_at(limits.draw(&draw(0)).await.unwrap());
    assert_eq!((third - second, wire.calls().len()), (1_000_000, 2), "not known");
    assert!(matches!(limits.draw(&draw(0)).await.unwrap(), Drawn::Refused { .. }));
    assert_eq!(wire.calls(), ["UpdateItem"], "refused");
    assert_eq!(limits.draw(&draw(third)).await.unwrap(), Drawn::Refused { full_at: third });
    assert_eq!(wire.calls(), ["UpdateItem"], "refused, as was known");
}

#[tokio::test]
async fn an_item_says_when_it_may_go() {
    let (client, wire) = watched();
    DynamoLimits::new(client, LIMITS.to_owned()).draw(&draw(0)).await.unwrap();
    let key = ("bucket".to_owned(), AttributeValue::S(NAME.to_owned()));
    let item = wire.unwatched().get_item().table_name(LIMITS).set_key(Some([key].into())).consistent_read(true);
    let item = item.send().await.unwrap().item.unwrap();
    let number = |name: &str| item[name].as_n().unwrap().parse::<u64>().unwrap();
    assert_eq!((item.len(), number("full_at")), (3, micros(now()) + 1_000_000));
    // In seconds, long after the bucket is full.
    assert!(number("expires_at") > number("full_at") / 1_000_000 + 3_600);
}

#[tokio::test]
async fn a_draw_whose_answer_is_lost_has_taken_its_token_and_one_that_never_came_has_not() {
    for (fault, taken) in [(Fault::AnswerLost, 2), (Fault::NotSent, 1)] {
        let (client, wire) = watched();
        let limits = DynamoLimits::new(client, LIMITS.to_owned());
        wire.fail(0, fault);
        limits.draw(&draw(0)).await.unwrap_err();
        assert_eq!(full_at(limits.draw(&draw(0)).await.unwrap()), micros(now()) + taken * 1_000_000);
    }
}

/// A process that goes by the limits of production.
fn limiter(limits: DynamoLimits) -> Limiter<DynamoLimits, Nowhere, MemoryCounters> {
    let live = Live::new(Layers::new("prod".to_owned(), []), None);
    Limiter::new(limits, Arc::new(live), MemoryCounters::default())
}

struct Nowhere;

impl Source for Nowhere {
    async fn newer(&self) -> Result<Option<String>, BoxError> {
        Ok(None)
    }
}

#[tokio::test(start_paused = true)]
async fn a_table_that_throttles_loses_answers_or_is_slow_refuses_nobody_and_is_waited_for_a_moment_at_most() {
    let throttled = json!({"__type": "com.amazonaws.dynamodb.v20120810#ThrottlingException", "message": "slower"});
    let throttled = Fault::Instead(400, throttled.to_string());
    for fault in [Some(throttled), Some(Fault::NotSent), Some(Fault::AnswerLost), None] {
        let (client, wire) = watched();
        let limiter = limiter(DynamoLimits::new(client, LIMITS.to_owned()));
        match &fault {
            Some(fault) => wire.fail(0, fault.clone()),
            None => wire.before(0, tokio::time::sleep(Duration::from_mins(1))),
        }
        let started = Instant::now();
        let admission = limiter.ask(Class::CustomerCommands, &anna(), now()).await;
        assert_eq!(admission, Admission::Free, "{fault:?}");
        assert!(started.elapsed() <= Duration::from_millis(300), "{fault:?}: {:?}", started.elapsed());
        let admission = limiter.ask(Class::CustomerCommands, &anna(), now()).await;
        assert!(matches!(admission, Admission::Granted(_)), "{fault:?}: {admission:?}");
        let counters = MemoryCounters::default();
        tokio::time::advance(Duration::from_secs(10)).await;
        limiter.tally().hand_on(&counters).await;
        assert_eq!(counters.read().await.unwrap(), [(Counter::RateLimitFailures.name(), 1)].into(), "{fault:?}");
    }
}

#[tokio::test]
async fn a_read_far_below_its_limit_asks_nothing_and_a_command_once() {
    let (client, wire) = watched();
    let limiter = limiter(DynamoLimits::new(client, LIMITS.to_owned()));
    for class in [Class::CustomerReads, Class::WaitingReads, Class::Searches, Class::Scrapes] {
        assert_eq!(limiter.ask(class, &anna(), now()).await, Admission::Free, "{class:?}");
        assert_eq!(wire.calls(), Vec::<String>::new(), "{class:?}");
    }
    for _ in 0..3 {
        assert!(matches!(limiter.ask(Class::ProfileChanges, &anna(), now()).await, Admission::Granted(_)));
        assert_eq!(wire.calls(), ["UpdateItem"]);
    }
    limiter.declined(&anna(), now()).await;
    assert_eq!(wire.calls(), ["UpdateItem"]);
}
