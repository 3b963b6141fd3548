//! The changed packages, from Nix: only if both systems are in the local store.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::process::{Command, Output};

use bento_protocol::{GenerationId, HostName, SystemPath};

use super::grouping::Groups;
use super::{Diffs, HostDiff};
use crate::text::sanitise::{log, one_line};
use crate::text::terminal::{Colour, Terminal, paint};

/// The system that `bento build` built here from a machine's generation.
pub type Built<'a> = &'a dyn Fn(&HostName, GenerationId) -> Option<SystemPath>;

/// The changed packages of each machine that doesn't run the published generation, or the reason why they are unknown.
pub fn compare(diffs: &Diffs, built: Built<'_>, terminal: Option<Terminal>) -> String {
    let groups = Groups::of(diffs);
    let changed: Vec<_> = groups
        .changed
        .iter()
        .flat_map(|(hosts, _)| hosts.iter().copied())
        .collect();
    if changed.is_empty() {
        return String::new();
    }
    if !is_here("nix") && !is_here("nvd") {
        return "Can't compare packages: Nix isn't installed here.\n".to_owned();
    }
    let mut text = String::new();
    for (systems, names) in group_by_systems(&changed, built) {
        text += &match systems.and_then(|systems| differences(systems, terminal)) {
            Ok(same) if same.trim().is_empty() => format!("packages of {names}: unchanged\n"),
            Ok(differences) => {
                let title = paint(&format!("packages of {names}:"), Colour::Blue, terminal);
                format!("{title}\n{}\n", differences.trim_end())
            }
            Err(why) => format!("can't compare packages of {names}: {why}\n"),
        };
    }
    text
}

/// The running and the new system of a machine, or the reason why one is unknown.
type Systems = Result<[SystemPath; 2], String>;

/// The distinct pairs of systems, with the names of their machines; Nix takes a while for each pair.
fn group_by_systems(hosts: &[&HostDiff], built: Built<'_>) -> Vec<(Systems, String)> {
    let mut groups: Vec<(Systems, String)> = Vec::new();
    for host in hosts {
        let systems = systems(host, built);
        match groups.iter_mut().find(|(known, _)| *known == systems) {
            Some((_, names)) => *names += &format!(", {}", host.name),
            None => groups.push((systems, host.name.to_string())),
        }
    }
    groups
}

fn is_here(program: &str) -> bool {
    let asked = Command::new(program).arg("--version").output();
    asked.is_ok()
}

fn systems(host: &HostDiff, built: Built<'_>) -> Systems {
    let name = &host.name;
    let build = format!("run `bento build {name}` here");
    let old = host
        .running
        .clone()
        .ok_or("it didn't report its running system")?;
    let new = host
        .published
        .and_then(|published| built(name, published.generation))
        .or(host.expected_system.clone());
    let new = new.ok_or(format!(
        "the system of the published generation is unknown: {build}"
    ))?;
    if !is_in_store(&new) {
        return Err(format!("{new} isn't in the local store: {build}"));
    }
    if !is_in_store(&old) {
        return Err(format!(
            "its running system {old} isn't in the local store: copy it with `nix copy --from`"
        ));
    }
    Ok([old, new])
}

/// Whether a path is in the local store. The machine itself names its system, and Nix would evaluate any other path as
/// a flake.
fn is_in_store(system: &SystemPath) -> bool {
    let store = bento_nix::variable("NIX_STORE_DIR").unwrap_or_else(|| "/nix/store".into());
    let name = Path::new(system.as_str()).strip_prefix(store).ok();
    let is_folder = || std::fs::symlink_metadata(system).is_ok_and(|found| found.is_dir());
    name.and_then(Path::to_str).is_some_and(is_store_name) && is_folder()
}

/// Whether it is `<32 characters>-<name>`, without special characters of a flake reference.
fn is_store_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._=".contains(&byte);
    name.bytes().all(allowed)
        && name
            .split_once('-')
            .is_some_and(|(hash, _)| hash.len() == 32)
}

/// The output of nvd, or without it, of Nix.
fn differences(systems: [SystemPath; 2], terminal: Option<Terminal>) -> Result<String, String> {
    let colours = terminal.is_some_and(|terminal| terminal.colours);
    let colour = if colours { "always" } else { "never" };
    let [old, new] = systems.each_ref().map(SystemPath::as_str);
    let (program, output) = match run("nvd", ["--color", colour, "diff", old, new]) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let command = ["--extra-experimental-features", "nix-command"];
            let command = command
                .into_iter()
                .chain(["store", "diff-closures", old, new]);
            ("nix store diff-closures", run("nix", command))
        }
        output => ("nvd diff", output),
    };
    let output = output.map_err(|error| format!("can't run `{program}`: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`{program}` failed: {}", one_line(&said, 500)));
    }
    Ok(log(&String::from_utf8_lossy(&output.stdout), colours))
}

fn run(program: &str, arguments: impl IntoIterator<Item: AsRef<OsStr>>) -> io::Result<Output> {
    Command::new(program).args(arguments).output()
}
