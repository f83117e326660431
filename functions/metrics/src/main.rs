//! `GET /metrics`: the service's figures, as Prometheus reads them.
//!
//! 200, also when a part of them cannot be had: that part is left out, and `scrape_errors` says so. 403 for customers: how
//! many orders a business has is nobody else's concern.

mod exposition;

use std::{collections::BTreeMap, fmt::Display, time::Duration};

use adapters::{
    app_config, aws,
    dynamodb::{DynamoCounters, DynamoDeadLetters, DynamoProcesses, DynamoReadModel},
    http::{self, ApiRequest, Problem},
    lambda,
    limits::Limiter,
    sqs::named_urls,
};
use application::{
    event_store::Unavailable,
    figures::STEPS,
    limits::Class,
    ports::{Backlog, Cache, Consumer, Counter, Counters, DeadLetters, Histogram, OrderViews, Process, Processes},
};
use aws_sdk_sqs::types::QueueAttributeName::ApproximateNumberOfMessages;
use chrono::{DateTime, Utc};
use domain::order::{OrderStatus, RejectionReason};
use exposition::{CONTENT_TYPE, Exposition};
use lambda_http::{Body, Response};
use tokio::time::timeout;
use tracing::warn;

/// How long a source may take, all its calls together. The function has 10 s, and Prometheus waits as long.
const PATIENCE: Duration = Duration::from_secs(8);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let config = aws::config();
    let client = aws_sdk_dynamodb::Client::new(&config);
    let limiter = Limiter::of_process(&client, app_config::settings_without_secrets(&config)?, "metrics").await?;
    let counters = DynamoCounters::new(client.clone(), lambda::variable("COUNTERS_TABLE")?, "metrics");
    let processes = DynamoProcesses::new(client.clone(), lambda::variable("COUNTERS_TABLE")?);
    let letters = DynamoDeadLetters::new(client.clone(), lambda::variable("DEAD_LETTERS_TABLE")?);
    let model = DynamoReadModel::new(client, lambda::variable("ORDERS_TABLE")?, lambda::variable("INDEX_TABLE")?);
    let sqs = aws_sdk_sqs::Client::new(&config);
    let queues = named_urls(&lambda::variable("DEAD_LETTER_QUEUES")?)?;
    http::run(&limiter, async |request| {
        let orders = async { model.live().await?.views.count().await };
        let processes = processes.read(request.now);
        let parked = parked(request.now, &letters);
        // Boxed, as in `http::run`.
        Box::pin(handle(request, orders, counters.read(), processes, dead_letters(&sqs, &queues), parked)).await
    })
    .await
}

/// A queue: what it is called here, and its URL.
type Queue = (String, String);

/// Asks every source at once, once it is clear that the caller may know.
async fn handle(
    request: ApiRequest,
    orders: impl Future<Output = Result<BTreeMap<OrderStatus, u64>, Unavailable>>,
    counters: impl Future<Output = Result<BTreeMap<String, u64>, Unavailable>>,
    processes: impl Future<Output = Result<Vec<Process>, Unavailable>>,
    dead_letters: impl Future<Output = Result<Vec<(&str, u64)>, Unavailable>>,
    parked: impl Future<Output = Result<Vec<Parked>, Unavailable>>,
) -> Result<Response<Body>, Problem> {
    request.staff_or_metrics()?;
    let (orders, counters, processes, dead_letters, parked) = tokio::join!(
        ask("orders", orders),
        ask("counters", counters),
        ask("processes", processes),
        ask("dead_letters", dead_letters),
        ask("parked", parked)
    );
    respond(orders.as_ref(), counters.as_ref(), processes.as_deref(), dead_letters.as_deref(), parked.as_deref())
}

async fn ask<T>(source: &str, question: impl Future<Output = Result<T, Unavailable>>) -> Option<T> {
    match timeout(PATIENCE, question).await {
        Ok(Ok(answer)) => Some(answer),
        Ok(Err(error)) => {
            warn!(source, error = lambda::chain(&error), "figures cannot be had");
            None
        }
        Err(_) => {
            warn!(source, "figures did not come in time");
            None
        }
    }
}

/// How many messages lie in each queue.
async fn dead_letters<'q>(sqs: &aws_sdk_sqs::Client, queues: &'q [Queue]) -> Result<Vec<(&'q str, u64)>, Unavailable> {
    let unavailable = |source| Unavailable { what: "a dead-letter queue", source };
    let mut counts = Vec::with_capacity(queues.len());
    for (name, url) in queues {
        let ask = sqs.get_queue_attributes().queue_url(url).attribute_names(ApproximateNumberOfMessages);
        let attributes = ask.send().await.map_err(|error| unavailable(error.into()))?.attributes.unwrap_or_default();
        let count = attributes.get(&ApproximateNumberOfMessages).and_then(|count| count.parse().ok());
        counts.push((name.as_str(), count.ok_or_else(|| unavailable("it does not say how much it holds".into()))?));
    }
    Ok(counts)
}

/// How many streams a consumer has parked, and for how long the oldest of them waits.
#[derive(Debug, PartialEq, Eq)]
struct Parked {
    consumer: &'static str,
    streams: u64,
    oldest_seconds: u64,
}

async fn parked(now: DateTime<Utc>, letters: &impl DeadLetters) -> Result<Vec<Parked>, Unavailable> {
    let mut parked = Vec::with_capacity(Consumer::ALL.len());
    for consumer in Consumer::ALL {
        let Backlog { number: streams, oldest } = letters.backlog(consumer).await?;
        let waits = oldest.map(|oldest| now.signed_duration_since(oldest).num_seconds());
        // Clocks of processes differ a little.
        let oldest_seconds = waits.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or_default();
        parked.push(Parked { consumer: consumer.name(), streams, oldest_seconds });
    }
    Ok(parked)
}

fn respond(
    orders: Option<&BTreeMap<OrderStatus, u64>>,
    counters: Option<&BTreeMap<String, u64>>,
    processes: Option<&[Process]>,
    dead_letters: Option<&[(&str, u64)]>,
    parked: Option<&[Parked]>,
) -> Result<Response<Body>, Problem> {
    let mut text = Exposition::default();
    if let Some(orders) = orders {
        text.family("orders", "gauge", "Orders by status.");
        for status in OrderStatus::ALL {
            let count = orders.get(&status).copied().unwrap_or_default();
            text.sample("orders", &[("status", status.name())], count);
        }
    }
    if let Some(counters) = counters {
        tell_counters(&mut text, counters);
    }
    if let Some(processes) = processes {
        tell_processes(&mut text, processes);
    }
    if let Some(dead_letters) = dead_letters {
        text.family("dead_letters", "gauge", "Messages that were given up, by the queue where they lie.");
        for (queue, count) in dead_letters {
            text.sample("dead_letters", &[("queue", queue)], count);
        }
    }
    if let Some(parked) = parked {
        tell_parked(&mut text, parked);
    }
    text.family("scrape_errors", "gauge", "1 for a source whose figures are left out of this answer.");
    let sources = [
        ("orders", orders.is_none()),
        ("counters", counters.is_none()),
        ("processes", processes.is_none()),
        ("dead_letters", dead_letters.is_none()),
        ("parked", parked.is_none()),
    ];
    for (source, is_left_out) in sources {
        text.sample("scrape_errors", &[("source", source)], u8::from(is_left_out));
    }
    http::response(200, CONTENT_TYPE, text.into_text())
}

/// What functions have counted since the service began.
fn tell_counters(text: &mut Exposition, counters: &BTreeMap<String, u64>) {
    let count = |counter: Counter| counters.get(&counter.name()).copied().unwrap_or_default();
    text.family("cache_requests_total", "counter", "Looks into a cache, by what came of them.");
    for cache in Cache::ALL {
        for (result, counter) in [("hit", Counter::Hits(cache)), ("miss", Counter::Misses(cache))] {
            text.sample("cache_requests_total", &[("cache", cache.name()), ("result", result)], count(counter));
        }
    }
    text.family("rate_limited_requests_total", "counter", "Requests over a limit of their caller's, by the limit.");
    for class in Class::ALL {
        text.sample("rate_limited_requests_total", &[("class", class.name())], count(Counter::RateLimited(class)));
    }
    text.family("rate_limit_failures_total", "counter", "Requests let through because a limit could not be asked.");
    text.sample("rate_limit_failures_total", &[], count(Counter::RateLimitFailures));
    text.family("orders_placed_total", "counter", "Orders that were placed.");
    text.sample("orders_placed_total", &[], count(Counter::OrdersPlaced));
    text.family("orders_confirmed_total", "counter", "Orders that were confirmed.");
    text.sample("orders_confirmed_total", &[], count(Counter::Count(Histogram::OrderConfirmation)));
    text.family("orders_rejected_total", "counter", "Orders that were rejected, by the code of the reason.");
    for reason in RejectionReason::CODES {
        text.sample("orders_rejected_total", &[("reason", reason)], count(Counter::OrdersRejected(reason)));
    }
    text.family("orders_cancelled_total", "counter", "Orders that were cancelled and undone.");
    text.sample("orders_cancelled_total", &[], count(Counter::OrdersCancelled));
    text.family("orders_flagged_total", "counter", "Calls for a person, by the step that was given up.");
    for step in STEPS {
        text.sample("orders_flagged_total", &[("step", step)], count(Counter::OrdersFlagged(step)));
    }
    let currencies = Counter::currencies(counters);
    text.family("refunds_total", "counter", "Times that money went back to a customer.");
    for currency in &currencies {
        text.sample("refunds_total", &[("currency", currency.code())], count(Counter::Refunds(*currency)));
    }
    text.family("refunded_minor_units_total", "counter", "Money that went back, in minor units.");
    for currency in &currencies {
        let amount = count(Counter::RefundedMinorUnits(*currency));
        text.sample("refunded_minor_units_total", &[("currency", currency.code())], amount);
    }
    let times = |text: &mut Exposition, name: &str, times: Histogram| {
        let parts = times.bounds().iter().map(|bound| (*bound, count(Counter::Within(times, *bound))));
        let sum = Duration::from_millis(count(Counter::Sum(times)));
        text.histogram(name, parts, count(Counter::Count(times)), sum);
    };
    text.family("order_confirmation_seconds", "histogram", "Time from an order's placing to its confirmation.");
    times(text, "order_confirmation_seconds", Histogram::OrderConfirmation);
    text.family("projection_lag_seconds", "histogram", "Time from an event to the views that show it.");
    times(text, "projection_lag_seconds", Histogram::ProjectionLag);
}

fn tell_parked(text: &mut Exposition, parked: &[Parked]) {
    text.family("parked_streams", "gauge", "Streams of orders and customers that a consumer has set aside.");
    for Parked { consumer, streams, .. } in parked {
        text.sample("parked_streams", &[("consumer", consumer)], streams);
    }
    text.family("parked_oldest_seconds", "gauge", "For how long the oldest of them waits, 0 where there is none.");
    for Parked { consumer, oldest_seconds, .. } in parked {
        text.sample("parked_oldest_seconds", &[("consumer", consumer)], oldest_seconds);
    }
}

/// What the processes of each function have used that have reported it within a day: of each figure, that of the process where it
/// is worst.
fn tell_processes(text: &mut Exposition, processes: &[Process]) {
    let mut functions = BTreeMap::<&str, Vec<&Process>>::new();
    for process in processes {
        functions.entry(&process.function).or_default().push(process);
    }
    let functions = &functions;
    text.family("processes", "gauge", "Processes that have reported within a day.");
    for (&function, processes) in functions {
        text.sample("processes", &[("function", function)], processes.len());
    }
    text.family("process_memory_bytes", "gauge", "The most memory that a process has used.");
    tell(text, "process_memory_bytes", functions, |processes| most(processes, |process| process.memory_bytes));
    text.family("process_memory_limit_bytes", "gauge", "As much memory as a process may use.");
    tell(text, "process_memory_limit_bytes", functions, |processes| {
        most(processes, |process| process.memory_limit_bytes)
    });
    text.family("process_cpu_seconds", "gauge", "The most time of processors that a process has used.");
    tell(text, "process_cpu_seconds", functions, |processes| {
        Duration::from_millis(most(processes, |process| process.cpu_ms)).as_secs_f64()
    });
    text.family("process_tmp_used_bytes", "gauge", "The most space in /tmp that a process has found used.");
    tell(text, "process_tmp_used_bytes", functions, |processes| most(processes, |process| process.tmp_used_bytes));
    text.family("process_tmp_free_bytes", "gauge", "The least space in /tmp that a process has found free.");
    tell(text, "process_tmp_free_bytes", functions, |processes| least(processes, |process| process.tmp_free_bytes));
    text.family("process_oldest_start_time_seconds", "gauge", "When the oldest process began, since 1970.");
    tell(text, "process_oldest_start_time_seconds", functions, |processes| {
        least(processes, |process| process.started_at)
    });
    text.family("process_newest_start_time_seconds", "gauge", "When the newest process began, since 1970.");
    tell(text, "process_newest_start_time_seconds", functions, |processes| {
        most(processes, |process| process.started_at)
    });
}

fn tell<F: Display>(
    text: &mut Exposition,
    name: &str,
    functions: &BTreeMap<&str, Vec<&Process>>,
    figure: impl Fn(&[&Process]) -> F,
) {
    for (&function, processes) in functions {
        text.sample(name, &[("function", function)], figure(processes));
    }
}

fn most(processes: &[&Process], figure: impl Fn(&Process) -> u64) -> u64 {
    processes.iter().map(|process| figure(process)).max().unwrap_or_default()
}

fn least(processes: &[&Process], figure: impl Fn(&Process) -> u64) -> u64 {
    processes.iter().map(|process| figure(process)).min().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use application::{
        event_store::StreamId,
        figures::Figure,
        memory::{Fault, MemoryCounters, MemoryDeadLetters, MemoryOrderViews, MemoryProcesses},
        ports::Failure,
    };
    use chrono::TimeDelta;
    use domain::money::{Currency, Money};
    use uuid::Uuid;

    use super::*;

    const SAMPLE: &str = include_str!("../../../events/metrics.json");

    fn request(event: &str) -> ApiRequest {
        ApiRequest::from_event(event, Utc::now()).unwrap()
    }

    fn text(answer: Response<Body>) -> String {
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["content-type"]),
            (200, &CONTENT_TYPE.parse().unwrap())
        );
        let Body::Text(text) = answer.into_body() else { panic!("not text") };
        text
    }

    /// Has something of everything counted.
    async fn count(counters: &MemoryCounters) {
        let yen = Money::new(1_999, Currency::parse("JPY").unwrap()).unwrap();
        let figures = [
            Figure::OrderPlaced,
            Figure::OrderConfirmed(Duration::from_millis(1_500)),
            Figure::OrderConfirmed(Duration::from_hours(1)),
            Figure::OrderRejected("out_of_stock"),
            Figure::OrderFlagged("process-payment"),
            Figure::Refunded(yen),
            Figure::CommitProjected(Duration::from_millis(250)),
            Figure::CommitProjected(Duration::from_secs(1)),
        ];
        let counted = [
            (Counter::Hits(Cache::Etag), 7),
            (Counter::Misses(Cache::Events), 2),
            (Counter::RateLimited(Class::Searches), 5),
            (Counter::RateLimitFailures, 6),
        ];
        for (counter, amount) in figures.into_iter().flat_map(Figure::counts).chain(counted) {
            counters.add(&[(counter.name(), amount)]).await.unwrap();
        }
    }

    /// Has processes of two functions report: two of one, each of which is worse in something, and one of the other.
    async fn report(processes: &MemoryProcesses, now: DateTime<Utc>) {
        let process = |function: &str, started_at, [memory_mb, cpu_ms, tmp_used_mb]: [u64; 3]| Process {
            function: function.to_owned(),
            instance: Uuid::new_v4(),
            started_at,
            memory_limit_bytes: 256 << 20,
            memory_bytes: memory_mb << 20,
            cpu_ms,
            tmp_used_bytes: tmp_used_mb << 20,
            tmp_free_bytes: 512_u64.saturating_sub(tmp_used_mb) << 20,
        };
        let reports = [
            process("validate-order", 1_767_225_600, [20, 80, 0]),
            process("create-order", 1_767_225_700, [24, 2_500, 0]),
            process("create-order", 1_767_225_800, [32, 400, 1]),
        ];
        for report in reports {
            processes.report(&report, now).await.unwrap();
        }
    }

    async fn park(letters: &MemoryDeadLetters, consumer: Consumer, number: u32, since: DateTime<Utc>) {
        let failure = Failure { error_type: "Unreadable".to_owned(), error: String::new() };
        letters.park(consumer, &StreamId::new(format!("order#{number}")), (1, 1), &failure, since).await.unwrap();
    }

    #[tokio::test]
    async fn the_sample_tells_every_family_also_of_what_there_is_none() {
        let (views, counters, processes) =
            (MemoryOrderViews::default(), MemoryCounters::default(), MemoryProcesses::default());
        let request = request(SAMPLE);
        count(&counters).await;
        report(&processes, request.now).await;
        let queues = ready(Ok(vec![("fulfilment", 4)]));
        let processes = processes.read(request.now);
        let letters = MemoryDeadLetters::default();
        park(&letters, Consumer::ProjectOrders, 1, request.now).await;
        park(&letters, Consumer::ProjectOrders, 2, request.now.checked_sub_signed(TimeDelta::hours(1)).unwrap()).await;
        let parked = parked(request.now, &letters);
        let told = text(handle(request, views.count(), counters.read(), processes, queues, parked).await.unwrap());
        let samples: Vec<&str> = told.lines().filter(|line| !line.starts_with('#')).collect();
        let expected: Vec<&str> = include_str!("samples.golden.txt").lines().collect();
        assert_eq!(samples, expected);
    }

    #[test]
    fn orders_are_told_by_their_status() {
        let orders = BTreeMap::from([(OrderStatus::Confirmed, 12), (OrderStatus::NeedsAttention, 1)]);
        let told = text(respond(Some(&orders), None, None, None, None).unwrap());
        for line in [r#"{status="confirmed"} 12"#, r#"{status="needs_attention"} 1"#, r#"{status="paid"} 0"#] {
            assert!(told.contains(&format!("order_service_orders{line}\n")), "{told}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_had_is_left_out_and_the_rest_is_told() {
        let counters = MemoryCounters::default();
        let down = || Unavailable { what: "a dead-letter queue", source: "it is down".into() };
        let answer =
            handle(request(SAMPLE), pending(), counters.read(), pending(), ready(Err(down())), ready(Err(down())));
        let told = text(answer.await.unwrap());
        let sources = [("orders", 1), ("counters", 0), ("processes", 1), ("dead_letters", 1), ("parked", 1)];
        for (source, is_left_out) in sources {
            let line = format!("order_service_scrape_errors{{source=\"{source}\"}} {is_left_out}\n");
            assert!(told.contains(&line), "{told}");
        }
        assert!(told.contains("order_service_cache_requests_total{"));
        for left_out in
            ["order_service_orders{", "order_service_process", "order_service_dead_letters", "order_service_parked"]
        {
            assert!(!told.contains(left_out), "{told}");
        }
    }

    /// The figures of both consumers, or of none: half of them would be taken for all.
    #[tokio::test]
    async fn what_is_parked_is_told_of_every_consumer_or_not_at_all() {
        let (now, letters) = (Utc::now(), MemoryDeadLetters::default());
        letters.faults.push_after(1, Fault::BeforeEffect);
        parked(now, &letters).await.unwrap_err();
        let ahead = now.checked_add_signed(TimeDelta::seconds(5)).unwrap();
        for consumer in Consumer::ALL {
            park(&letters, consumer, 1, ahead).await;
        }
        let told = parked(now, &letters).await.unwrap();
        assert!(told.iter().all(|parked| parked.oldest_seconds == 0), "a clock that is ahead makes no age: {told:?}");
        assert_eq!(told.len(), Consumer::ALL.len());
    }

    #[tokio::test]
    async fn a_customer_is_refused_before_anything_is_asked() {
        let unasked = async { panic!("asked for a customer") };
        let customer = request(&SAMPLE.replace("orders/metrics", ""));
        let counters = MemoryCounters::default();
        let (processes, letters, parked) = (ready(Ok(vec![])), ready(Ok(vec![])), ready(Ok(vec![])));
        let answer = handle(customer, unasked, counters.read(), processes, letters, parked).await;
        assert_eq!(answer.unwrap_err().status, 403);
    }

    #[test]
    fn a_list_of_queues_that_is_none_is_found_out_at_the_start() {
        let two = named_urls("a=http://localhost/1?x=y b=http://localhost/2").unwrap();
        assert_eq!(two[0], ("a".to_owned(), "http://localhost/1?x=y".to_owned()));
        assert_eq!(two.len(), 2);
        assert!(named_urls("http://localhost/1").is_err());
    }

    #[tokio::test]
    async fn hostile_events_are_answered() {
        let (views, counters) = (MemoryOrderViews::default(), MemoryCounters::default());
        http::hostile::is_answered(
            SAMPLE,
            |request| {
                let (processes, letters, parked) = (ready(Ok(vec![])), ready(Ok(vec![])), ready(Ok(vec![])));
                handle(request, views.count(), counters.read(), processes, letters, parked)
            },
            || (),
        )
        .await;
    }
}
