use bento_protocol::{Format, HostName};
use jiff::Timestamp;
use serde::Serialize;

use super::{Condition, Subject};

/// A notification, as a JSON document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// The version of this document.
    pub format: Format,
    /// The machine; none for the fleet as a whole.
    pub machine: Option<HostName>,
    /// Its state; for the fleet, `faulty` or `good`; for a test without a machine, `test`.
    pub state: String,
    /// Whether it needs attention.
    pub bad: bool,
    /// Whether it is silent.
    pub silent: bool,
    /// The beginning of the condition or, if unknown, the time at which the appliance noticed it.
    #[serde(serialize_with = "to_the_second")]
    pub since: Timestamp,
    /// The error, in one line.
    pub error: Option<String>,
    /// Whether this is a test.
    pub test: bool,
    /// The whole message as a sentence.
    pub text: String,
}

impl Message {
    /// The message for a change.
    pub fn new(subject: &Subject, condition: &Condition, since: Timestamp) -> Self {
        Message {
            format: Format,
            machine: match subject {
                Subject::Fleet => None,
                Subject::Machine(name) => Some(name.clone()),
            },
            state: condition.state.to_owned(),
            bad: condition.bad,
            silent: condition.silent,
            since,
            error: condition.error.clone(),
            test: false,
            text: sentence(subject, condition),
        }
    }

    /// A test message, with the condition of a machine, if one is given.
    pub fn test(machine: Option<(&HostName, &Condition)>, now: Timestamp) -> Self {
        let nobody = Condition {
            bad: false,
            state: "test",
            silent: false,
            faulty: false,
            since: None,
            error: None,
        };
        match machine {
            None => Message {
                test: true,
                text: "bento: this is a test, nothing is wrong".into(),
                ..Message::new(&Subject::Fleet, &nobody, now)
            },
            Some((name, condition)) => {
                let message = Message::new(&Subject::Machine(name.clone()), condition, now);
                Message {
                    test: true,
                    text: format!("{} (this is a test)", message.text),
                    ..message
                }
            }
        }
    }

    /// The document as JSON.
    pub fn json(&self) -> Vec<u8> {
        // Strings and numbers always serialise.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

fn sentence(subject: &Subject, condition: &Condition) -> String {
    let Condition {
        bad,
        state,
        silent,
        faulty,
        ..
    } = condition;
    let error = match &condition.error {
        Some(error) => format!(": {error}"),
        None => String::new(),
    };
    match (subject, bad, silent) {
        (Subject::Fleet, true, _) => format!("bento: problem of the fleet{error}"),
        (Subject::Fleet, false, _) => "bento: the fleet has no problems any more".into(),
        (Subject::Machine(name), true, true) => {
            format!("bento: {name} is silent; its last known state is {state}{error}")
        }
        (Subject::Machine(name), true, false) if *faulty => {
            format!("bento: {name} needs attention, though it is {state}{error}")
        }
        (Subject::Machine(name), true, false) => format!("bento: {name} is {state}{error}"),
        (Subject::Machine(name), false, _) => {
            format!("bento: {name} is good again: {state}")
        }
    }
}

fn to_the_second<S: serde::Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.0}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture::second;

    #[test]
    fn a_change_is_a_document_in_json() {
        let condition = Condition {
            bad: true,
            state: "failing",
            silent: false,
            faulty: false,
            since: None,
            error: Some("build_failed: no luck".into()),
        };
        let subject = Subject::Machine("kikimora".parse().unwrap());
        let message = Message::new(&subject, &condition, second(0));
        assert_eq!(
            String::from_utf8(message.json()).unwrap(),
            r#"{"format":1,"machine":"kikimora","state":"failing","bad":true,"silent":false,"since":"2026-01-01T00:00:00Z","error":"build_failed: no luck","test":false,"text":"bento: kikimora is failing: build_failed: no luck"}"#
        );
    }

    // Issue 10, line 40.
    #[test]
    fn an_error_beside_a_good_state_needs_attention() {
        let condition = Condition {
            bad: true,
            state: "up-to-date",
            silent: false,
            faulty: true,
            since: None,
            error: Some("hosts/moon/dang: is a symlink: mend it".into()),
        };
        let subject = Subject::Machine("moon".parse().unwrap());
        assert_eq!(
            Message::new(&subject, &condition, second(0)).text,
            "bento: moon needs attention, though it is up-to-date: hosts/moon/dang: is a symlink: mend it"
        );
    }
}
