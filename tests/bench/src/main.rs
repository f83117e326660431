//! Measures the service on `DynamoDB` in this process, against a named baseline that is measured in the same run.
//!
//! `make bench` runs every section.

mod commands;
mod contest;
mod database;
mod orders;

use std::process::ExitCode;

const USAGE: &str = "usage: bench [commands]...";

/// What the command line asks for.
struct Asked {
    sections: Vec<Section>,
}

#[derive(Clone, Copy)]
enum Section {
    Commands,
}

impl Section {
    const ALL: [Self; 1] = [Self::Commands];

    fn name(self) -> &'static str {
        match self {
            Self::Commands => "commands",
        }
    }
}

impl Asked {
    fn parse(arguments: impl Iterator<Item = String>) -> Option<Self> {
        let mut asked = Self { sections: Vec::new() };
        for argument in arguments {
            asked.sections.push(Section::ALL.into_iter().find(|section| section.name() == argument)?);
        }
        if asked.sections.is_empty() {
            asked.sections.extend(Section::ALL);
        }
        Some(asked)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let Some(asked) = Asked::parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    for section in asked.sections {
        match section {
            Section::Commands => commands::run().await,
        }
    }
    ExitCode::SUCCESS
}
