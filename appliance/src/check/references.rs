//! Paths in Nix files that lead nowhere once the files are published.
//!
//! What `exclude` takes away is missed where a file of the machine's own names it, or one that such a file imports. One
//! flake serves many machines, each without the others' files: what only the flake names needn't be there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bento_protocol::HostName;

use super::group::{Group, NixFiles, target};
use super::nix::Reference;
use super::resolved;
use crate::preview::Preview;
use crate::problem::Problem;
use crate::scan::{FleetFolder, TreeFile};
use crate::text::list::first_few;

/// How many machines are named.
const NAMED: usize = 5;

/// Where a path stands, what is wrong with it and what to do, and for which machines.
type Missing<'a> = BTreeMap<(String, String, &'static str), Vec<&'a HostName>>;

/// What each group's files name that isn't there for them.
pub(super) fn leading_out(preview: &Preview, groups: &[Group<'_>], nix: &NixFiles) -> Vec<Problem> {
    let mut warnings = Vec::new();
    let mut missing = Missing::new();
    for group in groups {
        for file in group.files() {
            let references = nix.get(file).map(|nix| &nix.references[..]);
            for reference in references.unwrap_or_default() {
                let place = format!("{}:{}", file.real.display(), reference.line);
                let (what, advice) = match check(&preview.folder, group, file, reference) {
                    PathStatus::Good => continue,
                    PathStatus::LeadsOut(what, advice) => {
                        warnings.push(Problem::new(place, what, advice));
                        continue;
                    }
                    PathStatus::Excluded => {
                        ("is kept back by exclude", "bring it back with include")
                    }
                    PathStatus::Nowhere => ("isn't there", "correct the path"),
                };
                let machines = group.own(nix, file.path.rest());
                if !machines.is_empty() {
                    let what = format!("{} {what}", reference.path);
                    missing
                        .entry((place, what, advice))
                        .or_default()
                        .extend(machines);
                }
            }
        }
    }
    warnings.extend(
        missing
            .into_iter()
            .map(|((place, what, advice), machines)| {
                let what = format!(
                    "{what}, and a build of {} may need it",
                    first_few(machines.iter(), NAMED)
                );
                let advice = format!(
                    "{advice}; `bento build --dry-run {}` proves it",
                    machines[0]
                );
                Problem::new(place, what, advice)
            }),
    );
    warnings
}

/// What becomes of a path.
enum PathStatus {
    /// It is there, or nobody needs to know.
    Good,
    /// It isn't where the file is published: what, and what to do.
    LeadsOut(String, &'static str),
    /// It is in the fleet, and `exclude` takes it away.
    Excluded,
    /// It is in no place where it could be meant.
    Nowhere,
}

fn check(
    folder: &FleetFolder,
    group: &Group<'_>,
    file: &TreeFile,
    reference: &Reference,
) -> PathStatus {
    let seen = file.path.rest();
    // Of what is put together only the folder is known.
    let known = match (reference.whole, reference.path.rsplit_once('/')) {
        (true, _) => reference.clone(),
        (false, Some((path, _))) => Reference {
            path: path.to_owned(),
            ..reference.clone()
        },
        (false, None) => return PathStatus::Good,
    };
    let source = group.source;
    let Some(target) = target(seen, &known) else {
        let what = format!(
            "{} leads out of {source}, and only what is in there is published",
            reference.path
        );
        let advice = "put a relative symlink into that folder, which is published as what it leads to, and name that";
        return PathStatus::LeadsOut(what, advice);
    };
    if reference.is_optional || group.has(&target) {
        return PathStatus::Good;
    }
    let own = source.as_path().join(seen);
    let is_at_home = own.strip_prefix(".").unwrap_or(&own) == file.real;
    let in_source = source.as_path().join(&target);
    let here = match (reference.from_top, file.real.parent()) {
        (false, Some(parent)) => resolved(parent, &known.path),
        _ => None,
    };
    let here = here.unwrap_or_else(|| in_source.clone());
    let is_there = |path: &PathBuf| path.as_os_str().is_empty() || folder.find(path).is_ok();
    if !is_there(&here) && !is_there(&in_source) {
        return match reference.whole && !reference.from_top {
            true => PathStatus::Nowhere,
            false => PathStatus::Good,
        };
    }
    if is_excluded(group, &target) {
        return PathStatus::Excluded;
    }
    let path = &reference.path;
    match is_at_home {
        true => PathStatus::LeadsOut(
            format!(
                "{path} isn't published: an ignore file names it, or it has a name that never is"
            ),
            "if a .gitignore names it, or a folder that holds it, `git add -f` of the file brings it back; or a line in a \
             .bentoignore with ! and what the ignore file names; what must stay out of the Nix store belongs into \
             bento-secrets",
        ),
        false => PathStatus::LeadsOut(
            format!("{path} is here, but not where this file is published, as {seen} of {source}"),
            "let a symlink in that folder lead to both, or to a folder that holds both",
        ),
    }
}

/// Whether it is exclude that takes a file away, or what lies in a folder.
fn is_excluded(group: &Group<'_>, target: &Path) -> bool {
    let keeps = |path: &Path| {
        group
            .narrowing
            .as_ref()
            .is_none_or(|narrowing| narrowing.keeps(path))
    };
    !keeps(target) || !keeps(&target.join("default.nix"))
}
