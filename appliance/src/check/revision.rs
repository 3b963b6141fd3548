//! Flakes that need the revision of their checkout, which none has on a machine.

use super::group::{Group, NixFiles};
use crate::problem::Problem;

/// Where a revision is needed in order to build.
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
                let what = format!(
                    "{what}: a machine builds the files, without git, and there this isn't"
                );
                Problem::new(
                    place,
                    what,
                    "say what holds without it, as in `self.rev or null`",
                )
            }));
        }
    }
    warnings
}
