//! `make providers` runs this beside the local stack.

use std::{
    env,
    future::pending,
    io::{self, Write},
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use reference_provider::{NotKept, NotRegistered, Reference, Registration, UNTIL_ALL_KNOW, UnknownLaw, chain, serve};
use tokio::{
    net::TcpListener,
    signal::{
        ctrl_c,
        unix::{Signal, SignalKind, signal},
    },
    sync::oneshot,
    time::timeout,
};

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Break(#[from] UnknownLaw),
    #[error(transparent)]
    Books(#[from] NotKept),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Registration(#[from] NotRegistered),
    #[error("LINGER_SECONDS must be a whole number of seconds")]
    Linger,
}

#[tokio::main]
async fn main() -> ExitCode {
    match Box::pin(run()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "error: {}", chain(&failure));
            ExitCode::from(2)
        }
    }
}

async fn run() -> Result<(), Failure> {
    let given = |variable| env::var(variable).ok().filter(|value| !value.is_empty());
    let reference = match given("BREAK") {
        Some(law) => Reference::breaking(&law)?,
        None => Reference::default(),
    };
    let reference = match given("TOKEN") {
        Some(token) => reference.with_token(token),
        None => reference,
    };
    let reference = match given("STATE_FILE") {
        Some(file) => reference.kept_in(Path::new(&file)).await?,
        None => reference,
    };
    let address = |variable, default: &str| given(variable).unwrap_or_else(|| default.to_owned());
    let grpc = TcpListener::bind(address("GRPC_ADDRESS", "127.0.0.1:50051")).await?;
    let rest = TcpListener::bind(address("REST_ADDRESS", "127.0.0.1:50080")).await?;
    let registration = match given("REGISTER_IN") {
        Some(service_id) => Some(Registration::new(service_id, grpc.local_addr()?, rest.local_addr()?)?),
        None => None,
    };
    let linger = match given("LINGER_SECONDS") {
        Some(seconds) => Duration::from_secs(seconds.parse().map_err(|_| Failure::Linger)?),
        None => UNTIL_ALL_KNOW,
    };
    let life = Life {
        urls: format!("grpc://{}\nhttp://{}", grpc.local_addr()?, rest.local_addr()?),
        reference: Arc::new(reference),
        registration,
        linger,
        stop: signal(SignalKind::terminate())?,
    };
    let (ended, end) = oneshot::channel();
    let reference = Arc::clone(&life.reference);
    serve(reference, grpc, rest, async { drop(ended.send(life.lived().await)) }).await?;
    end.await.unwrap_or(Ok(()))
}

/// All that happens between the first call that is answered and the last one that is let in.
struct Life {
    urls: String,
    reference: Arc<Reference>,
    /// `None` if those who call are told otherwise where it is.
    registration: Option<Registration>,
    linger: Duration,
    stop: Signal,
}

impl Life {
    /// Is over when nobody new should call any more: it has been told to stop, or it cannot be found.
    async fn lived(self) -> Result<(), Failure> {
        let Self { urls, reference, registration, linger, mut stop } = self;
        let begun = async {
            if let Some(registration) = &registration {
                registration.register().await?;
            }
            // Whoever has started it reads here that it is ready, and, having asked for any free port, which one that is.
            writeln!(io::stdout(), "{urls}")?;
            reference.until_not_kept().await;
            // It could only refuse whoever found it now.
            if let Some(registration) = &registration {
                registration.deregister().await;
            }
            pending::<Result<(), Failure>>().await
        };
        let lived = tokio::select! {
            failed = begun => failed,
            () = told_to_stop(&mut stop) => Ok(()),
        };
        if let Some(registration) = &registration {
            registration.deregister().await;
            if lived.is_ok() {
                // Those who have found it before still call. Whoever cannot wait tells it a second time.
                drop(timeout(linger, told_to_stop(&mut stop)).await);
            }
        }
        lived
    }
}

async fn told_to_stop(terminated: &mut Signal) {
    tokio::select! {
        _ = ctrl_c() => {}
        _ = terminated.recv() => {}
    }
}
