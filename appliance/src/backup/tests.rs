use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::process::getegid;
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

use super::*;
use crate::fixture::Kept;
use crate::report::fixture::report;
use crate::store::paths::State;

/// An unused state with a complete machine.
fn kept() -> Kept {
    let kept = Kept::new("[hosts.a]\n");
    let state = &kept.state;
    fs::create_dir_all(state.host_key().parent().unwrap()).unwrap();
    fs::write(state.host_key(), "a key").unwrap();
    File::create(state.lock()).unwrap();
    // Its user id is the current group, so that no privilege is needed.
    let json = serde_json::json!({
        "last_uid": 10_000,
        "hosts": {"a": {"uid": getegid().as_raw(), "since": Timestamp::UNIX_EPOCH}},
    });
    fs::write(state.accounts(), json.to_string()).unwrap();
    kept.publish_files("a", getegid().as_raw());
    kept.report("a", &[report('a')]);
    kept.contact("a", Timestamp::from_second(1_000_000).unwrap());
    kept
}

fn archive(kept: &Kept) -> Vec<u8> {
    let mut archive = Vec::new();
    let snapshot = StateSnapshot::take(&kept.state, &kept.runtime).unwrap();
    write(&snapshot, &mut archive).unwrap();
    archive
}

fn empty() -> (TempDir, State) {
    let folder = tempfile::tempdir().unwrap();
    let state = State::new(folder.path().join("state"));
    fs::create_dir(state.root()).unwrap();
    (folder, state)
}

/// All entries of a folder, as text.
fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let data = fs::symlink_metadata(&path).unwrap();
            let (mode, group) = (data.mode(), data.gid());
            let what = if data.is_symlink() {
                format!("link {:?} {group}", fs::read_link(&path).unwrap())
            } else if data.is_dir() {
                folders.push(path.clone());
                format!("folder {mode:o} {group}")
            } else {
                let content = fs::read(&path).unwrap();
                format!(
                    "file {mode:o} {group} {} {}",
                    data.mtime(),
                    content.escape_ascii()
                )
            };
            found.insert(path.strip_prefix(root).unwrap().to_owned(), what);
        }
    }
    found
}

/// The entries that matter for a machine and the appliance.
fn relevant(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut tree = tree(root);
    tree.retain(|path, what| {
        let is_seen = path.iter().any(|name| name == "chroot");
        if !is_seen && !what.starts_with("link") {
            // Modes of other files don't matter, because only the appliance can reach them.
            let mut words: Vec<_> = what.split(' ').collect();
            words[1] = "-";
            *what = words.join(" ");
        }
        path != Path::new("lock")
    });
    tree
}

/// Shows only the first difference: a state has many lines.
fn assert_same(found: &BTreeMap<PathBuf, String>, right: &BTreeMap<PathBuf, String>) {
    let paths = found.keys().chain(right.keys());
    for path in paths {
        assert_eq!(found.get(path), right.get(path), "{}", path.display());
    }
}

fn refusal(archive: &[u8]) -> String {
    let (_folder, state) = empty();
    let error = restore(&state, &mut &*archive, false).unwrap_err();
    let left = tree(state.root());
    assert_eq!(
        left.into_keys().collect::<Vec<_>>(),
        [PathBuf::from("lock")]
    );
    format!("{error:#}")
}

// Issue 10, line 35.
#[test]
fn a_restored_state_equals_the_old_one_with_owners_and_modes() {
    let kept = kept();
    let before = tree(kept.state.root());
    let archive = archive(&kept);
    assert_eq!(tree(kept.state.root()), before, "nothing is left over");
    let (_folder, state) = empty();
    assert_eq!(restore(&state, &mut &*archive, false).unwrap().machines, 1);
    assert_same(&relevant(state.root()), &relevant(kept.state.root()));
}

// Issue 10, line 35.
#[test]
fn a_snapshot_is_of_one_moment_however_late_it_is_read() {
    let kept = kept();
    let before = relevant(kept.state.root());
    let snapshot = StateSnapshot::take(&kept.state, &kept.runtime).unwrap();
    // Changes in the meantime: another publication, the old one is retired, another report.
    let host = kept.host("a");
    kept.publish_files("a", getegid().as_raw());
    let publications = crate::publication::Publications::of(&host);
    publications.remove_superseded(1).unwrap();
    kept.report("a", &[report('a'), report('b')]);
    kept.set("");
    let mut archive = Vec::new();
    write(&snapshot, &mut archive).unwrap();
    drop(snapshot);
    let (_folder, state) = empty();
    restore(&state, &mut &*archive, false).unwrap();
    assert_same(&relevant(state.root()), &before);
}

// Issue 10, line 35.
#[test]
fn a_report_that_waits_in_an_inbox_is_in_the_backup() {
    let kept = kept();
    let host = kept.host("a");
    kept.publish_files("a", getegid().as_raw());
    let publications = crate::publication::Publications::of(&host);
    for number in [1, 2] {
        fs::write(publications.inbox(number).join(format!("{number}.gz")), "x").unwrap();
    }
    let (_folder, state) = empty();
    restore(&state, &mut &*archive(&kept), false).unwrap();
    let host = state.host(&"a".parse().unwrap());
    let inbox = crate::publication::Publications::of(&host).inbox(2);
    let mut waiting: Vec<_> = tree(&inbox).into_keys().collect();
    waiting.sort();
    assert_eq!(waiting, [Path::new("1.gz"), Path::new("2.gz")]);
}

// Issue 10, line 35.
#[test]
fn an_incomplete_or_damaged_archive_is_refused() {
    let archive = archive(&kept());
    // The end of a tar archive is two empty blocks, which nothing depends on.
    let end = archive.len() - 1024;
    let lengths = (0..end).step_by(512).chain((1..end).step_by(1021));
    for length in lengths.chain([end - 1]) {
        let said = refusal(&archive[..length]);
        assert!(
            said.contains("incomplete")
                || said.contains("isn't an archive")
                || said.contains("unknown version"),
            "{length}: {said}"
        );
    }
    for place in (0..end - 1024).step_by(389) {
        let mut damaged = archive.clone();
        damaged[place] ^= 0x10;
        let (_folder, state) = empty();
        // Other fields of a header, such as the owner, are ignored.
        if restore(&state, &mut &*damaged, false).is_ok() {
            let (_folder, other) = empty();
            restore(&other, &mut &*archive, false).unwrap();
            let strip = |state: &State| {
                let mut tree = relevant(state.root());
                tree.values_mut().for_each(|what| {
                    if what.starts_with("file") {
                        let words = what.split(' ').collect::<Vec<_>>();
                        *what = [&words[..3], &words[4..]].concat().join(" ");
                    }
                });
                tree
            };
            assert_same(&strip(&state), &strip(&other));
        }
    }
}

/// The type of an entry, its name, and its contents or target.
type Forged = (EntryType, &'static str, &'static str);

/// An archive with these entries after a good head.
fn forged(entries: &[Forged]) -> Vec<u8> {
    let good = archive(&kept());
    // The head is a header and a block.
    let mut forged = good[..1024].to_vec();
    let mut builder = Builder::new(Vec::new());
    for (kind, name, content) in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o777);
        // Unchecked, because a builder would refuse some of them.
        let bytes = &mut header.as_gnu_mut().unwrap().name;
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        if *kind == EntryType::Regular {
            header.set_size(content.len() as u64);
        } else {
            header.set_size(0);
            let link = &mut header.as_gnu_mut().unwrap().linkname;
            link[..content.len()].copy_from_slice(content.as_bytes());
        }
        header.set_cksum();
        let content = if *kind == EntryType::Regular {
            content
        } else {
            ""
        };
        builder.append(&header, content.as_bytes()).unwrap();
    }
    forged.extend(builder.into_inner().unwrap());
    forged
}

// Issue 10, line 35.
#[test]
fn nothing_in_an_archive_leads_out_of_the_state() {
    use EntryType::{Block, Char, Directory, Fifo, Link, Regular, Symlink};
    let folder = (Directory, "hosts", "");
    let cases: [(&[Forged], &str); 17] = [
        (&[(Regular, "/etc/x", "x")], "leads out of the state"),
        (&[(Regular, "../x", "x")], "leads out of the state"),
        (
            &[folder, (Regular, "hosts/../../x", "x")],
            "leads out of the state",
        ),
        (
            &[(Regular, "hosts/x", "x")],
            "isn't in the archive before it",
        ),
        (&[(Symlink, "hosts", "/tmp")], "which can't be in a state"),
        (&[(Symlink, "keys", "..")], "which can't be in a state"),
        (
            &[folder, (Symlink, "hosts/current", "/etc")],
            "which can't be in a state",
        ),
        (
            &[
                folder,
                (Symlink, "hosts/current", "publications/../../x/chroot"),
            ],
            "which can't be in a state",
        ),
        (
            &[folder, (Symlink, "hosts/generation", "/etc")],
            "which can't be in a state",
        ),
        (
            &[
                folder,
                (Symlink, "hosts/current", "publications/1/chroot"),
                (Regular, "hosts/current/x", "x"),
            ],
            "isn't in the archive before it",
        ),
        (&[(Link, "fleet.json", "/etc/passwd")], "neither a file"),
        (&[(Char, "fleet.json", "")], "neither a file"),
        (&[(Block, "fleet.json", "")], "neither a file"),
        (&[(Fifo, "fleet.json", "")], "neither a file"),
        (&[(Regular, "lock", "x")], "can't be in a backup"),
        (&[(Directory, "restore.moving", "")], "can't be in a backup"),
        (&[(Regular, "a", "x"), (Regular, "a", "y")], "exists"),
    ];
    for (entries, cause) in cases {
        let said = refusal(&forged(entries));
        assert!(said.contains(cause), "{entries:?}: {said}");
    }
    assert!(refusal(b"").contains("isn't an archive"));
    assert!(refusal(&[b'x'; 4096]).contains("isn't an archive"));
}

// Issue 10, line 35.
#[test]
fn a_state_that_is_not_empty_or_in_use_is_unchanged() {
    let (kept, other) = (kept(), kept());
    let archive = archive(&kept);
    fs::write(other.state.root().join("notified.json"), "{}").unwrap();
    // Locking the state touches the lock.
    let files = || {
        let mut files = tree(other.state.root());
        files.remove(Path::new("lock"));
        files
    };
    let before = files();
    let error = restore(&other.state, &mut &*archive, false).unwrap_err();
    assert!(
        format!("{error:#}").contains("isn't empty, it contains accounts.json: use --replace"),
        "{error:#}"
    );
    let error = restore(&other.state, &mut &archive[..2048], true).unwrap_err();
    assert!(format!("{error:#}").contains("incomplete"), "{error:#}");
    assert_eq!(files(), before);

    let lock = File::open(other.state.lock()).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let error = restore(&other.state, &mut &*archive, true).unwrap_err();
    assert!(
        format!("{error:#}").contains("an appliance uses"),
        "{error:#}"
    );
    let error = StateSnapshot::take(&other.state, &other.runtime).unwrap_err();
    assert!(
        format!("{error:#}").contains("an appliance in another container uses"),
        "{error:#}"
    );
    drop(lock);
    assert_eq!(files(), before);

    restore(&other.state, &mut &*archive, true).unwrap();
    assert_same(&relevant(other.state.root()), &relevant(kept.state.root()));
}

// Issue 10, line 35.
#[test]
fn an_interrupted_restore_is_removed_or_finished_at_the_next_start() {
    let kept = kept();
    let right = relevant(kept.state.root());
    let archive = archive(&kept);
    let began = || {
        let (folder, state) = empty();
        restore(&state, &mut &*archive, false).unwrap();
        (folder, state)
    };
    let to = |state: &State, name: &str, what: &[&str]| {
        let folder = state.root().join(name);
        fs::create_dir(&folder).unwrap();
        for name in what {
            fs::rename(state.root().join(name), folder.join(name)).unwrap();
        }
    };
    let all = ["keys", "hosts", "fleet.json", "accounts.json"];

    let (_folder, state) = began();
    to(&state, "restore.partial", &[]);
    fs::write(state.root().join("restore.partial/fleet.json"), "half").unwrap();
    finish(&state).unwrap();
    assert_same(&relevant(state.root()), &right);

    let (_folder, state) = began();
    to(&state, "restore.clearing", &all);
    fs::create_dir_all(state.root().join("hosts/old")).unwrap();
    symlink("/etc", state.root().join("notified.json")).unwrap();
    finish(&state).unwrap();
    assert_same(&relevant(state.root()), &right);

    for moved in 0..=all.len() {
        let (_folder, state) = began();
        to(&state, "restore.moving", &all[moved..]);
        finish(&state).unwrap();
        assert_same(&relevant(state.root()), &right);
    }
}

#[test]
fn snapshots_of_dead_processes_are_removed_and_others_stay() {
    let kept = kept();
    let dead = kept.state.root().join("backup.dead");
    fs::create_dir_all(dead.join("hosts")).unwrap();
    let living = StateSnapshot::take(&kept.state, &kept.runtime).unwrap();
    assert!(!dead.exists());
    drop(StateSnapshot::take(&kept.state, &kept.runtime).unwrap());
    assert!(living.root().join("hosts/a/current").exists());
}
