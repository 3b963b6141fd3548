//! Owners and modes of all files and folders of a machine's chroot: the rules, their check and their repair.
//!
//! sshd refuses a login if others could change a folder above the chroot or above the file of keys. A machine reads by
//! its group, and can list its inbox as far as the mode allows. The appliance creates all of these files, so each path
//! has exactly one right owner and mode.

mod rule;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use bento_protocol::{HostName, Manifest, chroot};

pub use self::rule::Rule;

use crate::problem::Problem;
use crate::publication::{EXECUTABLE, FILE, FOLDER, INBOX, Publications, plain_executables};
use crate::store::paths::{HostState, Runtime, State};

/// The checked part of a chroot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Only its top: cheap enough for frequent checks.
    Top,
    /// Every file of it.
    Everything,
}

/// The action for a rule: [`Rule::check`] or [`Rule::mend`]. True if something was changed.
pub type Act = fn(&Rule) -> Result<bool, Problem>;

/// Result of applying rules.
#[derive(Debug, Default)]
pub struct RuleSummary {
    /// Number of repaired paths.
    pub mended: usize,
    /// Problems that remain.
    pub problems: Vec<Problem>,
}

impl RuleSummary {
    fn apply(&mut self, act: Act, rule: &Rule) {
        match act(rule) {
            Ok(changed) => self.mended += usize::from(changed),
            Err(problem) => self.problems.push(problem),
        }
    }
}

/// Applies the rules for the paths that all machines share.
pub fn shared(state: &State, runtime: &Runtime, act: Act) -> RuleSummary {
    let mut summary = RuleSummary::default();
    // Podman's mount may be writable by everybody.
    let mounted = runtime.root().parent().unwrap_or(runtime.root());
    let is_new = !Rule::closed(state.hosts()).exists();
    for rule in [
        Rule::closed(state.root()),
        Rule::closed(state.hosts()),
        Rule::passable(mounted),
        Rule::passable(runtime.root()),
        Rule::passable(runtime.authorized_keys()),
    ] {
        // Both folders are created by the first start.
        if rule.exists() {
            let before = summary.mended;
            summary.apply(act, &rule);
            // A new mount has podman's mode: that isn't damage of an existing state.
            if rule.is_of(mounted) || (is_new && rule.is_of(state.root())) {
                summary.mended = before;
            }
        }
    }
    summary
}

/// Applies the rules for the paths of one machine. Its group has the number of its user id.
pub fn of_host(
    state: &State,
    runtime: &Runtime,
    name: &HostName,
    uid: u32,
    depth: Depth,
    act: Act,
) -> RuleSummary {
    let mut summary = RuleSummary::default();
    let host = state.host(name);
    let keys = Rule::readable(runtime.authorized_keys().join(name.as_str()));
    // A machine without keys has no such file.
    if keys.exists() {
        summary.apply(act, &keys);
    }
    if let Err(error) = apply_to_host(&host, uid, depth, act, &mut summary) {
        let folder = host.root().display().to_string();
        let what = format!("can't be read: {error}");
        summary
            .problems
            .push(Problem::new(folder, what, rule::GIVE));
    }
    summary.problems = folded(summary.problems)
        .into_iter()
        .map(|problem| problem.of(name))
        .collect();
    summary
}

/// Merges problems with the same advice: in a badly copied tree each file has one.
fn folded(problems: Vec<Problem>) -> Vec<Problem> {
    let mut folded: Vec<(Problem, usize)> = Vec::new();
    for problem in problems {
        match folded
            .iter_mut()
            .find(|(first, _)| first.advice == problem.advice)
        {
            Some((_, more)) => *more += 1,
            None => folded.push((problem, 0)),
        }
    }
    let counted = folded.into_iter().map(|(mut problem, more)| {
        match more {
            0 => {}
            1 => problem.what.push_str(", and 1 more path is wrong"),
            more => problem
                .what
                .push_str(&format!(", and {more} more paths are wrong")),
        }
        problem
    });
    counted.collect()
}

fn apply_to_host(
    host: &HostState,
    gid: u32,
    depth: Depth,
    act: Act,
    summary: &mut RuleSummary,
) -> io::Result<()> {
    summary.apply(act, &Rule::closed(host.root()));
    if !summary.problems.is_empty() {
        // Its content can't be read either.
        return Ok(());
    }
    if let Some(problem) = not_a_link(&host.current())? {
        summary.problems.push(problem);
        return Ok(());
    }
    let publications = Publications::of(host);
    let Some(current) = publications.current()? else {
        return Ok(());
    };
    summary.apply(act, &Rule::closed(host.publications()));
    for number in publications.numbers()? {
        let chroot = publications.chroot(number);
        for rule in [
            Rule::closed(host.publications().join(number.to_string())),
            Rule::exactly(&chroot, gid, FOLDER),
            Rule::exactly(publications.inbox(number), gid, INBOX),
        ] {
            // A crash may have cut off the removal of an earlier publication, which begins with its inbox.
            if number == current || rule.exists() {
                summary.apply(act, &rule);
            }
        }
        // A session may still be using an earlier one.
        if number == current {
            let manifest = publications.manifest()?;
            summary
                .problems
                .extend(incomplete(&chroot, manifest.as_ref()));
            let executables = manifest.as_ref().filter(|_| depth == Depth::Everything);
            let seen = Seen {
                chroot: &chroot,
                gid,
                executables: executables.map(plain_executables).unwrap_or_default(),
            };
            seen.apply(&chroot, depth, act, summary)?;
        }
    }
    Ok(())
}

/// The chroot of a machine.
struct Seen<'a> {
    chroot: &'a Path,
    gid: u32,
    /// The executable files, all below its top.
    executables: BTreeSet<String>,
}

impl Seen<'_> {
    /// Applies the rules for the content of a folder.
    fn apply(
        &self,
        folder: &Path,
        depth: Depth,
        act: Act,
        summary: &mut RuleSummary,
    ) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if path == self.chroot.join(chroot::LOGS.trim_start_matches('/')) {
                continue;
            }
            let rule = if kind.is_symlink() {
                Rule::link(&path, self.gid)
            } else if kind.is_dir() {
                Rule::exactly(&path, self.gid, FOLDER)
            } else {
                Rule::exactly(&path, self.gid, self.mode(&path))
            };
            summary.apply(act, &rule);
            if kind.is_dir() && depth == Depth::Everything {
                self.apply(&path, depth, act, summary)?;
            }
        }
        Ok(())
    }

    fn mode(&self, path: &Path) -> u32 {
        let path = path.strip_prefix(self.chroot).ok().and_then(Path::to_str);
        match path {
            Some(path) if self.executables.contains(path) => EXECUTABLE,
            _ => FILE,
        }
    }
}

/// The problem if a copy has followed the symlink, or left it out.
fn not_a_link(path: &Path) -> io::Result<Option<Problem>> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_symlink() => Ok(Some(Problem::new(
            path.display().to_string(),
            "is no symlink: a copy has followed it",
            REPUBLISH,
        ))),
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(None),
    }
}

/// The problem if a chroot with a manifest is incomplete.
fn incomplete(chroot: &Path, manifest: Option<&Manifest>) -> Option<Problem> {
    let manifest = manifest?;
    let generation = chroot.join(chroot::GENERATION.trim_start_matches('/'));
    let id = manifest.generation().to_string();
    let is_right = fs::read_link(&generation).is_ok_and(|target| target == Path::new(&id));
    (!is_right).then(|| {
        Problem::new(
            generation.display().to_string(),
            format!("isn't the symlink to {id} any more"),
            REPUBLISH,
        )
    })
}

const REPUBLISH: &str = "put /state back with `bento restore` or `cp -a`; or remove `current` of this machine, and what \
                         the fleet folder holds for it is published anew";

#[cfg(test)]
mod tests;
