use std::fmt;

use uuid::Uuid;

use crate::text_type;

/// The id of one run of the client: a UUIDv7, so that ids sort by the start of the runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(Uuid);

text_type!(RunId);

impl RunId {
    /// A new id for a run that starts now.
    pub fn now() -> Self {
        RunId(Uuid::now_v7())
    }
}

impl std::str::FromStr for RunId {
    type Err = ReportNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let uuid = Uuid::try_parse(text)
            .ok()
            .filter(|uuid| uuid.get_version_num() == 7);
        match uuid {
            // Only one spelling, so that one run can't have two file names.
            Some(uuid) if uuid.hyphenated().to_string() == text => Ok(RunId(uuid)),
            _ => Err(ReportNameError(text.chars().take(100).collect())),
        }
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0.hyphenated())
    }
}

/// The name of a report's file: `<run id>.<attempt>.report.gz`.
///
/// A machine can neither overwrite nor resume an interrupted upload, so the next attempt has another name. The first
/// complete report of a run counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReportName {
    /// The run.
    pub run: RunId,
    /// Counted from 1.
    pub attempt: u32,
}

/// A text that isn't a run's id (a UUIDv7 in lower case) or the name of a report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a run's id (a UUIDv7) nor a report's name (<run>.<attempt>.report.gz)")]
pub struct ReportNameError(String);

impl std::str::FromStr for ReportName {
    type Err = ReportNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (run, attempt) = text.strip_suffix(".report.gz")?.split_once('.')?;
            let name = ReportName {
                run: run.parse().ok()?,
                attempt: attempt.parse().ok()?,
            };
            // The round trip refuses "+1", "01" and 0.
            (name.attempt > 0 && name.to_string() == text).then_some(name)
        };
        parse().ok_or_else(|| ReportNameError(text.chars().take(100).collect()))
    }
}

impl fmt::Display for ReportName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.report.gz", self.run, self.attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_name_has_one_spelling() {
        let run = RunId::now();
        let name = ReportName { run, attempt: 2 };
        assert_eq!(name.to_string().parse::<ReportName>(), Ok(name));
        for bad in [
            format!("{run}.0.report.gz"),
            format!("{run}.01.report.gz"),
            format!("{run}.+1.report.gz"),
            format!("{run}.1.report"),
            format!("{run}.report.gz"),
            format!("{}.1.report.gz", run.to_string().to_uppercase()),
            format!("{}.1.report.gz", Uuid::nil()),
            format!("../{run}.1.report.gz"),
        ] {
            assert!(bad.parse::<ReportName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ids_sort_by_time() {
        let runs: Vec<_> = (0..100).map(|_| RunId::now().to_string()).collect();
        assert!(runs.is_sorted());
    }
}
