use std::time::Duration;

use bento_protocol::text_type;
use serde::Deserialize;

use super::Limit;

/// `[health]`: health checks of the new system.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// Time limit for checks without their own, including those in `/etc/bento/health.d`; a minute by default.
    pub timeout: Limit,
    /// `[[health.checks]]`, which run in this order.
    pub checks: Vec<HealthCheck>,
}

impl Default for Health {
    fn default() -> Self {
        Health {
            timeout: Limit::clamped(Duration::from_secs(60)),
            checks: Vec::new(),
        }
    }
}

/// A command that succeeds on a healthy system.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// The name in messages.
    pub name: CheckName,
    /// The command, without a shell.
    pub command: CheckCommand,
    /// Whether a system that fails it is rolled back, as by default, or only warned about.
    #[serde(default = "yes")]
    pub required: bool,
    /// Time limit; [`Health::timeout`] by default.
    pub timeout: Option<Limit>,
}

fn yes() -> bool {
    true
}

/// The name of a check: visible text on one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckName(String);

text_type!(CheckName(String));

/// A text that isn't the name of a check.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} isn't a name for a health check: it must be one line with something on it")]
pub struct CheckNameError(String);

impl std::str::FromStr for CheckName {
    type Err = CheckNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim().is_empty() || text.chars().any(char::is_control) {
            return Err(CheckNameError(text.chars().take(80).collect()));
        }
        Ok(CheckName(text.to_owned()))
    }
}

/// A program, by its path or as it is found in the client's `PATH`, and its arguments. Under NixOS the client's unit
/// has few programs in its `PATH`; the others have paths such as `/run/current-system/sw/bin/curl`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct CheckCommand {
    program: String,
    arguments: Vec<String>,
}

/// A command without a program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("command names no program: write it as [\"curl\", \"--fail\", \"http://localhost\"]")]
pub struct CheckCommandError;

impl CheckCommand {
    /// The program.
    pub fn program(&self) -> &str {
        &self.program
    }

    /// Its arguments.
    pub fn arguments(&self) -> &[String] {
        &self.arguments
    }
}

impl TryFrom<Vec<String>> for CheckCommand {
    type Error = CheckCommandError;

    fn try_from(mut words: Vec<String>) -> Result<Self, Self::Error> {
        if words.first().is_none_or(String::is_empty) {
            return Err(CheckCommandError);
        }
        let arguments = words.split_off(1);
        Ok(CheckCommand {
            program: words.remove(0),
            arguments,
        })
    }
}
