//! The walk of a folder, with its symlinks.

use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bento_protocol::{Area, FilePath, Symlink};
use rustix::fs::FileType;
use rustix::io::Errno;

use super::folder::{Entry, Stamp};
use super::ignored::{Chain, Narrowing, Patterns, is_never_published};
use super::index::Index;
use super::places::{IgnoreFiles, Survey, Target, Unusable};
use super::refusal::{self, UNREADABLE};
use super::symlink::LinkKind;
use super::{Listing, SECRETS, TreeFile};
use crate::fleet::{FILE_NAME, Host};
use crate::problem::Problem;

/// Limit of files and folders, more than any configuration has: symlinks can multiply a tree without a loop.
const MAX_ENTRIES: usize = 100_000;
/// Limit of nested folders, after following symlinks: more than any configuration has, and within a thread's stack.
const MAX_DEPTH: usize = 100;

/// Limit of files in [`Everything::unseen`].
const MAX_UNSEEN: usize = 100;

/// One walk.
struct Walk<'s, 'f> {
    survey: &'s mut Survey<'f>,
    narrowing: Option<Narrowing>,
    /// The number of the machine's files and folders from other walks.
    others: usize,
    found: Everything,
}

/// The result of a walk.
#[derive(Debug, Default)]
pub(super) struct Everything {
    pub(super) listing: Listing,
    /// The number of walked folders.
    folders: usize,
    /// The time of the last change.
    pub(super) changed: Option<SystemTime>,
    pub(super) problems: Vec<Problem>,
    /// Ignored files that git may track, without a visible index, up to [`MAX_UNSEEN`].
    pub(super) unseen: Vec<PathBuf>,
}

/// Walks the folder of a machine's configuration.
pub(super) fn source(survey: &mut Survey<'_>, host: &Host) -> Everything {
    let mut walk = Walk::new(survey, host);
    let source = host.source.as_path();
    walk.source(source);
    walk.found.sorted()
}

/// Walks the folder of a machine's secrets; `others` is the number of its other files and folders.
pub(super) fn secrets(survey: &mut Survey<'_>, others: usize, folder: &Path) -> Everything {
    let mut walk = Walk {
        survey,
        narrowing: None,
        others,
        found: Everything::default(),
    };
    walk.secrets(folder);
    walk.found.sorted()
}

impl Everything {
    /// The number of files and folders.
    pub(super) fn count(&self) -> usize {
        self.listing.files.len() + self.folders
    }

    fn sorted(mut self) -> Self {
        let files = &mut self.listing.files;
        files.sort_by(|one, other| one.path.cmp(&other.path));
        self
    }
}

/// A folder of the walk, with its path for the machine and its real path.
struct Step {
    /// Configuration or secrets.
    area: Area,
    /// The path for the machine, relative to the source.
    seen: PathBuf,
    /// The path relative to the fleet folder, with symlinks, for problems.
    written: PathBuf,
    /// The real path, relative to the fleet folder.
    real: PathBuf,
    /// The number of folders above it in the same published folder, which is the source or the target of a followed
    /// symlink. A symlink with no more `..` than that stays a symlink.
    depth: usize,
    /// Ignore files along the written path, and along the real path of each followed symlink.
    chains: Vec<(Chain, PathBuf)>,
    /// Whether it is ignored itself, so that only its tracked files count.
    only_tracked: bool,
    /// The folders above this one, by device and inode, to detect loops.
    above: Vec<(u64, u64)>,
}

/// The part of an entry that ignore files and git's index leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    All,
    /// Of a folder: its tracked files.
    Tracked,
    Nothing,
}

/// Ignore files of a folder that is entered by a symlink, or from the top.
struct Entered {
    /// The ignore files along the real path.
    chain: Chain,
    only_tracked: bool,
}

impl<'s, 'f> Walk<'s, 'f> {
    fn new(survey: &'s mut Survey<'f>, host: &Host) -> Self {
        let mut walk = Walk {
            survey,
            narrowing: None,
            others: 0,
            found: Everything::default(),
        };
        match Narrowing::new(&host.exclude, &host.include) {
            Ok(narrowing) => walk.narrowing = Some(narrowing),
            Err(bad) => {
                let what = format!(
                    "{:?} in include or exclude isn't a gitignore pattern ({})",
                    bad.pattern, bad.what
                );
                walk.add_problem(Path::new(FILE_NAME), &what, "correct the pattern");
            }
        }
        walk
    }

    fn refuse(&mut self, problem: Problem) {
        self.found.problems.push(problem);
    }

    fn add_problem(&mut self, place: &Path, what: &str, advice: &str) {
        self.refuse(refusal::problem(place, what, advice));
    }

    fn refuse_path(&mut self, place: &Path, error: &io::Error, advice: &str) {
        self.refuse(refusal::path(place, error, advice));
    }

    fn record_change(&mut self, changed: Option<SystemTime>) {
        self.found.changed = self.found.changed.max(changed);
    }

    /// Skips an entry that was removed during the scan: the next scan doesn't find it.
    fn skip_vanished(&mut self) {
        self.record_change(Some(SystemTime::now()));
    }

    /// Walks the folder of the configuration.
    fn source(&mut self, source: &Path) {
        let found = match self.survey.fleet.find(source) {
            Ok(found) if Stamp::of(&found.stat).kind() == FileType::Directory => found,
            Ok(_) => {
                return self.add_problem(
                    source,
                    "isn't a folder",
                    "make it one, or correct the host's source",
                );
            }
            Err(error) => {
                return self.refuse_path(source, &error, "create it, or correct the host's source");
            }
        };
        if let Some(private) = private_folder(&found.real, None) {
            return self.refuse(refusal::private(source, private));
        }
        if let Some(entered) = self.chain_to(&found.real) {
            self.folder(&Step {
                area: Area::Config,
                seen: PathBuf::new(),
                // Otherwise "." would be in front of every path in a message.
                written: if source == Path::new(".") {
                    PathBuf::new()
                } else {
                    source.to_owned()
                },
                depth: 0,
                chains: vec![(entered.chain, found.real.clone())],
                only_tracked: entered.only_tracked,
                above: vec![Stamp::of(&found.stat).identity()],
                real: found.real,
            });
        }
    }

    /// Walks the folder of secrets, if there is one. Ignore files don't count there: they keep secrets out of git, but
    /// secrets must be published.
    fn secrets(&mut self, folder: &Path) {
        let found = match self.survey.fleet.find(folder) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return self.refuse_dangling_secrets(folder);
            }
            Err(error) => return self.refuse_path(folder, &error, "make it a folder"),
        };
        if found.real != folder || Stamp::of(&found.stat).kind() != FileType::Directory {
            return self.add_problem(
                folder,
                "isn't a folder of its own",
                "replace it by a folder, not a symlink",
            );
        }
        self.folder(&Step {
            area: Area::Secrets,
            seen: PathBuf::new(),
            written: folder.to_owned(),
            real: found.real,
            depth: 0,
            chains: Vec::new(),
            only_tracked: false,
            above: vec![Stamp::of(&found.stat).identity()],
        });
    }

    /// Reports a dangling symlink in the place of the folder of secrets. A missing folder is fine.
    fn refuse_dangling_secrets(&mut self, folder: &Path) {
        let parts = [Path::new(SECRETS), folder];
        if let Some(link) = parts
            .into_iter()
            .find(|part| self.survey.fleet.is_link(part))
        {
            let error = io::Error::from(Errno::NOENT);
            self.refuse(refusal::link(link, &error));
        }
    }

    fn folder(&mut self, step: &Step) {
        self.found.folders += 1;
        let folder = self.survey.folder(&step.real);
        let folder = match folder.as_ref() {
            Ok(folder) => folder,
            // Removed or replaced during the scan.
            Err(error) if is_vanished(error) => return self.skip_vanished(),
            Err(error) => return self.refuse_path(&step.written, error, UNREADABLE),
        };
        self.record_change(folder.stamp.changed_at());
        for entry in &folder.entries {
            if self.others + self.found.count() >= MAX_ENTRIES {
                let what =
                    format!("has more than {MAX_ENTRIES} files, or symlinks that multiply them");
                return self.add_problem(&step.written, &what, "narrow it with exclude");
            }
            let name = String::from_utf8_lossy(&entry.name);
            if is_never_published(&name) {
                continue;
            }
            let place = || step.written.join(&*name);
            match str::from_utf8(&entry.name) {
                Ok(name) if name.chars().any(char::is_control) && self.keeps(step, name) => {
                    self.add_problem(&place(), "has a control character in its name", "rename it");
                }
                Ok(name) => self.entry(step, name, entry),
                Err(_) => {
                    self.add_problem(&place(), "has a name that isn't in UTF-8", "rename it");
                }
            }
        }
    }

    fn entry(&mut self, step: &Step, name: &str, entry: &Entry) {
        let written = step.written.join(name);
        let stamp = match entry.found {
            Ok(stamp) => stamp,
            Err(Errno::NOENT) => return self.skip_vanished(),
            Err(error) => return self.refuse_path(&written, &error.into(), UNREADABLE),
        };
        let real = step.real.join(name);
        let chains = step.chains.iter();
        let chains = chains.map(|(chain, base)| (chain, base.join(name)));
        let is_folder = stamp.kind() == FileType::Directory;
        let left = self.left(chains, step.only_tracked, &real, is_folder);
        match (left, &entry.target) {
            (Left::Nothing, _) => {}
            (_, Some(target)) => self.link(step, name, &written, target, stamp),
            (left, None) => {
                let only_tracked = left == Left::Tracked;
                let found = Target { real, stamp };
                self.found(step, name, written, &found, only_tracked, None);
            }
        }
    }

    fn link(&mut self, step: &Step, name: &str, written: &Path, target: &Path, stamp: Stamp) {
        let kind = LinkKind::of(step.area, &step.seen.join(name), step.depth, target);
        let found = self.survey.target(&step.real.join(name));
        // An entry that the machine doesn't get is no problem; but it may get files in an excluded folder.
        let leads_to_folder = found
            .as_ref()
            .as_ref()
            .is_ok_and(|found| found.stamp.kind() == FileType::Directory);
        let is_unwanted = match &kind {
            LinkKind::Kept(_) => !self.keeps(step, name),
            _ if leads_to_folder => self.hides(step, name),
            _ => !self.keeps(step, name),
        };
        if is_unwanted {
            return;
        }
        match kind {
            LinkKind::Wrong(what, advice) => self.add_problem(written, &what, advice),
            LinkKind::Kept(link) => self.kept_link(step, name, written, link, &found, stamp),
            LinkKind::Followed => self.followed_link(step, name, written, &found),
        }
    }

    /// Publishes a symlink as a symlink. Its target needn't exist.
    fn kept_link(
        &mut self,
        step: &Step,
        name: &str,
        written: &Path,
        link: Symlink,
        found: &io::Result<Target>,
        stamp: Stamp,
    ) {
        let mut lead = step.real.clone();
        for part in Path::new(link.target()).components() {
            match part {
                Component::ParentDir => _ = lead.pop(),
                part => lead.push(part),
            }
        }
        let real = match found {
            Ok(found) => Some(found.real.as_path()),
            Err(error) if refusal::errno(error) == Some(Errno::LOOP) => {
                return self.refuse(refusal::link(written, error));
            }
            Err(_) => None,
        };
        let mut places = [real, Some(lead.as_path())].into_iter().flatten();
        if let Some(private) = places.find_map(|place| private_folder(place, None)) {
            return self.refuse(refusal::private(written, private));
        }
        self.record_change(stamp.changed_at());
        self.found.listing.files.push(TreeFile {
            path: link.path().clone(),
            real: step.real.join(name),
            stamp,
            symlink: Some(link),
        });
    }

    /// Publishes the target of a symlink in its place.
    fn followed_link(
        &mut self,
        step: &Step,
        name: &str,
        written: &Path,
        found: &io::Result<Target>,
    ) {
        let found = match found {
            Ok(found) => found,
            Err(error) => return self.refuse(refusal::link(written, error)),
        };
        let own_secrets =
            (step.area == Area::Secrets).then(|| step.written.iter().take(2).collect::<PathBuf>());
        if let Some(private) = private_folder(&found.real, own_secrets.as_deref()) {
            return self.refuse(refusal::private(written, private));
        }
        if step.area == Area::Secrets {
            return self.found(step, name, written.to_owned(), found, false, None);
        }
        // The ignore files of the target's folder count, too.
        let parent = found.real.parent().map(Path::to_owned).unwrap_or_default();
        let Some(Entered {
            chain,
            only_tracked,
        }) = self.chain_to(&parent)
        else {
            return;
        };
        let is_folder = found.stamp.kind() == FileType::Directory;
        let chains = [(&chain, found.real.clone())].into_iter();
        let left = self.left(chains, only_tracked, &found.real, is_folder);
        if left != Left::Nothing {
            let only_tracked = left == Left::Tracked;
            let written = written.to_owned();
            self.found(step, name, written, found, only_tracked, Some(chain));
        }
    }

    fn found(
        &mut self,
        step: &Step,
        name: &str,
        written: PathBuf,
        found: &Target,
        only_tracked: bool,
        link_chain: Option<Chain>,
    ) {
        let seen = step.seen.join(name);
        match found.stamp.kind() {
            FileType::Directory if self.hides(step, name) => {}
            FileType::Directory => {
                self.subfolder(step, seen, written, found, only_tracked, link_chain);
            }
            _ if !self.keeps(step, name) => {}
            FileType::RegularFile => self.file(step.area, &seen, &written, found),
            _ => self.add_problem(
                &written,
                "is a device, a socket or a FIFO",
                "remove it: only files can be published",
            ),
        }
    }

    /// Whether the machine gets an entry of a folder, by `exclude` and `include`.
    fn keeps(&self, step: &Step, name: &str) -> bool {
        let keeps = |narrowing: &Narrowing| narrowing.keeps(&step.seen.join(name));
        step.area == Area::Secrets || self.narrowing.as_ref().is_none_or(keeps)
    }

    /// Whether it gets nothing of a subfolder.
    fn hides(&self, step: &Step, name: &str) -> bool {
        let hides = |narrowing: &Narrowing| narrowing.hides(&step.seen.join(name));
        step.area == Area::Config && self.narrowing.as_ref().is_some_and(hides)
    }

    fn file(&mut self, area: Area, seen: &Path, written: &Path, found: &Target) {
        match FilePath::new(area, &seen.to_string_lossy()) {
            Ok(path) => {
                let stamp = found.stamp;
                self.record_change(stamp.changed_at());
                self.found.listing.files.push(TreeFile {
                    path,
                    real: found.real.clone(),
                    stamp,
                    symlink: None,
                });
            }
            Err(error) => self.add_problem(written, &error.to_string(), "rename or move it"),
        }
    }

    fn subfolder(
        &mut self,
        step: &Step,
        seen: PathBuf,
        written: PathBuf,
        found: &Target,
        only_tracked: bool,
        link_chain: Option<Chain>,
    ) {
        let identity = found.stamp.identity();
        if step.above.contains(&identity) {
            return self.add_problem(
                &written,
                "leads back to a folder in which it lies",
                "remove the symlink",
            );
        }
        if step.above.len() >= MAX_DEPTH {
            let what = format!("lies more than {MAX_DEPTH} folders deep");
            return self.add_problem(&written, &what, "move it, or name it in .bentoignore");
        }
        let mut chains = Vec::new();
        if step.area == Area::Config {
            let Some(ignore_files) = self.ignore_files(&found.real, &written) else {
                return;
            };
            let inherited = step
                .chains
                .iter()
                .map(|(chain, base)| (chain, base.join(seen.file_name().unwrap_or_default())));
            let linked = link_chain.iter().map(|chain| (chain, found.real.clone()));
            let below = |(chain, base): (&Chain, PathBuf)| {
                (chain.below(&base, ignore_files.as_ref()), base)
            };
            chains.extend(inherited.chain(linked).map(below));
        }
        let above = step.above.iter().copied().chain([identity]).collect();
        // The target of a followed symlink is a new published folder.
        let is_followed = found.real != step.real.join(written.file_name().unwrap_or_default());
        let depth = if is_followed { 0 } else { step.depth + 1 };
        self.folder(&Step {
            area: step.area,
            seen,
            written,
            real: found.real.clone(),
            depth,
            chains,
            only_tracked,
            above,
        });
    }

    /// The part of an entry that is left by the ignore files along all its paths, and by git's index: as in git,
    /// tracked files aren't ignored. With `is_inside`, a folder above is ignored, so that only tracked files are left.
    fn left<'c>(
        &mut self,
        chains: impl Iterator<Item = (&'c Chain, PathBuf)> + Clone,
        is_inside: bool,
        real: &Path,
        is_folder: bool,
    ) -> Left {
        let by_any = |ignores: fn(&Chain, &Path, bool) -> bool| {
            let mut chains = chains.clone();
            chains.any(|(chain, path)| ignores(chain, &path, is_folder))
        };
        if !is_inside && !by_any(Chain::ignores) {
            return Left::All;
        }
        if by_any(Chain::ignores_tracked) {
            return Left::Nothing;
        }
        match self.index() {
            Some(index) if is_folder && index.has_submodule(real) => Left::All,
            Some(index) if is_folder && index.reaches_into(real) => Left::Tracked,
            Some(index) if !is_folder && index.has_file(real) => Left::All,
            Some(index) if !index.is_there() && self.found.unseen.len() < MAX_UNSEEN => {
                self.found.unseen.push(real.to_owned());
                Left::Nothing
            }
            _ => Left::Nothing,
        }
    }

    /// The index of git; none, and a problem, if it can't be used.
    fn index(&mut self) -> Option<Arc<Index>> {
        match self.survey.index().as_ref() {
            Ok(index) => {
                self.record_change(index.changed_at());
                Some(Arc::clone(index))
            }
            Err(unreadable) => {
                let problem = refusal::index(unreadable);
                if !self.found.problems.contains(&problem) {
                    self.refuse(problem);
                }
                None
            }
        }
    }

    /// The ignore files from the fleet folder down to a folder; none if one can't be used, or if they ignore the whole
    /// folder.
    fn chain_to(&mut self, real: &Path) -> Option<Entered> {
        let (mut chain, mut only_tracked) = (Chain::default(), false);
        let mut folder = PathBuf::new();
        let parts = real
            .components()
            .filter(|part| matches!(part, Component::Normal(_)));
        for part in std::iter::once(None).chain(parts.map(Some)) {
            if let Some(part) = part {
                folder.push(part);
                let chains = [(&chain, folder.clone())].into_iter();
                match self.left(chains, only_tracked, &folder, true) {
                    Left::Nothing => return None,
                    left => only_tracked = left == Left::Tracked,
                }
            }
            let patterns = self.ignore_files(&folder, &folder)?;
            chain = chain.below(&folder, patterns.as_ref());
        }
        Some(Entered {
            chain,
            only_tracked,
        })
    }

    /// The patterns of a folder's ignore files; none if they can't be used. `written` is the path for problems.
    fn ignore_files(&mut self, folder: &Path, written: &Path) -> Option<Option<Patterns>> {
        let answer = self.survey.ignore_files(folder);
        match answer.as_ref() {
            Ok(IgnoreFiles { patterns, rules }) => {
                for (path, stamp) in rules {
                    self.record_change(stamp.changed_at());
                    self.found.listing.rules.push((path.clone(), *stamp));
                }
                Some(patterns.clone())
            }
            Err(unusable) => {
                self.refuse(match unusable {
                    Unusable::Unreadable(path, error) => {
                        refusal::path(path, error, "make it a readable text file")
                    }
                    Unusable::Bad(bad) => refusal::pattern(written, bad),
                });
                None
            }
        }
    }
}

fn is_vanished(error: &io::Error) -> bool {
    let errno = refusal::errno(error);
    matches!(errno, Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP))
}

/// The private folder of a real path, except for the machine's own folder of secrets.
fn private_folder(real: &Path, own_secrets: Option<&Path>) -> Option<&'static str> {
    if own_secrets.is_some_and(|own| real.starts_with(own)) {
        return None;
    }
    // The settings may hold the URL of a webhook, which is a secret.
    if real == Path::new(FILE_NAME) {
        return Some(FILE_NAME);
    }
    [SECRETS, ".bento", ".git"]
        .into_iter()
        .find(|private| real.iter().any(|part| part == *private))
}
