//! Warnings about git's data outside of the fleet folder, which the appliance doesn't see: an index and its lock, and
//! `.gitignore` files above.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::group::Group;
use super::tracked::{listed, tracked};
use crate::problem::Problem;
use crate::text::list::first_few;

/// The most files that are listed.
const NAMED: usize = 3;

/// The effect of an index outside of the fleet folder.
const UNSEEN: &str = "the appliance doesn't see git's index and its lock there, so a file that a .gitignore names isn't \
                      published even if git tracks it, and an incomplete checkout may be published";

/// The advice to publish a file in spite of .gitignore.
const BRING_BACK: &str =
    "to publish it, add a line with ! and its name to a .bentoignore beside it";

/// The place of git's index for a fleet folder.
#[derive(Debug, PartialEq, Eq)]
enum Checkout {
    /// In the fleet folder, where the appliance sees it.
    Here,
    /// Elsewhere, because `.git` is a file or a symlink.
    Linked,
    /// In a folder above, the top of the checkout.
    Below(PathBuf),
    /// No checkout.
    NotFound,
}

impl Checkout {
    fn of(folder: &Path) -> Self {
        match fs::symlink_metadata(folder.join(".git")) {
            Ok(found) if found.is_dir() => Checkout::Here,
            Ok(_) => Checkout::Linked,
            Err(_) => {
                let mut above = folder.ancestors().skip(1);
                let top = above.find(|above| above.join(".git").exists());
                top.map_or(Checkout::NotFound, |top| Checkout::Below(top.to_owned()))
            }
        }
    }
}

/// Warnings for files that are treated differently than git does.
pub(super) fn unseen(folder: &Path, groups: &[Group<'_>]) -> Vec<Problem> {
    let Ok(folder) = folder.canonicalize() else {
        return Vec::new();
    };
    let left_out: BTreeSet<_> = groups
        .iter()
        .flat_map(|group| group.tree.unseen())
        .collect();
    let checkout = Checkout::of(&folder);
    let mut problems = Vec::new();
    match &checkout {
        Checkout::Here => {}
        Checkout::Linked => problems.push(linked()),
        Checkout::Below(top) => {
            problems.push(below(top));
            problems.extend(named_above(&folder, groups));
        }
        Checkout::NotFound => problems.extend(without_git(&left_out)),
    }
    if matches!(checkout, Checkout::Linked | Checkout::Below(_)) {
        problems.extend(kept_back(&folder, &left_out));
    }
    problems
}

fn linked() -> Problem {
    let what = format!("isn't a folder, as in a linked worktree: {UNSEEN}");
    Problem::new(".git", what, "publish from a separate clone (git clone)")
}

fn below(top: &Path) -> Problem {
    let top = top.display();
    let what = format!("the fleet folder is below the top of its checkout, {top}: {UNSEEN}");
    let advice = "move fleet.toml and bento-secrets to the top, and adapt source";
    Problem::new("", what, advice)
}

/// A warning for tracked files that machines don't get.
fn kept_back(folder: &Path, left_out: &BTreeSet<&PathBuf>) -> Option<Problem> {
    // As in the container, where there is no git.
    let Ok(Some(tracked)) = tracked(folder) else {
        return unknown(left_out, "it is unknown here", BRING_BACK);
    };
    let is_tracked = |path: &&&PathBuf| tracked.iter().any(|file| file.starts_with(path));
    let kept = left_out.iter().filter(is_tracked).copied().collect();
    let what = |it: &str| {
        format!(
            "a .gitignore names {it}, and the appliance can't see that git tracks it: machines don't get it"
        )
    };
    warning(&kept, what, BRING_BACK)
}

/// A warning for files that machines don't get, without a checkout.
fn without_git(left_out: &BTreeSet<&PathBuf>) -> Option<Problem> {
    let advice = format!("if they should get it, copy .git, too; or, {BRING_BACK}");
    unknown(left_out, "without a .git it is unknown", &advice)
}

/// A warning for files that machines don't get, although git may track them.
fn unknown(left_out: &BTreeSet<&PathBuf>, why: &str, advice: &str) -> Option<Problem> {
    let what = |it: &str| {
        format!("a .gitignore names {it}, and {why} whether git tracks it: machines don't get it")
    };
    warning(left_out, what, advice)
}

/// A warning for files that machines get, although a `.gitignore` above the fleet folder names them.
fn named_above(folder: &Path, groups: &[Group<'_>]) -> Option<Problem> {
    let how = [
        "--others",
        "--ignored",
        "--exclude-per-directory=.gitignore",
    ];
    let ignored: HashSet<PathBuf> = listed(folder, &how).ok().flatten().unwrap_or_default();
    let files = groups.iter().flat_map(Group::files).map(|file| &file.real);
    let named = files.filter(|file| ignored.contains(*file)).collect();
    let what = |it: &str| {
        format!(
            "a .gitignore above the fleet folder names {it}, but only those in it count: machines get it"
        )
    };
    let advice = "add it to a .gitignore or .bentoignore in the fleet folder";
    warning(&named, what, advice)
}

/// A warning about one file, or about several in one line.
fn warning(
    paths: &BTreeSet<&PathBuf>,
    what: impl Fn(&str) -> String,
    advice: &str,
) -> Option<Problem> {
    let first = paths.first()?;
    let all = paths.iter().map(|path| path.display());
    Some(match paths.len() {
        1 => Problem::new(first.to_string_lossy(), what("it"), advice),
        _ => Problem::new("", what(&first_few(all, NAMED)), advice),
    })
}

#[cfg(test)]
mod tests;
