//! The event loop of the main thread: signals, session events, probes of sshd, and the stop.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use signal_hook::consts::SIGCHLD;
use tracing::{error, info, warn};

use super::counters::CountersWriter;
use super::init::Startup;
use super::intake::{IntakeLoop, Notice};
use super::notifier::Notifier;
use super::publish::PublishLoop;
use super::publish::watcher::Watcher;
use super::sshd_probe::{ProbeFailure, SshdProbe};
use super::{Message, Options};
use crate::daemon::readiness;
use crate::daemon::readiness::Readiness;
use crate::metrics::{self, MetricsReading};
use crate::sshd;
use crate::sshd::{SessionEvent, SessionLimits, Sessions, Sshd, handshake, is_shortage};
use crate::store::accounts::Accounts;
use crate::store::paths::{Runtime, State};

/// How long open sessions may go on after TERM; podman kills the container after 10 s.
const GRACE: Duration = Duration::from_secs(8);
/// The timeout of the first answer of sshd on the port of machines, on a small machine under load.
const READY_TIMEOUT: Duration = Duration::from_secs(10);
/// The delay before the next attempt.
const READY_RETRY: Duration = Duration::from_secs(1);
/// The timeout of a probe while machines are served: far longer than sshd takes even while the largest number of sessions
/// wants the CPU, so that no crowd makes it seem broken.
const PROBE_TIMEOUT: Duration = Duration::from_secs(30);

/// The running appliance.
pub(super) struct Service {
    listen: SocketAddr,
    runtime: Runtime,
    sessions: Sessions,
    sshd: Sshd,
    probe: SshdProbe,
    shared_accounts: Arc<Mutex<Accounts>>,
    notices: Sender<Notice>,
    sender: Sender<Message>,
    stop: Option<Stop>,
    _lock: File,
}

/// A stop in progress: no new sessions.
struct Stop {
    /// The end of the time for open sessions.
    deadline: Instant,
    /// The failure that caused it; none after TERM.
    cause: Option<anyhow::Error>,
}

impl Service {
    /// Starts all threads, and listens.
    ///
    /// # Errors
    /// When it can't listen.
    pub(super) fn open(
        options: &Options,
        startup: Startup,
        metrics: Option<metrics::MetricsServer>,
        sender: Sender<Message>,
    ) -> Result<Self> {
        let Startup {
            state,
            runtime,
            sshd,
            reconciler,
            problems,
            lock,
        } = startup;
        let sessions = open_sessions(options.listen, &sshd, &sender)?;
        let shared_accounts = Arc::new(Mutex::new(reconciler.accounts().clone()));
        let intake_loop = Arc::new(IntakeLoop::new(
            state.clone(),
            runtime.clone(),
            sessions.clone(),
            Arc::clone(&shared_accounts),
            Arc::clone(&problems),
        ));
        let notices = start_intake_loop(&intake_loop, reconciler.accounts());
        let publish_loop = PublishLoop::new(
            reconciler,
            runtime.clone(),
            sessions.clone(),
            intake_loop,
            Arc::clone(&shared_accounts),
        );
        let wakeups = start_counters_writer(CountersWriter::new(
            runtime.clone(),
            sessions.clone(),
            Arc::clone(&problems),
        ));
        let notifier = Notifier::new(state.clone(), runtime.clone(), problems);
        let main = sender.clone();
        start_publish_loop(publish_loop, options.config.clone(), move || {
            // The receiver only goes when the process ends.
            _ = main.send(Message::FirstPublication);
            thread::spawn(move || notifier.run(&wakeups));
        });
        if let Some(server) = metrics {
            start_metrics(server, state, runtime.clone())?;
        }
        info!(address = %options.listen, "listening");
        Ok(Service {
            listen: options.listen,
            runtime,
            sessions,
            sshd,
            probe: SshdProbe::new(),
            shared_accounts,
            notices,
            sender,
            stop: None,
            _lock: lock,
        })
    }

    /// Runs until TERM.
    ///
    /// # Errors
    /// When machines can't be served any more.
    pub(super) fn run(mut self, messages: &Receiver<Message>) -> Result<()> {
        // The children of the start.
        sshd::reap();
        while let Some(message) = self.next(messages) {
            match message {
                Message::Signal(SIGCHLD) => _ = sshd::reap(),
                Message::Signal(_) => self.stop(None),
                Message::Session(SessionEvent::Stopped) if self.stop.is_none() => {
                    bail!("nothing is accepted any more, see above")
                }
                Message::Session(SessionEvent::Stopped) => break,
                Message::Session(event) => self.handle_session_event(event),
                Message::FirstPublication => self.announce(),
                Message::ProbeAnswer(answer) => self.handle_answer(answer),
                // Sent once, before there was a service.
                Message::Started(_) => {}
            }
        }
        // A missing file shows that nothing is counted any more. Without a container, the folder outlives this process.
        let _ = fs::remove_file(self.runtime.activity());
        info!("stopped");
        match self.stop.and_then(|stop| stop.cause) {
            Some(cause) => Err(cause),
            None => Ok(()),
        }
    }

    /// The next message; none once the time for open sessions is over.
    fn next(&mut self, messages: &Receiver<Message>) -> Option<Message> {
        loop {
            let until = match &self.stop {
                Some(stop) => Some(stop.deadline),
                None => self.probe.due(),
            };
            let Some(until) = until else {
                return messages.recv().ok();
            };
            match messages.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(message) => return Some(message),
                Err(RecvTimeoutError::Timeout) if self.stop.is_none() => self.start_probe(),
                Err(_) => return None,
            }
        }
    }

    fn stop(&mut self, cause: Option<anyhow::Error>) {
        if let Some(stop) = &mut self.stop {
            // A TERM after a failure makes it a wanted stop.
            stop.cause = None;
            return;
        }
        info!(
            "stopping: no new sessions, open ones get {} s",
            GRACE.as_secs()
        );
        self.stop = Some(Stop {
            deadline: Instant::now() + GRACE,
            cause,
        });
        let _ = readiness::notify(Readiness::Stopping);
        self.sessions.close();
    }

    fn handle_session_event(&mut self, event: SessionEvent) {
        if let SessionEvent::Ended { uid: None, .. } = event {
            self.probe.suspect(Instant::now());
        }
        forward_to_intake(event, &self.shared_accounts, &self.notices);
    }

    /// Probes sshd with a connection of the appliance's own.
    fn start_probe(&mut self) {
        self.probe.start();
        let (sshd, sender) = (self.sshd.clone(), self.sender.clone());
        // In a thread of its own: this loop must continue to reap.
        let thread = thread::Builder::new()
            .spawn(move || sender.send(Message::ProbeAnswer(sshd.answer(PROBE_TIMEOUT).map(drop))));
        if thread.is_err() {
            self.probe.postpone(Instant::now());
        }
    }

    /// Handles the result of a probe.
    fn handle_answer(&mut self, answer: Result<()>) {
        let now = Instant::now();
        match answer {
            Ok(()) => {
                if self.probe.answered(now) {
                    info!("sshd serves again");
                }
            }
            Err(error) if is_shortage(&error) => {
                warn!("sshd can't be probed: {error:#}");
                self.probe.postpone(now);
            }
            Err(error) => match self.probe.failed(now) {
                ProbeFailure::Retry(pause) => warn!(
                    "sshd doesn't serve any more: {error:#}; it is tried again in {} s",
                    pause.as_secs()
                ),
                ProbeFailure::GiveUp(tries) => {
                    let what = format!("sshd doesn't serve any more, after {tries} attempts");
                    self.stop(Some(error.context(what)));
                }
            },
        }
    }

    /// Reports that the appliance is ready, once sshd has answered on the port of machines.
    fn announce(&self) {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.listen.port()));
        let runtime = self.runtime.clone();
        // In a thread of its own: sshd answers only while the main loop runs.
        thread::spawn(move || {
            while let Err(error) = handshake(address, READY_TIMEOUT) {
                warn!("not ready yet: {error:#}");
                thread::sleep(READY_RETRY);
            }
            if let Err(error) = report_ready(&runtime) {
                error!("readiness can't be reported: {error}");
            }
            info!("ready");
        });
    }
}

fn report_ready(runtime: &Runtime) -> io::Result<()> {
    fs::write(runtime.ready(), "")?;
    readiness::notify(Readiness::Ready)
}

fn open_sessions(listen: SocketAddr, sshd: &Sshd, sender: &Sender<Message>) -> Result<Sessions> {
    let listener = sshd::listen(listen)
        .with_context(|| format!("{listen} can't be listened on: is another program there?"))?;
    let sender = sender.clone();
    // The receiver only goes when the process ends.
    Sessions::open(
        listener,
        sshd.clone(),
        SessionLimits::default(),
        move |event| _ = sender.send(Message::Session(event)),
    )
}

/// Starts the intake. Any of these machines may have left a report just before the last stop.
fn start_intake_loop(intake_loop: &Arc<IntakeLoop>, accounts: &Accounts) -> Sender<Notice> {
    let (notices, received) = mpsc::channel();
    for name in accounts.names() {
        // It is received as soon as the thread runs.
        let _ = notices.send(Notice::Check(name.clone()));
    }
    let intake_loop = Arc::clone(intake_loop);
    thread::spawn(move || intake_loop.run(&received));
    notices
}

/// Starts the publish loop.
fn start_publish_loop(
    mut publish_loop: PublishLoop,
    config: PathBuf,
    ready: impl FnOnce() + Send + 'static,
) {
    let (hints_sender, hints) = mpsc::channel();
    let watcher = Watcher::new(config, hints_sender);
    thread::spawn(move || publish_loop.run(watcher, &hints, ready));
}

/// Starts the counters writer, which wakes the notifier after a change.
fn start_counters_writer(counters_writer: CountersWriter) -> Receiver<()> {
    let (sender, wakeups) = mpsc::channel();
    thread::spawn(move || counters_writer.run(&sender));
    wakeups
}

/// Starts the metrics server.
fn start_metrics(server: metrics::MetricsServer, state: State, runtime: Runtime) -> Result<()> {
    server.start(move || Ok(MetricsReading::read(&state, &runtime, Timestamp::now())?.render()))
}

fn forward_to_intake(
    event: SessionEvent,
    shared_accounts: &Mutex<Accounts>,
    notices: &Sender<Notice>,
) {
    let account = |uid: u32| Some((shared_accounts.lock().ok()?.name(uid).cloned()?, uid));
    let notice = match event {
        SessionEvent::Authenticated { session, uid } => {
            account(uid).map(|(host, uid)| Notice::Opened { host, uid, session })
        }
        SessionEvent::Ended { session, uid } => Some(Notice::Ended {
            account: uid.and_then(account),
            session,
        }),
        SessionEvent::Stopped => None,
    };
    if let Some(notice) = notice {
        // The intake ends only with the process.
        let _ = notices.send(notice);
    }
}
