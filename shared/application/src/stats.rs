//! How many orders were placed, confirmed, rejected and cancelled, and for how much, hour by hour. It is counted while their events
//! come into a read model, so that nobody has to look through them.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    money::{Currency, Money},
    order::OrderEvent,
};

use crate::{event_store::Unavailable, ports::Index};

const HOUR_SECONDS: i64 = 60 * 60;

/// The most periods that are told at once: the days of a year.
pub const PERIODS_MAX: i64 = 366;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stat {
    Placed,
    Confirmed,
    Rejected,
    Cancelled,
    /// Each time that money went back to a customer, whoever wanted it to.
    Refunded,
}

impl Stat {
    pub const ALL: [Self; 5] = [Self::Placed, Self::Confirmed, Self::Rejected, Self::Cancelled, Self::Refunded];

    /// As clients see it, and as it is stored, for ever.
    pub fn name(self) -> &'static str {
        match self {
            Self::Placed => "placed",
            Self::Confirmed => "confirmed",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
            Self::Refunded => "refunded",
        }
    }

    /// What an event counts as, and for how much, of an order that comes to so much in all.
    pub fn of(event: &OrderEvent, total: Money) -> Option<(Self, Money)> {
        match event {
            OrderEvent::OrderCreated(_) => Some((Self::Placed, total)),
            OrderEvent::OrderConfirmed { .. } => Some((Self::Confirmed, total)),
            OrderEvent::OrderRejected { .. } => Some((Self::Rejected, total)),
            OrderEvent::OrderCancelled { .. } => Some((Self::Cancelled, total)),
            OrderEvent::PaymentRefunded(refund) => Some((Self::Refunded, refund.amount)),
            OrderEvent::RefundCompleted(completed) => Some((Self::Refunded, completed.refund.amount)),
            OrderEvent::ValidationFailed { .. }
            | OrderEvent::InventoryReserved(_)
            | OrderEvent::ReservationFailed { .. }
            | OrderEvent::PaymentCompleted(_)
            | OrderEvent::PaymentFailed { .. }
            | OrderEvent::PaymentNotRequired {}
            | OrderEvent::InventoryReleased {}
            | OrderEvent::ShipmentCreated(_)
            | OrderEvent::ShipmentFailed { .. }
            | OrderEvent::ShipmentCancelled {}
            | OrderEvent::ShipmentDelivered { .. }
            | OrderEvent::OrderCancelRequested { .. }
            | OrderEvent::OrderFlagged(_)
            | OrderEvent::FulfilmentResumed(_)
            | OrderEvent::StepSkipped(_)
            | OrderEvent::RefundRequested(_)
            | OrderEvent::RefundFailed(_)
            | OrderEvent::BooksCompared(_) => None,
        }
    }
}

/// An hour of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hour(i64);

impl Hour {
    pub fn new(number: i64) -> Self {
        Self(number)
    }

    /// Counted since 1970.
    pub fn number(self) -> i64 {
        self.0
    }

    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// The one in which this time is.
    pub fn of(at: DateTime<Utc>) -> Self {
        Self(at.timestamp().div_euclid(HOUR_SECONDS))
    }

    /// Its first moment.
    pub fn begins(self) -> DateTime<Utc> {
        DateTime::from_timestamp(self.0.saturating_mul(HOUR_SECONDS), 0).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}

/// How many, and for how much in each currency, in its minor unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sum {
    pub count: u64,
    pub amounts: BTreeMap<Currency, u64>,
}

impl Sum {
    fn add(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        for (currency, more) in &other.amounts {
            let amount = self.amounts.entry(*currency).or_default();
            *amount = amount.saturating_add(*more);
        }
    }
}

/// What was counted in which hour.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats(BTreeMap<Hour, BTreeMap<Stat, Sum>>);

impl Stats {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Counts an event of an order that comes to so much in all.
    pub fn count(&mut self, event: &OrderEvent, occurred_at: DateTime<Utc>, total: Money) {
        if let Some((stat, money)) = Stat::of(event, total) {
            let sum = Sum { count: 1, amounts: BTreeMap::from([(money.currency(), money.amount())]) };
            self.add(Hour::of(occurred_at), stat, &sum);
        }
    }

    pub fn add(&mut self, hour: Hour, stat: Stat, sum: &Sum) {
        self.0.entry(hour).or_default().entry(stat).or_default().add(sum);
    }

    pub fn add_all(&mut self, other: &Self) {
        for (hour, sums) in other.by_hour() {
            for (stat, sum) in sums {
                self.add(hour, *stat, sum);
            }
        }
    }

    pub fn by_hour(&self) -> impl Iterator<Item = (Hour, &BTreeMap<Stat, Sum>)> {
        self.0.iter().map(|(hour, sums)| (*hour, sums))
    }
}

/// How long one period is: an hour or a day, of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Hour,
    Day,
}

impl By {
    /// As clients call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    fn hours(self) -> i64 {
        match self {
            Self::Hour => 1,
            Self::Day => 24,
        }
    }
}

/// Periods that follow one another, none of which is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    by: By,
    /// Counted since 1970.
    first: i64,
    after: i64,
}

impl Window {
    /// From the period in which `from` is to the last one that begins before `to`: none where `to` is not later.
    pub fn new(by: By, from: DateTime<Utc>, to: DateTime<Utc>) -> Self {
        let period = |at| Hour::of(at).0.div_euclid(by.hours());
        let first = period(from);
        let last = to.checked_sub_signed(TimeDelta::nanoseconds(1)).filter(|last| *last >= from);
        Self { by, first, after: last.map_or(first, |last| period(last).saturating_add(1)) }
    }

    pub fn periods(self) -> i64 {
        self.after.saturating_sub(self.first)
    }

    fn begins(self, period: i64) -> Hour {
        Hour(period.saturating_mul(self.by.hours()))
    }
}

/// What was counted in one period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Period {
    pub from: DateTime<Utc>,
    /// The first moment after it.
    pub to: DateTime<Utc>,
    pub sums: BTreeMap<Stat, Sum>,
}

/// What was counted in each period of a window, the earliest first, of [`PERIODS_MAX`] at most.
pub async fn get_stats(index: &impl Index, window: Window) -> Result<Vec<Period>, Unavailable> {
    let stats = index.stats(window.begins(window.first), window.begins(window.after)).await?;
    let mut sums: BTreeMap<i64, BTreeMap<Stat, Sum>> = BTreeMap::new();
    for (hour, of_hour) in stats.by_hour() {
        let period = sums.entry(hour.0.div_euclid(window.by.hours())).or_default();
        for (stat, sum) in of_hour {
            period.entry(*stat).or_default().add(sum);
        }
    }
    let after = window.after.min(window.first.saturating_add(PERIODS_MAX));
    let periods = (window.first..after).map(|period| Period {
        from: window.begins(period).begins(),
        to: window.begins(period.saturating_add(1)).begins(),
        sums: sums.remove(&period).unwrap_or_default(),
    });
    Ok(periods.collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::memory::MemoryIndex;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn sum(count: u64, amounts: &[(&str, u64)]) -> Sum {
        let amounts = amounts.iter().map(|(code, amount)| (Currency::parse(code).unwrap(), *amount));
        Sum { count, amounts: amounts.collect() }
    }

    #[tokio::test]
    async fn the_hours_of_a_day_add_up_to_the_day_and_empty_periods_are_told_as_well() {
        let (index, mut stats) = (MemoryIndex::default(), Stats::default());
        for (hour, stat, counted) in [
            ("2026-01-01T23:59:59.999Z", Stat::Placed, sum(1, &[("CNY", 100)])),
            ("2026-01-02T00:00:00Z", Stat::Placed, sum(2, &[("CNY", 300), ("USD", 5)])),
            ("2026-01-02T23:30:00Z", Stat::Placed, sum(1, &[("USD", 7)])),
            ("2026-01-02T23:30:00Z", Stat::Refunded, sum(3, &[("CNY", 9)])),
            ("2026-01-04T00:00:00Z", Stat::Cancelled, sum(1, &[("CNY", 1)])),
        ] {
            stats.add(Hour::of(at(hour)), stat, &counted);
        }
        index.count(&stats).await.unwrap();
        let window = Window::new(By::Day, at("2026-01-01T12:00:00Z"), at("2026-01-04T00:00:00Z"));
        let periods = get_stats(&index, window).await.unwrap();
        let expected = [
            ("2026-01-01T00:00:00Z", vec![(Stat::Placed, sum(1, &[("CNY", 100)]))]),
            (
                "2026-01-02T00:00:00Z",
                vec![(Stat::Placed, sum(3, &[("CNY", 300), ("USD", 12)])), (Stat::Refunded, sum(3, &[("CNY", 9)]))],
            ),
            ("2026-01-03T00:00:00Z", vec![]),
        ];
        let expected = expected.map(|(from, sums)| (at(from), sums.into_iter().collect()));
        assert_eq!(periods.iter().map(|period| (period.from, period.sums.clone())).collect::<Vec<_>>(), expected);
        assert!(periods.windows(2).all(|two| two[0].to == two[1].from));
    }

    #[test]
    fn a_window_has_the_period_of_its_beginning_and_none_that_begins_at_its_end() {
        let window = |by, from, to| Window::new(by, at(from), at(to)).periods();
        for (from, to, hours, days) in [
            ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", 24, 1),
            ("2026-01-01T00:59:59Z", "2026-01-02T00:00:01Z", 25, 2),
            ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000000001Z", 1, 1),
            ("2026-01-01T00:00:00Z", "2026-01-01T01:00:00.000000001Z", 2, 1),
            ("2026-01-01T00:30:00Z", "2026-01-01T00:30:00Z", 0, 0),
            ("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z", 0, 0),
            ("2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z", 366 * 24, 366),
        ] {
            assert_eq!((window(By::Hour, from, to), window(By::Day, from, to)), (hours, days), "{from} {to}");
        }
    }

    proptest! {
        #[test]
        fn every_time_is_in_its_hour(seconds in -1_000_000_000_i64..4_102_444_800, nanos in 0..1_000_000_000_u32) {
            let time = DateTime::from_timestamp(seconds, nanos).unwrap();
            let hour = Hour::of(time);
            prop_assert!(hour.begins() <= time && time < Hour(hour.0.saturating_add(1)).begins());
        }

        #[test]
        fn no_window_is_a_panic(from in any::<i64>(), to in any::<i64>()) {
            let time = |seconds| DateTime::from_timestamp(seconds, 0);
            if let (Some(from), Some(to)) = (time(from / 4_000_000), time(to / 4_000_000)) {
                for by in [By::Hour, By::Day] {
                    prop_assert!(Window::new(by, from, to).periods() >= 0);
                }
            }
        }
    }
}
