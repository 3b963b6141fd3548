//! `bento restore`: what `bento backup` wrote becomes what the appliance keeps.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::backup;
use crate::store::paths::State;

/// Take an archive of `bento backup` into an empty /state
///
/// No appliance may use it meanwhile. It is taken wholly or not at all, and whatever owner and mode the archive gives a
/// file, it gets those that it must have.
#[derive(Debug, Args)]
pub struct RestoreCommand {
    /// Where to read it; - is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// Remove what is in /state before, the host key and all reports included
    #[arg(long)]
    replace: bool,
    /// What the appliance keeps
    #[arg(long, value_name = "DIR", default_value = "/state")]
    state: PathBuf,
}

impl RestoreCommand {
    /// Takes the archive.
    ///
    /// # Errors
    /// When it isn't a whole backup, or can't be taken; nothing is changed then.
    pub fn run(&self, output: &mut dyn Write) -> Result<()> {
        let mut input: Box<dyn Read> = if self.file == Path::new("-") {
            ensure!(
                !io::stdin().is_terminal(),
                "nothing comes from a terminal: name a file, or write < FILE after the command (podman run needs -i)"
            );
            Box::new(io::stdin().lock())
        } else {
            let file = File::open(&self.file);
            Box::new(file.with_context(|| format!("{} can't be read", self.file.display()))?)
        };
        let restored = backup::restore(&State::new(&self.state), &mut input, self.replace)
            .context("nothing was restored")?;
        let machines = match restored.machines {
            1 => "1 machine".to_owned(),
            many => format!("{many} machines"),
        };
        writeln!(output, "restored {machines} into {}", self.state.display())?;
        Ok(())
    }
}
