//! Warnings about symlinks with targets that include or exclude remove.

use std::path::PathBuf;

use super::group::Group;
use crate::preview::Preview;
use crate::problem::Problem;
use crate::scan::{Narrowing, TreeFile};

/// The symlinks of each group whose targets its machines don't get. A symlink without a target in the fleet folder is
/// intended.
pub(super) fn narrowed_away(preview: &Preview, groups: &[Group<'_>]) -> Vec<Problem> {
    let mut warnings = Vec::new();
    for group in groups {
        let Some(narrowing) = &group.narrowing else {
            continue;
        };
        let links = group.files().filter(|file| file.symlink.is_some());
        let lost = links.filter(|link| is_lost(preview, group, narrowing, link));
        warnings.extend(lost.map(warning));
    }
    warnings
}

fn is_lost(preview: &Preview, group: &Group<'_>, narrowing: &Narrowing, link: &TreeFile) -> bool {
    if group.tree.has_config_path(link.path.rest()) || preview.folder.find(&link.real).is_err() {
        return false;
    }
    let end = group.tree.real_config(link.path.rest());
    // A pattern for a folder removes everything in it.
    end.map(PathBuf::from)
        .is_some_and(|end| !narrowing.keeps(&end) || !narrowing.keeps(&end.join("any")))
}

fn warning(link: &TreeFile) -> Problem {
    let target = link.symlink.as_ref().map_or("", |link| link.target());
    Problem::new(
        link.real.to_string_lossy(),
        format!("is a symlink to {target}, which include or exclude remove"),
        "publish both or neither",
    )
}
