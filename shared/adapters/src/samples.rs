//! What the tests of many functions begin with (feature `testing`).

#![expect(clippy::expect_used, reason = "this is a part of tests, and a test fails by panicking")]

use application::event_store::Commit;

use crate::lambda::read_batch;

/// The commit by which the order of all sample events was placed: that of `project-orders`' sample.
///
/// # Panics
///
/// When that sample is no batch, or has no commit.
pub fn placed_order() -> Commit {
    let batch = serde_json::from_str(include_str!("../../../events/project-orders.json")).expect("a batch");
    read_batch(batch).0.pop().expect("a commit")
}
