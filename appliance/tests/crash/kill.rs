//! SIGKILL at every step.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use bento_appliance::store::paths::State;

use crate::appliance::Appliance;
use crate::env::CrashEnv;
use crate::fleet::Fleets;
use crate::inspection::Has;
use crate::listing::listing;
use crate::tracer::{Step, kill_before};
use crate::trial::{Trial, require};
use crate::{is_long, stride};

#[test]
fn killed_at_any_step_of_its_first_start_it_publishes_everything_at_the_next() {
    CrashEnv::inside(|env| {
        let fleets = Fleets::write(env);
        let old = State::new(env.state("old"));
        fs::create_dir(old.root()).unwrap();
        let trial = Trial::new(env, &fleets.before, &old);
        let seen = kill_at_every_step(&trial, None, |_| true);
        for name in ["domovoi", "kikimora"] {
            let count = seen[name].len();
            let all = if is_long() { 3 } else { 2 };
            assert!(
                count >= all,
                "{name} had no chroot, an empty one, a full one: {seen:?}"
            );
        }
    });
}

#[test]
fn killed_at_any_step_of_an_edit_it_has_every_machine_wholly_old_or_wholly_new() {
    CrashEnv::inside(|env| {
        let fleets = Fleets::write(env);
        let old = Appliance::new(env, &fleets.before, env.state("old"));
        old.run_until_ready();
        let trial = Trial::new(env, &fleets.after, &old.state);
        let seen = kill_at_every_step(&trial, Some(&fleets.before), |_| true);
        for (name, count) in [("domovoi", 2), ("kikimora", 2), ("leshy", 3)] {
            let count = if is_long() { count } else { 2 };
            assert!(seen[name].len() >= count, "{name}: {seen:?}");
        }
    });
}

// Issue 10, line 13.
#[test]
fn a_machine_that_comes_back_after_a_crash_gets_no_half_of_an_old_publication() {
    CrashEnv::inside(|env| {
        let fleets = Fleets::write(env);
        let old = Appliance::new(env, &fleets.before, env.state("old"));
        old.run_until_ready();
        let aside = old.state.removed().join("domovoi");
        // Its account is gone, and so is a part of what was published for it.
        let removing = Appliance::new(env, &fleets.after, old.state.root());
        let is_removal = |step: &Step| step.path.starts_with(&aside) && step.call == "unlinkat";
        assert!(kill_before(&removing, "ready", 3, is_removal).is_some());
        assert!(aside.exists() && !old.state.hosts().join("domovoi").exists());
        let trial = Trial::new(env, &fleets.before, &old.state);
        kill_at_every_step(&trial, None, |step| {
            let path = step.path.to_string_lossy();
            path.contains("domovoi") || path.contains("accounts")
        });
    });
}

/// The variable of the environment with the number of kills in a row; one without it.
const DEATHS: &str = "BENTO_CRASH_DEATHS";

/// Kills an appliance before the first of the steps that count, then before the second, until one reaches its end. Each
/// time it checks the state, and starts another one on it. `undone` is the fleet folder to which the administrator may go
/// back. Returns all chroots that machines had after kills.
fn kill_at_every_step(
    trial: &Trial<'_>,
    undone: Option<&Path>,
    counts: impl Fn(&Step) -> bool,
) -> BTreeMap<String, BTreeSet<Has>> {
    let deaths = std::env::var(DEATHS).map_or(1, |number| number.parse().unwrap());
    let mut seen = BTreeMap::<_, BTreeSet<_>>::new();
    let mut last = None;
    for number in (1..).step_by(stride()) {
        let appliance = trial.appliance();
        let Some(step) = kill_before(&appliance, "ready", number, &counts) else {
            break;
        };
        let when = format!("killed before step {number}, {step:?}");
        for (name, has) in require(trial.inspect(&appliance.state), &when) {
            seen.entry(name).or_default().insert(has);
        }
        // The step before was an fsync, or a check of a missing file: another start would only be the same again.
        let left = Some(require(listing(&appliance.state), &when));
        if std::mem::replace(&mut last, left.clone()) == left {
            continue;
        }
        // What is complete but for its name must go, too, when it is no longer wanted.
        if let Some(config) = undone.filter(|_| step.call.contains("sync")) {
            let taken_back = trial.take_back(&appliance.state, config);
            require(taken_back, &format!("{when}, and taken back"));
        }
        for death in 1..deaths {
            // Anywhere on its way, each time elsewhere.
            let step = kill_before(&appliance, "ready", 1 + number * death % 50, |_| true);
            require(
                trial.inspect(&appliance.state),
                &format!("{when}, and then before {step:?}"),
            );
        }
        require(trial.restart(appliance.state.root()), &when);
    }
    seen
}
