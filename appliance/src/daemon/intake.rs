//! Takes in the reports of machines that are, or just were, connected, and ends the sessions of one that leaves too
//! much.

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
use quota::MOST_FILES;

/// How soon after its upload a report shows in status, while its session is still open.
const ROUND: Duration = Duration::from_secs(1);
/// How often the files of connected machines are counted: what comes in between is what a machine can leave beyond
/// [`MOST_FILES`]. A count takes some 50 µs a machine.
const WATCH: Duration = Duration::from_millis(200);

/// How far the files of an inbox are counted: what is there in addition doesn't change what is done.
const COUNTED: usize = 10_000;

/// What the intake is told.
#[derive(Debug)]
pub(super) enum Notice {
    /// A session of this machine began.
    Opened {
        host: HostName,
        uid: u32,
        session: u64,
    },
    /// A session ended. It may be one that was refused, and its account may be nobody's any more.
    Ended {
        account: Option<(HostName, u32)>,
        session: u64,
    },
    /// Something may lie in its inbox since before.
    Look(HostName),
}

/// Takes in reports: one inbox at a time, whoever asks.
#[derive(Debug)]
pub(super) struct IntakeLoop {
    state: State,
    runtime: Runtime,
    sessions: Sessions,
    /// Who is enrolled.
    directory: Arc<Mutex<Accounts>>,
    problems: Arc<Problems>,
    /// Only one caller at a time may take in for a machine. How much was logged of each is kept here.
    at_work: Mutex<BTreeMap<HostName, LogLimiter>>,
}

impl IntakeLoop {
    pub(super) fn new(
        state: State,
        runtime: Runtime,
        sessions: Sessions,
        directory: Arc<Mutex<Accounts>>,
        problems: Arc<Problems>,
    ) -> Self {
        IntakeLoop {
            state,
            runtime,
            sessions,
            directory,
            problems,
            at_work: Mutex::default(),
        }
    }

    /// Works until nobody can tell it anything any more. One pass over one inbox at a time, and what is told and the
    /// watch in between: no machine keeps the intake from another for long, nor by coming again and again.
    pub(super) fn work(&self, notices: &Receiver<Notice>) {
        let mut agenda = IntakeQueue::new(Instant::now());
        loop {
            let notice = match agenda.leisure(Instant::now()) {
                None => notices.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(leisure) => notices.recv_timeout(leisure),
            };
            match notice {
                Ok(notice) => {
                    self.take_note(notice, &mut agenda);
                    while let Ok(notice) = notices.try_recv() {
                        self.take_note(notice, &mut agenda);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = Instant::now();
            if now >= agenda.next_watch {
                self.watch(&mut agenda);
                agenda.next_watch = Instant::now() + WATCH;
            }
            if now >= agenda.next_round {
                for name in agenda.visits.names() {
                    agenda.enqueue(name);
                }
                agenda.next_round = Instant::now() + ROUND;
            }
            if let Some(name) = agenda.queue.pop_front() {
                let _changing = change_lock::change(&self.runtime);
                self.look_at(&name, &mut agenda);
            }
        }
    }

    fn take_note(&self, notice: Notice, agenda: &mut IntakeQueue) {
        match notice {
            Notice::Opened { host, uid, session } => {
                self.touch_seen(&host, uid);
                agenda.visits.open(host, uid, session);
            }
            Notice::Ended { account, session } => {
                if let Some((host, uid)) = &account {
                    self.touch_seen(host, *uid);
                }
                let visitor = agenda.visits.end(session);
                if let Some(name) = visitor.or(account.map(|(host, _)| host)) {
                    agenda.visits.expect(name.clone());
                    agenda.enqueue(name);
                }
            }
            Notice::Look(name) => {
                agenda.visits.expect(name.clone());
                agenda.enqueue(name);
            }
        }
    }

    /// Ends the sessions of machines that have left too much. What they left is taken in or refused as ever.
    fn watch(&self, agenda: &mut IntakeQueue) {
        for name in agenda.visits.connected() {
            let state = self.state.host(&name);
            let publications = Publications::of(&state);
            let numbers = publications.numbers().unwrap_or_default();
            let waiting = numbers
                .into_iter()
                .map(|number| report::count(&publications.inbox(number), COUNTED))
                .sum();
            let can_be_kept = !agenda.unkept.contains(&name);
            let Some((uid, is_new)) = agenda.visits.weigh(&name, waiting, can_be_kept) else {
                continue;
            };
            if is_new {
                warn!(
                    host = %name,
                    "left more than {MOST_FILES} files while it was connected: its sessions are ended"
                );
            }
            self.sessions.interrupt(uid);
        }
    }

    /// Makes one pass over each inbox of a machine; one without sessions and with nothing left to take in is done.
    fn look_at(&self, name: &HostName, agenda: &mut IntakeQueue) {
        let writers = agenda.visits.writers(name);
        let state = self.state.host(name);
        let (mut more, mut trouble) = (false, None);
        let numbers = Publications::of(&state).numbers().unwrap_or_else(|error| {
            trouble = Some(error);
            Vec::new()
        });
        for number in numbers {
            // What lies in an earlier inbox was said before: while it waits, nothing later is heard.
            if more || trouble.is_some() {
                break;
            }
            match self.take_in(name, number, writers) {
                Ok(intake) => {
                    agenda.visits.removed(name, intake.removed);
                    more = intake.more;
                }
                Err(error) => trouble = Some(error),
            }
        }
        let can_be_kept = trouble.is_none();
        if can_be_kept {
            agenda.unkept.remove(name);
        } else {
            agenda.unkept.insert(name.clone());
        }
        self.set_problem(
            ProblemSource::Inbox(name.clone()),
            name,
            "its reports can't be kept, and wait in its inbox",
            trouble,
        );
        if more {
            agenda.enqueue(name.clone());
        } else if can_be_kept && agenda.visits.finish(name) {
            self.end_silence(name);
        }
    }

    /// Takes in everything from the inbox of a publication that is about to be removed, after what was said before it.
    /// An error if something is left that couldn't be kept.
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
        self.end_silence(name);
        outcome
    }

    /// Takes in what a machine that was removed has said as a whole, in one pass: a session of it may still be there, and
    /// mustn't keep its removal up. Nor may what can't be kept.
    pub(super) fn hear_out(&self, name: &HostName) {
        let numbers = Publications::of(&self.state.host(name)).numbers();
        for number in numbers.unwrap_or_default() {
            if self.take_in(name, number, Writers::Open).is_err() {
                break;
            }
        }
        self.end_silence(name);
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

    /// Does something to the folders of machines while nothing is taken in.
    pub(super) fn while_idle<T>(&self, act: impl FnOnce() -> T) -> T {
        let _one_at_a_time = self.at_work.lock();
        act()
    }

    /// Whether a user id is still this machine's: one that was removed and added again has another, and what is still
    /// going on with the earlier one has nothing to do with it.
    fn is_enrolled(&self, name: &HostName, uid: u32) -> bool {
        let directory = self.directory.lock();
        directory.is_ok_and(|directory| directory.name(uid) == Some(name))
    }

    /// Since when a machine is enrolled. What it says came after that, also where the clock went back since.
    fn enrolled(&self, name: &HostName) -> Timestamp {
        let directory = self.directory.lock();
        let since = directory.map(|directory| directory.get(name).map(|account| account.since));
        since.ok().flatten().unwrap_or(Timestamp::MIN)
    }

    /// Takes in what a pass over an inbox finds.
    fn take_in(
        &self,
        name: &HostName,
        number: u64,
        writers: Writers,
    ) -> io::Result<report::Intake> {
        let mut spoken = self.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.state.host(name);
        let inbox = Publications::of(&state).inbox(number);
        let limiter = spoken.entry(name.clone()).or_default();
        let now = Instant::now();
        let mut refuse = |entry: &str, reason: &str| {
            if limiter.may_write(now) {
                warn!(host = %name, entry, reason, "refused what lay in the inbox");
            }
        };
        let received = Timestamp::now().max(self.enrolled(name));
        let intake = match report::take_in(&inbox, name, &state, writers, received, &mut refuse) {
            Ok(intake) => intake,
            // It went with its publication, perhaps just now, and was emptied before.
            Err(_) if !inbox.is_dir() => report::Intake::default(),
            Err(error) => return Err(only_the_cause(error)),
        };
        let activity = &self.problems.activity;
        activity.reports.add(intake.taken.len() as u64);
        activity.refused.add(intake.refused);
        for record in &intake.taken {
            let generation = record.generation().map(|generation| generation.short());
            if limiter.may_write(now) {
                info!(host = %name, generation, outcome = record.outcome_name(), "reported");
            }
        }
        Ok(intake)
    }

    /// Says how much wasn't said.
    fn end_silence(&self, name: &HostName) {
        let mut spoken = self.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        let kept_back = spoken.get_mut(name).map_or(0, LogLimiter::take_suppressed);
        if kept_back > 0 {
            warn!(host = %name, "… and {kept_back} more that it left, refused or taken in");
        }
    }

    /// A contact that lies ahead was noted while the clock was wrong. It counts as one of now: a machine that never comes
    /// again becomes silent all the same.
    pub(super) fn correct_contact(&self, name: &HostName) -> io::Result<()> {
        let path = self.state.host(name).seen();
        let now = SystemTime::now();
        match std::fs::metadata(&path).and_then(|data| data.modified()) {
            Ok(seen) if seen > now => File::options().append(true).open(&path)?.set_modified(now),
            _ => Ok(()),
        }
    }

    fn touch_seen(&self, name: &HostName, uid: u32) {
        let _one_at_a_time = self.at_work.lock();
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
        // A machine that was just removed has no folder any more.
        let error = touch()
            .err()
            .filter(|error| error.kind() != io::ErrorKind::NotFound);
        self.set_problem(
            ProblemSource::Contact(name.clone()),
            name,
            "its contacts can't be noted",
            error,
        );
    }
}

/// What is told besides is known to whoever tells of it.
fn only_the_cause(error: anyhow::Error) -> io::Error {
    error
        .downcast()
        .unwrap_or_else(|error| io::Error::other(format!("{error:#}")))
}

#[cfg(test)]
mod tests;
