//! The report of a bento 2022 client: a compressed build log with the outcome in its name.

use std::fmt;

use bento_protocol::SystemPath;
use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};

/// A bento 2022 log, parsed from its name: `YYYYMMDD-HHMM_<system>_<outcome>.log.gz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegacyLog {
    /// The date, by the machine's clock, in an unknown time zone.
    pub date: DateTime,
    /// The system of the machine's profile at the end; none if the machine didn't find it.
    pub system: Option<SystemPath>,
    /// The outcome of the run.
    pub outcome: LegacyOutcome,
}

/// The outcome of a bento 2022 run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LegacyOutcome {
    /// Switched to the new system, or it was the same.
    Success,
    /// The build or the switch failed.
    Failure,
    /// Rolled back, because the machine couldn't reach the server any more.
    Rollback,
    /// Switched after the machine updated its inputs by itself.
    Autoupdate,
}

impl LegacyOutcome {
    /// Whether the machine runs the built system.
    pub fn is_success(self) -> bool {
        matches!(self, LegacyOutcome::Success | LegacyOutcome::Autoupdate)
    }

    /// Its part of the file name.
    pub fn as_str(self) -> &'static str {
        match self {
            LegacyOutcome::Success => "success",
            LegacyOutcome::Failure => "failure",
            LegacyOutcome::Rollback => "rollback",
            LegacyOutcome::Autoupdate => "autoupdate",
        }
    }

    fn from_str(text: &str) -> Option<Self> {
        use LegacyOutcome::{Autoupdate, Failure, Rollback, Success};
        [Success, Failure, Rollback, Autoupdate]
            .into_iter()
            .find(|outcome| outcome.as_str() == text)
    }
}

/// A text that isn't the name of a bento 2022 log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it isn't the name of a bento 2022 log (YYYYMMDD-HHMM_<system>_<outcome>.log.gz)")]
pub struct LegacyNameError;

impl std::str::FromStr for LegacyLog {
    type Err = LegacyNameError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (date, rest) = name.strip_suffix(".log.gz")?.split_once('_')?;
            // The name of a system may contain underscores, an outcome doesn't.
            let (system, outcome) = rest.rsplit_once('_')?;
            Some(LegacyLog {
                date: parse_date(date)?,
                system: if system.is_empty() {
                    None
                } else {
                    Some(parse_system(system)?)
                },
                outcome: LegacyOutcome::from_str(outcome)?,
            })
        };
        parse().ok_or(LegacyNameError)
    }
}

/// Parses `%Y%m%d-%H%M` with all digits: `strptime` alone accepts fewer, and signs.
fn parse_date(text: &str) -> Option<DateTime> {
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let (day, minute) = text.split_once('-')?;
    let complete = day.len() == 8 && minute.len() == 4 && digits(day) && digits(minute);
    complete.then(|| DateTime::strptime("%Y%m%d-%H%M", text).ok())?
}

/// Parses the name of a store path, with the characters that Nix allows.
fn parse_system(name: &str) -> Option<SystemPath> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._?=".contains(&byte);
    name.bytes()
        .all(allowed)
        .then(|| format!("/nix/store/{name}").parse().ok())?
}

impl fmt::Display for LegacyLog {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let system = self
            .system
            .as_ref()
            .map_or("", |path| path.as_str().trim_start_matches("/nix/store/"));
        write!(
            formatter,
            "{}_{system}_{}.log.gz",
            self.date.strftime("%Y%m%d-%H%M"),
            self.outcome.as_str()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYSTEM: &str =
        "0c5mc9c6lbpjbs6xk8wqm1mxwrfbwyzz-nixos-system-my_host-22.11.20220904.d86a461";

    #[test]
    fn names_of_2022_are_parsed() {
        for outcome in ["success", "failure", "rollback", "autoupdate"] {
            let name = format!("20220912-2359_{SYSTEM}_{outcome}.log.gz");
            let log: LegacyLog = name.parse().unwrap();
            assert_eq!(log.outcome.as_str(), outcome);
            assert_eq!(
                log.system.as_ref().unwrap().as_str(),
                format!("/nix/store/{SYSTEM}")
            );
            assert_eq!(log.date.to_string(), "2022-09-12T23:59:00");
            assert_eq!(log.to_string(), name);
        }
        let without: LegacyLog = "20220912-2359__failure.log.gz".parse().unwrap();
        assert_eq!(without.system, None);
    }

    #[test]
    fn other_names_are_refused() {
        for bad in [
            "",
            "20220912-2359_x_success.log",
            "20220912-2359_x_SUCCESS.log.gz",
            "20220912-2359_x_done.log.gz",
            "20221312-2359_x_success.log.gz",
            "20220912-2460_x_success.log.gz",
            "2022912-2359_x_success.log.gz",
            "+0220912-2359_x_success.log.gz",
            "20220912-2359_success.log.gz",
            "20220912-2359_.._success.log.gz",
            "20220912-2359_a/b_success.log.gz",
            "20220912-2359_a\nb_success.log.gz",
            "20220912-2359_\u{1b}[2J_success.log.gz",
            "20220912-2359_ä_success.log.gz",
        ] {
            assert_eq!(bad.parse::<LegacyLog>(), Err(LegacyNameError), "{bad:?}");
        }
    }
}
