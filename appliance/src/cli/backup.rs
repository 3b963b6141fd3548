//! `bento backup`: writes the appliance's state to one archive.

use std::fs::{self, File};
use std::io::{IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::remote::{Appliance, ApplianceOption, Remote};
use crate::backup::{self, StateSnapshot};
use crate::store::atomic_file;

/// Write the appliance's state to one archive, also while the appliance runs
///
/// The archive holds the host key, the published generations with their secrets, the reports and the accounts of the
/// machines, all from the same moment. Protect it like the secrets. `bento restore` reads it.
#[derive(Debug, Args)]
pub struct BackupCommand {
    /// The file to write; - is standard output
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    #[command(flatten)]
    appliance: ApplianceOption,
}

impl BackupCommand {
    /// Writes the archive; a file is replaced atomically.
    ///
    /// # Errors
    /// When there is no appliance, or something can't be read or written.
    pub fn run(&self, output: &mut dyn Write) -> Result<()> {
        let appliance = self.appliance.find()?;
        if self.file == Path::new("-") {
            ensure!(
                !std::io::stdout().is_terminal(),
                "can't write an archive to a terminal: name a file, or redirect with > FILE"
            );
            return write(&appliance, output);
        }
        write_file(&appliance, &self.file)
            .with_context(|| format!("can't write {}", self.file.display()))
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
        // A partial archive is useless; the first error is returned.
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

/// Copies the archive of a remote appliance.
fn relay(remote: &Remote, output: &mut dyn Write) -> Result<()> {
    remote.copy(["backup"], output)
}
