//! `bento`: the appliance, and the administrator's command.

// They panic on a closed pipe.
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
        // A reader of only the first lines, such as `head`, is a success; but a command that changes something may have
        // stopped halfway.
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
