//! Groups of machines with the same files: each group is checked once.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bento_protocol::HostName;

use super::nix::{NixFile, Reference};
use super::resolved;
use crate::fleet::{Fleet, Host, SourcePath};
use crate::preview::Preview;
use crate::scan::{ENTRIES, FleetFolder, HostTree, Narrowing, TreeFile};

/// The largest Nix file that is parsed, in bytes: longer ones are generated.
pub(super) const LIMIT: u64 = 1 << 20;

/// Machines with the same files.
#[derive(Debug)]
pub(super) struct Group<'a> {
    pub(super) source: &'a SourcePath,
    pub(super) machines: Vec<&'a HostName>,
    /// Whether any of them has a key, and so builds.
    pub(super) enrolled: bool,
    /// The patterns of include and exclude, if any.
    pub(super) narrowing: Option<Narrowing>,
    /// The tree of the first one: all have the same configuration.
    pub(super) tree: &'a HostTree,
    /// Their names and attributes.
    names: Vec<[&'a str; 2]>,
    /// The names and attributes of all machines.
    everybody: Rc<HashSet<&'a str>>,
    /// The files that not every machine with the same source gets; all files if no other machine has this source.
    partial: HashSet<&'a str>,
    reach: OnceCell<Vec<Reach<'a>>>,
}

/// The files that a machine reads, as far as can be found: paths in its source.
#[derive(Debug)]
struct Reach<'a> {
    /// Its own files, and what they import.
    own: HashSet<&'a str>,
    /// The files that are imported from an entry point of the evaluation.
    certain: HashSet<&'a str>,
}

/// The Nix files of all machines, by their real paths.
#[derive(Debug, Default)]
pub(super) struct NixFiles(HashMap<PathBuf, NixFile>);

/// A source with its include and exclude patterns.
type Part<'a> = (&'a SourcePath, &'a [String], &'a [String]);

/// The groups of a fleet, in the order of their first machines.
pub(super) fn groups(preview: &Preview) -> Vec<Group<'_>> {
    let Some(fleet) = &preview.fleet else {
        return Vec::new();
    };
    let everybody = Rc::new(names(fleet).flatten().collect::<HashSet<_>>());
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut known: HashMap<Part<'_>, usize> = HashMap::new();
    for (name, host) in &fleet.hosts {
        let Some(Some(host_preview)) = preview.machines.get(name) else {
            continue;
        };
        let part = (&host.source, &host.include[..], &host.exclude[..]);
        let index = *known.entry(part).or_insert(groups.len());
        if index == groups.len() {
            groups.push(Group::new(host, &host_preview.tree, &everybody));
        }
        groups[index].add(name, host);
    }
    find_partial(&mut groups);
    groups
}

/// The name and the attribute of each machine.
pub(super) fn names(fleet: &Fleet) -> impl Iterator<Item = [&str; 2]> {
    fleet.hosts.iter().map(|(name, host)| names_of(name, host))
}

pub(super) fn names_of<'a>(name: &'a HostName, host: &'a Host) -> [&'a str; 2] {
    let attribute = host.terms.attribute.as_ref();
    [
        name.as_str(),
        attribute.map_or(name.as_str(), |attribute| attribute.as_str()),
    ]
}

/// The parts of a path, each in full, and up to its first dot.
pub(super) fn called(path: &Path) -> impl Iterator<Item = &str> {
    let parts = path.iter().filter_map(|part| part.to_str());
    parts.flat_map(|part| {
        let stem = part.split_once('.').map_or(part, |(stem, _)| stem);
        [part, stem]
    })
}

fn find_partial(groups: &mut [Group<'_>]) {
    let mut sharing: HashMap<&SourcePath, usize> = HashMap::new();
    let mut getting: HashMap<(&SourcePath, &str), usize> = HashMap::new();
    for group in &*groups {
        *sharing.entry(group.source).or_default() += 1;
        for path in group.paths() {
            *getting.entry((group.source, path)).or_default() += 1;
        }
    }
    for group in groups {
        let all = sharing[group.source];
        let is_alone = all == 1 && group.source.as_path() != Path::new(".");
        let is_partial = |path: &&str| is_alone || getting[&(group.source, *path)] < all;
        group.partial = group.paths().filter(is_partial).collect();
    }
}

impl<'a> Group<'a> {
    fn new(host: &'a Host, tree: &'a HostTree, everybody: &Rc<HashSet<&'a str>>) -> Self {
        let narrows = !host.include.is_empty() || !host.exclude.is_empty();
        // Invalid patterns are a problem, and then there is no tree.
        let narrowing = Narrowing::new(&host.exclude, &host.include).ok();
        Group {
            source: &host.source,
            machines: Vec::new(),
            enrolled: false,
            narrowing: narrowing.filter(|_| narrows),
            tree,
            names: Vec::new(),
            everybody: Rc::clone(everybody),
            partial: HashSet::new(),
            reach: OnceCell::new(),
        }
    }

    fn add(&mut self, name: &'a HostName, host: &'a Host) {
        self.machines.push(name);
        self.names.push(names_of(name, host));
        self.enrolled |= !host.keys.is_empty();
    }

    /// The files of their configuration, sorted.
    pub(super) fn files(&self) -> impl Iterator<Item = &'a TreeFile> + use<'a> {
        self.tree.config().iter()
    }

    fn paths(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.files().map(|file| file.path.rest())
    }

    /// A file of their configuration, by its path.
    pub(super) fn file(&self, path: &str) -> Option<&'a TreeFile> {
        self.tree.config_file(path)
    }

    /// Whether they get a file or folder at a path.
    pub(super) fn has(&self, path: &Path) -> bool {
        self.tree.has_config_path(&path.to_string_lossy())
    }

    /// Whether they would get files in a folder of the fleet.
    pub(super) fn would_get(&self, folder: &Path) -> bool {
        let source = self.source.as_path();
        let below = folder.strip_prefix(source.strip_prefix(".").unwrap_or(source));
        let keeps = |path: &Path| {
            self.narrowing
                .as_ref()
                .is_none_or(|narrowing| narrowing.keeps(path))
        };
        below.is_ok_and(|below| keeps(&below.join("flake.nix")))
    }

    /// The machines that read a file as their own, or because their own file imports it.
    pub(super) fn own(&self, nix: &NixFiles, path: &str) -> Vec<&'a HostName> {
        self.machines_that(nix, |reach| reach.own.contains(path))
    }

    /// The machines that read a file for certain.
    pub(super) fn reading(&self, nix: &NixFiles, path: &str) -> Vec<&'a HostName> {
        self.machines_that(nix, |reach| reach.certain.contains(path))
    }

    fn machines_that(
        &self,
        nix: &NixFiles,
        is_so: impl Fn(&Reach<'_>) -> bool,
    ) -> Vec<&'a HostName> {
        let reach = self.reach.get_or_init(|| self.reach(nix));
        let machines = self.machines.iter().zip(reach);
        machines
            .filter(|(_, reach)| is_so(reach))
            .map(|(name, _)| *name)
            .collect()
    }

    fn reach(&self, nix: &NixFiles) -> Vec<Reach<'a>> {
        let imports: Imports<'a> = self
            .paths()
            .map(|path| (path, self.imports(nix, path)))
            .collect();
        let entry = ENTRIES.iter().find_map(|name| self.file(name));
        let of = |names: &[&str; 2]| {
            let is_own = |path: &str| self.whose(path, names) == Whose::Own;
            let begins = |path: &str| {
                let file = path.rsplit_once('/').map_or(path, |(_, name)| name);
                let is_called_so = called(Path::new(file)).any(|part| names.contains(&part));
                is_called_so || ["default.nix", ENTRIES[1]].contains(&file)
            };
            let own = || self.paths().filter(|path| is_own(path));
            let begin = own().filter(|path| begins(path));
            // A flake names the files of all machines, but Nix reads only those of one.
            let is_read = |path: &str| self.whose(path, names) != Whose::Others;
            let mut certain = follow(&imports, begin, |_| true);
            certain.extend(follow(
                &imports,
                entry.map(|file| file.path.rest()),
                is_read,
            ));
            Reach {
                own: follow(&imports, own(), |_| true),
                certain,
            }
        };
        self.names.iter().map(of).collect()
    }

    /// The owner of a file.
    fn whose(&self, path: &str, names: &[&str; 2]) -> Whose {
        let source = self.source.as_path().join(path);
        let is_one_of = |is_name: &dyn Fn(&str) -> bool| called(&source).any(is_name);
        if is_one_of(&|part| names.contains(&part)) {
            Whose::Own
        } else if is_one_of(&|part| self.everybody.contains(part)) {
            Whose::Others
        } else if self.partial.contains(path) {
            Whose::Own
        } else {
            Whose::Everybodys
        }
    }

    /// The files that a file imports, as far as can be found.
    fn imports(&self, nix: &NixFiles, path: &str) -> Vec<&'a str> {
        let nix = self.file(path).and_then(|file| nix.get(file));
        let references = nix.map_or(&[][..], |nix| &nix.references);
        let targets = references.iter().filter(|reference| reference.whole);
        let targets = targets.filter_map(|reference| target(path, reference));
        let files = targets.filter_map(|target| {
            let file = self.file(target.to_str()?);
            file.or_else(|| self.file(target.join("default.nix").to_str()?))
        });
        files.map(|file| file.path.rest()).collect()
    }
}

/// The imports of each file.
type Imports<'a> = HashMap<&'a str, Vec<&'a str>>;

/// The owner of a file, from the view of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// Named like the machine, or not for every machine with the same source.
    Own,
    /// Named like another machine.
    Others,
    Everybodys,
}

/// These files and all files that they import, as far as `is_wanted` agrees.
fn follow<'a>(
    imports: &Imports<'a>,
    from: impl IntoIterator<Item = &'a str>,
    is_wanted: impl Fn(&str) -> bool,
) -> HashSet<&'a str> {
    let mut waiting: Vec<&str> = from.into_iter().collect();
    let mut reached = HashSet::new();
    while let Some(path) = waiting.pop() {
        if is_wanted(path) && reached.insert(path) {
            waiting.extend(imports.get(path).into_iter().flatten());
        }
    }
    reached
}

fn is_nix(file: &TreeFile) -> bool {
    // The target of a symlink is checked at its own path.
    file.symlink.is_none() && file.path.rest().ends_with(".nix")
}

/// The target of a reference in a file at this path, relative to the source; none if it is outside of the source.
pub(super) fn target(seen: &str, reference: &Reference) -> Option<PathBuf> {
    let base = match reference.from_top {
        true => Path::new(""),
        false => Path::new(seen).parent()?,
    };
    resolved(base, &reference.path)
}

impl NixFiles {
    /// Reads the Nix files of these machines. Unreadable files are reported elsewhere.
    pub(super) fn read(folder: &FleetFolder, groups: &[Group<'_>]) -> Self {
        let mut nix = NixFiles::default();
        let files = groups.iter().flat_map(Group::files);
        for file in files.filter(|file| is_nix(file)) {
            if nix.get(file).is_none()
                && let Ok((text, _)) = folder.text(&file.real, LIMIT, false)
            {
                nix.0.insert(file.real.clone(), NixFile::read(&text));
            }
        }
        nix
    }

    pub(super) fn get(&self, file: &TreeFile) -> Option<&NixFile> {
        self.0.get(&file.real)
    }
}
