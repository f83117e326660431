//! Every few minutes → looks after each open order that nobody works on any more, and whose view is behind its events.
//!
//! What it does with one order is [`application::reconcile::reconcile`]. A run that has no time for all goes on in the next
//! one. Now and then it is asked to remind: then it calls again for every order that waits for a person, because a call may
//! be missed. An operator may call it with a shorter patience. Each run also tells how many streams consumers have parked.

use std::time::{Duration, SystemTime};

use adapters::{
    aws,
    dynamodb::{DynamoDeadLetters, DynamoEventStore, DynamoReadModel},
    lambda::{self, Invocation, Kind},
    step_functions::StandardStateMachine,
};
use application::{
    event_store::Unavailable,
    ports::{Backlog, Consumer, DeadLetters, OpenOrders, OrderViews, Standing},
    project_orders::{ProjectError, catch_up},
    reconcile::{Finding, PATIENCE, ReconcileError, reconcile},
};
use aws_sdk_dynamodb::Client;
use chrono::{DateTime, TimeDelta, Utc};
use domain::ids::OrderId;
use futures_util::{StreamExt, stream};
use lambda_runtime::{Context, LambdaEvent, service_fn};
use serde::{Deserialize, Serialize};
use telemetry::figures::{self, Metric};
use tracing::{error, info, warn};

/// How many orders are looked at between two looks at the clock.
const PAGE: usize = 100;

/// How many of them at the same time.
const AT_ONCE: usize = 8;

/// No page is begun when less time than this is left, so that none ends half looked at.
const MARGIN: Duration = Duration::from_mins(1);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let config = aws::config();
    let client = Client::new(&config);
    let store = DynamoEventStore::new(client.clone(), lambda::variable("EVENTS_TABLE")?);
    let letters = DynamoDeadLetters::new(client.clone(), lambda::variable("DEAD_LETTERS_TABLE")?);
    let model = DynamoReadModel::new(client, lambda::variable("ORDERS_TABLE")?, lambda::variable("INDEX_TABLE")?);
    let machine = StandardStateMachine::new(aws_sdk_sfn::Client::new(&config), lambda::variable("FULFILMENT_ARN")?);
    let look_after = async |id, patience| {
        let finding = reconcile(&store, &machine, id, patience, Utc::now()).await?;
        // The view of an order that moves is behind for a moment, and all is well.
        let view = if finding == Finding::Moving { Ok(()) } else { Box::pin(bring_up(&store, &model, id)).await };
        Ok::<_, LookError>(Looked { finding, view })
    };
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Reconcile>| {
        let LambdaEvent { payload, context } = event;
        let work = async {
            tell_parked(Utc::now(), &letters).await;
            let live = model.live().await?;
            Box::pin(handle(&live.views, look_after, payload, &context)).await
        };
        Invocation::new(&context, Kind::Consumer, None).run(work).await
    }))
    .await
}

/// Brings an order's views up to its events.
async fn bring_up(store: &DynamoEventStore, model: &DynamoReadModel, id: OrderId) -> Result<(), LookError> {
    for generation in model.written().await? {
        if catch_up(store, &generation, id).await? {
            warn!(order_id = %id, generation = generation.generation, "the view was behind its events");
        }
    }
    Ok(())
}

/// Tells how many streams all consumers together have parked, and for how long the oldest waits: also that there is none, so that alarms
/// end. What cannot be counted is not told, and keeps nobody from looking after orders.
async fn tell_parked(now: DateTime<Utc>, letters: &impl DeadLetters) {
    let mut streams = 0_u64;
    let mut first: Option<DateTime<Utc>> = None;
    for consumer in Consumer::ALL {
        match letters.backlog(consumer).await {
            Ok(Backlog { number, oldest }) => {
                streams = streams.saturating_add(number);
                first = first.into_iter().chain(oldest).min();
            }
            Err(error) => {
                warn!(consumer = consumer.name(), error = lambda::chain(&error), "parked streams not counted");
                return;
            }
        }
    }
    let waits = first.map(|first| now.signed_duration_since(first).num_seconds());
    let seconds = waits.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or_default();
    figures::write([Metric::count("ParkedStreams", streams), Metric::plain("ParkedSeconds", seconds)]);
}

/// Why an order could not be looked after.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Reconcile(#[from] ReconcileError),
    #[error("its view cannot be brought up")]
    Project(#[from] ProjectError),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// What was found of an order. A view that cannot be brought up keeps nobody from being called.
struct Looked {
    finding: Finding,
    view: Result<(), LookError>,
}

/// The schedule sends an event of its own, of which nothing is needed.
#[derive(Debug, Default, Deserialize)]
struct Reconcile {
    patience_seconds: Option<u32>,
    #[serde(default)]
    remind: bool,
}

/// How many orders were looked at, and what was found.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Summary {
    open: usize,
    waiting: usize,
    started: usize,
    resumed: usize,
    flagged: usize,
    failed: usize,
    /// The next run goes on with others.
    more: bool,
}

/// Where a walk over all open orders stands: first those that are under way, then those that wait.
#[derive(Debug, Serialize, Deserialize)]
struct Place {
    standing: Standing,
    after: Option<String>,
}

impl Place {
    const START: Self = Self { standing: Standing::UnderWay, after: None };

    /// What comes after the page that ended with `next`; `None` when everything has been walked over.
    fn following(&self, next: Option<String>) -> Option<Self> {
        match (next, self.standing) {
            (after @ Some(_), standing) => Some(Self { standing, after }),
            (None, Standing::UnderWay) => Some(Self { standing: Standing::Waiting, after: None }),
            (None, Standing::Waiting | Standing::InDoubt) => None,
        }
    }
}

async fn handle(
    views: &impl OrderViews,
    look_after: impl AsyncFn(OrderId, TimeDelta) -> Result<Looked, LookError>,
    Reconcile { patience_seconds, remind }: Reconcile,
    context: &Context,
) -> Result<Summary, lambda_runtime::Error> {
    let patience = patience_seconds.map_or(PATIENCE, |seconds| TimeDelta::seconds(seconds.into()));
    let now = Utc::now();
    let placed_before = now.checked_sub_signed(patience).unwrap_or(now);
    // Whoever reminds begins with those that wait, and keeps no place, because the walk is another.
    let mut place = if remind {
        Some(Place { standing: Standing::Waiting, after: None })
    } else {
        // A place that cannot be read is as good as none.
        let kept = views.place_kept().await?;
        Some(kept.and_then(|kept| serde_json::from_str(&kept).ok()).unwrap_or(Place::START))
    };
    let mut summary = Summary::default();
    while let Some(from) = &place
        && time_left(context) > MARGIN
    {
        let OpenOrders { ids, next } =
            views.open_orders(from.standing, placed_before, from.after.as_deref(), PAGE).await?;
        let look = |id| {
            let looked = look_after(id, patience);
            async move { (id, looked.await) }
        };
        let looked: Vec<_> = stream::iter(ids).map(look).buffer_unordered(AT_ONCE).collect().await;
        for (order_id, outcome) in looked {
            summary.take(order_id, outcome, remind);
        }
        place = from.following(next);
    }
    summary.more = place.is_some();
    if !remind {
        let kept = place.map(|place| serde_json::to_string(&place)).transpose()?;
        views.keep_place(kept.as_deref()).await?;
    }
    let Summary { open, waiting, started, resumed, flagged, failed, more } = summary;
    info!(open, waiting, started, resumed, flagged, failed, more, "orders reconciled");
    // The next run tries again; the alarm on this function's errors rings if there is no end to it.
    if failed == 0 {
        Ok(summary)
    } else {
        Err(format!("{failed} of {open} open orders could not be looked after").into())
    }
}

impl Summary {
    fn take(&mut self, order_id: OrderId, outcome: Result<Looked, LookError>, remind: bool) {
        self.open = self.open.saturating_add(1);
        let (finding, error) = match outcome {
            Ok(Looked { finding, view }) => (finding, view.err()),
            Err(error) => (Finding::Moving, Some(error)),
        };
        if let Some(error) = error {
            warn!(%order_id, error = lambda::chain(&error), "order not reconciled");
            self.failed = self.failed.saturating_add(1);
        }
        let counted = match finding {
            Finding::Moving | Finding::Fine => return,
            Finding::Waiting(attention) => {
                if remind {
                    lambda::order_needs_attention(order_id, &attention);
                }
                &mut self.waiting
            }
            Finding::Started { execution } => {
                // At a level that no setting leaves out: an alarm counts these lines.
                error!(%order_id, execution, "missing execution started");
                &mut self.started
            }
            Finding::Resumed => {
                warn!(%order_id, "the order's execution had died, and it goes on");
                &mut self.resumed
            }
            Finding::Flagged(attention) => {
                lambda::order_needs_attention(order_id, &attention);
                &mut self.flagged
            }
        };
        *counted = counted.saturating_add(1);
    }
}

fn time_left(context: &Context) -> Duration {
    context.deadline().duration_since(SystemTime::now()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Mutex, time::UNIX_EPOCH};

    use adapters::samples::placed_order;
    use application::{
        event_store::StreamId,
        memory::{Fault, MemoryDeadLetters, MemoryOrderViews},
        ports::Failure,
    };
    use domain::{
        order::{Attention, OrderStatus},
        order_view::{AttentionView, OrderView},
    };
    use telemetry::logs::logged;
    use uuid::Uuid;

    use super::*;

    /// Of an invocation that has so much time.
    fn context(time: Duration) -> Context {
        let deadline = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().saturating_add(time);
        let mut context = Context::default();
        context.deadline = u64::try_from(deadline.as_millis()).unwrap();
        context
    }

    /// A view like that which the sample event of `project-orders` makes.
    fn view() -> OrderView {
        let placed = placed_order();
        let (event, at) = (placed.events[0].read().unwrap(), placed.metadata.occurred_at);
        OrderView::evolve(None, OrderId::new(Uuid::new_v4()), &event, 1, at).unwrap()
    }

    fn stuck() -> Attention {
        Attention { step: "process-payment".to_owned(), reason: "RequestRefused".to_owned() }
    }

    async fn place(views: &MemoryOrderViews, waits: bool) -> OrderId {
        let mut view = view();
        if waits {
            let Attention { step, reason } = stuck();
            view.attention = Some(AttentionView { step, reason, interrupted: view.status });
            view.status = OrderStatus::NeedsAttention;
        }
        views.save(&view, None).await.unwrap();
        view.id
    }

    #[tokio::test]
    async fn the_sample_event_asks_for_a_shorter_patience() {
        let event: Reconcile = serde_json::from_str(include_str!("../../../events/reconcile.json")).unwrap();
        assert_eq!((event.patience_seconds, event.remind), (Some(60), false));
    }

    /// 10,000 open orders, 1,000 of them waiting, and a run that has time for a few pages only: as many runs as it takes look
    /// at each order, whatever the number of those that wait, and nobody is called because there were more.
    #[tokio::test]
    async fn every_open_order_is_reached_in_as_many_runs_as_it_takes() {
        let views = MemoryOrderViews::default();
        let mut seen: BTreeMap<OrderId, u32> = BTreeMap::new();
        for number in 0..10_000 {
            seen.insert(place(&views, number % 10 == 0).await, 0);
        }
        let seen = Mutex::new(seen);
        let look_after = async |id, _| {
            *seen.lock().unwrap().get_mut(&id).unwrap() += 1;
            Ok::<_, LookError>(Looked { finding: Finding::Fine, view: Ok(()) })
        };
        // Each run has a moment, whatever that is enough for.
        let run = async || {
            let context = context(MARGIN + Duration::from_millis(100));
            handle(&views, look_after, Reconcile::default(), &context).await.unwrap().more
        };
        let mut runs = 1;
        while run().await {
            runs += 1;
        }
        assert!(runs > 1, "there was time for all, which says nothing");
        assert!(seen.lock().unwrap().values().all(|times| *times == 1), "after {runs} runs");
        assert_eq!(views.place_kept().await.unwrap(), None, "the next run begins anew");
    }

    #[tokio::test]
    async fn what_is_parked_is_told_at_each_run_also_that_there_is_nothing() {
        let now = Utc::now();
        let letters = MemoryDeadLetters::default();
        let park = async |consumer, number: u32, seconds| {
            let failure = Failure { error_type: "Unreadable".to_owned(), error: String::new() };
            let since = now.checked_sub_signed(TimeDelta::seconds(seconds)).unwrap();
            let stream = StreamId::new(format!("order#{number}"));
            letters.park(consumer, &stream, (1, 1), &failure, since).await.unwrap();
        };
        let told = async || figures::written(tell_parked(now, &letters)).await.1;
        let expected =
            |streams, seconds| [Metric::count("ParkedStreams", streams), Metric::plain("ParkedSeconds", seconds)];
        assert_eq!(told().await, expected(0, 0));
        park(Consumer::PublishEvents, 1, -5).await;
        assert_eq!(told().await, expected(1, 0), "a clock that is ahead makes no age");
        park(Consumer::ProjectOrders, 1, 60).await;
        park(Consumer::ProjectOrders, 2, 90_000).await;
        assert_eq!(told().await, expected(3, 90_000));
    }

    /// Half of them would be taken for all.
    #[tokio::test]
    async fn what_cannot_be_counted_is_said_and_not_told() {
        let letters = MemoryDeadLetters::default();
        letters.faults.push_after(1, Fault::BeforeEffect);
        let (((), lines), told) = figures::written(logged(tell_parked(Utc::now(), &letters))).await;
        assert!(told.is_empty(), "{told:?}");
        assert!(lines.iter().any(|line| line.contains("parked streams not counted")), "{lines:?}");
    }

    #[tokio::test]
    async fn who_waits_is_called_for_again_when_asked_to_remind() {
        let views = MemoryOrderViews::default();
        for number in 0..250 {
            place(&views, number < 150).await;
        }
        let look_after = async |_, _| Ok::<_, LookError>(Looked { finding: Finding::Waiting(stuck()), view: Ok(()) });
        let summary =
            handle(&views, look_after, Reconcile { remind: true, ..Reconcile::default() }, &context(MARGIN * 5))
                .await
                .unwrap();
        assert_eq!((summary.open, summary.waiting, summary.more), (150, 150, false));
    }

    #[tokio::test]
    async fn a_person_is_called_also_where_the_view_cannot_be_brought_up() {
        let views = MemoryOrderViews::default();
        let id = place(&views, false).await.to_string();
        let look_after = async |_, _| {
            let error = Unavailable { what: "the order view", source: "it is larger than an item".into() };
            Ok::<_, LookError>(Looked { finding: Finding::Flagged(stuck()), view: Err(error.into()) })
        };
        let context = context(MARGIN * 5);
        let (run, lines) = logged(handle(&views, look_after, Reconcile::default(), &context)).await;
        assert!(run.is_err(), "that the view lags is told as well");
        let calls = lines.iter().filter(|line| line.contains("order needs attention") && line.contains(&id));
        assert_eq!(calls.count(), 1, "{lines:?}");
    }
}
