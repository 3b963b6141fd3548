//! One build: a system of one or several machines.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use anyhow::{Context, anyhow};
use bento_nix::{Kind, Order, Tail, flake_command};
use bento_protocol::SystemPath;

use super::BuildOptions;
use super::build_folder::BuildFolder;
use super::interruption::Interruption;
use super::plan::{Job, Tree};
use super::progress::{BuildStep, DryRunCounts, DryRunParser};
use crate::scan::FleetFolder;

/// What a build, or a look at one, came to.
#[derive(Debug)]
pub(super) enum JobResult {
    /// There is a system. A link in the bench keeps it from being collected as garbage until the work is over.
    Built(SystemPath),
    /// There would be one after this.
    WouldBuild(DryRunCounts),
    /// Nix said why there is none.
    Failed {
        /// What it said, in short.
        reason: String,
        /// All that it said; none if it wasn't asked.
        log: Option<PathBuf>,
    },
    /// It couldn't be tried.
    NotTried(String),
    /// Somebody wanted to stop.
    Interrupted,
}

/// Where builds are made.
#[derive(Debug)]
pub(super) struct BuildContext<'a> {
    pub(super) build_folder: &'a BuildFolder,
    pub(super) fleet: &'a FleetFolder,
    pub(super) options: &'a BuildOptions,
    pub(super) interruption: &'a Interruption,
}

/// What is heard of a build while it goes on.
pub(super) trait EventSink {
    /// Something else is being done.
    fn step(&mut self, step: BuildStep);
    /// A line of Nix's output.
    fn line(&mut self, line: &str);
}

impl BuildContext<'_> {
    /// Lays a tree before Nix; gives the folder.
    pub(super) fn write_tree(&self, number: usize, tree: &Tree<'_>) -> Result<PathBuf, String> {
        let name = format!("tree-{number}");
        let written = self
            .build_folder
            .write_tree(&name, self.fleet, &tree.host_preview.tree);
        written.map_err(|error| format!("{error:#}"))
    }

    /// Which systems a flake holds, as Nix says; none if it doesn't answer: why not, the build itself says best.
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
            // Warnings come on the other output.
            if line.starts_with('[') {
                names = serde_json::from_str(line).ok();
            }
        });
        names.filter(|_| status.is_ok_and(|status| status.success()))
    }

    /// Builds.
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
        // Where it lies now says nothing to anybody.
        let kind = Kind::of(config).map_err(|_| {
            anyhow!("there is neither a flake.nix nor a configuration.nix at the top of its folder")
        })?;
        let order = Order {
            kind: &kind,
            host: job.host(),
            terms: job.terms,
            nix_path: None,
            netrc: None,
            arguments: &[],
            result: &link,
        };
        let mut command = order.command();
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

/// All that Nix said.
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
        // A full disk is no reason to stop listening: its end is told in any case.
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
        // The whole of it is a service, no condition.
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
