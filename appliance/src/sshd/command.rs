use std::fs::{self, DirBuilder};
use std::io;
use std::net::TcpStream;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::process::Process;
use super::{HostKey, log, passwd, probe, sshd_config};
use crate::fleet::PublicKey;
use crate::store::paths::{Runtime, State};

/// The empty folder into which sshd locks its unprivileged process, where most distributions have it. sshd's check of
/// its configuration names another one.
const EMPTY_FOLDER: &str = "/run/sshd";

const FOLDERS: [&str; 5] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin"];

/// An sshd that serves connections, one process each.
#[derive(Debug, Clone)]
pub struct Sshd {
    program: PathBuf,
    configuration: PathBuf,
    text: String,
    host_key: HostKey,
}

impl Sshd {
    /// The missing programs of OpenSSH, each with advice. The parts that sshd starts by itself are checked by
    /// [`Self::answer`]: they differ between versions of OpenSSH, and their paths are compiled into sshd.
    pub fn missing_programs() -> Vec<String> {
        ["sshd", "ssh-keygen"]
            .into_iter()
            .filter_map(|program| find(program).err())
            .map(|error| error.to_string())
            .collect()
    }

    /// Creates everything that sshd needs. A failure is permanent.
    ///
    /// No machine can log in until [`passwd::write`] is called. This waits for its own child processes, so call it before
    /// there is a [reaper](super::reap).
    ///
    /// # Errors
    /// When a program is missing, the host key is damaged or none of `allowed` (empty: any), or a file can't be
    /// written.
    pub fn prepare(state: &State, runtime: &Runtime, allowed: &[PublicKey]) -> Result<Self> {
        let program = find("sshd")?;
        // sshd needs its own account even for a check.
        passwd::write(runtime, &[])?;
        create_empty_folder().with_context(|| format!("can't make {EMPTY_FOLDER}"))?;
        let host_key = HostKey::read_or_create(state)?;
        host_key.require(allowed)?;
        Ok(Sshd {
            program,
            configuration: runtime.sshd_config(),
            text: sshd_config::text(state, runtime)?,
            host_key,
        })
    }

    /// Configures sshd with every setting that this version knows, and checks that. It waits for its own child processes,
    /// as [`Self::prepare`] does.
    ///
    /// # Errors
    /// When the configuration can't be written, or sshd refuses it.
    pub fn configure(&self) -> Result<()> {
        let mut text = self.text.clone();
        self.write(&text)?;
        self.check()?;
        for setting in sshd_config::OPTIONAL {
            if self.knows(setting)? {
                text.push_str(&format!("{setting}\n"));
            }
        }
        self.write(&text)?;
        self.check()
    }

    /// Probes sshd: it serves a private connection of the appliance as it would serve a machine. Returns its
    /// identification line. Only this proves that everything that this version of sshd needs is there.
    ///
    /// The caller [reaps](super::reap) the process.
    ///
    /// # Errors
    /// When no answer comes within the limit; the error has the log of sshd. [`is_shortage`] recognises a mere shortage of
    /// processes, memory or files.
    ///
    /// [`is_shortage`]: super::is_shortage
    pub fn answer(&self, limit: Duration) -> Result<String> {
        probe::of(self, limit)
    }

    /// The key by which machines know the appliance.
    pub fn host_key(&self) -> &PublicKey {
        self.host_key.public()
    }

    /// Starts an sshd for a connection.
    pub(super) fn start(&self, connection: &TcpStream) -> io::Result<Process> {
        Process::start(&self.program, &self.configuration, connection)
    }

    fn write(&self, text: &str) -> Result<()> {
        fs::write(&self.configuration, text)
            .with_context(|| format!("can't write {}", self.configuration.display()))
    }

    fn check(&self) -> Result<()> {
        let output = self.test(&[])?;
        ensure!(
            output.status.success(),
            "sshd refuses to run ({}): {}",
            output.status,
            log::one_line(&String::from_utf8_lossy(&output.stderr))
        );
        Ok(())
    }

    /// Whether this sshd was built with a setting: it warns of a known setting that it was built without.
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

/// The absolute path of a program of OpenSSH. sshd must be started by its path, to start itself again.
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
