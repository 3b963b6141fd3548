//! The wait until something is stable, so that a half-copied tree isn't published.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use bento_protocol::HostName;

use crate::problem::Problem;
use crate::scan::HostTree;

/// The time after which a lack of stability is a problem: longer than most checkouts and copies take.
const MAX_UNSTABLE: Duration = Duration::from_secs(60);

/// The time since when a condition has held without a break.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Since(Option<Instant>);

impl Since {
    /// Records whether the condition holds now, and returns for how long it has; none where it doesn't.
    pub(super) fn update(&mut self, holds: bool, now: Instant) -> Option<Duration> {
        self.0 = holds.then(|| self.0.unwrap_or(now));
        self.0.map(|since| now.duration_since(since))
    }

    /// The same for a condition that delays publications: whether it has held for so long that it is a problem.
    pub(super) fn is_overdue(&mut self, holds: bool, now: Instant) -> bool {
        self.update(holds, now) >= Some(MAX_UNSTABLE)
    }
}

/// The time since a change; none if it isn't known, or by a clock that was ahead.
pub(super) fn age(changed: Option<SystemTime>, now: SystemTime) -> Option<Duration> {
    now.duration_since(changed?).ok()
}

/// The last value of something, and since when it has been the same.
#[derive(Debug)]
pub(super) struct StableSince<T> {
    last: Option<(T, Instant)>,
    /// Whether there was an earlier scan, complete or not.
    is_known: bool,
}

impl<T> Default for StableSince<T> {
    fn default() -> Self {
        StableSince {
            last: None,
            is_known: false,
        }
    }
}

impl<T: Clone + PartialEq> StableSince<T> {
    /// Whether all scans during the debounce gave this value. In the first scan the age of the last change decides, so
    /// that a restart doesn't have to wait.
    ///
    /// The scan took from `begin` to `end`. That of a large fleet takes longer than a debounce, so what counts is the
    /// time from the end of one scan to the begin of another.
    pub(super) fn is_stable(
        &mut self,
        value: &T,
        age: Option<Duration>,
        begin: Instant,
        end: Instant,
        debounce: Duration,
    ) -> bool {
        match &self.last {
            Some((last, since)) if last == value => begin.duration_since(*since) >= debounce,
            _ => {
                let is_old = !self.is_known && age.is_some_and(|age| age >= debounce);
                let since = if is_old {
                    begin.checked_sub(debounce).unwrap_or(begin)
                } else {
                    end
                };
                self.last = Some((value.clone(), since));
                self.is_known = true;
                is_old
            }
        }
    }

    /// Starts again after an incomplete scan.
    pub(super) fn restart(&mut self) {
        self.last = None;
        self.is_known = true;
    }
}

/// The debounce of one machine's tree.
#[derive(Debug, Default)]
pub(super) struct HostDebounce {
    tree: StableSince<HostTree>,
    /// Whether the machine waits because something changes.
    unstable: Since,
    /// Whether the tree can't be walked.
    faulty: Since,
    /// The file that changed last.
    changing: Option<PathBuf>,
}

impl HostDebounce {
    /// Whether the tree is stable, see [`StableSince::is_stable`]. Its age is that at the begin of the scan: of a change
    /// during the scan a part may have been seen before.
    pub(super) fn is_stable(
        &mut self,
        tree: &HostTree,
        now: SystemTime,
        begin: Instant,
        end: Instant,
        debounce: Duration,
    ) -> bool {
        self.faulty = Since::default();
        if let Some((last, _)) = &self.tree.last
            && last != tree
        {
            self.changing = last.difference(tree).or(self.changing.take());
        }
        let age = age(tree.changed_at(), now);
        self.tree.is_stable(tree, age, begin, end, debounce)
    }

    /// Whether a tree that can't be walked is a fault: a file that is being replaced is missing for a moment. In the
    /// first scan it is one, so that an appliance that starts shows at once what is wrong.
    pub(super) fn is_fault(&mut self, now: Instant, debounce: Duration) -> bool {
        if !self.tree.is_known {
            self.faulty = Since(now.checked_sub(debounce));
        }
        self.tree.restart();
        self.faulty.update(true, now) >= Some(debounce)
    }

    /// Ends the time during which the machine waited for its tree.
    pub(super) fn end_wait(&mut self) {
        self.unstable = Since::default();
        self.changing = None;
    }

    /// Records that the machine waits because something changes, with the file where it is known. Returns a problem if
    /// that takes too long.
    pub(super) fn wait(
        &mut self,
        host: &HostName,
        changed: Option<PathBuf>,
        now: Instant,
    ) -> Option<Problem> {
        self.changing = changed.or(self.changing.take());
        let place = self.changing.as_deref().unwrap_or(Path::new("hosts"));
        self.unstable
            .is_overdue(true, now)
            .then(|| keeps_changing(&place.to_string_lossy()).of(host))
    }
}

/// The problem with a file that doesn't stop changing.
pub(super) fn keeps_changing(place: &str) -> Problem {
    Problem::new(
        place,
        format!(
            "has kept changing for {} s, and nothing is published before it stops",
            MAX_UNSTABLE.as_secs()
        ),
        "end what writes there, move it elsewhere, or name it in .bentoignore",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::DEBOUNCE;

    /// In a scan that takes no time.
    fn is_stable(
        value: &mut StableSince<i32>,
        scanned: i32,
        age: Option<Duration>,
        now: Instant,
    ) -> bool {
        value.is_stable(&scanned, age, now, now, DEBOUNCE)
    }

    #[test]
    fn the_duration_of_a_scan_does_not_count_as_stable() {
        let (mut debounce, start) = (StableSince::default(), Instant::now());
        let end = start + 10 * DEBOUNCE;
        assert!(!debounce.is_stable(&1, None, start, end, DEBOUNCE));
        // An event came meanwhile, so that the next scan follows at once.
        let next = end + DEBOUNCE / 2;
        assert!(!debounce.is_stable(&1, None, next, next, DEBOUNCE));
        assert!(debounce.is_stable(&1, None, end + DEBOUNCE, end + 2 * DEBOUNCE, DEBOUNCE));
    }

    #[test]
    fn after_an_incomplete_scan_the_debounce_starts_again_at_any_age() {
        let (mut debounce, start) = (StableSince::default(), Instant::now());
        let old = Some(2 * DEBOUNCE);
        assert!(is_stable(&mut debounce, 1, old, start));
        debounce.restart();
        assert!(!is_stable(&mut debounce, 1, old, start));
        assert!(is_stable(&mut debounce, 1, old, start + DEBOUNCE));
    }

    #[test]
    fn a_file_that_does_not_stop_changing_is_named_until_the_tree_was_read() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("hosts/a");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("flake.nix"), "{}").unwrap();
        let text = "[server]\naddress = \"x\"\n[hosts.a]\n";
        let fleet = crate::fleet::read(text).unwrap().fleet;
        let (name, host) = fleet.hosts.first_key_value().unwrap();
        let opened = crate::scan::FleetFolder::open(place.path()).unwrap();
        let tree = || HostTree::walk(&opened, name, host).unwrap();
        let (mut debounce, start) = (HostDebounce::default(), Instant::now());
        let mut problems = Vec::new();
        for second in 0..=61 {
            std::fs::write(folder.join("service.log"), second.to_string()).unwrap();
            let now = start + Duration::from_secs(second);
            assert!(!debounce.is_stable(&tree(), SystemTime::now(), now, now, DEBOUNCE));
            problems.extend(
                debounce
                    .wait(name, None, now)
                    .map(|problem| (second, problem)),
            );
        }
        assert_eq!(problems[0].0, 60);
        let expected = "hosts/a/service.log: a: has kept changing";
        assert!(
            problems[0].1.to_string().starts_with(expected),
            "{problems:?}"
        );

        let later = start + Duration::from_secs(61) + DEBOUNCE;
        assert!(debounce.is_stable(&tree(), SystemTime::now(), later, later, DEBOUNCE));
        // It changed while it was read: a problem as long as that goes on.
        assert!(debounce.wait(name, None, later).is_some());
        debounce.end_wait();
        assert_eq!(debounce.wait(name, None, later), None);
    }

    // Issue 10, line 12.
    #[test]
    fn a_replaced_file_is_a_fault_only_after_it_was_missing_in_every_scan_for_the_debounce() {
        let start = Instant::now();
        let is_fault = |debounce: &mut HostDebounce, times: u32| {
            debounce.is_fault(start + times * DEBOUNCE, DEBOUNCE)
        };
        let mut debounce = HostDebounce::default();
        assert!(
            is_fault(&mut debounce, 0) && is_fault(&mut debounce, 0),
            "at the start"
        );
        debounce.faulty = Since::default();
        assert!(!is_fault(&mut debounce, 1));
        assert!(!debounce.is_fault(start + DEBOUNCE + DEBOUNCE / 2, DEBOUNCE));
        assert!(is_fault(&mut debounce, 2));
        debounce.faulty = Since::default();
        assert!(!is_fault(&mut debounce, 3));
    }

    #[test]
    fn a_delay_is_a_problem_after_a_minute_without_a_break() {
        let (mut delay, start) = (Since::default(), Instant::now());
        assert!(!delay.is_overdue(true, start));
        assert!(!delay.is_overdue(true, start + MAX_UNSTABLE / 2));
        assert!(delay.is_overdue(true, start + MAX_UNSTABLE));
        assert!(!delay.is_overdue(false, start + MAX_UNSTABLE));
        assert!(!delay.is_overdue(true, start + MAX_UNSTABLE));
    }

    #[test]
    fn a_value_that_is_the_same_for_the_debounce_is_stable() {
        let (mut debounce, start) = (StableSince::default(), Instant::now());
        assert!(!is_stable(&mut debounce, 1, None, start));
        assert!(!is_stable(&mut debounce, 1, None, start + DEBOUNCE / 2));
        assert!(is_stable(&mut debounce, 1, None, start + DEBOUNCE));
        assert!(
            !is_stable(&mut debounce, 2, Some(2 * DEBOUNCE), start + DEBOUNCE),
            "only the first scan"
        );
        assert!(is_stable(&mut debounce, 2, None, start + 2 * DEBOUNCE));
    }

    #[test]
    fn an_old_change_is_stable_in_the_first_scan() {
        let (now, clock) = (Instant::now(), SystemTime::now());
        let is_old = |changed| is_stable(&mut StableSince::default(), 1, age(changed, clock), now);
        assert!(is_old(Some(clock - 2 * DEBOUNCE)));
        assert!(!is_old(Some(clock)));
        assert!(!is_old(Some(clock + DEBOUNCE)), "a clock ahead");
        assert!(!is_old(None));
    }
}
