use std::fs;
use std::sync::mpsc;
use std::time::Duration;

use bento_protocol::{Outcome, Report};

use super::follow::follow;
use super::*;
use crate::fleet;
use crate::report::fixture::{failure, packed, report, second, system};
use crate::report::{Writers, take_in};
use crate::store::accounts::Accounts;
use crate::store::atomic_file;

/// A state with one machine.
struct Fixture {
    state: State,
    name: HostName,
    _folder: tempfile::TempDir,
}

impl Fixture {
    fn new(enrolled: i64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = State::new(folder.path());
        let name: HostName = "kikimora".parse().unwrap();
        let reading = fleet::read("[server]\naddress = \"x\"\n[hosts.kikimora]\n").unwrap();
        atomic_file::write_json(&state.fleet(), &reading.fleet).unwrap();
        let mut accounts = Accounts::beginning_after(0);
        accounts.enrol(&name, second(enrolled)).unwrap();
        accounts.write(&state).unwrap();
        fs::create_dir_all(state.host(&name).root()).unwrap();
        Fixture {
            state,
            name,
            _folder: folder,
        }
    }

    /// Takes in a file from an inbox.
    fn receive(&self, file: &str, content: &[u8], at: i64) {
        let logs = tempfile::tempdir().unwrap();
        fs::write(logs.path().join(file), content).unwrap();
        let host = self.state.host(&self.name);
        let refuse = &mut |name: &str, why: &str| panic!("{name}: {why}");
        take_in(
            logs.path(),
            &self.name,
            &host,
            Writers::None,
            second(at),
            refuse,
        )
        .unwrap();
    }

    fn report(&self, report: &Report, at: i64) {
        let file = format!("{}.1.report.gz", report.run);
        self.receive(&file, &packed(report), at);
    }

    fn reports(&self) -> MachineReports {
        MachineReports::open(&self.state, &self.name).unwrap()
    }
}

fn phases(named: &[(&str, f64)]) -> Vec<Phase> {
    let phases = named.iter().map(|(name, seconds)| Phase {
        name: (*name).to_owned(),
        seconds: *seconds,
    });
    phases.collect()
}

// Issue 10, line 28.
#[test]
fn a_renamed_machine_has_the_reports_of_the_name_that_it_used_last() {
    let mut fixture = Fixture::new(0);
    let table = "[server]\naddress = \"x\"\n[hosts.leshy]\nrenamed_from = \"kikimora\"\n";
    let fleet = fleet::read(table).unwrap().fleet.with_former_names();
    atomic_file::write_json(&fixture.state.fleet(), &fleet).unwrap();
    let leshy: HostName = "leshy".parse().unwrap();
    let mut accounts = Accounts::read(&fixture.state).unwrap();
    accounts.enrol(&leshy, second(0)).unwrap();
    accounts.write(&fixture.state).unwrap();
    fs::create_dir_all(fixture.state.host(&leshy).root()).unwrap();
    let newest = |state: &State| {
        let reports = MachineReports::open_in_use(state, &leshy).unwrap();
        reports.entries().next().map(|entry| entry.outcome)
    };
    assert_eq!(newest(&fixture.state), None);
    fixture.report(&failure('a', Outcome::BuildFailed, '0'), 2);
    assert_eq!(newest(&fixture.state), Some("build_failed"));
    fixture.name = leshy.clone();
    fixture.report(&report('b'), 3);
    assert_eq!(newest(&fixture.state), Some("switched"));
}

#[test]
fn a_report_is_a_line_with_phases_systems_and_error() {
    let fixture = Fixture::new(0);
    let mut switched = report('a');
    switched.system.before = Some(system("0123456789abcdfghijklmnpqrsvwxyz-nixos-1"));
    switched.phases = phases(&[("pull", 1.24), ("build", 3750.0)]);
    fixture.report(&switched, 5);
    let mut failed = failure('b', Outcome::BuildFailed, 'a');
    failed.auto = true;
    failed.error = Some("no\n\u{1b}[2Jluck".to_owned());
    fixture.report(&failed, 65);
    fixture.receive(
        "20220912-0003_system_success.log.gz",
        &packed(&switched),
        66,
    );
    let lines: String = fixture
        .reports()
        .entries()
        .map(|entry| rendering::brief(&entry, None))
        .collect();
    let expected = "   \
   3  2026-01-01 00:01:06Z  success            bento 2022 log of 2022-09-12T00:03:00
   2  2026-01-01 00:01:05Z  build-failed, auto  bbbbbbbb
      no \\u{1b}[2Jluck
   1  2026-01-01 00:00:05Z  switched           aaaaaaaa  1 h 02 min: pull 1.2 s, build 1 h 02 min
      01234567-nixos-1 → system-a
";
    assert_eq!(lines, expected);
}

#[test]
fn one_report_is_shown_in_full_with_control_characters_escaped() {
    let fixture = Fixture::new(0);
    let mut hostile = failure('a', Outcome::ActivationFailed, 'b');
    hostile.phases = phases(&[("\u{1b}c", 1e300)]);
    hostile.error = Some("one\ntwo\u{7}".to_owned());
    hostile.client = "\u{1b}c".to_owned();
    hostile.reboot_required = true;
    hostile.held = Some(second(100));
    hostile.log = "\u{1b}[31mred\u{1b}[0m\tand\u{1b}[2J\nmore".to_owned();
    fixture.report(&hostile, 1);
    let reports = fixture.reports();
    let entry = reports.find(&ReportSelector::Latest).unwrap();
    let text = rendering::whole(&entry, &reports.log(&entry).unwrap(), None);
    let run = hostile.run;
    let generation = "a".repeat(64);
    let expected = format!(
        "\
report          1
received        2026-01-01 00:00:01Z
run             {run}
outcome         activation-failed
generation      {generation}
started         2026-01-01 00:00:00Z, by its own clock
finished        2026-01-01 00:00:01Z, by its own clock
phases          \\u{{1b}}c     an impossible time
                all         an impossible time
system running  /nix/store/system-b
needs a reboot  yes
held until      2026-01-01 00:01:40Z
client          \\u{{1b}}c

one
two\\u{{7}}

red\tand\\u{{1b}}[2J
more
"
    );
    assert_eq!(text, expected);
}

#[test]
fn a_report_is_found_by_number_by_run_id_and_as_the_latest() {
    let fixture = Fixture::new(0);
    let sent = [report('a'), report('b')];
    fixture.report(&sent[0], 1);
    fixture.report(&sent[1], 2);
    let reports = fixture.reports();
    let find = |selector: &str| {
        let found = reports.find(&selector.parse().unwrap());
        found
            .map(|entry| entry.number)
            .map_err(|error| error.to_string())
    };
    assert_eq!(find("latest"), Ok(2));
    assert_eq!(find("1"), Ok(1));
    assert_eq!(find(&sent[0].run.to_string()), Ok(1));
    assert!(
        find("3")
            .unwrap_err()
            .contains("no report 3: run `bento logs kikimora`")
    );
    assert!(find("0f").unwrap_err().contains("no report 0f"));
    let shared = &sent[0].run.to_string()[..6];
    assert!(find(shared).unwrap_err().contains("several reports"));
    for bad in ["", "-1", "+1", "$(reboot)", "01 02", "LATEST", "-", "0;id"] {
        assert_eq!(bad.parse::<ReportSelector>(), Err(SelectorError), "{bad:?}");
    }
}

#[test]
fn reports_of_a_former_machine_of_the_name_are_not_shown() {
    let fixture = Fixture::new(10);
    fixture.report(&report('a'), 9);
    let none = fixture.reports().require_any().unwrap_err().to_string();
    assert!(none.contains("`bento status kikimora`"), "{none}");
    assert!(fixture.reports().find(&"1".parse().unwrap()).is_err());
    fixture.report(&report('b'), 10);
    let numbers: Vec<_> = fixture
        .reports()
        .entries()
        .map(|entry| entry.number)
        .collect();
    assert_eq!(numbers, [2]);
    let unknown = MachineReports::open(&fixture.state, &"leshy".parse().unwrap()).unwrap_err();
    assert!(
        unknown.to_string().contains("`bento host list`"),
        "{unknown}"
    );
}

#[test]
fn follow_shows_the_last_reports_and_each_new_one_once() {
    let fixture = Fixture::new(0);
    for number in 1..=3 {
        fixture.report(&report('a'), number);
    }
    let (shown, show) = mpsc::channel();
    let (wakes, end) = mpsc::channel();
    // Not joined if an assertion fails, because it wouldn't end.
    let (state, name) = (fixture.state.clone(), fixture.name.clone());
    let followed = std::thread::spawn(move || {
        let ends = |wake| wakes.send(wake).unwrap();
        follow(
            &state,
            &name,
            2,
            ends,
            |entry| Ok(shown.send(entry.number)?),
        )
    });
    let next = || show.recv_timeout(Duration::from_secs(30)).unwrap();
    assert_eq!([next(), next()], [2, 3]);
    for number in 4..=6 {
        fixture.report(&report('b'), number);
        assert_eq!(next(), u64::try_from(number).unwrap());
    }
    end.recv().unwrap().send(()).unwrap();
    followed.join().unwrap().unwrap();
    assert!(show.try_recv().is_err());
}

#[test]
fn follow_fails_when_the_machine_is_removed() {
    let fixture = Fixture::new(0);
    let (shown, show) = mpsc::channel();
    fixture.report(&report('a'), 1);
    let (state, name) = (fixture.state.clone(), fixture.name.clone());
    let followed = std::thread::spawn(move || {
        follow(
            &state,
            &name,
            1,
            drop,
            |entry| Ok(shown.send(entry.number)?),
        )
    });
    show.recv_timeout(Duration::from_secs(30)).unwrap();
    fs::remove_file(fixture.state.fleet()).unwrap();
    fs::remove_dir_all(fixture.state.host(&fixture.name).root()).unwrap();
    let error = followed.join().unwrap().unwrap_err();
    assert!(error.to_string().contains("no machine kikimora"), "{error}");
}
