//! The `DynamoDB` adapters against a `DynamoDB` in the same process, all in one test binary.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "in a test, a panic is how a failure is told"
)]

mod conformance;
mod contention;
mod dead_letters;
mod faults;
mod histories;
mod items;
mod limits;
mod read_model;
mod remote_calls;
mod sandbox;
mod ses;
mod support;
