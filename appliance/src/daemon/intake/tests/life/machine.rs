//! A machine that reports its runs truthfully.

use std::io::Write;

use bento_protocol::{Outcome, Report, RunId, Systems};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::report::fixture::{report, system};

/// A kind of run.
#[derive(Debug, Clone, Copy)]
pub(super) enum RunKind {
    Switch,
    /// It has the generation already.
    Unchanged,
    /// The same, with a new kernel.
    NewKernel,
    Stage,
    Fail(Outcome),
    SelfUpdate,
    FailToSelfUpdate(Outcome),
    SwitchByHand,
    /// A client of 2022, with this outcome.
    Legacy(&'static str),
}

/// A report, with the facts of its run.
#[derive(Debug, Clone)]
pub(super) struct MachineReport {
    pub(super) generation: char,
    pub(super) running: String,
    /// Whether it runs the system of this generation, or will at the next boot.
    pub(super) has_succeeded: bool,
    pub(super) wants_reboot: bool,
    pub(super) has_failed_by_itself: bool,
    pub(super) attempt: u32,
    pub(super) content: ReportFile,
}

#[derive(Debug, Clone)]
pub(super) enum ReportFile {
    Report(Box<Report>),
    Legacy(String, Vec<u8>),
}

/// A machine.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) running: String,
    pub(super) wants_reboot: bool,
    pub(super) polled: Option<char>,
    pub(super) reports: Vec<MachineReport>,
    /// The number of delivered reports.
    pub(super) delivered: usize,
}

pub(super) fn built(generation: char) -> String {
    format!("system-{generation}")
}

impl Machine {
    pub(super) fn new() -> Self {
        Machine {
            running: "first".to_owned(),
            wants_reboot: false,
            polled: None,
            reports: Vec::new(),
            delivered: 0,
        }
    }

    /// Runs with a generation, and adds the report.
    pub(super) fn act(&mut self, kind: RunKind, generation: char, run: RunId) {
        let (auto, outcome) = match kind {
            RunKind::Unchanged | RunKind::SwitchByHand => (false, Outcome::Unchanged),
            RunKind::Switch | RunKind::NewKernel | RunKind::Legacy(_) => (false, Outcome::Switched),
            RunKind::Stage => (false, Outcome::Staged),
            RunKind::Fail(outcome) => (false, outcome),
            RunKind::SelfUpdate => (true, Outcome::Switched),
            RunKind::FailToSelfUpdate(outcome) => (true, outcome),
        };
        match kind {
            RunKind::NewKernel | RunKind::Stage => self.wants_reboot = true,
            RunKind::Switch | RunKind::Unchanged | RunKind::SelfUpdate => self.wants_reboot = false,
            _ => {}
        }
        let mut came_to = Some(built(generation));
        match kind {
            RunKind::Switch | RunKind::Unchanged | RunKind::NewKernel => {
                self.running = built(generation)
            }
            RunKind::SwitchByHand => self.running = "by-hand".to_owned(),
            RunKind::SelfUpdate => {
                self.running = built(generation) + "-moved";
                came_to = Some(self.running.clone());
            }
            RunKind::Fail(outcome) | RunKind::FailToSelfUpdate(outcome) => {
                came_to = None;
                if outcome == Outcome::ActivationFailed {
                    self.running = "half".to_owned();
                }
            }
            RunKind::Stage | RunKind::Legacy(_) => {}
        }
        let content = match kind {
            RunKind::Legacy(outcome) => {
                let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
                gzip.write_all(run.to_string().as_bytes()).unwrap();
                // The name of each log is new.
                let number = self.reports.len();
                let (hour, minute) = (number / 60, number % 60);
                let file = format!("20220912-{hour:02}{minute:02}_x_{outcome}.log.gz");
                ReportFile::Legacy(file, gzip.finish().unwrap())
            }
            _ => ReportFile::Report(Box::new(Report {
                run,
                outcome,
                auto,
                reboot_required: self.wants_reboot,
                system: Systems {
                    before: None,
                    built: came_to.as_deref().map(system),
                    running: Some(system(&self.running)),
                    booted: None,
                },
                ..report(generation)
            })),
        };
        self.reports.push(MachineReport {
            generation,
            running: self.running.clone(),
            has_succeeded: outcome.is_success() && !auto && !matches!(kind, RunKind::Legacy(_)),
            wants_reboot: self.wants_reboot,
            has_failed_by_itself: matches!(kind, RunKind::FailToSelfUpdate(_)),
            attempt: 1,
            content,
        });
    }
}
