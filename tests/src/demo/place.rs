//! Where the demonstration keeps its things.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{Appliance, Guest, Podman, appliance, artifacts, files};

/// Every path and name of the demonstration.
#[derive(Debug)]
pub(super) struct Place {
    /// The programs that a person uses to try them.
    folder: PathBuf,
    /// The administrator's fleet folder.
    pub(super) fleet: PathBuf,
    /// The container's name.
    pub(super) container: &'static str,
    /// The machine's name, in the fleet and as a guest.
    pub(super) machine: &'static str,
}

impl Place {
    pub(super) fn of(podman: &Podman) -> Self {
        let folder = artifacts::target().join("demo");
        // A user that was made for this has nothing else at home; anybody else's fleet and appliance aren't touched.
        let (fleet, container) = match podman.home() {
            Some(home) => (home.join("fleet"), "bento"),
            None => (folder.join("fleet"), "bento-demo"),
        };
        Self {
            folder,
            fleet,
            container,
            machine: "kikimora",
        }
    }

    /// Runs podman as the administrator.
    pub(super) fn podman_wrapper(&self) -> PathBuf {
        self.folder.join("podman")
    }

    /// Runs commands on the machine.
    pub(super) fn machine_wrapper(&self) -> PathBuf {
        self.folder.join(self.machine)
    }

    /// Writes the two wrappers.
    ///
    /// # Errors
    /// If they can't be written.
    pub(super) fn write_wrappers(&self) -> Result<()> {
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("cannot make {}", self.folder.display()))?;
        let demo = env::current_exe().context("cannot find this program")?;
        let env = demo.with_file_name("env");
        write_script(
            &self.podman_wrapper(),
            "podman as the administrator of the demonstration",
            &format!("'{}' podman", env.display()),
        )?;
        write_script(
            &self.machine_wrapper(),
            "a shell, or a command, on the machine of the demonstration",
            &format!("'{}' machine", demo.display()),
        )
    }

    /// Removes all that there is of the demonstration, and names it.
    ///
    /// # Errors
    /// If something can't be removed.
    pub(super) fn clear(&self, podman: &Podman) -> Result<Vec<String>> {
        let mut removed = Vec::new();
        if Guest::remove(self.machine)? {
            removed.push(format!("the machine {}", self.machine));
        }
        let volume = appliance::volume(self.container);
        for (kind, name) in [("container", self.container), ("volume", &volume)] {
            if podman.run([kind, "exists", name]).is_ok() {
                removed.push(format!("the {kind} {name}"));
            }
        }
        Appliance::remove(self.container)?;
        for folder in [&self.fleet, &self.folder] {
            if folder.exists() {
                fs::remove_dir_all(folder)
                    .with_context(|| format!("cannot remove {}", folder.display()))?;
                removed.push(format!("the folder {}", shown(folder)));
            }
        }
        Ok(removed)
    }
}

/// A path as a person here would type it.
pub(super) fn shown(path: &Path) -> String {
    let here = env::current_dir().unwrap_or_default();
    path.strip_prefix(here)
        .unwrap_or(path)
        .display()
        .to_string()
}

fn write_script(path: &Path, what: &str, command: &str) -> Result<()> {
    let script = format!("#!/bin/sh\n# Written by `make demo`: {what}.\nexec {command} \"$@\"\n");
    files::write_program(path, script).with_context(|| format!("cannot write {}", path.display()))
}
