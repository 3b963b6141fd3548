//! Each phase of an update, and each fault in it.

mod injection;

use std::io::{Write, stderr};

use anyhow::{Result, ensure};
use bento_tests::guest::{Disk, Features};
use bento_tests::length::is_long;

use super::env::FaultEnv;

const PHASES: [&str; 11] = [
    "poll", "pull", "verify", "stage", "build", "arm", "activate", "confirm", "commit", "report",
    "reboot",
];

/// Those in which a system is neither the old one nor the new one: all that the short form tries.
const CRITICAL: [&str; 4] = ["build", "activate", "confirm", "commit"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// SIGKILL for the client where the phase begins.
    Kill,
    /// SIGKILL for the client while the switch that it has asked for is halfway.
    KillHalfway,
    /// SIGKILL for the transient unit of the phase, halfway; or the end of the timer that would roll back.
    Unit,
    /// SIGKILL for the unit by which the timer brings the old system back, halfway, after the client was killed.
    RollbackUnit,
    /// No network from the beginning of the phase to the end of the run.
    Network,
    /// No byte is left where the client keeps its state, from the beginning of the phase to the end of the run.
    StateFull,
    /// The same where Nix has its store.
    StoreFull,
    /// The machine is shut down where the phase begins, and started.
    Stop,
    /// Its power is cut there.
    PowerCut,
    /// Its power is cut while a switch is halfway.
    PowerCutHalfway,
}

impl Fault {
    const ALL: [Fault; 10] = [
        Fault::Kill,
        Fault::KillHalfway,
        Fault::Unit,
        Fault::RollbackUnit,
        Fault::Network,
        Fault::StateFull,
        Fault::StoreFull,
        Fault::Stop,
        Fault::PowerCut,
        Fault::PowerCutHalfway,
    ];

    /// Why there is no such case.
    fn absence(self, phase: &str) -> Option<&'static str> {
        match self {
            Fault::KillHalfway | Fault::PowerCutHalfway
                if !matches!(phase, "activate" | "commit") =>
            {
                Some("no switch goes on")
            }
            Fault::Unit if matches!(phase, "poll" | "pull" | "verify" | "stage" | "build") => {
                Some("no transient unit is there yet")
            }
            Fault::Unit if phase == "arm" => Some("the timer is what this phase sets"),
            Fault::Unit if phase == "reboot" => Some("no transient unit is left"),
            Fault::RollbackUnit if phase != "confirm" => {
                Some("the same as in the phase confirm, or not there")
            }
            Fault::StoreFull if !matches!(phase, "build" | "arm" | "commit") => {
                Some("nothing is written into the store")
            }
            _ => None,
        }
    }

    fn cases(self) -> impl Iterator<Item = &'static str> {
        PHASES
            .into_iter()
            .filter(move |phase| self.absence(phase).is_none())
    }

    /// The outcomes of the run that went wrong, and of the one after it.
    fn outcomes(self, phase: &str) -> &'static [&'static str] {
        const ONLY_THE_NEXT: &[&str] = &["switched"];
        match (self, phase) {
            // The run hadn't begun to change anything; or it came to its end, reported or not, or the next one brought it
            // there.
            (Fault::StateFull, "poll" | "pull" | "verify" | "stage") => {
                &["build_failed", "switched"]
            }
            (_, "poll") => ONLY_THE_NEXT,
            (Fault::Network, "verify" | "stage" | "build" | "arm" | "commit") => ONLY_THE_NEXT,
            (_, "pull" | "verify" | "stage") => &["pull_failed", "switched"],
            // Links and notes of a few bytes find room where files don't; so does what Nix' database notes of the
            // profile, once the proof has built something.
            (Fault::StoreFull, "arm" | "commit") => ONLY_THE_NEXT,
            (Fault::StateFull, "build") => &["activation_failed", "switched"],
            (Fault::Unit, "confirm") => ONLY_THE_NEXT,
            (Fault::Kill | Fault::KillHalfway | Fault::StateFull, "commit") => ONLY_THE_NEXT,
            // What can't be kept is reported at once, and by the next one, which doesn't know that, once more.
            (Fault::StateFull, "report") => &["switched", "switched"],
            (_, "report") => ONLY_THE_NEXT,
            // The boot is proven as well.
            (_, "reboot") => &["switched", "switched"],
            (_, "arm") => &["activation_failed", "switched"],
            (_, "activate" | "confirm" | "commit") => &["rolled_back", "switched"],
            _ => &["build_failed", "switched"],
        }
    }
}

impl FaultEnv {
    /// One case of the matrix, with a version of its own.
    fn case(&mut self, fault: Fault, phase: &str) -> Result<()> {
        if phase == "reboot" {
            self.change_kernel();
        }
        self.publish("")?;
        self.go_wrong(fault, phase)?;
        if phase == "reboot" && fault == Fault::Kill {
            // What the run didn't come to, the next one does.
            let boot = self.vm.guest.boot_id()?;
            self.vm.update()?;
            self.vm.guest.await_another_boot(&boot)?;
        }
        self.update(0)?;
        let reports = self.expect_reports(fault.outcomes(phase))?;
        if let [cut, _] = &reports[..]
            && !matches!(phase, "report" | "reboot")
        {
            // Before it was done again, all was as it had been.
            ensure!(cut["system"]["running"] == cut["system"]["before"], "{cut}");
        }
        self.is_up_to_date()
    }
}

/// Every phase with these faults, on one machine.
fn row(features: Features, faults: &[Fault]) -> Result<()> {
    let cases = |fault: Fault| {
        let tried = |phase: &&str| is_long() || CRITICAL.contains(phase);
        fault.cases().filter(tried)
    };
    let mut env = FaultEnv::new(features)?;
    let mut tried = 0;
    let mut failed = Vec::new();
    for &fault in faults {
        for phase in cases(fault) {
            tried += 1;
            // The others have more problems.
            if let Err(error) = env.case(fault, phase) {
                failed.push(format!("{fault:?} in the phase {phase}: {error:#}"));
                env.forgive()?;
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    let all: usize = faults.iter().map(|fault| cases(*fault).count()).sum();
    assert_eq!(tried, all);
    // Not printed with a macro, which the test harness would keep for itself.
    writeln!(
        stderr(),
        "faults tried in updates: {tried} cases of {faults:?}"
    )?;
    Ok(())
}

#[test]
fn the_client_is_killed_in_each_phase() -> Result<()> {
    row(
        Features::default(),
        &[
            Fault::Kill,
            Fault::KillHalfway,
            Fault::Unit,
            Fault::RollbackUnit,
        ],
    )
}

#[test]
fn the_network_is_lost_in_each_phase() -> Result<()> {
    row(Features::default(), &[Fault::Network])
}

#[test]
fn the_disk_is_full_in_each_phase() -> Result<()> {
    let features = Features {
        disk: Some(Disk::State),
        ..Features::default()
    };
    row(features, &[Fault::StateFull])
}

#[test]
fn the_store_is_full_in_each_phase_that_writes_into_it() -> Result<()> {
    let features = Features {
        disk: Some(Disk::Store),
        ..Features::default()
    };
    row(features, &[Fault::StoreFull])
}

#[test]
fn the_machine_is_restarted_in_each_phase() -> Result<()> {
    row(Features::default(), &[Fault::Stop])
}

#[test]
fn the_power_is_cut_in_each_phase() -> Result<()> {
    row(
        Features::default(),
        &[Fault::PowerCut, Fault::PowerCutHalfway],
    )
}

/// No case is missing but those that can't exist, and none is counted twice.
#[test]
fn every_phase_meets_every_fault() -> Result<()> {
    let cases: usize = Fault::ALL.iter().map(|fault| fault.cases().count()).sum();
    let mut absent: Vec<_> = Fault::ALL
        .iter()
        .flat_map(|fault| PHASES.map(|phase| (fault, phase)))
        .filter_map(|(fault, phase)| Some((fault, phase, fault.absence(phase)?)))
        .collect();
    assert_eq!(cases + absent.len(), Fault::ALL.len() * PHASES.len());
    absent.sort_by_key(|it| it.2);
    for (fault, phase, why) in absent {
        println!("no case: {fault:?} in the phase {phase}: {why}");
    }
    writeln!(stderr(), "faults in updates: {cases} cases in all")?;
    Ok(())
}
