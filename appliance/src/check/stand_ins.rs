//! Files that aren't what their name says: what git has in their place until it is told to fetch or to unlock them, and
//! submodules that aren't checked out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};

use bento_protocol::HostName;

use super::Findings;
use super::group::Group;
use crate::preview::Preview;
use crate::problem::Problem;
use crate::scan::{FleetFolder, TreeFile};
use crate::text::list::first_few;

/// How many files of a folder are named.
const NAMED: usize = 3;
/// The largest `.gitmodules` that is read, in bytes.
const LIMIT: u64 = 1 << 20;

/// What git has in the place of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum StandIn {
    /// A pointer of Git LFS.
    Pointer,
    /// What git-crypt made of it.
    Locked,
}

/// What each begins with.
const MARKS: [(StandIn, &[u8]); 2] = [
    (
        StandIn::Pointer,
        b"version https://git-lfs.github.com/spec/v1\n",
    ),
    (StandIn::Locked, b"\0GITCRYPT\0"),
];

/// Stand-ins in a folder: what they are called, and which machines get them.
#[derive(Default)]
struct Found<'a> {
    names: BTreeSet<String>,
    machines: BTreeSet<&'a HostName>,
}

/// Tells of stand-ins, secrets included. What is locked is an error: a machine would take it for a secret or for Nix.
pub(super) fn check<'a>(preview: &'a Preview, groups: &[Group<'a>], findings: &mut Findings) {
    let configurations = groups
        .iter()
        .map(|group| (&group.machines[..], group.tree.config()));
    let mut known: HashMap<&Path, Option<StandIn>> = HashMap::new();
    let mut found: BTreeMap<(StandIn, &Path), Found<'a>> = BTreeMap::new();
    let mut search = |machines: &[&'a HostName], files: &'a [TreeFile]| {
        for file in files {
            let known = known.entry(&file.real);
            let stand_in = known.or_insert_with(|| stand_in(&preview.folder, file));
            if let (Some(stand_in), Some(folder), Some(name)) =
                (*stand_in, file.real.parent(), file.real.file_name())
            {
                let found = found.entry((stand_in, folder)).or_default();
                found.names.insert(name.to_string_lossy().into_owned());
                found.machines.extend(machines);
            }
        }
    };
    configurations.for_each(|(machines, files)| search(machines, files));
    for (name, host_preview) in &preview.machines {
        search(
            &[name],
            host_preview
                .as_ref()
                .map_or(&[], |host_preview| host_preview.tree.secrets()),
        );
    }
    for ((stand_in, folder), found) in found {
        let (place, what) = match found.names.first() {
            Some(only) if found.names.len() == 1 => (folder.join(only), "is".to_owned()),
            _ => (
                folder.to_owned(),
                format!("{}: each is", first_few(found.names.iter(), NAMED)),
            ),
        };
        let place = place.to_string_lossy();
        match stand_in {
            StandIn::Pointer => {
                let what = format!("{what} a pointer of Git LFS, not the file itself");
                let advice = "`git lfs pull` in this checkout fetches it";
                findings.warnings.insert(Problem::new(place, what, advice));
            }
            StandIn::Locked => {
                let what = format!("{what} locked by git-crypt, and machines would get it so");
                let advice = "`git-crypt unlock` in this checkout unlocks it";
                let problem = Problem::new(place, what, advice);
                let errors = found
                    .machines
                    .into_iter()
                    .map(|name| problem.clone().of(name));
                findings.errors.extend(errors);
            }
        }
    }
}

fn stand_in(folder: &FleetFolder, file: &TreeFile) -> Option<StandIn> {
    let longest = MARKS
        .iter()
        .map(|(_, mark)| mark.len())
        .max()
        .unwrap_or_default();
    let mut start = Vec::new();
    let opened = folder.read(&file.real).ok()?;
    opened.take(longest as u64).read_to_end(&mut start).ok()?;
    let found = MARKS.iter().find(|(_, mark)| start.starts_with(mark))?;
    Some(found.0)
}

/// Submodules in what machines get that hold nothing.
pub(super) fn absent_submodules(folder: &FleetFolder, groups: &[Group<'_>]) -> Vec<Problem> {
    let Ok((text, _)) = folder.text(Path::new(".gitmodules"), LIMIT, false) else {
        return Vec::new();
    };
    let lines = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("path"));
    let paths = lines.filter_map(|line| line.trim_start().strip_prefix('='));
    let paths = paths.map(|path| PathBuf::from(path.trim().trim_matches('"')));
    let is_absent = |path: &PathBuf| {
        folder
            .list(path)
            .is_ok_and(|found| found.entries.is_empty())
    };
    let is_wanted = |path: &PathBuf| groups.iter().any(|group| group.would_get(path));
    let absent = paths.filter(|path| is_absent(path) && is_wanted(path));
    let warnings = absent.map(|path| {
        let advice = "`git submodule update --init` in this checkout fetches it";
        Problem::new(
            path.to_string_lossy(),
            "is a submodule that isn't checked out, and machines would get nothing of it",
            advice,
        )
    });
    warnings.collect()
}
