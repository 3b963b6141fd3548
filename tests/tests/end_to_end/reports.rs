//! Reports as a machine could send them, true or not.

use bento_protocol::{GenerationId, Outcome, Report, SystemPath};
pub(crate) use bento_tests::report::packed;

/// The report of a machine that built a generation, switched to it, and runs it.
pub(crate) fn success(generation: GenerationId) -> Report {
    bento_tests::report::success(generation, system("built-from-it"))
}

/// The report of a machine on which the build of a generation failed.
pub(crate) fn build_failure(generation: GenerationId, error: &str) -> Report {
    let mut report = success(generation);
    report.outcome = Outcome::BuildFailed;
    report.system.built = None;
    report.error = Some(error.to_owned());
    report
}

/// A store path of a system.
pub(crate) fn system(name: &str) -> SystemPath {
    format!("/nix/store/0123456789abcdfghijklmnpqrsvwxyz-{name}")
        .parse()
        .expect("it is the path of a system")
}
