//! A file in a machine's inbox, up to the administrator's table: it is a report and stored completely, or refused;
//! either way the inbox is empty afterwards, and only printable text is shown.

#![no_main]

use std::fs;
use std::sync::LazyLock;

use bento_appliance::fleet;
use bento_appliance::report::{Content, Record, RetentionLimits, Store, Summary, Writers, take_in};
use bento_appliance::status::{Status, table};
use bento_appliance::store::atomic_file;
use bento_appliance::store::paths::{HostState, Runtime, State};
use bento_appliance::text::terminal::Terminal;
use bento_fuzz::{place, recipe, shown};
use bento_protocol::{HostName, Report, ReportName, limits};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tempfile::TempDir;

/// The first byte of an input: the rest is gzip, not JSON to compress.
const IS_GZIP: u8 = 1;
/// The machine is still connected.
const IS_OPEN: u8 = 2;

const FLEET: &str = "[server]\naddress = \"bento.example.org\"\n[hosts.kikimora]\n";
/// The run in the name if the content has none.
const RUN: &str = "01920000-0000-7000-8000-000000000000";
/// The most bytes of one report in the summary.
const BRIEF_BYTES: usize = 8 << 10;

struct ReportEnv {
    _folder: TempDir,
    state: State,
    runtime: Runtime,
    keep: HostState,
    host: HostName,
}

static ENV: LazyLock<ReportEnv> = LazyLock::new(|| {
    let folder = place::folder();
    let state = State::new(folder.path());
    let host: HostName = "kikimora".parse().unwrap();
    let keep = state.host(&host);
    atomic_file::write_json(&state.fleet(), &fleet::read(FLEET).unwrap().fleet).unwrap();
    ReportEnv {
        runtime: Runtime::new(folder.path()),
        _folder: folder,
        state,
        keep,
        host,
    }
});

/// A stored report must be complete, and printable in a log and a table.
fn judge(record: &Record, report: &Report) {
    let store = Store::read(&ENV.keep, RetentionLimits::default()).expect("it was written");
    assert_eq!(
        store.log(1).unwrap().as_deref(),
        Some(report.log.as_bytes())
    );
    let kept: Vec<Record> = store.records().collect();
    assert_eq!(
        kept.as_slice(),
        std::slice::from_ref(record),
        "another one was kept"
    );
    let mut whole = record.clone();
    let Content::Report(content) = &mut whole.content else {
        panic!("a report became something else");
    };
    content.log.clone_from(&report.log);
    assert_eq!(**content, *report);

    shown::assert_one_line(&record.line());
    let brief = serde_json::to_vec(&record.brief()).expect("it is JSON");
    assert!(brief.len() <= BRIEF_BYTES, "{} bytes", brief.len());
    let summary = Summary::read(&ENV.keep).expect("it was written");
    assert_eq!(summary.newest, Some(record.brief()));
}

/// Prints the status as text and as JSON.
fn show() {
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let status = Status::read(&ENV.state, &ENV.runtime, now).expect("the fleet was written");
    shown::assert_lines(&table::render(&status, status.hosts.len(), None));
    for columns in [20, 80, 200] {
        let terminal = Terminal {
            columns,
            colours: false,
            unicode: true,
        };
        shown::assert_lines(&table::render(&status, status.hosts.len(), Some(terminal)));
    }
    shown::assert_one_line(&serde_json::to_string(&status).expect("it is JSON"));
}

fuzz_target!(|input: &[u8]| {
    let Some((flags, rest)) = input.split_first() else {
        return;
    };
    let bytes = match flags & IS_GZIP {
        0 => recipe::gzip(rest),
        _ => rest.to_owned(),
    };
    let json = recipe::gunzip(&bytes, limits::REPORT_JSON_BYTES);
    let named = serde_json::from_slice::<Value>(&json).ok();
    let run = named.and_then(|json| json.get("run")?.as_str()?.parse().ok());
    let name = ReportName {
        run: run.unwrap_or_else(|| RUN.parse().unwrap()),
        attempt: 1,
    };

    let logs = ENV.keep.root().join("logs");
    let _ = fs::remove_dir_all(ENV.keep.root());
    fs::create_dir_all(&logs).unwrap();
    let writers = match flags & IS_OPEN {
        0 => Writers::None,
        _ => Writers::Open,
    };
    let receive = || {
        fs::write(logs.join(name.to_string()), &bytes).unwrap();
        take_in(
            &logs,
            &ENV.host,
            &ENV.keep,
            writers,
            Timestamp::UNIX_EPOCH,
            &mut |entry, reason| [entry, reason].into_iter().for_each(shown::assert_one_line),
        )
        .unwrap()
    };
    let intake = receive();
    let left = place::names(&logs).len() as u64;
    assert_eq!(intake.taken.len() as u64 + intake.refused + left, 1);
    assert!(
        left == 0 || writers == Writers::Open,
        "a report that can't come any more is kept"
    );
    match intake.taken.as_slice() {
        [] => {
            if let (Ok(report), 0) = (Report::parse(&json), flags & IS_GZIP) {
                assert_ne!(report.run, name.run, "a report was refused");
            }
        }
        [record] => {
            let report = Report::parse(&json).expect("it was taken in");
            judge(record, &report);
            let again = serde_json::to_vec(&report).expect("it is JSON");
            assert_eq!(Report::parse(&again).expect("it was written"), report);
            assert!(receive().taken.is_empty(), "one run was taken in twice");
        }
        more => panic!("{} reports came of one", more.len()),
    }
    show();
});
