//! The beginnings of streams that were read before. What has happened never changes, so they are true for as long as they
//! are kept; only what has happened since is to be read.
//!
//! They are kept for as long as the process is, and so never beside a table that was restored to an earlier time: that one
//! has another name, with which the functions start anew.

use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;

use crate::event_store::{Commit, StreamId};

/// About what a commit takes beside the JSON of its events. It also bounds how many streams there can be.
const COMMIT_BYTES: usize = 1024;

/// Up to a bound, from which on those go first that nobody has asked for the longest.
pub struct PastCommits {
    kept: Mutex<Kept>,
    bytes_max: usize,
}

struct Kept {
    streams: LruCache<StreamId, Beginning>,
    bytes: usize,
}

struct Beginning {
    commits: Arc<[Commit]>,
    bytes: usize,
}

impl PastCommits {
    /// Counts the JSON of the events: in memory they are a few times as large.
    pub fn new(bytes_max: usize) -> Self {
        Self { kept: Mutex::new(Kept { streams: LruCache::unbounded(), bytes: 0 }), bytes_max }
    }

    /// The first commits of a stream, in order; none when nothing is known of it.
    pub fn of(&self, stream: &StreamId) -> Arc<[Commit]> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.streams.get(stream).map_or_else(|| [].into(), |beginning| beginning.commits.clone())
    }

    /// Keeps a stream's commits, from its first one on.
    pub fn keep(&self, stream: StreamId, commits: &Arc<[Commit]>) {
        let bytes = commits.iter().map(bytes_of).fold(0, usize::saturating_add);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Kept { streams, bytes: all } = &mut *kept;
        let replaced = streams.put(stream, Beginning { commits: commits.clone(), bytes });
        *all = all.saturating_add(bytes).saturating_sub(replaced.map_or(0, |beginning| beginning.bytes));
        while *all > self.bytes_max
            && let Some((_, oldest)) = streams.pop_lru()
        {
            *all = all.saturating_sub(oldest.bytes);
        }
    }
}

fn bytes_of(commit: &Commit) -> usize {
    // What cannot be measured is too large to be kept; but whatever was read from JSON can be written as such.
    serde_json::to_vec(&commit.events).map_or(usize::MAX, |json| json.len().saturating_add(COMMIT_BYTES))
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};
    use domain::ids::OrderId;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::event_store::{Metadata, RecordedEvent};

    fn stream(number: u128) -> StreamId {
        StreamId::order(OrderId::new(Uuid::from_u128(number)))
    }

    /// Keeps so many commits of one event, whose JSON takes 100 bytes.
    fn keep(past: &PastCommits, number: u128, count: u64) {
        let commit = |version| Commit {
            stream: stream(number),
            version,
            events: vec![RecordedEvent {
                event_type: "OrderFlagged".to_owned(),
                schema: 1,
                data: json!("x".repeat(51)),
            }],
            metadata: Metadata {
                command_id: Uuid::nil(),
                fingerprint: String::new(),
                actor: String::new(),
                correlation_id: String::new(),
                causation_id: String::new(),
                traceparent: None,
                occurred_at: DateTime::<Utc>::UNIX_EPOCH,
            },
        };
        past.keep(stream(number), &(1..=count).map(commit).collect());
    }

    fn kept(past: &PastCommits, numbers: [u128; 3]) -> [usize; 3] {
        numbers.map(|number| past.of(&stream(number)).len())
    }

    #[test]
    fn what_nobody_has_asked_for_the_longest_goes_first() {
        let past = PastCommits::new(3 * (COMMIT_BYTES + 100));
        for number in [1, 2, 3] {
            keep(&past, number, 1);
        }
        assert_eq!(kept(&past, [3, 2, 1]), [1, 1, 1]);
        keep(&past, 4, 1);
        assert_eq!(kept(&past, [4, 2, 1]), [1, 1, 1]);
        assert_eq!(kept(&past, [3, 3, 3]), [0, 0, 0]);
    }

    #[test]
    fn a_stream_that_has_grown_is_counted_once() {
        let past = PastCommits::new(3 * (COMMIT_BYTES + 100));
        keep(&past, 1, 1);
        keep(&past, 2, 1);
        keep(&past, 2, 2);
        assert_eq!(kept(&past, [1, 2, 3]), [1, 2, 0]);
        keep(&past, 2, 3);
        assert_eq!(kept(&past, [1, 2, 3]), [0, 3, 0]);
    }

    #[test]
    fn what_is_larger_than_all_that_may_be_kept_is_not_kept() {
        let past = PastCommits::new(3 * (COMMIT_BYTES + 100));
        keep(&past, 1, 4);
        assert_eq!(kept(&past, [1, 2, 3]), [0, 0, 0]);
        keep(&past, 2, 3);
        assert_eq!(kept(&past, [1, 2, 3]), [0, 3, 0]);
    }
}
