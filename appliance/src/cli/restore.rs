//! `bento restore`: restores an archive of `bento backup`.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::backup;
use crate::store::paths::State;

/// Restore an archive of `bento backup` into an empty /state
///
/// Stop the appliance first. The archive is restored completely or not at all. Owners and modes of files are set as the
/// appliance needs them, not taken from the archive.
#[derive(Debug, Args)]
pub struct RestoreCommand {
    /// The file to read; - is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// Replace the contents of /state, including the host key and all reports
    #[arg(long)]
    replace: bool,
    /// The folder of the appliance's state
    #[arg(long, value_name = "DIR", default_value = "/state")]
    state: PathBuf,
}

impl RestoreCommand {
    /// Restores the archive.
    ///
    /// # Errors
    /// When it isn't a complete backup, or can't be restored; then nothing is changed.
    pub fn run(&self, output: &mut dyn Write) -> Result<()> {
        let mut input: Box<dyn Read> = if self.file == Path::new("-") {
            ensure!(
                !io::stdin().is_terminal(),
                "can't read an archive from a terminal: name a file, or redirect one with < FILE (podman run needs -i)"
            );
            Box::new(io::stdin().lock())
        } else {
            let file = File::open(&self.file);
            Box::new(file.with_context(|| format!("can't read {}", self.file.display()))?)
        };
        let restored = backup::restore(&State::new(&self.state), &mut input, self.replace)
            .context("nothing was restored")?;
        let machines = match restored.machines {
            1 => "1 machine".to_owned(),
            many => format!("{many} machines"),
        };
        writeln!(output, "restored {machines} to {}", self.state.display())?;
        Ok(())
    }
}
