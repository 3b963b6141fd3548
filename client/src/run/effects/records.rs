use std::path::Path;

use jiff::Timestamp;

use crate::generation::staged;
use crate::machine::rollback_timer;
use crate::run::LiveEffects;
use crate::state::record;
use crate::state::record::{Delivered, Installed, Record, Recorded, ReportedState};
use crate::state::spool::Spool;
use crate::update::RecordEffects;

impl RecordEffects for LiveEffects<'_> {
    fn recorded(&mut self) -> Recorded {
        // Without the root it may have been collected.
        let fallback = self
            .read(&self.state.fallback())
            .filter(|fallback: &Installed| Path::new(fallback.system.as_str()).exists());
        Recorded {
            installed: self.read(&self.state.installed()),
            fallback,
            awaiting: self.read(&self.state.awaiting()),
            failed: self.read(&self.state.failed()),
            journal: self.read(&self.state.journal()),
            rebooted: self.read(&self.state.rebooted()),
        }
    }

    fn record(&mut self, record: Record<'_>) -> anyhow::Result<()> {
        let state = self.state;
        match record {
            Record::Installed(installed) => self.record_installed(installed),
            Record::Fallback(installed) => {
                // A boot takes it out of /run, and the profile keeps only the newest few.
                rollback_timer::keep_from_collection(&state.fallback_root(), &installed.system)?;
                record::write(&state.fallback(), installed)
            }
            Record::Awaiting(awaiting) => record::keep(&state.awaiting(), awaiting),
            Record::Failed(failed) => record::keep(&state.failed(), failed),
            Record::Journal(journal) => record::keep(&state.journal(), journal),
            Record::Rebooted(rebooted) => record::write(&state.rebooted(), rebooted),
        }
    }

    fn reported(&mut self) -> Option<ReportedState> {
        let spool = Spool::new(self.state);
        let newest = spool
            .waiting()
            .ok()
            .and_then(|waiting| waiting.last().copied());
        match newest.and_then(|newest| spool.report(&newest).ok()) {
            Some(report) => Some(ReportedState::of(&report)),
            None => self
                .read::<Delivered>(&self.state.delivered())
                .and_then(|delivered| {
                    delivered.remembered(self.polled.as_deref()?, Timestamp::now())
                }),
        }
    }
}

impl LiveEffects<'_> {
    fn record_installed(&mut self, installed: &Installed) -> anyhow::Result<()> {
        record::write(&self.state.installed(), installed)?;
        let is_fallback_needed = self.machine.situation().reboot_required;
        let fallback = self.recorded().fallback.filter(|_| is_fallback_needed);
        let kept = [Some(installed.generation), fallback.map(|it| it.generation)];
        let kept: Vec<_> = kept.into_iter().flatten().collect();
        staged::remove_all_but(self.state, &kept)
    }
}
