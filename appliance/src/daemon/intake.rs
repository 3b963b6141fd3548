//! The intake: takes in the reports of machines that are, or just were, connected, and ends the sessions of a machine
//! beyond its quota.

mod queue;
pub(super) mod quota;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bento_protocol::HostName;
use jiff::Timestamp;
use tracing::{info, warn};

use super::problems::{ProblemSource, Problems};
use crate::problem::Problem;
use crate::publication::Publications;
use crate::report::{self, Writers};
use crate::sshd::Sessions;
use crate::store::accounts::Accounts;
use crate::store::change_lock;
use crate::store::paths::{Runtime, State};
use crate::text::log_limiter::LogLimiter;
use queue::IntakeQueue;
use quota::MAX_FILES;

/// The interval between two passes over the inbox of a connected machine: a report shows in status after that time.
const PASS_INTERVAL: Duration = Duration::from_secs(1);
/// The interval between two counts of the files of connected machines: only in between can a machine leave more than
/// [`MAX_FILES`]. A count takes some 50 µs a machine.
const COUNT_INTERVAL: Duration = Duration::from_millis(200);

/// The most files of an inbox that are counted; more change nothing.
const MAX_COUNT: usize = 10_000;

/// A message to the intake.
#[derive(Debug)]
pub(super) enum Notice {
    /// A session of this machine began.
    Opened {
        host: HostName,
        uid: u32,
        session: u64,
    },
    /// A session ended. It may have been refused, and its account may be gone.
    Ended {
        account: Option<(HostName, u32)>,
        session: u64,
    },
    /// The inbox of this machine may hold reports.
    Check(HostName),
}

/// Takes in reports, from one inbox at a time.
#[derive(Debug)]
pub(super) struct IntakeLoop {
    state: State,
    runtime: Runtime,
    sessions: Sessions,
    /// The accounts, shared with the publish loop.
    accounts: Arc<Mutex<Accounts>>,
    problems: Arc<Problems>,
    /// The log limiter of each machine. Locked by a caller that takes in reports: there may be one at a time.
    limiters: Mutex<BTreeMap<HostName, LogLimiter>>,
}

impl IntakeLoop {
    pub(super) fn new(
        state: State,
        runtime: Runtime,
        sessions: Sessions,
        accounts: Arc<Mutex<Accounts>>,
        problems: Arc<Problems>,
    ) -> Self {
        IntakeLoop {
            state,
            runtime,
            sessions,
            accounts,
            problems,
            limiters: Mutex::default(),
        }
    }

    /// Runs until no more messages can come. It makes one pass over one inbox at a time, with messages and counts in
    /// between: no machine keeps the intake from another for long, nor by connecting again and again.
    pub(super) fn run(&self, notices: &Receiver<Notice>) {
        let mut queue = IntakeQueue::new(Instant::now());
        loop {
            let notice = match queue.idle_time(Instant::now()) {
                None => notices.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(idle_time) => notices.recv_timeout(idle_time),
            };
            match notice {
                Ok(notice) => {
                    self.handle(notice, &mut queue);
                    while let Ok(notice) = notices.try_recv() {
                        self.handle(notice, &mut queue);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = Instant::now();
            if now >= queue.next_count {
                self.enforce_quotas(&mut queue);
                queue.next_count = Instant::now() + COUNT_INTERVAL;
            }
            if now >= queue.next_pass {
                for name in queue.quotas.names() {
                    queue.enqueue(name);
                }
                queue.next_pass = Instant::now() + PASS_INTERVAL;
            }
            if let Some(name) = queue.waiting.pop_front() {
                let _changing = change_lock::change(&self.runtime);
                self.take_in_all(&name, &mut queue);
            }
        }
    }

    fn handle(&self, notice: Notice, queue: &mut IntakeQueue) {
        match notice {
            Notice::Opened { host, uid, session } => {
                self.touch_seen(&host, uid);
                queue.quotas.open(host, uid, session);
            }
            Notice::Ended { account, session } => {
                if let Some((host, uid)) = &account {
                    self.touch_seen(host, *uid);
                }
                let visitor = queue.quotas.end(session);
                if let Some(name) = visitor.or(account.map(|(host, _)| host)) {
                    queue.quotas.expect(name.clone());
                    queue.enqueue(name);
                }
            }
            Notice::Check(name) => {
                queue.quotas.expect(name.clone());
                queue.enqueue(name);
            }
        }
    }

    /// Ends the sessions of machines beyond their quota. Their files are taken in or refused as always.
    fn enforce_quotas(&self, queue: &mut IntakeQueue) {
        for name in queue.quotas.connected() {
            let state = self.state.host(&name);
            let publications = Publications::of(&state);
            let numbers = publications.numbers().unwrap_or_default();
            let waiting = numbers
                .into_iter()
                .map(|number| report::count(&publications.inbox(number), MAX_COUNT))
                .sum();
            let can_store = !queue.unstored.contains(&name);
            let Some((uid, is_new)) = queue.quotas.check(&name, waiting, can_store) else {
                continue;
            };
            if is_new {
                warn!(
                    host = %name,
                    "left more than {MAX_FILES} files while it was connected: its sessions are ended"
                );
            }
            self.sessions.interrupt(uid);
        }
    }

    /// Makes one pass over each inbox of a machine. A machine without sessions and with empty inboxes is done.
    fn take_in_all(&self, name: &HostName, queue: &mut IntakeQueue) {
        let writers = queue.quotas.writers(name);
        let state = self.state.host(name);
        let (mut more, mut failure) = (false, None);
        let numbers = Publications::of(&state).numbers().unwrap_or_else(|error| {
            failure = Some(error);
            Vec::new()
        });
        for number in numbers {
            // The reports of an earlier inbox are older: while they wait, later ones do, too.
            if more || failure.is_some() {
                break;
            }
            match self.take_in(name, number, writers) {
                Ok(intake) => {
                    queue.quotas.removed(name, intake.removed);
                    more = intake.more;
                }
                Err(error) => failure = Some(error),
            }
        }
        let can_store = failure.is_none();
        if can_store {
            queue.unstored.remove(name);
        } else {
            queue.unstored.insert(name.clone());
        }
        self.set_problem(
            ProblemSource::Inbox(name.clone()),
            name,
            "its reports can't be kept, and wait in its inbox",
            failure,
        );
        if more {
            queue.enqueue(name.clone());
        } else if can_store && queue.quotas.finish(name) {
            self.log_suppressed(name);
        }
    }

    /// Takes in everything from the inbox of a publication that is about to be removed, and from earlier inboxes before
    /// that. An error if a report remains that couldn't be kept.
    pub(super) fn empty(&self, name: &HostName, number: u64) -> io::Result<()> {
        let state = self.state.host(name);
        let mut inboxes = Publications::of(&state).numbers()?;
        inboxes.retain(|inbox| *inbox <= number);
        let outcome = inboxes.into_iter().try_for_each(|inbox| {
            let writers = if inbox == number {
                Writers::None
            } else {
                Writers::Open
            };
            while self.take_in(name, inbox, writers)?.more {}
            Ok(())
        });
        self.log_suppressed(name);
        outcome
    }

    /// Takes in the complete reports of a removed machine, in one pass. Neither an open session nor a report that can't be
    /// kept delays the removal.
    pub(super) fn take_in_once(&self, name: &HostName) {
        let numbers = Publications::of(&self.state.host(name)).numbers();
        for number in numbers.unwrap_or_default() {
            if self.take_in(name, number, Writers::Open).is_err() {
                break;
            }
        }
        self.log_suppressed(name);
    }

    fn set_problem(
        &self,
        source: ProblemSource,
        name: &HostName,
        what: &str,
        error: Option<io::Error>,
    ) {
        let problem =
            error.map(|error| Problem::of_state(self.state.root(), what, &error).of(name));
        self.problems.set(source, problem.into_iter().collect());
        self.problems.write();
    }

    /// Calls a function, which may change the folders of machines, while nothing is taken in.
    pub(super) fn while_paused<T>(&self, act: impl FnOnce() -> T) -> T {
        let _paused = self.limiters.lock();
        act()
    }

    /// Whether a user id is still this machine's. A machine that was removed and added again may have another one, and
    /// nothing to do with the sessions of the earlier one.
    fn is_enrolled(&self, name: &HostName, uid: u32) -> bool {
        let accounts = self.accounts.lock();
        accounts.is_ok_and(|accounts| accounts.name(uid) == Some(name))
    }

    /// The time at which a machine was enrolled. Its reports came later, also if the clock was set back since.
    fn enrolled(&self, name: &HostName) -> Timestamp {
        let accounts = self.accounts.lock();
        let since = accounts.map(|accounts| accounts.get(name).map(|account| account.since));
        since.ok().flatten().unwrap_or(Timestamp::MIN)
    }

    /// Makes one pass over an inbox.
    fn take_in(
        &self,
        name: &HostName,
        number: u64,
        writers: Writers,
    ) -> io::Result<report::Intake> {
        let mut limiters = self.limiters.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.state.host(name);
        let inbox = Publications::of(&state).inbox(number);
        let limiter = limiters.entry(name.clone()).or_default();
        let now = Instant::now();
        let mut refuse = |entry: &str, reason: &str| {
            if limiter.may_write(now) {
                warn!(host = %name, entry, reason, "refused an entry of the inbox");
            }
        };
        let received = Timestamp::now().max(self.enrolled(name));
        let intake = match report::take_in(&inbox, name, &state, writers, received, &mut refuse) {
            Ok(intake) => intake,
            // It was emptied and removed with its publication, perhaps just now.
            Err(_) if !inbox.is_dir() => report::Intake::default(),
            Err(error) => return Err(only_the_cause(error)),
        };
        let counters = &self.problems.counters;
        counters.reports.add(intake.taken.len() as u64);
        counters.refused.add(intake.refused);
        for record in &intake.taken {
            let generation = record.generation().map(|generation| generation.short());
            if limiter.may_write(now) {
                info!(host = %name, generation, outcome = record.outcome_name(), "reported");
            }
        }
        Ok(intake)
    }

    /// Logs the number of suppressed log lines.
    fn log_suppressed(&self, name: &HostName) {
        let mut limiters = self.limiters.lock().unwrap_or_else(PoisonError::into_inner);
        let suppressed = limiters
            .get_mut(name)
            .map_or(0, LogLimiter::take_suppressed);
        if suppressed > 0 {
            warn!(host = %name, "… and {suppressed} more entries of the inbox, refused or taken in");
        }
    }

    /// Replaces a contact in the future by one of now: it was recorded while the clock was wrong, and a machine that never
    /// connects again must become silent all the same.
    pub(super) fn correct_contact(&self, name: &HostName) -> io::Result<()> {
        let path = self.state.host(name).seen();
        let now = SystemTime::now();
        match std::fs::metadata(&path).and_then(|data| data.modified()) {
            Ok(seen) if seen > now => File::options().append(true).open(&path)?.set_modified(now),
            _ => Ok(()),
        }
    }

    fn touch_seen(&self, name: &HostName, uid: u32) {
        let _paused = self.limiters.lock();
        if !self.is_enrolled(name, uid) {
            return;
        }
        let path = self.state.host(name).seen();
        let touch = || {
            File::options()
                .create(true)
                .append(true)
                .open(&path)?
                .set_modified(SystemTime::now())
        };
        // The folder of a machine that was just removed is gone.
        let error = touch()
            .err()
            .filter(|error| error.kind() != io::ErrorKind::NotFound);
        self.set_problem(
            ProblemSource::Contact(name.clone()),
            name,
            "its contacts can't be recorded",
            error,
        );
    }
}

/// The I/O error without its context, which the caller adds itself.
fn only_the_cause(error: anyhow::Error) -> io::Error {
    error
        .downcast()
        .unwrap_or_else(|error| io::Error::other(format!("{error:#}")))
}

#[cfg(test)]
mod tests;
