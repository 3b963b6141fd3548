//! Paths in Nix files that lead nowhere once the files are published.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::nix::{Reference, references};
use super::{Group, resolved};
use crate::forecast::Forecast;
use crate::problem::Problem;
use crate::tree::{FleetFolder, TreeFile};

/// The largest file that is looked into, in bytes: what is longer was written by a program.
const LIMIT: u64 = 1 << 20;

/// What each group's files name that isn't there for them.
pub(super) fn leading_out(forecast: &Forecast, groups: &[Group<'_>]) -> Vec<Problem> {
    let mut known: HashMap<&Path, Vec<Reference>> = HashMap::new();
    let mut warnings = Vec::new();
    for group in groups {
        for file in group.files().filter(|file| is_nix(file)) {
            let references = known
                .entry(&file.real)
                .or_insert_with(|| look_into(&forecast.folder, &file.real));
            for reference in references {
                warnings.extend(judge(&forecast.folder, group, file, reference));
            }
        }
    }
    warnings
}

fn is_nix(file: &TreeFile) -> bool {
    // A symlink says nothing by itself; what it leads to is looked into where it lies.
    file.symlink.is_none() && file.path.rest().ends_with(".nix")
}

/// What a file names; nothing if it can't be read, which is told elsewhere.
fn look_into(folder: &FleetFolder, real: &Path) -> Vec<Reference> {
    let text = folder.text(real, LIMIT, false);
    text.map_or_else(|_| Vec::new(), |(text, _)| references(&text))
}

fn judge(
    folder: &FleetFolder,
    group: &Group<'_>,
    file: &TreeFile,
    reference: &Reference,
) -> Option<Problem> {
    let place = format!("{}:{}", file.real.display(), reference.line);
    let seen_in = Path::new(file.path.rest()).parent()?;
    // Of what is put together only the folder is known.
    let path = match reference.whole {
        true => reference.path.as_str(),
        false => reference.path.rsplit_once('/')?.0,
    };
    let source = group.source;
    let Some(target) = resolved(seen_in, path) else {
        let what = format!(
            "{} leads out of {source}, and only what is in there is published",
            reference.path
        );
        let advice = "put a relative symlink into that folder, which is published as what it leads to, and name that";
        return Some(Problem::new(place, what, advice));
    };
    // What include and exclude take away isn't missed: one flake serves many machines, each without the others' files.
    if group.narrowed || group.tree.has_config_path(&target.to_string_lossy()) {
        return None;
    }
    let here: PathBuf = resolved(file.real.parent()?, path)?;
    folder.find(&here).ok()?;
    let seen = file.path.rest();
    let own = source.as_path().join(seen);
    let path = &reference.path;
    let (what, advice) = match own.strip_prefix(".").unwrap_or(&own) == file.real {
        true => (
            format!(
                "{path} isn't published: an ignore file names it, or it has a name that never is"
            ),
            "if it is ignored, a line with ! and its name in a .bentoignore beside it brings it back; what must stay \
             out of the Nix store belongs into bento-secrets",
        ),
        false => (
            format!("{path} is here, but not where this file is published, as {seen} of {source}"),
            "let a symlink in that folder lead to both, or to a folder that holds both",
        ),
    };
    Some(Problem::new(place, what, advice))
}
