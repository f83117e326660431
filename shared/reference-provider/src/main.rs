//! `make providers` runs this beside the local stack.

use std::{
    env,
    error::Error,
    io::{self, Write},
    path::Path,
    process::ExitCode,
    sync::Arc,
};

use reference_provider::{NotKept, Reference, UnknownLaw, serve};
use tokio::{
    net::TcpListener,
    signal::{
        ctrl_c,
        unix::{SignalKind, signal},
    },
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
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let mut said = format!("error: {failure}");
            let mut cause = failure.source();
            while let Some(error) = cause {
                said = format!("{said}: {error}");
                cause = error.source();
            }
            let _ = writeln!(io::stderr(), "{said}");
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
    let mut terminated = signal(SignalKind::terminate())?;
    // Whoever has asked for any free port reads here which one that is.
    writeln!(io::stdout(), "grpc://{}\nhttp://{}", grpc.local_addr()?, rest.local_addr()?)?;
    let stop = async move {
        tokio::select! {
            _ = ctrl_c() => {}
            _ = terminated.recv() => {}
        }
    };
    Ok(serve(Arc::new(reference), grpc, rest, stop).await?)
}
