//! Reports for tests.

use std::fs;
use std::path::{Path, PathBuf};

use bento_protocol::{
    Format, GenerationId, HostName, Outcome, Report, ReportName, RunId, SystemPath, Systems,
};
use jiff::Timestamp;

use super::{Content, Record, gzip};
use crate::store::paths::{HostState, State};

/// A generation's id made of one digit.
pub(crate) fn generation(digit: char) -> GenerationId {
    digit.to_string().repeat(64).parse().unwrap()
}

/// The path of a system.
pub(crate) fn system(name: &str) -> SystemPath {
    format!("/nix/store/{name}").parse().unwrap()
}

/// A moment: seconds after the year 2026 began.
pub(crate) fn second(second: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + second).unwrap()
}

/// The report of a run that built the generation and switched to it.
pub(crate) fn report(digit: char) -> Report {
    let built = Some(system(&format!("system-{digit}")));
    Report {
        format: Format,
        run: RunId::now(),
        generation: generation(digit),
        outcome: Outcome::Switched,
        auto: false,
        started: second(0),
        finished: second(1),
        phases: Vec::new(),
        system: Systems {
            before: None,
            built: built.clone(),
            running: built.clone(),
            booted: built,
        },
        reboot_required: false,
        held: None,
        error: None,
        client: "0.1.0".into(),
        nix: None,
        machine: None,
        specialisation: None,
        log: "building…\n".into(),
    }
}

/// The report of a run that failed, with the machine on the system of another generation.
pub(crate) fn failure(digit: char, outcome: Outcome, runs: char) -> Report {
    Report {
        outcome,
        error: Some(format!("{}: no luck", outcome.as_str())),
        system: Systems {
            running: Some(system(&format!("system-{runs}"))),
            ..Systems::default()
        },
        ..report(digit)
    }
}

/// The record of a report.
pub(crate) fn record(sequence: u64, report: Report) -> Record {
    let report = Report {
        log: String::new(),
        ..report
    };
    Record {
        sequence,
        received: second(i64::try_from(sequence).unwrap()),
        content: Content::Report(Box::new(report)),
    }
}

/// The inbox of one machine, and its folder in the state.
pub(crate) struct Machine {
    pub(crate) name: HostName,
    pub(crate) logs: PathBuf,
    pub(crate) keep: HostState,
    _folder: tempfile::TempDir,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let name: HostName = "kikimora".parse().unwrap();
        let keep = State::new(folder.path()).host(&name);
        let logs = keep.root().join("logs");
        fs::create_dir_all(&logs).unwrap();
        Machine {
            name,
            logs,
            keep,
            _folder: folder,
        }
    }

    /// Leaves bytes in the inbox.
    pub(crate) fn put(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.logs.join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// Leaves a report in the inbox, as a client does.
    pub(crate) fn deliver(&self, report: &Report, attempt: u32) -> PathBuf {
        self.put(
            ReportName {
                run: report.run,
                attempt,
            }
            .to_string(),
            packed(report),
        )
    }
}

/// A report as a client uploads it.
pub(crate) fn packed(report: &Report) -> Vec<u8> {
    gzip::compress(&serde_json::to_vec(report).unwrap())
}
