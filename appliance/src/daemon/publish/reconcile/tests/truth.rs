//! Promise 3: the real reconciler publishes, reports are left in a real inbox, and status must be true.

use std::io::Write;
use std::time::SystemTime;

use bento_protocol::{Outcome, Report, ReportName, RunId, Systems};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::report::fixture::{packed, report};
use crate::report::{Writers, take_in};

impl Appliance {
    /// Publishes an edit, and returns the generation and the number of the publication.
    fn publish(&mut self, text: &str) -> (GenerationId, u64) {
        self.edit(text);
        let published = self.outcome().unwrap();
        assert_eq!(published, self.made());
        let keep = self.state.host(&name());
        (
            published,
            Publications::of(&keep).current().unwrap().unwrap(),
        )
    }

    /// Leaves a report in the inbox of a session that began while this publication was the newest.
    fn leave(&self, number: u64, report: &Report, at: SystemTime) {
        let named = ReportName {
            run: report.run,
            attempt: 1,
        };
        self.put(number, &named.to_string(), &packed(report), at);
    }

    fn put(&self, number: u64, file: &str, content: &[u8], at: SystemTime) {
        let keep = self.state.host(&name());
        let path = Publications::of(&keep).inbox(number).join(file);
        fs::write(&path, content).unwrap();
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(at).unwrap();
    }

    /// Takes in all reports, and returns the state.
    fn state(&self) -> HostStatus {
        let keep = self.state.host(&name());
        for number in Publications::of(&keep).numbers().unwrap() {
            let inbox = Publications::of(&keep).inbox(number);
            let mut refuse = |entry: &str, reason: &str| panic!("{entry}: {reason}");
            let now = Timestamp::now();
            take_in(&inbox, &name(), &keep, Writers::None, now, &mut refuse).unwrap();
        }
        self.status().state
    }

    fn state_after(&self, number: u64, report: &Report) -> HostStatus {
        self.leave(number, report, SystemTime::now());
        self.state()
    }
}

/// The report of a run that built a system of a generation and switched to it.
fn switched(generation: GenerationId, system: &str) -> Report {
    let system = Some(super::system(system));
    Report {
        run: RunId::now(),
        generation,
        system: Systems {
            before: None,
            built: system.clone(),
            running: system.clone(),
            booted: system,
        },
        ..report('a')
    }
}

/// The report of a run that failed, on a machine that still runs a system.
fn failed(generation: GenerationId, outcome: Outcome, running: &str) -> Report {
    let success = switched(generation, running);
    Report {
        outcome,
        error: Some("no luck".to_owned()),
        system: Systems {
            built: None,
            ..success.system.clone()
        },
        ..success
    }
}

/// The report of a poll without a new generation, after a change on the machine.
fn again(before: &Report) -> Report {
    Report {
        run: RunId::now(),
        outcome: Outcome::Unchanged,
        ..before.clone()
    }
}

/// The id of a run, so many milliseconds after 1970.
fn run_at(milliseconds: u64) -> RunId {
    let time = format!("{milliseconds:012x}");
    let text = format!("{}-{}-7000-8000-000000000000", &time[..8], &time[8..]);
    text.parse().unwrap()
}

fn appliance() -> Appliance {
    Appliance::new("when = \"change\"")
}

#[test]
fn a_generation_published_during_a_build_is_still_pending() {
    let mut appliance = appliance();
    let (first, old) = appliance.publish("first");
    assert_eq!(appliance.state(), HostStatus::New);
    // It polled the first, and builds it.
    let (second, new) = appliance.publish("second");
    let report = switched(first, "one");
    assert_eq!(
        appliance.state_after(old, &report),
        HostStatus::RebuildPending
    );
    let same = again(&report);
    assert_eq!(
        appliance.state_after(new, &same),
        HostStatus::RebuildPending
    );
    let report = switched(second, "two");
    assert_eq!(appliance.state_after(new, &report), HostStatus::UpToDate);
}

#[test]
fn a_report_of_an_old_generation_does_not_count_for_the_new_one() {
    let mut appliance = appliance();
    let (first, old) = appliance.publish("first");
    let (second, new) = appliance.publish("second");
    let report = switched(second, "two");
    assert_eq!(appliance.state_after(new, &report), HostStatus::UpToDate);
    // By a connection that has hung since then.
    let late = switched(first, "one");
    assert_eq!(
        appliance.state_after(old, &late),
        HostStatus::RebuildPending
    );
    let report = again(&report);
    assert_eq!(appliance.state_after(new, &report), HostStatus::UpToDate);
}

#[test]
fn reports_that_waited_at_a_machine_count_in_the_order_of_its_runs() {
    let mut appliance = appliance();
    let (first, _) = appliance.publish("first");
    let (second, number) = appliance.publish("second");
    let runs = [
        switched(first, "one"),
        failed(second, Outcome::BuildFailed, "one"),
        switched(second, "two"),
    ];
    for (seconds, report) in (0..).zip(&runs) {
        let at = SystemTime::now() - Duration::from_secs(60 - seconds);
        appliance.leave(number, report, at);
    }
    assert_eq!(appliance.state(), HostStatus::UpToDate);
    assert_eq!(appliance.status().runs, 3);

    let mut appliance = self::appliance();
    let (first, _) = appliance.publish("first");
    let (second, number) = appliance.publish("second");
    // Only the oldest came through before the connection was lost.
    let oldest = switched(first, "one");
    assert_eq!(
        appliance.state_after(number, &oldest),
        HostStatus::RebuildPending
    );
    let next = switched(second, "two");
    assert_eq!(appliance.state_after(number, &next), HostStatus::UpToDate);
}

#[test]
fn a_clock_that_is_a_day_off_changes_nothing() {
    let mut appliance = appliance();
    let (first, number) = appliance.publish("first");
    let now = u64::try_from(Timestamp::now().as_millisecond()).unwrap();
    let day = 24 * 60 * 60 * 1000;
    let at = |milliseconds: u64, report: Report| {
        let time = Timestamp::from_millisecond(i64::try_from(milliseconds).unwrap()).unwrap();
        Report {
            run: run_at(milliseconds),
            started: time,
            finished: time,
            ..report
        }
    };
    // A day ahead; then it is set right, so that the later run has the earlier id.
    let early = at(now + day, failed(first, Outcome::BuildFailed, "zero"));
    let late = at(now, switched(first, "one"));
    let before = SystemTime::now() - Duration::from_secs(1);
    appliance.leave(number, &early, before);
    appliance.leave(number, &late, SystemTime::now());
    assert_eq!(appliance.state(), HostStatus::UpToDate, "both at once");
    let behind = at(now - day, failed(first, Outcome::RolledBack, "zero"));
    assert_eq!(
        appliance.state_after(number, &behind),
        HostStatus::RolledBack
    );
    let behind = at(now - day + 1, switched(first, "one"));
    assert_eq!(appliance.state_after(number, &behind), HostStatus::UpToDate);
    // The time of the contact is by the appliance's clock.
    let status = appliance.status();
    let age = Timestamp::now().duration_since(status.seen.unwrap());
    assert!(age.as_secs() < 3600, "{age}");
    assert_eq!(status.silent, Some(false));
}

#[test]
fn of_two_reports_in_one_second_the_later_run_counts() {
    let mut appliance = appliance();
    let (first, number) = appliance.publish("first");
    let at = SystemTime::now();
    for (order, runs) in [[1, 2], [2, 1]].into_iter().enumerate() {
        let order = u64::try_from(order).unwrap();
        let [failure, success] = runs.map(|run| run_at(1_800_000_000_000 + order * 10 + run));
        let failure = Report {
            run: failure,
            ..failed(first, Outcome::BuildFailed, "zero")
        };
        let success = Report {
            run: success,
            ..switched(first, "one")
        };
        // In one tick of the disk's clock, even.
        appliance.leave(number, &success, at);
        appliance.leave(number, &failure, at);
        let expected = [HostStatus::UpToDate, HostStatus::Failing];
        assert_eq!(appliance.state(), expected[usize::try_from(order).unwrap()]);
    }
    assert_eq!(appliance.status().runs, 4);
}

#[test]
fn a_self_update_counts_for_its_generation_only() {
    let mut appliance = appliance();
    let (first, number) = appliance.publish("first");
    let auto = Report {
        auto: true,
        ..switched(first, "newer-inputs")
    };
    assert_eq!(
        appliance.state_after(number, &auto),
        HostStatus::AutoUpdated
    );
    let (second, number) = appliance.publish("second");
    assert_eq!(appliance.state(), HostStatus::RebuildPending);
    let auto = Report {
        auto: true,
        ..failed(second, Outcome::BuildFailed, "newer-inputs")
    };
    assert_eq!(
        appliance.state_after(number, &auto),
        HostStatus::RebuildPending
    );
    let report = switched(second, "two");
    assert_eq!(appliance.state_after(number, &report), HostStatus::UpToDate);
}

#[test]
fn a_generation_that_was_rolled_back_is_up_to_date_only_once_it_runs() {
    let mut appliance = appliance();
    let (first, number) = appliance.publish("first");
    appliance.state_after(number, &switched(first, "one"));
    let (second, number) = appliance.publish("second");
    let back = failed(second, Outcome::RolledBack, "one");
    assert_eq!(appliance.state_after(number, &back), HostStatus::RolledBack);
    // The same again: taken back, and published anew.
    let (_, between) = appliance.publish("first");
    assert_eq!(appliance.state(), HostStatus::RebuildPending);
    let same = again(&switched(first, "one"));
    assert_eq!(appliance.state_after(between, &same), HostStatus::UpToDate);
    let (same_id, number) = appliance.publish("second");
    assert_eq!(same_id, second);
    assert_eq!(
        appliance.state(),
        HostStatus::RebuildPending,
        "not tried again yet"
    );
    let report = switched(second, "two");
    assert_eq!(appliance.state_after(number, &report), HostStatus::UpToDate);
}

#[test]
fn an_earlier_generation_after_a_failing_one_is_pending_until_it_is_reported() {
    let mut appliance = appliance();
    let (first, number) = appliance.publish("first");
    let installed = switched(first, "one");
    appliance.state_after(number, &installed);
    let (second, number) = appliance.publish("second");
    let failure = failed(second, Outcome::BuildFailed, "one");
    assert_eq!(appliance.state_after(number, &failure), HostStatus::Failing);
    let (same, number) = appliance.publish("first");
    assert_eq!(same, first);
    assert_eq!(appliance.state(), HostStatus::RebuildPending);
    appliance.built(first, "one", true);
    appliance.reconcile();
    assert_eq!(
        appliance.state(),
        HostStatus::SyncPending,
        "it is known to run it"
    );
    let report = again(&installed);
    assert_eq!(appliance.state_after(number, &report), HostStatus::UpToDate);
}

#[test]
fn a_reboot_and_a_switch_by_hand_are_seen() {
    let mut appliance = appliance();
    let (first, number) = appliance.publish("first");
    let new_kernel = Report {
        reboot_required: true,
        ..switched(first, "one")
    };
    let state = appliance.state_after(number, &new_kernel);
    assert_eq!(state, HostStatus::RebootPending);
    let rebooted = Report {
        reboot_required: false,
        ..again(&new_kernel)
    };
    assert_eq!(
        appliance.state_after(number, &rebooted),
        HostStatus::UpToDate
    );
    let mut by_hand = again(&rebooted);
    by_hand.system.running = Some(system("by-hand"));
    assert_eq!(appliance.state_after(number, &by_hand), HostStatus::Drifted);
    let back = again(&rebooted);
    assert_eq!(appliance.state_after(number, &back), HostStatus::UpToDate);
}

#[test]
fn a_build_shows_a_mismatch_and_a_system_that_needs_no_rebuild() {
    let mut appliance = appliance();
    let (first, number) = appliance.publish("first");
    appliance.state_after(number, &switched(first, "one"));
    appliance.built(first, "another", true);
    appliance.reconcile();
    assert_eq!(appliance.state(), HostStatus::Mismatch);
    appliance.built(first, "one", true);
    appliance.reconcile();
    assert_eq!(appliance.state(), HostStatus::UpToDate);
    // A comment, say: another generation, the same system.
    appliance.edit("second");
    appliance.built(appliance.made(), "one", true);
    appliance.reconcile();
    assert_eq!(appliance.state(), HostStatus::SyncPending);
    appliance.edit("third");
    appliance.built(appliance.made(), "three", true);
    appliance.reconcile();
    assert_eq!(appliance.state(), HostStatus::RebuildPending);
    // The build of a generation that isn't published says nothing of the one that is.
    appliance.edit("fourth");
    appliance.built(appliance.made(), "one", true);
    assert_eq!(appliance.state(), HostStatus::RebuildPending);
}

#[test]
fn a_log_of_a_client_of_2022_is_legacy() {
    let mut appliance = appliance();
    let (first, number) = appliance.publish("first");
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(b"building the system configuration...\n")
        .unwrap();
    let log = gzip.finish().unwrap();
    let system = "0123456789abcdfghijklmnpqrsvwxyz-nixos-system-kikimora-22.11";
    for (minute, outcome) in ["success", "failure", "rollback", "autoupdate"]
        .iter()
        .enumerate()
    {
        let name = format!("20220912-000{minute}_{system}_{outcome}.log.gz");
        appliance.put(number, &name, &log, SystemTime::now());
        assert_eq!(appliance.state(), HostStatus::Legacy, "{outcome}");
        let reported = appliance.status().reported.unwrap();
        assert_eq!(
            (reported.generation, reported.outcome.as_ref()),
            (None, *outcome)
        );
    }
    // Its clock doesn't matter either, and neither does the client that comes after it.
    let report = switched(first, "one");
    assert_eq!(appliance.state_after(number, &report), HostStatus::UpToDate);
}
