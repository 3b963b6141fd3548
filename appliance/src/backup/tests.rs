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

/// A state that no appliance uses, with a machine that has everything a machine can have.
fn kept() -> Kept {
    let kept = Kept::new("[hosts.a]\n");
    let state = &kept.state;
    fs::create_dir_all(state.host_key().parent().unwrap()).unwrap();
    fs::write(state.host_key(), "a key").unwrap();
    File::create(state.lock()).unwrap();
    // Its user id is the group of whoever runs this, so that no privilege is needed.
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

/// All that lies in a folder, with what it is.
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

/// The same, as far as a machine and the appliance care.
fn essence(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut tree = tree(root);
    tree.retain(|path, what| {
        let is_seen = path.iter().any(|name| name == "chroot");
        if !is_seen && !what.starts_with("link") {
            // The rest is the appliance's alone, whatever others may do with it.
            let mut words: Vec<_> = what.split(' ').collect();
            words[1] = "-";
            *what = words.join(" ");
        }
        path != Path::new("lock")
    });
    tree
}

/// Says the first difference only: a state has many lines.
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
fn what_was_backed_up_is_there_again_with_owners_and_modes() {
    let kept = kept();
    let before = tree(kept.state.root());
    let archive = archive(&kept);
    assert_eq!(tree(kept.state.root()), before, "nothing is left over");
    let (_folder, state) = empty();
    assert_eq!(restore(&state, &mut &*archive, false).unwrap().machines, 1);
    assert_same(&essence(state.root()), &essence(kept.state.root()));
}

// Issue 10, line 35.
#[test]
fn a_snapshot_is_of_one_moment_however_late_it_is_read() {
    let kept = kept();
    let before = essence(kept.state.root());
    let snapshot = StateSnapshot::take(&kept.state, &kept.runtime).unwrap();
    // What happens meanwhile: another publication, the old one is retired, another report.
    let host = kept.host("a");
    kept.publish_files("a", getegid().as_raw());
    let publications = crate::publication::Publications::of(&host);
    publications.retire(1).unwrap();
    kept.report("a", &[report('a'), report('b')]);
    kept.set("");
    let mut archive = Vec::new();
    write(&snapshot, &mut archive).unwrap();
    drop(snapshot);
    let (_folder, state) = empty();
    restore(&state, &mut &*archive, false).unwrap();
    assert_same(&essence(state.root()), &before);
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
fn an_archive_that_is_cut_off_or_damaged_anywhere_is_refused() {
    let archive = archive(&kept());
    // The end of a tar archive is two empty blocks, which nothing depends on.
    let end = archive.len() - 1024;
    let lengths = (0..end).step_by(512).chain((1..end).step_by(1021));
    for length in lengths.chain([end - 1]) {
        let said = refusal(&archive[..length]);
        assert!(
            said.contains("cut off") || said.contains("no archive") || said.contains("known here"),
            "{length}: {said}"
        );
    }
    for place in (0..end - 1024).step_by(389) {
        let mut damaged = archive.clone();
        damaged[place] ^= 0x10;
        let (_folder, state) = empty();
        // What a header says besides, such as an owner, means nothing here.
        if restore(&state, &mut &*damaged, false).is_ok() {
            let (_folder, other) = empty();
            restore(&other, &mut &*archive, false).unwrap();
            let strip = |state: &State| {
                let mut tree = essence(state.root());
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

/// What an entry is, its name, and its content or where it leads.
type Forged = (EntryType, &'static str, &'static str);

/// An archive with these entries between a good head and an end that doesn't matter any more.
fn forged(entries: &[Forged]) -> Vec<u8> {
    let good = archive(&kept());
    // The head is a header and a block.
    let mut forged = good[..1024].to_vec();
    let mut builder = Builder::new(Vec::new());
    for (kind, name, content) in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o777);
        // As it stands: a builder would refuse some of them.
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
        (&[(Regular, "/etc/x", "x")], "leads elsewhere"),
        (&[(Regular, "../x", "x")], "leads elsewhere"),
        (
            &[folder, (Regular, "hosts/../../x", "x")],
            "leads elsewhere",
        ),
        (
            &[(Regular, "hosts/x", "x")],
            "isn't in the archive before it",
        ),
        (&[(Symlink, "hosts", "/tmp")], "which no state has"),
        (&[(Symlink, "keys", "..")], "which no state has"),
        (
            &[folder, (Symlink, "hosts/current", "/etc")],
            "which no state has",
        ),
        (
            &[
                folder,
                (Symlink, "hosts/current", "publications/../../x/chroot"),
            ],
            "which no state has",
        ),
        (
            &[folder, (Symlink, "hosts/generation", "/etc")],
            "which no state has",
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
        (&[(Regular, "lock", "x")], "isn't of a backup"),
        (&[(Directory, "restore.moving", "")], "isn't of a backup"),
        (&[(Regular, "a", "x"), (Regular, "a", "y")], "exists"),
    ];
    for (entries, cause) in cases {
        let said = refusal(&forged(entries));
        assert!(said.contains(cause), "{entries:?}: {said}");
    }
    assert!(refusal(b"").contains("no archive"));
    assert!(refusal(&[b'x'; 4096]).contains("no archive"));
}

// Issue 10, line 35.
#[test]
fn a_state_that_holds_something_or_is_used_is_left_alone() {
    let (kept, other) = (kept(), kept());
    let archive = archive(&kept);
    fs::write(other.state.root().join("notified.json"), "{}").unwrap();
    let before = tree(other.state.root());
    let error = restore(&other.state, &mut &*archive, false).unwrap_err();
    assert!(
        format!("{error:#}").contains("isn't empty, it holds accounts.json: with --replace"),
        "{error:#}"
    );
    let error = restore(&other.state, &mut &archive[..2048], true).unwrap_err();
    assert!(format!("{error:#}").contains("cut off"), "{error:#}");
    assert_eq!(tree(other.state.root()), before);

    let lock = File::open(other.state.lock()).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let error = restore(&other.state, &mut &*archive, true).unwrap_err();
    assert!(
        format!("{error:#}").contains("is used by an appliance"),
        "{error:#}"
    );
    let error = StateSnapshot::take(&other.state, &other.runtime).unwrap_err();
    assert!(
        format!("{error:#}").contains("doesn't run here"),
        "{error:#}"
    );
    drop(lock);
    assert_eq!(tree(other.state.root()), before);

    restore(&other.state, &mut &*archive, true).unwrap();
    assert_same(&essence(other.state.root()), &essence(kept.state.root()));
}

// Issue 10, line 35.
#[test]
fn a_restore_that_is_cut_off_is_nothing_or_goes_on_at_the_next_start() {
    let kept = kept();
    let right = essence(kept.state.root());
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
    assert_same(&essence(state.root()), &right);

    let (_folder, state) = began();
    to(&state, "restore.clearing", &all);
    fs::create_dir_all(state.root().join("hosts/old")).unwrap();
    symlink("/etc", state.root().join("notified.json")).unwrap();
    finish(&state).unwrap();
    assert_same(&essence(state.root()), &right);

    for moved in 0..=all.len() {
        let (_folder, state) = began();
        to(&state, "restore.moving", &all[moved..]);
        finish(&state).unwrap();
        assert_same(&essence(state.root()), &right);
    }
}

#[test]
fn what_a_backup_that_died_left_goes_and_what_another_needs_stays() {
    let kept = kept();
    let dead = kept.state.root().join("backup.dead");
    fs::create_dir_all(dead.join("hosts")).unwrap();
    let living = StateSnapshot::take(&kept.state, &kept.runtime).unwrap();
    assert!(!dead.exists());
    drop(StateSnapshot::take(&kept.state, &kept.runtime).unwrap());
    assert!(living.root().join("hosts/a/current").exists());
}
