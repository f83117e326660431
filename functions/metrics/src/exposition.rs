//! The text that Prometheus reads: its exposition format, version 0.0.4.
//!
//! Written by hand: what client libraries are for is to keep figures of their own process, and none of these is.

use std::fmt::{Display, Write};

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
        text.family("lag_seconds", "summary", "How late.");
        text.sample("lag_seconds_sum", &[], 1.5);
        text.sample("lag_seconds_count", &[("of", "views"), ("by", "p")], 3);
        let lines = "# HELP order_service_lag_seconds How late.\n# TYPE order_service_lag_seconds summary\n\
                     order_service_lag_seconds_sum 1.5\norder_service_lag_seconds_count{of=\"views\",by=\"p\"} 3\n";
        assert_eq!(text.into_text(), lines);
    }

    #[test]
    fn no_label_ends_before_its_value_does() {
        let mut text = Exposition::default();
        text.sample("q", &[("queue", "a\"b\\c\nd")], 1);
        assert_eq!(text.into_text(), "order_service_q{queue=\"a\\\"b\\\\c\\nd\"} 1\n");
    }
}
