//! Syntax errors in Nix files.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::Findings;
use super::group::{Group, LIMIT, NixFiles};
use crate::problem::Problem;
use crate::scan::{FleetFolder, TreeFile};

/// Finds syntax errors: an error for the machines that read the file, as far as can be found, and otherwise a warning,
/// because a file without imports may be intended.
pub(super) fn check(
    groups: &[Group<'_>],
    nix: &NixFiles,
    folder: &FleetFolder,
    findings: &mut Findings,
) {
    let mut known: HashMap<&Path, bool> = HashMap::new();
    for group in groups {
        for file in group.files() {
            let Some(fault) = nix.get(file).and_then(|nix| nix.fault.as_ref()) else {
                continue;
            };
            if *known
                .entry(&file.real)
                .or_insert_with(|| is_good(folder, file))
            {
                continue;
            }
            let place = format!("{}:{}:{}", file.real.display(), fault.line, fault.column);
            let what = format!("syntax error: {}", fault.what);
            let machines = group.reading(nix, file.path.rest());
            if machines.is_empty() {
                let advice = "correct it, or add it to .bentoignore if no machine needs it";
                findings.warnings.insert(Problem::new(place, what, advice));
            } else {
                let problem = Problem::new(
                    place,
                    what,
                    "correct it: configurations that import it can't be built",
                );
                findings
                    .errors
                    .extend(machines.into_iter().map(|name| problem.clone().of(name)));
            }
        }
    }
}

/// Whether the Nix of this machine can parse the file.
fn is_good(folder: &FleetFolder, file: &TreeFile) -> bool {
    let text = folder.text(&file.real, LIMIT, false);
    text.is_ok_and(|(text, _)| is_nix(&text) == Some(true))
}

/// Whether the Nix of this machine can parse a text; none without Nix. The language grows, so versions differ.
fn is_nix(text: &str) -> Option<bool> {
    let mut nix = Command::new("nix-instantiate");
    nix.args([
        "--parse",
        "--extra-experimental-features",
        "pipe-operators",
        "-",
    ]);
    nix.stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut nix = nix.spawn().ok()?;
    // If it exits before it has read everything, it has found an error.
    if let Some(mut input) = nix.stdin.take() {
        _ = input.write_all(text.as_bytes());
    }
    nix.wait().ok().map(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    // Issue 10, line 39.
    #[test]
    fn the_local_nix_decides() {
        assert!(matches!(is_nix("{ a = 1; }"), Some(true) | None));
        assert!(matches!(is_nix("{ a = ; }"), Some(false) | None));
    }
}
