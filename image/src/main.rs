//! Wires the command line to the library.

// These macros panic if the output is closed.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

use std::io::{self, Write};
use std::process::ExitCode;

use bento_image::commands::CommandLine;
use clap::Parser;

fn main() -> ExitCode {
    match CommandLine::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If standard error is closed, the exit code still reports the failure.
            let _ = writeln!(io::stderr(), "bento-image: {error:#}");
            ExitCode::FAILURE
        }
    }
}
