//! Problems of paths in the fleet folder, with advice.

use std::io;
use std::path::Path;

use rustix::io::Errno;

use super::ignored::BadPattern;
use super::index::{self, Unreadable};
use crate::problem::Problem;

pub(super) const UNREADABLE: &str = "let the user who runs the appliance read it";

pub(super) fn problem(place: &Path, what: &str, advice: &str) -> Problem {
    Problem::new(place.to_string_lossy(), what, advice)
}

/// A machine gets neither a flake.nix nor a configuration.nix, though its source may have one.
pub(super) fn unbuildable(source: &Path, kept_back: Option<&str>, is_empty: bool) -> Problem {
    if let Some(name) = kept_back {
        let what =
            format!("has a {name}, but this machine doesn't get it, and can't build without it");
        let advice =
            "add it to include if exclude removes it, or to a .bentoignore with a leading !";
        return problem(source, &what, advice);
    }
    let what = match is_empty {
        true => "holds nothing to publish",
        false => {
            "holds neither a flake.nix nor a configuration.nix, and this machine can't build without one"
        }
    };
    problem(
        source,
        what,
        "put one of them there, or correct the host's source",
    )
}

pub(super) fn pattern(folder: &Path, bad: &BadPattern) -> Problem {
    let what = format!(
        "has an ignore file with {:?}, which isn't a pattern ({})",
        bad.pattern, bad.what
    );
    problem(folder, &what, "correct the pattern")
}

/// The index can't be used, so it is unknown which ignored files git tracks.
pub(super) fn index(unreadable: &Unreadable) -> Problem {
    let (why, advice) = match unreadable {
        Unreadable::File(error) => (format!("can't be read: {error}"), UNREADABLE),
        Unreadable::Damaged(why) => (
            format!("can't be read: {why}"),
            "`git status` there shows what to do",
        ),
        Unreadable::Split => (
            "is split over two files".to_owned(),
            "join it with `git update-index --no-split-index`",
        ),
        Unreadable::Sparse => (
            "is sparse".to_owned(),
            "fill it with `git sparse-checkout reapply --no-sparse-index`",
        ),
    };
    let what = format!("{why}; so it is unknown which ignored files git tracks");
    problem(Path::new(index::PATH), &what, advice)
}

pub(super) fn private(place: &Path, private: &str) -> Problem {
    let what = format!("leads into {private}, which is never published");
    let advice = "copy what the machine needs to its own folder";
    problem(place, &what, advice)
}

pub(super) fn path(place: &Path, error: &io::Error, advice: &str) -> Problem {
    match errno(error) {
        Some(Errno::NOENT) => problem(place, "isn't there", advice),
        Some(Errno::XDEV | Errno::LOOP) => link(place, error),
        _ => problem(place, &format!("can't be read: {error}"), advice),
    }
}

pub(super) fn link(place: &Path, error: &io::Error) -> Problem {
    let (what, advice) = match errno(error) {
        Some(Errno::XDEV) => (
            "is a symlink that leaves the fleet folder",
            "copy what it leads to into the fleet",
        ),
        Some(Errno::LOOP) => ("is a symlink that leads to itself", "remove it"),
        Some(Errno::NOENT | Errno::NOTDIR) => (
            "is a symlink to something that isn't there",
            "correct or remove it",
        ),
        _ => {
            let what = format!("is a symlink that can't be followed: {error}");
            return problem(place, &what, UNREADABLE);
        }
    };
    problem(place, what, advice)
}

pub(super) fn errno(error: &io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno::from_raw_os_error)
}
