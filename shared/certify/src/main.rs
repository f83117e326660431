//! `make certify` runs this: it holds somebody's provider to the laws of its port over the wire, and says of each whether it holds.
//!
//! They are the laws that the in-memory ports and the adapters are held to, and those that need a capability are left out when
//! the provider does not claim it. The process ends with 0 when all hold, 1 when one is broken, and 2 when nothing could be tried.

mod exchanges;
mod verdict;

use std::{
    env,
    error::Error,
    fs,
    io::{self, Write},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use application::{conformance::Law, event_store::Unavailable};
use futures_util::future::BoxFuture;
use providers::{Port, Remote, breaker};
use secrecy::SecretString;
use settings::{Address, BadAddress, Secrets};

use crate::{exchanges::Exchanges, verdict::verdict};

const USAGE: &str = "\
usage: certify inventory|payments|shipping|notifications URL
with a URL such as grpc://127.0.0.1:50051 or https://provider.example; TOKEN is shown to the provider as a bearer token, CA names a file with
the roots that its certificate leads to, VERBOSE=1 shows the calls of every law";

/// A law that takes longer than this is broken. Those of a provider nearby take some milliseconds.
const LAW_MAX: Duration = Duration::from_mins(2);

/// Why nothing could be tried.
#[derive(Debug, thiserror::Error)]
enum Untried {
    #[error("{USAGE}")]
    Usage,
    #[error("{url}: {problem}")]
    Address { url: String, problem: BadAddress },
    #[error("{file} cannot be read")]
    Roots { file: String, source: io::Error },
    #[error("{url} does not answer GetCapabilities")]
    Nobody { url: String, source: Unavailable },
    #[error("the result cannot be printed")]
    Print(#[from] io::Error),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match certify(env::args().skip(1).collect()).await {
        Ok(broken) => ExitCode::from(u8::from(broken > 0)),
        Err(error) => {
            let mut said = error.to_string();
            let mut cause = error.source();
            while let Some(error) = cause {
                said = format!("{said}: {error}");
                cause = error.source();
            }
            let _ = writeln!(io::stderr(), "{said}");
            ExitCode::from(2)
        }
    }
}

/// How many laws are broken.
async fn certify(arguments: Vec<String>) -> Result<usize, Untried> {
    let [port, url] = <[String; 2]>::try_from(arguments).map_err(|_| Untried::Usage)?;
    let address = Address::parse(&url).map_err(|problem| Untried::Address { url: url.clone(), problem })?;
    let (port, laws) = match port.as_str() {
        "inventory" => (Port::Inventory, application::inventory_conformance!(conformance_laws, Remote)),
        "payments" => (Port::Payments, application::payments_conformance!(conformance_laws, Remote)),
        "shipping" => (Port::Shipping, application::shipping_conformance!(conformance_laws, Remote)),
        "notifications" => (Port::Notifications, application::notifications_conformance!(conformance_laws, Remote)),
        _ => return Err(Untried::Usage),
    };
    let shown = Shown::of_environment()?;
    let capabilities = shown.remote(port, &address, &Arc::default()).capabilities(port).await;
    let capabilities = capabilities.map_err(|source| Untried::Nobody { url: url.clone(), source })?;
    let claims = if capabilities.is_empty() { "nothing".to_owned() } else { capabilities.join(", ") };
    let mut out = io::stdout().lock();
    writeln!(out, "{} at {url}, which claims {claims}\n", port.what())?;

    let verbose = env::var("VERBOSE").is_ok_and(|verbose| !verbose.is_empty());
    let (mut hold, mut broken, mut skipped) = (0_usize, 0_usize, 0_usize);
    for Law { name, needs, hold: law } in laws {
        if let Some(needed) = needs.filter(|needed| !capabilities.iter().any(|claimed| claimed == needed)) {
            writeln!(out, "skipped  {name}: only for who claims `{needed}`")?;
            skipped = skipped.saturating_add(1);
            continue;
        }
        // A connection of its own for each law: what one has broken is no other's fault.
        let exchanges = Arc::<Exchanges>::default();
        let provider = shown.remote(port, &address, &exchanges);
        let verdict = verdict(law(&provider), LAW_MAX).await;
        match &verdict {
            Ok(()) => {
                writeln!(out, "holds    {name}")?;
                hold = hold.saturating_add(1);
            }
            Err(why) => {
                writeln!(out, "BROKEN   {name}\n{why}")?;
                broken = broken.saturating_add(1);
            }
        }
        if verbose || verdict.is_err() {
            write!(out, "{exchanges}")?;
        }
        out.flush()?;
    }
    writeln!(out, "\n{hold} hold, {broken} broken, {skipped} skipped")?;
    Ok(broken)
}

/// What the provider is shown, and what its certificate has to show.
struct Shown {
    token: Option<Given>,
    roots: Option<String>,
}

/// The token that was given, whatever it is called.
#[derive(Clone)]
struct Given(SecretString);

impl Secrets for Given {
    fn read<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<SecretString, Box<dyn Error + Send + Sync>>> {
        Box::pin(async { Ok(self.0.clone()) })
    }
}

impl Shown {
    fn of_environment() -> Result<Self, Untried> {
        let given = |name| env::var(name).ok().filter(|value: &String| !value.is_empty());
        let read = |file: String| fs::read_to_string(&file).map_err(|source| Untried::Roots { file, source });
        let token = given("TOKEN").map(|token| Given(token.into()));
        Ok(Self { token, roots: given("CA").map(read).transpose()? })
    }

    /// The client that the order service calls providers with. Laws ask a sandbox to fail, so that no breaker is to come between.
    fn remote(&self, port: Port, address: &Address, exchanges: &Arc<Exchanges>) -> Remote {
        let deadline = settings::Provider::default().deadline();
        let breaker = breaker::Settings { failures: std::num::NonZeroU32::MAX, ..breaker::Settings::default() };
        let exchanges = Arc::clone(exchanges);
        let witness = Box::new(move |call, asked, answer| exchanges.push(call, &asked, answer));
        let mut remote = Remote::new(port, vec![address.clone()], deadline, breaker).witnessed_by(witness);
        if let Some(token) = self.token.clone() {
            remote = remote.with_token("TOKEN".to_owned(), Arc::new(token));
        }
        match self.roots.clone() {
            Some(roots) => remote.with_ca_bundle(roots),
            None => remote,
        }
    }
}
