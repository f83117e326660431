//! `GET /api/v1/stats`: staff see how many orders were placed, confirmed, rejected and cancelled, and for how much, by the hour or the day.
//!
//! `?by=hour`, or `day`, of UTC; `?from=` is in the first of these periods, and `?to=` after the last one begins: without them, the 24
//! hours or 30 days that end now. All periods are there, also those in which nothing happened. 200, 400, 403 for customers.

use adapters::{
    app_config, aws,
    dynamodb::DynamoReadModel,
    http::{self, ApiRequest, Problem},
    lambda,
    limits::Limiter,
};
use application::{
    page::PAGE_BYTES_MAX,
    ports::Index,
    stats::{By, PERIODS_MAX, Period, Stat, Sum, Window, get_stats},
};
use aws_sdk_dynamodb::Client;
use chrono::{DateTime, TimeDelta, Utc};
use domain::{moment::Moment, money::Currency, text::Invalid};
use lambda_http::{Body, Response};
use serde::Serialize;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let config = aws::config();
    let client = Client::new(&config);
    let limiter = Limiter::of_process(&client, app_config::settings_without_secrets(&config)?, "get-stats").await?;
    let model = DynamoReadModel::new(client, lambda::variable("ORDERS_TABLE")?, lambda::variable("INDEX_TABLE")?);
    http::run(&limiter, async |request| {
        let model = model.live().await.map_err(|error| Problem::unavailable(&error))?;
        handle(&model.index, request).await
    })
    .await
}

async fn handle(index: &impl Index, request: ApiRequest) -> Result<Response<Body>, Problem> {
    request.staff()?;
    let (by, window) = asked(&request)?;
    let periods = get_stats(index, window).await.map_err(|error| Problem::unavailable(&error))?;
    let body = StatsBody { by: by.name(), periods: periods.iter().map(PeriodBody::from).collect() };
    let answer = http::json(200, &body)?;
    if answer.body().len() > PAGE_BYTES_MAX {
        return Err(Problem::invalid_field("?from", "must be closer to to: there is more than one answer can hold"));
    }
    Ok(answer)
}

fn asked(request: &ApiRequest) -> Result<(By, Window), Problem> {
    let mut query = request.query(&["by", "from", "to"]);
    let by = query.required("by", |name| {
        let known = [By::Hour, By::Day].into_iter().find(|by| by.name() == name);
        known.ok_or_else(|| Invalid::new("must be one of hour, day"))
    });
    let (from, to) = (query.optional("from", Moment::parse), query.optional("to", Moment::parse));
    let read = by.zip(from.zip(to)).map(|(by, (from, to))| {
        let to = to.map_or(request.now, Moment::first);
        let usual = match by {
            By::Hour => TimeDelta::hours(24),
            By::Day => TimeDelta::days(30),
        };
        let earlier = || to.checked_sub_signed(usual).unwrap_or(DateTime::UNIX_EPOCH);
        let from = from.map_or_else(earlier, Moment::first);
        let window = Window::new(by, from, to);
        if from >= to {
            query.wrong("from", "must be earlier than to, which is now unless it is given");
        } else if window.periods() > PERIODS_MAX {
            query.wrong("from", format!("must be no more than {PERIODS_MAX} {}s before to", by.name()));
        }
        (by, window)
    });
    query.finish(read)
}

#[derive(Serialize)]
struct StatsBody {
    by: &'static str,
    periods: Vec<PeriodBody>,
}

#[derive(Serialize)]
struct PeriodBody {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    placed: u64,
    confirmed: u64,
    rejected: u64,
    cancelled: u64,
    refunded: u64,
    amounts: Vec<AmountsBody>,
}

/// In minor units of the currency.
#[derive(Serialize)]
struct AmountsBody {
    currency: Currency,
    placed: u64,
    confirmed: u64,
    rejected: u64,
    cancelled: u64,
    refunded: u64,
}

impl From<&Period> for PeriodBody {
    fn from(Period { from, to, sums }: &Period) -> Self {
        let count = |stat| sums.get(&stat).map_or(0, |sum| sum.count);
        let mut currencies: Vec<Currency> = sums.values().flat_map(|sum| sum.amounts.keys().copied()).collect();
        currencies.sort_unstable();
        currencies.dedup();
        let amounts = currencies.into_iter().map(|currency| {
            let amount = |stat| sums.get(&stat).and_then(|Sum { amounts, .. }| amounts.get(&currency)).copied();
            let amount = |stat| amount(stat).unwrap_or_default();
            AmountsBody {
                currency,
                placed: amount(Stat::Placed),
                confirmed: amount(Stat::Confirmed),
                rejected: amount(Stat::Rejected),
                cancelled: amount(Stat::Cancelled),
                refunded: amount(Stat::Refunded),
            }
        });
        Self {
            from: *from,
            to: *to,
            placed: count(Stat::Placed),
            confirmed: count(Stat::Confirmed),
            rejected: count(Stat::Rejected),
            cancelled: count(Stat::Cancelled),
            refunded: count(Stat::Refunded),
            amounts: amounts.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use application::{
        memory::MemoryIndex,
        stats::{Hour, Stats},
    };
    use serde_json::{Value, json};

    use super::*;

    const SAMPLE: &str = include_str!("../../../events/get-stats.json");
    const SAMPLE_QUERY: &str = "by=day&from=2026-01-01T00:00:00Z&to=2026-01-03T00:00:00Z";

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    /// Two orders on the first of January, one of which is confirmed on the second.
    async fn counted() -> MemoryIndex {
        let (index, mut stats) = (MemoryIndex::default(), Stats::default());
        let cny = Currency::parse("CNY").unwrap();
        let one = Sum { count: 1, amounts: BTreeMap::from([(cny, 1_999)]) };
        for (hour, stat) in [
            ("2026-01-01T00:00:00Z", Stat::Placed),
            ("2026-01-01T23:59:59Z", Stat::Placed),
            ("2026-01-02T00:00:00Z", Stat::Confirmed),
        ] {
            stats.add(Hour::of(at(hour)), stat, &one);
        }
        index.count(&stats).await.unwrap();
        index
    }

    async fn ask(index: &MemoryIndex, query: &str, now: &str) -> Result<Value, Problem> {
        let request = ApiRequest::from_event(&SAMPLE.replace(SAMPLE_QUERY, query), at(now)).unwrap();
        let answer = handle(index, request).await?;
        assert_eq!(answer.status(), 200);
        Ok(serde_json::from_slice(answer.body()).unwrap())
    }

    #[tokio::test]
    async fn the_sample_is_told_how_many_orders_there_were_and_for_how_much() {
        let body = ask(&counted().await, SAMPLE_QUERY, "2026-02-01T00:00:00Z").await.unwrap();
        let amounts = |placed, confirmed| json!([{"currency": "CNY", "placed": placed, "confirmed": confirmed, "rejected": 0, "cancelled": 0, "refunded": 0}]);
        let expected = json!({"by": "day", "periods": [
            {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z", "placed": 2, "confirmed": 0, "rejected": 0,
             "cancelled": 0, "refunded": 0, "amounts": amounts(3_998, 0)},
            {"from": "2026-01-02T00:00:00Z", "to": "2026-01-03T00:00:00Z", "placed": 0, "confirmed": 1, "rejected": 0,
             "cancelled": 0, "refunded": 0, "amounts": amounts(0, 1_999)},
        ]});
        assert_eq!(body, expected);
    }

    #[tokio::test]
    async fn without_a_window_it_is_the_last_day_or_the_last_thirty_days() {
        let index = counted().await;
        for (by, count, first) in [("hour", 25, "2026-01-01T11:00:00Z"), ("day", 31, "2025-12-03T00:00:00Z")] {
            let body = ask(&index, &format!("by={by}"), "2026-01-02T11:30:00Z").await.unwrap();
            let periods = body["periods"].as_array().unwrap();
            assert_eq!((periods.len(), &periods[0]["from"]), (count, &json!(first)), "{by}");
            let sum = |name| periods.iter().map(|period| period[name].as_u64().unwrap()).sum::<u64>();
            assert_eq!((sum("placed"), sum("confirmed")), (if by == "hour" { 1 } else { 2 }, 1), "{by}");
        }
    }

    #[tokio::test]
    async fn what_is_no_question_is_refused() {
        let index = counted().await;
        for (query, expected) in [
            ("", vec!["?by"]),
            ("by=week&from=monday&to=2026&per=day", vec!["?per", "?by", "?from", "?to"]),
            ("by=day&from=2026-01-02T00:00:00Z&to=2026-01-02T00:00:00Z", vec!["?from"]),
            ("by=day&from=2027-01-01T00:00:00Z", vec!["?from"]),
            ("by=day&from=2025-01-01T00:00:00Z&to=2026-01-02T00:00:01Z", vec!["?from"]),
            ("by=hour&from=2026-01-01T00:00:00Z&to=2026-01-17T00:00:00Z", vec!["?from"]),
        ] {
            let problem = ask(&index, query, "2026-02-01T00:00:00Z").await.unwrap_err();
            assert_eq!((problem.status, problem.pointers()), (400, expected), "{query}");
        }
        let year = "by=day&from=2025-01-01T00:00:00Z&to=2026-01-02T00:00:00Z";
        assert_eq!(ask(&index, year, "2026-02-01T00:00:00Z").await.unwrap()["periods"].as_array().unwrap().len(), 366);
    }

    #[tokio::test]
    async fn more_than_an_answer_of_lambda_holds_is_refused() {
        let (index, mut stats) = (MemoryIndex::default(), Stats::default());
        let letters = || (b'A'..=b'Z').map(char::from);
        let codes = letters().flat_map(|one| letters().map(move |other| format!("X{one}{other}"))).take(180);
        let amounts = codes.map(|code| (Currency::parse_any(&code).unwrap(), u64::MAX)).collect();
        let sum = Sum { count: u64::MAX, amounts };
        for day in 0..366 {
            stats.add(Hour::new(day * 24), Stat::Placed, &sum);
        }
        index.count(&stats).await.unwrap();
        let year = "by=day&from=1970-01-01T00:00:00Z&to=1971-01-02T00:00:00Z";
        assert_eq!(ask(&index, year, "2026-01-01T00:00:00Z").await.unwrap_err().status, 400);
        let month = "by=day&from=1970-01-01T00:00:00Z&to=1970-02-01T00:00:00Z";
        assert_eq!(ask(&index, month, "2026-01-01T00:00:00Z").await.unwrap()["periods"][30]["placed"], u64::MAX);
    }

    #[tokio::test]
    async fn figures_are_for_staff() {
        let request = ApiRequest::from_event(&SAMPLE.replace("[staff]", "[]"), Utc::now()).unwrap();
        assert_eq!(handle(&MemoryIndex::default(), request).await.unwrap_err().status, 403);
    }

    #[tokio::test]
    async fn hostile_events_are_answered() {
        let index = counted().await;
        http::hostile::is_answered(SAMPLE, |request| handle(&index, request), || ()).await;
    }
}
