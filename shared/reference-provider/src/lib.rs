//! A provider of all four services, over gRPC and REST, for integrators to read and for tests to call.
//!
//! It keeps its books in memory, by the sandbox's rules: `application::memory` has them, and is held to the same laws as every
//! other provider. [`journal`] has them outlast the process, in a file. [`answers`] reads the contract's requests and writes its
//! answers; [`grpc`] and [`rest`] only carry them. [`registration`] has it found. [`breaks`] has it break a law on request.

mod answers;
mod breaks;
mod grpc;
mod journal;
mod registration;
mod rest;

use std::{future::pending, io, path::Path, pin::pin, sync::Arc, time::Duration};

use application::memory::{MemoryInventory, MemoryNotifications, MemoryPayments, MemoryShipping};
use tokio::{net::TcpListener, sync::watch, time::sleep};

pub use breaks::{Break, UnknownLaw, known_breaks};
pub use journal::NotKept;
pub use registration::{NotRegistered, Registration, UNTIL_ALL_KNOW, chain};

/// What this provider can do beyond what every one must.
const CAPABILITIES: [&str; 3] = ["bars_keys", "lists_products", "sandbox"];

/// The largest request, over either transport: an order of a hundred lines has some 10 KB.
const REQUEST_BYTES_MAX: usize = 256 * 1024;

/// How long it still takes new calls when its health says that it does not, so that whoever chooses among providers can notice.
const NOTICE: Duration = Duration::from_secs(1);

/// How long it then waits for what is under way: as long as a call may take.
const DRAIN: Duration = Duration::from_secs(5);

/// The books.
#[derive(Default)]
pub struct Reference {
    /// The bearer token without which it answers nobody; `None` answers everybody.
    token: Option<String>,
    pub inventory: MemoryInventory,
    pub payments: MemoryPayments,
    pub shipping: MemoryShipping,
    pub notifications: MemoryNotifications,
    /// Where the books are kept; `None` keeps them as long as the process runs.
    journal: Option<Arc<journal::Journal>>,
    broken: Option<breaks::Broken>,
}

impl Reference {
    /// A provider that breaks this law.
    pub fn breaking(law: &str) -> Result<Self, UnknownLaw> {
        Ok(Self { broken: Some(breaks::Broken::parse(law)?), ..Self::default() })
    }

    /// One that answers nobody who does not show this bearer token. Its health it tells everybody.
    #[must_use]
    pub fn with_token(self, token: String) -> Self {
        Self { token: Some(token), ..self }
    }

    /// One that goes on with the books that are in this file, which is made if it is not there, and keeps there what it answers over
    /// either transport. How it broke a law before it has forgotten.
    pub async fn kept_in(self, file: &Path) -> Result<Self, NotKept> {
        let journal = journal::Journal::open(file, &self).await?;
        Ok(Self { journal: Some(Arc::new(journal)), ..self })
    }

    /// Is over when nobody can be answered any more, because the books cannot be kept.
    pub async fn until_not_kept(&self) {
        match &self.journal {
            Some(journal) => journal.until_incomplete().await,
            None => pending().await,
        }
    }

    /// Whether it answers whoever shows this in `authorization`.
    fn admits(&self, authorization: Option<&[u8]>) -> bool {
        self.token.as_ref().is_none_or(|token| authorization == Some(format!("Bearer {token}").as_bytes()))
    }
}

/// Whether new calls are welcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    /// They are let in, but health says that they should go elsewhere.
    Leaving,
    /// Only what is under way is answered.
    Closing,
}

/// The phase as it is now, and every one that follows.
type Phases = watch::Receiver<Phase>;

async fn until(mut phases: Phases, phase: Phase) {
    // Nobody is left to say so when the sender is gone, and that is the end as well.
    drop(phases.wait_for(|now| *now >= phase).await);
}

/// Answers gRPC on one socket and REST on another, until `stop` is over. Then its health says so, and it ends when what is under
/// way has been answered, or has taken too long. Of books that cannot be kept any more health tells before that.
pub async fn serve(
    reference: Arc<Reference>,
    grpc: TcpListener,
    rest: TcpListener,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (phase, phases) = watch::channel(Phase::Serving);
    let grpc = grpc::serve(Arc::clone(&reference), grpc, phases.clone());
    let rest = rest::serve(Arc::clone(&reference), rest, phases);
    let servers = async { tokio::try_join!(async { grpc.await.map_err(io::Error::other) }, rest).map(drop) };
    let stop = async {
        let mut stop = pin!(stop);
        tokio::select! {
            () = &mut stop => {}
            () = reference.until_not_kept() => {
                phase.send_replace(Phase::Leaving);
                stop.await;
            }
        }
        phase.send_replace(Phase::Leaving);
        sleep(NOTICE).await;
        phase.send_replace(Phase::Closing);
        sleep(DRAIN).await;
    };
    tokio::select! {
        ended = servers => ended,
        () = stop => Ok(()),
    }
}
