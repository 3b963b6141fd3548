//! A machine that does what it is told, and says the truth of it.

use std::io::Write;

use bento_protocol::{Outcome, Report, RunId, Systems};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::report::fixture::{report, system};

/// What a machine does, and then reports.
#[derive(Debug, Clone, Copy)]
pub(super) enum Deed {
    Switch,
    /// It is on the generation already, and says so.
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

/// What a machine said: the truth, for it knows no better.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub(super) generation: char,
    pub(super) running: String,
    /// It came to the system of just this generation, be it at the next boot.
    pub(super) has_succeeded: bool,
    pub(super) wants_reboot: bool,
    pub(super) has_failed_by_itself: bool,
    pub(super) attempt: u32,
    pub(super) content: Told,
}

#[derive(Debug, Clone)]
pub(super) enum Told {
    Report(Box<Report>),
    Legacy(String, Vec<u8>),
}

/// A machine, and what it can know.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) running: String,
    pub(super) wants_reboot: bool,
    pub(super) polled: Option<char>,
    pub(super) said: Vec<Said>,
    /// How many of these are delivered.
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
            said: Vec::new(),
            delivered: 0,
        }
    }

    /// Does something about a generation, and says what came of it.
    pub(super) fn act(&mut self, deed: Deed, generation: char, run: RunId) {
        let (auto, outcome) = match deed {
            Deed::Unchanged | Deed::SwitchByHand => (false, Outcome::Unchanged),
            Deed::Switch | Deed::NewKernel | Deed::Legacy(_) => (false, Outcome::Switched),
            Deed::Stage => (false, Outcome::Staged),
            Deed::Fail(outcome) => (false, outcome),
            Deed::SelfUpdate => (true, Outcome::Switched),
            Deed::FailToSelfUpdate(outcome) => (true, outcome),
        };
        match deed {
            Deed::NewKernel | Deed::Stage => self.wants_reboot = true,
            Deed::Switch | Deed::Unchanged | Deed::SelfUpdate => self.wants_reboot = false,
            _ => {}
        }
        let mut came_to = Some(built(generation));
        match deed {
            Deed::Switch | Deed::Unchanged | Deed::NewKernel => self.running = built(generation),
            Deed::SwitchByHand => self.running = "by-hand".to_owned(),
            Deed::SelfUpdate => {
                self.running = built(generation) + "-moved";
                came_to = Some(self.running.clone());
            }
            Deed::Fail(outcome) | Deed::FailToSelfUpdate(outcome) => {
                came_to = None;
                if outcome == Outcome::ActivationFailed {
                    self.running = "half".to_owned();
                }
            }
            Deed::Stage | Deed::Legacy(_) => {}
        }
        let content = match deed {
            Deed::Legacy(outcome) => {
                let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
                gzip.write_all(run.to_string().as_bytes()).unwrap();
                // A name that is taken isn't written again.
                let number = self.said.len();
                let (hour, minute) = (number / 60, number % 60);
                let file = format!("20220912-{hour:02}{minute:02}_x_{outcome}.log.gz");
                Told::Legacy(file, gzip.finish().unwrap())
            }
            _ => Told::Report(Box::new(Report {
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
        self.said.push(Said {
            generation,
            running: self.running.clone(),
            has_succeeded: outcome.is_success() && !auto && !matches!(deed, Deed::Legacy(_)),
            wants_reboot: self.wants_reboot,
            has_failed_by_itself: matches!(deed, Deed::FailToSelfUpdate(_)),
            attempt: 1,
            content,
        });
    }
}
