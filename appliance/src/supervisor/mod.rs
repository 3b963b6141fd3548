//! PID 1 of the container: starts everything, hands messages around, and stops everything.

mod clerk;
mod office;
mod publisher;
mod settings;
mod settle;
mod watch;

use std::fs::{self, File, Permissions};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing::{error, info};

use self::clerk::{Clerk, Notice};
use self::office::Office;
use self::publisher::Publisher;
use crate::enrolment::Enrolments;
use crate::privilege;
use crate::ready::{self, Readiness};
use crate::session::{self, Event, Limits, Sessions, Sshd, handshake};
use crate::state::{Runtime, State};

/// How long running sessions get after TERM; podman kills the container after 10 s.
const GRACE: Duration = Duration::from_secs(8);
/// How long sshd may take for its first answer: a small board under load.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// Where the supervisor finds things.
#[derive(Debug, Clone)]
pub struct Options {
    /// The fleet folder.
    pub config: PathBuf,
    /// What persists.
    pub state: PathBuf,
    /// What lives as long as the container.
    pub runtime: PathBuf,
    /// Where machines connect.
    pub listen: SocketAddr,
}

/// What the main loop is told.
enum Message {
    Signal(i32),
    Session(Event),
    FirstPublication,
}

/// Runs the appliance until TERM.
///
/// # Errors
/// When it can't start; every cause is named with what to do. Once it has started, it goes on.
pub fn run(options: &Options) -> anyhow::Result<()> {
    // Before anything else: a TERM that comes while starting must not be lost.
    let signals = Signals::new([SIGTERM, SIGINT, SIGCHLD]).context("signals can't be received")?;
    privilege::check()?;
    privilege::drop_the_rest()?;
    let (state, runtime) = (State::new(&options.state), Runtime::new(&options.runtime));
    let _lock = lock(&state)?;
    let (sender, messages) = mpsc::channel();
    let sessions = open_sessions(options, &state, &runtime, &sender)?;
    let unusable = || format!("{} can't be used", state.root().display());
    let publisher = Publisher::new(options.config.clone(), state.clone()).with_context(unusable)?;
    let directory = Arc::new(Mutex::new(publisher.enrolments().clone()));
    let notices = start_clerk_and_office(
        options, &state, &runtime, &sessions, publisher, &directory, &sender,
    );
    forward_signals(signals, sender);
    info!(address = %options.listen, "listening");
    let mut deadline = None;
    while let Some(message) = next(&messages, deadline) {
        match message {
            Message::Signal(SIGCHLD) => _ = session::reap(),
            // A second TERM is the same wish.
            Message::Signal(_) if deadline.is_some() => {}
            Message::Signal(_) => {
                info!(
                    "stopping: no new sessions, running ones get {} s",
                    GRACE.as_secs()
                );
                deadline = Some(Instant::now() + GRACE);
                let _ = ready::notify(Readiness::Stopping);
                sessions.close();
            }
            Message::Session(Event::Stopped) if deadline.is_none() => {
                bail!("nothing is accepted any more, see above")
            }
            Message::Session(Event::Stopped) => break,
            Message::Session(event) => tell_clerk(event, &directory, &notices),
            Message::FirstPublication => announce(options, &runtime),
        }
    }
    info!("stopped");
    Ok(())
}

/// The next message; none when the deadline has passed.
fn next(messages: &Receiver<Message>, deadline: Option<Instant>) -> Option<Message> {
    match deadline {
        None => messages.recv().ok(),
        Some(deadline) => messages
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            .ok(),
    }
}

/// One appliance at a time may use a state.
fn lock(state: &State) -> anyhow::Result<File> {
    fs::create_dir_all(state.root())
        .with_context(|| format!("{} can't be made", state.root().display()))?;
    let path = state.lock();
    let file = File::create(&path).with_context(|| {
        format!(
            "{} can't be written: mount a volume at {} that the container may write to",
            path.display(),
            state.root().display()
        )
    })?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(_) => bail!(
            "{} is used by another appliance: stop that one, or give this one a volume of its own",
            state.root().display()
        ),
    }
}

fn open_sessions(
    options: &Options,
    state: &State,
    runtime: &Runtime,
    sender: &Sender<Message>,
) -> anyhow::Result<Sessions> {
    let host_keys = settings::host_keys(&options.config, state)?;
    close_to_others(runtime)
        .with_context(|| format!("{} can't be prepared", runtime.root().display()))?;
    let sshd = Sshd::prepare(state, runtime, &host_keys)?;
    let listener = session::listen(options.listen).with_context(|| {
        format!(
            "{} can't be listened on: is another program there?",
            options.listen
        )
    })?;
    let sender = sender.clone();
    // The receiver only goes when the process ends.
    Sessions::open(listener, sshd, Limits::default(), move |event| {
        _ = sender.send(Message::Session(event))
    })
}

/// sshd takes no keys from below a folder that others may write to, and podman's tmpfs at /run is everybody's.
fn close_to_others(runtime: &Runtime) -> io::Result<()> {
    fs::create_dir_all(runtime.root())?;
    for folder in runtime.root().ancestors().take(2) {
        let mode = fs::metadata(folder)?.permissions().mode();
        // Left alone where it is right, or isn't ours to change.
        if mode & 0o022 != 0 && fs::metadata(folder)?.uid() == rustix::process::geteuid().as_raw() {
            fs::set_permissions(folder, Permissions::from_mode(mode & 0o7755 & !0o1000))?;
        }
    }
    Ok(())
}

#[allow(
    clippy::too_many_arguments,
    reason = "each is a part that the two threads share"
)]
fn start_clerk_and_office(
    options: &Options,
    state: &State,
    runtime: &Runtime,
    sessions: &Sessions,
    publisher: Publisher,
    directory: &Arc<Mutex<Enrolments>>,
    sender: &Sender<Message>,
) -> Sender<Notice> {
    let clerk = Arc::new(Clerk::new(state.clone()));
    let (notices, received) = mpsc::channel();
    for name in publisher.enrolments().names() {
        // A report may have come just before the last stop.
        let _ = notices.send(Notice::Look(name.clone()));
    }
    let for_thread = Arc::clone(&clerk);
    thread::spawn(move || for_thread.work(&received));
    let mut office = Office::new(
        publisher,
        state.clone(),
        runtime.clone(),
        sessions.clone(),
        clerk,
        Arc::clone(directory),
    );
    let (hints_sender, hints) = mpsc::channel();
    let (config, sender) = (options.config.clone(), sender.clone());
    thread::spawn(move || {
        let _hints_sender_lives = hints_sender.clone();
        let _watcher = watch::watch(&config, hints_sender);
        office.work(&hints, || _ = sender.send(Message::FirstPublication));
    });
    notices
}

fn forward_signals(mut signals: Signals, sender: Sender<Message>) {
    thread::spawn(move || {
        signals
            .forever()
            .try_for_each(|signal| sender.send(Message::Signal(signal)))
    });
}

fn tell_clerk(event: Event, directory: &Mutex<Enrolments>, notices: &Sender<Notice>) {
    let name = |uid: u32| directory.lock().ok()?.name(uid).cloned();
    let notice = match event {
        Event::Authenticated { uid, .. } => name(uid).map(Notice::Opened),
        Event::Ended { uid, .. } => uid.and_then(name).map(Notice::Ended),
        Event::Stopped => None,
    };
    if let Some(notice) = notice {
        // The clerk's thread only ends with the process.
        let _ = notices.send(notice);
    }
}

/// Says that the appliance is ready, once sshd has answered.
fn announce(options: &Options, runtime: &Runtime) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, options.listen.port()));
    let runtime = runtime.clone();
    // In a thread of its own: the answer needs the main loop.
    thread::spawn(move || match handshake(address, FIRST_ANSWER) {
        Ok(_) => {
            if let Err(error) =
                fs::write(runtime.ready(), "").and_then(|()| ready::notify(Readiness::Ready))
            {
                error!("readiness can't be told: {error}");
            }
            info!("ready");
        }
        Err(error) => error!("sshd doesn't answer: {error:#}"),
    });
}
