//! What an example says instead of something of one's own.

use super::group::{Group, NixFiles};
use crate::problem::Problem;

/// The placeholders that machines would get, once they are enrolled: an example that nobody builds yet may have them.
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
        "OWNER/bento" => "put there where you have bento from",
        _ => "put the appliance's host key there: `bento host-key` prints it",
    }
}
