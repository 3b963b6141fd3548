use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use tracing_subscriber::filter::EnvFilter;

use crate::daemon;
use crate::daemon::Options;

/// Run the appliance: publish the fleet and receive reports
#[derive(Debug, Args)]
pub struct ServeCommand {
    /// The fleet folder
    #[arg(long, value_name = "DIR", default_value = "/config")]
    config: PathBuf,
    /// The folder for the appliance's state; it must persist
    #[arg(long, value_name = "DIR", default_value = "/state")]
    state: PathBuf,
    /// Allow a state that doesn't persist, to try it out: the host key and all reports may be lost when it stops
    #[arg(long)]
    ephemeral: bool,
    /// The folder for files that are needed only while it runs
    #[arg(long, value_name = "DIR", default_value = "/run/bento")]
    runtime: PathBuf,
    /// The address to listen on for machines
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 2222)))]
    listen: SocketAddr,
    /// Serve metrics for Prometheus at this address, as GET /metrics [default: off]
    ///
    /// A port without an address means loopback. A container has a loopback of its own: in a container, use
    /// 0.0.0.0:9470, and publish the port on the host's loopback with podman run --publish 127.0.0.1:9470:9470.
    #[arg(long, value_name = "ADDRESS", value_parser = metrics_address)]
    metrics: Option<SocketAddr>,
    /// The format of the log on standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// One line for each event
    Text,
    /// One JSON object for each event
    Json,
}

impl ServeCommand {
    /// Runs until TERM.
    ///
    /// # Errors
    /// When the appliance can't start.
    pub fn run(&self) -> anyhow::Result<()> {
        let filter = EnvFilter::builder()
            .with_env_var("BENTO_LOG")
            .with_default_directive(tracing::Level::INFO.into());
        let log = tracing_subscriber::fmt()
            .with_writer(std::io::stderr)
            // Its errors would go to the same closed pipe, and panic.
            .log_internal_errors(false)
            .with_env_filter(filter.from_env_lossy());
        match self.log_format {
            LogFormat::Text => log.with_target(false).with_ansi(false).init(),
            LogFormat::Json => log.json().flatten_event(true).init(),
        }
        daemon::run(&Options {
            config: self.config.clone(),
            state: self.state.clone(),
            ephemeral: self.ephemeral,
            runtime: self.runtime.clone(),
            listen: self.listen,
            metrics: self.metrics,
        })
    }
}

fn metrics_address(text: &str) -> Result<SocketAddr, String> {
    let port = text.parse().map(|port: u16| (Ipv4Addr::LOCALHOST, port));
    let address = port.map(SocketAddr::from).or_else(|_| text.parse());
    address
        .ok()
        .filter(|address| address.port() != 0)
        .ok_or_else(|| {
            "use a port, such as 9470, or an address with a port, such as 127.0.0.1:9470 or [::1]:9470"
                .into()
        })
}
