//! The publish loop: reconciles after an event in the fleet folder, and every 30 s.

pub(super) mod accounts;
mod cleanup;
mod debounce;
pub(super) mod fleet_in_force;
mod logins;
mod pass;
pub(super) mod reconcile;
mod removed;
pub(super) mod watcher;

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tracing::warn;

use super::intake::IntakeLoop;
use super::problems::ProblemSource;
use crate::problem::Problem;
use crate::sshd::Sessions;
use crate::store::accounts::Accounts;
use crate::store::change_lock;
use crate::store::paths::Runtime;
use crate::store::permissions::{self, Depth, Rule};
use cleanup::Cleanup;
use logins::Logins;
use reconcile::Reconciler;
use watcher::Watcher;

/// The interval of passes without an event: some filesystems miss events.
const RESCAN: Duration = Duration::from_secs(30);
/// The delay after the first failure; each further one doubles it, up to [`RESCAN`].
const MIN_BACKOFF: Duration = Duration::from_secs(2);
/// The least time between two passes, so that a copy in progress doesn't cause one for each of its files.
const PAUSE: Duration = Duration::from_millis(300);
/// The interval of permission checks: a change from outside of the container causes no event.
const PERMISSION_CHECK: Duration = Duration::from_secs(30);
/// The time after which the appliance is ready without a stable fleet folder.
const READY_GRACE: Duration = Duration::from_secs(10);

/// The result of a pass, which decides when the next one follows.
#[derive(Debug, Default)]
struct PassResult {
    /// Something changes, or sessions have to end first: after the debounce.
    unstable: bool,
    /// The state couldn't be read or written: with backoff.
    failed: bool,
    /// The problems of the state as a whole.
    problems: Vec<Problem>,
}

/// Brings accounts, publications and logins into agreement with the fleet folder.
pub(super) struct PublishLoop {
    reconciler: Reconciler,
    runtime: Runtime,
    logins: Logins,
    cleanup: Cleanup,
    /// None before the first pass.
    permissions_checked: Option<Instant>,
}

impl PublishLoop {
    pub(super) fn new(
        reconciler: Reconciler,
        runtime: Runtime,
        sessions: Sessions,
        intake_loop: Arc<IntakeLoop>,
        shared_accounts: Arc<Mutex<Accounts>>,
    ) -> Self {
        PublishLoop {
            logins: Logins::new(runtime.clone(), sessions.clone(), shared_accounts),
            cleanup: Cleanup::new(reconciler.state.clone(), sessions, intake_loop),
            reconciler,
            runtime,
            permissions_checked: None,
        }
    }

    /// Runs until no more hints can come. Calls `ready` once, after the first publication.
    pub(super) fn run(&mut self, mut watcher: Watcher, hints: &Receiver<()>, ready: impl FnOnce()) {
        let started = Instant::now();
        let mut ready = Some(ready);
        let mut backoff = MIN_BACKOFF;
        loop {
            watcher.renew();
            let PassResult {
                unstable, failed, ..
            } = self.pass();
            let may_be_ready = !unstable || started.elapsed() > READY_GRACE;
            if may_be_ready
                && self.reconciler.fleet().is_some()
                && let Some(ready) = ready.take()
            {
                ready();
            }
            let wait = match (unstable, failed) {
                (true, _) => self.reconciler.settings.debounce(),
                (false, true) => backoff,
                (false, false) => RESCAN,
            };
            // Each attempt may read and write a whole fleet.
            backoff = match (unstable, failed) {
                (false, true) => (backoff * 2).min(RESCAN),
                _ => MIN_BACKOFF,
            };
            std::thread::sleep(PAUSE);
            match hints.recv_timeout(wait) {
                Ok(()) => while hints.try_recv().is_ok() {},
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// One pass over settings, accounts, publications and logins. A problem with one of them stops none of the others.
    fn pass(&mut self) -> PassResult {
        let _changing = change_lock::change(&self.runtime);
        let (now, instant) = (Timestamp::now(), Instant::now());
        let mut result = PassResult::default();
        let folder = self.reconciler.refresh(now, instant, &mut result);
        // Before a machine may log in: a path that is open too far mustn't be seen.
        self.mend_permissions(instant);
        let logins = self.reconciler.logins();
        let accounts = self.reconciler.accounts();
        // Before the publication, which can take a while: a removed machine must be out at once.
        let revoked = self.logins.revoke_others(&logins, accounts);
        if let Some(folder) = folder {
            self.reconciler.publish(&folder, now, instant, &mut result);
        }
        let set = self.logins.set(logins, self.reconciler.accounts());
        result.problems.extend(set.err().or(revoked.err()));
        // Also after a failed publication: old publications may take just the space that is missing.
        let account_manager = &mut self.reconciler.account_manager;
        self.cleanup.run(account_manager, &mut result);
        result.failed |= !result.problems.is_empty();
        let problems = &self.reconciler.problems;
        problems.set(ProblemSource::State, std::mem::take(&mut result.problems));
        problems.write();
        result
    }

    /// Corrects wrong owners and modes: everywhere in the first pass, and later at the top of each chroot. Where that
    /// isn't possible, it is a problem.
    fn mend_permissions(&mut self, now: Instant) {
        let depth = match self.permissions_checked {
            None => Depth::Everything,
            Some(last) if now.duration_since(last) < PERMISSION_CHECK => return,
            Some(_) => Depth::Top,
        };
        self.permissions_checked = Some(now);
        let (state, runtime) = (&self.reconciler.state, &self.runtime);
        let problems = &self.reconciler.problems;
        let shared = permissions::shared(state, runtime, Rule::mend);
        let mut mended = shared.mended;
        problems.set(ProblemSource::Permissions, shared.problems);
        for (name, uid) in self.reconciler.accounts().all() {
            let of_host = permissions::of_host(state, runtime, name, uid, depth, Rule::mend);
            mended += of_host.mended;
            let source = ProblemSource::HostPermissions(name.clone());
            problems.set(source, of_host.problems);
        }
        if mended > 0 {
            warn!(
                paths = mended,
                "owners or modes were wrong, and were set right"
            );
        }
    }
}
