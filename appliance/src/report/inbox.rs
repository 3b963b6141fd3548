//! Takes in what a machine left in its inbox. Everything in there is hostile until shown otherwise.

use std::ffi::CStr;
use std::path::Path;

use anyhow::Context;
use bento_protocol::HostName;
use jiff::Timestamp;

use super::{Content, Ledger, Limits, Record, Store, gzip};
use crate::state::HostState;

use entry::{Entry, Inbox};
use verdict::{Refusal, Verdict};

mod entry;
mod verdict;

/// Whether somebody may still be writing into an inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    /// A session that can write there is open: what ends too early may only not be there yet.
    Open,
    /// None is: what ends too early stays so.
    None,
}

/// What one pass over an inbox came to.
#[derive(Debug, Default)]
pub struct Intake {
    /// The reports that were taken in, in the order of receipt.
    pub taken: Vec<Record>,
    /// How many entries were refused.
    pub refused: u64,
    /// Whether another pass at once would find more to do.
    pub more: bool,
}

/// The most entries of an inbox that one pass looks at: the worst of them takes some 60 ms, and the machines whose
/// turn comes next shouldn't wait longer than a few seconds.
const PASS: usize = 32;

/// Takes in what lies in one inbox (`<publication>/logs`): copies each report to what is kept of the machine, makes
/// that last, writes the ledger, and only then removes it from the inbox, so that a crash can't lose a report. One
/// that was taken in before is known by the id of its run.
///
/// What isn't a report is removed with one line in the log. Only one caller at a time may take in for a machine.
///
/// # Errors
/// When the inbox can't be listed, or what is kept can't be written, such as on a full disk; whatever wasn't kept is
/// still in the inbox then.
pub fn take_in(
    logs: &Path,
    host: &HostName,
    keep: &HostState,
    writers: Writers,
    now: Timestamp,
) -> anyhow::Result<Intake> {
    take_in_within(logs, host, keep, writers, now, Limits::default())
}

fn take_in_within(
    logs: &Path,
    host: &HostName,
    keep: &HostState,
    writers: Writers,
    now: Timestamp,
    limits: Limits,
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
    let ledger = Ledger::reconcile(keep, &store).with_context(cannot_keep)?;
    let mut pass = Pass {
        inbox,
        host,
        keep,
        writers,
        now,
        store,
        ledger,
        kept: Vec::new(),
        removed: 0,
        intake: Intake::default(),
    };

    let looked_at = &entries[..entries.len().min(PASS)];
    let outcome = looked_at.iter().try_for_each(|entry| pass.look_at(entry));
    pass.finish().with_context(cannot_keep)?;
    outcome.with_context(cannot_keep)?;
    // Without progress another pass would only do the same again.
    pass.intake.more = pass.removed > 0 && entries.len() > PASS;
    Ok(pass.intake)
}

/// One pass over one inbox.
struct Pass<'a> {
    inbox: Inbox,
    host: &'a HostName,
    keep: &'a HostState,
    writers: Writers,
    now: Timestamp,
    store: Store,
    ledger: Ledger,
    /// The entries whose report is kept: removed once the ledger is written.
    kept: Vec<&'a CStr>,
    /// How many entries are gone from the inbox.
    removed: usize,
    intake: Intake,
}

impl<'a> Pass<'a> {
    fn look_at(&mut self, entry: &'a Entry) -> std::io::Result<()> {
        match verdict::examine(&self.inbox, entry, &self.store) {
            Ok(Verdict::Report {
                identity,
                content,
                log,
            }) => {
                self.keep(&identity, *content, &log)?;
                self.kept.push(&entry.name);
            }
            Ok(Verdict::Known) => {
                tracing::debug!(host = %self.host, entry = entry.shown(), "this run was reported before");
                self.kept.push(&entry.name);
            }
            Ok(Verdict::Refused(Refusal::Gzip(gzip::GzipError::Cut)))
                if self.writers == Writers::Open => {}
            Ok(Verdict::Refused(refusal)) => self.refuse(entry, &refusal),
            // One entry that can't be read mustn't keep the others out.
            Err(error) => {
                tracing::warn!(host = %self.host, entry = entry.shown(), %error, "an inbox entry can't be read");
            }
        }
        Ok(())
    }

    fn keep(&mut self, identity: &str, content: Content, log: &[u8]) -> std::io::Result<()> {
        let record = Record {
            sequence: self.ledger.next,
            received: self.now,
            content,
        };
        self.store.add(&record, identity, log)?;
        self.ledger.note(&record);
        self.intake.taken.push(record);
        Ok(())
    }

    fn refuse(&mut self, entry: &Entry, refusal: &Refusal) {
        let reason = super::one_line(&refusal.to_string(), 300);
        tracing::warn!(host = %self.host, entry = entry.shown(), reason, "refused what lay in the inbox");
        self.ledger.refused += 1;
        self.intake.refused += 1;
        self.remove(&entry.name);
    }

    /// Keeps the limits, writes the ledger, and then removes from the inbox what is kept.
    fn finish(&mut self) -> std::io::Result<()> {
        if self.kept.is_empty() && self.intake.refused == 0 {
            return Ok(());
        }
        let dropped = self.store.prune(&self.ledger.essential())?;
        if dropped > 0 {
            tracing::info!(host = %self.host, dropped, "removed the oldest reports: this machine's limit is reached");
        }
        self.ledger.count(&self.store);
        self.ledger.write(self.keep)?;
        for name in std::mem::take(&mut self.kept) {
            self.remove(name);
        }
        Ok(())
    }

    fn remove(&mut self, name: &CStr) {
        match self.inbox.remove(name) {
            Ok(()) => self.removed += 1,
            Err(error) => {
                let entry = name.to_bytes().escape_ascii().to_string();
                tracing::warn!(host = %self.host, entry, %error, "an inbox entry can't be removed");
            }
        }
    }
}

#[cfg(test)]
mod tests;
