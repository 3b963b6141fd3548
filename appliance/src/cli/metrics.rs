//! `bento metrics`: metrics for Prometheus.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;

use super::{Appliance, ApplianceOption};
use crate::metrics::MetricsReading;

/// Print metrics of the fleet and of the appliance in Prometheus' text format
///
/// `bento serve --metrics` serves the same text over HTTP. Without a network, write it to a file in the folder of
/// node_exporter's textfile collector.
#[derive(Debug, Args)]
pub struct MetricsCommand {
    #[command(flatten)]
    appliance: ApplianceOption,
}

impl MetricsCommand {
    /// Prints the metrics.
    ///
    /// # Errors
    /// When there is no appliance's state, or the appliance can't be asked.
    pub fn run(&self, output: &mut dyn Write) -> anyhow::Result<ExitCode> {
        match self.appliance.find()? {
            Appliance::Here(state, runtime) => {
                let readings = MetricsReading::read(&state, &runtime, Timestamp::now())?;
                output.write_all(readings.render().as_bytes())?;
                Ok(ExitCode::SUCCESS)
            }
            Appliance::Remote(remote) => remote.relay(["metrics"]),
        }
    }
}
