//! What git knows of the fleet folder, and the appliance doesn't, because it lies outside: an index and its lock, and
//! `.gitignore` files above.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::group::Group;
use super::tracked::{listed, tracked};
use crate::problem::Problem;
use crate::text::list::first_few;

/// How many files are named.
const NAMED: usize = 3;

/// What follows where the index can't be seen.
const UNSEEN: &str = "the appliance sees neither git's index nor its lock there, so what a .gitignore names stays out \
                      even where git tracks it, and half a checkout may be published";

/// Brings something back, whatever git says.
const BRING_BACK: &str = "a line with ! and its name in a .bentoignore beside it brings it back";

/// Where the index lies of the checkout to which a fleet folder belongs.
#[derive(Debug, PartialEq, Eq)]
enum Checkout {
    /// Where it is seen.
    Here,
    /// Remote, because `.git` is a file or a symlink.
    Linked,
    /// In a folder above, which is the top.
    Below(PathBuf),
    /// Nowhere.
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

/// What comes otherwise than git, or whoever uses it, would have it.
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
    Problem::new(".git", what, "publish from a clone of its own (git clone)")
}

fn below(top: &Path) -> Problem {
    let top = top.display();
    let what = format!("the fleet folder lies below the top of its checkout, {top}: {UNSEEN}");
    let advice =
        "move fleet.toml and bento-secrets to the top, and let source name what lies below";
    Problem::new("", what, advice)
}

/// What git tracks, and machines don't get.
fn kept_back(folder: &Path, left_out: &BTreeSet<&PathBuf>) -> Option<Problem> {
    // As in the container, where there is no git.
    let Ok(Some(tracked)) = tracked(folder) else {
        return unknown(left_out, "nothing here tells", BRING_BACK);
    };
    let is_tracked = |path: &&&PathBuf| tracked.iter().any(|file| file.starts_with(path));
    let kept = left_out.iter().filter(is_tracked).copied().collect();
    let what = |it: &str| {
        format!(
            "a .gitignore names {it}, and that git tracks it can't be seen: machines don't get it"
        )
    };
    warning(&kept, what, BRING_BACK)
}

/// What git may track elsewhere, and machines don't get.
fn without_git(left_out: &BTreeSet<&PathBuf>) -> Option<Problem> {
    let advice = format!("if they should, copy .git, too; or {BRING_BACK}");
    unknown(left_out, "without a .git here nobody can tell", &advice)
}

/// What machines don't get, though git may track it.
fn unknown(left_out: &BTreeSet<&PathBuf>, why: &str, advice: &str) -> Option<Problem> {
    let what = |it: &str| {
        format!("a .gitignore names {it}, and {why} whether git tracks it: machines don't get it")
    };
    warning(left_out, what, advice)
}

/// What machines get although a `.gitignore` above the fleet folder names it.
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
            "a .gitignore above the fleet folder names {it}, which doesn't count: machines get it"
        )
    };
    let advice = "name it in a .gitignore or .bentoignore of the fleet folder";
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
