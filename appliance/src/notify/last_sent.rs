use std::collections::BTreeMap;

use bento_protocol::{Format, HostName};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Condition, Subject};

/// The last messages, as the state keeps them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notified {
    /// The version of this document.
    pub format: Format,
    /// The messages to the webhook.
    #[serde(default)]
    pub webhook: LastSent,
}

impl Default for Notified {
    fn default() -> Self {
        Notified {
            format: Format,
            webhook: LastSent::default(),
        }
    }
}

/// What was told last of whom. Of whom nothing was told, nothing bad was known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastSent {
    /// Of the fleet as a whole.
    #[serde(default)]
    pub fleet: Option<Told>,
    /// Of the machines.
    #[serde(default)]
    pub machines: BTreeMap<HostName, Told>,
    /// Why the last try failed; none if it didn't.
    #[serde(default)]
    pub failure: Option<Failure>,
}

/// What was told of somebody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Whether it was bad.
    pub bad: bool,
    /// The state at that time.
    pub state: String,
    /// When it was told.
    pub at: Timestamp,
}

/// A try that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// When.
    pub at: Timestamp,
    /// Why, in one line.
    pub error: String,
}

/// What is otherwise than it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    /// Whether it is bad now.
    pub bad: bool,
    /// Since when, where that is known.
    pub since: Option<Timestamp>,
}

impl LastSent {
    /// Who is bad and wasn't told to be so, or the other way round.
    pub fn differences(
        &self,
        conditions: &BTreeMap<Subject, Option<Condition>>,
    ) -> BTreeMap<Subject, Difference> {
        let differs = |(subject, condition): (&Subject, &Option<Condition>)| {
            let condition = condition.as_ref()?;
            let told = self.of(subject);
            let bad = condition.bad;
            // What was so before the opposite was told isn't what has changed.
            let since = condition
                .since
                .filter(|since| told.is_none_or(|told| *since > told.at));
            let differs = bad != told.is_some_and(|told| told.bad);
            differs.then(|| (subject.clone(), Difference { bad, since }))
        };
        conditions.iter().filter_map(differs).collect()
    }

    /// What was told of somebody.
    pub fn of(&self, subject: &Subject) -> Option<&Told> {
        match subject {
            Subject::Fleet => self.fleet.as_ref(),
            Subject::Machine(name) => self.machines.get(name),
        }
    }

    /// Takes note of what was told.
    pub fn note(&mut self, subject: &Subject, condition: &Condition, at: Timestamp) {
        let told = Told {
            bad: condition.bad,
            state: condition.state.to_owned(),
            at,
        };
        match subject {
            Subject::Fleet => self.fleet = Some(told),
            Subject::Machine(name) => _ = self.machines.insert(name.clone(), told),
        }
        self.failure = None;
    }

    /// Forgets the machines that aren't there any more. Says whether there were any.
    pub fn forget_removed(&mut self, conditions: &BTreeMap<Subject, Option<Condition>>) -> bool {
        let before = self.machines.len();
        self.machines
            .retain(|name, _| conditions.contains_key(&Subject::Machine(name.clone())));
        self.machines.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAD: Condition = Condition {
        bad: true,
        state: "failing",
        silent: false,
        faulty: false,
        since: None,
        error: None,
    };
    const GOOD: Condition = Condition {
        bad: false,
        state: "up-to-date",
        ..BAD
    };

    fn machine(name: &str) -> Subject {
        Subject::Machine(name.parse().unwrap())
    }

    /// Tells all that differs, and gives whom it told that they are bad, or good.
    fn tell(book: &mut LastSent, conditions: &[(&str, Option<Condition>)]) -> Vec<(String, bool)> {
        let conditions = conditions
            .iter()
            .map(|(name, condition)| match *name {
                "" => (Subject::Fleet, condition.clone()),
                name => (machine(name), condition.clone()),
            })
            .collect();
        book.forget_removed(&conditions);
        let differences = book.differences(&conditions);
        for subject in differences.keys() {
            let condition = conditions[subject].as_ref().unwrap();
            book.note(subject, condition, Timestamp::UNIX_EPOCH);
        }
        let told = differences.into_iter();
        told.map(|(subject, difference)| (subject.to_string(), difference.bad))
            .collect()
    }

    fn told(name: &str, bad: bool) -> Vec<(String, bool)> {
        vec![(name.to_owned(), bad)]
    }

    #[test]
    fn at_first_only_what_is_bad_is_told_and_then_each_change_once() {
        let mut book = LastSent::default();
        let (bad, good) = (|| Some(BAD), || Some(GOOD));
        assert_eq!(
            tell(&mut book, &[("", good()), ("a", bad()), ("b", good())]),
            told("a", true)
        );
        assert_eq!(
            tell(&mut book, &[("", good()), ("a", bad()), ("b", good())]),
            []
        );
        assert_eq!(
            tell(&mut book, &[("", bad()), ("a", bad()), ("b", good())]),
            told("the fleet", true)
        );
        assert_eq!(
            tell(&mut book, &[("", bad()), ("a", good()), ("b", good())]),
            told("a", false)
        );
        let json = serde_json::to_string(&book).unwrap();
        let mut book: LastSent = serde_json::from_str(&json).unwrap();
        assert_eq!(
            tell(&mut book, &[("", bad()), ("a", good()), ("b", good())]),
            []
        );
    }

    #[test]
    fn since_when_it_is_so_is_told_unless_something_else_was_told_later() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut book = LastSent::default();
        let mut since = |bad, second| {
            let since = Some(at(second));
            let condition = Condition {
                since,
                ..if bad { BAD } else { GOOD }
            };
            let conditions = BTreeMap::from([(machine("a"), Some(condition.clone()))]);
            let difference = book.differences(&conditions)[&machine("a")];
            book.note(&machine("a"), &condition, at(second + 10));
            difference.since
        };
        assert_eq!(since(true, 100), Some(at(100)));
        assert_eq!(since(false, 200), Some(at(200)));
        // It was silent, and isn't any more.
        assert_eq!(since(true, 205), None);
    }

    #[test]
    fn what_cannot_be_judged_is_neither_bad_nor_good() {
        let mut book = LastSent::default();
        tell(&mut book, &[("", Some(BAD)), ("a", Some(BAD))]);
        assert_eq!(tell(&mut book, &[("", None), ("a", None), ("b", None)]), []);
        assert_eq!(tell(&mut book, &[("", Some(BAD)), ("a", Some(BAD))]), []);
    }

    #[test]
    fn a_machine_that_is_removed_is_forgotten() {
        let mut book = LastSent::default();
        tell(&mut book, &[("a", Some(BAD))]);
        assert_eq!(tell(&mut book, &[]), []);
        assert_eq!(tell(&mut book, &[("a", Some(GOOD))]), []);
        assert_eq!(tell(&mut book, &[("a", Some(BAD))]), told("a", true));
    }
}
