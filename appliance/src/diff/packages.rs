//! Which packages become different, as Nix tells it: only where both systems are in the store of this machine.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::process::{Command, Output};

use bento_protocol::{GenerationId, HostName, SystemPath};

use super::grouping::Groups;
use super::{Diffs, HostDiff};
use crate::text::sanitise::{log, one_line};
use crate::text::terminal::{Colour, Terminal, paint};

/// What is known here, and not where the appliance is: the system that `bento build` made of a machine's generation.
pub type Built<'a> = &'a dyn Fn(&HostName, GenerationId) -> Option<SystemPath>;

/// For each machine that runs something else than is published: which packages become different, or why that can't be
/// told.
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
        return "Packages can't be compared: there is no Nix here.\n".to_owned();
    }
    let mut text = String::new();
    for (systems, names) in group_by_systems(&changed, built) {
        text += &match systems.and_then(|systems| differences(systems, terminal)) {
            Ok(same) if same.trim().is_empty() => format!("packages of {names}: the same\n"),
            Ok(differences) => {
                let title = paint(&format!("packages of {names}:"), Colour::Blue, terminal);
                format!("{title}\n{}\n", differences.trim_end())
            }
            Err(why) => format!("packages of {names} can't be compared: {why}\n"),
        };
    }
    text
}

/// The system that a machine runs, and the one that it would run; or why they aren't known.
type Systems = Result<[SystemPath; 2], String>;

/// The pairs of systems, each once, with the names of all the machines that have it: Nix takes a while for each.
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
    let build = format!("build it here with `bento build {name}`");
    let old = host
        .running
        .clone()
        .ok_or("it didn't report which system it runs")?;
    let new = host
        .published
        .and_then(|published| built(name, published.generation))
        .or(host.expected_system.clone());
    let new = new.ok_or(format!("no system is known of what is published: {build}"))?;
    if !is_in_store(&new) {
        return Err(format!("{new} isn't in the store here: {build}"));
    }
    if !is_in_store(&old) {
        return Err(format!(
            "{old}, which it runs, isn't in the store here, where it comes by `nix copy`, or by having been built here"
        ));
    }
    Ok([old, new])
}

/// Whether it is in the store of this machine. A machine names its system itself, and Nix takes the path of anything
/// else for a flake, which it would evaluate.
fn is_in_store(system: &SystemPath) -> bool {
    let store = bento_nix::variable("NIX_STORE_DIR").unwrap_or_else(|| "/nix/store".into());
    let name = Path::new(system.as_str()).strip_prefix(store).ok();
    let is_folder = || std::fs::symlink_metadata(system).is_ok_and(|found| found.is_dir());
    name.and_then(Path::to_str).is_some_and(is_store_name) && is_folder()
}

/// `<32 characters>-<name>`, without what means something in a flake's address.
fn is_store_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._=".contains(&byte);
    name.bytes().all(allowed)
        && name
            .split_once('-')
            .is_some_and(|(hash, _)| hash.len() == 32)
}

/// What nvd says, or else Nix itself.
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
    let output = output.map_err(|error| format!("`{program}` can't be run: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`{program}` failed: {}", one_line(&said, 500)));
    }
    Ok(log(&String::from_utf8_lossy(&output.stdout), colours))
}

fn run(program: &str, arguments: impl IntoIterator<Item: AsRef<OsStr>>) -> io::Result<Output> {
    Command::new(program).args(arguments).output()
}
