//! The lock file of a flake: the pins of its inputs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

/// A lock file.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Lock {
    nodes: BTreeMap<String, Node>,
    root: String,
}

#[derive(Debug, Clone, Deserialize)]
struct Node {
    /// The name of a node; or a list, for an input that follows another one: the other's path from the root.
    #[serde(default)]
    inputs: BTreeMap<String, Value>,
    locked: Option<Pin>,
}

/// The pin of an input.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Pin {
    rev: Option<String>,
    /// In seconds since 1970.
    last_modified: Option<i64>,
    nar_hash: Option<String>,
}

/// An input with another pin than before.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Move {
    /// Its path from the root, such as `home-manager/nixpkgs`.
    input: String,
    from: Option<Pin>,
    to: Option<Pin>,
}

impl Lock {
    /// Parses a lock file.
    pub(super) fn parse(text: &str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }

    /// The inputs of the flake itself.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let root = self.nodes.get(&self.root);
        root.into_iter()
            .flat_map(|root| root.inputs.keys().map(String::as_str))
    }

    /// Whether there is an input at this path from the root.
    pub(super) fn has(&self, path: &str) -> bool {
        let mut node = self.nodes.get(&self.root);
        let mut names = path.split('/').peekable();
        while let Some(name) = names.next() {
            match node.and_then(|node| node.inputs.get(name)) {
                Some(Value::String(next)) => node = self.nodes.get(next),
                Some(_) => return names.peek().is_none(),
                None => return false,
            }
        }
        true
    }

    /// The changed pins from one lock file to a later one, sorted by input.
    pub(super) fn moves(&self, later: &Lock) -> Vec<Move> {
        let (before, after) = (self.pins(), later.pins());
        let inputs: BTreeSet<_> = before.keys().chain(after.keys()).collect();
        let moves = inputs.into_iter().map(|input| Move {
            from: before.get(input).cloned(),
            to: after.get(input).cloned(),
            input: input.clone(),
        });
        moves.filter(|it| it.from != it.to).collect()
    }

    /// A lock file without pins.
    pub(super) fn empty() -> Self {
        Lock {
            nodes: BTreeMap::new(),
            root: String::new(),
        }
    }

    /// All pins, by their first path from the root.
    fn pins(&self) -> BTreeMap<String, Pin> {
        let mut pins = BTreeMap::new();
        let mut seen = BTreeSet::from([self.root.as_str()]);
        // Breadth first: people know an input by its path closest to the root.
        let mut level = vec![(String::new(), self.root.as_str())];
        while !level.is_empty() {
            let mut next = Vec::new();
            for (path, key) in level {
                let Some(node) = self.nodes.get(key) else {
                    continue;
                };
                if let Some(pin) = &node.locked {
                    pins.insert(path.clone(), pin.clone());
                }
                for (name, input) in &node.inputs {
                    let path = match path.as_str() {
                        "" => name.clone(),
                        path => format!("{path}/{name}"),
                    };
                    match input {
                        Value::String(key) if seen.insert(key) => next.push((path, key.as_str())),
                        _ => {}
                    }
                }
            }
            level = next;
        }
        pins
    }
}

impl fmt::Display for Move {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let input = &self.input;
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => write!(formatter, "{input}: {from} → {to}"),
            (None, Some(to)) => write!(formatter, "{input}: new, {to}"),
            (Some(from), None) => write!(formatter, "{input}: gone, was {from}"),
            (None, None) => write!(formatter, "{input}"),
        }
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// The number of digits of a revision, as in git.
        const DIGITS: usize = 7;
        let date = self
            .last_modified
            .and_then(|it| Timestamp::from_second(it).ok());
        let date = date.map(|date| date.strftime("%Y-%m-%d").to_string());
        let hash = self.nar_hash.as_deref();
        let hash = hash.map(|hash| hash.strip_prefix("sha256-").unwrap_or(hash));
        let name = self.rev.as_deref().or(hash);
        let name = name.map(|name| name.chars().take(DIGITS).collect());
        let parts: Vec<String> = date.into_iter().chain(name).collect();
        formatter.write_str(&parts.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(rev: &str, more: &str) -> Lock {
        let text = format!(
            r#"{{"nodes":{{
              "root":{{"inputs":{{"nixpkgs":"nixpkgs","home-manager":"home-manager","hw":"hw","alias":["home-manager","nixpkgs"]}}}},
              "home-manager":{{"inputs":{{"nixpkgs":"nixpkgs","systems":"systems"}},"locked":{{"type":"github","rev":"1111111111","lastModified":1700000000}}}},
              "systems":{{"locked":{{"narHash":"sha256-abcdefghijk","type":"path"}}}},
              "nixpkgs":{{"locked":{{"type":"github","rev":"{rev}","lastModified":1700000000}}}},
              "hw":{{"inputs":{{"nixpkgs":["nixpkgs"]}},"locked":{{"type":"path"}}}}{more}
            }},"root":"root","version":7}}"#
        );
        Lock::parse(&text).unwrap()
    }

    #[test]
    fn only_changed_inputs_are_listed_by_revision_and_date() {
        let (old, new) = (lock("aaaaaaaaaa", ""), lock("bbbbbbbbbb", ""));
        let moves: Vec<_> = old.moves(&new).iter().map(ToString::to_string).collect();
        assert_eq!(moves, ["nixpkgs: 2023-11-14 aaaaaaa → 2023-11-14 bbbbbbb"]);
        assert_eq!(old.moves(&old), []);
        let all: Vec<_> = Lock::empty()
            .moves(&old)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(all[1], "home-manager/systems: new, abcdefg");
        assert_eq!(old.moves(&Lock::empty()).len(), 4);
    }

    #[test]
    fn an_input_is_found_by_its_path() {
        let lock = lock("a", "");
        for path in ["nixpkgs", "alias", "home-manager/systems", "hw/nixpkgs"] {
            assert!(lock.has(path), "{path}");
        }
        for path in ["", "systems", "nixpkgs/systems", "alias/x", "hw/"] {
            assert!(!lock.has(path), "{path}");
        }
        let names: Vec<_> = lock.names().collect();
        assert_eq!(names, ["alias", "home-manager", "hw", "nixpkgs"]);
    }
}
