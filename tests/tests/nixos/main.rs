//! The client and the modules on a real NixOS: `make test-nixos NIXPKGS=DIR`.
//!
//! Machines boot in systemd-nspawn from the tree that `tests/nixos/base` makes, and update themselves from one
//! appliance. Every scenario is an entry in [`SCENARIOS`] and has a machine of its own.

mod env;
mod scenarios;
mod vm;

use std::io::Write;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use env::Env;
use scenarios::{Absent, SCENARIOS};

const OK: &str = "ok";
const FAILED: &str = "FAILED";
/// What it needs isn't in this NixOS.
const ABSENT: &str = "absent";

/// What became of a scenario.
struct Outcome {
    name: &'static str,
    error: Option<anyhow::Error>,
    took: Duration,
}

fn main() -> ExitCode {
    let only = std::env::args().nth(1).unwrap_or_default();
    match run_all(&only) {
        Ok(outcomes) => {
            print_table(&outcomes);
            let failed = outcomes.iter().any(|outcome| outcome.word() == FAILED);
            ExitCode::from(u8::from(failed || outcomes.is_empty()))
        }
        Err(error) => {
            eprintln!("cannot start: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_all(only: &str) -> Result<Vec<Outcome>> {
    let env = Env::new()?;
    let chosen = SCENARIOS.iter().filter(|(name, _)| name.contains(only));
    let outcomes: Vec<_> = chosen
        .map(|(name, scenario)| run(&env, name, *scenario))
        .collect();
    println!("\nmedian seconds of the phases of an update:");
    for (phase, seconds) in env.phases()? {
        println!("  {phase:<10} {seconds:>6.2}");
    }
    Ok(outcomes)
}

fn run(env: &Env, name: &'static str, scenario: fn(&Env) -> Result<()>) -> Outcome {
    print!("{name} ...");
    std::io::stdout().flush().ok();
    let started = Instant::now();
    let result = panic::catch_unwind(AssertUnwindSafe(|| scenario(env)));
    let error = result.unwrap_or_else(|_| Err(anyhow!("it panicked"))).err();
    let took = started.elapsed();
    let outcome = Outcome { name, error, took };
    println!(" {} ({:.1} s)", outcome.word(), took.as_secs_f64());
    if let Some(error) = &outcome.error {
        println!("{error:#}");
    }
    outcome
}

fn print_table(outcomes: &[Outcome]) {
    println!("\n{:<60} {:<6} {:>8}", "scenario", "", "seconds");
    for outcome in outcomes {
        let (name, word, took) = (outcome.name, outcome.word(), outcome.took.as_secs_f64());
        println!("{name:<60} {word:<6} {took:>8.1}");
    }
    let count = |word| {
        outcomes
            .iter()
            .filter(|outcome| outcome.word() == word)
            .count()
    };
    let total: Duration = outcomes.iter().map(|outcome| outcome.took).sum();
    println!(
        "{} {OK}, {} {FAILED}, {} {ABSENT}, {:.0} s",
        count(OK),
        count(FAILED),
        count(ABSENT),
        total.as_secs_f64()
    );
}

impl Outcome {
    fn word(&self) -> &'static str {
        match &self.error {
            None => OK,
            Some(error) if error.is::<Absent>() => ABSENT,
            Some(_) => FAILED,
        }
    }
}
