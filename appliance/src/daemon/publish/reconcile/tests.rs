//! Passes over a real fleet folder and a real state, with all settings of `[publish]`.

mod together;
mod truth;

use std::time::Duration;

use bento_protocol::{Format, GenerationId, SystemPath};
use serde_json::json;

use super::*;
use crate::fixture::git;
use crate::fleet::{DEBOUNCE, FILE_NAME};
use crate::preview::Preview;
use crate::publication::published::Published;
use crate::release::{self, Approval, Build, FolderRecord};
use crate::status::{HostStatus, MachineStatus, Status};
use crate::store::paths::Runtime;

/// The age from which a file no longer counts as being written.
const WRITTEN: Duration = Duration::from_millis(2100);

/// A fleet with one machine, and its appliance, which makes a pass when a test calls for it.
struct Appliance {
    config: tempfile::TempDir,
    state: State,
    runtime: Runtime,
    reconciler: Reconciler,
    instant: Instant,
    _state: tempfile::TempDir,
}

fn name() -> HostName {
    "kikimora".parse().unwrap()
}

impl Appliance {
    /// With these lines under `[publish]`.
    fn new(publish: &str) -> Self {
        let appliance = Appliance::of(&["kikimora"]);
        appliance.publish_when(publish);
        appliance.edit("1");
        appliance
    }

    /// With nothing in the folder, and accounts for these machines.
    fn of(names: &[&str]) -> Self {
        let (config, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let state = State::new(folder.path().join("state"));
        let runtime = Runtime::new(folder.path().join("run"));
        fs::create_dir(state.root()).unwrap();
        fs::create_dir(runtime.root()).unwrap();
        // An id that needs no privilege to give files to.
        let uid = rustix::process::getgid().as_raw();
        let account = json!({"uid": uid, "since": Timestamp::now()});
        let hosts: BTreeMap<_, _> = names.iter().map(|name| (name, &account)).collect();
        let accounts = json!({"last_uid": uid, "hosts": hosts});
        fs::write(state.accounts(), accounts.to_string()).unwrap();
        let problems = Arc::new(Problems::new(&runtime));
        let reconciler =
            Reconciler::new(config.path().to_owned(), state.clone(), problems).unwrap();
        Appliance {
            config,
            state,
            runtime,
            reconciler,
            // Ahead of the real clock, so that scans take no time.
            instant: Instant::now() + Duration::from_secs(60 * 60),
            _state: folder,
        }
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.config.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn publish_when(&self, publish: &str) {
        let text = format!("[server]\naddress = \"x\"\n[publish]\n{publish}\n[hosts.kikimora]\n");
        self.write(FILE_NAME, &text);
    }

    fn edit(&self, text: &str) {
        self.write("hosts/kikimora/configuration.nix", text);
    }

    /// Makes passes until everything is stable.
    fn reconcile(&mut self) {
        for _ in 0..3 {
            self.instant += DEBOUNCE;
            self.pass();
        }
        self.reconciler.problems.write();
    }

    fn pass(&mut self) -> PassResult {
        let (now, mut result) = (Timestamp::now(), PassResult::default());
        let folder = self.reconciler.refresh(now, self.instant, &mut result);
        if let Some(folder) = folder {
            self.reconciler
                .publish(&folder, now, self.instant, &mut result);
        }
        result
    }

    /// The generation of the folder's files as they are now.
    fn made(&self) -> GenerationId {
        let preview = Preview::make(self.config.path(), &[]).unwrap();
        let host_preview = preview.machines[&name()].as_ref().unwrap();
        host_preview.manifest.generation()
    }

    fn approve(&self, generation: GenerationId) {
        let approval = Approval {
            format: Format,
            generation,
            at: Timestamp::now(),
        };
        approval.write(self.config.path(), &name()).unwrap();
    }

    fn built(&self, generation: GenerationId, system: &str, comparable: bool) {
        let build = Build {
            format: Format,
            generation,
            system: self::system(system),
            comparable,
            at: Timestamp::now(),
        };
        build.write(self.config.path(), &name()).unwrap();
    }

    /// Replaces a record by something else, and waits until it no longer counts as being written.
    fn damage<T: FolderRecord>(&self) {
        let path = release::path::<T>(&name());
        self.write(path.to_str().unwrap(), "{\"format\":1}");
        std::thread::sleep(WRITTEN);
    }

    fn published(&self) -> Option<Published> {
        Published::read(&self.state.host(&name())).unwrap()
    }

    /// Reconciles, and returns the published generation.
    fn outcome(&mut self) -> Option<GenerationId> {
        self.reconcile();
        self.published().map(|published| published.generation)
    }

    fn expected(&mut self) -> Option<SystemPath> {
        self.reconcile();
        self.published().unwrap().expected_system
    }

    fn status(&self) -> MachineStatus {
        let status = Status::read(&self.state, &self.runtime, Timestamp::now()).unwrap();
        status.hosts.into_iter().next().unwrap()
    }
}

fn system(name: &str) -> SystemPath {
    let hash = "0123456789abcdfghijklmnpqrsvwxyz";
    format!("/nix/store/{hash}-{name}").parse().unwrap()
}

#[test]
fn with_change_the_folder_is_published_by_itself() {
    let mut appliance = Appliance::new("when = \"change\"");
    assert_eq!(appliance.outcome(), Some(appliance.made()));
}

#[test]
fn with_deploy_exactly_the_approved_generation_is_published() {
    let mut appliance = Appliance::new("when = \"deploy\"");
    assert_eq!(appliance.outcome(), None);
    let status = appliance.status();
    assert_eq!(status.state, HostStatus::Unpublished);
    let why = "hosts/kikimora: isn't approved yet: `bento deploy kikimora` publishes it";
    assert_eq!(status.error.as_deref(), Some(why));
    let first = appliance.made();
    appliance.approve(first);
    assert_eq!(appliance.outcome(), Some(first));
    assert_eq!(appliance.status().error, None);

    appliance.edit("2");
    assert_eq!(appliance.outcome(), Some(first), "it keeps what it has");
    let status = appliance.status();
    assert_eq!(status.error, None, "an edit in progress is no alarm");
    assert!(!status.needs_attention() && status.problems.is_empty());
    let waits =
        "hosts/kikimora: has changed, and isn't approved yet: `bento deploy kikimora` publishes it";
    assert_eq!(status.notes, [waits]);
    let second = appliance.made();
    appliance.edit("3");
    appliance.approve(second);
    assert_eq!(appliance.outcome(), Some(first), "that isn't what is there");
    appliance.edit("2");
    assert_eq!(
        appliance.outcome(),
        Some(second),
        "approved, and there again, as after a revert"
    );
    assert!(appliance.status().notes.is_empty());
}

#[test]
fn a_publication_stays_without_its_approval() {
    let mut appliance = Appliance::new("when = \"change\"");
    let first = appliance.outcome();
    appliance.publish_when("when = \"deploy\"");
    assert_eq!(appliance.outcome(), first);
    assert!(appliance.status().notes.is_empty(), "it is what is there");
    appliance.edit("2");
    appliance.approve(appliance.made());
    let second = appliance.outcome();
    assert_eq!(second, Some(appliance.made()));
    fs::remove_dir_all(appliance.config.path().join(release::FOLDER)).unwrap();
    assert_eq!(appliance.outcome(), second);
}

#[test]
fn an_approved_copy_still_waits_for_the_debounce() {
    let mut appliance = Appliance::new("when = \"deploy\"");
    appliance.reconcile();
    appliance.edit("2");
    appliance.approve(appliance.made());
    assert!(appliance.pass().unstable);
    assert_eq!(appliance.published(), None);
    assert_eq!(appliance.outcome(), Some(appliance.made()));
}

#[test]
fn with_require_build_only_a_built_generation_is_published() {
    let mut appliance = Appliance::new("require_build = true");
    assert_eq!(appliance.outcome(), None);
    let error = appliance.status().error.unwrap();
    assert!(
        error.ends_with("`bento build kikimora` publishes it"),
        "{error}"
    );
    let first = appliance.made();
    appliance.built(first, "one", false);
    assert_eq!(appliance.outcome(), Some(first));
    appliance.edit("2");
    assert_eq!(appliance.outcome(), Some(first));
    let notes = appliance.status().notes;
    assert!(
        notes[0].contains("has changed, and isn't built yet"),
        "{notes:?}"
    );
}

#[test]
fn with_both_an_approval_counts_only_with_a_built_system() {
    let mut appliance = Appliance::new("when = \"deploy\"\nrequire_build = true");
    let made = appliance.made();
    appliance.approve(made);
    assert_eq!(appliance.outcome(), None);
    let error = appliance.status().error.unwrap();
    assert!(error.contains("isn't built yet"), "{error}");
    appliance.built(made, "one", false);
    assert_eq!(appliance.outcome(), Some(made));
}

#[test]
fn a_damaged_record_is_an_error_with_its_name_and_stops_only_publications_that_need_it() {
    let mut appliance = Appliance::new("when = \"deploy\"");
    let first = appliance.made();
    appliance.approve(first);
    appliance.reconcile();
    appliance.edit("2");
    appliance.damage::<Approval>();
    assert_eq!(appliance.outcome(), Some(first));
    let status = appliance.status();
    let error = status.error.as_deref().unwrap();
    assert!(
        error.starts_with(".bento/approved/kikimora.json: "),
        "{error}"
    );
    assert!(status.needs_attention());
    appliance.approve(appliance.made());
    assert_eq!(appliance.outcome(), Some(appliance.made()));
    assert_eq!(appliance.status().error, None);

    appliance.edit("3");
    appliance.approve(appliance.made());
    appliance.damage::<Build>();
    assert_eq!(
        appliance.outcome(),
        Some(appliance.made()),
        "no build is needed"
    );
    let error = appliance.status().error.unwrap();
    assert!(error.starts_with(".bento/built/kikimora.json: "), "{error}");
}

#[test]
fn a_symlink_is_no_record() {
    let mut appliance = Appliance::new("when = \"deploy\"");
    appliance.approve(appliance.made());
    let file = appliance
        .config
        .path()
        .join(release::path::<Approval>(&name()));
    let elsewhere = appliance.config.path().join("elsewhere");
    fs::rename(&file, &elsewhere).unwrap();
    std::os::unix::fs::symlink("../../elsewhere", &file).unwrap();
    std::thread::sleep(WRITTEN);
    assert_eq!(appliance.outcome(), None);
    let error = appliance.status().error.unwrap();
    assert!(
        error.starts_with(".bento/approved/kikimora.json: "),
        "{error}"
    );
    fs::rename(&elsewhere, &file).unwrap();
    assert_eq!(appliance.outcome(), Some(appliance.made()));
}

#[test]
fn status_expects_the_system_built_from_exactly_the_published_generation() {
    let mut appliance = Appliance::new("when = \"change\"");
    let first = appliance.made();
    appliance.built(first, "one", true);
    assert_eq!(
        appliance.expected(),
        Some(system("one")),
        "with the publication"
    );
    appliance.built(first, "other", true);
    assert_eq!(
        appliance.expected(),
        Some(system("other")),
        "it was built anew"
    );
    assert_eq!(appliance.status().expected_system, Some(system("other")));
    let place = appliance.state.host(&name()).published();
    let written = || fs::metadata(&place).unwrap().modified().unwrap();
    let before = written();
    appliance.reconcile();
    assert_eq!(written(), before, "nothing new, nothing written");

    appliance.built("f".repeat(64).parse().unwrap(), "elsewhere", true);
    assert_eq!(appliance.expected(), Some(system("other")));
    fs::remove_dir_all(appliance.config.path().join(release::FOLDER)).unwrap();
    assert_eq!(appliance.expected(), Some(system("other")));
    appliance.built("f".repeat(64).parse().unwrap(), "elsewhere", true);
    appliance.edit("2");
    assert_eq!(
        appliance.expected(),
        None,
        "of the new one nothing is known"
    );
    assert_eq!(appliance.published().unwrap().generation, appliance.made());
    appliance.built(appliance.made(), "two", true);
    assert_eq!(
        appliance.expected(),
        Some(system("two")),
        "after the publication"
    );
}

#[test]
fn a_system_that_can_not_be_compared_is_not_expected() {
    let mut appliance = Appliance::new("when = \"change\"");
    appliance.built(appliance.made(), "one", false);
    assert_eq!(appliance.expected(), None);
    appliance.built("f".repeat(64).parse().unwrap(), "elsewhere", true);
    assert_eq!(appliance.expected(), None);
}

#[test]
fn a_paused_machine_keeps_its_generation_and_gets_its_expected_system() {
    let mut appliance = Appliance::new("when = \"deploy\"");
    let first = appliance.made();
    appliance.approve(first);
    appliance.reconcile();
    let paused = "[server]\naddress = \"x\"\n[publish]\nwhen = \"deploy\"\n[hosts.kikimora]\npaused = true\n";
    appliance.write(FILE_NAME, paused);
    appliance.built(first, "one", true);
    appliance.edit("2");
    appliance.approve(appliance.made());
    assert_eq!(appliance.expected(), Some(system("one")));
    assert_eq!(appliance.published().unwrap().generation, first);
    assert!(appliance.status().notes.is_empty());
}

#[test]
fn nothing_is_published_while_the_settings_change() {
    let mut appliance = Appliance::new("when = \"change\"");
    let first = appliance.outcome();
    assert!(first.is_some());
    appliance.edit("2");
    appliance.instant += DEBOUNCE;
    appliance.pass();
    appliance.publish_when("when = \"deploy\"");
    // By now the machine's folder is stable, and the settings aren't.
    appliance.instant += DEBOUNCE;
    appliance.pass();
    assert_eq!(appliance.outcome(), first);
    appliance.approve(appliance.made());
    assert_eq!(appliance.outcome(), Some(appliance.made()));
}

#[test]
fn a_key_with_which_the_appliance_could_not_start_again_is_a_problem_while_it_runs() {
    let mut appliance = Appliance::new("when = \"change\"");
    let key = HostKey::read_or_create(&appliance.state).unwrap();
    let pin = |appliance: &Appliance, key: &str| {
        let text =
            format!("[server]\naddress = \"x\"\nhost_keys = [\"{key}\"]\n[hosts.kikimora]\n");
        appliance.write(FILE_NAME, &text);
    };
    let problems = |appliance: &mut Appliance| {
        appliance.reconcile();
        let status = Status::read(&appliance.state, &appliance.runtime, Timestamp::now()).unwrap();
        status.problems.unwrap().concat()
    };
    pin(&appliance, &key.public().authorized_line());
    assert_eq!(problems(&mut appliance), "");
    let other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1tZ2mWyM7pCVYyUjH0aKl5y1vpXUkNl3jtCqEJ3h3R";
    pin(&appliance, other);
    let problem = problems(&mut appliance);
    assert!(
        problem.starts_with("fleet.toml: the host key of this /state"),
        "{problem}"
    );
}

// Issue 10, line 1.
#[test]
fn a_file_added_to_git_by_force_is_published_as_every_command_sees_it() {
    let mut appliance = Appliance::new("");
    let config = appliance.config.path().to_owned();
    git(&config, &["init", "-q"]);
    appliance.write(".gitignore", "*.key\n");
    appliance.write("hosts/kikimora/a.key", "");
    git(&config, &["add", "."]);
    let without = appliance.outcome();
    assert_eq!(without, Some(appliance.made()));
    git(&config, &["add", "-f", "hosts/kikimora/a.key"]);
    let with = appliance.outcome();
    assert_ne!(with, without);
    assert_eq!(with, Some(appliance.made()));
    git(&config, &["rm", "-q", "--cached", "hosts/kikimora/a.key"]);
    assert_eq!(appliance.outcome(), without);
    // It is a problem, and the publication stays.
    git(&config, &["update-index", "--split-index"]);
    assert_eq!(appliance.outcome(), without);
    assert!(appliance.status().error.unwrap().contains(".git/index"));
}
