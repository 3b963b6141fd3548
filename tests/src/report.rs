//! Reports as machines send them.

use std::io;

use bento_protocol::{
    Format, GenerationId, Outcome, Report, ReportName, RunId, SystemPath, Systems,
};
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;

/// A report of a run that switched, just now, to a system that it doesn't name.
#[must_use]
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
        log: "building it\n".into(),
    }
}

/// A report of a run that switched to the system that it built; the machine booted into it since.
#[must_use]
pub fn success(generation: GenerationId, system: SystemPath) -> Report {
    Report {
        system: Systems {
            before: None,
            built: Some(system.clone()),
            running: Some(system.clone()),
            booted: Some(system),
        },
        ..switched(generation)
    }
}

/// The name of a report's file.
#[must_use]
pub fn file_name(report: &Report) -> String {
    let (run, attempt) = (report.run, 1);
    ReportName { run, attempt }.to_string()
}

/// The content of a report's file.
///
/// # Errors
/// If the report can't be written as JSON.
pub fn packed(report: &Report) -> io::Result<Vec<u8>> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    serde_json::to_writer(&mut gzip, report)?;
    gzip.finish()
}
