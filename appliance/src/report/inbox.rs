//! Takes in what a machine left in its inbox. Everything in there is hostile until shown otherwise.

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
    /// How many entries are gone from the inbox, whatever became of them.
    pub removed: usize,
    /// Whether another pass at once would find more to do.
    pub more: bool,
}

/// Is told of each entry that is refused: its name, and why, both fit for a log.
pub type Refuse<'a> = &'a mut dyn FnMut(&str, &str);

/// The most entries of an inbox that one pass looks at.
const PASS: usize = 32;
/// After how long a pass looks at no more entries, so that the machines whose turn comes next don't wait for one that
/// leaves what takes long. The worst entry takes some 60 ms.
const TURN: Duration = Duration::from_millis(100);

/// How many entries lie in an inbox, counted no further than to `most`; none if there is no such inbox.
pub fn count(logs: &Path, most: usize) -> usize {
    // One that is just being removed with its publication holds nothing any more.
    Inbox::open(logs).map_or(0, |inbox| inbox.count(most))
}

/// Takes in what lies in one inbox (`<publication>/logs`): copies each report to what is kept of the machine, makes
/// that last, writes the summary, and only then removes it from the inbox, so that a crash can't lose a report. One
/// that was taken in before is known by the id of its run.
///
/// What isn't a report is removed, and `refuse` is told. Only one caller at a time may take in for a machine.
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
    let mut pass = Pass {
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
    let mut looked_at = 0;
    let mut outcome = Ok(());
    for entry in entries.iter().take(PASS) {
        looked_at += 1;
        outcome = pass.look_at(entry);
        if outcome.is_err() || began.elapsed() >= TURN {
            break;
        }
    }
    pass.finish().with_context(cannot_keep)?;
    outcome.with_context(cannot_keep)?;
    // Without progress another pass would only do the same again.
    pass.intake.more = pass.intake.removed > 0 && entries.len() > looked_at;
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
    summary: Summary,
    refuse: Refuse<'a>,
    /// The entries whose report is kept: removed once the summary is written.
    kept: Vec<&'a CStr>,
    intake: Intake,
}

impl<'a> Pass<'a> {
    fn look_at(&mut self, entry: &'a InboxEntry) -> std::io::Result<()> {
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
            // One entry that can't be read mustn't keep the others out.
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
        self.summary.note(&record);
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

    /// Keeps the limits, writes the summary, and then removes from the inbox what is kept.
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
