//! Walks folders and the symlinks in them.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use bento_protocol::{Area, FilePath};
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::folder::{FleetFolder, Found, Stamp, entry_stat, link_target, names};
use super::ignored::{Chain, Narrowing, is_never_published};
use super::{HostTree, Rules, SECRETS, TreeFile, file_type};
use crate::fleet::{FILE_NAME, Host};
use crate::problem::Problem;

/// More files and folders than any configuration has: a symlink in a shared folder can multiply a tree without being
/// a loop.
const MAX_ENTRIES: usize = 100_000;
/// Folders in folders, symlinks followed: more than any configuration has, and few enough for the stack of a thread.
const MAX_DEPTH: usize = 100;
/// The largest ignore file in bytes; git's own are a few kilobytes.
const MAX_IGNORE_FILE: u64 = 1 << 20;

/// One walk.
struct Walk<'a> {
    fleet: &'a FleetFolder,
    narrowing: Option<Narrowing>,
    found: Everything,
}

/// All that a walk has found.
#[derive(Debug, Clone, Default)]
pub(super) struct Everything {
    files: Vec<TreeFile>,
    /// How many folders were walked.
    folders: usize,
    rules: Vec<Rules>,
    changed: Option<SystemTime>,
    problems: Vec<Problem>,
}

/// Walks the folder that holds a machine's configuration.
pub(super) fn source(fleet: &FleetFolder, host: &Host) -> Everything {
    let mut walk = Walk::new(fleet, host);
    let source = host.source.as_path();
    walk.source(source);
    if walk.found.files.is_empty() && walk.found.problems.is_empty() {
        walk.add_problem(
            source,
            "holds nothing to publish",
            "put a flake.nix or a configuration.nix there",
        );
    }
    walk.found
        .files
        .sort_by(|one, other| one.path.cmp(&other.path));
    walk.found
}

/// A machine's tree: what was found in its source, and its secrets.
pub(super) fn with_secrets(
    fleet: &FleetFolder,
    source: Everything,
    folder: &Path,
) -> Result<HostTree, Vec<Problem>> {
    let mut walk = Walk {
        fleet,
        narrowing: None,
        found: source,
    };
    walk.secrets(folder);
    let mut found = walk.found;
    if !found.problems.is_empty() {
        return Err(found.problems);
    }
    found.files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(HostTree {
        files: found.files,
        rules: found.rules,
        changed: found.changed,
    })
}

/// A folder on the way, as the machine will see it and as it really is.
struct Step<'s> {
    /// Which half of the generation it belongs to.
    area: Area,
    /// Relative to the source, as the machine will see it.
    seen: PathBuf,
    /// Relative to the fleet folder, as the path to it was written; named in problems.
    written: PathBuf,
    /// Relative to the fleet folder, symlinks resolved.
    real: PathBuf,
    folder: &'s OwnedFd,
    /// Ignore files along the written path, and along each real path to which a symlink led.
    chains: Vec<(Chain, PathBuf)>,
    /// The folders in which this one lies, by device and inode: one that comes again is a loop.
    above: Vec<(u64, u64)>,
}

impl<'a> Walk<'a> {
    fn new(fleet: &'a FleetFolder, host: &Host) -> Self {
        let mut walk = Walk {
            fleet,
            narrowing: None,
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

    fn add_problem(&mut self, place: &Path, what: &str, advice: &str) {
        self.found
            .problems
            .push(Problem::new(place.to_string_lossy(), what, advice));
    }

    fn note_change(&mut self, changed: Option<SystemTime>) {
        self.found.changed = self.found.changed.max(changed);
    }

    /// Something went while the folder was being read: the next look sees the folder without it.
    fn skip_vanished(&mut self) {
        self.note_change(Some(SystemTime::now()));
    }

    /// Walks the folder that holds the configuration.
    fn source(&mut self, source: &Path) {
        let found = match self.fleet.find(source) {
            Ok(found) if file_type(&found.stat) == FileType::Directory => found,
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
            return self.refuse_private(source, private);
        }
        if let Some(chain) = self.chain_to(&found.real) {
            self.folder(&Step {
                area: Area::Config,
                seen: PathBuf::new(),
                // "." would stand in front of every path in a message.
                written: if source == Path::new(".") {
                    PathBuf::new()
                } else {
                    source.to_owned()
                },
                folder: &found.fd,
                chains: vec![(chain, found.real.clone())],
                above: vec![identity(&found.stat)],
                real: found.real,
            });
        }
    }

    /// Walks the folder of secrets, if there is one. Ignore files don't count there: secrets are kept out of git by
    /// just these, and are to be published all the same.
    fn secrets(&mut self, folder: &Path) {
        let found = match self.fleet.find(folder) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return self.refuse_dangling_secrets(folder);
            }
            Err(error) => return self.refuse_path(folder, &error, "make it a folder"),
        };
        if found.real != folder || file_type(&found.stat) != FileType::Directory {
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
            folder: &found.fd,
            chains: Vec::new(),
            above: vec![identity(&found.stat)],
        });
    }

    /// A machine without secrets has no folder of them; a symlink that leads nowhere is a mistake.
    fn refuse_dangling_secrets(&mut self, folder: &Path) {
        let parts = [Path::new(SECRETS), folder];
        if let Some(link) = parts.into_iter().find(|part| self.fleet.is_link(part)) {
            let error = io::Error::from(Errno::NOENT);
            self.refuse_link(link, &error);
        }
    }

    fn folder(&mut self, step: &Step<'_>) {
        self.found.folders += 1;
        match rustix::fs::fstat(step.folder) {
            Ok(stat) => self.note_change(Stamp::of(&stat).changed_at()),
            Err(error) => return self.refuse_path(&step.written, &error.into(), UNREADABLE),
        }
        let names = match names(step.folder) {
            Ok(names) => names,
            Err(error) => return self.refuse_path(&step.written, &error, UNREADABLE),
        };
        for name in names {
            if self.found.files.len() + self.found.folders >= MAX_ENTRIES {
                let what =
                    format!("has more than {MAX_ENTRIES} files, or symlinks that multiply them");
                return self.add_problem(&step.written, &what, "narrow it with exclude");
            }
            match String::from_utf8(name) {
                Ok(name) if name.chars().any(char::is_control) && self.keeps(step, &name) => {
                    let place = step.written.join(name);
                    self.add_problem(&place, "has a control character in its name", "rename it");
                }
                Ok(name) => self.entry(step, &name),
                Err(error) => {
                    let name = String::from_utf8_lossy(error.as_bytes()).into_owned();
                    self.add_problem(
                        &step.written.join(name),
                        "has a name that isn't in UTF-8",
                        "rename it",
                    );
                }
            }
        }
    }

    fn entry(&mut self, step: &Step<'_>, name: &str) {
        let written = step.written.join(name);
        if is_never_published(name) {
            return;
        }
        let stat = match entry_stat(step.folder, name) {
            Ok(stat) => stat,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.skip_vanished(),
            Err(error) => return self.refuse_path(&written, &error, UNREADABLE),
        };
        let kind = file_type(&stat);
        if step.ignores(name, kind == FileType::Directory) {
            return;
        }
        if kind == FileType::Symlink {
            return self.link(step, name, &written);
        }
        match self.fleet.find(&step.real.join(name)) {
            Ok(found) => self.found(step, name, written, found, None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.skip_vanished(),
            Err(error) => self.refuse_path(&written, &error, UNREADABLE),
        }
    }

    fn link(&mut self, step: &Step<'_>, name: &str, written: &Path) {
        // What a machine doesn't get can't be wrong for it; but below a folder there may be something that it gets.
        let found = self.fleet.find(&step.real.join(name));
        let leads_to_folder =
            found.is_ok_and(|found| file_type(&found.stat) == FileType::Directory);
        let is_unwanted = match leads_to_folder {
            true => self.hides(step, name),
            false => !self.keeps(step, name),
        };
        if is_unwanted {
            return;
        }
        match link_target(step.folder, name) {
            Ok(target) if target.is_absolute() => {
                let what = format!("is a symlink to the absolute path {}", target.display());
                return self.add_problem(
                    written,
                    &what,
                    "make it relative, and let it stay inside the fleet folder",
                );
            }
            Ok(_) => {}
            // Gone, or something else by now.
            Err(error) if matches!(errno(&error), Some(Errno::NOENT | Errno::INVAL)) => {
                return self.skip_vanished();
            }
            Err(error) => return self.refuse_path(written, &error, UNREADABLE),
        }
        let found = match self.fleet.find(&step.real.join(name)) {
            Ok(found) => found,
            Err(error) => return self.refuse_link(written, &error),
        };
        let own_secrets =
            (step.area == Area::Secrets).then(|| step.written.iter().take(2).collect::<PathBuf>());
        if let Some(private) = private_folder(&found.real, own_secrets.as_deref()) {
            return self.refuse_private(written, private);
        }
        if step.area == Area::Secrets {
            return self.found(step, name, written.to_owned(), found, None);
        }
        // Where a link leads, the ignore files of that place count too.
        let parent = found.real.parent().map(Path::to_owned).unwrap_or_default();
        let Some(chain) = self.chain_to(&parent) else {
            return;
        };
        if !chain.ignores(&found.real, file_type(&found.stat) == FileType::Directory) {
            self.found(step, name, written.to_owned(), found, Some(chain));
        }
    }

    fn found(
        &mut self,
        step: &Step<'_>,
        name: &str,
        written: PathBuf,
        found: Found,
        link_chain: Option<Chain>,
    ) {
        let seen = step.seen.join(name);
        match file_type(&found.stat) {
            FileType::Directory if self.hides(step, name) => {}
            FileType::Directory => self.subfolder(step, seen, written, found, link_chain),
            _ if !self.keeps(step, name) => {}
            FileType::RegularFile => self.file(step.area, &seen, &written, &found),
            _ => self.add_problem(
                &written,
                "is a device, a socket or a FIFO",
                "remove it: only files can be published",
            ),
        }
    }

    /// Whether the machine gets an entry of a folder, by what narrows its source.
    fn keeps(&self, step: &Step<'_>, name: &str) -> bool {
        let keeps = |narrowing: &Narrowing| narrowing.keeps(&step.seen.join(name));
        step.area == Area::Secrets || self.narrowing.as_ref().is_none_or(keeps)
    }

    /// Whether it gets nothing of a folder of a folder.
    fn hides(&self, step: &Step<'_>, name: &str) -> bool {
        let hides = |narrowing: &Narrowing| narrowing.hides(&step.seen.join(name));
        step.area == Area::Config && self.narrowing.as_ref().is_some_and(hides)
    }

    fn file(&mut self, area: Area, seen: &Path, written: &Path, found: &Found) {
        match FilePath::new(area, &seen.to_string_lossy()) {
            Ok(path) => {
                let stamp = Stamp::of(&found.stat);
                self.note_change(stamp.changed_at());
                self.found.files.push(TreeFile {
                    path,
                    real: found.real.clone(),
                    stamp,
                });
            }
            Err(error) => self.add_problem(written, &error.to_string(), "rename or move it"),
        }
    }

    fn subfolder(
        &mut self,
        step: &Step<'_>,
        seen: PathBuf,
        written: PathBuf,
        found: Found,
        link_chain: Option<Chain>,
    ) {
        let identity = identity(&found.stat);
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
            let Some(texts) = self.ignore_files(&found.real) else {
                return;
            };
            let inherited = step
                .chains
                .iter()
                .map(|(chain, base)| (chain, base.join(seen.file_name().unwrap_or_default())));
            let linked = link_chain.iter().map(|chain| (chain, found.real.clone()));
            for (chain, base) in inherited.chain(linked) {
                match chain.below(&base, &texts) {
                    Ok(chain) => chains.push((chain, base)),
                    Err(bad) => return self.refuse_pattern(&written, &bad),
                }
            }
        }
        let above = step.above.iter().copied().chain([identity]).collect();
        self.folder(&Step {
            area: step.area,
            seen,
            written,
            real: found.real,
            folder: &found.fd,
            chains,
            above,
        });
    }

    /// The ignore files from the fleet folder down to a folder; none if one can't be used, or if they ignore the
    /// folder itself, which is then left out as a whole.
    fn chain_to(&mut self, real: &Path) -> Option<Chain> {
        let mut chain = Chain::default();
        let mut folder = PathBuf::new();
        let parts = real
            .components()
            .filter(|part| matches!(part, Component::Normal(_)));
        for part in std::iter::once(None).chain(parts.map(Some)) {
            if let Some(part) = part {
                folder.push(part);
                if chain.ignores(&folder, true) {
                    return None;
                }
            }
            let texts = self.ignore_files(&folder)?;
            chain = match chain.below(&folder, &texts) {
                Ok(chain) => chain,
                Err(bad) => {
                    self.refuse_pattern(&folder, &bad);
                    return None;
                }
            };
        }
        Some(chain)
    }

    /// The texts of a folder's ignore files. As in git, one that is a symlink isn't followed.
    fn ignore_files(&mut self, folder: &Path) -> Option<Vec<String>> {
        let mut texts = Vec::new();
        for name in [".gitignore", ".bentoignore"] {
            let path = folder.join(name);
            match self.fleet.text(&path, MAX_IGNORE_FILE, false) {
                Ok((text, stamp)) => {
                    texts.push(text);
                    self.note_change(stamp.changed_at());
                    self.found.rules.push((path, stamp));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    self.refuse_path(&path, &error, "make it a readable text file");
                    return None;
                }
            }
        }
        Some(texts)
    }

    fn refuse_pattern(&mut self, folder: &Path, bad: &super::ignored::BadPattern) {
        let what = format!(
            "has an ignore file with {:?}, which isn't a pattern ({})",
            bad.pattern, bad.what
        );
        self.add_problem(folder, &what, "correct the pattern");
    }

    fn refuse_private(&mut self, place: &Path, private: &str) {
        let what = format!("leads into {private}, which is never published");
        self.add_problem(
            place,
            &what,
            "copy what the machine needs to its own folder",
        );
    }

    fn refuse_path(&mut self, place: &Path, error: &io::Error, advice: &str) {
        match errno(error) {
            Some(Errno::NOENT) => self.add_problem(place, "isn't there", advice),
            Some(Errno::XDEV | Errno::LOOP) => self.refuse_link(place, error),
            _ => self.add_problem(place, &format!("can't be read: {error}"), advice),
        }
    }

    fn refuse_link(&mut self, place: &Path, error: &io::Error) {
        let (what, advice) = match errno(error) {
            Some(Errno::XDEV) => (
                "is a symlink that leaves the fleet folder",
                "copy what it leads to into the fleet",
            ),
            Some(Errno::LOOP) => ("is a symlink that leads to itself", "remove it"),
            Some(Errno::NOENT | Errno::NOTDIR) => (
                "is a symlink to something that isn't there",
                "mend or remove it",
            ),
            _ => {
                return self.add_problem(
                    place,
                    &format!("is a symlink that can't be followed: {error}"),
                    UNREADABLE,
                );
            }
        };
        self.add_problem(place, what, advice);
    }
}

const UNREADABLE: &str = "let the user who runs the appliance read it";

impl Step<'_> {
    fn ignores(&self, name: &str, is_folder: bool) -> bool {
        self.chains
            .iter()
            .any(|(chain, base)| chain.ignores(&base.join(name), is_folder))
    }
}

fn errno(error: &io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno::from_raw_os_error)
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// The private folder in which a real path lies, unless it is the machine's own folder of secrets.
fn private_folder(real: &Path, own_secrets: Option<&Path>) -> Option<&'static str> {
    if own_secrets.is_some_and(|own| real.starts_with(own)) {
        return None;
    }
    // The settings may hold the address of a webhook, which is as good as a password.
    if real == Path::new(FILE_NAME) {
        return Some(FILE_NAME);
    }
    [SECRETS, ".bento", ".git"]
        .into_iter()
        .find(|private| real.iter().any(|part| part == *private))
}
