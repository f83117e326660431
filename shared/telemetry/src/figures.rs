//! Figures for `CloudWatch`, which takes them from lines of its embedded metric format (EMF).
//!
//! They are written at once and whatever the level of logs, because what counts orders must not depend on how much is told
//! of each.

use std::{
    borrow::Cow,
    io::Write,
    sync::{LazyLock, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use metrique_writer_core::{
    Entry, EntryWriter, Observation, Unit, Value, ValueWriter,
    format::Format,
    unit::{NegativeScale, PositiveScale},
    value::MetricFlags,
};
use metrique_writer_format_emf::{Emf, EntryDimensions};

use crate::variable;

/// The most figures that `CloudWatch` takes from one line.
const FIGURES_MAX: usize = 100;

/// What makes the lines; `None` where `METRIC_NAMESPACE` does not say whose figures they are.
static EMF: LazyLock<Option<Mutex<Emf>>> = LazyLock::new(|| variable("METRIC_NAMESPACE").map(|name| emf(name).into()));

/// One figure. Each pair of dimensions is another metric to `CloudWatch`, and is paid for by the month: their values are few.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    pub name: &'static str,
    pub value: u64,
    unit: Unit,
    dimensions: Vec<(&'static str, Cow<'static, str>)>,
}

impl Metric {
    fn new(name: &'static str, unit: Unit, value: u64) -> Self {
        Self { name, value, unit, dimensions: Vec::new() }
    }

    pub fn count(name: &'static str, value: u64) -> Self {
        Self::new(name, Unit::Count, value)
    }

    pub fn time(name: &'static str, value: Duration) -> Self {
        let milliseconds = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
        Self::new(name, Unit::Second(NegativeScale::Milli), milliseconds)
    }

    pub fn bytes(name: &'static str, value: u64) -> Self {
        Self::new(name, Unit::Byte(PositiveScale::One), value)
    }

    pub fn plain(name: &'static str, value: u64) -> Self {
        Self::new(name, Unit::None, value)
    }

    #[must_use]
    pub fn of(mut self, dimension: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.dimensions.push((dimension, value.into()));
        self
    }
}

/// Tells these figures.
pub fn write(figures: impl IntoIterator<Item = Metric>) {
    #[cfg(any(test, feature = "testing"))]
    let Some(figures) = tests_see(figures) else { return };
    let Some(emf) = &*EMF else { return };
    let lines = lines(&mut emf.lock().unwrap_or_else(PoisonError::into_inner), SystemTime::now(), figures);
    // As for lines: a function that cannot say anything still does its work.
    let _ = std::io::stdout().lock().write_all(&lines);
}

fn emf(namespace: String) -> Emf {
    Emf::builder(namespace, vec![Vec::new()]).build()
}

/// As few lines as can be: each has figures of the same dimensions, and none of them twice.
fn lines(emf: &mut Emf, at: SystemTime, figures: impl IntoIterator<Item = Metric>) -> Vec<u8> {
    let mut lines: Vec<Line> = Vec::new();
    for figure in figures {
        match lines.iter_mut().find(|line| line.takes(&figure)) {
            Some(line) => line.figures.push(figure),
            None => lines.push(Line::new(at, figure)),
        }
    }
    let mut text = Vec::new();
    for line in lines {
        // It fails for names that CloudWatch refuses, of which there is none here.
        let _ = emf.format(&line, &mut text);
    }
    text
}

struct Line {
    at: SystemTime,
    dimensions: Option<EntryDimensions>,
    figures: Vec<Metric>,
}

impl Line {
    fn new(at: SystemTime, first: Metric) -> Self {
        let names: Vec<Cow<'static, str>> = first.dimensions.iter().map(|(name, _)| Cow::Borrowed(*name)).collect();
        let dimensions = (!names.is_empty()).then(|| EntryDimensions::new(vec![Cow::Owned(names)].into()));
        Self { at, dimensions, figures: vec![first] }
    }

    fn takes(&self, figure: &Metric) -> bool {
        self.figures.len() < FIGURES_MAX
            && self.figures.first().is_some_and(|first| first.dimensions == figure.dimensions)
            && self.figures.iter().all(|there| there.name != figure.name)
    }
}

impl Entry for Line {
    fn write<'a>(&'a self, writer: &mut impl EntryWriter<'a>) {
        writer.timestamp(self.at);
        if let Some(dimensions) = &self.dimensions {
            writer.config(dimensions);
        }
        for (name, value) in self.figures.iter().take(1).flat_map(|first| &first.dimensions) {
            writer.value(*name, value.as_ref());
        }
        for figure in &self.figures {
            writer.value(figure.name, figure);
        }
    }
}

impl Value for Metric {
    fn write(&self, writer: impl ValueWriter) {
        writer.metric([Observation::Unsigned(self.value)], self.unit, [], MetricFlags::empty());
    }
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

    fn told(figures: impl IntoIterator<Item = Metric>) -> Vec<String> {
        let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(1_780_000_000_123)).unwrap();
        let text = String::from_utf8(lines(&mut emf("orders".to_owned()), at, figures)).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_line_is_as_cloudwatch_reads_it() {
        let lag = Metric::time("ProjectionLag", Duration::from_millis(85));
        let golden = r#"{"_aws":{"CloudWatchMetrics":[{"Namespace":"orders","Dimensions":[[]],"Metrics":[{"Name":"OrdersPlaced","Unit":"Count"},{"Name":"ProjectionLag","Unit":"Milliseconds"}]}],"Timestamp":1780000000123},"OrdersPlaced":1,"ProjectionLag":85}"#;
        assert_eq!(told([Metric::count("OrdersPlaced", 1), lag]), [golden]);
        let golden = r#"{"_aws":{"CloudWatchMetrics":[{"Namespace":"orders","Dimensions":[["Port","Outcome"]],"Metrics":[{"Name":"ProviderCallTime","Unit":"Milliseconds"}]}],"Timestamp":1780000000123},"ProviderCallTime":12,"Port":"payments","Outcome":"timed_out"}"#;
        let call = Metric::time("ProviderCallTime", Duration::from_millis(12)).of("Port", "payments");
        assert_eq!(told([call.of("Outcome", "timed_out")]), [golden]);
        let golden = r#"{"_aws":{"CloudWatchMetrics":[{"Namespace":"orders","Dimensions":[["Currency"]],"Metrics":[{"Name":"RefundedMinorUnits"}]}],"Timestamp":1780000000123},"RefundedMinorUnits":1999,"Currency":"CNY"}"#;
        assert_eq!(told([Metric::plain("RefundedMinorUnits", 1_999).of("Currency", "CNY")]), [golden]);
    }

    #[test]
    fn what_comes_twice_or_has_other_dimensions_is_a_line_of_its_own() {
        let lag = |ms| Metric::time("ProjectionLag", Duration::from_millis(ms));
        let rejected = |reason: &'static str| Metric::count("OrdersRejected", 1).of("Reason", reason);
        let told =
            told([lag(1), rejected("expired"), lag(2), Metric::count("OrdersPlaced", 1), rejected("out_of_stock")]);
        let ends = [r#""ProjectionLag":1,"OrdersPlaced":1}"#, r#""Reason":"expired"}"#, r#""ProjectionLag":2}"#];
        for (line, end) in told.iter().zip(ends) {
            assert!(line.ends_with(end), "{line}");
        }
        assert_eq!(told.len(), 4);
    }

    #[test]
    fn no_line_has_more_than_cloudwatch_takes() {
        let names: Vec<&'static str> = (0..150).map(|number| &*format!("F{number}").leak()).collect();
        let lines = told(names.into_iter().map(|name| Metric::count(name, 1)));
        let counts: Vec<usize> = lines.iter().map(|line| line.matches(r#""Name":"#).count()).collect();
        assert_eq!(counts, [100, 50]);
        assert!(told([]).is_empty());
    }

    #[tokio::test]
    async fn tests_see_what_is_told() {
        let ((), seen) = written(async { write([Metric::count("OrdersPlaced", 1)]) }).await;
        assert_eq!(seen, [Metric::count("OrdersPlaced", 1)]);
    }
}
