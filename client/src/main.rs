//! Wires the command line to the library.

use std::process::ExitCode;

use bento_client::commands::CommandLine;
use bento_client::exit::ExitReason;
use clap::Parser;

fn main() -> ExitCode {
    match CommandLine::parse().command.run() {
        Ok(()) => ExitReason::Done.into(),
        Err(failure) => {
            eprintln!("bento-client: {failure}");
            failure.reason.into()
        }
    }
}
