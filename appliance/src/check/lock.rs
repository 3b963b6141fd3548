//! Warnings about lock files that fail on a machine.

use std::path::Path;

use serde_json::Value;

use super::group::Group;
use super::nix::is_over_ssh;
use super::{over_ssh, resolved};
use crate::preview::Preview;
use crate::problem::Problem;

/// The largest lock file that is read, in bytes; with hundreds of inputs, one has some hundred KiB.
const LIMIT: u64 = 8 << 20;

/// The problems of each group's lock file.
pub(super) fn unfit(preview: &Preview, groups: &[Group<'_>]) -> Vec<Problem> {
    let mut warnings = Vec::new();
    for group in groups {
        let Some(flake) = group.file("flake.nix") else {
            continue;
        };
        let Some(lock) = group.file("flake.lock") else {
            // An example without keys has no lock file, because its inputs are placeholders.
            warnings.extend(
                group
                    .enrolled
                    .then(|| unlocked(&flake.real, &group.source.to_string())),
            );
            continue;
        };
        let Ok((text, _)) = preview.folder.text(&lock.real, LIMIT, false) else {
            continue;
        };
        warnings.extend(faults(
            &lock.real.to_string_lossy(),
            &group.source.to_string(),
            &text,
        ));
    }
    warnings
}

fn unlocked(flake: &Path, source: &str) -> Problem {
    Problem::new(
        flake.to_string_lossy(),
        "has no flake.lock: each machine builds with the inputs of that time, so machines may differ",
        format!("run {} to pin them", locking(source)),
    )
}

/// The command that locks a flake, run in the fleet folder. Nix needs a `./` before the path.
fn locking(source: &str) -> String {
    let path = match source {
        "." => ".".to_owned(),
        _ => format!("./{source}"),
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    match path.chars().all(is_plain) {
        true => format!("`nix flake lock {path}`"),
        false => format!("`nix flake lock '{}'`", path.replace('\'', "'\\''")),
    }
}

/// The problems of a lock file.
fn faults(place: &str, source: &str, text: &str) -> Vec<Problem> {
    let nodes = serde_json::from_str::<Value>(text).ok();
    let nodes = nodes
        .as_ref()
        .and_then(|lock| lock.get("nodes")?.as_object());
    let Some(nodes) = nodes else {
        let advice = format!("remove it, and run {}", locking(source));
        return vec![Problem::new(place, "isn't a lock file of a flake", advice)];
    };
    let fault = |(name, node): (&String, &Value)| {
        let (named, what, advice) = fault(name, node)?;
        let line = text.lines().position(|line| line.contains(&named));
        let place = line.map_or(place.to_owned(), |line| format!("{place}:{}", line + 1));
        Some(Problem::new(place, what, advice))
    };
    nodes.iter().filter_map(fault).collect()
}

/// The problem of one input: the text that identifies its line, the problem, and the advice.
fn fault(name: &str, node: &Value) -> Option<(String, String, &'static str)> {
    let locked = node.get("locked")?.as_object()?;
    let text = |key: &str| locked.get(key).and_then(Value::as_str);
    let (kind, url) = (text("type")?, text("url").unwrap_or_default());
    if kind == "git" && is_over_ssh(url) {
        let what = format!("the input {name} is {url}, which each machine fetches over SSH");
        return Some((Value::from(url).to_string(), what, over_ssh::ADVICE));
    }
    let path = match kind {
        "path" => text("path")?,
        "git" => url
            .strip_prefix("file:")
            .or(url.starts_with('/').then_some(url))?,
        _ => return None,
    };
    let named = Value::from(text("path").or(text("url"))?).to_string();
    if path.starts_with('/') {
        let what = format!("the input {name} is {path}, which no machine has");
        let advice =
            "move it to the flake's folder, or to a place from which machines can fetch it";
        return Some((named, what, advice));
    }
    if is_others(node) {
        return None;
    }
    if resolved(Path::new(""), path).is_none() {
        let what = format!("the input {name} is {path}, which is outside of the published folder");
        let advice = "create a symlink to it in the flake's folder, and use that path";
        return Some((named, what, advice));
    }
    // Nix before 2.26 then needs a store path with that hash, which a machine doesn't have: "cannot fetch input …
    // because it uses a relative path". The administrator's store has it.
    locked.contains_key("narHash").then(|| {
        let what = format!(
            "the input {name} is {path}, locked with a hash: Nix before 2.26 refuses this on a machine, but not here"
        );
        let advice = "import its files by their path, or lock it with Nix 2.26 or later, which records no hash";
        (named, what, advice)
    })
}

/// Whether the path of an input is relative to another input, not to this flake.
fn is_others(node: &Value) -> bool {
    let parent = node.get("parent").and_then(Value::as_array);
    parent.is_some_and(|parent| !parent.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(node: &str) -> Vec<String> {
        let text =
            format!("{{\"nodes\": {{\n\"root\": {{}},\n\"in\": {node}\n}}, \"version\": 7}}");
        let faults = faults("flake.lock", ".", &text);
        faults.iter().map(ToString::to_string).collect()
    }

    // Issue 10, line 37.
    #[test]
    fn the_path_of_a_flake_begins_with_a_dot() {
        assert_eq!(locking("."), "`nix flake lock .`");
        assert_eq!(locking("hosts/a"), "`nix flake lock ./hosts/a`");
        assert_eq!(locking("my desk's"), "`nix flake lock './my desk'\\''s'`");
    }

    #[test]
    fn unusable_inputs_are_listed_with_their_lines() {
        for (node, what) in [
            (
                r#"{"locked": {"type": "path", "path": "/home/me/x"}}"#,
                "no machine has",
            ),
            (
                r#"{"locked": {"type": "git", "url": "file:///home/me/x", "rev": "1"}}"#,
                "no machine has",
            ),
            (
                r#"{"locked": {"type": "path", "path": "../x"}, "parent": []}"#,
                "is outside of",
            ),
            (
                r#"{"locked": {"type": "path", "path": "./x", "narHash": "sha256-x"}}"#,
                "Nix before 2.26 refuses",
            ),
        ] {
            let said = said(node);
            assert_eq!(said.len(), 1, "{node}");
            assert!(
                said[0].starts_with("flake.lock:3: the input in is ") && said[0].contains(what),
                "{said:?}"
            );
        }
        for node in [
            r#"{"locked": {"type": "path", "path": "./x"}, "parent": []}"#,
            r#"{"locked": {"type": "path", "path": "../x"}, "parent": ["other"]}"#,
            r#"{"locked": {"type": "github", "owner": "NixOS", "narHash": "sha256-x"}}"#,
            r#"{"locked": {"type": "git", "url": "https://example.org/x", "narHash": "sha256-x"}}"#,
        ] {
            assert!(said(node).is_empty(), "{node}");
        }
        assert_eq!(faults("flake.lock", ".", "{}").len(), 1);
    }
}
