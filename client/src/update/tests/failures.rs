//! Failures, their consequences, and whether they are tried again.

use bento_protocol::Outcome;

use super::super::UpdateOptions;
use super::fake::{Fake, Fault, When};
use super::machine::{Nature, id, system};
use crate::exit::ExitReason;

const RETRY: UpdateOptions = UpdateOptions {
    retry: true,
    at_boot: false,
};

#[test]
fn a_delta_that_fails_is_followed_by_the_bundle_once() {
    for (way, warns) in [(0, false), (1, true), (2, true)] {
        let fake = Fake::with(Nature::Good);
        let mut fake = fake.with_fault_at("pull a delta", Fault::Error(way));
        assert_eq!(fake.update(), Some(Ok(())));
        let pulls = fake.done.iter().filter(|done| done.starts_with("pull"));
        assert_eq!(
            pulls.collect::<Vec<_>>(),
            ["pull a delta", "pull the bundle"]
        );
        assert_eq!(!fake.warnings.is_empty(), warns);
    }
    let mut fake = Fake::with(Nature::Good).with_fault_at("verify", Fault::Error(0));
    assert_eq!(fake.update(), Some(Ok(())));
    assert!(fake.did("pull the bundle"));
}

// Issue 10, line 30.
#[test]
fn a_delta_that_was_cut_goes_on_at_the_next_run_and_makes_way_for_the_bundle_if_it_is_cut_again() {
    let cut = Fault::Error(3);
    let mut fake = Fake::with(Nature::Good).with_fault_at("pull a delta", cut);
    assert_eq!(fake.update(), Some(Err(ExitReason::Server)));
    assert!(!fake.did("pull the bundle"));
    assert_eq!(fake.newest_report().outcome, Outcome::PullFailed);
    let mut fake = fake.with_fault_at("pull a delta", cut);
    assert_eq!(fake.update(), Some(Ok(())));
    assert!(fake.did("pull the bundle"));
}

#[test]
fn a_server_that_gives_nothing_usable_is_reported_if_it_can_be() {
    for (way, exit, reported) in [
        // Issue 10, line 25: what doesn't verify isn't a server that is away.
        (0, ExitReason::Unverified, 1),
        (1, ExitReason::Unverified, 1),
        (2, ExitReason::RebuildFailed, 1),
        (3, ExitReason::Server, 1),
    ] {
        let mut fake = Fake::with(Nature::Good);
        fake.disk.staged.clear();
        let mut fake = fake.with_fault_at("pull the bundle", Fault::Error(way));
        assert_eq!(fake.update(), Some(Err(exit)));
        assert!(!fake.did("stage") && !fake.did("build") && !fake.did("secrets 1"));
        assert_eq!(fake.server.reports.len(), reported);
        // Issue 10, line 32. A disk of this machine that is full isn't the server's fault.
        let outcome = match exit {
            ExitReason::Server | ExitReason::Unverified => Outcome::PullFailed,
            _ => Outcome::BuildFailed,
        };
        assert_eq!(fake.newest_report().outcome, outcome);
        let failed = fake.disk.failed.as_ref().unwrap();
        assert_eq!(failed.outcome, outcome);
        // What the server gave may be another thing at the next poll.
        assert!(failed.is_due(fake.clock));
    }
    let mut unreachable = Fake::with(Nature::Good);
    unreachable.server.is_down = true;
    assert_eq!(unreachable.update(), Some(Err(ExitReason::Server)));
    assert_eq!(unreachable.acts(), ["poll"]);
}

// Issue 10, line 32.
#[test]
fn a_pull_that_fails_is_tried_at_every_run_and_reported_once_a_day_until_it_is_over() {
    let mut fake = Fake::with(Nature::Good);
    fake.disk.staged.clear();
    let broken = Fault::Error(1);
    let mut reports = Vec::new();
    for hours in [0, 1, 1, 1, 24] {
        fake.pass(hours * 60);
        fake = fake.with_fault_at("pull the bundle", broken);
        assert_eq!(fake.update(), Some(Err(ExitReason::Unverified)));
        assert!(fake.did("pull the bundle"));
        reports.push(fake.server.reports.len());
    }
    assert_eq!(reports, [1, 1, 1, 1, 2]);
    // How often that was says nothing of the build.
    let mut fake = fake.with_fault_at("build", Fault::Error(0));
    fake.update();
    assert_eq!(fake.disk.failed.as_ref().unwrap().count, 1);
    assert_eq!(fake.newest_report().outcome, Outcome::BuildFailed);
    assert_eq!(fake.update(), Some(Ok(())));
    assert_eq!(fake.newest_report().outcome, Outcome::Switched);
    fake.check_whole();
}

// Issue 10, line 32.
#[test]
fn a_pull_that_failed_is_over_when_what_is_installed_is_published_again() {
    let mut fake = Fake::with(Nature::Good);
    fake.disk.staged.clear();
    let mut fake = fake.with_fault_at("pull the bundle", Fault::Error(1));
    fake.update();
    assert_eq!(fake.newest_report().outcome, Outcome::PullFailed);
    fake.publish_again();
    assert_eq!(fake.update(), Some(Ok(())));
    let report = fake.newest_report();
    assert_eq!(
        (report.outcome, report.generation),
        (Outcome::Unchanged, id(0))
    );
}

// Issue 10, line 22.
#[test]
fn a_failed_build_leaves_the_machine_alone_and_is_tried_again_with_backoff() {
    let mut fake = Fake::with(Nature::BuildFails);
    assert_eq!(fake.update(), Some(Err(ExitReason::RebuildFailed)));
    assert!(!fake.did("secrets 1") && !fake.did("arm"));
    let error = fake.newest_report().error.as_deref().unwrap();
    assert!(error.contains("no such thing"), "{error}");
    // At once, and then after 5, 10 … minutes.
    for (minutes, is_tried) in [(0, true), (4, false), (1, true), (9, false), (1, true)] {
        fake.pass(minutes);
        assert_eq!(fake.update(), Some(Err(ExitReason::RebuildFailed)));
        assert_eq!(fake.did("build"), is_tried, "after {minutes} minutes");
    }
    assert_eq!(
        fake.update_with(RETRY),
        Some(Err(ExitReason::RebuildFailed))
    );
    assert!(fake.did("build"));
    fake.publish(Nature::Good);
    assert_eq!(fake.update(), Some(Ok(())));
    assert_eq!(fake.disk.failed, None);
}

#[test]
fn an_activation_that_failed_is_not_tried_before_something_changes() {
    let mut fake = Fake::with(Nature::ActivationFails);
    assert_eq!(fake.update(), Some(Err(ExitReason::RolledBack)));
    fake.pass(23 * 60);
    assert_eq!(fake.update(), Some(Err(ExitReason::RebuildFailed)));
    assert_eq!(fake.acts(), ["poll"]);
    fake.update_with(RETRY);
    assert!(fake.did("test 1"));
}

#[test]
fn a_transient_failure_is_tried_again_at_once_and_then_with_backoff() {
    let broken = Fault::Error(0);
    let mut fake = Fake::with(Nature::Good).with_fault_at("build", broken);
    assert_eq!(fake.update(), Some(Err(ExitReason::RebuildFailed)));
    let mut fake = fake.with_fault_at("build", broken);
    assert_eq!(fake.update(), Some(Err(ExitReason::RebuildFailed)));
    fake.update();
    assert_eq!(fake.acts(), ["poll"]);
    fake.pass(6);
    assert_eq!(fake.update(), Some(Ok(())));
}

#[test]
fn what_no_lock_file_pins_is_tried_again() {
    let mut fake = Fake::with(Nature::Unhealthy);
    fake.publish_with(|generation| generation.is_unpinned = true);
    assert_eq!(fake.update(), Some(Err(ExitReason::RolledBack)));
    assert!(fake.disk.failed.as_ref().unwrap().retry);
}

#[test]
fn a_system_that_could_not_be_updated_again_is_refused_before_anything_changes() {
    let mut fake = Fake::with(Nature::Refused);
    assert_eq!(fake.update(), Some(Err(ExitReason::RebuildFailed)));
    assert!(!fake.did("arm"));
    assert_eq!(fake.newest_report().outcome, Outcome::ActivationFailed);
}

#[test]
fn what_fails_once_it_runs_is_rolled_back_with_its_secrets() {
    for (nature, retry) in [
        (Nature::ActivationFails, false),
        (Nature::Unhealthy, false),
        (Nature::UnitFails, false),
        (Nature::KillsNetwork, true),
    ] {
        let mut fake = Fake::with(nature);
        fake.publish_with(|generation| generation.secrets = 1);
        assert_eq!(
            fake.update(),
            Some(Err(ExitReason::RolledBack)),
            "{nature:?}"
        );
        let report = fake.newest_report();
        assert_eq!(report.outcome, Outcome::RolledBack, "{nature:?}");
        assert_eq!(report.system.built, Some(system(1, 0)));
        assert_eq!(fake.disk.secrets, Some(id(0)));
        assert_eq!(fake.disk.failed.as_ref().unwrap().retry, retry);
        fake.check_whole();
    }
}

#[test]
fn a_server_that_was_gone_before_is_no_reason_to_roll_back() {
    let mut fake = Fake::with(Nature::Good);
    fake.server.is_down = false;
    let mut fake = fake.with_fault_at("reach the appliance", Fault::Error(0));
    fake.server.systems[1].nature = Nature::KillsNetwork;
    assert_eq!(fake.update(), Some(Ok(())));
    assert_eq!(fake.machine.running, system(1, 0));
    assert_eq!(fake.disk.spool.len(), 1);
}

#[test]
fn a_unit_that_fails_anew_has_one_more_try() {
    let mut fake = Fake::with(Nature::UnitFails);
    fake.update();
    let tries = fake.done.iter().filter(|done| *done == "test 1").count();
    assert_eq!(tries, 2);
    assert!(
        fake.newest_report()
            .error
            .as_ref()
            .unwrap()
            .contains("own.service")
    );

    let flaky = Fault::Error(4);
    let mut fake = Fake::with(Nature::Good).with_fault_at("test 1", flaky);
    assert_eq!(fake.update(), Some(Ok(())));
    assert!(
        fake.warnings
            .iter()
            .any(|warning| warning.contains("tried again"))
    );
}

#[test]
fn a_unit_that_failed_before_is_only_a_warning() {
    let mut fake = Fake::with(Nature::Good);
    fake.machine.failing.push("old.service".to_owned());
    assert_eq!(fake.update(), Some(Ok(())));
    let report = fake.newest_report();
    assert_eq!(report.outcome, Outcome::Switched);
    assert!(report.error.as_ref().unwrap().contains("old.service"));
}

#[test]
fn another_switch_in_progress_is_waited_for_until_the_next_start() {
    let busy = Fault::Error(2);
    let mut fake = Fake::with(Nature::Good).with_fault_at("test 1", busy);
    assert_eq!(fake.update(), Some(Err(ExitReason::RebuildFailed)));
    assert_eq!(fake.newest_report().outcome, Outcome::ActivationFailed);
    assert!(!fake.did("test 0"));
    fake.check_whole();
    assert_eq!(fake.update(), Some(Ok(())));
}

#[test]
fn a_rollback_that_fails_is_reported_and_tried_again_with_a_report_of_its_own() {
    let mut fake = rollback_fails();
    assert_eq!(fake.newest_report().outcome, Outcome::RollbackFailed);
    assert!(
        fake.newest_report()
            .error
            .as_ref()
            .unwrap()
            .contains("THE ROLLBACK FAILED")
    );
    let first = fake.newest_report().run;
    assert_eq!(fake.update(), Some(Err(ExitReason::RebuildFailed)));
    let report = fake.newest_report();
    assert_eq!(report.outcome, Outcome::RolledBack);
    assert_ne!(report.run, first);
    fake.check_whole();
}

// Issue 10, line 17.
#[test]
fn an_old_system_that_cannot_be_switched_to_is_booted_once() {
    let mut fake = Fake::with(Nature::Unhealthy).with_fault_at("test 0", Fault::Error(0));
    assert_eq!(fake.update(), Some(Err(ExitReason::RolledBack)));
    // It was reported before the machine went down.
    assert!(fake.did("report rollback_failed") && fake.done.last().unwrap() == "reboot");
    assert_eq!(fake.machine.boots, 2);
    assert_eq!(fake.update(), Some(Err(ExitReason::RebuildFailed)));
    assert_eq!(fake.newest_report().outcome, Outcome::RolledBack);
    assert_eq!(fake.machine.boots, 2);
    fake.check_whole();

    // A boot that led elsewhere isn't asked for again.
    let mut fake = rollback_fails();
    fake.machine.is_inhibited = false;
    fake.machine.boots += 1;
    fake.machine.running = system(1, 0);
    let mut fake = fake.with_fault_at("test 0", Fault::Error(0));
    fake.update();
    assert!(!fake.did("reboot"));

    // Once nobody keeps the machine from going down, the next start asks again, and begins nothing new.
    let mut fake = rollback_fails();
    fake.machine.is_inhibited = false;
    fake.publish(Nature::Good);
    let mut fake = fake.with_fault_at("test 0", Fault::Error(0));
    assert_eq!(fake.update(), Some(Err(ExitReason::RolledBack)));
    assert!(fake.did("reboot") && !fake.did("poll"));
    assert_eq!(fake.update(), Some(Ok(())));
    fake.check_whole();
}

// Issue 10, line 16.
#[test]
fn what_is_refused_before_anything_was_touched_is_staged_and_says_why() {
    for nature in [Nature::Inhibited, Nature::NeedsBoot] {
        let mut fake = Fake::with(nature);
        fake.publish_with(|generation| generation.secrets = 1);
        assert_eq!(fake.update(), Some(Ok(())), "{nature:?}");
        let report = fake.newest_report();
        assert_eq!(report.outcome, Outcome::Staged);
        assert!(
            report
                .error
                .as_ref()
                .unwrap()
                .contains("can only be booted")
        );
        assert_eq!(fake.machine.running, system(0, 0));
        assert_eq!(fake.disk.secrets, Some(id(0)));
        assert!(!fake.did("test 0"));
        fake.reboot_machine();
        assert_eq!(fake.update(), Some(Ok(())));
        assert_eq!(fake.newest_report().outcome, Outcome::Switched);
        fake.check_whole();
    }
    // What says so after it has changed something isn't believed.
    let mut fake = Fake::with(Nature::UnitFails).with_fault_at("test 1", Fault::Error(4));
    assert_eq!(fake.update(), Some(Err(ExitReason::RolledBack)));
}

// Issue 10, line 31.
#[test]
fn a_system_takes_effect_as_its_own_settings_say() {
    let mut fake = Fake::with(Nature::Good);
    fake.server.systems[1].is_for_boot = true;
    assert_eq!(fake.update(), Some(Ok(())));
    assert_eq!(fake.newest_report().outcome, Outcome::Staged);
    assert!(!fake.did("test 1"));
    fake.reboot_machine();
    assert_eq!(fake.update(), Some(Ok(())));
    fake.publish(Nature::Good);
    assert_eq!(fake.update(), Some(Ok(())));
    assert!(fake.did("test 2"));
    fake.check_whole();
}

#[test]
fn a_rollback_that_failed_is_not_forgotten_while_another_generation_is_tried() {
    let mut fake = rollback_fails();
    fake.publish(Nature::BuildFails);
    // It fails once more, and so does the build.
    let mut fake = fake.with_fault_at("test 0", Fault::Error(0));
    assert_eq!(fake.update(), Some(Err(ExitReason::RebuildFailed)));
    assert!(fake.did("build"));
    assert!(fake.machine.is_half);
    fake.update();
    assert!(fake.did("test 0"));
    fake.check_whole();
}

#[test]
fn a_new_generation_cures_a_rollback_that_failed() {
    let mut fake = rollback_fails();
    fake.publish(Nature::Good);
    let mut fake = fake.with_fault_at("test 0", Fault::Error(0));
    assert_eq!(fake.update(), Some(Ok(())));
    assert_eq!(fake.machine.running, system(2, 0));
    fake.check_whole();
}

/// An unhealthy system that couldn't be switched back from, on a machine that somebody keeps from going down.
fn rollback_fails() -> Fake {
    let fake = Fake::with(Nature::Unhealthy);
    let mut fake = fake.with_fault_at("test 0", Fault::Error(0));
    fake.machine.is_inhibited = true;
    assert_eq!(fake.update(), Some(Err(ExitReason::RolledBack)));
    fake
}

#[test]
fn a_record_that_cannot_be_written_is_written_by_the_next_start() {
    let mut fake = Fake::with(Nature::Good);
    fake.publish_with(|generation| generation.secrets = 1);
    let mut fake = fake.with_fault_at("installed 2", Fault::Error(0));
    assert_eq!(fake.update(), Some(Ok(())));
    fake.reboot_machine();
    assert_eq!(fake.disk.secrets, Some(id(2)));
    fake.update();
    assert_eq!(fake.disk.installed.as_ref().unwrap().generation, id(2));
    fake.check_whole();
}

#[test]
fn what_changed_before_a_run_is_reported_once_more_is_reported_too() {
    let fake = Fake::with(Nature::Good).with_kernel(1);
    let death = Fault::Death {
        when: When::After,
        reboots: true,
    };
    let mut fake = fake.with_fault_at("report switched", death);
    assert_eq!(fake.update(), None);
    assert!(fake.newest_report().reboot_required);
    // The next start completes the run, and the appliance has its report already.
    assert_eq!(fake.update(), Some(Ok(())));
    let report = fake.newest_report();
    assert_eq!(report.system.booted, Some(system(1, 0)));
    assert!(!report.reboot_required);
    assert_eq!(fake.server.reports.len(), 2);
}

#[test]
fn a_machine_that_could_not_be_brought_back_is_not_called_unchanged() {
    let mut fake = rollback_fails();
    fake.publish_again();
    // Nor can it be now: it may run only half of what is installed.
    let mut fake = fake.with_fault_at("test 0", Fault::Error(0));
    fake.update();
    assert!(fake.machine.is_half);
    let report = fake.newest_report();
    assert_eq!(report.generation, id(0));
    assert_eq!(report.outcome, Outcome::RollbackFailed);
    assert!(report.error.is_some());
    fake.update();
    assert_eq!(fake.newest_report().outcome, Outcome::Unchanged);
    fake.check_whole();
}

#[test]
fn a_report_that_cannot_be_delivered_comes_with_the_next_run() {
    let mut fake = Fake::with(Nature::Good).with_fault_at("report switched", Fault::Error(1));
    assert_eq!(fake.update(), Some(Ok(())));
    assert!(fake.server.reports.is_empty());
    fake.update();
    assert_eq!(fake.newest_report().outcome, Outcome::Switched);
    assert_eq!(fake.server.reports.len(), 1);
}

#[test]
fn what_was_rolled_back_on_a_full_disk_does_not_come_to_stay_by_the_next_start() {
    let mut fake = Fake::with(Nature::Good).with_fault_at("boot 1", Fault::Full);
    fake.server.is_down = false;
    assert_eq!(fake.update(), Some(Err(ExitReason::RolledBack)));
    assert_eq!(fake.machine.running, system(0, 0));
    fake.update();
    let reported = fake.server.reports.iter().map(|report| report.outcome);
    assert_eq!(reported.take(1).collect::<Vec<_>>(), [Outcome::RolledBack]);
    fake.recover_undisturbed();
}
