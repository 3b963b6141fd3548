//! `bento backup`: one archive of everything that the appliance keeps.

use std::fs::{self, File};
use std::io::{IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::remote::{Appliance, ApplianceOption, Remote};
use crate::backup::{self, StateSnapshot};
use crate::store::atomic_file;

/// Write one archive of everything that the appliance keeps, also while it runs
///
/// It holds the host key, what is published for each machine, secrets included, the reports, and who is enrolled, all as it
/// was in one moment: keep it as you keep the secrets. `bento restore` takes it.
#[derive(Debug, Args)]
pub struct BackupCommand {
    /// Where to write it; - is standard output
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    #[command(flatten)]
    appliance: ApplianceOption,
}

impl BackupCommand {
    /// Writes the archive, to a file in one step.
    ///
    /// # Errors
    /// When there is no appliance, or something can't be read or written.
    pub fn run(&self, output: &mut dyn Write) -> Result<()> {
        let appliance = self.appliance.find()?;
        if self.file == Path::new("-") {
            ensure!(
                !std::io::stdout().is_terminal(),
                "an archive is nothing for a terminal: name a file, or write > FILE after the command"
            );
            return write(&appliance, output);
        }
        write_file(&appliance, &self.file)
            .with_context(|| format!("{} can't be written", self.file.display()))
    }
}

fn write_file(appliance: &Appliance, path: &Path) -> Result<()> {
    let aside = atomic_file::aside(path);
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    let write_aside = || {
        let mut file = options.open(&aside)?;
        write(appliance, &mut file)?;
        Ok(file.sync_all()?)
    };
    write_aside().inspect_err(|_: &anyhow::Error| {
        // Half an archive is none, and what is wrong is told.
        let _ = fs::remove_file(&aside);
    })?;
    Ok(atomic_file::rename(&aside, path)?)
}

fn write(appliance: &Appliance, output: &mut dyn Write) -> Result<()> {
    match appliance {
        Appliance::Here(state, runtime) => {
            backup::write(&StateSnapshot::take(state, runtime)?, output)
        }
        Appliance::Remote(remote) => relay(remote, output),
    }
}

/// What the appliance elsewhere writes, as it comes.
fn relay(remote: &Remote, output: &mut dyn Write) -> Result<()> {
    remote.copy(["backup"], output)
}
