//! Figures for `CloudWatch`, which takes them from lines of its embedded metric format (EMF).
//!
//! They are written at once and whatever the level of logs, because what counts orders must not depend on how much is told
//! of each.

use std::{borrow::Cow, io::Write, time::Duration};

#[cfg(any(test, feature = "testing"))]
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use crate::variable;

/// The most figures that `CloudWatch` takes from one line.
const FIGURES_MAX: usize = 100;

/// One figure. Each pair of dimensions is another metric to `CloudWatch`, and is paid for by the month: their values are few.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    pub name: &'static str,
    pub value: u64,
    /// One of `CloudWatch`'s `StandardUnit`s.
    unit: &'static str,
    dimensions: Vec<(&'static str, Cow<'static, str>)>,
}

impl Metric {
    fn new(name: &'static str, unit: &'static str, value: u64) -> Self {
        Self { name, value, unit, dimensions: Vec::new() }
    }

    pub fn count(name: &'static str, value: u64) -> Self {
        Self::new(name, "Count", value)
    }

    pub fn time(name: &'static str, value: Duration) -> Self {
        Self::new(name, "Milliseconds", u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }

    pub fn bytes(name: &'static str, value: u64) -> Self {
        Self::new(name, "Bytes", value)
    }

    pub fn plain(name: &'static str, value: u64) -> Self {
        Self::new(name, "None", value)
    }

    #[must_use]
    pub fn of(mut self, dimension: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.dimensions.push((dimension, value.into()));
        self
    }
}

/// Tells these figures, if `METRIC_NAMESPACE` says whose they are.
pub fn write(figures: impl IntoIterator<Item = Metric>) {
    #[cfg(any(test, feature = "testing"))]
    let Some(figures) = tests_see(figures) else { return };
    let Some(namespace) = variable("METRIC_NAMESPACE") else { return };
    let lines: Vec<String> = lines(&namespace, Utc::now(), figures).iter().map(Value::to_string).collect();
    if lines.is_empty() {
        return;
    }
    // As for lines: a function that cannot say anything still does its work.
    let _ = std::io::stdout().lock().write_all((lines.join("\n") + "\n").as_bytes());
}

/// As few as can be: each has figures of the same dimensions, and none of them twice. (Several values of a figure in one line are
/// not in the specification: <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>.)
fn lines(namespace: &str, at: DateTime<Utc>, figures: impl IntoIterator<Item = Metric>) -> Vec<Value> {
    let mut lines: Vec<Vec<Metric>> = Vec::new();
    for figure in figures {
        match lines.iter_mut().find(|line| takes(line, &figure)) {
            Some(line) => line.push(figure),
            None => lines.push(vec![figure]),
        }
    }
    lines.iter().map(|figures| line(namespace, at, figures)).collect()
}

fn takes(line: &[Metric], figure: &Metric) -> bool {
    line.len() < FIGURES_MAX
        && line.iter().all(|there| there.dimensions == figure.dimensions && there.name != figure.name)
}

fn line(namespace: &str, at: DateTime<Utc>, figures: &[Metric]) -> Value {
    let dimensions = figures.first().map(|first| first.dimensions.as_slice()).unwrap_or_default();
    let names: Vec<&str> = dimensions.iter().map(|(name, _)| *name).collect();
    let metrics: Vec<Value> =
        figures.iter().map(|Metric { name, unit, .. }| json!({"Name": name, "Unit": unit})).collect();
    let told = json!({"Namespace": namespace, "Dimensions": [names], "Metrics": metrics});
    let about = json!({"Timestamp": at.timestamp_millis(), "CloudWatchMetrics": [told]});
    let values = figures.iter().map(|figure| (figure.name.to_owned(), figure.value.into()));
    let values = values.chain(dimensions.iter().map(|(name, value)| ((*name).to_owned(), value.as_ref().into())));
    Value::Object(Map::from_iter([("_aws".to_owned(), about)]).into_iter().chain(values).collect())
}

#[cfg(any(test, feature = "testing"))]
tokio::task_local! {
    static WRITTEN: Mutex<Vec<Metric>>;
}

/// Gives them back where no test looks at them.
#[cfg(any(test, feature = "testing"))]
fn tests_see(figures: impl IntoIterator<Item = Metric>) -> Option<Vec<Metric>> {
    let figures: Vec<Metric> = figures.into_iter().collect();
    let see = |seen: &Mutex<Vec<Metric>>| seen.lock().unwrap_or_else(PoisonError::into_inner).extend(figures.clone());
    WRITTEN.try_with(see).is_err().then_some(figures)
}

/// The figures that some work tells; for tests.
#[cfg(any(test, feature = "testing"))]
pub async fn written<T>(work: impl Future<Output = T>) -> (T, Vec<Metric>) {
    let work = async {
        let answer = work.await;
        let take =
            |seen: &Mutex<Vec<Metric>>| std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
        (answer, WRITTEN.with(take))
    };
    WRITTEN.scope(Mutex::default(), work).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(figures: impl IntoIterator<Item = Metric>) -> Vec<Value> {
        lines("orders", DateTime::from_timestamp_millis(1_780_000_000_123).unwrap(), figures)
    }

    #[test]
    fn a_line_is_as_cloudwatch_reads_it() {
        let lag = Metric::time("ProjectionLag", Duration::from_millis(85));
        let golden = json!({
            "_aws": {
                "Timestamp": 1_780_000_000_123_u64,
                "CloudWatchMetrics": [{
                    "Namespace": "orders",
                    "Dimensions": [[]],
                    "Metrics": [{"Name": "OrdersPlaced", "Unit": "Count"}, {"Name": "ProjectionLag", "Unit": "Milliseconds"}]
                }]
            },
            "OrdersPlaced": 1,
            "ProjectionLag": 85
        });
        assert_eq!(told([Metric::count("OrdersPlaced", 1), lag]), [golden]);
        let call = Metric::time("ProviderCallTime", Duration::from_millis(12)).of("Port", "payments");
        let golden = json!({
            "_aws": {
                "Timestamp": 1_780_000_000_123_u64,
                "CloudWatchMetrics": [{
                    "Namespace": "orders",
                    "Dimensions": [["Port", "Outcome"]],
                    "Metrics": [{"Name": "ProviderCallTime", "Unit": "Milliseconds"}]
                }]
            },
            "ProviderCallTime": 12,
            "Port": "payments",
            "Outcome": "timed_out"
        });
        assert_eq!(told([call.of("Outcome", "timed_out")]), [golden]);
    }

    #[test]
    fn units_are_cloudwatch_s() {
        let figures = [Metric::bytes("MemoryUsed", 1), Metric::plain("RefundedMinorUnits", 1)];
        let [line] = told(figures).try_into().unwrap();
        let units: Vec<&Value> = line["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().unwrap().iter().collect();
        assert_eq!(
            units,
            [&json!({"Name": "MemoryUsed", "Unit": "Bytes"}), &json!({"Name": "RefundedMinorUnits", "Unit": "None"})]
        );
    }

    #[test]
    fn what_comes_twice_or_has_other_dimensions_is_a_line_of_its_own() {
        let lag = |ms| Metric::time("ProjectionLag", Duration::from_millis(ms));
        let rejected = |reason: &'static str| Metric::count("OrdersRejected", 1).of("Reason", reason);
        let told =
            told([lag(1), rejected("expired"), lag(2), Metric::count("OrdersPlaced", 1), rejected("out_of_stock")]);
        let seen: Vec<Vec<&Value>> =
            told.iter().map(|line| vec![&line["ProjectionLag"], &line["OrdersPlaced"], &line["Reason"]]).collect();
        let (one, two, none) = (json!(1), json!(2), Value::Null);
        let (expired, out) = (json!("expired"), json!("out_of_stock"));
        let expected = [[&one, &one, &none], [&none, &none, &expired], [&two, &none, &none], [&none, &none, &out]];
        assert_eq!(seen, expected);
    }

    #[test]
    fn no_line_has_more_than_cloudwatch_takes() {
        let names: Vec<&'static str> = (0..150).map(|number| &*format!("F{number}").leak()).collect();
        let lines = told(names.into_iter().map(|name| Metric::count(name, 1)));
        let metrics = |line: &Value| line["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().unwrap().len();
        assert_eq!(lines.iter().map(metrics).collect::<Vec<_>>(), [100, 50]);
        assert!(told([]).is_empty());
    }

    #[tokio::test]
    async fn tests_see_what_is_told() {
        let ((), seen) = written(async { write([Metric::count("OrdersPlaced", 1)]) }).await;
        assert_eq!(seen, [Metric::count("OrdersPlaced", 1)]);
    }
}
