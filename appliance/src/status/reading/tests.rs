use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::time::SystemTime;

use bento_protocol::{Outcome, Report};
use serde_json::{Value, json};

use super::*;
use crate::fleet::Fleet;
use crate::publication::published::Published;
use crate::report::fixture::{failure, generation, record, report, second, system};
use crate::report::{Content, Record};
use crate::status::HostStatus;
use crate::store::paths::HostState;

const FLEET: &str = r#"
[server]
address = "bento.example.org"
[defaults]
keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJoSYHl9Ce83HLUrMBPH3qq3USOEYtxY42IjwTAYFhyN"]
[hosts.kikimora]
[hosts.domovoi]
keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMFHVLXNFhgJyHUu3o1uMVrHwuWFWvC/4mHL5cUxL7XK"]
paused = true
silent_after = "1h"
"#;

/// The state of an appliance, with the fleet above.
struct Appliance {
    state: State,
    runtime: Runtime,
    _folder: tempfile::TempDir,
}

impl Appliance {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = State::new(folder.path().join("state"));
        let runtime = Runtime::new(folder.path().join("run"));
        fs::create_dir(state.root()).unwrap();
        fs::create_dir(runtime.root()).unwrap();
        let reading = crate::fleet::read(FLEET).unwrap();
        assert_eq!((reading.problems, reading.faulty), (Vec::new(), Vec::new()));
        atomic_file::write_json(&state.fleet(), &reading.fleet).unwrap();
        let appliance = Appliance {
            state,
            runtime,
            _folder: folder,
        };
        appliance.set_problems(&[]);
        appliance
    }

    fn set_problems(&self, problems: &[Problem]) {
        atomic_file::write_json(&self.runtime.problems(), &problems).unwrap();
    }

    fn host(&self, name: &str) -> HostState {
        self.state.host(&name.parse().unwrap())
    }

    fn publish(&self, name: &str, published: &Published) {
        let host = self.host(name);
        let chroot = host.publications().join("1/chroot");
        fs::create_dir_all(&chroot).unwrap();
        symlink(chroot, host.current()).unwrap();
        fs::write(host.published(), serde_json::to_vec(published).unwrap()).unwrap();
    }

    /// The summary of a machine that reported these.
    fn report(&self, name: &str, reports: &[Report]) {
        let mut summary = Summary::default();
        for report in reports {
            summary.add(&record(summary.next, report.clone()));
        }
        fs::create_dir_all(self.host(name).root()).unwrap();
        atomic_file::write_json(&self.host(name).summary(), &summary).unwrap();
    }

    fn contact(&self, name: &str, time: Timestamp) {
        fs::create_dir_all(self.host(name).root()).unwrap();
        File::create(self.host(name).seen())
            .unwrap()
            .set_modified(SystemTime::from(time))
            .unwrap();
    }

    fn read(&self, now: Timestamp) -> Status {
        Status::read(&self.state, &self.runtime, now).unwrap()
    }

    fn machine(&self, name: &str, now: Timestamp) -> MachineStatus {
        self.read(now)
            .hosts
            .into_iter()
            .find(|host| host.name.as_str() == name)
            .unwrap()
    }
}

fn published(digit: char) -> Published {
    Published::new(generation(digit), second(5))
}

fn problem(place: &str) -> Problem {
    Problem::new(place, "leads out of the fleet", "use a link that doesn't")
        .of(&"kikimora".parse().unwrap())
}

#[test]
fn the_document_is_that_of_the_contract() {
    let appliance = Appliance::new();
    appliance.publish(
        "kikimora",
        &Published {
            expected_system: Some(system("system-a")),
            ..published('a')
        },
    );
    let fraction = Timestamp::new(second(9).as_second(), 123_456_789).unwrap();
    appliance.report(
        "kikimora",
        &[failure('a', Outcome::BuildFailed, '0'), report('a')],
    );
    appliance.contact("kikimora", fraction);
    let status = serde_json::to_value(appliance.read(second(10))).unwrap();
    let (id, path) = ("a".repeat(64), "/nix/store/system-a");
    let expected = json!({
        "format": 1,
        "at": "2026-01-01T00:00:10Z",
        "problems": [],
        "hosts": [{
            "name": "domovoi", "state": "unpublished", "published": null, "reported": null, "expected_system": null,
            "seen": null, "silent": null, "paused": true, "held": null, "runs": 0, "error": null, "problems": [],
            "notes": [], "version": null,
        }, {
            "name": "kikimora",
            "state": "up-to-date",
            "published": {"generation": id, "at": "2026-01-01T00:00:05Z"},
            "reported": {
                "generation": id, "outcome": "switched", "auto": false, "at": "2026-01-01T00:00:02Z",
                "built": path, "running": path, "specialisation": null,
            },
            "expected_system": path,
            "seen": "2026-01-01T00:00:09Z",
            "silent": false,
            "paused": false,
            "held": null,
            "runs": 2,
            "error": null,
            "problems": [],
            "notes": [],
            "version": "aaaaaaaa",
        }],
        "removed": [],
    });
    assert_eq!(status, expected);
    let again: Status = serde_json::from_value(status).unwrap();
    assert_eq!(serde_json::to_value(again).unwrap(), expected);
}

#[test]
fn values_that_an_older_appliance_lacks_are_unknown() {
    let older = json!({"format": 1, "at": "2026-01-01T00:00:10Z", "hosts": [
        {"name": "domovoi", "state": "new", "paused": false, "runs": 0},
    ]});
    let status: Status = serde_json::from_value(older).unwrap();
    assert_eq!(
        (status.problems, status.hosts[0].version.as_ref()),
        (None, None)
    );
}

#[test]
fn the_running_version_is_the_generation_that_it_was_built_from() {
    let version = |reports: &[Report]| {
        let appliance = Appliance::new();
        appliance.report("kikimora", reports);
        appliance.machine("kikimora", second(10)).version
    };
    let short = |digit: &str| Some(digit.repeat(8));
    assert_eq!(version(&[report('a')]), short("a"));
    assert_eq!(
        version(&[report('a'), failure('b', Outcome::RolledBack, 'a')]),
        short("a")
    );
    assert_eq!(
        version(&[report('a'), failure('b', Outcome::ActivationFailed, 'x')]),
        None
    );
    assert_eq!(version(&[]), None);
}

#[test]
fn a_bento_2022_log_is_shown_in_its_own_words() {
    let appliance = Appliance::new();
    appliance.publish("kikimora", &published('a'));
    let log = "20220912-0000_0c5mc9c6lbpjbs6xk8wqm1mxwrfbwyzz-nixos_rollback.log.gz"
        .parse()
        .unwrap();
    let mut summary = Summary::default();
    summary.add(&Record {
        sequence: 1,
        received: second(1),
        content: Content::Legacy(log),
    });
    atomic_file::write_json(&appliance.host("kikimora").summary(), &summary).unwrap();
    let machine = appliance.machine("kikimora", second(10));
    assert_eq!(machine.state, HostStatus::Legacy);
    assert_eq!(machine.version.as_deref(), Some("0c5mc9c6"));
    assert_eq!(
        machine.error.as_deref(),
        Some("rollback: the report doesn't say why, its log may")
    );
    let reported = machine.reported.unwrap();
    assert_eq!(
        (reported.generation, &*reported.outcome, reported.built),
        (None, "rollback", None)
    );
}

#[test]
fn the_error_is_a_problem_of_the_publication_or_else_of_a_run() {
    let appliance = Appliance::new();
    appliance.publish("kikimora", &published('b'));
    let lines = Report {
        error: Some("error:\n  \u{1b}[31mno luck".into()),
        ..failure('b', Outcome::BuildFailed, 'a')
    };
    appliance.report("kikimora", &[report('a'), lines.clone()]);
    let machine = appliance.machine("kikimora", second(10));
    assert_eq!(machine.error.as_deref(), Some(r"error: \u{1b}[31mno luck"));
    assert!(machine.problems.is_empty());

    appliance.set_problems(&[problem("x"), problem("y\u{7}")]);
    let machine = appliance.machine("kikimora", second(10));
    let line = |place| format!("{place}: leads out of the fleet: use a link that doesn't");
    assert_eq!(machine.problems, [line("x"), line(r"y\u{7}")]);
    assert_eq!(machine.error.unwrap(), machine.problems.join("; "));
    assert_eq!(machine.state, HostStatus::Failing);

    appliance.set_problems(&[]);
    appliance.report("kikimora", &[lines, report('b')]);
    assert_eq!(
        appliance.machine("kikimora", second(10)).error,
        None,
        "mended"
    );
}

#[test]
fn problems_of_the_fleet_come_first() {
    let appliance = Appliance::new();
    let fault = Problem::new("fleet.toml:3", "unknown key \u{1b}", "remove it");
    let stranger = Problem::new("fleet.toml:9", "no key", "add one").of(&"leshy".parse().unwrap());
    appliance.set_problems(&[fault, problem("x"), stranger]);
    let problems = appliance.read(second(0)).problems;
    let expected = [
        r"fleet.toml:3: unknown key \u{1b}: remove it",
        "fleet.toml:9: leshy: no key: add one",
    ];
    assert_eq!(problems.unwrap(), expected);
    assert!(appliance.machine("domovoi", second(0)).problems.is_empty());
}

#[test]
fn without_an_appliance_the_problems_are_unknown() {
    let appliance = Appliance::new();
    assert_eq!(appliance.read(second(0)).problems, Some(Vec::new()));
    fs::remove_file(appliance.runtime.problems()).unwrap();
    assert_eq!(appliance.read(second(0)).problems, None);
    fs::write(appliance.runtime.problems(), "{").unwrap();
    let problems = appliance.read(second(0)).problems.unwrap();
    assert!(problems[0].contains("problems.json"), "{problems:?}");
}

#[test]
fn a_machine_is_silent_after_its_time() {
    let appliance = Appliance::new();
    let silent = |after| appliance.machine("domovoi", second(after)).silent;
    assert_eq!(silent(0), None, "never seen");
    appliance.contact("domovoi", second(0));
    assert_eq!(silent(3600), Some(false));
    assert_eq!(silent(3601), Some(true));
    assert_eq!(silent(-3601), Some(false), "the clock was set back");
}

#[test]
fn a_hold_that_is_over_is_no_hold() {
    let appliance = Appliance::new();
    appliance.report(
        "kikimora",
        &[Report {
            held: Some(second(100)),
            ..report('a')
        }],
    );
    assert_eq!(
        appliance.machine("kikimora", second(99)).held,
        Some(second(100))
    );
    assert_eq!(appliance.machine("kikimora", second(100)).held, None);
}

#[test]
fn a_name_that_is_enrolled_again_begins_anew() {
    let appliance = Appliance::new();
    appliance.publish("kikimora", &published('a'));
    appliance.report("kikimora", &[failure('a', Outcome::BuildFailed, '0')]);
    appliance.contact("kikimora", second(1));
    assert_eq!(
        appliance.machine("kikimora", second(10)).state,
        HostStatus::Failing
    );
    let mut accounts = Accounts::beginning_after(0);
    accounts.enrol(&"kikimora".parse().unwrap(), second(2));
    accounts.write(&appliance.state).unwrap();
    let machine = appliance.machine("kikimora", second(10));
    assert_eq!((machine.state, machine.runs), (HostStatus::New, 0));
    assert_eq!(
        (
            machine.error,
            machine.reported,
            machine.version,
            machine.seen
        ),
        (None, None, None, None)
    );
}

// Issue 10, line 13.
#[test]
fn removed_machines_are_listed_with_the_time() {
    let appliance = Appliance::new();
    let mut accounts = Accounts::beginning_after(0);
    let name: HostName = "leshy".parse().unwrap();
    accounts.enrol(&name, second(2));
    accounts.remove(&name, second(5));
    accounts.write(&appliance.state).unwrap();
    let removed = |names: &[HostName]| {
        let mut status = appliance.read(second(10));
        status.retain(names).unwrap();
        let removed = status.removed.into_iter();
        removed
            .map(|machine| (machine.name, machine.at))
            .collect::<Vec<_>>()
    };
    assert_eq!(removed(&[]), [(name.clone(), second(5))]);
    assert_eq!(removed(&["kikimora".parse().unwrap()]), []);

    // A machine of the fleet has its key: it was renamed, and isn't gone.
    let (hosts, _) = read_fleet(&appliance.state).unwrap();
    let (_, kikimora) = hosts.last_key_value().unwrap();
    accounts.enrol(&name, second(6));
    accounts.set_keys(&name, &kikimora.keys);
    accounts.remove(&name, second(7));
    accounts.write(&appliance.state).unwrap();
    assert_eq!(removed(&[]), []);
}

#[test]
fn a_damaged_file_of_one_machine_is_its_own_error() {
    let appliance = Appliance::new();
    appliance.publish("domovoi", &published('a'));
    appliance.report("domovoi", &[report('a')]);
    appliance.publish("kikimora", &published('a'));
    fs::write(appliance.host("kikimora").published(), "{").unwrap();
    appliance.set_problems(&[problem("x")]);
    let machine = appliance.machine("kikimora", second(10));
    assert_eq!(machine.state, HostStatus::Unpublished);
    assert_eq!(machine.problems.len(), 2);
    assert!(
        machine
            .error
            .unwrap()
            .contains("published.json can't be read")
    );
    assert_eq!(
        appliance.machine("domovoi", second(10)).state,
        HostStatus::UpToDate
    );
}

#[test]
fn reports_are_not_opened_while_there_is_a_summary() {
    let appliance = Appliance::new();
    appliance.publish("kikimora", &published('a'));
    appliance.report("kikimora", &[report('a')]);
    // Listing this as a folder would fail with an error.
    fs::write(appliance.host("kikimora").reports(), "").unwrap();
    let machine = appliance.machine("kikimora", second(10));
    assert_eq!((machine.state, machine.error), (HostStatus::UpToDate, None));
    fs::remove_file(appliance.host("kikimora").summary()).unwrap();
    assert!(
        appliance
            .machine("kikimora", second(10))
            .error
            .unwrap()
            .contains("summary.json can't be read")
    );
}

#[test]
fn machines_can_be_selected() {
    let appliance = Appliance::new();
    let names = |status: &Status| {
        status
            .hosts
            .iter()
            .map(|host| host.name.to_string())
            .collect::<Vec<_>>()
    };
    let mut status = appliance.read(second(0));
    status.retain(&[]).unwrap();
    assert_eq!(names(&status), ["domovoi", "kikimora"]);
    status.retain(&["kikimora".parse().unwrap()]).unwrap();
    assert_eq!(names(&status), ["kikimora"]);
    let error = status.retain(&["leshy".parse().unwrap()]).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("there is no machine leshy in the fleet"),
        "{error}"
    );
}

#[test]
fn no_state_is_an_error_and_no_fleet_is_none() {
    let appliance = Appliance::new();
    let missing = State::new(appliance.state.root().join("missing"));
    assert!(
        Status::read(&missing, &appliance.runtime, second(0))
            .unwrap_err()
            .to_string()
            .contains("--state")
    );
    fs::remove_file(appliance.state.fleet()).unwrap();
    assert!(appliance.read(second(0)).hosts.is_empty());
    assert_eq!(
        serde_json::to_value(appliance.read(second(0))).unwrap()["hosts"],
        Value::Array(Vec::new())
    );
}

#[test]
fn a_thousand_machines_are_all_read_and_stay_in_order() {
    let appliance = Appliance::new();
    let mut fleet: Fleet = atomic_file::read_json(&appliance.state.fleet())
        .unwrap()
        .unwrap();
    let host = fleet.hosts.values().next().unwrap().clone();
    for number in 0..1000 {
        fleet
            .hosts
            .insert(format!("m{number}").parse().unwrap(), host.clone());
    }
    atomic_file::write_json(&appliance.state.fleet(), &fleet).unwrap();
    appliance.publish("m500", &published('a'));
    let status = appliance.read(second(10));
    let names = |host: &MachineStatus| host.name.clone();
    assert!(status.hosts.iter().map(names).eq(fleet.hosts.into_keys()));
    let published = |host: &&MachineStatus| host.published.is_some();
    let published: Vec<_> = status.hosts.iter().filter(published).map(names).collect();
    assert_eq!(published, ["m500".parse().unwrap()]);
}

#[test]
fn time_alone_makes_a_machine_silent_and_ends_a_hold() {
    let appliance = Appliance::new();
    appliance.contact("domovoi", second(0));
    let held = Report {
        held: Some(second(100)),
        ..report('a')
    };
    appliance.report("kikimora", &[held]);
    let reading = StatusReading::of(&appliance.state, &appliance.runtime).unwrap();
    let at = |seconds| {
        let status = reading.status(second(seconds));
        (status.hosts[0].silent, status.hosts[1].held.is_some())
    };
    assert_eq!(at(99), (Some(false), true));
    assert_eq!(at(3601), (Some(true), false));
}

// Issue 10, line 29.
#[test]
fn two_machines_with_one_key_are_an_error_and_hide_no_failure() {
    let appliance = Appliance::new();
    appliance.publish("kikimora", &Published::new(generation('a'), second(0)));
    let from = |machine: &str, report: Report| Report {
        machine: Some(bento_protocol::Digest::of(machine)),
        ..report
    };
    let (first, copy) = (from("first", report('a')), from("copy", report('a')));
    let status_after = |reports: &[Report]| {
        appliance.report("kikimora", reports);
        let status = Status::read(&appliance.state, &appliance.runtime, second(60)).unwrap();
        let name = "kikimora".parse().unwrap();
        let host = status.hosts.into_iter().find(|host| host.name == name);
        host.unwrap()
    };
    let anew = status_after(&[first.clone(), copy.clone()]);
    assert_eq!(
        (anew.error.as_deref(), anew.state),
        (None, HostStatus::UpToDate)
    );
    let twins = status_after(&[first.clone(), copy.clone(), first.clone()]);
    let error = twins.error.as_deref().unwrap();
    assert!(
        error.contains("another machine reports with its key"),
        "{error}"
    );
    assert!(error.contains("bento host add"), "{error}");
    assert!(!error.contains("  "), "{error}");
    assert!(twins.needs_attention() && twins.state == HostStatus::UpToDate && twins.runs == 3);
    let failed = from("copy", failure('a', Outcome::BuildFailed, 'a'));
    let failing = status_after(&[first, copy, failed.clone(), failed]);
    assert_eq!(failing.state, HostStatus::Failing);
    let failing = failing.error.unwrap();
    assert!(failing.ends_with("no luck"), "{failing}");
}

// Issue 10, line 32.
#[test]
fn a_failed_pull_is_failing_with_its_error() {
    let appliance = Appliance::new();
    appliance.publish("kikimora", &Published::new(generation('b'), second(0)));
    let status_after = |error: Option<&str>| {
        let failed = Report {
            error: error.map(str::to_owned),
            ..failure('b', Outcome::PullFailed, 'a')
        };
        appliance.report("kikimora", &[report('a'), failed]);
        let status = Status::read(&appliance.state, &appliance.runtime, second(60)).unwrap();
        let host = status
            .hosts
            .into_iter()
            .find(|host| host.reported.is_some());
        host.unwrap()
    };
    let failing = status_after(Some("the pull was cut"));
    assert_eq!(failing.state, HostStatus::Failing);
    assert_eq!(failing.error.as_deref(), Some("the pull was cut"));
    assert_eq!(failing.reported.as_ref().unwrap().outcome, "pull_failed");
    assert!(failing.needs_attention());
    let silent = status_after(None);
    assert!(
        silent
            .error
            .unwrap()
            .starts_with("pull-failed: the report doesn't say")
    );
}
