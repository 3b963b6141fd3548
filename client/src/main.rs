//! Wires the command line to the library.

// These macros panic if the output is closed.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

use std::io::{self, Write};
use std::process::ExitCode;

use bento_client::commands::CommandLine;
use bento_client::exit::ExitReason;
use clap::Parser;

fn main() -> ExitCode {
    match CommandLine::parse().command.run() {
        Ok(()) => ExitReason::Done.into(),
        Err(failure) => {
            let advice = match failure.lacks_rights() {
                true => ". Run it as root",
                false => "",
            };
            // If standard error is closed, the exit code still reports the failure.
            let _ = writeln!(io::stderr(), "bento-client: {failure}{advice}");
            failure.reason.into()
        }
    }
}
