//! `demo`: shows the main job on this machine; `make demo` calls it.

use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use anyhow::{Context, Result};
use bento_tests::{demo, namespace};
use clap::Parser;

/// Shows the main job of bento on this machine, with real parts.
#[derive(Parser)]
enum Demo {
    /// Show it, and leave the appliance and the machine running.
    Up,
    /// Remove what is left running.
    Down,
    /// Run a command on the machine that is left running; a shell if there is none.
    Machine {
        /// The command and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run(&Demo::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(demo: &Demo) -> Result<()> {
    namespace::enter()?;
    match demo {
        Demo::Up => demo::up(),
        Demo::Down => demo::down(),
        Demo::Machine { command } => {
            Err(demo::machine(command)?.exec()).context("cannot enter the machine")
        }
    }
}
