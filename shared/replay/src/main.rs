//! `make replay` and `make anonymise` run this: it says what this build makes of every stream of an export of the event table, or
//! writes the export once more without what it says about people.
//!
//! Items come in on standard input, one a line, as `make export` has written them: `{"Item": {...}}` in `DynamoDB`'s JSON. The process
//! ends with 0 when all were taken in, and with 2 when that could not be done. A stream that cannot be read is told of and keeps no
//! other from its answer.

mod anonymise;
mod answers;

use std::{
    env,
    error::Error,
    io::{self, BufRead, BufWriter, Write},
    process::ExitCode,
};

use domain::text::Invalid;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{anonymise::Pseudonyms, answers::answer};

/// Why not everything was taken in.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("usage: replay answers|anonymise, with the items of an export on standard input, one a line")]
    Usage,
    /// Without the line itself, which is about people.
    #[error("line {number} has no item of the event table")]
    NoItem { number: usize },
    #[error("line {number} is not sorted: `answers` wants stream after stream, each from its first commit on")]
    Unsorted { number: usize },
    #[error("what is asked of an order cannot be made up")]
    Asked(#[from] Invalid),
    #[error("the answer cannot be written as JSON")]
    Json(#[from] serde_json::Error),
    #[error("lines cannot be read or written")]
    Io(#[from] io::Error),
}

fn main() -> ExitCode {
    let (input, output) = (io::stdin().lock(), BufWriter::new(io::stdout().lock()));
    let arguments: Vec<String> = env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["answers"] => answer(input, output),
        ["anonymise"] => Pseudonyms::random().anonymise(input, output),
        _ => Err(Failed::Usage),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            let _ = writeln!(io::stderr(), "error: {error}{cause}");
            ExitCode::from(2)
        }
    }
}

/// An item of the event table, whatever is in it.
struct Row {
    /// Of the line on which it stands, from 1 on.
    number: usize,
    stream: String,
    item: Map<String, Value>,
}

fn rows(input: impl BufRead) -> impl Iterator<Item = Result<Row, Failed>> {
    #[derive(Deserialize)]
    struct Line {
        #[serde(rename = "Item")]
        item: Map<String, Value>,
    }

    (1..).zip(input.lines()).map(|(number, line)| -> Result<Row, Failed> {
        let Line { item } = serde_json::from_str(&line?).map_err(|_| Failed::NoItem { number })?;
        let stream = text(&item, "stream").ok_or(Failed::NoItem { number })?.to_owned();
        Ok(Row { number, stream, item })
    })
}

/// An attribute that is a text.
fn text<'i>(item: &'i Map<String, Value>, name: &str) -> Option<&'i str> {
    item.get(name)?.get("S")?.as_str()
}
