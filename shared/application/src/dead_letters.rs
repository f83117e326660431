//! What becomes of commits that a consumer cannot handle, and of messages that a queue has given up: they wait, and staff have them tried
//! again or discard them.
//!
//! A stream that waits is tried again from the event table, so it is never too late for that, and the newest code sees it.

use std::{collections::VecDeque, error::Error, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::BoxFuture;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{
    event_store::{Commit, EventStore, StreamId, Unavailable},
    ports::{
        Consumer, DeadLetter, DeadLetterQueue, DeadLetters, EventBus, Failure, Index, MessageKind, OrderViews,
        ParkedStream, ReadModel, ReceivedMessage, Settlement, letter_id,
    },
    project_orders::{reproject_customer, reproject_order},
    republish_events::republish_events,
};

/// For how long a commit holds up what comes after it, when its trouble may be everybody's. The mappings would give it up an hour later,
/// and would keep no more of it than a place in a stream that is gone in a day.
pub const PATIENCE: TimeDelta = TimeDelta::hours(5);

/// How long one call goes on beginning with others.
const WORK: Duration = Duration::from_secs(15);

/// How many streams are looked at, at once and by one call.
const PAGE: usize = 100;
const PAGES_MAX: usize = 100;

/// How often one call looks into a queue.
const RECEIVES_MAX: usize = 10;

/// The most letters that an answer names.
const NAMED_MAX: usize = 100;

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
    /// It is this stream's own trouble, and does not pass by waiting.
    pub is_lasting: bool,
    /// When the first of them occurred.
    pub occurred_at: DateTime<Utc>,
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
            occurred_at: first.metadata.occurred_at,
        })
    }

    /// Whether they are to wait, instead of holding up what comes after them.
    pub fn is_given_up(&self, now: DateTime<Utc>) -> bool {
        self.is_lasting || now.signed_duration_since(self.occurred_at) > PATIENCE
    }
}

/// Which dead letters of a consumer are meant: all of them, unless one is named or an error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    pub id: Option<String>,
    pub error_type: Option<String>,
}

impl Wanted {
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
    /// How many are begun in a second, at most.
    pub pace: u32,
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
    /// There may be others: the same may be asked again.
    pub more: bool,
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
            more: self.more || other.more,
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

/// Handles a stream for a consumer, from a version on.
pub trait Redelivery {
    fn consumer(&self) -> Consumer;

    /// Answers the version up to which everything is handled. In a box, because the compiler cannot see through what it is made of
    /// whether it may go to another thread.
    fn redeliver<'r>(&'r self, parked: &'r ParkedStream) -> BoxFuture<'r, Result<u64, Failure>>;
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

    fn redeliver<'r>(&'r self, parked: &'r ParkedStream) -> BoxFuture<'r, Result<u64, Failure>> {
        Box::pin(reproject(self.store, self.generations, &parked.stream))
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
        projected.map_err(|error| Failure { error_type: error.error_type().to_owned(), error: told(&error) })?;
    }
    Ok(done)
}

/// Puts the stream's events on the bus, in their order.
pub struct Republication<'a, S, B> {
    pub store: &'a S,
    pub bus: &'a B,
}

impl<S: EventStore, B: EventBus> Redelivery for Republication<'_, S, B> {
    fn consumer(&self) -> Consumer {
        Consumer::PublishEvents
    }

    fn redeliver<'r>(&'r self, parked: &'r ParkedStream) -> BoxFuture<'r, Result<u64, Failure>> {
        Box::pin(republish(self.store, self.bus, parked))
    }
}

async fn republish(store: &impl EventStore, bus: &impl EventBus, parked: &ParkedStream) -> Result<u64, Failure> {
    let mut done = parked.first_version.saturating_sub(1);
    for _ in 0..PARTS_MAX {
        let part = republish_events(store, bus, &parked.stream, done).await;
        let part = part.map_err(|error| Failure { error_type: error.error_type().to_owned(), error: told(&error) })?;
        match part.next_after {
            Some(next) => done = next,
            None => return Ok(done.saturating_add(u64::try_from(part.events).unwrap_or(u64::MAX))),
        }
    }
    let error = format!("published up to event {done}; the rest is for another call");
    Err(Failure { error_type: "Unavailable".to_owned(), error })
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
    let (consumer, mut parked) = (redelivery.consumer(), parked.clone());
    for _ in 0..ROUNDS_MAX {
        let done = match redelivery.redeliver(&parked).await {
            Ok(done) => done,
            Err(failure) => {
                let versions = (parked.first_version, parked.last_version);
                let tried = letters.park(consumer, &parked.stream, versions, &failure, now).await;
                return Err(tried.err().map_or(failure, |error| unavailable(&error)));
            }
        };
        // More may have lined up while this was done.
        let all_done = letters.settle(consumer, &parked.stream, done, &command.settlement).await;
        if all_done.map_err(|error| unavailable(&error))? {
            return Ok(());
        }
        parked.first_version = done.saturating_add(1);
    }
    Err(Failure { error_type: "Contended".to_owned(), error: "more lines up, or the event table lacks it".to_owned() })
}

/// Has the consumer never handle what waits; what comes later it handles again.
pub async fn discard_streams(
    letters: &impl DeadLetters,
    consumer: Consumer,
    command: &Settle,
) -> Result<Settled, Unavailable> {
    let mut walk = Walk::new(consumer, command);
    while let Some(parked) = walk.next(letters).await? {
        let all = letters.settle(consumer, &parked.stream, parked.last_version, &command.settlement).await;
        let discarded = match all {
            Ok(true) => Ok(()),
            // Nobody has seen that, so nobody has decided on it.
            Ok(false) => {
                let error = "more waits by now; look at it again".to_owned();
                Err(Failure { error_type: "Contended".to_owned(), error })
            }
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
    pace: Pace,
    page: VecDeque<ParkedStream>,
    after: Option<StreamId>,
    pages_left: usize,
    is_last: bool,
    outcome: Settled,
}

impl<'w> Walk<'w> {
    fn new(consumer: Consumer, command: &'w Settle) -> Self {
        Self {
            consumer,
            command,
            pace: Pace::new(command.pace),
            page: VecDeque::new(),
            after: None,
            pages_left: PAGES_MAX,
            is_last: false,
            outcome: Settled::default(),
        }
    }

    async fn next(&mut self, letters: &impl DeadLetters) -> Result<Option<ParkedStream>, Unavailable> {
        loop {
            let Some(parked) = self.page.pop_front() else {
                if self.is_last || self.pages_left == 0 {
                    self.outcome.more = !self.is_last;
                    return Ok(None);
                }
                self.pages_left = self.pages_left.saturating_sub(1);
                let page = page(letters, self.consumer, self.command, self.after.as_ref()).await?;
                self.is_last = page.len() < PAGE;
                self.after = page.last().map(|parked| parked.stream.clone());
                self.page = page.into();
                continue;
            };
            if !self.command.wanted.wants(&DeadLetter::Parked(parked.clone())) {
                continue;
            }
            if !self.command.dry_run && !self.pace.may_begin().await {
                self.outcome.more = true;
                return Ok(None);
            }
            self.outcome.matching = self.outcome.matching.saturating_add(1);
            if !self.command.dry_run {
                return Ok(Some(parked));
            }
        }
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
    Ok(letters.parked(consumer, &StreamId::new(id.replacen('/', "#", 1))).await?.into_iter().collect())
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
    look.end(queue).await
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
        let error = "it names a place in a stream, and nothing that could be handled again".to_owned();
        Err(Failure { error_type: "NoContent".to_owned(), error })
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
    look.end(queue).await
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
    pace: Pace,
    received: VecDeque<ReceivedMessage>,
    /// They are given back at the end, so that none is received twice.
    left: Vec<ReceivedMessage>,
    receives_left: usize,
    outcome: Settled,
}

impl<'w> Look<'w> {
    fn new(command: &'w Settle) -> Self {
        Self {
            command,
            pace: Pace::new(command.pace),
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
                    self.outcome.more = true;
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
            if !self.command.dry_run && !self.pace.may_begin().await {
                self.left.push(received);
                self.outcome.more = true;
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

    async fn end(mut self, queue: &impl DeadLetterQueue) -> Result<Settled, Unavailable> {
        self.left.extend(self.received);
        queue.release(&self.left).await?;
        Ok(self.outcome)
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

/// So many a second, and none after [`WORK`].
struct Pace {
    ticks: tokio::time::Interval,
    until: Instant,
}

impl Pace {
    fn new(a_second: u32) -> Self {
        let apart = Duration::from_secs(1).checked_div(a_second.max(1)).unwrap_or(Duration::from_secs(1));
        let mut ticks = interval(apart);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let now = Instant::now();
        Self { ticks, until: now.checked_add(WORK).unwrap_or(now) }
    }

    async fn may_begin(&mut self) -> bool {
        self.ticks.tick().await;
        Instant::now() < self.until
    }
}

pub(crate) fn unavailable(error: &Unavailable) -> Failure {
    let error_type = if error.is_lasting() { "NotACommit" } else { "Unavailable" };
    Failure { error_type: error_type.to_owned(), error: told(error) }
}

fn no_such_stream() -> Failure {
    Failure { error_type: "NoSuchStream".to_owned(), error: "the event table has no such stream".to_owned() }
}

/// An error and its cause, which have no data in them.
pub(crate) fn told(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}
