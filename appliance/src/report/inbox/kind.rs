//! The classification of the entries of an inbox.

use std::io;

use bento_protocol::{Digest, Report, ReportError, ReportName, limits};

use super::super::gzip::{GzipError, compress, decompress};
use super::super::{Content, Store};
use super::entry::{Inbox, InboxEntry};
use crate::legacy::LegacyLog;

/// An entry of an inbox, classified.
pub(super) enum Classified {
    /// A new report.
    Report {
        /// The identity of the run.
        identity: String,
        content: Box<Content>,
        /// Gzipped.
        log: Vec<u8>,
    },
    /// A report of a run that was taken in before, or a part of one.
    Known,
    /// No file of a client.
    Refused(Refusal),
}

/// The reason for which an entry is no report.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("its name is neither a report's nor that of a bento 2022 log")]
    Name,
    #[error("it isn't a regular file")]
    NotAFile,
    #[error("it is larger than {} bytes", limits::REPORT_BYTES)]
    TooLarge,
    #[error(transparent)]
    Gzip(#[from] GzipError),
    #[error(transparent)]
    Report(#[from] ReportError),
    #[error("its name and its content are of different runs")]
    OtherRun,
}

/// The name of an entry.
enum Name {
    Report(ReportName),
    Legacy(LegacyLog),
}

impl Name {
    fn parse(entry: &InboxEntry) -> Option<Self> {
        let name = entry.name.to_str().ok()?;
        let report = name.parse().map(Name::Report);
        report.or_else(|_| name.parse().map(Name::Legacy)).ok()
    }
}

/// Reads and classifies an entry. An error is only one of reading.
pub(super) fn classify(inbox: &Inbox, entry: &InboxEntry, store: &Store) -> io::Result<Classified> {
    let Some(name) = Name::parse(entry) else {
        return Ok(Classified::Refused(Refusal::Name));
    };
    if let Name::Report(name) = &name
        && store.contains(&name.run.to_string())
    {
        return Ok(Classified::Known);
    }
    let Some(bytes) = inbox.read(entry, limits::REPORT_BYTES)? else {
        return Ok(Classified::Refused(Refusal::NotAFile));
    };
    let classified = match name {
        Name::Report(name) => open_report(&bytes, name),
        Name::Legacy(log) => open_legacy(bytes, log),
    };
    Ok(match classified {
        Ok(Classified::Report { identity, .. }) if store.contains(&identity) => Classified::Known,
        Ok(classified) => classified,
        Err(refusal) => Classified::Refused(refusal),
    })
}

fn open(bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
    if bytes.len() as u64 > limits::REPORT_BYTES {
        return Err(Refusal::TooLarge);
    }
    Ok(decompress(bytes, limits::REPORT_JSON_BYTES)?)
}

fn open_report(bytes: &[u8], name: ReportName) -> Result<Classified, Refusal> {
    let mut report = Report::parse(&open(bytes)?)?;
    if report.run != name.run {
        return Err(Refusal::OtherRun);
    }
    let log = compress(std::mem::take(&mut report.log).as_bytes());
    Ok(Classified::Report {
        identity: name.run.to_string(),
        content: Box::new(Content::Report(Box::new(report))),
        log,
    })
}

/// Reads a bento 2022 log, which is kept unchanged. It has no id of its own: the same name with the same content is the
/// same log, left in the inbox by a crash; the same name with other content is another run of that minute.
fn open_legacy(bytes: Vec<u8>, log: LegacyLog) -> Result<Classified, Refusal> {
    open(&bytes)?;
    let name = log.to_string();
    let identity = Digest::of([name.as_bytes(), b"\n", &bytes].concat()).to_string();
    Ok(Classified::Report {
        identity: format!("legacy-{}", &identity[..32]),
        content: Box::new(Content::Legacy(log)),
        log: bytes,
    })
}
