//! What becomes of commits that a consumer cannot handle, and of messages that a queue has given up: they wait, and staff have them tried
//! again or discard them.
//!
//! A stream that waits is tried again from the event table, so it is never too late for that, and the newest code sees it.

use std::{collections::VecDeque, error::Error, time::Duration};

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep_until};

use crate::{
    event_store::{Commit, EventStore, StreamId, Unavailable},
    ports::{
        Consumer, DeadLetter, DeadLetterQueue, DeadLetters, EventBus, Failure, Index, MessageKind, OrderViews,
        ParkedStream, ReadModel, ReceivedMessage, Settlement, letter_id, letter_stream,
    },
    project_orders::{reproject_customer, reproject_order},
    republish_events::{Republished, republish_events},
};

/// How long one call goes on beginning with others.
const WORK: Duration = Duration::from_secs(15);

/// How many streams are looked at, at once and by one call.
const PAGE: usize = 100;
const PAGES_MAX: usize = 100;

/// How often one call looks into a queue.
const RECEIVES_MAX: usize = 10;

/// The most letters that an answer names.
const NAMED_MAX: usize = 100;

/// The place behind all streams.
const MESSAGES: &str = "message/";

/// How many parts of 500 events a stream is published in.
const PARTS_MAX: usize = 10;

/// How often what has lined up meanwhile is handled as well.
const ROUNDS_MAX: usize = 5;

/// Some commits of one stream that a consumer has not handled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotHandled {
    pub stream: StreamId,
    /// Numbers of their first and their last event.
    pub versions: (u64, u64),
    pub commits: usize,
    pub failure: Failure,
    /// It is this stream's own trouble, and does not pass by waiting: so it is to wait, instead of holding up what comes after it.
    pub is_lasting: bool,
}

impl NotHandled {
    /// These commits of one stream; `None` of none.
    pub fn of<'c>(commits: impl Iterator<Item = &'c Commit>, failure: Failure, is_lasting: bool) -> Option<Self> {
        let mut commits = commits.peekable();
        let first = *commits.peek()?;
        let (mut last, mut count) = (first.last_version(), 0_usize);
        for commit in commits {
            last = commit.last_version();
            count = count.saturating_add(1);
        }
        Some(Self {
            stream: first.stream.clone(),
            versions: (first.version, last),
            commits: count,
            failure,
            is_lasting,
        })
    }
}

/// Which dead letters of a consumer are meant: all of them, unless one is named or an error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    pub id: Option<String>,
    pub error_type: Option<String>,
}

impl Wanted {
    /// Whether streams are meant, or messages, or both.
    fn may_be_a_message(&self) -> Option<bool> {
        self.id.as_ref().map(|id| id.starts_with("message/"))
    }

    fn wants(&self, letter: &DeadLetter) -> bool {
        self.id.as_ref().is_none_or(|id| *id == letter.id())
            && self.error_type.as_ref().is_none_or(|wanted| *wanted == letter.failure().error_type)
    }
}

/// What staff want done with dead letters.
#[derive(Debug, Clone)]
pub struct Settle {
    pub wanted: Wanted,
    pub settlement: Settlement,
    /// Only says which they are.
    pub dry_run: bool,
    /// Where another call has ended: [`Settled::next`].
    pub after: Option<String>,
    pub pace: Pace,
}

impl Settle {
    pub fn means_streams(&self) -> bool {
        self.wanted.may_be_a_message() != Some(true) && self.after.as_deref() != Some(MESSAGES)
    }

    pub fn means_messages(&self) -> bool {
        self.wanted.may_be_a_message() != Some(false)
    }
}

/// A dead letter with which it was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotSettled {
    pub id: String,
    pub failure: Failure,
}

/// What became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settled {
    pub matching: usize,
    pub done: usize,
    /// The first of those that failed; they wait on.
    pub failed: Vec<NotSettled>,
    /// There may be others, which another call finds [after](Settle::after) this place.
    pub next: Option<String>,
}

impl Settled {
    /// Of these and those together.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.failed.extend(other.failed);
        self.failed.truncate(NAMED_MAX);
        Self {
            matching: self.matching.saturating_add(other.matching),
            done: self.done.saturating_add(other.done),
            failed: self.failed,
            next: self.next.or(other.next),
        }
    }

    fn note(&mut self, id: String, outcome: Result<(), Failure>) {
        match outcome {
            Ok(()) => self.done = self.done.saturating_add(1),
            Err(failure) if self.failed.len() < NAMED_MAX => self.failed.push(NotSettled { id, failure }),
            Err(_) => {}
        }
    }
}

/// How far a redelivery has come.
pub struct Redelivered {
    /// Everything up to this version is handled.
    pub done: u64,
    pub failure: Option<Failure>,
}

impl Redelivered {
    fn failed(parked: &ParkedStream, failure: Failure) -> Self {
        Self { done: parked.first_version.saturating_sub(1), failure: Some(failure) }
    }
}

/// Handles a stream for a consumer, from a version on.
pub trait Redelivery {
    fn consumer(&self) -> Consumer;

    /// Handles all that the event table has of it. In a box, because the compiler cannot see through what it is made of whether it may go
    /// to another thread.
    fn redeliver<'r>(&'r self, parked: &'r ParkedStream) -> BoxFuture<'r, Redelivered>;
}

/// Brings the stream into every generation of the read model.
pub struct Reprojection<'a, S, V, I> {
    pub store: &'a S,
    pub generations: &'a [ReadModel<V, I>],
}

impl<S: EventStore, V: OrderViews, I: Index> Redelivery for Reprojection<'_, S, V, I> {
    fn consumer(&self) -> Consumer {
        Consumer::ProjectOrders
    }

    fn redeliver<'r>(&'r self, parked: &'r ParkedStream) -> BoxFuture<'r, Redelivered> {
        Box::pin(async {
            match reproject(self.store, self.generations, &parked.stream).await {
                Ok(done) => Redelivered { done, failure: None },
                Err(failure) => Redelivered::failed(parked, failure),
            }
        })
    }
}

async fn reproject(
    store: &impl EventStore,
    generations: &[ReadModel<impl OrderViews, impl Index>],
    stream: &StreamId,
) -> Result<u64, Failure> {
    let commits = store.read(stream, 0).await.map_err(|error| unavailable(&error))?;
    let done = commits.last().map(Commit::last_version).ok_or_else(no_such_stream)?;
    for model in generations {
        let projected = if let Some(id) = stream.order_id() {
            reproject_order(store, model, id).await.map(|_| ())
        } else if let Some(id) = stream.customer_id() {
            reproject_customer(store, model, &id).await.map(|_| ())
        } else {
            Ok(())
        };
        projected.map_err(|error| Failure::new(error.error_type(), &told(&error)))?;
    }
    Ok(done)
}

/// Puts the stream's events on the bus, from the first that waits on.
pub struct Republication<'a, S, B> {
    pub store: &'a S,
    pub bus: &'a B,
}

impl<S: EventStore, B: EventBus> Redelivery for Republication<'_, S, B> {
    fn consumer(&self) -> Consumer {
        Consumer::PublishEvents
    }

    fn redeliver<'r>(&'r self, parked: &'r ParkedStream) -> BoxFuture<'r, Redelivered> {
        Box::pin(republish(self.store, self.bus, parked))
    }
}

async fn republish(store: &impl EventStore, bus: &impl EventBus, parked: &ParkedStream) -> Redelivered {
    let mut done = parked.first_version.saturating_sub(1);
    for _ in 0..PARTS_MAX {
        match republish_events(store, bus, &parked.stream, done).await {
            Ok(Republished { next_after: Some(next), .. }) => done = next,
            Ok(Republished { events, next_after: None }) => {
                let done = done.saturating_add(u64::try_from(events).unwrap_or(u64::MAX));
                return Redelivered { done, failure: None };
            }
            Err(error) => {
                return Redelivered { done, failure: Some(Failure::new(error.error_type(), &told(&error))) };
            }
        }
    }
    let error = format!("published up to event {done}; the rest is for another call");
    Redelivered { done, failure: Some(Failure::new("Unavailable", &error)) }
}

/// Has the streams that wait tried again.
pub async fn redrive_streams(
    redelivery: &impl Redelivery,
    letters: &impl DeadLetters,
    command: &Settle,
    now: DateTime<Utc>,
) -> Result<Settled, Unavailable> {
    let mut walk = Walk::new(redelivery.consumer(), command);
    while let Some(parked) = walk.next(letters).await? {
        let redriven = redrive(redelivery, letters, command, &parked, now).await;
        walk.outcome.note(letter_id(&parked.stream), redriven);
    }
    Ok(walk.outcome)
}

async fn redrive(
    redelivery: &impl Redelivery,
    letters: &impl DeadLetters,
    command: &Settle,
    parked: &ParkedStream,
    now: DateTime<Utc>,
) -> Result<(), Failure> {
    let (consumer, stream) = (redelivery.consumer(), &parked.stream);
    let mut parked = parked.clone();
    for _ in 0..ROUNDS_MAX {
        let Redelivered { done, failure } = redelivery.redeliver(&parked).await;
        if let Some(failure) = failure {
            let noted = letters.note_try(consumer, stream, done, &failure, now).await;
            return Err(noted.err().map_or(failure, |error| unavailable(&error)));
        }
        // What it was known to wait for, and the event table lacks, was restored away.
        let done = done.max(parked.last_version);
        // More may have lined up while this was done.
        let all_done = letters.settle(consumer, stream, done, &command.settlement).await;
        if all_done.map_err(|error| unavailable(&error))? {
            return Ok(());
        }
        parked = ParkedStream { first_version: done.saturating_add(1), last_version: done, ..parked };
    }
    let failure = Failure::new("Contended", "others keep lining up");
    let noted = letters.note_try(consumer, stream, parked.last_version, &failure, now).await;
    Err(noted.err().map_or(failure, |error| unavailable(&error)))
}

/// Has the consumer never handle what waits; what comes later it handles again. Whoever decides may say up to which version they have seen it
/// wait, because the look that is taken here is another one: a stream in which more waits is left alone.
pub async fn discard_streams(
    letters: &impl DeadLetters,
    consumer: Consumer,
    command: &Settle,
    last_seen: Option<u64>,
) -> Result<Settled, Unavailable> {
    let mut walk = Walk::new(consumer, command);
    while let Some(parked) = walk.next(letters).await? {
        let last = last_seen.unwrap_or(parked.last_version).min(parked.last_version);
        let all = letters.settle(consumer, &parked.stream, last, &command.settlement).await;
        let discarded = match all {
            Ok(true) => Ok(()),
            // Nobody has seen that, so nobody has decided on it.
            Ok(false) => Err(Failure::new("Contended", "more waits by now; look at it again")),
            Err(error) => Err(unavailable(&error)),
        };
        walk.outcome.note(letter_id(&parked.stream), discarded);
    }
    Ok(walk.outcome)
}

/// Goes over the streams that are meant, at the pace that is wanted. A dry run only counts them.
struct Walk<'w> {
    consumer: Consumer,
    command: &'w Settle,
    page: VecDeque<ParkedStream>,
    /// The last that was looked at, and the last of the page.
    seen: Option<StreamId>,
    after: Option<StreamId>,
    pages_left: usize,
    is_last: bool,
    next_at: Instant,
    outcome: Settled,
}

impl<'w> Walk<'w> {
    fn new(consumer: Consumer, command: &'w Settle) -> Self {
        let after = command.after.as_deref().map(letter_stream);
        Self {
            consumer,
            command,
            page: VecDeque::new(),
            seen: after.clone(),
            after,
            next_at: Instant::now(),
            pages_left: PAGES_MAX,
            is_last: false,
            outcome: Settled::default(),
        }
    }

    async fn next(&mut self, letters: &impl DeadLetters) -> Result<Option<ParkedStream>, Unavailable> {
        loop {
            let Some(parked) = self.page.pop_front() else {
                if self.is_last {
                    return Ok(None);
                }
                if self.pages_left == 0 {
                    return Ok(self.stop());
                }
                self.pages_left = self.pages_left.saturating_sub(1);
                let page = page(letters, self.consumer, self.command, self.after.as_ref()).await?;
                self.is_last = page.len() < PAGE;
                self.after = page.last().map(|parked| parked.stream.clone());
                self.page = page.into();
                continue;
            };
            if !self.command.wanted.wants(&DeadLetter::Parked(parked.clone())) {
                self.seen = Some(parked.stream);
                continue;
            }
            if !self.command.dry_run && !self.command.pace.may_begin(&mut self.next_at).await {
                return Ok(self.stop());
            }
            self.seen = Some(parked.stream.clone());
            self.outcome.matching = self.outcome.matching.saturating_add(1);
            if !self.command.dry_run {
                return Ok(Some(parked));
            }
        }
    }
}

impl Walk<'_> {
    /// Another call goes on from here.
    fn stop(&mut self) -> Option<ParkedStream> {
        // Nothing has this name, and everything comes after it.
        self.outcome.next = Some(self.seen.as_ref().map_or_else(|| "/".to_owned(), letter_id));
        None
    }
}

/// Some streams that wait, a full [`PAGE`] if there may be more.
async fn page(
    letters: &impl DeadLetters,
    consumer: Consumer,
    command: &Settle,
    after: Option<&StreamId>,
) -> Result<Vec<ParkedStream>, Unavailable> {
    let Some(id) = &command.wanted.id else { return letters.list(consumer, after, PAGE).await };
    Ok(letters.parked(consumer, &letter_stream(id)).await?.into_iter().collect())
}

/// Has the messages that a queue has given up go through it once more.
pub async fn redrive_messages(
    queue: &impl DeadLetterQueue,
    letters: &impl DeadLetters,
    consumer: &str,
    command: &Settle,
) -> Result<Settled, Unavailable> {
    let mut look = Look::new(command);
    while let Some(received) = look.next(queue).await? {
        let redriven = redrive_message(queue, letters, consumer, &received, &command.settlement).await;
        look.note(received, redriven);
    }
    Ok(look.end(queue).await)
}

async fn redrive_message(
    queue: &impl DeadLetterQueue,
    letters: &impl DeadLetters,
    consumer: &str,
    received: &ReceivedMessage,
    settlement: &Settlement,
) -> Result<(), Failure> {
    let is_sent = received.message.kind != MessageKind::Batch
        && queue.send_again(received).await.map_err(|error| unavailable(&error))?;
    if is_sent {
        done_with(queue, letters, consumer, received, settlement).await
    } else {
        Err(Failure::new("NoContent", "it names a place in a stream, and nothing that could be handled again"))
    }
}

/// Has nobody ever handle the messages that a queue has given up.
pub async fn discard_messages(
    queue: &impl DeadLetterQueue,
    letters: &impl DeadLetters,
    consumer: &str,
    command: &Settle,
) -> Result<Settled, Unavailable> {
    let mut look = Look::new(command);
    while let Some(received) = look.next(queue).await? {
        let discarded = done_with(queue, letters, consumer, &received, &command.settlement).await;
        look.note(received, discarded);
    }
    Ok(look.end(queue).await)
}

/// It is kept first what became of it: whoever is cut short does it once more, and keeps the same.
async fn done_with(
    queue: &impl DeadLetterQueue,
    letters: &impl DeadLetters,
    consumer: &str,
    received: &ReceivedMessage,
    settlement: &Settlement,
) -> Result<(), Failure> {
    letters.keep(consumer, &received.message, settlement).await.map_err(|error| unavailable(&error))?;
    queue.delete(received).await.map_err(|error| unavailable(&error))
}

/// Looks through a queue for the messages that are meant, at the pace that is wanted. A dry run only counts them.
struct Look<'w> {
    command: &'w Settle,
    received: VecDeque<ReceivedMessage>,
    /// They are given back at the end, so that none is received twice.
    left: Vec<ReceivedMessage>,
    receives_left: usize,
    next_at: Instant,
    outcome: Settled,
}

impl<'w> Look<'w> {
    fn new(command: &'w Settle) -> Self {
        Self {
            command,
            next_at: Instant::now(),
            received: VecDeque::new(),
            left: Vec::new(),
            receives_left: RECEIVES_MAX,
            outcome: Settled::default(),
        }
    }

    async fn next(&mut self, queue: &impl DeadLetterQueue) -> Result<Option<ReceivedMessage>, Unavailable> {
        loop {
            let Some(received) = self.received.pop_front() else {
                if self.receives_left == 0 {
                    self.outcome.next = Some(MESSAGES.to_owned());
                    return Ok(None);
                }
                self.receives_left = self.receives_left.saturating_sub(1);
                match queue.receive().await {
                    Ok(received) if received.is_empty() => return Ok(None),
                    Ok(received) => self.received = received.into(),
                    Err(error) => {
                        queue.release(&self.left).await?;
                        return Err(error);
                    }
                }
                continue;
            };
            if !self.command.wanted.wants(&DeadLetter::Message(received.message.clone())) {
                self.left.push(received);
                continue;
            }
            if !self.command.dry_run && !self.command.pace.may_begin(&mut self.next_at).await {
                self.left.push(received);
                self.outcome.next = Some(MESSAGES.to_owned());
                return Ok(None);
            }
            self.outcome.matching = self.outcome.matching.saturating_add(1);
            if self.command.dry_run {
                self.left.push(received);
            } else {
                return Ok(Some(received));
            }
        }
    }

    fn note(&mut self, received: ReceivedMessage, outcome: Result<(), Failure>) {
        let id = DeadLetter::Message(received.message.clone()).id();
        if outcome.is_err() {
            self.left.push(received);
        }
        self.outcome.note(id, outcome);
    }

    /// What was done is answered also where the rest cannot be given back: that comes back by itself.
    async fn end(mut self, queue: &impl DeadLetterQueue) -> Settled {
        self.left.extend(self.received);
        // Of one that is named and was found there is no other.
        let is_found = self.command.wanted.id.is_some() && self.outcome.matching > 0;
        if self.outcome.next.is_none() && !is_found {
            // Whoever lists them hides them meanwhile. Where nobody can say whether somebody does, there may be others.
            let hidden = queue.hidden().await.unwrap_or(usize::MAX);
            self.outcome.next = (hidden > self.left.len()).then(|| MESSAGES.to_owned());
        }
        drop(queue.release(&self.left).await);
        self.outcome
    }
}

/// The messages that a queue has given up, some of them if there are many. They stay.
pub async fn look_into(queue: &impl DeadLetterQueue) -> Result<Vec<DeadLetter>, Unavailable> {
    let mut found = Vec::new();
    for _ in 0..RECEIVES_MAX {
        match queue.receive().await {
            Ok(received) if received.is_empty() => break,
            Ok(received) => found.extend(received),
            Err(error) => {
                queue.release(&found).await?;
                return Err(error);
            }
        }
    }
    queue.release(&found).await?;
    Ok(found.into_iter().map(|received| DeadLetter::Message(received.message)).collect())
}

/// How many are begun in a second, and until when: one for all that a call does.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    apart: Duration,
    until: Instant,
}

impl Pace {
    /// For a call that begins now.
    pub fn new(a_second: u32) -> Self {
        let (second, now) = (Duration::from_secs(1), Instant::now());
        Self { apart: second.checked_div(a_second).unwrap_or(second), until: now.checked_add(WORK).unwrap_or(now) }
    }

    /// Waits until another may be begun, if any may.
    async fn may_begin(&self, next: &mut Instant) -> bool {
        sleep_until(*next).await;
        let now = Instant::now();
        *next = now.checked_add(self.apart).unwrap_or(now);
        now < self.until
    }
}

pub(crate) fn unavailable(error: &Unavailable) -> Failure {
    Failure::new(error.error_type(), &told(error))
}

fn no_such_stream() -> Failure {
    Failure::new("NoSuchStream", "the event table has no such stream")
}

/// An error and its cause, which have no data in them.
pub(crate) fn told(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}
