//! The text that Prometheus reads: its exposition format, version 0.0.4.
//!
//! Written by hand: what client libraries are for is to keep figures of their own process, and none of these is.

use std::{
    fmt::{Display, Write},
    time::Duration,
};

pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4";

/// Before every name, so that nobody else's metric has it.
const PREFIX: &str = "order_service_";

#[derive(Default)]
pub(crate) struct Exposition(String);

impl Exposition {
    /// Begins a family; its samples follow.
    pub(crate) fn family(&mut self, name: &str, metric_type: &str, help: &str) {
        self.line(format_args!("# HELP {PREFIX}{name} {help}"));
        self.line(format_args!("# TYPE {PREFIX}{name} {metric_type}"));
    }

    pub(crate) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> =
            labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        self.line(format_args!("{PREFIX}{name}{labels} {value}"));
    }

    /// The samples of a histogram: of times in parts up to these many milliseconds, so many each, all of them, and their sum.
    pub(crate) fn histogram(
        &mut self,
        name: &str,
        parts: impl IntoIterator<Item = (u64, u64)>,
        count: u64,
        sum: Duration,
    ) {
        let mut so_far: u64 = 0;
        for (bound, within) in parts {
            so_far = so_far.saturating_add(within);
            let bound = Duration::from_millis(bound).as_secs_f64().to_string();
            self.sample(&format!("{name}_bucket"), &[("le", &bound)], so_far);
        }
        self.sample(&format!("{name}_bucket"), &[("le", "+Inf")], count.max(so_far));
        self.sample(&format!("{name}_sum"), &[], sum.as_secs_f64());
        self.sample(&format!("{name}_count"), &[], count.max(so_far));
    }

    pub(crate) fn into_text(self) -> String {
        self.0
    }

    fn line(&mut self, line: impl Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{line}");
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_its_head_and_a_line_for_each_sample() {
        let mut text = Exposition::default();
        text.family("looks_total", "counter", "Looks.");
        text.sample("looks_total", &[("of", "views"), ("by", "p")], 3);
        let lines = "# HELP order_service_looks_total Looks.\n# TYPE order_service_looks_total counter\n\
                     order_service_looks_total{of=\"views\",by=\"p\"} 3\n";
        assert_eq!(text.into_text(), lines);
    }

    #[test]
    fn each_part_of_a_histogram_has_those_before_it_and_the_last_has_all() {
        let mut text = Exposition::default();
        text.histogram("lag_seconds", [(250, 3), (1_000, 1)], 6, Duration::from_millis(9_500));
        let lines = "order_service_lag_seconds_bucket{le=\"0.25\"} 3\norder_service_lag_seconds_bucket{le=\"1\"} 4\n\
                     order_service_lag_seconds_bucket{le=\"+Inf\"} 6\norder_service_lag_seconds_sum 9.5\n\
                     order_service_lag_seconds_count 6\n";
        assert_eq!(text.into_text(), lines);
    }

    #[test]
    fn no_label_ends_before_its_value_does() {
        let mut text = Exposition::default();
        text.sample("q", &[("queue", "a\"b\\c\nd")], 1);
        assert_eq!(text.into_text(), "order_service_q{queue=\"a\\\"b\\\\c\\nd\"} 1\n");
    }
}
