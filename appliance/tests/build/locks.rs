use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::env::BuildEnv;

/// Of a flake that needs what a symlink leads to, out of its folder.
const FLAKE: &str = "{\n  inputs.one = { url = \"path:INPUTS/one\"; flake = false; };\n  inputs.two = { url = \
                     \"path:INPUTS/two\"; flake = false; };\n  inputs.near.url = \"path:./utils/near\";\n  \
                     outputs = _: { };\n}\n";

/// A fleet of `own`, with a folder of its own, and of `left` and `right`, which share one by a symlink.
fn fleet() -> BuildEnv {
    let env = BuildEnv::new(&["own", "left", "right"]);
    let flake = FLAKE.replace("INPUTS", env.path("inputs").to_str().unwrap());
    env.write("utils/near/flake.nix", "{ outputs = _: { }; }");
    for folder in ["hosts/own", "shared"] {
        env.write(&format!("{folder}/flake.nix"), &flake);
    }
    symlink("../../utils", env.fleet().join("hosts/own/utils")).unwrap();
    symlink("../utils", env.fleet().join("shared/utils")).unwrap();
    for host in ["left", "right"] {
        symlink("../shared", env.fleet().join("hosts").join(host)).unwrap();
    }
    move_input(&env, "one", "1");
    move_input(&env, "two", "1");
    env
}

fn move_input(env: &BuildEnv, input: &str, version: &str) {
    let folder = env.path("inputs").join(input);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("version"), version).unwrap();
}

/// Every file of the fleet, but lock files.
fn files(folder: &Path, into: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() {
            into.insert(
                path.clone(),
                fs::read_link(&path)
                    .unwrap()
                    .into_os_string()
                    .into_encoded_bytes(),
            );
        } else if path.is_dir() {
            files(&path, into);
        } else if !path.ends_with("flake.lock") {
            into.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
}

fn everything(env: &BuildEnv) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    files(&env.fleet(), &mut all);
    all
}

#[test]
fn each_lock_file_is_updated_once_and_nothing_else() {
    let env = fleet();
    let before = everything(&env);
    let ended = env.bento(&["flake-update"]).with(0);
    let ended = ended
        .saying("shared (left, right)\n")
        .saying("hosts/own (own)\n")
        .saying("  one: new, ")
        .saying("Lock files: 2 updated.");
    assert_eq!(
        ended.stdout.matches("one: new, ").count(),
        2,
        "{}",
        ended.stdout
    );
    env.bento(&["flake-update"])
        .with(0)
        .saying("Lock files: 2 unchanged.");

    let lock = env.fleet().join("shared/flake.lock");
    fs::set_permissions(&lock, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::chown(&lock, Some(1234), Some(1234)).unwrap();
    move_input(&env, "one", "2");
    let ended = env
        .bento(&["flake-update", "--host", "right", "--host", "own"])
        .with(0);
    assert_eq!(
        ended.stdout.matches("  one: ").count(),
        2,
        "{}",
        ended.stdout
    );
    assert!(!ended.stdout.contains("  two: "), "{}", ended.stdout);
    let metadata = fs::metadata(&lock).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.uid()), (0o640, 1234));
    assert_eq!(everything(&env), before);
    assert_eq!(env.leftovers(), [""; 0]);
}

// Issue 10, line 41.
#[test]
fn a_machine_among_the_inputs_gives_a_hint() {
    let env = fleet();
    let before = env.bento(&["flake-update", "--host", "own", "one"]).with(0);
    assert!(!before.stdout.contains("hosts/right"), "{}", before.stdout);
    env.bento(&["flake-update", "--host", "own", "right"])
        .with(1)
        .saying("no flake has an input right: the inputs are ")
        .saying("right is a machine: use --host right");
}

#[test]
fn a_single_input_is_updated_alone_and_an_unknown_one_is_an_error() {
    let env = fleet();
    env.bento(&["flake-update"]).with(0);
    for input in ["one", "two"] {
        move_input(&env, input, "2");
    }
    let lock = env.read("shared/flake.lock");
    env.bento(&["flake-update", "one", "three"])
        .with(1)
        .saying("no flake has an input three: the inputs are near, one, two");
    assert_eq!(env.read("shared/flake.lock"), lock);
    let ended = env
        .bento(&["flake-update", "one"])
        .with(0)
        .saying("  one: ");
    assert!(!ended.stdout.contains("two: "), "{}", ended.stdout);
    env.bento(&["flake-update"]).with(0).saying("  two: ");
}

#[test]
fn a_failure_in_one_folder_does_not_stop_the_others() {
    let env = fleet();
    let flake = "{ inputs.gone.url = \"path:/nowhere/at/all\"; outputs = _: { }; }";
    env.write("hosts/own/flake.nix", flake);
    env.bento(&["flake-update"])
        .with(1)
        .saying("can't update hosts/own (own):")
        .saying("/nowhere/at/all")
        .saying("Lock files: 1 updated, 1 failed.");
    assert!(env.fleet().join("shared/flake.lock").exists());
    assert!(!env.fleet().join("hosts/own/flake.lock").exists());
}

#[test]
fn a_lock_file_of_two_flakes_is_left_alone() {
    let env = fleet();
    env.bento(&["flake-update"]).with(0);
    let lock = env.fleet().join("hosts/own/flake.lock");
    fs::remove_file(&lock).unwrap();
    symlink("../../shared/flake.lock", &lock).unwrap();
    let before = env.read("shared/flake.lock");
    move_input(&env, "one", "2");
    env.bento(&["flake-update"])
        .with(1)
        .saying("another flake.nix uses the same lock file");
    assert_eq!(env.read("shared/flake.lock"), before);
}
