//! What `[publish]` lets out, on a real fleet folder and a real state.

mod together;
mod truth;

use std::time::Duration;

use bento_protocol::{Format, GenerationId, SystemPath};
use serde_json::json;

use super::super::debounce::SETTLE_TIME;
use super::*;
use crate::fixture::git;
use crate::fleet::FILE_NAME;
use crate::preview::Forecast;
use crate::publication::published::Published;
use crate::release::{self, Approval, Build, Record};
use crate::status::{HostStatus, MachineStatus, Status};
use crate::store::paths::Runtime;

/// After this long a file doesn't count as being written any more.
const WRITTEN: Duration = Duration::from_millis(2100);

/// A fleet with one machine, and its appliance, which looks when it is told to.
struct World {
    config: tempfile::TempDir,
    state: State,
    runtime: Runtime,
    publisher: Publisher,
    instant: Instant,
    _state: tempfile::TempDir,
}

fn name() -> HostName {
    "kikimora".parse().unwrap()
}

impl World {
    /// With these lines under `[publish]`.
    fn new(publish: &str) -> Self {
        let world = World::of(&["kikimora"]);
        world.publish_when(publish);
        world.edit("1");
        world
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
        let enrolments = json!({"last_uid": uid, "hosts": hosts});
        fs::write(state.enrolments(), enrolments.to_string()).unwrap();
        let board = Arc::new(Board::new(&runtime));
        let publisher = Publisher::new(config.path().to_owned(), state.clone(), board).unwrap();
        World {
            config,
            state,
            runtime,
            publisher,
            // Ahead of the real clock, so that looks take no time.
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

    /// Looks until everything has settled.
    fn look(&mut self) {
        for _ in 0..3 {
            self.instant += SETTLE_TIME;
            let mut cycle = self.publisher.begin(Timestamp::now(), self.instant);
            self.publisher
                .complete(&mut cycle, Timestamp::now(), self.instant);
        }
        self.publisher.board.post();
    }

    /// What the folder makes now.
    fn made(&self) -> GenerationId {
        let forecast = Forecast::make(self.config.path(), &[]).unwrap();
        let prospect = forecast.machines[&name()].as_ref().unwrap();
        prospect.manifest.generation()
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

    /// Writes something else in a record's place, and waits until it doesn't count as being written any more.
    fn damage<T: Record>(&self) {
        let path = release::path::<T>(&name());
        self.write(path.to_str().unwrap(), "{\"format\":1}");
        std::thread::sleep(WRITTEN);
    }

    fn published(&self) -> Option<Published> {
        Published::read(&self.state.host(&name())).unwrap()
    }

    /// Looks, and gives what is published then.
    fn outcome(&mut self) -> Option<GenerationId> {
        self.look();
        self.published().map(|published| published.generation)
    }

    fn expected(&mut self) -> Option<SystemPath> {
        self.look();
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
fn by_itself_what_is_in_the_folder_is_published() {
    let mut world = World::new("when = \"change\"");
    assert_eq!(world.outcome(), Some(world.made()));
}

#[test]
fn with_deploy_nothing_is_published_but_exactly_what_was_approved() {
    let mut world = World::new("when = \"deploy\"");
    assert_eq!(world.outcome(), None);
    let status = world.status();
    assert_eq!(status.state, HostStatus::Unpublished);
    let why = "hosts/kikimora: isn't approved yet: `bento deploy kikimora` publishes it";
    assert_eq!(status.error.as_deref(), Some(why));
    let first = world.made();
    world.approve(first);
    assert_eq!(world.outcome(), Some(first));
    assert_eq!(world.status().error, None);

    world.edit("2");
    assert_eq!(world.outcome(), Some(first), "it keeps what it has");
    let status = world.status();
    assert_eq!(status.error, None, "an edit in progress is nobody's alarm");
    assert!(!status.needs_attention() && status.problems.is_empty());
    let waits =
        "hosts/kikimora: has changed, and isn't approved yet: `bento deploy kikimora` publishes it";
    assert_eq!(status.notes, [waits]);
    let second = world.made();
    world.edit("3");
    world.approve(second);
    assert_eq!(world.outcome(), Some(first), "that isn't what is there");
    world.edit("2");
    assert_eq!(
        world.outcome(),
        Some(second),
        "approved, and there again, as after a revert"
    );
    assert!(world.status().notes.is_empty());
}

#[test]
fn what_is_published_stays_without_its_approval() {
    let mut world = World::new("when = \"change\"");
    let first = world.outcome();
    world.publish_when("when = \"deploy\"");
    assert_eq!(world.outcome(), first);
    assert!(world.status().notes.is_empty(), "it is what is there");
    world.edit("2");
    world.approve(world.made());
    let second = world.outcome();
    assert_eq!(second, Some(world.made()));
    fs::remove_dir_all(world.config.path().join(release::FOLDER)).unwrap();
    assert_eq!(world.outcome(), second);
}

#[test]
fn an_approved_copy_still_has_to_settle() {
    let mut world = World::new("when = \"deploy\"");
    world.look();
    world.edit("2");
    world.approve(world.made());
    let mut cycle = world.publisher.begin(Timestamp::now(), world.instant);
    world
        .publisher
        .complete(&mut cycle, Timestamp::now(), world.instant);
    assert!(cycle.unsettled);
    assert_eq!(world.published(), None);
    assert_eq!(world.outcome(), Some(world.made()));
}

#[test]
fn with_require_build_nothing_is_published_but_what_was_built() {
    let mut world = World::new("require_build = true");
    assert_eq!(world.outcome(), None);
    let error = world.status().error.unwrap();
    assert!(
        error.ends_with("`bento build kikimora` publishes it"),
        "{error}"
    );
    let first = world.made();
    world.built(first, "one", false);
    assert_eq!(world.outcome(), Some(first));
    world.edit("2");
    assert_eq!(world.outcome(), Some(first));
    let notes = world.status().notes;
    assert!(
        notes[0].contains("has changed, and isn't built yet"),
        "{notes:?}"
    );
}

#[test]
fn with_both_an_approval_counts_only_with_a_built_system() {
    let mut world = World::new("when = \"deploy\"\nrequire_build = true");
    let made = world.made();
    world.approve(made);
    assert_eq!(world.outcome(), None);
    let error = world.status().error.unwrap();
    assert!(error.contains("isn't built yet"), "{error}");
    world.built(made, "one", false);
    assert_eq!(world.outcome(), Some(made));
}

#[test]
fn a_damaged_record_is_an_error_that_names_it_and_stops_only_who_needs_it() {
    let mut world = World::new("when = \"deploy\"");
    let first = world.made();
    world.approve(first);
    world.look();
    world.edit("2");
    world.damage::<Approval>();
    assert_eq!(world.outcome(), Some(first));
    let status = world.status();
    let error = status.error.as_deref().unwrap();
    assert!(
        error.starts_with(".bento/approved/kikimora.json: "),
        "{error}"
    );
    assert!(status.needs_attention());
    world.approve(world.made());
    assert_eq!(world.outcome(), Some(world.made()));
    assert_eq!(world.status().error, None);

    world.edit("3");
    world.approve(world.made());
    world.damage::<Build>();
    assert_eq!(world.outcome(), Some(world.made()), "no build is needed");
    let error = world.status().error.unwrap();
    assert!(error.starts_with(".bento/built/kikimora.json: "), "{error}");
}

#[test]
fn a_symlink_is_no_record() {
    let mut world = World::new("when = \"deploy\"");
    world.approve(world.made());
    let file = world.config.path().join(release::path::<Approval>(&name()));
    let elsewhere = world.config.path().join("elsewhere");
    fs::rename(&file, &elsewhere).unwrap();
    std::os::unix::fs::symlink("../../elsewhere", &file).unwrap();
    std::thread::sleep(WRITTEN);
    assert_eq!(world.outcome(), None);
    let error = world.status().error.unwrap();
    assert!(
        error.starts_with(".bento/approved/kikimora.json: "),
        "{error}"
    );
    fs::rename(&elsewhere, &file).unwrap();
    assert_eq!(world.outcome(), Some(world.made()));
}

#[test]
fn status_expects_the_system_that_was_built_of_exactly_the_published_generation() {
    let mut world = World::new("when = \"change\"");
    let first = world.made();
    world.built(first, "one", true);
    assert_eq!(
        world.expected(),
        Some(system("one")),
        "with the publication"
    );
    world.built(first, "other", true);
    assert_eq!(world.expected(), Some(system("other")), "it was built anew");
    assert_eq!(world.status().expected_system, Some(system("other")));
    let place = world.state.host(&name()).published();
    let written = || fs::metadata(&place).unwrap().modified().unwrap();
    let before = written();
    world.look();
    assert_eq!(written(), before, "nothing new, nothing written");

    world.built("f".repeat(64).parse().unwrap(), "elsewhere", true);
    assert_eq!(world.expected(), Some(system("other")));
    fs::remove_dir_all(world.config.path().join(release::FOLDER)).unwrap();
    assert_eq!(world.expected(), Some(system("other")));
    world.built("f".repeat(64).parse().unwrap(), "elsewhere", true);
    world.edit("2");
    assert_eq!(world.expected(), None, "of the new one nothing is known");
    assert_eq!(world.published().unwrap().generation, world.made());
    world.built(world.made(), "two", true);
    assert_eq!(
        world.expected(),
        Some(system("two")),
        "after the publication"
    );
}

#[test]
fn what_can_not_be_compared_is_not_expected() {
    let mut world = World::new("when = \"change\"");
    world.built(world.made(), "one", false);
    assert_eq!(world.expected(), None);
    world.built("f".repeat(64).parse().unwrap(), "elsewhere", true);
    assert_eq!(world.expected(), None);
}

#[test]
fn a_machine_that_is_paused_keeps_its_generation_and_learns_what_to_expect_of_it() {
    let mut world = World::new("when = \"deploy\"");
    let first = world.made();
    world.approve(first);
    world.look();
    let paused = "[server]\naddress = \"x\"\n[publish]\nwhen = \"deploy\"\n[hosts.kikimora]\npaused = true\n";
    world.write(FILE_NAME, paused);
    world.built(first, "one", true);
    world.edit("2");
    world.approve(world.made());
    assert_eq!(world.expected(), Some(system("one")));
    assert_eq!(world.published().unwrap().generation, first);
    assert!(world.status().notes.is_empty());
}

#[test]
fn nothing_is_published_by_settings_that_are_being_changed() {
    let mut world = World::new("when = \"change\"");
    let first = world.outcome();
    assert!(first.is_some());
    world.edit("2");
    let look = |world: &mut World| {
        let mut cycle = world.publisher.begin(Timestamp::now(), world.instant);
        world
            .publisher
            .complete(&mut cycle, Timestamp::now(), world.instant);
    };
    world.instant += SETTLE_TIME;
    look(&mut world);
    world.publish_when("when = \"deploy\"");
    // By now the machine's folder has settled, and the settings haven't.
    world.instant += SETTLE_TIME;
    look(&mut world);
    assert_eq!(world.outcome(), first);
    world.approve(world.made());
    assert_eq!(world.outcome(), Some(world.made()));
}

#[test]
fn that_the_appliance_could_not_start_again_with_its_key_is_told_while_it_runs() {
    let mut world = World::new("when = \"change\"");
    let key = HostKey::read_or_create(&world.state).unwrap();
    let pin = |world: &World, key: &str| {
        let text =
            format!("[server]\naddress = \"x\"\nhost_keys = [\"{key}\"]\n[hosts.kikimora]\n");
        world.write(FILE_NAME, &text);
    };
    let told = |world: &mut World| {
        world.look();
        let status = Status::read(&world.state, &world.runtime, Timestamp::now()).unwrap();
        status.problems.unwrap().concat()
    };
    pin(&world, &key.public().authorized_line());
    assert_eq!(told(&mut world), "");
    let other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1tZ2mWyM7pCVYyUjH0aKl5y1vpXUkNl3jtCqEJ3h3R";
    pin(&world, other);
    let problem = told(&mut world);
    assert!(
        problem.starts_with("fleet.toml: the host key of this /state"),
        "{problem}"
    );
}

// Issue 10, line 1.
#[test]
fn what_is_added_to_git_by_force_is_published_as_every_command_sees_it() {
    let mut world = World::new("");
    let config = world.config.path().to_owned();
    git(&config, &["init", "-q"]);
    world.write(".gitignore", "*.key\n");
    world.write("hosts/kikimora/a.key", "");
    git(&config, &["add", "."]);
    let without = world.outcome();
    assert_eq!(without, Some(world.made()));
    git(&config, &["add", "-f", "hosts/kikimora/a.key"]);
    let with = world.outcome();
    assert_ne!(with, without);
    assert_eq!(with, Some(world.made()));
    git(&config, &["rm", "-q", "--cached", "hosts/kikimora/a.key"]);
    assert_eq!(world.outcome(), without);
    // It is told, and what is published stays.
    git(&config, &["update-index", "--split-index"]);
    assert_eq!(world.outcome(), without);
    assert!(world.status().error.unwrap().contains(".git/index"));
}
