//! The running service as its clients see it: over HTTP, deployed from the template, with IAM enforced.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

mod service;

mod access;
mod attention;
mod bad_input;
mod canary;
mod cancel;
mod chaos;
mod client;
mod compare_books;
mod customers;
mod dead_letters;
mod events;
mod events_out;
mod failure_matrix;
mod fulfilment;
mod history;
mod hostile;
mod idempotency;
mod limits;
mod lists;
mod load;
mod mail;
mod metrics;
mod orderctl;
mod products;
mod providers;
mod reads;
mod rebuild;
mod redeliver;
mod refunds;
mod replay;
mod sandbox;
mod search;
mod staff_lists;
mod stats;
mod traces;
