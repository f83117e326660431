//! How much each caller may ask for: classes of requests, and for each class and caller a bucket of tokens.
//!
//! Of a bucket one time is kept, that at which it is full again (GCRA calls it the theoretical arrival time): taking tokens puts
//! it off, and what comes back comes back by itself. It never goes back to an earlier time, so whoever knows an old one
//! knows what is certain to be refused.

use std::{num::NonZeroU32, time::Duration};

use chrono::{DateTime, Utc};

/// A time, or a length of it, in microseconds; times are since 1970.
pub type Micros = u64;

const MINUTE: Micros = 60_000_000;

/// A moment as buckets count.
pub fn micros(now: DateTime<Utc>) -> Micros {
    now.timestamp_micros().try_into().unwrap_or_default()
}

/// Requests that are counted together, each caller's by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Also what a declined order costs its customer.
    CustomerCommands,
    CustomerReads,
    StaffCommands,
    StaffReads,
    CarrierCommands,
    Scrapes,
    ProfileChanges,
    Searches,
    EventLists,
    /// Those with `min_version`, which may hold a function while a view is late.
    WaitingReads,
}

impl Class {
    pub const ALL: [Self; 10] = [
        Self::CustomerCommands,
        Self::CustomerReads,
        Self::StaffCommands,
        Self::StaffReads,
        Self::CarrierCommands,
        Self::Scrapes,
        Self::ProfileChanges,
        Self::Searches,
        Self::EventLists,
        Self::WaitingReads,
    ];

    /// The word that settings, figures and clients know.
    pub fn name(self) -> &'static str {
        match self {
            Self::CustomerCommands => "customer_commands",
            Self::CustomerReads => "customer_reads",
            Self::StaffCommands => "staff_commands",
            Self::StaffReads => "staff_reads",
            Self::CarrierCommands => "carrier_commands",
            Self::Scrapes => "scrapes",
            Self::ProfileChanges => "profile_changes",
            Self::Searches => "searches",
            Self::EventLists => "event_lists",
            Self::WaitingReads => "waiting_reads",
        }
    }

    /// Whether nothing remote is asked while the caller is far below the limit.
    pub fn is_read(self) -> bool {
        match self {
            Self::CustomerReads
            | Self::StaffReads
            | Self::Scrapes
            | Self::Searches
            | Self::EventLists
            | Self::WaitingReads => true,
            Self::CustomerCommands | Self::StaffCommands | Self::CarrierCommands | Self::ProfileChanges => false,
        }
    }
}

/// How many tokens a bucket holds, and how fast they come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    burst: u32,
    /// How long one token takes to come back.
    interval: Micros,
}

impl Bucket {
    /// In any time that is let through: `burst`, and what comes back meanwhile.
    pub fn new(burst: NonZeroU32, per_minute: NonZeroU32) -> Self {
        // Rounded up, so that it is never more.
        Self { burst: burst.get(), interval: MINUTE.div_ceil(per_minute.get().into()) }
    }

    /// One that holds an eighth of the tokens, which come back eight times as slowly.
    #[must_use]
    pub fn eighth(self) -> Self {
        Self { burst: self.burst / 8, interval: self.interval.saturating_mul(8) }
    }

    /// The same for whoever may take as many tokens again as there are in it, when it is empty.
    #[must_use]
    pub fn with_debts(self) -> Self {
        Self { burst: self.burst.saturating_mul(2), ..self }
    }

    pub fn burst(self) -> u32 {
        self.burst
    }

    /// In which an empty bucket fills.
    pub fn window(self) -> Duration {
        Duration::from_micros(self.time_of(self.burst))
    }

    /// In which so many tokens come back.
    pub fn time_of(self, tokens: u32) -> Micros {
        self.interval.saturating_mul(tokens.into())
    }

    /// The latest time at which a bucket may be full that has so many tokens now.
    pub fn latest(self, tokens: u32, now: Micros) -> Micros {
        now.saturating_add(self.time_of(self.burst)).saturating_sub(self.time_of(tokens))
    }

    /// Takes tokens, all or none. Answers when the bucket is full after that; when they are not there, how long it takes until they are.
    pub fn draw(self, full_at: Micros, tokens: u32, now: Micros) -> Result<Micros, Duration> {
        let full_at = full_at.max(now);
        match full_at.saturating_sub(self.latest(tokens, now)) {
            0 => Ok(full_at.saturating_add(self.time_of(tokens))),
            lacking => Err(Duration::from_micros(lacking)),
        }
    }

    /// How many tokens are there.
    pub fn left(self, full_at: Micros, now: Micros) -> u32 {
        let left = self.latest(0, now).saturating_sub(full_at.max(now));
        left.checked_div(self.interval).and_then(|left| left.try_into().ok()).unwrap_or(u32::MAX)
    }

    /// How long it takes until there is one more than are left; nothing when it is full.
    pub fn next(self, full_at: Micros, now: Micros) -> Duration {
        let lacking = self.burst.saturating_sub(self.left(full_at, now)).saturating_sub(1);
        Duration::from_micros(full_at.saturating_sub(now).saturating_sub(self.time_of(lacking)))
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "in a test, an overflow is a failure")]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const START: Micros = 1_800_000_000_000_000;

    fn bucket(burst: u32, per_minute: u32) -> Bucket {
        Bucket::new(NonZeroU32::new(burst).unwrap(), NonZeroU32::new(per_minute).unwrap())
    }

    fn any_bucket() -> impl Strategy<Value = Bucket> {
        (1..200_u32, 1..100_000_u32).prop_map(|(burst, per_minute)| bucket(burst, per_minute))
    }

    /// The moments of requests, and how many tokens each asks for.
    fn requests() -> impl Strategy<Value = Vec<(Micros, u32)>> {
        let pause = prop_oneof![Just(0), 0..1_000_u64, 0..MINUTE];
        vec((pause, 1..5_u32), 1..200).prop_map(|pauses| {
            let later = |now: &mut Micros, (pause, tokens): (Micros, u32)| {
                *now += pause;
                Some((*now, tokens))
            };
            pauses.into_iter().scan(START, later).collect()
        })
    }

    #[test]
    fn a_burst_passes_at_once_and_then_what_comes_back() {
        let bucket = bucket(3, 60);
        let mut full_at = 0;
        for left in [2, 1, 0] {
            full_at = bucket.draw(full_at, 1, START).unwrap();
            assert_eq!(bucket.left(full_at, START), left);
        }
        assert_eq!(bucket.draw(full_at, 1, START), Err(Duration::from_secs(1)));
        assert_eq!(bucket.draw(full_at, 2, START), Err(Duration::from_secs(2)));
        assert_eq!(bucket.next(full_at, START + 400_000), Duration::from_millis(600));
        full_at = bucket.draw(full_at, 1, START + 1_000_000).unwrap();
        assert_eq!(bucket.draw(full_at, 1, START + 1_000_000), Err(Duration::from_secs(1)));
        let later = START + 60_000_000;
        assert_eq!((bucket.left(full_at, later), bucket.next(full_at, later)), (3, Duration::ZERO));
        assert_eq!(bucket.window(), Duration::from_secs(3));
    }

    #[test]
    fn debts_are_a_burst_at_most_and_are_paid_before_anything_is_let_through() {
        let bucket = bucket(4, 60);
        let mut full_at = 0;
        for _ in 0..4 {
            full_at = bucket.with_debts().draw(full_at, 2, START).unwrap();
        }
        assert!(bucket.with_debts().draw(full_at, 1, START).is_err());
        assert_eq!(bucket.left(full_at, START), 0);
        assert_eq!(bucket.draw(full_at, 1, START), Err(Duration::from_secs(5)));
        assert_eq!(bucket.next(full_at, START), Duration::from_secs(5));
        assert!(bucket.draw(full_at, 1, START + 5_000_000).is_ok());
    }

    #[test]
    fn more_than_a_bucket_holds_is_never_there() {
        assert!(bucket(4, 60).draw(0, 5, START).is_err());
        assert!(bucket(7, 60).eighth().draw(0, 1, START).is_err());
    }

    #[test]
    fn every_class_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<&str> = Class::ALL.map(Class::name).into();
        assert_eq!(names.len(), Class::ALL.len());
    }

    proptest! {
        #[test]
        fn never_more_is_let_through_than_a_burst_and_what_comes_back_meanwhile(
            bucket in any_bucket(),
            requests in requests(),
        ) {
            let mut full_at = 0;
            let mut passed: Vec<(Micros, u32)> = Vec::new();
            for (now, tokens) in requests {
                if let Ok(after) = bucket.draw(full_at, tokens, now) {
                    prop_assert!(after > full_at, "it goes back");
                    full_at = after;
                    passed.push((now, tokens));
                }
            }
            for from in 0..passed.len() {
                let mut taken = 0;
                for (now, tokens) in &passed[from..] {
                    taken += u64::from(*tokens);
                    let back = (now - passed[from].0) / bucket.interval;
                    prop_assert!(taken <= u64::from(bucket.burst) + back, "{taken} of {} and {back}", bucket.burst);
                }
            }
        }

        #[test]
        fn who_waits_as_long_as_they_are_told_gets_through_and_who_comes_earlier_does_not(
            bucket in any_bucket(),
            requests in requests(),
        ) {
            let mut full_at = 0;
            for (now, tokens) in requests {
                let tokens = tokens.min(bucket.burst);
                match bucket.draw(full_at, tokens, now) {
                    Ok(after) => full_at = after,
                    Err(wait) => {
                        let then = now + u64::try_from(wait.as_micros()).unwrap();
                        prop_assert!(bucket.draw(full_at, tokens, then - 1).is_err());
                        prop_assert!(bucket.draw(full_at, tokens, then).is_ok());
                    }
                }
            }
        }

        #[test]
        fn what_is_left_can_be_taken_and_no_more_until_the_next_comes_back(
            bucket in any_bucket(),
            requests in requests(),
        ) {
            let mut full_at = 0;
            for (now, tokens) in requests {
                let left = bucket.left(full_at, now);
                prop_assert!(bucket.draw(full_at, left, now).is_ok());
                prop_assert!(bucket.draw(full_at, left + 1, now).is_err());
                let then = now + u64::try_from(bucket.next(full_at, now).as_micros()).unwrap();
                prop_assert_eq!(bucket.left(full_at, then), (left + 1).min(bucket.burst));
                full_at = bucket.draw(full_at, tokens, now).unwrap_or(full_at);
            }
        }
    }
}
