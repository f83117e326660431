//! Figures that functions add to.

use std::{collections::BTreeMap, time::Duration};

use domain::money::Currency;

use crate::{event_store::Unavailable, limits::Class};

/// What keeps something so that it need not be read, or sent, once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cache {
    /// Commits that were read before ([`PastCommits`](crate::past_commits::PastCommits)).
    Events,
    /// Which generations of the read model there are.
    Generations,
    /// The client's own copy, for which it sends the `ETag`.
    Etag,
}

impl Cache {
    pub const ALL: [Self; 3] = [Self::Events, Self::Generations, Self::Etag];

    /// The word that operators see.
    pub fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Generations => "generations",
            Self::Etag => "etag",
        }
    }
}

/// Times, of which it is told how many were how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Histogram {
    /// From the moment in which an order is placed to the one in which it is confirmed.
    OrderConfirmation,
    /// From the moment in which a commit occurs to the one in which it is in the views.
    ProjectionLag,
}

impl Histogram {
    /// Up to how many milliseconds a time may be to be in each part; what is longer than all of these is in none.
    pub fn bounds(self) -> &'static [u64] {
        match self {
            Self::OrderConfirmation => &[1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 120_000, 300_000, 600_000],
            Self::ProjectionLag => &[100, 250, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000],
        }
    }

    /// What one more of these times adds to which counter.
    pub fn observe(self, took: Duration) -> Vec<(Counter, u64)> {
        let took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let part = self.bounds().iter().find(|bound| took <= **bound);
        let counts = part.map(|bound| (Counter::Within(self, *bound), 1)).into_iter();
        counts.chain([(Counter::Count(self), 1), (Counter::Sum(self), took)]).collect()
    }
}

/// What the functions count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counter {
    Hits(Cache),
    Misses(Cache),
    /// Requests that were refused, because their caller was over the limit of this class.
    RateLimited(Class),
    /// Requests that were let through, because their bucket could not be asked.
    RateLimitFailures,
    OrdersPlaced,
    OrdersRejected(&'static str),
    OrdersCancelled,
    OrdersFlagged(&'static str),
    Refunds(Currency),
    RefundedMinorUnits(Currency),
    /// How many times there were, whatever they were.
    Count(Histogram),
    /// All of them added up, in milliseconds.
    Sum(Histogram),
    /// How many of them were as long as this bound allows and the one before it does not.
    Within(Histogram, u64),
}

const REFUNDS: &str = "refunds:";

impl Counter {
    /// As it is stored, for ever. Short, because all that a function counts is to fit into one write unit.
    pub fn name(self) -> String {
        match self {
            Self::Hits(cache) => format!("cache_hits_{}", cache.name()),
            Self::Misses(cache) => format!("cache_misses_{}", cache.name()),
            Self::RateLimited(class) => format!("rate_limited_{}", class.name()),
            Self::RateLimitFailures => "rate_limit_failures".to_owned(),
            Self::OrdersPlaced => "orders_placed".to_owned(),
            Self::OrdersRejected(reason) => format!("rejected:{reason}"),
            Self::OrdersCancelled => "orders_cancelled".to_owned(),
            Self::OrdersFlagged(step) => format!("flagged:{step}"),
            Self::Refunds(currency) => format!("{REFUNDS}{currency}"),
            Self::RefundedMinorUnits(currency) => format!("refunded:{currency}"),
            Self::Count(Histogram::OrderConfirmation) => "orders_confirmed".to_owned(),
            Self::Sum(Histogram::OrderConfirmation) => "confirmation_ms".to_owned(),
            Self::Within(Histogram::OrderConfirmation, bound) => format!("confirmed:{bound}"),
            Self::Count(Histogram::ProjectionLag) => "commits_projected".to_owned(),
            Self::Sum(Histogram::ProjectionLag) => "projection_lag_ms".to_owned(),
            Self::Within(Histogram::ProjectionLag, bound) => format!("lag:{bound}"),
        }
    }

    /// The currencies in which anything went back, of these counters.
    pub fn currencies(counts: &BTreeMap<String, u64>) -> Vec<Currency> {
        counts.keys().filter_map(|name| Currency::parse_any(name.strip_prefix(REFUNDS)?).ok()).collect()
    }
}

/// Figures that only grow, of all functions together. They are for operators to look at: nothing may depend on them.
pub trait Counters: Send + Sync {
    /// Adds to each of these counters, none of which may be named twice. MUST be one remote call at most, and MUST add
    /// everything or nothing. Whoever adds once more after an error may have added twice.
    fn add(&self, amounts: &[(String, u64)]) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// What every counter has come to that was ever added to. MUST see every call that was answered before.
    fn read(&self) -> impl Future<Output = Result<BTreeMap<String, u64>, Unavailable>> + Send;
}
