//! Warnings about flakes that need the revision of their checkout, which is missing on a machine.

use super::group::{Group, NixFiles};
use crate::problem::Problem;

/// The uses of a revision that a build needs.
pub(super) fn needed(groups: &[Group<'_>], nix: &NixFiles) -> Vec<Problem> {
    let mut warnings = Vec::new();
    for group in groups
        .iter()
        .filter(|group| group.file("flake.nix").is_some())
    {
        for file in group.files() {
            let path = file.path.rest();
            let needed = nix.get(file).map(|nix| &nix.revisions[..]);
            let needed = needed.unwrap_or_default();
            if needed.is_empty() || group.reading(nix, path).is_empty() {
                continue;
            }
            warnings.extend(needed.iter().map(|(line, what)| {
                let place = format!("{}:{line}", file.real.display());
                let what =
                    format!("{what}: missing on a machine, which builds the files without git");
                Problem::new(place, what, "add a default, as in `self.rev or null`")
            }));
        }
    }
    warnings
}
