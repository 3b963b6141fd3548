//! Promise 1: a machine sees only itself. Tried with OpenSSH's own clients, which ask for anything.

mod chroot;
mod clients;
mod door;
mod elsewhere;
mod raw;
mod requests;

use std::fs;

use anyhow::Result;
use bento_tests::{Appliance, Fleet, Options};
use tempfile::TempDir;

use crate::machine::Machine;

const DOMOVOIS: &str = "what only domovoi may know";
const SECRET: &str = "what nobody may see in plain";

/// Two machines and the folder of one of them, in which it keeps what it gets hold of.
struct IsolationEnv {
    fleet: Fleet,
    appliance: Appliance,
    folder: TempDir,
}

impl IsolationEnv {
    fn new() -> Result<Self> {
        let mut fleet = Fleet::new()?;
        fleet.host("kikimora", |host| {
            host.file("configuration.nix", "kikimora's")?;
            host.secret("token", SECRET)?;
            Ok(())
        })?;
        fleet.host("domovoi", |host| {
            host.file("configuration.nix", DOMOVOIS)?;
            host.secret("token", DOMOVOIS)?;
            Ok(())
        })?;
        let appliance = Appliance::start(fleet.path(), Options::default())?;
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("file"), "written by kikimora")?;
        Ok(IsolationEnv {
            fleet,
            appliance,
            folder,
        })
    }

    fn machine(&self, name: &str) -> Machine {
        Machine::of(&self.fleet, name, &self.appliance)
    }

    /// A path in the machine's own folder.
    fn own(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}

/// What OpenSSH's client says when a server refuses something, or doesn't offer it at all.
const REFUSALS: [&str; 5] = [
    "Permission denied",
    "not found",
    "No such file",
    "Server does not support",
    "Failure",
];

/// Each of these commands must be refused.
fn all_are_refused(machine: &Machine, commands: &[String]) -> Result<()> {
    for (command, said) in commands.iter().zip(machine.sftp_each(commands)?) {
        let is_refused = REFUSALS.iter().any(|refusal| said.contains(refusal));
        assert!(is_refused, "`{command}` wasn't refused: {said:?}");
    }
    Ok(())
}
