//! The order service's HTTP API for Rust. `api/openapi.yaml` is the contract; this has the manners of `clients/typescript`.
//!
//! [`OrderClient`] has a method for each operation, which answers with the body, or fails with an [`Error`] that says what was refused.
//! What no method is made for is a [`Request`] and its [`Answer`], sent and repeated in the same way.
//!
//! Amounts are [`Money`], or are in its minor units; times are in UTC. A `version` is an event's number: its own, or that of the last one in
//! what is told. `next` and `previous` are paths of other pages, which [`OrderClient::all`] follows; there is none at the ends.
//!
//! ```no_run
//! # async fn example() -> Result<(), order_client::Error> {
//! use order_client::{Cancel, OrderClient};
//! use secrecy::SecretString;
//!
//! let client = OrderClient::new("https://api.example.com")?.with_token(SecretString::from("eyJ..."));
//! let found = client.search("anna@example.com", None).await?;
//! for row in client.all(found, 500).await?.rows {
//!     let cancelled = client.cancel(row.id, &Cancel { reason: "out of season".to_owned(), note: None }).await?;
//!     let order = client.wait_for_version(row.id, cancelled.version, std::time::Duration::from_secs(30)).await?;
//!     assert_eq!(order.version, cancelled.version);
//! }
//! # Ok(())
//! # }
//! ```

mod client;
mod error;
mod transport;
mod types;

pub use client::{OrderClient, Page, Rows};
pub use domain::{
    ids::{AdjustmentId, CustomerId, OrderId, ProductId, RefundId},
    moment::Moment,
    money::{Currency, Money},
};
pub use error::{BoxError, Error, FieldError, Problem, Sent};
pub use reqwest::{Method, StatusCode, header::HeaderMap};
pub use transport::{Answer, Exchange, Request, Retries, TokenSource, is_loopback};
pub use types::*;
