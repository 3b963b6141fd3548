//! Wires the command line to the library.

use std::process::ExitCode;

use bento_image::commands::CommandLine;
use clap::Parser;

fn main() -> ExitCode {
    match CommandLine::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bento-image: {error:#}");
            ExitCode::FAILURE
        }
    }
}
