//! `orderctl` is the order service at a terminal: what staff do all day, and what a newcomer tries first.
//!
//! The process ends with 0 when what was asked for is done, 1 when it is not or nobody knows, and 2 when it was not understood.

mod arguments;
mod commands;
mod failure;
mod pool;
mod profile;
mod render;
mod scenario;

use std::{
    env,
    io::{self, ErrorKind, IsTerminal, Write},
    process::ExitCode,
};

use clap::Parser;

use crate::{arguments::Arguments, failure::Failure, render::Style};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let json = arguments.json;
    match commands::run(arguments, style(&io::stdout())).await {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has seen enough.
        Err(Failure::Print(error)) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = say(&failure, json);
            ExitCode::from(if matches!(failure, Failure::Usage(_)) { 2 } else { 1 })
        }
    }
}

fn style(stream: &impl IsTerminal) -> Style {
    let [no_color, term] = ["NO_COLOR", "TERM"].map(|name| env::var(name).ok());
    Style::of(stream.is_terminal(), no_color.as_deref(), term.as_deref())
}

/// With the correlation id, by which whoever runs the service finds the request in its logs.
fn say(failure: &Failure, json: bool) -> io::Result<()> {
    let mut out = io::stderr().lock();
    if json {
        return writeln!(out, "{}", failure.json());
    }
    writeln!(out, "{} {}", style(&io::stderr()).error(), render::printable(&failure.said()))?;
    if let Some(again) = failure.again() {
        writeln!(out, "it may have been done: repeat it with {}", render::printable(again))?;
    }
    match failure.correlation_id() {
        Some(id) => writeln!(out, "correlation id: {}", render::printable(id)),
        None => Ok(()),
    }
}
