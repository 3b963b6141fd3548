//! Reports that wait for delivery, on disk.

use std::fs::{self, File};
use std::io::{BufReader, Read, Write};
use std::path::PathBuf;

use anyhow::Context;
use bento_protocol::{Report, ReportName, limits};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use crate::state::State;
use crate::state::atomic_file;

/// The folder of reports that wait for delivery.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
}

/// A report as the appliance takes it.
pub(crate) fn compressed(report: &Report) -> anyhow::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    serde_json::to_writer(&mut encoder, report).context("the report can't be written as JSON")?;
    encoder.flush().context("the report can't be compressed")?;
    encoder.finish().context("the report can't be compressed")
}

/// A report that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waiting {
    /// Its place in the order of runs. The run's own id wouldn't do: it begins with the time, and a clock that was
    /// set back would put a later run before an earlier one.
    sequence: u64,
    /// The name under which it is delivered next.
    pub name: ReportName,
}

impl Spool {
    /// The spool of a state folder.
    pub fn new(state: &State) -> Self {
        Spool {
            folder: state.spool(),
        }
    }

    /// Adds a report behind all others, unless there is one of its run. When there are too many, the oldest go; their
    /// number is returned.
    pub fn add(&self, report: &Report) -> anyhow::Result<usize> {
        let mut waiting = self.waiting()?;
        // A run that was cut short after it had added its report adds it again when it is completed.
        if waiting.iter().any(|waiting| waiting.name.run == report.run) {
            return Ok(0);
        }
        let added = Waiting {
            sequence: waiting.last().map_or(1, |last| last.sequence + 1),
            name: ReportName {
                run: report.run,
                attempt: 1,
            },
        };
        atomic_file::write(&self.path(&added), &compressed(report)?, 0o600)?;
        waiting.push(added);
        let too_many = waiting.len().saturating_sub(limits::SPOOLED_REPORTS);
        for oldest in &waiting[..too_many] {
            self.remove(oldest)?;
        }
        Ok(too_many)
    }

    /// The reports that wait, in the order of their runs.
    pub fn waiting(&self) -> anyhow::Result<Vec<Waiting>> {
        let context = || format!("can't list {}", self.folder.display());
        let mut waiting = Vec::new();
        for entry in fs::read_dir(&self.folder).with_context(context)? {
            let name = entry.with_context(context)?.file_name();
            // Anything else is a write that was cut short.
            waiting.extend(name.to_str().and_then(parse));
        }
        waiting.sort();
        Ok(waiting)
    }

    /// The content of a report's file.
    pub fn content(&self, waiting: &Waiting) -> anyhow::Result<Vec<u8>> {
        let path = self.path(waiting);
        fs::read(&path).with_context(|| format!("can't read {}", path.display()))
    }

    /// A report.
    pub fn report(&self, waiting: &Waiting) -> anyhow::Result<Report> {
        let path = self.path(waiting);
        let read = || {
            let file = BufReader::new(File::open(&path)?);
            let json = GzDecoder::new(file).take(limits::REPORT_JSON_BYTES);
            // Not all of it in memory at once: that could be half of what the client may have.
            anyhow::Ok(serde_json::from_reader(BufReader::new(json))?)
        };
        read().with_context(|| format!("{} isn't what the client wrote there", path.display()))
    }

    /// Gives a report the name of its next attempt, on disk too: the name before may stand for half a report.
    pub fn next_attempt(&self, waiting: &Waiting) -> anyhow::Result<Waiting> {
        let mut next = *waiting;
        next.name.attempt += 1;
        atomic_file::rename(&self.path(waiting), &self.path(&next))?;
        Ok(next)
    }

    /// Removes a report.
    pub fn remove(&self, waiting: &Waiting) -> anyhow::Result<()> {
        let path = self.path(waiting);
        atomic_file::remove_if_there(&path)
            .with_context(|| format!("can't remove {}", path.display()))
    }

    fn path(&self, waiting: &Waiting) -> PathBuf {
        self.folder
            .join(format!("{:08}-{}", waiting.sequence, waiting.name))
    }
}

fn parse(name: &str) -> Option<Waiting> {
    let (sequence, name) = name.split_once('-')?;
    Some(Waiting {
        sequence: sequence.parse().ok()?,
        name: name.parse().ok()?,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use bento_protocol::{Format, Outcome, RunId, Systems};
    use jiff::Timestamp;

    use super::*;

    pub(crate) fn report(run: RunId) -> Report {
        Report {
            format: Format,
            run,
            generation: "0".repeat(64).parse().unwrap(),
            outcome: Outcome::Unchanged,
            auto: false,
            started: Timestamp::UNIX_EPOCH,
            finished: Timestamp::UNIX_EPOCH,
            phases: Vec::new(),
            system: Systems::default(),
            reboot_required: false,
            held: None,
            error: None,
            client: "0".into(),
            nix: None,
            machine: None,
            specialisation: None,
            log: String::new(),
        }
    }

    fn spool() -> (tempfile::TempDir, Spool) {
        let folder = tempfile::tempdir().unwrap();
        let state = State::new(folder.path()).unwrap();
        state.prepare().unwrap();
        (folder, Spool::new(&state))
    }

    #[test]
    fn reports_wait_in_the_order_of_their_runs_whatever_the_clock_says() {
        let (_folder, spool) = spool();
        let mut runs: Vec<_> = (0..12).map(|_| RunId::now()).collect();
        runs.reverse();
        for run in &runs {
            spool.add(&report(*run)).unwrap();
        }
        let waiting: Vec<_> = spool
            .waiting()
            .unwrap()
            .iter()
            .map(|waiting| waiting.name.run)
            .collect();
        assert_eq!(waiting, runs);
    }

    #[test]
    fn an_attempt_more_is_remembered_and_keeps_the_place() {
        let (_folder, spool) = spool();
        let runs = [RunId::now(), RunId::now()];
        for run in runs {
            spool.add(&report(run)).unwrap();
        }
        let first = spool.waiting().unwrap()[0];
        spool.next_attempt(&first).unwrap();
        let first = spool.waiting().unwrap()[0];
        assert_eq!(first.name.to_string(), format!("{}.2.report.gz", runs[0]));
        assert_eq!(spool.report(&first).unwrap(), report(runs[0]));
        spool.remove(&first).unwrap();
        assert_eq!(spool.waiting().unwrap().len(), 1);
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let (folder, spool) = spool();
        fs::write(folder.path().join("spool/00000001-x.new"), "half").unwrap();
        let runs: Vec<_> = (0..limits::SPOOLED_REPORTS + 2)
            .map(|_| RunId::now())
            .collect();
        let dropped: usize = runs
            .iter()
            .map(|run| spool.add(&report(*run)).unwrap())
            .sum();
        assert_eq!(dropped, 2);
        let waiting = spool.waiting().unwrap();
        assert_eq!(waiting.len(), limits::SPOOLED_REPORTS);
        assert_eq!(waiting[0].name.run, runs[2]);
    }
}
