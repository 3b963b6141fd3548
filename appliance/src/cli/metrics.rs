//! `bento metrics`: what Prometheus is told.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;

use super::{Appliance, ApplianceOption};
use crate::metrics::MetricsReading;

/// Print what is known of the fleet and of the appliance in Prometheus' text format
///
/// `bento serve --metrics` answers with the same. Without a network it can be given to node_exporter: write it to a
/// file in the folder of its textfile collector.
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
