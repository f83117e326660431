//! What settings only name, because nobody is to see it.

use std::error::Error;

use futures_util::future::BoxFuture;
use secrecy::SecretString;

/// Where secrets are kept.
pub trait Secrets: Send + Sync {
    /// The secret of this name, as it is now. What an error says MUST NOT show it.
    fn read<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<SecretString, Box<dyn Error + Send + Sync>>>;
}

/// Where a process looks that was given no other place.
pub(crate) struct Nowhere;

impl Secrets for Nowhere {
    fn read<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<SecretString, Box<dyn Error + Send + Sync>>> {
        Box::pin(async { Err("no place is known where secrets are kept".into()) })
    }
}
