//! The state of a machine: a pure function of what is published and what it reported.

use std::fmt;

use bento_protocol::Outcome;
use serde::{Deserialize, Serialize};

use crate::publication::published::Published;
use crate::report::{Content, Record, Summary};

/// The state of a machine. The first that holds, in this order, is the one that it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostStatus {
    /// No generation could be published yet.
    Unpublished,
    /// It hasn't reported since it was enrolled.
    New,
    /// Its newest report is a bento 2022 log.
    Legacy,
    /// It tried the published generation, and went back.
    RolledBack,
    /// It tried the published generation, and failed.
    Failing,
    /// It installed the published generation, but isn't known to run the system that it built.
    Drifted,
    /// It installed the published generation, and a change takes effect at the next boot.
    RebootPending,
    /// It runs the published generation with inputs that it moved by itself.
    AutoUpdated,
    /// It runs the published generation, but `bento build` built another system from that.
    Mismatch,
    /// It runs the system that it built from exactly the published generation.
    UpToDate,
    /// It hasn't reported the published generation, but runs the system that was built from that.
    SyncPending,
    /// It hasn't reported the published generation.
    RebuildPending,
}

impl HostStatus {
    /// Every state, in order.
    pub const ALL: [HostStatus; 12] = [
        HostStatus::Unpublished,
        HostStatus::New,
        HostStatus::Legacy,
        HostStatus::RolledBack,
        HostStatus::Failing,
        HostStatus::Drifted,
        HostStatus::RebootPending,
        HostStatus::AutoUpdated,
        HostStatus::Mismatch,
        HostStatus::UpToDate,
        HostStatus::SyncPending,
        HostStatus::RebuildPending,
    ];

    /// Its name in tables and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            HostStatus::Unpublished => "unpublished",
            HostStatus::New => "new",
            HostStatus::Legacy => "legacy",
            HostStatus::RolledBack => "rolled-back",
            HostStatus::Failing => "failing",
            HostStatus::Drifted => "drifted",
            HostStatus::RebootPending => "reboot-pending",
            HostStatus::AutoUpdated => "auto-updated",
            HostStatus::Mismatch => "mismatch",
            HostStatus::UpToDate => "up-to-date",
            HostStatus::SyncPending => "sync-pending",
            HostStatus::RebuildPending => "rebuild-pending",
        }
    }
}

impl fmt::Display for HostStatus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// Judges a machine by its published generation and by its reports since it was enrolled ([`Summary::since`]).
///
/// The newest report is the last one in the order of receipt, whatever the clocks were. A failed self-update leaves the
/// state of the last run before it; but the running system and a required reboot are always those of the newest report.
pub fn judge(published: Option<&Published>, summary: &Summary) -> HostStatus {
    let Some(published) = published else {
        return HostStatus::Unpublished;
    };
    let (Some(run), Some(newest)) = (summary.judged(), &summary.newest) else {
        return HostStatus::New;
    };
    let Content::Report(report) = &run.content else {
        return HostStatus::Legacy;
    };

    if report.generation != published.generation {
        let expected = published.expected_system.as_ref();
        let runs_expected = expected.is_some() && newest.running() == expected;
        return if runs_expected {
            HostStatus::SyncPending
        } else {
            HostStatus::RebuildPending
        };
    }
    match report.outcome {
        Outcome::RolledBack => HostStatus::RolledBack,
        Outcome::PullFailed
        | Outcome::BuildFailed
        | Outcome::ActivationFailed
        | Outcome::RollbackFailed => HostStatus::Failing,
        Outcome::Unchanged | Outcome::Switched | Outcome::Staged => {
            judge_success(published, run, newest)
        }
    }
}

/// The states of a machine whose run with the published generation succeeded.
fn judge_success(published: &Published, run: &Record, newest: &Record) -> HostStatus {
    let built = run.built();
    // An unknown system is never the same as another.
    let runs_built =
        built.is_some() && (newest.running() == built || newest.specialisation().is_some());
    let is_staged = run.outcome() == Some(Outcome::Staged);
    if !runs_built && !is_staged {
        HostStatus::Drifted
    } else if !runs_built || newest.reboot_required() {
        HostStatus::RebootPending
    } else if run.is_auto() {
        HostStatus::AutoUpdated
    } else if published
        .expected_system
        .as_ref()
        .is_some_and(|expected| built != Some(expected))
    {
        HostStatus::Mismatch
    } else {
        HostStatus::UpToDate
    }
}

#[cfg(test)]
mod tests;
