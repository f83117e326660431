//! `GET /metrics`: the service's figures, as Prometheus reads them.
//!
//! 200, also when a part of them cannot be had: that part is left out, and `scrape_errors` says so. 403 for customers: how
//! many orders a business has is nobody else's concern.

mod exposition;

use std::{collections::BTreeMap, time::Duration};

use adapters::{
    app_config, aws,
    dynamodb::{DynamoCounters, DynamoReadModel},
    http::{self, ApiRequest, Problem},
    lambda,
    limits::Limiter,
};
use application::{
    event_store::Unavailable,
    limits::Class,
    ports::{Cache, Counter, Counters, OrderViews},
};
use aws_sdk_sqs::types::QueueAttributeName::ApproximateNumberOfMessages;
use domain::order::OrderStatus;
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
    let model = DynamoReadModel::new(client, lambda::variable("ORDERS_TABLE")?, lambda::variable("INDEX_TABLE")?);
    let sqs = aws_sdk_sqs::Client::new(&config);
    let queues = queues(&lambda::variable("DEAD_LETTER_QUEUES")?)?;
    http::run(&limiter, async |request| {
        let orders = async { model.live().await?.views.count().await };
        // Boxed, as in `http::run`.
        Box::pin(handle(request, orders, counters.read(), dead_letters(&sqs, &queues))).await
    })
    .await
}

/// A queue: what it is called here, and its URL.
type Queue = (String, String);

#[derive(Debug, thiserror::Error)]
#[error("the environment variable DEAD_LETTER_QUEUES is not a list of name=URL")]
struct NoQueues;

fn queues(setting: &str) -> Result<Vec<Queue>, NoQueues> {
    let queue = |one: &str| one.split_once('=').map(|(name, url)| (name.to_owned(), url.to_owned()));
    setting.split_whitespace().map(|one| queue(one).ok_or(NoQueues)).collect()
}

/// Asks every source at once, once it is clear that the caller may know.
async fn handle(
    request: ApiRequest,
    orders: impl Future<Output = Result<BTreeMap<OrderStatus, u64>, Unavailable>>,
    counters: impl Future<Output = Result<BTreeMap<String, u64>, Unavailable>>,
    dead_letters: impl Future<Output = Result<Vec<(&str, u64)>, Unavailable>>,
) -> Result<Response<Body>, Problem> {
    request.staff_or_metrics()?;
    let (orders, counters, dead_letters) =
        tokio::join!(ask("orders", orders), ask("counters", counters), ask("dead_letters", dead_letters));
    respond(orders.as_ref(), counters.as_ref(), dead_letters.as_deref())
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

fn respond(
    orders: Option<&BTreeMap<OrderStatus, u64>>,
    counters: Option<&BTreeMap<String, u64>>,
    dead_letters: Option<&[(&str, u64)]>,
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
        text.family("projection_lag_seconds", "summary", "Time from an event to the views that show it.");
        let lag = Duration::from_millis(count(Counter::ProjectionLag));
        text.sample("projection_lag_seconds_sum", &[], lag.as_secs_f64());
        text.sample("projection_lag_seconds_count", &[], count(Counter::CommitsProjected));
    }
    if let Some(dead_letters) = dead_letters {
        text.family("dead_letters", "gauge", "Messages that were given up, by the queue where they lie.");
        for (queue, count) in dead_letters {
            text.sample("dead_letters", &[("queue", queue)], count);
        }
    }
    text.family("scrape_errors", "gauge", "1 for a source whose figures are left out of this answer.");
    let sources =
        [("orders", orders.is_none()), ("counters", counters.is_none()), ("dead_letters", dead_letters.is_none())];
    for (source, is_left_out) in sources {
        text.sample("scrape_errors", &[("source", source)], u8::from(is_left_out));
    }
    let answer = http::response(200, CONTENT_TYPE, text.into_text())?;
    Ok(http::with_header(answer, "cache-control", "no-store"))
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use application::memory::{MemoryCounters, MemoryOrderViews};

    use super::*;

    const SAMPLE: &str = include_str!("../../../events/metrics.json");

    fn request(event: &str) -> ApiRequest {
        ApiRequest::from_event(event, chrono::Utc::now()).unwrap()
    }

    fn text(answer: Response<Body>) -> String {
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["content-type"]),
            (200, &CONTENT_TYPE.parse().unwrap())
        );
        let Body::Text(text) = answer.into_body() else { panic!("not text") };
        text
    }

    #[tokio::test]
    async fn the_sample_tells_every_family_also_of_what_there_is_none() {
        let (views, counters) = (MemoryOrderViews::default(), MemoryCounters::default());
        let counted = [
            (Counter::Hits(Cache::Etag), 7),
            (Counter::Misses(Cache::Events), 2),
            (Counter::CommitsProjected, 3),
            (Counter::ProjectionLag, 1_250),
            (Counter::RateLimited(Class::Searches), 5),
            (Counter::RateLimitFailures, 6),
        ];
        counters.add(&counted.map(|(counter, amount)| (counter.name(), amount))).await.unwrap();
        let queues = ready(Ok(vec![("fulfilment", 4)]));
        let told = text(handle(request(SAMPLE), views.count(), counters.read(), queues).await.unwrap());
        let samples: Vec<&str> = told.lines().filter(|line| !line.starts_with('#')).collect();
        let expected = [
            r#"order_service_orders{status="created"} 0"#,
            r#"order_service_orders{status="reserved"} 0"#,
            r#"order_service_orders{status="paid"} 0"#,
            r#"order_service_orders{status="shipped"} 0"#,
            r#"order_service_orders{status="confirmed"} 0"#,
            r#"order_service_orders{status="cancelling"} 0"#,
            r#"order_service_orders{status="cancelled"} 0"#,
            r#"order_service_orders{status="rejected"} 0"#,
            r#"order_service_orders{status="needs_attention"} 0"#,
            r#"order_service_cache_requests_total{cache="events",result="hit"} 0"#,
            r#"order_service_cache_requests_total{cache="events",result="miss"} 2"#,
            r#"order_service_cache_requests_total{cache="generations",result="hit"} 0"#,
            r#"order_service_cache_requests_total{cache="generations",result="miss"} 0"#,
            r#"order_service_cache_requests_total{cache="etag",result="hit"} 7"#,
            r#"order_service_cache_requests_total{cache="etag",result="miss"} 0"#,
            r#"order_service_rate_limited_requests_total{class="customer_commands"} 0"#,
            r#"order_service_rate_limited_requests_total{class="customer_reads"} 0"#,
            r#"order_service_rate_limited_requests_total{class="staff_commands"} 0"#,
            r#"order_service_rate_limited_requests_total{class="staff_reads"} 0"#,
            r#"order_service_rate_limited_requests_total{class="carrier_commands"} 0"#,
            r#"order_service_rate_limited_requests_total{class="scrapes"} 0"#,
            r#"order_service_rate_limited_requests_total{class="profile_changes"} 0"#,
            r#"order_service_rate_limited_requests_total{class="searches"} 5"#,
            r#"order_service_rate_limited_requests_total{class="event_lists"} 0"#,
            r#"order_service_rate_limited_requests_total{class="waiting_reads"} 0"#,
            "order_service_rate_limit_failures_total 6",
            "order_service_projection_lag_seconds_sum 1.25",
            "order_service_projection_lag_seconds_count 3",
            r#"order_service_dead_letters{queue="fulfilment"} 4"#,
            r#"order_service_scrape_errors{source="orders"} 0"#,
            r#"order_service_scrape_errors{source="counters"} 0"#,
            r#"order_service_scrape_errors{source="dead_letters"} 0"#,
        ];
        assert_eq!(samples, expected);
    }

    #[test]
    fn orders_are_told_by_their_status() {
        let orders = BTreeMap::from([(OrderStatus::Confirmed, 12), (OrderStatus::NeedsAttention, 1)]);
        let told = text(respond(Some(&orders), None, None).unwrap());
        for line in [r#"{status="confirmed"} 12"#, r#"{status="needs_attention"} 1"#, r#"{status="paid"} 0"#] {
            assert!(told.contains(&format!("order_service_orders{line}\n")), "{told}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_had_is_left_out_and_the_rest_is_told() {
        let counters = MemoryCounters::default();
        let down = || Unavailable { what: "a dead-letter queue", source: "it is down".into() };
        let told = handle(request(SAMPLE), pending(), counters.read(), ready(Err(down()))).await.unwrap();
        let told = text(told);
        for line in [r#"{source="orders"} 1"#, r#"{source="counters"} 0"#, r#"{source="dead_letters"} 1"#] {
            assert!(told.contains(&format!("order_service_scrape_errors{line}\n")), "{told}");
        }
        assert!(told.contains("order_service_cache_requests_total{"));
        for left_out in ["order_service_orders", "order_service_dead_letters"] {
            assert!(!told.contains(left_out), "{told}");
        }
    }

    #[tokio::test]
    async fn a_customer_is_refused_before_anything_is_asked() {
        let unasked = async { panic!("asked for a customer") };
        let customer = request(&SAMPLE.replace("orders/metrics", ""));
        let counters = MemoryCounters::default();
        let answer = handle(customer, unasked, counters.read(), ready(Ok(vec![]))).await;
        assert_eq!(answer.unwrap_err().status, 403);
    }

    #[test]
    fn a_list_of_queues_that_is_none_is_found_out_at_the_start() {
        let two = queues("a=http://localhost/1?x=y b=http://localhost/2").unwrap();
        assert_eq!(two[0], ("a".to_owned(), "http://localhost/1?x=y".to_owned()));
        assert_eq!(two.len(), 2);
        assert!(queues("http://localhost/1").is_err());
    }

    #[tokio::test]
    async fn hostile_events_are_answered() {
        let (views, counters) = (MemoryOrderViews::default(), MemoryCounters::default());
        http::hostile::is_answered(
            SAMPLE,
            |request| handle(request, views.count(), counters.read(), ready(Ok(vec![]))),
            || (),
        )
        .await;
    }
}
