//! Stand-ins: the files that git has in place of real ones until they are fetched or unlocked, and missing submodules.

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

/// The most files of a folder that are listed.
const NAMED: usize = 3;
/// The largest `.gitmodules` that is read, in bytes.
const LIMIT: u64 = 1 << 20;

/// A kind of stand-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum StandIn {
    /// A pointer of Git LFS.
    Pointer,
    /// A file that is locked by git-crypt.
    Locked,
}

/// The first bytes of each kind.
const MARKS: [(StandIn, &[u8]); 2] = [
    (
        StandIn::Pointer,
        b"version https://git-lfs.github.com/spec/v1\n",
    ),
    (StandIn::Locked, b"\0GITCRYPT\0"),
];

/// The stand-ins in a folder, with the machines that get them.
#[derive(Default)]
struct Found<'a> {
    names: BTreeSet<String>,
    machines: BTreeSet<&'a HostName>,
}

/// Finds stand-ins, also among secrets. A locked file is an error: a machine would use it as a secret or as Nix.
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
                let advice = "run `git lfs pull` in this checkout";
                findings.warnings.insert(Problem::new(place, what, advice));
            }
            StandIn::Locked => {
                let what =
                    format!("{what} locked by git-crypt, and machines would get the locked file");
                let advice = "run `git-crypt unlock` in this checkout";
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

/// Empty submodules that machines get.
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
        let advice = "run `git submodule update --init` in this checkout";
        Problem::new(
            path.to_string_lossy(),
            "is a submodule that isn't checked out, so machines get no files of it",
            advice,
        )
    });
    warnings.collect()
}
