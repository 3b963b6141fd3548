//! The reading of one machine, and its status.

use std::borrow::Cow;
use std::io;
use std::path::Path;
use std::time::Duration;

use bento_protocol::{HostName, SystemPath};
use jiff::Timestamp;

use super::super::{HostStatus, MachineStatus, PublishedVersion, Reported, judge};
use crate::fleet::Host;
use crate::publication::published::Published;
use crate::report::{Content, Record, Summary};
use crate::store::paths::HostState;
use crate::store::stamp::PathStamp;
use crate::text::sanitise::one_line;

/// The reading of one machine: two small files, and the time of a third.
#[derive(Debug, Clone, Default)]
pub(super) struct MachineReading {
    published: Option<Published>,
    summary: Summary,
    contact: Option<Timestamp>,
    stamps: Stamps,
    /// The unreadable files, a safe line each.
    unreadable: Vec<String>,
}

/// The stamps of the three files, taken before they were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Stamps {
    published: PathStamp,
    summary: PathStamp,
    seen: PathStamp,
}

impl Stamps {
    fn of(keep: &HostState) -> Self {
        Stamps {
            published: PathStamp::of(&keep.published()),
            summary: PathStamp::of(&keep.summary()),
            seen: PathStamp::of(&keep.seen()),
        }
    }
}

impl MachineReading {
    /// Reads the files.
    pub(super) fn of(keep: &HostState) -> Self {
        Self::read(keep, Stamps::of(keep))
    }

    /// Reads the files again if one has changed; false if none has.
    pub(super) fn refresh(&mut self, keep: &HostState) -> bool {
        let stamps = Stamps::of(keep);
        if self.stamps == stamps {
            return false;
        }
        *self = Self::read(keep, stamps);
        true
    }

    fn read(keep: &HostState, stamps: Stamps) -> Self {
        let mut unreadable = Vec::new();
        let published = or_default(Published::read(keep), &keep.published(), &mut unreadable);
        let summary = or_default(Summary::read(keep), &keep.summary(), &mut unreadable);
        MachineReading {
            published,
            summary,
            contact: stamps.seen.modified(),
            stamps,
            unreadable,
        }
    }

    /// The reading of the former name's account, if the machine used that last.
    pub(super) fn or_former(&self, former: &MachineReading) -> Self {
        let last = |reading: &MachineReading| Some(reading.summary.newest.as_ref()?.received);
        let contact = self.contact.max(former.contact);
        // Until it reports by its new name, both have the reports of the former one.
        let used = match last(self) > last(former) {
            true => self,
            false => former,
        };
        MachineReading {
            contact,
            ..used.clone()
        }
    }

    /// The summary since the machine was enrolled: earlier reports are of another machine of its name.
    pub(super) fn summary_since(&self, enrolled: Option<Timestamp>) -> Cow<'_, Summary> {
        match enrolled {
            Some(enrolled) => Cow::Owned(self.summary.clone().since(enrolled)),
            None => Cow::Borrowed(&self.summary),
        }
    }

    /// The status at a time.
    pub(super) fn status(
        &self,
        name: &HostName,
        host: &Host,
        enrolled: Option<Timestamp>,
        problems: Vec<String>,
        now: Timestamp,
    ) -> MachineStatus {
        let published = self.published.as_ref();
        let summary = self.summary_since(enrolled);
        let newest = summary.newest.as_ref();
        let state = judge(published, &summary);
        let lines: Vec<_> = self.unreadable.iter().cloned().chain(problems).collect();
        let seen = self.contact.or(newest.map(|record| record.received));
        // An account of the future was enrolled while the clock was wrong: nothing is older than it.
        let enrolled_before = enrolled.filter(|enrolled| *enrolled <= now);
        let seen = seen.filter(|seen| enrolled_before.is_none_or(|enrolled| *seen >= enrolled));
        MachineStatus {
            name: name.clone(),
            state,
            expected_system: published.and_then(|published| published.expected_system.clone()),
            reported: newest.map(Reported::new),
            seen,
            silent: seen
                .or(enrolled)
                .map(|contact| is_over(contact, host.silent_after.duration(), now)),
            paused: host.paused,
            held: newest.and_then(Record::held).filter(|until| *until > now),
            runs: newest.map_or(0, |_| summary.runs()),
            error: if lines.is_empty() {
                let failure = error(&summary).or_else(|| mismatch(state, published?, &summary));
                joined(summary.has_twin(now).then(|| TWIN.to_owned()), failure)
            } else {
                Some(lines.join("; "))
            },
            problems: lines,
            notes: Vec::new(),
            version: version(&summary),
            published: published.map(|published| PublishedVersion {
                generation: published.generation,
                at: published.at,
            }),
        }
    }
}

impl Reported {
    fn new(record: &Record) -> Self {
        Reported {
            generation: record.generation(),
            outcome: Cow::Borrowed(record.outcome_name()),
            auto: record.is_auto(),
            at: record.received,
            built: record.built().cloned(),
            running: record.running().cloned(),
            specialisation: record.specialisation().map(str::to_owned),
        }
    }
}

/// The error of two machines with one key.
const TWIN: &str = "another machine reports with its key, as a copied disk makes one: give the copy a key and a \
                    /etc/machine-id of its own, and add it with `bento host add`";

fn joined(first: Option<String>, second: Option<String>) -> Option<String> {
    let both: Vec<_> = first.into_iter().chain(second).collect();
    (!both.is_empty()).then(|| both.join("; "))
}

/// The error of the newest run, or of the one that decides the state. The summary has it as one safe line.
fn error(summary: &Summary) -> Option<String> {
    let judged = [summary.newest.as_ref(), summary.judged()];
    let failed = judged
        .into_iter()
        .flatten()
        .find(|record| !record.is_success())?;
    let silent = || {
        format!(
            "{}: the report doesn't say why, its log may",
            failed.outcome_word()
        )
    };
    Some(
        failed
            .error()
            .filter(|error| !error.is_empty())
            .map_or_else(silent, str::to_owned),
    )
}

/// The error of a machine that built another system than `bento build`, if that is its state.
fn mismatch(state: HostStatus, published: &Published, summary: &Summary) -> Option<String> {
    if state != HostStatus::Mismatch {
        return None;
    }
    let (here, there) = (
        published.expected_system.as_ref()?,
        summary.judged()?.built()?,
    );
    let (here, there) = (short(here), short(there));
    Some(format!(
        "it built {there}…, and `bento build` {here}… of the same generation"
    ))
}

/// The running version, in short.
fn version(summary: &Summary) -> Option<String> {
    let newest = summary.newest.as_ref()?;
    let running = newest.running()?;
    if matches!(newest.content, Content::Legacy(_)) {
        return Some(short(running));
    }
    let confirmed = summary
        .confirmed
        .as_ref()
        .filter(|record| record.running() == Some(running))?;
    confirmed.generation().map(|generation| generation.short())
}

/// The beginning of the hash, by which a person distinguishes systems.
fn short(system: &SystemPath) -> String {
    let name = system.as_str().rsplit('/').next().unwrap_or_default();
    name.chars().take(8).collect()
}

fn is_over(contact: Timestamp, normal: Duration, now: Timestamp) -> bool {
    // A contact in the future, after the clock was set back, is no silence.
    Duration::try_from(now.duration_since(contact)).is_ok_and(|silence| silence > normal)
}

/// The content of a file; the default for an unreadable one, which is added to `unreadable`.
fn or_default<T: Default>(read: io::Result<T>, path: &Path, unreadable: &mut Vec<String>) -> T {
    read.unwrap_or_else(|error| {
        unreadable.push(one_line(
            &format!("{} can't be read: {error}", path.display()),
            usize::MAX,
        ));
        T::default()
    })
}
