//! More than a machine has to say.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bento_protocol::{RunId, limits};
use bento_tests::Options;

use super::{InboxEnv, KIKIMORA, LESHY, REFUSED, inbox_path, report_path};
use crate::machine::Machine;
use crate::{reports, states};

/// Said when a machine has left more than it may.
const TOO_MUCH: &str = "left more than 64 files while it was connected";
/// The most memory that the appliance's own process may ever have had, in KiB.
const MOST_MEMORY: u64 = 96 << 10;
/// What may lie in an inbox, in bytes: 64 files, and what comes in until that is noticed on a machine that is busy.
const MOST_BYTES: u64 = 64 * limits::REPORT_BYTES + (512 << 20);

/// Leaves files until it is thrown out.
fn leave_until_thrown_out(machine: &Machine, content: &[u8], whole: bool) -> Result<()> {
    let Ok(session) = machine.log_in() else {
        return Ok(());
    };
    let mut held = Vec::new();
    for number in 0..2_000 {
        let path = match whole {
            true => inbox_path(format!("{number}-{}", RunId::now())),
            false => report_path(RunId::now()),
        };
        let written = session.create(&path).and_then(|mut file| {
            std::io::Write::write_all(&mut file, content)?;
            held.push(file);
            Ok(())
        });
        if written.is_err() {
            return Ok(());
        }
    }
    anyhow::bail!("it could leave two thousand files");
}

#[test]
fn who_leaves_too_much_is_thrown_out_and_nobody_else_feels_it() -> Result<()> {
    let env = InboxEnv::new(Options::default())?;
    let machine = env.machine(LESHY);
    let done = AtomicBool::new(false);
    // All but the end of a report: the rest might still come.
    let mut half = super::gzipped(noise(2 << 20, 3).as_bytes())?;
    half.truncate(half.len() - 1000);
    let largest = thread::scope(|scope| -> Result<u64> {
        let hostile: Vec<_> = [(true, Vec::new()), (true, vec![1; 1 << 20]), (false, half)]
            .into_iter()
            .map(|(whole, content)| {
                let (machine, done) = (machine.clone(), &done);
                scope.spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        leave_until_thrown_out(&machine, &content, whole)?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        let watching = scope.spawn(|| {
            let mut largest = 0;
            while !done.load(Ordering::Relaxed) {
                largest = largest.max(bytes_of(&env, LESHY));
                thread::sleep(Duration::from_millis(20));
            }
            largest
        });
        let served = (0..3).try_for_each(|_| env.hears_of_kikimora());
        let logged = states::await_log(&env.appliance, TOO_MUCH);
        done.store(true, Ordering::Relaxed);
        for thread in hostile {
            thread.join().expect("it doesn't panic")?;
        }
        served.and(logged)?;
        Ok(watching.join().expect("it doesn't panic"))
    })?;
    println!("most in its inbox: {largest} bytes");
    assert!(largest <= MOST_BYTES, "{largest} bytes were there");
    env.await_empty_inbox(LESHY)?;
    env.shows_nothing_raw()?;
    // It may come again, and is heard.
    let session = machine.await_admission()?;
    session.leave(&reports::success(session.poll()?))?;
    drop(session);
    states::await_word(&env.appliance, LESHY, "up-to-date")?;
    assert_eq!(
        states::of(&env.appliance, KIKIMORA)?["error"],
        serde_json::Value::Null
    );
    Ok(())
}

#[test]
fn thousands_of_files_make_few_lines_and_are_all_counted() -> Result<()> {
    let env = InboxEnv::new(Options::default())?;
    let inboxes = env.inboxes(LESHY)?;
    let inbox = inboxes.first().context("it has one")?;
    for number in 0..2000 {
        fs::write(inbox.join(format!("{number}.rubbish")), "")?;
    }
    // Any contact will do: with so much in its inbox it is thrown out at once.
    env.machine(LESHY).sftp("ls")?;
    env.hears_of_kikimora()?;
    env.await_empty_inbox(LESHY)?;
    let more = states::await_log(&env.appliance, "… and ")?;
    let log = env.appliance.logs()?;
    let lines = log.lines().filter(|line| line.contains(REFUSED)).count();
    assert_eq!(lines, 64);
    assert!(more.contains("… and 1936 more"), "{more}");
    Ok(())
}

#[test]
fn a_whole_spool_with_the_largest_logs_is_welcome() -> Result<()> {
    let env = InboxEnv::new(Options::default())?;
    let session = env.machine(KIKIMORA).log_in()?;
    let generation = session.poll()?;
    let log = noise(limits::LOG_BYTES, 0);
    for _ in 0..limits::SPOOLED_REPORTS {
        let mut report = reports::success(generation);
        report.log = log.clone();
        let content = super::gzipped(&serde_json::to_vec(&report)?)?;
        session.put(&report_path(report.run), &content)?;
    }
    drop(session);
    states::await_runs(&env.appliance, KIKIMORA, limits::SPOOLED_REPORTS as u64)?;
    let log = env.appliance.logs()?;
    assert!(!log.contains(TOO_MUCH) && !log.contains(REFUSED), "{log}");
    Ok(())
}

#[test]
fn many_hostile_machines_take_no_more_memory_than_one() -> Result<()> {
    const REPORTS: u64 = 4;
    let mut env = InboxEnv::new(Options::default())?;
    let names: Vec<_> = (0..6).map(|number| format!("leshy-{number}")).collect();
    for name in &names {
        env.fleet.host(name, |host| {
            host.file("configuration.nix", name)?;
            Ok(())
        })?;
    }
    // As much as a report may be: four mebibytes that become eight.
    let mut worst = reports::success("0".repeat(64).parse()?);
    worst.log = noise(limits::LOG_BYTES, 1);
    let mut json = serde_json::to_value(&worst)?;
    json["padding"] = (noise(2 << 20, 2) + &" ".repeat(4 << 20)).into();
    thread::scope(|scope| {
        let hostile: Vec<_> = names
            .iter()
            .map(|name| {
                let (machine, mut json) = (env.machine(name), json.clone());
                scope.spawn(move || {
                    machine.await_admission()?;
                    for _ in 0..REPORTS {
                        let run = RunId::now();
                        json["run"] = run.to_string().into();
                        let content = super::gzipped(&serde_json::to_vec(&json)?)?;
                        ensure!(content.len() as u64 <= limits::REPORT_BYTES, "too much");
                        machine.log_in()?.put(&report_path(run), &content)?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        hostile
            .into_iter()
            .try_for_each(|thread| thread.join().expect("it doesn't panic"))
    })?;
    for name in &names {
        states::await_runs(&env.appliance, name, REPORTS)?;
    }
    let status = fs::read_to_string(format!("/proc/{}/status", env.appliance.first_process()?))?;
    let most = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"))
        .context("the kernel shows it")?;
    let most: u64 = most.parse()?;
    println!("most memory: {most} KiB");
    assert!(most <= MOST_MEMORY, "{most} KiB");
    Ok(())
}

/// The bytes that lie in a machine's inboxes now.
fn bytes_of(env: &InboxEnv, name: &str) -> u64 {
    let inboxes = env.inboxes(name).unwrap_or_default();
    let entries = inboxes.iter().filter_map(|inbox| fs::read_dir(inbox).ok());
    // A file may go meanwhile.
    entries
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()))
        .sum()
}

/// Text that doesn't compress by more than a third.
fn noise(length: usize, seed: u64) -> String {
    let mut state = seed.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
    let mut character = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        char::from(b'#' + (state >> 33) as u8 % 57)
    };
    (0..length).map(|_| character()).collect()
}
