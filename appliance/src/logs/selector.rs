//! The selection of a report.

use std::fmt;

use super::ReportEntry;

/// A selector for one report of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReportSelector {
    /// The newest.
    Latest,
    /// By its number.
    Number(u64),
    /// By the beginning of the run's id.
    Run(String),
}

/// A text that isn't a selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it must be a report's number, the beginning of a run's id, or `latest`")]
pub struct SelectorError;

/// The length of a run's id.
const ID_LENGTH: usize = 36;

impl ReportSelector {
    /// Whether a report matches.
    pub fn matches(&self, entry: &ReportEntry) -> bool {
        match self {
            ReportSelector::Latest => true,
            ReportSelector::Number(number) => entry.number == *number,
            ReportSelector::Run(beginning) => entry
                .run
                .is_some_and(|run| run.to_string().starts_with(beginning)),
        }
    }
}

impl std::str::FromStr for ReportSelector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "latest" {
            return Ok(ReportSelector::Latest);
        }
        // Ids of runs begin with a time, and so with a 0 until the year 2527.
        if let Ok(number) = text.parse()
            && !text.starts_with(['0', '+'])
        {
            return Ok(ReportSelector::Number(number));
        }
        let is_beginning = (1..=ID_LENGTH).contains(&text.len())
            && text
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'))
            && !text.starts_with('-');
        if is_beginning {
            Ok(ReportSelector::Run(text.to_owned()))
        } else {
            Err(SelectorError)
        }
    }
}

/// As an argument for a remote `bento`.
impl fmt::Display for ReportSelector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReportSelector::Latest => formatter.write_str("latest"),
            ReportSelector::Number(number) => write!(formatter, "{number}"),
            ReportSelector::Run(beginning) => formatter.write_str(beginning),
        }
    }
}
