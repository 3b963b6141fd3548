//! Metrics: what is known of the fleet and of the appliance, in the text format of Prometheus.
//!
//! What happened is given as a time, so that a rule can ask `time() - …` at any moment, as Prometheus' guide to
//! instrumentation advises; and as an age beside it, for those who read the text without Prometheus.

mod server;
mod text;

use std::collections::BTreeMap;

use anyhow::Context;
use bento_protocol::{HostName, Phase};
use jiff::Timestamp;

pub use self::server::Server;
use self::text::{Kind, Text};
use crate::activity::Snapshot;
use crate::enrolment::Enrolments;
use crate::report::{Content, Ledger, Record};
use crate::state::{Runtime, State};
use crate::status::{HostStatus, MachineStatus, Status};

/// Everything that metrics are made of.
#[derive(Debug)]
pub struct Readings {
    /// What is known of the fleet.
    pub status: Status,
    /// What the reports of each machine come to since it was enrolled; none where that can't be read.
    pub ledgers: BTreeMap<HostName, Ledger>,
    /// What the appliance counts; none where none runs.
    pub activity: Option<Snapshot>,
}

impl Readings {
    /// Reads what is known now.
    ///
    /// # Errors
    /// When there is no state, or the fleet in it can't be read.
    pub fn read(state: &State, runtime: &Runtime, now: Timestamp) -> anyhow::Result<Self> {
        let status = Status::read(state, runtime, now)?;
        let enrolments = Enrolments::read(state).with_context(|| {
            format!(
                "the accounts, {}, can't be read",
                state.enrolments().display()
            )
        })?;
        let ledger = |machine: &MachineStatus| {
            let name = &machine.name;
            // That it can't be read is that machine's error in status.
            let ledger = Ledger::read(&state.host(name)).ok()?;
            let ledger = match enrolments.get(name) {
                Some(enrolment) => ledger.since(enrolment.since),
                None => ledger,
            };
            Some((name.clone(), ledger))
        };
        let activity = Snapshot::read(runtime).with_context(|| {
            format!(
                "what the appliance counts, {}, can't be read",
                runtime.activity().display()
            )
        })?;
        Ok(Readings {
            ledgers: status.hosts.iter().filter_map(ledger).collect(),
            status,
            activity,
        })
    }

    /// The metrics as text.
    pub fn render(&self) -> String {
        let mut text = Text::default();
        match &self.activity {
            Some(activity) => {
                text.one(UP, 1.0);
                appliance(&mut text, activity);
            }
            None => text.one(UP, 0.0),
        }
        self.fleet(&mut text);
        self.machines(&mut text);
        self.times(&mut text);
        self.phases(&mut text);
        text.finish()
    }

    fn fleet(&self, text: &mut Text) {
        if let Some(problems) = &self.status.problems {
            text.family(
                "bento_fleet_problems",
                Kind::Gauge,
                "What is wrong with the fleet as a whole, such as a faulty fleet.toml.",
            );
            text.sample(&[], problems.len() as f64);
        }
        text.family(
            "bento_machines",
            Kind::Gauge,
            "Machines of the fleet, by state.",
        );
        for state in HostStatus::ALL {
            let hosts = self.status.hosts.iter();
            let count = hosts.filter(|machine| machine.state == state).count();
            text.sample(&[("state", state.as_str())], count as f64);
        }
    }

    fn machines(&self, text: &mut Text) {
        text.family(
            "bento_machine_state",
            Kind::Gauge,
            "1 for the state that the machine is in, 0 for each other one.",
        );
        for machine in &self.status.hosts {
            for state in HostStatus::ALL {
                let labels = [
                    ("machine", machine.name.as_str()),
                    ("state", state.as_str()),
                ];
                text.sample(&labels, truth(machine.state == state));
            }
        }
        for (name, help, holds) in CONDITIONS {
            text.family(name, Kind::Gauge, help);
            for machine in &self.status.hosts {
                if let Some(holds) = holds(machine) {
                    text.sample(&[("machine", machine.name.as_str())], truth(holds));
                }
            }
        }
        text.family(
            "bento_machine_reboot_required",
            Kind::Gauge,
            "1 while a change takes effect only at the machine's next boot.",
        );
        for (machine, newest) in self.newest() {
            text.sample(
                &[("machine", machine.name.as_str())],
                truth(newest.reboot_required()),
            );
        }
        text.family(
            "bento_machine_runs_total",
            Kind::Counter,
            "Runs that the machine reported.",
        );
        for machine in &self.status.hosts {
            text.sample(&[("machine", machine.name.as_str())], machine.runs as f64);
        }
    }

    /// When something happened last, and how long ago that is.
    fn times(&self, text: &mut Text) {
        let success = |machine: &MachineStatus| {
            let ledger = self.ledgers.get(&machine.name)?;
            Some(ledger.succeeded.as_ref()?.received)
        };
        let published = |machine: &MachineStatus| Some(machine.published.as_ref()?.at);
        let events: [(&str, &str, &dyn Fn(&MachineStatus) -> Option<Timestamp>); 3] = [
            (
                "contact",
                "the machine's last contact",
                &|machine: &MachineStatus| machine.seen,
            ),
            (
                "publication",
                "the publication of the generation that the machine finds",
                &published,
            ),
            (
                "success",
                "the receipt of the machine's last report of a success",
                &success,
            ),
        ];
        for (event, what, when) in events {
            let times: Vec<_> = self
                .status
                .hosts
                .iter()
                .filter_map(|machine| Some((machine.name.as_str(), when(machine)?)))
                .collect();
            text.family(
                &format!("bento_machine_last_{event}_timestamp_seconds"),
                Kind::Gauge,
                &format!("Unix time of {what}."),
            );
            for (machine, time) in &times {
                text.sample(&[("machine", machine)], seconds(*time));
            }
            text.family(
                &format!("bento_machine_last_{event}_age_seconds"),
                Kind::Gauge,
                &format!("Time since {what}."),
            );
            for (machine, time) in &times {
                // Of something in the future, after the clock was set back, nobody can say how long ago it is.
                let age = self.status.at.duration_since(*time).as_secs_f64().max(0.0);
                text.sample(&[("machine", machine)], age);
            }
        }
    }

    fn phases(&self, text: &mut Text) {
        text.family(
            "bento_machine_phase_duration_seconds",
            Kind::Gauge,
            "How long each phase of the machine's newest reported run took.",
        );
        for (machine, newest) in self.newest() {
            for phase in phases_of(newest) {
                let labels = [
                    ("machine", machine.name.as_str()),
                    ("phase", phase.name.as_str()),
                ];
                text.sample(&labels, phase.seconds);
            }
        }
    }

    fn newest(&self) -> impl Iterator<Item = (&MachineStatus, &Record)> {
        self.status.hosts.iter().filter_map(|machine| {
            let ledger = self.ledgers.get(&machine.name)?;
            Some((machine, ledger.newest.as_ref()?))
        })
    }
}

const UP: (&str, &str) = (
    "bento_up",
    "1 while the appliance runs, 0 while it doesn't.",
);

/// A name, what it means, and whether that holds; none where it isn't known.
type Condition = (
    &'static str,
    &'static str,
    fn(&MachineStatus) -> Option<bool>,
);

/// What holds for a machine beside its state.
const CONDITIONS: [Condition; 4] = [
    (
        "bento_machine_needs_attention",
        "1 while somebody has to look at the machine: it failed, isn't what it should be, or is silent.",
        |machine| Some(machine.needs_attention()),
    ),
    (
        "bento_machine_silent",
        "1 while there was no contact for longer than is normal for the machine.",
        |machine| machine.silent,
    ),
    (
        "bento_machine_paused",
        "1 while the administrator keeps the machine on the generation that it has.",
        |machine| Some(machine.paused),
    ),
    (
        "bento_machine_held",
        "1 while the machine's owner asked it to wait.",
        |machine| Some(machine.held.is_some()),
    ),
];

fn appliance(text: &mut Text, activity: &Snapshot) {
    text.family(
        "bento_build_info",
        Kind::Gauge,
        "The version of the appliance; always 1.",
    );
    text.sample(&[("version", &activity.version)], 1.0);
    text.one(
        (
            "bento_start_time_seconds",
            "Unix time at which the appliance started.",
        ),
        seconds(activity.started),
    );
    text.one(
        (
            "bento_problems",
            "What is wrong now, as `bento status` shows it.",
        ),
        activity.problems as f64,
    );
    let sessions = &activity.sessions;
    text.family(
        "bento_sessions",
        Kind::Gauge,
        "Connections that have an sshd now.",
    );
    text.sample(&[("authenticated", "no")], sessions.unauthenticated as f64);
    text.sample(&[("authenticated", "yes")], sessions.authenticated as f64);
    text.family(
        "bento_sessions_ended_total",
        Kind::Counter,
        "Sessions that the appliance ended, by the limit or the change that they ran into.",
    );
    for (reason, count) in &sessions.ended {
        text.sample(&[("reason", reason)], *count as f64);
    }
    let counters = [
        (
            "bento_sessions_accepted_total",
            "Connections that got an sshd.",
            sessions.accepted,
        ),
        (
            "bento_logins_total",
            "Sessions in which a machine authenticated.",
            sessions.logins,
        ),
        (
            "bento_publications_total",
            "Generations that were published.",
            activity.publications,
        ),
        (
            "bento_publication_failures_total",
            "Publications that the state stopped, such as on a full disk, each try counted.",
            activity.failed_publications,
        ),
        (
            "bento_reports_total",
            "Reports that were taken in.",
            activity.reports,
        ),
        (
            "bento_reports_refused_total",
            "Files in inboxes that weren't reports.",
            activity.refused,
        ),
        (
            "bento_notifications_total",
            "Notifications that were delivered.",
            activity.notifications,
        ),
        (
            "bento_notification_failures_total",
            "Notifications that weren't delivered, each try counted.",
            activity.failed_notifications,
        ),
    ];
    for (name, help, count) in counters {
        text.family(name, Kind::Counter, help);
        text.sample(&[], count as f64);
    }
}

fn phases_of(record: &Record) -> &[Phase] {
    match &record.content {
        Content::Report(report) => &report.phases,
        Content::Legacy(_) => &[],
    }
}

fn seconds(time: Timestamp) -> f64 {
    // To the millisecond, as Prometheus counts itself.
    time.as_millisecond() as f64 / 1000.0
}

fn truth(holds: bool) -> f64 {
    if holds { 1.0 } else { 0.0 }
}
