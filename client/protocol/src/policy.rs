use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::text_type;

/// The fleet's settings for a machine's client, as a JSON object without the defaults.
///
/// The object is kept as it was received, including unknown keys, because the generation's id covers it.
/// [`Policy::terms`] has the known keys.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, Value>", into = "BTreeMap<String, Value>")]
pub struct Policy {
    received: BTreeMap<String, Value>,
    terms: Terms,
}

/// The known keys of a policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// `nixosConfigurations.<attribute>`; none: the machine's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attribute: Option<Attribute>,
    /// Whether the machine reboots when its kernel, initrd or modules have changed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reboot: Reboot,
    /// The time for it, with [`Reboot::Window`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reboot_window: Option<RebootWindow>,
    /// Whether the client also updates its lock file, or its channels, by itself.
    #[serde(default, skip_serializing_if = "is_default")]
    pub self_update: bool,
    /// Further arguments for the build.
    #[serde(default, skip_serializing_if = "is_default")]
    pub nix_args: NixArguments,
}

/// The names of the fields of [`Terms`] on the wire.
const KNOWN: [&str; 5] = [
    "attribute",
    "nix_args",
    "reboot",
    "reboot_window",
    "self_update",
];

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The reason why a policy is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PolicyError(String);

impl Policy {
    /// The known keys.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The unknown keys, which cause only a warning of the client.
    pub fn unknown(&self) -> impl Iterator<Item = &str> {
        self.received
            .keys()
            .map(String::as_str)
            .filter(|key| !KNOWN.contains(key))
    }

    /// The text that enters the generation's id: keys sorted, no spaces, raw UTF-8, minimal escapes.
    pub fn canonical(&self) -> String {
        let mut text = String::new();
        write_object(
            &mut text,
            self.received
                .iter()
                .map(|(key, value)| (key.as_str(), value)),
        );
        text
    }
}

impl From<Terms> for Policy {
    fn from(terms: Terms) -> Self {
        let received = match serde_json::to_value(&terms) {
            Ok(Value::Object(object)) => object.into_iter().collect(),
            _ => unreachable!("terms are a struct of strings, booleans and lists"),
        };
        Policy { received, terms }
    }
}

impl TryFrom<BTreeMap<String, Value>> for Policy {
    type Error = PolicyError;

    fn try_from(received: BTreeMap<String, Value>) -> Result<Self, Self::Error> {
        let known = received
            .iter()
            .filter(|(key, _)| KNOWN.contains(&key.as_str()));
        let object = known
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let terms = serde_json::from_value(Value::Object(object))
            .map_err(|error| PolicyError(format!("the policy is invalid: {error}")))?;
        Ok(Policy { received, terms })
    }
}

impl From<Policy> for BTreeMap<String, Value> {
    fn from(policy: Policy) -> Self {
        policy.received
    }
}

/// Writes JSON with sorted keys whatever serde_json's features say: a dependency that turns on its
/// `preserve_order` must not change every generation's id.
fn write_value(text: &mut String, value: &Value) {
    match value {
        Value::Object(object) => {
            write_object(
                text,
                object.iter().map(|(key, value)| (key.as_str(), value)),
            );
        }
        Value::Array(array) => {
            text.push('[');
            for (index, value) in array.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_value(text, value);
            }
            text.push(']');
        }
        scalar => text.push_str(&scalar.to_string()),
    }
}

fn write_object<'a>(text: &mut String, entries: impl Iterator<Item = (&'a str, &'a Value)>) {
    let sorted: BTreeMap<_, _> = entries.collect();
    text.push('{');
    for (index, (key, value)) in sorted.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(&Value::from(key).to_string());
        text.push(':');
        write_value(text, value);
    }
    text.push('}');
}

/// When a machine reboots by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reboot {
    /// Never; status shows `reboot-pending`.
    #[default]
    Never,
    /// As soon as the report is delivered.
    Immediate,
    /// In the [`RebootWindow`].
    Window,
}

/// The hours in which a machine may reboot, in its local time; over midnight when `from` is later than `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RebootWindow {
    /// The first minute.
    pub from: LocalTime,
    /// The minute at which it ends.
    pub to: LocalTime,
}

/// A time of day to the minute, written `HH:MM`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalTime {
    /// 0 to 23.
    hour: u8,
    /// 0 to 59.
    minute: u8,
}

text_type!(LocalTime);

impl LocalTime {
    /// Minutes since midnight.
    pub fn minutes(self) -> u16 {
        u16::from(self.hour) * 60 + u16::from(self.minute)
    }
}

impl std::str::FromStr for LocalTime {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (hour, minute) = text.split_once(':')?;
            let time = LocalTime {
                hour: hour.parse().ok()?,
                minute: minute.parse().ok()?,
            };
            (time.hour < 24 && time.minute < 60 && time.to_string() == text).then_some(time)
        };
        parse()
            .ok_or_else(|| PolicyError(format!("{text:?} isn't a time of day such as \"02:00\"")))
    }
}

impl fmt::Display for LocalTime {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:02}:{:02}", self.hour, self.minute)
    }
}

/// The name of a system in a flake's `nixosConfigurations`; safe between double quotes in an installable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute(String);

text_type!(Attribute(String));

impl std::str::FromStr for Attribute {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-'.+".contains(byte);
        if (1..=200).contains(&text.len()) && text.as_bytes().iter().all(allowed) {
            Ok(Attribute(text.to_owned()))
        } else {
            Err(PolicyError(format!(
                "{text:?} can't be an attribute of nixosConfigurations: use letters, digits and _ - ' . +"
            )))
        }
    }
}

/// Further arguments for `nix build` or `nix-build`, such as `--fallback`.
///
/// Options that would change the source or the place of the result are refused: the client would report a system of
/// other sources as the system of this generation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct NixArguments(Vec<String>);

impl NixArguments {
    /// Options that the client sets itself, or that change the place of the result.
    const REFUSED: [&'static str; 24] = [
        "--attr",
        "-A",
        "--dry-run",
        "--eval-store",
        "--expr",
        "-E",
        "--file",
        "-f",
        "--help",
        "--json",
        "--no-link",
        "--no-out-link",
        "--out-link",
        "-o",
        "--add-root",
        "--profile",
        "-p",
        "--rebuild",
        "--check",
        "--stdin",
        "--store",
        "--version",
        "--recreate-lock-file",
        "--commit-lock-file",
    ];

    /// Options that change the inputs of a flake, in spite of its lock file.
    const UNLOCKING: [&'static str; 10] = [
        "--arg",
        "--argstr",
        "--impure",
        "--include",
        "-I",
        "--inputs-from",
        "--override-flake",
        "--override-input",
        "--reference-lock-file",
        "--update-input",
    ];

    /// The arguments in order.
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }

    /// Whether the inputs of a flake are those of its lock file.
    pub fn keep_inputs(&self) -> bool {
        !self.0.iter().any(|argument| {
            let option = argument.split('=').next().unwrap_or_default();
            Self::UNLOCKING.contains(&option) || argument == "pure-eval"
        })
    }
}

impl TryFrom<Vec<String>> for NixArguments {
    type Error = PolicyError;

    fn try_from(arguments: Vec<String>) -> Result<Self, Self::Error> {
        if let Some(first) = arguments.first().filter(|first| !first.starts_with('-')) {
            return Err(PolicyError(format!(
                "nix_args begins with {first:?}, which isn't an option: bento itself sets what is built"
            )));
        }
        for argument in &arguments {
            let option = argument.split('=').next().unwrap_or_default();
            if Self::REFUSED.contains(&option) || argument == "--" {
                return Err(PolicyError(format!(
                    "nix_args has {option:?}, which bento itself sets: remove it"
                )));
            }
            if argument.is_empty()
                || argument.len() > 4096
                || argument.chars().any(char::is_control)
            {
                return Err(PolicyError(format!(
                    "nix_args has {argument:?}, which is empty, too long or has control characters"
                )));
            }
        }
        Ok(NixArguments(arguments))
    }
}

impl From<NixArguments> for Vec<String> {
    fn from(arguments: NixArguments) -> Vec<String> {
        arguments.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Policy, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn inputs_are_those_of_the_lock_file_unless_an_option_changes_them() {
        let keep = |arguments: &[&str]| {
            let arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
            NixArguments::try_from(arguments).unwrap().keep_inputs()
        };
        assert!(keep(&[]) && keep(&["--fallback", "--option", "cores", "1"]));
        for arguments in [
            &["--impure"][..],
            &["-L", "--override-input", "nixpkgs", "path:/x"],
            &["--option", "pure-eval", "false"],
        ] {
            assert!(!keep(arguments), "{arguments:?}");
        }
    }

    #[test]
    fn the_default_policy_is_empty() {
        assert_eq!(Policy::from(Terms::default()).canonical(), "{}");
        assert_eq!(parse("{}").unwrap(), Policy::default());
    }

    #[test]
    fn the_received_object_enters_the_id() {
        let policy = parse(r#" {"z": {"b":1, "a":["ä/\"",null]}, "reboot": "never"} "#).unwrap();
        assert_eq!(
            policy.canonical(),
            r#"{"reboot":"never","z":{"a":["ä/\"",null],"b":1}}"#
        );
        assert_eq!(policy.unknown().collect::<Vec<_>>(), ["z"]);
        assert_eq!(*policy.terms(), Terms::default());
    }

    /// An inexact parser reads this number as its neighbour: then the id of the stored policy would differ from that of
    /// the received one.
    #[test]
    fn a_number_is_the_same_when_it_is_read_again() {
        let once = parse(r#"{"new":184467440737095516157777777777777777777777777777777}"#).unwrap();
        let again = parse(&once.canonical()).unwrap();
        assert_eq!(again.canonical(), once.canonical());
    }

    #[test]
    fn terms_survive_the_wire() {
        let json = r#"{"attribute":"a.b","nix_args":["--option","x","y z"],"reboot":"window","reboot_window":{"from":"22:30","to":"05:00"},"self_update":true}"#;
        let policy = parse(json).unwrap();
        assert_eq!(policy.canonical(), json);
        assert_eq!(Policy::from(policy.terms().clone()), policy);
    }

    #[test]
    fn a_policy_cannot_smuggle_anything_into_the_build() {
        for bad in [
            r#"{"attribute":"a\"; x"}"#,
            r#"{"attribute":""}"#,
            r#"{"nix_args":["nixpkgs#hello"]}"#,
            r#"{"nix_args":["--fallback","--expr","x"]}"#,
            r#"{"nix_args":["--store=/x"]}"#,
            r#"{"nix_args":["--fallback\n"]}"#,
            r#"{"reboot":"sometimes"}"#,
            r#"{"reboot_window":{"from":"24:00","to":"05:00"}}"#,
            r#"{"reboot_window":{"from":"2:00","to":"05:00"}}"#,
            r#"{"self_update":"yes"}"#,
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
