//! What the workspace depends on, compared with `deny.toml`, which is also what `cargo deny` reads.

#![expect(
    clippy::unwrap_used,
    reason = "a test that can't get its value should stop there"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use spdx::{Expression, ParseMode};
use toml_edit::{Document, Item, Value};

/// The crates of the workspace.
const MEMBERS: [&str; 7] = [
    "appliance",
    "client",
    "client/nix",
    "client/protocol",
    "image",
    "manual",
    "tests",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn toml(path: &str) -> Document<String> {
    Document::parse(read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The texts of a list, such as `["MIT", …]`.
fn texts(item: &Item) -> Vec<String> {
    let values = item.as_array().unwrap().iter();
    values
        .map(|value| value.as_str().unwrap().to_owned())
        .collect()
}

/// A crate that takes part in a build.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    name: String,
    version: String,
    licence: String,
}

/// Every crate of the builds for the platforms of `deny.toml`, tests and build scripts included.
fn packages() -> BTreeSet<Package> {
    let deny = toml("deny.toml");
    let mut packages = BTreeSet::new();
    for target in texts(&deny["graph"]["targets"]) {
        let output = Command::new(env!("CARGO"))
            .args(["tree", "--locked", "--workspace", "--prefix", "none"])
            .args(["--edges", "normal,build,dev", "--format", "{p}|{l}"])
            .args(["--target", &target])
            .current_dir(root())
            .output()
            .unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "cargo tree: {complaint}");
        let text = String::from_utf8(output.stdout).unwrap();
        let lines = text.lines().filter(|line| !line.is_empty());
        packages.extend(lines.map(package));
    }
    assert!(packages.len() > MEMBERS.len());
    packages
}

/// A line such as `serde v1.0.0 (proc-macro)|MIT OR Apache-2.0 (*)`.
fn package(line: &str) -> Package {
    let (package, licence) = line.split_once('|').unwrap();
    let mut words = package.split(' ');
    Package {
        name: words.next().unwrap().to_owned(),
        version: words.next().unwrap()[1..].to_owned(),
        licence: licence.trim_end_matches(" (*)").to_owned(),
    }
}

#[test]
fn every_licence_may_be_shipped_with_a_program_under_mit() {
    let allowed = texts(&toml("deny.toml")["licenses"]["allow"]);
    let mut named = BTreeSet::new();
    for package in packages() {
        let expression = Expression::parse_mode(&package.licence, ParseMode::LAX)
            .unwrap_or_else(|error| panic!("{package:?}: {error}"));
        named.extend(
            expression
                .requirements()
                .map(|licence| licence.req.to_string()),
        );
        let is_allowed = expression.evaluate(|licence| allowed.contains(&licence.to_string()));
        assert!(
            is_allowed,
            "{package:?} isn't under a licence that deny.toml allows"
        );
    }
    for licence in allowed {
        assert!(named.contains(&licence), "nothing is under {licence}");
    }
}

#[test]
fn a_second_version_of_a_crate_has_its_reason() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in packages() {
        versions
            .entry(package.name)
            .or_default()
            .insert(package.version);
    }
    let deny = toml("deny.toml");
    for skipped in deny["bans"]["skip"].as_array().unwrap() {
        let field = |name: &str| {
            let field = skipped.as_inline_table().unwrap().get(name);
            field.and_then(Value::as_str).unwrap_or_default()
        };
        assert!(!field("reason").is_empty(), "{skipped} has no reason");
        let (name, version) = field("crate").split_once('@').unwrap();
        let is_meant = |other: &String| other.starts_with(&format!("{version}."));
        let there = versions.get_mut(name).filter(|there| there.len() > 1);
        let there = there.unwrap_or_else(|| panic!("{name} is there once, or not at all"));
        let before = there.len();
        there.retain(|other| !is_meant(other));
        assert!(there.len() < before, "there is no {name} {version}");
    }
    versions.retain(|_, versions| versions.len() > 1);
    assert!(
        versions.is_empty(),
        "use one version of each, or give deny.toml a reason: {versions:?}"
    );
}

#[test]
fn every_crate_comes_from_crates_io_or_from_here() {
    for path in ["Cargo.lock", "fuzz/Cargo.lock"] {
        let lock = toml(path);
        for package in lock["package"].as_array_of_tables().unwrap() {
            let name = package["name"].as_str().unwrap();
            match package.get("source").and_then(Item::as_str) {
                Some(source) => {
                    let is_known = source.starts_with("registry+")
                        && source.ends_with("/rust-lang/crates.io-index");
                    assert!(is_known, "{path}: {name} comes from {source}");
                    assert!(
                        package.contains_key("checksum"),
                        "{path}: {name} isn't pinned"
                    );
                }
                None => assert!(
                    name.starts_with("bento-"),
                    "{path}: {name} comes from a folder"
                ),
            }
        }
    }
}

#[test]
fn every_dependency_is_used() {
    for member in MEMBERS {
        let manifest = toml(&format!("{member}/Cargo.toml"));
        let sources = ["src", "tests"].map(|folder| sources(&root().join(member).join(folder)));
        for (table, sources) in [
            ("dependencies", sources[0].clone()),
            ("dev-dependencies", sources.concat()),
        ] {
            let Some(dependencies) = manifest.get(table).and_then(Item::as_table) else {
                continue;
            };
            for (name, _) in dependencies {
                let path = format!("{}::", name.replace('-', "_"));
                assert!(
                    sources.contains(&path),
                    "{member}: nothing uses {name} of its {table}"
                );
            }
        }
    }
}

/// Lints that hold for all, `unsafe_code` above all, hold only where they are asked for.
#[test]
fn the_lints_of_the_workspace_hold_everywhere() {
    let workspace = toml("Cargo.toml");
    let members = texts(&workspace["workspace"]["members"]);
    assert_eq!(members, MEMBERS);
    for member in members {
        let manifest = toml(&format!("{member}/Cargo.toml"));
        let inherits = manifest
            .get("lints")
            .and_then(|lints| lints.get("workspace"));
        let inherits = inherits.and_then(Item::as_bool);
        assert_eq!(inherits, Some(true), "{member}");
    }
}

/// All Rust below a folder, as one text.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    let Ok(entries) = fs::read_dir(folder) else {
        return text;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text += &sources(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += &fs::read_to_string(path).unwrap();
        }
    }
    text
}
