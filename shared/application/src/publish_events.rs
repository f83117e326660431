//! Puts the events of commits on the bus, those of each stream in the order of their numbers.
//!
//! A stream of which the bus refuses an event is parked, and what comes in later batches lines up behind. What stood behind the event in the
//! same batch may be there already, before it: the bus takes each event by itself, and no order is promised. None is lost by that: the stream
//! waits from the commit with that event on, so all of them go out once more.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
};

use lru::LruCache;

use crate::{
    dead_letters::{NotHandled, told, unavailable},
    event_store::{Commit, StreamId},
    ports::{Consumer, DeadLetters, EventBus, Failure, PublishedEvent},
};

/// Of how many streams a process remembers what it has published last: a megabyte or two.
const STREAMS_MAX: NonZeroUsize = NonZeroUsize::MIN.saturating_add(9_999);

/// What a process has published last of each stream.
///
/// Whoever has published the commit before knows that its stream does not wait: whatever parks a stream at that commit's successor has
/// been given the successor. So nobody has to be asked about the streams that move, which a process follows from their beginning.
pub struct Published(Mutex<LruCache<StreamId, u64>>);

impl Default for Published {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(STREAMS_MAX)))
    }
}

impl Published {
    /// Whether nothing of the stream can wait that comes before this commit.
    fn is_next(&self, commit: &Commit) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        commit.version == 1 || last.get(&commit.stream).is_some_and(|last| last.checked_add(1) == Some(commit.version))
    }

    fn note(&self, stream: &StreamId, version: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).put(stream.clone(), version);
    }

    fn forget(&self, stream: &StreamId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop(stream);
    }
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Outcome<'c> {
    pub published: Vec<&'c Commit>,
    /// The streams whose commits line up behind what waits.
    pub waiting: Vec<StreamId>,
    pub not_handled: Vec<NotHandled>,
}

/// Publishes these commits, which come in the order of each stream.
pub async fn publish_events<'c>(
    bus: &impl EventBus,
    letters: &impl DeadLetters,
    published: &Published,
    commits: &'c [Commit],
) -> Outcome<'c> {
    let mut streams: BTreeMap<&StreamId, Vec<&'c Commit>> = BTreeMap::new();
    for commit in commits {
        streams.entry(&commit.stream).or_default().push(commit);
    }
    let mut outcome = Outcome::default();
    let unsure: Vec<(StreamId, (u64, u64))> = streams
        .iter()
        .filter_map(|(stream, commits)| {
            let (first, last) = (commits.first()?, commits.last()?);
            (!published.is_next(first)).then(|| ((*stream).clone(), (first.version, last.last_version())))
        })
        .collect();
    if !unsure.is_empty() {
        match letters.line_up(Consumer::PublishEvents, &unsure).await {
            Ok(waiting) => {
                for stream in &waiting {
                    published.forget(stream);
                    streams.remove(stream);
                }
                outcome.waiting = waiting;
            }
            Err(error) => {
                for (stream, _) in &unsure {
                    let commits = streams.remove(stream).unwrap_or_default();
                    outcome.not_handled.extend(NotHandled::of(commits.into_iter(), unavailable(&error), false));
                }
            }
        }
    }
    let commits: Vec<&Commit> = streams.values().flatten().copied().collect();
    let events: Vec<PublishedEvent> = commits.iter().flat_map(|commit| PublishedEvent::of(commit)).collect();
    let failed = if events.is_empty() { Ok(()) } else { bus.publish(&events).await };
    let Err(failed) = failed else {
        for commit in &commits {
            published.note(&commit.stream, commit.last_version());
        }
        outcome.published = commits;
        return outcome;
    };
    // The first event of each stream that is not there. Those behind it come again with it.
    let mut first: BTreeMap<&StreamId, (u64, bool)> = BTreeMap::new();
    for not_published in &failed.events {
        let Some(event) = events.get(not_published.index) else { continue };
        let entry = first.entry(&event.stream).or_insert((event.version, not_published.refused));
        if event.version < entry.0 {
            *entry = (event.version, not_published.refused);
        }
    }
    for (stream, commits) in streams {
        let Some((version, refused)) = first.get(stream) else {
            for commit in &commits {
                published.note(stream, commit.last_version());
            }
            outcome.published.extend(commits);
            continue;
        };
        published.forget(stream);
        let (done, failed_ones): (Vec<_>, Vec<_>) =
            commits.into_iter().partition(|commit| commit.last_version() < *version);
        outcome.published.extend(done);
        let error_type = if *refused { "Refused" } else { "Unavailable" };
        let failure = Failure::new(error_type, &told(&failed));
        outcome.not_handled.extend(NotHandled::of(failed_ones.into_iter(), failure, *refused));
    }
    outcome
}
