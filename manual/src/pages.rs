//! Man pages: one for each program, and one for each of its commands.

use std::fs;
use std::io;
use std::path::Path;

use clap::Command;

/// Writes the pages of a program into `share/man/man1` of a prefix.
///
/// # Errors
/// When they can't be written.
pub fn write(program: Command, prefix: &Path) -> io::Result<()> {
    let folder = prefix.join("share/man/man1");
    fs::create_dir_all(&folder)?;
    // The command `help` says the same as the pages.
    clap_mangen::generate_to(program.disable_help_subcommand(true), folder)
}
