//! The commands, one a file: what each takes, and what it does with it.

pub mod build;
pub mod rootfs;

use std::fmt;
use std::io::{self, Write};

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Assemble the OCI image of the bento appliance, without any container tool
#[derive(Debug, Parser)]
#[command(name = "bento-image", version)]
pub struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Build(build::Build),
    Rootfs(rootfs::Rootfs),
}

impl CommandLine {
    /// Carries out what was given.
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

/// Prints a line. That its reader has gone is no error: what it tells of is done.
fn print(text: fmt::Arguments<'_>) -> Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => Ok(printed?),
    }
}
