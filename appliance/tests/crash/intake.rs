//! Crashes during the intake of reports.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use anyhow::{Result, ensure};
use bento_appliance::publication::published::Published;
use bento_appliance::report::{RetentionLimits, Store, Summary};
use bento_appliance::store::accounts::Accounts;
use bento_appliance::store::paths::State;
use bento_protocol::{Report, RunId};
use bento_tests::report::{file_name, packed, switched};
use bento_tests::wait;
use nix::sys::signal::{Signal, kill};

use crate::appliance::{Appliance, events};
use crate::client::sftp;
use crate::disk::Disk;
use crate::env::CrashEnv;
use crate::fleet::Fleets;
use crate::power::Cut;
use crate::tracer::{Step, kill_before};
use crate::trial::require;

const MACHINE: &str = "kikimora";
const LOG: &str = "building";

#[test]
fn killed_at_any_step_of_taking_in_reports_it_has_each_of_them_once() {
    CrashEnv::inside(|env| {
        let (old, runs) = with_reports(env);
        for number in 1.. {
            let state = env.copy(old.state.root(), "state");
            let appliance = Appliance::new(env, &old.config, state);
            let Some(step) = kill_before(&appliance, "reported", number, is_intake) else {
                break;
            };
            let when = format!("killed before step {number}, {step:?}");
            require(comes_to_have(&appliance, &runs), &when);
        }
    });
}

#[test]
fn after_a_power_cut_at_any_step_of_taking_in_reports_it_has_each_of_them_once() {
    CrashEnv::inside(|env| {
        let (old, runs) = with_reports(env);
        let cut = Cut::begin(env, &old.state);
        let appliance = Appliance::new(env, &old.config, cut.state());
        let kept = cut.before_every_step(&appliance, "reported", is_intake, |_| Ok(()));
        // The files of a report and the summary are synced one by one.
        assert!(kept.len() > 3, "only {} different disks", kept.len());
        for (when, remains) in kept {
            let again = remains.mount(&cut.at);
            let restarted = Appliance::new(env, &old.config, cut.at.join("state"));
            require(comes_to_have(&restarted, &runs), &when);
            drop(again);
        }
    });
}

#[test]
fn a_report_whose_fsync_was_answered_outlives_a_power_cut() {
    CrashEnv::inside(|env| {
        let fleets = Fleets::write(env);
        let disk = Disk::make(&env.path("image"), &env.path("volume"));
        let appliance = Appliance::new(env, &fleets.before, disk.mounted.join("state"));
        let running = appliance.start();
        running.await_event("ready");
        let report = report(&appliance.state);
        let file = env.path("report");
        fs::write(&file, packed(&report).unwrap()).unwrap();
        let mut session = sftp(env, &appliance.state, MACHINE).spawn().unwrap();
        let mut input = session.stdin.take().unwrap();
        let mut output = BufReader::new(session.stdout.take().unwrap()).lines();
        let mut ask = |command: &str| {
            writeln!(input, "{command}\nls generation").unwrap();
            // The command is echoed first.
            assert!(output.any(|line| line.unwrap().trim_end() == "generation"));
        };
        ask("pwd");
        // It can't take the report in; sshd goes on.
        kill(running.id(), Signal::SIGSTOP).unwrap();
        ask(&format!(
            "put -f {} /logs/{}",
            file.display(),
            file_name(&report)
        ));
        let remains = disk.remains(env.path("copy"));
        session.kill().unwrap();
        session.wait().unwrap();
        drop(running);

        let at = env.path("after-power-cut");
        let again = remains.mount(&at);
        let restarted = Appliance::new(env, &fleets.before, at.join("state"));
        comes_to_have(&restarted, &[report.run]).unwrap();
        drop(again);
    });
}

/// A state with two reports in the inbox, and their runs.
fn with_reports(env: &CrashEnv) -> (Appliance<'_>, Vec<RunId>) {
    let fleets = Fleets::write(env);
    let appliance = Appliance::new(env, &fleets.before, env.state("old"));
    appliance.run_until_ready();
    let state = &appliance.state;
    let machine = MACHINE.parse().unwrap();
    let uid = Accounts::read(state).unwrap().get(&machine).unwrap().uid;
    let leave = |report: Report| {
        let path = state
            .host(&machine)
            .current()
            .join("logs")
            .join(file_name(&report));
        fs::write(&path, packed(&report).unwrap()).unwrap();
        chown(&path, Some(uid), Some(uid)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        report.run
    };
    let runs = (0..2).map(|_| leave(report(state))).collect();
    (appliance, runs)
}

fn report(state: &State) -> Report {
    let host = state.host(&MACHINE.parse().unwrap());
    Report {
        log: LOG.to_owned(),
        ..switched(Published::read(&host).unwrap().unwrap().generation)
    }
}

/// Whether a step belongs to taking in reports: the publish loop runs at the same time.
fn is_intake(step: &Step) -> bool {
    let path = step.path.to_string_lossy();
    ["/reports", "/summary.json", "/logs/"]
        .iter()
        .any(|part| path.contains(part))
        || step.call == "fsync" && path.ends_with(MACHINE)
}

/// Starts an appliance on the state of a dead one, and waits until it has taken in everything. Then there must be exactly
/// the reports of these runs, in the order of receipt, each of them once.
fn comes_to_have(appliance: &Appliance<'_>, runs: &[RunId]) -> Result<()> {
    let keep = appliance.state.host(&MACHINE.parse()?);
    let running = appliance.start();
    running.await_event("ready");
    let entries = |folder: &Path| fs::read_dir(folder).map_or(0, |entries| entries.count());
    let inbox = keep.current().join("logs");
    wait::expect("the inbox is empty", || {
        (entries(&inbox) == 0).then_some(())
    });
    drop(running);
    let store = Store::read(&keep, RetentionLimits::default())?;
    let found: Vec<_> = store.records().collect();
    ensure!(
        found
            .iter()
            .map(|record| record.sequence)
            .eq(1..=runs.len() as u64),
        "{found:?}"
    );
    for (record, run) in found.iter().zip(runs) {
        let text = serde_json::to_string(record)?;
        ensure!(text.contains(&run.to_string()), "{text} isn't of {run}");
        let log = store.log(record.sequence)?;
        ensure!(log == Some(LOG.into()), "{log:?}");
    }
    let summary = Summary::read(&keep)?;
    let count = runs.len() as u64;
    ensure!(
        (summary.kept, summary.runs(), summary.refused) == (count, count, 0),
        "{summary:?}"
    );
    ensure!(
        entries(&keep.reports()) == 2 * runs.len(),
        "something is left"
    );
    ensure!(
        events(&appliance.logged(), "reported").len() <= runs.len(),
        "{}",
        appliance.logged()
    );
    Ok(())
}
