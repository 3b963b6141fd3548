//! The checks of `bento check` for files that can be published, but are likely to fail or to surprise on a machine. One
//! module for each kind.
//!
//! Machines with the same files are checked once: a thousand of them cost as much as one.

mod checkout;
mod dangling;
mod fault;
mod group;
mod large;
mod lock;
mod nix;
mod over_ssh;
mod placeholders;
mod readable;
mod references;
mod revision;
mod shared;
mod stand_ins;
mod syntax;
mod tracked;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::legacy::fleet_nix;
use crate::preview::Preview;
use crate::problem::Problem;
use group::{NixFiles, groups};
pub use large::large;
pub use shared::{SharedPlace, lines as shared_lines, shared};

/// The findings of the checks: sorted, without duplicates.
#[derive(Debug, Default)]
pub struct Findings {
    /// Errors: the named machine can't build.
    pub errors: BTreeSet<Problem>,
    /// Warnings: likely failures or surprises.
    pub warnings: BTreeSet<Problem>,
}

impl Findings {
    /// Runs all checks on a preview. `folder` is its fleet folder.
    pub fn of(folder: &Path, preview: &Preview) -> Self {
        let groups = groups(preview);
        let nix = NixFiles::read(&preview.folder, &groups);
        let mut findings = Findings::default();
        syntax::check(&groups, &nix, &preview.folder, &mut findings);
        stand_ins::check(preview, &groups, &mut findings);
        let warnings = &mut findings.warnings;
        warnings.extend(stand_ins::absent_submodules(&preview.folder, &groups));
        warnings.extend(over_ssh::fetched(&groups, &nix));
        warnings.extend(references::leading_out(preview, &groups, &nix));
        warnings.extend(dangling::narrowed_away(preview, &groups));
        warnings.extend(revision::needed(&groups, &nix));
        warnings.extend(placeholders::left(&groups, &nix));
        warnings.extend(lock::unfit(preview, &groups));
        warnings.extend(tracked::untracked(folder, &groups));
        warnings.extend(checkout::unseen(folder, &groups));
        warnings.extend(readable::unreadable(folder, preview));
        warnings.extend(fleet_nix::unknown(preview));
        findings
    }
}

/// The relative paths in a Nix file.
pub(crate) fn named_paths(text: &str) -> Vec<String> {
    let references = nix::NixFile::read(text).references.into_iter();
    references.map(|reference| reference.path).collect()
}

/// The path in a folder, without `.` and `..`; none if it is outside of the folder.
fn resolved(folder: &Path, path: &str) -> Option<PathBuf> {
    let mut resolved = folder.to_owned();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if !resolved.pop() {
                    return None;
                }
            }
            name => resolved.push(name),
        }
    }
    Some(resolved)
}

#[cfg(test)]
mod tests;
