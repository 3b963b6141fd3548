//! Reports of machines, through the real intake, and the status that follows.

mod life;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use bento_protocol::{Outcome, Report, ReportName};
use jiff::{SignedDuration, ToSpan};

use super::*;
use crate::daemon::publish::accounts::AccountManager;
use crate::fixture::Kept;
use crate::publication::published::Published;
use crate::report::fixture::{failure, generation, packed, report};
use crate::status::{HostStatus, MachineStatus, Status};
use crate::store::atomic_file;

const FLEET: &str = "[defaults]\nsilent_after = \"1h\"\n[hosts.kikimora]\n";

fn name() -> HostName {
    "kikimora".parse().unwrap()
}

/// An appliance without a network: its state, its accounts, and its intake.
struct Appliance {
    kept: Kept,
    intake_loop: IntakeLoop,
    account_manager: AccountManager,
    accounts: Arc<Mutex<Accounts>>,
    queue: IntakeQueue,
    /// The inboxes that can't be opened.
    obstructed: BTreeSet<u64>,
    published: u64,
    sessions: u64,
}

impl Appliance {
    /// With one machine, for which nothing is published yet.
    fn new() -> Self {
        let kept = Kept::in_memory(FLEET);
        fs::create_dir(kept.state.hosts()).unwrap();
        let problems = Arc::new(Problems::new(&kept.runtime));
        let account_manager =
            AccountManager::new(kept.state.clone(), Arc::clone(&problems)).unwrap();
        let accounts = Arc::new(Mutex::new(account_manager.accounts().clone()));
        let (state, runtime, sessions) =
            (kept.state.clone(), kept.runtime.clone(), Sessions::none());
        let intake_loop =
            IntakeLoop::new(state, runtime, sessions, Arc::clone(&accounts), problems);
        let mut appliance = Appliance {
            kept,
            intake_loop,
            account_manager,
            accounts,
            queue: IntakeQueue::new(Instant::now()),
            obstructed: BTreeSet::new(),
            published: 0,
            sessions: 0,
        };
        appliance.enrol(FLEET, Timestamp::now());
        appliance
    }

    fn folder(&self) -> crate::store::paths::HostState {
        self.kept.state.host(&name())
    }

    /// Adds and removes accounts by these settings, by a clock that shows this time.
    fn enrol(&mut self, tables: &str, now: Timestamp) {
        self.kept.set(tables);
        let fleet = atomic_file::read_json(&self.kept.state.fleet())
            .unwrap()
            .unwrap();
        let removed = self.account_manager.enrol(&fleet, |_| None, now).unwrap();
        *self.accounts.lock().unwrap() = self.account_manager.accounts().clone();
        for name in removed {
            let folder = self.kept.state.host(&name).root().to_owned();
            self.intake_loop
                .while_paused(|| fs::remove_dir_all(folder))
                .unwrap();
            self.published = 0;
            self.obstructed.clear();
        }
    }

    /// Publishes as [`Publications`] does, and returns the number.
    fn publish(&mut self, digit: char) -> u64 {
        self.published += 1;
        let publication = self
            .folder()
            .publications()
            .join(self.published.to_string());
        fs::create_dir_all(publication.join("chroot/logs")).unwrap();
        let published = Published::new(generation(digit), Timestamp::now());
        atomic_file::write_json(&publication.join("published.json"), &published).unwrap();
        let current = self.folder().current();
        let aside = atomic_file::aside(&current);
        symlink(publication.join("chroot"), &aside).unwrap();
        fs::rename(aside, current).unwrap();
        self.published
    }

    fn inbox(&self, number: u64) -> PathBuf {
        let inbox = Publications::of(&self.folder()).inbox(number);
        match self.obstructed.contains(&number) {
            true => inbox.with_extension("away"),
            false => inbox,
        }
    }

    /// Makes an inbox unreadable, or readable again.
    fn obstruct(&mut self, number: u64, obstructed: bool) {
        let inbox = Publications::of(&self.folder()).inbox(number);
        let away = inbox.with_extension("away");
        if obstructed && self.obstructed.insert(number) {
            fs::rename(&inbox, &away).unwrap();
            symlink(&away, &inbox).unwrap();
        } else if !obstructed && self.obstructed.remove(&number) {
            fs::remove_file(&inbox).unwrap();
            fs::rename(&away, &inbox).unwrap();
        }
    }

    /// Leaves a file in an inbox, written by a disk's clock that shows this time.
    fn leave(&self, number: u64, file: &str, content: &[u8], at: SystemTime) {
        let path = self.inbox(number).join(file);
        fs::write(&path, content).unwrap();
        let file = File::options().append(true).open(path).unwrap();
        file.set_modified(at).unwrap();
    }

    fn report(&self, number: u64, report: &Report, at: SystemTime) {
        let (run, attempt) = (report.run, 1);
        let name = ReportName { run, attempt }.to_string();
        self.leave(number, &name, &packed(report), at);
    }

    /// Begins a session of the machine, and returns its number.
    fn open(&mut self) -> u64 {
        self.sessions += 1;
        let uid = self.account_manager.accounts().get(&name()).unwrap().uid;
        let session = self.sessions;
        let notice = Notice::Opened {
            host: name(),
            uid,
            session,
        };
        self.intake_loop.handle(notice, &mut self.queue);
        session
    }

    fn close(&mut self, session: u64) {
        let account = None;
        self.intake_loop
            .handle(Notice::Ended { account, session }, &mut self.queue);
    }

    /// Takes in all reports.
    fn take_in_all(&mut self) {
        let notice = Notice::Check(name());
        self.intake_loop.handle(notice, &mut self.queue);
        while let Some(name) = self.queue.waiting.pop_front() {
            self.intake_loop.take_in_all(&name, &mut self.queue);
        }
    }

    fn status_at(&self, now: Timestamp) -> Option<MachineStatus> {
        let status = Status::read(&self.kept.state, &self.kept.runtime, now).unwrap();
        status.hosts.into_iter().next()
    }

    fn status(&self) -> MachineStatus {
        self.status_at(Timestamp::now()).unwrap()
    }
}

#[test]
fn later_reports_wait_while_earlier_ones_can_not_be_read() {
    let mut appliance = Appliance::new();
    let first = appliance.publish('a');
    appliance.report(first, &report('a'), SystemTime::now());
    let second = appliance.publish('b');
    appliance.report(second, &report('b'), SystemTime::now());
    let third = appliance.publish('a');
    appliance.obstruct(first, true);
    appliance.take_in_all();
    let status = appliance.status();
    assert_eq!((status.state, status.runs), (HostStatus::New, 0));
    assert!(status.error.unwrap().contains("wait in its inbox"));
    assert!(appliance.intake_loop.empty(&name(), second).is_err());
    appliance.obstruct(first, false);
    appliance.take_in_all();
    let status = appliance.status();
    assert_eq!(
        (status.state, status.runs),
        (HostStatus::RebuildPending, 2),
        "it runs the second one"
    );
    appliance.report(third, &report('a'), SystemTime::now());
    appliance.take_in_all();
    assert_eq!(appliance.status().state, HostStatus::UpToDate);
}

#[test]
fn reports_of_more_than_one_pass_are_taken_in_before_later_ones() {
    let mut appliance = Appliance::new();
    let first = appliance.publish('a');
    let start = SystemTime::now();
    for number in 0..40 {
        let at = start + Duration::from_millis(number);
        let report = match number {
            39 => report('a'),
            _ => failure('a', Outcome::BuildFailed, '0'),
        };
        appliance.report(first, &report, at);
    }
    let second = appliance.publish('b');
    appliance.report(second, &report('b'), start);
    appliance.publish('a');
    appliance.take_in_all();
    let status = appliance.status();
    assert_eq!(status.runs, 41);
    assert_eq!(
        status.state,
        HostStatus::RebuildPending,
        "it runs the second one"
    );
}

#[test]
fn an_inbox_that_is_emptied_before_its_removal_comes_after_earlier_ones() {
    let mut appliance = Appliance::new();
    let first = appliance.publish('a');
    appliance.report(first, &report('a'), SystemTime::now());
    let second = appliance.publish('b');
    appliance.report(second, &report('b'), SystemTime::now());
    appliance.publish('a');
    // A session of the machine is still in the first one.
    appliance.open();
    appliance.intake_loop.empty(&name(), second).unwrap();
    appliance.take_in_all();
    assert_eq!(appliance.status().state, HostStatus::RebuildPending);
}

#[test]
fn reports_of_a_machine_enrolled_by_a_clock_that_was_ahead_count() {
    let mut appliance = Appliance::new();
    appliance.enrol("", Timestamp::now());
    let ahead = Timestamp::now() + 1.hours();
    appliance.enrol(FLEET, ahead);
    let number = appliance.publish('a');
    let session = appliance.open();
    appliance.report(number, &report('a'), SystemTime::now());
    appliance.close(session);
    appliance.take_in_all();
    let status = appliance.status();
    assert_eq!((status.state, status.runs), (HostStatus::UpToDate, 1));
    assert!(status.seen.is_some());
    // The clock reaches that time again, and nothing was reported since.
    let later = appliance.status_at(ahead + 1.minutes()).unwrap();
    assert_eq!(later.state, HostStatus::UpToDate);
}

#[test]
fn a_contact_by_a_clock_that_was_ahead_keeps_no_machine_from_becoming_silent() {
    let mut appliance = Appliance::new();
    appliance.publish('a');
    let session = appliance.open();
    appliance.close(session);
    let year = SignedDuration::from_hours(365 * 24);
    let seen = File::options().append(true).open(appliance.folder().seen());
    let ahead = SystemTime::from(Timestamp::now() + year);
    seen.unwrap().set_modified(ahead).unwrap();
    appliance.intake_loop.correct_contact(&name()).unwrap();
    let silent = |after| {
        let now = Timestamp::now() + after;
        appliance.status_at(now).unwrap().silent
    };
    assert_eq!(silent(59.minutes()), Some(false));
    assert_eq!(silent(61.minutes()), Some(true));
}

#[test]
fn an_inbox_that_was_just_removed_with_its_publication_is_no_error() {
    let mut appliance = Appliance::new();
    let number = appliance.publish('a');
    let take_in = |appliance: &Appliance| {
        appliance
            .intake_loop
            .take_in(&name(), number, Writers::None)
    };
    assert!(take_in(&appliance).is_ok());
    // An inbox that exists and can't be opened is one.
    let inbox = appliance.inbox(number);
    fs::remove_dir(&inbox).unwrap();
    symlink(std::env::temp_dir(), &inbox).unwrap();
    assert!(take_in(&appliance).is_err());
    fs::remove_file(&inbox).unwrap();
    assert!(take_in(&appliance).is_ok());
}
