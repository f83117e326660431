//! What finds customers and events, and says how many orders there were.

use chrono::{DateTime, Utc};
use domain::ids::CustomerId;

use crate::{
    event_store::{Commit, StreamId, Unavailable},
    stats::{Hour, Stats},
};

/// Where something stands in a list by time, such as an event among those of its type: by the time, in milliseconds, then by the
/// text that names it. The newest is the greatest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    millis: i64,
    id: String,
}

impl Position {
    pub fn new(at: DateTime<Utc>, id: impl Into<String>) -> Self {
        Self::at_millis(at.timestamp_millis(), id)
    }

    pub fn at_millis(millis: i64, id: impl Into<String>) -> Self {
        Self { millis, id: id.into() }
    }

    /// Before everything that happened at this time, and after whatever happened earlier: no event has an empty name.
    pub fn start_of(at: DateTime<Utc>) -> Self {
        Self::new(at, "")
    }

    pub fn millis(&self) -> i64 {
        self.millis
    }

    pub fn id(&self) -> &str {
        &self.id
    }
}

/// Where an event is in the event table, and when it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPlace {
    /// In milliseconds since 1970.
    pub millis: i64,
    pub stream: StreamId,
    /// The event's number in its stream.
    pub version: u64,
    /// The number of its commit's first event.
    pub commit: u64,
}

impl EventPlace {
    /// The type of each event of a commit, and where it is.
    pub fn of(commit: &Commit) -> impl Iterator<Item = (&str, Self)> {
        let millis = commit.metadata.occurred_at.timestamp_millis();
        commit.numbered().map(move |(version, event)| {
            let place = Self { millis, stream: commit.stream.clone(), version, commit: commit.version };
            (event.event_type.as_str(), place)
        })
    }

    /// The number with leading zeros, so that the events of one commit are listed in their order.
    pub fn position(&self) -> Position {
        Position::at_millis(self.millis, format!("{}/{:010}", self.stream.as_str(), self.version))
    }
}

/// A customer who is found under a term.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Posting {
    pub term: String,
    pub customer: CustomerId,
    /// What the reader of a list has to know of the customer without reading more.
    pub text: String,
}

/// What finds customers by terms, and events by their type and time, and counts orders by the hour.
pub trait Index: Send + Sync {
    /// Any number of postings, no two of one term and customer; each replaces what is there of these. Some may be there also
    /// after an error.
    fn add(&self, postings: &[Posting]) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// Takes out what stands there of these terms and customers, whatever its text. MUST also be an answer where nothing
    /// stands. Some may be gone also after an error.
    fn remove(&self, postings: &[Posting]) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// The customers under a term, up to `limit` of them. MUST see every call that was answered before. MUST NOT cost more the
    /// more postings there are besides.
    fn customers(&self, term: &str, limit: usize) -> impl Future<Output = Result<Vec<Posting>, Unavailable>> + Send;

    /// Lists the events of any number of commits, each event once however often it comes, and in whatever company. SHOULD
    /// cost less for many commits at once. Some may be there also after an error.
    fn list(&self, commits: &[Commit]) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// The events of a type at or before `not_after` and not earlier than `not_before`, newest first: all of them, or the
    /// newest `limit`. MUST see every call that was answered before. MUST NOT cost more the more events of other times or
    /// types there are.
    fn newest(
        &self,
        event_type: &str,
        not_after: Option<&Position>,
        not_before: Option<DateTime<Utc>>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<EventPlace>, Unavailable>> + Send;

    /// Adds to what was counted in each of these hours. Some may be added also after an error, and whoever adds once more may have
    /// added twice.
    fn count(&self, stats: &Stats) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// What was counted from the one hour up to the other, without that. MUST see every call that was answered before. MUST NOT
    /// cost more the more was counted in an hour, nor the more other hours there are.
    fn stats(&self, from: Hour, to: Hour) -> impl Future<Output = Result<Stats, Unavailable>> + Send;
}
