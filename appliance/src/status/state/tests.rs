use bento_protocol::{Report, Systems};

use super::HostStatus::*;
use super::*;
use crate::report::fixture::{failure, generation, record, report, second, system};

fn published(digit: char) -> Published {
    Published {
        generation: generation(digit),
        at: second(0),
        expected_system: None,
    }
}

fn expecting(digit: char, name: &str) -> Published {
    Published {
        expected_system: Some(system(name)),
        ..published(digit)
    }
}

fn summary(reports: &[Report]) -> Summary {
    let mut summary = Summary::default();
    for report in reports {
        summary.add(&record(summary.next, report.clone()));
    }
    summary
}

/// The state of a machine that reported these, one after the other, while this is published.
fn state(published: &Published, reports: &[Report]) -> HostStatus {
    judge(Some(published), &summary(reports))
}

fn legacy(name: &str) -> Record {
    Record {
        sequence: 1,
        received: second(0),
        content: Content::Legacy(name.parse().unwrap()),
    }
}

fn running(report: Report, system: Option<bento_protocol::SystemPath>) -> Report {
    Report {
        system: Systems {
            running: system,
            ..report.system.clone()
        },
        ..report
    }
}

fn staged(digit: char) -> Report {
    let report = Report {
        outcome: Outcome::Staged,
        reboot_required: true,
        ..report(digit)
    };
    running(report, Some(system("before")))
}

fn auto(report: Report) -> Report {
    Report {
        auto: true,
        ..report
    }
}

#[test]
fn names_are_those_of_the_contract() {
    for state in HostStatus::ALL {
        assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
    }
    assert_eq!(
        HostStatus::ALL.map(HostStatus::as_str).join(" "),
        "unpublished new legacy rolled-back failing drifted reboot-pending auto-updated mismatch up-to-date \
         sync-pending rebuild-pending"
    );
}

// One test for each row of the table.

#[test]
fn unpublished() {
    assert_eq!(judge(None, &Summary::default()), Unpublished);
    assert_eq!(judge(None, &summary(&[report('a')])), Unpublished);
}

#[test]
fn new() {
    assert_eq!(state(&published('a'), &[]), New);
    assert_eq!(
        judge(
            Some(&published('a')),
            &summary(&[report('a')]).since(second(2))
        ),
        New
    );
}

#[test]
fn legacy_logs() {
    for outcome in ["success", "failure", "rollback", "autoupdate"] {
        let mut summary = summary(&[]);
        summary.add(&legacy(&format!("20220912-0000_x_{outcome}.log.gz")));
        assert_eq!(judge(Some(&published('a')), &summary), Legacy, "{outcome}");
        let newer = record(2, report('a'));
        summary.add(&newer);
        assert_eq!(
            judge(Some(&published('a')), &summary),
            UpToDate,
            "a newer client took over"
        );
    }
    let mut back = summary(&[report('a')]);
    back.add(&Record {
        sequence: 2,
        ..legacy("20220912-0000_x_success.log.gz")
    });
    assert_eq!(judge(Some(&published('a')), &back), Legacy);
}

#[test]
fn rolled_back_and_failing() {
    assert_eq!(
        state(
            &published('b'),
            &[report('a'), failure('b', Outcome::RolledBack, 'a')]
        ),
        RolledBack
    );
    for outcome in [
        Outcome::PullFailed,
        Outcome::BuildFailed,
        Outcome::ActivationFailed,
        Outcome::RollbackFailed,
    ] {
        assert_eq!(
            state(&published('b'), &[report('a'), failure('b', outcome, 'a')]),
            Failing,
            "{outcome:?}"
        );
    }
}

// Issue 10, line 21.
#[test]
fn a_specialisation_of_the_built_system_counts_as_the_built_system() {
    let specialised = |report: Report| Report {
        specialisation: Some("console".into()),
        ..running(report, Some(system("console")))
    };
    assert_eq!(
        state(&published('a'), &[specialised(report('a'))]),
        UpToDate
    );
    let reboot = Report {
        reboot_required: true,
        ..report('a')
    };
    assert_eq!(
        state(&published('a'), &[specialised(reboot)]),
        RebootPending
    );
    assert_eq!(
        state(&published('a'), &[specialised(auto(report('a')))]),
        AutoUpdated
    );
    // It left it by hand for something else.
    let by_hand = running(report('a'), Some(system("by-hand")));
    assert_eq!(
        state(&published('a'), &[specialised(report('a')), by_hand]),
        Drifted
    );
    // The running system is unknown.
    let unknown = running(specialised(report('a')), None);
    assert_eq!(state(&published('a'), &[unknown]), Drifted);
    assert_eq!(
        state(&published('b'), &[specialised(report('a'))]),
        RebuildPending
    );
}

#[test]
fn drifted() {
    assert_eq!(
        state(
            &published('a'),
            &[running(report('a'), Some(system("by-hand")))]
        ),
        Drifted
    );
    let reboot = Report {
        reboot_required: true,
        ..report('a')
    };
    assert_eq!(
        state(&published('a'), &[running(reboot, Some(system("by-hand")))]),
        Drifted
    );
}

#[test]
fn reboot_pending() {
    assert_eq!(state(&published('a'), &[staged('a')]), RebootPending);
    assert_eq!(
        state(
            &published('a'),
            &[Report {
                reboot_required: true,
                ..report('a')
            }]
        ),
        RebootPending
    );
    assert_eq!(state(&published('a'), &[auto(staged('a'))]), RebootPending);
}

#[test]
fn auto_updated() {
    assert_eq!(
        state(&published('a'), &[report('a'), auto(report('a'))]),
        AutoUpdated
    );
    assert_eq!(
        state(&expecting('a', "another"), &[auto(report('a'))]),
        AutoUpdated
    );
}

#[test]
fn mismatch() {
    assert_eq!(state(&expecting('a', "another"), &[report('a')]), Mismatch);
}

#[test]
fn up_to_date() {
    for outcome in [Outcome::Unchanged, Outcome::Switched] {
        assert_eq!(
            state(
                &published('a'),
                &[Report {
                    outcome,
                    ..report('a')
                }]
            ),
            UpToDate
        );
    }
    assert_eq!(state(&expecting('a', "system-a"), &[report('a')]), UpToDate);
}

#[test]
fn sync_pending() {
    assert_eq!(
        state(&expecting('b', "system-a"), &[report('a')]),
        SyncPending
    );
}

#[test]
fn rebuild_pending() {
    assert_eq!(state(&published('b'), &[report('a')]), RebuildPending);
    assert_eq!(
        state(&expecting('b', "system-b"), &[report('a')]),
        RebuildPending
    );
    assert_eq!(
        state(&published('b'), &[running(report('a'), None)]),
        RebuildPending
    );
    assert_eq!(
        state(&published('b'), &[failure('a', Outcome::RolledBack, '0')]),
        RebuildPending
    );
}

// Cases in which the status of other tools is wrong.

#[test]
fn published_while_the_machine_was_building() {
    assert_eq!(
        state(&published('b'), &[report('0'), report('a')]),
        RebuildPending
    );
}

#[test]
fn after_a_late_report_of_an_old_generation_it_is_not_up_to_date() {
    assert_eq!(
        state(&published('b'), &[report('b'), report('a')]),
        RebuildPending
    );
    assert_eq!(
        state(&published('b'), &[report('b'), report('a'), report('b')]),
        UpToDate
    );
}

#[test]
fn the_order_of_receipt_decides_not_a_clock() {
    let past = Report {
        started: second(-86_400),
        finished: second(-86_399),
        ..report('b')
    };
    assert_eq!(
        state(&published('b'), &[report('a'), past.clone()]),
        UpToDate
    );
    let mut summary = Summary::default();
    for (number, report) in [(1, failure('b', Outcome::BuildFailed, 'a')), (2, past)] {
        summary.add(&Record {
            received: second(0),
            ..record(number, report)
        });
    }
    assert_eq!(
        judge(Some(&published('b')), &summary),
        UpToDate,
        "two reports at the same instant"
    );
}

#[test]
fn a_failed_self_update_leaves_the_state_of_the_run_before() {
    for outcome in [
        Outcome::PullFailed,
        Outcome::BuildFailed,
        Outcome::ActivationFailed,
        Outcome::RolledBack,
        Outcome::RollbackFailed,
    ] {
        let failed = auto(failure('a', outcome, 'a'));
        assert_eq!(
            state(&published('a'), &[report('a'), failed.clone()]),
            UpToDate,
            "{outcome:?}"
        );
        assert_eq!(
            state(
                &published('a'),
                &[staged('a'), auto(failure('a', outcome, 'b'))]
            ),
            RebootPending
        );
        assert_eq!(
            state(&published('b'), &[report('a'), failed.clone()]),
            RebuildPending
        );
        let failing = failure('a', Outcome::BuildFailed, '0');
        assert_eq!(state(&published('a'), &[failing, failed]), Failing);
    }
}

#[test]
fn after_a_failed_self_update_with_another_system_running_it_is_not_up_to_date() {
    let failed = auto(failure('a', Outcome::ActivationFailed, 'x'));
    assert_eq!(state(&published('a'), &[report('a'), failed]), Drifted);
}

#[test]
fn a_machine_with_only_failed_self_updates_has_their_state() {
    assert_eq!(
        state(
            &published('a'),
            &[auto(failure('a', Outcome::BuildFailed, '0'))]
        ),
        Failing
    );
}

#[test]
fn a_self_update_and_then_a_new_generation() {
    assert_eq!(state(&published('b'), &[auto(report('a'))]), RebuildPending);
    assert_eq!(
        state(&published('b'), &[auto(report('a')), report('b')]),
        UpToDate
    );
}

#[test]
fn rolled_back_and_then_the_same_generation_again() {
    let back = failure('b', Outcome::RolledBack, 'a');
    assert_eq!(
        state(&published('b'), &[report('a'), back.clone()]),
        RolledBack
    );
    assert_eq!(
        state(&published('b'), &[report('a'), back, report('b')]),
        UpToDate
    );
}

#[test]
fn one_generation_then_a_failing_one_then_the_first_again() {
    let reports = [report('a'), failure('b', Outcome::BuildFailed, 'a')];
    assert_eq!(state(&published('b'), &reports), Failing);
    assert_eq!(state(&published('a'), &reports), RebuildPending);
    assert_eq!(state(&expecting('a', "system-a"), &reports), SyncPending);
    let unchanged = Report {
        outcome: Outcome::Unchanged,
        ..report('a')
    };
    assert_eq!(
        state(&published('a'), &[&reports[..], &[unchanged]].concat()),
        UpToDate
    );
}

#[test]
fn a_reboot_after_a_switch() {
    let switched = Report {
        reboot_required: true,
        ..report('a')
    };
    let rebooted = Report {
        outcome: Outcome::Unchanged,
        ..report('a')
    };
    assert_eq!(
        state(&published('a'), &[switched, rebooted.clone()]),
        UpToDate
    );
    assert_eq!(state(&published('a'), &[staged('a'), rebooted]), UpToDate);
    let into_another = running(
        Report {
            outcome: Outcome::Unchanged,
            ..report('a')
        },
        Some(system("older")),
    );
    assert_eq!(
        state(&published('a'), &[report('a'), into_another]),
        Drifted
    );
}

#[test]
fn an_unknown_system_is_never_up_to_date() {
    assert_eq!(
        state(&published('a'), &[running(report('a'), None)]),
        Drifted
    );
    let nothing_known = Report {
        system: Systems::default(),
        ..report('a')
    };
    assert_eq!(
        state(&published('a'), std::slice::from_ref(&nothing_known)),
        Drifted
    );
    let staged = Report {
        outcome: Outcome::Staged,
        ..nothing_known
    };
    assert_eq!(state(&published('a'), &[staged]), RebootPending);
}
