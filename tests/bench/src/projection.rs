//! How fast the order view comes out of the events.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use adapters::dynamodb::{DynamoEventStore, DynamoOrderViews};
use application::{event_store::Commit, project_orders};
use aws_sdk_dynamodb::Client;
use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    contest::{Contest, Outcome, print, ratio},
    database::{EVENTS, LocalDynamo, ORDERS, create_orders_table},
    orders::{self, Load},
};

const ROUNDS: usize = 5;

/// How many work at once, on either side.
const WORKERS: usize = 4;

pub(crate) async fn run(orders: usize) {
    let dynamo = LocalDynamo::start().await;
    let commits = orders::load(&dynamo, orders, Load::Events).await;
    let client = dynamo.client();
    // Each of these commits holds one event.
    let events = u32::try_from(commits).unwrap();

    // What makes the view anew in another way comes in here: one more entrant, that begins without views as well.
    let outcomes = Contest::default()
        .enter("parallel Scan of the events (baseline)", || async {
            let begin = Instant::now();
            scan(&client, commits).await;
            begin.elapsed() / events
        })
        .enter("project_orders::project", || async {
            forget_views(&dynamo);
            let taken = project_everything(&client, orders).await;
            assert_eq!(count_views(&dynamo), orders);
            taken / events
        })
        .run(ROUNDS)
        .await;

    let row = |outcome: &Outcome| {
        let rate = format!("{:.0}", outcome.per_second());
        [outcome.name.to_owned(), rate, ratio(outcome.ratio_of_rates())]
    };
    print(
        &format!("projection: {events} events of {orders} orders, {WORKERS} at once"),
        ["", "events/s", "of the baseline"],
        &outcomes.iter().map(row).collect::<Vec<_>>(),
    );
}

/// Reads every commit and looks at none.
async fn scan(client: &Client, commits: usize) {
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let scan = client.scan().table_name(EVENTS).consistent_read(true);
        let segment = scan.segment(i32::try_from(worker).unwrap()).total_segments(i32::try_from(WORKERS).unwrap());
        let mut pages = segment.into_paginator().send();
        workers.spawn(async move {
            let mut count = 0;
            while let Some(page) = pages.next().await {
                count += usize::try_from(page.unwrap().count).unwrap();
            }
            count
        });
    }
    assert_eq!(workers.join_all().await.into_iter().sum::<usize>(), commits);
}

/// Commit by commit in the order of each stream, as the stream of the table delivers them.
async fn project_everything(client: &Client, orders: usize) -> Duration {
    let store = Arc::new(DynamoEventStore::new(client.clone(), EVENTS.to_owned()));
    let views = Arc::new(DynamoOrderViews::new(client.clone(), ORDERS.to_owned()));
    let commits: Vec<Vec<Commit>> =
        (0..WORKERS).map(|worker| orders::streams(orders, worker, WORKERS).flatten().collect()).collect();
    let begin = Instant::now();
    let mut workers = JoinSet::new();
    for commits in commits {
        let (store, views) = (Arc::clone(&store), Arc::clone(&views));
        workers.spawn(async move {
            for commit in &commits {
                project_orders::project(&*store, &*views, commit).await.unwrap();
            }
        });
    }
    workers.join_all().await;
    begin.elapsed()
}

fn forget_views(dynamo: &LocalDynamo) {
    dynamo.database.delete_table(serde_json::from_value(json!({"TableName": ORDERS})).unwrap()).unwrap();
    create_orders_table(&dynamo.database);
}

fn count_views(dynamo: &LocalDynamo) -> usize {
    let tables = dynamo.database.table_stats().unwrap();
    let views = tables.iter().find(|table| table.table_name == ORDERS).unwrap();
    usize::try_from(views.item_count).unwrap()
}
