//! Systems that await a boot, and reboots that the fleet wants.

use bento_protocol::{Outcome, Reboot};

use super::super::{UpdateOptions, reboot_if_needed, report_now, roll_back_by_hand};
use super::fake::{Fake, Fault, When};
use super::machine::{Nature, id, system};
use crate::exit::{ExitReason, Failure};

const AT_BOOT: UpdateOptions = UpdateOptions {
    retry: false,
    at_boot: true,
};

/// A machine that has booted into a staged system of that nature.
fn booted(nature: Nature) -> Fake {
    let mut fake = Fake::with(nature);
    fake.publish_with(|generation| generation.secrets = 1);
    assert_eq!(fake.update_with(AT_BOOT), Some(Ok(())));
    fake.reboot_machine();
    fake
}

#[test]
fn a_staged_system_is_only_made_bootable_and_proven_after_the_boot() {
    let mut fake = Fake::with(Nature::Good);
    assert_eq!(fake.update_with(AT_BOOT), Some(Ok(())));
    let from_boot_room = fake
        .acts()
        .into_iter()
        .skip_while(|act| !act.contains("/boot"));
    assert_eq!(
        from_boot_room.collect::<Vec<_>>(),
        [
            "check the room in /boot",
            "profile 1",
            "boot 1",
            "report staged"
        ]
    );
    assert!(fake.newest_report().reboot_required);
    fake.check_whole();
    fake.update();
    assert_eq!(fake.acts(), ["poll"]);

    fake.reboot_machine();
    assert_eq!(fake.update(), Some(Ok(())));
    assert_eq!(
        fake.acts()[..4],
        ["secrets 1", "confirm", "boot 1", "installed 1"]
    );
    assert_eq!(fake.newest_report().outcome, Outcome::Switched);
    fake.check_whole();
}

#[test]
fn a_staged_system_that_is_not_healthy_reboots_into_the_old_one() {
    let mut fake = booted(Nature::Unhealthy);
    assert_eq!(fake.disk.secrets, Some(id(2)));
    assert_eq!(fake.update(), Some(Err(ExitReason::RolledBack)));
    assert_eq!(fake.machine.running, system(0, 0));
    assert_eq!(fake.disk.secrets, Some(id(0)));
    assert_eq!(fake.update(), Some(Err(ExitReason::RebuildFailed)));
    assert_eq!(fake.newest_report().outcome, Outcome::RolledBack);
    assert!(!fake.disk.failed.as_ref().unwrap().retry);
    fake.check_whole();
}

#[test]
fn a_staged_system_that_does_not_come_up_is_given_up() {
    let mut fake = booted(Nature::NeverBoots);
    assert_eq!(fake.update(), Some(Err(ExitReason::RebuildFailed)));
    let report = fake.newest_report();
    assert_eq!(report.outcome, Outcome::RolledBack);
    assert!(report.error.as_ref().unwrap().contains("didn't boot"));
    fake.check_whole();
}

#[test]
fn a_staged_system_makes_way_for_a_newer_generation() {
    let mut fake = Fake::with(Nature::Unhealthy);
    fake.update_with(AT_BOOT);
    fake.publish(Nature::BuildFails);
    fake.update();
    assert_eq!(fake.disk.awaiting, None);
    assert_eq!(*fake.machine.loader(), system(0, 0));
    fake.check_whole();
}

#[test]
fn a_staged_system_that_was_half_taken_back_is_not_reported_as_staged() {
    let dies = Fault::Death {
        when: When::After,
        reboots: false,
    };
    let mut fake = Fake::with(Nature::Good);
    fake.update_with(AT_BOOT);
    fake.publish(Nature::Good);
    let mut fake = fake.with_fault_at("profile 0", dies);
    assert_eq!(fake.update(), None);
    fake.hold(4);
    assert_eq!(fake.update(), Some(Ok(())));
    assert_eq!(fake.disk.awaiting, None);
    assert_eq!(*fake.machine.loader(), system(0, 0));
}

#[test]
fn a_system_whose_init_differs_is_staged() {
    let mut fake = Fake::with(Nature::NeedsBoot);
    fake.publish_with(|generation| generation.secrets = 1);
    assert_eq!(fake.update(), Some(Ok(())));
    assert_eq!(fake.newest_report().outcome, Outcome::Staged);
    // It isn't the one that runs yet.
    assert_eq!(fake.disk.secrets, Some(id(0)));
    fake.check_whole();
}

#[test]
fn a_system_out_of_reach_after_the_boot_is_tried_again() {
    let mut fake = booted(Nature::Good).with_fault_at("confirm", Fault::Error(0));
    assert_eq!(fake.update(), Some(Err(ExitReason::RolledBack)));
    // The first try after a failure that may pass comes at once.
    assert_eq!(fake.update(), Some(Ok(())));
    let outcomes = fake.server.reports.iter().map(|report| report.outcome);
    assert_eq!(
        outcomes.collect::<Vec<_>>(),
        [Outcome::Staged, Outcome::RolledBack, Outcome::Switched]
    );
    assert_eq!(fake.machine.running, system(1, 0));
}

#[test]
fn a_boot_that_cuts_a_staging_short_is_not_the_one_that_is_awaited() {
    let dies = Fault::Death {
        when: When::Before,
        reboots: true,
    };
    let mut fake = Fake::with(Nature::NeedsBoot).with_fault_at("boot 1", dies);
    assert_eq!(fake.update(), None);
    assert_eq!(fake.update(), Some(Ok(())));
    assert_eq!(fake.newest_report().outcome, Outcome::Staged);
    fake.reboot_machine();
    fake.update();
    assert_eq!(fake.machine.running, system(1, 0));
}

#[test]
fn a_staged_system_that_runs_before_its_staging_was_reported_is_only_proven() {
    let dies = Fault::Death {
        when: When::Before,
        reboots: true,
    };
    let mut fake = Fake::with(Nature::NeedsBoot).with_fault_at("record failed -", dies);
    assert_eq!(fake.update(), None);
    assert_eq!(fake.machine.running, system(1, 0));
    let mut fake = fake.with_fault_at("boot 1", Fault::Error(1));
    // Its profile leads there already.
    assert_eq!(fake.update(), Some(Ok(())));
    assert_eq!(fake.newest_report().outcome, Outcome::Switched);
    fake.check_whole();
}

#[test]
fn a_boot_loader_that_cannot_be_taken_back_is_reported_and_taken_back_by_the_next_start() {
    let fake = booted(Nature::NeverBoots);
    let mut fake = fake.with_fault_at("boot 0", Fault::Error(1));
    assert_eq!(fake.update(), Some(Err(ExitReason::RolledBack)));
    assert_eq!(fake.newest_report().outcome, Outcome::RollbackFailed);
    fake.update();
    assert_eq!(fake.newest_report().outcome, Outcome::RolledBack);
    fake.check_whole();
}

#[test]
fn what_cannot_be_recorded_as_awaited_is_not_booted() {
    let mut fake = Fake::with(Nature::NeedsBoot);
    fake.update();
    assert!(fake.did("record awaiting 1"));
    let mut fake =
        Fake::with(Nature::NeedsBoot).with_fault_at("record awaiting 1", Fault::Error(0));
    assert_eq!(fake.update(), Some(Err(ExitReason::RebuildFailed)));
    assert_eq!(*fake.machine.loader(), system(0, 0));
    fake.check_whole();
}

#[test]
fn what_was_proven_is_not_given_up_by_the_run_after() {
    let dies = Fault::Death {
        when: When::After,
        reboots: false,
    };
    let mut fake = booted(Nature::Good).with_fault_at("installed 2", dies);
    assert_eq!(fake.update(), None);
    fake.machine.failing.push("later.service".to_owned());
    fake.server.systems[1].nature = Nature::Unhealthy;
    assert_eq!(fake.update(), Some(Ok(())));
    assert_eq!(fake.newest_report().outcome, Outcome::Switched);
    fake.check_whole();
}

#[test]
fn the_machine_reboots_where_the_policy_wants_it_and_once_for_a_system() {
    for (reboot, boots) in [(Reboot::Never, 1), (Reboot::Immediate, 2)] {
        let mut fake = Fake::with(Nature::Good).with_kernel(1);
        fake.publish_with(|generation| generation.terms.reboot = reboot);
        assert_eq!(fake.update(), Some(Ok(())));
        assert_eq!(fake.machine.boots, boots, "{reboot:?}");
        // Its report went first.
        assert_eq!(fake.newest_report().outcome, Outcome::Switched);
        // A machine whose boot loader has another kernel than the system that it names.
        fake.machine.booted = system(0, 0);
        fake.update();
        assert_eq!(fake.machine.boots, boots, "{reboot:?}");
    }
}

/// A machine that was switched to a system of that nature, with another kernel, and rebooted by the fleet's policy.
fn rebooted(nature: Nature) -> Fake {
    let mut fake = Fake::with(nature).with_kernel(1);
    fake.publish_with(|generation| {
        generation.terms.reboot = Reboot::Immediate;
        generation.secrets = 1;
    });
    assert_eq!(fake.update(), Some(Ok(())));
    assert_eq!(fake.newest_report().outcome, Outcome::Switched);
    assert_eq!(
        (fake.machine.boots, &fake.machine.running),
        (2, &system(1, 0))
    );
    fake
}

#[test]
fn a_kernel_to_which_bento_reboots_is_proven_or_goes_back() {
    let mut fake = rebooted(Nature::Good);
    assert_eq!(fake.update(), Some(Ok(())));
    assert!(fake.did("confirm"), "{:?}", fake.done);
    assert_eq!(fake.newest_report().outcome, Outcome::Switched);
    fake.check_whole();

    let mut fake = rebooted(Nature::LosesNetwork);
    assert!(!fake.is_reachable_now());
    assert_eq!(fake.update(), Some(Err(ExitReason::RolledBack)));
    assert_eq!(
        (fake.machine.boots, &fake.machine.running),
        (3, &system(0, 0))
    );
    assert_eq!(fake.disk.secrets, Some(id(0)));
    // Perhaps the network was away for another reason: it is tried again, and no boot of it is left unproven.
    fake.update();
    let reported = fake.server.reports.iter().map(|report| report.outcome);
    let expected = [Outcome::Switched, Outcome::RolledBack, Outcome::Staged];
    assert_eq!(reported.collect::<Vec<_>>(), expected);
    assert_eq!(
        (fake.machine.boots, fake.machine.loader()),
        (3, &system(1, 0))
    );
    fake.reboot_machine();
    assert_eq!(fake.update(), Some(Err(ExitReason::RolledBack)));
    assert_eq!(
        (fake.machine.boots, &fake.machine.running),
        (5, &system(0, 0))
    );
    fake.update();
    fake.check_whole();
}

#[test]
fn a_kernel_that_somebody_boots_is_left_to_them() {
    let mut fake = Fake::with(Nature::LosesNetwork).with_kernel(1);
    assert_eq!(fake.update(), Some(Ok(())));
    fake.reboot_machine();
    assert_eq!(fake.update(), Some(Err(ExitReason::Server)));
    assert_eq!(
        (fake.machine.boots, &fake.machine.running),
        (2, &system(1, 0))
    );
}

#[test]
fn a_reboot_that_does_not_come_awaits_no_proof() {
    let mut fake = Fake::with(Nature::Good).with_kernel(1);
    fake.publish_with(|generation| generation.terms.reboot = Reboot::Immediate);
    let mut fake = fake.with_fault_at("reboot", Fault::Error(0));
    assert_eq!(fake.update(), Some(Err(ExitReason::RebuildFailed)));
    assert_eq!(fake.disk.awaiting, None);
}

#[test]
fn nothing_reboots_a_machine_that_is_held() {
    let mut fake = Fake::with(Nature::Good).with_kernel(1);
    fake.publish_with(|generation| generation.terms.reboot = Reboot::Immediate);
    fake.hold(4);
    fake.disk.installed.as_mut().unwrap().generation = id(2);
    fake.disk.staged.insert(id(2));
    fake.machine.running = system(1, 0);
    assert_eq!(fake.start(reboot_if_needed), Some(Ok(())));
    assert_eq!(fake.machine.boots, 1);
    fake.machine.held = None;
    assert_eq!(fake.start(reboot_if_needed), Some(Ok(())));
    assert_eq!(fake.machine.boots, 2);
}

#[test]
fn a_reboot_waits_for_its_report_but_not_for_ever() {
    let mut fake = Fake::with(Nature::NeedsBoot);
    fake.publish_with(|generation| generation.terms.reboot = Reboot::Immediate);
    let mut fake = fake.with_fault_at("report staged", Fault::Error(1));
    assert_eq!(fake.update(), Some(Ok(())));
    assert_eq!(fake.server.reports.len(), 1);
    assert!(!fake.did("wait"));

    let mut fake = Fake::with(Nature::Good).with_kernel(1);
    fake.publish_with(|generation| generation.terms.reboot = Reboot::Immediate);
    let mut fake = fake.with_fault_at("reach the appliance", Fault::Error(0));
    fake.server.systems[1].nature = Nature::KillsNetwork;
    let before = fake.clock;
    assert_eq!(fake.update(), Some(Ok(())));
    assert_eq!(fake.clock.duration_since(before).as_mins(), 10);
    assert_eq!(fake.machine.boots, 2);
}

#[test]
fn a_reboot_that_fails_is_reported() {
    let mut fake = Fake::with(Nature::NeedsBoot);
    fake.publish_with(|generation| generation.terms.reboot = Reboot::Immediate);
    let mut fake = fake.with_fault_at("reboot", Fault::Error(0));
    assert_eq!(fake.update(), Some(Err(ExitReason::RebuildFailed)));
    fake.update();
    assert_eq!(fake.machine.running, system(1, 0));
}

#[test]
fn a_system_that_was_booted_and_stays_is_switched_to_again_after_a_failure() {
    let mut fake = rebooted(Nature::Good);
    assert_eq!(fake.update(), Some(Ok(())));
    // The same system with other secrets, while the appliance is away for a moment.
    fake.publish_with(|generation| generation.secrets = 2);
    let mut fake = fake.with_fault_at("confirm", Fault::Error(0));
    assert_eq!(fake.update(), Some(Err(ExitReason::RolledBack)));
    assert_eq!(fake.update(), Some(Ok(())));
    assert_eq!(fake.newest_report().outcome, Outcome::Switched);
    fake.check_whole();
}

/// A machine that runs a system of that kernel, wants to be rebooted into it, and couldn't be yet.
fn wants_reboot() -> Fake {
    let mut fake = Fake::with(Nature::Good).with_kernel(1);
    fake.publish_with(|generation| {
        generation.terms.reboot = Reboot::Immediate;
        generation.secrets = 1;
    });
    let mut fake = fake.with_fault_at("reboot", Fault::Error(0));
    assert_eq!(fake.update(), Some(Err(ExitReason::RebuildFailed)));
    fake
}

#[test]
fn what_somebody_switched_to_is_booted_and_nothing_is_given_up_for_it() {
    for is_recordd in [false, true] {
        let mut fake = Fake::with(Nature::Good).with_kernel(1);
        fake.update();
        fake.publish(Nature::Good);
        fake.publish_with(|generation| {
            generation.terms.reboot = Reboot::Immediate;
            generation.secrets = 1;
        });
        let dies = Fault::Death {
            when: When::Before,
            reboots: false,
        };
        let mut fake =
            fake.with_fault_at("reboot", if is_recordd { dies } else { Fault::Error(0) });
        fake.update();
        assert_eq!(fake.disk.awaiting.is_some(), is_recordd);
        if is_recordd {
            // By other means than bento's.
            fake.machine.running = system(1, 0);
            fake.machine.profile = system(1, 0);
            fake.machine.entries.push(system(1, 0));
        } else {
            assert_eq!(
                fake.start(|fake| roll_back_by_hand(fake).map(drop)),
                Some(Ok(()))
            );
        }
        assert_eq!(fake.update(), Some(Ok(())));
        assert_eq!(
            (fake.machine.boots, &fake.machine.running),
            (2, &system(1, 0))
        );
        assert_eq!(fake.update(), Some(Ok(())));
        assert_eq!(fake.newest_report().outcome, Outcome::Unchanged);
        assert_eq!(fake.disk.installed.as_ref().unwrap().generation, id(3));
        assert_eq!(fake.disk.secrets, Some(id(3)));
    }
}

#[test]
fn the_proof_of_a_boot_forgets_no_failure_of_another_generation() {
    let mut fake = wants_reboot();
    fake.publish(Nature::Refused);
    assert_eq!(fake.update(), Some(Err(ExitReason::RebuildFailed)));
    assert_eq!(fake.machine.boots, 2);
    assert_eq!(fake.update(), Some(Err(ExitReason::RebuildFailed)));
    assert!(fake.did("confirm") && !fake.did("build"), "{:?}", fake.done);
}

#[test]
fn a_kernel_that_was_proven_is_not_given_up_by_the_run_after() {
    let dies = Fault::Death {
        when: When::After,
        reboots: false,
    };
    let mut fake = rebooted(Nature::Good).with_fault_at("installed 2", dies);
    assert_eq!(fake.update(), None);
    fake.server.systems[1].nature = Nature::Unhealthy;
    assert_eq!(fake.update(), Some(Ok(())));
    assert_eq!(fake.newest_report().outcome, Outcome::Switched);
    fake.check_whole();
}

#[test]
fn a_system_that_was_never_booted_is_proven_when_a_staged_one_goes_back_to_it() {
    let mut fake = Fake::with(Nature::LosesNetwork).with_kernel(1);
    assert_eq!(fake.update(), Some(Ok(())));
    fake.publish(Nature::NeedsBoot);
    assert_eq!(fake.update(), Some(Ok(())));
    assert_eq!(fake.newest_report().outcome, Outcome::Staged);
    fake.reboot_machine();
    let mut fake = fake.with_fault_at("confirm", Fault::Error(1));
    assert_eq!(fake.update(), Some(Err(ExitReason::RolledBack)));
    assert_eq!(fake.machine.running, system(1, 0));
    for _ in 0..3 {
        fake.update();
    }
    assert_eq!(
        (fake.machine.boots, &fake.machine.running),
        (4, &system(0, 0))
    );
    fake.check_whole();
}

#[test]
fn the_report_of_a_proof_says_whether_the_system_comes_from_a_self_update() {
    let mut fake = Fake::with(Nature::Good).with_kernel(1);
    fake.publish_with(|generation| generation.terms.reboot = Reboot::Immediate);
    let mut fake = fake.with_fault_at("reboot", Fault::Error(0));
    fake.update();
    fake.disk.installed.as_mut().unwrap().auto = true;
    fake.update();
    assert_eq!(fake.machine.boots, 2);
    fake.update();
    assert_eq!(fake.newest_report().outcome, Outcome::Switched);
    assert!(fake.newest_report().auto);
}

#[test]
fn a_machine_that_cannot_go_back_from_a_boot_takes_what_is_published_next() {
    let mut fake = rebooted(Nature::Good);
    fake.server.systems[1].nature = Nature::Unhealthy;
    for (published, ended) in [
        (None, Err(ExitReason::RolledBack)),
        (Some(Nature::Refused), Err(ExitReason::RebuildFailed)),
        (None, Err(ExitReason::RebuildFailed)),
        (Some(Nature::Good), Ok(())),
    ] {
        if let Some(nature) = published {
            fake.publish(nature);
        }
        fake = fake.with_fault_at("boot 0", Fault::Error(1));
        assert_eq!(fake.update(), Some(ended), "{published:?}");
        assert_eq!(fake.did("build"), published.is_some(), "{:?}", fake.done);
    }
    assert_eq!(fake.machine.running, system(3, 0));
    fake.recover_undisturbed();
    let outcomes = fake.server.reports.iter().map(|report| report.outcome);
    assert_eq!(
        outcomes.take(5).collect::<Vec<_>>(),
        [
            Outcome::Switched,
            Outcome::RollbackFailed,
            // Before it was asked what is published.
            Outcome::RollbackFailed,
            Outcome::ActivationFailed,
            Outcome::Switched
        ]
    );
}

#[test]
fn a_way_back_that_fails_is_reported_whatever_failed_before() {
    let mut fake = wants_reboot();
    fake.publish(Nature::BuildFails);
    fake.update();
    fake.server.systems[1].nature = Nature::Unhealthy;
    let mut fake = fake.with_fault_at("boot 0", Fault::Error(1));
    assert_eq!(fake.update(), Some(Err(ExitReason::RebuildFailed)));
    let outcomes = fake.server.reports.iter().map(|report| report.outcome);
    assert!(outcomes.into_iter().any(|it| it == Outcome::RollbackFailed));
}

fn by_hand(fake: &mut Fake) -> Result<(), Failure> {
    roll_back_by_hand(fake).map(drop)
}

#[test]
fn a_staged_system_in_whose_place_another_boots_by_hand_has_failed_and_that_is_left_so() {
    let mut fake = Fake::with(Nature::Good);
    fake.publish(Nature::NeedsBoot);
    fake.update();
    assert_eq!(fake.newest_report().outcome, Outcome::Staged);
    fake.machine.profile = system(1, 0);
    fake.machine.entries.push(system(1, 0));
    assert_eq!(fake.update(), Some(Err(ExitReason::RebuildFailed)));
    let report = fake.newest_report();
    assert_eq!(report.outcome, Outcome::ActivationFailed);
    assert_eq!(report.generation, id(2));
    assert!(!report.reboot_required);
    let error = report.error.as_deref().unwrap();
    assert!(error.contains("the one that boots"), "{error}");
    assert_eq!(fake.disk.awaiting, None);
    assert_eq!(fake.update(), Some(Err(ExitReason::RebuildFailed)));
    assert_eq!(*fake.machine.loader(), system(1, 0));
    fake.update_with(UpdateOptions {
        retry: true,
        at_boot: false,
    });
    assert_eq!(*fake.machine.loader(), system(2, 0));
    assert_eq!(fake.newest_report().outcome, Outcome::Staged);
}

/// A machine whose booted system failed its proof, and that somebody keeps from going down.
fn returning() -> Fake {
    let mut fake = booted(Nature::Unhealthy);
    fake.machine.is_inhibited = true;
    assert_eq!(fake.update(), Some(Err(ExitReason::RolledBack)));
    assert_eq!(fake.machine.running, system(1, 0));
    fake
}

#[test]
fn a_machine_that_is_still_to_go_back_by_a_boot_is_not_reported_as_staged() {
    let mut fake = returning();
    // As if the machine went down at once: nothing was reported.
    fake.disk.failed = None;
    assert_eq!(fake.start(report_now), Some(Ok(())));
    let report = fake.newest_report();
    assert_eq!(report.outcome, Outcome::RollbackFailed);
    assert_eq!(report.generation, id(2));
    let error = report.error.as_deref().unwrap();
    assert!(error.contains("it isn't healthy"), "{error}");
    fake.recover_undisturbed();
    assert_eq!(fake.newest_report().outcome, Outcome::RolledBack);
}

#[test]
fn a_report_after_a_boot_back_says_so() {
    for nature in [Nature::NeverBoots, Nature::Unhealthy] {
        let mut fake = match nature {
            Nature::Unhealthy => returning(),
            _ => booted(nature),
        };
        if nature == Nature::Unhealthy {
            fake.reboot_machine();
        }
        assert_eq!(fake.start(report_now), Some(Ok(())));
        let report = fake.newest_report();
        assert_eq!(report.outcome, Outcome::RolledBack, "{nature:?}");
        assert_eq!(report.generation, id(2));
        assert_eq!(*fake.machine.loader(), system(0, 0));
        fake.check_whole();
    }
}

#[test]
fn a_boot_that_is_not_proven_is_no_success_to_report() {
    let mut fake = booted(Nature::Good);
    assert_eq!(fake.start(report_now), Some(Ok(())));
    assert!(!fake.did("confirm"));
    assert_eq!(fake.newest_report().outcome, Outcome::Staged);
    fake.update();
    assert_eq!(fake.newest_report().outcome, Outcome::Switched);
}

#[test]
fn a_rollback_by_hand_from_a_booted_system_leads_to_the_one_before_the_boot() {
    for make in [|| booted(Nature::Good), returning] {
        let mut fake = make();
        fake.machine.is_inhibited = false;
        fake.disk.installed.as_mut().unwrap().previous = Some(system(7, 0));
        assert_eq!(fake.start(by_hand), Some(Ok(())));
        assert_eq!(fake.machine.running, system(0, 0));
        let report = fake.newest_report();
        assert_eq!(report.outcome, Outcome::RolledBack);
        assert_eq!(report.generation, id(2));
        let error = report.error.as_deref().unwrap();
        assert!(error.contains("bento-client rollback"), "{error}");
        fake.check_whole();
        // By itself it isn't updated again to what somebody left.
        assert_eq!(fake.update(), Some(Err(ExitReason::RebuildFailed)));
        assert_eq!(fake.machine.running, system(0, 0));
        fake.update_with(UpdateOptions {
            retry: true,
            at_boot: false,
        });
        let is_new = fake.machine.running == system(1, 0);
        assert!(is_new || fake.did("confirm"));
    }
}

#[test]
fn a_rollback_by_hand_after_a_boot_back_forgets_no_failure() {
    let mut fake = Fake::with(Nature::Good);
    fake.update();
    fake.publish(Nature::NeverBoots);
    fake.update_with(AT_BOOT);
    fake.reboot_machine();
    assert_eq!(fake.start(by_hand), Some(Ok(())));
    assert_eq!(fake.machine.running, system(0, 0));
    let outcomes = fake.server.reports.iter().map(|report| report.outcome);
    assert_eq!(
        outcomes.skip(2).collect::<Vec<_>>(),
        [Outcome::RolledBack, Outcome::Unchanged]
    );
    assert_eq!(fake.disk.failed.as_ref().unwrap().generation, id(2));
    assert_eq!(fake.update(), Some(Err(ExitReason::RebuildFailed)));
    assert_eq!(fake.machine.running, system(0, 0));
}

#[test]
fn a_rollback_by_hand_that_is_cut_short_is_completed_by_the_next_run() {
    let mut whole = booted(Nature::Good);
    whole.start(by_hand);
    let effects = whole.effects.len();
    assert!(effects > 5);
    for effect in 0..effects {
        for (when, reboots) in [
            (When::Before, false),
            (When::After, false),
            (When::After, true),
        ] {
            let mut fake = booted(Nature::Good).with_fault(effect, Fault::Death { when, reboots });
            assert_eq!(fake.start(by_hand), None);
            fake.recover_undisturbed();
        }
    }
}
