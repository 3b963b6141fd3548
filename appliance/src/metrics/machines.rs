use bento_protocol::Phase;
use jiff::Timestamp;

use super::text::{MetricType, Text};
use super::{MetricsReading, seconds};
use crate::report::{Content, Record};
use crate::status::{HostStatus, MachineStatus};

impl MetricsReading {
    /// What is known of each machine.
    pub(super) fn machines(&self, text: &mut Text) {
        text.family(
            "bento_machine_state",
            MetricType::Gauge,
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
            MetricType::Counter,
            "Runs that the machine reported.",
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
        let what = "the publication of the generation that the machine finds";
        self.time(text, "publication", what, |machine| {
            Some(machine.published.as_ref()?.at)
        });
        let what = "the receipt of the machine's last report of a success";
        self.time(text, "success", what, |machine| {
            let summary = self.summaries.get(&machine.name)?;
            Some(summary.succeeded.as_ref()?.received)
        });
    }

    /// When something happened last, and how long ago that is.
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
            // Something in the future, after the clock was set back, happened just now as far as anybody can tell.
            let age = self.status.at.duration_since(*time).as_secs_f64().max(0.0);
            text.sample(&[("machine", machine)], age);
        }
    }

    fn phases(&self, text: &mut Text) {
        text.family(
            "bento_machine_phase_duration_seconds",
            MetricType::Gauge,
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
            let summary = self.summaries.get(&machine.name)?;
            Some((machine, summary.newest.as_ref()?))
        })
    }
}

/// A name, what it means, and whether that holds; none where it isn't known.
type BooleanMetric = (
    &'static str,
    &'static str,
    fn(&MachineStatus) -> Option<bool>,
);

/// What holds for a machine beside its state.
const BOOLEAN_METRICS: [BooleanMetric; 4] = [
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

fn phases_of(record: &Record) -> &[Phase] {
    match &record.content {
        Content::Report(report) => &report.phases,
        Content::Legacy(_) => &[],
    }
}

fn truth(holds: bool) -> f64 {
    if holds { 1.0 } else { 0.0 }
}
