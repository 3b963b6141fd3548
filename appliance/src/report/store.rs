//! The store: the kept reports of one machine.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::{Record, gzip};
use crate::store::atomic_file;
use crate::store::paths::HostState;

/// Copies the reports of a machine to its new name. Both share the files, which never change.
///
/// # Errors
/// When the reports can't be read, or the links can't be created.
pub fn copy(from: &HostState, to: &HostState) -> io::Result<()> {
    let is_missing = |error: &io::Error| error.kind() == ErrorKind::NotFound;
    let entries = match fs::read_dir(from.reports()) {
        Err(error) if is_missing(&error) => return Ok(()),
        entries => entries?,
    };
    fs::create_dir(to.reports())?;
    for entry in entries {
        let entry = entry?;
        fs::hard_link(entry.path(), to.reports().join(entry.file_name()))?;
    }
    match fs::hard_link(from.summary(), to.summary()) {
        Err(error) if is_missing(&error) => Ok(()),
        linked => linked,
    }
}

/// The limits of one machine's store; the oldest reports are removed first.
#[derive(Debug, Clone, Copy)]
pub struct RetentionLimits {
    /// The most reports.
    pub reports: usize,
    /// The most bytes, logs included.
    pub bytes: u64,
}

impl Default for RetentionLimits {
    fn default() -> Self {
        RetentionLimits {
            reports: 200,
            bytes: 64 << 20,
        }
    }
}

/// The folder of one machine's reports: for each a `<sequence>.<identity>.json` without the log, and, written before
/// it, a `<sequence>.<identity>.log.gz`. The identity is the id of the run, so that a list of the folder is enough to
/// recognise a report that was taken in before.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    limits: RetentionLimits,
    kept: BTreeMap<u64, Kept>,
    identities: HashSet<String>,
}

#[derive(Debug)]
struct Kept {
    identity: String,
    bytes: u64,
}

/// The parts of a file name in the folder.
struct Name<'a> {
    sequence: u64,
    identity: &'a str,
    extension: &'a str,
}

const RECORD: &str = "json";
const LOG: &str = "log.gz";

impl Store {
    /// Opens a machine's store for reading; an empty one if there is none.
    pub fn read(keep: &HostState, limits: RetentionLimits) -> io::Result<Self> {
        let mut store = Store {
            folder: keep.reports(),
            limits,
            kept: BTreeMap::new(),
            identities: HashSet::new(),
        };
        let names = store.names()?;
        for name in names
            .iter()
            .filter_map(|name| Name::parse(name))
            .filter(|name| name.extension == RECORD)
        {
            let bytes = store.bytes(name.sequence, name.identity);
            store.keep(name.sequence, name.identity.to_owned(), bytes);
        }
        Ok(store)
    }

    /// Opens a machine's store for writing: creates the folder, and removes the leftovers of a crash.
    pub(super) fn open(keep: &HostState, limits: RetentionLimits) -> io::Result<Self> {
        fs::create_dir_all(keep.reports())?;
        atomic_file::sync_folder_of(&keep.reports())?;
        let store = Store::read(keep, limits)?;
        for name in store.names()? {
            let whole =
                Name::parse(&name).is_some_and(|name| store.kept.contains_key(&name.sequence));
            if !whole {
                fs::remove_file(store.folder.join(name))?;
            }
        }
        Ok(store)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        match fs::read_dir(&self.folder) {
            Ok(entries) => entries
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect(),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn keep(&mut self, sequence: u64, identity: String, bytes: u64) {
        self.identities.insert(identity.clone());
        self.kept.insert(sequence, Kept { identity, bytes });
    }

    fn path(&self, sequence: u64, identity: &str, extension: &str) -> PathBuf {
        self.folder
            .join(format!("{sequence:010}.{identity}.{extension}"))
    }

    fn bytes(&self, sequence: u64, identity: &str) -> u64 {
        let size = |extension| {
            fs::metadata(self.path(sequence, identity, extension)).map_or(0, |data| data.len())
        };
        size(RECORD) + size(LOG)
    }

    /// The number of reports.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// The sequence number of the newest report.
    pub fn newest(&self) -> Option<u64> {
        self.kept.keys().next_back().copied()
    }

    /// Whether it has a report with this identity.
    pub(super) fn contains(&self, identity: &str) -> bool {
        self.identities.contains(identity)
    }

    /// Adds a report, safe against a power loss.
    pub(super) fn add(&mut self, record: &Record, identity: &str, log: &[u8]) -> io::Result<()> {
        // The record last: with it the report counts.
        atomic_file::write(&self.path(record.sequence, identity, LOG), log)?;
        atomic_file::write_json(&self.path(record.sequence, identity, RECORD), record)?;
        self.keep(
            record.sequence,
            identity.to_owned(),
            self.bytes(record.sequence, identity),
        );
        Ok(())
    }

    /// Removes the oldest reports beyond the limits, except essential ones; returns their number.
    pub(super) fn prune(&mut self, essential: &[Option<u64>]) -> io::Result<usize> {
        let before = self.len();
        let mut bytes: u64 = self.kept.values().map(|kept| kept.bytes).sum();
        let removable: Vec<u64> = self
            .kept
            .keys()
            .copied()
            .filter(|sequence| !essential.contains(&Some(*sequence)))
            .collect();
        for sequence in removable {
            if self.len() <= self.limits.reports && bytes <= self.limits.bytes {
                break;
            }
            bytes -= self.remove(sequence)?;
        }
        Ok(before - self.len())
    }

    /// Removes a report; returns its bytes.
    fn remove(&mut self, sequence: u64) -> io::Result<u64> {
        let Some(Kept { identity, bytes }) = self.kept.get(&sequence) else {
            return Ok(0);
        };
        let bytes = *bytes;
        // The record first: a log without one is removed at the next opening.
        for extension in [RECORD, LOG] {
            remove_if_there(&self.path(sequence, identity, extension))?;
        }
        if let Some(kept) = self.kept.remove(&sequence) {
            self.identities.remove(&kept.identity);
        }
        Ok(bytes)
    }

    /// The reports from the oldest to the newest, read one by one. An unreadable one is left out and logged.
    pub fn records(&self) -> impl DoubleEndedIterator<Item = Record> {
        self.kept.iter().filter_map(|(sequence, kept)| {
            let path = self.path(*sequence, &kept.identity, RECORD);
            atomic_file::read_json(&path)
                .inspect_err(|error| {
                    tracing::warn!(report = %path.display(), %error, "a kept report can't be read: left out");
                })
                .ok()
                .flatten()
        })
    }

    /// The log of a report, decompressed; none when there is no such report.
    pub fn log(&self, sequence: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(kept) = self.kept.get(&sequence) else {
            return Ok(None);
        };
        let compressed = fs::read(self.path(sequence, &kept.identity, LOG))?;
        gzip::decompress(&compressed, bento_protocol::limits::REPORT_JSON_BYTES)
            .map(Some)
            .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
    }
}

impl<'a> Name<'a> {
    fn parse(name: &'a str) -> Option<Self> {
        let (sequence, rest) = name.split_once('.')?;
        let (identity, extension) = rest.split_once('.')?;
        let known = extension == RECORD || extension == LOG;
        let sequence = sequence.parse().ok().filter(|_| known)?;
        Some(Name {
            sequence,
            identity,
            extension,
        })
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture::{Machine, record, report};

    fn store(machine: &Machine) -> Store {
        Store::open(&machine.keep, RetentionLimits::default()).unwrap()
    }

    #[test]
    fn the_leftovers_of_a_crash_are_removed() {
        let machine = Machine::new();
        let sent = report('a');
        let identity = sent.run.to_string();
        store(&machine)
            .add(&record(1, sent), &identity, b"")
            .unwrap();
        for leftover in [
            "0000000002.x.log.gz",
            "0000000002.x.json.new",
            "0000000001.x.log.gz.new",
            "0000000003.x",
        ] {
            fs::write(machine.keep.reports().join(leftover), "half").unwrap();
        }
        assert_eq!(store(&machine).newest(), Some(1));
        assert_eq!(fs::read_dir(machine.keep.reports()).unwrap().count(), 2);
    }

    #[test]
    fn a_report_that_cannot_be_read_hides_no_other() {
        let machine = Machine::new();
        let mut store = store(&machine);
        for sequence in 1..=3 {
            store
                .add(
                    &record(sequence, report('a')),
                    &format!("run{sequence}"),
                    b"",
                )
                .unwrap();
        }
        fs::write(machine.keep.reports().join("0000000002.run2.json"), "{").unwrap();
        assert!(store.records().map(|record| record.sequence).eq([1, 3]));
        assert_eq!(store.log(4).unwrap(), None);
    }
}
