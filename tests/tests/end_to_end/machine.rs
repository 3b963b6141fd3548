//! A machine of the fleet as the appliance sees it: a name, a key, and what can be done with them over SSH.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bento_protocol::{GenerationId, Report, ReportName, chroot};
use bento_tests::process::{self, Output};
use bento_tests::{Appliance, Fleet, wait};
use ssh2::{OpenFlags, OpenType, Sftp};

use crate::generation::Generation;
use crate::reports;

/// A publication takes some 3 s; a machine that is busy with other tests needs more.
const PUBLICATION_LIMIT: Duration = Duration::from_secs(60);

/// Somebody who comes with a name and a private key.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    name: String,
    key: PathBuf,
    server: SocketAddr,
}

impl Machine {
    /// A machine of the fleet, with the key that the fleet has for it.
    pub(crate) fn of(fleet: &Fleet, name: &str, appliance: &Appliance) -> Self {
        Self::with_key(name, &fleet.key(name), appliance)
    }

    /// Somebody who claims a name and has any key.
    pub(crate) fn with_key(name: &str, key: &Path, appliance: &Appliance) -> Self {
        Machine {
            name: name.to_owned(),
            key: key.to_owned(),
            server: appliance.address(),
        }
    }

    /// Runs one command of OpenSSH's `sftp`; it succeeds only if the command does.
    pub(crate) fn sftp(&self, command: &str) -> Result<Output> {
        let batch = format!("{command}\n");
        process::run_with_input(&mut self.sftp_command(), batch.as_bytes(), process::SHORT)
    }

    /// Runs commands of OpenSSH's `sftp` in one session, each whatever the one before came to, and gives what it
    /// says to each.
    pub(crate) fn sftp_each(&self, commands: &[String]) -> Result<Vec<String>> {
        // With the minus sign a command that fails doesn't end the batch.
        let batch: String = commands
            .iter()
            .map(|command| format!("-{command}\n"))
            .collect();
        let mut shell = Command::new("sh");
        let sftp = self.sftp_command();
        // One pipe for both outputs, so that each message stands below its command.
        shell.args(["-c", r#"exec "$0" "$@" 2>&1"#]);
        shell.arg(sftp.get_program()).args(sftp.get_args());
        let output =
            process::run_with_input(&mut shell, batch.as_bytes(), process::SHORT)?.success()?;
        let mut said: Vec<String> = Vec::new();
        for line in output.stdout.lines() {
            match said.last_mut() {
                _ if line.starts_with("sftp> -") => said.push(String::new()),
                Some(last) => *last += line,
                None => {}
            }
        }
        ensure!(
            said.len() == commands.len(),
            "it didn't carry out all of them: {}",
            output.stdout
        );
        Ok(said)
    }

    /// Runs OpenSSH's `ssh` with options, and perhaps a command for the server after them.
    pub(crate) fn ssh(&self, options: &[&str], command: &[&str]) -> Result<Output> {
        let mut ssh = self.openssh("ssh");
        ssh.args(["-p", &self.server.port().to_string()])
            .args(options)
            .arg(self.destination())
            .args(command);
        process::run(&mut ssh, process::SHORT)
    }

    /// `ssh` that asks for a subsystem of the server, not yet started.
    pub(crate) fn subsystem(&self, options: &[&str], name: &str) -> Command {
        let mut ssh = self.openssh("ssh");
        ssh.args(["-p", &self.server.port().to_string(), "-s"]);
        ssh.args(options).args([&self.destination(), name]);
        ssh
    }

    /// The name with which it comes.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its private key.
    pub(crate) fn key(&self) -> &Path {
        &self.key
    }

    /// Where it finds the appliance.
    pub(crate) fn server(&self) -> SocketAddr {
        self.server
    }

    /// A login that stays until it is dropped.
    pub(crate) fn log_in(&self) -> Result<Session> {
        let stream = TcpStream::connect(self.server).context("nobody listens")?;
        stream.set_nodelay(true)?;
        let mut session = ssh2::Session::new()?;
        session.set_timeout(u32::try_from(process::SHORT.as_millis())?);
        session.set_tcp_stream(stream);
        session.handshake()?;
        session
            .userauth_pubkey_file(&self.name, None, &self.key, None)
            .with_context(|| format!("{} isn't let in", self.name))?;
        Ok(Session {
            sftp: session.sftp()?,
            _session: session,
        })
    }

    /// What is published for it now, every byte checked.
    pub(crate) fn pull(&self) -> Result<Generation> {
        self.log_in()?.pull()
    }

    /// Waits until something is published for it that isn't `old`.
    pub(crate) fn await_other_than(&self, old: GenerationId) -> Result<Generation> {
        wait::until(
            &format!("a generation of {} other than {}", self.name, old.short()),
            PUBLICATION_LIMIT,
            || {
                let session = self.log_in().ok()?;
                let is_new = session.poll().is_ok_and(|id| id != old);
                is_new.then(|| session.pull())
            },
        )?
    }

    /// Waits until it is let in.
    pub(crate) fn await_admission(&self) -> Result<Session> {
        let what = format!("{} to be let in", self.name);
        wait::until(&what, PUBLICATION_LIMIT, || self.log_in().ok())
    }

    /// Waits until it isn't let in any more.
    pub(crate) fn await_dismissal(&self) -> Result<()> {
        let what = format!("{} to be refused", self.name);
        wait::until(&what, PUBLICATION_LIMIT, || {
            self.log_in().is_err().then_some(())
        })
    }

    fn sftp_command(&self) -> Command {
        let mut sftp = self.openssh("sftp");
        sftp.args(["-b", "-", "-P", &self.server.port().to_string()]);
        sftp.arg(self.destination());
        sftp
    }

    fn destination(&self) -> String {
        format!("{}@{}", self.name, self.server.ip())
    }

    fn openssh(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(["-F", "none", "-i"]).arg(&self.key);
        for option in [
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            // Which server this is, the client's own tests ask.
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
        ] {
            command.args(["-o", option]);
        }
        command
    }
}

/// A login, over a client of SFTP that does one thing at a time.
pub(crate) struct Session {
    sftp: Sftp,
    _session: ssh2::Session,
}

impl Session {
    /// Which generation is published: one READLINK.
    pub(crate) fn poll(&self) -> Result<GenerationId> {
        let target = self.sftp.readlink(Path::new(chroot::GENERATION))?;
        let text = target.to_str().context("what isn't text is no id")?;
        Ok(text.parse()?)
    }

    /// The generation that is published, every byte checked.
    pub(crate) fn pull(&self) -> Result<Generation> {
        let id = self.poll()?;
        let manifest = self.read(chroot::MANIFEST)?;
        let bundle = self.read(chroot::BUNDLE)?;
        Generation::of_bundle(id, &manifest, &bundle)
    }

    /// A file from its beginning to its end.
    pub(crate) fn read(&self, path: &str) -> Result<Vec<u8>> {
        let mut content = Vec::new();
        self.sftp
            .open(path)
            .with_context(|| format!("{path} can't be opened"))?
            .read_to_end(&mut content)?;
        Ok(content)
    }

    /// When a file was last changed, in seconds since the epoch.
    pub(crate) fn modified(&self, path: &str) -> Result<u64> {
        self.sftp
            .stat(Path::new(path))?
            .mtime
            .context("sshd always sends it")
    }

    /// Leaves a report as a client does.
    pub(crate) fn leave(&self, report: &Report) -> Result<()> {
        let name = ReportName {
            run: report.run,
            attempt: 1,
        };
        self.put(
            &format!("{}/{name}", chroot::LOGS),
            &reports::packed(report)?,
        )
    }

    /// Creates a file.
    pub(crate) fn put(&self, path: &(impl AsRef<Path> + ?Sized), content: &[u8]) -> Result<()> {
        let mut file = self.create(path)?;
        file.write_all(content)?;
        Ok(file.close()?)
    }

    /// Creates a file that is still to be written.
    pub(crate) fn create(&self, path: &(impl AsRef<Path> + ?Sized)) -> Result<ssh2::File> {
        let (path, flags) = (
            path.as_ref(),
            OpenFlags::CREATE | OpenFlags::EXCLUSIVE | OpenFlags::WRITE,
        );
        self.sftp
            .open_mode(path, flags, 0o600, OpenType::File)
            .with_context(|| format!("{} can't be created", path.display()))
    }
}
