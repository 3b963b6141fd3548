use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;

use super::*;
use crate::fixture::git;
use crate::fleet::DEBOUNCE;

const GOOD: &str = "[server]\naddress = \"x\"\n[hosts.kikimora]\n";

/// A folder with a good `fleet.toml` that has been read.
struct Fixture {
    folder: TempDir,
    state: State,
    settings: FleetInForce,
    now: Instant,
    _state_folder: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let (folder, state_folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(folder.path().join(FILE_NAME), GOOD).unwrap();
        let state = State::new(state_folder.path());
        let mut fixture = Fixture {
            settings: FleetInForce::new(&state).unwrap(),
            folder,
            state,
            now: Instant::now(),
            _state_folder: state_folder,
        };
        fixture.scan_until_stable();
        assert!(fixture.problems().is_empty());
        fixture
    }

    fn scan(&mut self, folder: &io::Result<FleetFolder>) -> bool {
        let again = self.settings.refresh(folder, self.now);
        self.settings.save(&self.state).unwrap();
        again
    }

    fn scan_until_stable(&mut self) {
        let folder = FleetFolder::open(self.folder.path());
        for _ in 0..3 {
            self.scan(&folder);
            self.now += DEBOUNCE;
        }
    }

    fn problems(&self) -> Vec<String> {
        self.settings
            .problems
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    /// This is the only problem, and the fleet is still the good one.
    fn assert_kept(&self, problem: &str) {
        let problems = self.problems();
        assert!(
            problems.len() == 1 && problems[0].contains(problem),
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
    let opened = FleetFolder::open(folder.path());
    let start = Instant::now();
    let after = |millis| start + Duration::from_millis(millis);

    let mut settings = FleetInForce::new(&state).unwrap();
    write("debounce = \"30s\"", "");
    assert!(settings.refresh(&opened, start));
    assert!(settings.refresh(&opened, after(29_900)));
    assert!(!settings.refresh(&opened, after(30_000)));
    assert_eq!(settings.debounce(), Duration::from_secs(30));

    write("debounce = \"100ms\"", "");
    assert!(settings.refresh(&opened, after(31_000)));
    assert!(settings.refresh(&opened, after(60_000)));
    assert!(!settings.refresh(&opened, after(61_000)));

    write("debounce = \"100ms\"", "[hosts.kikimora]\n");
    assert!(settings.refresh(&opened, after(62_000)));
    assert!(!settings.refresh(&opened, after(62_100)));
    assert_eq!(settings.fleet.unwrap().hosts.len(), 1);
}

#[test]
fn the_last_good_fleet_stays_whatever_takes_the_place_of_fleet_toml() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("other"), "[server]\naddress = \"x\"\n").unwrap();
    let mut fixture = Fixture::new();
    let file = fixture.folder.path().join(FILE_NAME);
    fs::remove_file(&file).unwrap();
    fixture.scan_until_stable();
    fixture.assert_kept("No such file");
    symlink(outside.path().join("other"), &file).unwrap();
    fixture.scan_until_stable();
    fixture.assert_kept("is a symlink that leaves the fleet folder");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    fixture.scan_until_stable();
    fixture.assert_kept("isn't a file");
    fs::remove_dir(&file).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &file, fifo, 0o600.into(), 0).unwrap();
    fixture.scan_until_stable();
    fixture.assert_kept("isn't a file");
    assert!(
        host_keys(fixture.folder.path(), &fixture.state)
            .unwrap()
            .is_empty()
    );
    fs::remove_file(&file).unwrap();
    // The beginning of it would be a whole fleet, with fewer machines.
    let padding = "#".repeat(usize::try_from(MAX_BYTES).unwrap());
    let large = format!("[server]\naddress = \"x\"\n{padding}\n[hosts.kikimora]\n");
    fs::write(&file, large).unwrap();
    fixture.scan_until_stable();
    fixture.assert_kept("longer than");

    fs::write(fixture.folder.path().join("real.toml"), GOOD).unwrap();
    fs::remove_file(&file).unwrap();
    symlink("real.toml", &file).unwrap();
    fixture.scan_until_stable();
    assert!(fixture.problems().is_empty(), "a link inside is followed");
}

#[test]
fn a_folder_that_is_not_there_keeps_the_last_good_fleet_until_it_is_back() {
    let mut fixture = Fixture::new();
    let missing = Err(io::Error::from(io::ErrorKind::NotFound));
    assert!(fixture.scan(&missing), "it is checked again soon");
    assert!(fixture.problems().is_empty());
    fixture.now += DEBOUNCE;
    assert!(!fixture.scan(&missing));
    fixture.assert_kept("the fleet folder: can't be read");
    let removed = tempfile::tempdir().unwrap();
    let held = fs::File::open(removed.path()).unwrap();
    let through = format!("/proc/self/fd/{}", held.as_raw_fd());
    fs::remove_dir(removed.path()).unwrap();
    let folder = FleetFolder::open(Path::new(&through));
    fixture.scan(&folder);
    fixture.assert_kept("restart the container");
    fixture.scan_until_stable();
    assert!(fixture.problems().is_empty());
}

#[test]
fn a_fleet_toml_that_does_not_stop_changing_is_a_problem_until_it_does() {
    let mut fixture = Fixture::new();
    let path = fixture.folder.path().to_owned();
    let folder = FleetFolder::open(&path);
    for second in 0..61 {
        assert!(fixture.problems().is_empty(), "too soon");
        fs::write(path.join(FILE_NAME), format!("{GOOD}# {second}")).unwrap();
        assert!(fixture.scan(&folder));
        fixture.now += std::time::Duration::from_secs(1);
    }
    fixture.assert_kept("fleet.toml: has kept changing");
    fixture.scan_until_stable();
    assert!(fixture.problems().is_empty());
}

// Issue 10, line 12.
#[test]
fn a_fleet_toml_that_git_replaces_is_no_fault() {
    let mut fixture = Fixture::new();
    let path = fixture.folder.path().to_owned();
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
            fixture.scan(&FleetFolder::open(&path));
            let is_missing = fixture.settings.missing != Since::default();
            missed += usize::from(is_missing);
            assert_eq!(fixture.problems(), [""; 0]);
        }
        missed
    });
    assert!(
        missed > 0,
        "no scan came between git's removal and its writing"
    );
    fs::remove_file(path.join(FILE_NAME)).unwrap();
    fixture.scan_until_stable();
    fixture.assert_kept("No such file");
}
