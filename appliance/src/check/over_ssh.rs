//! Warnings about sources that are fetched over SSH, for which each machine needs a key.

use super::group::{Group, NixFiles};
use crate::problem::Problem;

/// The advice for such a source.
pub(super) const ADVICE: &str = "give root on each machine a key with read access, and the server's host key in \
                                 /etc/ssh/ssh_known_hosts; or fetch it over https, with a netrc in bento-secrets";

/// The addresses in Nix files; those in a lock file are checked in `lock`.
pub(super) fn fetched(groups: &[Group<'_>], nix: &NixFiles) -> Vec<Problem> {
    let mut warnings = Vec::new();
    for group in groups {
        let is_locked = group.file("flake.lock").is_some();
        for file in group.files() {
            let is_judged = is_locked && file.path.rest() == "flake.nix";
            let fetched = nix.get(file).filter(|_| !is_judged);
            let fetched = fetched.map_or(&[][..], |nix| &nix.over_ssh);
            if fetched.is_empty() || group.reading(nix, file.path.rest()).is_empty() {
                continue;
            }
            warnings.extend(fetched.iter().map(|(line, url)| {
                let place = format!("{}:{line}", file.real.display());
                Problem::new(
                    place,
                    format!("each machine fetches {url} over SSH"),
                    ADVICE,
                )
            }));
        }
    }
    warnings
}
