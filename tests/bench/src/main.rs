//! Measures the service on `DynamoDB` in this process, against a named baseline that is measured in the same run.
//!
//! `make bench` runs every section; `docs/benchmarks.md` says what they measure and what came out.

mod coldstart;
mod commands;
mod contest;
mod database;
mod orders;
mod providers;
mod reads;
mod rebuild;
mod tracing;

use std::process::ExitCode;

const USAGE: &str = "usage: bench [coldstart|commands|providers|reads|rebuild|tracing]... [--orders=1000,10000,100000]";

/// What the command line asks for.
struct Asked {
    sections: Vec<Section>,
    /// How many orders there are, one measurement for each.
    orders: Vec<usize>,
}

#[derive(Clone, Copy)]
enum Section {
    ColdStart,
    Commands,
    Providers,
    Reads,
    Rebuild,
    Tracing,
}

impl Section {
    const ALL: [Self; 6] =
        [Self::ColdStart, Self::Commands, Self::Providers, Self::Reads, Self::Rebuild, Self::Tracing];

    fn name(self) -> &'static str {
        match self {
            Self::ColdStart => "coldstart",
            Self::Commands => "commands",
            Self::Providers => "providers",
            Self::Reads => "reads",
            Self::Rebuild => "rebuild",
            Self::Tracing => "tracing",
        }
    }
}

impl Asked {
    fn parse(arguments: impl Iterator<Item = String>) -> Option<Self> {
        let mut asked = Self { sections: Vec::new(), orders: vec![1_000, 10_000, 100_000] };
        for argument in arguments {
            match argument.strip_prefix("--orders=") {
                Some(numbers) => {
                    let numbers = numbers.split(',').map(|number| number.trim().parse().ok().filter(|&many| many > 0));
                    asked.orders = numbers.collect::<Option<_>>()?;
                }
                None => asked.sections.push(Section::ALL.into_iter().find(|section| section.name() == argument)?),
            }
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
            Section::ColdStart => coldstart::run().await,
            Section::Commands => commands::run().await,
            Section::Providers => providers::run().await,
            Section::Reads => reads::run(&asked.orders).await,
            Section::Rebuild => rebuild::run(asked.orders[0]).await,
            Section::Tracing => tracing::run().await,
        }
    }
    ExitCode::SUCCESS
}
