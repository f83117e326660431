//! How figures are made that mean something on a machine that others use too: everybody runs in turn, many times, and
//! each run is compared with the baseline's run of the same round.

use std::{pin::Pin, time::Duration};

/// One run of an entrant: the time that one of its operations takes, on average over the run.
type Run<'a> = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Duration> + 'a>> + 'a>;

/// Entrants that do the same work in different ways. The first is the baseline.
#[derive(Default)]
pub(crate) struct Contest<'a> {
    entrants: Vec<(&'static str, Run<'a>)>,
}

/// What came out for one entrant.
pub(crate) struct Outcome {
    pub(crate) name: &'static str,
    /// The median over the rounds.
    pub(crate) time: Duration,
    /// How many times as long as the baseline's run of the same round: the median over the rounds, and the quartiles.
    pub(crate) ratio: [f64; 3],
    /// How many seconds longer than the baseline's run of the same round: the median over the rounds, and the quartiles.
    pub(crate) longer: [f64; 3],
}

impl<'a> Contest<'a> {
    pub(crate) fn enter<F: Future<Output = Duration> + 'a>(
        mut self,
        name: &'static str,
        run: impl Fn() -> F + 'a,
    ) -> Self {
        self.entrants.push((name, Box::new(move || Box::pin(run()))));
        self
    }

    /// One round that does not count, then this many that do. Each round begins with another entrant, so that none always
    /// comes after the same one.
    pub(crate) async fn run(self, rounds: usize) -> Vec<Outcome> {
        let entrants = self.entrants.len();
        let mut times = vec![Vec::with_capacity(rounds); entrants];
        for round in 0..=rounds {
            for turn in 0..entrants {
                let entrant = (turn + round) % entrants;
                let time = self.entrants[entrant].1().await;
                if round > 0 {
                    times[entrant].push(time.as_secs_f64());
                }
            }
        }
        let names = self.entrants.iter().map(|(name, _)| *name);
        let outcome = |(name, own): (_, &Vec<f64>)| {
            let beside = |how: fn(f64, f64) -> f64| {
                let values = sorted(own.iter().zip(&times[0]).map(|(own, baseline)| how(*own, *baseline)));
                [2, 1, 3].map(|quarters| quantile(&values, quarters))
            };
            Outcome {
                name,
                time: Duration::from_secs_f64(quantile(&sorted(own.iter().copied()), 2)),
                ratio: beside(|own, baseline| own / baseline),
                longer: beside(|own, baseline| own - baseline),
            }
        };
        names.zip(&times).map(outcome).collect()
    }
}

pub(crate) fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The value that this many quarters of the values do not exceed.
pub(crate) fn quantile(sorted: &[f64], quarters: usize) -> f64 {
    sorted[(sorted.len() - 1) * quarters / 4]
}

impl Outcome {
    pub(crate) fn per_second(&self) -> f64 {
        self.time.as_secs_f64().recip()
    }

    /// The ratio of the rates, where [`ratio`](Self::ratio) is that of the times.
    pub(crate) fn ratio_of_rates(&self) -> [f64; 3] {
        let [median, lower, upper] = self.ratio;
        [median.recip(), upper.recip(), lower.recip()]
    }
}

/// A ratio and its quartiles, as a cell of a table.
pub(crate) fn ratio([median, lower, upper]: [f64; 3]) -> String {
    let digits = match median {
        10.0.. => 1,
        0.1.. => 2,
        _ => 3,
    };
    format!("{median:.digits$} ({lower:.digits$} to {upper:.digits$})")
}

/// A title and a table, the first column to the left and the others to the right.
pub(crate) fn print<const N: usize>(title: &str, head: [&str; N], rows: &[[String; N]]) {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).chain([head[column].len()]).max();
    let widths: [usize; N] = std::array::from_fn(|column| width(column).unwrap_or_default());
    let line = |cells: [&str; N]| {
        let cells = cells.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        cells.collect::<Vec<_>>().join("  ")
    };
    println!("\n{title}\n\n{}", line(head));
    println!("{}", widths.map(|width| "-".repeat(width)).join("  "));
    for row in rows {
        println!("{}", line(row.each_ref().map(String::as_str)));
    }
}
