//! PID 1 of the container: starts all threads, passes messages between them, and stops.

mod counters;
mod event_loop;
mod init;
mod intake;
mod notifier;
pub mod privileges;
mod problems;
mod publish;
pub mod readiness;
mod sshd_probe;
pub mod volume;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::{self, Sender};
use std::thread;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing::info;

pub(crate) use self::publish::fleet_in_force::host_keys;

use self::event_loop::Service;
use self::init::Startup;
use crate::metrics;
use crate::sshd::SessionEvent;

/// The options of `bento serve`.
#[derive(Debug, Clone)]
pub struct Options {
    /// The fleet folder.
    pub config: PathBuf,
    /// The folder of the state.
    pub state: PathBuf,
    /// Whether the state may be lost with the container.
    pub ephemeral: bool,
    /// The folder of files that last as long as the container.
    pub runtime: PathBuf,
    /// The address for machines.
    pub listen: SocketAddr,
    /// The address for metrics, if there are any.
    pub metrics: Option<SocketAddr>,
}

/// A message to the main thread.
enum Message {
    Signal(i32),
    /// The start is done, or has failed.
    Started(Box<Result<Startup>>),
    Session(SessionEvent),
    FirstPublication,
    /// The result of a probe of sshd.
    ProbeAnswer(Result<()>),
}

/// Runs the appliance until TERM.
///
/// # Errors
/// When it can't start, or can't serve machines any more. The error has each cause, with advice.
pub fn run(options: &Options) -> Result<()> {
    // First of all: a TERM during the start must not be lost.
    let signals = Signals::new([SIGTERM, SIGINT, SIGCHLD]).context("signals can't be received")?;
    init::check(options)?;
    let metrics = options
        .metrics
        .map(metrics::MetricsServer::bind)
        .transpose()?;
    // Before there are other threads: it changes only this one, and those that it starts later.
    privileges::drop_unneeded()?;
    let (sender, messages) = mpsc::channel();
    forward_signals(signals, sender.clone());
    match init::start(options, &sender, &messages)? {
        Some(startup) => Service::open(options, startup, metrics, sender)?.run(&messages),
        None => {
            info!("stopped before it was ready");
            Ok(())
        }
    }
}

fn forward_signals(mut signals: Signals, sender: Sender<Message>) {
    thread::spawn(move || {
        signals
            .forever()
            .try_for_each(|signal| sender.send(Message::Signal(signal)))
    });
}
