//! One build: a system of one or several machines.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use anyhow::{Context, anyhow};
use bento_nix::{Kind, Order, Tail, flake_command};
use bento_protocol::SystemPath;

use super::Options;
use super::build_folder::BuildFolder;
use super::interruption::Interruption;
use super::plan::{Job, Tree};
use super::progress::{Activity, Effort, EffortCount};
use crate::scan::FleetFolder;

/// What a build, or a look at one, came to.
#[derive(Debug)]
pub(super) enum End {
    /// There is a system. A link in the bench keeps it from being collected as garbage until the work is over.
    Built(SystemPath),
    /// There would be one after this.
    WouldBuild(Effort),
    /// Nix said why there is none.
    Failed {
        /// What it said, in short.
        essence: String,
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
pub(super) struct Place<'a> {
    pub(super) bench: &'a BuildFolder,
    pub(super) fleet: &'a FleetFolder,
    pub(super) options: &'a Options,
    pub(super) interruption: &'a Interruption,
}

/// What is heard of a build while it goes on.
pub(super) trait Listener {
    /// Something else is being done.
    fn turns_to(&mut self, activity: Activity);
    /// A line of Nix's output.
    fn hears(&mut self, line: &str);
}

impl Place<'_> {
    /// Lays a tree before Nix; gives the folder.
    pub(super) fn lay(&self, number: usize, tree: &Tree<'_>) -> Result<PathBuf, String> {
        let name = format!("tree-{number}");
        let laid = self.bench.lay(&name, self.fleet, &tree.host_preview.tree);
        laid.map_err(|error| format!("{error:#}"))
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
        listener: &mut dyn Listener,
    ) -> End {
        let end = self.try_build(number, job, config, listener);
        let end = end.unwrap_or_else(|error| End::NotTried(format!("{error:#}")));
        if self.interruption.is_wanted() && !matches!(end, End::Built(_)) {
            return End::Interrupted;
        }
        end
    }

    fn try_build(
        &self,
        number: usize,
        job: &Job<'_>,
        config: &Path,
        listener: &mut dyn Listener,
    ) -> anyhow::Result<End> {
        let link = self.bench.path(&format!("system-{number}"));
        let log = self.bench.path(&format!("log-{number}"));
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
        let mut said = Said::new(&log)?;
        let status = self.interruption.run(command, &mut |line| {
            said.push(line);
            listener.hears(line);
            if let Some(activity) = Activity::of(line) {
                listener.turns_to(activity);
            }
        })?;
        said.finish(&program, status, &log, &link, self.options.dry_run)
    }
}

/// All that Nix said.
struct Said {
    file: BufWriter<File>,
    tail: Tail,
    effort: EffortCount,
}

impl Said {
    fn new(log: &Path) -> anyhow::Result<Self> {
        let file = File::create(log).with_context(|| format!("can't write {}", log.display()))?;
        Ok(Said {
            file: BufWriter::new(file),
            tail: Tail::default(),
            effort: EffortCount::default(),
        })
    }

    fn push(&mut self, line: &str) {
        // A full disk is no reason to stop listening: its end is told in any case.
        let _ = writeln!(self.file, "{line}");
        self.tail.push(line);
        self.effort.add(line);
    }

    fn finish(
        mut self,
        program: &str,
        status: ExitStatus,
        log: &Path,
        link: &Path,
        dry_run: bool,
    ) -> anyhow::Result<End> {
        let failed = |error: anyhow::Error| End::Failed {
            essence: format!("{error:#}"),
            log: Some(log.to_owned()),
        };
        // The whole of it is a service, no condition.
        let _ = self.file.flush();
        if let Some(error) = bento_nix::failure(program, status, &self.tail) {
            return Ok(failed(error));
        }
        let _ = fs::remove_file(log);
        if dry_run {
            return Ok(End::WouldBuild(self.effort.effort()));
        }
        Ok(match bento_nix::system(link) {
            Ok(system) => End::Built(system),
            Err(error) => End::Failed {
                essence: format!("{error:#}"),
                log: None,
            },
        })
    }
}
