//! PID 1 of the container: starts everything, hands messages around, and stops everything.

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

/// Where the supervisor finds things.
#[derive(Debug, Clone)]
pub struct Options {
    /// The fleet folder.
    pub config: PathBuf,
    /// What persists.
    pub state: PathBuf,
    /// Whether it needn't.
    pub ephemeral: bool,
    /// What lives as long as the container.
    pub runtime: PathBuf,
    /// Where machines connect.
    pub listen: SocketAddr,
    /// Where metrics are asked for, if anywhere.
    pub metrics: Option<SocketAddr>,
}

/// What the main thread is told.
enum Message {
    Signal(i32),
    /// Everything is there, or can't be.
    Started(Box<Result<Startup>>),
    Session(SessionEvent),
    FirstPublication,
    /// Whether sshd serves.
    ProbeAnswer(Result<()>),
}

/// Runs the appliance until TERM.
///
/// # Errors
/// When it can't start, or can't serve machines any more; every cause is named with what to do.
pub fn run(options: &Options) -> Result<()> {
    // Before anything else: a TERM that comes while starting must not be lost.
    let signals = Signals::new([SIGTERM, SIGINT, SIGCHLD]).context("signals can't be received")?;
    init::check(options)?;
    let metrics = options
        .metrics
        .map(metrics::MetricsServer::bind)
        .transpose()?;
    // Before there are other threads: it concerns only those that this one starts.
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
