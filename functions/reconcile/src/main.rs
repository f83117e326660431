//! Every few minutes → looks after each open order that nobody works on any more.
//!
//! What it does with one order is [`application::reconcile::reconcile`]. An operator may call it with a shorter patience.

use std::time::Duration;

use adapters::{
    aws,
    dynamodb::{DynamoEventStore, DynamoInventory, DynamoPayments, DynamoReadModel, DynamoShipping},
    lambda,
    step_functions::StateMachine,
};
use application::{
    ports::{OpenOrders, OrderViews},
    reconcile::{Finding, PATIENCE, reconcile},
};
use aws_sdk_dynamodb::Client;
use chrono::{TimeDelta, Utc};
use lambda_runtime::{Context, LambdaEvent, service_fn};
use serde::{Deserialize, Serialize};
use tracing::{Instrument, info, warn};

/// About how many orders one run looks at, twice: so many that are under way, and so many that wait for a person.
const ORDERS_MAX: usize = 1_000;

/// A run ends this long before its time is up, so that its last order is not left half looked at.
const MARGIN: Duration = Duration::from_secs(30);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init_logs();
    let settings = aws::config().await;
    let client = Client::new(&settings);
    let store = DynamoEventStore::new(client.clone(), lambda::variable("EVENTS_TABLE")?);
    let model =
        DynamoReadModel::new(client.clone(), lambda::variable("ORDERS_TABLE")?, lambda::variable("INDEX_TABLE")?);
    let payments = DynamoPayments::new(client.clone(), lambda::variable("PAYMENTS_TABLE")?);
    let inventory = DynamoInventory::new(client.clone(), lambda::variable("INVENTORY_TABLE")?);
    let shipping = DynamoShipping::new(client, lambda::variable("SHIPMENTS_TABLE")?);
    let machine = StateMachine::new(aws_sdk_sfn::Client::new(&settings), lambda::variable("FULFILMENT_ARN")?);
    let look_after = async |id, patience| {
        reconcile(&store, (&payments, &inventory, &shipping), &machine, id, patience, Utc::now()).await
    };
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Reconcile>| {
        let span = lambda::invocation_span(&event.context);
        async {
            let live = model.live().await?;
            Box::pin(handle(&live.views, look_after, event.payload, &event.context)).await
        }
        .instrument(span)
        .await
    }))
    .await
}

/// The schedule sends an event of its own, of which nothing is needed.
#[derive(Debug, Deserialize)]
struct Reconcile {
    patience_seconds: Option<u32>,
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
    /// Those for which there was no time.
    left: usize,
    /// There are others that this run has not even seen.
    more: bool,
}

async fn handle<E: std::error::Error + 'static>(
    views: &impl OrderViews,
    look_after: impl AsyncFn(domain::ids::OrderId, TimeDelta) -> Result<Finding, E>,
    Reconcile { patience_seconds }: Reconcile,
    context: &Context,
) -> Result<Summary, lambda_runtime::Error> {
    let patience = patience_seconds.map_or(PATIENCE, |seconds| TimeDelta::seconds(seconds.into()));
    let now = Utc::now();
    let placed_before = now.checked_sub_signed(patience).unwrap_or(now);
    let OpenOrders { ids, more } = views.open_orders(placed_before, ORDERS_MAX).await?;
    let mut summary = Summary { open: ids.len(), left: ids.len(), more, ..Summary::default() };
    for order_id in ids {
        if time_left(context) < MARGIN {
            break;
        }
        summary.left = summary.left.saturating_sub(1);
        let counted = match look_after(order_id, patience).await {
            Ok(Finding::Fine) => continue,
            Ok(Finding::Waiting) => &mut summary.waiting,
            Ok(Finding::Started { execution }) => {
                warn!(%order_id, execution, "missing execution started");
                &mut summary.started
            }
            Ok(Finding::Resumed) => {
                warn!(%order_id, "the providers know more than the order, which goes on");
                &mut summary.resumed
            }
            Ok(Finding::Flagged(attention)) => {
                lambda::order_needs_attention(order_id, &attention);
                &mut summary.flagged
            }
            Err(error) => {
                warn!(%order_id, error = lambda::chain(&error), "order not reconciled");
                &mut summary.failed
            }
        };
        *counted = counted.saturating_add(1);
    }
    let Summary { open, waiting, started, resumed, flagged, failed, left, more } = summary;
    info!(open, waiting, started, resumed, flagged, failed, left, more, "orders reconciled");
    // The next run goes on; the alarm on this function's errors rings if there is no end to it.
    if failed == 0 && left == 0 && !more {
        Ok(summary)
    } else {
        Err(format!("{failed} of {open} open orders could not be looked after, {left} and perhaps more are left")
            .into())
    }
}

fn time_left(context: &Context) -> Duration {
    context.deadline().duration_since(std::time::SystemTime::now()).unwrap_or_default()
}
