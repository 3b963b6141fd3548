//! Wires the command line to the library.

use std::process::ExitCode;

use bento_client::commands::Command;
use bento_client::exit::ExitReason;
use clap::Parser;

/// Keeps this NixOS machine up to date with what its bento appliance publishes.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    match Arguments::parse().command.run() {
        Ok(()) => ExitReason::Done.into(),
        Err(failure) => {
            eprintln!("bento-client: {failure}");
            failure.reason.into()
        }
    }
}
