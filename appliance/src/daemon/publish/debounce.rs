//! Tells whether something has stopped changing, so that a half-copied tree isn't published.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use bento_protocol::HostName;

use crate::problem::Problem;
use crate::scan::HostTree;

/// After how long somebody should be told of what holds a publication up: longer than a checkout or a copy takes as a
/// rule.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long something has been so that should pass soon.
#[derive(Debug, Default)]
pub(super) struct Delay(Option<Instant>);

impl Delay {
    /// Takes note of whether it is so now; says whether it has been for too long.
    pub(super) fn is_too_long(&mut self, is_so: bool, now: Instant) -> bool {
        self.0 = is_so.then(|| self.0.unwrap_or(now));
        self.0
            .is_some_and(|since| now.duration_since(since) >= PATIENCE)
    }
}

/// How long ago something changed; none if that isn't known, or by a clock that was ahead.
pub(super) fn age(changed: Option<SystemTime>, now: SystemTime) -> Option<Duration> {
    now.duration_since(changed?).ok()
}

/// Watches one thing by its looks.
#[derive(Debug)]
pub(super) struct Settling<T> {
    last: Option<(T, Instant)>,
    /// Something is known of it, so that this is not the first look.
    is_known: bool,
}

impl<T> Default for Settling<T> {
    fn default() -> Self {
        Settling {
            last: None,
            is_known: false,
        }
    }
}

impl<T: Clone + PartialEq> Settling<T> {
    /// Whether it looked the same for so long. At the first look, when nothing else is known, the age of its last change
    /// decides, so that a restart doesn't have to wait.
    ///
    /// It was looked at between `begin` and `end`. A look at a large fleet takes longer than a debounce, and so what counts
    /// is the time from the end of one to the begin of another.
    pub(super) fn is_settled(
        &mut self,
        looks: &T,
        age: Option<Duration>,
        begin: Instant,
        end: Instant,
        debounce: Duration,
    ) -> bool {
        match &self.last {
            Some((last, since)) if last == looks => begin.duration_since(*since) >= debounce,
            _ => {
                let is_old = !self.is_known && age.is_some_and(|age| age >= debounce);
                let since = if is_old {
                    begin.checked_sub(debounce).unwrap_or(begin)
                } else {
                    end
                };
                self.last = Some((looks.clone(), since));
                self.is_known = true;
                is_old
            }
        }
    }

    /// It couldn't be looked at as a whole, so it has to settle anew.
    pub(super) fn disturb(&mut self) {
        self.last = None;
        self.is_known = true;
    }
}

/// Watches the tree of a machine, and what of it doesn't come to rest.
#[derive(Debug, Default)]
pub(super) struct TreeSettling {
    settling: Settling<HostTree>,
    unrest: Delay,
    /// Since when it couldn't be walked, in every look.
    faulty: Option<Instant>,
    /// What was seen to change last.
    changing: Option<PathBuf>,
}

impl TreeSettling {
    /// Whether the tree is settled, see [`Settling::is_settled`]. Its age is that at the begin of the look: of what
    /// changed during it a part may have been seen before.
    pub(super) fn is_settled(
        &mut self,
        tree: &HostTree,
        now: SystemTime,
        begin: Instant,
        end: Instant,
        debounce: Duration,
    ) -> bool {
        self.faulty = None;
        if let Some((last, _)) = &self.settling.last
            && last != tree
        {
            self.changing = last.difference(tree).or(self.changing.take());
        }
        let age = age(tree.changed_at(), now);
        self.settling.is_settled(tree, age, begin, end, debounce)
    }

    /// It couldn't be walked. Whether that is a fault: what is being replaced is missing for a moment. At the first
    /// look it is one, so that an appliance that starts says at once what is wrong.
    pub(super) fn is_fault(&mut self, now: Instant, debounce: Duration) -> bool {
        let is_first = !self.settling.is_known;
        let at_once = now.checked_sub(debounce).filter(|_| is_first);
        let since = *self.faulty.get_or_insert(at_once.unwrap_or(now));
        self.settling.disturb();
        self.rest();
        now.duration_since(since) >= debounce
    }

    /// It was read as it had looked.
    pub(super) fn rest(&mut self) {
        self.unrest = Delay::default();
        self.changing = None;
    }

    /// This file of it changed while it was being read.
    pub(super) fn note(&mut self, changed: &Path) {
        self.changing = Some(changed.to_owned());
    }

    /// It isn't settled, or changed while it was read: what to tell if that is so for too long.
    pub(super) fn unrest(&mut self, host: &HostName, now: Instant) -> Option<Problem> {
        let changing = self.changing.as_ref();
        let place = changing.map_or_else(|| "hosts".into(), |path| path.to_string_lossy());
        self.unrest
            .is_too_long(true, now)
            .then(|| restless(&place).of(host))
    }
}

/// What to tell about a file that doesn't stop changing.
pub(super) fn restless(place: &str) -> Problem {
    Problem::new(
        place,
        format!(
            "has kept changing for {} s, and nothing is published before it stops",
            PATIENCE.as_secs()
        ),
        "end what writes there, move it elsewhere, or name it in .bentoignore",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Debounce;

    const DEBOUNCE: Duration = Debounce::DEFAULT;

    /// At a look that takes no time.
    fn settles(
        settling: &mut Settling<i32>,
        looks: i32,
        age: Option<Duration>,
        now: Instant,
    ) -> bool {
        settling.is_settled(&looks, age, now, now, DEBOUNCE)
    }

    #[test]
    fn how_long_a_look_takes_is_no_time_in_which_nothing_changed() {
        let (mut settling, start) = (Settling::default(), Instant::now());
        let end = start + 10 * DEBOUNCE;
        assert!(!settling.is_settled(&1, None, start, end, DEBOUNCE));
        // Something came meanwhile, so that the next look follows at once.
        let next = end + DEBOUNCE / 2;
        assert!(!settling.is_settled(&1, None, next, next, DEBOUNCE));
        assert!(settling.is_settled(&1, None, end + DEBOUNCE, end + 2 * DEBOUNCE, DEBOUNCE));
    }

    #[test]
    fn what_could_not_be_looked_at_must_settle_anew_however_old_it_is() {
        let (mut settling, start) = (Settling::default(), Instant::now());
        let old = Some(2 * DEBOUNCE);
        assert!(settles(&mut settling, 1, old, start));
        settling.disturb();
        assert!(!settles(&mut settling, 1, old, start));
        assert!(settles(&mut settling, 1, old, start + DEBOUNCE));
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
        let (mut settling, start) = (TreeSettling::default(), Instant::now());
        let mut told = Vec::new();
        for second in 0..=61 {
            std::fs::write(folder.join("service.log"), second.to_string()).unwrap();
            let now = start + Duration::from_secs(second);
            assert!(!settling.is_settled(&tree(), SystemTime::now(), now, now, DEBOUNCE));
            told.extend(settling.unrest(name, now).map(|problem| (second, problem)));
        }
        assert_eq!(told[0].0, 60);
        let expected = "hosts/a/service.log: a: has kept changing";
        assert!(told[0].1.to_string().starts_with(expected), "{told:?}");

        let later = start + Duration::from_secs(61) + DEBOUNCE;
        assert!(settling.is_settled(&tree(), SystemTime::now(), later, later, DEBOUNCE));
        // It changed while it was read: as long as that goes on, it is told.
        assert!(settling.unrest(name, later).is_some());
        settling.rest();
        assert_eq!(settling.unrest(name, later), None);
    }

    // Issue 10, line 12.
    #[test]
    fn what_is_replaced_is_no_fault_before_it_was_missing_in_every_look_for_the_debounce() {
        let start = Instant::now();
        let is_fault = |settling: &mut TreeSettling, times: u32| {
            settling.is_fault(start + times * DEBOUNCE, DEBOUNCE)
        };
        let mut settling = TreeSettling::default();
        assert!(
            is_fault(&mut settling, 0) && is_fault(&mut settling, 0),
            "at the start"
        );
        settling.faulty = None;
        assert!(!is_fault(&mut settling, 1));
        assert!(!settling.is_fault(start + DEBOUNCE + DEBOUNCE / 2, DEBOUNCE));
        assert!(is_fault(&mut settling, 2));
        settling.faulty = None;
        assert!(!is_fault(&mut settling, 3));
    }

    #[test]
    fn what_should_pass_is_told_after_a_minute_without_a_break() {
        let (mut delay, start) = (Delay::default(), Instant::now());
        assert!(!delay.is_too_long(true, start));
        assert!(!delay.is_too_long(true, start + PATIENCE / 2));
        assert!(delay.is_too_long(true, start + PATIENCE));
        assert!(!delay.is_too_long(false, start + PATIENCE));
        assert!(!delay.is_too_long(true, start + PATIENCE));
    }

    #[test]
    fn what_looks_the_same_for_the_debounce_is_settled() {
        let (mut settling, start) = (Settling::default(), Instant::now());
        assert!(!settles(&mut settling, 1, None, start));
        assert!(!settles(&mut settling, 1, None, start + DEBOUNCE / 2));
        assert!(settles(&mut settling, 1, None, start + DEBOUNCE));
        assert!(
            !settles(&mut settling, 2, Some(2 * DEBOUNCE), start + DEBOUNCE),
            "only the first look"
        );
        assert!(settles(&mut settling, 2, None, start + 2 * DEBOUNCE));
    }

    #[test]
    fn what_was_old_when_first_seen_is_settled() {
        let (now, clock) = (Instant::now(), SystemTime::now());
        let is_settled = |changed| settles(&mut Settling::default(), 1, age(changed, clock), now);
        assert!(is_settled(Some(clock - 2 * DEBOUNCE)));
        assert!(!is_settled(Some(clock)));
        assert!(!is_settled(Some(clock + DEBOUNCE)), "a clock ahead");
        assert!(!is_settled(None));
    }
}
