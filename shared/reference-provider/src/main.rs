//! `make providers` runs this beside the local stack.

use std::{
    env,
    io::{self, Write},
    sync::Arc,
};

use reference_provider::{Reference, serve};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> io::Result<()> {
    let address = |variable, default: &str| env::var(variable).unwrap_or_else(|_| default.to_owned());
    let grpc = TcpListener::bind(address("GRPC_ADDRESS", "127.0.0.1:50051")).await?;
    let rest = TcpListener::bind(address("REST_ADDRESS", "127.0.0.1:50080")).await?;
    // Whoever has asked for any free port reads here which one that is.
    writeln!(io::stdout(), "grpc://{}\nhttp://{}", grpc.local_addr()?, rest.local_addr()?)?;
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    let reference = Reference { token: env::var("TOKEN").ok(), ..Reference::default() };
    serve(Arc::new(reference), grpc, rest, stop).await
}
