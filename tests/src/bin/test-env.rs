//! `test-env`: runs things where the end-to-end tests run.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use bento_tests::{Guest, Podman, guest, namespace};
use clap::Parser;

/// Runs things where the end-to-end tests of bento run: with rootless podman, and a whole machine to update.
#[derive(Parser)]
enum TestEnv {
    /// Run a command where rootless podman works, in a private mount namespace if it must be.
    Enter {
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Run podman as the user that runs the test containers.
    Podman {
        /// podman's arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Make the tree from which guests are made, if there is none yet.
    Base,
    /// Boot a guest of its own, open a shell in it, and throw it away afterwards.
    Guest,
}

fn main() -> ExitCode {
    match run(TestEnv::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("env: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(env: TestEnv) -> Result<ExitCode> {
    namespace::enter()?;
    match env {
        TestEnv::Enter { command } => {
            let (program, arguments) = command.split_first().context("no command was given")?;
            Err(Command::new(program).args(arguments).exec())
                .with_context(|| format!("cannot run {}", program.display()))
        }
        TestEnv::Podman { arguments } => {
            Err(Podman::new()?.command().args(arguments).exec()).context("cannot run podman")
        }
        TestEnv::Base => {
            println!("{}", guest::base_tree()?.display());
            Ok(ExitCode::SUCCESS)
        }
        TestEnv::Guest => {
            let guest = Guest::boot()?;
            println!("a {} guest; it goes when this shell ends", guest.kind());
            let terminal = env::var("TERM").unwrap_or_else(|_| "dumb".into());
            guest
                .command(["env", &format!("TERM={terminal}"), "bash"])?
                .status()?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
