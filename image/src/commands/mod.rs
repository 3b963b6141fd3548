//! Commands of `bento-image`: a module each, with its arguments and its `run`.

pub mod build;
pub mod rootfs;

use std::fmt;
use std::io::{self, Write};

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Assemble the OCI image of the bento appliance, without a container tool
#[derive(Debug, Parser)]
#[command(name = "bento-image", version)]
pub struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Build(build::BuildCommand),
    Rootfs(rootfs::RootfsCommand),
}

impl CommandLine {
    /// Runs the command.
    ///
    /// # Errors
    /// As the command says.
    pub fn run(self) -> Result<()> {
        match self.command {
            Command::Build(build) => build.run(),
            Command::Rootfs(rootfs) => rootfs.run(),
        }
    }
}

/// Prints a line. A closed pipe is no error: the work is done.
fn print(text: fmt::Arguments<'_>) -> Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => Ok(printed?),
    }
}
