//! A disk that is full, limited, or broken below the appliance: what is published stays, the status says why
//! nothing new comes, and it goes on by itself when it can.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use bento_tests::{Appliance, Fleet, Options, Volume, wait};

use crate::generation::Generation;
use crate::machine::Machine;
use crate::vm::{Vm, configuration, exits, flake};
use crate::{reports, states};

const NAME: &str = "kikimora";
const OTHER: &str = "domovoi";
const FULL: &str = "No space left on device";
/// A scan of the fleet folder follows an event there within half a second.
const A_LOOK: Duration = Duration::from_millis(500);

/// Two machines, and the appliance whose state lies on a small volume. It is dropped before the volume.
struct DiskEnv {
    appliance: Appliance,
    fleet: Fleet,
    volume: Volume,
}

impl DiskEnv {
    fn new(volume: Volume) -> Result<Self> {
        let fleet = fleet()?;
        let appliance = Appliance::start(fleet.path(), on(&volume))?;
        let env = DiskEnv {
            appliance,
            fleet,
            volume,
        };
        await_left(&env.fleet, &env.volume, &[(NAME, 1), (OTHER, 1)])?;
        Ok(env)
    }

    fn machine(&self) -> Machine {
        Machine::of(&self.fleet, NAME, &self.appliance)
    }

    /// Edits both machines.
    fn edit(&self, content: &str) -> Result<()> {
        for name in [NAME, OTHER] {
            self.fleet
                .write(&format!("hosts/{name}/configuration.nix"), content)?;
        }
        Ok(())
    }

    /// Waits until status says of the machine why nothing new is published.
    fn await_error(&self, error: &str) -> Result<()> {
        let is_shown = |host: &serde_json::Value| {
            let shown = host["error"].as_str().unwrap_or_default();
            shown.contains("/state") && shown.contains(error)
        };
        states::await_that(&self.appliance, NAME, &format!("have {error:?}"), is_shown).map(drop)
    }

    fn await_no_error(&self) -> Result<()> {
        let is_mended = |host: &serde_json::Value| host["error"].is_null();
        states::await_that(&self.appliance, NAME, "have no error", is_mended).map(drop)
    }

    /// Lets it scan the fleet folder some times more, and fail each time.
    fn let_it_try(&self) -> Result<()> {
        for _ in 0..5 {
            // Never published.
            self.fleet.write(&format!("hosts/{NAME}/file~"), "")?;
            thread::sleep(A_LOOK);
        }
        Ok(())
    }

    /// How many lines of the log say something.
    fn lines(&self, text: &str) -> Result<usize> {
        let log = self.appliance.logs()?;
        Ok(log.lines().filter(|line| line.contains(text)).count())
    }

    /// However often it was tried, there is one line in the log, and that for both machines.
    fn is_logged_once(&self) -> Result<()> {
        let line = format!("/state: {OTHER}, {NAME}: can't be written: ");
        let lines = (self.lines(&line)?, self.lines("can't be written: ")?);
        assert_eq!(lines, (1, 1), "{}", self.appliance.logs()?);
        Ok(())
    }

    /// What the appliance has on its disk of publications that it hasn't finished.
    fn debris(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for name in [NAME, OTHER] {
            let folder = self.volume.root().join("hosts").join(name);
            for entry in fs::read_dir(folder.join("publications"))? {
                names.push(entry?.file_name().to_string_lossy().into_owned());
            }
        }
        names.retain(|name| name.ends_with(".partial"));
        Ok(names)
    }

    /// The promise: whatever `break_it` does to the volume, what is published stays, the error is shown, and after
    /// `mend` what was edited meanwhile is published.
    fn holds(
        self,
        error: &str,
        break_it: impl FnOnce(&Volume) -> Result<()>,
        mend: impl FnOnce(&Volume) -> Result<()>,
    ) -> Result<()> {
        let old = self.machine().pull()?;
        break_it(&self.volume)?;
        self.edit("edited meanwhile")?;
        self.await_error(&format!("can't be written: {error}"))?;
        self.let_it_try()?;
        assert_eq!(self.machine().pull()?, old);
        self.is_logged_once()?;
        wait::until("debris to be gone", Duration::from_secs(60), || {
            self.debris().ok()?.is_empty().then_some(())
        })?;

        mend(&self.volume)?;
        let new = self.machine().await_other_than(old.id())?;
        assert_eq!(text(&new), "edited meanwhile");
        self.await_no_error()?;
        // As after a power cut: what the disk has is what was pulled.
        self.volume.forget_content()?;
        assert_eq!(self.machine().pull()?, new);
        Ok(())
    }
}

/// Waits until so many publications are left of each machine: what is cleared away later would make room again.
fn await_left(fleet: &Fleet, volume: &Volume, machines: &[(&str, usize)]) -> Result<()> {
    let is_left = |(name, count): &(&str, usize)| {
        let folder = volume.root().join("hosts").join(name);
        fs::read_dir(folder.join("publications")).is_ok_and(|left| left.count() == *count)
    };
    wait::until(
        "old publications to be gone",
        Duration::from_secs(60),
        || {
            // It scans when something happens in the fleet folder, and each 30 s.
            fleet.write("file~", "").ok()?;
            machines.iter().all(is_left).then_some(())
        },
    )
}

fn text(generation: &Generation) -> &str {
    generation.text("config/configuration.nix")
}

fn fleet() -> Result<Fleet> {
    let mut fleet = Fleet::new()?;
    for name in [NAME, OTHER] {
        fleet.host(name, |host| {
            host.file("configuration.nix", "{ }")?;
            Ok(())
        })?;
    }
    Ok(fleet)
}

fn on(volume: &Volume) -> Options {
    Options {
        state: Some(volume.root()),
        ..Options::default()
    }
}

#[test]
fn on_a_full_disk_the_old_generation_stays_until_there_is_room_again() -> Result<()> {
    DiskEnv::new(Volume::small()?)?.holds(FULL, Volume::fill, Volume::free)
}

#[test]
fn without_inodes_the_old_generation_stays_until_there_are_some_again() -> Result<()> {
    DiskEnv::new(Volume::with_inodes(256)?)?.holds(FULL, Volume::fill_inodes, Volume::free)
}

#[test]
fn within_a_quota_the_old_generation_stays_until_there_is_room_again() -> Result<()> {
    let limit = |volume: &Volume| volume.limit(true);
    let unlimit = |volume: &Volume| volume.limit(false);
    DiskEnv::new(Volume::with_quota()?)?.holds("Disk quota exceeded", limit, unlimit)
}

#[test]
fn what_could_not_be_written_to_the_disk_is_never_published() -> Result<()> {
    let env = DiskEnv::new(Volume::thin()?)?;
    let old = env.machine().pull()?;
    // Each file can still be written; only when the filesystem is synced it turns out that nothing came to the disk.
    env.volume.starve()?;
    env.edit("edited meanwhile")?;
    env.await_error("can't be written: ")?;
    env.let_it_try()?;
    assert_eq!(env.machine().pull()?, old);
    assert_eq!(
        env.lines("published host=")?,
        2,
        "{}",
        env.appliance.logs()?
    );

    assert_eq!(env.appliance.stop()?, 0);
    env.volume.feed()?;
    env.volume.mend()?;
    env.appliance.restart()?;
    let new = env.machine().await_other_than(old.id())?;
    assert_eq!(text(&new), "edited meanwhile");
    env.volume.forget_content()?;
    assert_eq!(env.machine().pull()?, new);
    env.await_no_error()
}

#[test]
fn a_publication_that_does_not_fit_leaves_its_room_to_those_that_do() -> Result<()> {
    let env = DiskEnv::new(Volume::small()?)?;
    let other = Machine::of(&env.fleet, OTHER, &env.appliance);
    let before = other.pull()?;
    let path = format!("hosts/{NAME}/large");
    env.fleet.write(&path, vec![7; 64 << 20])?;
    env.await_error(FULL)?;
    env.fleet
        .write(&format!("hosts/{OTHER}/configuration.nix"), "edited")?;
    assert_eq!(text(&other.await_other_than(before.id())?), "edited");
    env.fleet.remove(&path)?;
    env.await_no_error()
}

#[test]
fn what_nobody_needs_any_more_makes_room_for_what_did_not_fit() -> Result<()> {
    // Each generation takes some third of the volume; a session keeps an old one.
    let env = DiskEnv::new(Volume::small()?)?;
    let machine = env.machine();
    let path = format!("hosts/{NAME}/large");
    let generation = |byte: u8, before: &Generation| -> Result<Generation> {
        env.fleet.write(&path, vec![byte; 7 << 20])?;
        machine.await_other_than(before.id())
    };
    let second = generation(1, &machine.pull()?)?;
    let session = machine.log_in()?;
    let third = generation(2, &second)?;
    assert_eq!(session.pull()?, second);
    let fourth = generation(3, &third)?;
    env.fleet.write(&path, vec![4; 7 << 20])?;
    env.await_error(FULL)?;
    assert_eq!(session.pull()?, second);
    drop(session);
    machine.await_other_than(fourth.id())?;
    env.await_no_error()
}

#[test]
fn who_is_removed_while_the_disk_is_full_is_out_and_who_is_added_is_in_when_there_is_room()
-> Result<()> {
    let mut env = DiskEnv::new(Volume::small()?)?;
    env.volume.fill()?;
    env.fleet.forget(OTHER)?;
    Machine::of(&env.fleet, OTHER, &env.appliance).await_dismissal()?;
    env.fleet.host("leshy", |host| {
        host.file("configuration.nix", "{ }")?;
        Ok(())
    })?;
    let problems = wait::until("the status to show it", Duration::from_secs(60), || {
        let status = env.appliance.status_json().ok()?;
        let problems = status["problems"].to_string();
        problems.contains("leshy").then_some(problems)
    })?;
    assert!(problems.contains(FULL), "{problems}");
    let table = env.appliance.exec(["status"])?.success()?.stdout;
    assert!(table.contains(FULL), "{table}");
    env.machine().pull()?;

    env.volume.free()?;
    Machine::of(&env.fleet, "leshy", &env.appliance).await_admission()?;
    let mended = wait::until("the status to be mended", Duration::from_secs(60), || {
        let status = env.appliance.status_json().ok()?;
        status["problems"].as_array()?.is_empty().then_some(status)
    })?;
    let hosts = mended["hosts"].as_array().unwrap();
    let names: Vec<_> = hosts
        .iter()
        .filter_map(|host| host["name"].as_str())
        .collect();
    assert_eq!(names, [NAME, "leshy"]);
    Ok(())
}

#[test]
fn a_report_that_cannot_be_kept_waits_in_the_inbox_and_is_taken_in_once() -> Result<()> {
    const WAITS: &str = "reports can't be kept, and wait in its inbox";
    let env = DiskEnv::new(Volume::small()?)?;
    let session = env.machine().log_in()?;
    let id = session.poll()?;
    // The inbox is that of a publication which goes when the session has ended.
    env.edit("a second time")?;
    let second = env.machine().await_other_than(id)?;
    await_left(&env.fleet, &env.volume, &[(NAME, 2), (OTHER, 1)])?;
    // What is only kept to be shown makes room first.
    env.volume.fill()?;
    env.let_it_try()?;
    // Room for the upload, and for nothing of what is kept of it.
    env.volume.fill_but(1)?;
    session.leave(&reports::success(id))?;
    drop(session);
    env.await_error(WAITS)?;
    env.let_it_try()?;
    assert_eq!(states::of(&env.appliance, NAME)?["runs"], 0);

    // A start on a full disk serves what there is.
    env.appliance.kill_hard()?;
    env.edit("a third time")?;
    env.appliance.restart()?;
    assert_eq!(env.machine().pull()?, second);
    env.await_error(WAITS)?;
    env.await_error("can't be written")?;

    env.volume.free()?;
    env.machine().await_other_than(second.id())?;
    states::await_runs(&env.appliance, NAME, 1)?;
    env.await_no_error()?;
    env.machine().log_in()?.leave(&reports::success(id))?;
    let status = states::await_runs(&env.appliance, NAME, 2)?;
    assert_eq!(status["reported"]["generation"], id.to_string());
    let reported = format!("reported host={NAME}");
    assert_eq!(env.lines(&reported)?, 2, "{}", env.appliance.logs()?);
    Ok(())
}

#[test]
fn a_client_keeps_the_report_that_a_full_disk_does_not_take() -> Result<()> {
    let volume = Volume::small()?;
    let mut fleet = Fleet::new()?;
    fleet.host(NAME, |host| {
        host.file("flake.nix", flake(NAME))?;
        host.file("configuration.nix", configuration("1", ""))?;
        Ok(())
    })?;
    let appliance = Appliance::start(fleet.path(), on(&volume))?;
    let vm = Vm::boot(&fleet, NAME, &appliance)?;
    await_left(&fleet, &volume, &[(NAME, 1)])?;
    volume.fill()?;
    let updated = vm.update()?;
    exits(&updated, 0);
    assert_eq!(vm.version()?, "1");
    assert!(updated.stderr.contains("report"), "{}", updated.stderr);
    assert_eq!(states::of(&appliance, NAME)?["runs"], 0);

    volume.free()?;
    exits(&vm.update()?, 0);
    let status = states::await_word(&appliance, NAME, "up-to-date")?;
    assert_eq!(status["runs"], 1, "{status}");
    Ok(())
}

#[test]
fn the_very_first_start_on_a_full_disk_says_so_and_the_next_one_with_room_succeeds() -> Result<()> {
    let volume = Volume::small()?;
    volume.fill()?;
    let fleet = fleet()?;
    let appliance = Appliance::launch(fleet.path(), on(&volume))?;
    assert_eq!(appliance.exit_code()?, 1);
    let log = appliance.logs()?;
    ensure!(log.contains("/state") && log.contains(FULL), "{log}");
    volume.free()?;
    appliance.restart()?;
    Machine::of(&fleet, NAME, &appliance).pull()?;
    Ok(())
}

#[test]
fn under_a_filesystem_that_has_become_read_only_the_old_generation_is_served() -> Result<()> {
    let env = DiskEnv::new(Volume::small()?)?;
    let old = env.machine().pull()?;
    env.volume.find_error()?;
    env.edit("edited meanwhile")?;
    env.await_error("Read-only file system")?;
    env.let_it_try()?;
    assert_eq!(env.machine().pull()?, old);
    env.is_logged_once()?;
    env.appliance.exec(["health"])?.success()?;

    assert_eq!(env.appliance.stop()?, 0);
    env.volume.mend()?;
    env.appliance.restart()?;
    let new = env.machine().await_other_than(old.id())?;
    assert_eq!(text(&new), "edited meanwhile");
    env.await_no_error()
}
