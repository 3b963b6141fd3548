//! Lock files that no machine can build from.

use std::path::Path;

use serde_json::Value;

use super::group::Group;
use super::nix::is_over_ssh;
use super::{over_ssh, resolved};
use crate::preview::Preview;
use crate::problem::Problem;

/// The largest lock file that is read, in bytes; those with hundreds of inputs have some hundred KiB.
const LIMIT: u64 = 8 << 20;

/// What is wrong with each group's lock file.
pub(super) fn unfit(preview: &Preview, groups: &[Group<'_>]) -> Vec<Problem> {
    let mut warnings = Vec::new();
    for group in groups {
        let Some(flake) = group.file("flake.nix") else {
            continue;
        };
        let Some(lock) = group.file("flake.lock") else {
            // An example that nobody builds yet has none, because its inputs are examples, too.
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
        "has no flake.lock: each machine takes its inputs as they are when it builds, and no two need to be alike",
        format!("{} pins them", locking(source)),
    )
}

/// The command that locks a flake, as it is typed in the fleet folder. Nix takes a path for one only if it begins so.
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

/// What is wrong with a lock file.
fn faults(place: &str, source: &str, text: &str) -> Vec<Problem> {
    let nodes = serde_json::from_str::<Value>(text).ok();
    let nodes = nodes
        .as_ref()
        .and_then(|lock| lock.get("nodes")?.as_object());
    let Some(nodes) = nodes else {
        let advice = format!("remove it, and {} makes it anew", locking(source));
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

/// What is wrong with one input: the text by which its line is found, what, and what to do.
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
        let advice = "put it into the flake's folder, or where machines can fetch it from";
        return Some((named, what, advice));
    }
    if is_others(node) {
        return None;
    }
    if resolved(Path::new(""), path).is_none() {
        let what =
            format!("the input {name} is {path}, which leads out of the folder that is published");
        let advice = "put a symlink to it into the flake's folder, and name that";
        return Some((named, what, advice));
    }
    // Nix before 2.26 then wants what has that hash, wherever it is, and a machine has it nowhere: "cannot fetch input …
    // because it uses a relative path". On the administrator's machine it is in the store.
    locked.contains_key("narHash").then(|| {
        let what = format!(
            "the input {name} is {path}, locked with a hash: Nix before 2.26 refuses that on a machine, though not here"
        );
        let advice = "import its files by their path, or lock it with Nix 2.26 or later, which records no hash";
        (named, what, advice)
    })
}

/// Whether the path of an input is relative to another input rather than to this flake.
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
    fn a_flake_is_locked_by_a_path_that_nix_takes_for_one() {
        assert_eq!(locking("."), "`nix flake lock .`");
        assert_eq!(locking("hosts/a"), "`nix flake lock ./hosts/a`");
        assert_eq!(locking("my desk's"), "`nix flake lock './my desk'\\''s'`");
    }

    #[test]
    fn inputs_that_no_machine_can_have_are_told_with_their_line() {
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
                "leads out",
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
