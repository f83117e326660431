//! What a law has asked, and what was answered.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Mutex, PoisonError},
};

use serde_json::Value;

/// A law is broken by its last calls.
const CALLS_MAX: usize = 12;
const CHARACTERS_MAX: usize = 600;

/// The last calls of a law.
#[derive(Default)]
pub(crate) struct Exchanges(Mutex<Last>);

#[derive(Default)]
struct Last {
    /// How many there were in all.
    count: usize,
    lines: VecDeque<String>,
}

impl Exchanges {
    pub(crate) fn push(&self, call: &str, asked: &Value, answer: Result<Value, String>) {
        let answer = match answer {
            Ok(answer) => cut(&answer.to_string()),
            Err(failure) => format!("no answer: {}", cut(&failure)),
        };
        let line = format!("{call} {}\n           -> {answer}", cut(&asked.to_string()));
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.count = last.count.saturating_add(1);
        if last.lines.len() == CALLS_MAX {
            last.lines.pop_front();
        }
        last.lines.push_back(line);
    }
}

impl fmt::Display for Exchanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(f, "         the last {} of {} calls:", last.lines.len(), last.count)?;
        last.lines.iter().try_for_each(|line| writeln!(f, "         {line}"))
    }
}

/// A text that is not longer than anybody reads.
pub(crate) fn cut(text: &str) -> String {
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{} ... ({} bytes)", text.get(..end).unwrap_or_default(), text.len()),
        None => text.to_owned(),
    }
}
