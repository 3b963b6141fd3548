//! The summary: the part of a machine's reports that status needs, in one small file.

use std::collections::BTreeSet;
use std::io;

use bento_protocol::{Digest, Format, GenerationId};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Record, RetentionLimits, Store};
use crate::store::atomic_file;
use crate::store::paths::HostState;

/// The summary of a machine's reports. All but [`Self::refused`] can be rebuilt from the store.
///
/// Its records are brief ones, see [`Record::brief`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The version of this document.
    pub format: Format,
    /// The sequence number of the next report.
    pub next: u64,
    /// The number of kept reports.
    pub kept: u64,
    /// The number of reports that were removed by the limits.
    pub dropped: u64,
    /// The number of refused entries of the inbox.
    pub refused: u64,
    /// The newest report.
    pub newest: Option<Record>,
    /// The newest report that isn't a failed self-update: it decides the machine's state.
    pub standing: Option<Record>,
    /// The newest report of a success.
    pub succeeded: Option<Record>,
    /// The newest report of a success with the built system running.
    pub confirmed: Option<Record>,
    /// The machines that reported with this key, alternately, the newest last; empty if reports don't name them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    machines: Vec<MachinePeriod>,
}

/// A period of reports of one machine, between those of others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct MachinePeriod {
    machine: Digest,
    /// The time of its last report.
    last: Timestamp,
}

/// The number of periods that are kept: enough for some copies of one disk.
const MAX_PERIODS: usize = 8;
/// The time after which a machine that no longer reports doesn't count as a twin.
const TWIN_AGE: SignedDuration = SignedDuration::from_hours(7 * 24);

impl Default for Summary {
    fn default() -> Self {
        Summary {
            format: Format,
            next: 1,
            kept: 0,
            dropped: 0,
            refused: 0,
            newest: None,
            standing: None,
            succeeded: None,
            confirmed: None,
            machines: Vec::new(),
        }
    }
}

impl Summary {
    /// Reads a machine's summary without writing; if the file is missing or damaged, rebuilds it from the store. Empty for a
    /// machine that never reported.
    pub fn read(keep: &HostState) -> io::Result<Self> {
        match atomic_file::read_json(&keep.summary()) {
            Ok(Some(summary)) => Ok(summary),
            Ok(None) if !keep.reports().exists() => Ok(Summary::default()),
            _ => Summary::default().rebuilt(&Store::read(keep, RetentionLimits::default())?),
        }
    }

    /// Reads a machine's summary and brings it up to date with its store: a crash can leave it a step behind.
    pub(super) fn reconcile(keep: &HostState, store: &Store) -> io::Result<Self> {
        let summary: Summary = match atomic_file::read_json(&keep.summary()) {
            Ok(summary) => summary.unwrap_or_default(),
            Err(error) => {
                tracing::warn!(summary = %keep.summary().display(), %error, "the summary can't be read: rebuilt");
                Summary::default()
            }
        };
        match store.newest() {
            Some(newest) if newest >= summary.next => summary.rebuilt(store),
            _ => Ok(summary),
        }
    }

    /// The summary of the store, with this one's count of refused entries.
    fn rebuilt(&self, store: &Store) -> io::Result<Self> {
        let mut rebuilt = Summary {
            refused: self.refused,
            ..Summary::default()
        };
        for record in store.records() {
            rebuilt.add(&record);
        }
        // An unreadable record still has its number.
        rebuilt.next = rebuilt
            .next
            .max(store.newest().map_or(1, |newest| newest + 1))
            .max(self.next);
        rebuilt.count(store);
        Ok(rebuilt)
    }

    /// Adds a report; they must come in the order of their sequence.
    pub(crate) fn add(&mut self, record: &Record) {
        let brief = record.brief();
        self.add_machine(record);
        self.next = record.sequence + 1;
        if record.is_success() || !record.is_auto() {
            self.standing = Some(brief.clone());
        }
        if record.is_success() {
            self.succeeded = Some(brief.clone());
            if record.runs_what_it_built() {
                self.confirmed = Some(brief.clone());
            }
        }
        self.newest = Some(brief);
    }

    fn add_machine(&mut self, record: &Record) {
        let Some(machine) = record.machine() else {
            return;
        };
        let last = record.received;
        match self.machines.last_mut() {
            Some(period) if period.machine == machine => period.last = last,
            _ => self.machines.push(MachinePeriod { machine, last }),
        }
        let surplus = self.machines.len().saturating_sub(MAX_PERIODS);
        self.machines.drain(..surplus);
    }

    /// Whether several machines report with one key: one has reported before and after another. A machine that was installed
    /// anew never does that. False again once only one of them has reported for a week.
    pub fn has_twin(&self, now: Timestamp) -> bool {
        let Some((newest, before)) = self.machines.split_last() else {
            return false;
        };
        let mut seen = BTreeSet::new();
        let came_back = !self
            .machines
            .iter()
            .all(|period| seen.insert(period.machine));
        let others = before
            .iter()
            .filter(|period| period.machine != newest.machine);
        let last = others.map(|period| period.last).max();
        came_back && last.is_some_and(|last| now.duration_since(last) < TWIN_AGE)
    }

    /// Sets the counts by the store: each missing number was removed.
    pub(super) fn count(&mut self, store: &Store) {
        self.kept = store.len() as u64;
        self.dropped = (self.next - 1).saturating_sub(self.kept);
    }

    /// The numbers of the reports that the store must keep at any age, so that this summary can be rebuilt.
    pub(super) fn essential(&self) -> [Option<u64>; 4] {
        let number = |record: &Option<Record>| record.as_ref().map(|record| record.sequence);
        [
            number(&self.newest),
            number(&self.standing),
            number(&self.succeeded),
            number(&self.confirmed),
        ]
    }

    /// Writes it to the state.
    pub(super) fn write(&self, keep: &HostState) -> io::Result<()> {
        atomic_file::write_json(&keep.summary(), self)
    }

    /// The number of reported runs.
    pub fn runs(&self) -> u64 {
        self.next - 1
    }

    /// The report that decides the machine's state: a failed self-update counts only if there is no other.
    pub fn judged(&self) -> Option<&Record> {
        self.standing.as_ref().or(self.newest.as_ref())
    }

    /// The last generation that the machine was known to run, and the last one that it installed.
    pub fn installed(&self) -> Vec<GenerationId> {
        let records = [&self.confirmed, &self.succeeded];
        let generations = records.into_iter().flatten().filter_map(Record::generation);
        generations.collect()
    }

    /// The summary without reports from before a time: a name that is enrolled again begins anew.
    #[must_use]
    pub fn since(mut self, time: Timestamp) -> Self {
        for record in [
            &mut self.newest,
            &mut self.standing,
            &mut self.succeeded,
            &mut self.confirmed,
        ] {
            record.take_if(|record| record.received < time);
        }
        self.machines.retain(|period| period.last >= time);
        self
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bento_protocol::{Outcome, Report, Systems};

    use super::*;
    use crate::report::fixture::{Machine, failure, record, report, second, system};

    /// Adds reports as a pass over the inbox does.
    fn keep(machine: &Machine, reports: &[Report], limits: RetentionLimits) -> Summary {
        let mut store = Store::open(&machine.keep, limits).unwrap();
        let mut summary = Summary::reconcile(&machine.keep, &store).unwrap();
        for report in reports {
            let record = record(summary.next, report.clone());
            store.add(&record, &report.run.to_string(), b"").unwrap();
            summary.add(&record);
            store.prune(&summary.essential()).unwrap();
        }
        summary.count(&store);
        summary
    }

    fn sequence(record: &Option<Record>) -> u64 {
        record.as_ref().unwrap().sequence
    }

    /// A success, one that waits for a reboot, then failures of the machine's own updates.
    fn history() -> Vec<Report> {
        let staged = Report {
            outcome: Outcome::Staged,
            system: Systems {
                built: Some(system("b")),
                running: Some(system("a")),
                ..Systems::default()
            },
            ..report('b')
        };
        let auto = Report {
            auto: true,
            ..failure('b', Outcome::BuildFailed, 'a')
        };
        let mut history = vec![report('0'), report('a'), staged];
        history.push(failure('c', Outcome::BuildFailed, 'a'));
        history.extend((0..8).map(|_| Report {
            run: bento_protocol::RunId::now(),
            ..auto.clone()
        }));
        history
    }

    #[test]
    fn it_has_the_reports_that_matter() {
        let machine = Machine::new();
        let summary = keep(&machine, &history(), RetentionLimits::default());
        assert_eq!(sequence(&summary.confirmed), 2);
        assert_eq!(sequence(&summary.succeeded), 3);
        assert_eq!(sequence(&summary.standing), 4);
        assert_eq!(sequence(&summary.newest), 12);
        assert_eq!((summary.runs(), summary.kept, summary.dropped), (12, 12, 0));
    }

    #[test]
    fn it_can_be_rebuilt_from_the_store_also_when_old_reports_are_gone() {
        let machine = Machine::new();
        let summary = keep(
            &machine,
            &history(),
            RetentionLimits {
                reports: 5,
                bytes: 1 << 20,
            },
        );
        assert_eq!((summary.kept, summary.dropped), (5, 7));
        assert_eq!(Summary::read(&machine.keep).unwrap(), summary, "missing");
        fs::write(machine.keep.summary(), "{").unwrap();
        assert_eq!(Summary::read(&machine.keep).unwrap(), summary, "damaged");
    }

    #[test]
    fn an_old_one_after_a_crash_is_brought_up_to_date() {
        let machine = Machine::new();
        let behind = keep(&machine, &history()[..2], RetentionLimits::default());
        Summary {
            refused: 7,
            ..behind
        }
        .write(&machine.keep)
        .unwrap();
        let summary = keep(&machine, &history()[2..], RetentionLimits::default());
        let store = Store::read(&machine.keep, RetentionLimits::default()).unwrap();
        let caught_up = Summary::reconcile(&machine.keep, &store).unwrap();
        assert_eq!(caught_up, summary);
        assert_eq!(caught_up.refused, 7);
    }

    #[test]
    fn a_number_is_never_used_twice() {
        let machine = Machine::new();
        let summary = keep(&machine, &history(), RetentionLimits::default());
        summary.write(&machine.keep).unwrap();
        fs::remove_dir_all(machine.keep.reports()).unwrap();
        let store = Store::open(&machine.keep, RetentionLimits::default()).unwrap();
        assert_eq!(Summary::reconcile(&machine.keep, &store).unwrap().next, 13);
    }

    #[test]
    fn a_machine_that_never_reported_has_an_empty_one() {
        let machine = Machine::new();
        assert_eq!(Summary::read(&machine.keep).unwrap(), Summary::default());
        assert!(!machine.keep.reports().exists());
    }

    #[test]
    fn reports_from_before_the_account_are_of_another_machine() {
        let machine = Machine::new();
        let summary = keep(&machine, &history(), RetentionLimits::default());
        let later = summary.clone().since(second(4));
        assert_eq!(
            (later.confirmed.is_none(), later.succeeded.is_none()),
            (true, true)
        );
        assert_eq!(sequence(&later.standing), 4);
        assert!(summary.since(second(13)).judged().is_none());
    }

    // Issue 10, line 29.
    #[test]
    fn two_machines_with_one_key_alternate_and_one_that_is_installed_anew_does_not() {
        let day = |day: i64| second(day * 86_400);
        let summary_of = |machines: &[(char, i64)]| {
            let mut summary = Summary::default();
            for (machine, at) in machines {
                let sent = Report {
                    machine: (*machine != '-').then(|| Digest::of(machine.to_string())),
                    ..report('a')
                };
                let mut record = record(summary.next, sent);
                record.received = day(*at);
                summary.add(&record);
            }
            summary
        };
        let silent = [
            &[('a', 0), ('a', 1), ('b', 1), ('b', 2)][..],
            &[('a', 0), ('b', 1), ('c', 2)],
            &[('-', 0), ('a', 1), ('-', 2), ('a', 3)],
            &[],
        ];
        for reports in silent {
            assert!(!summary_of(reports).has_twin(day(3)), "{reports:?}");
        }
        let twins = summary_of(&[('a', 0), ('b', 1), ('a', 2)]);
        assert!(twins.has_twin(day(3)));
        // The copy got a key of its own.
        let alone = summary_of(&[('a', 0), ('b', 1), ('a', 2), ('a', 5), ('a', 8)]);
        assert!(alone.has_twin(day(7)) && !alone.has_twin(day(9)));
        let three = summary_of(&[('a', 0), ('b', 0), ('c', 0), ('a', 1), ('b', 1), ('c', 1)]);
        assert!(three.has_twin(day(2)));
        let many: Vec<_> = (0..1000).map(|turn| (['a', 'b'][turn % 2], 0)).collect();
        let many = summary_of(&many);
        assert!(many.has_twin(day(1)) && many.machines.len() == MAX_PERIODS);
        assert!(!many.since(day(1)).has_twin(day(1)), "another machine's");
    }

    #[test]
    fn a_machine_cannot_make_it_large() {
        let machine = Machine::new();
        let large = "\u{10ffff}\u{1b}".repeat(10_000);
        let hostile = Report {
            error: Some(large.clone()),
            client: large.clone(),
            nix: Some(large.clone()),
            specialisation: Some(large.clone()),
            phases: vec![
                bento_protocol::Phase {
                    name: large,
                    seconds: 1.0
                };
                10
            ],
            ..report('a')
        };
        keep(&machine, &[hostile], RetentionLimits::default())
            .write(&machine.keep)
            .unwrap();
        assert!(fs::metadata(machine.keep.summary()).unwrap().len() < 40_000);
    }
}
