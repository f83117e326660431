//! Buckets of tokens that all copies of all functions share.

use chrono::{DateTime, Utc};
use domain::ids::CustomerId;

use crate::{
    event_store::Unavailable,
    limits::{Bucket, Micros},
};

/// Who takes how much of what.
#[derive(Debug, Clone, Copy)]
pub struct Draw<'n> {
    /// Of the bucket. One that nobody has drawn from is full.
    pub name: &'n str,
    pub bucket: Bucket,
    pub tokens: u32,
    pub now: Micros,
    /// When the bucket is full again, as far as is known: 0 when nothing is. It may save a call, and changes no answer.
    pub seen: Micros,
}

/// Whether the tokens were there, and when the bucket is full again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drawn {
    Taken { full_at: Micros },
    Refused { full_at: Micros },
}

/// The buckets. Losing them costs nothing but what they would have refused.
pub trait Limits: Send + Sync {
    /// Takes tokens from a bucket, all or none. Of draws that come at once, no more MUST be granted than there are tokens. MUST be
    /// one remote call where the bucket is full or `seen` is right, and three at most. Who hears nothing may have taken them.
    fn draw(&self, draw: &Draw<'_>) -> impl Future<Output = Result<Drawn, Unavailable>> + Send;
}

/// Whoever has declined orders count against their customers.
pub trait Declines: Send + Sync {
    /// A customer's order was declined. MUST come back within a moment, whatever happens: the order rests on nothing of it.
    fn declined(&self, customer: &CustomerId, now: DateTime<Utc>) -> impl Future<Output = ()> + Send;
}
