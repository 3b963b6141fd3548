use anyhow::{Context, anyhow, ensure};

use bento_protocol::SystemPath;

use super::World;
use crate::arm::Decision;
use crate::record::{Journal, PhaseName};
use crate::switch::Action;

/// Decides that the old system comes back, unless somebody has, and sees to it that it is back.
///
/// Whoever decided: it is done once, and a rollback that died halfway is done again.
pub(super) fn ensure(world: &mut impl World, journal: &Journal) -> anyhow::Result<()> {
    world.decide(journal.run, Decision::RollingBack)?;
    let _lock = world.lock_rollback()?;
    if world.decision(journal.run)? == Some(Decision::RolledBack) {
        return Ok(());
    }
    bring_back(world, journal)?;
    world.note_rolled_back(journal.run)
}

/// What the armed timer does: goes back, unless the new system was confirmed in time. Whether it went back.
pub fn roll_back(world: &mut impl World, journal: &Journal) -> anyhow::Result<bool> {
    if !world.decide(journal.run, Decision::RollingBack)? {
        return Ok(false);
    }
    ensure(world, journal).map(|()| true)
}

/// Restores what the machine was before the update. Doing it twice does no harm.
fn bring_back(world: &mut impl World, journal: &Journal) -> anyhow::Result<()> {
    let before = &journal.before;
    let old = before
        .running
        .as_ref()
        .context("nothing is known that the machine could go back to")?;
    world.stop_switch(journal.run);
    world.switch_secrets(before.generation)?;
    let situation = world.situation();
    let touched_boot =
        journal.phase >= PhaseName::Commit || situation.profile != before.profile;
    if let Some(profile) = before.profile.as_ref().filter(|_| touched_boot) {
        world.set_profile(profile)?;
        switch(world, journal, profile, Action::Boot)?;
    }
    // A boot since then started the old system afresh; otherwise it may run only half.
    let is_fresh = situation.boot != before.boot && situation.running.as_ref() == Some(old);
    if journal.phase >= PhaseName::Activate && !is_fresh {
        switch(world, journal, old, Action::Test)?;
        if let Some(generation) = before.generation {
            world.restart_units(Some(journal.generation), generation);
        }
    }
    let running = world.situation().running;
    ensure!(
        running.as_ref() == Some(old),
        "{} runs after the rollback, not {old}",
        running.map_or("nothing known".to_owned(), |running| running.to_string())
    );
    Ok(())
}

fn switch(
    world: &mut impl World,
    journal: &Journal,
    system: &SystemPath,
    action: Action,
) -> anyhow::Result<()> {
    match world.switch(journal.run, system, action) {
        // Units that fail are no reason to stop halfway.
        Ok(_) => Ok(()),
        Err(error) => Err(anyhow!(error).context(format!("can't go back to {system}"))),
    }
}

/// Why the new system was given up, and why the old one didn't come back.
pub(super) fn both(error: &anyhow::Error, failure: &anyhow::Error) -> anyhow::Error {
    anyhow!(
        "THE ROLLBACK FAILED, and this machine needs a look: {failure:#}. It is tried again at the next start. The \
         update was given up because: {error:#}"
    )
}
