//! What of a repository the machines need, as patterns for `include`: everything that Nix reads, of other machines and
//! of secrets only what can't be done without.

use std::collections::{BTreeMap, BTreeSet};
use std::iter;

use bento_protocol::HostName;
use toml_edit::Value;

use super::machines::{FOLDERS, Machine};
use crate::check::named_paths;

/// Names of what nobody publishes unless it is encrypted.
const PRIVATE: [&str; 6] = [
    "secret",
    "secrets",
    "private",
    "credentials",
    "passwords",
    "vault",
];
/// What files hold that only their owner's key opens, or that are a public key.
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
/// How names of such files end.
const ENDS: [&str; 4] = [".age", ".gpg", ".asc", ".pub"];

/// Of more files of one name below a folder not each is named.
const NAMESAKES: usize = 3;

/// A file of the repository.
#[derive(Debug)]
pub(super) struct RepositoryFile {
    /// Relative to its top.
    path: String,
    /// Of a Nix file, what it says.
    nix: Option<String>,
    /// Whether everybody may see it: it is encrypted, or a public key.
    is_harmless: bool,
}

impl RepositoryFile {
    /// From the file's path and its beginning.
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

/// A file among secrets that isn't encrypted, and that machines get all the same.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plain {
    pub(super) path: String,
    /// The Nix file that names it.
    pub(super) named_by: String,
}

/// What the machines get.
#[derive(Debug, Default)]
pub(super) struct Allowed {
    /// Of every machine that `{name}` fits.
    pub(super) include: Vec<String>,
    /// Of machines whose files are called otherwise than they are in the fleet.
    pub(super) own: BTreeMap<HostName, Vec<String>>,
    /// What is left out, as paths for people.
    pub(super) left_out: Vec<String>,
    pub(super) plain: Vec<Plain>,
}

/// A folder, with what lies in it by name; a file where it is one.
#[derive(Debug, Default)]
struct Node<'e> {
    below: BTreeMap<&'e str, Node<'e>>,
    file: Option<&'e RepositoryFile>,
}

impl Allowed {
    /// Finds out what of these files the machines need. Of what is refused, given by its paths, nobody gets anything.
    pub(super) fn of(files: &[RepositoryFile], refused: &[&str], machines: &[Machine]) -> Self {
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
        // Behind all others, because the last pattern that fits counts.
        for include in iter::once(&mut allowed.include).chain(allowed.own.values_mut()) {
            include.extend(refused.iter().cloned());
        }
        allowed
    }
}

/// The way through the folders.
struct Search<'e> {
    files: &'e [RepositoryFile],
    /// What Nix files name, with the first that does.
    named: BTreeMap<String, &'e str>,
    machines: &'e [Machine],
    allowed: Allowed,
    /// Patterns of machines whose files have another name than they have.
    others: BTreeMap<HostName, Vec<String>>,
}

impl Search<'_> {
    /// Goes through a folder; `private` is the folder of secrets in which it lies.
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

    /// Whether what lies in a folder is named after machines: where they usually are, or of at least half of them.
    fn are_machines(&self, node: &Node<'_>, path: &str) -> bool {
        let owners = node.below.keys().filter_map(|name| self.owner(name));
        let owners: BTreeSet<HostName> = owners.map(|machine| machine.name).collect();
        let half = self.machines.len().div_ceil(2).max(2);
        owners.len() >= half || (FOLDERS.contains(&path) && !owners.is_empty())
    }

    /// The machine that a name, without what follows its first dot, is of.
    fn owner(&self, name: &str) -> Option<Machine> {
        let is_of = |called: &str| {
            let rest = name.strip_prefix(called);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let mut machines = self.machines.iter();
        let owner =
            machines.find(|machine| is_of(&machine.attribute) || is_of(machine.name.as_str()));
        owner.cloned()
    }

    fn add_of_machine(&mut self, machine: &Machine, path: &str, name: &str, child: &Node<'_>) {
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

    /// A file among secrets: what is encrypted goes to everybody, as it does with git; of the rest only what Nix files
    /// name, without which nothing evaluates.
    fn secret(&mut self, file: &RepositoryFile, private: Option<&str>) {
        let named_by = self.named_by(&file.path);
        // Below the top it is a module, which Nix may find by listing its folder.
        let is_module = file.nix.is_some() && file.path.matches('/').count() > 1;
        if !file.is_harmless && !is_module && named_by.is_none() {
            self.allowed.left_out.push(file.path.clone());
            return;
        }
        // One pattern for many files: those of one kind of a folder, or of one name below it.
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

    /// The Nix file that names a file, or the folder whose default.nix it is.
    fn named_by(&self, path: &str) -> Option<String> {
        let folder = path.strip_suffix("/default.nix");
        let named = self.named.get(path).or_else(|| self.named.get(folder?));
        named.map(|by| (*by).to_owned())
    }

    /// Whether Nix reads something at the top: it is a Nix file, holds one, or is named in one.
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

    /// Whether a folder holds nothing of single machines and no secrets.
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

/// What Nix files name by relative paths, each with the first file that does.
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

/// Whether a name says that nobody should see what is in it. A Nix module of that name is only about secrets.
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

/// A text as TOML has it.
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
        let machines: Vec<Machine> = machines
            .iter()
            .map(|(name, attribute)| Machine {
                name: name.parse().unwrap(),
                attribute: (*attribute).to_owned(),
            })
            .collect();
        Allowed::of(&files, refused, &machines)
    }

    // Issue 10, line 6.
    #[test]
    fn a_machine_gets_what_nix_reads_and_its_own_of_what_is_named_after_machines() {
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
            // Of one machine in three it isn't: it may as well be about desktops.
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
    fn of_secrets_machines_get_what_is_encrypted_or_cant_be_done_without() {
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
    fn a_machine_whose_files_have_another_name_than_it_has_a_list_of_its_own() {
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
    fn what_is_refused_is_named_last_and_only_where_something_around_it_is_included() {
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
