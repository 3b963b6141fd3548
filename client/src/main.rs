//! Wires the command line to the library.

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
            eprintln!("bento-client: {failure}{advice}");
            failure.reason.into()
        }
    }
}
