//! The `include` patterns for the machines of a repository: all files that Nix reads, but files of other machines and
//! secrets only if they are needed.

use std::collections::{BTreeMap, BTreeSet};
use std::iter;

use bento_protocol::HostName;
use toml_edit::Value;

use super::machines::{FOLDERS, FlakeMachine};
use crate::check::named_paths;

/// Names of files and folders that are published only if they are encrypted.
const PRIVATE: [&str; 6] = [
    "secret",
    "secrets",
    "private",
    "credentials",
    "passwords",
    "vault",
];
/// Marks in encrypted files and public keys.
const HARMLESS: [&str; 12] = [
    "ssh-ed25519 ",
    "ssh-rsa ",
    "ecdsa-sha2-",
    "age-encryption.org/v1",
    "-----BEGIN AGE ENCRYPTED FILE-----",
    "-----BEGIN PGP MESSAGE-----",
    "\0GITCRYPT",
    "$ANSIBLE_VAULT",
    "\"sops\":",
    "\nsops:",
    "sops_version=",
    "sops_mac=",
];
/// Extensions of such files.
const ENDS: [&str; 4] = [".age", ".gpg", ".asc", ".pub"];

/// More files with one name below a folder share a pattern.
const NAMESAKES: usize = 3;

/// A file of the repository.
#[derive(Debug)]
pub(super) struct RepositoryFile {
    /// The path from its top.
    path: String,
    /// The text, for a Nix file.
    nix: Option<String>,
    /// Whether it is encrypted or a public key.
    is_harmless: bool,
}

impl RepositoryFile {
    /// Creates it from a path and the beginning of the file.
    pub(super) fn of(path: &str, head: &[u8]) -> Self {
        let text = String::from_utf8_lossy(head);
        let is_marked = || HARMLESS.iter().any(|mark| text.contains(mark));
        RepositoryFile {
            path: path.to_owned(),
            nix: path.ends_with(".nix").then(|| text.to_string()),
            is_harmless: ENDS.iter().any(|end| path.ends_with(end)) || is_marked(),
        }
    }
}

/// An unencrypted file among secrets that machines get.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plain {
    pub(super) path: String,
    /// The Nix file that uses it.
    pub(super) named_by: String,
}

/// The files for the machines.
#[derive(Debug, Default)]
pub(super) struct Allowed {
    /// The patterns for all machines, with `{name}`.
    pub(super) include: Vec<String>,
    /// The patterns for machines whose files don't have their name in the fleet.
    pub(super) own: BTreeMap<HostName, Vec<String>>,
    /// The paths that aren't published.
    pub(super) left_out: Vec<String>,
    pub(super) plain: Vec<Plain>,
}

/// A folder with its entries, or a file.
#[derive(Debug, Default)]
struct Node<'e> {
    below: BTreeMap<&'e str, Node<'e>>,
    file: Option<&'e RepositoryFile>,
}

impl Allowed {
    /// Finds the files for the machines. Refused paths are excluded for all.
    pub(super) fn of(
        files: &[RepositoryFile],
        refused: &[&str],
        machines: &[FlakeMachine],
    ) -> Self {
        let mut root = Node::default();
        for file in files {
            let mut node = &mut root;
            for part in file.path.split('/') {
                node = node.below.entry(part).or_default();
            }
            node.file = Some(file);
        }
        let mut search = Search {
            files,
            named: named(files),
            machines,
            allowed: Allowed::default(),
            others: BTreeMap::new(),
        };
        search.folder(&root, "", None);
        let mut allowed = search.finish();
        let is_left_out = |path: &str| {
            let top = path.split('/').next().unwrap_or_default();
            let mut folders = allowed.left_out.iter().filter(|out| out.ends_with('/'));
            !root.below.contains_key(top) || folders.any(|folder| path.starts_with(folder.as_str()))
        };
        let refused = refused.iter().filter(|path| !is_left_out(path));
        let refused: Vec<_> = refused.map(|path| format!("!{}", pattern(path))).collect();
        // At the end, because the last matching pattern counts.
        for include in iter::once(&mut allowed.include).chain(allowed.own.values_mut()) {
            include.extend(refused.iter().cloned());
        }
        allowed
    }
}

/// The walk through the folders.
struct Search<'e> {
    files: &'e [RepositoryFile],
    /// The paths in Nix files, each with the first file that names it.
    named: BTreeMap<String, &'e str>,
    machines: &'e [FlakeMachine],
    allowed: Allowed,
    /// The patterns for machines whose files don't have their name in the fleet.
    others: BTreeMap<HostName, Vec<String>>,
}

impl Search<'_> {
    /// Walks a folder; `private` is the folder of secrets around it, if any.
    fn folder(&mut self, node: &Node<'_>, path: &str, private: Option<&str>) {
        let are_machines = self.are_machines(node, path);
        for (name, child) in &node.below {
            let path = match path {
                "" => (*name).to_owned(),
                above => format!("{above}/{name}"),
            };
            if are_machines && let Some(machine) = self.owner(name) {
                self.add_of_machine(&machine, &path, name, child);
            } else if private.is_some() || is_secret(name, child) {
                match child.file {
                    Some(file) => self.secret(file, private),
                    None => self.folder(child, &path, private.or(Some(&path))),
                }
            } else if !path.contains('/') && !self.is_needed(name, child) {
                if !name.starts_with('.') {
                    self.allowed.left_out.push(shown(&path, child));
                }
            } else if child.file.is_some() {
                self.allowed.include.push(pattern(&path));
            } else if self.is_plain(child, &path) {
                self.allowed.include.push(format!("{}/", pattern(&path)));
            } else {
                self.folder(child, &path, None);
            }
        }
    }

    /// Whether a folder has entries named after machines: it is a usual place for them, or has at least half of them.
    fn are_machines(&self, node: &Node<'_>, path: &str) -> bool {
        let owners = node.below.keys().filter_map(|name| self.owner(name));
        let owners: BTreeSet<HostName> = owners.map(|machine| machine.name).collect();
        let half = self.machines.len().div_ceil(2).max(2);
        owners.len() >= half || (FOLDERS.contains(&path) && !owners.is_empty())
    }

    /// The machine of a file name, by the part before the first dot.
    fn owner(&self, name: &str) -> Option<FlakeMachine> {
        let is_of = |called: &str| {
            let rest = name.strip_prefix(called);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let mut machines = self.machines.iter();
        let owner =
            machines.find(|machine| is_of(&machine.attribute) || is_of(machine.name.as_str()));
        owner.cloned()
    }

    fn add_of_machine(&mut self, machine: &FlakeMachine, path: &str, name: &str, child: &Node<'_>) {
        let above = &path[..path.len() - name.len()];
        let end = if child.file.is_some() { "" } else { "/" };
        let called = machine.name.as_str();
        match name.strip_prefix(called) {
            Some(rest) if rest.is_empty() || rest.starts_with('.') => {
                let pattern = format!("{}{{name}}{}{end}", pattern(above), escaped(rest));
                if !self.allowed.include.contains(&pattern) {
                    self.allowed.include.push(pattern);
                }
            }
            _ => {
                let own = self.others.entry(machine.name.clone()).or_default();
                own.push(format!("{}{end}", pattern(path)));
            }
        }
    }

    /// Adds a file among secrets: encrypted files for all machines, as with git; others only if a Nix file names them,
    /// because the evaluation needs them.
    fn secret(&mut self, file: &RepositoryFile, private: Option<&str>) {
        let named_by = self.named_by(&file.path);
        // Below the top it is a module, and Nix may find it by listing the folder.
        let is_module = file.nix.is_some() && file.path.matches('/').count() > 1;
        if !file.is_harmless && !is_module && named_by.is_none() {
            self.allowed.left_out.push(file.path.clone());
            return;
        }
        // One pattern for files with the same extension in a folder, or with the same name below it.
        let end = ENDS.iter().find(|end| file.path.ends_with(*end));
        let (above, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
        let namesakes = private.filter(|private| {
            let below = |file: &&RepositoryFile| {
                let rest = file.path.strip_prefix(private);
                rest.is_some_and(|rest| rest.ends_with(&format!("/{name}")))
            };
            self.files.iter().filter(below).count() > NAMESAKES
        });
        let pattern = if above.is_empty() || !file.is_harmless {
            pattern(&file.path)
        } else if let Some(end) = end {
            format!("{}/*{end}", pattern(above))
        } else if let Some(private) = namesakes {
            format!("{}/**{}", pattern(private), pattern(name))
        } else {
            pattern(&file.path)
        };
        if !self.allowed.include.contains(&pattern) {
            self.allowed.include.push(pattern);
        }
        if let Some(named_by) = named_by.filter(|_| !file.is_harmless && !is_module) {
            let path = file.path.clone();
            self.allowed.plain.push(Plain { path, named_by });
        }
    }

    /// The Nix file that names a file, or names the folder of a default.nix.
    fn named_by(&self, path: &str) -> Option<String> {
        let folder = path.strip_suffix("/default.nix");
        let named = self.named.get(path).or_else(|| self.named.get(folder?));
        named.map(|by| (*by).to_owned())
    }

    /// Whether Nix reads an entry at the top: it is a Nix file, contains one, or is named in one.
    fn is_needed(&self, name: &str, node: &Node<'_>) -> bool {
        let is_hidden = name.starts_with('.');
        if name == "flake.lock" || (!is_hidden && holds_nix(name, node)) {
            return true;
        }
        let mention = format!("/{name}");
        let mentions = |text: &String| {
            text.match_indices(&mention).any(|(at, _)| {
                let behind = text[at + mention.len()..].chars().next();
                !behind.is_some_and(|char| char.is_alphanumeric() || "-_.".contains(char))
            })
        };
        let is_text = name.ends_with(".md") || name.starts_with("LICENSE");
        !is_text
            && self
                .files
                .iter()
                .any(|file| file.nix.as_ref().is_some_and(mentions))
    }

    /// Whether a folder has no files of single machines and no secrets.
    fn is_plain(&self, node: &Node<'_>, path: &str) -> bool {
        !self.are_machines(node, path)
            && node.below.iter().all(|(name, child)| {
                let path = format!("{path}/{name}");
                !is_secret(name, child) && (child.file.is_some() || self.is_plain(child, &path))
            })
    }

    fn finish(mut self) -> Allowed {
        let shared = |pattern: &&String| !pattern.contains("{name}");
        for (name, own) in self.others {
            let shared = self.allowed.include.iter().filter(shared).cloned();
            let mut all: Vec<String> = shared.chain(own).collect();
            all.sort();
            self.allowed.own.insert(name, all);
        }
        self.allowed
    }
}

/// The relative paths in Nix files, each with the first file that names it.
fn named(files: &[RepositoryFile]) -> BTreeMap<String, &str> {
    let mut named = BTreeMap::new();
    for file in files {
        let (above, _) = file.path.rsplit_once('/').unwrap_or_default();
        let paths = file.nix.iter().flat_map(|text| named_paths(text));
        for path in paths.filter_map(|path| resolved(above, &path)) {
            named.entry(path).or_insert(file.path.as_str());
        }
    }
    named
}

/// Whether the name of an entry means secrets. A Nix module with such a name is only about secrets.
fn is_secret(name: &str, node: &Node<'_>) -> bool {
    let stem = name.trim_start_matches('.').split('.').next();
    let stem = stem.unwrap_or_default().to_lowercase();
    PRIVATE.contains(&stem.as_str()) && !is_only_nix(name, node)
}

fn is_only_nix(name: &str, node: &Node<'_>) -> bool {
    match node.file {
        Some(_) => name.ends_with(".nix"),
        None => node
            .below
            .iter()
            .all(|(name, child)| is_only_nix(name, child)),
    }
}

fn holds_nix(name: &str, node: &Node<'_>) -> bool {
    match node.file {
        Some(_) => name.ends_with(".nix"),
        None => node
            .below
            .iter()
            .any(|(name, child)| holds_nix(name, child)),
    }
}

fn shown(path: &str, node: &Node<'_>) -> String {
    let end = if node.file.is_some() { "" } else { "/" };
    format!("{path}{end}")
}

/// A path in a folder, without `.` and `..`; none if it leads out of the repository.
fn resolved(folder: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => _ = parts.pop()?,
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The gitignore pattern of just this path.
pub(super) fn pattern(path: &str) -> String {
    format!("/{}", escaped(path))
}

fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for char in text.chars() {
        if "\\*?[]{}!# ".contains(char) {
            escaped.push('\\');
        }
        escaped.push(char);
    }
    escaped
}

/// The text as a TOML string.
pub(super) fn quoted(text: impl Into<String>) -> String {
    Value::from(text.into()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NIX: &[u8] = b"{ }";

    fn allowed(files: &[(&str, &[u8])], machines: &[(&str, &str)]) -> Allowed {
        allowed_but(&[], files, machines)
    }

    fn allowed_but(
        refused: &[&str],
        files: &[(&str, &[u8])],
        machines: &[(&str, &str)],
    ) -> Allowed {
        let files: Vec<RepositoryFile> = files
            .iter()
            .map(|(path, head)| RepositoryFile::of(path, head))
            .collect();
        let machines: Vec<FlakeMachine> = machines
            .iter()
            .map(|(name, attribute)| FlakeMachine {
                name: name.parse().unwrap(),
                attribute: (*attribute).to_owned(),
            })
            .collect();
        Allowed::of(&files, refused, &machines)
    }

    // Issue 10, line 6.
    #[test]
    fn a_machine_gets_the_files_that_nix_reads_and_its_own_files() {
        let flake = b"{ a = import ./inventory.json; b = \"${self}/assets/logo.png\"; }";
        let found = allowed(
            &[
                (".github/workflows/ci.yml", b""),
                ("LICENSE", b""),
                ("assets/logo.png", b""),
                ("docs/a.md", b""),
                ("flake.lock", b""),
                ("flake.nix", flake),
                ("home/desktop.nix", NIX),
                ("home/shell.nix", NIX),
                ("hosts/common/a.nix", NIX),
                ("hosts/desktop/a.nix", NIX),
                ("hosts/laptop/a.nix", NIX),
                ("hosts/server.nix", NIX),
                ("inventory.json", b""),
                ("modules/desktop.nix", NIX),
                ("modules/users/desktop.nix", NIX),
                ("modules/users/laptop.nix", NIX),
                ("modules/users/x{y}.nix", NIX),
            ],
            &[
                ("desktop", "desktop"),
                ("laptop", "laptop"),
                ("server", "server"),
            ],
        );
        let include = [
            "/assets/",
            "/flake.lock",
            "/flake.nix",
            "/home/",
            "/hosts/common/",
            "/hosts/{name}/",
            "/hosts/{name}.nix",
            "/inventory.json",
            // Not {name}: with one machine of three, it may be about desktops.
            "/modules/desktop.nix",
            "/modules/users/{name}.nix",
            "/modules/users/x\\{y\\}.nix",
        ];
        assert_eq!(found.include, include);
        assert_eq!(found.left_out, ["LICENSE", "docs/"]);
        assert!(found.own.is_empty() && found.plain.is_empty());
    }

    // Issue 10, line 6.
    #[test]
    fn secrets_are_published_if_encrypted_or_needed() {
        let found = allowed(
            &[
                ("flake.nix", b"{ }"),
                (
                    "hosts/a/default.nix",
                    b"{ x = ../../secrets/wifi.json; y = ../../secrets; }",
                ),
                ("modules/secrets/default.nix", NIX),
                ("secrets.yaml", b"a: x\nsops:\n  age: []\n"),
                ("secrets/a.age", b""),
                ("secrets/b.age", b""),
                ("secrets/default.nix", NIX),
                ("secrets/deploy.key", b"-----BEGIN OPENSSH PRIVATE KEY-----"),
                ("secrets/secrets.nix", NIX),
                ("secrets/wifi.json", b"{ }"),
            ],
            &[("a", "a")],
        );
        let include = [
            "/flake.nix",
            "/hosts/{name}/",
            "/modules/",
            "/secrets/*.age",
            "/secrets/default.nix",
            "/secrets/wifi.json",
            "/secrets.yaml",
        ];
        assert_eq!(found.include, include);
        assert_eq!(
            found.left_out,
            ["secrets/deploy.key", "secrets/secrets.nix"]
        );
        let plain: Vec<_> = found
            .plain
            .iter()
            .map(|plain| plain.path.as_str())
            .collect();
        assert_eq!(plain, ["secrets/default.nix", "secrets/wifi.json"]);
    }

    // Issue 10, line 6.
    #[test]
    fn a_machine_with_other_file_names_has_its_own_list() {
        let found = allowed(
            &[
                ("flake.nix", NIX),
                ("hosts/CORE-PW/a.nix", NIX),
                ("hosts/moon/a.nix", NIX),
            ],
            &[("core-pw", "CORE-PW"), ("moon", "moon")],
        );
        assert_eq!(found.include, ["/flake.nix", "/hosts/{name}/"]);
        let own = &found.own[&"core-pw".parse().unwrap()];
        assert_eq!(*own, ["/flake.nix", "/hosts/CORE-PW/"]);
        assert_eq!(found.own.len(), 1);
    }

    // Issue 10, line 6.
    #[test]
    fn refused_paths_are_excluded_last_and_only_inside_included_ones() {
        let found = allowed_but(
            &["dots/x", "home/.vimrc", "secrets/old.age", "top"],
            &[
                ("dots/bashrc", b""),
                ("flake.nix", NIX),
                ("home/shell.nix", NIX),
                ("hosts/CORE-PW/a.nix", NIX),
                ("hosts/moon/a.nix", NIX),
                ("secrets/a.age", b""),
            ],
            &[("core-pw", "CORE-PW"), ("moon", "moon")],
        );
        let end = ["!/home/.vimrc", "!/secrets/old.age"];
        let own = &found.own[&"core-pw".parse().unwrap()];
        for include in [&found.include, own] {
            let (first, last) = include.split_at(include.len() - end.len());
            assert_eq!(last, end);
            assert!(first.iter().all(|one| !one.starts_with('!')), "{include:?}");
        }
        assert_eq!(found.left_out, ["dots/"]);
    }
}
