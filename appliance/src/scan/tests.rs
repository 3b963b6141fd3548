use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::FileType;
use tempfile::TempDir;

use super::*;
use crate::fleet;

mod once;
mod swaps;
mod symlinks;
mod tracked;

/// A fleet folder with `hosts/a/flake.nix`.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "hosts/a/flake.nix", "{}");
    folder
}

fn write(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn host(table: &str) -> Host {
    let text = format!("[server]\naddress = \"x\"\n[hosts.a]\n{table}");
    let reading = fleet::read(&text).unwrap();
    assert!(reading.problems.is_empty(), "{:?}", reading.problems);
    reading.fleet.hosts.into_values().next().unwrap()
}

fn walk(folder: &Path, table: &str) -> Result<Vec<String>, Vec<String>> {
    let fleet = FleetFolder::open(folder).unwrap();
    let tree = HostTree::walk(&fleet, &"a".parse().unwrap(), &host(table));
    tree.map(|tree| tree.files().map(|file| file.path.to_string()).collect())
        .map_err(|problems| problems.iter().map(Problem::to_string).collect())
}

#[test]
fn files_that_a_machine_does_not_get_cause_no_problems() {
    let folder = folder();
    let home = folder.path().join("hosts/a/home");
    fs::create_dir_all(home.join("below")).unwrap();
    symlink("../../nowhere", home.join("dangling")).unwrap();
    symlink("/etc/passwd", home.join("absolute")).unwrap();
    symlink("../../../../..", home.join("below/leaving")).unwrap();
    fs::write(home.join("below/bell\u{7}"), "").unwrap();
    fs::write(home.join("below/kept.nix"), "").unwrap();
    let problems = walk(folder.path(), "").unwrap_err();
    assert_eq!(problems.len(), 4, "{problems:?}");
    for exclude in ["home/", "home", "/home/*"] {
        let table = format!("exclude = [\"{exclude}\"]\n");
        assert_eq!(walk(folder.path(), &table).unwrap(), ["config/flake.nix"]);
    }
    let back = "exclude = [\"home/\"]\ninclude = [\"kept.nix\"]\n";
    assert_eq!(
        walk(folder.path(), back).unwrap(),
        ["config/flake.nix", "config/home/below/kept.nix"]
    );
}

#[test]
fn the_settings_of_the_fleet_are_never_published() {
    let folder = folder();
    write(folder.path(), "fleet.toml", "");
    symlink("../../fleet.toml", folder.path().join("hosts/a/settings")).unwrap();
    let problems = walk(folder.path(), "").unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0].starts_with("hosts/a/settings: a: leads into fleet.toml"),
        "{problems:?}"
    );
}

#[test]
fn a_host_gets_its_folder_and_its_secrets() {
    let folder = folder();
    write(folder.path(), "hosts/a/modules/x.nix", "");
    write(folder.path(), "hosts/b/flake.nix", "");
    write(folder.path(), "bento-secrets/a/wifi", "");
    write(folder.path(), "bento-secrets/b/wifi", "");
    fs::set_permissions(
        folder.path().join("hosts/a/flake.nix"),
        fs::Permissions::from_mode(0o745),
    )
    .unwrap();
    assert_eq!(
        walk(folder.path(), "").unwrap(),
        ["config/flake.nix", "config/modules/x.nix", "secrets/wifi"]
    );
    let fleet = FleetFolder::open(folder.path()).unwrap();
    let tree = HostTree::walk(&fleet, &"a".parse().unwrap(), &host("")).unwrap();
    let executable: Vec<_> = tree
        .files()
        .map(|file| file.stamp.is_executable())
        .collect();
    assert_eq!(
        executable,
        [true, false, false],
        "executable is the owner's x bit"
    );
}

#[test]
fn ignored_files_are_not_published() {
    let folder = folder();
    for path in [
        "hosts/a/x.log",
        "hosts/a/tmp/y",
        "hosts/a/result/z",
        "hosts/a/.git/config",
        "hosts/a/a.nix~",
        "hosts/a/sub/drafts/n",
        "hosts/a/fleet.toml",
    ] {
        write(folder.path(), path, "");
    }
    write(folder.path(), ".gitignore", "*.log\n/hosts/a/tmp/\n");
    write(folder.path(), "hosts/a/sub/.bentoignore", "drafts\n");
    write(folder.path(), "hosts/a/sub/kept", "");
    assert_eq!(
        walk(folder.path(), "").unwrap(),
        ["config/flake.nix", "config/sub/kept"]
    );
}

// Issue 10, line 11.
#[test]
fn temporary_files_of_editors_are_neither_published_nor_problems() {
    let folder = folder();
    let (host, secrets) = (
        folder.path().join("hosts/a"),
        folder.path().join("bento-secrets/a"),
    );
    write(folder.path(), "hosts/a/#flake.nix#", "{");
    write(folder.path(), "bento-secrets/a/wifi", "");
    write(folder.path(), "bento-secrets/a/#wifi#", "");
    for place in [host, secrets] {
        symlink("me@here.4711:1700000000", place.join(".#flake.nix")).unwrap();
        symlink("nowhere", place.join(OsStr::from_bytes(b".#\xff\n"))).unwrap();
        fs::write(place.join(OsStr::from_bytes(b"\xff\n~")), "").unwrap();
    }
    assert_eq!(
        walk(folder.path(), "").unwrap(),
        ["config/flake.nix", "secrets/wifi"]
    );
}

#[test]
fn a_flake_at_the_root_is_narrowed() {
    let folder = folder();
    write(folder.path(), "flake.nix", "");
    write(folder.path(), "fleet.toml", "");
    write(folder.path(), "bento-secrets/a/wifi", "");
    write(folder.path(), "hosts/b/secret.nix", "");
    let files = walk(
        folder.path(),
        "source = \".\"\nexclude = [\"/hosts/*\"]\ninclude = [\"/hosts/a\"]\n",
    )
    .unwrap();
    assert_eq!(
        files,
        [
            "config/flake.nix",
            "config/hosts/a/flake.nix",
            "secrets/wifi"
        ]
    );
}

#[test]
fn links_inside_the_fleet_are_followed() {
    let folder = folder();
    write(folder.path(), "utils/common.nix", "");
    write(folder.path(), "utils/private/key", "");
    write(folder.path(), "utils/.gitignore", "private\n");
    symlink("../../utils", folder.path().join("hosts/a/utils")).unwrap();
    symlink("utils/common.nix", folder.path().join("hosts/a/common.nix")).unwrap();
    let files = walk(folder.path(), "").unwrap();
    assert_eq!(
        files,
        [
            "config/common.nix",
            "config/flake.nix",
            "config/utils/.gitignore",
            "config/utils/common.nix"
        ]
    );
}

#[test]
fn a_link_to_an_ignored_file_is_left_out() {
    let folder = folder();
    write(folder.path(), ".gitignore", "/private/\n");
    write(folder.path(), "private/key", "");
    symlink("../../private", folder.path().join("hosts/a/p")).unwrap();
    symlink("../../private/key", folder.path().join("hosts/a/k")).unwrap();
    assert_eq!(walk(folder.path(), "").unwrap(), ["config/flake.nix"]);
}

#[test]
fn every_bad_entry_is_reported_at_once() {
    let folder = folder();
    let a = folder.path().join("hosts/a");
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("shadow"), "").unwrap();
    write(folder.path(), "bento-secrets/b/key", "");
    symlink("/etc/passwd", a.join("absolute")).unwrap();
    symlink(
        format!(
            "../../../{}",
            outside.path().file_name().unwrap().to_string_lossy()
        ),
        a.join("leaving"),
    )
    .unwrap();
    symlink("loop", a.join("loop")).unwrap();
    symlink("../nowhere", a.join("dangling")).unwrap();
    symlink("sub/../flake.nix", a.join("late")).unwrap();
    symlink("../../utils/../utils", a.join("later")).unwrap();
    symlink("bell\u{7}", a.join("bell")).unwrap();
    symlink(std::ffi::OsStr::from_bytes(b"\xe9"), a.join("e")).unwrap();
    symlink("../a", a.join("again")).unwrap();
    symlink("../../bento-secrets/b/key", a.join("theft")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        a.join("fifo"),
        FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    fs::write(a.join(std::ffi::OsStr::from_bytes(b"latin-\xe9")), "").unwrap();
    fs::write(a.join("new\nline"), "").unwrap();
    let mut problems = walk(folder.path(), "").unwrap_err();
    problems.sort();
    let expected = [
        ("hosts/a/absolute: ", "absolute path /etc/passwd"),
        ("hosts/a/again: ", "leads back to a folder"),
        ("hosts/a/bell: ", "target has a control character"),
        ("hosts/a/dangling: ", "isn't there"),
        ("hosts/a/e: ", "target isn't in UTF-8"),
        ("hosts/a/fifo: ", "a device, a socket or a FIFO"),
        ("hosts/a/late: ", "which has .. after another part"),
        ("hosts/a/later: ", "which has .. after another part"),
        ("hosts/a/latin-\u{fffd}: ", "isn't in UTF-8"),
        ("hosts/a/leaving: ", "leaves the fleet folder"),
        ("hosts/a/loop: ", "leads to itself"),
        ("hosts/a/new\\nline: ", "control character"),
        ("hosts/a/theft: ", "leads into bento-secrets"),
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, (place, what)) in problems.iter().zip(expected) {
        assert!(
            problem.starts_with(place) && problem.contains(what),
            "{problem}"
        );
    }
}

#[test]
fn a_link_cannot_name_another_machines_secrets() {
    let folder = folder();
    write(folder.path(), "bento-secrets/b/key", "");
    write(folder.path(), "bento-secrets/a/own", "");
    symlink("own", folder.path().join("bento-secrets/a/alias")).unwrap();
    assert_eq!(
        walk(folder.path(), "").unwrap()[1..],
        ["secrets/alias", "secrets/own"]
    );
    symlink("../b/key", folder.path().join("bento-secrets/a/theft")).unwrap();
    assert!(walk(folder.path(), "").unwrap_err()[0].contains("leads into bento-secrets"));
    fs::remove_dir_all(folder.path().join("bento-secrets/a")).unwrap();
    symlink("b", folder.path().join("bento-secrets/a")).unwrap();
    assert!(walk(folder.path(), "").unwrap_err()[0].contains("isn't a folder of its own"));
}

#[test]
fn a_missing_or_empty_source_is_a_problem() {
    let folder = tempfile::tempdir().unwrap();
    assert!(walk(folder.path(), "").unwrap_err()[0].starts_with("hosts/a: a: isn't there"));
    fs::create_dir_all(folder.path().join("hosts/a")).unwrap();
    assert!(
        walk(folder.path(), "").unwrap_err()[0].starts_with("hosts/a: a: holds nothing to publish")
    );
    symlink("/etc", folder.path().join("hosts/b")).unwrap();
    assert!(
        walk(folder.path(), "source = \"hosts/b\"").unwrap_err()[0]
            .contains("leaves the fleet folder")
    );
}

// Issue 10, line 4.
#[test]
fn a_machine_must_get_a_flake_or_a_configuration() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "hosts/a/deep/flake.nix", "{}");
    let problems = |table: &str| walk(folder.path(), table).unwrap_err();
    assert_eq!(
        problems(""),
        [
            "hosts/a: a: holds neither a flake.nix nor a configuration.nix, and this machine can't build without one: put \
          one of them there, or correct the host's source"
        ]
    );
    write(folder.path(), "hosts/a/flake.nix", "{}");
    assert!(walk(folder.path(), "").is_ok());
    let kept_back = "hosts/a: a: has a flake.nix, but this machine doesn't get it";
    for table in [
        "exclude = [\"/*.nix\"]",
        "exclude = [\"*\"]\ninclude = [\"/deep\"]",
    ] {
        assert!(
            problems(table)[0].starts_with(kept_back),
            "{:?}",
            problems(table)
        );
    }
    write(folder.path(), ".bentoignore", "/hosts/a/flake.nix");
    assert!(problems("")[0].starts_with(kept_back));
    let configuration = folder.path().join("hosts/a/configuration.nix");
    symlink("deep/nowhere.nix", &configuration).unwrap();
    assert!(problems("")[0].starts_with(kept_back), "it leads nowhere");
    fs::remove_file(&configuration).unwrap();
    symlink("deep/flake.nix", &configuration).unwrap();
    assert!(walk(folder.path(), "").is_ok(), "that is enough");
}

#[test]
fn any_change_of_a_file_changes_its_stamp() {
    let folder = folder();
    let fleet = FleetFolder::open(folder.path()).unwrap();
    let tree = || HostTree::walk(&fleet, &"a".parse().unwrap(), &host("")).unwrap();
    let before = tree();
    assert_eq!(tree(), before);
    let path = folder.path().join("hosts/a/flake.nix");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, "[]").unwrap();
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(modified)
        .unwrap();
    assert_ne!(tree(), before, "the same size and mtime, but another ctime");
}

#[test]
fn an_unreadable_ignore_file_is_a_problem() {
    let folder = folder();
    write(folder.path(), "hosts/a/key", "");
    let path = folder.path().join("hosts/a/.bentoignore");
    let assert_problem = |what: &str| {
        let problems = walk(folder.path(), "").unwrap_err();
        assert!(problems[0].contains(what), "{problems:?}");
        fs::remove_file(&path).unwrap();
    };
    // If it were skipped, files that it ignores would be published.
    write(folder.path(), "rules", "key\n");
    symlink("../../rules", &path).unwrap();
    assert_problem("it is a symlink");
    symlink("/etc/passwd", &path).unwrap();
    assert_problem("it is a symlink");
    let mode = 0o600.into();
    rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, mode, 0).unwrap();
    assert_problem("it isn't a file");
    fs::write(&path, format!("{}\nkey\n", "#".repeat(1 << 20))).unwrap();
    assert_problem("longer than");
    fs::write(&path, b"caf\xe9\nkey\n").unwrap();
    assert_problem("isn't in UTF-8");
    fs::write(&path, "key\n").unwrap();
    assert_eq!(walk(folder.path(), "").unwrap(), ["config/flake.nix"]);
}

#[test]
fn a_text_is_complete_or_none() {
    let folder = folder();
    let path = Path::new("hosts/a/flake.nix");
    let fleet = FleetFolder::open(folder.path()).unwrap();
    let found = fleet.find(path).unwrap();
    assert_eq!(fleet.text_of(&found, 2).unwrap().unwrap(), "{}");
    assert!(fleet.text_of(&found, 1).is_err());
    fs::write(folder.path().join(path), "[]").unwrap();
    assert_eq!(fleet.text_of(&found, 2).unwrap(), None, "changed");
    assert_eq!(fleet.text(path, 2, false).unwrap().0, "[]");
    let found = fleet.find(path).unwrap();
    fs::remove_file(folder.path().join(path)).unwrap();
    assert_eq!(fleet.text_of(&found, 2).unwrap(), None, "gone");
}

#[test]
fn a_tree_with_too_many_or_too_deep_entries_is_a_problem() {
    let folder = folder();
    // 2^40 folders and not one file.
    for number in 0..40 {
        let shared = folder.path().join(format!("shared/{number}"));
        fs::create_dir_all(&shared).unwrap();
        for name in ["one", "other"] {
            symlink(format!("../{}", number + 1), shared.join(name)).unwrap();
        }
    }
    fs::create_dir(folder.path().join("shared/40")).unwrap();
    symlink("../../shared/0", folder.path().join("hosts/a/many")).unwrap();
    let problems = walk(folder.path(), "").unwrap_err();
    assert!(problems[0].contains("100000 files"), "{}", problems[0]);

    fs::remove_file(folder.path().join("hosts/a/many")).unwrap();
    write(
        folder.path(),
        &format!("hosts/a/{}file", "d/".repeat(1000)),
        "",
    );
    let problems = walk(folder.path(), "").unwrap_err();
    assert!(problems[0].contains("100 folders deep"), "{}", problems[0]);
}

#[test]
fn a_folder_of_secrets_that_is_a_link_is_a_problem() {
    let folder = folder();
    write(folder.path(), "elsewhere/a/key", "");
    let secrets = folder.path().join(SECRETS);
    for (target, what) in [
        ("elsewhere", "isn't a folder of its own"),
        ("/etc", "leaves the fleet folder"),
        ("nowhere", "something that isn't there"),
    ] {
        symlink(target, &secrets).unwrap();
        let problems = walk(folder.path(), "").unwrap_err();
        assert!(problems[0].contains(what), "{target}: {problems:?}");
        fs::remove_file(&secrets).unwrap();
    }
    fs::create_dir(&secrets).unwrap();
    symlink("nowhere", secrets.join("a")).unwrap();
    let problems = walk(folder.path(), "").unwrap_err();
    assert!(problems[0].contains("something that isn't there"));
}

#[test]
fn removing_a_file_is_a_change() {
    let folder = folder();
    write(folder.path(), "hosts/a/sub/gone", "");
    let fleet = FleetFolder::open(folder.path()).unwrap();
    let tree = || HostTree::walk(&fleet, &"a".parse().unwrap(), &host("")).unwrap();
    let flake = fs::metadata(folder.path().join("hosts/a/flake.nix")).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(50));
    fs::remove_file(folder.path().join("hosts/a/sub/gone")).unwrap();
    // No file has changed since, but a tree in the middle of a deletion mustn't count as stable.
    let after = tree();
    assert_eq!(after.count(), 1);
    assert!(after.changed_at().unwrap() > flake.modified().unwrap());

    write(folder.path(), ".gitignore", "*.log\n");
    assert_eq!(tree().difference(&after).unwrap(), Path::new(".gitignore"));
}

#[test]
fn only_machines_that_get_the_same_of_a_folder_share_a_walk() {
    let folder = folder();
    write(folder.path(), "hosts/a/readme.md", "");
    write(folder.path(), "bento-secrets/one/wifi", "");
    let fleet = FleetFolder::open(folder.path()).unwrap();
    let mut sources = Sources::new(&fleet, Listings::default());
    let mut paths = |name: &str, host: &Host| -> Vec<String> {
        let tree = sources.walk(&name.parse().unwrap(), host).unwrap();
        let paths = tree.files().map(|file| file.path.to_string());
        paths.collect()
    };
    let all = ["config/flake.nix", "config/readme.md"];
    assert_eq!(paths("one", &host("")), [all[0], all[1], "secrets/wifi"]);
    // A second walk would find it.
    write(folder.path(), "hosts/a/later.nix", "");
    assert_eq!(paths("two", &host("")), all);
    let narrowed = host("exclude = [\"*.md\"]\n");
    assert_eq!(paths("three", &narrowed), ["config/flake.nix"]);
    let back = host("exclude = [\"*.md\"]\ninclude = [\"readme.md\"]\n");
    assert_eq!(paths("four", &back), all);
    fs::create_dir_all(folder.path().join("hosts/b")).unwrap();
    let empty = host("source = \"hosts/b\"\n");
    for name in ["five", "six"] {
        let problems = sources.walk(&name.parse().unwrap(), &empty);
        let problems: Vec<_> = problems.unwrap_err();
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].host, Some(name.parse().unwrap()));
    }
}
