//! Warnings about paths in Nix files that don't exist in the published files.
//!
//! An excluded path is missing if the machine's own file, or one that it imports, names it. A path that only a shared
//! flake names may be another machine's, and can be missing.

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

/// The most machines that are listed.
const NAMED: usize = 5;

/// The place, problem and advice for a path, with the affected machines.
type Missing<'a> = BTreeMap<(String, String, &'static str), Vec<&'a HostName>>;

/// The missing paths in each group's files.
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
                    PathStatus::Excluded => ("is excluded", "add it to include"),
                    PathStatus::Nowhere => ("doesn't exist", "correct the path"),
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
                    "{what}, but a build of {} may need it",
                    first_few(machines.iter(), NAMED)
                );
                let advice = format!(
                    "{advice}; verify with `bento build --dry-run {}`",
                    machines[0]
                );
                Problem::new(place, what, advice)
            }),
    );
    warnings
}

/// The status of a path.
enum PathStatus {
    /// It exists, or needn't.
    Good,
    /// It is outside of the published files: the problem, and the advice.
    LeadsOut(String, &'static str),
    /// It is in the fleet, but excluded.
    Excluded,
    /// It doesn't exist.
    Nowhere,
}

fn check(
    folder: &FleetFolder,
    group: &Group<'_>,
    file: &TreeFile,
    reference: &Reference,
) -> PathStatus {
    let seen = file.path.rest();
    // Of a computed path only the folder is known.
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
            "{} is outside of {source}, and only files in {source} are published",
            reference.path
        );
        let advice = "create a relative symlink to it in that folder, and use that path; its target is published";
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
                "{path} isn't published: an ignore file names it, or files of that name never are"
            ),
            "if a .gitignore names it or its folder, run `git add -f` on the file, or add a line with ! and the ignored name \
             to a .bentoignore; move files that must stay out of the Nix store to bento-secrets",
        ),
        false => PathStatus::LeadsOut(
            format!(
                "{path} exists here, but not at the published path of this file, {seen} in {source}"
            ),
            "create symlinks to both in that folder, or one to a folder with both",
        ),
    }
}

/// Whether exclude removes a file, or the contents of a folder.
fn is_excluded(group: &Group<'_>, target: &Path) -> bool {
    let keeps = |path: &Path| {
        group
            .narrowing
            .as_ref()
            .is_none_or(|narrowing| narrowing.keeps(path))
    };
    !keeps(target) || !keeps(&target.join("default.nix"))
}
