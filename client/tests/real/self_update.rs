//! Machines that move their own inputs.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use bento_protocol::{Outcome, Report, Terms};

use crate::env::{ClientEnv, classic, flake, host, with};
use crate::publisher::{Content, Generation};

/// Takes the version of the system from an input.
const FLAKE: &str = "{ inputs.packages = { url = \"path:PACKAGES\"; flake = false; };\n\
    outputs = { self, packages }: { nixosConfigurations.kikimora.config.system.build.toplevel =\n\
    derivation ((import ./system.nix ./.).drvAttrs // { version = builtins.readFile (packages + \"/version\"); }); }; }";

/// The same for `<nixpkgs/nixos>`.
const CHANNEL: &str = "{ configuration ? <nixos-config> }: { config.system.build.toplevel =\n\
    derivation ((import configuration).drvAttrs // { version = builtins.readFile ../version; }); }";

fn publish(env: &mut ClientEnv, contents: Vec<Content>) -> Generation {
    let terms = Terms {
        self_update: true,
        ..Terms::default()
    };
    let generation = Generation::new(&host(), terms.into(), contents);
    env.server.publish(&generation, &[]);
    generation
}

/// A configuration with an input, and with the lock file that belongs to it or none.
fn moving(env: &ClientEnv, lock: Option<&str>) -> Vec<Content> {
    let packages = env.path("packages").display().to_string();
    let contents = with(
        flake("-"),
        "config/flake.nix",
        &FLAKE.replace("PACKAGES", &packages),
    );
    match lock {
        Some(lock) => with(contents, "config/flake.lock", lock),
        None => without_lock(contents),
    }
}

fn without_lock(mut contents: Vec<Content>) -> Vec<Content> {
    contents.retain(|content| content.path != "config/flake.lock");
    contents
}

fn move_packages(env: &ClientEnv, version: &str) {
    fs::create_dir_all(env.path("packages")).unwrap();
    fs::write(env.path("packages/version"), version).unwrap();
}

fn outcomes(reports: &[Report]) -> Vec<(Outcome, bool)> {
    reports.iter().map(|it| (it.outcome, it.auto)).collect()
}

#[test]
fn inputs_that_move_are_followed_and_nobody_is_taken_back_by_a_new_generation() {
    let mut env = ClientEnv::new();
    move_packages(&env, "1.0");
    let contents = moving(&env, None);
    let first = publish(&mut env, contents);
    env.update().with(0);
    env.is_wholly_on("1.0");
    env.update().with(0);
    assert_eq!(outcomes(&env.reports()), [(Outcome::Switched, false)]);
    let old_lock = fs::read_to_string(env.state("working/flake.lock")).unwrap();

    move_packages(&env, "1.1");
    env.update().with(0).without_complaint();
    env.is_wholly_on("1.1");
    env.update().with(0);
    let expected = [(Outcome::Switched, false), (Outcome::Switched, true)];
    assert_eq!(outcomes(&env.reports()), expected);
    let report = env.last_report();
    assert_eq!(report.generation, first.manifest.generation());
    assert_eq!(report.system.built, report.system.running);

    // Its lock file is as old as the first one.
    let contents = moving(&env, Some(&old_lock));
    let second = publish(&mut env, with(contents, "config/new", ""));
    env.update().with(0);
    env.is_wholly_on("1.1");
    let report = env.last_report();
    assert_eq!(report.generation, second.manifest.generation());
    assert_eq!((report.outcome, report.auto), (Outcome::Switched, false));
    env.update().with(0);
    assert_eq!(env.reports().len(), 3);
}

#[test]
fn a_self_update_that_fails_leaves_the_generation_installed() {
    let mut env = ClientEnv::new();
    move_packages(&env, "1.0");
    let contents = moving(&env, None);
    publish(&mut env, contents);
    env.update().with(0);
    fs::rename(env.path("packages"), env.path("away")).unwrap();
    env.update().with(1);
    env.is_wholly_on("1.0");
    let report = env.last_report();
    assert_eq!((report.outcome, report.auto), (Outcome::BuildFailed, true));
    fs::rename(env.path("away"), env.path("packages")).unwrap();
    move_packages(&env, "1.1");
    env.update_with(&["--retry"]).with(0);
    env.is_wholly_on("1.1");
}

#[test]
fn without_the_policy_nothing_moves() {
    let mut env = ClientEnv::new();
    move_packages(&env, "1.0");
    let contents = moving(&env, None);
    env.publish(contents, &[]);
    env.update().with(0);
    move_packages(&env, "1.1");
    env.update().with(0);
    env.is_wholly_on("1.0");
    assert_eq!(env.reports().len(), 1);
}

/// Makes the channel be of this version.
fn move_channel(env: &ClientEnv, version: &str) -> PathBuf {
    let folder = env.path("channel/nixpkgs");
    fs::create_dir_all(folder.join("nixos")).unwrap();
    fs::write(folder.join("version"), version).unwrap();
    fs::write(folder.join("nixos/default.nix"), CHANNEL).unwrap();
    let archive = env.path("channel/nixexprs.tar.gz");
    let status = Command::new("tar")
        .arg("-czf")
        .arg(&archive)
        .arg("-C")
        .arg(env.path("channel"))
        .arg("nixpkgs")
        .status();
    assert!(status.unwrap().success());
    archive
}

#[test]
fn a_machine_without_a_flake_moves_its_channels() {
    let mut env = ClientEnv::new();
    let archive = move_channel(&env, "1.0");
    let list = format!("file://{} nixpkgs\n", archive.display());
    fs::write(env.path("home/.nix-channels"), list).unwrap();
    let channels = "machine/nix/var/nix/profiles/per-user/root/channels/nixpkgs";
    let settings = env.settings(&env.server.host_key, "").replace(
        &env.path("nixpkgs").display().to_string(),
        &env.path(channels).display().to_string(),
    );
    env.write_settings(&settings);
    publish(&mut env, classic("-"));
    env.update().with(0);
    env.is_wholly_on("1.0");
    env.update().with(0);
    assert_eq!(outcomes(&env.reports()), [(Outcome::Switched, false)]);

    move_channel(&env, "1.1");
    env.update().with(0);
    env.is_wholly_on("1.1");
    let expected = [(Outcome::Switched, false), (Outcome::Switched, true)];
    assert_eq!(outcomes(&env.reports()), expected);
}
