//! Which report is meant.

use std::fmt;

use super::Entry;

/// One report of a machine, as an administrator names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// The newest.
    Latest,
    /// By its number.
    Number(u64),
    /// By the beginning of the run's id.
    Run(String),
}

/// A text that names no report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it must be a report's number, the beginning of a run's id, or `latest`")]
pub struct ChoiceError;

/// How many characters a run's id has.
const ID_LENGTH: usize = 36;

impl Choice {
    /// Whether a report may be the one that is meant.
    pub fn is(&self, entry: &Entry) -> bool {
        match self {
            Choice::Latest => true,
            Choice::Number(number) => entry.number == *number,
            Choice::Run(beginning) => entry
                .run
                .is_some_and(|run| run.to_string().starts_with(beginning)),
        }
    }
}

impl std::str::FromStr for Choice {
    type Err = ChoiceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "latest" {
            return Ok(Choice::Latest);
        }
        // Ids of runs begin with a 0, for as long as their first digits are a time before the year 2527.
        if let Ok(number) = text.parse()
            && !text.starts_with(['0', '+'])
        {
            return Ok(Choice::Number(number));
        }
        let is_beginning = (1..=ID_LENGTH).contains(&text.len())
            && text
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'))
            && !text.starts_with('-');
        if is_beginning {
            Ok(Choice::Run(text.to_owned()))
        } else {
            Err(ChoiceError)
        }
    }
}

/// As a word for another `bento`.
impl fmt::Display for Choice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Choice::Latest => formatter.write_str("latest"),
            Choice::Number(number) => write!(formatter, "{number}"),
            Choice::Run(beginning) => formatter.write_str(beginning),
        }
    }
}
