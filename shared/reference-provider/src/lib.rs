//! A provider of all four services, over gRPC and REST, for integrators to read and for tests to call.
//!
//! It keeps its books in memory, by the sandbox's rules: `application::memory` has them, and is held to the same laws as every
//! other provider. [`answers`] reads the contract's requests and writes its answers; [`grpc`] and [`rest`] only carry them.

mod answers;
mod grpc;
mod rest;

use std::{io, sync::Arc};

use application::memory::{MemoryInventory, MemoryNotifications, MemoryPayments, MemoryShipping};
use tokio::net::TcpListener;

/// What this provider can do beyond what every one must.
const CAPABILITIES: [&str; 2] = ["bars_keys", "sandbox"];

/// The books.
#[derive(Default)]
pub struct Reference {
    /// The bearer token without which it answers nobody; `None` answers everybody.
    pub token: Option<String>,
    pub inventory: MemoryInventory,
    pub payments: MemoryPayments,
    pub shipping: MemoryShipping,
    pub notifications: MemoryNotifications,
}

impl Reference {
    /// Whether it answers whoever shows this in `authorization`.
    fn admits(&self, authorization: Option<&[u8]>) -> bool {
        self.token.as_ref().is_none_or(|token| authorization == Some(format!("Bearer {token}").as_bytes()))
    }
}

/// Answers gRPC on one socket and REST on another, until `stop` is over and whatever is under way has been answered.
pub async fn serve(
    reference: Arc<Reference>,
    grpc: TcpListener,
    rest: TcpListener,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (stopping, stopped) = tokio::sync::watch::channel(false);
    let until_stopped = || {
        let mut stopped = stopped.clone();
        async move { drop(stopped.wait_for(|stopped| *stopped).await) }
    };
    let grpc = grpc::serve(Arc::clone(&reference), grpc, until_stopped());
    let rest = rest::serve(reference, rest, until_stopped());
    let stop = async {
        stop.await;
        stopping.send_replace(true);
        Ok(())
    };
    tokio::try_join!(async { grpc.await.map_err(io::Error::other) }, rest, stop).map(drop)
}
