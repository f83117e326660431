//! Figures that functions add to.

use std::collections::BTreeMap;

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

/// What the functions count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counter {
    Hits(Cache),
    Misses(Cache),
    CommitsProjected,
    /// The time between the moment in which each of these commits occurred and the one in which it was in the views, in
    /// milliseconds, added up.
    ProjectionLag,
    /// Requests that were refused, because their caller was over the limit of this class.
    RateLimited(Class),
    /// Requests that were let through, because their bucket could not be asked.
    RateLimitFailures,
}

impl Counter {
    /// As it is stored.
    pub fn name(self) -> String {
        match self {
            Self::Hits(cache) => format!("cache_hits_{}", cache.name()),
            Self::Misses(cache) => format!("cache_misses_{}", cache.name()),
            Self::CommitsProjected => "commits_projected".to_owned(),
            Self::ProjectionLag => "projection_lag_ms".to_owned(),
            Self::RateLimited(class) => format!("rate_limited_{}", class.name()),
            Self::RateLimitFailures => "rate_limit_failures".to_owned(),
        }
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
