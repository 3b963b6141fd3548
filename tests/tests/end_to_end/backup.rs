//! `bento backup` of an appliance that publishes and takes in reports all the time, and `bento restore`.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{self as system, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bento_tests::{Appliance, Fleet, Options, Podman, appliance, process, wait};
use nix::sys::stat::{major, minor};

use crate::machine::Machine;
use crate::{reports, states};

const NAMES: [&str; 2] = ["domovoi", "kikimora"];
/// How often it is tried: a publication retires each few seconds, and each backup takes some.
const TIMES: usize = 5;
/// How much of an archive is read at a time, with a pause after it.
const PIECE: usize = 64 << 10;
const PAUSE: Duration = Duration::from_millis(40);
/// Some seconds of compressing on any machine.
const MUCH: usize = 40 << 20;

fn fleet() -> Result<Fleet> {
    let mut fleet = Fleet::new()?;
    for name in NAMES {
        fleet.host(name, |host| {
            host.file("configuration.nix", "{ }")?;
            // No archive of it fits into a pipe.
            let mut noise = vec![0; 1 << 20];
            File::open("/dev/urandom")?.read_exact(&mut noise)?;
            host.file("noise", noise)?;
            Ok(())
        })?;
    }
    Ok(fleet)
}

/// Publishes and reports until it is stopped; counts the reports that were delivered, of both machines alike.
fn live(
    fleet: &Fleet,
    appliance: &Appliance,
    stop: &AtomicBool,
    delivered: &AtomicU64,
) -> Result<()> {
    let mut version = 0;
    let mut old: Vec<_> = Vec::new();
    for name in NAMES {
        old.push(Machine::of(fleet, name, appliance).pull()?.id());
    }
    while !stop.load(Ordering::SeqCst) {
        version += 1;
        for name in NAMES {
            fleet.write(
                &format!("hosts/{name}/configuration.nix"),
                format!("{{ version = {version}; }}"),
            )?;
        }
        for (name, old) in NAMES.iter().zip(&mut old) {
            let machine = Machine::of(fleet, name, appliance);
            *old = machine.await_other_than(*old)?.id();
            machine.log_in()?.leave(&reports::success(*old))?;
        }
        delivered.store(version, Ordering::SeqCst);
    }
    Ok(())
}

/// `podman exec … bento backup`, read slowly.
fn back_up_slowly(podman: &Podman, appliance: &Appliance) -> Result<Vec<u8>> {
    let mut backup = podman
        .command()
        .args(["exec", appliance.name(), "bento", "backup"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut output = backup.stdout.take().context("a pipe was asked for")?;
    let (mut archive, mut piece) = (Vec::new(), vec![0; PIECE]);
    loop {
        match output.read(&mut piece)? {
            0 => break,
            count => archive.extend_from_slice(&piece[..count]),
        }
        thread::sleep(PAUSE);
    }
    // No panic, after which nobody would stop the others.
    ensure!(backup.wait()?.success(), "the backup failed");
    Ok(archive)
}

/// Takes an archive into a new volume, as an administrator does, and starts an appliance on it that finds no fleet.
fn restore(
    podman: &Podman,
    like: &Appliance,
    archive: &[u8],
    empty: &Path,
    number: usize,
) -> Result<Appliance> {
    let name = format!("bento-restored-{}-{number}", system::id());
    let image = podman.run(["inspect", "--format={{.ImageName}}", like.name()])?;
    let mut restore = podman.command();
    restore
        .args(["run", "--rm", "--interactive"])
        .args(appliance::CONFINEMENT)
        .args(podman.run_options())
        .arg(format!("--volume={}:/state", appliance::volume(&name)))
        .args([&image, "restore"]);
    let said = process::run_with_input(&mut restore, archive, process::LONG)?.success()?;
    assert!(
        said.stdout.contains("restored 2 machines"),
        "{}",
        said.stdout
    );
    let options = Options {
        name: Some(name),
        ..Options::default()
    };
    Appliance::start(empty, options)
}

// Issue 10, line 35.
#[test]
fn a_backup_of_a_busy_appliance_through_a_slow_pipe_is_whole() -> Result<()> {
    let fleet = fleet()?;
    let busy = Appliance::start(fleet.path(), Options::default())?;
    let podman = Podman::new()?;
    let empty = tempfile::tempdir()?;
    podman.own(empty.path())?;
    let (stop, delivered) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut archives = Vec::new();
    thread::scope(|scope| {
        let life = scope.spawn(|| live(&fleet, &busy, &stop, &delivered));
        let mut back_up = || -> Result<()> {
            wait::until("the first reports", process::LONG, || {
                (delivered.load(Ordering::SeqCst) > 0 || life.is_finished()).then_some(())
            })?;
            for _ in 0..TIMES {
                let before = delivered.load(Ordering::SeqCst);
                archives.push((before, back_up_slowly(&podman, &busy)?));
            }
            Ok(())
        };
        let backed_up = back_up();
        stop.store(true, Ordering::SeqCst);
        life.join().expect("it doesn't panic")?;
        backed_up
    })?;
    let key = busy.host_key()?;
    let state = busy.state_folder()?;
    for entry in fs::read_dir(&state)? {
        let name = entry?.file_name();
        assert!(
            !name.to_string_lossy().starts_with("backup."),
            "{name:?} is left over"
        );
    }

    for (number, (before, archive)) in archives.iter().enumerate() {
        let restored = restore(&podman, &busy, archive, empty.path(), number)?;
        assert_eq!(restored.host_key()?, key);
        for name in NAMES {
            let machine = Machine::of(&fleet, name, &restored);
            let pulled = machine.pull()?;
            // One that waited in its inbox is taken in soon.
            let status = states::await_that(&restored, name, "have its reports", |host| {
                host["runs"].as_u64() >= Some(*before)
            })?;
            assert_eq!(status["published"]["generation"], pulled.id().to_string());
            let listed = restored.exec(["logs", name, "--json"])?.success()?.stdout;
            let listed: serde_json::Value = serde_json::from_str(&listed)?;
            let kept = listed["reports"].as_array().map_or(0, Vec::len) as u64;
            assert_eq!(status["runs"], kept, "{listed}");
            let session = machine.log_in()?;
            session.leave(&reports::success(pulled.id()))?;
            drop(session);
            states::await_word(&restored, name, "up-to-date")?;
        }
    }
    Ok(())
}

/// The number of processes that wait for a lock on a file, by the kernel's list.
fn waiting(file: &File) -> Result<usize> {
    let found = file.metadata()?;
    let (device, inode) = (found.dev(), found.ino());
    let file = format!(" {:02x}:{:02x}:{inode} ", major(device), minor(device));
    let locks = fs::read_to_string("/proc/locks")?;
    let waits = |line: &&str| line.contains(" -> FLOCK ") && line.contains(&file);
    Ok(locks.lines().filter(waits).count())
}

/// Whether something is just being written that will be published for a machine.
fn is_being_published(state: &Path, name: &str) -> Result<bool> {
    let publications = state.join("hosts").join(name).join("publications");
    for entry in fs::read_dir(publications)? {
        let name = entry?.file_name();
        if name.to_string_lossy().ends_with(".partial") {
            return Ok(true);
        }
    }
    Ok(false)
}

// Issue 10, line 35.
#[test]
fn who_publishes_and_who_takes_reports_in_wait_for_a_backup_and_it_for_them() -> Result<()> {
    let fleet = fleet()?;
    let appliance = Appliance::start(fleet.path(), Options::default())?;
    let machine = Machine::of(&fleet, "kikimora", &appliance);
    let session = machine.log_in()?;
    let old = session.poll()?;
    // As a backup does it, in the moment in which it copies.
    let runtime = format!("/proc/{}/root/run/bento", appliance.first_process()?);
    let lock = File::open(Path::new(&runtime).join("changes.lock"))?;
    lock.lock()?;
    fleet.write("hosts/kikimora/configuration.nix", "{ changed = true; }")?;
    session.leave(&reports::success(old))?;
    drop(session);
    wait::until("both to wait", process::LONG, || {
        waiting(&lock).ok().filter(|count| *count == 2)
    })?;
    assert_eq!(machine.log_in()?.poll()?, old);
    assert_eq!(states::of(&appliance, "kikimora")?["runs"], 0);
    lock.unlock()?;
    machine.await_other_than(old)?;
    states::await_runs(&appliance, "kikimora", 1)?;

    let mut noise = vec![0; MUCH];
    File::open("/dev/urandom")?.read_exact(&mut noise)?;
    fleet.write("hosts/kikimora/noise", noise)?;
    let state = appliance.state_folder()?;
    let is_being_published = || is_being_published(&state, "kikimora").unwrap_or_default();
    let is_kept_out = wait::until("a publication to be under way", process::LONG, || {
        let (before, taken) = (is_being_published(), lock.try_lock());
        let _ = lock.unlock();
        (before && is_being_published()).then_some(taken.is_err())
    })?;
    assert!(is_kept_out, "half a publication would be in the backup");
    Ok(())
}

// Issue 10, line 35.
#[test]
fn only_an_appliance_that_is_stopped_and_empty_takes_a_backup() -> Result<()> {
    let fleet = fleet()?;
    let appliance = Appliance::start(fleet.path(), Options::default())?;
    let podman = Podman::new()?;
    let archive = back_up_slowly(&podman, &appliance)?;

    let mut restore = podman.command();
    restore.args([
        "exec",
        "--interactive",
        appliance.name(),
        "bento",
        "restore",
        "--replace",
    ]);
    let refused = process::run_with_input(&mut restore, &archive, process::LONG)?;
    assert_eq!(refused.code(), 1);
    assert!(
        refused.stderr.contains("an appliance uses"),
        "{}",
        refused.stderr
    );
    Machine::of(&fleet, "kikimora", &appliance).pull()?;

    assert_eq!(appliance.stop()?, 0);
    let image = podman.run(["inspect", "--format={{.ImageName}}", appliance.name()])?;
    let run = |input: &[u8], arguments: &[&str]| {
        let mut restore = podman.command();
        restore
            .args(["run", "--rm", "--interactive"])
            .args(appliance::CONFINEMENT)
            .args(podman.run_options())
            .arg(format!(
                "--volume={}:/state",
                appliance::volume(appliance.name())
            ))
            .arg(&image)
            .arg("restore")
            .args(arguments);
        process::run_with_input(&mut restore, input, process::LONG)
    };
    let refused = run(&archive, &[])?;
    assert_eq!(refused.code(), 1);
    assert!(
        refused.stderr.contains("/state isn't empty"),
        "{}",
        refused.stderr
    );
    let refused = run(&archive[..archive.len() / 2], &["--replace"])?;
    assert_eq!(refused.code(), 1);
    assert!(refused.stderr.contains("incomplete"), "{}", refused.stderr);
    run(&archive, &["--replace"])?.success()?;
    appliance.restart()?;
    Machine::of(&fleet, "kikimora", &appliance).pull()?;
    Ok(())
}
