//! Updates that are interrupted.

use anyhow::{Context, Result};

use crate::env::Env;
use crate::vm::Vm;

/// The phases that change something, and what is reported of the run that was interrupted where they begin, and of the next one.
const PHASES: [(&str, &[&str]); 9] = [
    ("pull", &["pull_failed", "switched"]),
    ("verify", &["pull_failed", "switched"]),
    ("stage", &["pull_failed", "switched"]),
    ("build", &["build_failed", "switched"]),
    ("arm", &["activation_failed", "switched"]),
    ("activate", &["rolled_back", "switched"]),
    ("confirm", &["rolled_back", "switched"]),
    ("commit", &["rolled_back", "switched"]),
    ("report", &["switched"]),
];

pub(super) fn kill(env: &Env) -> Result<()> {
    let mut vm = Vm::updated(env, "killed", "")?;
    for (phase, reports) in PHASES {
        vm.publish("")?;
        vm.guest.update_halted_at(phase)?.kill()?;
        // The new system is in place already: what is left to do is done.
        let reports = if phase == "commit" {
            &["switched"]
        } else {
            reports
        };
        vm.update(0)
            .and_then(|_| vm.reports(reports))
            .and_then(|_| vm.is_up_to_date())
            .with_context(|| format!("killed in the phase {phase}"))?;
    }
    Ok(())
}

pub(super) fn power_cut(env: &Env) -> Result<()> {
    let mut vm = Vm::updated(env, "cut-off", "")?;
    for (phase, reports) in PHASES {
        vm.publish("")?;
        let halted = vm.guest.update_halted_at(phase)?;
        vm.guest.cut_power()?;
        halted.end()?;
        vm.guest.start()?;
        vm.update(0)
            .and_then(|_| vm.reports(reports))
            .and_then(|_| vm.is_up_to_date())
            .with_context(|| format!("without power in the phase {phase}"))?;
    }
    Ok(())
}
