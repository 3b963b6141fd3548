//! The start: checks the container, and prepares everything for the first connection.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use signal_hook::consts::SIGCHLD;
use tracing::{info, warn};

use super::problems::Problems;
use super::publish::fleet_in_force;
use super::publish::reconcile::Reconciler;
use super::{Message, Options};
use crate::daemon::{privileges, volume};
use crate::sshd::Sshd;
use crate::store::paths::{Runtime, State};
use crate::store::permissions;
use crate::store::permissions::{Rule, RuleSummary};
use crate::{backup, problem};

/// The timeout of a probe, on a small machine under load.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// The delay after each failed probe. Most causes don't go away by themselves, and the administrator waits for the result.
const BACKOFF: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

/// Everything that the container lacks, each with the option that adds it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this container can't serve machines: {}", .0.join("; "))]
struct UnfitContainer(Vec<String>);

/// The products of the start.
pub(super) struct Startup {
    pub(super) state: State,
    pub(super) runtime: Runtime,
    pub(super) sshd: Sshd,
    pub(super) reconciler: Reconciler,
    pub(super) problems: Arc<Problems>,
    /// Locked, because only one appliance at a time may use a state.
    pub(super) lock: File,
}

/// Checks that the container has everything that the appliance needs.
///
/// # Errors
/// [`UnfitContainer`], which names everything that is missing at once.
pub(super) fn check(options: &Options) -> Result<()> {
    let mut faults = privileges::missing()?;
    faults.extend(volume::fault(&options.state, options.ephemeral));
    faults.extend(runtime_fault(&options.runtime));
    faults.extend(Sshd::missing_programs());
    if !faults.is_empty() {
        return Err(UnfitContainer(faults).into());
    }
    if options.ephemeral {
        warn!("nothing needs to be kept: the host key and all reports may be lost at the stop");
    }
    Ok(())
}

fn runtime_fault(runtime: &Path) -> Option<String> {
    let error = fs::create_dir_all(runtime).err()?;
    let parent = runtime.parent().unwrap_or(runtime).display();
    Some(format!(
        "{} can't be made ({error}): run it with --tmpfs={parent}",
        runtime.display()
    ))
}

/// Starts; none after a TERM in the meantime.
///
/// This runs in a thread of its own, which ends with the process at any point: every write to the state may be
/// interrupted.
///
/// # Errors
/// When it can't start. The error has each cause, with advice.
pub(super) fn start(
    options: &Options,
    sender: &Sender<Message>,
    messages: &Receiver<Message>,
) -> Result<Option<Startup>> {
    let (options, sender) = (options.clone(), sender.clone());
    thread::spawn(move || sender.send(Message::Started(Box::new(prepare(&options)))));
    loop {
        match messages.recv()? {
            Message::Started(startup) => return startup.map(Some),
            // There is no reaper yet: the thread waits for its children itself.
            Message::Signal(SIGCHLD) => {}
            Message::Signal(_) => return Ok(None),
            // There are no other messages before there are sessions.
            _ => {}
        }
    }
}

fn prepare(options: &Options) -> Result<Startup> {
    let (state, runtime) = (State::new(&options.state), Runtime::new(&options.runtime));
    let unusable = || format!("{} can't be used", state.root().display());
    mend_permissions(&state, &runtime)?;
    let lock = lock(&state)?;
    backup::finish(&state).with_context(unusable)?;
    let host_keys = fleet_in_force::host_keys(&options.config, &state)?;
    let sshd = Sshd::prepare(&state, &runtime, &host_keys)?;
    wait_for_sshd(&sshd)?;
    let problems = Arc::new(Problems::new(&runtime));
    let reconciler = Reconciler::new(options.config.clone(), state.clone(), Arc::clone(&problems))
        .with_context(unusable)?;
    Ok(Startup {
        state,
        runtime,
        sshd,
        reconciler,
        problems,
        lock,
    })
}

/// Corrects the owners and modes that every machine depends on: sshd would refuse all logins, and only log it.
fn mend_permissions(state: &State, runtime: &Runtime) -> Result<()> {
    let RuleSummary { mended, problems } = permissions::shared(state, runtime, Rule::mend);
    if mended > 0 {
        info!(
            paths = mended,
            "owners or modes were wrong, and were set right"
        );
    }
    ensure!(
        problems.is_empty(),
        "no machine could log in: {}",
        problem::lines(&problems).join("; ")
    );
    Ok(())
}

/// Waits until sshd serves a first connection.
fn wait_for_sshd(sshd: &Sshd) -> Result<()> {
    let mut pauses = BACKOFF.into_iter();
    loop {
        let answer = sshd.configure().and_then(|()| sshd.answer(PROBE_TIMEOUT));
        let Err(error) = answer else { return Ok(()) };
        let Some(pause) = pauses.next() else {
            return Err(error.context(format!(
                "sshd doesn't serve, after {} attempts; if that stays so, the image must be built anew",
                BACKOFF.len() + 1
            )));
        };
        warn!(
            "sshd doesn't serve: {error:#}; it is tried again in {} s",
            pause.as_secs()
        );
        thread::sleep(pause);
    }
}

fn lock(state: &State) -> Result<File> {
    let path = state.lock();
    let file = File::create(&path).with_context(|| {
        format!(
            "{} can't be written: {} must belong to the user who runs podman",
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
