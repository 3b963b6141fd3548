//! `bento`: the appliance, and the administrator's command.

// They panic where nobody reads any more what is printed.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

use std::io::Write;
use std::process::ExitCode;

use bento_appliance::cli::{CommandLine, RemoteFailed};
use bento_appliance::text::terminal::to_stderr;
use clap::{CommandFactory, Parser};
use clap_complete::env::CompleteEnv;

fn main() -> ExitCode {
    CompleteEnv::with_factory(CommandLine::command).complete();
    let mut output = std::io::stdout().lock();
    let command_line = CommandLine::parse();
    let result = command_line.run(&mut output).and_then(|code| {
        output.flush()?;
        Ok(code)
    });
    match result {
        Ok(code) => code,
        // Whoever reads only the first lines, as `head` does, has seen what they wanted; but nobody knows what became of
        // what was to be done.
        Err(error) if is_broken_pipe(&error) && command_line.only_shows() => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::FAILURE,
        Err(error) if error.is::<RemoteFailed>() => ExitCode::FAILURE,
        Err(error) => {
            to_stderr(&format!("bento: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
