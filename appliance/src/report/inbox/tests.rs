use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use bento_protocol::{Outcome, Report, ReportName, RunId, limits};
use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;
use crate::report::fixture::{Machine, packed, report, second};

impl Machine {
    fn pass(&self, writers: Writers, limits: RetentionLimits) -> Intake {
        take_in_within(
            &self.logs,
            &self.name,
            &self.keep,
            writers,
            second(0),
            &mut |_, _| (),
            limits,
        )
        .unwrap()
    }

    /// Makes passes until the inbox is empty: a busy machine needs several.
    fn take_in(&self, writers: Writers) -> Intake {
        self.take_in_within(writers, RetentionLimits::default())
    }

    fn take_in_within(&self, writers: Writers, limits: RetentionLimits) -> Intake {
        let mut sum = self.pass(writers, limits);
        while sum.more {
            let pass = self.pass(writers, limits);
            sum.taken.extend(pass.taken);
            sum.refused += pass.refused;
            sum.removed += pass.removed;
            sum.more = pass.more;
        }
        sum
    }

    fn inbox(&self) -> Vec<PathBuf> {
        fs::read_dir(&self.logs)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect()
    }

    fn summary(&self) -> Summary {
        Summary::read(&self.keep).unwrap()
    }

    fn store(&self) -> Store {
        Store::read(&self.keep, RetentionLimits::default()).unwrap()
    }

    fn name(&self) -> String {
        ReportName {
            run: RunId::now(),
            attempt: 1,
        }
        .to_string()
    }

    /// The entry is refused: removed and counted, and no report.
    fn assert_refused(&self, writers: Writers, what: &str) {
        let before = self.summary().refused;
        let intake = self.take_in(writers);
        assert_eq!(intake.refused, 1, "{what}");
        assert!(intake.taken.is_empty(), "{what}");
        assert!(self.inbox().is_empty(), "{what}");
        assert_eq!(self.summary().refused, before + 1, "{what}");
        assert!(self.store().is_empty(), "{what}");
    }
}

fn json(report: &Report) -> serde_json::Value {
    serde_json::to_value(report).unwrap()
}

fn gzipped(json: &serde_json::Value) -> Vec<u8> {
    gzip::compress(&serde_json::to_vec(json).unwrap())
}

#[test]
fn a_report_is_kept_with_its_log_and_leaves_the_inbox() {
    let machine = Machine::new();
    let sent = report('a');
    machine.deliver(&sent, 1);
    let intake = machine.take_in(Writers::Open);
    assert!(machine.inbox().is_empty());

    let kept: Vec<Record> = machine.store().records().collect();
    assert_eq!(kept, intake.taken);
    let without_log = Report {
        log: String::new(),
        ..sent.clone()
    };
    assert_eq!(kept[0].content, Content::Report(Box::new(without_log)));
    assert_eq!((kept[0].sequence, kept[0].received), (1, second(0)));
    assert_eq!(
        machine.store().log(1).unwrap().unwrap(),
        sent.log.as_bytes()
    );
    assert_eq!(machine.summary().newest.unwrap(), kept[0].brief());
}

#[test]
fn reports_get_their_numbers_in_the_order_in_which_they_came() {
    let machine = Machine::new();
    // The ids are made in another order: the machine's clock went back.
    let mut reports: Vec<Report> = ('0'..='9').map(report).collect();
    reports.reverse();
    for (index, report) in (0..).zip(&reports) {
        let path = machine.deliver(report, 1);
        let came =
            std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000 + index);
        File::open(path).unwrap().set_modified(came).unwrap();
    }
    let taken = machine.take_in(Writers::None).taken;
    assert!(taken.iter().map(|record| record.sequence).eq(1..=10));
    assert!(
        taken
            .iter()
            .map(|record| record.generation().unwrap())
            .eq(reports.iter().map(|report| report.generation))
    );
}

#[test]
fn the_first_complete_attempt_of_a_run_counts() {
    let machine = Machine::new();
    let first = report('a');
    let again = Report {
        outcome: Outcome::BuildFailed,
        ..first.clone()
    };
    machine.deliver(&first, 2);
    machine.take_in(Writers::None);
    machine.deliver(&again, 3);
    machine.put(
        ReportName {
            run: first.run,
            attempt: 1,
        }
        .to_string(),
        "half",
    );
    let intake = machine.take_in(Writers::None);
    assert!(intake.taken.is_empty() && intake.refused == 0 && machine.inbox().is_empty());
    assert_eq!(machine.summary().runs(), 1);
    assert_eq!(
        machine.summary().newest.unwrap().outcome(),
        Some(Outcome::Switched)
    );
}

#[test]
fn two_attempts_in_one_pass_are_one_run() {
    let machine = Machine::new();
    let sent = report('a');
    machine.deliver(&sent, 1);
    machine.deliver(&sent, 2);
    assert_eq!(machine.take_in(Writers::None).taken.len(), 1);
    assert!(machine.inbox().is_empty());
}

#[test]
fn half_a_report_waits_as_long_as_a_session_is_open() {
    let machine = Machine::new();
    let sent = report('a');
    let whole = packed(&sent);
    let name = machine.name();
    for length in [0, 5, whole.len() / 2, whole.len() - 1] {
        machine.put(&name, &whole[..length]);
        let intake = machine.take_in(Writers::Open);
        assert!(
            intake.taken.is_empty() && intake.refused == 0 && !intake.more,
            "{length}"
        );
        assert_eq!(machine.inbox().len(), 1, "{length}");
    }
    machine.assert_refused(Writers::None, "half a report");
}

#[test]
fn a_report_that_is_still_open_is_copied_not_moved() {
    let machine = Machine::new();
    let path = machine.deliver(&report('a'), 1);
    let mut held = fs::OpenOptions::new().append(true).open(path).unwrap();
    machine.take_in(Writers::Open);
    let kept = || {
        let mut files: Vec<PathBuf> = fs::read_dir(machine.keep.reports())
            .unwrap()
            .map(|file| file.unwrap().path())
            .collect();
        files.sort();
        files
            .iter()
            .map(|file| fs::read(file).unwrap())
            .collect::<Vec<_>>()
    };
    let before = kept();
    held.write_all(b"more").unwrap();
    assert_eq!(kept(), before);
}

#[test]
fn entries_that_are_not_reports_are_refused() {
    let machine = Machine::new();
    let good = report('a');
    let mut other_format = json(&good);
    other_format["format"] = 2.into();
    let mut bad_outcome = json(&good);
    bad_outcome["outcome"] = "\u{1b}]0;owned\u{7}".into();
    let mut long_log = json(&good);
    long_log["log"] = "x".repeat(limits::LOG_BYTES + 1).into();
    let mut trailing = packed(&good);
    trailing.push(0);
    // Whole and good but for its size: stored, not compressed, with blanks after the document.
    let mut blanks = serde_json::to_vec(&good).unwrap();
    blanks.resize(usize::try_from(limits::REPORT_BYTES).unwrap() + 1, b' ');
    let mut stored = GzEncoder::new(Vec::new(), Compression::none());
    stored.write_all(&blanks).unwrap();
    let too_large = stored.finish().unwrap();
    let cases: [(&str, Vec<u8>); 10] = [
        ("plain text", b"this is a log as plain text".to_vec()),
        ("not JSON", gzip::compress(b"\xff\xfe")),
        ("another document", gzip::compress(b"{}")),
        ("another format", gzipped(&other_format)),
        ("an unknown outcome", gzipped(&bad_outcome)),
        ("a log beyond its bound", gzipped(&long_log)),
        ("more after the end", trailing),
        ("too large", too_large),
        ("a bomb", gzip::compress(&vec![b' '; 256 << 20])),
        (
            "deeply nested",
            gzip::compress("[".repeat(1 << 20).as_bytes()),
        ),
    ];
    for (what, content) in cases {
        let name = ReportName {
            run: good.run,
            attempt: 1,
        }
        .to_string();
        machine.put(&name, content);
        machine.assert_refused(Writers::Open, what);
    }
    machine.put(machine.name(), packed(&good));
    machine.assert_refused(Writers::Open, "the report of another run");
}

#[test]
fn only_files_with_the_right_names_are_opened() {
    let machine = Machine::new();
    let sent = report('a');
    let good = packed(&sent);
    let name = ReportName {
        run: sent.run,
        attempt: 1,
    }
    .to_string();

    symlink("/etc/passwd", machine.logs.join(&name)).unwrap();
    machine.assert_refused(Writers::Open, "a symlink");
    let elsewhere = machine.keep.root().join("elsewhere");
    fs::write(&elsewhere, &good).unwrap();
    symlink(&elsewhere, machine.logs.join(&name)).unwrap();
    machine.assert_refused(Writers::Open, "a symlink to a good report");
    assert!(elsewhere.exists());
    mknodat(CWD, machine.logs.join(&name), FileType::Fifo, Mode::RWXU, 0).unwrap();
    machine.assert_refused(Writers::Open, "a FIFO that nobody writes");
    fs::create_dir(machine.logs.join(&name)).unwrap();
    machine.assert_refused(Writers::Open, "a folder");
    fs::create_dir(machine.logs.join(&name)).unwrap();
    symlink(machine.keep.root(), machine.logs.join(&name).join("out")).unwrap();
    machine.assert_refused(Writers::Open, "a folder with something in it");
    assert!(elsewhere.exists());

    let run = RunId::now();
    for name in [
        format!("{run}.1.report.gz\n").into_bytes(),
        b"a\nb".to_vec(),
        b"\x1b[2J\x1b[31m.report.gz".to_vec(),
        vec![b'n'; 255],
        vec![0xff, 0xfe],
        b".hidden".to_vec(),
        format!("{run}.0.report.gz").into_bytes(),
        b"20261312-0000_x_success.log.gz".to_vec(),
    ] {
        machine.put(
            PathBuf::from(std::ffi::OsString::from_vec(name.clone())),
            &good,
        );
        machine.assert_refused(Writers::Open, &name.escape_ascii().to_string());
    }
}

#[test]
fn a_refused_entry_is_escaped_for_a_log() {
    let machine = Machine::new();
    machine.put(PathBuf::from("\u{1b}[2J\n\u{202e}"), "");
    let mut bad = json(&report('a'));
    bad["outcome"] = "\u{1b}]0;\n\u{202e}\u{85}".into();
    machine.put(machine.name(), gzipped(&bad));
    let mut lines = Vec::new();
    let mut refuse = |entry: &str, reason: &str| lines.push(format!("{entry}: {reason}"));
    let writers = Writers::Open;
    while take_in(
        &machine.logs,
        &machine.name,
        &machine.keep,
        writers,
        second(0),
        &mut refuse,
    )
    .unwrap()
    .more
    {}
    assert_eq!(lines.len(), 2);
    let shown = |character: char| character == ' ' || character.is_ascii_graphic();
    assert!(
        lines.iter().all(|line| line.chars().all(shown)),
        "{lines:?}"
    );
}

#[test]
fn entries_are_counted_up_to_the_limit() {
    let machine = Machine::new();
    assert_eq!(count(&machine.logs, 10), 0);
    for number in 0..20 {
        machine.put(number.to_string(), "");
    }
    assert_eq!(
        [5, 20, 100].map(|most| count(&machine.logs, most)),
        [5, 20, 20]
    );
    assert_eq!(count(&machine.keep.root().join("missing"), 10), 0);
}

#[test]
fn an_inbox_that_is_a_symlink_is_not_followed() {
    let machine = Machine::new();
    machine.deliver(&report('a'), 1);
    let link = machine.keep.root().join("link");
    symlink(&machine.logs, &link).unwrap();
    assert!(
        take_in(
            &link,
            &machine.name,
            &machine.keep,
            Writers::None,
            second(0),
            &mut |_, _| ()
        )
        .is_err()
    );
    assert_eq!(machine.inbox().len(), 1);
}

#[test]
fn thousands_of_entries_are_taken_in_by_bounded_passes() {
    let machine = Machine::new();
    for number in 0..5000 {
        machine.put(format!("{number}.rubbish"), "");
    }
    let sent = report('a');
    machine.deliver(&sent, 1);
    let mut passes = Vec::new();
    loop {
        passes.push(machine.pass(Writers::Open, RetentionLimits::default()));
        if !passes[passes.len() - 1].more {
            break;
        }
    }
    assert!(
        passes
            .iter()
            .all(|pass| pass.taken.len() as u64 + pass.refused <= MAX_ENTRIES as u64)
    );
    assert_eq!(passes.iter().map(|pass| pass.refused).sum::<u64>(), 5000);
    assert_eq!(passes.iter().flat_map(|pass| &pass.taken).count(), 1);
    assert_eq!(passes.iter().map(|pass| pass.removed).sum::<usize>(), 5001);
    assert!(machine.inbox().is_empty());
}

#[test]
fn the_limits_are_kept_and_removed_reports_are_counted() {
    let machine = Machine::new();
    let limits = RetentionLimits {
        reports: 5,
        bytes: 1 << 20,
    };
    for _ in 0..12 {
        machine.deliver(&report('a'), 1);
        machine.take_in_within(Writers::None, limits);
    }
    let summary = machine.summary();
    assert_eq!((summary.runs(), summary.kept, summary.dropped), (12, 5, 7));
    assert!(
        machine
            .store()
            .records()
            .map(|record| record.sequence)
            .eq(8..=12)
    );

    // One with a log that doesn't compress takes the place of all that aren't needed.
    let noise: Vec<u8> = (0..30_000_u64)
        .flat_map(|number| {
            bento_protocol::Digest::of(number.to_le_bytes())
                .to_string()
                .into_bytes()
        })
        .collect();
    let log = String::from_utf8(noise[..limits::LOG_BYTES].to_vec()).unwrap();
    machine.deliver(&Report { log, ..report('a') }, 1);
    let little = RetentionLimits {
        reports: 5,
        bytes: 100_000,
    };
    machine.take_in_within(Writers::None, little);
    assert!(
        machine
            .store()
            .records()
            .map(|record| record.sequence)
            .eq([13])
    );
    assert_eq!(machine.summary().dropped, 12);
}

#[test]
fn a_crash_before_the_inbox_was_emptied_makes_no_second_report() {
    let machine = Machine::new();
    let sent = report('a');
    machine.deliver(&sent, 1);
    let log = packed(&sent);
    machine.put("20260101-0000_system_success.log.gz", &log);
    let taken = machine.take_in(Writers::None).taken;
    // As it was left: reports kept, summary not yet written, inbox not yet emptied.
    fs::remove_file(machine.keep.summary()).unwrap();
    machine.deliver(&sent, 1);
    machine.put("20260101-0000_system_success.log.gz", &log);
    let intake = machine.take_in(Writers::None);
    assert!(intake.taken.is_empty() && machine.inbox().is_empty());
    assert_eq!(machine.store().records().collect::<Vec<_>>(), taken);
    assert_eq!(machine.summary().runs(), 2);
}

#[test]
fn nothing_leaves_the_inbox_while_nothing_can_be_kept() {
    let machine = Machine::new();
    machine.deliver(&report('a'), 1);
    // The summary can't be written where a folder is in the way.
    fs::create_dir_all(machine.keep.summary().with_added_extension("new")).unwrap();
    assert!(
        take_in(
            &machine.logs,
            &machine.name,
            &machine.keep,
            Writers::None,
            second(0),
            &mut |_, _| ()
        )
        .is_err()
    );
    assert_eq!(machine.inbox().len(), 1);
    fs::remove_dir(machine.keep.summary().with_added_extension("new")).unwrap();
    machine.take_in(Writers::None);
    assert!(machine.inbox().is_empty());
    assert_eq!(machine.summary().runs(), 1);
}

#[test]
fn a_bento_2022_log_is_kept_unchanged() {
    let machine = Machine::new();
    let name =
        "20260102-0304_0c5mc9c6lbpjbs6xk8wqm1mxwrfbwyzz-nixos-system-kikimora_failure.log.gz";
    machine.put(name, gzip::compress(b"error: \x1b[31mno\xff"));
    let taken = machine.take_in(Writers::None).taken;
    assert_eq!(taken[0].content, Content::Legacy(name.parse().unwrap()));
    assert_eq!(
        machine.store().log(1).unwrap().unwrap(),
        b"error: \x1b[31mno\xff"
    );

    // Two runs in one minute: the same name, another log.
    machine.put(name, gzip::compress(b"again"));
    assert_eq!(machine.take_in(Writers::None).taken.len(), 1);
    let half = &gzip::compress(b"again")[..10];
    machine.put(name, half);
    assert_eq!(machine.take_in(Writers::Open).refused, 0);
    assert_eq!(machine.take_in(Writers::None).refused, 1);
}
