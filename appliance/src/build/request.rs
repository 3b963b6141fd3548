//! A build request: one system, of one or several machines.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use anyhow::{Context, anyhow};
use bento_nix::{Kind, SystemBuild, Tail, flake_command};
use bento_protocol::SystemPath;

use super::BuildOptions;
use super::build_folder::BuildFolder;
use super::interruption::Interruption;
use super::plan::{Job, Tree};
use super::progress::{BuildStep, DryRunCounts, DryRunParser};
use crate::scan::FleetFolder;

/// The result of a build or of a dry run.
#[derive(Debug)]
pub(super) enum JobResult {
    /// The system. A link in the build folder protects it from garbage collection until all builds are done.
    Built(SystemPath),
    /// A dry run: the work that a build would be.
    WouldBuild(DryRunCounts),
    /// The build failed.
    Failed {
        /// The cause, in short.
        reason: String,
        /// The full output of Nix; none if it wasn't run.
        log: Option<PathBuf>,
    },
    /// The build couldn't be started.
    NotTried(String),
    /// The build was interrupted.
    Interrupted,
}

/// The surroundings that all build requests share.
#[derive(Debug)]
pub(super) struct BuildContext<'a> {
    pub(super) build_folder: &'a BuildFolder,
    pub(super) fleet: &'a FleetFolder,
    pub(super) options: &'a BuildOptions,
    pub(super) interruption: &'a Interruption,
}

/// The receiver of a build's events.
pub(super) trait EventSink {
    /// The build is at another step.
    fn step(&mut self, step: BuildStep);
    /// Nix printed a line.
    fn line(&mut self, line: &str);
}

impl BuildContext<'_> {
    /// Writes the files of a tree; returns the folder.
    pub(super) fn write_tree(&self, number: usize, tree: &Tree<'_>) -> Result<PathBuf, String> {
        let name = format!("tree-{number}");
        let written = self
            .build_folder
            .write_tree(&name, self.fleet, &tree.host_preview.tree);
        written.map_err(|error| format!("{error:#}"))
    }

    /// The systems in a flake, from Nix; none if that fails, because the build itself gives a better error.
    pub(super) fn systems(&self, config: &Path, arguments: &[String]) -> Option<Vec<String>> {
        let mut command = flake_command(&["eval"]);
        command
            .arg(format!(
                "{}#nixosConfigurations",
                bento_nix::reference(config)
            ))
            .args(["--apply", "builtins.attrNames", "--json"])
            .arg("--no-write-lock-file");
        bento_nix::add_options(&mut command, None, &[arguments]);
        let mut names = None;
        let status = self.interruption.run(command, &mut |line| {
            // Warnings go to stderr.
            if line.starts_with('[') {
                names = serde_json::from_str(line).ok();
            }
        });
        names.filter(|_| status.is_ok_and(|status| status.success()))
    }

    /// Runs the build.
    pub(super) fn build(
        &self,
        number: usize,
        job: &Job<'_>,
        config: &Path,
        sink: &mut dyn EventSink,
    ) -> JobResult {
        let result = self.try_build(number, job, config, sink);
        let result = result.unwrap_or_else(|error| JobResult::NotTried(format!("{error:#}")));
        if self.interruption.is_requested() && !matches!(result, JobResult::Built(_)) {
            return JobResult::Interrupted;
        }
        result
    }

    fn try_build(
        &self,
        number: usize,
        job: &Job<'_>,
        config: &Path,
        sink: &mut dyn EventSink,
    ) -> anyhow::Result<JobResult> {
        let link = self.build_folder.path(&format!("system-{number}"));
        let log = self.build_folder.path(&format!("log-{number}"));
        // The temporary path would mean nothing to the user.
        let kind = Kind::of(config).map_err(|_| {
            anyhow!("there is neither a flake.nix nor a configuration.nix at the top of its folder")
        })?;
        let build = SystemBuild {
            kind: &kind,
            host: job.host(),
            terms: job.terms,
            nix_path: None,
            netrc: None,
            arguments: &[],
            result: &link,
        };
        let mut command = build.command();
        if self.options.dry_run {
            command.arg("--dry-run");
        }
        let program = command.get_program().to_string_lossy().into_owned();
        let mut said = NixOutput::new(&log)?;
        let status = self.interruption.run(command, &mut |line| {
            said.push(line);
            sink.line(line);
            if let Some(step) = BuildStep::of(line) {
                sink.step(step);
            }
        })?;
        said.finish(&program, status, &log, &link, self.options.dry_run)
    }
}

/// The output of Nix: as a file, its end, and the counts of a dry run.
struct NixOutput {
    file: BufWriter<File>,
    tail: Tail,
    counts: DryRunParser,
}

impl NixOutput {
    fn new(log: &Path) -> anyhow::Result<Self> {
        let file = File::create(log).with_context(|| format!("can't write {}", log.display()))?;
        Ok(NixOutput {
            file: BufWriter::new(file),
            tail: Tail::default(),
            counts: DryRunParser::default(),
        })
    }

    fn push(&mut self, line: &str) {
        // A full disk must not stop the build: the end of the output is kept in memory.
        let _ = writeln!(self.file, "{line}");
        self.tail.push(line);
        self.counts.add(line);
    }

    fn finish(
        mut self,
        program: &str,
        status: ExitStatus,
        log: &Path,
        link: &Path,
        dry_run: bool,
    ) -> anyhow::Result<JobResult> {
        let failed = |error: anyhow::Error| JobResult::Failed {
            reason: format!("{error:#}"),
            log: Some(log.to_owned()),
        };
        // The full log is optional.
        let _ = self.file.flush();
        if let Some(error) = bento_nix::failure(program, status, &self.tail) {
            return Ok(failed(error));
        }
        let _ = fs::remove_file(log);
        if dry_run {
            return Ok(JobResult::WouldBuild(self.counts.counts()));
        }
        Ok(match bento_nix::system(link) {
            Ok(system) => JobResult::Built(system),
            Err(error) => JobResult::Failed {
                reason: format!("{error:#}"),
                log: None,
            },
        })
    }
}
