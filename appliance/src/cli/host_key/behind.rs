//! Machines that may not know a host key.

use std::path::Path;

use anyhow::Context;
use bento_protocol::HostName;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::status::{HostStatus, MachineStatus, Status};
use crate::store::paths::{Runtime, State};
use crate::text::list::first_few;

/// The most machines that are listed.
const NAMED: usize = 10;

/// The machines that may be locked out, as far as the appliance knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MachinesBehind {
    /// The time since which machines can know the key.
    since: Timestamp,
    /// Machines without a contact since then.
    away: Vec<HostName>,
    /// Machines with a contact that don't run the published generation.
    behind: Vec<HostName>,
}

impl MachinesBehind {
    /// For `--switch`: the machines that may not know the spare key.
    ///
    /// # Errors
    /// When the state can't be read.
    pub(super) fn of_switch(state: &State, runtime: &Runtime) -> anyhow::Result<Self> {
        let made = changed(&state.spare_host_key())?;
        let mut behind = Self::since(made, state, runtime)?;
        if made < changed(&state.host_key())? {
            // Switching back, to the key that all machines know.
            behind.away.clear();
            behind.behind.clear();
        }
        Ok(behind)
    }

    /// For `--forget`: the machines that may know only the spare key. A machine with a contact since the switch knows
    /// the key in use.
    ///
    /// # Errors
    /// When the state can't be read.
    pub(super) fn of_forget(state: &State, runtime: &Runtime) -> anyhow::Result<Self> {
        // Its file is written again at each switch.
        let used = changed(&state.host_key().with_added_extension("pub"))?;
        let mut behind = Self::since(used, state, runtime)?;
        behind.behind.clear();
        Ok(behind)
    }

    fn since(since: Timestamp, state: &State, runtime: &Runtime) -> anyhow::Result<Self> {
        let status = Status::read(state, runtime, Timestamp::now())?;
        let mut behind = MachinesBehind {
            since,
            away: Vec::new(),
            behind: Vec::new(),
        };
        for machine in status.hosts {
            if machine.seen.is_none_or(|seen| seen < since) {
                behind.away.push(machine.name);
            } else if !runs_published_generation(&machine) {
                behind.behind.push(machine.name);
            }
        }
        Ok(behind)
    }

    /// The warnings, one on each line. `what` names the event at `since`.
    pub(super) fn lines(&self, what: &str) -> Vec<String> {
        let named = |names: &[HostName]| first_few(names.iter(), NAMED);
        let away = (!self.away.is_empty()).then(|| {
            let since = self.since;
            format!(
                "No contact since {what} at {since:.0}: {}",
                named(&self.away)
            )
        });
        let behind = (!self.behind.is_empty()).then(|| {
            let names = named(&self.behind);
            format!("Perhaps without that key, because they may not run the published generation: {names}")
        });
        away.into_iter().chain(behind).collect()
    }
}

fn runs_published_generation(machine: &MachineStatus) -> bool {
    matches!(
        machine.state,
        HostStatus::UpToDate
            | HostStatus::AutoUpdated
            | HostStatus::Mismatch
            | HostStatus::SyncPending
    )
}

fn changed(path: &Path) -> anyhow::Result<Timestamp> {
    let time = path.metadata().and_then(|found| found.modified());
    let time = time.with_context(|| format!("can't read the time of {}", path.display()))?;
    Ok(Timestamp::try_from(time)?)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::time::SystemTime;

    use super::*;
    use crate::fixture::Kept;
    use crate::publication::published::Published;
    use crate::report::fixture::{generation, report, second};

    fn write(path: &Path, time: i64) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let file = File::create(path).unwrap();
        file.set_modified(SystemTime::from(second(time))).unwrap();
    }

    #[test]
    fn machines_that_may_not_know_the_key_are_listed_before_a_switch() {
        let kept = Kept::new("[hosts.away]\n[hosts.behind]\n[hosts.good]\n[hosts.never]\n");
        for (name, runs, contact) in [
            ("away", 'a', 900),
            ("behind", 'b', 1100),
            ("good", 'a', 1100),
        ] {
            kept.publish(name, &Published::new(generation('a'), second(5)));
            kept.report(name, &[report(runs)]);
            kept.contact(name, second(contact));
        }
        let (state, runtime) = (&kept.state, &kept.runtime);
        let (used, spare) = (state.host_key(), state.spare_host_key());
        let public = used.with_added_extension("pub");
        write(&used, 0);
        write(&public, 0);
        write(&spare, 1000);
        let lines = || {
            MachinesBehind::of_switch(state, runtime)
                .unwrap()
                .lines("that")
        };
        let listed = lines();
        assert!(
            listed[0].starts_with("No contact since that at 2026-01-01T00:16:40Z"),
            "{listed:?}"
        );
        assert!(listed[0].ends_with(": away, never"), "{listed:?}");
        assert!(listed[1].ends_with(": behind"), "{listed:?}");
        // The keys are switched, and keep their times.
        write(&used, 1000);
        write(&spare, 0);
        write(&public, 1050);
        assert_eq!(lines(), [""; 0], "switching back");
        let listed = MachinesBehind::of_forget(state, runtime)
            .unwrap()
            .lines("that");
        assert!(
            listed.len() == 1 && listed[0].ends_with(": away, never"),
            "{listed:?}"
        );
        kept.contact("away", second(1060));
        kept.contact("never", second(1060));
        assert_eq!(
            MachinesBehind::of_forget(state, runtime)
                .unwrap()
                .lines("that"),
            [""; 0]
        );
    }
}
