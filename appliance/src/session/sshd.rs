use std::fs::{self, DirBuilder};
use std::io;
use std::net::TcpStream;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::process::Process;
use super::{HostKey, accounts, configuration, log};
use crate::fleet::PublicKey;
use crate::state::{Runtime, State};

/// The empty folder into which sshd locks its unprivileged process, where most distributions have it. sshd's check of
/// its configuration names another one.
const EMPTY_FOLDER: &str = "/run/sshd";

const FOLDERS: [&str; 5] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin"];

/// An sshd that is ready to serve connections, one process each.
#[derive(Debug)]
pub struct Sshd {
    program: PathBuf,
    configuration: PathBuf,
    host_key: HostKey,
}

impl Sshd {
    /// Makes everything that sshd needs, and lets it check that.
    ///
    /// Nobody can log in until [`accounts::write`] is called. This waits for its own child processes, so it must be
    /// called before anybody [reaps](super::reap).
    ///
    /// # Errors
    /// When a program is missing, the host key is no good or none of `allowed` (empty: any), a file can't be
    /// written, or sshd refuses its configuration.
    pub fn prepare(state: &State, runtime: &Runtime, allowed: &[PublicKey]) -> Result<Self> {
        let program = find("sshd")?;
        // sshd looks for its own account even in a check.
        accounts::write(runtime, &[])?;
        create_empty_folder().with_context(|| format!("can't make {EMPTY_FOLDER}"))?;
        let host_key = HostKey::read_or_create(state)?;
        host_key.require(allowed)?;
        let sshd = Sshd {
            program,
            configuration: runtime.sshd_config(),
            host_key,
        };
        let mut text = configuration::text(state, runtime)?;
        sshd.configure(&text)?;
        sshd.check()?;
        for setting in configuration::OPTIONAL {
            if sshd.knows(setting)? {
                text.push_str(&format!("{setting}\n"));
            }
        }
        sshd.configure(&text)?;
        sshd.check()?;
        Ok(sshd)
    }

    /// The key by which machines know the appliance.
    pub fn host_key(&self) -> &PublicKey {
        self.host_key.public()
    }

    /// Gives a connection to an sshd of its own.
    pub(super) fn start(&self, connection: &TcpStream) -> io::Result<Process> {
        Process::start(&self.program, &self.configuration, connection)
    }

    fn configure(&self, text: &str) -> Result<()> {
        fs::write(&self.configuration, text)
            .with_context(|| format!("can't write {}", self.configuration.display()))
    }

    fn check(&self) -> Result<()> {
        let output = self.test(&[])?;
        ensure!(
            output.status.success(),
            "sshd refuses to run: {}",
            log::one_line(&String::from_utf8_lossy(&output.stderr))
        );
        Ok(())
    }

    /// Whether this sshd was built with a setting: a known one that was left out gives a warning.
    fn knows(&self, setting: &str) -> Result<bool> {
        let output = self.test(&["-o", setting])?;
        Ok(output.status.success() && output.stderr.is_empty())
    }

    fn test(&self, arguments: &[&str]) -> Result<Output> {
        Command::new(&self.program)
            .arg("-t")
            .arg("-f")
            .arg(&self.configuration)
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("can't run {}", self.program.display()))
    }
}

fn create_empty_folder() -> io::Result<()> {
    match DirBuilder::new().mode(0o755).create(EMPTY_FOLDER) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// The absolute path of a program of OpenSSH. sshd must know its own, to start itself anew.
pub(super) fn find(name: &str) -> Result<PathBuf> {
    let executable = |path: &PathBuf| {
        fs::metadata(path)
            .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    match FOLDERS
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(executable)
    {
        Some(path) => Ok(path),
        None => bail!(
            "{name} isn't in {}: this image lacks OpenSSH; build it with bento-image, or install openssh-server",
            FOLDERS.join(", ")
        ),
    }
}
