//! Reports as machines leave them.

use bento_protocol::{Format, GenerationId, Outcome, Report, ReportName, RunId, Systems};
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;

/// The report of a run that switched, just now, to a system that it doesn't name.
pub fn switched(generation: GenerationId) -> Report {
    Report {
        format: Format,
        run: RunId::now(),
        generation,
        outcome: Outcome::Switched,
        auto: false,
        started: Timestamp::now(),
        finished: Timestamp::now(),
        phases: Vec::new(),
        system: Systems::default(),
        reboot_required: false,
        held: None,
        error: None,
        client: env!("CARGO_PKG_VERSION").into(),
        nix: None,
        machine: None,
        specialisation: None,
        log: "building…\n".into(),
    }
}

/// The name of its file.
pub fn file_name(report: &Report) -> String {
    let (run, attempt) = (report.run, 1);
    ReportName { run, attempt }.to_string()
}

/// Its file.
pub fn packed(report: &Report) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    serde_json::to_writer(&mut gzip, report).unwrap();
    gzip.finish().unwrap()
}
