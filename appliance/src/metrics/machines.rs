use bento_protocol::Phase;
use jiff::Timestamp;

use super::text::{MetricType, Text};
use super::{MetricsReading, seconds};
use crate::report::{Content, Record};
use crate::status::{HostStatus, MachineStatus};

impl MetricsReading {
    /// Writes the metrics of each machine.
    pub(super) fn machines(&self, text: &mut Text) {
        text.family(
            "bento_machine_state",
            MetricType::Gauge,
            "1 for the current state of the machine, 0 for all other states.",
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
        for (name, help, holds) in BOOLEAN_METRICS {
            text.family(name, MetricType::Gauge, help);
            for machine in &self.status.hosts {
                if let Some(holds) = holds(machine) {
                    text.sample(&[("machine", machine.name.as_str())], truth(holds));
                }
            }
        }
        text.family(
            "bento_machine_reboot_required",
            MetricType::Gauge,
            "1 while the machine needs a reboot for its last update.",
        );
        for (machine, newest) in self.newest() {
            text.sample(
                &[("machine", machine.name.as_str())],
                truth(newest.reboot_required()),
            );
        }
        text.family(
            "bento_machine_runs_total",
            MetricType::Counter,
            "Reported runs of the machine.",
        );
        for machine in &self.status.hosts {
            text.sample(&[("machine", machine.name.as_str())], machine.runs as f64);
        }
        self.times(text);
        self.phases(text);
    }

    fn times(&self, text: &mut Text) {
        self.time(text, "contact", "the machine's last contact", |machine| {
            machine.seen
        });
        let what = "the publication of the machine's current generation";
        self.time(text, "publication", what, |machine| {
            Some(machine.published.as_ref()?.at)
        });
        let what = "the receipt of the machine's last success report";
        self.time(text, "success", what, |machine| {
            let summary = self.summaries.get(&machine.name)?;
            Some(summary.succeeded.as_ref()?.received)
        });
    }

    /// Writes the time of an event, and its age.
    fn time(
        &self,
        text: &mut Text,
        event: &str,
        what: &str,
        when: impl Fn(&MachineStatus) -> Option<Timestamp>,
    ) {
        let hosts = self.status.hosts.iter();
        let times: Vec<_> = hosts
            .filter_map(|machine| Some((machine.name.as_str(), when(machine)?)))
            .collect();
        let family = format!("bento_machine_last_{event}_timestamp_seconds");
        text.family(&family, MetricType::Gauge, &format!("Unix time of {what}."));
        for (machine, time) in &times {
            text.sample(&[("machine", machine)], seconds(*time));
        }
        let family = format!("bento_machine_last_{event}_age_seconds");
        text.family(&family, MetricType::Gauge, &format!("Time since {what}."));
        for (machine, time) in &times {
            // A time in the future, after the clock was set back, has the age 0.
            let age = self.status.at.duration_since(*time).as_secs_f64().max(0.0);
            text.sample(&[("machine", machine)], age);
        }
    }

    fn phases(&self, text: &mut Text) {
        text.family(
            "bento_machine_phase_duration_seconds",
            MetricType::Gauge,
            "Duration of each phase of the machine's last reported run.",
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
            let summary = self.summaries.get(&machine.name)?;
            Some((machine, summary.newest.as_ref()?))
        })
    }
}

/// A name, a help text and a condition; none if unknown.
type BooleanMetric = (
    &'static str,
    &'static str,
    fn(&MachineStatus) -> Option<bool>,
);

/// The conditions of a machine beside its state.
const BOOLEAN_METRICS: [BooleanMetric; 4] = [
    (
        "bento_machine_needs_attention",
        "1 while the machine needs attention: it failed, doesn't run the expected system, or is silent.",
        |machine| Some(machine.needs_attention()),
    ),
    (
        "bento_machine_silent",
        "1 while the machine had no contact for longer than silent_after.",
        |machine| machine.silent,
    ),
    (
        "bento_machine_paused",
        "1 while the machine is paused by the administrator.",
        |machine| Some(machine.paused),
    ),
    (
        "bento_machine_held",
        "1 while the machine is held by its owner.",
        |machine| Some(machine.held.is_some()),
    ),
];

fn phases_of(record: &Record) -> &[Phase] {
    match &record.content {
        Content::Report(report) => &report.phases,
        Content::Legacy(_) => &[],
    }
}

fn truth(holds: bool) -> f64 {
    if holds { 1.0 } else { 0.0 }
}
