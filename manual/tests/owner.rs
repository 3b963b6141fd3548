//! The placeholder for the owner of bento: the same in all documents, and explained in each.

#![expect(
    clippy::unwrap_used,
    reason = "a test that can't get its value should stop there"
)]

use std::fs;
use std::path::{Path, PathBuf};

const PLACEHOLDER: &str = "OWNER";
/// The owner of bento 2022.
const BEFORE: &str = "rapenne-s";
/// The text before the account.
const HOSTS: [&str; 2] = ["github:", "github.com/"];

/// The accounts from which a text has bento.
fn owners(text: &str) -> Vec<&str> {
    let after = HOSTS.iter().flat_map(|host| text.split(host).skip(1));
    after
        .filter_map(|rest| {
            let (owner, rest) = rest.split_once('/')?;
            let repository = rest.split(['/', '"', '`', ')', '#', ' ', '\n']).next()?;
            (repository == "bento").then_some(owner)
        })
        .collect()
}

fn files(path: &Path, found: &mut Vec<PathBuf>) {
    if !path.is_dir() {
        return found.push(path.to_owned());
    }
    for entry in fs::read_dir(path).unwrap() {
        files(&entry.unwrap().path(), found);
    }
}

// Issue 10, line 44.
#[test]
fn documents_name_the_owner_by_one_explained_placeholder() {
    let mut paths = Vec::new();
    for place in [
        "README.md",
        "docs",
        "nixos",
        "flake.nix",
        "appliance/src/cli/init",
    ] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        files(&root.join(place), &mut paths);
    }
    let mut documents = 0;
    for path in paths {
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        let mut owners = owners(&text);
        owners.retain(|owner| *owner != BEFORE);
        assert!(
            owners.iter().all(|owner| *owner == PLACEHOLDER),
            "{}: {owners:?}",
            path.display()
        );
        if !owners.is_empty() && path.extension().is_some_and(|end| end == "md") {
            let rest = text.replace("OWNER/bento", "");
            // FOWNER is a capability.
            let mut words = rest.split(|c: char| !c.is_alphanumeric());
            let is_explained = words.any(|word| word == PLACEHOLDER);
            assert!(is_explained, "{} explains no {PLACEHOLDER}", path.display());
            documents += 1;
        }
    }
    assert!(documents >= 3, "only {documents} documents name it");
}
