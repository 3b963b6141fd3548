use std::collections::BTreeMap;

use bento_protocol::{Format, HostName};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Condition, Subject};

/// The document of the last messages in the state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastSentFile {
    /// The version of this document.
    pub format: Format,
    /// The messages to the webhook.
    #[serde(default)]
    pub webhook: LastSent,
}

impl Default for LastSentFile {
    fn default() -> Self {
        LastSentFile {
            format: Format,
            webhook: LastSent::default(),
        }
    }
}

/// The last condition sent for each subject; absent means good.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastSent {
    /// The last condition of the fleet as a whole.
    #[serde(default)]
    pub fleet: Option<SentCondition>,
    /// The last condition of each machine.
    #[serde(default)]
    pub machines: BTreeMap<HostName, SentCondition>,
    /// The failure of the last attempt, if it failed.
    #[serde(default)]
    pub failure: Option<Failure>,
}

/// A condition that was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentCondition {
    /// Whether it was bad.
    pub bad: bool,
    /// The state at that time.
    pub state: String,
    /// The time of the message.
    pub at: Timestamp,
}

/// A failed attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The time of the attempt.
    pub at: Timestamp,
    /// The error, in one line.
    pub error: String,
}

/// A change since the last message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConditionChange {
    /// Whether it is bad now.
    pub bad: bool,
    /// The beginning of the condition, if known.
    pub since: Option<Timestamp>,
}

impl LastSent {
    /// The subjects whose condition differs from the last one sent.
    pub fn differences(
        &self,
        conditions: &BTreeMap<Subject, Option<Condition>>,
    ) -> BTreeMap<Subject, ConditionChange> {
        let differs = |(subject, condition): (&Subject, &Option<Condition>)| {
            let condition = condition.as_ref()?;
            let sent = self.of(subject);
            let bad = condition.bad;
            // A beginning before the last message isn't that of this change.
            let since = condition
                .since
                .filter(|since| sent.is_none_or(|sent| *since > sent.at));
            let differs = bad != sent.is_some_and(|sent| sent.bad);
            differs.then(|| (subject.clone(), ConditionChange { bad, since }))
        };
        conditions.iter().filter_map(differs).collect()
    }

    /// The last condition sent for a subject.
    pub fn of(&self, subject: &Subject) -> Option<&SentCondition> {
        match subject {
            Subject::Fleet => self.fleet.as_ref(),
            Subject::Machine(name) => self.machines.get(name),
        }
    }

    /// Records a message.
    pub fn record(&mut self, subject: &Subject, condition: &Condition, at: Timestamp) {
        let sent = SentCondition {
            bad: condition.bad,
            state: condition.state.to_owned(),
            at,
        };
        match subject {
            Subject::Fleet => self.fleet = Some(sent),
            Subject::Machine(name) => _ = self.machines.insert(name.clone(), sent),
        }
        self.failure = None;
    }

    /// Forgets removed machines; returns whether there were any.
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

    /// Sends all changes, and returns their subjects and conditions.
    fn send(
        last_sent: &mut LastSent,
        conditions: &[(&str, Option<Condition>)],
    ) -> Vec<(String, bool)> {
        let conditions = conditions
            .iter()
            .map(|(name, condition)| match *name {
                "" => (Subject::Fleet, condition.clone()),
                name => (machine(name), condition.clone()),
            })
            .collect();
        last_sent.forget_removed(&conditions);
        let differences = last_sent.differences(&conditions);
        for subject in differences.keys() {
            let condition = conditions[subject].as_ref().unwrap();
            last_sent.record(subject, condition, Timestamp::UNIX_EPOCH);
        }
        let sent = differences.into_iter();
        sent.map(|(subject, difference)| (subject.to_string(), difference.bad))
            .collect()
    }

    fn sent(name: &str, bad: bool) -> Vec<(String, bool)> {
        vec![(name.to_owned(), bad)]
    }

    #[test]
    fn the_first_message_is_a_bad_condition_and_then_each_change_is_sent_once() {
        let mut last_sent = LastSent::default();
        let (bad, good) = (|| Some(BAD), || Some(GOOD));
        assert_eq!(
            send(&mut last_sent, &[("", good()), ("a", bad()), ("b", good())]),
            sent("a", true)
        );
        assert_eq!(
            send(&mut last_sent, &[("", good()), ("a", bad()), ("b", good())]),
            []
        );
        assert_eq!(
            send(&mut last_sent, &[("", bad()), ("a", bad()), ("b", good())]),
            sent("the fleet", true)
        );
        assert_eq!(
            send(&mut last_sent, &[("", bad()), ("a", good()), ("b", good())]),
            sent("a", false)
        );
        let json = serde_json::to_string(&last_sent).unwrap();
        let mut last_sent: LastSent = serde_json::from_str(&json).unwrap();
        assert_eq!(
            send(&mut last_sent, &[("", bad()), ("a", good()), ("b", good())]),
            []
        );
    }

    #[test]
    fn the_beginning_is_unknown_after_a_later_message() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut last_sent = LastSent::default();
        let mut since = |bad, second| {
            let since = Some(at(second));
            let condition = Condition {
                since,
                ..if bad { BAD } else { GOOD }
            };
            let conditions = BTreeMap::from([(machine("a"), Some(condition.clone()))]);
            let difference = last_sent.differences(&conditions)[&machine("a")];
            last_sent.record(&machine("a"), &condition, at(second + 10));
            difference.since
        };
        assert_eq!(since(true, 100), Some(at(100)));
        assert_eq!(since(false, 200), Some(at(200)));
        // It was silent in between.
        assert_eq!(since(true, 205), None);
    }

    #[test]
    fn an_unknown_condition_causes_no_message() {
        let mut last_sent = LastSent::default();
        send(&mut last_sent, &[("", Some(BAD)), ("a", Some(BAD))]);
        assert_eq!(
            send(&mut last_sent, &[("", None), ("a", None), ("b", None)]),
            []
        );
        assert_eq!(
            send(&mut last_sent, &[("", Some(BAD)), ("a", Some(BAD))]),
            []
        );
    }

    #[test]
    fn a_machine_that_is_removed_is_forgotten() {
        let mut last_sent = LastSent::default();
        send(&mut last_sent, &[("a", Some(BAD))]);
        assert_eq!(send(&mut last_sent, &[]), []);
        assert_eq!(send(&mut last_sent, &[("a", Some(GOOD))]), []);
        assert_eq!(send(&mut last_sent, &[("a", Some(BAD))]), sent("a", true));
    }
}
