//! The inbox of a machine: its reports are taken in. Every entry is hostile until checked.

use std::ffi::CStr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use bento_protocol::HostName;
use jiff::Timestamp;

use super::{Content, Record, RetentionLimits, Store, Summary, gzip};
use crate::store::paths::HostState;

use entry::{Inbox, InboxEntry};
use kind::{Classified, Refusal};

mod entry;
mod kind;

/// The possible writers of an inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    /// A session is open: a file that ends too early may still grow.
    Open,
    /// There is none: a file that ends too early stays so.
    None,
}

/// The result of one pass over an inbox.
#[derive(Debug, Default)]
pub struct Intake {
    /// The new records, in the order of receipt.
    pub taken: Vec<Record>,
    /// The number of refused entries.
    pub refused: u64,
    /// The number of entries that were removed from the inbox.
    pub removed: usize,
    /// Whether another pass would find more.
    pub more: bool,
}

/// The callback for each refused entry: its name and the reason, both fit for a log.
pub type Refuse<'a> = &'a mut dyn FnMut(&str, &str);

/// The most entries of one pass.
const MAX_ENTRIES: usize = 32;
/// The time after which a pass begins no further entry, so that other machines don't wait for one with slow entries. The
/// worst entry takes some 60 ms.
const MAX_TIME: Duration = Duration::from_millis(100);

/// The number of entries of an inbox, counted up to `most`; 0 if there is no such inbox.
pub fn count(logs: &Path, most: usize) -> usize {
    // It may just be removed with its publication, and is empty then.
    Inbox::open(logs).map_or(0, |inbox| inbox.count(most))
}

/// Takes in the entries of one inbox (`<publication>/logs`): copies each report durably to the machine's store, writes the
/// summary, and only then removes the report from the inbox, so that a crash can't lose it. A report that was taken in
/// before is recognised by the id of its run.
///
/// Other entries are removed, and passed to `refuse`. Only one caller at a time may take in for a machine.
///
/// # Errors
/// When the inbox can't be listed, or the store can't be written, such as on a full disk; then the remaining reports are
/// still in the inbox.
pub fn take_in(
    logs: &Path,
    host: &HostName,
    keep: &HostState,
    writers: Writers,
    now: Timestamp,
    refuse: Refuse<'_>,
) -> anyhow::Result<Intake> {
    take_in_within(
        logs,
        host,
        keep,
        writers,
        now,
        refuse,
        RetentionLimits::default(),
    )
}

fn take_in_within(
    logs: &Path,
    host: &HostName,
    keep: &HostState,
    writers: Writers,
    now: Timestamp,
    refuse: Refuse<'_>,
    limits: RetentionLimits,
) -> anyhow::Result<Intake> {
    let inbox = Inbox::open(logs)
        .with_context(|| format!("{host}: its inbox {} can't be opened", logs.display()))?;
    let entries = inbox
        .entries()
        .with_context(|| format!("{host}: its inbox {} can't be listed", logs.display()))?;
    if entries.is_empty() {
        return Ok(Intake::default());
    }
    let cannot_keep = || {
        format!(
            "{host}: its reports can't be kept in {}",
            keep.root().display()
        )
    };
    let store = Store::open(keep, limits).with_context(cannot_keep)?;
    let summary = Summary::reconcile(keep, &store).with_context(cannot_keep)?;
    let mut pass = InboxPass {
        inbox,
        host,
        keep,
        writers,
        now,
        store,
        summary,
        refuse,
        kept: Vec::new(),
        intake: Intake::default(),
    };

    let began = Instant::now();
    let mut taken = 0;
    let mut outcome = Ok(());
    for entry in entries.iter().take(MAX_ENTRIES) {
        taken += 1;
        outcome = pass.take(entry);
        if outcome.is_err() || began.elapsed() >= MAX_TIME {
            break;
        }
    }
    pass.finish().with_context(cannot_keep)?;
    outcome.with_context(cannot_keep)?;
    // Without progress another pass would do the same again.
    pass.intake.more = pass.intake.removed > 0 && entries.len() > taken;
    Ok(pass.intake)
}

/// One pass over one inbox.
struct InboxPass<'a> {
    inbox: Inbox,
    host: &'a HostName,
    keep: &'a HostState,
    writers: Writers,
    now: Timestamp,
    store: Store,
    summary: Summary,
    refuse: Refuse<'a>,
    /// The entries whose report is kept: removed once the summary is written.
    kept: Vec<&'a CStr>,
    intake: Intake,
}

impl<'a> InboxPass<'a> {
    fn take(&mut self, entry: &'a InboxEntry) -> std::io::Result<()> {
        match kind::classify(&self.inbox, entry, &self.store) {
            Ok(Classified::Report {
                identity,
                content,
                log,
            }) => {
                self.keep(&identity, *content, &log)?;
                self.kept.push(&entry.name);
            }
            Ok(Classified::Known) => {
                tracing::debug!(host = %self.host, entry = entry.shown(), "this run was reported before");
                self.kept.push(&entry.name);
            }
            Ok(Classified::Refused(Refusal::Gzip(gzip::GzipError::Cut)))
                if self.writers == Writers::Open => {}
            Ok(Classified::Refused(refusal)) => self.refuse(entry, &refusal),
            // An unreadable entry doesn't stop the others.
            Err(error) => {
                tracing::warn!(host = %self.host, entry = entry.shown(), %error, "an inbox entry can't be read");
            }
        }
        Ok(())
    }

    fn keep(&mut self, identity: &str, content: Content, log: &[u8]) -> std::io::Result<()> {
        let record = Record {
            sequence: self.summary.next,
            received: self.now,
            content,
        };
        self.store.add(&record, identity, log)?;
        self.summary.add(&record);
        self.intake.taken.push(record);
        Ok(())
    }

    fn refuse(&mut self, entry: &InboxEntry, refusal: &Refusal) {
        let reason = crate::text::sanitise::one_line(&refusal.to_string(), 300);
        (self.refuse)(&entry.shown(), &reason);
        self.summary.refused += 1;
        self.intake.refused += 1;
        self.remove(&entry.name);
    }

    /// Applies the limits, writes the summary, and then removes the kept reports from the inbox.
    fn finish(&mut self) -> std::io::Result<()> {
        if self.kept.is_empty() && self.intake.refused == 0 {
            return Ok(());
        }
        let dropped = self.store.prune(&self.summary.essential())?;
        if dropped > 0 {
            tracing::info!(host = %self.host, dropped, "removed the oldest reports: this machine's limit is reached");
        }
        self.summary.count(&self.store);
        self.summary.write(self.keep)?;
        for name in std::mem::take(&mut self.kept) {
            self.remove(name);
        }
        Ok(())
    }

    fn remove(&mut self, name: &CStr) {
        match self.inbox.remove(name) {
            Ok(()) => self.intake.removed += 1,
            Err(error) => {
                let entry = name.to_bytes().escape_ascii().to_string();
                tracing::warn!(host = %self.host, entry, %error, "an inbox entry can't be removed");
            }
        }
    }
}

#[cfg(test)]
mod tests;
