//! Which files a machine gets, and in which forms.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Result;
use bento_protocol::chroot;
use bento_tests::Fleet;

use super::{configuration, fleet, start};
use crate::generation::{Generation, id_by_the_book};
use crate::machine::Machine;

#[test]
fn a_machine_gets_exactly_what_its_folder_holds() -> Result<()> {
    let mut fleet = Fleet::new()?;
    fleet.write("utils/common.nix", "shared")?;
    fleet.write("utils/private/notes", "for nobody")?;
    fleet.write("utils/.gitignore", "private\n")?;
    fleet.host("kikimora", |host| {
        host.file("flake.nix", "{ }")?;
        host.file("modules/grün und blau.nix", "a name of two words")?;
        host.file("scripts/run.sh", "#!/bin/sh\n")?;
        host.file("debug.log", "ignored")?;
        host.file(".gitignore", "*.log\n")?;
        for leaving in [
            "result",
            "result-bin",
            "flake.nix~",
            ".flake.nix.swp",
            ".#flake.nix",
            "#flake.nix#",
            ".DS_Store",
            ".direnv/x",
            ".git/config",
            "fleet.toml",
            ".bentoignore",
        ] {
            host.file(leaving, "never published")?;
        }
        host.link("utils", "../../utils")?;
        host.link("direct.nix", "../../utils/common.nix")?;
        // Issue 10, line 3: what stays in its folder stays a symlink.
        host.link("overlays/default.nix", "../modules/./grün und blau.nix")?;
        host.link("modules-too", "modules")?;
        host.link("dangling", "no/where")?;
        host.secret("wifi.env", "psk=secret")?;
        host.secret("keys/host", "a private key")?;
        host.settings("attribute = \"web.1\"\nreboot = \"immediate\"\nnix_args = [\"--fallback\"]");
        Ok(())
    })?;
    let script = fleet.path().join("hosts/kikimora/scripts/run.sh");
    // What counts is what the owner may do, and no bit beyond that.
    fs::set_permissions(script, fs::Permissions::from_mode(0o4711))?;
    let appliance = start(&fleet)?;
    let generation = Machine::of(&fleet, "kikimora", &appliance).pull()?;
    let files = [
        ("config/.gitignore", false, "*.log\n"),
        ("config/dangling", false, "-> no/where"),
        ("config/direct.nix", false, "shared"),
        ("config/flake.nix", false, "{ }"),
        ("config/modules-too", false, "-> modules"),
        (
            "config/modules/grün und blau.nix",
            false,
            "a name of two words",
        ),
        (
            "config/overlays/default.nix",
            false,
            "-> ../modules/./grün und blau.nix",
        ),
        ("config/scripts/run.sh", true, "#!/bin/sh\n"),
        ("config/utils/.gitignore", false, "private\n"),
        ("config/utils/common.nix", false, "shared"),
        ("secrets/keys/host", false, "a private key"),
        ("secrets/wifi.env", false, "psk=secret"),
    ];
    assert_eq!(generation.paths(), files.map(|(path, ..)| path));
    for ((path, executable, text), file) in files.iter().zip(generation.manifest.files()) {
        assert_eq!(generation.text(path), *text, "{path}");
        let is_executable = file.file().is_some_and(|file| file.executable);
        assert_eq!(is_executable, *executable, "{path}");
    }
    let policy = r#"{"attribute":"web.1","nix_args":["--fallback"],"reboot":"immediate"}"#;
    assert_eq!(
        generation.id().to_string(),
        id_by_the_book("kikimora", policy, &files)
    );
    Ok(())
}

#[test]
fn a_flake_at_the_root_serves_each_machine_with_what_is_its_own() -> Result<()> {
    let mut fleet = Fleet::new()?;
    for file in [
        "flake.nix",
        "flake.lock",
        "README.md",
        "modules/common.nix",
        "machines/kikimora/default.nix",
        "machines/domovoi/default.nix",
        "machines/domovoi/README.md",
    ] {
        fleet.write(file, file)?;
    }
    fleet.host("kikimora", |host| {
        host.settings("source = \".\"\nexclude = [\"/machines/*\", \"*.md\"]\ninclude = [\"/machines/kikimora/\"]");
        host.secret("token", "kikimora's")?;
        Ok(())
    })?;
    fleet.host("domovoi", |host| {
        host.settings(
            "source = \".\"\nexclude = [\"*\"]\ninclude = [\"/flake.*\", \"/machines/domovoi/\"]",
        );
        Ok(())
    })?;
    let appliance = start(&fleet)?;
    let pull = |name| Machine::of(&fleet, name, &appliance).pull();
    assert_eq!(
        pull("kikimora")?.paths(),
        [
            "config/flake.lock",
            "config/flake.nix",
            "config/machines/kikimora/default.nix",
            "config/modules/common.nix",
            "secrets/token",
        ]
    );
    assert_eq!(
        pull("domovoi")?.paths(),
        [
            "config/flake.lock",
            "config/flake.nix",
            "config/machines/domovoi/README.md",
            "config/machines/domovoi/default.nix",
        ]
    );
    Ok(())
}

#[test]
fn a_delta_leads_from_each_of_the_generations_before() -> Result<()> {
    let fleet = fleet(&["kikimora"])?;
    let folder = "hosts/kikimora";
    fleet.write(&format!("{folder}/stays"), "the same")?;
    fleet.write(&format!("{folder}/goes"), "")?;
    let appliance = start(&fleet)?;
    let machine = Machine::of(&fleet, "kikimora", &appliance);
    let first = machine.pull()?;
    fleet.at_once(|| {
        fleet.remove(&format!("{folder}/goes"))?;
        fleet.write(&format!("{folder}/comes"), "new")
    })?;
    let second = machine.await_other_than(first.id())?;
    fleet.at_once(|| {
        fleet.write(&configuration("kikimora"), "changed")?;
        fleet.write("bento-secrets/kikimora/token", "secret")
    })?;
    let third = machine.await_other_than(second.id())?;

    let session = machine.log_in()?;
    let delta_from = |old: &Generation| old.changed_by(&session.read(&chroot::delta(&old.id()))?);
    let (delta, result) = delta_from(&second)?;
    let changed: Vec<_> = delta
        .changed
        .iter()
        .map(|file| file.path().as_str())
        .collect();
    assert_eq!(changed, ["config/configuration.nix", "secrets/token"]);
    assert_eq!(delta.removed, []);
    assert_eq!(result, third);

    let (delta, result) = delta_from(&first)?;
    let changed: Vec<_> = delta
        .changed
        .iter()
        .map(|file| file.path().as_str())
        .collect();
    assert_eq!(
        changed,
        ["config/comes", "config/configuration.nix", "secrets/token"]
    );
    assert_eq!(delta.removed, ["config/goes".parse()?]);
    assert_eq!(result, third);
    Ok(())
}

#[test]
fn a_client_of_2022_finds_every_change_in_a_minute_of_its_own() -> Result<()> {
    let fleet = fleet(&["kikimora"])?;
    let appliance = start(&fleet)?;
    let machine = Machine::of(&fleet, "kikimora", &appliance);
    let last_change = || machine.log_in()?.modified(chroot::LAST_CHANGE_DATE);
    let (mut id, mut before) = (machine.pull()?.id(), last_change()?);
    for text in ["first", "second"] {
        fleet.write(&configuration("kikimora"), text)?;
        id = machine.await_other_than(id)?.id();
        let after = last_change()?;
        assert!(after >= before + 60, "{before}, then {after}");
        before = after;
    }
    // It fetches the files one by one, in plain sight; Nix is to see the same times everywhere.
    let session = machine.log_in()?;
    assert_eq!(session.read("/config/configuration.nix")?, b"second");
    assert_eq!(session.modified("/config/configuration.nix")?, 1);
    Ok(())
}

#[test]
fn the_same_folder_gives_the_same_id_on_any_appliance_at_any_time() -> Result<()> {
    let fleet = fleet(&["kikimora"])?;
    let copy = Fleet::new()?;
    copy_contents(fleet.path(), copy.path())?;
    copy.give_away()?;
    let (one, other) = (start(&fleet)?, start(&copy)?);
    assert_ne!(one.host_key()?, other.host_key()?);
    let pull = |appliance| Machine::of(&fleet, "kikimora", appliance).pull();
    let ids = [pull(&one)?.id(), pull(&other)?.id()].map(|id| id.to_string());
    let files = [("config/configuration.nix", false, "kikimora")];
    let by_the_book = id_by_the_book("kikimora", "{}", &files);
    assert_eq!(ids, [by_the_book.clone(), by_the_book]);
    Ok(())
}

/// Copies files, with new times.
fn copy_contents(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir_all(&target)?;
            copy_contents(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
