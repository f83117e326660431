//! The service's figures, as Prometheus reads them.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use reqwest::Method;

use crate::service::{DEADLINE, Service, fresh_key, order, token};

/// Every sample's value, by its name and labels as they stand there.
type Samples = BTreeMap<String, f64>;

async fn scrape(service: &Service) -> Samples {
    let answer = service.get("staff-1", "/metrics").await.expect(200);
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4");
    let text = answer.body.as_str().unwrap();
    assert!(text.ends_with('\n'), "{text}");
    let (mut samples, mut families) = (Samples::new(), Vec::new());
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("# TYPE ") {
            families.push(head.split(' ').next().unwrap());
        }
        if !line.starts_with("# ") {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("not a sample: {line}"));
            assert!(families.iter().any(|family| name.starts_with(family)), "of no family: {line}");
            samples.insert(name.to_owned(), value.parse().unwrap_or_else(|_| panic!("not a number: {line}")));
        }
    }
    samples
}

fn sum(samples: &Samples, name: &str) -> f64 {
    samples.iter().filter(|(sample, _)| sample.starts_with(&format!("order_service_{name}"))).map(|(_, n)| n).sum()
}

/// Reads the order as a client that has it, and twice as it was at first.
async fn read(service: &Service, id: &str) {
    let request = service.request(Method::GET, &format!("/api/v1/orders/{id}"));
    let request = request.bearer_auth(token("customer-1").await).header("if-none-match", "*");
    service.send(request).await.expect(304);
    for _ in 0..2 {
        service.get("staff-1", &format!("/api/v1/orders/{id}/events?at=1")).await.expect(200);
    }
}

#[tokio::test]
async fn an_order_shows_in_every_figure_that_it_concerns() {
    let service = Service::connect().await;
    let before = scrape(&service).await;
    for source in ["orders", "counters", "processes", "dead_letters", "parked"] {
        assert_eq!(before[&format!("order_service_scrape_errors{{source=\"{source}\"}}")], 0.0);
    }
    for status in ["created", "reserved", "paid", "shipped", "cancelling", "cancelled", "rejected", "needs_attention"] {
        assert!(before.contains_key(&format!("order_service_orders{{status=\"{status}\"}}")), "{status} in {before:?}");
    }
    for queue in ["start-fulfilment", "project-orders", "publish-events"] {
        assert!(before.contains_key(&format!("order_service_dead_letters{{queue=\"{queue}\"}}")), "{queue}");
    }
    for (figure, consumer) in [("parked_streams", "project-orders"), ("parked_oldest_seconds", "publish-events")] {
        assert!(before.contains_key(&format!("order_service_{figure}{{consumer=\"{consumer}\"}}")), "{figure}");
    }

    let product = service.product(1_000).await;
    let place = async || service.place("customer-1", &fresh_key(), &order("customer-1", &product)).await.expect(201);
    let placed = place().await;
    let id = placed.text("order_id");
    service.await_status("customer-1", &id, &["confirmed"]).await;
    // Functions hand on what they have counted every five seconds, and only while they are asked for something.
    let grow = [
        "orders{",
        "orders{status=\"confirmed\"}",
        "projection_lag_seconds_sum",
        "projection_lag_seconds_count",
        "cache_requests_total{cache=\"events\",result=\"hit\"}",
        "cache_requests_total{cache=\"events\",result=\"miss\"}",
        "cache_requests_total{cache=\"generations\",result=\"hit\"}",
        "cache_requests_total{cache=\"generations\",result=\"miss\"}",
        "cache_requests_total{cache=\"etag\",result=\"hit\"}",
    ];
    let started = Instant::now();
    loop {
        read(&service, &id).await;
        let after = scrape(&service).await;
        let still: Vec<&str> = grow.into_iter().filter(|name| sum(&after, name) <= sum(&before, name)).collect();
        if still.is_empty() {
            break;
        }
        assert!(started.elapsed() < DEADLINE, "{still:?} did not grow in time: {after:?}");
        // Where nobody else orders anything, `project-orders` is not asked for anything more.
        place().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// A command, a step, and who follows the stream.
const AT_WORK: [&str; 3] = ["create-order", "validate-order", "project-orders"];

fn of(name: &str, function: &str) -> String {
    format!("order_service_{name}{{function=\"{function}\"}}")
}

#[tokio::test]
async fn every_function_that_is_at_work_says_what_its_processes_have_used() {
    let service = Service::connect().await;
    let product = service.product(1_000).await;
    let started = Instant::now();
    // A process reports with its second invocation, and looks again a minute later at the latest.
    let told = loop {
        service.place("customer-1", &fresh_key(), &order("customer-1", &product)).await.expect(201);
        let told = scrape(&service).await;
        let is_missing = |function: &&str| !told.contains_key(&of("processes", function));
        let missing: Vec<&str> = AT_WORK.into_iter().filter(is_missing).collect();
        if missing.is_empty() {
            break told;
        }
        assert!(started.elapsed() < 2 * DEADLINE, "{missing:?} did not report in time: {told:?}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    for function in AT_WORK {
        let figure = |name| told[&of(name, function)];
        let (memory, limit) = (figure("process_memory_bytes"), figure("process_memory_limit_bytes"));
        assert!(1e6 < memory && memory < limit, "{function} has used {memory} of {limit} bytes");
        assert!(figure("processes") >= 1.0 && figure("process_cpu_seconds") > 0.0, "{function} in {told:?}");
        assert!(figure("process_tmp_free_bytes") > 0.0, "{function} in {told:?}");
        let (oldest, newest) =
            (figure("process_oldest_start_time_seconds"), figure("process_newest_start_time_seconds"));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        assert!(1_767_225_600.0 < oldest && oldest <= newest && newest <= now, "{function} from {oldest} to {newest}");
    }
}

#[tokio::test]
async fn the_figures_are_for_staff() {
    let service = Service::connect().await;
    service.get("customer-1", "/metrics").await.expect(403);
    service.get("carrier-1", "/metrics").await.expect(403);
}
