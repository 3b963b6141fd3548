use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use bento_protocol::{Delta, HostName, chroot as names};
use tempfile::TempDir;

use super::*;
use crate::fleet::{self, Host};
use crate::generation::{self, DigestCache};
use crate::store::paths::State;

/// A group to which files can be given without privileges.
fn gid() -> u32 {
    rustix::process::getgid().as_raw()
}

struct Appliance {
    folder: TempDir,
    state: TempDir,
    host: HostState,
    now: Timestamp,
}

impl Appliance {
    fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        let host = State::new(state.path()).host(&name());
        let appliance = Appliance {
            folder: tempfile::tempdir().unwrap(),
            state,
            host,
            now: Timestamp::UNIX_EPOCH,
        };
        appliance.write("hosts/a/flake.nix", "{}");
        fs::create_dir_all(appliance.host.root()).unwrap();
        appliance
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn publications(&self) -> Publications<'_> {
        Publications::of(&self.host)
    }

    fn read(&self) -> (FleetFolder, HostTree, Manifest) {
        let fleet = FleetFolder::open(self.folder.path()).unwrap();
        let host = host();
        let tree = HostTree::walk(&fleet, &name(), &host).unwrap();
        let manifest = generation::manifest(
            &name(),
            &host,
            &tree,
            &fleet,
            &mut DigestCache::default(),
            self.now,
        )
        .unwrap();
        (fleet, tree, manifest)
    }

    fn stage(&self) -> StagedPublication {
        let (fleet, tree, manifest) = self.read();
        self.publications()
            .stage(&manifest, None, &tree, &fleet, gid())
            .unwrap()
    }

    fn publish(&self) -> Manifest {
        let staged = self.stage();
        self.publications().switch(staged).unwrap();
        self.publications().manifest().unwrap().unwrap()
    }

    fn chroot(&self) -> PathBuf {
        self.host.current()
    }
}

fn name() -> HostName {
    "a".parse().unwrap()
}

fn host() -> Host {
    let reading = fleet::read("[server]\naddress = \"x\"\n[hosts.a]\n").unwrap();
    reading.fleet.hosts.into_values().next().unwrap()
}

/// The entries of an archive: name, mode, time, content.
fn entries(path: &Path) -> Vec<(String, u32, u64, String)> {
    let mut archive =
        tar::Archive::new(flate2::read::GzDecoder::new(fs::File::open(path).unwrap()));
    let read = |entry: io::Result<tar::Entry<'_, _>>| {
        let mut entry = entry.unwrap();
        let mut text = String::new();
        io::Read::read_to_string(&mut entry, &mut text).unwrap();
        let header = entry.header();
        let (mode, time) = (header.mode().unwrap(), header.mtime().unwrap());
        (
            entry.path().unwrap().to_string_lossy().into_owned(),
            mode,
            time,
            text,
        )
    };
    archive.entries().unwrap().map(read).collect()
}

#[test]
fn a_chroot_has_the_files_of_the_contract() {
    let appliance = Appliance::new();
    appliance.write("bento-secrets/a/wifi", "password");
    appliance.write("hosts/a/bin/run", "#!");
    let run = appliance.folder.path().join("hosts/a/bin/run");
    fs::set_permissions(run, fs::Permissions::from_mode(0o755)).unwrap();
    let manifest = appliance.publish();
    let chroot = appliance.chroot();
    assert_eq!(
        fs::read_link(chroot.join("generation"))
            .unwrap()
            .to_str()
            .unwrap(),
        manifest.generation().to_string()
    );
    let mut seen: Vec<_> = fs::read_dir(&chroot)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    seen.sort();
    assert_eq!(
        seen,
        [
            "bundle.tar.gz",
            "config",
            "delta",
            "generation",
            "last_change_date",
            "logs",
            "manifest.json"
        ],
        "no secrets in plain sight, and nothing that the contract doesn't name"
    );
    let bundle = entries(&chroot.join("bundle.tar.gz"));
    let listed: Vec<_> = bundle
        .iter()
        .map(|(name, mode, time, _)| (name.as_str(), *mode, *time))
        .collect();
    assert_eq!(
        listed,
        [
            ("manifest.json", 0o644, 1),
            ("config/bin/run", 0o755, 1),
            ("config/flake.nix", 0o644, 1),
            ("secrets/wifi", 0o644, 1)
        ]
    );
    assert_eq!(
        serde_json::from_str::<Manifest>(&bundle[0].3).unwrap(),
        manifest
    );
    assert_eq!(bundle[3].3, "password");
    let mode = |path: &str| fs::metadata(chroot.join(path)).unwrap().mode() & 0o7777;
    assert_eq!(mode("."), 0o750);
    assert_eq!(mode("config"), 0o750);
    assert_eq!(mode("config/flake.nix"), 0o440);
    assert_eq!(mode("config/bin/run"), 0o550);
    assert_eq!(mode("bundle.tar.gz"), 0o440);
    assert_eq!(mode("logs"), 0o730);
    assert_eq!(
        fs::metadata(chroot.join("config/flake.nix"))
            .unwrap()
            .mtime(),
        1
    );
    assert_eq!(
        appliance
            .publications()
            .published()
            .unwrap()
            .unwrap()
            .generation,
        manifest.generation()
    );
}

#[test]
fn nothing_is_visible_before_the_switch_and_everything_after() {
    let appliance = Appliance::new();
    let first = appliance.publish();
    appliance.write("hosts/a/flake.nix", "{ }");
    let staged = appliance.stage();
    assert_eq!(appliance.publications().manifest().unwrap().unwrap(), first);
    let before = fs::canonicalize(appliance.chroot()).unwrap();
    appliance.publications().switch(staged).unwrap();
    assert_ne!(appliance.publications().manifest().unwrap().unwrap(), first);
    assert_eq!(
        fs::read_to_string(before.join("config/flake.nix")).unwrap(),
        "{}",
        "a session stays where it began"
    );
    assert!(fs::symlink_metadata(before.parent().unwrap().join("secrets")).is_err());
}

#[test]
fn deltas_lead_from_the_last_few_generations() {
    let mut appliance = Appliance::new();
    appliance.write("hosts/a/same.nix", "same");
    appliance.write("bento-secrets/a/key", "one");
    let mut manifests = vec![appliance.publish()];
    for turn in 0..DELTAS + 2 {
        appliance.now += jiff::SignedDuration::from_secs(1);
        appliance.write("hosts/a/flake.nix", &format!("{{ turn = {turn}; }}"));
        manifests.push(appliance.publish());
    }
    let newest = manifests.pop().unwrap();
    let deltas = fs::read_dir(appliance.chroot().join("delta"))
        .unwrap()
        .count();
    assert_eq!(deltas, DELTAS);
    for old in manifests.iter().rev().take(DELTAS) {
        let path = appliance
            .chroot()
            .join(names::delta(&old.generation()).trim_start_matches('/'));
        let entries = entries(&path);
        let names: Vec<_> = entries.iter().map(|entry| entry.0.as_str()).collect();
        assert_eq!(names, ["delta.json", "config/flake.nix"]);
        let delta: Delta = serde_json::from_str(&entries[0].3).unwrap();
        assert_eq!(delta.apply(old).unwrap(), newest);
    }
}

#[test]
fn unchanged_files_are_shared_between_publications() {
    let appliance = Appliance::new();
    appliance.write("hosts/a/same.nix", "same");
    appliance.publish();
    let inode = |file: &str| {
        fs::metadata(appliance.chroot().join("config").join(file))
            .unwrap()
            .ino()
    };
    let (same, flake) = (inode("same.nix"), inode("flake.nix"));
    appliance.write("hosts/a/flake.nix", "{ }");
    appliance.publish();
    assert_eq!(inode("same.nix"), same);
    assert_ne!(inode("flake.nix"), flake);
}

#[test]
fn the_time_of_publication_moves_by_a_minute_at_least() {
    let appliance = Appliance::new();
    let changed = |appliance: &Appliance| {
        fs::metadata(appliance.chroot().join("last_change_date"))
            .unwrap()
            .modified()
            .unwrap()
    };
    let first = appliance.publish().generation();
    assert_eq!(changed(&appliance), SystemTime::UNIX_EPOCH);
    appliance.write("hosts/a/flake.nix", "{ }");
    assert_ne!(
        appliance.publish().generation(),
        first,
        "in the same second"
    );
    assert_eq!(
        changed(&appliance),
        SystemTime::UNIX_EPOCH + Duration::from_secs(60)
    );
}

#[test]
fn a_file_that_changes_while_it_is_read_is_not_published() {
    let appliance = Appliance::new();
    let (fleet, tree, manifest) = appliance.read();
    appliance.write("hosts/a/flake.nix", "[]");
    let refused = appliance
        .publications()
        .stage(&manifest, None, &tree, &fleet, gid());
    assert!(matches!(refused, Err(ReadError::Changed(_))), "{refused:?}");
    fs::remove_file(appliance.folder.path().join("hosts/a/flake.nix")).unwrap();
    std::os::unix::fs::symlink(
        "/etc/passwd",
        appliance.folder.path().join("hosts/a/flake.nix"),
    )
    .unwrap();
    let refused = appliance
        .publications()
        .stage(&manifest, None, &tree, &fleet, gid());
    assert!(matches!(refused, Err(ReadError::Changed(_))), "{refused:?}");
}

#[test]
fn an_interrupted_stage_leaves_nothing_behind() {
    let appliance = Appliance::new();
    appliance.publish();
    appliance.write("hosts/a/flake.nix", "{ }");
    let _abandoned = appliance.stage();
    assert_eq!(
        fs::read_dir(appliance.host.publications()).unwrap().count(),
        2
    );
    appliance.publications().remove_leftovers().unwrap();
    assert_eq!(appliance.publications().numbers().unwrap(), [1]);
    assert_eq!(
        fs::read_dir(appliance.host.publications()).unwrap().count(),
        1
    );
    assert!(appliance.state.path().exists());
}

#[test]
fn a_publication_without_a_switch_is_removed_with_its_manifest() {
    let appliance = Appliance::new();
    let first = appliance.publish();
    appliance.write("hosts/a/flake.nix", "{ }");
    // All of a switch but its last step.
    let staged = appliance.stage();
    let manifest = appliance.host.manifests().join("2.json");
    atomic_file::write_json(&manifest, &staged.manifest).unwrap();
    fs::rename(&staged.partial, appliance.host.publications().join("2")).unwrap();
    symlink(
        "publications/2/chroot",
        appliance.host.root().join("current.new"),
    )
    .unwrap();
    fs::write(appliance.host.manifests().join("3.json.new"), "half").unwrap();
    appliance.publications().remove_leftovers().unwrap();
    assert_eq!(appliance.publications().manifest().unwrap().unwrap(), first);
    assert_eq!(appliance.publications().numbers().unwrap(), [1]);
    let names = |folder: &Path| {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(&appliance.host.manifests()), ["1.json"]);
    assert_eq!(
        names(appliance.host.root()),
        ["current", "manifests", "publications"]
    );
}

#[test]
fn a_machine_without_a_publication_has_an_inbox_only() {
    let appliance = Appliance::new();
    appliance.publications().create_empty(gid()).unwrap();
    appliance.publications().create_empty(gid()).unwrap();
    assert_eq!(appliance.publications().numbers().unwrap(), [1]);
    assert_eq!(fs::read_dir(appliance.chroot()).unwrap().count(), 1);
    assert_eq!(appliance.publications().published().unwrap(), None);
    assert_eq!(appliance.publications().manifest().unwrap(), None);
    appliance.publish();
    assert_eq!(appliance.publications().numbers().unwrap(), [1, 2]);
    assert!(appliance.publications().inbox(1).is_dir());
}

/// The paths of everything in a folder but folders.
fn everything(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if fs::symlink_metadata(&path).unwrap().is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}

fn text(snapshot: &Snapshot, path: &str) -> Option<String> {
    let file = snapshot.open(&path.parse().unwrap()).unwrap()?;
    Some(io::read_to_string(file).unwrap())
}

#[test]
fn a_superseded_publication_keeps_its_configuration_without_a_secret() {
    let appliance = Appliance::new();
    appliance.write("hosts/a/same.nix", "same");
    appliance.write("bento-secrets/a/wifi", "password");
    let first = appliance.publish().generation();
    appliance.write("hosts/a/flake.nix", "{ }");
    let second = appliance.publish().generation();
    let same = |folder: &str| {
        let path = appliance
            .host
            .root()
            .join(folder)
            .join("chroot/config/same.nix");
        fs::metadata(path).unwrap().ino()
    };
    let shared = same("publications/1");
    // A start after it was cut off goes on where it was.
    fs::remove_dir_all(appliance.publications().inbox(1)).unwrap();
    appliance.publications().remove_superseded(1).unwrap();

    assert_eq!(appliance.publications().numbers().unwrap(), [2]);
    assert_eq!(
        everything(&appliance.host.kept()),
        [
            "1/chroot/config/flake.nix",
            "1/chroot/config/same.nix",
            "1/published.json"
        ]
    );
    assert_eq!((same("kept/1"), same("publications/2")), (shared, shared));
    let mode = fs::metadata(appliance.host.kept()).unwrap().mode() & 0o7777;
    assert_eq!(mode, 0o700, "the machine's group can't enter it");

    let snapshot = |id| appliance.publications().snapshot(id).unwrap().unwrap();
    let (old, new) = (snapshot(first), snapshot(second));
    assert_eq!(text(&old, "config/flake.nix").unwrap(), "{}");
    assert_eq!(text(&new, "config/flake.nix").unwrap(), "{ }");
    assert_eq!(old.manifest.generation(), first);
    assert_eq!(text(&old, "secrets/wifi"), None);
    assert_eq!(text(&old, "config/other"), None);
    assert!(
        appliance
            .publications()
            .snapshot("0".repeat(64).parse().unwrap())
            .unwrap()
            .is_none()
    );
}

#[test]
fn the_last_few_configurations_are_kept_and_those_in_use_at_any_age() {
    let mut appliance = Appliance::new();
    let mut ids = vec![];
    let turn = |appliance: &mut Appliance, turn: usize| {
        appliance.now += jiff::SignedDuration::from_secs(1);
        appliance.write("hosts/a/flake.nix", &format!("{{ turn = {turn}; }}"));
        let id = appliance.publish().generation();
        for number in appliance.publications().numbers().unwrap() {
            if appliance.publications().current().unwrap() != Some(number) {
                appliance.publications().remove_superseded(number).unwrap();
            }
        }
        id
    };
    for number in 1..=DELTAS + 1 {
        ids.push(turn(&mut appliance, number));
        let never = || -> io::Result<_> { panic!("nothing is older than the last few") };
        appliance.publications().prune(never).unwrap();
    }
    for number in DELTAS + 2..=DELTAS + 4 {
        ids.push(turn(&mut appliance, number));
        let in_use = vec![ids[1], *ids.last().unwrap(), ids[DELTAS]];
        appliance.publications().prune(|| Ok(in_use)).unwrap();
    }
    let names = |folder: PathBuf| {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(appliance.host.kept()), ["2", "4", "5", "6", "7", "8"]);
    assert_eq!(
        names(appliance.host.manifests()),
        [
            "2.json", "4.json", "5.json", "6.json", "7.json", "8.json", "9.json"
        ]
    );
    let snapshot = appliance.publications().snapshot(ids[1]).unwrap().unwrap();
    assert_eq!(
        text(&snapshot, "config/flake.nix").unwrap(),
        "{ turn = 2; }"
    );

    // A removal that was cut off after its first step goes on.
    fs::remove_file(appliance.host.kept().join("2/published.json")).unwrap();
    let in_use = vec![ids[1]];
    appliance.publications().prune(|| Ok(in_use)).unwrap();
    assert_eq!(names(appliance.host.kept()), ["4", "5", "6", "7", "8"]);
    assert!(!appliance.host.manifests().join("2.json").exists());
}

#[test]
fn kept_configurations_make_room_and_leave_their_manifests() {
    let appliance = Appliance::new();
    let first = appliance.publish().generation();
    appliance.write("hosts/a/flake.nix", "{ }");
    appliance.publish();
    appliance.publications().remove_superseded(1).unwrap();
    let state = State::new(appliance.state.path());
    assert!(make_room(&state).unwrap());
    assert!(!make_room(&state).unwrap(), "nothing is left to be removed");
    let old = appliance.publications().snapshot(first).unwrap().unwrap();
    assert_eq!(old.manifest.files().len(), 1);
    assert_eq!(text(&old, "config/flake.nix"), None);
}

#[test]
fn an_empty_chroot_leaves_no_kept_configuration() {
    let appliance = Appliance::new();
    appliance.publications().create_empty(gid()).unwrap();
    appliance.publish();
    appliance.publications().remove_superseded(1).unwrap();
    assert_eq!(appliance.publications().numbers().unwrap(), [2]);
    assert!(!appliance.host.kept().exists());
}

mod symlinks;
