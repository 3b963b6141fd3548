use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;

use super::*;
use crate::fixture::git;
use crate::fleet::Debounce;

const GOOD: &str = "[server]\naddress = \"x\"\n[hosts.kikimora]\n";

/// A folder with a good `fleet.toml` that has been read.
struct Desk {
    folder: TempDir,
    state: State,
    settings: Settings,
    now: Instant,
    _state_folder: TempDir,
}

impl Desk {
    fn new() -> Self {
        let (folder, state_folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(folder.path().join(FILE_NAME), GOOD).unwrap();
        let state = State::new(state_folder.path());
        let mut desk = Desk {
            settings: Settings::new(&state).unwrap(),
            folder,
            state,
            now: Instant::now(),
            _state_folder: state_folder,
        };
        desk.look_until_settled();
        assert!(desk.problems().is_empty());
        desk
    }

    fn look(&mut self, folder: io::Result<&FleetFolder>) -> bool {
        let again = self.settings.refresh(folder, self.now);
        self.settings.save(&self.state).unwrap();
        again
    }

    fn look_until_settled(&mut self) {
        let folder = FleetFolder::open(self.folder.path());
        for _ in 0..3 {
            self.look(
                folder
                    .as_ref()
                    .map_err(|error| io::Error::from(error.kind())),
            );
            self.now += Debounce::DEFAULT;
        }
    }

    fn problems(&self) -> Vec<String> {
        self.settings
            .problems
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    /// What is told is just this, and the fleet is still the good one.
    fn assert_kept(&self, told: &str) {
        let problems = self.problems();
        assert!(
            problems.len() == 1 && problems[0].contains(told),
            "{problems:?}"
        );
        assert_eq!(self.settings.fleet.as_ref().unwrap().hosts.len(), 1);
    }
}

#[test]
fn a_change_waits_for_the_debounce_in_force_and_the_first_file_for_its_own() {
    let (folder, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let state = State::new(state.path());
    let write = |debounce: &str, hosts: &str| {
        let text = format!("[server]\naddress = \"x\"\n[publish]\n{debounce}\n{hosts}");
        fs::write(folder.path().join(FILE_NAME), text).unwrap();
    };
    let opened = FleetFolder::open(folder.path()).unwrap();
    let start = Instant::now();
    let after = |millis| start + Duration::from_millis(millis);

    let mut settings = Settings::new(&state).unwrap();
    write("debounce = \"30s\"", "");
    assert!(settings.refresh(Ok(&opened), start));
    assert!(settings.refresh(Ok(&opened), after(29_900)));
    assert!(!settings.refresh(Ok(&opened), after(30_000)));
    assert_eq!(settings.debounce(), Duration::from_secs(30));

    write("debounce = \"100ms\"", "");
    assert!(settings.refresh(Ok(&opened), after(31_000)));
    assert!(settings.refresh(Ok(&opened), after(60_000)));
    assert!(!settings.refresh(Ok(&opened), after(61_000)));

    write("debounce = \"100ms\"", "[hosts.kikimora]\n");
    assert!(settings.refresh(Ok(&opened), after(62_000)));
    assert!(!settings.refresh(Ok(&opened), after(62_100)));
    assert_eq!(settings.fleet.unwrap().hosts.len(), 1);
}

#[test]
fn whatever_is_in_the_place_of_fleet_toml_the_last_good_fleet_stays() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("other"), "[server]\naddress = \"x\"\n").unwrap();
    let mut desk = Desk::new();
    let file = desk.folder.path().join(FILE_NAME);
    fs::remove_file(&file).unwrap();
    desk.look_until_settled();
    desk.assert_kept("No such file");
    symlink(outside.path().join("other"), &file).unwrap();
    desk.look_until_settled();
    desk.assert_kept("is a symlink that leaves the fleet folder");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    desk.look_until_settled();
    desk.assert_kept("isn't a file");
    fs::remove_dir(&file).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &file, fifo, 0o600.into(), 0).unwrap();
    desk.look_until_settled();
    desk.assert_kept("isn't a file");
    assert!(
        host_keys(desk.folder.path(), &desk.state)
            .unwrap()
            .is_empty()
    );
    fs::remove_file(&file).unwrap();
    // The beginning of it would be a whole fleet, with fewer machines.
    let padding = "#".repeat(usize::try_from(MAX_BYTES).unwrap());
    let large = format!("[server]\naddress = \"x\"\n{padding}\n[hosts.kikimora]\n");
    fs::write(&file, large).unwrap();
    desk.look_until_settled();
    desk.assert_kept("longer than");

    fs::write(desk.folder.path().join("real.toml"), GOOD).unwrap();
    fs::remove_file(&file).unwrap();
    symlink("real.toml", &file).unwrap();
    desk.look_until_settled();
    assert!(desk.problems().is_empty(), "a link inside is followed");
}

#[test]
fn a_folder_that_is_not_there_keeps_the_last_good_fleet_until_it_is_back() {
    let mut desk = Desk::new();
    let missing = || Err(io::Error::from(io::ErrorKind::NotFound));
    assert!(desk.look(missing()), "it is looked for again soon");
    assert!(desk.problems().is_empty());
    desk.now += Debounce::DEFAULT;
    assert!(!desk.look(missing()));
    desk.assert_kept("the fleet folder: can't be read");
    let removed = tempfile::tempdir().unwrap();
    let held = fs::File::open(removed.path()).unwrap();
    let through = format!("/proc/self/fd/{}", held.as_raw_fd());
    fs::remove_dir(removed.path()).unwrap();
    let folder = FleetFolder::open(Path::new(&through)).unwrap();
    desk.look(Ok(&folder));
    desk.assert_kept("restart the container");
    desk.look_until_settled();
    assert!(desk.problems().is_empty());
}

#[test]
fn a_fleet_toml_that_does_not_stop_changing_is_told_until_it_does() {
    let mut desk = Desk::new();
    let path = desk.folder.path().to_owned();
    let folder = FleetFolder::open(&path).unwrap();
    for second in 0..61 {
        assert!(desk.problems().is_empty(), "too soon");
        fs::write(path.join(FILE_NAME), format!("{GOOD}# {second}")).unwrap();
        assert!(desk.look(Ok(&folder)));
        desk.now += std::time::Duration::from_secs(1);
    }
    desk.assert_kept("fleet.toml: has kept changing");
    desk.look_until_settled();
    assert!(desk.problems().is_empty());
}

// Issue 10, line 12.
#[test]
fn a_fleet_toml_that_git_replaces_is_no_fault() {
    let mut desk = Desk::new();
    let path = desk.folder.path().to_owned();
    git(&path, &["init", "-q"]);
    for keys in ["# one", "# two"] {
        fs::write(path.join(FILE_NAME), format!("{GOOD}{keys}\n")).unwrap();
        git(&path, &["add", "."]);
        git(&path, &["commit", "-q", "-m", keys]);
    }
    let is_done = AtomicBool::new(false);
    let missed = std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..100 {
                git(&path, &["checkout", "-q", "HEAD~1", "--", FILE_NAME]);
                git(&path, &["checkout", "-q", "HEAD", "--", FILE_NAME]);
            }
            is_done.store(true, Ordering::Relaxed);
        });
        let mut missed = 0;
        // All of it in a moment, as a scan may come at any.
        while !is_done.load(Ordering::Relaxed) {
            desk.look(
                FleetFolder::open(&path)
                    .as_ref()
                    .map_err(|_| unreachable!()),
            );
            missed += usize::from(desk.settings.missing.is_some());
            assert_eq!(desk.problems(), [""; 0]);
        }
        missed
    });
    assert!(
        missed > 0,
        "no scan came between git's removal and its writing"
    );
    fs::remove_file(path.join(FILE_NAME)).unwrap();
    desk.look_until_settled();
    desk.assert_kept("No such file");
}
