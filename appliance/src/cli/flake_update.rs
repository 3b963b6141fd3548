//! `bento flake-update`: updates the lock files of the fleet's flakes.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use bento_protocol::HostName;
use clap::Args;

use super::build::INTERRUPTED;
use super::completion;
use super::fleet_folder::FleetFolderOption;
use crate::build;
use crate::build::Screen;
use crate::lock_files;
use crate::lock_files::{LockOutcome, LockUpdater};
use crate::preview::Preview;
use crate::text::terminal::{Colour, Terminal, paint};

/// Update the lock files of the fleet's flakes with the Nix of this machine
#[derive(Debug, Args)]
pub struct FlakeUpdateCommand {
    /// Update only these inputs, by their names in flake.nix
    #[arg(value_name = "INPUT", value_parser = input)]
    inputs: Vec<String>,
    /// Update only the flake of this machine; can be repeated
    #[arg(long = "host", value_name = "NAME", add = completion::machines())]
    hosts: Vec<HostName>,
    #[command(flatten)]
    folder: FleetFolderOption,
}

/// The name of an input, or its path from the flake, such as `home-manager/nixpkgs`.
fn input(text: &str) -> Result<String, String> {
    let is_name = |name: &str| {
        let mut bytes = name.bytes();
        bytes
            .next()
            .is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_-'".contains(&byte))
    };
    match text.split('/').all(is_name) {
        true => Ok(text.to_owned()),
        false => Err("use the name of an input in flake.nix, such as nixpkgs".to_owned()),
    }
}

impl FlakeUpdateCommand {
    /// Adds a hint if the name of a machine was given as an input.
    fn with_hint(&self, error: anyhow::Error, fleet: &Path) -> anyhow::Error {
        let all = Preview::make(fleet, &[]).ok();
        let is_machine = |input: &&String| {
            let name = input.parse::<HostName>().ok();
            name.zip(all.as_ref())
                .is_some_and(|(name, all)| all.has(&name))
        };
        match self.inputs.iter().find(is_machine) {
            Some(machine) => {
                anyhow::anyhow!("{error}; {machine} is a machine: use --host {machine}")
            }
            None => error,
        }
    }

    /// Updates the lock files.
    ///
    /// # Errors
    /// When there is no fleet, no machine of a given name, no flake with a given input, or no Nix. Failed updates
    /// aren't errors: they are printed, and change the exit code.
    pub fn run(&self, output: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let fleet = self.folder.find()?;
        let preview = Preview::make(&fleet, &self.hosts)?;
        build::require_nix("flake-update")?;
        let terminal = Terminal::of_output();
        let mut screen = Screen::new(output, terminal, true);
        for problem in &preview.problems {
            let mark = paint("error:", Colour::Red, terminal);
            screen.print_line(&format!("{mark} {problem}"))?;
        }
        let mut flakes = lock_files::flakes(&preview);
        let updater = LockUpdater::new(&fleet, &preview)?;
        updater
            .require(&self.inputs, &mut flakes)
            .map_err(|error| self.with_hint(error, &fleet))?;
        let (mut updated, mut unchanged, mut failed) = (0, 0, 0);
        for flake in &flakes {
            if updater.is_interrupted() {
                screen.print_line("Interrupted: the updates above are done.")?;
                return Ok(ExitCode::from(INTERRUPTED));
            }
            let title = flake.title();
            match flake.update(&self.inputs, &updater) {
                Ok(LockOutcome::Moved(moves)) => {
                    updated += 1;
                    screen.print_line(&title)?;
                    for line in moves {
                        screen.print_line(&format!("  {line}"))?;
                    }
                }
                Ok(LockOutcome::Unchanged) => {
                    unchanged += 1;
                    screen.print_line(&format!("{title}: unchanged"))?;
                }
                Ok(LockOutcome::NotAffected) => {}
                Err(_) if updater.is_interrupted() => {
                    screen.print_line("Interrupted: the updates above are done.")?;
                    return Ok(ExitCode::from(INTERRUPTED));
                }
                Err(error) => {
                    failed += 1;
                    screen.print_error(&format!("can't update {title}:"), &format!("{error:#}"))?;
                }
            }
        }
        let counts = [
            (updated, "updated"),
            (unchanged, "unchanged"),
            (failed, "failed"),
        ];
        let counts = counts.iter().filter(|(count, _)| *count > 0);
        let counts: Vec<_> = counts
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        screen.print_line(&match counts.as_slice() {
            [] if self.hosts.is_empty() => "Nothing to do: the fleet has no flakes.".to_owned(),
            [] => "Nothing to do: none of these machines has a flake.".to_owned(),
            counts => format!("Lock files: {}.", counts.join(", ")),
        })?;
        Ok(match failed == 0 && preview.problems.is_empty() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }
}
