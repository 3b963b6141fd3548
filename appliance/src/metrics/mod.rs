//! Metrics of the fleet and of the appliance, in the text format of Prometheus.
//!
//! An event has its time, for rules with `time() - …` as in Prometheus' guide to instrumentation, and its age, for
//! reading the text without Prometheus.

mod appliance;
pub mod counters;
mod machines;
mod server;
mod text;

use std::collections::BTreeMap;

use anyhow::Context;
use bento_protocol::HostName;
use jiff::Timestamp;

pub use self::server::MetricsServer;
use self::text::{MetricType, Text};
use crate::metrics::counters::CounterValues;
use crate::report::Summary;
use crate::status::{HostStatus, Status, StatusReading};
use crate::store::paths::{Runtime, State};

/// The data for the metrics.
#[derive(Debug)]
pub struct MetricsReading {
    /// The status of the fleet.
    pub status: Status,
    /// The summary of each machine's reports since its enrolment; missing if unreadable.
    pub summaries: BTreeMap<HostName, Summary>,
    /// The counters of the appliance; none if none runs.
    pub counters: Option<CounterValues>,
}

impl MetricsReading {
    /// Reads the current data.
    ///
    /// # Errors
    /// When there is no state, or the fleet in it can't be read.
    pub fn read(state: &State, runtime: &Runtime, now: Timestamp) -> anyhow::Result<Self> {
        let reading = StatusReading::of(state, runtime)?;
        let counters = CounterValues::read(runtime).with_context(|| {
            format!(
                "can't read the appliance's counters from {}",
                runtime.activity().display()
            )
        })?;
        Ok(MetricsReading {
            summaries: reading.summaries(),
            status: reading.status(now),
            counters,
        })
    }

    /// The metrics as text.
    pub fn render(&self) -> String {
        let mut text = Text::default();
        match &self.counters {
            Some(counters) => {
                text.one(UP, 1.0);
                appliance::write(&mut text, counters);
            }
            None => text.one(UP, 0.0),
        }
        self.fleet(&mut text);
        self.machines(&mut text);
        text.finish()
    }

    fn fleet(&self, text: &mut Text) {
        if let Some(problems) = &self.status.problems {
            text.family(
                "bento_fleet_problems",
                MetricType::Gauge,
                "Problems of the fleet as a whole, such as an invalid fleet.toml.",
            );
            text.sample(&[], problems.len() as f64);
        }
        text.family(
            "bento_machines",
            MetricType::Gauge,
            "Machines of the fleet, by state.",
        );
        for state in HostStatus::ALL {
            let hosts = self.status.hosts.iter();
            let count = hosts.filter(|machine| machine.state == state).count();
            text.sample(&[("state", state.as_str())], count as f64);
        }
    }
}

const UP: (&str, &str) = (
    "bento_up",
    "1 while the appliance runs, 0 while it doesn't.",
);

fn seconds(time: Timestamp) -> f64 {
    // In milliseconds, like Prometheus' own timestamps.
    time.as_millisecond() as f64 / 1000.0
}

#[cfg(test)]
mod tests;
