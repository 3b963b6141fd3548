//! The machines of a repository: from its flake, or from the names of its folders.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use bento_nix::{Tail, flake_command};
use bento_protocol::HostName;

use crate::text::terminal::to_stderr;

/// The usual folders of machines.
pub(super) const FOLDERS: [&str; 6] = [
    "hosts",
    "machines",
    "systems",
    "hosts/nixos",
    "nixos/hosts",
    "host",
];
/// Folders that also hold other things: there, only names in the flake are machines.
const MIXED: [&str; 2] = ["nixos", "configurations"];
/// Usual names beside machines.
const OTHERS: [&str; 14] = [
    "common",
    "default",
    "shared",
    "modules",
    "profiles",
    "global",
    "lib",
    "hardware",
    "optional",
    "core",
    "base",
    "users",
    "template",
    "inventory",
];
/// The time limit for Nix, which may have to fetch all inputs.
const NIX_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// A machine of the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FlakeMachine {
    /// Its name in the fleet.
    pub(super) name: HostName,
    /// Its name in the flake.
    pub(super) attribute: String,
}

/// The found machines.
#[derive(Debug)]
pub(super) struct FoundMachines {
    pub(super) machines: Vec<FlakeMachine>,
    /// The source, as the end of a sentence.
    pub(super) source: String,
    /// The error of Nix, if it failed.
    pub(super) nix_error: Option<String>,
}

impl FoundMachines {
    /// Finds the machines with Nix, or without it by the names of folders.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub(super) fn find(folder: &Path) -> anyhow::Result<Self> {
        let asked = bento_nix::version().map(|_| ask_nix(folder));
        match asked {
            Some(Ok(attributes)) => Ok(FoundMachines {
                machines: named(attributes),
                source: "from nixosConfigurations".to_owned(),
                nix_error: None,
            }),
            asked => {
                let (attributes, folder) = in_folders(folder)?;
                Ok(FoundMachines {
                    machines: named(attributes),
                    source: format!("by the names in {folder}"),
                    nix_error: asked.and_then(Result::err),
                })
            }
        }
    }
}

/// The attributes of `nixosConfigurations`. Without `path:` before the folder, only files that git tracks are copied to
/// the store.
fn ask_nix(folder: &Path) -> Result<Vec<String>, String> {
    to_stderr("Reading nixosConfigurations with Nix; this may take a while.");
    let mut command = flake_command(&["eval", "--json", "--no-write-lock-file"]);
    command
        .arg(format!("{}#nixosConfigurations", folder.display()))
        .args(["--apply", "builtins.attrNames"]);
    let mut names = None;
    bento_nix::run(command, NIX_TIMEOUT, &mut Tail::default(), &mut |line| {
        if line.starts_with('[') {
            names = serde_json::from_str(line).ok().or(names.take());
        }
    })
    .map_err(|error| {
        let error = format!("{error:#}");
        error.lines().next().unwrap_or_default().to_owned()
    })?;
    names.ok_or_else(|| "it didn't print a list of names".to_owned())
}

/// The names in the first usual folder with machines, and that folder.
fn in_folders(folder: &Path) -> anyhow::Result<(Vec<String>, String)> {
    for place in FOLDERS.into_iter().chain(MIXED) {
        let below = folder.join(place);
        if !below.is_dir() {
            continue;
        }
        let (mut folders, mut files) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&below)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_other = |stem: &str| {
                stem.starts_with('.') || OTHERS.contains(&stem.to_lowercase().as_str())
            };
            if entry.path().is_dir() {
                let is_machine = !is_other(&name) && holds_nix(&entry.path());
                folders.extend(is_machine.then_some(name));
            } else {
                let stem = name.strip_suffix(".nix").filter(|stem| !is_other(stem));
                files.extend(stem.map(str::to_owned));
            }
        }
        // Beside folders, a file is a machine only if the flake names it.
        let listed = if folders.is_empty() {
            files.clone()
        } else {
            folders.clone()
        };
        let named = named_in_flake(folder, place, folders.into_iter().chain(files));
        let is_listed = named.len() * 2 >= listed.len() || MIXED.contains(&place);
        let mut machines = if is_listed { named } else { listed };
        machines.sort();
        if !machines.is_empty() {
            return Ok((machines, format!("{place}/")));
        }
    }
    Ok((Vec::new(), FOLDERS[..3].join("/, ") + "/"))
}

fn holds_nix(folder: &Path) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| {
        let name = entry.file_name();
        Path::new(&name).extension().is_some_and(|end| end == "nix")
    })
}

/// The names in the flake or in the folder's default.nix, without machines of nix-darwin.
fn named_in_flake(folder: &Path, place: &str, found: impl Iterator<Item = String>) -> Vec<String> {
    let files = ["flake.nix".to_owned(), format!("{place}/default.nix")];
    let texts = files.map(|file| fs::read_to_string(folder.join(file)).unwrap_or_default());
    let lines: Vec<&str> = texts
        .iter()
        .flat_map(|text| text.lines())
        .filter(|line| !line.trim_start().starts_with('#'))
        .collect();
    let is_named = |name: &String| {
        let mut lines = lines.iter().filter(|line| has_word(line, name));
        lines.any(|line| !line.contains("darwin"))
    };
    found.filter(is_named).collect()
}

fn has_word(line: &str, word: &str) -> bool {
    let is_part = |char: char| char.is_alphanumeric() || "-_'".contains(char);
    line.match_indices(word).any(|(at, _)| {
        let (before, behind) = (&line[..at], &line[at + word.len()..]);
        !before.ends_with(is_part) && !behind.starts_with(is_part)
    })
}

/// The machines with valid and distinct names for the fleet.
fn named(attributes: Vec<String>) -> Vec<FlakeMachine> {
    let mut machines: BTreeMap<HostName, String> = BTreeMap::new();
    // Valid names are assigned first.
    let (fit, others): (Vec<_>, Vec<_>) = attributes
        .into_iter()
        .partition(|attribute| attribute.parse::<HostName>().is_ok());
    for attribute in fit.into_iter().chain(others) {
        let name = candidates(&attribute)
            .filter_map(|candidate| candidate.parse::<HostName>().ok())
            .find(|name| !machines.contains_key(name));
        if let Some(name) = name {
            machines.insert(name, attribute);
        }
    }
    let machines = machines.into_iter();
    machines
        .map(|(name, attribute)| FlakeMachine { name, attribute })
        .collect()
}

/// Names for an attribute, the best first: `core-pw` for `CORE-PW`, `build01` for `build01.example.org`.
fn candidates(attribute: &str) -> impl Iterator<Item = String> {
    let label = |text: &str| {
        let lower = text.to_lowercase();
        let fit = lower.replace(|char: char| !char.is_ascii_alphanumeric(), "-");
        let short: String = fit.trim_matches('-').chars().take(29).collect();
        short.trim_end_matches('-').to_owned()
    };
    let first = label(attribute.split('.').next().unwrap_or_default());
    let whole = label(attribute);
    let numbered: Vec<String> = (2..100).map(|number| format!("{whole}-{number}")).collect();
    let own = [attribute.to_owned(), first, whole];
    own.into_iter().chain(numbered)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Issue 10, line 6.
    #[test]
    fn every_attribute_gets_a_valid_and_distinct_name() {
        let long = "a".repeat(50);
        let attributes = [
            "CORE-PW",
            "core-pw",
            "build01.example.org",
            "build01.example.net",
            "build01_",
            "root",
            &long,
        ];
        let machines = named(attributes.map(str::to_owned).to_vec());
        let names: Vec<_> = machines
            .iter()
            .map(|machine| (machine.name.as_str(), machine.attribute.as_str()))
            .collect();
        let expected = [
            (&long[..29], long.as_str()),
            ("build01", "build01.example.org"),
            ("build01-2", "build01_"),
            ("build01-example-net", "build01.example.net"),
            ("core-pw", "core-pw"),
            ("core-pw-2", "CORE-PW"),
            ("root-2", "root"),
        ];
        assert_eq!(names, expected);
    }

    // Issue 10, line 6.
    #[test]
    fn without_nix_the_names_in_the_usual_folder_and_the_flake_are_machines() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for path in [
            "hosts/moon/default.nix",
            "hosts/sun/a.nix",
            "hosts/helper.nix",
            "hosts/mac/default.nix",
            "hosts/kit/default.nix",
            "hosts/common/default.nix",
            "hosts/default.nix",
            "hosts/README.md",
            "hosts/assets/a.png",
        ] {
            write(path, "{ }");
        }
        let found = || in_folders(folder.path()).unwrap();
        assert_eq!(
            found(),
            (
                ["kit", "mac", "moon", "sun"].map(str::to_owned).to_vec(),
                "hosts/".into()
            )
        );
        let flake = "{\n  # kit\n  moon = mk ./hosts/moon;\n  sun = mk ./hosts/sun;\n  darwinConfigurations.mac = 1; }\n";
        write("flake.nix", flake);
        assert_eq!(found().0, ["moon", "sun"]);
    }
}
