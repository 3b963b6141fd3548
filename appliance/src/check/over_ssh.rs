//! What is fetched over SSH, for which each machine needs a key.

use super::group::{Group, NixFiles};
use crate::problem::Problem;

/// What a machine's root must have for it.
pub(super) const ADVICE: &str = "give each machine's root a key that may read it, and the server's host key in \
                                 /etc/ssh/ssh_known_hosts; or fetch it over https, with a netrc in bento-secrets";

/// What Nix files fetch so. What a lock file names is judged there.
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
                    format!("{url} is fetched over SSH by each machine"),
                    ADVICE,
                )
            }));
        }
    }
    warnings
}
