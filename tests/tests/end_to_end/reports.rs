//! Reports as a machine could send them, true or not.

use anyhow::Result;
use bento_protocol::{Format, GenerationId, Outcome, Report, RunId, SystemPath, Systems};
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;

/// What a machine says that built a generation, switched to it, and runs it.
pub(crate) fn success(generation: GenerationId) -> Report {
    let system = system("built-from-it");
    Report {
        format: Format,
        run: RunId::now(),
        generation,
        outcome: Outcome::Switched,
        auto: false,
        started: Timestamp::now(),
        finished: Timestamp::now(),
        phases: Vec::new(),
        system: Systems {
            before: None,
            built: Some(system.clone()),
            running: Some(system.clone()),
            booted: Some(system),
        },
        reboot_required: false,
        held: None,
        error: None,
        client: "0".to_owned(),
        nix: None,
        machine: None,
        specialisation: None,
        log: String::new(),
    }
}

/// What a machine says on which the build of a generation failed.
pub(crate) fn build_failure(generation: GenerationId, error: &str) -> Report {
    let mut report = success(generation);
    report.run = RunId::now();
    report.outcome = Outcome::BuildFailed;
    report.system.built = None;
    report.error = Some(error.to_owned());
    report
}

/// A report as it is sent.
pub(crate) fn packed(report: &Report) -> Result<Vec<u8>> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    serde_json::to_writer(&mut gzip, report)?;
    Ok(gzip.finish()?)
}

/// A store path of a system.
pub(crate) fn system(name: &str) -> SystemPath {
    format!("/nix/store/0123456789abcdfghijklmnpqrsvwxyz-{name}")
        .parse()
        .expect("it is the path of a system")
}
