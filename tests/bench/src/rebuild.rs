//! How fast the read model comes out of the events, and what it costs there and on the way of every day.

use std::{
    slice,
    sync::Arc,
    time::{Duration, Instant},
};

use adapters::dynamodb::{DynamoEventStore, Generation};
use application::{
    event_store::{EventStore, Segment},
    ports::OrderViews,
    project_orders::{ProjectError, project},
    rebuild_orders::{PageFailed, Progress, rebuild_page},
};
use aws_sdk_dynamodb::{
    Client,
    types::{PutRequest, WriteRequest},
};
use serde_json::json;
use tokio::{runtime::Handle, task::JoinSet};

use crate::{
    contest::{Contest, Outcome, print, ratio},
    database::{EVENTS, INDEX, LocalDynamo, ORDERS, Usage, create_orders_table, create_table},
    orders::{self, Load, PastOrder},
};

const ROUNDS: usize = 9;

/// How many work at once, on either side.
const WORKERS: u32 = 4;

/// As many commits as `rebuild-orders` takes at once.
const PAGE: usize = 500;

/// How often a segment may begin a page again.
const REPEATED_MAX: usize = 10;

/// How many orders are weighed; they differ in size.
const WEIGHED: usize = 20;

/// How many orders a customer has who has many.
const MANY: usize = 10_000;

pub(crate) async fn run(orders: usize) {
    let dynamo = LocalDynamo::start().await;
    let commits = orders::load(&dynamo, orders, Load::Events).await;
    speed(&dynamo, orders, commits).await;
    cost(&dynamo, orders, commits).await;
    live(&dynamo, orders).await;
}

async fn speed(dynamo: &LocalDynamo, orders: usize, commits: usize) {
    let client = dynamo.client();
    // Each of these commits holds one event.
    let events = u32::try_from(commits).unwrap();
    rebuild(&client, commits).await;
    let read_model = items(&client, ORDERS).await.into_iter().chain(items(&client, INDEX).await).collect::<Vec<_>>();
    let outcomes = Contest::default()
        .enter("parallel Scan of the events (baseline)", || async {
            let begin = Instant::now();
            scan(&client, commits).await;
            begin.elapsed() / events
        })
        .enter("rebuild_orders::rebuild_page", || async {
            forget_read_model(dynamo);
            let taken = rebuild(&client, commits).await.taken;
            check_counts(client.clone(), orders).await;
            taken / events
        })
        .enter("BatchWriteItem of the read model's items", || async {
            forget_read_model(dynamo);
            let begin = Instant::now();
            write(&client, &read_model).await;
            begin.elapsed() / events
        })
        .run(ROUNDS)
        .await;

    let row = |outcome: &Outcome| {
        let rate = format!("{:.0}", outcome.per_second());
        [outcome.name.to_owned(), rate, ratio(outcome.ratio_of_rates())]
    };
    print(
        &format!("rebuild: {events} events of {orders} orders and their customers, {WORKERS} at once"),
        ["", "events/s", "of the baseline"],
        &outcomes.iter().map(row).collect::<Vec<_>>(),
    );
}

/// What it consumes to read all events, and to write the read model where there is none.
async fn cost(dynamo: &LocalDynamo, orders: usize, commits: usize) {
    let (client, meter) = dynamo.metered_client();
    forget_read_model(dynamo);
    let Rebuilt { scanned, repeated, .. } = rebuild(&client, commits).await;
    let usage = meter.read();
    let row = |(what, units): (&str, f64)| {
        let per = |count: usize| format!("{:.2}", units / f64::from(u32::try_from(count).unwrap()));
        [what.to_owned(), units.to_string(), per(commits), per(orders)]
    };
    let rows = [("read: events", scanned), ("read: all else", usage.read_units - scanned)].into_iter();
    let rows = rows.chain(writes(&usage));
    print(
        &format!("rebuild: what {commits} commits of {orders} orders and their customers consume"),
        ["", "units", "per commit", "per order"],
        &rows.map(row).collect::<Vec<_>>(),
    );
    println!(
        "not among these: {} transactions that others came before, which left {repeated} pages to be repeated",
        usage.refused
    );
}

/// The write units by what they were for, and all of them together.
fn writes(usage: &Usage) -> [(&'static str, f64); 7] {
    let Usage { lists, customers, counts, .. } = *usage;
    [
        ("write: views", usage.written(ORDERS) - lists - customers - counts),
        ("write: lists of customers' orders", lists),
        ("write: customers", customers),
        ("write: counts", counts),
        ("write: index of open orders", usage.written(&format!("{ORDERS}/open-orders"))),
        ("write: index of customers and events", usage.written(INDEX)),
        ("write: all", usage.write_units),
    ]
}

/// What an order costs whose five commits come one after another, as the stream of the table delivers them: on average over
/// the first orders of several customers, and over the next orders of one who has many.
async fn live(dynamo: &LocalDynamo, orders: usize) {
    let store = DynamoEventStore::new(dynamo.loading_client(), EVENTS.to_owned());
    let (metered, meter) = dynamo.metered_client();
    let model = orders::read_model(metered);
    let mut nobody_yet = orders::customers(orders) + 1..;

    meter.read();
    for customer in nobody_yet.by_ref().take(WEIGHED) {
        store.append(&orders::profile(customer)).await.unwrap();
        let order = orders_that_go_well(customer, 0).next().expect("most orders go well");
        place(&store, &model, &order).await;
    }
    let first = meter.read();

    let with_many = nobody_yet.next().expect("numbers do not end");
    store.append(&orders::profile(with_many)).await.unwrap();
    let others = orders::read_model(dynamo.loading_client());
    for number in 0..MANY {
        let order = orders::order_of_customer(number, with_many);
        assert!(project(&store, &others, &order.commits).await.failed.is_empty());
    }
    for order in orders_that_go_well(with_many, MANY).take(WEIGHED) {
        place(&store, &model, &order).await;
    }
    let after_many = meter.read();

    let per_order = |units: f64| format!("{:.1}", units / f64::from(u32::try_from(WEIGHED).unwrap()));
    let all = |usage: &Usage| [("read", usage.read_units)].into_iter().chain(writes(usage));
    let rows = all(&first).zip(all(&after_many));
    print(
        "live: units of the read model for an order of 5 commits",
        ["", "customer's first order", &format!("after {MANY} others")],
        &rows.map(|((what, one), (_, other))| [what.to_owned(), per_order(one), per_order(other)]).collect::<Vec<_>>(),
    );
}

fn orders_that_go_well(customer: usize, from: usize) -> impl Iterator<Item = PastOrder> {
    let orders = (from..).map(move |number| orders::order_of_customer(number, customer));
    orders.filter(|order| {
        order.commits.len() == 5
            && order.commits.iter().flat_map(|commit| &commit.events).any(|event| event.event_type == "OrderConfirmed")
    })
}

async fn place(store: &DynamoEventStore, model: &Generation, order: &PastOrder) {
    for commit in &order.commits {
        store.append(commit).await.unwrap();
        assert!(project(store, model, slice::from_ref(commit)).await.failed.is_empty());
    }
}

/// Reads every commit and looks at none.
async fn scan(client: &Client, commits: usize) {
    let client = client.clone();
    let counts = in_segments(move |segment| {
        let scan = client.scan().table_name(EVENTS).consistent_read(true);
        let (number, of) = (i32::try_from(segment.number).unwrap(), i32::try_from(segment.of).unwrap());
        let mut pages = scan.segment(number).total_segments(of).into_paginator().send();
        async move {
            let mut count = 0;
            while let Some(page) = pages.next().await {
                count += usize::try_from(page.unwrap().count).unwrap();
            }
            count
        }
    });
    assert_eq!(counts.await.into_iter().sum::<usize>(), commits);
}

/// All items of a table, ready to be written again.
async fn items(client: &Client, table: &'static str) -> Vec<(&'static str, WriteRequest)> {
    let items = client.scan().table_name(table).into_paginator().items().send().collect::<Result<Vec<_>, _>>().await;
    let put = |item| PutRequest::builder().set_item(Some(item)).build().unwrap();
    items.unwrap().into_iter().map(|item| (table, WriteRequest::builder().put_request(put(item)).build())).collect()
}

/// Writes items as they are: nothing is read, folded or asked for, and 25 of them are one call.
async fn write(client: &Client, items: &[(&'static str, WriteRequest)]) {
    let batches = items.chunk_by(|(table, _), (next, _)| table == next).flat_map(|of_table| of_table.chunks(25));
    let batches: Vec<Vec<(&str, WriteRequest)>> = batches.map(<[_]>::to_vec).collect();
    let (client, batches) = (client.clone(), Arc::new(batches));
    let written = in_segments(move |segment| {
        let (client, batches) = (client.clone(), Arc::clone(&batches));
        async move {
            let own = batches.iter().skip(usize::try_from(segment.number).unwrap());
            for batch in own.step_by(usize::try_from(segment.of).unwrap()) {
                let (table, _) = batch[0];
                let requests = batch.iter().map(|(_, request)| request.clone()).collect();
                client.batch_write_item().request_items(table, requests).send().await.unwrap();
            }
        }
    });
    written.await;
}

struct Rebuilt {
    taken: Duration,
    /// The read units of the scan.
    scanned: f64,
    /// How many pages were begun again.
    repeated: usize,
}

/// All segments at once, as the operator's tool has them done.
async fn rebuild(client: &Client, commits: usize) -> Rebuilt {
    let begin = Instant::now();
    let client = client.clone();
    let done = in_segments(move |segment| {
        let store = DynamoEventStore::new(client.clone(), EVENTS.to_owned());
        let model = orders::read_model(client.clone());
        async move {
            let (mut progress, mut repeated) = (Progress::default(), 0);
            while !progress.done {
                match rebuild_page(&store, &model, segment, progress.clone(), PAGE).await {
                    Ok(further) => progress = further,
                    // Too many at once were at the same customer's tree. Whoever rebuilds goes on where that was.
                    Err(PageFailed { error: ProjectError::Unavailable(error), .. }) => {
                        assert!(repeated < REPEATED_MAX, "{error}: {:?}", error.source);
                        repeated += 1;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            (progress, repeated)
        }
    });
    let (done, repeated): (Vec<Progress>, Vec<usize>) = done.await.into_iter().unzip();
    assert_eq!(done.iter().map(|progress| progress.events).sum::<u64>(), u64::try_from(commits).unwrap());
    Rebuilt {
        taken: begin.elapsed(),
        scanned: done.iter().map(|progress| progress.read_units).sum(),
        repeated: repeated.iter().sum(),
    }
}

/// Each segment on a thread of its own, as it would be in a function of its own.
async fn in_segments<F: Future<Output: Send + 'static>>(
    work: impl Fn(Segment) -> F + Clone + Send + 'static,
) -> Vec<F::Output> {
    let mut workers = JoinSet::new();
    for number in 0..WORKERS {
        let (work, runtime) = (work.clone(), Handle::current());
        workers.spawn_blocking(move || runtime.block_on(work(Segment { number, of: WORKERS })));
    }
    workers.join_all().await
}

/// Fails when an order is not there.
async fn check_counts(client: Client, orders: usize) {
    let counts = orders::read_model(client).views.count().await.unwrap();
    assert_eq!(counts.values().sum::<u64>(), u64::try_from(orders).unwrap());
}

fn forget_read_model(dynamo: &LocalDynamo) {
    for table in [ORDERS, INDEX] {
        dynamo.database.delete_table(serde_json::from_value(json!({"TableName": table})).unwrap()).unwrap();
    }
    create_orders_table(&dynamo.database);
    create_table(&dynamo.database, INDEX, "term", Some(("place", "S")));
}
