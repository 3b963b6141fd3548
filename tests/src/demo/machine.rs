//! The machine that updates itself.

use std::process::Command;

use anyhow::{Context, Result};

use super::screen::Screen;
use crate::Guest;
use crate::guest::Kind;
use crate::process::Output;

/// The guest, and how its root is shown.
#[derive(Debug)]
pub(super) struct DemoMachine {
    guest: Guest,
    prompt: String,
}

impl DemoMachine {
    pub(super) fn boot(name: &str) -> Result<Self> {
        Ok(Self {
            guest: Guest::boot_named(Kind::here()?, name)?,
            prompt: format!("{name} #"),
        })
    }

    /// What it is made of, in a sentence.
    pub(super) fn describe(&self) -> Result<String> {
        let debian = self.query(r#". /etc/os-release; echo "Debian $VERSION_ID""#)?;
        let nix = self.query("nix --version | sed 's/.* /Nix /'")?;
        Ok(match self.guest.kind() {
            Kind::Systemd => {
                let systemd = self.query("systemctl --version | head -n 1 | cut -d ' ' -f 1,2")?;
                format!(
                    "a whole one under\n              systemd-nspawn, with {debian}, {systemd} and {nix}"
                )
            }
            Kind::Root => format!(
                "a root folder of\n              its own with {debian} and {nix}, but no systemd: a whole machine\n              \
                 can't boot here"
            ),
        })
    }

    pub(super) fn has_systemd(&self) -> bool {
        self.guest.kind() == Kind::Systemd
    }

    /// Runs what root types, and shows it.
    pub(super) fn run(&self, screen: &mut Screen, typed: &str) -> Result<Output> {
        let command = self.guest.command(["sh", "-c", typed])?;
        screen.run(&self.prompt, typed, command)
    }

    /// Runs a script without showing it.
    pub(super) fn query(&self, script: &str) -> Result<String> {
        Ok(self
            .guest
            .shell(script)?
            .success()?
            .stdout
            .trim()
            .to_owned())
    }

    pub(super) fn write(&self, path: &str, mode: &str, content: &str) -> Result<()> {
        self.guest.put_file(path, mode, content)
    }

    /// The command that runs a command there.
    pub(super) fn command(name: &str, words: &[String]) -> Result<Command> {
        let terminal = std::env::var("TERM").unwrap_or_else(|_| "dumb".to_owned());
        let terminal = format!("TERM={terminal}");
        let guest = Guest::find(name)
            .with_context(|| format!("the machine {name} isn't there: `make demo` boots it"))?;
        let mut command = vec!["env", &terminal];
        match words {
            [] => command.extend(["sh", "-c", "cd; exec bash -l"]),
            words => command.extend(words.iter().map(String::as_str)),
        }
        guest.command(command)
    }

    /// The end of what it has logged.
    pub(super) fn journal(&self) -> Result<String> {
        if self.has_systemd() {
            self.query("journalctl --no-pager --lines 40")
        } else {
            Ok(self.guest.console())
        }
    }

    /// Leaves the machine running.
    pub(super) fn keep(self) {
        self.guest.keep();
    }
}
