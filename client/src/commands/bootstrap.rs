use std::fmt;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bento_protocol::HostName;
use clap::Args;
use toml_edit::Value;

use super::place::Place;
use crate::console::Console;
use crate::exit::{Because, ExitReason, Failure};
use crate::run;
use crate::server::connection::{Connection, ConnectionError, Greeted};
use crate::server::host_key::HostKey;
use crate::server::identity::Identity;
use crate::server::poll;
use crate::settings::{IDENTITY_FILE, Server, Settings, Timeouts};
use crate::state::atomic_file;
use crate::update::UpdateOptions;

/// Set up a machine that doesn't have the NixOS module yet: write its settings, and create its key.
#[derive(Debug, Args)]
pub struct Bootstrap {
    /// This machine's name in the fleet
    #[arg(long)]
    name: HostName,
    /// The appliance: HOST or HOST:PORT
    #[arg(long)]
    server: Server,
    /// The appliance's host key, as `bento host-key` prints it: "ssh-ed25519 AAAA…"; can be repeated, while one key
    /// replaces another
    #[arg(long = "host-key", value_name = "KEY")]
    host_keys: Vec<HostKey>,
    /// Pin the host key that the appliance presents; compare its fingerprint with `bento host-key`
    #[arg(long, conflicts_with = "host_keys")]
    accept_new_host_key: bool,
    /// Connect through the standard input and output of this command instead of TCP, for a proxy, Tor or a jump host;
    /// a shell runs it, with %h and %p replaced by the appliance's address and port, and %% by %
    #[arg(long, value_name = "CMD")]
    proxy_command: Option<String>,
    /// Wait until the appliance accepts this machine and publishes a generation for it, then update
    #[arg(long)]
    wait: bool,
    /// This machine's private key; it is created if it is missing
    #[arg(long, value_name = "FILE", default_value = IDENTITY_FILE)]
    identity_file: PathBuf,
    #[command(flatten)]
    place: Place,
}

/// Pause between two attempts to log in.
const PAUSE: Duration = Duration::from_secs(5);

impl Bootstrap {
    /// Runs the command.
    pub fn run(&self) -> Result<(), Failure> {
        let settings = match self.place.config.exists() {
            true => self.existing_settings().because(ExitReason::Usage)?,
            false => self.new_settings()?,
        };
        let identity = self
            .identity(&settings.identity_file)
            .because(ExitReason::Usage)?;
        say(format_args!(
            "To enrol this machine, run this on the administrator's machine:\n\n    bento host add {} --key \"{}\"\n",
            settings.name,
            identity.public_key().because(ExitReason::Usage)?
        ));
        if !self.wait {
            say(format_args!("Then run this here: bento-client update"));
            return Ok(());
        }
        wait_for_admission(&settings, &identity).because(ExitReason::Server)?;
        run::update(&self.place.environment()?, UpdateOptions::default(), false)
    }

    /// The existing settings, if they agree with the arguments: others aren't overwritten.
    fn existing_settings(&self) -> anyhow::Result<Settings> {
        let file = &self.place.config;
        let settings = Settings::read(file)?;
        let same_server = settings.servers.iter().any(|server| {
            server.address == self.server.address
                && server.port == self.server.port
                && self
                    .host_keys
                    .iter()
                    .all(|key| server.host_keys.contains(key))
        });
        let same_way = self.proxy_command.is_none() || self.proxy_command == settings.proxy_command;
        ensure!(
            settings.name == self.name && same_server && same_way,
            "{} already exists, with another machine, server, host key or proxy command: edit it, or remove it first",
            file.display()
        );
        Ok(settings)
    }

    fn new_settings(&self) -> Result<Settings, Failure> {
        let host_keys = match self.host_keys.is_empty() {
            true => vec![self.shown_host_key()?],
            false => self.host_keys.clone(),
        };
        for key in &host_keys {
            say(format_args!(
                "The appliance's host key: {key} {}",
                key.fingerprint()
            ));
        }
        let text = self.settings_text(&host_keys);
        let write = || {
            let settings = Settings::parse(&text)?;
            let file = &self.place.config;
            if let Some(folder) = file.parent() {
                fs::create_dir_all(folder)
                    .with_context(|| format!("can't make the folder {}", folder.display()))?;
            }
            atomic_file::write(file, text.as_bytes(), 0o644)?;
            say(format_args!("Wrote {}.", file.display()));
            Ok(settings)
        };
        let written: anyhow::Result<Settings> = write();
        written.because(ExitReason::Usage)
    }

    fn shown_host_key(&self) -> Result<HostKey, Failure> {
        if !self.accept_new_host_key {
            let refuse = || {
                bail!(
                    "the host key of {} is unknown: pass the key that `bento host-key` prints on the appliance as \
                     --host-key \"ssh-ed25519 …\", or pin the key that it presents with --accept-new-host-key",
                    self.server
                )
            };
            return refuse().because(ExitReason::Usage);
        }
        let greeted = Greeted::meet(
            &self.server,
            self.proxy_command.as_deref(),
            &Timeouts::default(),
        )
        .because(ExitReason::Server)?;
        let key = greeted.host_key().clone();
        say(format_args!(
            "Pinned the host key that {} presents. Compare it with the output of `bento host-key` there:",
            self.server
        ));
        Ok(key)
    }

    fn settings_text(&self, host_keys: &[HostKey]) -> String {
        let quoted = |text: &str| Value::from(text).to_string();
        let host_keys = host_keys.iter().map(|key| quoted(&key.to_string()));
        let proxy_command = match &self.proxy_command {
            Some(command) => format!("proxy_command = {}\n", quoted(command)),
            None => String::new(),
        };
        format!(
            "# Written by `bento-client bootstrap`.\n\
             name = {}\n\
             identity_file = {}\n\
             {proxy_command}\
             \n\
             [[servers]]\n\
             address = {}\n\
             port = {}\n\
             host_keys = [{}]\n",
            quoted(self.name.as_str()),
            quoted(&self.identity_file.to_string_lossy()),
            quoted(self.server.address.as_str()),
            self.server.port,
            host_keys.collect::<Vec<_>>().join(", ")
        )
    }

    /// The machine's key; a new one if there is none.
    fn identity(&self, file: &Path) -> anyhow::Result<Identity> {
        if !file.exists() {
            make_key(file, &format!("root@{}", self.name))?;
            say(format_args!("Created the key {}.", file.display()));
        }
        Identity::read(file)
    }
}

fn make_key(file: &Path, comment: &str) -> anyhow::Result<()> {
    if let Some(folder) = file.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("can't make the folder {}", folder.display()))?;
    }
    // It creates the file with mode 0600.
    let output = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"])
        .arg(file)
        .output()
        .context("can't run ssh-keygen: install OpenSSH's client")?;
    if !output.status.success() {
        bail!(
            "ssh-keygen can't create {}: {}",
            file.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// Prints progress. The work continues also if nothing reads that.
fn say(text: fmt::Arguments<'_>) {
    Console::new().line(&text.to_string());
}

/// Waits until a server accepts this machine and publishes a generation for it.
fn wait_for_admission(settings: &Settings, identity: &Identity) -> anyhow::Result<()> {
    let mut said = String::new();
    loop {
        let error = match admission(settings, identity) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        // Waiting doesn't turn another server into the pinned one.
        if matches!(error.downcast_ref(), Some(ConnectionError::HostKey { .. })) {
            return Err(error);
        }
        let text = format!("{error:#}");
        if text != said {
            say(format_args!("Waiting: {text}"));
            said = text;
        }
        thread::sleep(PAUSE);
    }
}

fn admission(settings: &Settings, identity: &Identity) -> anyhow::Result<()> {
    let server = settings
        .servers
        .first()
        .context("the settings name no server")?;
    let connection = Connection::open(server, settings, identity)?;
    poll::published(&connection).map(|_| ())
}
