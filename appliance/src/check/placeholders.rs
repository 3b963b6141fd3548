//! Warnings about placeholders from examples.

use super::group::{Group, NixFiles};
use crate::problem::Problem;

/// The placeholders in files of enrolled machines; an example without keys may have them.
pub(super) fn left(groups: &[Group<'_>], nix: &NixFiles) -> Vec<Problem> {
    let files = groups
        .iter()
        .filter(|group| group.enrolled)
        .flat_map(Group::files);
    let found = files.filter_map(|file| Some((file, nix.get(file)?)));
    let warnings = found.flat_map(|(file, nix)| {
        nix.placeholders.iter().map(|(line, what)| {
            let place = format!("{}:{line}", file.real.display());
            Problem::new(place, format!("{what} is a placeholder"), advice(what))
        })
    });
    warnings.collect()
}

fn advice(placeholder: &str) -> &'static str {
    match placeholder {
        "OWNER/bento" => "replace OWNER with the owner of your bento",
        _ => "replace it with the appliance's host key, which `bento host-key` prints",
    }
}
